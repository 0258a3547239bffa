// SPDX-License-Identifier: Apache-2.0
// Questions to the output head that need not all of its logits: plain data between the sampler, which knows what can
// change its choice, and the model, which finds those rows without computing the others (fast_head.h).
#ifndef WF_MODEL_HEAD_QUERY_H_
#define WF_MODEL_HEAD_QUERY_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace wf {

// kFull: every row of the head is multiplied for every token. kFast: a coarse copy of the head is kept in memory for
// queries, whatever it saves. kAuto: kFast where it pays.
enum class HeadMode : uint8_t { kAuto, kFull, kFast };

// A token and its logit: the very bits that the product with the whole head gives.
struct Candidate {
  int32_t id = 0;
  float logit = 0;
};

// Asks for every token whose logit may be among the `top` highest (ties included) or, if range >= 0, at most `range`
// below the highest; both count the tokens that are neither in `banned` nor in `always`. Tokens of `always` are part of
// the answer, those of `banned` never, and there may be more than were asked for. Both ascend; ids below the
// vocabulary.
struct HeadQuery {
  size_t top = 1;
  float range = -1;
  std::span<const int32_t> banned = {}, always = {};
};

struct HeadStats {
  uint64_t bytes = 0;     // of the copy, 0: there is none
  bool ready = false;     // it answers queries
  uint64_t queries = 0;   // asked
  uint64_t answered = 0;  // by candidates; the rest got logits
  uint64_t rescored = 0;  // rows multiplied for those that were answered
};

}  // namespace wf
#endif  // WF_MODEL_HEAD_QUERY_H_
