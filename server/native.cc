// SPDX-License-Identifier: Apache-2.0
// POST /completion: llama-server's own shape, plain and streamed.
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "server/endpoints.h"
#include "server/text.h"

namespace wf::server {
namespace {

constexpr size_t kMaxPrompts = 2048;

const char* StopTypeName(StopType t) noexcept {
  switch (t) {
    case StopType::kEos:
      return "eos";
    case StopType::kWord:
      return "word";
    case StopType::kLimit:
      return "limit";
    case StopType::kNone:
      break;
  }
  return "none";
}

// The decimal that the client wrote: 0.8f is shown as 0.8, not as the double nearest to it.
double Shown(float v) noexcept {
  char text[32];
  std::snprintf(text, sizeof text, "%.7g", static_cast<double>(v));
  return std::strtod(text, nullptr);
}

class NativeFormat : public Format {
 public:
  explicit NativeFormat(bool list) : list_(list) {}
  ErrorStyle style() const override { return ErrorStyle::kNative; }

  std::string Answer(const Generation& g) override {
    json::array results;
    for (const Choice& c : g.choices()) {
      json::object o = Final(g, c, c.text);
      o["tokens"] = g.params().return_token_ids ? json::value_from(c.ids) : json::value(json::array{});
      if (g.params().request.logprobs >= 0) AddProbabilities(g, c.logprobs, &o);
      results.push_back(std::move(o));
    }
    return json::serialize(list_ ? json::value(std::move(results)) : results[0]);
  }

  void Begin(const Generation&, const Choice&, std::string*) override {}

  void Delta(const Generation& g, const Choice& c, const Event& e, std::string* out) override {
    if (e.text.empty() && e.ids.empty()) return;
    json::object o{{"index", c.index},
                   {"content", e.text},
                   {"tokens", json::value_from(e.ids)},
                   {"stop", false},
                   {"id_slot", -1},
                   {"tokens_predicted", c.ids.size()},
                   {"tokens_evaluated", g.prompts()[c.prompt].ids.size()}};
    if (!e.logprobs.empty()) AddProbabilities(g, e.logprobs, &o);
    if (g.params().timings_per_token) o["timings"] = g.TimingsJson(c);
    AppendSse(o, out);
  }

  void Finish(const Generation& g, const Choice& c, bool, std::string* out) override {
    json::object o = Final(g, c, "");
    o["tokens"] = json::array{};
    AppendSse(o, out);
  }

  void End(const Generation&, std::string*) override {}  // no [DONE] here

 private:
  static json::object Settings(const Generation& g) {
    const Request& r = g.params().request;
    const SamplingParams& s = r.sampling;
    json::array bias;
    for (const auto& [id, value] : s.logit_bias) bias.push_back(json::array{id, value});
    json::object o{{"n_ctx", g.n_ctx()},
                   {"n_predict", r.max_tokens},
                   {"temperature", Shown(s.temperature)},
                   {"top_k", s.top_k},
                   {"top_p", Shown(s.top_p)},
                   {"min_p", Shown(s.min_p)},
                   {"typical_p", 1.0},
                   {"repeat_penalty", Shown(s.repetition_penalty)},
                   {"repeat_last_n", s.repeat_last_n},
                   {"presence_penalty", Shown(s.presence_penalty)},
                   {"frequency_penalty", Shown(s.frequency_penalty)},
                   {"seed", s.seed},
                   {"stop", json::value_from(r.stop)},
                   {"ignore_eos", r.ignore_eos},
                   {"n_probs", std::max(r.logprobs, 0)},
                   {"logit_bias", std::move(bias)},
                   {"n_keep", 0},
                   {"stream", g.params().stream},
                   {"timings_per_token", g.params().timings_per_token}};
    const DecodeSettings& d = g.decode();
    o["decode_mode"] = Name(d.mode);
    if (d.mode == DecodeMode::kAr) return o;
    o["threshold"] = Shown(d.threshold);
    o["block_size"] = d.block;
    o["small_block_size"] = d.sub_block;
    o["max_block_iterations"] = d.max_passes;
    o["block_cache"] = d.block_cache;
    o["mask_token_id"] = d.mask;
    return o;
  }

