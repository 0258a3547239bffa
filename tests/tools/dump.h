// SPDX-License-Identifier: Apache-2.0
// What the dumping programs print of bytes: all of them in hex, or their FNV-1a hash.
#ifndef WF_TESTS_TOOLS_DUMP_H_
#define WF_TESTS_TOOLS_DUMP_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace wf::test {

inline std::string Hex(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    const unsigned char u = static_cast<unsigned char>(c);
    out += "0123456789abcdef"[u >> 4];
    out += "0123456789abcdef"[u & 15];
  }
  return out;
}

inline uint64_t Fnv1a(std::string_view bytes) {
  uint64_t h = 0xcbf29ce484222325u;
  for (const char c : bytes) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return h;
}

}  // namespace wf::test
#endif  // WF_TESTS_TOOLS_DUMP_H_
