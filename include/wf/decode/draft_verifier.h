// SPDX-License-Identifier: Apache-2.0
// Lossless decoding with drafts from masks (semantics.md 4.4): passes whose input holds drafted tokens check them
// against what the model says itself, row by row with causal attention, so that the text is the autoregressive one.
// This class keeps the drafts and decides how many are worth a pass's rows; the choice of tokens is its caller's.
#ifndef WF_DECODE_DRAFT_VERIFIER_H_
#define WF_DECODE_DRAFT_VERIFIER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "wf/base/inline.h"
#include "wf/decode/mode.h"
#include "wf/decode/pass.h"
#include "wf/decode/pass_costs.h"

namespace wf {

// How drafts fared, fading: shared by the requests of an engine, so that a short answer knows what earlier ones learnt.
struct DraftHistory {
  double tried = 1, right = 0.8;  // drafts that came to be compared, and of them accepted; begins with a hope
  double idle_ms = 0;             // spent in passes without drafts since they were last tried
  double Chance() const noexcept { return right / tried; }
};

class DraftVerifier {
 public:
  // `settings` of mode kVerify. `history` of drafts of the same style must outlive it.
  DraftVerifier(const DecodeSettings& settings, DraftHistory* history) : s_(settings), history_(*history) {}

  // The next pass, when all of `known` (prompt and output so far) but the last token has its K and V in the cache and
  // at most `room` >= 1 tokens may follow. A pass marked `draft` is answered by TakeDraft(), others by Verified().
  // `costs` of passes decide the number of drafts where the settings do not; without them it is a whole block.
  void Plan(std::span<const int32_t> known, size_t room, const PassCosts& costs, Pass* pass);
  // The drafts that the planned pass checks: draft i is the input of the row after the one that predicts it.
  std::span<const int32_t> drafts() const noexcept { return {drafts_.data(), checked_}; }
  // Of a draft pass: the best token of each row.
  void TakeDraft(std::span<const int32_t> best);
  // Of the other passes: `accepted` drafts were what the model chose, and `token` followed. `best`: the best token of
  // each of the pass's rows from the one at that token's position on, which draft for what comes next (rows_draft()
  // only).
  void Verified(size_t accepted, int32_t token, std::span<const int32_t> best);

  size_t proposed() const noexcept { return proposed_; }  // drafts checked so far
  size_t accepted() const noexcept { return accepted_; }
  // Whether rows after the accepted ones draft: if not, their best tokens are of no use.
  bool rows_draft() const noexcept { return s_.style == DiffusionStyle::kCausal; }

  // Which number of drafts, at most `most`, gives the most tokens a millisecond, if each draft is accepted with
  // probability p after those before it. draft_rows: of a pass of its own that makes them, 0: none.
  static size_t BestWidth(double p, size_t most, size_t draft_rows, const PassCosts& costs);

 private:
  size_t Try(size_t draft_rows, const PassCosts& costs);

  DecodeSettings s_;
  DraftHistory& history_;
  std::vector<int32_t> drafts_;
  size_t trying_ = 0;   // drafts to be checked whatever they cost
  size_t checked_ = 0;  // of them, by the pass under way
  size_t proposed_ = 0, accepted_ = 0;
};

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/decode/draft_verifier-impl.h"
#endif
#endif  // WF_DECODE_DRAFT_VERIFIER_H_
