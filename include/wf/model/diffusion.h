// SPDX-License-Identifier: Apache-2.0
// What a checkpoint says about its training for block diffusion (semantics.md 4.1): plain data.
#ifndef WF_MODEL_DIFFUSION_H_
#define WF_MODEL_DIFFUSION_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace wf {

// How rows of a block attend, and where blocks begin. In both styles the logits of position i - 1 predict position i.
enum class DiffusionStyle : uint8_t {
  kFastDllmV2,  // bidirectional inside a block, causal between blocks; blocks begin at absolute multiples of their
                // size, and their first token is never masked
  kCausal,  // causal everywhere; blocks begin where the prompt ends
};
inline constexpr const char* kDiffusionStyleNames[] = {"fast-dllm-v2", "causal"};  // as files and users write them
inline constexpr const char* Name(DiffusionStyle s) noexcept { return kDiffusionStyleNames[static_cast<size_t>(s)]; }
inline constexpr std::optional<DiffusionStyle> DiffusionStyleFromName(std::string_view name) noexcept {
  for (const DiffusionStyle s : {DiffusionStyle::kFastDllmV2, DiffusionStyle::kCausal}) {
    if (name == Name(s)) return s;
  }
  return std::nullopt;
}

inline constexpr size_t kMaxDiffusionBlock = 256;

// Metadata of a file: {arch}.diffusion.*, tokenizer.ggml.mask_token_id.
struct DiffusionMetadata {
  std::optional<DiffusionStyle> style;  // none: not trained for block diffusion, or not said
  std::optional<size_t> block_size, sub_block_size;
  std::optional<float> threshold;
};

}  // namespace wf
#endif  // WF_MODEL_DIFFUSION_H_
