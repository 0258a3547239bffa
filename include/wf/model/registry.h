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
  bool bitlinear;  // always, else by the key {arch}.bitlinear
  bool sub_norms;  // attn_sub_norm and ffn_sub_norm must exist
  bool tied_head;  // the embedding is always the head
};

inline constexpr Architecture kArchitectures[] = {
    {"bitnet", RopeKind::kNeox, Activation::kSilu, true, true, true},
    {"bitnet-b1.58", RopeKind::kNeox, Activation::kRelu2, true, true, true},
    {"bitnet-25", RopeKind::kNeox, Activation::kRelu2, true, true, true},  // the first upload's name for the same graph
};

inline constexpr const Architecture* FindArchitecture(std::string_view name) noexcept {
  for (const Architecture& a : kArchitectures)
    if (a.name == name) return &a;
  return nullptr;
}

}  // namespace wf
#endif  // WF_MODEL_REGISTRY_H_
