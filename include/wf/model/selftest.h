// SPDX-License-Identifier: Apache-2.0
// Before a model runs: every kernel that was chosen for it, on its own weights and sizes, against the scalar
// definition, bit for bit. Silent garbage from a miscompiled or mis-detected kernel ends here.
#ifndef WF_MODEL_SELFTEST_H_
#define WF_MODEL_SELFTEST_H_

#include <cstddef>

#include "wf/base/inline.h"
#include "wf/base/status.h"
#include "wf/kernels/args.h"
#include "wf/model/model.h"
#include "wf/simd/isa.h"

namespace wf {

struct SelfTestReport {
  double ms = 0;
  size_t kernels = 0;      // distinct kernel x type x shape
  size_t comparisons = 0;  // values compared
};

// Rows tested of each distinct shape and type: the first, the last and 64 in between, spread evenly.
// kInternal naming ISA, kernel, type, shape and row at the first difference.
Result<SelfTestReport> RunSelfTest(const Model& model, isa::Id id, KvType kv_type);

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/model/selftest-impl.h"
#endif
#endif  // WF_MODEL_SELFTEST_H_
