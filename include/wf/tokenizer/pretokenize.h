// SPDX-License-Identifier: Apache-2.0
// Cuts text into the words inside which byte-level BPE merges. Patterns are data: a list known by the name
// that GGUF files use, or taken from a tokenizer.json. Not for special tokens (tokenizer.h).
#ifndef WF_TOKENIZER_PRETOKENIZE_H_
#define WF_TOKENIZER_PRETOKENIZE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "wf/base/inline.h"
#include "wf/base/status.h"
#include "wf/tokenizer/regex.h"

namespace wf {

// What a value of tokenizer.ggml.pre stands for.
struct PreTokenizerRule {
  std::vector<std::string> patterns;
  bool ignore_merges = false;
  bool add_bos = false;  // when the file does not say
  bool nfc = false;
};

// kUnsupported for an unknown name; the message lists those that are known.
Result<PreTokenizerRule> FindPreTokenizer(std::string_view name);

// The name that means exactly these patterns, for the files we write; empty if there is none.
std::string NameOfPatterns(const std::vector<std::string>& patterns, bool ignore_merges);

// Single patterns, by the names of the format description.
namespace split {
extern const char kLlama3[], kQwen2[], kQwen35[], kGpt2[], kGpt4o[];
extern const char kDigit[], kDigits[], kThreeDigits[], kOneDigit[], kPunctuation[], kPunctuationAscii[];
extern const char kOnePunctuationAscii[];
}  // namespace split

// Immutable, safe for concurrent use.
class PreTokenizer {
 public:
  // Patterns from index byte_level_at on (-1: none) see their piece written in the byte alphabet.
  static Result<PreTokenizer> Create(const std::vector<std::string>& patterns, int32_t byte_level_at = -1);

  // Appends the pieces of `text`, views into it that cover it completely. Every pattern splits every piece
  // that the patterns before it left. Text that is not UTF-8 loses nothing: each invalid byte sequence is a
  // piece of its own and its neighbours are split as separate texts.
  Status Split(std::string_view text, std::vector<std::string_view>* pieces) const;

 private:
  Status SplitValid(std::string_view text, Regex::Scratch* scratch, std::vector<std::string_view>* pieces) const;
  std::vector<Regex> patterns_;
  size_t byte_level_at_ = 0;
};

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/tokenizer/pretokenize-impl.h"
#endif
#endif  // WF_TOKENIZER_PRETOKENIZE_H_
