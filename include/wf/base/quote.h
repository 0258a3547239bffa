// SPDX-License-Identifier: Apache-2.0
// Names from files, made fit for an error message: quoted, control and non-ASCII bytes as \xNN, long ones
// cut, so that a hostile file cannot write to the reader's terminal. Not for JSON or shells.
#ifndef WF_BASE_QUOTE_H_
#define WF_BASE_QUOTE_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace wf {

// At most `limit` bytes of s are shown, then "..." after the closing quote.
inline std::string Quote(std::string_view s, size_t limit = 100) {
  std::string out = "'";
  for (const char c : s.substr(0, limit)) {
    const unsigned char u = static_cast<unsigned char>(c);
    if (u >= 0x20 && u < 0x7f && c != '\'' && c != '\\') {
      out += c;
    } else {
      out += "\\x";
      out += "0123456789abcdef"[u >> 4];
      out += "0123456789abcdef"[u & 15];
    }
  }
  out += '\'';
  if (s.size() > limit) out += "...";
  return out;
}

}  // namespace wf
#endif  // WF_BASE_QUOTE_H_
