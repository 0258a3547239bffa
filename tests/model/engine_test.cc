// SPDX-License-Identifier: Apache-2.0
// What the engine answers: the expected tokens, the same ones in any company and any cut, stops, limits, logprobs.
// Its queue, cancellation and end are in engine_queue_test.cc.
#include "wf/engine/engine.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "tests/catch.h"
#include "tests/model/engine_helpers.h"
#include "wf/cache/kv_pool.h"
#include "wf/model/transformer.h"

using wf::FinishReason;
using wf::StopType;
using namespace wf::test;

TEST_CASE("alone, in a batch, in chunks of any size, on any number of threads: the expected greedy answers") {
  const std::vector<Expected> cases = BardCases();
  REQUIRE(cases.size() == 5);
  for (const int threads : {1, 2, 3}) {
    for (const int chunk : {1, 7, 256}) {
      const auto engine =
          MakeEngine({.threads = threads, .kv_type = wf::KvType::kF32, .max_running = 4, .prefill_chunk = chunk});
      INFO(threads << " threads, chunk " << chunk);
      for (const Expected& c : cases) {
        Answer alone;
        Run(*engine, Greedy(c.prompt, 64), &alone);
        CHECK(alone.ids == c.ids);
        CHECK(alone.text == c.text);
        CHECK(alone.last.reason == FinishReason::kStop);
        CHECK(alone.last.stop_type == StopType::kEos);
      }
      // All at once, four in the batch at a time.
      std::vector<std::unique_ptr<Answer>> answers;
      for (const Expected& c : cases) {
        answers.push_back(std::make_unique<Answer>());
        REQUIRE(engine->Submit(Greedy(c.prompt, 64), answers.back()->Sink()).ok());
      }
      for (size_t i = 0; i < cases.size(); ++i) {
        REQUIRE(answers[i]->Wait());
        CHECK(answers[i]->ids == cases[i].ids);
        CHECK(answers[i]->text == cases[i].text);
      }
      CHECK(engine->stats().kv_blocks_used == 0);
    }
  }
}

TEST_CASE("with int8 K and V, too, an answer depends on its prompt only") {
  const std::vector<Expected> cases = BardCases();
  std::vector<Answer> want(cases.size());
  const auto one = MakeEngine({.threads = 1, .kv_type = wf::KvType::kI8});
  for (size_t i = 0; i < cases.size(); ++i) {
    Run(*one, Greedy(cases[i].prompt, 64), &want[i]);
    CHECK(want[i].last.reason != FinishReason::kError);
    CHECK(want[i].ids.front() == cases[i].ids.front());
  }
  const auto engine = MakeEngine({.threads = 3, .kv_type = wf::KvType::kI8, .max_running = 4, .prefill_chunk = 7});
  std::vector<std::unique_ptr<Answer>> answers;
  for (const Expected& c : cases) {
    answers.push_back(std::make_unique<Answer>());
    REQUIRE(engine->Submit(Greedy(c.prompt, 64), answers.back()->Sink()).ok());
  }
  for (size_t i = 0; i < cases.size(); ++i) {
    REQUIRE(answers[i]->Wait());
    CHECK(answers[i]->ids == want[i].ids);
  }
}

TEST_CASE("sampled tokens and every logprob are bit-equal in any company and any cut") {
  const std::vector<Expected> cases = BardCases();
  const auto request = [&](size_t i) {
    wf::Request r = Endless();
    r.prompt = cases[i].prompt;
    r.sampling.temperature = 1;
    r.sampling.seed = 40 + static_cast<int64_t>(i);
    r.max_tokens = 40;
    r.logprobs = 3;
    return r;
  };
  std::vector<std::unique_ptr<Answer>> want;
  {
    const auto engine = MakeEngine({.threads = 1, .prefill_chunk = 1});
    for (size_t i = 0; i < cases.size(); ++i) {
      want.push_back(std::make_unique<Answer>());
      Run(*engine, request(i), want.back().get());
      CHECK(want.back()->ids.size() == 40);
    }
  }
  for (const int threads : {1, 2, 3}) {
    for (const int chunk : {5, 256}) {
      const auto engine = MakeEngine({.threads = threads, .max_running = 5, .prefill_chunk = chunk});
      std::vector<std::unique_ptr<Answer>> got;
      for (size_t i = 0; i < cases.size(); ++i) {
        got.push_back(std::make_unique<Answer>());
        REQUIRE(engine->Submit(request(i), got.back()->Sink()).ok());
      }
      for (size_t i = 0; i < cases.size(); ++i) {
        REQUIRE(got[i]->Wait());
        INFO(threads << " threads, chunk " << chunk << ", request " << i);
        CHECK(got[i]->ids == want[i]->ids);
        CHECK(got[i]->text == want[i]->text);
        REQUIRE(got[i]->logprobs.size() == 40);
        bool equal = true;
        for (size_t t = 0; t < 40; ++t) {
          equal = equal && got[i]->logprobs[t].logprob == want[i]->logprobs[t].logprob &&
                  got[i]->logprobs[t].top == want[i]->logprobs[t].top;
        }
        CHECK(equal);
      }
    }
  }
}

