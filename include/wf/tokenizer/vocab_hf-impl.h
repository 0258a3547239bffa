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
#include "wf/tokenizer/hf_pipeline-impl.h"
#include "wf/tokenizer/utf8.h"
#include "wf/tokenizer/vocab_hf.h"

namespace wf {

namespace detail::hf {

// The files of the folder; null where one is absent.
struct Files {
  std::string dir, tokenizer_path;
  json::value tokenizer, config, tokenizer_config, special_tokens, generation;
};

inline Status ReadJson(const std::string& path, json::value* out) {
  Result<MappedFile> file = MappedFile::Open(path);
  if (!file.ok()) return file.status();
  if (file->bytes().size() > size_t{256} << 20) return LimitError(path + ": more than 256 MiB of JSON");
  json::parse_options options;
  options.max_depth = 64;
  boost::system::error_code error;
  json::stream_parser parser(json::storage_ptr(), options);
  const std::string_view text = file->bytes();
  const size_t used = parser.write_some(text.data(), text.size(), error);
  if (!error && used < text.size()) error = json::error::extra_data;
  if (!error) parser.finish(error);
  if (error) {
    return FormatError(path + ": not valid JSON near byte " + std::to_string(used) + ": " + error.message());
  }
  *out = parser.release();
  if (!out->is_object()) return FormatError(path + ": expected a JSON object");
  return OkStatus();
}

inline Status ReadOptionalJson(const std::string& path, json::value* out) {
  const Status s = ReadJson(path, out);
  return s.code() == ErrorCode::kNotFound ? OkStatus() : s;
}

inline std::optional<int64_t> Int(const json::value* v) {
  if (v == nullptr) return std::nullopt;
  if (const int64_t* i = v->if_int64()) return *i;
  return std::nullopt;  // if_uint64 holds only what int64 cannot
}

inline bool LooksSpecial(std::string_view s) {
  const auto between = [s](std::string_view a, std::string_view b) {
    return s.size() >= a.size() + b.size() && s.starts_with(a) && s.ends_with(b);
  };
  return between("<|", "|>") || between("<\xEF\xBD\x9C", "\xEF\xBD\x9C>") || between("<unused", ">") || s == "<pad>" ||
         s == "<mask>" || s == "<2mass>" || s == "[@BOS@]";
}

// Puts a token at its id; a second text for the same id is an error unless it replaces an entry of
// model.vocab, which spells added tokens in its own way.
class TokenTable {
 public:
  TokenTable(const std::string& path, Vocab* v) : path_(path), v_(v) {}

  Status Add(std::string_view text, std::optional<int64_t> id, TokenType type, bool replace) {
    if (!id || *id < 0 || *id >= static_cast<int64_t>(kMaxTokens)) {
      return FormatError(path_ + ": token '" + std::string(text.substr(0, 80)) + "' has the id " +
                         (id ? std::to_string(*id) : "of another type") + ", expected 0.." +
                         std::to_string(kMaxTokens - 1));
    }
    const auto i = static_cast<size_t>(*id);
    if (i >= v_->tokens.size()) Resize(i + 1);
    if (used_[i] && !replace && v_->tokens[i] != text) {
      return FormatError(path_ + ": id " + std::to_string(i) + " is given to '" + v_->tokens[i].substr(0, 80) +
                         "' and '" + std::string(text.substr(0, 80)) + "'");
    }
    v_->tokens[i] = std::string(text);
    v_->types[i] = type;
    used_[i] = true;
    return OkStatus();
  }

  // Fills what no token has, up to `size` ids.
  void Pad(size_t size) {
    if (size > v_->tokens.size()) Resize(size);
    for (size_t i = 0; i < used_.size(); ++i) {
      if (!used_[i]) v_->tokens[i] = "[PAD" + std::to_string(i) + "]";
    }
  }

