// SPDX-License-Identifier: Apache-2.0
// What other programs load and compute right: one set of rules for converting and requantising, over plain values, as
// the one reads a checkpoint and the other a GGUF. A rule returns the reason why not, or nothing. Found by running
// them: llama.cpp and ik_llama.cpp of August 2026, bitnet.cpp of March 2026. Part of the bodies of convert.h and
// requantise.h.
#ifndef WF_CONVERT_PEER_RULES_IMPL_H_
#define WF_CONVERT_PEER_RULES_IMPL_H_

#include <algorithm>
#include <span>
#include <string>
#include <string_view>

#include "wf/base/quote.h"
#include "wf/base/status.h"
#include "wf/convert/convert.h"
#include "wf/convert/pieces-impl.h"
#include "wf/quant/types.h"

namespace wf::detail {

inline Status RefuseFor(Peer peer, const std::string& reason) {
  return Unsupported("--for " + std::string(kPeerNames[static_cast<size_t>(peer)]) + ": " + reason);
}
inline bool IsBitnet(std::string_view architecture) noexcept { return architecture.starts_with("bitnet"); }

// Types of projections, floats aside, which all of them run. ik knows i2_s, but ends or computes NaN with it.
inline constexpr TensorType kBitnetCppTypes[] = {TensorType::kI2_S, TensorType::kTQ2_0, TensorType::kTQ1_0};
inline constexpr TensorType kLlamaCppTypes[] = {TensorType::kTQ2_0, TensorType::kTQ1_0, TensorType::kQ2_0};
inline constexpr TensorType kIkTypes[] = {TensorType::kIQ2_BN, TensorType::kIQ2_BN_R4, TensorType::kIQ1_BN};

inline std::span<const TensorType> PeerTypes(Peer peer) noexcept {
  if (peer == Peer::kBitnetCpp) return kBitnetCppTypes;
  return peer == Peer::kLlamaCpp ? std::span<const TensorType>(kLlamaCppTypes) : std::span<const TensorType>(kIkTypes);
}
inline bool PeerLoads(Peer peer, TensorType t) noexcept {
  if (peer == Peer::kNone || t == TensorType::kF32 || t == TensorType::kF16 || t == TensorType::kBF16) return true;
  const auto types = PeerTypes(peer);
  return std::find(types.begin(), types.end(), t) != types.end();
}
// bitnet.cpp's I2_S kernels leave out what follows the last whole group of a row, ik's read rows of at least 512.
inline bool PeerHoldsRow(Peer peer, TensorType t, uint64_t k) noexcept {
  if (peer == Peer::kBitnetCpp && t == TensorType::kI2_S) return k % 128 == 0;
  return peer != Peer::kIk || !PeerLoads(peer, t) || FindTensorType(static_cast<uint32_t>(t))->block_elements == 1 ||
         k >= 512;
}

// Why a peer cannot run an architecture with projections of a type; empty if it can.
inline std::string PeerRefuses(Peer peer, std::string_view architecture, bool experts, TensorType type) {
  const std::string a(architecture);
  switch (peer) {
    case Peer::kNone:
      break;
    case Peer::kBitnetCpp:
      if (a.starts_with("qwen3")) return "it does not know architecture " + a;
      if (experts && type == TensorType::kI2_S) return "its i2_s has one scale for all experts; use a float type";
      break;
    case Peer::kLlamaCpp:
      if (a == "bitnet-b1.58" || a == "bitnet-25") {
        return "it has no graph with relu2: its architecture bitnet applies SiLU";
      }
      break;
    case Peer::kIk:
      if (a == "llama" && experts) return "its graph of llama with experts computes wrong results";
      if (type == TensorType::kI2_S) return "it loads i2_s and computes wrong results from it; use iq2_bn";
      break;
  }
  return {};
}

// `key`: what the input calls it, for the message.
inline std::string PeerRefusesExpertNorm(std::string_view architecture, const std::string& key, bool normalise) {
  if (normalise == (architecture != "qwen2moe")) return {};
  return key + " is " + (normalise ? "true" : "false") + ", but its graph of " + std::string(architecture) +
         (normalise ? " never normalises" : " always normalises") + " the weights of the experts";
}

// `key`: what the input calls the embedding's size.
inline std::string PeerRefusesHeads(std::string_view architecture, const std::string& key, uint64_t embedding,
                                    uint64_t heads, uint64_t head_dim) {
  if (!IsBitnet(architecture) || (heads != 0 && embedding % heads == 0 && embedding / heads == head_dim)) return {};
  return "its graph of " + std::string(architecture) + " needs " + key + " = heads * head_dim; found " +
         std::to_string(embedding) + " and " + std::to_string(heads) + " * " + std::to_string(head_dim);
}

// Whether a peer's graph of the architecture lacks a bias. Nothing is known of architectures that do not run here.
inline bool PeerLacksBias(Peer peer, std::string_view architecture, std::string_view tensor) noexcept {
  if (architecture.starts_with("qwen2")) {
    return !tensor.ends_with("attn_q.bias") && !tensor.ends_with("attn_k.bias") && !tensor.ends_with("attn_v.bias");
  }
  if (IsBitnet(architecture)) return peer != Peer::kBitnetCpp || architecture != "bitnet-b1.58";
  return architecture.starts_with("qwen3");
}
inline bool PeerLacksRopeFactors(Peer peer, std::string_view architecture) noexcept {
  if (IsBitnet(architecture)) return peer == Peer::kLlamaCpp || architecture != "bitnet-b1.58";
  return architecture.starts_with("qwen");
}

// `name`: the tensor's in the GGUF; `input_name`: in the input, for the message.
inline std::string PeerRefusesTensor(Peer peer, std::string_view architecture, std::string_view name,
                                     std::string_view input_name) {
  const std::string graph = "its graph of " + std::string(architecture), what = "tensor " + Quote(input_name) + ": ";
  const auto has = [&](std::string_view part) { return name.find(part) != std::string_view::npos; };
  if (has(".lrc_")) return what + "it has no low-rank correction";
  if (has("_norm_in.")) return what + graph + " has no norm on this projection's input";
  if (!IsBitnet(architecture) && has("_sub_norm.")) return what + graph + " has no sub-norms";
  if (name.ends_with(".bias") && PeerLacksBias(peer, architecture, name)) return what + graph + " has no such bias";
  if (name == "rope_freqs.weight" && PeerLacksRopeFactors(peer, architecture)) {
    return graph + " has no rope_freqs (RoPE scaling llama3)";
  }
  return {};
}

// `key`: what the input calls the other norms' epsilon.
inline std::string PeerRefusesSubNormEps(const std::string& key, float sub_norm_eps, float rms_eps) {
  if (sub_norm_eps == rms_eps) return {};
  return "the sub-norms have epsilon " + FloatText(sub_norm_eps) + ", but it uses " + key + ", " + FloatText(rms_eps);
}

// Without a name they fall back to a way of splitting that need not be the model's.
inline std::string PeerRefusesTokenizer(Peer peer, std::string_view model, std::string_view pre) {
  if (peer == Peer::kBitnetCpp || model != "gpt2" || !pre.empty()) return {};
  return "the tokenizer splits words by a pattern that has no name there";
}

}  // namespace wf::detail
#endif  // WF_CONVERT_PEER_RULES_IMPL_H_
