# SPDX-License-Identifier: Apache-2.0
"""wf-bench and wf-inspect --tuning as programs: what they print fits together, and bad usage is refused by name. How
fast anything is, is not tested."""

import json
import os
import pathlib
import re
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


def decodes(model, *args):
    out = bench(model, "-p", 0, "-t", 1, "-r", 2, *args)
    return {r["name"].removesuffix("/t1"): r for r in out["results"]}


def test_each_mode_of_decoding_runs_with_each_of_its_thresholds(model):
    found = decodes(model, "-n", 8, "--decode", "iterative,ar,greedy,adaptive,verify", "--threshold", "0.5,0.75",
                    "--batch", "1,2")  # fmt: skip
    modes = ("/iterative@0.5", "/iterative@0.75", "", "/greedy", "/adaptive@0.5", "/adaptive@0.75", "/verify")
    assert list(found) == [t + m for t in ("tg8", "tg8/b2") for m in modes]
    for name, r in found.items():
        assert len(r["samples"]) == 2 and r["median"] == statistics.median(r["samples"])
        assert r["decode"] == (re.search("iterative|greedy|adaptive|verify", name) or ["ar"])[0]
        assert ("threshold" in r) == ("@" in name) and r.get("threshold", 0.5) in (0.5, 0.75)
        assert r["generated"] == 8 * r["batch"]
        assert r["tokens_per_pass"] == r["generated"] / r["passes"]
        ar = found["tg8/b2" if "/b2" in name else "tg8"]["samples"]
        assert r["to_ar"] == pytest.approx(statistics.median(a / b for a, b in zip(r["samples"], ar)))
        assert r.get("style", "fast-dllm-v2") == "fast-dllm-v2" and r.get("block_size", 32) == 32
        assert ("bytes_per_token" in r) == ("fraction" in r) == (r["decode"] == "ar")  # others depend on the text
        assert ("drafted" in r) == (r["decode"] == "verify")


def test_passes_are_those_that_the_rules_of_block_diffusion_ask_for(model):
    """One prompt token at position 0 and tokens for 1 to 39: a block of 32, its finalising pass, which gives the token
    at 32, and a sub-block of 8."""
    modes = ("--decode", "ar,greedy,iterative", "--threshold", "0,1")
    found = decodes(model, "-n", 39, *modes)
    passes = {name: r["passes"] for name, r in found.items()}
    assert passes == {"tg39": 39, "tg39/greedy": 3, "tg39/iterative@0": 4 + 1 + 1, "tg39/iterative@1": 31 + 1 + 7}
    whole = decodes(model, "-n", 39, *modes, "--sub-block-size", 32, "--max-passes", 2)
    assert whole["tg39/iterative@1"]["passes"] == 2 + 1 + 2 and whole["tg39/iterative@0"]["passes"] == 3
    # Sequences share passes; with 32 tokens in the cache there is one block for the prompt's last token and 31 others.
    shared = decodes(model, "-n", 31, *modes, "--batch", 3, "--depth", 32)
    assert {name: r["passes"] for name, r in shared.items()} == {
        "tg31/d32": 31, "tg31/d32/greedy": 1, "tg31/d32/iterative@0": 4, "tg31/d32/iterative@1": 31,
        "tg31/b3": 31, "tg31/b3/greedy": 1, "tg31/b3/iterative@0": 4, "tg31/b3/iterative@1": 31,
    }  # fmt: skip
    assert shared["tg31/b3/greedy"]["tokens_per_pass"] == 93


def test_a_fixed_number_of_drafts_is_that_of_mode_verify(model):
    found = decodes(model, "-n", 20, "--decode", "ar,greedy,verify", "--drafts", 3, "--diffusion-style", "causal")
    assert found["tg20/verify"]["drafted"] > 0
    none = decodes(model, "-n", 20, "--decode", "verify", "--drafts", 0)["tg20/verify"]
    assert none["drafted"] == 0 and none["passes"] == 20


def answer(model, prompt, *args):
    r = run("wf-run", "-m", model, "-p", f"User: {prompt}<|eot_id|>Assistant: ", "-n", 40, "--temp", 0, "-t", 1, "--json",
            *args)  # fmt: skip
    assert r.returncode == 0, r.stderr
    out = json.loads(r.stdout)
    return out["ids"], out["timings"]["passes"]


