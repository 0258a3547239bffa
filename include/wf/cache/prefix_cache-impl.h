// SPDX-License-Identifier: Apache-2.0
// Bodies of prefix_cache.h. Nothing recurses: a prompt of a million tokens is a path of 32 thousand nodes.
#ifndef WF_CACHE_PREFIX_CACHE_IMPL_H_
#define WF_CACHE_PREFIX_CACHE_IMPL_H_

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "wf/cache/prefix_cache.h"

namespace wf {

struct PrefixCache::Node {
  Node* parent;  // null: the first unit of a prompt
  Roots::iterator root;
  std::vector<int32_t> tokens, blocks;
  Children children = {};
  Node *newer = nullptr, *older = nullptr;
};

// Within one tree all runs have the same length.
WF_MODEL_INLINE bool PrefixCache::TokensLess::operator()(std::span<const int32_t> a,
                                                         std::span<const int32_t> b) const noexcept {
  return std::memcmp(a.data(), b.data(), a.size_bytes()) < 0;
}

WF_MODEL_INLINE PrefixCache::PrefixCache(KvPool* pool) : pool_(pool) {}
WF_MODEL_INLINE PrefixCache::~PrefixCache() { Clear(); }

WF_MODEL_INLINE size_t PrefixCache::Unit(const PrefixKey& key) noexcept {
  return std::lcm(kKvBlock, size_t{key.attention_block});
}

// Puts a node behind `newer`; null: before all others.
WF_MODEL_INLINE void PrefixCache::Link(Node* node, Node* newer) noexcept {
  Node*& place = newer != nullptr ? newer->older : newest_;
  node->newer = newer;
  node->older = place;
  (place != nullptr ? place->newer : oldest_) = node;
  place = node;
}

WF_MODEL_INLINE void PrefixCache::Unlink(Node* node) noexcept {
  (node->newer != nullptr ? node->newer->older : newest_) = node->older;
  (node->older != nullptr ? node->older->newer : oldest_) = node->newer;
}

// From the end of the path to its begin, so that every ancestor ends up newer than its descendants.
WF_MODEL_INLINE void PrefixCache::Touch(Node* last) noexcept {
  for (Node* n = last; n != nullptr; n = n->parent) {
    Unlink(n);
    Link(n, nullptr);
  }
}

WF_MODEL_INLINE size_t PrefixCache::Match(const PrefixKey& key, std::span<const int32_t> tokens, size_t most,
                                          std::vector<int32_t>* blocks) {
  most = std::min(most, tokens.size());
  ++stats_.lookups;
  stats_.query_tokens += most;
  const auto root = roots_.find(key);
  if (root == roots_.end()) return 0;
  const size_t unit = Unit(key), units = most / unit;
  Node* last = nullptr;
  const Children* level = &root->second;
  size_t found = 0;
  for (; found < units; ++found) {
    const auto it = level->find(tokens.subspan(found * unit, unit));
    if (it == level->end()) break;
    last = it->second.get();
    level = &last->children;
  }
  if (last == nullptr) return 0;
  blocks->resize(blocks->size() + found * unit / kKvBlock);  // may throw; from here on nothing does
  auto end = blocks->end();
  for (const Node* n = last; n != nullptr; n = n->parent) {
    for (const int32_t b : n->blocks) pool_->AddRef(b);
    end = std::copy_backward(n->blocks.begin(), n->blocks.end(), end);
  }
  Touch(last);
  ++stats_.hits;
  stats_.hit_tokens += found * unit;
  return found * unit;
}

WF_MODEL_INLINE void PrefixCache::Insert(const PrefixKey& key, std::span<const int32_t> tokens,
                                         std::span<const int32_t> blocks) {
  const size_t unit = Unit(key), per_unit = unit / kKvBlock;
  const size_t units = unit == 0 ? 0 : std::min(tokens.size() / unit, blocks.size() / per_unit);
  if (units == 0) return;
  const auto root = roots_.try_emplace(key).first;
  Node* last = nullptr;
  Children* level = &root->second;
  for (size_t i = 0; i < units; ++i) {
    const auto run = tokens.subspan(i * unit, unit);
    auto it = level->find(run);
    if (it == level->end()) {
      const auto own = blocks.subspan(i * per_unit, per_unit);
      std::unique_ptr<Node> node(new Node{
          .parent = last, .root = root, .tokens = {run.begin(), run.end()}, .blocks = {own.begin(), own.end()}});
      const std::span<const int32_t> name = node->tokens;
      it = level->emplace(name, std::move(node)).first;  // may throw: what is stored is whole then, too
      for (const int32_t b : own) pool_->AddRef(b);
      stats_.blocks += per_unit;
      Link(it->second.get(), last);
    }
    last = it->second.get();
    level = &last->children;
  }
  Touch(last);
}

// One walk from the oldest node to the newest is enough: a leaf that goes may make its parent one, and that is newer.
// Only nodes in use, or with descendants in use, are passed without being freed: no more than the running requests hold
// between them, and the next step reads kilobytes to megabytes of K and V for each.
WF_MODEL_INLINE size_t PrefixCache::Evict(size_t wanted) {
  size_t freed = 0;
  for (Node* n = oldest_; n != nullptr && freed < wanted;) {
    Node* const newer = n->newer;
    const auto unused = [this](int32_t b) { return pool_->refs(b) == 1; };
    if (n->children.empty() && std::all_of(n->blocks.begin(), n->blocks.end(), unused)) {
      freed += n->blocks.size();
      Remove(n);
    }
    n = newer;
  }
  stats_.evicted_blocks += freed;
  return freed;
}

WF_MODEL_INLINE void PrefixCache::Remove(Node* leaf) noexcept {
  for (const int32_t b : leaf->blocks) pool_->Release(b);
  stats_.blocks -= leaf->blocks.size();
  Unlink(leaf);
  Node* const parent = leaf->parent;
  const auto root = leaf->root;
  Children& siblings = parent != nullptr ? parent->children : root->second;
  siblings.erase(siblings.find(leaf->tokens));
  if (root->second.empty()) roots_.erase(root);
}

WF_MODEL_INLINE void PrefixCache::Clear() {
  while (oldest_ != nullptr) Remove(oldest_);  // the oldest is always a leaf
  roots_.clear();
}

}  // namespace wf
#endif  // WF_CACHE_PREFIX_CACHE_IMPL_H_
