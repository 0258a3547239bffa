// SPDX-License-Identifier: Apache-2.0
// Bodies of bench.h.
#include "bench/bench.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>

#include "wf/quant/pack.h"
#include "wf/quant/types.h"

namespace wf::bench {
namespace {

// Several times the last-level cache, so that what is left in it from the last round does not count.
size_t BeyondCaches() {
  size_t cache = 0;
  for (const auto& c : benchmark::CPUInfo::Get().caches) cache = std::max(cache, static_cast<size_t>(c.size));
  return std::max<size_t>(size_t{256} << 20, 4 * cache);
}

}  // namespace

std::string Text(Shape s) { return std::to_string(s.rows) + "x" + std::to_string(s.k); }
std::string Text(Set s) { return s == Set::kCache ? "cache" : "dram"; }
std::string Text(DenseType t) { return std::string(TensorTypeName(kDenseTensorTypes[static_cast<size_t>(t)])); }
std::string Suffix(Shape s, size_t tokens, int threads, Set set) {
  std::string t = "/";
  t.append(Text(s)).append("/tokens:").append(std::to_string(tokens)).append("/threads:");
  return t.append(std::to_string(threads)).append("/").append(Text(set));
}

uint32_t Random() {
  static std::mt19937 rng(1);
  return static_cast<uint32_t>(rng());
}
float RandomFloat() { return static_cast<float>(Random() % 2001) / 1000.0f - 1; }

AlignedBuffer<float> Floats(size_t n) {
  AlignedBuffer<float> b(n);
  for (size_t i = 0; i < n; ++i) b[i] = RandomFloat();
  return b;
}

AlignedBuffer<int8_t> Activations(size_t n) {
  AlignedBuffer<int8_t> b(n);
  for (size_t i = 0; i < n; ++i) b[i] = static_cast<int8_t>(static_cast<int>(Random() % 255) - 127);
  return b;
}

AlignedBuffer<uint8_t> DenseMatrix(DenseType type, Shape s) {
  const size_t row = s.k / DenseBlock(type) * DenseBlockBytes(type);
  AlignedBuffer<uint8_t> b(s.rows * row);
  for (size_t r = 0; r < s.rows; ++r) {
    if (r < 64) {
      QuantiseDenseRow(kDenseTensorTypes[static_cast<size_t>(type)], Floats(s.k).data(), s.k, b.data() + r * row);
    } else {
      std::memcpy(b.data() + r * row, b.data() + (r - 64) * row, row);
    }
  }
  return b;
}

WorkingSet::WorkingSet(const AlignedBuffer<uint8_t>& weights, Set set)
    : bytes_(weights.size()),
      stride_((weights.size() + 63) / 64 * 64),
      copies_(set == Set::kCache ? 1 : (BeyondCaches() + stride_ - 1) / stride_),
      memory_(copies_ * stride_) {
  for (size_t i = 0; i < copies_; ++i) std::memcpy(memory_.data() + i * stride_, weights.data(), bytes_);
}

ThreadPool& Pool(int threads) {
  static std::map<int, std::unique_ptr<ThreadPool>> pools;
  auto& p = pools[threads];
  if (p == nullptr) p = std::make_unique<ThreadPool>(threads);
  if (!p->status().ok()) {
    std::fprintf(stderr, "wf-kernels-bench: %s\n", p->status().message().c_str());
    std::exit(1);
  }
  return *p;
}

void Count(benchmark::State& state, double multiplications, double bytes) {
  state.counters["multiplications/s"] =
      benchmark::Counter(multiplications, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["bytes/s"] = benchmark::Counter(bytes, benchmark::Counter::kIsIterationInvariantRate);
}

}  // namespace wf::bench
