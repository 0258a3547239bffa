// SPDX-License-Identifier: Apache-2.0
// Bodies of vocab_hf.h: the files of a Hugging Face folder as one Vocab.
#ifndef WF_TOKENIZER_VOCAB_HF_IMPL_H_
#define WF_TOKENIZER_VOCAB_HF_IMPL_H_

#include <algorithm>
#include <boost/json.hpp>
#include <limits>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "wf/base/mmap.h"
#include "wf/tokenizer/chat_template.h"
#include "wf/tokenizer/hf_files-impl.h"
#include "wf/tokenizer/hf_pipeline-impl.h"
#include "wf/tokenizer/hf_slow-impl.h"
#include "wf/tokenizer/utf8.h"
#include "wf/tokenizer/vocab_hf.h"

namespace wf {

namespace detail::hf {

inline Status LoadAddedTokens(const Files& f, const std::string& unk, TokenTable* table, Vocab* v) {
  const json::value* list = Get(&f.tokenizer, "added_tokens");
  if (list == nullptr || list->is_null()) return OkStatus();
  if (!list->is_array()) return FormatError(f.tokenizer_path + ": added_tokens is not an array");
  for (const json::value& t : list->get_array()) {
    const std::optional<std::string> content = String(Get(&t, "content"));
    if (!content || content->empty()) return FormatError(f.tokenizer_path + ": an added token has no content");
    TokenType type = TokenType::kUserDefined;
    std::string text = *content;
    if (Bool(Get(&t, "special"), false) || LooksSpecial(text)) {
      type = text == unk ? TokenType::kUnknown : TokenType::kControl;
    } else {
      text = ReplaceAll(text, "\xE2\x96\x81", " ");
    }
    const std::optional<int64_t> id = Int(Get(&t, "id"));
    WF_TRY(table->Add(text, id, type, true));
    const int32_t flags = MatchFlags(&t, Bool(Get(&t, "special"), false));
    if (flags != 0) v->matches.push_back({static_cast<int32_t>(*id), flags});
  }
  return OkStatus();
}

inline Status LoadMerges(const std::string& path, const json::value* merges, Vocab* v) {
  if (merges == nullptr || !merges->is_array()) return FormatError(path + ": model.merges is not an array");
  v->merges.reserve(merges->get_array().size());
  for (const json::value& m : merges->get_array()) {
    std::string merge;
    if (const json::string* s = m.if_string()) {
      merge = std::string(s->data(), s->size());
    } else if (m.is_array() && m.get_array().size() == 2 && m.get_array()[0].is_string() &&
               m.get_array()[1].is_string()) {
      // Parts with spaces: GGUF has one string a pair, in which a space can only separate.
      merge = ReplaceAll(*String(&m.get_array()[0]), " ", "\xC4\xA0") + " " +
              ReplaceAll(*String(&m.get_array()[1]), " ", "\xC4\xA0");
    } else {
      return FormatError(path + ": model.merges[" + std::to_string(v->merges.size()) +
                         "] is neither a string nor a pair of strings");
    }
    v->merges.push_back(std::move(merge));
  }
  return OkStatus();
}

// Scores for a SentencePiece-style vocabulary: earlier merges first; what no merge makes never merges.
inline void ScoresFromMerges(Vocab* v) {
  std::unordered_map<std::string, size_t> rank;
  for (size_t i = 0; i < v->merges.size(); ++i) {
    std::string made = v->merges[i];
    const size_t space = made.find(' ', 1);
    if (space != std::string::npos) rank.try_emplace(made.erase(space, 1), i);
  }
  for (size_t i = 0; i < v->tokens.size(); ++i) {
    const auto it = rank.find(v->tokens[i]);
    const std::string& text = v->tokens[i];
    const bool one = !text.empty() && NextUtf8(text, 0).bytes == text.size();
    float score = it != rank.end() ? 0.0f - static_cast<float>(it->second) : 0.0f;
    if (it == rank.end() && !one && v->types[i] == TokenType::kNormal) score = -std::numeric_limits<float>::infinity();
    if (v->types[i] == TokenType::kUnused) score = -10000.0f;
    v->scores.push_back(score);
  }
}

inline Status LoadModel(const Files& f, Pipeline* pipeline, Vocab* v) {
  const std::string& path = f.tokenizer_path;
  const json::value* model = Get(&f.tokenizer, "model");
  if (model == nullptr || !model->is_object()) return FormatError(path + ": no model");
  const std::optional<std::string> type = String(Get(model, "type"));
  const json::value* merges = Get(model, "merges");
  if (type ? *type != "BPE" : merges == nullptr) {
    return Unsupported(path + ": model type '" + type.value_or("none") + "', expected BPE");
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!String(Get(model, key)).value_or("").empty()) return Unsupported(path + ": model." + key);
  }
  WF_TRY(ReadPipeline(path, f.tokenizer, Bool(Get(model, "byte_fallback"), false), pipeline));
  CheckDecoder(path, Get(&f.tokenizer, "decoder"), *pipeline, &v->warnings);
  v->model = pipeline->spm ? "llama" : "gpt2";
  v->nfc = pipeline->nfc;
  v->ignore_merges = Bool(Get(model, "ignore_merges"), false);
  v->add_space_prefix = pipeline->add_space_prefix;
  v->space_prefix_first_only = pipeline->space_prefix_first_only;
  v->space_prefix_if_missing = pipeline->space_prefix_if_missing;
  if (pipeline->spm && v->ignore_merges) return Unsupported(path + ": model.ignore_merges without ByteLevel");
  const json::value* vocab = Get(model, "vocab");
  if (vocab == nullptr || !vocab->is_object()) return FormatError(path + ": model.vocab is not an object");
  const std::string unk = String(Get(model, "unk_token")).value_or("");
  TokenTable table(path, v);
  for (const auto& entry : vocab->get_object()) {
    const std::string text(entry.key().data(), entry.key().size());
    TokenType kind = TokenType::kNormal;
    if (pipeline->spm && ByteTokenValue(text) >= 0) kind = TokenType::kByte;
    if (pipeline->spm && !unk.empty() && text == unk) kind = TokenType::kUnknown;
    WF_TRY(table.Add(text, Int(&entry.value()), kind, false));
  }
  WF_TRY(LoadAddedTokens(f, unk, &table, v));
  WF_TRY(table.PadToConfig(f));
  WF_TRY(LoadMerges(path, merges, v));
  if (pipeline->spm) {
    v->fuse_unk = Bool(Get(model, "fuse_unk"), false);
    v->split_patterns = pipeline->patterns;
    ScoresFromMerges(v);
    return OkStatus();
  }
  const bool staged = pipeline->byte_level_at < static_cast<int32_t>(pipeline->patterns.size());
  if (!staged) v->pre = NameOfPatterns(pipeline->patterns, v->ignore_merges);
  if (v->pre.empty()) {
    v->split_patterns = pipeline->patterns;
    v->byte_level_at = staged ? pipeline->byte_level_at : -1;
  }
  return OkStatus();
}

// `defaults`: for what no file of the folder decides.
inline Status LoadSpecialIds(const Files& f, const Pipeline& pipeline, const SpecialIds& defaults, Vocab* v) {
  const struct {
    const char* name;
    int32_t Vocab::*member;
    int32_t fallback;
  } ids[] = {{"bos", &Vocab::bos_id, defaults.bos}, {"eos", &Vocab::eos_id, defaults.eos},
             {"unk", &Vocab::unk_id, defaults.unk}, {"sep", &Vocab::sep_id, -1},
             {"pad", &Vocab::pad_id, defaults.pad}, {"mask", &Vocab::mask_id, -1}};
  for (const auto& s : ids) {
    const std::string key = std::string(s.name) + "_token";
    std::optional<std::string> text = TokenText(Get(&f.tokenizer_config, key));
    if (!text) text = TokenText(Get(&f.special_tokens, key));
    if (text && !text->empty()) {
      v->*s.member = IdOfText(*v, *text);
      if (v->*s.member < 0) v->warnings.push_back(f.dir + ": " + key + " '" + *text + "' is not in the vocabulary");
    }
    if (v->*s.member >= 0) continue;
    const json::value* id = Get(&f.config, key + "_id");
    if (id != nullptr && id->is_array() && !id->get_array().empty()) id = &id->get_array()[0];
    if (const std::optional<int64_t> i = Int(id)) v->*s.member = IdOf(*i);
    if (v->*s.member < 0) v->*s.member = s.fallback;
  }
  if (v->unk_id < 0) {
    const std::string unk = String(Get(Get(&f.tokenizer, "model"), "unk_token")).value_or("");
    if (!unk.empty()) v->unk_id = IdOfText(*v, unk);
  }
  for (const char* text : {"<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<EOT>"}) {
    if (v->eot_id < 0) v->eot_id = IdOfText(*v, text);
  }
  v->eom_id = IdOfText(*v, "<|eom_id|>");
  for (const char* text : {"|<MASK>|", "<|mask|>"}) {
    if (v->mask_id < 0) v->mask_id = IdOfText(*v, text);
  }
  if (const json::value* eos = Get(&f.generation, "eos_token_id")) {
    if (const std::optional<int64_t> one = Int(eos)) v->eos_ids.push_back(IdOf(*one));
    if (const json::array* list = eos->if_array()) {
      for (const json::value& id : *list) v->eos_ids.push_back(Int(&id) ? IdOf(*Int(&id)) : -2);
    }
  }
  // A template that puts a token in front says which one BOS is, unless the configuration disagrees.
  const auto from_template = [&](const std::string& text, const char* what, int32_t* id, bool* add) -> Status {
    if (text.empty()) return OkStatus();
    const int32_t found = IdOfText(*v, text);
    if (found < 0) return FormatError(f.tokenizer_path + ": post_processor adds '" + text + "', which is no token");
    if (*id >= 0 && *id != found) {
      return Unsupported(f.tokenizer_path + ": post_processor adds '" + text + "', which is not the " + what +
                         " token");
    }
    *id = found;
    *add = true;
    return OkStatus();
  };
  WF_TRY(from_template(pipeline.leading, "BOS", &v->bos_id, &v->add_bos));
  WF_TRY(from_template(pipeline.trailing, "EOS", &v->eos_id, &v->add_eos));
  v->add_bos = Bool(Get(&f.tokenizer_config, "add_bos_token"), v->add_bos);
  v->add_eos = Bool(Get(&f.tokenizer_config, "add_eos_token"), v->add_eos);
  return OkStatus();
}

// A template is a string or a list of {name, template}, of which "default" is the one.
inline void TakeTemplates(const json::value* t, Vocab* v) {
  if (const std::optional<std::string> text = String(t)) v->chat_template = *text;
  if (t == nullptr || !t->is_array()) return;
  for (const json::value& item : t->get_array()) {
    const std::optional<std::string> name = String(Get(&item, "name")), text = String(Get(&item, "template"));
    if (!name || !text) continue;
    if (*name == "default") {
      v->chat_template = *text;
    } else {
      v->named_chat_templates.emplace_back(*name, *text);
    }
  }
}

inline Status LoadChatTemplates(const Files& f, Vocab* v) {
  TakeTemplates(Get(&f.tokenizer_config, "chat_template"), v);
  json::value file;
  WF_TRY(ReadOptionalJson(f.dir + "/chat_template.json", &file));
  if (const json::value* t = Get(&file, "chat_template")) TakeTemplates(t, v);
  const Result<MappedFile> jinja = MappedFile::Open(f.dir + "/chat_template.jinja");
  if (!jinja.ok() && jinja.status().code() != ErrorCode::kNotFound) return jinja.status();
  if (jinja.ok()) v->chat_template = std::string(jinja->bytes());
  // As VocabFromGguf does, so that a converted file says the same.
  const std::string kind = String(Get(&f.config, "model_type")).value_or("");
  if (kind.starts_with("bitnet") && CorrectedTemplate(v->chat_template) != v->chat_template) {
    v->chat_template = std::string(CorrectedTemplate(v->chat_template));
    v->warnings.push_back(f.dir + ": the chat template is a converter's placeholder, using the model's own");
  }
  return OkStatus();
}

}  // namespace detail::hf

