// SPDX-License-Identifier: Apache-2.0
// Bodies of transformer.h: the decoder graph.
#ifndef WF_MODEL_TRANSFORMER_IMPL_H_
#define WF_MODEL_TRANSFORMER_IMPL_H_

#include <array>
#include <chrono>
#include <cmath>
#include <vector>

#include "wf/base/aligned.h"
#include "wf/base/half.h"
#include "wf/kernels/table.h"
#include "wf/model/selftest.h"
#include "wf/model/transformer.h"
#include "wf/quant/block.h"

namespace wf {
namespace detail {

// Rows of one batch on their way through a projection's input side.
struct Activations {
  AlignedBuffer<float> x;      // rows x k, after the projection's own norm
  AlignedBuffer<int8_t> q;     // rows x stride, quantised
  AlignedBuffer<float> scale;  // one a row
  AlignedBuffer<int32_t> sum;
  AlignedBuffer<float> lrc;  // rows x rank: V^T x of the linear at hand
};

// One projection of a group that shares its input.
struct Output {
  const Linear* linear;
  TernaryInstance fn;
  float* y;
  size_t stride;
};

}  // namespace detail

struct Transformer::Impl {
  Impl(std::shared_ptr<const Model> m, int n, FloatType kv, isa::Id id)
      : model(std::move(m)), c(model->config()), w(model->weights()), k(Kernels(id)), pool(n) {
    shape = KvShape{c.layers, c.kv_heads, c.head_dim, kv};
    for (const Layer& l : w.layers) {
      LayerFns f;
      const Linear* linears[] = {&l.q, &l.k, &l.v, &l.o, &l.gate, &l.up, &l.down};
      for (size_t i = 0; i < f.size(); ++i) {
        if (linears[i]->ternary) f[i] = FindTernary(id, linears[i]->type, linears[i]->rank);
      }
      fns.push_back(f);
    }
    scratch.resize(static_cast<size_t>(pool.threads()));
    for (auto& s : scratch) s.Resize(AttentionScratch(kAttentionRows, c.heads / c.kv_heads, c.head_dim));
  }

  using LayerFns = std::array<TernaryInstance, 7>;
  enum { kQ, kK, kV, kO, kGate, kUp, kDown };
  static constexpr size_t kAttentionRows = 8;  // q, o and the widened block of 8 rows x 4 heads x 128 fit L1 and L2

  std::shared_ptr<const Model> model;
  const Config& c;
  const Weights& w;
  const KernelTable& k;
  ThreadPool pool;
  KvShape shape;
  std::vector<LayerFns> fns;
  SelfTestReport selftest;

  AlignedBuffer<float> h, qkv, attn, ffn, out, final_rows;
  detail::Activations act;
  std::vector<AlignedBuffer<float>> scratch;  // attention, one a thread
  std::vector<float> rope_cos, rope_sin;      // positions x head_dim / 2
  size_t rope_rows = 0;
  struct Row {
    const SequenceRows* seq;
    size_t pos;
  };
  std::vector<Row> rows;
  struct AttentionTask {
    const SequenceRows* seq;
    size_t row, first, count;  // row of the batch, of the sequence, how many
  };
  std::vector<AttentionTask> tasks;
  std::vector<uint32_t> visible;

  // Angles in double, so that long contexts keep their precision.
  void EnsureRope(size_t positions) {
    if (positions <= rope_rows) return;
    const size_t pairs = c.rope_dims / 2, n = AlignUp(positions, 256);
    rope_cos.resize(n * pairs);
    rope_sin.resize(n * pairs);
    for (size_t i = 0; i < pairs; ++i) {
      const double step =
          std::pow(static_cast<double>(c.rope_base), -2.0 * static_cast<double>(i) / static_cast<double>(c.rope_dims)) *
          static_cast<double>(c.rope_scale);
      for (size_t p = rope_rows; p < n; ++p) {
        rope_cos[p * pairs + i] = static_cast<float>(std::cos(static_cast<double>(p) * step));
        rope_sin[p * pairs + i] = static_cast<float>(std::sin(static_cast<double>(p) * step));
      }
    }
    rope_rows = n;
  }

  void Embed(const Row& row, size_t index, float* y) const {
    const size_t id = static_cast<size_t>(row.seq->tokens[index]), n = c.embedding;
    if (w.embedding.type == TensorType::kF32) {
      std::memcpy(y, static_cast<const float*>(w.embedding.data) + id * n, n * sizeof(float));
      return;
    }
    const uint16_t* e = static_cast<const uint16_t*>(w.embedding.data) + id * n;
    const bool f16 = w.embedding.type == TensorType::kF16;
    for (size_t i = 0; i < n; ++i) y[i] = f16 ? F32FromF16(e[i]) : F32FromBf16(e[i]);
  }

