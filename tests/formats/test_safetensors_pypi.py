# SPDX-License-Identifier: Apache-2.0
"""Our safetensors reader against PyPI safetensors: the same files are read alike and refused alike."""

import json
import os
import random
import struct
import subprocess

import numpy as np
import pytest

safetensors = pytest.importorskip("safetensors")
from safetensors.numpy import save, save_file  # noqa: E402

BIN = os.environ["WF_BIN"]
SHARED = os.environ.get("WF_SHARED", "")

# numpy's name of a type -> safetensors' name
DTYPES = {
    "float32": "F32",
    "float16": "F16",
    "uint8": "U8",
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "uint16": "U16",
    "uint32": "U32",
    "uint64": "U64",
    "float64": "F64",
    "bool": "BOOL",
}


def fnv1a(data: bytes) -> str:
    h = 0xCBF29CE484222325
    for b in data:
        h = ((h ^ b) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return str(h)


def run(path):
    return subprocess.run(
        [os.path.join(BIN, "wf_checkpoint_dump"), str(path)], capture_output=True, text=True, timeout=120
    )


def dump(path):
    p = run(path)
    assert p.returncode == 0, p.stderr
    d = json.loads(p.stdout)
    d["tensors"] = {bytes.fromhex(t["name"]).decode(): t for t in d["tensors"]}
    return d


def test_every_type_and_shape_of_numpy(tmp_path):
    rng = np.random.default_rng(1)
    arrays = {}
    for np_name in DTYPES:
        for shape in ([], [1], [3, 5], [2, 0, 4], [2, 1, 3, 1, 2]):
            data = rng.integers(0, 2, size=shape) if np_name == "bool" else rng.integers(0, 100, size=shape)
            arrays[f"{np_name}.{shape}"] = np.asarray(data).astype(np_name)
    arrays['name "\u0120\n\U0001f600'] = np.zeros(1, np.float32)
    save_file(arrays, str(tmp_path / "a.safetensors"), metadata={"format": "np", "": "\u00e9"})
    d = dump(tmp_path / "a.safetensors")
    assert set(d["tensors"]) == set(arrays)
    for name, a in arrays.items():
        t = d["tensors"][name]
        assert t["dtype"] == DTYPES[a.dtype.name]
        assert t["shape"] == list(a.shape)
        assert t["bytes"] == a.nbytes
        assert t["fnv1a"] == fnv1a(a.tobytes())


def test_bf16_through_raw_bytes(tmp_path):
    data = struct.pack("<4H", 0x3F80, 0xC000, 0x3DCD, 0x7FC0)
    header = b'{"b":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]}}'
    file = struct.pack("<Q", len(header)) + header + data
    ((name, theirs),) = safetensors.deserialize(file)
    (tmp_path / "a.safetensors").write_bytes(file)
    t = dump(tmp_path / "a.safetensors")["tensors"][name]
    assert (t["dtype"], t["shape"]) == (theirs["dtype"], theirs["shape"]) == ("BF16", [2, 2])
    assert t["fnv1a"] == fnv1a(data) == fnv1a(bytes(theirs["data"]))


def test_a_sharded_folder(tmp_path):
    weight_map = {}
    for i in range(3):
        shard = f"model-{i + 1:05}-of-00003.safetensors"
        arrays = {f"t.{i}.{j}": np.full((2, j + 1), i, np.float16) for j in range(4)}
        save_file(arrays, str(tmp_path / shard))
        weight_map.update({name: shard for name in arrays})
    index = {"metadata": {"total_size": 1.5}, "weight_map": weight_map}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    d = dump(tmp_path)
    assert d["shards"] == 3
    assert d["warnings"] == 0
    assert {n: f"model-{t['shard'] + 1:05}-of-00003.safetensors" for n, t in d["tensors"].items()} == weight_map


def accepted_by_pypi(data: bytes) -> bool:
    try:
        safetensors.deserialize(data)
        return True
    except Exception:
        return False


# What the reference accepts and we refuse, by our message.
STRICTER = ("is not supported", "duplicate key", "unknown key", "expected '{', found ' '")


def test_changed_headers_are_accepted_and_refused_alike(tmp_path):
    rng = random.Random(1)
    arrays = {"a": np.arange(4, dtype=np.float32), "b": np.arange(6, dtype=np.int8).reshape(2, 3)}
    good = save(arrays, {"x": "y"})
    n = struct.unpack_from("<Q", good)[0]
    header, data = good[8 : 8 + n], good[8 + n :]
    assert accepted_by_pypi(good)
    alphabet = b'0123456789[]{},:"-.eF aIb\\u'
    cases = []
    for _ in range(400):
        h = bytearray(header)
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            at = rng.randrange(len(h))
            kind = rng.randrange(3)
            if kind == 0:
                h[at] = rng.choice(alphabet)
            elif kind == 1:
                del h[at]
            else:
                h.insert(at, rng.choice(alphabet))
        cases.append(struct.pack("<Q", len(h)) + bytes(h) + data)
    cases += [good[:i] for i in range(0, len(good), 7)] + [good + b"\0"]
    path = tmp_path / "a.safetensors"
    both = 0
    for case in cases:
        path.write_bytes(case)
        p = run(path)
        assert p.returncode in (0, 1), p.stderr  # never a crash
        theirs = accepted_by_pypi(case)
        both += theirs and p.returncode == 0
        if p.returncode == 0:
            assert theirs, case
        elif theirs:
            assert any(s in p.stderr for s in STRICTER), (case, p.stderr)
    assert both > 10  # some changes keep a file good


@pytest.mark.parametrize("name", ["bard", "bard-bf16", "bard-lrc", "bard-subln"])
def test_sample_checkpoints(name):
    folder = os.path.join(SHARED, "checkpoints", name)
    if not os.path.isdir(folder):
        pytest.skip(f"{folder} is absent")
    d = dump(folder)
    seen = 0
    for file in sorted(os.listdir(folder)):
        if not file.endswith(".safetensors"):
            continue
        with open(os.path.join(folder, file), "rb") as f:
            for tensor, info in safetensors.deserialize(f.read()):
                t = d["tensors"][tensor]
                assert t["shape"] == info["shape"]
                assert t["dtype"] == info["dtype"]
                seen += 1
                if len(info["data"]) < 100_000:
                    assert t["fnv1a"] == fnv1a(bytes(info["data"]))
    assert seen == len(d["tensors"])
