// SPDX-License-Identifier: Apache-2.0
// Bodies of vocab.h: tokenizer.* keys in and out of GGUF.
#ifndef WF_TOKENIZER_VOCAB_IMPL_H_
#define WF_TOKENIZER_VOCAB_IMPL_H_

#include <algorithm>
#include <limits>
#include <string_view>
#include <tuple>
#include <unordered_map>

#include "wf/tokenizer/chat_template.h"
#include "wf/tokenizer/pretokenize.h"
#include "wf/tokenizer/vocab.h"

namespace wf {

namespace detail {

// Ids are int32_t and every table has an entry per token; real vocabularies end near 300,000.
inline constexpr size_t kMaxTokens = size_t{1} << 24;

// Real ones end near 300; tables of special tokens and look-ups of pieces grow with the longest.
inline constexpr size_t kMaxTokenBytes = 4096;

inline std::string ReplaceAll(std::string_view in, std::string_view from, std::string_view to) {
  std::string out;
  out.reserve(in.size() * 2);
  for (size_t pos = 0; pos < in.size();) {
    const size_t hit = std::min(in.find(from, pos), in.size());
    out.append(in, pos, hit - pos);
    if (hit < in.size()) out.append(to);
    pos = hit == in.size() ? hit : hit + from.size();
  }
  return out;
}

struct SpecialIdKey {
  const char* key;
  int32_t Vocab::*member;
};
inline constexpr SpecialIdKey kSpecialIdKeys[] = {
    {"tokenizer.ggml.bos_token_id", &Vocab::bos_id},         {"tokenizer.ggml.eos_token_id", &Vocab::eos_id},
    {"tokenizer.ggml.eot_token_id", &Vocab::eot_id},         {"tokenizer.ggml.eom_token_id", &Vocab::eom_id},
    {"tokenizer.ggml.unknown_token_id", &Vocab::unk_id},     {"tokenizer.ggml.seperator_token_id", &Vocab::sep_id},
    {"tokenizer.ggml.padding_token_id", &Vocab::pad_id},     {"tokenizer.ggml.mask_token_id", &Vocab::mask_id},
    {"tokenizer.ggml.fim_pad_token_id", &Vocab::fim_pad_id}, {"tokenizer.ggml.fim_rep_token_id", &Vocab::fim_rep_id},
    {"tokenizer.ggml.fim_sep_token_id", &Vocab::fim_sep_id},
};
inline constexpr char kMatchIdsKey[] = "wf.tokenizer.match_token_ids";
inline constexpr char kMatchFlagsKey[] = "wf.tokenizer.match_flags";

struct SpecialListKey {
  const char* key;
  std::vector<int32_t> Vocab::*member;
};
inline constexpr SpecialListKey kSpecialListKeys[] = {
    {"wf.tokenizer.eos_token_ids", &Vocab::eos_ids},
    {"tokenizer.ggml.suppress_tokens", &Vocab::suppress_ids},
};

// Any integer that is not an id becomes -2, which ValidateVocab turns into "none" with a warning.
inline int32_t IdOf(int64_t v) noexcept {
  return v < 0 || v > std::numeric_limits<int32_t>::max() ? -2 : static_cast<int32_t>(v);
}

template <class T>
Status Assign(Result<T> r, T* out) {
  if (!r.ok()) return r.status();
  *out = *std::move(r);
  return OkStatus();
}

inline Status ReadString(const Gguf& gguf, const char* key, std::string* out) {
  WF_ASSIGN(const std::string_view v, gguf.GetStringOr(key, *out));
  *out = std::string(v);
  return OkStatus();
}

inline Status ReadStrings(const Gguf& gguf, const char* key, std::vector<std::string>* out) {
  if (gguf.Find(key) == nullptr) return OkStatus();
  WF_ASSIGN(const auto v, gguf.GetStringArray(key));
  out->assign(v.begin(), v.end());
  return OkStatus();
}

inline Status ReadSpecialIds(const Gguf& gguf, Vocab* v) {
  for (const SpecialIdKey& s : kSpecialIdKeys) {
    if (gguf.Find(s.key) == nullptr) continue;
    WF_ASSIGN(const int64_t id, gguf.GetInt(s.key));
    v->*s.member = IdOf(id);
  }
  for (const SpecialListKey& s : kSpecialListKeys) {
    if (gguf.Find(s.key) == nullptr) continue;
    WF_ASSIGN(const auto ids, gguf.GetIntArray(s.key));
    for (const int64_t id : ids) (v->*s.member).push_back(IdOf(id));
  }
  return OkStatus();
}

inline Status ReadTokens(const Gguf& gguf, Vocab* v) {
  WF_TRY(ReadStrings(gguf, "tokenizer.ggml.tokens", &v->tokens));
  WF_TRY(ReadStrings(gguf, "tokenizer.ggml.merges", &v->merges));
  if (gguf.Find("tokenizer.ggml.scores") != nullptr) {
    WF_TRY(Assign(gguf.GetFloatArray("tokenizer.ggml.scores"), &v->scores));
    if (v->scores.size() > v->tokens.size()) {
      v->warnings.push_back("tokenizer.ggml.scores has " + std::to_string(v->scores.size()) + " elements for " +
                            std::to_string(v->tokens.size()) + " tokens; the rest is ignored");
      v->scores.resize(v->tokens.size());
    }
  }
  if (gguf.Find("tokenizer.ggml.token_type") == nullptr) {
    v->types.assign(v->tokens.size(), TokenType::kNormal);
    return OkStatus();
  }
  WF_ASSIGN(const auto types, gguf.GetIntArray("tokenizer.ggml.token_type"));
  for (size_t i = 0; i < types.size() && i < v->tokens.size(); ++i) {
    if (types[i] < 0 || types[i] > 6) {
      return FormatError(gguf.name() + ": tokenizer.ggml.token_type[" + std::to_string(i) + "] is " +
                         std::to_string(types[i]) + ", expected 0..6");
    }
    v->types.push_back(static_cast<TokenType>(types[i]));
  }
  return OkStatus();
}

inline void TakeRule(const PreTokenizerRule& rule, Vocab* v) {
  v->ignore_merges = rule.ignore_merges;
  v->add_bos = rule.add_bos;
  v->nfc = rule.nfc;
}

// Ternary types that only Microsoft's converter of 2025 wrote (TL1 and TL2 by their ids there).
inline bool HasMicrosoftTypes(const Gguf& gguf) {
  return std::any_of(gguf.tensors().begin(), gguf.tensors().end(), [](const GgufTensor& t) {
    const auto id = static_cast<uint32_t>(t.type);
    return id == 36 || id == 38 || id == 39;
  });
}

// The pre-tokenizer and the flags that hang on it (byte-level BPE only).
inline Status ReadPreTokenizer(const Gguf& gguf, std::string_view arch, std::string_view wanted, Vocab* v) {
  WF_TRY(ReadString(gguf, "tokenizer.ggml.pre", &v->pre));
  if (!wanted.empty()) {
    v->pre = std::string(wanted);
    WF_ASSIGN(const PreTokenizerRule rule, FindPreTokenizer(v->pre));
    TakeRule(rule, v);
    return OkStatus();
  }
  WF_TRY(ReadStrings(gguf, "wf.tokenizer.split_patterns", &v->split_patterns));
  if (gguf.Find("wf.tokenizer.byte_level_at") != nullptr) {
    WF_ASSIGN(const int64_t at, gguf.GetInt("wf.tokenizer.byte_level_at"));
    v->byte_level_at = static_cast<int32_t>(std::clamp<int64_t>(at, -1, std::numeric_limits<int32_t>::max()));
  }
  if (v->pre.empty() && v->split_patterns.empty()) {
    const bool llama3 = v->tokens.size() == 128256 && v->tokens[128000] == "<|begin_of_text|>";
    v->pre = llama3 || arch.starts_with("bitnet") ? "llama-bpe" : "default";
    v->warnings.push_back("tokenizer.ggml.pre is missing, assuming " + v->pre);
  }
  if (v->pre.empty()) return OkStatus();
  if (v->pre == "falcon3" && v->split_patterns.empty() && HasMicrosoftTypes(gguf)) {
    v->pre = "falcon_e";
    v->warnings.push_back(
        "tokenizer.ggml.pre is falcon3 in a file with tensors of bitnet.cpp, which splits as falcon_e by it; a "
        "conversion from the model's tokenizer.json is safe from this ambiguity");
  }
  Result<PreTokenizerRule> rule = FindPreTokenizer(v->pre);
  if (!rule.ok()) {
    if (v->split_patterns.empty()) return rule.status().WithContext(gguf.name() + ": tokenizer.ggml.pre");
    return OkStatus();
  }
  TakeRule(*rule, v);
  return OkStatus();
}

inline Status ReadFlags(const Gguf& gguf, Vocab* v) {
  const struct {
    const char* key;
    bool Vocab::*member;
  } flags[] = {
      {"tokenizer.ggml.add_bos_token", &Vocab::add_bos},
      {"tokenizer.ggml.add_eos_token", &Vocab::add_eos},
      {"tokenizer.ggml.add_space_prefix", &Vocab::add_space_prefix},
      {"tokenizer.ggml.remove_extra_whitespaces", &Vocab::remove_extra_whitespaces},
      {"wf.tokenizer.fuse_unk", &Vocab::fuse_unk},
      {"wf.tokenizer.space_prefix_first_only", &Vocab::space_prefix_first_only},
      {"wf.tokenizer.space_prefix_if_missing", &Vocab::space_prefix_if_missing},
      {"wf.tokenizer.ignore_merges", &Vocab::ignore_merges},
      {"wf.tokenizer.nfc", &Vocab::nfc},
  };
  for (const auto& f : flags) WF_TRY(Assign(gguf.GetBoolOr(f.key, v->*f.member), &(v->*f.member)));
  if (v->model != "gpt2") return OkStatus();
  // Byte-level files of other writers repeat a configuration's add_prefix_space that means nothing there; ours
  // say with a key of their own that it does.
  v->add_space_prefix = v->add_space_prefix && v->space_prefix_if_missing;
  v->remove_extra_whitespaces = false;
  return OkStatus();
}

inline Status ReadMatches(const Gguf& gguf, Vocab* v) {
  if (gguf.Find(kMatchIdsKey) == nullptr) return OkStatus();
  WF_ASSIGN(const auto ids, gguf.GetIntArray(kMatchIdsKey));
  WF_ASSIGN(const auto flags, gguf.GetIntArray(kMatchFlagsKey));
  if (flags.size() != ids.size()) {
    return FormatError(gguf.name() + ": " + kMatchFlagsKey + " has " + std::to_string(flags.size()) + " elements, " +
                       kMatchIdsKey + " " + std::to_string(ids.size()));
  }
  for (size_t i = 0; i < ids.size(); ++i) {
    v->matches.push_back({IdOf(ids[i]), static_cast<int32_t>(std::clamp<int64_t>(flags[i], 0, 31))});
  }
  return OkStatus();
}

// The published BitNet file names <|end_of_text|> as its only end, but the model was trained to end its answers
// with <|eot_id|>.
inline void CorrectEnds(std::string_view arch, Vocab* v) {
  if (!arch.starts_with("bitnet") || v->eot_id >= 0) return;
  const auto it = std::find(v->tokens.begin(), v->tokens.end(), "<|eot_id|>");
  if (it == v->tokens.end()) return;
  const auto id = static_cast<int32_t>(it - v->tokens.begin());
  if (v->types[static_cast<size_t>(id)] == TokenType::kUnused) return;
  if (id == v->eos_id || std::find(v->eos_ids.begin(), v->eos_ids.end(), id) != v->eos_ids.end()) return;
  v->eot_id = id;
  v->warnings.push_back("tokenizer.ggml.eos_token_id is " + std::to_string(v->eos_id) +
                        " and no other end is named; generation stops at <|eot_id|> (" + std::to_string(id) +
                        "), too, as the model was trained");
}

inline Status ReadChatTemplates(const Gguf& gguf, std::string_view arch, Vocab* v) {
  WF_TRY(ReadString(gguf, "tokenizer.chat_template", &v->chat_template));
  if (arch.starts_with("bitnet") && CorrectedTemplate(v->chat_template) != v->chat_template) {
    v->chat_template = std::string(CorrectedTemplate(v->chat_template));
    v->warnings.push_back("tokenizer.chat_template is the converter's placeholder, using the model's own template");
  }
  std::vector<std::string> names;
  WF_TRY(ReadStrings(gguf, "tokenizer.chat_templates", &names));
  for (const std::string& name : names) {
    WF_ASSIGN(const auto text, gguf.GetString("tokenizer.chat_template." + name));
    v->named_chat_templates.emplace_back(name, std::string(text));
  }
  return OkStatus();
}

inline Status ValidateIds(const std::string& where, Vocab* v) {
  const auto n = static_cast<int32_t>(v->tokens.size());
  for (const SpecialIdKey& s : kSpecialIdKeys) {
    int32_t& id = v->*s.member;
    if (id == -1 || (id >= 0 && id < n)) continue;
    v->warnings.push_back(where + ": " + s.key + " is not an id of the " + std::to_string(n) + " tokens, ignored");
    id = -1;
  }
  for (const SpecialListKey& s : kSpecialListKeys) {
    std::vector<int32_t>& ids = v->*s.member;
    const auto bad = std::remove_if(ids.begin(), ids.end(), [n](int32_t id) { return id < 0 || id >= n; });
    if (bad == ids.end()) continue;
    v->warnings.push_back(where + ": " + s.key + " has " + std::to_string(ids.end() - bad) +
                          " ids that are none of the " + std::to_string(n) + " tokens, ignored");
    ids.erase(bad, ids.end());
  }
  auto& m = v->matches;
  std::sort(m.begin(), m.end(), [](const TokenMatch& a, const TokenMatch& b) { return a.id < b.id; });
  const auto last = std::unique(m.begin(), m.end(), [](const auto& a, const auto& b) { return a.id == b.id; });
  const auto bad = std::remove_if(m.begin(), last, [n](const TokenMatch& t) { return t.id < 0 || t.id >= n; });
  if (bad != m.end()) {
    v->warnings.push_back(where + ": " + std::to_string(m.end() - bad) +
                          " flags of tokens that do not exist or are named twice, ignored");
    m.erase(bad, m.end());
  }
  return OkStatus();
}

inline void WarnOfDuplicates(const std::string& where, Vocab* v) {
  std::unordered_map<std::string_view, size_t> first;
  first.reserve(v->tokens.size());
  size_t count = 0, example = 0;
  for (size_t i = 0; i < v->tokens.size(); ++i) {
    if (!first.try_emplace(v->tokens[i], i).second && count++ == 0) example = i;
  }
  if (count == 0) return;
  v->warnings.push_back(where + ": " + std::to_string(count) + " tokens repeat the text of an earlier one, e.g. " +
                        std::to_string(example) + " that of " + std::to_string(first[v->tokens[example]]) +
                        "; texts are encoded with the first");
}

}  // namespace detail

WF_MODEL_INLINE int ByteTokenValue(const std::string& text) noexcept {
  if (text.size() != 6 || text.compare(0, 3, "<0x") != 0 || text[5] != '>') return -1;
  int value = 0;
  for (const char c : {text[3], text[4]}) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                             : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

WF_MODEL_INLINE Status ValidateVocab(const std::string& where, Vocab* v) {
  const std::string count = std::to_string(v->tokens.size());
  if (v->tokens.empty()) return FormatError(where + ": the vocabulary has no tokens");
  if (v->tokens.size() > detail::kMaxTokens) {
    return LimitError(where + ": " + count + " tokens, at most " + std::to_string(detail::kMaxTokens) +
                      " are supported");
  }
  if (v->merges.size() > detail::kMaxTokens) {
    return LimitError(where + ": " + std::to_string(v->merges.size()) + " merges, at most " +
                      std::to_string(detail::kMaxTokens) + " are supported");
  }
  if (v->types.size() != v->tokens.size()) {
    return FormatError(where + ": " + std::to_string(v->types.size()) + " token types for " + count + " tokens");
  }
  if (v->scores.size() != v->tokens.size() && (v->model == "llama" || !v->scores.empty())) {
    return FormatError(where + ": " + std::to_string(v->scores.size()) + " scores for " + count + " tokens");
  }
  for (size_t i = 0; i < v->tokens.size(); ++i) {
    if (v->tokens[i].size() > detail::kMaxTokenBytes) {
      return LimitError(where + ": token " + std::to_string(i) + " has " + std::to_string(v->tokens[i].size()) +
                        " bytes, at most " + std::to_string(detail::kMaxTokenBytes) + " are supported");
    }
    if (v->types[i] == TokenType::kByte && ByteTokenValue(v->tokens[i]) < 0) {
      return FormatError(where + ": byte token " + std::to_string(i) + " is '" + v->tokens[i].substr(0, 40) +
                         "', expected <0xNN> with two hex digits");
    }
  }
  for (size_t i = 0; i < v->merges.size(); ++i) {
    // A part may itself begin with a space, so the separator is the first one that is not at the front.
    const size_t space = v->merges[i].empty() ? std::string::npos : v->merges[i].find(' ', 1);
    if (space == std::string::npos || space + 1 == v->merges[i].size()) {
      return FormatError(where + ": merge " + std::to_string(i) + " is '" + v->merges[i].substr(0, 40) +
                         "', expected two parts with a space between them");
    }
  }
  detail::WarnOfDuplicates(where, v);
  return detail::ValidateIds(where, v);
}

WF_MODEL_INLINE bool operator==(const Vocab& a, const Vocab& b) {
  const auto tie = [](const Vocab& v) {
    return std::tie(v.model, v.pre, v.split_patterns, v.byte_level_at, v.ignore_merges, v.nfc, v.tokens, v.scores,
                    v.types, v.merges, v.eos_ids, v.suppress_ids, v.add_bos, v.add_eos, v.add_space_prefix,
                    v.space_prefix_first_only, v.space_prefix_if_missing, v.remove_extra_whitespaces, v.fuse_unk,
                    v.matches, v.chat_template, v.named_chat_templates);
  };
  return tie(a) == tie(b) && std::all_of(std::begin(detail::kSpecialIdKeys), std::end(detail::kSpecialIdKeys),
                                         [&](const auto& s) { return a.*s.member == b.*s.member; });
}

WF_MODEL_INLINE Result<Vocab> VocabFromGguf(const Gguf& gguf, std::string_view pre) {
  Vocab v;
  WF_ASSIGN(const std::string_view model, gguf.GetString("tokenizer.ggml.model"));
  v.model = std::string(model);
  if (v.model != "gpt2" && v.model != "llama") {
    return Unsupported(gguf.name() + ": tokenizer.ggml.model is '" + v.model + "', expected gpt2 or llama");
  }
  if (gguf.Find("tokenizer.ggml.tokens") == nullptr) {
    return NotFound(gguf.name() + ": no tokenizer.ggml.tokens, the file has no vocabulary");
  }
  WF_ASSIGN(const std::string_view arch, gguf.GetStringOr("general.architecture", ""));
  WF_TRY(detail::ReadTokens(gguf, &v));
  if (v.model == "llama") {
    v.bos_id = 1;
    v.eos_id = 2;
    v.unk_id = 0;
    v.add_bos = v.add_space_prefix = true;
    WF_TRY(detail::ReadStrings(gguf, "wf.tokenizer.split_patterns", &v.split_patterns));
  } else {
    WF_TRY(detail::ReadPreTokenizer(gguf, arch, pre, &v));
  }
  WF_TRY(detail::ReadSpecialIds(gguf, &v));
  WF_TRY(detail::ReadFlags(gguf, &v));
  WF_TRY(detail::ReadMatches(gguf, &v));
  WF_TRY(detail::ReadChatTemplates(gguf, arch, &v));
  WF_TRY(ValidateVocab(gguf.name(), &v));
  detail::CorrectEnds(arch, &v);
  return v;
}

WF_MODEL_INLINE void WriteVocab(const Vocab& v, GgufWriter* w) {
  w->SetString("tokenizer.ggml.model", v.model);
  // Other readers want a name for SentencePiece too; ours ignores it there.
  if (v.model == "llama") w->SetString("tokenizer.ggml.pre", "default");
  if (v.model != "llama" && !v.pre.empty()) w->SetString("tokenizer.ggml.pre", v.pre);
  if (!v.split_patterns.empty()) w->SetStrings("wf.tokenizer.split_patterns", v.split_patterns);
  if (v.byte_level_at >= 0) w->SetI32("wf.tokenizer.byte_level_at", v.byte_level_at);
  w->SetStrings("tokenizer.ggml.tokens", v.tokens);
  if (!v.scores.empty()) w->SetF32s("tokenizer.ggml.scores", v.scores);
  std::vector<int32_t> types;
  for (const TokenType t : v.types) types.push_back(static_cast<int32_t>(t));
  w->SetI32s("tokenizer.ggml.token_type", types);
  if (!v.merges.empty()) w->SetStrings("tokenizer.ggml.merges", v.merges);
  for (const detail::SpecialIdKey& s : detail::kSpecialIdKeys) {
    const int32_t id = v.*s.member;
    // "None" must be said where an absent key means an id: out of range for every reader.
    if (id >= 0) w->SetU32(s.key, static_cast<uint32_t>(id));
    const bool has_default = s.member == &Vocab::bos_id || s.member == &Vocab::eos_id || s.member == &Vocab::unk_id;
    if (id < 0 && v.model == "llama" && has_default) w->SetU32(s.key, std::numeric_limits<uint32_t>::max());
  }
  for (const detail::SpecialListKey& s : detail::kSpecialListKeys) {
    if (!(v.*s.member).empty()) w->SetI32s(s.key, v.*s.member);
  }
  w->SetBool("tokenizer.ggml.add_bos_token", v.add_bos);
  w->SetBool("tokenizer.ggml.add_eos_token", v.add_eos);
  w->SetBool("tokenizer.ggml.add_space_prefix", v.add_space_prefix);
  if (v.remove_extra_whitespaces) w->SetBool("tokenizer.ggml.remove_extra_whitespaces", true);
  if (v.fuse_unk) w->SetBool("wf.tokenizer.fuse_unk", true);
  if (!v.matches.empty()) {
    std::vector<int32_t> ids, flags;
    for (const TokenMatch& m : v.matches) {
      ids.push_back(m.id);
      flags.push_back(m.flags);
    }
    w->SetI32s(detail::kMatchIdsKey, ids);
    w->SetI32s(detail::kMatchFlagsKey, flags);
  }
  w->SetBool("wf.tokenizer.space_prefix_first_only", v.space_prefix_first_only);
  w->SetBool("wf.tokenizer.space_prefix_if_missing", v.space_prefix_if_missing);
  w->SetBool("wf.tokenizer.ignore_merges", v.ignore_merges);
  w->SetBool("wf.tokenizer.nfc", v.nfc);
  if (!v.chat_template.empty()) w->SetString("tokenizer.chat_template", v.chat_template);
  if (v.named_chat_templates.empty()) return;
  std::vector<std::string> names;
  for (const auto& [name, text] : v.named_chat_templates) {
    names.push_back(name);
    w->SetString("tokenizer.chat_template." + name, text);
  }
  w->SetStrings("tokenizer.chat_templates", names);
}

}  // namespace wf
#endif  // WF_TOKENIZER_VOCAB_IMPL_H_
