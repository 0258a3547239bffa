# SPDX-License-Identifier: Apache-2.0
"""wf-inspect as a program: what it shows of a file and of a folder, why a file does not run, and its tokens."""

import json
import os
import pathlib
import struct
import subprocess

BIN = pathlib.Path(os.environ["WF_BIN"])
BARD = pathlib.Path(os.environ["WF_SOURCE"]) / "models" / "bard"


def run(program, *args, **kwargs):
    return subprocess.run(
        [BIN / program, *map(str, args)], capture_output=True, text=True, timeout=300, check=False, **kwargs
    )


def test_inspect_shows_file_and_folder(tmp_path):
    out = tmp_path / "bard.gguf"
    assert run("wf-convert", BARD, "-o", out).returncode == 0
    r = run("wf-inspect", out, "--json", env={**os.environ, "WF_FORCE_ISA": "scalar"})
    assert r.returncode == 0, r.stderr
    info = json.loads(r.stdout)
    assert info["runs"] and info["architecture"] == "bitnet-b1.58" and info["isa"] == "scalar"
    tensors = {t["name"]: t for t in info["tensors"]}
    assert tensors["blk.0.attn_q.weight"]["kernel"] == "ternary I2_S scalar rank 0"
    assert tensors["token_embd.weight"]["kernel"] == "dense F16 scalar (head); rows looked up"
    # 4 layers, 2 KV heads, K and V of 64 values, 1024 tokens
    assert info["memory"]["kv_per_1024_tokens_f16"] == 4 * 2 * 2 * 64 * 1024 * 2
    assert info["memory"]["kv_per_1024_tokens_f32"] == 4 * 2 * 2 * 64 * 1024 * 4
    assert info["memory"]["kv_per_1024_tokens_i8"] == 4 * 2 * 2 * (64 + 4) * 1024  # and a scale
    assert info["memory"]["weights"] == sum(t["bytes"] for t in info["tensors"])
    assert info["memory"]["head_copy"] == 0 and info["memory"]["no_head_copy"] == "the head is small"
    assert info["metadata"]["tokenizer.ggml.tokens"]["count"] == 2048
    text = run("wf-inspect", out).stdout
    assert "runs: yes" in text and "general.architecture" in text
    assert "no copy is kept to find the next token: the head is small" in text
    folder = json.loads(run("wf-inspect", BARD, "--json").stdout)
    assert folder["converts"] and folder["file_bytes"] == out.stat().st_size
    assert {t["name"] for t in folder["tensors"]} == set(tensors)


def test_inspect_says_why_a_file_does_not_run(tmp_path):
    out = tmp_path / "bard.gguf"
    assert run("wf-convert", BARD, "-o", out).returncode == 0
    data = out.read_bytes()
    for damaged, message in (
        (data[:1000000], "file truncated"),
        (data[:100], "truncated"),
        (b"", "expected"),
        (data.replace(b"bitnet-b1.58", b"zitnet-b1.58"), "architecture 'zitnet-b1.58' is not supported"),
        (data.replace(b"blk.2.ffn_up.weight", b"blk.2.ffn_zp.weight"), "'blk.2.ffn_up.weight' is missing"),
    ):
        out.write_bytes(damaged)
        r = run("wf-inspect", out)
        assert r.returncode == 1 and message in r.stdout + r.stderr
        info = json.loads(run("wf-inspect", out, "--json").stdout)
        assert not info["runs"] and message in info["reason"]
    r = run("wf-inspect", tmp_path / "none.gguf")
    assert r.returncode == 1 and "No such file" in r.stderr
    assert run("wf-inspect").returncode == 2


def test_inspect_refuses_an_unknown_isa(tmp_path):
    out = tmp_path / "bard.gguf"
    assert run("wf-convert", BARD, "-o", out).returncode == 0
    r = run("wf-inspect", out, env={**os.environ, "WF_FORCE_ISA": "sse9"})
    assert r.returncode == 1 and "unknown ISA 'sse9'" in r.stdout + r.stderr