  static json::object Final(const Generation& g, const Choice& c, std::string_view content) {
    const Prompt& p = g.prompts()[c.prompt];
    json::object o{{"index", c.index},
                   {"content", content},
                   {"tokens", json::array{}},
                   {"id_slot", -1},
                   {"stop", true},
                   {"model", g.model_name()},
                   {"tokens_predicted", c.end.timings.generated_tokens},
                   {"tokens_evaluated", p.ids.size()},
                   {"generation_settings", Settings(g)},
                   {"prompt", p.text},
                   {"has_new_line", c.text.find('\n') != std::string::npos},
                   {"truncated", false},
                   {"stop_type", StopTypeName(c.end.stop_type)},
                   {"stopping_word", c.end.stop_word},
                   {"tokens_cached", c.end.timings.cached_tokens},
                   {"timings", g.TimingsJson(c)}};
    if (c.end.timed_out) o["timed_out"] = true;
    return o;
  }

  static void AddProbabilities(const Generation& g, const std::vector<TokenLogprob>& list, json::object* answer) {
    json::array out;
    for (const TokenLogprob& t : list) {
      json::object o = TokenJson(g.model(), t.id, t.logprob, true);
      json::array top;
      for (const auto& [id, logprob] : t.top) top.push_back(TokenJson(g.model(), id, logprob, true));
      o["top_logprobs"] = std::move(top);
      out.push_back(std::move(o));
    }
    (*answer)["completion_probabilities"] = std::move(out);
    FlagLogprobs(g, answer);
  }

  bool list_;  // the prompt was a list of prompts: the answer is a list, too
};

constexpr std::string_view kShapes = "a string, an array of ids and strings, or an array of prompts";

// One prompt: a string, ids, or ids and strings mixed.
ApiError AddPrompt(const Model& model, const json::value& v, Call* out) {
  Prompt p;
  if (v.is_string()) {
    auto ids = EncodePrompt(model, v.get_string(), true);
    if (!ids.ok()) return FromStatus(ids.status(), "prompt");
    p.ids = *std::move(ids);
    p.text.assign(v.get_string().data(), v.get_string().size());
  } else if (v.is_array()) {
    if (v.get_array().empty()) return OutOfRange("prompt", "not an empty list");
    const int32_t vocab = model.tokenizer().size();
    for (const json::value& e : v.get_array()) {
      if (e.is_string()) {
        auto ids = EncodePrompt(model, e.get_string(), p.ids.empty());
        if (!ids.ok()) return FromStatus(ids.status(), "prompt");
        p.ids.insert(p.ids.end(), ids->begin(), ids->end());
      } else if (ApiError error = ReadIds(json::array{e}, vocab, "prompt", &p.ids)) {
        return e.is_number() ? error : WrongType("prompt", kShapes);
      }
    }
    p.text = DecodeIds(model, p.ids);
  } else {
    return WrongType("prompt", kShapes);
  }
  out->prompts.push_back(std::move(p));
  return {};
}

}  // namespace

ApiError ParseNative(const Model& model, const json::object& body, const ParamContext& context, Call* out) {
  if (ApiError e = ParseParams(body, Api::kNative, context, &out->params)) return e;
  const json::value* prompt = body.if_contains("prompt");
  if (prompt == nullptr || prompt->is_null()) return BadField("prompt", "missing_field", "'prompt' is missing");
  // With a number at the top it is one prompt; only strings or lists: one prompt each.
  const bool list = prompt->is_array() && !prompt->get_array().empty() &&
                    std::none_of(prompt->get_array().begin(), prompt->get_array().end(),
                                 [](const json::value& v) { return v.is_number(); });
  out->format = std::make_unique<NativeFormat>(list);
  if (!list) return AddPrompt(model, *prompt, out);
  if (prompt->get_array().size() > kMaxPrompts) return OutOfRange("prompt", "at most 2048 prompts");
  for (const json::value& v : prompt->get_array()) {
    if (ApiError e = AddPrompt(model, v, out)) return e;
  }
  return {};
}

}  // namespace wf::server
