// SPDX-License-Identifier: Apache-2.0
// Must not compile: no rank is -2.
#include "wf/kernels/dispatch.h"

void Project(const wf::TernaryArgs& a) { wf::TernaryGemm<wf::isa::Scalar, wf::block::I2S, -2>{}(a); }
