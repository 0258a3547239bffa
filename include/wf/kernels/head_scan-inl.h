// SPDX-License-Identifier: Apache-2.0
// The kernels of head_scan.h, compiled once per ISA. A single token reads its codes from memory once, so the scan goes
// one row after the other in the order of the addresses, far enough ahead of itself; several tokens take turns over a
// block of rows that stays in the cache.
#if defined(WF_KERNELS_HEAD_SCAN_INL_H_) == defined(WF_TARGET_TOGGLE)
#ifdef WF_KERNELS_HEAD_SCAN_INL_H_
#undef WF_KERNELS_HEAD_SCAN_INL_H_
#else
#define WF_KERNELS_HEAD_SCAN_INL_H_
#endif
#include <limits>

#include "wf/kernels/dequant-inl.h"
#include "wf/kernels/head_parts.h"
#include "wf/kernels/kernels.h"
#include "wf/simd/ops-inl.h"

WF_BEFORE_NAMESPACE();
namespace wf::detail {
inline namespace WF_MODE_NS {
namespace WF_NAMESPACE {

// --- packing ----------------------------------------------------------------------------------------------

// 16 columns of a row: their codes, and what they add to the sums. n < 16: only the first n count.
HWY_INLINE void PackHead16(const float* w, VF inverse, size_t n, uint8_t* codes, V16* r, V16* u) {
  const DF d;
  const hn::RebindToSigned<DF> di;
  const hn::Rebind<uint8_t, DF> d8;
  V16 e, v;
  WF_UNROLL for (size_t p = 0; p < kParts; ++p) {
    const VF x = hn::LoadU(d, w + p * kLanes);
    const auto code = hn::ConvertTo(di, hn::MulAdd(x, inverse, hn::Set(d, 32.0f)));
    hn::StoreU(hn::DemoteTo(d8, code), d8, codes + p * kLanes);
    e.v[p] = hn::MulAdd(x, inverse, hn::Sub(hn::Set(d, 31.5f), hn::ConvertTo(d, code)));
    v.v[p] = hn::Mul(x, inverse);
  }
  if (n < 16) {
    float t[16];
    Store16(e, t);
    e = LoadN16(t, n);
    Store16(v, t);
    v = LoadN16(t, n);
  }
  *r = Fma16(e, e, *r);
  *u = Fma16(v, v, *u);
}

HWY_INLINE void PackHeadCodes(const uint8_t* codes, uint8_t* g) {
  const DU8 d;
  const hn::Repartition<uint16_t, DU8> d16;
  const VU8 low = hn::Set(d, uint8_t{15}), high = hn::Set(d, uint8_t{0x30});
  for (size_t i = 0; i < 64; i += kVecBytes) {
    VU8 l[4], h[4];
    WF_UNROLL for (size_t j = 0; j < 4; ++j) {
      const VU8 c = hn::LoadU(d, codes + 64 * j + i);
      l[j] = hn::And(c, low);
      h[j] = hn::And(c, high);
    }
    // The bits that a shift moves stay inside their bytes.
    const auto pair = [&](VU8 even, VU8 odd) {
      return hn::Or(even, hn::BitCast(d, hn::ShiftLeft<4>(hn::BitCast(d16, odd))));
    };
    hn::StoreU(pair(l[0], l[1]), d, g + i);
    hn::StoreU(pair(l[2], l[3]), d, g + 64 + i);
    const VU8 ab = hn::Or(hn::BitCast(d, hn::ShiftRight<4>(hn::BitCast(d16, h[0]))),
                          hn::BitCast(d, hn::ShiftRight<2>(hn::BitCast(d16, h[1]))));
    const VU8 cd = hn::Or(h[2], hn::BitCast(d, hn::ShiftLeft<2>(hn::BitCast(d16, h[3]))));
    hn::StoreU(hn::Or(ab, cd), d, g + 128 + i);
  }
}

// The row in a.scratch, zeros up to HeadPaddedK(k).
template <int = 0>
HWY_NOINLINE void PackHeadRow(const HeadPackArgs& a, size_t row) {
  const size_t padded = HeadPaddedK(a.k);
  const float* w = a.scratch;
  V16 most = Zero16(), sane = Zero16();
  for (size_t i = 0; i < padded; i += 16) {
    const V16 v = Load16(w + i);
    for (size_t p = 0; p < kParts; ++p) most.v[p] = hn::Max(hn::Abs(v.v[p]), most.v[p]);
    sane = Fma16(v, Zero16(), sane);
  }
  if (!(Fold16(sane) == 0.0f)) {
    a.parts.scale[row] = a.parts.error[row] = a.parts.group_error[row] = 0;
    a.parts.norm[row] = std::numeric_limits<float>::quiet_NaN();
    return;
  }
  const float top = Max16To1(most), inverse = top < kHeadTiny ? 0.0f : 31.5f / top;
  const VF vi = hn::Set(DF(), inverse);
  float sum_r = 0, most_r = 0, sum_u = 0;
  uint8_t* g = a.codes + row * HeadRowBytes(a.k);
  for (size_t first = 0; first < padded; first += kHeadGroup, g += kHeadGroupBytes) {
    alignas(64) uint8_t codes[kHeadGroup];
    for (size_t half = 0; half < kHeadGroup; half += kHeadErrorGroup) {
      V16 r = Zero16(), u = Zero16();
      for (size_t i = half; i < half + kHeadErrorGroup; i += 16) {
        const size_t c = first + i, left = c < a.k ? a.k - c : 0;
        PackHead16(w + c, vi, left, codes + i, &r, &u);
      }
      const float group = Fold16(r);
      most_r = group > most_r ? group : most_r;
      sum_r = sum_r + group;
      sum_u = sum_u + Fold16(u);
    }
    PackHeadCodes(codes, g);
  }
  SetHeadParts(top, sum_r, most_r, sum_u, a.k, row, a.parts);
}

template <DenseType T>
HWY_NOINLINE void HeadPack(const HeadPackArgs& a) noexcept {
  float* w = a.scratch;
  for (size_t i = a.k; i < HeadPaddedK(a.k); ++i) w[i] = 0;
  for (size_t row = a.row_begin; row < a.row_end; ++row) {
    if constexpr (kQuantised<T>) {
      constexpr size_t kN = DenseBlock(T), kBytes = DenseBlockBytes(T);
      const uint8_t* b = static_cast<const uint8_t*>(a.w) + row * (a.k / kN) * kBytes;
      for (size_t i = 0; i < a.k; i += kN, b += kBytes) Dequant<T>(b, KeepFloats{w + i});
    } else {
      constexpr FloatType F = static_cast<FloatType>(T);
      size_t i = 0;
      for (; i + 16 <= a.k; i += 16) Store16(LoadAs16<F>(a.w, row * a.k + i), w + i);
      if (i < a.k) StoreN16(LoadNAs16<F>(a.w, row * a.k + i, a.k - i), w + i, a.k - i);
    }
    PackHeadRow(a, row);
  }
}

// --- scanning ---------------------------------------------------------------------------------------------

// Four vectors of codes, of columns o, o + 64, o + 128, o + 192 of the group at w.
HWY_INLINE void UnpackHead(const uint8_t* w, size_t o, VU8 (&c)[4]) {
  const DU8 d;
  const hn::Repartition<uint16_t, DU8> d16;
  const VU8 low = hn::Set(d, uint8_t{15}), high = hn::Set(d, uint8_t{0x30});
  const VU8 a = hn::LoadU(d, w + o), b = hn::LoadU(d, w + 64 + o), h = hn::LoadU(d, w + 128 + o);
  const auto h16 = hn::BitCast(d16, h);
  const auto upper = [&](VU8 v) { return hn::And(hn::BitCast(d, hn::ShiftRight<4>(hn::BitCast(d16, v))), low); };
  c[0] = hn::Or(hn::And(a, low), hn::And(hn::BitCast(d, hn::ShiftLeft<4>(h16)), high));
  c[1] = hn::Or(upper(a), hn::And(hn::BitCast(d, hn::ShiftLeft<2>(h16)), high));
  c[2] = hn::Or(hn::And(b, low), hn::And(h, high));
  c[3] = hn::Or(upper(b), hn::And(hn::BitCast(d, hn::ShiftRight<2>(h16)), high));
}

inline constexpr int kHeadTokens = kManyRegisters ? 4 : 2;
// Rows that share the loads of several tokens' activations, where the registers hold their sums.
inline constexpr int kHeadRows = WF_ISA_VNNI >= 2 ? 2 : 1;

// Sums of codes times hi (out[r][2 t]) and times lo (out[r][2 t + 1]) of R rows and T tokens.
template <int R, int T>
HWY_INLINE void HeadRow(const uint8_t* w, size_t row_bytes, size_t padded, size_t ahead, const HeadInput* x,
                        int32_t (*out)[2 * kHeadTokens]) {
  constexpr int kChains = T == 1 ? 2 : 1;  // one token alone has too few sums to hide the latency of a product
  hn::Vec<DI32> hi[R][T][kChains], lo[R][T][kChains];
  WF_UNROLL for (int r = 0; r < R; ++r) {
    WF_UNROLL for (int t = 0; t < T; ++t) {
      WF_UNROLL for (int s = 0; s < kChains; ++s) hi[r][t][s] = lo[r][t][s] = hn::Zero(DI32());
    }
  }
  for (size_t first = 0; first < padded; first += kHeadGroup, w += kHeadGroupBytes) {
    WF_UNROLL for (size_t r = 0; r < R; ++r) {
      WF_UNROLL for (size_t i = 0; i < kHeadGroupBytes; i += 64) { Prefetch(w + r * row_bytes + ahead + i); }
    }
    WF_UNROLL for (size_t o = 0; o < 64; o += kVecBytes) {
      VU8 c[R][4];
      WF_UNROLL for (size_t r = 0; r < R; ++r) UnpackHead(w + r * row_bytes, o, c[r]);
      WF_UNROLL for (int t = 0; t < T; ++t) {
        const int8_t* xh = x[t].codes + first + o;
        const int8_t* xl = xh + padded;
#if WF_ISA_VNNI
        WF_UNROLL for (size_t j = 0; j < 4; ++j) {
          const VI8 h = hn::LoadU(DI8(), xh + 64 * j), l = hn::LoadU(DI8(), xl + 64 * j);
          WF_UNROLL for (int r = 0; r < R; ++r) {
            hi[r][t][j % kChains] = Dot4(c[r][j], h, hi[r][t][j % kChains]);
            lo[r][t][j % kChains] = Dot4(c[r][j], l, lo[r][t][j % kChains]);
          }
        }
#else
        static_assert(R == 1);
        // In an i16: two pairs of hi are at most 4 * 63 * 127 = 32004, four of lo 8 * 63 * 64 = 32256.
        WF_UNROLL for (size_t j = 0; j < 4; j += 2) {
          const auto pairs = hn::Add(Dot2(c[0][j], hn::LoadU(DI8(), xh + 64 * j)),
                                     Dot2(c[0][j + 1], hn::LoadU(DI8(), xh + 64 * j + 64)));
          hi[0][t][j / 2 % kChains] = Widen2(pairs, hi[0][t][j / 2 % kChains]);
        }
        const auto low =
            hn::Add(hn::Add(Dot2(c[0][0], hn::LoadU(DI8(), xl)), Dot2(c[0][1], hn::LoadU(DI8(), xl + 64))),
                    hn::Add(Dot2(c[0][2], hn::LoadU(DI8(), xl + 128)), Dot2(c[0][3], hn::LoadU(DI8(), xl + 192))));
        lo[0][t][0] = Widen2(low, lo[0][t][0]);
#endif
      }
    }
  }
  WF_UNROLL for (int r = 0; r < R; ++r) {
    WF_UNROLL for (int t = 0; t < T; t += 2) {
      const int next = T > 1 ? t + 1 : t;
      if constexpr (kChains == 2) {
        hi[r][t][0] = hn::Add(hi[r][t][0], hi[r][t][kChains - 1]);
        lo[r][t][0] = hn::Add(lo[r][t][0], lo[r][t][kChains - 1]);
      }
      Sum4(hi[r][t][0], lo[r][t][0], hi[r][next][0], lo[r][next][0], out[r] + 2 * t);  // T = 1: with a repetition
    }
  }
}

// Bounds of n <= 16 rows of a block from their sums, sums[r][2 t] and sums[r][2 t + 1].
template <int = 0>
HWY_INLINE void HeadBounds(const HeadScanArgs& a, size_t row, size_t n, size_t token, size_t t,
                           const int32_t (&sums)[kHeadBlock][2 * kHeadTokens]) {
  const HeadInput& x = a.x[token];
  const hn::RebindToSigned<DF> di;
  alignas(64) int32_t hi[kHeadBlock] = {}, lo[kHeadBlock] = {};
  for (size_t r = 0; r < n; ++r) {
    hi[r] = 2 * sums[r][2 * t] - x.hi63;
    lo[r] = 2 * sums[r][2 * t + 1] - x.lo63;
  }
  const auto load = [&](const float* p) { return n == kHeadBlock ? Load16(p + row) : LoadN16(p + row, n); };
  V16 fh, fl;
  for (size_t p = 0; p < kParts; ++p) {
    fh.v[p] = hn::ConvertTo(DF(), hn::Load(di, hi + p * kLanes));
    fl.v[p] = hn::ConvertTo(DF(), hn::Load(di, lo + p * kLanes));
  }
  const V16 sum = Fma16(Set16(128.0f), fh, fl);
  const V16 e = Mul16(load(a.parts.error), Set16(x.x_norm));
  const V16 g = Mul16(load(a.parts.group_error), Set16(x.x_groups));
  const V16 bound = Add16(Fma16(load(a.parts.norm), Set16(x.spread), Set16(kHeadTiny)), Min16(e, g));
  const V16 upper = Fma16(Mul16(load(a.parts.scale), Set16(x.half_step)), sum, bound);
  float* out = a.upper + token * a.stride + row;
  float best = 0;
  if (n == kHeadBlock) {
    Store16(upper, out);
    best = Max16To1(upper);
  } else {
    StoreN16(upper, out, n);
    best = out[0];
    for (size_t r = 1; r < n; ++r) best = out[r] > best ? out[r] : best;
  }
  a.best[token * a.best_stride + row / kHeadBlock] = best;
}

template <int T>
HWY_INLINE void HeadTile(const HeadScanArgs& a, size_t row, size_t n, size_t token, size_t ahead) {
  const size_t padded = HeadPaddedK(a.k), row_bytes = HeadRowBytes(a.k);
  alignas(64) int32_t sums[kHeadBlock][2 * kHeadTokens];
  size_t r = 0;
  if constexpr (kHeadRows > 1 && T > 1) {
    for (; r + kHeadRows <= n; r += kHeadRows) {
      HeadRow<kHeadRows, T>(a.codes + (row + r) * row_bytes, row_bytes, padded, ahead, a.x + token, sums + r);
    }
  }
  for (; r < n; ++r) {
    HeadRow<1, T>(a.codes + (row + r) * row_bytes, row_bytes, padded, ahead, a.x + token, sums + r);
  }
  for (size_t t = 0; t < T; ++t) HeadBounds(a, row, n, token + t, t, sums);
}

template <int = 0>
HWY_NOINLINE void HeadScan(const HeadScanArgs& a) noexcept {
  for (size_t row = a.row_begin; row < a.row_end; row += kHeadBlock) {
    const size_t n = a.row_end - row < kHeadBlock ? a.row_end - row : kHeadBlock;
    size_t t = 0;
    for (; t + kHeadTokens <= a.tokens; t += kHeadTokens) HeadTile<kHeadTokens>(a, row, n, t, t == 0 ? kAhead : 0);
    for (; t < a.tokens; ++t) HeadTile<1>(a, row, n, t, t == 0 ? kAhead : 0);
  }
}

}  // namespace WF_NAMESPACE
}  // namespace WF_MODE_NS
}  // namespace wf::detail
WF_AFTER_NAMESPACE();
namespace wf::detail {
inline namespace WF_MODE_NS {
template <DenseType T>
void HeadPackKernel(isa::WF_ISA_TAG, const HeadPackArgs& a) noexcept {
  WF_NAMESPACE::HeadPack<T>(a);
}
template <int>
void HeadScanKernel(isa::WF_ISA_TAG, const HeadScanArgs& a) noexcept {
  WF_NAMESPACE::HeadScan(a);
}
}  // namespace WF_MODE_NS
}  // namespace wf::detail
#endif  // per-ISA guard
