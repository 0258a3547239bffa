// SPDX-License-Identifier: Apache-2.0
// Bodies of mmap.h (POSIX).
#ifndef WF_BASE_MMAP_IMPL_H_
#define WF_BASE_MMAP_IMPL_H_

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "wf/base/mmap.h"

namespace wf {

WF_LIB_INLINE Result<MappedFile> MappedFile::Open(const std::string& path) {
  // Not blocking: a FIFO without a writer must end in "not a regular file".
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    const int e = errno;
    return Status(e == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo, path + ": cannot open: " + std::strerror(e));
  }
  struct stat st {};
  if (::fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
    ::close(fd);
    return IoError(path + ": not a regular file");
  }
  MappedFile f;
  f.path_ = path;
  f.size_ = static_cast<size_t>(st.st_size);
  if (f.size_ != 0) {
    void* p = ::mmap(nullptr, f.size_, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
      const int e = errno;
      ::close(fd);
      f.size_ = 0;
      return IoError(path + ": cannot map: " + std::strerror(e));
    }
    f.data_ = p;
    // Where the system keeps files in huge pages, it reads this one into such from now on: walking over gigabytes is a
    // fifth faster then (docs/benchmarks.md). A hint: nothing changes where it cannot be followed.
    (void)::madvise(p, f.size_, MADV_HUGEPAGE);
  }
  ::close(fd);
  return f;
}

WF_LIB_INLINE MappedFile& MappedFile::operator=(MappedFile&& o) noexcept {
  if (this != &o) {
    if (data_ != nullptr) ::munmap(data_, size_);
    path_ = std::move(o.path_);
    data_ = std::exchange(o.data_, nullptr);
    size_ = std::exchange(o.size_, 0);
  }
  return *this;
}

WF_LIB_INLINE MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

namespace detail {
inline void Advise(void* data, size_t size, uint64_t offset, uint64_t length, int advice) noexcept {
  if (data == nullptr || offset >= size) return;
  const uint64_t page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  const uint64_t begin = offset / page * page;
  const uint64_t end = length > size - offset ? size : offset + length;
  (void)::madvise(static_cast<char*>(data) + begin, end - begin, advice);
}
}  // namespace detail

WF_LIB_INLINE void MappedFile::WillNeed(uint64_t offset, uint64_t length) const noexcept {
  detail::Advise(data_, size_, offset, length, MADV_WILLNEED);
}
WF_LIB_INLINE void MappedFile::DontNeed(uint64_t offset, uint64_t length) const noexcept {
  detail::Advise(data_, size_, offset, length, MADV_DONTNEED);
}

