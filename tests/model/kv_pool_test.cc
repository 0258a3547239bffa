// SPDX-License-Identifier: Apache-2.0
// The pool of KV blocks: sizes, references, exhaustion.
#include "wf/cache/kv_pool.h"

#include <cstring>
#include <set>
#include <utility>
#include <vector>

#include "tests/catch.h"

using wf::KvPool;
using wf::KvShape;

namespace {
constexpr KvShape kShape{.layers = 2, .kv_heads = 3, .head_dim = 20, .type = wf::KvType::kF16};
}

TEST_CASE("the shares of layers and heads tile a block") {
  // K: 20 x 32, V: 32 x 20 rounded up to 16s, of 2 bytes each.
  CHECK(kShape.HeadBytes() == (20 * 32 + 32 * 32) * 2);
  CHECK(kShape.BlockBytes() == 6 * kShape.HeadBytes());
  size_t at = 0;
  for (size_t layer = 0; layer < 2; ++layer) {
    for (size_t head = 0; head < 3; ++head, at += kShape.HeadBytes()) CHECK(kShape.Offset(layer, head) == at);
  }
  KvShape f32 = kShape;
  f32.type = wf::KvType::kF32;
  CHECK(f32.BlockBytes() == 2 * kShape.BlockBytes());
  KvShape i8 = kShape;  // and a scale for K and one for V of each token
  i8.type = wf::KvType::kI8;
  CHECK(i8.HeadBytes() == 20 * 32 + 32 * 32 + 2 * 32 * sizeof(float));
}

TEST_CASE("types of the cache have names") {
  CHECK(wf::KvTypeFromName("f32") == wf::KvType::kF32);
  CHECK(wf::KvTypeFromName("f16") == wf::KvType::kF16);
  CHECK(wf::KvTypeFromName("i8") == wf::KvType::kI8);
  CHECK(std::string(wf::Name(wf::KvType::kI8)) == "i8");
  for (const char* no : {"", "F16", "i8 ", "q8_0", "f8"}) CHECK_FALSE(wf::KvTypeFromName(no).has_value());
}

TEST_CASE("blocks are distinct memory until there are none, and come back by their last reference") {
  auto pool = KvPool::Create(kShape, 5);
  REQUIRE(pool.ok());
  CHECK(pool->total() == 5);
  CHECK(pool->used() == 0);
  std::set<int32_t> ids;
  for (size_t i = 0; i < 5; ++i) {
    const int32_t b = pool->Acquire();
    REQUIRE(b >= 0);
    REQUIRE(b < 5);
    ids.insert(b);
    std::memset(pool->Data(b), b + 1, kShape.BlockBytes());
    CHECK(pool->used() == i + 1);
  }
  CHECK(ids.size() == 5);
  CHECK(pool->Acquire() == -1);
  CHECK(pool->used() == 5);
  for (const int32_t b : ids) {  // nobody wrote into another's block
    const std::vector<uint8_t> want(kShape.BlockBytes(), static_cast<uint8_t>(b + 1));
    CHECK(std::memcmp(pool->Data(b), want.data(), want.size()) == 0);
  }

  pool->AddRef(2);
  pool->AddRef(2);
  pool->Release(2);
  pool->Release(2);
  CHECK(pool->used() == 5);
  CHECK(pool->Acquire() == -1);
  pool->Release(2);
  CHECK(pool->used() == 4);
  CHECK(pool->Acquire() == 2);
  for (const int32_t b : ids) pool->Release(b);
  CHECK(pool->used() == 0);
}

TEST_CASE("memory that was touched is used again before fresh memory") {
  auto pool = KvPool::Create(kShape, 100);
  REQUIRE(pool.ok());
  const int32_t a = pool->Acquire(), b = pool->Acquire();
  pool->Release(a);
  pool->Release(b);
  for (int i = 0; i < 10; ++i) {
    const int32_t c = pool->Acquire();
    CHECK((c == a || c == b));
    pool->Release(c);
  }
}

TEST_CASE("a pool can be moved") {
  auto pool = KvPool::Create(kShape, 3);
  REQUIRE(pool.ok());
  const int32_t b = pool->Acquire();
  pool->Data(b)[0] = 42;
  KvPool moved = *std::move(pool);
  CHECK(moved.total() == 3);
  CHECK(moved.used() == 1);
  CHECK(moved.Data(b)[0] == 42);
  moved.Release(b);
  CHECK(moved.used() == 0);
}

TEST_CASE("a size that overflows, or that the address space lacks, is an error") {
  KvShape huge{.layers = 4096, .kv_heads = 65536, .head_dim = 4096, .type = wf::KvType::kF32};
  const auto overflow = KvPool::Create(huge, 0x7fffffff);
  REQUIRE_FALSE(overflow.ok());
  CHECK(overflow.status().code() == wf::ErrorCode::kLimit);
  const auto many = KvPool::Create(kShape, size_t{1} << 31);
  REQUIRE_FALSE(many.ok());
  CHECK(many.status().code() == wf::ErrorCode::kLimit);
  const auto memory = KvPool::Create(huge, 64);  // 18 PB
  REQUIRE_FALSE(memory.ok());
  CHECK(memory.status().code() == wf::ErrorCode::kOutOfMemory);
}
