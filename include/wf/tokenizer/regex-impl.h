// SPDX-License-Identifier: Apache-2.0
// Bodies of regex.h, over PCRE2 (8 bit, UTF, UCP, JIT where the machine allows it).
#ifndef WF_TOKENIZER_REGEX_IMPL_H_
#define WF_TOKENIZER_REGEX_IMPL_H_

#ifndef PCRE2_CODE_UNIT_WIDTH
#define PCRE2_CODE_UNIT_WIDTH 8
#endif
#include <pcre2.h>

#include <algorithm>
#include <cstdint>

#include "wf/tokenizer/regex.h"
#include "wf/tokenizer/utf8.h"

namespace wf {

namespace detail {

// Insides of character classes. PCRE2's own \s also has U+180E, which lost White_Space in Unicode 6.3, and
// its \w lacks marks and other connectors that Oniguruma counts.
inline constexpr char kSpaceClass[] =
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}";
inline constexpr char kNoSpaceClass[] =
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}"
    "\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}";
inline constexpr char kWordClass[] =
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{"
    "1f189}";
inline constexpr char kHexClass[] = "0-9a-fA-F";

// Walks over an Oniguruma expression once and writes PCRE2's spelling.
class PatternTranslator {
 public:
  explicit PatternTranslator(std::string_view in) : in_(in) {}

  Result<std::string> Run() {
    while (pos_ < in_.size()) {
      WF_TRY(in_[pos_] == '\\' ? Escape() : in_class_ ? InClass() : Outside());
    }
    return std::move(out_);
  }

 private:
  Status Refuse(const char* what) const {
    return Unsupported("split pattern '" + std::string(in_.substr(0, 200)) + "': " + what + " at byte " +
                       std::to_string(pos_) + " is not supported");
  }
  char At(size_t i) const { return i < in_.size() ? in_[i] : '\0'; }
  void Copy(size_t n) {
    out_.append(in_, pos_, n);
    pos_ += n;
  }
  // Replaces an escape of two characters by a class.
  void Class(const char* inside, bool negated) {
    if (!in_class_) out_ += negated ? "[^" : "[";
    out_ += inside;
    if (!in_class_) out_ += ']';
    pos_ += 2;
  }

  Status Escape() {
    const char c = At(pos_ + 1);
    if (c == 's') return Class(kSpaceClass, false), OkStatus();
    if (c == 'S') return Class(in_class_ ? kNoSpaceClass : kSpaceClass, true), OkStatus();
    if (c == 'h') return Class(kHexClass, false), OkStatus();
    if (c == 'w') return Class(kWordClass, false), OkStatus();
    if ((c == 'H' || c == 'W') && in_class_) return Refuse("a negated escape in a class");
    if (c == 'H' || c == 'W') return Class(c == 'H' ? kHexClass : kWordClass, true), OkStatus();
    if (c == 'b' && in_class_) return Copy(2), OkStatus();  // backspace
    if (c == 'b' || c == 'B') return Refuse("a word boundary");
    if (c == 'u') {  // \uHHHH
      const bool hex = in_.size() >= pos_ + 6 && std::all_of(in_.begin() + static_cast<ptrdiff_t>(pos_) + 2,
                                                             in_.begin() + static_cast<ptrdiff_t>(pos_) + 6, IsHex);
      if (!hex) return Refuse("\\u without four hex digits");
      out_ += "\\x{" + std::string(in_.substr(pos_ + 2, 4)) + "}";
      pos_ += 6;
      return OkStatus();
    }
    // Oniguruma gives these letters another meaning, or PCRE2 a meaning that is no class of characters.
    if (c != '\0' && std::string_view("QEKkgGCMcOyYLlUNRX").find(c) != std::string_view::npos) {
      return Refuse("this escape");
    }
    size_t size = std::min<size_t>(2, in_.size() - pos_);
    if ((c == 'p' || c == 'P' || c == 'x') && At(pos_ + 2) == '{') {  // the brace begins no interval
      const size_t end = in_.find('}', pos_);
      if (end == std::string_view::npos) return Refuse("an escape without '}'");
      size = end + 1 - pos_;
    }
    return Copy(size), OkStatus();
  }

  Status InClass() {
    const char c = in_[pos_];
    if (c == '&' && At(pos_ + 1) == '&') return Refuse("a class intersection");
    if (c == '[' && At(pos_ + 1) == ':') {
      const size_t end = in_.find(":]", pos_ + 2);
      if (end == std::string_view::npos) return Refuse("'[:'");
      return Copy(end + 2 - pos_), OkStatus();
    }
    if (c == '[') return Refuse("a class inside a class");
    if (c == ']' && pos_ != class_begin_) in_class_ = false;
    return Copy(1), OkStatus();
  }

  Status Outside() {
    const char c = in_[pos_];
    if (c == '[') {
      in_class_ = true;
      Copy(At(pos_ + 1) == '^' ? 2 : 1);
      class_begin_ = pos_;  // a ']' here is literal
      return OkStatus();
    }
    if (c == '(' && At(pos_ + 1) == '*') return Refuse("'(*'");
    if (c == '(' && At(pos_ + 1) == '?') {
      // Groups, look-around and inline flags mean the same; in Ruby's syntax m is what others call s.
      const std::string_view known = ":=!>#";
      const char d = At(pos_ + 2);
      const bool behind = d == '<' && (At(pos_ + 3) == '=' || At(pos_ + 3) == '!');
      bool flags = d == 'i' || d == 'x' || d == '-';
      for (size_t i = pos_ + 2; flags && i < in_.size() && in_[i] != ':' && in_[i] != ')'; ++i) {
        flags = in_[i] == 'i' || in_[i] == 'x' || in_[i] == '-';
      }
      if (!behind && !flags && known.find(d) == std::string_view::npos) return Refuse("this kind of group");
      return Copy(2), OkStatus();
    }
    if (c == '{') return Interval();
    return Copy(1), OkStatus();
  }

  // {n,m}: PCRE2 10.42 knows no {,m}, and only Oniguruma repeats an interval in {n,m}+.
  Status Interval() {
    const size_t end = in_.find('}', pos_);
    const std::string_view body = end == std::string_view::npos ? "" : in_.substr(pos_ + 1, end - pos_ - 1);
    const bool numbers =
        !body.empty() && body != "," && body.find_first_not_of("0123456789,") == std::string_view::npos;
    if (!numbers) return out_ += '\\', Copy(1), OkStatus();
    if (At(end + 1) == '+') return Refuse("'}+'");
    if (body[0] == ',') out_ += "{0", ++pos_;
    return Copy(end + 1 - pos_), OkStatus();
  }

  static bool IsHex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

  std::string_view in_;
  std::string out_;
  size_t pos_ = 0, class_begin_ = 0;
  bool in_class_ = false;
};

inline std::string PcreMessage(int code) {
  PCRE2_UCHAR buffer[256];
  if (pcre2_get_error_message(code, buffer, sizeof(buffer)) < 0) return "error " + std::to_string(code);
  return reinterpret_cast<const char*>(buffer);
}

}  // namespace detail

