// SPDX-License-Identifier: Apache-2.0
// The regular expressions of a schema's "pattern" as automata over code points: the part of ECMA 262 that is regular,
// read so that ECMA 262 and Python's re agree about every string that is produced. No captures, look-around, \b or
// \p{...}; those are refused by name.
#ifndef WF_DECODE_GRAMMAR_REGEX_IMPL_H_
#define WF_DECODE_GRAMMAR_REGEX_IMPL_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "wf/base/quote.h"
#include "wf/base/status.h"
#include "wf/decode/grammar_builder.h"
#include "wf/tokenizer/utf8.h"

namespace wf::detail {

// A Thompson automaton: each state has edges that take a character, nothing, or hold only at an end of the text.
class PatternAutomaton {
 public:
  // Errors have no context: the caller knows the pattern's place. `pattern` is UTF-8.
  static Result<PatternAutomaton> Compile(std::string_view pattern) {
    PatternAutomaton a;
    if (pattern.size() > JsonLimits::kPatternBytes) {
      return LimitError("more than " + std::to_string(JsonLimits::kPatternBytes) + " bytes");
    }
    a.text_ = pattern;
    // A match may be anywhere: anything may stand before and behind it.
    const CodeSet any = Complement({});
    const uint32_t begin = a.State(), inner = a.State();
    a.Take(begin, any, begin);
    a.Empty(begin, inner);
    WF_ASSIGN(const uint32_t behind, a.Alternatives(inner, 0));
    if (a.at_ < a.text_.size()) return a.Refuse("a ')' without its '('");
    a.end_ = a.State();
    a.Empty(behind, a.end_);
    a.Take(a.end_, any, a.end_);
    return a;
  }

  size_t states() const noexcept { return states_.size(); }

  // Adds the strings of min to max (kNever: no limit) characters that match, with their quotes.
  void Build(uint32_t from, uint32_t min, uint32_t max, uint32_t to, GrammarBuilder* g) const {
    const uint32_t cap = max == JsonGrammar::kNever ? min : max;  // longer ones are counted as this long
    using Key = std::tuple<uint32_t, uint32_t, bool, bool>;       // state, characters, at the beginning, at the end
    std::map<Key, uint32_t> nodes;
    std::vector<Key> pending;
    const auto node = [&](const Key& key) {
      const auto [found, added] = nodes.try_emplace(key, 0);
      if (added) {
        found->second = g->Node();
        pending.push_back(key);
      }
      return found->second;
    };
    g->Bytes(from, '"', '"', node({0, 0, true, false}));
    while (!pending.empty() && !g->full()) {
      const Key key = pending.back();
      pending.pop_back();
      const auto [state, count, first, last] = key;
      const uint32_t here = nodes.at(key);
      if (state == end_ && count >= min) g->Bytes(here, '"', '"', to);
      for (const Edge& e : states_[state]) {
        switch (e.kind) {
          case Kind::kEmpty:
            g->Empty(here, node({e.to, count, first, last}));
            break;
          case Kind::kBegin:
            if (first) g->Empty(here, node({e.to, count, first, last}));
            break;
          case Kind::kEnd:
            g->Empty(here, node({e.to, count, first, true}));
            break;
          case Kind::kTake:
            if (last || (max != JsonGrammar::kNever && count == max)) break;
            g->Character(here, e.set, node({e.to, std::min(count + 1, cap), false, false}));
            break;
        }
      }
    }
  }

 private:
  enum class Kind : uint8_t { kEmpty, kBegin, kEnd, kTake };
  struct Edge {
    Kind kind;
    uint32_t to;
    CodeSet set;
  };
  static constexpr int kNesting = 50;

  uint32_t State() {
    states_.emplace_back();
    return static_cast<uint32_t>(states_.size() - 1);
  }
  void Empty(uint32_t from, uint32_t to) { states_[from].push_back({Kind::kEmpty, to, {}}); }
  void Take(uint32_t from, CodeSet set, uint32_t to) { states_[from].push_back({Kind::kTake, to, std::move(set)}); }

  bool Has(char c) const { return at_ < text_.size() && text_[at_] == c; }
  bool Skip(std::string_view s) {
    if (text_.substr(at_, s.size()) != s) return false;
    at_ += s.size();
    return true;
  }
  Status Refuse(const std::string& what) const {
    return Unsupported("byte " + std::to_string(at_) + " of " + Quote(text_, 60) + ": " + what + " is not supported");
  }
  Status Wrong(const std::string& what) const {
    return InvalidArgument("byte " + std::to_string(at_) + " of " + Quote(text_, 60) + ": " + what);
  }

