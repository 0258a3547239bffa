// SPDX-License-Identifier: Apache-2.0
// The choice of tokens: greedy, the distributions of temperature, top-k, top-p and min-p against exact probabilities,
// penalties, bias, banned tokens, seeds and what Validate() says.
#include "wf/decode/sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tests/catch.h"

namespace {

using wf::Sampler;
using wf::SamplingParams;

const wf::KernelTable& Table() { return wf::Kernels(wf::isa::BestSupported(wf::CompiledIsas())); }

// SamplingParams that can be written with some of the fields.
struct Params {
  float temperature = 1;
  int32_t top_k = 0;
  float top_p = 1, min_p = 0, repetition_penalty = 1;
  int32_t repeat_last_n = -1;
  float presence_penalty = 0, frequency_penalty = 0;
  std::vector<std::pair<int32_t, float>> logit_bias = {};
  int64_t seed = -1;
  operator SamplingParams() const {  // NOLINT(google-explicit-constructor)
    return {temperature,       top_k,      top_p, min_p, repetition_penalty, repeat_last_n, presence_penalty,
            frequency_penalty, logit_bias, seed};
  }
};

int32_t Pick(const Params& p, std::vector<float> logits, const std::vector<int32_t>& prompt = {},
             const std::vector<int32_t>& generated = {}, const std::vector<int32_t>& banned = {}) {
  Sampler s(p, Table(), prompt);
  for (const int32_t t : generated) s.Accept(t);
  return s.Sample(logits.data(), logits.size(), banned);
}

// The smallest answer to a query, by its definition.
std::vector<wf::Candidate> AnswerTo(const wf::HeadQuery& q, const std::vector<float>& logits) {
  const auto in = [](std::span<const int32_t> ids, size_t i) {
    return std::binary_search(ids.begin(), ids.end(), static_cast<int32_t>(i));
  };
  std::vector<float> counted;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!in(q.banned, i) && !in(q.always, i)) counted.push_back(logits[i]);
  }
  std::sort(counted.begin(), counted.end(), std::greater<>());
  const float least = q.range >= 0 ? counted[0] - q.range : counted[std::min(q.top, counted.size()) - 1];
  std::vector<wf::Candidate> out;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!in(q.banned, i) && (in(q.always, i) || logits[i] >= least))
      out.push_back({static_cast<int32_t>(i), logits[i]});
  }
  return out;
}

const Params kGreedy{.temperature = 0};

// Exact probabilities by the documented order: temperature, top-k, top-p, min-p; ties to the lowest id. top_p counts
// the mass of the tokens that top-k left; min_p is relative to the most probable token.
std::vector<double> Exact(const Params& p, const std::vector<float>& logits) {
  const size_t n = logits.size();
  std::vector<double> q(n);
  const double peak = *std::max_element(logits.begin(), logits.end());
  for (size_t i = 0; i < n; ++i) {
    q[i] = std::exp((static_cast<double>(logits[i]) - peak) / static_cast<double>(p.temperature));
  }
  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return q[a] > q[b]; });
  if (p.top_k > 0) order.resize(std::min(n, static_cast<size_t>(p.top_k)));
  double total = 0, mass = 0;
  for (const size_t i : order) total += q[i];
  std::vector<double> kept(n, 0);
  for (const size_t i : order) {
    if (mass >= static_cast<double>(p.top_p) * total && p.top_p < 1) break;
    mass += q[i];
    if (q[i] >= static_cast<double>(p.min_p) * q[order[0]]) kept[i] = q[i];
  }
  const double sum = std::accumulate(kept.begin(), kept.end(), 0.0);
  for (double& v : kept) v /= sum;
  return kept;
}

