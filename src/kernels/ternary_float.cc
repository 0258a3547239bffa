// SPDX-License-Identifier: Apache-2.0
// The instances of instances.def over ternary weights that are stored as floats.
#define WF_TARGET_INCLUDE "wf/kernels/ternary-inl.h"
#include "wf/simd/foreach_isa.h"
#include "wf/kernels/ref.h"
namespace wf::detail {
#define WF_INSTANCE(ISA, B, R) WF_MAKE_##B(ISA, R)
#define WF_MAKE(ISA, BLOCK, R)                                                       \
  template void TernaryGemvKernel<BLOCK, R>(isa::ISA, const TernaryArgs&) noexcept; \
  template void TernaryGemmKernel<BLOCK, R>(isa::ISA, const TernaryArgs&) noexcept;
#define WF_MAKE_I2S(ISA, R)
#define WF_MAKE_F32(ISA, R) WF_MAKE(ISA, block::F32, R)
#define WF_MAKE_F16(ISA, R) WF_MAKE(ISA, block::F16, R)
#define WF_MAKE_BF16(ISA, R) WF_MAKE(ISA, block::BF16, R)
#include "wf/kernels/instances.def"
}  // namespace wf::detail
