// SPDX-License-Identifier: Apache-2.0
// The Monte-Carlo likelihood of a diffusion model: how positions are drawn, that each sample is what one pass over the
// whole text says, whatever of it is kept or cut, and what is refused. Against an independent model:
// tests/golden/test_likelihood.py.
#include "wf/decode/likelihood.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/catch.h"
#include "tests/model/model_file.h"
#include "wf/decode/sampler.h"
#include "wf/model/transformer.h"

namespace {

using wf::DiffusionStyle;
using wf::test::Bard;

constexpr int32_t kMask = 2047;
constexpr size_t kVocab = 2048;

std::vector<int32_t> Tokens(size_t n) {
  std::vector<int32_t> ids;
  for (size_t i = 0; i < n; ++i) ids.push_back(static_cast<int32_t>(i * 7 % 1999 + 3));
  return ids;
}

std::unique_ptr<wf::Transformer> Runner(int threads = 1) {
  return *wf::Transformer::Create(Bard(), threads, wf::KvType::kF16);
}

// The definition: every row of the text in one pass, which sees the mask, or else the text.
double OnePass(wf::Transformer& t, std::vector<int32_t> ids, const std::vector<uint32_t>& masked,
               size_t attention_block, bool hide = true) {
  const std::vector<int32_t> truth = ids;
  for (const uint32_t i : masked) ids[i] = hide ? kMask : ids[i];
  wf::KvPool pool = *wf::KvPool::Create(t.kv_shape(), ids.size() / wf::kKvBlock + 1);
  std::vector<uint8_t*> blocks;
  while (blocks.size() < pool.total()) blocks.push_back(pool.Data(pool.Acquire()));
  std::vector<float> logits(ids.size() * kVocab);
  const wf::SequenceRows rows{
      .tokens = ids.data(), .count = ids.size(), .blocks = blocks.data(), .attention_block = attention_block};
  t.Forward({&rows, 1}, logits.data());
  double sum = 0;
  for (const uint32_t i : masked) {
    const float* row = logits.data() + (i - 1) * kVocab;
    sum += static_cast<double>(t.Softmax(row, nullptr, kVocab)) - static_cast<double>(row[truth[i]]);
  }
  return sum;
}

wf::LikelihoodOptions Options(DiffusionStyle style, size_t prompt, size_t samples, size_t block = 32) {
  return {.style = style, .block = block, .mask = kMask, .prompt = prompt, .samples = samples, .seed = 7};
}

}  // namespace

TEST_CASE("the number of masks is the whole part of k L / N, at least one") {
  for (size_t samples = 1; samples <= 40; ++samples) {
    for (size_t length = 1; length <= 80; ++length) {
      for (size_t k = 1; k <= samples; ++k) {
        const size_t n = wf::MaskedCount(k, samples, length);
        INFO(k << " of " << samples << ", length " << length);
        REQUIRE((n >= 1 && n <= length));
        if (k * length >= samples) REQUIRE((n * samples <= k * length && k * length < (n + 1) * samples));
        if (k == samples) REQUIRE(n == length);
      }
    }
  }
  // 0.29 * 100 is 28.999999999999996 in floating point.
  CHECK(wf::MaskedCount(29, 100, 100) == 29);
  CHECK(wf::MaskedCount(1 << 20, 1 << 20, 0xffffffff) == 0xffffffff);
}

TEST_CASE("drawn positions are distinct, ascending, in range, and all of them where all are asked for") {
  wf::Rng rng(1);
  for (uint32_t length = 1; length <= 70; ++length) {
    for (uint32_t count = 1; count <= length; ++count) {
      const std::vector<uint32_t> p = wf::DrawPositions(rng, 5, length, count);
      REQUIRE(p.size() == count);
      REQUIRE((p.front() >= 5 && p.back() < 5 + length));
      REQUIRE(std::adjacent_find(p.begin(), p.end(), std::greater_equal<>()) == p.end());
    }
  }
}

TEST_CASE("every set of positions is equally probable") {
  // 3 of 6: 20 sets. The chi-square of 19 degrees of freedom is above 43.8 with probability 0.001; the seed is fixed.
  constexpr size_t kDraws = 20000, kSets = 20;
  wf::Rng rng(3);
  std::vector<size_t> seen(64);
  for (size_t i = 0; i < kDraws; ++i) {
    size_t set = 0;
    for (const uint32_t p : wf::DrawPositions(rng, 0, 6, 3)) set |= size_t{1} << p;
    ++seen[set];
  }
  constexpr double kExpected = static_cast<double>(kDraws) / kSets;
  double chi_square = 0;
  size_t sets = 0;
  for (const size_t n : seen) {
    if (n == 0) continue;
    ++sets;
    chi_square += (static_cast<double>(n) - kExpected) * (static_cast<double>(n) - kExpected) / kExpected;
  }
  CHECK(sets == kSets);
  CHECK(chi_square < 43.8);
}