// Draws from one sampler and compares the frequencies: nothing outside the support, chi-square within six deviations.
void CheckDistribution(const Params& p, const std::vector<float>& logits, const std::vector<double>& want) {
  constexpr int kDraws = 20000;
  Sampler s(p, Table(), {});
  std::vector<int> count(logits.size(), 0);
  for (int i = 0; i < kDraws; ++i) {
    std::vector<float> l = logits;
    ++count[static_cast<size_t>(s.Sample(l.data(), l.size(), {}))];
  }
  double chi = 0, freedom = -1;
  for (size_t i = 0; i < logits.size(); ++i) {
    INFO("token " << i << ": " << count[i] << " draws, expected " << kDraws * want[i]);
    if (want[i] == 0) {
      CHECK(count[i] == 0);
      continue;
    }
    const double expected = kDraws * want[i], d = count[i] - expected;
    REQUIRE(expected > 5);
    chi += d * d / expected;
    freedom += 1;
  }
  CHECK(chi <= freedom + 6 * std::sqrt(2 * std::max(freedom, 1.0)));
}

// Probabilities .40 .24 .16 .10 .06 .03 .01, in no particular order of ids.
const std::vector<double> kP = {0.06, 0.40, 0.01, 0.16, 0.24, 0.03, 0.10};
std::vector<float> Logits() {
  std::vector<float> l;
  for (const double p : kP) l.push_back(static_cast<float>(std::log(p) + 3));
  return l;
}

}  // namespace

TEST_CASE("greedy takes the highest logit, the lowest id of equal ones, and no random number") {
  CHECK(Pick(kGreedy, {1, 3, 2}) == 1);
  CHECK(Pick(kGreedy, {1, 3, 3, 3}) == 1);
  CHECK(Pick(kGreedy, {0, -0.0f}) == 0);
  CHECK(Pick(kGreedy, {-INFINITY, -5, -INFINITY}) == 1);
  Sampler s(Params{.temperature = 0, .seed = 17}, Table(), {});
  CHECK(s.greedy());
  CHECK(s.seed() == -1);  // reported as not used
  for (int64_t seed = 0; seed < 20; ++seed) CHECK(Pick({.temperature = 0, .seed = seed}, {1, 3, 3}) == 1);
}

TEST_CASE("frequencies are those of the exact distribution") {
  Params p{.seed = 1234};
  SECTION("temperature 1") {}
  SECTION("temperature 0.5") { p.temperature = 0.5f; }
  SECTION("temperature 3") { p.temperature = 3; }
  SECTION("top-k 3") { p.top_k = 3; }
  SECTION("top-k 1") { p.top_k = 1; }
  SECTION("top-k above the vocabulary") { p.top_k = 100; }
  SECTION("top-k off") { p.top_k = -1; }
  SECTION("top-p within a token") { p.top_p = 0.7f; }
  SECTION("top-p that one token fills") { p.top_p = 0.3f; }
  SECTION("top-p of nearly all") { p.top_p = 0.985f; }
  SECTION("min-p") { p.min_p = 0.2f; }
  SECTION("min-p 1 leaves the best") { p.min_p = 1; }
  SECTION("top-k, then top-p of what is left") {
    p.top_k = 3;
    p.top_p = 0.75f;  // of .40 + .24 + .16: two tokens; of the whole it would be three
  }
  SECTION("temperature comes before top-p") {
    p.temperature = 0.5f;
    p.top_p = 0.7f;
  }
  SECTION("temperature comes before min-p") {
    p.temperature = 2;
    p.min_p = 0.3f;
  }
  SECTION("top-p, then min-p") {
    p.top_p = 0.9f;
    p.min_p = 0.3f;
  }
  CheckDistribution(p, Logits(), Exact(p, Logits()));
}

TEST_CASE("min-p does not change the mass that top-p counts") {
  // top-k leaves .40 .24 .16 .10, of which top-p 0.5 takes two; min-p then removes none of them.
  const Params p{.top_k = 4, .top_p = 0.5f, .min_p = 0.5f, .seed = 99};
  CheckDistribution(p, Logits(), Exact(p, Logits()));
}

TEST_CASE("equal probabilities at the edge of top-k and top-p: the lowest ids stay") {
  const std::vector<float> flat(6, 1.0f);
  const std::vector<double> half = {0.5, 0.5, 0, 0, 0, 0};
  CheckDistribution({.top_k = 2, .seed = 5}, flat, half);
  CheckDistribution({.top_p = 0.3f, .seed = 5}, flat, half);
}

