// SPDX-License-Identifier: Apache-2.0
// POST /v1/completions: prompts in four shapes, and OpenAI's legacy answer with its own form of logprobs.
#include <set>

#include "server/endpoints.h"
#include "server/text.h"

namespace wf::server {
namespace {

constexpr size_t kMaxPrompts = 2048;

class CompletionsFormat : public Format {
 public:
  std::string Answer(const Generation& g) override {
    json::array choices;
    for (const Choice& c : g.choices()) {
      int64_t offset = 0;
      const std::string echo = g.params().echo ? g.prompts()[c.prompt].text : std::string();
      json::object o{{"index", c.index},
                     {"text", echo + c.text},
                     {"logprobs", Logprobs(g, c.logprobs, &offset)},
                     {"finish_reason", FinishName(c.end.reason)}};
      if (c.end.timed_out) o["timed_out"] = true;
      if (g.params().return_token_ids) {
        o["token_ids"] = json::value_from(c.ids);
        o["prompt_token_ids"] = json::value_from(g.prompts()[c.prompt].ids);
      }
      choices.push_back(std::move(o));
    }
    json::object body = Envelope(g);
    body["choices"] = std::move(choices);
    body["usage"] = g.Usage();
    body["timings"] = g.TimingsJson();
    return json::serialize(body);
  }

  void Begin(const Generation& g, const Choice& c, std::string* out) override {
    offsets_.resize(g.choices().size());
    if (!g.params().echo || g.prompts()[c.prompt].text.empty()) return;
    AppendSse(Chunk(g, c, g.prompts()[c.prompt].text, nullptr, nullptr), out);
  }

  void Delta(const Generation& g, const Choice& c, const Event& e, std::string* out) override {
    const bool ids = g.params().return_token_ids && !e.ids.empty();
    if (e.text.empty() && e.logprobs.empty() && !ids) return;
    int64_t* offset = &offsets_[static_cast<size_t>(c.index)];
    json::object chunk =
        Chunk(g, c, e.text, e.logprobs.empty() ? json::value(nullptr) : Logprobs(g, e.logprobs, offset), nullptr);
    if (ids) chunk["choices"].as_array()[0].as_object()["token_ids"] = json::value_from(e.ids);
    if (g.params().timings_per_token) chunk["timings"] = g.TimingsJson(c);
    AppendSse(chunk, out);
  }

  void Finish(const Generation& g, const Choice& c, bool last, std::string* out) override {
    json::object chunk = Chunk(g, c, "", nullptr, FinishName(c.end.reason));
    if (c.end.timed_out) chunk["choices"].as_array()[0].as_object()["timed_out"] = true;
    if (last) chunk["timings"] = g.TimingsJson();
    AppendSse(chunk, out);
  }

  void End(const Generation& g, std::string* out) override {
    if (g.params().include_usage) {
      json::object chunk = Envelope(g);
      chunk["choices"] = json::array{};
      chunk["usage"] = g.Usage();
      AppendSse(chunk, out);
    }
    out->append("data: [DONE]\n\n");
  }

 private:
  static json::object Envelope(const Generation& g) {
    return {{"id", "cmpl-" + g.hex_id()},
            {"object", "text_completion"},
            {"created", g.created()},
            {"model", g.model_name()},
            {"system_fingerprint", g.fingerprint()}};
  }

  static json::object Chunk(const Generation& g, const Choice& c, std::string_view text, json::value logprobs,
                            json::value finish) {
    json::object chunk = Envelope(g);
    json::object choice{
        {"index", c.index}, {"text", text}, {"logprobs", std::move(logprobs)}, {"finish_reason", std::move(finish)}};
    json::array choices;
    choices.push_back(std::move(choice));
    chunk["choices"] = std::move(choices);
    if (g.params().include_usage) {
      chunk["usage"] = g.params().continuous_usage ? json::value(g.Usage()) : json::value(nullptr);
    }
    return chunk;
  }

