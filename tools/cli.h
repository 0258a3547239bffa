// SPDX-License-Identifier: Apache-2.0
// What the programs share: exit codes, errors on stderr, Ctrl-C, a progress bar, sizes as text. Arguments are in
// args.h. Not for the server.
#ifndef WF_TOOLS_CLI_H_
#define WF_TOOLS_CLI_H_

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <iterator>
#include <string>

#include "wf/base/status.h"

namespace wf {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitInterrupted = 130;  // as shells report SIGINT

// "program: error: message" on stderr; returns the exit code.
inline int Fail(const char* program, const Status& status) {
  if (status.code() == ErrorCode::kCancelled) {
    std::fprintf(stderr, "%s: %s\n", program, status.message().c_str());
    return kExitInterrupted;
  }
  std::fprintf(stderr, "%s: error: %s\n", program, status.message().c_str());
  return kExitFailure;
}

// A program's main: what escapes as an exception (memory) is an error, and so is output that could not be written.
template <class F>
int RunMain(const char* program, const F& f) {
  int code = kExitFailure;
  try {
    code = f();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s: error: %s\n", program, e.what());
    return kExitFailure;
  }
  if ((std::fflush(stdout) != 0 || std::ferror(stdout) != 0) && code == kExitOk) {
    std::fprintf(stderr, "%s: error: cannot write to standard output\n", program);
    return kExitFailure;
  }
  return code;
}

// From now on Ctrl-C, SIGTERM and SIGHUP set the returned flag, for work to stop by itself and clean up. A write to a
// closed pipe or beyond a file size limit is an error of that write, not a signal.
inline const std::atomic<bool>* CatchInterrupts() {
  static std::atomic<bool> interrupted{false};
  static_assert(std::atomic<bool>::is_always_lock_free, "set in a signal handler");
  struct sigaction action {};
  action.sa_handler = [](int) { interrupted.store(true, std::memory_order_relaxed); };
  for (const int s : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(s, &action, nullptr);
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  for (const int s : {SIGPIPE, SIGXFSZ}) ::sigaction(s, &ignore, nullptr);
  return &interrupted;
}

// One line on stderr that is redrawn when its percentage or label changes; nothing at all if stderr is not a terminal.
// Wiped when destroyed.
class ProgressBar {
 public:
  ProgressBar(std::string label, uint64_t total)
      : label_(std::move(label)), total_(total), terminal_(::isatty(STDERR_FILENO) == 1) {}
  ~ProgressBar() {
    if (percent_ >= 0) std::fprintf(stderr, "\r\033[K");
  }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // done <= total.
  void Update(uint64_t done) {
    if (!terminal_) return;
    constexpr size_t kWidth = 30;
    const double part = total_ == 0 ? 1.0 : static_cast<double>(done) / static_cast<double>(total_);
    const int percent = static_cast<int>(100 * part);
    if (percent == percent_) return;
    percent_ = percent;
    std::string bar(kWidth, ' ');
    const auto filled = static_cast<size_t>(part * static_cast<double>(kWidth));
    bar.replace(0, filled, filled, '#');
    std::fprintf(stderr, "\r\033[K[%s] %3d %% %.60s", bar.c_str(), percent, label_.c_str());
    std::fflush(stderr);
  }
  void Update(uint64_t done, uint64_t total, const std::string& label) {
    total_ = total;
    if (label != label_ && percent_ >= 0) percent_ = 101;
    label_ = label;
    Update(done);
  }

 private:
  std::string label_;
  uint64_t total_;
  bool terminal_;
  int percent_ = -1;  // shown
};

// "1.19 GB", decimal units.
inline std::string BytesText(uint64_t n) {
  const char* units[] = {"B", "kB", "MB", "GB", "TB"};
  double v = static_cast<double>(n);
  size_t u = 0;
  for (; v >= 999.5 && u + 1 < std::size(units); ++u) v /= 1000;
  char text[32];
  std::snprintf(text, sizeof(text), u == 0 ? "%.0f %s" : "%.3g %s", v, units[u]);
  return text;
}

}  // namespace wf
#endif  // WF_TOOLS_CLI_H_
