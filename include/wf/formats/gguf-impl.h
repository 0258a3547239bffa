// SPDX-License-Identifier: Apache-2.0
// Bodies of gguf.h: the walk over header, metadata and tensor table, and the placing of tensors in the file.
// Every rule of formats.md 1.3 is applied here and nowhere else; the typed getters are in
// gguf_values-impl.h.
#ifndef WF_FORMATS_GGUF_IMPL_H_
#define WF_FORMATS_GGUF_IMPL_H_

#include <algorithm>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "wf/base/bytes.h"
#include "wf/base/quote.h"
#include "wf/formats/gguf.h"
#include "wf/formats/gguf_layout-impl.h"
#include "wf/quant/tl2.h"

namespace wf {

namespace detail {

// The shortest possible entries; they bound a count by the bytes left before anything is allocated.
inline constexpr uint64_t kGgufMinValueBytes = 8 + 1 + 4 + 1;       // length, key, type, a u8
inline constexpr uint64_t kGgufMinTensorBytes = 8 + 1 + 4 + 4 + 8;  // length, name, n_dims = 0, type, offset

inline Result<GgufValueType> ReadGgufType(ByteReader* in, const char* what) {
  const uint64_t at = in->offset();
  WF_ASSIGN(const uint32_t id, in->Read<uint32_t>(what));
  if (id > 12) {
    return FormatError(std::string(what) + ": expected 0 to 12, found " + std::to_string(id) + AtOffset(at));
  }
  return static_cast<GgufValueType>(id);
}

// One metadata value; its type, then what the type says. Views into `bytes`, over which `in` walks.
inline Status ReadGgufValue(std::string_view bytes, ByteReader* in, const GgufLimits& limits, GgufValue* v) {
  WF_ASSIGN(v->type, ReadGgufType(in, "value type"));
  GgufValueType element = v->type;
  if (v->type == GgufValueType::kArray) {
    const uint64_t at = in->offset();
    WF_ASSIGN(element, ReadGgufType(in, "array element type"));
    if (element == GgufValueType::kArray) return Unsupported("an array of arrays" + AtOffset(at));
    WF_ASSIGN(v->count, in->Read<uint64_t>("array length"));
  } else if (v->type == GgufValueType::kString) {
    WF_ASSIGN(v->raw, ReadGgufString(in, "string", limits.max_string_bytes));
    v->element = element;
    v->offset = in->offset() - v->raw.size();
    return OkStatus();
  }
  v->element = element;
  v->offset = in->offset();
  WF_TRY(SkipGgufElements(in, element, v->count, limits));
  v->raw = bytes.substr(v->offset, in->offset() - v->offset);
  return OkStatus();
}

inline std::string UnknownTensorType(uint32_t id) {
  const std::string n = "tensor type " + std::to_string(id);
  if (id == 4 || id == 5) return n + " (Q4_2 or Q4_3, removed from ggml in 2023)";
  if (id >= 31 && id <= 33) return n + " (rows interleaved, removed from ggml: requantise the model to Q4_0)";
  if (id == 37) return n + " (I8_S, exists at run time only)";
  if ((id >= 133 && id <= 158) || (id >= 200 && id < 400)) return n + " (of ik_llama.cpp)";
  return n;
}

// `data` and `file_offset` come with the placing; until then file_offset is relative to the data section.
inline Status ReadGgufTensor(ByteReader* in, GgufTensor* t) {
  uint64_t at = in->offset();
  WF_ASSIGN(t->n_dims, in->Read<uint32_t>("number of dimensions"));
  if (t->n_dims > 4) {
    return FormatError("expected at most 4 dimensions, found " + std::to_string(t->n_dims) + AtOffset(at));
  }
  const uint64_t shape_at = in->offset();
  for (uint32_t i = 0; i < t->n_dims; ++i) {
    WF_ASSIGN(t->ne[i], in->Read<uint64_t>("dimension"));
  }
  const uint64_t type_at = in->offset();
  WF_ASSIGN(const uint32_t id, in->Read<uint32_t>("tensor type"));
  at = in->offset();
  WF_ASSIGN(t->file_offset, in->Read<uint64_t>("data offset"));
  if (!IsFileTypeId(id) || FindTensorType(id) == nullptr)
    return Unsupported(UnknownTensorType(id) + " is not supported" + AtOffset(type_at));
  t->type = static_cast<TensorType>(id);
  if (const Status s = GgufTensorBytes(t->type, t->ne, &t->bytes); !s.ok()) {
    return Status(s.code(), s.message() + AtOffset(shape_at));
  }
  uint64_t end = 0;
  if (!CheckedAdd(t->file_offset, t->bytes, &end)) {
    return FormatError("data offset " + std::to_string(t->file_offset) + " and size " + std::to_string(t->bytes) +
                       " overflow" + AtOffset(at));
  }
  return OkStatus();
}

// Ids that mean different things by fork (formats.md 2.1, 2.10 to 2.12): `gap` bytes to the next tensor, which are not
// what the id's usual meaning takes, tell which other one it is. Sets type and bytes to that; or says why the tensor is
// refused; or does nothing.
inline const char* ResolveGgufLayout(uint64_t gap, uint64_t alignment, GgufTensor* t) {
  const auto is_gap = [&](uint64_t bytes) {
    uint64_t padded = 0;
    return bytes != 0 && (gap == bytes || (CheckedAlignUp(bytes, alignment, &padded) && gap == padded));
  };
  const uint64_t n = t->elements();
  switch (t->type) {
    case TensorType::kTQ1_0:
      return is_gap(n / 64 * 13) ? "old ik_llama.cpp file (IQ1_BN as id 34); convert the model again" : nullptr;
    case TensorType::kTQ2_0:
      return is_gap(n / 64 * 16) ? "old ik_llama.cpp file (IQ2_BN as id 35); convert the model again" : nullptr;
    case TensorType::kQ1_0:
    case TensorType::kQ2_0:
      for (const TensorType other : {TensorType::kQ2_0_128, TensorType::kQ2_0, TensorType::kQ1_0}) {
        const TensorTypeInfo* info = FindTensorType(static_cast<uint32_t>(other));
        uint64_t bytes = 0;
        if (!TensorBytes(*info, t->ne[0], t->rows(), &bytes) || !is_gap(bytes)) continue;
        t->type = other;
        t->bytes = bytes;
        break;
      }
      return nullptr;
    case TensorType::kMXFP4:
      for (const Tl2Generation g : {Tl2Generation::kSecond, Tl2Generation::kFirst}) {
        const uint64_t bytes = Tl2Bytes(t->rows(), t->ne[0], g);
        if (!is_gap(bytes)) continue;
        t->type = TensorType::kTL2;
        t->bytes = bytes;
        break;
      }
      return nullptr;
    default:
      return nullptr;
  }
}

// `order` = 0..n-1 sorted by name(i); returns the position of the first of two equal names, or n.
template <class Name>
size_t SortByName(size_t n, const Name& name, std::vector<uint32_t>* order) {
  order->resize(n);
  std::iota(order->begin(), order->end(), 0u);
  std::sort(order->begin(), order->end(), [&](uint32_t a, uint32_t b) {
    const int c = name(a).compare(name(b));
    return c != 0 ? c < 0 : a < b;
  });
  for (size_t i = 1; i < n; ++i) {
    if (name((*order)[i - 1]) == name((*order)[i])) return i - 1;
  }
  return n;
}

}  // namespace detail

WF_LIB_INLINE const char* GgufValueTypeName(GgufValueType t) noexcept {
  constexpr const char* kNames[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                    "bool", "string", "array", "u64", "i64", "f64"};
  return static_cast<uint32_t>(t) <= 12 ? kNames[static_cast<uint32_t>(t)] : "?";
}

WF_LIB_INLINE Result<Gguf> Gguf::Open(const std::string& path, const GgufLimits& limits, const std::string& name) {
  WF_ASSIGN(MappedFile file, MappedFile::Open(path));
  Gguf g;
  g.file_ = std::make_shared<MappedFile>(std::move(file));
  g.bytes_ = g.file_->bytes();
  g.name_ = name.empty() ? path : name;
  if (const Status s = g.Read(limits); !s.ok()) return s.WithContext(g.name_);
  return g;
}

WF_LIB_INLINE Result<Gguf> Gguf::Parse(std::string_view bytes, const std::string& name, const GgufLimits& limits) {
  Gguf g;
  g.bytes_ = bytes;
  g.name_ = name;
  if (const Status s = g.Read(limits); !s.ok()) return s.WithContext(name);
  return g;
}

WF_LIB_INLINE Status Gguf::Read(const GgufLimits& limits) {
  ByteReader in(bytes_);
  uint64_t tensor_count = 0, kv_count = 0;
  WF_TRY(ReadHeader(&in, limits, &tensor_count, &kv_count));
  WF_TRY(ReadValues(&in, limits, kv_count));
  WF_TRY(ReadTensors(&in, tensor_count));
  WF_TRY(IndexNames());
  if (const GgufValue* v = Find("general.alignment"); v != nullptr) {
    WF_ASSIGN(alignment_, detail::GgufAlignment(*v));
  }
  return PlaceTensors(in.offset());
}

WF_LIB_INLINE Status Gguf::ReadHeader(ByteReader* in, const GgufLimits& limits, uint64_t* tensor_count,
                                      uint64_t* kv_count) {
  constexpr std::string_view kMagic = "GGUF";
  const std::string_view start = bytes_.substr(0, kMagic.size());
  if (start != kMagic.substr(0, start.size())) {
    return FormatError("not a GGUF file: expected the magic 'GGUF', found " + Quote(start) + AtOffset(0));
  }
  if (bytes_.size() < 24) {
    return FormatError("file truncated, expected >= 24 bytes (the header), found " + std::to_string(bytes_.size()));
  }
  WF_TRY(in->Bytes(kMagic.size(), "magic"));
  WF_ASSIGN(version_, in->Read<uint32_t>("version"));
  if (version_ != 0 && (version_ & 0xffffu) == 0) return Unsupported("big-endian GGUF not supported (offset 4)");
  if (version_ != 2 && version_ != 3) {
    return Unsupported("GGUF version: expected 2 or 3, found " + std::to_string(version_) +
                       (version_ == 1 ? ", which is obsolete (offset 4)" : " (offset 4)"));
  }
  WF_ASSIGN(*tensor_count, in->Read<uint64_t>("tensor count"));
  WF_ASSIGN(*kv_count, in->Read<uint64_t>("metadata count"));
  if (*tensor_count > limits.max_tensors) {
    return LimitError("tensor count: expected at most " + std::to_string(limits.max_tensors) + ", found " +
                      std::to_string(*tensor_count) + " (offset 8)");
  }
  if (*kv_count > limits.max_kv) {
    return LimitError("metadata count: expected at most " + std::to_string(limits.max_kv) + ", found " +
                      std::to_string(*kv_count) + " (offset 16)");
  }
  uint64_t need = 0, tensors = 0;
  const bool fits = CheckedMul(*kv_count, detail::kGgufMinValueBytes, &need) &&
                    CheckedMul(*tensor_count, detail::kGgufMinTensorBytes, &tensors) &&
                    CheckedAdd(need, tensors, &need) && CheckedAdd(need, 24, &need);
  if (!fits || need > bytes_.size()) {
    return FormatError("file truncated, expected >= " + (fits ? std::to_string(need) : std::string("2^64")) +
                       " bytes for " + std::to_string(*kv_count) + " metadata values and " +
                       std::to_string(*tensor_count) + " tensors, found " + std::to_string(bytes_.size()));
  }
  return OkStatus();
}

WF_LIB_INLINE Status Gguf::ReadValues(ByteReader* in, const GgufLimits& limits, uint64_t count) {
  values_.reserve(count);  // bounded by the file's size in ReadHeader
  for (uint64_t i = 0; i < count; ++i) {
    const std::string nth = "metadata value " + std::to_string(i);
    GgufValue v;
    const uint64_t at = in->offset();
    Result<std::string_view> key = detail::ReadGgufString(in, "key", limits.max_key_bytes);
    if (!key.ok()) return key.status().WithContext(nth);
    if (key->empty()) return FormatError(nth + ": the key is empty" + AtOffset(at));
    v.key = *key;
    const Status s = detail::ReadGgufValue(bytes_, in, limits, &v);
    if (!s.ok()) return s.WithContext("key " + Quote(v.key));
    values_.push_back(v);
  }
  return OkStatus();
}

WF_LIB_INLINE Status Gguf::ReadTensors(ByteReader* in, uint64_t count) {
  tensors_.reserve(count);  // bounded by the file's size in ReadHeader
  for (uint64_t i = 0; i < count; ++i) {
    const std::string nth = "tensor " + std::to_string(i);
    GgufTensor t;
    const uint64_t at = in->offset();
    Result<std::string_view> name = detail::ReadGgufString(in, "name", in->remaining());
    if (!name.ok()) return name.status().WithContext(nth);
    if (name->empty() || name->size() > detail::kGgufMaxTensorName) {
      return FormatError(nth + ": expected a name of 1 to 63 bytes, found " + std::to_string(name->size()) +
                         AtOffset(at));
    }
    t.name = *name;
    const Status s = detail::ReadGgufTensor(in, &t);
    if (!s.ok()) return s.WithContext("tensor " + Quote(t.name));
    tensors_.push_back(t);
  }
  return OkStatus();
}

WF_LIB_INLINE Status Gguf::IndexNames() {
  const size_t kv = detail::SortByName(
      values_.size(), [&](uint32_t i) { return values_[i].key; }, &value_index_);
  if (kv < values_.size()) {
    const GgufValue& a = values_[value_index_[kv]];
    const GgufValue& b = values_[value_index_[kv + 1]];
    return FormatError("key " + Quote(a.key) + " occurs twice, with values at offsets " + std::to_string(a.offset) +
                       " and " + std::to_string(b.offset));
  }
  const size_t t = detail::SortByName(
      tensors_.size(), [&](uint32_t i) { return tensors_[i].name; }, &tensor_index_);
  if (t < tensors_.size()) {
    return FormatError("tensor " + Quote(tensors_[tensor_index_[t]].name) + " occurs twice, as tensors " +
                       std::to_string(tensor_index_[t]) + " and " + std::to_string(tensor_index_[t + 1]));
  }
  return OkStatus();
}

WF_LIB_INLINE Status Gguf::PlaceTensors(uint64_t end_of_table) {
  if (!CheckedAlignUp(end_of_table, alignment_, &data_offset_)) return FormatError("metadata size overflows");
  const uint64_t data_bytes = bytes_.size() > data_offset_ ? bytes_.size() - data_offset_ : 0;
  std::vector<uint32_t> order(tensors_.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return std::pair(tensors_[a].file_offset, a) < std::pair(tensors_[b].file_offset, b);
  });
  const GgufTensor* beyond = nullptr;  // the tensor that ends last, of those that end outside the file
  uint64_t need = bytes_.size();
  for (size_t i = 0; i < order.size(); ++i) {
    GgufTensor& t = tensors_[order[i]];
    const std::string found = " (offset " + std::to_string(t.file_offset) + " of the data section)";
    if (t.file_offset % alignment_ != 0) {
      return FormatError("tensor " + Quote(t.name) + ": expected a data offset that is a multiple of " +
                         std::to_string(alignment_) + ", found " + std::to_string(t.file_offset));
    }
    const GgufTensor* next = i + 1 < order.size() ? &tensors_[order[i + 1]] : nullptr;
    const uint64_t limit = next != nullptr ? next->file_offset : data_bytes;
    const uint64_t gap = limit > t.file_offset ? limit - t.file_offset : 0;
    uint64_t padded = 0, file_end = 0;
    if (!CheckedAlignUp(t.bytes, alignment_, &padded) || (gap != padded && gap != t.bytes)) {
      const char* refused = detail::ResolveGgufLayout(gap, alignment_, &t);
      if (refused != nullptr) {
        return Unsupported("tensor " + Quote(t.name) + ": type " + std::string(TensorTypeName(t.type)) + ", expected " +
                           std::to_string(t.bytes) + " bytes, found " + std::to_string(gap) + ": " + refused + found);
      }
    }
    uint64_t end = 0;
    if (!CheckedAdd(t.file_offset, t.bytes, &end) || !CheckedAdd(data_offset_, end, &file_end)) {
      return FormatError("tensor " + Quote(t.name) + ": its end overflows" + found);
    }
    if (next != nullptr && gap < t.bytes) {
      return FormatError("tensor " + Quote(t.name) + " overlaps tensor " + Quote(next->name) + ": type " +
                         std::string(TensorTypeName(t.type)) + ", expected " + std::to_string(t.bytes) +
                         " bytes, found " + std::to_string(gap) + found);
    }
    if (file_end > need) {
      need = file_end;
      beyond = &t;
    }
  }
  if (beyond != nullptr) {
    return FormatError("file truncated, expected >= " + std::to_string(need) + " bytes, found " +
                       std::to_string(bytes_.size()) + ": tensor " + Quote(beyond->name) + " has " +
                       std::to_string(beyond->bytes) + " bytes at offset " +
                       std::to_string(data_offset_ + beyond->file_offset));
  }
  for (GgufTensor& t : tensors_) {
    t.file_offset += data_offset_;
    t.data = reinterpret_cast<const uint8_t*>(bytes_.data()) + t.file_offset;
  }
  return OkStatus();
}

WF_LIB_INLINE const GgufValue* Gguf::Find(std::string_view key) const noexcept {
  const auto it = std::lower_bound(value_index_.begin(), value_index_.end(), key,
                                   [&](uint32_t i, std::string_view k) { return values_[i].key < k; });
  return it != value_index_.end() && values_[*it].key == key ? &values_[*it] : nullptr;
}

WF_LIB_INLINE const GgufTensor* Gguf::FindTensor(std::string_view name) const noexcept {
  const auto it = std::lower_bound(tensor_index_.begin(), tensor_index_.end(), name,
                                   [&](uint32_t i, std::string_view k) { return tensors_[i].name < k; });
  return it != tensor_index_.end() && tensors_[*it].name == name ? &tensors_[*it] : nullptr;
}

}  // namespace wf

#include "wf/formats/gguf_values-impl.h"
#endif  // WF_FORMATS_GGUF_IMPL_H_
