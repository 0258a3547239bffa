// SPDX-License-Identifier: Apache-2.0
// Bodies of tokenizer.h.
#ifndef WF_TOKENIZER_TOKENIZER_IMPL_H_
#define WF_TOKENIZER_TOKENIZER_IMPL_H_

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "wf/tokenizer/added_tokens-impl.h"
#include "wf/tokenizer/bpe.h"
#include "wf/tokenizer/byte_alphabet.h"
#include "wf/tokenizer/nfc.h"
#include "wf/tokenizer/pretokenize.h"
#include "wf/tokenizer/spm.h"
#include "wf/tokenizer/tokenizer.h"
#include "wf/tokenizer/utf8.h"
#include "wf/tokenizer/vocab-impl.h"
#include "wf/tokenizer/vocab_hf.h"

namespace wf {

namespace detail {

inline constexpr size_t kMaxTextBytes = size_t{1} << 30;  // offsets inside a text are 32 bits wide
inline constexpr char kSpmSpace[] = "\xE2\x96\x81";       // U+2581

// Texts that end a generation whatever the metadata calls them.
inline constexpr const char* kEogTexts[] = {
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<\uFF5Cend\u2581of\u2581sentence\uFF5C>",
    "[e~[",
};

struct TokenizerTables {
  Vocab vocab;
  bool spm = false;
  std::vector<Bpe> bpe;  // one of the two has one element
  std::vector<Spm> spm_model;
  PreTokenizer pre;
  bool splits = false;  // `pre` has patterns
  // What is found in the text as it comes, and then between that in the normalised text.
  AddedTokens as_is, in_normalized;
  std::vector<std::string> pieces;                         // by id
  std::unordered_map<std::string_view, int32_t> by_piece;  // views into pieces
  std::vector<int32_t> eog;

