// SPDX-License-Identifier: Apache-2.0
// Bodies of weights.h.
#ifndef WF_MODEL_WEIGHTS_IMPL_H_
#define WF_MODEL_WEIGHTS_IMPL_H_

#include <cmath>
#include <cstring>
#include <set>
#include <string_view>

#include "wf/base/half.h"
#include "wf/model/weights.h"

namespace wf {

WF_MODEL_INLINE bool ToFloatType(TensorType type, FloatType* out) noexcept {
  switch (type) {
    case TensorType::kF32:
      *out = FloatType::kF32;
      return true;
    case TensorType::kF16:
      *out = FloatType::kF16;
      return true;
    case TensorType::kBF16:
      *out = FloatType::kBF16;
      return true;
    default:
      return false;
  }
}

namespace detail {

// Floats that are ternary have one magnitude: returns its bits, 0 for all zeros, or false.
template <class Word>
bool OneMagnitude(const Word* w, size_t n, Word* magnitude) noexcept {
  constexpr Word kMask = static_cast<Word>(static_cast<Word>(~Word{0}) >> 1);
  Word m = 0;
  size_t i = 0;
  for (; i < n && m == 0; ++i) m = w[i] & kMask;
  Word other = 0;
  for (; i < n; ++i) {
    const Word v = w[i] & kMask;
    other = static_cast<Word>(other | (v != 0 && v != m ? 1 : 0));
  }
  *magnitude = m;
  return other == 0;
}

class WeightLoader {
 public:
  WeightLoader(const Gguf& g, const Config& c) : g_(g), c_(c) {}

  Result<Weights> Load() {
    const size_t e = c_.embedding, qd = c_.heads * c_.head_dim, kd = c_.kv_heads * c_.head_dim;
    WF_ASSIGN(w_.embedding, Dense("token_embd.weight", e, 0));
    vocab_ = w_.embedding.rows;
    if (!c_.tied_head && g_.FindTensor("output.weight") != nullptr) {
      WF_ASSIGN(w_.head, Dense("output.weight", e, vocab_));
    } else {
      w_.head = w_.embedding;
      if (g_.FindTensor("output.weight") != nullptr) {
        used_.insert("output.weight");
        w_.notices.push_back("output.weight is not used: architecture " + c_.architecture +
                             " takes the embedding as head");
      }
    }
    WF_ASSIGN(w_.output_norm, Vector("output_norm.weight", e));
    w_.layers.resize(c_.layers);
    for (size_t i = 0; i < c_.layers; ++i) {
      Layer& l = w_.layers[i];
      const std::string p = "blk." + std::to_string(i) + ".";
      WF_ASSIGN(l.attn_norm, Vector(p + "attn_norm.weight", e));
      WF_ASSIGN(l.ffn_norm, Vector(p + "ffn_norm.weight", e));
      WF_ASSIGN(l.q, Projection(p, "attn_q", e, qd, nullptr));
      WF_ASSIGN(l.k, Projection(p, "attn_k", e, kd, nullptr));
      WF_ASSIGN(l.v, Projection(p, "attn_v", e, kd, nullptr));
      WF_ASSIGN(l.o, Projection(p, "attn_output", qd, e, "attn_sub_norm"));
      WF_ASSIGN(l.gate, Projection(p, "ffn_gate", e, c_.ffn, nullptr));
      WF_ASSIGN(l.up, Projection(p, "ffn_up", e, c_.ffn, nullptr));
      WF_ASSIGN(l.down, Projection(p, "ffn_down", c_.ffn, e, "ffn_sub_norm"));
    }
    WF_TRY(CheckLeftovers());
    return std::move(w_);
  }

 private:
  Status Wrong(const GgufTensor& t, const std::string& expected) const {
    std::string found;
    for (uint32_t d = 0; d < (t.n_dims == 0 ? 1 : t.n_dims); ++d) found += (d ? ", " : "") + std::to_string(t.ne[d]);
    return FormatError(g_.name() + ": tensor '" + std::string(t.name) + "': expected " + expected + ", found {" +
                       found + "}");
  }
  Status Missing(const std::string& name) const { return NotFound(g_.name() + ": tensor '" + name + "' is missing"); }
  const GgufTensor* Find(const std::string& name) {
    const GgufTensor* t = g_.FindTensor(name);
    if (t != nullptr) used_.insert(t->name);
    return t;
  }

