// SPDX-License-Identifier: Apache-2.0
// Quantised dense blocks to floats, compiled once per ISA: the fast forms of DequantBlock (dense.h). The only sum in
// here, Q4_K's, is of exact products (17 and 21 bits), so that fusing could not change it.
#if defined(WF_KERNELS_DEQUANT_INL_H_) == defined(WF_TARGET_TOGGLE)
#ifdef WF_KERNELS_DEQUANT_INL_H_
#undef WF_KERNELS_DEQUANT_INL_H_
#else
#define WF_KERNELS_DEQUANT_INL_H_
#endif
#include "wf/kernels/kernels.h"
#include "wf/simd/ops-inl.h"

WF_BEFORE_NAMESPACE();
namespace wf::detail {
inline namespace WF_MODE_NS {
namespace WF_NAMESPACE {

template <DenseType T>
inline constexpr bool kQuantised = DenseBlock(T) != 1;

// 16 small integers in 32 bits each, from memory or a register.
struct I32Lanes {
  hn::Vec<hn::Rebind<int32_t, DF> > v[kParts];
};
template <class Int>
HWY_INLINE I32Lanes Ints16(const Int* q) {
  I32Lanes r;
  for (size_t i = 0; i < kParts; ++i) {
    r.v[i] = hn::PromoteTo(hn::Rebind<int32_t, DF>(), hn::LoadU(hn::Rebind<Int, DF>(), q + i * kLanes));
  }
  return r;
}
HWY_INLINE V16 Floats16(const I32Lanes& q) {
  V16 r;
  for (size_t i = 0; i < kParts; ++i) r.v[i] = hn::ConvertTo(DF(), q.v[i]);
  return r;
}

// What the nibbles of a block stand for: d * (q - kZero), or d * q - low. 512 bits hold all 16 values at once.
template <int kZero, bool kLow>
struct NibbleValues {
  HWY_INLINE NibbleValues(const V16& d, const V16& low) {
#if HWY_TARGET <= HWY_AVX3
    value = Mul16(d, V16{{hn::Iota(DF(), static_cast<float>(-kZero))}});
    if constexpr (kLow) value = Sub16(value, low);
  }
  V16 value;
#else
    scale = d;
    if constexpr (kLow) offset = low;
  }
  V16 scale, offset;
#endif
  // Of bits [kShift, kShift + 4) of each integer; bits above 8 are zeros.
  template <int kShift>
  HWY_INLINE V16 Get(const I32Lanes& byte) const {
    I32Lanes q = byte;
    const hn::Rebind<int32_t, DF> di;
    for (size_t i = 0; i < kParts; ++i) {
      if constexpr (kShift != 0) q.v[i] = hn::ShiftRight<kShift>(q.v[i]);
    }
#if HWY_TARGET <= HWY_AVX3
    (void)di;
    return V16{{VF{_mm512_permutexvar_ps(q.v[0].raw, value.v[0].raw)}}};  // looks at four bits
#else
    for (size_t i = 0; i < kParts; ++i) {
      if constexpr (kShift == 0) q.v[i] = hn::And(q.v[i], hn::Set(di, 15));
      if constexpr (kZero != 0) q.v[i] = hn::Sub(q.v[i], hn::Set(di, kZero));
    }
    const V16 v = Mul16(scale, Floats16(q));
    if constexpr (kLow) return Sub16(v, offset);
    return v;
#endif
  }
};

// Bits [n, n + 4) of each byte, n = 0 or 4; and the two bits from n.
using DQ = hn::FixedTag<uint8_t, 32>;
template <int n, class D>
HWY_INLINE hn::Vec<D> Bits(D d, hn::Vec<D> v, uint8_t mask) {
  const hn::Repartition<uint16_t, D> d16;
  return hn::And(hn::BitCast(d, hn::ShiftRight<n>(hn::BitCast(d16, v))), hn::Set(d, mask));
}

// 32 weights of Q6_K: the low four bits from `ql` at kLow, the high two from `qh` at kHigh; minus 32.
template <int kLow, int kHigh>
HWY_INLINE void Q6(hn::Vec<DQ> ql, hn::Vec<DQ> qh, int8_t* q) {
  const hn::Repartition<uint16_t, DQ> d16;
  const hn::RebindToSigned<DQ> di;
  const auto high = hn::BitCast(DQ(), hn::ShiftLeft<4>(hn::BitCast(d16, Bits<kHigh>(DQ(), qh, 3))));
  const auto v = hn::BitCast(di, hn::Or(Bits<kLow>(DQ(), ql, 15), high));
  hn::Store(hn::Sub(v, hn::Set(di, int8_t{32})), di, q);
}

// The scales of a block of Q4_K: d * sc of its eight parts of 32, then dmin * m.
HWY_INLINE V16 Q4KScales(const uint8_t* b) {
  const uint32_t s0 = LoadLe<uint32_t>(b + 4), s1 = LoadLe<uint32_t>(b + 8), s2 = LoadLe<uint32_t>(b + 12);
  constexpr uint32_t kSix = 0x3f3f3f3f, kFour = 0x0f0f0f0f, kTop = 0x30303030;
  const uint64_t sc = (s0 & kSix) | uint64_t{(s2 & kFour) | ((s0 >> 2) & kTop)} << 32;
  const uint64_t m = (s1 & kSix) | uint64_t{((s2 >> 4) & kFour) | ((s1 >> 2) & kTop)} << 32;
  const V16 d = Set16F16(LoadLe<uint16_t>(b)), dmin = Set16F16(LoadLe<uint16_t>(b + 2));
  const __m128i q = _mm_set_epi64x(static_cast<int64_t>(m), static_cast<int64_t>(sc));
#if HWY_TARGET <= HWY_AVX3
  const VF scale{_mm512_mask_blend_ps(0xff00, d.v[0].raw, dmin.v[0].raw)};
  return V16{{hn::Mul(scale, VF{_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(q))})}};
#else
  return V16{{hn::Mul(d.v[0], VF{_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(q))}),
              hn::Mul(dmin.v[0], VF{_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_unpackhi_epi64(q, q)))})}};
