// SPDX-License-Identifier: Apache-2.0
// What a caller of the engine asks and what comes back: plain data.
#ifndef WF_ENGINE_REQUEST_H_
#define WF_ENGINE_REQUEST_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "wf/base/status.h"
#include "wf/decode/mode.h"
#include "wf/decode/sampling.h"

namespace wf {

class JsonGrammar;  // decode/json_grammar.h

struct Request {
  std::vector<int32_t> prompt;  // token ids, used as they are; at least one, each < the model's vocabulary
  SamplingParams sampling;
  DecodeOptions decode;                 // what is not given is the engine's, then the model's
  int64_t max_tokens = -1;              // -1: the rest of the context; larger values are clamped to it; 0: prefill only
  int64_t min_tokens = 0;               // end tokens are not sampled before
  std::vector<std::string> stop;        // stop strings, none empty; not part of the output
  std::vector<int32_t> stop_token_ids;  // end the generation like end tokens
  bool ignore_eos = false;              // end tokens of the model do not end the generation
  bool include_stop = false;            // leave the stop string in the text
  int32_t logprobs = -1;  // -1: none; n >= 0: logprob of each token and of the n most probable ones (<= 20)
  // From submission; 0: none. Passed: the request ends kLength with timed_out, or kDeadline if it has no token yet.
  int64_t deadline_ms = 0;
  bool cache_prompt = true;  // use the prefix cache and add to it
  std::string cache_salt;    // requests with different salts share nothing
  // The answer is a text of it, as far as it gets; then it ends kStop. Modes ar and verify, without min_tokens and
  // ignore_eos.
  std::shared_ptr<const JsonGrammar> grammar;
  bool show_blocks = false;  // block diffusion: an event after every pass, with the block as it is (Event::block)
};

enum class FinishReason : uint8_t { kNone, kStop, kLength, kCancelled, kError };
enum class StopType : uint8_t { kNone, kEos, kWord, kLimit };  // kEos: end token or stop id; kWord: stop string

// Raw model log-softmax at temperature 1, before penalties, bias and masks of the sampler. Of block diffusion: the
// log of the confidence with which the token was committed, the others as the model saw them in that pass.
struct TokenLogprob {
  int32_t id = 0;
  float logprob = 0;
  std::vector<std::pair<int32_t, float>> top;  // best first
};

struct Timings {
  int64_t prompt_tokens = 0;                             // all of the prompt
  int64_t cached_tokens = 0;                             // of them, not computed again
  int64_t generated_tokens = 0;                          // sampled, the end token included
  int64_t first_tokens = 0;                              // of them, those that came in one pass with the first
  int64_t passes = 0;                                    // over the weights, after the prefill
  int64_t drafted = 0, accepted = 0;                     // mode verify: drafts checked, and of them right
  double queue_ms = 0, prompt_ms = 0, predicted_ms = 0;  // waiting; until the first token; from it to the last
  int64_t seed = -1;                                     // the seed that was used; -1 if none was (greedy)
};

// A piece of one request's output. The first is empty: the request has left the queue. Texts of all events,
// concatenated, are the answer: valid UTF-8, no code point split, nothing that a stop string later takes back.
struct Event {
  std::string text;
  std::vector<int32_t> ids;            // tokens of this piece, end token included; text may lag behind them
  std::vector<TokenLogprob> logprobs;  // one an id, if asked for
  std::vector<int32_t> block;          // of Request::show_blocks: tokens of the block being filled, -1 for masks
  int64_t block_start = 0;             // position of the first of them, in prompt and answer
  bool finished = false;               // the last event; only then the fields below are set
  FinishReason reason = FinishReason::kNone;
  StopType stop_type = StopType::kNone;
  std::string stop_word;  // the stop string that was met
  bool timed_out = false;
  Status status;  // of kError and kCancelled
  Timings timings;
};

// Called on the engine's thread, in order, never after a finished event: must be quick and must not call
// the engine back.
using EventSink = std::function<void(Event&&)>;

}  // namespace wf
#endif  // WF_ENGINE_REQUEST_H_
