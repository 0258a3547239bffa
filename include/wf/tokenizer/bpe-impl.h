// SPDX-License-Identifier: Apache-2.0
// Bodies of bpe.h.
#ifndef WF_TOKENIZER_BPE_IMPL_H_
#define WF_TOKENIZER_BPE_IMPL_H_

#include <algorithm>
#include <utility>

#include "wf/tokenizer/bpe.h"
#include "wf/tokenizer/byte_alphabet.h"

namespace wf {

namespace detail {

inline bool PairAfter(const MergeScratch::Pair& a, const MergeScratch::Pair& b) noexcept {
  return a.priority < b.priority || (a.priority == b.priority && a.left > b.left);
}

// Links scratch->symbols (begin, size and symbol are set) and merges until no pair is left.
// push(left) adds the pair that begins at that symbol to the heap, if it can merge.
template <class Push>
void MergeAll(MergeScratch* scratch, const Push& push) {
  auto& symbols = scratch->symbols;
  auto& heap = scratch->heap;
  const auto n = static_cast<int32_t>(symbols.size());
  for (int32_t i = 0; i < n; ++i) {
    symbols[static_cast<size_t>(i)].prev = i - 1;
    symbols[static_cast<size_t>(i)].next = i + 1 < n ? i + 1 : -1;
  }
  heap.clear();
  for (int32_t i = 0; i + 1 < n; ++i) push(i);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), PairAfter);
    const MergeScratch::Pair pair = heap.back();
    heap.pop_back();
    MergeScratch::Symbol& left = symbols[static_cast<size_t>(pair.left)];
    if (left.size != pair.left_size || left.next < 0) continue;
    MergeScratch::Symbol& right = symbols[static_cast<size_t>(left.next)];
    if (left.size + right.size != pair.size) continue;
    left.symbol = pair.result;
    left.size = pair.size;
    left.next = right.next;
    right.size = 0;
    if (left.next >= 0) symbols[static_cast<size_t>(left.next)].prev = pair.left;
    if (left.prev >= 0) push(left.prev);
    if (left.next >= 0) push(pair.left);
  }
}

inline void PushPair(MergeScratch* scratch, int32_t left, float priority, uint32_t result) {
  const auto& l = scratch->symbols[static_cast<size_t>(left)];
  const auto& r = scratch->symbols[static_cast<size_t>(l.next)];
  scratch->heap.push_back({priority, left, l.size, l.size + r.size, result});
  std::push_heap(scratch->heap.begin(), scratch->heap.end(), PairAfter);
}

inline bool IsMergeable(TokenType type) noexcept {
  return type == TokenType::kNormal || type == TokenType::kUserDefined || type == TokenType::kByte;
}

}  // namespace detail

WF_MODEL_INLINE size_t PairTable::Slot(uint64_t key) const noexcept {
  uint64_t h = key * 0x9E3779B97F4A7C15u;
  h ^= h >> 32;
  size_t i = static_cast<size_t>(h) & (slots_.size() - 1);
  while (slots_[i].key != key && slots_[i].key != ~uint64_t{0}) i = (i + 1) & (slots_.size() - 1);
  return i;
}

WF_MODEL_INLINE void PairTable::Reserve(size_t pairs) {
  size_t capacity = 16;
  while (capacity < pairs * 2) capacity *= 2;
  if (capacity <= slots_.size()) return;
  std::vector<Entry> old(capacity);
  old.swap(slots_);
  for (const Entry& e : old) {
    if (e.key != ~uint64_t{0}) slots_[Slot(e.key)] = e;
  }
}

WF_MODEL_INLINE void PairTable::Insert(uint32_t left, uint32_t right, uint32_t rank, uint32_t result) {
  Reserve(used_ + 1);
  const uint64_t key = (uint64_t{left} << 32) | right;
  Entry& e = slots_[Slot(key)];
  if (e.key == key) return;
  e = {key, rank, result};
  ++used_;
}

WF_MODEL_INLINE const PairTable::Entry* PairTable::Find(uint32_t left, uint32_t right) const noexcept {
  if (slots_.empty()) return nullptr;
  const uint64_t key = (uint64_t{left} << 32) | right;
  const Entry& e = slots_[Slot(key)];
  return e.key == key ? &e : nullptr;
}

