// SPDX-License-Identifier: Apache-2.0
// Folders without tokenizer.json: SentencePiece's tokenizer.model, or vocab.json with merges.txt, and the files
// that add tokens to them. The rules are those of Hugging Face's tokenizers in Python. Part of vocab_hf-impl.h.
#ifndef WF_TOKENIZER_HF_SLOW_IMPL_H_
#define WF_TOKENIZER_HF_SLOW_IMPL_H_

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "wf/base/mmap.h"
#include "wf/base/quote.h"
#include "wf/tokenizer/hf_files-impl.h"
#include "wf/tokenizer/pretokenize.h"
#include "wf/tokenizer/sentencepiece.h"
#include "wf/tokenizer/vocab-impl.h"

namespace wf::detail::hf {

// Ids that hold where no file of the folder says another; -1: none.
struct SpecialIds {
  int32_t bos = -1, eos = -1, unk = -1, pad = -1;
};

// Texts that the configuration gives a role ("bos_token", "additional_special_tokens" ...).
inline std::set<std::string> SpecialTexts(const Files& f) {
  std::set<std::string> out;
  const auto add = [&](const json::value* v) {
    if (std::optional<std::string> text = TokenText(v); text && !text->empty()) out.insert(*std::move(text));
  };
  for (const json::value* file : {&f.tokenizer_config, &f.special_tokens}) {
    for (const char* role : {"bos", "eos", "unk", "sep", "pad", "cls", "mask"}) {
      add(Get(file, std::string(role).append("_token")));
    }
    const json::value* more = Get(file, "additional_special_tokens");
    if (more == nullptr || !more->is_array()) continue;
    for (const json::value& v : more->get_array()) add(&v);
  }
  return out;
}

// Adds tokens over those of the model: added_tokens.json names texts and ids, tokenizer_config.json's
// added_tokens_decoder, which came later, also flags. The result: their ids.
inline Result<std::set<int64_t>> LoadAddedTokensOfConfig(const Files& f, const std::set<std::string>& special,
                                                         TokenTable* table, Vocab* v) {
  std::set<int64_t> ids;
  std::map<int64_t, std::pair<std::string, const json::value*>> added;
  json::value file;
  WF_TRY(ReadOptionalJson(f.dir + "/added_tokens.json", &file));
  if (file.is_object()) {
    for (const auto& entry : file.get_object()) {
      const std::string text(entry.key().data(), entry.key().size());
      const std::optional<int64_t> id = Int(&entry.value());
      if (!id) return FormatError(f.dir + "/added_tokens.json: the id of " + Quote(text) + " is not a number");
      added[*id] = {text, nullptr};
    }
  }
  const json::value* decoder = Get(&f.tokenizer_config, "added_tokens_decoder");
  const std::string where = f.dir + "/tokenizer_config.json: added_tokens_decoder";
  if (decoder != nullptr && !decoder->is_null()) {
    if (!decoder->is_object()) return FormatError(where + " is not an object");
    for (const auto& entry : decoder->get_object()) {
      const std::string key(entry.key().data(), entry.key().size());
      const std::optional<std::string> text = String(Get(&entry.value(), "content"));
      if (key.empty() || key.size() > 9 || key.find_first_not_of("0123456789") != std::string::npos) {
        return FormatError(where + ": the id " + Quote(key) + " is not a number");
      }
      if (!text) return FormatError(where + ": token " + key + " has no content");
      added[std::stol(key)] = {*text, &entry.value()};
    }
  }
  for (const auto& [id, token] : added) {
    std::string text = token.first;
    const json::value* flags = token.second;
    if (text.empty()) return FormatError(f.dir + ": added token " + std::to_string(id) + " has no text");
    const bool known = id >= 0 && static_cast<size_t>(id) < v->tokens.size();
    const TokenType before = known ? v->types[static_cast<size_t>(id)] : TokenType::kUnused;
    TokenType type = TokenType::kUserDefined;
    if (Bool(Get(flags, "special"), special.count(text) > 0) || LooksSpecial(text)) {
      type = before == TokenType::kUnknown ? before : TokenType::kControl;
    } else if (v->model == "llama") {
      text = ReplaceAll(text, "\xE2\x96\x81", " ");
    }
    WF_TRY(table->Add(text, id, type, true));
    ids.insert(id);
    // These tokenizers look for tokens in the text as it comes, whatever `normalized` says.
    const int32_t match = flags == nullptr ? 0 : MatchFlags(flags, true) & ~TokenMatch::kNormalized;
    if (match != 0) v->matches.push_back({static_cast<int32_t>(id), match});
  }
  return ids;
}

inline Status LoadSentencePiece(const Files& f, std::string_view bytes, Vocab* v, SpecialIds* defaults) {
  const std::string path = f.dir + "/tokenizer.model";
  WF_ASSIGN(const SentencePieceModel model, ParseSentencePiece(bytes, path));
  v->model = "llama";
  v->add_bos = true;  // unless tokenizer_config.json says otherwise
  v->add_space_prefix = Bool(Get(&f.tokenizer_config, "add_prefix_space"), model.add_dummy_prefix);
  // "legacy" tokenizers give every text between two special tokens to SentencePiece, so each gets a prefix.
  v->space_prefix_first_only = !Bool(Get(&f.tokenizer_config, "legacy"), true);
  v->remove_extra_whitespaces = model.remove_extra_whitespaces;
  v->fuse_unk = true;
  TokenTable table(path, v);
  for (size_t i = 0; i < model.tokens.size(); ++i) {
    // As other programs want it in a GGUF file; SentencePiece sees U+2581.
    const bool user = model.types[i] == TokenType::kUserDefined;
    const std::string text = user ? ReplaceAll(model.tokens[i], "\xE2\x96\x81", " ") : model.tokens[i];
    WF_TRY(table.Add(text, static_cast<int64_t>(i), model.types[i], false));
  }
  WF_ASSIGN(const std::set<int64_t> added, LoadAddedTokensOfConfig(f, SpecialTexts(f), &table, v));
  for (size_t i = 0; i < model.tokens.size(); ++i) {
    if (model.types[i] != TokenType::kUserDefined || added.count(static_cast<int64_t>(i)) > 0) continue;
    v->matches.push_back({static_cast<int32_t>(i), TokenMatch::kNormalized | TokenMatch::kPiece});
  }
  WF_TRY(table.PadToConfig(f));
  v->scores = model.scores;
  v->scores.resize(model.tokens.size());
  // No merge makes what was added.
  v->scores.resize(v->tokens.size(), -1000.0f);
  for (size_t i = model.tokens.size(); i < v->tokens.size(); ++i) {
    if (v->types[i] == TokenType::kUnused) v->scores[i] = -10000.0f;
  }
  *defaults = {model.bos_id, model.eos_id, model.unk_id, model.pad_id};
  return OkStatus();
}

inline Status LoadMergesText(const std::string& path, std::string_view text, Vocab* v) {
  for (size_t pos = 0; pos < text.size();) {
    const size_t end = std::min(text.find('\n', pos), text.size());
    std::string_view line = text.substr(pos, end - pos);
    if (line.ends_with('\r')) line.remove_suffix(1);
    // Only this comment: "#" may begin a merge.
    if (!line.empty() && !(pos == 0 && line.starts_with("#version"))) {
      if (v->merges.size() >= kMaxTokens) return LimitError(path + ": too many merges");
      v->merges.emplace_back(line);
    }
    pos = end + 1;
  }
  return OkStatus();
}

// The families whose splitting is known by the name of their class.
inline Status LoadFamily(const Files& f, Vocab* v, std::string* end_of_text) {
  std::string name = String(Get(&f.tokenizer_config, "tokenizer_class")).value_or("");
  if (name.empty()) name = String(Get(&f.config, "tokenizer_class")).value_or("");
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  v->model = "gpt2";
  *end_of_text = "<|endoftext|>";
  if (name == "GPT2Tokenizer") {
    v->pre = "gpt-2";
    v->add_space_prefix = v->space_prefix_if_missing = Bool(Get(&f.tokenizer_config, "add_prefix_space"), false);
    return OkStatus();
  }
  if (name == "Qwen2Tokenizer") {
    v->pre = "qwen2";
    v->nfc = true;
    return OkStatus();
  }
  return Unsupported(f.dir + ": has only vocab.json and merges.txt, which do not say how text is split, and " +
                     (name.empty() ? "no tokenizer_class" : "tokenizer_class " + Quote(name)) +
                     " (GPT2Tokenizer and Qwen2Tokenizer are known); save the tokenizer as tokenizer.json, e.g. by "
                     "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) of transformers");
}

inline Status LoadVocabAndMerges(const Files& f, std::string_view merges, Vocab* v, SpecialIds* defaults) {
  const std::string path = f.dir + "/vocab.json";
  std::string end_of_text;
  WF_TRY(LoadFamily(f, v, &end_of_text));
  json::value vocab;
  WF_TRY(ReadJson(path, &vocab));
  std::set<std::string> special = SpecialTexts(f);
  special.insert(end_of_text);
  TokenTable table(path, v);
  for (const auto& entry : vocab.get_object()) {
    const std::string text(entry.key().data(), entry.key().size());
    const TokenType type = special.count(text) > 0 ? TokenType::kControl : TokenType::kNormal;
    WF_TRY(table.Add(text, Int(&entry.value()), type, false));
  }
  const Result<std::set<int64_t>> added = LoadAddedTokensOfConfig(f, special, &table, v);
  if (!added.ok()) return added.status();
  WF_TRY(table.PadToConfig(f));
  WF_TRY(LoadMergesText(f.dir + "/merges.txt", merges, v));
  const int32_t end = IdOfText(*v, end_of_text);
  *defaults = {v->pre == "gpt-2" ? end : -1, end, -1, -1};
  return OkStatus();
}

// `f`: the JSON files are read. Its tokenizer_path becomes that of the file that was taken, for messages.
inline Status LoadWithoutJson(Files* f, Vocab* v, SpecialIds* defaults) {
  const auto open = [&](const char* name) { return MappedFile::Open(f->dir + name); };
  const Result<MappedFile> model = open("/tokenizer.model");
  if (model.ok()) {
    f->tokenizer_path = f->dir + "/tokenizer.model";
    if (model->bytes().size() > size_t{256} << 20) return LimitError(f->tokenizer_path + ": more than 256 MiB");
    return LoadSentencePiece(*f, model->bytes(), v, defaults);
  }
  if (model.status().code() != ErrorCode::kNotFound) return model.status();
  const Result<MappedFile> merges = open("/merges.txt");
  if (merges.ok()) {
    f->tokenizer_path = f->dir + "/vocab.json";
    return LoadVocabAndMerges(*f, merges->bytes(), v, defaults);
  }
  if (merges.status().code() != ErrorCode::kNotFound) return merges.status();
  return NotFound(f->dir + ": no tokenizer.json, tokenizer.model or vocab.json with merges.txt");
}

}  // namespace wf::detail::hf
#endif  // WF_TOKENIZER_HF_SLOW_IMPL_H_
