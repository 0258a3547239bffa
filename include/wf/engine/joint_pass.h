// SPDX-License-Identifier: Apache-2.0
// The passes that several sequences have planned, joined into one pass over the weights.
#ifndef WF_ENGINE_JOINT_PASS_H_
#define WF_ENGINE_JOINT_PASS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
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

  // `logits` is memory that outlives the pass so as not to be asked for again; `vocab` logits a row.
  JointPass(Transformer* transformer, KvPool* pool, size_t vocab, std::vector<float>* logits)
      : transformer_(*transformer), pool_(*pool), vocab_(vocab), logits_(*logits) {}
  ~JointPass() { Release(); }
  JointPass(const JointPass&) = delete;
  JointPass& operator=(const JointPass&) = delete;

  // Adds the pass that `s` has planned; its blocks hold all positions of the pass. `acquire` gives a block of the pool,
  // or -1 if there is none: then the sequence takes no part, and the answer is false.
  bool Add(Sequence* s, const std::function<int32_t()>& acquire);
  // Computes the rows; every sequence takes what is its own, and what was acquired goes back to the pool. Once.
  void Run();
  size_t logits_rows() const noexcept { return wanted_; }  // rows of logits that the sequences want

 private:
  bool Borrow(const Sequence& s, const std::function<int32_t()>& acquire);
  void Release();

  Transformer& transformer_;
  KvPool& pool_;
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
