// SPDX-License-Identifier: Apache-2.0
// Checkpoints from elsewhere as local folders, downloaded by the user's own curl or gcloud into the cache
// (model_cache.h). Not for uploads and not for single files.
#ifndef WF_TOOLS_FETCH_H_
#define WF_TOOLS_FETCH_H_

#include <atomic>
#include <string>
#include <string_view>

#include "wf/base/status.h"

namespace wf {

struct FetchOptions {
  const std::atomic<bool>* interrupted = nullptr;  // set by Ctrl-C
  std::string cache;                               // empty: CacheRoot()
  bool weights = true;                             // false: only configuration and tokenizer
};

// Does it begin with hf://, gs://, https:// or http://?
bool IsRemote(std::string_view uri);

// The local folder of a checkpoint, with every file in it whole:
//   hf://org/name[@revision]  from $HF_ENDPOINT (https://huggingface.co) by curl; HF_TOKEN is sent if set; checked by
//                             size and, where the listing has it, SHA-256
//   gs://bucket/path          by gcloud, as it is logged in; checked by size and MD5 or CRC32C
//   https://host/path         a plain folder, by curl: known file names are tried; checked by size
// Files that are there already are not downloaded again, but the source is always asked which revision is current. An
// interrupted download leaves NAME.part files behind and goes on from them when called again. A second process that
// wants the same checkpoint waits. Shows a progress bar if stderr is a terminal.
// kInvalidArgument for a malformed address, kNotFound if there is no such thing or no curl or gcloud, kFormat for
// listings and files that are not what they should be, kCancelled once interrupted, else kIo.
Result<std::string> FetchCheckpoint(const std::string& uri, const FetchOptions& options);

}  // namespace wf
#endif  // WF_TOOLS_FETCH_H_
