// SPDX-License-Identifier: Apache-2.0
// Block types: how ternary weights lie in a tensor, as template arguments of kernels. A block type names a
// tensor type, its block size (weights along K that one packed block holds) and the order in which the
// kernels of that type want the int8 activations. Pure layout arithmetic, no kernels.
#ifndef WF_QUANT_BLOCK_H_
#define WF_QUANT_BLOCK_H_

#include <cstddef>
#include <cstdint>

#include "wf/quant/types.h"

namespace wf::block {

// Microsoft's I2_S, x86 layout (formats.md 2.8): 128 consecutive weights of the flattened tensor in 32 bytes,
// weight j of a group in byte j % 32 at shift 6 - 2 * (j / 32), code = weight + 1; one f32 scale a tensor.
struct I2S {
  static constexpr TensorType kType = TensorType::kI2_S;
  static constexpr size_t kSize = 128;
  static constexpr size_t kGroupBytes = 32;
};
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
// Natural: x[k] at k. Used by the float blocks.
// Paired (I2_S, K % 128 == 0): groups of 128 go in pairs, so that one 64-byte load of packed weights (two
//   groups) meets one 64-byte load of activations. Segment s (0..3: the bit field at shift 6 - 2s) of groups
//   2p and 2p+1 lie side by side at 256p + 64s; a last single group keeps its natural order.
// Flat (I2_S, other K): a row may begin inside a group, so activations stay in natural order with kSize zeros
//   before and after: a kernel walks whole groups and the zeros silence the neighbours' weights.
enum class ActOrder : uint8_t { kNatural, kPaired, kFlat };

inline constexpr ActOrder OrderFor(TensorType type, size_t k) noexcept {
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
