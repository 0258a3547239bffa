# SPDX-License-Identifier: Apache-2.0
"""wf-bench and wf-inspect --tuning as programs: what they print fits together, and bad usage is refused by name. How
fast anything is, is not tested."""

import json
import os
import pathlib
import signal
import statistics
import subprocess
import time

import pytest

BIN = pathlib.Path(os.environ["WF_BIN"])
BARD = pathlib.Path(os.environ["WF_SOURCE"]) / "models" / "bard"
SMALL = ("--machine-mb", 16)  # MB read to measure the machine: nobody looks at the figure

# models/bard: 4 layers of width 256 and FFN 768, 4 heads of 64 over 2, 2048 tokens, F16 head
PROJECTIONS = 4 * (2 * 256 * 256 + 2 * 256 * 128 + 3 * 256 * 768)
HEAD = 2048 * 256 * 2
KV = 4 * 2 * (64 + 64) * 2  # bytes of a position


def run(program, *args, **kwargs):
    env = {k: v for k, v in os.environ.items() if k != "WF_FORCE_ISA"}
    return subprocess.run([BIN / program, *map(str, args)], capture_output=True, text=True, timeout=300, check=False,
                          env=env, **kwargs)  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "bard.gguf"
    r = run("wf-convert", BARD, "-o", out, "--outtype", "i2_s")
    assert r.returncode == 0, r.stderr
    return out


def bench(model, *args):
    r = run("wf-bench", "-m", model, *args, "--json", *SMALL)
    assert r.returncode == 0, r.stderr
    assert "wf-bench:" not in r.stderr and "%" not in r.stderr  # progress is for terminals
    return json.loads(r.stdout)


def test_each_test_runs_as_often_as_asked_on_each_number_of_threads(model):
    out = bench(model, "-p", 40, "-n", 5, "-t", "1,2", "-r", 3, "--depth", "0,33", "--batch", "1,3")
    names = [f"{t}/t{n}" for n in (1, 2) for t in ("pp40", "tg5", "tg5/d33", "tg5/b3")]
    assert [r["name"] for r in out["results"]] == names
    for r in out["results"]:
        assert len(r["samples"]) == 3 and all(s > 0 for s in r["samples"])
        assert r["median"] == statistics.median(r["samples"])
        assert r["min"] == min(r["samples"]) and r["max"] == max(r["samples"])
        assert r["kind"] == ("prefill" if r["name"].startswith("pp") else "decode")
    assert out["repetitions"] == 3 and out["kv_type"] == "f16" and out["cpu"] and out["isa"]
    assert out["model"]["bytes"] == model.stat().st_size and out["model"]["architecture"] == "bitnet-b1.58"
    assert [limit["threads"] for limit in out["limits"]] == [1, 2]


def test_what_a_token_needs_is_that_of_the_model_and_sums_up(model):
    out = bench(model, "-p", 300, "-n", 4, "-t", 1, "-r", 1, "--depth", "0,100", "--batch", "2")
    found = {r["name"]: r for r in out["results"]}
    for r in found.values():
        for need in (r["bytes_per_token"], r["multiplications_per_token"]):
            parts = sum(v for k, v in need.items() if k != "total")
            assert parts == pytest.approx(need["total"], rel=1e-12)
        assert r["multiplications_per_token"]["ternary"] == pytest.approx(PROJECTIONS, rel=1e-12)
    decode = found["tg4/t1"]["bytes_per_token"]
    assert decode["head"] == HEAD and decode["embedding"] == 512
    assert decode["kv"] == 2.5 * KV  # tokens 1 to 4 see 1 to 4 positions
    assert found["tg4/d100/t1"]["bytes_per_token"]["kv"] == 102.5 * KV
    assert found["tg4/b2/t1"]["bytes_per_token"]["head"] == HEAD / 2  # one reading for both sequences
    assert found["tg4/b2/t1"]["multiplications_per_token"] == found["tg4/t1"]["multiplications_per_token"]
    prefill = found["pp300/t1"]
    assert prefill["bytes_per_token"]["head"] == pytest.approx(HEAD / 300)  # for the last token only
    # Two passes, of 256 and 44 rows: the second reads K and V of both.
    assert prefill["bytes_per_token"]["kv"] == pytest.approx((256 + 300) * KV / 300)
    assert prefill["multiplications_per_token"]["attention"] == pytest.approx(4 * 2 * 256 * 301 / 2)


