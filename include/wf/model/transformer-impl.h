// SPDX-License-Identifier: Apache-2.0
// Bodies of transformer.h: the decoder graph.
#ifndef WF_MODEL_TRANSFORMER_IMPL_H_
#define WF_MODEL_TRANSFORMER_IMPL_H_

#include <chrono>
#include <cmath>
#include <vector>

#include "wf/base/aligned.h"
#include "wf/kernels/table.h"
#include "wf/model/fast_head.h"
#include "wf/model/ffn-impl.h"
#include "wf/model/projector-impl.h"
#include "wf/model/selftest.h"
#include "wf/model/transformer.h"
#include "wf/quant/dense.h"

namespace wf {
struct Transformer::Impl {
  Impl(std::shared_ptr<const Model> m, int n, FloatType kv, isa::Id id, HeadMode head)
      : model(std::move(m)),
        c(model->config()),
        w(model->weights()),
        k(Kernels(id)),
        pool(n),
        projector(w, k, &pool),
        feed_forward(c, k, &pool, &projector),
        fast_head(w.head, k, &pool, head) {
    shape = KvShape{c.layers, c.kv_heads, c.head_dim, kv};
    scratch.resize(static_cast<size_t>(pool.threads()));
    for (auto& s : scratch) s.Resize(AttentionScratch(kAttentionRows, c.heads / c.kv_heads, c.head_dim));
  }

  static constexpr size_t kAttentionRows = 8;  // q, o and the widened block of 8 rows x 4 heads x 128 fit L1 and L2

  std::shared_ptr<const Model> model;
  const Config& c;
  const Weights& w;
  const KernelTable& k;
  ThreadPool pool;
  detail::Projector projector;
  detail::FeedForward feed_forward;
  FastHead fast_head;
  KvShape shape;
  SelfTestReport selftest;

  AlignedBuffer<float> h, qkv, attn, out, final_rows;
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
  std::vector<FastHead::Task> queries;
  std::vector<const std::vector<Candidate>*> answers;  // of each row of logits; null: it was not asked

  // Angles in double, so that long contexts keep their precision.
  void EnsureRope(size_t positions) {
    if (positions <= rope_rows) return;
    const size_t pairs = c.rope_dims / 2, n = AlignUp(positions, 256);
    rope_cos.resize(n * pairs);
    rope_sin.resize(n * pairs);
    for (size_t i = 0; i < pairs; ++i) {
      double step =
          std::pow(static_cast<double>(c.rope_base), -2.0 * static_cast<double>(i) / static_cast<double>(c.rope_dims)) *
          static_cast<double>(c.rope_scale);
      if (w.rope_factors != nullptr) step /= static_cast<double>(w.rope_factors[i]);
      for (size_t p = rope_rows; p < n; ++p) {
        rope_cos[p * pairs + i] = static_cast<float>(std::cos(static_cast<double>(p) * step));
        rope_sin[p * pairs + i] = static_cast<float>(std::sin(static_cast<double>(p) * step));
      }
    }
    rope_rows = n;
  }

  // The norm of each head, if the model has one.
  void NormHeads(const float* norm, float* x, size_t heads) const noexcept {
    if (norm == nullptr) return;
    for (size_t i = 0; i < heads; ++i) {
      float* head = x + i * c.head_dim;
      k.rms_norm({.x = head, .w = norm, .y = head, .n = c.head_dim, .eps = c.rms_eps});
    }
  }

