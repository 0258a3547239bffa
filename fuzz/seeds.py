#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes small seeds for the fuzz harnesses: fuzz/seeds.py OUT makes OUT/gguf/ and OUT/safetensors/, one
file for each value type, tensor type and dtype. Standard library only; nothing here is kept in the repository."""

import json
import os
import struct
import sys


def string(s):
    b = s.encode()
    return struct.pack("<Q", len(b)) + b


def value(t, count=1):
    if t == 8:
        return string("text") * count
    sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
    return b"".join((i % 2).to_bytes(sizes[t], "little") for i in range(count))


def gguf(values, tensors=(), alignment=32, version=3):
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(values)) + b"".join(values)
    offset = 0
    for name, ne, t, size in tensors:
        out += string(name) + struct.pack("<I", len(ne)) + struct.pack(f"<{len(ne)}Q", *ne)
        out += struct.pack("<IQ", t, offset)
        offset += -(-size // alignment) * alignment
    out += bytes(-len(out) % alignment)
    return out + bytes(offset)


def gguf_seeds():
    yield "empty", gguf([])
    yield "v2", gguf([], version=2)
    for t in [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12]:
        yield f"value-{t}", gguf([string("k") + struct.pack("<I", t) + value(t)])
        yield f"array-{t}", gguf([string("k") + struct.pack("<IIQ", 9, t, 3) + value(t, 3)])
    align = string("general.alignment") + struct.pack("<II", 4, 8)
    yield "alignment", gguf([align], [("a", [3], 0, 12), ("b", [1], 0, 4)], 8)
    yield "scalar", gguf([], [("s", [], 0, 4)])
    blocks = {0: (1, 4), 1: (1, 2), 2: (32, 18), 8: (32, 34), 12: (256, 144), 24: (1, 1), 30: (1, 2), 34: (256, 54)}
    blocks |= {35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18), 42: (64, 18)}
    for t, (n, size) in blocks.items():
        yield f"tensor-{t}", gguf([], [("a", [n, 2, 1], t, 2 * size), ("b", [n], t, size)])
    yield "tensor-36", gguf([], [("a", [64, 2], 36, 64), ("b", [128, 1, 1, 2], 36, 96)])
    yield "tensor-135", gguf([], [("a", [64, 2], 135, 40)])


def safetensors_seeds():
    yield "empty", {}, 0
    yield "metadata", {"__metadata__": {"format": "pt"}}, 0
    sizes = {"BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2, "I32": 4, "U32": 4, "F32": 4}
    sizes |= {"I64": 8, "U64": 8, "F64": 8, "F8_E4M3": 1}
    for name, n in sizes.items():
        a = {"dtype": name, "shape": [2, 1], "data_offsets": [0, 2 * n]}
        b = {"dtype": name, "shape": [], "data_offsets": [2 * n, 3 * n]}
        c = {"dtype": name, "shape": [0, 5], "data_offsets": [3 * n, 3 * n]}
        yield name, {"a": a, "b": b, "c": c}, 3 * n


def main(out):
    for folder in ("gguf", "safetensors"):
        os.makedirs(os.path.join(out, folder), exist_ok=True)
    for name, data in gguf_seeds():
        with open(os.path.join(out, "gguf", name), "wb") as f:
            f.write(data)
    for name, header, size in safetensors_seeds():
        text = json.dumps(header).encode()
        with open(os.path.join(out, "safetensors", name), "wb") as f:
            f.write(struct.pack("<Q", len(text)) + text + bytes(size))


if __name__ == "__main__":
    main(sys.argv[1])
