# SPDX-License-Identifier: Apache-2.0
"""The decoder of semantics.md 1-3 and formats.md 3 in plain NumPy, read straight from a Hugging Face folder: the oracle
of the golden tests, itself held against transformers' own classes by test_oracle.py. It shares no code, no file format
and no order of operations with wf, and runs in float64 (the exact answer for all practical purposes) or float32. Not
for speed: the whole sequence is forwarded at once, without a cache, unless the caller keeps K and V (diffusion.py)."""

import json
import pathlib
import struct

import numpy as np

SUBLN_EPS = 1e-6  # of the pairs <proj>.0 / <proj>.1, whatever config.json says (semantics.md 2)
BITNET = "BitNetForCausalLM"


def read_safetensors(folder):
    """name -> array of every *.safetensors of the folder; BF16 becomes float32."""
    tensors = {}
    for path in sorted(pathlib.Path(folder).glob("*.safetensors")):
        data = path.read_bytes()
        (size,) = struct.unpack("<Q", data[:8])
        for name, entry in json.loads(data[8 : 8 + size]).items():
            if name == "__metadata__":
                continue
            begin, end = (8 + size + o for o in entry["data_offsets"])
            raw = data[begin:end]
            if entry["dtype"] == "BF16":
                a = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
            else:
                a = np.frombuffer(raw, {"U8": "<u1", "F32": "<f4", "F16": "<f2"}[entry["dtype"]])
            tensors[name] = a.reshape(entry["shape"])
    return tensors


def ternarise(w):
    """(ternary values, scale) of floats: by absmean, or as they are if they are ternary already. The scale is stored as
    float32, so it is one here, too."""
    w = w.astype(np.float64)
    sizes = np.unique(np.abs(w))
    if len(sizes[sizes != 0]) == 1:
        return np.sign(w), np.float32(sizes[-1])
    scale = np.float32(max(np.abs(w).mean(), 1e-5))
    return np.clip(np.rint(w / np.float64(scale)), -1, 1), scale


def unpack(packed, weight_scale, multiply):
    """Four 2-bit codes a byte, least significant first, each for a quarter of the rows."""
    values = np.concatenate([((packed >> shift) & 3).astype(np.float64) - 1 for shift in (0, 2, 4, 6)], axis=0)
    scale = np.float32(weight_scale.reshape(-1)[0])
    return values, scale if multiply else np.float32(1) / scale


def round_groups(a, bits):
    """QLRC: symmetric rounding of each 32 of the flattened tensor, in float32 as in training."""
    top = 2 ** (bits - 1)
    groups = a.reshape(-1, 32)
    scale = np.abs(groups).max(axis=1, keepdims=True) / np.float32(top - 1)
    return (np.clip(np.rint(groups / scale), -top, top - 1) * scale).reshape(a.shape)


class Projection:
    """y = BitLinear(n(x)) + b + U (V^T n(x)), n an RMSNorm of the projection's own or nothing."""

    norm = eps = bias = u = v = None

    def __init__(self, tensors, base, config, *sub_norms):
        """sub_norms: where else a norm may be found, with the model's epsilon."""
        quantization = config.get("quantization_config", {})
        norms = {
            **dict.fromkeys(sub_norms, config["rms_norm_eps"]),
            base + ".norm.weight": config["rms_norm_eps"],
            base + ".rms_norm.weight": quantization.get("rms_norm_eps", 1e-6),
            base + ".0.weight": SUBLN_EPS,
        }
        for name, eps in norms.items():
            if name in tensors:
                self.norm, self.eps = tensors[name], eps
        if base + ".1.weight" in tensors:
            base += ".1"
        w = tensors.get(base + ".weight_quantized", tensors[base + ".weight"])
        if w.dtype == np.uint8:
            multiply = quantization.get("linear_class") == "autobitlinear"
            self.values, self.scale = unpack(w, tensors[base + ".weight_scale"], multiply)
        else:
            self.values, self.scale = ternarise(w)
        self.bias = tensors.get(base + ".bias")
        if base + ".lrc_U_linear.weight" in tensors:
            self.u, self.v = tensors[base + ".lrc_U_linear.weight"], tensors[base + ".lrc_V_linear.weight"].T
        elif base + ".lora_A.weight" in tensors:
            b, self.v = tensors[base + ".lora_B.weight"], tensors[base + ".lora_A.weight"].T
            self.u = b * np.float32(config["lora_alpha"] / b.shape[1])
        elif base + ".lrc_U" in tensors:
            self.u, self.v = tensors[base + ".lrc_U"], tensors[base + ".lrc_V"]
            if "lrc_config" in config:
                self.u, self.v = (round_groups(a, config["lrc_config"]["bits"]) for a in (self.u, self.v))

    @classmethod
    def of(cls, w):
        """Of one expert's slice of a fused tensor."""
        p = cls.__new__(cls)
        p.values, p.scale = ternarise(w)
        return p


