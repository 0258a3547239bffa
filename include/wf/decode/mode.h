// SPDX-License-Identifier: Apache-2.0
// How tokens are made from passes over the weights: the modes, what a caller may ask of them, and the one place where
// that is joined with what the model says.
#ifndef WF_DECODE_MODE_H_
#define WF_DECODE_MODE_H_

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string_view>

#include "wf/base/inline.h"
#include "wf/base/status.h"
#include "wf/model/diffusion.h"

namespace wf {

class Model;

enum class DecodeMode : uint8_t {
  kAuto,       // kAdaptive for models that carry diffusion metadata, kAr for all others
  kAr,         // one token a pass
  kGreedy,     // block diffusion: all masks of a block in one pass
  kIterative,  // passes over each sub-block commit what is more probable than the threshold, and the best
  kAdaptive,   // the same with lower thresholds in the first two passes over a sub-block
  kVerify,     // drafts from masks, verified: the text of kAr, token for token
};
inline constexpr const char* kDecodeModeNames[] = {"auto", "ar", "greedy", "iterative", "adaptive", "verify"};
inline constexpr const char* Name(DecodeMode m) noexcept { return kDecodeModeNames[static_cast<size_t>(m)]; }
inline constexpr std::optional<DecodeMode> DecodeModeFromName(std::string_view name) noexcept {
  for (size_t i = 0; i < std::size(kDecodeModeNames); ++i) {
    if (name == kDecodeModeNames[i]) return static_cast<DecodeMode>(i);
  }
  return std::nullopt;
}

// What a caller asks; what is not given is the model's, else the default of DecodeSettings.
struct DecodeOptions {
  DecodeMode mode = DecodeMode::kAuto;
  std::optional<DiffusionStyle> style = {};
  std::optional<float> threshold = {};         // [0, 1]
  std::optional<int64_t> block_size = {};      // 1 to 256; fast-dllm-v2: divides the context
  std::optional<int64_t> sub_block_size = {};  // divides the block size
  std::optional<int64_t> max_passes = {};      // over a sub-block, at least 1
  std::optional<bool> block_cache = {};
  std::optional<int64_t> mask_token = {};
  std::optional<int64_t> drafts = {};  // mode verify: tokens drafted for a pass, 0 to 255; not given: what pays here
};

// `asked`, and where it says nothing `defaults`, whose settings of block diffusion a mode of ar does not take along.
DecodeOptions OverDefaults(const DecodeOptions& asked, const DecodeOptions& defaults);

// Complete and valid.
struct DecodeSettings {
  DecodeMode mode = DecodeMode::kAr;  // never kAuto
  DiffusionStyle style = DiffusionStyle::kFastDllmV2;
  size_t block = 32, sub_block = 8;
  float threshold = 0.7f;
  size_t max_passes = 10;  // over a sub-block; the last commits all that is left
  // fast-dllm-v2: once a sub-block's first position is known only its own rows are forwarded, over K and V that the
  // rest of the block had then. Changes the text. Without meaning in style causal, where K and V of known tokens stay
  // right.
  bool block_cache = false;
  int32_t mask = -1;                  // the mask token
  std::optional<size_t> drafts = {};  // mode verify: at most so many, whatever passes cost
  bool diffusion() const noexcept {
    return mode == DecodeMode::kGreedy || mode == DecodeMode::kIterative || mode == DecodeMode::kAdaptive;
  }
};

// `ctx`: tokens of the context. kInvalidArgument names the option, its value and what was expected (options of block
// diffusion with mode ar are errors); kUnsupported if the mode, or a setting given without one, needs a mask token or
// a style and the model has none.
Result<DecodeSettings> ResolveDecode(const DecodeOptions& options, const Model& model, int64_t ctx);

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/decode/mode-impl.h"
#endif
#endif  // WF_DECODE_MODE_H_
