// SPDX-License-Identifier: Apache-2.0
// The ISAs that kernel tests run: those compiled in that this CPU has; the others are named in a warning.
#ifndef WF_TESTS_KERNELS_ISAS_H_
#define WF_TESTS_KERNELS_ISAS_H_

#include <vector>

#include "tests/catch.h"
#include "wf/kernels/table.h"
#include "wf/simd/isa.h"

// From `first` on: 0 begins with scalar, 1 with the vector ISAs.
inline std::vector<wf::isa::Id> IsasFrom(int first) {
  std::vector<wf::isa::Id> ids;
  for (int i = first; i < wf::isa::kCount; ++i) {
    if (((wf::CompiledIsas() >> i) & 1u) == 0) continue;
    if (wf::isa::Supported(static_cast<wf::isa::Id>(i))) {
      ids.push_back(static_cast<wf::isa::Id>(i));
    } else {
      WARN("not run: this CPU lacks " << wf::isa::kNames[i]);
    }
  }
  return ids;
}

#endif  // WF_TESTS_KERNELS_ISAS_H_
