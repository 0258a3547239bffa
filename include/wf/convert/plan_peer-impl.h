// SPDX-License-Identifier: Apache-2.0
// What the programs that read our GGUFs cannot load or would compute wrongly: refused with the reason. Part of
// convert.h's bodies.
#ifndef WF_CONVERT_PLAN_PEER_IMPL_H_
#define WF_CONVERT_PLAN_PEER_IMPL_H_

#include <algorithm>
#include <string>
#include <string_view>

#include "wf/base/quote.h"
#include "wf/convert/peer_rules-impl.h"
#include "wf/convert/plan_builder-impl.h"

namespace wf::detail {

inline Status RefuseFor(Peer peer, const std::string& reason) {
  return Unsupported("--for " + std::string(kPeerNames[static_cast<size_t>(peer)]) + ": " + reason);
}
inline bool IsBitnet(std::string_view architecture) noexcept { return architecture.starts_with("bitnet"); }

inline Status CheckPeerArchitecture(const ConvertPlan& plan) {
  const Peer peer = plan.options.peer;
  const std::string& a = plan.config.architecture;
  const HfExperts& x = plan.config.experts;
  if (plan.options.outtype == OutType::kSgl) return RefuseFor(peer, "it reads GGUF files, not sgl-kernel's format");
  const std::string why = PeerRefuses(peer, a, x.count != 0, OutTensorType(plan.options.outtype));
  if (!why.empty()) return RefuseFor(peer, why);
  if (x.count != 0 && x.normalise != (a != "qwen2moe")) {
    return RefuseFor(peer, "norm_topk_prob is " + std::string(x.normalise ? "true" : "false") + ", but its graph of " +
                               a + (x.normalise ? " never normalises" : " always normalises") +
                               " the weights of the experts");
  }
  if (IsBitnet(a) && plan.config.heads * plan.config.head_dim != plan.config.embedding) {
    return RefuseFor(peer, "its graph of " + a + " needs hidden_size = heads * head_dim; found " +
                               std::to_string(plan.config.embedding) + " and " + std::to_string(plan.config.heads) +
                               " * " + std::to_string(plan.config.head_dim));
  }
  return OkStatus();
}

inline Status CheckPeerTypes(const ConvertPlan& plan) {
  const Peer peer = plan.options.peer;
  const OutType t = plan.options.outtype;
  if (!PeerLoads(peer, OutTensorType(t))) {
    std::string known;
    for (const TensorType type : PeerTypes(peer)) {
      for (size_t i = 0; i < static_cast<size_t>(OutType::kSgl); ++i) {
        if (OutTensorType(static_cast<OutType>(i)) == type) known += kOutTypeNames[i] + std::string(", ");
      }
    }
    return RefuseFor(peer, "it does not know " + std::string(kOutTypeNames[static_cast<size_t>(t)]) + "; use " + known +
                               "f16, bf16 or f32");
  }
  if (FitsModel(t, peer, plan.config)) return OkStatus();
  uint64_t smallest = ~uint64_t{0};
  (void)AllProjections(plan.config, [&](MatrixSize m) {
    smallest = std::min(smallest, m.in);
    return true;
  });
  const std::string advice =
      "; --outtype " + std::string(kOutTypeNames[static_cast<size_t>(AutoOutType(peer, plan.config))]) + " fits";
  if (peer == Peer::kIk && t == OutType::kIQ2_BN && smallest < 512) {
    return RefuseFor(peer, "its kernels need rows of 512 weights at least, the shortest have K = " +
                               std::to_string(smallest) + advice);
  }
  if (peer == Peer::kBitnetCpp && t == OutType::kI2_S) {
    return RefuseFor(peer,
                     "its kernels need rows of whole groups of 128 weights: a K is not a multiple of 128" + advice);
  }
  return OkStatus();  // the tensor itself will say so
}

// Biases that a peer's graph of the architecture adds.
inline bool PeerHasBias(Peer peer, std::string_view architecture, std::string_view tensor) noexcept {
  if (architecture.starts_with("qwen2")) {
    return tensor.ends_with("attn_q.bias") || tensor.ends_with("attn_k.bias") || tensor.ends_with("attn_v.bias");
  }
  return architecture == "llama" || (peer == Peer::kBitnetCpp && architecture == "bitnet-b1.58");
}

inline Status CheckPeerTensors(const ConvertPlan& plan) {
  const Peer peer = plan.options.peer;
  const std::string& a = plan.config.architecture;
  for (const PlannedTensor& t : plan.tensors) {
    const std::string what = "tensor " + Quote(t.source() != nullptr ? t.source_name() : t.name);
    if (t.name.find(".lrc_") != std::string::npos) return RefuseFor(peer, what + ": it has no low-rank correction");
    if (t.name.find("_norm_in.") != std::string::npos) {
      return RefuseFor(peer, what + ": its graph of " + a + " has no norm on this projection's input");
    }
    if (!IsBitnet(a) && t.name.find("_sub_norm.") != std::string::npos) {
      return RefuseFor(peer, what + ": its graph of " + a + " has no sub-norms");
    }
    if (t.name.ends_with(".bias") && !PeerHasBias(peer, a, t.name)) {
      return RefuseFor(peer, what + ": its graph of " + a + " has no such bias");
    }
    if (t.name == "rope_freqs.weight" && a != "llama" && (a != "bitnet-b1.58" || peer == Peer::kLlamaCpp)) {
      return RefuseFor(peer, "its graph of " + a + " has no rope_freqs (RoPE scaling llama3)");
    }
  }
  if (plan.sub_norm_eps >= 0 && plan.sub_norm_eps != static_cast<float>(plan.config.rms_eps)) {
    return RefuseFor(peer, "the sub-norms have epsilon " + FloatText(plan.sub_norm_eps) +
                               ", but it uses rms_norm_eps, " + FloatText(static_cast<float>(plan.config.rms_eps)));
  }
  return OkStatus();
}

inline Status CheckPeerVocab(const ConvertPlan& plan) {
  const Peer peer = plan.options.peer;
  if (peer == Peer::kBitnetCpp || plan.vocab.model != "gpt2" || !plan.vocab.pre.empty()) return OkStatus();
  return RefuseFor(peer, "the tokenizer splits words by a pattern that has no name there");
}

}  // namespace wf::detail
#endif  // WF_CONVERT_PLAN_PEER_IMPL_H_
