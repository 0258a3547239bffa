// SPDX-License-Identifier: Apache-2.0
// Products of the types with five base-3 digits a byte with one token, compiled once per ISA: the packed bytes are
// multiplied as they stream past, nothing is decoded to memory. A row is taken as a string of bytes, whatever they
// mean: the activations are laid out so that those of digit n of byte p lie at p of string n, with zeros where the byte
// has no such digit (or is a scale, or the next row's). Many tokens: ternary_codes-inl.h.
#if defined(WF_KERNELS_TERNARY_TRITS_INL_H_) == defined(WF_TARGET_TOGGLE)
#ifdef WF_KERNELS_TERNARY_TRITS_INL_H_
#undef WF_KERNELS_TERNARY_TRITS_INL_H_
#else
#define WF_KERNELS_TERNARY_TRITS_INL_H_
#endif
#include <cstring>

#include "wf/kernels/decode-inl.h"
#include "wf/kernels/kernels.h"
#include "wf/kernels/ternary_codes-inl.h"
#include "wf/simd/ops-inl.h"

WF_BEFORE_NAMESPACE();
namespace wf::detail {
inline namespace WF_MODE_NS {
namespace WF_NAMESPACE {

// Block types that go through this file for one token.
template <class Block>
inline constexpr bool kTrits = Block::kType == TensorType::kTQ1_0 || Block::kType == TensorType::kIQ1_BN;

// Bytes of the longest row's digits, and from one string of activations to the next: whole vectors, one to spare, and
// no multiple of the page, where strings would share the sets of the cache.
inline constexpr size_t kTritsBytes = kMaxTernaryK / block::TQ1_0::kSize * block::TQ1_0::kBytes;
static_assert(kTritsBytes >= kMaxTernaryK / block::IQ1_BN::kSize * block::IQ1_BN::kBytes);
inline constexpr size_t kTritsStride = (kTritsBytes + 127) / 64 * 64;
static_assert(kTritsStride % 4096 >= 1024 && kTritsStride % 4096 <= 3072);

struct TritsX {
  alignas(64) int8_t x[5 * kTritsStride];
  alignas(64) uint8_t scale[kTritsStride];  // 0xff where a row has a scale among its digits, else 0
};

// --- activations as strings -------------------------------------------------------------------------------------

// Each block's part is stored with a few zeros too many, which the next block overwrites.
HWY_INLINE void SpreadX(block::TQ1_0, const int8_t* x, size_t k, TritsX* out) {
  const hn::FixedTag<int8_t, 32> d;
  const hn::FixedTag<int8_t, 16> half;
  int8_t* o = out->x;
  uint8_t* s = out->scale;
  for (size_t c = 0; c < k; c += 256, o += block::TQ1_0::kBytes, s += block::TQ1_0::kBytes) {
    WF_UNROLL for (size_t n = 0; n < 5; ++n) {
      hn::StoreU(hn::LoadU(d, x + c + 32 * n), d, o + n * kTritsStride);
      hn::StoreU(hn::LoadU(half, x + c + 160 + 16 * n), half, o + n * kTritsStride + 32);
      uint32_t four = 0;
      if (n < 4) std::memcpy(&four, x + c + 240 + 4 * n, 4);
      const uint64_t last = four;
      std::memcpy(o + n * kTritsStride + 48, &last, 8);
    }
    std::memset(s, 0, 52);
    std::memset(s + 52, 0xff, 2);
  }
}

// From which of a block's 64 columns each byte of IQ1_BN takes its digit n; the last byte has no digit 0.
struct alignas(16) Iq1BnColumns {
  uint8_t column[5][16];
  uint8_t quarter[5][4][16];  // the same among the columns 16 q .. 16 q + 15, 0x80 for others: zero
};
inline constexpr Iq1BnColumns kIq1BnColumns = [] {
  Iq1BnColumns s{};
  for (size_t n = 0; n < 5; ++n) {
    for (auto& q : s.quarter[n])
      for (uint8_t& c : q) c = 0x80;
    for (size_t b = 0; b < (n == 0 ? 12 : 13); ++b) {
      const size_t c = b < 12 ? b / 3 * 16 + b % 3 * 5 + 4 - n : (4 - n) * 16 + 15;
      s.column[n][b] = static_cast<uint8_t>(c);
      s.quarter[n][c / 16][b] = static_cast<uint8_t>(c % 16);
    }
  }
  return s;
}();

HWY_INLINE void SpreadX(block::IQ1_BN, const int8_t* x, size_t k, TritsX* out) {
  const hn::FixedTag<int8_t, 16> d;
  const hn::FixedTag<uint8_t, 16> du;
  int8_t* o = out->x;
  for (size_t c = 0; c < k; c += 64, o += block::IQ1_BN::kBytes) {
    WF_UNROLL for (size_t n = 0; n < 5; ++n) {
#if WF_ISA_VNNI == 3  // has VBMI
      const __m512i from = _mm512_castsi128_si512(hn::Load(du, kIq1BnColumns.column[n]).raw);
      const __m512i all = _mm512_maskz_permutexvar_epi8(n == 0 ? 0x0fff : 0x1fff, from, hn::LoadU(DI8(), x + c).raw);
      const hn::Vec<hn::FixedTag<int8_t, 16>> v{_mm512_castsi512_si128(all)};
#else
      auto v = hn::Zero(d);
      WF_UNROLL for (size_t q = 0; q < 4; ++q) {
        const auto from = hn::BitCast(d, hn::Load(du, kIq1BnColumns.quarter[n][q]));
        v = hn::Or(v, hn::TableLookupBytesOr0(hn::LoadU(d, x + c + 16 * q), from));
      }
#endif
      hn::StoreU(v, d, o + n * kTritsStride);
    }
  }
}

// --- one row ----------------------------------------------------------------------------------------------------

// Sums of digit * activation over a row. A step takes U vectors side by side: the powers of one depend on each other,
// and a core does not look far enough ahead to fill the time with the next vector's by itself.
struct TritsAcc {
#if WF_ISA_VNNI
  // Digits are never taken out. With v[0] the byte and v[n + 1] = 3 v[n] mod 256, digit n is (3 v[n] - v[n + 1]) / 256,
  // so two products of whole bytes do: sum x[n] v[n] and sum x[n] v[n + 1]. Exact modulo 2^32, and each lane's result
  // is a multiple of 256 within 32 bits: 256 * 2 * 128 * 20 * (kTritsStride / 32) < 2^31.
  static constexpr size_t kSide = kVecBytes == 64 ? 3 : 2;
  hn::Vec<DI32> here[5], next[5];

  HWY_INLINE void Clear() { WF_UNROLL for (int n = 0; n < 5; ++n) here[n] = next[n] = hn::Zero(DI32()); }
  HWY_INLINE void Flush() {}
  template <size_t U>
  HWY_INLINE void Step(VU8 (&v)[U], const int8_t* x) {
    WF_UNROLL for (size_t n = 0; n < 5; ++n) {
      VI8 q[U];
      WF_UNROLL for (size_t u = 0; u < U; ++u) {
        q[u] = hn::Load(DI8(), x + n * kTritsStride + u * kVecBytes);
#if HWY_TARGET <= HWY_AVX3
        // Loaded once, not by both products: with two 64-byte loads a digit, Zen 5 keeps up from the cache, but the
        // lines that come from memory wait for their turn (half the bandwidth).
        asm("" : "+v"(q[u].raw));
#endif
      }
      WF_UNROLL for (size_t u = 0; u < U; ++u) here[n] = Dot4(v[u], q[u], here[n]);
      WF_UNROLL for (size_t u = 0; u < U; ++u) v[u] = hn::Add(v[u], hn::Add(v[u], v[u]));
      WF_UNROLL for (size_t u = 0; u < U; ++u) next[n] = Dot4(v[u], q[u], next[n]);
    }
  }
  HWY_INLINE hn::Vec<DI32> Total() {
    WF_UNROLL for (int n = 1; n < 5; ++n) {
      here[0] = hn::Add(here[0], here[n]);
      next[0] = hn::Add(next[0], next[n]);
    }
    return hn::ShiftRight<8>(hn::Sub(hn::Add(here[0], hn::Add(here[0], here[0])), next[0]));
  }
#else
  // Pairs of whole bytes times activations would not fit i16, so digits are taken out.
  static constexpr size_t kSide = 2;
  hn::Vec<DI32> sum;
  hn::Vec<DI16> part[kSide];  // at most kTritsFlush bytes, 12 vectors of five pairs: 12 * 5 * 512 < 32768

  HWY_INLINE void Clear() {
    sum = hn::Zero(DI32());
    WF_UNROLL for (auto& p : part) p = hn::Zero(DI16());
  }
  HWY_INLINE void Flush() {
    WF_UNROLL for (auto& p : part) {
      sum = Widen2(p, sum);
      p = hn::Zero(DI16());
    }
  }
  template <size_t U>
  HWY_INLINE void Step(VU8 (&v)[U], const int8_t* x) {
#if HWY_TARGET > HWY_AVX3
    // Signed comparisons of v - 128 with the bounds of the digits, 86 and 171; 3 (v - 128) = 3 v - 128 modulo 256.
    WF_UNROLL for (size_t u = 0; u < U; ++u) v[u] = hn::Xor(v[u], hn::Set(DU8(), uint8_t{0x80}));
#endif
    WF_UNROLL for (size_t n = 0; n < 5; ++n) {
      WF_UNROLL for (size_t u = 0; u < U; ++u) {
#if HWY_TARGET <= HWY_AVX3
        const VU8 digit = Digit(v[u]);
#else
        const VI8 s = hn::BitCast(DI8(), v[u]);
        const VI8 minus = hn::Add(hn::VecFromMask(DI8(), hn::Gt(s, hn::Set(DI8(), int8_t{-43}))),
                                  hn::VecFromMask(DI8(), hn::Gt(s, hn::Set(DI8(), int8_t{42}))));
        const VU8 digit = hn::BitCast(DU8(), hn::Abs(minus));
#endif
        part[u] = hn::Add(part[u], Dot2(digit, hn::Load(DI8(), x + n * kTritsStride + u * kVecBytes)));
        v[u] = hn::Add(v[u], hn::Add(v[u], v[u]));
      }
    }
  }
  HWY_INLINE hn::Vec<DI32> Total() { return sum; }
#endif
};
inline constexpr size_t kTritsFlush = WF_ISA_VNNI ? ~size_t{0} : 24 * kVecBytes;  // bytes, in steps of two vectors

// One step. With kScales, *others gathers how the bytes that x.scale marks differ from `scale`.
template <bool kScales, size_t U>
HWY_INLINE void TritsStep(const uint8_t* w, const TritsX& x, size_t i, VU8 scale, TritsAcc* acc, VU8* others) {
  VU8 v[U];
  WF_UNROLL for (size_t u = 0; u < U; ++u) v[u] = hn::LoadU(DU8(), w + u * kVecBytes);
  if constexpr (kScales) {
    WF_UNROLL for (size_t u = 0; u < U; ++u) {
      *others = hn::OrAnd(*others, hn::Xor(v[u], scale), hn::Load(DU8(), x.scale + i + u * kVecBytes));
    }
  }
  acc->template Step<U>(v, x.x + i);
}

// `bytes` of digits at w; bytes before `end` may be read.
template <bool kScales>
HWY_INLINE hn::Vec<DI32> TritsRow(const uint8_t* w, size_t bytes, const uint8_t* end, const TritsX& x, VU8 scale,
                                  VU8* others) {
  constexpr size_t kSide = TritsAcc::kSide * kVecBytes;
  TritsAcc acc;
  acc.Clear();
  const size_t padded = (bytes + kVecBytes - 1) / kVecBytes * kVecBytes;
  const size_t whole = static_cast<size_t>(end - w) >= padded ? padded : padded - kVecBytes;
  size_t i = 0;
  while (i + kSide <= whole) {
    const size_t stop = whole - i < kTritsFlush ? whole : i + kTritsFlush;
    for (; i + kSide <= stop; i += kSide) {
      WF_UNROLL for (size_t p = 0; p < kSide; p += 64) PrefetchAhead(w + i + p);
      TritsStep<kScales, TritsAcc::kSide>(w + i, x, i, scale, &acc, others);
    }
    acc.Flush();
  }
  if (TritsAcc::kSide > 2 && i + 2 * kVecBytes <= whole) {
    TritsStep<kScales, 2>(w + i, x, i, scale, &acc, others);
    i += 2 * kVecBytes;
  }
  if (i < whole) {
    TritsStep<kScales, 1>(w + i, x, i, scale, &acc, others);
    i += kVecBytes;
  }
  if (i < bytes) {
    alignas(64) uint8_t last[kVecBytes] = {};
    std::memcpy(last, w + i, bytes - i);
    TritsStep<kScales, 1>(last, x, i, scale, &acc, others);
  }
  acc.Flush();
  return acc.Total();
}

// --- the product ------------------------------------------------------------------------------------------------

// Never declared elsewhere: see TernaryGemv.
template <class Block, int Rank>
HWY_NOINLINE void TritsGemv(const TernaryArgs& a) noexcept {
  constexpr bool kScales = Block::kScaleSize != 0;
  constexpr size_t kHeader = kScales ? 0 : 2;
  const size_t bytes = a.k / Block::kSize * Block::kBytes;
  const size_t row_bytes = kHeader + bytes;
  const uint8_t* w = static_cast<const uint8_t*>(a.w);
  const uint8_t* end = w + a.row_end * row_bytes;
  TritsX x;
  SpreadX(Block(), a.x, a.k, &x);
  for (size_t n = 0; n < 5; ++n) std::memset(x.x + n * kTritsStride + bytes, 0, 64);
  if (kScales) std::memset(x.scale + bytes, 0, 64);
  alignas(16) int32_t dots[4];
  for (size_t row = a.row_begin; row < a.row_end; row += 4) {
    const size_t rows = a.row_end - row < 4 ? a.row_end - row : 4;
    float d[4] = {};
    hn::Vec<DI32> sum[4];
    VU8 others = hn::Zero(DU8());
    WF_UNROLL for (size_t r = 0; r < 4; ++r) {
      sum[r] = hn::Zero(DI32());
      if (r >= rows) continue;
      const uint8_t* b = w + (row + r) * row_bytes;
      const uint16_t bits = LoadLe<uint16_t>(kScales ? b + Block::kBytes - 2 : b);
      d[r] = F16ToF32(bits);
      const VU8 scale = hn::BitCast(DU8(), hn::Set(hn::Repartition<uint16_t, DU8>(), bits));
      sum[r] = TritsRow<kScales>(b + kHeader, bytes, end, x, scale, &others);
    }
    if (kScales && !hn::AllTrue(DU8(), hn::Eq(others, hn::Zero(DU8())))) {  // rows of several scales
      TernaryArgs b = a;
      b.row_begin = row;
      b.row_end = row + rows;
      TernaryCodes<Block, Rank>(b, 1);
      continue;
    }
    Sum4(sum[0], sum[1], sum[2], sum[3], dots);
    StoreOneRun<Rank, 4>(a, row, rows, 0, 1, d, dots);
  }
}

}  // namespace WF_NAMESPACE
}  // namespace WF_MODE_NS
}  // namespace wf::detail
WF_AFTER_NAMESPACE();
#endif  // per-ISA guard
