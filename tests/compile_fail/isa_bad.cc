// SPDX-License-Identifier: Apache-2.0
// Must not compile in static mode for -march=x86-64-v3: the flags allow no AVX-512. With every ISA compiled it does.
#include "wf/kernels/dispatch.h"

void Project(const wf::TernaryArgs& a) { wf::TernaryGemv<wf::isa::Avx512Vnni, wf::block::I2S, 64>{}(a); }