def test_fractions_follow_from_what_is_printed(model):
    out = bench(model, "-p", 16, "-n", 4, "-t", "1,2", "-r", 3)
    limits = {limit["threads"]: limit for limit in out["limits"]}
    for limit in out["limits"]:
        for kind in ("bandwidth", "peak"):
            passes = [p for r in limit[kind]["passes"] for p in r]
            assert len(limit[kind]["passes"]) == 3 and all(p > 0 for p in passes)
            assert limit[kind]["best"] == max(passes)
            assert limit[kind]["median"] == statistics.median(passes)
    for r in out["results"]:
        limit = limits[r["threads"]]
        need = {"bandwidth": r["bytes_per_token"]["total"], "peak": r["multiplications_per_token"]["ternary"]}
        at_most = []
        for kind, per_token in need.items():
            bests = [max(p) for p in limit[kind]["passes"]]
            shares = [s * per_token / best for s, best in zip(r["samples"], bests)]
            assert r["fraction"][kind] == pytest.approx(statistics.median(shares), rel=1e-9)
            at_most.append(statistics.median(bests) / per_token)
        assert r["predicted"] == pytest.approx(min(at_most), rel=1e-9)


def test_tests_can_be_left_out_and_kernels_chosen(model):
    out = bench(model, "-p", 0, "-n", 2, "-t", 1, "-r", 1, "--isa", "scalar", "--kv-type", "f32", "--warmup", 0)
    assert [r["name"] for r in out["results"]] == ["tg2/t1"]
    assert out["isa"] == "scalar" and out["kv_type"] == "f32" and out["results"][0]["bytes_per_token"]["kv"] == 3 * KV
    r = run("wf-bench", "-m", model, "-p", 8, "-n", 0, "-t", 1, "-r", 1, "--json", "--machine-mb", 0)
    out = json.loads(r.stdout)
    assert [r["name"] for r in out["results"]] == ["pp8/t1"]
    assert out["limits"] == [] and "fraction" not in out["results"][0]


def test_the_table_has_a_line_for_each_test(model):
    r = run("wf-bench", "-m", model, "-p", 8, "-n", 2, "-t", "1,2", "-r", 2, "--batch", "1,4", *SMALL)
    assert r.returncode == 0 and r.stderr == ""
    lines = r.stdout.splitlines()
    assert lines[0].startswith("'bard'") and str(model) in lines[0] and "1.92 MB" in lines[0]
    head = next(i for i, line in enumerate(lines) if line.startswith("test"))
    assert [line.split()[:2] for line in lines[head + 1 :]] == [
        [t, n] for n in ("1", "2") for t in ("pp8", "tg2", "tg2/b4")
    ]
    assert len({len(line) for line in lines[head:]}) == 1  # aligned
    assert len({i for line in lines[head + 1 :] for i in [line.count("..")]}) == 1


@pytest.mark.parametrize(
    "args, code, message",
    [
        (["-t", "0"], 2, "--threads: '0' is not a list of numbers from 1 to 1024"),
        (["-t", "1,,2"], 2, "--threads: '1,,2'"),
        (["-t", "2,2"], 2, "--threads: 2 is there twice"),
        (["--batch", "0"], 2, "--batch: '0' is not a list of numbers from 1"),
        (["--batch", "4x"], 2, "--batch: '4x'"),
        (["--depth", "-1"], 2, "--depth"),
        (["-r", "0"], 2, "--repetitions"),
        (["-p", "0", "-n", "0"], 2, "nothing to measure"),
        (["--isa", "sse9"], 1, "unknown ISA 'sse9'"),
        (["--kv-type", "f8"], 2, "f8"),
        (["--frobnicate"], 2, "--frobnicate"),
        (["-p", "513"], 1, "-p is 513 tokens, the model's context holds 512"),
        (["--depth", "500", "-n", "13"], 1, "--depth plus -n is 513 tokens"),
        (["-n", "513"], 1, "-n is 513 tokens"),
    ],
)
def test_bad_usage_is_refused_by_name(model, args, code, message):
    flags = [] if "-p" in args else ["-p", 8]
    r = run("wf-bench", "-m", model, *flags, *args, *SMALL)
    assert r.returncode == code and message in r.stderr and r.stdout == ""


def test_a_model_that_is_not_there_is_an_error(tmp_path):
    r = run("wf-bench", "-m", tmp_path / "none.gguf")
    assert r.returncode == 1 and "none.gguf" in r.stderr and r.stdout == ""
    assert run("wf-bench").returncode == 2


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_ctrl_c_ends_it_without_half_a_result(model, flags):
    with subprocess.Popen([BIN / "wf-bench", "-m", model, "-r", "1000", "-p", "400", "-t", "1", *map(str, SMALL), *flags],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as p:  # fmt: skip
        time.sleep(1)
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=60)
    assert p.returncode == 130 and out == "" and "interrupted" in err


