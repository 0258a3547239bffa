// SPDX-License-Identifier: Apache-2.0
// The GGUF writer: bytes as formats.md 1.1 gives them, refusals before anything is written, and no file left
// by an error.
#include "wf/formats/gguf_writer.h"

#include <sys/stat.h>

#include "tests/catch.h"
#include "tests/formats/gguf_bytes.h"
#include "tests/scratch.h"

namespace wf {
namespace {

using test::Bytes;
using test::TempDir;

std::string BytesOf(const std::vector<float>& v) {
  return {reinterpret_cast<const char*>(v.data()), v.size() * sizeof(float)};
}
const std::string kNorm = BytesOf({1.0f, 2.0f});
const std::string kWeight = test::FromHex("0000003c0040004200440045");  // f16 0 to 5

GgufWriter ExampleWriter() {
  GgufWriter w;
  w.SetString("general.architecture", "llama");
  w.SetU32("llama.block_count", 1);
  w.SetF32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  w.SetStrings("tokenizer.ggml.tokens", {"a",
                                         "\xc4\xa0"
                                         "b"});
  w.SetBool("tokenizer.ggml.add_bos_token", true);
  w.AddTensor("output_norm.weight", TensorType::kF32, {2});
  w.AddTensor("t.weight", TensorType::kF16, {3, 2});
  return w;
}

TEST_CASE("GGUF writer: the worked example of formats.md 1.1, byte for byte") {
  const TempDir dir;
  GgufWriter w = ExampleWriter();
  CHECK(*w.FileBytes() == 448);
  REQUIRE(w.Begin(dir / "a.gguf").ok());
  REQUIRE(w.WriteTensorData(kNorm.data(), kNorm.size()).ok());
  REQUIRE(w.WriteTensorData(kWeight.data(), kWeight.size()).ok());
  REQUIRE(w.Finish().ok());
  CHECK(test::ReadFile(dir / "a.gguf") == test::WorkedExample());
  CHECK(dir.Names() == std::vector<std::string>{"a.gguf"});
}

TEST_CASE("GGUF writer: data split anywhere gives the same file") {
  const TempDir dir;
  for (size_t step = 1; step <= kWeight.size(); ++step) {
    GgufWriter w = ExampleWriter();
    REQUIRE(w.Begin(dir / "a.gguf").ok());
    for (const std::string* data : {&kNorm, &kWeight}) {
      for (size_t i = 0; i < data->size(); i += step) {
        REQUIRE(w.WriteTensorData(data->data() + i, std::min(step, data->size() - i)).ok());
        REQUIRE(w.WriteTensorData(nullptr, 0).ok());
      }
    }
    REQUIRE(w.Finish().ok());
    REQUIRE(test::ReadFile(dir / "a.gguf") == test::WorkedExample());
  }
}

TEST_CASE("GGUF writer: what it writes of every kind, the reader gives back") {
  const TempDir dir;
  GgufWriter w;
  w.SetU32("u32", 0xffffffffu);
  w.SetI32("i32", -5);
  w.SetU64("u64", ~uint64_t{0});
  w.SetF32("f32", -0.25f);
  w.SetBool("no", false);
  w.SetString("s", std::string("a\0b", 3));
  w.SetString("empty", "");
  w.SetStrings("strings", {"", "x"});
  w.SetStrings("no strings", {});
  w.SetI32s("i32s", {-1, 2});
  w.SetU32s("u32s", {1, 0xffffffffu});
  w.SetF32s("f32s", {1.5f, -2.0f});
  w.SetF32s("no f32s", {});
  w.AddTensor("scalar", TensorType::kF32, {});
  w.AddTensor("i2s", TensorType::kI2_S, {64, 2, 1, 1});
  const float scalar = 3.0f;
  std::string i2s(64, '\x55');
  REQUIRE(w.Begin(dir / "a.gguf").ok());
  REQUIRE(w.WriteTensorData(&scalar, 4).ok());
  REQUIRE(w.WriteTensorData(i2s.data(), i2s.size()).ok());
  REQUIRE(w.Finish().ok());

  const Result<Gguf> g = Gguf::Open(dir / "a.gguf");
  INFO(g.status().message());
  REQUIRE(g.ok());
  CHECK(g->file_bytes() == *w.FileBytes());
  CHECK(*g->GetUint("u32") == 0xffffffffu);
  CHECK(*g->GetInt("i32") == -5);
  CHECK(*g->GetUint("u64") == ~uint64_t{0});
  CHECK(*g->GetFloat("f32") == -0.25);
  CHECK_FALSE(*g->GetBool("no"));
  CHECK(*g->GetString("s") == std::string_view("a\0b", 3));
  CHECK(g->GetString("empty")->empty());
  CHECK(*g->GetStringArray("strings") == std::vector<std::string_view>{"", "x"});
  CHECK(g->GetStringArray("no strings")->empty());
  CHECK(*g->GetIntArray("i32s") == std::vector<int64_t>{-1, 2});
  CHECK(*g->GetIntArray("u32s") == std::vector<int64_t>{1, 0xffffffffll});
  CHECK(*g->GetFloatArray("f32s") == std::vector<float>{1.5f, -2.0f});
  CHECK(g->GetFloatArray("no f32s")->empty());
  CHECK(g->FindTensor("scalar")->n_dims == 0);
  CHECK(LoadLe<float>(g->FindTensor("scalar")->data) == 3.0f);
  CHECK(g->FindTensor("i2s")->n_dims == 4);
  CHECK(std::string_view(reinterpret_cast<const char*>(g->FindTensor("i2s")->data), 64) == i2s);
}

TEST_CASE("GGUF writer: raw values of another file are copied, general.alignment takes effect") {
  Bytes kv;
  kv.Str("general.alignment").U32(4).U32(64).Str("f64").U32(12).Put<double>(0.1).Str("a").U32(9).U32(3).U64(2);
  kv.Put<int16_t>(-1).Put<int16_t>(2);
  const std::string source = test::GgufFile({{"t", {3}, 0, 0}, {"u", {1}, 0, 64}}, 128, 3, kv.s, 64);
  const Result<Gguf> from = Gguf::Parse(source, "source.gguf");
  REQUIRE(from.ok());
  const TempDir dir;
  GgufWriter w;
  for (const GgufValue& v : from->values()) w.SetRaw(v);
  for (const GgufTensor& t : from->tensors()) w.AddTensor(t.name, t.type, {t.ne, t.ne + t.n_dims});
  REQUIRE(w.Begin(dir / "copy.gguf").ok());
  for (const GgufTensor& t : from->tensors()) REQUIRE(w.WriteTensorData(t.data, t.bytes).ok());
  REQUIRE(w.Finish().ok());
  CHECK(test::ReadFile(dir / "copy.gguf") == source);
}

TEST_CASE("GGUF writer: no tensors is a file") {
  const TempDir dir;
  GgufWriter w;
  w.SetU32("a", 1);
  CHECK(*w.FileBytes() == 64);
  REQUIRE(w.Begin(dir / "a.gguf").ok());
  REQUIRE(w.Finish().ok());
  CHECK(test::ReadFile(dir / "a.gguf").size() == 64);
  CHECK(Gguf::Open(dir / "a.gguf").ok());
}

TEST_CASE("GGUF writer: refuses what the reader would refuse, before there is a file") {
  const auto refuses = [](GgufWriter& w, const std::string& message) {
    const TempDir dir;
    const Status size = w.FileBytes().status();
    CHECK(size.code() == ErrorCode::kInvalidArgument);
    CHECK(size.message() == message);
    const Status begin = w.Begin(dir / "a.gguf");
    CHECK(begin.code() == ErrorCode::kInvalidArgument);
    CHECK(begin.message() == dir / "a.gguf" + ": " + message);
    CHECK(dir.Names().empty());
  };
  const auto tensor = [&](const std::string& name, TensorType type, const std::vector<uint64_t>& ne,
                          const std::string& message) {
    GgufWriter w;
    w.AddTensor(name, type, ne);
    refuses(w, message);
  };
  tensor("", TensorType::kF32, {1}, "GGUF tensor '': expected a name of 1 to 63 bytes, found 0");
  tensor(std::string(64, 'n'), TensorType::kF32, {1},
         "GGUF tensor '" + std::string(64, 'n') + "': expected a name of 1 to 63 bytes, found 64");
  tensor("t", TensorType::kF32, {1, 1, 1, 1, 1}, "GGUF tensor 't': expected at most 4 dimensions, found 5");
  tensor("t", TensorType::kF32, {0}, "GGUF tensor 't': expected dimensions of at least 1, found {0, 1, 1, 1}");
  tensor("t", TensorType::kI2_S, {100}, "GGUF tensor 't': I2_S: expected a multiple of 128 elements, found 100");
  tensor("t", TensorType::kI2_S, {576, 3}, "GGUF tensor 't': I2_S: expected a multiple of 128 elements, found 1728");
  tensor("t", TensorType::kTQ2_0, {576},
         "GGUF tensor 't': TQ2_0: expected rows of a multiple of 256 elements, found 576");
  tensor("t", static_cast<TensorType>(99), {1}, "GGUF tensor 't': unknown tensor type 99");
  tensor("t", TensorType::kF32, {uint64_t{1} << 62},
         "GGUF tensor 't': F32: the size in bytes overflows, found dimensions {4611686018427387904, 1, 1, 1}");
  GgufWriter big;
  for (const char* name : {"a", "b", "c"}) big.AddTensor(name, TensorType::kI8, {(uint64_t{1} << 63) - 1});
  refuses(big, "GGUF tensor 'b': the file's size overflows");
  GgufWriter tensors;
  for (const char* name : {"t", "u", "t"}) tensors.AddTensor(name, TensorType::kF32, {1});
  refuses(tensors, "GGUF tensor 't' is added twice");
  GgufWriter keys;
  for (const char* key : {"a", "b", "a"}) keys.SetU32(key, 1);
  refuses(keys, "GGUF key 'a' is set twice");
  GgufWriter empty;
  empty.SetU32("", 1);
  refuses(empty, "GGUF metadata: the key is empty");
  GgufWriter long_key;
  long_key.SetU32(std::string(65537, 'k'), 1);
  refuses(long_key, "GGUF metadata: expected a key of at most 65536 bytes, found 65537");
  GgufWriter long_string;
  long_string.SetString("s", std::string((16u << 20) + 1, 's'));
  refuses(long_string, "GGUF key 's': expected a string of at most 16777216 bytes, found 16777217");
  GgufWriter alignment;
  alignment.SetU32("general.alignment", 24);
  refuses(alignment, "key 'general.alignment': expected a power of two from 8 to 1048576, found 24 (offset 0)");
  GgufWriter many;
  for (int i = 0; i <= 65536; ++i) many.SetU32(std::to_string(i), 1);
  refuses(many, "GGUF: expected at most 65536 keys and 65536 tensors, found 65537 and 0");
}

TEST_CASE("GGUF writer: refuses raw values that contradict themselves") {
  const auto refuses = [](GgufValue v, const std::string& message) {
    v.key = "k";
    GgufWriter w;
    w.SetRaw(v);
    CHECK(w.FileBytes().status().message() == "GGUF key 'k': " + message);
  };
  GgufValue v;
  v.type = v.element = GgufValueType::kU32;
  v.raw = "123";
  refuses(v, "truncated at offset 0: 1 values of type u32 need at least 4 bytes each, 3 left");
  v.raw = "12345";
  refuses(v, "1 bytes too many");
  v.type = GgufValueType::kArray;
  v.count = 2;
  v.raw = "1234";
  refuses(v, "truncated at offset 0: 2 values of type u32 need at least 4 bytes each, 4 left");
  v.element = GgufValueType::kArray;
  refuses(v, "its type cannot be written");
  v.type = static_cast<GgufValueType>(13);
  refuses(v, "its type cannot be written");
  v.type = v.element = GgufValueType::kBool;
  v.raw = "2";
  refuses(v, "bool: expected 0 or 1, found 50 (offset 0)");
}

TEST_CASE("GGUF writer: too much, too little or too late is an error and leaves no file") {
  const TempDir dir;
  {
    GgufWriter w = ExampleWriter();
    CHECK(w.WriteTensorData(kNorm.data(), 1).code() == ErrorCode::kInvalidArgument);  // before Begin
    CHECK(w.Finish().code() == ErrorCode::kInvalidArgument);
    CHECK(w.Flush().code() == ErrorCode::kInvalidArgument);
    CHECK(w.temp_path().empty());
    REQUIRE(w.Begin(dir / "a.gguf").ok());
    CHECK(w.Begin(dir / "b.gguf").code() == ErrorCode::kInvalidArgument);
    const std::string nine(9, 'x');
    CHECK(w.WriteTensorData(nine.data(), 9).message() ==
          "GGUF tensor 'output_norm.weight': expected 8 bytes, found 0 and then 9");
    REQUIRE(w.WriteTensorData(kNorm.data(), 5).ok());
    CHECK(w.WriteTensorData(kNorm.data(), 4).message() ==
          "GGUF tensor 'output_norm.weight': expected 8 bytes, found 5 and then 4");
    CHECK(w.Finish().message() == "GGUF tensor 'output_norm.weight': expected 8 bytes, found 5");
    REQUIRE(w.WriteTensorData(kNorm.data(), 3).ok());
    CHECK(w.Finish().message() == "GGUF tensor 't.weight': expected 12 bytes, found 0");
    CHECK_FALSE(std::filesystem::exists(dir / "a.gguf"));
    CHECK(dir.Names().size() == 1);  // the temporary file
  }
  CHECK(dir.Names().empty());
  {
    GgufWriter w = ExampleWriter();
    REQUIRE(w.Begin(dir / "a.gguf").ok());
    REQUIRE(w.WriteTensorData(kNorm.data(), kNorm.size()).ok());
    REQUIRE(w.WriteTensorData(kWeight.data(), kWeight.size()).ok());
    CHECK(w.WriteTensorData(kNorm.data(), 1).message() == "GGUF: 1 bytes of data after the last tensor");
    w.SetU32("late", 1);
    CHECK(w.Finish().message() == "GGUF key 'late' is set after Begin()");
  }
  CHECK(dir.Names().empty());
}

TEST_CASE("GGUF writer: what is written can be read back before Finish") {
  const TempDir dir;
  GgufWriter w = ExampleWriter();
  REQUIRE(w.Begin(dir / "a.gguf").ok());
  REQUIRE(w.WriteTensorData(kNorm.data(), kNorm.size()).ok());
  REQUIRE(w.WriteTensorData(kWeight.data(), kWeight.size()).ok());
  REQUIRE(w.Flush().ok());
  {
    const Result<Gguf> g = Gguf::Open(w.temp_path());
    REQUIRE(g.ok());
    CHECK(g->tensors().size() == 2);
  }
  REQUIRE(w.Finish().ok());
  CHECK(w.temp_path().empty());
}

TEST_CASE("GGUF writer: a full disk is an error that names the file, and leaves the older file alone") {
  const TempDir dir;
  test::WriteFile(dir / "a.gguf", "older");
  const std::string data(3u << 20, 'x');
  Status begin, first, second, finish;
  std::vector<std::string> after;
  {
    GgufWriter w;
    w.AddTensor("a", TensorType::kI8, {3u << 20});
    w.AddTensor("b", TensorType::kI8, {3u << 20});
    const test::FileSizeLimit limit(4u << 20);
    begin = w.Begin(dir / "a.gguf");
    first = w.WriteTensorData(data.data(), data.size());
    second = w.WriteTensorData(data.data(), data.size());
    after = dir.Names();
    finish = w.Finish();
  }
  CHECK(begin.ok());
  CHECK(first.ok());
  CHECK(second.code() == ErrorCode::kIo);
  CHECK(second.message().find(dir / "a.gguf") == 0);
  CHECK(second.message().find("File too large") != std::string::npos);
  CHECK(after == std::vector<std::string>{"a.gguf"});  // gone at the error, not only at the end
  CHECK(finish.code() == ErrorCode::kInvalidArgument);
  CHECK(test::ReadFile(dir / "a.gguf") == "older");
}

TEST_CASE("GGUF writer: a full disk is noticed for small files too, by Finish") {
  const TempDir dir;
  Status status;
  {
    GgufWriter w = ExampleWriter();
    const test::FileSizeLimit limit(100);
    status = w.Begin(dir / "a.gguf");
    if (status.ok()) status = w.WriteTensorData(kNorm.data(), kNorm.size());
    if (status.ok()) status = w.WriteTensorData(kWeight.data(), kWeight.size());
    if (status.ok()) status = w.Finish();
  }
  CHECK(status.code() == ErrorCode::kIo);
  CHECK(dir.Names().empty());
}

TEST_CASE("GGUF writer: a folder that does not exist is an error of Begin") {
  const TempDir dir;
  GgufWriter w = ExampleWriter();
  const Status s = w.Begin(dir / "none/a.gguf");
  CHECK(s.code() == ErrorCode::kNotFound);
  CHECK(s.message().find("none/a.gguf: cannot create: No such file or directory") != std::string::npos);
}

}  // namespace
}  // namespace wf
