// SPDX-License-Identifier: Apache-2.0
// What a caller may ask of the choice of tokens: plain data with defaults and one place that validates it.
#ifndef WF_DECODE_SAMPLING_H_
#define WF_DECODE_SAMPLING_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "wf/base/inline.h"
#include "wf/base/status.h"

namespace wf {

struct SamplingParams {
  float temperature = 1.0f;         // [0, 100]; 0 is greedy (lowest id wins ties) and uses no random number
  int32_t top_k = 0;                // 0 or -1: off
  float top_p = 1.0f;               // (0, 1]
  float min_p = 0.0f;               // [0, 1]: keep tokens with p >= min_p * max p
  float repetition_penalty = 1.0f;  // > 0; divides positive and multiplies negative logits of seen tokens
  int32_t repeat_last_n = -1;       // how many last tokens count as seen for repetition_penalty; -1: all, 0: none
  float presence_penalty = 0.0f;    // [-2, 2]; subtracted once from logits of generated tokens
  float frequency_penalty = 0.0f;   // [-2, 2]; subtracted per occurrence among generated tokens
  std::vector<std::pair<int32_t, float>> logit_bias = {};  // token id, [-100, 100]
  int64_t seed = -1;                                       // -1: random, reported back in Timings::seed
};

// kInvalidArgument naming the field, its value and its range; `vocab` is the number of tokens.
Status Validate(const SamplingParams& p, int32_t vocab);

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/decode/sampling-impl.h"
#endif
#endif  // WF_DECODE_SAMPLING_H_
