// SPDX-License-Identifier: Apache-2.0
// The table of fields (params.h). A row names where a field is known, its type and range, and what it sets; a field
// whose function is not built in is known all the same: its neutral value passes, any other is 422, never dropped.
#include "server/fields.h"

#include <charconv>
#include <cmath>
#include <cstdio>

#include "wf/base/quote.h"
#include "wf/decode/json_grammar.h"

namespace wf::server {
namespace {

constexpr double kMaxInt32 = 2147483647.0;
constexpr double kMaxInt64 = 9223372036854775807.0;
constexpr size_t kMaxStops = 16;
constexpr size_t kMaxStopBytes = 1024;
constexpr int kMaxLogprobs = 20;

std::string Number(double v) {
  char text[40];
  std::snprintf(text, sizeof text, "%.10g", v);
  return text;
}

std::string Range(const Field& f, std::string_view what) {
  std::string s(what);
  s += f.open ? " above " : " from ";
  s += Number(f.lo);
  if (f.hi < kMaxInt32) s += (f.open ? " and at most " : " to ") + Number(f.hi);
  return s;
}

ApiError Int(State& s, const Field& f, const json::value& v) {
  int64_t n = 0;
  if (!v.is_number()) return WrongType(f.name, "an integer");
  if (!ReadInteger(v, &n)) return OutOfRange(f.name, Range(f, "an integer"));
  const auto d = static_cast<double>(n);
  if (d < f.lo || d > f.hi) return OutOfRange(f.name, Range(f, "an integer"));
  f.set_int(s, n);
  return {};
}

ApiError Float(State& s, const Field& f, const json::value& v) {
  if (!v.is_number()) return WrongType(f.name, "a number");
  const auto d = static_cast<float>(v.to_number<double>());  // the narrow value is what the sampler will see
  if (!std::isfinite(d) || d < f.lo || d > f.hi || (f.open && d <= f.lo)) {
    return OutOfRange(f.name, Range(f, "a number"));
  }
  f.set_float(s, d);
  return {};
}

ApiError Bool(State& s, const Field& f, const json::value& v) {
  if (!v.is_bool()) return WrongType(f.name, "true or false");
  if (f.set_bool != nullptr) f.set_bool(s, v.get_bool());
  return {};
}

ApiError String(State&, const Field& f, const json::value& v) {
  return v.is_string() ? ApiError() : WrongType(f.name, "a string");
}

ApiError NoFunction(const Field& f) {
  return NotSupported(f.name, Quote(f.name) + " is not supported by this model or build");
}

// Number without function: the type and range are checked, then only the neutral value passes.
ApiError NeutralNumber(State&, const Field& f, const json::value& v) {
  if (!v.is_number()) return WrongType(f.name, "a number");
  const double d = v.to_number<double>();
  if (!std::isfinite(d) || d < f.lo || d > f.hi || (f.open && d <= f.lo)) {
    return OutOfRange(f.name, Range(f, "a number"));
  }
  return d == f.neutral ? ApiError() : NoFunction(f);
}

ApiError NeutralBool(State&, const Field& f, const json::value& v) {
  if (!v.is_bool()) return WrongType(f.name, "true or false");
  return v.get_bool() ? NoFunction(f) : ApiError();
}

ApiError NeutralString(State&, const Field& f, const json::value& v) {
  if (!v.is_string()) return WrongType(f.name, "a string");
  return v.get_string().empty() ? ApiError() : NoFunction(f);
}

// Objects and arrays without function: only empty ones pass.
ApiError NeutralEmpty(State&, const Field& f, const json::value& v) {
  if (v.is_array() && v.get_array().empty()) return {};
  if (v.is_object() && v.get_object().empty()) return {};
  if (v.is_string() && v.get_string().empty()) return {};
  return NoFunction(f);
}

ApiError NeutralArray(State& s, const Field& f, const json::value& v) {
  return v.is_array() ? NeutralEmpty(s, f, v) : WrongType(f.name, "an array");
}

ApiError Model(State& s, const Field& f, const json::value& v) {
  if (!v.is_string()) return WrongType(f.name, "a string");
  s.p.model = v.get_string().c_str();
  return {};
}

ApiError Stop(State& s, const Field& f, const json::value& v) {
  auto& stop = s.p.request.stop;
  if (v.is_string()) {
    stop.emplace_back(v.get_string());
  } else if (v.is_array()) {
    if (v.get_array().size() > kMaxStops) return OutOfRange(f.name, "at most 16 strings");
    for (const json::value& e : v.get_array()) {
      if (!e.is_string()) return WrongType(f.name, "a string or an array of strings");
      stop.emplace_back(e.get_string());
    }
  } else {
    return WrongType(f.name, "a string or an array of strings");
  }
  for (const std::string& word : stop) {
    if (word.empty()) return OutOfRange(f.name, "strings that are not empty");
    if (word.size() > kMaxStopBytes) return OutOfRange(f.name, "strings of at most 1024 bytes");
  }
  return {};
}

ApiError StopIds(State& s, const Field& f, const json::value& v) {
  if (!v.is_array()) return WrongType(f.name, "an array of token ids");
  for (const json::value& e : v.get_array()) {
    int64_t id = 0;
    if (!e.is_number()) return WrongType(f.name, "an array of token ids");
    if (!ReadInteger(e, &id) || id < 0 || id >= s.context.vocab) {
      return OutOfRange(f.name, "token ids from 0 to " + std::to_string(s.context.vocab - 1));
    }
    s.p.request.stop_token_ids.push_back(static_cast<int32_t>(id));
  }
  return {};
}

ApiError OneBias(State& s, const Field& f, int64_t id, const json::value& v) {
  double bias = 0;
  if (v.is_bool() && !v.get_bool()) {
    bias = -100;  // llama-server's "never"
  } else if (v.is_number()) {
    bias = v.to_number<double>();
  } else {
    return WrongType(f.name, "a map from token id to a number");
  }
  if (!(bias >= -100 && bias <= 100)) return OutOfRange(f.name, "a map with values from -100 to 100");
  if (id < 0 || id >= s.context.vocab) {
    return OutOfRange(f.name, "a map of token ids from 0 to " + std::to_string(s.context.vocab - 1));
  }
  s.p.request.sampling.logit_bias.emplace_back(static_cast<int32_t>(id), static_cast<float>(bias));
  return {};
}

// {"17": -1.5} or [[17, -1.5], [18, false]].
ApiError LogitBias(State& s, const Field& f, const json::value& v) {
  if (v.is_object()) {
    for (const auto& kv : v.get_object()) {
      int64_t id = -1;
      const char* end = kv.key().data() + kv.key().size();
      const auto [at, ec] = std::from_chars(kv.key().data(), end, id);
      if (ec != std::errc() || at != end) return OutOfRange(f.name, "a map whose keys are token ids");
      if (ApiError e = OneBias(s, f, id, kv.value())) return e;
    }
    return {};
  }
  if (!v.is_array()) return WrongType(f.name, "a map from token id to a number");
  for (const json::value& pair : v.get_array()) {
    int64_t id = -1;
    if (!pair.is_array() || pair.get_array().size() != 2 || !ReadInteger(pair.get_array()[0], &id)) {
      return WrongType(f.name, "an array of [token id, number]");
    }
    if (ApiError e = OneBias(s, f, id, pair.get_array()[1])) return e;
  }
  return {};
}

ApiError Salt(State& s, const Field& f, const json::value& v) {
  if (!v.is_string()) return WrongType(f.name, "a string");
  s.p.request.cache_salt = std::string(v.get_string());
  return {};
}

ApiError StreamOptions(State& s, const Field& f, const json::value& v) {
  if (!v.is_object()) return WrongType(f.name, "an object");
  s.stream_options = true;
  const auto flag = [&](std::string_view name, bool* out) -> ApiError {
    const json::value* b = v.get_object().if_contains(name);
    if (b == nullptr || b->is_null()) return {};
    if (!b->is_bool()) return WrongType(std::string(f.name) + "." + std::string(name), "true or false");
    *out = b->get_bool();
    return {};
  };
  if (ApiError e = flag("include_usage", &s.p.include_usage)) return e;
  return flag("continuous_usage_stats", &s.p.continuous_usage);
}

ApiError Seed(State& s, const Field& f, const json::value& v) {
  if (!v.is_number()) return WrongType(f.name, "an integer");
  if (!ReadInteger(v, &s.p.request.sampling.seed)) return OutOfRange(f.name, "an integer of 64 bits");
  return {};
}

// A schema that answers are to follow; `name` is where it stands in the request.
ApiError Schema(State& s, const Field& f, const json::value& schema, const std::string& name) {
  Result<std::shared_ptr<const JsonGrammar>> grammar = CompileJsonSchema(json::serialize(schema), name);
  if (!grammar.ok()) {
    ApiError e = FromStatus(grammar.status(), f.name);
    if (e.status == 422) e.slug = "unsupported_schema";
    return e;
  }
  s.p.request.grammar = *std::move(grammar);
  return {};
}

// llama-server's: {} is none.
ApiError NativeSchema(State& s, const Field& f, const json::value& v) {
  if (!v.is_object()) return WrongType(f.name, "an object");
  return v.get_object().empty() ? ApiError() : Schema(s, f, v, "json_schema");
}

ApiError ResponseFormat(State& s, const Field& f, const json::value& v) {
  if (!v.is_object()) return WrongType(f.name, "an object");
  const json::value* type = v.get_object().if_contains("type");
  if (type == nullptr || !type->is_string()) return WrongType("response_format.type", "a string");
  if (type->get_string() == "text") return {};
  if (type->get_string() == "json_object") {
    s.p.request.grammar = JsonObjectGrammar();
    return {};
  }
  if (type->get_string() == "json_schema") {
    const json::value* format = v.get_object().if_contains("json_schema");
    if (format == nullptr || !format->is_object()) return WrongType("response_format.json_schema", "an object");
    const json::value* schema = format->get_object().if_contains("schema");
    if (schema == nullptr || !(schema->is_object() || schema->is_bool())) {
      return WrongType("response_format.json_schema.schema", "a schema: an object, true or false");
    }
    return Schema(s, f, *schema, "response_format.json_schema.schema");
  }
  return OutOfRange("response_format.type", "text, json_object or json_schema");
}

ApiError ToolChoice(State&, const Field& f, const json::value& v) {
  if (v.is_object()) return NoFunction(f);
  if (!v.is_string()) return WrongType(f.name, "a string or an object");
  if (v.get_string() == "none" || v.get_string() == "auto") return {};
  return v.get_string() == "required" ? NoFunction(f) : OutOfRange(f.name, "none, auto, required or an object");
}

ApiError Mode(State& s, const Field& f, const json::value& v) {
  if (!v.is_string()) return WrongType(f.name, "a string");
  const auto mode = DecodeModeFromName(v.get_string());
  if (!mode || *mode == DecodeMode::kAuto) return OutOfRange(f.name, "ar, greedy, iterative, adaptive or verify");
  s.p.request.decode.mode = *mode;
  return {};
}

ApiError UseTools(State&, const Field& f, const json::value&) {
  return BadField(f.name, "invalid_value", Quote(f.name) + " is not accepted; use 'tools'");
}

ApiError TemplateKwargs(State& s, const Field& f, const json::value& v) {
  if (!v.is_object()) return WrongType(f.name, "an object");
  s.p.template_kwargs = v.get_object();
  return {};
}

constexpr double kNoLimit = kMaxInt64;

const Field kFields[] = {
    {.name = "model", .read = Model},
    {.name = "messages", .where = kChat},
    {.name = "prompt", .where = kText | kNative},
    // -- length
    {.name = "max_tokens",
     .where = kChat,
     .read = Int,
     .lo = 1,
     .hi = kNoLimit,
     .set_int = [](State& s, int64_t v) { s.max_tokens = v; }},
    {.name = "max_completion_tokens",
     .where = kChat,
     .read = Int,
     .lo = 1,
     .hi = kNoLimit,
     .set_int = [](State& s, int64_t v) { s.max_completion_tokens = v; }},
    {.name = "max_tokens",
     .where = kText,
     .read = Int,
     .lo = 0,
     .hi = kNoLimit,
     .set_int = [](State& s, int64_t v) { s.max_tokens = v; }},
    {.name = "max_tokens",
     .where = kNative,
     .read = Int,
     .lo = -1,
     .hi = kNoLimit,
     .set_int = [](State& s, int64_t v) { s.max_tokens = v; }},
    {.name = "max_completion_tokens",
     .where = kNative,
     .read = Int,
     .lo = -1,
     .hi = kNoLimit,
     .set_int = [](State& s, int64_t v) { s.max_completion_tokens = v; }},
    {.name = "n_predict",
     .where = kNative,
     .read = Int,
     .lo = -1,
     .hi = kNoLimit,
     .set_int = [](State& s, int64_t v) { s.n_predict = v; }},
    {.name = "min_tokens",
     .read = Int,
     .lo = 0,
     .hi = kNoLimit,
     .set_int = [](State& s, int64_t v) { s.p.request.min_tokens = v; }},
    // -- sampling
    {.name = "temperature",
     .read = Float,
     .lo = 0,
     .hi = 100,
     .set_float = [](State& s, float v) { s.p.request.sampling.temperature = v; }},
    {.name = "top_p",
     .read = Float,
     .lo = 0,
     .hi = 1,
     .open = true,
     .set_float = [](State& s, float v) { s.p.request.sampling.top_p = v; }},
    {.name = "top_k",
     .read = Int,
     .lo = -1,
     .hi = kMaxInt32,
     .set_int = [](State& s, int64_t v) { s.p.request.sampling.top_k = static_cast<int32_t>(v); }},
    {.name = "min_p",
     .read = Float,
     .lo = 0,
     .hi = 1,
     .set_float = [](State& s, float v) { s.p.request.sampling.min_p = v; }},
    {.name = "typical_p", .read = NeutralNumber, .lo = 0, .hi = 1, .open = true, .neutral = 1},
    {.name = "presence_penalty",
     .read = Float,
     .lo = -2,
     .hi = 2,
     .set_float = [](State& s, float v) { s.p.request.sampling.presence_penalty = v; }},
    {.name = "frequency_penalty",
     .read = Float,
     .lo = -2,
     .hi = 2,
     .set_float = [](State& s, float v) { s.p.request.sampling.frequency_penalty = v; }},
    {.name = "repeat_penalty",
     .read = Float,
     .lo = 0,
     .hi = kNoLimit,
     .open = true,
     .set_float = [](State& s, float v) { s.p.request.sampling.repetition_penalty = v; }},
    {.name = "repetition_penalty",
     .read = Float,
     .lo = 0,
     .hi = kNoLimit,
     .open = true,
     .set_float = [](State& s, float v) { s.p.request.sampling.repetition_penalty = v; }},
    {.name = "repeat_last_n",
     .read = Int,
     .lo = -1,
     .hi = kMaxInt32,
     .set_int = [](State& s, int64_t v) { s.p.request.sampling.repeat_last_n = static_cast<int32_t>(v); }},
    {.name = "seed", .read = Seed},
    {.name = "logit_bias", .read = LogitBias},
    {.name = "mirostat", .where = kNative, .read = NeutralNumber, .lo = 0, .hi = 2},
    {.name = "dynatemp_range", .where = kNative, .read = NeutralNumber, .lo = 0, .hi = 100},
    {.name = "xtc_probability", .where = kNative, .read = NeutralNumber, .lo = 0, .hi = 1},
    {.name = "dry_multiplier", .where = kNative, .read = NeutralNumber, .lo = 0, .hi = 100},
    {.name = "samplers", .where = kNative, .read = NeutralEmpty},
    // -- ends
    {.name = "stop", .read = Stop},
    {.name = "stop_token_ids", .read = StopIds},
    {.name = "ignore_eos", .read = Bool, .set_bool = [](State& s, bool v) { s.p.request.ignore_eos = v; }},
    {.name = "include_stop_str_in_output",
     .where = kOpenAi,
     .read = Bool,
     .set_bool = [](State& s, bool v) { s.p.request.include_stop = v; }},
    {.name = "deadline_ms",
     .read = Int,
     .lo = 1,
     .hi = kNoLimit,
     .set_int = [](State& s, int64_t v) { s.deadline_ms = v; }},
    {.name = "t_max_predict_ms", .where = kNative, .read = NeutralNumber, .lo = 0, .hi = kNoLimit},
    // -- shape of the answer
    {.name = "n",
     .where = kOpenAi,
     .read = Int,
     .lo = 1,
     .hi = kMaxInt32,
     .set_int = [](State& s, int64_t v) { s.p.n = static_cast<int>(v); }},
    {.name = "best_of",
     .where = kText,
     .read = Int,
     .lo = 1,
     .hi = kMaxInt32,
     .set_int = [](State& s, int64_t v) { s.best_of = v; }},
    {.name = "stream", .read = Bool, .set_bool = [](State& s, bool v) { s.p.stream = v; }},
    {.name = "stream_options", .where = kOpenAi, .read = StreamOptions},
    {.name = "logprobs", .where = kChat, .read = Bool, .set_bool = [](State& s, bool v) { s.p.chat_logprobs = v; }},
    {.name = "top_logprobs",
     .where = kChat,
     .read = Int,
     .lo = 0,
     .hi = kMaxLogprobs,
     .set_int = [](State& s, int64_t v) { s.top_logprobs = v; }},
    {.name = "logprobs",
     .where = kText,
     .read = Int,
     .lo = 0,
     .hi = kMaxLogprobs,
     .set_int = [](State& s, int64_t v) { s.p.request.logprobs = static_cast<int32_t>(v); }},
    {.name = "n_probs",
     .where = kNative,
     .read = Int,
     .lo = 0,
     .hi = kMaxLogprobs,
     .set_int = [](State& s, int64_t v) { s.p.request.logprobs = v > 0 ? static_cast<int32_t>(v) : -1; }},
    {.name = "post_sampling_probs", .where = kNative, .read = NeutralBool},
    {.name = "echo", .where = kText, .read = Bool, .set_bool = [](State& s, bool v) { s.p.echo = v; }},
    {.name = "suffix", .where = kText, .read = NeutralString},
    {.name = "return_token_ids",
     .where = kOpenAi,
     .read = Bool,
     .set_bool = [](State& s, bool v) { s.p.return_token_ids = v; }},
    {.name = "return_tokens",
     .where = kNative,
     .read = Bool,
     .set_bool = [](State& s, bool v) { s.p.return_token_ids = v; }},
    {.name = "timings_per_token", .read = Bool, .set_bool = [](State& s, bool v) { s.p.timings_per_token = v; }},
    // -- constraints and tools
    {.name = "response_format", .where = kOpenAi, .read = ResponseFormat, .engine = "grammar"},
    {.name = "grammar", .read = NeutralString},
    {.name = "json_schema", .where = kNative, .read = NativeSchema},
    {.name = "guided_regex", .where = kOpenAi, .read = NeutralEmpty},
    {.name = "guided_choice", .where = kOpenAi, .read = NeutralEmpty},
    {.name = "guided_json", .where = kOpenAi, .read = NeutralEmpty},
    {.name = "guided_grammar", .where = kOpenAi, .read = NeutralEmpty},
    {.name = "tools", .where = kChat, .read = NeutralArray},
    {.name = "tool_choice", .where = kChat, .read = ToolChoice},
    {.name = "parallel_tool_calls", .where = kChat, .read = Bool},
    {.name = "functions", .where = kChat, .read = UseTools},
    {.name = "function_call", .where = kChat, .read = UseTools},
    // -- templates
    {.name = "chat_template_kwargs", .where = kChat, .read = TemplateKwargs},
    {.name = "add_generation_prompt",
     .where = kChat,
     .read = Bool,
     .set_bool = [](State& s, bool v) { s.p.add_generation_prompt = v; }},
    {.name = "continue_final_message", .where = kChat, .read = NeutralBool},
    // -- decode modes: what the model and the other settings allow is the engine's to say
    {.name = "decode_mode", .read = Mode, .engine = "decode mode"},
    {.name = "threshold",
     .read = Float,
     .lo = 0,
     .hi = 1,
     .set_float = [](State& s, float v) { s.p.request.decode.threshold = v; }},
    {.name = "block_size",
     .read = Int,
     .lo = 1,
     .hi = static_cast<double>(kMaxDiffusionBlock),
     .set_int = [](State& s, int64_t v) { s.p.request.decode.block_size = v; }},
    {.name = "small_block_size",
     .read = Int,
     .lo = 1,
     .hi = static_cast<double>(kMaxDiffusionBlock),
     .engine = "sub_block_size",
     .set_int = [](State& s, int64_t v) { s.p.request.decode.sub_block_size = v; }},
    {.name = "max_block_iterations",
     .read = Int,
     .lo = 1,
     .hi = kNoLimit,
     .engine = "max_passes",
     .set_int = [](State& s, int64_t v) { s.p.request.decode.max_passes = v; }},
    {.name = "block_cache", .read = Bool, .set_bool = [](State& s, bool v) { s.p.request.decode.block_cache = v; }},
    {.name = "mask_token_id",
     .read = Int,
     .lo = 0,
     .hi = kMaxInt32,
     .set_int = [](State& s, int64_t v) { s.p.request.decode.mask_token = v; }},
    // -- the prefix cache, and hints: answers are the same whatever they say
    {.name = "cache_prompt", .read = Bool, .set_bool = [](State& s, bool v) { s.p.request.cache_prompt = v; }},
    {.name = "cache_salt", .read = Salt},
    {.name = "prompt_cache_key", .where = kOpenAi, .read = String},
    {.name = "id_slot", .where = kNative, .read = Int, .lo = -1, .hi = kMaxInt32, .set_int = [](State&, int64_t) {}},
    {.name = "n_keep", .where = kNative, .read = Int, .lo = -1, .hi = kMaxInt32, .set_int = [](State&, int64_t) {}},
    {.name = "priority", .read = NeutralNumber, .lo = -kMaxInt32, .hi = kMaxInt32},
    {.name = "user", .where = kOpenAi},
    {.name = "metadata", .where = kOpenAi},
    {.name = "store", .where = kOpenAi},
    {.name = "service_tier", .where = kOpenAi},
    {.name = "reasoning_effort", .where = kChat},
    {.name = "modalities", .where = kChat},
    {.name = "prediction", .where = kChat},
};

}  // namespace

std::span<const Field> Fields() noexcept { return kFields; }

}  // namespace wf::server
