// SPDX-License-Identifier: Apache-2.0
// Bodies of names.h.
#ifndef WF_CONVERT_NAMES_IMPL_H_
#define WF_CONVERT_NAMES_IMPL_H_

#include "wf/convert/names.h"

namespace wf {
namespace detail {

struct ProjectionNames {
  const char* gguf;
  const char* hf;
};
inline constexpr ProjectionNames kProjectionNames[kProjections] = {
    {"attn_q", "self_attn.q_proj"},      {"attn_k", "self_attn.k_proj"}, {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"}, {"ffn_gate", "mlp.gate_proj"},  {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
};

// What follows the projection's name (and ".1" in a pair).
struct PartName {
  const char* hf;
  HfRole role;
  const char* gguf;  // what follows the projection's name there; null: becomes no tensor
  NormForm form = NormForm::kModel;
};
inline constexpr PartName kPartNames[] = {
    {"weight", HfRole::kWeight, ".weight"},
    {"weight_scale", HfRole::kWeightScale, nullptr},
    {"weight_quantized", HfRole::kWeightQuantized, ".weight"},
    {"bias", HfRole::kBias, ".bias"},
    {"norm.weight", HfRole::kInputNorm, "_norm_in.weight"},
    {"rms_norm.weight", HfRole::kInputNorm, "_norm_in.weight", NormForm::kRmsNorm},
    {"lrc_U", HfRole::kLrcU, ".lrc_u.weight"},
    {"lrc_V", HfRole::kLrcV, ".lrc_v.weight"},
    {"lrc_U.weight", HfRole::kLrcU, ".lrc_u.weight"},
    {"lrc_U_linear.weight", HfRole::kLrcU, ".lrc_u.weight"},
    {"lrc_V_linear.weight", HfRole::kLrcVRows, ".lrc_v.weight"},
};

struct LayerName {
  const char* hf;
  HfRole role;
  const char* gguf;
  Projection projection = Projection::kQ;
};
inline constexpr LayerName kLayerNames[] = {
    {"input_layernorm.weight", HfRole::kAttnNorm, "attn_norm.weight"},
    {"post_attention_layernorm.weight", HfRole::kFfnNorm, "ffn_norm.weight"},
    {"self_attn.attn_sub_norm.weight", HfRole::kInputNorm, "attn_sub_norm.weight", Projection::kO},
    {"self_attn.inner_attn_ln.weight", HfRole::kInputNorm, "attn_sub_norm.weight", Projection::kO},
    {"mlp.ffn_sub_norm.weight", HfRole::kInputNorm, "ffn_sub_norm.weight", Projection::kDown},
    {"mlp.ffn_layernorm.weight", HfRole::kInputNorm, "ffn_sub_norm.weight", Projection::kDown},
};
inline constexpr const char* kIgnoredInLayer[] = {"self_attn.rotary_emb.inv_freq", "attention.bias",
                                                  "attention.masked_bias"};

inline bool TakePrefix(std::string_view* s, std::string_view prefix) noexcept {
  if (!s->starts_with(prefix)) return false;
  s->remove_prefix(prefix.size());
  return true;
}

// A decimal number of at most six digits without leading zeros, and the dot after it.
inline bool TakeIndex(std::string_view* s, int64_t* index) noexcept {
  const size_t dot = s->find('.');
  if (dot == std::string_view::npos || dot == 0 || dot > 6 || ((*s)[0] == '0' && dot != 1)) return false;
  int64_t n = 0;
  for (const char c : s->substr(0, dot)) {
    if (c < '0' || c > '9') return false;
    n = 10 * n + (c - '0');
  }
  *index = n;
  s->remove_prefix(dot + 1);
  return true;
}

// `rest` is what follows "<projection>.".
inline void ParseProjectionPart(std::string_view rest, const std::string& block, HfName* out) {
  const std::string gguf = block + GgufProjection(out->projection);
  if (rest == "0.weight") {
    out->role = HfRole::kInputNorm;
    out->form = NormForm::kPair;
    out->gguf = out->projection == Projection::kO      ? block + "attn_sub_norm.weight"
                : out->projection == Projection::kDown ? block + "ffn_sub_norm.weight"
                                                       : gguf + "_norm_in.weight";
    return;
  }
  TakePrefix(&rest, "1.");
  for (const PartName& p : kPartNames) {
    if (rest != p.hf) continue;
    out->role = p.role;
    out->form = p.form;
    if (p.gguf != nullptr) out->gguf = gguf + p.gguf;
    return;
  }
}

inline void ParseLayerPart(std::string_view rest, HfName* out) {
  const std::string block = "blk." + std::to_string(out->layer) + ".";
  for (const LayerName& l : kLayerNames) {
    if (rest != l.hf) continue;
    out->role = l.role;
    out->projection = l.projection;
    out->gguf = block + l.gguf;
    return;
  }
  for (const char* ignored : kIgnoredInLayer) {
    if (rest == ignored) out->role = HfRole::kIgnored;
  }
  for (size_t i = 0; i < kProjections; ++i) {
    std::string_view part = rest;
    if (!TakePrefix(&part, kProjectionNames[i].hf) || !TakePrefix(&part, ".")) continue;
    out->projection = static_cast<Projection>(i);
    ParseProjectionPart(part, block, out);
    return;
  }
}

}  // namespace detail

WF_MODEL_INLINE const char* GgufProjection(Projection p) noexcept {
  return detail::kProjectionNames[static_cast<size_t>(p)].gguf;
}
WF_MODEL_INLINE const char* HfProjection(Projection p) noexcept {
  return detail::kProjectionNames[static_cast<size_t>(p)].hf;
}

WF_MODEL_INLINE HfName ParseHfName(std::string_view name) {
  HfName out;
  while (detail::TakePrefix(&name, "module.") || detail::TakePrefix(&name, "_orig_mod.")) {
  }
  if (name == "lm_head.weight") {
    out.role = HfRole::kHead;
    out.gguf = "output.weight";
    return out;
  }
  if (!detail::TakePrefix(&name, "model.")) return out;
  if (name == "embed_tokens.weight") {
    out.role = HfRole::kEmbedding;
    out.gguf = "token_embd.weight";
  } else if (name == "norm.weight") {
    out.role = HfRole::kOutputNorm;
    out.gguf = "output_norm.weight";
  } else if (name == "rotary_emb.inv_freq") {
    out.role = HfRole::kIgnored;
  } else if (detail::TakePrefix(&name, "layers.") && detail::TakeIndex(&name, &out.layer)) {
    detail::ParseLayerPart(name, &out);
  }
  return out;
}

}  // namespace wf
#endif  // WF_CONVERT_NAMES_IMPL_H_
