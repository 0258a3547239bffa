// SPDX-License-Identifier: Apache-2.0
// What can be requantised to what: types that peers load, shapes that types hold, names of projections. Part of
// requantise.h's bodies.
#ifndef WF_CONVERT_REQUANTISE_RULES_IMPL_H_
#define WF_CONVERT_REQUANTISE_RULES_IMPL_H_

#include <string>
#include <string_view>

#include "wf/convert/convert.h"
#include "wf/convert/peer_rules-impl.h"
#include "wf/convert/pieces-impl.h"
#include "wf/formats/gguf.h"
#include "wf/quant/types.h"

namespace wf::detail {

inline bool FitsType(TensorType type, const GgufTensor& t) noexcept {
  uint64_t bytes = 0;
  const TensorTypeInfo* info = FindTensorType(static_cast<uint32_t>(type));
  return TensorBytes(*info, t.ne[0], t.rows(), &bytes) && (type != TensorType::kIQ2_BN_R4 || t.ne[1] % 4 == 0);
}

// What a tensor that does not fit lacks: "rows of a multiple of 256 weights, found 192".
inline std::string NeedText(Peer peer, TensorType type, const GgufTensor& t) {
  const std::string k = ", found " + std::to_string(t.ne[0]);
  if (FitsType(type, t)) {
    return std::string("rows of ") + (peer == Peer::kIk ? "at least 512" : "a multiple of 128") + " weights in " +
           kPeerNames[static_cast<size_t>(peer)] + k;
  }
  if (IsI2s(type)) return "a multiple of 128 weights, found " + std::to_string(t.elements());
  const uint32_t block = FindTensorType(static_cast<uint32_t>(type))->block_elements;
  if (t.ne[0] % block != 0) return "rows of a multiple of " + std::to_string(block) + " weights" + k;
  return "a multiple of 4 rows, found " + std::to_string(t.ne[1]);
}

inline std::string LowerTypeName(TensorType t) {
  std::string s(TensorTypeName(t));
  for (char& c : s) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return s;
}

// "blk.3.ffn_up_exps.weight": a projection's matrix, or all experts'.
inline bool IsProjectionName(std::string_view name) noexcept {
  if (name.substr(0, 4) != "blk.") return false;
  const size_t dot = name.find('.', 4);
  if (dot == std::string_view::npos || name.size() < dot + 8 || name.substr(name.size() - 7) != ".weight") return false;
  std::string_view base = name.substr(dot + 1, name.size() - dot - 8);
  for (const std::string_view suffix : {"_exps", "_shexp"}) {
    if (base.size() > suffix.size() && base.substr(base.size() - suffix.size()) == suffix) {
      base.remove_suffix(suffix.size());
      break;
    }
  }
  for (const std::string_view p :
       {"attn_q", "attn_k", "attn_v", "attn_qkv", "attn_output", "ffn_gate", "ffn_up", "ffn_down", "ffn_gate_up"}) {
    if (base == p) return true;
  }
  return false;
}

// The name of what multiplies a weight's scales.
inline std::string ScaleName(std::string_view weight) {
  const bool dot = weight.size() > 7 && weight.substr(weight.size() - 7) == ".weight";
  return std::string(dot ? weight.substr(0, weight.size() - 7) : weight) + ".scale";
}
inline std::string AbsmeanAdvice() { return "convert the checkpoint with wf-convert, which ternarises by absmean"; }

}  // namespace wf::detail
#endif  // WF_CONVERT_REQUANTISE_RULES_IMPL_H_
