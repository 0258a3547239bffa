# SPDX-License-Identifier: Apache-2.0
"""wf-convert as a program: every value of every tensor against an independent decoding of the
safetensors by NumPy, the file read by PyPI gguf; bad checkpoints with message, exit code and nothing left."""

import json
import os
import pathlib
import resource
import shutil
import signal
import struct
import subprocess
import time

import numpy as np
import pytest

gguf = pytest.importorskip("gguf")

from decoders import TYPES, as_f32, bf16_to_f32, decode_ternary, raw_tensors  # noqa: E402

BIN = pathlib.Path(os.environ["WF_BIN"])
SOURCE = pathlib.Path(os.environ["WF_SOURCE"])
SHARED = pathlib.Path(os.environ.get("WF_SHARED", "/nonexistent"))
BARD = SOURCE / "models" / "bard"
OUTTYPES = ["f32", "f16", "bf16", "i2_s", "tq1_0", "tq2_0", "iq2_bn", "q2_0"]
PROJECTIONS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def run(program, *args, **kwargs):
    return subprocess.run(
        [BIN / program, *map(str, args)], capture_output=True, text=True, timeout=300, check=False, **kwargs
    )


# --- safetensors, read and written without our reader -------------------------------------------------------


def f32_to_bf16(x):
    u = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)


def read_safetensors(folder):
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        data = path.read_bytes()
        (n,) = struct.unpack("<Q", data[:8])
        for name, t in json.loads(data[8 : 8 + n]).items():
            if name == "__metadata__":
                continue
            begin, end = (8 + n + o for o in t["data_offsets"])
            raw = data[begin:end]
            kind = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32, "U8": np.uint8}[t["dtype"]]
            a = np.frombuffer(raw, kind).reshape(t["shape"])
            tensors[name] = bf16_to_f32(a) if t["dtype"] == "BF16" else a
    return tensors


def write_safetensors(path, tensors):
    """tensors: name -> (dtype, array)."""
    header, offset = {}, 0
    for name, (dtype, a) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(a.shape), "data_offsets": [offset, offset + a.nbytes]}
        offset += a.nbytes
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, a in tensors.values():
            f.write(a.tobytes())


def to_type(x, name):
    """What a float becomes in a file of this type, as f32."""
    if name == "F16":
        return x.astype(np.float16).astype(np.float32)
    if name == "BF16":
        return bf16_to_f32(f32_to_bf16(x).reshape(x.shape))
    return x


def stored_scale(scale, name):
    """A scale in a file of this type: exact, or the next larger value that the type has."""
    x = np.asarray(scale, np.float32)
    if name == "F16":
        h = x.astype(np.float16)
        return float(h if np.float32(h) >= x else np.nextafter(h, np.float16(np.inf)))
    if name == "BF16":
        bits = x.view(np.uint32)
        return float(((bits + np.uint32(0xFFFF)) & np.uint32(0xFFFF0000)).view(np.float32))
    return float(x)


# --- the file against the checkpoint --------------------------------------------------------------------------


def ternary_of(tensors, base, config):
    """(values, scale) by the definitions of semantics.md 1 and formats.md 3.8."""
    w = tensors[base + ".weight"]
    if w.dtype == np.uint8:
        values = np.concatenate([(w >> s) & 3 for s in (0, 2, 4, 6)]).astype(np.int8) - 1
        scale = np.float32(tensors[base + ".weight_scale"].reshape(()))
        if config.get("quantization_config", {}).get("linear_class") != "autobitlinear":
            scale = np.float32(1) / scale
        return values, scale
    scale = np.float32(max(np.abs(w.astype(np.float64)).mean(), 1e-5))
    return np.clip(np.rint(w / scale), -1, 1).astype(np.int8), scale


def read_gguf(path):
    reader = gguf.GGUFReader(path)
    return reader, {t.name: t for t in reader.tensors}


