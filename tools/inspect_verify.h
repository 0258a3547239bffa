// SPDX-License-Identifier: Apache-2.0
// wf-inspect --verify: two models compared, as a report and an exit code.
#ifndef WF_TOOLS_INSPECT_VERIFY_H_
#define WF_TOOLS_INSPECT_VERIFY_H_

#include <memory>
#include <string>

#include "wf/base/status.h"
#include "wf/model/model.h"

namespace wf {

struct VerifyOptions {
  std::string text;  // for the logits
  int threads = 1;
  bool json = false;
};

// Prints the comparison; *same says whether both models are the same as far as their types can tell: every ternary
// value, the tokenizers and all tensors of the same type equal, scales within what an f16 keeps (2^-11), the cosine of
// other tensors at least 0.99 (Q4_0 keeps 0.995) and their length within 1 %. Models of different shape or arithmetic
// (CompareWeights) are an error.
Status VerifyModels(std::shared_ptr<const Model> a, std::shared_ptr<const Model> b, const VerifyOptions& options,
                    bool* same);

}  // namespace wf
#endif  // WF_TOOLS_INSPECT_VERIFY_H_