  // Each of these reads a part of the pattern that begins in a state, and returns the state where it ends.
  Result<uint32_t> Alternatives(uint32_t from, int nesting) {
    if (nesting > kNesting) return LimitError("more than " + std::to_string(kNesting) + " groups inside each other");
    const uint32_t to = State();
    do {
      const uint32_t begin = State();
      Empty(from, begin);
      WF_ASSIGN(const uint32_t end, Sequence(begin, nesting));
      Empty(end, to);
    } while (Skip("|"));
    return to;
  }

  Result<uint32_t> Sequence(uint32_t from, int nesting) {
    while (at_ < text_.size() && !Has('|') && !Has(')')) {
      const size_t begin = at_;
      WF_ASSIGN(uint32_t to, Atom(from, nesting));
      const size_t end = at_;
      uint32_t min = 1, max = 1;
      WF_ASSIGN(const bool repeated, Repetition(&min, &max));
      if (repeated) {
        // The atom is read again for each time that it is written out. What was built of it first is left behind.
        const size_t behind = at_;
        const char first = text_[begin];
        if (first == '^' || first == '$') return Wrong("nothing to repeat");
        const auto again = [&](uint32_t state) -> Result<uint32_t> {
          if (states_.size() > JsonLimits::kPatternStates) {
            return LimitError("more than " + std::to_string(JsonLimits::kPatternStates) + " states");
          }
          at_ = begin;
          return Atom(state, nesting);
        };
        uint32_t state = State();
        states_[from].pop_back();  // the atom's one edge from there
        Empty(from, state);
        for (uint32_t i = 0; i < min; ++i) {
          WF_ASSIGN(state, again(state));
        }
        to = State();
        Empty(state, to);
        if (max == JsonGrammar::kNever) {
          const uint32_t loop = State();
          Empty(state, loop);
          WF_ASSIGN(const uint32_t back, again(loop));
          Empty(back, loop);
          Empty(back, to);
        }
        for (uint32_t i = min; max != JsonGrammar::kNever && i < max; ++i) {
          WF_ASSIGN(state, again(state));
          Empty(state, to);
        }
        at_ = behind;
      } else {
        at_ = end;
      }
      from = to;
    }
    return from;
  }

  // *, +, ?, {n}, {n,}, {n,m}, each perhaps followed by ?, which changes nothing. False: none of them.
  Result<bool> Repetition(uint32_t* min, uint32_t* max) {
    if (Skip("*")) {
      *min = 0;
      *max = JsonGrammar::kNever;
    } else if (Skip("+")) {
      *max = JsonGrammar::kNever;
    } else if (Skip("?")) {
      *min = 0;
    } else if (Skip("{")) {
      WF_ASSIGN(*min, Count());
      *max = *min;
      if (Skip(",")) {
        *max = JsonGrammar::kNever;
        if (!Has('}')) {
          WF_ASSIGN(*max, Count());
        }
      }
      if (!Skip("}")) return Wrong("expected }");
      if (*max < *min) return Wrong("the bounds of a repetition are the wrong way round");
    } else {
      return false;
    }
    Skip("?");
    for (const char c : std::string_view("*+?{")) {
      if (Has(c)) return Wrong("nothing to repeat");
    }
    return true;
  }
  Result<uint32_t> Count() {
    uint32_t n = 0;
    const size_t begin = at_;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      n = n * 10 + static_cast<uint32_t>(text_[at_] - '0');
      if (n > JsonLimits::kPatternStates) return LimitError("a repetition of " + std::to_string(n) + " or more");
    }
    if (at_ == begin) return Wrong("expected a number; a { that means itself is written \\{");
    return n;
  }

  Result<uint32_t> Atom(uint32_t from, int nesting) {
    if (Skip("(")) {
      if (Has('?') && !Skip("?:")) return Refuse("a group that begins with (?");
      const uint32_t begin = State();
      Empty(from, begin);
      WF_ASSIGN(const uint32_t to, Alternatives(begin, nesting + 1));
      if (!Skip(")")) return Wrong("expected )");
      return to;
    }
    const uint32_t to = State();
    if (Skip("^")) {
      states_[from].push_back({Kind::kBegin, to, {}});
    } else if (Skip("$")) {
      states_[from].push_back({Kind::kEnd, to, {}});
    } else if (Skip(".")) {
      Take(from, Complement({{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}}), to);
    } else if (Skip("[")) {
      WF_ASSIGN(CodeSet set, Class());
      Take(from, std::move(set), to);
    } else {
      for (const char c : std::string_view("*+?{}]")) {
        if (Has(c)) return Wrong("a " + std::string(1, c) + " that means itself is written with a backslash");
      }
      bool wide = false, ascii = false;
      WF_ASSIGN(CodeSet set, One(false, false, &wide, &ascii));
      Take(from, std::move(set), to);
    }
    return to;
  }

