// SPDX-License-Identifier: Apache-2.0
// Rows of ternary weights that are stored as floats {-s, 0, s}, compiled once per ISA: only signs and zeros
// of the stored words are looked at, so the sum is the exact integer of the packed types. Not a speed path.
#if defined(WF_KERNELS_TERNARY_FLOAT_INL_H_) == defined(WF_TARGET_TOGGLE)
#ifdef WF_KERNELS_TERNARY_FLOAT_INL_H_
#undef WF_KERNELS_TERNARY_FLOAT_INL_H_
#else
#define WF_KERNELS_TERNARY_FLOAT_INL_H_
#endif
#include <cstring>

#include "wf/kernels/kernels.h"
#include "wf/simd/ops-inl.h"

WF_BEFORE_NAMESPACE();
namespace wf::detail {
inline namespace WF_MODE_NS {
namespace WF_NAMESPACE {

// {-1, 0, 1} of 16 stored words, as i32.
using D32x = hn::FixedTag<int32_t, kLanes>;  // 16 or 8 lanes
template <class Word>
HWY_INLINE hn::Vec<D32x> Signs(const Word* w) {
  const D32x d;
  hn::Vec<D32x> v;
  if constexpr (sizeof(Word) == 4) {
    v = hn::LoadU(d, reinterpret_cast<const int32_t*>(w));
  } else {
    // The word's bits at the top of a lane: sign and "not zero" are where an f32 has them.
    v = hn::ShiftLeft<16>(
        hn::PromoteTo(d, hn::LoadU(hn::Rebind<int16_t, D32x>(), reinterpret_cast<const int16_t*>(w))));
  }
  const auto zero = hn::Eq(hn::ShiftLeft<1>(v), hn::Zero(d));
  return hn::IfThenZeroElse(zero, hn::Or(hn::ShiftRight<31>(v), hn::Set(d, 1)));
}

template <class Word>
HWY_INLINE int32_t SignDot(const Word* w, const int8_t* x, size_t k) {
  const D32x d;
  const hn::Rebind<int8_t, D32x> d8;
  auto acc = hn::Zero(d);
  size_t i = 0;
  for (; i + kLanes <= k; i += kLanes) {
    acc = hn::Add(acc, hn::Mul(Signs(w + i), hn::PromoteTo(d, hn::LoadU(d8, x + i))));
  }
  if (i < k) {  // x is padded with zeros, the weights are not
    Word tail[kLanes] = {};
    std::memcpy(tail, w + i, (k - i) * sizeof(Word));
    acc = hn::Add(acc, hn::Mul(Signs(tail), hn::PromoteTo(d, hn::LoadU(d8, x + i))));
  }
  return hn::GetLane(hn::SumOfLanes(d, acc));
}

template <class Block>
HWY_INLINE int32_t FloatDot(const TernaryArgs& a, size_t row, size_t t) {
  return SignDot(static_cast<const typename Block::Word*>(a.w) + row * a.k, a.x + t * a.x_stride, a.k);
}

}  // namespace WF_NAMESPACE
}  // namespace WF_MODE_NS
}  // namespace wf::detail
WF_AFTER_NAMESPACE();
#endif  // per-ISA guard
