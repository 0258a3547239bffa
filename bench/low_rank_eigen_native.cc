// SPDX-License-Identifier: Apache-2.0
#include "bench/low_rank_eigen_native.h"

#include "wf/kernels/lrc_eigen.h"

namespace wf::bench {
namespace {

template <FloatType T, int Rank>
void Run(const EigenTerm& e) {
  LrcEigenArgs a;
  a.u = e.u;
  a.v = e.v;
  a.rows = e.rows;
  a.cols = e.cols;
  a.rank = e.rank;
  a.x = e.x;
  a.t = e.t;
  a.y = e.y;
  LrcEigen<T, Rank>{}(a);
}

template <FloatType T>
EigenFn Find(size_t rank, bool fixed) {
  if (fixed && rank == 16) return Run<T, 16>;
  if (fixed && rank == 64) return Run<T, 64>;
  if (fixed && rank == 128) return Run<T, 128>;
  if (fixed && rank == 256) return Run<T, 256>;
  return Run<T, kDynamic>;
}

}  // namespace

EigenFn FindEigen(FloatType storage, size_t rank, bool fixed) {
  return storage == FloatType::kF32 ? Find<FloatType::kF32>(rank, fixed) : Find<FloatType::kF16>(rank, fixed);
}

const char* EigenInstructionSets() { return Eigen::SimdInstructionSetsInUse(); }

}  // namespace wf::bench
