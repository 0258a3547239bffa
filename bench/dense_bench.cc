// SPDX-License-Identifier: Apache-2.0
// Dense<isa,type>: the float products of head, routers and low-rank inputs, rows split as the model splits them. In
// DRAM a square matrix stands for the head, which is many of them; with --all the whole head is there, too.
#include "bench/bench.h"
#include "wf/kernels/table.h"

namespace wf::bench {
namespace {

constexpr Shape kHead = {128256, 2560};
constexpr size_t kGrain = 256;  // of model/projector-impl.h

struct DenseCase {
  DenseType type;
  Shape shape;
  size_t tokens;
  int threads;
  Set set;
};

void RunDense(benchmark::State& state, const KernelTable& k, const DenseCase& c) {
  const Shape s = c.shape;
  WorkingSet& w =
      Keep<WorkingSet>(Text(c.type) + Text(s) + Text(c.set), [&] { return WorkingSet(DenseMatrix(c.type, s), c.set); });
  const AlignedBuffer<float> x = Floats(c.tokens * s.k);
  AlignedBuffer<float> y(c.tokens * s.rows);
  DenseArgs a;
  a.k = s.k;
  a.x = x.data();
  a.x_stride = s.k;
  a.tokens = c.tokens;
  a.y = y.data();
  a.y_stride = s.rows;
  ThreadPool& pool = Pool(c.threads);
  const auto fn = k.dense[static_cast<size_t>(c.type)];
  for (auto _ : state) {
    a.w = w.Next();
    pool.ParallelFor(s.rows, kGrain, [&a, fn](size_t begin, size_t end, int) {
      DenseArgs part = a;
      part.row_begin = begin;
      part.row_end = end;
      fn(part);
    });
    benchmark::ClobberMemory();
  }
  Count(state, static_cast<double>(s.rows * s.k * c.tokens), w.bytes());
}

}  // namespace

void AddDense(const Axes& axes) {
  const auto add = [&axes](const DenseCase& c) {
    for (const isa::Id id : axes.isas) {
      const bool chosen = id == axes.best && c.shape.rows == kSquare.rows && c.threads <= 2 &&
                          (c.set == Set::kDram ? c.tokens == 1 : c.tokens == 16 && c.threads == 1);
      if (!axes.all && !chosen) continue;
      Register(std::string("Dense<") + isa::Name(id) + "," + Text(c.type) + ">" +
                   Suffix(c.shape, c.tokens, c.threads, c.set),
               c.threads, [c, k = &Kernels(id)](benchmark::State& s) { RunDense(s, *k, c); });
    }
  };
  for (size_t i = 0; i < kDenseTypes; ++i) {
    for (const Shape shape : {kSquare, kHead}) {
      for (const Set set : kSets) {
        if (shape.rows == kHead.rows && set == Set::kCache) continue;  // no cache holds it
        for (const size_t tokens : kTokens) {
          for (const int threads : axes.threads) add({static_cast<DenseType>(i), shape, tokens, threads, set});
        }
      }
    }
  }
}

}  // namespace wf::bench
