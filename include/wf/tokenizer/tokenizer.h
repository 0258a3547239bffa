// SPDX-License-Identifier: Apache-2.0
// Text to token ids and back, for byte-level BPE and SentencePiece-style vocabularies. Users' text can never
// become a control token; templates' text can. Not for chat templates (chat_template.h).
#ifndef WF_TOKENIZER_TOKENIZER_H_
#define WF_TOKENIZER_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "wf/base/inline.h"
#include "wf/base/status.h"
#include "wf/tokenizer/vocab.h"

namespace wf {

namespace detail {
struct TokenizerTables;
}

// Immutable, safe for concurrent use, cheap to copy (copies share their tables).
class Tokenizer {
 public:
  // Builds the tables. Tokens that end generation or are the BOS or mask token become control tokens if the
  // vocabulary calls them something else. kUnsupported or kFormat for a vocabulary that cannot work.
  static Result<Tokenizer> Create(Vocab vocab);
  static Result<Tokenizer> FromGguf(const Gguf& gguf);
  static Result<Tokenizer> FromHf(const std::string& dir);

  const Vocab& vocab() const noexcept;
  int32_t size() const noexcept;  // number of tokens

  struct Segment {
    std::string_view text;
    bool parse_special = false;
  };

  // add_special: BOS and EOS by the vocabulary's rule, but no second BOS if the text begins with one.
  // parse_special: control tokens written in the text are recognised; otherwise only user-defined ones are.
  // Text that is not UTF-8 is encoded byte by byte where it is not. kLimit for text above 1 GiB.
  Result<std::vector<int32_t>> Encode(std::string_view text, bool add_special, bool parse_special) const;
  // The segments as one text: words and merges go across their borders. A control token is recognised only
  // where segments with parse_special cover all of it.
  Result<std::vector<int32_t>> EncodeSegments(std::span<const Segment> segments, bool add_special) const;

  // A token's raw bytes, perhaps not UTF-8 by themselves; control tokens give their text. Empty for ids
  // that do not exist.
  std::string Piece(int32_t id) const;
  // The bytes of all pieces; with add_space_prefix one leading space is dropped. skip_special leaves out
  // control, unknown and unused tokens. Ids that do not exist give nothing. A configuration's
  // clean_up_tokenization_spaces (" ." becomes ".", for English text) is ignored, as by the `tokenizers` library and
  // the servers that stream with it: it is not part of the model, cannot be done token by token, damages source code,
  // and would make the text of a stream differ from that of a whole answer.
  std::string Decode(std::span<const int32_t> ids, bool skip_special) const;

  bool IsControl(int32_t id) const noexcept;  // false for ids that do not exist
  bool IsEog(int32_t id) const noexcept;
  const std::vector<int32_t>& eog() const noexcept;  // every end of generation, ascending
  // The token with exactly this text as Piece() gives it; the lowest id if several have it.
  std::optional<int32_t> Find(std::string_view text) const;

 private:
  Tokenizer() = default;
  std::shared_ptr<const detail::TokenizerTables> tables_;
};

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/tokenizer/tokenizer-impl.h"
#endif
#endif  // WF_TOKENIZER_TOKENIZER_H_
