// SPDX-License-Identifier: Apache-2.0
// The safetensors reader against the rules of formats.md 7.1: the tiny example, every refusal with its
// message, and sharded folders with lying indexes.
#include <filesystem>

#include "tests/catch.h"
#include "tests/formats/gguf_bytes.h"
#include "tests/scratch.h"
#include "wf/base/bytes.h"
#include "wf/formats/checkpoint.h"

namespace wf {
namespace {

using test::Bytes;
using test::TempDir;
using test::WriteFile;

// A file with this header text and `data` bytes of tensor data.
std::string File(const std::string& header, size_t data) { return Bytes().Str(header).Zeros(data).s; }
// One F32 tensor of one element: 4 bytes.
std::string OneTensor(const std::string& name) {
  return File("{\"" + name + R"(":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4);
}

Checkpoint MustParse(const std::string& bytes) {
  Result<Checkpoint> s = Checkpoint::ParseSafetensors(bytes, "t.safetensors");
  INFO(s.status().message());
  REQUIRE(s.ok());
  return *std::move(s);
}

// The message without a last " (offset N)". For JSON the parser decides whether N is the place before or
// after the offending token, so N only has to lie in the file.
std::string Said(const Status& s, size_t file_bytes) {
  const std::string& m = s.message();
  const size_t at = m.rfind(" (offset ");
  if (at == std::string::npos || m.back() != ')') return m;
  CHECK(std::stoull(m.substr(at + 9)) <= file_bytes);
  return m.substr(0, at);
}

void Refuses(const std::string& bytes, ErrorCode code, const std::string& message) {
  const Result<Checkpoint> s = Checkpoint::ParseSafetensors(bytes, "bad.safetensors");
  INFO("expected: " << message);
  REQUIRE_FALSE(s.ok());
  CHECK(ErrorName(s.status().code()) == std::string(ErrorName(code)));
  CHECK(Said(s.status(), bytes.size()) == "bad.safetensors: " + message);
}
// The same for a header; its data section is empty.
void RefusesHeader(const std::string& header, const std::string& message, size_t data = 0) {
  Refuses(File(header, data), ErrorCode::kFormat, message);
}

const std::string kTiny = test::FromHex(
    "36000000000000007b2261223a7b226474797065223a22463136222c22736861"
    "7065223a5b325d2c22646174615f6f666673657473223a5b302c345d7d7d003c"
    "0040");

TEST_CASE("safetensors: the tiny example of formats.md 7.1") {
  const Checkpoint s = MustParse(kTiny);
  REQUIRE(s.tensors().size() == 1);
  const CheckpointTensor* a = s.Find("a");
  REQUIRE(a != nullptr);
  CHECK(a->type == ElementType::kF16);
  CHECK(a->shape == std::vector<uint64_t>{2});
  CHECK(a->elements() == 2);
  CHECK(a->bytes == 4);
  CHECK(a->file_offset == 62);
  CHECK(a->shard == 0);
  CHECK(LoadLe<uint16_t>(a->data) == 0x3c00);
  CHECK(LoadLe<uint16_t>(a->data + 2) == 0x4000);
  CHECK(s.shards() == std::vector<std::string>{"t.safetensors"});
  CHECK(s.warnings().empty());
  CHECK(s.Find("b") == nullptr);
  CHECK(s.Find("") == nullptr);
  s.Release(*a);  // nothing to release without a mapping
}

TEST_CASE("safetensors: every truncation of a file is refused") {
  for (size_t n = 0; n < kTiny.size(); ++n) {
    const std::string cut = kTiny.substr(0, n);
    const Result<Checkpoint> s = Checkpoint::ParseSafetensors(cut, "cut");
    INFO("cut at byte " << n);
    REQUIRE_FALSE(s.ok());
    REQUIRE(s.status().message().find("truncated") != std::string::npos);
  }
}

TEST_CASE("safetensors: scalars, empty dimensions, metadata, padding and any order of keys") {
  const Checkpoint s =
      MustParse(File(R"({"__metadata__":{"format":"pt","x":""},)"
                     R"("z":{"data_offsets":[4,8],"shape":[],"dtype":"F32"},)"
                     R"("m":{"dtype":"I8","shape":[3,0],"data_offsets":[4,4]},)"
                     R"( "b" : { "dtype" : "BF16" , "shape" : [ 2, 1 ] , "data_offsets" : [ 0, 4 ] } })"
                     "     ",
                     8));
  REQUIRE(s.tensors().size() == 3);
  CHECK(s.tensors()[0].name == "b");  // by name
  CHECK(s.tensors()[1].name == "m");
  CHECK(s.tensors()[2].name == "z");
  CHECK(s.Find("z")->elements() == 1);
  CHECK(s.Find("m")->elements() == 0);
  CHECK(s.Find("m")->bytes == 0);
  CHECK(s.Find("b")->shape == std::vector<uint64_t>{2, 1});
  CHECK(MustParse(File("{}", 0)).tensors().empty());
  CHECK(MustParse(File(R"({"__metadata__":{}})", 0)).tensors().empty());
}

TEST_CASE("safetensors: all types that are read, with their sizes") {
  struct Row {
    const char* name;
    ElementType type;
    uint32_t bytes;
  };
  const Row rows[] = {{"F32", ElementType::kF32, 4},  {"F16", ElementType::kF16, 2}, {"BF16", ElementType::kBF16, 2},
                      {"U8", ElementType::kU8, 1},    {"I8", ElementType::kI8, 1},   {"I16", ElementType::kI16, 2},
                      {"I32", ElementType::kI32, 4},  {"I64", ElementType::kI64, 8}, {"U16", ElementType::kU16, 2},
                      {"U32", ElementType::kU32, 4},  {"U64", ElementType::kU64, 8}, {"F64", ElementType::kF64, 8},
                      {"BOOL", ElementType::kBool, 1}};
  for (const Row& row : rows) {
    const std::string n = std::to_string(row.bytes * 6);
    const Checkpoint s = MustParse(
        File(std::string(R"({"t":{"dtype":")") + row.name + R"(","shape":[2,3],"data_offsets":[0,)" + n + "]}}",
             row.bytes * 6));
    CHECK(s.tensors()[0].type == row.type);
    CHECK(s.tensors()[0].bytes == row.bytes * 6);
    CHECK(ElementTypeName(row.type) == std::string(row.name));
    CHECK(ElementTypeBytes(row.type) == row.bytes);
  }
}

TEST_CASE("safetensors: other types are refused by name") {
  for (const char* name : {"F8_E5M2", "F8_E4M3", "F8_E8M0", "C64", "F4", "F6_E2M3", "F6_E3M2"}) {
    Refuses(File(std::string(R"({"t":{"dtype":")") + name + R"(","shape":[0],"data_offsets":[0,0]}})", 0),
            ErrorCode::kUnsupported, std::string("tensor 't': dtype ") + name + " is not supported");
  }
  RefusesHeader(R"({"t":{"dtype":"f32","shape":[0],"data_offsets":[0,0]}})", "tensor 't': unknown dtype 'f32'");
}

TEST_CASE("safetensors refuses: lengths of the header") {
  Refuses("", ErrorCode::kFormat, "file truncated, expected >= 8 bytes (the header's length), found 0");
  Refuses("1234567", ErrorCode::kFormat, "file truncated, expected >= 8 bytes (the header's length), found 7");
  Refuses(Bytes().U64(0).Raw("{}").s, ErrorCode::kFormat, "header length: expected at least 2, found 0");
  Refuses(Bytes().U64(1).Raw("{}").s, ErrorCode::kFormat, "header length: expected at least 2, found 1");
  Refuses(Bytes().U64(3).Raw("{}").s, ErrorCode::kFormat,
          "file truncated, expected >= 11 bytes (the header), found 10");
  Refuses(Bytes().U64(100'000'000).Raw("{}").s, ErrorCode::kFormat,
          "file truncated, expected >= 100000008 bytes (the header), found 10");
  Refuses(Bytes().U64(100'000'001).Raw("{}").s, ErrorCode::kLimit,
          "header length: expected at most 100000000, found 100000001");
  Refuses(Bytes().U64(~uint64_t{0}).Raw("{}").s, ErrorCode::kLimit,
          "header length: expected at most 100000000, found 18446744073709551615");
}

TEST_CASE("safetensors refuses: headers that are not the JSON they should be") {
  RefusesHeader(" {}", "header: expected '{', found ' '");
  RefusesHeader("[]", "header: expected '{', found '['");
  for (const std::string& broken : std::vector<std::string>{"{ ",
                                                            "{\"",
                                                            "{\"a\"}",
                                                            "{}}",
                                                            "{} x",
                                                            "{,}",
                                                            "{\"a\":{}",
                                                            "{'a':1}",
                                                            "{\"a\":{\"dtype\":\"F32\",}}",
                                                            std::string("{}\0", 3),
                                                            "{\"a\":nul}",
                                                            "{/**/}",
                                                            "{\"\xff\":{}}",
                                                            "{\"\\ud800\":{}}",
                                                            "{\"\\udc00x\":{}}",
                                                            "{\"\\ud800\\u0041\":{}}",
                                                            "{\"\xed\xa0\x80\":{}}",
                                                            "{\"a\nb\":{}}",
                                                            "{\"a\":{\"shape\":[01]}}",
                                                            "{\"a\":{\"shape\":[+1]}}",
                                                            "{\"a\":{\"shape\":[.5]}}",
                                                            "{\"a\":{\"shape\":[1,]}}",
                                                            "{\"a\":{\"shape\":[NaN]}}"}) {
    const std::string bytes = File(broken, 0);
    const Result<Checkpoint> s = Checkpoint::ParseSafetensors(bytes, "bad");
    INFO(broken);
    REQUIRE_FALSE(s.ok());
    CHECK(s.status().code() == ErrorCode::kFormat);
    CHECK(s.status().message().find("bad: header: ") == 0);
    CHECK(s.status().message().find("(offset ") != std::string::npos);
  }
  RefusesHeader(R"({"a":1})", "header: key 'a': expected an object, found a number");
  RefusesHeader(R"({"a":null})", "header: key 'a': expected an object, found null");
  RefusesHeader(R"({"a":[]})", "header: key 'a': expected an object, found an array");
  RefusesHeader(R"({"a":{}})", "header: tensor 'a': expected a 'dtype', found none");
  RefusesHeader(R"({"a":{"dtype":"F32"}})", "header: tensor 'a': expected a 'shape', found none");
  RefusesHeader(R"({"a":{"dtype":"F32","shape":[]}})", "header: tensor 'a': expected a 'data_offsets', found none");
  RefusesHeader(R"({"a":{"dtype":1,)", "header: tensor 'a': expected a string as dtype, found a number");
  RefusesHeader(R"({"a":{"dtype":{)", "header: tensor 'a': expected a string as dtype, found an object");
  RefusesHeader(R"({"a":{"shape":"2")", "header: tensor 'a': expected unsigned integers in shape, found a string");
  RefusesHeader(R"({"a":{"shape":[[1]])", "header: tensor 'a': expected unsigned integers in shape, found an array");
  RefusesHeader(R"({"a":{"shape":[true])", "header: tensor 'a': expected unsigned integers in shape, found a bool");
  RefusesHeader(R"({"a":{"strides":[1])", "header: tensor 'a': unknown key 'strides'");
}

TEST_CASE("safetensors: the offset of a JSON error leads to the place in the file") {
  const std::string bytes = File(R"({"a":{"dtype":"F32","shape":[1,true]}})", 0);
  const std::string message = Checkpoint::ParseSafetensors(bytes, "bad").status().message();
  REQUIRE(message.find(" (offset ") != std::string::npos);
  const size_t at = std::stoull(message.substr(message.find(" (offset ") + 9));
  const size_t place = bytes.find("true");
  CHECK(at >= place);
  CHECK(at <= place + 4);
}

TEST_CASE("safetensors refuses: numbers that are no unsigned 64-bit integers") {
  const std::string floating =
      "header: tensor 'a': expected unsigned integers in shape, found a number that is no "
      "unsigned 64-bit integer (offset ";
  const std::string negative =
      "header: tensor 'a': expected unsigned integers in shape, found a negative number (offset ";
  for (const auto& [number, message] :
       std::vector<std::pair<std::string, std::string>>{{"-1", negative},
                                                        {"-0", negative},
                                                        {"-9223372036854775808", negative},
                                                        {"1e3", floating},
                                                        {"1.0", floating},
                                                        {"1E0", floating},
                                                        {"18446744073709551616", floating},
                                                        {"-1.5", floating},
                                                        {"99999999999999999999999999", floating}}) {
    const std::string bytes = File(R"({"a":{"dtype":"F32","shape":[)" + number + R"(],"data_offsets":[0,0]}})", 0);
    const Result<Checkpoint> s = Checkpoint::ParseSafetensors(bytes, "bad");
    INFO(number);
    REQUIRE_FALSE(s.ok());
    CHECK(s.status().message().find("bad: " + message) == 0);
  }
  RefusesHeader(R"({"a":{"data_offsets":[0]}})", "header: tensor 'a': expected 2 data_offsets, found 1");
  RefusesHeader(R"({"a":{"data_offsets":[0,0,0]}})", "header: tensor 'a': expected 2 data_offsets, found 3");
}

TEST_CASE("safetensors refuses: duplicate keys, however they are spelt") {
  const std::string entry = R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  RefusesHeader("{\"a\":" + entry + ",\"a\":" + entry + "}", "header: duplicate key 'a'", 4);
  RefusesHeader("{\"a\":" + entry + ",\"\\u0061\":" + entry + "}", "header: duplicate key 'a'", 4);
  RefusesHeader(R"({"a":{"dtype":"F32","dtype":"F32")", "header: tensor 'a': duplicate key 'dtype'");
  RefusesHeader(R"({"__metadata__":{"x":"1","x":"2"}})", "header: __metadata__: duplicate key 'x'");
  RefusesHeader(R"({"__metadata__":{},"__metadata__":{}})", "header: duplicate key '__metadata__'");
}

TEST_CASE("safetensors refuses: metadata that is not strings") {
  RefusesHeader(R"({"__metadata__":{"x":1}})", "header: __metadata__: expected a string, found a number");
  RefusesHeader(R"({"__metadata__":{"x":{}}})", "header: __metadata__: expected a string, found an object");
  RefusesHeader(R"({"__metadata__":{"x":[]}})", "header: __metadata__: expected a string, found an array");
  RefusesHeader(R"({"__metadata__":"x"})", "header: key '__metadata__': expected an object, found a string");
}

TEST_CASE("safetensors refuses: endless nesting") {
  RefusesHeader("{\"a\":" + std::string(100'000, '['), "header: key 'a': expected an object, found an array");
}

// Tensors "a" and "b", F32, with these elements and offsets, over a buffer of 8 bytes.
std::string TwoTensors(const std::string& shape_a, const std::string& a, const std::string& shape_b,
                       const std::string& b) {
  return R"({"a":{"dtype":"F32","shape":[)" + shape_a + R"(],"data_offsets":[)" + a +
         R"(]},"b":{"dtype":"F32","shape":[)" + shape_b + R"(],"data_offsets":[)" + b + "]}}";
}

TEST_CASE("safetensors refuses: extents that do not tile the data") {
  REQUIRE(Checkpoint::ParseSafetensors(File(TwoTensors("1", "4,8", "1", "0,4"), 8), "good").ok());
  RefusesHeader(TwoTensors("1", "0,4", "1", "0,4"), "tensor 'b' overlaps tensor 'a': expected begin = 4, found 0", 8);
  RefusesHeader(TwoTensors("2", "0,8", "1", "4,8"), "tensor 'b' overlaps tensor 'a': expected begin = 8, found 4", 8);
  RefusesHeader(TwoTensors("1", "0,4", "0", "2,2"), "tensor 'b' overlaps tensor 'a': expected begin = 4, found 2", 4);
  RefusesHeader(TwoTensors("1", "0,4", "1", "5,9"), "tensor 'b' leaves a hole: expected begin = 4, found 5", 9);
  RefusesHeader(TwoTensors("1", "4,8", "1", "8,12"), "tensor 'a' leaves a hole: expected begin = 0, found 4", 12);
  const std::string good = TwoTensors("1", "0,4", "1", "4,8");
  const std::string size = std::to_string(8 + good.size() + 8);
  RefusesHeader(good,
                "file truncated, expected " + size + " bytes, found " + std::to_string(8 + good.size() + 7) +
                    ": tensor 'b' is cut",
                7);
  RefusesHeader(
      good,
      "file truncated, expected " + size + " bytes, found " + std::to_string(8 + good.size()) + ": tensor 'a' is cut",
      0);
  RefusesHeader(good,
                "1 bytes after the last tensor: expected a file of " + size + " bytes, found " +
                    std::to_string(8 + good.size() + 9),
                9);
  RefusesHeader(TwoTensors("1", "4,0", "1", "0,4"),
                "tensor 'a': expected data_offsets [begin, end] with begin <= end, found [4, 0]", 4);
  RefusesHeader(TwoTensors("2", "0,4", "1", "4,8"),
                "tensor 'a': shape and dtype F32 expected 8 bytes, data_offsets found 4", 8);
  RefusesHeader(TwoTensors("0", "0,4", "1", "4,8"),
                "tensor 'a': shape and dtype F32 expected 0 bytes, data_offsets found 4", 8);
  RefusesHeader(TwoTensors("4294967296,4294967296", "0,0", "1", "0,4"),
                "tensor 'a': the shape's number of elements overflows", 4);
  RefusesHeader(TwoTensors("4611686018427387904", "0,0", "1", "0,4"), "tensor 'a': the size in bytes overflows", 4);
  RefusesHeader("{}", "1 bytes after the last tensor: expected a file of 10 bytes, found 11", 1);
  // An end at 2^64 - 1 must not wrap round the file's size.
  RefusesHeader(R"({"a":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,18446744073709551615]}})",
                "file truncated, expected 2^64 bytes, found 99: tensor 'a' is cut", 0);
}

TEST_CASE("safetensors refuses: more dimensions than anyone has") {
  std::string shape = "1";
  for (int i = 0; i < 64; ++i) shape += ",1";
  const Result<Checkpoint> s = Checkpoint::ParseSafetensors(File(TwoTensors(shape, "0,4", "1", "4,8"), 8), "bad");
  CHECK(s.status().code() == ErrorCode::kLimit);
  CHECK(s.status().message().find("bad: header: tensor 'a': more than 64 numbers") == 0);
}

TEST_CASE("safetensors: a single file is opened by its path or its folder's") {
  const TempDir dir;
  WriteFile(dir / "model.safetensors", kTiny);
  WriteFile(dir / "other.safetensors", OneTensor("ignored"));
  for (const std::string& path : {dir / "model.safetensors", dir.path()}) {
    const Result<Checkpoint> s = Checkpoint::Open(path);
    INFO(s.status().message());
    REQUIRE(s.ok());
    REQUIRE(s->Find("a") != nullptr);
    CHECK(s->tensors().size() == 1);
    CHECK(s->shards() == std::vector<std::string>{dir / "model.safetensors"});
    s->Release(*s->Find("a"));
    CHECK(LoadLe<uint16_t>(s->Find("a")->data) == 0x3c00);  // still readable
  }
}

TEST_CASE("safetensors: a folder without index gives all its files in order, not consolidated or adapter ones") {
  const TempDir dir;
  WriteFile(dir / "part-2.safetensors", OneTensor("b"));
  WriteFile(dir / "part-1.safetensors", OneTensor("a"));
  WriteFile(dir / "consolidated.00.safetensors", OneTensor("a"));
  WriteFile(dir / "adapter_model.safetensors", "broken");
  WriteFile(dir / "notes.txt", "broken");
  const Result<Checkpoint> s = Checkpoint::Open(dir.path());
  INFO(s.status().message());
  REQUIRE(s.ok());
  CHECK(s->shards() == std::vector<std::string>{dir / "part-1.safetensors", dir / "part-2.safetensors"});
  CHECK(s->Find("a")->shard == 0);
  CHECK(s->Find("b")->shard == 1);
}

TEST_CASE("safetensors: what does not exist is kNotFound and named") {
  const TempDir dir;
  CHECK(Checkpoint::Open(dir / "none").status().code() == ErrorCode::kNotFound);
  CHECK(Checkpoint::Open(dir / "none").status().message() == dir / "none: cannot open: No such file or directory");
  CHECK(Checkpoint::Open(dir.path()).status().code() == ErrorCode::kNotFound);
  CHECK(Checkpoint::Open(dir.path()).status().message() ==
        dir.path() + ": no *.safetensors file and no *.bin, *.pt or *.pth file with weights in this folder");
}

struct Sharded {
  TempDir dir;
  Sharded() {
    WriteFile(dir / "m-1.safetensors", OneTensor("a"));
    WriteFile(dir / "m-2.safetensors", OneTensor("b"));
  }
  std::string index() const { return dir / "model.safetensors.index.json"; }
  Result<Checkpoint> Open(const std::string& json) const {
    WriteFile(index(), json);
    return Checkpoint::Open(dir.path());
  }
  void Refuses(const std::string& json, const std::string& message, ErrorCode code = ErrorCode::kFormat) const {
    const Result<Checkpoint> s = Open(json);
    INFO(json);
    REQUIRE_FALSE(s.ok());
    CHECK(ErrorName(s.status().code()) == std::string(ErrorName(code)));
    CHECK(Said(s.status(), json.size()) == message);
  }
};
const std::string kIndex = R"({"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}})";

TEST_CASE("safetensors: a sharded folder is read by its index, whatever its metadata") {
  const Sharded f;
  WriteFile(f.dir / "model.safetensors", OneTensor("stale"));
  for (const std::string& json :
       {kIndex, R"({"metadata":{"total_size":-1.5e9,"x":[[{}],null,true]},"other":[1,"s",{"weight_map":{"q":1}}],)" +
                    kIndex.substr(1) + "\n"}) {
    const Result<Checkpoint> s = f.Open(json);
    INFO(s.status().message());
    REQUIRE(s.ok());
    CHECK(s->shards() == std::vector<std::string>{f.dir / "m-1.safetensors", f.dir / "m-2.safetensors"});
    CHECK(s->tensors().size() == 2);
    CHECK(s->Find("b")->shard == 1);
    CHECK(s->warnings().empty());
  }
}

TEST_CASE("safetensors: a tensor that the index does not know is a warning") {
  const Sharded f;
  WriteFile(f.dir / "m-1.safetensors", File(TwoTensors("1", "0,4", "1", "4,8"), 8));
  const Result<Checkpoint> s = f.Open(R"({"weight_map":{"a":"m-1.safetensors"}})");
  REQUIRE(s.ok());
  CHECK(s->tensors().size() == 2);
  CHECK(s->warnings() == std::vector<std::string>{f.dir / "m-1.safetensors" + ": tensor 'b' is not in " + f.index()});
}

TEST_CASE("safetensors refuses: an index whose shards or tensors are missing, misplaced or double") {
  const Sharded f;
  f.Refuses(R"({"weight_map":{"a":"m-1.safetensors","c":"m-2.safetensors"}})",
            f.index() + ": tensor 'c': expected in shard 'm-2.safetensors', found in none");
  f.Refuses(R"({"weight_map":{"A":"m-1.safetensors","b":"m-2.safetensors"}})",
            f.index() + ": tensor 'A': expected in shard 'm-1.safetensors', found in none");
  f.Refuses(R"({"weight_map":{"a":"m-2.safetensors","b":"m-1.safetensors"}})",
            f.index() + ": tensor 'a': expected in shard 'm-2.safetensors', found in " + (f.dir / "m-1.safetensors"));
  f.Refuses(R"({"weight_map":{"a":"m-1.safetensors","b":"m-3.safetensors"}})",
            f.index() + ": tensor 'b': " + (f.dir / "m-3.safetensors") + ": cannot open: No such file or directory",
            ErrorCode::kNotFound);
  WriteFile(f.dir / "m-2.safetensors", OneTensor("a"));
  f.Refuses(kIndex, f.dir / "m-2.safetensors" + ": tensor 'a' is also in " + (f.dir / "m-1.safetensors"));
}

TEST_CASE("safetensors refuses: a truncated shard, by its name and its tensor's") {
  const Sharded f;
  const std::string whole = OneTensor("b");
  WriteFile(f.dir / "m-2.safetensors", whole.substr(0, whole.size() - 1));
  f.Refuses(kIndex, f.dir / "m-2.safetensors" + ": file truncated, expected " + std::to_string(whole.size()) +
                        " bytes, found " + std::to_string(whole.size() - 1) + ": tensor 'b' is cut");
}

TEST_CASE("safetensors refuses: shard names that leave the folder") {
  const Sharded f;
  for (const std::string name : {"../m-1.safetensors", "/etc/passwd", "x/m-1.safetensors", "..", ".", "",
                                 "..\\\\m-1.safetensors", "m-1.safetensors\\u0000"}) {
    const Result<Checkpoint> s = f.Open("{\"weight_map\":{\"a\":\"" + name + "\"}}");
    INFO(name);
    REQUIRE_FALSE(s.ok());
    CHECK(s.status().code() == ErrorCode::kFormat);
    CHECK(s.status().message().find(": tensor 'a': expected the name of a file in the same folder, found '") !=
          std::string::npos);
  }
}

TEST_CASE("safetensors refuses: indexes that are not the JSON they should be") {
  const Sharded f;
  f.Refuses("{}", f.index() + ": expected a key 'weight_map', found none");
  f.Refuses("[]", f.index() + ": expected a JSON object, found an array");
  f.Refuses("1 ", f.index() + ": expected a JSON object, found a number");
  f.Refuses(R"({"weight_map":[]})", f.index() + ": 'weight_map': expected an object, found an array");
  f.Refuses(R"({"weight_map":"x"})", f.index() + ": 'weight_map': expected an object, found a string");
  f.Refuses(R"({"weight_map":{"a":1}})",
            f.index() + ": 'weight_map': tensor 'a': expected a file's name, found a number");
  f.Refuses(R"({"weight_map":{"a":{}}})",
            f.index() + ": 'weight_map': tensor 'a': expected a file's name, found an object");
  f.Refuses(R"({"weight_map":{},"weight_map":{}})", f.index() + ": duplicate key 'weight_map'");
  f.Refuses(R"({"weight_map":{"a":"m-1.safetensors","a":"m-1.safetensors"}})",
            f.index() + ": 'weight_map': duplicate key 'a'");
  for (const std::string broken : {"", "{", "{\"weight_map\":", "{\"weight_map\":{}} x", "\xff"}) {
    const Result<Checkpoint> s = f.Open(broken);
    REQUIRE_FALSE(s.ok());
    CHECK(s.status().message().find(f.index() + ": ") == 0);
  }
  const Result<Checkpoint> deep = f.Open("{\"x\":" + std::string(100'000, '['));
  REQUIRE_FALSE(deep.ok());
  CHECK(deep.status().code() == ErrorCode::kFormat);
}

TEST_CASE("safetensors: the sample checkpoints are read") {
  const std::string path = std::string(WF_SHARED_DIR) + "/checkpoints/";
  if (!std::filesystem::exists(path + "bard-subln")) {
    WARN("not run: " << path << " is absent");
    return;
  }
  for (const char* name : {"bard", "bard-bf16", "bard-lrc", "bard-subln"}) {
    const Result<Checkpoint> s = Checkpoint::Open(path + name);
    INFO(s.status().message());
    REQUIRE(s.ok());
    CHECK(s->Find("model.embed_tokens.weight") != nullptr);
    CHECK(s->warnings().empty());
  }
  CHECK(Checkpoint::Open(path + "bard-subln")->shards().size() == 2);
}

}  // namespace
}  // namespace wf
