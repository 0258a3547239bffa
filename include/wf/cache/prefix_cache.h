// SPDX-License-Identifier: Apache-2.0
// The prefix cache: remembers which blocks of the pool hold K and V of which tokens, so that a prompt that begins like
// an earlier one need not be computed again. A tree whose edges are runs of whole KV blocks; it holds references to the
// blocks as their other users do, and gives up the least recently used when the pool runs dry. Not thread-safe.
#ifndef WF_CACHE_PREFIX_CACHE_H_
#define WF_CACHE_PREFIX_CACHE_H_

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "wf/base/inline.h"
#include "wf/cache/kv_pool.h"

namespace wf {

// What K and V depend on besides the tokens; the type they are stored in is the pool's.
struct PrefixKey {
  uint32_t attention_block = 1;  // the rule they were made under: SequenceRows::attention_block
  std::string salt = {};         // tenants with different salts never see each other's blocks
  auto operator<=>(const PrefixKey&) const = default;
};

struct PrefixCacheStats {
  size_t blocks = 0;          // held now, whether others use them or not
  uint64_t lookups = 0;       // calls of Match()
  uint64_t query_tokens = 0;  // what they asked for
  uint64_t hits = 0;          // those that found something
  uint64_t hit_tokens = 0;    // what they found
  uint64_t evicted_blocks = 0;
};

class PrefixCache {
 public:
  explicit PrefixCache(KvPool* pool);  // `pool` must stay where it is and outlive the cache
  ~PrefixCache();
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  // Tokens are shared in multiples of this: whole KV blocks that are whole blocks of the attention rule too, for K and
  // V of a token depend on all tokens of its attention block. 0 for an attention_block of 0, which is no rule: nothing
  // is remembered or found under it.
  static size_t Unit(const PrefixKey& key) noexcept;

  // The longest stored prefix of tokens[0, most), in whole units: appends its blocks to *blocks, each with a reference
  // that is the caller's to release, and returns the number of its tokens. It counts as used now.
  size_t Match(const PrefixKey& key, std::span<const int32_t> tokens, size_t most, std::vector<int32_t>* blocks);

  // Remembers the whole units of `tokens`, with a reference to each of their blocks: blocks[i] holds tokens 32 i ..
  // 32 i + 31, and nobody writes there any more. Blocks and tokens beyond whole units are ignored. Of a prefix that is
  // stored already the stored blocks stay. It counts as used now.
  void Insert(const PrefixKey& key, std::span<const int32_t> tokens, std::span<const int32_t> blocks);

  // Frees blocks that nobody else refers to, ends of prefixes first and of these the least recently used, until
  // `wanted` are free (a unit may hold more than one block) or there are no more. Returns how many it freed.
  size_t Evict(size_t wanted = 1);

  void Clear();  // releases all; the counters stay
  const PrefixCacheStats& stats() const noexcept { return stats_; }
  // Keys under which something is stored. Salts may be as many as requests: none outlives its last block.
  size_t keys() const noexcept { return roots_.size(); }

 private:
  struct Node;  // one unit of tokens after its parent's
  struct TokensLess {
    bool operator()(std::span<const int32_t> a, std::span<const int32_t> b) const noexcept;
  };
  // By the child's own tokens. Ordered, not hashed: whoever chooses the prompts cannot make it slow.
  using Children = std::map<std::span<const int32_t>, std::unique_ptr<Node>, TokensLess>;
  using Roots = std::map<PrefixKey, Children>;  // a key whose first node found no memory stays without children

  void Link(Node* node, Node* newer) noexcept;
  void Unlink(Node* node) noexcept;
  void Touch(Node* last) noexcept;
  void Remove(Node* leaf) noexcept;

  KvPool* pool_;
  Roots roots_;
  // All nodes by last use. A node's ancestors are used whenever it is, and are newer than it.
  Node *newest_ = nullptr, *oldest_ = nullptr;
  PrefixCacheStats stats_;
};

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/cache/prefix_cache-impl.h"
#endif
#endif  // WF_CACHE_PREFIX_CACHE_H_