WF_MODEL_INLINE Result<Vocab> VocabFromHf(const std::string& dir) {
  detail::hf::Files f;
  f.dir = dir;
  f.tokenizer_path = dir + "/tokenizer.json";
  const Status main = detail::hf::ReadJson(f.tokenizer_path, &f.tokenizer);
  if (!main.ok() && main.code() != ErrorCode::kNotFound) return main;
  WF_TRY(detail::hf::ReadOptionalJson(dir + "/config.json", &f.config));
  WF_TRY(detail::hf::ReadOptionalJson(dir + "/tokenizer_config.json", &f.tokenizer_config));
  WF_TRY(detail::hf::ReadOptionalJson(dir + "/special_tokens_map.json", &f.special_tokens));
  WF_TRY(detail::hf::ReadOptionalJson(dir + "/generation_config.json", &f.generation));
  Vocab v;
  detail::hf::Pipeline pipeline;
  detail::hf::SpecialIds defaults;
  if (main.ok()) {
    WF_TRY(detail::hf::LoadModel(f, &pipeline, &v));
  } else {
    WF_TRY(detail::hf::LoadWithoutJson(&f, &v, &defaults));
  }
  WF_TRY(detail::hf::LoadSpecialIds(f, pipeline, defaults, &v));
  WF_TRY(detail::hf::LoadChatTemplates(f, &v));
  WF_TRY(ValidateVocab(dir, &v));
  return v;
}

}  // namespace wf
#endif  // WF_TOKENIZER_VOCAB_HF_IMPL_H_