TEST_CASE("logprobs are the log-softmax of the model's logits, before penalties, bias and temperature") {
  wf::Request r = Endless();
  r.max_tokens = 30;
  r.logprobs = 20;
  r.sampling.temperature = 0.7f;
  r.sampling.seed = 3;
  r.sampling.repetition_penalty = 1.5f;
  r.sampling.frequency_penalty = 1;
  r.sampling.logit_bias = {{100, 5.0f}};
  const auto engine = MakeEngine({.threads = 2, .kv_type = wf::KvType::kF32});
  Answer a;
  Run(*engine, r, &a);
  REQUIRE(a.logprobs.size() == 30);

  auto t = wf::Transformer::Create(Bard(), 1, wf::KvType::kF32);
  REQUIRE(t.ok());
  std::vector<int32_t> ids = r.prompt;
  ids.insert(ids.end(), a.ids.begin(), a.ids.end());
  auto pool = wf::KvPool::Create((*t)->kv_shape(), 2);
  REQUIRE(pool.ok());
  std::vector<uint8_t*> blocks = {pool->Data(pool->Acquire()), pool->Data(pool->Acquire())};
  std::vector<float> logits(ids.size() * 2048);
  const wf::SequenceRows rows{.tokens = ids.data(), .count = ids.size(), .first = 0, .blocks = blocks.data()};
  (*t)->Forward({&rows, 1}, logits.data());

  for (size_t i = 0; i < 30; ++i) {
    const float* row = logits.data() + (r.prompt.size() + i - 1) * 2048;
    const double peak = static_cast<double>(*std::max_element(row, row + 2048));
    double sum = 0;
    for (size_t k = 0; k < 2048; ++k) sum += std::exp(static_cast<double>(row[k]) - peak);
    const double lse = peak + std::log(sum);
    const wf::TokenLogprob& lp = a.logprobs[i];
    CHECK(lp.id == a.ids[i]);
    CHECK(std::fabs(static_cast<double>(lp.logprob) - (static_cast<double>(row[lp.id]) - lse)) < 1e-4);
    REQUIRE(lp.top.size() == 20);
    std::vector<int32_t> order(2048);
    for (size_t k = 0; k < 2048; ++k) order[k] = static_cast<int32_t>(k);
    std::stable_sort(order.begin(), order.end(), [&](int32_t x, int32_t y) { return row[x] > row[y]; });
    for (size_t k = 0; k < 20; ++k) {
      CHECK(lp.top[k].first == order[k]);
      CHECK(std::fabs(static_cast<double>(lp.top[k].second) - (static_cast<double>(row[order[k]]) - lse)) < 1e-4);
    }
  }
}

TEST_CASE("logprobs 0 gives the token's own and no others; without the field there are none") {
  const auto engine = MakeEngine({.threads = 1});
  wf::Request r = Hello(5);
  Answer none, own;
  Run(*engine, r, &none);
  CHECK(none.logprobs.empty());
  r.logprobs = 0;
  Run(*engine, r, &own);
  REQUIRE(own.logprobs.size() == 5);
  CHECK(own.logprobs[0].top.empty());
  CHECK(own.logprobs[0].logprob < 0);
  CHECK(own.ids == none.ids);
}

