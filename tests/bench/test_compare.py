# SPDX-License-Identifier: Apache-2.0
"""bench/compare: its U test against published tables and hand-computed values, its verdicts, the interleaving of runs by
programs that only pretend to measure, and what it does with errors and signals."""

import importlib.machinery
import importlib.util
import json
import math
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(os.environ.get("WF_SOURCE", pathlib.Path(__file__).resolve().parents[2]))
COMPARE = ROOT / "bench" / "compare"


@pytest.fixture(name="compare", scope="module")
def fixture_compare():
    loader = importlib.machinery.SourceFileLoader("wf_bench_compare", str(COMPARE))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    sys.dont_write_bytecode = True
    loader.exec_module(module)
    return module


# --- the U test


def test_counts_of_u_are_those_of_all_orders(compare):
    # The six orders of two and two: aabb 0, abab 1, abba 2, baab 2, baba 3, bbaa 4.
    assert compare.u_counts(2, 2) == [1, 1, 2, 1, 1]
    for n, m in [(1, 1), (1, 5), (3, 4), (9, 9), (7, 12)]:
        counts = compare.u_counts(n, m)
        assert sum(counts) == math.comb(n + m, n)
        assert counts == counts[::-1] and min(counts) > 0


# Critical values of U, two-sided, alpha = 0.05: the table that every textbook prints.
@pytest.mark.parametrize(
    "n, m, u",
    [(2, 2, -1), (3, 5, 0), (4, 4, 0), (5, 5, 2), (6, 6, 5), (8, 8, 13), (7, 9, 12), (9, 9, 17), (10, 10, 23),
     (12, 12, 37), (15, 15, 64), (10, 20, 55), (20, 20, 127)],
)
def test_critical_values_are_the_published_ones(compare, n, m, u):
    assert compare.critical_u(n, m, 0.05) == u


def test_exact_p_of_the_example_in_scipys_documentation(compare):
    # Ages at the diagnosis of type II diabetes: U = 17, p = 0.1111111111111111, by scipy and by its source.
    u, p = compare.mann_whitney([19, 22, 16, 29, 24], [20, 11, 17, 12])
    assert u == 17 and p == pytest.approx(14 / 126, rel=1e-12)


def test_separate_samples_have_the_smallest_p_there_is(compare):
    a, b = list(range(9)), list(range(100, 109))
    assert compare.mann_whitney(a, b) == (0, pytest.approx(2 / math.comb(18, 9)))
    assert compare.mann_whitney(b, a) == (81, pytest.approx(2 / math.comb(18, 9)))


def test_p_with_ties_by_hand(compare):
    # Ranks 1, 3, 3 of a: U = 1 where 4.5 is expected; the variance is 9/12 (7 - (24 + 6) / 30) = 4.5; with continuity
    # z = 3 / sqrt(4.5) = sqrt 2, and p = erfc(1).
    u, p = compare.mann_whitney([1, 2, 2], [2, 3, 3])
    assert u == 1 and p == pytest.approx(0.15729920705028513, rel=1e-12)


def test_equal_values_tell_nothing(compare):
    assert compare.mann_whitney([5.0] * 9, [5.0] * 9) == (40.5, 1.0)
    a = [1.0, 2.0, 3.0, 4.0]
    assert compare.mann_whitney(a, a)[1] == 1.0


def test_p_does_not_depend_on_the_side_or_the_order(compare):
    rng = random.Random(3)
    for _ in range(50):
        a = [rng.randrange(40) for _ in range(rng.randrange(2, 12))]
        b = [rng.randrange(40) for _ in range(rng.randrange(2, 12))]
        u, p = compare.mann_whitney(a, b)
        v, q = compare.mann_whitney(b, a)
        assert p == pytest.approx(q) and u + v == len(a) * len(b) and 0 < p <= 1
        assert compare.mann_whitney(a[::-1], b) == (u, p)


def test_the_normal_approximation_of_large_samples_agrees_with_the_exact_p(compare):
    # Just above the limit without ties, beside the exact sum. The approximation errs by less than 0.001 at this size.
    rng = random.Random(5)
    n = compare.EXACT_LIMIT + 1
    values = rng.sample(range(10_000), 2 * n)
    a, b = [v + 400 for v in values[:n]], [v + 0.5 for v in values[n:]]
    u, p = compare.mann_whitney(a, b)
    exact = 2 * sum(compare.u_counts(n, n)[: int(min(u, n * n - u)) + 1]) / math.comb(2 * n, n)
    assert p == pytest.approx(min(1, exact), abs=1e-3)


# --- speed, interval, verdict


