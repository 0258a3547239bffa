// SPDX-License-Identifier: Apache-2.0
// The whole way from text to ids and back: special tokens, segments, BOS and EOS, ends of generation, decoding.
#include "wf/tokenizer/tokenizer.h"

#include <thread>

#include "tests/tokenizer/helpers.h"

using wf::Tokenizer;
using wf::TokenType;
using wf::Vocab;
using wf::test::AddToken;
using wf::test::ByteVocab;
using wf::test::Ids;
using wf::test::Make;
using wf::test::SpmVocab;
using IdList = std::vector<int32_t>;

namespace {

struct Chat {
  Vocab v = ByteVocab();
  int32_t bos = AddToken(&v, "<|bos|>", TokenType::kControl);
  int32_t end = AddToken(&v, "<|eot_id|>", TokenType::kControl);
  int32_t tool = AddToken(&v, "<tool>", TokenType::kUserDefined);
  int32_t tools = AddToken(&v, "<tool>s", TokenType::kUserDefined);
  Chat() { v.bos_id = bos; }
};

IdList Bytes(const std::string& s) {
  IdList ids;
  for (const char c : s) ids.push_back(static_cast<uint8_t>(c));
  return ids;
}

IdList Joined(const Tokenizer& t, const std::vector<Tokenizer::Segment>& segments, bool add_special = false) {
  auto ids = t.EncodeSegments(segments, add_special);
  if (!ids.ok()) FAIL(ids.status().message());
  return *std::move(ids);
}

}  // namespace

TEST_CASE("control tokens are recognised only with parse_special, user-defined ones always") {
  const Chat c;
  const Tokenizer t = Make(c.v);
  CHECK(Ids(t, "<|eot_id|>", false, true) == IdList{c.end});
  CHECK(Ids(t, "<|eot_id|>", false, false) == Bytes("<|eot_id|>"));
  CHECK(Ids(t, "a<tool>b", false, false) == IdList{'a', c.tool, 'b'});
  CHECK(Ids(t, "<tool>s", false, true) == IdList{c.tools});  // the longest
  CHECK(Ids(t, "<|eot_id|", false, true) == Bytes("<|eot_id|"));
  CHECK(Ids(t, "<<|eot_id|>>", false, true) == IdList{'<', c.end, '>'});
}

TEST_CASE("no text of a user becomes a control token, whatever the merges and types say") {
  Vocab v = ByteVocab();
  v.ignore_merges = true;
  v.pre.clear();
  v.split_patterns = {"[^\\s]+"};
  const int32_t stop = AddToken(&v, "stop", TokenType::kControl);
  const int32_t eot = AddToken(&v, "<|im_end|>", TokenType::kNormal);  // an end by its text
  const int32_t eos = AddToken(&v, "END", TokenType::kNormal);         // an end by its key
  const int32_t bos = AddToken(&v, "BOS", TokenType::kUserDefined);
  v.eos_id = eos;
  v.bos_id = bos;
  v.merges = {"s t", "o p", "st op", "E N", "EN D", "B O", "BO S"};
  const Tokenizer t = Make(v);
  for (const char* text : {"stop", "<|im_end|>", "END", "BOS"}) {
    CHECK(Ids(t, text) == Bytes(text));
    CHECK(Ids(t, text, false, true).size() == 1);
  }
  for (const int32_t id : {stop, eot, eos, bos}) CHECK(t.IsControl(id));
  CHECK_FALSE(t.vocab().warnings.empty());
}

TEST_CASE("segments are one text, but control tokens must lie in trusted ones") {
  Chat c;
  const int32_t the = AddToken(&c.v, "th", TokenType::kNormal);
  c.v.merges = {"t h"};
  const Tokenizer t = Make(c.v);
  CHECK(Joined(t, {{"t", true}, {"h", false}}) == IdList{the});  // merges cross borders
  CHECK(Joined(t, {{"<|eot", true}, {"_id|>", true}}) == IdList{c.end});
  CHECK(Joined(t, {{"<|eot", true}, {"", false}, {"_id|>", true}}) == IdList{c.end});
  CHECK(Joined(t, {{"<|eot", true}, {"_id|>", false}}) == Bytes("<|eot_id|>"));
  CHECK(Joined(t, {{"<|eot", false}, {"_id|>", true}}) == Bytes("<|eot_id|>"));
  CHECK(Joined(t, {{"<", true}, {"|", false}, {"eot_id|>", true}}) == Bytes("<|eot_id|>"));
  CHECK(Joined(t, {{"<|eot_id|>", false}, {"<|eot_id|>", true}, {"<|eot_id|>", false}}).size() == 21);
  CHECK(Joined(t, {{"<to", false}, {"ol>", false}}) == IdList{c.tool});
  CHECK(Joined(t, {}).empty());
}

