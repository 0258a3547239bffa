# SPDX-License-Identifier: Apache-2.0
"""The decoder of semantics.md 1-3 in plain NumPy, read straight from a Hugging Face folder: the oracle of the golden
tests. It shares no code, no file format and no order of operations with wf, and runs in float64 (the exact answer for
all practical purposes) or float32. Not for speed: the whole sequence is forwarded at once, without a cache."""

import json
import pathlib
import struct

import numpy as np

SUBLN_EPS = 1e-6  # of the pairs <proj>.0 / <proj>.1, whatever config.json says (semantics.md 2)


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


def absmean(w):
    """(ternary values, scale). The scale is stored as float32, so it is one here, too."""
    w = w.astype(np.float64)
    scale = np.float32(max(np.abs(w).mean(), 1e-5))
    return np.clip(np.rint(w / np.float64(scale)), -1, 1), scale


def unpack(packed, weight_scale, multiply):
    """Four 2-bit codes a byte, least significant first, each for a quarter of the rows."""
    values = np.concatenate([((packed >> shift) & 3).astype(np.float64) - 1 for shift in (0, 2, 4, 6)], axis=0)
    scale = np.float32(weight_scale.reshape(-1)[0])
    return values, scale if multiply else np.float32(1) / scale


class Projection:
    """y = BitLinear(n(x)) + U (V^T n(x)), n an RMSNorm of the projection's own or nothing."""

    def __init__(self, tensors, base, config, sub_norm, eps):
        self.norm = None
        if sub_norm is not None and sub_norm in tensors:
            self.norm, self.eps = tensors[sub_norm], eps
        if base + ".1.weight" in tensors:
            self.norm, self.eps = tensors[base + ".0.weight"], SUBLN_EPS
            base += ".1"
        w = tensors[base + ".weight"]
        if w.dtype == np.uint8:
            quantization = config.get("quantization_config", {})
            multiply = quantization.get("linear_class") == "autobitlinear"
            self.values, self.scale = unpack(w, tensors[base + ".weight_scale"], multiply)
        else:
            self.values, self.scale = absmean(w)
        self.u, self.v = tensors.get(base + ".lrc_U"), tensors.get(base + ".lrc_V")


class Reference:
    """`stored`: the float type of embedding and low-rank factors in the file that is the object of comparison (I2_S
    files keep them in float16, which rounds values below 2^-14); None: as in the checkpoint."""

    def __init__(self, folder, dtype=np.float64, stored=None):
        folder = pathlib.Path(folder)
        self.dtype = dtype
        self.config = c = json.loads((folder / "config.json").read_text())
        self.tensors = t = read_safetensors(folder)
        for name in t if stored is not None else ():
            if "lrc_" in name or "embed_tokens" in name:
                t[name] = t[name].astype(stored).astype(np.float32)
        self.heads, self.kv_heads = c["num_attention_heads"], c["num_key_value_heads"]
        self.dim = c.get("head_dim", c["hidden_size"] // self.heads)
        self.eps = c["rms_norm_eps"]
        self.layers = []
        for i in range(c["num_hidden_layers"]):
            p = f"model.layers.{i}."
            layer = {"in": t[p + "input_layernorm.weight"], "post": t[p + "post_attention_layernorm.weight"]}
            for key, name in {"q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj",
                              "gate": "mlp.gate_proj", "up": "mlp.up_proj"}.items():
                layer[key] = Projection(t, p + name, c, None, None)
            layer["o"] = Projection(t, p + "self_attn.o_proj", c, p + "self_attn.attn_sub_norm.weight", self.eps)
            layer["down"] = Projection(t, p + "mlp.down_proj", c, p + "mlp.ffn_sub_norm.weight", self.eps)
            self.layers.append(layer)

    def rms_norm(self, x, w, eps):
        mean = np.mean(x.astype(np.float64) ** 2, axis=-1, keepdims=True)
        return (x / np.sqrt(mean + eps)).astype(self.dtype) * w.astype(self.dtype)

    def project(self, x, p):
        if p.norm is not None:
            x = self.rms_norm(x, p.norm, p.eps)
        a = self.dtype(127) / np.maximum(np.abs(x).max(axis=-1, keepdims=True), self.dtype(1e-5))
        q = np.clip(np.rint(x * a), -128, 127)
        self.ties = np.minimum(self.ties, np.abs(np.abs(x * a - q) - 0.5).min(axis=-1))
        # Sums of integers below 2^24: exact in float64, whatever the order.
        y = (q.astype(np.float64) @ p.values.T).astype(self.dtype) / a * self.dtype(p.scale)
        if p.u is not None:
            y = y + (x @ p.v.astype(self.dtype)) @ p.u.astype(self.dtype).T
        return y

    def rope(self, x):
        """Rotates the pairs (i, i + dim / 2) of every head; x is tokens x heads x dim."""
        half = self.dim // 2
        step = float(self.config["rope_theta"]) ** (-np.arange(half) * 2.0 / self.dim)
        angle = np.arange(len(x))[:, None, None] * step
        cos, sin = np.cos(angle).astype(self.dtype), np.sin(angle).astype(self.dtype)
        a, b = x[..., :half], x[..., half:]
        return np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)

    def attention(self, q, k, v):
        n, out = len(q), np.empty_like(q)
        future = np.triu(np.ones((n, n), bool), 1)
        for h in range(self.heads):
            kv = h * self.kv_heads // self.heads
            scores = q[:, h] @ k[:, kv].T / self.dtype(np.sqrt(self.dim))
            scores[future] = -np.inf
            p = np.exp(scores - scores.max(axis=-1, keepdims=True))
            out[:, h] = (p / p.sum(axis=-1, keepdims=True)) @ v[:, kv]
        return out.reshape(n, -1)

    def activation(self, x):
        if self.config["hidden_act"] == "relu2":
            return np.maximum(x, 0) ** 2
        assert self.config["hidden_act"] == "silu"
        return x / (1 + np.exp(-x))

    def logits(self, ids):
        """tokens x vocabulary, causal. Leaves in self.ties how near each token's activations came to the middle
        between two integers, where any other order of operations may round to the other one."""
        t, n = self.tensors, len(ids)
        self.ties = np.full(n, 0.5)
        embedding = t["model.embed_tokens.weight"].astype(self.dtype)
        x = embedding[np.asarray(ids)]
        for layer in self.layers:
            z = self.rms_norm(x, layer["in"], self.eps)
            q, k, v = (self.project(z, layer[p]).reshape(n, -1, self.dim) for p in "qkv")
            x = x + self.project(self.attention(self.rope(q), self.rope(k), v), layer["o"])
            z = self.rms_norm(x, layer["post"], self.eps)
            gate, up = self.project(z, layer["gate"]), self.project(z, layer["up"])
            x = x + self.project(self.activation(gate) * up, layer["down"])
        return self.rms_norm(x, t["model.norm.weight"], self.eps) @ embedding.T
