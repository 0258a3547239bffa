// SPDX-License-Identifier: Apache-2.0
// An encoder of TL2 for tests: follows formats.md 2.10 from the other side, for each value the place of its bits.
#ifndef WF_TESTS_FORMATS_TL2_ENCODE_H_
#define WF_TESTS_FORMATS_TL2_ENCODE_H_

#include <cstdint>
#include <cstdlib>
#include <random>
#include <vector>

#include "wf/base/bytes.h"

namespace wf::test {

struct Tl2Tensor {
  size_t rows, k, tile;  // tile: BM of formats.md's table
};

inline std::vector<int8_t> RandomTernary(size_t n) {
  std::mt19937 rng(static_cast<uint32_t>(n));
  std::vector<int8_t> v(n);
  for (int8_t& x : v) x = static_cast<int8_t>(static_cast<int>(rng() % 3) - 1);
  return v;
}

// Stored chunk of eight rows: order [0, 2, 1, 3].
inline size_t Stored(size_t row) {
  constexpr size_t kChunk[] = {0, 2, 1, 3};
  return kChunk[row / 8] * 8 + row % 8;
}

inline void OrNibble(std::vector<uint8_t>* out, size_t byte, bool high, int code) {
  (*out)[byte] = static_cast<uint8_t>((*out)[byte] | code << (high ? 4 : 0));
}

// P of formats.md in its order of operations, 96-column triples, then pairs of the last K % 96 columns.
inline std::vector<uint8_t> EncodeTl2(const Tl2Tensor& t, const std::vector<int8_t>& v, float scale, bool first) {
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

}  // namespace wf::test
#endif  // WF_TESTS_FORMATS_TL2_ENCODE_H_
