// SPDX-License-Identifier: Apache-2.0
// Candidates in place of logits: complete against a search through all logits, equal to them bit for bit, and never
// given where they would not be right; then whole texts with and without them.
#include "wf/model/fast_head.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/catch.h"
#include "tests/model/engine_helpers.h"
#include "wf/quant/pack.h"

namespace {

using namespace wf;
using wf::test::Answer;

const KernelTable& Table() { return Kernels(isa::BestSupported(CompiledIsas())); }

struct Head {
  Head(DenseType type, size_t rows, size_t k, const std::vector<float>& w) {
    const size_t bytes = k / DenseBlock(type) * DenseBlockBytes(type);
    data.resize(rows * bytes);
    for (size_t r = 0; r < rows; ++r) {
      QuantiseDenseRow(kDenseTensorTypes[static_cast<size_t>(type)], &w[r * k], k, &data[r * bytes]);
    }
    linear.type = kDenseTensorTypes[static_cast<size_t>(type)];
    linear.dense_type = type;
    linear.data = data.data();
    linear.k = k;
    linear.rows = rows;
    linear.ternary = false;
  }
  std::vector<float> Logits(const float* x) const {
    std::vector<float> y(linear.rows);
    Table().dense[static_cast<size_t>(linear.dense_type)]({.w = data.data(),
                                                           .k = linear.k,
                                                           .row_begin = 0,
                                                           .row_end = linear.rows,
                                                           .x = x,
                                                           .x_stride = linear.k,
                                                           .tokens = 1,
                                                           .y = y.data(),
                                                           .y_stride = linear.rows});
    return y;
  }
  std::vector<uint8_t> data;
  Linear linear;
};

std::vector<float> Normal(size_t n, uint32_t seed, float scale = 1) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  std::vector<float> v(n);
  for (float& f : v) f = normal(rng) * scale;
  return v;
}

// The ids that the query asks for, by a search through all logits.
std::vector<int32_t> Wanted(const std::vector<float>& logits, const HeadQuery& q) {
  const auto in = [](std::span<const int32_t> ids, int32_t id) {
    return std::find(ids.begin(), ids.end(), id) != ids.end();
  };
  std::vector<float> sorted;
  for (size_t i = 0; i < logits.size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    if (!in(q.banned, id) && !in(q.always, id)) sorted.push_back(logits[i]);
  }
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  const double least = q.range >= 0 ? static_cast<double>(sorted[0]) - static_cast<double>(q.range)
                                    : static_cast<double>(sorted[q.top - 1]);
  std::vector<int32_t> ids;
  for (size_t i = 0; i < logits.size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    if (in(q.banned, id)) continue;
    if (in(q.always, id) || static_cast<double>(logits[i]) >= least) ids.push_back(id);
  }
  return ids;
}

// Every wanted id is there, in order, and every logit is the full head's.
void CheckAnswer(const std::vector<Candidate>& got, const std::vector<float>& logits, const HeadQuery& q) {
  std::vector<int32_t> ids;
  size_t wrong = 0;
  for (const Candidate& c : got) {
    ids.push_back(c.id);
    wrong += std::memcmp(&c.logit, &logits[static_cast<size_t>(c.id)], sizeof(float)) != 0;
  }
  CHECK(wrong == 0);
  CHECK(std::adjacent_find(ids.begin(), ids.end(), std::greater_equal<>()) == ids.end());
  const std::vector<int32_t> wanted = Wanted(logits, q);
  CHECK(std::includes(ids.begin(), ids.end(), wanted.begin(), wanted.end()));
  for (const int32_t id : q.banned) CHECK_FALSE(std::binary_search(ids.begin(), ids.end(), id));
}

void BuildAll(FastHead& f) {
  while (!f.Build(0)) {
  }
}

}  // namespace

