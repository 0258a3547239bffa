// SPDX-License-Identifier: Apache-2.0
// Parses the input as a chat template and renders it for a small conversation under small limits. Whatever the
// template does, the result is text within the limit or a Status.
#include "wf/tokenizer/chat_template.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const wf::jinja::Value kGlobals = [] {
    auto globals = wf::jinja::ValueFromJson(R"({
      "messages": [{"role": "system", "content": " Be brief. "}, {"role": "user", "content": "Hi <|eot_id|> \u00df"},
                   {"role": "assistant", "content": null,
                    "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]},
                   {"role": "tool", "content": [{"type": "text", "text": "2.5"}]}],
      "tools": [{"type": "function",
                 "function": {"name": "f", "parameters": {"properties": {"x": {"type": "integer"}}}}}],
      "add_generation_prompt": true, "bos_token": "<s>", "eos_token": "</s>",
      "s": "Hello, World", "n": 7, "f": 2.5, "l": [3, 1, 2], "d": {"a": 1, "b": [1, {"c": null}]}})",
                                            true);
    if (!globals.ok()) std::abort();
    return *std::move(globals);
  }();
  wf::jinja::Limits limits;
  limits.source_bytes = 1 << 16;
  limits.output_bytes = 1 << 16;
  limits.steps = 20000;
  limits.depth = 16;
  limits.range = 1000;
  auto parsed = wf::ChatTemplate::Parse(std::string_view(reinterpret_cast<const char*>(data), size), limits);
  if (!parsed.ok()) return 0;
  auto segments = parsed->Render(kGlobals, limits, 1753531200);
  if (!segments.ok()) {
    if (segments.status().code() == wf::ErrorCode::kInternal) std::abort();
    return 0;
  }
  size_t total = 0;
  bool first = true, user = false;
  for (const wf::RenderedSegment& s : *segments) {
    if (s.text.empty() || (!first && s.user == user)) std::abort();
    total += s.text.size();
    first = false;
    user = s.user;
  }
  if (total > limits.output_bytes) std::abort();
  return 0;
}
