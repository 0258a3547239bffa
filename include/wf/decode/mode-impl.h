// SPDX-License-Identifier: Apache-2.0
// Bodies of mode.h.
#ifndef WF_DECODE_MODE_IMPL_H_
#define WF_DECODE_MODE_IMPL_H_

#include <string>

#include "wf/decode/mode.h"
#include "wf/model/model.h"

namespace wf {
namespace detail {

inline Status DecodeRange(const char* name, int64_t value, int64_t lo, int64_t hi) {
  if (value >= lo && value <= hi) return OkStatus();
  return InvalidArgument(std::string(name) + " = " + std::to_string(value) + ", expected " + std::to_string(lo) +
                         " to " + std::to_string(hi));
}

// Settings of block diffusion mean nothing without it.
inline Status RefuseDiffusionOptions(const DecodeOptions& o) {
  const char* given = o.style            ? "diffusion style"
                      : o.threshold      ? "threshold"
                      : o.block_size     ? "block_size"
                      : o.sub_block_size ? "sub_block_size"
                      : o.max_passes     ? "max_passes"
                      : o.block_cache    ? "block_cache"
                      : o.mask_token     ? "mask_token_id"
                      : o.drafts         ? "drafts"
                                         : nullptr;
  if (given == nullptr) return OkStatus();
  const std::string setting = std::string(given) + " is a setting of block diffusion, and ";
  if (o.mode == DecodeMode::kAr) return InvalidArgument(setting + "the decode mode is ar");
  return Unsupported(setting + "the model has no mask token or names no diffusion style");
}

}  // namespace detail

WF_MODEL_INLINE DecodeOptions OverDefaults(const DecodeOptions& asked, const DecodeOptions& defaults) {
  if (asked.mode == DecodeMode::kAr) return asked;
  DecodeOptions o = asked;
  if (o.mode == DecodeMode::kAuto) o.mode = defaults.mode;
  const auto fill = [](auto& value, const auto& fallback) {
    if (!value) value = fallback;
  };
  fill(o.style, defaults.style);
  fill(o.threshold, defaults.threshold);
  if (!o.block_size) fill(o.sub_block_size, defaults.sub_block_size);  // chosen for the other block
  fill(o.block_size, defaults.block_size);
  fill(o.max_passes, defaults.max_passes);
  fill(o.block_cache, defaults.block_cache);
  fill(o.mask_token, defaults.mask_token);
  if (o.mode == DecodeMode::kVerify) fill(o.drafts, defaults.drafts);
  return o;
}

WF_MODEL_INLINE Result<DecodeSettings> ResolveDecode(const DecodeOptions& o, const Model& model, int64_t ctx) {
  const DiffusionMetadata& d = model.config().diffusion;
  const int64_t vocab = static_cast<int64_t>(model.config().vocab);
  DecodeSettings s;
  s.mode = o.mode != DecodeMode::kAuto                         ? o.mode
           : d.style && model.tokenizer().vocab().mask_id >= 0 ? DecodeMode::kAdaptive
                                                               : DecodeMode::kAr;
  s.mask = model.tokenizer().vocab().mask_id;
  if (s.mode == DecodeMode::kAr) {
    WF_TRY(detail::RefuseDiffusionOptions(o));
    return s;
  }
  const std::string needs = "decode mode '" + std::string(Name(s.mode)) + "' needs ";
  if (o.mask_token) {
    WF_TRY(detail::DecodeRange("mask_token_id", *o.mask_token, 0, vocab - 1));
    s.mask = static_cast<int32_t>(*o.mask_token);
  }
  if (s.mask < 0) return Unsupported(needs + "a mask token, and the model has none");
  if (!o.style && !d.style && s.mode != DecodeMode::kVerify) {
    return Unsupported(needs + "a diffusion style, and the model names none");
  }
  s.style = o.style.value_or(d.style.value_or(DiffusionStyle::kCausal));  // verify: right with either
  if (o.threshold) {
    if (!(*o.threshold >= 0 && *o.threshold <= 1)) {
      return InvalidArgument("threshold = " + std::to_string(*o.threshold) + ", expected 0 to 1");
    }
    s.threshold = *o.threshold;
  } else {
    s.threshold = d.threshold.value_or(s.threshold);
  }
  if (o.block_size) {
    WF_TRY(detail::DecodeRange("block_size", *o.block_size, 1, static_cast<int64_t>(kMaxDiffusionBlock)));
  }
  s.block = o.block_size ? static_cast<size_t>(*o.block_size) : d.block_size.value_or(s.block);
  if (o.sub_block_size) {
    WF_TRY(detail::DecodeRange("sub_block_size", *o.sub_block_size, 1, static_cast<int64_t>(s.block)));
    s.sub_block = static_cast<size_t>(*o.sub_block_size);
  } else {
    s.sub_block = d.sub_block_size.value_or(s.sub_block);
    if (o.block_size && s.block % s.sub_block != 0) s.sub_block = s.block;  // chosen for another block
  }
  if (s.block % s.sub_block != 0) {
    return InvalidArgument("sub_block_size = " + std::to_string(s.sub_block) + " does not divide the block of " +
                           std::to_string(s.block) + " tokens");
  }
  if (s.style == DiffusionStyle::kFastDllmV2 && ctx % static_cast<int64_t>(s.block) != 0) {
    return InvalidArgument("block_size = " + std::to_string(s.block) + ", expected a divisor of the context, " +
                           std::to_string(ctx) + " tokens");
  }
  if (o.max_passes) {
    WF_TRY(detail::DecodeRange("max_passes", *o.max_passes, 1, 1 << 20));
    s.max_passes = static_cast<size_t>(*o.max_passes);
  }
  s.block_cache = o.block_cache.value_or(false);
  if (o.drafts) {
    if (s.mode != DecodeMode::kVerify) {
      return InvalidArgument("drafts is a setting of mode verify, and the decode mode is " + std::string(Name(s.mode)));
    }
    WF_TRY(detail::DecodeRange("drafts", *o.drafts, 0, static_cast<int64_t>(kMaxDiffusionBlock) - 1));
    s.drafts = static_cast<size_t>(*o.drafts);
  }
  return s;
}

}  // namespace wf
#endif  // WF_DECODE_MODE_IMPL_H_
