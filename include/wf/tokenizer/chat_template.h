// SPDX-License-Identifier: Apache-2.0
// A model's chat template: the Jinja subset that published models use, rendered exactly as Hugging Face's
// apply_chat_template does (trim_blocks, lstrip_blocks, immutable sandbox, loopcontrols, {% generation %}), under
// limits, with user data kept apart. Not for: tokenising the result (bpe.h), parsing a model's answers.
#ifndef WF_TOKENIZER_CHAT_TEMPLATE_H_
#define WF_TOKENIZER_CHAT_TEMPLATE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "wf/base/inline.h"
#include "wf/base/status.h"
#include "wf/tokenizer/jinja/program.h"
#include "wf/tokenizer/jinja/value.h"

namespace wf {

// A piece of a prompt. `user`: it came from messages, tools or arguments, and must be tokenised without control
// tokens. Neighbours differ in `user`; no text is empty.
struct RenderedSegment {
  std::string text;
  bool user = false;
};

class ChatTemplate {  // immutable after Parse, safe for concurrent use
 public:
  using Limits = jinja::Limits;

  // kFormat for a syntax error or an unknown construct, kUnsupported for Jinja that is left out (blocks, includes,
  // recursive loops), kLimit; the message names line and column.
  static Result<ChatTemplate> Parse(std::string_view source, const Limits& limits = {});

  // `globals`: a mapping with messages, tools, add_generation_prompt, bos_token ...; strings in it that are marked
  // as user data (jinja::ValueFromJson(..., true)) end up in user segments. `now`: what strftime_now shows,
  // seconds since 1970 UTC, in local time; the clock if absent. kInvalidArgument with the template's own message
  // if it calls raise_exception; kFormat with line and column if it fails otherwise; kLimit.
  Result<std::vector<RenderedSegment>> Render(const jinja::Value& globals, const Limits& limits = {},
                                              std::optional<int64_t> now = std::nullopt) const;

 private:
  std::shared_ptr<const jinja::detail::Program> program_;
};

// A template for a model whose own does not parse or render, chosen by what the broken source contains:
// chatml, llama3, bitnet, llama2/mistral, gemma or phi3. kNotFound if it resembles none.
Result<ChatTemplate> FallbackTemplate(std::string_view broken_source);

// The source to use for a model: Microsoft's BitNet GGUF carries a converter's placeholder ("BITNETAssistant"),
// instead of which this gives the template the model was trained with; any other source comes back as it is.
std::string_view CorrectedTemplate(std::string_view source);

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/tokenizer/chat_template-impl.h"
#endif
#endif  // WF_TOKENIZER_CHAT_TEMPLATE_H_
