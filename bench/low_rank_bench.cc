// SPDX-License-Identifier: Apache-2.0
// LowRank<highway,isa,...> and LowRank<eigen,fixed or dynamic,...>: the term y += U (V^T x) alone, side by side. With
// Highway that is the dense kernel for V^T x and again for U's rows, because the ternary kernel adds U t while it
// stores y and cannot be timed without it.
#include "bench/bench.h"
#include "bench/low_rank_eigen_native.h"
#include "wf/kernels/table.h"

namespace wf::bench {
namespace {

constexpr Shape kShape = kSquare;

struct Factors {
  size_t v = 0;  // where a copy's V begins, behind U
  WorkingSet set;
};

Factors& KeepFactors(DenseType type, size_t rank, Set set) {
  return Keep<Factors>(Text(type) + std::to_string(rank) + Text(set), [&]() -> Factors {
    const AlignedBuffer<uint8_t> u = DenseMatrix(type, {kShape.rows, rank}), v = DenseMatrix(type, {rank, kShape.k});
    AlignedBuffer<uint8_t> both(u.size() + v.size());
    std::memcpy(both.data(), u.data(), u.size());
    std::memcpy(both.data() + u.size(), v.data(), v.size());
    return {u.size(), WorkingSet(both, set)};
  });
}

void CountTerm(benchmark::State& state, size_t rank, const Factors& f) {
  Count(state, static_cast<double>(rank * (kShape.rows + kShape.k)), f.set.bytes());
}

void RunHighway(benchmark::State& state, const KernelTable& k, DenseType type, size_t rank, Set set) {
  Factors& f = KeepFactors(type, rank, set);
  const AlignedBuffer<float> x = Floats(kShape.k);
  AlignedBuffer<float> t(rank), y(kShape.rows);
  DenseArgs project;
  project.k = kShape.k;
  project.row_end = rank;
  project.x = x.data();
  project.y = t.data();
  DenseArgs expand;
  expand.k = rank;
  expand.row_end = kShape.rows;
  expand.x = t.data();
  expand.y = y.data();
  expand.bias = y.data();  // y += U t
  const auto fn = k.dense[static_cast<size_t>(type)];
  for (auto _ : state) {
    const uint8_t* factors = f.set.Next();
    project.w = factors + f.v;
    expand.w = factors;
    fn(project);
    fn(expand);
    benchmark::ClobberMemory();
  }
  CountTerm(state, rank, f);
}

void RunEigen(benchmark::State& state, DenseType type, size_t rank, EigenFn fn, Set set) {
  Factors& f = KeepFactors(type, rank, set);
  const AlignedBuffer<float> x = Floats(kShape.k);
  AlignedBuffer<float> t(rank), y(kShape.rows);
  for (auto _ : state) {
    const uint8_t* factors = f.set.Next();
    fn({factors, factors + f.v, kShape.rows, kShape.k, rank, x.data(), t.data(), y.data()});
    benchmark::ClobberMemory();
  }
  CountTerm(state, rank, f);
}

}  // namespace

void AddLowRank(const Axes& axes) {
  for (const DenseType type : {DenseType::kF16, DenseType::kF32}) {
    for (const size_t rank : {16u, 64u, 128u, 256u}) {
      for (const Set set : kSets) {
        std::string rest = ",";
        rest.append(Text(type)).append(",rank=").append(std::to_string(rank)).append(">/");
        rest.append(Text(kShape)).append("/").append(Text(set));
        for (const isa::Id id : axes.isas) {
          if (!axes.all && (id != axes.best || set != Set::kCache)) continue;
          Register(std::string("LowRank<highway,") + isa::Name(id) + rest, 1,
                   [=, k = &Kernels(id)](benchmark::State& s) { RunHighway(s, *k, type, rank, set); });
        }
        for (const bool fixed : {true, false}) {
          if (!axes.all && (!fixed || set != Set::kCache)) continue;
          const EigenFn fn = FindEigen(type == DenseType::kF32 ? FloatType::kF32 : FloatType::kF16, rank, fixed);
          Register(std::string("LowRank<eigen,") + (fixed ? "fixed" : "dynamic") + rest, 1,
                   [=](benchmark::State& s) { RunEigen(s, type, rank, fn, set); });
        }
      }
    }
  }
}

}  // namespace wf::bench
