// SPDX-License-Identifier: Apache-2.0
// Checksums by OpenSSL's libcrypto: in this process, so that Ctrl-C stops them, several times as fast as sha256sum
// where the CPU has SHA instructions, and MD5 comes with it.
#include "tools/model_cache.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <vector>

#include "wf/base/mmap.h"
#include "wf/base/quote.h"
#include "wf/version.h"

namespace wf {
namespace {

namespace fs = std::filesystem;

uint32_t Crc32c(uint32_t crc, const unsigned char* p, size_t n) {
  static const std::vector<uint32_t> table = [] {
    std::vector<uint32_t> t(256);
    for (uint32_t i = 0; i < 256; ++i) {
      t[i] = i;
      for (int k = 0; k < 8; ++k) t[i] = (t[i] >> 1) ^ ((t[i] & 1) != 0 ? 0x82F63B78u : 0u);
    }
    return t;
  }();
  for (size_t i = 0; i < n; ++i) crc = table[(crc ^ p[i]) & 0xFF] ^ (crc >> 8);
  return crc;
}

// What changes when a file does, as text.
std::string Identity(const struct stat& s) {
  std::string id;
  for (const auto v : {static_cast<int64_t>(s.st_dev), static_cast<int64_t>(s.st_ino), static_cast<int64_t>(s.st_size),
                       static_cast<int64_t>(s.st_mtim.tv_sec), static_cast<int64_t>(s.st_mtim.tv_nsec),
                       static_cast<int64_t>(s.st_ctim.tv_sec), static_cast<int64_t>(s.st_ctim.tv_nsec)}) {
    id += std::to_string(v) + " ";
  }
  return id;
}

// SHA-256 in hex. A hash once computed is kept under root/sha256 as long as the file's identity stays the same.
Result<std::string> RememberedSha256(const std::string& path, const std::string& root,
                                     const std::atomic<bool>* interrupted) {
  struct stat s {};
  if (::stat(path.c_str(), &s) != 0) return IoError(path + ": " + std::strerror(errno));
  std::error_code ignored;
  const std::string memo = root + "/sha256/" + Sha256Hex(fs::canonical(path, ignored).string());
  const std::string identity = Identity(s);
  if (const Result<MappedFile> known = MappedFile::Open(memo); known.ok()) {
    const std::string_view text = known->bytes();
    if (text.size() == identity.size() + 64 && text.starts_with(identity)) {
      return std::string(text.substr(identity.size()));
    }
  }
  WF_ASSIGN(const std::string digest, FileDigest(path, Digest::kSha256, interrupted));
  const std::string hex = Hex(digest);
  if (MakeFolders(root + "/sha256").ok()) {  // a cache that cannot be written only costs time
    Result<AtomicFile> out = AtomicFile::Create(memo);
    const std::string text = identity + hex;
    if (out.ok() && out->Write(text.data(), text.size()).ok()) (void)out->Commit().ok();
  }
  return hex;
}

}  // namespace

Result<std::string> CacheRoot() {
  const auto get = [](const char* name) {
    const char* v = std::getenv(name);
    return std::string(v == nullptr ? "" : v);
  };
  if (const std::string v = get("WF_CACHE"); !v.empty()) return v;
  if (const std::string v = get("XDG_CACHE_HOME"); v.starts_with("/")) return v + "/wf";
  if (const std::string v = get("HOME"); !v.empty()) return v + "/.cache/wf";
  return NotFound("no folder for the cache: none of WF_CACHE, XDG_CACHE_HOME and HOME is set");
}

Status MakeFolders(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) return IoError("cannot make the folder " + Quote(path) + ": " + error.message());
  return OkStatus();
}

Result<std::string> FileDigest(const std::string& path, Digest digest, const std::atomic<bool>* interrupted) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
  if (!file) return IoError(path + ": " + std::strerror(errno));
  const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  const bool crc = digest == Digest::kCrc32c;
  bool good = crc || (context && EVP_DigestInit_ex(context.get(), digest == Digest::kMd5 ? EVP_md5() : EVP_sha256(),
                                                   nullptr) == 1);
  uint32_t value = 0xFFFFFFFFu;
  std::vector<unsigned char> buffer(size_t{1} << 20);
  for (size_t n = 0; good && (n = std::fread(buffer.data(), 1, buffer.size(), file.get())) > 0;) {
    if (interrupted != nullptr && *interrupted) return Status(ErrorCode::kCancelled, "interrupted");
    if (crc) {
      value = Crc32c(value, buffer.data(), n);
    } else {
      good = EVP_DigestUpdate(context.get(), buffer.data(), n) == 1;
    }
  }
  if (std::ferror(file.get()) != 0) return IoError(path + ": " + std::strerror(errno));
  if (crc) {
    std::string bytes;
    for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>((~value >> shift) & 0xFF);
    return bytes;
  }
  unsigned char bytes[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  if (!good || EVP_DigestFinal_ex(context.get(), bytes, &size) != 1) {
    return Unsupported("OpenSSL has no " + std::string(digest == Digest::kMd5 ? "MD5" : "SHA-256") + " here");
  }
  return std::string(reinterpret_cast<const char*>(bytes), size);
}

