// SPDX-License-Identifier: Apache-2.0
// Bodies of gguf_writer.h. Metadata is kept packed as it will lie in the file; the tensor table and all
// offsets are computed once, by the rules that the reader checks (gguf_layout-impl.h).
#ifndef WF_FORMATS_GGUF_WRITER_IMPL_H_
#define WF_FORMATS_GGUF_WRITER_IMPL_H_

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "wf/base/bytes.h"
#include "wf/base/quote.h"
#include "wf/formats/gguf_layout-impl.h"
#include "wf/formats/gguf_writer.h"

namespace wf {

namespace detail {

template <class T>
void AppendLe(std::string* out, T v) {
  char b[sizeof(T)];
  StoreLe(b, v);
  out->append(b, sizeof(T));
}
inline void AppendGgufString(std::string* out, std::string_view s) {
  AppendLe<uint64_t>(out, s.size());
  out->append(s);
}

// One of two equal strings, or nullptr.
inline const std::string* FirstDuplicate(std::vector<const std::string*> names) {
  std::sort(names.begin(), names.end(), [](const std::string* a, const std::string* b) { return *a < *b; });
  for (size_t i = 1; i < names.size(); ++i) {
    if (*names[i - 1] == *names[i]) return names[i];
  }
  return nullptr;
}

// What a value to be written must satisfy so that the reader accepts it.
inline Status CheckGgufValue(const GgufValue& v) {
  const GgufLimits limits;
  if (v.key.empty()) return InvalidArgument("GGUF metadata: the key is empty");
  if (v.key.size() > limits.max_key_bytes) {
    return InvalidArgument("GGUF metadata: expected a key of at most " + std::to_string(limits.max_key_bytes) +
                           " bytes, found " + std::to_string(v.key.size()));
  }
  const std::string where = "GGUF key " + Quote(v.key) + ": ";
  if (v.type == GgufValueType::kString) {
    if (v.raw.size() <= limits.max_string_bytes) return OkStatus();
    return InvalidArgument(where + "expected a string of at most " + std::to_string(limits.max_string_bytes) +
                           " bytes, found " + std::to_string(v.raw.size()));
  }
  const bool array = v.type == GgufValueType::kArray;
  const GgufValueType element = array ? v.element : v.type;
  if (static_cast<uint32_t>(element) > 12 || element == GgufValueType::kArray) {
    return InvalidArgument(where + "its type cannot be written");
  }
  ByteReader in(v.raw);
  if (const Status s = SkipGgufElements(&in, element, array ? v.count : 1, limits); !s.ok()) {
    return InvalidArgument(where + s.message());
  }
  if (in.remaining() != 0) return InvalidArgument(where + std::to_string(in.remaining()) + " bytes too many");
  if (v.key == "general.alignment") {
    if (const Result<uint64_t> a = GgufAlignment(v); !a.ok()) return InvalidArgument(a.status().message());
  }
  return OkStatus();
}

}  // namespace detail

WF_LIB_INLINE void GgufWriter::SetRaw(const GgufValue& v) {
  Status s = detail::CheckGgufValue(v);
  if (s.ok() && !out_.empty()) s = InvalidArgument("GGUF key " + Quote(v.key) + " is set after Begin()");
  if (!s.ok()) {
    if (error_.ok()) error_ = std::move(s);
    return;
  }
  if (v.key == "general.alignment") alignment_ = *detail::GgufAlignment(v);
  keys_.emplace_back(v.key);
  detail::AppendGgufString(&kv_, v.key);
  detail::AppendLe(&kv_, static_cast<uint32_t>(v.type));
  if (v.type == GgufValueType::kArray) {
    detail::AppendLe(&kv_, static_cast<uint32_t>(v.element));
    detail::AppendLe(&kv_, v.count);
  } else if (v.type == GgufValueType::kString) {
    detail::AppendLe<uint64_t>(&kv_, v.raw.size());
  }
  kv_.append(v.raw);
}

WF_LIB_INLINE void GgufWriter::Scalar(std::string_view key, GgufValueType type, const void* p, size_t size) {
  GgufValue v;
  v.key = key;
  v.type = v.element = type;
  v.raw = {static_cast<const char*>(p), size};
  SetRaw(v);
}
WF_LIB_INLINE void GgufWriter::Array(std::string_view key, GgufValueType element, uint64_t count, const void* p,
                                     size_t size) {
  GgufValue v;
  v.key = key;
  v.type = GgufValueType::kArray;
  v.element = element;
  v.count = count;
  v.raw = {static_cast<const char*>(p), size};
  SetRaw(v);
}

WF_LIB_INLINE void GgufWriter::SetU32(std::string_view key, uint32_t v) {
  Scalar(key, GgufValueType::kU32, &v, sizeof v);
}
WF_LIB_INLINE void GgufWriter::SetI32(std::string_view key, int32_t v) {
  Scalar(key, GgufValueType::kI32, &v, sizeof v);
}
WF_LIB_INLINE void GgufWriter::SetU64(std::string_view key, uint64_t v) {
  Scalar(key, GgufValueType::kU64, &v, sizeof v);
}
WF_LIB_INLINE void GgufWriter::SetF32(std::string_view key, float v) { Scalar(key, GgufValueType::kF32, &v, sizeof v); }
WF_LIB_INLINE void GgufWriter::SetBool(std::string_view key, bool v) {
  const uint8_t b = v ? 1 : 0;
  Scalar(key, GgufValueType::kBool, &b, sizeof b);
}
WF_LIB_INLINE void GgufWriter::SetString(std::string_view key, std::string_view v) {
  Scalar(key, GgufValueType::kString, v.data(), v.size());
}
WF_LIB_INLINE void GgufWriter::SetStrings(std::string_view key, const std::vector<std::string>& v) {
  std::string packed;
  for (const std::string& s : v) detail::AppendGgufString(&packed, s);
  Array(key, GgufValueType::kString, v.size(), packed.data(), packed.size());
}
WF_LIB_INLINE void GgufWriter::SetI32s(std::string_view key, const std::vector<int32_t>& v) {
  Array(key, GgufValueType::kI32, v.size(), v.data(), v.size() * sizeof(int32_t));
}
WF_LIB_INLINE void GgufWriter::SetU32s(std::string_view key, const std::vector<uint32_t>& v) {
  Array(key, GgufValueType::kU32, v.size(), v.data(), v.size() * sizeof(uint32_t));
}
WF_LIB_INLINE void GgufWriter::SetF32s(std::string_view key, const std::vector<float>& v) {
  Array(key, GgufValueType::kF32, v.size(), v.data(), v.size() * sizeof(float));
}

WF_LIB_INLINE void GgufWriter::AddTensor(std::string_view name, TensorType type, const std::vector<uint64_t>& ne) {
  if (!out_.empty()) {
    if (error_.ok()) error_ = InvalidArgument("GGUF tensor " + Quote(name) + " is added after Begin()");
    return;
  }
  tensors_.push_back({std::string(name), type, ne, 0, 0});
}

WF_LIB_INLINE Status GgufWriter::Layout(std::vector<Tensor>* out, std::string* head) const {
  WF_TRY(error_);
  const GgufLimits limits;
  if (keys_.size() > limits.max_kv || tensors_.size() > limits.max_tensors) {
    return InvalidArgument("GGUF: expected at most " + std::to_string(limits.max_kv) + " keys and " +
                           std::to_string(limits.max_tensors) + " tensors, found " + std::to_string(keys_.size()) +
                           " and " + std::to_string(tensors_.size()));
  }
  std::vector<const std::string*> names;
  for (const std::string& k : keys_) names.push_back(&k);
  if (const std::string* k = detail::FirstDuplicate(std::move(names)); k != nullptr) {
    return InvalidArgument("GGUF key " + Quote(*k) + " is set twice");
  }
  names.clear();
  for (const Tensor& t : tensors_) names.push_back(&t.name);
  if (const std::string* n = detail::FirstDuplicate(std::move(names)); n != nullptr) {
    return InvalidArgument("GGUF tensor " + Quote(*n) + " is added twice");
  }
  *out = tensors_;
  head->assign("GGUF");
  detail::AppendLe<uint32_t>(head, 3);
  detail::AppendLe<uint64_t>(head, tensors_.size());
  detail::AppendLe<uint64_t>(head, keys_.size());
  head->append(kv_);
  uint64_t offset = 0;
  for (Tensor& t : *out) {
    const std::string where = "GGUF tensor " + Quote(t.name) + ": ";
    if (t.name.empty() || t.name.size() > detail::kGgufMaxTensorName) {
      return InvalidArgument(where + "expected a name of 1 to 63 bytes, found " + std::to_string(t.name.size()));
    }
    if (t.ne.size() > 4) {
      return InvalidArgument(where + "expected at most 4 dimensions, found " + std::to_string(t.ne.size()));
    }
    if (!IsFileTypeId(static_cast<uint32_t>(t.type)) && FindTensorType(static_cast<uint32_t>(t.type)) != nullptr) {
      return InvalidArgument(where + std::string(TensorTypeName(t.type)) +
                             " cannot be written: a reader would take its id for another layout");
    }
    uint64_t ne[4] = {1, 1, 1, 1};
    std::copy(t.ne.begin(), t.ne.end(), ne);
    if (const Status s = detail::GgufTensorBytes(t.type, ne, &t.bytes); !s.ok()) {
      return InvalidArgument(where + s.message());
    }
    t.offset = offset;
    uint64_t padded = 0;
    if (!CheckedAlignUp(t.bytes, alignment_, &padded) || !CheckedAdd(offset, padded, &offset)) {
      return InvalidArgument(where + "the file's size overflows");
    }
    detail::AppendGgufString(head, t.name);
    detail::AppendLe<uint32_t>(head, static_cast<uint32_t>(t.ne.size()));
    for (const uint64_t n : t.ne) detail::AppendLe(head, n);
    detail::AppendLe(head, static_cast<uint32_t>(t.type));
    detail::AppendLe(head, t.offset);
  }
  head->resize(AlignUp(head->size(), alignment_), '\0');
  return OkStatus();
}

WF_LIB_INLINE Result<uint64_t> GgufWriter::FileBytes() const {
  std::vector<Tensor> tensors;
  std::string head;
  WF_TRY(Layout(&tensors, &head));
  uint64_t end = head.size();
  if (!tensors.empty()) {
    const Tensor& last = tensors.back();
    if (!CheckedAdd(end, last.offset, &end) || !CheckedAdd(end, last.bytes, &end) ||
        !CheckedAlignUp(end, alignment_, &end)) {
      return InvalidArgument("GGUF: the file's size overflows");
    }
  }
  return end;
}

WF_LIB_INLINE Status GgufWriter::Begin(const std::string& path) { return BeginWith(path, AtomicFile::Create); }
WF_LIB_INLINE Status GgufWriter::BeginInMemory(const std::string& name) {
  return BeginWith(name, AtomicFile::CreateInMemory);
}
WF_LIB_INLINE Status GgufWriter::BeginWith(const std::string& path, Result<AtomicFile> (*create)(const std::string&)) {
  if (!out_.empty()) return InvalidArgument(path + ": GgufWriter::Begin() was called before");
  std::vector<Tensor> tensors;
  std::string head;
  if (const Status s = Layout(&tensors, &head); !s.ok()) return s.WithContext(path);
  WF_ASSIGN(AtomicFile file, create(path));
  WF_TRY(file.Write(head.data(), head.size()));
  tensors_ = std::move(tensors);
  next_ = 0;
  written_ = 0;
  out_.push_back(std::move(file));
  return OkStatus();
}

WF_LIB_INLINE Status GgufWriter::WriteTensorData(const void* data, size_t size) {
  if (out_.empty()) return InvalidArgument("GgufWriter::WriteTensorData() without Begin()");
  if (size == 0) return OkStatus();
  if (next_ == tensors_.size()) {
    return InvalidArgument("GGUF: " + std::to_string(size) + " bytes of data after the last tensor");
  }
  const Tensor& t = tensors_[next_];
  if (size > t.bytes - written_) {
    return InvalidArgument("GGUF tensor " + Quote(t.name) + ": expected " + std::to_string(t.bytes) + " bytes, found " +
                           std::to_string(written_) + " and then " + std::to_string(size));
  }
  Status s = out_.front().Write(data, size);
  written_ += size;
  if (s.ok() && written_ == t.bytes) {
    const std::string padding(AlignUp(t.bytes, alignment_) - t.bytes, '\0');
    s = out_.front().Write(padding.data(), padding.size());
    ++next_;
    written_ = 0;
  }
  if (!s.ok()) out_.clear();  // removes the temporary file: on a full disk its space is wanted at once
  return s;
}

WF_LIB_INLINE Status GgufWriter::Finish() {
  if (out_.empty()) return InvalidArgument("GgufWriter::Finish() without Begin(), or after an error");
  WF_TRY(error_);
  if (next_ != tensors_.size()) {
    return InvalidArgument("GGUF tensor " + Quote(tensors_[next_].name) + ": expected " +
                           std::to_string(tensors_[next_].bytes) + " bytes, found " + std::to_string(written_));
  }
  const Status s = out_.front().Commit();
  out_.clear();
  return s;
}

WF_LIB_INLINE const std::string& GgufWriter::temp_path() const {
  static const std::string kNone;
  return out_.empty() ? kNone : out_.front().temp_path();
}

WF_LIB_INLINE Status GgufWriter::Flush() {
  if (out_.empty()) return InvalidArgument("GgufWriter::Flush() without Begin(), or after an error");
  const Status s = out_.front().Flush();
  if (!s.ok()) out_.clear();
  return s;
}

}  // namespace wf
#endif  // WF_FORMATS_GGUF_WRITER_IMPL_H_
