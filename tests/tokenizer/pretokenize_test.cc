// SPDX-License-Identifier: Apache-2.0
// Splitting text into words: the vectors of the reference splitter, patterns of any tokenizer.json, and time
// and stack on hostile text.
#include "wf/tokenizer/pretokenize.h"

#include <chrono>
#include <thread>

#include "tests/catch.h"
#include "tests/tokenizer/helpers.h"
#include "tests/tokenizer/vectors.h"
#include "wf/tokenizer/nfc.h"

namespace {

std::vector<std::string> Split(const std::vector<std::string>& patterns, const std::string& text,
                               int32_t bytes_at = -1) {
  const auto pre = wf::PreTokenizer::Create(patterns, bytes_at);
  if (!pre.ok()) FAIL(pre.status().message());
  std::vector<std::string_view> views;
  const wf::Status s = pre->Split(text, &views);
  if (!s.ok()) FAIL(s.message());
  std::string joined;
  for (const auto v : views) joined += v;
  CHECK(joined == text);
  return {views.begin(), views.end()};
}

std::vector<std::string> SplitAs(const std::string& name, const std::string& text) {
  const auto rule = wf::FindPreTokenizer(name);
  if (!rule.ok()) FAIL(rule.status().message());
  return Split(rule->patterns, text);
}

using Words = std::vector<std::string>;

}  // namespace

TEST_CASE("splits are those of the reference splitter") {
  for (const auto& v : wf::test::kSplitVectors) {
    INFO(v.pre << " text " << v.text);
    CHECK(SplitAs(v.pre, wf::test::kSplitTexts[static_cast<size_t>(v.text)]) == v.pieces);
  }
}

TEST_CASE("the pitfalls of the description") {
  CHECK(SplitAs("llama-bpe", "'Twas") == Words{"'T", "was"});      // contractions come first
  CHECK(SplitAs("gpt-2", "'Twas") == Words{"'", "Twas"});          // and know case here
  CHECK(SplitAs("llama-bpe", "a   b") == Words{"a", "  ", " b"});  // the last space joins the word
  CHECK(SplitAs("llama-bpe", "a  ") == Words{"a", "  "});
  CHECK(SplitAs("llama-bpe", "x \n \n  y") == Words{"x", " \n \n", " ", " y"});
  CHECK(SplitAs("llama-bpe", "1234567") == Words{"123", "456", "7"});
  CHECK(SplitAs("qwen2", "12") == Words{"1", "2"});
  CHECK(SplitAs("llama-bpe", "e\xCC\x81x") == Words{"e", "\xCC\x81x"});  // a mark is no letter, it may begin a word
  CHECK(SplitAs("qwen35", "e\xCC\x81x") == Words{"e\xCC\x81x"});         // here it is part of one
  CHECK(SplitAs("falcon_e", "a12`b") == Words{"a", "1", "2", "`", "b"});
  CHECK(SplitAs("falcon", "1234") == Words{"123", "4"});
  CHECK(SplitAs("gpt-4o", "HelloWorld's") == Words{"Hello", "World's"});
}

TEST_CASE("\\s is White_Space") {
  const std::string spaces[] = {
      "\t",           "\n",           "\v",           "\f",           "\r",           " ",
      "\xC2\x85",     "\xC2\xA0",     "\xE1\x9A\x80", "\xE2\x80\x80", "\xE2\x80\x8A", "\xE2\x80\xA8",
      "\xE2\x80\xA9", "\xE2\x80\xAF", "\xE2\x81\x9F", "\xE3\x80\x80"};
  for (const std::string& s : spaces) {
    CHECK(Split({"\\s"}, "a" + s + s) == Words{"a", s, s});
    CHECK(Split({"[^\\s]+"}, "aa" + s + "b") == Words{"aa", s, "b"});
    CHECK(Split({"\\S+"}, "aa" + s + "b") == Words{"aa", s, "b"});
    CHECK(Split({"[\\S]+"}, "aa" + s + "b") == Words{"aa", s, "b"});
  }
  // Not U+180E, U+200B, U+FEFF, nor the separators 1C to 1F.
  for (const std::string s : {"\xE1\xA0\x8E", "\xE2\x80\x8B", "\xEF\xBB\xBF", "\x1C", "\x1F"}) {
    CHECK(Split({"\\s"}, "a" + s).size() == 1);
    CHECK(Split({"[\\S]+"}, "a" + s).size() == 1);
  }
}

