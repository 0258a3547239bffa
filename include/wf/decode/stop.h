// SPDX-License-Identifier: Apache-2.0
// Finds stop strings in streamed text. What may still become a stop string is held back, so nothing shown has to be
// taken back. The result depends on the text only, not on how it was cut into pieces.
#ifndef WF_DECODE_STOP_H_
#define WF_DECODE_STOP_H_

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace wf {

class StopMatcher {
 public:
  StopMatcher() = default;
  explicit StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  // Text that may be shown now. After a match nothing more comes; the stop string that was completed first wins, of
  // several that end together the longest.
  std::string Push(std::string_view text) {
    if (matched()) return {};
    held_.append(text);
    size_t end = std::string::npos, begin = 0;
    for (const std::string& s : stops_) {
      const size_t at = held_.find(s);
      if (at == std::string::npos) continue;
      const size_t e = at + s.size();
      if (e < end || (e == end && at < begin)) {
        end = e;
        begin = at;
        match_ = s;
      }
    }
    if (end != std::string::npos) {
      std::string out = held_.substr(0, begin);
      held_.clear();
      return out;
    }
    size_t keep = 0;
    for (const std::string& s : stops_) {
      for (size_t n = std::min(s.size() - 1, held_.size()); n > keep; --n) {
        if (held_.compare(held_.size() - n, n, s, 0, n) == 0) {
          keep = n;
          break;
        }
      }
    }
    std::string out = held_.substr(0, held_.size() - keep);
    held_.erase(0, held_.size() - keep);
    return out;
  }
  // The text ended without a match: what was held back.
  std::string Flush() { return std::exchange(held_, std::string()); }

  bool matched() const noexcept { return !match_.empty(); }
  const std::string& match() const noexcept { return match_; }

 private:
  std::vector<std::string> stops_;
  std::string held_, match_;
};

}  // namespace wf
#endif  // WF_DECODE_STOP_H_
