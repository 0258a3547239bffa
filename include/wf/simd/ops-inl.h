// SPDX-License-Identifier: Apache-2.0
// The shim between kernels and Highway, once per ISA: a vector of 16 floats whatever the width (so that
// kernels have one order of summation, see kernels/ref.h), loads of 16-bit floats, and the u8 x i8 dot product
// that Highway 1.0.3 lacks.
#if defined(WF_SIMD_OPS_INL_H_) == defined(WF_TARGET_TOGGLE)
#ifdef WF_SIMD_OPS_INL_H_
#undef WF_SIMD_OPS_INL_H_
#else
#define WF_SIMD_OPS_INL_H_
#endif
#include <cstring>

#include "wf/base/half.h"
#include "wf/simd/region-inl.h"

#if defined(__clang__)
#define WF_UNROLL _Pragma("clang loop unroll(full)")
#define WF_NO_UNROLL _Pragma("clang loop unroll(disable)")
#else
#define WF_UNROLL _Pragma("GCC unroll 16")
#define WF_NO_UNROLL _Pragma("GCC unroll 1")
#endif

WF_BEFORE_NAMESPACE();
namespace wf::detail {
inline namespace WF_MODE_NS {
namespace WF_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// --- 16 floats -------------------------------------------------------------------------------------------
#if HWY_TARGET <= HWY_AVX3
using DF = hn::FixedTag<float, 16>;
inline constexpr size_t kParts = 1;
#else
using DF = hn::FixedTag<float, 8>;
inline constexpr size_t kParts = 2;
#endif
using VF = hn::Vec<DF>;
inline constexpr size_t kLanes = 16 / kParts;

struct F16Lanes {  // lanes 0..15
  VF v[kParts];
};
using V16 = F16Lanes;

HWY_INLINE V16 Zero16() {
  V16 r;
  for (size_t i = 0; i < kParts; ++i) r.v[i] = hn::Zero(DF());
  return r;
}
HWY_INLINE V16 Set16(float f) {
  V16 r;
  for (size_t i = 0; i < kParts; ++i) r.v[i] = hn::Set(DF(), f);
  return r;
}
HWY_INLINE V16 Load16(const float* p) {
  V16 r;
  for (size_t i = 0; i < kParts; ++i) r.v[i] = hn::LoadU(DF(), p + i * kLanes);
  return r;
}
HWY_INLINE void Store16(const V16& a, float* p) {
  for (size_t i = 0; i < kParts; ++i) hn::StoreU(a.v[i], DF(), p + i * kLanes);
}
// The first n (< 16) values, zeros after them; reads nothing beyond.
HWY_INLINE V16 LoadN16(const float* p, size_t n) {
  float t[16] = {};
  std::memcpy(t, p, n * sizeof(float));
  return Load16(t);
}
HWY_INLINE void StoreN16(const V16& a, float* p, size_t n) {
  float t[16];
  Store16(a, t);
  std::memcpy(p, t, n * sizeof(float));
}
#define WF_BINARY16(NAME, OP)                                            \
  HWY_INLINE V16 NAME(const V16& a, const V16& b) {                      \
    V16 r;                                                               \
    for (size_t i = 0; i < kParts; ++i) r.v[i] = hn::OP(a.v[i], b.v[i]); \
    return r;                                                            \
  }
WF_BINARY16(Add16, Add)
WF_BINARY16(Sub16, Sub)
WF_BINARY16(Mul16, Mul)
WF_BINARY16(Div16, Div)
WF_BINARY16(Max16, Max)
WF_BINARY16(Min16, Min)
#undef WF_BINARY16
// a * b + c, one rounding.
HWY_INLINE V16 Fma16(const V16& a, const V16& b, const V16& c) {
  V16 r;
  for (size_t i = 0; i < kParts; ++i) r.v[i] = hn::MulAdd(a.v[i], b.v[i], c.v[i]);
  return r;
}
// c - a * b, one rounding.
HWY_INLINE V16 NegFma16(const V16& a, const V16& b, const V16& c) {
  V16 r;
  for (size_t i = 0; i < kParts; ++i) r.v[i] = hn::NegMulAdd(a.v[i], b.v[i], c.v[i]);
  return r;
}
// The fold of ref.h: 16 -> 8 -> 4 -> 2 -> 1.
HWY_INLINE float Fold16(const V16& a) {
  const hn::FixedTag<float, 4> d4;
#if HWY_TARGET <= HWY_AVX3
  const hn::FixedTag<float, 8> d8;
  const auto h8 = hn::Add(hn::LowerHalf(d8, a.v[0]), hn::UpperHalf(d8, a.v[0]));
#else
  const auto h8 = hn::Add(a.v[0], a.v[1]);
#endif
  const auto h4 = hn::Add(hn::LowerHalf(d4, h8), hn::UpperHalf(d4, h8));
  float t[4];
  hn::StoreU(h4, d4, t);
  return (t[0] + t[2]) + (t[1] + t[3]);
}
// The same of four vectors at once: out[i] = Fold16(a[i]).
HWY_INLINE hn::Vec<hn::FixedTag<float, 4> > Fold4x16(const V16& a, const V16& b, const V16& c, const V16& d) {
#if HWY_TARGET <= HWY_AVX3
  const __m512 a0 = a.v[0].raw, b0 = b.v[0].raw, c0 = c.v[0].raw, d0 = d.v[0].raw;
  const __m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4(a0, b0, 0x44), _mm512_shuffle_f32x4(a0, b0, 0xee));
  const __m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4(c0, d0, 0x44), _mm512_shuffle_f32x4(c0, d0, 0xee));
  const __m512 v = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
  const __m256 lo = _mm512_castps512_ps256(v), hi = _mm512_extractf32x8_ps(v, 1);  // a b, c d: four sums each
#else
  const __m256 a8 = _mm256_add_ps(a.v[0].raw, a.v[1].raw), b8 = _mm256_add_ps(b.v[0].raw, b.v[1].raw);
  const __m256 c8 = _mm256_add_ps(c.v[0].raw, c.v[1].raw), d8 = _mm256_add_ps(d.v[0].raw, d.v[1].raw);
  const __m256 lo = _mm256_add_ps(_mm256_permute2f128_ps(a8, b8, 0x20), _mm256_permute2f128_ps(a8, b8, 0x31));
  const __m256 hi = _mm256_add_ps(_mm256_permute2f128_ps(c8, d8, 0x20), _mm256_permute2f128_ps(c8, d8, 0x31));
#endif
  // Lanes 0 and 1 of a c, b d, then 2 and 3; the last addition picks the sums in order.
  const __m256 two = _mm256_add_ps(_mm256_shuffle_ps(lo, hi, 0x44), _mm256_shuffle_ps(lo, hi, 0xee));  // a a c c | b b d d
  const __m256 one = _mm256_add_ps(two, _mm256_permute_ps(two, 0xf5));                                 // a . c . | b . d .
  const __m128 ac = _mm256_castps256_ps128(one), bd = _mm256_extractf128_ps(one, 1);
  return hn::Vec<hn::FixedTag<float, 4> >{_mm_unpacklo_ps(_mm_shuffle_ps(ac, ac, 0x88), _mm_shuffle_ps(bd, bd, 0x88))};
}
HWY_INLINE float Max16To1(const V16& a) {
  float m = hn::GetLane(hn::MaxOfLanes(DF(), a.v[0]));
  for (size_t i = 1; i < kParts; ++i) {
    const float o = hn::GetLane(hn::MaxOfLanes(DF(), a.v[i]));
    m = o > m ? o : m;
  }
  return m;
}
// kernels/ref.h ExpRef, 16 at a time.
HWY_INLINE V16 Exp16(const V16& a) {
  V16 r;
  const DF d;
  const hn::RebindToUnsigned<DF> du;
  for (size_t i = 0; i < kParts; ++i) {
    const VF magic = hn::Set(d, 12582912.0f);
    const auto under = hn::Not(hn::Ge(a.v[i], hn::Set(d, -87.33f)));
    const VF x = hn::Min(a.v[i], hn::Set(d, 88.37f));
    const VF t = hn::MulAdd(x, hn::Set(d, 1.44269504f), magic);
    const VF n = hn::Sub(t, magic);
    VF f = hn::MulAdd(n, hn::Set(d, -0.693359375f), x);
    f = hn::MulAdd(n, hn::Set(d, 2.12194440e-4f), f);
    VF p = hn::Set(d, 1.9875691500e-4f);
    p = hn::MulAdd(p, f, hn::Set(d, 1.3981999507e-3f));
    p = hn::MulAdd(p, f, hn::Set(d, 8.3334519073e-3f));
    p = hn::MulAdd(p, f, hn::Set(d, 4.1665795894e-2f));
    p = hn::MulAdd(p, f, hn::Set(d, 1.6666665459e-1f));
    p = hn::MulAdd(p, f, hn::Set(d, 5.0000001201e-1f));
    p = hn::MulAdd(p, hn::Mul(f, f), f);
    p = hn::Add(p, hn::Set(d, 1.0f));
    const auto two_n = hn::ShiftLeft<23>(hn::Add(hn::BitCast(du, t), hn::Set(du, 127u)));
    r.v[i] = hn::IfThenZeroElse(under, hn::Mul(p, hn::BitCast(d, two_n)));
  }
  return r;
}

