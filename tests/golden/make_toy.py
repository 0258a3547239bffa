# SPDX-License-Identifier: Apache-2.0
"""Small random checkpoints as Hugging Face folders: every architecture, form of weights, form of SubLN and low-rank
correction that wf-convert reads. The tokenizer is that of models/bard. Their output means nothing; the oracle is
reference.py. As a program: make_toy.py NAME FOLDER.

TOYS are the ones of test_toys.py: widths that straddle I2_S's groups of 128. MATRIX are those of test_matrix.py: widths
that every tensor type can hold, each architecture without and with low-rank correction and SubLN."""

import json
import os
import pathlib
import shutil
import struct
import sys

import numpy as np

VOCAB = 2048
ATTENTION = {
    "self_attn.q_proj": ("q", "e"),
    "self_attn.k_proj": ("kv", "e"),
    "self_attn.v_proj": ("kv", "e"),
    "self_attn.o_proj": ("e", "q"),
}
FFN = {
    "mlp.gate_proj": ("f", "e"),
    "mlp.up_proj": ("f", "e"),
    "mlp.down_proj": ("e", "f"),
}
MIXTRAL = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}

# The fields of a toy (those without a comment in the table below have a default):
#   seed      of the random numbers
#   shape     hidden, heads, kv_heads, ffn, layers
#   head_dim  if it is not hidden / heads
#   type      model_type: bitnet, llama, qwen2, qwen3, mixtral, qwen2_moe, qwen3_moe
#   act       hidden_act
#   form      of the ternary weights: "masters" (bf16, to be ternarised by absmean), "divide" and "multiply" (packed
#             uint8 with such a scale), "ternary" (bf16 of three values), "quantized" (an empty weight beside a ternary
#             weight_quantized)
#   subln     norms on projections' inputs: "" none, "model" (attn_sub_norm, ffn_sub_norm), "two" and "all" (pairs .0
#             and .1), "rms_norm" (of use_rms_norm), "norm" (<proj>.norm.weight, eps of the model). The
#             experts of a mixture have none.
#   ranks     of q, k, v, o, gate, up, down; 0: none. Of a mixture's FFNs only the shared expert has them.
#   lrc       spelling of the factors: "plain" (lrc_U, lrc_V), "linear" (lrc_U_linear.weight, lrc_V_linear.weight, the
#             latter transposed) or "lora" (lora_B.weight, lora_A.weight, the latter transposed, and lora_alpha)
#   lrc_bits  QLRC: plain factors that have yet to be rounded to so many bits
#   ln_names  True: the sub-norms are called as in 1bitLLM's checkpoints
#   experts, expert_ffn, shared_ffn, fused   of a mixture; 2 of the experts are used
#   tied      False: a head of its own
#   rope      "llama3": its factors
TOYS = {
    # 192 = 1.5 groups, 320 = 2.5 groups; three query heads share the one kv head; weight_scale divides.
    "toy-packed": {"seed": 2, "shape": (192, 3, 1, 320, 2), "form": "divide", "subln": "model"},
    # Masters that absmean ternarises, SiLU (architecture bitnet), heads of 32.
    "toy-silu": {"seed": 3, "shape": (128, 4, 2, 320, 2), "act": "silu", "subln": "model"},
    # A low-rank term on every projection but one; 16, 32 and 64 have kernels of their own, the rest share one.
    "toy-lrc": {"seed": 1, "shape": (192, 3, 1, 320, 2), "ranks": (1, 16, 5, 0, 32, 7, 64), "subln": "model"},
    # Pairs on all seven, some with a low-rank term inside the pair.
    "toy-subln": {"seed": 4, "shape": (128, 4, 2, 192, 2), "act": "silu", "subln": "all", "type": "llama",
                  "class": "BitnetForCausalLM", "ranks": (0, 3, 0, 8, 0, 128, 17), "quantization": False},
    # The odd width of SmolLM2-135M: 576 = 4.5 groups, nine heads over three.
    "toy-576": {"seed": 0, "shape": (576, 9, 3, 448, 1), "form": "divide", "subln": "model"},
}  # fmt: skip

