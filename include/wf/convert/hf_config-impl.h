// SPDX-License-Identifier: Apache-2.0
// Bodies of hf_config.h.
#ifndef WF_CONVERT_HF_CONFIG_IMPL_H_
#define WF_CONVERT_HF_CONFIG_IMPL_H_

#include <algorithm>
#include <filesystem>
#include <limits>

#include "wf/convert/hf_config.h"
#include "wf/convert/hf_json-impl.h"
#include "wf/convert/names.h"

namespace wf {
namespace detail {

inline constexpr uint64_t kMaxHfSize = 1u << 24;  // what model/config.h accepts

inline std::string LowerLetters(std::string_view s) {
  std::string out;
  for (const char c : s) {
    if (c != '_' && c != '-') out += static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  }
  return out;
}

// Which class the checkpoint belongs to. All spellings of BitNetForCausalLM mean the same graph.
inline Status ReadArchitecture(const JsonFields& f, HfConfig* c) {
  WF_ASSIGN(const std::optional<std::string> type, f.String("model_type"));
  c->model_type = type.value_or("");
  if (const boost::json::value* v = f.Find("architectures"); v != nullptr) {
    const boost::json::array* list = v->if_array();
    if (list == nullptr || list->empty() || !list->front().is_string()) {
      return f.Wrong("architectures", "a list of class names");
    }
    c->hf_architecture = std::string(list->front().get_string());
  } else if (c->model_type == "bitnet") {
    c->hf_architecture = "BitNetForCausalLM";
  } else {
    return f.Missing("architectures");
  }
  if (LowerLetters(c->hf_architecture) != "bitnetforcausallm") {
    return Unsupported(f.Name("architectures") + ": unknown architecture " + Quote(c->hf_architecture) +
                       "; supported: BitNetForCausalLM");
  }
  // The activation decides the GGUF architecture; a name never does.
  WF_ASSIGN(const std::optional<std::string> act, f.String("hidden_act"));
  if (!act) return f.Missing("hidden_act");
  if (*act != "relu2" && *act != "silu") {
    return Unsupported(f.Name("hidden_act") + ": unknown activation " + Quote(*act) + "; supported: relu2, silu");
  }
  c->architecture = *act == "relu2" ? "bitnet-b1.58" : "bitnet";
  return OkStatus();
}

inline Status ReadSizes(const JsonFields& f, HfConfig* c) {
  WF_ASSIGN(c->vocab, f.NeedSize("vocab_size", 1, kMaxHfSize));
  WF_ASSIGN(c->embedding, f.NeedSize("hidden_size", 1, kMaxHfSize));
  WF_ASSIGN(c->ffn, f.NeedSize("intermediate_size", 1, kMaxHfSize));
  WF_ASSIGN(c->layers, f.NeedSize("num_hidden_layers", 1, 4096));
  WF_ASSIGN(c->heads, f.NeedSize("num_attention_heads", 1, 65536));
  WF_ASSIGN(const std::optional<uint64_t> kv, f.Size("num_key_value_heads", 1, 65536));
  c->kv_heads = kv.value_or(c->heads);
  WF_ASSIGN(c->context, f.NeedSize("max_position_embeddings", 1, kMaxHfSize));
  if (c->heads % c->kv_heads != 0) {
    return f.Wrong("num_key_value_heads", "a divisor of num_attention_heads, " + std::to_string(c->heads));
  }
  WF_ASSIGN(const std::optional<uint64_t> dim, f.Size("head_dim", 2, 4096));
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

// rope_theta at the top level or in rope_parameters; scaling in rope_scaling or rope_parameters.
inline Status ReadRope(const JsonFields& f, HfConfig* c) {
  WF_ASSIGN(std::optional<double> theta, f.Number("rope_theta", 1e-3, 1e12));
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    WF_ASSIGN(const boost::json::object* o, f.Object(key));
    if (o == nullptr) continue;
    const JsonFields rope = f.Inner(key, *o);
    WF_ASSIGN(const std::optional<double> inner, rope.Number("rope_theta", 1e-3, 1e12));
    if (inner && theta && *inner != *theta) return rope.Wrong("rope_theta", "the same as rope_theta at the top level");
    if (inner) theta = inner;
    WF_ASSIGN(std::optional<std::string> type, rope.String("rope_type"));
    if (!type) {
      WF_ASSIGN(type, rope.String("type"));
    }
    if (type.value_or("default") == "linear") {
      WF_ASSIGN(c->rope_factor, rope.NeedNumber("factor", 1e-6, 1e6));
    } else if (type && *type != "default" && *type != "none") {
      return Unsupported(f.Name(key) + ": RoPE scaling " + Quote(*type) +
                         " is not supported; supported: default, linear");
    } else if (rope.Has("full_attention") || rope.Has("sliding_attention")) {
      return f.Refuse(key, "RoPE that differs between layers");
    }
    WF_ASSIGN(const std::optional<double> part, rope.Number("partial_rotary_factor", 0, 1));
    if (part.value_or(1) != 1) return rope.Refuse("partial_rotary_factor", "RoPE on a part of the head");
  }
  if (!theta) return f.Missing("rope_theta");
  c->rope_theta = *theta;
  WF_ASSIGN(const std::optional<double> part, f.Number("partial_rotary_factor", 0, 1));
  if (part.value_or(1) != 1) return f.Refuse("partial_rotary_factor", "RoPE on a part of the head");
  return OkStatus();
}

// Features that would change the result if they were overlooked.
inline Status RefuseFeatures(const JsonFields& f, const HfConfig& c) {
  WF_ASSIGN(const std::optional<bool> use_window, f.Bool("use_sliding_window"));
  WF_ASSIGN(const std::optional<uint64_t> window, f.Size("sliding_window", 0, std::numeric_limits<uint32_t>::max()));
  if (window && *window != 0 && *window < c.context && use_window.value_or(true)) {
    return f.Refuse("sliding_window", "sliding-window attention");
  }
  if (const boost::json::value* v = f.Find("layer_types"); v != nullptr) {
    if (!v->is_array()) return f.Wrong("layer_types", "a list");
    for (const boost::json::value& t : v->get_array()) {
      if (t != "full_attention") return f.Refuse("layer_types", "attention " + Quote(boost::json::serialize(t), 60));
    }
  }
  for (const char* key : {"num_experts", "num_local_experts", "n_routed_experts"}) {
    WF_ASSIGN(const std::optional<uint64_t> n, f.Size(key, 0, 65536));
    if (n.value_or(0) > 1) return f.Refuse(key, "a mixture of experts");
  }
  for (const char* key : {"use_hadamard", "hadamard", "use_qk_norm"}) {
    if (const boost::json::value* v = f.Find(key); v != nullptr && *v != false) return f.Refuse(key, std::string(key));
  }
  return OkStatus();
}

inline Status ReadQuantization(const JsonFields& f, HfConfig* c) {
  WF_ASSIGN(const boost::json::object* o, f.Object("quantization_config"));
  if (o == nullptr) return OkStatus();
  const JsonFields q = f.Inner("quantization_config", *o);
  HfQuantization& out = c->quantization;
  out.present = true;
  WF_ASSIGN(const std::optional<std::string> method, q.String("quant_method"));
  if (!method) return q.Missing("quant_method");
  if (*method != "bitnet") return q.Refuse("quant_method", "quantisation method " + Quote(*method));
  WF_ASSIGN(const std::optional<std::string> linear, q.String("linear_class"));
  if (linear && *linear != "bitlinear" && *linear != "autobitlinear") {
    return Unsupported(q.Name("linear_class") + ": unknown class " + Quote(*linear) +
                       "; supported: bitlinear, autobitlinear");
  }
  out.rule = linear.value_or("") == "autobitlinear" ? ScaleRule::kMultiply : ScaleRule::kDivide;
  WF_ASSIGN(const std::optional<std::string> mode, q.String("quantization_mode"));
  if (mode && *mode != "offline" && *mode != "online") {
    return Unsupported(q.Name("quantization_mode") + ": unknown mode " + Quote(*mode) + "; supported: offline, online");
  }
  WF_ASSIGN(const std::optional<bool> norm, q.Bool("use_rms_norm"));
  out.use_rms_norm = norm.value_or(false);
  WF_ASSIGN(const std::optional<double> eps, q.Number("rms_norm_eps", 0, 1));
  out.rms_norm_eps = eps.value_or(1e-6);
  WF_ASSIGN(const std::optional<bool> hadamard, q.Bool("use_hadamard"));
  if (hadamard.value_or(false)) return q.Refuse("use_hadamard", "the Hadamard variant of BitLinear");
  if (const boost::json::value* v = q.Find("modules_to_not_convert"); v != nullptr) {
    if (!v->is_array()) return q.Wrong("modules_to_not_convert", "a list of names");
    for (const boost::json::value& m : v->get_array()) {
      if (!m.is_string()) return q.Wrong("modules_to_not_convert", "a list of names");
      const std::string name(m.get_string());
      // transformers leaves a module alone if the entry is a part of its name.
      for (uint64_t i = 0; i < c->layers * kProjections; ++i) {
        const std::string module = "model.layers." + std::to_string(i / kProjections) + "." +
                                   HfProjection(static_cast<Projection>(i % kProjections));
        if (module.find(name) == std::string::npos) continue;
        return q.Refuse("modules_to_not_convert", Quote(name) + " leaves " + module + " unquantised, which");
      }
    }
  }
  return OkStatus();
}

inline Status ReadDiffusion(const JsonFields& config, const JsonFields* dlm, const std::string& flag, HfConfig* c) {
  HfDiffusion& d = c->diffusion;
  std::string where = "--diffusion-style";
  d.style = flag;
  for (const JsonFields* f : {dlm, &config}) {  // dlm_config.json goes first
    if (f == nullptr) continue;
    WF_ASSIGN(const std::optional<uint64_t> block, f->Size("bd_size", 1, 4096));
    if (d.block_size == 0) d.block_size = static_cast<uint32_t>(block.value_or(0));
    WF_ASSIGN(const std::optional<uint64_t> mask, f->Size("mask_token_id", 0, c->vocab - 1));
    if (mask && !d.mask_token) d.mask_token = static_cast<int32_t>(*mask);
    WF_ASSIGN(const std::optional<std::string> style, f->String("diffusion_style"));
    if (style && d.style.empty()) {
      d.style = *style;
      where = f->Name("diffusion_style");
    }
  }
  if (d.style.empty() && dlm != nullptr) d.style = "causal";
  if (d.style.empty() && c->model_type.starts_with("Fast_dLLM")) d.style = "fast-dllm-v2";
  if (d.style.empty() && d.block_size == 0) return OkStatus();
  if (d.style.empty()) {
    return FormatError(config.Name("bd_size") +
                       " says that this is a diffusion checkpoint, but diffusion_style is missing: name it with "
                       "--diffusion-style");
  }
  if (d.style == "llada" || d.style == "dream") {
    return Unsupported(where + ": diffusion style " + Quote(d.style) +
                       " is not supported; supported: fast-dllm-v2, causal");
  }
  if (d.style != "fast-dllm-v2" && d.style != "causal") {
    return Unsupported(where + ": unknown diffusion style " + Quote(d.style) + "; supported: fast-dllm-v2, causal");
  }
  return OkStatus();
}

inline Status ReadSampling(const JsonFields& f, HfSampling* out) {
  const auto number = [&](const char* key, double lo, double hi, std::optional<float>* to) -> Status {
    WF_ASSIGN(const std::optional<double> v, f.Number(key, lo, hi));
    if (v) *to = static_cast<float>(*v);
    return OkStatus();
  };
  WF_TRY(number("temperature", 0, 100, &out->temperature));
  WF_TRY(number("top_p", 0, 1, &out->top_p));
  WF_TRY(number("min_p", 0, 1, &out->min_p));
  WF_TRY(number("repetition_penalty", 1e-3, 1e3, &out->repetition_penalty));
  WF_ASSIGN(const std::optional<uint64_t> k, f.Size("top_k", 0, std::numeric_limits<int32_t>::max()));
  if (k) out->top_k = static_cast<int32_t>(*k);
  WF_ASSIGN(const std::optional<bool> sample, f.Bool("do_sample"));
  if (sample && !*sample) out->temperature = 0.0f;  // transformers is greedy then, whatever the temperature
  return OkStatus();
}

// An absent file is an empty optional.
inline Result<std::optional<boost::json::object>> ReadOptionalObject(const std::string& path) {
  Result<boost::json::object> o = ReadJsonObject(path);
  if (o.ok()) return std::optional<boost::json::object>(*std::move(o));
  if (o.status().code() == ErrorCode::kNotFound) return std::optional<boost::json::object>();
  return o.status();
}

}  // namespace detail

WF_MODEL_INLINE Result<HfConfig> LoadHfConfig(const std::string& dir, const std::string& diffusion_style) {
  std::error_code ec;
  if (!std::filesystem::exists(dir, ec)) return NotFound(dir + ": no such folder");
  if (!std::filesystem::is_directory(dir, ec))
    return InvalidArgument(dir + ": expected a checkpoint's folder, found a file");
  HfConfig c;
  c.path = dir + "/config.json";
  Result<boost::json::object> config = detail::ReadJsonObject(c.path);
  if (!config.ok() && config.status().code() == ErrorCode::kNotFound) {
    return NotFound(dir + ": no config.json: not the folder of a Hugging Face checkpoint");
  }
  WF_TRY(config);
  const detail::JsonFields f(c.path, "", *config);
  WF_TRY(detail::ReadArchitecture(f, &c));
  WF_TRY(detail::ReadSizes(f, &c));
  WF_TRY(detail::ReadRope(f, &c));
  WF_TRY(detail::RefuseFeatures(f, c));
  WF_TRY(detail::ReadQuantization(f, &c));
  WF_ASSIGN(const std::optional<std::string> name, f.String("_name_or_path"));
  c.name_or_path = name.value_or("");
  const std::string dlm_path = dir + "/dlm_config.json";
  WF_ASSIGN(const std::optional<boost::json::object> dlm, detail::ReadOptionalObject(dlm_path));
  std::optional<detail::JsonFields> dlm_fields;
  if (dlm) dlm_fields.emplace(dlm_path, "", *dlm);
  WF_TRY(detail::ReadDiffusion(f, dlm_fields ? &*dlm_fields : nullptr, diffusion_style, &c));
  const std::string generation_path = dir + "/generation_config.json";
  WF_ASSIGN(const std::optional<boost::json::object> generation, detail::ReadOptionalObject(generation_path));
  if (generation) {
    WF_TRY(detail::ReadSampling(detail::JsonFields(generation_path, "", *generation), &c.sampling));
  }
  return c;
}

}  // namespace wf
#endif  // WF_CONVERT_HF_CONFIG_IMPL_H_
