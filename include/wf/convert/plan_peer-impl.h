// SPDX-License-Identifier: Apache-2.0
// A plan against the rules of the program that its file is for (peer_rules-impl.h). Part of convert.h's bodies.
#ifndef WF_CONVERT_PLAN_PEER_IMPL_H_
#define WF_CONVERT_PLAN_PEER_IMPL_H_

#include <algorithm>
#include <string>

#include "wf/convert/peer_rules-impl.h"
#include "wf/convert/plan_builder-impl.h"

namespace wf::detail {

inline Status CheckPeerArchitecture(const ConvertPlan& plan) {
  const Peer peer = plan.options.peer;
  const HfConfig& c = plan.config;
  if (plan.options.outtype == OutType::kSgl) return RefuseFor(peer, "it reads GGUF files, not sgl-kernel's format");
  std::string why = PeerRefuses(peer, c.architecture, c.experts.count != 0, OutTensorType(plan.options.outtype));
  if (why.empty() && c.experts.count != 0) {
    why = PeerRefusesExpertNorm(c.architecture, "norm_topk_prob", c.experts.normalise);
  }
  if (why.empty()) why = PeerRefusesHeads(c.architecture, "hidden_size", c.embedding, c.heads, c.head_dim);
  return why.empty() ? OkStatus() : RefuseFor(peer, why);
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

inline Status CheckPeerTensors(const ConvertPlan& plan) {
  const Peer peer = plan.options.peer;
  std::string why;
  for (const PlannedTensor& t : plan.tensors) {
    why = PeerRefusesTensor(peer, plan.config.architecture, t.name, t.source() != nullptr ? t.source_name() : t.name);
    if (!why.empty()) return RefuseFor(peer, why);
  }
  if (plan.sub_norm_eps >= 0) {
    why = PeerRefusesSubNormEps("rms_norm_eps", plan.sub_norm_eps, static_cast<float>(plan.config.rms_eps));
  }
  return why.empty() ? OkStatus() : RefuseFor(peer, why);
}

inline Status CheckPeerVocab(const ConvertPlan& plan) {
  const std::string why = PeerRefusesTokenizer(plan.options.peer, plan.vocab.model, plan.vocab.pre);
  return why.empty() ? OkStatus() : RefuseFor(plan.options.peer, why);
}

}  // namespace wf::detail
#endif  // WF_CONVERT_PLAN_PEER_IMPL_H_
