# SPDX-License-Identifier: Apache-2.0
"""Checkpoints in a plain folder of a web server, https://, and in a bucket, gs://, the latter by a fake gcloud."""

import base64
import hashlib
import json
import os
import pathlib
import signal
import stat
import subprocess
import sys
import time

import pytest
from fetch_util import BIN, FILES, SHARD, WANTED, children, environment, fetch, fetched, wait_for

# --- https:// folders ---------------------------------------------------------------------------------------


def test_a_plain_folder(tmp_path, hub):
    uri = f"{hub.url}/plain/folder/"
    folder = fetched(fetch(tmp_path, hub, uri))
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {n: FILES[n] for n in WANTED}
    hub.requests.clear()
    assert fetched(fetch(tmp_path, hub, uri)) == folder
    assert {method for method, *_ in hub.requests} == {"HEAD"}
    hub.files["model.safetensors"] = SHARD[::-1]  # same size, other content: another ETag
    other = fetched(fetch(tmp_path, hub, uri))
    assert other != folder and (other / "model.safetensors").read_bytes() == SHARD[::-1]
    hub.token = "hf_Secret123"  # the hub's token is not for other servers
    r = fetch(tmp_path, hub, uri, HF_TOKEN="hf_Secret123")
    assert r.returncode == 1 and "401" in r.stderr and all(a is None for *_, a in hub.requests)
    hub.token = None
    r = fetch(tmp_path, hub, f"{hub.url}/plain")
    assert r.returncode == 1 and "no config.json there" in r.stderr


def test_a_plain_folder_with_shards_and_a_cut(tmp_path, hub):
    index = {"weight_map": {"a": "model.safetensors", "b": "x.safetensors"}}
    hub.files |= {"model.safetensors.index.json": json.dumps(index).encode(), "x.safetensors": b"x"}
    hub.cut_after = [1_000_000]
    folder = fetched(fetch(tmp_path, hub, f"{hub.url}/plain/folder"))
    assert (folder / "model.safetensors").read_bytes() == SHARD and (folder / "x.safetensors").read_bytes() == b"x"


# --- gs:// --------------------------------------------------------------------------------------------------

GCLOUD = """#!{python}
import base64, hashlib, json, os, pathlib, shutil, sys
root = pathlib.Path(os.environ["FAKE_GCS"])
with open(root.parent / "calls", "a") as f:
    f.write(json.dumps(sys.argv[1:]) + "\\n")
assert sys.argv[1:3] == ["--quiet", "storage"], sys.argv
args = sys.argv[3:]
if args[:2] == ["objects", "list"]:
    assert args[3:] == ["--format=json"] and args[2].endswith("/*")
    folder = root / args[2][5:-2]
    if not folder.is_dir():
        sys.exit("ERROR: (gcloud.storage.objects.list) bucket not found.")
    wrong = os.environ.get("FAKE_WRONG")
    out = []
    for p in sorted(folder.iterdir()):
        data = p.read_bytes() if wrong != p.name else b"other" + p.read_bytes()[5:]
        o = {{"name": "/".join(p.relative_to(root).parts[1:]), "size": len(data), "generation": "17"}}
        if os.environ.get("FAKE_COMPOSITE"):
            o["crc32c_hash"] = json.loads(os.environ["FAKE_COMPOSITE"])[p.name]
        else:
            o["md5_hash"] = base64.b64encode(hashlib.md5(data).digest()).decode()
        out.append(o)
    print(json.dumps(out))
elif args[0] == "cat":
    sys.stdout.buffer.write((root / args[1][5:]).read_bytes())
elif args[0] == "cp":
    if os.environ.get("FAKE_HANG"):
        open(args[2] + "_.gstmp", "wb").close()
        import time; time.sleep(1000)
    shutil.copyfile(root / args[1][5:], args[2])
    if os.environ.get("FAKE_LEAVES") and args[1].endswith(".safetensors"):
        import subprocess
        left = subprocess.Popen(["sleep", "30"], close_fds=False)  # with our pipes and locks
        (root.parent / "left").write_text(str(left.pid))
"""


