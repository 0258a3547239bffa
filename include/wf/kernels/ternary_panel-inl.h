// SPDX-License-Identifier: Apache-2.0
// Ternary products of many tokens, compiled once per ISA: the codes of 32 rows are laid out so that a vector holds four
// columns of as many rows as it has lanes, and meets four activations of a token in every lane. A lane of a sum is then
// a row's result, and nothing is added up across a vector.
#if defined(WF_KERNELS_TERNARY_PANEL_INL_H_) == defined(WF_TARGET_TOGGLE)
#ifdef WF_KERNELS_TERNARY_PANEL_INL_H_
#undef WF_KERNELS_TERNARY_PANEL_INL_H_
#else
#define WF_KERNELS_TERNARY_PANEL_INL_H_
#endif
#include <cstring>

#include "wf/kernels/decode-inl.h"
#include "wf/kernels/kernels.h"
#include "wf/simd/ops-inl.h"

WF_BEFORE_NAMESPACE();
namespace wf::detail {
inline namespace WF_MODE_NS {
namespace WF_NAMESPACE {

inline constexpr size_t kPanelRows = 32;       // decoded together
inline constexpr size_t kPanelChunk = 1280;    // columns at most: their codes fit L1
inline constexpr size_t kPanelTokens = 264;    // that share a decoding at most
inline constexpr size_t kPanelMinTokens = 12;  // fewer do not make up for the transposition
// Tokens side by side, each with a sum in two vectors; two vectors of codes and one of activations beside them.
inline constexpr int kPanelTile = kManyRegisters ? 12 : WF_ISA_VNNI ? 6 : 4;
inline constexpr size_t kPanelStride = 4 * kPanelRows;  // bytes of four columns

struct PanelBuffer {
  alignas(64) uint8_t code[kPanelChunk * kPanelRows];  // of column c and row r: [(c / 4 * kPanelRows + r) * 4 + c % 4]
  alignas(64) int32_t dot[kPanelTokens * kPanelRows];  // of token t and row r: [t * kPanelRows + r]
};

// --- layout -------------------------------------------------------------------------------------------------

// v[r], kVecBytes of row r, to v[c], the four bytes at 4 c of each row: a square of 32-bit values, transposed.
HWY_INLINE void TransposeSquare(VU8* v) {
  constexpr size_t n = kVecBytes / 4;
  VU8 u[n];
#if HWY_TARGET <= HWY_AVX3
  WF_UNROLL for (size_t i = 0; i < n; i += 4) {  // squares of 4 x 4 within 16 bytes
    const __m512i ab = _mm512_unpacklo_epi32(v[i].raw, v[i + 1].raw),
                  cd = _mm512_unpacklo_epi32(v[i + 2].raw, v[i + 3].raw);
    const __m512i ef = _mm512_unpackhi_epi32(v[i].raw, v[i + 1].raw),
                  gh = _mm512_unpackhi_epi32(v[i + 2].raw, v[i + 3].raw);
    u[i] = VU8{_mm512_unpacklo_epi64(ab, cd)};
    u[i + 1] = VU8{_mm512_unpackhi_epi64(ab, cd)};
    u[i + 2] = VU8{_mm512_unpacklo_epi64(ef, gh)};
    u[i + 3] = VU8{_mm512_unpackhi_epi64(ef, gh)};
  }
  WF_UNROLL for (size_t i = 0; i < 4; ++i) {  // then of such squares
    const __m512i a = u[i].raw, b = u[i + 4].raw, c = u[i + 8].raw, d = u[i + 12].raw;
    const __m512i ab = _mm512_shuffle_i32x4(a, b, 0x44), ba = _mm512_shuffle_i32x4(a, b, 0xee);
    const __m512i cd = _mm512_shuffle_i32x4(c, d, 0x44), dc = _mm512_shuffle_i32x4(c, d, 0xee);
    v[i] = VU8{_mm512_shuffle_i32x4(ab, cd, 0x88)};
    v[i + 4] = VU8{_mm512_shuffle_i32x4(ab, cd, 0xdd)};
    v[i + 8] = VU8{_mm512_shuffle_i32x4(ba, dc, 0x88)};
    v[i + 12] = VU8{_mm512_shuffle_i32x4(ba, dc, 0xdd)};
  }
#else
  WF_UNROLL for (size_t i = 0; i < n; i += 4) {
    const __m256i ab = _mm256_unpacklo_epi32(v[i].raw, v[i + 1].raw),
                  cd = _mm256_unpacklo_epi32(v[i + 2].raw, v[i + 3].raw);
    const __m256i ef = _mm256_unpackhi_epi32(v[i].raw, v[i + 1].raw),
                  gh = _mm256_unpackhi_epi32(v[i + 2].raw, v[i + 3].raw);
    u[i] = VU8{_mm256_unpacklo_epi64(ab, cd)};
    u[i + 1] = VU8{_mm256_unpackhi_epi64(ab, cd)};
    u[i + 2] = VU8{_mm256_unpacklo_epi64(ef, gh)};
    u[i + 3] = VU8{_mm256_unpackhi_epi64(ef, gh)};
  }
  WF_UNROLL for (size_t i = 0; i < 4; ++i) {
    v[i] = VU8{_mm256_permute2x128_si256(u[i].raw, u[i + 4].raw, 0x20)};
    v[i + 4] = VU8{_mm256_permute2x128_si256(u[i].raw, u[i + 4].raw, 0x31)};
  }
#endif
}

// The codes of n columns (a multiple of 64) of kPanelRows rows, `stride` bytes apart, in the panel's order.
HWY_INLINE void TransposePanel(const uint8_t* rows, size_t stride, size_t n, uint8_t* out) {
  constexpr size_t kSide = kVecBytes / 4;
  for (size_t c = 0; c < n; c += kVecBytes) {
    for (size_t r = 0; r < kPanelRows; r += kSide) {
      VU8 v[kSide];
      WF_UNROLL for (size_t i = 0; i < kSide; ++i) v[i] = hn::LoadU(DU8(), rows + (r + i) * stride + c);
      TransposeSquare(v);
      uint8_t* to = out + c * kPanelRows + r * 4;
      WF_UNROLL for (size_t i = 0; i < kSide; ++i) hn::Store(v[i], DU8(), to + i * kPanelStride);
    }
  }
}

// 64 bytes of four fields of each of kPanelRows rows, `stride` bytes apart: 256 columns in the paired order. Transposed
// before they are taken apart.
template <int kFirst>
HWY_INLINE void DecodePanel(const uint8_t* w, size_t stride, uint8_t* out) {
  constexpr int kStep = kFirst == 0 ? 2 : -2;
  constexpr size_t kSide = kVecBytes / 4;
  for (size_t r = 0; r < kPanelRows; r += kSide) {
    for (size_t h = 0; h < 64; h += kVecBytes) {
      const uint8_t* from = w + r * stride + h;
      VU8 v[kSide];
      WF_UNROLL for (size_t i = 0; i < kSide; ++i) {
        if (h == 0) Prefetch(from + (i + kPanelRows) * stride);  // the next panel
        v[i] = hn::LoadU(DU8(), from + i * stride);
      }
      TransposeSquare(v);
      uint8_t* to = out + h * kPanelRows + r * 4;
      WF_UNROLL for (size_t i = 0; i < kSide; ++i, to += kPanelStride) {
        hn::Store(Field<kFirst>(v[i]), DU8(), to);
        hn::Store(Field<kFirst + kStep>(v[i]), DU8(), to + 64 * kPanelRows);
        hn::Store(Field<kFirst + 2 * kStep>(v[i]), DU8(), to + 128 * kPanelRows);
        hn::Store(Field<kFirst + 3 * kStep>(v[i]), DU8(), to + 192 * kPanelRows);
      }
    }
  }
}

// --- sums ---------------------------------------------------------------------------------------------------

// Four activations in every lane.
HWY_INLINE VI8 FourTimes(const int8_t* x) {
  int32_t four;
  std::memcpy(&four, x, 4);
  return hn::BitCast(DI8(), hn::Set(DI32(), four));
}

// dots[t * kPanelRows + r] = the sums of two vectors of rows and T tokens over n columns, or += them.
template <int T>
HWY_NOINLINE void PanelTile(const uint8_t* codes, size_t n, const int8_t* x, size_t x_stride, bool add, int32_t* dots) {
  hn::Vec<DI32> sum[2][T];
  WF_UNROLL for (int t = 0; t < T; ++t) {
    WF_UNROLL for (int v = 0; v < 2; ++v) {
      sum[v][t] =
          add ? hn::Load(DI32(), dots + static_cast<size_t>(t) * kPanelRows + static_cast<size_t>(v) * kVecBytes / 4)
              : hn::Zero(DI32());
    }
  }
  // Two pointers: the addresses of six tokens each are made of a few multiples of the stride.
  const int8_t* x2 = x + static_cast<size_t>(T / 2) * x_stride;
#if WF_ISA_VNNI
  for (const uint8_t* end = codes + n * kPanelRows; codes != end; codes += kPanelStride, x += 4, x2 += 4) {
    const VU8 c0 = hn::Load(DU8(), codes), c1 = hn::Load(DU8(), codes + kVecBytes);
    WF_UNROLL for (int t = 0; t < T; ++t) {
      const VI8 v =
          FourTimes(t < T / 2 ? x + static_cast<size_t>(t) * x_stride : x2 + static_cast<size_t>(t - T / 2) * x_stride);
      sum[0][t] = Dot4(c0, v, sum[0][t]);
      sum[1][t] = Dot4(c1, v, sum[1][t]);
    }
  }
#else
  constexpr size_t kPart = 32 * 4;  // 32 * 768 < 32768: what an i16 sum holds
  for (size_t i = 0; i < n; i += kPart) {
    const uint8_t* stop = codes + (n - i < kPart ? n - i : kPart) * kPanelRows;
    hn::Vec<DI16> part[2][T];
    WF_UNROLL for (int t = 0; t < T; ++t) part[0][t] = part[1][t] = hn::Zero(DI16());
    for (; codes != stop; codes += kPanelStride, x += 4, x2 += 4) {
      const VU8 c0 = hn::Load(DU8(), codes), c1 = hn::Load(DU8(), codes + kVecBytes);
      WF_UNROLL for (int t = 0; t < T; ++t) {
        const VI8 v = FourTimes(t < T / 2 ? x + static_cast<size_t>(t) * x_stride
                                          : x2 + static_cast<size_t>(t - T / 2) * x_stride);
        part[0][t] = hn::Add(part[0][t], Dot2(c0, v));
        part[1][t] = hn::Add(part[1][t], Dot2(c1, v));
      }
    }
    WF_UNROLL for (int t = 0; t < T; ++t) {
      WF_UNROLL for (int v = 0; v < 2; ++v) sum[v][t] = Widen2(part[v][t], sum[v][t]);
    }
  }
#endif
  WF_UNROLL for (int t = 0; t < T; ++t) {
    WF_UNROLL for (int v = 0; v < 2; ++v) {
      hn::Store(sum[v][t], DI32(), dots + static_cast<size_t>(t) * kPanelRows + static_cast<size_t>(v) * kVecBytes / 4);
    }
  }
}

// As many of the tokens as go side by side, all kPanelRows rows; returns how many these are. A template only because of
// the header it lives in: see TernaryGemv.
template <int T = kPanelTile>
HWY_NOINLINE size_t PanelStep(const uint8_t* codes, size_t n, const int8_t* x, size_t x_stride, size_t tokens, bool add,
                              int32_t* dots) {
  if constexpr (T > 1) {
    if (tokens < T) return PanelStep<(T > 8 ? 8 : T > 4 ? 4 : T / 2)>(codes, n, x, x_stride, tokens, add, dots);
  }
  for (size_t r = 0; r < kPanelRows; r += kVecBytes / 2) {
    PanelTile<T>(codes + 4 * r, n, x, x_stride, add, dots + r);
  }
  return T;
}

}  // namespace WF_NAMESPACE
}  // namespace WF_MODE_NS
}  // namespace wf::detail
WF_AFTER_NAMESPACE();
#endif  // per-ISA guard
