# SPDX-License-Identifier: Apache-2.0
"""Our reader of PyTorch's checkpoints: a file of the real torch.save, the same format written by Python's own pickler
and zipfile for every type and stride, pickles that would run code, and, where PyTorch is installed, its own files."""

import collections
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
import zipfile

import pytest

np = pytest.importorskip("numpy")
sys.path.insert(0, os.path.dirname(__file__))
import torch_files as tf  # noqa: E402

BIN = os.environ["WF_BIN"]

NAMES = {"Float": "F32", "Half": "F16", "BFloat16": "BF16", "Double": "F64", "Int": "I32", "Long": "I64"}
NAMES |= {"Short": "I16", "Char": "I8", "Byte": "U8", "Bool": "BOOL"}

# Written by PyTorch 1.13.1 (Debian 12's python3-torch):
#   m = torch.nn.Linear(2, 2)
#   with torch.no_grad():
#       m.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
#       m.bias.copy_(torch.tensor([0.5, -0.5]))
#   sd = m.state_dict()
#   sd["t"] = sd["weight"].t()
#   sd["h"] = torch.tensor([1.0, -2.0]).half()
#   sd["n"] = torch.tensor(7)
#   torch.save(sd, "golden.bin")
GOLDEN = bytes.fromhex(
    """
    504b0304000008080000000000000000000000000000000000000f001300676f6c64656e2f646174612e706b6c46420f005a5a5a5a5a5a5a
    5a5a5a5a5a5a5a5a800263636f6c6c656374696f6e730a4f726465726564446963740a710029527101285806000000776569676874710263
    746f7263682e5f7574696c730a5f72656275696c645f74656e736f725f76320a71032828580700000073746f72616765710463746f726368
    0a466c6f617453746f726167650a71055801000000307106580300000063707571074b04747108514b004b024b028671094b024b0186710a
    8968002952710b74710c52710d580400000062696173710e6803282868046805580100000031710f68074b02747110514b004b028571114b
    018571128968002952711374711452711558010000007471166803282868046805680668074b04747117514b004b024b028671184b014b02
    8671198968002952711a74711b52711c580100000068711d68032828680463746f7263680a48616c6653746f726167650a711e5801000000
    32711f68074b02747120514b004b028571214b018571228968002952712374712452712558010000006e712668032828680463746f726368
    0a4c6f6e6753746f726167650a7127580100000033712868074b01747129514b0029298968002952712a74712b52712c757d712d58090000
    005f6d65746164617461712e68002952712f580000000071307d7131580700000076657273696f6e71324b01737373622e504b07081a7131
    b0e9010000e9010000504b0304000008080000000000000000000000000000000000000d001c00676f6c64656e2f646174612f3046421800
    5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a0000803f000000400000404000008040504b07085414a78b1000000010000000
    504b0304000008080000000000000000000000000000000000000d003500676f6c64656e2f646174612f31464231005a5a5a5a5a5a5a5a5a
    5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a0000003f000000bf504b0708235e8d1d
    0800000008000000504b0304000008080000000000000000000000000000000000000d003d00676f6c64656e2f646174612f32464239005a
    5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a
    003c00c0504b0708580151970400000004000000504b0304000008080000000000000000000000000000000000000d004100676f6c64656e
    2f646174612f3346423d005a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a
    5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a0700000000000000504b070870d6e76f0800000008000000504b0304000008080000000000000000
    000000000000000000000e003c00676f6c64656e2f76657273696f6e464238005a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a
    5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a330a504b0708d19e67550200000002000000504b01020000
    000008080000000000001a7131b0e9010000e90100000f0000000000000000000000000000000000676f6c64656e2f646174612e706b6c50
    4b01020000000008080000000000005414a78b10000000100000000d0000000000000000000000000039020000676f6c64656e2f64617461
    2f30504b0102000000000808000000000000235e8d1d08000000080000000d00000000000000000000000000a0020000676f6c64656e2f64
    6174612f31504b01020000000008080000000000005801519704000000040000000d0000000000000000000000000018030000676f6c6465
    6e2f646174612f32504b010200000000080800000000000070d6e76f08000000080000000d0000000000000000000000000094030000676f
    6c64656e2f646174612f33504b0102000000000808000000000000d19e675502000000020000000e00000000000000000000000000180400
    00676f6c64656e2f76657273696f6e504b06062c000000000000001e032d0000000000000000000600000000000000060000000000000065
    010000000000009204000000000000504b060700000000f70500000000000001000000504b05060000000006000600650100009204000000
    00
"""
)


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