def test_speed_is_of_b_over_a_in_either_unit(compare):
    slow, fast = [200.0] * 9, [100.0] * 9
    assert compare.speed(slow, fast, False) == (2, 2, 2)  # times
    assert compare.speed(slow, fast, True) == (0.5, 0.5, 0.5)  # tokens/s


def test_the_interval_excludes_one_exactly_when_the_test_sees_a_difference(compare):
    rng, seen = random.Random(7), set()
    for shift in [0, 10, 20, 30, 40] * 20:
        a = [1000 + rng.random() * 100 for _ in range(9)]
        b = [1000 + shift + rng.random() * 100 for _ in range(9)]
        ratio, low, high = compare.speed(a, b, False)
        _, p = compare.mann_whitney(a, b)
        assert low <= ratio <= high
        assert (p <= 0.05) == (not low <= 1 <= high)
        seen.add(p <= 0.05)
    assert seen == {False, True}


@pytest.mark.parametrize(
    "ratio, p, want",
    [(1.05, 0.01, "faster"), (0.95, 0.01, "slower"), (1.05, 0.06, "no difference"), (0.5, 0.05, "no difference"),
     (1.029, 1e-9, "no difference"), (0.975, 1e-9, "no difference"), (1.0301, 0.049, "faster"), (0.97, 0.049, "slower")],
)
def test_a_verdict_needs_both_a_small_p_and_a_difference_that_matters(compare, ratio, p, want):
    assert compare.verdict(ratio, p, alpha=0.05, threshold=3) == want


def test_names_are_paired_by_what_is_left_of_them(compare):
    names = ["T<x,I2_S>/1", "T<y,I2_S>/1", "T<x,I2_S>/2", "T<y,TQ2_0>/1"]
    a, b = compare.keyed(re.compile("x"), names), compare.keyed(re.compile("^T<(y)"), names)
    both, alone = compare.pairs(a, b)
    assert both == [("T<,I2_S>/1", "T<x,I2_S>/1", "T<y,I2_S>/1")]
    assert alone == ["T<x,I2_S>/2", "T<y,TQ2_0>/1"]
    with pytest.raises(compare.Failure, match="both 'T<x,I2_S>/1' and 'T<x,I2_S>/2'"):
        compare.keyed(re.compile("x.*"), names)
    with pytest.raises(compare.Failure, match="no benchmark of A has a partner"):
        compare.pairs({"p": "p"}, {"q": "q"})


# --- programs that pretend

# NAME=NS ...: a Google Benchmark program whose benchmarks take so long, with a little wobble; appends its runs to a log.
FAKE = """#!/bin/sh
echo "$0 $*" >> {log}
filter=
for a in "$@"; do
  case $a in
    --benchmark_list_tests=true) printf '%s\\n' {names}; exit 0;;
    --benchmark_filter=*) filter=${{a#--benchmark_filter=}};;
  esac
done
n=$(wc -l < {log})
i=0
for pair in {pairs}; do
  name=${{pair%=*}}
  printf '%s\\n' "$name" | grep -Eq "$filter" || continue
  printf '{{"context": {{}}, "benchmarks": [{{"name": "%s", "run_type": "iteration", "real_time": 7, "cpu_time": %s.%d, "time_unit": "us"}}]}}' "$name" "${{pair##*=}}" "$n"
  exit 0
done
exit 3
"""


@pytest.fixture(name="fake")
def fixture_fake(tmp_path):
    def make(name, **times):
        path = tmp_path / name
        times = {k.replace("__", "/"): v for k, v in times.items()}
        path.write_text(FAKE.format(log=tmp_path / "log", names=" ".join(f"'{n}'" for n in times),
                                    pairs=" ".join(f"'{n}={t}'" for n, t in times.items())))
        path.chmod(0o755)
        return path

    make.log = tmp_path / "log"
    return make


def run(*args):
    return subprocess.run([COMPARE, *map(str, args)], capture_output=True, text=True, timeout=120, check=False)


def measured(log):
    """[(program, filter)] in order, without the listing."""
    rows = [re.match(r"\S*/(\S+) .*--benchmark_filter=(\S+)", line) for line in log.read_text().splitlines()]
    return [m.groups() for m in rows if m]


