// SPDX-License-Identifier: Apache-2.0
// GGUF v3 writer: metadata and the tensor table first, then the tensors' bytes one after the other in the
// declared order, so that peak memory is one tensor. The file appears at Finish(), whole, or not at all.
#ifndef WF_FORMATS_GGUF_WRITER_H_
#define WF_FORMATS_GGUF_WRITER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "wf/base/inline.h"
#include "wf/base/mmap.h"
#include "wf/base/status.h"
#include "wf/formats/gguf.h"

namespace wf {

class GgufWriter {
 public:
  GgufWriter() = default;

  // Metadata, in the order of the calls. Keys that are empty, too long or given twice and values over the
  // reader's limits are reported by FileBytes() and Begin(). general.alignment takes effect.
  void SetU32(std::string_view key, uint32_t v);
  void SetI32(std::string_view key, int32_t v);
  void SetU64(std::string_view key, uint64_t v);
  void SetF32(std::string_view key, float v);
  void SetBool(std::string_view key, bool v);
  void SetString(std::string_view key, std::string_view v);
  void SetStrings(std::string_view key, const std::vector<std::string>& v);
  void SetI32s(std::string_view key, const std::vector<int32_t>& v);
  void SetU32s(std::string_view key, const std::vector<uint32_t>& v);
  void SetF32s(std::string_view key, const std::vector<float>& v);
  void SetRaw(const GgufValue& v);  // a value read from another file, byte for byte

  // Declares the next tensor; ne innermost first, 1 to 4 dimensions (none: a scalar), each at least 1.
  void AddTensor(std::string_view name, TensorType type, const std::vector<uint64_t>& ne);

  // The size that the finished file will have. kInvalidArgument for tensors whose shape does not fit their
  // type, names that are empty, too long (> 63 bytes) or given twice.
  Result<uint64_t> FileBytes() const;

  // Creates PATH's temporary file and writes header, metadata and tensor table.
  Status Begin(const std::string& path);
  // The same in memory: never a file; to be read through temp_path() after Flush(). `name` is for messages.
  Status BeginInMemory(const std::string& name);
  // The data of the next declared tensor. May be split: successive calls append until the tensor is
  // complete; bytes beyond its end are an error. After kIo the temporary file is gone.
  Status WriteTensorData(const void* data, size_t size);
  // All tensors complete: make durable and rename. Without Finish() no file is left.
  Status Finish();

  const std::string& temp_path() const;  // of the unfinished file, after Begin(): for reading back
  Status Flush();                        // everything written so far is visible through temp_path()

 private:
  struct Tensor {
    std::string name;
    TensorType type;
    std::vector<uint64_t> ne;
    uint64_t offset = 0, bytes = 0;
  };
  void Scalar(std::string_view key, GgufValueType type, const void* p, size_t size);
  void Array(std::string_view key, GgufValueType element, uint64_t count, const void* p, size_t size);
  Status Layout(std::vector<Tensor>* out, std::string* head) const;
  Status BeginWith(const std::string& name, Result<AtomicFile> (*create)(const std::string&));

  Status error_;             // the first mistake of a call that cannot return one; reported by the next that can
  uint64_t alignment_ = 32;  // general.alignment, if set
  std::string kv_;
  std::vector<std::string> keys_;
  std::vector<Tensor> tensors_;
  size_t next_ = 0;              // tensor being written
  uint64_t written_ = 0;         // bytes of it so far
  std::vector<AtomicFile> out_;  // none or one
};

}  // namespace wf
#if !WF_LIB_COMPILED
#include "wf/formats/gguf_writer-impl.h"
#endif
#endif  // WF_FORMATS_GGUF_WRITER_H_