TEST_CASE("a large vocabulary: top-p across many tokens") {
  std::vector<float> l(5000);
  for (size_t i = 0; i < l.size(); ++i) l[i] = -0.002f * static_cast<float>((i * 1237) % l.size());
  const Params p{.top_p = 0.6f, .seed = 3};
  const std::vector<double> want = Exact(p, l);
  Sampler s(p, Table(), {});
  size_t inside = 0;
  for (int i = 0; i < 2000; ++i) {
    std::vector<float> copy = l;
    inside += want[static_cast<size_t>(s.Sample(copy.data(), copy.size(), {}))] > 0;
  }
  CHECK(inside >= 1998);  // the mass at the edge is a float's
}

TEST_CASE("any valid temperature works: a tiny one is greedy, a huge one flat") {
  for (const float t : {1e-3f, 1e-6f, 1e-20f, 1e-38f, 1e-45f}) {
    for (int64_t seed = 0; seed < 20; ++seed) {
      INFO("temperature " << t);
      CHECK(Pick({.temperature = t, .seed = seed}, {10, 30, 20, -40}) == 1);
      CHECK(Pick({.temperature = t, .seed = seed}, {-10, -30, -20, -40}) == 0);
    }
  }
  CheckDistribution({.temperature = 100, .seed = 1}, {0, 0.001f, 0, 0.002f}, {0.25, 0.25, 0.25, 0.25});
}

TEST_CASE("one seed gives one sequence, another seed another; none is drawn and reported") {
  const auto draw = [](int64_t seed, int64_t* used) {
    Sampler s(Params{.seed = seed}, Table(), {});
    *used = s.seed();
    std::vector<int32_t> out;
    for (int i = 0; i < 64; ++i) {
      std::vector<float> l = Logits();
      out.push_back(s.Sample(l.data(), l.size(), {}));
    }
    return out;
  };
  int64_t used = 0;
  const auto a = draw(7, &used);
  CHECK(used == 7);
  CHECK(draw(7, &used) == a);
  CHECK(draw(8, &used) != a);
  const auto random = draw(-1, &used);
  CHECK(used >= 0);
  CHECK(draw(used, &used) == random);
}

TEST_CASE("the generator is SplitMix64, uniform in [0, 1)") {
  // First outputs for seed 1234567, from the algorithm's published test vector.
  wf::Rng published(1234567);
  CHECK(published.Next() == 6457827717110365317ull);
  CHECK(published.Next() == 3203168211198807973ull);
  CHECK(published.Next() == 9817491932198370423ull);
  wf::Rng r(42);
  double sum = 0;
  for (int i = 0; i < 10000; ++i) {
    const double u = r.Uniform();
    CHECK((u >= 0 && u < 1));
    sum += u;
  }
  CHECK(std::fabs(sum / 10000 - 0.5) < 0.02);
}

