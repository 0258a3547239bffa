// SPDX-License-Identifier: Apache-2.0
// POST /v1/chat/completions: messages to a prompt, and the shapes of its answer.
#include <cmath>

#include "server/endpoints.h"
#include "server/text.h"

namespace wf::server {
namespace {

ApiError ReadContent(const json::value& v, const std::string& at, std::string* out) {
  if (v.is_string()) {
    out->assign(v.get_string().data(), v.get_string().size());
    return {};
  }
  if (!v.is_array()) return WrongType(at, "a string or an array of parts");
  for (size_t i = 0; i < v.get_array().size(); ++i) {
    const std::string here = at + "[" + std::to_string(i) + "]";
    const json::value& part = v.get_array()[i];
    if (!part.is_object()) return WrongType(here, "an object");
    const json::value* type = part.get_object().if_contains("type");
    if (type == nullptr || !type->is_string()) return WrongType(here + ".type", "a string");
    if (type->get_string() != "text") {
      return NotSupported(here + ".type",
                          "content parts of type '" + std::string(type->get_string()) + "' are not supported");
    }
    const json::value* text = part.get_object().if_contains("text");
    if (text == nullptr || !text->is_string()) return WrongType(here + ".text", "a string");
    out->append(text->get_string().data(), text->get_string().size());
  }
  return {};
}

ApiError ReadMessage(const json::value& v, const std::string& at, json::object* out) {
  if (!v.is_object()) return WrongType(at, "an object");
  const json::object& m = v.get_object();
  const json::value* role = m.if_contains("role");
  if (role == nullptr) return BadField(at + ".role", "missing_field", "'" + at + ".role' is missing");
  if (!role->is_string()) return WrongType(at + ".role", "a string");
  std::string_view name = role->get_string();
  if (name == "developer") name = "system";
  if (name == "tool" || name == "function") {
    return NotSupported(at + ".role", "messages of role '" + std::string(name) + "' are not supported by this build");
  }
  if (name != "system" && name != "user" && name != "assistant") {
    return OutOfRange(at + ".role", "system, developer, user, assistant or tool");
  }
  const json::value* calls = m.if_contains("tool_calls");
  if (calls != nullptr && !calls->is_null() && !(calls->is_array() && calls->get_array().empty())) {
    return NotSupported(at + ".tool_calls", "tool calls are not supported by this build");
  }
  const json::value* content = m.if_contains("content");
  std::string text;
  if (content == nullptr || content->is_null()) {
    return BadField(at + ".content", "missing_field", "'" + at + ".content' is missing");
  }
  if (ApiError e = ReadContent(*content, at + ".content", &text)) return e;
  *out = json::object{{"role", name}, {"content", text}};
  if (const json::value* n = m.if_contains("name"); n != nullptr && !n->is_null()) {
    if (!n->is_string()) return WrongType(at + ".name", "a string");
    (*out)["name"] = *n;
  }
  return {};
}

class ChatFormat : public Format {
 public:
  std::string Answer(const Generation& g) override {
    json::array choices;
    for (const Choice& c : g.choices()) {
      json::object o{{"index", c.index},
                     {"message", json::object{{"role", "assistant"}, {"content", c.text}, {"refusal", nullptr}}},
                     {"logprobs", Logprobs(g, c.logprobs)},
                     {"finish_reason", FinishName(c.end.reason)}};
      if (c.end.timed_out) o["timed_out"] = true;
      if (g.params().return_token_ids) o["token_ids"] = json::value_from(c.ids);
      choices.push_back(std::move(o));
    }
    json::object body = Envelope(g, "chat.completion");
    body["choices"] = std::move(choices);
    body["usage"] = g.Usage();
    body["timings"] = g.TimingsJson();
    if (g.params().return_token_ids) body["prompt_token_ids"] = json::value_from(g.prompts().front().ids);
    return json::serialize(body);
  }

  void Begin(const Generation& g, const Choice& c, std::string* out) override {
    json::object chunk = Chunk(g, c, json::object{{"role", "assistant"}, {"content", ""}}, nullptr, nullptr);
    if (g.params().return_token_ids && c.index == 0) {
      chunk["prompt_token_ids"] = json::value_from(g.prompts().front().ids);
    }
    AppendSse(chunk, out);
  }

  void Delta(const Generation& g, const Choice& c, const Event& e, std::string* out) override {
    const bool ids = g.params().return_token_ids && !e.ids.empty();
    if (e.text.empty() && e.logprobs.empty() && !ids) return;
    json::object chunk = Chunk(g, c, json::object{{"content", e.text}}, Logprobs(g, e.logprobs), nullptr);
    if (ids) chunk["choices"].as_array()[0].as_object()["token_ids"] = json::value_from(e.ids);
    if (g.params().timings_per_token) chunk["timings"] = g.TimingsJson(c);
    AppendSse(chunk, out);
  }

