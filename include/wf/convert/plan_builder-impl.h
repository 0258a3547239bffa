// SPDX-License-Identifier: Apache-2.0
// Adds tensors to a plan with the checks that every one of them gets: dtype, shape, what its type can hold. Part of
// convert.h's bodies.
#ifndef WF_CONVERT_PLAN_BUILDER_IMPL_H_
#define WF_CONVERT_PLAN_BUILDER_IMPL_H_

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "wf/convert/convert.h"
#include "wf/convert/plan_sources-impl.h"
#include "wf/convert/plan_types-impl.h"
#include "wf/convert/source-impl.h"

namespace wf::detail {

class PlanBuilder {
 public:
  PlanBuilder(ConvertPlan* plan, const PlanTypes& types) : plan_(*plan), types_(types) {}

  ConvertPlan& plan() noexcept { return plan_; }
  const HfConfig& config() const noexcept { return plan_.config; }
  const PlanTypes& types() const noexcept { return types_; }
  bool sgl() const noexcept { return plan_.options.outtype == OutType::kSgl; }
  // Its rows are interleaved in the GGUF (formats.md 3.1).
  uint64_t PermuteHeads(Projection p) const noexcept {
    if (sgl() || config().architecture != "llama") return 0;
    return p == Projection::kQ ? config().heads : (p == Projection::kK ? config().kv_heads : 0);
  }
  void Notice(std::string text) { plan_.notices.push_back(std::move(text)); }
  std::string Where(const CheckpointTensor& t) const { return TensorWhere(plan_, t); }

  Status Need(const CheckpointTensor* t, const std::string& name) const {
    return t != nullptr ? OkStatus() : NotFound(plan_.input + ": tensor " + Quote(name) + " is missing");
  }
  Status CheckShape(const CheckpointTensor& t, const std::vector<uint64_t>& shape, const std::string& why = {}) const {
    if (t.shape == shape) return OkStatus();
    return FormatError(Where(t) + ": expected shape " + ShapeText(shape) + why + ", found " + ShapeText(t.shape));
  }
  Status CheckFloat(const CheckpointTensor& t, const char* expected = "F32, F16 or BF16") const {
    if (IsFloat(t.type)) return OkStatus();
    return Unsupported(Where(t) + ": expected dtype " + expected + ", found " + ElementTypeName(t.type));
  }

  // A tensor made of `parts`. sgl-kernel's format keeps the checkpoint's names: those without wrappers' parts, `hf` if
  // that is given.
  Status Add(const std::string& name, std::vector<PlannedPart> parts, std::vector<uint64_t> ne, TensorType type,
             ConvertOp op, const std::string& hf = {}) {
    PlannedTensor out;
    const CheckpointTensor& t = *parts[0].source;
    out.name = !sgl() ? name : (hf.empty() ? ParseHfName(t.name).hf : hf);
    const bool ternary = IsTernary(op);
    const uint64_t rows = ne.size() > 1 ? ne[1] : 1;
    std::string misfit = MisfitText(type, ne[0], rows);
    if (sgl() && ternary && ne[0] % 128 != 0) {
      misfit = "sgl-kernel's format cannot hold it: K = " + std::to_string(ne[0]) + " is not a multiple of 128";
    }
    if (!misfit.empty()) return Unsupported(Where(t) + ": " + misfit + "; " + Advice(name, type, ternary));
    out.ne = std::move(ne);
    out.type = type;
    out.op = op;
    out.parts = std::move(parts);
    const TensorTypeInfo* info = FindTensorType(static_cast<uint32_t>(type));
    uint64_t all_rows = rows;
    if (out.ne.size() > 2 && !CheckedMul(rows, out.ne[2], &all_rows)) return LimitError(Where(t) + ": is too large");
    if (!TensorBytes(*info, out.ne[0], all_rows, &out.bytes)) return LimitError(Where(t) + ": is too large");
    if (sgl() && ternary) out.bytes -= 32;  // the scale lies in the tensor's header
    plan_.tensors.push_back(std::move(out));
    return OkStatus();
  }
  // `shape` as PyTorch has it; `ne` the same innermost first, unless it is given.
  Status AddFloat(const std::string& name, const CheckpointTensor& t, const std::vector<uint64_t>& shape,
                  TensorType type = TensorType::kF32, std::vector<uint64_t> ne = {}) {
    WF_TRY(CheckFloat(t));
    WF_TRY(CheckShape(t, shape));
    if (ne.empty()) ne.assign(shape.rbegin(), shape.rend());
    return Add(name, {PlannedPart{&t, 0, 0}}, std::move(ne), type, ConvertOp::kFloat);
  }
  Status AddBias(const std::string& name, const CheckpointTensor& t, uint64_t out, uint64_t permute_heads) {
    WF_TRY(AddFloat(name, t, {out}));
    plan_.tensors.back().permute_heads = permute_heads;
    return OkStatus();
  }
  void AddConstant(const std::string& name, std::vector<float> values) {
    PlannedTensor out;
    out.name = name;
    out.ne = {values.size()};
    out.op = ConvertOp::kConstant;
    out.bytes = 4 * values.size();
    out.values = std::move(values);
    plan_.tensors.push_back(std::move(out));
  }
  // After a ternary tensor, if its type cannot hold its scales exactly (convert.h, OutType). A peer's loader may fail
  // on a tensor that it does not know, so with one the scale is rounded instead.
  void AddScaleRest(const std::string& name) {
    if (sgl() || plan_.options.peer != Peer::kNone) return;
    const PlannedTensor& t = plan_.tensors.back();
    if (t.ne.size() == 2) {
      const TensorType holds = ScaleType(t.type);
      if (holds == TensorType::kF32) return;
      const float scale = t.parts[0].scale;  // 0: not known yet
      if (scale != 0 && NearestScale(scale, holds) == scale) return;
    }
    PlannedTensor out;
    out.name = name;
    out.ne = {t.parts.size()};
    out.op = ConvertOp::kScaleRest;
    out.bytes = 4 * t.parts.size();
    plan_.tensors.push_back(std::move(out));
  }

