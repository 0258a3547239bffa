// SPDX-License-Identifier: Apache-2.0
// Chooses the next token of one sequence. Order: penalties, bias, banned tokens, temperature, top-k, top-p,
// min-p, then one draw from a generator of our own, so that a seed gives the same text on every machine. Greedy, top-k
// (with top-p and min-p of what it leaves) and min-p alone look at a few candidates only, and then those are all that
// the model needs to compute; both ways give the same token.
#ifndef WF_DECODE_SAMPLER_H_
#define WF_DECODE_SAMPLER_H_

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "wf/base/inline.h"
#include "wf/decode/sampling.h"
#include "wf/kernels/table.h"
#include "wf/model/head_query.h"
#include "wf/tokenizer/tokenizer.h"

namespace wf {

// SplitMix64: one 64-bit state, every seed is good.
class Rng {
 public:
  explicit Rng(uint64_t seed) : state_(seed) {}
  uint64_t Next() noexcept {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  double Uniform() noexcept { return static_cast<double>(Next() >> 11) * 0x1p-53; }  // [0, 1)

 private:
  uint64_t state_;
};

// Tokens that are never sampled: rows of the embedding that are no tokens, padding, the mask token, and
// those the vocabulary suppresses. `rows` is the number of logits.
std::vector<int32_t> BannedTokens(const Tokenizer& tokenizer, size_t rows);

class Sampler {
 public:
  // `params` must be valid. prompt counts as seen for repetition_penalty only.
  Sampler(const SamplingParams& params, const KernelTable& kernels, std::span<const int32_t> prompt);

  // The next token from n logits, which are used up. `banned` are ids that cannot be chosen; at least one other
  // must exist. Ties go to the lowest id. *probability: what the token had among those left
  // to draw from, after temperature, top-k, top-p and min-p; if greedy, among all that are not banned, at
  // temperature 1.
  int32_t Sample(float* logits, size_t n, std::span<const int32_t> banned, float* probability = nullptr);
  // Asks for the candidates that the next token of n would be chosen from; its spans live until the next call. False if
  // all logits take part in the choice.
  bool Query(size_t n, std::span<const int32_t> banned, HeadQuery* query);
  // The next token from the answer to that query: the same that Sample() takes from all logits.
  int32_t Choose(std::span<const Candidate> candidates);
  // Tells the sampler which token the sequence went on with.
  void Accept(int32_t token);

  bool greedy() const noexcept { return params_.temperature == 0; }
  // Whether logits are changed by what was seen: then the rows of a pass cannot share a query.
  bool penalises() const noexcept {
    return params_.repetition_penalty != 1 || params_.presence_penalty != 0 || params_.frequency_penalty != 0;
  }
  int64_t seed() const noexcept { return seed_; }  // -1 if greedy

 private:
  bool top_k(size_t n) const noexcept { return params_.top_k > 0 && static_cast<size_t>(params_.top_k) < n; }
  double MinPRange() const;
  std::span<const int32_t> Window() const;
  template <class At>
  void Penalise(const At& at) const;
  int32_t Draw(float* logits, size_t n, std::span<const int32_t> banned);
  int32_t DrawAll(float* logits, size_t n);
  int32_t DrawCandidates(bool top_k);

  SamplingParams params_;
  const KernelTable* kernels_;
  Rng rng_;
  int64_t seed_ = -1;
  std::vector<int32_t> seen_;  // prompt and generated tokens, in order
  size_t prompt_ = 0;          // how many of them are the prompt's
  std::vector<Candidate> candidates_;
  bool asked_top_k_;                                      // what the last Query() asked for
  std::vector<float> weights_;                            // of them
  std::vector<std::pair<float, int32_t>> probabilities_;  // of top-p without top-k
  std::vector<int32_t> changed_;                          // tokens whose logits Penalise() changes, ascending
  double probability_ = 1;                                // of the token drawn last
};

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/decode/sampler-impl.h"
#endif
#endif  // WF_DECODE_SAMPLER_H_