def refused(path):
    p = run(path)
    assert p.returncode == 1, p.stderr
    return p.stderr


def check(t, tensor):
    array = tensor.array()
    assert t["dtype"] == NAMES[tensor.storage.kind]
    assert t["shape"] == list(array.shape)
    assert t["bytes"] == array.nbytes
    assert t["fnv1a"] == fnv1a(array.tobytes())


def golden_state_dict():
    weight = tf.Tensor.of(np.array([[1, 2], [3, 4]], np.float32))
    items = {"weight": weight, "bias": tf.Tensor.of(np.array([0.5, -0.5], np.float32)), "t": weight.t()}
    items |= {"h": tf.Tensor.of(np.array([1, -2], np.float16)), "n": tf.Tensor.of(np.array(7, np.int64))}
    sd = collections.OrderedDict(items)
    sd._metadata = collections.OrderedDict({"": {"version": 1}})
    return sd


def test_a_file_of_the_real_torch_save(tmp_path):
    path = tmp_path / "golden.bin"
    path.write_bytes(GOLDEN)
    d = dump(path)
    assert d["warnings"] == 0
    expected = golden_state_dict()
    assert set(d["tensors"]) == set(expected)
    for name, tensor in expected.items():
        check(d["tensors"][name], tensor)


def test_the_test_writes_what_torch_writes(tmp_path):
    path = tmp_path / "golden.bin"
    path.write_bytes(GOLDEN)
    with zipfile.ZipFile(path) as z:
        text, storages = tf.data_pkl(golden_state_dict())
        assert z.read("golden/data.pkl") == text
        assert [z.read(f"golden/data/{s.key}") for s in storages] == [s.flat.tobytes() for s in storages]


def test_every_type_shape_and_stride(tmp_path):
    rng = np.random.default_rng(1)
    sd = collections.OrderedDict()
    for name in tf.STORAGES:
        values = rng.integers(0, 2 if name == "bool" else 100, size=60).astype(name)
        for shape in ([], [1], [3, 5], [2, 0, 4], [2, 1, 3, 1, 2]):
            sd[f"{name}.{shape}"] = tf.Tensor.of(values[: int(np.prod(shape))].reshape(shape))
        storage = tf.Storage(values)
        sd[f"{name}.slice"] = tf.Tensor(storage, 7, (5, 3), (3, 1))
        sd[f"{name}.transposed"] = tf.Tensor(storage, 0, (6, 10), (1, 6))
        sd[f"{name}.permuted"] = tf.Tensor(storage, 0, (5, 3, 4), (1, 20, 5))
        sd[f"{name}.every other"] = tf.Tensor(storage, 1, (4, 7), (14, 2))
        sd[f"{name}.expanded"] = tf.Tensor(storage, 9, (3, 4), (0, 1))
    sd["bf16"] = tf.Tensor(tf.Storage(np.array([0x3F80, 0xC000, 0x3DCD, 0x7FC0], np.uint16), "BFloat16"), 1, (2,), (2,))
    tf.save(tmp_path / "a.pt", sd)
    d = dump(tmp_path / "a.pt")
    assert set(d["tensors"]) == set(sd)
    for name, tensor in sd.items():
        check(d["tensors"][name], tensor)


def test_many_tensors_and_a_long_memo(tmp_path):
    storage = tf.Storage(np.arange(64, dtype=np.float32))
    sd = collections.OrderedDict((f"layer.{i}", tf.Tensor(storage, i % 60, (4,), (1,))) for i in range(3000))
    tf.save(tmp_path / "a.bin", sd)  # three batches of SETITEMS, memo indexes beyond 255 and 65535
    d = dump(tmp_path / "a.bin")
    assert len(d["tensors"]) == 3000
    for name, tensor in sd.items():
        assert d["tensors"][name]["fnv1a"] == fnv1a(tensor.array().tobytes())


