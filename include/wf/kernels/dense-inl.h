// SPDX-License-Identifier: Apache-2.0
// Dense products, compiled once per ISA: head, V^T x, unquantised projections. Every output has 16 running sums
// (ref.h). One token is bound by memory: a few rows side by side, weights from memory to products in registers. Several
// tokens are bound by arithmetic: dense_batch-inl.h.
#if defined(WF_KERNELS_DENSE_INL_H_) == defined(WF_TARGET_TOGGLE)
#ifdef WF_KERNELS_DENSE_INL_H_
#undef WF_KERNELS_DENSE_INL_H_
#else
#define WF_KERNELS_DENSE_INL_H_
#endif
#include "wf/kernels/dense_batch-inl.h"
#include "wf/kernels/dequant-inl.h"
#include "wf/kernels/kernels.h"
#include "wf/simd/ops-inl.h"

WF_BEFORE_NAMESPACE();
namespace wf::detail {
inline namespace WF_MODE_NS {
namespace WF_NAMESPACE {

// R rows and one token. Rows side by side would make as many streams, at half the bandwidth, but for the prefetch: it
// walks through the rows one after the other.
template <DenseType D, int R>
HWY_INLINE void DenseRows(const DenseArgs& a, size_t row) {
  constexpr size_t kBytes = kStepBytes<D>, kAll = kBytes * R;
  const size_t row_bytes = a.k / DenseBlock(D) * DenseBlockBytes(D);
  const uint8_t* w = static_cast<const uint8_t*>(a.w) + row * row_bytes;
  const uint8_t* ahead = w + DenseAhead<R>(row_bytes, a.row_end - row);
  V16 acc[R];
  WF_UNROLL for (int r = 0; r < R; ++r) acc[r] = Zero16();
  size_t i = 0;
  for (; i + kStep<D> <= a.k; i += kStep<D>, w += kBytes, ahead += kAll) {
    WF_UNROLL for (size_t p = 0; p < kAll; p += 64) __builtin_prefetch(ahead + p);
    DenseStep<D> step[R];
    WF_UNROLL for (int r = 0; r < R; ++r) step[r].Load(w + static_cast<size_t>(r) * row_bytes);
    WF_ROLLED for (size_t g = 0; g < DenseStep<D>::kGroups; ++g) {
      WF_UNROLL for (int r = 0; r < R; ++r) step[r].Group(g, AddProducts<1>{a.x + i, 0, &acc[r]});
    }
  }
  if constexpr (!kQuantised<D>) {
    if (i < a.k) {
      const V16 x = LoadN16(a.x + i, a.k - i);
      for (int r = 0; r < R; ++r) {
        const uint8_t* p = w + static_cast<size_t>(r) * row_bytes;
        acc[r] = Fma16(LoadNAs16<static_cast<FloatType>(D)>(p, 0, a.k - i), x, acc[r]);
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    const size_t out = row + static_cast<size_t>(r);
    const float y = Fold16(acc[r]);
    a.y[out] = a.bias != nullptr ? y + a.bias[out] : y;
  }
}

template <DenseType D>
HWY_NOINLINE void DenseGemv(const DenseArgs& a) noexcept {
  // A row's chain of additions allows 17 G/s; floats come from memory at 9 to 18 G/s, blocks at up to 66 G/s.
  constexpr int R = kQuantised<D> ? 4 : 2;
  size_t r = a.row_begin;
  for (; r + R <= a.row_end; r += R) DenseRows<D, R>(a, r);
  for (; r < a.row_end; ++r) DenseRows<D, 1>(a, r);
}

}  // namespace WF_NAMESPACE
}  // namespace WF_MODE_NS
}  // namespace wf::detail
WF_AFTER_NAMESPACE();
namespace wf::detail {
inline namespace WF_MODE_NS {
template <DenseType D>
void DenseKernel(isa::WF_ISA_TAG, const DenseArgs& a) noexcept {
  if (a.tokens == 1) {
    WF_NAMESPACE::DenseGemv<D>(a);
  } else {
    WF_NAMESPACE::DenseBatch<D>(a);
  }
}
}  // namespace WF_MODE_NS
}  // namespace wf::detail
#endif  // per-ISA guard
