// SPDX-License-Identifier: Apache-2.0
// Bodies of block_decoder.h.
#ifndef WF_DECODE_BLOCK_DECODER_IMPL_H_
#define WF_DECODE_BLOCK_DECODER_IMPL_H_

#include <algorithm>

#include "wf/decode/block_decoder.h"

namespace wf {

WF_MODEL_INLINE BlockDecoder::BlockDecoder(const DecodeSettings& settings, size_t prompt, size_t ctx)
    : s_(settings),
      prompt_(prompt),
      ctx_(ctx),
      prefill_end_(s_.style == DiffusionStyle::kFastDllmV2 ? prompt / s_.block * s_.block : prompt - 1) {
  if (s_.mode == DecodeMode::kGreedy) s_.sub_block = s_.block;
}

WF_MODEL_INLINE void BlockDecoder::Begin(std::span<const int32_t> known) {
  const size_t n = known.size();
  // In style fast-dllm-v2 a block's first token is known when it begins: all of a block of one.
  start_ = s_.style == DiffusionStyle::kFastDllmV2 ? (n - 1) / s_.block * s_.block
                                                   : prompt_ + (n - prompt_) / s_.block * s_.block;
  const size_t size = std::min(s_.block, ctx_ - start_);
  tokens_.assign(size, s_.mask);
  masked_.assign(size, 1);
  std::copy(known.begin() + static_cast<std::ptrdiff_t>(start_), known.end(), tokens_.begin());
  std::fill_n(masked_.begin(), n - start_, uint8_t{0});
  left_ = start_ + size - n;
  sub_ = 0;
  passes_ = 0;
  has_cache_ = false;
  NextSubBlock();
}

WF_MODEL_INLINE size_t BlockDecoder::SubEnd() const noexcept { return std::min(sub_ + s_.sub_block, tokens_.size()); }

// Its position; the block's end if there is none.
WF_MODEL_INLINE size_t BlockDecoder::FirstMask() const noexcept {
  return start_ + static_cast<size_t>(std::find(masked_.begin(), masked_.end(), uint8_t{1}) - masked_.begin());
}

// Goes on to the first sub-block, from the present one on, that has a mask.
WF_MODEL_INLINE void BlockDecoder::NextSubBlock() {
  const auto has_mask = [this] {
    return std::find(masked_.begin() + static_cast<std::ptrdiff_t>(sub_),
                     masked_.begin() + static_cast<std::ptrdiff_t>(SubEnd()),
                     uint8_t{1}) != masked_.begin() + static_cast<std::ptrdiff_t>(SubEnd());
  };
  while (left_ != 0 && !has_mask()) {
    sub_ += s_.sub_block;
    passes_ = 0;
  }
}

WF_MODEL_INLINE void BlockDecoder::Plan(std::span<const int32_t> known, size_t computed, Pass* pass) const {
  const bool causal = s_.style == DiffusionStyle::kCausal;
  size_t end = start_ + tokens_.size();
  pass->first = start_;
  if (causal) {
    // The row that predicts the first mask is asked in every pass until that is committed.
    pass->first = std::min(computed, FirstMask() - 1);
    end = start_ + SubEnd() - 1;  // nobody asks what comes after the sub-block, and nothing before it sees what does
  } else {
    pass->attention_block = s_.block;
    pass->keys = end;
    if (s_.block_cache && has_cache_ && left_ != 0 && masked_[sub_] == 0) {
      pass->first = start_ + sub_;
      end = start_ + SubEnd();
    }
  }
  for (size_t p = pass->first; p < end; ++p) pass->tokens.push_back(p < start_ ? known[p] : tokens_[p - start_]);
  if (left_ == 0) {
    pass->rows.push_back(static_cast<uint32_t>(pass->tokens.size() - 1));
    return;
  }
  for (size_t i = sub_; i < SubEnd(); ++i) {
    if (masked_[i] != 0) pass->rows.push_back(static_cast<uint32_t>(start_ + i - 1 - pass->first));
  }
}

// Of the pass that is under way.
WF_MODEL_INLINE float BlockDecoder::Threshold() const noexcept {
  const float t = s_.threshold;
  if (s_.mode == DecodeMode::kGreedy) return -1;  // everything
  if (passes_ + 1 >= s_.max_passes) return -1;
  if (s_.mode == DecodeMode::kIterative || passes_ >= 2) return t;
  return passes_ == 0 ? std::min(t, std::max(0.5f, t - 0.4f)) : std::min(t, std::max(0.7f, t - 0.2f));
}

WF_MODEL_INLINE size_t BlockDecoder::Take(const Pass& pass, std::span<const Prediction> predictions) {
  const float threshold = Threshold();
  committed_.clear();
  has_cache_ = true;
  // Inputs up to the first mask were final, and so is what they left in the cache if nothing before a position saw what
  // comes after it.
  const size_t computed = s_.style == DiffusionStyle::kCausal ? FirstMask() : start_;
  const auto best = std::max_element(
      predictions.begin(), predictions.end(),
      [](const Prediction& a, const Prediction& b) { return a.confidence < b.confidence; });  // the first of equals
  for (auto p = predictions.begin(); p != predictions.end(); ++p) {
    if (p != best && !(p->confidence > threshold)) continue;
    const size_t position = pass.first + pass.rows[static_cast<size_t>(p - predictions.begin())] + 1;
    tokens_[position - start_] = p->token;
    masked_[position - start_] = 0;
    committed_.push_back(position);
    --left_;
  }
  ++passes_;
  NextSubBlock();
  return computed;
}

}  // namespace wf
#endif  // WF_DECODE_BLOCK_DECODER_IMPL_H_
