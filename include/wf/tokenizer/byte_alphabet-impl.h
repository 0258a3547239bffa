// SPDX-License-Identifier: Apache-2.0
// Bodies of byte_alphabet.h.
#ifndef WF_TOKENIZER_BYTE_ALPHABET_IMPL_H_
#define WF_TOKENIZER_BYTE_ALPHABET_IMPL_H_

#include <array>
#include <cstdint>

#include "wf/tokenizer/byte_alphabet.h"
#include "wf/tokenizer/utf8.h"

namespace wf {

namespace detail {

// byte -> code point: printable Latin-1 stays, the other 68 bytes get U+0100 upwards in increasing order.
inline const std::array<uint16_t, 256>& ByteAlphabet() {
  static const std::array<uint16_t, 256> table = [] {
    std::array<uint16_t, 256> t{};
    uint16_t next = 0x100;
    for (uint16_t b = 0; b < 256; ++b) {
      const bool same = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      t[b] = same ? b : next++;
    }
    return t;
  }();
  return table;
}

}  // namespace detail

WF_MODEL_INLINE std::string BytesToAlphabet(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const char c : bytes) AppendUtf8(detail::ByteAlphabet()[static_cast<uint8_t>(c)], &out);
  return out;
}

WF_MODEL_INLINE bool AlphabetToBytes(std::string_view text, std::string* bytes) {
  static const std::array<int16_t, 0x144> table = [] {
    std::array<int16_t, 0x144> t{};
    t.fill(-1);
    for (int16_t b = 0; b < 256; ++b) t[detail::ByteAlphabet()[static_cast<size_t>(b)]] = b;
    return t;
  }();
  bytes->clear();
  for (size_t pos = 0; pos < text.size();) {
    const Utf8Char c = NextUtf8(text, pos);
    if (c.code < 0 || c.code >= 0x144 || table[static_cast<size_t>(c.code)] < 0) return false;
    bytes->push_back(static_cast<char>(static_cast<uint8_t>(table[static_cast<size_t>(c.code)])));
    pos += c.bytes;
  }
  return true;
}

}  // namespace wf
#endif  // WF_TOKENIZER_BYTE_ALPHABET_IMPL_H_