  // Runs projections that share the input x (n rows, stride apart, already normed by the block's norm if `norm` is
  // given). Projections with a norm of their own get their own input.
  void Project(const float* x, size_t stride, size_t n, const float* norm, float eps,
               std::span<const detail::Output> outs) {
    const Linear& first = *outs[0].linear;
    bool shared = true;
    for (const detail::Output& o : outs) {
      shared = shared && o.linear->norm == nullptr && o.linear->ternary == first.ternary &&
               block::OrderFor(o.linear->type, o.linear->k) == block::OrderFor(first.type, first.k);
    }
    if (shared) {
      PrepareInput(x, stride, n, norm, eps, first);
      Multiply(n, outs);
      return;
    }
    for (const detail::Output& o : outs) {
      PrepareInput(x, stride, n, norm, eps, *o.linear);
      Multiply(n, {&o, 1});
    }
  }

  // Norms (block's, then the projection's own) and quantisation, row by row.
  void PrepareInput(const float* x, size_t stride, size_t n, const float* norm, float eps, const Linear& l) {
    const block::ActOrder order = block::OrderFor(l.type, l.k);
    const size_t bytes = block::ActBytes(order, l.k);
    act.x.Resize(n * l.k);
    act.q.Resize(n * bytes);
    act.scale.Resize(n);
    act.sum.Resize(n);
    pool.ParallelFor(n, 1, [&](size_t begin, size_t end, int) {
      for (size_t r = begin; r < end; ++r) {
        const float* in = x + r * stride;
        float* y = act.x.data() + r * l.k;
        if (norm != nullptr) {
          k.rms_norm({.x = in, .w = norm, .y = y, .n = l.k, .eps = eps});
          in = y;
        }
        if (l.norm != nullptr) {
          k.rms_norm({.x = in, .w = l.norm, .y = y, .n = l.k, .eps = l.norm_eps});
          in = y;
        }
        if (in != y) std::memcpy(y, in, l.k * sizeof(float));
        if (!l.ternary) continue;
        k.quantise({.x = y,
                    .k = l.k,
                    .order = static_cast<uint8_t>(order),
                    .out = act.q.data() + r * bytes,
                    .act_scale = act.scale.data() + r,
                    .sum = act.sum.data() + r});
      }
    });
  }

  // The outputs' rows in one parallel loop, in pieces of 16 rows at least, so that no two threads share a cache line
  // of y.
  void Multiply(size_t n, std::span<const detail::Output> outs) {
    size_t ranks = 0, total = 0;
    for (const detail::Output& o : outs) {
      ranks += o.linear->rank;
      total += AlignUp(o.linear->rows, 16);
    }
    if (ranks != 0) LowRankInputs(n, ranks, outs);
    const size_t threads = static_cast<size_t>(pool.threads());
    const size_t grain = std::min<size_t>(256, std::max<size_t>(16, AlignUp(total / (threads * 8), 16)));
    pool.ParallelFor(total, grain, [&](size_t begin, size_t end, int) {
      size_t base = 0, rank_at = 0;
      for (const detail::Output& o : outs) {
        const Linear& l = *o.linear;
        const size_t from = std::max(begin, base), to = std::min(end, base + l.rows);
        if (from < to) MultiplyRows(o, n, ranks, rank_at, from - base, to - base);
        base += AlignUp(l.rows, 16);
        rank_at += l.rank;
      }
    });
  }

