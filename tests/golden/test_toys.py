# SPDX-License-Identifier: Apache-2.0
"""Small random checkpoints (make_toy.py) against the float64 oracle (reference.py), and wf-perplexity's arithmetic
against its own logits. Needs nothing outside the repository."""

import json
import math

import make_toy
import numpy as np
import pytest
from harness import BARD, VOCAB, convert, distance, isas, join, logits, succeed
from reference import Reference

# An activation that lies in the middle between two integers may round either way in float32; if it goes the other way
# than the oracle's, the logits of its token and of those after it move by some hundredths (their deviation is 3 to 4).
# So: where none of the activations behind a row came nearer than TIE to a middle (x * a is below 128, its error in
# float32 some 1e-5), the row must be the oracle's within CLOSE; elsewhere within the effect of a few such roundings.
TIE, CLOSE = 1e-4, 1e-3
MEAN, MAX = 0.1, 1.0

RNG = np.random.default_rng(100)
PROMPTS = [RNG.integers(0, 2044, n).tolist() for n in [1] * 30 + [2, 3, 4, 7] * 5 + [31, 33, 70]]


class Toy:
    def __init__(self, name, tmp):
        self.name, self.tmp, self.folder = name, tmp, tmp / name
        make_toy.make(name, self.folder, BARD)
        # I2_S files keep embedding and low-rank factors in F16.
        self.references = {"f32": Reference(self.folder), "i2_s": Reference(self.folder, stored=np.float16)}
        self.reports = {t: convert(self.folder, self.file(t), t) for t in ("f32", "i2_s")}

    def file(self, outtype):
        return self.tmp / f"{self.name}-{outtype}.gguf"

    def logits(self, outtype, isa=None, threads=1, prompts=PROMPTS):
        # Short and long ones apart: each is filled up to the longest of its run.
        rows = []
        for part in ([p for p in prompts if len(p) <= 7], [p for p in prompts if len(p) > 7]):
            rows += logits(self.file(outtype), part, self.tmp / "logits.f32", isa, threads) if part else []
        return rows


@pytest.fixture(scope="module", params=list(make_toy.TOYS))
def toy(request, tmp_path_factory):
    return Toy(request.param, tmp_path_factory.mktemp("toys"))


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """For what does not depend on the model."""
    return Toy("toy-packed", tmp_path_factory.mktemp("one"))


@pytest.mark.parametrize("outtype", ["f32", "i2_s"])
def test_logits_are_the_oracles(toy, outtype):
    sure, close = 0, []
    for p, got in zip(PROMPTS, toy.logits(outtype)):
        want = toy.references[outtype].logits(p)
        certain = np.minimum.accumulate(toy.references[outtype].ties) > TIE  # a row depends on all rows before it
        worst = np.abs(got - want).max(axis=1)
        assert (worst[certain] <= CLOSE).all(), f"{len(p)} tokens: {worst}"
        sure += certain.sum()
        close.extend(worst <= CLOSE)
        mean, most = distance(got, want)
        assert mean <= MEAN and most <= MAX, f"{len(p)} tokens: mean {mean:.4f}, max {most:.3f}"
    print(f"{toy.name} {outtype}: {sure} of {len(close)} rows are certain; {sum(close)} are within {CLOSE}")
    assert sure >= 25 and np.mean(close) >= 0.5


@pytest.mark.parametrize("outtype", ["f32", "i2_s"])
def test_isas_and_threads_agree_bit_for_bit(toy, outtype):
    prompts = PROMPTS[-8:]  # 2 to 70 tokens
    want = toy.logits(outtype, prompts=prompts)
    for isa in isas(toy.file("i2_s")):
        for threads in (1, 2):
            some = prompts if isa != "scalar" else prompts[:-3] if threads == 1 else prompts[:1]  # scalar is slow
            for p, a, b in zip(some, toy.logits(outtype, isa, threads, some), want):
                assert np.array_equal(a, b), f"{isa}, {threads} threads, {len(p)} tokens"


