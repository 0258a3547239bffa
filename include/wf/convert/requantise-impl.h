// SPDX-License-Identifier: Apache-2.0
// Bodies of requantise.h: what becomes of each tensor. Carrying it out is in requantise_write-impl.h.
#ifndef WF_CONVERT_REQUANTISE_IMPL_H_
#define WF_CONVERT_REQUANTISE_IMPL_H_

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "wf/base/quote.h"
#include "wf/convert/output-impl.h"
#include "wf/convert/pieces-impl.h"
#include "wf/convert/requantise.h"
#include "wf/convert/requantise_rules-impl.h"
#include "wf/convert/requantise_write-impl.h"
#include "wf/convert/ternary_view-impl.h"

namespace wf {
namespace detail {

class RequantisePlanner {
 public:
  RequantisePlanner(RequantisePlan* plan, ConvertObserver* observer)
      : p_(*plan), o_(plan->options), g_(*plan->source), runner_(plan->options.threads), observer_(observer) {}

  Status Run() {
    WF_TRY(CheckOptions());
    WF_ASSIGN(const std::string_view arch, g_.GetString("general.architecture"));
    p_.architecture = arch;
    WF_ASSIGN(const bool flag, g_.GetBoolOr(p_.architecture + ".bitlinear", false));
    bitlinear_ = IsBitnet(arch) || flag;
    p_.add_bitlinear = !bitlinear_ && IsFloatType(o_.type);
    if (o_.peer != Peer::kNone) WF_TRY(CheckPeerFile(g_, o_.peer, p_.architecture, o_.type));
    WF_TRY(FindTernary());
    WF_TRY(CheckFit());
    Ticker ticker(observer_, "analysing", work_);
    ticker_ = &ticker;
    for (const GgufTensor& t : g_.tensors()) {
      ticker.Begin(t.name);
      WF_TRY(Plan(t));
      if (g_.file() != nullptr) g_.file()->DontNeed(t.file_offset, t.bytes);
    }
    ticker_ = nullptr;
    if (p_.add_bitlinear) {
      p_.notices.push_back(Quote(p_.architecture + ".bitlinear") +
                           " is added: without it floats would run with activations that are not quantised");
    }
    NoteRounding();
    return OkStatus();
  }

 private:
  std::string Name(const GgufTensor& t) const { return "tensor " + Quote(t.name); }
  TensorType TypeOf(const GgufTensor& t) const noexcept { return t.type == TensorType::kI2_S ? o_.i2s_layout : t.type; }
  bool IsTernaryType(TensorType t) const noexcept { return IsPackedTernary(t) || t == TensorType::kTL2; }
  bool IsTernaryTensor(const GgufTensor& t) const {
    return std::find(ternary_.begin(), ternary_.end(), &t) != ternary_.end();
  }
  Status CheckOptions() const {
    if (std::find(std::begin(kRequantiseTypes), std::end(kRequantiseTypes), o_.type) == std::end(kRequantiseTypes)) {
      return InvalidArgument("cannot requantise to " + std::string(TensorTypeName(o_.type)));
    }
    for (const std::optional<TensorType>& t : {o_.embedding_type, o_.head_type}) {
      DenseType dense{};
      if (t && !ToDenseType(*t, &dense)) {
        return InvalidArgument("embedding and head cannot be " + std::string(TensorTypeName(*t)));
      }
    }
    if (!IsI2s(o_.i2s_layout)) return InvalidArgument("the layout of I2_S cannot be " + LowerTypeName(o_.i2s_layout));
    return OkStatus();
  }

  // Which tensors are ternary by type or, for floats, by name; and how much there is to read.
  Status FindTernary() {
    for (const GgufTensor& t : g_.tensors()) {
      const bool packed = IsTernaryType(t.type);
      if (!packed && !(IsProjectionName(t.name) && t.n_dims >= 2)) continue;
      if (!packed && !IsFloatType(t.type)) {
        return Unsupported(Name(t) + " is " + std::string(TensorTypeName(t.type)) +
                           ", which holds no ternary values; " + AbsmeanAdvice());
      }
      ternary_.push_back(&t);
      work_ += t.elements();
    }
    if (ternary_.empty()) return Unsupported("has no ternary tensors");  // the caller names the file
    return OkStatus();
  }