TEST_CASE("a sample is what one pass over the whole text says, bit for bit") {
  const auto t = Runner();
  const auto style = GENERATE(DiffusionStyle::kFastDllmV2, DiffusionStyle::kCausal);
  struct Case {
    size_t prompt, length, block;
  };
  // Prompts of part of a block, whole blocks, one token more; texts that end in and at a block; one token; more rows
  // than are forwarded at a time, in blocks that do not divide that number and in one that is larger.
  for (const auto& [prompt, length, block] :
       {Case{1, 20, 32}, Case{1, 31, 32}, Case{31, 2, 32}, Case{32, 1, 32}, Case{32, 40, 32}, Case{33, 31, 32},
        Case{64, 1, 32}, Case{63, 1, 32}, Case{1, 1, 32}, Case{40, 160, 32}, Case{50, 150, 24}, Case{128, 160, 128},
        Case{9, 30, 8}, Case{5, 20, 1}}) {
    INFO(wf::Name(style) << ", prompt " << prompt << ", length " << length << ", block " << block);
    const std::vector<int32_t> ids = Tokens(prompt + length);
    constexpr size_t kSamples = 5;
    const auto r = wf::DiffusionLikelihood(*t, *Bard(), ids, Options(style, prompt, kSamples, block));
    REQUIRE(r.ok());
    REQUIRE(r->samples.size() == kSamples);
    double sum = 0, squares = 0;
    for (size_t k = 1; k <= kSamples; ++k) {
      const wf::LikelihoodSample& s = r->samples[k - 1];
      const size_t n = wf::MaskedCount(k, kSamples, length);
      REQUIRE(s.masked.size() == n);
      CHECK((s.masked.front() >= prompt && s.masked.back() < ids.size()));
      const double want = OnePass(*t, ids, s.masked, style == DiffusionStyle::kCausal ? 1 : block);
      CHECK(s.nll == want * static_cast<double>(length) / static_cast<double>(n));
      sum += s.nll;
      squares += s.nll * s.nll;
    }
    CHECK(r->nll == Approx(sum / kSamples).epsilon(1e-12));
    // The variance as a difference of large numbers: some digits are lost.
    const double variance = (squares - sum * sum / kSamples) / (kSamples - 1);
    CHECK(*r->error == Approx(std::sqrt(std::max(0.0, variance) / kSamples)).epsilon(1e-6).margin(1e-5));
  }
}

TEST_CASE("blocks of one token are the causal style") {
  const auto t = Runner();
  const std::vector<int32_t> ids = Tokens(90);
  const auto a = wf::DiffusionLikelihood(*t, *Bard(), ids, Options(DiffusionStyle::kFastDllmV2, 20, 6, 1));
  const auto b = wf::DiffusionLikelihood(*t, *Bard(), ids, Options(DiffusionStyle::kCausal, 20, 6));
  REQUIRE((a.ok() && b.ok()));
  CHECK(a->nll == b->nll);
  CHECK(*a->error == *b->error);
  const auto blocks = wf::DiffusionLikelihood(*t, *Bard(), ids, Options(DiffusionStyle::kFastDllmV2, 20, 6));
  CHECK(blocks->nll != a->nll);
}

TEST_CASE("one token to predict: every sample masks it, and in style causal it is the autoregressive likelihood") {
  const auto t = Runner();
  const std::vector<int32_t> ids = Tokens(50);
  const auto r = wf::DiffusionLikelihood(*t, *Bard(), ids, Options(DiffusionStyle::kCausal, 49, 4));
  REQUIRE(r.ok());
  for (const wf::LikelihoodSample& s : r->samples) CHECK(s.masked == std::vector<uint32_t>{49});
  CHECK(r->nll == OnePass(*t, ids, {49}, 1, /*hide=*/false));
  CHECK(*r->error == 0);
}

TEST_CASE("one sample masks everything and has no standard error") {
  const auto t = Runner();
  const auto r = wf::DiffusionLikelihood(*t, *Bard(), Tokens(50), Options(DiffusionStyle::kFastDllmV2, 10, 1));
  REQUIRE(r.ok());
  CHECK(r->samples.at(0).masked.size() == 40);
  CHECK(r->nll == r->samples[0].nll);
  CHECK_FALSE(r->error.has_value());
}

