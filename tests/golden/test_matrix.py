# SPDX-License-Identifier: Apache-2.0
"""Every architecture x every tensor type that it can hold x every ISA, without and with low-rank correction and SubLN,
on small random checkpoints (make_toy.py), against the float64 oracle (reference.py) and transformers' own classes
(tests/data/golden). What must be equal is compared bit by bit: a checkpoint's ternary values and scales in every type,
and its logits for every type, ISA and number of threads.

In CI every pair of architecture and type, of type and ISA and of architecture and ISA occurs; WF_LONG=1 runs the whole
product."""

import json
import os

import gguf
import gguf_edit
import make_toy
import numpy as np
import pytest
from harness import BARD, distance, golden, isas, join, logits, succeed
from reference import Reference

LONG = os.environ.get("WF_LONG", "") not in ("", "0")

# Float32 against float64 where no activation comes nearer than TIE to the middle between two integers (x * a is below
# 128, its error in float32 some 1e-5): transformers' float32 differs by 2e-5, of logits that deviate by 3 to 4. Where
# one does it may round the other way, and what follows moves: MEAN and MAX hold there (test_toys.py), unless it tips
# the choice of an expert, which nothing bounds.
TIE, CLOSE = 1e-4, 1e-4
MEAN, MAX = 0.1, 1.0
GAP = 0.02  # of the router; a moved row's scores move by less

CONVERTED = ["f32", "f16", "bf16", "i2_s", "tq1_0", "tq2_0", "iq2_bn", "q2_0"]  # wf-convert --outtype
QUANTIZED = ["iq1_bn", "iq2_bn_r4"]  # made by wf-quantize alone
LAYOUTS = {"i2_s-arm64": "arm64", "i2_s-x4": "x4"}  # --i2s-layout
REWRITTEN = [*LAYOUTS, "q2_0-128"]  # layouts that have no mark in the file, made here
KINDS = CONVERTED + QUANTIZED + REWRITTEN
TYPE_IDS = {"f32": 0, "f16": 1, "bf16": 30, "tq1_0": 34, "tq2_0": 35, "i2_s": 36, "q2_0": 42, "iq1_bn": 134,
            "iq2_bn": 135, "iq2_bn_r4": 335}  # fmt: skip
# Embedding, head and factors of one type everywhere: then nothing but the ternary type differs.
SAME = ["--embedding-type", "f16", "--head-type", "f16", "--lrc-type", "f16"]