def check_file(path, folder, outtype):
    """Returns how many values were compared."""
    tensors = read_safetensors(folder)
    config = json.loads((folder / "config.json").read_text())
    _, out = raw_tensors(path)
    seen, compared = set(), 0
    float_type = {"f32": "F32", "bf16": "BF16"}.get(outtype, "F16")

    def check_float(name, source, kind):
        nonlocal compared
        id_, ne, raw = out[name]
        assert id_ == {"F32": 0, "F16": 1, "BF16": 30}[kind], name
        assert ne == list(source.shape[::-1]), name
        expected = to_type(source, kind)
        assert np.array_equal(as_f32(id_, ne, raw).view(np.uint32), expected.view(np.uint32)), name
        seen.add(name)
        compared += expected.size

    check_float("token_embd.weight", tensors["model.embed_tokens.weight"], float_type)
    check_float("output_norm.weight", tensors["model.norm.weight"], "F32")
    for i in range(config["num_hidden_layers"]):
        layer, block = f"model.layers.{i}.", f"blk.{i}."
        check_float(block + "attn_norm.weight", tensors[layer + "input_layernorm.weight"], "F32")
        check_float(block + "ffn_norm.weight", tensors[layer + "post_attention_layernorm.weight"], "F32")
        for hf, sub in (("self_attn.o_proj.0", "attn_sub_norm"), ("self_attn.attn_sub_norm", "attn_sub_norm"),
                        ("mlp.down_proj.0", "ffn_sub_norm"), ("mlp.ffn_sub_norm", "ffn_sub_norm")):
            if layer + hf + ".weight" in tensors:
                check_float(block + sub + ".weight", tensors[layer + hf + ".weight"], "F32")
        for hf, name in PROJECTIONS.items():
            base = layer + hf + (".1" if layer + hf + ".1.weight" in tensors else "")
            values, scale = ternary_of(tensors, base, config)
            id_, ne, raw = out[block + name + ".weight"]
            assert ne == [values.shape[1], values.shape[0]]
            assert id_ == TYPES[outtype][0]
            got, got_scale = decode_ternary(id_, ne, raw)
            assert np.array_equal(got, values), base
            assert np.unique(got_scale[got != 0]).size == 1
            got_scale = got_scale[got != 0][0]
            if outtype == "i2_s":
                assert not raw[values.size // 4 + 4 :].any()
            # The value stored is the rounded scale; with the .scale tensor, if there is one, it is the whole scale. Types
            # whose own scale is an f16 then store 1.
            # Sums in another order may differ in the last place of f32.
            near = [np.float32(s) for s in (scale, np.nextafter(scale, np.float32(0)), np.nextafter(scale, np.float32(9)))]
            if tensors[base + ".weight"].dtype == np.uint8:
                near = [np.float32(scale)]
            rest = block + name + ".scale" in out
            if rest and outtype in ("tq1_0", "tq2_0", "q2_0"):
                assert got_scale == 1
            else:
                assert got_scale.item() in [stored_scale(s, outtype.upper()) for s in near], base
            if rest:
                id_, ne, raw = out[block + name + ".scale"]
                assert (id_, ne) == (0, [1]) and outtype not in ("f32", "i2_s", "iq2_bn")
                seen.add(block + name + ".scale")
                got_scale = np.float32(got_scale) * as_f32(id_, ne, raw)[0]
            assert np.float32(got_scale) in near, base
            seen.add(block + name + ".weight")
            compared += values.size
            if base + ".lrc_U" in tensors:
                check_float(block + name + ".lrc_u.weight", tensors[base + ".lrc_U"], float_type)
                v = np.ascontiguousarray(tensors[base + ".lrc_V"].T)
                check_float(block + name + ".lrc_v.weight", v, float_type)
    assert seen == set(out)
    return compared


@pytest.mark.parametrize("outtype", OUTTYPES)
def test_bard_is_converted_value_by_value(tmp_path, outtype):
    out = tmp_path / "bard.gguf"
    r = run("wf-convert", BARD, "-o", out, "--outtype", outtype, "--json")
    assert r.returncode == 0, r.stderr
    assert r.stderr == ""  # no progress bar but on a terminal
    report = json.loads(r.stdout)
    assert report["verified"] and report["file_bytes"] == out.stat().st_size
    assert check_file(out, BARD, outtype) == report["parameters"] == 3676416
    assert [p.name for p in tmp_path.iterdir()] == ["bard.gguf"]
    zeros = [t["zeros"] for t in report["tensors"] if "zeros" in t]
    assert len(zeros) == 28 and all(0 < z < 1 for z in zeros)


@pytest.mark.parametrize("form", ["bard-bf16", "bard-lrc", "bard-subln"])
@pytest.mark.parametrize("outtype", OUTTYPES)
def test_the_other_forms_are_converted_value_by_value(tmp_path, form, outtype):
    folder = SHARED / "checkpoints" / form
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    out = tmp_path / "out.gguf"
    r = run("wf-convert", folder, "-o", out, "--outtype", outtype, "--json")
    assert r.returncode == 0, r.stderr
    assert check_file(out, folder, outtype) == json.loads(r.stdout)["parameters"]
    keys, _ = raw_tensors(out)
    eps = keys.get("bitnet-b1.58.attention.sub_norm_epsilon")
    assert eps == (pytest.approx(1e-6) if form == "bard-subln" else None)


def test_metadata_is_what_the_checkpoint_says(tmp_path):
    out = tmp_path / "bard.gguf"
    assert run("wf-convert", BARD, "-o", out, "--outtype", "f16").returncode == 0
    reader, tensors = read_gguf(out)  # PyPI gguf accepts the file

    def field(key):
        return reader.fields[key].contents()

    arch = "bitnet-b1.58."
    expected = {
        "general.architecture": "bitnet-b1.58", "general.name": "bard", "general.file_type": 1,
        arch + "vocab_size": 2048, arch + "context_length": 512, arch + "embedding_length": 256,
        arch + "block_count": 4, arch + "feed_forward_length": 768, arch + "attention.head_count": 4,
        arch + "attention.head_count_kv": 2, arch + "rope.dimension_count": 64, arch + "rope.freq_base": 10000.0,
        arch + "bitlinear": True, arch + "diffusion.style": "fast-dllm-v2", arch + "diffusion.block_size": 32,
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "llama-bpe", "tokenizer.ggml.bos_token_id": 2044,
        "tokenizer.ggml.eos_token_id": 2046, "tokenizer.ggml.mask_token_id": 2047,
    }
    assert {k: field(k) for k in expected} == expected
    assert field("general.sampling.temp") == pytest.approx(0.8)
    assert field("general.sampling.top_p") == pytest.approx(0.95)
    assert field(arch + "attention.layer_norm_rms_epsilon") == pytest.approx(1e-5)
    assert len(tensors) == 46
    assert tensors["token_embd.weight"].shape.tolist() == [256, 2048]


def test_dry_run_writes_nothing(tmp_path):
    r = run("wf-convert", BARD, "--dry-run", "--json", "-o", tmp_path / "x.gguf")
    assert r.returncode == 0, r.stderr
    plan = json.loads(r.stdout)
    assert plan["dry_run"] and len(plan["tensors"]) == 46
    assert list(tmp_path.iterdir()) == []
    assert run("wf-convert", BARD, "--dry-run").returncode == 0


def test_the_report_is_written_too(tmp_path):
    r = run("wf-convert", BARD, "-o", tmp_path / "x.gguf", "--report", tmp_path / "r.json", "--json")
    assert r.returncode == 0, r.stderr
    assert json.loads((tmp_path / "r.json").read_text()) == json.loads(r.stdout)
    assert {p.name for p in tmp_path.iterdir()} == {"x.gguf", "r.json"}


@pytest.mark.parametrize("report", ["no/r.json", "folder", "/dev/null", "/proc/r.json"])
def test_a_report_that_cannot_be_written_is_known_before_the_work(tmp_path, report):
    (tmp_path / "folder").mkdir()
    r = run("wf-convert", BARD, "-o", tmp_path / "x.gguf", "--report", tmp_path / report)
    assert r.returncode == 1 and f"{tmp_path / report}: " in r.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["folder"] and not list((tmp_path / "folder").iterdir())


def test_a_failure_leaves_no_report(tmp_path):
    r = run("wf-convert", tmp_path / "none", "-o", tmp_path / "x.gguf", "--report", tmp_path / "r.json")
    assert r.returncode == 1 and list(tmp_path.iterdir()) == []


def test_a_report_in_the_outputs_place_is_wrong_usage(tmp_path):
    r = run("wf-convert", BARD, "-o", tmp_path / "x.gguf", "--report", tmp_path / "." / "x.gguf")
    assert r.returncode == 2 and "the same file" in r.stderr and not list(tmp_path.iterdir())


@pytest.mark.parametrize("args", [[], ["--no-such-flag"], [BARD], [BARD, "-o", "x", "--outtype", "q4_0"], [BARD, "-o", "x", "--for", "ollama"], [BARD, "x", "-o", "y"]])
def test_wrong_usage_is_exit_code_2(tmp_path, args):
    r = run("wf-convert", *args, cwd=tmp_path)
    assert r.returncode == 2 and r.stderr
    assert list(tmp_path.iterdir()) == []


# --- bad checkpoints ------------------------------------------------------------------------------------------


@pytest.fixture(name="copy")
def fixture_copy(tmp_path):
    """A copy of bard that a test may damage."""
    folder = tmp_path / "bard"
    shutil.copytree(BARD, folder)
    for p in [folder, *folder.iterdir()]:
        p.chmod(0o755 if p.is_dir() else 0o644)
    return folder


def set_config(folder, **fields):
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **fields}
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def edit_tensors(folder, edit):
    path = folder / "model.safetensors"
    data = path.read_bytes()
    (n,) = struct.unpack("<Q", data[:8])
    tensors = {}
    for name, t in json.loads(data[8 : 8 + n]).items():
        if name != "__metadata__":
            begin, end = (8 + n + o for o in t["data_offsets"])
            kind = {"BF16": np.uint16, "U8": np.uint8}[t["dtype"]]
            tensors[name] = (t["dtype"], np.frombuffer(data[begin:end], kind).reshape(t["shape"]).copy())
    edit(tensors)
    write_safetensors(path, tensors)