 private:
  void Resize(size_t n) {
    v_->tokens.resize(n);
    v_->types.resize(n, TokenType::kUnused);
    used_.resize(n, false);
  }
  const std::string& path_;
  Vocab* v_;
  std::vector<bool> used_;
};

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
    for (const char* flag : {"lstrip", "rstrip", "single_word"}) {
      if (!Bool(Get(&t, flag), false)) continue;
      v->warnings.push_back(f.tokenizer_path + ": added token '" + text + "': " + flag + " is ignored");
    }
    WF_TRY(table->Add(text, Int(Get(&t, "id")), type, true));
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
  const size_t tokens = v->tokens.size();
  if (const json::value* size = Get(&f.config, "vocab_size"); size != nullptr && !size->is_null()) {
    const std::optional<int64_t> n = Int(size);
    if (!n || *n < 1 || *n > static_cast<int64_t>(kMaxTokens)) {
      return FormatError(f.dir + "/config.json: vocab_size is not a number of 1.." + std::to_string(kMaxTokens));
    }
    if (static_cast<size_t>(*n) < tokens) {
      v->warnings.push_back(f.dir + "/config.json: vocab_size is " + std::to_string(*n) + ", but tokenizer.json has " +
                            std::to_string(tokens) + " tokens");
    }
    table.Pad(static_cast<size_t>(*n));
  }
  table.Pad(tokens);
  WF_TRY(LoadMerges(path, merges, v));
  if (pipeline->spm) {
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

// The id of a token by its literal text: added tokens first, since texts of model.vocab are encoded.
inline int32_t IdOfText(const Vocab& v, std::string_view text) {
  int32_t found = -1;
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    if (v.tokens[i] != text) continue;
    if (v.types[i] == TokenType::kControl || v.types[i] == TokenType::kUserDefined) return static_cast<int32_t>(i);
    if (found < 0 && v.types[i] != TokenType::kUnused) found = static_cast<int32_t>(i);
  }
  return found;
}

// "text" or {"content": "text"}.
inline std::optional<std::string> TokenText(const json::value* v) {
  if (std::optional<std::string> s = String(v)) return s;
  return String(Get(v, "content"));
}

inline Status LoadSpecialIds(const Files& f, const Pipeline& pipeline, Vocab* v) {
  const struct {
    const char* name;
    int32_t Vocab::*member;
  } ids[] = {{"bos", &Vocab::bos_id}, {"eos", &Vocab::eos_id}, {"unk", &Vocab::unk_id},
             {"sep", &Vocab::sep_id}, {"pad", &Vocab::pad_id}, {"mask", &Vocab::mask_id}};
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
  return OkStatus();
}

}  // namespace detail::hf

WF_MODEL_INLINE Result<Vocab> VocabFromHf(const std::string& dir) {
  detail::hf::Files f;
  f.dir = dir;
  f.tokenizer_path = dir + "/tokenizer.json";
  const Status main = detail::hf::ReadJson(f.tokenizer_path, &f.tokenizer);
  if (main.code() == ErrorCode::kNotFound && MappedFile::Open(dir + "/tokenizer.model").ok()) {
    return Unsupported(dir + ": has only tokenizer.model, a tokenizer.json is needed");
  }
  WF_TRY(main);
  WF_TRY(detail::hf::ReadOptionalJson(dir + "/config.json", &f.config));
  WF_TRY(detail::hf::ReadOptionalJson(dir + "/tokenizer_config.json", &f.tokenizer_config));
  WF_TRY(detail::hf::ReadOptionalJson(dir + "/special_tokens_map.json", &f.special_tokens));
  WF_TRY(detail::hf::ReadOptionalJson(dir + "/generation_config.json", &f.generation));
  Vocab v;
  detail::hf::Pipeline pipeline;
  WF_TRY(detail::hf::LoadModel(f, &pipeline, &v));
  WF_TRY(detail::hf::LoadSpecialIds(f, pipeline, &v));
  WF_TRY(detail::hf::LoadChatTemplates(f, &v));
  WF_TRY(ValidateVocab(dir, &v));
  return v;
}

}  // namespace wf
#endif  // WF_TOKENIZER_VOCAB_HF_IMPL_H_
