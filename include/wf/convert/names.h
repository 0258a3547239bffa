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

// The seven matrices of a layer, in the order in which they are written.
enum class Projection : uint8_t { kQ, kK, kV, kO, kGate, kUp, kDown };
inline constexpr size_t kProjections = 7;
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
  kWeight,           // of a projection, as are all that follow
  kWeightScale,      // weight_scale
  kWeightQuantized,  // weight_quantized: scaled ternary values
  kBias,
  kInputNorm,  // the RMSNorm on the projection's input
  kLrcU,       // (out, rank)
  kLrcV,       // (in, rank): to be transposed
  kLrcVRows,   // (rank, in)
};

// Where an input norm comes from: it decides the epsilon.
enum class NormForm : uint8_t {
  kModel,    // attn_sub_norm, inner_attn_ln, ffn_sub_norm, ffn_layernorm, <proj>.norm: rms_norm_eps
  kPair,     // <proj>.0 of a pair whose linear part is <proj>.1: always 1e-6
  kRmsNorm,  // <proj>.rms_norm: quantization_config.rms_norm_eps
};

struct HfName {
  HfRole role = HfRole::kUnknown;
  int64_t layer = -1;                      // of a name below model.layers.N, unknown ones included; else -1
  Projection projection = Projection::kQ;  // from kWeight on
  NormForm form = NormForm::kModel;        // kInputNorm
  std::string gguf;                        // the tensor's name in the GGUF; empty if it does not become one
};

// Understands the names of transformers, 1bitLLM and WrinkleFree. Wrappers' prefixes ("module.", "_orig_mod.") do
// not matter.
HfName ParseHfName(std::string_view name);

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/convert/names-impl.h"
#endif
#endif  // WF_CONVERT_NAMES_H_