  // A vector of n floats, as f32.
  Result<const float*> Vector(const std::string& name, size_t n) {
    const GgufTensor* t = Find(name);
    if (t == nullptr) return Missing(name);
    return VectorOf(*t, n);
  }
  Result<const float*> VectorOf(const GgufTensor& t, size_t n) {
    if (t.elements() != n || t.ne[0] != n) return Wrong(t, "{" + std::to_string(n) + "}");
    FloatType type{};
    if (!ToFloatType(t.type, &type)) {
      return Unsupported(g_.name() + ": tensor '" + std::string(t.name) + "' has type " +
                         std::string(TensorTypeName(t.type)) + ", expected F32, F16 or BF16");
    }
    if (type == FloatType::kF32 && reinterpret_cast<uintptr_t>(t.data) % alignof(float) == 0) {
      return reinterpret_cast<const float*>(t.data);
    }
    auto copy = std::make_unique<float[]>(n);
    for (size_t i = 0; i < n; ++i) {
      if (type == FloatType::kF32) {
        copy[i] = LoadLe<float>(t.data + 4 * i);
      } else {
        const uint16_t h = LoadLe<uint16_t>(t.data + 2 * i);
        copy[i] = type == FloatType::kF16 ? F32FromF16(h) : F32FromBf16(h);
      }
    }
    const float* p = copy.get();
    w_.owned.push_back(std::move(copy));
    return p;
  }

  Status CheckShape(const GgufTensor& t, size_t k, size_t rows) const {
    if (t.ne[0] != k || (rows != 0 && t.ne[1] != rows) || t.ne[2] != 1 || t.ne[3] != 1) {
      return Wrong(t, "{" + std::to_string(k) + ", " + (rows == 0 ? "vocabulary" : std::to_string(rows)) + "}");
    }
    // Kernels load elements whole; the reader holds offsets to the file's alignment, of at least 8.
    return OkStatus();
  }

  Result<Linear> Dense(const std::string& name, size_t k, size_t rows) {
    const GgufTensor* t = Find(name);
    if (t == nullptr) return Missing(name);
    WF_TRY(CheckShape(*t, k, rows));
    FloatType type{};
    if (!ToFloatType(t->type, &type)) {
      return Unsupported(g_.name() + ": tensor '" + name + "' has type " + std::string(TensorTypeName(t->type)) +
                         ", for which there is no kernel here; F32, F16 and BF16 have one");
    }
    Linear l;
    l.name = name;
    l.type = t->type;
    l.data = t->data;
    l.k = k;
    l.rows = t->ne[1];
    l.ternary = false;
    return l;
  }

  Result<Linear> Projection(const std::string& layer, const char* what, size_t k, size_t rows, const char* sub_norm) {
    const std::string base = layer + what, name = base + ".weight";
    const GgufTensor* t = Find(name);
    if (t == nullptr) return Missing(name);
    WF_TRY(CheckShape(*t, k, rows));
    Linear l;
    l.name = name;
    l.type = t->type;
    l.data = t->data;
    l.k = k;
    l.rows = rows;
    if (k > kMaxTernaryK) {
      return Unsupported(g_.name() + ": tensor '" + name + "' has rows of " + std::to_string(k) +
                         " weights; sums stay exact up to " + std::to_string(kMaxTernaryK));
    }
    WF_TRY(Scale(*t, &l));
    if (const GgufTensor* s = Find(base + ".scale"); s != nullptr) {
      WF_ASSIGN(const float* v, VectorOf(*s, 1));
      if (!std::isfinite(*v)) return NotFinite(*s, *v);
      if (!l.ternary) return Unsupported(g_.name() + ": '" + std::string(s->name) + "' on an unquantised projection");
      l.scale *= *v;
    }
    if (const GgufTensor* b = Find(base + ".bias"); b != nullptr) {
      WF_ASSIGN(l.bias, VectorOf(*b, rows));
    }
    const GgufTensor* norm = Find(base + "_norm_in.weight");
    if (sub_norm != nullptr) {
      const GgufTensor* sub = Find(layer + sub_norm + ".weight");
      if (sub != nullptr && norm != nullptr) {
        return FormatError(g_.name() + ": '" + std::string(sub->name) + "' and '" + std::string(norm->name) +
                           "' are two norms for one projection");
      }
      if (sub == nullptr && norm == nullptr && c_.needs_sub_norms) return Missing(layer + sub_norm + ".weight");
      if (sub != nullptr) norm = sub;
    }
    if (norm != nullptr) {
      WF_ASSIGN(l.norm, VectorOf(*norm, k));
      l.norm_eps = c_.sub_norm_eps;
    }
    WF_TRY(LowRank(base, &l));
    return l;
  }

  Status NotFinite(const GgufTensor& t, float v) const {
    return FormatError(g_.name() + ": tensor '" + std::string(t.name) + "': scale is " + std::to_string(v));
  }

