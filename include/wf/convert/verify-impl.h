// SPDX-License-Identifier: Apache-2.0
// Reading a written file back before it gets its name: metadata through the model's own reader, every value against
// the checkpoint, from which it is found anew. Part of convert.h's bodies.
#ifndef WF_CONVERT_VERIFY_IMPL_H_
#define WF_CONVERT_VERIFY_IMPL_H_

#include <bit>
#include <cstring>

#include "wf/convert/convert.h"
#include "wf/convert/pieces-impl.h"
#include "wf/convert/source-impl.h"
#include "wf/convert/write-impl.h"
#include "wf/formats/gguf.h"
#include "wf/model/config.h"
#include "wf/model/weights.h"

namespace wf::detail {

// Where a written tensor lies.
struct WrittenTensor {
  const uint8_t* data = nullptr;
  uint64_t bytes = 0, file_offset = 0;
  const MappedFile* file = nullptr;  // nullptr: its pages stay
};

class Verifier {
 public:
  Verifier(const ConvertPlan& plan, const ConvertReport& report, PieceRunner* runner, ConvertObserver* observer)
      : plan_(plan), report_(report), runner_(*runner), ticker_(observer, "verifying", WorkOf(plan, true)) {}

  // Tensor i of the plan.
  Status Compare(size_t i, const WrittenTensor& w) {
    const PlannedTensor& t = plan_.tensors[i];
    ticker_.Begin(t.name);
    spent_ = 0;
    WF_TRY(t.op == ConvertOp::kScaleRest ? CompareScaleRest(t, w)
           : IsTernary(t.op)             ? CompareTernary(t, w, HasScaleRest(plan_, i), report_.tensors[i].scales)
                                         : CompareFloats(t, w));
    for (const PlannedPart& p : t.parts) plan_.source->Release(*p.source);
    Spent(w, w.bytes);
    return OkStatus();
  }

 private:
  static Status Differs(const PlannedTensor& t, uint64_t i, float expected, float found) {
    return InternalError("verification of tensor " + Quote(t.name) + " failed: element " + std::to_string(i) +
                         ": expected " + FloatText(expected) + ", found " + FloatText(found));
  }
  static Status ScaleDiffers(const PlannedTensor& t, float expected, float found) {
    return InternalError("verification of tensor " + Quote(t.name) + " failed: expected scale " + FloatText(expected) +
                         ", found " + FloatText(found));
  }

  // The first `bytes` of a tensor have been compared: its pages may go, some megabytes at a time.
  void Spent(const WrittenTensor& w, uint64_t bytes) {
    if (w.file == nullptr || (bytes < spent_ + (uint64_t{8} << 20) && bytes != w.bytes)) return;
    w.file->DontNeed(w.file_offset + spent_, bytes - spent_);
    spent_ = bytes;
  }

  // The ternary values of the checkpoint are found anew; the scales must be the ones that were reported.
  Status CompareTernary(const PlannedTensor& t, const WrittenTensor& w, bool rest, const std::vector<float>& reported) {
    WF_ASSIGN(const TernarySource source,
              TernarySource::Open(t, plan_.source.get(), &runner_, [this](uint64_t n) { return ticker_.Add(n); }));
    WF_ASSIGN(scales_, StoreScales(t.source_name(), t.type, source.scales(), rest));
    const std::vector<float> run = scales_.Run();
    for (size_t p = 0; p < run.size(); ++p) {
      if (p >= reported.size() || run[p] != reported[p]) {
        return ScaleDiffers(t, run[p], p < reported.size() ? reported[p] : 0);
      }
    }
    if (IsI2s(t.type) && w.bytes >= t.elements() / 4 + sizeof(float)) {  // sgl-kernel has it elsewhere
      const float found = LoadLe<float>(w.data + t.elements() / 4);
      if (found != scales_.stored[0]) return ScaleDiffers(t, scales_.stored[0], found);
    }
    const uint64_t k = t.ne[0], unit = PieceUnit(t.type, k), part = source.map().elements();
    PartPages pages(t, source.map(), t.op == ConvertOp::kUnpack ? nullptr : plan_.source.get());
    const auto make = [&](Piece* p) -> Status {
      int8_t* want = p->Ternary(static_cast<size_t>(2 * p->n));
      int8_t* found = want + p->n;
      WF_TRY(source.Read(p->begin, p->n, want));
      for (uint64_t i = 0; i < p->n;) {
        const uint64_t e = p->begin + i;
        const uint64_t n = IsI2s(t.type) ? p->n : std::min(p->n - i, part - e % part);
        const float d = scales_.stored[IsI2s(t.type) ? 0 : e / part];
        WF_TRY(CompareRun(t, w, e, n, d, want + i, found + i));
        i += n;
      }
      return OkStatus();
    };
    const auto take = [&](const Piece& p) -> Status {
      pages.Before(p.begin);
      Spent(w, PieceBytes(t.type, k, p.begin));
      return ticker_.Add(p.n);
    };
    return runner_.Run(t.elements(), PieceElements(t.type, unit), make, take);
  }

