// SPDX-License-Identifier: Apache-2.0
// SentencePiece-style BPE: characters of the whole text merge by score, what remains unknown becomes bytes.
// Not for unigram models; the space prefix is the caller's (tokenizer.h).
#ifndef WF_TOKENIZER_SPM_H_
#define WF_TOKENIZER_SPM_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "wf/base/inline.h"
#include "wf/base/status.h"
#include "wf/tokenizer/bpe.h"
#include "wf/tokenizer/vocab.h"

namespace wf {

class Spm {
 public:
  static Result<Spm> Create(const Vocab& vocab);

  // Appends the ids of a text whose spaces are already U+2581. O(n log n), constant stack. Control, unknown,
  // unused and byte tokens are never made by merging; characters without a token become byte tokens, bytes
  // without one the unknown token, if there is one; with fuse_unk once for neighbours.
  void Encode(std::string_view text, MergeScratch* scratch, std::vector<int32_t>* ids) const;

 private:
  int32_t Find(std::string_view text) const;
  void PushPair(std::string_view text, int32_t left, MergeScratch* scratch) const;
  std::unordered_map<std::string, int32_t> ids_;
  std::vector<float> scores_;
  PairTable pairs_;  // of a tokenizer.json; empty: any two pieces that make a token may merge
  size_t longest_ = 0;
  int32_t byte_ids_[256];
  int32_t unk_id_ = -1;
  bool fuse_unk_ = false;
};

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/tokenizer/spm-impl.h"
#endif
#endif  // WF_TOKENIZER_SPM_H_
