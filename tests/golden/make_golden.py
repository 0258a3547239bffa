# SPDX-License-Identifier: Apache-2.0
"""Makes tests/data/golden: logits of the toys (make_toy.py) by the model classes of PyPI's transformers, which
test_oracle.py holds reference.py against, and test_matrix.py the programs. Run by hand, with torch, transformers and
accelerate installed: make_golden.py [NAME ...]; tests/data/golden/README.md says with which versions it was.

Each toy is run twice. "float": ternary weights, activations as they are, so the graph alone is compared and no rounding
stands in the way. "bitlinear": activations in 8 bits a token as well, by transformers' own ActQuant or BitLinear.

Where a checkpoint is one that transformers loads (packed by either class, masters, use_rms_norm) it is loaded by
from_pretrained: `stock`. Pairs .0/.1, <proj>.norm, low-rank factors and weight_quantized are not transformers': there
its class gets its projections replaced by the Patched module below. So it does where masters are ternary already, which
transformers would ternarise again, with a smaller scale. transformers 4 has no fused experts; they are taken apart.

The prompts are chosen with the oracle, so that no activation lies near the middle between two integers: then float32
must agree with float64 everywhere, and the comparison can be tight."""

import os

os.environ["TORCHDYNAMO_DISABLE"] = "1"  # transformers compiles its quantisers, for which there may be no compiler

import json
import pathlib
import sys
import tempfile
import zlib

import make_toy
import numpy as np
import torch
import transformers
from reference import Reference, read_safetensors
from torch import nn
from transformers.integrations import bitnet
from transformers.models.llama.modeling_llama import LlamaRMSNorm

SOURCE = pathlib.Path(__file__).resolve().parents[2]
OUT = SOURCE / "tests" / "data" / "golden"
LENGTHS = (24, 7, 3, 2, 1, 1, 1)
COLUMNS = slice(None, None, 16)  # of the vocabulary: 128 of them know all of the 256 numbers behind them
TIE, GAP = 2e-4, 0.02  # what a row must keep away from


def prompts(name, folder):
    """Token after token, each such that its row is certain, also with embedding and factors stored in f16."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    oracles = [Reference(folder), Reference(folder, stored=np.float16)]

    def certain(ids):
        for r in oracles:
            r.logits(ids)
            if r.ties[-1] < TIE or r.router_gaps[-1] < GAP:
                return False
        return True

    out = []
    for length in LENGTHS:
        ids = []
        while len(ids) < length:
            token = int(rng.integers(0, 2044))
            if certain([*ids, token]):
                ids.append(token)
        out.append(ids)
    return out


def renamed(tensors):
    """Experts one by one, and 1bitLLM's names of the sub-norms as transformers calls them."""
    out = {}
    for name, a in tensors.items():
        name = name.replace("inner_attn_ln", "attn_sub_norm").replace("ffn_layernorm", "ffn_sub_norm")
        base, _, part = name.partition(".experts.")
        if part not in ("gate_up_proj", "down_proj"):
            out[name] = a
            continue
        for i, w in enumerate(a):
            expert = f"{base}.experts.{i}."
            if part == "gate_up_proj":
                out[expert + "gate_proj.weight"], out[expert + "up_proj.weight"] = np.split(w, 2)
            else:
                out[expert + "down_proj.weight"] = w
    return out


