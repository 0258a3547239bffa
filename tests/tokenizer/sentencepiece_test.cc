// SPDX-License-Identifier: Apache-2.0
// tokenizer.model: what is read of the message, and messages that are broken, lie about lengths or ask for what there
// is not. Equality of ids with the original library is test_sentencepiece_pypi.py's.
#include "wf/tokenizer/sentencepiece.h"

#include <cstring>

#include "tests/tokenizer/helpers.h"
#include "wf/tokenizer/vocab_hf.h"

using wf::ErrorCode;
using wf::ParseSentencePiece;
using wf::TokenType;
using IdList = std::vector<int32_t>;

namespace {

std::string Varint(uint64_t v) {
  std::string out;
  for (; v > 127; v >>= 7) out += static_cast<char>(static_cast<uint8_t>(v | 128));
  return out + static_cast<char>(static_cast<uint8_t>(v));
}
std::string Number(uint32_t field, uint64_t v) { return Varint(field << 3) + Varint(v); }
std::string Bytes(uint32_t field, const std::string& data) {
  return Varint(field << 3 | 2) + Varint(data.size()) + data;
}
std::string Float(uint32_t field, float v) {
  std::string out(4, '\0');
  std::memcpy(out.data(), &v, 4);
  return Varint(field << 3 | 5) + out;
}
std::string Piece(const std::string& text, float score, uint64_t type = 1) {
  return Bytes(1, Bytes(1, text) + Float(2, score) + Number(3, type));
}

const std::string kSpace = "\xE2\x96\x81";
const std::string kBpe = Bytes(2, Number(3, 2));
const std::string kKeepSpaces = Bytes(3, Bytes(1, "identity") + Number(4, 0));

std::string Small() {
  return Piece("<unk>", 0, 2) + Piece("<s>", 0, 3) + Piece("</s>", 0, 3) + Piece("<0x41>", 0, 6) + Piece("ab", -0.5f) +
         Piece(kSpace, -1) + Piece("a", -2) + Piece("b", -3) + Piece(kSpace + "ab", -0.25f) + kBpe + kKeepSpaces;
}

void CheckError(const std::string& bytes, ErrorCode code, const std::string& text) {
  INFO(text);
  const auto m = ParseSentencePiece(bytes, "file.model");
  REQUIRE_FALSE(m.ok());
  INFO(m.status().message());
  CHECK(m.status().code() == code);
  CHECK(m.status().message().find("file.model: ") == 0);
  CHECK(m.status().message().find(text) != std::string::npos);
}

}  // namespace

TEST_CASE("pieces, scores, types, special ids and flags") {
  const auto m = ParseSentencePiece(Small(), "x");
  if (!m.ok()) FAIL(m.status().message());
  CHECK(m->tokens.size() == 9);
  CHECK(m->tokens[8] == kSpace + "ab");
  CHECK((m->scores[4] == -0.5f && m->scores[8] == -0.25f));
  CHECK((m->types[0] == TokenType::kUnknown && m->types[1] == TokenType::kControl && m->types[3] == TokenType::kByte));
  CHECK((m->unk_id == 0 && m->bos_id == 1 && m->eos_id == 2 && m->pad_id == -1));
  CHECK((m->add_dummy_prefix && !m->remove_extra_whitespaces));
  const uint64_t minus_one = ~uint64_t{0};
  const auto none = ParseSentencePiece(
      Small() + Bytes(2, Number(41, minus_one) + Number(42, 77) + Number(43, 3)) + Bytes(3, Number(3, 0)), "x");
  REQUIRE(none.ok());  // parts of a message that come twice are merged
  CHECK((none->bos_id == -1 && none->eos_id == -1 && none->pad_id == 3 && !none->add_dummy_prefix));
  const auto defaults = ParseSentencePiece(Bytes(1, Bytes(1, "a")) + kBpe, "x");
  REQUIRE(defaults.ok());
  CHECK((defaults->scores[0] == 0 && defaults->types[0] == TokenType::kNormal && defaults->remove_extra_whitespaces));
}

TEST_CASE("fields that nobody asks for are skipped") {
  const std::string more = Number(99, 5) + Bytes(1000, "xyz") + Float(77, 1) + Varint(78 << 3 | 1) + "12345678";
  const auto m = ParseSentencePiece(more + Small() + Bytes(4, "\xFF\xFF") + more, "x");
  REQUIRE(m.ok());
  CHECK(m->tokens.size() == 9);
}

TEST_CASE("a folder with tokenizer.model") {
  const wf::test::TempDir dir;
  wf::test::WriteFile(dir / "tokenizer.model", Small());
  wf::test::WriteFile(dir / "added_tokens.json", R"({"<tool>":9,"<|im_end|>":10,"<pad>":12})");
  wf::test::WriteFile(dir / "config.json", R"({"vocab_size":14})");
  auto v = wf::VocabFromHf(dir.path());
  if (!v.ok()) FAIL(v.status().message());
  CHECK((v->model == "llama" && v->add_bos && !v->add_eos && v->add_space_prefix && v->fuse_unk));
  CHECK((v->bos_id == 1 && v->eos_id == 2 && v->unk_id == 0 && v->eot_id == 10));
  CHECK(v->tokens[11] == "[PAD11]");
  CHECK(v->tokens[13] == "[PAD13]");
  CHECK(v->types[9] == TokenType::kUserDefined);
  CHECK((v->types[10] == TokenType::kControl && v->types[12] == TokenType::kControl));
  CHECK(v->types[11] == TokenType::kUnused);
  CHECK((v->scores[9] == -1000 && v->scores[13] == -10000));
  const wf::Tokenizer t = wf::test::Make(*v);
  CHECK(wf::test::Ids(t, "ab<tool>ab", true) == IdList{1, 8, 9, 8});
  // tokenizer.json comes first.
  wf::test::WriteFile(dir / "tokenizer.json", "{");
  CHECK(wf::VocabFromHf(dir.path()).status().message().find("tokenizer.json") != std::string::npos);
}

