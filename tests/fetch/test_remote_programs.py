# SPDX-License-Identifier: Apache-2.0
"""The programs on addresses: a checkpoint of a hub is downloaded, converted, and runs as its local folder does."""

import json
import os
import pathlib
import subprocess

from fetch_util import BIN, downloads, environment

BARD = pathlib.Path(os.environ["WF_SOURCE"]) / "models" / "bard"
GREEDY = ["-p", "ROMEO:", "-n", "8", "--temp", "0", "--json"]


def run(env, program, *args):
    return subprocess.run(
        [BIN / program, *map(str, args)], capture_output=True, text=True, timeout=120, check=False, env=env
    )


def ids(r):
    assert r.returncode == 0, r.stderr
    return json.loads(r.stdout)["ids"]


def test_convert_and_run_a_hubs_checkpoint(tmp_path, hub):
    hub.files = {p.name: p.read_bytes() for p in BARD.iterdir()}
    env = environment(tmp_path, hub)
    for name, source in (("there", "hf://org/name"), ("here", BARD)):
        r = run(env, "wf-convert", source, "-o", tmp_path / f"{name}.gguf")
        assert r.returncode == 0, r.stderr
    # The name differs: the commit's folder has none.
    same = run(env, "wf-inspect", "--verify", tmp_path / "there.gguf", tmp_path / "here.gguf", "--json")
    assert same.returncode == 0 and json.loads(same.stdout)["logits"]["max_difference"] == 0
    want = ids(run(env, "wf-run", "-m", BARD, *GREEDY))
    assert ids(run(env, "wf-run", "-m", "hf://org/name", *GREEDY)) == want
    # Downloads and the conversion are kept.
    hub.requests.clear()
    made = list((tmp_path / "cache" / "gguf").glob("*.gguf"))
    assert len(made) == 1
    before = made[0].stat().st_mtime_ns
    assert ids(run(env, "wf-run", "-m", "hf://org/name", *GREEDY)) == want
    assert downloads(hub) == [] and made[0].stat().st_mtime_ns == before


def test_a_vocabulary_needs_no_weights(tmp_path, hub):
    hub.files = {p.name: p.read_bytes() for p in BARD.iterdir()}
    env = environment(tmp_path, hub)
    r = run(env, "wf-convert", "hf://org/name", "--vocab-only", "-o", tmp_path / "vocab.gguf")
    assert r.returncode == 0, r.stderr
    assert set(downloads(hub)) == {p.name for p in BARD.iterdir()} - {"model.safetensors"}
    assert (tmp_path / "vocab.gguf").stat().st_size < (BARD / "model.safetensors").stat().st_size / 10
    hub.requests.clear()
    r = run(env, "wf-convert", "hf://org/name", "--dry-run")
    assert r.returncode == 0 and downloads(hub) == ["model.safetensors"]


def test_a_model_that_is_not_there(tmp_path, hub):
    r = run(environment(tmp_path, hub), "wf-run", "-m", "hf://org/other", *GREEDY)
    assert r.returncode == 1 and "org/other" in r.stderr
