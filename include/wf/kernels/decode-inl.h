// SPDX-License-Identifier: Apache-2.0
// Packed ternary rows to one code a byte, compiled once per ISA: the fast forms of block.h's Code(), in the order that
// the type's activations have (block.h, ActOrder).
#if defined(WF_KERNELS_DECODE_INL_H_) == defined(WF_TARGET_TOGGLE)
#ifdef WF_KERNELS_DECODE_INL_H_
#undef WF_KERNELS_DECODE_INL_H_
#else
#define WF_KERNELS_DECODE_INL_H_
#endif
#include <cstring>

#include "wf/kernels/kernels.h"
#include "wf/simd/ops-inl.h"

WF_BEFORE_NAMESPACE();
namespace wf::detail {
inline namespace WF_MODE_NS {
namespace WF_NAMESPACE {

// DecodeRow(Block, w, k, row, col, n, out): the codes of columns col .. col + n - 1 of one row. col is a multiple of
// 256, n of Block::kSize but where the type has no such limit; exactly n bytes are written.

using D32 = hn::FixedTag<uint32_t, kVecBytes / 4>;
using VU32 = hn::Vec<D32>;

// The two low bits of each byte of v >> n. What shifts in from a neighbour is masked away.
template <int n, class V>
HWY_INLINE V Field(V v) {
  const hn::DFromV<V> d;
  const hn::Repartition<uint16_t, hn::DFromV<V>> d16;
  return hn::And(hn::BitCast(d, hn::ShiftRight<n>(hn::BitCast(d16, v))), hn::Set(d, uint8_t{3}));
}
// The same with a count for each 32 bits.
HWY_INLINE VU8 Fields(VU8 v, VU32 counts) {
  return hn::And(hn::BitCast(DU8(), hn::BitCast(D32(), v) >> counts), hn::Set(DU8(), uint8_t{3}));
}
struct alignas(64) Counts {
  uint32_t n[16];
};
inline constexpr Counts kUp = {{0, 0, 0, 0, 2, 2, 2, 2, 4, 4, 4, 4, 6, 6, 6, 6}},
                        kDown = {{6, 6, 6, 6, 4, 4, 4, 4, 2, 2, 2, 2, 0, 0, 0, 0}},
                        kWithin = {{0, 2, 4, 6, 0, 2, 4, 6, 0, 2, 4, 6, 0, 2, 4, 6}};

// 16 bytes of four fields each, a field's 16 codes after the other's, in the order of `counts`.
HWY_INLINE void Decode64(const uint8_t* b, const Counts& counts, uint8_t* out) {
  const VU8 v = hn::LoadDup128(DU8(), b);
  WF_UNROLL for (size_t i = 0; i < 64; i += kVecBytes) {
    hn::StoreU(Fields(v, hn::Load(D32(), counts.n + i / 4)), DU8(), out + i);
  }
}

// (3 v) >> 8 in each byte, the leading base-3 digit: the top two bits of floor(3 v / 4) = v - ceil(v / 4), and averages
// round up.
template <class V>
HWY_INLINE V Digit(V v) {
  const V zero = hn::Zero(hn::DFromV<V>());
  return Field<6>(hn::Sub(v, hn::AverageRound(hn::AverageRound(v, zero), zero)));
}
// v * m mod 256 in each byte; `even` and `odd` hold m of those bytes in 16 bits each.
template <class V, class V16u>
HWY_INLINE V MulBytes(V v, V16u even, V16u odd) {
  const hn::DFromV<V> d;
  const hn::DFromV<V16u> d16;
  const auto w = hn::BitCast(d16, v);
  const auto low = hn::And(hn::Mul(w, even), hn::Set(d16, uint16_t{0x00ff}));
  const auto high = hn::Mul(hn::And(w, hn::Set(d16, uint16_t{0xff00})), odd);
  return hn::BitCast(d, hn::Or(low, high));
}

// The four fields of each of 64 bytes, 256 codes in the paired order of block.h; `shift` of the first segment, then in
// steps of -2 (I2_S) or 2 (TQ2_0).
template <int kFirst>
HWY_INLINE void DecodePair(const uint8_t* w, uint8_t* out) {
  constexpr int kStep = kFirst == 0 ? 2 : -2;
  WF_UNROLL for (size_t h = 0; h < 64; h += kVecBytes) {
    const VU8 v = hn::LoadU(DU8(), w + h);
    hn::StoreU(Field<kFirst>(v), DU8(), out + h);
    hn::StoreU(Field<kFirst + kStep>(v), DU8(), out + 64 + h);
    hn::StoreU(Field<kFirst + 2 * kStep>(v), DU8(), out + 128 + h);
    hn::StoreU(Field<kFirst + 3 * kStep>(v), DU8(), out + 192 + h);
  }
}
// k % 128 == 0.
HWY_INLINE void DecodeRow(block::I2S, const uint8_t* w, size_t k, size_t row, size_t col, size_t n, uint8_t* out) {
  const uint8_t* b = w + (row * k + col) / 4;
  size_t i = 0;
  for (; i + 256 <= n; i += 256, b += 64) {
    PrefetchAhead(b);
    DecodePair<6>(b, out + i);
  }
  if (i < n) {  // a last single group
    const hn::FixedTag<uint8_t, 32> d;
    const auto v = hn::LoadU(d, b);
    hn::StoreU(Field<6>(v), d, out + i);
    hn::StoreU(Field<4>(v), d, out + i + 32);
    hn::StoreU(Field<2>(v), d, out + i + 64);
    hn::StoreU(Field<0>(v), d, out + i + 96);
  }
}
HWY_INLINE void DecodeRow(block::TQ2_0, const uint8_t* w, size_t k, size_t row, size_t col, size_t n, uint8_t* out) {
  const uint8_t* b = block::TQ2_0::Block(w, k, row, col);
  for (size_t i = 0; i < n; i += 256, b += block::TQ2_0::kBytes) {
    PrefetchAhead(b);
    DecodePair<0>(b, out + i);
  }
}

struct alignas(16) DigitWeights {  // 3^0 .. 3^3 for four bytes each
  uint16_t m[8];
};
inline constexpr DigitWeights kFourDigits = {{1, 1, 3, 3, 9, 9, 27, 27}};

HWY_INLINE void DecodeRow(block::TQ1_0, const uint8_t* w, size_t k, size_t row, size_t col, size_t n, uint8_t* out) {
  const hn::FixedTag<uint8_t, 32> d;
  const hn::FixedTag<uint8_t, 16> half;
  const uint8_t* b = block::TQ1_0::Block(w, k, row, col);
  const auto four = hn::Load(hn::FixedTag<uint16_t, 8>(), kFourDigits.m);
  for (size_t i = 0; i < n; i += 256, b += block::TQ1_0::kBytes) {
    uint8_t* o = out + i;
    // 32 bytes of five digits, then 16: each store of those is 32 wide, the next one covers what is too much.
#if HWY_TARGET <= HWY_AVX3
    auto v = hn::Combine(DU8(), hn::ZeroExtendVector(d, hn::LoadU(half, b + 32)), hn::LoadU(d, b));
    WF_UNROLL for (size_t j = 0; j < 5; ++j) {
      const auto c = Digit(v);
      hn::StoreU(hn::LowerHalf(d, c), d, o + 32 * j);
      hn::StoreU(hn::UpperHalf(d, c), d, o + 160 + 16 * j);
      v = hn::Add(v, hn::Add(v, v));
    }
#else
    auto v = hn::LoadU(d, b);
    auto u = hn::LoadU(half, b + 32);
    WF_UNROLL for (size_t j = 0; j < 5; ++j) {
      hn::StoreU(Digit(v), d, o + 32 * j);
      hn::StoreU(Digit(u), half, o + 160 + 16 * j);
      v = hn::Add(v, hn::Add(v, v));
      u = hn::Add(u, hn::Add(u, u));
    }
#endif
    uint32_t last;  // four bytes of four digits
    std::memcpy(&last, b + 48, 4);
    const auto t = hn::BitCast(half, hn::Set(hn::FixedTag<uint32_t, 4>(), last));
    hn::StoreU(Digit(MulBytes(t, four, four)), half, o + 240);
  }
}

// Where the 64 weights of a block of IQ1_BN are: byte of the 13, and the power of 3 that brings the digit to the top,
// for even and odd bytes.
struct alignas(64) Iq1BnTable {
  uint8_t byte[64] = {};
  uint16_t even[32] = {}, odd[32] = {};
};
inline constexpr Iq1BnTable kIq1Bn = [] {
  constexpr uint16_t kPow3[] = {1, 3, 9, 27, 81};
  Iq1BnTable t;
  for (size_t i = 0; i < 64; ++i) {
    const size_t q = i / 16, r = i % 16;
    t.byte[i] = static_cast<uint8_t>(r < 15 ? 3 * q + r / 5 : 12);
    (i % 2 == 0 ? t.even : t.odd)[i / 2] = kPow3[r < 15 ? 4 - r % 5 : 4 - q];
  }
  return t;
}();

HWY_INLINE void DecodeRow(block::IQ1_BN, const uint8_t* w, size_t k, size_t row, size_t col, size_t n, uint8_t* out) {
  using B = block::IQ1_BN;
  const hn::Repartition<uint16_t, DU8> d16;
  const uint8_t* b = w + row * (B::kHeader + k / B::kSize * B::kBytes) + B::kHeader + col / B::kSize * B::kBytes;
  for (size_t i = 0; i < n; i += 64, b += B::kBytes) {
    VU8 v;
    if (col + i + 64 < k) {  // 16 bytes may be read: another block follows
      v = hn::LoadDup128(DU8(), b);
    } else {
      alignas(16) uint8_t last[16] = {};
      std::memcpy(last, b, B::kBytes);
      v = hn::LoadDup128(DU8(), last);
    }
    WF_UNROLL for (size_t j = 0; j < 64; j += kVecBytes) {
      const auto bytes = hn::TableLookupBytes(v, hn::Load(DU8(), kIq1Bn.byte + j));
      const auto m = MulBytes(bytes, hn::Load(d16, kIq1Bn.even + j / 2), hn::Load(d16, kIq1Bn.odd + j / 2));
      hn::StoreU(Digit(m), DU8(), out + i + j);
    }
  }
}

HWY_INLINE void DecodeRow(block::IQ2_BN, const uint8_t* w, size_t k, size_t row, size_t col, size_t n, uint8_t* out) {
  using B = block::IQ2_BN;
  const uint8_t* b = w + row * (B::kHeader + k / B::kSize * B::kBytes) + B::kHeader + col / B::kSize * B::kBytes;
  for (size_t i = 0; i < n; i += 64, b += B::kBytes) Decode64(b, kUp, out + i);
}

// Four rows share their bytes; each is decoded by itself, the bytes come from the cache.
HWY_INLINE void DecodeRow(block::IQ2_BN_R4, const uint8_t* w, size_t k, size_t row, size_t col, size_t n,
                          uint8_t* out) {
  const uint8_t* b = block::IQ2_BN_R4::Group(w, k, row) + 16 + col;
  // The row's 32 bits of each 16 bytes, four times.
  const auto index = hn::BitCast(DU8(), hn::Set(D32(), 0x03020100u + 0x04040404u * static_cast<uint32_t>(row % 4)));
  const auto counts = hn::Load(D32(), kWithin.n);
  for (size_t i = 0; i < n; i += kVecBytes) {
    hn::StoreU(Fields(hn::TableLookupBytes(hn::LoadU(DU8(), b + i), index), counts), DU8(), out + i);
  }
}

// Q2_0 and its variant: four consecutive columns a byte.
template <TensorType T, size_t N>
HWY_INLINE void DecodeRow(block::Q2<T, N>, const uint8_t* w, size_t k, size_t row, size_t col, size_t n, uint8_t* out) {
  using B = block::Q2<T, N>;
  const D32 d;
  const uint8_t* b = B::Block(w, k, row, col) + 2;
  for (size_t i = 0; i < n; i += N, b += B::kBytes) {
    WF_UNROLL for (size_t j = 0; j < N; j += kVecBytes) {
      // Field f goes to byte f: bits 2f, 2f + 1 move up by 6f; the copies do not touch what the mask keeps.
      auto v = hn::PromoteTo(d, hn::LoadU(hn::FixedTag<uint8_t, kVecBytes / 4>(), b + j / 4));
      v = hn::Or(v, hn::ShiftLeft<12>(v));
      v = hn::And(hn::Or(v, hn::ShiftLeft<6>(v)), hn::Set(d, 0x03030303u));
      hn::StoreU(hn::BitCast(DU8(), v), DU8(), out + i + j);
    }
  }
}

HWY_INLINE void DecodeRow(block::I2S_ARM64, const uint8_t* w, size_t k, size_t row, size_t col, size_t n,
                          uint8_t* out) {
  if (k % 64 != 0) {  // rows begin inside a group
    for (size_t i = 0; i < n; ++i) out[i] = static_cast<uint8_t>(block::I2S_ARM64::Code(w, k, row, col + i));
    return;
  }
  const uint8_t* b = w + (row * k + col) / 4;
  for (size_t i = 0; i < n; i += 64, b += 16) Decode64(b, kDown, out + i);
}

HWY_INLINE void DecodeRow(block::I2S_X4, const uint8_t* w, size_t k, size_t row, size_t col, size_t n, uint8_t* out) {
  const uint8_t* b = w + row / 4 * k + col;
  const uint32_t shift = static_cast<uint32_t>(6 - 2 * (row % 4));
  const auto counts = hn::Set(D32(), shift);
  size_t i = 0;
  for (; i + kVecBytes <= n; i += kVecBytes) {
    hn::StoreU(Fields(hn::LoadU(DU8(), b + i), counts), DU8(), out + i);
  }
  for (; i < n; ++i) out[i] = static_cast<uint8_t>((uint32_t{b[i]} >> shift) & 3u);
}

}  // namespace WF_NAMESPACE
}  // namespace WF_MODE_NS
}  // namespace wf::detail
WF_AFTER_NAMESPACE();
#endif  // per-ISA guard