TEST_CASE("stop strings end the text before them, wherever tokens are cut") {
  const auto engine = MakeEngine({.threads = 1, .kv_type = wf::KvType::kF32});
  const auto text = [&](std::vector<std::string> stop, bool include, const std::string& word) {
    wf::Request r = Hello();
    r.stop = std::move(stop);
    r.include_stop = include;
    Answer a;
    Run(*engine, r, &a);
    CHECK(a.last.stop_word == word);
    CHECK(a.last.reason == FinishReason::kStop);
    CHECK(a.last.stop_type == (word.empty() ? StopType::kEos : StopType::kWord));
    return a.text;
  };
  const std::string all = "Good morrow, gentle friend! What wouldst thou hear of me?";
  CHECK(text({"gentle"}, false, "gentle") == "Good morrow, ");
  CHECK(text({"gentle"}, true, "gentle") == "Good morrow, gentle");
  CHECK(text({"w, gent"}, false, "w, gent") == "Good morro");
  CHECK(text({"G"}, false, "G").empty());
  CHECK(text({"friend!", "end", "gentle f"}, false, "gentle f") == "Good morrow, ");
  CHECK(text({"me?"}, false, "me?") == all.substr(0, all.size() - 3));
  CHECK(text({"me? "}, false, "") == all);  // held back until the end, then shown
  CHECK(text({"<|eot_id|>"}, false, "") == all);
}

TEST_CASE("stop ids end the generation like end tokens") {
  const auto engine = MakeEngine({.threads = 1, .kv_type = wf::KvType::kF32});
  const std::vector<int32_t> ids = BardCases()[0].ids;
  wf::Request r = Hello();
  r.stop_token_ids = {ids[3]};
  Answer a;
  Run(*engine, r, &a);
  CHECK(a.ids == std::vector<int32_t>(ids.begin(), ids.begin() + 4));
  CHECK(a.last.reason == FinishReason::kStop);
  CHECK(a.last.stop_type == StopType::kEos);
}

TEST_CASE("max_tokens 0 is prefill only, 1 is one token, more than there is room for is the rest of the context") {
  const auto engine = MakeEngine({.threads = 1, .ctx = 24, .decode = {.mode = wf::DecodeMode::kAr}});
  const std::vector<int32_t> ids = BardCases()[0].ids;
  for (const int64_t n : {0, 1, 2}) {
    Answer a;
    Run(*engine, Hello(n), &a);
    CHECK(a.ids == std::vector<int32_t>(ids.begin(), ids.begin() + n));
    CHECK(a.last.reason == FinishReason::kLength);
    CHECK(a.last.stop_type == StopType::kLimit);
    CHECK(a.last.timings.generated_tokens == n);
    CHECK(a.last.timings.prompt_tokens == 10);
    CHECK(a.last.timings.seed == -1);
  }
  for (const int64_t n : {int64_t{-1}, int64_t{14}, int64_t{15}, int64_t{1} << 40}) {
    wf::Request r = Endless();
    r.max_tokens = n;
    Answer a;
    Run(*engine, r, &a);
    CHECK(a.ids.size() == 14);  // of 24, after a prompt of 10
    CHECK(a.last.reason == FinishReason::kLength);
  }
}

TEST_CASE("the context holds a prompt and one token, at least; the last position is used") {
  const auto engine = MakeEngine({.threads = 1, .ctx = 64});
  Answer a;
  Run(*engine, Greedy(std::vector<int32_t>(63, 5)), &a);
  CHECK(a.ids.size() == 1);
  for (const size_t n : {64u, 65u, 5000u}) {
    const wf::Status s = engine->Check(Greedy(std::vector<int32_t>(n, 5)));
    CHECK(s.code() == wf::ErrorCode::kLimit);
    CHECK_THAT(s.message(), Catch::Matchers::Contains(std::to_string(n) + " tokens") &&
                                Catch::Matchers::Contains("context holds 64"));
  }
}

TEST_CASE("a context across several blocks of the cache, filled to the model's length") {
  const auto engine = MakeEngine({.threads = 2});
  Answer a;
  Run(*engine, Endless(), &a);
  CHECK(a.ids.size() == 512 - 10);
  CHECK(a.last.reason == FinishReason::kLength);
  CHECK(engine->stats().kv_blocks_total == 512 / 32);
  CHECK(engine->stats().kv_blocks_used == 0);
}

