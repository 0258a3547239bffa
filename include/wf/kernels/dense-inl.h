// SPDX-License-Identifier: Apache-2.0
// Dense products, compiled once per ISA: head, V^T x, unquantised projections. Every output has 16 running sums
// (ref.h). One to four tokens are bound by memory: a few rows side by side, weights from memory to products in
// registers. More are bound by arithmetic: dense_batch-inl.h.
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

// R rows and T tokens. Rows side by side would make as many streams, at half the bandwidth, but for the prefetch: it
// walks through the rows one after the other.
template <DenseType D, int R, int T>
HWY_INLINE void DenseRows(const DenseArgs& a, size_t row) {
  constexpr size_t kBytes = kStepBytes<D>, kAll = kBytes * R;
  const size_t row_bytes = a.k / DenseBlock(D) * DenseBlockBytes(D);
  const uint8_t* w = static_cast<const uint8_t*>(a.w) + row * row_bytes;
  const uint8_t* ahead = w + DenseAhead<R>(row_bytes, a.row_end - row);
  V16 acc[R][T];
  WF_UNROLL for (int r = 0; r < R; ++r) { WF_UNROLL for (int t = 0; t < T; ++t) acc[r][t] = Zero16(); }
  size_t i = 0;
  for (; i + kStep<D> <= a.k; i += kStep<D>, w += kBytes, ahead += kAll) {
    WF_UNROLL for (size_t p = 0; p < kAll; p += 64) Prefetch(ahead + p);
    DenseStep<D> step[R];
    WF_UNROLL for (int r = 0; r < R; ++r) step[r].Load(w + static_cast<size_t>(r) * row_bytes);
    WF_NO_UNROLL for (size_t g = 0; g < DenseStep<D>::kGroups; ++g) {
      WF_UNROLL for (int r = 0; r < R; ++r) step[r].Group(g, AddProducts<T>{a.x + i, a.x_stride, acc[r]});
    }
  }
  if constexpr (!kQuantised<D>) {
    if (i < a.k) {
      for (int t = 0; t < T; ++t) {
        const V16 x = LoadN16(a.x + static_cast<size_t>(t) * a.x_stride + i, a.k - i);
        for (int r = 0; r < R; ++r) {
          const uint8_t* p = w + static_cast<size_t>(r) * row_bytes;
          acc[r][t] = Fma16(LoadNAs16<static_cast<FloatType>(D)>(p, 0, a.k - i), x, acc[r][t]);
        }
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    const size_t out = row + static_cast<size_t>(r);
    for (int t = 0; t < T; ++t) {
      const float y = Fold16(acc[r][t]);
      a.y[static_cast<size_t>(t) * a.y_stride + out] = a.bias != nullptr ? y + a.bias[out] : y;
    }
  }
}

template <DenseType D, int T>
HWY_NOINLINE void DenseGemv(const DenseArgs& a) noexcept {
  // A row's chain of additions allows 17 G/s; floats come from memory at 9 to 18 G/s, blocks at up to 66 G/s. Sums of
  // more than one token and four rows need more than 16 registers.
  constexpr int R = kQuantised<D> && (T == 1 || kManyRegisters) ? 4 : 2;
  size_t r = a.row_begin;
  for (; r + R <= a.row_end; r += R) DenseRows<D, R, T>(a, r);
  for (; r < a.row_end; ++r) DenseRows<D, 1, T>(a, r);
}

// Few tokens are still bound by memory, and their rows of x stay in L1.
template <DenseType D>
HWY_NOINLINE void Dense(const DenseArgs& a) noexcept {
  if (a.tokens == 1) return DenseGemv<D, 1>(a);
  if (a.tokens == 2) return DenseGemv<D, 2>(a);
  if (a.tokens == 3) return DenseGemv<D, 3>(a);
  if constexpr (kQuantised<D> && kManyRegisters) {
    if (a.tokens == 4) return DenseGemv<D, 4>(a);
  }
  DenseBatch<D>(a);
}

}  // namespace WF_NAMESPACE
}  // namespace WF_MODE_NS
}  // namespace wf::detail
WF_AFTER_NAMESPACE();
namespace wf::detail {
inline namespace WF_MODE_NS {
template <DenseType D>
void DenseKernel(isa::WF_ISA_TAG, const DenseArgs& a) noexcept {
  WF_NAMESPACE::Dense<D>(a);
}
}  // namespace WF_MODE_NS
}  // namespace wf::detail
#endif  // per-ISA guard
