// SPDX-License-Identifier: Apache-2.0
// Checked arithmetic at its edges, the bounds-checked reader, and names made fit for messages.
#include "wf/base/bytes.h"

#include "tests/catch.h"
#include "wf/base/quote.h"

namespace wf {
namespace {

constexpr uint64_t kMax = ~uint64_t{0};

TEST_CASE("checked arithmetic says no exactly when the result does not fit") {
  uint64_t r = 0;
  CHECK(CheckedMul(0, kMax, &r));
  CHECK(r == 0);
  CHECK(CheckedMul(uint64_t{1} << 32, (uint64_t{1} << 32) - 1, &r));
  CHECK(r == 0xffffffff00000000u);
  CHECK_FALSE(CheckedMul(uint64_t{1} << 32, uint64_t{1} << 32, &r));
  CHECK_FALSE(CheckedMul(kMax, 2, &r));
  CHECK(CheckedAdd(kMax, 0, &r));
  CHECK(r == kMax);
  CHECK_FALSE(CheckedAdd(kMax, 1, &r));
  CHECK_FALSE(CheckedAdd(uint64_t{1} << 63, uint64_t{1} << 63, &r));
}

TEST_CASE("aligning up: multiples stay, all else goes to the next one, overflow is seen") {
  for (const uint64_t align : {uint64_t{1}, uint64_t{8}, uint64_t{32}, uint64_t{1} << 20}) {
    for (const uint64_t v : {uint64_t{0}, uint64_t{1}, align - 1, align, align + 1, 5 * align + 1}) {
      uint64_t r = 0;
      REQUIRE(CheckedAlignUp(v, align, &r));
      CHECK(r % align == 0);
      CHECK(r >= v);
      CHECK(r - v < align);
      CHECK(AlignUp(v, align) == r);
    }
  }
  uint64_t r = 0;
  CHECK(CheckedAlignUp(kMax - 31, 32, &r));
  CHECK(r == kMax - 31);
  CHECK_FALSE(CheckedAlignUp(kMax - 30, 32, &r));
  CHECK_FALSE(CheckedAlignUp(kMax, 8, &r));
}

TEST_CASE("loads and stores are little-endian and need no alignment") {
  char b[9] = {};
  StoreLe<uint32_t>(b + 1, 0x04030201u);
  CHECK(b[1] == 1);
  CHECK(b[4] == 4);
  CHECK(LoadLe<uint16_t>(b + 2) == 0x0302);
  StoreLe<double>(b + 1, -2.5);
  CHECK(LoadLe<double>(b + 1) == -2.5);
}

TEST_CASE("the reader walks to the end and not beyond; its errors name offset, need and rest") {
  const std::string bytes("\x01\x02\x03\x04xyz", 7);
  ByteReader in(bytes);
  CHECK(in.remaining() == 7);
  CHECK(*in.Read<uint32_t>("a number") == 0x04030201u);
  CHECK(in.offset() == 4);
  const Result<uint32_t> cut = in.Read<uint32_t>("a number");
  CHECK(cut.status().code() == ErrorCode::kFormat);
  CHECK(cut.status().message() == "truncated at offset 4: a number needs 4 bytes, 3 left");
  CHECK(in.offset() == 4);  // an error does not move it
  CHECK(in.Bytes(kMax, "a name").status().message() ==
        "truncated at offset 4: a name needs 18446744073709551615 bytes, 3 left");
  CHECK(*in.Bytes(3, "a name") == "xyz");
  CHECK(in.remaining() == 0);
  CHECK(in.Bytes(0, "nothing")->empty());
  CHECK_FALSE(in.Read<uint8_t>("a byte").ok());
  ByteReader empty{std::string_view()};
  CHECK_FALSE(empty.Read<uint8_t>("a byte").ok());
  CHECK(empty.Bytes(0, "nothing").ok());
}

TEST_CASE("names in messages are quoted, escaped and cut") {
  CHECK(Quote("") == "''");
  CHECK(Quote("blk.0.attn_q.weight") == "'blk.0.attn_q.weight'");
  CHECK(Quote(std::string_view("a\0\x1b\x7f\xff'\\", 7)) == "'a\\x00\\x1b\\x7f\\xff\\x27\\x5c'");
  CHECK(Quote(std::string(100, 'x')) == "'" + std::string(100, 'x') + "'");
  CHECK(Quote(std::string(101, 'x')) == "'" + std::string(100, 'x') + "'...");
  CHECK(Quote("abcdef", 2) == "'ab'...");
}

}  // namespace
}  // namespace wf
