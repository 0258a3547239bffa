// SPDX-License-Identifier: Apache-2.0
// What the API layer asks of a model's vocabulary: prompts to ids, ids to strings that JSON can hold.
#ifndef WF_SERVER_TEXT_H_
#define WF_SERVER_TEXT_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "wf/base/status.h"
#include "wf/model/model.h"

namespace wf::server {

// A text prompt, with the vocabulary's BOS rule if `first`. An empty text is the BOS alone (the end token of
// vocabularies without one), so that it can be run.
Result<std::vector<int32_t>> EncodePrompt(const Model& model, std::string_view text, bool first);
// Text of ids; invalid UTF-8 becomes U+FFFD.
std::string DecodeIds(const Model& model, std::span<const int32_t> ids);
// A token as its own string: its text, or "bytes:\xe2\x82" if its bytes alone are not UTF-8.
std::string TokenName(std::string_view piece);
// Code points that begin in `piece`: sums are right even where a token ends inside a code point.
int64_t CodePoints(std::string_view piece) noexcept;
bool IsUtf8(std::string_view s) noexcept;

}  // namespace wf::server
#endif  // WF_SERVER_TEXT_H_
