// SPDX-License-Identifier: Apache-2.0
// What the engine's tests share: running requests and waiting for what they say, the sample's prompts and the answers
// that its makers expect.
#ifndef WF_TESTS_MODEL_ENGINE_HELPERS_H_
#define WF_TESTS_MODEL_ENGINE_HELPERS_H_

#include <boost/json.hpp>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "tests/catch.h"
#include "tests/model/model_file.h"
#include "wf/engine/engine.h"

namespace wf::test {

// All events of one request; outlives it. on_event is called on the engine's thread after each event but the last.
class Answer {
 public:
  explicit Answer(std::function<void()> on_event = {}) : on_event_(std::move(on_event)) {}

  EventSink Sink() {
    return [this](Event&& e) {
      const bool final = e.finished;
      {
        std::lock_guard lock(mutex_);
        if (finished_) ++late_;
        ids.insert(ids.end(), e.ids.begin(), e.ids.end());
        logprobs.insert(logprobs.end(), e.logprobs.begin(), e.logprobs.end());
        text += e.text;
        ++events;
        finished_ = finished_ || final;
        if (final) last = std::move(e);
        changed_.notify_all();
      }
      // After the last event the test may end, and this object with it.
      if (!final && on_event_) on_event_();
    };
  }
  // Waits for the last event; false after a minute.
  bool Wait() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::minutes(1), [this] { return finished_; }) && late_ == 0;
  }
  bool WaitForEvents(int n) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::minutes(1), [&] { return finished_ || events >= n; });
  }
  bool finished() {
    std::lock_guard lock(mutex_);
    return finished_;
  }

  std::vector<int32_t> ids;
  std::vector<TokenLogprob> logprobs;
  std::string text;
  Event last;
  int events = 0;

 private:
  std::function<void()> on_event_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool finished_ = false;
  int late_ = 0;
};

struct Expected {
  std::vector<int32_t> prompt, ids;
  std::string text;
};
// The sample's cases whose greedy answer no rounding can change (tests/data/expected/bard).
inline std::vector<Expected> BardCases() {
  const auto doc = boost::json::parse(ReadFile(std::string(WF_TEST_DATA) + "/expected/bard/cases.json"));
  std::vector<Expected> out;
  for (const auto& c : doc.at("cases").as_array()) {
    if (c.at("greedy_min_margin").to_number<double>() <= 0.5) continue;
    Expected e;
    e.prompt = boost::json::value_to<std::vector<int32_t>>(c.at("ids"));
    e.ids = boost::json::value_to<std::vector<int32_t>>(c.at("greedy_ids"));
    e.text = boost::json::value_to<std::string>(c.at("greedy_text"));
    const std::string end = "<|eot_id|>";
    if (e.text.ends_with(end)) e.text.resize(e.text.size() - end.size());
    out.push_back(std::move(e));
  }
  return out;
}

inline std::unique_ptr<Engine> MakeEngine(const EngineOptions& o) {
  Result<std::unique_ptr<Engine>> e = Engine::Create(Bard(), o);
  INFO(e.status().message());
  REQUIRE(e.ok());
  return *std::move(e);
}

inline Request Greedy(std::vector<int32_t> prompt, int64_t max_tokens = -1) {
  Request r;
  r.prompt = std::move(prompt);
  r.sampling.temperature = 0;
  r.decode.mode = DecodeMode::kAr;
  r.max_tokens = max_tokens;
  return r;
}
// "Hello" as a chat; the answer is "Good morrow, gentle friend! What wouldst thou hear of me?".
inline Request Hello(int64_t max_tokens = -1) { return Greedy(BardCases()[0].prompt, max_tokens); }
// Goes on to the end of the context.
inline Request Endless() {
  Request r = Hello();
  r.ignore_eos = true;
  return r;
}

inline void Run(Engine& engine, Request r, Answer* a) {
  const Result<uint64_t> id = engine.Submit(std::move(r), a->Sink());
  INFO(id.status().message());
  REQUIRE(id.ok());
  REQUIRE(a->Wait());
}

}  // namespace wf::test
#endif  // WF_TESTS_MODEL_ENGINE_HELPERS_H_
