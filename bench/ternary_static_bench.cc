// SPDX-License-Identifier: Apache-2.0
// TernaryStatic<isa,type,rank=R>: wf::TernaryGemv<Isa, Block, Rank> compiled for this machine, to be set beside the
// Ternary<...> of the same name from the dispatched library.
#include "bench/ternary.h"
#include "bench/ternary_static_native.h"

namespace wf::bench {

void AddTernaryStatic(const Axes& axes) {
  for (const StaticTernary& f : StaticTernaries()) {
    const size_t rank = f.rank == kDynamic ? 64 : static_cast<size_t>(f.rank);
    for (const Shape shape : kShapes) {
      for (const Set set : kSets) {
        for (const size_t tokens : kTokens) {
          for (const int threads : axes.threads) {
            const bool down = shape.rows == kDown.rows && shape.k == kDown.k;
            const bool chosen = f.type == TensorType::kI2_S && rank == 0 && threads == 1 && down &&
                                ((tokens == 1 && set == Set::kDram) || (tokens == 512 && set == Set::kCache));
            if (!axes.all && !chosen) continue;
            std::string name = "TernaryStatic<";
            name.append(StaticIsa()).append(",").append(TensorTypeName(f.type)).append(",rank=");
            name.append(f.rank == kDynamic ? "dynamic:" : "").append(std::to_string(rank)).append(">");
            const TernaryCase c = {f.type, rank, shape, tokens, threads, set};
            Register(name + Suffix(shape, tokens, threads, set), threads,
                     [c, call = tokens == 1 ? f.gemv : f.gemm](benchmark::State& s) { RunTernary(s, c, call); });
          }
        }
      }
    }
  }
}

}  // namespace wf::bench
