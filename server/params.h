// SPDX-License-Identifier: Apache-2.0
// Fields of a generation request, checked in one place before anything else sees them: a table with type, range and
// endpoint of every known field. Not for: prompts and messages (chat.cc, completions.cc, native.cc).
#ifndef WF_SERVER_PARAMS_H_
#define WF_SERVER_PARAMS_H_

#include <boost/json.hpp>
#include <cstdint>
#include <string>
#include <string_view>

#include "server/errors.h"
#include "wf/engine/request.h"

namespace wf::server {

namespace json = boost::json;

enum class Api : uint8_t { kChat = 1, kCompletions = 2, kNative = 4 };

// What the rules depend on. The sampling defaults are the model's; the native endpoint has its own.
struct ParamContext {
  int32_t vocab = 0;
  float default_temperature = 1.0f, default_top_p = 1.0f;
  int64_t default_max_tokens = -1;  // -1: the rest of the context
  int64_t request_timeout_ms = 0;   // 0: none
  int max_n = 8;
  bool strict_fields = false;  // unknown fields are errors
};

struct GenParams {
  Request request;  // everything but the prompt
  std::string model;
  int n = 1;
  bool stream = false, include_usage = false, continuous_usage = false;
  bool chat_logprobs = false, echo = false;
  bool return_token_ids = false, timings_per_token = false;
  bool add_generation_prompt = true;
  json::object template_kwargs;
};

// Reads every field of `body` but messages and prompt into *out. The error names the first field at fault.
ApiError ParseParams(const json::object& body, Api api, const ParamContext& context, GenParams* out);

// What the engine refused of a request (Engine::Check): names the field with which its message begins.
ApiError FromCheck(const Status& status);

// A whole number, given as an integer or as a float without fraction; false for anything else.
bool ReadInteger(const json::value& v, int64_t* out);

// A body: UTF-8 with or without BOM, one JSON object, depth at most 64.
ApiError ParseBody(std::string_view text, json::object* out);

}  // namespace wf::server
#endif  // WF_SERVER_PARAMS_H_
