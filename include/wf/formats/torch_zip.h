// SPDX-License-Identifier: Apache-2.0
// PyTorch's checkpoints since version 1.6: a zip archive of raw storages and one pickle (formats.md 7.2). Only what a
// state dict needs; older formats and TorchScript are refused by name. Nothing from the file is ever run.
#ifndef WF_FORMATS_TORCH_ZIP_H_
#define WF_FORMATS_TORCH_ZIP_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "wf/base/inline.h"
#include "wf/base/status.h"
#include "wf/formats/checkpoint_file.h"

namespace wf {

struct ZipEntry {
  std::string_view name;
  std::string_view data;  // into the archive, as it lies there
  uint64_t offset = 0;    // of data
  uint16_t method = 0;    // 0: stored. Others are for the caller to refuse, who knows what the entry is
};

// The entries of an archive in order of name, by its central directory; ZIP64 is understood. All of them lie inside and
// apart, have distinct names, none is encrypted, and no name leads out of a folder; anything else is kFormat or
// kUnsupported with entry and offset. Checksums are not verified: that would read the whole file.
Result<std::vector<ZipEntry>> ReadZip(std::string_view archive);

// The tensors of a state dict. Contiguous ones are views (tied ones of the same bytes), strided ones are copied.
// A dict under the key state_dict, model_state_dict, model or module is taken instead of the top-level one; values that
// are no tensors are left out with a warning. Errors name the tensor, or entry and offset.
Result<CheckpointFile> ReadTorch(std::string_view archive);

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/formats/torch_zip-impl.h"
#include "wf/formats/torch_zip_tensors-impl.h"
#endif
#endif  // WF_FORMATS_TORCH_ZIP_H_