TEST_CASE("spaces go or stay as the model says") {
  const wf::test::TempDir dir;
  const auto ids = [&](const std::string& text, const std::string& normalizer) {
    wf::test::WriteFile(dir / "tokenizer.model", Small() + Bytes(3, normalizer));
    auto v = wf::VocabFromHf(dir.path());
    if (!v.ok()) FAIL(v.status().message());
    return wf::test::Ids(wf::test::Make(*v), text);
  };
  CHECK(ids("  ab  ab ", "") == IdList{5, 5, 8, 5, 8, 5});
  CHECK(ids("  ab  ab ", Number(4, 1)) == IdList{8, 8});
  CHECK(ids("  ab  ab ", Number(4, 1) + Number(3, 0)) == IdList{4, 8});
  CHECK(ids("   ", Number(4, 1)).empty());
  CHECK(ids("\xC3\xA9\xC3\xA9"
            "a\xC3\xA9",
            "") == IdList{5, 0, 6, 0});
}

TEST_CASE("models that merging by score cannot serve") {
  CheckError(Piece("a", 0) + Bytes(2, Number(3, 1)), ErrorCode::kUnsupported, "type unigram, expected bpe");
  CheckError(Piece("a", 0), ErrorCode::kUnsupported, "type unigram");  // the default
  CheckError(Piece("a", 0) + Bytes(2, Number(3, 4)), ErrorCode::kUnsupported, "type char");
  CheckError(Piece("a", 0) + Bytes(2, Number(3, 9)), ErrorCode::kUnsupported, "type 9");
  CheckError(Small() + Bytes(3, Bytes(1, "nmt_nfkc") + Bytes(2, "map")), ErrorCode::kUnsupported,
             "normaliser 'nmt_nfkc' with rules that change characters (3 bytes)");
  CheckError(Small() + Bytes(3, Bytes(6, "rules")), ErrorCode::kUnsupported, "normaliser 'identity'");
  CheckError(Small() + Bytes(5, Bytes(2, "map")), ErrorCode::kUnsupported, "denormaliser");
  CheckError(Small() + Bytes(3, Number(5, 0)), ErrorCode::kUnsupported, "escape_whitespaces");
  CheckError(Small() + Bytes(2, Number(24, 1)), ErrorCode::kUnsupported, "treat_whitespace_as_suffix");
  CheckError("IQ== 0\nIg== 1\n", ErrorCode::kUnsupported, "tiktoken");
}

TEST_CASE("bytes that are no such message name the place") {
  CheckError("", ErrorCode::kFormat, "no pieces");
  CheckError(kBpe, ErrorCode::kFormat, "no pieces");
  CheckError("x", ErrorCode::kFormat, "truncated");
  CheckError(std::string(1, '\0') + Small(), ErrorCode::kFormat, "at offset 0: a field without a valid number");
  CheckError(Small() + "\x0B", ErrorCode::kFormat, "wire type 3");
  CheckError(std::string("\x0A\x05") + "ab", ErrorCode::kFormat, "needs 5 bytes, 2 left");
  CheckError(Varint(1 << 3 | 2) + Varint(~uint64_t{0}), ErrorCode::kFormat, "bytes, 0 left");
  CheckError(std::string(11, '\xFF'), ErrorCode::kFormat, "more than 64 bits");
  CheckError("\x0A" + std::string(9, '\xFF') + "\x7F", ErrorCode::kFormat, "more than 64 bits");
  CheckError(Varint(uint64_t{1} << 40), ErrorCode::kFormat, "without a valid number");
  CheckError(Number(1, 3), ErrorCode::kFormat, "a part of the model has wire type 0, expected 2");
  CheckError(Bytes(1, Number(1, 3)), ErrorCode::kFormat, "a piece's text has wire type 0");
  CheckError(Bytes(1, Number(2, 3)), ErrorCode::kFormat, "a piece's score");
  CheckError(Bytes(1, Bytes(3, "")), ErrorCode::kFormat, "a piece's type");
  CheckError(Piece("a", 0, 7), ErrorCode::kFormat, "a piece of type 7");
  CheckError(Piece("a", 0, 0), ErrorCode::kFormat, "a piece of type 0");
  CheckError(Piece("a\xFF", 0), ErrorCode::kFormat, "piece 0 is not UTF-8");
  CheckError(Bytes(2, Bytes(3, "")), ErrorCode::kFormat, "trainer's settings");
  CheckError(Bytes(3, Number(2, 1)), ErrorCode::kFormat, "normaliser's settings");
  CheckError(Bytes(3, Bytes(4, "")), ErrorCode::kFormat, "a flag of the normaliser's settings");
  CheckError(Bytes(1, Bytes(1, "a") + "\x15"
                                      "ab"),
             ErrorCode::kFormat, "in the message at offset 2");
}

TEST_CASE("no beginning of a model does harm") {
  const std::string whole = Small();
  for (size_t n = 0; n < whole.size(); ++n) {
    const auto m = ParseSentencePiece(std::string_view(whole).substr(0, n), "x");
    CHECK((m.ok() || m.status().code() == ErrorCode::kFormat || m.status().code() == ErrorCode::kUnsupported));
  }
}
