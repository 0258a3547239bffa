// SPDX-License-Identifier: Apache-2.0
// Bodies of compare.h.
#ifndef WF_MODEL_COMPARE_IMPL_H_
#define WF_MODEL_COMPARE_IMPL_H_

#include <algorithm>
#include <cmath>
#include <limits>

#include "wf/base/quote.h"
#include "wf/cache/kv_pool.h"
#include "wf/model/compare.h"
#include "wf/model/transformer.h"
#include "wf/quant/dense.h"
#include "wf/quant/pack.h"

namespace wf {
namespace detail {

// One row of a projection as it runs: ternary values and the scale of each, or floats.
class LinearRow {
 public:
  explicit LinearRow(const Linear& l) : l_(l), values_(l.k), scales_(l.k), floats_(l.k) {}

  void Read(size_t row) {
    if (!l_.ternary) return DequantRow(l_.dense_type, l_.data, row, l_.k, floats_.data());
    DenseType type{};
    if (ToDenseType(l_.type, &type)) {  // {-s, 0, s}
      DequantRow(type, l_.data, row, l_.k, floats_.data());
      for (size_t i = 0; i < l_.k; ++i) {
        values_[i] = static_cast<int8_t>((floats_[i] > 0) - (floats_[i] < 0));
        scales_[i] = l_.scale;
      }
    } else {
      UnpackTernary(l_.type, static_cast<const uint8_t*>(l_.data), row, l_.k, values_.data(), scales_.data());
      const size_t block = TernaryScaleSize(l_.type) == 0 ? l_.k : TernaryScaleSize(l_.type);
      for (size_t i = l_.k; i-- > 0;) scales_[i] = scales_[i / block] * l_.scale;
    }
    for (size_t i = 0; i < l_.k; ++i) floats_[i] = static_cast<float>(values_[i]) * scales_[i];
  }
  // A block of zeros may have any scale.
  int value(size_t i) const noexcept { return scales_[i] == 0 ? 0 : (scales_[i] < 0 ? -values_[i] : values_[i]); }
  double scale(size_t i) const noexcept { return std::fabs(static_cast<double>(scales_[i])); }
  const std::vector<float>& floats() const noexcept { return floats_; }

 private:
  const Linear& l_;
  std::vector<int8_t> values_;
  std::vector<float> scales_, floats_;
};

class WeightComparer {
 public:
  WeightComparer(const Model& a, const Model& b) : a_(a), b_(b) {}

  Result<std::vector<TensorComparison>> Run() {
    WF_TRY(CompareShapes(a_.config(), b_.config()));
    const Weights &a = a_.weights(), &b = b_.weights();
    WF_TRY(Both(a.embedding, b.embedding));
    for (size_t i = 0; i < a.layers.size(); ++i)
      WF_TRY(Layers("blk." + std::to_string(i) + ".", a.layers[i], b.layers[i]));
    WF_TRY(Vectors("output_norm.weight", a.output_norm, b.output_norm, a_.config().embedding));
    WF_TRY(Vectors("rope_freqs.weight", a.rope_factors, b.rope_factors, a_.config().rope_dims / 2));
    if (a.head.data != a.embedding.data || b.head.data != b.embedding.data) WF_TRY(Both(a.head, b.head));
    return std::move(out_);
  }

