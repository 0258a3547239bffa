// SPDX-License-Identifier: Apache-2.0
// A forward pass that one sequence asks for: plain data between a way of decoding, which knows what it needs, and the
// engine, which joins the passes of all sequences into one.
#ifndef WF_DECODE_PASS_H_
#define WF_DECODE_PASS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace wf {

struct Pass {
  std::vector<int32_t> tokens;  // inputs of positions first .. first + tokens.size() - 1
  size_t first = 0;
  size_t attention_block = 1;  // as in SequenceRows (model/transformer.h)
  size_t keys = 0;
  std::vector<uint32_t> rows;  // of the tokens, those that need logits; ascending
  bool draft = false;          // its K and V serve this pass only: what the cache holds must be kept
  bool prefill = false;        // computes nothing but tokens of the prompt

  void Clear() {
    tokens.clear();
    rows.clear();
    first = keys = 0;
    attention_block = 1;
    draft = prefill = false;
  }
};

}  // namespace wf
#endif  // WF_DECODE_PASS_H_