  Status CheckFit() const {
    std::string fitting;
    for (const TensorType type : kRequantiseTypes) {
      const bool all = std::all_of(ternary_.begin(), ternary_.end(), [&](auto* t) {
        return FitsType(type, *t) && PeerHoldsRow(o_.peer, type, t->ne[0]);
      });
      if (!all || !PeerLoads(o_.peer, type)) continue;
      fitting += fitting.empty() ? "" : ", ";
      fitting += LowerTypeName(type);
    }
    for (const GgufTensor* t : ternary_) {
      if (TypeOf(*t) == TensorType::kI2_S_X4 && t->ne[1] % 4 != 0) {
        return Unsupported(Name(*t) + ": layout x4 needs a multiple of 4 rows, found " + std::to_string(t->ne[1]));
      }
      if (FitsType(o_.type, *t) && PeerHoldsRow(o_.peer, o_.type, t->ne[0])) continue;
      return Unsupported(Name(*t) + ": " + LowerTypeName(o_.type) + " needs " + NeedText(o_.peer, o_.type, *t) +
                         "; types that fit: " + fitting);
    }
    return OkStatus();
  }

  void Add(RequantisedTensor t) { p_.tensors.push_back(std::move(t)); }
  RequantisedTensor Made(const GgufTensor& t, RequantiseOp op, TensorType type) const {
    RequantisedTensor r;
    r.name = std::string(t.name);
    r.from = TypeOf(t);
    r.type = type;
    r.ne.assign(t.ne, t.ne + t.n_dims);
    r.op = op;
    r.source = &t;
    r.bytes = t.bytes;
    if (op != RequantiseOp::kCopy) {
      const TensorTypeInfo* info = FindTensorType(static_cast<uint32_t>(type));
      if (!TensorBytes(*info, t.ne[0], t.rows(), &r.bytes)) r.bytes = 0;
    }
    return r;
  }

  Status Plan(const GgufTensor& t) {
    if (IsTernaryTensor(t)) return PlanTernary(t);
    const bool embedding = t.name == "token_embd.weight", head = t.name == "output.weight";
    if ((embedding && o_.embedding_type) || (head && o_.head_type)) {
      return PlanDense(t, embedding ? *o_.embedding_type : *o_.head_type);
    }
    for (const GgufTensor* w : ternary_) {  // a ternary tensor's scale: planned with it
      if (ScaleName(w->name) == t.name) return OkStatus();
    }
    Add(Made(t, RequantiseOp::kCopy, t.type));
    return OkStatus();
  }

  Status PlanDense(const GgufTensor& t, TensorType type) {
    DenseType dense{};
    if (t.type == type) {
      Add(Made(t, RequantiseOp::kCopy, type));
      return OkStatus();
    }
    if (!ToDenseType(t.type, &dense)) {
      return Unsupported(Name(t) + " is " + std::string(TensorTypeName(t.type)) + ", which is not read here");
    }
    const TensorTypeInfo* info = FindTensorType(static_cast<uint32_t>(type));
    if (t.ne[0] % info->block_elements != 0) {
      return Unsupported(Name(t) + ": " + LowerTypeName(type) + " needs rows of a multiple of " +
                         std::to_string(info->block_elements) + ", found " + std::to_string(t.ne[0]) +
                         "; types that fit: " + (t.ne[0] % 32 == 0 ? "q8_0, q4_0, " : "") + "f32, f16, bf16");
    }
    Add(Made(t, RequantiseOp::kDense, type));
    return OkStatus();
  }

