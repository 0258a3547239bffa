// SPDX-License-Identifier: Apache-2.0
// Bodies of nfc.h, over utf8proc.
#ifndef WF_TOKENIZER_NFC_IMPL_H_
#define WF_TOKENIZER_NFC_IMPL_H_

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "wf/tokenizer/nfc.h"
#include "wf/tokenizer/utf8.h"

namespace wf {

namespace detail {

inline int CombiningClass(int32_t code) { return static_cast<int>(utf8proc_get_property(code)->combining_class); }

// Decomposed code points, appended; those of one run of marks are sorted by class, as the standard wants.
// utf8proc would sort by insertion, which is quadratic in the length of a run.
inline Status AppendDecomposed(int32_t code, std::vector<utf8proc_int32_t>* out) {
  utf8proc_int32_t buffer[32];  // the longest canonical decomposition has 4
  int boundary = 0;
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | UTF8PROC_STABLE);
  const utf8proc_ssize_t n = utf8proc_decompose_char(code, buffer, 32, options, &boundary);
  if (n < 0 || n > 32) return InternalError("NFC: utf8proc cannot decompose U+" + std::to_string(code));
  out->insert(out->end(), buffer, buffer + n);
  return OkStatus();
}

inline void SortMarks(std::vector<utf8proc_int32_t>* codes) {
  for (size_t i = 0; i < codes->size();) {
    if (CombiningClass((*codes)[i]) == 0) {
      ++i;
      continue;
    }
    size_t end = i;
    while (end < codes->size() && CombiningClass((*codes)[end]) != 0) ++end;
    std::stable_sort(codes->begin() + static_cast<ptrdiff_t>(i), codes->begin() + static_cast<ptrdiff_t>(end),
                     [](int32_t a, int32_t b) { return CombiningClass(a) < CombiningClass(b); });
    i = end;
  }
}

}  // namespace detail

WF_MODEL_INLINE Result<std::string> ToNfc(std::string_view text) {
  if (std::all_of(text.begin(), text.end(), [](char c) { return static_cast<uint8_t>(c) < 0x80; })) {
    return std::string(text);
  }
  std::string out;
  out.reserve(text.size());
  std::vector<utf8proc_int32_t> codes;
  const auto flush = [&]() -> Status {
    detail::SortMarks(&codes);
    const auto options = static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    const utf8proc_ssize_t n =
        utf8proc_normalize_utf32(codes.data(), static_cast<utf8proc_ssize_t>(codes.size()), options);
    if (n < 0) return InternalError(std::string("NFC: ") + utf8proc_errmsg(n));
    for (utf8proc_ssize_t i = 0; i < n; ++i) AppendUtf8(codes[static_cast<size_t>(i)], &out);
    codes.clear();
    return OkStatus();
  };
  for (size_t pos = 0; pos < text.size();) {
    const Utf8Char c = NextUtf8(text, pos);
    if (c.code < 0) {
      WF_TRY(flush());
      out.append(text, pos, c.bytes);
    } else {
      WF_TRY(detail::AppendDecomposed(c.code, &codes));
    }
    pos += c.bytes;
  }
  WF_TRY(flush());
  return out;
}

}  // namespace wf
#endif  // WF_TOKENIZER_NFC_IMPL_H_
