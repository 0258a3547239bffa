// SPDX-License-Identifier: Apache-2.0
// Byte-level BPE: the merging of one word by ranked pairs. Not for cutting text into words (pretokenize.h).
#ifndef WF_TOKENIZER_BPE_H_
#define WF_TOKENIZER_BPE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "wf/base/inline.h"
#include "wf/base/status.h"
#include "wf/tokenizer/vocab.h"

namespace wf {

// Pairs of symbols (numbers below 2^32 - 1) with a rank and the symbol they become: a flat hash table, because a
// vocabulary has some 300,000 of them.
class PairTable {
 public:
  struct Entry {
    uint64_t key = ~uint64_t{0};
    uint32_t rank = 0;
    uint32_t result = 0;
  };
  void Reserve(size_t pairs);
  void Insert(uint32_t left, uint32_t right, uint32_t rank, uint32_t result);  // the first of equal pairs stays
  const Entry* Find(uint32_t left, uint32_t right) const noexcept;             // nullptr if there is none
  bool empty() const noexcept { return used_ == 0; }

 private:
  size_t Slot(uint64_t key) const noexcept;
  std::vector<Entry> slots_;
  size_t used_ = 0;
};

// A word being merged: a linked list of symbols and a heap of candidate pairs. Kept between words only to
// save allocations.
struct MergeScratch {
  struct Symbol {
    uint32_t symbol = 0;           // symbol number (Bpe) or token id (Spm)
    uint32_t begin = 0, size = 0;  // bytes of the word; size 0: merged into its left neighbour
    int32_t prev = -1, next = -1;
  };
  struct Pair {
    float priority;  // higher first, then leftmost
    int32_t left;
    uint32_t left_size, size;  // sizes when the pair was seen: other sizes now mean that it is stale
    uint32_t result;
  };
  std::vector<Symbol> symbols;
  std::vector<Pair> heap;
};

class Bpe {
 public:
  static Result<Bpe> Create(const Vocab& vocab);

  // Appends the ids of one word (raw bytes, at most 1 GiB). O(n log n), constant stack. Control, unknown and
  // unused tokens are never made. A byte without a token becomes the unknown token, if there is one that is
  // not a control token, else nothing.
  void Encode(std::string_view word, MergeScratch* scratch, std::vector<int32_t>* ids) const;

  // Bytes that no token stands for.
  const std::vector<uint8_t>& missing_bytes() const noexcept { return missing_bytes_; }

 private:
  void EmitByte(uint8_t byte, std::vector<int32_t>* ids) const;
  PairTable pairs_;
  std::vector<int32_t> ids_;                        // symbol -> token id, -1: not a token
  std::vector<uint32_t> byte_symbols_;              // 256
  std::unordered_map<std::string, int32_t> words_;  // whole words by raw bytes, only with ignore_merges
  std::vector<uint8_t> missing_bytes_;
  int32_t unk_id_ = -1;
};

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/tokenizer/bpe-impl.h"
#endif
#endif  // WF_TOKENIZER_BPE_H_
