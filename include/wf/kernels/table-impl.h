// SPDX-License-Identifier: Apache-2.0
// Bodies of table.h, from the instances that dispatch.h provides.
#ifndef WF_KERNELS_TABLE_IMPL_H_
#define WF_KERNELS_TABLE_IMPL_H_

#include "wf/kernels/dispatch.h"
#include "wf/kernels/table.h"

namespace wf {
namespace detail {
inline namespace WF_MODE_NS {

template <class Isa>
KernelTable MakeTable(Isa) {
  KernelTable t;
  t.isa = static_cast<isa::Id>(Isa::kRank);
#define WF_FN(ARGS, CALL) [](const ARGS& a) noexcept { CALL(Isa{}, a); }
#define WF_DENSE(TYPE)                                                                                  \
  t.dense[static_cast<size_t>(DenseType::TYPE)] = WF_FN(DenseArgs, DenseKernel<DenseType::TYPE>); \
  t.head_pack[static_cast<size_t>(DenseType::TYPE)] = WF_FN(HeadPackArgs, HeadPackKernel<DenseType::TYPE>);
  WF_DENSE(kF32)
  WF_DENSE(kF16)
  WF_DENSE(kBF16)
  WF_DENSE(kQ8_0)
  WF_DENSE(kQ4_0)
  WF_DENSE(kQ6_K)
  WF_DENSE(kQ4_K)
#undef WF_DENSE
#define WF_KV(TYPE)                                                                                                 \
  t.kv_store[static_cast<size_t>(KvType::TYPE)] = WF_FN(KvStoreArgs, KvStoreKernel<KvType::TYPE>);                  \
  t.attention[static_cast<size_t>(KvType::TYPE)] = WF_FN(AttentionArgs, AttentionKernel<KvType::TYPE>);             \
  t.attention_part[static_cast<size_t>(KvType::TYPE)] = WF_FN(AttentionArgs, AttentionPartKernel<KvType::TYPE>);
  WF_KV(kF32)
  WF_KV(kF16)
  WF_KV(kI8)
#undef WF_KV
  t.attention_merge = WF_FN(AttentionArgs, AttentionMergeKernel<0>);
  t.quantise = WF_FN(QuantiseArgs, QuantiseKernel<0>);
  t.rms_norm = WF_FN(RmsNormArgs, RmsNormKernel<0>);
  t.rope = WF_FN(RopeArgs, RopeKernel<0>);
  t.glu = WF_FN(GluArgs, GluKernel<0>);
  t.add = WF_FN(AddArgs, AddKernel<0>);
  t.softmax = WF_FN(SoftmaxArgs, SoftmaxKernel<0>);
  t.peak = WF_FN(PeakArgs, PeakKernel<0>);
  t.read = WF_FN(ReadArgs, ReadKernel<0>);
  t.head_scan = WF_FN(HeadScanArgs, HeadScanKernel<0>);
#undef WF_FN
  return t;
}

struct TernaryRow {
  int isa;
  TensorType type;
  TernaryInstance fn;
};
inline const TernaryRow* TernaryRows(size_t* count) {
#define WF_INSTANCE(ISA, B, R) \
  TernaryRow{isa::ISA::kRank,  \
             block::B::kType,  \
             {TernaryFnOf<block::B, R, false>(isa::ISA{}), TernaryFnOf<block::B, R, true>(isa::ISA{}), R}},
  static const TernaryRow rows[] = {
#if defined(WF_PRECOMPILED_KERNELS) || defined(WF_BUILDING_KERNELS) || defined(WF_DYNAMIC_DISPATCH)
#include "wf/kernels/instances.def"
#else  // static mode: Scalar and, if the compiler flags allow one, a single vector ISA
#define WF_BOTH(ISA, B) WF_INSTANCE(ISA, B, 0) WF_INSTANCE(ISA, B, -1)
#define WF_INSTANCES_STATIC(ISA)                                                                                      \
  WF_BOTH(ISA, I2S)                                                                                                   \
  WF_BOTH(ISA, F32) WF_BOTH(ISA, F16) WF_BOTH(ISA, BF16) WF_BOTH(ISA, TQ1_0) WF_BOTH(ISA, TQ2_0) WF_BOTH(ISA, IQ1_BN) \
      WF_BOTH(ISA, IQ2_BN) WF_BOTH(ISA, IQ2_BN_R4) WF_BOTH(ISA, Q2_0) WF_BOTH(ISA, Q2_0_128) WF_BOTH(ISA, I2S_ARM64)  \
          WF_BOTH(ISA, I2S_X4)
    WF_INSTANCES_STATIC(Scalar)
#if WF_ISA_MASK & 0x20u
        WF_INSTANCES_STATIC(Avx512Vnni)
#elif WF_ISA_MASK & 0x08u
        WF_INSTANCES_STATIC(Avx512)
#elif WF_ISA_MASK & 0x04u
        WF_INSTANCES_STATIC(AvxVnni)
#elif WF_ISA_MASK & 0x02u
        WF_INSTANCES_STATIC(Avx2)
#endif
#undef WF_INSTANCES_STATIC
#undef WF_BOTH
#endif
  };
#undef WF_INSTANCE
  *count = sizeof(rows) / sizeof(rows[0]);
  return rows;
}
}  // namespace WF_MODE_NS
}  // namespace detail

inline namespace WF_MODE_NS {

WF_LIB_INLINE uint32_t CompiledIsas() noexcept { return WF_ISA_MASK; }

WF_LIB_INLINE const KernelTable& Kernels(isa::Id id) {
  static const KernelTable scalar = detail::MakeTable(isa::Scalar{});
  static KernelTable tables[isa::kCount];
  static const bool made = [] {
    for (int i = 0; i < isa::kCount; ++i) {
      if ((WF_ISA_MASK >> i) & 1u) {
        tables[i] =
            detail::VisitIsa<WF_ISA_MASK>(static_cast<isa::Id>(i), [](auto tag) { return detail::MakeTable(tag); });
      }
    }
    return true;
  }();
  return made && ((WF_ISA_MASK >> static_cast<int>(id)) & 1u) != 0 ? tables[static_cast<int>(id)] : scalar;
}

WF_LIB_INLINE TernaryInstance FindTernary(isa::Id id, TensorType type, size_t rank) {
  size_t count = 0;
  const detail::TernaryRow* rows = detail::TernaryRows(&count);
  TernaryInstance best;
  for (size_t i = 0; i < count; ++i) {
    if (rows[i].isa != static_cast<int>(id) || rows[i].type != type) continue;
    if (rows[i].fn.rank >= 0 && static_cast<size_t>(rows[i].fn.rank) == rank) return rows[i].fn;
    if (rank != 0 && rows[i].fn.rank == kDynamic) best = rows[i].fn;
  }
  return best;
}

}  // namespace WF_MODE_NS
}  // namespace wf
#endif  // WF_KERNELS_TABLE_IMPL_H_