def test_a_slower_build_is_reported_and_fails(fake):
    r = run(fake("old", Up__1=100, Down__1=100, Same__1=100), fake("new", Up__1=50, Down__1=200, Same__1=100), "--json")
    assert r.returncode == 1, r.stderr
    data = json.loads(r.stdout)
    found = {x["name"]: x for x in data["results"]}
    assert {n: x["verdict"] for n, x in found.items()} == {"Up/1": "faster", "Down/1": "slower", "Same/1": "no difference"}
    assert found["Up/1"]["speed"] == pytest.approx(2, rel=0.03)  # the wobble is below 1 us of 50
    assert data["unit"] == "ns" and 100_000 <= found["Up/1"]["median_a"] < 101_000
    assert len(found["Up/1"]["a"]) == len(found["Up/1"]["b"]) == data["rounds"] == 9
    assert {"cpu", "cpus", "governor", "load"} == set(data["machine"])


def test_the_table_names_machine_seed_and_every_benchmark(fake):
    r = run(fake("old", Up__1=100), fake("new", Up__1=50), "--seed", 5)
    assert r.returncode == 0
    assert re.search(r"CPUs, governor .*, load .*; 9 rounds, seed 5", r.stderr)
    header, row = r.stdout.splitlines()
    assert header.split()[:4] == ["A,", "ns", "B,", "ns"] and header.split()[-1] == "verdict"
    assert row.split()[0] == "Up/1" and row.split()[-1] == "faster"


def test_runs_are_interleaved_in_an_order_that_the_seed_gives(fake):
    old, new = fake("old", X=100, Y=100), fake("new", X=100, Y=100)
    orders = []
    for seed in (1, 1, 2):
        fake.log.write_text("")
        assert run(old, new, "--seed", seed, "--rounds", 12).returncode == 0
        runs = measured(fake.log)
        assert len(runs) == 2 * 2 * 12
        rounds = [runs[i : i + 2] for i in range(0, len(runs), 2)]
        for r in rounds:
            assert {program for program, _ in r} == {"old", "new"} and len({f for _, f in r}) == 1
        assert len({tuple(p for p, _ in r) for r in rounds}) == 2, "either comes first now and then"
        orders.append(runs)
    assert orders[0] == orders[1] != orders[2]


def test_two_instances_of_one_program(fake):
    program = fake("prog", K_fast__1=50, K_slow__1=100, K_fast__2=70, other=1)
    r = run(program, "--a", "_slow", "--b", "_fast", "--json")
    assert r.returncode == 0, r.stderr
    (result,) = json.loads(r.stdout)["results"]
    assert (result["name"], result["name_a"], result["name_b"]) == ("K/1", "K_slow/1", "K_fast/1")
    assert result["verdict"] == "faster"
    assert "without a partner, e.g. K_fast/2" in r.stderr
    assert run(program, "--a", "_fast", "--b", "_slow").returncode == 1


def test_the_filter_picks_and_other_flags_reach_the_programs(fake):
    old, new = fake("old", X=100, Y=100), fake("new", X=100, Y=300)
    assert run(old, new, "--filter", "^X$", "--", "--all", "--benchmark_min_time=0.01").returncode == 0
    lines = fake.log.read_text().splitlines()
    assert all("--all --benchmark_min_time=0.01" in line for line in lines)
    assert {f for _, f in measured(fake.log)} == {"^X$"}


def test_names_are_not_taken_for_expressions(fake):
    name = "K<a.b,(c)>+[1]__2"
    r = run(fake("old", **{name: 100}), fake("new", **{name: 100}))
    assert r.returncode == 0, r.stderr


def test_threads_are_judged_by_the_wall_clock(fake):
    r = run(fake("old", K__real_time=100), fake("new", K__real_time=900), "--json")
    assert r.returncode == 0, r.stderr
    assert json.loads(r.stdout)["results"][0]["median_b"] == 7000


def test_commands_of_wf_bench_are_judged_by_tokens_a_second(tmp_path):
    def command(name, speeds):
        path = tmp_path / name
        text = json.dumps({"results": [{"name": n, "samples": s} for n, s in speeds.items()]})
        path.write_text(f"#!/bin/sh\n[ \"$1\" = 'with space' ] || exit 1\necho '{text}'\n")
        path.chmod(0o755)
        return f"{path} 'with space'"

    old = command("old", {"tg128": [1, 10, 99], "pp512": [5, 5, 5], "only-old": [1]})
    new = command("new", {"tg128": [7, 20, 21], "pp512": [4, 4, 4]})
    r = run("--cmd-a", old, "--cmd-b", new, "--json")
    assert r.returncode == 1, r.stderr
    data = json.loads(r.stdout)
    found = {x["name"]: x for x in data["results"]}
    assert data["unit"] == "tokens/s" and data["alone"] == ["only-old"]
    assert found["tg128"]["a"] == [10] * 9, "the median of a run's samples"
    assert (found["tg128"]["speed"], found["tg128"]["verdict"]) == (2, "faster")
    assert (found["pp512"]["speed"], found["pp512"]["verdict"]) == (0.8, "slower")


