# SPDX-License-Identifier: Apache-2.0
"""wf-quantize as a program: every pair of types against independent decoders, thread counts, refusals, Ctrl-C; and what
wf-convert writes for models with experts and interleaved heads, by the same decoders."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest

pytest.importorskip("gguf")

from decoders import TYPES, as_f32, decode_ternary, effective, raw_tensors  # noqa: E402
from test_convert import BARD, BIN, SHARED, f32_to_bf16, read_safetensors, run, small_checkpoint, write_safetensors  # noqa: E402

TERNARY = ["i2_s", "tq1_0", "tq2_0", "q2_0", "iq1_bn", "iq2_bn", "iq2_bn_r4", "f32", "f16", "bf16"]
PROJECTIONS = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]


@pytest.fixture(name="models", scope="module")
def fixture_models(tmp_path_factory):
    """name -> I2_S file: bard's scales fit f16, those of masters do not."""
    folder = tmp_path_factory.mktemp("models")
    sources = {"bard": BARD}
    if (SHARED / "checkpoints" / "bard-bf16").is_dir():
        sources["bard-bf16"] = SHARED / "checkpoints" / "bard-bf16"
    for name, source in sources.items():
        r = run("wf-convert", source, "-o", folder / f"{name}.gguf", "--outtype", "i2_s")
        assert r.returncode == 0, r.stderr
    return {name: folder / f"{name}.gguf" for name in sources}


def projections(path):
    _, tensors = raw_tensors(path)
    layers = {n.split(".")[1] for n in tensors if n.startswith("blk.")}
    return {f"blk.{i}.{p}": effective(tensors, f"blk.{i}.{p}") for i in sorted(layers) for p in PROJECTIONS}


def same_weights(a, b):
    assert a.keys() == b.keys()
    for name, (values, scales) in a.items():
        other, other_scales = b[name]
        assert np.array_equal(values, other), name
        used = values != 0
        assert np.array_equal(scales[used], other_scales[used]), name


@pytest.mark.parametrize("model", ["bard", "bard-bf16"])
def test_every_pair_of_types_keeps_values_and_scales(tmp_path, models, model):
    if model not in models:
        pytest.skip(f"{model} is not there")
    want = projections(models[model])
    compared = 0
    for a in TERNARY:
        out = tmp_path / f"{a}.gguf"
        r = run("wf-quantize", models[model], out, a, "--json")
        assert r.returncode == 0, r.stderr
        assert json.loads(r.stdout)["verified"] and r.stderr == ""
        _, tensors = raw_tensors(out)
        assert tensors["blk.0.attn_q.weight"][0] == TYPES[a][0]
        same_weights(want, projections(out))
    for a in TERNARY:
        for b in TERNARY:
            r = run("wf-quantize", tmp_path / f"{a}.gguf", tmp_path / "x.gguf", b)
            assert r.returncode == 0, r.stderr
            assert (tmp_path / "x.gguf").read_bytes() == (tmp_path / f"{b}.gguf").read_bytes(), (a, b)
            compared += 1
    assert compared == len(TERNARY) ** 2


@pytest.mark.parametrize("kind", [t for t in TERNARY if t not in ("iq1_bn", "iq2_bn_r4")])
def test_wf_convert_writes_what_wf_quantize_makes_of_its_i2s(tmp_path, models, kind):
    source = SHARED / "checkpoints" / "bard-bf16"
    if not source.is_dir():
        pytest.skip(f"{source} is not there")
    assert run("wf-convert", source, "-o", tmp_path / "a.gguf", "--outtype", kind).returncode == 0
    assert run("wf-quantize", models["bard-bf16"], tmp_path / "b.gguf", kind).returncode == 0
    same_weights(projections(tmp_path / "a.gguf"), projections(tmp_path / "b.gguf"))


@pytest.mark.parametrize("kind", TERNARY)
def test_any_number_of_threads_writes_the_same_bytes(tmp_path, models, kind):
    model = models.get("bard-bf16", models["bard"])
    for threads in (1, 2, 3):
        r = run("wf-quantize", model, tmp_path / f"{threads}.gguf", kind, "--threads", threads, "--embedding-type", "q6_k")
        assert r.returncode == 0, r.stderr
    assert (tmp_path / "1.gguf").read_bytes() == (tmp_path / "2.gguf").read_bytes() == (tmp_path / "3.gguf").read_bytes()


