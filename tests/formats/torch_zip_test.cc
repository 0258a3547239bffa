// SPDX-License-Identifier: Apache-2.0
// PyTorch's archives against the rules of formats.md 7.2: zip files as attackers and ZIP64 writers make them, and
// tensors whose offsets and strides are right or lie.
#include "wf/formats/torch_zip.h"

#include <cstring>

#include "tests/catch.h"
#include "tests/formats/torch_bytes.h"
#include "tests/scratch.h"
#include "wf/base/bytes.h"
#include "wf/base/quote.h"
#include "wf/formats/checkpoint.h"

namespace wf {
namespace {

using test::Message;
using test::OneTensorPickle;
using test::PickleBytes;
using test::TempDir;
using test::TorchFile;
using test::WriteFile;
using test::Zip;
using test::ZipBytes;

std::string At(const char* format, size_t offset) { return std::string(format) + std::to_string(offset) + ")"; }

// Floats 0, 1, 2, ... as a storage.
std::string Floats(size_t n) {
  std::string s;
  for (size_t i = 0; i < n; ++i) {
    const float v = static_cast<float>(i);
    s.append(reinterpret_cast<const char*>(&v), 4);
  }
  return s;
}
std::vector<float> Values(const CheckpointTensor& t) {
  std::vector<float> out;
  for (uint64_t i = 0; i < t.elements(); ++i) out.push_back(LoadLe<float>(t.data + 4 * i));
  return out;
}
// {"w": a view of a storage of n floats}
std::string OneView(size_t n, int64_t offset, const std::vector<int64_t>& shape, const std::vector<int64_t>& strides) {
  return TorchFile(OneTensorPickle("FloatStorage", static_cast<int64_t>(n), offset, shape, strides), {Floats(n)});
}

void RefusesZip(const std::string& bytes, ErrorCode code, const std::string& message) {
  const Result<std::vector<ZipEntry>> zip = ReadZip(bytes);
  CHECK(Message(zip) == message);
  CHECK(ErrorName(zip.status().code()) == std::string(ErrorName(code)));
  CHECK(Message(Checkpoint::ParseTorch(bytes, "a.bin")) == "a.bin: " + message);
}
void RefusesTorch(const std::string& bytes, ErrorCode code, const std::string& message) {
  const Result<Checkpoint> c = Checkpoint::ParseTorch(bytes, "a.bin");
  CHECK(Message(c) == "a.bin: " + message);
  CHECK(ErrorName(c.status().code()) == std::string(ErrorName(code)));
}

TEST_CASE("zip: stored entries are views in order of name, with ZIP64 records, fields and a comment or without") {
  for (const bool zip64 : {false, true}) {
    for (const char* comment : {"", "a comment"}) {
      const ZipBytes zip =
          Zip({{"b/2", "two"}, {"b/1", "one", 0, 0, {}, 0, 0, 0, zip64}, {"empty", ""}}, zip64, comment);
      const Result<std::vector<ZipEntry>> read = ReadZip(zip.s);
      INFO(read.status().message());
      REQUIRE(read.ok());
      REQUIRE(read->size() == 3);
      CHECK((*read)[0].name == "b/1");
      CHECK((*read)[0].data == "one");
      CHECK(zip.s.substr((*read)[0].offset, 3) == "one");
      CHECK((*read)[1].data == "two");
      CHECK((*read)[2].data.empty());
    }
  }
  CHECK(ReadZip(Zip({}).s)->empty());
}

TEST_CASE("zip: sizes that follow the data leave zeros in the local header") {
  const ZipBytes zip = Zip({{"a", "12345", 0, 8, {}, -5}});
  REQUIRE(ReadZip(zip.s).ok());
  CHECK((*ReadZip(zip.s))[0].data == "12345");
}

TEST_CASE("zip: compressed entries are listed as what they are, and no state dict has one") {
  const std::string zip = Zip({{"a/data.pkl", PickleBytes().Op("}.").s}, {"a/data/0", "12", 8, 0, {}, 0, 0, 5}}).s;
  // The local header repeats the size in the archive for both.
  RefusesZip(zip, ErrorCode::kFormat,
             "entry 'a/data/0': expected 7 bytes by the central directory, found 2 in its local header (offset 44)");
  const std::string good = Zip({{"a/data.pkl", PickleBytes().Op("}.").s}, {"a/data/0", "12", 8}}).s;
  REQUIRE(ReadZip(good).ok());
  CHECK((*ReadZip(good))[1].method == 8);
  RefusesTorch(good, ErrorCode::kUnsupported,
               "entry 'a/data/0': expected a stored entry, found compression method 8 (offset 82)");
}

TEST_CASE("zip: every truncation is refused") {
  for (const bool zip64 : {false, true}) {
    const std::string zip = Zip({{"a", "12345"}, {"b", "6"}}, zip64).s;
    for (size_t n = 0; n < zip.size(); ++n) {
      INFO("cut at byte " << n);
      REQUIRE_FALSE(ReadZip(std::string_view(zip).substr(0, n)).ok());
    }
  }
}

TEST_CASE("zip refuses: entries that are encrypted or named to leave the folder") {
  const ZipBytes one = Zip({{"x/a", "12"}});
  RefusesZip(Zip({{"x/a", "12", 0, 1}}).s, ErrorCode::kUnsupported,
             At("entry 'x/a': it is encrypted (offset ", one.directory));
  ZipBytes two_minds = one;
  two_minds.s[8] = 8;
  RefusesZip(two_minds.s, ErrorCode::kFormat,
             "entry 'x/a': expected compression method 0 by the central directory, found 8 in its local header "
             "(offset 0)");
  for (const std::string& name :
       std::vector<std::string>{"../a", "x/../../a", "x/..", "..", "/etc/passwd", "x\\a", std::string("a\0b", 3)}) {
    const ZipBytes zip = Zip({{name, "12"}});
    RefusesZip(
        zip.s, ErrorCode::kFormat,
        At(("entry " + Quote(name) + ": expected a name that stays in its folder (offset ").c_str(), zip.directory));
  }
  CHECK(ReadZip(Zip({{"..a/b../...", "12"}}).s).ok());
}

TEST_CASE("zip refuses: duplicate names and overlapping data") {
  RefusesZip(Zip({{"a", "1"}, {"b", "1"}, {"a", "2"}}).s, ErrorCode::kFormat, "entry 'a' is in the archive twice");
  ZipBytes zip = Zip({{"a", "1"}, {"a", "2"}});
  StoreLe<uint32_t>(&zip.s[zip.central[1] + 42], 0);  // both lines lead to the same data
  RefusesZip(zip.s, ErrorCode::kFormat, "entry 'a' overlaps entry 'a' (offset 0)");
  // A header inside the data of another entry.
  const std::string inner = Zip({{"b", "22"}}).s;
  ZipBytes nested = Zip({{"a", inner}, {"b", "22"}});
  StoreLe<uint32_t>(&nested.s[nested.central[1] + 42], 31);
  RefusesZip(nested.s, ErrorCode::kFormat, "entry 'b' overlaps entry 'a' (offset 31)");
}

TEST_CASE("zip refuses: a central directory that lies") {
  const auto sizes = [](int local, int central, int unpacked) {
    return Zip({{"a", "12345", 0, 0, {}, local, central, unpacked}});
  };
  RefusesZip(sizes(0, 0, 7).s, ErrorCode::kFormat,
             "entry 'a': a stored entry of 5 bytes claims to have 12 (offset 36)");
  RefusesZip(sizes(1, 0, 0).s, ErrorCode::kFormat,
             "entry 'a': expected 5 bytes by the central directory, found 6 in its local header (offset 0)");
  RefusesZip(sizes(0, 1, 0).s, ErrorCode::kFormat, "entry 'a': its 6 bytes reach beyond offset 36 (offset 0)");
  RefusesZip(sizes(0, 2'000'000'000, 0).s, ErrorCode::kFormat,
             "entry 'a': its 2000000005 bytes reach beyond offset 36 (offset 0)");
  ZipBytes zip64 = Zip({{"a", "12345", 0, 0, {}, 0, 0, 0, true}});
  StoreLe<uint64_t>(&zip64.s[zip64.central[0] + 51], ~uint64_t{0});
  StoreLe<uint64_t>(&zip64.s[zip64.central[0] + 59], ~uint64_t{0});
  RefusesZip(zip64.s, ErrorCode::kFormat,
             "entry 'a': its 18446744073709551615 bytes reach beyond offset 36 (offset 0)");
  zip64.s[zip64.central[0] + 47] = 2;  // no ZIP64 field
  RefusesZip(zip64.s, ErrorCode::kFormat, "entry 'a': expected a ZIP64 field, found none (offset 36)");
  RefusesZip(Zip({{"a", "12", 0, 0, "b"}}).s, ErrorCode::kFormat,
             "entry 'a': its local header names it 'b' (offset 0)");
  ZipBytes far = Zip({{"a", "12"}});
  StoreLe<uint32_t>(&far.s[far.central[0] + 42], 1);
  RefusesZip(far.s, ErrorCode::kFormat,
             "entry 'a': expected a local header before the central directory, found none (offset 1)");
  StoreLe<uint32_t>(&far.s[far.central[0] + 42], 0xfffffffe);
  RefusesZip(far.s, ErrorCode::kFormat,
             "entry 'a': expected a local header before the central directory, found none (offset 4294967294)");
}

TEST_CASE("zip refuses: end records that lie") {
  const ZipBytes good = Zip({{"a", "12"}, {"b", "34"}});
  const auto changed = [](ZipBytes zip, size_t at, auto value) {
    StoreLe(&zip.s[zip.end + at], value);
    return zip.s;
  };
  const std::string directory = std::to_string(good.directory);
  RefusesZip(changed(good, 8, uint32_t{0x00030003}), ErrorCode::kFormat,
             "zip archive: 3 entries do not fit a central directory of 94 bytes");
  ZipBytes unsigned_line = good;
  unsigned_line.s[good.central[1]] = 'Q';
  RefusesZip(unsigned_line.s, ErrorCode::kFormat,
             At("expected an entry of the central directory, found none (offset ", good.central[1]));
  RefusesZip(changed(good, 8, uint32_t{0xfffefffe}), ErrorCode::kFormat,
             "zip archive: 65534 entries do not fit a central directory of 94 bytes");
  RefusesZip(changed(good, 8, uint32_t{0x00010001}), ErrorCode::kFormat,
             At("central directory: 47 bytes after its last entry (offset ", good.central[1]));
  RefusesZip(changed(good, 12, uint32_t{0x7fffffff}), ErrorCode::kFormat,
             "central directory of 2147483647 bytes at offset " + directory +
                 ": expected its end at or before offset " + std::to_string(good.end));
  RefusesZip(changed(good, 16, uint32_t{0xfffffff0}), ErrorCode::kFormat,
             "central directory of 94 bytes at offset 4294967280: expected its end at or before offset " +
                 std::to_string(good.end));
  RefusesZip(changed(good, 16, uint32_t{0xffffffff}), ErrorCode::kFormat,
             At("expected a ZIP64 end record before the end record, found none (offset ", good.end));
  RefusesZip(changed(good, 4, uint16_t{1}), ErrorCode::kUnsupported,
             At("a zip archive in several parts is not supported (offset ", good.end));
  RefusesZip(good.s + "tail", ErrorCode::kFormat,
             "no end of a zip archive's central directory was found: the file is truncated");
  RefusesZip("PK\3\4", ErrorCode::kFormat, "zip archive truncated, expected >= 22 bytes, found 4");

  const ZipBytes big = Zip({{"a", "12"}}, true);
  const size_t record = big.end - 76;
  const auto changed64 = [&](size_t at, uint64_t value) {
    std::string s = big.s;
    StoreLe(&s[at], value);
    return s;
  };
  RefusesZip(changed64(big.end - 20 + 8, ~uint64_t{0}), ErrorCode::kFormat,
             At("expected a ZIP64 end record at offset 18446744073709551615, found none (offset ", big.end - 20));
  RefusesZip(changed64(big.end - 20 + 8, 3), ErrorCode::kFormat,
             At("expected a ZIP64 end record at offset 3, found none (offset ", big.end - 20));
  RefusesZip(changed64(record + 48, ~uint64_t{0}), ErrorCode::kFormat,
             "central directory of 47 bytes at offset 18446744073709551615: expected its end at or before offset " +
                 std::to_string(record));
  std::string many = changed64(record + 24, uint64_t{1} << 40);
  StoreLe(&many[record + 32], uint64_t{1} << 40);
  RefusesZip(many, ErrorCode::kLimit, "zip archive: expected at most 1048640 entries, found 1099511627776");
  ZipBytes two = Zip({{"a", "12"}}, true);
  StoreLe<uint32_t>(&two.s[two.end + 12], 46);
  RefusesZip(two.s, ErrorCode::kFormat, At("the archive's two end records contradict each other (offset ", two.end));
}

TEST_CASE("torch: the example of formats.md 7.2") {
  const std::string file = TorchFile(test::ExamplePickle(), {Floats(4)});
  const Result<Checkpoint> c = Checkpoint::Parse(file, "pytorch_model.bin");
  INFO(c.status().message());
  REQUIRE(c.ok());
  REQUIRE(c->tensors().size() == 1);
  const CheckpointTensor& w = *c->Find("w");
  CHECK(w.type == ElementType::kF32);
  CHECK(w.shape == std::vector<uint64_t>{2, 2});
  CHECK(w.bytes == 16);
  CHECK(Values(w) == std::vector<float>{0, 1, 2, 3});
  CHECK(w.data == reinterpret_cast<const uint8_t*>(file.data()) + w.file_offset);  // a view
  CHECK_FALSE(w.scale);
  CHECK(c->warnings().empty());
  CHECK(c->config_json().empty());
}

TEST_CASE("torch: storages of all types") {
  struct Row {
    const char* storage;
    ElementType type;
  };
  for (const Row& row : std::vector<Row>{{"FloatStorage", ElementType::kF32},
                                         {"HalfStorage", ElementType::kF16},
                                         {"BFloat16Storage", ElementType::kBF16},
                                         {"DoubleStorage", ElementType::kF64},
                                         {"IntStorage", ElementType::kI32},
                                         {"LongStorage", ElementType::kI64},
                                         {"ShortStorage", ElementType::kI16},
                                         {"CharStorage", ElementType::kI8},
                                         {"ByteStorage", ElementType::kU8},
                                         {"BoolStorage", ElementType::kBool}}) {
    const std::string data(3 * ElementTypeBytes(row.type), 'x');
    const std::string file = TorchFile(OneTensorPickle(row.storage, 3, 0, {3}, {1}), {data});
    const Result<Checkpoint> c = Checkpoint::ParseTorch(file, "a");
    INFO(row.storage << ": " << c.status().message());
    REQUIRE(c.ok());
    CHECK(c->tensors()[0].type == row.type);
    CHECK(c->tensors()[0].bytes == data.size());
  }
}

TEST_CASE("torch: strided views are copied in row-major order, contiguous ones are not") {
  struct Row {
    int64_t offset;
    std::vector<int64_t> shape, strides;
    std::vector<float> expected;
    bool view;
  };
  for (const Row& row : std::vector<Row>{
           {2, {3}, {1}, {2, 3, 4}, true},
           {0, {2, 3}, {3, 1}, {0, 1, 2, 3, 4, 5}, true},
           {0, {1, 3}, {99, 1}, {0, 1, 2}, true},  // the stride of a dimension of 1 is never used
           {5, {}, {}, {5}, true},
           {0, {3, 2}, {1, 3}, {0, 3, 1, 4, 2, 5}, false},  // transposed
           {1, {3}, {2}, {1, 3, 5}, false},
           {3, {4}, {0}, {3, 3, 3, 3}, false},  // expanded
           {0, {2, 2}, {0, 1}, {0, 1, 0, 1}, false},
           {0, {2, 3, 2}, {1, 4, 2}, {0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11}, false},
           {1, {2, 1, 2}, {6, 7, 3}, {1, 4, 7, 10}, false},
       }) {
    const std::string file = OneView(12, row.offset, row.shape, row.strides);
    const Result<Checkpoint> c = Checkpoint::ParseTorch(file, "a");
    INFO(c.status().message());
    REQUIRE(c.ok());
    const CheckpointTensor& w = c->tensors()[0];
    CHECK(Values(w) == row.expected);
    const auto* begin = reinterpret_cast<const uint8_t*>(file.data());
    CHECK((w.data >= begin && w.data < begin + file.size()) == row.view);
    c->Release(w);
  }
  const std::string empty = OneView(12, 12, {0, 5}, {5, 1});
  CHECK(Checkpoint::ParseTorch(empty, "a")->tensors()[0].bytes == 0);
}

TEST_CASE("torch: tied tensors share their bytes, copied ones too") {
  PickleBytes p;
  p.Op("}(").Str("a").Tensor("FloatStorage", "0", 6, 0, {2, 3}, {3, 1});
  p.Str("b").Tensor("FloatStorage", "0", 6, 0, {2, 3}, {3, 1});
  p.Str("c").Tensor("FloatStorage", "0", 6, 0, {3, 2}, {1, 3});
  p.Str("d").Tensor("FloatStorage", "0", 6, 0, {3, 2}, {1, 3});
  const std::string file = TorchFile(p.Op("u.").s, {Floats(6)});
  const Result<Checkpoint> c = Checkpoint::ParseTorch(file, "a");
  REQUIRE(c.ok());
  CHECK(c->Find("a")->data == c->Find("b")->data);
  CHECK(c->Find("c")->data == c->Find("d")->data);
  CHECK(Values(*c->Find("d")) == std::vector<float>{0, 3, 1, 4, 2, 5});
}

TEST_CASE("torch: a state dict is found under its key, other values are left out with a warning") {
  const auto open = [](const PickleBytes& p) {
    static std::string file;  // the views' bytes
    file = TorchFile(p.s, {Floats(2)});
    Result<Checkpoint> c = Checkpoint::ParseTorch(file, "a.pt");
    INFO(c.status().message());
    REQUIRE(c.ok());
    return *std::move(c);
  };
  for (const char* key : {"state_dict", "model_state_dict", "model", "module"}) {
    PickleBytes p;
    p.Op("}(").Str("epoch").Op("K\3").Str(key).Op("}(").Str("w").Tensor("FloatStorage", "0", 2, 0, {2}, {1});
    p.Str("n").Op("N").Str("inner").Op("}uK\7").Op("]u.");
    const Checkpoint c = open(p);
    REQUIRE(c.tensors().size() == 1);
    CHECK(c.tensors()[0].name == "w");
    CHECK(c.warnings() == std::vector<std::string>{"a.pt: 2 values are ignored: 'epoch', 7",
                                                   "a.pt: 2 values are ignored: 'n', 'inner'"});
  }
  // Parameters, with their state or without, and both ways to say Size.
  PickleBytes p;
  p.Op("}(").Str("p").Global("torch._utils", "_rebuild_parameter").Op("(");
  p.Tensor("FloatStorage", "0", 2, 0, {2}, {1}).Op("\x88}tR");
  p.Str("q").Global("torch._utils", "_rebuild_parameter_with_state").Op("(");
  p.Tensor("FloatStorage", "0", 2, 1, {1}, {1}).Op("\x88}}tR");
  p.Str("s").Global("torch._utils", "_rebuild_tensor").Op("(").Storage("FloatStorage", "0", 2).Int(0);
  p.Global("torch", "Size").Tuple({2}).Op("\x85R").Tuple({1}).Op("tR");
  p.Str("device").Global("torch", "device").Str("cpu").Op("\x85R").Op("u.");
  const Checkpoint c = open(p);
  REQUIRE(c.tensors().size() == 3);
  CHECK(Values(*c.Find("p")) == std::vector<float>{0, 1});
  CHECK(Values(*c.Find("q")) == std::vector<float>{1});
  CHECK(Values(*c.Find("s")) == std::vector<float>{0, 1});
  CHECK(c.warnings() == std::vector<std::string>{"a.pt: 1 value is ignored: 'device'"});
}

TEST_CASE("torch refuses: what is no state dict") {
  const auto refuses = [](const std::string& ops, const std::string& message) {
    RefusesTorch(TorchFile(PickleBytes().Op(ops).s), ErrorCode::kFormat, "archive/data.pkl: " + message);
  };
  refuses("].", "expected a dict of tensors, found a list");
  refuses("N.", "expected a dict of tensors, found None");
  // A dict that is its own "model".
  refuses("}q\1" + PickleBytes("").Str("model").s + "h\1s.", "expected a dict of tensors, found dicts in dicts");
}

void RefusesTensor(const std::string& file, const std::string& message, ErrorCode code = ErrorCode::kFormat) {
  RefusesTorch(file, code, "tensor 'w': " + message);
}

TEST_CASE("torch refuses: views that leave their storage") {
  RefusesTensor(OneView(4, 0, {5}, {1}), "its last element has index 4 in a storage of 4 elements");
  RefusesTensor(OneView(4, 4, {}, {}), "its last element has index 4 in a storage of 4 elements");
  RefusesTensor(OneView(4, 5, {0}, {1}), "its last element has index 5 in a storage of 4 elements");
  RefusesTensor(OneView(4, 1, {2, 2}, {2, 1}), "its last element has index 4 in a storage of 4 elements");
  RefusesTensor(OneView(4, 0, {2}, {INT64_MAX}),
                "its last element has index 9223372036854775807 in a storage of 4 elements");
  RefusesTensor(OneView(4, 2, {3}, {INT64_MAX}), "its last element has index 2^64 or more in a storage of 4 elements");
  RefusesTensor(OneView(4, 0, {2}, {-1}), "strides: expected a number that is not negative, found -1");
  RefusesTensor(OneView(4, -1, {2}, {1}), "storage offset: expected a number that is not negative, found -1");
  RefusesTensor(OneView(4, 0, {-2}, {1}), "shape: expected a number that is not negative, found -2");
  RefusesTensor(OneView(4, 0, {2, 2}, {1}), "expected a stride for each of 2 dimensions, found 1");
  RefusesTensor(OneView(4, 0, {INT64_MAX, INT64_MAX}, {0, 0}), "the shape's number of elements overflows");
  RefusesTensor(OneView(4, 0, {INT64_MAX}, {0}), "the size in bytes overflows");
  RefusesTensor(OneView(4, 0, {int64_t{1} << 40}, {0}),
                "its strides make 4398046511104 bytes of a storage of 16, more than the file has", ErrorCode::kLimit);
  RefusesTensor(OneView(4, 0, std::vector<int64_t>(65, 1), std::vector<int64_t>(65, 1)),
                "shape: expected at most 64 numbers, found 65", ErrorCode::kLimit);
}

TEST_CASE("torch refuses: storages that are not there, too short or of no type") {
  RefusesTensor(TorchFile(OneTensorPickle("FloatStorage", 4, 0, {1}, {1}), {}),
                "expected an entry 'archive/data/0', found none");
  RefusesTensor(TorchFile(OneTensorPickle("FloatStorage", 4, 0, {1}, {1}), {"12345678"}),
                "storage of 4 elements of F32: entry 'archive/data/0' has only 8 bytes");
  RefusesTensor(TorchFile(OneTensorPickle("FloatStorage", INT64_MAX, 0, {1}, {1}), {"12345678"}),
                "storage of 9223372036854775807 elements of F32: entry 'archive/data/0' has only 8 bytes");
  RefusesTensor(TorchFile(OneTensorPickle("float16", 4, 0, {1}, {1}), {"12345678"}),
                "expected a storage of a known type, found float32", ErrorCode::kUnsupported);
  const auto tensor = [](const std::string& args) {
    return TorchFile(
        PickleBytes().Op("}").Str("w").Global("torch._utils", "_rebuild_tensor_v2").Op("(" + args + "tRs.").s, {"1"});
  };
  RefusesTensor(tensor("NNNNNN"), "expected a storage, found None");
  RefusesTensor(tensor("NQNNNNN"), "expected a persistent id ('storage', class, key, location, size), found another");
  RefusesTensor(tensor("NNN"), "_rebuild_tensor_v2: expected 6 to 7 arguments, found 3");
  const std::string storage = PickleBytes("").Storage("ByteStorage", "0", 1).s;
  RefusesTensor(tensor(storage + "N)))N"), "storage offset: expected a number that is not negative, found None");
  RefusesTensor(tensor(storage + "K" + std::string(1, '\0') + "N)NN"), "shape: expected a tuple, found None");
  RefusesTensor(tensor(storage + "K" + std::string(1, '\0') + "))NN}" + PickleBytes("").Str("neg").s + "\x88s"),
                "expected no metadata, found a dict", ErrorCode::kUnsupported);
  CHECK(Checkpoint::ParseTorch(tensor(storage + "K" + std::string(1, '\0') + "))NN}"), "a").ok());
  // The parameter of a parameter of itself.
  std::string deep = PickleBytes("").Global("torch._utils", "_rebuild_parameter").s;
  deep = "}" + PickleBytes("").Str("w").s + deep + "q\1" + "(NNN";
  for (int i = 0; i < 5; ++i) deep += "tR0h\1(h\1(NNNtRNN";
  RefusesTensor(TorchFile(PickleBytes().Op(deep + "tRs.").s), "expected a tensor, found None");
}

TEST_CASE("torch refuses: names that occur twice") {
  PickleBytes p;
  p.Op("}(").Str("w").Op("q\1").Tensor("FloatStorage", "0", 2, 0, {2}, {1}).Op("q\2h\1h\2u.");
  RefusesTorch(TorchFile(p.s, {Floats(2)}), ErrorCode::kFormat, "tensor 'w' is in the state dict twice");
}

TEST_CASE("torch refuses: archives of other kinds, with advice") {
  const std::string pickle = PickleBytes().Op("}.").s;
  RefusesTorch(Zip({{"a/x", "1"}}).s, ErrorCode::kFormat,
               "expected a PyTorch archive with an entry '<name>/data.pkl', found a zip archive without");
  RefusesTorch(Zip({{"a/data.pkl", pickle}, {"b/data.pkl", pickle}}).s, ErrorCode::kFormat,
               "expected one data.pkl in the archive, found 'a/data.pkl' and 'b/data.pkl'");
  RefusesTorch(Zip({{"a/data.pkl", pickle}, {"a/byteorder", "big"}}).s, ErrorCode::kUnsupported,
               "entry 'a/byteorder': expected 'little', found 'big'");
  CHECK(Checkpoint::ParseTorch(Zip({{"a/data.pkl", pickle}, {"a/byteorder", "little"}}).s, "a").ok());
  for (const std::string name : {"a/constants.pkl", "a/code/__torch__.py"}) {
    RefusesTorch(
        Zip({{"a/data.pkl", pickle}, {name, "1"}}).s, ErrorCode::kUnsupported,
        "a TorchScript archive (it has '" + name + "') is not supported; save the model's state_dict as safetensors");
  }
}

TEST_CASE("checkpoint: a file's format is known by its first bytes, old ones are refused with advice") {
  const std::string advice = "; load it with PyTorch and save it as safetensors";
  const auto refused = [](const std::string& bytes) { return Message(Checkpoint::Parse(bytes, "m.bin")); };
  CHECK(refused(test::FromHex("80028a0a6cfc9c46f9206aa850192e") + std::string(9, 'x')) ==
        "m.bin: a PyTorch file in the format before version 1.6 is not supported" + advice);
  CHECK(refused(std::string(257, 'a') + "ustar" + std::string(20, '\0')) ==
        "m.bin: a tar archive (PyTorch before version 0.1.10) is not supported" + advice);
  CHECK(refused(PickleBytes().Op("}(K\1K\2K\3u.").s) == "m.bin: a bare pickle is not supported" + advice);
  CHECK(refused("GGUF and the rest") == "m.bin: a GGUF file is no checkpoint: it has been converted already");
  CHECK(refused("something else") ==
        "m.bin: expected safetensors, a PyTorch zip archive or an sgl-kernel .bin, found a file that begins with "
        "'somethin'");
  CHECK(Checkpoint::Parse(std::string("\2\0\0\0\0\0\0\0{}", 10), "m.bin").ok());  // safetensors by another name
}

TEST_CASE("torch: folders with one file, several, or an index") {
  const TempDir dir;
  const auto tensor = [](const std::string& name) {
    return TorchFile(PickleBytes().Op("}").Str(name).Tensor("FloatStorage", "0", 2, 0, {2}, {1}).Op("s.").s,
                     {Floats(2)});
  };
  const auto shards = [&] {
    const Result<Checkpoint> c = Checkpoint::Open(dir.path());
    INFO(c.status().message());
    REQUIRE(c.ok());
    std::vector<std::string> names;
    for (const std::string& s : c->shards()) names.push_back(s.substr(dir.path().size() + 1));
    return names;
  };
  using Names = std::vector<std::string>;
  for (const char* name : {"optimizer.pt", "scheduler.pt", "rng_state.pth", "rng_state_0.pth", "training_args.bin",
                           "consolidated.00.pth", "adapter_model.bin"}) {
    WriteFile(dir / name, "broken");
  }
  CHECK(Checkpoint::Open(dir.path()).status().code() == ErrorCode::kNotFound);
  WriteFile(dir / "m-1.bin", tensor("a"));
  WriteFile(dir / "m-2.pth", tensor("b"));
  WriteFile(dir / "m-3.pt", tensor("c"));
  CHECK(shards() == Names{"m-1.bin", "m-2.pth", "m-3.pt"});
  WriteFile(dir / "pytorch_model.bin", tensor("x"));
  CHECK(shards() == Names{"pytorch_model.bin"});
  {
    const Result<Checkpoint> c = Checkpoint::Open(dir.path());
    c->Release(*c->Find("x"));
    CHECK(Values(*c->Find("x")) == std::vector<float>{0, 1});
  }
  const std::string index = dir / "pytorch_model.bin.index.json";
  WriteFile(index, R"({"weight_map":{"a":"m-1.bin","b":"m-2.pth"}})");
  CHECK(shards() == Names{"m-1.bin", "m-2.pth"});
  WriteFile(index, R"({"weight_map":{"a":"m-1.bin","b":"m-1.bin"}})");
  CHECK(Message(Checkpoint::Open(dir.path())) == index + ": tensor 'b': expected in shard 'm-1.bin', found in none");
  WriteFile(index, R"({"weight_map":{"a":"../m-1.bin"}})");
  CHECK(Message(Checkpoint::Open(dir.path())) ==
        index + ": tensor 'a': expected the name of a file in the same folder, found '../m-1.bin'");
  WriteFile(index, R"({"weight_map":{"a":"m-9.bin"}})");
  CHECK(Message(Checkpoint::Open(dir.path())) ==
        index + ": tensor 'a': " + (dir / "m-9.bin") + ": cannot open: No such file or directory");
  // safetensors first, whatever else is there.
  WriteFile(dir / "z.safetensors", test::FromHex("02000000000000007b7d"));
  CHECK(shards() == Names{"z.safetensors"});
  WriteFile(dir / "model.safetensors", test::FromHex("02000000000000007b7d"));
  CHECK(shards() == Names{"model.safetensors"});
}

}  // namespace
}  // namespace wf
