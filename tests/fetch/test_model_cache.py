# SPDX-License-Identifier: Apache-2.0
"""The cache of conversions: its keys stand for content and options, each file is made and hashed once, and where it is."""

import os
import pathlib
import subprocess

import pytest
from fetch_util import BIN, FILES, SHARD, WANTED, environment, fetch, fetched


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for n in WANTED:
        (folder / n).write_bytes(FILES[n])
    return folder


def key(tmp_path, folder, options="i2_s"):
    return fetched(fetch(tmp_path, None, "--key", folder, options)).name


def test_the_key_stands_for_content_and_options(tmp_path, checkpoint):
    first = key(tmp_path, checkpoint)
    assert len(first) == 64 + len(".gguf")
    assert key(tmp_path, checkpoint) == first
    assert key(tmp_path, checkpoint, "f16") != first
    copy = tmp_path / "copy"
    copy.mkdir()
    for p in checkpoint.iterdir():
        (copy / p.name).write_bytes(p.read_bytes())
    (copy / "README.md").write_text("changes nothing")
    assert key(tmp_path, copy) == first
    # A changed file counts, though size and modification time are the same as when it was hashed before.
    weights = copy / "model.safetensors"
    before = weights.stat()
    weights.write_bytes(SHARD[::-1])
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert key(tmp_path, copy) != first
    weights.write_bytes(SHARD)
    assert key(tmp_path, copy) == first
    weights.rename(copy / "other.safetensors")
    assert key(tmp_path, copy) != first


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin", "pytorch_model.pt", "pytorch_model.pth"])
def test_every_index_that_is_downloaded_counts(tmp_path, checkpoint, weights):
    first = key(tmp_path, checkpoint)
    (checkpoint / f"{weights}.index.json").write_text("{}")
    assert key(tmp_path, checkpoint) != first
    (checkpoint / f"{weights}.index.json").rename(checkpoint / f"x{weights}.index.json")
    assert key(tmp_path, checkpoint) == first


def test_a_file_is_hashed_only_once(tmp_path, checkpoint):
    first = key(tmp_path, checkpoint)
    memos = sorted((tmp_path / "cache/sha256").iterdir())
    assert len(memos) == len(WANTED)
    # What was remembered is believed; what is damaged is not.
    good = {m: m.read_text() for m in memos}
    for m in memos:
        m.write_text(good[m][:-4] + "0000")
    assert key(tmp_path, checkpoint) != first
    for m in memos:
        m.write_text(good[m][:-4])
    assert key(tmp_path, checkpoint) == first
    assert {m: m.read_text() for m in memos} == good


def test_a_folder_without_a_checkpoint_has_no_key(tmp_path):
    r = fetch(tmp_path, None, "--key", tmp_path, "")
    assert r.returncode == 1 and "no files of a checkpoint in this folder" in r.stderr
    r = fetch(tmp_path, None, "--key", tmp_path / "none", "")
    assert r.returncode == 1 and "No such file" in r.stderr


def test_a_conversion_is_made_once(tmp_path, checkpoint):
    command = [BIN / "wf_fetch", "--convert", checkpoint, "i2_s"]
    both = [
        subprocess.Popen(command, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    out = [p.communicate(timeout=30) for p in both]
    assert [p.returncode for p in both] == [0, 0]
    assert sum("making" in err for _, err in out) == 1
    assert out[0][0] == out[1][0] and pathlib.Path(out[0][0].strip()).read_text() == "made"
    assert pathlib.Path(out[0][0].strip()).name == key(tmp_path, checkpoint)


@pytest.mark.parametrize(
    "variables, folder",
    [
        ({"WF_CACHE": "{}/a"}, "a"),
        ({"XDG_CACHE_HOME": "{}/b"}, "b/wf"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "{}/c"}, "c/.cache/wf"),
        ({"HOME": "{}/d"}, "d/.cache/wf"),
    ],
)
def test_where_the_cache_is(tmp_path, checkpoint, variables, folder):
    env = {k: v for k, v in os.environ.items() if k not in ("WF_CACHE", "XDG_CACHE_HOME", "HOME")}
    env |= {k: v.format(tmp_path) for k, v in variables.items()}
    out = subprocess.run(
        [BIN / "wf_fetch", "--key", checkpoint, ""], capture_output=True, text=True, env=env, check=True
    )
    assert out.stdout.startswith(f"{tmp_path}/{folder}/gguf/")


def test_no_place_for_a_cache(checkpoint):
    env = {k: v for k, v in os.environ.items() if k not in ("WF_CACHE", "XDG_CACHE_HOME", "HOME")}
    r = subprocess.run(
        [BIN / "wf_fetch", "--key", checkpoint, ""], capture_output=True, text=True, env=env, check=False
    )
    assert r.returncode == 1 and "none of WF_CACHE, XDG_CACHE_HOME and HOME is set" in r.stderr
