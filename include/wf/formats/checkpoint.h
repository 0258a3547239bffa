// SPDX-License-Identifier: Apache-2.0
// The tensors of a checkpoint as a table of views and what keeps them alive, whatever files they lie in: safetensors,
// PyTorch's zip archives, sgl-kernel's .bin (formats.md 7). Which tensors a model needs and what they mean is not known
// here.
#ifndef WF_FORMATS_CHECKPOINT_H_
#define WF_FORMATS_CHECKPOINT_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "wf/base/inline.h"
#include "wf/base/mmap.h"
#include "wf/base/status.h"
#include "wf/formats/checkpoint_file.h"

namespace wf {

class Checkpoint {
 public:
  // A file, its format known by its first bytes, or a folder. Of a folder, the first of these that is there:
  //   model.safetensors.index.json and its shards, model.safetensors, every *.safetensors,
  //   pytorch_model.bin.index.json and its shards, pytorch_model.bin, every *.bin, *.pt and *.pth
  // "Every" is in order of name, without consolidated*, adapter* and what training leaves (optimizer.pt, ...).
  // kNotFound if there is none; otherwise errors name file and tensor.
  static Result<Checkpoint> Open(const std::string& path);
  // One file's bytes, kept alive by the caller; `name` stands for its path. Parse() tells the format by itself.
  static Result<Checkpoint> Parse(std::string_view bytes, const std::string& name);
  static Result<Checkpoint> ParseSafetensors(std::string_view bytes, const std::string& name);
  static Result<Checkpoint> ParseTorch(std::string_view bytes, const std::string& name);
  static Result<Checkpoint> ParseSgl(std::string_view bytes, const std::string& name);

  const std::vector<CheckpointTensor>& tensors() const noexcept { return tensors_; }  // by name, each once
  const CheckpointTensor* Find(std::string_view name) const noexcept;
  const std::vector<std::string>& shards() const noexcept { return shards_; }      // paths
  const std::vector<std::string>& warnings() const noexcept { return warnings_; }  // e.g. not in the index
  // The config.json inside an sgl-kernel .bin, as it lies there; empty for the other formats.
  const std::string& config_json() const noexcept { return config_json_; }
  // The pages of a tensor that has been used up may leave this process's memory.
  void Release(const CheckpointTensor& t) const noexcept;

 private:
  using Reader = Result<CheckpointFile> (*)(std::string_view bytes);
  Checkpoint() = default;
  static Result<Checkpoint> ParseWith(Reader reader, std::string_view bytes, const std::string& name);
  Status OpenFile(const std::string& path);
  Status OpenFolder(const std::string& folder);
  Status OpenIndex(const std::string& folder, const std::string& index);
  Status Add(Reader reader, std::string_view bytes, const std::string& name);
  Status Finish();  // sort, duplicates
  std::vector<CheckpointTensor> tensors_;
  std::vector<std::string> shards_;
  std::vector<std::shared_ptr<MappedFile>> files_;  // by shard; none after Parse
  std::vector<std::shared_ptr<const uint8_t[]>> buffers_;
  std::vector<std::string> warnings_;
  std::string config_json_;
};

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/formats/checkpoint-impl.h"
#endif
#endif  // WF_FORMATS_CHECKPOINT_H_
