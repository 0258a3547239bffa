// SPDX-License-Identifier: Apache-2.0
// What wf::kernels has: extern declarations and kListed, from instances.def.
#ifndef WF_KERNELS_INSTANCES_H_
#define WF_KERNELS_INSTANCES_H_
#include "wf/kernels/kernels.h"
namespace wf::detail {
#define WF_INSTANCE(ISA, B, R)                                                                       \
  extern template void TernaryGemvKernel<block::B, R>(isa::ISA, const TernaryArgs&) noexcept;       \
  extern template void TernaryGemmKernel<block::B, R>(isa::ISA, const TernaryArgs&) noexcept;       \
  template <>                                                                                        \
  inline constexpr bool kListed<isa::ISA, block::B, R> = true;
#include "wf/kernels/instances.def"
#undef WF_INSTANCE
#define WF_FLOAT_INSTANCES(ISA, WF_EXTERN)                                                        \
  WF_EXTERN template void DenseKernel<DenseType::kF32>(isa::ISA, const DenseArgs&) noexcept;      \
  WF_EXTERN template void DenseKernel<DenseType::kF16>(isa::ISA, const DenseArgs&) noexcept;      \
  WF_EXTERN template void DenseKernel<DenseType::kBF16>(isa::ISA, const DenseArgs&) noexcept;     \
  WF_EXTERN template void DenseKernel<DenseType::kQ8_0>(isa::ISA, const DenseArgs&) noexcept;     \
  WF_EXTERN template void DenseKernel<DenseType::kQ4_0>(isa::ISA, const DenseArgs&) noexcept;     \
  WF_EXTERN template void DenseKernel<DenseType::kQ6_K>(isa::ISA, const DenseArgs&) noexcept;     \
  WF_EXTERN template void DenseKernel<DenseType::kQ4_K>(isa::ISA, const DenseArgs&) noexcept;     \
  WF_EXTERN template void KvStoreKernel<KvType::kF32>(isa::ISA, const KvStoreArgs&) noexcept;      \
  WF_EXTERN template void AttentionKernel<KvType::kF32>(isa::ISA, const AttentionArgs&) noexcept;  \
  WF_EXTERN template void AttentionPartKernel<KvType::kF32>(isa::ISA, const AttentionArgs&) noexcept; \
  WF_EXTERN template void KvStoreKernel<KvType::kF16>(isa::ISA, const KvStoreArgs&) noexcept;      \
  WF_EXTERN template void AttentionKernel<KvType::kF16>(isa::ISA, const AttentionArgs&) noexcept;  \
  WF_EXTERN template void AttentionPartKernel<KvType::kF16>(isa::ISA, const AttentionArgs&) noexcept; \
  WF_EXTERN template void KvStoreKernel<KvType::kI8>(isa::ISA, const KvStoreArgs&) noexcept;      \
  WF_EXTERN template void AttentionKernel<KvType::kI8>(isa::ISA, const AttentionArgs&) noexcept;  \
  WF_EXTERN template void AttentionPartKernel<KvType::kI8>(isa::ISA, const AttentionArgs&) noexcept; \
  WF_EXTERN template void AttentionMergeKernel<0>(isa::ISA, const AttentionArgs&) noexcept;       \
  WF_EXTERN template void QuantiseKernel<0>(isa::ISA, const QuantiseArgs&) noexcept;              \
  WF_EXTERN template void RmsNormKernel<0>(isa::ISA, const RmsNormArgs&) noexcept;                \
  WF_EXTERN template void RopeKernel<0>(isa::ISA, const RopeArgs&) noexcept;                      \
  WF_EXTERN template void GluKernel<0>(isa::ISA, const GluArgs&) noexcept;                        \
  WF_EXTERN template void AddKernel<0>(isa::ISA, const AddArgs&) noexcept;                        \
  WF_EXTERN template void SoftmaxKernel<0>(isa::ISA, const SoftmaxArgs&) noexcept;                \
  WF_EXTERN template void PeakKernel<0>(isa::ISA, const PeakArgs&) noexcept;                      \
  WF_EXTERN template void ReadKernel<0>(isa::ISA, const ReadArgs&) noexcept;
#define WF_HEAD_INSTANCES(ISA, WF_EXTERN)                                                            \
  WF_EXTERN template void HeadPackKernel<DenseType::kF32>(isa::ISA, const HeadPackArgs&) noexcept;  \
  WF_EXTERN template void HeadPackKernel<DenseType::kF16>(isa::ISA, const HeadPackArgs&) noexcept;  \
  WF_EXTERN template void HeadPackKernel<DenseType::kBF16>(isa::ISA, const HeadPackArgs&) noexcept; \
  WF_EXTERN template void HeadPackKernel<DenseType::kQ8_0>(isa::ISA, const HeadPackArgs&) noexcept; \
  WF_EXTERN template void HeadPackKernel<DenseType::kQ4_0>(isa::ISA, const HeadPackArgs&) noexcept; \
  WF_EXTERN template void HeadPackKernel<DenseType::kQ6_K>(isa::ISA, const HeadPackArgs&) noexcept; \
  WF_EXTERN template void HeadPackKernel<DenseType::kQ4_K>(isa::ISA, const HeadPackArgs&) noexcept; \
  WF_EXTERN template void HeadScanKernel<0>(isa::ISA, const HeadScanArgs&) noexcept;
#if defined(__x86_64__)
#define WF_FOR_EVERY_ISA(F, X) F(Scalar, X) F(Avx2, X) F(AvxVnni, X) F(Avx512, X) F(Avx512Vnni256, X) F(Avx512Vnni, X)
#else
#define WF_FOR_EVERY_ISA(F, X) F(Scalar, X)
#endif
WF_FOR_EVERY_ISA(WF_FLOAT_INSTANCES, extern)
WF_FOR_EVERY_ISA(WF_HEAD_INSTANCES, extern)
template <uint32_t kMask, class B, int R>
inline constexpr bool kListed<isa::BestOf<kMask>, B, R> = kListed<isa::Scalar, B, R>;
}  // namespace wf::detail
#endif
