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
    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"},
    {"ffn_gate", "mlp.gate_proj"},
    {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
    {"ffn_gate_shexp", "mlp.shared_expert.gate_proj"},
    {"ffn_up_shexp", "mlp.shared_expert.up_proj"},
    {"ffn_down_shexp", "mlp.shared_expert.down_proj"},
};

// What follows the projection's name (and ".1" in a pair).
struct PartName {
  const char* hf;
  HfRole role;
  const char* gguf;  // what follows the projection's name there; null: becomes no tensor
  NormForm form = NormForm::kModel;
  FactorForm factor = FactorForm::kPlain;
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
    {"lrc_V.weight", HfRole::kLrcV, ".lrc_v.weight"},
    {"lrc_U_linear.weight", HfRole::kLrcU, ".lrc_u.weight", NormForm::kModel, FactorForm::kLinear},
    {"lrc_V_linear.weight", HfRole::kLrcV, ".lrc_v.weight", NormForm::kModel, FactorForm::kLinear},
    {"lora_B.weight", HfRole::kLrcU, ".lrc_u.weight", NormForm::kModel, FactorForm::kLora},
    {"lora_A.weight", HfRole::kLrcV, ".lrc_v.weight", NormForm::kModel, FactorForm::kLora},
    {"lora_B.default.weight", HfRole::kLrcU, ".lrc_u.weight", NormForm::kModel, FactorForm::kLora},
    {"lora_A.default.weight", HfRole::kLrcV, ".lrc_v.weight", NormForm::kModel, FactorForm::kLora},
};

struct LayerName {
  const char* hf;
  HfRole role;
  const char* gguf;  // null: becomes more than one tensor
  Projection projection = Projection::kQ;
};
inline constexpr LayerName kLayerNames[] = {
    {"input_layernorm.weight", HfRole::kAttnNorm, "attn_norm.weight"},
    {"post_attention_layernorm.weight", HfRole::kFfnNorm, "ffn_norm.weight"},
    {"self_attn.q_norm.weight", HfRole::kQNorm, "attn_q_norm.weight"},
    {"self_attn.k_norm.weight", HfRole::kKNorm, "attn_k_norm.weight"},
    {"self_attn.attn_sub_norm.weight", HfRole::kInputNorm, "attn_sub_norm.weight", Projection::kO},
    {"self_attn.inner_attn_ln.weight", HfRole::kInputNorm, "attn_sub_norm.weight", Projection::kO},
    {"mlp.ffn_sub_norm.weight", HfRole::kInputNorm, "ffn_sub_norm.weight", Projection::kDown},
    {"mlp.ffn_layernorm.weight", HfRole::kInputNorm, "ffn_sub_norm.weight", Projection::kDown},
    {"mlp.gate.weight", HfRole::kRouter, "ffn_gate_inp.weight"},
    {"block_sparse_moe.gate.weight", HfRole::kRouter, "ffn_gate_inp.weight"},
    {"mlp.shared_expert_gate.weight", HfRole::kSharedRouter, "ffn_gate_inp_shexp.weight"},
    {"mlp.experts.gate_up_proj", HfRole::kFusedGateUp, nullptr},
    {"mlp.experts.down_proj", HfRole::kFusedDown, "ffn_down_exps.weight"},
    {"block_sparse_moe.experts.gate_up_proj", HfRole::kFusedGateUp, nullptr},
    {"block_sparse_moe.experts.down_proj", HfRole::kFusedDown, "ffn_down_exps.weight"},
};
inline constexpr const char* kIgnoredInLayer[] = {"self_attn.rotary_emb.inv_freq", "attention.bias",
                                                  "attention.masked_bias"};

// An expert's matrices; Mixtral numbers them.
struct ExpertName {
  const char* hf;
  Projection projection;
};
inline constexpr ExpertName kExpertNames[] = {
    {"gate_proj.", Projection::kGate}, {"up_proj.", Projection::kUp}, {"down_proj.", Projection::kDown},
    {"w1.", Projection::kGate},        {"w3.", Projection::kUp},      {"w2.", Projection::kDown},
};

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

// What torch.compile, FSDP, DataParallel and PEFT put around modules, removed wherever it stands.
inline std::string WithoutWrappers(std::string_view name) {
  std::string out;
  for (bool begins = true; !name.empty();) {
    if (begins) {
      bool taken = false;
      for (const char* part : {"_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "base_layer."}) {
        taken = taken || TakePrefix(&name, part);
      }
      if (out.empty()) taken = taken || TakePrefix(&name, "module.") || TakePrefix(&name, "base_model.model.");
      if (taken) continue;
    }
    begins = name[0] == '.';
    out += name[0];
    name.remove_prefix(1);
  }
  while (out.starts_with("model.model.") || out.starts_with("model.lm_head.")) out.erase(0, 6);
  return out;
}

// `rest` is what follows "<projection>."; `gguf` is the projection's name there.
inline void ParseProjectionPart(std::string_view rest, const std::string& block, const std::string& gguf, HfName* out) {
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
    out->factor = p.factor;
    if (p.gguf != nullptr) out->gguf = gguf + p.gguf;
    return;
  }
}

// `rest` is what follows "experts."; false if no number does.
inline bool ParseExpert(std::string_view rest, const std::string& block, HfName* out) {
  if (!TakeIndex(&rest, &out->expert)) return false;
  for (const ExpertName& e : kExpertNames) {
    if (!TakePrefix(&rest, e.hf)) continue;
    out->projection = e.projection;
    ParseProjectionPart(rest, block, block + GgufProjection(e.projection) + "_exps", out);
    return true;
  }
  return true;
}

inline void ParseLayerPart(std::string_view rest, HfName* out) {
  const std::string block = "blk." + std::to_string(out->layer) + ".";
  for (const LayerName& l : kLayerNames) {
    if (rest != l.hf) continue;
    out->role = l.role;
    out->projection = l.projection;
    if (l.gguf != nullptr) out->gguf = block + l.gguf;
    return;
  }
  for (const char* ignored : kIgnoredInLayer) {
    if (rest == ignored) out->role = HfRole::kIgnored;
  }
  for (const char* experts : {"mlp.experts.", "block_sparse_moe.experts."}) {
    std::string_view part = rest;
    if (TakePrefix(&part, experts) && ParseExpert(part, block, out)) return;
  }
  for (size_t i = 0; i < kProjections; ++i) {
    std::string_view part = rest;
    if (!TakePrefix(&part, kProjectionNames[i].hf) || !TakePrefix(&part, ".")) continue;
    out->projection = static_cast<Projection>(i);
    ParseProjectionPart(part, block, block + kProjectionNames[i].gguf, out);
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

WF_MODEL_INLINE HfName ParseHfName(std::string_view full) {
  HfName out;
  out.hf = detail::WithoutWrappers(full);
  std::string_view name = out.hf;
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
