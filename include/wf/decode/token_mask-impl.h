// SPDX-License-Identifier: Apache-2.0
// Bodies of token_mask.h.
#ifndef WF_DECODE_TOKEN_MASK_IMPL_H_
#define WF_DECODE_TOKEN_MASK_IMPL_H_

#include <algorithm>
#include <bit>
#include <cstdio>
#include <limits>

#include "wf/decode/token_mask.h"
#include "wf/tokenizer/utf8.h"

namespace wf {

WF_MODEL_INLINE size_t TokenMask::Count() const noexcept {
  size_t n = 0;
  for (const uint64_t w : words_) n += static_cast<size_t>(std::popcount(w));
  return n;
}

WF_MODEL_INLINE void TokenMask::Members(std::vector<int32_t>* ids) const {
  ids->clear();
  for (size_t i = 0; i < words_.size(); ++i) {
    for (uint64_t w = words_[i]; w != 0; w &= w - 1) ids->push_back(static_cast<int32_t>(i * 64) + std::countr_zero(w));
  }
}

WF_MODEL_INLINE void TokenMask::Others(std::vector<int32_t>* ids) const {
  ids->clear();
  for (size_t i = 0; i < words_.size(); ++i) {
    uint64_t w = ~words_[i];
    if (i + 1 == words_.size() && rows_ % 64 != 0) w &= (uint64_t{1} << (rows_ % 64)) - 1;
    for (; w != 0; w &= w - 1) ids->push_back(static_cast<int32_t>(i * 64) + std::countr_zero(w));
  }
}

// Characters of a text that a JSON string takes as it is; 0 for all others.
inline uint32_t PlainCharacters(std::string_view piece) {
  uint32_t n = 0;
  for (size_t pos = 0; pos < piece.size(); ++n) {
    const Utf8Char c = NextUtf8(piece, pos);
    if (c.code < 0x20 || c.code == '"' || c.code == '\\') return 0;
    pos += c.bytes;
  }
  return n;
}

WF_MODEL_INLINE TokenTable::TokenTable(const Tokenizer& tokenizer, size_t rows, std::span<const int32_t> banned)
    : tokenizer_(tokenizer), rows_(rows), text_(rows), plain_(kPlain, TokenMask(rows)) {
  TokenMask never(rows);
  for (const int32_t id : banned) {
    if (id >= 0 && static_cast<size_t>(id) < rows) never.Set(id);
  }
  for (const int32_t id : tokenizer.eog()) {
    if (static_cast<size_t>(id) < rows && !never.Has(id)) end_tokens_.push_back(id);
  }
  std::vector<std::pair<std::string, int32_t>> pieces, rest;
  const int32_t size = static_cast<int32_t>(std::min(rows, static_cast<size_t>(tokenizer.size())));
  pieces.reserve(static_cast<size_t>(size));
  for (int32_t id = 0; id < size; ++id) {
    const TokenType type = tokenizer.vocab().types[static_cast<size_t>(id)];
    if (tokenizer.IsControl(id) || tokenizer.IsEog(id) || never.Has(id)) continue;
    if (type == TokenType::kUnused || type == TokenType::kUnknown) continue;
    std::string piece = tokenizer.Piece(id);
    if (piece.empty() || piece.size() > std::numeric_limits<uint16_t>::max()) continue;
    text_.Set(id);
    if (piece.size() == 1) has_byte_[static_cast<uint8_t>(piece[0])] = true;
    pieces.emplace_back(std::move(piece), id);
  }
  std::sort(pieces.begin(), pieces.end());
  for (const auto& p : pieces) {
    const uint32_t n = PlainCharacters(p.first);
    if (n > 0 && n <= kPlain) {
      plain_[n - 1].Set(p.second);
    } else {
      rest.push_back(p);
    }
  }
  for (uint32_t i = 1; i < kPlain; ++i) plain_[i].Add(plain_[i - 1]);
  all_ = Build(pieces);
  rest_ = Build(rest);
}

WF_MODEL_INLINE TokenTable::Tree TokenTable::Build(std::span<const std::pair<std::string, int32_t>> sorted) {
  Tree tree;
  std::vector<uint32_t> path;  // nodes of the bytes of the piece before
  std::string_view before;
  const auto close = [&](size_t depth) {
    for (; path.size() > depth; path.pop_back()) tree.nodes[path.back()].end = static_cast<uint32_t>(tree.nodes.size());
  };
  for (const auto& [piece, id] : sorted) {
    size_t same = 0;
    while (same < before.size() && same < piece.size() && before[same] == piece[same]) ++same;
    close(same);
    for (size_t i = same; i < piece.size(); ++i) {
      path.push_back(static_cast<uint32_t>(tree.nodes.size()));
      tree.nodes.push_back(
          {0, static_cast<uint32_t>(tree.ids.size()), static_cast<uint16_t>(i), static_cast<uint8_t>(piece[i])});
    }
    tree.ids.push_back(id);
    before = piece;
    max_depth_ = std::max(max_depth_, piece.size());
  }
  close(0);
  tree.nodes.push_back({0, static_cast<uint32_t>(tree.ids.size()), 0, 0});
  return tree;
}

WF_MODEL_INLINE Result<ConstrainedState> ConstrainedState::Create(std::shared_ptr<const TokenTable> tokens,
                                                                  std::shared_ptr<const JsonGrammar> grammar) {
  for (uint32_t b = 0; b < 256; ++b) {
    const uint8_t byte = static_cast<uint8_t>(b);
    if (!grammar->uses(byte) || tokens->HasByte(byte)) continue;
    std::array<char, 8> text;
    std::snprintf(text.data(), text.size(), "0x%02X", b);
    return Unsupported(std::string("output within a grammar: no token of the vocabulary is the byte ") + text.data());
  }
  return ConstrainedState(std::move(tokens), std::move(grammar));
}

WF_MODEL_INLINE void ConstrainedState::Walk(const TokenTable::Tree& tree, TokenMask* mask) {
  path_.resize(tokens_->max_depth() + 1);
  path_[0] = matcher_.state();
  for (size_t i = 0; i < tree.size();) {
    const TokenTable::Node& node = tree.nodes[i];
    const JsonMatcher::State s = matcher_.Next(path_[node.depth], node.byte);
    if (s == JsonMatcher::kDead) {
      i = node.end;
      continue;
    }
    for (uint32_t t = node.first_id; t < tree.nodes[i + 1].first_id; ++t) mask->Set(tree.ids[t]);
    path_[node.depth + size_t{1}] = s;
    ++i;
  }
}

WF_MODEL_INLINE Result<const TokenMask*> ConstrainedState::Allowed() {
  const JsonMatcher::State state = ended_ ? JsonMatcher::kDead : matcher_.state();
  for (const auto& [of, mask] : cache_) {
    if (of == state) return &mask;
  }
  TokenMask mask(tokens_->rows());
  if (!ended_) {
    matcher_.ResetWork();
    bool only = false;
    const uint32_t room = matcher_.room(state, &only);
    if (room == JsonGrammar::kNever || (only && room > 0)) {
      mask.Add(tokens_->plain(std::min(room, TokenTable::kPlain)));
      Walk(tokens_->rest(), &mask);
    } else {
      Walk(tokens_->all(), &mask);
    }
    if (matcher_.overworked()) return LimitError("the schema has too many alternatives to follow at once");
  }
  if (CanEnd()) {
    for (const int32_t id : tokens_->end_tokens()) mask.Set(id);
  }
  if (cache_.size() < kCached) {
    cache_.emplace_back(state, std::move(mask));
    return &cache_.back().second;
  }
  auto& entry = cache_[oldest_];
  oldest_ = (oldest_ + 1) % kCached;
  entry = {state, std::move(mask)};
  return &entry.second;
}

WF_MODEL_INLINE bool ConstrainedState::Accept(int32_t id) {
  if (ended_) return false;
  if (std::find(tokens_->end_tokens().begin(), tokens_->end_tokens().end(), id) != tokens_->end_tokens().end()) {
    ended_ = matcher_.CanEnd();
    return ended_;
  }
  if (!tokens_->IsText(id)) return false;
  matcher_.ResetWork();
  JsonMatcher::State s = matcher_.state();
  for (const char c : tokens_->Piece(id)) {
    s = matcher_.Next(s, static_cast<uint8_t>(c));
    if (s == JsonMatcher::kDead) return false;
  }
  matcher_.set_state(s);
  if (matcher_.Trim()) cache_.clear();
  return true;
}

}  // namespace wf
#endif  // WF_DECODE_TOKEN_MASK_IMPL_H_
