# SPDX-License-Identifier: Apache-2.0
"""What the golden tests share: running the programs, converting a checkpoint once, which ISAs this CPU has, and
logits of many prompts from one process. Not a test."""

import functools
import json
import os
import pathlib
import subprocess

import numpy as np

BIN = pathlib.Path(os.environ["WF_BIN"])
SOURCE = pathlib.Path(os.environ["WF_SOURCE"])
SHARED = pathlib.Path(os.environ.get("WF_SHARED", "/nonexistent"))
EXPECTED = SOURCE / "tests" / "data" / "expected"
GOLDEN = SOURCE / "tests" / "data" / "golden"
BARD = SOURCE / "models" / "bard"
VOCAB = 2048  # rows of the sample's embedding, and of the toys'

OUTTYPES = ["f32", "f16", "bf16", "i2_s"]
ISAS = ["scalar", "avx2", "avxvnni", "avx512", "avx512vnni256", "avx512vnni"]


def run(program, *args, isa=None, **kwargs):
    env = dict(os.environ)
    env.pop("WF_FORCE_ISA", None)
    if isa is not None:
        env["WF_FORCE_ISA"] = isa
    command = [str(BIN / program), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=env, **kwargs)


def succeed(program, *args, **kwargs):
    r = run(program, *args, **kwargs)
    assert r.returncode == 0, f"{program} {' '.join(map(str, args))}: exit {r.returncode}\n{r.stdout}{r.stderr}"
    return r


def join(ids):
    return ",".join(map(str, ids))


def convert(folder, out, outtype, *options):
    """Returns the converter's report."""
    return json.loads(succeed("wf-convert", folder, "-o", out, "--outtype", outtype, "--json", *options).stdout)


def generate(model, ids, n, *options, isa=None, threads=1):
    """wf-run's answer at temperature 0 with an f32 cache: {"ids": ..., "timings": ..., ...}."""
    return json.loads(
        succeed("wf-run", "-m", model, "--ids", join(ids), "-n", n, "--temp", 0, "--kv-type", "f32", "-t", threads,
                "--json", *options, isa=isa).stdout
    )  # fmt: skip


@functools.lru_cache(maxsize=None)
def isas(model):
    """The ISAs that this CPU has; the program must say of each other one that the CPU lacks it."""
    found = []
    for isa in ISAS:
        r = run("wf-perplexity", "-m", model, "--ids", "1", isa=isa)
        if r.returncode == 0:
            found.append(isa)
        else:
            lacks = f"WF_FORCE_ISA={isa}: " in r.stderr and ("lacks it" in r.stderr or "not compiled" in r.stderr)
            assert r.returncode == 1 and lacks, r.stderr
            print(f"not tested here: {r.stderr.strip()}")
    assert "scalar" in found
    return found


def logits(model, prompts, out, isa=None, threads=1, kv_type="f32", extra=()):
    """Logits of each prompt, tokens x VOCAB, from one process: every prompt is filled up with token 0 to the length of
    the longest, which is the window. Attention is causal, so a row cannot know what comes after it (and
    test_a_prompt_alone holds the program to that)."""
    width = max(map(len, prompts))
    ids = [i for p in prompts for i in [*p, *[0] * (width - len(p))]]
    succeed("wf-perplexity", "-m", model, "--ids", join(ids), "-c", width, "--logits", out, "--kv-type", kv_type, "-t",
            threads, *extra, isa=isa)  # fmt: skip
    rows = np.fromfile(out, "<f4").reshape(len(prompts), width, VOCAB)
    os.unlink(out)
    return [rows[i, : len(p)] for i, p in enumerate(prompts)]


class Golden:
    """What transformers' class computes for a toy (make_golden.py): prompts, and for each the logits of some columns of
    the vocabulary without (`floats`) and with (`rows`) activations in 8 bits."""

    columns = slice(None, None, 16)

    def __init__(self, toy):
        entry = json.loads((GOLDEN / "index.json").read_text())[toy]
        self.prompts = entry["prompts"]
        self.name = f"{entry['class']} of transformers {entry['transformers']} ({entry['loaded']})"
        width = len(range(VOCAB)[self.columns])
        both = np.fromfile(GOLDEN / f"{toy}.f32", "<f4").reshape(2, -1, width)
        ends = np.cumsum([len(p) for p in self.prompts])
        assert ends[-1] == both.shape[1], toy
        self.floats, self.rows = (np.split(half, ends[:-1]) for half in both)


golden = functools.lru_cache(maxsize=None)(Golden)


def distance(a, b):
    d = np.abs(a.astype(np.float64) - b)
    return d.mean(), d.max()
