// SPDX-License-Identifier: Apache-2.0
// Reading a written file back before it gets its name: metadata through the model's own reader, every value against
// the checkpoint. Part of convert.h's bodies.
#ifndef WF_CONVERT_VERIFY_IMPL_H_
#define WF_CONVERT_VERIFY_IMPL_H_

#include <chrono>

#include "wf/convert/convert.h"
#include "wf/convert/source-impl.h"
#include "wf/formats/gguf.h"
#include "wf/model/config.h"
#include "wf/model/weights.h"

namespace wf::detail {

inline bool IsTernary(ConvertOp op) noexcept {
  return op == ConvertOp::kTernarise || op == ConvertOp::kTernary || op == ConvertOp::kUnpack;
}

// Counts work, reports it at most ten times a second, and notices cancellation.
class Ticker {
 public:
  Ticker(ConvertObserver* observer, const char* phase, uint64_t total)
      : observer_(observer), phase_(phase), total_(total) {}
  void Begin(std::string_view tensor) { tensor_ = tensor; }
  Status Add(uint64_t n) {
    done_ += n;
    if (observer_ == nullptr) return OkStatus();
    if (observer_->Cancelled()) {
      return Status(ErrorCode::kCancelled, "cancelled while " + std::string(phase_) + " " + Quote(tensor_));
    }
    const auto now = std::chrono::steady_clock::now();
    if (done_ >= total_ || now - last_ >= std::chrono::milliseconds(100)) {
      last_ = now;
      observer_->Progress({phase_, tensor_, done_, total_});
    }
    return OkStatus();
  }

 private:
  ConvertObserver* observer_;
  const char* phase_;
  uint64_t done_ = 0, total_;
  std::string_view tensor_;
  std::chrono::steady_clock::time_point last_{};
};

class Verifier {
 public:
  Verifier(const ConvertPlan& plan, const ConvertReport& report, const Gguf& file, ConvertObserver* observer)
      : plan_(plan),
        report_(report),
        file_(file),
        ticker_(observer, "verifying", Elements(plan)),
        ternary_(kConvertChunk) {}

  Status Run() {
    for (size_t i = 0; i < plan_.tensors.size(); ++i) {
      const PlannedTensor& t = plan_.tensors[i];
      ticker_.Begin(t.name);
      const GgufTensor* g = file_.FindTensor(t.name);
      if (g == nullptr || g->type != t.type || g->bytes != t.bytes || g->elements() != t.elements()) {
        return InternalError("tensor " + Quote(t.name) + " was not written as planned");
      }
      if (t.op == ConvertOp::kScaleRest) {
        WF_TRY(CompareScaleRest(t, *g, report_.tensors[i - 1].scale));
        continue;
      }
      WF_TRY(IsTernary(t.op) ? CompareTernary(t, *g, report_.tensors[i].scale) : CompareFloats(t, *g));
      plan_.source->Release(*t.source);
      Spent(*g, g->bytes);
    }
    return OkStatus();
  }

 private:
  static uint64_t Elements(const ConvertPlan& plan) {
    uint64_t n = 0;
    for (const PlannedTensor& t : plan.tensors) n += t.op == ConvertOp::kScaleRest ? 0 : t.elements();
    return n;
  }
  static Status Differs(const PlannedTensor& t, uint64_t i, float expected, float found) {
    return InternalError("verification of tensor " + Quote(t.name) + " failed: element " + std::to_string(i) +
                         ": expected " + FloatText(expected) + ", found " + FloatText(found));
  }
  static float ValueAt(const GgufTensor& g, uint64_t i) noexcept {
    if (g.type == TensorType::kF32) return LoadLe<float>(g.data + 4 * i);
    return DecodeFloat(LoadLe<uint16_t>(g.data + 2 * i), g.type);
  }

  // The first `bytes` of a tensor have been compared: its pages may go, some megabytes at a time.
  void Spent(const GgufTensor& g, uint64_t bytes) {
    if (spent_of_ != &g) {
      spent_of_ = &g;
      spent_ = 0;
    }
    if (file_.file() == nullptr || (bytes < spent_ + (uint64_t{8} << 20) && bytes != g.bytes)) return;
    file_.file()->DontNeed(g.file_offset + spent_, bytes - spent_);
    spent_ = bytes;
  }

