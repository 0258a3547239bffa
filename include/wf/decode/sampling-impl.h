// SPDX-License-Identifier: Apache-2.0
// Bodies of sampling.h.
#ifndef WF_DECODE_SAMPLING_IMPL_H_
#define WF_DECODE_SAMPLING_IMPL_H_

#include <cmath>
#include <string>

#include "wf/decode/sampling.h"

namespace wf {

WF_MODEL_INLINE Status Validate(const SamplingParams& p, int32_t vocab) {
  const auto bad = [](const char* field, double v, const char* range) {
    return InvalidArgument(std::string(field) + " = " + std::to_string(v) + ", expected " + range);
  };
  if (!(p.temperature >= 0 && p.temperature <= 100))
    return bad("temperature", static_cast<double>(p.temperature), "0 to 100");
  if (p.top_k < -1) return bad("top_k", p.top_k, "-1 or more");
  if (!(p.top_p > 0 && p.top_p <= 1)) return bad("top_p", static_cast<double>(p.top_p), "above 0, at most 1");
  if (!(p.min_p >= 0 && p.min_p <= 1)) return bad("min_p", static_cast<double>(p.min_p), "0 to 1");
  if (!(p.repetition_penalty > 0 && std::isfinite(p.repetition_penalty))) {
    return bad("repetition_penalty", static_cast<double>(p.repetition_penalty), "above 0");
  }
  if (p.repeat_last_n < -1) return bad("repeat_last_n", p.repeat_last_n, "-1 or more");
  if (!(std::fabs(p.presence_penalty) <= 2))
    return bad("presence_penalty", static_cast<double>(p.presence_penalty), "-2 to 2");
  if (!(std::fabs(p.frequency_penalty) <= 2))
    return bad("frequency_penalty", static_cast<double>(p.frequency_penalty), "-2 to 2");
  for (const auto& [id, v] : p.logit_bias) {
    if (id < 0 || id >= vocab) return bad("logit_bias: token id", id, "an id of the vocabulary");
    if (!(std::fabs(v) <= 100)) return bad("logit_bias", static_cast<double>(v), "-100 to 100");
  }
  if (p.seed < -1) return bad("seed", static_cast<double>(p.seed), "-1 (random) or more");
  return OkStatus();
}

}  // namespace wf
#endif  // WF_DECODE_SAMPLING_IMPL_H_