@pytest.fixture
def bucket(tmp_path):
    folder = tmp_path / "gcs" / "bucket" / "models" / "a"
    folder.mkdir(parents=True)
    for n in WANTED | {"README.md"}:
        (folder / n).write_bytes(FILES[n])
    program = tmp_path / "bin" / "gcloud"
    program.parent.mkdir()
    program.write_text(GCLOUD.format(python=sys.executable))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{program.parent}:{os.environ['PATH']}", "FAKE_GCS": str(tmp_path / "gcs")}


def crc32c(data):
    """Bit by bit, from the polynomial."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return base64.b64encode((crc ^ 0xFFFFFFFF).to_bytes(4, "big")).decode()


def test_a_bucket(tmp_path, bucket):
    folder = fetched(fetch(tmp_path, None, "gs://bucket/models/a/", **bucket))
    assert folder.parent == tmp_path / "cache/models/gs--bucket--models--a"
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {n: FILES[n] for n in WANTED}
    (tmp_path / "calls").unlink()
    assert fetched(fetch(tmp_path, None, "gs://bucket/models/a", **bucket)) == folder
    assert len((tmp_path / "calls").read_text().splitlines()) == 1  # the listing
    r = fetch(tmp_path, None, "gs://bucket/none", **bucket)
    assert r.returncode == 1
    assert "gs://bucket/none: gcloud storage objects failed with code 1: ERROR: (gcloud.storage" in r.stderr


def test_a_bucket_whose_checksum_does_not_fit(tmp_path, bucket):
    r = fetch(tmp_path, None, "gs://bucket/models/a", FAKE_WRONG="model.safetensors", **bucket)
    assert r.returncode == 1 and "gs://bucket/models/a/model.safetensors: wrong MD5" in r.stderr
    assert base64.b64encode(hashlib.md5(SHARD).digest()).decode() in r.stderr
    assert not list((tmp_path / "cache").rglob("model.safetensors*"))


def test_a_composite_object_has_only_a_crc32c(tmp_path, bucket):
    assert crc32c(b"123456789") == base64.b64encode(bytes.fromhex("e3069283")).decode()  # the polynomial's check value
    weights = tmp_path / "gcs/bucket/models/a/model.safetensors"
    weights.write_bytes(SHARD[:10000])
    sums = {n: crc32c(FILES[n]) for n in WANTED | {"README.md"} if n != "model.safetensors"}
    sums["model.safetensors"] = crc32c(SHARD[:10000])
    folder = fetched(fetch(tmp_path, None, "gs://bucket/models/a", FAKE_COMPOSITE=json.dumps(sums), **bucket))
    assert (folder / "model.safetensors").read_bytes() == SHARD[:10000]
    sums["model.safetensors"] = crc32c(b"other")
    r = fetch(tmp_path, None, "gs://bucket/models/a", FAKE_COMPOSITE=json.dumps(sums), **bucket)
    assert r.returncode == 1 and "model.safetensors: wrong CRC32C" in r.stderr


def test_a_bucket_without_gcloud(tmp_path):
    (tmp_path / "empty").mkdir()
    r = fetch(tmp_path, None, "gs://bucket/models/a", PATH=str(tmp_path / "empty"))
    assert r.returncode == 1 and "gs://bucket/models/a: needs gcloud, which is not in PATH" in r.stderr


def test_what_gcloud_leaves_running_does_not_hold_up_the_download(tmp_path, bucket):
    start = time.monotonic()
    folder = fetched(fetch(tmp_path, None, "gs://bucket/models/a", FAKE_LEAVES="1", **bucket))
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {n: FILES[n] for n in WANTED}
    left = pathlib.Path("/proc") / (tmp_path / "left").read_text() / "stat"
    wait_for(lambda: not left.exists() or left.read_text().rpartition(") ")[2].startswith("Z"))
    assert fetched(fetch(tmp_path, None, "gs://bucket/models/a", **bucket)) == folder  # nobody holds the lock
    assert time.monotonic() - start < 20


def test_ctrl_c_ends_gcloud(tmp_path, bucket):
    p = subprocess.Popen([BIN / "wf_fetch", "gs://bucket/models/a"], env=environment(tmp_path, FAKE_HANG="1", **bucket))
    wait_for(lambda: list((tmp_path / "cache").rglob("*_.gstmp")))
    (gcloud,) = children(p.pid)
    p.send_signal(signal.SIGINT)
    assert p.wait(10) == 130
    assert not pathlib.Path(f"/proc/{gcloud}").exists()
