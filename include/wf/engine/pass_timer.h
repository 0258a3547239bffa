// SPDX-License-Identifier: Apache-2.0
// What a pass over some rows costs here, measured: passes at the beginning of a sequence of no meaning.
#ifndef WF_ENGINE_PASS_TIMER_H_
#define WF_ENGINE_PASS_TIMER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "wf/base/inline.h"
#include "wf/decode/pass_costs.h"
#include "wf/model/transformer.h"

namespace wf {

class PassTimer {
 public:
  // What the rows ask of the output head.
  enum class Head : uint8_t {
    kNone,    // nothing: prefill
    kChoice,  // the best token of each row: greedy requests, drafts and their verification
    kLogits,  // all logits of each row: probabilities
  };

  // Writes K and V into `blocks`, which must outlive it. `vocab` of the transformer's model.
  PassTimer(Transformer* transformer, size_t vocab, std::span<uint8_t* const> blocks)
      : transformer_(*transformer), vocab_(vocab), blocks_(blocks) {}

  // Milliseconds of one pass over `rows` tokens of a sequence that has no others; the blocks hold as many positions.
  double Ms(size_t rows, Head head);

 private:
  Transformer& transformer_;
  size_t vocab_;
  std::span<uint8_t* const> blocks_;
  std::vector<int32_t> tokens_;
  std::vector<float> logits_;
  std::vector<std::vector<Candidate>> candidates_;
};

// For choices between numbers of rows that get the best token each; `block` is for K and V. Takes several passes of up
// to a block's rows.
PassCosts MeasurePassCosts(Transformer* transformer, size_t vocab, uint8_t* block);

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/engine/pass_timer-impl.h"
#endif
#endif  // WF_ENGINE_PASS_TIMER_H_
