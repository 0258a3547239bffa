// SPDX-License-Identifier: Apache-2.0
// Bodies of config.h.
#ifndef WF_MODEL_CONFIG_IMPL_H_
#define WF_MODEL_CONFIG_IMPL_H_

#include <cmath>
#include <string>

#include "wf/model/config.h"
#include "wf/model/registry.h"

namespace wf {
namespace detail {

// Keys of one architecture: "{arch}.{key}"; the name may contain dots.
class ArchKeys {
 public:
  ArchKeys(const Gguf& g, std::string_view arch) : g_(g), prefix_(std::string(arch) + ".") {}
  std::string Name(const char* key) const { return prefix_ + key; }
  bool Has(const char* key) const { return g_.Find(Name(key)) != nullptr; }

  // An integer in [lo, hi]; per-layer arrays must hold one value for all layers.
  Result<size_t> Size(const char* key, uint64_t lo, uint64_t hi) const {
    WF_ASSIGN(const std::vector<int64_t> values, g_.GetIntArray(Name(key)));
    if (values.empty()) return Bad(key, "an empty array", lo, hi);
    for (const int64_t v : values) {
      if (v < 0 || static_cast<uint64_t>(v) < lo || static_cast<uint64_t>(v) > hi)
        return Bad(key, std::to_string(v), lo, hi);
      if (v != values[0]) {
        return Unsupported(g_.name() + ": " + Name(key) + " differs between layers (" + std::to_string(values[0]) +
                           ", " + std::to_string(v) + ")");
      }
    }
    return static_cast<size_t>(values[0]);
  }
  Result<size_t> SizeOr(const char* key, uint64_t lo, uint64_t hi, size_t fallback) const {
    if (!Has(key)) return fallback;
    return Size(key, lo, hi);
  }
  Result<float> Float(const char* key, double lo, double hi) const {
    WF_ASSIGN(const double v, g_.GetFloat(Name(key)));
    if (!(v >= lo && v <= hi)) {
      return FormatError(g_.name() + ": " + Name(key) + " = " + std::to_string(v) + ", expected " + std::to_string(lo) +
                         " to " + std::to_string(hi));
    }
    return static_cast<float>(v);
  }
  Result<float> FloatOr(const char* key, double lo, double hi, float fallback) const {
    if (!Has(key)) return fallback;
    return Float(key, lo, hi);
  }
  Status Refuse(const char* key, const std::string& what) const {
    return Unsupported(g_.name() + ": " + what + " is not supported (" + Name(key) + ")");
  }

