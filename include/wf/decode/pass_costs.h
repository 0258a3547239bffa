// SPDX-License-Identifier: Apache-2.0
// What a pass over some rows costs on this machine, measured; for choices between ways that give the same text.
#ifndef WF_DECODE_PASS_COSTS_H_
#define WF_DECODE_PASS_COSTS_H_

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace wf {

class PassCosts {
 public:
  // Rows ascending from 1, with the milliseconds of a pass over so many. What is said to cost more than more rows do
  // was disturbed while it was measured.
  void Add(size_t rows, double ms) {
    for (auto& [fewer, cost] : points_) cost = std::min(cost, ms);
    points_.emplace_back(rows, ms);
  }
  bool empty() const noexcept { return points_.empty(); }
  const std::vector<std::pair<size_t, double>>& points() const noexcept { return points_; }

  // Between two measured sizes in a straight line, and beyond the last one, too. At least one point.
  double Ms(size_t rows) const noexcept {
    size_t i = 1;
    while (i + 1 < points_.size() && points_[i].first < rows) ++i;
    if (i >= points_.size()) return points_[0].second;
    const auto& [r0, ms0] = points_[i - 1];
    const auto& [r1, ms1] = points_[i];
    const double slope = (ms1 - ms0) / static_cast<double>(r1 - r0);
    return ms0 + slope * (static_cast<double>(rows) - static_cast<double>(r0));
  }

 private:
  std::vector<std::pair<size_t, double>> points_;
};

}  // namespace wf
#endif  // WF_DECODE_PASS_COSTS_H_
