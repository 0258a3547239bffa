// SPDX-License-Identifier: Apache-2.0
// A parsed template and the bounds of running it. Not for: choosing templates for models (chat_template.h).
#ifndef WF_TOKENIZER_JINJA_PROGRAM_H_
#define WF_TOKENIZER_JINJA_PROGRAM_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "wf/base/inline.h"
#include "wf/base/status.h"
#include "wf/tokenizer/jinja/value.h"

namespace wf::jinja {

// A template comes with the model file and is not trusted: crossing a limit is kLimit and names it.
struct Limits {
  size_t source_bytes = 256 << 10;
  size_t output_bytes = 16 << 20;  // also of any one string; all live values together: eight times this
  uint64_t steps = 1000000;        // nodes evaluated, plus one per KiB of text handled
  int depth = 64;                  // nested macro calls
  uint64_t range = 100000;         // elements of range()
};

namespace detail {
struct Program;
}

// kFormat for a syntax error or unknown construct, kUnsupported for Jinja we leave out, kLimit; messages
// begin with line and column (both from 1, column in bytes).
Result<std::shared_ptr<const detail::Program>> ParseProgram(std::string_view source, const Limits& limits);

// Runs a program. `globals` is a mapping; `now` is what strftime_now formats, in seconds since 1970 UTC,
// shown in local time (default: the clock). kInvalidArgument with the template's own message when it calls
// raise_exception, kFormat with line and column for any other error of the template, kLimit.
Result<Text> RunProgram(const detail::Program& program, const Value& globals, const Limits& limits,
                        std::optional<int64_t> now);

}  // namespace wf::jinja
#if !WF_MODEL_COMPILED
#include "wf/tokenizer/jinja/program-impl.h"
#endif
#endif  // WF_TOKENIZER_JINJA_PROGRAM_H_
