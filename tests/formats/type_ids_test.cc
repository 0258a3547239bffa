// SPDX-License-Identifier: Apache-2.0
// Type ids that forks use for different layouts (formats.md 2.1): the bytes up to the next tensor, or to the end of the
// file, tell which one it is, never general.file_type. And what the writer makes of each type.
#include <string>
#include <vector>

#include "tests/catch.h"
#include "tests/formats/gguf_bytes.h"
#include "tests/scratch.h"
#include "wf/formats/gguf.h"
#include "wf/formats/gguf_writer.h"
#include "wf/quant/tl2.h"

namespace wf {
namespace {

using test::Bytes;
using test::GgufFile;

struct Seen {
  TensorType type = TensorType::kF32;
  uint64_t bytes = 0;
  bool operator==(const Seen&) const = default;
};
std::ostream& operator<<(std::ostream& out, const Seen& s) {
  return out << TensorTypeName(s.type) << " of " << s.bytes << " bytes";
}

uint64_t Padded(uint64_t n, uint64_t align) { return (n + align - 1) / align * align; }

// How a tensor of this id that takes `bytes` is read: followed by another tensor, at the end of a padded file, and at
// the end of one without padding. All three must agree.
Seen Read(uint32_t id, const std::vector<uint64_t>& ne, uint64_t bytes, uint64_t align = 32, uint32_t file_type = 0) {
  Bytes kv;
  kv.Str("general.file_type").U32(4).U32(file_type);
  kv.Str("general.alignment").U32(4).U32(static_cast<uint32_t>(align));
  const uint64_t padded = Padded(bytes, align);
  const std::string files[] = {
      GgufFile({{"t", ne, id, 0}, {"u", {8}, 0, padded}}, padded + 32, 2, kv.s, align),
      GgufFile({{"u", {8}, 0, padded}, {"t", ne, id, 0}}, padded + 32, 2, kv.s, align),
      GgufFile({{"u", {8}, 0, 0}, {"t", ne, id, Padded(32, align)}}, Padded(32, align) + padded, 2, kv.s, align),
      GgufFile({{"u", {8}, 0, 0}, {"t", ne, id, Padded(32, align)}}, Padded(32, align) + bytes, 2, kv.s, align),
  };
  std::vector<Seen> seen;
  for (const std::string& file : files) {
    const Result<Gguf> g = Gguf::Parse(file, "t.gguf");
    INFO(g.status().message());
    REQUIRE(g.ok());
    seen.push_back({g->FindTensor("t")->type, g->FindTensor("t")->bytes});
    CHECK(seen.back() == seen.front());
  }
  return seen.front();
}

TEST_CASE("Type 36 is I2_S, whatever the file says of itself") {
  for (const uint32_t file_type : {0u, 36u, 38u, 39u, 40u, 0xffffffffu}) {
    CHECK(Read(36, {2560, 4}, 2592, 32, file_type) == Seen{TensorType::kI2_S, 2592});
  }
  CHECK(Read(36, {64, 2, 3}, 128) == Seen{TensorType::kI2_S, 128});  // three experts, one scale
}

TEST_CASE("Type 38 is TL1: its size is known, its layout is not") {
  CHECK(Read(38, {4096, 4}, 4128) == Seen{TensorType::kTL1, 4128});
}

TEST_CASE("Type 39 is MXFP4 or TL2") {
  // 320 x 3200 by hand: (3200 - 256) * 320 / 3 * 5 / 8 = 196266, 256 * 320 / 2 * 4 / 8 = 20480; together 216746, up to
  // 216768, and 32 for the scale. The first generation: 3200 * 320 / 4 + 32. MXFP4: 3200 / 32 * 17 * 320.
  for (const uint32_t file_type : {0u, 38u, 39u}) {
    for (const uint64_t align : {32u, 64u}) {
      CHECK(Read(39, {3200, 320}, 216800, align, file_type) == Seen{TensorType::kTL2, 216800});
      CHECK(Read(39, {3200, 320}, 256032, align, file_type) == Seen{TensorType::kTL2, 256032});
      CHECK(Read(39, {3200, 320}, 544000, align, file_type) == Seen{TensorType::kMXFP4, 544000});
    }
  }
  CHECK(Read(39, {4096, 32, 8}, 557056) == Seen{TensorType::kMXFP4, 557056});
  CHECK(Read(39, {32, 2}, 34) == Seen{TensorType::kMXFP4, 34});
}

TEST_CASE("Types 41 and 42 are Q1_0 and Q2_0 by mainline, or 2-bit blocks of 128 by a fork") {
  for (const uint64_t align : {32u, 64u}) {
    CHECK(Read(42, {4096, 2}, 2304, align) == Seen{TensorType::kQ2_0, 2304});      // 64 blocks of 18 a row
    CHECK(Read(42, {4096, 2}, 2176, align) == Seen{TensorType::kQ2_0_128, 2176});  // 32 of 34
    CHECK(Read(42, {4096, 2}, 1152, align) == Seen{TensorType::kQ1_0, 1152});      // 32 of 18
    CHECK(Read(41, {4096, 2}, 1152, align) == Seen{TensorType::kQ1_0, 1152});
    CHECK(Read(41, {4096, 2}, 2176, align) == Seen{TensorType::kQ2_0_128, 2176});
    CHECK(Read(41, {4096, 2}, 2304, align) == Seen{TensorType::kQ2_0, 2304});
  }
  CHECK(Read(42, {192, 64}, 3456) == Seen{TensorType::kQ2_0, 3456});  // rows that no block of 128 fits
}

TEST_CASE("A gap that fits no layout is a hole after the id's usual one, or a cut file") {
  CHECK(Read(42, {4096, 2}, 2304 + 4096).type == TensorType::kQ2_0);
  CHECK(Read(39, {3200, 320}, 544000 + 4096).type == TensorType::kMXFP4);
  for (const uint32_t id : {39u, 41u, 42u}) {
    const std::string cut = GgufFile({{"t", {4096, 8}, id, 0}}, 1000);
    const Result<Gguf> g = Gguf::Parse(cut, "cut.gguf");
    REQUIRE_FALSE(g.ok());
    CHECK(g.status().message().find("file truncated") != std::string::npos);
  }
}

TEST_CASE("Old ik_llama.cpp files, which used 34 and 35 for its own types, are refused with advice") {
  const struct {
    uint32_t id;
    uint64_t bytes;
  } rows[] = {{34, 4096 / 256 * 52}, {35, 4096 / 256 * 64}};
  for (const auto& row : rows) {
    for (const uint64_t next : {uint64_t{0}, row.bytes}) {  // with a next tensor, and without
      const std::string file = next != 0 ? GgufFile({{"t", {4096}, row.id, 0}, {"u", {8}, 0, next}}, next + 32)
                                         : GgufFile({{"t", {4096}, row.id, 0}}, row.bytes);
      const Result<Gguf> g = Gguf::Parse(file, "old.gguf");
      REQUIRE_FALSE(g.ok());
      CHECK(g.status().code() == ErrorCode::kUnsupported);
      CHECK(g.status().message().find("old ik_llama.cpp file") != std::string::npos);
      CHECK(g.status().message().find("convert the model again") != std::string::npos);
    }
  }
  CHECK(Read(34, {4096, 3}, 4096 / 256 * 54 * 3) == Seen{TensorType::kTQ1_0, 2592});
  CHECK(Read(35, {4096, 3}, 4096 / 256 * 66 * 3) == Seen{TensorType::kTQ2_0, 3168});
}

constexpr TensorType kUnwritten[] = {TensorType::kI2_S_ARM64, TensorType::kI2_S_X4, TensorType::kTL2,
                                     TensorType::kQ2_0_128};

TEST_CASE("Our own numbers of layouts without an id are unknown types in a file") {
  for (const TensorType t : kUnwritten) {
    const uint32_t id = static_cast<uint32_t>(t);
    const std::string file = GgufFile({{"t", {4096}, id, 0}}, 1 << 16);
    const Result<Gguf> g = Gguf::Parse(file, "t.gguf");
    REQUIRE_FALSE(g.ok());
    CHECK(g.status().code() == ErrorCode::kUnsupported);
    CHECK(g.status().message() ==
          "t.gguf: tensor 't': tensor type " + std::to_string(id) + " is not supported (offset 45)");
  }
}

TEST_CASE("The writer refuses layouts without an id, by name") {
  for (const TensorType t : kUnwritten) {
    GgufWriter w;
    w.AddTensor("t", t, {4096, 4});
    const Status s = w.FileBytes().status();
    CHECK(s.code() == ErrorCode::kInvalidArgument);
    CHECK(s.message() == "GGUF tensor 't': " + std::string(TensorTypeName(t)) +
                             " cannot be written: a reader would take its id for another layout");
  }
}

TEST_CASE("The writer gives every type the size that formats.md says, and the reader finds it") {
  const struct {
    TensorType type;
    std::vector<uint64_t> ne;
    uint64_t bytes;
  } rows[] = {
      {TensorType::kI2_S, {2560, 3}, 1952},    {TensorType::kI2_S, {576, 2}, 320},
      {TensorType::kI2_S, {64, 2, 3}, 128},    {TensorType::kTL1, {4096, 4}, 4128},
      {TensorType::kTQ1_0, {512, 3}, 324},     {TensorType::kTQ2_0, {512, 3, 2}, 792},
      {TensorType::kIQ1_BN, {192, 5}, 205},    {TensorType::kIQ2_BN, {192, 5}, 260},
      {TensorType::kIQ2_BN_R4, {192, 8}, 416}, {TensorType::kIQ2_BN_R4, {64, 4, 3}, 240},
      {TensorType::kQ2_0, {192, 5}, 270},      {TensorType::kQ8_0, {96, 5}, 510},
      {TensorType::kQ4_0, {96, 5}, 270},       {TensorType::kQ6_K, {512, 3}, 1260},
      {TensorType::kQ4_K, {512, 3}, 864},      {TensorType::kMXFP4, {64, 3}, 102},
      {TensorType::kQ1_0, {256, 3}, 108},
  };
  const test::TempDir dir;
  for (const auto& row : rows) {
    INFO(TensorTypeName(row.type));
    GgufWriter w;
    w.AddTensor("t", row.type, row.ne);
    w.AddTensor("u", TensorType::kF32, {1});
    REQUIRE(w.Begin(dir / "t.gguf").ok());
    const std::string data(row.bytes, '\x55');
    const float one = 1;
    REQUIRE(w.WriteTensorData(data.data(), data.size()).ok());
    REQUIRE(w.WriteTensorData(&one, 4).ok());
    REQUIRE(w.Finish().ok());
    const Result<Gguf> g = Gguf::Open(dir / "t.gguf");
    INFO(g.status().message());
    REQUIRE(g.ok());
    CHECK(g->FindTensor("t")->type == row.type);
    CHECK(g->FindTensor("t")->bytes == row.bytes);
    CHECK(LoadLe<float>(g->FindTensor("u")->data) == 1.0f);
  }
}

TEST_CASE("The writer refuses shapes that a type cannot hold") {
  const auto refusal = [](TensorType t, const std::vector<uint64_t>& ne) {
    GgufWriter w;
    w.AddTensor("t", t, ne);
    return w.FileBytes().status().message();
  };
  CHECK(refusal(TensorType::kI2_S, {32, 3, 1}) ==
        "GGUF tensor 't': I2_S: expected a multiple of 128 elements, found 96");
  CHECK(refusal(TensorType::kIQ1_BN, {96, 2}) ==
        "GGUF tensor 't': IQ1_BN: expected rows of a multiple of 64 elements, found 96");
  CHECK(refusal(TensorType::kIQ2_BN_R4, {64, 2, 2}) ==
        "GGUF tensor 't': IQ2_BN_R4: expected a multiple of 4 rows, found 2");
  CHECK(refusal(TensorType::kQ2_0, {96, 2}) ==
        "GGUF tensor 't': Q2_0: expected rows of a multiple of 64 elements, found 96");
  CHECK(refusal(TensorType::kQ6_K, {128, 2}) ==
        "GGUF tensor 't': Q6_K: expected rows of a multiple of 256 elements, found 128");
}

TEST_CASE("Sizes of TL2: both generations, and shapes that have none") {
  CHECK(Tl2Bytes(320, 3200, Tl2Generation::kSecond) == 216800);
  CHECK(Tl2Bytes(320, 3200, Tl2Generation::kFirst) == 256032);
  CHECK(Tl2Bytes(4096, 4096, Tl2Generation::kFirst) == 4096 * 4096 / 4 + 32);
  for (const auto g : {Tl2Generation::kFirst, Tl2Generation::kSecond}) {
    CHECK(Tl2Bytes(320, 224, g) == 0);
    CHECK(Tl2Bytes(0, 4096, g) == 0);
    CHECK(Tl2Bytes(uint64_t{1} << 46, 4096, g) == 0);
    CHECK(Tl2Bytes(~uint64_t{0}, ~uint64_t{0}, g) == 0);
  }
}

}  // namespace
}  // namespace wf
