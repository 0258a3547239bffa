// SPDX-License-Identifier: Apache-2.0
// GGUF v2/v3 reader: a mapped file becomes views of its metadata and tensors, without copies. Everything
// is validated here once (formats.md 1.3): counts before allocation, checked arithmetic, extents against
// the file and against each other; afterwards views cannot fail. Not for: split files, big-endian files
// (refused by name), interpretation of keys (model/config.h, tokenizer/vocab.h).
#ifndef WF_FORMATS_GGUF_H_
#define WF_FORMATS_GGUF_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "wf/base/bytes.h"
#include "wf/base/inline.h"
#include "wf/base/mmap.h"
#include "wf/base/status.h"
#include "wf/quant/types.h"

namespace wf {

enum class GgufValueType : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};
const char* GgufValueTypeName(GgufValueType t) noexcept;

// One metadata value, a view into the file.
struct GgufValue {
  std::string_view key;
  GgufValueType type = GgufValueType::kU8;
  GgufValueType element = GgufValueType::kU8;  // arrays only
  uint64_t count = 1;                          // array length, else 1
  std::string_view raw;                        // scalar or packed elements; a string's bytes without its length
  uint64_t offset = 0;                         // of `raw` in the file, for messages
};

struct GgufTensor {
  std::string_view name;
  TensorType type = TensorType::kF32;  // what its size says where forks use an id for several; kI2_S in any layout
  uint32_t n_dims = 0;                 // 0: a scalar, all ne = 1
  uint64_t ne[4] = {1, 1, 1, 1};       // innermost first; ne[0] is the input dimension K of a weight
  const uint8_t* data = nullptr;       // into the mapping
  uint64_t bytes = 0;
  uint64_t file_offset = 0;  // of data, from the start of the file
  uint64_t rows() const noexcept { return ne[1] * ne[2] * ne[3]; }
  uint64_t elements() const noexcept { return ne[0] * rows(); }
};

// Limits of formats.md 1.3. Crossing one is ErrorCode::kLimit and names it.
struct GgufLimits {
  uint64_t max_kv = 65536;
  uint64_t max_tensors = 65536;
  uint64_t max_key_bytes = 64 << 10;
  uint64_t max_string_bytes = 16 << 20;
};

class Gguf {
 public:
  // `name`, if given, stands for the path in messages.
  static Result<Gguf> Open(const std::string& path, const GgufLimits& limits = {}, const std::string& name = {});
  // Parses bytes that the caller keeps alive; `name` stands for the path in messages.
  static Result<Gguf> Parse(std::string_view bytes, const std::string& name, const GgufLimits& limits = {});

  const std::string& name() const noexcept { return name_; }
  uint32_t version() const noexcept { return version_; }
  uint64_t alignment() const noexcept { return alignment_; }
  uint64_t file_bytes() const noexcept { return bytes_.size(); }
  uint64_t data_offset() const noexcept { return data_offset_; }
  const std::vector<GgufValue>& values() const noexcept { return values_; }
  const std::vector<GgufTensor>& tensors() const noexcept { return tensors_; }

  const GgufValue* Find(std::string_view key) const noexcept;          // nullptr if absent; O(log n)
  const GgufTensor* FindTensor(std::string_view name) const noexcept;  // nullptr if absent; O(log n)

  // Typed getters. kNotFound if the key is absent, kFormat if it has a type that cannot be read as asked
  // (any integer type serves for integers, with a range check; f32 or f64 for floats, integers too; bool
  // or integer for bools). Messages name file, key, expected and found.
  Result<uint64_t> GetUint(std::string_view key) const;
  Result<int64_t> GetInt(std::string_view key) const;
  Result<double> GetFloat(std::string_view key) const;
  Result<bool> GetBool(std::string_view key) const;
  Result<std::string_view> GetString(std::string_view key) const;
  Result<std::vector<std::string_view>> GetStringArray(std::string_view key) const;
  Result<std::vector<int64_t>> GetIntArray(std::string_view key) const;  // a scalar is an array of one
  Result<std::vector<float>> GetFloatArray(std::string_view key) const;  // likewise
  // The default if the key is absent; still an error if its type is wrong.
  Result<uint64_t> GetUintOr(std::string_view key, uint64_t fallback) const;
  Result<double> GetFloatOr(std::string_view key, double fallback) const;
  Result<bool> GetBoolOr(std::string_view key, bool fallback) const;
  Result<std::string_view> GetStringOr(std::string_view key, std::string_view fallback) const;

  const MappedFile* file() const noexcept { return file_.get(); }  // nullptr after Parse()

 private:
  Gguf() = default;
  Status Read(const GgufLimits& limits);
  Status ReadHeader(ByteReader* in, const GgufLimits& limits, uint64_t* tensor_count, uint64_t* kv_count);
  Status ReadValues(ByteReader* in, const GgufLimits& limits, uint64_t count);
  Status ReadTensors(ByteReader* in, uint64_t count);
  Status IndexNames();
  Status PlaceTensors(uint64_t end_of_table);
  std::shared_ptr<MappedFile> file_;
  std::string_view bytes_;
  std::string name_;
  uint32_t version_ = 0;
  uint64_t alignment_ = 32;
  uint64_t data_offset_ = 0;
  std::vector<GgufValue> values_;
  std::vector<GgufTensor> tensors_;
  std::vector<uint32_t> value_index_, tensor_index_;  // sorted by key and name
};

}  // namespace wf
#if !WF_LIB_COMPILED
#include "wf/formats/gguf-impl.h"
#endif
#endif  // WF_FORMATS_GGUF_H_
