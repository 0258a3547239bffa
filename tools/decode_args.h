// SPDX-License-Identifier: Apache-2.0
// The flags of decoding: mode and settings of block diffusion, for every program that generates.
#ifndef WF_TOOLS_DECODE_ARGS_H_
#define WF_TOOLS_DECODE_ARGS_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "wf/decode/mode.h"

namespace wf {

class DecodeArgs {
 public:
  // `own_mode`: the program has a flag of its own for modes and thresholds.
  void AddTo(CLI::App* app, bool own_mode = false) {
    app_ = app;
    if (!own_mode) {
      app->add_option(
             "--decode", mode_,
             "Decoding: ar (one token a pass); block diffusion in mode greedy (a block in one pass), iterative "
             "(what is more probable than the threshold) or adaptive (lower thresholds first); verify (drafts "
             "from masks, the text of ar); auto is adaptive for models trained for it, else ar")
          ->check(CLI::IsMember({"auto", "ar", "greedy", "iterative", "adaptive", "verify"}))
          ->capture_default_str();
      app->add_option("--threshold", threshold_,
                      "Block diffusion: probability above which a token is taken (default: the model's, else 0.7)")
          ->check(CLI::Range(0.0, 1.0));
    }
    app->add_option("--block-size", block_, "Block diffusion: tokens of a block (default: the model's, else 32)")
        ->check(CLI::Range(int64_t{1}, static_cast<int64_t>(kMaxDiffusionBlock)));
    app->add_option("--sub-block-size", sub_block_,
                    "Block diffusion: tokens that are filled before the next ones (default: the model's, else 8)")
        ->check(CLI::Range(int64_t{1}, static_cast<int64_t>(kMaxDiffusionBlock)));
    app->add_option("--max-passes", max_passes_,
                    "Block diffusion: passes over a sub-block, the last takes all that is left (default: 10)")
        ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
    app->add_flag("--block-cache", block_cache_,
                  "Block diffusion of style fast-dllm-v2: forward a sub-block alone once its first token is known; "
                  "faster, changes the text");
    app->add_option("--mask-token-id", mask_, "Mask token of block diffusion (default: the model's)")
        ->check(CLI::NonNegativeNumber);
    app->add_option("--drafts", drafts_,
                    "Mode verify: tokens drafted for a pass (default: as many as pay on this machine)")
        ->check(CLI::Range(int64_t{0}, static_cast<int64_t>(kMaxDiffusionBlock) - 1));
    app->add_option("--diffusion-style", style_,
                    "How the model was trained for block diffusion (default: what it says itself)")
        ->check(CLI::IsMember({"fast-dllm-v2", "causal"}));
  }

  // After parsing. What was not given is left to the model.
  DecodeOptions Options() const {
    DecodeOptions o;
    o.mode = *DecodeModeFromName(mode_);
    if (!style_.empty()) o.style = DiffusionStyleFromName(style_);
    if (Given("--threshold")) o.threshold = threshold_;
    if (Given("--block-size")) o.block_size = block_;
    if (Given("--sub-block-size")) o.sub_block_size = sub_block_;
    if (Given("--max-passes")) o.max_passes = max_passes_;
    if (Given("--block-cache")) o.block_cache = block_cache_;
    if (Given("--mask-token-id")) o.mask_token = mask_;
    if (Given("--drafts")) o.drafts = drafts_;
    return o;
  }

 private:
  bool Given(const char* flag) const {
    const CLI::Option* option = app_->get_option_no_throw(flag);
    return option != nullptr && option->count() != 0;
  }

  CLI::App* app_ = nullptr;
  std::string mode_ = "auto", style_;
  float threshold_ = 0;
  int64_t block_ = 0, sub_block_ = 0, max_passes_ = 0, mask_ = 0, drafts_ = 0;
  bool block_cache_ = false;
};

}  // namespace wf
#endif  // WF_TOOLS_DECODE_ARGS_H_
