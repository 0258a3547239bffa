#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a Hugging Face checkpoint with random bf16 masters, by default in the shape of BitNet-b1.58-2B-4T (4.8 GB), for
measuring conversions. Weights are streamed: memory stays small. Tokenizer and the rest of the config are the sample
model's. Usage: make_random_checkpoint.py FOLDER [--layers N] [--hidden N] ..."""

import argparse
import json
import pathlib
import shutil
import struct

import numpy as np

SAMPLE = pathlib.Path(__file__).resolve().parents[2] / "models" / "bard"


def shapes(a):
    head = a.hidden // a.heads
    yield "model.embed_tokens.weight", [a.vocab, a.hidden]
    for i in range(a.layers):
        p = f"model.layers.{i}."
        for n in ("input_layernorm", "post_attention_layernorm", "self_attn.attn_sub_norm"):
            yield p + n + ".weight", [a.hidden]
        yield p + "mlp.ffn_sub_norm.weight", [a.ffn]
        for n, rows in (("q", a.hidden), ("k", a.kv_heads * head), ("v", a.kv_heads * head), ("o", a.hidden)):
            yield p + f"self_attn.{n}_proj.weight", [rows, a.hidden]
        yield p + "mlp.gate_proj.weight", [a.ffn, a.hidden]
        yield p + "mlp.up_proj.weight", [a.ffn, a.hidden]
        yield p + "mlp.down_proj.weight", [a.hidden, a.ffn]
    yield "model.norm.weight", [a.hidden]


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("folder", type=pathlib.Path)
    for name, value in (("layers", 30), ("hidden", 2560), ("ffn", 6912), ("heads", 20), ("kv-heads", 5),
                        ("vocab", 128256), ("seed", 1)):
        p.add_argument("--" + name, type=int, default=value)
    a = p.parse_args()
    a.folder.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(SAMPLE / name, a.folder / name)
    config = json.loads((SAMPLE / "config.json").read_text())
    config.pop("quantization_config", None)
    config.update(hidden_size=a.hidden, intermediate_size=a.ffn, num_attention_heads=a.heads, vocab_size=a.vocab,
                  num_key_value_heads=a.kv_heads, num_hidden_layers=a.layers, head_dim=a.hidden // a.heads)
    (a.folder / "config.json").write_text(json.dumps(config))
    header, offset = {}, 0
    for name, shape in shapes(a):
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    rng = np.random.default_rng(a.seed)
    with open(a.folder / "model.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, shape in shapes(a):
            left = int(np.prod(shape))
            while left:
                n = min(left, 1 << 22)
                r = rng.integers(0, 1 << 16, n, np.uint16)
                # Random signs and mantissas, four binades: 0.0039 to 0.062; norms all ones.
                f.write((r & 0x81FF | 0x3B80).astype("<u2") if len(shape) > 1 else np.full(n, 0x3F80, "<u2"))
                left -= n


if __name__ == "__main__":
    main()
