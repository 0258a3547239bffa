// SPDX-License-Identifier: Apache-2.0
// Bodies of generation.h.
#include "server/generation.h"

#include <algorithm>
#include <limits>

namespace wf::server {
namespace {

// A stream whose request waits is begun after this long at the latest: proxies give up on silence after 60 s.
constexpr int64_t kLatestStartMs = 45000;
constexpr int64_t kEarliestStartMs = 15000;
// Between attempts to queue further sequences of a request of which some have run.
constexpr int64_t kRetryMs = 20;

double PerSecond(double n, double ms) { return ms > 0 ? n * 1000 / ms : 0; }

}  // namespace

void AppendSse(const json::value& v, std::string* out) {
  out->append("data: ").append(json::serialize(v)).append("\n\n");
}

Generation::Generation(Engine& engine, GenerationLimits limits, GenParams params, std::vector<Prompt> prompts,
                       std::unique_ptr<Format> format, std::shared_ptr<Responder> responder)
    : engine_(engine),
      limits_(std::move(limits)),
      params_(std::move(params)),
      prompts_(std::move(prompts)),
      format_(std::move(format)),
      responder_(std::move(responder)),
      hex_id_(RandomHex24()),
      created_(std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
                   .count()),
      start_(std::chrono::steady_clock::now()) {
  choices_.resize(prompts_.size() * static_cast<size_t>(params_.n));
  for (size_t i = 0; i < choices_.size(); ++i) {
    choices_[i].index = static_cast<int>(i);
    choices_[i].prompt = i / static_cast<size_t>(params_.n);
  }
}

double Generation::Now() const {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start_).count();
}

void Generation::Start() {
  // All prompts are checked before one is queued: a bad one costs no work.
  for (const Prompt& p : prompts_) {
    params_.request.prompt = p.ids;
    const Status ok = engine_.Check(params_.request);
    if (ok.ok()) continue;
    over_ = true;
    const bool too_long = ok.code() == ErrorCode::kLimit && static_cast<int64_t>(p.ids.size()) + 1 > n_ctx();
    const ApiError e = too_long ? ContextExceeded(static_cast<int64_t>(p.ids.size()), n_ctx()) : FromCheck(ok);
    return responder_->Send(ErrorResponse(e, format_->style()));
  }
  params_.request.prompt.clear();
  auto decode = ResolveDecode(OverDefaults(params_.request.decode, engine_.options().decode), model(), n_ctx());
  if (decode.ok()) decode_ = *decode;  // it is, after the checks
  // Weak: the engine's sinks own this object while something runs, the session must not.
  const std::weak_ptr<Generation> weak = weak_from_this();
  responder_->OnGone([weak] {
    if (auto self = weak.lock()) {
      self->over_ = true;
      self->CancelAll();
    }
  });
  Submit();
  if (over_ || !params_.stream) return;
  // A request that waits longer than the queue allows ends with an ordinary 503; one that is still silent after that
  // is in prefill, and its stream begins so that the connection shows life.
  const int64_t wait = limits_.queue_timeout_ms > 0 ? limits_.queue_timeout_ms + 1000 : kEarliestStartMs;
  responder_->PostAfter(std::clamp(wait, kEarliestStartMs, kLatestStartMs), [weak] {
    if (auto self = weak.lock()) {
      if (!self->over_) self->BeginStream();
    }
  });
}

void Generation::Submit() {
  const auto at_once = static_cast<size_t>(std::max(engine_.options().max_running, 1));
  while (!over_ && next_ < choices_.size() && running_ < at_once) {
    const size_t i = next_;
    Choice& c = choices_[i];
    Request request = params_.request;
    request.prompt = prompts_[c.prompt].ids;
    int64_t& seed = request.sampling.seed;
    if (seed != -1) {  // each choice of a prompt has its own stream; -1 would mean a random one
      seed =
          static_cast<int64_t>(static_cast<uint64_t>(seed) + static_cast<uint64_t>(i % static_cast<size_t>(params_.n)));
      if (seed == -1) seed = std::numeric_limits<int64_t>::min();
    }
    auto id = engine_.Submit(std::move(request), [self = shared_from_this(), i](Event&& e) {
      // A std::function must be copyable, an Event is: it moves into the posted function once.
      auto event = std::make_shared<Event>(std::move(e));
      self->responder_->Post([self, i, event] { self->OnEvent(i, std::move(*event)); });
    });
    if (!id.ok()) {
      if (id.status().code() != ErrorCode::kUnavailable || next_ == 0) return Fail(FromStatus(id.status()));
      if (running_ == 0) RetryLater();
      return;
    }
    refused_since_ms_ = -1;
    c.engine_id = *id;
    c.submitted = true;
    ++next_;
    ++running_;
  }
}

