// SPDX-License-Identifier: Apache-2.0
// Bodies of pass_timer.h.
#ifndef WF_ENGINE_PASS_TIMER_IMPL_H_
#define WF_ENGINE_PASS_TIMER_IMPL_H_

#include <algorithm>
#include <chrono>
#include <iterator>

#include "wf/engine/pass_timer.h"

namespace wf {

WF_MODEL_INLINE double PassTimer::Ms(size_t rows, Head head) {
  using Clock = std::chrono::steady_clock;
  // Different ones: rows with the same input would share their experts.
  for (size_t i = tokens_.size(); i < rows; ++i) tokens_.push_back(static_cast<int32_t>(i % vocab_));
  const HeadQuery query;
  SequenceRows pass{.tokens = tokens_.data(), .count = rows, .blocks = blocks_.data(), .logits_from = rows};
  if (head != Head::kNone) {
    pass.logits_from = 0;
    logits_.resize(std::max(logits_.size(), rows * vocab_));
  }
  if (head == Head::kChoice) {
    candidates_.resize(std::max(candidates_.size(), rows));
    for (std::vector<Candidate>& c : candidates_) c.clear();
    pass.query = &query;
    pass.candidates = candidates_.data();
  }
  const auto start = Clock::now();
  transformer_.Forward({&pass, 1}, logits_.data());
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

// The best of some rounds: other work on the machine only ever adds.
WF_MODEL_INLINE PassCosts MeasurePassCosts(Transformer* transformer, size_t vocab, uint8_t* block) {
  constexpr size_t kSizes[] = {1, 2, 4, 8, 16, 32};
  static_assert(kSizes[std::size(kSizes) - 1] <= kKvBlock);
  PassTimer timer(transformer, vocab, {&block, 1});
  PassCosts costs;
  (void)timer.Ms(kKvBlock, PassTimer::Head::kChoice);  // memory is touched for the first time
  for (const size_t n : kSizes) {
    double best = timer.Ms(n, PassTimer::Head::kChoice), spent = best;
    for (int round = 1; round < 6 && spent < 60; ++round) {
      const double ms = timer.Ms(n, PassTimer::Head::kChoice);
      spent += ms;
      best = std::min(best, ms);
    }
    costs.Add(n, best);
  }
  return costs;
}

}  // namespace wf
#endif  // WF_ENGINE_PASS_TIMER_IMPL_H_
