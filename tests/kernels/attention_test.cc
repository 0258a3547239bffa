// SPDX-License-Identifier: Apache-2.0
// The KV cache's storage and attention over it: every ISA against the scalar definition, bit for bit; the scalar
// definition against double arithmetic, within a band that has a reason.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "tests/catch.h"
#include "tests/kernels/guarded.h"
#include "tests/kernels/isas.h"
#include "wf/base/half.h"
#include "wf/kernels/table.h"

using wf::KvType;

namespace {

std::vector<wf::isa::Id> Isas() { return IsasFrom(1); }
const wf::KernelTable& Ref() { return wf::Kernels(wf::isa::Id::kScalar); }

// K and V of `tokens` tokens in blocks of memory of their own, as the cache has them. Slots that were never written
// hold NaNs: nothing may come of them.
struct Cache {
  Cache(KvType type_in, size_t dim_in, size_t tokens_in, unsigned seed)
      : type(type_in),
        dim(dim_in),
        tokens(tokens_in),
        bytes(wf::KvHeadBytes(dim, type)),
        k(tokens * dim),
        v(tokens * dim),
        memory((tokens + 31) / 32 * bytes) {
    Rng rng(seed);
    for (auto& x : k) x = Uniform(rng, -2, 2);
    for (auto& x : v) x = Uniform(rng, -2, 2);
    // In reverse, so that consecutive positions do not lie one after another.
    for (size_t b = memory.size() / bytes; b > 0; --b) table.push_back(memory.data() + (b - 1) * bytes);
  }
  void Store(const wf::KernelTable& kernels) {
    std::memset(memory.data(), 0xff, memory.size());
    for (size_t t = 0; t < tokens; ++t) {
      kernels.kv_store[static_cast<size_t>(type)](
          {.k = &k[t * dim], .v = &v[t * dim], .head_dim = dim, .head = table[t / 32], .slot = t % 32});
    }
  }
  // What was stored, as a number; scale of the token for kI8.
  double Stored(float x, float top) const {
    if (type == KvType::kF32) return static_cast<double>(x);
    if (type == KvType::kF16) return static_cast<double>(wf::F32FromF16(wf::F16FromF32(x)));
    return std::nearbyint(static_cast<double>(x) * 127 / static_cast<double>(top)) * static_cast<double>(top) / 127;
  }

  KvType type;
  size_t dim, tokens, bytes;
  std::vector<float> k, v;
  Guarded<uint8_t> memory;
  std::vector<uint8_t*> table;
};

struct Queries {
  Queries(Cache& cache, std::vector<uint32_t> visible_in, size_t heads_in)
      : visible(std::move(visible_in)),
        rows(visible.size()),
        heads(heads_in),
        n(heads * cache.dim),
        q(rows * n),
        scratch(wf::AttentionScratch(rows, heads, cache.dim)) {
    Rng rng(static_cast<unsigned>(rows * 7 + heads));
    for (auto& x : q) x = Uniform(rng, -1, 1);
    args = {.q = q.data(),
            .q_stride = n,
            .out_stride = n,
            .rows = rows,
            .heads = heads,
            .head_dim = cache.dim,
            .visible = visible.data(),
            .scale = 0.125f,
            .blocks = cache.table.data(),
            .scratch = scratch.data()};
  }
  std::vector<uint32_t> visible;
  size_t rows, heads, n;
  Guarded<float> q, scratch;
  wf::AttentionArgs args;
};

// Rows that see `tokens` keys and fewer, like the last rows of a prompt.
std::vector<uint32_t> Causal(size_t tokens, size_t rows) {
  std::vector<uint32_t> v;
  for (size_t r = 0; r < rows; ++r) v.push_back(static_cast<uint32_t>(tokens - rows + 1 + r));
  return v;
}

// Chunk by chunk, in descending order, with `part`, then merged with `merge`.
void InParts(const wf::KernelTable& part, const wf::KernelTable& merge, KvType type, wf::AttentionArgs a, float* out) {
  const size_t size = wf::AttentionPart(a.rows, a.heads, a.head_dim),
               chunks = wf::AttentionChunks(*std::max_element(a.visible, a.visible + a.rows));
  Guarded<float> parts(chunks * size);
  for (a.chunk = chunks; a.chunk-- > 0;) {
    a.part = parts.data() + a.chunk * size;
    part.attention_part[static_cast<size_t>(type)](a);
  }
  a.part = parts.data();
  a.out = out;
  a.scratch = nullptr;
  merge.attention_merge(a);
}

void CheckAllIsas(Cache& cache, Queries& q) {
  const size_t type = static_cast<size_t>(cache.type);
  Guarded<float> want(q.q.size()), got(q.q.size());
  cache.Store(Ref());
  const std::vector<uint8_t> bytes(cache.memory.begin(), cache.memory.end());
  q.args.out = want.data();
  Ref().attention[type](q.args);
  InParts(Ref(), Ref(), cache.type, q.args, got.data());
  CHECK(SameBits(got, want));
  for (const auto id : Isas()) {
    INFO(wf::isa::Name(id) << " type " << type << " dim " << cache.dim << " heads " << q.heads << " rows " << q.rows
                           << " tokens " << cache.tokens);
    const wf::KernelTable& k = wf::Kernels(id);
    cache.Store(k);
    CHECK(std::memcmp(cache.memory.data(), bytes.data(), bytes.size()) == 0);
    std::fill(got.begin(), got.end(), 5.0f);
    q.args.out = got.data();
    k.attention[type](q.args);
    CHECK(SameBits(got, want));
    std::fill(got.begin(), got.end(), 5.0f);
    InParts(k, k, cache.type, q.args, got.data());
    CHECK(SameBits(got, want));
    // A row alone gives the same bits as in company.
    for (const size_t r : {size_t{0}, q.rows - 1}) {
      std::vector<float> alone(q.n);
      wf::AttentionArgs one = q.args;
      one.rows = 1;
      one.q = q.q.data() + r * q.n;
      one.visible = &q.visible[r];
      one.out = alone.data();
      k.attention[type](one);
      CHECK(std::memcmp(alone.data(), want.data() + r * q.n, q.n * sizeof(float)) == 0);
    }
  }
}

constexpr KvType kTypes[] = {KvType::kF32, KvType::kF16, KvType::kI8};

}  // namespace