def test_help_names_the_defaults():
    text = run("wf-bench", "--help").stdout
    for flag in ("--prompt", "--predict", "--threads", "--depth", "--batch", "--repetitions", "--warmup", "--isa"):
        assert flag in text
    assert "=512" in text and "=128" in text and "default: physical cores" in text


def test_the_tuning_report_names_kernels_reasons_and_costs(model):
    r = run("wf-inspect", "--tuning", model, "--json", "--bandwidth", 40, "-t", 2, "--depth", 99)
    assert r.returncode == 0, r.stderr
    report = json.loads(r.stdout)
    kinds = {t["kind"]: t for t in report["tensors"]}
    isa = report["isa"]
    assert kinds["attn_q"]["kernel"] == f"Ternary<{isa}, I2_S, 0> gemv, gemm"
    assert kinds["attn_q"]["why"] == "no low-rank term" and kinds["attn_q"]["count"] == 4
    assert kinds["output"]["kernel"] == f"Dense<{isa}, F16>" and "tied" in kinds["output"]["why"]
    assert kinds["ffn_up"]["work"]["bytes"] == 4 * 256 * 768 / 4
    assert report["kv"]["bytes"] == 100 * KV
    assert report["why"] == "the best that this CPU has" and report["threads"] == 2
    for what in ("bytes", "ternary", "dense", "attention"):
        parts = sum(t["work"][what] for t in report["tensors"]) + report["kv"][what]
        assert parts == report["total"][what]
    assert report["total"]["ternary"] == PROJECTIONS
    assert report["decode_at_most"] == pytest.approx(40e9 / report["total"]["bytes"])
    assert "peak" not in report
    text = run("wf-inspect", "--tuning", model, "--bandwidth", 40)
    assert f"Ternary<{isa}, I2_S, 0>" in text.stdout and "decoding: at most" in text.stdout
    assert "at most" not in run("wf-inspect", "--tuning", model).stdout  # no bandwidth, no prediction


def test_the_tuning_report_tells_fixed_ranks_from_dynamic_ones(tmp_path):
    shared = pathlib.Path(os.environ.get("WF_SHARED", "/nonexistent")) / "checkpoints" / "bard-lrc"
    if not shared.is_dir():
        pytest.skip(f"{shared} is not there")
    out = tmp_path / "lrc.gguf"
    assert run("wf-convert", shared, "-o", out).returncode == 0
    report = json.loads(run("wf-inspect", "--tuning", out, "--json").stdout)
    ranks = [t for t in report["tensors"] if t["rank"] > 0]
    assert ranks
    for t in ranks:
        fixed = t["rank"] in (16, 32, 64, 128)
        assert (f", {t['rank']}>" in t["kernel"]) == fixed and ("dynamic" in t["kernel"]) != fixed
        assert str(t["rank"]) in t["why"] and t["work"]["dense"] > 0


def test_the_tuning_report_measures_on_demand_and_refuses_bad_usage(model):
    report = json.loads(run("wf-inspect", "--tuning", model, "--json", "--measure", "-t", 1).stdout)
    assert report["bandwidth"] > 0 and report["peak"] > 0
    assert report["decode_at_most"] == pytest.approx(report["bandwidth"] / report["total"]["bytes"])
    assert report["prefill_at_most"] == pytest.approx(report["peak"] / report["total"]["ternary"])
    for bad in (["--measure"], ["--bandwidth", 40], ["-t", 2], ["--tuning", "--bandwidth", 0], ["--depth", 3],
                ["--tuning", "--bandwidth", 40, "--measure"], ["--tuning", "--tokenize", "x"]):  # fmt: skip
        assert run("wf-inspect", model, *bad).returncode == 2, bad


def test_loading_tells_what_a_token_reads(model):
    r = run("wf-run", "--decode", "ar", "-m", model, "--ids", "1", "-n", 1, "--temp", 0, "-t", 1, "--json")
    assert r.returncode == 0 and json.loads(r.stdout)["ids"]
    line = next(line for line in r.stderr.splitlines() if "a token (body" in line)
    assert ", 1 thread: 1.86 MB a token (body 0.81 MB, head F16 1.05 MB)" in line