WF_LIB_INLINE Result<AtomicFile> AtomicFile::Create(const std::string& path) {
  struct stat st {};
  if (::stat(path.c_str(), &st) == 0 && !S_ISREG(st.st_mode)) {
    return IoError(path + ": exists and is not a regular file");  // the rename would replace a device, too
  }
  AtomicFile f;
  f.path_ = path;
  // Like mkstemp(), but with the permissions of the user's other files.
  static std::atomic<unsigned> counter{0};
  for (int tries = 0; f.fd_ < 0 && tries < 100; ++tries) {
    f.temp_ = path + "." + std::to_string(::getpid()) + "-" + std::to_string(counter.fetch_add(1)) + ".tmp";
    f.fd_ = ::open(f.temp_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (f.fd_ < 0 && errno != EEXIST) break;
  }
  if (f.fd_ < 0) {
    const int e = errno;
    f.temp_.clear();
    return Status(e == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo, path + ": cannot create: " + std::strerror(e));
  }
  return f;
}

WF_LIB_INLINE Result<AtomicFile> AtomicFile::CreateInMemory(const std::string& name) {
  AtomicFile f;
  f.path_ = name;
  f.in_memory_ = true;
  f.fd_ = ::memfd_create("wf", MFD_CLOEXEC);
  if (f.fd_ < 0) return IoError(name + ": memfd_create failed: " + std::strerror(errno));
  f.temp_ = "/proc/self/fd/" + std::to_string(f.fd_);
  return f;
}

WF_LIB_INLINE AtomicFile& AtomicFile::operator=(AtomicFile&& o) noexcept {
  if (this != &o) {
    Discard();
    path_ = std::move(o.path_);
    temp_ = std::move(o.temp_);
    o.temp_.clear();
    buffer_ = std::move(o.buffer_);
    o.buffer_.clear();
    fd_ = std::exchange(o.fd_, -1);
    failed_ = o.failed_;
    in_memory_ = o.in_memory_;
    offset_ = std::exchange(o.offset_, 0);
  }
  return *this;
}
WF_LIB_INLINE AtomicFile::~AtomicFile() { Discard(); }

WF_LIB_INLINE void AtomicFile::Discard() noexcept {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  if (!temp_.empty() && !in_memory_) ::unlink(temp_.c_str());
  temp_.clear();
}

WF_LIB_INLINE Status AtomicFile::WriteRaw(uint64_t offset, const void* data, size_t size) {
  if (failed_) return IoError(path_ + ": an earlier write failed");
  const char* p = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t n = ::pwrite(fd_, p, size, static_cast<off_t>(offset));
    if (n < 0) {
      if (errno == EINTR) continue;
      failed_ = true;  // what is missing cannot be made up for: Commit() must not succeed any more
      return IoError(path_ + ": write of " + std::to_string(size) + " bytes at offset " + std::to_string(offset) +
                     " failed: " + std::strerror(errno));
    }
    p += n;
    offset += static_cast<uint64_t>(n);
    size -= static_cast<size_t>(n);
  }
  return OkStatus();
}

WF_LIB_INLINE Status AtomicFile::Flush() {
  if (buffer_.empty()) return OkStatus();
  const Status s = WriteRaw(offset_ - buffer_.size(), buffer_.data(), buffer_.size());
  buffer_.clear();
  return s;
}

WF_LIB_INLINE Status AtomicFile::Write(const void* data, size_t size) {
  // In pieces of one huge page, so that systems that keep files in such can do so with this one from the start.
  constexpr size_t kPiece = size_t{2} << 20;
  const char* p = static_cast<const char*>(data);
  while (size > 0) {
    const size_t room = kPiece - static_cast<size_t>(offset_ % kPiece);
    size_t n = size < room ? size : room;
    if (room == kPiece && buffer_.empty() && size >= kPiece) {
      n = size / kPiece * kPiece;
      WF_TRY(WriteRaw(offset_, p, n));
    } else {
      buffer_.append(p, n);
    }
    offset_ += n;
    p += n;
    size -= n;
    if (offset_ % kPiece == 0) WF_TRY(Flush());
  }
  return OkStatus();
}

WF_LIB_INLINE Status AtomicFile::WriteAt(uint64_t offset, const void* data, size_t size) {
  WF_TRY(Flush());
  return WriteRaw(offset, data, size);
}

WF_LIB_INLINE Status AtomicFile::Commit() {
  WF_TRY(Flush());
  if (failed_) return IoError(path_ + ": an earlier write failed");
  if (in_memory_) return OkStatus();
  if (::fsync(fd_) != 0) return IoError(path_ + ": fsync failed: " + std::strerror(errno));
  ::close(std::exchange(fd_, -1));
  if (::rename(temp_.c_str(), path_.c_str()) != 0) return IoError(path_ + ": rename failed: " + std::strerror(errno));
  temp_.clear();
  // The name, too, must survive a power cut.
  const size_t slash = path_.rfind('/');
  const std::string dir = slash == std::string::npos ? "." : path_.substr(0, slash + 1);
  const int fd = ::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd >= 0) {
    (void)::fsync(fd);
    ::close(fd);
  }
  return OkStatus();
}

}  // namespace wf
#endif  // WF_BASE_MMAP_IMPL_H_
