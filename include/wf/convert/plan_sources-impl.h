// SPDX-License-Identifier: Apache-2.0
// A checkpoint's tensors, each at the place in the model that its name gives it; what has no place, or stands at one
// that the model lacks, is refused or noted. Part of convert.h's bodies.
#ifndef WF_CONVERT_PLAN_SOURCES_IMPL_H_
#define WF_CONVERT_PLAN_SOURCES_IMPL_H_

#include <array>
#include <map>
#include <string>
#include <vector>

#include "wf/base/quote.h"
#include "wf/convert/convert.h"

namespace wf::detail {

struct ProjectionSources {
  const CheckpointTensor *weight = nullptr, *scale = nullptr, *quantized = nullptr, *bias = nullptr, *norm = nullptr,
                         *lrc_u = nullptr, *lrc_v = nullptr;
  FactorForm factor = FactorForm::kPlain;  // of lrc_u and lrc_v
  NormForm norm_form = NormForm::kModel;
  std::string norm_name;  // in the GGUF
};

// Gate, up and down of one expert.
using ExpertSources = std::array<ProjectionSources, 3>;

struct LayerSources {
  const CheckpointTensor *attn_norm = nullptr, *ffn_norm = nullptr, *q_norm = nullptr, *k_norm = nullptr,
                         *router = nullptr, *shared_router = nullptr, *fused_gate_up = nullptr, *fused_down = nullptr;
  ProjectionSources projections[kProjections];
  std::map<uint64_t, ExpertSources> experts;  // those that have a tensor of their own
  const ProjectionSources& at(Projection p) const noexcept { return projections[static_cast<size_t>(p)]; }
};

inline std::string TensorWhere(const ConvertPlan& plan, const CheckpointTensor& t) {
  return plan.source->shards()[t.shard] + ": tensor " + Quote(t.name);
}

class SourceTable {
 public:
  explicit SourceTable(ConvertPlan* plan) : plan_(*plan), c_(plan->config), layers_(plan->config.layers) {}
  Status Sort() {
    for (const CheckpointTensor& t : plan_.source->tensors()) WF_TRY(Place(t));
    return CheckWhole();
  }

  const CheckpointTensor *embedding = nullptr, *output_norm = nullptr, *head = nullptr;
  const std::vector<LayerSources>& layers() const noexcept { return layers_; }
  // Does every layer (or: does any) have what `has` asks for?
  template <class F>
  bool All(const F& has) const {
    for (const LayerSources& l : layers_) {
      if (!has(l)) return false;
    }
    return true;
  }
  template <class F>
  bool Any(const F& has) const {
    return !All([&](const LayerSources& l) { return !has(l); });
  }

 private:
  std::string Where(const CheckpointTensor& t) const { return TensorWhere(plan_, t); }

  // Gives a tensor its place; two tensors for one place are an error.
  Status Take(const CheckpointTensor** place, const CheckpointTensor& t) const {
    if (*place != nullptr) {
      return FormatError(Where(t) + " and " + Quote((*place)->name) + " stand for the same thing");
    }
    *place = &t;
    return OkStatus();
  }

  Status Place(const CheckpointTensor& t) {
    const HfName n = ParseHfName(t.name);
    if (n.layer >= 0 && static_cast<uint64_t>(n.layer) >= c_.layers) {
      return FormatError(Where(t) + " belongs to layer " + std::to_string(n.layer) + ", but num_hidden_layers is " +
                         std::to_string(c_.layers));
    }
    LayerSources* layer = n.layer >= 0 ? &layers_[static_cast<size_t>(n.layer)] : nullptr;
    WF_TRY(CheckPlace(t, n));
    switch (n.role) {
      case HfRole::kUnknown:
        return Unknown(t, n);
      case HfRole::kIgnored:
        plan_.notices.push_back("tensor " + Quote(t.name) + " is not used");
        return OkStatus();
      case HfRole::kEmbedding:
        return Take(&embedding, t);
      case HfRole::kOutputNorm:
        return Take(&output_norm, t);
      case HfRole::kHead:
        return Take(&head, t);
      case HfRole::kAttnNorm:
        return Take(&layer->attn_norm, t);
      case HfRole::kFfnNorm:
        return Take(&layer->ffn_norm, t);
      case HfRole::kQNorm:
        return Take(&layer->q_norm, t);
      case HfRole::kKNorm:
        return Take(&layer->k_norm, t);
      case HfRole::kRouter:
        return Take(&layer->router, t);
      case HfRole::kSharedRouter:
        return Take(&layer->shared_router, t);
      case HfRole::kFusedGateUp:
        return Take(&layer->fused_gate_up, t);
      case HfRole::kFusedDown:
        return Take(&layer->fused_down, t);
      default:
        break;
    }
    const size_t index = static_cast<size_t>(n.projection);
    return PlacePart(
        t, n,
        n.expert < 0
            ? &layer->projections[index]
            : &layer->experts[static_cast<uint64_t>(n.expert)][index - static_cast<size_t>(Projection::kGate)]);
  }

