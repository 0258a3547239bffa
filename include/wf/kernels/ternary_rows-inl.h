// SPDX-License-Identifier: Apache-2.0
// Ternary products of few tokens, compiled once per ISA: the packed bytes of one row after the other, as they lie in
// the file, against activations in the order of block.h. What a decode step runs. One token is bound by memory, so rows
// are walked singly and in order (simd/ops-inl.h, kAhead); several take two rows at a time. I2_S and TQ2_0: 64 bytes
// hold 256 columns as four fields a byte.
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

// Tokens whose sums fit the registers, and tokens up to which rows are not worth decoding first (measured).
inline constexpr size_t kRowTile = kManyRegisters ? 4 : 2;
inline constexpr size_t kRowTokens = WF_ISA_VNNI && kManyRegisters ? 16 : 4;

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

// Sums of R rows and T tokens.
template <class Block, int R, int T>
struct RowAcc {
#if WF_ISA_VNNI
  // Fields are not all shifted down but only masked, so that one at shift n counts 2^n times too much, and each shift
  // has a sum of its own that is shifted once at the end. With few sums all four fields stay where they are; else the
  // upper two are moved down by four bits first, and two sums do. Exact: 192 * 128 * 4 * K / 256 stays below 2^31.
  static constexpr int kSums = R * T <= (kManyRegisters ? 4 : 2) ? 4 : 2;
  hn::Vec<DI32> sum[R][T][kSums];

  HWY_INLINE void Clear() {
    WF_UNROLL for (int r = 0; r < R; ++r) {
      WF_UNROLL for (int t = 0; t < T; ++t) {
        WF_UNROLL for (int s = 0; s < kSums; ++s) sum[r][t][s] = hn::Zero(DI32());
      }
    }
  }
  HWY_INLINE void Flush() {}
  // The sum that takes fields of shift n, and where they are then.
  static constexpr int SumOf(int shift) { return shift % (2 * kSums) / 2; }
  template <int S, XLoad kLoad>
  HWY_INLINE void Segment(const VU8 (&w)[R], const VU8 (&high)[R], const int8_t* x, size_t stride, size_t x_stride) {
    constexpr int kShift = FieldShift<Block>(S), kSum = SumOf(kShift);
    const VU8 mask = hn::Set(DU8(), static_cast<uint8_t>(3u << (2 * kSum)));
    VU8 c[R];
    WF_UNROLL for (int r = 0; r < R; ++r) c[r] = hn::And(kSums == 2 && kShift >= 4 ? high[r] : w[r], mask);
    WF_UNROLL for (int t = 0; t < T; ++t) {
      const VI8 v = LoadX<kLoad>(x + static_cast<size_t>(t) * x_stride, S, stride);
      WF_UNROLL for (int r = 0; r < R; ++r) sum[r][t][kSum] = Dot4(c[r], v, sum[r][t][kSum]);
    }
  }
  HWY_INLINE hn::Vec<DI32> Total(int r, int t) {
    const auto low = hn::Add(sum[r][t][0], hn::ShiftRight<2>(sum[r][t][1]));
    if constexpr (kSums == 2) return low;
    return hn::Add(low, hn::Add(hn::ShiftRight<4>(sum[r][t][kSums - 2]), hn::ShiftRight<6>(sum[r][t][kSums - 1])));
  }
  template <XLoad kLoad>
  HWY_INLINE void Step(const uint8_t* w, size_t row_bytes, const int8_t* x, size_t stride, size_t x_stride) {
    const hn::Repartition<uint16_t, DU8> d16;
    VU8 v[R], high[R];
    WF_UNROLL for (int r = 0; r < R; ++r) {
      v[r] = LoadW<kLoad>(w + static_cast<size_t>(r) * row_bytes);
      high[r] = kSums == 2 ? hn::BitCast(DU8(), hn::ShiftRight<4>(hn::BitCast(d16, v[r]))) : v[r];
    }
    Segment<0, kLoad>(v, high, x, stride, x_stride);
    Segment<1, kLoad>(v, high, x, stride, x_stride);
    Segment<2, kLoad>(v, high, x, stride, x_stride);
    Segment<3, kLoad>(v, high, x, stride, x_stride);
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
    constexpr int kShift = FieldShift<Block>(S);
    // Shifts cross bytes, the mask removes what came in.
    const hn::Repartition<uint16_t, DU8> d16;
    VU8 c[R];
    WF_UNROLL for (int r = 0; r < R; ++r) {
      const VU8 v = kShift == 0 ? w[r] : hn::BitCast(DU8(), hn::ShiftRight<kShift>(hn::BitCast(d16, w[r])));
      c[r] = hn::And(v, hn::Set(DU8(), uint8_t{3}));
    }
    WF_UNROLL for (int t = 0; t < T; ++t) {
      const VI8 v = LoadX<kLoad>(x + static_cast<size_t>(t) * x_stride, S, stride);
      WF_UNROLL for (int r = 0; r < R; ++r) part[r][t] = hn::Add(part[r][t], Dot2(c[r], v));
    }
  }
  HWY_INLINE hn::Vec<DI32> Total(int r, int t) { return sum[r][t]; }
  template <XLoad kLoad>
  HWY_INLINE void Step(const uint8_t* w, size_t row_bytes, const int8_t* x, size_t stride, size_t x_stride) {
    VU8 v[R];
    WF_UNROLL for (int r = 0; r < R; ++r) v[r] = LoadW<kLoad>(w + static_cast<size_t>(r) * row_bytes);
    Segment<0, kLoad>(v, x, stride, x_stride);
    Segment<1, kLoad>(v, x, stride, x_stride);
    Segment<2, kLoad>(v, x, stride, x_stride);
    Segment<3, kLoad>(v, x, stride, x_stride);
  }
#endif
};
inline constexpr size_t kFlushEvery = 8;

