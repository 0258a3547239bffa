// SPDX-License-Identifier: Apache-2.0
// Declares every kernel once, for each ISA tag, and the callables that users name. Definitions: ref.h
// (isa::Scalar), *-inl.h (compiled once per ISA). Include dispatch.h to call them.
#ifndef WF_KERNELS_KERNELS_H_
#define WF_KERNELS_KERNELS_H_

#include "wf/kernels/args.h"
#include "wf/kernels/head_scan.h"
#include "wf/quant/block.h"
#include "wf/simd/isa.h"
#include "wf/simd/mode.h"

namespace wf {
namespace detail {
inline namespace WF_MODE_NS {

// Is there a definition in this mode? Turns a mangled link error into a sentence.
template <class Isa, class Block, int Rank>
inline constexpr bool kListed = false;  // true for each line of instances.def
template <class Isa>
inline constexpr bool kCompiled = (WF_ISA_MASK >> Isa::kRank) & 1;
template <uint32_t kMask>
inline constexpr bool kCompiled<isa::BestOf<kMask>> = true;

#define WF_DECLARE(ISA)                                                                        \
  template <class Block, int Rank> void TernaryGemvKernel(isa::ISA, const TernaryArgs&) noexcept; \
  template <class Block, int Rank> void TernaryGemmKernel(isa::ISA, const TernaryArgs&) noexcept; \
  template <DenseType T> void DenseKernel(isa::ISA, const DenseArgs&) noexcept;                \
  template <KvType T> void KvStoreKernel(isa::ISA, const KvStoreArgs&) noexcept;               \
  template <KvType T> void AttentionKernel(isa::ISA, const AttentionArgs&) noexcept;           \
  template <KvType T> void AttentionPartKernel(isa::ISA, const AttentionArgs&) noexcept;       \
  template <int> void AttentionMergeKernel(isa::ISA, const AttentionArgs&) noexcept;           \
  template <int> void QuantiseKernel(isa::ISA, const QuantiseArgs&) noexcept;                  \
  template <int> void RmsNormKernel(isa::ISA, const RmsNormArgs&) noexcept;                    \
  template <int> void RopeKernel(isa::ISA, const RopeArgs&) noexcept;                          \
  template <int> void GluKernel(isa::ISA, const GluArgs&) noexcept;                            \
  template <int> void AddKernel(isa::ISA, const AddArgs&) noexcept;                            \
  template <int> void SoftmaxKernel(isa::ISA, const SoftmaxArgs&) noexcept;                    \
  template <int> void PeakKernel(isa::ISA, const PeakArgs&) noexcept;                          \
  template <int> void ReadKernel(isa::ISA, const ReadArgs&) noexcept;                          \
  template <DenseType T> void HeadPackKernel(isa::ISA, const HeadPackArgs&) noexcept;          \
  template <int> void HeadScanKernel(isa::ISA, const HeadScanArgs&) noexcept;
WF_DECLARE(Scalar)
WF_DECLARE(Avx2)
WF_DECLARE(AvxVnni)
WF_DECLARE(Avx512)
WF_DECLARE(Avx512Vnni256)
WF_DECLARE(Avx512Vnni)
#undef WF_DECLARE
template <class Block, int Rank, uint32_t kMask>
void TernaryGemvKernel(isa::BestOf<kMask>, const TernaryArgs&) noexcept;
template <class Block, int Rank, uint32_t kMask>
void TernaryGemmKernel(isa::BestOf<kMask>, const TernaryArgs&) noexcept;

template <class Isa, class Block, int Rank>
constexpr void CheckInstance() noexcept {
  static_assert(Rank >= kDynamic, "wf: Rank is 0 (no low-rank term), a positive rank, or wf::kDynamic");
  static_assert(kCompiled<Isa>, "wf: this ISA is not compiled in this mode; link wf::kernels or set WF_DYNAMIC_DISPATCH");
#ifdef WF_PRECOMPILED_KERNELS
  static_assert(kListed<Isa, Block, Rank>,
                "wf: this instance is not in wf::kernels; use wf::wf, or add it to WF_EXTRA_INSTANCES");
#endif
}
}  // namespace WF_MODE_NS
}  // namespace detail

inline namespace WF_MODE_NS {
// Ternary matrix times one token's int8 activations (TernaryArgs::tokens is not read). Thread-safe; rows
// [row_begin, row_end) only, so callers split rows among threads.
template <class Isa, class Block, int Rank = 0>
struct TernaryGemv {
  void operator()(const TernaryArgs& a) const noexcept {
    detail::CheckInstance<Isa, Block, Rank>();
    detail::TernaryGemvKernel<Block, Rank>(Isa{}, a);
  }
};
// The same for any number of tokens: weights are read once per tile of tokens.
template <class Isa, class Block, int Rank = 0>
struct TernaryGemm {
  void operator()(const TernaryArgs& a) const noexcept {
    detail::CheckInstance<Isa, Block, Rank>();
    detail::TernaryGemmKernel<Block, Rank>(Isa{}, a);
  }
};
}  // namespace WF_MODE_NS
}  // namespace wf
#endif  // WF_KERNELS_KERNELS_H_
