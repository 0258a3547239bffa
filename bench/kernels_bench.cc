// SPDX-License-Identifier: Apache-2.0
// Benchmarks of the kernels, one thread, on the shapes of the 2B model, for every ISA that this CPU has. Names are
// kernel/isa/type/rank/rows x columns/tokens, so that --benchmark_filter picks an axis, e.g.
//   wf-kernels-bench --benchmark_filter='ternary/avx512vnni/I2_S/rank:(0|64)/' --benchmark_repetitions=9
//   wf-kernels-bench --benchmark_filter='^low_rank/'    the Highway product and Eigen's side by side
// Counters: GMAC/s, and bytes/s of weights or cache read. Whole models: tools/, not here.
#include <benchmark/benchmark.h>

#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "bench/lrc_eigen_native.h"
#include "wf/base/aligned.h"
#include "wf/base/half.h"
#include "wf/kernels/table.h"
#include "wf/quant/block.h"
#include "wf/quant/dense.h"
#include "wf/quant/pack.h"

namespace {

using benchmark::State;
using wf::DenseType;
using wf::FloatType;
using wf::TensorType;

struct Shape {
  size_t rows, k;
};
// q and o, k and v, gate and up, down of BitNet b1.58 2B.
constexpr Shape kShapes[] = {{2560, 2560}, {640, 2560}, {6912, 2560}, {2560, 6912}};
constexpr size_t kHeads = 20, kKvHeads = 5, kHeadDim = 128;
constexpr size_t kHeadRows = 8192;  // of the 128256 rows of the head: larger than L2, quick to make

template <class T>
using Buffer = std::shared_ptr<wf::AlignedBuffer<T>>;

template <class T, class F>
Buffer<T> Fill(size_t n, const F& next) {
  auto b = std::make_shared<wf::AlignedBuffer<T>>(n);
  for (size_t i = 0; i < n; ++i) (*b)[i] = next();
  return b;
}
std::mt19937& Rng() {
  static std::mt19937 rng(1);
  return rng;
}
float Uniform() { return static_cast<float>(Rng()() % 2001) / 1000.0f - 1; }
Buffer<float> Floats(size_t n) { return Fill<float>(n, Uniform); }

// n values of a storage type; bytes, since their type is known at run time only.
Buffer<uint8_t> Stored(FloatType type, size_t n) {
  const size_t size = type == FloatType::kF32 ? 4 : 2;
  auto b = std::make_shared<wf::AlignedBuffer<uint8_t>>(n * size);
  for (size_t i = 0; i < n; ++i) {
    const float f = Uniform();
    const uint16_t h = type == FloatType::kF16 ? wf::F16FromF32(f) : wf::Bf16FromF32(f);
    std::memcpy(b->data() + i * size, type == FloatType::kF32 ? static_cast<const void*>(&f) : &h, size);
  }
  return b;
}

// A matrix of a dense type. Rows repeat after 64: quantising is slow, and the kernels do not care.
Buffer<uint8_t> Dense(DenseType type, Shape s) {
  const size_t row = s.k / wf::DenseBlock(type) * wf::DenseBlockBytes(type);
  auto b = std::make_shared<wf::AlignedBuffer<uint8_t>>(s.rows * row);
  for (size_t r = 0; r < s.rows; ++r) {
    if (r < 64) {
      wf::QuantiseDenseRow(wf::kDenseTensorTypes[static_cast<size_t>(type)], Floats(s.k)->data(), s.k,
                           b->data() + r * row);
    } else {
      std::memcpy(b->data() + r * row, b->data() + (r - 64) * row, row);
    }
  }
  return b;
}

// Ternary weights of a tensor type, drawn uniformly.
Buffer<uint8_t> Ternary(TensorType type, Shape s) {
  const size_t n = s.rows * s.k;
  if (wf::IsPackedTernary(type)) {
    std::vector<int8_t> values(n);
    for (auto& v : values) v = static_cast<int8_t>(static_cast<int>(Rng()() % 3) - 1);
    uint64_t bytes = n / 4;
    if (!wf::IsI2s(type)) (void)wf::TensorBytes(*wf::FindTensorType(static_cast<uint32_t>(type)), s.k, s.rows, &bytes);
    auto b = std::make_shared<wf::AlignedBuffer<uint8_t>>(bytes);
    wf::PackTernary(type, values.data(), s.rows, s.k, 1.0f, b->data());
    return b;
  }
  const size_t size = type == TensorType::kF32 ? 4 : 2;
  auto b = std::make_shared<wf::AlignedBuffer<uint8_t>>(n * size);
  for (size_t i = 0; i < n; ++i) {
    const float f = static_cast<float>(static_cast<int>(Rng()() % 3) - 1);
    const uint16_t h = type == TensorType::kF16 ? wf::F16FromF32(f) : wf::Bf16FromF32(f);
    std::memcpy(b->data() + i * size, type == TensorType::kF32 ? static_cast<const void*>(&f) : &h, size);
  }
  return b;
}
// Gives every block of Q2_0 or its variant a scale of its own, as files with scales for groups of weights have.
void ScaleBlocks(TensorType type, wf::AlignedBuffer<uint8_t>* w) {
  const size_t bytes = type == TensorType::kQ2_0 ? wf::block::Q2_0::kBytes : wf::block::Q2_0_128::kBytes;
  for (size_t at = 0; at < w->size(); at += bytes) {
    const uint16_t d = wf::F16FromF32(1 + static_cast<float>(at / bytes % 997) / 1000.0f);
    std::memcpy(w->data() + at, &d, 2);
  }
}

void Count(State& state, double macs, double bytes) {
  state.counters["GMAC/s"] = benchmark::Counter(macs * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["bytes/s"] = benchmark::Counter(bytes, benchmark::Counter::kIsIterationInvariantRate);
}

std::string Name(const char* kernel, wf::isa::Id id, const std::string& rest) {
  return std::string(kernel) + "/" + wf::isa::Name(id) + "/" + rest;
}
std::string Text(Shape s) { return std::to_string(s.rows) + "x" + std::to_string(s.k); }

struct TernaryCase {
  wf::TernaryInstance fn;
  TensorType type;
  size_t rank;
  Shape shape;
  size_t tokens;
  bool block_scales = false;  // a scale a block instead of one for all
};

void RunTernary(State& state, const TernaryCase& c) {
  const Shape s = c.shape;
  const auto order = wf::block::OrderFor(c.type, s.k);
  const size_t stride = wf::block::ActBytes(order, s.k);
  const auto w = Ternary(c.type, s);
  if (c.block_scales) ScaleBlocks(c.type, w.get());
  const auto x =
      Fill<int8_t>(stride * c.tokens, [] { return static_cast<int8_t>(static_cast<int>(Rng()() % 255) - 127); });
  std::vector<int32_t> sums(c.tokens, 5);
  std::vector<float> scales(c.tokens, 17.0f), y(c.tokens * s.rows);
  const auto u = Stored(FloatType::kF16, s.rows * c.rank);
  const auto t = Floats(c.tokens * c.rank);
  wf::TernaryArgs a;
  a.w = w->data();
  a.k = s.k;
  a.row_end = s.rows;
  a.x = x->data();
  a.x_stride = stride;
  a.x_sum = sums.data();
  a.act_scale = scales.data();
  a.tokens = c.tokens;
  a.y = y.data();
  a.y_stride = s.rows;
  a.lrc_u = u->data();
  a.lrc_t = t->data();
  a.lrc_t_stride = c.rank;
  a.lrc_rank = c.rank;
  for (auto _ : state) {
    (c.tokens == 1 ? c.fn.gemv : c.fn.gemm)(a);
    benchmark::DoNotOptimize(y.data());
    benchmark::ClobberMemory();
  }
  Count(state, static_cast<double>(s.rows * (s.k + c.rank) * c.tokens), static_cast<double>(w->size() + u->size()));
}

// Products with a rank are benchmarked on the square shape; types that are no speed path on it too, for one token;
// packed types other than I2_S on the down projection.
void AddTernary(wf::isa::Id id) {
  const auto add = [id](TernaryCase c) {
    c.fn = wf::FindTernary(id, c.type, c.rank);
    if (c.fn.gemv == nullptr) return;
    std::string name(wf::TensorTypeName(c.type));
    if (c.block_scales) name += "-scales";
    name += "/rank:" + std::to_string(c.rank) + (c.fn.rank == wf::kDynamic ? "(dynamic)/" : "/") + Text(c.shape) +
            "/tokens:" + std::to_string(c.tokens);
    benchmark::RegisterBenchmark(Name("ternary", id, name).c_str(), [c](State& state) { RunTernary(state, c); });
  };
  for (const TensorType type : {TensorType::kI2_S, TensorType::kF32, TensorType::kF16, TensorType::kBF16}) {
    for (const Shape s : kShapes) {
      for (const size_t rank : {0u, 13u, 16u, 32u, 64u, 128u, 256u}) {
        for (const size_t tokens : {1u, 8u, 64u, 256u}) {
          const bool square = s.rows == s.k;
          if ((rank != 0 && !square) || (type != TensorType::kI2_S && (rank != 0 || !square || tokens != 1))) continue;
          add({{}, type, rank, s, tokens});
        }
      }
    }
  }
  for (const TensorType type :
       {TensorType::kTQ1_0, TensorType::kTQ2_0, TensorType::kIQ1_BN, TensorType::kIQ2_BN, TensorType::kIQ2_BN_R4,
        TensorType::kQ2_0, TensorType::kQ2_0_128, TensorType::kI2_S_ARM64, TensorType::kI2_S_X4}) {
    for (const size_t tokens : {1u, 64u}) {
      add({{}, type, 0, kShapes[3], tokens});
      if (type == TensorType::kQ2_0 || type == TensorType::kQ2_0_128) add({{}, type, 0, kShapes[3], tokens, true});
    }
  }
}

void RunDense(State& state, const wf::KernelTable& k, DenseType type, Shape s, size_t tokens) {
  const auto w = Dense(type, s);
  const auto x = Floats(tokens * s.k);
  std::vector<float> y(tokens * s.rows);
  wf::DenseArgs a;
  a.w = w->data();
  a.k = s.k;
  a.row_end = s.rows;
  a.x = x->data();
  a.x_stride = s.k;
  a.tokens = tokens;
  a.y = y.data();
  a.y_stride = s.rows;
  for (auto _ : state) {
    k.dense[static_cast<int>(type)](a);
    benchmark::DoNotOptimize(y.data());
    benchmark::ClobberMemory();
  }
  Count(state, static_cast<double>(s.rows * s.k * tokens), static_cast<double>(w->size()));
}

// One token's attention over a context, all heads of a layer.
void RunAttention(State& state, const wf::KernelTable& k, wf::KvType type, uint32_t context) {
  const size_t head_bytes = wf::KvHeadBytes(kHeadDim, type), group = kHeads / kKvHeads;
  const size_t blocks = (context + wf::kKvBlock - 1) / wf::kKvBlock;
  const auto cache = std::make_shared<wf::AlignedBuffer<uint8_t>>(blocks * kKvHeads * head_bytes);
  const auto kv = Floats(2 * kHeadDim);
  for (size_t i = 0; i < kKvHeads * blocks * wf::kKvBlock; ++i) {
    k.kv_store[static_cast<size_t>(type)]({.k = kv->data(),
                                           .v = kv->data() + kHeadDim,
                                           .head_dim = kHeadDim,
                                           .head = cache->data() + i / wf::kKvBlock * head_bytes,
                                           .slot = i % wf::kKvBlock});
  }
  std::vector<const uint8_t*> table;
  for (size_t b = 0; b < blocks; ++b) table.push_back(cache->data() + b * kKvHeads * head_bytes);
  const auto q = Floats(kHeads * kHeadDim);
  std::vector<float> out(kHeads * kHeadDim), scratch(wf::AttentionScratch(1, group, kHeadDim));
  wf::AttentionArgs a;
  a.q_stride = a.out_stride = kHeads * kHeadDim;
  a.rows = 1;
  a.heads = group;
  a.head_dim = kHeadDim;
  a.visible = &context;
  a.scale = 0.088f;
  a.blocks = table.data();
  a.scratch = scratch.data();
  for (auto _ : state) {
    for (size_t h = 0; h < kKvHeads; ++h) {
      a.q = q->data() + h * group * kHeadDim;
      a.out = out.data() + h * group * kHeadDim;
      a.offset = h * head_bytes;
      k.attention[static_cast<size_t>(type)](a);
    }
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  Count(state, 2.0 * kHeads * kHeadDim * context, static_cast<double>(cache->size()));
}

void RunQuantise(State& state, const wf::KernelTable& k, size_t n) {
  const auto x = Floats(n);
  const auto order = wf::block::OrderFor(TensorType::kI2_S, n);
  wf::AlignedBuffer<int8_t> q(wf::block::ActBytes(order, n));
  float scale = 0;
  int32_t sum = 0;
  wf::QuantiseArgs a;
  a.x = x->data();
  a.k = n;
  a.order = static_cast<uint8_t>(order);
  a.out = q.data();
  a.act_scale = &scale;
  a.sum = &sum;
  for (auto _ : state) {
    k.quantise(a);
    benchmark::DoNotOptimize(q.data());
    benchmark::ClobberMemory();
  }
  Count(state, static_cast<double>(n), static_cast<double>(4 * n));
}

void RunRmsNorm(State& state, const wf::KernelTable& k, size_t n) {
  const auto x = Floats(n), w = Floats(n);
  std::vector<float> y(n);
  wf::RmsNormArgs a;
  a.x = x->data();
  a.w = w->data();
  a.y = y.data();
  a.n = n;
  a.eps = 1e-5f;
  for (auto _ : state) {
    k.rms_norm(a);
    benchmark::DoNotOptimize(y.data());
    benchmark::ClobberMemory();
  }
  Count(state, static_cast<double>(n), static_cast<double>(8 * n));
}

void AddFloats(wf::isa::Id id) {
  const wf::KernelTable* k = &wf::Kernels(id);
  for (size_t i = 0; i < wf::kDenseTypes; ++i) {
    const auto type = static_cast<DenseType>(i);
    const std::string t(wf::TensorTypeName(wf::kDenseTensorTypes[i]));
    for (const size_t tokens : {1u, 8u}) {
      const Shape head = {kHeadRows, 2560};
      benchmark::RegisterBenchmark(Name("head", id, t + "/" + Text(head) + "/tokens:" + std::to_string(tokens)).c_str(),
                                   [=](State& s) { RunDense(s, *k, type, head, tokens); });
    }
  }
  for (const wf::KvType type : {wf::KvType::kF32, wf::KvType::kF16, wf::KvType::kI8}) {
    const std::string t = type == wf::KvType::kF32 ? "F32" : type == wf::KvType::kF16 ? "F16" : "I8";
    for (const uint32_t context : {128u, 1024u, 4096u}) {
      benchmark::RegisterBenchmark(Name("attention", id, t + "/context:" + std::to_string(context)).c_str(),
                                   [=](State& s) { RunAttention(s, *k, type, context); });
    }
  }
  for (const size_t n : {2560u, 6912u}) {
    benchmark::RegisterBenchmark(Name("quantise", id, std::to_string(n)).c_str(),
                                 [=](State& s) { RunQuantise(s, *k, n); });
    benchmark::RegisterBenchmark(Name("rms_norm", id, std::to_string(n)).c_str(),
                                 [=](State& s) { RunRmsNorm(s, *k, n); });
  }
}

// --- the low-rank term alone, Highway and Eigen side by side --------------------------------------------------
// What a rank adds to a product, y += U (V^T x): with Highway the dense kernel for V^T x, then the product of U's rows,
// again with the dense kernel, because the ternary kernel adds U t while it stores y and cannot be timed without it.

struct LowRank {
  LowRank(FloatType type, size_t rank, Shape s)
      : u(Stored(type, s.rows * rank)), v(Stored(type, s.k * rank)), x(Floats(s.k)), t(rank), y(s.rows) {}
  Buffer<uint8_t> u, v;
  Buffer<float> x;
  wf::AlignedBuffer<float> t, y;
  double Bytes() const { return static_cast<double>(u->size() + v->size()); }
};

void RunLowRank(State& state, const wf::KernelTable& k, FloatType type, size_t rank, Shape s) {
  LowRank d(type, rank, s);
  wf::DenseArgs project;
  project.w = d.v->data();
  project.k = s.k;
  project.row_end = rank;
  project.x = d.x->data();
  project.y = d.t.data();
  wf::DenseArgs expand;
  expand.w = d.u->data();
  expand.k = rank;
  expand.row_end = s.rows;
  expand.x = d.t.data();
  expand.y = d.y.data();
  expand.bias = d.y.data();  // y += U t
  for (auto _ : state) {
    k.dense[static_cast<int>(type)](project);
    k.dense[static_cast<int>(type)](expand);
    benchmark::DoNotOptimize(d.y.data());
    benchmark::ClobberMemory();
  }
  Count(state, static_cast<double>(rank * (s.rows + s.k)), d.Bytes());
}

void RunEigen(State& state, FloatType type, size_t rank, bool fixed, Shape s) {
  LowRank d(type, rank, s);
  const wf::bench::EigenFn fn = wf::bench::FindEigen(type, rank, fixed);
  const wf::bench::EigenTerm e = {d.u->data(), d.v->data(), s.rows, s.k, rank, d.x->data(), d.t.data(), d.y.data()};
  for (auto _ : state) {
    fn(e);
    benchmark::DoNotOptimize(d.y.data());
    benchmark::ClobberMemory();
  }
  Count(state, static_cast<double>(rank * (s.rows + s.k)), d.Bytes());
}

void AddLowRank(const std::vector<wf::isa::Id>& isas) {
  const char* const types[] = {"F32", "F16", "BF16"};
  const Shape s = kShapes[0];
  for (const FloatType type : {FloatType::kF16, FloatType::kF32, FloatType::kBF16}) {
    for (const size_t rank : {64u, 128u, 256u}) {
      const std::string rest =
          std::string(types[static_cast<int>(type)]) + "/rank:" + std::to_string(rank) + "/" + Text(s);
      for (const wf::isa::Id id : isas) {
        const wf::KernelTable* k = &wf::Kernels(id);
        benchmark::RegisterBenchmark(Name("low_rank", id, rest).c_str(),
                                     [=](State& st) { RunLowRank(st, *k, type, rank, s); });
      }
      for (const bool fixed : {true, false}) {
        benchmark::RegisterBenchmark(
            ("low_rank/eigen-" + std::string(fixed ? "fixed" : "dynamic") + "/" + rest).c_str(),
            [=](State& st) { RunEigen(st, type, rank, fixed, s); });
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<wf::isa::Id> isas;
  for (int i = 0; i < wf::isa::kCount; ++i) {
    const auto id = static_cast<wf::isa::Id>(i);
    if (((wf::CompiledIsas() >> i) & 1u) != 0 && wf::isa::Supported(id)) isas.push_back(id);
  }
  AddLowRank(isas);
  for (const wf::isa::Id id : isas) {
    AddTernary(id);
    AddFloats(id);
  }
  benchmark::AddCustomContext("best ISA", wf::isa::Name(wf::isa::BestSupported(wf::CompiledIsas())));
  benchmark::AddCustomContext("Eigen uses", wf::bench::EigenInstructionSets());
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
