// SPDX-License-Identifier: Apache-2.0
// The prefix cache against a plain model of it, in thousands of random operations.
#include <algorithm>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tests/catch.h"
#include "wf/cache/prefix_cache.h"

using wf::KvPool;
using wf::PrefixCache;
using wf::PrefixKey;
using Blocks = std::vector<int32_t>;
using Tokens = std::vector<int32_t>;

namespace {

// Every stored prefix by itself, with its last unit's blocks and its last use.
struct Naive {
  struct Entry {
    Blocks blocks;
    uint64_t used = 0;
  };
  std::map<PrefixKey, std::map<Tokens, Entry>> entries;
  std::vector<uint32_t> refs;
  uint64_t now = 0;

  static size_t UnitOf(const PrefixKey& key) {
    size_t unit = 32;
    while (unit % key.attention_block != 0) unit += 32;
    return unit;
  }
  static Tokens First(const Tokens& t, size_t n) { return {t.begin(), t.begin() + static_cast<ptrdiff_t>(n)}; }

  Blocks Match(const PrefixKey& key, const Tokens& t, size_t most) {
    Blocks found;
    ++now;
    for (size_t n = UnitOf(key); n <= std::min(most, t.size()); n += UnitOf(key)) {
      const auto it = entries[key].find(First(t, n));
      if (it == entries[key].end()) break;
      it->second.used = now;
      for (const int32_t b : it->second.blocks) {
        found.push_back(b);
        ++refs[static_cast<size_t>(b)];
      }
    }
    return found;
  }
  void Insert(const PrefixKey& key, const Tokens& t, const Blocks& blocks) {
    const size_t unit = UnitOf(key);
    ++now;
    for (size_t n = unit; n <= t.size(); n += unit) {
      const auto [it, fresh] = entries[key].try_emplace(First(t, n));
      it->second.used = now;
      for (size_t i = (n - unit) / 32; fresh && i < n / 32; ++i) {
        it->second.blocks.push_back(blocks[i]);
        ++refs[static_cast<size_t>(blocks[i])];
      }
    }
  }
  size_t EvictOne() {
    std::map<Tokens, Entry>* from = nullptr;
    std::map<Tokens, Entry>::iterator oldest;
    for (auto& [key, prefixes] : entries) {
      for (auto it = prefixes.begin(); it != prefixes.end(); ++it) {
        // In the order of std::map the prefixes that continue this one come right after it.
        const auto next = std::next(it);
        const bool leaf = next == prefixes.end() || next->first.size() < it->first.size() ||
                          !std::equal(it->first.begin(), it->first.end(), next->first.begin());
        const bool in_use = std::any_of(it->second.blocks.begin(), it->second.blocks.end(),
                                        [&](int32_t b) { return refs[static_cast<size_t>(b)] > 1; });
        if (!leaf || in_use || (from != nullptr && oldest->second.used < it->second.used)) continue;
        from = &prefixes;
        oldest = it;
      }
    }
    if (from == nullptr) return 0;
    const Blocks gone = oldest->second.blocks;
    for (const int32_t b : gone) --refs[static_cast<size_t>(b)];
    from->erase(oldest);
    return gone.size();
  }
  size_t Evict(size_t wanted) {
    size_t freed = 0;
    for (size_t n = 1; freed < wanted && n > 0; freed += n) n = EvictOne();
    return freed;
  }
};

}  // namespace

TEST_CASE("thousands of random requests see what the plain model says") {
  constexpr size_t kBlocks = 60;
  const PrefixKey keys[] = {{}, {.salt = "t"}, {8, ""}, {64, ""}, {24, "t"}};
  auto created = KvPool::Create({.layers = 1, .kv_heads = 1, .head_dim = 1, .type = wf::KvType::kF32}, kBlocks);
  REQUIRE(created.ok());
  KvPool& pool = *created;
  PrefixCache cache(&pool);
  Naive naive;
  naive.refs.assign(kBlocks, 0);
  std::mt19937 random(1);
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  std::vector<Blocks> running;
  const auto release = [&](const Blocks& blocks) {
    for (const int32_t b : blocks) {
      pool.Release(b);
      --naive.refs[static_cast<size_t>(b)];
    }
  };
  size_t hits = 0, evictions = 0, dry = 0, clears = 0;

  for (int step = 0; step < 6000; ++step) {
    CAPTURE(step);
    const size_t action = below(10);
    if (action < 4) {  // a request: finds its beginning, computes the rest, is remembered
      const PrefixKey& key = keys[below(std::size(keys))];
      Tokens t(below(7) * 32 + below(3));
      for (size_t i = 0; i < t.size(); i += 32) {  // the blocks have the same tokens but for one
        const size_t end = std::min(i + 32, t.size());
        const size_t odd = below(4);
        if (odd == 1) t[i] = 1;
        if (odd == 2) t[end - 1] = -1;
      }
      const size_t most = below(3) == 0 ? below(t.size() + 1) : t.size();
      Blocks own;
      const size_t found = cache.Match(key, t, most, &own);
      const Blocks expected = naive.Match(key, t, most);
      if (found != expected.size() * 32 || own != expected) FAIL("the lengths or blocks found differ");
      hits += found > 0 ? 1 : 0;
      bool room = true;
      while (room && own.size() * 32 < t.size()) {
        int32_t b = pool.Acquire();
        if (b < 0) {
          const size_t wanted = 1 + below(3), freed = cache.Evict(wanted);
          if (freed != naive.Evict(wanted)) FAIL("the numbers of blocks freed differ");
          evictions += freed > 0 ? 1 : 0;
          b = pool.Acquire();
        }
        room = b >= 0;
        if (!room) continue;
        own.push_back(b);
        naive.refs[static_cast<size_t>(b)] = 1;
      }
      if (room) {
        cache.Insert(key, t, own);
        naive.Insert(key, t, own);
      }
      dry += room ? 0 : 1;
      running.push_back(std::move(own));
    } else if (action < 9 && !running.empty()) {  // one ends
      const size_t i = below(running.size());
      release(running[i]);
      running.erase(running.begin() + static_cast<ptrdiff_t>(i));
    } else if (action == 9) {
      const size_t wanted = below(4);
      if (cache.Evict(wanted) != naive.Evict(wanted)) FAIL("the numbers of blocks freed differ");
    }
    if (below(1000) == 0) {
      ++clears;
      cache.Clear();
      for (auto& [key, prefixes] : naive.entries) {
        for (auto& [t, entry] : prefixes) {
          for (const int32_t b : entry.blocks) --naive.refs[static_cast<size_t>(b)];
        }
      }
      naive.entries.clear();
    }
    for (size_t b = 0; b < kBlocks; ++b) {
      if (pool.refs(static_cast<int32_t>(b)) != naive.refs[b]) FAIL("the references of block " << b << " differ");
    }
  }
  // It was a test of something.
  CHECK(hits > 500);
  CHECK(evictions > 500);
  CHECK(dry > 20);
  CHECK(clears > 0);
  CHECK(cache.stats().hits == hits);

  for (const Blocks& b : running) release(b);
  cache.Clear();
  CHECK(pool.used() == 0);
}
