// SPDX-License-Identifier: Apache-2.0
// The engine as a place where requests wait, run, are cancelled and end: options, queue, deadlines, cancellation,
// draining. What it answers is in engine_test.cc.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/catch.h"
#include "tests/model/engine_helpers.h"
#include "wf/base/thread_pool.h"
#include "wf/engine/engine.h"

using wf::ErrorCode;
using wf::FinishReason;
using namespace wf::test;
using std::chrono::milliseconds;

namespace {

// A gate on the engine's thread: while it is closed, the request whose sink it is stays where it is.
class Gate {
 public:
  void Open() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void Pass() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::minutes(1), [this] { return open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

void Refused(const wf::EngineOptions& o, const std::string& words) {
  const auto e = wf::Engine::Create(Bard(), o);
  REQUIRE_FALSE(e.ok());
  CHECK(e.status().code() == ErrorCode::kInvalidArgument);
  CHECK_THAT(e.status().message(), Catch::Matchers::Contains(words));
}

}  // namespace

TEST_CASE("options out of range are errors with value and range, and defaults are filled in") {
  Refused({.threads = -1}, "threads = -1");
  Refused({.threads = 1025}, "threads = 1025, expected 1 to 1024");
  Refused({.threads = 1, .ctx = 1}, "context of 1 tokens, expected 2 to 512");
  Refused({.threads = 1, .ctx = 513}, "context of 513 tokens, expected 2 to 512");
  Refused({.threads = 1, .max_running = 0}, "max_running = 0");
  Refused({.threads = 1, .max_queue = -1}, "max_queue = -1");
  Refused({.threads = 1, .prefill_chunk = 0}, "prefill_chunk = 0");
  const auto engine = MakeEngine({});
  CHECK(engine->options().ctx == 512);
  CHECK(engine->options().threads == wf::DefaultThreads());
  CHECK(engine->heartbeat_age_ms() < 10000);
}

TEST_CASE("a request that is cancelled while it runs ends, and its blocks are free when it says so") {
  const auto engine = MakeEngine({.threads = 1});
  Answer a([] { std::this_thread::sleep_for(milliseconds(2)); });
  const auto id = engine->Submit(Endless(), a.Sink());
  REQUIRE(id.ok());
  REQUIRE(a.WaitForEvents(3));
  CHECK(engine->stats().running == 1);
  CHECK(engine->stats().kv_blocks_used >= 1);
  engine->Cancel(*id);
  REQUIRE(a.Wait());
  CHECK(engine->stats().kv_blocks_used == 0);
  CHECK(a.last.reason == FinishReason::kCancelled);
  CHECK(a.last.status.code() == ErrorCode::kCancelled);
  CHECK(a.ids.size() < 502);
  CHECK(engine->stats().cancelled == 1);
}

TEST_CASE("cancelling one leaves the others alone; unknown and finished ids are ignored") {
  const auto engine = MakeEngine({.threads = 1, .kv_type = wf::KvType::kF32, .max_running = 2});
  const Expected c = BardCases()[0];
  Answer endless([] { std::this_thread::sleep_for(milliseconds(1)); }), hello;
  const auto id = engine->Submit(Endless(), endless.Sink());
  REQUIRE(id.ok());
  REQUIRE(endless.WaitForEvents(1));
  const auto other = engine->Submit(Hello(), hello.Sink());
  REQUIRE(other.ok());
  engine->Cancel(*id);
  engine->Cancel(987654321);
  REQUIRE(endless.Wait());
  REQUIRE(hello.Wait());
  CHECK(hello.ids == c.ids);
  engine->Cancel(*other);
  Answer again;
  Run(*engine, Hello(), &again);
  CHECK(again.ids == c.ids);
  CHECK(engine->stats().cancelled == 1);
}

TEST_CASE("a request that is cancelled while it waits never runs") {
  const auto engine = MakeEngine({.threads = 1});
  Answer first([] { std::this_thread::sleep_for(milliseconds(1)); }), second;
  const auto id = engine->Submit(Endless(), first.Sink());
  REQUIRE(first.WaitForEvents(1));
  const auto waiting = engine->Submit(Hello(), second.Sink());
  REQUIRE((id.ok() && waiting.ok()));
  engine->Cancel(*waiting);
  REQUIRE(second.Wait());
  CHECK(second.last.reason == FinishReason::kCancelled);
  CHECK(second.ids.empty());
  CHECK_FALSE(first.finished());
  engine->Cancel(*id);
  REQUIRE(first.Wait());
}

TEST_CASE("both of two streams receive tokens before either ends") {
  const auto engine = MakeEngine({.threads = 1, .max_running = 2});
  Gate gate;
  Answer a([&] { gate.Pass(); }), b;
  REQUIRE(engine->Submit(Endless(), a.Sink()).ok());
  REQUIRE(a.WaitForEvents(1));
  REQUIRE(engine->Submit(Endless(), b.Sink()).ok());
  gate.Open();
  REQUIRE(b.WaitForEvents(1));
  CHECK_FALSE(a.finished());
  CHECK_FALSE(b.finished());
  REQUIRE(a.Wait());
  REQUIRE(b.Wait());
}

TEST_CASE("a queue that is full says so, and has room again afterwards") {
  const auto engine = MakeEngine({.threads = 1, .max_queue = 1});
  Gate gate;
  Answer first([&] { gate.Pass(); }), second, third, fourth;
  REQUIRE(engine->Submit(Hello(3), first.Sink()).ok());
  REQUIRE(first.WaitForEvents(1));
  REQUIRE(engine->Submit(Hello(3), second.Sink()).ok());
  const auto refused = engine->Submit(Hello(3), third.Sink());
  CHECK(refused.status().code() == ErrorCode::kUnavailable);
  CHECK_THAT(refused.status().message(), Catch::Matchers::Contains("queue is full"));
  CHECK(engine->stats().rejected == 1);
  CHECK(engine->stats().waiting == 1);
  gate.Open();
  REQUIRE(first.Wait());
  REQUIRE(second.Wait());
  CHECK(second.ids.size() == 3);
  Run(*engine, Hello(3), &fourth);
  CHECK(third.events == 0);
  CHECK(engine->stats().requests == 3);
}

TEST_CASE("who has seen the last event finds the place free") {
  const auto engine = MakeEngine({.threads = 1, .max_queue = 0});
  int refused = 0;
  for (int i = 0; i < 20; ++i) {
    Answer a;
    const auto id = engine->Submit(Hello(2), a.Sink());
    refused += !id.ok();
    if (id.ok()) {
      REQUIRE(a.Wait());
      CHECK(engine->stats().running == 0);
    }
  }
  CHECK(refused == 0);
}

TEST_CASE("a request that waits longer than the queue allows is unavailable") {
  const auto engine = MakeEngine({.threads = 1, .queue_timeout_ms = 30});
  Answer first([] { std::this_thread::sleep_for(milliseconds(2)); }), second;
  const auto id = engine->Submit(Endless(), first.Sink());
  REQUIRE(first.WaitForEvents(1));
  REQUIRE(engine->Submit(Hello(), second.Sink()).ok());
  REQUIRE(second.Wait());
  CHECK(second.last.reason == FinishReason::kError);
  CHECK(second.last.status.code() == ErrorCode::kUnavailable);
  engine->Cancel(*id);
  REQUIRE(first.Wait());
}

TEST_CASE("a deadline that passes while tokens come ends the request with what there is") {
  const auto engine = MakeEngine({.threads = 1});
  Answer a([] { std::this_thread::sleep_for(milliseconds(30)); });  // 502 tokens would take 15 s
  wf::Request r = Endless();
  r.deadline_ms = 1500;
  Run(*engine, r, &a);
  CHECK(a.last.timed_out);
  CHECK(a.last.reason == FinishReason::kLength);
  CHECK_FALSE(a.ids.empty());
  CHECK(a.ids.size() < 502);
  CHECK(engine->stats().kv_blocks_used == 0);
}

TEST_CASE("a deadline that passes in the queue is an error") {
  const auto engine = MakeEngine({.threads = 1});
  Answer first([] { std::this_thread::sleep_for(milliseconds(2)); }), second;
  const auto id = engine->Submit(Endless(), first.Sink());
  REQUIRE(first.WaitForEvents(1));
  wf::Request r = Hello();
  r.deadline_ms = 20;
  REQUIRE(engine->Submit(r, second.Sink()).ok());
  REQUIRE(second.Wait());
  CHECK(second.last.reason == FinishReason::kError);
  CHECK(second.last.status.code() == ErrorCode::kDeadline);
  CHECK(second.ids.empty());
  engine->Cancel(*id);
  REQUIRE(first.Wait());
}

TEST_CASE("draining: what runs finishes, nothing new is taken") {
  const auto engine = MakeEngine({.threads = 1, .kv_type = wf::KvType::kF32});
  Answer a, b, c;
  REQUIRE(engine->Submit(Hello(), a.Sink()).ok());
  REQUIRE(engine->Submit(Hello(), b.Sink()).ok());
  CHECK(engine->Drain(60000));
  CHECK((a.finished() && b.finished()));
  CHECK(a.ids == BardCases()[0].ids);
  const auto late = engine->Submit(Hello(), c.Sink());
  CHECK(late.status().code() == ErrorCode::kUnavailable);
  CHECK_THAT(late.status().message(), Catch::Matchers::Contains("draining"));
  CHECK(engine->Drain(0));
}

TEST_CASE("draining with a limit cancels what is left") {
  const auto engine = MakeEngine({.threads = 1});
  Answer a([] { std::this_thread::sleep_for(milliseconds(20)); }), b;
  REQUIRE(engine->Submit(Endless(), a.Sink()).ok());
  REQUIRE(engine->Submit(Hello(), b.Sink()).ok());
  REQUIRE(a.WaitForEvents(1));
  CHECK_FALSE(engine->Drain(30));
  REQUIRE(a.Wait());
  REQUIRE(b.Wait());
  CHECK(a.last.reason == FinishReason::kCancelled);
  CHECK(b.last.reason == FinishReason::kCancelled);
}

TEST_CASE("an engine that ends cancels what it has, and says so") {
  Answer a([] { std::this_thread::sleep_for(milliseconds(1)); }), b;
  {
    const auto engine = MakeEngine({.threads = 2});
    REQUIRE(engine->Submit(Endless(), a.Sink()).ok());
    REQUIRE(engine->Submit(Hello(), b.Sink()).ok());
    REQUIRE(a.WaitForEvents(1));
  }
  CHECK((a.finished() && b.finished()));
  CHECK(a.last.reason == FinishReason::kCancelled);
  CHECK(b.last.reason == FinishReason::kCancelled);
}

TEST_CASE("GenerateBlocking: events on the caller's thread, cancelled by a flag") {
  const auto engine = MakeEngine({.threads = 1, .kv_type = wf::KvType::kF32});
  const auto me = std::this_thread::get_id();
  std::vector<int32_t> ids;
  bool mine = true;
  const wf::Status s = wf::GenerateBlocking(*engine, Hello(), [&](wf::Event&& e) {
    mine = mine && std::this_thread::get_id() == me;
    ids.insert(ids.end(), e.ids.begin(), e.ids.end());
  });
  CHECK(s.ok());
  CHECK(mine);
  CHECK(ids == BardCases()[0].ids);

  std::atomic<bool> cancel{true};
  wf::FinishReason reason = FinishReason::kNone;
  const wf::Status c = wf::GenerateBlocking(
      *engine, Endless(),
      [&](wf::Event&& e) {
        std::this_thread::sleep_for(milliseconds(1));
        if (e.finished) reason = e.reason;
      },
      &cancel);
  // The engine may have been faster than the flag is looked at.
  CHECK((reason == FinishReason::kCancelled || reason == FinishReason::kLength));
  CHECK(c.code() == (reason == FinishReason::kCancelled ? ErrorCode::kCancelled : ErrorCode::kOk));

  wf::Request bad = Hello();
  bad.prompt.clear();
  CHECK(wf::GenerateBlocking(*engine, bad, [](wf::Event&&) { FAIL("no event is expected"); }).code() ==
        ErrorCode::kInvalidArgument);
}
