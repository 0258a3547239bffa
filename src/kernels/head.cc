// SPDX-License-Identifier: Apache-2.0
// The scan of the output head for every ISA.
#define WF_TARGET_INCLUDE "wf/kernels/head_scan-inl.h"
#include "wf/simd/foreach_isa.h"
#include "wf/kernels/instances.h"
#include "wf/kernels/ref_head.h"
namespace wf::detail {
WF_FOR_EVERY_ISA(WF_HEAD_INSTANCES, )
}  // namespace wf::detail
