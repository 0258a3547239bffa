// SPDX-License-Identifier: Apache-2.0
// What can be requantised to what: files and types that peers load, shapes that types hold, names of projections. Part
// of requantise.h's bodies.
#ifndef WF_CONVERT_REQUANTISE_RULES_IMPL_H_
#define WF_CONVERT_REQUANTISE_RULES_IMPL_H_

#include <string>
#include <string_view>

#include "wf/convert/convert.h"
#include "wf/convert/peer_rules-impl.h"
#include "wf/convert/pieces-impl.h"
#include "wf/convert/requantise.h"
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

// A GGUF's keys and tensors against the rules of the program that it becomes a file for; keys that are missing are as
// both read them. kFormat for keys of wrong types.
inline Status CheckPeerFile(const Gguf& g, Peer peer, const std::string& architecture, TensorType type) {
  if (!PeerLoads(peer, type) && (peer != Peer::kIk || !IsI2s(type))) {
    std::string known;
    for (const TensorType t : kRequantiseTypes) {
      if (PeerLoads(peer, t)) known += (known.empty() ? "" : ", ") + LowerTypeName(t);
    }
    return Unsupported(std::string(kPeerNames[static_cast<size_t>(peer)]) + " does not load " + LowerTypeName(type) +
                       "; it loads " + known);
  }
  const auto key = [&](const char* name) { return architecture + "." + name; };
  const auto refuse = [&](const std::string& why) { return why.empty() ? OkStatus() : RefuseFor(peer, why); };
  WF_ASSIGN(const uint64_t count, g.GetUintOr(key("expert_count"), 0));
  bool experts = count != 0;
  for (const GgufTensor& t : g.tensors()) experts = experts || t.name.find("_exps.weight") != std::string_view::npos;
  WF_TRY(refuse(PeerRefuses(peer, architecture, experts, type)));
  const std::string norm = key("expert_weights_norm");
  if (experts && g.Find(norm) != nullptr) {
    WF_ASSIGN(const bool normalise, g.GetBool(norm));
    WF_TRY(refuse(PeerRefusesExpertNorm(architecture, norm, normalise)));
  }
  const std::string size = key("embedding_length"), heads = key("attention.head_count");
  if (IsBitnet(architecture) && g.Find(size) != nullptr && g.Find(heads) != nullptr) {
    WF_ASSIGN(const uint64_t e, g.GetUint(size));
    WF_ASSIGN(const uint64_t h, g.GetUint(heads));
    WF_ASSIGN(const uint64_t d, g.GetUintOr(key("attention.key_length"), h == 0 ? 0 : e / h));
    WF_TRY(refuse(PeerRefusesHeads(architecture, size, e, h, d)));
  }
  for (const GgufTensor& t : g.tensors()) WF_TRY(refuse(PeerRefusesTensor(peer, architecture, t.name, t.name)));
  if (g.Find(key("attention.sub_norm_epsilon")) != nullptr) {
    const std::string rms = key("attention.layer_norm_rms_epsilon");
    WF_ASSIGN(const double sub_norm_eps, g.GetFloat(key("attention.sub_norm_epsilon")));
    WF_ASSIGN(const double rms_eps, g.GetFloat(rms));
    WF_TRY(refuse(PeerRefusesSubNormEps(rms, static_cast<float>(sub_norm_eps), static_cast<float>(rms_eps))));
  }
  WF_ASSIGN(const std::string_view model, g.GetStringOr("tokenizer.ggml.model", ""));
  WF_ASSIGN(const std::string_view pre, g.GetStringOr("tokenizer.ggml.pre", ""));
  return refuse(PeerRefusesTokenizer(peer, model, pre));
}

inline std::string AbsmeanAdvice() { return "convert the checkpoint with wf-convert, which ternarises by absmean"; }

}  // namespace wf::detail
#endif  // WF_CONVERT_REQUANTISE_RULES_IMPL_H_
