// SPDX-License-Identifier: Apache-2.0
// Bodies of hf_config.h: class, sizes, RoPE, experts and the features that wf lacks; the rest is in hf_extras-impl.h.
#ifndef WF_CONVERT_HF_CONFIG_IMPL_H_
#define WF_CONVERT_HF_CONFIG_IMPL_H_

#include <algorithm>
#include <filesystem>
#include <limits>

#include "wf/convert/hf_config.h"
#include "wf/convert/hf_extras-impl.h"
#include "wf/convert/hf_json-impl.h"

namespace wf {
namespace detail {

inline constexpr uint64_t kMaxHfSize = 1u << 24;  // what model/config.h accepts

// Classes of transformers as data, with the defaults of their config classes that differ.
struct HfClass {
  const char* name;
  const char* model_type;
  const char* gguf;
  double rope_theta;     // 0: the field is needed
  uint64_t head_dim;     // 0: hidden_size / num_attention_heads
  bool kv_heads_needed;  // num_key_value_heads has a default that is not num_attention_heads
  bool experts;
  bool window_if_given;  // a sliding_window alone is in force; else use_sliding_window must say so
  bool qkv_bias;         // on q, k and v, always
};
inline constexpr HfClass kHfClasses[] = {
    {"BitNetForCausalLM", "bitnet", "bitnet", 0, 0, false, false, true, false},
    {"LlamaForCausalLM", "llama", "llama", 1e4, 0, false, false, true, false},
    {"MistralForCausalLM", "mistral", "llama", 1e4, 0, true, false, true, false},
    {"MixtralForCausalLM", "mixtral", "llama", 1e6, 0, true, true, true, false},
    {"Qwen2ForCausalLM", "qwen2", "qwen2", 1e4, 0, true, false, false, true},
    {"Fast_dLLM_QwenForCausalLM", "Fast_dLLM_Qwen", "qwen2", 1e4, 0, true, false, false, true},
    {"Qwen3ForCausalLM", "qwen3", "qwen3", 1e4, 128, true, false, false, false},
    {"Qwen2MoeForCausalLM", "qwen2_moe", "qwen2moe", 1e4, 0, true, true, false, true},
    {"Qwen3MoeForCausalLM", "qwen3_moe", "qwen3moe", 1e4, 0, true, true, false, false},
};

inline std::string LowerLetters(std::string_view s) {
  std::string out;
  for (const char c : s) {
    if (c != '_' && c != '-') out += static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  }
  return out;
}

inline Result<const HfClass*> ReadClass(const JsonFields& f, HfConfig* c) {
  WF_ASSIGN(const std::optional<std::string> type, f.String("model_type"));
  c->model_type = type.value_or("");
  const HfClass* by_type = nullptr;
  for (const HfClass& k : kHfClasses) {
    if (c->model_type == k.model_type) by_type = &k;
  }
  if (const boost::json::value* v = f.Find("architectures"); v != nullptr) {
    const boost::json::array* list = v->if_array();
    if (list == nullptr || list->empty() || !list->front().is_string()) {
      return f.Wrong("architectures", "a list of class names");
    }
    c->hf_architecture = std::string(list->front().get_string());
  } else if (by_type != nullptr) {
    c->hf_architecture = by_type->name;
  } else {
    return f.Missing("architectures");
  }
  // All spellings of BitNetForCausalLM mean BitLinear projections, in the graph of the model_type.
  if (LowerLetters(c->hf_architecture) == "bitnetforcausallm") {
    c->bitnet_class = true;
    if (c->model_type.empty()) return &kHfClasses[0];
    if (by_type != nullptr) return by_type;
    std::string known;
    for (const HfClass& k : kHfClasses) known += (known.empty() ? "" : ", ") + std::string(k.model_type);
    return Unsupported(f.Name("model_type") + ": unknown model type " + Quote(c->model_type) + "; supported: " + known);
  }
  std::string known;
  for (const HfClass& k : kHfClasses) {
    known += (known.empty() ? "" : ", ") + std::string(k.name);
    if (c->hf_architecture != k.name) continue;
    if (by_type != nullptr && by_type != &k && std::string_view(by_type->gguf) != k.gguf && c->model_type != "bitnet") {
      return f.Wrong("model_type", Quote(k.model_type) + ", because architectures says " + k.name);
    }
    return &k;
  }
  return Unsupported(f.Name("architectures") + ": unknown architecture " + Quote(c->hf_architecture) +
                     "; supported: " + known);
}

inline Status ReadActivation(const JsonFields& f, HfConfig* c) {
  WF_ASSIGN(const std::optional<std::string> act, f.String("hidden_act"));
  if (!act && c->bitnet_class) return f.Missing("hidden_act");  // its classes' defaults differ
  if (act && *act != "relu2" && *act != "silu") {
    return Unsupported(f.Name("hidden_act") + ": unknown activation " + Quote(*act) + "; supported: relu2, silu");
  }
  c->relu2 = act.value_or("silu") == "relu2";
  return OkStatus();
}

inline Status ReadSizes(const JsonFields& f, const HfClass& k, HfConfig* c) {
  WF_ASSIGN(c->vocab, f.NeedSize("vocab_size", 1, kMaxHfSize));
  WF_ASSIGN(c->embedding, f.NeedSize("hidden_size", 1, kMaxHfSize));
  WF_ASSIGN(c->ffn, f.NeedSize("intermediate_size", 1, kMaxHfSize));
  WF_ASSIGN(c->layers, f.NeedSize("num_hidden_layers", 1, 4096));
  WF_ASSIGN(c->heads, f.NeedSize("num_attention_heads", 1, 65536));
  WF_ASSIGN(const std::optional<uint64_t> kv, f.Size("num_key_value_heads", 1, 65536));
  if (!kv && k.kv_heads_needed) return f.Missing("num_key_value_heads");
  c->kv_heads = kv.value_or(c->heads);
  WF_ASSIGN(c->context, f.NeedSize("max_position_embeddings", 1, kMaxHfSize));
  if (c->heads % c->kv_heads != 0) {
    return f.Wrong("num_key_value_heads", "a divisor of num_attention_heads, " + std::to_string(c->heads));
  }
  WF_ASSIGN(std::optional<uint64_t> dim, f.Size("head_dim", 2, 4096));
  if (!dim && k.head_dim != 0) dim = k.head_dim;
  if (!dim && c->embedding % c->heads != 0) {
    return f.Wrong("hidden_size", "a multiple of num_attention_heads, " + std::to_string(c->heads));
  }
  c->head_dim = dim.value_or(c->embedding / c->heads);
  if (c->head_dim % 2 != 0 || c->head_dim < 2 || c->head_dim > 4096) {
    return FormatError(f.Name("head_dim") +
                       " (or hidden_size / num_attention_heads): expected an even number of 2 to 4096, found " +
                       std::to_string(c->head_dim));
  }
  WF_ASSIGN(c->rms_eps, f.NeedNumber("rms_norm_eps", 0, 1));
  WF_ASSIGN(c->tied, f.Bool("tie_word_embeddings"));
  return OkStatus();
}

inline Status ReadBiases(const JsonFields& f, const HfClass& k, HfConfig* c) {
  WF_ASSIGN(const std::optional<bool> attention, f.Bool("attention_bias"));
  WF_ASSIGN(const std::optional<bool> qkv, f.Bool("qkv_bias"));
  WF_ASSIGN(c->mlp_bias, f.Bool("mlp_bias"));
  if (k.qkv_bias) {
    c->qkv_bias = qkv.value_or(true);
  } else {
    c->qkv_bias = c->o_bias = attention;
  }
  return OkStatus();
}

// RoPE's type and its numbers, from one object.
inline Status ReadRopeScaling(const JsonFields& f, const JsonFields& rope, const char* key, HfConfig* c) {
  WF_ASSIGN(std::optional<std::string> type, rope.String("rope_type"));
  if (!type) {
    WF_ASSIGN(type, rope.String("type"));
  }
  if (!type && (rope.Has("full_attention") || rope.Has("sliding_attention"))) {
    return f.Refuse(key, "RoPE that differs between layers");
  }
  if (!type || *type == "default" || *type == "none") return OkStatus();
  if (*type == "linear") {
    c->rope = HfRope::kLinear;
    WF_ASSIGN(c->rope_factor, rope.NeedNumber("factor", 1e-6, 1e6));
    return OkStatus();
  }
  if (*type == "llama3") {
    c->rope = HfRope::kLlama3;
    WF_ASSIGN(c->rope_factor, rope.NeedNumber("factor", 1, 1e6));
    WF_ASSIGN(c->rope_low_freq, rope.NeedNumber("low_freq_factor", 1e-6, 1e6));
    WF_ASSIGN(c->rope_high_freq, rope.NeedNumber("high_freq_factor", 1e-6, 1e6));
    if (c->rope_high_freq <= c->rope_low_freq) return rope.Wrong("high_freq_factor", "more than low_freq_factor");
    constexpr const char* kOriginal = "original_max_position_embeddings";
    WF_ASSIGN(std::optional<double> original, rope.Number(kOriginal, 1, kMaxHfSize));
    if (!original) {
      WF_ASSIGN(original, f.Number(kOriginal, 1, kMaxHfSize));
    }
    if (!original) return rope.Missing(kOriginal);
    c->rope_original_context = *original;
    return OkStatus();
  }
  if (*type == "yarn") {  // with factor 1 it changes nothing
    WF_ASSIGN(const double factor, rope.NeedNumber("factor", 1e-6, 1e6));
    WF_ASSIGN(const std::optional<double> attention, rope.Number("attention_factor", 0, 1e6));
    if (factor == 1 && attention.value_or(1) == 1) return OkStatus();
  }
  return Unsupported(f.Name(key) + ": RoPE scaling " + Quote(*type) +
                     " is not supported; supported: default, linear, llama3");
}

// rope_theta at the top level or in rope_parameters; scaling in rope_scaling or rope_parameters.
inline Status ReadRope(const JsonFields& f, const HfClass& k, HfConfig* c) {
  WF_ASSIGN(std::optional<double> theta, f.Number("rope_theta", 1e-3, 1e12));
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    WF_ASSIGN(const boost::json::object* o, f.Object(key));
    if (o == nullptr) continue;
    const JsonFields rope = f.Inner(key, *o);
    WF_ASSIGN(const std::optional<double> inner, rope.Number("rope_theta", 1e-3, 1e12));
    if (inner && theta && *inner != *theta) return rope.Wrong("rope_theta", "the same as rope_theta at the top level");
    if (inner) theta = inner;
    WF_TRY(ReadRopeScaling(f, rope, key, c));
    WF_ASSIGN(const std::optional<double> part, rope.Number("partial_rotary_factor", 0, 1));
    if (part.value_or(1) != 1) return rope.Refuse("partial_rotary_factor", "RoPE on a part of the head");
  }
  if (!theta && k.rope_theta == 0) return f.Missing("rope_theta");
  c->rope_theta = theta.value_or(k.rope_theta);
  for (const char* key : {"partial_rotary_factor", "rotary_pct"}) {
    WF_ASSIGN(const std::optional<double> part, f.Number(key, 0, 1));
    if (part.value_or(1) != 1) return f.Refuse(key, "RoPE on a part of the head");
  }
  return OkStatus();
}

inline Status ReadExperts(const JsonFields& f, const HfClass& k, HfConfig* c) {
  WF_ASSIGN(const std::optional<uint64_t> count, f.Size("num_experts", 0, 65536));
  WF_ASSIGN(const std::optional<uint64_t> local, f.Size("num_local_experts", 0, 65536));
  const char* key = count ? "num_experts" : "num_local_experts";
  const uint64_t n = count ? *count : local.value_or(0);
  if (!k.experts) {
    if (n > 1) return f.Refuse(key, "a mixture of experts of class " + c->hf_architecture);
    if (local.value_or(0) > 1) return f.Refuse("num_local_experts", "a mixture of experts of this class");
    return OkStatus();
  }
  HfExperts& e = c->experts;
  if (n == 0) return f.Missing("num_experts (or num_local_experts)");
  if (count && local && *count != *local) return f.Wrong("num_local_experts", "num_experts, " + std::to_string(n));
  constexpr uint64_t kMaxExperts = 1u << 20;  // far above any model, so that a plan's size stays in bounds
  if (n * c->layers > kMaxExperts) {
    return LimitError(f.Name(key) + ": expected at most " + std::to_string(kMaxExperts) +
                      " experts in all layers, found " + std::to_string(c->layers) + " * " + std::to_string(n));
  }
  e.count = n;
  WF_ASSIGN(e.used, f.NeedSize("num_experts_per_tok", 1, n));
  const bool qwen = std::string_view(k.gguf) != "llama";
  WF_ASSIGN(const std::optional<uint64_t> shared, f.Size("shared_expert_intermediate_size", 0, kMaxHfSize));
  WF_ASSIGN(const std::optional<bool> normalise, f.Bool("norm_topk_prob"));
  e.normalise = normalise.value_or(!qwen);  // Mixtral always does; transformers' default for the others is false
  if (!qwen && !e.normalise) return f.Refuse("norm_topk_prob", "Mixtral without normalised weights of experts");
  if (qwen) {
    WF_ASSIGN(e.ffn, f.NeedSize("moe_intermediate_size", 1, kMaxHfSize));
  } else {
    e.ffn = c->ffn;
  }
  if (std::string_view(k.gguf) == "qwen2moe") {
    if (!shared) return f.Missing("shared_expert_intermediate_size");
    if (*shared == 0) return f.Wrong("shared_expert_intermediate_size", "a whole number above 0");
    e.shared_ffn = *shared;
  } else if (shared.value_or(0) != 0) {
    return f.Refuse("shared_expert_intermediate_size", "a shared expert in class " + c->hf_architecture);
  }
  WF_ASSIGN(const std::optional<uint64_t> step, f.Size("decoder_sparse_step", 0, 4096));
  if (step.value_or(1) != 1) return f.Refuse("decoder_sparse_step", "a dense layer among those with experts");
  if (const boost::json::value* v = f.Find("mlp_only_layers"); v != nullptr) {
    if (!v->is_array()) return f.Wrong("mlp_only_layers", "a list");
    if (!v->get_array().empty()) return f.Refuse("mlp_only_layers", "a dense layer among those with experts");
  }
  return OkStatus();
}

inline Status RefuseWindow(const JsonFields& f, const HfClass& k, const HfConfig& c) {
  WF_ASSIGN(const std::optional<bool> use_window, f.Bool("use_sliding_window"));
  WF_ASSIGN(const std::optional<uint64_t> window, f.Size("sliding_window", 0, std::numeric_limits<uint32_t>::max()));
  WF_ASSIGN(const std::optional<uint64_t> full, f.Size("max_window_layers", 0, kMaxHfSize));  // layers without one
  const bool somewhere = k.window_if_given || full.value_or(0) < c.layers;
  if (window && *window != 0 && *window < c.context && use_window.value_or(k.window_if_given) && somewhere) {
    return f.Refuse("sliding_window", "sliding-window attention");
  }
  if (const boost::json::value* v = f.Find("layer_types"); v != nullptr) {
    if (!v->is_array()) return f.Wrong("layer_types", "a list");
    for (const boost::json::value& t : v->get_array()) {
      if (t != "full_attention") return f.Refuse("layer_types", "attention " + Quote(boost::json::serialize(t), 60));
    }
  }
  return OkStatus();
}

// Features that would change the result if they were overlooked.
inline Status RefuseFeatures(const JsonFields& f, const HfClass& k, const HfConfig& c) {
  WF_TRY(RefuseWindow(f, k, c));
  WF_ASSIGN(const std::optional<uint64_t> routed, f.Size("n_routed_experts", 0, 65536));
  if (routed.value_or(0) > 1) return f.Refuse("n_routed_experts", "a mixture of experts of this kind");
  constexpr const char* kOff[] = {
      "use_hadamard",
      "hadamard",
      "use_qk_norm",
      "qk_layernorm",
      "salient",
      "use_salient",
      "clip_qkv",
      "salient_config",
      "salient_columns",
      "no_rope_layers",
      "attn_logit_softcapping",
      "use_mrope",
      "attention_sinks",
      "final_logit_softcapping",
      "query_pre_attn_scalar",
  };
  for (const char* key : kOff) {
    const boost::json::value* v = f.Find(key);
    if (v == nullptr || *v == false || *v == 0) continue;
    if ((v->is_array() && v->get_array().empty()) || (v->is_object() && v->get_object().empty())) continue;
    return f.Refuse(key, std::string(key));
  }
  for (const char* key : {"embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling"}) {
    WF_ASSIGN(const std::optional<double> v, f.Number(key, -1e9, 1e9));
    if (v.value_or(1) != 1) return f.Refuse(key, std::string(key));
  }
  return OkStatus();
}

}  // namespace detail

