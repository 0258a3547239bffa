// SPDX-License-Identifier: Apache-2.0
// The alphabet in which byte-level vocabularies are written: every byte is one printable character. Not for
// merging (bpe.h).
#ifndef WF_TOKENIZER_BYTE_ALPHABET_H_
#define WF_TOKENIZER_BYTE_ALPHABET_H_

#include <string>
#include <string_view>

#include "wf/base/inline.h"

namespace wf {

// Bytes as the printable characters that stand for them in the vocabulary, e.g. " \n" -> "ĠĊ".
std::string BytesToAlphabet(std::string_view bytes);
// The way back; false, and *bytes unspecified, if a character is not of the alphabet.
bool AlphabetToBytes(std::string_view text, std::string* bytes);

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/tokenizer/byte_alphabet-impl.h"
#endif
#endif  // WF_TOKENIZER_BYTE_ALPHABET_H_
