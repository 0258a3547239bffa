// SPDX-License-Identifier: Apache-2.0
// Where checkpoints come from: a Hugging Face hub, a bucket, a plain folder on a web server. For fetch.cc only.
#ifndef WF_TOOLS_FETCH_SOURCE_H_
#define WF_TOOLS_FETCH_SOURCE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "wf/base/status.h"

namespace wf {

struct RemoteFile {
  std::string name;  // has passed CheckRemoteName
  std::string url;   // for messages and for downloading
  std::optional<uint64_t> size;
  std::string sha256;       // hex; the checksums are empty if the source does not say them
  std::string md5, crc32c;  // base64
  std::string version;      // changes when the content does, if the source has such a thing
};

// kFormat unless it is a plain file name: no folder, no backslash, no "..", nothing that a URL or gcloud would read as
// a pattern. `where` goes in front of the message.
Status CheckRemoteName(const std::string& where, std::string_view name);

class RemoteSource {
 public:
  explicit RemoteSource(const std::atomic<bool>* interrupted) : interrupted_(interrupted) {}
  virtual ~RemoteSource() = default;
  // Asks for the listing, where there is one. Before everything else.
  virtual Status List() = 0;
  // The files directly in the folder; empty if the source cannot list.
  const std::vector<RemoteFile>& listing() const { return listing_; }
  virtual Result<std::optional<RemoteFile>> Find(const std::string& name);
  // The content of a small file (16 MiB at most).
  virtual Result<std::string> Read(const RemoteFile& f) = 0;
  // Goes on from what `part` already holds. `tick` is called about ten times a second; its error ends it.
  virtual Status Download(const RemoteFile& f, const std::string& part, const std::function<Status()>& tick) = 0;
  // Under the cache's models/; names the content of `files`.
  virtual std::string Folder(const std::vector<RemoteFile>& files) const = 0;

 protected:
  std::vector<RemoteFile> listing_;
  const std::atomic<bool>* interrupted_;
};

Result<std::unique_ptr<RemoteSource>> OpenRemote(const std::string& uri, const std::atomic<bool>* interrupted);

}  // namespace wf
#endif  // WF_TOOLS_FETCH_SOURCE_H_
