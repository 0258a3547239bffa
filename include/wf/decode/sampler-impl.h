// SPDX-License-Identifier: Apache-2.0
// Bodies of sampler.h.
#ifndef WF_DECODE_SAMPLER_IMPL_H_
#define WF_DECODE_SAMPLER_IMPL_H_

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <set>

#include "wf/decode/sampler.h"
#include "wf/kernels/ref.h"

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
    : params_(params),
      kernels_(&kernels),
      rng_(0),
      seen_(prompt.begin(), prompt.end()),
      prompt_(prompt.size()),
      asked_top_k_(params.top_k > 0) {
  if (greedy()) return;
  seed_ = params.seed >= 0 ? params.seed : static_cast<int64_t>(std::random_device{}() & 0x7fffffffu);
  rng_ = Rng(static_cast<uint64_t>(seed_));
}

WF_MODEL_INLINE void Sampler::Accept(int32_t token) { seen_.push_back(token); }

// What counts as seen for repetition_penalty.
WF_MODEL_INLINE std::span<const int32_t> Sampler::Window() const {
  const size_t window =
      params_.repeat_last_n < 0 ? seen_.size() : std::min(seen_.size(), static_cast<size_t>(params_.repeat_last_n));
  return std::span(seen_).last(window);
}

// at(id): where the logit of that token lies.
template <class At>
void Sampler::Penalise(const At& at) const {
  if (params_.repetition_penalty != 1) {
    const std::span<const int32_t> window = Window();
    for (const int32_t id : std::set<int32_t>(window.begin(), window.end())) {
      float& l = at(id);
      l = l > 0 ? l / params_.repetition_penalty : l * params_.repetition_penalty;
    }
  }
  if (params_.presence_penalty != 0 || params_.frequency_penalty != 0) {
    std::map<int32_t, int> counts;
    for (size_t i = prompt_; i < seen_.size(); ++i) ++counts[seen_[i]];
    for (const auto& [id, count] : counts) {
      at(id) -= params_.presence_penalty + params_.frequency_penalty * static_cast<float>(count);
    }
  }
  for (const auto& [id, bias] : params_.logit_bias) at(id) += bias;
}

// Tokens further below the best logit have less than min_p of its probability, by ExpRef (2 ulp) of a difference and a
// quotient that are rounded once each.
WF_MODEL_INLINE double Sampler::MinPRange() const {
  const double range = -std::log(static_cast<double>(params_.min_p)) * static_cast<double>(params_.temperature);
  return range * (1 + 1e-6) + static_cast<double>(params_.temperature) * 1e-6;
}

WF_MODEL_INLINE bool Sampler::Query(size_t n, std::span<const int32_t> banned, HeadQuery* query) {
  *query = {.banned = banned};
  asked_top_k_ = top_k(n);
  if (greedy()) {
    query->top = 1;
  } else if (top_k(n)) {
    query->top = static_cast<size_t>(params_.top_k);
  } else if (params_.top_p >= 1 && params_.min_p > 0) {
    query->range = static_cast<float>(MinPRange() * (1 + 1e-6));
  } else {
    return false;
  }
  changed_.clear();
  if (params_.repetition_penalty != 1) changed_.assign(Window().begin(), Window().end());
  if (params_.presence_penalty != 0 || params_.frequency_penalty != 0) {
    changed_.insert(changed_.end(), seen_.begin() + static_cast<std::ptrdiff_t>(prompt_), seen_.end());
  }
  for (const auto& [id, bias] : params_.logit_bias) changed_.push_back(id);
  std::sort(changed_.begin(), changed_.end());
  changed_.erase(std::unique(changed_.begin(), changed_.end()), changed_.end());
  query->always = changed_;
  return true;
}

WF_MODEL_INLINE int32_t Sampler::Sample(float* logits, size_t n, std::span<const int32_t> banned, float* probability) {
  const int32_t token = Draw(logits, n, banned);
  if (probability != nullptr) {
    if (greedy()) {
      float lse = 0;
      kernels_->softmax({.x = logits, .n = n, .lse = &lse});
      probability_ = std::exp(static_cast<double>(logits[token]) - static_cast<double>(lse));
    }
    *probability = static_cast<float>(probability_);
  }
  return token;
}

WF_MODEL_INLINE int32_t Sampler::Draw(float* logits, size_t n, std::span<const int32_t> banned) {
  Penalise([&](int32_t id) -> float& { return logits[id]; });
  for (const int32_t id : banned) logits[id] = -INFINITY;
  const size_t best = static_cast<size_t>(std::max_element(logits, logits + n) - logits);
  if (greedy()) return static_cast<int32_t>(best);
  if (!top_k(n) && (params_.top_p < 1 || params_.min_p <= 0)) return DrawAll(logits, n);
  const double least = top_k(n) ? -std::numeric_limits<double>::max() : static_cast<double>(logits[best]) - MinPRange();
  candidates_.clear();
  for (size_t i = 0; i < n; ++i) {
    if (static_cast<double>(logits[i]) >= least) candidates_.push_back({static_cast<int32_t>(i), logits[i]});
  }
  return DrawCandidates(top_k(n));
}

