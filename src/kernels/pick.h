// SPDX-License-Identifier: Apache-2.0
// Which lines of instances.def a .cc file compiles: those whose block it has named before, by
//   #define WF_HERE_<block> WF_YES
// and no others, so that the matrix can be spread over files. Included once per file, at the place of the instances.
#ifndef WF_KERNELS_PICK_H_
#define WF_KERNELS_PICK_H_
#define WF_YES ~, WF_MAKE
#define WF_SKIP(ISA, B, R)
#define WF_MAKE(ISA, B, R)                                                             \
  template void TernaryGemvKernel<block::B, R>(isa::ISA, const TernaryArgs&) noexcept; \
  template void TernaryGemmKernel<block::B, R>(isa::ISA, const TernaryArgs&) noexcept;
// The second argument: WF_MAKE if the first has expanded to WF_YES, else WF_SKIP.
#define WF_SECOND(A, B, ...) B
#define WF_CHOOSE(...) WF_SECOND(__VA_ARGS__)
#define WF_INSTANCE(ISA, B, R) WF_CHOOSE(WF_HERE_##B, WF_SKIP, ~)(ISA, B, R)
namespace wf::detail {
#include "wf/kernels/instances.def"
}  // namespace wf::detail
#endif  // WF_KERNELS_PICK_H_
