// SPDX-License-Identifier: Apache-2.0
// Reads a SentencePiece model (tokenizer.model, a protocol buffer) as plain data, as far as byte-pair models need
// it. Not for the other files of a folder or the rules of Hugging Face (vocab_hf.h), nor for encoding (spm.h).
#ifndef WF_TOKENIZER_SENTENCEPIECE_H_
#define WF_TOKENIZER_SENTENCEPIECE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "wf/base/inline.h"
#include "wf/base/status.h"
#include "wf/tokenizer/vocab.h"

namespace wf {

struct SentencePieceModel {
  std::vector<std::string> tokens;  // by id, UTF-8, U+2581 for spaces
  std::vector<float> scores;        // as many
  std::vector<TokenType> types;     // as many
  // -1: none; other values are ids of `tokens`.
  int32_t unk_id = -1, bos_id = -1, eos_id = -1, pad_id = -1;
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
};

// `name` begins the messages. kFormat, with the offset, for bytes that are no such message, texts that are not
// UTF-8 and a model without pieces; kLimit for more than 2^24 pieces; kUnsupported, by name, for what gives other
// ids than byte-pair merging by score: unigram, word and character models, a normaliser that changes characters,
// spaces that are not escaped or follow their word; and for the rank file that Llama 3 calls tokenizer.model.
Result<SentencePieceModel> ParseSentencePiece(std::string_view bytes, const std::string& name);

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/tokenizer/sentencepiece-impl.h"
#endif
#endif  // WF_TOKENIZER_SENTENCEPIECE_H_
