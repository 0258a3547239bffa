// SPDX-License-Identifier: Apache-2.0
// The API: routes a request to its endpoint and answers in JSON. Exists before the model is loaded; the engine is
// handed over when it is ready. Not for: sockets (http.h), what endpoints accept (endpoints.h, params.h).
#ifndef WF_SERVER_OPENAI_H_
#define WF_SERVER_OPENAI_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "server/endpoints.h"
#include "server/http.h"
#include "wf/engine/engine.h"

namespace wf::server {

struct ApiOptions {
  std::vector<std::string> names;   // the served name, then aliases; at least one
  std::string stem;                 // of the model's file: also accepted
  bool strict_model = false;        // other model names are 404
  bool strict_fields = false;       // unknown fields are 400
  int64_t default_max_tokens = -1;  // -1: the rest of the context
  int64_t request_timeout_ms = 600000;
  int64_t queue_timeout_ms = 30000;
  int max_n = 8;
};

class App {
 public:
  explicit App(ApiOptions options);

  // Thread-safe; the Responder's strand must be the caller's.
  void Handle(HttpRequest&& request, std::shared_ptr<Responder> responder);

  // From now on requests run on `engine`, which must outlive every request. Once.
  void SetReady(Engine* engine);
  // From now on health is 503 and new work is refused.
  void StartDrain() noexcept { draining_.store(true); }

 private:
  void Health(Responder& out) const;
  void Live(Responder& out) const;
  void Models(Responder& out) const;
  void OneModel(std::string_view encoded, Responder& out) const;
  void Generate(Api api, const HttpRequest& r, std::shared_ptr<Responder> out) const;
  // *style becomes the native one if the body's shape says so.
  ApiError Prepare(Api api, std::string_view path, std::string_view text, Engine& engine, Call* call,
                   ErrorStyle* style) const;
  ApiError CheckModel(const std::string& name) const;
  json::object ModelJson(const std::string& name) const;
  ParamContext Context(const Engine& engine) const;

  ApiOptions options_;
  int64_t created_;
  std::string fingerprint_;               // set before engine_
  json::object meta_;                     // likewise
  std::atomic<Engine*> engine_{nullptr};  // nullptr while the model is loading
  std::atomic<bool> draining_{false};
};

// Facts of a model for /v1/models.
json::object ModelMeta(const Model& model);
// Changes whenever bits of an answer could: version, instruction set, weights' format, cache type.
std::string Fingerprint(const Engine& engine);

}  // namespace wf::server
#endif  // WF_SERVER_OPENAI_H_
