// SPDX-License-Identifier: Apache-2.0
// Must not compile with wf::kernels: nobody listed this rank in instances.def. Header-only it compiles.
#include "wf/kernels/dispatch.h"

void Project(const wf::TernaryArgs& a) { wf::TernaryGemv<wf::isa::Best, wf::block::I2S, 63>{}(a); }
