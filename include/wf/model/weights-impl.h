// SPDX-License-Identifier: Apache-2.0
// Bodies of weights.h: finding tensors by name. What one tensor's bytes mean is in weights_tensor-impl.h.
#ifndef WF_MODEL_WEIGHTS_IMPL_H_
#define WF_MODEL_WEIGHTS_IMPL_H_

#include "wf/model/weights.h"
#include "wf/model/weights_tensor-impl.h"

namespace wf {
namespace detail {

class WeightLoader {
 public:
  WeightLoader(const Gguf& g, const Config& c, const WeightOptions& o) : c_(c), t_(g, c, o, &w_) {}

  Result<Weights> Load() {
    const size_t e = c_.embedding;
    WF_ASSIGN(w_.embedding, Dense("token_embd.weight", e, 0));
    WF_TRY(LoadHead());
    WF_ASSIGN(w_.output_norm, Vector("output_norm.weight", e));
    if (const GgufTensor* t = t_.Find("rope_freqs.weight"); t != nullptr) {
      WF_ASSIGN(w_.rope_factors, t_.VectorOf(*t, c_.rope_dims / 2));
      for (size_t i = 0; i < c_.rope_dims / 2; ++i) {
        if (!(w_.rope_factors[i] > 0)) return t_.NotFinite(*t, w_.rope_factors[i]);
      }
    }
    w_.layers.resize(c_.layers);
    for (size_t i = 0; i < c_.layers; ++i) WF_TRY(LoadLayer("blk." + std::to_string(i) + ".", &w_.layers[i]));
    WF_TRY(t_.CheckLeftovers());
    return std::move(w_);
  }

 private:
  Status Missing(const std::string& name) const { return t_.Missing(name); }

  // A vector of n floats, as f32.
  Result<const float*> Vector(const std::string& name, size_t n) {
    const GgufTensor* t = t_.Find(name);
    if (t == nullptr) return Missing(name);
    return t_.VectorOf(*t, n);
  }

  Result<Linear> Dense(const std::string& name, size_t k, size_t rows) {
    const GgufTensor* t = t_.Find(name);
    if (t == nullptr) return Missing(name);
    WF_TRY(t_.CheckShape(*t, k, rows));
    Linear l = t_.View(*t, k, t->ne[1]);
    WF_TRY(t_.SetDense(*t, &l));
    return l;
  }

  Status LoadHead() {
    const char* name = "output.weight";
    if (!c_.tied_head && t_.Find(name) != nullptr) {
      WF_ASSIGN(w_.head, Dense(name, c_.embedding, w_.embedding.rows));
    } else {
      w_.head = w_.embedding;
      if (t_.Find(name) != nullptr) {
        w_.notices.push_back("output.weight is not used: architecture " + c_.architecture +
                             " takes the embedding as head");
      }
    }
    if (const GgufTensor* b = t_.Find("output.bias"); b != nullptr) {
      WF_ASSIGN(w_.head.bias, t_.VectorOf(*b, w_.head.rows));
    }
    return OkStatus();
  }

  Status LoadLayer(const std::string& p, Layer* l) {
    const size_t e = c_.embedding, qd = c_.heads * c_.head_dim, kd = c_.kv_heads * c_.head_dim;
    WF_ASSIGN(l->attn_norm, Vector(p + "attn_norm.weight", e));
    WF_ASSIGN(l->ffn_norm, Vector(p + "ffn_norm.weight", e));
    WF_ASSIGN(l->q, Projection(p, "attn_q", e, qd));
    WF_ASSIGN(l->k, Projection(p, "attn_k", e, kd));
    WF_ASSIGN(l->v, Projection(p, "attn_v", e, kd));
    WF_ASSIGN(l->o, Projection(p, "attn_output", qd, e, "attn_sub_norm"));
    if (c_.qk_norm) {
      WF_ASSIGN(l->q_norm, Vector(p + "attn_q_norm.weight", c_.head_dim));
      WF_ASSIGN(l->k_norm, Vector(p + "attn_k_norm.weight", c_.head_dim));
    }
    if (c_.experts != 0) return LoadExperts(p, l);
    WF_ASSIGN(l->ffn.gate, Projection(p, "ffn_gate", e, c_.ffn));
    WF_ASSIGN(l->ffn.up, Projection(p, "ffn_up", e, c_.ffn));
    WF_ASSIGN(l->ffn.down, Projection(p, "ffn_down", c_.ffn, e, "ffn_sub_norm"));
    return OkStatus();
  }

  Status LoadExperts(const std::string& p, Layer* l) {
    const size_t e = c_.embedding, f = c_.expert_ffn;
    WF_ASSIGN(l->router, Dense(p + "ffn_gate_inp.weight", e, c_.experts));
    l->experts.resize(c_.experts);
    WF_TRY(LoadExpertMatrix(p, "ffn_gate", e, f, &Ffn::gate, &l->experts));
    WF_TRY(LoadExpertMatrix(p, "ffn_up", e, f, &Ffn::up, &l->experts));
    WF_TRY(LoadExpertMatrix(p, "ffn_down", f, e, &Ffn::down, &l->experts));
    if (c_.shared_ffn == 0) return OkStatus();
    WF_ASSIGN(l->shared.gate, Projection(p, "ffn_gate_shexp", e, c_.shared_ffn));
    WF_ASSIGN(l->shared.up, Projection(p, "ffn_up_shexp", e, c_.shared_ffn));
    WF_ASSIGN(l->shared.down, Projection(p, "ffn_down_shexp", c_.shared_ffn, e));
    const std::string gate = p + "ffn_gate_inp_shexp.weight";
    if (t_.Find(gate) == nullptr) return OkStatus();
    WF_ASSIGN(l->shared_gate, Dense(gate, e, 1));
    return OkStatus();
  }

