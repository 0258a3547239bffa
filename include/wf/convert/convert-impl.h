// SPDX-License-Identifier: Apache-2.0
// Bodies of convert.h: carrying out a plan. The plan itself is in plan-impl.h, reading back in verify-impl.h.
#ifndef WF_CONVERT_CONVERT_IMPL_H_
#define WF_CONVERT_CONVERT_IMPL_H_

#include <sys/statvfs.h>

#include <chrono>
#include <filesystem>

#include "wf/convert/convert.h"
#include "wf/convert/plan-impl.h"
#include "wf/convert/source-impl.h"
#include "wf/convert/verify-impl.h"

namespace wf {
namespace detail {

// Writes the tensors of one plan, in order.
class TensorWriter {
 public:
  TensorWriter(const ConvertPlan& plan, ConvertObserver* observer, GgufWriter* writer)
      : plan_(plan),
        writer_(*writer),
        ticker_(observer, "converting", WorkOf(plan)),
        ternary_(kConvertChunk),
        floats_(kConvertChunk),
        bytes_(4 * kConvertChunk) {}

  Status Run(ConvertReport* report) {
    for (const PlannedTensor& t : plan_.tensors) {
      ticker_.Begin(t.name);
      ConvertedTensor done;
      done.name = t.name;
      done.source = t.source->name;
      done.source_type = SafetensorsTypeName(t.source->type);
      done.type = t.type;
      done.ne = t.ne;
      done.bytes = t.bytes;
      done.ternary = IsTernary(t.op);
      WF_TRY(t.op == ConvertOp::kScaleRest ? WriteScaleRest(&done)
             : done.ternary                ? WriteTernary(t, &done)
                                           : WriteFloats(t, &done));
      plan_.source->Release(*t.source);
      report->tensors.push_back(std::move(done));
    }
    return OkStatus();
  }

  // Elements to be read: ternarising floats takes two passes.
  static uint64_t WorkOf(const ConvertPlan& plan) {
    uint64_t n = 0;
    for (const PlannedTensor& t : plan.tensors) {
      if (t.op == ConvertOp::kScaleRest) continue;
      n += t.elements() * (t.op == ConvertOp::kTernarise || t.op == ConvertOp::kTernary ? 2 : 1);
    }
    return n;
  }

 private:
  Status Tick(uint64_t n) { return ticker_.Add(n); }

  Status WriteTernary(const PlannedTensor& t, ConvertedTensor* done) {
    WF_ASSIGN(TernarySource source, TernarySource::Open(t, plan_.source.get(), [this](uint64_t n) { return Tick(n); }));
    done->operation = source.form();
    uint64_t zeros = 0;
    WF_ASSIGN(const float stored, CheckedScale(t, source.scale()));
    done->scale = source.scale();
    scale_rest_ = ScaleRest(source.scale(), stored);
    for (uint64_t begin = 0; begin < t.elements(); begin += kConvertChunk) {
      const size_t n = source.Count(begin);
      WF_TRY(source.Read(begin, ternary_.data()));
      for (size_t i = 0; i < n; ++i) zeros += ternary_[i] == 0 ? 1 : 0;
      WF_TRY(PutTernary(t.type, n, stored));
      WF_TRY(Tick(n));
    }
    done->zeros = static_cast<double>(zeros) / static_cast<double>(t.elements());
    if (t.type != TensorType::kI2_S) return OkStatus();
    uint8_t tail[kI2sTail] = {};
    StoreLe(tail, done->scale);
    return writer_.WriteTensorData(tail, sizeof(tail));
  }

  Status PutTernary(TensorType type, size_t n, float scale) {
    if (type == TensorType::kI2_S) {  // chunks and tensors are whole groups
      PackI2s(ternary_.data(), n, bytes_.data());
      return writer_.WriteTensorData(bytes_.data(), n / 4);
    }
    const uint32_t words[3] = {EncodeFloat(-scale, type), 0, EncodeFloat(scale, type)};
    const size_t size = type == TensorType::kF32 ? 4 : 2;
    for (size_t i = 0; i < n; ++i) std::memcpy(bytes_.data() + size * i, &words[ternary_[i] + 1], size);
    return writer_.WriteTensorData(bytes_.data(), size * n);
  }

  static Result<float> CheckedScale(const PlannedTensor& t, float scale) {
    const float stored = StoredScale(scale, t.type);
    if (stored > 0 && std::isfinite(stored)) return stored;
    return Unsupported("tensor " + Quote(t.source->name) + ": " + std::string(TensorTypeName(t.type)) +
                       " cannot hold its scale, " + FloatText(scale) + "; use --outtype bf16, f32 or i2_s");
  }

  Status WriteScaleRest(ConvertedTensor* done) {
    done->operation = "rest of the scale";
    done->scale = scale_rest_;
    return writer_.WriteTensorData(&scale_rest_, sizeof(scale_rest_));
  }

