// SPDX-License-Identifier: Apache-2.0
// Which tokens may follow: on every step of random walks a mask is what asking the grammar about each token's bytes by
// itself gives, end tokens come exactly where a text is whole, and something may always follow.
#include "wf/decode/token_mask.h"

#include <algorithm>
#include <boost/json.hpp>
#include <memory>
#include <string>
#include <vector>

#include "tests/catch.h"
#include "tests/model/json_walk.h"
#include "tests/model/model_file.h"
#include "wf/decode/sampler.h"

using wf::CompileJsonSchema;
using wf::ConstrainedState;
using wf::ErrorCode;
using wf::JsonGrammar;
using wf::JsonMatcher;
using wf::Tokenizer;
using wf::TokenMask;
using wf::TokenTable;
using wf::TokenType;
using wf::Vocab;

namespace {

const Tokenizer& Bard() { return wf::test::Bard()->tokenizer(); }

std::shared_ptr<const TokenTable> BardTable() {
  static const auto table = [] {
    const size_t rows = static_cast<size_t>(Bard().size());
    return std::make_shared<const TokenTable>(Bard(), rows, wf::BannedTokens(Bard(), rows));
  }();
  return table;
}

std::shared_ptr<const JsonGrammar> Compile(const std::string& schema) {
  auto grammar = CompileJsonSchema(schema);
  INFO(schema << ": " << grammar.status().message());
  REQUIRE(grammar.ok());
  return *grammar;
}

// A vocabulary of these pieces, which are ASCII, with <eos> behind them.
std::shared_ptr<const TokenTable> TableOf(std::vector<std::string> pieces, size_t rows = 0) {
  Vocab v;
  v.model = "llama";
  v.eos_id = static_cast<int32_t>(pieces.size());
  v.types.assign(pieces.size(), TokenType::kNormal);
  v.tokens = std::move(pieces);
  v.tokens.push_back("<eos>");
  v.types.push_back(TokenType::kControl);
  v.scores.assign(v.tokens.size(), 0);
  const auto tokenizer = Tokenizer::Create(std::move(v));
  INFO(tokenizer.status().message());
  REQUIRE(tokenizer.ok());
  return std::make_shared<const TokenTable>(*tokenizer, std::max(rows, static_cast<size_t>(tokenizer->size())),
                                            std::vector<int32_t>());
}

bool MayFollow(const JsonMatcher& at, const std::string& piece) {
  JsonMatcher m = at;
  return !piece.empty() &&
         std::all_of(piece.begin(), piece.end(), [&](char c) { return m.Advance(static_cast<uint8_t>(c)); });
}

std::vector<int32_t> Allowed(ConstrainedState* state) {
  const auto mask = state->Allowed();
  REQUIRE(mask.ok());
  std::vector<int32_t> ids;
  (*mask)->Members(&ids);
  return ids;
}

ConstrainedState Start(const std::shared_ptr<const TokenTable>& table, const std::string& schema) {
  auto state = ConstrainedState::Create(table, Compile(schema));
  INFO(state.status().message());
  REQUIRE(state.ok());
  return *std::move(state);
}

}  // namespace

TEST_CASE("masks are what the grammar says of each token", "[grammar]") {
  const std::vector<std::string> schemas = {
      "true",
      R"({"type":"object"})",
      R"({"type":"string"})",
      R"({"type":"string","minLength":3,"maxLength":7})",
      R"({"type":"string","maxLength":40})",
      R"({"type":"string","pattern":"^[a-z ]*$"})",
      R"({"type":"string","pattern":".*e.{2,4}$","maxLength":30})",
      R"({"anyOf":[{"type":"string","maxLength":3},{"type":"string","pattern":"^ ?the.*$"},{"enum":["these","those"]}]})",
      R"({"anyOf":[{"type":"string","maxLength":3},{"type":"string","maxLength":9}]})",
      R"({"type":"number","minimum":-3.5,"maximum":1000})",
      R"({"type":"array","items":{"type":"integer"},"minItems":1,"maxItems":3})",
      R"({"type":"object","properties":{"the":{"type":"string"},"and":{"type":"integer"}},"additionalProperties":
          {"type":"boolean"}})",
  };
  wf::Rng rng(5);
  for (const std::string& schema : schemas) {
    INFO(schema);
    const auto grammar = Compile(schema);
    for (int walk = 0; walk < 3; ++walk) {
      size_t steps = 0;
      const auto check = [&](const std::string& text, const TokenMask& mask) {
        if (++steps > 12) return;
        JsonMatcher at(grammar);
        for (const char c : text) REQUIRE(at.Advance(static_cast<uint8_t>(c)));
        for (int32_t id = 0; id < Bard().size(); ++id) {
          const bool text_token = !Bard().IsControl(id) && !Bard().IsEog(id) &&
                                  Bard().vocab().types[static_cast<size_t>(id)] != TokenType::kUnused;
          const bool expected = Bard().IsEog(id) ? at.CanEnd() : text_token && MayFollow(at, Bard().Piece(id));
          if (mask.Has(id) != expected) FAIL_CHECK("token " << id << " '" << Bard().Piece(id) << "' after " << text);
        }
      };
      const auto text = wf::test::RandomText(BardTable(), grammar, &rng, check);
      INFO(text.status().message());
      REQUIRE(text.ok());
      boost::system::error_code error;
      boost::json::parse_options options;
      options.max_depth = 65;
      boost::json::parse(*text, error, {}, options);
      INFO(*text);
      CHECK_FALSE(error);
      JsonMatcher whole(grammar);
      for (const char c : *text) REQUIRE(whole.Advance(static_cast<uint8_t>(c)));
      CHECK(whole.CanEnd());
    }
  }
}