TEST_CASE("candidates are all that were asked for, with the logits of the whole head") {
  const auto type = GENERATE(DenseType::kF32, DenseType::kF16, DenseType::kBF16, DenseType::kQ8_0, DenseType::kQ6_K);
  const size_t rows = GENERATE(2000u, 3001u);
  const int threads = GENERATE(1, 3);
  const size_t k = 512;
  Head head(type, rows, k, Normal(rows * k, 5, 0.02f));
  ThreadPool pool(threads);
  FastHead fast(head.linear, Table(), &pool, HeadMode::kFast);
  CHECK(fast.why_not() == "");
  BuildAll(fast);
  REQUIRE(fast.ready());
  const std::vector<int32_t> banned = {0, 1, 2, 17, 500, 1999}, always = {1, 3, 700, 701, 1999};
  std::vector<float> x = Normal(6 * k, 9);
  for (size_t i = 0; i < k; i += 37) x[3 * k + i] *= 500;  // a token with outliers
  std::vector<HeadQuery> queries = {{.top = 1},
                                    {.top = 5, .banned = banned},
                                    {.top = 40, .always = always},
                                    {.top = 1, .banned = banned, .always = always},
                                    {.range = 0.2f},
                                    {.range = 0, .banned = banned, .always = always}};
  std::vector<std::vector<Candidate>> out(queries.size());
  std::vector<FastHead::Task> tasks;
  for (size_t i = 0; i < queries.size(); ++i) tasks.push_back({&x[i * k], &queries[i], &out[i]});
  fast.Answer(tasks);
  for (size_t i = 0; i < queries.size(); ++i) {
    INFO("type " << static_cast<int>(type) << " rows " << rows << " threads " << threads << " query " << i);
    CHECK_FALSE(out[i].empty());
    CheckAnswer(out[i], head.Logits(&x[i * k]), queries[i]);
  }
  const HeadStats s = fast.stats();
  CHECK(s.ready);
  CHECK(s.bytes == FastHead::Bytes(head.linear));
  CHECK(s.queries == 6);
  CHECK(s.answered == 6);
  size_t rescored = 0;
  for (const auto& o : out) rescored += o.size();
  CHECK(s.rescored == rescored);
  CHECK(rescored < rows / 4 * 6);
  // Alone a question has the same answer as among others.
  for (size_t i = 0; i < queries.size(); ++i) {
    const std::vector<Candidate> before = out[i];
    fast.Answer({&tasks[i], 1});
    CHECK(std::equal(before.begin(), before.end(), out[i].begin(), out[i].end(),
                     [](const Candidate& a, const Candidate& b) { return a.id == b.id && a.logit == b.logit; }));
  }
}

TEST_CASE("the best token hides where its bound is not the best") {
  // Rows close to each other: many bounds overlap, and the candidates must hold the best row all the same.
  const size_t rows = 4096, k = 300;
  const std::vector<float> base = Normal(k, 1);
  std::vector<float> w = Normal(rows * k, 2, 0.05f);
  for (size_t r = 0; r < rows; r += 9) {
    for (size_t i = 0; i < k; ++i) w[r * k + i] += base[i] * 0.3f;
  }
  Head head(DenseType::kF16, rows, k, w);
  ThreadPool pool(2);
  FastHead fast(head.linear, Table(), &pool, HeadMode::kFast);
  BuildAll(fast);
  for (uint32_t seed = 0; seed < 30; ++seed) {
    std::vector<float> x = Normal(k, 100 + seed, 0.2f);
    for (size_t i = 0; i < k; ++i) x[i] += base[i];
    for (const size_t top : {1u, 3u, 50u}) {
      const HeadQuery q{.top = top};
      std::vector<Candidate> out;
      const FastHead::Task t{x.data(), &q, &out};
      fast.Answer({&t, 1});
      CHECK_FALSE(out.empty());
      CheckAnswer(out, head.Logits(x.data()), q);
    }
  }
}

