// SPDX-License-Identifier: Apache-2.0
// Bodies of chat_template.h, and the templates to fall back on.
#ifndef WF_TOKENIZER_CHAT_TEMPLATE_IMPL_H_
#define WF_TOKENIZER_CHAT_TEMPLATE_IMPL_H_

#include <algorithm>
#include <utility>

#include "wf/tokenizer/chat_template.h"
#include "wf/tokenizer/jinja/program-impl.h"

namespace wf {

namespace detail {

// BitNet b1.58 2B-4T as trained: no separators, no bos (the tokenizer adds it).
inline constexpr std::string_view kBitnetTemplate =
    "{% for message in messages %}"
    "{{ message['role'] | capitalize + ': ' + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}";

inline constexpr std::string_view kChatmlTemplate =
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

inline constexpr std::string_view kLlama3Template =
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + "
    "'<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}";

// Llama 2 and the first Mistral: the system text goes into the first user message.
inline constexpr std::string_view kLlama2Template =
    "{{ bos_token }}"
    "{% set ns = namespace(system='') %}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{% set ns.system = message['content'] %}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] | trim + ' ' + eos_token }}"
    "{% else %}{{ '[INST] ' }}"
    "{% if ns.system %}{{ '<<SYS>>\\n' + ns.system + '\\n<</SYS>>\\n\\n' }}{% set ns.system = '' %}{% endif %}"
    "{{ message['content'] | trim + ' [/INST]' }}"
    "{% endif %}{% endfor %}";

inline constexpr std::string_view kMistralTemplate =
    "{{ bos_token }}"
    "{% set ns = namespace(system='') %}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{% set ns.system = message['content'] + '\\n\\n' %}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] | trim + eos_token }}"
    "{% else %}{{ '[INST] ' + ns.system + message['content'] | trim + ' [/INST]' }}{% set ns.system = '' %}"
    "{% endif %}{% endfor %}";

// Gemma has no system role either.
inline constexpr std::string_view kGemmaTemplate =
    "{{ bos_token }}"
    "{% set ns = namespace(system='') %}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{% set ns.system = message['content'] | trim + '\\n\\n' %}"
    "{% else %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' + ns.system + "
    "message['content'] | trim + '<end_of_turn>\\n' }}{% set ns.system = '' %}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}";

inline constexpr std::string_view kPhi3Template =
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}";

}  // namespace detail

WF_MODEL_INLINE Result<ChatTemplate> ChatTemplate::Parse(std::string_view source, const Limits& limits) {
  ChatTemplate t;
  WF_ASSIGN(t.program_, jinja::ParseProgram(source, limits));
  return t;
}

WF_MODEL_INLINE Result<std::vector<RenderedSegment>> ChatTemplate::Render(const jinja::Value& globals,
                                                                          const Limits& limits,
                                                                          std::optional<int64_t> now) const {
  if (program_ == nullptr) return InvalidArgument("chat template was not parsed");
  WF_ASSIGN(const jinja::Text text, jinja::RunProgram(*program_, globals, limits, now));
  std::vector<RenderedSegment> segments;
  size_t at = 0;
  auto add = [&](size_t end, bool user) {
    if (end > at) segments.push_back({text.bytes().substr(at, end - at), user});
    at = std::max(at, end);
  };
  for (const jinja::ByteRange& r : text.user()) {
    add(r.begin, false);
    add(r.end, true);
  }
  add(text.size(), false);
  return segments;
}

WF_MODEL_INLINE Result<ChatTemplate> FallbackTemplate(std::string_view broken_source) {
  auto has = [&](std::string_view part) { return broken_source.find(part) != std::string_view::npos; };
  std::string_view source;
  if (has("<|im_start|>")) {
    source = detail::kChatmlTemplate;
  } else if (has("<|start_header_id|>")) {
    source = detail::kLlama3Template;
  } else if (has("BITNET")) {
    source = detail::kBitnetTemplate;
  } else if (has("[INST]")) {
    source = has("<<SYS>>") ? detail::kLlama2Template : detail::kMistralTemplate;
  } else if (has("<start_of_turn>")) {
    source = detail::kGemmaTemplate;
  } else if (has("<|user|>") && has("<|end|>")) {
    source = detail::kPhi3Template;
  } else {
    return NotFound("no fallback chat template resembles this one");
  }
  return ChatTemplate::Parse(source);
}

WF_MODEL_INLINE std::string_view CorrectedTemplate(std::string_view source) {
  return source.find("BITNETAssistant") == std::string_view::npos ? source : detail::kBitnetTemplate;
}

}  // namespace wf
#endif  // WF_TOKENIZER_CHAT_TEMPLATE_IMPL_H_