def test_everything_else_is_copied(tmp_path, models):
    assert run("wf-quantize", models["bard"], tmp_path / "x.gguf", "tq2_0").returncode == 0
    keys, tensors = raw_tensors(models["bard"])
    new_keys, new = raw_tensors(tmp_path / "x.gguf")
    assert new_keys.pop("general.file_type") == 37 and keys.pop("general.file_type") == 40
    assert new_keys == keys
    for name, (kind, ne, raw) in tensors.items():
        if kind != 36:
            assert new[name][:2] == (kind, ne) and new[name][2].tobytes() == raw.tobytes(), name


@pytest.mark.parametrize("kind,error", [("q8_0", 0.01), ("q6_k", 0.03), ("q4_k", 0.1), ("q4_0", 0.15), ("bf16", 0.01)])
def test_the_embedding_in_another_type_is_near(tmp_path, models, kind, error):
    assert run("wf-quantize", models["bard"], tmp_path / "x.gguf", "i2_s", "--embedding-type", kind).returncode == 0
    want = as_f32(*raw_tensors(models["bard"])[1]["token_embd.weight"])
    got_kind, ne, raw = raw_tensors(tmp_path / "x.gguf")[1]["token_embd.weight"]
    assert got_kind == TYPES[kind][0]
    got = as_f32(got_kind, ne, raw)  # by PyPI gguf
    assert np.linalg.norm(got - want) <= error * np.linalg.norm(want)


def test_the_other_layouts_of_i2s_are_read_if_they_are_named(tmp_path, models):
    """The same file with its groups rewritten as an ARM build and the row-interleaved build write them."""
    data = bytearray(models["bard"].read_bytes())
    whole = np.frombuffer(bytes(data), np.uint8)
    _, tensors = raw_tensors(models["bard"])
    for layout in ("arm64", "x4"):
        changed = bytearray(data)
        for kind, ne, raw in tensors.values():
            if kind != 36:
                continue
            values, _ = decode_ternary(kind, ne, raw)
            codes = (values + 1).astype(np.uint8)
            if layout == "arm64":
                g = codes.reshape(-1, 4, 16)
            else:
                g = codes.reshape(-1, 4, ne[0])
            packed = (g[:, 0] << 6 | g[:, 1] << 4 | g[:, 2] << 2 | g[:, 3]).reshape(-1)
            at = raw.__array_interface__["data"][0]
            offset = bytes(data).find(raw.tobytes())
            assert at and offset > 0 and whole[offset] == raw[0]
            changed[offset : offset + packed.size] = packed.tobytes()
        (tmp_path / "in.gguf").write_bytes(changed)
        r = run("wf-quantize", tmp_path / "in.gguf", tmp_path / "x.gguf", "i2_s", "--i2s-layout", layout)
        assert r.returncode == 0, r.stderr
        assert (tmp_path / "x.gguf").read_bytes() == models["bard"].read_bytes()


def test_refusals_leave_nothing(tmp_path, models):
    bard = models["bard"]
    out = tmp_path / "x.gguf"

    def refused(message, *args, code=1):
        r = run("wf-quantize", *args)
        assert r.returncode == code and message in r.stderr, r.stderr
        assert not out.exists()

    refused("llama.cpp does not load i2_s; it loads tq1_0", bard, out, "i2_s", "--for", "llama.cpp")
    refused("--for llama.cpp: it has no graph with relu2", bard, out, "tq2_0", "--for", "llama.cpp")
    refused("has no head of its own", bard, out, "tq2_0", "--head-type", "q8_0")
    refused("is the input", bard, bard, "tq2_0")
    refused("no/x.gguf", bard, tmp_path / "no" / "x.gguf", "tq2_0")
    refused("none.gguf", tmp_path / "none.gguf", out, "tq2_0")
    refused("q4_k", bard, out, "q4_k", code=2)
    refused("--i2s-layout", bard, out, "tq2_0", "--i2s-layout", "avx", code=2)
    short = tmp_path / "short.gguf"
    short.write_bytes(bard.read_bytes()[:100000])
    refused("truncated", short, out, "tq2_0")
    continuous = bytearray(bard.read_bytes())
    r = run("wf-quantize", bard, tmp_path / "f.gguf", "f32")
    assert r.returncode == 0
    continuous = bytearray((tmp_path / "f.gguf").read_bytes())
    _, tensors = raw_tensors(tmp_path / "f.gguf")
    raw = tensors["blk.2.ffn_up.weight"][2]
    at = bytes(continuous).find(raw.tobytes())
    assert at > 0
    continuous[at + 40 : at + 44] = np.float32(0.123).tobytes()
    (tmp_path / "c.gguf").write_bytes(continuous)
    refused("'blk.2.ffn_up.weight' holds continuous weights, not {-s, 0, s}; convert the checkpoint with wf-convert",
            tmp_path / "c.gguf", out, "tq2_0")


