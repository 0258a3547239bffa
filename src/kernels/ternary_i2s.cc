// SPDX-License-Identifier: Apache-2.0
// The instances of instances.def over I2_S.
#define WF_TARGET_INCLUDE "wf/kernels/ternary-inl.h"
#include "wf/simd/foreach_isa.h"
#include "wf/kernels/ref.h"
#define WF_HERE_I2S WF_YES
#include "pick.h"