// --- 16-bit floats: x86 conversions by hand, because the f16c ops of Highway 1.0.3 take half vectors only ------
template <FloatType T>
HWY_INLINE V16 LoadAs16(const void* base, size_t i) {
  if constexpr (T == FloatType::kF32) {
    return Load16(static_cast<const float*>(base) + i);
  } else {
    const uint16_t* p = static_cast<const uint16_t*>(base) + i;
    V16 r;
#if HWY_TARGET <= HWY_AVX3
    const __m256i h = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    if constexpr (T == FloatType::kF16) {
      r.v[0] = VF{_mm512_cvtph_ps(h)};
    } else {
      r.v[0] = VF{_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16))};
    }
#else
    for (size_t j = 0; j < 2; ++j) {
      const __m128i h = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8 * j));
      if constexpr (T == FloatType::kF16) {
        r.v[j] = VF{_mm256_cvtph_ps(h)};
      } else {
        r.v[j] = VF{_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16))};
      }
    }
#endif
    return r;
  }
}
template <FloatType T>
HWY_INLINE V16 LoadNAs16(const void* base, size_t i, size_t n) {
  if constexpr (T == FloatType::kF32) {
    return LoadN16(static_cast<const float*>(base) + i, n);
  } else {
    uint16_t t[16] = {};
    std::memcpy(t, static_cast<const uint16_t*>(base) + i, n * 2);
    return LoadAs16<T>(t, 0);
  }
}

