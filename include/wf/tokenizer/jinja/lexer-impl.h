// SPDX-License-Identifier: Apache-2.0
// Template source to tokens, with Jinja's whitespace control: trim_blocks and lstrip_blocks on, one trailing
// newline of the source dropped. Mirrors the regular expressions of Python's jinja2.lexer.
#ifndef WF_TOKENIZER_JINJA_LEXER_IMPL_H_
#define WF_TOKENIZER_JINJA_LEXER_IMPL_H_

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "wf/base/status.h"
#include "wf/tokenizer/jinja/ast-impl.h"
#include "wf/tokenizer/jinja/unicode-impl.h"

namespace wf::jinja::detail {

enum class Tok : uint8_t {
  kData,
  kVarBegin,
  kVarEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,  // text is the operator
  kEnd,
};

struct Token {
  Tok kind = Tok::kEnd;
  std::string text;  // data, name, unescaped string, operator
  int64_t integer = 0;
  double number = 0;
  Position at;
  bool Is(Tok k, std::string_view t) const { return kind == k && text == t; }
  bool IsName(std::string_view t) const { return Is(Tok::kName, t); }
  bool IsOp(std::string_view t) const { return Is(Tok::kOperator, t); }
};

class Lexer {
 public:
  explicit Lexer(std::string_view source) {
    s_.reserve(source.size());
    for (size_t i = 0; i < source.size(); ++i) {
      char c = source[i];
      if (c == '\r') {
        if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
        c = '\n';
      }
      s_.push_back(c);
    }
    if (!s_.empty() && s_.back() == '\n') s_.pop_back();
  }

  Result<std::vector<Token>> Run() {
    WF_TRY(Root());
    Push(Tok::kEnd, s_.size());
    return std::move(tokens_);
  }

 private:
  bool Has(size_t i, std::string_view t) const {
    return std::string_view(s_).substr(std::min(i, s_.size()), t.size()) == t;
  }
  size_t SkipSpace(size_t i) const {
    while (i < s_.size()) {
      size_t next = i;
      if (!IsSpace(Decode(s_, i, &next))) break;
      i = next;
    }
    return i;
  }
  // Positions are asked for in ascending order, so lines are counted once.
  Position PositionOf(size_t i) {
    for (; counted_ < i && counted_ < s_.size(); ++counted_) {
      if (s_[counted_] == '\n') {
        ++line_;
        line_start_ = counted_ + 1;
      }
    }
    return {static_cast<uint32_t>(line_), static_cast<uint32_t>(i >= line_start_ ? i - line_start_ + 1 : 1)};
  }
  Token& Push(Tok kind, size_t at, std::string text = {}) {
    tokens_.push_back({kind, std::move(text), 0, 0, PositionOf(at)});
    return tokens_.back();
  }
  Status Error(size_t at, const std::string& message) { return FormatError(At(PositionOf(at)) + message); }

  Status Root() {
    size_t pos = 0;
    while (pos < s_.size()) {
      size_t tag = pos;
      while (true) {
        tag = s_.find('{', tag);
        if (tag == std::string::npos || tag + 1 >= s_.size()) {
          Push(Tok::kData, pos, s_.substr(pos));
          return OkStatus();
        }
        char c = s_[tag + 1];
        if (c == '%' || c == '{' || c == '#') break;
        ++tag;
      }
      char kind = s_[tag + 1];
      char sign = tag + 2 < s_.size() && (s_[tag + 2] == '-' || s_[tag + 2] == '+') ? s_[tag + 2] : ' ';
      size_t inner = tag + 2 + (sign == ' ' ? 0 : 1);
      Data(pos, tag, sign, kind == '{');
      if (kind == '#') {
        WF_TRY(Comment(tag, inner, &pos));
      } else if (size_t raw = kind == '%' ? RawBegin(inner) : 0; raw != 0) {
        WF_TRY(Raw(tag, raw, &pos));
      } else {
        Push(kind == '%' ? Tok::kBlockBegin : Tok::kVarBegin, tag);
        WF_TRY(Code(inner, kind == '%', &pos));
      }
      line_starting_ = pos > 0 && s_[pos - 1] == '\n';
    }
    return OkStatus();
  }

  // Text before a tag, stripped as the tag's sign says.
  void Data(size_t begin, size_t end, char sign, bool variable) {
    std::string_view text = std::string_view(s_).substr(begin, end - begin);
    if (sign == '-') {
      size_t keep = 0;
      for (size_t i = 0; i < text.size();) {
        size_t next = i;
        if (!IsSpace(Decode(text, i, &next))) keep = next;
        i = next;
      }
      text = text.substr(0, keep);
    } else if (sign != '+' && !variable) {
      size_t nl = text.rfind('\n');
      size_t line = nl == std::string_view::npos ? 0 : nl + 1;
      if ((line > 0 || line_starting_) && line < text.size() && SkipSpace(begin + line) >= end) {
        text = text.substr(0, line);
      }
    }
    if (!text.empty()) Push(Tok::kData, begin, std::string(text));
  }