  // What multiplies the scales of each expert: the ".scale" tensor; empty: there is none.
  Result<std::vector<float>> Factors(const GgufTensor& t, const GgufTensor** scale_tensor) const {
    const GgufTensor* s = g_.FindTensor(ScaleName(t.name));
    *scale_tensor = s;
    std::vector<float> v;
    if (s == nullptr) return v;
    const uint64_t parts = t.ne[2] * t.ne[3];
    if (!IsFloatType(s->type) || (s->elements() != 1 && s->elements() != parts)) {
      return FormatError(Name(*s) + ": expected 1 or " + std::to_string(parts) + " floats, found " +
                         std::to_string(s->elements()) + " of type " + std::string(TensorTypeName(s->type)));
    }
    for (uint64_t p = 0; p < parts; ++p) {
      const uint64_t i = s->elements() == 1 ? 0 : p;
      const float f = s->type == TensorType::kF32 ? LoadLe<float>(s->data + 4 * i)
                                                  : DecodeFloat(LoadLe<uint16_t>(s->data + 2 * i), s->type);
      if (!(f > 0) || !std::isfinite(f)) return FormatError(Name(*s) + ": scale is " + FloatText(f));
      v.push_back(f);
    }
    return v;
  }

  // What one pass over a ternary tensor finds out.
  struct Scales {
    std::vector<float> of;  // each expert's scale, if `uniform`
    bool uniform = true;    // each expert has one
    bool by_row = true;     // each row has one
    std::string example;    // of two that differ
  };

  Status PlanTernary(const GgufTensor& t) {
    const GgufTensor* scale_tensor = nullptr;
    WF_ASSIGN(std::vector<float> factors, Factors(t, &scale_tensor));
    const bool experts = t.ne[2] * t.ne[3] > 1;
    if (IsI2s(t.type) && experts && factors.empty() && LoadLe<float>(t.data + t.elements() / 4) != 1) {
      // What Microsoft's quantiser makes of experts: one scale where there were many. No model is loaded from it
      // either.
      return FormatError(Name(t) + ": I2_S with experts has one scale, expected 1 beside a tensor " +
                         Quote(ScaleName(t.name)) + "; convert the checkpoint again");
    }
    RequantisedTensor r = Made(t, RequantiseOp::kTernary, o_.type);
    Scales scales;
    if (IsFloatType(t.type)) {
      WF_TRY(FindMagnitudes(t, &r.magnitudes));
      scales.of = r.magnitudes;
    }
    const bool same = TypeOf(t) == o_.type && (o_.peer == Peer::kNone || scale_tensor == nullptr);
    if (same) {
      if (!IsFloatType(t.type)) WF_TRY(CheckCodes(t));
      Add(Made(t, RequantiseOp::kCopy, t.type));
      if (scale_tensor != nullptr) Add(Made(*scale_tensor, RequantiseOp::kCopy, scale_tensor->type));
      return OkStatus();
    }
    WF_ASSIGN(const TernaryView view, TernaryView::Open(t, r.from, r.magnitudes));
    if (!IsFloatType(t.type)) WF_TRY(FindScales(view, &scales));
    return scales.uniform ? PlanUniform(std::move(r), scales.of, factors)
                          : PlanTakenOver(std::move(r), view, scales, factors, scale_tensor);
  }

  // One scale for each expert: it goes where the type holds it, or beside it.
  Status PlanUniform(RequantisedTensor r, std::vector<float> scales, const std::vector<float>& factors) {
    bool exact = true;
    for (size_t i = 0; i < scales.size(); ++i) {
      if (!factors.empty()) scales[i] *= factors[i];
      exact = exact && NearestScale(scales[i], ScaleType(r.type)) == scales[i];
    }
    const bool experts = IsI2s(r.type) && scales.size() > 1;
    const bool rest = o_.peer == Peer::kNone && (!exact || experts);
    WF_ASSIGN(StoredScales s, StoreScales(r.name, r.type, scales, rest));
    r.stored = s.stored;
    r.scale_error = s.error;
    const std::string name = ScaleName(r.name);
    Add(std::move(r));
    if (rest) AddScale(name, std::move(s.rest));
    return OkStatus();
  }
  void AddScale(const std::string& name, std::vector<float> values) {
    RequantisedTensor r;
    r.name = name;
    r.ne = {values.size()};
    r.bytes = 4 * values.size();
    r.op = RequantiseOp::kScale;
    r.values = std::move(values);
    Add(std::move(r));
  }

