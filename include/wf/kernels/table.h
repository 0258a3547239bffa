// SPDX-License-Identifier: Apache-2.0
// The kernels of one ISA as function pointers: what code uses that learns the ISA, the tensor type and the rank
// at run time (the model graph, tests, the self-test).
#ifndef WF_KERNELS_TABLE_H_
#define WF_KERNELS_TABLE_H_

#include "wf/base/inline.h"
#include "wf/kernels/args.h"
#include "wf/kernels/head_scan.h"
#include "wf/quant/types.h"
#include "wf/simd/isa.h"
#include "wf/simd/mode.h"

namespace wf {

struct KernelTable {
  isa::Id isa = isa::Id::kScalar;
  void (*dense[kDenseTypes])(const DenseArgs&) noexcept = {};  // by DenseType
  void (*kv_store[kKvTypes])(const KvStoreArgs&) noexcept = {};            // by KvType
  void (*attention[kKvTypes])(const AttentionArgs&) noexcept = {};         // likewise
  void (*attention_part[kKvTypes])(const AttentionArgs&) noexcept = {};    // likewise
  void (*attention_merge)(const AttentionArgs&) noexcept = nullptr;
  void (*quantise)(const QuantiseArgs&) noexcept = nullptr;
  void (*rms_norm)(const RmsNormArgs&) noexcept = nullptr;
  void (*rope)(const RopeArgs&) noexcept = nullptr;
  void (*glu)(const GluArgs&) noexcept = nullptr;
  void (*add)(const AddArgs&) noexcept = nullptr;
  void (*softmax)(const SoftmaxArgs&) noexcept = nullptr;
  void (*peak)(const PeakArgs&) noexcept = nullptr;
  void (*read)(const ReadArgs&) noexcept = nullptr;
  void (*head_pack[kDenseTypes])(const HeadPackArgs&) noexcept = {};  // by DenseType
  void (*head_scan)(const HeadScanArgs&) noexcept = nullptr;
};

struct TernaryInstance {
  void (*gemv)(const TernaryArgs&) noexcept = nullptr;  // null: no kernel for this tensor type
  void (*gemm)(const TernaryArgs&) noexcept = nullptr;
  int rank = 0;  // the template argument: 0, a fixed rank, or kDynamic
};

inline namespace WF_MODE_NS {  // each mode has its own table: what is compiled differs

// `id` must be compiled (WF_ISA_MASK) and supported by this CPU.
const KernelTable& Kernels(isa::Id id);

// A ternary product: the instance with exactly this rank if it is in the matrix, else the dynamic one.
TernaryInstance FindTernary(isa::Id id, TensorType type, size_t rank);

// ISAs that this build has, as a mask of kRank bits.
uint32_t CompiledIsas() noexcept;

}  // namespace WF_MODE_NS

}  // namespace wf
#if !WF_LIB_COMPILED
#include "wf/kernels/table-impl.h"
#endif
#endif  // WF_KERNELS_TABLE_H_
