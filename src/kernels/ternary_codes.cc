// SPDX-License-Identifier: Apache-2.0
// The instances of instances.def over the other packed types.
#define WF_TARGET_INCLUDE "wf/kernels/ternary-inl.h"
#include "wf/simd/foreach_isa.h"
#include "wf/kernels/ref.h"
#define WF_HERE_TQ1_0 WF_YES
#define WF_HERE_TQ2_0 WF_YES
#define WF_HERE_IQ1_BN WF_YES
#define WF_HERE_IQ2_BN WF_YES
#define WF_HERE_IQ2_BN_R4 WF_YES
#define WF_HERE_Q2_0 WF_YES
#define WF_HERE_Q2_0_128 WF_YES
#define WF_HERE_I2S_ARM64 WF_YES
#define WF_HERE_I2S_X4 WF_YES
#include "pick.h"
