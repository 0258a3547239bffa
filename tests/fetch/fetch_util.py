# SPDX-License-Identifier: Apache-2.0
"""A model hub on this machine, with all the ways in which one can misbehave, and wf_fetch run against it."""

import hashlib
import http.server
import json
import os
import pathlib
import random
import subprocess
import threading
import time

BIN = pathlib.Path(os.environ["WF_BIN"])
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHARD = random.Random(1).randbytes(3_000_000)
FILES = {
    "config.json": b'{"model_type": "bitnet"}',
    "tokenizer.json": b"{}",
    "chat_template.jinja": b"{{ messages }}",
    "model.safetensors": SHARD,
    "README.md": b"not wanted",
    "training_args.bin": b"not wanted",
    "pytorch_model.bin": b"not wanted: there are safetensors",
    "onnx/model.safetensors": b"not wanted: a folder of something else",
}
WANTED = {"config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors"}


class Hub:
    """A model hub with one model, and all the ways in which one can misbehave."""

    def __init__(self):
        self.files = dict(FILES)
        self.listing = None  # instead of the true one
        self.cut_after = []  # bytes after which the next downloads of weights break off
        self.slow = False  # weights never come to an end
        self.ranges = True
        self.token = None  # what a download must bring
        self.redirect = None  # where weights really are
        self.content = {}  # other bytes than the listing promises
        self.status = {}  # path: HTTP status
        self.requests = []  # (method, path, range, authorization)
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.do_GET()

            def do_GET(self):
                hub.answer(self)

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=[0.02], daemon=True).start()

    def list(self):
        siblings = []
        for name, data in self.files.items():
            s = {"rfilename": name, "size": len(data), "blobId": hashlib.sha1(data).hexdigest()}
            if len(data) > 1000:
                s["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
            siblings.append(s)
        return {"id": "org/name", "sha": COMMIT, "siblings": siblings}

    def answer(self, h):
        path = h.path
        self.requests.append((h.command, path, h.headers.get("Range"), h.headers.get("Authorization")))
        name = path.rsplit("/", 1)[1]
        body = None
        if path.startswith("/api/models/org/name/revision/"):
            body = json.dumps(self.list() if self.listing is None else self.listing).encode()
        elif path.startswith((f"/org/name/resolve/{COMMIT}/", "/plain/folder/")):
            body = self.content.get(name, self.files.get(name))
        code = self.status.get(path, 200 if body is not None else 404)
        if code == 200 and self.token is not None and h.headers.get("Authorization") != f"Bearer {self.token}":
            code = 401
        if code != 200:
            h.send_error(code)
            return
        weights = name == "model.safetensors"
        if self.redirect is not None and weights:
            h.send_response(302)
            h.send_header("Location", self.redirect + path)
            h.send_header("Content-Length", "0")
            h.end_headers()
            return
        start = 0
        if self.ranges and "Range" in h.headers:
            start = int(h.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                h.send_error(416)
                return
            h.send_response(206)
            h.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            h.send_response(200)
        h.send_header("Content-Length", str(len(body) - start))
        h.send_header("ETag", hashlib.md5(body).hexdigest())
        h.end_headers()
        if h.command == "HEAD":
            return
        end = len(body)
        if weights and self.cut_after:
            end = start + self.cut_after.pop(0)
        h.wfile.write(body[start : end if not self.slow else start + 1_000_000])
        h.wfile.flush()
        while weights and self.slow:
            time.sleep(0.05)


def environment(tmp_path, hub=None, **more):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "http_", "HTTP_", "XDG_"))}
    env |= {"WF_CACHE": str(tmp_path / "cache"), "NO_PROXY": "*"}
    if hub is not None:
        env["HF_ENDPOINT"] = hub.url
    return env | more


def fetch(tmp_path, hub, *args, **more):
    args = args or ("hf://org/name",)
    return subprocess.run(
        [BIN / "wf_fetch", *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment(tmp_path, hub, **more),
    )


def fetched(r):
    assert r.returncode == 0, r.stderr
    return pathlib.Path(r.stdout.strip())


def downloads(hub):
    return [path.rsplit("/", 1)[1] for method, path, *_ in hub.requests if method == "GET" and "/api/" not in path]


def parts(tmp_path):
    return sorted(p.name for p in (tmp_path / "cache").rglob("*.part"))


def readable(paths):
    for p in paths:
        try:
            p.read_bytes()
            yield p
        except OSError:
            pass


def wait_for(condition):
    for _ in range(500):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("did not happen in 10 s")


def weights_arrived(tmp_path):
    return sum(p.stat().st_size for p in (tmp_path / "cache").rglob("model.safetensors.part"))


def children(pid):
    return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
