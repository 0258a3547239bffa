// SPDX-License-Identifier: Apache-2.0
// The folder where downloaded checkpoints and GGUFs made from checkpoints are kept, and the checksums that name them:
//   models/<where from>/<revision>/   checkpoints, see fetch.h
//   gguf/<key>.gguf                   conversions; the key stands for content, options and version
//   sha256/                           hashes of files seen before, so that a large one is read only once
// Everything in it can be deleted at any time. Not for partial downloads.
#ifndef WF_TOOLS_MODEL_CACHE_H_
#define WF_TOOLS_MODEL_CACHE_H_

#include <atomic>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "wf/base/status.h"

namespace wf {

// $WF_CACHE, else $XDG_CACHE_HOME/wf, else ~/.cache/wf; nothing is created. kNotFound if none of them is set.
Result<std::string> CacheRoot();

// mkdir -p, mode 0777 less the umask.
Status MakeFolders(const std::string& path);

enum class Digest { kMd5, kSha256, kCrc32c };
// The checksum's bytes (crc32c: 4, big-endian). Reading stops with kCancelled once *interrupted is set.
Result<std::string> FileDigest(const std::string& path, Digest digest, const std::atomic<bool>* interrupted = nullptr);
std::string Sha256Hex(std::string_view text);
std::string Hex(std::string_view bytes);
std::string Base64(std::string_view bytes);

// The small files of a checkpoint's folder: configuration, tokenizer, chat template.
inline constexpr const char* kCheckpointTexts[] = {
    "config.json",     "generation_config.json",  "tokenizer.json",    "tokenizer_config.json",
    "tokenizer.model", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt",      "chat_template.jinja",     "chat_template.json"};
// Weights in one file, by kind, the preferred one first; in shards they have an index, NAME.index.json.
inline constexpr const char* kCheckpointWeights[] = {"model.safetensors", "pytorch_model.bin", "pytorch_model.pt",
                                                     "pytorch_model.pth"};
// Is it one of the texts, or weights or their index? Not what training leaves behind.
bool IsCheckpointFile(std::string_view name);

// Names what would be converted: SHA-256 in hex over names and SHA-256 of the folder's checkpoint files, over
// `options` (any text that stands for all options that change the result) and over the version of wf. kNotFound for
// a folder without such files.
Result<std::string> CacheKey(const std::string& folder, std::string_view options,
                             const std::atomic<bool>* interrupted = nullptr);
// <root>/gguf/<key>.gguf
std::string CachePath(const std::string& root, std::string_view key);

// The conversion of `folder` with `options`: the cached file if there is one, else `make` is called with the path to
// write, which must appear whole or not at all (AtomicFile). Two processes that want the same file make it once.
Result<std::string> CachedConversion(const std::string& folder, std::string_view options,
                                     const std::function<Status(const std::string& output)>& make,
                                     const std::atomic<bool>* interrupted = nullptr);

// Exclusive among processes while it lives. Programs started meanwhile share it, so that a download that outlives
// its parent keeps others out.
class FileLock {
 public:
  // Makes the file if need be and waits as long as others hold it (says so on stderr); kCancelled once *interrupted
  // is set.
  static Result<FileLock> Acquire(const std::string& path, const std::atomic<bool>* interrupted);
  FileLock(FileLock&& o) noexcept : fd_(std::exchange(o.fd_, -1)) {}
  FileLock& operator=(FileLock&&) = delete;
  ~FileLock();

 private:
  explicit FileLock(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace wf
#endif  // WF_TOOLS_MODEL_CACHE_H_