def test_damage_is_not_copied(tmp_path, models):
    data = bytearray(models["bard"].read_bytes())
    raw = raw_tensors(models["bard"])[1]["blk.1.ffn_gate.weight"][2]
    at = bytes(data).find(raw.tobytes())
    assert at > 0
    data[at] |= 0xC0  # the first weight
    (tmp_path / "damaged.gguf").write_bytes(data)
    for kind in ("i2_s", "tq2_0"):
        r = run("wf-quantize", tmp_path / "damaged.gguf", tmp_path / "x.gguf", kind)
        assert r.returncode == 1 and not (tmp_path / "x.gguf").exists()
        assert "tensor 'blk.1.ffn_gate.weight': row 0, column 0 has code 3, expected 0, 1 or 2" in r.stderr


def test_one_scale_for_all_experts_is_not_taken_for_theirs(tmp_path):
    random_moe(tmp_path / "m", "Qwen3MoeForCausalLM")
    assert run("wf-convert", tmp_path / "m", "-o", tmp_path / "m.gguf", "--outtype", "i2_s").returncode == 0
    data = (tmp_path / "m.gguf").read_bytes()
    assert data.count(b"blk.0.ffn_up_exps.scale") == 1
    (tmp_path / "lost.gguf").write_bytes(data.replace(b"blk.0.ffn_up_exps.scale", b"blk.0.ffn_up_exps.other"))
    r = run("wf-quantize", tmp_path / "lost.gguf", tmp_path / "x.gguf", "tq2_0")
    assert r.returncode == 0, r.stderr  # 1 in the tensor: scales of 1, as the loader runs it
    raw = raw_tensors(tmp_path / "lost.gguf")[1]["blk.0.ffn_up_exps.weight"][2]
    lost = bytearray((tmp_path / "lost.gguf").read_bytes())
    at = bytes(lost).find(raw.tobytes()) + 3 * 256 * 256 // 4
    assert lost[at : at + 4] == np.float32(1).tobytes()
    lost[at : at + 4] = np.float32(0.5).tobytes()
    (tmp_path / "lost.gguf").write_bytes(lost)
    for kind in ("tq2_0", "i2_s"):
        r = run("wf-quantize", tmp_path / "lost.gguf", tmp_path / "y.gguf", kind)
        assert r.returncode == 1 and not (tmp_path / "y.gguf").exists()
        assert "I2_S with experts has one scale, expected 1 beside a tensor 'blk.0.ffn_up_exps.scale'" in r.stderr


def test_a_file_that_a_program_computes_wrongly_is_not_made_for_it(tmp_path):
    folder = tmp_path / "m"
    random_moe(folder, "Qwen3MoeForCausalLM")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"norm_topk_prob": False}))
    assert run("wf-convert", folder, "-o", tmp_path / "m.gguf").returncode == 0
    reason = "is false, but its graph of qwen3moe always normalises the weights of the experts"
    r = run("wf-convert", folder, "-o", tmp_path / "x.gguf", "--outtype", "tq2_0", "--for", "llama.cpp")
    assert r.returncode == 1 and "--for llama.cpp: norm_topk_prob " + reason in r.stderr
    r = run("wf-quantize", tmp_path / "m.gguf", tmp_path / "x.gguf", "tq2_0", "--for", "llama.cpp")
    assert r.returncode == 1 and "--for llama.cpp: qwen3moe.expert_weights_norm " + reason in r.stderr
    assert not (tmp_path / "x.gguf").exists()


