// SPDX-License-Identifier: Apache-2.0
// Compiles with wf::kernels: the rank is in instances.def. Its pair is instance_bad.cc.
#include "wf/kernels/dispatch.h"

void Project(const wf::TernaryArgs& a) { wf::TernaryGemv<wf::isa::Best, wf::block::I2S, 64>{}(a); }