  // Scales that differ within an expert: rows' or blocks' of the type take them over, if they nest.
  Status PlanTakenOver(RequantisedTensor r, const TernaryView& view, const Scales& scales,
                       const std::vector<float>& factors, const GgufTensor* scale_tensor) {
    const std::string type = LowerTypeName(r.type);
    const std::string fit =
        scales.by_row ? "iq2_bn, which has one for each row" : "tq1_0, tq2_0 and q2_0, which have one for each block";
    const std::string differ = Name(*r.source) + ": its scales differ (" + scales.example + ")";
    if (IsFloatType(r.type) || IsI2s(r.type)) {
      return Unsupported(differ + ", and " + type + " has one for the tensor; what can hold them: " + fit);
    }
    const uint64_t share = TernaryScaleSize(r.type) == 0 ? view.k() : TernaryScaleSize(r.type);
    r.factors.assign(static_cast<size_t>(view.parts()), 1.0f);
    if (o_.peer != Peer::kNone && !factors.empty()) r.factors = factors;
    const auto make = [&](Piece* p) -> Status { return CheckTakenOver(r, view, share, differ, fit, p); };
    const auto take = [&](const Piece& p) -> Status {
      r.scale_error = std::max(r.scale_error, p.sum);
      return OkStatus();
    };
    WF_TRY(runner_.Run(view.tensor().rows(), RowsOfPiece(view), make, take));
    Add(std::move(r));
    if (o_.peer == Peer::kNone && scale_tensor != nullptr) {
      Add(Made(*scale_tensor, RequantiseOp::kCopy, scale_tensor->type));
    }
    return OkStatus();
  }
  Status CheckTakenOver(const RequantisedTensor& r, const TernaryView& view, uint64_t share, const std::string& differ,
                        const std::string& fit, Piece* p) const {
    const uint64_t k = view.k();
    std::vector<float> out(static_cast<size_t>(k / share));
    int8_t* values = p->Ternary(static_cast<size_t>(k));
    float* found = p->Floats(static_cast<size_t>(view.groups()));
    p->sum = 0;
    for (uint64_t row = p->begin; row < p->begin + p->n; ++row) {
      view.Read(row, values, found);
      if (!TakeOverScales(view, share, values, found, out.data())) {
        return Unsupported(differ + ", in row " + std::to_string(row) + " within " + std::to_string(share) +
                           " weights, which share one in " + LowerTypeName(r.type) + "; what can hold them: " + fit);
      }
      for (const float d : out) {
        const float want = d * r.factors[static_cast<size_t>(row / view.rows())];
        const float stored = NearestScale(want, ScaleType(r.type));
        if (stored == want) continue;
        if (o_.peer == Peer::kNone || !(stored > 0) || !std::isfinite(stored)) {
          return Unsupported(differ + ", and " + LowerTypeName(r.type) + " cannot hold " + FloatText(want) +
                             " of row " + std::to_string(row) + "; what can hold them: " + fit);
        }
        p->sum = std::max(p->sum, std::fabs(static_cast<double>(stored) / static_cast<double>(want) - 1));
      }
    }
    return OkStatus();
  }

  // Floats: {-a, 0, a} for each expert.
  Status FindMagnitudes(const GgufTensor& t, std::vector<float>* magnitudes) {
    const uint64_t part = t.ne[0] * t.ne[1];
    WF_ASSIGN(const TernaryView view, TernaryView::Open(t, t.type));
    for (uint64_t e = 0; e < t.ne[2] * t.ne[3]; ++e) {
      float magnitude = 0;
      bool one = true, finite = true;
      const auto make = [&](Piece* p) -> Status {
        p->magnitude = 0;
        p->one = true;
        p->sum = 0;
        for (uint64_t i = p->begin; i < p->begin + p->n && p->one; ++i) {
          const float v = std::fabs(view.FloatAt(e * part + i));
          if (!std::isfinite(v)) p->sum = 1;
          if (v == 0) continue;
          if (p->magnitude == 0) p->magnitude = v;
          p->one = v == p->magnitude;
        }
        return OkStatus();
      };
      const auto take = [&](const Piece& p) -> Status {
        finite = finite && p.sum == 0;
        one = one && p.one && (magnitude == 0 || p.magnitude == 0 || magnitude == p.magnitude);
        if (magnitude == 0) magnitude = p.magnitude;
        return ticker_->Add(p.n);
      };
      WF_TRY(runner_.Run(part, kConvertPiece, make, take));
      if (!finite) return FormatError(Name(t) + " holds values that are not finite numbers");
      if (!one) {
        return Unsupported(Name(t) + " holds continuous weights, not {-s, 0, s}; " + AbsmeanAdvice());
      }
      magnitudes->push_back(magnitude > 0 ? magnitude : 1e-5f);
    }
    if (!bitlinear_ && !noted_dense_) {
      noted_dense_ = true;
      p_.notices.push_back(
          "the weights are ternary, but the file does not say that its projections are BitLinear: the "
          "new one runs with activations that are quantised");
    }
    return OkStatus();
  }