TEST_CASE("every pattern splits every piece that the ones before it left") {
  CHECK(Split({"[0-9]+", "b"}, "ab12bc") == Words{"a", "b", "12", "b", "c"});
  // A piece is a text of its own: its end is an end.
  CHECK(Split({"x", "\\s+(?!\\S)|\\s+"}, "a  xb") == Words{"a", "  ", "x", "b"});
  CHECK(Split({}, "a b") == Words{"a b"});
  CHECK(Split({"x"}, "").empty());
  CHECK(Split({"(?=b)"}, "abab") == Words{"a", "ba", "b"});  // empty matches cut
}

TEST_CASE("patterns after ByteLevel see the byte alphabet") {
  // U+00FC is C3 BC, and U+00BC in the alphabet is a number.
  CHECK(Split({"\\p{N}"},
              "\xC3\xBC"
              "1",
              0) == Words{"\xC3", "\xBC", "1"});
  CHECK(Split({"\\p{N}"},
              "\xC3\xBC"
              "1") == Words{"\xC3\xBC", "1"});
  CHECK(Split({"\\w+", "\\p{N}"}, "\xC3\xBC a1", 1) == Words{"\xC3", "\xBC", " ", "a", "1"});
}

TEST_CASE("text that is not UTF-8 loses nothing") {
  CHECK(SplitAs("llama-bpe", "ab\xFF cd") == Words{"ab", "\xFF", " cd"});
  CHECK(SplitAs("llama-bpe", "\xE4\xBD") == Words{"\xE4\xBD"});
  CHECK(SplitAs("gpt-2", "a\x80\x80z") == Words{"a", "\x80", "\x80", "z"});
}

TEST_CASE("Oniguruma's spelling is translated") {
  CHECK(Split({"\\h\\h"}, "zaFg") == Words{"z", "aF", "g"});
  CHECK(Split({"a{,2}b"}, "aaab") == Words{"a", "aab"});
  CHECK(Split({"\\u4F60"}, "x\xE4\xBD\xA0") == Words{"x", "\xE4\xBD\xA0"});
  CHECK(Split({"^b"}, "a\nb") == Words{"a\n", "b"});  // ^ is the beginning of a line
  CHECK(Split({"a.b"}, "a\nb").size() == 1);
  CHECK(Split({"a++b|x{"}, "aab x{") == Words{"aab", " ", "x{"});
  CHECK(Split({"[]a]"}, "x]a") == Words{"x", "]", "a"});
  CHECK(Split({"[[:alpha:]]+"}, "ab1") == Words{"ab", "1"});
  CHECK(Split({"\\p{Han}+"}, "a\xE4\xBD\xA0") == Words{"a", "\xE4\xBD\xA0"});
  CHECK(Split({"(a|b)+(?<=b)c"}, "xabc") == Words{"x", "abc"});
}

TEST_CASE("what means something else or nothing is refused by name") {
  for (const char* p : {"[\\p{L}&&[^a]]", "[a[b]]", "\\bx", "(?m:a.b)", "(?<n>a)", "a{1,2}+", "(*UTF)", "(?R)", "(",
                        "[a", "\\", "\\Qa", "\\p{Nonsense}", "(a)\\1", "\\K", "(?C1)", "\\p{L", "[\\W]"}) {
    INFO(p);
    const auto r = wf::Regex::Compile(p);
    REQUIRE_FALSE(r.ok());
    CHECK(r.status().code() == wf::ErrorCode::kUnsupported);
    CHECK(r.status().message().find("split pattern") != std::string::npos);
  }
  CHECK_FALSE(wf::Regex::Compile("\xFF").ok());
  CHECK_FALSE(wf::Regex::Compile(std::string(100000, 'a')).ok());
  CHECK_FALSE(wf::Regex::Compile(std::string(1000, '(') + std::string(1000, ')')).ok());
}

TEST_CASE("every name of the format description is known, others are refused with the list") {
  const char* names[] = {"llama-bpe",
                         "llama3",
                         "llama-v3",
                         "falcon3",
                         "falcon-h1",
                         "pixtral",
                         "lfm2",
                         "dbrx",
                         "smaug-bpe",
                         "chatglm-bpe",
                         "glm4",
                         "qwen2",
                         "deepseek-r1-qwen",
                         "stablelm2",
                         "megrez",
                         "qwen35",
                         "gpt-2",
                         "phi-2",
                         "mpt",
                         "olmo",
                         "jais",
                         "a.x-4.0",
                         "mellum",
                         "smollm",
                         "starcoder",
                         "refact",
                         "command-r",
                         "codeshell",
                         "exaone",
                         "minerva-7b",
                         "falcon",
                         "falcon_e",
                         "default",
                         "gpt-4o",
                         "llama4",
                         "kanana2"};
  for (const char* other : {"tekken", "deepseek-v3", "", "GPT-2", "gpt-2 "}) {
    const wf::Status s = wf::FindPreTokenizer(other).status();
    CHECK(s.code() == wf::ErrorCode::kUnsupported);
    INFO(s.message());
    CHECK(s.message().starts_with(std::string("unknown pre-tokenizer '").append(other).append("', expected one of ")));
    for (const char* name : names) CHECK(s.message().find(name) != std::string::npos);
  }
  for (const char* name : names) {
    INFO(name);
    const auto rule = wf::FindPreTokenizer(name);
    REQUIRE(rule.ok());
    CHECK(wf::PreTokenizer::Create(rule->patterns).ok());
  }
}

