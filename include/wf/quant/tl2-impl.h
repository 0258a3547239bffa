// SPDX-License-Identifier: Apache-2.0
// Bodies of tl2.h: the loops in which the writers emit their bytes, run backwards.
#ifndef WF_QUANT_TL2_IMPL_H_
#define WF_QUANT_TL2_IMPL_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "wf/base/bytes.h"
#include "wf/quant/tl2.h"

namespace wf {

namespace detail {

// Rows of a tile (BM) of the shapes that published builds know; their other two tile sizes are 96 columns and 32 rows.
// bitnet_b1_58-large's 1536 x 1536 and 4096 x 1536 are tiled otherwise and missing on purpose.
struct Tl2Shape {
  uint32_t rows, k, tile_rows;
};
inline constexpr Tl2Shape kTl2Shapes[] = {
    {14336, 4096, 256}, {4096, 14336, 128}, {1024, 4096, 256}, {4096, 4096, 128},
    {3200, 8640, 160},  {3200, 3200, 320},  {8640, 3200, 320}, {1536, 4096, 256},
};

inline const Tl2Shape* FindTl2Shape(uint64_t rows, uint64_t k) noexcept {
  for (const Tl2Shape& s : kTl2Shapes) {
    if (s.rows == rows && s.k == k) return &s;
  }
  return nullptr;
}

// Where row `r` of a group of 32 lies: the second and the third eight are swapped.
inline constexpr size_t Tl2Place(size_t r) noexcept { return r / 8 == 1 ? r + 8 : (r / 8 == 2 ? r - 8 : r); }

inline Status BadTl2Code(size_t row, size_t col, uint32_t code) {
  return FormatError("TL2: row " + std::to_string(row) + ", column " + std::to_string(col) + ": code " +
                     std::to_string(code) + " stands for no ternary values");
}

// Three values from their number in balanced base 3, 0..13, first the most significant, negated or not.
inline void PutTriple(uint32_t code, bool negative, int8_t* v) noexcept {
  const uint32_t n = code + 13;  // now digits 0..2, each one too large
  const int sign = negative ? -1 : 1;
  v[0] = static_cast<int8_t>(sign * (static_cast<int>(n / 9) - 1));
  v[1] = static_cast<int8_t>(sign * (static_cast<int>(n / 3 % 3) - 1));
  v[2] = static_cast<int8_t>(sign * (static_cast<int>(n % 3) - 1));
}

// 32 rows of 96 columns from 512 bytes of numbers and 128 of signs.
inline Status DecodeTl2Triples(const uint8_t* idx, const uint8_t* sign, size_t row, size_t col, size_t k,
                               int8_t* values) {
  for (size_t jb = 0; jb < 16; ++jb) {
    for (size_t r = 0; r < 32; ++r) {
      const uint8_t byte = idx[32 * jb + Tl2Place(r)];
      int8_t* v = values + (row + r) * k + col + 6 * jb;
      for (size_t half = 0; half < 2; ++half) {
        const uint32_t code = half == 0 ? byte >> 4 : byte & 15u;
        if (code > 13) return BadTl2Code(row + r, col + 6 * jb + 3 * half, code);
        const size_t triple = 2 * jb + half;  // eight triples have 32 bytes of signs: 16 words of 16 bits
        const size_t bit = triple % 8 * 2 + r / 16;
        const uint16_t word = LoadLe<uint16_t>(sign + triple / 8 * 32 + r % 16 * 2);
        PutTriple(code, ((uint32_t{word} >> (15 - bit)) & 1u) != 0, v + 3 * half);
      }
    }
  }
  return OkStatus();
}

// 32 rows of 32 columns from 256 bytes of pairs.
inline Status DecodeTl2Pairs(const uint8_t* two, size_t row, size_t col, size_t k, int8_t* values) {
  for (size_t jb = 0; jb < 8; ++jb) {
    for (size_t r = 0; r < 32; ++r) {
      const uint8_t byte = two[32 * jb + Tl2Place(r)];
      int8_t* v = values + (row + r) * k + col + 4 * jb;
      for (size_t half = 0; half < 2; ++half) {
        const uint32_t code = half == 0 ? byte >> 4 : byte & 15u;
        if (code > 8) return BadTl2Code(row + r, col + 4 * jb + 2 * half, code);
        v[2 * half] = static_cast<int8_t>(static_cast<int>(code / 3) - 1);
        v[2 * half + 1] = static_cast<int8_t>(static_cast<int>(code % 3) - 1);
      }
    }
  }
  return OkStatus();
}

}  // namespace detail

WF_LIB_INLINE uint64_t Tl2Bytes(uint64_t rows, uint64_t k, Tl2Generation generation) noexcept {
  uint64_t n = 0;
  if (k < 256 || rows == 0 || !CheckedMul(rows, k, &n) || n >= uint64_t{1} << 56) return 0;
  // The writers' formula, with its integer divisions from left to right.
  const uint64_t codes =
      generation == Tl2Generation::kFirst ? n / 4 : (k - 256) * rows / 3 * 5 / 8 + 256 * rows / 2 * 4 / 8;
  return (codes + 31) / 32 * 32 + 32;
}

WF_LIB_INLINE bool IsTl2Shape(uint64_t rows, uint64_t k) noexcept { return detail::FindTl2Shape(rows, k) != nullptr; }

WF_LIB_INLINE Status DecodeTl2(const uint8_t* data, uint64_t bytes, size_t rows, size_t k, int8_t* values,
                               float* scale) {
  const detail::Tl2Shape* shape = detail::FindTl2Shape(rows, k);
  if (shape == nullptr) {
    return Unsupported("TL2 of " + std::to_string(rows) + " rows of " + std::to_string(k) +
                       ": TL2 depends on build-time tiling, which is not known for this shape; convert the model to "
                       "I2_S or TQ2_0");
  }
  const uint64_t first = Tl2Bytes(rows, k, Tl2Generation::kFirst), second = Tl2Bytes(rows, k, Tl2Generation::kSecond);
  if (bytes != first && bytes != second) {
    return FormatError("TL2 of " + std::to_string(rows) + " rows of " + std::to_string(k) + ": expected " +
                       std::to_string(second) + " or " + std::to_string(first) + " bytes, found " +
                       std::to_string(bytes));
  }
  const size_t k2 = k % 96, k3 = k - k2;  // triples first, then pairs
  const uint8_t* idx = data;
  const uint8_t* sign = idx + rows * k3 / 6;
  const uint8_t* two = sign + rows * k3 / 24;
  for (size_t tile = 0; tile < rows; tile += shape->tile_rows) {
    const size_t end = tile + shape->tile_rows;
    for (size_t col = 0; col < k3; col += 96) {
      for (size_t row = tile; row < end; row += 32, idx += 512, sign += 128) {
        WF_TRY(detail::DecodeTl2Triples(idx, sign, row, col, k, values));
      }
    }
    for (size_t col = k3; col < k; col += 32) {
      for (size_t row = tile; row < end; row += 32, two += 256) {
        WF_TRY(detail::DecodeTl2Pairs(two, row, col, k, values));
      }
    }
  }
  *scale = LoadLe<float>(data + bytes - 32);
  return OkStatus();
}

}  // namespace wf
#endif  // WF_QUANT_TL2_IMPL_H_