// 32 vector registers with AVX-512 encodings, else 16.
inline constexpr bool kManyRegisters = HWY_TARGET <= HWY_AVX3 || WF_ISA_VNNI == 2;

// --- integer vectors of the width at hand --------------------------------------------------------------------
#if HWY_TARGET <= HWY_AVX3
inline constexpr size_t kVecBytes = 64;
#else
inline constexpr size_t kVecBytes = 32;
#endif
using DU8 = hn::FixedTag<uint8_t, kVecBytes>;
using DI8 = hn::FixedTag<int8_t, kVecBytes>;
using DI16 = hn::FixedTag<int16_t, kVecBytes / 2>;
using DI32 = hn::FixedTag<int32_t, kVecBytes / 4>;
using VU8 = hn::Vec<DU8>;
using VI8 = hn::Vec<DI8>;

// --- memory ----------------------------------------------------------------------------------------------------
// How far ahead of its use a line of weights is asked for. Measured: a walk over one row at a time reaches the bandwidth
// of plain reads from 8 KiB on; without it, or with rows side by side, about half (docs/benchmarks.md).
inline constexpr size_t kAhead = 8192;
HWY_INLINE void Prefetch(const uint8_t* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0); }
HWY_INLINE void PrefetchAhead(const uint8_t* p) { Prefetch(p + kAhead); }

