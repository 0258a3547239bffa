// SPDX-License-Identifier: Apache-2.0
// Per pass: sets WF_ISA_TAG for the baseline pass, and WF_BEFORE_NAMESPACE (adds VNNI to the region).
// WF_ISA_VNNI: 0 none, 1 VEX 256-bit, 2 EVEX 256-bit, 3 EVEX 512-bit.
#include "wf/simd/hwy.h"
#include "wf/simd/isa.h"
#include "wf/simd/mode.h"
#include "hwy/highway.h"
#undef WF_BEFORE_NAMESPACE
#undef WF_AFTER_NAMESPACE
#ifndef WF_ISA_TAG   // the baseline pass: whatever the compiler flags allow
#if HWY_TARGET <= HWY_AVX3 && defined(__AVX512VNNI__)
#define WF_ISA_TAG Avx512Vnni
#define WF_ISA_VNNI 3
#elif HWY_TARGET <= HWY_AVX3
#define WF_ISA_TAG Avx512
#define WF_ISA_VNNI 0
#elif HWY_TARGET == HWY_AVX2 && defined(__AVXVNNI__)
#define WF_ISA_TAG AvxVnni
#define WF_ISA_VNNI 1
#elif HWY_TARGET == HWY_AVX2
#define WF_ISA_TAG Avx2
#define WF_ISA_VNNI 0
#else
#error "wf: no kernel pass below AVX2; include wf/kernels/dispatch.h"
#endif
#define WF_NAMESPACE N_WF_BASELINE
#define WF_BEFORE_NAMESPACE() HWY_BEFORE_NAMESPACE()
#elif WF_ISA_VNNI == 1
#define WF_BEFORE_NAMESPACE() HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR_AVX2 ",avxvnni") static_assert(true, "")
#elif WF_ISA_VNNI == 2
#define WF_BEFORE_NAMESPACE() HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR_AVX2 ",avx512f,avx512vl,avx512bw,avx512dq,avx512vnni") static_assert(true, "")
#elif WF_ISA_VNNI == 3
#define WF_BEFORE_NAMESPACE() HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR_AVX3 ",avx512vnni,avx512vbmi") static_assert(true, "")
#else
#define WF_BEFORE_NAMESPACE() HWY_BEFORE_NAMESPACE()
#endif
#define WF_AFTER_NAMESPACE() HWY_AFTER_NAMESPACE()
