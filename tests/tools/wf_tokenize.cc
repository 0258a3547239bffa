// SPDX-License-Identifier: Apache-2.0
// For Python tests: encodes or decodes one JSON object a line of stdin with the vocabulary of a Hugging Face
// folder or GGUF file, one JSON line each on stdout.
//   {"text": "...", "add_special": bool, "parse_special": bool}          -> [ids]
//   {"segments": [["text", parse_special], ...], "add_special": bool}    -> [ids]
//   {"ids": [...], "skip_special": bool}                                 -> "text", invalid UTF-8 replaced
//   {"write": "FILE.gguf"}                                               -> true: a file with only the vocabulary
#include <sys/stat.h>

#include <boost/json.hpp>
#include <iostream>
#include <string>
#include <vector>

#include "wf/formats/gguf.h"
#include "wf/formats/gguf_writer.h"
#include "wf/tokenizer/tokenizer.h"
#include "wf/tokenizer/utf8.h"
#include "wf/tokenizer/vocab_hf.h"

namespace {

namespace json = boost::json;

wf::Result<wf::Tokenizer> Load(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) return wf::Tokenizer::FromHf(path);
  WF_ASSIGN(const wf::Gguf gguf, wf::Gguf::Open(path));
  return wf::Tokenizer::FromGguf(gguf);
}

bool Flag(const json::object& o, const char* key) {
  const json::value* v = o.if_contains(key);
  return v != nullptr && v->is_bool() && v->get_bool();
}

wf::Result<json::value> Answer(const wf::Tokenizer& t, const json::object& o) {
  if (const json::value* path = o.if_contains("write")) {
    wf::GgufWriter writer;
    writer.SetString("general.architecture", "bitnet-b1.58");
    wf::WriteVocab(t.vocab(), &writer);
    WF_TRY(writer.Begin(path->as_string().c_str()));
    WF_TRY(writer.Finish());
    return json::value(true);
  }
  if (const json::value* list = o.if_contains("ids")) {
    wf::Utf8Decoder decoder;
    std::string text = decoder.Push(t.Decode(json::value_to<std::vector<int32_t>>(*list), Flag(o, "skip_special")));
    text += decoder.Flush();
    return json::value(text);
  }
  std::vector<wf::Tokenizer::Segment> segments;
  const auto view = [](const json::string& s) { return std::string_view(s.data(), s.size()); };
  if (const json::value* list = o.if_contains("segments")) {
    for (const json::value& s : list->as_array()) {
      segments.push_back({view(s.as_array().at(0).as_string()), s.as_array().at(1).as_bool()});
    }
  } else {
    segments.push_back({view(o.at("text").as_string()), Flag(o, "parse_special")});
  }
  WF_ASSIGN(const std::vector<int32_t> ids, t.EncodeSegments(segments, Flag(o, "add_special")));
  return json::value_from(ids);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: wf_tokenize FOLDER|FILE.gguf < lines\n";
    return 2;
  }
  const wf::Result<wf::Tokenizer> tokenizer = Load(argv[1]);
  if (!tokenizer.ok()) {
    std::cerr << tokenizer.status().message() << '\n';
    return 1;
  }
  for (const std::string& w : tokenizer->vocab().warnings) std::cerr << "warning: " << w << '\n';
  for (std::string line; std::getline(std::cin, line);) {
    try {
      const wf::Result<json::value> answer = Answer(*tokenizer, json::parse(line).as_object());
      if (!answer.ok()) {
        std::cerr << answer.status().message() << '\n';
        return 1;
      }
      std::cout << json::serialize(*answer) << '\n';
    } catch (const std::exception& e) {
      std::cerr << "bad line: " << e.what() << '\n';
      return 1;
    }
  }
  return 0;
}
