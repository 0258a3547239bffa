// SPDX-License-Identifier: Apache-2.0
// safetensors reader, single files and sharded folders, by the rules of formats.md 7.1. Views into the
// mappings, no copies; data may be unaligned (use LoadLe). The JSON header goes through Boost.JSON's event
// parser (in safetensors-impl.h), so that numbers stay u64 and duplicate keys are seen; hence the bodies
// belong to wf::model.
#ifndef WF_FORMATS_SAFETENSORS_H_
#define WF_FORMATS_SAFETENSORS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "wf/base/inline.h"
#include "wf/base/mmap.h"
#include "wf/base/status.h"

namespace wf {

enum class SafetensorsType : uint8_t { kF32, kF16, kBF16, kU8, kI8, kI16, kI32, kI64, kU16, kU32, kU64, kF64, kBool };
const char* SafetensorsTypeName(SafetensorsType t) noexcept;
uint32_t SafetensorsTypeBytes(SafetensorsType t) noexcept;

struct SafetensorsTensor {
  std::string name;
  SafetensorsType type = SafetensorsType::kF32;
  std::vector<uint64_t> shape;  // row-major, outermost first; empty: a scalar
  const uint8_t* data = nullptr;
  uint64_t bytes = 0;
  uint32_t shard = 0;        // index into Safetensors::shards()
  uint64_t file_offset = 0;  // of data in its shard
  uint64_t elements() const noexcept {
    uint64_t n = 1;
    for (uint64_t d : shape) n *= d;  // checked at opening
    return n;
  }
};

class Safetensors {
 public:
  // A .safetensors file, or a folder: model.safetensors.index.json and its shards, else
  // model.safetensors, else every *.safetensors in order of name (not consolidated*, not adapter*).
  static Result<Safetensors> Open(const std::string& path);
  // One file's bytes, kept alive by the caller.
  static Result<Safetensors> Parse(std::string_view bytes, const std::string& name);

  const std::vector<SafetensorsTensor>& tensors() const noexcept { return tensors_; }  // by name
  const SafetensorsTensor* Find(std::string_view name) const noexcept;
  const std::vector<std::string>& shards() const noexcept { return shards_; }      // paths
  const std::vector<std::string>& warnings() const noexcept { return warnings_; }  // e.g. not in the index
  // The pages of a tensor that has been used up may leave this process's memory.
  void Release(const SafetensorsTensor& t) const noexcept;

 private:
  Safetensors() = default;
  Status OpenShard(const std::string& path);
  Status OpenIndex(const std::string& folder, const std::string& index);
  Status AddShard(std::string_view bytes, const std::string& name);
  Status Finish();  // sort, duplicates
  std::vector<SafetensorsTensor> tensors_;
  std::vector<std::string> shards_;
  std::vector<std::shared_ptr<MappedFile>> files_;
  std::vector<std::string> warnings_;
};

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/formats/safetensors-impl.h"
#endif
#endif  // WF_FORMATS_SAFETENSORS_H_
