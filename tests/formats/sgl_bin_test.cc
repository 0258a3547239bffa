// SPDX-License-Identifier: Apache-2.0
// sgl-kernel's .bin against the rules of formats.md 7.3: a file built byte by byte is read, what contradicts itself is
// refused, and what the writer writes is that file again.
#include "wf/formats/sgl_bin.h"

#include <cstring>
#include <limits>

#include "tests/catch.h"
#include "tests/formats/gguf_bytes.h"
#include "tests/scratch.h"
#include "wf/base/bytes.h"
#include "wf/formats/checkpoint.h"

namespace wf {
namespace {

using test::Bytes;
using test::TempDir;

const std::string kConfig = R"({"model_type":"bitnet"})";

// A name with its 32-bit length.
std::string Name(const std::string& s) { return Bytes().U32(static_cast<uint32_t>(s.size())).Raw(s).s; }
Bytes Head(uint32_t tensors, uint32_t version = 1) {
  Bytes b;
  b.Raw("SGLBITNT").U32(version).Raw(Name(kConfig)).U32(tensors);
  return b;
}
// A packed weight [2, 32] with scale 0.5, and two floats in bf16.
std::string TwoTensors() {
  Bytes b = Head(2);
  b.Raw(Name("q.weight")).U32(0).U32(2).U32(2).U32(32).U32(1).F32(0.5f).U64(64).Raw(std::string(64, '\x55'));
  b.Raw(Name("norm")).U32(3).U32(1).U32(2).U32(0).U64(4).U32(0x3f803f80);
  return b.s;
}

void Refuses(const std::string& bytes, ErrorCode code, const std::string& message) {
  const Result<Checkpoint> c = Checkpoint::ParseSgl(bytes, "m.bin");
  INFO("expected: " << message);
  REQUIRE_FALSE(c.ok());
  CHECK(c.status().message() == "m.bin: " + message);
  CHECK(ErrorName(c.status().code()) == std::string(ErrorName(code)));
}
// The same for a file of one tensor that begins so.
void RefusesTensor(const Bytes& tensor, ErrorCode code, const std::string& message) {
  Refuses(Head(1).s + tensor.s, code, message);
}

TEST_CASE("sgl: tensors, scales and the configuration are read") {
  const std::string file = TwoTensors();
  for (const Result<Checkpoint>& c : {Checkpoint::Parse(file, "m.bin"), Checkpoint::ParseSgl(file, "m.bin")}) {
    INFO(c.status().message());
    REQUIRE(c.ok());
    CHECK(c->config_json() == kConfig);
    REQUIRE(c->tensors().size() == 2);
    const CheckpointTensor& q = *c->Find("q.weight");
    CHECK(q.type == ElementType::kU8);
    CHECK(q.shape == std::vector<uint64_t>{2, 32});
    CHECK(q.scale == 0.5f);
    CHECK(q.bytes == 64);
    CHECK(q.data[63] == 0x55);
    CHECK(q.data == reinterpret_cast<const uint8_t*>(file.data()) + q.file_offset);
    const CheckpointTensor& norm = *c->Find("norm");
    CHECK(norm.type == ElementType::kBF16);
    CHECK_FALSE(norm.scale);
    CHECK(LoadLe<uint16_t>(norm.data + 2) == 0x3f80);
  }
  CHECK(Checkpoint::ParseSgl(Head(0).s, "empty")->tensors().empty());
}

TEST_CASE("sgl: all types, scalars and empty dimensions") {
  Bytes b = Head(5);
  b.Raw(Name("u8")).U32(0).U32(1).U32(3).U32(0).U64(3).Raw("abc");
  b.Raw(Name("f32")).U32(1).U32(0).U32(0).U64(4).F32(1);
  b.Raw(Name("f16")).U32(2).U32(1).U32(1).U32(0).U64(2).Raw("ab");
  b.Raw(Name("bf16")).U32(3).U32(3).U32(1).U32(1).U32(1).U32(0).U64(2).Raw("ab");
  b.Raw(Name("none")).U32(1).U32(2).U32(0).U32(7).U32(0).U64(0);
  const Result<Checkpoint> c = Checkpoint::ParseSgl(b.s, "m.bin");
  INFO(c.status().message());
  REQUIRE(c.ok());
  CHECK(c->Find("u8")->type == ElementType::kU8);
  CHECK(c->Find("f32")->type == ElementType::kF32);
  CHECK(c->Find("f32")->elements() == 1);
  CHECK(c->Find("f16")->type == ElementType::kF16);
  CHECK(c->Find("bf16")->type == ElementType::kBF16);
  CHECK(c->Find("none")->elements() == 0);
}

TEST_CASE("sgl: every truncation and every byte more is refused") {
  const std::string file = TwoTensors();
  for (size_t n = 0; n < file.size(); ++n) {
    INFO("cut at byte " << n);
    REQUIRE_FALSE(Checkpoint::ParseSgl(file.substr(0, n), "cut").ok());
  }
  Refuses(file + "x", ErrorCode::kFormat, "1 bytes after the last tensor (offset " + std::to_string(file.size()) + ")");
}

TEST_CASE("sgl refuses: headers that lie") {
  Refuses("SGLBITNX" + TwoTensors().substr(8), ErrorCode::kFormat, "expected 'SGLBITNT', found 'SGLBITNX' (offset 0)");
  Refuses(Head(0, 2).s, ErrorCode::kUnsupported, "version: expected 1, found 2 (offset 8)");
  Refuses(Bytes().Raw("SGLBITNT").U32(1).U32(0xffffffff).s, ErrorCode::kLimit,
          "configuration: expected at most 16777216 bytes, found 4294967295 (offset 12)");
  Refuses(Bytes().Raw("SGLBITNT").U32(1).U32(16).Raw("{}").s, ErrorCode::kFormat,
          "truncated at offset 16: the configuration needs 16 bytes, 2 left");
  Refuses(Head(0xffffffff).s, ErrorCode::kFormat, "4294967295 tensors do not fit the 0 bytes that follow (offset 39)");
}

TEST_CASE("sgl refuses: tensors that contradict themselves") {
  const std::string t = "tensor 't': ";
  Bytes huge;
  huge.Raw(Name("t")).U32(0).U32(8);
  for (int i = 0; i < 8; ++i) huge.U32(0xffffffff);
  RefusesTensor(huge.U32(0).U64(0), ErrorCode::kFormat, t + "the shape's number of elements overflows (offset 43)");
  RefusesTensor(Bytes().Raw(Name("t")).U32(1).U32(1).U32(2).U32(0).U64(7).Zeros(8), ErrorCode::kFormat,
                t + "shape and dtype expected 8 bytes, found 7 (offset 43)");
  RefusesTensor(Bytes().Raw(Name("t")).U32(1).U32(1).U32(2).U32(0).U64(8).Zeros(7), ErrorCode::kFormat,
                t + "truncated at offset 72: the data needs 8 bytes, 7 left");
  RefusesTensor(Bytes().Raw(Name("t")).U32(4).Zeros(24), ErrorCode::kUnsupported,
                t + "expected dtype 0 to 3, found 4 (offset 43)");
  RefusesTensor(Bytes().Raw(Name("t")).U32(1).U32(9).Zeros(24), ErrorCode::kLimit,
                t + "expected at most 8 dimensions, found 9 (offset 43)");
  RefusesTensor(Bytes().Raw(Name("t")).U32(1).U32(0).U32(2).Zeros(24), ErrorCode::kFormat,
                t + "expected has_scale 0 or 1, found 2 (offset 43)");
  RefusesTensor(Bytes().Raw(Name("t")).U32(1).U32(0).U32(1).F32(std::numeric_limits<float>::quiet_NaN()).Zeros(24),
                ErrorCode::kFormat, t + "expected a finite scale, found another (offset 43)");
  RefusesTensor(Bytes().Raw(Name("")).Zeros(24), ErrorCode::kFormat,
                "tensor '': expected a name of 1 to 4096 bytes, found 0 (offset 43)");
  RefusesTensor(Bytes().U32(0xffffffff).Zeros(24), ErrorCode::kFormat,
                "truncated at offset 47: the name needs 4294967295 bytes, 24 left");
  const std::string one = Bytes().Raw(Name("t")).U32(0).U32(1).U32(1).U32(0).U64(1).Raw("x").s;
  Refuses(Head(2).s + one + one, ErrorCode::kFormat, "tensor 't' is in it twice");
}

std::vector<SglTensor> Table() {
  return {{"q.weight", ElementType::kU8, {2, 32}, 0.5f}, {"norm", ElementType::kBF16, {2}, {}}};
}

TEST_CASE("sgl writer: the same bytes as a file built by hand, however the data is split") {
  const TempDir dir;
  const std::string data = std::string(64, '\x55') + std::string("\x80\x3f\x80\x3f", 4);
  for (const size_t piece : {size_t{64}, size_t{1}, size_t{7}}) {
    SglWriter w;
    REQUIRE(w.Begin(dir / "m.bin", kConfig, Table()).ok());
    CHECK(test::ReadFile(w.temp_path()).empty());  // until it is flushed
    REQUIRE(w.Flush().ok());
    CHECK(TwoTensors().find(test::ReadFile(w.temp_path())) == 0);
    for (size_t at = 0; at < 64; at += piece) {
      REQUIRE(w.WriteTensorData(data.data() + at, std::min(piece, 64 - at)).ok());
    }
    REQUIRE(w.WriteTensorData(data.data() + 64, 4).ok());
    REQUIRE(w.Finish().ok());
    CHECK(test::ReadFile(dir / "m.bin") == TwoTensors());
    CHECK(w.FileBytes() == TwoTensors().size());
  }
  CHECK(dir.Names() == std::vector<std::string>{"m.bin"});
  const Result<Checkpoint> c = Checkpoint::Open(dir / "m.bin");
  REQUIRE(c.ok());
  CHECK(c->Find("q.weight")->scale == 0.5f);
}

TEST_CASE("sgl writer: a scale may be known only when its tensor's data is") {
  const TempDir dir;
  SglWriter w;
  std::vector<SglTensor> table = Table();
  table[0].scale = 0.0f;
  REQUIRE(w.Begin(dir / "m.bin", kConfig, table).ok());
  CHECK(w.SetScale(0, 0.5f).ok());
  CHECK(w.SetScale(1, 0.5f).message() == "tensor 'norm': its scale was not announced to Begin()");
  CHECK(w.SetScale(2, 0.5f).code() == ErrorCode::kInvalidArgument);
  CHECK(w.SetScale(0, std::numeric_limits<float>::infinity()).message() ==
        "tensor 'q.weight': expected a finite scale, found another");
  REQUIRE(w.WriteTensorData(std::string(64, '\x55').data(), 64).ok());
  CHECK(w.SetScale(0, 0.25f).message() == "tensor 'q.weight': its scale is written");
  REQUIRE(w.WriteTensorData("\x80\x3f\x80\x3f", 4).ok());
  REQUIRE(w.Finish().ok());
  CHECK(test::ReadFile(dir / "m.bin") == TwoTensors());
}

TEST_CASE("sgl writer: tensors without data, and none at all") {
  const TempDir dir;
  SglWriter w;
  const std::vector<SglTensor> table = {
      {"a", ElementType::kF32, {0}, {}}, {"b", ElementType::kF32, {}, {}}, {"c", ElementType::kF32, {0, 3}, 2.0f}};
  REQUIRE(w.Begin(dir / "m.bin", "", table).ok());
  REQUIRE(w.WriteTensorData("\0\0\x80\x3f", 4).ok());
  REQUIRE(w.Finish().ok());
  const Result<Checkpoint> c = Checkpoint::Open(dir / "m.bin");
  INFO(c.status().message());
  REQUIRE(c.ok());
  CHECK(c->tensors().size() == 3);
  CHECK(c->Find("c")->scale == 2.0f);
  CHECK(LoadLe<float>(c->Find("b")->data) == 1.0f);
  SglWriter none;
  REQUIRE(none.Begin(dir / "none.bin", "{}", {}).ok());
  REQUIRE(none.Finish().ok());
  CHECK(Checkpoint::Open(dir / "none.bin")->config_json() == "{}");
}

TEST_CASE("sgl writer refuses: what the reader would refuse, before there is a file") {
  const TempDir dir;
  const auto refuses = [&](const SglTensor& t, const std::string& message) {
    SglWriter w;
    const Status s = w.Begin(dir / "m.bin", "{}", {t});
    CHECK(s.code() == ErrorCode::kInvalidArgument);
    CHECK(s.message() == (dir / "m.bin") + ": " + message);
    CHECK(dir.Names().empty());
  };
  refuses({"t", ElementType::kI8, {1}, {}}, "tensor 't': expected U8, F32, F16 or BF16, found I8");
  refuses({"", ElementType::kF32, {1}, {}}, "tensor '': expected a name of 1 to 4096 bytes, found 0");
  refuses({"t", ElementType::kF32, {uint64_t{1} << 32}, {}},
          "tensor 't': expected dimensions below 2^32, found 4294967296");
  refuses({"t", ElementType::kF32, std::vector<uint64_t>(9, 1), {}},
          "tensor 't': expected at most 8 dimensions, found 9");
  refuses({"t", ElementType::kU8, {1}, std::numeric_limits<float>::infinity()},
          "tensor 't': expected a finite scale, found another");
  refuses({"t", ElementType::kF32, {0xffffffff, 0xffffffff}, {}}, "tensor 't': the size in bytes overflows");
  SglWriter w;
  const SglTensor one{"t", ElementType::kU8, {1}, {}};
  CHECK(w.Begin(dir / "m.bin", "{}", {one, one}).message() == (dir / "m.bin") + ": tensor 't' is given twice");
}

TEST_CASE("sgl writer: too much, too little or too late is an error and leaves no file") {
  const TempDir dir;
  CHECK(SglWriter().WriteTensorData("x", 1).code() == ErrorCode::kInvalidArgument);
  CHECK(SglWriter().Finish().code() == ErrorCode::kInvalidArgument);
  {
    SglWriter w;
    REQUIRE(w.Begin(dir / "m.bin", kConfig, Table()).ok());
    CHECK(w.Begin(dir / "m.bin", kConfig, Table()).code() == ErrorCode::kInvalidArgument);
    CHECK(w.WriteTensorData(std::string(65, 'x').data(), 65).message() ==
          "tensor 'q.weight': expected 64 bytes, found 0 and then 65");
    CHECK(w.Finish().message() == "tensor 'q.weight': expected 64 bytes, found 0");
    REQUIRE(w.WriteTensorData(std::string(64, 'x').data(), 64).ok());
    REQUIRE(w.WriteTensorData("1234", 4).ok());
    CHECK(w.WriteTensorData("5", 1).message() == "1 bytes of data after the last tensor");
  }
  CHECK(dir.Names().empty());
  SglWriter nowhere;
  CHECK(nowhere.Begin(dir / "none/m.bin", "{}", {}).code() == ErrorCode::kNotFound);
}

TEST_CASE("sgl writer: a full disk is an error that names the file, and leaves the older file alone") {
  const TempDir dir;
  test::WriteFile(dir / "m.bin", "older");
  SglWriter w;
  REQUIRE(w.Begin(dir / "m.bin", "{}", {{"t", ElementType::kU8, {4u << 20}, {}}}).ok());
  const std::string data(4u << 20, 'x');
  Status s;
  {
    const test::FileSizeLimit limit(1u << 20);
    s = w.WriteTensorData(data.data(), data.size());
  }
  CHECK(s.code() == ErrorCode::kIo);
  CHECK(s.message().find(dir / "m.bin") == 0);
  CHECK(dir.Names() == std::vector<std::string>{"m.bin"});
  CHECK(test::ReadFile(dir / "m.bin") == "older");
}

}  // namespace
}  // namespace wf
