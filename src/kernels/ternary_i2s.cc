// SPDX-License-Identifier: Apache-2.0
// The instances of instances.def over I2_S.
#define WF_TARGET_INCLUDE "wf/kernels/ternary-inl.h"
#include "wf/simd/foreach_isa.h"
#include "wf/kernels/ref.h"
namespace wf::detail {
#define WF_INSTANCE(ISA, B, R) WF_MAKE_##B(ISA, R)
#define WF_MAKE_I2S(ISA, R)                                                               \
  template void TernaryGemvKernel<block::I2S, R>(isa::ISA, const TernaryArgs&) noexcept; \
  template void TernaryGemmKernel<block::I2S, R>(isa::ISA, const TernaryArgs&) noexcept;
#define WF_MAKE_F32(ISA, R)
#define WF_MAKE_F16(ISA, R)
#define WF_MAKE_BF16(ISA, R)
#include "wf/kernels/instances.def"
}  // namespace wf::detail
