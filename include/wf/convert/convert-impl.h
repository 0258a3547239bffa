// SPDX-License-Identifier: Apache-2.0
// Bodies of convert.h: carrying out a plan. The plan itself is in plan-impl.h, reading back in verify-impl.h,
// sgl-kernel's .bin in sgl_file-impl.h.
#ifndef WF_CONVERT_CONVERT_IMPL_H_
#define WF_CONVERT_CONVERT_IMPL_H_

#include <chrono>
#include <filesystem>

#include "wf/convert/convert.h"
#include "wf/convert/output-impl.h"
#include "wf/convert/plan-impl.h"
#include "wf/convert/sgl_file-impl.h"
#include "wf/convert/source-impl.h"
#include "wf/convert/verify-impl.h"
#include "wf/convert/write-impl.h"

namespace wf {
namespace detail {

inline Status CheckOutput(const ConvertPlan& plan, const std::string& output) {
  namespace fs = std::filesystem;
  std::error_code ec;
  WF_TRY(CheckOutputPlace(output, plan.file_bytes));
  if (IsSameFile(plan.input, output)) return InvalidArgument(output + ": is the input");
  if (plan.source != nullptr) {
    for (const std::string& shard : plan.source->shards()) {
      if (IsSameFile(shard, output)) return InvalidArgument(output + ": is a part of the checkpoint");
    }
  }
  for (fs::directory_iterator it(plan.input, ec), end; !ec && it != end; it.increment(ec)) {
    if (it->path().extension() != ".gguf" && IsSameFile(it->path(), output)) {
      return InvalidArgument(output + ": is a part of the checkpoint");
    }
  }
  return OkStatus();
}

inline void SumUp(const ConvertPlan& plan, ConvertReport* r) {
  double zeros = 0, worst = 0;
  uint64_t floats = 0, rounded_scales = 0;
  std::string worst_name;
  for (size_t i = 0; i < r->tensors.size(); ++i) {
    const ConvertOp op = plan.tensors[i].op;
    if (op == ConvertOp::kScaleRest || op == ConvertOp::kConstant) continue;  // not the checkpoint's
    const ConvertedTensor& t = r->tensors[i];
    const uint64_t n = plan.tensors[i].elements();
    r->parameters += n;
    r->rounded += t.rounded;
    if (t.ternary) {
      r->ternary_parameters += n;
      zeros += t.zeros * static_cast<double>(n);
      rounded_scales += t.scale_error > kScaleNoise ? 1 : 0;
      if (t.scale_error > worst) {
        worst = t.scale_error;
        worst_name = t.name;
      }
    } else if (IsFloatType(t.type)) {
      floats += t.rounded;
    }
  }
  if (r->ternary_parameters != 0) r->zeros = zeros / static_cast<double>(r->ternary_parameters);
  r->notices = plan.notices;
  const std::string type = kOutTypeNames[static_cast<size_t>(plan.options.outtype)];
  if (floats != 0) {
    r->notices.push_back(std::to_string(floats) + " values of float tensors were rounded: --outtype " + type +
                         " cannot hold them exactly");
  }
  if (rounded_scales != 0) {
    r->notices.push_back("the scales of " + std::to_string(rounded_scales) + " tensors were rounded, by at most " +
                         PercentText(worst) + " (" + Quote(worst_name) + "): " + type + " cannot hold them exactly");
  }
}

}  // namespace detail

WF_MODEL_INLINE Result<OutType> ParseOutType(std::string_view name) {
  std::string known;
  for (size_t i = 0; i < std::size(kOutTypeNames); ++i) {
    if (name == kOutTypeNames[i]) return static_cast<OutType>(i);
    known += i == 0 ? "" : ", ";
    known += kOutTypeNames[i];
  }
  return InvalidArgument("unknown outtype " + Quote(name) + "; known: " + known);
}

WF_MODEL_INLINE TensorType OutTensorType(OutType t) noexcept {
  constexpr TensorType kTypes[] = {TensorType::kF32,   TensorType::kF16,   TensorType::kBF16,   TensorType::kI2_S,
                                   TensorType::kTQ1_0, TensorType::kTQ2_0, TensorType::kIQ2_BN, TensorType::kQ2_0,
                                   TensorType::kI2_S,  TensorType::kI2_S};
  return kTypes[static_cast<size_t>(t)];
}

WF_MODEL_INLINE const char* ConvertOpName(ConvertOp op) noexcept {
  switch (op) {
    case ConvertOp::kFloat:
      return "convert";
    case ConvertOp::kTranspose:
      return "transpose";
    case ConvertOp::kTernarise:
      return "ternarise";
    case ConvertOp::kTernary:
      return "take ternary values";
    case ConvertOp::kUnpack:
      return "unpack";
    case ConvertOp::kScaleRest:
      return "rest of the scale";
    case ConvertOp::kConstant:
      return "constant";
  }
  return "?";
}

WF_MODEL_INLINE Result<ConvertReport> ExecuteConversion(const ConvertPlan& plan, const std::string& output,
                                                        ConvertObserver* observer) {
  const auto start = std::chrono::steady_clock::now();
  const auto since = [](std::chrono::steady_clock::time_point t) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - t).count();
  };
  WF_TRY(detail::CheckOutput(plan, output));
  ConvertReport report;
  report.output = output;
  report.file_bytes = plan.file_bytes;
  detail::PieceRunner runner(plan.options.threads);
  const auto finish = [&](auto* writer, const auto& verify) -> Status {
    WF_TRY(detail::TensorWriter(plan, observer, &runner, writer).Run(&report));
    WF_TRY(writer->Flush());
    const auto verifying = std::chrono::steady_clock::now();
    WF_TRY(verify());
    report.verify_seconds = since(verifying);
    detail::SumUp(plan, &report);
    if (plan.options.strict && !report.notices.empty()) return Unsupported("--strict: " + report.notices.front());
    return writer->Finish();
  };
  if (plan.options.outtype == OutType::kSgl) {
    detail::SglOutput writer(plan);
    WF_TRY(writer.Begin(output));
    WF_TRY(finish(&writer, [&] { return detail::VerifySglFile(plan, report, writer.temp_path(), &runner, observer); }));
  } else {
    GgufWriter writer;
    detail::DescribeFile(plan, &writer);
    WF_TRY(writer.Begin(output));
    detail::GgufOutput out(&writer);
    WF_TRY(finish(&out, [&] { return detail::VerifyFile(plan, report, writer.temp_path(), &runner, observer); }));
  }
  report.seconds = since(start);
  return report;
}

}  // namespace wf
#endif  // WF_CONVERT_CONVERT_IMPL_H_
