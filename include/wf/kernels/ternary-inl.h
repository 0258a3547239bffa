// SPDX-License-Identifier: Apache-2.0
// Ternary matrix products, compiled once per ISA: which way a block type goes for how many tokens. Few tokens of I2_S
// and TQ2_0 row by row (ternary_rows-inl.h), one token of the types in base 3 as digits (ternary_trits-inl.h),
// everything else packed through codes (ternary_codes-inl.h), weights that are stored as floats by themselves
// (ternary_float-inl.h).
#if defined(WF_KERNELS_TERNARY_INL_H_) == defined(WF_TARGET_TOGGLE)
#ifdef WF_KERNELS_TERNARY_INL_H_
#undef WF_KERNELS_TERNARY_INL_H_
#else
#define WF_KERNELS_TERNARY_INL_H_
#endif
#include "wf/kernels/kernels.h"
#include "wf/kernels/lowrank-inl.h"
#include "wf/kernels/ternary_codes-inl.h"
#include "wf/kernels/ternary_float-inl.h"
#include "wf/kernels/ternary_rows-inl.h"
#include "wf/kernels/ternary_trits-inl.h"
#include "wf/simd/ops-inl.h"

WF_BEFORE_NAMESPACE();
namespace wf::detail {
inline namespace WF_MODE_NS {
namespace WF_NAMESPACE {

// Up to kStoreRows rows and T tokens from t.
template <class Block, int Rank, int T>
HWY_INLINE void RowWiseTile(const TernaryArgs& a, size_t row, size_t rows, size_t t) {
  alignas(64) int32_t dots[T][kStoreRows];
  float d[kStoreRows] = {};
  bool plain = true;
  for (size_t r = 0; r < rows; r += 4) {
    plain = RowDots<Block, T>(a, row + r, rows - r < 4 ? rows - r : 4, t, dots[0] + r, kStoreRows, d + r) && plain;
  }
  if (plain) {
    StoreOneRuns<Rank>(a, row, rows, t, T, d, dots[0]);
  } else if constexpr (Block::kScaleSize != 0) {  // rows of several scales
    CodesBuffer codes;
    CodesDots sums;
    CodesTile<Block, Rank>(a, row, rows, t, T, &codes, &sums);
  }
}
template <class Block, int Rank>
HWY_INLINE void RowWise(const TernaryArgs& a, size_t tokens) {
  for (size_t row = a.row_begin; row < a.row_end; row += kStoreRows) {
    const size_t n = a.row_end - row < kStoreRows ? a.row_end - row : kStoreRows;
    size_t t = 0;
    if constexpr (kRowTile == 4) {
      for (; t + 4 <= tokens; t += 4) RowWiseTile<Block, Rank, 4>(a, row, n, t);
      for (; t + 3 <= tokens; t += 3) RowWiseTile<Block, Rank, 3>(a, row, n, t);
    }
    for (; t + 2 <= tokens; t += 2) RowWiseTile<Block, Rank, 2>(a, row, n, t);
    for (; t < tokens; ++t) RowWiseTile<Block, Rank, 1>(a, row, n, t);
  }
}

// Weights stored as floats: one token and up to four rows.
template <class Block, int Rank>
HWY_INLINE void FloatRows(const TernaryArgs& a, size_t tokens) {
  const float d[4] = {1, 1, 1, 1};
  for (size_t row = a.row_begin; row < a.row_end; row += 4) {
    const size_t n = a.row_end - row < 4 ? a.row_end - row : 4;
    for (size_t t = 0; t < tokens; ++t) {
      int32_t dots[4] = {};
      for (size_t r = 0; r < n; ++r) dots[r] = FloatDot<Block>(a, row + r, t) + a.x_sum[t];
      StoreOneRun<Rank, 4>(a, row, n, t, 1, d, dots);
    }
  }
}

// Never declared elsewhere: GCC takes the target of a function template from its first declaration.
template <class Block, int Rank>
HWY_NOINLINE void TernaryGemv(const TernaryArgs& a) noexcept {
  if constexpr (kRowWise<Block>) {
    RowWise<Block, Rank>(a, 1);
  } else if constexpr (kTrits<Block>) {
    TritsGemv<Block, Rank>(a);
  } else if constexpr (kDecoded<Block>) {
    TernaryCodes<Block, Rank>(a, 1);
  } else {
    FloatRows<Block, Rank>(a, 1);
  }
}

template <class Block, int Rank>
HWY_NOINLINE void TernaryGemm(const TernaryArgs& a) noexcept {
  if constexpr (kRowWise<Block>) {
    const bool flat = block::OrderFor(Block::kType, a.k) == block::ActOrder::kFlat;
    if (flat || a.tokens <= kRowTokens) return RowWise<Block, Rank>(a, a.tokens);
  }
  if (a.tokens == 1) return TernaryGemv<Block, Rank>(a);
  if constexpr (kDecoded<Block>) {
    TernaryCodes<Block, Rank>(a, a.tokens);
  } else {
    FloatRows<Block, Rank>(a, a.tokens);
  }
}

}  // namespace WF_NAMESPACE
}  // namespace WF_MODE_NS
}  // namespace wf::detail
WF_AFTER_NAMESPACE();

namespace wf::detail {
inline namespace WF_MODE_NS {  // outside the region: the overloads that kernels.h declared
template <class Block, int Rank>
void TernaryGemvKernel(isa::WF_ISA_TAG, const TernaryArgs& a) noexcept {
  WF_NAMESPACE::TernaryGemv<Block, Rank>(a);
}
template <class Block, int Rank>
void TernaryGemmKernel(isa::WF_ISA_TAG, const TernaryArgs& a) noexcept {
  WF_NAMESPACE::TernaryGemm<Block, Rank>(a);
}
}  // namespace WF_MODE_NS
}  // namespace wf::detail
#endif  // per-ISA guard