  // The end of a tag at i: "+%}", "-%}" with white space after it, or "%}" with one newline. 0 if it is not one.
  size_t TagEnd(size_t i, std::string_view close, bool plus, bool newline) const {
    if (plus && Has(i, "+") && Has(i + 1, close)) return i + 3;
    if (Has(i, "-") && Has(i + 1, close)) return SkipSpace(i + 3);
    if (!Has(i, close)) return 0;
    return i + 2 + (newline && Has(i + 2, "\n") ? 1 : 0);
  }

  Status Comment(size_t tag, size_t i, size_t* pos) {
    for (; i < s_.size(); ++i) {
      if (size_t end = TagEnd(i, "#}", true, true); end != 0) {
        *pos = end;
        return OkStatus();
      }
    }
    return Error(tag, "comment without an end");
  }

  size_t RawBegin(size_t i) const {
    i = SkipSpace(i);
    if (!Has(i, "raw")) return 0;
    i = SkipSpace(i + 3);
    return Has(i, "+") ? 0 : TagEnd(i, "%}", false, false);
  }

  Status Raw(size_t tag, size_t begin, size_t* pos) {
    line_starting_ = s_[begin - 1] == '\n';
    for (size_t at = s_.find("{%", begin); at != std::string::npos; at = s_.find("{%", at + 1)) {
      char sign = at + 2 < s_.size() && (s_[at + 2] == '-' || s_[at + 2] == '+') ? s_[at + 2] : ' ';
      size_t i = SkipSpace(at + 2 + (sign == ' ' ? 0 : 1));
      if (!Has(i, "endraw")) continue;
      size_t end = TagEnd(SkipSpace(i + 6), "%}", true, true);
      if (end == 0) continue;
      Data(begin, at, sign, false);
      *pos = end;
      return OkStatus();
    }
    return Error(tag, "raw block without an end");
  }

  Status Code(size_t i, bool block, size_t* pos) {
    std::vector<char> open;
    while (true) {
      i = SkipSpaceUnlessEnd(i);
      if (open.empty()) {
        if (size_t end = TagEnd(i, block ? "%}" : "}}", block, block); end != 0) {
          Push(block ? Tok::kBlockEnd : Tok::kVarEnd, i);
          *pos = end;
          return OkStatus();
        }
      }
      if (i >= s_.size()) {
        *pos = i;
        return OkStatus();  // the parser says what is missing
      }
      size_t next = i;
      char32_t c = Decode(s_, i, &next);
      if (c >= '0' && c <= '9') {
        WF_TRY(Number(&i));
      } else if (IsIdentifierPart(c)) {
        size_t begin = i;
        while (i < s_.size() && IsIdentifierPart(Decode(s_, i, &next))) i = next;
        Push(Tok::kName, begin, s_.substr(begin, i - begin));
      } else if (c == '"' || c == '\'') {
        WF_TRY(String(&i));
      } else {
        WF_TRY(Operator(&i, &open));
      }
    }
  }
  size_t SkipSpaceUnlessEnd(size_t i) const { return SkipSpace(i); }

  Status Operator(size_t* i, std::vector<char>* open) {
    static constexpr std::string_view kTwo[] = {"//", "**", "==", "!=", ">=", "<="};
    std::string_view op;
    for (std::string_view t : kTwo) {
      if (Has(*i, t)) op = t;
    }
    if (op.empty() && std::string_view("+-/*%~[](){}><=.:|,;").find(s_[*i]) != std::string_view::npos) {
      op = std::string_view(s_).substr(*i, 1);
    }
    if (op.empty()) return Error(*i, "unexpected character '" + s_.substr(*i, 1) + "'");
    char c = op[0];
    if (c == '(' || c == '[' || c == '{') {
      open->push_back(c == '(' ? ')' : c == '[' ? ']' : '}');
    } else if (c == ')' || c == ']' || c == '}') {
      if (open->empty()) return Error(*i, "unexpected '" + std::string(op) + "'");
      if (open->back() != c) {
        return Error(*i, "unexpected '" + std::string(op) + "', expected '" + std::string(1, open->back()) + "'");
      }
      open->pop_back();
    }
    Push(Tok::kOperator, *i, std::string(op));
    *i += op.size();
    return OkStatus();
  }

  // Digits with single underscores between them; the end of the run from i, or i if there is none.
  template <class IsDigitFn>
  size_t Digits(size_t i, IsDigitFn digit) const {
    size_t end = i;
    while (i < s_.size() && digit(s_[i])) {
      end = ++i;
      if (i + 1 < s_.size() && s_[i] == '_' && digit(s_[i + 1])) ++i;
    }
    return end;
  }

