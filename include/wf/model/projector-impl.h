// SPDX-License-Identifier: Apache-2.0
// Projections of a batch of rows: norm, quantisation, product, low-rank term, on all threads. Part of transformer.h's
// bodies; knows no layers and no attention.
#ifndef WF_MODEL_PROJECTOR_IMPL_H_
#define WF_MODEL_PROJECTOR_IMPL_H_

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "wf/base/aligned.h"
#include "wf/base/thread_pool.h"
#include "wf/kernels/table.h"
#include "wf/model/weights.h"
#include "wf/quant/block.h"

namespace wf::detail {

class Projector {
 public:
  // One projection of a group that shares its input. y[r * stride + i] is output i of row r.
  struct Output {
    const Linear* linear;
    float* y;
    size_t stride;
  };

  // What projections multiply: n rows, stride apart, of act(x) * up where up is given (then x holds gates), normed by
  // `norm` if it is given.
  struct Input {
    const float* x;
    size_t stride;
    const float* norm = nullptr;
    float eps = 0;
    const float* up = nullptr;
    bool relu2 = false;
  };

  Projector(const Weights& w, const KernelTable& k, ThreadPool* pool)
      : k_(k), pool_(*pool), scratch_(static_cast<size_t>(pool->threads())) {
    for (const Layer& l : w.layers) {
      ForEachProjection(l, [&](const Linear& p) {
        if (p.ternary && FindFn(p) == nullptr) fns_.push_back({p.type, p.rank, FindTernary(k.isa, p.type, p.rank)});
      });
    }
  }

  // Runs projections that share their input. Projections with a norm of their own get their own input.
  void Project(const Input& in, size_t n, std::span<const Output> outs) {
    const Linear& first = *outs[0].linear;
    bool shared = true;
    for (const Output& o : outs) {
      shared = shared && o.linear->norm == nullptr && o.linear->ternary == first.ternary &&
               block::OrderFor(o.linear->type, o.linear->k) == block::OrderFor(first.type, first.k);
    }
    if (shared) {
      Prepare(in, n, outs);
      Multiply(n, outs);
      return;
    }
    for (const Output& o : outs) {
      Prepare(in, n, {&o, 1});
      Multiply(n, {&o, 1});
    }
  }

  // y = W x + bias for a matrix of floats, rows of x `stride` apart.
  void Dense(const Linear& l, const float* x, size_t stride, size_t n, float* y, size_t y_stride) {
    pool_.ParallelFor(l.rows, 256, [&](size_t begin, size_t end, int) {
      k_.dense[static_cast<int>(l.dense_type)]({.w = l.data,
                                                .k = l.k,
                                                .row_begin = begin,
                                                .row_end = end,
                                                .x = x,
                                                .x_stride = stride,
                                                .tokens = n,
                                                .y = y,
                                                .y_stride = y_stride,
                                                .bias = l.bias});
    });
  }

 private:
  struct Fn {
    TensorType type;
    size_t rank;
    TernaryInstance fn;
  };
  const Fn* FindFn(const Linear& l) const noexcept {
    for (const Fn& f : fns_)
      if (f.type == l.type && f.rank == l.rank) return &f;
    return nullptr;
  }

  // Activation, norms (the block's, then the projection's own) and quantisation, row by row, so that a row stays in the
  // cache. The floats are kept only where somebody multiplies them.
  void Prepare(const Input& input, size_t n, std::span<const Output> outs) {
    const Linear& l = *outs[0].linear;
    const block::ActOrder order = block::OrderFor(l.type, l.k);
    const size_t bytes = block::ActBytes(order, l.k);
    bool keep = !l.ternary;
    for (const Output& o : outs) keep = keep || o.linear->rank != 0;
    if (keep) x_.Resize(n * l.k);
    for (auto& s : scratch_) s.Resize(l.k);
    q_.Resize(n * bytes);
    scale_.Resize(n);
    sum_.Resize(n);
    pool_.ParallelFor(n, 1, [&](size_t begin, size_t end, int worker) {
      for (size_t r = begin; r < end; ++r) {
        const float* in = input.x + r * input.stride;
        float* y = keep ? x_.data() + r * l.k : scratch_[static_cast<size_t>(worker)].data();
        if (input.up != nullptr) {
          k_.glu({.gate = in, .up = input.up + r * input.stride, .out = y, .n = l.k, .relu2 = input.relu2});
          in = y;
        }
        if (input.norm != nullptr) {
          k_.rms_norm({.x = in, .w = input.norm, .y = y, .n = l.k, .eps = input.eps});
          in = y;
        }
        if (l.norm != nullptr) {
          k_.rms_norm({.x = in, .w = l.norm, .y = y, .n = l.k, .eps = l.norm_eps});
          in = y;
        }
        if (keep && in != y) std::memcpy(y, in, l.k * sizeof(float));
        if (!l.ternary) continue;
        k_.quantise({.x = in,
                     .k = l.k,
                     .order = static_cast<uint8_t>(order),
                     .out = q_.data() + r * bytes,
                     .act_scale = scale_.data() + r,
                     .sum = sum_.data() + r});
      }
    });
  }

