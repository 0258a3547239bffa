// SPDX-License-Identifier: Apache-2.0
// What the programs share: exit codes, error lines, a progress bar.
#ifndef WF_TOOLS_CLI_H_
#define WF_TOOLS_CLI_H_

#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

#include "wf/base/status.h"

namespace wf {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;        // it was tried and did not work
inline constexpr int kExitUsage = 2;          // the command line makes no sense
inline constexpr int kExitInterrupted = 130;  // Ctrl-C, as shells count it

// "wf-x: error: message" on stderr; returns kExitFailure.
inline int Fail(const char* program, const Status& status) {
  std::fprintf(stderr, "%s: error: %s\n", program, status.message().c_str());
  return kExitFailure;
}
inline int Usage(const char* program, const std::string& message) {
  std::fprintf(stderr, "%s: error: %s\nRun with --help for more information.\n", program, message.c_str());
  return kExitUsage;
}

// One line on stderr that is redrawn at most ten times a second, and only on a terminal.
class ProgressBar {
 public:
  ProgressBar(const char* label, uint64_t total) : label_(label), total_(total), on_(isatty(STDERR_FILENO) == 1) {}
  ~ProgressBar() {
    if (drawn_) std::fputs("\r\033[K", stderr);
  }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void Update(uint64_t done) {
    const auto now = std::chrono::steady_clock::now();
    if (!on_ || total_ == 0 || (drawn_ && done < total_ && now - last_ < std::chrono::milliseconds(100))) return;
    last_ = now;
    drawn_ = true;
    constexpr uint64_t kWidth = 40;
    const uint64_t filled = kWidth * (done < total_ ? done : total_) / total_;
    const std::string bar(static_cast<size_t>(filled), '#'), rest(static_cast<size_t>(kWidth - filled), '.');
    std::fprintf(stderr, "\r%s [%s%s] %3llu %%", label_.c_str(), bar.c_str(), rest.c_str(),
                 static_cast<unsigned long long>(100 * done / total_));
    std::fflush(stderr);
  }

 private:
  std::string label_;
  uint64_t total_;
  bool on_, drawn_ = false;
  std::chrono::steady_clock::time_point last_{};
};

}  // namespace wf
#endif  // WF_TOOLS_CLI_H_
