// SPDX-License-Identifier: Apache-2.0
// Ternary weights as data: the definition of ternarisation (semantics.md 1) and the sizes of I2_S (formats.md 2.8).
// Packed types are in block.h and pack.h.
#ifndef WF_QUANT_TERNARY_H_
#define WF_QUANT_TERNARY_H_

#include <cstddef>
#include <cstdint>

namespace wf {

// clamp(round_half_even(w / s), -1, 1): beyond half the scale, and not at it, a weight is not zero.
inline int8_t Ternarise(float w, float scale) noexcept {
  const float q = w / scale;
  return static_cast<int8_t>(q > 0.5f ? 1 : (q < -0.5f ? -1 : 0));
}

inline constexpr size_t kI2sGroup = 128;  // weights in 32 bytes
inline constexpr size_t kI2sTail = 32;    // bytes after the codes; the first four are the f32 scale

}  // namespace wf
#endif  // WF_QUANT_TERNARY_H_
