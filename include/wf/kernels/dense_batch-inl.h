// SPDX-License-Identifier: Apache-2.0
// Dense products with several tokens, compiled once per ISA. Weights of eight rows become floats in a buffer, a chunk
// of columns at a time and once for up to 64 tokens; tiles of rows x tokens go over it with all sums in registers.
#if defined(WF_KERNELS_DENSE_BATCH_INL_H_) == defined(WF_TARGET_TOGGLE)
#ifdef WF_KERNELS_DENSE_BATCH_INL_H_
#undef WF_KERNELS_DENSE_BATCH_INL_H_
#else
#define WF_KERNELS_DENSE_BATCH_INL_H_
#endif
#include "wf/kernels/dequant-inl.h"
#include "wf/kernels/kernels.h"
#include "wf/simd/ops-inl.h"

WF_BEFORE_NAMESPACE();
namespace wf::detail {
inline namespace WF_MODE_NS {
namespace WF_NAMESPACE {

// How far before the weights in use a prefetch runs that walks `rows` >= R rows linearly while R are in use side by
// side: never behind the last of these rows, never beyond the end.
template <int R>
HWY_INLINE size_t DenseAhead(size_t row_bytes, size_t rows) {
  constexpr size_t kLatency = 8192;
  const size_t want = row_bytes * (R - 1) + kLatency, left = row_bytes * (rows - R);
  return want < left ? want : left;
}

inline constexpr int kDenseRows = 8;
inline constexpr size_t kDenseChunk = 512;  // whole blocks; eight rows of it are a third of L1
inline constexpr size_t kDenseTokens = 64;
struct DenseBuffer {
  alignas(64) float w[kDenseRows][kDenseChunk];
  alignas(64) float sum[kDenseTokens][kDenseRows][16];
  const uint8_t* ahead;      // weights to prefetch while a chunk is in use,
  const uint8_t* ahead_end;  // up to here,
  size_t ahead_step;         // so many bytes (a multiple of 64) with every 16 columns of a tile
};

// Adds n columns to the sums of R rows and T tokens, for one part of the 16 lanes. Sums, a vector of each token and one
// of weights fit the registers: 32 with AVX-512 encodings, else 16.
inline constexpr size_t kDenseCalls = kManyRegisters ? 16 / kLanes : 32 / kLanes;  // of AddDense for eight rows
template <int R, int T>
HWY_INLINE void AddDense(DenseBuffer* b, int row, size_t part, size_t n, const float* x, size_t x_stride,
                         float (*sum)[kDenseRows][16]) {
  const DF d;
  const float* w = b->w[row] + part;
  x += part;
  VF acc[R][T];
  WF_UNROLL for (int r = 0; r < R; ++r) {
    WF_UNROLL for (int t = 0; t < T; ++t) acc[r][t] = hn::Load(d, sum[t][row + r] + part);
  }
  const uint8_t* ahead = b->ahead;
  const size_t step = ahead < b->ahead_end ? b->ahead_step : 0;
  size_t i = 0;
  for (; i + 16 <= n; i += 16, ahead += step) {
    for (size_t p = 0; p < step; p += 64) Prefetch(ahead + p);
    VF v[T];
    WF_UNROLL for (int t = 0; t < T; ++t) v[t] = hn::LoadU(d, x + static_cast<size_t>(t) * x_stride + i);
    WF_UNROLL for (int r = 0; r < R; ++r) {
      const VF wr = hn::Load(d, w + static_cast<size_t>(r) * kDenseChunk + i);
      __asm__("" : : "v"(wr.raw));  // GCC would load it once a product, more than the load ports can do
      WF_UNROLL for (int t = 0; t < T; ++t) acc[r][t] = hn::MulAdd(wr, v[t], acc[r][t]);
    }
  }
  b->ahead = ahead;
  if (i < n) {  // weights are followed by zeros
    const auto mask = hn::FirstN(d, n - i > part ? n - i - part : 0);
    for (int t = 0; t < T; ++t) {
      const VF v = hn::MaskedLoad(mask, d, x + static_cast<size_t>(t) * x_stride + i);
      for (int r = 0; r < R; ++r) {
        acc[r][t] = hn::MulAdd(hn::Load(d, w + static_cast<size_t>(r) * kDenseChunk + i), v, acc[r][t]);
      }
    }
  }
  WF_UNROLL for (int r = 0; r < R; ++r) {
    WF_UNROLL for (int t = 0; t < T; ++t) hn::Store(acc[r][t], d, sum[t][row + r] + part);
  }
}
template <int T>
HWY_INLINE void AddDenseRows(DenseBuffer* b, size_t n, const float* x, size_t x_stride, size_t token) {
  constexpr int R = kManyRegisters || T == 1 ? kDenseRows : 4;
  for (int row = 0; row < kDenseRows; row += R) {
    for (size_t part = 0; part < 16; part += kLanes) {
      AddDense<R, T>(b, row, part, n, x + token * x_stride, x_stride, b->sum + token);
    }
  }
}
// A template only because of the header it lives in: see TernaryGemv.
template <int = 0>
HWY_NOINLINE void AddDenseTokens(DenseBuffer* b, size_t n, const float* x, size_t x_stride, size_t tokens) {
  size_t t = 0;
  for (; t + 3 <= tokens; t += 3) AddDenseRows<3>(b, n, x, x_stride, t);
  if (t + 2 == tokens) return AddDenseRows<2>(b, n, x, x_stride, t);
  if (t + 1 == tokens) AddDenseRows<1>(b, n, x, x_stride, t);
}

// n columns of a row as floats, zeros up to a multiple of 16.
template <DenseType D>
HWY_INLINE void DenseFloats(const uint8_t* w, size_t n, float* y) {
  size_t i = 0;
  for (; i + kStep<D> <= n; i += kStep<D>, w += kStepBytes<D>) Dequant<D>(w, KeepFloats{y + i});
  if constexpr (!kQuantised<D>) {
    if (i < n) Store16(LoadNAs16<static_cast<FloatType>(D)>(w, 0, n - i), y + i);
  }
}

template <DenseType D>
HWY_NOINLINE void DenseBatch(const DenseArgs& a) noexcept {
  constexpr size_t R = kDenseRows;
  const auto bytes = [](size_t n) { return n / DenseBlock(D) * DenseBlockBytes(D); };
  const size_t row_bytes = bytes(a.k);
  DenseBuffer b;
  if ((a.row_end - a.row_begin) % R != 0) std::memset(b.w, 0, sizeof(b.w));  // rows that are not there
  for (size_t t0 = 0; t0 < a.tokens; t0 += kDenseTokens) {
    const size_t tokens = a.tokens - t0 < kDenseTokens ? a.tokens - t0 : kDenseTokens;
    for (size_t row = a.row_begin; row < a.row_end; row += R) {
      const size_t rows = a.row_end - row < R ? a.row_end - row : R;
      const uint8_t* w = static_cast<const uint8_t*>(a.w) + row * row_bytes;
      const uint8_t* ahead = w + (rows < R ? 0 : DenseAhead<kDenseRows>(row_bytes, a.row_end - row));
      std::memset(b.sum, 0, tokens * sizeof(b.sum[0]));
      for (size_t col = 0; col < a.k; col += kDenseChunk) {
        const size_t n = a.k - col < kDenseChunk ? a.k - col : kDenseChunk;
        for (size_t r = 0; r < rows; ++r) {
          DenseFloats<D>(w + r * row_bytes + bytes(col), n, b.w[r]);
        }
        // Spread evenly, so that reading ahead and products overlap.
        b.ahead = ahead;
        b.ahead_end = ahead += rows * bytes(n);
        const size_t steps = (tokens + 2) / 3 * kDenseCalls * ((n + 15) / 16);
        b.ahead_step = AlignUp(rows * bytes(n) / steps + 1, 64);
        AddDenseTokens(&b, n, a.x + t0 * a.x_stride + col, a.x_stride, tokens);
      }
      for (size_t t = 0; t < tokens; ++t) {
        alignas(16) float y[R];
        for (size_t r = 0; r < R; r += 4) {
          const float(*s)[16] = b.sum[t] + r;
          hn::Store(Fold4x16(Load16(s[0]), Load16(s[1]), Load16(s[2]), Load16(s[3])), hn::FixedTag<float, 4>(), y + r);
        }
        float* out = a.y + (t0 + t) * a.y_stride + row;
        for (size_t r = 0; r < rows; ++r) out[r] = a.bias != nullptr ? y[r] + a.bias[row + r] : y[r];
      }
    }
  }
}

}  // namespace WF_NAMESPACE
}  // namespace WF_MODE_NS
}  // namespace wf::detail
WF_AFTER_NAMESPACE();
#endif  // per-ISA guard
