// SPDX-License-Identifier: Apache-2.0
// Bodies of sampler.h.
#ifndef WF_DECODE_SAMPLER_IMPL_H_
#define WF_DECODE_SAMPLER_IMPL_H_

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <set>

#include "wf/decode/sampler.h"

namespace wf {

WF_MODEL_INLINE std::vector<int32_t> BannedTokens(const Tokenizer& tokenizer, size_t rows) {
  std::set<int32_t> banned;
  const Vocab& v = tokenizer.vocab();
  for (int32_t i = 0; i < tokenizer.size(); ++i) {
    if (v.types[static_cast<size_t>(i)] == TokenType::kUnused) banned.insert(i);
  }
  for (size_t i = static_cast<size_t>(tokenizer.size()); i < rows; ++i) banned.insert(static_cast<int32_t>(i));
  for (const int32_t id : v.suppress_ids) banned.insert(id);
  if (v.mask_id >= 0) banned.insert(v.mask_id);
  return {banned.begin(), banned.end()};
}

WF_MODEL_INLINE Sampler::Sampler(const SamplingParams& params, const KernelTable& kernels,
                                 std::span<const int32_t> prompt)
    : params_(params), kernels_(&kernels), rng_(0), seen_(prompt.begin(), prompt.end()), prompt_(prompt.size()) {
  if (greedy()) return;
  seed_ = params.seed >= 0 ? params.seed : static_cast<int64_t>(std::random_device{}() & 0x7fffffffu);
  rng_ = Rng(static_cast<uint64_t>(seed_));
}

WF_MODEL_INLINE void Sampler::Accept(int32_t token) { seen_.push_back(token); }

WF_MODEL_INLINE void Sampler::Penalise(float* logits, size_t n) const {
  if (params_.repetition_penalty != 1) {
    const size_t window =
        params_.repeat_last_n < 0 ? seen_.size() : std::min(seen_.size(), static_cast<size_t>(params_.repeat_last_n));
    std::set<int32_t> distinct(seen_.end() - static_cast<std::ptrdiff_t>(window), seen_.end());
    for (const int32_t id : distinct) {
      float& l = logits[id];
      l = l > 0 ? l / params_.repetition_penalty : l * params_.repetition_penalty;
    }
  }
  if (params_.presence_penalty != 0 || params_.frequency_penalty != 0) {
    std::map<int32_t, int> counts;
    for (size_t i = prompt_; i < seen_.size(); ++i) ++counts[seen_[i]];
    for (const auto& [id, count] : counts) {
      logits[id] -= params_.presence_penalty + params_.frequency_penalty * static_cast<float>(count);
    }
  }
  for (const auto& [id, bias] : params_.logit_bias) {
    if (static_cast<size_t>(id) < n) logits[id] += bias;
  }
}

WF_MODEL_INLINE int32_t Sampler::Sample(float* logits, size_t n, std::span<const int32_t> banned) {
  Penalise(logits, n);
  for (const int32_t id : banned) logits[id] = -INFINITY;
  if (!greedy()) return Draw(logits, n);
  size_t best = 0;
  for (size_t i = 1; i < n; ++i) {
    if (logits[i] > logits[best]) best = i;
  }
  return static_cast<int32_t>(best);
}

WF_MODEL_INLINE int32_t Sampler::Draw(float* logits, size_t n) {
  float top = -INFINITY;  // taken off first, so that no temperature, however small, makes an infinity of the best logit
  for (size_t i = 0; i < n; ++i) top = std::max(top, logits[i]);
  for (size_t i = 0; i < n; ++i) logits[i] = (logits[i] - top) / params_.temperature;
  kernels_->softmax({.x = logits, .p = logits, .n = n});  // probabilities from here on
  const bool top_k = params_.top_k > 0 && static_cast<size_t>(params_.top_k) < n;
  const double u = rng_.Uniform();
  if (!top_k && params_.top_p >= 1 && params_.min_p <= 0) {
    double sum = 0;
    size_t last = 0;
    for (size_t i = 0; i < n; ++i) {
      if (logits[i] <= 0) continue;
      sum += static_cast<double>(logits[i]);
      last = i;
      if (u < sum) return static_cast<int32_t>(i);
    }
    return static_cast<int32_t>(last);  // the sum may stay below 1 by rounding
  }
  candidates_.clear();
  float peak = 0;
  for (size_t i = 0; i < n; ++i) peak = std::max(peak, logits[i]);
  const float floor = params_.min_p * peak;
  for (size_t i = 0; i < n; ++i) {
    if (logits[i] > 0) candidates_.emplace_back(logits[i], static_cast<int32_t>(i));
  }
  const auto better = [](const auto& a, const auto& b) {
    return a.first > b.first || (a.first == b.first && a.second < b.second);
  };
  if (top_k && candidates_.size() > static_cast<size_t>(params_.top_k)) {
    std::nth_element(candidates_.begin(), candidates_.begin() + params_.top_k, candidates_.end(), better);
    candidates_.resize(static_cast<size_t>(params_.top_k));
  }
  // Sort only as far as top_p reaches; its mass is of the tokens that top_k left, renormalised.
  double total = 0;
  for (const auto& c : candidates_) total += static_cast<double>(c.first);
  size_t sorted = 0, keep = candidates_.size();
  double mass = 0;
  if (params_.top_p < 1) {
    const double goal = static_cast<double>(params_.top_p) * (top_k ? total : 1.0);
    for (keep = 0; keep < candidates_.size();) {
      if (keep == sorted) {
        const size_t next = std::min(candidates_.size(), sorted == 0 ? size_t{256} : sorted * 4);
        std::partial_sort(candidates_.begin() + static_cast<std::ptrdiff_t>(sorted),
                          candidates_.begin() + static_cast<std::ptrdiff_t>(next), candidates_.end(), better);
        sorted = next;
      }
      mass += static_cast<double>(candidates_[keep++].first);
      if (mass >= goal) break;
    }
    candidates_.resize(keep);
  }
  // Last, so that it does not change the mass that top-p counts.
  std::erase_if(candidates_, [&](const auto& c) { return c.first < floor; });
  if (params_.top_p >= 1) std::sort(candidates_.begin(), candidates_.end(), better);
  mass = 0;
  for (const auto& c : candidates_) mass += static_cast<double>(c.first);
  double at = u * mass;
  for (const auto& [p, id] : candidates_) {
    at -= static_cast<double>(p);
    if (at < 0) return id;
  }
  return candidates_.back().second;
}

}  // namespace wf
#endif  // WF_DECODE_SAMPLER_IMPL_H_
