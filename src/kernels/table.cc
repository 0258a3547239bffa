// SPDX-License-Identifier: Apache-2.0
// Function pointers to the instances, by run-time ISA, type and rank.
#include "wf/kernels/table-impl.h"
