// SPDX-License-Identifier: Apache-2.0
// Architectures by name, as data: what a name implies that neither keys nor tensors say (formats.md 3.0).
#ifndef WF_MODEL_REGISTRY_H_
#define WF_MODEL_REGISTRY_H_

#include <cstdint>
#include <string_view>

namespace wf {

enum class Activation : uint8_t { kSilu, kRelu2 };  // of the FFN's gate
enum class RopeKind : uint8_t { kNeox, kNorm };     // pairs (i, i + n/2) or (2i, 2i + 1)

struct Architecture {
  std::string_view name;
  RopeKind rope;
  Activation activation;
  bool bitlinear = false;    // always, else by the key {arch}.bitlinear
  bool sub_norms = false;    // attn_sub_norm and ffn_sub_norm must exist; on others they may
  bool tied_head = false;    // the embedding is always the head
  bool qk_norm = false;      // attn_q_norm and attn_k_norm must exist, and only here
  bool experts = false;      // may have them
  bool renormalise = false;  // the weights of the experts chosen, unless {arch}.expert_weights_norm says otherwise
};

inline constexpr Architecture kArchitectures[] = {
    {.name = "bitnet",
     .rope = RopeKind::kNeox,
     .activation = Activation::kSilu,
     .bitlinear = true,
     .sub_norms = true,
     .tied_head = true},
    {.name = "bitnet-b1.58",
     .rope = RopeKind::kNeox,
     .activation = Activation::kRelu2,
     .bitlinear = true,
     .sub_norms = true,
     .tied_head = true},
    // The first upload's name for the same graph.
    {.name = "bitnet-25",
     .rope = RopeKind::kNeox,
     .activation = Activation::kRelu2,
     .bitlinear = true,
     .sub_norms = true,
     .tied_head = true},
    {.name = "llama", .rope = RopeKind::kNorm, .activation = Activation::kSilu, .experts = true, .renormalise = true},
    {.name = "qwen2", .rope = RopeKind::kNeox, .activation = Activation::kSilu},
    {.name = "qwen3", .rope = RopeKind::kNeox, .activation = Activation::kSilu, .qk_norm = true},
    {.name = "qwen2moe", .rope = RopeKind::kNeox, .activation = Activation::kSilu, .experts = true},
    {.name = "qwen3moe",
     .rope = RopeKind::kNeox,
     .activation = Activation::kSilu,
     .qk_norm = true,
     .experts = true,
     .renormalise = true},
};

inline constexpr const Architecture* FindArchitecture(std::string_view name) noexcept {
  for (const Architecture& a : kArchitectures)
    if (a.name == name) return &a;
  return nullptr;
}

}  // namespace wf
#endif  // WF_MODEL_REGISTRY_H_