  Status Number(size_t* pos) {
    size_t begin = *pos;
    auto decimal = [](char c) { return c >= '0' && c <= '9'; };
    size_t end = Digits(begin, decimal), tail = end;
    if (begin == 0 || s_[begin - 1] != '.') {
      if (Has(tail, ".") && Digits(tail + 1, decimal) > tail + 1) tail = Digits(tail + 1, decimal);
      if (Has(tail, "e") || Has(tail, "E")) {
        size_t e = tail + 1;
        if (Has(e, "+") || Has(e, "-")) ++e;
        if (Digits(e, decimal) > e) tail = Digits(e, decimal);
      }
    }
    if (tail > end) {
      std::string digits = Clean(begin, tail);
      Token& t = Push(Tok::kFloat, begin);
      auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), t.number);
      if (parsed.ec == std::errc::result_out_of_range) {  // Python: inf or 0.0
        t.number = std::strtod(digits.c_str(), nullptr);
      }
      *pos = tail;
      return OkStatus();
    }
    int base = 10;
    size_t first = begin;
    if (s_[begin] == '0') {
      char x = begin + 1 < s_.size() ? static_cast<char>(s_[begin + 1] | 0x20) : ' ';
      int b = x == 'b' ? 2 : x == 'o' ? 8 : x == 'x' ? 16 : 10;
      auto in_base = [b](char c) {
        if (b == 16) return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
        return c >= '0' && c < '0' + b;
      };
      size_t from = begin + 2 + (b != 10 && Has(begin + 2, "_") ? 1 : 0);
      if (b != 10 && Digits(from, in_base) > from) {
        base = b;
        first = from;
        end = Digits(from, in_base);
      } else {
        end = Digits(begin, [](char c) { return c == '0'; });
      }
    }
    std::string digits = Clean(first, end);
    Token& t = Push(Tok::kInteger, begin);
    auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), t.integer, base);
    if (parsed.ec != std::errc()) return Error(begin, "integer outside 64 bits");
    *pos = end;
    return OkStatus();
  }
  std::string Clean(size_t begin, size_t end) const {
    std::string d = s_.substr(begin, end - begin);
    d.erase(std::remove(d.begin(), d.end(), '_'), d.end());
    return d;
  }

  Status String(size_t* pos) {
    size_t begin = *pos, i = begin + 1;
    char quote = s_[begin];
    std::string out;
    while (true) {
      if (i >= s_.size()) return Error(begin, "string without an end");
      char c = s_[i];
      if (c == quote) break;
      if (c != '\\') {
        out.push_back(c);
        ++i;
        continue;
      }
      if (i + 1 >= s_.size()) return Error(begin, "string without an end");
      WF_TRY(Escape(&i, &out));
    }
    Push(Tok::kString, begin, std::move(out));
    *pos = i + 1;
    return OkStatus();
  }

  Status Escape(size_t* pos, std::string* out) {
    size_t i = *pos;  // at the backslash
    char c = s_[i + 1];
    static constexpr std::string_view kFrom = "\\'\"abfnrtv", kTo = "\\'\"\a\b\f\n\r\t\v";
    if (c == '\n') {
      *pos = i + 2;
    } else if (size_t k = kFrom.find(c); k != std::string_view::npos) {
      out->push_back(kTo[k]);
      *pos = i + 2;
    } else if (c >= '0' && c <= '7') {
      char32_t cp = 0;
      size_t n = 0;
      while (n < 3 && i + 1 + n < s_.size() && s_[i + 1 + n] >= '0' && s_[i + 1 + n] <= '7') {
        cp = cp * 8 + static_cast<char32_t>(s_[i + 1 + n] - '0');
        ++n;
      }
      Encode(cp, out);
      *pos = i + 1 + n;
    } else if (c == 'x' || c == 'u' || c == 'U') {
      size_t n = c == 'x' ? 2 : c == 'u' ? 4 : 8;
      uint32_t cp = 0;
      const char* first = s_.data() + i + 2;
      if (i + 2 + n > s_.size()) return Error(i, "short escape in a string");
      auto parsed = std::from_chars(first, first + n, cp, 16);
      if (parsed.ec != std::errc() || parsed.ptr != first + n) return Error(i, "bad hexadecimal escape in a string");
      if (cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000)) return Error(i, "escape is not a Unicode character");
      Encode(cp, out);
      *pos = i + 2 + n;
    } else if (c == 'N') {
      return Unsupported(At(PositionOf(i)) + "\\N{...} escapes are not supported");
    } else {
      out->push_back('\\');
      *pos = i + 1;
    }
    return OkStatus();
  }

  std::string s_;
  std::vector<Token> tokens_;
  bool line_starting_ = true;
  size_t counted_ = 0, line_ = 1, line_start_ = 0;
};

}  // namespace wf::jinja::detail
#endif  // WF_TOKENIZER_JINJA_LEXER_IMPL_H_