TEST_CASE("candidates give the token that all logits give") {
  Params p{.seed = 21};
  bool asks = true;
  SECTION("greedy") { p.temperature = 0; }
  SECTION("top-k") { p.top_k = 7; }
  SECTION("top-k 1") { p.top_k = 1; }
  SECTION("top-k with top-p and min-p") {
    p.temperature = 1.3f;
    p.top_k = 30;
    p.top_p = 0.8f;
    p.min_p = 0.01f;
  }
  SECTION("min-p") { p.min_p = 0.05f; }
  SECTION("min-p, hot") {
    p.temperature = 1.7f;
    p.min_p = 0.3f;
  }
  SECTION("min-p 1") { p.min_p = 1; }
  SECTION("greedy with penalties and bias") {
    p.temperature = 0;
    p.repetition_penalty = 1.5f;
    p.presence_penalty = 1;
    p.frequency_penalty = 0.5f;
    p.logit_bias = {{3, 2.5f}, {90, -100.0f}};
  }
  SECTION("top-k with penalties and bias") {
    p.top_k = 5;
    p.repetition_penalty = 0.7f;  // raises what was seen
    p.repeat_last_n = 12;
    p.logit_bias = {{250, 100.0f}, {11, 3.0f}};
  }
  SECTION("min-p with a bias that lifts a token over all others") {
    p.min_p = 0.2f;
    p.logit_bias = {{42, 30.0f}};
    p.frequency_penalty = 2;
  }
  SECTION("plain sampling needs all logits") { asks = false; }
  SECTION("and so does top-p") {
    p.top_p = 0.9f;
    asks = false;
  }
  SECTION("and top-p with min-p") {
    p.top_p = 0.9f;
    p.min_p = 0.1f;
    asks = false;
  }
  SECTION("and a top-k of everything") {
    p.top_k = 300;
    asks = false;
  }
  const std::vector<int32_t> prompt = {5, 6, 7, 5, 250}, banned = {0, 7, 11, 299};
  Sampler all(p, Table(), prompt), some(p, Table(), prompt), more(p, Table(), prompt);
  std::mt19937 rng(77);
  std::normal_distribution<float> normal(0, 2);
  for (int step = 0; step < 200; ++step) {
    std::vector<float> logits(300);
    for (float& l : logits) l = std::round(normal(rng) * 8) / 8;  // many ties
    wf::HeadQuery q;
    REQUIRE(some.Query(logits.size(), banned, &q) == asks);
    if (!asks) return;
    const int32_t got = some.Choose(AnswerTo(q, logits));
    std::vector<float> copy = logits;
    const int32_t want = all.Sample(copy.data(), copy.size(), banned);
    REQUIRE(got == want);
    // More candidates than were asked for change nothing.
    wf::HeadQuery wide = q;
    wide.top = 200;
    wide.range = -1;
    REQUIRE(more.Query(logits.size(), banned, &q));
    REQUIRE(more.Choose(AnswerTo(wide, logits)) == want);
    for (Sampler* s : {&all, &some, &more}) s->Accept(want);
  }
}

TEST_CASE("a draw from candidates ends whatever the logits are") {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (const float top : {kInf, 3e38f, 0.0f, -1e38f}) {
    const std::vector<wf::Candidate> c = {{3, -3e38f}, {5, top}, {8, -kInf}};
    CHECK(Sampler(Params{.top_k = 3, .seed = 1}, Table(), {}).Choose(c) == 5);
    CHECK(Sampler(Params{.temperature = 0}, Table(), {}).Choose(c) == 5);
  }
}

TEST_CASE("repetition penalty divides positive and multiplies negative logits of what was seen, once") {
  const Params p{.temperature = 0, .repetition_penalty = 2};
  // Token 0 was seen (twice, in prompt and answer): 4 becomes 2, -1 becomes -2.
  CHECK(Pick(p, {4, 2.1f}, {0}, {0}) == 1);
  CHECK(Pick(p, {4, 1.9f}, {0}, {0}) == 0);
  CHECK(Pick(p, {-1, -1.9f}, {0}) == 1);
  CHECK(Pick(p, {-1, -2.1f}, {0}) == 0);
  CHECK(Pick(p, {4, 2.1f}, {}, {0}) == 1);
  CHECK(Pick(p, {4, 3.9f}, {1}) == 0);
}

TEST_CASE("repeat_last_n counts the last tokens of prompt and answer") {
  Params p{.temperature = 0, .repetition_penalty = 2, .repeat_last_n = 2};
  CHECK(Pick(p, {4, 3, 0}, {0}, {2, 2}) == 0);  // 0 is three back
  CHECK(Pick(p, {4, 3, 0}, {0}, {2}) == 1);
  p.repeat_last_n = 0;
  CHECK(Pick(p, {4, 3, 0}, {0}, {}) == 0);
  p.repeat_last_n = 1000;
  CHECK(Pick(p, {4, 3, 0}, {0}, {2, 2}) == 1);
}

TEST_CASE("presence and frequency penalties count the answer's tokens, not the prompt's") {
  const Params p{.temperature = 0, .presence_penalty = 0.25f, .frequency_penalty = 0.5f};
  // Three times generated: 10 becomes 10 - 0.25 - 1.5 = 8.25.
  CHECK(Pick(p, {10, 8.3f}, {}, {0, 0, 0}) == 1);
  CHECK(Pick(p, {10, 8.2f}, {}, {0, 0, 0}) == 0);
  CHECK(Pick(p, {10, 9.9f}, {0, 0, 0, 0}) == 0);
  const Params reward{.temperature = 0, .presence_penalty = -2, .frequency_penalty = -2};
  CHECK(Pick(reward, {1, 4.9f}, {}, {0}) == 0);
  CHECK(Pick(reward, {1, 5.1f}, {}, {0}) == 1);
}

