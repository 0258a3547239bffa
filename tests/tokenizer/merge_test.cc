// SPDX-License-Identifier: Apache-2.0
// Merging inside a word: byte-level BPE by rank, SentencePiece-style by score or by the merges of a tokenizer.json.
#include <chrono>
#include <limits>

#include "tests/tokenizer/helpers.h"
#include "wf/tokenizer/byte_alphabet.h"
#include "wf/tokenizer/spm.h"

using wf::TokenType;
using wf::Vocab;
using wf::test::AddToken;
using wf::test::ByteVocab;
using wf::test::Ids;
using wf::test::Make;
using wf::test::SpmVocab;
using IdList = std::vector<int32_t>;

TEST_CASE("the byte alphabet") {
  CHECK(wf::BytesToAlphabet(std::string_view("\0\n\r\t \x7F\x80\xA0\xAD", 9)) ==
        "\xC4\x80\xC4\x8A\xC4\x8D\xC4\x89\xC4\xA0\xC4\xA1\xC4\xA2\xC5\x82\xC5\x83");
  CHECK(wf::BytesToAlphabet("!~\xA1\xAC\xAE\xFF") == "!~\xC2\xA1\xC2\xAC\xC2\xAE\xC3\xBF");
  for (int b = 0; b < 256; ++b) {
    const std::string byte(1, static_cast<char>(static_cast<uint8_t>(b)));
    std::string back;
    CHECK(wf::AlphabetToBytes(wf::BytesToAlphabet(byte), &back));
    CHECK(back == byte);
  }
  std::string bytes;
  CHECK_FALSE(wf::AlphabetToBytes(" ", &bytes));             // a space is written U+0120
  CHECK_FALSE(wf::AlphabetToBytes("\xEF\xBD\x9C", &bytes));  // U+FF5C
  CHECK_FALSE(wf::AlphabetToBytes("\xC5\x84", &bytes));      // U+0144, behind the last
  CHECK_FALSE(wf::AlphabetToBytes("\xFF", &bytes));
}

TEST_CASE("the pair of the lowest rank merges first, the leftmost of equals") {
  Vocab v = ByteVocab();
  const int32_t ab = AddToken(&v, "ab", TokenType::kNormal), bc = AddToken(&v, "bc", TokenType::kNormal);
  const int32_t aa = AddToken(&v, "aa", TokenType::kNormal);
  v.merges = {"b c", "a b", "a a"};
  const wf::Tokenizer t = Make(v);
  CHECK(Ids(t, "abc") == IdList{'a', bc});
  CHECK(Ids(t, "abab") == IdList{ab, ab});
  CHECK(Ids(t, "aaa") == IdList{aa, 'a'});
}

TEST_CASE("of equal merges the first counts") {
  Vocab v = ByteVocab();
  const int32_t ab = AddToken(&v, "ab", TokenType::kNormal);
  AddToken(&v, "bc", TokenType::kNormal);
  v.merges = {"a b", "b c", "a b"};
  CHECK(Ids(Make(v), "abc") == IdList{ab, 'c'});
}

TEST_CASE("a whole word that is a token stays whole only with ignore_merges") {
  Vocab v = ByteVocab();
  const int32_t abc = AddToken(&v, "abc", TokenType::kNormal);
  CHECK(Ids(Make(v), "abc") == IdList{'a', 'b', 'c'});
  v.ignore_merges = true;
  CHECK(Ids(Make(v), "abc") == IdList{abc});
  CHECK(Ids(Make(v), "abcd") == IdList{'a', 'b', 'c', 'd'});
}

TEST_CASE("a merge whose result is no token is undone into bytes") {
  Vocab v = ByteVocab();
  v.merges = {"a b", "ab c"};
  const int32_t abc = AddToken(&v, "abc", TokenType::kNormal);
  CHECK(Ids(Make(v), "abc") == IdList{abc});
  CHECK(Ids(Make(v), "abx") == IdList{'a', 'b', 'x'});
}

TEST_CASE("merges split at the first space that is not at the front") {
  Vocab v = ByteVocab();
  v.merges = {"  a"};  // " " and "a": no symbol of the byte alphabet, so it never applies, but it is well-formed
  CHECK(Ids(Make(v), " a") == IdList{' ', 'a'});
}

TEST_CASE("bytes without a token become the unknown token, if that is not a control token, else nothing") {
  Vocab v = ByteVocab();
  v.tokens[0x80] = "other";
  CHECK(Ids(Make(v), "a\x80z") == IdList{'a', 'z'});
  CHECK(Make(v).vocab().warnings.size() == 1);
  v.unk_id = AddToken(&v, "<unk>", TokenType::kUnknown);
  CHECK(Ids(Make(v), "a\x80z") == IdList{'a', v.unk_id, 'z'});
  v.types.back() = TokenType::kControl;
  CHECK(Ids(Make(v), "a\x80z") == IdList{'a', 'z'});
}