BASES = {
    "bitnet": {"type": "bitnet", "act": "silu", "subln": "model", "shape": (256, 4, 2, 512, 2)},
    "bitnet-b1.58": {"type": "bitnet", "form": "multiply", "subln": "model", "shape": (256, 4, 1, 512, 2)},
    # q is wider than the hidden state; factors that change half of the frequencies within a short prompt.
    "llama": {"type": "llama", "form": "divide", "shape": (256, 8, 2, 512, 2), "head_dim": 64, "tied": False,
              "rope": "llama3"},
    "qwen2": {"type": "qwen2", "shape": (256, 4, 2, 512, 2)},
    "qwen3": {"type": "qwen3", "shape": (256, 8, 4, 512, 2), "head_dim": 64, "tied": False},
    "mixtral": {"type": "mixtral", "shape": (256, 4, 2, 512, 2), "experts": 4, "tied": False},
    "qwen2moe": {"type": "qwen2_moe", "shape": (256, 4, 2, 512, 2), "experts": 4, "expert_ffn": 256, "shared_ffn": 512,
                 "tied": False},
    "qwen3moe": {"type": "qwen3_moe", "shape": (256, 8, 2, 512, 2), "head_dim": 64, "experts": 4, "expert_ffn": 256,
                 "tied": False},
}  # fmt: skip
RANKS = (8, 16, 32, 40, 64, 128, 5)
# What SubLN means for each: every form occurs.
SUBLN = {"bitnet": "all", "bitnet-b1.58": "two", "llama": "two", "qwen2": "rms_norm", "qwen3": "all", "mixtral": "all",
         "qwen2moe": "two", "qwen3moe": "all"}  # fmt: skip
CHANGES = {
    ("bitnet", "lrc"): {"lrc_bits": 8, "ln_names": True},
    ("llama", "lrc"): {"form": "quantized", "lrc": "linear"},
    ("llama", "both"): {"form": "masters", "subln": "all"},
    ("qwen2", "lrc"): {"form": "ternary", "tied": False, "lrc": "lora"},
    ("qwen3", "lrc"): {"lrc": "linear", "tied": True},
    ("qwen3", "both"): {"subln": "norm"},
    ("qwen2moe", "lrc"): {"fused": True},
    ("qwen2moe", "both"): {"subln": "all"},
    ("qwen3moe", "lrc"): {"fused": True, "form": "ternary"},
    ("qwen3moe", "subln"): {"fused": True},
    ("bitnet-b1.58", "lrc"): {"form": "divide", "lrc_bits": 4},
    ("bitnet-b1.58", "both"): {"form": "masters", "subln": "all"},
}
VARIANTS = ("plain", "lrc", "subln", "both")
# Ranks that Q8_0 and Q4_0 can hold.
WIDE = (32, 64, 128, 96, 160, 32, 256)


def variant(base, kind, seed):
    toy = {**BASES[base], "seed": seed}
    if kind in ("lrc", "both"):  # other ranks on other projections in each
        shift = seed % len(RANKS)
        toy["ranks"] = RANKS[shift:] + RANKS[:shift]
    if kind in ("subln", "both"):
        toy["subln"] = SUBLN[base]
    return {**toy, **CHANGES.get((base, kind), {})}


MATRIX = {
    f"{base}-{kind}": variant(base, kind, 100 + 10 * i + j)
    for i, base in enumerate(BASES)
    for j, kind in enumerate(VARIANTS)
}
MATRIX["llama-wide"] = {**BASES["llama"], "seed": 200, "form": "masters", "ranks": WIDE}
MATRIX["bitnet-b1.58-wide"] = {**BASES["bitnet"], "act": "relu2", "seed": 201, "subln": "all", "ranks": WIDE}


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


