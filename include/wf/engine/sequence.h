// SPDX-License-Identifier: Apache-2.0
// One request while it is in the engine: its tokens, its blocks, its sampler, and how its output becomes events.
// Not thread-safe: the inference thread's, once it has been admitted.
#ifndef WF_ENGINE_SEQUENCE_H_
#define WF_ENGINE_SEQUENCE_H_

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "wf/base/inline.h"
#include "wf/decode/sampler.h"
#include "wf/decode/stop.h"
#include "wf/engine/request.h"
#include "wf/model/model.h"
#include "wf/model/transformer.h"
#include "wf/tokenizer/utf8.h"

namespace wf {

class Sequence {
 public:
  using Clock = std::chrono::steady_clock;
  Sequence(Request r, EventSink s, const Model& m, const KernelTable& kernels, int64_t ctx);

  // The question whose answer, in `candidates`, Next() takes in place of the n logits; null if it needs these. `banned`
  // ascends.
  const HeadQuery* Query(size_t n, std::span<const int32_t> banned);
  // Takes the next token from a row of logits, or from `candidates` if there are any, and passes on what may be shown
  // of it.
  void Next(float* logits, size_t n, std::span<const int32_t> banned, const Transformer& transformer);
  void End(FinishReason reason, StopType type, Status status);
  void EndAtDeadline();                 // kLength with timed_out if there are tokens, else kDeadline
  void EmitBegin() { sink_(Event()); }  // the request has a place: an event without anything in it
  void EmitLast();                      // after End(): the event that ends the request

  bool ended() const noexcept { return last.finished; }
  bool Decoding() const noexcept { return computed >= prompt_size; }

  uint64_t id = 0;
  Request request;
  std::vector<int32_t> tokens;  // prompt and generated
  size_t prompt_size = 0;
  size_t computed = 0;  // tokens whose K and V are in the cache
  int64_t generated = 0;
  int64_t max_tokens = 0;  // bounded by the context
  std::vector<int32_t> blocks;
  std::vector<uint8_t*> pointers;
  Clock::time_point submitted, admitted, first_token, last_token;
  Event last;  // being filled until it is emitted
  std::vector<Candidate> candidates;

 private:
  bool IsEnd(int32_t token) const;
  std::span<const int32_t> Forbidden(std::span<const int32_t> banned);
  void Show(const std::string& text);
  void AddLogprob(const float* logits, size_t n, float lse, int32_t token);

  EventSink sink_;
  const Model& model_;
  Sampler sampler_;
  Utf8Decoder decoder_;
  StopMatcher stops_;
  std::vector<int32_t> forbidden_;  // banned and end tokens, while there are fewer than min_tokens
  HeadQuery query_;
  std::vector<float> raw_;
};

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/engine/sequence-impl.h"
#endif
#endif  // WF_ENGINE_SEQUENCE_H_
