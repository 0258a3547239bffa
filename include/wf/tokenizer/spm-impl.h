// SPDX-License-Identifier: Apache-2.0
// Bodies of spm.h.
#ifndef WF_TOKENIZER_SPM_IMPL_H_
#define WF_TOKENIZER_SPM_IMPL_H_

#include <algorithm>
#include <cmath>

#include "wf/tokenizer/bpe-impl.h"
#include "wf/tokenizer/spm.h"
#include "wf/tokenizer/utf8.h"

namespace wf {

namespace detail {
inline constexpr uint32_t kNoSymbol = ~uint32_t{0};
}

WF_MODEL_INLINE Result<Spm> Spm::Create(const Vocab& v) {
  if (v.scores.size() != v.tokens.size()) {
    return FormatError(std::to_string(v.scores.size()) + " scores for " + std::to_string(v.tokens.size()) + " tokens");
  }
  Spm spm;
  std::fill(std::begin(spm.byte_ids_), std::end(spm.byte_ids_), -1);
  spm.ids_.reserve(v.tokens.size());
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    if (v.types[i] == TokenType::kByte) {
      const int byte = ByteTokenValue(v.tokens[i]);
      if (byte >= 0 && spm.byte_ids_[byte] < 0) spm.byte_ids_[byte] = id;
    } else if (detail::IsMergeable(v.types[i]) && !v.tokens[i].empty()) {
      spm.ids_.try_emplace(v.tokens[i], id);
      spm.longest_ = std::max(spm.longest_, v.tokens[i].size());
    }
  }
  spm.scores_ = v.scores;
  for (size_t i = 0; i < v.merges.size(); ++i) {
    const size_t space = v.merges[i].size() < 2 ? std::string::npos : v.merges[i].find(' ', 1);
    if (space == std::string::npos) return FormatError("merge " + std::to_string(i) + " has no space");
    const std::string left = v.merges[i].substr(0, space), right = v.merges[i].substr(space + 1);
    const int32_t l = spm.Find(left), r = spm.Find(right), both = spm.Find(left + right);
    if (l < 0 || r < 0 || both < 0) continue;
    spm.pairs_.Insert(static_cast<uint32_t>(l), static_cast<uint32_t>(r), static_cast<uint32_t>(i),
                      static_cast<uint32_t>(both));
  }
  spm.unk_id_ = v.unk_id;
  spm.fuse_unk_ = v.fuse_unk;
  if (v.unk_id >= 0 && v.types[static_cast<size_t>(v.unk_id)] == TokenType::kControl) spm.unk_id_ = -1;
  return spm;
}

WF_MODEL_INLINE int32_t Spm::Find(std::string_view text) const {
  if (text.size() > longest_) return -1;
  const auto it = ids_.find(std::string(text));
  return it == ids_.end() ? -1 : it->second;
}

WF_MODEL_INLINE void Spm::PushPair(std::string_view text, int32_t left, MergeScratch* scratch) const {
  const auto& l = scratch->symbols[static_cast<size_t>(left)];
  const auto& r = scratch->symbols[static_cast<size_t>(l.next)];
  if (!pairs_.empty()) {
    const bool known = l.symbol != detail::kNoSymbol && r.symbol != detail::kNoSymbol;
    const PairTable::Entry* e = known ? pairs_.Find(l.symbol, r.symbol) : nullptr;
    if (e != nullptr) detail::PushPair(scratch, left, -static_cast<float>(e->rank), e->result);
    return;
  }
  const int32_t id = Find(text.substr(l.begin, l.size + r.size));
  if (id < 0 || !std::isfinite(scores_[static_cast<size_t>(id)])) return;
  detail::PushPair(scratch, left, scores_[static_cast<size_t>(id)], static_cast<uint32_t>(id));
}

WF_MODEL_INLINE void Spm::Encode(std::string_view text, MergeScratch* scratch, std::vector<int32_t>* ids) const {
  auto& symbols = scratch->symbols;
  symbols.clear();
  for (size_t pos = 0; pos < text.size();) {
    const Utf8Char c = NextUtf8(text, pos);
    const uint32_t size = c.code < 0 ? 1 : c.bytes;
    const int32_t id = Find(text.substr(pos, size));
    symbols.push_back(
        {id < 0 ? detail::kNoSymbol : static_cast<uint32_t>(id), static_cast<uint32_t>(pos), size, -1, -1});
    pos += size;
  }
  detail::MergeAll(scratch, [&](int32_t left) { PushPair(text, left, scratch); });
  bool after_unknown = false;
  for (const MergeScratch::Symbol& s : symbols) {
    if (s.size == 0) continue;
    if (s.symbol != detail::kNoSymbol) {
      ids->push_back(static_cast<int32_t>(s.symbol));
      after_unknown = false;
      continue;
    }
    const auto byte_id = [&](uint32_t k) { return byte_ids_[static_cast<uint8_t>(text[s.begin + k])]; };
    bool complete = true;
    for (uint32_t k = 0; k < s.size; ++k) complete = complete && byte_id(k) >= 0;
    for (uint32_t k = 0; complete && k < s.size; ++k) ids->push_back(byte_id(k));
    if (!complete && unk_id_ >= 0 && !(fuse_unk_ && after_unknown)) ids->push_back(unk_id_);
    after_unknown = !complete;
  }
}

}  // namespace wf
#endif  // WF_TOKENIZER_SPM_IMPL_H_