TEST_CASE("a seed decides the masks, threads decide nothing") {
  const std::vector<int32_t> ids = Tokens(150);
  const auto run = [&](int threads, uint64_t seed) {
    wf::LikelihoodOptions o = Options(DiffusionStyle::kFastDllmV2, 20, 8);
    o.seed = seed;
    return *wf::DiffusionLikelihood(*Runner(threads), *Bard(), ids, o);
  };
  const wf::Likelihood want = run(1, 7), other = run(1, 8);
  for (const int threads : {1, 2, 3}) {
    const wf::Likelihood got = run(threads, 7);
    CHECK(got.nll == want.nll);
    CHECK(got.error == want.error);
    for (size_t k = 0; k < got.samples.size(); ++k) CHECK(got.samples[k].masked == want.samples[k].masked);
  }
  CHECK(other.samples[0].masked != want.samples[0].masked);
  CHECK(other.nll != want.nll);
}

TEST_CASE("the prompt is forwarded once, and progress counts rows up to its end; a refusal cancels") {
  const auto t = Runner();
  const std::vector<int32_t> ids = Tokens(200);
  std::vector<size_t> done;
  size_t of = 0;
  const auto r = wf::DiffusionLikelihood(*t, *Bard(), ids, Options(DiffusionStyle::kFastDllmV2, 130, 3),
                                         [&](size_t d, size_t total) {
                                           done.push_back(d);
                                           of = total;
                                           return true;
                                         });
  REQUIRE(r.ok());
  CHECK(of == 128 + 3 * 72);
  // 64 rows at a time: two of the prompt's, then 64 and 8 of each sample.
  CHECK(done == std::vector<size_t>{0, 64, 128, 192, 200, 264, 272, 336});
  const auto stopped = wf::DiffusionLikelihood(*t, *Bard(), ids, Options(DiffusionStyle::kCausal, 130, 3),
                                               [](size_t d, size_t) { return d < 192; });
  CHECK(stopped.status().code() == wf::ErrorCode::kCancelled);
}

TEST_CASE("what cannot be is refused with what was expected") {
  const auto t = Runner();
  const auto refusal = [&](std::vector<int32_t> ids, const wf::LikelihoodOptions& o) {
    const auto r = wf::DiffusionLikelihood(*t, *Bard(), ids, o);
    REQUIRE_FALSE(r.ok());
    CHECK(r.status().code() == wf::ErrorCode::kInvalidArgument);
    return r.status().message();
  };
  const auto causal = DiffusionStyle::kCausal;
  CHECK_THAT(refusal(Tokens(8), Options(causal, 0, 4)), Catch::Contains("prompt tokens = 0, expected 1 to 7"));
  CHECK_THAT(refusal(Tokens(8), Options(causal, 8, 4)), Catch::Contains("prompt tokens = 8, expected 1 to 7"));
  CHECK_THAT(refusal(Tokens(8), Options(causal, 1, 0)), Catch::Contains("samples = 0, expected 1 to 1048576"));
  CHECK_THAT(refusal(Tokens(8), Options(causal, 1, 1 << 21)),
             Catch::Contains("samples = 2097152, expected 1 to 1048576"));
  CHECK_THAT(refusal(Tokens(8), Options(causal, 1, 4, 0)), Catch::Contains("block = 0, expected 1 to 256"));
  CHECK_THAT(refusal(Tokens(8), Options(causal, 1, 4, 257)), Catch::Contains("block = 257, expected 1 to 256"));
  CHECK_THAT(refusal(Tokens(513), Options(causal, 1, 4)),
             Catch::Contains("513 tokens") && Catch::Contains("holds 512"));
  CHECK_THAT(refusal({5, 2048}, Options(causal, 1, 4)), Catch::Contains("token id = 2048, expected 0 to 2047"));
  CHECK_THAT(refusal({5, -1}, Options(causal, 1, 4)), Catch::Contains("token id = -1, expected 0 to 2047"));
  CHECK_THAT(refusal({5}, Options(causal, 1, 4)), Catch::Contains("one token"));
  CHECK_THAT(refusal({}, Options(causal, 1, 4)), Catch::Contains("no token"));
  wf::LikelihoodOptions o = Options(causal, 1, 4);
  for (const int32_t mask : {-1, 2048}) {
    o.mask = mask;
    CHECK_THAT(refusal(Tokens(8), o), Catch::Contains("mask token = " + std::to_string(mask) + ", expected 0 to 2047"));
  }
}
