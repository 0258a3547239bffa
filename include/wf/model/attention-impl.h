// SPDX-License-Identifier: Apache-2.0
// Attention of a layer over the sequences of a batch: norms of the heads, RoPE, K and V into the cache, and the plan of
// which thread takes which rows, heads and chunks of keys. Part of transformer.h's bodies.
#ifndef WF_MODEL_ATTENTION_IMPL_H_
#define WF_MODEL_ATTENTION_IMPL_H_

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "wf/base/aligned.h"
#include "wf/base/thread_pool.h"
#include "wf/cache/kv_pool.h"
#include "wf/kernels/table.h"
#include "wf/model/config.h"
#include "wf/model/transformer.h"
#include "wf/model/weights.h"

namespace wf::detail {

struct BatchRow {
  const SequenceRows* seq;
  size_t pos;
};

class SelfAttention {
 public:
  // `rope_factors`: c.rope_dims / 2 divisors of the angles, or null.
  SelfAttention(const Config& c, const float* rope_factors, const KernelTable& k, ThreadPool* pool, KvType type)
      : c_(c),
        rope_factors_(rope_factors),
        k_(k),
        pool_(*pool),
        shape_{c.layers, c.kv_heads, c.head_dim, type},
        group_(c.heads / c.kv_heads),
        tile_(std::max<size_t>(1, kTileQueries / group_)),
        scratch_(static_cast<size_t>(pool->threads())) {}

  const KvShape& shape() const noexcept { return shape_; }
  const std::vector<BatchRow>& rows() const noexcept { return rows_; }  // of the batch that was planned last

  // Sequences stay the caller's until the last Run() of the batch.
  void Plan(std::span<const SequenceRows> sequences) {
    rows_.clear();
    tiles_.clear();
    visible_.clear();
    size_t positions = 0;
    for (const SequenceRows& s : sequences) {
      for (size_t i = 0; i < s.count; i += tile_) {
        tiles_.push_back({&s, rows_.size() + i, std::min(tile_, s.count - i), 0, 0});
      }
      const size_t keys = std::max(s.first + s.count, s.keys), block = s.attention_block;
      for (size_t i = 0; i < s.count; ++i) {
        const size_t p = s.first + i;
        rows_.push_back({&s, p});
        visible_.push_back(static_cast<uint32_t>(std::min((p / block + 1) * block, keys)));
      }
      positions = std::max(positions, s.first + s.count);
    }
    EnsureRope(positions);
    PlanTasks();
  }

  // qkv: rows of q, k, v of all heads; q and k are changed. out: rows of c.heads * c.head_dim.
  void Run(size_t layer, const Layer& l, float* qkv, float* out) {
    Store(layer, l, qkv);
    const size_t heads = c_.kv_heads;
    pool_.ParallelFor(tasks_.size() * heads, 1, [&](size_t begin, size_t end, int worker) {
      for (size_t i = begin; i < end; ++i) {
        const Task& task = tasks_[i / heads];
        AttentionArgs a = Args(*task.tile, layer, i % heads, qkv, out);
        a.scratch = scratch_[static_cast<size_t>(worker)].data();
        if (task.tile->chunks == 0) {
          k_.attention[Type()](a);
        } else {
          a.chunk = task.chunk;
          a.part += task.chunk * AttentionPart(a.rows, a.heads, a.head_dim);
          k_.attention_part[Type()](a);
        }
      }
    });
    if (tasks_.size() == tiles_.size()) return;
    pool_.ParallelFor(tiles_.size() * heads, 1, [&](size_t begin, size_t end, int) {
      for (size_t i = begin; i < end; ++i) {
        const Tile& t = tiles_[i / heads];
        if (t.chunks != 0) k_.attention_merge(Args(t, layer, i % heads, qkv, out));
      }
    });
  }

 private:
  static constexpr size_t kTileQueries = 32;  // whose scores, queries and values stay in L2 next to a chunk of K and V
  static constexpr size_t kTasksPerThread = 16;  // so many are balanced without splitting tiles into chunks

  struct Tile {  // rows of one sequence
    const SequenceRows* seq;
    size_t row, count;    // first row of the batch, how many
    size_t chunks, part;  // split: into how many, and where its parts begin; 0: not split
  };
  struct Task {
    const Tile* tile;
    size_t chunk;
  };

  size_t Type() const noexcept { return static_cast<size_t>(shape_.type); }

  // A tile's chunks become tasks of their own where tiles are too few to keep all threads busy. Results are the same.
  void PlanTasks() {
    const bool split =
        pool_.threads() > 1 && tiles_.size() * c_.kv_heads < kTasksPerThread * static_cast<size_t>(pool_.threads());
    tasks_.clear();
    size_t parts = 0, most = 0;
    for (Tile& t : tiles_) {
      most = std::max(most, t.count);
      const uint32_t* seen = visible_.data() + t.row;
      const size_t chunks = AttentionChunks(*std::max_element(seen, seen + t.count));
      if (!split || chunks == 1) {
        tasks_.push_back({&t, 0});
        continue;
      }
      t.chunks = chunks;
      t.part = parts;
      parts += c_.kv_heads * chunks * AttentionPart(t.count, group_, c_.head_dim);
      for (size_t i = 0; i < chunks; ++i) tasks_.push_back({&t, i});
    }
    parts_.Resize(parts);
    for (auto& s : scratch_) s.Resize(AttentionScratch(most, group_, c_.head_dim));
  }

