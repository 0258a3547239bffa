// SPDX-License-Identifier: Apache-2.0
// Bodies of sentencepiece.h: a reader of protocol buffers that knows just this message. Sub-messages are read to
// a depth of one, so nothing recurses.
#ifndef WF_TOKENIZER_SENTENCEPIECE_IMPL_H_
#define WF_TOKENIZER_SENTENCEPIECE_IMPL_H_

#include <algorithm>
#include <bit>
#include <utility>

#include "wf/base/bytes.h"
#include "wf/base/quote.h"
#include "wf/tokenizer/sentencepiece.h"
#include "wf/tokenizer/utf8.h"
#include "wf/tokenizer/vocab-impl.h"

namespace wf {

namespace detail::sp {

// One field of a message. Which of the values counts depends on the wire type.
struct Field {
  uint32_t number = 0;
  uint32_t wire = 0;          // 0 varint, 1 eight bytes, 2 a length and bytes, 5 four bytes
  uint64_t integer = 0;       // wire types 0, 1 and 5
  std::string_view bytes;     // wire type 2
  uint64_t offset = 0;        // of the field in the file
  uint64_t bytes_offset = 0;  // of `bytes` in the file
};

// The fields of a message, one after the other. Every length is checked before it is used.
class Message {
 public:
  Message(std::string_view bytes, uint64_t file_offset, const std::string& name)
      : reader_(bytes), base_(file_offset), name_(name) {}

  bool AtEnd() const noexcept { return reader_.remaining() == 0; }

  Result<Field> Next() {
    Field f;
    f.offset = base_ + reader_.offset();
    WF_ASSIGN(const uint64_t tag, Varint());
    if (tag >> 3 == 0 || tag >> 32 != 0) return Bad(f.offset, "a field without a valid number");
    f.number = static_cast<uint32_t>(tag >> 3);
    f.wire = static_cast<uint32_t>(tag & 7);
    if (f.wire == 0) {
      WF_ASSIGN(f.integer, Varint());
    } else if (f.wire == 1) {
      WF_ASSIGN(f.integer, Named(reader_.Read<uint64_t>("a fixed64 field")));
    } else if (f.wire == 5) {
      WF_ASSIGN(f.integer, Named(reader_.Read<uint32_t>("a fixed32 field")));
    } else if (f.wire == 2) {
      WF_ASSIGN(const uint64_t length, Varint());
      f.bytes_offset = base_ + reader_.offset();
      WF_ASSIGN(f.bytes, Named(reader_.Bytes(length, "a field")));
    } else {
      return Bad(f.offset, "wire type " + std::to_string(f.wire) + ", which no field here has");
    }
    return f;
  }

  // kFormat unless the field has this wire type.
  Status Expect(const Field& f, uint32_t wire, const char* what) const {
    if (f.wire == wire) return OkStatus();
    return Bad(f.offset,
               std::string(what) + " has wire type " + std::to_string(f.wire) + ", expected " + std::to_string(wire));
  }

  Status Bad(uint64_t offset, const std::string& what) const {
    return FormatError(name_ + ": not a SentencePiece model: at offset " + std::to_string(offset) + ": " + what);
  }

 private:
  template <class T>
  Result<T> Named(Result<T> r) const {
    if (r.ok()) return r;
    return FormatError(name_ + ": not a SentencePiece model: in the message at offset " + std::to_string(base_) + ": " +
                       r.status().message());
  }

  Result<uint64_t> Varint() {
    const uint64_t offset = base_ + reader_.offset();
    uint64_t value = 0;
    for (uint32_t shift = 0; shift < 70; shift += 7) {
      WF_ASSIGN(const uint8_t byte, Named(reader_.Read<uint8_t>("a number")));
      if (shift == 63 && byte > 1) break;
      value |= uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return value;
    }
    return Bad(offset, "a number of more than 64 bits");
  }

