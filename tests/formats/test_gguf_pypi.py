# SPDX-License-Identifier: Apache-2.0
"""Our GGUF reader and writer against PyPI gguf: what one writes, the other reads, value by value."""

import json
import os
import struct
import subprocess

import numpy as np
import pytest

gguf = pytest.importorskip("gguf")
V = gguf.GGUFValueType
T = gguf.GGMLQuantizationType

BIN = os.environ["WF_BIN"]
SHARED = os.environ.get("WF_SHARED", "")

SCALARS = {
    V.UINT8: ("B", [0, 255]),
    V.INT8: ("b", [-128, 127]),
    V.UINT16: ("H", [0, 65535]),
    V.INT16: ("h", [-32768, 32767]),
    V.UINT32: ("I", [0, 2**32 - 1]),
    V.INT32: ("i", [-(2**31), 2**31 - 1]),
    V.FLOAT32: ("f", [0.0, -1.5, 1e-5]),
    V.BOOL: ("?", [False, True]),
    V.UINT64: ("Q", [0, 2**64 - 1]),
    V.INT64: ("q", [-(2**63), 2**63 - 1]),
    V.FLOAT64: ("d", [0.1, -1e300]),
}
STRINGS = ["", "a", "\u0120b", "\u2581\U0001f600", 'quote " \\ \n', "x" * 70000]

# Tensor types that both sides know. Whole blocks of bytes: their meaning is not the container's business.
TYPES = [t for t in T if t not in (T.Q8_1,)]


