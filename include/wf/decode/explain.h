// SPDX-License-Identifier: Apache-2.0
// In words: which of the ways that give the same text are taken, and what was measured for it.
#ifndef WF_DECODE_EXPLAIN_H_
#define WF_DECODE_EXPLAIN_H_

#include <string>

#include "wf/base/inline.h"
#include "wf/decode/mode.h"
#include "wf/decode/pass_costs.h"

namespace wf {

// Lines for people; without costs only what was asked for.
std::string ExplainDecode(const DecodeSettings& settings, const PassCosts& costs);

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/decode/explain-impl.h"
#endif
#endif  // WF_DECODE_EXPLAIN_H_
