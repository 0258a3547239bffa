// SPDX-License-Identifier: Apache-2.0
// Include this to call kernels. Chooses where definitions come from by one macro that the CMake target sets,
// never by hand: wf::kernels (WF_PRECOMPILED_KERNELS), header-only with every ISA in this translation unit
// (WF_DYNAMIC_DISPATCH), or header-only with the ISA of the compiler flags and Scalar.
#ifndef WF_KERNELS_DISPATCH_H_
#define WF_KERNELS_DISPATCH_H_
#include <cstdio>

#include "wf/kernels/kernels.h"
#if defined(WF_PRECOMPILED_KERNELS) || defined(WF_BUILDING_KERNELS)
#include "wf/kernels/instances.h"
#elif defined(WF_DYNAMIC_DISPATCH)
#undef WF_TARGET_INCLUDE
#define WF_TARGET_INCLUDE "wf/kernels/all-inl.h"
#include "wf/simd/foreach_isa.h"
#include "wf/kernels/ref_attention.h"
#include "wf/kernels/ref_head.h"
#else
#if WF_ISA_MASK != 1
#include "wf/kernels/all-inl.h"
#endif
#include "wf/kernels/ref_attention.h"
#include "wf/kernels/ref_head.h"
#endif

namespace wf {
namespace isa {
using Best = BestOf<WF_ISA_MASK>;
}
namespace detail {
inline namespace WF_MODE_NS {

// isa::Choose() for callers that cannot return an error: BestOf<> ends the program if WF_FORCE_ISA asks for
// what is not there, because another ISA in silence would be worse. Programs call isa::Choose() first.
inline isa::Id ChooseOrDie(uint32_t mask) {
  const Result<isa::Id> id = isa::Choose(mask);
  if (!id.ok()) {
    std::fprintf(stderr, "wf: %s\n", id.status().message().c_str());
    std::abort();
  }
  return *id;
}

// Calls f(tag) with the tag of `id`, which must be in kMask.
template <uint32_t kMask, class F>
auto VisitIsa(isa::Id id, const F& f) {
#if defined(__x86_64__)
  if constexpr ((kMask >> isa::Avx512Vnni::kRank) & 1) if (id == isa::Id::kAvx512Vnni) return f(isa::Avx512Vnni{});
  if constexpr ((kMask >> isa::Avx512Vnni256::kRank) & 1) if (id == isa::Id::kAvx512Vnni256) return f(isa::Avx512Vnni256{});
  if constexpr ((kMask >> isa::Avx512::kRank) & 1) if (id == isa::Id::kAvx512) return f(isa::Avx512{});
  if constexpr ((kMask >> isa::AvxVnni::kRank) & 1) if (id == isa::Id::kAvxVnni) return f(isa::AvxVnni{});
  if constexpr ((kMask >> isa::Avx2::kRank) & 1) if (id == isa::Id::kAvx2) return f(isa::Avx2{});
#endif
  (void)id;
  return f(isa::Scalar{});
}

using TernaryFn = void (*)(const TernaryArgs&) noexcept;
template <class Block, int Rank, bool kGemm, class Isa>
TernaryFn TernaryFnOf(Isa) noexcept {
  return [](const TernaryArgs& a) noexcept {
    if constexpr (kGemm) {
      TernaryGemmKernel<Block, Rank>(Isa{}, a);
    } else {
      TernaryGemvKernel<Block, Rank>(Isa{}, a);
    }
  };
}

template <class Block, int Rank, uint32_t kMask>
void TernaryGemvKernel(isa::BestOf<kMask>, const TernaryArgs& a) noexcept {
  static const TernaryFn fn =
      VisitIsa<kMask>(ChooseOrDie(kMask), [](auto tag) { return TernaryFnOf<Block, Rank, false>(tag); });
  fn(a);
}
template <class Block, int Rank, uint32_t kMask>
void TernaryGemmKernel(isa::BestOf<kMask>, const TernaryArgs& a) noexcept {
  static const TernaryFn fn =
      VisitIsa<kMask>(ChooseOrDie(kMask), [](auto tag) { return TernaryFnOf<Block, Rank, true>(tag); });
  fn(a);
}

}  // namespace WF_MODE_NS
}  // namespace detail
}  // namespace wf
#endif  // WF_KERNELS_DISPATCH_H_