 private:
  Status Differ(const std::string& what, const std::string& a, const std::string& b) const {
    return InvalidArgument("the models cannot be compared: " + what + " is " + a + " in " + a_.gguf().name() + ", " +
                           b + " in " + b_.gguf().name());
  }
  Status CompareShapes(const Config& a, const Config& b) const {
    const struct {
      const char* name;
      size_t a, b;
    } sizes[] = {{"the number of layers", a.layers, b.layers},
                 {"the embedding's width", a.embedding, b.embedding},
                 {"the vocabulary", a.vocab, b.vocab},
                 {"the number of heads", a.heads, b.heads},
                 {"the number of kv heads", a.kv_heads, b.kv_heads},
                 {"the head size", a.head_dim, b.head_dim},
                 {"the FFN's width", a.ffn, b.ffn},
                 {"the number of experts", a.experts, b.experts},
                 {"the experts' width", a.expert_ffn, b.expert_ffn},
                 {"the shared expert's width", a.shared_ffn, b.shared_ffn},
                 {"the number of experts used", a.experts_used, b.experts_used}};
    for (const auto& s : sizes) {
      if (s.a != s.b) return Differ(s.name, std::to_string(s.a), std::to_string(s.b));
    }
    const struct {
      const char* name;
      float a, b;
    } numbers[] = {{"the norms' epsilon", a.rms_eps, b.rms_eps},
                   {"the sub-norms' epsilon", a.sub_norm_eps, b.sub_norm_eps},
                   {"RoPE's base", a.rope_base, b.rope_base},
                   {"RoPE's scale", a.rope_scale, b.rope_scale},
                   {"the scale of attention scores", a.attention_scale, b.attention_scale},
                   {"the scale of the experts' weights", a.expert_scale, b.expert_scale}};
    for (const auto& n : numbers) {
      if (n.a != n.b) return Differ(n.name, std::to_string(n.a), std::to_string(n.b));
    }
    if (a.activation != b.activation) {
      return Differ("the activation", a.activation == Activation::kRelu2 ? "relu2" : "silu",
                    b.activation == Activation::kRelu2 ? "relu2" : "silu");
    }
    if (a.experts != 0 && a.renormalise_experts != b.renormalise_experts) {
      return Differ("the sum of the experts' weights", a.renormalise_experts ? "1" : "free",
                    b.renormalise_experts ? "1" : "free");
    }
    if (a.rope != b.rope) {
      return InvalidArgument("the models cannot be compared: " + a.architecture + " and " + b.architecture +
                             " order the rows of q and k differently");
    }
    return OkStatus();
  }

  Status Layers(const std::string& p, const Layer& a, const Layer& b) {
    const Config& c = a_.config();
    WF_TRY(Vectors(p + "attn_norm.weight", a.attn_norm, b.attn_norm, c.embedding));
    WF_TRY(Vectors(p + "ffn_norm.weight", a.ffn_norm, b.ffn_norm, c.embedding));
    WF_TRY(Vectors(p + "attn_q_norm.weight", a.q_norm, b.q_norm, c.head_dim));
    WF_TRY(Vectors(p + "attn_k_norm.weight", a.k_norm, b.k_norm, c.head_dim));
    std::vector<const Linear*> of_a, of_b;
    ForEachProjection(a, [&](const Linear& l) { of_a.push_back(&l); });
    ForEachProjection(b, [&](const Linear& l) { of_b.push_back(&l); });
    for (const auto& [l, list] : {std::pair(&a, &of_a), std::pair(&b, &of_b)}) {
      for (const Linear* dense : {&l->router, &l->shared_gate}) {
        if (dense->data != nullptr) list->push_back(dense);
      }
    }
    if (of_a.size() != of_b.size()) {
      return Differ("the number of projections of " + p, std::to_string(of_a.size()), std::to_string(of_b.size()));
    }
    for (size_t i = 0; i < of_a.size(); ++i) WF_TRY(Both(*of_a[i], *of_b[i]));
    return OkStatus();
  }

  Status Vectors(const std::string& name, const float* a, const float* b, size_t n) {
    if (a == nullptr && b == nullptr) return OkStatus();
    if (a == nullptr || b == nullptr) return Differ(Quote(name), a ? "there" : "missing", b ? "there" : "missing");
    Begin(name, "F32", "F32", n);
    for (size_t i = 0; i < n; ++i) Floats(a[i], b[i]);
    End();
    return OkStatus();
  }