  void MultiplyRows(const detail::Output& o, size_t n, size_t ranks, size_t rank_at, size_t begin, size_t end) {
    const Linear& l = *o.linear;
    if (!l.ternary) {
      FloatType type{};
      (void)ToFloatType(l.type, &type);
      k.dense[static_cast<int>(type)]({.w = l.data,
                                       .k = l.k,
                                       .row_begin = begin,
                                       .row_end = end,
                                       .x = act.x.data(),
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
                        .x = act.q.data(),
                        .x_stride = block::ActBytes(block::OrderFor(l.type, l.k), l.k),
                        .x_sum = act.sum.data(),
                        .act_scale = act.scale.data(),
                        .tokens = n,
                        .y = o.y,
                        .y_stride = o.stride,
                        .bias = l.bias,
                        .lrc_u = l.lrc_u,
                        .lrc_type = l.lrc_type,
                        .lrc_t = act.lrc.data() + rank_at,
                        .lrc_t_stride = ranks,
                        .lrc_rank = l.rank};
    (n == 1 ? o.fn.gemv : o.fn.gemm)(a);
  }

  // V^T x of every output with a low-rank term, side by side: n x ranks.
  void LowRankInputs(size_t n, size_t ranks, std::span<const detail::Output> outs) {
    act.lrc.Resize(n * ranks);
    pool.ParallelFor(ranks, 8, [&](size_t begin, size_t end, int) {
      size_t base = 0;
      for (const detail::Output& o : outs) {
        const Linear& l = *o.linear;
        const size_t from = std::max(begin, base), to = std::min(end, base + l.rank);
        if (from < to) {
          k.dense[static_cast<int>(l.lrc_type)]({.w = l.lrc_v,
                                                 .k = l.k,
                                                 .row_begin = from - base,
                                                 .row_end = to - base,
                                                 .x = act.x.data(),
                                                 .x_stride = l.k,
                                                 .tokens = n,
                                                 .y = act.lrc.data() + base,
                                                 .y_stride = ranks});
        }
        base += l.rank;
      }
    });
  }

  // RoPE on q and k, K and V into the cache.
  void StoreRows(size_t layer, size_t n, size_t width) {
    const size_t qd = c.heads * c.head_dim, kd = c.kv_heads * c.head_dim, pairs = c.rope_dims / 2;
    pool.ParallelFor(n, 1, [&](size_t begin, size_t end, int) {
      for (size_t r = begin; r < end; ++r) {
        const Row& row = rows[r];
        float* x = qkv.data() + r * width;
        RopeArgs rope{.x = x,
                      .heads = c.heads,
                      .head_dim = c.head_dim,
                      .pairs = pairs,
                      .cos = rope_cos.data() + row.pos * pairs,
                      .sin = rope_sin.data() + row.pos * pairs,
                      .neox = c.rope == RopeKind::kNeox};
        k.rope(rope);
        rope.x = x + qd;
        rope.heads = c.kv_heads;
        k.rope(rope);
        uint8_t* block = row.seq->blocks[row.pos / kKvBlock];
        for (size_t head = 0; head < c.kv_heads; ++head) {
          k.kv_store[static_cast<int>(shape.type)]({.k = x + qd + head * c.head_dim,
                                                    .v = x + qd + kd + head * c.head_dim,
                                                    .head_dim = c.head_dim,
                                                    .head = block + shape.Offset(layer, head),
                                                    .slot = row.pos % kKvBlock});
        }
      }
    });
  }

  void Attend(size_t layer, size_t width) {
    const size_t qd = c.heads * c.head_dim, group = c.heads / c.kv_heads;
    pool.ParallelFor(tasks.size() * c.kv_heads, 1, [&](size_t begin, size_t end, int worker) {
      for (size_t i = begin; i < end; ++i) {
        const AttentionTask& t = tasks[i / c.kv_heads];
        const size_t head = i % c.kv_heads;
        k.attention[static_cast<int>(shape.type)]({.q = qkv.data() + t.row * width + head * group * c.head_dim,
                                                   .q_stride = width,
                                                   .out = attn.data() + t.row * qd + head * group * c.head_dim,
                                                   .out_stride = qd,
                                                   .rows = t.count,
                                                   .heads = group,
                                                   .head_dim = c.head_dim,
                                                   .visible = visible.data() + t.row,
                                                   .scale = c.attention_scale,
                                                   .blocks = t.seq->blocks,
                                                   .offset = shape.Offset(layer, head),
                                                   .scratch = scratch[static_cast<size_t>(worker)].data()});
      }
    });
  }

  void AddTo(float* y, const float* x, size_t n) {
    pool.ParallelFor(n, 1, [&](size_t begin, size_t end, int) {
      for (size_t r = begin; r < end; ++r)
        k.add({.x = x + r * c.embedding, .y = y + r * c.embedding, .n = c.embedding});
    });
  }

  void RunLayer(size_t i, size_t n) {
    const Layer& l = w.layers[i];
    const LayerFns& f = fns[i];
    const size_t e = c.embedding, qd = c.heads * c.head_dim, kd = c.kv_heads * c.head_dim, width = qd + 2 * kd;
    const detail::Output in[] = {{&l.q, f[kQ], qkv.data(), width},
                                 {&l.k, f[kK], qkv.data() + qd, width},
                                 {&l.v, f[kV], qkv.data() + qd + kd, width}};
    Project(h.data(), e, n, l.attn_norm, c.rms_eps, in);
    StoreRows(i, n, width);
    Attend(i, width);
    const detail::Output o[] = {{&l.o, f[kO], out.data(), e}};
    Project(attn.data(), qd, n, nullptr, 0, o);
    AddTo(h.data(), out.data(), n);

    const detail::Output gu[] = {{&l.gate, f[kGate], ffn.data(), 2 * c.ffn},
                                 {&l.up, f[kUp], ffn.data() + c.ffn, 2 * c.ffn}};
    Project(h.data(), e, n, l.ffn_norm, c.rms_eps, gu);
    pool.ParallelFor(n, 1, [&](size_t begin, size_t end, int) {
      for (size_t r = begin; r < end; ++r) {
        float* g = ffn.data() + r * 2 * c.ffn;
        k.glu({.gate = g, .up = g + c.ffn, .out = g, .n = c.ffn, .relu2 = c.activation == Activation::kRelu2});
      }
    });
    const detail::Output d[] = {{&l.down, f[kDown], out.data(), e}};
    Project(ffn.data(), 2 * c.ffn, n, nullptr, 0, d);
    AddTo(h.data(), out.data(), n);
  }

  void Plan(std::span<const SequenceRows> sequences) {
    rows.clear();
    tasks.clear();
    visible.clear();
    size_t positions = 0;
    for (const SequenceRows& s : sequences) {
      for (size_t i = 0; i < s.count; i += kAttentionRows) {
        tasks.push_back({&s, rows.size() + i, i, std::min(kAttentionRows, s.count - i)});
      }
      for (size_t i = 0; i < s.count; ++i) {
        rows.push_back({&s, s.first + i});
        visible.push_back(static_cast<uint32_t>(s.first + i + 1));  // causal
      }
      positions = std::max(positions, s.first + s.count);
    }
    EnsureRope(positions);
  }

  void Forward(std::span<const SequenceRows> sequences, float* logits) {
    Plan(sequences);
    const size_t n = rows.size(), e = c.embedding;
    if (n == 0) return;
    h.Resize(n * e);
    qkv.Resize(n * (c.heads + 2 * c.kv_heads) * c.head_dim);
    attn.Resize(n * c.heads * c.head_dim);
    ffn.Resize(n * 2 * c.ffn);
    out.Resize(n * e);
    pool.ParallelFor(n, 8, [&](size_t begin, size_t end, int) {
      for (size_t r = begin; r < end; ++r) Embed(rows[r], rows[r].pos - rows[r].seq->first, h.data() + r * e);
    });
    for (size_t i = 0; i < c.layers; ++i) RunLayer(i, n);

    // The head, for the rows that want it only.
    size_t wanted = 0;
    final_rows.Resize(n * e);
    for (size_t r = 0; r < n; ++r) {
      if (rows[r].pos - rows[r].seq->first < rows[r].seq->logits_from) continue;
      k.rms_norm(
          {.x = h.data() + r * e, .w = w.output_norm, .y = final_rows.data() + wanted * e, .n = e, .eps = c.rms_eps});
      ++wanted;
    }
    if (wanted == 0) return;
    FloatType type{};
    (void)ToFloatType(w.head.type, &type);
    pool.ParallelFor(c.vocab, 256, [&](size_t begin, size_t end, int) {
      k.dense[static_cast<int>(type)]({.w = w.head.data,
                                       .k = e,
                                       .row_begin = begin,
                                       .row_end = end,
                                       .x = final_rows.data(),
                                       .x_stride = e,
                                       .tokens = wanted,
                                       .y = logits,
                                       .y_stride = c.vocab,
                                       .bias = w.head.bias});
    });
  }
};

WF_MODEL_INLINE Transformer::Transformer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
WF_MODEL_INLINE Transformer::~Transformer() = default;

WF_MODEL_INLINE Result<std::unique_ptr<Transformer>> Transformer::Create(std::shared_ptr<const Model> model,
                                                                         int threads, FloatType kv_type,
                                                                         std::string_view isa) {
  WF_ASSIGN(const isa::Id id, isa.empty() ? isa::Choose(CompiledIsas()) : isa::Force(isa, CompiledIsas()));
  if (threads < 1) return InvalidArgument("threads = " + std::to_string(threads) + ", expected at least 1");
  auto impl = std::make_unique<Impl>(std::move(model), threads, kv_type, id);
  WF_ASSIGN(impl->selftest, RunSelfTest(*impl->model, id, kv_type));
  return std::unique_ptr<Transformer>(new Transformer(std::move(impl)));
}

WF_MODEL_INLINE isa::Id Transformer::isa() const noexcept { return impl_->k.isa; }
WF_MODEL_INLINE int Transformer::threads() const noexcept { return impl_->pool.threads(); }
WF_MODEL_INLINE KvShape Transformer::kv_shape() const noexcept { return impl_->shape; }
WF_MODEL_INLINE double Transformer::selftest_ms() const noexcept { return impl_->selftest.ms; }
WF_MODEL_INLINE size_t Transformer::selftest_count() const noexcept { return impl_->selftest.comparisons; }
WF_MODEL_INLINE void Transformer::Forward(std::span<const SequenceRows> sequences, float* logits) {
  impl_->Forward(sequences, logits);
}
WF_MODEL_INLINE float Transformer::Softmax(const float* x, float* p, size_t n) const noexcept {
  float lse = 0;
  impl_->k.softmax({.x = x, .p = p, .n = n, .lse = &lse});
  return lse;
}

}  // namespace wf
#endif  // WF_MODEL_TRANSFORMER_IMPL_H_