  AttentionArgs Args(const Tile& t, size_t layer, size_t head, const float* qkv, float* out) {
    const size_t width = (c_.heads + 2 * c_.kv_heads) * c_.head_dim, at = head * group_ * c_.head_dim;
    AttentionArgs a{.q = qkv + t.row * width + at,
                    .q_stride = width,
                    .out = out + t.row * c_.heads * c_.head_dim + at,
                    .out_stride = c_.heads * c_.head_dim,
                    .rows = t.count,
                    .heads = group_,
                    .head_dim = c_.head_dim,
                    .visible = visible_.data() + t.row,
                    .scale = c_.attention_scale,
                    .blocks = t.seq->blocks,
                    .offset = shape_.Offset(layer, head)};
    if (t.chunks != 0) {
      a.part = parts_.data() + t.part + head * t.chunks * AttentionPart(t.count, group_, c_.head_dim);
    }
    return a;
  }

  // Norms of the heads, RoPE on q and k, K and V into the cache.
  void Store(size_t layer, const Layer& l, float* qkv) {
    const size_t qd = c_.heads * c_.head_dim, kd = c_.kv_heads * c_.head_dim, pairs = c_.rope_dims / 2;
    pool_.ParallelFor(rows_.size(), 1, [&](size_t begin, size_t end, int) {
      for (size_t r = begin; r < end; ++r) {
        const BatchRow& row = rows_[r];
        float* x = qkv + r * (qd + 2 * kd);
        NormHeads(l.q_norm, x, c_.heads);
        NormHeads(l.k_norm, x + qd, c_.kv_heads);
        RopeArgs rope{.x = x,
                      .heads = c_.heads,
                      .head_dim = c_.head_dim,
                      .pairs = pairs,
                      .cos = rope_cos_.data() + row.pos * pairs,
                      .sin = rope_sin_.data() + row.pos * pairs,
                      .neox = c_.rope == RopeKind::kNeox};
        k_.rope(rope);
        rope.x = x + qd;
        rope.heads = c_.kv_heads;
        k_.rope(rope);
        uint8_t* block = row.seq->blocks[row.pos / kKvBlock];
        for (size_t head = 0; head < c_.kv_heads; ++head) {
          k_.kv_store[Type()]({.k = x + qd + head * c_.head_dim,
                               .v = x + qd + kd + head * c_.head_dim,
                               .head_dim = c_.head_dim,
                               .head = block + shape_.Offset(layer, head),
                               .slot = row.pos % kKvBlock});
        }
      }
    });
  }

  // The norm of each head, if the model has one.
  void NormHeads(const float* norm, float* x, size_t heads) const noexcept {
    if (norm == nullptr) return;
    for (size_t i = 0; i < heads; ++i) {
      float* head = x + i * c_.head_dim;
      k_.rms_norm({.x = head, .w = norm, .y = head, .n = c_.head_dim, .eps = c_.rms_eps});
    }
  }

  // Angles in double, so that long contexts keep their precision.
  void EnsureRope(size_t positions) {
    if (positions <= rope_rows_) return;
    const size_t pairs = c_.rope_dims / 2, n = AlignUp(positions, 256);
    rope_cos_.resize(n * pairs);
    rope_sin_.resize(n * pairs);
    for (size_t i = 0; i < pairs; ++i) {
      double step = std::pow(static_cast<double>(c_.rope_base),
                             -2.0 * static_cast<double>(i) / static_cast<double>(c_.rope_dims)) *
                    static_cast<double>(c_.rope_scale);
      if (rope_factors_ != nullptr) step /= static_cast<double>(rope_factors_[i]);
      for (size_t p = rope_rows_; p < n; ++p) {
        rope_cos_[p * pairs + i] = static_cast<float>(std::cos(static_cast<double>(p) * step));
        rope_sin_[p * pairs + i] = static_cast<float>(std::sin(static_cast<double>(p) * step));
      }
    }
    rope_rows_ = n;
  }

  const Config& c_;
  const float* rope_factors_;
  const KernelTable& k_;
  ThreadPool& pool_;
  KvShape shape_;
  size_t group_, tile_;  // query heads a kv head; rows of a tile
  std::vector<BatchRow> rows_;
  std::vector<uint32_t> visible_;  // keys that each row sees
  std::vector<Tile> tiles_;
  std::vector<Task> tasks_;
  AlignedBuffer<float> parts_;
  std::vector<AlignedBuffer<float>> scratch_;  // one a thread
  std::vector<float> rope_cos_, rope_sin_;     // positions x rope_dims / 2
  size_t rope_rows_ = 0;
};

}  // namespace wf::detail
#endif  // WF_MODEL_ATTENTION_IMPL_H_
