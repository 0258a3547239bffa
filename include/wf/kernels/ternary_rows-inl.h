// SPDX-License-Identifier: Apache-2.0
// Ternary products of few tokens, compiled once per ISA: the packed bytes of one row after the other, as they lie in
// the file, against activations in the order of block.h. What a decode step runs; bound by memory, so rows are walked
// singly and in order (simd/ops-inl.h, kAhead). I2_S and TQ2_0: 64 bytes hold 256 columns as four fields a byte.
#if defined(WF_KERNELS_TERNARY_ROWS_INL_H_) == defined(WF_TARGET_TOGGLE)
#ifdef WF_KERNELS_TERNARY_ROWS_INL_H_
#undef WF_KERNELS_TERNARY_ROWS_INL_H_
#else
#define WF_KERNELS_TERNARY_ROWS_INL_H_
#endif
#include "wf/kernels/kernels.h"
#include "wf/simd/ops-inl.h"

WF_BEFORE_NAMESPACE();
namespace wf::detail {
inline namespace WF_MODE_NS {
namespace WF_NAMESPACE {

// Types whose rows are multiplied here.
template <class Block>
inline constexpr bool kRowWise = false;
template <>
inline constexpr bool kRowWise<block::I2S> = true;
template <>
inline constexpr bool kRowWise<block::TQ2_0> = true;

// Tokens that pass over the weights together: their sums fit the registers.
inline constexpr size_t kFewTokens = HWY_TARGET <= HWY_AVX3 || WF_ISA_VNNI == 2 ? 4 : 2;

// Where the field of segment s lies in a byte.
template <class Block>
inline constexpr int FieldShift(int s) {
  return Block::kType == TensorType::kTQ2_0 ? 2 * s : 6 - 2 * s;
}

// How a vector of activations is found for segment s of the group(s) in one weight vector.
enum class XLoad {
  kWhole,    // kVecBytes bytes at x + s * stride
  kNatural,  // two groups in natural order: 32 bytes at x + 32 s and 32 at x + 128 + 32 s (512-bit only)
  kHalf,     // one group in a 512-bit vector: 32 bytes at x + s * stride, zeros above
};
template <XLoad kLoad>
HWY_INLINE VI8 LoadX(const int8_t* x, size_t s, size_t stride) {
#if HWY_TARGET <= HWY_AVX3
  const hn::FixedTag<int8_t, 32> half;
  if constexpr (kLoad == XLoad::kNatural) {
    return hn::Combine(DI8(), hn::LoadU(half, x + 128 + 32 * s), hn::LoadU(half, x + 32 * s));
  }
  if constexpr (kLoad == XLoad::kHalf) return hn::ZeroExtendVector(DI8(), hn::LoadU(half, x + s * stride));
#endif
  return hn::LoadU(DI8(), x + s * stride);
}
template <XLoad kLoad>
HWY_INLINE VU8 LoadW(const uint8_t* w) {
#if HWY_TARGET <= HWY_AVX3
  if constexpr (kLoad == XLoad::kHalf) {
    return hn::ZeroExtendVector(DU8(), hn::LoadU(hn::FixedTag<uint8_t, 32>(), w));
  }
#endif
  return hn::LoadU(DU8(), w);
}

// Sums of one row and T tokens.
template <class Block, int T>
struct RowAcc {
#if WF_ISA_VNNI
  // Fields are not shifted down but only masked, so that one at shift n counts 2^n times too much; a sum for each of
  // the four, shifted once at the end. Exact: 192 * 128 * 4 * K / 256 stays below 2^31.
  hn::Vec<DI32> sum[T][4];

  HWY_INLINE void Clear() {
    WF_UNROLL for (int t = 0; t < T; ++t) { WF_UNROLL for (int s = 0; s < 4; ++s) sum[t][s] = hn::Zero(DI32()); }
  }
  HWY_INLINE void Flush() {}
  template <int S, XLoad kLoad>
  HWY_INLINE void Segment(VU8 w, const int8_t* x, size_t stride, size_t x_stride) {
    const VU8 c = hn::And(w, hn::Set(DU8(), static_cast<uint8_t>(3u << FieldShift<Block>(S))));
    WF_UNROLL for (int t = 0; t < T; ++t) {
      sum[t][S] = Dot4(c, LoadX<kLoad>(x + static_cast<size_t>(t) * x_stride, S, stride), sum[t][S]);
    }
  }
  HWY_INLINE hn::Vec<DI32> Total(int t) {
    return hn::Add(hn::Add(Down<0>(t), Down<1>(t)), hn::Add(Down<2>(t), Down<3>(t)));
  }
  template <int S>
  HWY_INLINE hn::Vec<DI32> Down(int t) {
    if constexpr (FieldShift<Block>(S) == 0) return sum[t][S];
    return hn::ShiftRight<FieldShift<Block>(S)>(sum[t][S]);
  }
#else
  hn::Vec<DI32> sum[T];
  hn::Vec<DI16> part[T];  // at most kFlushEvery steps of 4 pairs: 8 * 4 * 768 < 32768

  HWY_INLINE void Clear() {
    WF_UNROLL for (int t = 0; t < T; ++t) {
      sum[t] = hn::Zero(DI32());
      part[t] = hn::Zero(DI16());
    }
  }
  HWY_INLINE void Flush() {
    WF_UNROLL for (int t = 0; t < T; ++t) {
      sum[t] = Widen2(part[t], sum[t]);
      part[t] = hn::Zero(DI16());
    }
  }
  template <int S, XLoad kLoad>
  HWY_INLINE void Segment(VU8 w, const int8_t* x, size_t stride, size_t x_stride) {
    constexpr int kShift = FieldShift<Block>(S);
    // Shifts cross bytes, the mask removes what came in.
    const hn::Repartition<uint16_t, DU8> d16;
    const VU8 v = kShift == 0 ? w : hn::BitCast(DU8(), hn::ShiftRight<kShift>(hn::BitCast(d16, w)));
    const VU8 c = hn::And(v, hn::Set(DU8(), uint8_t{3}));
    WF_UNROLL for (int t = 0; t < T; ++t) {
      part[t] = hn::Add(part[t], Dot2(c, LoadX<kLoad>(x + static_cast<size_t>(t) * x_stride, S, stride)));
    }
  }
  HWY_INLINE hn::Vec<DI32> Total(int t) { return sum[t]; }
#endif

  template <XLoad kLoad>
  HWY_INLINE void Step(const uint8_t* w, const int8_t* x, size_t stride, size_t x_stride) {
    const VU8 v = LoadW<kLoad>(w);
    Segment<0, kLoad>(v, x, stride, x_stride);
    Segment<1, kLoad>(v, x, stride, x_stride);
    Segment<2, kLoad>(v, x, stride, x_stride);
    Segment<3, kLoad>(v, x, stride, x_stride);
  }
};
inline constexpr size_t kFlushEvery = 8;

// Columns in pairs of groups (block.h, kPaired): a 512-bit step takes a pair, a 256-bit one half of it. Pairs begin
// kPairBytes apart; `each` sees the first byte of every one of them.
template <size_t kPairBytes, class Acc, class Each>
HWY_INLINE void PairedRow(const uint8_t* w, size_t pairs, const int8_t* x, size_t x_stride, Acc& acc,
                          const Each& each) {
  constexpr size_t kFlush = kFlushEvery * kVecBytes / 64;
  for (size_t p = 0; p < pairs;) {
    const size_t stop = WF_ISA_VNNI || pairs - p < kFlush ? pairs : p + kFlush;
    WF_NO_UNROLL for (; p < stop; ++p, w += kPairBytes, x += 256) {
      PrefetchAhead(w);
      each(w);
      WF_UNROLL for (size_t h = 0; h < 64; h += kVecBytes) acc.template Step<XLoad::kWhole>(w + h, x + h, 64, x_stride);
    }
    acc.Flush();
  }
}

// Any K: the row's groups may hold weights of its neighbours, which meet zeros in x.
template <class Acc>
HWY_INLINE void FlatRow(const TernaryArgs& a, size_t row, const int8_t* x, Acc& acc) {
  const size_t first = row * a.k, g0 = first / 128, g1 = (first + a.k + 127) / 128;
  const uint8_t* w = static_cast<const uint8_t*>(a.w);
  x += block::I2S::kSize - (first - g0 * 128);
  size_t g = g0;
#if HWY_TARGET <= HWY_AVX3
  while (g + 2 <= g1) {
    const size_t stop = g1 - g < 2 * kFlushEvery ? g1 : g + 2 * kFlushEvery;
    for (; g + 2 <= stop; g += 2) acc.template Step<XLoad::kNatural>(w + 32 * g, x + 128 * (g - g0), 0, a.x_stride);
    acc.Flush();
  }
#endif
  while (g < g1) {
    const size_t stop = g1 - g < kFlushEvery ? g1 : g + kFlushEvery;
    for (; g < stop; ++g) acc.template Step<XLoad::kHalf>(w + 32 * g, x + 128 * (g - g0), 32, a.x_stride);
    acc.Flush();
  }
}

// One row's sums of code * q and its scale. False: the row has several scales, or one that is 0 or no number.
template <class Acc>
HWY_INLINE bool RowSums(block::I2S, const TernaryArgs& a, size_t row, const int8_t* x, Acc& acc, float* d) {
  *d = 1;
  acc.Clear();
  if (a.k % 128 != 0) {
    FlatRow(a, row, x, acc);
    return true;
  }
  const uint8_t* w = static_cast<const uint8_t*>(a.w) + row * (a.k / 4);
  const size_t groups = a.k / 128, pairs = groups / 2;
  PairedRow<64>(w, pairs, x, a.x_stride, acc, [](const uint8_t*) {});
  if (groups % 2 != 0) {
    acc.template Step<XLoad::kHalf>(w + 64 * pairs, x + 256 * pairs, 32, a.x_stride);
    acc.Flush();
  }
  return true;
}
template <class Acc>
HWY_INLINE bool RowSums(block::TQ2_0, const TernaryArgs& a, size_t row, const int8_t* x, Acc& acc, float* d) {
  using B = block::TQ2_0;
  const uint8_t* w = B::Block(static_cast<const uint8_t*>(a.w), a.k, row, 0);
  const uint32_t bits = LoadLe<uint16_t>(w + 64);
  uint32_t different = 0;
  acc.Clear();
  PairedRow<B::kBytes>(w, a.k / B::kSize, x, a.x_stride, acc,
                       [&](const uint8_t* b) { different |= bits ^ uint32_t { LoadLe<uint16_t>(b + 64) }; });
  *d = F16ToF32(static_cast<uint16_t>(bits));
  const uint32_t exponent = bits & 0x7fffu;
  return different == 0 && exponent != 0 && exponent <= 0x7c00u;
}

// dots[t][r]: sums of code * q of rows row .. row + n - 1 (n <= 4) and T tokens from t; d: their scales.
// False: see RowSums.
template <class Block, int T>
HWY_NOINLINE bool RowDots(const TernaryArgs& a, size_t row, size_t n, size_t t, int32_t (*dots)[4], float* d) noexcept {
  hn::Vec<DI32> total[4][T];
  bool plain = true;
  for (size_t r = 0; r < 4; ++r) {
    if (r < n) {
      RowAcc<Block, T> acc;
      plain = RowSums(Block(), a, row + r, a.x + t * a.x_stride, acc, d + r) && plain;
      WF_UNROLL for (int i = 0; i < T; ++i) total[r][i] = acc.Total(i);
    } else {
      WF_UNROLL for (int i = 0; i < T; ++i) total[r][i] = hn::Zero(DI32());
    }
  }
  WF_UNROLL for (int i = 0; i < T; ++i) Sum4(total[0][i], total[1][i], total[2][i], total[3][i], dots[i]);
  return plain;
}

}  // namespace WF_NAMESPACE
}  // namespace WF_MODE_NS
}  // namespace wf::detail
WF_AFTER_NAMESPACE();
#endif  // per-ISA guard