#endif
}

// Blocks as kernels take them: those of dense.h, or 16 floats.
template <DenseType T>
inline constexpr size_t kStep = kQuantised<T> ? DenseBlock(T) : 16;
template <DenseType T>
inline constexpr size_t kStepBytes = kStep<T> / DenseBlock(T) * DenseBlockBytes(T);

// One block in kGroups groups: Load(b), then Group(g, use) calls use(i, the 16 weights from i) for each i = 0, 16 .. of
// group g. Rows side by side advance by groups, because 16 additions to one row's sums are a long wait. Loops over
// groups stay rolled: unrolled, they would take bytes out of registers by shuffles instead of loads. `use` is a struct,
// not a lambda: those do not take part in the attributes of the region.
template <DenseType T>
struct DenseStep {  // floats
  static constexpr size_t kGroups = 1;
  const uint8_t* b;
  HWY_INLINE void Load(const uint8_t* from) { b = from; }
  template <class Use>
  HWY_INLINE void Group(size_t, const Use& use) const {
    use(0, LoadAs16<static_cast<FloatType>(T)>(b, 0));  // FloatType lists the same three first
  }
};
template <>
struct DenseStep<DenseType::kQ8_0> {
  static constexpr size_t kGroups = 1;
  const uint8_t* b;
  HWY_INLINE void Load(const uint8_t* from) { b = from; }
  template <class Use>
  HWY_INLINE void Group(size_t, const Use& use) const {
    const V16 d = Set16F16(LoadLe<uint16_t>(b));
    const int8_t* q = reinterpret_cast<const int8_t*>(b + 2);
    use(0, Mul16(d, Floats16(Ints16(q))));
    use(16, Mul16(d, Floats16(Ints16(q + 16))));
  }
};
template <>
struct DenseStep<DenseType::kQ4_0> {
  static constexpr size_t kGroups = 1;
  const uint8_t* b;
  HWY_INLINE void Load(const uint8_t* from) { b = from; }
  template <class Use>
  HWY_INLINE void Group(size_t, const Use& use) const {
    const NibbleValues<8, false> values(Set16F16(LoadLe<uint16_t>(b)), Zero16());
    const I32Lanes q = Ints16(b + 2);
    use(0, values.template Get<0>(q));
    use(16, values.template Get<4>(q));
  }
};
template <>
struct DenseStep<DenseType::kQ6_K> {
  static constexpr size_t kGroups = 8;
  alignas(64) float scale[16];
  alignas(32) int8_t q[256];
  HWY_INLINE void Load(const uint8_t* b) {
    WF_UNROLL for (size_t h = 0; h < 2; ++h) {
      const auto ql = hn::LoadU(DQ(), b + 64 * h), qm = hn::LoadU(DQ(), b + 64 * h + 32);
      const auto qh = hn::LoadU(DQ(), b + 128 + 32 * h);
      Q6<0, 0>(ql, qh, q + 128 * h);
      Q6<0, 2>(qm, qh, q + 128 * h + 32);
      Q6<4, 4>(ql, qh, q + 128 * h + 64);
      Q6<4, 6>(qm, qh, q + 128 * h + 96);
    }
    Store16(Mul16(Set16F16(LoadLe<uint16_t>(b + 208)), Floats16(Ints16(reinterpret_cast<const int8_t*>(b + 192)))),
            scale);
  }
  template <class Use>
  HWY_INLINE void Group(size_t g, const Use& use) const {
    use(32 * g, Mul16(Set16(scale[2 * g]), Floats16(Ints16(q + 32 * g))));
    use(32 * g + 16, Mul16(Set16(scale[2 * g + 1]), Floats16(Ints16(q + 32 * g + 16))));
  }
};
template <>
struct DenseStep<DenseType::kQ4_K> {
  static constexpr size_t kGroups = 4;
  alignas(64) float scale[16];
  const uint8_t* b;
  HWY_INLINE void Load(const uint8_t* from) {
    b = from;
    Store16(Q4KScales(b), scale);
  }
  template <class Use>
  HWY_INLINE void Group(size_t g, const Use& use) const {
    const I32Lanes q0 = Ints16(b + 16 + 32 * g), q1 = Ints16(b + 32 + 32 * g);
    const NibbleValues<0, true> low(Set16(scale[2 * g]), Set16(scale[2 * g + 8]));
    use(64 * g, low.template Get<0>(q0));
    use(64 * g + 16, low.template Get<0>(q1));
    const NibbleValues<0, true> high(Set16(scale[2 * g + 1]), Set16(scale[2 * g + 9]));
    use(64 * g + 32, high.template Get<4>(q0));
    use(64 * g + 48, high.template Get<4>(q1));
  }
};
template <DenseType T, class Use>
HWY_INLINE void Dequant(const uint8_t* b, const Use& use) {
  DenseStep<T> step;
  step.Load(b);
  WF_NO_UNROLL for (size_t g = 0; g < step.kGroups; ++g) step.Group(g, use);
}

// What to do with weights: keep them as floats, or add their products with the columns x of T tokens to a row's sums.
struct KeepFloats {
  float* y;
  HWY_INLINE void operator()(size_t i, const V16& w) const { Store16(w, y + i); }
};
template <int T>
struct AddProducts {
  const float* x;
  size_t x_stride;
  V16* acc;
  HWY_INLINE void operator()(size_t i, const V16& w) const {
    WF_UNROLL for (int t = 0; t < T; ++t) {
      acc[t] = Fma16(w, Load16(x + static_cast<size_t>(t) * x_stride + i), acc[t]);
    }
  }
};

}  // namespace WF_NAMESPACE
}  // namespace WF_MODE_NS
}  // namespace wf::detail
WF_AFTER_NAMESPACE();
#endif  // per-ISA guard
