// SPDX-License-Identifier: Apache-2.0
// Finds the tokens that are recognised in text before everything else, with the flags that Hugging Face's "added
// tokens" have, and where control tokens are permitted. Part of tokenizer-impl.h. Not for what lies between them.
#ifndef WF_TOKENIZER_ADDED_TOKENS_IMPL_H_
#define WF_TOKENIZER_ADDED_TOKENS_IMPL_H_

#include <utf8proc.h>

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "wf/base/status.h"
#include "wf/tokenizer/utf8.h"
#include "wf/tokenizer/vocab.h"

namespace wf::detail {

// The begin of the character that ends before `end` (> 0); invalid bytes count one by one.
inline size_t CharBefore(std::string_view text, size_t end) {
  for (size_t n = 1; n <= 4 && n <= end; ++n) {
    const Utf8Char c = NextUtf8(text.substr(0, end), end - n);
    if (c.code >= 0) return c.bytes == n ? end - n : end - 1;
  }
  return end - 1;
}

inline bool IsWhiteSpace(int32_t c) {
  return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
         c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

// \w of the regular expressions with which Hugging Face's library asks for single words: letters, marks, decimal
// digits, letter numbers and symbols that count as letters, connectors, joiners.
inline bool IsWordChar(int32_t c) {
  if (c < 0) return false;
  const auto in = [c](int32_t low, int32_t high) { return c >= low && c <= high; };
  if (in(0x24B6, 0x24E9) || in(0x1F130, 0x1F149) || in(0x1F150, 0x1F169) || in(0x1F170, 0x1F189)) return true;
  if (in(0x200C, 0x200D)) return true;
  switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return false;
  }
}

// The parts of a text in which control tokens count: ascending, apart from each other, none empty.
using Permitted = std::vector<std::pair<size_t, size_t>>;

// Looks for the longest token at a place: a trie, so that thousands of them cost nothing.
class AddedTokens {
 public:
  // Empty texts are not added. The first of equal texts stays.
  void Add(std::string_view text, int32_t id, int32_t flags, bool needs_permission) {
    if (text.empty()) return;
    uint32_t node = 0;
    for (const char c : text) {
      node = edges_.try_emplace(Key(node, c), static_cast<uint32_t>(nodes_.size())).first->second;
      if (node == nodes_.size()) nodes_.emplace_back();
    }
    Node& end = nodes_[node];
    if (end.id < 0) end = {id, flags, needs_permission};
    first_[static_cast<uint8_t>(text[0])] = true;
  }
  bool empty() const noexcept { return nodes_.size() == 1; }

  // Calls gap(begin, end) for text outside of tokens, never empty, and hit(id) for each token, in order; both give
  // a Status. Linear in the text.
  template <class Gap, class Hit>
  Status Split(std::string_view text, const Permitted& permitted, const Gap& gap, const Hit& hit) const {
    size_t done = 0, run = 0;  // all before `done` was given to gap or hit
    for (size_t pos = 0; pos < text.size();) {
      while (run < permitted.size() && permitted[run].second <= pos) ++run;
      const bool inside = run < permitted.size() && permitted[run].first <= pos;
      const auto [token, length] = Longest(text, pos, inside ? permitted[run].second : 0);
      if (token == nullptr) {
        ++pos;
        continue;
      }
      size_t begin = pos, end = pos + length;
      pos = end;
      if ((token->flags & TokenMatch::kSingleWord) != 0 && TouchesWord(text, begin, end)) continue;
      if ((token->flags & TokenMatch::kLstrip) != 0) {
        while (begin > done) {
          const size_t before = CharBefore(text, begin);
          if (before < done || !IsWhiteSpace(NextUtf8(text, before).code)) break;
          begin = before;
        }
      }
      if ((token->flags & TokenMatch::kRstrip) != 0) {
        while (end < text.size()) {
          const Utf8Char c = NextUtf8(text, end);
          if (!IsWhiteSpace(c.code)) break;
          end += c.bytes;
        }
      }
      if (begin > done) WF_TRY(gap(done, begin));
      WF_TRY(hit(token->id));
      pos = done = end;
    }
    return done < text.size() ? gap(done, text.size()) : OkStatus();
  }

 private:
  struct Node {
    int32_t id = -1;
    int32_t flags = 0;
    bool needs_permission = false;
  };
  static uint64_t Key(uint32_t node, char c) { return (uint64_t{node} << 8) | static_cast<uint8_t>(c); }

  static bool TouchesWord(std::string_view text, size_t begin, size_t end) {
    return (begin > 0 && IsWordChar(NextUtf8(text, CharBefore(text, begin)).code)) ||
           (end < text.size() && IsWordChar(NextUtf8(text, end).code));
  }

  // The longest token at `pos` and its length, nullptr if none. Tokens that need permission must end at or before
  // `permitted_end`.
  std::pair<const Node*, size_t> Longest(std::string_view text, size_t pos, size_t permitted_end) const {
    std::pair<const Node*, size_t> best{nullptr, 0};
    if (!first_[static_cast<uint8_t>(text[pos])]) return best;
    uint32_t node = 0;
    for (size_t i = pos; i < text.size(); ++i) {
      const auto it = edges_.find(Key(node, text[i]));
      if (it == edges_.end()) break;
      node = it->second;
      const Node& n = nodes_[node];
      if (n.id >= 0 && (!n.needs_permission || i + 1 <= permitted_end)) best = {&n, i + 1 - pos};
    }
    return best;
  }

  std::unordered_map<uint64_t, uint32_t> edges_;
  std::vector<Node> nodes_{Node{}};
  bool first_[256] = {};
};

}  // namespace wf::detail
#endif  // WF_TOKENIZER_ADDED_TOKENS_IMPL_H_
