// SPDX-License-Identifier: Apache-2.0
// Bodies of errors.h.
#include "server/errors.h"

#include <boost/json.hpp>

#include "wf/base/quote.h"

namespace wf::server {
namespace {

namespace json = boost::json;

std::string_view TypeOf(const ApiError& e, ErrorStyle style) {
  if (style == ErrorStyle::kNative && e.n_ctx >= 0) return "exceed_context_size_error";
  switch (e.status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 408:
      return "timeout_error";
    case 422:
      return "unsupported_error";
    case 429:
      return "rate_limit_error";
    case 500:
      return "server_error";
    case 503:
      return "unavailable_error";
    default:
      return "invalid_request_error";
  }
}

ApiError Make(int status, std::string_view slug, std::string message, std::string_view param = {}) {
  ApiError e;
  e.status = status;
  e.slug = slug;
  e.message = std::move(message);
  e.param = param;
  return e;
}

ApiError Retry(ApiError e, int64_t ms) {
  e.retry_after_ms = ms;
  return e;
}

}  // namespace

ApiError BadField(std::string_view param, std::string_view slug, std::string message) {
  return Make(400, slug, std::move(message), param);
}
ApiError WrongType(std::string_view param, std::string_view what) {
  return BadField(param, "invalid_type", Quote(param) + " must be " + std::string(what));
}
ApiError OutOfRange(std::string_view param, std::string_view what) {
  return BadField(param, "invalid_value", Quote(param) + " must be " + std::string(what));
}
ApiError NotSupported(std::string_view param, std::string message) {
  return Make(422, "unsupported_for_model", std::move(message), param);
}

ApiError ContextExceeded(int64_t n_prompt_tokens, int64_t n_ctx) {
  ApiError e =
      Make(400, "context_length_exceeded",
           "the prompt is too long: it has " + std::to_string(n_prompt_tokens) + " tokens, the context holds " +
               std::to_string(n_ctx) + ", at least one of them for the answer");
  e.n_prompt_tokens = n_prompt_tokens;
  e.n_ctx = n_ctx;
  return e;
}

ApiError Draining() { return Retry(Make(503, "draining", "The server is shutting down"), 5000); }
ApiError QueueTimeout(std::string message) { return Retry(Make(503, "queue_timeout", std::move(message)), 1000); }
ApiError Loading() { return Retry(Make(503, "loading_model", "Loading model"), 1000); }

ApiError FromStatus(const Status& status, std::string_view param) {
  const std::string& m = status.message();
  switch (status.code()) {
    case ErrorCode::kOk:
      return {};
    case ErrorCode::kInvalidArgument:
    case ErrorCode::kFormat:
    case ErrorCode::kLimit:
      return Make(400, "invalid_value", m, param);
    case ErrorCode::kNotFound:
      return Make(404, "not_found", m, param);
    case ErrorCode::kUnsupported:
      return Make(422, "unsupported_for_model", m, param);
    case ErrorCode::kUnavailable:
      return Retry(Make(429, "queue_full", m), 1000);
    case ErrorCode::kDeadline:
      return Retry(Make(503, "deadline_exceeded", m), 1000);
    case ErrorCode::kCancelled:
      return Draining();  // clients that cancel hear nothing; the rest is shutdown
    case ErrorCode::kOutOfMemory:
      return Retry(Make(503, "out_of_memory", m), 1000);
    case ErrorCode::kIo:
    case ErrorCode::kInternal:
      break;
  }
  return Make(500, "internal", m);
}

std::string ErrorJson(const ApiError& e, ErrorStyle style) {
  json::object o{{"message", e.message}, {"type", TypeOf(e, style)}};
  if (style == ErrorStyle::kNative) {
    o["code"] = e.status;
    if (!e.param.empty()) o["param"] = e.param;
  } else {
    o["param"] = e.param.empty() ? json::value(nullptr) : json::value(e.param);
    o["code"] = e.slug.empty() ? json::value(nullptr) : json::value(e.slug);
  }
  if (e.n_ctx >= 0) {
    o["n_prompt_tokens"] = e.n_prompt_tokens;
    o["n_ctx"] = e.n_ctx;
  }
  return json::serialize(json::object{{"error", std::move(o)}});
}

HttpResponse ErrorResponse(const ApiError& e, ErrorStyle style) {
  HttpResponse r;
  r.status = e.status;
  // An HTTP client of the field looks for "context" in the reason phrase only.
  if (style == ErrorStyle::kNative && e.n_ctx >= 0) r.reason = "Context Size Exceeded";
  if (e.retry_after_ms > 0) {
    r.headers.emplace_back("Retry-After", std::to_string((e.retry_after_ms + 999) / 1000));
    r.headers.emplace_back("retry-after-ms", std::to_string(e.retry_after_ms));
  }
  if (e.status == 401) r.headers.emplace_back("WWW-Authenticate", "Bearer");
  if (e.status == 500) r.headers.emplace_back("x-should-retry", "false");
  r.body = ErrorJson(e, style);
  return r;
}

ErrorStyle StyleOf(std::string_view path) {
  for (const std::string_view native : {"/completion", "/health", "/health/live", "/health/ready", "/v1/health"}) {
    if (path == native) return ErrorStyle::kNative;
  }
  return ErrorStyle::kOpenAi;
}

std::string HttpErrorBody(int status, std::string_view slug, std::string_view message, std::string_view path) {
  return ErrorJson(Make(status, slug, std::string(message)), StyleOf(path));
}

}  // namespace wf::server