def fake_quantised(a, bits):
    groups = a.reshape(-1, 32)
    scale = groups.abs().max(dim=1, keepdim=True).values / (2 ** (bits - 1) - 1)
    return (torch.clamp(torch.round(groups / scale), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * scale).reshape(a.shape)


class Patched(nn.Module):
    """A BitLinear of transformers' parts, with what transformers does not know: a norm in front and a low-rank term."""

    def __init__(self, tensors, base, config):
        super().__init__()
        t = {n: torch.tensor(a) for n, a in tensors.items() if n.startswith(base + ".")}
        self.norm, eps = t.get(base + ".norm.weight"), config.rms_norm_eps
        if base + ".rms_norm.weight" in t:
            self.norm, eps = t[base + ".rms_norm.weight"], config.quantization_config["rms_norm_eps"]
        if base + ".0.weight" in t:
            self.norm, eps = t[base + ".0.weight"], 1e-6
            base += ".1"
        if self.norm is not None:
            weight, self.norm = self.norm, LlamaRMSNorm(len(self.norm), eps)
            self.norm.weight = nn.Parameter(weight)
        w = t.get(base + ".weight_quantized", t[base + ".weight"])
        scale = t.get(base + ".weight_scale")
        if w.dtype == torch.uint8:
            w = bitnet.unpack_weights(w, torch.float32)
            w = w * scale if config.quantization_config.get("linear_class") == "autobitlinear" else w / scale
        elif len(w.abs().unique()) > 2:  # not ternary yet
            w = bitnet.WeightQuant.apply(w)
        self.w, self.bias = w, t.get(base + ".bias")
        self.u, self.v = t.get(base + ".lrc_U"), t.get(base + ".lrc_V")
        if base + ".lrc_U_linear.weight" in t:
            self.u, self.v = t[base + ".lrc_U_linear.weight"], t[base + ".lrc_V_linear.weight"].T
        if base + ".lora_A.weight" in t:  # as PEFT has it
            self.v = t[base + ".lora_A.weight"].T
            self.u = t[base + ".lora_B.weight"] * (config.lora_alpha / self.v.shape[1])
        if self.u is not None and hasattr(config, "lrc_config"):
            self.u, self.v = (fake_quantised(a, config.lrc_config["bits"]) for a in (self.u, self.v))

    def forward(self, x):
        x = x if self.norm is None else self.norm(x)
        y = nn.functional.linear(bitnet.ActQuant.apply(x), self.w, self.bias)
        return y if self.u is None else y + (x @ self.v) @ self.u.T


def load_patched(folder):
    config = transformers.AutoConfig.from_pretrained(folder)
    tensors = renamed(read_safetensors(folder))
    quantization = getattr(config, "quantization_config", {})
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager")
    config.quantization_config = quantization
    patched = []
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and name.endswith(("_proj", ".w1", ".w2", ".w3")):
            patched.append(name + ".")
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, Patched(tensors, name, config))
            tensors = {n: a for n, a in tensors.items() if not n.startswith(name + ".")}
    # A model without norms of its own on o and down, where they are pairs, in a class that has them.
    for name, module in list(model.named_modules()):
        if name.endswith(("attn_sub_norm", "ffn_sub_norm")) and name + ".weight" not in tensors:
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, nn.Identity())
    rest = {n: torch.tensor(a) for n, a in tensors.items()}
    if config.tie_word_embeddings:
        rest["lm_head.weight"] = rest["model.embed_tokens.weight"]
    found = model.load_state_dict(rest, strict=False)
    missing = [k for k in found.missing_keys if not k.startswith(tuple(patched))]
    assert not found.unexpected_keys and not missing, found
    return model.eval()


def load_stock(folder):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], info
    return model.eval()


def is_stock(toy):
    return not (
        toy.get("ranks")
        or toy.get("fused")
        or toy.get("subln") in ("two", "all", "norm")
        or toy.get("form") in ("ternary", "quantized")
    )


class FloatActivations:
    """Takes the rounding of activations out of transformers' two BitLinear classes."""

    def __enter__(self):
        self.saved = bitnet.ActQuant.apply, bitnet.BitLinear.activation_quant
        bitnet.ActQuant.apply = lambda x: x
        bitnet.BitLinear.activation_quant = lambda _, x: (x, torch.ones(1))

    def __exit__(self, *_):
        bitnet.ActQuant.apply, bitnet.BitLinear.activation_quant = self.saved


def run(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].numpy()[:, COLUMNS]


def worst(rows, oracle, cases):
    return max(np.abs(a - oracle.logits(ids)[:, COLUMNS]).max() for a, ids in zip(rows, cases))


def main(names):
    torch.set_num_threads(1)
    OUT.mkdir(exist_ok=True)
    index_file = OUT / "index.json"
    index = json.loads(index_file.read_text()) if index_file.exists() else {}
    for name in names:
        toy = {**make_toy.TOYS, **make_toy.MATRIX}[name]
        with tempfile.TemporaryDirectory() as tmp:
            make_toy.make(name, tmp, SOURCE / "models" / "bard")
            cases = prompts(name, tmp)
            model = load_stock(tmp) if is_stock(toy) else load_patched(tmp)
            bitlinear = [run(model, ids) for ids in cases]
            with FloatActivations():
                floats = [run(model, ids) for ids in cases]
            seen = {
                "float": worst(floats, Reference(tmp, quantise=False), cases),
                "bitlinear": worst(bitlinear, Reference(tmp), cases),
            }
            if is_stock(toy):  # the two ways to load are the same model
                patched = load_patched(tmp)
                assert max(np.abs(run(patched, i) - a).max() for i, a in zip(cases, bitlinear)) < 1e-4
        (OUT / f"{name}.f32").write_bytes(np.concatenate([*floats, *bitlinear]).astype("<f4").tobytes())
        index[name] = {
            "class": type(model).__name__,
            "loaded": "stock" if is_stock(toy) else "patched",
            "transformers": transformers.__version__,
            "torch": torch.__version__.partition("+")[0],
            "oracle_differs_by": {k: float(f"{v:.2g}") for k, v in seen.items()},
            "prompts": cases,
        }
        print(name, index[name]["class"], index[name]["loaded"], index[name]["oracle_differs_by"], flush=True)
        lines = [f"{json.dumps(n)}: {json.dumps(index[n])}" for n in sorted(index)]
        index_file.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(sys.argv[1:] or [*make_toy.TOYS, *make_toy.MATRIX])
