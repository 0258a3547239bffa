// SPDX-License-Identifier: Apache-2.0
// One safetensors file's bytes as tensors (formats.md 7.1). Folders and their index are checkpoint.h's business.
#ifndef WF_FORMATS_SAFETENSORS_H_
#define WF_FORMATS_SAFETENSORS_H_

#include <string_view>

#include "wf/base/inline.h"
#include "wf/base/status.h"
#include "wf/formats/checkpoint_file.h"

namespace wf {

// Views into `bytes`. kFormat, kLimit or kUnsupported with offset and tensor; the file's name is for the caller to add.
Result<CheckpointFile> ReadSafetensors(std::string_view bytes);

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/formats/safetensors-impl.h"
#endif
#endif  // WF_FORMATS_SAFETENSORS_H_