  // The ternary values of the checkpoint are found anew; the scale must be the one that was reported.
  Status CompareTernary(const PlannedTensor& t, const GgufTensor& g, float scale) {
    WF_ASSIGN(TernarySource source, TernarySource::Open(t, plan_.source.get(), [](uint64_t) { return OkStatus(); }));
    const bool packed = t.type == TensorType::kI2_S;
    const float expected = StoredScale(source.scale(), t.type);
    const float stored = packed ? LoadLe<float>(g.data + t.elements() / 4) : expected;
    stored_scale_ = stored;
    if (stored != expected || scale != source.scale()) {
      return InternalError("verification of tensor " + Quote(t.name) + " failed: expected scale " +
                           FloatText(expected) + ", found " + FloatText(stored));
    }
    for (uint64_t begin = 0; begin < t.elements(); begin += kConvertChunk) {
      const size_t n = source.Count(begin);
      WF_TRY(source.Read(begin, ternary_.data()));
      for (size_t i = 0; i < n; ++i) {
        const float want = static_cast<float>(ternary_[i]) * expected;
        const float found =
            packed ? (static_cast<float>(I2sCode(g.data, begin + i)) - 1.0f) * stored : ValueAt(g, begin + i);
        if (want != found) return Differs(t, begin + i, want, found);
      }
      Spent(g, packed ? begin / 4 : g.bytes / t.elements() * begin);
      WF_TRY(ticker_.Add(n));
    }
    return OkStatus();
  }

  Status CompareScaleRest(const PlannedTensor& t, const GgufTensor& g, float scale) const {
    const float rest = LoadLe<float>(g.data);
    if (rest == ScaleRest(scale, stored_scale_)) return OkStatus();
    return Differs(t, 0, ScaleRest(scale, stored_scale_), rest);
  }

  Status CompareFloats(const PlannedTensor& t, const GgufTensor& g) {
    SpentPages spent(t.op == ConvertOp::kTranspose ? nullptr : plan_.source.get(), *t.source);
    for (uint64_t begin = 0; begin < t.elements(); begin += kConvertChunk) {
      const uint64_t end = std::min<uint64_t>(t.elements(), begin + kConvertChunk);
      for (uint64_t i = begin; i < end; ++i) {
        const float v = FloatAt(*t.source, SourceIndex(t, i));
        const float want = DecodeFloat(EncodeFloat(v, t.type), t.type), found = ValueAt(g, i);
        if (want != found) return Differs(t, i, want, found);
      }
      spent.Before(begin);
      Spent(g, g.bytes / t.elements() * begin);
      WF_TRY(ticker_.Add(end - begin));
    }
    return OkStatus();
  }

  const ConvertPlan& plan_;
  const ConvertReport& report_;
  const Gguf& file_;
  Ticker ticker_;
  std::vector<int8_t> ternary_;
  const GgufTensor* spent_of_ = nullptr;
  uint64_t spent_ = 0;
  float stored_scale_ = 1;  // of the last ternary tensor, as its type holds it
};

// `path` is the temporary file, everything flushed.
inline Status VerifyFile(const ConvertPlan& plan, const ConvertReport& report, const std::string& path,
                         ConvertObserver* observer) {
  WF_ASSIGN(const Gguf file, Gguf::Open(path));
  if (file.file_bytes() != plan.file_bytes || file.tensors().size() != plan.tensors.size()) {
    return InternalError(path + ": expected " + std::to_string(plan.file_bytes) + " bytes and " +
                         std::to_string(plan.tensors.size()) + " tensors, found " + std::to_string(file.file_bytes()) +
                         " and " + std::to_string(file.tensors().size()));
  }
  WF_TRY(Verifier(plan, report, file, observer).Run());
  WF_ASSIGN(const Config config, ConfigFromGguf(file));
  if (plan.outtype == OutType::kI2_S) {  // for float types it would read all values again
    WF_TRY(LoadWeights(file, config));
  }
  WF_ASSIGN(const Vocab vocab, VocabFromGguf(file));
  if (!(vocab == plan.vocab)) return InternalError(path + ": the tokenizer read back is not the one that was written");
  return OkStatus();
}

}  // namespace wf::detail
#endif  // WF_CONVERT_VERIFY_IMPL_H_