@pytest.mark.parametrize("style", ["fast-dllm-v2", "causal"])
def test_answers_to_prompts_are_those_of_wf_run(model, tmp_path, style):
    prompts = ["Hello", "What is the capital of France?", "Tell me of the war against the Volsces"]
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(prompts) + "\n\n")
    found = decodes(model, "--prompts", file, "-n", 40, "--decode", "greedy,adaptive,ar,verify", "--threshold", "0.9",
                    "--diffusion-style", style)  # fmt: skip
    assert list(found) == ["text40/greedy", "text40/adaptive@0.9", "text40", "text40/verify"]
    ar = [answer(model, p, "--decode", "ar") for p in prompts]
    for name, r in found.items():
        extra = ["--decode", r["decode"]]
        if r["decode"] != "ar":
            extra += ["--diffusion-style", style]
        if r["decode"] == "adaptive":
            extra += ["--threshold", 0.9]
        answers = [answer(model, p, *extra) for p in prompts]
        assert r["prompts"] == 3 and r["generated"] == sum(len(ids) for ids, _ in answers), name
        if r["decode"] != "verify":  # whose number of drafts depends on what passes cost at that time
            over_prompts = 3 if r["decode"] == "ar" else 0  # where the prompt has its own passes, wf-run leaves them out
            assert r["passes"] == sum(passes for _, passes in answers) + over_prompts, name
        shares = []
        for (ids, _), (of_ar, _) in zip(answers, ar):
            common = next((i for i, (a, b) in enumerate(zip(ids, of_ar)) if a != b), min(len(ids), len(of_ar)))
            shares.append(common / len(of_ar))
        same = sum(a[0] == b[0] for a, b in zip(answers, ar))
        assert r["agreement"] == {"same": same, "in_common": pytest.approx(statistics.mean(shares))}, name
    assert found["text40/verify"]["agreement"] == {"same": 3, "in_common": 1}
    assert found["text40"]["agreement"] == {"same": 3, "in_common": 1}


def test_single_passes_are_timed_with_each_use_of_the_head(model):
    out = bench(model, "-p", 0, "-n", 0, "-t", "1,2", "-r", 3, "--pass-rows", "4,1,64")
    assert out["results"] == []
    heads = ("none", "choice", "logits")
    assert [(p["threads"], p["rows"], p["head"]) for p in out["passes"]] == [
        (t, n, h) for t in (1, 2) for n in (4, 1, 64) for h in heads
    ]
    first = {(p["threads"], p["head"]): p["samples_ms"] for p in out["passes"] if p["rows"] == 4}
    for p in out["passes"]:
        assert len(p["samples_ms"]) == 3 and all(ms > 0 for ms in p["samples_ms"])
        assert p["median_ms"] == statistics.median(p["samples_ms"])
        ratios = [a / b for a, b in zip(p["samples_ms"], first[p["threads"], p["head"]])]
        assert p["to_first"] == pytest.approx(statistics.median(ratios))


def test_modes_and_passes_have_tables_of_their_own(model):
    r = run("wf-bench", "-m", model, "-p", 8, "-n", 4, "-t", 1, "-r", 1, "--decode", "ar,greedy,verify", "--pass-rows",
            "1,8", *SMALL)  # fmt: skip
    assert r.returncode == 0 and r.stderr == ""
    tables = [t.splitlines() for t in r.stdout.split("\n\n")]
    first_cells = [[line.split("  ")[0] for line in t] for t in tables]
    assert first_cells[2:] == [["test", "pp8", "tg4"], ["decoding", "tg4", "tg4/greedy", "tg4/verify"],
                               ["pass over", "1 row", "8 rows"]]  # fmt: skip


@pytest.mark.parametrize(
    "args, code, message",
    [
        (["--decode", "ar,fast"], 2, "--decode: 'fast' is none of ar, greedy, iterative, adaptive and verify"),
        (["--decode", "auto"], 2, "--decode: 'auto' is none of"),
        (["--decode", "ar,"], 2, "--decode: '' is none of"),
        (["--decode", "ar,ar"], 2, "--decode: ar is there twice"),
        (["--decode", "iterative", "--threshold", "0.5,1.5"], 2, "--threshold: '0.5,1.5' is not a list of numbers from 0"),
        (["--decode", "iterative", "--threshold", "0.5,0.50"], 2, "--threshold: 0.5 is there twice"),
        (["--decode", "greedy,verify", "--threshold", "0.5"], 2, "--threshold needs --decode iterative or adaptive"),
        (["--decode", "greedy", "--block-size", "0"], 2, "--block-size"),
        (["--block-size", "16"], 1, "block_size is a setting of block diffusion, and the decode mode is ar"),
        (["--decode", "ar,greedy", "--mask-token-id", "2048"], 1, "mask_token_id = 2048, expected 0 to 2047"),
        (["--decode", "greedy", "--block-size", "24"], 1, "block_size = 24, expected a divisor of the context"),
        (["--decode", "ar,greedy", "--drafts", "4"], 1, "drafts is a setting of mode verify"),
        (["--pass-rows", "0"], 2, "--pass-rows: '0' is not a list of numbers from 1"),
        (["--pass-rows", "513"], 1, "--pass-rows is 513 tokens, the model's context holds 512"),
        (["--prompts", "none.txt"], 1, "none.txt"),
        (["--prompts", "/dev/null"], 1, "there is no line with a prompt"),
        (["--prompts", "x", "--batch", "2"], 2, "--batch"),
        (["--prompts", "x", "--depth", "2"], 2, "--depth"),
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
    for flag in ("--prompt", "--predict", "--threads", "--depth", "--batch", "--repetitions", "--warmup", "--isa",
                 "--decode", "--threshold", "--prompts", "--pass-rows", "--block-size", "--mask-token-id"):  # fmt: skip
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
