# SPDX-License-Identifier: Apache-2.0
"""A GGUF as Python data, read and written whole; and the ternary types' layouts (formats.md 2.7-2.12) in NumPy, to see
what wf wrote and to write what wf does not: I2_S in the layouts that have no mark in the file. Trusts its input."""

import math
import struct

import numpy as np

F32, F16, Q4_0, Q8_0, Q4_K, Q6_K, BF16 = 0, 1, 2, 8, 12, 14, 30
TQ1_0, TQ2_0, I2_S, Q2_0, IQ1_BN, IQ2_BN, IQ2_BN_R4 = 34, 35, 36, 42, 134, 135, 335
Q2_0_128 = 0x10000 + Q2_0  # blocks of 128, without a mark in the file
# Elements and bytes of a block, bytes before a row.
BLOCKS = {F32: (1, 4, 0), F16: (1, 2, 0), BF16: (1, 2, 0), Q4_0: (32, 18, 0), Q8_0: (32, 34, 0), Q4_K: (256, 144, 0),
          Q6_K: (256, 210, 0), TQ1_0: (256, 54, 0), TQ2_0: (256, 66, 0), Q2_0: (64, 18, 0), IQ1_BN: (64, 13, 2),
          IQ2_BN: (64, 16, 4), IQ2_BN_R4: (64, 16, 4), Q2_0_128: (128, 34, 0)}  # fmt: skip
SCALARS = "BbHhIif?"  # by type id; 8 string, 9 array, then:
WIDE = {10: "Q", 11: "q", 12: "d"}


class Tensor:
    """ne: innermost first. data: bytes."""

    def __init__(self, ne, kind, data):
        self.ne, self.kind, self.data = list(ne), kind, data

    @property
    def rows(self):
        return math.prod(self.ne[1:])