WF_MODEL_INLINE Result<std::string> TranslateOnigurumaPattern(std::string_view pattern) {
  return detail::PatternTranslator(pattern).Run();
}

WF_MODEL_INLINE Regex::Scratch::Scratch()
    : data_(pcre2_match_data_create(1, nullptr),
            [](void* p) { pcre2_match_data_free(static_cast<pcre2_match_data*>(p)); }),
      context_(pcre2_match_context_create(nullptr),
               [](void* p) { pcre2_match_context_free(static_cast<pcre2_match_context*>(p)); }) {}

WF_MODEL_INLINE Result<Regex> Regex::Compile(std::string_view pattern) {
  if (!IsUtf8(pattern)) return FormatError("a split pattern is not valid UTF-8");
  if (pattern.size() > 65536) return LimitError("a split pattern has more than 65536 bytes");
  WF_ASSIGN(const std::string translated, TranslateOnigurumaPattern(pattern));
  pcre2_compile_context* context = pcre2_compile_context_create(nullptr);
  if (context == nullptr) return Status(ErrorCode::kOutOfMemory, "split pattern");
  pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  pcre2_set_parens_nest_limit(context, 100);
  int error = 0;
  PCRE2_SIZE offset = 0;
  const uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | PCRE2_NO_AUTO_CAPTURE;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(), options, &error,
                                   &offset, context);
  pcre2_compile_context_free(context);
  if (code == nullptr) {
    return Unsupported("split pattern '" + std::string(pattern.substr(0, 200)) + "': " + detail::PcreMessage(error));
  }
  // Without permission for executable memory the interpreter serves; it needs no deep stack either.
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
  Regex regex;
  regex.pattern_ = std::string(pattern);
  regex.code_ = std::shared_ptr<const void>(
      code, [](const void* p) { pcre2_code_free(static_cast<pcre2_code*>(const_cast<void*>(p))); });
  return regex;
}

WF_MODEL_INLINE Status Regex::Split(std::string_view text, Scratch* scratch,
                                    std::vector<std::string_view>* pieces) const {
  const auto* code = static_cast<const pcre2_code*>(code_.get());
  auto* data = static_cast<pcre2_match_data*>(scratch->data());
  auto* context = static_cast<pcre2_match_context*>(scratch->context());
  if (data == nullptr || context == nullptr) return Status(ErrorCode::kOutOfMemory, "matching a split pattern");
  // One match may scan and give back the whole text a few times, which is what honest patterns do at worst.
  const uint64_t limit = 10'000'000 + 32 * uint64_t{text.size()};
  pcre2_set_match_limit(context, static_cast<uint32_t>(std::min<uint64_t>(limit, UINT32_MAX)));
  pcre2_set_heap_limit(context, 256 << 10);  // KiB, of the interpreter
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const auto add = [&](size_t begin, size_t end) {
    if (begin < end) pieces->push_back(text.substr(begin, end - begin));
  };
  size_t done = 0;  // end of the last piece
  for (size_t pos = 0; pos < text.size();) {
    int rc = pcre2_match(code, subject, text.size(), pos, PCRE2_NO_UTF_CHECK, data, context);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
      rc = pcre2_match(code, subject, text.size(), pos, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data, context);
    }
    if (rc == PCRE2_ERROR_NOMATCH) break;
    if (rc < 0) return LimitError("split pattern '" + pattern_.substr(0, 200) + "': " + detail::PcreMessage(rc));
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data);
    const size_t begin = ends[0], end = ends[1];
    add(done, begin);
    add(begin, end);
    done = std::max(begin, end);
    // An empty match only cuts; the search goes on behind the next character.
    pos = end > pos ? end : pos;
    if (begin == end && pos < text.size()) pos += NextUtf8(text, pos).bytes;
  }
  add(done, text.size());
  return OkStatus();
}

}  // namespace wf
#endif  // WF_TOKENIZER_REGEX_IMPL_H_
