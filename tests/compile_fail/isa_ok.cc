// SPDX-License-Identifier: Apache-2.0
// Compiles in static mode for -march=x86-64-v3: the flags' ISA, Scalar, and the best of both.
#include "wf/kernels/dispatch.h"

void Project(const wf::TernaryArgs& a) {
  wf::TernaryGemv<wf::isa::Avx2, wf::block::I2S, 64>{}(a);
  wf::TernaryGemv<wf::isa::Scalar, wf::block::I2S, 64>{}(a);
  wf::TernaryGemv<wf::isa::Best, wf::block::I2S, 64>{}(a);
}