  Status Both(const Linear& a, const Linear& b) {
    if (a.rows != b.rows || a.k != b.k) {
      return Differ("the shape of " + Quote(a.name), std::to_string(a.k) + " x " + std::to_string(a.rows),
                    std::to_string(b.k) + " x " + std::to_string(b.rows));
    }
    if (a.ternary != b.ternary) {
      return Differ(Quote(a.name), a.ternary ? "ternary" : "unquantised", b.ternary ? "ternary" : "unquantised");
    }
    Begin(a.name, std::string(TensorTypeName(a.type)), std::string(TensorTypeName(b.type)), a.k * a.rows);
    TensorComparison& t = out_.back();
    t.ternary = a.ternary;
    LinearRow ra(a), rb(b);
    for (size_t row = 0; row < a.rows; ++row) {
      ra.Read(row);
      rb.Read(row);
      for (size_t i = 0; i < a.k; ++i) {
        Floats(ra.floats()[i], rb.floats()[i]);
        if (!a.ternary) continue;
        t.differing += ra.value(i) != rb.value(i) ? 1 : 0;
        const double sa = ra.scale(i), sb = rb.scale(i);
        if (ra.value(i) != 0 && rb.value(i) != 0 && sa != sb) {
          t.scale_difference = std::max(t.scale_difference, std::fabs(sa - sb) / std::max(sa, sb));
        }
      }
    }
    End();
    WF_TRY(Vectors(a.name + " (bias)", a.bias, b.bias, a.rows));
    WF_TRY(Vectors(a.name + " (input norm)", a.norm, b.norm, a.k));
    if (a.rank != b.rank) {
      return Differ("the rank of the low-rank correction of " + Quote(a.name), std::to_string(a.rank),
                    std::to_string(b.rank));
    }
    if (a.rank == 0) return OkStatus();
    WF_TRY(Both(Factor(a, "lrc_u", a.lrc_u, a.lrc_type, a.rank, a.rows),
                Factor(b, "lrc_u", b.lrc_u, b.lrc_type, b.rank, b.rows)));
    return Both(Factor(a, "lrc_v", a.lrc_v, a.lrc_v_type, a.k, a.rank),
                Factor(b, "lrc_v", b.lrc_v, b.lrc_v_type, b.k, b.rank));
  }
  static Linear Factor(const Linear& of, const char* name, const void* data, DenseType type, size_t k, size_t rows) {
    Linear l;
    l.name = of.name + " (" + name + ")";
    l.type = kDenseTensorTypes[static_cast<size_t>(type)];
    l.dense_type = type;
    l.data = data;
    l.k = k;
    l.rows = rows;
    l.ternary = false;
    return l;
  }

  void Begin(const std::string& name, std::string type_a, std::string type_b, uint64_t values) {
    TensorComparison t;
    t.name = name;
    t.type_a = std::move(type_a);
    t.type_b = std::move(type_b);
    t.values = values;
    out_.push_back(std::move(t));
    ab_ = aa_ = bb_ = 0;
  }
  void Floats(float fa, float fb) noexcept {
    const double a = static_cast<double>(fa), b = static_cast<double>(fb);
    ab_ += a * b;
    aa_ += a * a;
    bb_ += b * b;
    TensorComparison& t = out_.back();
    t.max_difference = std::max(t.max_difference, std::fabs(a - b));
    if (!t.ternary) t.differing += fa != fb ? 1 : 0;
  }
  void End() noexcept {
    out_.back().norm_ratio =
        aa_ == bb_ ? 1.0 : (bb_ == 0 ? std::numeric_limits<double>::infinity() : std::sqrt(aa_ / bb_));
    out_.back().cosine = aa_ == 0 && bb_ == 0 ? 1.0 : (aa_ == 0 || bb_ == 0 ? 0.0 : ab_ / std::sqrt(aa_ * bb_));
  }

