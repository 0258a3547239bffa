// SPDX-License-Identifier: Apache-2.0
// Which passes block diffusion asks for and what they commit (semantics.md 4.2, 4.4), without a model.
#include "wf/decode/block_decoder.h"

#include <cstdint>
#include <numeric>
#include <vector>

#include "tests/catch.h"
#include "wf/decode/draft_verifier.h"

namespace {

using wf::BlockDecoder;
using wf::DecodeMode;
using wf::DiffusionStyle;
using wf::Pass;
using Rows = std::vector<uint32_t>;
using Ids = std::vector<int32_t>;

constexpr int32_t kMask = 99;

wf::DecodeSettings Settings(DiffusionStyle style, DecodeMode mode = DecodeMode::kIterative) {
  return {.mode = mode, .style = style, .block = 8, .sub_block = 4, .threshold = 0.5f, .mask = kMask};
}
Ids Prompt(size_t n) {
  Ids ids(n);
  std::iota(ids.begin(), ids.end(), 1);
  return ids;
}
Pass Plan(const BlockDecoder& d, const Ids& known, size_t computed) {
  Pass p;
  d.Plan(known, computed, &p);
  return p;
}
// Predicts 10 * position + 0 at the given confidences.
size_t Take(BlockDecoder* d, const Pass& p, const std::vector<float>& confidence) {
  REQUIRE(confidence.size() == p.rows.size());
  std::vector<BlockDecoder::Prediction> out;
  for (size_t i = 0; i < confidence.size(); ++i) {
    out.push_back({static_cast<int32_t>(10 * (p.first + p.rows[i] + 1)), confidence[i]});
  }
  return d->Take(p, out);
}

}  // namespace

TEST_CASE("fast-dllm-v2: the prompt's tail shares its block with masks, and passes forward the whole block") {
  BlockDecoder d(Settings(DiffusionStyle::kFastDllmV2), 10, 64);
  CHECK(d.prefill_end() == 8);
  const Ids known = Prompt(10);
  d.Begin(known);
  CHECK(d.start() == 8);
  CHECK(d.end() == 16);
  const Pass p = Plan(d, known, 8);
  CHECK(p.first == 8);
  CHECK(p.attention_block == 8);
  CHECK(p.keys == 16);
  CHECK(p.tokens == Ids{9, 10, kMask, kMask, kMask, kMask, kMask, kMask});
  CHECK(p.rows == Rows{1, 2});            // row i - 1 for the masked positions 10 and 11 of the first sub-block
  CHECK(Take(&d, p, {0.6f, 0.4f}) == 8);  // nothing of the block is final
  CHECK(d.tokens()[2] == 100);
  CHECK(d.masked(11));
  CHECK_FALSE(d.full());
}

TEST_CASE("the threshold is strict, the best mask is always committed, ties go to the lowest position") {
  BlockDecoder d(Settings(DiffusionStyle::kFastDllmV2), 8, 64);
  Ids known = Prompt(9);  // the block's first token came from the block before
  d.Begin(known);
  SECTION("exactly the threshold is not above it") {
    const Pass p = Plan(d, known, 8);
    CHECK(p.rows == Rows{0, 1, 2});
    Take(&d, p, {0.5f, 0.7f, 0.5f});
    CHECK(std::vector<size_t>(d.committed().begin(), d.committed().end()) == std::vector<size_t>{10});
  }
  SECTION("none above: the best, of equals the first") {
    Take(&d, Plan(d, known, 8), {0.1f, 0.3f, 0.3f});
    CHECK(std::vector<size_t>(d.committed().begin(), d.committed().end()) == std::vector<size_t>{10});
  }
  SECTION("several above") {
    Take(&d, Plan(d, known, 8), {0.6f, 0.1f, 0.9f});
    CHECK(std::vector<size_t>(d.committed().begin(), d.committed().end()) == std::vector<size_t>{9, 11});
    const Pass p = Plan(d, known, 8);
    CHECK(p.rows == Rows{1});
    CHECK(p.tokens == Ids{9, 90, kMask, 110, kMask, kMask, kMask, kMask});
  }
}

