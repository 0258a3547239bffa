// SPDX-License-Identifier: Apache-2.0
// A vocabulary from a Hugging Face folder: tokenizer.json or, without it, tokenizer.model (SentencePiece) or
// vocab.json with merges.txt; and tokenizer_config.json, special_tokens_map.json, added_tokens.json,
// generation_config.json, config.json, chat_template.jinja and chat_template.json, all of which may be absent. The
// pre-tokenizer of a tokenizer.json is recognised by its structure.
#ifndef WF_TOKENIZER_VOCAB_HF_H_
#define WF_TOKENIZER_VOCAB_HF_H_

#include <string>

#include "wf/tokenizer/vocab.h"

namespace wf {

// kNotFound without any of the three, kFormat for files that are broken or of another shape, kUnsupported for a
// model, normalizer, pre-tokenizer or post-processor that would give other ids than Hugging Face's library, and
// for a vocab.json whose tokenizer_class (GPT2Tokenizer and Qwen2Tokenizer are known) says too little; messages
// name the file and the thing. Ids up to config.json's vocab_size that no token has become unused tokens "[PADn]".
Result<Vocab> VocabFromHf(const std::string& dir);

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/tokenizer/vocab_hf-impl.h"
#endif
#endif  // WF_TOKENIZER_VOCAB_HF_H_
