// SPDX-License-Identifier: Apache-2.0
// config.json, dlm_config.json, adapter_config.json and generation_config.json of a Hugging Face folder as a checked
// plain struct. What it cannot express is refused here, by file and field. Not for tokenizer files
// (tokenizer/vocab_hf.h) and not for what only the tensors tell (convert.h).
#ifndef WF_CONVERT_HF_CONFIG_H_
#define WF_CONVERT_HF_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "wf/base/inline.h"
#include "wf/base/status.h"

namespace wf {

// What a packed weight's weight_scale does to its ternary values (formats.md 3.8).
enum class ScaleRule : uint8_t { kDivide, kMultiply };

struct HfQuantization {
  bool present = false;  // config.json has a quantization_config
  ScaleRule rule = ScaleRule::kDivide;
  bool use_rms_norm = false;   // every projection has a norm of its own, <proj>.rms_norm.weight
  double rms_norm_eps = 1e-6;  // of those norms
};

// Absent fields are absent in the file, too.
struct HfDiffusion {
  std::string style;                            // "fast-dllm-v2", "causal", or empty: not a diffusion checkpoint
  uint32_t block_size = 0, sub_block_size = 0;  // 0: not given
  std::optional<float> threshold;
  std::optional<int32_t> mask_token;
};

// Sampling defaults of generation_config.json; numbers that decode/sampling.h does not take are absent.
struct HfSampling {
  std::optional<float> temperature, top_p, min_p, repetition_penalty;
  std::optional<int32_t> top_k;
};

enum class HfRope : uint8_t { kNone, kLinear, kLlama3 };

// No experts: a dense FFN.
struct HfExperts {
  uint64_t count = 0, used = 0;
  uint64_t ffn = 0;         // of one expert
  uint64_t shared_ffn = 0;  // of the shared expert, 0: none
  bool normalise = false;   // the chosen experts' weights are brought to sum 1
};

// Low-rank factors: what their tensors do not tell.
struct HfLowRank {
  bool adapter = false;               // there is an adapter_config.json
  uint32_t bits = 0;                  // factors are rounded in groups of 32 to so many bits (4 or 8); 0: they are not
  std::optional<double> lora_alpha;   // LoRA's product is multiplied by alpha / rank, ...
  bool lora_sqrt_rank = false;        // ... or by alpha / sqrt(rank)
  std::optional<uint64_t> lora_rank;  // what the file says of the rank
};

struct HfConfig {
  std::string path;             // of config.json, for messages
  std::string text;             // the file as it is
  std::string hf_architecture;  // as written, e.g. "BitnetForCausalLM"
  std::string model_type;
  // Of the GGUF. LoadHfConfig gives the one that class and model_type name ("bitnet" for BitNetForCausalLM of
  // model_type bitnet), PlanConversion the one whose graph the activation and the tensors ask for.
  std::string architecture;
  bool relu2 = false;         // hidden_act, else silu
  bool bitnet_class = false;  // any spelling of BitNetForCausalLM
  // Biases that the config demands (true) or rules out (false); absent: the tensors decide.
  std::optional<bool> qkv_bias, o_bias, mlp_bias;
  std::string name_or_path;
  uint64_t vocab = 0, embedding = 0, ffn = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0, context = 0;
  double rms_eps = 0;
  double rope_theta = 0;
  HfRope rope = HfRope::kNone;
  double rope_factor = 1;                        // of linear and llama3 scaling
  double rope_low_freq = 1, rope_high_freq = 4;  // llama3
  double rope_original_context = 8192;           // llama3
  std::optional<bool> tied;                      // tie_word_embeddings
  HfExperts experts;
  HfLowRank low_rank;
  HfQuantization quantization;
  HfDiffusion diffusion;
  HfSampling sampling;
  std::vector<std::string> notices;  // values that were left out, by file and field
};

// Reads the files of folder `dir`; all but config.json may be absent. Fields given in `flags` go before the files';
// they are an error if nothing names a diffusion style.
// kNotFound without folder or config.json, kFormat for broken JSON, fields of a wrong type or out of range and fields
// that contradict each other, kUnsupported for architectures, activations and features that wf does not have, by name.
Result<HfConfig> LoadHfConfig(const std::string& dir, const HfDiffusion& flags = {});
// The same with config.json's text given; `name` stands for it in messages. The other files are those of `dir`.
Result<HfConfig> ParseHfConfig(std::string_view text, const std::string& name, const std::string& dir,
                               const HfDiffusion& flags = {});

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/convert/hf_config-impl.h"
#endif
#endif  // WF_CONVERT_HF_CONFIG_H_
