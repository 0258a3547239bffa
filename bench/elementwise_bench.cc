// SPDX-License-Identifier: Apache-2.0
// Quantise, RmsNorm, Rope, Glu, Add and Softmax of one token, at the 2B model's sizes, one thread.
#include "bench/bench.h"
#include "wf/kernels/table.h"
#include "wf/quant/block.h"

namespace wf::bench {
namespace {

constexpr size_t kEmbedding = 2560, kFfn = 6912, kVocabulary = 128256, kHeads = 20, kHeadDim = 128;

template <class F>
void Time(benchmark::State& state, double multiplications, double bytes, const F& f) {
  for (auto _ : state) {
    f();
    benchmark::ClobberMemory();
  }
  Count(state, multiplications, bytes);
}
double Real(size_t n) { return static_cast<double>(n); }

void Quantise(benchmark::State& state, const KernelTable& k, block::ActOrder order, size_t n) {
  const AlignedBuffer<float> x = Floats(n);
  AlignedBuffer<int8_t> q(block::ActBytes(order, n));
  float scale = 0;
  int32_t sum = 0;
  const QuantiseArgs a = {
      .x = x.data(), .k = n, .order = static_cast<uint8_t>(order), .out = q.data(), .act_scale = &scale, .sum = &sum};
  Time(state, Real(n), Real(4 * n), [&] { k.quantise(a); });
}

void RmsNorm(benchmark::State& state, const KernelTable& k, size_t n) {
  const AlignedBuffer<float> x = Floats(n), w = Floats(n);
  AlignedBuffer<float> y(n);
  const RmsNormArgs a = {.x = x.data(), .w = w.data(), .y = y.data(), .n = n, .eps = 1e-5f};
  Time(state, Real(3 * n), Real(8 * n), [&] { k.rms_norm(a); });
}

void Rope(benchmark::State& state, const KernelTable& k, bool neox) {
  AlignedBuffer<float> x = Floats(kHeads * kHeadDim);
  // A rotation by pi / 3, six of which are none: x neither grows nor fades.
  AlignedBuffer<float> cos(kHeadDim / 2), sin(kHeadDim / 2);
  for (size_t i = 0; i < kHeadDim / 2; ++i) cos[i] = 0.5f, sin[i] = 0.8660254f;
  const RopeArgs a = {.x = x.data(),
                      .heads = kHeads,
                      .head_dim = kHeadDim,
                      .pairs = kHeadDim / 2,
                      .cos = cos.data(),
                      .sin = sin.data(),
                      .neox = neox};
  Time(state, Real(2 * x.size()), Real(4 * x.size()), [&] { k.rope(a); });
}

void Glu(benchmark::State& state, const KernelTable& k, bool relu2) {
  const AlignedBuffer<float> gate = Floats(kFfn), up = Floats(kFfn);
  AlignedBuffer<float> out(kFfn);
  const GluArgs a = {.gate = gate.data(), .up = up.data(), .out = out.data(), .n = kFfn, .relu2 = relu2};
  Time(state, Real(2 * kFfn), Real(8 * kFfn), [&] { k.glu(a); });
}

void Add(benchmark::State& state, const KernelTable& k) {
  const AlignedBuffer<float> x(kEmbedding);  // zeros: y stays what it is
  AlignedBuffer<float> y = Floats(kEmbedding);
  const AddArgs a = {.x = x.data(), .y = y.data(), .n = kEmbedding};
  Time(state, 0, Real(8 * kEmbedding), [&] { k.add(a); });
}

void Softmax(benchmark::State& state, const KernelTable& k) {
  const AlignedBuffer<float> x = Floats(kVocabulary);
  AlignedBuffer<float> p(kVocabulary);
  float lse = 0;
  const SoftmaxArgs a = {.x = x.data(), .p = p.data(), .n = kVocabulary, .lse = &lse};
  Time(state, Real(kVocabulary), Real(4 * kVocabulary), [&] { k.softmax(a); });
}

}  // namespace

void AddElementwise(const Axes& axes) {
  for (const isa::Id id : axes.isas) {
    if (!axes.all && id != axes.best) continue;
    const KernelTable& k = Kernels(id);
    const auto add = [id](const std::string& kernel, const std::string& mode, size_t n, auto run) {
      Register(kernel + "<" + isa::Name(id) + (mode.empty() ? "" : "," + mode) + ">/" + std::to_string(n), 1, run);
    };
    for (const size_t n : {kEmbedding, kFfn}) {
      for (const auto order : {block::ActOrder::kPaired, block::ActOrder::kNatural}) {
        add("Quantise", order == block::ActOrder::kPaired ? "paired" : "natural", n,
            [&k, order, n](benchmark::State& s) { Quantise(s, k, order, n); });
      }
      add("RmsNorm", "", n, [&k, n](benchmark::State& s) { RmsNorm(s, k, n); });
    }
    for (const bool neox : {true, false}) {
      add("Rope", neox ? "neox" : "norm", kHeads * kHeadDim, [&k, neox](benchmark::State& s) { Rope(s, k, neox); });
    }
    for (const bool relu2 : {true, false}) {
      add("Glu", relu2 ? "relu2" : "silu", kFfn, [&k, relu2](benchmark::State& s) { Glu(s, k, relu2); });
    }
    add("Add", "", kEmbedding, [&k](benchmark::State& s) { Add(s, k); });
    add("Softmax", "", kVocabulary, [&k](benchmark::State& s) { Softmax(s, k); });
  }
}

}  // namespace wf::bench
