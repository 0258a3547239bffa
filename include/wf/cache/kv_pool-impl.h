// SPDX-License-Identifier: Apache-2.0
// Bodies of kv_pool.h.
#ifndef WF_CACHE_KV_POOL_IMPL_H_
#define WF_CACHE_KV_POOL_IMPL_H_

#include <sys/mman.h>

#include "wf/base/bytes.h"
#include "wf/cache/kv_pool.h"

namespace wf {

WF_MODEL_INLINE Result<KvPool> KvPool::Create(const KvShape& shape, size_t blocks) {
  KvPool p;
  p.shape_ = shape;
  p.block_bytes_ = shape.BlockBytes();
  uint64_t bytes = 0;
  if (!CheckedMul(p.block_bytes_, blocks, &bytes) || blocks > 0x7fffffff) {
    return LimitError("KV cache of " + std::to_string(blocks) + " blocks is too large");
  }
  void* m = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (m == MAP_FAILED) {
    return Status(ErrorCode::kOutOfMemory, "cannot reserve " + std::to_string(bytes >> 20) + " MiB for the KV cache");
  }
  // A head's share of a block is a few KB and the next block's lies far away: without huge pages every share costs page
  // walks (a tenth to a fifth of attention over long contexts). If the system has none, all works as well.
  (void)::madvise(m, bytes, MADV_HUGEPAGE);
  p.base_ = static_cast<uint8_t*>(m);
  p.bytes_ = bytes;
  p.refs_.assign(blocks, 0);
  for (size_t i = blocks; i > 0; --i) p.free_.push_back(static_cast<int32_t>(i - 1));
  return p;
}

WF_MODEL_INLINE KvPool& KvPool::operator=(KvPool&& o) noexcept {
  std::swap(shape_, o.shape_);
  std::swap(block_bytes_, o.block_bytes_);
  std::swap(bytes_, o.bytes_);
  std::swap(base_, o.base_);
  refs_.swap(o.refs_);
  free_.swap(o.free_);
  return *this;
}

WF_MODEL_INLINE KvPool::~KvPool() {
  if (base_ != nullptr) ::munmap(base_, bytes_);
}

WF_MODEL_INLINE int32_t KvPool::Acquire() {
  if (free_.empty()) return -1;
  const int32_t b = free_.back();
  free_.pop_back();
  refs_[static_cast<size_t>(b)] = 1;
  return b;
}
WF_MODEL_INLINE void KvPool::AddRef(int32_t block) { ++refs_[static_cast<size_t>(block)]; }
WF_MODEL_INLINE void KvPool::Release(int32_t block) {
  if (--refs_[static_cast<size_t>(block)] == 0) free_.push_back(block);
}

}  // namespace wf
#endif  // WF_CACHE_KV_POOL_IMPL_H_
