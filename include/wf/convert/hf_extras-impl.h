// SPDX-License-Identifier: Apache-2.0
// What a checkpoint's JSON files say beside the transformer's shape: quantisation, low-rank factors, block diffusion,
// sampling defaults. Part of hf_config.h's bodies.
#ifndef WF_CONVERT_HF_EXTRAS_IMPL_H_
#define WF_CONVERT_HF_EXTRAS_IMPL_H_

#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "wf/convert/hf_config.h"
#include "wf/convert/hf_json-impl.h"
#include "wf/convert/names.h"
#include "wf/model/diffusion.h"

namespace wf::detail {

// transformers leaves a module alone if an entry of modules_to_not_convert is a part of its name: no entry may meet a
// projection, because all of them are ternary here.
inline Status CheckExceptions(const JsonFields& q, const HfConfig& c) {
  const boost::json::value* v = q.Find("modules_to_not_convert");
  if (v == nullptr) return OkStatus();
  if (!v->is_array()) return q.Wrong("modules_to_not_convert", "a list of names");
  for (const boost::json::value& m : v->get_array()) {
    if (!m.is_string()) return q.Wrong("modules_to_not_convert", "a list of names");
    const std::string name(m.get_string());
    for (uint64_t i = 0; i < c.layers * kProjections; ++i) {
      const Projection projection = static_cast<Projection>(i % kProjections);
      if (c.experts.count != 0 ? projection >= Projection::kGate && projection <= Projection::kDown
                               : projection > Projection::kDown) {
        continue;  // not in this model
      }
      const std::string module = "model.layers." + std::to_string(i / kProjections) + "." + HfProjection(projection);
      if (module.find(name) == std::string::npos) continue;
      return q.Refuse("modules_to_not_convert", Quote(name) + " leaves " + module + " unquantised, which");
    }
    if (c.experts.count != 0 && std::string("mlp.experts.0.gate_proj").find(name) != std::string::npos) {
      return q.Refuse("modules_to_not_convert", Quote(name) + " leaves experts unquantised, which");
    }
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
  return CheckExceptions(q, *c);
}

// How low-rank factors were rounded in training: {"enabled", "bits", "group_size"}.
inline Status ReadFactorBits(const JsonFields& f, HfLowRank* out) {
  WF_ASSIGN(const std::optional<bool> enabled, f.Bool("enabled"));
  if (!enabled.value_or(true)) return OkStatus();
  WF_ASSIGN(const std::optional<uint64_t> bits, f.Size("bits", 0, 64));
  if (!bits || *bits == 0 || *bits >= 16) return OkStatus();
  if (*bits != 4 && *bits != 8)
    return f.Refuse("bits", "rounding low-rank factors to " + std::to_string(*bits) + " bits");
  WF_ASSIGN(const std::optional<uint64_t> group, f.Size("group_size", 1, 1u << 20));
  if (group.value_or(32) != 32) return f.Refuse("group_size", "a group other than 32");
  out->bits = static_cast<uint32_t>(*bits);
  return OkStatus();
}

// LoRA's numbers, under PEFT's names and the plain ones.
inline Status ReadLora(const JsonFields& f, HfLowRank* out) {
  WF_ASSIGN(std::optional<double> alpha, f.Number("lora_alpha", 0, 1e6));
  if (!alpha) {
    WF_ASSIGN(alpha, f.Number("alpha", 0, 1e6));
  }
  if (alpha && !out->lora_alpha) out->lora_alpha = alpha;
  for (const char* key : {"r", "rank", "lora_r", "lora_rank"}) {
    WF_ASSIGN(const std::optional<uint64_t> rank, f.Size(key, 1, 1u << 20));
    if (rank && !out->lora_rank) out->lora_rank = rank;
  }
  WF_ASSIGN(const std::optional<bool> sqrt_rank, f.Bool("use_rslora"));
  out->lora_sqrt_rank = out->lora_sqrt_rank || sqrt_rank.value_or(false);
  for (const char* key : {"use_dora", "fan_in_fan_out", "lora_bias"}) {
    WF_ASSIGN(const std::optional<bool> on, f.Bool(key));
    if (on.value_or(false)) return f.Refuse(key, "LoRA with this option");
  }
  for (const char* key : {"rank_pattern", "alpha_pattern"}) {
    WF_ASSIGN(const boost::json::object* o, f.Object(key));
    if (o != nullptr && !o->empty()) return f.Refuse(key, "LoRA whose rank or alpha differs between modules");
  }
  return OkStatus();
}

inline Status ReadLowRank(const JsonFields& f, const JsonFields* adapter, HfLowRank* out) {
  if (adapter != nullptr) {
    out->adapter = true;
    WF_ASSIGN(const std::optional<std::string> type, adapter->String("peft_type"));
    if (type && *type != "LORA") return adapter->Refuse("peft_type", "adapter " + Quote(*type));
    WF_TRY(ReadLora(*adapter, out));
  }
  for (const char* key : {"lora_config", "lora"}) {
    WF_ASSIGN(const boost::json::object* o, f.Object(key));
    if (o != nullptr) WF_TRY(ReadLora(f.Inner(key, *o), out));
  }
  WF_ASSIGN(const std::optional<double> alpha, f.Number("lora_alpha", 0, 1e6));
  if (alpha && !out->lora_alpha) out->lora_alpha = alpha;
  for (const char* key : {"lrc_config", "lrc", "qlrc_config", "qlrc"}) {
    WF_ASSIGN(const boost::json::object* o, f.Object(key));
    if (o == nullptr) continue;
    const JsonFields lrc = f.Inner(key, *o);
    WF_TRY(ReadFactorBits(lrc, out));
    for (const char* inner : {"qlrc", "qlrc_config"}) {
      WF_ASSIGN(const boost::json::object* q, lrc.Object(inner));
      if (q != nullptr) WF_TRY(ReadFactorBits(lrc.Inner(inner, *q), out));
    }
  }
  WF_ASSIGN(const std::optional<uint64_t> bits, f.Size("lrc_bits", 0, 64));
  if (bits && *bits != 0 && *bits < 16) {
    if (*bits != 4 && *bits != 8) {
      return f.Refuse("lrc_bits", "rounding low-rank factors to " + std::to_string(*bits) + " bits");
    }
    out->bits = static_cast<uint32_t>(*bits);
  }
  return OkStatus();
}

inline Status CheckStyle(const std::string& style, const std::string& where) {
  if (style == "llada" || style == "dream") {
    return Unsupported(where + ": diffusion style " + Quote(style) +
                       " is not supported; supported: fast-dllm-v2, causal");
  }
  if (style != "fast-dllm-v2" && style != "causal") {
    return Unsupported(where + ": unknown diffusion style " + Quote(style) + "; supported: fast-dllm-v2, causal");
  }
  return OkStatus();
}

// Flags first, then dlm_config.json, then config.json (semantics.md 4.1). A mask token that none of them names is
// looked for in the vocabulary, by the planner.
inline Status ReadDiffusion(const JsonFields& config, const JsonFields* dlm, const HfDiffusion& flags, HfConfig* c) {
  HfDiffusion& d = c->diffusion;
  std::string where = "--diffusion-style";
  d = flags;
  if (d.mask_token && (*d.mask_token < 0 || static_cast<uint64_t>(*d.mask_token) >= c->vocab)) {
    return InvalidArgument("--mask-token-id: expected a token id of 0 to " + std::to_string(c->vocab - 1) + ", found " +
                           std::to_string(*d.mask_token));
  }
  for (const JsonFields* f : {dlm, &config}) {
    if (f == nullptr) continue;
    for (const char* key : {"bd_size", "block_size"}) {
      if (f == &config && key != std::string_view("bd_size")) continue;  // too common a word there
      WF_ASSIGN(const std::optional<uint64_t> block, f->Size(key, 1, kMaxDiffusionBlock));
      if (d.block_size == 0) d.block_size = static_cast<uint32_t>(block.value_or(0));
    }
    for (const char* key : {"sub_block_size", "small_block_size"}) {
      WF_ASSIGN(const std::optional<uint64_t> sub, f->Size(key, 1, kMaxDiffusionBlock));
      if (d.sub_block_size == 0) d.sub_block_size = static_cast<uint32_t>(sub.value_or(0));
    }
    for (const char* key : {"diffusion_threshold", "threshold"}) {
      if (f == &config && key == std::string_view("threshold")) continue;
      WF_ASSIGN(const std::optional<double> threshold, f->Number(key, 0, 1));
      if (threshold && !d.threshold) d.threshold = static_cast<float>(*threshold);
    }
    WF_ASSIGN(const std::optional<uint64_t> mask, f->Size("mask_token_id", 0, c->vocab - 1));
    if (mask && !d.mask_token) d.mask_token = static_cast<int32_t>(*mask);
    WF_ASSIGN(const std::optional<std::string> style, f->String("diffusion_style"));
    if (style && d.style.empty()) {
      d.style = *style;
      where = f->Name("diffusion_style");
    }
  }
  if (d.style.empty() && dlm != nullptr) d.style = "causal";
  if (d.style.empty() && (c->model_type.starts_with("Fast_dLLM") || c->hf_architecture.starts_with("Fast_dLLM"))) {
    d.style = "fast-dllm-v2";
  }
  if (d.style.empty() && config.Has("bd_size")) {
    return FormatError(config.Name("bd_size") +
                       " says that this is a diffusion checkpoint, but diffusion_style is missing: name it "
                       "with --diffusion-style");
  }
  if (d.style.empty()) {
    const char* flag = flags.block_size != 0       ? "--block-size"
                       : flags.sub_block_size != 0 ? "--sub-block-size"
                       : flags.threshold           ? "--threshold"
                       : flags.mask_token          ? "--mask-token-id"
                                                   : nullptr;
    if (flag == nullptr) return OkStatus();
    return FormatError(std::string(flag) +
                       " is for a diffusion checkpoint, and nothing says that this is one: name its style with "
                       "--diffusion-style");
  }
  WF_TRY(CheckStyle(d.style, where));
  if (d.sub_block_size != 0 && d.block_size != 0 && d.block_size % d.sub_block_size != 0) {
    return FormatError(config.path() + ": sub-blocks of " + std::to_string(d.sub_block_size) +
                       " tokens do not divide the block of " + std::to_string(d.block_size));
  }
  return OkStatus();
}

// A number that decode/sampling.h refuses would make every later request fail: it is left out, with a notice.
inline Status ReadSampling(const JsonFields& f, HfSampling* out, std::vector<std::string>* notices) {
  using Float = std::numeric_limits<float>;
  const auto number = [&](const char* key, double lo, double hi, const char* range, bool whole, auto* to) -> Status {
    const boost::json::value* v = f.Find(key);
    if (v == nullptr) return OkStatus();
    if (!v->is_number()) return f.Wrong(key, range);
    const double d = v->to_number<double>();
    if (d >= lo && d <= hi && (!whole || d == std::floor(d))) {
      *to = static_cast<typename std::decay_t<decltype(*to)>::value_type>(d);
    } else {
      notices->push_back(f.Wrong(key, range).message() + "; it is left out");
    }
    return OkStatus();
  };
  constexpr double kLeast = Float::min();  // above 0 as an f32, too
  WF_TRY(number("temperature", 0, 100, "a number from 0 to 100", false, &out->temperature));
  WF_TRY(number("top_p", kLeast, 1, "a number above 0, at most 1", false, &out->top_p));
  WF_TRY(number("min_p", 0, 1, "a number from 0 to 1", false, &out->min_p));
  WF_TRY(number("repetition_penalty", kLeast, Float::max(), "a number above 0", false, &out->repetition_penalty));
  WF_TRY(number("top_k", -1, std::numeric_limits<int32_t>::max(), "a whole number of -1 or more", true, &out->top_k));
  WF_ASSIGN(const std::optional<bool> sample, f.Bool("do_sample"));
  if (sample && !*sample) out->temperature = 0.0f;  // transformers is greedy then, whatever the temperature
  return OkStatus();
}

}  // namespace wf::detail
#endif  // WF_CONVERT_HF_EXTRAS_IMPL_H_