  Status PlacePart(const CheckpointTensor& t, const HfName& n, ProjectionSources* p) {
    switch (n.role) {
      case HfRole::kWeight:
        return Take(&p->weight, t);
      case HfRole::kWeightScale:
        return Take(&p->scale, t);
      case HfRole::kWeightQuantized:
        return Take(&p->quantized, t);
      case HfRole::kBias:
        return Take(&p->bias, t);
      case HfRole::kInputNorm:
        if (p->norm != nullptr) {
          return Unsupported(Where(t) + " and " + Quote(p->norm->name) + " are two norms for one projection");
        }
        p->norm_form = n.form;
        p->norm_name = n.gguf;
        return Take(&p->norm, t);
      default:
        break;
    }
    const CheckpointTensor* other = n.role == HfRole::kLrcU ? p->lrc_v : p->lrc_u;
    if (other != nullptr && p->factor != n.factor) {
      return FormatError(Where(t) + " and " + Quote(other->name) + " are low-rank factors of different kinds");
    }
    p->factor = n.factor;
    return Take(n.role == HfRole::kLrcU ? &p->lrc_u : &p->lrc_v, t);
  }

  // Has the model the place that the name means?
  Status CheckPlace(const CheckpointTensor& t, const HfName& n) const {
    const bool expert = n.expert >= 0 || n.role == HfRole::kRouter || n.role == HfRole::kFusedGateUp ||
                        n.role == HfRole::kFusedDown || n.role == HfRole::kSharedRouter;
    const bool part = n.role >= HfRole::kWeight;
    const bool shared = n.role == HfRole::kSharedRouter || (part && n.projection >= Projection::kSharedGate);
    if ((expert || shared) && c_.experts.count == 0) {
      return Unsupported(Where(t) + " belongs to a mixture of experts, but class " + c_.hf_architecture + " has none");
    }
    if (shared && c_.experts.shared_ffn == 0) {
      return Unsupported(Where(t) + " belongs to a shared expert, but class " + c_.hf_architecture + " has none");
    }
    if (n.expert >= 0 && static_cast<uint64_t>(n.expert) >= c_.experts.count) {
      return FormatError(Where(t) + " belongs to expert " + std::to_string(n.expert) + ", but config.json has " +
                         std::to_string(c_.experts.count) + " experts");
    }
    if (part && n.expert < 0 && c_.experts.count != 0 && n.projection >= Projection::kGate &&
        n.projection <= Projection::kDown) {
      return Unsupported(Where(t) + " belongs to a dense FFN, but every layer of class " + c_.hf_architecture +
                         " has experts");
    }
    if (n.expert >= 0) {
      const char* what = n.role == HfRole::kInputNorm                         ? "a norm on an expert's input"
                         : n.role == HfRole::kLrcU || n.role == HfRole::kLrcV ? "a low-rank correction of an expert"
                         : n.role == HfRole::kBias                            ? "a bias of an expert"
                                                                              : nullptr;
      if (what != nullptr) return Unsupported(Where(t) + ": " + what + " is not supported");
    }
    return OkStatus();
  }

  // What nobody knows may be harmless, but not in a layer, at the embedding, the last norm or the head.
  Status Unknown(const CheckpointTensor& t, const HfName& n) {
    for (const char* part :
         {"language_model.", "vision_tower.", "visual.", "vision_model.", "multi_modal_projector."}) {
      if (n.hf.find(part) != std::string::npos) {
        return Unsupported(Where(t) + " belongs to a model of text and images, which is not supported");
      }
    }
    if (n.hf.find("salient") != std::string::npos) {
      return Unsupported(Where(t) + ": salient columns are not supported");
    }
    if (n.hf.find("lora_magnitude_vector") != std::string::npos || n.hf.find("lora_embedding") != std::string::npos) {
      return Unsupported(Where(t) + ": this part of an adapter (DoRA, or LoRA of the embedding) is not supported");
    }
    const bool touches = n.layer >= 0 || n.hf.find("layers.") != std::string::npos || n.hf.starts_with("lm_head.") ||
                         n.hf.starts_with("model.embed_tokens.") || n.hf.starts_with("model.norm.");
    if (touches) return Unsupported(Where(t) + " is not known, and leaving it out would change the result");
    plan_.notices.push_back("tensor " + Quote(t.name) + " is not known and not used");
    return OkStatus();
  }

  // A norm or bias that some layers have and others lack was lost on the way.
  Status CheckWhole() const {
    for (size_t p = 0; p < kProjections; ++p) {
      for (const auto part : {&ProjectionSources::norm, &ProjectionSources::bias}) {
        const auto has = [&](const LayerSources& l) { return l.projections[p].*part != nullptr; };
        if (!Any(has) || All(has)) continue;
        size_t with = 0, without = 0;
        while (!has(layers_[with])) ++with;
        while (has(layers_[without])) ++without;
        return NotFound(plan_.input + ": layer " + std::to_string(without) + " has no tensor like " +
                        Quote((layers_[with].projections[p].*part)->name) + " of layer " + std::to_string(with));
      }
    }
    return OkStatus();
  }

  ConvertPlan& plan_;
  const HfConfig& c_;
  std::vector<LayerSources> layers_;
};

}  // namespace wf::detail
#endif  // WF_CONVERT_PLAN_SOURCES_IMPL_H_
