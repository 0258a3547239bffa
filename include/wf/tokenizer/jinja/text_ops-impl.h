// SPDX-License-Identifier: Apache-2.0
// Operations on Text that filters and string methods share. Positions are bytes unless a name says code points.
#ifndef WF_TOKENIZER_JINJA_TEXT_OPS_IMPL_H_
#define WF_TOKENIZER_JINJA_TEXT_OPS_IMPL_H_

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "wf/tokenizer/jinja/interp-impl.h"

namespace wf::jinja::detail {

// Code point before byte i (> 0); *begin is where it starts.
inline char32_t DecodeBefore(std::string_view s, size_t i, size_t* begin) {
  size_t b = i - 1, next = 0;
  while (b > 0 && i - b < 4 && (static_cast<unsigned char>(s[b]) & 0xc0) == 0x80) --b;
  char32_t c = Decode(s, b, &next);
  *begin = next == i ? b : i - 1;
  return next == i ? c : 0xfffd;
}

// Maps each code point; map(i, c, next, &out) writes what stands for it. Marks follow.
template <class Map>
Text MapText(Interp& in, const Text& t, Map map) {
  Text out;
  out.markup = t.markup;
  in.Work(t.size() * 2);
  std::string piece;
  for (size_t i = 0, next = 0; i < t.size() && !in.failed(); i = next) {
    char32_t c = Decode(t.bytes(), i, &next);
    piece.clear();
    map(i, c, next, &piece);
    in.Add(&out, piece, t.AnyUser() && t.UserAt(i));
  }
  return out;
}
inline Text Upper(Interp& in, const Text& t) {
  return MapText(in, t, [](size_t, char32_t c, size_t, std::string* out) { AppendUpper(c, out); });
}
inline Text Lower(Interp& in, const Text& t) {
  return MapText(in, t,
                 [&](size_t i, char32_t c, size_t next, std::string* out) { AppendLower(t.bytes(), i, c, next, out); });
}
inline Text Capitalize(Interp& in, const Text& t) {
  return MapText(in, t, [&](size_t i, char32_t c, size_t next, std::string* out) {
    if (i == 0) {
      AppendTitle(c, out);
    } else {
      AppendLower(t.bytes(), i, c, next, out);
    }
  });
}
inline Text SwapCase(Interp& in, const Text& t) {
  return MapText(in, t, [&](size_t i, char32_t c, size_t next, std::string* out) {
    if (IsUpper(c)) {
      AppendLower(t.bytes(), i, c, next, out);
    } else if (IsLower(c)) {
      AppendUpper(c, out);
    } else {
      Encode(c, out);
    }
  });
}
inline Text Title(Interp& in, const Text& t) {  // str.title
  bool inside = false;
  return MapText(in, t, [&](size_t i, char32_t c, size_t next, std::string* out) {
    if (inside) {
      AppendLower(t.bytes(), i, c, next, out);
    } else {
      AppendTitle(c, out);
    }
    inside = IsCased(c);
  });
}
inline Text TitleFilter(Interp& in, const Text& t) {  // Jinja's: words end at white space and opening brackets
  bool inside = false;
  size_t tail = 0;  // the word's second character: Python lowers the tail by itself, which matters for a final sigma
  return MapText(in, t, [&](size_t i, char32_t c, size_t next, std::string* out) {
    if (c == '-' || IsSpace(c) || c == '(' || c == '{' || c == '[' || c == '<') {
      inside = false;
      Encode(c, out);
    } else if (inside) {
      AppendLower(std::string_view(t.bytes()).substr(tail), i - tail, c, next - tail, out);
    } else {
      AppendUpper(c, out);
      inside = true;
      tail = next;
    }
  });
}

// Without chars: white space.
inline Text Strip(Interp& in, const Text& t, const std::string* chars, bool left, bool right) {
  std::u32string set;
  if (chars != nullptr) {
    for (size_t i = 0, next = 0; i < chars->size(); i = next) set.push_back(Decode(*chars, i, &next));
  }
  auto drop = [&](char32_t c) { return chars == nullptr ? IsSpace(c) : set.find(c) != std::u32string::npos; };
  const std::string& s = t.bytes();
  size_t begin = 0, end = s.size(), steps = 0;
  while (left && begin < end && !in.failed()) {
    size_t next = begin;
    if (!drop(Decode(s, begin, &next))) break;
    begin = next;
    if (++steps % 256 == 0) in.Work(256 * (set.size() + 1));
  }
  while (right && end > begin && !in.failed()) {
    size_t before = end;
    if (!drop(DecodeBefore(s, end, &before))) break;
    end = before;
    if (++steps % 256 == 0) in.Work(256 * (set.size() + 1));
  }
  return t.Sub(begin, end);
}

// count < 0: all.
inline Text Replace(Interp& in, const Text& t, const Text& from, const Text& to, int64_t count) {
  Text out;
  out.markup = t.markup;
  const std::string& s = t.bytes();
  in.Work(s.size());
  size_t i = 0, copied = 0;
  while (count != 0 && !in.failed()) {
    size_t at = i;
    if (from.size() == 0) {
      if (i > s.size()) break;
    } else {
      at = s.find(from.bytes(), i);
      if (at == std::string::npos) break;
    }
    in.Add(&out, t, copied, at);
    in.Add(&out, to);
    copied = at + from.size();
    if (from.size() > 0) {
      i = copied;
    } else if (i < s.size()) {  // an empty `from` matches before every code point and at the end
      Decode(s, at, &i);
    } else {
      i = s.size() + 1;
    }
    if (count > 0) --count;
  }
  in.Add(&out, t, std::min(copied, s.size()), s.size());
  return out;
}

inline std::vector<ByteRange> SplitLines(const std::string& s, bool keep_ends) {
  std::vector<ByteRange> lines;
  size_t begin = 0;
  for (size_t i = 0, next = 0; i < s.size(); i = next) {
    char32_t c = Decode(s, i, &next);
    if (!IsLineBreak(c)) continue;
    if (c == '\r' && next < s.size() && s[next] == '\n') ++next;
    lines.push_back({begin, keep_ends ? next : i});
    begin = next;
  }
  if (begin < s.size()) lines.push_back({begin, s.size()});
  return lines;
}

// At white space (sep null) or at sep; max < 0: no bound. From the right if `reverse`.
inline std::vector<ByteRange> Split(const std::string& s, const std::string* sep, int64_t max, bool reverse) {
  std::vector<ByteRange> out;
  if (sep != nullptr && !reverse) {
    size_t begin = 0;
    for (size_t at; max != 0 && (at = s.find(*sep, begin)) != std::string::npos; max -= max > 0) {
      out.push_back({begin, at});
      begin = at + sep->size();
    }
    out.push_back({begin, s.size()});
  } else if (sep != nullptr) {
    size_t end = s.size();
    while (max != 0 && end >= sep->size()) {
      size_t at = s.rfind(*sep, end - sep->size());
      if (at == std::string::npos) break;
      out.push_back({at + sep->size(), end});
      end = at;
      max -= max > 0;
    }
    out.push_back({0, end});
  } else if (!reverse) {
    size_t i = 0, next = 0;
    while (true) {
      while (i < s.size() && IsSpace(Decode(s, i, &next))) i = next;
      if (i >= s.size()) break;
      size_t begin = i;
      if (max == 0) {
        out.push_back({begin, s.size()});
        break;
      }
      while (i < s.size() && !IsSpace(Decode(s, i, &next))) i = next;
      out.push_back({begin, i});
      max -= max > 0;
    }
  } else {
    size_t i = s.size(), before = 0;
    while (true) {
      while (i > 0 && IsSpace(DecodeBefore(s, i, &before))) i = before;
      if (i == 0) break;
      size_t end = i;
      if (max == 0) {
        out.push_back({0, end});
        break;
      }
      while (i > 0 && !IsSpace(DecodeBefore(s, i, &before))) i = before;
      out.push_back({i, end});
      max -= max > 0;
    }
  }
  if (reverse) std::reverse(out.begin(), out.end());
  return out;
}

inline Value ListOf(Interp& in, const Text& t, const std::vector<ByteRange>& ranges) {
  std::vector<Value> items;
  in.Work(t.size());
  in.Step(ranges.size() / 16);
  for (const ByteRange& r : ranges) {
    if (in.failed()) break;
    items.push_back(in.Str(t.Sub(r.begin, r.end)));
  }
  return in.List(std::move(items));
}

inline Value Join(Interp& in, const Text& separator, const std::vector<Value>& items, bool any_type) {
  Text out;
  out.markup = separator.markup && !any_type;
  for (size_t i = 0; i < items.size() && in.Step(); ++i) {
    if (i > 0) in.Add(&out, separator);
    if (!any_type && !items[i].IsString()) return in.Error("join() needs strings");
    in.Add(&out, out.markup ? in.Escape(items[i]).AsText() : in.ToText(items[i]));
  }
  return in.Str(std::move(out));
}

// Pads to `width` code points. align: '<', '>', '^' as str.format centres, 'c' as str.center does.
inline Value Pad(Interp& in, const Text& t, int64_t width, const Text& fill, char align) {
  int64_t have = static_cast<int64_t>(CountCodePoints(t.bytes()));
  int64_t missing = std::max<int64_t>(0, width - have);
  if (missing > static_cast<int64_t>(in.limits().output_bytes)) {
    return in.Fail(ErrorCode::kLimit, "string over " + std::to_string(in.limits().output_bytes) + " bytes");
  }
  int64_t left = align == '>' ? missing : align == '<' ? 0 : missing / 2 + (align == 'c' ? missing & width & 1 : 0);
  Text out;
  out.markup = t.markup;
  for (int64_t i = 0; i < left && in.Add(&out, fill); ++i) {
  }
  in.Add(&out, t);
  for (int64_t i = left; i < missing && in.Add(&out, fill); ++i) {
  }
  return in.Str(std::move(out));
}

// float(str): optional white space, sign, digits with single underscores between, inf, nan.
inline std::optional<double> ParseFloat(std::string_view s) {
  while (!s.empty() && IsSpace(static_cast<unsigned char>(s.front()))) s.remove_prefix(1);
  while (!s.empty() && IsSpace(static_cast<unsigned char>(s.back()))) s.remove_suffix(1);
  std::string clean;
  for (size_t i = 0; i < s.size(); ++i) {
    auto digit = [&](size_t k) { return k < s.size() && s[k] >= '0' && s[k] <= '9'; };
    if (s[i] == '_') {
      if (i == 0 || !digit(i - 1) || !digit(i + 1)) return std::nullopt;
      continue;
    }
    clean.push_back(s[i]);
  }
  std::string_view body = clean;
  bool negative = !body.empty() && body[0] == '-';
  if (!body.empty() && (body[0] == '-' || body[0] == '+')) body.remove_prefix(1);
  std::string word;
  for (char c : body) word.push_back(static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c));
  double d = 0;
  if (word == "inf" || word == "infinity") {
    d = std::numeric_limits<double>::infinity();
  } else if (word == "nan") {
    d = std::numeric_limits<double>::quiet_NaN();
  } else {
    if (word.empty() || !((word[0] >= '0' && word[0] <= '9') || word[0] == '.')) return std::nullopt;
    auto r = std::from_chars(word.data(), word.data() + word.size(), d);
    if (r.ptr != word.data() + word.size() || r.ec == std::errc::invalid_argument) return std::nullopt;
    if (r.ec == std::errc::result_out_of_range) {
      size_t e = word.find('e');
      bool tiny = e != std::string::npos && e + 1 < word.size() && word[e + 1] == '-';
      d = tiny ? 0 : std::numeric_limits<double>::infinity();
    }
  }
  return negative ? -d : d;
}

