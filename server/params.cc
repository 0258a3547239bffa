// SPDX-License-Identifier: Apache-2.0
// Walks the table of fields over a body and applies the rules that join several fields (params.h).
#include "server/params.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "server/fields.h"

namespace wf::server {
namespace {

void SetDefaults(Api api, const ParamContext& c, GenParams* p) {
  SamplingParams& s = p->request.sampling;
  if (api == Api::kNative) {  // llama-server's
    s.temperature = 0.8f;
    s.top_k = 40;
    s.top_p = 0.95f;
    s.min_p = 0.05f;
    s.repeat_last_n = 64;
    return;
  }
  s.temperature = c.default_temperature;
  s.top_p = c.default_top_p;
}

// Rules that involve two fields.
ApiError CheckTogether(State& s) {
  GenParams& p = s.p;
  if (p.n > s.context.max_n) return OutOfRange("n", "at most " + std::to_string(s.context.max_n));
  if (s.stream_options && !p.stream) return OutOfRange("stream_options", "absent unless 'stream' is true");
  if (s.top_logprobs.value_or(0) > 0 && !p.chat_logprobs) {
    return OutOfRange("top_logprobs", "absent unless 'logprobs' is true");
  }
  if (p.chat_logprobs) p.request.logprobs = static_cast<int32_t>(s.top_logprobs.value_or(0));
  if (s.best_of.has_value()) {
    if (*s.best_of < p.n) return OutOfRange("best_of", "at least 'n'");
    if (*s.best_of > p.n) return NotSupported("best_of", "'best_of' is supported only if it equals 'n'");
  }
  if (p.echo && p.request.logprobs >= 0) {
    return NotSupported("echo", "'echo' together with 'logprobs' is not supported by this build");
  }
  const auto given = s.n_predict ? s.n_predict : s.max_completion_tokens ? s.max_completion_tokens : s.max_tokens;
  if (s.api == Api::kCompletions) {
    p.request.max_tokens = given.value_or(16);
    if (given == 0 && !p.echo) return OutOfRange("max_tokens", "at least 1, or 0 together with 'echo'");
  } else {
    p.request.max_tokens = given.value_or(s.context.default_max_tokens);
  }
  if (p.request.max_tokens >= 0 && p.request.min_tokens > p.request.max_tokens) {
    return OutOfRange("min_tokens", "at most the maximum of tokens");
  }
  p.request.deadline_ms = s.context.request_timeout_ms;
  if (s.deadline_ms.has_value() && (p.request.deadline_ms == 0 || *s.deadline_ms < p.request.deadline_ms)) {
    p.request.deadline_ms = *s.deadline_ms;
  }
  return {};
}

}  // namespace

ApiError FromCheck(const Status& status) {
  ApiError e = FromStatus(status);
  if (e.status != 400 && e.status != 422) return e;
  for (const Field& f : Fields()) {
    const std::string_view name = f.engine.empty() ? f.name : f.engine;
    const std::string_view m = e.message;
    if (m.substr(0, name.size()) != name || m.substr(name.size()).find_first_of(" :") != 0) continue;
    e.message.replace(0, name.size(), f.name);
    e.param = f.name;
    break;
  }
  return e;
}

bool ReadInteger(const json::value& v, int64_t* out) {
  if (v.is_int64()) {
    *out = v.get_int64();
    return true;
  }
  if (v.is_uint64()) {
    if (v.get_uint64() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return false;
    *out = static_cast<int64_t>(v.get_uint64());
    return true;
  }
  if (!v.is_double()) return false;
  const double d = v.get_double();
  if (!(std::abs(d) <= 9007199254740992.0) || d != std::trunc(d)) return false;  // 2^53: exact beyond doubt
  *out = static_cast<int64_t>(d);
  return true;
}

ApiError ParseBody(std::string_view text, json::object* out) {
  constexpr std::string_view kBom = "\xEF\xBB\xBF";
  if (text.substr(0, kBom.size()) == kBom) text.remove_prefix(kBom.size());
  json::parse_options options;
  options.max_depth = 64;
  json::error_code ec;
  json::value v = json::parse(text, ec, {}, options);
  if (ec) return BadField({}, "invalid_json", "the body is not valid JSON: " + ec.message());
  if (!v.is_object()) return BadField({}, "invalid_json", "the body must be a JSON object");
  *out = std::move(v.get_object());
  return {};
}

ApiError ParseParams(const json::object& body, Api api, const ParamContext& context, GenParams* out) {
  State s{context, *out, api, {}, {}, {}, {}, {}, {}, false};
  SetDefaults(api, context, out);
  const auto bit = static_cast<unsigned>(api);
  for (const Field& f : Fields()) {
    if ((f.where & bit) == 0 || f.read == nullptr) continue;
    const json::value* v = body.if_contains(f.name);
    if (v == nullptr || v->is_null()) continue;
    if (ApiError e = f.read(s, f, *v)) return e;
  }
  if (context.strict_fields) {
    for (const auto& kv : body) {
      const auto known = [&](const Field& f) { return (f.where & bit) != 0 && f.name == std::string_view(kv.key()); };
      if (std::none_of(Fields().begin(), Fields().end(), known)) {
        return BadField(std::string(kv.key()), "unknown_field", "unknown field '" + std::string(kv.key()) + "'");
      }
    }
  }
  return CheckTogether(s);
}

}  // namespace wf::server