TEST_CASE("an expression that explodes ends in an error, not in time") {
  const auto r = wf::Regex::Compile("(?:a|aa)+$");
  REQUIRE(r.ok());
  wf::Regex::Scratch scratch;
  std::vector<std::string_view> pieces;
  const std::string text = std::string(60, 'a') + "!";
  const wf::Status s = r->Split(text, &scratch, &pieces);
  CHECK(s.code() == wf::ErrorCode::kLimit);
}

TEST_CASE("1 MiB of one character takes linear time and constant stack") {
  const std::vector<std::string> characters = {
      "a",  "A",    " ",           "\n",           "\t",       "1",
      "!",  "'",    "\xC2\xA0",    "\xE4\xBD\xA0", "\xCC\x81", "\xF0\x9F\x98\x80",
      "\r", "\xFF", "\xE2\x80\xA8"};
  for (const char* name :
       {"llama-bpe", "qwen2", "qwen35", "gpt-2", "smollm", "falcon", "falcon_e", "default", "gpt-4o"}) {
    const auto pre = wf::PreTokenizer::Create(wf::FindPreTokenizer(name)->patterns);
    REQUIRE(pre.ok());
    for (const std::string& c : characters) {
      for (const char* end : {"", "x", "\n"}) {
        std::string text;
        while (text.size() < (1 << 20)) text += c;
        text += end;
        std::vector<std::string_view> pieces;
        wf::Status s;
        const auto begin = std::chrono::steady_clock::now();
        wf::test::RunOnSmallStack([&] { s = pre->Split(text, &pieces); });
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
        INFO(name << " '" << c << "' " << seconds.count() << " s " << s.message());
        CHECK(s.ok());
        CHECK(seconds.count() < 5);
        size_t total = 0;
        for (const auto p : pieces) total += p.size();
        CHECK(total == text.size());
      }
    }
  }
}

TEST_CASE("one pre-tokenizer serves many threads") {
  const auto pre = wf::PreTokenizer::Create(wf::FindPreTokenizer("llama-bpe")->patterns);
  REQUIRE(pre.ok());
  const std::string text = wf::test::kSplitTexts[3];
  std::vector<std::string_view> expected;
  REQUIRE(pre->Split(text, &expected).ok());
  std::vector<int> good(4, 0);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < good.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 500; ++i) {
        std::vector<std::string_view> pieces;
        if (pre->Split(text, &pieces).ok() && pieces == expected) ++good[t];
      }
    });
  }
  for (auto& t : threads) t.join();
  CHECK(good == std::vector<int>(4, 500));
}

TEST_CASE("NFC composes, orders marks and is quick on hostile runs of them") {
  CHECK(*wf::ToNfc("e\xCC\x81") == "\xC3\xA9");
  CHECK(*wf::ToNfc("q\xCC\x87\xCC\xA3") == "q\xCC\xA3\xCC\x87");                // marks in canonical order
  CHECK(*wf::ToNfc("\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB") == "\xED\x95\x9C");  // Hangul
  CHECK(*wf::ToNfc("\xE2\x84\xAB") == "\xC3\x85");                              // singleton
  CHECK(*wf::ToNfc("\xEF\xAC\x81") == "\xEF\xAC\x81");                          // compatibility stays
  CHECK(*wf::ToNfc("plain") == "plain");
  CHECK(*wf::ToNfc("e\xCC\x81\xFF"
                   "e\xCC\x81") == "\xC3\xA9\xFF\xC3\xA9");
  std::string marks = "a";
  while (marks.size() < (1 << 20)) marks += "\xCC\x81\xCC\xA3";
  const auto begin = std::chrono::steady_clock::now();
  CHECK(wf::ToNfc(marks).ok());
  CHECK(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() < 5);
}
