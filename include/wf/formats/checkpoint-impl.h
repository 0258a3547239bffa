// SPDX-License-Identifier: Apache-2.0
// Bodies of checkpoint.h: which files belong to a checkpoint, which reader reads them, and what a shard index may say
// (formats.md 7.1, the same for both kinds of shards).
#ifndef WF_FORMATS_CHECKPOINT_IMPL_H_
#define WF_FORMATS_CHECKPOINT_IMPL_H_

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

#include "wf/base/quote.h"
#include "wf/formats/checkpoint.h"
#include "wf/formats/safetensors.h"
#include "wf/formats/safetensors_json-impl.h"
#include "wf/formats/sgl_bin.h"
#include "wf/formats/torch_zip.h"

namespace wf {

namespace detail {

// A shard is a file beside the index and nothing else.
inline bool IsPlainFileName(const std::string& s) {
  return !s.empty() && s != "." && s != ".." && s.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
}

// What lies beside weights and is none of the model's: other formats' duplicates, adapters, training's state.
inline bool IsOtherThanWeights(std::string_view name) {
  for (const std::string_view prefix :
       {"consolidated", "adapter", "optimizer", "scheduler", "rng_state", "training_args", "scaler"}) {
    if (name.substr(0, prefix.size()) == prefix) return true;
  }
  return false;
}

using CheckpointReader = Result<CheckpointFile> (*)(std::string_view bytes);

// The reader for a file that begins like this. safetensors has no magic: whatever nothing else claims is left to it if
// it could be one, by its header's '{' or its name.
inline Result<CheckpointReader> FindCheckpointReader(std::string_view bytes, std::string_view name) {
  const auto begins = [&](std::string_view magic) { return bytes.substr(0, magic.size()) == magic; };
  const auto ends = [&](std::string_view end) {
    return name.size() >= end.size() && name.substr(name.size() - end.size()) == end;
  };
  if (begins("SGLBITNT")) return &ReadSgl;
  if (bytes.size() > 8 && bytes[8] == '{' && bytes.substr(4, 4) == std::string_view("\0\0\0\0", 4)) {
    return &ReadSafetensors;
  }
  if (begins("PK\3\4") || begins("PK\5\6") || begins("PK\1\2")) return &ReadTorch;
  constexpr const char* kAdvice = "; load it with PyTorch and save it as safetensors";
  if (begins("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19")) {
    return Unsupported(std::string("a PyTorch file in the format before version 1.6 is not supported") + kAdvice);
  }
  if (bytes.size() > 262 && bytes.substr(257, 5) == "ustar") {
    return Unsupported(std::string("a tar archive (PyTorch before version 0.1.10) is not supported") + kAdvice);
  }
  if (bytes.size() > 2 && bytes[0] == '\x80' && bytes[1] >= 2 && bytes[1] <= 5 && !ends(".safetensors")) {
    return Unsupported(std::string("a bare pickle is not supported") + kAdvice);
  }
  if (begins("GGUF")) return Unsupported("a GGUF file is no checkpoint: it has been converted already");
  if (ends(".safetensors") || bytes.size() < 9) return &ReadSafetensors;
  return FormatError(
      "expected safetensors, a PyTorch zip archive or an sgl-kernel .bin, found a file that begins with " +
      Quote(bytes.substr(0, 8)));
}

// The files of a folder that has no index, by the rule in checkpoint.h.
inline Result<std::vector<std::string>> FindWeightFiles(const std::string& folder) {
  namespace fs = std::filesystem;
  std::vector<std::string> safetensors, torch;
  std::error_code ec;
  fs::directory_iterator it(folder, ec);
  for (const fs::directory_iterator end; !ec && it != end; it.increment(ec)) {
    const std::string name = it->path().filename().string();
    if (IsOtherThanWeights(name)) continue;
    const std::string extension = it->path().extension().string();
    if (extension == ".safetensors") safetensors.push_back(name);
    if (extension == ".bin" || extension == ".pt" || extension == ".pth") torch.push_back(name);
  }
  if (ec) return IoError(folder + ": cannot list: " + ec.message());
  const auto prefer = [](std::vector<std::string>* names, const char* whole) {
    std::sort(names->begin(), names->end());
    if (std::binary_search(names->begin(), names->end(), whole)) names->assign(1, whole);
  };
  prefer(&safetensors, "model.safetensors");
  prefer(&torch, "pytorch_model.bin");
  if (!safetensors.empty()) return safetensors;
  if (!torch.empty()) return torch;
  return NotFound(folder + ": no *.safetensors file and no *.bin, *.pt or *.pth file with weights in this folder");
}

}  // namespace detail

WF_MODEL_INLINE Status Checkpoint::Add(Reader reader, std::string_view bytes, const std::string& name) {
  Result<CheckpointFile> read = reader(bytes);
  if (!read.ok()) return read.status().WithContext(name);
  CheckpointFile& file = *read;
  for (CheckpointTensor& t : file.tensors) {
    t.shard = static_cast<uint32_t>(shards_.size());
    tensors_.push_back(std::move(t));
  }
  for (auto& b : file.buffers) buffers_.push_back(std::move(b));
  for (const std::string& w : file.warnings) warnings_.push_back(name + ": " + w);
  if (config_json_.empty()) config_json_ = std::move(file.config_json);
  shards_.push_back(name);
  return OkStatus();
}

WF_MODEL_INLINE Status Checkpoint::Finish() {
  std::sort(tensors_.begin(), tensors_.end(), [](const CheckpointTensor& a, const CheckpointTensor& b) {
    return std::tie(a.name, a.shard) < std::tie(b.name, b.shard);
  });
  for (size_t i = 1; i < tensors_.size(); ++i) {
    const CheckpointTensor &a = tensors_[i - 1], &b = tensors_[i];
    if (a.name != b.name) continue;
    return FormatError(shards_[b.shard] + ": tensor " + Quote(b.name) +
                       (a.shard == b.shard ? " is in it twice" : " is also in " + shards_[a.shard]));
  }
  return OkStatus();
}

WF_MODEL_INLINE Result<Checkpoint> Checkpoint::ParseWith(Reader reader, std::string_view bytes,
                                                         const std::string& name) {
  Checkpoint c;
  WF_TRY(c.Add(reader, bytes, name));
  WF_TRY(c.Finish());
  return c;
}
WF_MODEL_INLINE Result<Checkpoint> Checkpoint::Parse(std::string_view bytes, const std::string& name) {
  const Result<Reader> reader = detail::FindCheckpointReader(bytes, name);
  if (!reader.ok()) return reader.status().WithContext(name);
  return ParseWith(*reader, bytes, name);
}
WF_MODEL_INLINE Result<Checkpoint> Checkpoint::ParseSafetensors(std::string_view bytes, const std::string& name) {
  return ParseWith(&ReadSafetensors, bytes, name);
}
WF_MODEL_INLINE Result<Checkpoint> Checkpoint::ParseTorch(std::string_view bytes, const std::string& name) {
  return ParseWith(&ReadTorch, bytes, name);
}
WF_MODEL_INLINE Result<Checkpoint> Checkpoint::ParseSgl(std::string_view bytes, const std::string& name) {
  return ParseWith(&ReadSgl, bytes, name);
}

WF_MODEL_INLINE Status Checkpoint::OpenFile(const std::string& path) {
  WF_ASSIGN(MappedFile file, MappedFile::Open(path));
  files_.push_back(std::make_shared<MappedFile>(std::move(file)));
  const std::string_view bytes = files_.back()->bytes();
  const Result<Reader> reader = detail::FindCheckpointReader(bytes, path);
  if (!reader.ok()) return reader.status().WithContext(path);
  return Add(*reader, bytes, path);
}

WF_MODEL_INLINE Status Checkpoint::OpenIndex(const std::string& folder, const std::string& index) {
  WF_ASSIGN(const MappedFile file, MappedFile::Open(index));
  if (file.bytes().size() > detail::kSafetensorsMaxHeader) {
    return LimitError(index + ": expected at most " + std::to_string(detail::kSafetensorsMaxHeader) + " bytes, found " +
                      std::to_string(file.bytes().size()));
  }
  detail::SafetensorsIndexJson json;
  if (const Status s = detail::ParseSafetensorsJson(file.bytes(), 0, &json); !s.ok()) return s.WithContext(index);
  if (!json.found) return FormatError(index + ": expected a key 'weight_map', found none");
  auto& map = json.weight_map;
  std::sort(map.begin(), map.end());
  std::vector<std::pair<std::string, std::string>> names;  // shard, one of its tensors
  for (size_t i = 0; i < map.size(); ++i) {
    if (i > 0 && map[i - 1].first == map[i].first) {
      return FormatError(index + ": 'weight_map': duplicate key " + Quote(map[i].first));
    }
    if (!detail::IsPlainFileName(map[i].second)) {
      return FormatError(index + ": tensor " + Quote(map[i].first) +
                         ": expected the name of a file in the same folder, found " + Quote(map[i].second));
    }
    names.emplace_back(map[i].second, map[i].first);
  }
  std::sort(names.begin(), names.end());
  for (size_t i = 0; i < names.size(); ++i) {
    if (i > 0 && names[i].first == names[i - 1].first) continue;
    const Status s = OpenFile(folder + "/" + names[i].first);
    if (s.ok()) continue;
    return s.code() == ErrorCode::kNotFound ? s.WithContext(index + ": tensor " + Quote(names[i].second)) : s;
  }
  WF_TRY(Finish());
  // Both lists are sorted by the tensor's name: one walk finds what is in one of them only.
  size_t i = 0;
  for (const CheckpointTensor& t : tensors_) {
    if (i < map.size() && map[i].first < t.name) break;
    if (i == map.size() || map[i].first != t.name) {
      warnings_.push_back(shards_[t.shard] + ": tensor " + Quote(t.name) + " is not in " + index);
      continue;
    }
    if (shards_[t.shard] != folder + "/" + map[i].second) {
      return FormatError(index + ": tensor " + Quote(t.name) + ": expected in shard " + Quote(map[i].second) +
                         ", found in " + shards_[t.shard]);
    }
    ++i;
  }
  if (i < map.size()) {
    return FormatError(index + ": tensor " + Quote(map[i].first) + ": expected in shard " + Quote(map[i].second) +
                       ", found in none");
  }
  return OkStatus();
}

WF_MODEL_INLINE Status Checkpoint::OpenFolder(const std::string& folder) {
  std::error_code ec;
  const auto exists = [&](const char* name) { return std::filesystem::exists(folder + "/" + name, ec); };
  if (exists("model.safetensors.index.json")) return OpenIndex(folder, folder + "/model.safetensors.index.json");
  const Result<std::vector<std::string>> names = detail::FindWeightFiles(folder);
  const bool safetensors = names.ok() && std::filesystem::path(names->front()).extension() == ".safetensors";
  if (!safetensors && exists("pytorch_model.bin.index.json")) {
    return OpenIndex(folder, folder + "/pytorch_model.bin.index.json");
  }
  WF_TRY(names);
  for (const std::string& name : *names) WF_TRY(OpenFile(folder + "/" + name));
  return Finish();
}

WF_MODEL_INLINE Result<Checkpoint> Checkpoint::Open(const std::string& path) {
  Checkpoint c;
  std::error_code ec;
  if (std::filesystem::is_directory(path, ec)) {
    WF_TRY(c.OpenFolder(path));
  } else {
    WF_TRY(c.OpenFile(path));
    WF_TRY(c.Finish());
  }
  return c;
}

WF_MODEL_INLINE const CheckpointTensor* Checkpoint::Find(std::string_view name) const noexcept {
  const auto it = std::lower_bound(tensors_.begin(), tensors_.end(), name,
                                   [](const CheckpointTensor& t, std::string_view n) { return t.name < n; });
  return it != tensors_.end() && it->name == name ? &*it : nullptr;
}

WF_MODEL_INLINE void Checkpoint::Release(const CheckpointTensor& t) const noexcept {
  if (t.shard >= files_.size()) return;
  const std::string_view file = files_[t.shard]->bytes();
  if (t.file_offset > file.size() || t.data != reinterpret_cast<const uint8_t*>(file.data()) + t.file_offset) return;
  files_[t.shard]->DontNeed(t.file_offset, t.bytes);
}

}  // namespace wf
#endif  // WF_FORMATS_CHECKPOINT_IMPL_H_
