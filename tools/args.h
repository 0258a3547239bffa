// SPDX-License-Identifier: Apache-2.0
// Command lines of the programs: parsing with the common exit codes, and value types that several of them take.
#ifndef WF_TOOLS_ARGS_H_
#define WF_TOOLS_ARGS_H_

#include <CLI/CLI.hpp>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "tools/cli.h"
#include "wf/base/status.h"

namespace wf {

// Parses; returns -1 to go on, else the exit code (0 after --help, kExitUsage for bad usage).
inline int ParseArgs(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? kExitOk : kExitUsage;
  }
  return -1;
}

// For what the parser cannot see; returns kExitUsage.
inline int UsageError(const char* program, const std::string& message) {
  std::fprintf(stderr, "%s: error: %s\nRun with --help for more information.\n", program, message.c_str());
  return kExitUsage;
}

// "1,2,3" to ids; kInvalidArgument for anything else.
inline Result<std::vector<int32_t>> ParseIds(const std::string& text) {
  std::vector<int32_t> ids;
  const char* p = text.data();
  const char* end = p + text.size();
  while (p < end) {
    int32_t id = 0;
    const auto [next, error] = std::from_chars(p, end, id);
    if (error != std::errc() || id < 0 || (next != end && *next != ',') || next + 1 == end) {
      return InvalidArgument("--ids: '" + text + "' is not a list of token ids like 1,2,3");
    }
    ids.push_back(id);
    p = next == end ? end : next + 1;
  }
  return ids;
}

}  // namespace wf
#endif  // WF_TOOLS_ARGS_H_
