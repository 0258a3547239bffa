// SPDX-License-Identifier: Apache-2.0
// Bodies of head_scan.h.
#ifndef WF_KERNELS_HEAD_SCAN_IMPL_H_
#define WF_KERNELS_HEAD_SCAN_IMPL_H_

#include <cmath>

#include "wf/kernels/head_scan.h"

namespace wf {

WF_LIB_INLINE bool PrepareHeadInput(const float* x, size_t k, int8_t* codes, HeadInput* in) noexcept {
  float top = 0, sane = 0;
  for (size_t i = 0; i < k; ++i) {
    const float m = std::fabs(x[i]);
    top = m > top ? m : top;
    sane += m * 0.0f;
  }
  if (!(sane == 0 && top >= 0x1p-90f && top <= 0x1p90f)) return false;
  const float step = top / (127.0f * 128.0f);
  const double a = static_cast<double>(step), inverse = 1 / a;
  const size_t padded = HeadPaddedK(k);
  int8_t* lo = codes + padded;
  double xx = 0, groups = 0, dd = 0;
  int64_t hi_sum = 0, lo_sum = 0, hi_squares = 0, lo_squares = 0;
  for (size_t first = 0; first < k; first += kHeadErrorGroup) {
    double g = 0;
    for (size_t i = first; i < k && i < first + kHeadErrorGroup; ++i) {
      const double v = static_cast<double>(x[i]), q = v * inverse;
      const int32_t n = static_cast<int32_t>(q + (q < 0 ? -0.5 : 0.5));  // |n| <= 16257
      const int32_t h = (n + 64) >> 7, l = n - 128 * h;
      const double d = v - a * n;
      codes[i] = static_cast<int8_t>(h);
      lo[i] = static_cast<int8_t>(l);
      hi_sum += h;
      lo_sum += l;
      hi_squares += h * h;
      lo_squares += l * l;
      g += v * v;
      dd += d * d;
    }
    xx += g;
    groups += std::sqrt(g);
  }
  for (size_t i = k; i < padded; ++i) codes[i] = lo[i] = 0;
  const double norm = std::sqrt(xx);
  const double rounding = 1.01 * (static_cast<double>((k + 15) / 16) + 5) * 0x1p-24;
  const double parts = 128 * std::sqrt(static_cast<double>(hi_squares)) + std::sqrt(static_cast<double>(lo_squares));
  in->codes = codes;
  in->hi63 = static_cast<int32_t>(63 * hi_sum);
  in->lo63 = static_cast<int32_t>(63 * lo_sum);
  in->half_step = step / 2;
  in->x_norm = detail::HeadRoundUp(norm);
  in->x_groups = detail::HeadRoundUp(groups);
  in->spread = detail::HeadRoundUp(std::sqrt(dd) + rounding * norm + 0x1p-21 * a * parts);
  return true;
}

}  // namespace wf
#endif  // WF_KERNELS_HEAD_SCAN_IMPL_H_