TEST_CASE("a full block of fast-dllm-v2 asks for its finalising pass, whose last row gives the next block's token") {
  BlockDecoder d(Settings(DiffusionStyle::kFastDllmV2, DecodeMode::kGreedy), 8, 64);
  const Ids known = Prompt(9);
  d.Begin(known);
  const Pass all = Plan(d, known, 8);
  CHECK(all.rows == Rows{0, 1, 2, 3, 4, 5, 6});  // every mask of the block in one pass
  Take(&d, all, std::vector<float>(7, 0.0f));
  CHECK(d.full());
  const Pass last = Plan(d, known, 8);
  CHECK(last.first == 8);
  CHECK(last.tokens == Ids{9, 90, 100, 110, 120, 130, 140, 150});
  CHECK(last.rows == Rows{7});
}

TEST_CASE("adaptive: the first two passes over each sub-block have lower thresholds") {
  wf::DecodeSettings s = Settings(DiffusionStyle::kFastDllmV2, DecodeMode::kAdaptive);
  s.threshold = 0.95f;  // 0.55, 0.75, 0.95
  s.block = 16;
  s.sub_block = 8;
  BlockDecoder d(s, 16, 64);
  const Ids known = Prompt(17);
  d.Begin(known);
  const auto committed = [&](std::vector<float> c) {
    const Pass p = Plan(d, known, 16);
    c.resize(p.rows.size(), 0);
    Take(&d, p, c);
    return d.committed().size();
  };
  CHECK(committed({0.56f, 0.54f, 0.54f}) == 1);
  CHECK(committed({0.74f, 0.76f, 0.74f}) == 1);
  CHECK(committed({0.94f, 0.96f, 0.94f}) == 1);
  CHECK(committed({0.94f, 0.96f, 0.94f, 0.94f}) == 1);
  CHECK(committed({0.99f, 0.99f, 0.99f}) == 3);
  CHECK(committed({0.56f, 0.57f, 0.54f}) == 2);  // the second sub-block begins again

  s.threshold = 0.45f;  // never above the threshold itself
  BlockDecoder low(s, 16, 64);
  low.Begin(known);
  const Pass p = Plan(low, known, 16);
  std::vector<float> c(p.rows.size(), 0.46f);
  Take(&low, p, c);
  CHECK(low.committed().size() == 7);
}

TEST_CASE("the last of the passes over a sub-block commits all that is left") {
  wf::DecodeSettings s = Settings(DiffusionStyle::kFastDllmV2);
  s.max_passes = 2;
  BlockDecoder d(s, 8, 64);
  const Ids known = Prompt(9);
  d.Begin(known);
  Take(&d, Plan(d, known, 8), {0, 0, 0});
  CHECK(d.committed().size() == 1);
  Take(&d, Plan(d, known, 8), {0, 0});
  CHECK(d.committed().size() == 2);
  Take(&d, Plan(d, known, 8), {0, 0, 0, 0});
  CHECK(d.committed().size() == 1);  // the next sub-block has its own passes
}

TEST_CASE("block cache: a sub-block alone once its first position is known and the rest has been forwarded") {
  wf::DecodeSettings s = Settings(DiffusionStyle::kFastDllmV2);
  s.block_cache = true;
  BlockDecoder d(s, 8, 64);
  const Ids known = Prompt(9);
  d.Begin(known);
  Pass p = Plan(d, known, 8);
  CHECK(p.tokens.size() == 8);  // nothing of the block is in the cache yet
  Take(&d, p, {0.9f, 0, 0});
  p = Plan(d, known, 8);
  CHECK(p.first == 8);
  CHECK(p.tokens == Ids{9, 90, kMask, kMask});
  CHECK(p.keys == 16);
  CHECK(p.rows == Rows{1, 2});
  Take(&d, p, {0.9f, 0.9f});
  p = Plan(d, known, 8);
  CHECK(p.tokens.size() == 8);  // the second sub-block's first position is masked
  CHECK(p.rows == Rows{3, 4, 5, 6});
  Take(&d, p, {0.9f, 0, 0, 0});
  p = Plan(d, known, 8);
  CHECK(p.first == 12);
  CHECK(p.rows == Rows{0, 1, 2});
  Take(&d, p, {1, 1, 1});
  CHECK(Plan(d, known, 8).tokens.size() == 8);  // the finalising pass is the block's
}