// int(str, base). *overflow: it is an integer, but not one of 64 bits.
inline std::optional<int64_t> ParseInteger(std::string_view s, int64_t base, bool* overflow) {
  while (!s.empty() && IsSpace(static_cast<unsigned char>(s.front()))) s.remove_prefix(1);
  while (!s.empty() && IsSpace(static_cast<unsigned char>(s.back()))) s.remove_suffix(1);
  bool negative = !s.empty() && s[0] == '-';
  if (!s.empty() && (s[0] == '-' || s[0] == '+')) s.remove_prefix(1);
  bool prefixed = false;
  if (s.size() > 2 && s[0] == '0') {
    char x = static_cast<char>(s[1] | 0x20);
    int64_t b = x == 'x' ? 16 : x == 'o' ? 8 : x == 'b' ? 2 : 0;
    if (b != 0 && (base == b || base == 0)) {
      s.remove_prefix(2);
      base = b;
      prefixed = true;
    }
  }
  if (base == 0) {
    if (s.size() > 1 && s[0] == '0' && s.find_first_not_of("0_") != std::string_view::npos) return std::nullopt;
    base = 10;
  }
  if (base < 2 || base > 36) return std::nullopt;
  std::string clean(negative ? "-" : "");
  for (size_t i = 0; i < s.size(); ++i) {
    if (s[i] == '_' && (i > 0 || prefixed) && i + 1 < s.size() && (i == 0 || s[i - 1] != '_')) continue;
    clean.push_back(s[i]);
  }
  if (s.empty() || s[0] == '-') return std::nullopt;
  int64_t value = 0;
  auto r = std::from_chars(clean.data(), clean.data() + clean.size(), value, static_cast<int>(base));
  if (r.ptr != clean.data() + clean.size() || r.ec == std::errc::invalid_argument) return std::nullopt;
  if (r.ec == std::errc::result_out_of_range) {
    *overflow = true;
    return std::nullopt;
  }
  return value;
}

}  // namespace wf::jinja::detail
#endif  // WF_TOKENIZER_JINJA_TEXT_OPS_IMPL_H_
