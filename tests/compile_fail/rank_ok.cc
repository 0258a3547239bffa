// SPDX-License-Identifier: Apache-2.0
// Compiles: every rank that has a meaning. Its pair is rank_bad.cc.
#include "wf/kernels/dispatch.h"

void Project(const wf::TernaryArgs& a) {
  wf::TernaryGemv<wf::isa::Scalar, wf::block::I2S>{}(a);
  wf::TernaryGemv<wf::isa::Scalar, wf::block::I2S, 0>{}(a);
  wf::TernaryGemv<wf::isa::Scalar, wf::block::I2S, 48>{}(a);
  wf::TernaryGemm<wf::isa::Scalar, wf::block::I2S, wf::kDynamic>{}(a);
}
