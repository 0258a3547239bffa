// SPDX-License-Identifier: Apache-2.0
// The kernels that work on floats, for foreach_isa.h. No include guard: each part has its own.
#include "wf/kernels/attention-inl.h"
#include "wf/kernels/dense-inl.h"
#include "wf/kernels/elementwise-inl.h"
#include "wf/kernels/peak-inl.h"