TEST_CASE("attention: head sizes and groups", "[kernels][per_isa]") {
  const KvType type = GENERATE(from_range(std::begin(kTypes), std::end(kTypes)));
  const size_t dim = GENERATE(2u, 20u, 32u, 64u, 80u, 96u, 128u, 256u), heads = GENERATE(1u, 2u, 4u, 5u, 8u);
  Cache cache(type, dim, 70, static_cast<unsigned>(dim));
  Queries q(cache, Causal(70, 9), heads);
  CheckAllIsas(cache, q);
}

TEST_CASE("attention: lengths around a block and a chunk", "[kernels][per_isa]") {
  const KvType type = GENERATE(from_range(std::begin(kTypes), std::end(kTypes)));
  const size_t tokens = GENERATE(1u, 15u, 16u, 17u, 31u, 32u, 33u, 511u, 512u, 513u, 1024u, 1100u);
  const size_t rows = GENERATE(1u, 2u, 8u), heads = GENERATE(1u, 4u);
  if (tokens < rows) return;
  Cache cache(type, 32, tokens, static_cast<unsigned>(tokens));
  Queries q(cache, Causal(tokens, rows), heads);
  CheckAllIsas(cache, q);
}

TEST_CASE("attention: rows that see any number of keys, in any order", "[kernels][per_isa]") {
  const KvType type = GENERATE(from_range(std::begin(kTypes), std::end(kTypes)));
  Cache cache(type, 64, 1100, 5);
  Queries equal(cache, std::vector<uint32_t>(8, 600), 4);
  CheckAllIsas(cache, equal);
  Queries mixed(cache, {700, 1, 512, 33, 1100, 513, 32}, 3);
  CheckAllIsas(cache, mixed);
}

TEST_CASE("attention is what double arithmetic gives", "[kernels]") {
  const KvType type = GENERATE(from_range(std::begin(kTypes), std::end(kTypes)));
  const size_t dim = GENERATE(20u, 128u), tokens = GENERATE(33u, 1100u), heads = 2;
  Cache cache(type, dim, tokens, 3);
  cache.Store(Ref());
  Queries q(cache, Causal(tokens, 3), heads);
  std::vector<float> got(q.q.size());
  q.args.out = got.data();
  Ref().attention[static_cast<size_t>(type)](q.args);
  const auto top = [&](const std::vector<float>& x, size_t j) {
    float m = 0;
    for (size_t d = 0; d < dim; ++d) m = std::max(m, std::fabs(x[j * dim + d]));
    return m;
  };
  double quantised = 0, exact = 0;  // squares of what storing K and V as int8 changes, and of the result
  for (size_t i = 0; i < q.rows * heads; ++i) {
    const size_t n = q.visible[i / heads];
    // With K and V as stored, and as given.
    std::vector<double> out[2] = {std::vector<double>(dim), std::vector<double>(dim)};
    for (const int given : {0, 1}) {
      const auto value = [&](const std::vector<float>& x, size_t j, size_t d) {
        return given == 1 ? static_cast<double>(x[j * dim + d]) : cache.Stored(x[j * dim + d], top(x, j));
      };
      std::vector<double> p(n);
      double most = -1e300, sum = 0;
      for (size_t j = 0; j < n; ++j) {
        for (size_t d = 0; d < dim; ++d) p[j] += static_cast<double>(q.q[i * dim + d]) * 0.125 * value(cache.k, j, d);
        most = std::max(most, p[j]);
      }
      for (auto& x : p) sum += x = std::exp(x - most);
      for (size_t j = 0; j < n; ++j) {
        for (size_t d = 0; d < dim; ++d) out[given][d] += p[j] / sum * value(cache.v, j, d);
      }
    }
    for (size_t d = 0; d < dim; ++d) {
      // Scores of magnitude <= 32 carry about dim roundings of 2^-24 each; the rest is smaller.
      CHECK(static_cast<double>(got[i * dim + d]) == Approx(out[0][d]).margin(2e-5));
      quantised += (out[0][d] - out[1][d]) * (out[0][d] - out[1][d]);
      exact += out[1][d] * out[1][d];
    }
  }
  // int8 rounds by up to max|x| / 254, uniformly: an r.m.s. of 0.0023 max|x|, 0.4 % of the r.m.s. of uniform values.
  // V brings that in as it is, K through scores whose spread is about 1 and whose error is 0.4 % of it, too.
  if (type == KvType::kI8) {
    CHECK(std::sqrt(quantised / exact) < 0.01);
    CHECK(quantised > 0);
  }
}

