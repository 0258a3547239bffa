// SPDX-License-Identifier: Apache-2.0
// Builds zip archives and pickles byte by byte for tests, right and wrong ones: it checks nothing and shares nothing
// with the readers.
#ifndef WF_TESTS_FORMATS_TORCH_BYTES_H_
#define WF_TESTS_FORMATS_TORCH_BYTES_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/formats/gguf_bytes.h"

namespace wf::test {

// One entry of an archive. What the two headers say can be set apart from the data.
struct ZipPart {
  std::string name, data;
  uint16_t method = 0, flags = 0;
  std::string local_name = {};  // if not empty
  int local_more = 0;           // what the local header's sizes have more
  int central_more = 0;         // what the central directory's sizes have more
  int unpacked_more = 0;        // the same, only its uncompressed size
  bool zip64 = false;           // the central directory's sizes and offset in a ZIP64 field
};

// Local headers and data, central directory, end records.
struct ZipBytes {
  std::string s;
  std::vector<size_t> local, central;  // offsets of the headers
  size_t directory = 0, end = 0;       // of the central directory and the end record

  ZipBytes(const std::vector<ZipPart>& parts, bool zip64, std::string_view comment) {
    Bytes b;
    for (const ZipPart& p : parts) {
      local.push_back(b.s.size());
      const std::string& name = p.local_name.empty() ? p.name : p.local_name;
      const auto n = static_cast<uint32_t>(static_cast<int>(p.data.size()) + p.central_more + p.local_more);
      b.U32(0x04034b50).Put(uint16_t{20}).Put(p.flags).Put(p.method).U32(0).U32(0).U32(n).U32(n);
      b.Put(static_cast<uint16_t>(name.size())).Put(uint16_t{0}).Raw(name).Raw(p.data);
    }
    directory = b.s.size();
    for (size_t i = 0; i < parts.size(); ++i) {
      const ZipPart& p = parts[i];
      const auto n = static_cast<uint32_t>(static_cast<int>(p.data.size()) + p.central_more);
      const auto unpacked = static_cast<uint32_t>(static_cast<int>(n) + p.unpacked_more);
      central.push_back(b.s.size());
      const uint32_t all = 0xffffffff;
      b.U32(0x02014b50).Put(uint16_t{20}).Put(uint16_t{20}).Put(p.flags).Put(p.method).U32(0).U32(0);
      b.U32(p.zip64 ? all : n).U32(p.zip64 ? all : unpacked).Put(static_cast<uint16_t>(p.name.size()));
      b.Put(static_cast<uint16_t>(p.zip64 ? 28 : 0)).Put(uint16_t{0}).Put(uint16_t{0}).Put(uint16_t{0}).U32(0);
      b.U32(p.zip64 ? all : static_cast<uint32_t>(local[i])).Raw(p.name);
      if (p.zip64) b.Put(uint16_t{1}).Put(uint16_t{24}).U64(unpacked).U64(n).U64(local[i]);
    }
    const size_t bytes = b.s.size() - directory, count = parts.size();
    if (zip64) {
      const size_t record = b.s.size();
      b.U32(0x06064b50).U64(44).Put(uint16_t{45}).Put(uint16_t{45}).U32(0).U32(0);
      b.U64(count).U64(count).U64(bytes).U64(directory);
      b.U32(0x07064b50).U32(0).U64(record).U32(1);
    }
    end = b.s.size();
    const auto n = static_cast<uint16_t>(zip64 ? 0xffff : count);
    b.U32(0x06054b50).Put(uint16_t{0}).Put(uint16_t{0}).Put(n).Put(n);
    b.U32(zip64 ? 0xffffffff : static_cast<uint32_t>(bytes)).U32(zip64 ? 0xffffffff : static_cast<uint32_t>(directory));
    b.Put(static_cast<uint16_t>(comment.size())).Raw(comment);
    s = b.s;
  }
};

inline ZipBytes Zip(const std::vector<ZipPart>& parts, bool zip64 = false, std::string_view comment = {}) {
  return ZipBytes(parts, zip64, comment);
}

// A PyTorch archive of this pickle with storages "0", "1", ...
inline std::string TorchFile(const std::string& pickle, const std::vector<std::string>& storages = {}) {
  std::vector<ZipPart> parts = {{"archive/data.pkl", pickle}};
  for (size_t i = 0; i < storages.size(); ++i) parts.push_back({"archive/data/" + std::to_string(i), storages[i]});
  parts.push_back({"archive/version", "3\n"});
  return Zip(parts).s;
}

// Opcodes one after the other, as torch writes them (protocol 2), without the memo.
class PickleBytes {
 public:
  std::string s;
  explicit PickleBytes(std::string begin = std::string("\x80\x02", 2)) : s(std::move(begin)) {}
  PickleBytes& Op(std::string_view ops) {
    s += ops;
    return *this;
  }
  PickleBytes& Str(std::string_view v) {
    s += Bytes().Raw("X").U32(static_cast<uint32_t>(v.size())).Raw(v).s;
    return *this;
  }
  PickleBytes& Int(int64_t v) {  // LONG1
    s += Bytes().Raw("\x8a\x08").Put(v).s;
    return *this;
  }
  PickleBytes& Global(const std::string& module, const std::string& name) {
    s += "c" + module + "\n" + name + "\n";
    return *this;
  }
  PickleBytes& Tuple(const std::vector<int64_t>& v) {
    s += "(";
    for (const int64_t i : v) Int(i);
    s += "t";
    return *this;
  }
  PickleBytes& Storage(const std::string& type, const std::string& key, int64_t elements) {
    Op("(").Str("storage").Global("torch", type).Str(key).Str("cpu").Int(elements);
    return Op("tQ");
  }
  PickleBytes& Tensor(const std::string& type, const std::string& key, int64_t elements, int64_t offset,
                      const std::vector<int64_t>& shape, const std::vector<int64_t>& strides) {
    Global("torch._utils", "_rebuild_tensor_v2").Op("(").Storage(type, key, elements).Int(offset);
    Tuple(shape).Tuple(strides).Op("\x89").Global("collections", "OrderedDict");
    return Op(")RtR");
  }
};

// A pickle of {"w": tensor}.
inline std::string OneTensorPickle(const std::string& type, int64_t elements, int64_t offset,
                                   const std::vector<int64_t>& shape, const std::vector<int64_t>& strides) {
  return PickleBytes().Op("}(").Str("w").Tensor(type, "0", elements, offset, shape, strides).Op("u.").s;
}

// data.pkl of formats.md 7.2: {"w": f32 tensor of shape (2, 2) in storage "0"}.
inline std::string ExamplePickle() {
  return FromHex(
      "80027d7100580100000077710163746f7263682e5f7574696c730a5f72656275"
      "696c645f74656e736f725f76320a71022828580700000073746f726167657103"
      "63746f7263680a466c6f617453746f726167650a710458010000003071055803"
      "00000063707571064b04747107514b004b024b028671084b024b018671098963"
      "636f6c6c656374696f6e730a4f726465726564446963740a710a2952710b7471"
      "0c52710d732e");
}

// The message of what is refused, or "" for what is not.
template <class R>
std::string Message(const R& r) {
  return r.ok() ? std::string() : r.status().message();
}

}  // namespace wf::test
#endif  // WF_TESTS_FORMATS_TORCH_BYTES_H_
