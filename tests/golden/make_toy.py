# SPDX-License-Identifier: Apache-2.0
"""Small random checkpoints as Hugging Face folders, for the paths that the built-in model does not take: bf16 masters,
packed weights whose scale divides, low-rank corrections of a different rank on every projection, SubLN pairs on all
seven projections, SiLU, rows that straddle the groups of 128 of I2_S. The tokenizer is that of models/bard. Their
output means nothing; the oracle is reference.py. As a program: make_toy.py NAME FOLDER."""

import json
import os
import pathlib
import shutil
import struct
import sys

import numpy as np

VOCAB = 2048
PROJECTIONS = {
    "self_attn.q_proj": ("q", "e"),
    "self_attn.k_proj": ("kv", "e"),
    "self_attn.v_proj": ("kv", "e"),
    "self_attn.o_proj": ("e", "q"),
    "mlp.gate_proj": ("f", "e"),
    "mlp.up_proj": ("f", "e"),
    "mlp.down_proj": ("e", "f"),
}

# hidden, heads, kv_heads, ffn, layers; ranks of q, k, v, o, gate, up, down (0: none).
TOYS = {
    # 192 = 1.5 groups, 320 = 2.5 groups; three query heads share the one kv head; weight_scale divides.
    "toy-packed": {"shape": (192, 3, 1, 320, 2), "packed": True},
    # Masters that absmean ternarises, SiLU (architecture bitnet), heads of 32.
    "toy-silu": {"shape": (128, 4, 2, 320, 2), "act": "silu"},
    # A low-rank term on every projection but one; 16, 32 and 64 have kernels of their own, the rest share one.
    "toy-lrc": {"shape": (192, 3, 1, 320, 2), "ranks": (1, 16, 5, 0, 32, 7, 64)},
    # Pairs on all seven, some with a low-rank term inside the pair.
    "toy-subln": {"shape": (128, 4, 2, 192, 2), "act": "silu", "pairs": True, "ranks": (0, 3, 0, 8, 0, 128, 17)},
    # The odd width of SmolLM2-135M: 576 = 4.5 groups, nine heads over three.
    "toy-576": {"shape": (576, 9, 3, 448, 1), "packed": True},
}


def to_bf16(x):
    u = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype("<u2").reshape(x.shape)


def write_safetensors(path, tensors):
    """tensors: name -> array, <u2 meaning BF16."""
    header, offset = {}, 0
    for name, a in tensors.items():
        kind = {"uint16": "BF16", "uint8": "U8", "float32": "F32"}[a.dtype.name]
        header[name] = {"dtype": kind, "shape": list(a.shape), "data_offsets": [offset, offset + a.nbytes]}
        offset += a.nbytes
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for a in tensors.values():
            f.write(a.tobytes())


def small(toy):
    return 1e-3 if toy.get("pairs") else 3e-3


def add_projection(tensors, base, rows, cols, toy, rank, rng):
    # What v and up compute is small, and so is the input of the norms behind them: as small as their epsilon's root,
    # or a wrong epsilon would not be seen.
    gain = small(toy) if base.endswith(("v_proj", "up_proj")) else 1.0
    if toy.get("pairs"):
        tensors[base + ".0.weight"] = to_bf16(1 + 0.3 * rng.standard_normal(cols))
        base += ".1"
    if toy.get("packed"):
        codes = rng.choice(np.array([0, 1, 2], np.uint8), (4, rows // 4, cols), p=[0.3, 0.4, 0.3])
        tensors[base + ".weight"] = codes[0] | codes[1] << 2 | codes[2] << 4 | codes[3] << 6
        tensors[base + ".weight_scale"] = to_bf16(np.array([np.sqrt(cols) / gain]))  # divides
    else:
        tensors[base + ".weight"] = to_bf16(gain * rng.standard_normal((rows, cols)) / np.sqrt(cols))
    if rank:
        tensors[base + ".lrc_U"] = to_bf16(0.3 * gain * rng.standard_normal((rows, rank)) / np.sqrt(rank))
        tensors[base + ".lrc_V"] = to_bf16(rng.standard_normal((cols, rank)) / np.sqrt(cols))


def make(name, folder, bard):
    """Writes checkpoint NAME into `folder`, which is created; the same bytes at every call."""
    toy = TOYS[name]
    hidden, heads, kv_heads, ffn, layers = toy["shape"]
    dim = hidden // heads
    size = {"e": hidden, "q": hidden, "kv": kv_heads * dim, "f": ffn}
    ranks = toy.get("ranks", (0,) * 7)
    rng = np.random.default_rng(sorted(TOYS).index(name))

    def norm(n, size=1.0):
        return to_bf16(size * (1 + 0.3 * rng.standard_normal(n)))

    # The logits' deviation becomes 3 to 4, as the sample model's.
    tensors = {"model.embed_tokens.weight": to_bf16(3.5 / np.sqrt(hidden) * rng.standard_normal((VOCAB, hidden)))}
    for i in range(layers):
        p = f"model.layers.{i}."
        # Before a norm of the projection's own the block's norm makes its input small, for the same reason.
        tensors[p + "input_layernorm.weight"] = norm(hidden, small(toy) if toy.get("pairs") else 1.0)
        tensors[p + "post_attention_layernorm.weight"] = norm(hidden, small(toy) if toy.get("pairs") else 1.0)
        if not toy.get("pairs"):
            tensors[p + "self_attn.attn_sub_norm.weight"] = norm(hidden)
            tensors[p + "mlp.ffn_sub_norm.weight"] = norm(ffn)
        for (projection, (rows, cols)), rank in zip(PROJECTIONS.items(), ranks):
            add_projection(tensors, p + projection, size[rows], size[cols], toy, rank, rng)
    tensors["model.norm.weight"] = norm(hidden)

    config = {
        "architectures": ["BitnetForCausalLM" if toy.get("pairs") else "BitNetForCausalLM"],
        "model_type": "llama" if toy.get("pairs") else "bitnet",
        "hidden_act": toy.get("act", "relu2"),
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "vocab_size": VOCAB,
        "bos_token_id": 2044,
        "eos_token_id": 2046,
        "torch_dtype": "bfloat16",
    }
    if toy.get("packed"):  # no linear_class: weight_scale divides
        config["quantization_config"] = {"quant_method": "bitnet", "quantization_mode": "offline"}
    elif not toy.get("pairs"):
        config["quantization_config"] = {
            "quant_method": "bitnet",
            "linear_class": "autobitlinear",
            "quantization_mode": "online",
        }
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copyfile(pathlib.Path(bard) / file, folder / file)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in TOYS:
        sys.exit(f"usage: make_toy.py NAME FOLDER, NAME one of {', '.join(TOYS)}")
    source = os.environ.get("WF_SOURCE", pathlib.Path(__file__).resolve().parents[2])
    make(sys.argv[1], sys.argv[2], pathlib.Path(source) / "models" / "bard")