def fnv1a(data: bytes) -> str:
    h = 0xCBF29CE484222325
    for b in data:
        h = ((h ^ b) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return str(h)


def run(tool, *args):
    return subprocess.run([os.path.join(BIN, tool), *map(str, args)], capture_output=True, text=True, timeout=120)


def dump(path):
    p = run("wf_gguf_dump", path)
    assert p.returncode == 0, p.stderr
    return json.loads(p.stdout)


def make(path, alignment=None):
    """A file by PyPI gguf with every value type and every tensor type; returns what it should hold."""
    w = gguf.GGUFWriter(str(path), "llama")
    values = {"general.architecture": (V.STRING, None, "llama")}
    if alignment:
        w.add_custom_alignment(alignment)
        values["general.alignment"] = (V.UINT32, None, alignment)
    for t, (_, samples) in SCALARS.items():
        for i, s in enumerate(samples):
            key = f"{t.name}.{i}"
            w.add_key_value(key, s, t)
            values[key] = (t, None, s)
        w.add_key_value(f"array.{t.name}", samples, V.ARRAY, t)
        values[f"array.{t.name}"] = (V.ARRAY, t, samples)
    for i, s in enumerate(STRINGS):
        w.add_string(f"string.{i}", s)
        if s:  # PyPI gguf leaves empty strings out
            values[f"string.{i}"] = (V.STRING, None, s)
    w.add_array("array.string", STRINGS)
    values["array.string"] = (V.ARRAY, V.STRING, STRINGS)
    rng = np.random.default_rng(1)
    tensors = {}
    for t in TYPES:
        block, size = gguf.GGML_QUANT_SIZES[t]
        for rows in ([3], [2, 3]):
            data = rng.integers(0, 256, size=(*rows, 2 * size), dtype=np.uint8)
            name = f"{t.name}.{len(rows)}"
            w.add_tensor(name, data, raw_dtype=t)
            tensors[name] = (t, [2 * block, *reversed(rows)], data.tobytes())
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return values, tensors


def decode(value):
    """The Python value of one entry of wf_gguf_dump."""
    raw = bytes.fromhex(value["raw"])
    element = V(value["element"])
    if V(value["type"]) == V.STRING:
        return raw.decode()
    if element == V.STRING:
        out = []
        for _ in range(value["count"]):
            (n,) = struct.unpack_from("<Q", raw)
            out.append(raw[8 : 8 + n].decode())
            raw = raw[8 + n :]
        assert not raw
        return out
    got = list(struct.unpack(f"<{value['count']}{SCALARS[element][0]}", raw))
    return got if V(value["type"]) == V.ARRAY else got[0]


def f32(x):
    return float(np.float32(x))


def same(t, sub, want, got):
    if V.FLOAT32 in (t, sub):
        want = [f32(x) for x in want] if isinstance(want, list) else f32(want)
    return want == got


@pytest.mark.parametrize("alignment", [None, 8, 4096])
def test_we_read_what_pypi_gguf_writes(tmp_path, alignment):
    values, tensors = make(tmp_path / "a.gguf", alignment)
    d = dump(tmp_path / "a.gguf")
    assert d["version"] == 3
    assert d["alignment"] == (alignment or 32)
    got = {bytes.fromhex(v["key"]).decode(): v for v in d["values"]}
    assert set(got) - {"string.0"} == set(values)
    for key, (t, sub, want) in values.items():
        assert V(got[key]["type"]) == t, key
        assert sub is None or V(got[key]["element"]) == sub, key
        assert same(t, sub, want, decode(got[key])), key
    assert len(d["tensors"]) == len(tensors)
    whole = (tmp_path / "a.gguf").read_bytes()
    for t in d["tensors"]:
        name = bytes.fromhex(t["name"]).decode()
        want_type, ne, data = tensors[name]
        assert (t["type"], t["ne"], t["bytes"]) == (want_type.value, ne, len(data)), name
        assert t["type_name"] == want_type.name
        assert t["fnv1a"] == fnv1a(data), name
        assert whole[t["offset"] : t["offset"] + t["bytes"]] == data, name


@pytest.mark.parametrize("alignment", [None, 8, 4096])
def test_pypi_gguf_reads_what_we_write(tmp_path, alignment):
    values, tensors = make(tmp_path / "a.gguf", alignment)
    p = run("wf_gguf_copy", tmp_path / "a.gguf", tmp_path / "b.gguf")
    assert p.returncode == 0, p.stderr
    r = gguf.GGUFReader(str(tmp_path / "b.gguf"))
    assert r.alignment == (alignment or 32)
    for key, (t, sub, want) in values.items():
        field = r.fields[key]
        assert field.types[0] == t, key
        assert sub is None or field.types[-1] == sub, key
        got = field.contents()
        assert same(t, sub, want, got), key
    assert [t.name for t in r.tensors] == list(tensors)
    for t in r.tensors:
        want_type, ne, data = tensors[t.name]
        assert t.tensor_type == want_type
        assert t.shape.tolist() == ne
        assert t.data.tobytes() == data
    # Both writers lay a file out alike, to the byte.
    assert (tmp_path / "b.gguf").read_bytes() == (tmp_path / "a.gguf").read_bytes()


def test_the_worked_example_of_the_format_description(tmp_path):
    """formats.md 1.1 names PyPI gguf as its writer."""
    w = gguf.GGUFWriter(str(tmp_path / "a.gguf"), "llama")
    w.add_uint32("llama.block_count", 1)
    w.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    w.add_array("tokenizer.ggml.tokens", ["a", "\u0120b"])
    w.add_bool("tokenizer.ggml.add_bos_token", True)
    w.add_tensor("output_norm.weight", np.array([1, 2], np.float32))
    w.add_tensor("t.weight", np.array([[0, 1, 2], [3, 4, 5]], np.float16))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    assert (tmp_path / "a.gguf").stat().st_size == 448
    d = dump(tmp_path / "a.gguf")
    assert d["data_offset"] == 0x180
    assert [t["offset"] for t in d["tensors"]] == [0x180, 0x1A0]
    assert run("wf_gguf_copy", tmp_path / "a.gguf", tmp_path / "b.gguf").returncode == 0
    assert (tmp_path / "b.gguf").read_bytes() == (tmp_path / "a.gguf").read_bytes()


def test_big_endian_files_of_pypi_gguf_are_refused_by_name(tmp_path):
    w = gguf.GGUFWriter(str(tmp_path / "a.gguf"), "llama", endianess=gguf.GGUFEndian.BIG)
    w.add_tensor("t", np.array([1, 2], np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    p = run("wf_gguf_dump", tmp_path / "a.gguf")
    assert p.returncode == 1
    assert p.stderr.strip() == f"{tmp_path / 'a.gguf'}: big-endian GGUF not supported (offset 4)"


@pytest.mark.parametrize("name", ["ggml-vocab-gpt-2.gguf", "ggml-vocab-llama-spm.gguf", "ggml-vocab-starcoder.gguf"])
def test_published_vocabularies_are_read_alike(tmp_path, name):
    path = os.path.join(SHARED, "tokenizers", name)
    if not os.path.exists(path):
        pytest.skip(f"{path} is absent")
    r = gguf.GGUFReader(path)
    d = dump(path)
    fields = {k: f for k, f in r.fields.items() if not k.startswith("GGUF.")}
    got = {bytes.fromhex(v["key"]).decode(): v for v in d["values"]}
    assert set(got) == set(fields)
    for key, field in fields.items():
        want = field.contents()
        assert decode(got[key]) == want, key