  Status FindScales(const TernaryView& view, Scales* out) {
    for (uint64_t part = 0; part < view.parts(); ++part) {
      float scale = 0, first = 0;
      const auto make = [&](Piece* p) -> Status { return ScalesOfRows(view, part * view.rows(), p); };
      const auto take = [&](const Piece& p) -> Status {
        if (p.begin == 0) first = p.floats[0];
        if (p.zeros != 0) out->by_row = false;  // counts rows with two scales
        if (p.magnitude != 0 && (!p.one || (scale != 0 && p.magnitude != scale))) {
          if (out->uniform) {
            const bool before = scale != 0 && p.magnitude != scale;
            out->example = FloatText(before ? scale : p.magnitude) + " and " +
                           FloatText(before ? p.magnitude : static_cast<float>(p.sum));
          }
          out->uniform = false;
        }
        if (scale == 0) scale = p.magnitude;
        return ticker_->Add(p.n * view.k());
      };
      WF_TRY(runner_.Run(view.rows(), RowsOfPiece(view), make, take));
      if (scale == 0) scale = first > 0 && std::isfinite(first) ? first : 1e-5f;
      out->of.push_back(scale);
    }
    return OkStatus();
  }
  // magnitude: the first scale of something that is not zero; one: it is the only one; sum: another; zeros: rows with
  // more than one.
  Status ScalesOfRows(const TernaryView& view, uint64_t first_row, Piece* p) const {
    const uint64_t k = view.k(), share = view.share();
    int8_t* values = p->Ternary(static_cast<size_t>(k));
    std::vector<float> scales(static_cast<size_t>(view.groups()));
    p->Floats(1);
    p->magnitude = 0;
    p->one = true;
    p->sum = 0;
    for (uint64_t r = 0; r < p->n; ++r) {
      const uint64_t row = first_row + p->begin + r;
      view.Read(row, values, scales.data());
      if (r == 0) p->floats[0] = scales[0];
      float of_row = 0;
      bool two = false;
      for (uint64_t g = 0; g < scales.size(); ++g) {
        int8_t largest = 0;
        bool any = false;
        for (uint64_t c = g * share; c < (g + 1) * share; ++c) {
          largest = std::max(largest, values[c]);
          any = any || values[c] != 0;
        }
        const float d = scales[g];
        if (!std::isfinite(d) || (any && d < 0)) {
          return FormatError(Name(view.tensor()) + ": a scale of row " + std::to_string(row) + " is " + FloatText(d) +
                             ", expected a finite number that is not negative");
        }
        if (largest == 2) return Fourth(view, row, values);
        if (!any) continue;
        if (of_row == 0) of_row = d;
        two = two || of_row != d;
        if (p->magnitude == 0) p->magnitude = d;
        if (d != p->magnitude && p->one) {
          p->one = false;
          p->sum = static_cast<double>(d);
        }
      }
      p->zeros += two ? 1 : 0;
    }
    return OkStatus();
  }
  // What is copied is read, too: a fourth code is damage but for Q2_0, and three-valued digits have none.
  Status CheckCodes(const GgufTensor& t) {
    constexpr TensorType kAnyCode[] = {TensorType::kQ2_0, TensorType::kTQ1_0, TensorType::kIQ1_BN};
    if (std::find(std::begin(kAnyCode), std::end(kAnyCode), t.type) != std::end(kAnyCode)) {
      return ticker_->Add(t.elements());
    }
    WF_ASSIGN(const TernaryView view, TernaryView::Open(t, TypeOf(t)));
    const size_t k = static_cast<size_t>(view.k());
    const auto make = [&](Piece* p) -> Status {
      int8_t* values = p->Ternary(k);
      for (uint64_t row = p->begin; row < p->begin + p->n; ++row) {
        UnpackTernary(view.type(), t.data, static_cast<size_t>(row), k, values, nullptr);
        if (*std::max_element(values, values + k) == 2) return Fourth(view, row, values);
      }
      return OkStatus();
    };
    const auto take = [&](const Piece& p) -> Status { return ticker_->Add(p.n * view.k()); };
    return runner_.Run(t.rows(), RowsOfPiece(view), make, take);
  }
  Status Fourth(const TernaryView& view, uint64_t row, const int8_t* values) const {
    uint64_t c = 0;
    while (c + 1 < view.k() && values[c] != 2) ++c;
    const std::string where =
        Name(view.tensor()) + ": row " + std::to_string(row) + ", column " + std::to_string(c) + " has code 3";
    const bool q2 = view.type() == TensorType::kQ2_0 || view.type() == TensorType::kQ2_0_128;
    if (q2) return Unsupported(where + ", twice the scale, which " + LowerTypeName(o_.type) + " cannot hold");
    return FormatError(where + ", expected 0, 1 or 2");
  }

