// SPDX-License-Identifier: Apache-2.0
// Head, attention and row-wise kernels for every ISA.
#define WF_TARGET_INCLUDE "wf/kernels/floats-inl.h"
#include "wf/simd/foreach_isa.h"
#include "wf/kernels/instances.h"
#include "wf/kernels/ref_attention.h"
namespace wf::detail {
WF_FOR_EVERY_ISA(WF_FLOAT_INSTANCES, )
}  // namespace wf::detail
