// SPDX-License-Identifier: Apache-2.0
// Attention<isa,type>/context:n: one token over a context, all heads of a layer of the 2B model, one thread.
#include "bench/bench.h"
#include "wf/kernels/table.h"

namespace wf::bench {
namespace {

constexpr size_t kHeads = 20, kKvHeads = 5, kGroup = kHeads / kKvHeads, kHeadDim = 128;

void RunAttention(benchmark::State& state, const KernelTable& k, FloatType type, uint32_t context) {
  const size_t head_bytes = KvHeadBytes(kHeadDim, type == FloatType::kF32 ? 4 : 2);
  const size_t blocks = (context + kKvBlock - 1) / kKvBlock, block_bytes = kKvHeads * head_bytes;
  const DenseType dense = type == FloatType::kF32 ? DenseType::kF32 : DenseType::kF16;
  const AlignedBuffer<uint8_t> cache = DenseMatrix(dense, {blocks, block_bytes / DenseBlockBytes(dense)});
  std::vector<const uint8_t*> table;
  for (size_t b = 0; b < blocks; ++b) table.push_back(cache.data() + b * block_bytes);
  const AlignedBuffer<float> q = Floats(kHeads * kHeadDim);
  AlignedBuffer<float> out(kHeads * kHeadDim), scratch(AttentionScratch(1, kGroup, kHeadDim));
  AttentionArgs a;
  a.q_stride = a.out_stride = kHeads * kHeadDim;
  a.rows = 1;
  a.heads = kGroup;
  a.head_dim = kHeadDim;
  a.visible = &context;
  a.scale = 0.088f;  // 1 / sqrt(head_dim)
  a.blocks = table.data();
  a.scratch = scratch.data();
  for (auto _ : state) {
    for (size_t h = 0; h < kKvHeads; ++h) {
      a.q = q.data() + h * kGroup * kHeadDim;
      a.out = out.data() + h * kGroup * kHeadDim;
      a.offset = h * head_bytes;
      k.attention[type == FloatType::kF32 ? 0 : 1](a);
    }
    benchmark::ClobberMemory();
  }
  Count(state, 2.0 * kHeads * kHeadDim * context, static_cast<double>(cache.size()));
}

}  // namespace

void AddAttention(const Axes& axes) {
  for (const FloatType type : {FloatType::kF32, FloatType::kF16}) {
    for (const uint32_t context : {128u, 1024u, 4096u}) {
      for (const isa::Id id : axes.isas) {
        if (!axes.all && id != axes.best) continue;
        Register(std::string("Attention<") + isa::Name(id) + (type == FloatType::kF32 ? ",F32" : ",F16") +
                     ">/context:" + std::to_string(context),
                 1, [=, k = &Kernels(id)](benchmark::State& s) { RunAttention(s, *k, type, context); });
      }
    }
  }
}

}  // namespace wf::bench
