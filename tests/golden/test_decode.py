# SPDX-License-Identifier: Apache-2.0
"""wf-run --decode: verify gives the autoregressive text, token for token; block diffusion at its edges (short texts,
prompts around block boundaries, thresholds 0 and 1, the mask as an end token, stop strings), on every ISA and with one
and two threads; settings that are none. The texts themselves: test_diffusion.py."""

import functools
import json
import os
import pty
import re
import subprocess

import gguf_edit
import numpy as np
import pytest
from harness import BARD, BIN, EXPECTED, convert, generate, isas, join, run, succeed
from test_diffusion import ARCHITECTURES, Toy, options, prompt_of
from test_diffusion import run as decoded

CASES = json.loads((EXPECTED / "bard" / "cases.json").read_text())["cases"]
STYLES = ["fast-dllm-v2", "causal"]


@pytest.fixture(scope="module")
def bard(tmp_path_factory):
    path = tmp_path_factory.mktemp("decode") / "bard.gguf"
    convert(BARD, path, "i2_s")
    return path


def prompts(count):
    """Beginnings and middles of the sample's own texts, and random ids; all different."""
    rng, out = np.random.default_rng(200), {}
    texts = [c["ids"] + c["greedy_ids"] for c in CASES] + [c["ids"] + d["ids"] for c in CASES for d in c["diffusion"]]
    while len(out) < count:
        text = texts[rng.integers(len(texts))]
        begin = 0 if rng.random() < 0.5 else rng.integers(len(text))
        out[tuple(text[begin : begin + rng.integers(1, 80)])] = None
        out[tuple(rng.integers(0, 2044, rng.integers(1, 70)).tolist())] = None
    return list(out)[:count]


# --- verify -----------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=None)
def autoregressive(path, ids, n, *more):
    return generate(path, ids, n, "--decode", "ar", *more)


def verify(path, ids, n, style, *more, block=None):
    """Returns (tokens, drafted, accepted, passes)."""
    want = autoregressive(path, tuple(ids), n, *more)  # of both styles
    sizes = [] if block is None else ["--block-size", block]
    r = generate(path, ids, n, "--decode", "verify", "--diffusion-style", style, *sizes, *more)
    for key in ("ids", "text", "finish_reason"):
        assert r[key] == want[key], f"{style}, {more}, prompt {ids}"
    t = r["timings"]
    assert 0 <= t["draft_n_accepted"] <= t["draft_n"]
    return len(r["ids"]), t["draft_n"], t["draft_n_accepted"], t["passes"]


@pytest.mark.parametrize("style", STYLES)
def test_verify_is_autoregressive(bard, style):
    """200 prompts, block sizes in turn."""
    counts = [verify(bard, ids, 48, style, block=(None, 8, 4, 16)[i % 4]) for i, ids in enumerate(prompts(200))]
    tokens, drafted, accepted, passes = np.sum(counts, axis=0)
    # How much is drafted depends on what passes cost here.
    print(f"{style}: {tokens} tokens in {passes} passes, {accepted} of {drafted} drafted tokens accepted")


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_verify_is_autoregressive_on_every_architecture(toys, name, style):
    path = toys(name).file
    for n in (1, 20, 32, 45):
        verify(path, toys(name).prompt(n), 33, style, "--ignore-eos")


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("tokens", [1, 2, 31, 32, 33])
def test_verify_of_few_tokens(bard, style, tokens):
    for ids in prompts(8):
        assert verify(bard, ids, tokens, style, "--ignore-eos")[0] == tokens


# --- edges ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    return functools.lru_cache(maxsize=None)(functools.partial(Toy, tmp=tmp_path_factory.mktemp("toys")))


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    return Toy("qwen3-plain", tmp_path_factory.mktemp("long"), context=4096)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("length", [1, 31, 32, 33, 1000])
def test_short_texts_and_prompts_around_boundaries(long, length, style):
    agreed = []
    modes = [("greedy", 0.5), ("iterative", 0.7), ("adaptive", 0.9)]
    for tokens in (1, 2, 31, 32, 33):
        for mode, threshold in modes if length < 1000 else modes[tokens % 3 : tokens % 3 + 1]:  # the oracle is slow
            settings = {"mode": mode, "threshold": threshold, "style": style}
            prompt = long.prompt(length, salt=tokens)
            ids, _ = decoded(long.file, prompt, tokens, {**settings, "ends": ()})
            assert len(ids) == tokens
            agreed.append(long.agrees(prompt, tokens, settings))
    assert agreed.count(None) <= len(agreed) / 10


