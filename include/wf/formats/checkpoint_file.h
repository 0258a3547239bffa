// SPDX-License-Identifier: Apache-2.0
// What one file of a checkpoint gives, whatever its format: tensors as views, and what they need beside the file's
// bytes. The readers (safetensors.h, torch_zip.h, sgl_bin.h) make it, checkpoint.h puts it together. Not for packed
// GGUF tensors (gguf.h).
#ifndef WF_FORMATS_CHECKPOINT_FILE_H_
#define WF_FORMATS_CHECKPOINT_FILE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "wf/base/bytes.h"
#include "wf/base/status.h"

namespace wf {

enum class ElementType : uint8_t { kF32, kF16, kBF16, kU8, kI8, kI16, kI32, kI64, kU16, kU32, kU64, kF64, kBool };

namespace detail {

struct ElementTypeInfo {
  const char* name;  // as in safetensors
  uint32_t bytes;
};
inline constexpr uint8_t kElementTypes = 13;
inline constexpr ElementTypeInfo kElementTypeInfo[kElementTypes] = {  // by ElementType
    {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"U8", 1},  {"I8", 1},  {"I16", 2}, {"I32", 4},
    {"I64", 8}, {"U16", 2}, {"U32", 4},  {"U64", 8}, {"F64", 8}, {"BOOL", 1}};

inline constexpr uint64_t kCheckpointMaxTensors = uint64_t{1} << 20;  // per file; real models: up to about 100,000
inline constexpr uint64_t kCheckpointMaxDims = 64;                    // as many as NumPy allows

}  // namespace detail

// "?" and 0 for values that are no ElementType.
constexpr const char* ElementTypeName(ElementType t) noexcept {
  const auto i = static_cast<uint8_t>(t);
  return i < detail::kElementTypes ? detail::kElementTypeInfo[i].name : "?";
}
constexpr uint32_t ElementTypeBytes(ElementType t) noexcept {
  const auto i = static_cast<uint8_t>(t);
  return i < detail::kElementTypes ? detail::kElementTypeInfo[i].bytes : 0;
}

struct CheckpointTensor {
  std::string name;
  ElementType type = ElementType::kF32;
  std::vector<uint64_t> shape;    // row-major, outermost first; empty: a scalar
  const uint8_t* data = nullptr;  // contiguous, little-endian, perhaps unaligned (use LoadLe)
  uint64_t bytes = 0;
  uint32_t shard = 0;          // index into Checkpoint::shards()
  uint64_t file_offset = 0;    // of data in its shard; of its storage if data is a copy (strided in the file)
  std::optional<float> scale;  // what packed ternary weights are multiplied by (sgl-kernel's .bin only)
  uint64_t elements() const noexcept {
    uint64_t n = 1;
    for (uint64_t d : shape) n *= d;  // checked at opening
    return n;
  }
};

struct CheckpointFile {
  std::vector<CheckpointTensor> tensors;                  // in any order; names may still occur twice
  std::vector<std::shared_ptr<const uint8_t[]>> buffers;  // what tensors point into that is not in the file
  std::vector<std::string> warnings;                      // what was left out
  std::string config_json;                                // the model's configuration, where the format holds one
};

namespace detail {

// The size of a tensor; kFormat if it does not fit 64 bits.
inline Status TensorBytes(const std::vector<uint64_t>& shape, ElementType type, uint64_t* bytes) {
  *bytes = 1;
  for (const uint64_t d : shape) {
    if (!CheckedMul(*bytes, d, bytes)) return FormatError("the shape's number of elements overflows");
  }
  if (!CheckedMul(*bytes, ElementTypeBytes(type), bytes)) return FormatError("the size in bytes overflows");
  return OkStatus();
}

}  // namespace detail
}  // namespace wf
#endif  // WF_FORMATS_CHECKPOINT_FILE_H_
