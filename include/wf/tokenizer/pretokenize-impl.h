// SPDX-License-Identifier: Apache-2.0
// Bodies of pretokenize.h.
#ifndef WF_TOKENIZER_PRETOKENIZE_IMPL_H_
#define WF_TOKENIZER_PRETOKENIZE_IMPL_H_

#include <algorithm>
#include <utility>

#include "wf/base/quote.h"
#include "wf/tokenizer/byte_alphabet.h"
#include "wf/tokenizer/pretokenize.h"
#include "wf/tokenizer/utf8.h"

namespace wf {

namespace split {
#define WF_DETAIL_CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define WF_DETAIL_SPACES "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define WF_DETAIL_NO_LETTER "[^\\r\\n\\p{L}\\p{N}]?"
WF_MODEL_INLINE const char kLlama3[] = WF_DETAIL_CONTRACTIONS
    "|" WF_DETAIL_NO_LETTER "\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" WF_DETAIL_SPACES;
WF_MODEL_INLINE const char kQwen2[] =
    WF_DETAIL_CONTRACTIONS "|" WF_DETAIL_NO_LETTER "\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" WF_DETAIL_SPACES;
WF_MODEL_INLINE const char kQwen35[] = WF_DETAIL_CONTRACTIONS
    "|" WF_DETAIL_NO_LETTER "[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" WF_DETAIL_SPACES;
WF_MODEL_INLINE const char kGpt2[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
WF_MODEL_INLINE const char kGpt4o[] =
    WF_DETAIL_NO_LETTER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+" WF_DETAIL_CONTRACTIONS
                        "?|" WF_DETAIL_NO_LETTER
                        "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*" WF_DETAIL_CONTRACTIONS
                        "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" WF_DETAIL_SPACES;
#undef WF_DETAIL_CONTRACTIONS
#undef WF_DETAIL_SPACES
#undef WF_DETAIL_NO_LETTER
WF_MODEL_INLINE const char kDigit[] = "\\p{N}";
WF_MODEL_INLINE const char kDigits[] = "\\p{N}+";
WF_MODEL_INLINE const char kThreeDigits[] = "[0-9][0-9][0-9]";
WF_MODEL_INLINE const char kOneDigit[] = "[0-9]";
WF_MODEL_INLINE const char kPunctuation[] = "[\\p{P}\\$\\+<=>\\^~\\|]+";
WF_MODEL_INLINE const char kPunctuationAscii[] = "[\\p{P}\\$\\+<=>\\^~\\|`]+";
WF_MODEL_INLINE const char kOnePunctuationAscii[] = "[\\p{P}\\$\\+<=>\\^~\\|`]";
}  // namespace split

namespace detail {

struct NamedRule {
  std::vector<std::string_view> names;  // the first is the one we write
  PreTokenizerRule rule;
};

inline const std::vector<NamedRule>& PreTokenizerTable() {
  static const std::vector<NamedRule> table = {
      {{"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "lfm2", "midm-2.0"},
       {.patterns = {split::kLlama3}, .ignore_merges = true, .add_bos = true}},
      {{"smaug-bpe", "dbrx", "chatglm-bpe", "glm4"}, {.patterns = {split::kLlama3}}},
      // The tokenizers that Qwen's names stand for normalise to NFC. llama.cpp never does; without it decomposed
      // text would give ids that the model has not seen.
      {{"qwen2"}, {.patterns = {split::kQwen2}, .nfc = true}},
      {{"stablelm2", "deepseek-r1-qwen", "megrez", "kormo"}, {.patterns = {split::kQwen2}}},
      {{"qwen35"}, {.patterns = {split::kQwen35}, .nfc = true}},
      {{"gpt-2", "phi-2", "mpt", "olmo", "jais", "a.x-4.0", "mellum", "gigachat", "exaone4"},
       {.patterns = {split::kGpt2}}},
      {{"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"},
       {.patterns = {split::kDigit, split::kGpt2}}},
      {{"falcon"}, {.patterns = {split::kPunctuationAscii, split::kGpt2, split::kThreeDigits}}},
      {{"falcon_e"}, {.patterns = {split::kPunctuationAscii, split::kGpt2, split::kOneDigit}}},
      {{"default"}, {.patterns = {split::kPunctuation, split::kGpt2, split::kDigits, split::kThreeDigits}}},
      {{"gpt-4o", "llama4", "kanana2"}, {.patterns = {split::kGpt4o}}},
  };
  return table;
}

}  // namespace detail

WF_MODEL_INLINE Result<PreTokenizerRule> FindPreTokenizer(std::string_view name) {
  for (const detail::NamedRule& r : detail::PreTokenizerTable()) {
    if (std::find(r.names.begin(), r.names.end(), name) != r.names.end()) return r.rule;
  }
  std::string known;
  for (const detail::NamedRule& r : detail::PreTokenizerTable()) {
    for (const std::string_view n : r.names) known.append(known.empty() ? "" : ", ").append(n);
  }
  return Unsupported("unknown pre-tokenizer " + Quote(name) + ", expected one of " + known);
}

WF_MODEL_INLINE std::string NameOfPatterns(const std::vector<std::string>& patterns, bool ignore_merges) {
  std::string found;
  for (const detail::NamedRule& r : detail::PreTokenizerTable()) {
    if (r.rule.patterns != patterns) continue;
    if (r.rule.ignore_merges == ignore_merges) return std::string(r.names[0]);
    if (found.empty()) found = r.names[0];
  }
  return found;
}

WF_MODEL_INLINE Result<PreTokenizer> PreTokenizer::Create(const std::vector<std::string>& patterns,
                                                          int32_t byte_level_at) {
  PreTokenizer p;
  for (const std::string& pattern : patterns) {
    WF_ASSIGN(Regex regex, Regex::Compile(pattern));
    p.patterns_.push_back(std::move(regex));
  }
  p.byte_level_at_ =
      byte_level_at < 0 ? patterns.size() : std::min(patterns.size(), static_cast<size_t>(byte_level_at));
  return p;
}

WF_MODEL_INLINE Status PreTokenizer::Split(std::string_view text, std::vector<std::string_view>* pieces) const {
  Regex::Scratch scratch;
  size_t begin = 0;  // of the valid run
  for (size_t pos = 0; pos < text.size();) {
    const Utf8Char c = NextUtf8(text, pos);
    if (c.code < 0) {
      WF_TRY(SplitValid(text.substr(begin, pos - begin), &scratch, pieces));
      pieces->push_back(text.substr(pos, c.bytes));
      begin = pos + c.bytes;
    }
    pos += c.bytes;
  }
  return SplitValid(text.substr(begin), &scratch, pieces);
}

WF_MODEL_INLINE Status PreTokenizer::SplitValid(std::string_view text, Regex::Scratch* scratch,
                                                std::vector<std::string_view>* pieces) const {
  if (text.empty()) return OkStatus();
  std::vector<std::string_view> now = {text}, next, parts;
  for (size_t i = 0; i < patterns_.size(); ++i) {
    next.clear();
    for (const std::string_view piece : now) {
      if (i < byte_level_at_) {
        WF_TRY(patterns_[i].Split(piece, scratch, &next));
        continue;
      }
      const std::string mapped = BytesToAlphabet(piece);
      parts.clear();
      WF_TRY(patterns_[i].Split(mapped, scratch, &parts));
      size_t pos = 0;
      for (const std::string_view part : parts) {
        // One character of the alphabet is one byte of the piece.
        const auto bytes = static_cast<size_t>(
            std::count_if(part.begin(), part.end(), [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; }));
        next.push_back(piece.substr(pos, bytes));
        pos += bytes;
      }
    }
    now.swap(next);
  }
  pieces->insert(pieces->end(), now.begin(), now.end());
  return OkStatus();
}

}  // namespace wf
#endif  // WF_TOKENIZER_PRETOKENIZE_IMPL_H_