WF_MODEL_INLINE Result<Bpe> Bpe::Create(const Vocab& v) {
  Bpe bpe;
  // Symbols are the distinct texts: those of tokens first, then parts of merges that are no tokens.
  std::unordered_map<std::string, uint32_t> symbols;
  symbols.reserve(v.tokens.size());
  const auto symbol_of = [&](std::string text, int32_t id) {
    const auto [it, inserted] = symbols.try_emplace(std::move(text), static_cast<uint32_t>(bpe.ids_.size()));
    if (inserted) bpe.ids_.push_back(id);
    return it->second;
  };
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    if (detail::IsMergeable(v.types[i]) && !v.tokens[i].empty()) symbol_of(v.tokens[i], static_cast<int32_t>(i));
  }
  for (int b = 0; b < 256; ++b) {
    const char byte = static_cast<char>(static_cast<uint8_t>(b));
    bpe.byte_symbols_.push_back(symbol_of(BytesToAlphabet({&byte, 1}), -1));
    if (bpe.ids_[bpe.byte_symbols_.back()] < 0) bpe.missing_bytes_.push_back(static_cast<uint8_t>(b));
  }
  if (v.ignore_merges) {
    std::string bytes;
    for (size_t i = 0; i < v.tokens.size(); ++i) {
      if (!detail::IsMergeable(v.types[i]) || v.tokens[i].empty()) continue;
      if (AlphabetToBytes(v.tokens[i], &bytes)) bpe.words_.try_emplace(bytes, static_cast<int32_t>(i));
    }
  }
  bpe.pairs_.Reserve(v.merges.size());
  for (size_t i = 0; i < v.merges.size(); ++i) {
    const size_t space = v.merges[i].size() < 2 ? std::string::npos : v.merges[i].find(' ', 1);
    if (space == std::string::npos) return FormatError("merge " + std::to_string(i) + " has no space");
    std::string left = v.merges[i].substr(0, space), right = v.merges[i].substr(space + 1), both = left + right;
    const uint32_t l = symbol_of(std::move(left), -1), r = symbol_of(std::move(right), -1);
    bpe.pairs_.Insert(l, r, static_cast<uint32_t>(i), symbol_of(std::move(both), -1));
  }
  if (v.unk_id >= 0 && v.types[static_cast<size_t>(v.unk_id)] != TokenType::kControl) bpe.unk_id_ = v.unk_id;
  return bpe;
}

WF_MODEL_INLINE void Bpe::EmitByte(uint8_t byte, std::vector<int32_t>* ids) const {
  const int32_t id = ids_[byte_symbols_[byte]];
  if (id >= 0) {
    ids->push_back(id);
  } else if (unk_id_ >= 0) {
    ids->push_back(unk_id_);
  }
}

WF_MODEL_INLINE void Bpe::Encode(std::string_view word, MergeScratch* scratch, std::vector<int32_t>* ids) const {
  if (!words_.empty()) {
    const auto it = words_.find(std::string(word));
    if (it != words_.end()) {
      ids->push_back(it->second);
      return;
    }
  }
  auto& symbols = scratch->symbols;
  symbols.clear();
  for (size_t i = 0; i < word.size(); ++i) {
    symbols.push_back({byte_symbols_[static_cast<uint8_t>(word[i])], static_cast<uint32_t>(i), 1, -1, -1});
  }
  detail::MergeAll(scratch, [&](int32_t left) {
    const auto& l = symbols[static_cast<size_t>(left)];
    const PairTable::Entry* e = pairs_.Find(l.symbol, symbols[static_cast<size_t>(l.next)].symbol);
    if (e != nullptr) detail::PushPair(scratch, left, -static_cast<float>(e->rank), e->result);
  });
  for (const MergeScratch::Symbol& s : symbols) {
    if (s.size == 0) continue;
    if (ids_[s.symbol] >= 0) {
      ids->push_back(ids_[s.symbol]);
    } else {
      for (uint32_t k = 0; k < s.size; ++k) EmitByte(static_cast<uint8_t>(word[s.begin + k]), ids);
    }
  }
}

}  // namespace wf
#endif  // WF_TOKENIZER_BPE_IMPL_H_
