# SPDX-License-Identifier: Apache-2.0
"""The oracle of the other golden tests (reference.py) against logits of PyPI transformers' own model classes, which
make_golden.py wrote to tests/data/golden. Runs nothing of wf."""

import json

import make_toy
import numpy as np
import pytest
from harness import BARD, GOLDEN, golden
from reference import Reference

# float32 against float64, of logits whose deviation is 3 to 4: 2e-5 is seen. The prompts keep every activation away
# from the middle between two integers, so rounding to 8 bits adds nothing.
CLOSE = 1e-4
TIE = 1e-4

CLASSES = {
    "bitnet": "BitNetForCausalLM",
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "qwen2_moe": "Qwen2MoeForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
}


@pytest.fixture(scope="module", params=[*make_toy.TOYS, *make_toy.MATRIX])
def toy(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("oracle") / request.param
    make_toy.make(request.param, folder, BARD)
    return folder


def differs(reference, case, rows):
    return max(np.abs(reference.logits(ids)[:, case.columns] - r).max() for ids, r in zip(case.prompts, rows))


def test_every_class_is_there():
    index = json.loads((GOLDEN / "index.json").read_text())
    assert set(index) == {*make_toy.TOYS, *make_toy.MATRIX}
    for kind, name in CLASSES.items():
        toys = [index[n] for n, t in make_toy.MATRIX.items() if t["type"] == kind]
        assert {t["class"] for t in toys} == {name}
        assert "stock" in {t["loaded"] for t in toys}, f"{name} was never loaded by transformers alone"


def test_the_graph(toy):
    case = golden(toy.name)
    most = differs(Reference(toy, quantise=False), case, case.floats)
    print(f"{toy.name}: {most:.1e} from {case.name}")
    assert most <= CLOSE


def test_activations_in_8_bits(toy):
    case, reference = golden(toy.name), Reference(toy)
    most = differs(reference, case, case.rows)
    print(f"{toy.name}: {most:.1e} from {case.name}")
    assert most <= CLOSE
    for ids in case.prompts:
        reference.logits(ids)
        assert reference.ties.min() > TIE and reference.router_gaps.min() > 0.01, "the prompt is not what it should be"


def parts(reference):
    """(what, object, attribute, wrong value) of everything that a checkpoint says about its graph."""
    for i, layer in enumerate(reference.layers):
        projections = {k: p for k, p in layer.items() if hasattr(p, "scale")}
        if (m := layer.get("experts")) is not None:
            for e, expert in enumerate(m.experts):
                projections.update({f"expert {e} {k}": p for k, p in expert.items()})
            yield f"layer {i}: renormalised weights of experts", m, "renormalise", not m.renormalise
            yield f"layer {i}: experts used", m, "used", 1
            yield f"layer {i}: router", m, "router", m.router[::-1]
            if m.shared is not None:
                projections.update({f"shared {k}": p for k, p in m.shared.items()})
                yield f"layer {i}: the shared expert's gate", m, "shared_gate", 0 * m.shared_gate
        for name, p in projections.items():
            yield f"layer {i}: {name} scale", p, "scale", p.scale * np.float32(1.02)
            if p.bias is not None:
                yield f"layer {i}: {name} bias", p, "bias", None
            if p.u is not None:
                yield f"layer {i}: {name} low-rank term", p, "u", None
            if p.norm is not None:
                yield f"layer {i}: {name} norm", p, "norm", None
                if not ("experts" in layer and name in ("shared gate", "shared up")):  # their input is not small
                    # The pairs' epsilon and that of config.json, taken for each other.
                    yield f"layer {i}: {name} eps", p, "eps", 1.1e-5 - p.eps


def test_every_part_is_seen(toy):
    """The comparisons above, and those of test_matrix.py, mean something: a part left out or a little wrong moves the
    logits of the very prompts that they use by a multiple of CLOSE."""
    case, reference, seen = golden(toy.name), Reference(toy), 0
    long = case.prompts[0]
    want = reference.logits(long)

    def moved(what):
        most = np.abs(reference.logits(long) - want).max()
        assert most > 20 * CLOSE, f"{what} is not seen ({most:.5f})"

    for what, thing, attribute, wrong in parts(reference):
        seen += 1
        right = getattr(thing, attribute)
        setattr(thing, attribute, wrong)
        moved(what)
        setattr(thing, attribute, right)
    for layer in reference.layers:
        for name in ("q_norm", "k_norm"):
            if name in layer:
                right, layer[name] = layer[name], layer[name][::-1]
                moved(name)
                layer[name] = right
    other = "relu2" if reference.config["hidden_act"] == "silu" else "silu"
    for key, wrong in {"rope_scaling": None, "rope_theta": 20000.0, "hidden_act": other}.items():
        if key in reference.config:
            right, reference.config[key] = reference.config[key], wrong
            moved(key)
            reference.config[key] = right
    assert seen >= 7
