// SPDX-License-Identifier: Apache-2.0
// Every per-ISA kernel body, for foreach_isa.h. No include guard: each part has its own.
#include "wf/kernels/floats-inl.h"
#include "wf/kernels/head_scan-inl.h"
#include "wf/kernels/ternary-inl.h"
