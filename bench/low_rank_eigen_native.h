// SPDX-License-Identifier: Apache-2.0
// Eigen's low-rank term compiled for the machine that builds the benchmark, behind plain functions: the only unit of
// bench/ that includes Eigen.
#ifndef WF_BENCH_LOW_RANK_EIGEN_NATIVE_H_
#define WF_BENCH_LOW_RANK_EIGEN_NATIVE_H_

#include <cstddef>

#include "wf/kernels/args.h"

namespace wf::bench {

struct EigenTerm {
  const void* u;
  const void* v;
  size_t rows, cols, rank;
  const float* x;
  float* t;
  float* y;
};
using EigenFn = void (*)(const EigenTerm&);

// y += U (V^T x) for F32 or F16 factors; `fixed`: the instance of this rank, one of 16, 64, 128, 256, else the dynamic
// one.
EigenFn FindEigen(FloatType storage, size_t rank, bool fixed);
const char* EigenInstructionSets();

}  // namespace wf::bench
#endif  // WF_BENCH_LOW_RANK_EIGEN_NATIVE_H_