  // One 3-D tensor for all experts, or (old files) one tensor for each.
  Status LoadExpertMatrix(const std::string& p, const std::string& what, size_t k, size_t rows, Linear Ffn::*member,
                          std::vector<Ffn>* experts) {
    const std::string base = p + what + "_exps";
    const GgufTensor* t = t_.Find(base + ".weight");
    if (t == nullptr) {
      if (t_.Find(p + what + ".0.weight") == nullptr) return Missing(base + ".weight");
      for (size_t i = 0; i < experts->size(); ++i) {
        WF_ASSIGN((*experts)[i].*member, Projection(p, what + "." + std::to_string(i), k, rows));
      }
      return OkStatus();
    }
    WF_TRY(t_.CheckShape(*t, k, rows, experts->size()));
    const float* scales = nullptr;
    const GgufTensor* s = t_.Find(base + ".scale");
    if (s != nullptr) {
      WF_ASSIGN(scales, t_.VectorOf(*s, experts->size()));
    }
    if (IsI2s(t->type) && scales == nullptr && LoadLe<float>(t->data + t->elements() / 4) != 1) {
      // What Microsoft's quantiser makes of experts: one scale where there were many.
      return t_.Error("tensor " + Quote(t->name) + ": I2_S with experts has one scale, expected 1 beside a tensor '" +
                      base + ".scale'; convert the checkpoint again");
    }
    for (size_t i = 0; i < experts->size(); ++i) {
      Linear l = t_.View(*t, k, rows);
      l.name += " (expert " + std::to_string(i) + ")";
      WF_TRY(t_.SetWeights(*t, i, experts->size(), &l));
      if (s != nullptr) WF_TRY(t_.Multiply(*s, scales[i], &l));
      (*experts)[i].*member = std::move(l);
    }
    return OkStatus();
  }

  Result<Linear> Projection(const std::string& layer, const std::string& what, size_t k, size_t rows,
                            const char* sub_norm = nullptr) {
    const std::string base = layer + what, name = base + ".weight";
    const GgufTensor* t = t_.Find(name);
    if (t == nullptr) return Missing(name);
    WF_TRY(t_.CheckShape(*t, k, rows));
    Linear l = t_.View(*t, k, rows);
    WF_TRY(t_.SetWeights(*t, 0, 1, &l));
    if (const GgufTensor* s = t_.Find(base + ".scale"); s != nullptr) {
      WF_ASSIGN(const float* v, t_.VectorOf(*s, 1));
      WF_TRY(t_.Multiply(*s, *v, &l));
    }
    if (const GgufTensor* b = t_.Find(base + ".bias"); b != nullptr) {
      WF_ASSIGN(l.bias, t_.VectorOf(*b, rows));
    }
    WF_TRY(InputNorm(layer, base, sub_norm, &l));
    WF_TRY(t_.LowRank(base, &l));
    return l;
  }

  Status InputNorm(const std::string& layer, const std::string& base, const char* sub_norm, Linear* l) {
    const GgufTensor* norm = t_.Find(base + "_norm_in.weight");
    if (sub_norm != nullptr) {
      const GgufTensor* sub = t_.Find(layer + sub_norm + ".weight");
      if (sub != nullptr && norm != nullptr) {
        return t_.Error(Quote(sub->name) + " and " + Quote(norm->name) + " are two norms for one projection");
      }
      if (sub == nullptr && norm == nullptr && c_.needs_sub_norms) return Missing(layer + sub_norm + ".weight");
      if (sub != nullptr) norm = sub;
    }
    if (norm == nullptr) return OkStatus();
    WF_ASSIGN(l->norm, t_.VectorOf(*norm, l->k));
    l->norm_eps = c_.sub_norm_eps;
    return OkStatus();
  }

  const Config& c_;
  Weights w_;
  TensorLoader t_;
};

}  // namespace detail

WF_MODEL_INLINE Result<TensorType> ParseI2sLayout(std::string_view name) {
  if (name == "x86") return TensorType::kI2_S;
  if (name == "arm64") return TensorType::kI2_S_ARM64;
  if (name == "x4") return TensorType::kI2_S_X4;
  return InvalidArgument("unknown I2_S layout " + Quote(name) + "; known: x86, arm64, x4");
}

WF_MODEL_INLINE Result<Weights> LoadWeights(const Gguf& gguf, const Config& config, const WeightOptions& options) {
  return detail::WeightLoader(gguf, config, options).Load();
}

}  // namespace wf
#endif  // WF_MODEL_WEIGHTS_IMPL_H_