  // SentencePiece files and the normalizers that imitate them put the space in front while normalising, so before
  // the second search for tokens; Metaspace and byte-level tokenizers do it to each piece that is then left.
  bool PrefixIsNormalization() const { return spm && !vocab.space_prefix_if_missing; }
  bool WantsPrefix(bool text_start) const {
    return vocab.add_space_prefix && (text_start || !vocab.space_prefix_first_only);
  }
  Result<std::string> Normalize(std::string_view text, bool text_start) const;
  Status NormalizedRuns(std::string_view raw, std::string_view whole, size_t offset, bool text_start,
                        const Permitted& permitted, Permitted* runs) const;
  Status EncodeFragment(std::string_view text, size_t offset, const Permitted& permitted,
                        std::vector<int32_t>* ids) const;
  Status EncodePiece(std::string_view text, bool text_start, std::vector<int32_t>* ids) const;
};

// What happens to text between the tokens that are found as it comes. text_start: nothing came before it.
inline Result<std::string> TokenizerTables::Normalize(std::string_view text, bool text_start) const {
  std::string out;
  if (vocab.nfc) {
    WF_ASSIGN(out, ToNfc(text));
  } else {
    out = std::string(text);
  }
  if (!PrefixIsNormalization()) return out;
  if (vocab.remove_extra_whitespaces) {
    std::string narrow;
    for (const char c : out) {
      if (c != ' ' || (!narrow.empty() && narrow.back() != ' ')) narrow += c;
    }
    out = std::move(narrow);
  }
  if (out.empty()) return out;
  out = ReplaceAll(out, " ", kSpmSpace);
  if (WantsPrefix(text_start)) out.insert(0, kSpmSpace);
  while (vocab.remove_extra_whitespaces && out.ends_with(kSpmSpace)) out.resize(out.size() - 3);
  return out;
}

// Where control tokens count in `whole`, the normalised form of `raw`, which begins at `offset` of the text. If
// normalising goes across the borders of the permitted parts, nothing is permitted: rather a token less than one
// that a user wrote.
inline Status TokenizerTables::NormalizedRuns(std::string_view raw, std::string_view whole, size_t offset,
                                              bool text_start, const Permitted& permitted, Permitted* runs) const {
  auto it = std::upper_bound(permitted.begin(), permitted.end(), offset,
                             [](size_t at, const std::pair<size_t, size_t>& run) { return at < run.second; });
  std::string joined;
  size_t done = 0;
  const auto part = [&](size_t end) -> Status {
    WF_ASSIGN(std::string text, Normalize(raw.substr(done, end - done), text_start));
    // Only the first part of a fragment gets a prefix.
    if (done > 0 && PrefixIsNormalization() && WantsPrefix(text_start) && text.starts_with(kSpmSpace)) text.erase(0, 3);
    joined += text;
    done = end;
    return OkStatus();
  };
  for (; it != permitted.end() && it->first < offset + raw.size(); ++it) {
    const size_t begin = std::max(it->first, offset) - offset, end = std::min(it->second, offset + raw.size()) - offset;
    if (begin > done) WF_TRY(part(begin));
    const size_t from = joined.size();
    if (end > done) WF_TRY(part(end));
    if (joined.size() > from) runs->emplace_back(from, joined.size());
  }
  if (done < raw.size()) WF_TRY(part(raw.size()));
  if (joined != whole) runs->clear();
  return OkStatus();
}

// `text` lies between tokens, at `offset` of the whole text.
inline Status TokenizerTables::EncodeFragment(std::string_view text, size_t offset, const Permitted& permitted,
                                              std::vector<int32_t>* ids) const {
  const bool text_start = offset == 0;
  std::string normal;
  const std::string_view raw = text;
  const bool changes = vocab.nfc || PrefixIsNormalization();
  if (changes) {
    WF_ASSIGN(normal, Normalize(text, text_start));
    if (normal.size() > UINT32_MAX / 2) return LimitError("the text is too long for the tokenizer");
    text = normal;
  }
  if (in_normalized.empty()) return EncodePiece(text, text_start, ids);
  Permitted runs;
  WF_TRY(NormalizedRuns(raw, text, offset, text_start, permitted, &runs));
  return in_normalized.Split(
      text, runs,
      [&](size_t begin, size_t end) {
        return EncodePiece(text.substr(begin, end - begin), text_start && begin == 0, ids);
      },
      [&](int32_t id) {
        ids->push_back(id);
        return OkStatus();
      });
}

// `text` is normalised and has no tokens that are found beforehand.
inline Status TokenizerTables::EncodePiece(std::string_view text, bool text_start, std::vector<int32_t>* ids) const {
  if (text.empty()) return OkStatus();
  MergeScratch scratch;
  std::string spaced;
  if (!PrefixIsNormalization()) {
    const std::string_view space = spm ? kSpmSpace : " ";
    if (spm) {
      spaced = ReplaceAll(text, " ", kSpmSpace);
      text = spaced;
    }
    if (WantsPrefix(text_start) && !text.starts_with(space)) {
      spaced = std::string(space).append(text);
      text = spaced;
    }
    if (text.size() > UINT32_MAX / 2) return LimitError("the text is too long for the tokenizer");
  }
  if (spm && !splits) {
    spm_model[0].Encode(text, &scratch, ids);
    return OkStatus();
  }
  std::vector<std::string_view> words;
  WF_TRY(pre.Split(text, &words));
  for (const std::string_view word : words) {
    if (spm) {
      spm_model[0].Encode(word, &scratch, ids);
    } else {
      bpe[0].Encode(word, &scratch, ids);
    }
  }
  return OkStatus();
}

// Tokens found before the prefix is put in front cannot begin with it.
inline bool MayHoldPrefix(const Vocab& v, int32_t id) {
  if (v.types[static_cast<size_t>(id)] == TokenType::kNormal) return true;
  const auto it = std::lower_bound(v.matches.begin(), v.matches.end(), id,
                                   [](const TokenMatch& m, int32_t value) { return m.id < value; });
  return it != v.matches.end() && it->id == id && (it->flags & TokenMatch::kPiece) != 0;
}

inline std::string PieceOf(const Vocab& v, size_t id) {
  const std::string& text = v.tokens[id];
  switch (v.types[id]) {
    case TokenType::kUndefined:
    case TokenType::kNormal: {
      std::string bytes;
      if (v.model == "llama") return ReplaceAll(text, kSpmSpace, " ");
      return AlphabetToBytes(text, &bytes) ? bytes : text;
    }
    case TokenType::kByte: {
      const int byte = ByteTokenValue(text);
      return byte < 0 ? text : std::string(1, static_cast<char>(static_cast<uint8_t>(byte)));
    }
    case TokenType::kUnknown:
    case TokenType::kControl:
    case TokenType::kUserDefined:
    case TokenType::kUnused:
      break;
  }
  return text;
}

// A single character can be all that a vocabulary has for it, so it stays encodable whatever a file claims.
inline bool IsOneCharacter(const std::string& text) {
  return text.empty() || NextUtf8(text, 0).bytes >= text.size() || ByteTokenValue(text) >= 0;
}

// End-of-generation ids, ascending; they and BOS and mask become control tokens.
inline std::vector<int32_t> CollectEog(Vocab* v) {
  std::vector<int32_t> eog = v->eos_ids;
  for (const int32_t id : {v->eos_id, v->eot_id, v->eom_id, v->fim_pad_id, v->fim_rep_id, v->fim_sep_id}) {
    if (id >= 0) eog.push_back(id);
  }
  std::unordered_map<std::string_view, int32_t> texts;
  for (const char* text : kEogTexts) texts.emplace(text, -1);
  for (size_t i = 0; i < v->tokens.size(); ++i) {
    const auto it = texts.find(v->tokens[i]);
    if (it == texts.end() || v->types[i] == TokenType::kUnused) continue;
    it->second = static_cast<int32_t>(i);
    eog.push_back(it->second);
  }
  // In the harmony format <|end|> only ends a channel.
  if (texts["<|return|>"] >= 0 && texts["<|call|>"] >= 0 && texts["<|end|>"] >= 0) {
    eog.erase(std::remove(eog.begin(), eog.end(), texts["<|end|>"]), eog.end());
  }
  std::sort(eog.begin(), eog.end());
  eog.erase(std::unique(eog.begin(), eog.end()), eog.end());
  std::vector<int32_t> control = eog;
  for (const int32_t id : {v->bos_id, v->mask_id}) {
    if (id >= 0) control.push_back(id);
  }
  for (const int32_t id : control) {
    TokenType& type = v->types[static_cast<size_t>(id)];
    if (type == TokenType::kControl || IsOneCharacter(v->tokens[static_cast<size_t>(id)])) continue;
    if (type != TokenType::kUnknown) {
      v->warnings.push_back("token " + std::to_string(id) + " '" + v->tokens[static_cast<size_t>(id)].substr(0, 80) +
                            "' becomes a control token");
    }
    type = TokenType::kControl;
  }
  return eog;
}

}  // namespace detail

WF_MODEL_INLINE Result<Tokenizer> Tokenizer::Create(Vocab vocab) {
  auto tables = std::make_shared<detail::TokenizerTables>();
  WF_TRY(ValidateVocab("vocabulary", &vocab));
  tables->eog = detail::CollectEog(&vocab);
  tables->vocab = std::move(vocab);
  const Vocab& v = tables->vocab;
  tables->spm = v.model == "llama";
  if (tables->spm) {
    WF_ASSIGN(Spm spm, Spm::Create(v));
    tables->spm_model.push_back(std::move(spm));
    WF_ASSIGN(tables->pre, PreTokenizer::Create(v.split_patterns));
    tables->splits = !v.split_patterns.empty();
  } else if (v.model == "gpt2") {
    std::vector<std::string> patterns = v.split_patterns;
    if (patterns.empty()) {
      WF_ASSIGN(PreTokenizerRule rule, FindPreTokenizer(v.pre));
      patterns = std::move(rule.patterns);
    }
    WF_ASSIGN(tables->pre, PreTokenizer::Create(patterns, v.byte_level_at));
    WF_ASSIGN(Bpe bpe, Bpe::Create(v));
    if (!bpe.missing_bytes().empty()) {
      tables->vocab.warnings.push_back(std::to_string(bpe.missing_bytes().size()) +
                                       " bytes have no token; text loses them, e.g. byte " +
                                       std::to_string(bpe.missing_bytes().front()));
    }
    tables->bpe.push_back(std::move(bpe));
  } else {
    return Unsupported("tokenizer model '" + v.model + "', expected gpt2 or llama");
  }
  tables->pieces.reserve(v.tokens.size());
  for (size_t i = 0; i < v.tokens.size(); ++i) tables->pieces.push_back(detail::PieceOf(v, i));
  auto match = v.matches.begin();
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    tables->by_piece.try_emplace(tables->pieces[i], id);
    const bool user = v.types[i] == TokenType::kUserDefined;
    const bool special = user || v.types[i] == TokenType::kControl || v.types[i] == TokenType::kUnknown;
    while (match != v.matches.end() && match->id < id) ++match;
    const int32_t flags = match != v.matches.end() && match->id == id ? match->flags : 0;
    if (!special) continue;
    if ((flags & TokenMatch::kNormalized) == 0) {
      tables->as_is.Add(v.tokens[i], id, flags, !user);
    } else {
      // A prefix becomes part of the token that Hugging Face's library looks for, but not of SentencePiece's.
      std::string text = detail::ReplaceAll(v.tokens[i], " ", detail::kSpmSpace);
      if ((flags & TokenMatch::kPiece) == 0) {
        WF_ASSIGN(text, tables->Normalize(v.tokens[i], true));
      }
      tables->in_normalized.Add(text, id, flags, !user);
    }
  }
  Tokenizer t;
  t.tables_ = std::move(tables);
  return t;
}