  void NoteRounding() {
    double worst = 0;
    size_t count = 0;
    const RequantisedTensor* of = nullptr;
    for (const RequantisedTensor& t : p_.tensors) {
      if (t.scale_error <= kScaleNoise) continue;
      ++count;
      if (t.scale_error > worst) {
        worst = t.scale_error;
        of = &t;
      }
    }
    if (of == nullptr) return;
    p_.notices.push_back("the scales of " + std::to_string(count) + " tensors were rounded, by at most " +
                         PercentText(worst) + " (" + Quote(of->name) + "): " + LowerTypeName(o_.type) +
                         " cannot hold them exactly");
  }

  RequantisePlan& p_;
  const RequantiseOptions& o_;
  const Gguf& g_;
  PieceRunner runner_;
  ConvertObserver* observer_;
  Ticker* ticker_ = nullptr;
  std::vector<const GgufTensor*> ternary_;
  uint64_t work_ = 0;
  bool bitlinear_ = false, noted_dense_ = false;
};

}  // namespace detail

WF_MODEL_INLINE Result<RequantisePlan> PlanRequantisation(const std::string& input, const RequantiseOptions& options,
                                                          ConvertObserver* observer) {
  RequantisePlan plan;
  plan.input = input;
  plan.options = options;
  WF_ASSIGN(Gguf source, Gguf::Open(input));
  plan.source = std::make_shared<const Gguf>(std::move(source));
  if (options.head_type && plan.source->FindTensor("output.weight") == nullptr) {
    return InvalidArgument(input + ": has no head of its own whose type could be chosen: the embedding is the head");
  }
  if (options.embedding_type && plan.source->FindTensor("token_embd.weight") == nullptr) {
    return NotFound(input + ": tensor 'token_embd.weight' is missing");
  }
  if (const Status s = detail::RequantisePlanner(&plan, observer).Run(); !s.ok()) {
    return s.code() == ErrorCode::kCancelled ? s : s.WithContext(input);
  }
  GgufWriter writer;
  detail::DescribeRequantised(plan, &writer);
  WF_ASSIGN(plan.file_bytes, writer.FileBytes());
  return plan;
}

WF_MODEL_INLINE const char* RequantiseOpName(RequantiseOp op) noexcept {
  constexpr const char* kNames[] = {"copy", "pack", "convert", "scale"};
  return kNames[static_cast<size_t>(op)];
}

}  // namespace wf
#endif  // WF_CONVERT_REQUANTISE_IMPL_H_
