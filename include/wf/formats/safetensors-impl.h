// SPDX-License-Identifier: Apache-2.0
// Bodies of safetensors.h: types, extents, shards. The rules are those of formats.md 7.1; the JSON is read
// in safetensors_json-impl.h.
#ifndef WF_FORMATS_SAFETENSORS_IMPL_H_
#define WF_FORMATS_SAFETENSORS_IMPL_H_

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <string>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

#include "wf/base/bytes.h"
#include "wf/base/quote.h"
#include "wf/formats/safetensors.h"
#include "wf/formats/safetensors_json-impl.h"

namespace wf {

namespace detail {

inline constexpr uint64_t kSafetensorsMaxHeader = 100'000'000;

struct SafetensorsTypeInfo {
  const char* name;
  uint32_t bytes;
};
inline constexpr SafetensorsTypeInfo kSafetensorsTypes[] = {  // by SafetensorsType
    {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"U8", 1},  {"I8", 1},  {"I16", 2}, {"I32", 4},
    {"I64", 8}, {"U16", 2}, {"U32", 4},  {"U64", 8}, {"F64", 8}, {"BOOL", 1}};

inline Status FindSafetensorsType(const std::string& dtype, SafetensorsType* out) {
  for (size_t i = 0; i < std::size(kSafetensorsTypes); ++i) {
    if (dtype != kSafetensorsTypes[i].name) continue;
    *out = static_cast<SafetensorsType>(i);
    return OkStatus();
  }
  for (const char* known :
       {"F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E5M2FNUZ", "F8_E4M3FNUZ", "C64", "F4", "F6_E2M3", "F6_E3M2"}) {
    if (dtype == known) return Unsupported("dtype " + dtype + " is not supported");
  }
  return FormatError("unknown dtype " + Quote(dtype));
}

// Type, shape and size of one entry, without regard to the others. `data` follows when the file is known.
inline Status CheckSafetensorsEntry(SafetensorsEntry* e, SafetensorsTensor* t) {
  WF_TRY(FindSafetensorsType(e->dtype, &t->type));
  uint64_t bytes = 1;
  for (const uint64_t d : e->shape) {
    if (!CheckedMul(bytes, d, &bytes)) return FormatError("the shape's number of elements overflows");
  }
  if (!CheckedMul(bytes, SafetensorsTypeBytes(t->type), &bytes)) return FormatError("the size in bytes overflows");
  const uint64_t begin = e->data_offsets[0], end = e->data_offsets[1];
  if (begin > end) {
    return FormatError("expected data_offsets [begin, end] with begin <= end, found [" + std::to_string(begin) + ", " +
                       std::to_string(end) + "]");
  }
  if (end - begin != bytes) {
    return FormatError("shape and dtype " + e->dtype + " expected " + std::to_string(bytes) +
                       " bytes, data_offsets found " + std::to_string(end - begin));
  }
  t->name = std::move(e->name);
  t->shape = std::move(e->shape);
  t->bytes = bytes;
  t->file_offset = begin;
  return OkStatus();
}

// Sorted by begin, the tensors must cover the buffer exactly. Offsets are relative to it; `start` is its
// place in the file.
inline Status CheckSafetensorsTiling(const std::vector<SafetensorsTensor>& tensors, uint64_t start, uint64_t buffer) {
  std::vector<const SafetensorsTensor*> order;
  order.reserve(tensors.size());
  for (const SafetensorsTensor& t : tensors) order.push_back(&t);
  std::sort(order.begin(), order.end(), [](const SafetensorsTensor* a, const SafetensorsTensor* b) {
    return std::tuple(a->file_offset, a->bytes) < std::tuple(b->file_offset, b->bytes);  // empty ones first
  });
  uint64_t end = 0;
  const SafetensorsTensor* before = nullptr;
  const SafetensorsTensor* beyond = nullptr;
  for (const SafetensorsTensor* t : order) {
    if (t->file_offset < end) {
      return FormatError("tensor " + Quote(t->name) + " overlaps tensor " + Quote(before->name) +
                         ": expected begin = " + std::to_string(end) + ", found " + std::to_string(t->file_offset));
    }
    if (t->file_offset > end) {
      return FormatError("tensor " + Quote(t->name) + " leaves a hole: expected begin = " + std::to_string(end) +
                         ", found " + std::to_string(t->file_offset));
    }
    end = t->file_offset + t->bytes;  // = data_offsets[1], no overflow
    before = t;
    if (end > buffer && beyond == nullptr) beyond = t;
  }
  if (beyond != nullptr) {
    uint64_t need = 0;
    const bool fits = CheckedAdd(start, end, &need);
    return FormatError("file truncated, expected " + (fits ? std::to_string(need) : std::string("2^64")) +
                       " bytes, found " + std::to_string(start + buffer) + ": tensor " + Quote(beyond->name) +
                       " is cut");
  }
  if (end < buffer) {
    return FormatError(std::to_string(buffer - end) + " bytes after the last tensor: expected a file of " +
                       std::to_string(start + end) + " bytes, found " + std::to_string(start + buffer));
  }
  return OkStatus();
}

// A shard is a file beside the index and nothing else.
inline bool IsPlainFileName(const std::string& s) {
  return !s.empty() && s != "." && s != ".." && s.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
}

}  // namespace detail

WF_MODEL_INLINE const char* SafetensorsTypeName(SafetensorsType t) noexcept {
  const size_t i = static_cast<size_t>(t);
  return i < std::size(detail::kSafetensorsTypes) ? detail::kSafetensorsTypes[i].name : "?";
}
WF_MODEL_INLINE uint32_t SafetensorsTypeBytes(SafetensorsType t) noexcept {
  const size_t i = static_cast<size_t>(t);
  return i < std::size(detail::kSafetensorsTypes) ? detail::kSafetensorsTypes[i].bytes : 0;
}

WF_MODEL_INLINE Status Safetensors::AddShard(std::string_view bytes, const std::string& name) {
  if (bytes.size() < 8) {
    return FormatError("file truncated, expected >= 8 bytes (the header's length), found " +
                       std::to_string(bytes.size()));
  }
  const uint64_t n = LoadLe<uint64_t>(bytes.data());
  if (n < 2) return FormatError("header length: expected at least 2, found " + std::to_string(n) + " (offset 0)");
  if (n > detail::kSafetensorsMaxHeader) {
    return LimitError("header length: expected at most " + std::to_string(detail::kSafetensorsMaxHeader) + ", found " +
                      std::to_string(n) + " (offset 0)");
  }
  if (n > bytes.size() - 8) {
    return FormatError("file truncated, expected >= " + std::to_string(n + 8) + " bytes (the header), found " +
                       std::to_string(bytes.size()));
  }
  if (bytes[8] != '{') return FormatError("header: expected '{', found " + Quote(bytes.substr(8, 1)) + " (offset 8)");
  std::string_view text = bytes.substr(8, n);
  text.remove_suffix(text.size() - 1 - text.find_last_not_of(' '));

  detail::SafetensorsHeaderJson json;
  if (const Status s = detail::ParseSafetensorsJson(text, 8, &json); !s.ok()) return s.WithContext("header");
  if (const std::string* key = json.DuplicateMetadata(); key != nullptr) {
    return FormatError("header: __metadata__: duplicate key " + Quote(*key));
  }
  const uint32_t shard = static_cast<uint32_t>(shards_.size());
  std::vector<SafetensorsTensor> tensors(json.entries.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    detail::SafetensorsEntry& e = json.entries[i];
    const Status s = detail::CheckSafetensorsEntry(&e, &tensors[i]);
    if (!s.ok()) return s.WithContext("tensor " + Quote(e.name));
    tensors[i].shard = shard;
  }
  const auto by_name = [](const SafetensorsTensor& a, const SafetensorsTensor& b) { return a.name < b.name; };
  std::sort(tensors.begin(), tensors.end(), by_name);
  for (size_t i = 1; i < tensors.size(); ++i) {
    if (tensors[i - 1].name == tensors[i].name) {
      return FormatError("header: duplicate key " + Quote(tensors[i].name));
    }
  }
  WF_TRY(detail::CheckSafetensorsTiling(tensors, 8 + n, bytes.size() - 8 - n));
  for (SafetensorsTensor& t : tensors) {
    t.file_offset += 8 + n;
    t.data = reinterpret_cast<const uint8_t*>(bytes.data()) + t.file_offset;
    tensors_.push_back(std::move(t));
  }
  shards_.push_back(name);
  return OkStatus();
}

WF_MODEL_INLINE Status Safetensors::Finish() {
  std::sort(tensors_.begin(), tensors_.end(), [](const SafetensorsTensor& a, const SafetensorsTensor& b) {
    return std::tie(a.name, a.shard) < std::tie(b.name, b.shard);
  });
  for (size_t i = 1; i < tensors_.size(); ++i) {
    if (tensors_[i - 1].name == tensors_[i].name) {
      return FormatError(shards_[tensors_[i].shard] + ": tensor " + Quote(tensors_[i].name) + " is also in " +
                         shards_[tensors_[i - 1].shard]);
    }
  }
  return OkStatus();
}

WF_MODEL_INLINE Result<Safetensors> Safetensors::Parse(std::string_view bytes, const std::string& name) {
  Safetensors s;
  if (const Status e = s.AddShard(bytes, name); !e.ok()) return e.WithContext(name);
  WF_TRY(s.Finish());
  return s;
}

WF_MODEL_INLINE Status Safetensors::OpenShard(const std::string& path) {
  WF_ASSIGN(MappedFile file, MappedFile::Open(path));
  files_.push_back(std::make_shared<MappedFile>(std::move(file)));
  return AddShard(files_.back()->bytes(), path).WithContext(path);
}

WF_MODEL_INLINE Status Safetensors::OpenIndex(const std::string& folder, const std::string& index) {
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
  std::vector<std::string> names;
  for (size_t i = 0; i < map.size(); ++i) {
    if (i > 0 && map[i - 1].first == map[i].first) {
      return FormatError(index + ": 'weight_map': duplicate key " + Quote(map[i].first));
    }
    if (!detail::IsPlainFileName(map[i].second)) {
      return FormatError(index + ": tensor " + Quote(map[i].first) +
                         ": expected the name of a file in the same folder, found " + Quote(map[i].second));
    }
    names.push_back(map[i].second);
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  for (const std::string& name : names) {
    const Status s = OpenShard(folder + "/" + name);
    if (!s.ok()) return s.code() == ErrorCode::kNotFound ? s.WithContext(index) : s;
  }
  WF_TRY(Finish());
  // Both lists are sorted by the tensor's name: one walk finds what is in one of them only.
  size_t i = 0;
  for (const SafetensorsTensor& t : tensors_) {
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

WF_MODEL_INLINE Result<Safetensors> Safetensors::Open(const std::string& path) {
  namespace fs = std::filesystem;
  Safetensors s;
  std::error_code ec;
  if (!fs::is_directory(path, ec)) {
    WF_TRY(s.OpenShard(path));
    WF_TRY(s.Finish());
    return s;
  }
  const std::string index = path + "/model.safetensors.index.json";
  if (fs::exists(index, ec)) {
    WF_TRY(s.OpenIndex(path, index));
    return s;
  }
  std::vector<std::string> names;
  if (fs::exists(path + "/model.safetensors", ec)) {
    names.push_back("model.safetensors");
  } else {
    fs::directory_iterator it(path, ec);
    for (const fs::directory_iterator end; !ec && it != end; it.increment(ec)) {
      const std::string name = it->path().filename().string();
      if (it->path().extension() == ".safetensors" && name.rfind("consolidated", 0) != 0 &&
          name.rfind("adapter", 0) != 0) {
        names.push_back(name);
      }
    }
    if (ec) return IoError(path + ": cannot list: " + ec.message());
    if (names.empty()) return NotFound(path + ": no *.safetensors file in this folder");
  }
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) WF_TRY(s.OpenShard(path + "/" + name));
  WF_TRY(s.Finish());
  return s;
}

WF_MODEL_INLINE const SafetensorsTensor* Safetensors::Find(std::string_view name) const noexcept {
  const auto it = std::lower_bound(tensors_.begin(), tensors_.end(), name,
                                   [](const SafetensorsTensor& t, std::string_view n) { return t.name < n; });
  return it != tensors_.end() && it->name == name ? &*it : nullptr;
}

WF_MODEL_INLINE void Safetensors::Release(const SafetensorsTensor& t) const noexcept {
  if (t.shard < files_.size()) files_[t.shard]->DontNeed(t.file_offset, t.bytes);
}

}  // namespace wf
#endif  // WF_FORMATS_SAFETENSORS_IMPL_H_
