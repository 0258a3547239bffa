// SPDX-License-Identifier: Apache-2.0
// UTF-8 as it arrives: one character at a time, and a streaming decoder that never shows half a character.
// Invalid bytes follow Unicode's "maximal subpart" practice, so that replacement agrees with Python and Rust.
// Not for normalisation (nfc.h) or character classes (regex.h).
#ifndef WF_TOKENIZER_UTF8_H_
#define WF_TOKENIZER_UTF8_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace wf {

inline constexpr int32_t kUtf8Invalid = -1;     // not UTF-8; `bytes` is the maximal subpart to replace by one U+FFFD
inline constexpr int32_t kUtf8Incomplete = -2;  // a good beginning of 1 to 3 bytes at the end of the text

struct Utf8Char {
  int32_t code = kUtf8Invalid;  // code point, or one of the two above
  uint32_t bytes = 1;           // length, >= 1
};

// The character at `pos`, which must be below s.size().
inline Utf8Char NextUtf8(std::string_view s, size_t pos) noexcept {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(s[i]); };
  const uint8_t lead = byte(pos);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xC2 || lead > 0xF4) return {kUtf8Invalid, 1};
  const uint32_t tail = lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
  int32_t code = lead & (0x3F >> tail);
  // Only the second byte has a narrower range: no overlong forms, no surrogates, nothing above U+10FFFF.
  uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (uint32_t k = 1; k <= tail; ++k) {
    if (pos + k >= s.size()) return {kUtf8Incomplete, k};
    const uint8_t c = byte(pos + k);
    if (c < low || c > high) return {kUtf8Invalid, k};
    code = (code << 6) | (c & 0x3F);
    low = 0x80;
    high = 0xBF;
  }
  return {code, tail + 1};
}

// Appends a code point (0..0x10FFFF) as UTF-8.
inline void AppendUtf8(int32_t code, std::string* out) {
  const auto put = [&](int32_t b) { out->push_back(static_cast<char>(static_cast<uint8_t>(b))); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | (code >> 6));
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | (code >> 12));
    put(0x80 | ((code >> 6) & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | (code >> 18));
    put(0x80 | ((code >> 12) & 0x3F));
    put(0x80 | ((code >> 6) & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

// Bytes in, whole characters out. A sequence that may still become a character (at most 3 bytes) is held
// back; what cannot is replaced by U+FFFD. The concatenated output depends only on the concatenated input.
class Utf8Decoder {
 public:
  std::string Push(std::string_view bytes) {
    held_.append(bytes);
    std::string out;
    out.reserve(held_.size());
    size_t pos = 0;
    while (pos < held_.size()) {
      const Utf8Char c = NextUtf8(held_, pos);
      if (c.code == kUtf8Incomplete) break;
      if (c.code == kUtf8Invalid) {
        out.append(kReplacement);
      } else {
        out.append(held_, pos, c.bytes);
      }
      pos += c.bytes;
    }
    held_.erase(0, pos);
    return out;
  }
  // The end of the text: what was held back is now invalid. The decoder is as new afterwards.
  std::string Flush() {
    std::string out(held_.empty() ? std::string_view() : kReplacement);
    held_.clear();
    return out;
  }
  size_t held_bytes() const noexcept { return held_.size(); }  // 0..3

 private:
  static constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
  std::string held_;
};

// True if the whole text is valid UTF-8.
inline bool IsUtf8(std::string_view s) noexcept {
  for (size_t pos = 0; pos < s.size();) {
    const Utf8Char c = NextUtf8(s, pos);
    if (c.code < 0) return false;
    pos += c.bytes;
  }
  return true;
}

}  // namespace wf
#endif  // WF_TOKENIZER_UTF8_H_
