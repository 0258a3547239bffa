// SPDX-License-Identifier: Apache-2.0
// Runs another program (curl, gcloud) with an argument vector, never a shell, and collects what it prints. Not for
// programs that ask questions: standard input is a text given in advance.
#ifndef WF_TOOLS_CHILD_H_
#define WF_TOOLS_CHILD_H_

#include <atomic>
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "wf/base/status.h"

namespace wf {

struct ChildOptions {
  std::string input;                               // its standard input, at most 4096 bytes (what a pipe always takes)
  size_t max_output = size_t{16} << 20;            // more on standard output ends it: kLimit
  std::function<Status()> tick = nullptr;          // ten times a second; an error ends the program and is returned
  const std::atomic<bool>* interrupted = nullptr;  // ends the program as soon as it is set: kCancelled
};

struct ChildResult {
  int code = 0;        // exit code; 128 + number if a signal ended it
  std::string output;  // standard output
  std::string errors;  // the beginning of standard error, at most 64 KiB
};

// argv[0] is looked up in PATH: kNotFound if it is not there. The program gets a process group of its own, so that
// ending it (SIGTERM, after two seconds SIGKILL) reaches its children too. Children that hold its output open when it
// has ended are waited for one second and then ended.
Result<ChildResult> RunChild(const std::vector<std::string>& argv, const ChildOptions& options);

}  // namespace wf
#endif  // WF_TOOLS_CHILD_H_