WF_MODEL_INLINE Result<HfConfig> ParseHfConfig(std::string_view text, const std::string& name, const std::string& dir,
                                               const HfDiffusion& flags) {
  HfConfig c;
  c.path = name;
  c.text = std::string(text);
  WF_ASSIGN(const boost::json::object config, detail::ParseJsonObject(text, name));
  const detail::JsonFields f(name, "", config);
  WF_ASSIGN(const detail::HfClass* k, detail::ReadClass(f, &c));
  c.architecture = k->gguf;
  WF_TRY(detail::ReadActivation(f, &c));
  WF_TRY(detail::ReadSizes(f, *k, &c));
  WF_TRY(detail::ReadBiases(f, *k, &c));
  WF_TRY(detail::ReadRope(f, *k, &c));
  WF_TRY(detail::ReadExperts(f, *k, &c));
  WF_TRY(detail::RefuseFeatures(f, *k, c));
  WF_TRY(detail::ReadQuantization(f, &c));
  WF_ASSIGN(const std::optional<std::string> model_name, f.String("_name_or_path"));
  c.name_or_path = model_name.value_or("");
  // A reader of another file of the folder, if that is there.
  const auto fields = [](const std::string& path, const std::optional<boost::json::object>& o) {
    return o ? std::optional<detail::JsonFields>(std::in_place, path, "", *o) : std::nullopt;
  };
  const std::string adapter_path = dir + "/adapter_config.json", dlm_path = dir + "/dlm_config.json",
                    generation_path = dir + "/generation_config.json";
  WF_ASSIGN(const std::optional<boost::json::object> adapter, detail::ReadOptionalObject(adapter_path));
  const auto adapter_fields = fields(adapter_path, adapter);
  WF_TRY(detail::ReadLowRank(f, adapter_fields ? &*adapter_fields : nullptr, &c.low_rank));
  WF_ASSIGN(const std::optional<boost::json::object> dlm, detail::ReadOptionalObject(dlm_path));
  const auto dlm_fields = fields(dlm_path, dlm);
  WF_TRY(detail::ReadDiffusion(f, dlm_fields ? &*dlm_fields : nullptr, flags, &c));
  WF_ASSIGN(const std::optional<boost::json::object> generation, detail::ReadOptionalObject(generation_path));
  if (generation) {
    WF_TRY(detail::ReadSampling(detail::JsonFields(generation_path, "", *generation), &c.sampling, &c.notices));
  }
  return c;
}

WF_MODEL_INLINE Result<HfConfig> LoadHfConfig(const std::string& dir, const HfDiffusion& flags) {
  std::error_code ec;
  if (!std::filesystem::exists(dir, ec)) return NotFound(dir + ": no such folder");
  if (!std::filesystem::is_directory(dir, ec)) {
    return InvalidArgument(dir + ": expected a checkpoint's folder, found a file");
  }
  const std::string path = dir + "/config.json";
  const Result<MappedFile> file = MappedFile::Open(path);
  if (!file.ok() && file.status().code() == ErrorCode::kNotFound) {
    return NotFound(dir + ": no config.json: not the folder of a Hugging Face checkpoint");
  }
  WF_TRY(file);
  return ParseHfConfig(file->bytes(), path, dir, flags);
}

}  // namespace wf
#endif  // WF_CONVERT_HF_CONFIG_IMPL_H_
