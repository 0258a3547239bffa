# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a hub, hf://org/name: what arrives, what is refused and with which message, what an interruption
leaves. Nothing leaves the machine."""

import hashlib
import json
import os
import pathlib
import signal
import subprocess
import time

import pytest
from fetch_util import (
    BIN,
    COMMIT,
    FILES,
    SHARD,
    WANTED,
    Hub,
    children,
    downloads,
    environment,
    fetch,
    fetched,
    parts,
    readable,
    wait_for,
    weights_arrived,
)

# --- hf:// --------------------------------------------------------------------------------------------------


def test_the_files_that_conversion_needs_arrive_whole_and_only_once(tmp_path, hub):
    folder = fetched(fetch(tmp_path, hub))
    assert folder == tmp_path / "cache" / "models" / "org--name" / COMMIT
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {n: FILES[n] for n in WANTED}
    assert sorted(downloads(hub)) == sorted(WANTED)
    assert hub.requests[0][1] == "/api/models/org/name/revision/main?blobs=true"
    hub.requests.clear()
    assert fetched(fetch(tmp_path, hub)) == folder
    assert downloads(hub) == []
    fetched(fetch(tmp_path, hub, "hf://org/name@refs/pr/1"))
    assert hub.requests[-1][1].lower() == "/api/models/org/name/revision/refs%2fpr%2f1?blobs=true"


def test_shards_are_those_of_the_index(tmp_path, hub):
    del hub.files["model.safetensors"]
    names = ["a-00001-of-00002.safetensors", "a-00002-of-00002.safetensors"]
    for n in names:
        hub.files[n] = SHARD[:5000]
    hub.files["other.safetensors"] = b"not in the index"
    hub.files["model.safetensors.index.json"] = json.dumps({"weight_map": dict(zip("uvw", names + names))}).encode()
    folder = fetched(fetch(tmp_path, hub))
    assert {p.name for p in folder.glob("*.safetensors")} == set(names)
    assert (folder / "model.safetensors.index.json").exists()
    del hub.files[names[1]]
    r = fetch(tmp_path, hub)
    assert r.returncode == 1 and f"shard '{names[1]}'" in r.stderr
    for evil in ("../../evil.safetensors", "/etc/passwd", "a\\b.safetensors", "", "-o"):
        hub.files["model.safetensors.index.json"] = json.dumps({"weight_map": {"u": evil}}).encode()
        r = fetch(tmp_path, hub)
        assert r.returncode == 1 and "is not a plain file name" in r.stderr


def test_pickles_only_without_safetensors(tmp_path, hub):
    del hub.files["model.safetensors"]
    folder = fetched(fetch(tmp_path, hub))
    assert (folder / "pytorch_model.bin").exists() and not (folder / "training_args.bin").exists()
    del hub.files["pytorch_model.bin"]
    r = fetch(tmp_path, hub)
    assert r.returncode == 1 and "hf://org/name: no weights there" in r.stderr
    hub.files = {"model-i2_s.gguf": b"GGUF"}
    r = fetch(tmp_path, hub)
    assert r.returncode == 1 and "no config.json" in r.stderr and "'model-i2_s.gguf'" in r.stderr


def test_a_cut_connection_is_resumed_where_it_broke(tmp_path, hub):
    hub.cut_after = [1_000_000, 500_000]
    folder = fetched(fetch(tmp_path, hub))
    assert (folder / "model.safetensors").read_bytes() == SHARD
    ranges = [r for _, path, r, _ in hub.requests if path.endswith("model.safetensors")]
    assert ranges == [None, "bytes=1000000-", "bytes=1500000-"]


def test_a_server_without_ranges_starts_over(tmp_path, hub):
    hub.ranges = False
    hub.cut_after = [1_000_000]
    folder = fetched(fetch(tmp_path, hub))
    assert (folder / "model.safetensors").read_bytes() == SHARD


def test_a_connection_that_is_always_cut_is_given_up_and_resumed_by_the_next_call(tmp_path, hub):
    hub.cut_after = [1000] * 4
    r = fetch(tmp_path, hub)
    assert r.returncode == 1 and "model.safetensors: curl failed with code 18" in r.stderr
    assert parts(tmp_path) == ["model.safetensors.part"]
    hub.requests.clear()
    folder = fetched(fetch(tmp_path, hub))
    assert (folder / "model.safetensors").read_bytes() == SHARD and parts(tmp_path) == []
    assert [r for _, path, r, _ in hub.requests if path.endswith("model.safetensors")] == ["bytes=4000-"]


@pytest.mark.parametrize("found", [len(SHARD) - 7, len(SHARD) + 7])
def test_wrong_size(tmp_path, hub, found):
    hub.content["model.safetensors"] = (SHARD + b"1234567")[:found]
    r = fetch(tmp_path, hub)
    assert r.returncode == 1
    url = f"{hub.url}/org/name/resolve/{COMMIT}/model.safetensors"
    assert f"{url}: wrong size: expected {len(SHARD)} bytes, " in r.stderr
    assert f"found {found} bytes" in r.stderr or "more arrived" in r.stderr
    assert not list((tmp_path / "cache").rglob("model.safetensors*"))


def test_wrong_sha256(tmp_path, hub):
    bad = b"x" + SHARD[1:]
    hub.content["model.safetensors"] = bad
    r = fetch(tmp_path, hub)
    assert r.returncode == 1
    assert f"expected {hashlib.sha256(SHARD).hexdigest()}, found {hashlib.sha256(bad).hexdigest()}" in r.stderr
    assert "/model.safetensors: wrong SHA-256" in r.stderr
    assert not list((tmp_path / "cache").rglob("model.safetensors*"))
    del hub.content["model.safetensors"]
    fetched(fetch(tmp_path, hub))


def test_what_is_not_there(tmp_path, hub):
    r = fetch(tmp_path, hub, "hf://org/other")
    assert r.returncode == 1
    assert f"{hub.url}/api/models/org/other/revision/main?blobs=true: HTTP 404: no such model" in r.stderr
    hub.status[f"/org/name/resolve/{COMMIT}/tokenizer.json"] = 404
    r = fetch(tmp_path, hub)
    assert r.returncode == 1 and "/tokenizer.json: HTTP 404" in r.stderr
    hub.status = {f"/org/name/resolve/{COMMIT}/tokenizer.json": 503}
    r = fetch(tmp_path, hub)
    assert r.returncode == 1 and "/tokenizer.json: curl failed with code 22" in r.stderr and "503" in r.stderr
    r = fetch(tmp_path, hub, HF_ENDPOINT="http://127.0.0.1:1")
    assert r.returncode == 1 and "curl failed with code 7" in r.stderr


def test_the_token_is_sent_but_shown_nowhere(tmp_path, hub):
    hub.token = "hf_Secret123"
    r = fetch(tmp_path, hub)
    assert r.returncode == 1 and "HTTP 401: not there, or no access without a token: set HF_TOKEN" in r.stderr
    r = fetch(tmp_path, hub, HF_TOKEN="hf_Wrong456")
    assert r.returncode == 1 and "HTTP 401: not there, or no access with HF_TOKEN" in r.stderr
    assert "hf_Wrong456" not in r.stderr
    # On the way, every process's command line is looked at.
    hub.slow = True
    p = subprocess.Popen([BIN / "wf_fetch", "hf://org/name"], env=environment(tmp_path, hub, HF_TOKEN="hf_Secret123\n"))
    wait_for(lambda: weights_arrived(tmp_path) > 0)
    lines = [c.read_bytes() for c in readable(pathlib.Path("/proc").glob("[0-9]*/cmdline"))]
    assert any(b"curl" in c and b"model.safetensors" in c for c in lines)
    assert not any(b"hf_Secret123" in c for c in lines)
    p.send_signal(signal.SIGTERM)
    assert p.wait(10) == 130
    hub.slow = False
    fetched(fetch(tmp_path, hub, HF_TOKEN="hf_Secret123"))
    assert {a for *_, a in hub.requests} >= {"Bearer hf_Secret123"}
    for text in ("a\nb", 'a"b', "a\\b", "a b"):
        r = fetch(tmp_path, hub, HF_TOKEN=text)
        assert r.returncode == 1 and "HF_TOKEN contains characters" in r.stderr and text not in r.stderr
    r = fetch(tmp_path, hub, HF_TOKEN="hf_Secret123", HF_ENDPOINT="http://example.com")
    assert r.returncode == 1 and "unencrypted" in r.stderr and "hf_Secret123" not in r.stderr


def test_the_token_does_not_follow_a_redirection_to_another_server(tmp_path, hub):
    store = Hub()
    hub.token, hub.redirect = "hf_Secret123", store.url
    folder = fetched(fetch(tmp_path, hub, HF_TOKEN="hf_Secret123"))
    assert (folder / "model.safetensors").read_bytes() == SHARD
    assert [(path.rsplit("/", 1)[1], a) for _, path, _, a in store.requests] == [("model.safetensors", None)]
    store.server.shutdown()


@pytest.mark.parametrize("evil", ["../evil.json", "a/../../evil", "/etc/passwd", "..\\evil", "a/..", "", "x\u0000y"])
def test_a_listing_that_leads_out_of_its_folder_is_refused(tmp_path, hub, evil):
    hub.listing = hub.list()
    hub.listing["siblings"].insert(0, {"rfilename": evil, "size": 3})
    r = fetch(tmp_path, hub)
    assert r.returncode == 1 and "which leads out of its folder" in r.stderr
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "listing, message",
    [
        ([], 'expected JSON with an array "siblings"'),
        ({"sha": COMMIT, "siblings": {}}, 'expected JSON with an array "siblings"'),
        ({"sha": "../../x", "siblings": []}, "\"sha\" is '../../x', no commit"),
        ({"siblings": []}, "\"sha\" is '', no commit"),
        ({"sha": COMMIT, "siblings": ["config.json"]}, "a sibling is not an object"),
        ({"sha": COMMIT, "siblings": []}, "no config.json there"),
        (
            {"sha": COMMIT, "siblings": [{"rfilename": "a.bin", "lfs": {"sha256": "12"}}]},
            "'12' is no SHA-256 of 'a.bin'",
        ),
    ],
)
def test_listings_that_are_none(tmp_path, hub, listing, message):
    hub.listing = listing
    r = fetch(tmp_path, hub)
    assert r.returncode == 1 and message in r.stderr
    assert not (tmp_path / "cache").exists()


def test_a_listing_without_end_is_refused(tmp_path, hub):
    hub.listing = {"sha": COMMIT, "x": "y" * (17 << 20)}
    r = fetch(tmp_path, hub)
    assert r.returncode == 1 and "more than 16777216 bytes" in r.stderr


def test_without_room_nothing_is_begun(tmp_path, hub):
    hub.listing = hub.list()
    for s in hub.listing["siblings"]:
        if s["rfilename"] == "model.safetensors":
            s["size"] = 1 << 60
    r = fetch(tmp_path, hub)
    assert r.returncode == 1 and "not enough room" in r.stderr and downloads(hub) == []


@pytest.mark.parametrize(
    "uri",
    [
        "hf://name",
        "hf://a/b/c",
        "hf:///b",
        "hf://a/",
        "hf://a/b@",
        "hf://../b",
        "hf://a/..",
        "hf://a/b@../c",
        "hf://a/b?c",
    ]
    + ["hf://a/b c", "gs://", "gs://a/*", "gs://a/../b", "https://", "https://user:pw@host/x", "https://host/x?y=z"]
    + ["http://example.com/x"],
)
def test_malformed_addresses(tmp_path, hub, uri):
    r = fetch(tmp_path, hub, uri)
    assert r.returncode == 1 and f"'{uri}': " in r.stderr
    assert hub.requests == []


def test_without_curl(tmp_path, hub):
    (tmp_path / "empty").mkdir()
    r = fetch(tmp_path, hub, PATH=str(tmp_path / "empty"))
    assert r.returncode == 1 and "needs curl, which is not in PATH" in r.stderr


# --- interruption and company -------------------------------------------------------------------------------


def test_ctrl_c_stops_at_once_and_keeps_the_part(tmp_path, hub):
    hub.slow = True
    p = subprocess.Popen(
        [BIN / "wf_fetch", "hf://org/name"], env=environment(tmp_path, hub), stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: weights_arrived(tmp_path) > 900_000)  # curl writes in blocks
    (curl,) = children(p.pid)
    start = time.monotonic()
    p.send_signal(signal.SIGINT)
    assert p.wait(10) == 130 and time.monotonic() - start < 5
    assert "hf://org/name: interrupted; what has arrived is kept" in p.stderr.read()
    assert not pathlib.Path(f"/proc/{curl}").exists()
    assert parts(tmp_path) == ["model.safetensors.part"]
    kept = weights_arrived(tmp_path)
    hub.slow = False
    hub.requests.clear()
    folder = fetched(fetch(tmp_path, hub))
    assert (folder / "model.safetensors").read_bytes() == SHARD
    assert [r for _, path, r, _ in hub.requests if path.endswith("model.safetensors")] == [f"bytes={kept}-"]


def test_a_killed_process_leaves_its_curl_the_lock_and_the_next_one_waits(tmp_path, hub):
    hub.slow = True
    p = subprocess.Popen([BIN / "wf_fetch", "hf://org/name"], env=environment(tmp_path, hub))
    wait_for(lambda: weights_arrived(tmp_path) > 0)
    (curl,) = map(int, children(p.pid))
    p.kill()
    p.wait()
    second = subprocess.Popen(
        [BIN / "wf_fetch", "hf://org/name"], env=environment(tmp_path, hub), stderr=subprocess.PIPE, text=True
    )
    assert "waiting for another process" in second.stderr.readline()
    assert second.poll() is None
    hub.slow = False
    os.kill(curl, signal.SIGKILL)
    assert second.wait(20) == 0
    assert (tmp_path / "cache/models/org--name" / COMMIT / "model.safetensors").read_bytes() == SHARD


def test_two_at_once_download_once(tmp_path, hub):
    both = [
        subprocess.Popen([BIN / "wf_fetch", "hf://org/name"], env=environment(tmp_path, hub), stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    assert [p.wait(30) for p in both] == [0, 0]
    assert sorted(downloads(hub)) == sorted(WANTED)