TEST_CASE("logit bias adds to a token's logit, also to one that is sampled with a temperature") {
  Params p{.temperature = 0, .logit_bias = {{0, 2.0f}, {1, -1.0f}}};
  CHECK(Pick(p, {1, 3.9f}) == 0);
  CHECK(Pick(p, {1, 4.1f}) == 1);
  p = {.logit_bias = {{2, 100.0f}}, .seed = 1};
  for (int i = 0; i < 50; ++i) CHECK(Pick(p, Logits()) == 2);
  p = {.logit_bias = {{1, -100.0f}}, .seed = 1};
  std::vector<double> want = kP;
  want[1] = 0;
  for (double& v : want) v /= 0.6;
  CheckDistribution(p, Logits(), want);
}

TEST_CASE("a banned token is never chosen, whatever its logit and bias") {
  const std::vector<int32_t> banned = {1, 3};
  CHECK(Pick({.temperature = 0, .logit_bias = {{1, 100.0f}}}, {1, 50, 2, 60, 0}, {}, {}, banned) == 2);
  for (int64_t seed = 0; seed < 300; ++seed) {
    const Params p{.temperature = 100, .logit_bias = {{3, 100.0f}}, .seed = seed};
    const int32_t t = Pick(p, {1, 50, 2, 60, 0}, {}, {}, banned);
    CHECK((t == 0 || t == 2 || t == 4));
  }
}

TEST_CASE("a single token that may be chosen is chosen") {
  for (const float t : {0.0f, 1.0f, 100.0f})
    CHECK(Pick({.temperature = t, .seed = 1}, {9, 9, -80, 9}, {}, {}, {0, 1, 3}) == 2);
}

TEST_CASE("Validate names field, value and range") {
  const auto message = [](const Params& p) {
    const wf::Status s = wf::Validate(p, 100);
    CHECK(s.code() == (s.ok() ? wf::ErrorCode::kOk : wf::ErrorCode::kInvalidArgument));
    return s.message();
  };
  const auto starts = [&](const Params& p, const std::string& want) {
    INFO(message(p));
    CHECK(message(p).rfind(want, 0) == 0);
  };
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();
  CHECK(wf::Validate({}, 100).ok());
  CHECK(wf::Validate(Params{.temperature = 100,
                            .top_k = -1,
                            .top_p = 1e-6f,
                            .min_p = 1,
                            .repetition_penalty = 0.01f,
                            .repeat_last_n = 0,
                            .presence_penalty = -2,
                            .frequency_penalty = 2,
                            .logit_bias = {{0, -100.0f}, {99, 100.0f}},
                            .seed = 0},
                     100)
            .ok());
  starts({.temperature = -0.1f}, "temperature = -0.1");
  starts({.temperature = 100.5f}, "temperature = 100.5");
  starts({.temperature = kNan}, "temperature = ");
  starts({.top_k = -2}, "top_k = -2");
  starts({.top_p = 0}, "top_p = 0");
  starts({.top_p = 1.01f}, "top_p = 1.01");
  starts({.top_p = kNan}, "top_p = ");
  starts({.min_p = -0.01f}, "min_p = -0.01");
  starts({.min_p = 1.5f}, "min_p = 1.5");
  starts({.repetition_penalty = 0}, "repetition_penalty = 0");
  starts({.repetition_penalty = kInf}, "repetition_penalty = inf");
  starts({.repeat_last_n = -2}, "repeat_last_n = -2");
  starts({.presence_penalty = 2.5f}, "presence_penalty = 2.5");
  starts({.frequency_penalty = -2.5f}, "frequency_penalty = -2.5");
  starts({.logit_bias = {{100, 1.0f}}}, "logit_bias: token id = 100");
  starts({.logit_bias = {{-1, 1.0f}}}, "logit_bias: token id = -1");
  starts({.logit_bias = {{5, 101.0f}}}, "logit_bias = 101");
  starts({.logit_bias = {{5, kNan}}}, "logit_bias = ");
  starts({.seed = -2}, "seed = -2");
}
