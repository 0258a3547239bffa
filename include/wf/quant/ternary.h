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

// What the scale of a tensor is found from, its values taken in pieces, in order. The values must be finite.
class TernaryStats {
 public:
  void Add(std::span<const float> w) noexcept {
    for (const float v : w) sum_ += std::fabs(static_cast<double>(v));
    count_ += w.size();
    for (size_t i = 0; one_ && i < w.size(); ++i) {
      if (w[i] == 0) continue;
      if (magnitude_ == 0) magnitude_ = std::fabs(w[i]);
      one_ = std::fabs(w[i]) == magnitude_;
    }
  }

  // The values so far are {-a, 0, a}, perhaps nothing but zeros.
  bool AtMostOneMagnitude() const noexcept { return one_; }
  // A tensor is already ternary if its values are {-a, 0, a} for one a > 0; then its scale is a and absmean must not be
  // run again (it would shrink by the share of the non-zeros). Returns a, or 0 if it is not.
  float Magnitude() const noexcept { return one_ ? magnitude_ : 0.0f; }
  // s = max(mean |W|, 1e-5). The mean is taken in double, so that it hardly depends on the order of summation.
  float Absmean() const noexcept {
    const double mean = count_ == 0 ? 0.0 : sum_ / static_cast<double>(count_);
    return mean < 1e-5 ? 1e-5f : static_cast<float>(mean);
  }

 private:
  double sum_ = 0;
  uint64_t count_ = 0;
  float magnitude_ = 0;  // of the values so far that are not zero
  bool one_ = true;      // is there only one?
};

// clamp(round_half_even(w / s), -1, 1): beyond half the scale, and not at it, a weight is not zero.
inline int8_t Ternarise(float w, float scale) noexcept {
  const float q = w / scale;
  return static_cast<int8_t>(q > 0.5f ? 1 : (q < -0.5f ? -1 : 0));
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