Q = "model.layers.0.self_attn.q_proj.weight"


def wrong_dtype(t):
    t[Q] = ("I16", t[Q][1].view(np.int16))


def wrong_shape(t):
    t[Q] = ("U8", t[Q][1][:32].copy())


def nan_scale(t):
    t[Q + "_scale"] = ("BF16", np.array([0x7FC0], np.uint16))


def negative_scale(t):
    t[Q + "_scale"] = ("BF16", np.array([0xBF80], np.uint16))


def nan_weight(t):
    t["model.norm.weight"][1][3] = 0x7FC0


def code_three(t):
    t[Q][1][5, 7] |= 0x30


def missing_tensor(t):
    del t["model.layers.3.mlp.down_proj.weight"]


def mystery(t):
    t[Q.replace("weight", "mystery")] = ("BF16", np.ones((4, 256), np.uint16))


def half_lora(t):
    t[Q.replace("weight", "lora_A.weight")] = ("BF16", np.ones((4, 256), np.uint16))


BAD = {
    "no such folder": (shutil.rmtree, "no such folder"),
    "no config.json": (lambda d: (d / "config.json").unlink(), "no config.json"),
    "broken config.json": (lambda d: (d / "config.json").write_text("{"), "not valid JSON"),
    "unknown architecture": (lambda d: set_config(d, architectures=["GPT2LMHeadModel"]), "unknown architecture 'GPT2LMHeadModel'"),
    "unknown activation": (lambda d: set_config(d, hidden_act="gelu"), "unknown activation 'gelu'"),
    "no activation": (lambda d: set_config(d, hidden_act=None), "hidden_act is missing"),
    "config of another size": (lambda d: set_config(d, intermediate_size=512), "expected shape [128, 256] (four rows of [512, 256] in a byte), found [192, 256]"),
    "more layers": (lambda d: set_config(d, num_hidden_layers=5), "layer 4 has no tensor like 'model.layers.0.self_attn.attn_sub_norm.weight' of layer 0"),
    "fewer layers": (lambda d: set_config(d, num_hidden_layers=3), "belongs to layer 3, but num_hidden_layers is 3"),
    "wrong dtype": (lambda d: edit_tensors(d, wrong_dtype), "found I16"),
    "wrong shape": (lambda d: edit_tensors(d, wrong_shape), "expected shape [64, 256] (four rows of [256, 256] in a byte), found [32, 256]"),
    "missing tensor": (lambda d: edit_tensors(d, missing_tensor), "'model.layers.3.mlp.down_proj.weight' is missing"),
    "unknown part": (lambda d: edit_tensors(d, mystery), "leaving it out would change the result"),
    "half of LoRA": (lambda d: edit_tensors(d, half_lora), "the other low-rank factor is missing"),
    "NaN scale": (lambda d: edit_tensors(d, nan_scale), "weight_scale': expected a finite scale above 0, found nan"),
    "negative scale": (lambda d: edit_tensors(d, negative_scale), "weight_scale': expected a finite scale above 0, found -1"),
    "NaN weight": (lambda d: edit_tensors(d, nan_weight), "'model.norm.weight': element 3 is nan"),
    "invalid code": (lambda d: edit_tensors(d, code_three), "row 133, column 7 has code 3"),
    "truncated weights": (lambda d: os.truncate(d / "model.safetensors", 1000000), "file truncated, expected"),
    "no weights": (lambda d: (d / "model.safetensors").unlink(), "no *.safetensors file"),
    "no tokenizer": (lambda d: (d / "tokenizer.json").unlink(), "no tokenizer.json"),
    "broken tokenizer": (lambda d: (d / "tokenizer.json").write_text("[]"), "tokenizer.json: expected a JSON object"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_checkpoints_are_refused_and_leave_nothing(tmp_path, copy, name):
    damage, message = BAD[name]
    damage(copy)
    out = tmp_path / "out" / "bard.gguf"
    out.parent.mkdir()
    r = run("wf-convert", copy, "-o", out, "--json")
    assert r.returncode == 1
    assert r.stderr.startswith("wf-convert: error: ") and message in r.stderr
    assert r.stdout == ""
    assert list(out.parent.iterdir()) == []
    i = run("wf-inspect", copy)  # says the same, but for what only the weights tell
    if name not in ("NaN weight", "invalid code"):
        assert i.returncode == 1 and (message in i.stderr or name == "no such folder")
    else:
        assert i.returncode == 0


def test_a_truncated_shard_is_named(tmp_path):
    folder = SHARED / "checkpoints" / "bard-subln"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    copy = tmp_path / "m"
    shutil.copytree(folder, copy)
    shard = copy / "model-00002-of-00002.safetensors"
    shard.chmod(0o644)
    os.truncate(shard, 3000000)
    r = run("wf-convert", copy, "-o", tmp_path / "x.gguf")
    assert r.returncode == 1 and "model-00002-of-00002.safetensors: file truncated" in r.stderr
    shard.parent.chmod(0o755)
    shard.unlink()
    r = run("wf-convert", copy, "-o", tmp_path / "x.gguf")
    assert r.returncode == 1 and "model-00002-of-00002.safetensors" in r.stderr
    assert not (tmp_path / "x.gguf").exists()


def small_checkpoint(folder, hidden, ffn, sparse_vocab=2048):
    """Zeros in a sparse file: takes no space and converts like any other."""
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BARD / name, folder / name)
    config = json.loads((BARD / "config.json").read_text())
    config.update(hidden_size=hidden, intermediate_size=ffn, num_attention_heads=hidden // 32,
                  num_key_value_heads=hidden // 32, num_hidden_layers=1, vocab_size=sparse_vocab)
    del config["quantization_config"]
    (folder / "config.json").write_text(json.dumps(config))
    layer = "model.layers.0."
    shapes = {"model.embed_tokens": [sparse_vocab, hidden], "model.norm": [hidden]}
    shapes |= {layer + n: [hidden] for n in ("input_layernorm", "post_attention_layernorm", "self_attn.attn_sub_norm")}
    shapes |= {layer + f"self_attn.{p}_proj": [hidden, hidden] for p in "qkvo"}
    shapes |= {layer + "mlp.gate_proj": [ffn, hidden], layer + "mlp.up_proj": [ffn, hidden],
               layer + "mlp.down_proj": [hidden, ffn], layer + "mlp.ffn_sub_norm": [ffn]}
    header, offset = {}, 0
    for name, shape in shapes.items():
        size = 2 * int(np.prod(shape))
        header[name + ".weight"] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    with open(folder / "model.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        f.truncate(8 + len(text) + offset)


def test_i2s_refuses_sizes_that_are_not_whole_groups_and_f16_takes_them(tmp_path):
    small_checkpoint(tmp_path / "m", 32, 33)  # 33 * 32 = 8.25 groups
    r = run("wf-convert", tmp_path / "m", "-o", tmp_path / "x.gguf", "--outtype", "i2_s")
    assert r.returncode == 1
    assert ("I2_S cannot hold it: 33 rows of K = 32 are 1056 weights, not a multiple of 128; "
            "--outtype bf16 fits") in r.stderr
    assert not (tmp_path / "x.gguf").exists()
    assert run("wf-convert", tmp_path / "m", "-o", tmp_path / "x.gguf", "--outtype", "f16").returncode == 0


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path):
    r = run("wf-convert", BARD, "-o", tmp_path / "x.gguf",
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (500000, 500000)))
    assert r.returncode == 1
    assert "x.gguf: write of" in r.stderr and "File too large" in r.stderr
    assert list(tmp_path.iterdir()) == []


def test_too_little_space_is_known_before_writing(tmp_path):
    small_checkpoint(tmp_path / "m", 4096, 4096, 2**24)  # 137 GB of zeros in a sparse file
    free = shutil.disk_usage(tmp_path).free
    if free > 270e9:
        pytest.skip(f"{free} bytes are free: no plan here is that large")
    r = run("wf-convert", tmp_path / "m", "-o", tmp_path / "x.gguf", "--outtype", "f32")
    assert r.returncode == 1 and "disk full: " in r.stderr and "bytes are needed" in r.stderr
    assert not (tmp_path / "x.gguf").exists()


def test_an_output_in_a_folder_that_is_not_there(tmp_path):
    r = run("wf-convert", BARD, "-o", tmp_path / "no" / "x.gguf")
    assert r.returncode == 1 and "there is no folder" in r.stderr
    r = run("wf-convert", BARD, "-o", tmp_path)
    assert r.returncode == 1 and "is a folder" in r.stderr


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_half_way_leaves_nothing(tmp_path, sig):
    small_checkpoint(tmp_path / "m", 4096, 16384)  # 0.28 G weights: seconds
    out = tmp_path / "out"
    out.mkdir()
    with subprocess.Popen([BIN / "wf-convert", tmp_path / "m", "-o", out / "x.gguf", "--outtype", "f16"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as p:
        deadline = time.monotonic() + 60
        while not list(out.glob("x.gguf.*.tmp")) and time.monotonic() < deadline:
            time.sleep(0.002)
        assert list(out.glob("x.gguf.*.tmp")), "the conversion ended before it could be interrupted"
        p.send_signal(sig)
        _, err = p.communicate(timeout=60)
        assert p.returncode == 130
        assert "cancelled while" in err
    assert list(out.iterdir()) == []


def test_memory_stays_near_the_largest_tensor(tmp_path):
    small_checkpoint(tmp_path / "m", 2048, 8192)  # 67 M weights; the largest tensor has 34 MB
    script = ("import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
              "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)")
    r = subprocess.run(["python3", "-c", script, BIN / "wf-convert", tmp_path / "m", "-o", tmp_path / "x.gguf",
                        "--outtype", "i2_s"], capture_output=True, text=True, check=True)
    assert int(r.stdout) < 120 * 1024, f"{r.stdout} kB"
