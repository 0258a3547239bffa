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
inline constexpr bool kQuantised = T != DenseType::kF32&& T != DenseType::kF16&& T != DenseType::kBF16;

// y[i] = d * q[i], or d * q[i] - low, for N small integers.
template <size_t N, class Int>
HWY_INLINE void ScaleInts(const Int* q, float d, float* y) {
  const hn::Rebind<int32_t, DF> di;
  const hn::Rebind<Int, DF> dq;
  const VF vd = hn::Set(DF(), d);
  WF_UNROLL for (size_t i = 0; i < N; i += kLanes) {
    hn::StoreU(hn::Mul(vd, hn::ConvertTo(DF(), hn::PromoteTo(di, hn::LoadU(dq, q + i)))), DF(), y + i);
  }
}
template <size_t N>
HWY_INLINE void ScaleInts(const uint8_t* q, float d, float low, float* y) {
  const hn::Rebind<int32_t, DF> di;
  const hn::Rebind<uint8_t, DF> dq;
  const VF vd = hn::Set(DF(), d), vl = hn::Set(DF(), low);
  WF_UNROLL for (size_t i = 0; i < N; i += kLanes) {
    const VF v = hn::Mul(vd, hn::ConvertTo(DF(), hn::PromoteTo(di, hn::LoadU(dq, q + i))));
    hn::StoreU(hn::Sub(v, vl), DF(), y + i);
  }
}

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

// One block at b, DenseBlock(T) floats at y.
template <DenseType T>
HWY_INLINE void Dequant(const uint8_t* b, float* y) {
  if constexpr (T == DenseType::kQ8_0) {
    ScaleInts<32>(reinterpret_cast<const int8_t*>(b + 2), F16ToF32(LoadLe<uint16_t>(b)), y);
  } else if constexpr (T == DenseType::kQ4_0) {
    const hn::FixedTag<uint8_t, 16> d;
    const hn::FixedTag<int8_t, 16> di;
    alignas(16) int8_t q[32];
    const auto v = hn::LoadU(d, b + 2), eight = hn::Set(d, uint8_t{8});
    hn::Store(hn::BitCast(di, hn::Sub(Bits<0>(d, v, 15), eight)), di, q);
    hn::Store(hn::BitCast(di, hn::Sub(Bits<4>(d, v, 15), eight)), di, q + 16);
    ScaleInts<32>(q, F16ToF32(LoadLe<uint16_t>(b)), y);
  } else if constexpr (T == DenseType::kQ6_K) {
    const float d = F16ToF32(LoadLe<uint16_t>(b + 208));
    alignas(32) int8_t q[256];
    for (size_t h = 0; h < 2; ++h) {
      const auto ql = hn::LoadU(DQ(), b + 64 * h), qm = hn::LoadU(DQ(), b + 64 * h + 32);
      const auto qh = hn::LoadU(DQ(), b + 128 + 32 * h);
      Q6<0, 0>(ql, qh, q + 128 * h);
      Q6<0, 2>(qm, qh, q + 128 * h + 32);
      Q6<4, 4>(ql, qh, q + 128 * h + 64);
      Q6<4, 6>(qm, qh, q + 128 * h + 96);
    }
    float scale[16];
    ScaleInts<16>(reinterpret_cast<const int8_t*>(b + 192), d, scale);
    for (size_t s = 0; s < 16; ++s) ScaleInts<16>(q + 16 * s, scale[s], y + 16 * s);
  } else {
    static_assert(T == DenseType::kQ4_K);
    const float d = F16ToF32(LoadLe<uint16_t>(b)), dmin = F16ToF32(LoadLe<uint16_t>(b + 2));
    const uint8_t* s = b + 4;
    alignas(32) uint8_t q[64];
    for (size_t j = 0; j < 8; ++j) {
      if (j % 2 == 0) {
        const auto v = hn::LoadU(DQ(), b + 16 + 16 * j);
        hn::Store(Bits<0>(DQ(), v, 15), DQ(), q);
        hn::Store(Bits<4>(DQ(), v, 15), DQ(), q + 32);
      }
      const uint32_t sc = j < 4 ? s[j] & 63u : (s[j + 4] & 15u) | (uint32_t{s[j - 4]} >> 6) << 4;
      const uint32_t m = j < 4 ? s[j + 4] & 63u : (uint32_t{s[j + 4]} >> 4) | (uint32_t{s[j]} >> 6) << 4;
      ScaleInts<32>(q + 32 * (j % 2), d * static_cast<float>(sc), dmin * static_cast<float>(m), y + 32 * j);
    }
  }
}

}  // namespace WF_NAMESPACE
}  // namespace WF_MODE_NS
}  // namespace wf::detail
WF_AFTER_NAMESPACE();
#endif  // per-ISA guard
