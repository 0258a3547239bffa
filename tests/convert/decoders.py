# SPDX-License-Identifier: Apache-2.0
"""GGUF files and their tensors decoded without our reader: the container by struct, ternary types by NumPy after
formats.md 2, or by PyPI gguf where that knows them. Shared by the tests of wf-convert and wf-quantize."""

import struct

import gguf
import numpy as np

# name -> (id, elements of a block, bytes of a block, bytes before a row)
TYPES = {
    "f32": (0, 1, 4, 0), "f16": (1, 1, 2, 0), "bf16": (30, 1, 2, 0), "q4_0": (2, 32, 18, 0), "q8_0": (8, 32, 34, 0),
    "q4_k": (12, 256, 144, 0), "q6_k": (14, 256, 210, 0), "tq1_0": (34, 256, 54, 0), "tq2_0": (35, 256, 66, 0),
    "i2_s": (36, 1, 0, 0), "q2_0": (42, 64, 18, 0), "iq1_bn": (134, 64, 13, 2), "iq2_bn": (135, 64, 16, 4),
    "iq2_bn_r4": (335, 64, 16, 4),
}
NAMES = {t[0]: name for name, t in TYPES.items()}


def bf16_to_f32(raw):
    return (raw.astype(np.uint32) << 16).view(np.float32)


def tensor_bytes(kind, ne):
    """Bytes of a tensor of this type id."""
    n = int(np.prod(ne))
    _, block, size, head = TYPES[NAMES[kind]]
    if kind == 36:
        return n // 4 + 32
    assert ne[0] % block == 0
    return n // ne[0] * (head + ne[0] // block * size)


def raw_tensors(path):
    """Keys, and name -> (type id, ne, bytes), by a parser of this test's own: PyPI gguf does not know I2_S."""
    data = path.read_bytes()
    at = 8

    def take(fmt):
        nonlocal at
        values = struct.unpack_from("<" + fmt, data, at)
        at += struct.calcsize("<" + fmt)
        return values[0] if len(values) == 1 else values

    def string():
        nonlocal at
        n = take("Q")
        at += n
        return data[at - n : at]

    sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

    def value(kind):
        nonlocal at
        if kind == 8:
            return string().decode()
        if kind == 9:
            element, n = take("IQ")
            return [value(element) for _ in range(n)]
        fmt = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}[kind]
        assert struct.calcsize("<" + fmt) == sizes[kind]
        return take(fmt)

    n_tensors, n_kv = take("QQ")
    keys = {}
    for _ in range(n_kv):
        name = string().decode()
        keys[name] = value(take("I"))
    infos = []
    for _ in range(n_tensors):
        name = string().decode()
        ne = [take("Q") for _ in range(take("I"))]
        kind, offset = take("IQ")
        infos.append((name, kind, ne, offset))
    start = (at + 31) // 32 * 32
    out = {}
    for name, kind, ne, offset in infos:
        out[name] = (kind, ne, np.frombuffer(data, np.uint8, tensor_bytes(kind, ne), start + offset))
    return keys, out


def as_f32(kind, ne, raw):
    """A dense tensor's values."""
    shape = ne[::-1]
    if NAMES[kind][0] == "q":
        rows = raw.reshape(-1, tensor_bytes(kind, ne[:1]))
        return gguf.quants.dequantize(rows, gguf.GGMLQuantizationType(kind)).reshape(shape)
    if kind == 0:
        return raw.view("<f4").reshape(shape)
    if kind == 1:
        return raw.view("<f2").astype(np.float32).reshape(shape)
    assert kind == 30
    return bf16_to_f32(raw.view("<u2")).reshape(shape)



def decode_i2s(raw, n):
    codes = raw[: n // 4].reshape(-1, 32)
    groups = np.stack([(codes >> s) & 3 for s in (6, 4, 2, 0)], axis=1)  # group, quarter, byte
    scale = raw[n // 4 : n // 4 + 4].view("<f4")[0]
    return groups.reshape(n).astype(np.int8) - 1, scale


def f16(raw):
    return np.ascontiguousarray(raw).view("<f2").astype(np.float32)


def decode_ternary(kind, ne, raw):
    """(values, stored scales), both in the shape of the tensor; floats: sign and magnitude."""
    shape, k, n = ne[::-1], ne[0], int(np.prod(ne))
    name = NAMES[kind]
    if name in ("f32", "f16", "bf16"):
        x = as_f32(kind, ne, raw)
        return np.sign(x).astype(np.int8), np.abs(x)
    if name == "i2_s":
        values, scale = decode_i2s(raw, n)
        return values.reshape(shape), np.full(shape, scale, np.float32)
    if name in ("tq1_0", "tq2_0"):
        blocks = raw.reshape(-1, TYPES[name][2])
        d = f16(blocks[:, -2:]).reshape(-1, 1)
        one = blocks.copy()  # with d = 1 the values come out as they are
        one[:, -2:] = np.frombuffer(np.float16(1).tobytes(), np.uint8)
        x = gguf.quants.dequantize(one, gguf.GGMLQuantizationType(kind))
        return x.reshape(shape).astype(np.int8), np.repeat(d, 256, 1).reshape(shape)
    if name == "q2_0":
        blocks = raw.reshape(-1, 18)
        codes = np.stack([(blocks[:, 2:] >> s) & 3 for s in (0, 2, 4, 6)], axis=2)
        return codes.reshape(shape).astype(np.int8) - 1, np.repeat(f16(blocks[:, :2]), 64, 1).reshape(shape)
    rows = raw.reshape(n // k, -1)
    if name == "iq2_bn":
        blocks = rows[:, 4:].reshape(-1, k // 64, 16)
        codes = np.stack([(blocks >> s) & 3 for s in (0, 2, 4, 6)], axis=2)  # row, block, quarter, byte
        d = np.ascontiguousarray(rows[:, :4]).view("<f4")
    elif name == "iq2_bn_r4":
        fours = raw.reshape(n // k // 4, -1)
        d = np.ascontiguousarray(fours[:, :16]).view("<f4").reshape(-1, 1)
        b = fours[:, 16:].reshape(-1, k // 64, 4, 4, 4)  # group, block, l, row, i
        codes = np.stack([(b >> s) & 3 for s in (0, 2, 4, 6)], axis=4)  # ..., field, i
        codes = codes.transpose(0, 3, 1, 2, 4, 5)
    else:
        assert name == "iq1_bn"
        b = rows[:, 2:].reshape(-1, k // 64, 13).astype(np.uint32)
        power = np.array([81, 27, 9, 3, 1])
        j = np.arange(64)
        q, r = j // 16, j % 16
        byte = np.where(r < 15, 3 * q + np.minimum(r, 14) // 5, 12)
        mult = np.where(r < 15, power[r % 5], power[q])
        codes = (((b[:, :, byte] * mult) & 255) * 3) >> 8
        d = f16(rows[:, :2])
    return codes.reshape(shape).astype(np.int8) - 1, np.repeat(d, k, 1).reshape(shape)


def effective(tensors, base):
    """(values, scales) of projection `base` with its .scale tensor, if there is one."""
    kind, ne, raw = tensors[base + ".weight"]
    values, scales = decode_ternary(kind, ne, raw)
    if base + ".scale" in tensors:
        rest = as_f32(*tensors[base + ".scale"])
        scales = scales * (rest if rest.size == 1 else rest.reshape(-1, 1, 1))
    return values, scales.astype(np.float32)