 private:
  std::string Advice(const std::string& name, TensorType type, bool ternary) const {
    if (ternary) {
      const OutType other = AutoOutType(plan_.options.peer, config());
      return "--outtype " + std::string(kOutTypeNames[static_cast<size_t>(other)]) + " fits";
    }
    const char* flag = name == "token_embd.weight" ? "--embedding-type"
                       : name == "output.weight"   ? "--head-type"
                                                   : "--lrc-type";
    const bool fits_32 = type == TensorType::kQ6_K || type == TensorType::kQ4_K;
    return std::string("use ") + flag + (fits_32 ? " q8_0 (multiples of 32) or f16" : " f16");
  }

  ConvertPlan& plan_;
  PlanTypes types_;
};

// The factor that a packed weight's ternary values are multiplied by.
inline Result<float> WeightScale(const PlanBuilder& b, const CheckpointTensor& t) {
  WF_TRY(b.CheckFloat(t));
  if (t.elements() != 1) return FormatError(b.Where(t) + ": expected 1 element, found shape " + ShapeText(t.shape));
  const float v = FloatAt(t, 0);
  const float s = b.config().quantization.rule == ScaleRule::kMultiply ? v : 1.0f / v;
  if (!std::isfinite(v) || v <= 0 || !std::isfinite(s) || s <= 0) {
    return FormatError(b.Where(t) + ": expected a finite scale above 0, found " + FloatText(v));
  }
  return s;
}

// One matrix of ternary weights, as the checkpoint holds it.
struct TernaryPart {
  PlannedPart part;
  ConvertOp op = ConvertOp::kTernarise;
  PackedForm packed = PackedForm::kRowBlocks;
};
// `hf` is the projection's name there.
inline Result<TernaryPart> PlanTernaryPart(PlanBuilder* b, const std::string& hf, const ProjectionSources& s,
                                           MatrixSize m) {
  const CheckpointTensor* w = s.quantized != nullptr ? s.quantized : s.weight;
  WF_TRY(b->Need(w, hf + ".weight"));
  TernaryPart out;
  out.part.source = w;
  const bool packed = w->type == ElementType::kU8;
  if (packed && w->scale) {
    out.op = ConvertOp::kUnpack;
    out.packed = PackedForm::kI2sRows;
    if (m.in % 128 != 0) {
      return Unsupported(b->Where(*w) + ": packed rows of K = " + std::to_string(m.in) +
                         ", expected a multiple of 128");
    }
    WF_TRY(b->CheckShape(*w, {m.out, m.in / 4}, " (rows of " + std::to_string(m.in) + ", four weights in a byte)"));
    if (s.scale != nullptr) {
      return FormatError(b->Where(*s.scale) + ": " + Quote(w->name) + " has a scale of its own already");
    }
    out.part.scale = *w->scale;
    if (!std::isfinite(*w->scale) || *w->scale <= 0) {
      return FormatError(b->Where(*w) + ": expected a finite scale above 0, found " + FloatText(*w->scale));
    }
    return out;
  }
  if (packed) {
    out.op = ConvertOp::kUnpack;
    WF_TRY(b->CheckShape(*w, {(m.out + 3) / 4, m.in}, " (four rows of " + ShapeText({m.out, m.in}) + " in a byte)"));
    WF_TRY(b->Need(s.scale, hf + ".weight_scale"));
  } else {
    WF_TRY(b->CheckFloat(*w, "F32, F16, BF16 or (packed) U8"));
    WF_TRY(b->CheckShape(*w, {m.out, m.in}));
    if (s.quantized != nullptr || s.scale != nullptr) out.op = ConvertOp::kTernary;
  }
  if (s.quantized != nullptr && s.weight != nullptr && s.weight->bytes != 0) {
    b->Notice("tensor " + Quote(s.weight->name) + " is not used: weight_quantized is there");
  }
  if (s.quantized != nullptr && s.scale != nullptr && !packed) {
    b->Notice("tensor " + Quote(s.scale->name) + " is not used: weight_quantized is scaled already");
  } else if (s.scale != nullptr) {
    WF_ASSIGN(out.part.scale, WeightScale(*b, *s.scale));
  }
  return out;
}

}  // namespace wf::detail
#endif  // WF_CONVERT_PLAN_BUILDER_IMPL_H_
