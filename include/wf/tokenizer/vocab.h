// SPDX-License-Identifier: Apache-2.0
// A vocabulary as plain data: what the tokenizer.* keys of a GGUF file say, with the rules for absent keys
// applied, and the way back into a GGUF file. Not for encoding (tokenizer.h) or tokenizer.json (vocab_hf.h).
#ifndef WF_TOKENIZER_VOCAB_H_
#define WF_TOKENIZER_VOCAB_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "wf/base/inline.h"
#include "wf/base/status.h"
#include "wf/formats/gguf.h"
#include "wf/formats/gguf_writer.h"

namespace wf {

// The numbers are those of tokenizer.ggml.token_type.
enum class TokenType : int32_t {
  kUndefined = 0,
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,      // never made from a user's text
  kUserDefined = 4,  // found in any text before everything else
  kUnused = 5,       // never made, e.g. padding up to the rows of the embedding
  kByte = 6,         // "<0xNN>" of a SentencePiece vocabulary
};

// How a token that is found in text before everything else (kControl, kUserDefined) is found, as Hugging Face's
// "added tokens" say it.
struct TokenMatch {
  static constexpr int32_t kLstrip = 1;      // takes the white space before it along
  static constexpr int32_t kRstrip = 2;      // ... and after it
  static constexpr int32_t kSingleWord = 4;  // not where a letter, digit or underscore is next to it
  static constexpr int32_t kNormalized = 8;  // looked for in normalised text, after the tokens that are not
  static constexpr int32_t kPiece = 16;      // with kNormalized: itself not normalised, as in a tokenizer.model
  int32_t id = -1;
  int32_t flags = 0;
  bool operator==(const TokenMatch&) const = default;
};

struct Vocab {
  std::string model;  // "gpt2": byte-level BPE; "llama": SentencePiece-style BPE
  std::string pre;    // a name of pretokenize.h; empty for "llama" and for split patterns without a name
  // If not empty, used instead of the patterns that `pre` stands for. "gpt2": those from index byte_level_at on
  // see the text already written in the byte alphabet (pre-tokenizers after ByteLevel in a tokenizer.json);
  // -1: none does. "llama": they see the text with U+2581 for spaces; usually there are none.
  std::vector<std::string> split_patterns;
  int32_t byte_level_at = -1;
  bool ignore_merges = false;  // a word that is a token stays whole, whatever the merges say
  bool nfc = false;            // raw text is brought to NFC first

  std::vector<std::string> tokens;  // by id; byte alphabet ("gpt2") or with U+2581 for spaces ("llama")
  std::vector<float> scores;        // "llama": higher merges first, not finite = never merged; "gpt2": unused
  std::vector<TokenType> types;     // as many as tokens
  std::vector<std::string> merges;  // "left right", best first. "llama": if any, they and not the scores decide

  // Special ids; -1 = none, otherwise a valid id.
  int32_t bos_id = -1, eos_id = -1, eot_id = -1, eom_id = -1, unk_id = -1, sep_id = -1, pad_id = -1, mask_id = -1;
  int32_t fim_pad_id = -1, fim_rep_id = -1, fim_sep_id = -1;
  std::vector<int32_t> eos_ids;       // further ends of generation (a list in generation_config.json)
  std::vector<int32_t> suppress_ids;  // never to be sampled
  std::vector<TokenMatch> matches;    // ascending ids; tokens without an entry have no flags

  bool add_bos = false;
  bool add_eos = false;
  bool add_space_prefix = false;          // a space before the text and after each special token, ...
  bool space_prefix_first_only = false;   // ... only at the beginning of the whole text, ...
  bool space_prefix_if_missing = false;   // ... only if there is none yet; always set if a "gpt2" has a prefix
  bool remove_extra_whitespaces = false;  // "llama": spaces at the ends go, runs of them become one
  bool fuse_unk = false;                  // "llama": neighbouring unknown characters are one unknown token

  std::string chat_template;                                              // Jinja; empty: none
  std::vector<std::pair<std::string, std::string>> named_chat_templates;  // e.g. "tool_use"

  std::vector<std::string> warnings;  // what was odd but not fatal, for the log; not part of equality
};

bool operator==(const Vocab& a, const Vocab& b);

// Reads the tokenizer.* keys. Absent keys get the defaults of the model's family; a missing `pre` is
// llama-bpe for bitnet architectures and for Llama 3's 128256 tokens, else "default". `pre`, if not empty,
// overrides the file's, to get the ids of a program that assumes another. kNotFound without tokens,
// kUnsupported for other models and unknown `pre` names, kFormat for arrays of a wrong type or length, merges
// without a space and byte tokens that name no byte. Special ids out of range, duplicate tokens, replaced chat
// templates and ends of generation that the file does not name are warnings.
Result<Vocab> VocabFromGguf(const Gguf& gguf, std::string_view pre = {});

// Adds the tokenizer.* keys (and wf.tokenizer.* for what has no common key), so that VocabFromGguf gives
// an equal vocabulary.
void WriteVocab(const Vocab& vocab, GgufWriter* writer);

// The checks that do not depend on where a vocabulary came from: array lengths, ids, byte tokens, merges.
// Out-of-range special ids become -1 with a warning; `where` begins the messages.
Status ValidateVocab(const std::string& where, Vocab* vocab);

// The byte that a text of the form "<0xNN>" (exactly two hex digits) names, or -1.
int ByteTokenValue(const std::string& text) noexcept;

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/tokenizer/vocab-impl.h"
#endif
#endif  // WF_TOKENIZER_VOCAB_H_