std::string Sha256Hex(std::string_view text) {
  unsigned char bytes[EVP_MAX_MD_SIZE] = {};
  unsigned size = 0;
  EVP_Digest(text.data(), text.size(), bytes, &size, EVP_sha256(), nullptr);
  return Hex({reinterpret_cast<const char*>(bytes), size});
}

std::string Hex(std::string_view bytes) {
  std::string hex;
  for (const char c : bytes) {
    hex += "0123456789abcdef"[static_cast<unsigned char>(c) >> 4];
    hex += "0123456789abcdef"[static_cast<unsigned char>(c) & 15];
  }
  return hex;
}

std::string Base64(std::string_view bytes) {
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');
  EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()), reinterpret_cast<const unsigned char*>(bytes.data()),
                  static_cast<int>(bytes.size()));
  text.pop_back();
  return text;
}

bool IsCheckpointFile(std::string_view name) {
  for (const std::string_view n : kCheckpointTexts) {
    if (name == n) return true;
  }
  for (const std::string_view n : kCheckpointWeights) {
    if (name.starts_with(n) && name.substr(n.size()) == ".index.json") return true;
  }
  for (const std::string_view training : {"training_args", "optimizer", "scheduler", "rng_state", "adapter"}) {
    if (name.starts_with(training)) return false;
  }
  for (const std::string_view n : kCheckpointWeights) {
    if (name.ends_with(n.substr(n.rfind('.'))) && !name.starts_with("consolidated")) return true;
  }
  return false;
}

Result<std::string> CacheKey(const std::string& folder, std::string_view options,
                             const std::atomic<bool>* interrupted) {
  WF_ASSIGN(const std::string root, CacheRoot());
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (IsCheckpointFile(name)) names.push_back(name);
  }
  if (error) return IoError(folder + ": " + error.message());
  if (names.empty()) return NotFound(folder + ": no files of a checkpoint in this folder");
  std::sort(names.begin(), names.end());
  std::string text = "wf " WF_VERSION_STRING "\n";
  for (const std::string& name : names) {
    WF_ASSIGN(const std::string hash, RememberedSha256(folder + "/" + name, root, interrupted));
    text += hash + " " + name + "\n";
  }
  return Sha256Hex(text.append(options));
}

std::string CachePath(const std::string& root, std::string_view key) {
  return root + "/gguf/" + std::string(key) + ".gguf";
}

Result<std::string> CachedConversion(const std::string& folder, std::string_view options,
                                     const std::function<Status(const std::string& output)>& make,
                                     const std::atomic<bool>* interrupted) {
  WF_ASSIGN(const std::string root, CacheRoot());
  WF_ASSIGN(const std::string key, CacheKey(folder, options, interrupted));
  const std::string path = CachePath(root, key);
  WF_TRY(MakeFolders(root + "/gguf"));
  WF_ASSIGN(const FileLock lock, FileLock::Acquire(path + ".lock", interrupted));
  if (::access(path.c_str(), R_OK) != 0) WF_TRY(make(path));
  return path;
}

Result<FileLock> FileLock::Acquire(const std::string& path, const std::atomic<bool>* interrupted) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT, 0666);  // no O_CLOEXEC, see the header
  if (fd < 0) return IoError("cannot open the lock " + Quote(path) + ": " + std::strerror(errno));
  FileLock lock(fd);
  for (bool told = false; ::flock(fd, LOCK_EX | LOCK_NB) != 0; ::usleep(100000)) {
    if (errno != EWOULDBLOCK && errno != EINTR) return IoError("cannot lock " + Quote(path) + ": " + strerror(errno));
    if (interrupted != nullptr && *interrupted) return Status(ErrorCode::kCancelled, "interrupted");
    if (!told) std::fprintf(stderr, "waiting for another process that holds %s\n", path.c_str());
    told = true;
  }
  return lock;
}

FileLock::~FileLock() {
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace wf