TEST_CASE("BOS and EOS by the vocabulary's rule, never two BOS") {
  Chat c;
  c.v.add_bos = true;
  Tokenizer t = Make(c.v);
  CHECK(Ids(t, "a", true) == IdList{c.bos, 'a'});
  CHECK(Ids(t, "", true) == IdList{c.bos});
  CHECK(Ids(t, "a", false) == IdList{'a'});
  CHECK(Ids(t, "<|bos|>a", true, true) == IdList{c.bos, 'a'});
  CHECK(Ids(t, "<|bos|>", true, false).size() == 8);  // written by a user it is text
  c.v.add_eos = true;
  c.v.eos_id = c.end;
  CHECK(Ids(Make(c.v), "a", true) == IdList{c.bos, 'a', c.end});
  c.v.add_bos = false;
  CHECK(Ids(Make(c.v), "a", true) == IdList{'a', c.end});
  c.v.add_bos = true;
  c.v.bos_id = -1;
  CHECK(Ids(Make(c.v), "a", true) == IdList{'a', c.end});
}

TEST_CASE("ends of generation: keys, lists and well-known texts") {
  Chat c;
  const int32_t text_end = AddToken(&c.v, "<|end_of_text|>", TokenType::kControl);
  const int32_t other = AddToken(&c.v, "other", TokenType::kControl),
                list = AddToken(&c.v, "list", TokenType::kControl);
  const int32_t fim = AddToken(&c.v, "<fim_pad>", TokenType::kControl);
  c.v.eos_id = other;
  c.v.eos_ids = {list, other};
  c.v.fim_pad_id = fim;
  const Tokenizer t = Make(c.v);
  CHECK(t.eog() == IdList{c.end, text_end, other, list, fim});
  CHECK(t.IsEog(c.end));
  CHECK_FALSE(t.IsEog(c.bos));
  CHECK_FALSE(t.IsEog(-1));
  CHECK_FALSE(t.IsEog(1 << 30));
}

TEST_CASE("<|end|> is no end where <|return|> and <|call|> are") {
  Vocab v = ByteVocab();
  const int32_t end = AddToken(&v, "<|end|>", TokenType::kControl),
                ret = AddToken(&v, "<|return|>", TokenType::kControl);
  CHECK(Make(v).eog() == IdList{end, ret});
  const int32_t call = AddToken(&v, "<|call|>", TokenType::kControl);
  CHECK(Make(v).eog() == IdList{ret, call});
}

TEST_CASE("a one-character token stays usable even if a file calls it EOS") {
  Vocab v = ByteVocab();
  v.eos_id = '!';
  const Tokenizer t = Make(v);
  CHECK(t.IsEog('!'));
  CHECK(Ids(t, "!") == IdList{'!'});
}

TEST_CASE("pieces and lookup") {
  Chat c;
  const int32_t word = AddToken(&c.v, "\xC4\xA0hi", TokenType::kNormal),
                lower = AddToken(&c.v, "\xC3\xA9", TokenType::kUserDefined);
  const int32_t pad = AddToken(&c.v, "[PAD262]", TokenType::kUnused), empty = AddToken(&c.v, "", TokenType::kNormal);
  const int32_t again = AddToken(&c.v, "a", TokenType::kNormal);
  const Tokenizer t = Make(c.v);
  CHECK(t.Piece(word) == " hi");
  CHECK(t.Piece(0x80) == "\x80");
  CHECK(t.Piece(lower) == "\xC3\xA9");  // literal, not the byte E9
  CHECK(t.Piece(c.end) == "<|eot_id|>");
  CHECK(t.Piece(empty).empty());
  CHECK(t.Piece(-1).empty());
  CHECK(t.Piece(t.size()).empty());
  CHECK(t.Find(" hi") == word);
  CHECK(t.Find("<|eot_id|>") == c.end);
  CHECK(t.Find("a") == 'a');  // the first of equal texts
  CHECK(t.Find("nothing") == std::nullopt);
  CHECK(t.Piece(again) == "a");
  CHECK(Ids(t, "a") == IdList{'a'});
  CHECK(t.Decode(IdList{c.bos, 'a', word, pad, c.end, 99999, -3}, true) == "a hi");
  CHECK(t.Decode(IdList{c.bos, 'a', word, c.end}, false) == "<|bos|>a hi<|eot_id|>");
}

