// SPDX-License-Identifier: Apache-2.0
// UTF-8 and the character classes of Python's str methods. Callers hand in valid UTF-8 (template source and
// JSON are checked at the door); broken bytes still cannot make these read out of bounds.
#ifndef WF_TOKENIZER_JINJA_UNICODE_IMPL_H_
#define WF_TOKENIZER_JINJA_UNICODE_IMPL_H_

#include <utf8proc.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "wf/base/inline.h"

namespace wf::jinja::detail {

// The code point at byte i (i < s.size()); *next is the byte after it. A broken sequence is one U+FFFD per byte.
inline char32_t Decode(std::string_view s, size_t i, size_t* next) {
  auto byte = [&](size_t k) { return static_cast<unsigned char>(s[k]); };
  unsigned char c = byte(i);
  size_t n = c < 0x80 ? 1 : c >= 0xf0 && c < 0xf5 ? 4 : c >= 0xe0 ? 3 : c >= 0xc2 ? 2 : 0;
  *next = i + 1;
  if (n == 1) return c;
  if (n == 0 || c >= 0xf5 || i + n > s.size()) return 0xfffd;
  char32_t cp = c & (0x7fu >> n);
  for (size_t k = 1; k < n; ++k) {
    if ((byte(i + k) & 0xc0) != 0x80) return 0xfffd;
    cp = (cp << 6) | (byte(i + k) & 0x3fu);
  }
  *next = i + n;
  return cp;
}

inline void Encode(char32_t cp, std::string* out) {
  auto put = [&](char32_t b) { out->push_back(static_cast<char>(static_cast<unsigned char>(b))); };
  if (cp < 0x80) {
    put(cp);
  } else if (cp < 0x800) {
    put(0xc0 | (cp >> 6));
    put(0x80 | (cp & 0x3f));
  } else if (cp < 0x10000) {
    put(0xe0 | (cp >> 12));
    put(0x80 | ((cp >> 6) & 0x3f));
    put(0x80 | (cp & 0x3f));
  } else {
    put(0xf0 | (cp >> 18));
    put(0x80 | ((cp >> 12) & 0x3f));
    put(0x80 | ((cp >> 6) & 0x3f));
    put(0x80 | (cp & 0x3f));
  }
}

// The byte offset of the first broken sequence, or s.size().
inline size_t FirstInvalidUtf8(std::string_view s) {
  for (size_t i = 0; i < s.size();) {
    size_t next = i;
    char32_t cp = Decode(s, i, &next);
    bool minimal = next - i == (cp < 0x80 ? 1u : cp < 0x800 ? 2u : cp < 0x10000 ? 3u : 4u);
    if (!minimal || (cp >= 0xd800 && cp < 0xe000) || cp > 0x10ffff) return i;
    i = next;
  }
  return s.size();
}

inline size_t CountCodePoints(std::string_view s) {
  size_t n = 0;
  for (char c : s) n += (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  return n;
}

// Byte offset of code point `index` (s.size() if past the end).
inline size_t ByteOffset(std::string_view s, size_t index) {
  size_t i = 0;
  while (i < s.size()) {
    if ((static_cast<unsigned char>(s[i]) & 0xc0) != 0x80 && index-- == 0) return i;
    ++i;
  }
  return i;
}

inline bool IsSpace(char32_t c) {  // str.isspace
  return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}
inline bool IsLineBreak(char32_t c) {  // where str.splitlines splits
  return (c >= 10 && c <= 13) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029;
}
inline utf8proc_category_t Category(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }
inline bool IsAlpha(char32_t c) {
  utf8proc_category_t k = Category(c);
  return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}
inline bool IsDecimal(char32_t c) { return Category(c) == UTF8PROC_CATEGORY_ND; }
inline bool IsDigit(char32_t c) {  // decimals, superscripts, circled digits
  return IsDecimal(c) || c == 0xb2 || c == 0xb3 || c == 0xb9 || c == 0x2070 || (c >= 0x2074 && c <= 0x2079) ||
         (c >= 0x2080 && c <= 0x2089) || (c >= 0x2460 && c <= 0x2468);
}
inline bool IsNumeric(char32_t c) {
  utf8proc_category_t k = Category(c);
  return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO;
}
inline bool IsUpper(char32_t c) { return Category(c) == UTF8PROC_CATEGORY_LU; }
inline bool IsTitle(char32_t c) { return Category(c) == UTF8PROC_CATEGORY_LT; }
inline bool IsLower(char32_t c) { return Category(c) == UTF8PROC_CATEGORY_LL || c == 0xaa || c == 0xba; }
inline bool IsCased(char32_t c) { return IsUpper(c) || IsLower(c) || IsTitle(c); }
inline bool IsIdentifierPart(char32_t c) {
  if (c < 0x80) return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  utf8proc_category_t k = Category(c);
  return IsAlpha(c) || IsDecimal(c) || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_MN ||
         k == UTF8PROC_CATEGORY_MC || k == UTF8PROC_CATEGORY_PC;
}
// What repr() shows as itself.
inline bool IsPrintable(char32_t c) {
  if (c == ' ') return true;
  switch (Category(c)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    default:
      return true;
  }
}

// Code points whose upper or title case has more than one code point (the common part of SpecialCasing.txt).
struct SpecialCase {
  char32_t cp;
  const char* upper;
  const char* title;
};
inline constexpr SpecialCase kSpecialCases[] = {
    {0xdf, "SS", "Ss"},
    {0x149, "\xca\xbcN", "\xca\xbcN"},
    {0x1f0, "J\xcc\x8c", "J\xcc\x8c"},
    {0x587, "\xd4\xb5\xd5\x92", "\xd4\xb5\xd6\x82"},
    {0xfb00, "FF", "Ff"},
    {0xfb01, "FI", "Fi"},
    {0xfb02, "FL", "Fl"},
    {0xfb03, "FFI", "Ffi"},
    {0xfb04, "FFL", "Ffl"},
    {0xfb05, "ST", "St"},
    {0xfb06, "ST", "St"},
};

inline void AppendUpper(char32_t c, std::string* out) {
  for (const SpecialCase& s : kSpecialCases) {
    if (s.cp == c) return void(out->append(s.upper));
  }
  Encode(static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))), out);
}
inline void AppendTitle(char32_t c, std::string* out) {
  for (const SpecialCase& s : kSpecialCases) {
    if (s.cp == c) return void(out->append(s.title));
  }
  Encode(static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c))), out);
}
// Lower case of the code point at byte i of s; the final sigma rule looks at its neighbours.
inline void AppendLower(std::string_view s, size_t i, char32_t c, size_t next, std::string* out) {
  if (c == 0x130) return void(out->append("i\xcc\x87"));
  if (c == 0x3a3) {
    bool before = false, after = false;
    for (size_t k = i; k > 0;) {
      do {
        --k;
      } while (k > 0 && (static_cast<unsigned char>(s[k]) & 0xc0) == 0x80);
      size_t end = 0;
      char32_t p = Decode(s, k, &end);
      if (IsCased(p)) before = true;
      if (IsCased(p) || Category(p) != UTF8PROC_CATEGORY_MN) break;
    }
    for (size_t k = next; k < s.size();) {
      size_t end = 0;
      char32_t p = Decode(s, k, &end);
      if (IsCased(p)) after = true;
      if (IsCased(p) || Category(p) != UTF8PROC_CATEGORY_MN) break;
      k = end;
    }
    return Encode(before && !after ? 0x3c2 : 0x3c3, out);
  }
  Encode(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))), out);
}

}  // namespace wf::jinja::detail
#endif  // WF_TOKENIZER_JINJA_UNICODE_IMPL_H_
