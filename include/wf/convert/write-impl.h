// SPDX-License-Identifier: Apache-2.0
// Writing the tensors of a plan in their order, each in pieces made by several threads. Where the bytes go is a
// parameter. Part of convert.h's bodies.
#ifndef WF_CONVERT_WRITE_IMPL_H_
#define WF_CONVERT_WRITE_IMPL_H_

#include <string>
#include <utility>
#include <vector>

#include "wf/convert/convert.h"
#include "wf/convert/pieces-impl.h"
#include "wf/convert/source-impl.h"
#include "wf/formats/gguf_writer.h"

namespace wf::detail {

// A GGUF as TensorWriter's output.
class GgufOutput {
 public:
  explicit GgufOutput(GgufWriter* w) : w_(*w) {}
  Status BeginTensor(const PlannedTensor&, const std::vector<float>&) { return OkStatus(); }
  Status Write(const void* data, size_t size) { return w_.WriteTensorData(data, size); }
  // I2_S's tail (formats.md 2.8): the scale and 28 bytes that nobody reads.
  Status WriteScale(float scale) {
    uint8_t tail[kI2sTail] = {};
    StoreLe(tail, scale);
    return Write(tail, sizeof(tail));
  }
  Status Flush() { return w_.Flush(); }
  Status Finish() { return w_.Finish(); }

 private:
  GgufWriter& w_;
};

// Elements of a plan that its work goes through; ternarising floats takes two passes.
inline uint64_t WorkOf(const ConvertPlan& plan, bool scales) {
  uint64_t n = 0;
  for (const PlannedTensor& t : plan.tensors) {
    if (t.op == ConvertOp::kScaleRest) continue;
    n += t.elements() * (scales && (t.op == ConvertOp::kTernarise || t.op == ConvertOp::kTernary) ? 2 : 1);
  }
  return n;
}
// Is there a ".scale" tensor for tensor i?
inline bool HasScaleRest(const ConvertPlan& plan, size_t i) {
  return i + 1 < plan.tensors.size() && plan.tensors[i + 1].op == ConvertOp::kScaleRest;
}

// `Out` has BeginTensor(tensor, stored scales), Write, and WriteScale (after I2_S codes).
template <class Out>
class TensorWriter {
 public:
  TensorWriter(const ConvertPlan& plan, ConvertObserver* observer, PieceRunner* runner, Out* out)
      : plan_(plan), out_(*out), runner_(*runner), ticker_(observer, "converting", WorkOf(plan, true)) {}

  Status Run(ConvertReport* report) {
    for (size_t i = 0; i < plan_.tensors.size(); ++i) {
      const PlannedTensor& t = plan_.tensors[i];
      ticker_.Begin(t.name);
      ConvertedTensor done;
      done.name = t.name;
      if (t.source() != nullptr) {
        done.source = t.source_name();
        done.source_type = ElementTypeName(t.source()->type);
      }
      done.type = t.type;
      done.ne = t.ne;
      done.bytes = t.bytes;
      done.ternary = IsTernary(t.op);
      WF_TRY(t.op == ConvertOp::kScaleRest ? WriteScaleRest(t, &done)
             : done.ternary                ? WriteTernary(t, HasScaleRest(plan_, i), &done)
                                           : WriteFloats(t, &done));
      for (const PlannedPart& p : t.parts) plan_.source->Release(*p.source);
      report->tensors.push_back(std::move(done));
    }
    return OkStatus();
  }

 private:
  Status WriteTernary(const PlannedTensor& t, bool rest, ConvertedTensor* done) {
    WF_ASSIGN(const TernarySource source,
              TernarySource::Open(t, plan_.source.get(), &runner_, [this](uint64_t n) { return ticker_.Add(n); }));
    done->operation = source.form();
    WF_ASSIGN(scales_, StoreScales(t.source_name(), t.type, source.scales(), rest));
    done->scales = scales_.Run();
    done->scale_error = scales_.error;
    WF_TRY(out_.BeginTensor(t, scales_.stored));
    const uint64_t k = t.ne[0], unit = PieceUnit(t.type, k);
    PartPages pages(t, source.map(), t.op == ConvertOp::kUnpack ? nullptr : plan_.source.get());
    uint64_t zeros = 0;
    const auto make = [&](Piece* p) -> Status {
      int8_t* values = p->Ternary(static_cast<size_t>(p->n));
      WF_TRY(source.Read(p->begin, p->n, values));
      p->zeros = CountZeros(values, p->n);
      p->Bytes(static_cast<size_t>(PieceBytes(t.type, k, p->n)));
      EncodeParts(t, source.map(), *p);
      return OkStatus();
    };
    const auto take = [&](const Piece& p) -> Status {
      zeros += p.zeros;
      WF_TRY(out_.Write(p.bytes.data(), static_cast<size_t>(PieceBytes(t.type, k, p.n))));
      pages.Before(p.begin);
      return ticker_.Add(p.n);
    };
    WF_TRY(runner_.Run(t.elements(), PieceElements(t.type, unit), make, take));
    done->zeros = static_cast<double>(zeros) / static_cast<double>(t.elements());
    return IsI2s(t.type) ? out_.WriteScale(scales_.stored[0]) : OkStatus();
  }

