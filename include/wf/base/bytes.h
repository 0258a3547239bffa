// SPDX-License-Identifier: Apache-2.0
// Checked arithmetic and a bounds-checked little-endian reader: the only pointer arithmetic on input.
// Not for big-endian hosts: the formats are little-endian and values are copied as they are.
#ifndef WF_BASE_BYTES_H_
#define WF_BASE_BYTES_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "wf/base/status.h"

namespace wf {

// The end of a message about a place in a file.
inline std::string AtOffset(uint64_t offset) { return " (offset " + std::to_string(offset) + ")"; }

static_assert(std::endian::native == std::endian::little, "wf: little-endian hosts only");

// False if the result does not fit; *out is then unspecified.
[[nodiscard]] inline bool CheckedMul(uint64_t a, uint64_t b, uint64_t* out) noexcept {
  return !__builtin_mul_overflow(a, b, out);
}
[[nodiscard]] inline bool CheckedAdd(uint64_t a, uint64_t b, uint64_t* out) noexcept {
  return !__builtin_add_overflow(a, b, out);
}
// Next multiple of `align` (a power of two).
[[nodiscard]] inline bool CheckedAlignUp(uint64_t v, uint64_t align, uint64_t* out) noexcept {
  uint64_t t = 0;
  if (!CheckedAdd(v, align - 1, &t)) return false;
  *out = t & ~(align - 1);
  return true;
}
inline constexpr size_t AlignUp(size_t v, size_t align) noexcept { return (v + align - 1) / align * align; }

// Unaligned little-endian load; the caller has checked the bounds.
template <class T>
T LoadLe(const void* p) noexcept {
  T v;
  std::memcpy(&v, p, sizeof(T));
  return v;
}
template <class T>
void StoreLe(void* p, T v) noexcept {
  std::memcpy(p, &v, sizeof(T));
}

// Walks over bytes that may lie. Every read is checked; an error names the offset and what was read.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) noexcept : bytes_(bytes) {}

  uint64_t offset() const noexcept { return pos_; }
  uint64_t remaining() const noexcept { return bytes_.size() - pos_; }

  template <class T>
  Result<T> Read(const char* what) {
    if (remaining() < sizeof(T)) return Truncated(what, sizeof(T));
    const T v = LoadLe<T>(bytes_.data() + pos_);
    pos_ += sizeof(T);
    return v;
  }
  // A view of the next n bytes.
  Result<std::string_view> Bytes(uint64_t n, const char* what) {
    if (remaining() < n) return Truncated(what, n);
    const std::string_view v = bytes_.substr(pos_, n);
    pos_ += n;
    return v;
  }

 private:
  Status Truncated(const char* what, uint64_t need) const {
    return FormatError("truncated at offset " + std::to_string(pos_) + ": " + what + " needs " + std::to_string(need) +
                       " bytes, " + std::to_string(remaining()) + " left");
  }
  std::string_view bytes_;
  size_t pos_ = 0;
};

}  // namespace wf
#endif  // WF_BASE_BYTES_H_
