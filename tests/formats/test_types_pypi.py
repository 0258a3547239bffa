# SPDX-License-Identifier: Apache-2.0
"""Tensor types against PyPI gguf (gguf.quants): the same bytes where both write, the same values where both read, and
how much the types lose whose scales we search."""

import os
import subprocess

import numpy as np
import pytest

gguf = pytest.importorskip("gguf")
quants = pytest.importorskip("gguf.quants")
T = gguf.GGMLQuantizationType

BIN = os.environ["WF_BIN"]
K = 1024


class Rows:
    """Rows of K elements through wf_quant_rows."""

    def __init__(self, folder):
        self.a, self.b = folder / "in.bin", folder / "out.bin"

    def run(self, command, name, data, dtype, *more):
        self.a.write_bytes(np.ascontiguousarray(data).tobytes())
        p = subprocess.run([os.path.join(BIN, "wf_quant_rows"), command, name, str(K), self.a, self.b, *map(str, more)],
                           capture_output=True, text=True, timeout=120, check=False)
        assert p.returncode == 0, p.stderr
        out = np.frombuffer(self.b.read_bytes(), dtype=dtype)
        return out.reshape(len(data), -1)


@pytest.fixture
def rows(tmp_path):
    return Rows(tmp_path)


def floats(seed, n=24):
    """Rows of different kinds and sizes, with zeros, ties of the largest magnitude, and values on rounding borders."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, K)).astype(np.float32)
    x *= np.exp2(rng.integers(-12, 5, size=(n, 1))).astype(np.float32)
    x[0] = 0
    x[1, ::2] = 0
    x[2] = rng.integers(-8, 9, size=K) / 8
    x[3] = np.where(rng.random(K) < 0.5, 1, -1)
    x[4] = np.round(x[4] * 64) / 64
    x[5] = np.abs(x[5])
    x[6] = rng.choice([-0.75, 0.0, 0.75], size=K)
    x[7, 17] = 1e4
    return x + np.float32(0)  # no -0: the d of a block of zeros has the sign of ggml's C in ours, of x[0] in PyPI gguf


def ternary(seed, n=9):
    t = np.random.default_rng(seed).integers(-1, 2, size=(n, K)).astype(np.int8)
    t[:, ::64] = 1  # PyPI gguf takes d from the block: none may be all zeros
    return t


@pytest.mark.parametrize("name", ["Q8_0", "Q4_0"])
@pytest.mark.parametrize("seed", range(4))
def test_the_same_bytes_from_floats(rows, name, seed):
    x = floats(seed)
    want = quants.quantize(x, T[name])
    got = rows.run("quantise", name, x, np.uint8)
    assert np.array_equal(got, want), np.argwhere(got != want)[:5]


@pytest.mark.parametrize("name", ["BF16", "F16"])
def test_the_same_halves_from_floats(rows, name):
    x = floats(5)
    want = quants.quantize(x, T[name]).view(np.uint8).reshape(len(x), -1)
    assert np.array_equal(rows.run("quantise", name, x, np.uint8), want)


@pytest.mark.parametrize("name", ["TQ1_0", "TQ2_0"])
@pytest.mark.parametrize("scale", [0.5, 1.25, 0.7314453125, 2.0**-14])
def test_the_same_bytes_from_ternary_values(rows, name, scale):
    """Scales that f16 holds: of others PyPI gguf stores the nearest, we the next above."""
    t = ternary(1)
    want = quants.quantize(t.astype(np.float32) * np.float32(scale), T[name])
    assert np.array_equal(rows.run("pack", name, t, np.uint8, scale), want)


@pytest.mark.parametrize("name", ["TQ1_0", "TQ2_0"])
def test_ternary_values_back_from_what_pypi_gguf_writes(rows, name):
    t = ternary(2)
    packed = quants.quantize(t.astype(np.float32) * np.float32(0.625), T[name])
    got = rows.run("unpack", name, packed, np.float32)
    assert np.array_equal(got, t * np.float32(0.625))
    assert np.array_equal(got, quants.dequantize(packed, T[name]))


# Where the f16 scales of a block lie: random bytes there could be infinite.
SCALES = {"Q8_0": [0], "Q4_0": [0], "Q4_K": [0, 2], "Q6_K": [208], "TQ1_0": [52], "TQ2_0": [64]}


@pytest.mark.parametrize("name", SCALES)
def test_the_same_values_from_any_bytes(rows, name):
    block, size = gguf.GGML_QUANT_SIZES[T[name]]
    rng = np.random.default_rng(3)
    data = rng.integers(0, 256, size=(40, K // block, size), dtype=np.uint8)
    for at in SCALES[name]:
        d = rng.standard_normal((40, K // block, 1)).astype(np.float16)
        data[:, :, at : at + 2] = d.view(np.uint8)
    data = data.reshape(40, -1)
    command = "unpack" if name.startswith("TQ") else "dequantise"
    got = rows.run(command, name, data, np.float32)
    assert np.array_equal(got, quants.dequantize(data, T[name]))


def rms(a, b):
    return np.sqrt(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))


# Rounding errors are proportional to the step. Q8_0 has 254 steps over twice the largest magnitude of 32 values, Q6_K 63
# over that of 16 values, Q4_K 15 over at most that of 32: the bits explain errors larger by 254/63 and 254/15.
STEPS = {"Q6_K": 63, "Q4_K": 15}


def weights(kind, n=64):
    rng = np.random.default_rng(11)
    return {
        "normal": lambda: rng.standard_normal((n, K)) * 0.02,
        "uniform": lambda: rng.uniform(-1, 1, size=(n, K)),
        "laplace": lambda: rng.laplace(size=(n, K)) * 0.02,
        "student": lambda: rng.standard_t(3, size=(n, K)) * 0.02,
        "shifted": lambda: rng.standard_normal((n, K)) * 0.02 - 0.03,
        "rows of sizes": lambda: rng.standard_normal((n, K)) * np.exp2(rng.integers(-6, 3, size=(n, 1))),
    }[kind]().astype(np.float32)


@pytest.mark.parametrize("kind", ["normal", "uniform", "laplace", "student", "shifted", "rows of sizes"])
@pytest.mark.parametrize("name", STEPS)
def test_searched_scales_lose_what_the_bits_explain(rows, name, kind):
    x = weights(kind)
    packed = rows.run("quantise", name, x, np.uint8)
    error = rms(x, quants.dequantize(packed, T[name]))
    q8 = rms(x, quants.dequantize(quants.quantize(x, T.Q8_0), T.Q8_0))
    assert error <= q8 * 254 / STEPS[name], error / q8
    assert np.array_equal(rows.run("dequantise", name, packed, np.float32), quants.dequantize(packed, T[name]))
    assert np.array_equal(rows.run("quantise", name, x, np.uint8), packed)