def test_training_checkpoints_and_parameters(tmp_path):
    w = tf.Tensor.of(np.arange(6, dtype=np.float32).reshape(2, 3))
    sd = collections.OrderedDict({"w": tf.Parameter(w), "step": 3, "name": "x"})
    for key in ("state_dict", "model_state_dict", "model", "module"):
        tf.save(tmp_path / "a.pt", {"epoch": 3, key: sd, "optimizer": {"lr": 1e-3, "betas": (0.9, 2**40, None, [True])}})
        d = dump(tmp_path / "a.pt")
        assert set(d["tensors"]) == {"w"}
        assert d["warnings"] == 2
        check(d["tensors"]["w"], w)


def test_a_sharded_folder(tmp_path):
    weight_map, tensors = {}, {}
    for i in range(3):
        shard = f"pytorch_model-{i + 1:05}-of-00003.bin"
        sd = {f"t.{i}.{j}": tf.Tensor.of(np.full((2, j + 1), i, np.float16)) for j in range(4)}
        tf.save(tmp_path / shard, sd)
        weight_map.update({name: shard for name in sd})
        tensors.update(sd)
    (tmp_path / "training_args.bin").write_bytes(b"broken")
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1.5}, "weight_map": weight_map}, indent=2))
    d = dump(tmp_path)
    assert d["shards"] == 3
    assert d["warnings"] == 0
    assert {n: f"pytorch_model-{t['shard'] + 1:05}-of-00003.bin" for n, t in d["tensors"].items()} == weight_map
    for name, tensor in tensors.items():
        check(d["tensors"][name], tensor)
    index.unlink()
    assert len(dump(tmp_path)["tensors"]) == 12  # all of the folder's *.bin
    (tmp_path / shard).unlink()
    index.write_text(json.dumps({"weight_map": weight_map}))
    assert f"tensor 't.2.0': {tmp_path / shard}: cannot open" in refused(tmp_path)


class Evil:
    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return tuple(iter(part.items()) if isinstance(part, dict) else part for part in self.reduced)


def test_pickles_that_would_run_code_are_refused_and_run_nothing(tmp_path):
    mark = tmp_path / "mark"
    touch = f"touch {mark}"
    evils = [
        Evil(os.system, (touch,)),
        Evil(exec, (f"open({str(mark)!r}, 'w')",)),
        Evil(eval, (f"open({str(mark)!r}, 'w')",)),
        Evil(__import__, ("os",)),
        Evil(subprocess.Popen, (["touch", str(mark)],)),
        Evil(shutil.copy, (__file__, str(mark))),
        Evil(collections.OrderedDict, (), Evil(os.system, (touch,))),
        Evil(collections.OrderedDict, (), None, None, {"w": Evil(os.system, (touch,))}),
    ]
    path = tmp_path / "evil.bin"
    for evil in evils:
        for protocol in range(6):
            for obj in (evil, {"w": evil}, {"state_dict": {"w": [(evil,)]}}):
                tf.write_zip(path, {"archive/data.pkl": pickle.dumps(obj, protocol=protocol)})
                assert "evil.bin: archive/data.pkl: pickle: " in refused(path)
                assert not mark.exists()
    assert "the global 'posix.system' is not allowed" in refused_pickle(path, Evil(os.system, (touch,)), 2)
    assert "opcode STACK_GLOBAL" in refused_pickle(path, Evil(eval, ("1",)), 4)
    assert "the global 'builtins.eval' is not allowed" in refused_pickle(path, Evil(eval, ("1",)), 4)
    pickle.loads(pickle.dumps(evils[0]))
    assert mark.exists()  # they do run where something lets them


def refused_pickle(path, obj, protocol):
    tf.write_zip(path, {"archive/data.pkl": pickle.dumps(obj, protocol=protocol)})
    return refused(path)


def test_archives_of_other_kinds_are_refused(tmp_path):
    sd = {"w": tf.Tensor.of(np.zeros(1000, np.float32))}
    path = tmp_path / "a.bin"
    tf.save(path, sd, compression=zipfile.ZIP_DEFLATED)
    assert "expected a stored entry, found compression method 8" in refused(path)
    tf.save(path, sd, extra={"archive/code/__torch__.py": b"", "archive/constants.pkl": b""})
    assert "TorchScript" in refused(path)
    tf.save(path, sd, extra={"archive/byteorder": b"big"})
    assert "expected 'little', found 'big'" in refused(path)
    tf.save(path, sd, extra={"archive/../../x": b""})
    assert "expected a name that stays in its folder" in refused(path)
    np.savez(tmp_path / "b.npz", a=np.zeros(3))
    assert "data.pkl" in refused(tmp_path / "b.npz")
    path.write_bytes(pickle.dumps({"w": [1.0] * 10}, protocol=2))
    assert "a bare pickle is not supported" in refused(path)
    for protocol in (0, 1):
        path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, protocol=protocol))
        refused(path)
    path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) + b"more")
    assert "before version 1.6" in refused(path)


