# SPDX-License-Identifier: Apache-2.0
"""Greedy text is the scalar path's, token by token: the sample model in every ternary type, on every ISA, with one and
two threads. (Batches and the copy of the head: tests/model/engine_test.cc and fast_head_test.cc.)"""

import json

import pytest
from harness import BARD, convert, isas, succeed

PROMPTS = ["100,200,300", "33"]
TYPES = ["i2_s", "tq1_0", "tq2_0", "q2_0", "iq1_bn", "iq2_bn", "iq2_bn_r4", "f32", "f16", "bf16"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A function: the sample model's file of a type, made once."""
    folder = tmp_path_factory.mktemp("greedy")

    def get(name):
        path = folder / f"{name}.gguf"
        if not path.exists():
            source = folder / "i2_s.gguf"
            if not source.exists():
                convert(BARD, source, "i2_s")
            if name != "i2_s":
                succeed("wf-quantize", source, path, name)
        return path

    return get


def texts(path, isa, threads):
    """The ids after each prompt, end tokens included."""
    out = []
    for ids in PROMPTS:
        r = succeed("wf-run", "--decode", "ar", "-m", path, "--ids", ids, "-n", 256, "--ignore-eos", "--temp", 0, "-t", threads, "--json",
                    isa=isa)  # fmt: skip
        out.append(json.loads(r.stdout)["ids"])
    return out


@pytest.fixture(scope="module")
def scalar(files):
    return texts(files("i2_s"), "scalar", 1)


def test_the_texts_are_long_and_no_loops(scalar):
    assert list(map(len, scalar)) == [256, 256]
    assert len({i for t in scalar for i in t}) > 50


@pytest.mark.parametrize("name", TYPES)
def test_every_type_isa_and_thread_count(files, scalar, name):
    path = files(name)
    for isa in isas(path):
        for threads in (1, 2):
            assert texts(path, isa, threads) == scalar, (name, isa, threads)