def test_every_part_of_the_model_is_seen(toy):
    """The bounds above mean something: with one part of one projection left out or a little wrong, the oracle's own
    logits move by a multiple of CLOSE."""
    reference, prompt = toy.references["f32"], PROMPTS[-3]
    want, seen = reference.logits(prompt), 0
    for i, layer in enumerate(reference.layers):
        for name, p in layer.items():
            if not hasattr(p, "scale"):
                continue
            wrong = {"scale": p.scale * np.float32(1.02)}
            if p.u is not None:
                wrong["u"] = None
            if p.norm is not None:
                # The pairs' epsilon and that of config.json, taken for each other.
                wrong["norm"], wrong["eps"] = None, 1.1e-5 - p.eps
            for part, value in wrong.items():
                seen += 1
                old = getattr(p, part)
                setattr(p, part, value)
                _, most = distance(reference.logits(prompt), want)
                setattr(p, part, old)
                assert most > 10 * CLOSE, f"layer {i}, {name}: {part} is not seen ({most:.4f})"
    assert seen >= 7


def test_greedy_equals_the_oracle(toy):
    """The program's cache against a forward pass of the whole text: every token that it chose is the oracle's best,
    or within what rounding can turn."""
    prompt = PROMPTS[-4]
    out = json.loads(
        succeed("wf-run", "--decode", "ar", "-m", toy.file("i2_s"), "--ids", join(prompt), "-n", 40, "--temp", 0, "--kv-type", "f32",
                "--json").stdout
    )  # fmt: skip
    rows = toy.references["i2_s"].logits(prompt + out["ids"])[len(prompt) - 1 : -1]
    rows[:, 2047] = -np.inf  # the mask token is never sampled
    chosen = rows[np.arange(len(rows)), out["ids"]]
    assert (rows.max(axis=1) - chosen <= 0.5 * MAX).all()
    assert (rows.argmax(axis=1) == out["ids"]).mean() >= 0.9
    assert len(out["ids"]) == 40 or out["ids"][-1] in (2045, 2046)


# --- wf-perplexity's arithmetic ---------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 2, 32, 63, 64, 65, 200])
def test_perplexity_is_that_of_the_logits(one, window, tmp_path):
    ids = np.random.default_rng(window).integers(0, 2044, 200).tolist()
    r = json.loads(
        succeed("wf-perplexity", "-m", one.file("i2_s"), "--ids", join(ids), "-c", window, "--json", "--logits",
                tmp_path / "l").stdout
    )  # fmt: skip
    rows = np.fromfile(tmp_path / "l", "<f4").reshape(len(ids), VOCAB).astype(np.float64)
    peak = rows.max(axis=1)
    lse = peak + np.log(np.exp(rows - peak[:, None]).sum(axis=1))
    # A token is scored by the row before it; the first of a window by none.
    scored = [i for i in range(1, len(ids)) if i % window != 0]
    nll = np.array([lse[i - 1] - rows[i - 1, ids[i]] for i in scored])
    assert (r["tokens"], r["scored"], r["context"]) == (200, len(scored), window)
    if scored:
        assert r["mean_nll"] == pytest.approx(nll.mean(), rel=1e-5)
        assert r["perplexity"] == pytest.approx(math.exp(nll.mean()), rel=1e-4)
        error = math.exp(nll.mean()) * nll.std(ddof=1) / math.sqrt(len(nll))
        assert r["perplexity_error"] == pytest.approx(error, rel=1e-3)


def test_windows_are_independent(one):
    """The second window's logits are those of its text alone."""
    a, b = PROMPTS[-2], PROMPTS[-2][::-1]
    both = one.logits("i2_s", prompts=[a, b])
    assert np.array_equal(both[1], one.logits("i2_s", prompts=[b])[0])


def test_a_text_gets_the_tokenizers_bos_rule(one, tmp_path):
    (tmp_path / "t.txt").write_text("ROMEO: But soft")
    tokens = json.loads(succeed("wf-inspect", one.file("i2_s"), "--tokenize", "ROMEO: But soft", "--json").stdout)
    for args in (["-f", tmp_path / "t.txt"], ["--ids", join(tokens["ids"])]):
        succeed("wf-perplexity", "-m", one.file("i2_s"), *args, "--logits", tmp_path / str(args[0]))
    assert (tmp_path / "-f").read_bytes() == (tmp_path / "--ids").read_bytes()