  Status WriteFloats(const PlannedTensor& t, ConvertedTensor* done) {
    const size_t size = t.type == TensorType::kF32 ? 4 : 2;
    SpentPages spent(t.op == ConvertOp::kTranspose ? nullptr : plan_.source.get(), *t.source);
    for (uint64_t begin = 0; begin < t.elements(); begin += kConvertChunk) {
      const size_t n = static_cast<size_t>(std::min<uint64_t>(kConvertChunk, t.elements() - begin));
      if (t.op == ConvertOp::kTranspose) {
        for (size_t i = 0; i < n; ++i) {
          WF_TRY(ReadFloats(*t.source, SourceIndex(t, begin + i), std::span<float>(&floats_[i], 1)));
        }
      } else {
        WF_TRY(ReadFloats(*t.source, begin, std::span<float>(floats_).first(n)));
      }
      for (size_t i = 0; i < n; ++i) {
        const uint32_t word = EncodeFloat(floats_[i], t.type);
        const float back = DecodeFloat(word, t.type);
        if (back != floats_[i]) {
          if (!std::isfinite(back)) return Overflow(t, begin + i, floats_[i]);
          ++done->rounded;
        }
        std::memcpy(bytes_.data() + size * i, &word, size);
      }
      WF_TRY(writer_.WriteTensorData(bytes_.data(), size * n));
      spent.Before(begin);
      WF_TRY(Tick(n));
    }
    const bool same = done->source_type == TensorTypeName(t.type);
    done->operation = t.op == ConvertOp::kTranspose ? "transposed" : (same ? "copied" : "converted");
    return OkStatus();
  }
  static Status Overflow(const PlannedTensor& t, uint64_t i, float v) {
    return Unsupported("tensor " + Quote(t.source->name) + ": element " + std::to_string(SourceIndex(t, i)) + " is " +
                       FloatText(v) + ", which " + std::string(TensorTypeName(t.type)) +
                       " cannot hold; use --outtype bf16 or f32");
  }

  const ConvertPlan& plan_;
  GgufWriter& writer_;
  Ticker ticker_;
  std::vector<int8_t> ternary_;
  std::vector<float> floats_;
  std::vector<uint8_t> bytes_;
  float scale_rest_ = 1;  // of the last ternary tensor
};

// Nothing that exists may be lost by the rename but an older output.
inline Status CheckOutput(const ConvertPlan& plan, const std::string& output) {
  namespace fs = std::filesystem;
  std::error_code ec;
  const fs::file_status status = fs::status(output, ec);
  if (fs::is_directory(status)) return InvalidArgument(output + ": is a folder, expected a file name");
  if (fs::exists(status)) {
    if (!fs::is_regular_file(status)) return InvalidArgument(output + ": exists and is not a regular file");
    for (fs::directory_iterator it(plan.input, ec), end; !ec && it != end; it.increment(ec)) {
      std::error_code ignored;
      const std::string ext = it->path().extension().string();
      if (ext != ".gguf" && fs::equivalent(it->path(), output, ignored)) {
        return InvalidArgument(output + ": is a part of the checkpoint");
      }
    }
  }
  const fs::path parent = fs::path(output).parent_path();
  const std::string folder = parent.empty() ? "." : parent.string();
  if (!fs::is_directory(folder, ec)) return NotFound(output + ": there is no folder " + Quote(folder));
  struct statvfs vfs {};
  if (::statvfs(folder.c_str(), &vfs) != 0) return OkStatus();  // then the writes will tell
  const uint64_t free = static_cast<uint64_t>(vfs.f_bavail) * vfs.f_frsize;
  if (free < plan.file_bytes) {
    return IoError(output + ": disk full: " + std::to_string(plan.file_bytes) + " bytes are needed, " +
                   std::to_string(free) + " are free");
  }
  return OkStatus();
}

inline void SumUp(const ConvertPlan& plan, ConvertReport* r) {
  double zeros = 0;
  uint64_t floats = 0;
  for (size_t i = 0; i < r->tensors.size(); ++i) {
    if (plan.tensors[i].op == ConvertOp::kScaleRest) continue;  // not the checkpoint's
    const ConvertedTensor& t = r->tensors[i];
    uint64_t n = 1;
    for (const uint64_t d : t.ne) n *= d;
    r->parameters += n;
    r->rounded += t.rounded;
    if (t.ternary) {
      r->ternary_parameters += n;
      zeros += t.zeros * static_cast<double>(n);
    } else {
      floats += t.rounded;
    }
  }
  if (r->ternary_parameters != 0) r->zeros = zeros / static_cast<double>(r->ternary_parameters);
  r->notices = plan.notices;
  const std::string type = kOutTypeNames[static_cast<size_t>(plan.outtype)];
  if (floats != 0) {
    r->notices.push_back(std::to_string(floats) + " values of float tensors were rounded: --outtype " + type +
                         " cannot hold them exactly");
  }
}

}  // namespace detail

WF_MODEL_INLINE Result<OutType> ParseOutType(std::string_view name) {
  std::string known;
  for (size_t i = 0; i < std::size(kOutTypeNames); ++i) {
    if (name == kOutTypeNames[i]) return static_cast<OutType>(i);
    known += (i == 0 ? "" : ", ") + std::string(kOutTypeNames[i]);
  }
  return InvalidArgument("unknown outtype " + Quote(name) + "; known: " + known);
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
  GgufWriter writer;
  detail::DescribeFile(plan, &writer);
  WF_TRY(writer.Begin(output));
  WF_TRY(detail::TensorWriter(plan, observer, &writer).Run(&report));
  WF_TRY(writer.Flush());
  const auto verify = std::chrono::steady_clock::now();
  WF_TRY(detail::VerifyFile(plan, report, writer.temp_path(), observer));
  report.verify_seconds = since(verify);
  WF_TRY(writer.Finish());
  report.seconds = since(start);
  detail::SumUp(plan, &report);
  return report;
}

}  // namespace wf
#endif  // WF_CONVERT_CONVERT_IMPL_H_