WF_MODEL_INLINE int32_t Sampler::Choose(std::span<const Candidate> candidates) {
  candidates_.assign(candidates.begin(), candidates.end());
  float banned = 0;  // for tokens that are not in the answer
  Penalise([&](int32_t id) -> float& {
    const auto c = std::lower_bound(candidates_.begin(), candidates_.end(), id,
                                    [](const Candidate& a, int32_t b) { return a.id < b; });
    return c != candidates_.end() && c->id == id ? c->logit : banned;
  });
  const auto best = std::max_element(candidates_.begin(), candidates_.end(),
                                     [](const Candidate& a, const Candidate& b) { return a.logit < b.logit; });
  if (greedy()) return best->id;
  const bool k = asked_top_k_;
  const double least = k ? -std::numeric_limits<double>::max() : static_cast<double>(best->logit) - MinPRange();
  std::erase_if(candidates_, [&](const Candidate& c) { return !(static_cast<double>(c.logit) >= least); });
  return DrawCandidates(k);
}

// Draws from candidates_, which hold every token that top-k or min-p leave, and may hold more. Every sum runs from the
// best token down, so it does not matter how many there are.
WF_MODEL_INLINE int32_t Sampler::DrawCandidates(bool top_k) {
  const double u = rng_.Uniform();
  if (candidates_.empty()) return 0;  // no logit above -infinity
  const auto better = [](const Candidate& a, const Candidate& b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
  };
  if (top_k && candidates_.size() > static_cast<size_t>(params_.top_k)) {
    std::nth_element(candidates_.begin(), candidates_.begin() + params_.top_k, candidates_.end(), better);
    candidates_.resize(static_cast<size_t>(params_.top_k));
  }
  std::sort(candidates_.begin(), candidates_.end(), better);
  // The best logit is taken off first, so that no temperature, however small, makes an infinity of it.
  const float top = candidates_.front().logit;
  double total = 0;
  weights_.clear();
  for (const Candidate& c : candidates_) {
    weights_.push_back(detail::ExpRef((c.logit - top) / params_.temperature));
    total += static_cast<double>(weights_.back());
  }
  size_t keep = candidates_.size();
  if (params_.top_p < 1) {  // of the mass that top-k left
    double mass = 0;
    for (keep = 0; keep < candidates_.size() && mass < static_cast<double>(params_.top_p) * total; ++keep) {
      mass += static_cast<double>(weights_[keep]);
    }
  }
  // Last, so that it does not change the mass that top-p counts. The best token's weight is 1.
  double mass = 0;
  for (size_t i = 0; i < keep; ++i) {
    if (weights_[i] < params_.min_p) weights_[i] = 0;
    mass += static_cast<double>(weights_[i]);
  }
  double at = u * mass;
  size_t last = 0;
  for (size_t i = 0; i < keep; ++i) {
    if (!(weights_[i] > 0)) continue;
    last = i;
    at -= static_cast<double>(weights_[i]);
    if (at < 0) break;
  }
  probability_ = static_cast<double>(weights_[last]) / mass;
  return candidates_[last].id;
}

// Without top-k: a draw from all tokens, or top-p of them.
WF_MODEL_INLINE int32_t Sampler::DrawAll(float* logits, size_t n) {
  float top = -INFINITY;
  for (size_t i = 0; i < n; ++i) top = std::max(top, logits[i]);
  for (size_t i = 0; i < n; ++i) logits[i] = (logits[i] - top) / params_.temperature;
  kernels_->softmax({.x = logits, .p = logits, .n = n});  // probabilities from here on
  const double u = rng_.Uniform();
  if (params_.top_p >= 1) {
    double sum = 0;
    size_t last = 0;
    for (size_t i = 0; i < n; ++i) {
      if (logits[i] <= 0) continue;
      sum += static_cast<double>(logits[i]);
      last = i;
      if (u < sum) break;
    }
    probability_ = static_cast<double>(logits[last]);
    return static_cast<int32_t>(last);  // the sum may stay below 1 by rounding
  }
  auto& list = probabilities_;
  list.clear();
  float peak = 0;
  for (size_t i = 0; i < n; ++i) {
    peak = std::max(peak, logits[i]);
    if (logits[i] > 0) list.emplace_back(logits[i], static_cast<int32_t>(i));
  }
  const float floor = params_.min_p * peak;
  const auto better = [](const auto& a, const auto& b) {
    return a.first > b.first || (a.first == b.first && a.second < b.second);
  };
  // Sort only as far as top_p reaches.
  size_t sorted = 0, keep = 0;
  double mass = 0;
  while (keep < list.size()) {
    if (keep == sorted) {
      const size_t next = std::min(list.size(), sorted == 0 ? size_t{256} : sorted * 4);
      std::partial_sort(list.begin() + static_cast<std::ptrdiff_t>(sorted),
                        list.begin() + static_cast<std::ptrdiff_t>(next), list.end(), better);
      sorted = next;
    }
    mass += static_cast<double>(list[keep++].first);
    if (mass >= static_cast<double>(params_.top_p)) break;
  }
  list.resize(keep);
  // Last, so that it does not change the mass that top-p counts.
  std::erase_if(list, [&](const auto& c) { return c.first < floor; });
  mass = 0;
  for (const auto& c : list) mass += static_cast<double>(c.first);
  if (list.empty()) return 0;
  double at = u * mass;
  size_t drawn = 0;
  for (; drawn + 1 < list.size(); ++drawn) {
    at -= static_cast<double>(list[drawn].first);
    if (at < 0) break;
  }
  probability_ = static_cast<double>(list[drawn].first) / mass;
  return list[drawn].second;
}

}  // namespace wf
#endif  // WF_DECODE_SAMPLER_IMPL_H_
