// SPDX-License-Identifier: Apache-2.0
// Bodies of sgl_bin.h. One set of limits for both directions: what is written can be read.
#ifndef WF_FORMATS_SGL_BIN_IMPL_H_
#define WF_FORMATS_SGL_BIN_IMPL_H_

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "wf/base/bytes.h"
#include "wf/base/quote.h"
#include "wf/formats/sgl_bin.h"

namespace wf {

namespace detail {

inline constexpr std::string_view kSglMagic = "SGLBITNT";
inline constexpr uint32_t kSglMaxConfig = uint32_t{16} << 20;
inline constexpr uint32_t kSglMaxName = 4096;
inline constexpr uint32_t kSglMaxDims = 8;
inline constexpr uint64_t kSglLeastTensor = 24;  // bytes of a tensor without name, dimensions, scale and data
inline constexpr ElementType kSglTypes[] = {ElementType::kU8, ElementType::kF32, ElementType::kF16, ElementType::kBF16};

// What a reader requires of a tensor's line and a writer must keep to.
inline Status CheckSglTensor(std::string_view name, const std::vector<uint64_t>& shape, ElementType type,
                             const std::optional<float>& scale, uint64_t* bytes) {
  if (name.empty() || name.size() > kSglMaxName) {
    return FormatError("expected a name of 1 to " + std::to_string(kSglMaxName) + " bytes, found " +
                       std::to_string(name.size()));
  }
  if (shape.size() > kSglMaxDims) {
    return FormatError("expected at most " + std::to_string(kSglMaxDims) + " dimensions, found " +
                       std::to_string(shape.size()));
  }
  if (scale && !std::isfinite(*scale)) return FormatError("expected a finite scale, found another");
  return TensorBytes(shape, type, bytes);
}

template <class T>
void PutSgl(std::string* out, T v) {
  char b[sizeof(T)];
  StoreLe(b, v);
  out->append(b, sizeof(T));
}

inline Result<CheckpointTensor> ReadSglTensor(ByteReader* in, std::string_view file) {
  CheckpointTensor t;
  const uint64_t begin = in->offset();
  WF_ASSIGN(const uint32_t name_bytes, in->Read<uint32_t>("the name's length"));
  WF_ASSIGN(const std::string_view name, in->Bytes(name_bytes, "the name"));
  const auto fail = [&](const Status& s) { return s.WithContext("tensor " + Quote(name)); };
  const auto read = [&]() -> Status {
    WF_ASSIGN(const uint32_t type, in->Read<uint32_t>("the dtype"));
    if (type >= std::size(kSglTypes)) {
      return Unsupported("expected dtype 0 to 3, found " + std::to_string(type));
    }
    t.type = kSglTypes[type];
    WF_ASSIGN(const uint32_t dims, in->Read<uint32_t>("the number of dimensions"));
    if (dims > kSglMaxDims) {
      return LimitError("expected at most " + std::to_string(kSglMaxDims) + " dimensions, found " +
                        std::to_string(dims));
    }
    for (uint32_t d = 0; d < dims; ++d) {
      WF_ASSIGN(const uint32_t n, in->Read<uint32_t>("a dimension"));
      t.shape.push_back(n);
    }
    WF_ASSIGN(const uint32_t has_scale, in->Read<uint32_t>("has_scale"));
    if (has_scale > 1) return FormatError("expected has_scale 0 or 1, found " + std::to_string(has_scale));
    if (has_scale == 1) {
      WF_ASSIGN(t.scale, in->Read<float>("the scale"));
    }
    WF_TRY(CheckSglTensor(name, t.shape, t.type, t.scale, &t.bytes));
    WF_ASSIGN(const uint64_t bytes, in->Read<uint64_t>("the number of bytes"));
    if (bytes != t.bytes) {
      return FormatError("shape and dtype expected " + std::to_string(t.bytes) + " bytes, found " +
                         std::to_string(bytes));
    }
    t.file_offset = in->offset();
    return in->Bytes(t.bytes, "the data").status();
  };
  if (const Status s = read(); !s.ok()) {
    const bool placed = s.message().find("truncated at") == 0;  // it names its own offset
    return fail(placed ? s : Status(s.code(), s.message() + " (offset " + std::to_string(begin) + ")"));
  }
  t.data = reinterpret_cast<const uint8_t*>(file.data()) + t.file_offset;
  t.name = name;
  return t;
}

}  // namespace detail

WF_MODEL_INLINE Result<CheckpointFile> ReadSgl(std::string_view bytes) {
  ByteReader in(bytes);
  CheckpointFile file;
  WF_ASSIGN(const std::string_view magic, in.Bytes(detail::kSglMagic.size(), "the magic"));
  if (magic != detail::kSglMagic) {
    return FormatError("expected " + Quote(detail::kSglMagic) + ", found " + Quote(magic) + " (offset 0)");
  }
  WF_ASSIGN(const uint32_t version, in.Read<uint32_t>("the version"));
  if (version != 1) return Unsupported("version: expected 1, found " + std::to_string(version) + " (offset 8)");
  WF_ASSIGN(const uint32_t config, in.Read<uint32_t>("the configuration's length"));
  if (config > detail::kSglMaxConfig) {
    return LimitError("configuration: expected at most " + std::to_string(detail::kSglMaxConfig) + " bytes, found " +
                      std::to_string(config) + " (offset 12)");
  }
  WF_ASSIGN(file.config_json, in.Bytes(config, "the configuration"));
  const uint64_t at = in.offset();
  WF_ASSIGN(const uint32_t count, in.Read<uint32_t>("the number of tensors"));
  if (count > detail::kCheckpointMaxTensors || count > in.remaining() / detail::kSglLeastTensor) {
    return FormatError(std::to_string(count) + " tensors do not fit the " + std::to_string(in.remaining()) +
                       " bytes that follow (offset " + std::to_string(at) + ")");
  }
  file.tensors.reserve(count);
  for (uint32_t i = 0; i < count; ++i) {
    WF_ASSIGN(CheckpointTensor t, detail::ReadSglTensor(&in, bytes));
    file.tensors.push_back(std::move(t));
  }
  if (in.remaining() != 0) {
    return FormatError(std::to_string(in.remaining()) + " bytes after the last tensor (offset " +
                       std::to_string(in.offset()) + ")");
  }
  return file;
}

WF_MODEL_INLINE Status SglWriter::Begin(const std::string& path, std::string_view config_json,
                                        std::vector<SglTensor> tensors) {
  if (!out_.empty()) return InvalidArgument(path + ": SglWriter::Begin() was called before");
  if (config_json.size() > detail::kSglMaxConfig || tensors.size() > detail::kCheckpointMaxTensors) {
    return InvalidArgument(path + ": expected at most " + std::to_string(detail::kSglMaxConfig) +
                           " bytes of configuration and " + std::to_string(detail::kCheckpointMaxTensors) +
                           " tensors, found " + std::to_string(config_json.size()) + " and " +
                           std::to_string(tensors.size()));
  }
  std::string head(detail::kSglMagic);
  detail::PutSgl<uint32_t>(&head, 1);
  detail::PutSgl(&head, static_cast<uint32_t>(config_json.size()));
  head += config_json;
  detail::PutSgl(&head, static_cast<uint32_t>(tensors.size()));
  uint64_t total = head.size();
  bytes_.clear();
  std::vector<std::string_view> names;
  for (const SglTensor& t : tensors) {
    const auto fail = [&](const std::string& what) {
      return InvalidArgument(path + ": tensor " + Quote(t.name) + ": " + what);
    };
    if (std::find(std::begin(detail::kSglTypes), std::end(detail::kSglTypes), t.type) == std::end(detail::kSglTypes)) {
      return fail(std::string("expected U8, F32, F16 or BF16, found ") + ElementTypeName(t.type));
    }
    for (const uint64_t d : t.shape) {
      if (d > ~uint32_t{0}) return fail("expected dimensions below 2^32, found " + std::to_string(d));
    }
    uint64_t bytes = 0;
    if (const Status s = detail::CheckSglTensor(t.name, t.shape, t.type, t.scale, &bytes); !s.ok()) {
      return fail(s.message());
    }
    const uint64_t line = detail::kSglLeastTensor + t.name.size() + 4 * t.shape.size() + (t.scale ? 4 : 0);
    if (!CheckedAdd(total, line, &total) || !CheckedAdd(total, bytes, &total)) return fail("the file's size overflows");
    bytes_.push_back(bytes);
    names.push_back(t.name);
  }
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) return InvalidArgument(path + ": tensor " + Quote(*twice) + " is given twice");
  WF_ASSIGN(AtomicFile file, AtomicFile::Create(path));
  WF_TRY(file.Write(head.data(), head.size()));
  tensors_ = std::move(tensors);
  file_bytes_ = total;
  next_ = 0;
  written_ = 0;
  out_.push_back(std::move(file));
  return OkStatus();
}

