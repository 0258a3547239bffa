// SPDX-License-Identifier: Apache-2.0
// I2_S tiles, compiled once per ISA: dots[t][r] = sum of T[row + r] * q[t], from the packed bytes as they lie
// in the file and activations in the order of block.h.
#if defined(WF_KERNELS_TERNARY_I2S_INL_H_) == defined(WF_TARGET_TOGGLE)
#ifdef WF_KERNELS_TERNARY_I2S_INL_H_
#undef WF_KERNELS_TERNARY_I2S_INL_H_
#else
#define WF_KERNELS_TERNARY_I2S_INL_H_
#endif
#include "wf/kernels/kernels.h"
#include "wf/simd/ops-inl.h"

WF_BEFORE_NAMESPACE();
namespace wf::detail {
inline namespace WF_MODE_NS {
namespace WF_NAMESPACE {

// A vector holds one group of 128 weights (256-bit) or two (512-bit).
// Tile sizes: accumulators, weights, one activation vector and masks fit the registers (32 with AVX-512
// encodings, 16 without).
template <class Block>
inline constexpr int kTokenTile = 1;
template <class Block>
inline constexpr int kGemmRows = 1;
template <class Block>
inline constexpr int kGemvRows = 1;
#if HWY_TARGET <= HWY_AVX3 || WF_ISA_VNNI == 2
template <>
inline constexpr int kTokenTile<block::I2S> = 4;
template <>
inline constexpr int kGemmRows<block::I2S> = WF_ISA_VNNI ? 4 : 2;
template <>
inline constexpr int kGemvRows<block::I2S> = 4;
#else
template <>
inline constexpr int kTokenTile<block::I2S> = WF_ISA_VNNI ? 4 : 2;
template <>
inline constexpr int kGemmRows<block::I2S> = 2;
template <>
inline constexpr int kGemvRows<block::I2S> = WF_ISA_VNNI ? 2 : 4;
#endif

// The codes of segment S, moved to the low bits of each byte. Shifts cross bytes, the mask removes what came in.
template <int S>
HWY_INLINE VU8 Codes(VU8 w) {
  const hn::Repartition<uint16_t, DU8> du16;
  const VU8 mask = hn::Set(DU8(), uint8_t{3});
  if constexpr (S == 3) return hn::And(w, mask);
  return hn::And(hn::BitCast(DU8(), hn::ShiftRight<6 - 2 * S>(hn::BitCast(du16, w))), mask);
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

// Sums of R rows x T tokens over all steps.
template <int R, int T>
struct I2sAcc {
#if WF_ISA_VNNI
  // A single token: the fields are not shifted down but only masked, so that segment s counts 4^(3-s) times too
  // much; four sums a row, each shifted once at the end. Exact: 192 * 128 * 4 * K / 256 stays below 2^31.
  static constexpr int kSums = T == 1 ? 4 : 1;
  hn::Vec<DI32> sum[R][T][kSums];

  HWY_INLINE void Clear() {
    WF_UNROLL for (int r = 0; r < R; ++r) {
      WF_UNROLL for (int t = 0; t < T; ++t) {
        WF_UNROLL for (int s = 0; s < kSums; ++s) sum[r][t][s] = hn::Zero(DI32());
      }
    }
  }
  HWY_INLINE void Flush() {}
  template <int S>
  HWY_INLINE VU8 Field(VU8 w) {
    if constexpr (T == 1) return hn::And(w, hn::Set(DU8(), static_cast<uint8_t>(3u << (6 - 2 * S))));
    return Codes<S>(w);
  }
  template <int S, XLoad kLoad>
  HWY_INLINE void Segment(const VU8 (&w)[R], const int8_t* x, size_t stride, size_t x_stride) {
    VU8 c[R];
    WF_UNROLL for (int r = 0; r < R; ++r) c[r] = Field<S>(w[r]);
    WF_UNROLL for (int t = 0; t < T; ++t) {
      const VI8 v = LoadX<kLoad>(x + static_cast<size_t>(t) * x_stride, S, stride);
      WF_UNROLL for (int r = 0; r < R; ++r) sum[r][t][T == 1 ? S : 0] = Dot4(c[r], v, sum[r][t][T == 1 ? S : 0]);
    }
  }
  HWY_INLINE hn::Vec<DI32> Total(int r, int t) {
    if constexpr (T > 1) return sum[r][t][0];
    return hn::Add(hn::Add(hn::ShiftRight<6>(sum[r][t][0]), hn::ShiftRight<4>(sum[r][t][kSums > 1 ? 1 : 0])),
                   hn::Add(hn::ShiftRight<2>(sum[r][t][kSums > 1 ? 2 : 0]), sum[r][t][kSums > 1 ? 3 : 0]));
  }
#else
  hn::Vec<DI32> sum[R][T];
  hn::Vec<DI16> part[R][T];  // at most kFlushEvery steps of 4 pairs: 8 * 4 * 768 < 32768

  HWY_INLINE void Clear() {
    WF_UNROLL for (int r = 0; r < R; ++r) {
      WF_UNROLL for (int t = 0; t < T; ++t) {
        sum[r][t] = hn::Zero(DI32());
        part[r][t] = hn::Zero(DI16());
      }
    }
  }
  HWY_INLINE void Flush() {
    WF_UNROLL for (int r = 0; r < R; ++r) {
      WF_UNROLL for (int t = 0; t < T; ++t) {
        sum[r][t] = Widen2(part[r][t], sum[r][t]);
        part[r][t] = hn::Zero(DI16());
      }
    }
  }
  template <int S, XLoad kLoad>
  HWY_INLINE void Segment(const VU8 (&w)[R], const int8_t* x, size_t stride, size_t x_stride) {
    VU8 c[R];
    WF_UNROLL for (int r = 0; r < R; ++r) c[r] = Codes<S>(w[r]);
    WF_UNROLL for (int t = 0; t < T; ++t) {
      const VI8 v = LoadX<kLoad>(x + static_cast<size_t>(t) * x_stride, S, stride);
      WF_UNROLL for (int r = 0; r < R; ++r) part[r][t] = hn::Add(part[r][t], Dot2(c[r], v));
    }
  }
  HWY_INLINE hn::Vec<DI32> Total(int r, int t) { return sum[r][t]; }
#endif

  // One vector of weights a row: rows are row_bytes apart, tokens x_stride.
  template <XLoad kLoad>
  HWY_INLINE void Step(const uint8_t* w, size_t row_bytes, const int8_t* x, size_t stride, size_t x_stride) {
    VU8 v[R];
    WF_UNROLL for (int r = 0; r < R; ++r) v[r] = LoadW<kLoad>(w + static_cast<size_t>(r) * row_bytes);
    Segment<0, kLoad>(v, x, stride, x_stride);
    Segment<1, kLoad>(v, x, stride, x_stride);
    Segment<2, kLoad>(v, x, stride, x_stride);
    Segment<3, kLoad>(v, x, stride, x_stride);
  }
};
inline constexpr size_t kFlushEvery = 8;

template <int R, int T>
HWY_INLINE void StoreDots(I2sAcc<R, T>& acc, const int32_t* x_sum, int32_t (&dots)[T][4]) {
  for (int t = 0; t < T; ++t) {
    const hn::Vec<DI32> zero = hn::Zero(DI32());
    Sum4(acc.Total(0, t), R > 1 ? acc.Total(R > 1 ? 1 : 0, t) : zero, R > 2 ? acc.Total(R > 2 ? 2 : 0, t) : zero,
         R > 3 ? acc.Total(R > 3 ? 3 : 0, t) : zero, dots[t]);
    for (int r = 0; r < 4; ++r) dots[t][r] -= x_sum[t];
  }
}

// K % 128 == 0: groups lie in pairs, rows begin at a group.
template <int R, int T>
HWY_INLINE void PairedDots(const TernaryArgs& a, size_t row, size_t t, int32_t (&dots)[T][4]) {
  const size_t row_bytes = a.k / 4, groups = a.k / 128;
  const uint8_t* w = static_cast<const uint8_t*>(a.w) + row * row_bytes;
  const int8_t* x = a.x + t * a.x_stride;
  I2sAcc<R, T> acc;
  acc.Clear();
  const size_t pairs = groups / 2;
  for (size_t p = 0; p < pairs;) {
    // A 512-bit step takes a pair, a 256-bit one half of it.
    const size_t stop =
        WF_ISA_VNNI ? pairs : (pairs - p < kFlushEvery * kVecBytes / 64 ? pairs : p + kFlushEvery * kVecBytes / 64);
    for (; p < stop; ++p) {
      for (size_t h = 0; h < 64 / kVecBytes; ++h) {
        acc.template Step<XLoad::kWhole>(w + 64 * p + 32 * h, row_bytes, x + 256 * p + 32 * h, 64, a.x_stride);
      }
    }
    acc.Flush();
  }
  if (groups % 2 != 0) {
    acc.template Step<XLoad::kHalf>(w + 64 * pairs, row_bytes, x + 256 * pairs, 32, a.x_stride);
    acc.Flush();
  }
  StoreDots<R, T>(acc, a.x_sum + t, dots);
}

// Any K: the row's groups may hold weights of its neighbours, which meet zeros in x. One row at a time, because
// each row meets its groups at another offset.
template <int T>
HWY_INLINE void FlatDots(const TernaryArgs& a, size_t row, size_t t, int32_t (&dots)[T][4]) {
  const size_t first = row * a.k, g0 = first / 128, g1 = (first + a.k + 127) / 128;
  const uint8_t* w = static_cast<const uint8_t*>(a.w);
  const int8_t* x = a.x + t * a.x_stride + (block::I2S::kSize - (first - g0 * 128));
  I2sAcc<1, T> acc;
  acc.Clear();
  size_t g = g0;
#if HWY_TARGET <= HWY_AVX3
  while (g + 2 <= g1) {
    const size_t stop = g1 - g < 2 * kFlushEvery ? g1 : g + 2 * kFlushEvery;
    for (; g + 2 <= stop; g += 2) {
      acc.template Step<XLoad::kNatural>(w + 32 * g, 0, x + 128 * (g - g0), 0, a.x_stride);
    }
    acc.Flush();
  }
#endif
  while (g < g1) {
    const size_t stop = g1 - g < kFlushEvery ? g1 : g + kFlushEvery;
    for (; g < stop; ++g) acc.template Step<XLoad::kHalf>(w + 32 * g, 0, x + 128 * (g - g0), 32, a.x_stride);
    acc.Flush();
  }
  StoreDots<1, T>(acc, a.x_sum + t, dots);
}

template <int R, int T>
HWY_INLINE void TileDots(block::I2S, const TernaryArgs& a, size_t row, size_t t, int32_t (&dots)[T][4]) {
  if (a.k % 128 == 0) return PairedDots<R, T>(a, row, t, dots);
  for (int r = 0; r < R; ++r) {
    int32_t one[T][4];
    FlatDots<T>(a, row + static_cast<size_t>(r), t, one);
    for (int i = 0; i < T; ++i) dots[i][r] = one[i][0];
  }
}

}  // namespace WF_NAMESPACE
}  // namespace WF_MODE_NS
}  // namespace wf::detail
WF_AFTER_NAMESPACE();
#endif  // per-ISA guard
