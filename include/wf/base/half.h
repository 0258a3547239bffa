// SPDX-License-Identifier: Apache-2.0
// Scalar conversions of the 16-bit float types, as bit patterns. f16 is IEEE binary16, bf16 the upper
// half of an f32; both round to nearest even and keep subnormals (formats.md 2.2). These are the
// definition; kernels use F16C or AVX-512 and are tested against them.
#ifndef WF_BASE_HALF_H_
#define WF_BASE_HALF_H_

#include <bit>
#include <cstdint>

namespace wf {

enum class FloatType : uint8_t { kF32, kF16, kBF16 };  // storage of low-rank factors, head, K and V

inline constexpr float F32FromBf16(uint16_t h) noexcept { return std::bit_cast<float>(uint32_t{h} << 16); }

inline constexpr uint16_t Bf16FromF32(float f) noexcept {
  const uint32_t u = std::bit_cast<uint32_t>(f);
  if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((u >> 16) | 0x40u);  // quiet the NaN
  return static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

inline constexpr float F32FromF16(uint16_t h) noexcept {
  const uint32_t sign = uint32_t{h & 0x8000u} << 16;
  const uint32_t exp = (h >> 10) & 0x1fu;
  const uint32_t man = h & 0x3ffu;
  if (exp == 0x1f) {  // inf or NaN; F16C quiets NaNs
    return std::bit_cast<float>(sign | 0x7f800000u | (man << 13) | (man != 0 ? 0x400000u : 0u));
  }
  if (exp == 0) {  // zero or subnormal: man * 2^-24 is exact in f32
    const float v = static_cast<float>(man) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(v) | sign);
  }
  return std::bit_cast<float>(sign | ((exp + 112u) << 23) | (man << 13));
}

inline constexpr uint16_t F16FromF32(float f) noexcept {
  const uint32_t u = std::bit_cast<uint32_t>(f);
  const uint16_t sign = static_cast<uint16_t>((u >> 16) & 0x8000u);
  const uint32_t abs = u & 0x7fffffffu;
  if (abs > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u | ((abs >> 13) & 0x3ffu));
  if (abs >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // rounds to infinity
  if (abs < 0x38800000u) {                                               // subnormal or zero
    // Adding 0.5 puts the wanted bits at the bottom of the significand, rounded to nearest even.
    const float shifted = std::bit_cast<float>(abs) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000u));
  }
  const uint32_t rounded = abs + 0xfffu + ((abs >> 13) & 1u) - (112u << 23);
  return static_cast<uint16_t>(sign | (rounded >> 13));
}

}  // namespace wf
#endif  // WF_BASE_HALF_H_
