// SPDX-License-Identifier: Apache-2.0
// Part of foreach_isa.h: the passes with 256-bit VNNI over Highway's AVX2 ops. No include guard.
#define WF_ISA_TAG AvxVnni
#define WF_ISA_VNNI 1
#define WF_NAMESPACE N_WF_AVXVNNI
#include WF_TARGET_INCLUDE
#include "wf/simd/flip-wf.h"
#define WF_ISA_TAG Avx512Vnni256
#define WF_ISA_VNNI 2
#define WF_NAMESPACE N_WF_AVX512VNNI256
#include WF_TARGET_INCLUDE
#include "wf/simd/flip-wf.h"