TEST_CASE("int8 K and V: the greatest value is +-127, ties go to even, small vectors are zero", "[kernels][per_isa]") {
  constexpr size_t kDim = 20, kVs = 32;
  std::vector<wf::isa::Id> ids = Isas();
  ids.push_back(wf::isa::Id::kScalar);
  for (const auto id : ids) {
    INFO(wf::isa::Name(id));
    Guarded<uint8_t> head(wf::KvHeadBytes(kDim, KvType::kI8));
    const auto* q = reinterpret_cast<const int8_t*>(head.data());
    const auto* scales = reinterpret_cast<const float*>(head.data() + (kDim + kVs) * 32);
    std::vector<float> k(kDim), v(kDim);
    const auto store = [&](size_t slot) {
      wf::Kernels(id).kv_store[2]({.k = k.data(), .v = v.data(), .head_dim = kDim, .head = head.data(), .slot = slot});
    };
    k = {127, -0.5f, 1.5f, 2.5f, -2.5f, 126.5f, 0.49f};  // a scale of 1
    k.resize(kDim);
    v[kDim - 1] = -254;
    v[0] = 3;  // a half of the scale, 2, more than 1: 1.5
    store(7);
    const int want[] = {127, 0, 2, 2, -2, 126, 0, 0};
    for (size_t d = 0; d < 8; ++d) CHECK(int{q[d * 32 + 7]} == want[d]);
    CHECK(int{q[kDim * 32 + 7 * kVs]} == 2);
    CHECK(int{q[kDim * 32 + 7 * kVs + kDim - 1]} == -127);
    CHECK(scales[7] == 1.0f);
    CHECK(scales[32 + 7] == 2.0f);
    for (const float tiny : {0.0f, 1e-40f, 1e-31f}) {
      std::fill(k.begin(), k.end(), tiny);
      std::memset(head.data(), 0x55, head.size());
      store(3);
      CHECK(scales[3] == 0.0f);
      for (size_t d = 0; d < kDim; ++d) CHECK(int{q[d * 32 + 3]} == 0);
    }
    for (const float big : {1e-29f, 3e38f}) {
      std::fill(k.begin(), k.end(), big);
      store(3);
      for (size_t d = 0; d < kDim; ++d) CHECK(int{q[d * 32 + 3]} == 127);
    }
  }
}

TEST_CASE("what is no finite number in q, K or V makes the row NaN, and only rows that see it", "[kernels][per_isa]") {
  const KvType type = GENERATE(from_range(std::begin(kTypes), std::end(kTypes)));
  const float bad = GENERATE(std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                             -std::numeric_limits<float>::infinity());
  const int where = GENERATE(0, 1, 2);  // q, K, V
  const size_t dim = 32, at = GENERATE(10u, 600u), tokens = 700;
  Cache cache(type, dim, tokens, 1);
  Queries q(cache, {static_cast<uint32_t>(at), static_cast<uint32_t>(at + 1), 700}, 1);
  (where == 0 ? q.q[2 * dim + 1] : where == 1 ? cache.k[at * dim + 1] : cache.v[at * dim + 1]) = bad;
  std::vector<wf::isa::Id> ids = Isas();
  ids.push_back(wf::isa::Id::kScalar);
  for (const auto id : ids) {
    INFO(wf::isa::Name(id) << " type " << static_cast<int>(type) << ", " << bad << " in " << where << " at " << at);
    cache.Store(wf::Kernels(id));
    std::vector<float> out(3 * dim);
    q.args.out = out.data();
    wf::Kernels(id).attention[static_cast<size_t>(type)](q.args);
    for (size_t r = 0; r < 3; ++r) {
      const bool spoilt = where == 0 ? r == 2 : r >= 1;
      CHECK(std::isfinite(out[r * dim + 1]) != spoilt);
      if (spoilt && where != 2) {
        for (size_t d = 0; d < dim; ++d) CHECK(std::isnan(out[r * dim + d]));
      }
    }
  }
}
