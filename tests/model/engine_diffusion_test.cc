// SPDX-License-Identifier: Apache-2.0
// Block diffusion and verified drafts through the engine, on the sample model: alone, in batches, after a prefix-cache
// hit, with stop strings, sampling, cancellation. Which tokens are right is tests/golden/test_diffusion.py's matter.
#include <algorithm>
#include <atomic>
#include <cmath>

#include "tests/model/engine_helpers.h"

namespace {

using namespace wf::test;
using wf::DecodeMode;
using wf::DiffusionStyle;
using wf::FinishReason;
using wf::Request;

Request Blocks(Request r, DecodeMode mode = DecodeMode::kAdaptive, DiffusionStyle style = DiffusionStyle::kFastDllmV2) {
  r.decode.mode = mode;
  r.decode.style = style;
  return r;
}
// A prompt of n tokens that the model finds ordinary: its own expected answers one after the other.
std::vector<int32_t> LongPrompt(size_t n) {
  std::vector<int32_t> ids;
  while (ids.size() < n) {
    for (const Expected& e : BardCases()) ids.insert(ids.end(), e.prompt.begin(), e.prompt.end());
  }
  ids.resize(n);
  return ids;
}
std::vector<Request> Mixed() {
  std::vector<Request> out;
  for (const DiffusionStyle style : {DiffusionStyle::kFastDllmV2, DiffusionStyle::kCausal}) {
    for (const DecodeMode mode :
         {DecodeMode::kGreedy, DecodeMode::kIterative, DecodeMode::kAdaptive, DecodeMode::kVerify}) {
      out.push_back(Blocks(Greedy(LongPrompt(20 + 13 * out.size()), 50), mode, style));
      out.back().ignore_eos = true;
    }
  }
  out.push_back(Greedy(LongPrompt(40), 50));
  out.back().ignore_eos = true;
  return out;
}
std::vector<int32_t> Alone(const Request& r) {
  const auto engine = MakeEngine({.threads = 1, .prefix_cache = false});
  Answer a;
  Run(*engine, r, &a);
  REQUIRE(a.last.reason == FinishReason::kLength);
  return a.ids;
}

}  // namespace

TEST_CASE("block decoding gives the same tokens alone, in a batch beside others, and with other chunks and threads") {
  const std::vector<Request> requests = Mixed();
  std::vector<std::vector<int32_t>> want;
  for (const Request& r : requests) want.push_back(Alone(r));
  for (const int chunk : {7, 256}) {
    const auto engine = MakeEngine({.threads = 2, .max_running = 5, .prefill_chunk = chunk, .prefix_cache = false});
    std::vector<std::unique_ptr<Answer>> answers;
    for (const Request& r : requests) {
      answers.push_back(std::make_unique<Answer>());
      REQUIRE(engine->Submit(r, answers.back()->Sink()).ok());
    }
    for (size_t i = 0; i < requests.size(); ++i) {
      CAPTURE(i, chunk);
      REQUIRE(answers[i]->Wait());
      CHECK(answers[i]->ids == want[i]);
    }
    CHECK(engine->stats().kv_blocks_used == 0);
  }
}

TEST_CASE("after a prefix-cache hit the tokens are the same; other attention rules and salts share nothing") {
  for (Request r : Mixed()) {
    r.prompt = LongPrompt(150);
    const std::vector<int32_t> want = Alone(r);
    const auto engine = MakeEngine({.threads = 1});
    Answer first, second, other, salted, unasked;
    Run(*engine, r, &first);
    CHECK(first.last.timings.cached_tokens == 0);
    Run(*engine, r, &second);
    CHECK(second.last.timings.cached_tokens == 128);
    Request o = r;
    const bool bidirectional = r.decode.mode != DecodeMode::kVerify && r.decode.mode != DecodeMode::kAr &&
                               r.decode.style == DiffusionStyle::kFastDllmV2;
    o.decode = {.mode = DecodeMode::kAr};
    if (!bidirectional) o = Blocks(o);
    Run(*engine, o, &other);
    CHECK(other.last.timings.cached_tokens == 0);
    r.cache_salt = "tenant";
    Run(*engine, r, &salted);
    CHECK(salted.last.timings.cached_tokens == 0);
    r.cache_salt.clear();
    r.cache_prompt = false;
    Run(*engine, r, &unasked);
    CHECK(unasked.last.timings.cached_tokens == 0);
    for (const Answer* a : {&first, &second, &salted, &unasked}) CHECK(a->ids == want);
  }
}

