// SPDX-License-Identifier: Apache-2.0
// The definition of the kernels of head_scan.h in plain C++: isa::Scalar. As in ref.h, every operation on floats has
// one place in one order, so all ISAs agree bit for bit.
#ifndef WF_KERNELS_REF_HEAD_H_
#define WF_KERNELS_REF_HEAD_H_

#include <limits>

#include "wf/kernels/head_parts.h"
#include "wf/kernels/ref.h"

namespace wf::detail {
inline namespace WF_MODE_NS {

template <DenseType T>
void HeadPackKernel(isa::Scalar, const HeadPackArgs& a) noexcept {
  const size_t padded = HeadPaddedK(a.k);
  float* w = a.scratch;
  for (size_t row = a.row_begin; row < a.row_end; ++row) {
    constexpr size_t kN = DenseBlock(T), kBytes = DenseBlockBytes(T);
    const uint8_t* b = static_cast<const uint8_t*>(a.w) + row * (a.k / kN) * kBytes;
    for (size_t i = 0; i < a.k; i += kN, b += kBytes) DequantBlock<T>(b, w + i);
    for (size_t i = a.k; i < padded; ++i) w[i] = 0;
    float top = 0, sane = 0;
    for (size_t i = 0; i < a.k; ++i) {
      top = std::fabs(w[i]) > top ? std::fabs(w[i]) : top;
      sane = std::fma(w[i], 0.0f, sane);  // NaN once there was a NaN or an infinity
    }
    if (!(sane == 0.0f)) {
      a.parts.scale[row] = a.parts.error[row] = a.parts.group_error[row] = 0;
      a.parts.norm[row] = std::numeric_limits<float>::quiet_NaN();
      continue;
    }
    const float inverse = top < kHeadTiny ? 0.0f : 31.5f / top;
    float sum_r = 0, most_r = 0, sum_u = 0;
    for (size_t first = 0; first < padded; first += kHeadGroup) {
      uint8_t codes[kHeadGroup];
      for (size_t half = 0; half < kHeadGroup; half += kHeadErrorGroup) {
        SumOrder r, u;
        for (size_t i = half; i < half + kHeadErrorGroup; ++i) {
          const size_t c = first + i;
          const int32_t code = static_cast<int32_t>(std::fma(w[c], inverse, 32.0f));
          codes[i] = static_cast<uint8_t>(code);
          if (c >= a.k) continue;
          const float e = std::fma(w[c], inverse, 31.5f - static_cast<float>(code)), v = w[c] * inverse;
          r.lane[i % kSumLanes] = std::fma(e, e, r.lane[i % kSumLanes]);
          u.lane[i % kSumLanes] = std::fma(v, v, u.lane[i % kSumLanes]);
        }
        const float group = r.Fold();
        most_r = group > most_r ? group : most_r;
        sum_r = sum_r + group;
        sum_u = sum_u + u.Fold();
      }
      PackHeadGroup(codes, a.codes + row * HeadRowBytes(a.k) + first / kHeadGroup * kHeadGroupBytes);
    }
    SetHeadParts(top, sum_r, most_r, sum_u, a.k, row, a.parts);
  }
}

template <int>
void HeadScanKernel(isa::Scalar, const HeadScanArgs& a) noexcept {
  const size_t padded = HeadPaddedK(a.k);
  for (size_t t = 0; t < a.tokens; ++t) {
    const HeadInput& x = a.x[t];
    float best = 0;
    for (size_t row = a.row_begin; row < a.row_end; ++row) {
      const uint8_t* codes = a.codes + row * HeadRowBytes(a.k);
      int32_t hi = 0, lo = 0;
      for (size_t c = 0; c < padded; ++c) {
        const int32_t code = HeadCode(codes, c);
        hi += code * x.codes[c];
        lo += code * x.codes[padded + c];
      }
      const float sum = std::fma(128.0f, static_cast<float>(2 * hi - x.hi63), static_cast<float>(2 * lo - x.lo63));
      const float e = a.parts.error[row] * x.x_norm, g = a.parts.group_error[row] * x.x_groups;
      const float bound = std::fma(a.parts.norm[row], x.spread, kHeadTiny) + (e < g ? e : g);
      const float upper = std::fma(a.parts.scale[row] * x.half_step, sum, bound);
      a.upper[t * a.stride + row] = upper;
      best = row % kHeadBlock == 0 || upper > best ? upper : best;
      a.best[t * a.best_stride + row / kHeadBlock] = best;
    }
  }
}

}  // namespace WF_MODE_NS
}  // namespace wf::detail
#endif  // WF_KERNELS_REF_HEAD_H_
