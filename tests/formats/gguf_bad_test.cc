// SPDX-License-Identifier: Apache-2.0
// Every GGUF file that must be refused: the rows of formats.md 1.4 and the rules of 1.3, each with the
// message a user sees. No refusal may allocate more than 1 MiB, whatever sizes the file claims.
#include <atomic>
#include <cstdlib>
#include <new>

#include "tests/catch.h"
#include "tests/formats/gguf_bytes.h"
#include "wf/formats/gguf.h"

#if defined(__SANITIZE_ADDRESS__)
#define WF_TEST_COUNTS_ALLOCATIONS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WF_TEST_COUNTS_ALLOCATIONS 0
#endif
#endif
#ifndef WF_TEST_COUNTS_ALLOCATIONS
#define WF_TEST_COUNTS_ALLOCATIONS 1
#endif

namespace {
std::atomic<std::size_t> largest_allocation{0};
}

#if WF_TEST_COUNTS_ALLOCATIONS
// Replaces the program's operator new: only to see sizes. (Sanitizers want theirs.)
void* operator new(std::size_t size) {
  if (size > largest_allocation) largest_allocation = size;
  if (void* p = std::malloc(size == 0 ? 1 : size)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
#endif

namespace wf {
namespace {

using test::Bytes;
using test::FromHex;
using test::GgufFile;
using test::GgufHeader;

void Refuses(const std::string& name, const std::string& bytes, ErrorCode code, const std::string& message) {
  INFO(name);
  largest_allocation = 0;
  const Result<Gguf> g = Gguf::Parse(bytes, "bad.gguf");
  const std::size_t largest = largest_allocation;
  REQUIRE_FALSE(g.ok());
  CHECK(largest <= (1u << 20));
  CHECK(ErrorName(g.status().code()) == std::string(ErrorName(code)));
  CHECK(g.status().message() == "bad.gguf: " + message);
}

// A file of one metadata value: these bytes after its key "a" (key and count take offsets 24 to 32).
std::string OneValue(const Bytes& value) { return GgufHeader(0, 1).Str("a").Raw(value.s).s; }

constexpr ErrorCode kFormat = ErrorCode::kFormat;
constexpr ErrorCode kLimit = ErrorCode::kLimit;
constexpr ErrorCode kUnsupported = ErrorCode::kUnsupported;

TEST_CASE("GGUF refuses: a header that is short or of something else") {
  Refuses("empty", "", kFormat, "file truncated, expected >= 24 bytes (the header), found 0");
  Refuses("two bytes", FromHex("4747"), kFormat, "file truncated, expected >= 24 bytes (the header), found 2");
  Refuses("two other bytes", "PK", kFormat, "not a GGUF file: expected the magic 'GGUF', found 'PK' (offset 0)");
  Refuses("half a magic", FromHex("474755"), kFormat, "file truncated, expected >= 24 bytes (the header), found 3");
  Refuses("23 bytes", GgufHeader(0, 0).s.substr(0, 23), kFormat,
          "file truncated, expected >= 24 bytes (the header), found 23");
  Refuses("bad magic", FromHex("4747554703000000") + std::string(16, '\0'), kFormat,
          "not a GGUF file: expected the magic 'GGUF', found 'GGUG' (offset 0)");
  Refuses("control bytes in the magic", std::string("\x1b[2J", 4) + std::string(20, '\0'), kFormat,
          "not a GGUF file: expected the magic 'GGUF', found '\\x1b[2J' (offset 0)");
}

TEST_CASE("GGUF refuses: versions other than 2 and 3, and big-endian files by name") {
  Refuses("version 0", GgufHeader(0, 0, 0).s, kUnsupported, "GGUF version: expected 2 or 3, found 0 (offset 4)");
  Refuses("version 1", FromHex("4747554601000000") + std::string(16, '\0'), kUnsupported,
          "GGUF version: expected 2 or 3, found 1, which is obsolete (offset 4)");
  Refuses("version 4", FromHex("4747554604000000") + std::string(16, '\0'), kUnsupported,
          "GGUF version: expected 2 or 3, found 4 (offset 4)");
  Refuses("big-endian", FromHex("4747554600000003") + std::string(16, '\0'), kUnsupported,
          "big-endian GGUF not supported (offset 4)");
}

TEST_CASE("GGUF refuses: counts over the limits, or that the file has no bytes for") {
  Refuses("tensor count -1", FromHex("4747554603000000ffffffffffffffff0000000000000000"), kLimit,
          "tensor count: expected at most 65536, found 18446744073709551615 (offset 8)");
  Refuses("one tensor over the limit", GgufHeader(65537, 0).s, kLimit,
          "tensor count: expected at most 65536, found 65537 (offset 8)");
  Refuses("metadata count -1", GgufHeader(0, ~uint64_t{0}).s, kLimit,
          "metadata count: expected at most 65536, found 18446744073709551615 (offset 16)");
  Refuses("2^31 metadata values", GgufHeader(0, uint64_t{1} << 31).s, kLimit,
          "metadata count: expected at most 65536, found 2147483648 (offset 16)");
  Refuses("counts at the limits, no bytes", GgufHeader(65536, 65536).s, kFormat,
          "file truncated, expected >= 2555928 bytes for 65536 metadata values and 65536 tensors, found 24");
  GgufLimits limits;
  limits.max_tensors = ~uint64_t{0};
  limits.max_kv = ~uint64_t{0};
  const std::string huge = GgufHeader(~uint64_t{0}, ~uint64_t{0}).s;
  const Result<Gguf> g = Gguf::Parse(huge, "bad.gguf", limits);
  REQUIRE_FALSE(g.ok());
  CHECK(g.status().message().find("file truncated, expected >= 2^64 bytes") != std::string::npos);
}

TEST_CASE("GGUF refuses: keys that are empty, endless, too long or there twice") {
  Refuses("key of 2^63-1 bytes",
          FromHex("474755460300000000000000000000000100000000000000ffffffffffffff7f000000000000"), kFormat,
          "metadata value 0: truncated at offset 32: key needs 9223372036854775807 bytes, 6 left");
  Refuses("key of 2^64-1 bytes", GgufHeader(0, 1).U64(~uint64_t{0}).Zeros(6).s, kFormat,
          "metadata value 0: truncated at offset 32: key needs 18446744073709551615 bytes, 6 left");
  Refuses("empty key", GgufHeader(0, 1).Str("").U32(0).U8(0).Zeros(1).s, kFormat,
          "metadata value 0: the key is empty (offset 24)");
  Refuses("key over 64 KiB", GgufHeader(0, 1).Str(std::string(65537, 'k')).U32(0).U8(0).s, kLimit,
          "metadata value 0: key: expected at most 65536 bytes, found 65537 (offset 24)");
  Refuses("the same key twice", GgufHeader(0, 2).Str("a").U32(0).U8(1).Str("a").U32(4).U32(2).s, kFormat,
          "key 'a' occurs twice, with values at offsets 37 and 51");
}

TEST_CASE("GGUF refuses: values of unknown types and arrays that lie") {
  Refuses("value type 13", OneValue(Bytes().U32(13).U64(0)), kFormat,
          "key 'a': value type: expected 0 to 12, found 13 (offset 33)");
  Refuses("value type 2^32-1", OneValue(Bytes().U32(~0u).U64(0)), kFormat,
          "key 'a': value type: expected 0 to 12, found 4294967295 (offset 33)");
  Refuses("array of type 99", OneValue(Bytes().U32(9).U32(99).U64(0)), kFormat,
          "key 'a': array element type: expected 0 to 12, found 99 (offset 37)");
  Refuses("2^62 u32", OneValue(Bytes().U32(9).U32(4).U64(uint64_t{1} << 62)), kFormat,
          "key 'a': truncated at offset 49: 4611686018427387904 values of type u32 need at least 4 bytes each, 0 left");
  Refuses("2^63 strings", OneValue(Bytes().U32(9).U32(8).U64(uint64_t{1} << 63).U64(0)), kFormat,
          "key 'a': truncated at offset 49: 9223372036854775808 values of type string need at least 8 bytes each, "
          "8 left");
  Refuses("2^64-1 bools", OneValue(Bytes().U32(9).U32(7).U64(~uint64_t{0}).U64(0)), kFormat,
          "key 'a': truncated at offset 49: 18446744073709551615 values of type bool need at least 1 bytes each, "
          "8 left");
  Refuses("array of arrays", OneValue(Bytes().U32(9).U32(9).U64(1)), kUnsupported,
          "key 'a': an array of arrays (offset 37)");
  Refuses("empty array of arrays", OneValue(Bytes().U32(9).U32(9).U64(0)), kUnsupported,
          "key 'a': an array of arrays (offset 37)");
  Refuses("second string of an array is cut", OneValue(Bytes().U32(9).U32(8).U64(2).Str("xy").U64(5).Raw("1234")),
          kFormat, "key 'a': truncated at offset 67: string needs 5 bytes, 4 left");
  Refuses("a bool of 2", OneValue(Bytes().U32(7).U8(2)), kFormat,
          "key 'a': bool: expected 0 or 1, found 2 (offset 37)");
  Refuses("a bool of 255 in an array", OneValue(Bytes().U32(9).U32(7).U64(3).U8(0).U8(1).U8(255)), kFormat,
          "key 'a': bool: expected 0 or 1, found 255 (offset 51)");
  Refuses("a cut number", OneValue(Bytes().U32(10).U32(0)), kFormat,
          "key 'a': truncated at offset 37: 1 values of type u64 need at least 8 bytes each, 4 left");
}

TEST_CASE("GGUF refuses: a string over 16 MiB") {
  Bytes b = GgufHeader(0, 1);
  b.Str("a").U32(8).Str(std::string((16u << 20) + 1, 'x'));
  Refuses("string", b.s, kLimit, "key 'a': string: expected at most 16777216 bytes, found 16777217 (offset 37)");
  Bytes array = GgufHeader(0, 1);
  array.Str("a").U32(9).U32(8).U64(1).Str(std::string((16u << 20) + 1, 'x'));
  Refuses("string in an array", array.s, kLimit,
          "key 'a': string: expected at most 16777216 bytes, found 16777217 (offset 49)");
}

TEST_CASE("GGUF refuses: a bad general.alignment") {
  const auto alignment = [](const Bytes& typed) { return GgufHeader(0, 1).Str("general.alignment").Raw(typed.s).s; };
  const std::string want = "key 'general.alignment': expected a power of two from 8 to 1048576, found ";
  for (const uint32_t a : {0u, 1u, 3u, 4u, 24u, 0x200000u, 0x80000000u, 0xffffffffu}) {
    Refuses("u32 " + std::to_string(a), alignment(Bytes().U32(4).U32(a)), kFormat,
            want + std::to_string(a) + " (offset 53)");
    Refuses("u64 " + std::to_string(a), alignment(Bytes().U32(10).U64(a)), kFormat,
            want + std::to_string(a) + " (offset 53)");
  }
  Refuses("u64 2^63", alignment(Bytes().U32(10).U64(uint64_t{1} << 63)), kFormat,
          want + "9223372036854775808 (offset 53)");
  Refuses("i32", alignment(Bytes().U32(5).U32(32)), kFormat,
          "key 'general.alignment': expected u32, found i32 (offset 53)");
  Refuses("i64", alignment(Bytes().U32(11).U64(32)), kFormat,
          "key 'general.alignment': expected u32, found i64 (offset 53)");
  Refuses("string", alignment(Bytes().U32(8).Str("32")), kFormat,
          "key 'general.alignment': expected u32, found string (offset 61)");
  Refuses("array", alignment(Bytes().U32(9).U32(4).U64(1).U32(32)), kFormat,
          "key 'general.alignment': expected u32, found array (offset 65)");
}

TEST_CASE("GGUF refuses: tensor names that are empty, long or there twice") {
  Refuses("empty", GgufFile({{"", {1}, 0, 0}}, 32), kFormat,
          "tensor 0: expected a name of 1 to 63 bytes, found 0 (offset 24)");
  Refuses("64 bytes", GgufFile({{std::string(64, 'n'), {1}, 0, 0}}, 32), kFormat,
          "tensor 0: expected a name of 1 to 63 bytes, found 64 (offset 24)");
  Refuses("2^64-1 bytes", GgufHeader(1, 0).U64(~uint64_t{0}).Zeros(20).s, kFormat,
          "tensor 0: truncated at offset 32: name needs 18446744073709551615 bytes, 20 left");
  Refuses("twice", GgufFile({{"t", {1}, 0, 0}, {"u", {1}, 0, 32}, {"t", {1}, 0, 64}}, 96), kFormat,
          "tensor 't' occurs twice, as tensors 0 and 2");
  const std::string name(63, 'n');
  const std::string longest = GgufFile({{name, {1}, 0, 0}}, 32);
  CHECK(Gguf::Parse(longest, "good.gguf").ok());
}

// The shape of tensor "t" begins at offset 37, its type after 8 bytes for each dimension.
TEST_CASE("GGUF refuses: impossible dimensions") {
  const uint64_t k32 = uint64_t{1} << 32;
  Refuses("5 dimensions", GgufFile({{"t", {1, 1, 1, 1, 1}, 0, 0}}, 32), kFormat,
          "tensor 't': expected at most 4 dimensions, found 5 (offset 33)");
  Refuses("2^32-1 dimensions", GgufHeader(1, 0).Str("t").U32(~0u).Zeros(64).s, kFormat,
          "tensor 't': expected at most 4 dimensions, found 4294967295 (offset 33)");
  Refuses("{0}", GgufFile({{"t", {0}, 0, 0}}, 32), kFormat,
          "tensor 't': expected dimensions of at least 1, found {0, 1, 1, 1} (offset 37)");
  Refuses("{4, 0}", GgufFile({{"t", {4, 0}, 0, 0}}, 32), kFormat,
          "tensor 't': expected dimensions of at least 1, found {4, 0, 1, 1} (offset 37)");
  Refuses("{1, 1, 1, 0}", GgufFile({{"t", {1, 1, 1, 0}, 0, 0}}, 32), kFormat,
          "tensor 't': expected dimensions of at least 1, found {1, 1, 1, 0} (offset 37)");
  Refuses("{2^32, 2^32}", GgufFile({{"t", {k32, k32}, 0, 0}}, 32), kFormat,
          "tensor 't': expected fewer than 2^63 elements, found dimensions {4294967296, 4294967296, 1, 1} (offset 37)");
  Refuses("{2^63}", GgufFile({{"t", {uint64_t{1} << 63}, 0, 0}}, 32), kFormat,
          "tensor 't': expected fewer than 2^63 elements, found dimensions {9223372036854775808, 1, 1, 1} (offset 37)");
  Refuses(
      "product wraps to 1", GgufFile({{"t", {3, 0xaaaaaaaaaaaaaaabu}, 0, 0}}, 32), kFormat,
      "tensor 't': expected fewer than 2^63 elements, found dimensions {3, 12297829382473034411, 1, 1} (offset 37)");
  Refuses("2^62 f32: bytes wrap", GgufFile({{"t", {uint64_t{1} << 62}, 0, 0}}, 32), kFormat,
          "tensor 't': F32: the size in bytes overflows, found dimensions {4611686018427387904, 1, 1, 1} (offset 37)");
}

TEST_CASE("GGUF refuses: tensor types that are unknown, removed or a fork's, by number") {
  struct Row {
    uint32_t id;
    const char* what;
  };
  const Row rows[] = {
      {4, " (Q4_2 or Q4_3, removed from ggml in 2023)"},
      {5, " (Q4_2 or Q4_3, removed from ggml in 2023)"},
      {9, ""},
      {31, " (rows interleaved, removed from ggml: requantise the model to Q4_0)"},
      {32, " (rows interleaved, removed from ggml: requantise the model to Q4_0)"},
      {33, " (rows interleaved, removed from ggml: requantise the model to Q4_0)"},
      {37, " (I8_S, exists at run time only)"},
      {99, ""},
      {137, " (of ik_llama.cpp)"},
      {0x80000000u, ""},
      {0xffffffffu, ""},
  };
  for (const Row& row : rows) {
    Refuses("type " + std::to_string(row.id), GgufFile({{"blk.0.x", {256}, row.id, 0}}, 4096), kUnsupported,
            "tensor 'blk.0.x': tensor type " + std::to_string(row.id) + row.what + " is not supported (offset 51)");
  }
}

TEST_CASE("GGUF refuses: shapes that do not fit the blocks of their type") {
  Refuses("Q4_0 of 33", GgufFile({{"t", {33}, 2, 0}}, 4096), kFormat,
          "tensor 't': Q4_0: expected rows of a multiple of 32 elements, found 33 (offset 37)");
  Refuses("Q4_0 of 16 x 2", GgufFile({{"t", {16, 2}, 2, 0}}, 4096), kFormat,
          "tensor 't': Q4_0: expected rows of a multiple of 32 elements, found 16 (offset 37)");
  Refuses("TQ2_0 of 576", GgufFile({{"t", {576, 4}, 35, 0}}, 4096), kFormat,
          "tensor 't': TQ2_0: expected rows of a multiple of 256 elements, found 576 (offset 37)");
  Refuses("I2_S of 100", GgufFile({{"t", {100}, 36, 0}}, 4096), kFormat,
          "tensor 't': I2_S: expected a multiple of 128 elements, found 100 (offset 37)");
  Refuses("I2_S of 576 x 1", GgufFile({{"t", {576, 1}, 36, 0}}, 4096), kFormat,
          "tensor 't': I2_S: expected a multiple of 128 elements, found 576 (offset 37)");
  Refuses("IQ2_BN_R4 of 3 rows", GgufFile({{"t", {64, 3}, 335, 0}}, 4096), kFormat,
          "tensor 't': IQ2_BN_R4: expected a multiple of 4 rows, found 3 (offset 37)");
}

TEST_CASE("GGUF refuses: tensors outside the file, unaligned or over each other") {
  Refuses("offset 1", GgufFile({{"t", {1}, 0, 1}}, 64), kFormat,
          "tensor 't': expected a data offset that is a multiple of 32, found 1");
  Refuses("offset 8 where the alignment is 16",
          GgufFile({{"t", {1}, 0, 8}}, 64, 1, Bytes().Str("general.alignment").U32(4).U32(16).s), kFormat,
          "tensor 't': expected a data offset that is a multiple of 16, found 8");
  Refuses("offset 2^64-32, 32 bytes", GgufFile({{"t", {8}, 0, ~uint64_t{31}}}, 64), kFormat,
          "tensor 't': data offset 18446744073709551584 and size 32 overflow (offset 49)");
  Refuses("offset 2^64-32, 4 bytes", GgufFile({{"t", {1}, 0, ~uint64_t{31}}}, 64), kFormat,
          "tensor 't': its end overflows (offset 18446744073709551584 of the data section)");
  Refuses("offset 2^63", GgufFile({{"t", {1}, 0, uint64_t{1} << 63}}, 64), kFormat,
          "file truncated, expected >= 9223372036854775876 bytes, found 128: tensor 't' has 4 bytes at offset "
          "9223372036854775872");
  Refuses("cut by 1 byte", GgufFile({{"a", {8}, 0, 0}, {"b", {8}, 0, 32}}, 63), kFormat,
          "file truncated, expected >= 160 bytes, found 159: tensor 'b' has 32 bytes at offset 128");
  Refuses("the whole data section is missing", GgufFile({{"a", {8}, 0, 0}, {"b", {8}, 0, 32}}, 0), kFormat,
          "file truncated, expected >= 160 bytes, found 96: tensor 'b' has 32 bytes at offset 128");
  Refuses(
      "dimensions larger than the data", GgufFile({{"t", {1u << 20, 1u << 20}, 0, 0}}, 64), kFormat,
      "file truncated, expected >= 4398046511200 bytes, found 160: tensor 't' has 4398046511104 bytes at offset 96");
  Refuses("the same place", GgufFile({{"a", {8}, 0, 0}, {"b", {8}, 0, 0}}, 64), kFormat,
          "tensor 'a' overlaps tensor 'b': type F32, expected 32 bytes, found 0 (offset 0 of the data section)");
  Refuses("one aligned step short", GgufFile({{"b", {8}, 0, 32}, {"a", {16}, 0, 0}}, 64), kFormat,
          "tensor 'a' overlaps tensor 'b': type F32, expected 64 bytes, found 32 (offset 0 of the data section)");
  Refuses("I2_S without room for its scale", GgufFile({{"a", {128}, 36, 0}, {"b", {128}, 36, 32}}, 96), kFormat,
          "tensor 'a' overlaps tensor 'b': type I2_S, expected 64 bytes, found 32 (offset 0 of the data section)");
}

// The gap to the next tensor tells a fork's layout from the one that the id means today (formats.md 2.11). Those that
// are read are in type_ids_test.cc.
TEST_CASE("GGUF refuses: files of forks that use an id for another layout") {
  const std::string at0 = " (offset 0 of the data section)";
  Refuses("IQ1_BN as id 34, with a next tensor", GgufFile({{"a", {4096}, 34, 0}, {"b", {8}, 0, 832}}, 864),
          kUnsupported,
          "tensor 'a': type TQ1_0, expected 864 bytes, found 832: old ik_llama.cpp file (IQ1_BN as id 34); convert the "
          "model again" +
              at0);
  Refuses("IQ2_BN as id 35, with a next tensor", GgufFile({{"a", {4096}, 35, 0}, {"b", {8}, 0, 1024}}, 1056),
          kUnsupported,
          "tensor 'a': type TQ2_0, expected 1056 bytes, found 1024: old ik_llama.cpp file (IQ2_BN as id 35); convert "
          "the model again" +
              at0);
  Refuses("IQ2_BN as id 35, the last tensor", GgufFile({{"a", {4096}, 35, 0}}, 1024), kUnsupported,
          "tensor 'a': type TQ2_0, expected 1056 bytes, found 1024: old ik_llama.cpp file (IQ2_BN as id 35); convert "
          "the model again" +
              at0);
  const std::string tq2 = GgufFile({{"a", {4096}, 35, 0}, {"b", {8}, 0, 1056}}, 1088);
  CHECK(Gguf::Parse(tq2, "good.gguf").ok());
}

TEST_CASE("GGUF refuses: every truncation of a file with all value types") {
  Bytes b = GgufHeader(1, 5);
  b.Str("i").U32(5).U32(1).Str("s").U32(8).Str("text").Str("b").U32(7).U8(1);
  b.Str("f").U32(9).U32(6).U64(2).F32(1).F32(2).Str("t").U32(9).U32(8).U64(2).Str("x").Str("");
  b.Str("w").U32(2).U64(128).U64(2).U32(36).U64(0).PadTo(32).Zeros(96);
  REQUIRE(Gguf::Parse(b.s, "whole.gguf").ok());
  for (size_t n = 0; n < b.s.size(); ++n) {
    const std::string cut = b.s.substr(0, n);
    const Result<Gguf> g = Gguf::Parse(cut, "cut.gguf");
    INFO("cut at byte " << n << ": " << g.status().message());
    REQUIRE_FALSE(g.ok());
    REQUIRE(g.status().code() == kFormat);
    REQUIRE(g.status().message().find("truncated") != std::string::npos);
  }
}

// Found by changing one byte at a time: whatever the reader then accepts must keep its promises.
TEST_CASE("GGUF reader: any single changed byte is refused or gives views inside the file") {
  const std::string whole = test::WorkedExample();
  for (size_t i = 0; i < whole.size(); ++i) {
    for (const int v : {0x00, 0x01, 0x7f, 0x80, 0xff}) {
      std::string bytes = whole;
      bytes[i] = static_cast<char>(v);
      const Result<Gguf> g = Gguf::Parse(bytes, "changed.gguf");
      if (!g.ok()) {
        REQUIRE(g.status().message().rfind("changed.gguf: ", 0) == 0);
        continue;
      }
      for (const GgufTensor& t : g->tensors()) {
        INFO("byte " << i << " = " << v);
        REQUIRE(t.file_offset >= g->data_offset());
        REQUIRE(t.file_offset <= bytes.size());
        REQUIRE(t.bytes <= bytes.size() - t.file_offset);
        REQUIRE(t.data == reinterpret_cast<const uint8_t*>(bytes.data()) + t.file_offset);
      }
    }
  }
}

// Quadratic duplicate checks would need minutes here.
TEST_CASE("GGUF reader: the largest number of equal keys is refused at once") {
  Bytes b = GgufHeader(0, 65536);
  for (int i = 0; i < 65536; ++i) b.Str("same key").U32(0).U8(0);
  const Result<Gguf> g = Gguf::Parse(b.s, "bad.gguf");
  REQUIRE_FALSE(g.ok());
  CHECK(g.status().message() == "bad.gguf: key 'same key' occurs twice, with values at offsets 44 and 65");
}

}  // namespace
}  // namespace wf
