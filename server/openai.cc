// SPDX-License-Identifier: Apache-2.0
// Routes and the way of a generating request from its body to the engine (openai.h).
#include "server/openai.h"

#include <algorithm>
#include <chrono>

namespace wf::server {
namespace {

// A heartbeat older than this means that the inference thread hangs.
constexpr int64_t kHeartbeatMs = 30000;

int64_t UnixNow() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

void SendJson(Responder& out, const json::value& v) {
  HttpResponse r;
  r.body = json::serialize(v);
  out.Send(std::move(r));
}

enum class Target : uint8_t { kHealth, kLive, kModels, kChat, kCompletions, kNative };
struct Route {
  std::string_view path;
  bool get;
  Target target;
};
constexpr Route kRoutes[] = {
    {"/health", true, Target::kHealth},
    {"/v1/health", true, Target::kHealth},
    {"/health/ready", true, Target::kHealth},
    {"/health/live", true, Target::kLive},
    {"/v1/models", true, Target::kModels},
    {"/models", true, Target::kModels},
    {"/v1/chat/completions", false, Target::kChat},
    {"/chat/completions", false, Target::kChat},
    {"/v1/completions", false, Target::kCompletions},
    {"/completions", false, Target::kCompletions},
    {"/completion", false, Target::kNative},
};

ApiError WithStatus(int status, std::string_view slug, std::string message, std::string_view param = {}) {
  ApiError e = BadField(param, slug, std::move(message));
  e.status = status;
  return e;
}

}  // namespace

App::App(ApiOptions options) : options_(std::move(options)), created_(UnixNow()) {}

void App::SetReady(Engine* engine) {
  meta_ = ModelMeta(engine->model());
  fingerprint_ = Fingerprint(*engine);
  engine_.store(engine, std::memory_order_release);
}

void App::Handle(HttpRequest&& r, std::shared_ptr<Responder> out) {
  const ErrorStyle style = StyleOf(r.path);
  for (const std::string_view prefix : {"/v1/models/", "/models/"}) {
    if (r.path.substr(0, prefix.size()) != prefix) continue;
    if (r.method == "GET") return OneModel(std::string_view(r.path).substr(prefix.size()), *out);
    HttpResponse no = ErrorResponse(WithStatus(405, "method_not_allowed", "use GET"), style);
    no.headers.emplace_back("Allow", "GET, HEAD");
    return out->Send(std::move(no));
  }
  const Route* route =
      std::find_if(std::begin(kRoutes), std::end(kRoutes), [&](const Route& x) { return x.path == r.path; });
  if (route == std::end(kRoutes)) {
    return out->Send(ErrorResponse(WithStatus(404, "unknown_path", "there is nothing at this path"), style));
  }
  if (r.method != (route->get ? "GET" : "POST")) {
    HttpResponse no = ErrorResponse(
        WithStatus(405, "method_not_allowed", route->get ? "use GET" : "use POST with a JSON body"), style);
    no.headers.emplace_back("Allow", route->get ? "GET, HEAD" : "POST");
    return out->Send(std::move(no));
  }
  switch (route->target) {
    case Target::kHealth:
      return Health(*out);
    case Target::kLive:
      return Live(*out);
    case Target::kModels:
      return Models(*out);
    case Target::kChat:
      return Generate(Api::kChat, r, std::move(out));
    case Target::kCompletions:
      return Generate(Api::kCompletions, r, std::move(out));
    case Target::kNative:
      return Generate(Api::kNative, r, std::move(out));
  }
}

void App::Health(Responder& out) const {
  if (draining_.load()) return out.Send(ErrorResponse(Draining(), ErrorStyle::kNative));
  if (engine_.load() == nullptr) return out.Send(ErrorResponse(Loading(), ErrorStyle::kNative));
  SendJson(out, json::object{{"status", "ok"}});
}

void App::Live(Responder& out) const {
  const Engine* engine = engine_.load(std::memory_order_acquire);
  if (engine != nullptr && engine->heartbeat_age_ms() > kHeartbeatMs) {
    return out.Send(
        ErrorResponse(WithStatus(503, "stalled", "The inference thread does not respond"), ErrorStyle::kNative));
  }
  SendJson(out, json::object{{"status", "ok"}});
}

json::object App::ModelJson(const std::string& name) const {
  json::object o{{"id", name}, {"object", "model"}, {"created", created_}, {"owned_by", "local"}};
  const Engine* engine = engine_.load(std::memory_order_acquire);
  if (engine == nullptr) {
    o["status"] = "loading";
    return o;
  }
  o["max_model_len"] = engine->options().ctx;
  o["meta"] = meta_;
  return o;
}

void App::Models(Responder& out) const {
  json::array data;
  for (const std::string& name : options_.names) data.push_back(ModelJson(name));
  SendJson(out, json::object{{"object", "list"}, {"data", std::move(data)}});
}

void App::OneModel(std::string_view encoded, Responder& out) const {
  std::string name;
  if (PercentDecode(encoded, &name) &&
      std::find(options_.names.begin(), options_.names.end(), name) != options_.names.end()) {
    return SendJson(out, ModelJson(name));
  }
  out.Send(ErrorResponse(WithStatus(404, "model_not_found", "there is no such model", "model"), ErrorStyle::kOpenAi));
}

ParamContext App::Context(const Engine& engine) const {
  const Model& model = engine.model();
  const GenerationDefaults& d = model.defaults();
  ParamContext c;
  c.vocab = model.tokenizer().size();
  c.default_temperature = d.temperature.value_or(1.0f);
  c.default_top_p = d.top_p.value_or(1.0f);
  c.default_max_tokens = options_.default_max_tokens;
  c.request_timeout_ms = options_.request_timeout_ms;
  c.max_n = options_.max_n;
  c.strict_fields = options_.strict_fields;
  return c;
}

ApiError App::CheckModel(const std::string& name) const {
  if (!options_.strict_model || name.empty() || name == "default" || name == options_.stem) return {};
  if (std::find(options_.names.begin(), options_.names.end(), name) != options_.names.end()) return {};
  return WithStatus(404, "model_not_found", "the model '" + name + "' is not served here", "model");
}

ApiError App::Prepare(Api api, std::string_view path, std::string_view text, Engine& engine, Call* call,
                      ErrorStyle* style) const {
  json::object body;
  if (ApiError e = ParseBody(text, &body)) return e;
  // llama-server's old path for its own shape.
  if (path == "/completions" && body.contains("n_predict")) api = Api::kNative;
  if (api == Api::kNative) *style = ErrorStyle::kNative;
  const auto parse = api == Api::kChat ? ParseChat : api == Api::kCompletions ? ParseCompletions : ParseNative;
  if (ApiError e = parse(engine.model(), body, Context(engine), call)) return e;
  return CheckModel(call->params.model);
}

void App::Generate(Api api, const HttpRequest& r, std::shared_ptr<Responder> out) const {
  ErrorStyle style = StyleOf(r.path);
  Engine* engine = engine_.load(std::memory_order_acquire);
  if (draining_.load()) return out->Send(ErrorResponse(Draining(), style));
  if (engine == nullptr) return out->Send(ErrorResponse(Loading(), style));
  Call call;
  if (ApiError e = Prepare(api, r.path, r.body, *engine, &call, &style)) return out->Send(ErrorResponse(e, style));
  GenerationLimits limits{options_.queue_timeout_ms, options_.names.front(), fingerprint_};
  std::make_shared<Generation>(*engine, std::move(limits), std::move(call.params), std::move(call.prompts),
                               std::move(call.format), std::move(out))
      ->Start();
}

}  // namespace wf::server
