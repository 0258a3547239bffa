# SPDX-License-Identifier: Apache-2.0
"""Bad input to wf-run, wf-perplexity and wf-inspect: the exit code (1 failure, 2 wrong usage) and a message that names
the thing, what was expected and what was found. Nothing on stdout, no output file left."""

import json
import os
import resource
import subprocess

import pytest
from harness import BARD, BIN, ISAS, convert, isas, run, succeed

RUN = ["wf-run", "--ids", "1,2", "-n", "1"]
PERPLEXITY = ["wf-perplexity", "--ids", "1,2"]
INSPECT = ["wf-inspect"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "bard.gguf"
    convert(BARD, path, "i2_s")
    return path


def on(program, path):
    """The command line of a program on a model file."""
    return [*program, path] if program is INSPECT else [*program, "-m", path]


def fails(code, command, *words, **kwargs):
    r = run(*command, **kwargs)
    assert r.returncode == code, f"exit {r.returncode}: {r.stdout}{r.stderr}"
    assert r.stdout == ""
    for word in words:
        assert str(word) in r.stderr, f"'{word}' is not in: {r.stderr}"
    assert len(r.stderr.strip().splitlines()) <= 2, r.stderr
    return r.stderr


programs = pytest.mark.parametrize("program", [RUN, PERPLEXITY, INSPECT], ids=["run", "perplexity", "inspect"])
runners = pytest.mark.parametrize("program", [RUN, PERPLEXITY], ids=["run", "perplexity"])


@programs
def test_missing_file(program, tmp_path):
    path = tmp_path / "none.gguf"
    fails(1, on(program, path), f"{program[0]}: error: ", path, "No such file")


@runners
def test_directory(program, tmp_path):
    fails(1, on(program, tmp_path), "error: ", tmp_path)


@programs
def test_not_a_gguf(program, tmp_path):
    path = tmp_path / "text.gguf"
    path.write_text("To be, or not to be, that is the question.\n")
    fails(1, on(program, path), path, "not a GGUF", "'GGUF'", "'To b'")


@programs
def test_empty_file(program, tmp_path):
    path = tmp_path / "empty.gguf"
    path.touch()
    fails(1, on(program, path), path)


@programs
@pytest.mark.parametrize("keep", [3, 20, 1000, 0.5, -1])
def test_truncated_file(program, keep, model, tmp_path):
    data = model.read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])
    fails(1, on(program, path), path)
    if keep in (0.5, -1):  # the header is whole, a tensor's bytes are missing
        fails(1, on(program, path), "tensor '", "offset")


@programs
def test_unknown_flag(program, model):
    fails(2, [*on(program, model), "--tokens", "3"], "--tokens")


@runners
def test_no_model(program):
    fails(2, program, "--model is required")


def test_unknown_decoding_mode(model):
    fails(2, [*on(RUN, model), "--decode", "diffusion"], "--decode", "diffusion", "{auto,ar,greedy,iterative,adaptive,verify}")


@runners
def test_unknown_kv_type(program, model):
    fails(2, [*on(program, model), "--kv-type", "q8"], "--kv-type", "q8", "f16", "f32", "i8")


def test_unknown_head_mode(model):
    fails(2, [*on(RUN, model), "--head", "half"], "--head", "half", "auto", "full")


@runners
@pytest.mark.parametrize("ids", ["one,two", "1;2", "1,,2", "1,2,", "-1", "1.5", "99999999999", " "])
def test_ids_that_are_none(program, ids, model):
    fails(1, [program[0], "-m", model, f"--ids={ids}"], f"--ids: '{ids}' is not a list of token ids like 1,2,3")


@runners
def test_no_ids(program, model):
    fails(2, [program[0], "-m", model, "--ids="], "--ids")
    fails(1, [program[0], "-m", model, "--ids", ""], "token")


@runners
def test_id_above_the_vocabulary(program, model):
    fails(1, [program[0], "-m", model, "--ids", "5,2048"], "token id 2048, expected", "204")


def test_no_text(model):
    fails(2, ["wf-run", "-m", model], "one of -p, --ids and --chat is required")
    fails(2, ["wf-perplexity", "-m", model], "Exactly 1", "--file", "--ids")


def test_two_texts(model, tmp_path):
    fails(2, [*on(RUN, model), "-p", "Hello"], "--ids", "--prompt")
    fails(2, [*on(PERPLEXITY, model), "-f", tmp_path], "Exactly 1", "--file", "--ids")


def test_missing_text_file(model, tmp_path):
    fails(1, ["wf-perplexity", "-m", model, "-f", tmp_path / "no.txt"], tmp_path / "no.txt", "No such file")


