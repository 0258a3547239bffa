// SPDX-License-Identifier: Apache-2.0
// sgl-kernel's .bin: a Hugging Face model with packed ternary weights in one file (formats.md 7.3), read and written.
// Bytes only: who packs and what the names mean is for the converter. The tokenizer is not in the file.
#ifndef WF_FORMATS_SGL_BIN_H_
#define WF_FORMATS_SGL_BIN_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "wf/base/inline.h"
#include "wf/base/mmap.h"
#include "wf/base/status.h"
#include "wf/formats/checkpoint_file.h"

namespace wf {

// Views into `bytes`, and the configuration. Packed weights are kU8 of shape [out, in / 4] with a scale. kFormat,
// kLimit or kUnsupported with offset and tensor; the file's name is for the caller to add.
Result<CheckpointFile> ReadSgl(std::string_view bytes);

struct SglTensor {
  std::string name;
  ElementType type = ElementType::kF32;  // kU8 (packed), kF32, kF16 or kBF16
  std::vector<uint64_t> shape;           // as in the file: [out, in / 4] for packed weights; each below 2^32
  std::optional<float> scale;            // its presence is final, its value may follow (SetScale)
};

// Tensor after tensor in the order of the table, so that peak memory is one piece of one tensor. The file appears at
// Finish(), whole, or not at all.
class SglWriter {
 public:
  // Creates PATH's temporary file and writes the header. kInvalidArgument for what ReadSgl would refuse.
  Status Begin(const std::string& path, std::string_view config_json, std::vector<SglTensor> tensors);
  // The scale of a tensor whose first byte has not been written.
  Status SetScale(size_t tensor, float scale);
  // The data of the next tensor. May be split: successive calls append until the tensor is complete; bytes beyond its
  // end are an error. After kIo the temporary file is gone.
  Status WriteTensorData(const void* data, size_t size);
  // All tensors complete: make durable and rename. Without Finish() no file is left.
  Status Finish();

  uint64_t FileBytes() const noexcept { return file_bytes_; }  // of the finished file, after Begin()
  const std::string& temp_path() const;                        // of the unfinished file, after Begin()
  Status Flush();                                              // everything so far is visible through temp_path()

 private:
  Status WriteHead();     // of tensor next_
  Status SkipEmpty();     // tensors without data
  Status Keep(Status s);  // on an error, removes the temporary file
  std::vector<SglTensor> tensors_;
  std::vector<uint64_t> bytes_;  // of each tensor
  uint64_t file_bytes_ = 0;
  size_t next_ = 0;              // tensor being written
  uint64_t written_ = 0;         // bytes of it so far
  std::vector<AtomicFile> out_;  // none or one
};

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/formats/sgl_bin-impl.h"
#endif
#endif  // WF_FORMATS_SGL_BIN_H_