  const Model &a_, &b_;
  std::vector<TensorComparison> out_;
  double ab_ = 0, aa_ = 0, bb_ = 0;
};

// Runs a model over one text, some rows at a time.
class LogitReader {
 public:
  static Result<LogitReader> Open(std::shared_ptr<const Model> model, size_t tokens, int threads) {
    LogitReader r;
    WF_ASSIGN(r.transformer_, Transformer::Create(model, threads, KvType::kF32));
    WF_ASSIGN(KvPool pool, KvPool::Create(r.transformer_->kv_shape(), (tokens + kKvBlock - 1) / kKvBlock));
    r.pool_ = std::make_unique<KvPool>(std::move(pool));
    while (r.blocks_.size() < r.pool_->total()) r.blocks_.push_back(r.pool_->Data(r.pool_->Acquire()));
    r.vocab_ = model->config().vocab;
    return r;
  }
  const float* Rows(std::span<const int32_t> ids, size_t first, size_t n) {
    logits_.resize(n * vocab_);
    const SequenceRows rows{.tokens = ids.data() + first, .count = n, .first = first, .blocks = blocks_.data()};
    transformer_->Forward({&rows, 1}, logits_.data());
    return logits_.data();
  }

 private:
  std::unique_ptr<Transformer> transformer_;
  std::unique_ptr<KvPool> pool_;
  std::vector<uint8_t*> blocks_;
  std::vector<float> logits_;
  size_t vocab_ = 0;
};

// log sum exp
inline double LogSum(const float* x, size_t n) {
  const double top = static_cast<double>(*std::max_element(x, x + n));
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += std::exp(static_cast<double>(x[i]) - top);
  return top + std::log(sum);
}

}  // namespace detail

WF_MODEL_INLINE Result<std::vector<TensorComparison>> CompareWeights(const Model& a, const Model& b) {
  return detail::WeightComparer(a, b).Run();
}

WF_MODEL_INLINE Result<LogitComparison> CompareLogits(std::shared_ptr<const Model> a, std::shared_ptr<const Model> b,
                                                      std::span<const int32_t> ids, int threads) {
  const size_t vocab = a->config().vocab;
  if (vocab != b->config().vocab) return InvalidArgument("the models have vocabularies of different sizes");
  if (ids.empty()) return InvalidArgument("the text has no token");
  for (const int32_t id : ids) {
    if (id < 0 || static_cast<size_t>(id) >= vocab)
      return InvalidArgument("token " + std::to_string(id) + " is no token");
  }
  WF_ASSIGN(detail::LogitReader ra, detail::LogitReader::Open(std::move(a), ids.size(), threads));
  WF_ASSIGN(detail::LogitReader rb, detail::LogitReader::Open(std::move(b), ids.size(), threads));
  LogitComparison c;
  c.tokens = ids.size();
  double sum = 0, squares = 0;
  constexpr size_t kChunk = 32;
  for (size_t first = 0; first < ids.size(); first += kChunk) {
    const size_t n = std::min(kChunk, ids.size() - first);
    const float* pa = ra.Rows(ids, first, n);
    const float* pb = rb.Rows(ids, first, n);
    for (size_t r = 0; r < n; ++r, pa += vocab, pb += vocab) {
      c.same_top += std::max_element(pa, pa + vocab) - pa == std::max_element(pb, pb + vocab) - pb ? 1 : 0;
      const double la = detail::LogSum(pa, vocab), lb = detail::LogSum(pb, vocab);
      for (size_t i = 0; i < vocab; ++i) {
        const double x = static_cast<double>(pa[i]), y = static_cast<double>(pb[i]);
        c.mean_difference += std::fabs(x - y);
        c.max_difference = std::max(c.max_difference, std::fabs(x - y));
        c.kl += std::exp(x - la) * ((x - la) - (y - lb));
        sum += x;
        squares += x * x;
      }
    }
  }
  const double n = static_cast<double>(ids.size()), all = n * static_cast<double>(vocab);
  c.mean_difference /= all;
  c.kl /= n;
  c.deviation = std::sqrt(std::max(0.0, squares / all - (sum / all) * (sum / all)));
  return c;
}

}  // namespace wf
#endif  // WF_MODEL_COMPARE_IMPL_H_