TEST_CASE("equal logits are all candidates") {
  const size_t rows = 1600, k = 64;
  std::vector<float> w = Normal(rows * k, 3, 0.02f);
  for (size_t i = 0; i < k; ++i) w[70 * k + i] = w[801 * k + i] = w[1599 * k + i] = static_cast<float>(i % 5) + 1;
  Head head(DenseType::kF32, rows, k, w);
  ThreadPool pool(1);
  FastHead fast(head.linear, Table(), &pool, HeadMode::kFast);
  BuildAll(fast);
  const std::vector<float> x(k, 1.0f);
  const HeadQuery q{.top = 1};
  std::vector<Candidate> out;
  const FastHead::Task t{x.data(), &q, &out};
  fast.Answer({&t, 1});
  REQUIRE(out.size() >= 3);
  CheckAnswer(out, head.Logits(x.data()), q);
}

TEST_CASE("the whole head answers where candidates cannot") {
  const size_t rows = 1024, k = 64;
  Head head(DenseType::kF32, rows, k, Normal(rows * k, 4, 0.1f));
  ThreadPool pool(2);
  FastHead fast(head.linear, Table(), &pool, HeadMode::kFast);
  const std::vector<float> good = Normal(k, 8);
  std::vector<float> x = good;
  HeadQuery q{.top = 1};
  std::vector<int32_t> all;
  for (int32_t i = 0; i < 1024; ++i) all.push_back(i);
  std::vector<Candidate> out = {{1, 1}};
  const FastHead::Task t{x.data(), &q, &out};
  const auto answered = [&] {
    fast.Answer({&t, 1});
    return !out.empty();
  };
  CHECK_FALSE(answered());  // the copy is not there yet
  CHECK_FALSE(fast.Build(0));
  CHECK_FALSE(fast.ready());
  CHECK_FALSE(answered());
  BuildAll(fast);
  CHECK(answered());
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 1e30f}) {
    x[7] = bad;
    CHECK_FALSE(answered());
  }
  std::fill(x.begin(), x.end(), 0.0f);  // every logit is 0
  CHECK_FALSE(answered());
  x = good;
  CHECK(answered());
  q = {.range = 100};  // all of them
  CHECK_FALSE(answered());
  q = {.top = 1000};
  CHECK_FALSE(answered());
  q = {.top = 1, .banned = all};
  CHECK_FALSE(answered());
  q = {.top = 1, .always = all};
  CHECK_FALSE(answered());
  CHECK(fast.stats().answered == 2);
}

TEST_CASE("a mixed batch of more queries than one scan takes") {
  const size_t rows = 900, k = 128, n = 150;
  Head head(DenseType::kF16, rows, k, Normal(rows * k, 14, 0.1f));
  ThreadPool pool(2);
  FastHead fast(head.linear, Table(), &pool, HeadMode::kFast);
  BuildAll(fast);
  std::vector<float> x = Normal(n * k, 15);
  for (size_t i = 0; i < n; i += 7) x[i * k] = std::numeric_limits<float>::quiet_NaN();
  const HeadQuery q{.top = 2};
  std::vector<std::vector<Candidate>> out(n);
  std::vector<FastHead::Task> tasks;
  for (size_t i = 0; i < n; ++i) tasks.push_back({&x[i * k], &q, &out[i]});
  fast.Answer(tasks);
  for (size_t i = 0; i < n; ++i) {
    if (i % 7 == 0) {
      CHECK(out[i].empty());
      continue;
    }
    CHECK_FALSE(out[i].empty());
    if (!out[i].empty()) CheckAnswer(out[i], head.Logits(&x[i * k]), q);
  }
}

