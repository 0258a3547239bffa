// SPDX-License-Identifier: Apache-2.0
// One request while it is in the engine: its tokens, its blocks, its sampler, the passes that it needs, and how its
// output becomes events. Not thread-safe: the inference thread's, once it has been admitted.
#ifndef WF_ENGINE_SEQUENCE_H_
#define WF_ENGINE_SEQUENCE_H_

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "wf/base/inline.h"
#include "wf/decode/block_decoder.h"
#include "wf/decode/draft_verifier.h"
#include "wf/decode/mode.h"
#include "wf/decode/pass.h"
#include "wf/decode/sampler.h"
#include "wf/decode/stop.h"
#include "wf/decode/token_mask.h"
#include "wf/engine/request.h"
#include "wf/model/model.h"
#include "wf/model/transformer.h"
#include "wf/tokenizer/utf8.h"

namespace wf {

class Sequence {
 public:
  using Clock = std::chrono::steady_clock;
  Sequence(Request r, EventSink s, const DecodeSettings& settings, const Model& m, const KernelTable& kernels,
           int64_t ctx, DraftHistory* drafts);

  // From now on only texts that `state` lets through. Before the first Plan().
  void Constrain(ConstrainedState state) { constraint_ = std::move(state); }

  // The next pass into `pass`, with at most `budget` rows of the prompt (but at least a whole block of style
  // fast-dllm-v2). False, and ended, if none is needed.
  bool Plan(size_t budget, const PassCosts& costs);
  // The question whose answers, in `candidates`, Take() uses in place of logits; null if it needs all of them.
  const HeadQuery* Query(size_t vocab);
  // Takes what the planned pass gave, a row of `vocab` logits for each of pass.rows (which are used up), or
  // `candidates` in place of those that have any, and passes on what may be shown.
  void Take(float* logits, size_t vocab, const Transformer& transformer);
  void End(FinishReason reason, StopType type, Status status);
  void EndAtDeadline();                 // kLength with timed_out if there are tokens, else kDeadline
  void EmitBegin() { sink_(Event()); }  // the request has a place: an event without anything in it
  void EmitLast();                      // after End(): the event that ends the request

  bool ended() const noexcept { return last.finished; }
  bool Decoding() const noexcept { return decoding_; }  // the prompt is done
  const DecodeSettings& settings() const noexcept { return settings_; }
  // The attention rule of what the cache holds of it: SequenceRows::attention_block.
  size_t attention_block() const noexcept;

  uint64_t id = 0;
  Request request;
  std::vector<int32_t> tokens;  // prompt and generated
  size_t prompt_size = 0;
  size_t computed = 0;         // tokens whose final K and V are in the cache
  size_t cached = 0;           // of them, found there
  bool prefix_sought = false;  // the prefix cache has been asked for the prompt
  bool prefix_kept = false;    // the prompt has been given to the prefix cache
  int64_t generated = 0;
  int64_t max_tokens = 0;  // bounded by the context
  std::vector<int32_t> blocks;
  std::vector<uint8_t*> pointers;
  Clock::time_point submitted, admitted, first_token, last_token;
  Event last;  // being filled until it is emitted
  Pass pass;
  std::vector<std::vector<Candidate>> candidates;

 private:
  using Prediction = BlockDecoder::Prediction;

  void PlanPrompt(size_t end, size_t budget, size_t attention_block);
  void TakeNext(float* logits, size_t vocab, const Transformer& transformer);
  void TakeVerified(float* logits, size_t vocab, const Transformer& transformer);
  void TakeBlock(float* logits, size_t vocab);
  std::vector<int32_t> Best(size_t row, const float* logits, size_t vocab) const;
  int32_t Choose(size_t row, float* logits, size_t vocab, const Transformer& transformer);
  bool Append(int32_t token);
  bool Push(int32_t token);
  void Emit();

  bool IsEnd(int32_t token) const;
  std::span<const int32_t> Forbidden(int64_t index);
  void Show(const std::string& text);
  TokenLogprob Logprob(const float* logits, size_t n, float lse, int32_t token) const;

  EventSink sink_;
  DecodeSettings settings_;
  const Model& model_;
  const KernelTable& kernels_;
  Sampler sampler_;
  Utf8Decoder decoder_;
  StopMatcher stops_;
  std::optional<BlockDecoder> block_;
  std::optional<DraftVerifier> verifier_;
  std::optional<ConstrainedState> constraint_;
  bool decoding_ = false;
  int64_t passes_ = 0, first_tokens_ = 0;
  std::vector<int32_t> banned_;     // never chosen; ascending
  std::vector<int32_t> forbidden_;  // and end tokens, while there are fewer than min_tokens, or what no grammar allows
  HeadQuery query_;
  std::vector<float> raw_;
  std::vector<Prediction> predictions_;
  std::vector<TokenLogprob> logprobs_;        // of predictions_
  std::vector<TokenLogprob> block_logprobs_;  // of the block's positions
};

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/engine/sequence-impl.h"
#endif
#endif  // WF_ENGINE_SEQUENCE_H_
