// SPDX-License-Identifier: Apache-2.0
// Bodies of draft_verifier.h.
#ifndef WF_DECODE_DRAFT_VERIFIER_IMPL_H_
#define WF_DECODE_DRAFT_VERIFIER_IMPL_H_

#include <algorithm>
#include <utility>

#include "wf/decode/draft_verifier.h"

namespace wf {

WF_MODEL_INLINE size_t DraftVerifier::BestWidth(double p, size_t most, size_t draft_rows, const PassCosts& costs) {
  if (costs.empty()) return most;
  size_t best = 0;
  double rate = 1 / costs.Ms(1), tokens = 1, chance = 1;
  const double drafting = draft_rows != 0 ? costs.Ms(draft_rows) : 0;
  for (size_t width = 1; width <= most; ++width) {
    chance *= p;
    tokens += chance;
    const double r = tokens / (costs.Ms(width + 1) + drafting);
    if (r > rate) {
      rate = r;
      best = width;
    }
  }
  return best;
}

// Where drafts do not pay they are tried now and then, for the text may have become easier: as often as costs a
// twentieth.
WF_MODEL_INLINE size_t DraftVerifier::Try(size_t draft_rows, const PassCosts& costs) {
  constexpr size_t kWidth = 4;
  constexpr double kShare = 0.05;
  const double ms = costs.Ms(1);
  history_.idle_ms += ms;
  const double price = costs.Ms(kWidth + 1) - ms + (draft_rows != 0 ? costs.Ms(draft_rows) : costs.Ms(kWidth + 1) - ms);
  if (history_.idle_ms * kShare < price) return 0;
  history_.idle_ms = 0;
  return kWidth;
}

WF_MODEL_INLINE void DraftVerifier::Plan(std::span<const int32_t> known, size_t room, const PassCosts& costs,
                                         Pass* pass) {
  const size_t n = known.size(), start = n / s_.block * s_.block;
  // Drafts beyond the last token that may follow would be thrown away.
  const bool own_pass = s_.style == DiffusionStyle::kFastDllmV2;
  const size_t most = std::min(room - 1, own_pass ? start + s_.block - n : s_.block - 1);
  const size_t draft_rows = own_pass ? s_.block : 0;
  const auto wanted = [&](size_t at_most, size_t extra_rows) {
    return s_.drafts ? std::min(*s_.drafts, at_most) : BestWidth(history_.Chance(), at_most, extra_rows, costs);
  };
  const size_t tried = std::min(std::exchange(trying_, 0), most);  // drafts of a try are checked, too
  size_t width = std::max(wanted(most, draft_rows), tried);
  if (width == 0 && most != 0 && !s_.drafts) width = trying_ = std::min(Try(draft_rows, costs), most);
  if (own_pass && start == n) {  // the block's first token comes from the block before
    width = trying_ = 0;
    drafts_.clear();
  }
  if (own_pass && drafts_.empty() && width != 0) {
    pass->draft = true;
    pass->first = start;
    pass->attention_block = s_.block;
    pass->tokens.assign(known.begin() + static_cast<std::ptrdiff_t>(start), known.end());
    pass->tokens.resize(s_.block, s_.mask);
    for (size_t i = n; i < start + s_.block; ++i) pass->rows.push_back(static_cast<uint32_t>(i - 1 - start));
    return;
  }
  // Drafts that exist cost only their rows, and masks after them make the next ones.
  if (own_pass) width = drafts_.empty() ? 0 : std::max(wanted(std::min(most, drafts_.size()), 0), tried);
  pass->first = n - 1;
  pass->tokens.push_back(known.back());
  checked_ = std::min(width, drafts_.size());
  pass->tokens.insert(pass->tokens.end(), drafts_.begin(), drafts_.begin() + static_cast<std::ptrdiff_t>(checked_));
  if (!own_pass) pass->tokens.resize(1 + width, s_.mask);
  for (size_t i = 0; i < pass->tokens.size(); ++i) pass->rows.push_back(static_cast<uint32_t>(i));
}

WF_MODEL_INLINE void DraftVerifier::TakeDraft(std::span<const int32_t> best) {
  drafts_.assign(best.begin(), best.end());
}

WF_MODEL_INLINE void DraftVerifier::Verified(size_t accepted, int32_t token, std::span<const int32_t> best) {
  constexpr double kFade = 0.95;
  const double compared = static_cast<double>(accepted + (accepted < checked_ ? 1 : 0));
  if (checked_ != 0) {
    history_.tried = history_.tried * kFade + compared;
    history_.right = history_.right * kFade + static_cast<double>(accepted);
  }
  proposed_ += checked_;
  accepted_ += accepted;
  if (rows_draft()) {
    drafts_.assign(best.begin(), best.end());
  } else if (accepted == checked_ && checked_ < drafts_.size() && drafts_[checked_] == token) {
    drafts_.erase(drafts_.begin(), drafts_.begin() + static_cast<std::ptrdiff_t>(checked_ + 1));  // the rest still fits
  } else {
    drafts_.clear();
  }
  checked_ = 0;
}

}  // namespace wf
#endif  // WF_DECODE_DRAFT_VERIFIER_IMPL_H_