WF_MODEL_INLINE Status SglWriter::SetScale(size_t tensor, float scale) {
  if (tensor >= tensors_.size()) return InvalidArgument("SglWriter: no tensor " + std::to_string(tensor));
  const std::string where = "tensor " + Quote(tensors_[tensor].name) + ": ";
  if (!tensors_[tensor].scale) return InvalidArgument(where + "its scale was not announced to Begin()");
  if (tensor < next_ || (tensor == next_ && written_ > 0)) return InvalidArgument(where + "its scale is written");
  if (!std::isfinite(scale)) return InvalidArgument(where + "expected a finite scale, found another");
  tensors_[tensor].scale = scale;
  return OkStatus();
}

WF_MODEL_INLINE Status SglWriter::WriteHead() {
  const SglTensor& t = tensors_[next_];
  std::string head;
  detail::PutSgl(&head, static_cast<uint32_t>(t.name.size()));
  head += t.name;
  const auto type = std::find(std::begin(detail::kSglTypes), std::end(detail::kSglTypes), t.type);
  detail::PutSgl(&head, static_cast<uint32_t>(type - std::begin(detail::kSglTypes)));
  detail::PutSgl(&head, static_cast<uint32_t>(t.shape.size()));
  for (const uint64_t d : t.shape) detail::PutSgl(&head, static_cast<uint32_t>(d));
  detail::PutSgl(&head, uint32_t{t.scale ? 1u : 0u});
  if (t.scale) detail::PutSgl(&head, *t.scale);
  detail::PutSgl(&head, bytes_[next_]);
  return out_.front().Write(head.data(), head.size());
}

