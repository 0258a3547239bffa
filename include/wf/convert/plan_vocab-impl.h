// SPDX-License-Identifier: Apache-2.0
// A plan's vocabulary: as many tokens as the embedding has rows, and the mask token of a diffusion checkpoint. Part of
// convert.h's bodies.
#ifndef WF_CONVERT_PLAN_VOCAB_IMPL_H_
#define WF_CONVERT_PLAN_VOCAB_IMPL_H_

#include <cctype>
#include <string>
#include <utility>

#include "wf/base/quote.h"
#include "wf/convert/hf_config.h"
#include "wf/tokenizer/vocab_hf.h"

namespace wf::detail {

// The last resort of semantics.md 4.1: a token named |<MASK>| or <|mask|>, else the only special one with "mask" in its
// text. Ordinary tokens are words: "mask" is one of English.
inline Result<int32_t> FindMaskToken(const Vocab& v, const std::string& style) {
  int32_t found = -1;
  bool exact = false;
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    const bool special = v.types[i] == TokenType::kControl || v.types[i] == TokenType::kUserDefined;
    const bool named = v.tokens[i] == "|<MASK>|" || v.tokens[i] == "<|mask|>";
    if (!special && !named) continue;
    std::string lower;
    for (const char c : v.tokens[i]) lower += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    if (lower.find("mask") == std::string::npos || (exact && !named)) continue;
    if (found >= 0 && exact == named) {
      return FormatError("tokens " + Quote(v.tokens[static_cast<size_t>(found)]) + " and " + Quote(v.tokens[i]) +
                         " both look like the mask: choose one with --mask-token-id");
    }
    found = static_cast<int32_t>(i);
    exact = named;
  }
  if (found < 0) {
    return NotFound("diffusion style " + style +
                    " needs a mask token: no mask_token_id is given and no token is named so; use --mask-token-id");
  }
  return found;
}

inline Result<Vocab> LoadVocab(const std::string& dir, const HfConfig& c) {
  Result<Vocab> vocab = VocabFromHf(dir);
  if (!vocab.ok()) return vocab.status().WithContext("tokenizer");
  if (vocab->tokens.size() > c.vocab) {
    return FormatError(dir + "/tokenizer.json: has " + std::to_string(vocab->tokens.size()) +
                       " tokens, but config.json's vocab_size is " + std::to_string(c.vocab));
  }
  while (vocab->tokens.size() < c.vocab) {  // a tokenizer's folder may have no config.json that says how many
    vocab->tokens.push_back("[PAD" + std::to_string(vocab->tokens.size()) + "]");
    vocab->types.push_back(TokenType::kUnused);
    if (!vocab->scores.empty()) vocab->scores.push_back(0);
  }
  if (c.diffusion.mask_token) {
    vocab->mask_id = *c.diffusion.mask_token;
  } else if (!c.diffusion.style.empty() && vocab->mask_id < 0) {
    WF_ASSIGN(vocab->mask_id, FindMaskToken(*vocab, c.diffusion.style));
  }
  return vocab;
}

}  // namespace wf::detail
#endif  // WF_CONVERT_PLAN_VOCAB_IMPL_H_
