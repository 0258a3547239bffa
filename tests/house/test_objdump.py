# SPDX-License-Identifier: Apache-2.0
"""No foreign instructions: in libwf_kernels.a each instruction set stays inside its own namespace, and libwf_model.a
has nothing above x86-64. Looks at the built libraries; an instruction in the wrong place is a SIGILL on older CPUs."""

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

BUILD = Path(os.environ["WF_BIN"]).parent if "WF_BIN" in os.environ else None
pytestmark = [
    pytest.mark.skipif(BUILD is None, reason="WF_BIN names no build"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="instruction sets of x86-64"),
    pytest.mark.skipif(shutil.which("objdump") is None, reason="no objdump"),
]

# Namespaces that may hold an instruction set: ours, and Highway's own for what the compiler did not inline.
AVX = re.compile(r"\bN_WF_AVX(2|VNNI|512|512VNNI256|512VNNI)\b|\bhwy::N_AVX[23]\b")
AVX512 = re.compile(r"\bN_WF_AVX512(VNNI|VNNI256)?\b|\bhwy::N_AVX3\b")
VNNI = re.compile(r"\bN_WF_AVX(VNNI|512VNNI|512VNNI256)\b")

WIDE = re.compile(r"%zmm|%[xy]mm(1[6-9]|2\d|3[01])\b|%k[0-7]\b")  # what only AVX-512 encodes
VEX = re.compile(r"^(\{vex\} +)?v[a-z0-9]+ .*%[xyz]mm|^vzero(upper|all)")
DOT = re.compile(r"\bvpdp(bus|wss)d")


def owner(symbol):
    """The name without its arguments: a namespace in the type of an argument is not where the code lies."""
    depth, out = 0, []
    for c in symbol:
        depth += c == "("
        if depth == 0:
            out.append(c)
        depth -= c == ")"
    return "".join(out)


def disassemble(library):
    """Yields (symbol, instruction) of every function of the archive."""
    path = BUILD / library
    if not path.is_file():
        pytest.skip(f"{path} is not built")
    objdump = subprocess.Popen(["objdump", "-d", "-C", "--no-show-raw-insn", "-w", str(path)], stdout=subprocess.PIPE,
                               text=True, errors="replace")
    symbol = ""
    for line in objdump.stdout:
        m = re.match(r"[0-9a-f]+ <(.*)>:$", line.rstrip())
        if m:
            symbol = m.group(1)
            continue
        m = re.match(r"\s+[0-9a-f]+:\s+(\S.*)", line)
        if m and symbol:
            yield symbol, m.group(1).rstrip()
    assert objdump.wait() == 0


@pytest.fixture(scope="module")
def kernels():
    functions = {}
    for symbol, instruction in disassemble("libwf_kernels.a"):
        found = functions.setdefault(symbol, {"wide": None, "vex": None, "dot": None})
        for key, pattern in (("wide", WIDE), ("vex", VEX), ("dot", DOT)):
            if found[key] is None and pattern.search(instruction):
                found[key] = instruction
    return functions


def outside(functions, key, allowed):
    return [f"{symbol}: {f[key]}" for symbol, f in functions.items() if f[key] and not allowed.search(owner(symbol))]


def test_every_instruction_set_is_there_so_that_the_test_looks_at_something(kernels):
    for name in ("AVX2", "AVXVNNI", "AVX512", "AVX512VNNI256", "AVX512VNNI"):
        assert any(re.search(rf"\bN_WF_{name}\b", owner(s)) for s in kernels), name
    assert any(f["wide"] for f in kernels.values())
    assert any(f["dot"] for f in kernels.values())


def test_avx512_stays_in_its_namespaces(kernels):
    assert not outside(kernels, "wide", AVX512)


def test_avx_stays_in_namespaces_of_avx2_and_above(kernels):
    assert not outside(kernels, "vex", AVX)


def test_dot_products_stay_in_vnni_namespaces(kernels):
    assert not outside(kernels, "dot", VNNI)


def test_the_model_library_has_nothing_above_the_baseline():
    cache = (BUILD / "CMakeCache.txt").read_text()
    if re.search(r"^CMAKE_CXX_FLAGS:.*-m(arch|avx|tune=native)", cache, flags=re.M):
        pytest.skip("CMAKE_CXX_FLAGS raises the baseline")
    count, bad = 0, {}
    for symbol, instruction in disassemble("libwf_model.a"):
        count += 1
        if WIDE.search(instruction) or VEX.search(instruction):
            bad.setdefault(symbol, instruction)
    assert count > 10_000
    assert not bad, "\n".join(f"{s}: {i}" for s, i in list(bad.items())[:20])
