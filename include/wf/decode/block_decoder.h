// SPDX-License-Identifier: Apache-2.0
// Block diffusion (semantics.md 4.2, Fast-dLLM v2): a block of masks is filled by passes over its sub-blocks, which
// commit what the model is sure of. This class knows the block, which passes it needs and what they commit; models,
// caches, sampling and the end of a text are its caller's.
#ifndef WF_DECODE_BLOCK_DECODER_H_
#define WF_DECODE_BLOCK_DECODER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "wf/base/inline.h"
#include "wf/decode/mode.h"
#include "wf/decode/pass.h"

namespace wf {

class BlockDecoder {
 public:
  struct Prediction {
    int32_t token = 0;
    float confidence = 0;  // [0, 1]
  };

  // `settings` of a diffusion mode. `ctx`: tokens of the context, where the last block ends.
  BlockDecoder(const DecodeSettings& settings, size_t prompt, size_t ctx);

  // How many tokens of the prompt are prefilled before the first block's passes: whole blocks in style fast-dllm-v2; in
  // style causal all but the last, as far as the first pass is not to take them along.
  size_t prefill_end() const noexcept { return prefill_end_; }

  // The block to be filled after `known` (prompt and output so far), which does not end at the context's end: in style
  // fast-dllm-v2 the one that holds the last known token, in style causal the first position after it.
  void Begin(std::span<const int32_t> known);
  bool begun() const noexcept { return !tokens_.empty(); }
  size_t start() const noexcept { return start_; }
  size_t end() const noexcept { return start_ + tokens_.size(); }
  bool full() const noexcept { return left_ == 0; }                     // no mask is left
  std::span<const int32_t> tokens() const noexcept { return tokens_; }  // of the block; the mask where it is not known
  bool masked(size_t position) const noexcept { return masked_[position - start_] != 0; }

  // The next pass. `computed` positions have their final K and V in the cache. Of a full block of style fast-dllm-v2:
  // the finalising pass, whose one row of logits is that of the next block's first token; in all other passes the row
  // of position i - 1 predicts position i, for masked i.
  void Plan(std::span<const int32_t> known, size_t computed, Pass* pass) const;
  // What the rows of that pass predict. Commits the sure ones, and returns how many leading positions have their final
  // K and V now; committed() are their positions, ascending.
  size_t Take(const Pass& pass, std::span<const Prediction> predictions);
  std::span<const size_t> committed() const noexcept { return committed_; }

 private:
  float Threshold() const noexcept;
  size_t SubEnd() const noexcept;
  size_t FirstMask() const noexcept;
  void NextSubBlock();

  DecodeSettings s_;
  size_t prompt_, ctx_, prefill_end_;
  size_t start_ = 0;
  std::vector<int32_t> tokens_;
  std::vector<uint8_t> masked_;
  size_t left_ = 0;         // masks
  size_t sub_ = 0;          // where the sub-block begins, within the block
  size_t passes_ = 0;       // over it
  bool has_cache_ = false;  // K and V of all of the block's positions lie in the cache, of whatever input
  std::vector<size_t> committed_;
};

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/decode/block_decoder-impl.h"
#endif
#endif  // WF_DECODE_BLOCK_DECODER_H_
