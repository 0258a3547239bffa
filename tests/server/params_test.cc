// SPDX-License-Identifier: Apache-2.0
// Fields of a request without a server: defaults, clamps and the rules that join two fields.
#include "server/params.h"

#include "tests/catch.h"

using namespace wf;          // NOLINT
using namespace wf::server;  // NOLINT

namespace {

ParamContext Context() {
  ParamContext c;
  c.vocab = 100;
  c.default_temperature = 0.6f;
  c.default_top_p = 0.9f;
  c.request_timeout_ms = 1000;
  return c;
}

ApiError Parse(const char* text, Api api, GenParams* out) {
  json::object body;
  if (ApiError e = ParseBody(text, &body)) return e;
  return ParseParams(body, api, Context(), out);
}

}  // namespace

TEST_CASE("a body must be one JSON object of moderate depth") {
  json::object o;
  CHECK_FALSE(ParseBody("{}", &o));
  CHECK_FALSE(ParseBody("\xEF\xBB\xBF{\"a\": 1, \"a\": 2}", &o));
  CHECK(o.at("a").as_int64() == 2);
  CHECK_FALSE(ParseBody("{\"a\":" + std::string(60, '[') + std::string(60, ']') + "}", &o));
  for (const std::string& bad :
       {std::string("{\"a\":") + std::string(70, '[') + std::string(70, ']') + "}", std::string("[1]"), std::string(),
        std::string("{\"a\":NaN}"), std::string("{\"a\":\"\xC0\x80\"}"), std::string("{} {}")}) {
    const ApiError e = ParseBody(bad, &o);
    CHECK(e.status == 400);
    CHECK(e.slug == "invalid_json");
  }
}

TEST_CASE("whole numbers may be written as floats, nothing else may") {
  int64_t n = 0;
  CHECK(ReadInteger(json::value(5.0), &n));
  CHECK(n == 5);
  CHECK(ReadInteger(json::value(-9007199254740992.0), &n));
  CHECK_FALSE(ReadInteger(json::value(5.5), &n));
  CHECK_FALSE(ReadInteger(json::value(1e300), &n));
  CHECK_FALSE(ReadInteger(json::value(uint64_t{1} << 63), &n));
  CHECK_FALSE(ReadInteger(json::value("5"), &n));
  CHECK_FALSE(ReadInteger(json::value(true), &n));
}

TEST_CASE("defaults are the model's for OpenAI's endpoints and llama-server's for the native one") {
  GenParams chat, text, native;
  REQUIRE_FALSE(Parse("{}", Api::kChat, &chat));
  CHECK(chat.request.sampling.temperature == 0.6f);
  CHECK(chat.request.sampling.top_p == 0.9f);
  CHECK(chat.request.sampling.top_k == 0);
  CHECK(chat.request.sampling.seed == -1);
  CHECK(chat.request.max_tokens == -1);
  CHECK(chat.request.logprobs == -1);
  CHECK(chat.request.deadline_ms == 1000);
  CHECK_FALSE(chat.stream);
  REQUIRE_FALSE(Parse("{}", Api::kCompletions, &text));
  CHECK(text.request.max_tokens == 16);
  REQUIRE_FALSE(Parse("{}", Api::kNative, &native));
  CHECK(native.request.sampling.temperature == 0.8f);
  CHECK(native.request.sampling.top_k == 40);
  CHECK(native.request.sampling.top_p == 0.95f);
  CHECK(native.request.sampling.min_p == 0.05f);
  CHECK(native.request.sampling.repeat_last_n == 64);
  CHECK(native.request.max_tokens == -1);
}

TEST_CASE("of several names of a limit the more specific wins") {
  GenParams p;
  REQUIRE_FALSE(Parse(R"({"max_tokens": 5, "max_completion_tokens": 7})", Api::kChat, &p));
  CHECK(p.request.max_tokens == 7);
  REQUIRE_FALSE(Parse(R"({"max_tokens": 5, "n_predict": 9})", Api::kNative, &p));
  CHECK(p.request.max_tokens == 9);
  REQUIRE_FALSE(Parse(R"({"deadline_ms": 10})", Api::kChat, &p));
  CHECK(p.request.deadline_ms == 10);
  REQUIRE_FALSE(Parse(R"({"deadline_ms": 100000})", Api::kChat, &p));
  CHECK(p.request.deadline_ms == 1000);
}

TEST_CASE("logprobs mean the same in three spellings") {
  GenParams chat, text, native;
  REQUIRE_FALSE(Parse(R"({"logprobs": true, "top_logprobs": 4})", Api::kChat, &chat));
  REQUIRE_FALSE(Parse(R"({"logprobs": 4})", Api::kCompletions, &text));
  REQUIRE_FALSE(Parse(R"({"n_probs": 4})", Api::kNative, &native));
  CHECK(chat.request.logprobs == 4);
  CHECK(text.request.logprobs == 4);
  CHECK(native.request.logprobs == 4);
}