  // The best tokens and the sampled one. Tokens that print alike are told apart, so that no entry is lost; the
  // sampled one keeps the name that `tokens` shows.
  static json::object Top(const Model& model, const TokenLogprob& t, const std::string& name) {
    json::object top;
    std::set<std::string> used{name};
    bool seen = false;
    for (const auto& [id, logprob] : t.top) {
      if (id == t.id) {
        seen = true;
        top[name] = JsonLogprob(t.logprob);
        continue;
      }
      std::string key = TokenName(model.tokenizer().Piece(id));
      if (!used.insert(key).second) key = "<id:" + std::to_string(id) + ">";
      top[key] = JsonLogprob(logprob);
    }
    if (!seen) top[name] = JsonLogprob(t.logprob);
    return top;
  }

  // *offset: code points of the generated text before the list; moved on. Echoed text has no logprobs.
  static json::value Logprobs(const Generation& g, const std::vector<TokenLogprob>& list, int64_t* offset) {
    if (g.params().request.logprobs < 0) return nullptr;
    json::array tokens, logprobs, top, offsets;
    for (const TokenLogprob& t : list) {
      const std::string piece = g.model().tokenizer().Piece(t.id);
      const std::string name = TokenName(piece);
      tokens.push_back(json::value(name));
      logprobs.push_back(JsonLogprob(t.logprob));
      top.push_back(Top(g.model(), t, name));
      offsets.push_back(*offset);
      *offset += CodePoints(piece);
    }
    json::object o{{"tokens", std::move(tokens)},
                   {"token_logprobs", std::move(logprobs)},
                   {"top_logprobs", std::move(top)},
                   {"text_offset", std::move(offsets)}};
    FlagLogprobs(g, &o);
    return o;
  }

  std::vector<int64_t> offsets_;  // by choice, of a stream
};

ApiError AddText(const Model& model, std::string_view text, Call* out) {
  auto ids = EncodePrompt(model, text, true);
  if (!ids.ok()) return FromStatus(ids.status(), "prompt");
  out->prompts.push_back({*std::move(ids), std::string(text)});
  return {};
}

ApiError AddIds(const Model& model, const json::array& a, Call* out) {
  Prompt p;
  if (ApiError e = ReadIds(a, model.tokenizer().size(), "prompt", &p.ids)) return e;
  if (out->params.echo) p.text = DecodeIds(model, p.ids);
  out->prompts.push_back(std::move(p));
  return {};
}

}  // namespace

ApiError ReadIds(const json::array& a, int32_t vocab, std::string_view param, std::vector<int32_t>* out) {
  if (a.empty()) return OutOfRange(param, "a list of ids that is not empty");
  for (const json::value& v : a) {
    int64_t id = 0;
    if (!v.is_number()) return WrongType(param, "a string, strings, ids or lists of ids");
    if (!ReadInteger(v, &id) || id < 0 || id >= vocab) {
      return OutOfRange(param, "made of ids from 0 to " + std::to_string(vocab - 1));
    }
    out->push_back(static_cast<int32_t>(id));
  }
  return {};
}

ApiError ParseCompletions(const Model& model, const json::object& body, const ParamContext& context, Call* out) {
  if (ApiError e = ParseParams(body, Api::kCompletions, context, &out->params)) return e;
  const json::value* prompt = body.if_contains("prompt");
  if (prompt == nullptr || prompt->is_null()) return BadField("prompt", "missing_field", "'prompt' is missing");
  out->format = std::make_unique<CompletionsFormat>();
  if (prompt->is_string()) return AddText(model, prompt->get_string(), out);
  if (!prompt->is_array()) return WrongType("prompt", "a string, strings, ids or lists of ids");
  const json::array& list = prompt->get_array();
  if (list.empty()) return OutOfRange("prompt", "not an empty list");
  if (list[0].is_number()) return AddIds(model, list, out);
  if (list.size() > kMaxPrompts) return OutOfRange("prompt", "at most 2048 prompts");
  for (const json::value& v : list) {
    if (v.kind() != list[0].kind()) return WrongType("prompt", "a string, strings, ids or lists of ids");
    ApiError e;
    if (v.is_string()) {
      e = AddText(model, v.get_string(), out);
    } else if (v.is_array()) {
      e = AddIds(model, v.get_array(), out);
    } else {
      e = WrongType("prompt", "a string, strings, ids or lists of ids");
    }
    if (e) return e;
  }
  return {};
}

}  // namespace wf::server