TEST_CASE("long words merge in n log n") {
  Vocab v = ByteVocab();
  std::string token = "a";
  for (int i = 0; i < 6; ++i) {
    v.merges.push_back(token + " " + token);
    token += token;
    AddToken(&v, token, TokenType::kNormal);
  }
  const wf::Tokenizer t = Make(v);
  IdList ids;
  const auto begin = std::chrono::steady_clock::now();
  wf::test::RunOnSmallStack([&] { ids = *t.Encode(std::string(1 << 20, 'a'), false, false); });
  CHECK(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() < 10);
  CHECK(ids == IdList((1 << 20) / 64, 256 + 5));
}

TEST_CASE("SentencePiece: the highest score merges first, the leftmost of equals") {
  Vocab v = SpmVocab();
  v.add_space_prefix = false;
  const int32_t a = AddToken(&v, "a", TokenType::kNormal, -1000), b = AddToken(&v, "b", TokenType::kNormal, -1000);
  const int32_t ab = AddToken(&v, "ab", TokenType::kNormal, -2), ba = AddToken(&v, "ba", TokenType::kNormal, -1);
  const int32_t aa = AddToken(&v, "aa", TokenType::kNormal, -3);
  const wf::Tokenizer t = Make(v);
  CHECK(Ids(t, "ab") == IdList{ab});
  CHECK(Ids(t, "aba") == IdList{a, ba});
  CHECK(Ids(t, "aaa") == IdList{aa, a});
  CHECK(Ids(t, "bb") == IdList{b, b});
  CHECK(Ids(t, "c\xFF") == IdList{3 + 'c', 3 + 0xFF});
  CHECK(Ids(t, "\xF0\x9F\xA6\x99") == IdList{3 + 0xF0, 3 + 0x9F, 3 + 0xA6, 3 + 0x99});
}

TEST_CASE("SentencePiece: control, byte and unused pieces are never merged into, nor those without a finite score") {
  Vocab v = SpmVocab();
  v.add_space_prefix = false;
  IdList plain;
  for (const char c : std::string("<s>0x41ab"))
    plain.push_back(AddToken(&v, std::string(1, c), TokenType::kNormal, -1000));
  AddToken(&v, "<s", TokenType::kNormal, -1);
  AddToken(&v, "<0", TokenType::kNormal, -1);
  AddToken(&v, "<0x41", TokenType::kNormal, -1);
  AddToken(&v, "ab", TokenType::kUnused, 5);
  AddToken(&v, "ba", TokenType::kNormal, std::numeric_limits<float>::quiet_NaN());
  const wf::Tokenizer t = Make(v);
  for (const char* text : {"<s>", "<0x41>", "ab", "ba", "</s>"}) {
    for (const int32_t id : Ids(t, text)) {
      CHECK(v.types[static_cast<size_t>(id)] != TokenType::kControl);
      CHECK(v.types[static_cast<size_t>(id)] != TokenType::kUnused);
      CHECK((v.types[static_cast<size_t>(id)] != TokenType::kByte || id == 3 + '/'));
    }
    CHECK(t.Decode(Ids(t, text), false) == text);
    CHECK(Ids(t, text).size() >= 2);
  }
}

TEST_CASE("SentencePiece: merges, where a tokenizer.json lists them, decide instead of scores") {
  Vocab v = SpmVocab();
  v.add_space_prefix = false;
  const int32_t a = AddToken(&v, "a", TokenType::kNormal), b = AddToken(&v, "b", TokenType::kNormal);
  const int32_t ab = AddToken(&v, "ab", TokenType::kNormal, -5), aab = AddToken(&v, "aab", TokenType::kNormal, -6);
  const int32_t aa = AddToken(&v, "aa", TokenType::kNormal, -4);
  CHECK(Ids(Make(v), "aab") == IdList{aab});  // by score: aa, then aa + b
  v.merges = {"a a", "a b", "a ab"};
  CHECK(Ids(Make(v), "aab") == IdList{aa, b});
  CHECK(Ids(Make(v), "ab") == IdList{ab});
  CHECK(Ids(Make(v),
            "\xFF\xFF"
            "a") == IdList{3 + 0xFF, 3 + 0xFF, a});
}

TEST_CASE("SentencePiece without byte tokens gives the unknown token") {
  Vocab v;
  v.model = "llama";
  v.unk_id = AddToken(&v, "<unk>", TokenType::kUnknown);
  const int32_t a = AddToken(&v, "a", TokenType::kNormal);
  CHECK(Ids(Make(v), "a?a") == IdList{a, 0, a});
  v.unk_id = -1;
  CHECK(Ids(Make(v), "a?a") == IdList{a, a});
}

TEST_CASE("SentencePiece: 1 MiB of one character") {
  Vocab v = SpmVocab();
  std::string token = "a";
  for (int i = 0; i < 6; ++i) {
    AddToken(&v, token, TokenType::kNormal, static_cast<float>(i));
    token += token;
  }
  const wf::Tokenizer t = Make(v);
  for (const char c : {'a', ' ', '\xFF'}) {
    size_t count = 0;
    const auto begin = std::chrono::steady_clock::now();
    wf::test::RunOnSmallStack([&] { count = t.Encode(std::string(1 << 20, c), false, false)->size(); });
    CHECK(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() < 10);
    CHECK(count == (c == 'a' ? (1 << 20) / 32 + 1 : (1 << 20) + 1));
  }
}
