// SPDX-License-Identifier: Apache-2.0
// Errors as the wire shows them: one struct, one table from the library's codes to HTTP, one serialiser. Both error
// dialects (OpenAI's string slugs, llama-server's integer codes) come from the same values.
#ifndef WF_SERVER_ERRORS_H_
#define WF_SERVER_ERRORS_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "server/http.h"
#include "wf/base/status.h"

namespace wf::server {

enum class ErrorStyle : uint8_t { kOpenAi, kNative };

struct ApiError {
  int status = 0;    // 0: no error
  std::string slug;  // "code" in the OpenAI style
  std::string message;
  std::string param;                         // the field at fault; empty: null
  int64_t n_prompt_tokens = -1, n_ctx = -1;  // of context_length_exceeded
  int64_t retry_after_ms = 0;                // 0: no Retry-After
  explicit operator bool() const noexcept { return status != 0; }
};

ApiError BadField(std::string_view param, std::string_view slug, std::string message);
// "X must be <what>", 400 invalid_type.
ApiError WrongType(std::string_view param, std::string_view what);
// "X must be <what>", 400 invalid_value.
ApiError OutOfRange(std::string_view param, std::string_view what);
// 422 unsupported_for_model: understood, but this build or model cannot do it.
ApiError NotSupported(std::string_view param, std::string message);
ApiError ContextExceeded(int64_t n_prompt_tokens, int64_t n_ctx);
ApiError Draining();
ApiError QueueTimeout(std::string message);
ApiError Loading();

// The one table from the library's errors to HTTP. `param` is named if the error is the caller's fault.
ApiError FromStatus(const Status& status, std::string_view param = {});

std::string ErrorJson(const ApiError& e, ErrorStyle style);
HttpResponse ErrorResponse(const ApiError& e, ErrorStyle style);
// The dialect that clients of a path speak.
ErrorStyle StyleOf(std::string_view path);
// For HttpOptions::error_body.
std::string HttpErrorBody(int status, std::string_view slug, std::string_view message, std::string_view path);

}  // namespace wf::server
#endif  // WF_SERVER_ERRORS_H_
