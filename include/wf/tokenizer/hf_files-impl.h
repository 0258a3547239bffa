// SPDX-License-Identifier: Apache-2.0
// What all readers of a Hugging Face folder share: its JSON files, and the table of tokens that is filled from
// several of them. Part of vocab_hf-impl.h.
#ifndef WF_TOKENIZER_HF_FILES_IMPL_H_
#define WF_TOKENIZER_HF_FILES_IMPL_H_

#include <boost/json.hpp>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "wf/base/mmap.h"
#include "wf/base/status.h"
#include "wf/tokenizer/vocab-impl.h"

namespace wf::detail::hf {

namespace json = boost::json;

// The member, or nullptr if `v` is no object or has none.
inline const json::value* Get(const json::value* v, std::string_view key) {
  return v != nullptr && v->is_object() ? v->get_object().if_contains(json::string_view(key.data(), key.size()))
                                        : nullptr;
}
inline std::optional<std::string> String(const json::value* v) {
  if (v == nullptr || !v->is_string()) return std::nullopt;
  return std::string(v->get_string().data(), v->get_string().size());
}
inline bool Bool(const json::value* v, bool fallback) {
  return v != nullptr && v->is_bool() ? v->get_bool() : fallback;
}
inline std::string TypeOf(const json::value* v) { return String(Get(v, "type")).value_or("of no type"); }

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

  // Fills what no token has, up to config.json's vocab_size if it says one.
  Status PadToConfig(const Files& f) {
    const size_t tokens = v_->tokens.size();
    if (const json::value* size = Get(&f.config, "vocab_size"); size != nullptr && !size->is_null()) {
      const std::optional<int64_t> n = Int(size);
      if (!n || *n < 1 || *n > static_cast<int64_t>(kMaxTokens)) {
        return FormatError(f.dir + "/config.json: vocab_size is not a number of 1.." + std::to_string(kMaxTokens));
      }
      if (static_cast<size_t>(*n) < tokens) {
        v_->warnings.push_back(f.dir + "/config.json: vocab_size is " + std::to_string(*n) +
                               ", but the tokenizer has " + std::to_string(tokens) + " tokens");
      }
      Pad(static_cast<size_t>(*n));
    }
    Pad(tokens);
    return OkStatus();
  }

 private:
  void Pad(size_t size) {
    if (size > v_->tokens.size()) Resize(size);
    for (size_t i = 0; i < used_.size(); ++i) {
      if (!used_[i]) v_->tokens[i] = "[PAD" + std::to_string(i) + "]";
    }
  }
  void Resize(size_t n) {
    v_->tokens.resize(n);
    v_->types.resize(n, TokenType::kUnused);
    used_.resize(n, false);
  }
  const std::string& path_;
  Vocab* v_;
  std::vector<bool> used_;
};

// The flags of an added token. Its own default for `normalized` is what the library's is.
inline int32_t MatchFlags(const json::value* token, bool special) {
  int32_t flags = 0;
  if (Bool(Get(token, "lstrip"), false)) flags |= TokenMatch::kLstrip;
  if (Bool(Get(token, "rstrip"), false)) flags |= TokenMatch::kRstrip;
  if (Bool(Get(token, "single_word"), false)) flags |= TokenMatch::kSingleWord;
  if (Bool(Get(token, "normalized"), !special)) flags |= TokenMatch::kNormalized;
  return flags;
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

}  // namespace wf::detail::hf
#endif  // WF_TOKENIZER_HF_FILES_IMPL_H_