TEST_CASE("min_tokens: end tokens are not sampled before") {
  const auto engine = MakeEngine({.threads = 1, .kv_type = wf::KvType::kF32});
  const std::vector<int32_t> ids = BardCases()[0].ids;  // ends by itself after 16
  wf::Request r = Hello(60);
  r.min_tokens = 30;
  Answer a;
  Run(*engine, r, &a);
  REQUIRE(a.ids.size() >= 30);
  CHECK(std::equal(ids.begin(), ids.end() - 1, a.ids.begin()));
  for (size_t i = 0; i < 30; ++i) CHECK_FALSE(engine->model().tokenizer().IsEog(a.ids[i]));
  r = Hello();
  r.min_tokens = 16;  // not more than it says anyhow: the sixteenth is the end token, and may not be yet
  Answer b;
  Run(*engine, r, &b);
  CHECK(b.ids.size() > 16);
  r.min_tokens = 15;
  Answer c;
  Run(*engine, r, &c);
  CHECK(c.ids == ids);
}

TEST_CASE("ignore_eos goes on after an end token, which is in the ids and not in the text") {
  const auto engine = MakeEngine({.threads = 1, .kv_type = wf::KvType::kF32});
  const Expected c = BardCases()[0];
  wf::Request r = Endless();
  r.max_tokens = 40;
  Answer a;
  Run(*engine, r, &a);
  REQUIRE(a.ids.size() == 40);
  CHECK(std::equal(c.ids.begin(), c.ids.end(), a.ids.begin()));
  CHECK(a.text.substr(0, c.text.size()) == c.text);
  CHECK(a.text.find("<|") == std::string::npos);
  CHECK(a.last.reason == FinishReason::kLength);
}

TEST_CASE("the seed is reported, and gives the same answer again") {
  const auto engine = MakeEngine({.threads = 1});
  wf::Request r = Endless();
  r.max_tokens = 30;
  r.sampling.temperature = 2;
  Answer a, b;
  Run(*engine, r, &a);
  r.sampling.seed = a.last.timings.seed;
  REQUIRE(r.sampling.seed >= 0);
  Run(*engine, r, &b);
  CHECK(a.ids == b.ids);
}

TEST_CASE("the mask token and other forbidden ids never come out") {
  const auto engine = MakeEngine({.threads = 1});
  wf::Request r = Endless();
  r.max_tokens = 100;
  r.sampling.temperature = 100;
  r.sampling.seed = 1;
  r.sampling.logit_bias = {{2047, 100.0f}};
  Answer a;
  Run(*engine, r, &a);
  CHECK(std::count(a.ids.begin(), a.ids.end(), 2047) == 0);
}

TEST_CASE("requests that cannot be run are refused before they are queued") {
  const auto engine = MakeEngine({.threads = 1});
  const auto refused = [&](const wf::Request& r, const std::string& words) {
    const wf::Status s = engine->Check(r);
    CHECK(s.code() == wf::ErrorCode::kInvalidArgument);
    CHECK_THAT(s.message(), Catch::Matchers::Contains(words));
    Answer a;
    CHECK_FALSE(engine->Submit(r, a.Sink()).ok());
    CHECK(a.events == 0);
  };
  wf::Request r = Hello();
  SECTION("no prompt") {
    r.prompt.clear();
    refused(r, "no token");
  }
  SECTION("an id above the vocabulary") {
    r.prompt.push_back(2048);
    refused(r, "token id 2048, expected 0 to 2047");
  }
  SECTION("a negative id") {
    r.prompt.push_back(-1);
    refused(r, "token id -1");
  }
  SECTION("sampling") {
    r.sampling.top_p = 2;
    refused(r, "top_p");
  }
  SECTION("an empty stop string") {
    r.stop = {"a", ""};
    refused(r, "stop");
  }
  SECTION("a stop id that is no token") {
    r.stop_token_ids = {5000};
    refused(r, "5000");
  }
  SECTION("too many logprobs") {
    r.logprobs = 21;
    refused(r, "logprobs = 21, expected at most 20");
  }
  SECTION("negative limits") {
    r.max_tokens = -2;
    refused(r, "max_tokens");
  }
  SECTION("negative minimum") {
    r.min_tokens = -1;
    refused(r, "min_tokens");
  }
}

TEST_CASE("EngineOptions::isa forces an ISA, or is an error") {
  CHECK(wf::Engine::Create(Bard(), {.threads = 1, .isa = "scalar"}).ok());
  const auto unknown = wf::Engine::Create(Bard(), {.threads = 1, .isa = "sse"});
  REQUIRE_FALSE(unknown.ok());
  CHECK(unknown.status().message().find("unknown ISA 'sse'") != std::string::npos);
}