class Toy:
    def __init__(self, name, tmp):
        self.name, self.tmp, self.folder = name, tmp / name, tmp / name / "hf"
        self.toy = {**make_toy.TOYS, **make_toy.MATRIX}[name]
        make_toy.make(name, self.folder, BARD)
        self.case = golden(name)
        # One of 24 tokens beside one of 7, and single ones, which take the way of decoding.
        self.parts = [self.case.prompts[:2], [p for p in self.case.prompts if len(p) == 1]]
        self.prompts = [p for part in self.parts for p in part]
        self.oracle = Reference(self.folder, stored=np.float16)
        self.files, self.baseline = {}, None

    def convert(self, outtype, *args):
        path = self.tmp / f"{outtype}{''.join(args)}.gguf"
        succeed("wf-convert", self.folder, "-o", path, "--outtype", outtype, *args)
        return path

    def file(self, kind):
        if kind not in self.files:
            path = self.tmp / f"{kind}.gguf"
            if kind in CONVERTED:
                path = self.convert(kind, *SAME)
            elif kind in QUANTIZED:
                succeed("wf-quantize", self.file("i2_s"), path, kind)
            else:
                self.rewrite(kind, path)
            self.files[kind] = path
        return self.files[kind]

    def rewrite(self, kind, path):
        g = gguf_edit.Gguf(self.file(kind.partition("-")[0]))
        for name, t in g.tensors.items():
            if t.kind == gguf_edit.I2_S:
                n = t.ne[0] * t.rows
                codes = gguf_edit.i2s_codes(t.data, n)
                t.data = gguf_edit.i2s_bytes(codes, LAYOUTS[kind], t.ne[0]) + t.data[n // 4 :]
            elif t.kind == gguf_edit.Q2_0:
                g.tensors[name] = gguf_edit.q2_0_128(t)
        g.write(path)

    def run(self, path, isa=None, threads=1, layout=None, prompts=None):
        extra = [] if layout is None else ["--i2s-layout", layout]
        rows = []
        for part in self.parts if prompts is None else [prompts]:
            rows += logits(path, part, self.tmp / "logits.f32", isa, threads, extra=extra)
        return rows

    def logits(self, kind, isa=None, threads=1):
        """What every kind, ISA and number of threads must give alike."""
        return self.run(self.file(kind), isa, threads, LAYOUTS.get(kind))

    def best(self):
        if self.baseline is None:
            self.baseline = self.logits("i2_s")
        return self.baseline


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    made, tmp = {}, tmp_path_factory.mktemp("matrix")

    def get(name):
        if name not in made:
            made[name] = Toy(name, tmp)
        return made[name]

    return get


@pytest.fixture(scope="module")
def machine(toys):
    """The ISAs of this CPU."""
    return isas(toys("bitnet-plain").file("i2_s"))


def hold(oracle, prompts, rows, what):
    """Rows within CLOSE where the oracle is certain, within MEAN and MAX elsewhere. Returns how many are certain, and
    the largest difference among these."""
    certain, worst = [], 0.0
    for ids, got in zip(prompts, rows):
        want = oracle.logits(ids)
        sure = np.minimum.accumulate(oracle.ties) > TIE  # a row depends on all rows before it
        chosen = np.minimum.accumulate(oracle.router_gaps) > GAP
        most = np.abs(got - want).max(axis=1)
        assert (most[sure & chosen] <= CLOSE).all(), f"{what}, {len(ids)} tokens: {most}"
        worst = max(worst, most[sure & chosen].max(initial=0))
        if chosen.any():
            mean, far = distance(got[chosen], want[chosen])
            assert mean <= MEAN and far <= MAX, f"{what}, {len(ids)} tokens: mean {mean:.4f}, max {far:.3f}"
        certain.extend(sure & chosen)
    return np.mean(certain), worst


def equal(rows, wanted, what):
    for got, want in zip(rows, wanted, strict=True):
        assert np.array_equal(got.view(np.uint32), want.view(np.uint32)), f"{what}, {len(got)} tokens"


def fits(toy, kind):
    """Types of blocks of 256 and 128 cannot hold the toys of odd widths."""
    return toy not in make_toy.TOYS or kind not in ("tq1_0", "tq2_0", "q2_0-128")


def architecture(name):
    return name.rpartition("-")[0]


ARCHITECTURES = list(make_toy.BASES)
# Every kind of the plain toys and of those with all at once; a few of the rest.
SOME = ("f32", "i2_s", "iq1_bn")
CASES = [
    (name, kind)
    for name in [*make_toy.TOYS, *make_toy.MATRIX]
    for kind in KINDS
    if fits(name, kind) and (LONG or kind in SOME or name.endswith(("-plain", "-both")))
]


def test_the_cases_are_whole():
    for a in ARCHITECTURES:
        for variant in ("plain", "both"):
            assert {k for n, k in CASES if n == f"{a}-{variant}"} == set(KINDS)
    assert {n for n, _ in CASES} == {*make_toy.TOYS, *make_toy.MATRIX}
    on_isas = list(isa_cases())
    assert {k for _, k in on_isas} == set(KINDS)
    assert {architecture(n) for n, _ in on_isas} >= set(ARCHITECTURES)
    print(f"{len(CASES)} pairs of checkpoint and type, {len(on_isas)} of them on every ISA; WF_LONG=1 runs all")


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_logits(toys, name, kind):
    """Every architecture and type. Bit for bit those of I2_S, which are the oracle's."""
    toy = toys(name)
    rows = toy.best() if kind == "i2_s" else toy.logits(kind)
    certain, worst = hold(toy.oracle, toy.prompts, rows, f"{name} {kind}")
    print(f"{name} {kind}: {certain:.0%} of the rows are certain and within {worst:.1e}")
    assert certain >= 0.9
    equal(rows, toy.best(), f"{name}: {kind} and i2_s")


# --- the weights ------------------------------------------------------------------------------------------------

NAMES = {"q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output", "gate": "ffn_gate", "up": "ffn_up",
         "down": "ffn_down"}  # fmt: skip


def permuted(values, heads):
    """llama's order of q and k (formats.md 3.1): row h D + 2 j + s is row h D + s D / 2 + j."""
    return values.reshape(heads, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)


def gguf_name(layer, key):
    return f"blk.{layer}.{NAMES[key.removeprefix('shared ')]}{'_shexp' if key.startswith('shared') else ''}"


def projections(reference, llama):
    """GGUF name -> list of (ternary values, scale), of which only experts have more than one."""
    out = {}
    for i, layer in enumerate(reference.layers):
        for key, p in reference.projections(layer):
            heads = {"q": reference.heads, "k": reference.kv_heads}.get(key) if llama else None
            out[gguf_name(i, key)] = [(permuted(p.values, heads) if heads else p.values, p.scale)]
        for key in ("gate", "up", "down") if "experts" in layer else ():
            out[f"{gguf_name(i, key)}_exps"] = [(e[key].values, e[key].scale) for e in layer["experts"].experts]
    return out


@pytest.mark.parametrize(("name", "kind"), [(n, k) for n, k in CASES if k not in REWRITTEN])
def test_weights_are_exact(toys, name, kind):
    """The file, decoded by other code than wf's, holds the ternary values that the oracle found in the checkpoint,
    every one of them, and scales that are the oracle's to the last bit."""
    toy = toys(name)
    g = gguf_edit.Gguf(toy.file(kind))
    llama = g.metadata[b"general.architecture"] == (8, b"llama")
    for base, parts in projections(toy.oracle, llama).items():
        t = g.tensors[f"{base}.weight".encode()]
        assert t.kind == TYPE_IDS[kind], base
        assert t.ne == [*parts[0][0].shape[::-1], *([len(parts)] if base.endswith("_exps") else [])], base
        rest = g.tensors.get(f"{base}.scale".encode())
        rest = np.ones(len(parts), np.float32) if rest is None else np.frombuffer(rest.data, "<f4")
        assert len(rest) == len(parts), base
        if kind in ("f32", "f16", "bf16"):
            w = gguf_edit.floats(t)
            values, stored = np.sign(w), np.abs(w)
        else:
            values, stored = gguf_edit.decode(t)
        stored = np.broadcast_to(stored, values.shape).reshape(len(parts), -1)
        for p, (want, scale) in enumerate(parts):
            got = values.reshape(len(parts), *want.shape)[p]
            assert np.array_equal(got, want), f"{base}, part {p}: {(got != want).sum()} of {want.size} values differ"
            sizes = np.unique(stored[p][stored[p] != 0])
            assert len(sizes) == 1, f"{base}, part {p}: {len(sizes)} scales"
            assert np.float32(sizes[0]) * rest[p] == np.float32(scale), f"{base}, part {p}: {sizes[0]} * {rest[p]}"


# --- ISAs and threads -------------------------------------------------------------------------------------------


def isa_cases():
    """Each type on an architecture of its own with everything in it, and on one with experts; in the long run all."""
    for i, kind in enumerate(KINDS):
        names = [f"{ARCHITECTURES[i % 8]}-both", f"{('mixtral', 'qwen2moe', 'qwen3moe')[i % 3]}-plain"]
        # 4.5 groups a row
        names += ["toy-576"] if fits("toy-576", kind) else []
        yield from ((n, kind) for n in ([n for n, k in CASES if k == kind] if LONG else names))


@pytest.mark.parametrize(("name", "kind"), list(isa_cases()))
def test_isas_and_threads_agree_bit_for_bit(toys, machine, name, kind):
    toy = toys(name)
    for isa in machine:
        for threads in (1, 2) if LONG or isa != "scalar" else (1,):
            equal(toy.logits(kind, isa, threads), toy.best(), f"{name} {kind}, {isa}, {threads} threads")


# --- other types of embedding, head and factors -------------------------------------------------------------------


@pytest.mark.parametrize("name", [*make_toy.TOYS, *make_toy.MATRIX])
def test_the_checkpoints_own_types(toys, name):
    """F32 keeps embedding, head and factors as they are in the checkpoint, and so does BF16 unless factors are computed
    from the checkpoint's (LoRA, QLRC). Then the oracle rounds nothing, and transformers' own logits are within the same
    bound."""
    toy = toys(name)
    computed = toy.toy.get("lrc") == "lora" or "lrc_bits" in toy.toy
    for kind in ("f32", "bf16"):
        rows = toy.run(toy.convert(kind))
        if kind == "bf16" and computed:
            hold(Reference(toy.folder, stored=to_bf16), toy.prompts, rows, f"{name} {kind}")
            continue
        certain, worst = hold(Reference(toy.folder), toy.prompts, rows, f"{name} {kind}")
        assert certain == 1
        theirs = [r for ids, r in zip(toy.case.prompts, toy.case.rows) if ids in toy.prompts]
        most = max(np.abs(a[:, toy.case.columns] - b).max() for a, b in zip(rows, theirs, strict=True))
        assert most <= CLOSE, f"{name} {kind}: {most:.1e} from {toy.case.name}"
        print(f"{name} {kind}: {worst:.1e} from the oracle, {most:.1e} from {toy.case.name}")


def to_bf16(a, _):
    return (make_toy.to_bf16(a).astype(np.uint32) << 16).view(np.float32)


DENSE = {"f16": gguf.GGMLQuantizationType.F16, "q8_0": gguf.GGMLQuantizationType.Q8_0,
         "q6_k": gguf.GGMLQuantizationType.Q6_K, "q4_k": gguf.GGMLQuantizationType.Q4_K,
         "q4_0": gguf.GGMLQuantizationType.Q4_0}  # fmt: skip
# Where gguf-py has no quantiser to be equal to: root mean square of the rounding, of normal values, as a part of their
# deviation; what these bits allow.
ROUGH = {"q6_k": 0.02, "q4_k": 0.09}


def dense_values(t):
    if t.kind == gguf_edit.F16:
        return gguf_edit.floats(t)
    kind = gguf.GGMLQuantizationType(t.kind)
    return gguf.quants.dequantize(np.frombuffer(t.data, np.uint8).reshape(t.rows, -1), kind).astype(np.float32)


def stored_as(toy, path, types):
    """For the oracle: what lies in the file in place of a matrix, after a check that it is that matrix, rounded: the
    bytes that gguf-py writes, if it can."""
    g = gguf_edit.Gguf(path)
    heads = {}
    if g.metadata[b"general.architecture"] == (8, b"llama"):
        heads = {"q": toy.oracle.heads, "k": toy.oracle.kv_heads}

    def store(a, what):
        if isinstance(what, tuple):
            layer, key, factor = what
            name, type_name = f"{gguf_name(layer, key)}.lrc_{factor}.weight", types["lrc"]
        else:
            name, type_name = {"embedding": "token_embd", "head": "output"}[what] + ".weight", types[what]
        t = g.tensors[name.encode()]
        assert t.kind == DENSE[type_name], name
        assert t.ne == [*a.shape[::-1]], name
        swap = heads.get(what[1]) if what[2:] == ("u",) else None
        values = dense_values(t)
        want = permuted(a, swap) if swap else a
        if type_name in ROUGH:
            error = np.sqrt(np.mean((values.astype(np.float64) - want) ** 2)) / want.std()
            assert error <= ROUGH[type_name], f"{name}: {type_name} is off by {error:.4f} of the deviation"
        else:
            assert t.data == gguf.quants.quantize(want, DENSE[type_name]).tobytes(), f"{name}: not gguf-py's bytes"
        # Back to the checkpoint's order.
        return values.reshape(swap, -1, 2, a.shape[1]).swapaxes(1, 2).reshape(a.shape) if swap else values

    return store


SINGLES = np.random.default_rng(5).integers(0, 2044, (40, 1)).tolist()


def hold_rounded(toy, machine, path, types, what):
    """Other values than those for which the prompts were chosen: single tokens, half of which are certain."""
    oracle = Reference(toy.folder, stored=stored_as(toy, path, types))
    prompts = [*SINGLES, toy.prompts[1]]
    rows = toy.run(path, prompts=SINGLES) + toy.run(path, prompts=prompts[-1:])
    certain, worst = hold(oracle, prompts, rows, what)
    print(f"{what}: {certain:.0%} of the rows are certain and within {worst:.1e}")
    assert certain >= 0.2
    for isa in machine:
        equal(toy.run(path, isa, prompts=SINGLES[:3]), rows[:3], f"{what}, {isa}")
        equal(toy.run(path, isa, 2, prompts=prompts[-1:]), rows[-1:], f"{what}, {isa}, 2 threads")


@pytest.mark.parametrize("name", ["bitnet-b1.58-plain", "qwen2-plain"])
@pytest.mark.parametrize("kind", ["q8_0", "q6_k", "q4_k", "q4_0"])
def test_types_of_an_embedding_that_is_the_head(toys, machine, name, kind):
    toy = toys(name)
    path = toy.convert("i2_s", "--embedding-type", kind)
    hold_rounded(toy, machine, path, {"embedding": kind}, f"{name}, {kind} embedding")


HEADS = [("llama-plain", "q4_k", "q6_k"), ("llama-lrc", "q8_0", "q4_0"), ("qwen3-plain", "f16", "q8_0"),
         ("qwen2moe-subln", "q6_k", "q4_k"), ("qwen3moe-plain", "q4_0", "f16")]  # fmt: skip


@pytest.mark.parametrize(("name", "embedding", "head"), HEADS)
def test_types_of_embedding_and_head(toys, machine, name, embedding, head):
    toy = toys(name)
    path = toy.convert("iq2_bn", "--embedding-type", embedding, "--head-type", head)
    types = {"embedding": embedding, "head": head, "lrc": "f16"}
    hold_rounded(toy, machine, path, types, f"{name}, {embedding} embedding, {head} head")


@pytest.mark.parametrize("name", ["llama-wide", "bitnet-b1.58-wide"])
@pytest.mark.parametrize("kind", ["f16", "q8_0", "q4_0"])
def test_types_of_low_rank_factors(toys, machine, name, kind):
    toy = toys(name)
    path = toy.convert("i2_s", "--lrc-type", kind)
    hold_rounded(toy, machine, path, {"embedding": "f16", "head": "f16", "lrc": kind}, f"{name}, {kind} factors")


# --- the rest -----------------------------------------------------------------------------------------------------


def test_bitnet_25_is_another_name_for_bitnet_b158(toys, tmp_path):
    toy = toys("bitnet-b1.58-plain")
    for kind in ("i2_s", "tq1_0", "iq2_bn_r4", "f32"):
        g = gguf_edit.Gguf(toy.file(kind))
        g.rename_architecture("bitnet-b1.58", "bitnet-25")
        g.write(tmp_path / "25.gguf")
        equal(toy.run(tmp_path / "25.gguf"), toy.best(), kind)


@pytest.mark.parametrize("name", [n for n in make_toy.MATRIX if LONG or n.endswith(("-plain", "-both"))])
def test_a_folder_is_its_converted_file(toys, name):
    """Converted in memory, the checkpoint gives the logits of its I2_S file."""
    toy = toys(name)
    equal(toy.run(toy.folder), toy.best(), name)


def test_a_wrong_layout_is_seen(toys):
    """The flag has an effect: the same file read in another layout is another model."""
    toy = toys("bitnet-b1.58-plain")
    for layout in ("arm64", "x4"):
        mean, _ = distance(toy.run(toy.file("i2_s"), layout=layout)[0], toy.best()[0])
        assert mean > MEAN, layout


@pytest.mark.parametrize("name", [f"{a}-both" for a in ARCHITECTURES])
def test_greedy_equals_the_oracle(toys, name):
    """The program's cache against a forward pass of the whole text: every token that it chose is the oracle's best, or
    within what rounding can turn."""
    toy, prompt = toys(name), toys(name).prompts[0]
    out = json.loads(
        succeed("wf-run", "--decode", "ar", "-m", toy.file("i2_s"), "--ids", join(prompt), "-n", 32, "--temp", 0, "--kv-type", "f32",
                "--json").stdout
    )  # fmt: skip
    rows = toy.oracle.logits(prompt + out["ids"])[len(prompt) - 1 : -1]
    rows[:, 2047] = -np.inf  # the mask token is never sampled
    chosen = rows[np.arange(len(rows)), out["ids"]]
    assert (rows.max(axis=1) - chosen <= 0.5 * MAX).all()
    assert (rows.argmax(axis=1) == out["ids"]).mean() >= 0.9
    assert len(out["ids"]) == 32 or out["ids"][-1] in (2045, 2046)