def test_a_first_token_that_needs_no_pass(long):
    """After a prompt of whole blocks it is the prefill's."""
    for length, passes in ((32, 0), (64, 0), (33, 1), (31, 1)):
        for mode in ("greedy", "iterative", "adaptive"):
            settings = {"mode": mode, "threshold": 0.0, "ends": ()}
            assert decoded(long.file, long.prompt(length), 1, settings)[1] == passes


def test_threshold_0_takes_a_sub_block_a_pass(bard):
    for sub_block in (4, 8, 32):
        settings = {"mode": "iterative", "threshold": 0.0, "sub_block": sub_block, "ends": ()}
        ids = list(range(100, 132))
        assert decoded(bard, ids, 32, settings)[1] == 32 // sub_block
        assert decoded(bard, ids, 64, settings)[1] == 2 * 32 // sub_block + 1
        settings["style"] = "causal"
        assert decoded(bard, ids, 64, settings)[1] == 2 * 32 // sub_block


def test_one_pass_a_sub_block_at_most(bard):
    """The last pass that is allowed takes all, whatever the threshold is."""
    for most in (1, 2, 3):
        settings = {"mode": "iterative", "threshold": 1.0, "max_passes": most, "style": "causal", "ends": ()}
        assert decoded(bard, [100, 200, 300], 64, settings)[1] == 8 * most