  // Norms of the heads, RoPE on q and k, K and V into the cache.
  void StoreRows(size_t layer, size_t n, size_t width) {
    const size_t qd = c.heads * c.head_dim, kd = c.kv_heads * c.head_dim, pairs = c.rope_dims / 2;
    pool.ParallelFor(n, 1, [&](size_t begin, size_t end, int) {
      for (size_t r = begin; r < end; ++r) {
        const Row& row = rows[r];
        float* x = qkv.data() + r * width;
        NormHeads(w.layers[layer].q_norm, x, c.heads);
        NormHeads(w.layers[layer].k_norm, x + qd, c.kv_heads);
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
    const size_t e = c.embedding, qd = c.heads * c.head_dim, kd = c.kv_heads * c.head_dim, width = qd + 2 * kd;
    const detail::Projector::Output in[] = {
        {&l.q, qkv.data(), width}, {&l.k, qkv.data() + qd, width}, {&l.v, qkv.data() + qd + kd, width}};
    projector.Project(h.data(), e, n, l.attn_norm, c.rms_eps, in);
    StoreRows(i, n, width);
    Attend(i, width);
    const detail::Projector::Output o[] = {{&l.o, out.data(), e}};
    projector.Project(attn.data(), qd, n, nullptr, 0, o);
    AddTo(h.data(), out.data(), n);
    feed_forward.Run(l, h.data(), n, out.data());
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
    out.Resize(n * e);
    pool.ParallelFor(n, 8, [&](size_t begin, size_t end, int) {
      for (size_t r = begin; r < end; ++r) {
        const int32_t id = rows[r].seq->tokens[rows[r].pos - rows[r].seq->first];
        DequantRow(w.embedding.dense_type, w.embedding.data, static_cast<size_t>(id), e, h.data() + r * e);
      }
    });
    for (size_t i = 0; i < c.layers; ++i) RunLayer(i, n);

    // The head, for the rows that want it only.
    size_t wanted = 0;
    queries.clear();
    answers.clear();
    final_rows.Resize(n * e);
    for (size_t r = 0; r < n; ++r) {
      if (rows[r].pos - rows[r].seq->first < rows[r].seq->logits_from) continue;
      k.rms_norm(
          {.x = h.data() + r * e, .w = w.output_norm, .y = final_rows.data() + wanted * e, .n = e, .eps = c.rms_eps});
      const SequenceRows& s = *rows[r].seq;
      if (s.query != nullptr) queries.push_back({final_rows.data() + wanted * e, s.query, s.candidates});
      answers.push_back(s.query != nullptr ? s.candidates : nullptr);
      ++wanted;
    }
    fast_head.Answer(queries);
    // The rest, in runs of rows that lie side by side.
    for (size_t i = 0, end = 0; i < wanted; i = end + 1) {
      const auto unanswered = [&](size_t r) { return answers[r] == nullptr || answers[r]->empty(); };
      for (end = i; end < wanted && unanswered(end); ++end) {
      }
      if (end > i) projector.Dense(w.head, final_rows.data() + i * e, e, end - i, logits + i * c.vocab, c.vocab);
    }
  }
};

WF_MODEL_INLINE Transformer::Transformer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
WF_MODEL_INLINE Transformer::~Transformer() = default;

WF_MODEL_INLINE Result<std::unique_ptr<Transformer>> Transformer::Create(std::shared_ptr<const Model> model,
                                                                         int threads, FloatType kv_type,
                                                                         std::string_view isa, HeadMode head) {
  WF_ASSIGN(const isa::Id id, isa.empty() ? isa::Choose(CompiledIsas()) : isa::Force(isa, CompiledIsas()));
  if (threads < 1) return InvalidArgument("threads = " + std::to_string(threads) + ", expected at least 1");
  auto impl = std::make_unique<Impl>(std::move(model), threads, kv_type, id, head);
  WF_TRY(impl->pool.status());
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
WF_MODEL_INLINE bool Transformer::Prepare(double ms) { return impl_->fast_head.Build(ms); }
WF_MODEL_INLINE HeadStats Transformer::head_stats() const noexcept { return impl_->fast_head.stats(); }
WF_MODEL_INLINE const std::string& Transformer::head_why_not() const noexcept { return impl_->fast_head.why_not(); }
WF_MODEL_INLINE float Transformer::Softmax(const float* x, float* p, size_t n) const noexcept {
  float lse = 0;
  impl_->k.softmax({.x = x, .p = p, .n = n, .lse = &lse});
  return lse;
}

}  // namespace wf
#endif  // WF_MODEL_TRANSFORMER_IMPL_H_
