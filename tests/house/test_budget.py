# SPDX-License-Identifier: Apache-2.0
"""What a public header costs and needs: each compiles alone, in precompiled and in header-only mode, with g++ and
clang++ and for aarch64, without a warning; precompiled, it stays small and pulls in none of the heavy libraries.
Compilers come from WF_GXX, WF_CLANGXX and WF_AARCH64_GXX or from the PATH; one that is absent is a skip that says so."""

import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(os.environ.get("WF_SOURCE", Path(__file__).resolve().parents[2]))
INCLUDE = ROOT / "include"
PRECOMPILED = ["-DWF_PRECOMPILED_KERNELS=1", "-DWF_PRECOMPILED_MODEL=1"]
DYNAMIC = ["-DWF_DYNAMIC_DISPATCH=1"]
FLAGS = ["-std=c++20", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]
LOW_ROOMS = ("base", "simd", "quant", "formats", "tensor", "kernels", "tokenizer")  # layers 0-2
LOW_LINES, HIGH_LINES = 45_000, 70_000
HEAVY = r"/(hwy|boost|Eigen|eigen3)/|/pcre2"
JOBS = min(4, os.cpu_count() or 1)


def find(variable, *names):
    wanted = os.environ.get(variable)
    return shutil.which(wanted) if wanted else next(filter(None, map(shutil.which, names)), None)


GXX = find("WF_GXX", "g++", "g++-12")
CLANGXX = find("WF_CLANGXX", "clang++-14", "clang++")
AARCH64 = find("WF_AARCH64_GXX", "aarch64-linux-gnu-g++", "aarch64-linux-gnu-g++-12")


def public_headers():
    """Every header that someone may include by itself: not bodies, not the parts of the ISA loop, not Eigen's."""
    part = re.compile(r"-(inl|impl)\.h$|/flip-|/foreach_|/lrc_eigen\.h$")
    return [h for h in sorted(p.relative_to(INCLUDE).as_posix() for p in INCLUDE.rglob("*.h")) if not part.search(h)]


HEADERS = public_headers()


def compiler(path, why):
    return pytest.param(path, marks=pytest.mark.skipif(path is None, reason=why))


def run(command, header):
    text = f'#include "{header}"\nint main() {{}}\n'
    return subprocess.run([*command, f"-I{INCLUDE}", "-x", "c++", "-"], input=text, capture_output=True, text=True,
                          timeout=600, check=False)


def compile_each(command, headers=None):
    """The first lines of what the compiler says of each header that does not compile alone."""
    headers = HEADERS if headers is None else headers
    with ThreadPoolExecutor(JOBS) as pool:
        results = list(pool.map(lambda h: run(command, h), headers))
    return [f"{h}:\n" + "\n".join(r.stderr.split("\n")[:12]) for h, r in zip(headers, results) if r.returncode != 0]


def test_there_are_headers_to_look_at():
    assert len(HEADERS) > 30
    assert "wf/kernels/dispatch.h" in HEADERS and "wf/engine/engine.h" in HEADERS


@pytest.mark.skipif(GXX is None, reason="no g++")
def test_public_headers_are_small_and_pull_in_no_heavy_library():
    with ThreadPoolExecutor(JOBS) as pool:
        results = list(pool.map(lambda h: run([GXX, "-std=c++20", "-E", *PRECOMPILED], h), HEADERS))
    bad, sizes = [], []
    for header, result in zip(HEADERS, results):
        assert result.returncode == 0, f"{header}: {result.stderr}"
        lines = [line for line in result.stdout.split("\n") if line.strip() and not line.startswith("#")]
        origins = set(re.findall(r'^# \d+ "([^"]+)"', result.stdout, flags=re.M))
        budget = LOW_LINES if header.split("/")[1] in LOW_ROOMS else HIGH_LINES
        sizes.append((len(lines), header))
        if len(lines) > budget:
            bad.append(f"{header}: {len(lines)} lines, the budget is {budget}")
        heavy = sorted(o for o in origins if re.search(HEAVY, o))
        if heavy:
            bad.append(f"{header}: includes {heavy[0]} and {len(heavy) - 1} more")
    print("largest:", ", ".join(f"{h} {n}" for n, h in sorted(sizes)[-3:]))
    assert not bad, "\n".join(bad)


COMPILERS = [compiler(GXX, "no g++"), compiler(CLANGXX, "no clang++")]


@pytest.mark.parametrize("cxx", COMPILERS)
def test_each_header_compiles_alone_precompiled(cxx):
    bad = compile_each([cxx, "-fsyntax-only", *FLAGS, *PRECOMPILED])
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize("cxx", COMPILERS)
def test_each_header_compiles_alone_header_only(cxx):
    bad = compile_each([cxx, "-fsyntax-only", *FLAGS])
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize("cxx", COMPILERS)
@pytest.mark.parametrize("flags", [DYNAMIC, ["-march=x86-64-v3"], ["-march=x86-64-v4"]], ids=lambda f: f[0])
def test_the_kernels_compile_header_only_for_every_isa(cxx, flags):
    bad = compile_each([cxx, "-fsyntax-only", *FLAGS, *flags], ["wf/kernels/dispatch.h", "wf/kernels/table.h"])
    assert not bad, "\n".join(bad)


@pytest.mark.skipif(AARCH64 is None, reason="no aarch64-linux-gnu-g++")
@pytest.mark.parametrize("mode", [PRECOMPILED, [], DYNAMIC], ids=["precompiled", "header-only", "dynamic"])
def test_each_header_compiles_for_aarch64(mode, tmp_path):
    # These headers do not depend on the processor; the rest of /usr/include (libc) does, so they are linked alone.
    for name in ("hwy", "boost", "pcre2.h", "utf8proc.h"):
        if Path("/usr/include", name).exists():
            (tmp_path / name).symlink_to(Path("/usr/include", name))
    bad = compile_each([AARCH64, "-fsyntax-only", *FLAGS, *mode, "-isystem", str(tmp_path)],
                       ["wf/kernels/dispatch.h", "wf/kernels/table.h"] if mode == DYNAMIC else None)
    assert not bad, "\n".join(bad)