// Some sequences have run, the rest waits for room in the queue: as long as a request may wait, then it fails.
void Generation::RetryLater() {
  if (retrying_) return;
  if (refused_since_ms_ < 0) refused_since_ms_ = Now();
  const int64_t limit = limits_.queue_timeout_ms > 0 ? limits_.queue_timeout_ms : kLatestStartMs;
  if (Now() - refused_since_ms_ > static_cast<double>(limit)) {
    return Fail(QueueTimeout("the rest of the request found no room in the queue"));
  }
  retrying_ = true;
  responder_->PostAfter(kRetryMs, [self = shared_from_this()] {
    self->retrying_ = false;
    self->Submit();
  });
}

void Generation::BeginStream() {
  if (streaming_) return;
  streaming_ = true;
  HttpResponse head;
  head.content_type = "text/event-stream";
  head.headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}};
  responder_->StartStream(std::move(head), ": ping\n\n");
  std::string out;
  for (const Choice& c : choices_) format_->Begin(*this, c, &out);
  responder_->Write(std::move(out));
}

void Generation::OnEvent(size_t i, Event&& e) {
  Choice& c = choices_[i];
  if (e.finished) {
    c.done = true;
    c.end.timings = e.timings;
    --running_;
  }
  if (over_) return;
  if (e.finished && (e.reason == FinishReason::kError || e.reason == FinishReason::kCancelled)) {
    if (e.status.code() == ErrorCode::kUnavailable) return Fail(QueueTimeout(e.status.message()));
    return Fail(FromStatus(e.status.ok() ? InternalError("the request ended early") : e.status));
  }
  if (e.finished && e.timed_out && c.ids.empty() && e.ids.empty()) {
    return Fail(FromStatus(Status(ErrorCode::kDeadline, "the time limit passed before the first token")));
  }
  if (c.ids.empty() && !e.ids.empty()) {
    c.first_ms = Now();
    c.first_tokens = static_cast<int64_t>(e.ids.size());
  }
  c.text += e.text;
  c.ids.insert(c.ids.end(), e.ids.begin(), e.ids.end());
  c.logprobs.insert(c.logprobs.end(), e.logprobs.begin(), e.logprobs.end());
  std::string out;
  if (params_.stream) {
    BeginStream();
    format_->Delta(*this, c, e, &out);
  }
  if (e.finished) {
    ++finished_;
    c.end = std::move(e);
    if (params_.stream) format_->Finish(*this, c, finished_ == choices_.size(), &out);
  }
  if (!out.empty()) responder_->Write(std::move(out));
  if (finished_ == choices_.size()) return Complete();
  if (c.done) Submit();
}

void Generation::Complete() {
  over_ = true;
  if (!params_.stream) {
    HttpResponse r;
    r.body = format_->Answer(*this);
    return responder_->Send(std::move(r));
  }
  std::string out;
  format_->End(*this, &out);
  responder_->Write(std::move(out));
  responder_->End();
}

void Generation::Fail(const ApiError& e) {
  over_ = true;
  CancelAll();
  if (!streaming_) return responder_->Send(ErrorResponse(e, format_->style()));
  responder_->Write("data: " + ErrorJson(e, format_->style()) + "\n\n");
  responder_->End();
}

void Generation::CancelAll() {
  for (const Choice& c : choices_) {
    if (c.submitted && !c.done) engine_.Cancel(c.engine_id);
  }
}