  // Experts' scales differ, so a piece is encoded in runs of one expert. I2_S has no scale among the codes, and its
  // groups may lie across experts.
  void EncodeParts(const PlannedTensor& t, const RowMap& map, Piece& p) const {
    const uint64_t k = t.ne[0];
    for (uint64_t i = 0; i < p.n;) {
      const uint64_t e = p.begin + i;
      const uint64_t n = IsI2s(t.type) ? p.n : std::min(p.n - i, map.elements() - e % map.elements());
      EncodeTernary(t.type, p.ternary.data() + i, n, k, scales_.stored[IsI2s(t.type) ? 0 : e / map.elements()],
                    p.bytes.data() + PieceBytes(t.type, k, i));
      i += n;
    }
  }

  Status WriteScaleRest(const PlannedTensor& t, ConvertedTensor* done) {
    done->operation = "rest of the scale";
    done->scales = scales_.rest;
    if (t.elements() != scales_.rest.size() || t.type != TensorType::kF32) {
      return InternalError("tensor " + Quote(t.name) + ": planned for " + std::to_string(t.elements()) +
                           " scales, there are " + std::to_string(scales_.rest.size()));
    }
    WF_TRY(out_.BeginTensor(t, {}));
    return out_.Write(scales_.rest.data(), scales_.rest.size() * sizeof(float));
  }

  Status WriteFloats(const PlannedTensor& t, ConvertedTensor* done) {
    WF_ASSIGN(const FloatSource source, FloatSource::Open(t));
    WF_TRY(out_.BeginTensor(t, {}));
    const uint64_t k = t.ne.empty() ? 1 : t.ne[0], unit = PieceUnit(t.type, k);
    PartPages pages(t, source.map(), source.InOrder() ? plan_.source.get() : nullptr);
    const auto make = [&](Piece* p) -> Status {
      float* x = p->Floats(static_cast<size_t>(p->n));
      WF_TRY(source.Read(p->begin, std::span<float>(x, static_cast<size_t>(p->n))));
      uint8_t* bytes = p->Bytes(static_cast<size_t>(PieceBytes(t.type, k, p->n)));
      const uint64_t bad = EncodeDense(t.type, x, p->n, k, bytes, &p->rounded);
      return bad == p->n ? OkStatus() : Overflow(t, source, p->begin + bad, x[bad]);
    };
    const auto take = [&](const Piece& p) -> Status {
      done->rounded += p.rounded;
      WF_TRY(out_.Write(p.bytes.data(), static_cast<size_t>(PieceBytes(t.type, k, p.n))));
      pages.Before(p.begin);
      return ticker_.Add(p.n);
    };
    WF_TRY(runner_.Run(t.elements(), PieceElements(t.type, unit), make, take));
    done->operation = Operation(t, done->source_type);
    return OkStatus();
  }
  static const char* Operation(const PlannedTensor& t, const std::string& source_type) {
    if (t.op == ConvertOp::kConstant) return "constant";
    if (t.fake_bits != 0) return "rounded as in training";
    if (t.op == ConvertOp::kTranspose) return "transposed";
    if (!IsFloatType(t.type)) return "quantised";
    return source_type == TensorTypeName(t.type) && t.factor == 1 ? "copied" : "converted";
  }
  static Status Overflow(const PlannedTensor& t, const FloatSource& source, uint64_t i, float v) {
    return Unsupported(source.Where(i) + " is " + FloatText(v) + ", which " + std::string(TensorTypeName(t.type)) +
                       " cannot hold; use --outtype bf16 or f32");
  }

  const ConvertPlan& plan_;
  Out& out_;
  PieceRunner& runner_;
  Ticker ticker_;
  StoredScales scales_;  // of the last ternary tensor
};

}  // namespace wf::detail
#endif  // WF_CONVERT_WRITE_IMPL_H_
