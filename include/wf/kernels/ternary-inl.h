// SPDX-License-Identifier: Apache-2.0
// Ternary matrix products, compiled once per ISA: tiles of R rows x T tokens, the drivers over rows and
// tokens, and the epilogue. How a tile is computed for each block type: ternary_i2s-inl.h, ternary_float-inl.h. The
// other packed types have a driver of their own in ternary_codes-inl.h, those in base 3 another for one token in
// ternary_trits-inl.h.
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
#include "wf/kernels/ternary_i2s-inl.h"
#include "wf/kernels/ternary_trits-inl.h"
#include "wf/simd/ops-inl.h"

WF_BEFORE_NAMESPACE();
namespace wf::detail {
inline namespace WF_MODE_NS {
namespace WF_NAMESPACE {

// dots[i]: sum of code * q of rows row .. row + n - 1 (n <= 4) with one token.
template <int Rank>
HWY_INLINE void Epilogue(const TernaryArgs& a, size_t row, size_t n, size_t t, const int32_t* dots) {
  float add[4] = {};
  if (Rank != 0 || a.bias != nullptr) {
    for (size_t i = 0; i < n; ++i) add[i] = Addend<Rank>(a, a.lrc_rank, row + i, t);
  }
  const hn::FixedTag<float, 4> df;
  const hn::FixedTag<int32_t, 4> di;
  const auto v = hn::Div(hn::ConvertTo(df, hn::LoadU(di, dots)), hn::Set(df, a.act_scale[t]));
  float y[4];
  hn::StoreU(hn::MulAdd(v, hn::Set(df, a.w_scale), hn::LoadU(df, add)), df, y);
  float* out = a.y + t * a.y_stride + row;
  if (n == 4) {
    hn::StoreU(hn::LoadU(df, y), df, out);
  } else {
    for (size_t i = 0; i < n; ++i) out[i] = y[i];
  }
}

// One tile: R <= 4 rows from `row`, T tokens from `t`.
template <class Block, int Rank, int R, int T>
HWY_INLINE void Tile(const TernaryArgs& a, size_t row, size_t t) {
  alignas(16) int32_t dots[T][4] = {};
  TileDots<R, T>(Block(), a, row, t, dots);
  for (int i = 0; i < T; ++i) Epilogue<Rank>(a, row, R, t + static_cast<size_t>(i), dots[i]);
}

template <class Block, int Rank, int R>
HWY_INLINE void TileTokens(const TernaryArgs& a, size_t row, size_t t, size_t end) {
  constexpr int T = kTokenTile<Block>;
  for (; t + T <= end; t += T) Tile<Block, Rank, R, T>(a, row, t);
  for (; t < end; ++t) Tile<Block, Rank, R, 1>(a, row, t);
}

// Never declared elsewhere: GCC takes the target of a function template from its first declaration.
template <class Block, int Rank>
HWY_NOINLINE void TernaryGemv(const TernaryArgs& a) noexcept {
  if constexpr (kTrits<Block>) {
    TritsGemv<Block>(a, Rank == kDynamic ? a.lrc_rank : static_cast<size_t>(Rank));
  } else if constexpr (kDecoded<Block>) {
    TernaryCodes<Block>(a, Rank == kDynamic ? a.lrc_rank : static_cast<size_t>(Rank), 1);
  } else {
    constexpr int R = kGemvRows<Block>;
    size_t r = a.row_begin;
    for (; r + R <= a.row_end; r += R) Tile<Block, Rank, R, 1>(a, r, 0);
    for (; r < a.row_end; ++r) Tile<Block, Rank, 1, 1>(a, r, 0);
  }
}

template <class Block, int Rank>
HWY_NOINLINE void TernaryGemm(const TernaryArgs& a) noexcept {
  if constexpr (kDecoded<Block>) {
    TernaryCodes<Block>(a, Rank == kDynamic ? a.lrc_rank : static_cast<size_t>(Rank), a.tokens);
  } else {
    if (a.tokens == 1) return TernaryGemv<Block, Rank>(a);
    constexpr int R = kGemmRows<Block>;
    // Tokens that stay in L2 (half of 1 MiB) while all rows pass by.
    const size_t fit = (size_t{512} << 10) / a.x_stride / kTokenTile<Block> * kTokenTile<Block>;
    const size_t block = fit < 16 ? 16 : fit;
    for (size_t t = 0; t < a.tokens; t += block) {
      const size_t end = a.tokens - t < block ? a.tokens : t + block;
      size_t r = a.row_begin;
      for (; r + R <= a.row_end; r += R) TileTokens<Block, Rank, R>(a, r, t, end);
      for (; r < a.row_end; ++r) TileTokens<Block, Rank, 1>(a, r, t, end);
    }
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
