// SPDX-License-Identifier: Apache-2.0
// The passes that several sequences have planned, joined into one pass over the weights.
#ifndef WF_ENGINE_JOINT_PASS_H_
#define WF_ENGINE_JOINT_PASS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "wf/base/inline.h"
#include "wf/cache/kv_pool.h"
#include "wf/engine/sequence.h"
#include "wf/model/transformer.h"

namespace wf {

class JointPass {
 public:
  // K/V blocks that a draft pass needs beside those of its sequence, at most: it may begin within one.
  static constexpr size_t kDraftBlocks = kMaxDiffusionBlock / kKvBlock + 1;

  // `drafts` gives the K/V blocks of draft passes, kDraftBlocks for each sequence; `logits` is memory that outlives the
  // pass so as not to be asked for again; `vocab` logits a row.
  JointPass(Transformer* transformer, KvPool* drafts, size_t vocab, std::vector<float>* logits)
      : transformer_(*transformer), drafts_(*drafts), vocab_(vocab), logits_(*logits) {}
  ~JointPass() { Release(); }
  JointPass(const JointPass&) = delete;
  JointPass& operator=(const JointPass&) = delete;

  // Adds the pass that `s` has planned; its blocks hold all positions of the pass. Ends it if no block is left for a
  // draft.
  void Add(Sequence* s);
  // Computes the rows; every sequence takes what is its own, and blocks of drafts are free again. Once.
  void Run();
  size_t logits_rows() const noexcept { return wanted_; }  // rows of logits that the sequences want

 private:
  bool Borrow(Sequence* s);
  void Release();

  Transformer& transformer_;
  KvPool& drafts_;
  size_t vocab_;
  std::vector<float>& logits_;
  std::vector<SequenceRows> rows_;
  std::vector<Sequence*> owners_;
  std::vector<std::vector<uint8_t*>> draft_blocks_;
  std::vector<int32_t> borrowed_;
  size_t wanted_ = 0;
};

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/engine/joint_pass-impl.h"
#endif
#endif  // WF_ENGINE_JOINT_PASS_H_
