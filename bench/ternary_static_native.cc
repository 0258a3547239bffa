// SPDX-License-Identifier: Apache-2.0
#include "bench/ternary_static_native.h"

#include "wf/kernels/dispatch.h"

namespace wf::bench {
namespace {

#if WF_ISA_MASK & 0x20u
using Native = isa::Avx512Vnni;
#elif WF_ISA_MASK & 0x08u
using Native = isa::Avx512;
#elif WF_ISA_MASK & 0x04u
using Native = isa::AvxVnni;
#elif WF_ISA_MASK & 0x02u
using Native = isa::Avx2;
#else
using Native = isa::Scalar;
#endif

template <class Block, int Rank>
constexpr StaticTernary Instance() {
  return {Block::kType, Rank, [](const TernaryArgs& a) noexcept { TernaryGemv<Native, Block, Rank>{}(a); },
          [](const TernaryArgs& a) noexcept { TernaryGemm<Native, Block, Rank>{}(a); }};
}

constexpr StaticTernary kInstances[] = {
    Instance<block::I2S, 0>(),   Instance<block::I2S, 64>(),  Instance<block::I2S, kDynamic>(),
    Instance<block::TQ2_0, 0>(), Instance<block::TQ1_0, 0>(), Instance<block::IQ2_BN, 0>(),
};

}  // namespace

std::span<const StaticTernary> StaticTernaries() { return kInstances; }
const char* StaticIsa() { return Native::kName; }

}  // namespace wf::bench