WF_MODEL_INLINE Result<Tokenizer> Tokenizer::FromGguf(const Gguf& gguf) {
  WF_ASSIGN(Vocab vocab, VocabFromGguf(gguf));
  return Create(std::move(vocab));
}

WF_MODEL_INLINE Result<Tokenizer> Tokenizer::FromHf(const std::string& dir) {
  WF_ASSIGN(Vocab vocab, VocabFromHf(dir));
  return Create(std::move(vocab));
}

WF_MODEL_INLINE const Vocab& Tokenizer::vocab() const noexcept { return tables_->vocab; }

WF_MODEL_INLINE int32_t Tokenizer::size() const noexcept { return static_cast<int32_t>(tables_->pieces.size()); }

WF_MODEL_INLINE Result<std::vector<int32_t>> Tokenizer::Encode(std::string_view text, bool add_special,
                                                               bool parse_special) const {
  const Segment segment{text, parse_special};
  return EncodeSegments({&segment, 1}, add_special);
}

WF_MODEL_INLINE Result<std::vector<int32_t>> Tokenizer::EncodeSegments(std::span<const Segment> segments,
                                                                       bool add_special) const {
  const detail::TokenizerTables& t = *tables_;
  size_t total = 0;
  for (const Segment& s : segments) {
    if (s.text.size() > detail::kMaxTextBytes - total) return LimitError("the text has more than 1 GiB");
    total += s.text.size();
  }
  std::string joined;
  if (segments.size() != 1) joined.reserve(total);
  detail::Permitted allowed;
  size_t at = 0;
  for (const Segment& s : segments) {
    if (segments.size() != 1) joined.append(s.text);
    if (s.parse_special && !allowed.empty() && allowed.back().second == at) {
      allowed.back().second += s.text.size();
    } else if (s.parse_special && !s.text.empty()) {
      allowed.emplace_back(at, at + s.text.size());
    }
    at += s.text.size();
  }
  const std::string_view text = segments.size() == 1 ? segments[0].text : joined;

  std::vector<int32_t> ids;
  WF_TRY(t.as_is.Split(
      text, allowed,
      [&](size_t begin, size_t end) { return t.EncodeFragment(text.substr(begin, end - begin), begin, allowed, &ids); },
      [&](int32_t id) {
        ids.push_back(id);
        return OkStatus();
      }));
  if (!add_special) return ids;
  const Vocab& v = t.vocab;
  if (v.add_bos && v.bos_id >= 0 && (ids.empty() || ids.front() != v.bos_id)) ids.insert(ids.begin(), v.bos_id);
  if (v.add_eos && v.eos_id >= 0) ids.push_back(v.eos_id);
  return ids;
}