TEST_CASE("both forms of logit_bias") {
  GenParams p, q;
  REQUIRE_FALSE(Parse(R"({"logit_bias": {"3": -1.5, "4": 100}})", Api::kChat, &p));
  REQUIRE(p.request.sampling.logit_bias.size() == 2);
  CHECK(p.request.sampling.logit_bias[0] == std::pair<int32_t, float>(3, -1.5f));
  REQUIRE_FALSE(Parse(R"({"logit_bias": [[3, -1.5], [4.0, false]]})", Api::kNative, &q));
  CHECK(q.request.sampling.logit_bias[0] == std::pair<int32_t, float>(3, -1.5f));
  CHECK(q.request.sampling.logit_bias[1] == std::pair<int32_t, float>(4, -100.0f));
}

TEST_CASE("numbers that are no finite float of the range are refused") {
  GenParams p;
  for (const char* bad : {R"({"temperature": 1e999})", R"({"temperature": -1e-3})", R"({"top_p": 1e-60})",
                          R"({"repetition_penalty": 1e39})", R"({"min_p": 1.0001})"}) {
    CHECK(Parse(bad, Api::kChat, &p).status == 400);
  }
}

TEST_CASE("settings of decoding are the request's only if it names them") {
  for (const Api api : {Api::kChat, Api::kCompletions, Api::kNative}) {
    GenParams none, all;
    REQUIRE_FALSE(Parse(R"({"decode_mode": null, "threshold": null})", api, &none));
    CHECK(none.request.decode.mode == DecodeMode::kAuto);
    CHECK_FALSE(none.request.decode.threshold.has_value());
    CHECK_FALSE(none.request.decode.block_cache.has_value());
    REQUIRE_FALSE(Parse(R"({"decode_mode": "iterative", "threshold": 1, "block_size": 64.0, "small_block_size": 16,
                            "max_block_iterations": 3, "block_cache": false, "mask_token_id": 0})",
                        api, &all));
    const DecodeOptions& d = all.request.decode;
    CHECK(d.mode == DecodeMode::kIterative);
    CHECK(d.threshold == 1.0f);
    CHECK(d.block_size == 64);
    CHECK(d.sub_block_size == 16);
    CHECK(d.max_passes == 3);
    CHECK(d.block_cache == false);
    CHECK(d.mask_token == 0);
  }
}

TEST_CASE("what the engine refuses names the request's field") {
  const ApiError same = FromCheck(InvalidArgument("threshold = 2, expected 0 to 1"));
  CHECK(same.status == 400);
  CHECK(same.param == "threshold");
  CHECK(same.message == "threshold = 2, expected 0 to 1");
  const ApiError other = FromCheck(InvalidArgument("sub_block_size = 5 does not divide the block of 32 tokens"));
  CHECK(other.param == "small_block_size");
  CHECK(other.message == "small_block_size = 5 does not divide the block of 32 tokens");
  const ApiError mode = FromCheck(Unsupported("decode mode 'verify' needs a mask token, and the model has none"));
  CHECK(mode.status == 422);
  CHECK(mode.param == "decode_mode");
  CHECK(FromCheck(InvalidArgument("stop: an empty string")).param == "stop");
  CHECK(FromCheck(InvalidArgument("stopped = 1")).param.empty());
  CHECK(FromCheck(InvalidArgument("threshold")).param.empty());
  CHECK(FromCheck(InternalError("threshold = 2")).param.empty());
}

TEST_CASE("an unknown field is an error only if asked for") {
  GenParams p;
  json::object body{{"prompt", "a"}, {"nonsense", 1}};
  ParamContext c = Context();
  CHECK_FALSE(ParseParams(body, Api::kCompletions, c, &p));
  c.strict_fields = true;
  const ApiError e = ParseParams(body, Api::kCompletions, c, &p);
  CHECK(e.status == 400);
  CHECK(e.param == "nonsense");
  body.erase("nonsense");
  CHECK_FALSE(ParseParams(body, Api::kCompletions, c, &p));
}

TEST_CASE("errors have the two dialects of their clients") {
  const ApiError e = ContextExceeded(600, 512);
  const json::value openai = json::parse(ErrorJson(e, ErrorStyle::kOpenAi)).at("error");
  CHECK(openai.at("code") == "context_length_exceeded");
  CHECK(openai.at("param").is_null());
  CHECK(openai.at("n_prompt_tokens") == 600);
  const json::value native = json::parse(ErrorJson(e, ErrorStyle::kNative)).at("error");
  CHECK(native.at("code") == 400);
  CHECK(native.at("type") == "exceed_context_size_error");
  CHECK(ErrorResponse(e, ErrorStyle::kNative).reason == "Context Size Exceeded");
}
