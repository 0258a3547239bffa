// SPDX-License-Identifier: Apache-2.0
// Instruction-set tags: ordinary types, usable as template arguments, and their run-time names. Detection
// is by CPUID and needs no library. Not for: choosing kernels (kernels/dispatch.h, kernels/table.h).
#ifndef WF_SIMD_ISA_H_
#define WF_SIMD_ISA_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "wf/base/status.h"
#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace wf::isa {

// kRank: bit of the ISA in masks, and its index in tables.
struct Scalar {  // plain C++: the definition of every result, and whatever is below AVX2
  static constexpr int kRank = 0;
  static constexpr const char* kName = "scalar";
};
struct Avx2 {  // AVX2, FMA, F16C, BMI2
  static constexpr int kRank = 1;
  static constexpr const char* kName = "avx2";
};
struct AvxVnni {  // AVX2 with the VEX form of VPDPBUSD: Alder Lake on, Zen 5
  static constexpr int kRank = 2;
  static constexpr const char* kName = "avxvnni";
};
struct Avx512 {  // F, BW, CD, DQ, VL
  static constexpr int kRank = 3;
  static constexpr const char* kName = "avx512";
};
struct Avx512Vnni256 {  // AvxVnni's body with the EVEX form: 256-bit vectors on AVX-512 machines; never chosen by
                        // itself
  static constexpr int kRank = 4;
  static constexpr const char* kName = "avx512vnni256";
};
struct Avx512Vnni {  // Avx512 with VNNI and VBMI: Ice Lake on, Zen 4 on
  static constexpr int kRank = 5;
  static constexpr const char* kName = "avx512vnni";
};
inline constexpr int kCount = 6;

enum class Id : int { kScalar, kAvx2, kAvxVnni, kAvx512, kAvx512Vnni256, kAvx512Vnni };
inline constexpr const char* kNames[kCount] = {Scalar::kName, Avx2::kName,          AvxVnni::kName,
                                               Avx512::kName, Avx512Vnni256::kName, Avx512Vnni::kName};
inline constexpr const char* Name(Id id) noexcept { return kNames[static_cast<int>(id)]; }

template <uint32_t kMask>
struct BestOf {};  // chosen at run time among the bits of kMask

// Can this machine run it? The operating system's support is included.
inline bool Supported(Id id) noexcept {
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  const bool vnni = __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi");
  unsigned a = 0, b = 0, c = 0, d = 0;
  switch (id) {
    case Id::kScalar:
      return true;
    case Id::kAvx2:
      return avx2;
    case Id::kAvxVnni:  // no compiler name for it before gcc 13
      return avx2 && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && ((a >> 4) & 1u) != 0;
    case Id::kAvx512:
      return avx512;
    case Id::kAvx512Vnni256:
    case Id::kAvx512Vnni:
      return avx512 && vnni;
  }
  return false;
#else
  return id == Id::kScalar;
#endif
}
template <class Isa>
bool Supported(Isa) noexcept {
  return Supported(static_cast<Id>(Isa::kRank));
}

// kInvalidArgument listing the known names.
inline Result<Id> Parse(std::string_view name) {
  std::string known;
  for (int i = 0; i < kCount; ++i) {
    if (name == kNames[i]) return static_cast<Id>(i);
    known += (i ? ", " : "") + std::string(kNames[i]);
  }
  return InvalidArgument("unknown ISA '" + std::string(name) + "'; known: " + known);
}

// The best ISA that this machine supports among the bits of `mask`.
inline Id BestSupported(uint32_t mask) noexcept {
  for (const Id id : {Id::kAvx512Vnni, Id::kAvx512, Id::kAvxVnni, Id::kAvx2})
    if (((mask >> static_cast<int>(id)) & 1u) != 0 && Supported(id)) return id;
  return Id::kScalar;
}

// The ISA called `name`. An unknown name, one that is not in `mask` (not compiled), or one that this CPU lacks is an
// error, never a silent choice of another.
inline Result<Id> Force(std::string_view name, uint32_t mask) {
  WF_ASSIGN(const Id id, Parse(name));
  if (((mask >> static_cast<int>(id)) & 1u) == 0)
    return Unsupported("ISA " + std::string(name) + " is not compiled into this program");
  if (!Supported(id)) return Unsupported("ISA " + std::string(name) + ": this CPU lacks it");
  return id;
}

// The ISA to use: the one that WF_FORCE_ISA names, as by Force(), else the best.
inline Result<Id> Choose(uint32_t mask) {
  const char* forced = std::getenv("WF_FORCE_ISA");
  if (forced == nullptr || *forced == '\0') return BestSupported(mask);
  Result<Id> id = Force(forced, mask);
  if (!id.ok()) return id.status().WithContext("WF_FORCE_ISA=" + std::string(forced));
  return id;
}

}  // namespace wf::isa
#endif  // WF_SIMD_ISA_H_
