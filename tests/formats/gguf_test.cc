// SPDX-License-Identifier: Apache-2.0
// What the GGUF reader accepts and gives: the worked example, versions, alignments, layouts, typed getters.
// What it refuses is in gguf_bad_test.cc.
#include "wf/formats/gguf.h"

#include <cmath>
#include <limits>
#include <set>

#include "tests/catch.h"
#include "tests/formats/gguf_bytes.h"
#include "tests/scratch.h"

namespace wf {
namespace {

using test::Bytes;
using test::GgufFile;
using test::GgufHeader;

Gguf MustParse(const std::string& bytes) {
  Result<Gguf> g = Gguf::Parse(bytes, "t.gguf");
  INFO(g.status().message());
  REQUIRE(g.ok());
  return *std::move(g);
}

TEST_CASE("GGUF reader: the worked example of formats.md 1.1") {
  const std::string bytes = test::WorkedExample();
  REQUIRE(bytes.size() == 448);
  const Gguf g = MustParse(bytes);
  CHECK(g.version() == 3);
  CHECK(g.alignment() == 32);
  CHECK(g.file_bytes() == 448);
  CHECK(g.data_offset() == 0x180);
  CHECK(g.name() == "t.gguf");
  CHECK(g.file() == nullptr);

  REQUIRE(g.values().size() == 5);
  CHECK(g.values()[0].key == "general.architecture");
  CHECK(g.values()[3].count == 2);
  CHECK(g.values()[3].element == GgufValueType::kString);
  CHECK(*g.GetString("general.architecture") == "llama");
  CHECK(*g.GetUint("llama.block_count") == 1);
  CHECK(*g.GetFloat("llama.attention.layer_norm_rms_epsilon") == static_cast<double>(1e-5f));
  CHECK(*g.GetBool("tokenizer.ggml.add_bos_token"));
  CHECK(*g.GetStringArray("tokenizer.ggml.tokens") == std::vector<std::string_view>{"a",
                                                                                    "\xc4\xa0"
                                                                                    "b"});
  REQUIRE(g.tensors().size() == 2);
  const GgufTensor& norm = g.tensors()[0];
  CHECK(norm.name == "output_norm.weight");
  CHECK(norm.type == TensorType::kF32);
  CHECK(norm.n_dims == 1);
  CHECK(norm.ne[0] == 2);
  CHECK(norm.rows() == 1);
  CHECK(norm.bytes == 8);
  CHECK(norm.file_offset == 0x180);
  CHECK(LoadLe<float>(norm.data + 4) == 2.0f);
  const GgufTensor* t = g.FindTensor("t.weight");
  REQUIRE(t != nullptr);
  CHECK(t->type == TensorType::kF16);
  CHECK(t->n_dims == 2);
  CHECK(t->ne[0] == 3);
  CHECK(t->ne[1] == 2);
  CHECK(t->elements() == 6);
  CHECK(t->bytes == 12);
  CHECK(t->file_offset == 0x1a0);
  CHECK(LoadLe<uint16_t>(t->data + 10) == 0x4500);  // 5.0
  CHECK(g.FindTensor("t.weigh") == nullptr);
  CHECK(g.Find("llama") == nullptr);
}

TEST_CASE("GGUF reader: a file on disk is mapped and outlives moves") {
  const test::TempDir dir;
  test::WriteFile(dir / "a.gguf", test::WorkedExample());
  Result<Gguf> r = Gguf::Open(dir / "a.gguf");
  REQUIRE(r.ok());
  const Gguf g = *std::move(r);
  REQUIRE(g.file() != nullptr);
  CHECK(g.name() == dir / "a.gguf");
  CHECK(*g.GetString("general.architecture") == "llama");
  CHECK(LoadLe<float>(g.tensors()[0].data) == 1.0f);

  const Result<Gguf> none = Gguf::Open(dir / "none.gguf");
  CHECK(none.status().code() == ErrorCode::kNotFound);
  CHECK(none.status().message().find("none.gguf") != std::string::npos);
}

TEST_CASE("GGUF reader: version 2 is read like version 3") {
  std::string bytes = test::WorkedExample();
  bytes[4] = 2;
  CHECK(MustParse(bytes).version() == 2);
}

TEST_CASE("GGUF reader: no metadata and no tensors is a file") {
  const Gguf g = MustParse(GgufHeader(0, 0).s);
  CHECK(g.values().empty());
  CHECK(g.tensors().empty());
}

TEST_CASE("GGUF reader: the padding of the last tensor may be missing, its data may not") {
  const std::string bytes = test::WorkedExample();
  constexpr size_t kEnd = 0x1a0 + 12;
  for (size_t n = 0; n < bytes.size(); ++n) {
    const std::string cut = bytes.substr(0, n);  // its own allocation, so that ASan sees a read too far
    const Result<Gguf> g = Gguf::Parse(cut, "cut.gguf");
    INFO("cut at byte " << n << ": " << g.status().message());
    REQUIRE(g.ok() == (n >= kEnd));
    if (!g.ok()) {
      CHECK(g.status().code() == ErrorCode::kFormat);
      CHECK(g.status().message().rfind("cut.gguf: ", 0) == 0);
      CHECK(g.status().message().find("truncated") != std::string::npos);
    }
  }
}

TEST_CASE("GGUF reader: general.alignment is u32 or u64, a power of two from 8 to 1 MiB") {
  for (const uint64_t a : {8u, 16u, 32u, 64u, 4096u, 1u << 20}) {
    for (const bool wide : {false, true}) {
      Bytes kv;
      kv.Str("general.alignment").U32(wide ? 10 : 4);
      if (wide) {
        kv.U64(a);
      } else {
        kv.U32(static_cast<uint32_t>(a));
      }
      const std::string bytes = GgufFile({{"a", {1}, 0, 0}, {"b", {1}, 0, a}}, a + 4, 1, kv.s, a);
      const Gguf g = MustParse(bytes);
      CHECK(g.alignment() == a);
      CHECK(g.data_offset() % a == 0);
      CHECK(g.tensors()[1].file_offset == g.data_offset() + a);
    }
  }
}

TEST_CASE("GGUF reader: tensors in another order than their data, and holes between them, are read") {
  const std::string bytes = GgufFile({{"late", {2}, 0, 128}, {"early", {2}, 0, 0}}, 128 + 8);
  const Gguf g = MustParse(bytes);
  CHECK(g.FindTensor("late")->file_offset == g.data_offset() + 128);
  CHECK(g.FindTensor("early")->file_offset == g.data_offset());
}

TEST_CASE("GGUF reader: zero dimensions are a scalar") {
  const Gguf g = MustParse(GgufFile({{"s", {}, 0, 0}}, 4));
  CHECK(g.tensors()[0].n_dims == 0);
  CHECK(g.tensors()[0].elements() == 1);
  CHECK(g.tensors()[0].bytes == 4);
}

TEST_CASE("GGUF reader: bytes of a tensor follow the block sizes of formats.md 2.1") {
  struct Row {
    uint32_t type;
    std::vector<uint64_t> ne;
    uint64_t bytes;
  };
  // Type id, shape, bytes: by the table, not by our code.
  const Row rows[] = {
      {0, {5}, 20},      {1, {5, 3}, 30},     {30, {5, 3}, 30},    {2, {64, 2}, 72},    {8, {32, 2, 2, 2}, 272},
      {12, {256}, 144},  {14, {512, 2}, 840}, {24, {7}, 7},        {28, {2, 2, 2}, 64}, {34, {256, 3}, 162},
      {35, {512}, 132},  {36, {128, 4}, 160}, {36, {576, 2}, 320}, {36, {64, 2}, 64},   {39, {32, 2}, 34},
      {42, {64, 2}, 36}, {134, {128, 2}, 56}, {135, {128, 1}, 36}, {335, {64, 4}, 80},
  };
  for (const Row& row : rows) {
    const std::string bytes = GgufFile({{"t", row.ne, row.type, 0}}, row.bytes);
    INFO("type " << row.type << ", ne0 " << row.ne[0]);
    CHECK(MustParse(bytes).tensors()[0].bytes == row.bytes);
    const std::string cut = bytes.substr(0, bytes.size() - 1);
    const Result<Gguf> g = Gguf::Parse(cut, "cut.gguf");
    REQUIRE_FALSE(g.ok());
    CHECK(g.status().message() == "cut.gguf: file truncated, expected >= " + std::to_string(bytes.size()) +
                                      " bytes, found " + std::to_string(cut.size()) + ": tensor 't' has " +
                                      std::to_string(row.bytes) + " bytes at offset " +
                                      std::to_string(bytes.size() - row.bytes));
  }
}

TEST_CASE("GGUF reader: keys and names are bytes; messages show them escaped") {
  const std::string odd("k\0\n\xff", 4);
  Bytes kv;
  kv.Str(odd).U32(8).Str("v");
  const std::string bytes = GgufFile({}, 0, 1, kv.s);
  const Gguf g = MustParse(bytes);
  REQUIRE(g.Find(odd) != nullptr);
  CHECK(*g.GetString(odd) == "v");
  CHECK(g.GetUint(odd).status().message() ==
        "t.gguf: key 'k\\x00\\x0a\\xff': expected an integer, found string (offset 48)");
}

TEST_CASE("GGUF reader: finds every one of many keys and tensors") {
  constexpr uint32_t kCount = 3000;
  Bytes kv;
  std::vector<test::TensorLine> lines;
  for (uint32_t i = 0; i < kCount; ++i) {  // 7919 and 3000 share no factor: a permutation
    const uint32_t n = i * 7919 % kCount;
    kv.Str("key." + std::to_string(n)).U32(4).U32(n);
    lines.push_back({"tensor." + std::to_string(n), {1}, 0, uint64_t{i} * 32});
  }
  const std::string bytes = GgufFile(lines, size_t{kCount} * 32, kCount, kv.s);
  const Gguf g = MustParse(bytes);
  for (uint32_t i = 0; i < kCount; ++i) {
    REQUIRE(*g.GetUint("key." + std::to_string(i)) == i);
    const GgufTensor* t = g.FindTensor("tensor." + std::to_string(i));
    REQUIRE(t != nullptr);
    REQUIRE((t - g.tensors().data()) * 7919 % kCount == i);
  }
}

// One value of every type, of the number 7 where the type can hold it.
std::string EveryType() {
  Bytes b = GgufHeader(0, 20);
  b.Str("u8").U32(0).U8(7);
  b.Str("i8").U32(1).Put<int8_t>(-7);
  b.Str("u16").U32(2).Put<uint16_t>(7);
  b.Str("i16").U32(3).Put<int16_t>(-7);
  b.Str("u32").U32(4).U32(7);
  b.Str("i32").U32(5).Put<int32_t>(-7);
  b.Str("f32").U32(6).F32(0.5f);
  b.Str("bool").U32(7).U8(1);
  b.Str("string").U32(8).Str("seven");
  b.Str("u64").U32(10).U64(std::numeric_limits<uint64_t>::max());
  b.Str("i64").U32(11).Put<int64_t>(std::numeric_limits<int64_t>::min());
  b.Str("f64").U32(12).Put<double>(0.1);
  b.Str("one").U32(0).U8(1);
  b.Str("a.u8").U32(9).U32(0).U64(2).U8(7).U8(255);
  b.Str("a.i16").U32(9).U32(3).U64(2).Put<int16_t>(-7).Put<int16_t>(8);
  b.Str("a.f32").U32(9).U32(6).U64(2).F32(0.5f).F32(-2.0f);
  b.Str("a.f64").U32(9).U32(12).U64(2).Put<double>(0.5).Put<double>(1e300);
  b.Str("a.u64").U32(9).U32(10).U64(2).U64(1).U64(uint64_t{1} << 63);
  b.Str("a.empty").U32(9).U32(5).U64(0);
  b.Str("a.str").U32(9).U32(8).U64(3).Str("").Str("x").Str("yz");
  return b.s;
}

TEST_CASE("GGUF getters: any integer type serves where it fits") {
  const std::string bytes = EveryType();
  const Gguf g = MustParse(bytes);
  CHECK(*g.GetUint("u8") == 7);
  CHECK(*g.GetUint("u16") == 7);
  CHECK(*g.GetUint("u32") == 7);
  CHECK(*g.GetUint("u64") == std::numeric_limits<uint64_t>::max());
  CHECK(*g.GetInt("u8") == 7);
  CHECK(*g.GetInt("i8") == -7);
  CHECK(*g.GetInt("i16") == -7);
  CHECK(*g.GetInt("i32") == -7);
  CHECK(*g.GetInt("i64") == std::numeric_limits<int64_t>::min());
  for (const char* key : {"i8", "i16", "i32", "i64"}) {
    CHECK(g.GetUint(key).status().code() == ErrorCode::kFormat);
  }
  CHECK(g.GetUint("i32").status().message() == "t.gguf: key 'i32': expected an unsigned integer, found -7 (offset " +
                                                   std::to_string(g.Find("i32")->offset) + ")");
  CHECK(g.GetInt("u64").status().message().find("found 18446744073709551615") != std::string::npos);
  for (const char* key : {"f32", "bool", "string", "f64", "a.u8"}) {
    CHECK(g.GetUint(key).status().code() == ErrorCode::kFormat);
    CHECK(g.GetInt(key).status().code() == ErrorCode::kFormat);
  }
  CHECK(g.GetUint("a.u8").status().message().find("expected an integer, found array of u8") != std::string::npos);
}

TEST_CASE("GGUF getters: floats from f32, f64 and integers; bools from bools, 0 and 1") {
  const std::string bytes = EveryType();
  const Gguf g = MustParse(bytes);
  CHECK(*g.GetFloat("f32") == 0.5);
  CHECK(*g.GetFloat("f64") == 0.1);
  CHECK(*g.GetFloat("u8") == 7.0);
  CHECK(*g.GetFloat("i64") == -0x1p63);
  CHECK(*g.GetFloat("u64") == 0x1p64);
  CHECK(g.GetFloat("string").status().message().find("expected a number, found string") != std::string::npos);
  CHECK(g.GetFloat("bool").status().code() == ErrorCode::kFormat);
  CHECK(*g.GetBool("bool"));
  CHECK(*g.GetBool("one"));
  CHECK(g.GetBool("u8").status().message().find("expected a bool or 0 or 1, found 7") != std::string::npos);
  CHECK(g.GetBool("i8").status().code() == ErrorCode::kFormat);
  CHECK(g.GetBool("f32").status().message().find("expected a bool, found f32") != std::string::npos);
}

TEST_CASE("GGUF getters: strings and arrays check the element type") {
  const std::string bytes = EveryType();
  const Gguf g = MustParse(bytes);
  CHECK(*g.GetString("string") == "seven");
  CHECK(g.GetString("u8").status().message().find("expected a string, found u8") != std::string::npos);
  CHECK(*g.GetStringArray("a.str") == std::vector<std::string_view>{"", "x", "yz"});
  CHECK(g.GetStringArray("string").status().code() == ErrorCode::kFormat);
  // The classic: tokens as an array of u8.
  CHECK(g.GetStringArray("a.u8").status().message().find("expected an array of strings, found array of u8") !=
        std::string::npos);
  CHECK(*g.GetIntArray("a.u8") == std::vector<int64_t>{7, 255});
  CHECK(*g.GetIntArray("a.i16") == std::vector<int64_t>{-7, 8});
  CHECK(*g.GetIntArray("i32") == std::vector<int64_t>{-7});
  CHECK(g.GetIntArray("a.empty")->empty());
  CHECK(g.GetIntArray("a.u64").status().message().find("found 9223372036854775808 at index 1") != std::string::npos);
  CHECK(g.GetIntArray("a.f32").status().message().find("expected an array of integers, found array of f32") !=
        std::string::npos);
  CHECK(g.GetIntArray("a.str").status().code() == ErrorCode::kFormat);
  CHECK(g.GetIntArray("string").status().code() == ErrorCode::kFormat);
  CHECK(*g.GetFloatArray("a.f32") == std::vector<float>{0.5f, -2.0f});
  CHECK(*g.GetFloatArray("a.u8") == std::vector<float>{7.0f, 255.0f});
  CHECK(*g.GetFloatArray("f32") == std::vector<float>{0.5f});
  CHECK(g.GetFloatArray("a.f64").status().message().find("expected numbers that fit f32") != std::string::npos);
  CHECK(g.GetFloatArray("a.str").status().code() == ErrorCode::kFormat);
}

TEST_CASE("GGUF getters: an absent key is kNotFound or the fallback; a wrong type stays an error") {
  const std::string bytes = EveryType();
  const Gguf g = MustParse(bytes);
  CHECK(g.GetUint("none").status().code() == ErrorCode::kNotFound);
  CHECK(g.GetUint("none").status().message() == "t.gguf: key 'none' is missing");
  CHECK(g.GetStringArray("none").status().code() == ErrorCode::kNotFound);
  CHECK(g.GetFloatArray("none").status().code() == ErrorCode::kNotFound);
  CHECK(*g.GetUintOr("none", 3) == 3);
  CHECK(*g.GetUintOr("u8", 3) == 7);
  CHECK(*g.GetFloatOr("none", 0.25) == 0.25);
  CHECK(*g.GetBoolOr("none", true));
  CHECK(*g.GetStringOr("none", "d") == "d");
  CHECK(*g.GetStringOr("string", "d") == "seven");
  CHECK(g.GetUintOr("string", 3).status().code() == ErrorCode::kFormat);
  CHECK(g.GetFloatOr("string", 3).status().code() == ErrorCode::kFormat);
  CHECK(g.GetBoolOr("string", true).status().code() == ErrorCode::kFormat);
  CHECK(g.GetStringOr("u8", "d").status().code() == ErrorCode::kFormat);
}

TEST_CASE("GGUF value types have names") {
  std::set<std::string> names;
  for (uint32_t i = 0; i <= 12; ++i) names.insert(GgufValueTypeName(static_cast<GgufValueType>(i)));
  CHECK(names.size() == 13);
  CHECK(names.count("?") == 0);
  CHECK(GgufValueTypeName(static_cast<GgufValueType>(13)) == std::string("?"));
}

TEST_CASE("GGUF reader: a published vocabulary file is read") {
  const std::string path = std::string(WF_SHARED_DIR) + "/tokenizers/ggml-vocab-gpt-2.gguf";
  if (!std::filesystem::exists(path)) {
    WARN("not run: " << path << " is absent");
    return;
  }
  const Result<Gguf> g = Gguf::Open(path);
  REQUIRE(g.ok());
  CHECK(*g->GetString("general.architecture") == "gpt2");
  CHECK(g->GetStringArray("tokenizer.ggml.tokens")->size() == 50257);
  CHECK(g->GetStringArray("tokenizer.ggml.merges")->size() == 50000);
  CHECK(g->GetIntArray("tokenizer.ggml.token_type")->size() == 50257);
}

}  // namespace
}  // namespace wf