def test_dry_run_writes_nothing(tmp_path, models):
    r = run("wf-quantize", models["bard"], tmp_path / "x.gguf", "tq2_0", "--dry-run", "--json")
    assert r.returncode == 0 and json.loads(r.stdout)["dry_run"]
    assert list(tmp_path.iterdir()) == []
    assert run("wf-quantize", "--help").returncode == 0


def test_rows_that_do_not_fit_name_the_types_that_do(tmp_path):
    small_checkpoint(tmp_path / "m", 192, 384)
    assert run("wf-convert", tmp_path / "m", "-o", tmp_path / "m.gguf", "--outtype", "i2_s").returncode == 0
    r = run("wf-quantize", tmp_path / "m.gguf", tmp_path / "x.gguf", "tq2_0")
    assert r.returncode == 1
    assert "tq2_0 needs rows of a multiple of 256 weights, found 192; types that fit: i2_s, q2_0, iq1_bn" in r.stderr


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_nothing(tmp_path, sig):
    small_checkpoint(tmp_path / "m", 4096, 16384)
    assert run("wf-convert", tmp_path / "m", "-o", tmp_path / "m.gguf", "--outtype", "i2_s").returncode == 0
    out = tmp_path / "out"
    out.mkdir()
    with subprocess.Popen([BIN / "wf-quantize", tmp_path / "m.gguf", out / "x.gguf", "f32"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as p:
        deadline = time.monotonic() + 60
        while not list(out.glob("x.gguf.*.tmp")) and time.monotonic() < deadline:
            time.sleep(0.002)
        p.send_signal(sig)
        _, err = p.communicate(timeout=60)
        assert p.returncode == 130 and "cancelled while" in err
    assert list(out.iterdir()) == []


# --- wf-convert: interleaved heads and experts ------------------------------------------------------------------


def absmean(w):
    scale = np.float32(max(np.abs(w.astype(np.float64)).mean(), 1e-5))
    return np.clip(np.rint(w / scale), -1, 1).astype(np.int8), scale


def checkpoint(folder, config, tensors):
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BARD / name, folder / name)
    (folder / "config.json").write_text(json.dumps(config))
    write_safetensors(folder / "model.safetensors", {n: ("BF16", f32_to_bf16(t)) for n, t in tensors.items()})


def random_moe(folder, architecture):
    """One layer, hidden 256, three experts (none for a dense model), random masters."""
    rng = np.random.default_rng(5)
    moe = "Moe" in architecture
    config = {
        "architectures": [architecture], "hidden_act": "silu", "hidden_size": 256, "intermediate_size": 512,
        "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "max_position_embeddings": 128, "vocab_size": 2048, "tie_word_embeddings": True,
        "quantization_config": {"quant_method": "bitnet", "quantization_mode": "online"},
    }
    if moe:
        config.update(num_experts=3, num_experts_per_tok=2, moe_intermediate_size=256, norm_topk_prob=True)
    layer = "model.layers.0."
    shapes = {"model.embed_tokens": (2048, 256), "model.norm": (256,), layer + "input_layernorm": (256,),
              layer + "post_attention_layernorm": (256,), layer + "self_attn.q_proj": (256, 256),
              layer + "self_attn.k_proj": (128, 256), layer + "self_attn.v_proj": (128, 256),
              layer + "self_attn.o_proj": (256, 256)}
    ffn = {"gate_proj": (256, 256), "up_proj": (256, 256), "down_proj": (256, 256)}
    if moe:
        shapes |= {layer + "self_attn.q_norm": (64,), layer + "self_attn.k_norm": (64,), layer + "mlp.gate": (3, 256)}
        shapes |= {layer + f"mlp.experts.{x}.{n}": s for x in range(3) for n, s in ffn.items()}
    else:
        shapes |= {layer + "mlp.gate_proj": (512, 256), layer + "mlp.up_proj": (512, 256), layer + "mlp.down_proj": (256, 512)}
    tensors = {n + ".weight": (rng.standard_normal(s) * rng.uniform(0.01, 1)).astype(np.float32) for n, s in shapes.items()}
    checkpoint(folder, config, tensors)
    return read_safetensors(folder)


@pytest.mark.parametrize("outtype", ["f32", "f16", "bf16", "i2_s", "tq1_0", "tq2_0", "iq2_bn", "q2_0"])
def test_llama_rows_are_interleaved_in_every_type(tmp_path, outtype):
    source = random_moe(tmp_path / "m", "LlamaForCausalLM")
    r = run("wf-convert", tmp_path / "m", "-o", tmp_path / "x.gguf", "--outtype", outtype)
    assert r.returncode == 0, r.stderr
    _, tensors = raw_tensors(tmp_path / "x.gguf")
    for hf, name, heads in (("q", "attn_q", 4), ("k", "attn_k", 2), ("v", "attn_v", 0), ("o", "attn_output", 0)):
        w = source[f"model.layers.0.self_attn.{hf}_proj.weight"]
        values, scale = absmean(w)
        if heads:
            values = values.reshape(heads, 2, 32, 256).swapaxes(1, 2).reshape(w.shape)
        got, got_scale = effective(tensors, "blk.0." + name)
        assert np.array_equal(got, values), name
        assert got_scale[got != 0] == pytest.approx(scale, rel=2e-7)


@pytest.mark.parametrize("outtype", ["f32", "f16", "bf16", "i2_s", "tq1_0", "tq2_0", "iq2_bn", "q2_0"])
def test_experts_have_scales_of_their_own_in_every_type(tmp_path, outtype):
    source = random_moe(tmp_path / "m", "Qwen3MoeForCausalLM")
    r = run("wf-convert", tmp_path / "m", "-o", tmp_path / "x.gguf", "--outtype", outtype)
    assert r.returncode == 0, r.stderr
    _, tensors = raw_tensors(tmp_path / "x.gguf")
    for hf, name in (("gate_proj", "ffn_gate_exps"), ("up_proj", "ffn_up_exps"), ("down_proj", "ffn_down_exps")):
        got, got_scale = effective(tensors, "blk.0." + name)
        assert got.shape == (3, 256, 256)
        for x in range(3):
            values, scale = absmean(source[f"model.layers.0.mlp.experts.{x}.{hf}.weight"])
            assert np.array_equal(got[x], values), (name, x)
            assert got_scale[x][got[x] != 0] == pytest.approx(scale, rel=2e-7)
    if outtype == "i2_s":  # one scale in the tensor cannot be three
        _, _, raw = tensors["blk.0.ffn_up_exps.weight"]
        assert raw[3 * 256 * 256 // 4 :][:4].view("<f4")[0] == 1
    for kind in TERNARY:
        r = run("wf-quantize", tmp_path / "x.gguf", tmp_path / "y.gguf", kind)
        assert r.returncode == 0, r.stderr
        _, again = raw_tensors(tmp_path / "y.gguf")
        for name in ("ffn_gate_exps", "ffn_down_exps"):
            a, b = effective(tensors, "blk.0." + name), effective(again, "blk.0." + name)
            used = a[0] != 0
            assert np.array_equal(a[0], b[0]) and np.array_equal(a[1][used], b[1][used]), kind


def test_sgl_kernels_file_and_back(tmp_path):
    random_moe(tmp_path / "m", "LlamaForCausalLM")
    r = run("wf-convert", tmp_path / "m", "-o", tmp_path / "m.bin", "--outtype", "sgl")
    assert r.returncode == 0, r.stderr
    data = (tmp_path / "m.bin").read_bytes()
    assert data[:12] == b"SGLBITNT\1\0\0\0"
    size = int.from_bytes(data[12:16], "little")
    assert data[16 : 16 + size] == (tmp_path / "m" / "config.json").read_bytes()
    r = run("wf-convert", tmp_path / "m.bin", "--tokenizer", tmp_path / "m", "-o", tmp_path / "a.gguf")
    assert r.returncode == 0, r.stderr
    assert run("wf-convert", tmp_path / "m", "-o", tmp_path / "b.gguf").returncode == 0
    _, a = raw_tensors(tmp_path / "a.gguf")
    _, b = raw_tensors(tmp_path / "b.gguf")
    assert {n: t[2].tobytes() for n, t in a.items()} == {n: t[2].tobytes() for n, t in b.items()}
