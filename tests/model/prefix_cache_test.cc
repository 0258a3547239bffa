// SPDX-License-Identifier: Apache-2.0
// The prefix cache: what a prompt finds of earlier ones, who holds which block, and what is given up first.
#include "wf/cache/prefix_cache.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <numeric>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tests/catch.h"

using wf::KvPool;
using wf::PrefixCache;
using wf::PrefixKey;
using Blocks = std::vector<int32_t>;
using Tokens = std::vector<int32_t>;

namespace {

constexpr size_t kAll = std::numeric_limits<size_t>::max();

KvPool MakePool(size_t blocks) {
  auto pool = KvPool::Create({.layers = 1, .kv_heads = 1, .head_dim = 1, .type = wf::KvType::kF32}, blocks);
  REQUIRE(pool.ok());
  return *std::move(pool);
}

Tokens Prompt(int32_t first, size_t n) {
  Tokens t(n);
  std::iota(t.begin(), t.end(), first);
  return t;
}

Tokens Join(Tokens a, const Tokens& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

Blocks Acquire(KvPool* pool, size_t n) {
  Blocks b(n);
  for (int32_t& i : b) {
    i = pool->Acquire();
    if (i < 0) FAIL("the pool is too small for this test");
  }
  return b;
}

void Release(KvPool* pool, const Blocks& blocks) {
  for (const int32_t b : blocks) pool->Release(b);
}

// As a request that computed all of its tokens and ended: the cache alone refers to the blocks.
Blocks Store(PrefixCache* cache, KvPool* pool, const PrefixKey& key, const Tokens& tokens) {
  const Blocks b = Acquire(pool, (tokens.size() + wf::kKvBlock - 1) / wf::kKvBlock);
  cache->Insert(key, tokens, b);
  Release(pool, b);
  return b;
}

// The length that a prompt finds; takes no reference. It counts as a use.
size_t Found(PrefixCache* cache, KvPool* pool, const PrefixKey& key, const Tokens& tokens, size_t most = kAll) {
  Blocks b;
  const size_t n = cache->Match(key, tokens, most, &b);
  CHECK(b.size() * wf::kKvBlock == n);
  Release(pool, b);
  return n;
}

// Whether these are the reference counts of these blocks.
bool Refs(const KvPool& pool, const Blocks& blocks, uint32_t refs) {
  return std::all_of(blocks.begin(), blocks.end(), [&](int32_t b) { return pool.refs(b) == refs; });
}

}  // namespace

TEST_CASE("whole blocks are found again") {
  for (const auto& [stored, found] :
       std::map<size_t, size_t>{{0, 0}, {31, 0}, {32, 32}, {33, 32}, {63, 32}, {64, 64}}) {
    CAPTURE(stored);
    KvPool pool = MakePool(4);
    PrefixCache cache(&pool);
    Store(&cache, &pool, {}, Prompt(0, stored));
    CHECK(pool.used() == found / 32);
    CHECK(cache.stats().blocks == found / 32);
    CHECK(Found(&cache, &pool, {}, Prompt(0, 1000)) == found);  // a longer prompt
    CHECK(Found(&cache, &pool, {}, Prompt(0, stored)) == found);
  }
}

TEST_CASE("a prompt finds what it has tokens for, and no more than is asked for") {
  KvPool pool = MakePool(4);
  PrefixCache cache(&pool);
  const Blocks stored = Store(&cache, &pool, {}, Prompt(0, 96));
  for (const auto& [length, found] :
       std::map<size_t, size_t>{{0, 0}, {31, 0}, {32, 32}, {33, 32}, {64, 64}, {95, 64}}) {
    CAPTURE(length);
    CHECK(Found(&cache, &pool, {}, Prompt(0, length)) == found);
    CHECK(Found(&cache, &pool, {}, Prompt(0, 96), length) == found);
  }
  CHECK(Found(&cache, &pool, {}, Prompt(0, 96), 96) == 96);

  Blocks got = {-7};  // appended, in order
  CHECK(cache.Match({}, Prompt(0, 96), 70, &got) == 64);
  CHECK(got == Blocks{-7, stored[0], stored[1]});
  pool.Release(stored[0]);
  pool.Release(stored[1]);
}

TEST_CASE("blocks without tokens and tokens without blocks are not remembered") {
  KvPool pool = MakePool(3);
  PrefixCache cache(&pool);
  const Blocks b = Acquire(&pool, 3);
  cache.Insert({}, Prompt(0, 96), std::span(b).first(1));
  CHECK(cache.stats().blocks == 1);
  cache.Insert({}, Prompt(0, 70), b);
  CHECK(cache.stats().blocks == 2);
  CHECK(Found(&cache, &pool, {}, Prompt(0, 96)) == 64);
  cache.Insert({}, {}, b);
  cache.Insert({}, Prompt(500, 96), {});
  CHECK(cache.stats().blocks == 2);
  Release(&pool, b);
}

TEST_CASE("prompts share the blocks before the one in which they differ") {
  KvPool pool = MakePool(16);
  PrefixCache cache(&pool);
  const Tokens base = Prompt(0, 128);
  Store(&cache, &pool, {}, base);
  for (size_t at = 0; at < 128; ++at) {
    CAPTURE(at);
    Tokens other = base;
    other[at] = 9999;
    CHECK(Found(&cache, &pool, {}, other) == at / 32 * 32);
  }

  // Two continuations of one beginning are both there, the beginning once.
  const Tokens left = Join(Prompt(0, 64), Prompt(1000, 64)), right = Join(Prompt(0, 64), Prompt(2000, 32));
  Store(&cache, &pool, {}, left);
  Store(&cache, &pool, {}, right);
  CHECK(cache.stats().blocks == 4 + 2 + 1);
  CHECK(pool.used() == 4 + 2 + 1);
  CHECK(Found(&cache, &pool, {}, base) == 128);
  CHECK(Found(&cache, &pool, {}, left) == 128);
  CHECK(Found(&cache, &pool, {}, right) == 96);
  // The same run of tokens elsewhere is something else.
  CHECK(Found(&cache, &pool, {}, Prompt(1000, 64)) == 0);
  CHECK(Found(&cache, &pool, {}, Prompt(32, 64)) == 0);
}

TEST_CASE("another attention rule or another salt finds nothing") {
  KvPool pool = MakePool(16);
  PrefixCache cache(&pool);
  const Tokens t = Prompt(0, 64);
  const PrefixKey keys[] = {{},      {.salt = "a"}, {.salt = "b"}, {.salt = std::string("a\0", 2)},
                            {8, ""}, {8, "a"},      {16, ""}};
  const size_t n = std::size(keys);
  std::vector<Blocks> stored;
  for (size_t i = 0; i < n; ++i) {
    for (size_t k = i; k < n; ++k) CHECK(Found(&cache, &pool, keys[k], t) == 0);
    stored.push_back(Store(&cache, &pool, keys[i], t));
  }
  for (size_t i = 0; i < n; ++i) {
    Blocks b;
    CHECK(cache.Match(keys[i], t, kAll, &b) == 64);
    CHECK(b == stored[i]);
    Release(&pool, b);
  }
}

TEST_CASE("a unit is whole KV blocks and whole blocks of the attention rule") {
  const std::map<uint32_t, size_t> units = {{1, 32},       {2, 32},    {8, 32},  {32, 32}, {64, 64},
                                            {128, 128},    {24, 96},   {48, 96}, {3, 96},  {96, 96},
                                            {33, 33 * 32}, {256, 256}, {0, 0},   {12, 96}};
  for (const auto& [attention_block, unit] : units) {
    CAPTURE(attention_block);
    CHECK(PrefixCache::Unit({attention_block, "salt"}) == unit);
  }

  for (const uint32_t attention_block : {8U, 64U, 24U}) {
    CAPTURE(attention_block);
    KvPool pool = MakePool(16);
    PrefixCache cache(&pool);
    const PrefixKey key{attention_block, ""};
    const size_t unit = PrefixCache::Unit(key);
    Store(&cache, &pool, key, Prompt(0, unit - 1));
    CHECK(cache.stats().blocks == 0);
    Store(&cache, &pool, key, Prompt(0, 3 * unit - 1));
    CHECK(cache.stats().blocks == 2 * unit / 32);
    for (const size_t length : {unit - 1, unit, unit + 31, 2 * unit - 1, 2 * unit, 3 * unit}) {
      CAPTURE(length);
      CHECK(Found(&cache, &pool, key, Prompt(0, length)) == std::min(length / unit, size_t{2}) * unit);
      CHECK(Found(&cache, &pool, key, Prompt(0, 3 * unit), length) == std::min(length / unit, size_t{2}) * unit);
    }
    Tokens other = Prompt(0, 2 * unit);
    ++other.back();  // the last token of a unit
    CHECK(Found(&cache, &pool, key, other) == unit);
    CHECK(cache.Evict() == unit / 32);  // a unit comes and goes as a whole
    CHECK(Found(&cache, &pool, key, Prompt(0, 2 * unit)) == unit);
  }
}

TEST_CASE("a block size of 0 is no rule: nothing is stored or found") {
  KvPool pool = MakePool(2);
  PrefixCache cache(&pool);
  Store(&cache, &pool, {0, ""}, Prompt(0, 64));
  CHECK(pool.used() == 0);
  CHECK(Found(&cache, &pool, {0, ""}, Prompt(0, 64)) == 0);
}

TEST_CASE("every user of a block holds one reference") {
  KvPool pool = MakePool(8);
  PrefixCache cache(&pool);
  const Tokens t = Prompt(0, 96);
  const Blocks own = Acquire(&pool, 3);
  cache.Insert({}, t, own);
  CHECK(Refs(pool, own, 2));
  cache.Insert({}, t, own);  // known already
  CHECK(Refs(pool, own, 2));

  Blocks a, b;
  CHECK(cache.Match({}, t, kAll, &a) == 96);
  CHECK(cache.Match({}, t, 40, &b) == 32);
  CHECK(a == own);
  CHECK(pool.refs(own[0]) == 4);
  CHECK(pool.refs(own[1]) == 3);
  CHECK(pool.refs(own[2]) == 3);
  CHECK(pool.used() == 3);

  Release(&pool, own);
  Release(&pool, b);
  CHECK(Refs(pool, own, 2));
  CHECK(cache.Evict(3) == 0);  // a still uses them
  Release(&pool, a);
  CHECK(Refs(pool, own, 1));
  CHECK(cache.Evict(3) == 3);
  CHECK(Refs(pool, own, 0));
  CHECK(pool.used() == 0);
}

TEST_CASE("of two who computed the same prefix the first one's blocks are kept") {
  KvPool pool = MakePool(8);
  PrefixCache cache(&pool);
  const Blocks first = Acquire(&pool, 2), second = Acquire(&pool, 3);
  cache.Insert({}, Prompt(0, 64), first);
  cache.Insert({}, Prompt(0, 96), second);
  CHECK(Refs(pool, first, 2));
  CHECK(pool.refs(second[0]) == 1);
  CHECK(pool.refs(second[1]) == 1);
  CHECK(pool.refs(second[2]) == 2);  // what is new
  Blocks got;
  CHECK(cache.Match({}, Prompt(0, 96), kAll, &got) == 96);
  CHECK(got == Blocks{first[0], first[1], second[2]});
  for (const Blocks& b : {first, second, got}) Release(&pool, b);
  CHECK(pool.used() == 3);
}

TEST_CASE("nothing is left when the cache is cleared or ends, and what others use stays theirs") {
  KvPool pool = MakePool(32);
  {
    PrefixCache cache(&pool);
    for (int32_t i = 0; i < 4; ++i) Store(&cache, &pool, {}, Join(Prompt(0, 64), Prompt(i * 100, 64)));
    Store(&cache, &pool, {64, "tenant"}, Prompt(0, 128));
    CHECK(pool.used() == 14);
    Blocks used;
    CHECK(cache.Match({}, Prompt(0, 64), kAll, &used) == 64);
    cache.Clear();
    CHECK(cache.stats().blocks == 0);
    CHECK(pool.used() == 2);
    CHECK(Refs(pool, used, 1));
    CHECK(Found(&cache, &pool, {}, Prompt(0, 64)) == 0);
    CHECK(Found(&cache, &pool, {64, "tenant"}, Prompt(0, 64)) == 0);
    CHECK(cache.Evict() == 0);
    Release(&pool, used);
    CHECK(pool.used() == 0);
    Store(&cache, &pool, {}, Prompt(0, 64));  // it works on
    CHECK(Found(&cache, &pool, {}, Prompt(0, 64)) == 64);
  }
  CHECK(pool.used() == 0);
}

TEST_CASE("what was used last is given up last") {
  KvPool pool = MakePool(8);
  PrefixCache cache(&pool);
  const Tokens a = Prompt(100, 32), b = Prompt(200, 32), c = Prompt(300, 32);
  const PrefixKey other{.salt = "other tenant"};  // the order is one for all
  const Blocks in_a = Store(&cache, &pool, {}, a), in_b = Store(&cache, &pool, other, b);
  const Blocks in_c = Store(&cache, &pool, {}, c);
  std::set<int32_t> stored = {in_a[0], in_b[0], in_c[0]};
  const auto next = [&]() -> std::optional<int32_t> {  // the block that goes
    if (cache.Evict() == 0) return std::nullopt;
    const auto gone = std::find_if(stored.begin(), stored.end(), [&](int32_t x) { return pool.refs(x) == 0; });
    REQUIRE(gone != stored.end());
    return stored.extract(gone).value();
  };
  SECTION("by when they were stored") {
    CHECK(next() == in_a[0]);
    CHECK(next() == in_b[0]);
    CHECK(next() == in_c[0]);
  }
  SECTION("a hit is a use") {
    CHECK(Found(&cache, &pool, {}, a) == 32);
    CHECK(next() == in_b[0]);
    CHECK(next() == in_c[0]);
    CHECK(next() == in_a[0]);
  }
  SECTION("storing it again is a use") {
    const Blocks copy = Acquire(&pool, 1);
    cache.Insert(other, b, copy);
    cache.Insert({}, a, copy);
    Release(&pool, copy);
    CHECK(next() == in_c[0]);
    CHECK(next() == in_b[0]);
    CHECK(next() == in_a[0]);
  }
  SECTION("a lookup that finds nothing is none") {
    CHECK(Found(&cache, &pool, other, a) == 0);
    CHECK(Found(&cache, &pool, {}, a, 31) == 0);
    CHECK(next() == in_a[0]);
    CHECK(next() == in_b[0]);
    CHECK(next() == in_c[0]);
  }
  CHECK(next() == std::nullopt);
  CHECK(pool.used() == 0);
}

TEST_CASE("the end of a prefix goes before its beginning") {
  KvPool pool = MakePool(16);
  PrefixCache cache(&pool);
  const Tokens left = Prompt(0, 96), right = Join(Prompt(0, 32), Prompt(1000, 64));
  Store(&cache, &pool, {}, left);
  Store(&cache, &pool, {}, right);
  // Used last is the beginning of the left one, and with it what both have in common.
  CHECK(Found(&cache, &pool, {}, left, 64) == 64);
  for (const auto& [l, r] : std::vector<std::pair<size_t, size_t>>{{64, 96}, {64, 64}, {64, 32}, {32, 32}, {0, 0}}) {
    CAPTURE(l, r);
    REQUIRE(cache.Evict() == 1);
    // Asking for the right one first and then for what is left of the left one keeps the order of the two.
    CHECK(Found(&cache, &pool, {}, right) == r);
    CHECK(Found(&cache, &pool, {}, left) == l);
  }
  CHECK(cache.Evict() == 0);
}

TEST_CASE("blocks in use are passed over and can go once they are released") {
  KvPool pool = MakePool(8);
  PrefixCache cache(&pool);
  const Tokens old = Prompt(0, 64), recent = Prompt(1000, 64);
  const Blocks in_old = Store(&cache, &pool, {}, old), in_recent = Store(&cache, &pool, {}, recent);

  SECTION("by a request that found them") {
    Blocks used;
    CHECK(cache.Match({}, old, kAll, &used) == 64);
    CHECK(Found(&cache, &pool, {}, recent) == 64);
    CHECK(cache.Evict(4) == 2);
    CHECK(Refs(pool, in_recent, 0));
    CHECK(Refs(pool, in_old, 2));
    CHECK(cache.Evict() == 0);
    Release(&pool, used);
  }
  SECTION("by a request that uses only their beginning") {
    Blocks used;
    CHECK(cache.Match({}, old, 32, &used) == 32);
    CHECK(Found(&cache, &pool, {}, recent) == 64);
    CHECK(cache.Evict() == 1);  // the end of the old one
    CHECK(pool.refs(in_old[1]) == 0);
    CHECK(cache.Evict(4) == 2);
    CHECK(Refs(pool, in_recent, 0));
    Release(&pool, used);
  }
  SECTION("the beginning stays for as long as the end does") {
    pool.AddRef(in_old[1]);  // a request that computed the beginning itself, and whose end was stored
    CHECK(cache.Evict(4) == 2);
    CHECK(Refs(pool, in_recent, 0));
    CHECK(Found(&cache, &pool, {}, old) == 64);
    pool.Release(in_old[1]);
  }
  SECTION("of a unit of several blocks, any one") {
    const PrefixKey key{64, ""};
    const Blocks unit = Store(&cache, &pool, key, Prompt(0, 64));
    for (const int32_t b : unit) {
      pool.AddRef(b);
      cache.Evict(100);
      CHECK(Found(&cache, &pool, key, Prompt(0, 64)) == 64);
      pool.Release(b);
    }
  }
  while (cache.Evict() > 0) continue;
  CHECK(pool.used() == 0);
}

TEST_CASE("as many blocks are freed as are wanted, a unit at a time") {
  KvPool pool = MakePool(16);
  PrefixCache cache(&pool);
  Store(&cache, &pool, {}, Prompt(0, 5 * 32));
  CHECK(cache.Evict(0) == 0);
  CHECK(cache.Evict(2) == 2);
  CHECK(Found(&cache, &pool, {}, Prompt(0, 5 * 32)) == 3 * 32);
  CHECK(cache.Evict(100) == 3);
  Store(&cache, &pool, {96, ""}, Prompt(0, 3 * 96));
  CHECK(cache.Evict(4) == 6);
  CHECK(cache.Evict() == 3);
  CHECK(pool.used() == 0);
}

TEST_CASE("a salt for each request leaves nothing behind") {
  KvPool pool = MakePool(4);
  PrefixCache cache(&pool);
  for (int i = 0; i < 100; ++i) {
    if (pool.used() == 4) CHECK(cache.Evict(2) == 2);
    Store(&cache, &pool, {.salt = std::to_string(i)}, Prompt(0, 64));
    CHECK(cache.keys() == (i == 0 ? 1 : 2));
    CHECK(Found(&cache, &pool, {.salt = "nobody"}, Prompt(0, 64)) == 0);
  }
  CHECK(cache.Evict(4) == 4);
  CHECK(cache.keys() == 0);
  Store(&cache, &pool, {.salt = "short"}, Prompt(0, 31));
  CHECK(cache.keys() == 0);
}

TEST_CASE("the counters count") {
  KvPool pool = MakePool(16);
  PrefixCache cache(&pool);
  Store(&cache, &pool, {}, Prompt(0, 128));
  CHECK(Found(&cache, &pool, {}, Prompt(0, 100)) == 96);
  CHECK(Found(&cache, &pool, {}, Prompt(0, 100), 50) == 32);
  CHECK(Found(&cache, &pool, {}, Prompt(7, 10)) == 0);
  CHECK(Found(&cache, &pool, {.salt = "x"}, Prompt(0, 100)) == 0);
  CHECK(cache.Evict(3) == 3);
  const wf::PrefixCacheStats& s = cache.stats();
  CHECK(s.blocks == 1);
  CHECK(s.lookups == 4);
  CHECK(s.query_tokens == 100 + 50 + 10 + 100);
  CHECK(s.hits == 2);
  CHECK(s.hit_tokens == 96 + 32);
  CHECK(s.evicted_blocks == 3);
  cache.Clear();
  CHECK(cache.stats().blocks == 0);
  CHECK(cache.stats().evicted_blocks == 3);
}

// Anything recursive would overflow the stack here, and anything that walks the tree for each block would not end.
TEST_CASE("a prompt of millions of tokens is stored, found, given up") {
  constexpr size_t kBlocks = 200'000;
  KvPool pool = MakePool(kBlocks);
  const Tokens t = Prompt(0, kBlocks * 32);
  PrefixCache cache(&pool);
  Store(&cache, &pool, {}, t);
  CHECK(cache.stats().blocks == kBlocks);
  CHECK(Found(&cache, &pool, {}, t, t.size() - 1) == t.size() - 32);
  for (size_t i = 0; i < kBlocks / 2; ++i) {
    if (cache.Evict() != 1) FAIL("block " << i << " was not freed");
  }
  CHECK(Found(&cache, &pool, {}, t) == t.size() / 2);
  CHECK(pool.used() == kBlocks / 2);
  cache.Clear();
  CHECK(pool.used() == 0);
}
