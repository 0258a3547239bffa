// SPDX-License-Identifier: Apache-2.0
// Which tensor types a conversion writes: defaults, what "auto" means for a model and a peer, and what fits a matrix.
// Part of convert.h's bodies.
#ifndef WF_CONVERT_PLAN_TYPES_IMPL_H_
#define WF_CONVERT_PLAN_TYPES_IMPL_H_

#include <optional>
#include <string>
#include <vector>

#include "wf/base/quote.h"
#include "wf/convert/convert.h"
#include "wf/convert/peer_rules-impl.h"

namespace wf::detail {

struct PlanTypes {
  TensorType ternary = TensorType::kI2_S, embedding = TensorType::kF16, head = TensorType::kF16,
             low_rank = TensorType::kF16;
};

struct MatrixSize {
  uint64_t out, in;
};
// Of a projection, or of one expert's gate, up and down.
inline MatrixSize ProjectionSize(const HfConfig& c, Projection p) noexcept {
  const uint64_t e = c.embedding, q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim;
  const uint64_t f = p >= Projection::kSharedGate ? c.experts.shared_ffn : c.experts.count != 0 ? c.experts.ffn : c.ffn;
  switch (p) {
    case Projection::kQ:
      return {q, e};
    case Projection::kK:
    case Projection::kV:
      return {kv, e};
    case Projection::kO:
      return {e, q};
    case Projection::kDown:
    case Projection::kSharedDown:
      return {e, f};
    default:
      return {f, e};
  }
}
inline bool HasProjection(const HfConfig& c, Projection p) noexcept {
  return p < Projection::kSharedGate || c.experts.shared_ffn != 0;
}

// Can the type hold such a matrix? I2_S: any K as long as the whole is groups of 128; sgl-kernel's needs rows of them.
inline bool Fits(OutType t, MatrixSize m) noexcept {
  if (t == OutType::kSgl) return m.in % 128 == 0;
  const TensorTypeInfo* info = FindTensorType(static_cast<uint32_t>(OutTensorType(t)));
  uint64_t bytes = 0;
  return TensorBytes(*info, m.in, m.out, &bytes);
}
template <class F>
bool AllProjections(const HfConfig& c, const F& f) {
  for (size_t i = 0; i < kProjections; ++i) {
    const Projection p = static_cast<Projection>(i);
    if (HasProjection(c, p) && !f(ProjectionSize(c, p))) return false;
  }
  return true;
}
inline bool FitsModel(OutType t, Peer peer, const HfConfig& c) {
  return AllProjections(c, [&](MatrixSize m) { return PeerHoldsRow(peer, OutTensorType(t), m.in) && Fits(t, m); });
}

inline OutType AutoOutType(Peer peer, const HfConfig& c) {
  switch (peer) {
    case Peer::kBitnetCpp:
      return c.experts.count == 0 && FitsModel(OutType::kI2_S, peer, c) ? OutType::kI2_S : OutType::kF16;
    case Peer::kLlamaCpp:
      if (FitsModel(OutType::kTQ2_0, peer, c)) return OutType::kTQ2_0;
      return FitsModel(OutType::kQ2_0, peer, c) ? OutType::kQ2_0 : OutType::kF16;
    case Peer::kIk:
      return FitsModel(OutType::kIQ2_BN, peer, c) ? OutType::kIQ2_BN : OutType::kF16;
    case Peer::kNone:
      break;
  }
  const bool rows = AllProjections(c, [](MatrixSize m) { return m.in % 128 == 0; });
  if (rows) return OutType::kI2_S;
  if (FitsModel(OutType::kIQ2_BN, peer, c)) return OutType::kIQ2_BN;
  return FitsModel(OutType::kI2_S, peer, c) ? OutType::kI2_S : OutType::kBF16;
}

inline Status CheckDenseChoice(const std::optional<TensorType>& t, const char* flag, bool k_quants) {
  if (!t) return OkStatus();
  for (const TensorType known : {TensorType::kF32, TensorType::kF16, TensorType::kBF16, TensorType::kQ8_0,
                                 TensorType::kQ4_0, TensorType::kQ6_K, TensorType::kQ4_K}) {
    if (*t == known && (k_quants || (known != TensorType::kQ6_K && known != TensorType::kQ4_K))) return OkStatus();
  }
  return InvalidArgument(std::string(flag) + ": type " + Quote(TensorTypeName(*t)) +
                         " is not one of f32, f16, bf16, q8_0, " + (k_quants ? "q6_k, q4_k, q4_0" : "q4_0"));
}

// Resolves kAuto in the options.
inline Status ChooseTypes(const HfConfig& c, ConvertOptions* o, PlanTypes* out) {
  WF_TRY(CheckDenseChoice(o->embedding_type, "--embedding-type", true));
  WF_TRY(CheckDenseChoice(o->head_type, "--head-type", true));
  WF_TRY(CheckDenseChoice(o->lrc_type, "--lrc-type", false));
  if (o->outtype == OutType::kAuto) o->outtype = AutoOutType(o->peer, c);
  if (o->outtype == OutType::kSgl) {  // everything that is not ternary is f32 there
    if (o->embedding_type || o->head_type || o->lrc_type) {
      return InvalidArgument(
          "--outtype sgl: everything but ternary weights is F32 in this format; leave out "
          "--embedding-type, --head-type and --lrc-type");
    }
    *out = {TensorType::kI2_S, TensorType::kF32, TensorType::kF32, TensorType::kF32};
    return OkStatus();
  }
  out->ternary = OutTensorType(o->outtype);
  const bool wide = o->outtype == OutType::kF32 || o->outtype == OutType::kBF16;
  const TensorType dense = wide ? out->ternary : TensorType::kF16;
  out->embedding = o->embedding_type.value_or(dense);
  out->head = o->head_type.value_or(out->embedding);
  out->low_rank = o->lrc_type.value_or(dense);
  return OkStatus();
}

// Why a type cannot hold rows of K elements; empty if it can.
inline std::string MisfitText(TensorType type, uint64_t k, uint64_t rows) {
  const TensorTypeInfo* info = FindTensorType(static_cast<uint32_t>(type));
  uint64_t bytes = 0;
  if (TensorBytes(*info, k, rows, &bytes)) return {};
  std::string text = std::string(info->name) + " cannot hold it: ";
  if (IsI2s(type)) {
    text += std::to_string(rows) + " rows of K = " + std::to_string(k) + " are " + std::to_string(k * rows) +
            " weights, not a multiple of 128";
  } else {
    text += "K = " + std::to_string(k) + " is not a multiple of " + std::to_string(info->block_elements);
  }
  return text;
}

}  // namespace wf::detail
#endif  // WF_CONVERT_PLAN_TYPES_IMPL_H_