class Experts:
    """A router, the experts it chooses from, and the expert that every token passes, if there is one."""

    def __init__(self, tensors, prefix, config):
        mixtral = prefix + "block_sparse_moe." if config["model_type"] == "mixtral" else None
        mlp = mixtral or prefix + "mlp."
        names = ("w1", "w3", "w2") if mixtral else ("gate_proj", "up_proj", "down_proj")
        self.router = tensors[mlp + "gate.weight"]
        self.used = config["num_experts_per_tok"]
        self.renormalise = mixtral is not None or config["norm_topk_prob"]
        if mlp + "experts.gate_up_proj" in tensors:
            both, down = tensors[mlp + "experts.gate_up_proj"], tensors[mlp + "experts.down_proj"]
            half = both.shape[1] // 2
            self.experts = [
                {"gate": Projection.of(b[:half]), "up": Projection.of(b[half:]), "down": Projection.of(d)}
                for b, d in zip(both, down)
            ]
        else:
            self.experts = [
                {k: Projection(tensors, f"{mlp}experts.{i}.{n}", config) for k, n in zip(("gate", "up", "down"), names)}
                for i in range(len(self.router))
            ]
        self.shared = self.shared_gate = None
        if mlp + "shared_expert_gate.weight" in tensors:
            self.shared_gate = tensors[mlp + "shared_expert_gate.weight"]
            self.shared = {
                k: Projection(tensors, f"{mlp}shared_expert.{n}", config) for k, n in zip(("gate", "up", "down"), names)
            }


def llama3_factors(scaling, base, dim):
    """What the frequencies are divided by (formats.md 3.5)."""
    wave = 2 * np.pi * base ** (np.arange(0, dim, 2) / dim)
    low, high, factor = scaling["low_freq_factor"], scaling["high_freq_factor"], scaling["factor"]
    smooth = (scaling["original_max_position_embeddings"] / wave - low) / (high - low)
    return 1 / ((1 - np.clip(smooth, 0, 1)) / factor + np.clip(smooth, 0, 1))