# --- errors: exit code 2, one line that says what


def both(command):
    return ["--cmd-a", command, "--cmd-b", command]  # either may run first


@pytest.mark.parametrize(
    "args, message",
    [
        ([], "expected two programs"),
        (["old"], "expected two programs"),
        (["old", "old", "old"], "expected two programs"),
        (["old", "--a", "x"], "--a and --b go together"),
        (["old", "old", "--a", "x", "--b", "y"], "--a and --b go together"),
        (["--cmd-a", "true"], "--cmd-a and --cmd-b go together"),
        (["old", "--cmd-a", "true", "--cmd-b", "true"], "--cmd-a and --cmd-b go together"),
        (["--cmd-a", "'", "--cmd-b", "true"], "cannot split the command"),
        (["--cmd-a", "", "--cmd-b", "true"], "an empty command"),
        (["old", "old", "--rounds", "8"], "--rounds 8: at least 9"),
        (["old", "old", "--rounds", "x"], "invalid int value: 'x'"),
        (["old", "old", "--alpha", "1"], "--alpha 1.0: expected"),
        (["old", "old", "--threshold", "-1"], "--threshold -1.0: expected"),
        (["old", "old", "--threshold", "nan"], "--threshold nan: expected"),
        (["old", "old", "--filter", "("], "bad regular expression '('"),
        (["old", "old", "--filter", "nothing"], "no benchmark matches"),
        (["old", "old", "--nix"], "unrecognized arguments: --nix"),
        (["old", "missing"], "missing: not a program"),
        (both("/nonexistent/x"), "/nonexistent/x: No such file"),
        (both("false"), "false: exit code 1"),
        (both("echo no"), "echo no: no JSON"),
        (both("echo []"), "not the JSON of wf-bench"),
        (both("""echo '{"results": []}'"""), "no results"),
        (both("""echo '{"results": [{"name": "x", "samples": [0]}]}'"""), "0 is not a positive number"),
        (both("""echo '{"results": [{"name": "x", "samples": []}]}'"""), "no result in this run"),
    ],
)
def test_bad_usage(fake, args, message):
    old = fake("old", X=1)
    r = run(*(old if a == "old" else a for a in args))
    assert r.returncode == 2 and r.stdout == ""
    assert message in r.stderr and "Traceback" not in r.stderr


@pytest.mark.parametrize(
    "output, message",
    [
        ('{"benchmarks": []}', "X: no result in this run"),
        ('{"benchmarks": [{"name": "X"}]}', "not Google Benchmark's JSON: KeyError('cpu_time')"),
        ('{"benchmarks": [{"name": "X", "error_occurred": true, "error_message": "too cold"}]}', "X: too cold"),
        ('{"benchmarks": [{"name": "X", "cpu_time": "fast", "time_unit": "ns"}]}', "not Google Benchmark's JSON"),
        ('{"benchmarks": [{"name": "X", "cpu_time": NaN, "time_unit": "ns"}]}', "nan is not a positive number"),
        ("", "no JSON on standard output"),
    ],
)
def test_programs_whose_results_are_none(tmp_path, output, message):
    path = tmp_path / "p"
    path.write_text(f"#!/bin/sh\ncase $* in *list_tests*) echo X;; *) echo '{output}';; esac\n")
    path.chmod(0o755)
    r = run(path, path)
    assert r.returncode == 2 and r.stdout == ""
    assert message in r.stderr and "Traceback" not in r.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_what_it_runs_without_a_trace(tmp_path, number):
    path, pid = tmp_path / "p", tmp_path / "pid"
    path.write_text(f"#!/bin/sh\ncase $* in *list_tests*) echo X; exit;; esac\nsleep 1000 & echo $! > {pid}.new\n"
                    f"mv {pid}.new {pid}\nwait\n")
    path.chmod(0o755)
    p = subprocess.Popen([COMPARE, path, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not pid.exists():
        assert p.poll() is None
        time.sleep(0.01)
    p.send_signal(number)
    out, err = p.communicate(timeout=60)
    assert p.returncode == 128 + number
    assert out == "" and "Traceback" not in err
    stat = pathlib.Path(f"/proc/{int(pid.read_text())}/stat")
    for _ in range(1000):  # the group was killed; init has yet to collect it
        if not stat.exists() or stat.read_text().split()[2] == "Z":
            break
        time.sleep(0.01)
    else:
        pytest.fail("the child's child runs on")
