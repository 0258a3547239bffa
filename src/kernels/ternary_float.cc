// SPDX-License-Identifier: Apache-2.0
// The instances of instances.def over ternary weights that are stored as floats.
#define WF_TARGET_INCLUDE "wf/kernels/ternary-inl.h"
#include "wf/simd/foreach_isa.h"
#include "wf/kernels/ref.h"
#define WF_HERE_F32 WF_YES
#define WF_HERE_F16 WF_YES
#define WF_HERE_BF16 WF_YES
#include "pick.h"