  static CodeSet Ascii(const CodeSet& set) {
    CodeSet out;
    for (const auto& [lo, hi] : set) {
      if (lo < 0x80) out.emplace_back(lo, std::min(hi, 0x7Fu));
    }
    return out;
  }

  // Behind a [.
  Result<CodeSet> Class() {
    const bool negated = Skip("^");
    CodeSet set;
    bool ascii = false;  // a complement is only known to be one among these
    if (Has(']')) return Wrong("an empty class");
    while (!Has(']')) {
      if (at_ >= text_.size()) return Wrong("expected ]");
      bool is_set = false, is_ascii = false;
      WF_ASSIGN(const CodeSet low, One(true, negated, &is_set, &is_ascii));
      ascii = ascii || is_ascii;
      if (!is_set && Has('-') && at_ + 1 < text_.size() && text_[at_ + 1] != ']') {
        ++at_;
        WF_ASSIGN(const CodeSet high, One(true, negated, &is_set, &is_ascii));
        if (is_set) return Wrong("a range that ends in a class");
        if (high.front().first < low.front().first) return Wrong("a range that runs backwards");
        set.emplace_back(low.front().first, high.front().first);
      } else {
        set.insert(set.end(), low.begin(), low.end());
      }
    }
    ++at_;
    // The surrogates are no characters.
    if (!negated) return Complement(Complement(set));
    return ascii ? Ascii(Complement(set)) : Complement(set);
  }

  // One character, or an escape that stands for several (*is_set). Those are as narrow as the narrowest reading, and as
  // wide as the widest inside a negated class; *ascii: readings differ beyond ASCII.
  Result<CodeSet> One(bool in_class, bool negated, bool* is_set, bool* ascii) {
    if (!Skip("\\")) {
      const Utf8Char c = NextUtf8(text_, at_);
      if (c.code < 0) return Wrong("not UTF-8");
      at_ += c.bytes;
      const uint32_t code = static_cast<uint32_t>(c.code);
      return CodeSet{{code, code}};
    }
    if (at_ >= text_.size()) return Wrong("a backslash at the end");
    static const CodeSet kDigits = {{'0', '9'}};
    static const CodeSet kWord = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
    static const CodeSet kBlank = {{'\t', '\r'}, {' ', ' '}};
    static const CodeSet kAllBlanks = {{'\t', '\r'},     {0x1C, 0x20},     {0x85, 0x85},     {0xA0, 0xA0},
                                       {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F},
                                       {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
    const char c = text_[at_++];
    const auto one = [](uint32_t code) { return CodeSet{{code, code}}; };
    *is_set = std::string_view("dDwWsS").find(c) != std::string_view::npos;
    *ascii = *is_set && c != 's' && c != 'S';
    switch (c) {
      case 'd':
        return kDigits;
      case 'w':
        return kWord;
      case 's':
        return negated ? kAllBlanks : kBlank;
      case 'D':
        return Ascii(Complement(kDigits));
      case 'W':
        return Ascii(Complement(kWord));
      case 'S':
        if (!negated) return Complement(kAllBlanks);
        return Refuse("\\S in a negated class");
      case 't':
        return one('\t');
      case 'n':
        return one('\n');
      case 'r':
        return one('\r');
      case 'f':
        return one('\f');
      case 'v':
        return one('\v');
      case 'x':
        return Hex(2);
      case 'u':
        return Hex(4);
      default:
        break;
    }
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (letter || static_cast<uint8_t>(c) >= 0x80) {
      const std::string name(1, c);
      return Refuse((in_class ? "in a class, \\" : "\\") + (letter ? name : "(not ASCII)"));
    }
    return one(static_cast<uint8_t>(c));
  }
  Result<CodeSet> Hex(size_t digits) {
    uint32_t code = 0;
    for (size_t i = 0; i < digits; ++i, ++at_) {
      const size_t digit = at_ < text_.size() ? std::string_view("0123456789abcdefABCDEF").find(text_[at_]) : 22;
      if (digit >= 22) return Wrong("expected " + std::to_string(digits) + " hexadecimal digits");
      code = code * 16 + static_cast<uint32_t>(digit < 16 ? digit : digit - 6);
    }
    if (code >= 0xD800 && code <= 0xDFFF) return Refuse("half of a surrogate pair");
    return CodeSet{{code, code}};
  }

  std::string text_;
  size_t at_ = 0;
  std::vector<std::vector<Edge>> states_;
  uint32_t end_ = 0;
};

}  // namespace wf::detail
#endif  // WF_DECODE_GRAMMAR_REGEX_IMPL_H_
