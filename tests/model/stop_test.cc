// SPDX-License-Identifier: Apache-2.0
// Stop strings in streamed text: the result is that of the whole text, however it was cut.
#include "wf/decode/stop.h"

#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "tests/catch.h"

namespace {

struct Outcome {
  std::string text, match;
  bool operator==(const Outcome&) const = default;
};

// What the rule says, by trying every end: the stop string that is complete first, of several the longest.
Outcome OfWhole(const std::string& text, const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= text.size(); ++end) {
    std::string best;
    for (const std::string& s : stops) {
      if (s.size() <= end && text.compare(end - s.size(), s.size(), s) == 0 && s.size() > best.size()) best = s;
    }
    if (!best.empty()) return {text.substr(0, end - best.size()), best};
  }
  return {text, ""};
}

Outcome Streamed(const std::vector<std::string>& pieces, const std::vector<std::string>& stops) {
  wf::StopMatcher m(stops);
  Outcome o;
  for (const std::string& p : pieces) {
    o.text += m.Push(p);
    if (m.matched()) break;
  }
  o.text += m.Flush();
  o.match = m.match();
  return o;
}

}  // namespace

TEST_CASE("without stop strings text passes at once") {
  wf::StopMatcher m;
  CHECK(m.Push("a") == "a");
  CHECK(m.Push("") == "");
  CHECK(m.Flush() == "");
  CHECK_FALSE(m.matched());
}

TEST_CASE("what may become a stop string is held back, and no more than that") {
  wf::StopMatcher m({"</end>"});
  CHECK(m.Push("text <") == "text ");
  CHECK(m.Push("/e") == "");
  CHECK(m.Push("x") == "</ex");  // it did not
  CHECK(m.Push(" </end") == " ");
  CHECK(m.Push(">more") == "");
  CHECK(m.matched());
  CHECK(m.match() == "</end>");
  CHECK(m.Push("after") == "");
  CHECK(m.Flush() == "");
}

TEST_CASE("a text that ends inside a stop string keeps what was held back") {
  wf::StopMatcher m({"stop"});
  CHECK(m.Push("do not sto") == "do not ");
  CHECK_FALSE(m.matched());
  CHECK(m.Flush() == "sto");
  CHECK(m.Flush() == "");
}

TEST_CASE("a stop string at the very end, and one that is the whole text") {
  CHECK(Streamed({"the end"}, {"end"}) == Outcome{"the ", "end"});
  CHECK(Streamed({"e", "n", "d"}, {"end"}) == Outcome{"", "end"});
}

TEST_CASE("overlapping stop strings: the first complete one wins, of those that end together the longest") {
  const std::vector<std::string> stops = {"b", "abc", "xyz", "yz"};
  CHECK(Streamed({"1abc"}, stops) == Outcome{"1a", "b"});
  CHECK(Streamed({"1xyz2"}, stops) == Outcome{"1", "xyz"});
  CHECK(Streamed({"1yyz2"}, stops) == Outcome{"1y", "yz"});
  CHECK(Streamed({"aab", "aabaa", "ac"}, {"aabaac", "baab"}) == Outcome{"aa", "baab"});
  CHECK(Streamed({"ababab", "abc"}, {"ababc"}) == Outcome{"abab", "ababc"});  // restarts inside itself
}

TEST_CASE("1000 random splits of random texts give the whole text's result") {
  std::mt19937 rng(7);
  const auto below = [&](size_t n) { return static_cast<size_t>(rng() % n); };
  size_t matched = 0;
  for (int round = 0; round < 1000; ++round) {
    const size_t letters = 2 + below(3);  // few letters, so that stop strings nearly match all the time
    const auto word = [&](size_t length) {
      std::string s;
      while (s.size() < length) s += static_cast<char>('a' + below(letters));
      return s;
    };
    const std::string text = word(below(60));
    std::vector<std::string> stops;
    for (size_t n = 1 + below(4); n > 0; --n) stops.push_back(word(1 + below(7)));
    std::vector<std::string> pieces;
    for (size_t at = 0; at < text.size();) {
      const size_t n = below(6);
      pieces.push_back(text.substr(at, n));
      at += n;
    }
    INFO("text " << text << ", first stop " << stops[0]);
    const Outcome want = OfWhole(text, stops);
    CHECK(Streamed(pieces, stops) == want);
    matched += !want.match.empty();
  }
  CHECK(matched > 300);
  CHECK(matched < 900);
}