  ByteReader reader_;
  uint64_t base_;
  const std::string& name_;
};

struct Settings {
  uint64_t model_type = 1;  // unigram
  bool suffix = false;
  int32_t unk = 0, bos = 1, eos = 2, pad = -1;
  std::string normalizer;
  size_t charsmap_bytes = 0, decode_charsmap_bytes = 0, rules_bytes = 0;
  bool escape_whitespaces = true;
};

inline Status ReadPiece(const Field& outer, const std::string& name, SentencePieceModel* m) {
  Message message(outer.bytes, outer.bytes_offset, name);
  std::string_view text;
  float score = 0;
  TokenType type = TokenType::kNormal;
  while (!message.AtEnd()) {
    WF_ASSIGN(const Field f, message.Next());
    if (f.number == 1) {
      WF_TRY(message.Expect(f, 2, "a piece's text"));
      text = f.bytes;
    } else if (f.number == 2) {
      WF_TRY(message.Expect(f, 5, "a piece's score"));
      score = std::bit_cast<float>(static_cast<uint32_t>(f.integer));
    } else if (f.number == 3) {
      WF_TRY(message.Expect(f, 0, "a piece's type"));
      if (f.integer < 1 || f.integer > 6) {
        return message.Bad(f.offset, "a piece of type " + std::to_string(f.integer) + ", expected 1..6");
      }
      type = static_cast<TokenType>(f.integer);  // the numbers are the same as in GGUF files
    }
  }
  const size_t id = m->tokens.size();
  if (id >= kMaxTokens) return LimitError(name + ": more than " + std::to_string(kMaxTokens) + " pieces");
  if (!IsUtf8(text)) return message.Bad(outer.offset, "piece " + std::to_string(id) + " is not UTF-8");
  m->tokens.emplace_back(text);
  m->scores.push_back(score);
  m->types.push_back(type);
  return OkStatus();
}

// Enums and int32 are sign-extended to 64 bits on the wire.
inline int32_t Int32Of(uint64_t v) { return static_cast<int32_t>(static_cast<uint32_t>(v)); }

inline Status ReadTrainer(const Field& outer, const std::string& name, Settings* s) {
  Message message(outer.bytes, outer.bytes_offset, name);
  while (!message.AtEnd()) {
    WF_ASSIGN(const Field f, message.Next());
    int32_t* id = f.number == 40 ? &s->unk : f.number == 41 ? &s->bos : f.number == 42 ? &s->eos : nullptr;
    if (f.number == 43) id = &s->pad;
    if (id == nullptr && f.number != 3 && f.number != 24) continue;
    WF_TRY(message.Expect(f, 0, "a number of the trainer's settings"));
    if (f.number == 3) s->model_type = f.integer;
    if (f.number == 24) s->suffix = f.integer != 0;
    if (id != nullptr) *id = Int32Of(f.integer);
  }
  return OkStatus();
}

inline Status ReadNormalizer(const Field& outer, const std::string& name, Settings* s, SentencePieceModel* m) {
  Message message(outer.bytes, outer.bytes_offset, name);
  while (!message.AtEnd()) {
    WF_ASSIGN(const Field f, message.Next());
    if (f.number == 1 || f.number == 2 || f.number == 6) {
      WF_TRY(message.Expect(f, 2, "a text of the normaliser's settings"));
      if (f.number == 1) s->normalizer = std::string(f.bytes);
      if (f.number == 2) s->charsmap_bytes = f.bytes.size();
      if (f.number == 6) s->rules_bytes = f.bytes.size();
    } else if (f.number >= 3 && f.number <= 5) {
      WF_TRY(message.Expect(f, 0, "a flag of the normaliser's settings"));
      bool& flag = f.number == 3   ? m->add_dummy_prefix
                   : f.number == 4 ? m->remove_extra_whitespaces
                                   : s->escape_whitespaces;
      flag = f.integer != 0;
    }
  }
  return OkStatus();
}

// How text is put together again from pieces; only that it changes nothing matters here.
inline Status ReadDenormalizer(const Field& outer, const std::string& name, Settings* s) {
  Message message(outer.bytes, outer.bytes_offset, name);
  while (!message.AtEnd()) {
    WF_ASSIGN(const Field f, message.Next());
    if (f.number != 2) continue;
    WF_TRY(message.Expect(f, 2, "a text of the denormaliser's settings"));
    s->decode_charsmap_bytes = f.bytes.size();
  }
  return OkStatus();
}

inline Status CheckSupported(const std::string& name, const Settings& s) {
  const char* kinds[] = {"", "unigram", "bpe", "word", "char"};
  if (s.model_type != 2) {
    std::string kind = s.model_type >= 1 && s.model_type <= 4 ? kinds[s.model_type] : std::to_string(s.model_type);
    return Unsupported(name + ": a SentencePiece model of type " + kind + ", expected bpe");
  }
  if (s.charsmap_bytes > 0 || s.rules_bytes > 0) {
    return Unsupported(name + ": normaliser " + Quote(s.normalizer) + " with rules that change characters (" +
                       std::to_string(s.charsmap_bytes) + " bytes), expected identity; a tokenizer.json may help");
  }
  if (s.decode_charsmap_bytes > 0) return Unsupported(name + ": a denormaliser that changes characters");
  if (!s.escape_whitespaces) return Unsupported(name + ": escape_whitespaces is false");
  if (s.suffix) return Unsupported(name + ": treat_whitespace_as_suffix is true");
  return OkStatus();
}

// "base64 rank" lines, which some models' authors also call tokenizer.model.
inline bool IsRankFile(std::string_view bytes) {
  const size_t end = std::min(bytes.find('\n'), bytes.size());
  const std::string_view line = bytes.substr(0, end);
  const size_t space = line.find(' ');
  if (space == std::string_view::npos || space == 0 || space > 400 || space + 1 == line.size()) return false;
  const auto in = [](std::string_view set) { return [set](char c) { return set.find(c) != std::string_view::npos; }; };
  const std::string_view word = line.substr(0, space), rank = line.substr(space + 1);
  return std::all_of(word.begin(), word.end(),
                     in("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")) &&
         std::all_of(rank.begin(), rank.end(), in("0123456789"));
}

}  // namespace detail::sp

WF_MODEL_INLINE Result<SentencePieceModel> ParseSentencePiece(std::string_view bytes, const std::string& name) {
  namespace sp = detail::sp;
  if (sp::IsRankFile(bytes)) {
    return Unsupported(name + ": a list of ranks (tiktoken), not a SentencePiece model; a tokenizer.json is needed");
  }
  SentencePieceModel m;
  sp::Settings s;
  sp::Message message(bytes, 0, name);
  while (!message.AtEnd()) {
    WF_ASSIGN(const sp::Field f, message.Next());
    if (f.number < 1 || f.number > 5 || f.number == 4) continue;  // 4: the trainer's own tests
    WF_TRY(message.Expect(f, 2, "a part of the model"));
    if (f.number == 1) WF_TRY(sp::ReadPiece(f, name, &m));
    if (f.number == 2) WF_TRY(sp::ReadTrainer(f, name, &s));
    if (f.number == 3) WF_TRY(sp::ReadNormalizer(f, name, &s, &m));
    if (f.number == 5) WF_TRY(sp::ReadDenormalizer(f, name, &s));
  }
  if (m.tokens.empty()) return FormatError(name + ": not a SentencePiece model: it has no pieces");
  WF_TRY(sp::CheckSupported(name, s));
  const auto id = [&](int32_t v) { return v >= 0 && static_cast<size_t>(v) < m.tokens.size() ? v : -1; };
  m.bos_id = id(s.bos);
  m.eos_id = id(s.eos);
  m.pad_id = id(s.pad);
  // The piece's type, not the setting, makes it the unknown one.
  const auto unknown = std::find(m.types.begin(), m.types.end(), TokenType::kUnknown);
  m.unk_id = unknown != m.types.end() ? static_cast<int32_t>(unknown - m.types.begin()) : id(s.unk);
  return m;
}

}  // namespace wf
#endif  // WF_TOKENIZER_SENTENCEPIECE_IMPL_H_
