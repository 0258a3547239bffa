// SPDX-License-Identifier: Apache-2.0
// Which tokens may follow so that a text stays within a grammar (json_grammar.h): all tokens' bytes as a tree, walked
// together with the grammar. One table a model, one state a sequence. Knows nothing of probabilities (sampler.h).
#ifndef WF_DECODE_TOKEN_MASK_H_
#define WF_DECODE_TOKEN_MASK_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "wf/base/inline.h"
#include "wf/base/status.h"
#include "wf/decode/json_grammar.h"
#include "wf/tokenizer/tokenizer.h"

namespace wf {

// A set of tokens, one bit for each logit.
class TokenMask {
 public:
  TokenMask() = default;
  explicit TokenMask(size_t rows) : rows_(rows), words_((rows + 63) / 64) {}

  size_t rows() const noexcept { return rows_; }
  bool Has(int32_t id) const noexcept {
    const size_t i = static_cast<size_t>(id);
    return id >= 0 && i < rows_ && (words_[i / 64] >> (i % 64) & 1) != 0;
  }
  void Set(int32_t id) noexcept { words_[static_cast<size_t>(id) / 64] |= uint64_t{1} << (id % 64); }
  void Add(const TokenMask& o) noexcept {
    for (size_t i = 0; i < words_.size(); ++i) words_[i] |= o.words_[i];
  }
  // Bit i % 64 of word i / 64 is token i; bits behind the last are 0.
  std::span<const uint64_t> words() const noexcept { return words_; }
  size_t Count() const noexcept;
  // Ascending, replacing what was there: the tokens that are in the set, and those that are not.
  void Members(std::vector<int32_t>* ids) const;
  void Others(std::vector<int32_t>* ids) const;

 private:
  size_t rows_ = 0;
  std::vector<uint64_t> words_;
};

// The tokens of a vocabulary in the order of their bytes. Immutable, safe for concurrent use.
class TokenTable {
 public:
  // `rows` is the number of logits, at least the vocabulary's. Tokens of `banned` (BannedTokens() of sampler.h),
  // control tokens, unknown and unused ones are never part of a text.
  TokenTable(const Tokenizer& tokenizer, size_t rows, std::span<const int32_t> banned);

  size_t rows() const noexcept { return rows_; }
  const std::vector<int32_t>& end_tokens() const noexcept { return end_tokens_; }
  bool IsText(int32_t id) const noexcept { return text_.Has(id); }
  bool HasByte(uint8_t byte) const noexcept { return has_byte_[byte]; }
  std::string Piece(int32_t id) const { return tokenizer_.Piece(id); }

  // In the order of a walk, children behind their parent.
  struct Node {
    uint32_t end;       // behind its last descendant
    uint32_t first_id;  // of its tokens; the last is before the next node's first
    uint16_t depth;     // bytes before this one
    uint8_t byte;
  };
  struct Tree {
    std::vector<Node> nodes;  // and one behind the last
    std::vector<int32_t> ids;
    size_t size() const noexcept { return nodes.size() - 1; }
  };
  static constexpr uint32_t kPlain = 32;
  // Tokens of up to `characters` (1 to kPlain) characters that a JSON string takes as they are.
  const TokenMask& plain(uint32_t characters) const { return plain_[characters - 1]; }
  const Tree& all() const noexcept { return all_; }
  const Tree& rest() const noexcept { return rest_; }  // those that are not in plain(kPlain)
  size_t max_depth() const noexcept { return max_depth_; }

 private:
  Tree Build(std::span<const std::pair<std::string, int32_t>> sorted);

  Tokenizer tokenizer_;
  size_t rows_, max_depth_ = 0;
  std::vector<int32_t> end_tokens_;
  std::array<bool, 256> has_byte_{};
  TokenMask text_;
  std::vector<TokenMask> plain_;
  Tree all_, rest_;
};

// The text of one sequence on its way through a grammar. Copies are independent; one thread at a time.
class ConstrainedState {
 public:
  // kUnsupported if the vocabulary cannot spell every text of the grammar: a byte that may be needed is no token.
  static Result<ConstrainedState> Create(std::shared_ptr<const TokenTable> tokens,
                                         std::shared_ptr<const JsonGrammar> grammar);

  // The tokens that may follow, end tokens among them exactly if CanEnd(). Valid until the next call of a function that
  // is not const. Never empty before Done(). kLimit for a grammar with so many alternatives at once that finding out
  // would take too long.
  Result<const TokenMask*> Allowed();
  // The sequence goes on with `id`. False, and nothing changes, if it may not.
  bool Accept(int32_t id);
  bool CanEnd() const { return ended_ || matcher_.CanEnd(); }
  // An end token came, or the text is whole and nothing can follow.
  bool Done() const { return ended_ || (matcher_.CanEnd() && !matcher_.CanGoOn()); }

 private:
  ConstrainedState(std::shared_ptr<const TokenTable> tokens, std::shared_ptr<const JsonGrammar> grammar)
      : tokens_(std::move(tokens)), matcher_(std::move(grammar)) {}
  void Walk(const TokenTable::Tree& tree, TokenMask* mask);

  static constexpr size_t kCached = 32;
  std::shared_ptr<const TokenTable> tokens_;
  JsonMatcher matcher_;
  bool ended_ = false;
  std::vector<std::pair<JsonMatcher::State, TokenMask>> cache_;  // of states seen lately
  size_t oldest_ = 0;                                            // in the cache, if it is full
  std::vector<JsonMatcher::State> path_;                         // of Walk()
};

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/decode/token_mask-impl.h"
#endif
#endif  // WF_DECODE_TOKEN_MASK_H_
