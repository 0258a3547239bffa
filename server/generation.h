// SPDX-License-Identifier: Apache-2.0
// One HTTP request that generates: its sequences (prompts x choices) go to the engine, their events come back on the
// session's strand, a Format turns them into the endpoint's JSON. Not for: parsing requests, HTTP.
#ifndef WF_SERVER_GENERATION_H_
#define WF_SERVER_GENERATION_H_

#include <boost/json.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "server/errors.h"
#include "server/http.h"
#include "server/params.h"
#include "wf/engine/engine.h"

namespace wf::server {

struct Prompt {
  std::vector<int32_t> ids;
  std::string text;  // as the client wrote it, or the ids' text; only filled if the endpoint shows it
};

// One sequence: choice `index` of the answer.
struct Choice {
  int index = 0;
  size_t prompt = 0;
  uint64_t engine_id = 0;
  bool submitted = false, done = false;
  std::string text;
  std::vector<int32_t> ids;
  std::vector<TokenLogprob> logprobs;
  Event end;                 // the last event, when done
  double first_ms = 0;       // when its first token came, since submission
  int64_t first_tokens = 0;  // what came with it
};

class Generation;

// The JSON of one endpoint. Calls come on the session's strand.
class Format {
 public:
  virtual ~Format() = default;
  virtual ErrorStyle style() const { return ErrorStyle::kOpenAi; }
  virtual std::string Answer(const Generation& g) = 0;
  // Parts of a stream append whole SSE events to *out.
  virtual void Begin(const Generation& g, const Choice& c, std::string* out) = 0;
  virtual void Delta(const Generation& g, const Choice& c, const Event& e, std::string* out) = 0;
  virtual void Finish(const Generation& g, const Choice& c, bool last, std::string* out) = 0;
  virtual void End(const Generation& g, std::string* out) = 0;
};

struct GenerationLimits {
  int64_t queue_timeout_ms = 30000;
  std::string model;  // the name that answers show
  std::string fingerprint;
};

class Generation : public std::enable_shared_from_this<Generation> {
 public:
  // `prompts` x params.n sequences, index = prompt * n + i.
  Generation(Engine& engine, GenerationLimits limits, GenParams params, std::vector<Prompt> prompts,
             std::unique_ptr<Format> format, std::shared_ptr<Responder> responder);

  // Checks every prompt, then begins. On the session's strand.
  void Start();

  const Model& model() const noexcept { return engine_.model(); }
  const GenParams& params() const noexcept { return params_; }
  const std::vector<Prompt>& prompts() const noexcept { return prompts_; }
  const std::vector<Choice>& choices() const noexcept { return choices_; }
  const std::string& model_name() const noexcept { return limits_.model; }
  const std::string& fingerprint() const noexcept { return limits_.fingerprint; }
  const std::string& hex_id() const noexcept { return hex_id_; }
  int64_t created() const noexcept { return created_; }
  int64_t n_ctx() const noexcept { return engine_.options().ctx; }
  const DecodeSettings& decode() const noexcept { return decode_; }  // of its sequences

  // Sums over what is generated so far; passes, and drafts of mode verify, only when all has ended.
  json::object Usage() const;
  // Of all sequences together: tokens are summed, times are the longest.
  json::object TimingsJson() const;
  // Of one sequence, final or so far.
  json::object TimingsJson(const Choice& c) const;

 private:
  void Submit();
  void OnEvent(size_t i, Event&& e);
  void RetryLater();
  void BeginStream();
  void Fail(const ApiError& e);
  void CancelAll();
  void Complete();
  Timings TimingsOf(const Choice& c) const;
  json::object ToJson(const Timings& t, bool ended) const;
  double Now() const;

  Engine& engine_;
  GenerationLimits limits_;
  GenParams params_;
  DecodeSettings decode_;
  std::vector<Prompt> prompts_;
  std::vector<Choice> choices_;
  std::unique_ptr<Format> format_;
  std::shared_ptr<Responder> responder_;
  std::string hex_id_;
  int64_t created_ = 0;
  std::chrono::steady_clock::time_point start_;
  double refused_since_ms_ = -1;  // -1: the last Submit() was accepted
  size_t next_ = 0, running_ = 0, finished_ = 0;
  bool streaming_ = false, over_ = false, retrying_ = false;
};

// "data: {...}\n\n".
void AppendSse(const json::value& v, std::string* out);

}  // namespace wf::server
#endif  // WF_SERVER_GENERATION_H_