TEST_CASE("causal: blocks begin where the prompt ends, and a pass ends with its sub-block") {
  BlockDecoder d(Settings(DiffusionStyle::kCausal), 10, 64);
  CHECK(d.prefill_end() == 9);
  const Ids known = Prompt(10);
  d.Begin(known);
  CHECK(d.start() == 10);
  CHECK(d.end() == 18);
  Pass p = Plan(d, known, 9);
  CHECK(p.first == 9);
  CHECK(p.attention_block == 1);
  CHECK(p.tokens == Ids{10, kMask, kMask, kMask});  // nobody asks for the row of position 13
  CHECK(p.rows == Rows{0, 1, 2, 3});
  // Position 10 was a mask in this pass: only what was final as input is final in the cache.
  CHECK(Take(&d, p, {0.9f, 0.9f, 0.1f, 0.9f}) == 10);
  p = Plan(d, known, 10);
  CHECK(p.first == 10);
  CHECK(p.tokens == Ids{100, 110, kMask});
  CHECK(p.rows == Rows{1});
  CHECK(Take(&d, p, {0.1f}) == 12);
  p = Plan(d, known, 12);  // what is not final yet goes along with the next sub-block
  CHECK(p.tokens == Ids{120, 130, kMask, kMask, kMask});
  CHECK(p.rows == Rows{1, 2, 3, 4});
  // The first mask stays: the row before it is asked again, though its K and V are final.
  CHECK(Take(&d, p, {0.1f, 0.9f, 0.1f, 0.1f}) == 14);
  p = Plan(d, known, 14);
  CHECK(p.first == 13);
  CHECK(p.tokens == Ids{130, kMask, 150, kMask});
  CHECK(p.rows == Rows{0, 2, 3});
}

TEST_CASE("causal: the last block ends with the context, and one token is a block, too") {
  BlockDecoder d(Settings(DiffusionStyle::kCausal), 10, 13);
  const Ids known = Prompt(10);
  d.Begin(known);
  CHECK(d.end() == 13);
  const Pass p = Plan(d, known, 9);
  CHECK(p.rows == Rows{0, 1, 2});
  Take(&d, p, {1, 1, 1});
  CHECK(d.full());

  wf::DecodeSettings one = Settings(DiffusionStyle::kCausal);
  one.block = one.sub_block = 1;
  BlockDecoder ar(one, 10, 64);
  ar.Begin(known);
  const Pass step = Plan(ar, known, 9);
  CHECK(step.tokens == Ids{10});
  CHECK(step.rows == Rows{0});
}

TEST_CASE("verify: drafts of the pass before go first, masks after them draft for the next") {
  wf::DecodeSettings s = Settings(DiffusionStyle::kCausal, DecodeMode::kVerify);
  wf::DraftHistory history;
  wf::DraftVerifier v(s, &history);
  Ids known = Prompt(5);
  Pass p;
  v.Plan(known, 100, {}, &p);
  CHECK(p.first == 4);
  CHECK(p.attention_block == 1);
  CHECK(p.tokens == Ids{5, kMask, kMask, kMask, kMask, kMask, kMask, kMask});
  CHECK(p.rows.size() == 8);
  CHECK(v.drafts().empty());
  known.push_back(6);
  v.Verified(0, 6, Ids{7, 8, 9});  // from the row of position 5 on, which predict 6, 7, 8
  p.Clear();
  v.Plan(known, 100, {}, &p);
  CHECK(p.tokens == Ids{6, 7, 8, 9, kMask, kMask, kMask, kMask});
  CHECK(Ids(v.drafts().begin(), v.drafts().end()) == Ids{7, 8, 9});
  v.Verified(2, 50, Ids{});
  CHECK(v.proposed() == 3);
  CHECK(v.accepted() == 2);
  known.insert(known.end(), {7, 8, 50});
  p.Clear();
  v.Plan(known, 3, {}, &p);  // three tokens may follow: two drafts and the model's own
  CHECK(p.tokens == Ids{50, kMask, kMask});
  p.Clear();
  v.Plan(known, 1, {}, &p);
  CHECK(p.tokens == Ids{50});
}

