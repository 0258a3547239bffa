// SPDX-License-Identifier: Apache-2.0
// What the rooms of wf-kernels-bench share: shapes, the axes that are run, random data, working sets, counters. A room
// registers Kernel<isa,type,...>/shape/tokens:n/threads:n/set for every combination of its axes, and marks those of the
// short default set.
#ifndef WF_BENCH_BENCH_H_
#define WF_BENCH_BENCH_H_

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "wf/base/aligned.h"
#include "wf/base/thread_pool.h"
#include "wf/quant/dense.h"
#include "wf/simd/isa.h"

namespace wf::bench {

struct Shape {
  size_t rows, k;
};
// q and o, k and v, gate and up, down of BitNet b1.58 2B.
inline constexpr Shape kSquare = {2560, 2560}, kKv = {640, 2560}, kUp = {6912, 2560}, kDown = {2560, 6912};
inline constexpr Shape kShapes[] = {kSquare, kUp, kDown, kKv};
inline constexpr size_t kTokens[] = {1, 2, 4, 8, 16, 64, 512};

// Which weights an iteration reads: the same as the last one, or others of so many that no cache holds them.
enum class Set { kCache, kDram };
inline constexpr Set kSets[] = {Set::kCache, Set::kDram};

// What to register.
struct Axes {
  bool all = false;           // everything, or the default set
  std::vector<isa::Id> isas;  // compiled and supported, `best` among them
  isa::Id best = isa::Id::kScalar;
  std::vector<int> threads;  // 1, 2 and, if there are more, all cores
};

void AddTernary(const Axes& axes);
void AddTernaryStatic(const Axes& axes);
void AddDense(const Axes& axes);
void AddLowRank(const Axes& axes);
void AddAttention(const Axes& axes);
void AddElementwise(const Axes& axes);

// --- names
std::string Text(Shape s);
std::string Text(Set s);
std::string Text(DenseType t);
// "/2560x2560/tokens:1/threads:1/dram"
std::string Suffix(Shape s, size_t tokens, int threads, Set set);

// --- data: the same on every run
uint32_t Random();    // below 2^32
float RandomFloat();  // in [-1, 1]
AlignedBuffer<float> Floats(size_t n);
// n bytes in [-127, 127].
AlignedBuffer<int8_t> Activations(size_t n);
// A matrix of a dense type. Rows repeat after 64: quantising is slow, and no kernel looks at the values.
AlignedBuffer<uint8_t> DenseMatrix(DenseType type, Shape s);

// Equal weights at one or at many places, each at a multiple of 64 bytes; Next() goes round.
class WorkingSet {
 public:
  WorkingSet(const AlignedBuffer<uint8_t>& weights, Set set);
  const uint8_t* Next() noexcept {
    const uint8_t* p = memory_.data() + at_ * stride_;
    at_ = at_ + 1 == copies_ ? 0 : at_ + 1;
    return p;
  }
  double bytes() const noexcept { return static_cast<double>(bytes_); }  // of one copy

 private:
  size_t bytes_, stride_, copies_, at_ = 0;
  AlignedBuffer<uint8_t> memory_;
};

// The T that make() gave for `key`, made again only if the last call had another key: Google Benchmark calls a
// benchmark several times until it has run for long enough, and neighbours in the list share their weights.
template <class T, class F>
T& Keep(const std::string& key, const F& make) {
  static std::string last;
  static std::unique_ptr<T> value;
  if (value == nullptr || last != key) {
    value.reset();  // before the next one is made: these are large
    value = std::make_unique<T>(make());
    last = key;
  }
  return *value;
}

// --- running
// One pool for each number of threads, kept. Ends the program if the system refuses the threads.
ThreadPool& Pool(int threads);

// Counters: bytes of weights (or cache, or vectors) read and multiplications done by an iteration, as rates.
void Count(benchmark::State& state, double multiplications, double bytes);

// Registers f(State&). With several threads the wall clock counts: Google Benchmark then adds "/real_time" to the name.
template <class F>
void Register(const std::string& name, int threads, F&& f) {
  auto* b = benchmark::RegisterBenchmark(name.c_str(), std::forward<F>(f));
  if (threads > 1) b->UseRealTime();
}

}  // namespace wf::bench
#endif  // WF_BENCH_BENCH_H_