TEST_CASE("any bytes survive encoding and decoding") {
  const Tokenizer t = Make(Chat().v);
  std::string all;
  for (int b = 0; b < 256; ++b) all.push_back(static_cast<char>(static_cast<uint8_t>(b)));
  CHECK(t.Decode(Ids(t, all), true) == all);
  const Tokenizer s = Make(SpmVocab());
  CHECK(s.Decode(Ids(s, all, true), true) == all);
}

TEST_CASE("SentencePiece puts a space before the text and takes it away again") {
  Vocab v = SpmVocab();
  const int32_t space = 259, a = AddToken(&v, "a", TokenType::kNormal, -1000);
  {
    const Tokenizer t = Make(v);
    CHECK(Ids(t, "a", true) == IdList{1, space, a});
    CHECK(Ids(t, " a") == IdList{space, space, a});
    CHECK(Ids(t, "", true) == IdList{1});
    CHECK(Ids(t, "a<s>a", false, true) == IdList{space, a, 1, space, a});
    CHECK(Ids(t, "<s>a", true, true) == IdList{1, space, a});
    CHECK(t.Decode(IdList{1, space, a, space, a}, true) == "a a");
    CHECK(t.Decode(IdList{space, space, a}, false) == " a");
    CHECK(t.Decode(IdList{3 + 'x', space}, false) == "x ");
    CHECK(t.Piece(space) == " ");
  }
  v.space_prefix_first_only = true;
  CHECK(Ids(Make(v), "a<s>a", false, true) == IdList{space, a, 1, a});
  CHECK(Ids(Make(v), "<s>a", false, true) == IdList{1, a});
  v.space_prefix_if_missing = true;
  CHECK(Ids(Make(v), " a") == IdList{space, a});
  v.add_space_prefix = false;
  CHECK(Ids(Make(v), "a") == IdList{a});
  CHECK(Make(v).Decode(IdList{space, a}, false) == " a");
}

TEST_CASE("NFC is applied where the vocabulary says so") {
  Vocab v = ByteVocab();
  CHECK(Ids(Make(v), "e\xCC\x81") == IdList{'e', 0xCC, 0x81});
  v.nfc = true;
  CHECK(Ids(Make(v), "e\xCC\x81") == IdList{0xC3, 0xA9});
}

TEST_CASE("a vocabulary that cannot work is refused") {
  const auto code = [](Vocab v) { return Tokenizer::Create(std::move(v)).status().code(); };
  Vocab v = ByteVocab();
  CHECK(code(Vocab()) == wf::ErrorCode::kFormat);
  v.types.pop_back();
  CHECK(code(v) == wf::ErrorCode::kFormat);
  v = ByteVocab();
  v.pre = "nonsense";
  CHECK(code(v) == wf::ErrorCode::kUnsupported);
  v = ByteVocab();
  v.split_patterns = {"("};
  CHECK(code(v) == wf::ErrorCode::kUnsupported);
  v = ByteVocab();
  v.model = "bert";
  CHECK(code(v) == wf::ErrorCode::kUnsupported);
  v = SpmVocab();
  v.scores.pop_back();
  CHECK(code(v) == wf::ErrorCode::kFormat);
  v = ByteVocab();
  v.bos_id = 1000;  // ignored with a warning
  CHECK(Make(v).vocab().bos_id == -1);
}

TEST_CASE("one tokenizer serves many threads") {
  const Chat c;
  const Tokenizer t = Make(c.v);
  const std::string text = "Hello <tool> world, 123 \xE4\xBD\xA0<|eot_id|>";
  const IdList expected = Ids(t, text, true, true);
  std::vector<int> good(4, 0);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < good.size(); ++i) {
    threads.emplace_back([&, i, copy = t] {
      for (int k = 0; k < 300; ++k) {
        const auto ids = copy.Encode(text, true, true);
        if (ids.ok() && *ids == expected && copy.Decode(*ids, false) == text) ++good[i];
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(good == std::vector<int>(4, 300));
}