TEST_CASE("answers are kept, too, and the cache gives way when the pool is full") {
  const auto engine = MakeEngine({.threads = 1, .ctx = 64});  // two KV blocks in all
  Request r = Greedy(LongPrompt(33), 20);
  r.ignore_eos = true;
  Answer a, b, c;
  Run(*engine, r, &a);
  Request next = Greedy(r.prompt, 1);
  next.prompt.insert(next.prompt.end(), a.ids.begin(), a.ids.end());
  Run(*engine, next, &b);
  CHECK(b.last.timings.cached_tokens == 32);
  Request other = Greedy(LongPrompt(40), 20);
  std::reverse(other.prompt.begin(), other.prompt.end());
  Run(*engine, other, &c);
  CHECK(c.last.reason != FinishReason::kError);
  CHECK(engine->stats().prefix_cache.evicted_blocks > 0);
}

TEST_CASE("two requests that compute the same prefix at once share its blocks afterwards: the pool does not run dry") {
  for (const DecodeMode mode : {DecodeMode::kAr, DecodeMode::kAdaptive}) {
    const auto engine = MakeEngine({.threads = 1, .max_running = 2});
    for (int round = 0; round < 3; ++round) {
      std::vector<int32_t> prefix(256), others(470);
      for (size_t i = 0; i < prefix.size(); ++i) prefix[i] = static_cast<int32_t>(300 + (i * 7 + 31 * round) % 600);
      for (size_t i = 0; i < others.size(); ++i) others[i] = static_cast<int32_t>(300 + (i * 11 + 17 * round) % 600);
      const auto ask = [&](std::vector<int32_t> prompt, int32_t tail, int64_t n) {
        prompt.resize(prompt.size() + (n > 100 || n < 5 ? 40 : 0), tail);
        Request r = Blocks(Greedy(std::move(prompt), n), mode);
        if (mode == DecodeMode::kAr) r.decode = {.mode = mode};
        r.ignore_eos = true;
        return r;
      };
      Answer a, b, c;
      REQUIRE(engine->Submit(ask(prefix, 400, 3), a.Sink()).ok());
      REQUIRE(engine->Submit(ask(prefix, 500, 216), b.Sink()).ok());
      REQUIRE(a.Wait());
      Run(*engine, ask(others, 0, 42), &c);
      REQUIRE(b.Wait());
      for (const Answer* x : {&a, &b, &c}) CHECK(x->last.reason == FinishReason::kLength);
    }
    CHECK(engine->stats().kv_blocks_used == 0);
  }
}

TEST_CASE("verify is the autoregressive text, whatever is sampled, penalised or biased") {
  std::vector<Request> variants(6, Greedy(LongPrompt(37), 60));
  for (Request& r : variants) r.ignore_eos = true;
  variants[1].sampling.temperature = 1;
  variants[2].sampling = {.temperature = 0.8f, .top_k = 20, .top_p = 0.9f, .seed = 7};
  variants[3].sampling.repetition_penalty = 1.3f;
  variants[3].min_tokens = 20;
  variants[4].sampling.logit_bias = {{13, 3.0f}};
  variants[4].logprobs = 2;
  variants[5].sampling = {.temperature = 0.7f, .min_p = 0.1f, .frequency_penalty = 0.5f, .seed = 9};
  variants[1].sampling.seed = 5;
  for (const Request& r : variants) {
    const std::vector<int32_t> want = Alone(r);
    for (const DiffusionStyle style : {DiffusionStyle::kFastDllmV2, DiffusionStyle::kCausal}) {
      const auto engine = MakeEngine({.threads = 1});
      for (const int drafts : {-1, 0, 1, 6, 31, 255}) {
        Request v = Blocks(r, DecodeMode::kVerify, style);
        if (drafts >= 0) v.decode.drafts = drafts;
        Answer a;
        Run(*engine, v, &a);
        CAPTURE(drafts, Name(style));
        CHECK(a.ids == want);
        if (r.logprobs >= 0) CHECK(a.logprobs.size() == a.ids.size());
        CHECK(a.last.timings.accepted <= a.last.timings.drafted);
        if (drafts >= 0) CHECK((drafts == 0) == (a.last.timings.drafted == 0));
        CHECK(a.last.timings.passes > 0);
      }
    }
  }
}

TEST_CASE("drafts are accepted where masks foretell the text, and passes saved") {
  const auto engine = MakeEngine({.threads = 1});
  Answer a;
  // By heart: "Good morrow, gentle friend! What wouldst thou hear of me?"
  Request r = Blocks(Hello(), DecodeMode::kVerify);
  r.decode.drafts = 31;
  Run(*engine, r, &a);
  CHECK(a.ids == BardCases()[0].ids);
  CHECK(a.last.timings.accepted > 0);
  CHECK(a.last.timings.passes < static_cast<int64_t>(a.ids.size()) - 1);
}