  void Finish(const Generation& g, const Choice& c, bool last, std::string* out) override {
    json::object chunk = Chunk(g, c, json::object{}, nullptr, FinishName(c.end.reason));
    if (c.end.timed_out) chunk["choices"].as_array()[0].as_object()["timed_out"] = true;
    if (last) chunk["timings"] = g.TimingsJson();
    AppendSse(chunk, out);
  }

  void End(const Generation& g, std::string* out) override {
    if (g.params().include_usage) {
      json::object chunk = Envelope(g, "chat.completion.chunk");
      chunk["choices"] = json::array{};
      chunk["usage"] = g.Usage();
      AppendSse(chunk, out);
    }
    out->append("data: [DONE]\n\n");
  }

 private:
  static json::object Envelope(const Generation& g, std::string_view object) {
    return {{"id", "chatcmpl-" + g.hex_id()},
            {"object", object},
            {"created", g.created()},
            {"model", g.model_name()},
            {"system_fingerprint", g.fingerprint()}};
  }

  static json::object Chunk(const Generation& g, const Choice& c, json::object delta, json::value logprobs,
                            json::value finish) {
    json::object chunk = Envelope(g, "chat.completion.chunk");
    json::object choice{{"index", c.index},
                        {"delta", std::move(delta)},
                        {"logprobs", std::move(logprobs)},
                        {"finish_reason", std::move(finish)}};
    json::array choices;
    choices.push_back(std::move(choice));
    chunk["choices"] = std::move(choices);
    if (g.params().include_usage) {
      chunk["usage"] = g.params().continuous_usage ? json::value(g.Usage()) : json::value(nullptr);
    }
    return chunk;
  }

  static json::value Logprobs(const Generation& g, const std::vector<TokenLogprob>& list) {
    if (!g.params().chat_logprobs || (list.empty() && g.params().stream)) return nullptr;
    json::array content;
    for (const TokenLogprob& t : list) {
      json::object token = TokenJson(g.model(), t.id, t.logprob, false);
      json::array top;
      for (const auto& [id, logprob] : t.top) top.push_back(TokenJson(g.model(), id, logprob, false));
      token["top_logprobs"] = std::move(top);
      content.push_back(std::move(token));
    }
    json::object o{{"content", std::move(content)}, {"refusal", nullptr}};
    FlagLogprobs(g, &o);
    return o;
  }
};

}  // namespace

const char* FinishName(FinishReason r) noexcept { return r == FinishReason::kStop ? "stop" : "length"; }

double JsonLogprob(float logprob) noexcept { return std::isfinite(logprob) ? static_cast<double>(logprob) : -9999.0; }

void FlagLogprobs(const Generation& g, json::object* o) {
  if (g.decode().diffusion()) (*o)["logprobs_kind"] = "dlm";
}

json::object TokenJson(const Model& model, int32_t id, float logprob, bool with_id) {
  const std::string piece = model.tokenizer().Piece(id);
  json::array bytes;
  for (const char c : piece) bytes.push_back(static_cast<int>(static_cast<unsigned char>(c)));
  json::object o;
  if (with_id) o["id"] = id;
  o["token"] = TokenName(piece);
  o["logprob"] = JsonLogprob(logprob);
  o["bytes"] = std::move(bytes);
  return o;
}

ApiError ParseChat(const Model& model, const json::object& body, const ParamContext& context, Call* out) {
  if (ApiError e = ParseParams(body, Api::kChat, context, &out->params)) return e;
  const json::value* messages = body.if_contains("messages");
  if (messages == nullptr || messages->is_null()) return BadField("messages", "missing_field", "'messages' is missing");
  if (!messages->is_array()) return WrongType("messages", "an array");
  if (messages->get_array().empty()) return OutOfRange("messages", "an array of at least one message");
  json::array clean;
  for (size_t i = 0; i < messages->get_array().size(); ++i) {
    json::object m;
    if (ApiError e = ReadMessage(messages->get_array()[i], "messages[" + std::to_string(i) + "]", &m)) return e;
    clean.push_back(std::move(m));
  }
  auto prompt = RenderChat(model, json::serialize(clean), out->params.add_generation_prompt,
                           json::serialize(out->params.template_kwargs));
  if (!prompt.ok()) return FromStatus(prompt.status(), "messages");
  out->prompts.push_back({std::move(prompt->ids), {}});
  out->format = std::make_unique<ChatFormat>();
  return {};
}

}  // namespace wf::server
