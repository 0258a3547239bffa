// SPDX-License-Identifier: Apache-2.0
// Ternary<isa,type,rank=R>: every instance of the table, rows split among threads as the model splits them. A fixed
// rank is rank=64, the dynamic instance at that rank rank=dynamic:64.
#include <algorithm>
#include <limits>

#include "bench/ternary.h"
#include "wf/kernels/table.h"
#include "wf/quant/block.h"
#include "wf/quant/pack.h"

namespace wf::bench {
namespace {

// Ternary values, drawn once and repeated: packing is slow enough, and no kernel looks at the values.
std::vector<int8_t> TernaryValues(size_t n) {
  constexpr size_t kPeriod = 65521;  // a prime: rows begin at different places of it
  std::vector<int8_t> values(n);
  for (size_t i = 0; i < n; ++i) {
    values[i] = i < kPeriod ? static_cast<int8_t>(static_cast<int>(Random() % 3) - 1) : values[i - kPeriod];
  }
  return values;
}

AlignedBuffer<uint8_t> TernaryMatrix(const TernaryCase& c) {
  const size_t n = c.shape.rows * c.shape.k;
  const std::vector<int8_t> values = TernaryValues(n);
  if (!IsPackedTernary(c.type)) {
    const size_t size = c.type == TensorType::kF32 ? 4 : 2;
    AlignedBuffer<uint8_t> b(n * size);
    for (size_t i = 0; i < n; ++i) {
      const float f = values[i];
      const uint16_t h = c.type == TensorType::kF16 ? F16FromF32(f) : Bf16FromF32(f);
      std::memcpy(b.data() + i * size, size == 4 ? static_cast<const void*>(&f) : &h, size);
    }
    return b;
  }
  uint64_t bytes = n / 4;  // I2_S without its tail, which kernels do not read
  const TensorTypeInfo* info = FindTensorType(static_cast<uint32_t>(c.type));
  if (!IsI2s(c.type)) (void)TensorBytes(*info, c.shape.k, c.shape.rows, &bytes);
  AlignedBuffer<uint8_t> b(bytes);
  if (!c.block_scales) {
    PackTernary(c.type, values.data(), c.shape.rows, c.shape.k, 1.0f, b.data());
    return b;
  }
  const size_t block = TernaryScaleSize(c.type);
  for (size_t i = 0; i < n / block; ++i) {
    const float d = StoredTernaryScale(c.type, 1 + static_cast<float>(i % 997) / 1000.0f);
    PackTernary(c.type, values.data() + i * block, 1, block, d, b.data() + i * info->block_bytes);
  }
  return b;
}

struct Weights {
  size_t u = 0;  // where a copy's factor begins
  WorkingSet set;
};

// The matrix and its factor U (F16) behind it.
Weights MakeWeights(const TernaryCase& c) {
  const AlignedBuffer<uint8_t> w = TernaryMatrix(c);
  if (c.rank == 0) return {0, WorkingSet(w, c.set)};
  const AlignedBuffer<uint8_t> u = DenseMatrix(DenseType::kF16, {c.shape.rows, c.rank});
  const size_t at = (w.size() + 63) / 64 * 64;
  AlignedBuffer<uint8_t> both(at + u.size());
  std::memcpy(both.data(), w.data(), w.size());
  std::memcpy(both.data() + at, u.data(), u.size());
  return {at, WorkingSet(both, c.set)};
}

// Pieces of a parallel loop over the rows: the rule of model/projector-impl.h.
size_t Grain(size_t rows, size_t tokens, int threads) {
  const size_t pieces = static_cast<size_t>(threads) * 8;
  return std::min<size_t>(tokens <= 16 ? 64 : 128, std::max<size_t>(16, (rows / pieces + 15) / 16 * 16));
}

std::string Name(isa::Id id, const TernaryCase& c, int instance_rank) {
  std::string s = "Ternary<";
  s.append(isa::Name(id)).append(",").append(TensorTypeName(c.type)).append(",rank=");
  if (instance_rank == kDynamic) s += "dynamic:";
  s += std::to_string(c.rank) + ">";
  if (c.block_scales) s += "/block_scales";
  return s + Suffix(c.shape, c.tokens, c.threads, c.set);
}

// The short set, all of the best ISA but the sixth: the types at one and at many tokens, I2_S and TQ2_0 over shapes and
// tokens, each ISA once, a fixed rank beside the dynamic instance.
bool IsDefault(const Axes& axes, isa::Id id, const TernaryCase& c, bool dynamic) {
  const bool fast = c.type == TensorType::kI2_S || c.type == TensorType::kTQ2_0;
  const bool one = c.tokens == 1 && c.set == Set::kDram, many = c.tokens == 512 && c.set == Set::kCache;
  const bool down = c.shape.rows == kDown.rows && c.shape.k == kDown.k;
  if (c.block_scales || !IsPackedTernary(c.type) || id == isa::Id::kScalar || c.threads > 2) return false;
  if (c.rank != 0) {
    return id == axes.best && c.type == TensorType::kI2_S && c.rank == 64 && c.shape.rows == c.shape.k &&
           c.threads == 1 && (one || (c.tokens == 64 && c.set == Set::kCache));
  }
  if (dynamic) return false;
  if (id != axes.best) return c.type == TensorType::kI2_S && down && c.threads == 1 && (one || many);
  if (!fast) return down && c.threads == 1 && (one || many);
  return one || (down && (many || (c.set == Set::kCache && c.tokens == 16)));
}

}  // namespace

void RunTernary(benchmark::State& state, const TernaryCase& c, TernaryCall fn) {
  const Shape s = c.shape;
  const std::string key = std::string(TensorTypeName(c.type)) + (c.block_scales ? "+" : "") + Text(s) + Text(c.set) +
                          std::to_string(c.rank);
  Weights& w = Keep<Weights>(key, [&] { return MakeWeights(c); });
  const size_t stride = block::ActBytes(block::OrderFor(c.type, s.k), s.k);
  const AlignedBuffer<int8_t> x = Activations(stride * c.tokens);
  const std::vector<int32_t> sums(c.tokens, 5);
  const std::vector<float> scales(c.tokens, 17.0f);
  const AlignedBuffer<float> t = Floats(c.tokens * c.rank);
  AlignedBuffer<float> y(c.tokens * s.rows);
  TernaryArgs a;
  a.k = s.k;
  a.x = x.data();
  a.x_stride = stride;
  a.x_sum = sums.data();
  a.act_scale = scales.data();
  a.tokens = c.tokens;
  a.y = y.data();
  a.y_stride = s.rows;
  a.lrc_t = t.data();
  a.lrc_t_stride = c.rank;
  a.lrc_rank = c.rank;
  ThreadPool& pool = Pool(c.threads);
  const size_t grain = Grain(s.rows, c.tokens, c.threads);
  for (auto _ : state) {
    const uint8_t* weights = w.set.Next();
    a.w = weights;
    a.lrc_u = weights + w.u;
    pool.ParallelFor(s.rows, grain, [&a, fn](size_t begin, size_t end, int) {
      TernaryArgs part = a;
      part.row_begin = begin;
      part.row_end = end;
      fn(part);
    });
    benchmark::ClobberMemory();
  }
  Count(state, static_cast<double>(s.rows * (s.k + c.rank) * c.tokens), w.set.bytes());
}

void AddTernary(const Axes& axes) {
  constexpr size_t kAnyRank = std::numeric_limits<size_t>::max();  // no fixed instance has it
  const auto add = [&axes](isa::Id id, const TernaryCase& c, const TernaryInstance& fn) {
    if (!axes.all && !IsDefault(axes, id, c, fn.rank == kDynamic)) return;
    const TernaryCall call = c.tokens == 1 ? fn.gemv : fn.gemm;
    Register(Name(id, c, fn.rank), c.threads, [c, call](benchmark::State& s) { RunTernary(s, c, call); });
  };
  // The innermost loops share their weights.
  const auto sizes = [&](TensorType type, size_t rank, bool dynamic, bool block_scales) {
    for (const Shape shape : kShapes) {
      for (const Set set : kSets) {
        for (const size_t tokens : kTokens) {
          for (const int threads : axes.threads) {
            for (const isa::Id id : axes.isas) {
              const TernaryInstance fn = FindTernary(id, type, dynamic ? kAnyRank : rank);
              if (fn.gemv == nullptr || (fn.rank == kDynamic) != dynamic) continue;
              add(id, {type, rank, shape, tokens, threads, set, block_scales}, fn);
            }
          }
        }
      }
    }
  };
  for (const TensorTypeInfo& info : kTensorTypes) {
    if (FindTernary(axes.best, info.type, 0).gemv == nullptr) continue;
    for (const size_t rank : {0u, 16u, 32u, 64u, 128u, 256u}) {
      sizes(info.type, rank, false, false);
      if (rank != 0) sizes(info.type, rank, true, false);
    }
    if (IsPackedTernary(info.type) && TernaryScaleSize(info.type) != 0) sizes(info.type, 0, false, true);
  }
}

}  // namespace wf::bench