  // The outputs' rows in one parallel loop, in pieces of 16 rows at least, so that no two threads share a cache line of
  // y, and of many tokens in multiples of 32, which the kernels take at a time.
  void Multiply(size_t n, std::span<const Output> outs) {
    size_t ranks = 0, total = 0;
    for (const Output& o : outs) {
      ranks += o.linear->rank;
      total += AlignUp(o.linear->rows, 16);
    }
    if (ranks != 0) LowRankInputs(n, ranks, outs);
    // One token is bound by memory: short pieces end together. Many are bound by arithmetic, and each piece reads all
    // of their activations.
    const size_t threads = static_cast<size_t>(pool_.threads());
    const size_t most = n <= 16 ? 64 : 128, rows = n <= 16 ? 16 : 32;
    const size_t grain = std::min<size_t>(most, std::max<size_t>(rows, AlignUp(total / (threads * 8), rows)));
    pool_.ParallelFor(total, grain, [&](size_t begin, size_t end, int) {
      size_t base = 0, rank_at = 0;
      for (const Output& o : outs) {
        const Linear& l = *o.linear;
        const size_t from = std::max(begin, base), to = std::min(end, base + l.rows);
        if (from < to) MultiplyRows(o, n, ranks, rank_at, from - base, to - base);
        base += AlignUp(l.rows, 16);
        rank_at += l.rank;
      }
    });
  }

  void MultiplyRows(const Output& o, size_t n, size_t ranks, size_t rank_at, size_t begin, size_t end) {
    const Linear& l = *o.linear;
    if (!l.ternary) {
      k_.dense[static_cast<int>(l.dense_type)]({.w = l.data,
                                                .k = l.k,
                                                .row_begin = begin,
                                                .row_end = end,
                                                .x = x_.data(),
                                                .x_stride = l.k,
                                                .tokens = n,
                                                .y = o.y,
                                                .y_stride = o.stride,
                                                .bias = l.bias});
      return;
    }
    const TernaryArgs a{.w = l.data,
                        .k = l.k,
                        .row_begin = begin,
                        .row_end = end,
                        .w_scale = l.scale,
                        .x = q_.data(),
                        .x_stride = block::ActBytes(block::OrderFor(l.type, l.k), l.k),
                        .x_sum = sum_.data(),
                        .act_scale = scale_.data(),
                        .tokens = n,
                        .y = o.y,
                        .y_stride = o.stride,
                        .bias = l.bias,
                        .lrc_u = l.lrc_u,
                        .lrc_type = l.lrc_type,
                        .lrc_t = lrc_.data() + rank_at,
                        .lrc_t_stride = ranks,
                        .lrc_rank = l.rank};
    const TernaryInstance& fn = FindFn(l)->fn;
    (n == 1 ? fn.gemv : fn.gemm)(a);
  }

  // V^T x of every output with a low-rank term, side by side: n x ranks.
  void LowRankInputs(size_t n, size_t ranks, std::span<const Output> outs) {
    lrc_.Resize(n * ranks);
    pool_.ParallelFor(ranks, 8, [&](size_t begin, size_t end, int) {
      size_t base = 0;
      for (const Output& o : outs) {
        const Linear& l = *o.linear;
        const size_t from = std::max(begin, base), to = std::min(end, base + l.rank);
        if (from < to) {
          k_.dense[static_cast<int>(l.lrc_v_type)]({.w = l.lrc_v,
                                                    .k = l.k,
                                                    .row_begin = from - base,
                                                    .row_end = to - base,
                                                    .x = x_.data(),
                                                    .x_stride = l.k,
                                                    .tokens = n,
                                                    .y = lrc_.data() + base,
                                                    .y_stride = ranks});
        }
        base += l.rank;
      }
    });
  }

  const KernelTable& k_;
  ThreadPool& pool_;
  std::vector<Fn> fns_;                        // the few distinct ones of a model
  std::vector<AlignedBuffer<float>> scratch_;  // a row, one a thread
  AlignedBuffer<float> x_;                     // rows x k, after the projection's own norm
  AlignedBuffer<int8_t> q_;                    // rows x stride, quantised
  AlignedBuffer<float> scale_;                 // one a row
  AlignedBuffer<int32_t> sum_;
  AlignedBuffer<float> lrc_;  // rows x ranks: V^T x of the linears at hand
};

}  // namespace wf::detail
#endif  // WF_MODEL_PROJECTOR_IMPL_H_
