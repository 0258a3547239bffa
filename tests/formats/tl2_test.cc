// SPDX-License-Identifier: Apache-2.0
// TL2 by round trip: an encoder that follows formats.md 2.10 from the other side (for each value the place of its
// bits), for shapes with every remainder of K by 96 and both generations of files.
#include "wf/quant/tl2.h"

#include <cmath>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "tests/catch.h"
#include "wf/base/bytes.h"

namespace wf {
namespace {

struct Tensor {
  size_t rows, k, tile;  // tile: BM of formats.md's table
};

std::vector<int8_t> RandomTernary(size_t n) {
  std::mt19937 rng(static_cast<uint32_t>(n));
  std::vector<int8_t> v(n);
  for (int8_t& x : v) x = static_cast<int8_t>(static_cast<int>(rng() % 3) - 1);
  return v;
}

// Stored chunk of eight rows: order [0, 2, 1, 3].
size_t Stored(size_t row) {
  constexpr size_t kChunk[] = {0, 2, 1, 3};
  return kChunk[row / 8] * 8 + row % 8;
}

void OrNibble(std::vector<uint8_t>* out, size_t byte, bool high, int code) {
  (*out)[byte] = static_cast<uint8_t>((*out)[byte] | code << (high ? 4 : 0));
}

// P of formats.md in its order of operations, 96-column triples, then pairs of the last K % 96 columns.
std::vector<uint8_t> Encode(const Tensor& t, const std::vector<int8_t>& v, float scale, bool first) {
  const size_t k2 = t.k % 96, k3 = t.k - k2, p = (t.k - 256) * t.rows / 3 * 5 / 8 + 256 * t.rows / 2 * 4 / 8;
  const size_t codes = first ? t.rows * t.k / 4 : (p + 31) / 32 * 32;
  std::vector<uint8_t> out(codes + 32);
  StoreLe(out.data() + codes, scale);
  const size_t sign_at = t.rows * k3 / 6, two_at = sign_at + t.rows * k3 / 24;
  for (size_t row = 0; row < t.rows; ++row) {
    const size_t mb = row / t.tile, ib = row % t.tile / 32, r = row % 32;
    // Groups of 32 rows by 96 columns, numbered in the order mb, kb, ib.
    const auto group = [&](size_t kb, size_t blocks) { return (mb * blocks + kb) * (t.tile / 32) + ib; };
    const int8_t* x = v.data() + row * t.k;
    for (size_t col = 0; col < k3; col += 3) {
      const int n = 9 * x[col] + 3 * x[col + 1] + x[col + 2];
      const size_t g = group(col / 96, k3 / 96), in = col % 96;
      OrNibble(&out, g * 512 + in / 6 * 32 + Stored(r), in % 6 == 0, std::abs(n));
      if (n >= 0) continue;
      const size_t flat = in % 24 / 3 * 32 + r, word = sign_at + g * 128 + in / 24 * 32 + flat % 16 * 2;
      StoreLe(out.data() + word, static_cast<uint16_t>(LoadLe<uint16_t>(out.data() + word) | 1u << (15 - flat / 16)));
    }
    for (size_t col = k3; col < t.k; col += 2) {
      const size_t c = col - k3, g = group(c / 32, k2 / 32);
      OrNibble(&out, two_at + g * 256 + c % 32 / 4 * 32 + Stored(r), c % 4 == 0, 3 * x[col] + x[col + 1] + 4);
    }
  }
  return out;
}

// The shapes of formats.md with at most 15 million weights (all remainders by 96 are among them), then the rest.
const Tensor kTensors[] = {{1024, 4096, 256}, {1536, 4096, 256}, {3200, 3200, 320}};
const Tensor kLarge[] = {
    {4096, 4096, 128}, {3200, 8640, 160}, {8640, 3200, 320}, {4096, 14336, 128}, {14336, 4096, 256}};

void RoundTrip(const Tensor& t, bool first) {
  INFO(t.rows << " x " << t.k << (first ? ", first generation" : ""));
  REQUIRE(IsTl2Shape(t.rows, t.k));
  const std::vector<int8_t> v = RandomTernary(t.rows * t.k);
  const std::vector<uint8_t> bytes = Encode(t, v, 0.375f, first);
  CHECK(bytes.size() == Tl2Bytes(t.rows, t.k, first ? Tl2Generation::kFirst : Tl2Generation::kSecond));
  std::vector<int8_t> back(v.size(), 99);
  float scale = 0;
  const Status s = DecodeTl2(bytes.data(), bytes.size(), t.rows, t.k, back.data(), &scale);
  INFO(s.message());
  REQUIRE(s.ok());
  CHECK((back == v));  // not printed: millions
  CHECK(scale == 0.375f);
}

TEST_CASE("TL2: what the writers' loops emit is decoded, both generations") {
  for (const Tensor& t : kTensors) {
    RoundTrip(t, false);
    RoundTrip(t, true);
  }
}

TEST_CASE("TL2: the large shapes") {
  for (const Tensor& t : kLarge) RoundTrip(t, false);
}

TEST_CASE("TL2: shapes of other or unknown tilings are refused by name") {
  for (const auto& [rows, k] : std::vector<std::pair<size_t, size_t>>{{1536, 1536}, {4096, 1536}, {320, 3200}}) {
    CHECK_FALSE(IsTl2Shape(rows, k));
    const std::vector<uint8_t> bytes(Tl2Bytes(rows, k, Tl2Generation::kSecond));
    std::vector<int8_t> values(rows * k);
    float scale = 0;
    const Status s = DecodeTl2(bytes.data(), bytes.size(), rows, k, values.data(), &scale);
    CHECK(s.code() == ErrorCode::kUnsupported);
    CHECK(s.message() == "TL2 of " + std::to_string(rows) + " rows of " + std::to_string(k) +
                             ": TL2 depends on build-time tiling, which is not known for this shape; convert the model "
                             "to I2_S or TQ2_0");
  }
}

TEST_CASE("TL2: a wrong size and codes without a meaning are errors") {
  const Tensor t = kTensors[0];
  std::vector<int8_t> values(t.rows * t.k);
  std::vector<uint8_t> bytes = Encode(t, values, 1.0f, false);
  float scale = 0;
  const Status size = DecodeTl2(bytes.data(), bytes.size() - 1, t.rows, t.k, values.data(), &scale);
  CHECK(size.code() == ErrorCode::kFormat);
  CHECK(size.message() == "TL2 of 1024 rows of 4096: expected " +
                              std::to_string(Tl2Bytes(1024, 4096, Tl2Generation::kSecond)) +
                              " or 1048608 bytes, found " + std::to_string(bytes.size() - 1));
  bytes[9] = 0xe0;  // stored chunk 1, second row of it: row 17, columns 0 to 2
  const Status triple = DecodeTl2(bytes.data(), bytes.size(), t.rows, t.k, values.data(), &scale);
  CHECK(triple.code() == ErrorCode::kFormat);
  CHECK(triple.message() == "TL2: row 17, column 0: code 14 stands for no ternary values");
  bytes[9] = 0x00;
  bytes[1024 * 4032 * 5 / 24 + 32] = 0x49;  // the pairs begin at column 4032; the second four columns of row 0
  const Status pair = DecodeTl2(bytes.data(), bytes.size(), t.rows, t.k, values.data(), &scale);
  CHECK(pair.message() == "TL2: row 0, column 4038: code 9 stands for no ternary values");
}

}  // namespace
}  // namespace wf
