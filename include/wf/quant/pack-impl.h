// SPDX-License-Identifier: Apache-2.0
// Bodies of pack.h for ternary values: whole blocks at a time, held to the element-wise definitions of block.h by the
// tests. Dense rows are in quantise-impl.h.
#ifndef WF_QUANT_PACK_IMPL_H_
#define WF_QUANT_PACK_IMPL_H_

#include <algorithm>

#include "wf/base/bytes.h"
#include "wf/base/half.h"
#include "wf/quant/block.h"
#include "wf/quant/pack.h"
#include "wf/quant/quantise-impl.h"

namespace wf {

namespace detail {

// Calls f.template operator()<Block>() for a packed ternary type; false for all others.
template <class F>
inline bool VisitPacked(TensorType t, const F& f) {
  switch (t) {
    case TensorType::kI2_S:
      return f.template operator()<block::I2S>(), true;
    case TensorType::kI2_S_ARM64:
      return f.template operator()<block::I2S_ARM64>(), true;
    case TensorType::kI2_S_X4:
      return f.template operator()<block::I2S_X4>(), true;
    case TensorType::kTQ1_0:
      return f.template operator()<block::TQ1_0>(), true;
    case TensorType::kTQ2_0:
      return f.template operator()<block::TQ2_0>(), true;
    case TensorType::kIQ1_BN:
      return f.template operator()<block::IQ1_BN>(), true;
    case TensorType::kIQ2_BN:
      return f.template operator()<block::IQ2_BN>(), true;
    case TensorType::kIQ2_BN_R4:
      return f.template operator()<block::IQ2_BN_R4>(), true;
    case TensorType::kQ2_0:
      return f.template operator()<block::Q2_0>(), true;
    case TensorType::kQ2_0_128:
      return f.template operator()<block::Q2_0_128>(), true;
    default:
      return false;
  }
}

inline uint32_t TernaryCode(int8_t v) noexcept { return static_cast<uint32_t>(v + 1); }
inline int8_t TernaryValue(uint32_t code) noexcept { return static_cast<int8_t>(static_cast<int>(code) - 1); }

// Two-bit codes in four planes: weight j of 4 kN in byte j % kN, field j / kN, counted from the low or the high bits.
template <size_t kN, bool kLowFirst>
inline void PackPlanes(const int8_t* v, uint8_t* out) noexcept {
  for (size_t j = 0; j < kN; ++j) {
    uint32_t b = 0;
    for (size_t s = 0; s < 4; ++s) b |= TernaryCode(v[kN * s + j]) << (kLowFirst ? 2 * s : 6 - 2 * s);
    out[j] = static_cast<uint8_t>(b);
  }
}
template <size_t kN, bool kLowFirst>
inline void UnpackPlanes(const uint8_t* b, int8_t* v) noexcept {
  for (size_t s = 0; s < 4; ++s) {
    for (size_t j = 0; j < kN; ++j) v[kN * s + j] = TernaryValue(block::detail::TwoBits(b[j], kLowFirst ? s : 3 - s));
  }
}

// ceil(256 n / 243): five base-3 digits in a byte, from which block::detail::Trit takes them.
inline uint8_t TritByte(uint32_t n) noexcept { return static_cast<uint8_t>((n * 256 + 242) / 243); }

// Digits in planes: weight j of kN kDigits in byte j % kN, digit j / kN, counted from the most significant of five.
template <size_t kN, size_t kDigits>
inline void PackTritPlanes(const int8_t* v, uint8_t* out) noexcept {
  for (size_t j = 0; j < kN; ++j) {
    uint32_t n = 0;
    for (size_t d = 0; d < 5; ++d) n = 3 * n + (d < kDigits ? TernaryCode(v[kN * d + j]) : 0);
    out[j] = TritByte(n);
  }
}
template <size_t kN, size_t kDigits>
inline void UnpackTritPlanes(const uint8_t* b, int8_t* v) noexcept {
  for (size_t d = 0; d < kDigits; ++d) {
    for (size_t j = 0; j < kN; ++j) v[kN * d + j] = TernaryValue(block::detail::Trit(b[j], d));
  }
}

// The codes of one block (kSize weights), without the scale that may lie before or after them.
template <class B>
inline void PackCodes(const int8_t* v, uint8_t* out) noexcept {
  if constexpr (B::kType == TensorType::kI2_S) {
    PackPlanes<32, false>(v, out);
  } else if constexpr (B::kType == TensorType::kI2_S_ARM64) {
    PackPlanes<16, false>(v, out);
  } else if constexpr (B::kType == TensorType::kIQ2_BN) {
    PackPlanes<16, true>(v, out);
  } else if constexpr (B::kType == TensorType::kTQ2_0) {
    PackPlanes<32, true>(v, out);
    PackPlanes<32, true>(v + 128, out + 32);
  } else if constexpr (B::kType == TensorType::kTQ1_0) {
    PackTritPlanes<32, 5>(v, out);
    PackTritPlanes<16, 5>(v + 160, out + 32);
    PackTritPlanes<4, 4>(v + 240, out + 48);
  } else if constexpr (B::kType == TensorType::kIQ1_BN) {
    uint32_t extra = 0;
    for (size_t q = 4; q-- > 0;) {
      for (size_t g = 0; g < 3; ++g) {
        uint32_t n = 0;
        for (size_t r = 5; r-- > 0;) n = 3 * n + TernaryCode(v[16 * q + 5 * g + r]);
        out[3 * q + g] = TritByte(n);
      }
      extra = 3 * extra + TernaryCode(v[16 * q + 15]);
    }
    out[12] = TritByte(extra);
  } else {  // Q2_0 and its variant
    for (size_t j = 0; j < B::kSize / 4; ++j) {
      uint32_t b = 0;
      for (size_t s = 0; s < 4; ++s) b |= TernaryCode(v[4 * j + s]) << (2 * s);
      out[j] = static_cast<uint8_t>(b);
    }
  }
}
template <class B>
inline void UnpackCodes(const uint8_t* b, int8_t* v) noexcept {
  if constexpr (B::kType == TensorType::kI2_S) {
    UnpackPlanes<32, false>(b, v);
  } else if constexpr (B::kType == TensorType::kI2_S_ARM64) {
    UnpackPlanes<16, false>(b, v);
  } else if constexpr (B::kType == TensorType::kIQ2_BN) {
    UnpackPlanes<16, true>(b, v);
  } else if constexpr (B::kType == TensorType::kTQ2_0) {
    UnpackPlanes<32, true>(b, v);
    UnpackPlanes<32, true>(b + 32, v + 128);
  } else if constexpr (B::kType == TensorType::kTQ1_0) {
    UnpackTritPlanes<32, 5>(b, v);
    UnpackTritPlanes<16, 5>(b + 32, v + 160);
    UnpackTritPlanes<4, 4>(b + 48, v + 240);
  } else if constexpr (B::kType == TensorType::kIQ1_BN) {
    for (size_t q = 0; q < 4; ++q) {
      for (size_t r = 0; r < 15; ++r) v[16 * q + r] = TernaryValue(block::detail::Trit(b[3 * q + r / 5], 4 - r % 5));
      v[16 * q + 15] = TernaryValue(block::detail::Trit(b[12], 4 - q));
    }
  } else {
    for (size_t j = 0; j < B::kSize / 4; ++j) {
      for (size_t s = 0; s < 4; ++s) v[4 * j + s] = TernaryValue(block::detail::TwoBits(b[j], s));
    }
  }
}

// Where a block's codes and f16 scale lie in it: TQ types end with the scale, Q2_0 begins with it.
template <class B>
inline constexpr bool kScaleAtEnd = B::kType == TensorType::kTQ1_0 || B::kType == TensorType::kTQ2_0;
template <class B>
inline constexpr size_t kCodesAt = kScaleAtEnd<B> ? 0 : 2;
template <class B>
inline constexpr size_t kScaleAt = kScaleAtEnd<B> ? B::kBytes - 2 : 0;

inline void PackX4(const int8_t* v, size_t rows, size_t k, uint8_t* out) noexcept {
  for (size_t r = 0; r < rows; r += 4, v += 4 * k, out += k) {
    for (size_t c = 0; c < k; ++c) {
      uint32_t b = 0;
      for (size_t i = 0; i < 4; ++i) b |= TernaryCode(v[i * k + c]) << (6 - 2 * i);
      out[c] = static_cast<uint8_t>(b);
    }
  }
}

inline void PackR4(const int8_t* v, size_t rows, size_t k, float d, uint8_t* out) noexcept {
  for (size_t r = 0; r < rows; r += 4, v += 4 * k) {
    for (size_t i = 0; i < 4; ++i, out += 4) StoreLe(out, d);
    for (size_t c = 0; c < k; c += 64, out += 64) {
      for (size_t i = 0; i < 4; ++i) {
        for (size_t l = 0; l < 4; ++l) PackPlanes<4, true>(v + i * k + c + 16 * l, out + 4 * i + 16 * l);
      }
    }
  }
}

// An I2_S row may begin and end inside a group.
template <class B>
inline void UnpackFlat(const uint8_t* w, size_t begin, size_t k, int8_t* values) noexcept {
  constexpr size_t kN = B::kSize;
  for (size_t e = begin; e < begin + k;) {
    const size_t in_group = e % kN, n = std::min(kN - in_group, begin + k - e);
    const uint8_t* group = w + e / kN * (kN / 4);
    if (n == kN) {
      UnpackCodes<B>(group, values);
    } else {
      int8_t whole[kN];
      UnpackCodes<B>(group, whole);
      std::copy_n(whole + in_group, n, values);
    }
    e += n;
    values += n;
  }
}

template <class B>
inline void PackAs(const int8_t* v, size_t rows, size_t k, float d, uint8_t* out) noexcept {
  if constexpr (B::kType == TensorType::kI2_S_X4) {
    PackX4(v, rows, k, out);
  } else if constexpr (B::kType == TensorType::kIQ2_BN_R4) {
    PackR4(v, rows, k, d, out);
  } else if constexpr (IsI2s(B::kType)) {
    for (const int8_t* end = v + rows * k; v != end; v += B::kSize, out += B::kSize / 4) PackCodes<B>(v, out);
  } else if constexpr (B::kScaleSize == 0) {  // a header for each row
    for (size_t r = 0; r < rows; ++r) {
      if constexpr (B::kHeader == 2) {
        StoreLe(out, F16FromF32(d));
      } else {
        StoreLe(out, d);
      }
      out += B::kHeader;
      for (size_t c = 0; c < k; c += B::kSize, v += B::kSize, out += B::kBytes) PackCodes<B>(v, out);
    }
  } else {
    const uint16_t scale = F16FromF32(d);
    for (const int8_t* end = v + rows * k; v != end; v += B::kSize, out += B::kBytes) {
      PackCodes<B>(v, out + kCodesAt<B>);
      StoreLe(out + kScaleAt<B>, scale);
    }
  }
}

template <class B>
inline void UnpackAs(const uint8_t* w, size_t row, size_t k, int8_t* values, float* scales) noexcept {
  if (scales != nullptr) {
    if constexpr (B::kScaleSize == 0) {
      *scales = B::Scale(w, k, row, 0);
    } else {
      for (size_t c = 0; c < k; c += B::kScaleSize) *scales++ = B::Scale(w, k, row, c);
    }
  }
  if constexpr (B::kType == TensorType::kI2_S_X4) {
    for (size_t c = 0; c < k; ++c) values[c] = TernaryValue(B::Code(w, k, row, c));
  } else if constexpr (B::kType == TensorType::kIQ2_BN_R4) {
    const uint8_t* b = B::Group(w, k, row) + 16 + 4 * (row % 4);
    for (size_t c = 0; c < k; c += 64, b += 64) {
      for (size_t l = 0; l < 4; ++l) UnpackPlanes<4, true>(b + 16 * l, values + c + 16 * l);
    }
  } else if constexpr (IsI2s(B::kType)) {
    UnpackFlat<B>(w, row * k, k, values);
  } else if constexpr (B::kScaleSize == 0) {
    const uint8_t* b = w + row * (B::kHeader + k / B::kSize * B::kBytes) + B::kHeader;
    for (size_t c = 0; c < k; c += B::kSize, b += B::kBytes) UnpackCodes<B>(b, values + c);
  } else {
    const uint8_t* b = w + row * (k / B::kSize) * B::kBytes + kCodesAt<B>;
    for (size_t c = 0; c < k; c += B::kSize, b += B::kBytes) UnpackCodes<B>(b, values + c);
  }
}

}  // namespace detail

WF_LIB_INLINE bool IsPackedTernary(TensorType t) noexcept {
  return detail::VisitPacked(t, []<class B>() {});
}

WF_LIB_INLINE size_t TernaryScaleSize(TensorType t) noexcept {
  size_t n = 0;
  detail::VisitPacked(t, [&]<class B>() { n = B::kScaleSize; });
  return n;
}

WF_LIB_INLINE float StoredTernaryScale(TensorType t, float scale) noexcept {
  const bool f16 = t == TensorType::kTQ1_0 || t == TensorType::kTQ2_0 || t == TensorType::kIQ1_BN ||
                   t == TensorType::kQ2_0 || t == TensorType::kQ2_0_128;
  if (!f16) return scale;
  const uint16_t h = F16FromF32(scale);
  const float near = F32FromF16(h);
  if (near < scale) {  // the next above it: further from zero for positive ones, and the largest has none
    const uint16_t up = static_cast<uint16_t>((h & 0x8000u) != 0 ? h - 1 : h + 1);
    return up == 0x7c00 ? near : F32FromF16(up);
  }
  return h == 0x7c00 ? 65504.0f : near;
}

WF_LIB_INLINE void PackTernary(TensorType t, const int8_t* values, size_t rows, size_t k, float d,
                               uint8_t* out) noexcept {
  detail::VisitPacked(t, [&]<class B>() { detail::PackAs<B>(values, rows, k, d, out); });
}

WF_LIB_INLINE void UnpackTernary(TensorType t, const uint8_t* w, size_t row, size_t k, int8_t* values,
                                 float* scales) noexcept {
  detail::VisitPacked(t, [&]<class B>() { detail::UnpackAs<B>(w, row, k, values, scales); });
}

}  // namespace wf
#endif  // WF_QUANT_PACK_IMPL_H_