def test_tokenize_gives_ids_and_pieces(tmp_path):
    out = tmp_path / "bard.gguf"
    assert run("wf-convert", BARD, "-o", out).returncode == 0
    text = "To be, or not to be<|eot_id|>"
    plain, special = (json.loads(run("wf-inspect", p, "--json", "--tokenize", text, *flags).stdout)
                      for p, flags in ((out, []), (BARD, ["--special"])))
    assert plain["ids"][0] == special["ids"][0] == 2044  # BOS by rule
    assert "".join(plain["pieces"][1:]) == text and 2046 not in plain["ids"]
    assert special["ids"][-1] == 2046 and special["pieces"][-1] == "<|eot_id|>"
    lines = run("wf-inspect", out, "--tokenize", text).stdout.splitlines()
    assert [int(line.split()[0]) for line in lines] == plain["ids"]


def test_verify_finds_what_differs(tmp_path):
    a, b = tmp_path / "a.gguf", tmp_path / "b.gguf"
    assert run("wf-convert", BARD, "-o", a).returncode == 0
    # Another type, and the folder itself, are the same model.
    assert run("wf-quantize", a, b, "tq2_0").returncode == 0
    for other in (b, BARD):
        r = run("wf-inspect", "--verify", a, other, "--json")
        assert r.returncode == 0, r.stderr
        report = json.loads(r.stdout)
        assert report["same"] and all(t["same"] for t in report["tensors"])
        assert report["logits"]["max_difference"] == 0 and report["logits"]["kl"] == 0
        assert {"token_embd.weight", "blk.3.ffn_down.weight", "output_norm.weight"} <= {
            t["name"] for t in report["tensors"]
        }
    # One ternary value of one tensor, then its scale.
    dump = json.loads(run("wf_gguf_dump", a).stdout)
    up = next(t for t in dump["tensors"] if bytes.fromhex(t["name"]) == b"blk.1.ffn_up.weight")
    data = bytearray(a.read_bytes())
    packed, at, codes = bytes(data), up["offset"], up["bytes"] - 32
    data[at] ^= 0x80 if data[at] >> 6 == 2 else (data[at] >> 6 ^ 2) << 6  # the first code becomes another valid one
    b.write_bytes(data)
    r = run("wf-inspect", "--verify", a, b, "--json")
    assert r.returncode == 1, r.stderr
    report = json.loads(r.stdout)
    different = [t for t in report["tensors"] if not t["same"]]
    assert [(t["name"], t["differing"], t["scale_difference"]) for t in different] == [("blk.1.ffn_up.weight", 1, 0)]
    assert report["logits"]["max_difference"] > 0
    data = bytearray(packed)
    data[at + codes : at + codes + 4] = struct.pack("<f", 1.25 * struct.unpack_from("<f", packed, at + codes)[0])
    b.write_bytes(data)
    text = run("wf-inspect", "--verify", a, b)
    assert text.returncode == 1 and "DIFFERENT: 1 of" in text.stdout and "0.2" in text.stdout
    # The sign of a scale, and the length of a norm, which its direction does not tell.
    data = bytearray(packed)
    struct.pack_into("<f", data, at + codes, -struct.unpack_from("<f", packed, at + codes)[0])
    b.write_bytes(data)
    report = json.loads(run("wf-inspect", "--verify", a, b, "--json").stdout)
    assert [t["name"] for t in report["tensors"] if not t["same"]] == ["blk.1.ffn_up.weight"]
    norm = next(t for t in dump["tensors"] if bytes.fromhex(t["name"]) == b"output_norm.weight")
    data = bytearray(packed)
    values = struct.unpack_from("<256f", packed, norm["offset"])
    struct.pack_into("<256f", data, norm["offset"], *(3 * v for v in values))
    b.write_bytes(data)
    report = json.loads(run("wf-inspect", "--verify", a, b, "--json").stdout)
    assert [(t["name"], round(1 / t["norm_ratio"], 3)) for t in report["tensors"] if not t["same"]] == [
        ("output_norm.weight", 3)
    ]
    # Models of other arithmetic or shape are an error that names what differs, and so is one model alone.
    data = bytearray(packed)
    key = b"bitnet-b1.58.rope.freq_base"
    struct.pack_into("<f", data, packed.index(key) + len(key) + 4, 500000)
    b.write_bytes(data)
    other = run("wf-inspect", "--verify", a, b)
    assert other.returncode == 1 and "RoPE's base is 10000" in other.stderr
    assert run("wf-inspect", "--verify", a).returncode == 2
    assert run("wf-inspect", a, b).returncode == 2

