// SPDX-License-Identifier: Apache-2.0
// Rows of floats to blocks of a dense type. Q8_0 and Q4_0 are the field's formulas to the bit; Q6_K and Q4_K fix only
// what a block means (dense.h), so their scales are searched here for the least squared error. Every sum has a fixed
// order: the same bytes from every build without contraction. Part of pack.h.
#ifndef WF_QUANT_QUANTISE_IMPL_H_
#define WF_QUANT_QUANTISE_IMPL_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "wf/base/bytes.h"
#include "wf/base/half.h"
#include "wf/quant/dense.h"
#include "wf/quant/pack.h"

namespace wf {

namespace detail {

// lo for a NaN, so that conversions to integers stay defined whatever comes in.
template <class F>
inline F Clamp(F v, F lo, F hi) noexcept {
  const F up = v > lo ? v : lo;
  return up < hi ? up : hi;
}
// A divisor that is 0 or too small for a finite reciprocal stands for a block of zeros.
inline float Reciprocal(float d) noexcept { return std::fabs(d) < 0x1p-126f ? 0.0f : 1.0f / d; }
// Integer scales tried around the rounded one, which wins ties.
inline constexpr float kNear[] = {0, -1, 1};
inline uint16_t FiniteF16(float v) noexcept {
  const uint16_t h = F16FromF32(v);
  return (h & 0x7fffu) == 0x7c00u ? static_cast<uint16_t>(h - 1) : h;
}

// Four floats at a time: compilers leave loops with comparisons of floats scalar, as these could trap.
using F4 = float __attribute__((vector_size(16)));
inline F4 Load4(const float* p) noexcept {
  F4 v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
inline F4 All4(float v) noexcept { return F4{v, v, v, v}; }
inline float Sum4(F4 v) noexcept { return (v[0] + v[1]) + (v[2] + v[3]); }
// The whole number nearest to (x + low) * inverse (half to even) that is in [lo, hi], where those are small.
inline F4 Levels4(F4 x, F4 low, F4 inverse, F4 lo, F4 hi) noexcept {
  const F4 v = (x + low) * inverse, up = v > lo ? v : lo, in = up < hi ? up : hi, magic = All4(12582912.0f);
  return (in + magic) - magic;
}
inline float RoundSmall(float v) noexcept { return (v + 12582912.0f) - 12582912.0f; }

// Levels q of n values for y = step * q - low; their squared error.
inline float Fit(const float* x, size_t n, float step, float low, float lo, float hi, float* q) noexcept {
  const F4 inverse = All4(Reciprocal(step)), low4 = All4(low), lo4 = All4(lo), hi4 = All4(hi), step4 = All4(step);
  F4 error = All4(0);
  for (size_t i = 0; i < n; i += 4) {
    const F4 v = Load4(x + i), l = Levels4(v, low4, inverse, lo4, hi4), e = v - (step4 * l - low4);
    std::memcpy(q + i, &l, sizeof(l));
    error += e * e;
  }
  return Sum4(error);
}

// Sums over the levels q that the inverse step gives: what least squares need.
struct LevelSums {
  float q, qq, qx;
};
inline LevelSums SumLevels(const float* x, size_t n, float inverse, float low, float lo, float hi) noexcept {
  const F4 inverse4 = All4(inverse), low4 = All4(low), lo4 = All4(lo), hi4 = All4(hi);
  F4 q = All4(0), qq = All4(0), qx = All4(0);
  for (size_t i = 0; i < n; i += 4) {
    const F4 v = Load4(x + i), l = Levels4(v, low4, inverse4, lo4, hi4);
    q += l;
    qq += l * l;
    qx += l * v;
  }
  return {Sum4(q), Sum4(qq), Sum4(qx)};
}

// The element of the largest magnitude, the first of equals, with its sign.
inline float Extreme(const float* x, size_t n) noexcept {
  float m = 0;
  for (size_t i = 0; i < n; ++i) {
    if (std::fabs(x[i]) > std::fabs(m)) m = x[i];
  }
  return m;
}

inline void QuantiseQ8_0(const float* x, uint8_t* out) noexcept {
  const float d = std::fabs(Extreme(x, 32)) / 127.0f, id = Reciprocal(d);
  StoreLe(out, F16FromF32(d));
  for (size_t i = 0; i < 32; ++i) {  // half away from zero: exact in double, and faster than a call of round()
    const double v = static_cast<double>(Clamp(x[i] * id, -127.0f, 127.0f));
    out[2 + i] = static_cast<uint8_t>(static_cast<int8_t>(static_cast<int>(v + std::copysign(0.5, v))));
  }
}

inline void QuantiseQ4_0(const float* x, uint8_t* out) noexcept {
  const float d = Extreme(x, 32) / -8.0f;
  const double id = static_cast<double>(Reciprocal(d));
  StoreLe(out, F16FromF32(d));
  // The product is rounded to f32 before the sum: written so, no compiler may fuse the two.
  const auto nibble = [&](float v) {
    const float q = static_cast<float>(static_cast<double>(v) * id);
    return static_cast<uint32_t>(Clamp(q + 8.5f, 0.0f, 15.0f));
  };
  for (size_t i = 0; i < 16; ++i) out[2 + i] = static_cast<uint8_t>(nibble(x[i]) | nibble(x[16 + i]) << 4);
}

// --- Q6_K: 16 groups of 16, y = d * sc * q with q in -32..31 ---------------------------------------------

// The step of a group: the extreme element is put between -31 and -33 (the range has one level more below zero), and
// the best least-squares step for the levels so chosen wins.
inline float Step6(const float* x) noexcept {
  const float extreme = Extreme(x, 16);
  if (std::fabs(extreme) < 0x1p-100f) return 0;
  float best = 0, step = 0;
  for (int i = -4; i <= 4; ++i) {
    const float is = -(32.0f + 0.25f * static_cast<float>(i)) / extreme;
    const LevelSums sum = SumLevels(x, 16, is, 0, -32, 31);  // the error is sum x^2 - qx^2 / qq
    if (sum.qq > 0 && sum.qx * (sum.qx / sum.qq) > best) {
      best = sum.qx * (sum.qx / sum.qq);
      step = sum.qx / sum.qq;
    }
  }
  return step;
}

// A block with this d; its squared error.
inline float EncodeQ6_K(const float* x, const float* steps, uint16_t d16, uint8_t* out) noexcept {
  const float d = F32FromF16(d16), id = Reciprocal(d);
  float error = 0;
  std::memset(out, 0, 192);
  StoreLe(out + 208, d16);
  for (size_t s = 0; s < 16; ++s) {
    const float middle = RoundSmall(Clamp(steps[s] * id, -128.0f, 127.0f));
    float best = 0, scale = 0, levels[16] = {};
    for (size_t c = 0; c < 3; ++c) {
      const float sc = Clamp(middle + kNear[c], -128.0f, 127.0f);
      float q[16];
      const float e = Fit(x + 16 * s, 16, d * sc, 0, -32, 31, q);
      if (c > 0 && e >= best) continue;
      best = e;
      scale = sc;
      std::copy_n(q, 16, levels);
    }
    error += best;
    out[192 + s] = static_cast<uint8_t>(static_cast<int8_t>(scale));
    const size_t h = s / 8, k = s % 8 / 2, half = s % 2 * 16;
    uint8_t* ql = out + 64 * h + 32 * (k & 1) + half;
    uint8_t* qh = out + 128 + 32 * h + half;
    for (size_t i = 0; i < 16; ++i) {
      const uint32_t q = static_cast<uint32_t>(static_cast<int>(levels[i]) + 32);
      ql[i] = static_cast<uint8_t>(ql[i] | (q & 15u) << (k < 2 ? 0 : 4));
      qh[i] = static_cast<uint8_t>(qh[i] | (q >> 4) << (2 * k));
    }
  }
  return error;
}

// The largest step becomes -128 times d; or 127 times, where another of its size has the other sign.
inline void QuantiseQ6_K(const float* x, uint8_t* out) noexcept {
  float steps[16];
  for (size_t s = 0; s < 16; ++s) steps[s] = Step6(x + 16 * s);
  const float largest = Extreme(steps, 16);
  uint8_t other[210];
  const float error = EncodeQ6_K(x, steps, FiniteF16(largest / -128.0f), out);
  if (EncodeQ6_K(x, steps, FiniteF16(largest / 127.0f), other) < error) std::memcpy(out, other, sizeof(other));
}

// --- Q4_K: 8 groups of 32, y = d * sc * q - dmin * m with q in 0..15, sc and m in 0..63 ---------------------------

struct Step4 {
  float step = 0;
  float low = 0;  // subtracted; never negative, because all groups share the sign of dmin
};

// Levels from steps around range / 15, then the line through (level, x) of least squares; the best of these wins.
inline Step4 Steps4(const float* x) noexcept {
  float lo = 0, hi = x[0];
  for (size_t i = 0; i < 32; ++i) {
    lo = std::min(lo, x[i]);
    hi = std::max(hi, x[i]);
  }
  Step4 best;
  best.low = -lo;
  float q[32];
  if (!(hi - lo >= 0x1p-100f)) return best;
  best.step = (hi - lo) / 15.0f;
  float error = Fit(x, 32, best.step, best.low, 0, 15, q);
  F4 sum_x = All4(0);
  for (size_t i = 0; i < 32; i += 4) sum_x += Load4(x + i);
  const double sx = static_cast<double>(Sum4(sum_x));
  for (int c = 0; c < 9; ++c) {
    const float is = (14.0f + 0.25f * static_cast<float>(c)) / (hi - lo);
    const LevelSums sum = SumLevels(x, 32, is, -lo, 0, 15);
    const double s1 = static_cast<double>(sum.q), s2 = static_cast<double>(sum.qq), sqx = static_cast<double>(sum.qx);
    const double det = 32 * s2 - s1 * s1;
    if (det <= 0) continue;
    Step4 now{static_cast<float>((32 * sqx - s1 * sx) / det), static_cast<float>((s1 * sqx - s2 * sx) / det)};
    if (now.low < 0) now = {static_cast<float>(sqx / s2), 0.0f};
    if (!(now.step > 0)) continue;
    const float e = Fit(x, 32, now.step, now.low, 0, 15, q);
    if (e < error) {
      error = e;
      best = now;
    }
  }
  return best;
}

inline void QuantiseQ4_K(const float* x, uint8_t* out) noexcept {
  Step4 steps[8];
  float step = 0, low = 0;
  for (size_t j = 0; j < 8; ++j) {
    steps[j] = Steps4(x + 32 * j);
    step = std::max(step, steps[j].step);
    low = std::max(low, steps[j].low);
  }
  const uint16_t d16 = FiniteF16(step / 63.0f), m16 = FiniteF16(low / 63.0f);
  const float d = F32FromF16(d16), dmin = F32FromF16(m16), id = Reciprocal(d), im = Reciprocal(dmin);
  std::memset(out, 0, 144);
  StoreLe(out, d16);
  StoreLe(out + 2, m16);
  uint8_t* s = out + 4;
  for (size_t j = 0; j < 8; ++j) {
    const float sc0 = RoundSmall(Clamp(steps[j].step * id, 0.0f, 63.0f));
    const float m0 = RoundSmall(Clamp(steps[j].low * im, 0.0f, 63.0f));
    float best = 0, levels[32] = {};
    uint32_t sc = 0, m = 0;
    for (size_t c = 0; c < 9; ++c) {
      const float sc_now = Clamp(sc0 + kNear[c / 3], 0.0f, 63.0f);
      const float m_now = Clamp(m0 + kNear[c % 3], 0.0f, 63.0f);
      float q[32];
      const float e = Fit(x + 32 * j, 32, d * sc_now, dmin * m_now, 0, 15, q);
      if (c > 0 && e >= best) continue;
      best = e;
      sc = static_cast<uint32_t>(sc_now);
      m = static_cast<uint32_t>(m_now);
      std::copy_n(q, 32, levels);
    }
    if (j < 4) {
      s[j] = static_cast<uint8_t>(sc);
      s[j + 4] = static_cast<uint8_t>(m);
    } else {
      s[j + 4] = static_cast<uint8_t>((sc & 15u) | (m & 15u) << 4);
      s[j - 4] = static_cast<uint8_t>(s[j - 4] | (sc >> 4) << 6);
      s[j] = static_cast<uint8_t>(s[j] | (m >> 4) << 6);
    }
    uint8_t* qs = out + 16 + 32 * (j / 2);
    for (size_t i = 0; i < 32; ++i) {
      qs[i] = static_cast<uint8_t>(qs[i] | static_cast<uint32_t>(levels[i]) << (j % 2 == 0 ? 0 : 4));
    }
  }
}

template <DenseType T>
inline void QuantiseBlock(const float* x, uint8_t* out) noexcept {
  if constexpr (T == DenseType::kF32) {
    StoreLe(out, *x);
  } else if constexpr (T == DenseType::kF16) {
    StoreLe(out, F16FromF32(*x));
  } else if constexpr (T == DenseType::kBF16) {
    StoreLe(out, Bf16FromF32(*x));
  } else if constexpr (T == DenseType::kQ8_0) {
    QuantiseQ8_0(x, out);
  } else if constexpr (T == DenseType::kQ4_0) {
    QuantiseQ4_0(x, out);
  } else if constexpr (T == DenseType::kQ6_K) {
    QuantiseQ6_K(x, out);
  } else {
    QuantiseQ4_K(x, out);
  }
}

}  // namespace detail

WF_LIB_INLINE void QuantiseDenseRow(TensorType t, const float* x, size_t k, uint8_t* out) noexcept {
  DenseType dense = DenseType::kF32;
  if (!ToDenseType(t, &dense)) return;
  VisitDense(dense, [&]<DenseType T>() {
    constexpr size_t kN = DenseBlock(T), kBytes = DenseBlockBytes(T);
    uint8_t* b = out;
    for (size_t i = 0; i < k; i += kN, b += kBytes) detail::QuantiseBlock<T>(x + i, b);
  });
}

}  // namespace wf
#endif  // WF_QUANT_QUANTISE_IMPL_H_
