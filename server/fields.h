// SPDX-License-Identifier: Apache-2.0
// The rows of the table of fields: shared by the table (fields.cc) and by those who walk it (params.cc); nobody else.
#ifndef WF_SERVER_FIELDS_H_
#define WF_SERVER_FIELDS_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "server/params.h"

namespace wf::server {

// What is collected before the rules that join several fields are applied.
struct State {
  const ParamContext& context;
  GenParams& p;
  Api api;
  std::optional<int64_t> max_tokens, max_completion_tokens, n_predict, top_logprobs, best_of, deadline_ms;
  bool stream_options = false;
};

// Bits of Api, for rows.
inline constexpr unsigned kChat = 1, kText = 2, kNative = 4, kOpenAi = kChat | kText, kAll = 7;

struct Field;
using Reader = ApiError (*)(State&, const Field&, const json::value&);

struct Field {
  std::string_view name;
  unsigned where = kAll;
  Reader read = nullptr;         // nullptr: known and ignored
  double lo = 0, hi = 0;         // of numbers
  bool open = false;             // lo itself is out of range
  double neutral = 0;            // of numbers without function
  std::string_view engine = {};  // how messages of the engine call it, if not by its name
  void (*set_int)(State&, int64_t) = nullptr;
  void (*set_float)(State&, float) = nullptr;
  void (*set_bool)(State&, bool) = nullptr;
};

// One row a field; order decides which error is reported first.
std::span<const Field> Fields() noexcept;

}  // namespace wf::server
#endif  // WF_SERVER_FIELDS_H_
