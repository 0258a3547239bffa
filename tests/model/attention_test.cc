// SPDX-License-Identifier: Apache-2.0
// Logits of a long context: the same bits however its rows are cut into passes, whatever else is in the batch, and on
// any number of threads, of which several share one sequence's keys.
#include <cstring>
#include <vector>

#include "tests/catch.h"
#include "tests/model/engine_helpers.h"
#include "wf/model/transformer.h"

namespace {

constexpr size_t kTokens = 1090, kVocab = 2048;  // three chunks of keys

std::vector<int32_t> Tokens(size_t n, int32_t step) {
  std::vector<int32_t> ids;
  for (size_t i = 0; i < n; ++i) ids.push_back(static_cast<int32_t>(i) * step % 1999 + 3);
  return ids;
}

struct Context {
  Context(const wf::Transformer& t, std::vector<int32_t> tokens)
      : ids(std::move(tokens)), pool(*wf::KvPool::Create(t.kv_shape(), (ids.size() + 31) / 32)) {
    while (pool.used() < pool.total()) blocks.push_back(pool.Data(pool.Acquire()));
  }
  // Rows from where the last call ended.
  wf::SequenceRows Next(size_t count, bool logits) {
    const wf::SequenceRows rows{.tokens = ids.data() + done,
                                .count = count,
                                .first = done,
                                .blocks = blocks.data(),
                                .logits_from = logits ? count - 1 : count};
    done += count;
    return rows;
  }
  std::vector<int32_t> ids;
  wf::KvPool pool;
  std::vector<uint8_t*> blocks;
  size_t done = 0;
};

// Logits after the last three tokens, each decoded alone; those before come in passes of `chunk`.
std::vector<float> Alone(wf::Transformer& t, const std::vector<int32_t>& ids, size_t chunk) {
  Context c(t, ids);
  std::vector<float> logits(3 * kVocab);
  while (c.done + 3 < ids.size()) {
    const wf::SequenceRows rows = c.Next(std::min(chunk, ids.size() - 3 - c.done), false);
    t.Forward({&rows, 1}, nullptr);
  }
  for (size_t i = 0; i < 3; ++i) {
    const wf::SequenceRows rows = c.Next(1, true);
    t.Forward({&rows, 1}, logits.data() + i * kVocab);
  }
  return logits;
}

}  // namespace

TEST_CASE("a long context: one result for any threads, passes and company") {
  const wf::KvType type = GENERATE(wf::KvType::kF32, wf::KvType::kF16, wf::KvType::kI8);
  const auto model = wf::test::Bard();
  const std::vector<int32_t> ids = Tokens(kTokens, 7), other = Tokens(600, 11);
  std::vector<float> want, want_other;
  for (const int threads : {1, 2, 3, 4}) {
    INFO(wf::Name(type) << " on " << threads << " threads");
    auto t = *wf::Transformer::Create(model, threads, type);
    if (threads == 1) {
      want = Alone(*t, ids, kTokens);
      want_other = Alone(*t, other, 100);
    }
    for (const size_t chunk : {size_t{37}, size_t{512}, kTokens}) CHECK(Alone(*t, ids, chunk) == want);

    // Both in one batch, the second in passes of other lengths.
    Context a(*t, ids), b(*t, other);
    std::vector<float> logits(2 * kVocab);
    for (int pass = 0; pass < 2; ++pass) {
      const wf::SequenceRows rows[] = {a.Next(pass == 0 ? 700 : 387, false), b.Next(pass == 0 ? 99 : 498, false)};
      t->Forward(rows, nullptr);
    }
    for (size_t i = 0; i < 3; ++i) {
      const wf::SequenceRows rows[] = {a.Next(1, true), b.Next(1, true)};
      t->Forward(rows, logits.data());
      CHECK(std::memcmp(logits.data(), &want[i * kVocab], kVocab * sizeof(float)) == 0);
      CHECK(std::memcmp(logits.data() + kVocab, &want_other[i * kVocab], kVocab * sizeof(float)) == 0);
    }
  }
}
