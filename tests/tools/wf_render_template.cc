// SPDX-License-Identifier: Apache-2.0
// Renders chat templates for the Python tests. Reads one JSON object per line from standard input,
// {"template": "...", "context": {...}, "now": seconds}, and answers each with {"text": "..."} or {"error": "..."}.
#include <boost/json.hpp>
#include <iostream>
#include <optional>
#include <string>

#include "wf/tokenizer/chat_template.h"

namespace {

namespace json = boost::json;

wf::Result<std::string> Render(const std::string& line) {
  json::error_code error;
  json::parse_options options;
  options.max_depth = 200;
  json::value request = json::parse(line, error, {}, options);
  if (error || !request.is_object()) return wf::FormatError("request is not a JSON object");
  const json::object& o = request.get_object();
  const json::value *source = o.if_contains("template"), *context = o.if_contains("context");
  if (source == nullptr || !source->is_string() || context == nullptr) {
    return wf::FormatError("request lacks template or context");
  }
  std::optional<int64_t> now;
  if (const json::value* n = o.if_contains("now"); n != nullptr && n->is_int64()) now = n->get_int64();
  WF_ASSIGN(wf::jinja::Value globals, wf::jinja::ValueFromJson(json::serialize(*context), true));
  WF_ASSIGN(wf::ChatTemplate chat, wf::ChatTemplate::Parse(std::string_view(source->get_string())));
  WF_ASSIGN(std::vector<wf::RenderedSegment> segments, chat.Render(globals, {}, now));
  std::string text;
  for (const wf::RenderedSegment& s : segments) text += s.text;
  return text;
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    json::object answer;
    auto text = Render(line);
    if (text.ok()) {
      answer["text"] = *text;
    } else {
      answer["error"] = text.status().message();
      answer["code"] = wf::ErrorName(text.status().code());
    }
    std::cout << json::serialize(answer) << "\n" << std::flush;
  }
  return 0;
}