@pytest.mark.parametrize("mask", [2046, 0])
@pytest.mark.parametrize("style", STYLES)
def test_a_mask_that_is_a_token_like_others(long, mask, style):
    """Also an end token: it is never chosen and ends nothing. And in a prompt it is no mask."""
    settings = {"threshold": 0.5, "style": style, "mask": mask}
    agreed = []
    for n in (1, 20, 32, 50):
        prompt = long.prompt(n)
        prompt[n // 2] = mask
        ids, _ = decoded(long.file, prompt, 40, settings)
        assert mask not in ids and (len(ids) == 40 or ids[-1] in (2045, 2046))
        agreed.append(long.agrees(prompt, 40, settings))
    assert any(agreed)


@pytest.mark.parametrize("mode", ["ar", "greedy", "iterative", "adaptive", "verify"])
def test_the_mask_is_never_chosen_and_ties_go_to_the_lowest_id(tmp_path, mode):
    """A model whose logits are all 0."""
    toy = Toy("qwen2-plain", tmp_path)
    g = gguf_edit.Gguf(toy.file)
    norm = g.tensors[b"output_norm.weight"]
    norm.data = bytes(len(norm.data))
    g.write(toy.file)
    # verify gives the text of ar, for which no token but the model's own mask is special.
    for mask, want in ((2047, 0), (0, 0 if mode == "verify" else 1)):
        more = [] if mode == "ar" else ["--mask-token-id", mask]
        if mode == "ar" and mask != 2047:
            continue
        assert generate(toy.file, [5, 6, 7], 40, "--decode", mode, "--ignore-eos", *more)["ids"] == [want] * 40


@pytest.mark.parametrize("mode", ["iterative", "adaptive"])
def test_end_tokens_stop_strings_and_plain_output(bard, mode):
    hello = CASES[1]["ids"]
    r = generate(bard, hello, 64, "--decode", mode)
    assert r["finish_reason"] == "stop" and r["ids"][-1] in (2045, 2046)
    assert "<|" not in r["text"] and len(r["text"]) > 30
    on = generate(bard, hello, 64, "--decode", mode, "--ignore-eos")
    assert len(on["ids"]) == 64 and on["finish_reason"] == "length"
    begin = len(r["text"]) // 2
    stopped = generate(bard, hello, 64, "--decode", mode, "--stop", r["text"][begin : begin + 5])
    assert stopped["finish_reason"] == "stop"
    assert stopped["text"] == r["text"][: r["text"].index(r["text"][begin : begin + 5])]
    plain = succeed("wf-run", "-m", bard, "--ids", join(hello), "-n", 64, "--temp", 0, "--kv-type", "f32", "--decode",
                    mode)  # fmt: skip
    assert plain.stdout.strip() == r["text"].strip()


def test_the_context_is_filled(bard):
    """Up to its last position, and a text that wants more ends there."""
    for style in STYLES:
        for n in (480, 500, 511):
            for more in ([], ["--decode", "verify"]):
                r = generate(bard, prompt_of(n), 512 - n, "--ignore-eos", "--diffusion-style", style, *more)
                assert len(r["ids"]) == 512 - n, (style, n, more)


SETTINGS = [
    {"mode": "greedy"},
    {"mode": "iterative", "threshold": 0.7},
    {"mode": "iterative", "threshold": 0.9, "block_cache": True},
    {"mode": "adaptive", "threshold": 0.9, "style": "causal"},
    {"mode": "adaptive", "block": 16, "sub_block": 4},
    {"mode": "verify"},
    {"mode": "verify", "style": "causal"},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_every_isa_and_thread_count(bard, settings):
    for length, tokens in ((30, 12), (40, 70)):
        ids = prompt_of(length)
        want, passes = decoded(bard, ids, tokens, {**settings, "ends": ()})
        assert len(want) == tokens
        for isa in isas(bard):
            if isa == "scalar" and length > 30:  # it is 30 times slower
                continue
            for threads in (1, 2):
                got = decoded(bard, ids, tokens, {**settings, "ends": ()}, isa=isa, threads=threads)
                assert got[0] == want, (isa, threads)
                # verify drafts as much as pays here: its passes are no property of the text.
                assert settings["mode"] == "verify" or got[1] == passes, (isa, threads)


# --- what is refused --------------------------------------------------------------------------------------------


def fails(code, path, *args):
    r = run("wf-run", "-m", path, "--ids", "1,2", "-n", 4, "--temp", 0, *args)
    assert r.returncode == code, f"{args}: exit {r.returncode}: {r.stdout}{r.stderr}"
    assert r.stdout == "" and len(r.stderr.strip().splitlines()) <= 2, r.stderr
    return r.stderr


@pytest.mark.parametrize(
    "args, code, words",
    [
        (["--decode", "diffusion"], 2, ["--decode", "diffusion"]),
        (["--decode", "Greedy"], 2, ["--decode", "Greedy"]),
        (["--decode", "dual_cache"], 2, ["--decode", "dual_cache"]),
        (["--threshold", "1.5"], 2, ["--threshold", "1.5", "0", "1"]),
        (["--threshold", "-0.1"], 2, ["--threshold", "-0.1"]),
        (["--threshold", "high"], 2, ["--threshold", "high"]),
        (["--block-size", "0"], 2, ["--block-size", "0"]),
        (["--block-size", "257"], 2, ["--block-size", "257", "256"]),
        (["--sub-block-size", "0"], 2, ["--sub-block-size", "0"]),
        (["--max-passes", "0"], 2, ["--max-passes", "0"]),
        (["--max-passes", "-1"], 2, ["--max-passes", "-1"]),
        (["--mask-token-id", "-2"], 2, ["--mask-token-id", "-2"]),
        (["--diffusion-style", "llada"], 2, ["--diffusion-style", "llada", "fast-dllm-v2", "causal"]),
        (["--diffusion-style", "dream"], 2, ["--diffusion-style", "dream", "fast-dllm-v2", "causal"]),
        # What the flag's range does not tell.
        (["--threshold", "nan"], 1, ["threshold", "nan", "0 to 1"]),
        (["--sub-block-size", "5"], 1, ["sub_block_size", "5", "32"]),
        (["--sub-block-size", "64"], 1, ["sub_block_size", "64", "32"]),
        (["--block-size", "16", "--sub-block-size", "3"], 1, ["sub_block_size", "3", "16"]),
        (["--block-size", "24"], 1, ["block_size", "24", "512"]),
        (["-c", "100"], 1, ["block_size", "32", "100"]),
        (["--mask-token-id", "2048"], 1, ["mask_token_id", "2048", "2047"]),
        (["--decode", "ar", "--threshold", "0.5"], 1, ["threshold", "ar"]),
        (["--decode", "ar", "--block-size", "32"], 1, ["block_size", "ar"]),
        (["--decode", "ar", "--sub-block-size", "8"], 1, ["sub_block_size", "ar"]),
        (["--decode", "ar", "--max-passes", "3"], 1, ["max_passes", "ar"]),
        (["--decode", "ar", "--block-cache"], 1, ["block_cache", "ar"]),
        (["--decode", "ar", "--mask-token-id", "5"], 1, ["mask_token_id", "ar"]),
        (["--decode", "ar", "--diffusion-style", "causal"], 1, ["style", "ar"]),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else None,
)
def test_settings_that_are_none(bard, args, code, words):
    message = fails(code, bard, *args)
    for word in words:
        assert word in message, message


def test_a_model_that_is_not_for_diffusion(tmp_path):
    path = tmp_path / "random.gguf"
    succeed("wf_make_model", "-o", path, "--layers", 1, "--embedding", 128, "--ffn", 256, "--heads", 2, "--kv-heads", 1,
            "--vocab", 512, "--context", 256)  # fmt: skip
    ids = [1, 2, 3]
    plain = generate(path, ids, 20)
    assert plain == {**plain, "ids": generate(path, ids, 20, "--decode", "ar")["ids"]}, "ar is the default"
    for mode in ("greedy", "iterative", "adaptive", "verify"):
        assert "mask" in fails(1, path, "--decode", mode)
    mask = ["--mask-token-id", 511]
    assert "style" in fails(1, path, "--decode", "adaptive", *mask)
    assert "adaptive" in fails(1, path, "--decode", "adaptive", *mask)
    for style in STYLES:
        more = ["--mask-token-id", 511, "--diffusion-style", style]
        assert len(generate(path, ids, 20, "--decode", "adaptive", *more)["ids"]) == len(plain["ids"])
        assert generate(path, ids, 20, "--decode", "verify", *more)["ids"] == plain["ids"]
    assert generate(path, ids, 20, "--decode", "verify", *mask)["ids"] == plain["ids"]


def test_options_of_a_setting_are_all_tried():
    """options() above knows every field of the oracle's settings that wf-run has a flag for."""
    flags = succeed("wf-run", "--help").stdout
    every = {"mode": "greedy", "style": "causal", "threshold": 1, "block": 2, "sub_block": 1, "max_passes": 3,
             "block_cache": True, "mask": 5, "ends": ()}  # fmt: skip
    assert all(o in flags for o in options(every) if str(o).startswith("--"))


# --- what is shown ----------------------------------------------------------------------------------------------


def test_explain_tells_what_passes_cost_and_what_follows(bard):
    for mode, word in [("ar", "several requests"), ("adaptive", "finalising: a pass of its own"), ("verify", "drafts:")]:
        said = succeed("wf-run", "-m", bard, "-p", "ROMEO:", "-n", 4, "--temp", 0, "--decode", mode, "--explain").stderr
        assert f"decode: {mode}" in said and word in said, said
        assert all(f"{rows} row" in said for rows in (1, 2, 4, 8, 16, 32)), said
    said = succeed("wf-run", "-m", bard, "-p", "ROMEO:", "-n", 4, "--temp", 0, "--decode", "iterative",
                   "--diffusion-style", "causal", "--explain").stderr  # fmt: skip
    assert "finalising: merged into the next pass" in said, said


def test_explain_without_a_request(bard):
    r = run("wf-run", "-m", bard, "--chat", "--explain", stdin=subprocess.DEVNULL)
    assert r.returncode == 0 and "decode: adaptive" in r.stderr, r


def test_a_view_of_blocks_is_for_terminals_and_leaves_the_text(bard):
    args = ["-m", bard, "-p", "ROMEO:", "-n", 20, "--temp", 0, "--decode", "iterative"]
    text = json.loads(succeed("wf-run", *args, "--json").stdout)["text"]
    assert "--view needs a terminal" in run("wf-run", *args, "--view").stderr
    leader, follower = pty.openpty()
    with subprocess.Popen([str(BIN / "wf-run"), *map(str, args), "--view"], stdout=follower, stderr=subprocess.DEVNULL,
                          stdin=subprocess.DEVNULL) as process:  # fmt: skip
        os.close(follower)
        shown = b""
        try:
            while chunk := os.read(leader, 65536):
                shown += chunk
        except OSError:  # how a terminal whose other end is closed reads
            pass
    os.close(leader)
    assert process.returncode == 0
    assert "░".encode() in shown
    # What is drawn between saving the cursor and wiping is not part of the text.
    left = re.sub(rb"(\x1bD)+\x1b\[\d+A\x1b7.*?\x1b8\x1b\[J", b"", shown, flags=re.S)
    assert left.decode().replace("\r\n", "\n") == text + "\n"


def test_a_context_above_the_models_must_be_forced(bard):
    args = ["wf-run", "-m", bard, "--ids", "5", "-n", 2, "--temp", 0, "-c", 1024]
    r = run(*args)
    assert r.returncode == 1 and "expected 2 to 512" in r.stderr
    assert "--force-context" in r.stderr
    succeed(*args, "--force-context")