// --- u8 x i8 -> i32: acc + a[4i..4i+3] . b[4i..4i+3] in each 32-bit lane ------------------------------------
#if WF_ISA_VNNI
// As assembly: GCC 12 moves the accumulators of the builtin between registers, two moves for each product.
template <class V8, class I8, class V32>
HWY_INLINE V32 Dot4(V8 a, I8 b, V32 acc) {
#if WF_ISA_VNNI == 1
  asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc.raw) : "x"(a.raw), "x"(b.raw));
#else
  asm("vpdpbusd %2, %1, %0" : "+v"(acc.raw) : "v"(a.raw), "v"(b.raw));
#endif
  return acc;
}
#else
// Pairs to i16. Codes are 0..3, so a pair is at most 2 * 3 * 128 = 768 and 42 of them fit an i16.
template <class V8, class I8>
HWY_INLINE hn::Vec<hn::Repartition<int16_t, hn::DFromV<I8> > > Dot2(V8 a, I8 b) {
  using V = hn::Vec<hn::Repartition<int16_t, hn::DFromV<I8> > >;
#if HWY_TARGET <= HWY_AVX3
  return V{_mm512_maddubs_epi16(a.raw, b.raw)};
#else
  return V{_mm256_maddubs_epi16(a.raw, b.raw)};
#endif
}
// i16 pairs to i32, added.
template <class V16i, class V32>
HWY_INLINE V32 Widen2(V16i a, V32 acc) {
#if HWY_TARGET <= HWY_AVX3
  return V32{_mm512_add_epi32(acc.raw, _mm512_madd_epi16(a.raw, _mm512_set1_epi16(1)))};
#else
  return V32{_mm256_add_epi32(acc.raw, _mm256_madd_epi16(a.raw, _mm256_set1_epi16(1)))};
#endif
}
#endif

// Horizontal sums of four vectors at once: transposed within 16 bytes while adding, then folded.
HWY_INLINE void Sum4(const hn::Vec<DI32>& a, const hn::Vec<DI32>& b, const hn::Vec<DI32>& c, const hn::Vec<DI32>& d,
                     int32_t* out) {
#if HWY_TARGET <= HWY_AVX3
  const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a.raw, b.raw), _mm512_unpackhi_epi32(a.raw, b.raw));
  const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c.raw, d.raw), _mm512_unpackhi_epi32(c.raw, d.raw));
  const __m512i w = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
  const __m256i v = _mm256_add_epi32(_mm512_castsi512_si256(w), _mm512_extracti64x4_epi64(w, 1));
#else
  const __m256i ab = _mm256_add_epi32(_mm256_unpacklo_epi32(a.raw, b.raw), _mm256_unpackhi_epi32(a.raw, b.raw));
  const __m256i cd = _mm256_add_epi32(_mm256_unpacklo_epi32(c.raw, d.raw), _mm256_unpackhi_epi32(c.raw, d.raw));
  const __m256i v = _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
#endif
  const __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), s);
}

HWY_INLINE V16 Set16F16(uint16_t h) {
  V16 r;
#if HWY_TARGET <= HWY_AVX3
  r.v[0] = VF{_mm512_cvtph_ps(_mm256_set1_epi16(static_cast<int16_t>(h)))};
#else
  for (size_t i = 0; i < kParts; ++i) r.v[i] = VF{_mm256_cvtph_ps(_mm_set1_epi16(static_cast<int16_t>(h)))};
#endif
  return r;
}
HWY_INLINE float F16ToF32(uint16_t h) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h))); }
// Four f16, the first in the low bits, to f32.
HWY_INLINE hn::Vec<hn::FixedTag<float, 4> > F16ToF32x4(uint64_t h) {
  return hn::Vec<hn::FixedTag<float, 4> >{_mm_cvtph_ps(_mm_cvtsi64_si128(static_cast<int64_t>(h)))};
}

}  // namespace WF_NAMESPACE
}  // namespace WF_MODE_NS
}  // namespace wf::detail
WF_AFTER_NAMESPACE();
#endif  // per-ISA guard
