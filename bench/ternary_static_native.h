// SPDX-License-Identifier: Apache-2.0
// The ternary products as a program gets them that is compiled for one machine: header-only, -march=native, named as
// templates. They lie beside the dispatched ones in this program (simd/mode.h keeps them apart).
#ifndef WF_BENCH_TERNARY_STATIC_NATIVE_H_
#define WF_BENCH_TERNARY_STATIC_NATIVE_H_

#include <span>

#include "wf/kernels/args.h"
#include "wf/quant/types.h"

namespace wf::bench {

struct StaticTernary {
  TensorType type;
  int rank;  // the template argument
  void (*gemv)(const TernaryArgs&) noexcept;
  void (*gemm)(const TernaryArgs&) noexcept;
};

std::span<const StaticTernary> StaticTernaries();
const char* StaticIsa();  // the one that the compiler flags gave

}  // namespace wf::bench
#endif  // WF_BENCH_TERNARY_STATIC_NATIVE_H_