 private:
  Status Bad(const char* key, const std::string& found, uint64_t lo, uint64_t hi) const {
    return FormatError(g_.name() + ": " + Name(key) + " = " + found + ", expected " + std::to_string(lo) + " to " +
                       std::to_string(hi));
  }
  const Gguf& g_;
  std::string prefix_;
};

inline constexpr uint64_t kMaxSize = 1u << 24;  // far above any model, far below overflow of products

inline Status RefuseUnsupported(const Gguf& g, const ArchKeys& keys) {
  WF_ASSIGN(const std::string_view type, g.GetStringOr("general.type", "model"));
  if (type != "model") return Unsupported(g.name() + ": general.type is '" + std::string(type) + "', expected 'model'");
  if (g.Find("split.count") != nullptr) {
    WF_ASSIGN(const uint64_t n, g.GetUint("split.count"));
    if (n > 1) return Unsupported(g.name() + ": one of " + std::to_string(n) + " split files; merge them first");
  }
  WF_ASSIGN(const uint64_t window, g.GetUintOr(keys.Name("attention.sliding_window"), 0));
  WF_ASSIGN(const uint64_t context, g.GetUintOr(keys.Name("context_length"), 0));
  if (window != 0 && window < context) return keys.Refuse("attention.sliding_window", "sliding-window attention");
  WF_ASSIGN(const uint64_t pooling, g.GetUintOr(keys.Name("pooling_type"), 0));
  if (pooling != 0) return keys.Refuse("pooling_type", "an embedding model");
  WF_ASSIGN(const bool causal, g.GetBoolOr(keys.Name("attention.causal"), true));
  if (!causal) return keys.Refuse("attention.causal", "attention that is not causal");
  WF_ASSIGN(const double attn_factor, g.GetFloatOr(keys.Name("rope.scaling.attn_factor"), 1));
  if (attn_factor != 1) return keys.Refuse("rope.scaling.attn_factor", "a factor of attention scores");
  WF_ASSIGN(const std::string_view scaling, g.GetStringOr(keys.Name("rope.scaling.type"), "linear"));
  if (scaling != "none" && scaling != "linear")
    return keys.Refuse("rope.scaling.type", "RoPE scaling '" + std::string(scaling) + "'");
  return OkStatus();
}

// Keys of formats.md 1.2 and 3.6.
inline Status ReadExperts(const Gguf& g, const ArchKeys& keys, const Architecture& arch, Config* c) {
  WF_ASSIGN(c->experts, keys.SizeOr("expert_count", 0, 65536, 0));
  if (c->experts == 0) return OkStatus();
  constexpr size_t kMaxExperts = size_t{1} << 20;  // in all layers; each costs some hundred bytes
  if (c->experts * c->layers > kMaxExperts) {
    return LimitError(g.name() + ": " + keys.Name("expert_count") + " = " + std::to_string(c->experts) + " in " +
                      std::to_string(c->layers) + " layers, expected at most " + std::to_string(kMaxExperts) +
                      " in all");
  }
  if (!arch.experts) return keys.Refuse("expert_count", "a mixture of experts in this architecture");
  WF_ASSIGN(c->experts_used, keys.Size("expert_used_count", 1, c->experts));
  WF_ASSIGN(c->expert_ffn, keys.SizeOr("expert_feed_forward_length", 1, kMaxSize,
                                       arch.name == "llama" ? c->ffn : c->ffn / c->experts_used));
  if (c->expert_ffn == 0) return NotFound(g.name() + ": key '" + keys.Name("feed_forward_length") + "' is missing");
  WF_ASSIGN(c->shared_ffn, keys.SizeOr("expert_shared_feed_forward_length", 0, kMaxSize, 0));
  WF_ASSIGN(const size_t gating, keys.SizeOr("expert_gating_func", 0, 255, 1));
  if (gating != 1) return keys.Refuse("expert_gating_func", "gating of experts other than by softmax");
  WF_ASSIGN(c->renormalise_experts, g.GetBoolOr(keys.Name("expert_weights_norm"), arch.renormalise));
  WF_ASSIGN(c->expert_scale, keys.FloatOr("expert_weights_scale", 0, 1e6, 1.0f));
  if (c->expert_scale == 0) c->expert_scale = 1;  // how writers say that there is none
  WF_ASSIGN(const size_t groups, keys.SizeOr("expert_group_count", 0, 65536, 0));
  if (groups > 1) return keys.Refuse("expert_group_count", "groups of experts");
  WF_ASSIGN(const size_t dense, keys.SizeOr("leading_dense_block_count", 0, 65536, 0));
  if (dense != 0) return keys.Refuse("leading_dense_block_count", "a mixture of experts with dense layers");
  return OkStatus();
}

inline Status ReadDiffusion(const Gguf& g, const ArchKeys& keys, Config* c) {
  if (keys.Has("diffusion.style")) {
    WF_ASSIGN(const std::string_view style, g.GetString(keys.Name("diffusion.style")));
    c->diffusion.style = DiffusionStyleFromName(style);
    if (!c->diffusion.style) {
      return Unsupported(g.name() + ": " + keys.Name("diffusion.style") + " = '" + std::string(style) +
                         "' is not supported; supported: fast-dllm-v2, causal");
    }
  }
  if (keys.Has("diffusion.block_size")) {
    WF_ASSIGN(c->diffusion.block_size, keys.Size("diffusion.block_size", 1, kMaxDiffusionBlock));
  }
  if (keys.Has("diffusion.sub_block_size")) {
    WF_ASSIGN(c->diffusion.sub_block_size, keys.Size("diffusion.sub_block_size", 1, kMaxDiffusionBlock));
  }
  if (keys.Has("diffusion.threshold")) {
    WF_ASSIGN(c->diffusion.threshold, keys.Float("diffusion.threshold", 0, 1));
  }
  return OkStatus();
}

}  // namespace detail

WF_MODEL_INLINE Result<Config> ConfigFromGguf(const Gguf& g) {
  WF_ASSIGN(const std::string_view name, g.GetString("general.architecture"));
  const Architecture* arch = FindArchitecture(name);
  if (arch == nullptr) {
    std::string known;
    for (const Architecture& a : kArchitectures) known += (known.empty() ? "" : ", ") + std::string(a.name);
    return Unsupported(g.name() + ": architecture '" + std::string(name) + "' is not supported; supported: " + known);
  }
  const detail::ArchKeys keys(g, name);
  WF_TRY(detail::RefuseUnsupported(g, keys));

  using detail::kMaxSize;
  Config c;
  c.architecture = std::string(name);
  WF_ASSIGN(c.embedding, keys.Size("embedding_length", 1, kMaxSize));
  WF_ASSIGN(c.layers, keys.Size("block_count", 1, 4096));
  WF_ASSIGN(c.heads, keys.Size("attention.head_count", 1, 65536));
  WF_ASSIGN(c.kv_heads, keys.SizeOr("attention.head_count_kv", 1, 65536, c.heads));
  const bool own_width = keys.Has("expert_count") && keys.Has("expert_feed_forward_length");
  WF_ASSIGN(c.ffn, own_width ? keys.SizeOr("feed_forward_length", 0, kMaxSize, 0)
                             : keys.Size("feed_forward_length", 1, kMaxSize));
  WF_ASSIGN(c.context, keys.Size("context_length", 1, kMaxSize));
  if (c.heads % c.kv_heads != 0) {
    return FormatError(g.name() + ": " + std::to_string(c.heads) + " heads are not a multiple of " +
                       std::to_string(c.kv_heads) + " kv heads");
  }
  if (!keys.Has("attention.key_length") && c.embedding % c.heads != 0) {
    return FormatError(g.name() + ": embedding_length " + std::to_string(c.embedding) + " is not a multiple of " +
                       std::to_string(c.heads) + " heads");
  }
  WF_ASSIGN(c.head_dim, keys.SizeOr("attention.key_length", 2, 4096, c.embedding / c.heads));
  WF_ASSIGN(const size_t value_length, keys.SizeOr("attention.value_length", 1, 4096, c.head_dim));
  if (value_length != c.head_dim) return keys.Refuse("attention.value_length", "a value size other than the key size");
  WF_ASSIGN(c.rope_dims, keys.SizeOr("rope.dimension_count", 2, 4096, c.head_dim));
  if (c.rope_dims != c.head_dim || c.head_dim % 2 != 0) {
    return FormatError(g.name() + ": " + keys.Name("rope.dimension_count") + " = " + std::to_string(c.rope_dims) +
                       ", expected the head size, " + std::to_string(c.head_dim) + ", and even");
  }
  WF_ASSIGN(c.rms_eps, keys.Float("attention.layer_norm_rms_epsilon", 0, 1));
  WF_ASSIGN(c.sub_norm_eps, keys.FloatOr("attention.sub_norm_epsilon", 0, 1, c.rms_eps));
  WF_ASSIGN(c.rope_base, keys.FloatOr("rope.freq_base", 1e-3, 1e12, 10000.0f));
  WF_ASSIGN(float factor, keys.FloatOr("rope.scaling.factor", 0, 1e6, 1.0f));
  if (!keys.Has("rope.scaling.factor")) {  // the old name
    WF_ASSIGN(factor, keys.FloatOr("rope.scale_linear", 0, 1e6, 1.0f));
  }
  WF_ASSIGN(const std::string_view scaling, g.GetStringOr(keys.Name("rope.scaling.type"), "linear"));
  if (factor != 0 && factor < 1e-6f) {
    return FormatError(g.name() + ": " + keys.Name("rope.scaling.factor") + " = " + std::to_string(factor) +
                       ", expected 0 (none) or 1e-6 to 1e6");
  }
  c.rope_scale = factor == 0 || scaling == "none" ? 1.0f : 1.0f / factor;
  WF_ASSIGN(c.attention_scale,
            keys.FloatOr("attention.scale", 0, 1e3, 1.0f / std::sqrt(static_cast<float>(c.head_dim))));
  if (c.attention_scale == 0) c.attention_scale = 1.0f / std::sqrt(static_cast<float>(c.head_dim));  // 0: not given
  c.rope = arch->rope;
  c.activation = arch->activation;
  WF_ASSIGN(c.bitlinear, g.GetBoolOr(keys.Name("bitlinear"), arch->bitlinear));
  c.bitlinear = c.bitlinear || arch->bitlinear;
  c.tied_head = arch->tied_head;
  c.needs_sub_norms = arch->sub_norms;
  c.qk_norm = arch->qk_norm;
  WF_TRY(detail::ReadExperts(g, keys, *arch, &c));
  WF_TRY(detail::ReadDiffusion(g, keys, &c));
  return c;
}

}  // namespace wf
#endif  // WF_MODEL_CONFIG_IMPL_H_
