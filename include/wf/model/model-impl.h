// SPDX-License-Identifier: Apache-2.0
// Bodies of model.h.
#ifndef WF_MODEL_MODEL_IMPL_H_
#define WF_MODEL_MODEL_IMPL_H_

#include <limits>
#include <utility>

#include "wf/model/model.h"

namespace wf {

WF_MODEL_INLINE std::string Model::name() const {
  const Result<std::string_view> n = gguf_.GetStringOr("general.name", "");
  if (n.ok() && !n->empty()) return std::string(*n);
  const std::string& path = gguf_.name();
  const size_t slash = path.rfind('/'), begin = slash == std::string::npos ? 0 : slash + 1;
  const size_t dot = path.rfind('.');
  return path.substr(begin, dot == std::string::npos || dot <= begin ? std::string::npos : dot - begin);
}

namespace detail {
template <class T>
Status ReadDefault(const Gguf& g, const char* key, std::optional<T>* out) {
  if (g.Find(key) == nullptr) return OkStatus();
  WF_ASSIGN(const double v, g.GetFloat(key));
  if (!(v >= static_cast<double>(std::numeric_limits<T>::lowest()) &&
        v <= static_cast<double>(std::numeric_limits<T>::max()))) {
    return FormatError(g.name() + ": key '" + key + "' = " + std::to_string(v) + " is out of range");
  }
  *out = static_cast<T>(v);
  return OkStatus();
}
}  // namespace detail

WF_MODEL_INLINE Result<std::shared_ptr<const Model>> Model::Open(const std::string& path,
                                                                 const WeightOptions& options) {
  WF_ASSIGN(Gguf gguf, Gguf::Open(path));
  return FromGguf(std::move(gguf), options);
}

WF_MODEL_INLINE Result<std::shared_ptr<const Model>> Model::FromGguf(Gguf gguf, const WeightOptions& options,
                                                                     std::vector<std::string> notices) {
  std::shared_ptr<Model> m(new Model(std::move(gguf)));
  const Gguf& g = m->gguf_;
  WF_ASSIGN(m->config_, ConfigFromGguf(g));
  WF_ASSIGN(m->weights_, LoadWeights(g, m->config_, options));
  m->config_.vocab = m->weights_.embedding.rows;
  m->notices_ = std::move(notices);
  m->notices_.insert(m->notices_.end(), m->weights_.notices.begin(), m->weights_.notices.end());

  WF_ASSIGN(Tokenizer tokenizer, Tokenizer::FromGguf(g));
  const Vocab& vocab = tokenizer.vocab();
  if (static_cast<size_t>(tokenizer.size()) > m->config_.vocab) {
    return FormatError(g.name() + ": the tokenizer has " + std::to_string(tokenizer.size()) +
                       " tokens, the embedding only " + std::to_string(m->config_.vocab) + " rows");
  }
  m->notices_.insert(m->notices_.end(), vocab.warnings.begin(), vocab.warnings.end());
  if (!vocab.chat_template.empty()) {
    Result<ChatTemplate> t = ChatTemplate::Parse(vocab.chat_template);
    if (!t.ok()) {
      m->notices_.push_back("chat template: " + t.status().message());
      t = FallbackTemplate(vocab.chat_template);
      if (t.ok()) m->notices_.push_back("the chat template does not parse: a built-in one of the same family is used");
    }
    if (t.ok()) m->template_ = std::make_unique<ChatTemplate>(*std::move(t));
  }
  m->tokenizer_ = std::make_unique<Tokenizer>(std::move(tokenizer));
  WF_TRY(detail::ReadDefault(g, "general.sampling.temp", &m->defaults_.temperature));
  WF_TRY(detail::ReadDefault(g, "general.sampling.top_p", &m->defaults_.top_p));
  WF_TRY(detail::ReadDefault(g, "general.sampling.min_p", &m->defaults_.min_p));
  WF_TRY(detail::ReadDefault(g, "general.sampling.top_k", &m->defaults_.top_k));
  WF_TRY(detail::ReadDefault(g, "general.sampling.penalty_repeat", &m->defaults_.repetition_penalty));
  return std::shared_ptr<const Model>(std::move(m));
}

WF_MODEL_INLINE Result<ChatPrompt> RenderChat(const Model& model, std::string_view messages_json,
                                              bool add_generation_prompt, std::string_view extra_globals_json) {
  if (model.chat_template() == nullptr) {
    return Unsupported(model.gguf().name() + ": the model has no chat template that works");
  }
  using jinja::Value;
  const Vocab& vocab = model.tokenizer().vocab();
  const auto piece = [&](int32_t id) { return Value::String(id < 0 ? std::string() : model.tokenizer().Piece(id)); };
  WF_ASSIGN(Value messages, jinja::ValueFromJson(messages_json, /*user=*/true));
  std::vector<std::pair<std::string, Value>> globals;
  globals.emplace_back("bos_token", piece(vocab.bos_id));
  globals.emplace_back("eos_token", piece(vocab.eos_id));
  globals.emplace_back("pad_token", piece(vocab.pad_id));
  globals.emplace_back("unk_token", piece(vocab.unk_id));
  if (!extra_globals_json.empty()) {
    WF_ASSIGN(const Value extra, jinja::ValueFromJson(extra_globals_json, /*user=*/true));
    for (const auto& [key, value] : extra.AsMapping()) globals.emplace_back(key.AsText().bytes(), value);
  }
  globals.emplace_back("messages", std::move(messages));
  globals.emplace_back("add_generation_prompt", Value::Bool(add_generation_prompt));
  WF_ASSIGN(const std::vector<RenderedSegment> segments,
            model.chat_template()->Render(Value::Mapping(std::move(globals))));
  ChatPrompt prompt;
  std::vector<Tokenizer::Segment> parts;
  for (const RenderedSegment& s : segments) {
    prompt.text += s.text;
    parts.push_back({s.text, !s.user});
  }
  WF_ASSIGN(prompt.ids, model.tokenizer().EncodeSegments(parts, /*add_special=*/true));
  return prompt;
}

}  // namespace wf
#endif  // WF_MODEL_MODEL_IMPL_H_
