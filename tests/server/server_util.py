# SPDX-License-Identifier: Apache-2.0
"""Starts wf-server on the built-in model and talks to it with nothing but the standard library."""

import http.client
import json
import os
import pathlib
import re
import subprocess
import threading
import time

BIN = pathlib.Path(os.environ["WF_BIN"])
SOURCE = pathlib.Path(os.environ["WF_SOURCE"])
PATIENCE = 120  # seconds: a bound for things that must happen, not an expectation of speed


def make_model(folder):
    """models/bard as an I2_S file."""
    out = pathlib.Path(folder) / "bard.gguf"
    subprocess.run([BIN / "wf-convert", SOURCE / "models" / "bard", "-o", out, "--outtype", "i2_s"],
                   check=True, capture_output=True, timeout=PATIENCE)
    return out


class Server:
    """A running wf-server; a context manager that stops it."""

    def __init__(self, model, *flags, wait_ready=True, own_decode=False):
        # One thread: the tests' clients need the other cores. The sample model would decode by blocks; most tests are
        # about what every model does.
        decode = () if own_decode or "--decode" in flags else ("--decode", "ar")
        self.process = subprocess.Popen([BIN / "wf-server", "-m", model, "--port", "0", "-t", "1", *decode,
                                         *map(str, flags)],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, text=True)
        self.lines = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.port = int(self.wait_line(r"listening on http://127\.0\.0\.1:(\d+)").group(1))
        if wait_ready:
            self.wait_line(r"model ready")

    def _read(self):
        for line in self.process.stderr:
            with self._changed:
                self.lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self.lines.append(None)
            self._changed.notify_all()

    def wait_line(self, pattern):
        end = time.monotonic() + PATIENCE
        with self._changed:
            while True:
                for line in self.lines:
                    if line is not None and (m := re.search(pattern, line)):
                        return m
                assert None not in self.lines, f"wf-server ended: {self.lines}"
                assert self._changed.wait(end - time.monotonic()), f"no '{pattern}' in {self.lines}"

    def stderr(self):
        self._reader.join(PATIENCE)
        return "".join(line for line in self.lines if line is not None)

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def request(self, method, path, body=None, headers=None, connection=None):
        c = connection or self.connect()
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        c.request(method, path, body, headers or {})
        r = c.getresponse()
        r.data = r.read()
        if connection is None:
            c.close()
        return r

    def get(self, path, **kwargs):
        return self.request("GET", path, **kwargs)

    def post(self, path, body, **kwargs):
        return self.request("POST", path, body, **kwargs)

    def ok(self, path, body):
        """The JSON of a POST that must succeed."""
        r = self.post(path, body)
        assert r.status == 200, (r.status, r.data)
        assert r.headers["content-type"] == "application/json; charset=utf-8"
        return json.loads(r.data)

    def error(self, path, body, **kwargs):
        """(status, error object) of a POST that must fail with a well-formed error."""
        r = self.post(path, body, **kwargs)
        assert r.status >= 400, (r.status, r.data)
        return r.status, read_error(r)

    def stream(self, path, body):
        return Stream(self, path, body)

    def events(self, path, body):
        """All events of a stream, which must end properly."""
        s = self.stream(path, body)
        out = list(s)
        s.close()
        return out

    def stop(self, signal=15):
        if self.process.poll() is None:
            self.process.send_signal(signal)
        return self.process.wait(PATIENCE)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        self.process.stderr.close()


class Stream:
    """Server-sent events of one POST: iterates over their JSON, or the string "[DONE]"."""

    def __init__(self, server, path, body):
        self.connection = server.connect()
        self.connection.request("POST", path, json.dumps(dict(body, stream=True)))
        self.response = self.connection.getresponse()
        if self.response.status == 200:
            assert self.response.headers["content-type"] == "text/event-stream"
            assert self.response.headers["cache-control"] == "no-cache"
            assert self.response.headers["x-accel-buffering"] == "no"
            assert self.response.headers["transfer-encoding"] == "chunked"

    def __iter__(self):
        return self

    def __next__(self):
        while True:
            line = self.response.readline()
            if not line:
                self.connection.close()
                raise StopIteration
            if line.startswith(b":") or line == b"\n":
                continue
            assert line.startswith(b"data: "), line
            assert self.response.readline() == b"\n"
            data = line[6:-1].decode("utf-8")
            return data if data == "[DONE]" else json.loads(data)

    def close(self):
        """Leaves at once, whatever is still under way."""
        self.response.close()
        self.connection.close()


class Reader(threading.Thread):
    """Reads a stream of chat to its end and notes when its first and last text came."""

    def __init__(self, stream):
        super().__init__(daemon=True)
        self.stream, self.events, self.first, self.last = stream, [], None, None
        self.started = threading.Event()
        self.start()

    def run(self):
        for e in self.stream:
            self.events.append(e)
            if self.first is None and e != "[DONE]" and chat_text([e]):
                self.first = time.monotonic()
                self.started.set()
        self.last = time.monotonic()

    def text(self):
        self.join(PATIENCE)
        assert self.events[-1] == "[DONE]", self.events[-1]
        return chat_text(self.events)


def read_error(r):
    assert r.headers["content-type"] == "application/json; charset=utf-8"
    assert r.headers["x-request-id"]
    e = json.loads(r.data)["error"]
    assert isinstance(e["message"], str) and e["message"]
    assert isinstance(e["type"], str)
    assert "code" in e
    return e


def chat(content="What light through yonder window breaks?", **fields):
    return {"messages": [{"role": "user", "content": content}], **fields}


def chat_text(events, index=0):
    return "".join(c["delta"].get("content", "") for e in events if e != "[DONE]" for c in e["choices"]
                   if c["index"] == index)


def completion_text(events, index=0):
    return "".join(c["text"] for e in events if e != "[DONE]" for c in e["choices"] if c["index"] == index)