@runners
def test_context_above_the_models(program, model):
    fails(1, [*on(program, model), "-c", "513"], "513", "512")


@runners
@pytest.mark.parametrize("n", ["0", "-5", "x"])
def test_context_that_is_none(program, n, model):
    fails(2, [*on(program, model), "-c", n], n)


@runners
@pytest.mark.parametrize("n", ["0", "-1", "two", "100000"])
def test_threads_that_are_none(program, n, model):
    fails(2, [*on(program, model), "-t", n], n)


def test_prompt_longer_than_the_context(model):
    ids = ",".join(["5"] * 40)
    # 40 tokens do not fit into 40: the answer needs room for one.
    for context in (39, 40):
        fails(1, ["wf-run", "-m", model, "--ids", ids, "-c", context, "--decode", "ar"], "40 tokens", f"context holds {context}")
    r = json.loads(succeed("wf-run", "-m", model, "--ids", ids, "-c", 41, "--json", "--temp", 0, "--seed", 1, "--decode", "ar").stdout)
    assert len(r["ids"]) == 1


@pytest.mark.parametrize(
    "flag, value", [("--temp", "-1"), ("--temp", "101"), ("--temp", "hot"), ("--seed", "-2"), ("-n", "-1"), ("-n", "x")]
)
def test_sampling_flags_out_of_range(flag, value, model):
    fails(2, [*on(RUN, model), f"{flag}={value}" if flag[1] == "-" else f"{flag}{value}"], value)


@pytest.mark.parametrize(
    "flag, value, name",
    [
        ("--top-p", "0", "top_p"),
        ("--top-p", "1.5", "top_p"),
        ("--min-p", "2", "min_p"),
        ("--top-k", "-2", "top_k"),
        ("--repeat-penalty", "0", "repetition_penalty"),
        ("--presence-penalty", "3", "presence_penalty"),
        ("--frequency-penalty", "-3", "frequency_penalty"),
    ],
)
def test_sampling_values_out_of_range(flag, value, name, model):
    fails(1, [*on(RUN, model), f"{flag}={value}"], f"{name} = {value}", "expected")


@runners
def test_unknown_isa(program, model):
    fails(1, on(program, model), "WF_FORCE_ISA", "unknown ISA 'sse9'", *ISAS, isa="sse9")


@runners
def test_isa_that_the_cpu_lacks(program, model):
    lacking = [i for i in ISAS if i not in isas(model)]
    if not lacking:
        pytest.skip("this CPU has every ISA")
    for isa in lacking:
        fails(1, on(program, model), f"WF_FORCE_ISA={isa}: ", isa=isa)


def test_logits_that_cannot_be_written(model, tmp_path):
    fails(1, [*on(PERPLEXITY, model), "--logits", tmp_path / "no" / "l.f32"], tmp_path / "no", "No such file")


def test_a_failure_leaves_no_logits(model, tmp_path):
    fails(1, ["wf-perplexity", "-m", model, "--ids", "5,2048", "--logits", tmp_path / "l.f32"], "2048")
    assert list(tmp_path.iterdir()) == []


def test_help_and_version():
    for program in ("wf-run", "wf-perplexity", "wf-inspect", "wf-convert"):
        assert program in succeed(program, "--help").stdout
        assert succeed(program, "--version").stdout.strip() != ""


@programs
def test_a_fifo_is_no_model(program, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    fails(1, on(program, tmp_path / "fifo"), "fifo: not a regular file")


@programs
def test_output_that_cannot_be_written_is_an_error(program, model):
    command = on(program, model)
    with open("/dev/full", "w") as full:
        r = subprocess.run(
            [BIN / command[0], *map(str, command[1:]), "--json"], stdout=full, stderr=subprocess.PIPE, text=True,
            timeout=60, check=False,
        )  # fmt: skip
    assert r.returncode == 1 and "cannot write to standard output" in r.stderr


@programs
@pytest.mark.parametrize("megabytes", [16, 20])  # enough for the libraries, not for a thread's stack
def test_too_little_memory_is_an_error_and_no_crash(program, megabytes, model):
    command = on(program, model)
    limit = megabytes << 20
    r = subprocess.run(
        [BIN / command[0], *map(str, command[1:])], capture_output=True, text=True, timeout=60, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )  # fmt: skip
    # 127: the loader has no room for the libraries.
    assert r.returncode in (0, 1, 127), f"{r.returncode}: {r.stderr}"
    # wf-inspect may get as far as to report that the model cannot be opened.
    assert r.returncode == 0 or r.stderr or (program is INSPECT and "\nruns: no: " in r.stdout)
