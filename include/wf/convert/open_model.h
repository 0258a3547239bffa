// SPDX-License-Identifier: Apache-2.0
// A model by its path, whatever form it has: a GGUF is mapped, a checkpoint's folder is converted in memory at each
// start. The programs' -m.
#ifndef WF_CONVERT_OPEN_MODEL_H_
#define WF_CONVERT_OPEN_MODEL_H_

#include <memory>
#include <string>

#include "wf/base/inline.h"
#include "wf/base/status.h"
#include "wf/convert/convert.h"
#include "wf/model/model.h"

namespace wf {

struct OpenModelOptions {
  WeightOptions weights;   // of a GGUF
  ConvertOptions convert;  // of a folder; outtype kAuto by default
  OpenModelOptions() { convert.outtype = OutType::kAuto; }
};

// A GGUF file, or the folder (or sgl-kernel .bin) of a checkpoint, which runs as the file that wf-convert would write
// from it with these options. Errors of Model::Open, PlanConversion and ExecuteConversion.
Result<std::shared_ptr<const Model>> OpenModel(const std::string& path, const OpenModelOptions& options = {},
                                               ConvertObserver* observer = nullptr);

// Converts a folder into memory that belongs to the Gguf; messages name the folder.
Result<Gguf> ConvertInMemory(const ConvertPlan& plan, ConvertObserver* observer = nullptr);

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/convert/open_model-impl.h"
#endif
#endif  // WF_CONVERT_OPEN_MODEL_H_