  static Status CompareRun(const PlannedTensor& t, const WrittenTensor& w, uint64_t begin, uint64_t n, float d,
                           const int8_t* want, int8_t* found) {
    if (!IsFloatType(t.type)) {
      if (!DecodeTernary(t.type, w.data, begin, n, t.ne[0], d, found)) {
        return InternalError("verification of tensor " + Quote(t.name) + " failed: expected scale " + FloatText(d) +
                             " in the rows from element " + std::to_string(begin) + " on, found another");
      }
      if (std::memcmp(want, found, static_cast<size_t>(n)) == 0) return OkStatus();
      uint64_t i = 0;
      while (want[i] == found[i]) ++i;
      return Differs(t, begin + i, want[i], found[i]);
    }
    const size_t size = FloatTypeBytes(t.type);
    for (uint64_t i = 0; i < n; ++i) {
      const uint8_t* at = w.data + size * (begin + i);
      const float v = size == 4 ? LoadLe<float>(at) : DecodeFloat(LoadLe<uint16_t>(at), t.type);
      if (v != static_cast<float>(want[i]) * d) return Differs(t, begin + i, static_cast<float>(want[i]) * d, v);
    }
    return OkStatus();
  }

  Status CompareScaleRest(const PlannedTensor& t, const WrittenTensor& w) const {
    for (size_t p = 0; p < scales_.rest.size(); ++p) {
      const float found = LoadLe<float>(w.data + 4 * p);
      if (found != scales_.rest[p]) return Differs(t, p, scales_.rest[p], found);
    }
    return OkStatus();
  }

  // Floats are compared bit by bit, blocks as the bytes that quantising again gives.
  Status CompareFloats(const PlannedTensor& t, const WrittenTensor& w) {
    WF_ASSIGN(const FloatSource source, FloatSource::Open(t));
    const uint64_t k = t.ne.empty() ? 1 : t.ne[0], unit = PieceUnit(t.type, k);
    PartPages pages(t, source.map(), source.InOrder() ? plan_.source.get() : nullptr);
    const auto make = [&](Piece* p) -> Status {
      float* x = p->Floats(static_cast<size_t>(p->n));
      WF_TRY(source.Read(p->begin, std::span<float>(x, static_cast<size_t>(p->n))));
      if (!IsFloatType(t.type)) return CompareBlocks(t, w, x, p);
      const size_t size = FloatTypeBytes(t.type);
      for (uint64_t i = 0; i < p->n; ++i) {
        const uint8_t* at = w.data + size * (p->begin + i);
        const uint32_t want = EncodeFloat(x[i], t.type);
        const uint32_t found = size == 4 ? LoadLe<uint32_t>(at) : LoadLe<uint16_t>(at);
        if (want != found) return Differs(t, p->begin + i, DecodeFloat(want, t.type), DecodeFloat(found, t.type));
      }
      return OkStatus();
    };
    const auto take = [&](const Piece& p) -> Status {
      pages.Before(p.begin);
      Spent(w, PieceBytes(t.type, k, p.begin));
      return ticker_.Add(p.n);
    };
    return runner_.Run(t.elements(), PieceElements(t.type, unit), make, take);
  }
  static Status CompareBlocks(const PlannedTensor& t, const WrittenTensor& w, const float* x, Piece* p) {
    const uint64_t k = t.ne[0], row_bytes = PieceBytes(t.type, k, k);
    uint8_t* again = p->Bytes(static_cast<size_t>(row_bytes));
    for (uint64_t i = 0; i < p->n; i += k) {
      QuantiseDenseRow(t.type, x + i, static_cast<size_t>(k), again);
      const uint64_t at = PieceBytes(t.type, k, p->begin + i);
      if (std::memcmp(again, w.data + at, static_cast<size_t>(row_bytes)) != 0) {
        return InternalError("verification of tensor " + Quote(t.name) + " failed: row " +
                             std::to_string((p->begin + i) / k) + " is not what quantising it again gives");
      }
    }
    return OkStatus();
  }

  const ConvertPlan& plan_;
  const ConvertReport& report_;
  PieceRunner& runner_;
  Ticker ticker_;
  StoredScales scales_;  // of the last ternary tensor
  uint64_t spent_ = 0;   // bytes of the tensor being compared whose pages are gone
};

// `path` is the temporary file, everything flushed.
inline Status VerifyFile(const ConvertPlan& plan, const ConvertReport& report, const std::string& path,
                         PieceRunner* runner, ConvertObserver* observer) {
  WF_ASSIGN(const Gguf file, Gguf::Open(path));
  if (file.file_bytes() != plan.file_bytes || file.tensors().size() != plan.tensors.size()) {
    return InternalError(path + ": expected " + std::to_string(plan.file_bytes) + " bytes and " +
                         std::to_string(plan.tensors.size()) + " tensors, found " + std::to_string(file.file_bytes()) +
                         " and " + std::to_string(file.tensors().size()));
  }
  Verifier verifier(plan, report, runner, observer);
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    const PlannedTensor& t = plan.tensors[i];
    const GgufTensor* g = file.FindTensor(t.name);
    if (g == nullptr || g->type != t.type || g->bytes != t.bytes || g->elements() != t.elements()) {
      return InternalError("tensor " + Quote(t.name) + " was not written as planned");
    }
    WF_TRY(verifier.Compare(i, {g->data, g->bytes, g->file_offset, file.file()}));
  }
  if (!plan.tensors.empty()) {
    WF_ASSIGN(const Config config, ConfigFromGguf(file));
    if (IsPackedTernary(OutTensorType(plan.options.outtype))) {  // for float types it would read all values again
      WF_TRY(LoadWeights(file, config));
    }
  }
  WF_ASSIGN(const Vocab vocab, VocabFromGguf(file));
  if (!(vocab == plan.vocab)) return InternalError(path + ": the tokenizer read back is not the one that was written");
  return OkStatus();
}

}  // namespace wf::detail
#endif  // WF_CONVERT_VERIFY_IMPL_H_
