// SPDX-License-Identifier: Apache-2.0
// Bodies of open_model.h.
#ifndef WF_CONVERT_OPEN_MODEL_IMPL_H_
#define WF_CONVERT_OPEN_MODEL_IMPL_H_

#include <filesystem>

#include "wf/convert/convert-impl.h"
#include "wf/convert/open_model.h"

namespace wf {

WF_MODEL_INLINE Result<Gguf> ConvertInMemory(const ConvertPlan& plan, ConvertObserver* observer) {
  if (plan.options.outtype == OutType::kSgl) return InvalidArgument("outtype sgl is not a GGUF: it cannot be run");
  ConvertReport report;
  detail::PieceRunner runner(plan.options.threads);
  GgufWriter writer;
  detail::DescribeFile(plan, &writer);
  WF_TRY(writer.BeginInMemory(plan.input));
  detail::GgufOutput out(&writer);
  WF_TRY(detail::TensorWriter(plan, observer, &runner, &out).Run(&report));
  WF_TRY(writer.Flush());
  WF_ASSIGN(Gguf gguf, Gguf::Open(writer.temp_path(), {}, plan.input));
  WF_TRY(writer.Finish());
  return gguf;
}

WF_MODEL_INLINE Result<std::shared_ptr<const Model>> OpenModel(const std::string& path, const OpenModelOptions& options,
                                                               ConvertObserver* observer) {
  std::error_code ec;
  bool checkpoint = std::filesystem::is_directory(path, ec);
  if (!checkpoint) {
    WF_ASSIGN(const MappedFile file, MappedFile::Open(path));
    checkpoint = file.bytes().starts_with("SGLBITNT");
  }
  if (!checkpoint) return Model::Open(path, options.weights);
  if (options.weights.i2s_layout != TensorType::kI2_S) {
    return InvalidArgument(path + ": the layout of I2_S is asked for, but this is a checkpoint and not a GGUF");
  }
  WF_ASSIGN(const ConvertPlan plan, PlanConversion(path, options.convert));
  WF_ASSIGN(Gguf gguf, ConvertInMemory(plan, observer));
  return Model::FromGguf(std::move(gguf), {}, plan.notices);
}

}  // namespace wf
#endif  // WF_CONVERT_OPEN_MODEL_IMPL_H_
