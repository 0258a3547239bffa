// SPDX-License-Identifier: Apache-2.0
// Bodies of transformer.h: the decoder graph.
#ifndef WF_MODEL_TRANSFORMER_IMPL_H_
#define WF_MODEL_TRANSFORMER_IMPL_H_

#include <chrono>
#include <vector>

#include "wf/base/aligned.h"
#include "wf/kernels/table.h"
#include "wf/model/attention-impl.h"
#include "wf/model/fast_head.h"
#include "wf/model/ffn-impl.h"
#include "wf/model/projector-impl.h"
#include "wf/model/selftest.h"
#include "wf/model/transformer.h"
#include "wf/quant/dense.h"

namespace wf {
struct Transformer::Impl {
  Impl(std::shared_ptr<const Model> m, int n, KvType kv, isa::Id id, HeadMode head)
      : model(std::move(m)),
        c(model->config()),
        w(model->weights()),
        k(Kernels(id)),
        pool(n),
        projector(w, k, &pool),
        attention(c, w.rope_factors, k, &pool, kv),
        feed_forward(c, k, &pool, &projector),
        fast_head(w.head, k, &pool, head) {}

  std::shared_ptr<const Model> model;
  const Config& c;
  const Weights& w;
  const KernelTable& k;
  ThreadPool pool;
  detail::Projector projector;
  detail::SelfAttention attention;
  detail::FeedForward feed_forward;
  FastHead fast_head;
  SelfTestReport selftest;

  AlignedBuffer<float> h, qkv, attn, out, final_rows;
  std::vector<FastHead::Task> queries;
  std::vector<const std::vector<Candidate>*> answers;  // of each row of logits; null: it was not asked

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
    projector.Project({.x = h.data(), .stride = e, .norm = l.attn_norm, .eps = c.rms_eps}, n, in);
    attention.Run(i, l, qkv.data(), attn.data());
    const detail::Projector::Output o[] = {{&l.o, out.data(), e}};
    projector.Project({.x = attn.data(), .stride = qd}, n, o);
    AddTo(h.data(), out.data(), n);
    feed_forward.Run(l, h.data(), n, out.data());
    AddTo(h.data(), out.data(), n);
  }

  void Forward(std::span<const SequenceRows> sequences, float* logits) {
    attention.Plan(sequences);
    const std::vector<detail::BatchRow>& rows = attention.rows();
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
    size_t row = 0;
    for (const SequenceRows& s : sequences) {
      const auto want = [&](size_t i, size_t of_sequence) {
        float* x = final_rows.data() + wanted++ * e;
        k.rms_norm({.x = h.data() + (row + i) * e, .w = w.output_norm, .y = x, .n = e, .eps = c.rms_eps});
        if (s.query != nullptr) queries.push_back({x, s.query, s.candidates + of_sequence});
        answers.push_back(s.query != nullptr ? s.candidates + of_sequence : nullptr);
      };
      for (size_t i = 0; i < s.logits_rows.size(); ++i) want(s.logits_rows[i], i);
      for (size_t i = s.logits_from; s.logits_rows.empty() && i < s.count; ++i) want(i, i - s.logits_from);
      row += s.count;
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
                                                                         int threads, KvType kv_type,
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
WF_MODEL_INLINE KvShape Transformer::kv_shape() const noexcept { return impl_->attention.shape(); }
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
