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

// U[row] . t in the order of ref.h.
template <int Rank, FloatType T>
HWY_INLINE float LowRankDot(const void* u, size_t row, const float* t, size_t dynamic_rank) {
  const size_t rank = Rank > 0 ? static_cast<size_t>(Rank) : dynamic_rank;
  V16 acc = Zero16();
  size_t i = 0;
  for (; i + 16 <= rank; i += 16) acc = Fma16(LoadAs16<T>(u, row * rank + i), Load16(t + i), acc);
  if (i < rank) acc = Fma16(LoadNAs16<T>(u, row * rank + i, rank - i), LoadN16(t + i, rank - i), acc);
  return Fold16(acc);
}

// The same from blocks; rank in whole blocks. One body for all ranks: quantised factors are rare.
template <DenseType T>
HWY_NOINLINE float LowRankBlocks(const void* u, size_t row, const float* t, size_t rank) {
  constexpr size_t kN = DenseBlock(T);
  const uint8_t* b = static_cast<const uint8_t*>(u) + row * (rank / kN) * DenseBlockBytes(T);
  V16 acc = Zero16();
  for (size_t i = 0; i < rank; i += kN, b += DenseBlockBytes(T)) {
    float w[kN];
    Dequant<T>(b, w);
    WF_UNROLL for (size_t j = 0; j < kN; j += 16) acc = Fma16(Load16(w + j), Load16(t + i + j), acc);
  }
  return Fold16(acc);
}

// What is added to the scaled product of one row and token: low-rank term, then bias. `rank` is read with kDynamic
// only.
template <int Rank>
HWY_INLINE float Addend(const TernaryArgs& a, size_t rank, size_t row, size_t t) {
  float add = 0;
  if constexpr (Rank != 0) {
    const float* lt = a.lrc_t + t * a.lrc_t_stride;
    if (a.lrc_type == DenseType::kF16) {
      add = LowRankDot<Rank, FloatType::kF16>(a.lrc_u, row, lt, rank);
    } else if (a.lrc_type == DenseType::kF32) {
      add = LowRankDot<Rank, FloatType::kF32>(a.lrc_u, row, lt, rank);
    } else if (a.lrc_type == DenseType::kBF16) {
      add = LowRankDot<Rank, FloatType::kBF16>(a.lrc_u, row, lt, rank);
    } else {
      const size_t n = Rank > 0 ? static_cast<size_t>(Rank) : rank;
      add = a.lrc_type == DenseType::kQ8_0 ? LowRankBlocks<DenseType::kQ8_0>(a.lrc_u, row, lt, n)
                                           : LowRankBlocks<DenseType::kQ4_0>(a.lrc_u, row, lt, n);
    }
  }
  return a.bias != nullptr ? add + a.bias[row] : add;
}

}  // namespace WF_NAMESPACE
}  // namespace WF_MODE_NS
}  // namespace wf::detail
WF_AFTER_NAMESPACE();
#endif  // per-ISA guard