  Status Scale(const GgufTensor& t, Linear* l) {
    if (t.type == TensorType::kI2_S) {
      l->scale = LoadLe<float>(t.data + t.elements() / 4);
      return std::isfinite(l->scale) ? OkStatus() : NotFinite(t, l->scale);
    }
    FloatType type{};
    if (!ToFloatType(t.type, &type)) {
      return Unsupported(g_.name() + ": tensor '" + std::string(t.name) + "' has type " +
                         std::string(TensorTypeName(t.type)) +
                         ", for which there is no kernel here; I2_S, F32, F16 and BF16 have one");
    }
    if (!c_.bitlinear) {
      l->ternary = false;
      return OkStatus();
    }
    bool ok = false;
    if (type == FloatType::kF32) {
      uint32_t m = 0;
      ok = OneMagnitude(reinterpret_cast<const uint32_t*>(t.data), t.elements(), &m);
      std::memcpy(&l->scale, &m, sizeof(m));
    } else {
      uint16_t m = 0;
      ok = OneMagnitude(reinterpret_cast<const uint16_t*>(t.data), t.elements(), &m);
      l->scale = type == FloatType::kF16 ? F32FromF16(m) : F32FromBf16(m);
    }
    if (!ok) {
      return FormatError(g_.name() + ": tensor '" + std::string(t.name) +
                         "' holds continuous weights where {-s, 0, s} are expected: convert the checkpoint with "
                         "wf-convert, which ternarises by absmean");
    }
    return std::isfinite(l->scale) ? OkStatus() : NotFinite(t, l->scale);
  }

  // The spellings of semantics.md 3; ne of U is {rank, out}, of V {in, rank}.
  Status LowRank(const std::string& base, Linear* l) {
    const GgufTensor *u = nullptr, *v = nullptr;
    for (const char* s : {".lrc_u.weight", ".lrc_u", ".lrc_U.weight", ".lrc_U"}) {
      if (u == nullptr) u = Find(base + s);
    }
    for (const char* s : {".lrc_v.weight", ".lrc_v", ".lrc_V.weight", ".lrc_V"}) {
      if (v == nullptr) v = Find(base + s);
    }
    if (u == nullptr && v == nullptr) return OkStatus();
    if (u == nullptr || v == nullptr) {
      return NotFound(g_.name() + ": '" + base + "' has only one of the two low-rank factors lrc_u and lrc_v");
    }
    const size_t rank = u->ne[0];
    WF_TRY(CheckShape(*u, rank, l->rows));
    WF_TRY(CheckShape(*v, l->k, rank));
    FloatType tu{}, tv{};
    if (!ToFloatType(u->type, &tu) || !ToFloatType(v->type, &tv) || tu != tv) {
      return Unsupported(g_.name() + ": '" + std::string(u->name) + "' is " + std::string(TensorTypeName(u->type)) +
                         " and '" + std::string(v->name) + "' " + std::string(TensorTypeName(v->type)) +
                         ", expected both F16, both BF16 or both F32");
    }
    if (!l->ternary)
      return Unsupported(g_.name() + ": a low-rank correction on an unquantised projection, '" + base + "'");
    l->rank = rank;
    l->lrc_type = tu;
    l->lrc_u = u->data;
    l->lrc_v = v->data;
    return OkStatus();
  }

  // A tensor that nobody asked for may be harmless, but not if it looks like a part of a layer's arithmetic.
  Status CheckLeftovers() {
    for (const GgufTensor& t : g_.tensors()) {
      if (used_.count(t.name) != 0) continue;
      const std::string name(t.name);
      const size_t dot = name.find('.', 4);
      const bool in_layer = name.rfind("blk.", 0) == 0 && dot != std::string::npos &&
                            std::strtoull(name.c_str() + 4, nullptr, 10) < c_.layers;
      for (const char* part : {"norm", "bias", "scale", "lrc", "lora", "rope_freqs"}) {
        if ((in_layer || name.rfind("rope_freqs", 0) == 0) && name.find(part) != std::string::npos) {
          return Unsupported(g_.name() + ": tensor '" + name + "' changes the result and is not supported");
        }
      }
      w_.notices.push_back("tensor '" + name + "' is not used");
    }
    return OkStatus();
  }

  const Gguf& g_;
  const Config& c_;
  Weights w_;
  size_t vocab_ = 0;
  std::set<std::string_view> used_;
};

}  // namespace detail

WF_MODEL_INLINE Result<Weights> LoadWeights(const Gguf& gguf, const Config& config) {
  return detail::WeightLoader(gguf, config).Load();
}

}  // namespace wf
#endif  // WF_MODEL_WEIGHTS_IMPL_H_