TEST_CASE("heads without a copy say why") {
  const auto why = [](DenseType type, size_t rows, size_t k, HeadMode mode) {
    Linear l;
    l.type = kDenseTensorTypes[static_cast<size_t>(type)];
    l.dense_type = type;
    l.rows = rows;
    l.k = k;
    return FastHead::WhyNot(l, mode);
  };
  CHECK(why(DenseType::kF16, 128256, 2560, HeadMode::kAuto) == "");
  CHECK(why(DenseType::kQ6_K, 128256, 2560, HeadMode::kAuto) == "");
  CHECK(why(DenseType::kF16, 128256, 2560, HeadMode::kFull) == "switched off");
  CHECK(why(DenseType::kQ4_0, 128256, 2560, HeadMode::kAuto) == "Q4_0 in the file has fewer bytes than the copy");
  CHECK(why(DenseType::kQ4_K, 128256, 2560, HeadMode::kFast) == "Q4_K in the file has fewer bytes than the copy");
  CHECK(why(DenseType::kF16, 2000, 512, HeadMode::kAuto) == "the head is small");
  CHECK(why(DenseType::kF16, 2000, 512, HeadMode::kFast) == "");
  CHECK(why(DenseType::kF16, 2000, 65537, HeadMode::kFast) == "rows of more than 65536 columns");

  std::vector<float> w = Normal(600 * 64, 6);
  w[599 * 64 + 3] = std::numeric_limits<float>::infinity();
  Head head(DenseType::kF32, 600, 64, w);
  ThreadPool pool(1);
  FastHead fast(head.linear, Table(), &pool, HeadMode::kFast);
  BuildAll(fast);
  CHECK_FALSE(fast.ready());
  CHECK(fast.why_not() == "row 599 of the head is not finite");
  CHECK(fast.stats().bytes == 0);
  head.linear.bias = w.data();
  CHECK(FastHead::WhyNot(head.linear, HeadMode::kFast) == "the head has a bias");
}

TEST_CASE("the same texts with and without a copy of the head, alone and in a batch", "[engine]") {
  struct Case {
    const char* name;
    SamplingParams p;
    bool answered;  // by candidates, as a rule
  };
  std::vector<Case> cases = {
      {"greedy", {.temperature = 0}, true},
      {"greedy with penalties and bias",
       {.temperature = 0,
        .repetition_penalty = 1.3f,
        .presence_penalty = 0.5f,
        .frequency_penalty = 0.25f,
        .logit_bias = {{100, 3.0f}, {7, -100.0f}}},
       true},
      {"top-k", {.temperature = 0.9f, .top_k = 20, .seed = 1}, true},
      {"top-k, top-p, min-p", {.temperature = 1.2f, .top_k = 40, .top_p = 0.9f, .min_p = 0.02f, .seed = 2}, true},
      {"top-k with penalties",
       {.temperature = 1, .top_k = 10, .repetition_penalty = 1.1f, .repeat_last_n = 16, .seed = 3},
       true},
      {"min-p", {.temperature = 0.8f, .min_p = 0.1f, .seed = 4}, true},
      {"min-p, a top-k that leaves all", {.temperature = 0.8f, .top_k = 1 << 20, .min_p = 0.1f, .seed = 4}, true},
      {"plain", {.temperature = 1, .seed = 5}, false},
      {"top-p", {.temperature = 1, .top_p = 0.8f, .seed = 6}, false}};
  const auto run = [&](HeadMode mode, int batch, int threads) {
    const auto engine = test::MakeEngine({.threads = threads, .max_running = batch, .max_queue = 64, .head = mode});
    std::vector<std::unique_ptr<Answer>> answers;
    for (size_t i = 0; i < cases.size(); ++i) {
      Request r = test::Hello(40);
      r.sampling = cases[i].p;
      r.min_tokens = i % 2 == 0 ? 0 : 20;
      answers.push_back(std::make_unique<Answer>());
      REQUIRE(engine->Submit(r, answers.back()->Sink()).ok());
    }
    std::vector<std::vector<int32_t>> ids;
    for (auto& a : answers) {
      REQUIRE(a->Wait());
      ids.push_back(a->ids);
      CHECK(a->ids.size() > 3);
    }
    const HeadStats s = engine->stats().head;
    if (mode == HeadMode::kFull) CHECK(s.answered + s.bytes == 0);
    if (mode == HeadMode::kFast && batch == 1) {
      CHECK(s.ready);
      CHECK(s.answered > 100);  // of some 240 tokens
      CHECK(s.answered <= s.queries);
    }
    return ids;
  };
  const auto want = run(HeadMode::kFull, 1, 1);
  for (const int batch : {1, 2, 3, 8}) {
    INFO("batch " << batch);
    CHECK(run(HeadMode::kFast, batch, batch == 2 ? 1 : 2) == want);
  }
  CHECK(run(HeadMode::kFull, 8, 2) == want);
}
