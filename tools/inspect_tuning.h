// SPDX-License-Identifier: Apache-2.0
// wf-inspect --tuning: the kernel chosen for each kind of tensor and why, what a token reads and multiplies, and the
// speed that a bandwidth allows.
#ifndef WF_TOOLS_INSPECT_TUNING_H_
#define WF_TOOLS_INSPECT_TUNING_H_

#include <cstddef>
#include <string>

#include "wf/base/status.h"
#include "wf/model/model.h"

namespace wf {

struct TuningOptions {
  int threads = 1;
  size_t depth = 0;      // tokens in the cache before the one that is decoded
  double bandwidth = 0;  // bytes/s; 0: unknown
  bool measure = false;  // the bandwidth, and the peak of 8-bit products
  bool as_json = false;
};

// Prints the report. kUnsupported for an ISA that WF_FORCE_ISA names and that is not there.
Status PrintTuning(const Model& model, const std::string& path, const TuningOptions& options);

}  // namespace wf
#endif  // WF_TOOLS_INSPECT_TUNING_H_
