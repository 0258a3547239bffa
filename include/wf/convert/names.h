// SPDX-License-Identifier: Apache-2.0
// Names of tensors: what a Hugging Face name stands for and what it is called in a GGUF (formats.md 3.2, 3.7).
// Knows nothing of shapes, types or which tensors must exist (plan-impl.h).
#ifndef WF_CONVERT_NAMES_H_
#define WF_CONVERT_NAMES_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "wf/base/inline.h"

namespace wf {

// The matrices of a layer, in the order in which they are written. Experts have gate, up and down, too.
enum class Projection : uint8_t { kQ, kK, kV, kO, kGate, kUp, kDown, kSharedGate, kSharedUp, kSharedDown };
inline constexpr size_t kProjections = 10;
const char* GgufProjection(Projection p) noexcept;  // "attn_q"
const char* HfProjection(Projection p) noexcept;    // "self_attn.q_proj"

enum class HfRole : uint8_t {
  kUnknown,          // none of the names below
  kIgnored,          // known to be of no use, e.g. rotary_emb.inv_freq
  kEmbedding,        // model.embed_tokens.weight
  kOutputNorm,       // model.norm.weight
  kHead,             // lm_head.weight
  kAttnNorm,         // input_layernorm
  kFfnNorm,          // post_attention_layernorm
  kQNorm,            // self_attn.q_norm: of every head
  kKNorm,            // self_attn.k_norm
  kRouter,           // mlp.gate, block_sparse_moe.gate
  kSharedRouter,     // mlp.shared_expert_gate
  kFusedGateUp,      // experts' gates and ups in one tensor (experts, 2 ffn, in)
  kFusedDown,        // experts' downs in one tensor (experts, in, ffn)
  kWeight,           // of a projection, as are all that follow
  kWeightScale,      // weight_scale
  kWeightQuantized,  // weight_quantized: scaled ternary values
  kBias,
  kInputNorm,  // the RMSNorm on the projection's input
  kLrcU,       // makes the output: (out, rank)
  kLrcV,       // takes the input: see FactorForm
};

// Where an input norm comes from: it decides the epsilon.
enum class NormForm : uint8_t {
  kModel,    // attn_sub_norm, inner_attn_ln, ffn_sub_norm, ffn_layernorm, <proj>.norm: rms_norm_eps
  kPair,     // <proj>.0 of a pair whose linear part is <proj>.1: always 1e-6
  kRmsNorm,  // <proj>.rms_norm: quantization_config.rms_norm_eps
};

// Which way round low-rank factors lie, and what is done to them.
enum class FactorForm : uint8_t {
  kPlain,   // lrc_U (out, rank), lrc_V (in, rank), or both the other way round if the shapes say so
  kLinear,  // lrc_U_linear (out, rank), lrc_V_linear (rank, in)
  kLora,    // lora_B (out, rank), lora_A (rank, in), times alpha / rank
};

struct HfName {
  HfRole role = HfRole::kUnknown;
  int64_t layer = -1;                      // of a name below model.layers.N, unknown ones included; else -1
  int64_t expert = -1;                     // of an expert's matrix, unknown parts included; else -1
  Projection projection = Projection::kQ;  // from kWeight on
  NormForm form = NormForm::kModel;        // kInputNorm
  FactorForm factor = FactorForm::kPlain;  // kLrcU, kLrcV
  std::string hf;                          // the name without wrappers' parts
  std::string gguf;                        // the tensor's name in the GGUF; empty if it does not become one
};

// Understands the names of transformers, PEFT, 1bitLLM and WrinkleFree. Wrappers' parts ("module.", "_orig_mod.",
// "base_model.model.", "base_layer.", a second "model.") do not matter.
HfName ParseHfName(std::string_view name);

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/convert/names-impl.h"
#endif
#endif  // WF_CONVERT_NAMES_H_