def test_changed_files_are_read_or_refused_but_never_crash(tmp_path):
    rng = random.Random(1)
    path = tmp_path / "a.bin"
    accepted = 0
    for _ in range(300):
        data = bytearray(GOLDEN)
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            at = rng.randrange(len(data))
            kind = rng.randrange(3)
            if kind == 0:
                data[at] = rng.randrange(256)
            elif kind == 1:
                del data[at : at + rng.choice([1, 1, 8])]
            else:
                data[at:at] = rng.randbytes(rng.choice([1, 1, 8]))
        path.write_bytes(data)
        p = run(path)
        assert p.returncode in (0, 1), p.stderr
        accepted += p.returncode == 0
        assert p.returncode == 0 or "a.bin" in p.stderr
    assert 10 < accepted < 290  # padding and values may change


TORCH = """
import json, sys
import torch
folder = sys.argv[1]
torch.manual_seed(1)
kinds = dict(F32=torch.float32, F16=torch.float16, BF16=torch.bfloat16, F64=torch.float64, I8=torch.int8)
kinds.update(U8=torch.uint8, I16=torch.int16, I32=torch.int32, I64=torch.int64, BOOL=torch.bool)
sd = {}
for name, dtype in kinds.items():
    x = (torch.rand(6, 10) * 100).to(dtype)
    sd[name] = x
    sd[name + ".t"] = x.t()
    sd[name + ".slice"] = x[1:5:2, 3:9]
    sd[name + ".tied"] = x.view(-1)
    sd[name + ".scalar"] = x[2, 3]
    sd[name + ".empty"] = x[:0]
    sd[name + ".expanded"] = x[0].expand(4, 10)
sd["parameter"] = torch.nn.Parameter(torch.rand(3))
torch.save(sd, folder + "/a.pt")
torch.save({"model": sd, "epoch": 1, "optimizer": torch.optim.Adam([sd["parameter"]]).state_dict()}, folder + "/b.pt")
torch.save(sd, folder + "/legacy.pt", _use_new_zipfile_serialization=False)
torch.jit.script(torch.nn.Linear(2, 2)).save(folder + "/script.pt")
torch.save(torch.nn.Linear(2, 2), folder + "/module.pt")
expected = {}
for name, x in sd.items():
    c = x.detach().clone(memory_format=torch.contiguous_format)
    b = bytes(c.flatten().view(torch.uint8).tolist()) if c.numel() else b""
    expected[name] = [name.split(".")[0].replace("parameter", "F32"), list(x.shape), b.hex()]
print(torch.__version__)
print(json.dumps(expected))
"""


def test_files_of_an_installed_pytorch(tmp_path):
    for python in (sys.executable, "/usr/bin/python3"):
        p = subprocess.run([python, "-c", TORCH, str(tmp_path)], capture_output=True, text=True, timeout=300)
        if p.returncode == 0:
            break
    else:
        if "No module named 'torch'" in p.stderr:
            pytest.skip("PyTorch is not installed: its own files were read from the copy in this test only")
        raise AssertionError(p.stderr)
    expected = json.loads(p.stdout.splitlines()[-1])
    for file in ("a.pt", "b.pt"):
        d = dump(tmp_path / file)["tensors"]
        assert set(d) == set(expected)
        for name, (dtype, shape, data) in expected.items():
            assert (d[name]["dtype"], d[name]["shape"]) == (dtype, shape), name
            assert d[name]["fnv1a"] == fnv1a(bytes.fromhex(data)), name
    assert "before version 1.6" in refused(tmp_path / "legacy.pt")
    assert "TorchScript" in refused(tmp_path / "script.pt")
    assert "torch.nn.modules.linear.Linear' is not allowed" in refused(tmp_path / "module.pt")
