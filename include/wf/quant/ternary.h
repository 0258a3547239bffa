// SPDX-License-Identifier: Apache-2.0
// Ternary weights as data: absmean ternarisation, detection of weights that are ternary already, I2_S packing.
// Definitions of semantics.md 1 and formats.md 2.8, plain loops; used when converting, never when running.
#ifndef WF_QUANT_TERNARY_H_
#define WF_QUANT_TERNARY_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "wf/base/half.h"

namespace wf {

// s = max(mean |W|, 1e-5). The mean is taken in double, so that it does not depend on an order of summation.
// NaN or infinity in, NaN or infinity out: the caller refuses it.
inline float AbsmeanScale(std::span<const float> w) noexcept {
  double sum = 0;
  for (const float v : w) sum += std::fabs(static_cast<double>(v));
  const double mean = w.empty() ? 0.0 : sum / static_cast<double>(w.size());
  return mean < 1e-5 ? 1e-5f : static_cast<float>(mean);
}

// clamp(round_half_even(w / s), -1, 1): beyond half the scale, and not at it, a weight is not zero.
inline int8_t Ternarise(float w, float scale) noexcept {
  const float q = w / scale;
  return static_cast<int8_t>(q > 0.5f ? 1 : (q < -0.5f ? -1 : 0));
}

// A tensor is already ternary if its values are {-a, 0, a} for one a > 0; then its scale is a and absmean must
// not be run again (it would shrink by the share of the non-zeros). Returns a, or 0 if it is not: more than one
// magnitude, a NaN or infinity, or nothing but zeros.
inline float TernaryMagnitude(std::span<const float> w) noexcept {
  float a = 0;
  for (const float v : w) {
    if (v == 0) continue;
    const float m = std::fabs(v);
    if (!(m <= 3.402823466e38f) || (a != 0 && m != a)) return 0;
    a = m;
  }
  return a;
}

inline constexpr size_t kI2sGroup = 128;  // weights in 32 bytes
inline constexpr size_t kI2sTail = 32;    // bytes after the codes; the first four are the f32 scale

// Packs n (% 128 == 0) ternary values into n / 4 bytes.
inline void PackI2s(const int8_t* t, size_t n, uint8_t* out) noexcept {
  for (size_t g = 0; g < n / kI2sGroup; ++g, t += 128, out += 32) {
    for (size_t j = 0; j < 32; ++j) {
      uint32_t b = 0;
      for (size_t s = 0; s < 4; ++s) b |= static_cast<uint32_t>(t[32 * s + j] + 1) << (6 - 2 * s);
      out[j] = static_cast<uint8_t>(b);
    }
  }
}

// Code (0..2; 3 is invalid) of the weight with flat index e.
inline uint32_t I2sCode(const uint8_t* packed, size_t e) noexcept {
  return (packed[e / 128 * 32 + e % 32] >> (6 - 2 * (e % 128 / 32))) & 3u;
}

}  // namespace wf
#endif  // WF_QUANT_TERNARY_H_
