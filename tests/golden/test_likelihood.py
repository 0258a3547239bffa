# SPDX-License-Identifier: Apache-2.0
"""wf-perplexity --diffusion against the float64 oracle (reference.py) with the attention of semantics.md 4.1: the same
masks, and for each the cross-entropies that a forward pass of the whole text gives."""

import json
import math
import os
import pty
import signal
import subprocess

import make_toy
import numpy as np
import pytest
from gguf_edit import Gguf
from harness import BARD, BIN, convert, isas, join, run, succeed
from reference import Reference
from test_toys import CLOSE, MEAN, TIE

MASK = 2047


def text(n, seed=46):
    return np.random.default_rng(seed).integers(0, 2044, n).tolist()


def cross_entropy(reference, ids, masked, block):
    """Sum of the cross-entropies of the masked tokens, each from the row before, over all logits. A row sees all keys up
    to the end of its block of `block` positions: 1 is causal."""
    seen = np.array(ids)
    seen[masked] = MASK
    at = np.arange(len(ids))
    rows = reference.forward(seen, at, reference.memory(len(ids)), at[None, :] // block <= at[:, None] // block)
    rows = rows[np.array(masked) - 1]
    peak = rows.max(axis=1)
    lse = peak + np.log(np.exp(rows - peak[:, None]).sum(axis=1))
    return (lse - rows[np.arange(len(masked)), np.array(ids)[masked]]).sum()


class Subject:
    def __init__(self, folder, tmp):
        self.reference = Reference(folder)
        self.file = tmp / f"{folder.name}.gguf"
        convert(folder, self.file, "f32")


@pytest.fixture(scope="module", params=["bard", "toy-packed"])
def subject(request, tmp_path_factory):
    tmp = tmp_path_factory.mktemp("likelihood")
    if request.param == "bard":
        return Subject(BARD, tmp)
    make_toy.make(request.param, tmp / request.param, BARD)
    return Subject(tmp / request.param, tmp)


@pytest.fixture(scope="module")
def bard(tmp_path_factory):
    path = tmp_path_factory.mktemp("bard") / "bard.gguf"
    convert(BARD, path, "i2_s")
    return path


def likelihood(model, ids, *args, isa=None):
    return json.loads(
        succeed("wf-perplexity", "-m", model, "--ids", join(ids), "--json", "--masks", "--diffusion", *args,
                isa=isa).stdout
    )  # fmt: skip


@pytest.mark.parametrize(
    "style, block, prompt, length",
    [
        ("causal", 1, 1, 6),
        ("causal", 1, 5, 40),
        ("fast-dllm-v2", 4, 1, 6),
        ("fast-dllm-v2", 4, 4, 5),
        ("fast-dllm-v2", 4, 6, 3),
        ("fast-dllm-v2", 32, 20, 60),
        ("fast-dllm-v2", 32, 32, 40),
    ],
)
def test_samples_are_the_oracles(subject, style, block, prompt, length):
    samples, close = 8, []
    for seed in range(5):
        ids = text(prompt + length, seed)
        blocks = ["--block-size", block] if style == "fast-dllm-v2" else []
        r = likelihood(subject.file, ids, samples, "--prompt-tokens", prompt, "--diffusion-style", style, *blocks,
                       "--kv-type", "f32", "--mask-token-id", MASK, "--seed", seed)  # fmt: skip
        assert (r["tokens"], r["prompt_tokens"], r["scored"]) == (len(ids), prompt, length)
        assert (r["style"], r["samples"], r["seed"], r["weight"]) == (style, samples, seed, "L/n")
        assert (r["block_size"], r["mask_token_id"]) == (block if blocks else None, MASK)
        assert len(r["masks"]) == samples
        for k, sample in enumerate(r["masks"], 1):
            masked = sample["masked"]
            assert len(masked) == max(1, k * length // samples)
            assert masked == sorted(set(masked)) and prompt <= masked[0] and masked[-1] < len(ids)
            want = cross_entropy(subject.reference, ids, masked, block) / (len(masked) / length)
            # A token's cross-entropy moves by at most twice what a logit does (test_toys.py); there are n, over n/L.
            off, bound = abs(sample["nll"] - want), 2 * length * np.array([CLOSE, MEAN])
            assert off <= bound[0 if (subject.reference.ties > TIE).all() else 1], f"{seed}, {k}: {masked}"
            close.append(off <= bound[0])

        # The estimate, and what is said of it.
        nll = np.array([s["nll"] for s in r["masks"]])
        error = nll.std(ddof=1) / math.sqrt(samples)
        assert r["nll"] == pytest.approx(nll.mean(), rel=1e-12)
        assert r["nll_error"] == pytest.approx(error, rel=1e-6)
        assert r["mean_nll"] == pytest.approx(nll.mean() / length, rel=1e-6)
        assert r["mean_nll_error"] == pytest.approx(error / length, rel=1e-6)
        assert r["perplexity"] == pytest.approx(math.exp(nll.mean() / length), rel=1e-6)
        assert r["perplexity_error"] == pytest.approx(math.exp(nll.mean() / length) * error / length, rel=1e-6)
    # Behind many samples of a short text no activation is rounded to another integer than the oracle's.
    print(f"{np.mean(close):.0%} of the samples are close")
    assert np.mean(close) >= 0.25 or length > 10


def test_the_oracle_tells_the_styles_apart(subject):
    """The bounds above mean something: the wrong attention moves a sample of a short text by a multiple of them."""
    ids, masked = text(12, 1), [1, 3, 5, 6, 9, 10]
    want = cross_entropy(subject.reference, ids, masked, 4)
    for other in (1, 3, 12):
        assert abs(cross_entropy(subject.reference, ids, masked, other) - want) > 10 * 2 * len(masked) * CLOSE, other


def test_isas_threads_and_processes_agree(bard):
    ids = text(45)
    want = {k: v for k, v in likelihood(bard, ids, 4, "--prompt-tokens", 9).items() if k != "isa"}
    for isa in isas(bard):
        for threads in (1, 2):
            got = likelihood(bard, ids, 4, "--prompt-tokens", 9, "-t", threads, isa=isa)
            assert got.pop("isa") == isa
            assert got == want, f"{isa}, {threads} threads"


def test_the_estimate_does_not_depend_on_the_seed_beyond_its_error(bard):
    ids = text(40)
    runs = [likelihood(bard, ids, 64, "--seed", seed) for seed in range(6)]
    assert len({r["nll"] for r in runs}) == len(runs)
    for r in runs[1:]:
        # Four deviations of the difference of two estimates.
        assert abs(r["nll"] - runs[0]["nll"]) <= 4 * math.hypot(r["nll_error"], runs[0]["nll_error"])


def test_one_token_in_style_causal_is_the_autoregressive_likelihood(bard):
    ids = [5, 300, 7]
    for n in (2, 3):
        r = likelihood(bard, ids[:n], 5, "--prompt-tokens", n - 1, "--diffusion-style", "causal")
        both = [
            json.loads(succeed("wf-perplexity", "-m", bard, "--ids", join(ids[:m]), "--json").stdout) for m in (n - 1, n)
        ]
        nll = [b["mean_nll"] * b["scored"] for b in both]
        assert r["nll"] == pytest.approx(nll[1] - nll[0], rel=1e-6) and r["nll_error"] == 0


def test_what_is_said_without_json(bard):
    said = succeed("wf-perplexity", "-m", bard, "--ids", "5,6,7,8", "--diffusion", 4).stdout
    for word in ("+-", "nats: 3 tokens after a prompt of 1", "4 samples weighted by L/n", "seed 0", "perplexity",
                 "style fast-dllm-v2, blocks of 32, mask token 2047"):  # fmt: skip
        assert word in said
    one = succeed("wf-perplexity", "-m", bard, "--ids", "5,6,7,8", "--diffusion", 1).stdout
    assert "+-" not in one and "one has no standard error" in one
    r = likelihood(bard, [5, 6, 7, 8], 1)
    assert r["nll_error"] is r["mean_nll_error"] is r["perplexity_error"] is None


def test_128_samples_where_no_number_is_given(bard):
    assert likelihood(bard, [5, 6, 7, 8])["samples"] == 128
    assert "128" in succeed("wf-perplexity", "--help").stdout


@pytest.mark.parametrize(
    "code, args, words",
    [
        (2, ["--diffusion", 0], ["--diffusion", "0", "1 to 1048576"]),
        (2, ["--diffusion", "many"], ["--diffusion", "many"]),
        (2, ["--diffusion", "--logits", "l.f32"], ["--logits", "--diffusion"]),
        (2, ["--diffusion", "-c", 64], ["--ctx-size", "--diffusion"]),
        (2, ["--diffusion", "--diffusion-style", "llada"], ["llada", "fast-dllm-v2", "causal"]),
        (2, ["--diffusion", "--prompt-tokens", 0], ["--prompt-tokens", "0"]),
        (2, ["--diffusion", "--seed", -1], ["--seed", "-1"]),
        (2, ["--diffusion", "--masks"], ["--masks", "--json"]),
        (2, ["--masks", "--json"], ["--masks", "--diffusion"]),
        (2, ["--prompt-tokens", 2], ["--prompt-tokens", "--diffusion"]),
        (2, ["--seed", 2], ["--seed", "--diffusion"]),
        (2, ["--mask-token-id", 2], ["--mask-token-id", "--diffusion"]),
        (2, ["--diffusion-style", "causal"], ["--diffusion-style", "--diffusion"]),
        (2, ["--block-size", 8], ["--block-size", "--diffusion"]),
        (1, ["--diffusion", "--prompt-tokens", 4], ["prompt tokens = 4", "1 to 3"]),
        (1, ["--diffusion", "--mask-token-id", 2048], ["mask_token_id = 2048", "0 to 2047"]),
        (1, ["--diffusion", "--block-size", 257], ["block_size = 257", "1 to 256"]),
        (1, ["--diffusion", "--block-size", 48], ["48", "512"]),
        (1, ["--diffusion", "--block-size", 8, "--diffusion-style", "causal"], ["--block-size", "causal"]),
    ],
)
def test_what_makes_no_sense_is_an_error(code, args, words, bard, tmp_path):
    r = run("wf-perplexity", "-m", bard, "--ids", "5,6,7,8", *args, cwd=tmp_path)
    assert r.returncode == code and r.stdout == "", r.stderr
    for word in words:
        assert word in r.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_text_above_the_context_is_an_error(bard):
    r = run("wf-perplexity", "-m", bard, "--ids", join([5] * 513), "--diffusion", 2)
    assert r.returncode == 1 and "513 tokens" in r.stderr and "context holds 512" in r.stderr
    likelihood(bard, [5] * 512, 1)


@pytest.mark.parametrize(
    "key, missing, flag",
    [
        (b"tokenizer.ggml.mask_token_id", "the model has no mask token", ["--mask-token-id", MASK]),
        (b"bitnet-b1.58.diffusion.style", "the model names no diffusion style", ["--diffusion-style", "fast-dllm-v2"]),
    ],
)
def test_what_the_model_does_not_say_is_required(key, missing, flag, bard, tmp_path):
    gguf = Gguf(bard)
    gguf.metadata.pop(key, None)
    gguf.write(tmp_path / "m.gguf")
    r = run("wf-perplexity", "-m", tmp_path / "m.gguf", "--ids", "5,6,7", "--diffusion", 3)
    assert r.returncode == 1 and missing in r.stderr and f"{flag[0]} is required" in r.stderr
    assert likelihood(tmp_path / "m.gguf", [5, 6, 7], 3, *flag)["nll"] == likelihood(bard, [5, 6, 7], 3)["nll"]


def test_an_interrupt_ends_it(bard):
    """As soon as the terminal shows progress: hours of work are left."""
    terminal, stderr = pty.openpty()
    command = [BIN / "wf-perplexity", "-m", bard, "--ids", join([5] * 400), "--diffusion", 1000000]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=stderr, text=True) as p:
        os.close(stderr)
        shown = os.read(terminal, 1000)
        while b"%" not in shown:
            shown += os.read(terminal, 1000)
        p.send_signal(signal.SIGINT)
        assert p.communicate(timeout=60)[0] == "" and p.returncode == 130
    assert b"interrupted" in shown + os.read(terminal, 1000)
    os.close(terminal)
