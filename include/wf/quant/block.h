// SPDX-License-Identifier: Apache-2.0
// Block types: how ternary weights lie in a tensor, as template arguments of kernels. A block type names a
// tensor type, its block size (weights along K that one packed block holds) and the order in which the
// kernels of that type want the int8 activations. Pure layout arithmetic, no kernels.
#ifndef WF_QUANT_BLOCK_H_
#define WF_QUANT_BLOCK_H_

#include <cstddef>
#include <cstdint>

#include "wf/base/bytes.h"
#include "wf/base/half.h"
#include "wf/quant/types.h"

namespace wf::block {

// A packed block type defines its layout for one element at a time, plainly:
//   Code(w, k, row, col)   the weight's code, 0..3; its value is code - 1 (3 only where a file is odd: Q2_0's +2)
//   Scale(w, k, row, col)  the scale stored beside it: that of its block or row; 1 where the scale is the tensor's
// where w is the tensor's first byte and k the row length. kScaleSize: elements of a row that share one scale, 0: all.
// Kernels are fast forms of these; ref.h, packers and tests are held to them.
namespace detail {
inline constexpr uint32_t TwoBits(uint8_t b, size_t field) noexcept { return (uint32_t{b} >> (2 * field)) & 3u; }
// Digit n (0: the most significant of five) of a base-3 number stored as ceil(256 n / 243) (formats.md 2.7, 2.11).
inline constexpr uint32_t Trit(uint8_t b, size_t n) noexcept {
  constexpr uint8_t kPow3[] = {1, 3, 9, 27, 81};
  const uint8_t v = static_cast<uint8_t>(b * kPow3[n]);
  return (uint32_t{v} * 3) >> 8;
}
inline float LoadF16(const uint8_t* p) noexcept { return F32FromF16(LoadLe<uint16_t>(p)); }
}  // namespace detail

// Microsoft's I2_S, x86 layout (formats.md 2.8): 128 consecutive weights of the flattened tensor in 32 bytes,
// weight j of a group in byte j % 32 at shift 6 - 2 * (j / 32), code = weight + 1; one f32 scale a tensor.
struct I2S {
  static constexpr TensorType kType = TensorType::kI2_S;
  static constexpr size_t kSize = 128;
  static constexpr size_t kGroupBytes = 32;
  static constexpr size_t kScaleSize = 0;
  static uint32_t Code(const uint8_t* w, size_t k, size_t row, size_t col) noexcept {
    const size_t e = row * k + col;
    return detail::TwoBits(w[e / 128 * 32 + e % 32], 3 - e % 128 / 32);
  }
  static float Scale(const uint8_t*, size_t, size_t, size_t) noexcept { return 1; }
};
// The same in groups of 64 in 16 bytes, as ARM builds of Microsoft's quantiser wrote them.
struct I2S_ARM64 {
  static constexpr TensorType kType = TensorType::kI2_S_ARM64;
  static constexpr size_t kSize = 64;
  static constexpr size_t kScaleSize = 0;
  static uint32_t Code(const uint8_t* w, size_t k, size_t row, size_t col) noexcept {
    const size_t e = row * k + col;
    return detail::TwoBits(w[e / 64 * 16 + e % 16], 3 - e % 64 / 16);
  }
  static float Scale(const uint8_t*, size_t, size_t, size_t) noexcept { return 1; }
};
// Four rows in a byte, the first in the top bits; rows % 4 == 0.
struct I2S_X4 {
  static constexpr TensorType kType = TensorType::kI2_S_X4;
  static constexpr size_t kSize = 1;
  static constexpr size_t kScaleSize = 0;
  static uint32_t Code(const uint8_t* w, size_t k, size_t row, size_t col) noexcept {
    return detail::TwoBits(w[row / 4 * k + col], 3 - row % 4);
  }
  static float Scale(const uint8_t*, size_t, size_t, size_t) noexcept { return 1; }
};
// formats.md 2.7: 256 weights in 64 bytes of codes, then an f16 scale; first quarter of 128 in the low bits.
struct TQ2_0 {
  static constexpr TensorType kType = TensorType::kTQ2_0;
  static constexpr size_t kSize = 256, kBytes = 66;
  static constexpr size_t kScaleSize = 256;
  static const uint8_t* Block(const uint8_t* w, size_t k, size_t row, size_t col) noexcept {
    return w + (row * (k / kSize) + col / kSize) * kBytes;
  }
  static uint32_t Code(const uint8_t* w, size_t k, size_t row, size_t col) noexcept {
    const size_t i = col % kSize;
    return detail::TwoBits(Block(w, k, row, col)[32 * (i / 128) + i % 32], i % 128 / 32);
  }
  static float Scale(const uint8_t* w, size_t k, size_t row, size_t col) noexcept {
    return detail::LoadF16(Block(w, k, row, col) + 64);
  }
};
// formats.md 2.7: 256 weights in 48 bytes of five trits and 4 of four, then an f16 scale.
struct TQ1_0 {
  static constexpr TensorType kType = TensorType::kTQ1_0;
  static constexpr size_t kSize = 256, kBytes = 54;
  static constexpr size_t kScaleSize = 256;
  static const uint8_t* Block(const uint8_t* w, size_t k, size_t row, size_t col) noexcept {
    return w + (row * (k / kSize) + col / kSize) * kBytes;
  }
  static uint32_t Code(const uint8_t* w, size_t k, size_t row, size_t col) noexcept {
    const uint8_t* b = Block(w, k, row, col);
    const size_t i = col % kSize;
    if (i < 160) return detail::Trit(b[i % 32], i / 32);
    if (i < 240) return detail::Trit(b[32 + (i - 160) % 16], (i - 160) / 16);
    return detail::Trit(b[48 + (i - 240) % 4], (i - 240) / 4);
  }
  static float Scale(const uint8_t* w, size_t k, size_t row, size_t col) noexcept {
    return detail::LoadF16(Block(w, k, row, col) + 52);
  }
};
// formats.md 2.11: a row is an f16 scale and blocks of 64 weights in 13 bytes of five trits.
struct IQ1_BN {
  static constexpr TensorType kType = TensorType::kIQ1_BN;
  static constexpr size_t kSize = 64, kBytes = 13, kHeader = 2;
  static constexpr size_t kScaleSize = 0;
  static uint32_t Code(const uint8_t* w, size_t k, size_t row, size_t col) noexcept {
    const uint8_t* b = w + row * (kHeader + k / kSize * kBytes) + kHeader + col / kSize * kBytes;
    const size_t q = col % kSize / 16, r = col % 16;
    return r < 15 ? detail::Trit(b[3 * q + r / 5], 4 - r % 5) : detail::Trit(b[12], 4 - q);
  }
  static float Scale(const uint8_t* w, size_t k, size_t row, size_t) noexcept {
    return detail::LoadF16(w + row * (kHeader + k / kSize * kBytes));
  }
};
// formats.md 2.11: a row is an f32 scale and blocks of 64 weights in 16 bytes, first quarter in the low bits.
struct IQ2_BN {
  static constexpr TensorType kType = TensorType::kIQ2_BN;
  static constexpr size_t kSize = 64, kBytes = 16, kHeader = 4;
  static constexpr size_t kScaleSize = 0;
  static uint32_t Code(const uint8_t* w, size_t k, size_t row, size_t col) noexcept {
    const uint8_t* b = w + row * (kHeader + k / kSize * kBytes) + kHeader + col / kSize * kBytes;
    return detail::TwoBits(b[col % 16], col % kSize / 16);
  }
  static float Scale(const uint8_t* w, size_t k, size_t row, size_t) noexcept {
    return LoadLe<float>(w + row * (kHeader + k / kSize * kBytes));
  }
};
// formats.md 2.11: IQ2_BN with four rows interleaved: 4 f32 scales, then 64 bytes for 64 columns of the four; rows % 4
// == 0.
struct IQ2_BN_R4 {
  static constexpr TensorType kType = TensorType::kIQ2_BN_R4;
  static constexpr size_t kSize = 64, kBytes = 16, kHeader = 4;
  static constexpr size_t kScaleSize = 0;
  static const uint8_t* Group(const uint8_t* w, size_t k, size_t row) noexcept {
    return w + row / 4 * 4 * (kHeader + k / kSize * kBytes);
  }
  static uint32_t Code(const uint8_t* w, size_t k, size_t row, size_t col) noexcept {
    const size_t c = col % 64, l = c / 16, field = c % 16 / 4, i = c % 4;
    return detail::TwoBits(Group(w, k, row)[16 + col / 64 * 64 + 4 * (row % 4) + i + 16 * l], field);
  }
  static float Scale(const uint8_t* w, size_t k, size_t row, size_t) noexcept {
    return LoadLe<float>(Group(w, k, row) + 4 * (row % 4));
  }
};
// formats.md 2.12: an f16 scale, then N weights, four consecutive ones in a byte, first in the low bits.
template <TensorType T, size_t N>
struct Q2 {
  static constexpr TensorType kType = T;
  static constexpr size_t kSize = N, kBytes = 2 + N / 4;
  static constexpr size_t kScaleSize = N;
  static const uint8_t* Block(const uint8_t* w, size_t k, size_t row, size_t col) noexcept {
    return w + (row * (k / kSize) + col / kSize) * kBytes;
  }
  static uint32_t Code(const uint8_t* w, size_t k, size_t row, size_t col) noexcept {
    return detail::TwoBits(Block(w, k, row, col)[2 + col % kSize / 4], col % 4);
  }
  static float Scale(const uint8_t* w, size_t k, size_t row, size_t col) noexcept {
    return detail::LoadF16(Block(w, k, row, col));
  }
};
using Q2_0 = Q2<TensorType::kQ2_0, 64>;
using Q2_0_128 = Q2<TensorType::kQ2_0_128, 128>;  // a fork's variant

// Ternary values kept as floats {-s, 0, s}: the sum still runs over int8 activations and the signs.
struct F32 {
  static constexpr TensorType kType = TensorType::kF32;
  static constexpr size_t kSize = 1;
  using Word = uint32_t;
};
struct F16 {
  static constexpr TensorType kType = TensorType::kF16;
  static constexpr size_t kSize = 1;
  using Word = uint16_t;
};
struct BF16 {
  static constexpr TensorType kType = TensorType::kBF16;
  static constexpr size_t kSize = 1;
  using Word = uint16_t;
};

// --- activation order -------------------------------------------------------------------------------------
// Natural: x[k] at k. Used by all others.
// Paired (I2_S with K % 128 == 0, TQ2_0): groups of 128 go in pairs, so that one 64-byte load of packed weights (two
//   groups) meets one 64-byte load of activations. Segment s (0..3: the bit field at shift 6 - 2s, TQ2_0: 2s) of groups
//   2p and 2p+1 lie side by side at 256p + 64s; a last single group keeps its natural order.
// Flat (I2_S, other K): a row may begin inside a group, so activations stay in natural order with kSize zeros
//   before and after: a kernel walks whole groups and the zeros silence the neighbours' weights.
enum class ActOrder : uint8_t { kNatural, kPaired, kFlat };

inline constexpr ActOrder OrderFor(TensorType type, size_t k) noexcept {
  if (type == TensorType::kTQ2_0) return ActOrder::kPaired;
  if (type != TensorType::kI2_S) return ActOrder::kNatural;
  return k % I2S::kSize == 0 ? ActOrder::kPaired : ActOrder::kFlat;
}

// Bytes of one row of int8 activations, a multiple of 64 so that rows keep their alignment. Bytes that hold no
// activation must be zero: kernels read them.
inline constexpr size_t ActBytes(ActOrder order, size_t k) noexcept {
  const size_t n = order == ActOrder::kFlat ? k + 2 * I2S::kSize : k;
  return (n + 63) / 64 * 64;
}

// Where activation k lies in its row.
inline constexpr size_t ActIndex(ActOrder order, size_t k, size_t total) noexcept {
  if (order == ActOrder::kNatural) return k;
  if (order == ActOrder::kFlat) return k + I2S::kSize;
  const size_t group = k / 128, segment = k % 128 / 32, lane = k % 32;
  if (group % 2 == 0 && (group + 1) * 128 >= total) return k;  // the last single group
  return group / 2 * 256 + segment * 64 + group % 2 * 32 + lane;
}

}  // namespace wf::block
#endif  // WF_QUANT_BLOCK_H_