TEST_CASE("a sampled block answer depends on its seed only") {
  const auto engine = MakeEngine({.threads = 2, .max_running = 3});
  Request r = Blocks(Greedy(LongPrompt(45), 70), DecodeMode::kIterative);
  r.ignore_eos = true;
  r.sampling = {.temperature = 1.2f, .top_p = 0.95f, .seed = 3};
  Answer a, b, other;
  Run(*engine, r, &a);
  Answer beside;
  REQUIRE(engine->Submit(Blocks(Endless(), DecodeMode::kGreedy), beside.Sink()).ok());
  Run(*engine, r, &b);
  REQUIRE(beside.Wait());
  CHECK(a.ids == b.ids);
  r.sampling.seed = 4;
  Run(*engine, r, &other);
  CHECK(other.ids != a.ids);
}

TEST_CASE("the text of a block streams left to right, never beyond max_tokens, a stop string or an end token") {
  const auto engine = MakeEngine({.threads = 1});
  Answer whole;
  Run(*engine, Blocks(Hello()), &whole);
  CHECK(whole.last.stop_type == wf::StopType::kEos);
  for (const int64_t n : {0, 1, 2, 7, 15}) {
    Answer a;
    Run(*engine, Blocks(Hello(n)), &a);
    CHECK(a.ids == std::vector<int32_t>(whole.ids.begin(), whole.ids.begin() + n));
    CHECK(a.last.reason == FinishReason::kLength);
  }
  Request r = Blocks(Hello());
  r.stop = {"gentle"};
  Answer stopped;
  Run(*engine, r, &stopped);
  CHECK(stopped.last.stop_type == wf::StopType::kWord);
  CHECK(whole.text.starts_with(stopped.text + "gentle"));
  CHECK(stopped.last.timings.passes <= whole.last.timings.passes);
  Answer longer;
  r = Blocks(Hello(40));
  r.min_tokens = 30;
  Run(*engine, r, &longer);
  CHECK(longer.ids.size() >= 30);
  CHECK(std::find(longer.ids.begin(), longer.ids.begin() + 30, 2046) == longer.ids.begin() + 30);
}

TEST_CASE("lengths around a block, prompts around a block") {
  const auto engine = MakeEngine({.threads = 1, .prefix_cache = false});
  for (const DiffusionStyle style : {DiffusionStyle::kFastDllmV2, DiffusionStyle::kCausal}) {
    for (const size_t prompt : {1u, 31u, 32u, 33u, 64u}) {
      std::vector<int32_t> longest;
      for (const int64_t n : {33, 32, 31, 1}) {
        Request r = Blocks(Greedy(LongPrompt(prompt), n), DecodeMode::kIterative, style);
        r.ignore_eos = true;
        Answer a;
        Run(*engine, r, &a);
        CAPTURE(prompt, n);
        REQUIRE(a.ids.size() == static_cast<size_t>(n));
        if (longest.empty()) longest = a.ids;
        CHECK(std::equal(a.ids.begin(), a.ids.end(), longest.begin()));
        CHECK(std::count(a.ids.begin(), a.ids.end(), 2047) == 0);  // the mask is never sampled
      }
    }
    Answer full;
    Request r = Blocks(Endless(), DecodeMode::kAdaptive, style);
    Run(*engine, r, &full);
    CHECK(full.ids.size() == 512 - 10);
  }
  CHECK(engine->Check(Blocks(Greedy({}))).code() == wf::ErrorCode::kInvalidArgument);
}

TEST_CASE("threshold 1 commits one token a pass: a full block takes its masks and one finalising pass") {
  const auto engine = MakeEngine({.threads = 1});
  Request r = Blocks(Greedy(LongPrompt(32), 65), DecodeMode::kIterative);
  r.ignore_eos = true;
  r.decode.threshold = 1;
  Answer a;
  Run(*engine, r, &a);
  // The first token comes out of the prefill, then 31 masks and a pass that gives the next block's first, twice, and
  // nothing after the last token.
  CHECK(a.last.timings.passes == 2 * (31 + 1));
  r.decode.threshold = 0;
  Answer all;
  Run(*engine, r, &all);
  CHECK(all.last.timings.passes == 2 * (4 + 1));  // one a sub-block
}

TEST_CASE("style causal with blocks of one token is the autoregressive text") {
  const auto engine = MakeEngine({.threads = 1});
  for (const Expected& e : BardCases()) {
    Request r = Blocks(Greedy(e.prompt, 64), DecodeMode::kIterative, DiffusionStyle::kCausal);
    r.decode.block_size = 1;
    Answer a;
    Run(*engine, r, &a);
    CHECK(a.ids == e.ids);
    CHECK(a.last.timings.passes == static_cast<int64_t>(e.ids.size()));
  }
}

