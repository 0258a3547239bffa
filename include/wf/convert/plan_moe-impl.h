// SPDX-License-Identifier: Apache-2.0
// Experts: router, stacks of ternary matrices with a scale for each expert, the shared expert's gate. Part of
// convert.h's bodies.
#ifndef WF_CONVERT_PLAN_MOE_IMPL_H_
#define WF_CONVERT_PLAN_MOE_IMPL_H_

#include <string>
#include <utility>
#include <vector>

#include "wf/convert/plan_builder-impl.h"

namespace wf::detail {

// Gate, up or down of all experts from the tensors that hold them for all experts.
inline Result<std::vector<TernaryPart>> FusedExperts(PlanBuilder* b, const LayerSources& l, Projection p,
                                                     MatrixSize m) {
  const uint64_t n = b->config().experts.count;
  const bool down = p == Projection::kDown;
  const CheckpointTensor& t = down ? *l.fused_down : *l.fused_gate_up;
  WF_TRY(b->CheckFloat(t));
  WF_TRY(b->CheckShape(t, {n, down ? m.out : 2 * m.out, m.in}));
  std::vector<TernaryPart> parts(static_cast<size_t>(n));
  for (uint64_t x = 0; x < n; ++x) {
    PlannedPart& part = parts[static_cast<size_t>(x)].part;
    part.source = &t;
    part.first_row = down ? x * m.out : (2 * x + (p == Projection::kUp ? 1 : 0)) * m.out;  // gates first
  }
  return parts;
}

inline Result<std::vector<TernaryPart>> SingleExperts(PlanBuilder* b, const std::string& hf, const LayerSources& l,
                                                      Projection p, MatrixSize m) {
  std::vector<TernaryPart> parts;
  const std::string projection = std::string(HfProjection(p)).substr(4);  // without "mlp."
  for (uint64_t x = 0; x < b->config().experts.count; ++x) {
    const std::string name = hf + "mlp.experts." + std::to_string(x) + "." + projection;
    const auto it = l.experts.find(x);
    if (it == l.experts.end()) return b->Need(nullptr, name + ".weight");
    WF_ASSIGN(const TernaryPart part,
              PlanTernaryPart(b, name, it->second[static_cast<size_t>(p) - static_cast<size_t>(Projection::kGate)], m));
    if (!parts.empty() && (part.op != parts[0].op || part.packed != parts[0].packed)) {
      return FormatError(b->Where(*part.part.source) + " and " + Quote(parts[0].part.source->name) +
                         " are experts in different forms: " + ConvertOpName(part.op) + " and " +
                         ConvertOpName(parts[0].op));
    }
    parts.push_back(part);
  }
  return parts;
}

inline Status PlanExpertStack(PlanBuilder* b, const std::string& hf, const std::string& block, const LayerSources& l,
                              Projection p) {
  const MatrixSize m = ProjectionSize(b->config(), p);
  const CheckpointTensor* fused = p == Projection::kDown ? l.fused_down : l.fused_gate_up;
  if (fused != nullptr) {
    for (const auto& [x, expert] : l.experts) {
      const CheckpointTensor* single = expert[static_cast<size_t>(p) - static_cast<size_t>(Projection::kGate)].weight;
      if (single == nullptr) continue;
      return FormatError(b->Where(*single) + " and " + Quote(fused->name) + " stand for the same thing");
    }
  }
  WF_ASSIGN(const std::vector<TernaryPart> found,
            fused != nullptr ? FusedExperts(b, l, p, m) : SingleExperts(b, hf, l, p, m));
  std::vector<PlannedPart> parts;
  for (const TernaryPart& f : found) parts.push_back(f.part);
  const std::string gguf = block + GgufProjection(p) + "_exps";
  WF_TRY(b->Add(gguf + ".weight", std::move(parts), {m.in, m.out, found.size()}, b->types().ternary, found[0].op));
  b->plan().tensors.back().packed = found[0].packed;
  b->AddScaleRest(gguf + ".scale");
  return OkStatus();
}

// The router runs in f32, so that the choice of experts is the checkpoint's (formats.md 3.6).
inline Status PlanRouter(PlanBuilder* b, const std::string& hf, const std::string& block, const LayerSources& l) {
  WF_TRY(b->Need(l.router, hf + "mlp.gate.weight"));
  return b->AddFloat(block + "ffn_gate_inp.weight", *l.router, {b->config().experts.count, b->config().embedding});
}
inline Status PlanSharedRouter(PlanBuilder* b, const std::string& hf, const std::string& block, const LayerSources& l) {
  const uint64_t e = b->config().embedding;
  WF_TRY(b->Need(l.shared_router, hf + "mlp.shared_expert_gate.weight"));
  return b->AddFloat(block + "ffn_gate_inp_shexp.weight", *l.shared_router, {1, e}, TensorType::kF32, {e});
}

}  // namespace wf::detail
#endif  // WF_CONVERT_PLAN_MOE_IMPL_H_
