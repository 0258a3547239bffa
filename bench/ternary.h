// SPDX-License-Identifier: Apache-2.0
// Benchmarking one ternary product, however it is called: through the table of a build with all ISAs, or as a template.
#ifndef WF_BENCH_TERNARY_H_
#define WF_BENCH_TERNARY_H_

#include "bench/bench.h"
#include "wf/kernels/args.h"
#include "wf/quant/types.h"

namespace wf::bench {

using TernaryCall = void (*)(const TernaryArgs&) noexcept;

struct TernaryCase {
  TensorType type;
  size_t rank;  // of the low-rank factors (F16); 0: none
  Shape shape;
  size_t tokens;
  int threads;
  Set set;
  bool block_scales = false;  // a stored scale for each block instead of the same in all
};

// Times fn (a gemv for one token, a gemm for more) on random weights.
void RunTernary(benchmark::State& state, const TernaryCase& c, TernaryCall fn);

}  // namespace wf::bench
#endif  // WF_BENCH_TERNARY_H_
