# SPDX-License-Identifier: Apache-2.0
"""Wrong use of a kernel is a sentence from the compiler, not a mangled link error: for each NAME_ok.cc and
NAME_bad.cc the first compiles and the second is refused with the static_assert's text."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = Path(os.environ.get("WF_SOURCE", HERE.parents[1]))
COMPILERS = [c for c in ("g++", "clang++-14") if shutil.which(c)]
PRECOMPILED, STATIC, DYNAMIC = ["-DWF_PRECOMPILED_KERNELS=1"], [], ["-DWF_DYNAMIC_DISPATCH=1"]
V3 = ["-march=x86-64-v3"]

PAIRS = {
    "instance": (PRECOMPILED, "wf: this instance is not in wf::kernels; use wf::wf, or add it to WF_EXTRA_INSTANCES"),
    "rank": (STATIC, "wf: Rank is 0 (no low-rank term), a positive rank, or wf::kDynamic"),
    "isa": (V3, "wf: this ISA is not compiled in this mode; link wf::kernels or set WF_DYNAMIC_DISPATCH"),
}
# The refusal is about the mode: the same source compiles in these.
CURES = {"instance": STATIC, "isa": DYNAMIC}

pytestmark = pytest.mark.skipif(not COMPILERS, reason="neither g++ nor clang++-14")


def compile_source(cxx, name, flags):
    if platform.machine() != "x86_64" and (flags == V3 or name == "isa_bad"):
        pytest.skip("the flags are of x86-64")
    command = [cxx, "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'include'}", *flags]
    return subprocess.run([*command, str(HERE / f"{name}.cc")], capture_output=True, text=True, timeout=600, check=False)


def test_every_source_here_belongs_to_a_pair():
    assert {p.name for p in HERE.glob("*.cc")} == {f"{name}_{kind}.cc" for name in PAIRS for kind in ("ok", "bad")}


@pytest.mark.parametrize("cxx", COMPILERS)
@pytest.mark.parametrize("name", PAIRS)
def test_right_use_compiles(cxx, name):
    result = compile_source(cxx, f"{name}_ok", PAIRS[name][0])
    assert result.returncode == 0, result.stderr


# Flags with all of a Highway target above AVX-512, as -march=native gives them on new machines.
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the flags are of x86-64")
@pytest.mark.parametrize("cxx", COMPILERS)
@pytest.mark.parametrize("mode", [STATIC, DYNAMIC], ids=["static", "dynamic"])
def test_right_use_compiles_for_new_machines(cxx, mode):
    result = compile_source(cxx, "rank_ok", [*mode, "-march=sapphirerapids"])
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("cxx", COMPILERS)
@pytest.mark.parametrize("name", PAIRS)
def test_wrong_use_is_refused_with_a_sentence(cxx, name):
    flags, sentence = PAIRS[name]
    result = compile_source(cxx, f"{name}_bad", flags)
    assert result.returncode != 0
    assert sentence in result.stderr
    errors = [line for line in result.stderr.split("\n") if "error:" in line]
    assert len(errors) == 1, "the sentence is the only error:\n" + "\n".join(errors)


@pytest.mark.parametrize("cxx", COMPILERS)
@pytest.mark.parametrize("name", CURES)
def test_what_the_sentence_proposes_helps(cxx, name):
    result = compile_source(cxx, f"{name}_bad", CURES[name])
    assert result.returncode == 0, result.stderr
