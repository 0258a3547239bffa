// SPDX-License-Identifier: Apache-2.0
// The streaming decoder: whole characters only, one U+FFFD for each maximal invalid part, and the same text
// however its input is cut.
#include "wf/tokenizer/utf8.h"

#include <random>

#include "tests/catch.h"

namespace {

const std::string kBad = "\xEF\xBF\xBD";

std::string DecodeAll(std::string_view bytes) {
  wf::Utf8Decoder d;
  std::string out = d.Push(bytes);
  return out + d.Flush();
}

}  // namespace

TEST_CASE("a character is held back until it is whole") {
  wf::Utf8Decoder d;
  CHECK(d.Push("a\xF0\x9F").empty() == false);
  CHECK(d.held_bytes() == 2);
  CHECK(d.Push("\xA6").empty());
  CHECK(d.held_bytes() == 3);
  CHECK(d.Push("\x99!") == "\xF0\x9F\xA6\x99!");
  CHECK(d.held_bytes() == 0);
  CHECK(d.Flush().empty());
}

TEST_CASE("flush replaces what is held back, once, and leaves a new decoder") {
  wf::Utf8Decoder d;
  CHECK(d.Push("\xE4\xBD").empty());
  CHECK(d.Flush() == kBad);
  CHECK(d.Flush().empty());
  CHECK(d.Push("\xA0") == kBad);
}

TEST_CASE("invalid bytes are replaced by maximal subparts") {
  CHECK(DecodeAll("a\x80z") == "a" + kBad + "z");
  CHECK(DecodeAll("\xC0\x80") == kBad + kBad);                        // overlong lead, stray continuation
  CHECK(DecodeAll("\xE0\x80\x80") == kBad + kBad + kBad);             // overlong
  CHECK(DecodeAll("\xED\xA0\x80") == kBad + kBad + kBad);             // surrogate
  CHECK(DecodeAll("\xF4\x90\x80\x80") == kBad + kBad + kBad + kBad);  // above U+10FFFF
  CHECK(DecodeAll("\xF0\x9F\xA6x") == kBad + "x");                    // three good bytes, then another character
  CHECK(DecodeAll("\xE4\xBD\xE4\xBD\xA0") == kBad + "\xE4\xBD\xA0");
  CHECK(DecodeAll("\xFF\xFE") == kBad + kBad);
  CHECK(DecodeAll(std::string("\0", 1)) == std::string("\0", 1));
}

TEST_CASE("the output does not depend on how the input is cut") {
  const std::vector<std::string> atoms = {
      "a",        "\xC3\xA9", "\xE4\xBD\xA0", "\xF0\x9F\xA6\x99", "\x80", "\xC3", "\xE4\xBD",
      "\xF0\x9F", "\xFF",     "\xED\xA0",     "\xF4\x90",         "\xE0", "\xF0"};
  std::mt19937 rng(1);
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (auto i = rng() % 12; i > 0; --i) text += atoms[rng() % atoms.size()];
    const std::string whole = DecodeAll(text);
    CHECK(wf::IsUtf8(whole));
    CHECK((whole == text) == wf::IsUtf8(text));
    wf::Utf8Decoder d;
    std::string out;
    for (size_t pos = 0; pos < text.size();) {
      const size_t n = std::min<size_t>(1 + rng() % 3, text.size() - pos);
      const std::string step = d.Push(std::string_view(text).substr(pos, n));
      CHECK(wf::IsUtf8(step));
      CHECK(d.held_bytes() <= 3);
      out += step;
      pos += n;
    }
    CHECK(out + d.Flush() == whole);
  }
}

TEST_CASE("code points are written and read back") {
  for (int32_t code = 0; code < 0x110000; code += code < 0x3000 ? 1 : 97) {
    if (code >= 0xD800 && code < 0xE000) continue;
    std::string s;
    wf::AppendUtf8(code, &s);
    const wf::Utf8Char c = wf::NextUtf8(s, 0);
    if (c.code != code || c.bytes != s.size()) FAIL(code);
  }
  SUCCEED();
}
