// SPDX-License-Identifier: Apache-2.0
// Bodies of text.h.
#include "server/text.h"

#include <cstdio>

#include "wf/tokenizer/utf8.h"

namespace wf::server {

Result<std::vector<int32_t>> EncodePrompt(const Model& model, std::string_view text, bool first) {
  const Tokenizer& t = model.tokenizer();
  if (text.empty() && first) {
    const Vocab& v = t.vocab();
    const int32_t id = v.bos_id >= 0 ? v.bos_id : v.eos_id;
    if (id < 0) return InvalidArgument("an empty prompt needs a BOS or end token, which this model lacks");
    return std::vector<int32_t>{id};
  }
  return t.Encode(text, first, /*parse_special=*/true);
}

std::string DecodeIds(const Model& model, std::span<const int32_t> ids) {
  const std::string raw = model.tokenizer().Decode(ids, /*skip_special=*/false);
  std::string out;
  for (size_t at = 0; at < raw.size();) {
    const Utf8Char c = NextUtf8(raw, at);
    if (c.code >= 0) {
      out.append(raw, at, c.bytes);
    } else {
      out += "\xEF\xBF\xBD";
    }
    at += c.bytes;
  }
  return out;
}

bool IsUtf8(std::string_view s) noexcept {
  for (size_t at = 0; at < s.size();) {
    const Utf8Char c = NextUtf8(s, at);
    if (c.code < 0) return false;
    at += c.bytes;
  }
  return true;
}

std::string TokenName(std::string_view piece) {
  if (IsUtf8(piece)) return std::string(piece);
  std::string out = "bytes:";
  for (const char c : piece) {
    char hex[8];
    std::snprintf(hex, sizeof hex, "\\x%02x", static_cast<unsigned>(static_cast<unsigned char>(c)));
    out += hex;
  }
  return out;
}

int64_t CodePoints(std::string_view piece) noexcept {
  int64_t n = 0;
  for (const char c : piece) n += (static_cast<unsigned char>(c) & 0xC0u) != 0x80u;
  return n;
}

}  // namespace wf::server