TEST_CASE("a text ends with an end token or where nothing can follow", "[grammar]") {
  const auto table = TableOf({"1", "2", "12", "-", "0", "3", "4", "5", "6", "7", "8", "9", "[", "]", ",", " ", "1]"});
  const int32_t eos = 17;
  ConstrainedState number = Start(table, R"({"type":"integer","maximum":123,"minimum":1})");
  CHECK(Allowed(&number) == std::vector<int32_t>{0, 1, 2, 5, 6, 7, 8, 9, 10, 11});
  CHECK_FALSE(number.CanEnd());
  CHECK_FALSE(number.Accept(eos));
  CHECK_FALSE(number.Accept(4));  // a leading zero
  REQUIRE(number.Accept(2));
  CHECK(Allowed(&number) == std::vector<int32_t>{0, 1, 4, 5, eos});
  CHECK(number.CanEnd());
  CHECK_FALSE(number.Done());
  ConstrainedState other = number;
  CHECK(other.Accept(5));
  CHECK(other.Done());  // 123: no digit may follow
  CHECK(Allowed(&other) == std::vector<int32_t>{eos});
  REQUIRE(number.Accept(eos));
  CHECK(number.Done());
  CHECK(Allowed(&number) == std::vector<int32_t>{eos});
  CHECK_FALSE(number.Accept(0));

  ConstrainedState list = Start(table, R"({"type":"array","items":{"const":1}})");
  CHECK(Allowed(&list) == std::vector<int32_t>{12});
  REQUIRE(list.Accept(12));
  CHECK(Allowed(&list) == std::vector<int32_t>{0, 13, 16});
  REQUIRE(list.Accept(16));
  CHECK(list.Done());
}

TEST_CASE("tokens may hold parts of characters", "[grammar]") {
  // The sample model's vocabulary is bytes: a character beyond ASCII takes several tokens.
  ConstrainedState s = Start(BardTable(), R"({"enum":["é"]})");
  for (const char c : std::string("\"\xC3\xA9\"")) {
    const auto id = Bard().Find(std::string(1, c));
    REQUIRE(id.has_value());
    const std::vector<int32_t> allowed = Allowed(&s);
    CHECK(std::find(allowed.begin(), allowed.end(), *id) != allowed.end());
    CHECK(s.Accept(*id));
  }
  CHECK(s.Done());
}

TEST_CASE("control, unused and banned tokens and rows that are no tokens are never allowed", "[grammar]") {
  Vocab v = Bard().vocab();
  const auto banned = Bard().Find("the");
  REQUIRE(banned.has_value());
  const size_t rows = static_cast<size_t>(Bard().size()) + 70;
  const auto table = std::make_shared<const TokenTable>(Bard(), rows, std::vector<int32_t>{*banned});
  ConstrainedState s = Start(table, R"({"type":"string"})");
  REQUIRE(s.Accept(*Bard().Find("\"")));
  const auto mask = s.Allowed();
  REQUIRE(mask.ok());
  CHECK((*mask)->rows() == rows);
  CHECK_FALSE((*mask)->Has(*banned));
  CHECK_FALSE(s.Accept(*banned));
  size_t text = 0;
  for (int32_t id = 0; id < Bard().size(); ++id) {
    if (Bard().IsControl(id) || v.types[static_cast<size_t>(id)] == TokenType::kUnused) CHECK_FALSE((*mask)->Has(id));
    text += (*mask)->Has(id) ? 1 : 0;
  }
  CHECK(text == (*mask)->Count());
  std::vector<int32_t> in, out;
  (*mask)->Members(&in);
  (*mask)->Others(&out);
  CHECK(in.size() + out.size() == rows);
  CHECK(std::is_sorted(out.begin(), out.end()));
  CHECK(out.back() == static_cast<int32_t>(rows) - 1);
  for (const int32_t id : out) CHECK_FALSE((*mask)->Has(id));
  for (const int32_t id : {-1, static_cast<int32_t>(rows), 1 << 30}) {
    CHECK_FALSE((*mask)->Has(id));
    CHECK_FALSE(s.Accept(id));
  }
}

TEST_CASE("a vocabulary that cannot spell a grammar is refused", "[grammar]") {
  const auto table = TableOf({"1", "[", "]", "11", "2,"});
  const auto list = ConstrainedState::Create(table, Compile(R"({"type":"array","items":{"const":1},"maxItems":1})"));
  CHECK(list.ok());
  const auto longer = ConstrainedState::Create(table, Compile(R"({"type":"array","items":{"const":1}})"));
  CHECK(longer.status().code() == ErrorCode::kUnsupported);
  CHECK(longer.status().message() == "output within a grammar: no token of the vocabulary is the byte 0x20");
}

TEST_CASE("alternatives that multiply at every level end in an error, not in a wait", "[grammar]") {
  // After n times {"x": the value can be meant in 2^n ways.
  const std::string schema =
      R"({"anyOf":[{"type":"object","properties":{"x":{"$ref":"#"},"a":true}},
                   {"type":"object","properties":{"x":{"$ref":"#"},"b":true}}]})";
  ConstrainedState s = Start(BardTable(), schema);
  wf::Status status;
  size_t levels = 0;
  for (bool taken = true; taken && levels < 64; ++levels) {
    for (const char c : std::string("{\"x\":")) taken = taken && s.Accept(*Bard().Find(std::string(1, c)));
    const auto mask = s.Allowed();
    status = mask.status();
    if (!status.ok()) break;
  }
  CHECK(levels > 8);
  CHECK(status.code() == ErrorCode::kLimit);
  CHECK(status.message() == "the schema has too many alternatives to follow at once");
}
