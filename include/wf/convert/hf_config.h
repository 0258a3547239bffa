// SPDX-License-Identifier: Apache-2.0
// config.json, dlm_config.json and generation_config.json of a Hugging Face folder as a checked plain struct.
// What it cannot express is refused here, by file and field. Not for tokenizer files (tokenizer/vocab_hf.h)
// and not for what only the tensors tell (convert.h).
#ifndef WF_CONVERT_HF_CONFIG_H_
#define WF_CONVERT_HF_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>
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
  std::string style;        // "fast-dllm-v2", "causal", or empty: not a diffusion checkpoint
  uint32_t block_size = 0;  // 0: not given
  std::optional<int32_t> mask_token;
};

// Sampling defaults of generation_config.json.
struct HfSampling {
  std::optional<float> temperature, top_p, min_p, repetition_penalty;
  std::optional<int32_t> top_k;
};

struct HfConfig {
  std::string path;             // of config.json, for messages
  std::string hf_architecture;  // as written, e.g. "BitnetForCausalLM"
  std::string model_type;
  std::string architecture;  // of the GGUF: "bitnet-b1.58" (relu2) or "bitnet" (silu)
  std::string name_or_path;
  uint64_t vocab = 0, embedding = 0, ffn = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0, context = 0;
  double rms_eps = 0;
  double rope_theta = 0;
  double rope_factor = 1;    // of linear RoPE scaling
  std::optional<bool> tied;  // tie_word_embeddings
  HfQuantization quantization;
  HfDiffusion diffusion;
  HfSampling sampling;
};

// Reads the files of folder `dir`; all but config.json may be absent. `diffusion_style`, if not empty, is used in
// place of the files' style. kNotFound without folder or config.json, kFormat for broken JSON and fields of a wrong
// type or out of range, kUnsupported for architectures, activations and features that wf does not have, by name.
Result<HfConfig> LoadHfConfig(const std::string& dir, const std::string& diffusion_style = {});

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/convert/hf_config-impl.h"
#endif
#endif  // WF_CONVERT_HF_CONFIG_H_
