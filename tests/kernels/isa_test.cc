// SPDX-License-Identifier: Apache-2.0
// ISAs by name: listed, forced, refused.
#include "wf/simd/isa.h"

#include <cstdlib>

#include "tests/catch.h"
#include "wf/kernels/dispatch.h"
#include "wf/kernels/table.h"

using wf::isa::Id;

TEST_CASE("every ISA has a name that leads back to it") {
  for (int i = 0; i < wf::isa::kCount; ++i) {
    const auto id = wf::isa::Parse(wf::isa::kNames[i]);
    REQUIRE(id.ok());
    CHECK(static_cast<int>(*id) == i);
  }
  const auto unknown = wf::isa::Parse("avx1024");
  REQUIRE_FALSE(unknown.ok());
  CHECK(unknown.status().code() == wf::ErrorCode::kInvalidArgument);
  CHECK(unknown.status().message().find("scalar, avx2, avxvnni, avx512, avx512vnni256, avx512vnni") !=
        std::string::npos);
}

TEST_CASE("the best ISA is compiled and supported, and never the 256-bit form of AVX-512") {
  const Id best = wf::isa::BestSupported(wf::CompiledIsas());
  CHECK(wf::isa::Supported(best));
  CHECK(best != Id::kAvx512Vnni256);
  CHECK(wf::isa::BestSupported(1u) == Id::kScalar);
}

TEST_CASE("forcing an ISA gives that one or an error") {
  for (int i = 0; i < wf::isa::kCount; ++i) {
    const auto id = wf::isa::Force(wf::isa::kNames[i], wf::CompiledIsas());
    CHECK(id.ok() == wf::isa::Supported(static_cast<Id>(i)));
    if (id.ok()) CHECK(wf::Kernels(*id).isa == *id);
  }
  const auto missing = wf::isa::Force("avx512", 1u);
  REQUIRE_FALSE(missing.ok());
  CHECK(missing.status().message() == "ISA avx512 is not compiled into this program");
}

TEST_CASE("WF_FORCE_ISA is obeyed, and refused when it cannot be") {
  const char* before = std::getenv("WF_FORCE_ISA");
  const std::string saved = before == nullptr ? "" : before;
  ::setenv("WF_FORCE_ISA", "scalar", 1);
  const auto scalar = wf::isa::Choose(wf::CompiledIsas());
  ::setenv("WF_FORCE_ISA", "avx9", 1);
  const auto unknown = wf::isa::Choose(wf::CompiledIsas());
  ::setenv("WF_FORCE_ISA", "", 1);
  const auto best = wf::isa::Choose(wf::CompiledIsas());
  if (before == nullptr) {
    ::unsetenv("WF_FORCE_ISA");
  } else {
    ::setenv("WF_FORCE_ISA", saved.c_str(), 1);
  }
  REQUIRE(scalar.ok());
  CHECK(*scalar == Id::kScalar);
  REQUIRE_FALSE(unknown.ok());
  CHECK(unknown.status().message().find("WF_FORCE_ISA=avx9") == 0);
  REQUIRE(best.ok());
  CHECK(*best == wf::isa::BestSupported(wf::CompiledIsas()));
}
