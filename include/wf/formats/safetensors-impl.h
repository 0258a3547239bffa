// SPDX-License-Identifier: Apache-2.0
// Bodies of safetensors.h: header, types, extents. The rules are those of formats.md 7.1; the JSON is read in
// safetensors_json-impl.h.
#ifndef WF_FORMATS_SAFETENSORS_IMPL_H_
#define WF_FORMATS_SAFETENSORS_IMPL_H_

#include <algorithm>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "wf/base/bytes.h"
#include "wf/base/quote.h"
#include "wf/formats/safetensors.h"
#include "wf/formats/safetensors_json-impl.h"

namespace wf {

namespace detail {

inline Status FindSafetensorsType(const std::string& dtype, ElementType* out) {
  for (uint8_t i = 0; i < kElementTypes; ++i) {
    if (dtype != kElementTypeInfo[i].name) continue;
    *out = static_cast<ElementType>(i);
    return OkStatus();
  }
  for (const char* known :
       {"F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E5M2FNUZ", "F8_E4M3FNUZ", "C64", "F4", "F6_E2M3", "F6_E3M2"}) {
    if (dtype == known) return Unsupported("dtype " + dtype + " is not supported");
  }
  return FormatError("unknown dtype " + Quote(dtype));
}

// Type, shape and size of one entry, without regard to the others. `data` follows when the file is known.
inline Status CheckSafetensorsEntry(SafetensorsEntry* e, CheckpointTensor* t) {
  WF_TRY(FindSafetensorsType(e->dtype, &t->type));
  uint64_t bytes = 0;
  WF_TRY(TensorBytes(e->shape, t->type, &bytes));
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
inline Status CheckSafetensorsTiling(const std::vector<CheckpointTensor>& tensors, uint64_t start, uint64_t buffer) {
  std::vector<const CheckpointTensor*> order;
  order.reserve(tensors.size());
  for (const CheckpointTensor& t : tensors) order.push_back(&t);
  std::sort(order.begin(), order.end(), [](const CheckpointTensor* a, const CheckpointTensor* b) {
    return std::tuple(a->file_offset, a->bytes) < std::tuple(b->file_offset, b->bytes);  // empty ones first
  });
  uint64_t end = 0;
  const CheckpointTensor* before = nullptr;
  const CheckpointTensor* beyond = nullptr;
  for (const CheckpointTensor* t : order) {
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

}  // namespace detail

WF_MODEL_INLINE Result<CheckpointFile> ReadSafetensors(std::string_view bytes) {
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
  CheckpointFile file;
  std::vector<CheckpointTensor>& tensors = file.tensors;
  tensors.resize(json.entries.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    detail::SafetensorsEntry& e = json.entries[i];
    const Status s = detail::CheckSafetensorsEntry(&e, &tensors[i]);
    if (!s.ok()) return s.WithContext("tensor " + Quote(e.name));
  }
  const auto by_name = [](const CheckpointTensor& a, const CheckpointTensor& b) { return a.name < b.name; };
  std::sort(tensors.begin(), tensors.end(), by_name);
  for (size_t i = 1; i < tensors.size(); ++i) {
    if (tensors[i - 1].name == tensors[i].name) {
      return FormatError("header: duplicate key " + Quote(tensors[i].name));
    }
  }
  WF_TRY(detail::CheckSafetensorsTiling(tensors, 8 + n, bytes.size() - 8 - n));
  for (CheckpointTensor& t : tensors) {
    t.file_offset += 8 + n;
    t.data = reinterpret_cast<const uint8_t*>(bytes.data()) + t.file_offset;
  }
  return file;
}

}  // namespace wf
#endif  // WF_FORMATS_SAFETENSORS_IMPL_H_