class Maker:
    def __init__(self, toy):
        self.toy = toy
        self.rng = np.random.default_rng(toy["seed"])
        self.tensors = {}
        self.kind = toy.get("type", "bitnet")
        self.form, self.subln = toy.get("form", "masters"), toy.get("subln", "")
        self.hidden, self.heads, self.kv_heads, self.ffn, self.layers = toy["shape"]
        self.dim = toy.get("head_dim", self.hidden // self.heads)
        self.experts = toy.get("experts", 0)
        self.expert_ffn = toy.get("expert_ffn", self.ffn)
        self.size = {"e": self.hidden, "q": self.heads * self.dim, "kv": self.kv_heads * self.dim, "f": self.ffn}
        # Of what goes into a norm: as small as the root of its epsilon, or a wrong epsilon would not be seen.
        self.small = 1e-3 if self.subln in ("two", "all", "rms_norm") else 3e-3

    def normed(self, base):
        """Whether projection `base` has a norm of its own."""
        if self.experts and "mlp" in base and "shared_expert" not in base:
            return False
        if self.subln in ("model", "two"):
            return base.endswith(("o_proj", "down_proj"))
        return self.subln != ""

    def gain(self, base):
        """v is what o's norm sees, up what down's norm sees."""
        if base.endswith("v_proj"):
            return self.small if self.normed("self_attn.o_proj") else 1.0
        if base.endswith("up_proj"):
            return self.small if self.normed(base.replace("up_proj", "down_proj")) else 1.0
        if base.endswith(("q_proj", "k_proj")) and self.toy["seed"] >= 100:
            # Scores that make some keys matter more than others; q_norm and k_norm see to that themselves.
            return 3e-3 if self.kind in ("qwen3", "qwen3_moe") else 1.7
        return 1.0

    def normal(self, *shape):
        return self.rng.standard_normal(shape)

    def norm(self, n, size=1.0):
        return to_bf16(size * (1 + 0.3 * self.normal(n)))

    def ternary(self, rows, cols, gain):
        codes = self.rng.choice(np.array([0, 1, 2], np.uint8), (4, rows // 4, cols), p=[0.3, 0.4, 0.3])
        return codes, gain / np.sqrt(cols)

    def matrix(self, rows, cols, gain):
        """Floats of a matrix that is not packed."""
        if self.form == "masters":
            return to_bf16(gain * self.normal(rows, cols) / np.sqrt(cols))
        codes, scale = self.ternary(rows, cols, gain)
        return to_bf16((codes.reshape(rows, cols).astype(np.float64) - 1) * scale)

    def add_weight(self, base, rows, cols, gain):
        if self.form in ("divide", "multiply"):
            codes, scale = self.ternary(rows, cols, gain)
            self.tensors[base + ".weight"] = codes[0] | codes[1] << 2 | codes[2] << 4 | codes[3] << 6
            self.tensors[base + ".weight_scale"] = to_bf16(np.array([scale if self.form == "multiply" else 1 / scale]))
        elif self.form == "quantized":
            self.tensors[base + ".weight"] = to_bf16(np.zeros((0, cols)))
            self.tensors[base + ".weight_quantized"] = self.matrix(rows, cols, gain)
        else:
            self.tensors[base + ".weight"] = self.matrix(rows, cols, gain)

    def add_projection(self, base, rows, cols, rank):
        gain = self.gain(base)
        # qwen2's are part of the class; those of seed < 100 have none.
        biased = self.kind in ("qwen2", "qwen2_moe") and base.endswith(("q_proj", "k_proj", "v_proj"))
        bias = to_bf16(0.5 * gain * self.normal(rows)) if biased else None
        if self.normed(base):
            if self.subln in ("all", "two"):
                self.tensors[base + ".0.weight"] = self.norm(cols)
                base += ".1"
            elif self.subln in ("rms_norm", "norm"):
                self.tensors[f"{base}.{self.subln}.weight"] = self.norm(cols)
        self.add_weight(base, rows, cols, gain)
        if bias is not None:
            self.tensors[base + ".bias"] = bias
        if rank:
            u = to_bf16(0.3 * gain * self.normal(rows, rank) / np.sqrt(rank))
            v = to_bf16(self.normal(cols, rank) / np.sqrt(cols))
            spelling = self.toy.get("lrc", "plain")
            names = {"plain": ("lrc_U", "lrc_V"), "linear": ("lrc_U_linear.weight", "lrc_V_linear.weight"),
                     "lora": ("lora_B.weight", "lora_A.weight")}[spelling]  # fmt: skip
            self.tensors[f"{base}.{names[0]}"] = u
            self.tensors[f"{base}.{names[1]}"] = v if spelling == "plain" else np.ascontiguousarray(v.T)

    def add_experts(self, p):
        e, f, n = self.hidden, self.expert_ffn, self.experts
        mlp = p + ("block_sparse_moe." if self.kind == "mixtral" else "mlp.")
        self.tensors[mlp + "gate.weight"] = to_bf16(self.normal(n, e) / np.sqrt(e))
        if self.toy.get("fused"):
            # Experts of different scales, so that another's scale is seen.
            gains = 1 + 0.25 * np.arange(2 * n)
            both = [self.matrix(f, e, g) for g in gains]
            self.tensors[mlp + "experts.gate_up_proj"] = np.stack(
                [np.concatenate([both[2 * i], both[2 * i + 1]]) for i in range(n)]
            )
            self.tensors[mlp + "experts.down_proj"] = np.stack([self.matrix(e, f, g) for g in gains[::2]])
        else:
            for i in range(n):
                for name, (rows, cols) in {"gate_proj": (f, e), "up_proj": (f, e), "down_proj": (e, f)}.items():
                    if self.kind == "mixtral":
                        name = MIXTRAL[name]
                    self.add_weight(f"{mlp}experts.{i}.{name}", rows, cols, 1 + 0.25 * i)
        if shared := self.toy.get("shared_ffn"):
            ranks = iter(self.toy.get("ranks", (0,) * 7)[4:])
            shapes = {"gate_proj": (shared, e), "up_proj": (shared, e), "down_proj": (e, shared)}
            for name, (rows, cols) in shapes.items():
                self.add_projection(f"{mlp}shared_expert.{name}", rows, cols, next(ranks))
            self.tensors[mlp + "shared_expert_gate.weight"] = to_bf16(self.normal(1, e) / np.sqrt(e))

    def add_all(self):
        toy, t, hidden = self.toy, self.tensors, self.hidden
        # The logits' deviation becomes 3 to 4, as the sample model's.
        t["model.embed_tokens.weight"] = to_bf16(3.5 / np.sqrt(hidden) * self.normal(VOCAB, hidden))
        for i in range(self.layers):
            p = f"model.layers.{i}."
            # Before a norm of the projection's own the block's norm makes its input small, for the same reason.
            t[p + "input_layernorm.weight"] = self.norm(hidden, self.small if self.normed("q_proj") else 1.0)
            size = self.small if self.normed("mlp.up_proj") else 1.0
            t[p + "post_attention_layernorm.weight"] = self.norm(hidden, size)
            if self.subln == "model":
                names = ("inner_attn_ln", "ffn_layernorm") if toy.get("ln_names") else ("attn_sub_norm", "ffn_sub_norm")
                t[f"{p}self_attn.{names[0]}.weight"] = self.norm(self.size["q"])
                t[f"{p}mlp.{names[1]}.weight"] = self.norm(self.ffn)
            if self.kind in ("qwen3", "qwen3_moe"):
                t[p + "self_attn.q_norm.weight"] = self.norm(self.dim)
                t[p + "self_attn.k_norm.weight"] = self.norm(self.dim)
            projections = ATTENTION if self.experts else {**ATTENTION, **FFN}
            for (name, (rows, cols)), rank in zip(projections.items(), toy.get("ranks", (0,) * 7)):
                self.add_projection(p + name, self.size[rows], self.size[cols], rank)
            if self.experts:
                self.add_experts(p)
        t["model.norm.weight"] = self.norm(hidden)
        if not toy.get("tied", True):
            t["lm_head.weight"] = to_bf16(3.5 / np.sqrt(hidden) * self.normal(VOCAB, hidden))

    def quantization(self):
        """As transformers writes it; None: a checkpoint without."""
        if not self.toy.get("quantization", True):
            return None
        q = {"quant_method": "bitnet"}
        if self.form != "divide":  # which is what an absent linear_class means
            q["linear_class"] = "autobitlinear"
        q["quantization_mode"] = "offline" if self.form in ("divide", "multiply") else "online"
        if self.subln == "rms_norm":
            q["use_rms_norm"], q["rms_norm_eps"] = True, 1e-6
        if self.experts:
            router = "block_sparse_moe.gate" if self.kind == "mixtral" else "mlp.gate"
            q["modules_to_not_convert"] = ["lm_head", router, "shared_expert_gate"]
        return q

    def config(self):
        toy = self.toy
        names = {"bitnet": "BitNet", "llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3", "mixtral": "Mixtral",
                 "qwen2_moe": "Qwen2Moe", "qwen3_moe": "Qwen3Moe"}  # fmt: skip
        c = {
            "architectures": [toy.get("class", names[self.kind] + "ForCausalLM")],
            "model_type": self.kind,
            "hidden_act": toy.get("act", "relu2" if self.kind == "bitnet" else "silu"),
            "hidden_size": self.hidden,
            "intermediate_size": self.ffn,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "max_position_embeddings": 512,
            "tie_word_embeddings": toy.get("tied", True),
            "vocab_size": VOCAB,
            "bos_token_id": 2044,
            "eos_token_id": 2046,
            "torch_dtype": "bfloat16",
        }
        if "head_dim" in toy:
            c["head_dim"] = self.dim
        if toy.get("rope") == "llama3":
            c["rope_scaling"] = {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        if self.kind == "mixtral":
            c.update(num_local_experts=self.experts, num_experts_per_tok=2, sliding_window=None)
        elif self.experts:
            c.update(num_experts=self.experts, num_experts_per_tok=2, moe_intermediate_size=self.expert_ffn,
                     norm_topk_prob=self.kind == "qwen3_moe", decoder_sparse_step=1, mlp_only_layers=[])  # fmt: skip
            if "shared_ffn" in toy:
                c["shared_expert_intermediate_size"] = toy["shared_ffn"]
        if self.kind in ("qwen2", "qwen2_moe", "qwen3"):  # as released: a window that is not used
            c.update(use_sliding_window=False, sliding_window=128, max_window_layers=self.layers)
        if toy.get("lrc") == "lora":
            c["lora_alpha"] = 24.0
        if "lrc_bits" in toy:
            c["lrc_config"] = {"bits": toy["lrc_bits"], "group_size": 32}
        if (q := self.quantization()) is not None:
            c["quantization_config"] = q
        return c


def make(name, folder, bard):
    """Writes checkpoint NAME into `folder`, which is created; the same bytes at every call."""
    maker = Maker({**TOYS, **MATRIX}[name])
    maker.add_all()
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / "model.safetensors", maker.tensors)
    (folder / "config.json").write_text(json.dumps(maker.config(), indent=2))
    for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copyfile(pathlib.Path(bard) / file, folder / file)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in {**TOYS, **MATRIX}:
        sys.exit(f"usage: make_toy.py NAME FOLDER, NAME one of {', '.join([*TOYS, *MATRIX])}")
    source = os.environ.get("WF_SOURCE", pathlib.Path(__file__).resolve().parents[2])
    make(sys.argv[1], sys.argv[2], pathlib.Path(source) / "models" / "bard")
