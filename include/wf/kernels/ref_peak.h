// SPDX-License-Identifier: Apache-2.0
// The measuring kernels in plain C++: what the machine does without vector code of ours. Part of ref.h.
#ifndef WF_KERNELS_REF_PEAK_H_
#define WF_KERNELS_REF_PEAK_H_

#include "wf/base/bytes.h"
#include "wf/kernels/kernels.h"

namespace wf::detail {
inline namespace WF_MODE_NS {

template <int>
void PeakKernel(isa::Scalar, const PeakArgs& a) noexcept {
  constexpr size_t kLanes = 64;
  uint8_t u[kLanes];
  int8_t s[kLanes];
  for (size_t i = 0; i < kLanes; ++i) u[i] = 1, s[i] = 2;
  uint32_t sum = 0;
  for (size_t r = 0; r < a.rounds; ++r) {
    asm volatile("" : : "r"(u), "r"(s) : "memory");  // else the loop is one multiplication
    int32_t dot = 0;
    for (size_t i = 0; i < kLanes; ++i) dot += int32_t{u[i]} * int32_t{s[i]};
    sum += static_cast<uint32_t>(dot);
  }
  *a.sum = sum;
  *a.products = uint64_t{a.rounds} * kLanes;
}

template <int>
void ReadKernel(isa::Scalar, const ReadArgs& a) noexcept {
  uint32_t sum = 0;
  for (const uint8_t *p = a.data, *end = a.data + a.bytes; p < end; p += kReadStep) {
    for (size_t i = 0; i < kReadStep; i += 64) __builtin_prefetch(p + kReadAhead + i);
    for (size_t i = 0; i < kReadStep; i += 4) sum += LoadLe<uint32_t>(p + i);
  }
  *a.sum = sum;
}

}  // namespace WF_MODE_NS
}  // namespace wf::detail
#endif  // WF_KERNELS_REF_PEAK_H_
