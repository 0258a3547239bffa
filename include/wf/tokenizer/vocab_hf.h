// SPDX-License-Identifier: Apache-2.0
// A vocabulary from a Hugging Face folder: tokenizer.json, tokenizer_config.json, special_tokens_map.json,
// generation_config.json, config.json, chat_template.jinja and chat_template.json; all but the first may be
// absent. The pre-tokenizer is recognised by its structure. Not for tokenizer.model (SentencePiece protobuf).
#ifndef WF_TOKENIZER_VOCAB_HF_H_
#define WF_TOKENIZER_VOCAB_HF_H_

#include <string>

#include "wf/tokenizer/vocab.h"

namespace wf {

// kNotFound without tokenizer.json, kFormat for JSON that is broken or of another shape, kUnsupported for a
// model, normalizer, pre-tokenizer or post-processor that would give other ids than Hugging Face's library;
// messages name the file and the thing. Ids up to config.json's vocab_size that no token has become unused
// tokens "[PADn]".
Result<Vocab> VocabFromHf(const std::string& dir);

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/tokenizer/vocab_hf-impl.h"
#endif
#endif  // WF_TOKENIZER_VOCAB_HF_H_
