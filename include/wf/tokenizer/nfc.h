// SPDX-License-Identifier: Apache-2.0
// Unicode normalisation form C, which Qwen's tokenizers apply to text. Not for the other forms.
#ifndef WF_TOKENIZER_NFC_H_
#define WF_TOKENIZER_NFC_H_

#include <string>
#include <string_view>

#include "wf/base/inline.h"
#include "wf/base/status.h"

namespace wf {

// O(n log n) for any text. Bytes that are not UTF-8 stay as they are.
Result<std::string> ToNfc(std::string_view text);

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/tokenizer/nfc-impl.h"
#endif
#endif  // WF_TOKENIZER_NFC_H_