WF_MODEL_INLINE std::string Tokenizer::Piece(int32_t id) const {
  return id < 0 || id >= size() ? std::string() : tables_->pieces[static_cast<size_t>(id)];
}

WF_MODEL_INLINE std::string Tokenizer::Decode(std::span<const int32_t> ids, bool skip_special) const {
  const Vocab& v = tables_->vocab;
  std::string out;
  bool first = tables_->spm && v.add_space_prefix;  // the space that Encode put before the text is still there
  for (const int32_t id : ids) {
    if (id < 0 || id >= size()) continue;
    const TokenType type = v.types[static_cast<size_t>(id)];
    if (skip_special && (type == TokenType::kControl || type == TokenType::kUnknown || type == TokenType::kUnused)) {
      continue;
    }
    std::string_view piece = tables_->pieces[static_cast<size_t>(id)];
    if (first && id != v.bos_id) {
      first = false;
      if (detail::MayHoldPrefix(v, id) && piece.starts_with(' ')) piece.remove_prefix(1);
    }
    out.append(piece);
  }
  return out;
}

WF_MODEL_INLINE bool Tokenizer::IsControl(int32_t id) const noexcept {
  return id >= 0 && id < size() && tables_->vocab.types[static_cast<size_t>(id)] == TokenType::kControl;
}

WF_MODEL_INLINE bool Tokenizer::IsEog(int32_t id) const noexcept {
  return std::binary_search(tables_->eog.begin(), tables_->eog.end(), id);
}

WF_MODEL_INLINE const std::vector<int32_t>& Tokenizer::eog() const noexcept { return tables_->eog; }

WF_MODEL_INLINE std::optional<int32_t> Tokenizer::Find(std::string_view text) const {
  const auto it = tables_->by_piece.find(text);
  if (it == tables_->by_piece.end()) return std::nullopt;
  return it->second;
}

}  // namespace wf
#endif  // WF_TOKENIZER_TOKENIZER_IMPL_H_