TEST_CASE(
    "verify, fast-dllm-v2: a pass over the block drafts, causal passes verify, the block's first token drafts none") {
  wf::DraftHistory history;
  wf::DraftVerifier v(Settings(DiffusionStyle::kFastDllmV2, DecodeMode::kVerify), &history);
  Ids known = Prompt(8);
  Pass p;
  v.Plan(known, 100, {}, &p);
  CHECK_FALSE(p.draft);
  CHECK(p.tokens == Ids{8});
  v.Verified(0, 9, {});
  known.push_back(9);
  p.Clear();
  v.Plan(known, 100, {}, &p);
  CHECK(p.draft);
  CHECK(p.first == 8);
  CHECK(p.attention_block == 8);
  CHECK(p.tokens == Ids{9, kMask, kMask, kMask, kMask, kMask, kMask, kMask});
  CHECK(p.rows == Rows{0, 1, 2, 3, 4, 5, 6});
  v.TakeDraft(Ids{10, 11, 12, 13, 14, 15, 16});
  p.Clear();
  v.Plan(known, 4, {}, &p);
  CHECK_FALSE(p.draft);
  CHECK(p.first == 8);
  CHECK(p.tokens == Ids{9, 10, 11, 12});  // of four tokens that may follow the last is the model's own
  v.Verified(3, 13, {});                  // and it is the one that was drafted: the rest still fits
  known.insert(known.end(), {10, 11, 12, 13});
  p.Clear();
  v.Plan(known, 100, {}, &p);
  CHECK(p.tokens == Ids{13, 14, 15, 16});
  v.Verified(1, 77, {});
  known.insert(known.end(), {14, 77});
  p.Clear();
  v.Plan(known, 100, {}, &p);
  CHECK(p.draft);  // what was drafted after a wrong token is of no use
}

TEST_CASE("the number of drafts that gives most tokens a second follows from the costs") {
  wf::PassCosts flat, steep;
  for (const size_t n : {1, 2, 4, 8, 16, 32}) {
    flat.Add(n, 10);
    steep.Add(n, 10.0 * static_cast<double>(n));
  }
  using V = wf::DraftVerifier;
  CHECK(V::BestWidth(0.5, 31, 0, flat) == 31);   // rows cost nothing
  CHECK(V::BestWidth(0.99, 31, 0, steep) == 0);  // two rows cost twice as much, and give less than twice
  CHECK(V::BestWidth(0.9, 31, 32, flat) == 31);  // 1 + .9 + .. for two passes
  CHECK(V::BestWidth(0.4, 31, 32, flat) == 0);   // at most 1.67 tokens for two passes
  CHECK(V::BestWidth(0.4, 7, 0, {}) == 7);       // nothing is known of the costs
  wf::PassCosts knee;                            // cheap up to 8 rows
  knee.Add(1, 10);
  knee.Add(8, 12);
  knee.Add(16, 40);
  CHECK(V::BestWidth(0.9, 15, 0, knee) == 7);
  CHECK(knee.Ms(1) == 10);
  CHECK(knee.Ms(12) == Approx(26));
  CHECK(knee.Ms(24) == Approx(68));
}

TEST_CASE("what drafts were worth is known to the next request; where they do not pay they are tried now and then") {
  wf::DecodeSettings s = Settings(DiffusionStyle::kCausal, DecodeMode::kVerify);
  wf::PassCosts costs;  // a second row costs half a first
  costs.Add(1, 10);
  costs.Add(2, 15);
  costs.Add(8, 45);
  wf::DraftHistory history;
  const Ids known = Prompt(5);
  const auto plan = [&](wf::DraftVerifier* v) {
    Pass p;
    v->Plan(known, 100, costs, &p);
    return p.tokens.size();
  };
  wf::DraftVerifier first(s, &history);
  CHECK(plan(&first) > 1);
  for (int i = 0; i < 20; ++i) {
    first.Verified(0, 6, Ids{7, 8, 9});
    plan(&first);
  }
  CHECK(history.Chance() < 0.5);  // below what pays
  wf::DraftVerifier second(s, &history);
  size_t rows = 0, checked = 0;
  constexpr size_t kPasses = 400;
  for (size_t i = 0; i < kPasses; ++i) {
    rows += plan(&second);
    checked += second.drafts().size();
    second.Verified(0, 6, Ids{7, 8, 9, 10});
  }
  CHECK(rows > kPasses);                // a try
  CHECK(checked >= 4);                  // of which something is learnt
  CHECK(rows - kPasses < kPasses / 8);  // of a price in proportion
}

TEST_CASE("a measured cost above that of more rows was disturbed") {
  wf::PassCosts c;
  c.Add(1, 50);
  c.Add(2, 11);
  c.Add(4, 12);
  CHECK(c.Ms(1) == 11);
  CHECK(c.Ms(3) == Approx(11.5));
}
