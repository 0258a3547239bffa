// SPDX-License-Identifier: Apache-2.0
// Dense products with f32, f16 or bf16 rows, compiled once per ISA: head, V^T x, unquantised projections.
// Every output has 16 running sums (ref.h); speed comes from four rows, and several tokens, side by side.
#if defined(WF_KERNELS_DENSE_INL_H_) == defined(WF_TARGET_TOGGLE)
#ifdef WF_KERNELS_DENSE_INL_H_
#undef WF_KERNELS_DENSE_INL_H_
#else
#define WF_KERNELS_DENSE_INL_H_
#endif
#include "wf/kernels/kernels.h"
#include "wf/simd/ops-inl.h"

WF_BEFORE_NAMESPACE();
namespace wf::detail {
inline namespace WF_MODE_NS {
namespace WF_NAMESPACE {

template <FloatType F, int R, int T>
HWY_INLINE void DenseTile(const DenseArgs& a, size_t row, size_t token) {
  V16 acc[R][T];
  WF_UNROLL for (int r = 0; r < R; ++r) { WF_UNROLL for (int t = 0; t < T; ++t) acc[r][t] = Zero16(); }
  const float* x = a.x + token * a.x_stride;
  size_t i = 0;
  for (; i + 16 <= a.k; i += 16) {
    V16 v[T];
    WF_UNROLL for (int t = 0; t < T; ++t) v[t] = Load16(x + static_cast<size_t>(t) * a.x_stride + i);
    WF_UNROLL for (int r = 0; r < R; ++r) {
      const V16 w = LoadAs16<F>(a.w, (row + static_cast<size_t>(r)) * a.k + i);
      WF_UNROLL for (int t = 0; t < T; ++t) acc[r][t] = Fma16(w, v[t], acc[r][t]);
    }
  }
  if (i < a.k) {
    const size_t n = a.k - i;
    for (int r = 0; r < R; ++r) {
      const V16 w = LoadNAs16<F>(a.w, (row + static_cast<size_t>(r)) * a.k + i, n);
      for (int t = 0; t < T; ++t) {
        acc[r][t] = Fma16(w, LoadN16(x + static_cast<size_t>(t) * a.x_stride + i, n), acc[r][t]);
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    const size_t out = row + static_cast<size_t>(r);
    for (int t = 0; t < T; ++t) {
      const float y = Fold16(acc[r][t]);
      a.y[(token + static_cast<size_t>(t)) * a.y_stride + out] = a.bias != nullptr ? y + a.bias[out] : y;
    }
  }
}

template <FloatType F, int R>
HWY_INLINE void DenseTokens(const DenseArgs& a, size_t row) {
  constexpr int T = HWY_TARGET <= HWY_AVX3 ? 4 : 1;
  size_t t = 0;
  for (; t + T <= a.tokens; t += T) DenseTile<F, R, T>(a, row, t);
  for (; t < a.tokens; ++t) DenseTile<F, R, 1>(a, row, t);
}

template <FloatType F>
HWY_NOINLINE void Dense(const DenseArgs& a) noexcept {
  size_t r = a.row_begin;
  for (; r + 4 <= a.row_end; r += 4) DenseTokens<F, 4>(a, r);
  for (; r < a.row_end; ++r) DenseTokens<F, 1>(a, r);
}

}  // namespace WF_NAMESPACE
}  // namespace WF_MODE_NS
}  // namespace wf::detail
WF_AFTER_NAMESPACE();
namespace wf::detail {
inline namespace WF_MODE_NS {
template <FloatType F>
void DenseKernel(isa::WF_ISA_TAG, const DenseArgs& a) noexcept {
  WF_NAMESPACE::Dense<F>(a);
}
}  // namespace WF_MODE_NS
}  // namespace wf::detail
#endif  // per-ISA guard