// Columns in pairs of groups (block.h, kPaired): a 512-bit step takes a pair, a 256-bit one half of it. Pairs begin
// kPairBytes apart, rows row_bytes; `each` sees the first byte of every pair of the first row.
template <size_t kPairBytes, int R, class Acc, class Each>
HWY_INLINE void PairedRow(const uint8_t* w, size_t row_bytes, size_t pairs, const int8_t* x, size_t x_stride, Acc& acc,
                          const Each& each) {
  constexpr size_t kFlush = kFlushEvery * kVecBytes / 64;
  for (size_t p = 0; p < pairs;) {
    const size_t stop = WF_ISA_VNNI || pairs - p < kFlush ? pairs : p + kFlush;
    WF_NO_UNROLL for (; p < stop; ++p, w += kPairBytes, x += 256) {
      WF_UNROLL for (size_t r = 0; r < R; ++r) PrefetchAhead(w + r * row_bytes);
      each(w);
      WF_UNROLL for (size_t h = 0; h < 64; h += kVecBytes) {
        acc.template Step<XLoad::kWhole>(w + h, row_bytes, x + h, 64, x_stride);
      }
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
    for (; g + 2 <= stop; g += 2) acc.template Step<XLoad::kNatural>(w + 32 * g, 0, x + 128 * (g - g0), 0, a.x_stride);
    acc.Flush();
  }
#endif
  while (g < g1) {
    const size_t stop = g1 - g < kFlushEvery ? g1 : g + kFlushEvery;
    for (; g < stop; ++g) acc.template Step<XLoad::kHalf>(w + 32 * g, 0, x + 128 * (g - g0), 32, a.x_stride);
    acc.Flush();
  }
}

// Sums of code * q of R rows from `row` over pairs of groups [p0, p1) (all columns if the order is flat), and the rows'
// scales. False: a row has several scales, or one that is 0 or no number.
template <int R, class Acc>
HWY_INLINE bool RowSums(block::I2S, const TernaryArgs& a, size_t row, const int8_t* x, size_t p0, size_t p1, Acc& acc,
                        float* d) {
  for (int r = 0; r < R; ++r) d[r] = 1;
  acc.Clear();
  if constexpr (R == 1) {
    if (a.k % 128 != 0) {
      FlatRow(a, row, x, acc);
      return true;
    }
  }
  const size_t row_bytes = a.k / 4, groups = a.k / 128;
  const uint8_t* w = static_cast<const uint8_t*>(a.w) + row * row_bytes;
  PairedRow<64, R>(w + 64 * p0, row_bytes, p1 - p0, x + 256 * p0, a.x_stride, acc, [](const uint8_t*) {});
  if (groups % 2 != 0 && p1 == groups / 2) {
    acc.template Step<XLoad::kHalf>(w + 64 * p1, row_bytes, x + 256 * p1, 32, a.x_stride);
    acc.Flush();
  }
  return true;
}
template <int R, class Acc>
HWY_INLINE bool RowSums(block::TQ2_0, const TernaryArgs& a, size_t row, const int8_t* x, size_t p0, size_t p1, Acc& acc,
                        float* d) {
  using B = block::TQ2_0;
  const size_t row_bytes = a.k / B::kSize * B::kBytes;
  const uint8_t* w = static_cast<const uint8_t*>(a.w) + row * row_bytes;
  uint32_t bits[R], different = 0;
  for (size_t r = 0; r < R; ++r) bits[r] = LoadLe<uint16_t>(w + r * row_bytes + 64);
  acc.Clear();
  PairedRow<B::kBytes, R>(w + B::kBytes * p0, row_bytes, p1 - p0, x + 256 * p0, a.x_stride, acc, [&](const uint8_t* b) {
    WF_UNROLL for (size_t r = 0; r < R; ++r) {
      different |= bits[r] ^ uint32_t { LoadLe<uint16_t>(b + r * row_bytes + 64) };
    }
  });
  bool plain = different == 0;
  for (size_t r = 0; r < R; ++r) {
    d[r] = F16ToF32(static_cast<uint16_t>(bits[r]));
    const uint32_t size = bits[r] & 0x7fffu;
    plain = plain && size != 0 && size <= 0x7c00u;
  }
  return plain;
}

// dots[i * stride + r]: sums of code * q of rows row .. row + n - 1 (n <= 4) and T tokens from t; d: their scales.
// False: see RowSums.
template <class Block, int T>
HWY_NOINLINE bool RowDots(const TernaryArgs& a, size_t row, size_t n, size_t t, int32_t* dots, size_t stride,
                          float* d) noexcept {
  // One token: one row, the walk that memory likes best. More: two, which share the activations' loads.
  constexpr size_t R = T == 1 || !WF_ISA_VNNI ? 1 : 2;
  // The activations of three tokens and more stay in L1 only in pieces.
  constexpr size_t kPairs = T < 3 ? ~size_t{0} : 11;
  const bool flat = a.k % 128 != 0;
  const size_t pairs = a.k / 256, chunks = flat || pairs <= kPairs ? 1 : (pairs + kPairs - 1) / kPairs;
  const size_t chunk = (pairs + chunks - 1) / chunks;
  hn::Vec<DI32> total[4][T];
  WF_UNROLL for (int r = 0; r < 4; ++r) { WF_UNROLL for (int i = 0; i < T; ++i) total[r][i] = hn::Zero(DI32()); }
  const int8_t* x = a.x + t * a.x_stride;
  bool plain = true;
  for (size_t p0 = 0;; p0 += chunk) {
    const size_t p1 = p0 + chunk < pairs ? p0 + chunk : pairs;
    size_t r = 0;
    if constexpr (R == 2) {
      for (; r + 2 <= n && !flat; r += 2) {
        RowAcc<Block, 2, T> acc;
        plain = RowSums<2>(Block(), a, row + r, x, p0, p1, acc, d + r) && plain;
        WF_UNROLL for (int i = 0; i < T; ++i) {
          total[r][i] = hn::Add(total[r][i], acc.Total(0, i));
          total[r + 1][i] = hn::Add(total[r + 1][i], acc.Total(1, i));
        }
      }
    }
    for (; r < n; ++r) {
      RowAcc<Block, 1, T> acc;
      plain = RowSums<1>(Block(), a, row + r, x, p0, p1, acc, d + r) && plain;
      WF_UNROLL for (int i = 0; i < T; ++i) total[r][i] = hn::Add(total[r][i], acc.Total(0, i));
    }
    if (p1 == pairs) break;
  }
  WF_UNROLL for (size_t i = 0; i < T; ++i) {
    Sum4(total[0][i], total[1][i], total[2][i], total[3][i], dots + i * stride);
  }
  return plain;
}

}  // namespace WF_NAMESPACE
}  // namespace WF_MODE_NS
}  // namespace wf::detail
WF_AFTER_NAMESPACE();
#endif  // per-ISA guard