TEST_CASE("a mask that is an end token is never sampled and ends nothing; verify gives the text of ar all the same") {
  const auto engine = MakeEngine({.threads = 1});
  Request r = Blocks(Hello(100), DecodeMode::kIterative, DiffusionStyle::kCausal);
  r.decode.mask_token = 2046;  // <|eot_id|>
  Answer a, verified;
  Run(*engine, r, &a);
  CHECK(a.ids.size() == 100);
  CHECK(std::count(a.ids.begin(), a.ids.end(), 2046) == 0);
  r.decode.mode = DecodeMode::kVerify;
  Run(*engine, r, &verified);
  CHECK(verified.ids == BardCases()[0].ids);  // which ends with it
}

TEST_CASE("cancelled between passes: the place is free, others go on as they would") {
  const auto engine = MakeEngine({.threads = 1, .max_running = 2});
  const Request other = Blocks(Hello());
  Answer want;
  Run(*engine, other, &want);
  for (const DecodeMode mode : {DecodeMode::kIterative, DecodeMode::kVerify}) {
    Answer cut, beside;
    Request r = Blocks(Endless(), mode);
    r.show_blocks = true;
    const wf::Result<uint64_t> id = engine->Submit(r, cut.Sink());
    REQUIRE(id.ok());
    REQUIRE(engine->Submit(other, beside.Sink()).ok());
    REQUIRE(cut.WaitForEvents(3));
    engine->Cancel(*id);
    REQUIRE(cut.Wait());
    REQUIRE(beside.Wait());
    CHECK(cut.last.reason == FinishReason::kCancelled);
    CHECK(beside.ids == want.ids);
    CHECK(engine->stats().kv_blocks_used == 0);
  }
}

TEST_CASE("blocks can be watched: known tokens stay, masks become fewer, and the text is what they became") {
  const auto engine = MakeEngine({.threads = 1});
  Request r = Blocks(Hello());
  r.show_blocks = true;
  std::vector<int32_t> before, text = r.prompt;
  int64_t start = -1;
  int views = 0;
  REQUIRE(wf::GenerateBlocking(*engine, r, [&](wf::Event&& e) {
            text.insert(text.end(), e.ids.begin(), e.ids.end());
            if (e.block.empty()) return;
            ++views;
            REQUIRE(e.block.size() == 32);
            for (size_t i = 0; e.block_start == start && i < 32; ++i) {
              if (before[i] >= 0) CHECK(e.block[i] == before[i]);
            }
            start = e.block_start;
            before = e.block;
            for (size_t p = static_cast<size_t>(start); p < text.size(); ++p) {
              CHECK(e.block[p - static_cast<size_t>(start)] == text[p]);
            }
          }).ok());
  CHECK(views > 2);
}

TEST_CASE("logprobs of block diffusion are the confidences of the commits") {
  const auto engine = MakeEngine({.threads = 1});
  Request r = Blocks(Hello());
  r.logprobs = 3;
  Answer a, plain;
  Run(*engine, r, &a);
  Run(*engine, Blocks(Hello()), &plain);
  CHECK(a.ids == plain.ids);
  REQUIRE(a.logprobs.size() == a.ids.size());
  for (size_t i = 0; i < a.ids.size(); ++i) {
    CHECK(a.logprobs[i].id == a.ids[i]);
    REQUIRE(a.logprobs[i].top.size() == 3);
    CHECK(a.logprobs[i].top[0].first == a.ids[i]);  // greedy
    CHECK(a.logprobs[i].logprob <= 0);
    // One softmax in float each, of the same logits: they may differ in the last bits.
    CHECK(a.logprobs[i].logprob == Approx(a.logprobs[i].top[0].second).margin(1e-5));
  }
}

TEST_CASE("requests that the model or the context cannot serve by blocks are refused, others go on") {
  const auto engine = MakeEngine({.threads = 1, .ctx = 96});
  Request r = Blocks(Hello(4));
  CHECK(engine->Check(r).ok());
  r.decode.block_size = 64;
  CHECK(engine->Check(r).code() == wf::ErrorCode::kInvalidArgument);
  r.decode.style = DiffusionStyle::kCausal;
  CHECK(engine->Check(r).ok());
  r = Hello(4);
  r.decode.threshold = 0.5f;
  CHECK(engine->Check(r).code() == wf::ErrorCode::kInvalidArgument);  // of mode ar
}
