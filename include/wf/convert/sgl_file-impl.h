// SPDX-License-Identifier: Apache-2.0
// sgl-kernel's .bin as a conversion's output: the tensors of a plan under their names, packed weights with the scale
// beside them. Part of convert.h's bodies; the bytes of the file are formats/sgl_bin.h's.
#ifndef WF_CONVERT_SGL_FILE_IMPL_H_
#define WF_CONVERT_SGL_FILE_IMPL_H_

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "wf/convert/convert.h"
#include "wf/convert/source-impl.h"
#include "wf/convert/verify-impl.h"
#include "wf/convert/write-impl.h"
#include "wf/formats/sgl_bin.h"

namespace wf::detail {

// How a planned tensor lies in the file: I2_S rows as [out, in / 4] bytes, floats as they are.
inline Result<SglTensor> SglTensorOf(const PlannedTensor& t) {
  SglTensor s;
  s.name = t.name;
  s.shape.assign(t.ne.rbegin(), t.ne.rend());
  switch (t.type) {
    case TensorType::kF32:
      s.type = ElementType::kF32;
      break;
    case TensorType::kF16:
      s.type = ElementType::kF16;
      break;
    case TensorType::kBF16:
      s.type = ElementType::kBF16;
      break;
    case TensorType::kI2_S:
      if (t.ne.size() != 2 || t.ne[0] % 128 != 0 || t.parts.size() != 1) {
        return Unsupported("tensor " + Quote(t.name) +
                           ": sgl-kernel's format needs matrices whose rows are a multiple "
                           "of 128 weights, found " +
                           ShapeText(s.shape));
      }
      s.type = ElementType::kU8;
      s.shape.back() /= 4;
      s.scale = 1.0f;  // set before the data
      break;
    default:
      return InternalError("tensor " + Quote(t.name) + ": sgl-kernel's format has no " +
                           std::string(TensorTypeName(t.type)));
  }
  return s;
}

// TensorWriter's output.
class SglOutput {
 public:
  explicit SglOutput(const ConvertPlan& plan) : plan_(plan) {}

  Status Begin(const std::string& path) {
    std::vector<SglTensor> tensors;
    for (const PlannedTensor& t : plan_.tensors) {
      WF_ASSIGN(SglTensor s, SglTensorOf(t));
      tensors.push_back(std::move(s));
    }
    return w_.Begin(path, plan_.config.text, std::move(tensors));
  }
  Status BeginTensor(const PlannedTensor& t, const std::vector<float>& stored) {
    const size_t i = next_++;
    return t.type == TensorType::kI2_S ? w_.SetScale(i, stored[0]) : OkStatus();
  }
  Status Write(const void* data, size_t size) { return w_.WriteTensorData(data, size); }
  Status WriteScale(float) { return OkStatus(); }  // it went before the data
  Status Flush() { return w_.Flush(); }
  Status Finish() { return w_.Finish(); }
  const std::string& temp_path() const { return w_.temp_path(); }

 private:
  const ConvertPlan& plan_;
  SglWriter w_;
  size_t next_ = 0;
};

// `path` is the temporary file, everything flushed.
inline Status VerifySglFile(const ConvertPlan& plan, const ConvertReport& report, const std::string& path,
                            PieceRunner* runner, ConvertObserver* observer) {
  WF_ASSIGN(const MappedFile file, MappedFile::Open(path));
  Result<CheckpointFile> read = ReadSgl(file.bytes());
  if (!read.ok()) return InternalError(path + ": cannot be read back: " + read.status().message());
  if (read->config_json != plan.config.text) return InternalError(path + ": config.json is not what was written");
  if (read->tensors.size() != plan.tensors.size()) {
    return InternalError(path + ": expected " + std::to_string(plan.tensors.size()) + " tensors, found " +
                         std::to_string(read->tensors.size()));
  }
  Verifier verifier(plan, report, runner, observer);
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    const PlannedTensor& t = plan.tensors[i];
    const auto found = std::find_if(read->tensors.begin(), read->tensors.end(),
                                    [&](const CheckpointTensor& c) { return c.name == t.name; });
    WF_ASSIGN(const SglTensor want, SglTensorOf(t));
    if (found == read->tensors.end() || found->type != want.type || found->shape != want.shape) {
      return InternalError("tensor " + Quote(t.name) + " was not written as planned");
    }
    if (want.scale && (!found->scale || *found->scale != report.tensors[i].scales[0])) {
      return InternalError("verification of tensor " + Quote(t.name) + " failed: another scale");
    }
    const auto offset = static_cast<uint64_t>(found->data - reinterpret_cast<const uint8_t*>(file.bytes().data()));
    WF_TRY(verifier.Compare(i, {found->data, found->bytes, offset, &file}));
  }
  return OkStatus();
}

}  // namespace wf::detail
#endif  // WF_CONVERT_SGL_FILE_IMPL_H_