def size(ne, kind):
    if kind == I2_S:
        return math.prod(ne) // 4 + 32
    elements, block, head = BLOCKS[kind]
    return (ne[0] // elements * block + head) * math.prod(ne[1:])


class Gguf:
    """metadata: key -> (type id, value); an array's value is (type id of its elements, list)."""

    def __init__(self, path):
        self.b, self.at = path.read_bytes(), 0
        assert self.b[:4] == b"GGUF"
        self.at = 4
        version, tensors, keys = self.take("I"), self.take("Q"), self.take("Q")
        assert version == 3
        self.metadata = {}
        for _ in range(keys):
            key = self.string()
            kind = self.take("I")
            self.metadata[key] = (kind, self.value(kind))
        table = []
        for _ in range(tensors):
            name = self.string()
            ne = [self.take("Q") for _ in range(self.take("I"))]
            table.append((name, ne, self.take("I"), self.take("Q")))
        start = -(-self.at // 32) * 32
        self.tensors = {
            name: Tensor(ne, kind, self.b[start + offset : start + offset + size(ne, kind)])
            for name, ne, kind, offset in table
        }

    def take(self, code):
        (v,) = struct.unpack_from("<" + code, self.b, self.at)
        self.at += struct.calcsize("<" + code)
        return v

    def string(self):
        n = self.take("Q")
        self.at += n
        return self.b[self.at - n : self.at]

    def value(self, kind):
        if kind == 8:
            return self.string()
        if kind == 9:
            element, count = self.take("I"), self.take("Q")
            return element, [self.value(element) for _ in range(count)]
        return self.take(WIDE.get(kind) or SCALARS[kind])

    def write(self, path):
        def string(s):
            return struct.pack("<Q", len(s)) + s

        def value(kind, v):
            if kind == 8:
                return string(v)
            if kind == 9:
                return struct.pack("<IQ", v[0], len(v[1])) + b"".join(value(v[0], e) for e in v[1])
            return struct.pack("<" + (WIDE.get(kind) or SCALARS[kind]), v)

        head = b"GGUF" + struct.pack("<IQQ", 3, len(self.tensors), len(self.metadata))
        for key, (kind, v) in self.metadata.items():
            head += string(key) + struct.pack("<I", kind) + value(kind, v)
        body = b""
        for name, t in self.tensors.items():
            assert len(t.data) == size(t.ne, t.kind), name
            head += string(name) + struct.pack(f"<I{len(t.ne)}QIQ", len(t.ne), *t.ne, t.kind & 0xFFFF, len(body))
            body += t.data + bytes(-len(t.data) % 32)
        path.write_bytes(head + bytes(-len(head) % 32) + body)

    def rename_architecture(self, old, new):
        """general.architecture and the keys that begin with it."""
        assert self.metadata["general.architecture".encode()] == (8, old.encode())
        self.metadata = {
            k.replace(old.encode() + b".", new.encode() + b".", 1) if k.startswith(old.encode() + b".") else k: v
            for k, v in self.metadata.items()
        }
        self.metadata[b"general.architecture"] = (8, new.encode())


def i2s_codes(data, count, layout="x86"):
    """Codes 0 to 2 of `count` elements; layout x86 or arm64."""
    group = {"x86": 128, "arm64": 64}[layout]
    packed = np.frombuffer(data, np.uint8, count // 4).reshape(-1, 1, group // 4)
    return ((packed >> np.array([6, 4, 2, 0], np.uint8)[None, :, None]) & 3).reshape(-1)


def i2s_bytes(codes, layout, width):
    """The packed codes of an I2_S tensor whose rows are `width` long, without the scale's 32 bytes."""
    # x4: four rows lie in a byte, a column of each.
    across = {"x86": 32, "arm64": 16, "x4": width}[layout]
    c = codes.reshape(-1, 4, across).astype(np.uint8)
    return (c[:, 0] << 6 | c[:, 1] << 4 | c[:, 2] << 2 | c[:, 3]).tobytes()


def q2_0_128(t):
    """A Q2_0 tensor in blocks of 128: two blocks, of the same scale, become one."""
    b = np.frombuffer(t.data, np.uint8).reshape(-1, 2, 18)
    assert np.array_equal(b[:, 0, :2], b[:, 1, :2])
    return Tensor(t.ne, Q2_0_128, np.concatenate([b[:, 0], b[:, 1, 2:]], axis=1).tobytes())


def trits(b, digits):
    """The base-3 digits of bytes, most significant first: last axis `digits`."""
    v = b.astype(np.uint16)[..., None] * np.array([1, 3, 9, 27, 81], np.uint16)[:digits] & 0xFF
    return (v * 3) >> 8


def pairs(b):
    """Four codes a byte, the first in the lowest bits: a new axis before the last."""
    return (b[..., None, :] >> np.array([0, 2, 4, 6], np.uint8)[:, None]) & 3


def decode(t):
    """(values -1, 0, 1 as rows x ne[0], scales, broadcastable to that) of a ternary tensor."""
    n, rows = t.ne[0], t.rows
    if t.kind == I2_S:
        codes = i2s_codes(t.data, n * rows).reshape(rows, n)
        return codes.astype(np.int8) - 1, np.frombuffer(t.data, "<f4", 1, n * rows // 4)
    elements, block, head = BLOCKS[t.kind]
    raw = np.frombuffer(t.data, np.uint8)
    if t.kind == IQ2_BN_R4:
        raw = raw.reshape(rows // 4, -1)
        scales = np.ascontiguousarray(raw[:, :16]).view("<f4").reshape(rows, 1)
        # [group][block][l][k][i] holds columns 16 l + i + 4 s of row k.
        c = raw[:, 16:].reshape(rows // 4, n // 64, 4, 4, 4)
        c = (c[..., None] >> np.array([0, 2, 4, 6], np.uint8)) & 3  # ... l k i s
        c = c.transpose(0, 3, 1, 2, 5, 4)  # group k block l s i
        return c.reshape(rows, n).astype(np.int8) - 1, scales
    raw = raw.reshape(rows, -1)
    if head:
        scales = np.ascontiguousarray(raw[:, :head]).view("<f4" if head == 4 else "<f2").astype(np.float32)
    b = raw[:, head:].reshape(rows, n // elements, block)
    if t.kind == IQ2_BN:
        codes = pairs(b)
    elif t.kind == IQ1_BN:
        many = trits(b[..., :12].reshape(rows, -1, 4, 3), 5)[..., ::-1]  # multiplier 81 takes the last digit first
        one = trits(b[..., 12:], 5)[..., ::-1][..., :4].reshape(rows, -1, 4, 1)
        codes = np.concatenate([many.reshape(rows, -1, 4, 15), one], axis=-1)
    elif t.kind == Q2_0:
        scales = np.ascontiguousarray(b[..., :2]).view("<f2").repeat(64, axis=-1).reshape(rows, n)
        codes = pairs(b[..., 2:]).swapaxes(-1, -2)
    elif t.kind == TQ2_0:
        scales = np.ascontiguousarray(b[..., 64:]).view("<f2").repeat(256, axis=-1).reshape(rows, n)
        codes = pairs(b[..., :64].reshape(rows, -1, 2, 32))
    else:
        assert t.kind == TQ1_0
        scales = np.ascontiguousarray(b[..., 52:]).view("<f2").repeat(256, axis=-1).reshape(rows, n)
        parts = [(b[..., :32], 5), (b[..., 32:48], 5), (b[..., 48:52], 4)]
        codes = np.concatenate([trits(x, d).swapaxes(-1, -2).reshape(rows, n // 256, -1) for x, d in parts], axis=-1)
    return codes.reshape(rows, n).astype(np.int8) - 1, scales.astype(np.float32)


def floats(t):
    """Values of a tensor of floats, rows x ne[0]."""
    if t.kind == BF16:
        a = (np.frombuffer(t.data, "<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        a = np.frombuffer(t.data, {F32: "<f4", F16: "<f2"}[t.kind]).astype(np.float32)
    return a.reshape(t.rows, t.ne[0])
