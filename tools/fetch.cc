// SPDX-License-Identifier: Apache-2.0
// What is the same for every source: which files, where to, what to check. The sources themselves are in
// fetch_source.cc.
#include "tools/fetch.h"

#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tools/cli.h"
#include "tools/fetch_source.h"
#include "tools/model_cache.h"
#include "wf/base/quote.h"

namespace wf {
namespace {

// The shards that an index names, each once.
Result<std::set<std::string>> ShardNames(const std::string& index, const std::string& text) {
  boost::system::error_code error;
  const boost::json::value json = boost::json::parse(text, error);
  const boost::json::value* map = !error && json.is_object() ? json.get_object().if_contains("weight_map") : nullptr;
  if (map == nullptr || !map->is_object()) return FormatError(index + ": expected JSON with an object \"weight_map\"");
  std::set<std::string> names;
  for (const auto& [tensor, file] : map->get_object()) {
    if (!file.is_string()) return FormatError(index + ": the file of tensor " + Quote(tensor) + " is not a string");
    names.emplace(file.get_string());
  }
  return names;
}

// The weights of the first kind that is there: safetensors before pickles.
Status ChooseWeights(const std::string& uri, RemoteSource& source, std::vector<RemoteFile>* files) {
  for (const std::string single : kCheckpointWeights) {
    const std::string kind = single.substr(single.rfind('.'));
    WF_ASSIGN(const std::optional<RemoteFile> index, source.Find(single + ".index.json"));
    if (index) {
      files->push_back(*index);
      WF_ASSIGN(const std::string text, source.Read(*index));
      WF_ASSIGN(const std::set<std::string> names, ShardNames(index->url, text));
      for (const std::string& name : names) {
        WF_TRY(CheckRemoteName(index->url, name));
        WF_ASSIGN(const std::optional<RemoteFile> shard, source.Find(name));
        if (!shard) return NotFound(uri + ": shard " + Quote(name) + " that " + index->name + " names is not there");
        files->push_back(*shard);
      }
      return OkStatus();
    }
    WF_ASSIGN(const std::optional<RemoteFile> whole, source.Find(single));
    if (whole) {
      files->push_back(*whole);
      return OkStatus();
    }
    const size_t before = files->size();
    for (const RemoteFile& f : source.listing()) {
      if (f.name.ends_with(kind) && IsCheckpointFile(f.name)) files->push_back(f);
    }
    if (files->size() > before) return OkStatus();
  }
  return NotFound(uri + ": no weights there, neither *.safetensors nor *.bin, *.pt or *.pth");
}

Result<std::vector<RemoteFile>> ChooseFiles(const std::string& uri, RemoteSource& source, bool weights) {
  std::vector<RemoteFile> files;
  for (const char* name : kCheckpointTexts) {
    WF_ASSIGN(const std::optional<RemoteFile> f, source.Find(name));
    if (f) files.push_back(*f);
    if (files.empty()) {  // config.json comes first
      std::string message = uri + ": no config.json there, so it is not a checkpoint in the Hugging Face form";
      for (const RemoteFile& g : source.listing()) {
        if (g.name.ends_with(".gguf")) message += "; the GGUF " + Quote(g.name) + " there needs no conversion";
      }
      return NotFound(message);
    }
  }
  if (weights) WF_TRY(ChooseWeights(uri, source, &files));
  return files;
}

std::optional<uint64_t> FileSize(const std::string& path) {
  struct stat s {};
  if (::stat(path.c_str(), &s) != 0 || !S_ISREG(s.st_mode)) return std::nullopt;
  return static_cast<uint64_t>(s.st_size);
}

// Is the file what the source says it is?
Status Check(const RemoteFile& f, const std::string& path, const std::atomic<bool>* interrupted) {
  const auto differs = [&](const char* what, const std::string& expected, const std::string& found) {
    return FormatError(f.url + ": wrong " + what + ": expected " + expected + ", found " + found +
                       "; what was downloaded is thrown away");
  };
  const uint64_t size = FileSize(path).value_or(0);
  if (f.size && size != *f.size) {
    return differs("size", std::to_string(*f.size) + " bytes", std::to_string(size) + " bytes");
  }
  const auto hash = [&](const char* what, Digest digest, const std::string& expected) -> Status {
    WF_ASSIGN(const std::string bytes, FileDigest(path, digest, interrupted));
    const std::string found = digest == Digest::kSha256 ? Hex(bytes) : Base64(bytes);
    return found == expected ? OkStatus() : differs(what, expected, found);
  };
  if (!f.sha256.empty()) return hash("SHA-256", Digest::kSha256, f.sha256);
  if (!f.md5.empty()) return hash("MD5 (base64)", Digest::kMd5, f.md5);
  if (!f.crc32c.empty()) return hash("CRC32C (base64)", Digest::kCrc32c, f.crc32c);
  return OkStatus();
}

// Downloads what is missing of one file, checks it and gives it its name.
Status FetchFile(RemoteSource& source, const RemoteFile& f, const std::string& path, const FetchOptions& options,
                 const std::function<void(uint64_t)>& progress) {
  const std::string part = path + ".part";
  // Without a size there is no telling whether a part is all, or more than all.
  if (!f.size || FileSize(part).value_or(0) > *f.size) ::unlink(part.c_str());
  Status status;
  if (!f.size || FileSize(part) != f.size) {
    status = source.Download(f, part, [&]() -> Status {
      const uint64_t size = FileSize(part).value_or(0);
      if (f.size && size > *f.size) {
        return FormatError(f.url + ": wrong size: expected " + std::to_string(*f.size) + " bytes, more arrived");
      }
      progress(size);
      return OkStatus();
    });
  }
  if (status.ok()) status = Check(f, part, options.interrupted);
  if (status.code() == ErrorCode::kFormat) ::unlink(part.c_str());  // nothing to go on from
  WF_TRY(status);
  if (::rename(part.c_str(), path.c_str()) != 0) return IoError(path + ": " + std::strerror(errno));
  return OkStatus();
}

Status FetchFiles(RemoteSource& source, const std::vector<RemoteFile>& files, const std::string& folder,
                  const FetchOptions& options) {
  uint64_t total = 0, missing = 0, done = 0;
  const auto have = [&](const RemoteFile& f) {
    const std::optional<uint64_t> size = FileSize(folder + "/" + f.name);
    return size && (!f.size || *size == *f.size);  // it got its name only after all checks
  };
  for (const RemoteFile& f : files) {
    const uint64_t size = f.size.value_or(0);
    if (__builtin_add_overflow(total, size, &total)) return FormatError(f.url + ": impossible size");
    if (!have(f)) missing += size - std::min(size, FileSize(folder + "/" + f.name + ".part").value_or(0));
  }
  struct statvfs disk {};
  if (::statvfs(folder.c_str(), &disk) == 0 && uint64_t{disk.f_bavail} * disk.f_frsize < missing) {
    return IoError(folder + ": not enough room: " + BytesText(missing) + " to download, " +
                   BytesText(uint64_t{disk.f_bavail} * disk.f_frsize) + " free");
  }
  ProgressBar bar("", total);
  for (const RemoteFile& f : files) {
    if (!have(f)) {
      WF_TRY(FetchFile(source, f, folder + "/" + f.name, options,
                       [&](uint64_t size) { bar.Update(std::min(done + size, total), total, "download " + f.name); }));
    }
    done += f.size.value_or(0);
  }
  return OkStatus();
}

}  // namespace

bool IsRemote(std::string_view uri) {
  for (const std::string_view scheme : {"hf://", "gs://", "https://", "http://"}) {
    if (uri.starts_with(scheme)) return true;
  }
  return false;
}

Result<std::string> FetchCheckpoint(const std::string& uri, const FetchOptions& options) {
  std::string root = options.cache;
  if (root.empty()) {
    WF_ASSIGN(root, CacheRoot());
  }
  WF_ASSIGN(const std::unique_ptr<RemoteSource> source, OpenRemote(uri, options.interrupted));
  WF_TRY(source->List());
  WF_ASSIGN(const std::vector<RemoteFile> files, ChooseFiles(uri, *source, options.weights));
  const std::string folder = root + "/models/" + source->Folder(files);
  WF_TRY(MakeFolders(folder));
  WF_ASSIGN(const FileLock lock, FileLock::Acquire(folder + ".lock", options.interrupted));
  const Status status = FetchFiles(*source, files, folder, options);
  if (status.code() == ErrorCode::kCancelled) {
    return Status(status.code(), uri + ": interrupted; what has arrived is kept, the same command goes on from there");
  }
  WF_TRY(status);
  return folder;
}

}  // namespace wf
