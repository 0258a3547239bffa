// SPDX-License-Identifier: Apache-2.0
// The instances of instances.def.
#define WF_TARGET_INCLUDE "wf/kernels/ternary-inl.h"
#include "wf/simd/foreach_isa.h"
#include "wf/kernels/ref.h"
namespace wf::detail {
#define WF_INSTANCE(ISA, B, R)                                                              \
  template void TernaryGemvKernel<block::B, R>(isa::ISA, const TernaryArgs&) noexcept;     \
  template void TernaryGemmKernel<block::B, R>(isa::ISA, const TernaryArgs&) noexcept;
#include "wf/kernels/instances.def"
}  // namespace wf::detail
