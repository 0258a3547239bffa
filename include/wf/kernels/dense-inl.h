// SPDX-License-Identifier: Apache-2.0
// Dense products, compiled once per ISA: head, V^T x, unquantised projections. Every output has 16 running sums
// (ref.h); speed comes from four rows, and several tokens, side by side. Quantised rows become floats in a buffer, once
// for up to 16 tokens.
#if defined(WF_KERNELS_DENSE_INL_H_) == defined(WF_TARGET_TOGGLE)
#ifdef WF_KERNELS_DENSE_INL_H_
#undef WF_KERNELS_DENSE_INL_H_
#else
#define WF_KERNELS_DENSE_INL_H_
#endif
#include "wf/kernels/dequant-inl.h"
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

inline constexpr size_t kDenseChunk = 256;  // the longest block; four rows of it are 4 KiB
inline constexpr size_t kDenseTokens = 16;  // their sums are as large
struct DenseBuffer {
  alignas(64) float w[4][kDenseChunk];
  alignas(64) float sum[kDenseTokens][4][16];
};

// Adds n (a multiple of 16) columns to the sums of T tokens.
template <int T>
HWY_INLINE void AddDense(DenseBuffer* b, size_t n, const float* x, size_t x_stride, size_t token) {
  V16 acc[4][T];
  WF_UNROLL for (int r = 0; r < 4; ++r) {
    WF_UNROLL for (int t = 0; t < T; ++t) acc[r][t] = Load16(b->sum[token + static_cast<size_t>(t)][r]);
  }
  for (size_t i = 0; i < n; i += 16) {
    V16 v[T];
    WF_UNROLL for (int t = 0; t < T; ++t) v[t] = Load16(x + static_cast<size_t>(t) * x_stride + i);
    WF_UNROLL for (int r = 0; r < 4; ++r) {
      const V16 w = Load16(b->w[r] + i);
      WF_UNROLL for (int t = 0; t < T; ++t) acc[r][t] = Fma16(w, v[t], acc[r][t]);
    }
  }
  WF_UNROLL for (int r = 0; r < 4; ++r) {
    WF_UNROLL for (int t = 0; t < T; ++t) Store16(acc[r][t], b->sum[token + static_cast<size_t>(t)][r]);
  }
}
// A template only because of the header it lives in: see TernaryGemv.
template <int = 0>
HWY_NOINLINE void AddDenseTokens(DenseBuffer* b, size_t n, const float* x, size_t x_stride, size_t tokens) {
  constexpr size_t T = HWY_TARGET <= HWY_AVX3 ? 4 : 1;
  size_t t = 0;
  for (; t + T <= tokens; t += T) AddDense<T>(b, n, x + t * x_stride, x_stride, t);
  for (; t < tokens; ++t) AddDense<1>(b, n, x + t * x_stride, x_stride, t);
}

template <DenseType D>
HWY_NOINLINE void DenseBlocks(const DenseArgs& a) noexcept {
  constexpr size_t kN = DenseBlock(D), kBytes = DenseBlockBytes(D);
  const size_t row_bytes = a.k / kN * kBytes;
  DenseBuffer b;
  std::memset(b.w, 0, sizeof(b.w));  // rows that are not there
  for (size_t t0 = 0; t0 < a.tokens; t0 += kDenseTokens) {
    const size_t tokens = a.tokens - t0 < kDenseTokens ? a.tokens - t0 : kDenseTokens;
    for (size_t row = a.row_begin; row < a.row_end; row += 4) {
      const size_t rows = a.row_end - row < 4 ? a.row_end - row : 4;
      for (size_t t = 0; t < tokens; ++t) {
        WF_UNROLL for (size_t r = 0; r < 4; ++r) Store16(Zero16(), b.sum[t][r]);
      }
      for (size_t col = 0; col < a.k; col += kDenseChunk) {
        const size_t n = a.k - col < kDenseChunk ? a.k - col : kDenseChunk;
        for (size_t r = 0; r < rows; ++r) {
          const uint8_t* w = static_cast<const uint8_t*>(a.w) + (row + r) * row_bytes + col / kN * kBytes;
          for (size_t i = 0; i < n; i += kN, w += kBytes) Dequant<D>(w, b.w[r] + i);
        }
        AddDenseTokens(&b, n, a.x + t0 * a.x_stride + col, a.x_stride, tokens);
      }
      for (size_t t = 0; t < tokens; ++t) {
        for (size_t r = 0; r < rows; ++r) {
          const float y = Fold16(Load16(b.sum[t][r]));
          a.y[(t0 + t) * a.y_stride + row + r] = a.bias != nullptr ? y + a.bias[row + r] : y;
        }
      }
    }
  }
}

}  // namespace WF_NAMESPACE
}  // namespace WF_MODE_NS
}  // namespace wf::detail
WF_AFTER_NAMESPACE();
namespace wf::detail {
inline namespace WF_MODE_NS {
template <DenseType D>
void DenseKernel(isa::WF_ISA_TAG, const DenseArgs& a) noexcept {
  if constexpr (WF_NAMESPACE::kQuantised<D>) {
    WF_NAMESPACE::DenseBlocks<D>(a);
  } else {
    WF_NAMESPACE::Dense<static_cast<FloatType>(D)>(a);  // FloatType lists the same three first
  }
}
}  // namespace WF_MODE_NS
}  // namespace wf::detail
#endif  // per-ISA guard
