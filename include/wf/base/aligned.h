// SPDX-License-Identifier: Apache-2.0
// Buffers for kernels: 64-byte aligned, grown but never shrunk, not initialised beyond the first zeroing. Large ones ask
// for huge pages: the rows of a batch lie far apart, and each would need a page of its own.
#ifndef WF_BASE_ALIGNED_H_
#define WF_BASE_ALIGNED_H_

#include <sys/mman.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

namespace wf {

template <class T>
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t n) { Resize(n); }
  AlignedBuffer(AlignedBuffer&& o) noexcept
      : data_(std::exchange(o.data_, nullptr)), size_(std::exchange(o.size_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& o) noexcept {
    std::swap(data_, o.data_);
    std::swap(size_, o.size_);
    return *this;
  }
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;
  ~AlignedBuffer() { std::free(data_); }

  // At least n elements, zeroed if memory had to be got; old content is lost then.
  void Resize(size_t n) {
    if (n <= size_) return;
    std::free(std::exchange(data_, nullptr));
    size_ = 0;  // whoever catches the exception below may go on with smaller sizes
    constexpr size_t kHugePage = size_t{2} << 20;
    const size_t wanted = n * sizeof(T), align = wanted >= kHugePage ? kHugePage : 64;
    const size_t bytes = (wanted + align - 1) / align * align;
    data_ = static_cast<T*>(std::aligned_alloc(align, bytes));
    if (data_ == nullptr) throw std::bad_alloc();
    if (align == kHugePage) (void)::madvise(data_, bytes, MADV_HUGEPAGE);  // a hint
    std::memset(static_cast<void*>(data_), 0, bytes);
    size_ = n;
  }
  T* data() noexcept { return data_; }
  const T* data() const noexcept { return data_; }
  size_t size() const noexcept { return size_; }
  T& operator[](size_t i) noexcept { return data_[i]; }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace wf
#endif  // WF_BASE_ALIGNED_H_
