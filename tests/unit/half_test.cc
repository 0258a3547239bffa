// SPDX-License-Identifier: Apache-2.0
// f16 and bf16 conversions against arithmetic on their definition: every f16 value, every boundary between
// two of them, the bf16 vectors of formats.md 2.2, and the CPU's own conversion where there is one.
#include "wf/base/half.h"

#include <bit>
#include <cmath>
#include <limits>

#include "tests/catch.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace wf {
namespace {

// The value of a finite f16 pattern by IEEE 754's definition.
double ValueOfF16(uint32_t h) {
  const int exp = static_cast<int>(h >> 10 & 31);
  const double man = h & 1023;
  const double abs = exp == 0 ? std::ldexp(man, -24) : std::ldexp(1024.0 + man, exp - 25);
  return (h & 0x8000) != 0 ? -abs : abs;
}

TEST_CASE("f16: all 65536 patterns have the value of their definition and survive the way there and back") {
  for (uint32_t h = 0; h < 65536; ++h) {
    const uint16_t bits = static_cast<uint16_t>(h);
    const float f = F32FromF16(bits);
    const bool negative = (h & 0x8000) != 0;
    INFO("pattern " << h);
    if ((h & 0x7c00) == 0x7c00) {
      if ((h & 0x3ff) == 0) {
        REQUIRE(f == (negative ? -1 : 1) * std::numeric_limits<float>::infinity());
      } else {
        REQUIRE(std::isnan(f));
        // Quieted: the top bit of the significand is set, the payload and the sign are kept.
        REQUIRE(F16FromF32(f) == (bits | 0x200));
        continue;
      }
    } else {
      REQUIRE(static_cast<double>(f) == ValueOfF16(h));
    }
    REQUIRE(std::signbit(f) == negative);
    REQUIRE(F16FromF32(f) == bits);
  }
}

TEST_CASE("f16: rounds to nearest, ties to even, at every boundary between two values") {
  const float inf = std::numeric_limits<float>::infinity();
  for (uint32_t h = 0; h < 0x7c00; ++h) {
    const double below = ValueOfF16(h);
    const double above = h == 0x7bff ? 65536.0 : ValueOfF16(h + 1);  // after the largest: infinity
    const float middle = static_cast<float>((below + above) / 2);    // exact in f32
    const uint16_t even = static_cast<uint16_t>(h % 2 == 0 ? h : h + 1);
    for (const uint32_t sign : {0u, 0x8000u}) {
      const float s = sign != 0 ? -1.0f : 1.0f;
      INFO("between " << h << " and " << h + 1);
      REQUIRE(F16FromF32(s * middle) == (even | sign));
      REQUIRE(F16FromF32(s * std::nextafter(middle, 0.0f)) == (h | sign));
      REQUIRE(F16FromF32(s * std::nextafter(middle, inf)) == ((h + 1) | sign));
    }
  }
}

TEST_CASE("f16: infinities, overflow, underflow and NaN") {
  const float inf = std::numeric_limits<float>::infinity();
  CHECK(F16FromF32(inf) == 0x7c00);
  CHECK(F16FromF32(-inf) == 0xfc00);
  CHECK(F16FromF32(std::numeric_limits<float>::max()) == 0x7c00);
  CHECK(F16FromF32(65504.0f) == 0x7bff);
  CHECK(F16FromF32(std::numeric_limits<float>::denorm_min()) == 0);
  CHECK(F16FromF32(-std::numeric_limits<float>::denorm_min()) == 0x8000);
  CHECK(F16FromF32(-0.0f) == 0x8000);
  CHECK((F16FromF32(std::numeric_limits<float>::quiet_NaN()) & 0x7e00) == 0x7e00);
  // A NaN whose payload lies only in the bits that are cut stays a NaN.
  CHECK((F16FromF32(std::bit_cast<float>(0x7f800001u)) & 0x7fff) > 0x7c00);
}

#if defined(__x86_64__)
__attribute__((target("f16c"))) uint16_t CpuF16(float f) {
  return static_cast<uint16_t>(_mm_extract_epi16(_mm_cvtps_ph(_mm_set_ss(f), _MM_FROUND_TO_NEAREST_INT), 0));
}

TEST_CASE("f16: equals the CPU's conversion for four million patterns") {
  if (!__builtin_cpu_supports("avx2")) {  // every such CPU has F16C, which clang 14 has no name for
    WARN("not run: no F16C");
    return;
  }
  // An odd step visits all exponents, both signs and changing low bits; NaNs keep their upper payload too.
  uint32_t u = 0;
  for (uint32_t i = 0; i < (1u << 22); ++i, u += 0x9e3779b1u) {
    const float f = std::bit_cast<float>(u);
    if (F16FromF32(f) != CpuF16(f)) {
      INFO("pattern " << u);
      REQUIRE(F16FromF32(f) == CpuF16(f));
    }
  }
  CHECK(u == 0x9e3779b1u << 22);
}
#endif

TEST_CASE("bf16: the vectors of formats.md 2.2") {
  struct Row {
    uint32_t f32;
    uint16_t bf16;
  };
  const Row rows[] = {{0x3f800000, 0x3f80}, {0xc0000000, 0xc000}, {0x3dcccccd, 0x3dcd}, {0x40490fdb, 0x4049},
                      {0x000116c2, 0x0001}, {0x477fe000, 0x4780}, {0x7f800000, 0x7f80}, {0x7fc00000, 0x7fc0},
                      {0x3f808000, 0x3f80}, {0x3f818000, 0x3f82}, {0x80000000, 0x8000}, {0x7f7fc99e, 0x7f80}};
  for (const Row& row : rows) {
    INFO("f32 " << row.f32);
    CHECK(Bf16FromF32(std::bit_cast<float>(row.f32)) == row.bf16);
  }
}

TEST_CASE("bf16: every pattern is the upper half of its f32 and survives the way there and back") {
  for (uint32_t h = 0; h < 65536; ++h) {
    const uint16_t bits = static_cast<uint16_t>(h);
    const float f = F32FromBf16(bits);
    REQUIRE(std::bit_cast<uint32_t>(f) == h << 16);
    const bool nan = (h & 0x7fff) > 0x7f80;
    REQUIRE(Bf16FromF32(f) == (nan ? bits | 0x40 : bits));
  }
}

TEST_CASE("bf16: rounds to nearest, ties to even; a NaN never becomes infinity") {
  for (uint32_t h = 0; h < 0x7f80; ++h) {
    const uint32_t middle = (h << 16) + 0x8000;
    REQUIRE(Bf16FromF32(std::bit_cast<float>(middle)) == h + h % 2);
    REQUIRE(Bf16FromF32(std::bit_cast<float>(middle - 1)) == h);
    REQUIRE(Bf16FromF32(std::bit_cast<float>(middle + 1)) == h + 1);
  }
  CHECK(Bf16FromF32(std::bit_cast<float>(0x7f800001u)) == 0x7fc0);
  CHECK(Bf16FromF32(std::bit_cast<float>(0xffffffffu)) == 0xffff);
}

}  // namespace
}  // namespace wf
