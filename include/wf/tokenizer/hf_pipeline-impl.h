// SPDX-License-Identifier: Apache-2.0
// What the normalizer, pre_tokenizer, post_processor and decoder of a tokenizer.json mean, recognised by
// structure; whatever would give other ids than here is refused by name. Part of vocab_hf-impl.h.
#ifndef WF_TOKENIZER_HF_PIPELINE_IMPL_H_
#define WF_TOKENIZER_HF_PIPELINE_IMPL_H_

#include <boost/json.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "wf/base/status.h"
#include "wf/tokenizer/hf_files-impl.h"
#include "wf/tokenizer/pretokenize.h"

namespace wf::detail::hf {

struct Pipeline {
  bool spm = false;
  bool nfc = false;
  std::vector<std::string> patterns;
  int32_t byte_level_at = 0;  // = patterns.size() if none comes after ByteLevel
  bool add_space_prefix = false, space_prefix_first_only = false, space_prefix_if_missing = false;
  size_t before_metaspace = 0;    // patterns that come before Metaspace
  std::string leading, trailing;  // special tokens that the post-processor adds

  // Found on the way.
  bool byte_level = false, prepend = false, replace = false, metaspace = false;
};

// The elements of a Sequence, or the thing itself; nothing for null.
inline std::vector<const json::value*> Elements(const json::value* v, const char* list) {
  if (v == nullptr || v->is_null()) return {};
  if (TypeOf(v) != "Sequence") return {v};
  std::vector<const json::value*> out;
  if (const json::value* a = Get(v, list); a != nullptr && a->is_array()) {
    for (const json::value& e : a->get_array()) {
      for (const json::value* inner : Elements(&e, list)) out.push_back(inner);  // depth is bounded by the parser
    }
  }
  return out;
}

inline Status ReadNormalizer(const std::string& path, const json::value* normalizer, Pipeline* p) {
  for (const json::value* n : Elements(normalizer, "normalizers")) {
    const std::string type = TypeOf(n);
    const std::string content = String(Get(n, "content")).value_or("");
    if (type == "NFC") {
      p->nfc = true;
    } else if (type == "Prepend" && String(Get(n, "prepend")) == "\xE2\x96\x81" && !p->prepend) {
      p->prepend = true;
    } else if (type == "Replace" && String(Get(Get(n, "pattern"), "String")) == " " && content == "\xE2\x96\x81") {
      p->replace = true;
    } else {
      return Unsupported(path + ": normalizer " + type +
                         (type == "Prepend" || type == "Replace" ? " of this form" : ""));
    }
  }
  return OkStatus();
}

inline std::string QuoteForRegex(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (std::string_view("\\^$.|?*+()[]{}&-").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

// Every character of the text is in some match, so that dropping the gaps drops nothing.
inline bool CoversEverything(const std::string& pattern) {
  return pattern == split::kLlama3 || pattern == split::kQwen2 || pattern == split::kQwen35 ||
         pattern == split::kGpt2 || pattern == split::kGpt4o;
}

inline Status ReadSplit(const std::string& path, const json::value* s, Pipeline* p) {
  const json::value* pattern = Get(s, "pattern");
  const std::optional<std::string> regex = String(Get(pattern, "Regex")), literal = String(Get(pattern, "String"));
  if (!regex && !literal) return FormatError(path + ": pre_tokenizer Split has neither a Regex nor a String");
  const std::string text = regex ? *regex : QuoteForRegex(*literal);
  const std::string behavior = String(Get(s, "behavior")).value_or("");
  // Isolated keeps matches and gaps, so invert changes nothing.
  const bool removes_nothing = behavior == "Removed" && Bool(Get(s, "invert"), false) && CoversEverything(text);
  // Gemma's splits at spaces that its normalizer has replaced.
  if (literal == " " && p->replace) return OkStatus();
  if (behavior != "Isolated" && !removes_nothing) {
    return Unsupported(path + ": pre_tokenizer Split with behavior " + behavior + ", expected Isolated");
  }
  p->patterns.push_back(text);
  return OkStatus();
}

inline Status ReadByteLevel(const std::string& path, const json::value* b, Pipeline* p) {
  if (p->byte_level) return Unsupported(path + ": pre_tokenizer with two ByteLevel");
  if (Bool(Get(b, "add_prefix_space"), true)) {
    // Each piece that is there by now gets a space.
    if (!p->patterns.empty()) return Unsupported(path + ": pre_tokenizer ByteLevel with add_prefix_space after others");
    p->add_space_prefix = p->space_prefix_if_missing = true;
  }
  if (Bool(Get(b, "use_regex"), true)) p->patterns.emplace_back(split::kGpt2);
  p->byte_level = true;
  p->byte_level_at = static_cast<int32_t>(p->patterns.size());
  return OkStatus();
}

inline Status ReadMetaspace(const std::string& path, const json::value* m, Pipeline* p) {
  if (String(Get(m, "replacement")).value_or("\xE2\x96\x81") != "\xE2\x96\x81") {
    return Unsupported(path + ": pre_tokenizer Metaspace with another replacement");
  }
  if (p->metaspace) return Unsupported(path + ": pre_tokenizer with two Metaspace");
  std::string scheme = String(Get(m, "prepend_scheme")).value_or("");
  if (scheme.empty()) scheme = Bool(Get(m, "add_prefix_space"), true) ? "always" : "never";
  if (scheme != "always" && scheme != "first" && scheme != "never") {
    return FormatError(path + ": pre_tokenizer Metaspace with prepend_scheme " + scheme);
  }
  p->metaspace = p->space_prefix_if_missing = true;
  p->add_space_prefix = scheme != "never";
  p->space_prefix_first_only = scheme == "first";
  p->before_metaspace = p->patterns.size();
  if (Bool(Get(m, "split"), true)) p->patterns.emplace_back("\xE2\x96\x81[^\xE2\x96\x81]*");
  return OkStatus();
}

inline Status ReadPreTokenizer(const std::string& path, const json::value* pre, Pipeline* p) {
  for (const json::value* e : Elements(pre, "pretokenizers")) {
    const std::string type = TypeOf(e);
    if (type == "Split") {
      WF_TRY(ReadSplit(path, e, p));
    } else if (type == "ByteLevel") {
      WF_TRY(ReadByteLevel(path, e, p));
    } else if (type == "Digits") {
      p->patterns.emplace_back(Bool(Get(e, "individual_digits"), false) ? split::kDigit : split::kDigits);
    } else if (type == "Punctuation") {
      const std::string behavior = String(Get(e, "behavior")).value_or("Isolated");
      if (behavior != "Isolated" && behavior != "Contiguous") {
        return Unsupported(path + ": pre_tokenizer Punctuation with behavior " + behavior);
      }
      p->patterns.emplace_back(behavior == "Contiguous" ? split::kPunctuationAscii : split::kOnePunctuationAscii);
    } else if (type == "Metaspace") {
      WF_TRY(ReadMetaspace(path, e, p));
    } else {
      return Unsupported(path + ": pre_tokenizer " + type);
    }
  }
  return OkStatus();
}

inline Status ReadPostProcessor(const std::string& path, const json::value* post, Pipeline* p) {
  for (const json::value* e : Elements(post, "processors")) {
    const std::string type = TypeOf(e);
    if (type == "ByteLevel") continue;  // offsets only
    if (type != "TemplateProcessing") return Unsupported(path + ": post_processor " + type);
    const json::value* single = Get(e, "single");
    if (single == nullptr || !single->is_array()) {
      return FormatError(path + ": post_processor TemplateProcessing without single");
    }
    int sequences = 0;
    for (const json::value& item : single->get_array()) {
      const std::optional<std::string> special = String(Get(Get(&item, "SpecialToken"), "id"));
      if (Get(&item, "Sequence") != nullptr) {
        ++sequences;
        continue;
      }
      if (!special) return FormatError(path + ": post_processor TemplateProcessing with an item of an unknown form");
      std::string& place = sequences == 0 ? p->leading : p->trailing;
      if (!place.empty()) return Unsupported(path + ": post_processor that adds more than one token on a side");
      place = *special;
    }
    if (sequences != 1) return Unsupported(path + ": post_processor TemplateProcessing that is not one sequence");
  }
  return OkStatus();
}

// Texts come from the vocabulary's flags, which the usual decoders agree with; others are only reported, since
// they decide about text and not about ids.
inline void CheckDecoder(const std::string& path, const json::value* decoder, const Pipeline& p,
                         std::vector<std::string>* warnings) {
  bool strips = false, known = true, any = false;
  for (const json::value* d : Elements(decoder, "decoders")) {
    const std::string type = TypeOf(d);
    any = true;
    if (type == "Strip") {
      strips = strips || String(Get(d, "content")) == " ";
    } else if (type == "Metaspace") {
      strips = strips || String(Get(d, "prepend_scheme")).value_or("always") != "never";
    } else if (type == "Replace") {
      known = known && String(Get(Get(d, "pattern"), "String")) == "\xE2\x96\x81" && String(Get(d, "content")) == " ";
    } else {
      known = known && (type == "ByteLevel" || type == "ByteFallback" || type == "Fuse");
    }
  }
  if (!known) warnings->push_back(path + ": a decoder of a form that is not followed; texts may differ");
  if (any && known && p.spm && strips != p.add_space_prefix) {
    warnings->push_back(path + ": the decoder " + (strips ? "drops" : "keeps") + " a leading space, here it is " +
                        (strips ? "kept" : "dropped"));
  }
}

inline Status ReadPipeline(const std::string& path, const json::value& tokenizer, bool byte_fallback, Pipeline* p) {
  WF_TRY(ReadNormalizer(path, Get(&tokenizer, "normalizer"), p));
  WF_TRY(ReadPreTokenizer(path, Get(&tokenizer, "pre_tokenizer"), p));
  WF_TRY(ReadPostProcessor(path, Get(&tokenizer, "post_processor"), p));
  p->spm = !p->byte_level && (p->prepend || p->replace || p->metaspace || byte_fallback);
  if (p->byte_level && (p->prepend || p->replace || p->metaspace)) {
    return Unsupported(path + ": ByteLevel together with U+2581 for spaces");
  }
  if (!p->byte_level && !p->spm) return Unsupported(path + ": a BPE model without ByteLevel and without byte_fallback");
  if (!p->spm) return OkStatus();
  if (p->before_metaspace > 0) return Unsupported(path + ": pre_tokenizer Metaspace after others");
  if (!p->replace && !p->metaspace) return Unsupported(path + ": byte_fallback without U+2581 for spaces");
  if (p->prepend && p->metaspace) return Unsupported(path + ": normalizer Prepend together with Metaspace");
  if (p->prepend) p->add_space_prefix = true;
  return OkStatus();
}

}  // namespace wf::detail::hf
#endif  // WF_TOKENIZER_HF_PIPELINE_IMPL_H_