Timings Generation::TimingsOf(const Choice& c) const {
  if (c.done) return c.end.timings;
  Timings t;  // so far, by this side's clock
  t.prompt_tokens = static_cast<int64_t>(prompts_[c.prompt].ids.size());
  t.generated_tokens = static_cast<int64_t>(c.ids.size());
  t.first_tokens = c.first_tokens;
  t.prompt_ms = c.first_ms;
  t.predicted_ms = c.ids.empty() ? 0 : Now() - c.first_ms;
  t.seed = params_.request.sampling.seed;
  return t;
}

json::object Generation::ToJson(const Timings& t, bool ended) const {
  const int64_t prompt_n = t.prompt_tokens - t.cached_tokens;
  // What came with the first token belongs to prompt_ms, so rates count what came after it.
  const auto after_first = static_cast<double>(t.generated_tokens - t.first_tokens);
  const auto computed = static_cast<double>(prompt_n);
  json::object o{{"cache_n", t.cached_tokens},
                 {"prompt_n", prompt_n},
                 {"prompt_ms", t.prompt_ms},
                 {"prompt_per_token_ms", prompt_n > 0 ? t.prompt_ms / computed : 0.0},
                 {"prompt_per_second", PerSecond(computed, t.prompt_ms)},
                 {"predicted_n", t.generated_tokens},
                 {"predicted_ms", t.predicted_ms},
                 {"predicted_per_token_ms", after_first > 0 ? t.predicted_ms / after_first : 0.0},
                 {"predicted_per_second", PerSecond(after_first, t.predicted_ms)},
                 {"queue_ms", t.queue_ms},
                 {"seed", t.seed}};
  if (!ended) return o;  // only the last event tells passes
  o["passes"] = t.passes;
  o["tokens_per_pass"] = t.passes > 0 ? static_cast<double>(t.generated_tokens) / static_cast<double>(t.passes) : 0.0;
  if (decode_.mode == DecodeMode::kVerify) {
    o["draft_n"] = t.drafted;
    o["draft_n_accepted"] = t.accepted;
  }
  return o;
}

json::object Generation::TimingsJson(const Choice& c) const { return ToJson(TimingsOf(c), c.done); }

json::object Generation::TimingsJson() const {
  Timings sum = TimingsOf(choices_.front());
  for (size_t i = 1; i < choices_.size(); ++i) {
    const Timings t = TimingsOf(choices_[i]);
    sum.prompt_tokens += t.prompt_tokens;
    sum.cached_tokens += t.cached_tokens;
    sum.generated_tokens += t.generated_tokens;
    sum.first_tokens += t.first_tokens;
    sum.passes += t.passes;
    sum.drafted += t.drafted;
    sum.accepted += t.accepted;
    sum.prompt_ms = std::max(sum.prompt_ms, t.prompt_ms);
    sum.predicted_ms = std::max(sum.predicted_ms, t.predicted_ms);
    sum.queue_ms = std::max(sum.queue_ms, t.queue_ms);
  }
  return ToJson(sum, finished_ == choices_.size());
}

json::object Generation::Usage() const {
  int64_t prompt = 0, cached = 0, completion = 0, passes = 0, drafted = 0, accepted = 0;
  for (const Choice& c : choices_) {
    completion += c.done ? c.end.timings.generated_tokens : static_cast<int64_t>(c.ids.size());
    passes += c.end.timings.passes;
    drafted += c.end.timings.drafted;
    accepted += c.end.timings.accepted;
    if (c.index % params_.n != 0) continue;  // a prompt counts once, however many choices it has
    prompt += static_cast<int64_t>(prompts_[c.prompt].ids.size());
    if (c.done) cached += c.end.timings.cached_tokens;
  }
  json::object usage{{"prompt_tokens", prompt},
                     {"completion_tokens", completion},
                     {"total_tokens", prompt + completion},
                     {"prompt_tokens_details", json::object{{"cached_tokens", cached}}}};
  if (finished_ != choices_.size()) return usage;
  json::object details{{"passes", passes}};
  if (decode_.mode == DecodeMode::kVerify) {  // OpenAI's names for a prediction that the answer is compared with
    details["accepted_prediction_tokens"] = accepted;
    details["rejected_prediction_tokens"] = drafted - accepted;
  }
  usage["completion_tokens_details"] = std::move(details);
  return usage;
}

}  // namespace wf::server
