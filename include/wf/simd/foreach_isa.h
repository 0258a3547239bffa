// SPDX-License-Identifier: Apache-2.0
// Includes WF_TARGET_INCLUDE once per ISA at or above the compiler's baseline. Like
// hwy/foreach_target.h, with three differences: it includes a *header* (so a header-only library can
// call it), it adds VNNI passes that work with Highway 1.0.3, and it runs the baseline pass too (so
// nothing has to follow it). Below AVX2 there is no pass: isa::Scalar is kernels/ref.h.
// One use per translation unit. On other processors than x86-64 there is no pass at all.
#ifndef WF_SIMD_FOREACH_ISA_H_
#define WF_SIMD_FOREACH_ISA_H_
#include "wf/simd/mode.h"
#if defined(__x86_64__)
#include "wf/simd/hwy.h"
#include "wf/simd/isa.h"
#include "hwy/detect_targets.h"
#ifdef HWY_HIGHWAY_INCLUDED
#error "wf/simd/foreach_isa.h must come before any hwy/highway.h in this translation unit"
#endif
#define WF_IN_FOREACH 1
// ---- AVX2 above the baseline, then its two VNNI forms over the same Highway ops (only our toggle flips)
#if (HWY_TARGETS & HWY_AVX2) && HWY_STATIC_TARGET != HWY_AVX2
#undef HWY_TARGET
#define HWY_TARGET HWY_AVX2
#define WF_ISA_TAG Avx2
#define WF_ISA_VNNI 0
#define WF_NAMESPACE N_WF_AVX2
#include WF_TARGET_INCLUDE
#include "wf/simd/flip-wf.h"
#include "wf/simd/foreach_avx2_vnni.h"
#include "wf/simd/flip-hwy.h"
#endif
// ---- AVX-512 above the baseline, then AVX-512 + VNNI
#if (HWY_TARGETS & HWY_AVX3) && HWY_STATIC_TARGET > HWY_AVX3
#undef HWY_TARGET
#define HWY_TARGET HWY_AVX3
#define WF_ISA_TAG Avx512
#define WF_ISA_VNNI 0
#define WF_NAMESPACE N_WF_AVX512
#include WF_TARGET_INCLUDE
#include "wf/simd/flip-wf.h"
#define WF_ISA_TAG Avx512Vnni
#define WF_ISA_VNNI 3
#define WF_NAMESPACE N_WF_AVX512VNNI
#include WF_TARGET_INCLUDE
#include "wf/simd/flip-wf.h"
#include "wf/simd/flip-hwy.h"
#endif
// ---- the baseline itself, if it is AVX2 or better
#undef HWY_TARGET
#define HWY_TARGET HWY_STATIC_TARGET
#if HWY_STATIC_TARGET <= HWY_AVX2
#if HWY_STATIC_TARGET == HWY_AVX2 && defined(__AVXVNNI__)   // the baseline pass is AvxVnni's: plain AVX2 is ours to add
#define WF_ISA_TAG Avx2
#define WF_ISA_VNNI 0
#define WF_NAMESPACE N_WF_AVX2
#include WF_TARGET_INCLUDE
#include "wf/simd/flip-wf.h"
#elif HWY_STATIC_TARGET <= HWY_AVX3 || !defined(__AVXVNNI__)
#include WF_TARGET_INCLUDE
#include "wf/simd/flip-wf.h"
#endif
#if HWY_STATIC_TARGET == HWY_AVX2
#include "wf/simd/foreach_avx2_vnni.h"
#elif HWY_STATIC_TARGET <= HWY_AVX3 && !defined(__AVX512VNNI__)   // e.g. -march=x86-64-v4
#define WF_ISA_TAG Avx512Vnni
#define WF_ISA_VNNI 3
#define WF_NAMESPACE N_WF_AVX512VNNI
#include WF_TARGET_INCLUDE
#include "wf/simd/flip-wf.h"
#endif
#endif
#undef WF_IN_FOREACH
#endif  // x86-64
#endif
