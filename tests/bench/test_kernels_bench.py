# SPDX-License-Identifier: Apache-2.0
"""wf-kernels-bench runs: what it lists, one benchmark of each room, its flags, and bench/compare on it. No figures."""

import json
import os
import pathlib
import re
import subprocess

import pytest

PROGRAM = pathlib.Path(os.environ.get("WF_BIN", "build/release/bin")) / "wf-kernels-bench"
ROOT = pathlib.Path(os.environ.get("WF_SOURCE", pathlib.Path(__file__).resolve().parents[2]))
ROOMS = {"Ternary", "TernaryStatic", "Dense", "LowRank", "Attention", "Quantise", "RmsNorm", "Rope", "Glu", "Add", "Softmax"}

pytestmark = pytest.mark.skipif(not PROGRAM.is_file(), reason=f"{PROGRAM} is not built (WF_BUILD_BENCH is off)")


def run(*args):
    return subprocess.run([PROGRAM, *args], capture_output=True, text=True, timeout=300, check=False)


def names(*args):
    r = run("--benchmark_list_tests", *args)
    assert r.returncode == 0, r.stderr
    return r.stdout.splitlines()


@pytest.fixture(name="default", scope="module")
def fixture_default():
    return names()


@pytest.fixture(name="everything", scope="module")
def fixture_everything():
    return names("--all")


def test_names_are_unique_and_the_default_set_is_a_part_of_all(default, everything):
    assert len(set(everything)) == len(everything)
    assert set(default) < set(everything)
    assert {n.split("<")[0] for n in default} == ROOMS
    assert len(default) < 200, "it runs in about a minute"


def test_all_is_the_product_of_its_axes(everything):
    pattern = r"Ternary<([^,]+),([^,]+),rank=([^>]+)>/(\d+x\d+)/tokens:(\d+)/threads:(\d+)/(cache|dram)(?:/real_time)?"
    found = {m.groups() for m in (re.fullmatch(pattern, n) for n in everything) if m}
    isas, types, ranks, shapes, tokens, threads, sets = (set(axis) for axis in zip(*found))
    assert {"I2_S", "TQ1_0", "TQ2_0", "IQ1_BN", "IQ2_BN", "IQ2_BN_R4", "Q2_0"} <= types
    assert shapes == {"2560x2560", "6912x2560", "2560x6912", "640x2560"}
    assert tokens == {"1", "2", "4", "8", "16", "64", "512"} and {"1", "2"} <= threads and sets == {"cache", "dram"}
    assert "scalar" in isas and {"0", "64", "dynamic:64"} <= ranks
    for isa in isas:
        for rank in ("0", "64", "dynamic:64"):
            for shape in shapes:
                for t in tokens:
                    for n in threads:
                        for s in sets:
                            assert (isa, "I2_S", rank, shape, t, n, s) in found
        assert {(f[1], f[2]) for f in found if f[0] == isa} >= {(t, "0") for t in types}


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_benchmark_of_each_room_runs(default, room):
    mine = [n for n in default if n.startswith(room + "<")]
    # The shortest to set up: no working set beyond the caches.
    name = min(mine, key=lambda n: ("dram" in n, len(n), n))
    r = run(f"--benchmark_filter=^{name}$", "--benchmark_min_time=0.0001", "--benchmark_format=json")
    assert r.returncode == 0, r.stderr
    data = json.loads(r.stdout)
    (b,) = data["benchmarks"]
    assert b["name"] == name and b["iterations"] >= 1 and b["bytes/s"] > 0
    assert (b["multiplications/s"] > 0) == (room != "Add")
    assert data["context"]["best ISA"] and data["context"]["Eigen uses"]


def test_two_threads_and_a_working_set_in_memory_run():
    name = "^Ternary<scalar,I2_S,rank=dynamic:64>/640x2560/tokens:2/threads:2/dram/real_time$"
    r = run("--all", f"--benchmark_filter={name}", "--benchmark_min_time=0.0001", "--benchmark_format=json")
    assert r.returncode == 0, r.stderr
    assert len(json.loads(r.stdout)["benchmarks"]) == 1


def test_errors_and_help():
    assert run("--nix").returncode == 2
    r = run("--benchmark_filter=nix")
    assert r.returncode == 2 and "--all has every kernel" in r.stderr
    r = run("--help")
    assert r.returncode == 0 and "--all" in r.stdout and "--benchmark_filter" in r.stdout


def test_compare_reads_what_it_prints():
    r = subprocess.run([ROOT / "bench" / "compare", PROGRAM, "--a", "(relu2)", "--b", "Glu.*(silu)", "--json", "--",
                        "--benchmark_min_time=0.0001"], capture_output=True, text=True, timeout=300, check=False)
    assert r.returncode in (0, 1), r.stderr  # which one depends on the machine
    (result,) = json.loads(r.stdout)["results"]
    assert re.fullmatch(r"Glu<\w+,>/6912", result["name"]) and len(result["a"]) == 9
