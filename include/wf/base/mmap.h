// SPDX-License-Identifier: Apache-2.0
// Read-only mapping of a whole file, and files that appear whole or not at all.
// SIGBUS policy: a file that is truncated by somebody else while it is mapped ends the process with
// SIGBUS when a lost page is touched; wf does not catch that signal. Readers check all extents
// against the size at opening, so a file that was short from the start is an ordinary error.
#ifndef WF_BASE_MMAP_H_
#define WF_BASE_MMAP_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "wf/base/inline.h"
#include "wf/base/status.h"

namespace wf {

class MappedFile {
 public:
  // kNotFound if there is no such file, kIo for directories, unreadable files and failed mappings.
  // An empty file maps to an empty view.
  static Result<MappedFile> Open(const std::string& path);

  MappedFile() = default;
  MappedFile(MappedFile&& o) noexcept { *this = static_cast<MappedFile&&>(o); }
  MappedFile& operator=(MappedFile&& o) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  const std::string& path() const noexcept { return path_; }
  std::string_view bytes() const noexcept { return {static_cast<const char*>(data_), size_}; }

  // Hints, no errors: the kernel may read [offset, offset+length) ahead, or drop it from this process.
  void WillNeed(uint64_t offset, uint64_t length) const noexcept;
  void DontNeed(uint64_t offset, uint64_t length) const noexcept;

 private:
  std::string path_;
  void* data_ = nullptr;
  size_t size_ = 0;
};

// Writes PATH's content to a temporary file in the same directory; Commit() makes it durable and renames
// it to PATH. Destroyed without Commit (an error, a signal handler's exit path): nothing is left and an
// older PATH is untouched.
class AtomicFile {
 public:
  // kIo if PATH is there and no regular file (a folder, a device), kNotFound without its folder.
  static Result<AtomicFile> Create(const std::string& path);
  // The same in memory of this process: no PATH ever appears, but temp_path() can be opened while this lives (and what
  // was mapped from it lives on). `name` is for messages.
  static Result<AtomicFile> CreateInMemory(const std::string& name);
  AtomicFile(AtomicFile&& o) noexcept { *this = static_cast<AtomicFile&&>(o); }
  AtomicFile& operator=(AtomicFile&& o) noexcept;
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  // kIo with path, offset and the system's reason (disk full, file too large).
  Status Write(const void* data, size_t size);
  Status WriteAt(uint64_t offset, const void* data, size_t size);
  uint64_t offset() const noexcept { return offset_; }
  const std::string& temp_path() const noexcept { return temp_; }
  Status Flush();   // write what is buffered
  Status Commit();  // flush, fsync, rename

 private:
  AtomicFile() = default;
  Status WriteRaw(uint64_t offset, const void* data, size_t size);
  void Discard() noexcept;
  std::string path_, temp_, buffer_;
  int fd_ = -1;
  bool in_memory_ = false;
  bool failed_ = false;  // a write failed: nothing of this file will appear
  uint64_t offset_ = 0;  // next byte of Write
};

}  // namespace wf
#if !WF_LIB_COMPILED
#include "wf/base/mmap-impl.h"
#endif
#endif  // WF_BASE_MMAP_H_
