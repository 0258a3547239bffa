// SPDX-License-Identifier: Apache-2.0
// Paged storage for K and V: equal blocks of 32 tokens for all layers and kv heads, handed out by number and
// counted by reference. Memory is reserved at once and touched when used. Not thread-safe: one owner.
#ifndef WF_CACHE_KV_POOL_H_
#define WF_CACHE_KV_POOL_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "wf/base/inline.h"
#include "wf/base/status.h"
#include "wf/kernels/args.h"

namespace wf {

inline constexpr const char* kKvTypeNames[kKvTypes] = {"f32", "f16", "i8"};  // as users write them, by KvType
inline constexpr const char* Name(KvType type) noexcept { return kKvTypeNames[static_cast<size_t>(type)]; }
inline std::optional<KvType> KvTypeFromName(std::string_view name) noexcept {
  for (int i = 0; i < kKvTypes; ++i) {
    if (name == kKvTypeNames[i]) return static_cast<KvType>(i);
  }
  return std::nullopt;
}

struct KvShape {
  size_t layers = 0, kv_heads = 0, head_dim = 0;
  KvType type = KvType::kF16;
  size_t HeadBytes() const noexcept { return KvHeadBytes(head_dim, type); }
  size_t BlockBytes() const noexcept { return layers * kv_heads * HeadBytes(); }
  // Bytes from a block's start to the share of one layer's kv head.
  size_t Offset(size_t layer, size_t kv_head) const noexcept { return (layer * kv_heads + kv_head) * HeadBytes(); }
};

class KvPool {
 public:
  // kOutOfMemory if the address space cannot be had; kLimit if the size overflows.
  static Result<KvPool> Create(const KvShape& shape, size_t blocks);
  KvPool(KvPool&& o) noexcept { *this = static_cast<KvPool&&>(o); }
  KvPool& operator=(KvPool&& o) noexcept;
  KvPool(const KvPool&) = delete;
  KvPool& operator=(const KvPool&) = delete;
  ~KvPool();

  const KvShape& shape() const noexcept { return shape_; }
  size_t total() const noexcept { return refs_.size(); }
  size_t used() const noexcept { return refs_.size() - free_.size(); }

  int32_t Acquire();  // a block with one reference, or -1 if none is free; its content is undefined
  void AddRef(int32_t block);
  void Release(int32_t block);  // the last reference frees it
  uint32_t refs(int32_t block) const noexcept { return refs_[static_cast<size_t>(block)]; }
  uint8_t* Data(int32_t block) noexcept { return base_ + static_cast<size_t>(block) * block_bytes_; }

 private:
  KvPool() = default;
  KvShape shape_;
  size_t block_bytes_ = 0, bytes_ = 0;
  uint8_t* base_ = nullptr;
  std::vector<uint32_t> refs_;
  std::vector<int32_t> free_;  // the lowest number last, so that memory already touched is used again first
};

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/cache/kv_pool-impl.h"
#endif
#endif  // WF_CACHE_KV_POOL_H_