class Reference:
    """`stored`: what storing does to the embedding, the head and the low-rank factors in the file that is the object of
    comparison: a float type (packed files keep them in float16, which rounds values below 2^-14), or a function of
    (matrix, what), the matrix's rows along the input, what being "embedding", "head" or (layer, projection, "u" or
    "v"), the projections q, k, v, o, gate, up, down, and shared gate etc. None: as in the checkpoint. quantise=False:
    activations stay floats, as in transformers' classes without a quantiser."""

    def __init__(self, folder, dtype=np.float64, stored=None, quantise=True):
        folder = pathlib.Path(folder)
        self.dtype, self.quantise = dtype, quantise
        self.config = c = json.loads((folder / "config.json").read_text())
        self.tensors = t = read_safetensors(folder)
        self.heads, self.kv_heads = c["num_attention_heads"], c["num_key_value_heads"]
        self.dim = c.get("head_dim", c["hidden_size"] // self.heads)
        self.eps = c["rms_norm_eps"]
        self.layers = [self.layer(f"model.layers.{i}.") for i in range(c["num_hidden_layers"])]
        self.embedding = self.head = t["model.embed_tokens.weight"]
        own_head = not c["tie_word_embeddings"] and c["architectures"][0] != BITNET
        if own_head:
            self.head = t["lm_head.weight"]
        if stored is not None:
            store = stored if not isinstance(stored, type) else lambda a, _: a.astype(stored).astype(np.float32)
            self.embedding = store(self.embedding, "embedding")
            self.head = store(self.head, "head") if own_head else self.embedding
            for i, layer in enumerate(self.layers):
                for name, p in self.projections(layer):
                    if p.u is not None:
                        p.u = store(p.u, (i, name, "u"))
                        p.v = store(np.ascontiguousarray(p.v.T), (i, name, "v")).T

    @staticmethod
    def projections(layer):
        """(name, projection) of all but experts."""
        yield from ((k, layer[k]) for k in ("q", "k", "v", "o", "gate", "up", "down") if k in layer)
        if "experts" in layer and layer["experts"].shared is not None:
            yield from ((f"shared {k}", p) for k, p in layer["experts"].shared.items())

    def layer(self, p):
        t, c = self.tensors, self.config
        layer = {"in": t[p + "input_layernorm.weight"], "post": t[p + "post_attention_layernorm.weight"]}
        for k in "qkv":
            layer[k] = Projection(t, f"{p}self_attn.{k}_proj", c)
        names = [f"{p}self_attn.{n}.weight" for n in ("attn_sub_norm", "inner_attn_ln")]
        layer["o"] = Projection(t, p + "self_attn.o_proj", c, *names)
        for k in ("q_norm", "k_norm"):
            if f"{p}self_attn.{k}.weight" in t:
                layer[k] = t[f"{p}self_attn.{k}.weight"]
        if "num_experts_per_tok" in c:
            layer["experts"] = Experts(t, p, c)
        else:
            for k in ("gate", "up"):
                layer[k] = Projection(t, f"{p}mlp.{k}_proj", c)
            names = [f"{p}mlp.{n}.weight" for n in ("ffn_sub_norm", "ffn_layernorm")]
            layer["down"] = Projection(t, p + "mlp.down_proj", c, *names)
        return layer

    def rms_norm(self, x, w, eps):
        mean = np.mean(x.astype(np.float64) ** 2, axis=-1, keepdims=True)
        return (x / np.sqrt(mean + eps)).astype(self.dtype) * w.astype(self.dtype)

    def project(self, x, p, tokens=slice(None)):
        """tokens: which of the sequence's the rows of x are."""
        if p.norm is not None:
            x = self.rms_norm(x, p.norm, p.eps)
        if self.quantise:
            a = self.dtype(127) / np.maximum(np.abs(x).max(axis=-1, keepdims=True), self.dtype(1e-5))
            q = np.clip(np.rint(x * a), -128, 127)
            self.ties[tokens] = np.minimum(self.ties[tokens], np.abs(np.abs(x * a - q) - 0.5).min(axis=-1))
            # Sums of integers below 2^24: exact in float64, whatever the order.
            y = (q.astype(np.float64) @ p.values.T).astype(self.dtype) / a * self.dtype(p.scale)
        else:
            y = x @ p.values.T.astype(self.dtype) * self.dtype(p.scale)
        if p.bias is not None:
            y = y + p.bias.astype(self.dtype)
        if p.u is not None:
            y = y + (x @ p.v.astype(self.dtype)) @ p.u.astype(self.dtype).T
        return y

    def angles(self, positions):
        """tokens x 1 x dim / 2."""
        base = float(self.config["rope_theta"])
        step = base ** (-np.arange(0, self.dim, 2) / self.dim)
        scaling = self.config.get("rope_scaling")
        if scaling is not None:
            assert scaling["rope_type"] == "llama3"
            step = step / llama3_factors(scaling, base, self.dim)
        return positions[:, None, None] * step

    def rope(self, x, positions):
        """Rotates the pairs (i, i + dim / 2) of every head; x is tokens x heads x dim."""
        half = self.dim // 2
        angle = self.angles(positions)
        cos, sin = np.cos(angle).astype(self.dtype), np.sin(angle).astype(self.dtype)
        a, b = x[..., :half], x[..., half:]
        return np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)

    def memory(self, n):
        """K and V of every layer for n positions, none of them computed yet."""
        return np.full((len(self.layers), 2, n, self.kv_heads, self.dim), np.nan, self.dtype)

    def attention(self, z, layer, memory, positions, visible):
        n = len(z)
        q, k, v = (self.project(z, layer[p]).reshape(n, -1, self.dim) for p in "qkv")
        if "q_norm" in layer:
            q, k = self.rms_norm(q, layer["q_norm"], self.eps), self.rms_norm(k, layer["k_norm"], self.eps)
        q, out = self.rope(q, positions), np.empty_like(q)
        memory[0, positions], memory[1, positions] = self.rope(k, positions), v
        seen = visible.any(axis=0)
        (k, v), hidden = memory[:, seen], ~visible[:, seen]
        for h in range(self.heads):
            kv = h * self.kv_heads // self.heads
            scores = q[:, h] @ k[:, kv].T / self.dtype(np.sqrt(self.dim))
            scores[hidden] = -np.inf
            p = np.exp(scores - scores.max(axis=-1, keepdims=True))
            out[:, h] = (p / p.sum(axis=-1, keepdims=True)) @ v[:, kv]
        return self.project(out.reshape(n, -1), layer["o"])

    def activation(self, x):
        if self.config["hidden_act"] == "relu2":
            return np.maximum(x, 0) ** 2
        assert self.config["hidden_act"] == "silu"
        return x / (1 + np.exp(-x))

    def ffn(self, z, f, tokens=slice(None)):
        gate, up = self.project(z, f["gate"], tokens), self.project(z, f["up"], tokens)
        return self.project(self.activation(gate) * up, f["down"], tokens)

    def mixture(self, z, m):
        scores = z @ m.router.astype(self.dtype).T
        p = np.exp(scores - scores.max(axis=-1, keepdims=True))
        p = p / p.sum(axis=-1, keepdims=True)
        order = np.argsort(-p, axis=-1, kind="stable")
        ranked = np.take_along_axis(scores, order, axis=-1)
        self.router_gaps = np.minimum(self.router_gaps, ranked[:, m.used - 1] - ranked[:, m.used])
        out = np.zeros_like(z)
        for e, expert in enumerate(m.experts):
            tokens = np.flatnonzero((order[:, : m.used] == e).any(axis=-1))
            if len(tokens) == 0:
                continue
            weight = p[tokens, e]
            if m.renormalise:
                weight = weight / np.take_along_axis(p, order[:, : m.used], axis=-1)[tokens].sum(axis=-1)
            out[tokens] += weight[:, None] * self.ffn(z[tokens], expert, tokens)
        if m.shared is not None:
            out += self.ffn(z, m.shared) / (1 + np.exp(-(z @ m.shared_gate.astype(self.dtype).T)))
        return out

    def forward(self, ids, positions, memory, visible):
        """Logits of the tokens `ids` at `positions`, tokens x vocabulary. Their K and V go into `memory` first; then
        row r attends to the positions p of the memory where visible[r, p]. Leaves for each token in self.ties how near
        its activations came to the middle between two integers, where any other order of operations may round to the
        other one; and in self.router_gaps by how much the router preferred the last expert that it chose to the first
        that it did not."""
        t, n, positions = self.tensors, len(ids), np.asarray(positions)
        self.ties, self.router_gaps = np.full(n, 0.5), np.full(n, np.inf)
        x = self.embedding.astype(self.dtype)[np.asarray(ids)]
        for layer, m in zip(self.layers, memory):
            x = x + self.attention(self.rms_norm(x, layer["in"], self.eps), layer, m, positions, visible)
            z = self.rms_norm(x, layer["post"], self.eps)
            x = x + (self.mixture(z, layer["experts"]) if "experts" in layer else self.ffn(z, layer))
        return self.rms_norm(x, t["model.norm.weight"], self.eps) @ self.head.astype(self.dtype).T

    def logits(self, ids):
        """tokens x vocabulary of a whole text, causal."""
        n = len(ids)
        return self.forward(ids, np.arange(n), self.memory(n), np.tri(n, dtype=bool))
