// SPDX-License-Identifier: Apache-2.0
// What the definition of the head's copy and its fast forms share (head_scan.h): from sums over a row to the bounds
// that are stored with it, always rounded up.
#ifndef WF_KERNELS_HEAD_PARTS_H_
#define WF_KERNELS_HEAD_PARTS_H_

#include <cmath>

#include "wf/kernels/head_scan.h"

namespace wf {
namespace detail {

// The parts of a row with max|w| = top from r = u - (code - 31.5): sums of r^2, u^2 over the row and the largest sum of
// r^2 of a group, in float (at most 8 + 4 + 512 roundings of positive terms: below 2^-14 of the root). Errors of s, u
// and r make w / s differ from u by less than 31.5 * 3.1 * 2^-24 < 2^-17 a column.
inline void SetHeadParts(float top, float sum_r, float most_r, float sum_u, size_t k, size_t row,
                         const HeadParts& p) noexcept {
  const double root_k = std::sqrt(static_cast<double>(k));
  const double root_g = std::sqrt(static_cast<double>(k < kHeadErrorGroup ? k : kHeadErrorGroup));
  if (top < kHeadTiny) {  // squares would underflow: w' = 0
    p.scale[row] = 0;
    p.error[row] = p.norm[row] = HeadRoundUp(std::fma(static_cast<double>(top), root_k, 0x1p-140));
    p.group_error[row] = HeadRoundUp(std::fma(static_cast<double>(top), root_g, 0x1p-140));
    return;
  }
  const float s = top / 31.5f;
  const auto bound = [](float sum, double root) {
    return std::fma(std::sqrt(static_cast<double>(sum)), 1 + 0x1p-14, root * 0x1p-17);
  };
  const double error = bound(sum_r, root_k);
  p.scale[row] = s;
  p.error[row] = HeadRoundUp(static_cast<double>(s) * error);
  p.group_error[row] = HeadRoundUp(static_cast<double>(s) * bound(most_r, root_g));
  p.norm[row] = HeadRoundUp(static_cast<double>(s) * (bound(sum_u, root_k) + error));
}

}  // namespace detail
}  // namespace wf
#endif  // WF_KERNELS_HEAD_PARTS_H_