WF_MODEL_INLINE Status SglWriter::Keep(Status s) {
  if (!s.ok()) out_.clear();  // removes the temporary file: on a full disk its space is wanted at once
  return s;
}

WF_MODEL_INLINE Status SglWriter::SkipEmpty() {
  for (; written_ == 0 && next_ < tensors_.size() && bytes_[next_] == 0; ++next_) WF_TRY(WriteHead());
  return OkStatus();
}

WF_MODEL_INLINE Status SglWriter::WriteTensorData(const void* data, size_t size) {
  if (out_.empty()) return InvalidArgument("SglWriter::WriteTensorData() without Begin(), or after an error");
  if (size == 0) return OkStatus();
  WF_TRY(Keep(SkipEmpty()));
  if (next_ == tensors_.size()) {
    return InvalidArgument(std::to_string(size) + " bytes of data after the last tensor");
  }
  if (size > bytes_[next_] - written_) {
    return InvalidArgument("tensor " + Quote(tensors_[next_].name) + ": expected " + std::to_string(bytes_[next_]) +
                           " bytes, found " + std::to_string(written_) + " and then " + std::to_string(size));
  }
  if (written_ == 0) WF_TRY(Keep(WriteHead()));
  WF_TRY(Keep(out_.front().Write(data, size)));
  written_ += size;
  if (written_ == bytes_[next_]) {
    ++next_;
    written_ = 0;
  }
  return OkStatus();
}

WF_MODEL_INLINE Status SglWriter::Finish() {
  if (out_.empty()) return InvalidArgument("SglWriter::Finish() without Begin(), or after an error");
  WF_TRY(Keep(SkipEmpty()));
  if (next_ != tensors_.size()) {
    return InvalidArgument("tensor " + Quote(tensors_[next_].name) + ": expected " + std::to_string(bytes_[next_]) +
                           " bytes, found " + std::to_string(written_));
  }
  const Status s = out_.front().Commit();
  out_.clear();
  return s;
}

WF_MODEL_INLINE const std::string& SglWriter::temp_path() const {
  static const std::string kNone;
  return out_.empty() ? kNone : out_.front().temp_path();
}

WF_MODEL_INLINE Status SglWriter::Flush() {
  if (out_.empty()) return InvalidArgument("SglWriter::Flush() without Begin(), or after an error");
  return Keep(out_.front().Flush());
}

}  // namespace wf
#endif  // WF_FORMATS_SGL_BIN_IMPL_H_
