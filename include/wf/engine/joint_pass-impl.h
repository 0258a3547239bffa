// SPDX-License-Identifier: Apache-2.0
// Bodies of joint_pass.h.
#ifndef WF_ENGINE_JOINT_PASS_IMPL_H_
#define WF_ENGINE_JOINT_PASS_IMPL_H_

#include <cstring>
#include <utility>

#include "wf/engine/joint_pass.h"

namespace wf {

WF_MODEL_INLINE void JointPass::Release() {
  for (const int32_t b : borrowed_) drafts_.Release(b);
  borrowed_.clear();
}

WF_MODEL_INLINE void JointPass::Add(Sequence* s) {
  const Pass& p = s->pass;
  if (p.draft && !Borrow(s)) return;
  rows_.push_back({.tokens = p.tokens.data(),
                   .count = p.tokens.size(),
                   .first = p.first,
                   .blocks = p.draft ? draft_blocks_.back().data() : s->pointers.data(),
                   .attention_block = p.attention_block,
                   .keys = p.keys,
                   .logits_from = p.tokens.size(),
                   .logits_rows = p.rows});
  if (!p.rows.empty()) {
    rows_.back().query = s->Query(vocab_);
    rows_.back().candidates = s->candidates.data();
    wanted_ += p.rows.size();
  }
  owners_.push_back(s);
}

// K/V blocks for a draft pass: those that it writes are replaced by others, which hold what it does not write.
WF_MODEL_INLINE bool JointPass::Borrow(Sequence* s) {
  std::vector<uint8_t*> blocks = s->pointers;
  const size_t begin = s->pass.first / kKvBlock;
  const size_t end = (s->pass.first + s->pass.tokens.size() + kKvBlock - 1) / kKvBlock;
  for (size_t i = begin; i < end; ++i) {
    const int32_t b = drafts_.Acquire();
    if (b < 0) {
      s->End(FinishReason::kError, StopType::kNone, InternalError("no free KV block for a draft"));
      return false;
    }
    borrowed_.push_back(b);
    if (i == begin && s->pass.first % kKvBlock != 0) {
      std::memcpy(drafts_.Data(b), blocks[i], drafts_.shape().BlockBytes());
    }
    blocks[i] = drafts_.Data(b);
  }
  draft_blocks_.push_back(std::move(blocks));
  return true;
}

WF_MODEL_INLINE void JointPass::Run() {
  logits_.resize(wanted_ * vocab_);
  transformer_.Forward(rows_, logits_.data());
  float* logits = logits_.data();
  for (Sequence* s : owners_) {
    const size_t n = s->pass.rows.size();
    s->Take(logits, vocab_, transformer_);
    logits += n * vocab_;
  }
  Release();
}

}  // namespace wf
#endif  // WF_ENGINE_JOINT_PASS_IMPL_H_
