// SPDX-License-Identifier: Apache-2.0
// Which architectures, types and shapes other programs load and compute right: one table for converting and
// requantising. Found by running them: llama.cpp and ik_llama.cpp of August 2026, bitnet.cpp of March 2026. Part of the
// bodies of convert.h and requantise.h.
#ifndef WF_CONVERT_PEER_RULES_IMPL_H_
#define WF_CONVERT_PEER_RULES_IMPL_H_

#include <algorithm>
#include <span>
#include <string>
#include <string_view>

#include "wf/convert/convert.h"
#include "wf/quant/types.h"

namespace wf::detail {

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

}  // namespace wf::detail
#endif  // WF_CONVERT_PEER_RULES_IMPL_H_
