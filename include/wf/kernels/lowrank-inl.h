// SPDX-License-Identifier: Apache-2.0
// What a ternary product begins with, compiled once per ISA: the low-rank term U[row] . t, and the bias.
#if defined(WF_KERNELS_LOWRANK_INL_H_) == defined(WF_TARGET_TOGGLE)
#ifdef WF_KERNELS_LOWRANK_INL_H_
#undef WF_KERNELS_LOWRANK_INL_H_
#else
#define WF_KERNELS_LOWRANK_INL_H_
#endif
#include "wf/kernels/dequant-inl.h"
#include "wf/kernels/kernels.h"
#include "wf/simd/ops-inl.h"

WF_BEFORE_NAMESPACE();
namespace wf::detail {
inline namespace WF_MODE_NS {
namespace WF_NAMESPACE {

using F32x4 = hn::Vec<hn::FixedTag<float, 4> >;

// acc[r][t] = the running sums of U[row + r] . t[t] in the order of ref.h; Rank or, with kDynamic, `rank` columns.
template <DenseType D, int Rank, int R, int T>
HWY_INLINE void LowRankSums(const TernaryArgs& a, size_t rank, size_t row, size_t t, V16 (&acc)[R][T]) {
  const size_t k = Rank > 0 ? static_cast<size_t>(Rank) : rank;
  const size_t row_bytes = k / DenseBlock(D) * DenseBlockBytes(D);
  const uint8_t* u = static_cast<const uint8_t*>(a.lrc_u) + row * row_bytes;
  const float* x = a.lrc_t + t * a.lrc_t_stride;
  WF_UNROLL for (int r = 0; r < R; ++r) { WF_UNROLL for (int i = 0; i < T; ++i) acc[r][i] = Zero16(); }
  size_t i = 0;
  for (; i + kStep<D> <= k; i += kStep<D>, u += kStepBytes<D>) {
    WF_UNROLL for (int r = 0; r < R; ++r) {
      Dequant<D>(u + static_cast<size_t>(r) * row_bytes, AddProducts<T>{x + i, a.lrc_t_stride, acc[r]});
    }
  }
  if constexpr (!kQuantised<D>) {
    if (i == k) return;
    for (int r = 0; r < R; ++r) {
      const V16 w = LoadNAs16<static_cast<FloatType>(D)>(u + static_cast<size_t>(r) * row_bytes, 0, k - i);
      for (int j = 0; j < T; ++j) {
        acc[r][j] = Fma16(w, LoadN16(x + static_cast<size_t>(j) * a.lrc_t_stride + i, k - i), acc[r][j]);
      }
    }
  }
}
// The terms of one row and token, and of four rows and T tokens: one body for all ranks where factors are quantised,
// which is rare.
template <DenseType D, int Rank>
HWY_INLINE float LowRank1(const TernaryArgs& a, size_t rank, size_t row, size_t t) {
  V16 acc[1][1];
  LowRankSums<D, Rank>(a, rank, row, t, acc);
  return Fold16(acc[0][0]);
}
template <DenseType D, int Rank, int T>
HWY_INLINE void LowRank4(const TernaryArgs& a, size_t rank, size_t row, size_t t, F32x4 (&y)[T]) {
  V16 acc[4][T];
  LowRankSums<D, Rank>(a, rank, row, t, acc);
  WF_UNROLL for (int i = 0; i < T; ++i) y[i] = Fold4x16(acc[0][i], acc[1][i], acc[2][i], acc[3][i]);
}
template <DenseType D>
HWY_NOINLINE float LowRank1Blocks(const TernaryArgs& a, size_t rank, size_t row, size_t t) {
  return LowRank1<D, kDynamic>(a, rank, row, t);
}
template <DenseType D, int T>
HWY_NOINLINE void LowRank4Blocks(const TernaryArgs& a, size_t rank, size_t row, size_t t, F32x4 (&y)[T]) {
  LowRank4<D, kDynamic>(a, rank, row, t, y);
}

// What is added to the scaled product of one row and token: low-rank term, then bias. `rank` is read with kDynamic
// only.
template <int Rank>
HWY_INLINE float Addend(const TernaryArgs& a, size_t rank, size_t row, size_t t) {
  float add = 0;
  if constexpr (Rank != 0) {
    if (a.lrc_type == DenseType::kF16) {
      add = LowRank1<DenseType::kF16, Rank>(a, rank, row, t);
    } else if (a.lrc_type == DenseType::kF32) {
      add = LowRank1<DenseType::kF32, Rank>(a, rank, row, t);
    } else if (a.lrc_type == DenseType::kBF16) {
      add = LowRank1<DenseType::kBF16, Rank>(a, rank, row, t);
    } else {
      const size_t n = Rank > 0 ? static_cast<size_t>(Rank) : rank;
      add = a.lrc_type == DenseType::kQ8_0 ? LowRank1Blocks<DenseType::kQ8_0>(a, n, row, t)
                                           : LowRank1Blocks<DenseType::kQ4_0>(a, n, row, t);
    }
  }
  return a.bias != nullptr ? add + a.bias[row] : add;
}

// The same of four rows from `row` and T tokens from `t`: add[i] belongs to token t + i. U becomes floats once for all
// tokens; four a call fit the registers of 512 bits, one those of 256.
template <int Rank, int T>
HWY_INLINE void Addend4(const TernaryArgs& a, size_t rank, size_t row, size_t t, F32x4 (&add)[T]) {
  const hn::FixedTag<float, 4> d4;
  WF_UNROLL for (int i = 0; i < T; ++i) add[i] = hn::Zero(d4);
  if constexpr (Rank != 0) {
    if (a.lrc_type == DenseType::kF16) {
      LowRank4<DenseType::kF16, Rank>(a, rank, row, t, add);
    } else if (a.lrc_type == DenseType::kF32) {
      LowRank4<DenseType::kF32, Rank>(a, rank, row, t, add);
    } else if (a.lrc_type == DenseType::kBF16) {
      LowRank4<DenseType::kBF16, Rank>(a, rank, row, t, add);
    } else {
      const size_t n = Rank > 0 ? static_cast<size_t>(Rank) : rank;
      if (a.lrc_type == DenseType::kQ8_0) {
        LowRank4Blocks<DenseType::kQ8_0>(a, n, row, t, add);
      } else {
        LowRank4Blocks<DenseType::kQ4_0>(a, n, row, t, add);
      }
    }
  }
  if (a.bias == nullptr) return;
  WF_UNROLL for (int i = 0; i < T; ++i) add[i] = hn::Add(add[i], hn::LoadU(d4, a.bias + row));
}

}  // namespace WF_NAMESPACE
}  // namespace WF_MODE_NS
}  // namespace wf::detail
WF_AFTER_NAMESPACE();
#endif  // per-ISA guard
