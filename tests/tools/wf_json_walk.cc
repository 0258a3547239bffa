// SPDX-License-Identifier: Apache-2.0
// For Python tests: random texts within a schema, written token by token with the vocabulary of a Hugging Face folder.
// One JSON object a line of stdin, one JSON line each on stdout; "schema": null means any object.
//   {"schema": ..., "walks": N, "seed": N}   -> ["text", ...]
//   {"schema": ..., "texts": ["...", ...]}   -> [whether the grammar has that text, ...]
// A schema that is refused gives {"error": "message"}.
#include <boost/json.hpp>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "tests/model/json_walk.h"
#include "wf/decode/json_grammar.h"
#include "wf/decode/token_mask.h"
#include "wf/tokenizer/tokenizer.h"

namespace {

namespace json = boost::json;

wf::Result<json::value> Answer(const std::shared_ptr<const wf::TokenTable>& table, const json::object& o) {
  std::shared_ptr<const wf::JsonGrammar> grammar = wf::JsonObjectGrammar();
  if (!o.at("schema").is_null()) {
    wf::Result<std::shared_ptr<const wf::JsonGrammar>> compiled =
        wf::CompileJsonSchema(json::serialize(o.at("schema")));
    if (!compiled.ok()) return json::value{{"error", compiled.status().message()}};
    grammar = *compiled;
  }
  json::array out;
  if (const json::value* texts = o.if_contains("texts")) {
    for (const json::value& text : texts->as_array()) {
      wf::JsonMatcher matcher(grammar);
      bool good = true;
      for (const char c : text.as_string()) good = good && matcher.Advance(static_cast<uint8_t>(c));
      out.emplace_back(good && matcher.CanEnd());
    }
    return json::value(std::move(out));
  }
  wf::Rng rng(o.at("seed").to_number<uint64_t>());
  for (int64_t i = o.at("walks").to_number<int64_t>(); i > 0; --i) {
    WF_ASSIGN(const std::string text, wf::test::RandomText(table, grammar, &rng));
    out.emplace_back(text);
  }
  return json::value(std::move(out));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: wf_json_walk FOLDER < lines\n";
    return 2;
  }
  const wf::Result<wf::Tokenizer> tokenizer = wf::Tokenizer::FromHf(argv[1]);
  if (!tokenizer.ok()) {
    std::cerr << tokenizer.status().message() << '\n';
    return 1;
  }
  const size_t rows = static_cast<size_t>(tokenizer->size());
  const auto table = std::make_shared<const wf::TokenTable>(*tokenizer, rows, wf::BannedTokens(*tokenizer, rows));
  for (std::string line; std::getline(std::cin, line);) {
    try {
      const wf::Result<json::value> answer = Answer(table, json::parse(line).as_object());
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
