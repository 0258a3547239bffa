// SPDX-License-Identifier: Apache-2.0
// Low-rank corrections of a projection, whatever they are called and whichever way round they lie, as two planned
// tensors (semantics.md 3). Part of convert.h's bodies.
#ifndef WF_CONVERT_PLAN_LRC_IMPL_H_
#define WF_CONVERT_PLAN_LRC_IMPL_H_

#include <algorithm>
#include <cmath>
#include <string>

#include "wf/convert/plan_builder-impl.h"

namespace wf::detail {

struct FactorLayout {
  uint64_t rank = 0;
  bool u_transposed = false;  // the source is (rank, out)
  bool v_transposed = false;  // the source is (in, rank)
};

// The way round that the names fix, or, for lrc_U and lrc_V, the first of the documented one and its transposes that
// the shapes allow.
inline Result<FactorLayout> LayOutFactors(const PlanBuilder& b, const ProjectionSources& s, MatrixSize m) {
  const CheckpointTensor &u = *s.lrc_u, &v = *s.lrc_v;
  const bool plain = s.factor == FactorForm::kPlain;
  const uint64_t limit = std::min(m.out, m.in);
  if (u.shape.size() == 2 && v.shape.size() == 2) {
    for (const int way : {1, 0, 3, 2}) {  // bit 0: V is (in, rank); bit 1: U is (rank, out)
      FactorLayout l;
      l.v_transposed = way % 2 != 0;
      l.u_transposed = way / 2 != 0;
      if (!plain && way != 0) continue;
      const uint64_t out = u.shape[l.u_transposed ? 1 : 0], u_rank = u.shape[l.u_transposed ? 0 : 1];
      const uint64_t in = v.shape[l.v_transposed ? 0 : 1], v_rank = v.shape[l.v_transposed ? 1 : 0];
      l.rank = u_rank;
      if (out == m.out && in == m.in && u_rank == v_rank && u_rank <= limit) return l;
    }
  }
  const std::string out = std::to_string(m.out), in = std::to_string(m.in);
  return FormatError(b.Where(u) + ": expected shapes [" + out + ", rank] and " +
                     (plain ? "[" + in + ", rank] (or their transposes)" : "[rank, " + in + "]") +
                     " with one rank of 1 to " + std::to_string(limit) + ", found " + ShapeText(u.shape) + " and " +
                     ShapeText(v.shape) + " of " + Quote(v.name));
}

inline Result<float> LoraFactor(const PlanBuilder& b, const CheckpointTensor& t, uint64_t rank) {
  const HfLowRank& l = b.config().low_rank;
  if (!l.lora_alpha) {
    return NotFound(b.Where(t) +
                    ": LoRA's alpha is not known: neither adapter_config.json nor config.json has "
                    "lora_alpha");
  }
  if (l.lora_rank && *l.lora_rank != rank) {
    return FormatError(b.Where(t) + ": expected rank " + std::to_string(*l.lora_rank) +
                       ", as the configuration says, found " + std::to_string(rank));
  }
  const double r = static_cast<double>(rank);
  return static_cast<float>(*l.lora_alpha / (l.lora_sqrt_rank ? std::sqrt(r) : r));
}

// `gguf` and `hf` are the projection's names.
inline Status PlanLowRank(PlanBuilder* b, const std::string& gguf, const std::string& hf, const ProjectionSources& s,
                          MatrixSize m, uint64_t permute_heads) {
  if (s.lrc_u == nullptr && s.lrc_v == nullptr) return OkStatus();
  if (s.lrc_u == nullptr || s.lrc_v == nullptr) {
    return NotFound(b->Where(s.lrc_u != nullptr ? *s.lrc_u : *s.lrc_v) + ": the other low-rank factor is missing");
  }
  if (s.lrc_u->elements() == 0 && s.lrc_v->elements() == 0) return OkStatus();  // rank 0: no correction
  WF_TRY(b->CheckFloat(*s.lrc_u));
  WF_TRY(b->CheckFloat(*s.lrc_v));
  WF_ASSIGN(const FactorLayout l, LayOutFactors(*b, s, m));
  float factor = 1;
  if (s.factor == FactorForm::kLora) {
    WF_ASSIGN(factor, LoraFactor(*b, *s.lrc_u, l.rank));
  }
  const uint32_t bits = s.factor == FactorForm::kLora ? 0 : b->config().low_rank.bits;
  const TensorType type = b->types().low_rank;
  // Ranks are as they were trained; a row of U may be no whole block.
  const bool blocks = l.rank % FindTensorType(static_cast<uint32_t>(type))->block_elements == 0;
  const TensorType u_type = blocks ? type : TensorType::kF16;
  if (!blocks) {
    b->plan().notices.push_back(Quote(gguf + ".lrc_u.weight") + " is F16: rank " + std::to_string(l.rank) +
                                " is not a multiple of 32, which " + std::string(TensorTypeName(type)) + " needs");
  }
  // sgl-kernel's format keeps the source's names and layout, so that what is rounded in groups there stays so.
  const auto add = [&](const char* gguf_part, const char* linear_part, const CheckpointTensor& t, uint64_t ne0,
                       uint64_t ne1, bool transposed, TensorType as) -> Status {
    if (b->sgl()) {
      const bool lora = s.factor == FactorForm::kLora;
      return b->Add({}, {PlannedPart{&t, 0, 0}}, {t.shape[1], t.shape[0]}, as, ConvertOp::kFloat,
                    lora ? hf + linear_part : std::string());
    }
    return b->Add(gguf + gguf_part, {PlannedPart{&t, 0, 0}}, {ne0, ne1}, as,
                  transposed ? ConvertOp::kTranspose : ConvertOp::kFloat);
  };
  WF_TRY(add(".lrc_u.weight", ".lrc_U_linear.weight", *s.lrc_u, l.rank, m.out, l.u_transposed, u_type));
  PlannedTensor& u = b->plan().tensors.back();
  u.permute_heads = permute_heads;
  u.factor = factor;
  u.fake_bits = bits;
  WF_TRY(add(".lrc_v.weight", ".lrc_V_linear.weight", *s.lrc_v, m.in, l.rank, l.v_transposed, type));
  b->plan().tensors.back().fake_bits = bits;
  return OkStatus();
}

}  // namespace wf::detail
#endif  // WF_CONVERT_PLAN_LRC_IMPL_H_
