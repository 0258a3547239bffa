// SPDX-License-Identifier: Apache-2.0
// Attention<isa,type>/context:n: one token over a context, all heads of a layer of the 2B model, one thread.
#include "bench/bench.h"
#include "wf/cache/kv_pool.h"
#include "wf/kernels/table.h"

namespace wf::bench {
namespace {

constexpr size_t kHeads = 20, kKvHeads = 5, kGroup = kHeads / kKvHeads, kHeadDim = 128;

// Every slot of every head's share holds the same row of K and V.
void FillCache(const KernelTable& k, KvType type, size_t head_bytes, AlignedBuffer<uint8_t>* cache) {
  const AlignedBuffer<float> row = Floats(kHeadDim);
  for (size_t at = 0; at < cache->size(); at += head_bytes) {
    for (size_t slot = 0; slot < kKvBlock; ++slot) {
      k.kv_store[static_cast<size_t>(type)](
          {.k = row.data(), .v = row.data(), .head_dim = kHeadDim, .head = cache->data() + at, .slot = slot});
    }
  }
}

void RunAttention(benchmark::State& state, const KernelTable& k, KvType type, uint32_t context) {
  const size_t head_bytes = KvHeadBytes(kHeadDim, type);
  const size_t blocks = (context + kKvBlock - 1) / kKvBlock, block_bytes = kKvHeads * head_bytes;
  AlignedBuffer<uint8_t> cache(blocks * block_bytes);
  FillCache(k, type, head_bytes, &cache);
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
      k.attention[static_cast<size_t>(type)](a);
    }
    benchmark::ClobberMemory();
  }
  Count(state, 2.0 * kHeads * kHeadDim * context, static_cast<double>(cache.size()));
}

}  // namespace

void AddAttention(const Axes& axes) {
  for (const KvType type : {KvType::kF32, KvType::kF16, KvType::kI8}) {
    for (const uint32_t context : {128u, 1024u, 4096u}) {
      for (const isa::Id id : axes.isas) {
        if (!axes.all && id != axes.best) continue;
        Register(std::string("Attention<") + isa::Name(id) + "," + Name(type) + ">/context:" + std::to_string(context),
                 1, [=, k = &Kernels(id)](benchmark::State& s) { RunAttention(s, *k, type, context); });
      }
    }
  }
}

}  // namespace wf::bench
