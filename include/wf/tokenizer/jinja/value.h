// SPDX-License-Identifier: Apache-2.0
// The values a chat template computes with: Python's None, bool, int (64 bits), float, str, list, tuple and
// dict, plus objects that exist only while a template runs. Strings know which of their bytes are user data,
// so that a control token typed by a user is never taken for one of the template's. Values are immutable and
// may be shared between threads. Not for: template syntax or evaluation (program.h), JSON output to clients.
#ifndef WF_TOKENIZER_JINJA_VALUE_H_
#define WF_TOKENIZER_JINJA_VALUE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "wf/base/inline.h"
#include "wf/base/status.h"

namespace wf::jinja {

// Bytes [begin, end) of a text.
struct ByteRange {
  size_t begin = 0;
  size_t end = 0;
};

// UTF-8 text and the byte ranges of it that are user data: sorted, disjoint, not adjacent, never empty.
class Text {
 public:
  Text() = default;
  explicit Text(std::string bytes, bool user = false);

  const std::string& bytes() const noexcept { return bytes_; }
  const std::vector<ByteRange>& user() const noexcept { return user_; }
  size_t size() const noexcept { return bytes_.size(); }
  bool AnyUser() const noexcept { return !user_.empty(); }
  bool AllUser() const noexcept;             // false for an empty text
  bool UserAt(size_t byte) const noexcept;   // O(log n)
  Text Sub(size_t begin, size_t end) const;  // clamped to the text
  void Append(std::string_view bytes, bool user = false);
  void Append(const Text& text) { Append(text, 0, text.size()); }
  void Append(const Text& text, size_t begin, size_t end);
  void MarkAllUser();

  bool markup = false;  // marked by the filter `safe`: `+` escapes what is added to it (Python's Markup)

 private:
  void Mark(size_t begin, size_t end);  // begin >= every marked byte
  std::string bytes_;
  std::vector<ByteRange> user_;
};

enum class Kind : uint8_t { kUndefined, kNone, kBool, kInt, kFloat, kString, kList, kTuple, kMapping, kObject };

namespace detail {
struct Rep;
struct ListRep;
struct MappingRep;
class Interp;
}  // namespace detail

// Containers nest at most this deep; ValueFromJson and templates refuse to build deeper ones (kLimit).
inline constexpr int kMaxContainerDepth = 100;

class Value {
 public:
  Value() = default;  // undefined
  static Value None();
  static Value Bool(bool b);
  static Value Int(int64_t i);
  static Value Float(double d);
  static Value String(std::string bytes, bool user = false);  // bytes: UTF-8
  static Value String(Text text);
  static Value List(std::vector<Value> items);
  static Value Tuple(std::vector<Value> items);
  static Value Mapping(std::vector<std::pair<std::string, Value>> items);  // a later equal key replaces

  Kind kind() const noexcept { return kind_; }
  bool IsUndefined() const noexcept { return kind_ == Kind::kUndefined; }
  bool IsNone() const noexcept { return kind_ == Kind::kNone; }
  bool IsString() const noexcept { return kind_ == Kind::kString; }
  bool IsMapping() const noexcept { return kind_ == Kind::kMapping; }
  bool IsSequence() const noexcept { return kind_ == Kind::kList || kind_ == Kind::kTuple; }
  bool IsInteger() const noexcept { return kind_ == Kind::kInt || kind_ == Kind::kBool; }  // as Python: bool is an int
  bool IsNumber() const noexcept { return IsInteger() || kind_ == Kind::kFloat; }

  // Each is defined for every kind: another kind gives false, 0, 0.0, an empty text or an empty list.
  bool AsBool() const noexcept { return kind_ == Kind::kBool && int_ != 0; }
  int64_t AsInt() const noexcept { return IsInteger() ? int_ : 0; }
  double AsFloat() const noexcept;  // of any number
  const Text& AsText() const noexcept;
  const std::vector<Value>& AsList() const noexcept;                       // of a list or tuple
  const std::vector<std::pair<Value, Value>>& AsMapping() const noexcept;  // in insertion order
  const Value* Find(std::string_view key) const noexcept;                  // nullptr unless a mapping with that key
  int depth() const noexcept;                                              // 0 for scalars, 1 for a flat container

 private:
  friend class detail::Interp;
  friend struct ValueAccess;
  Kind kind_ = Kind::kUndefined;
  union {
    int64_t int_ = 0;
    double float_;
  };
  std::shared_ptr<const detail::Rep> rep_;
};

// Parses one JSON document; `user` marks every string in it, keys too, as user data. Integers outside int64
// become floats. kFormat for bad JSON (with the byte offset), kLimit for nesting over kMaxContainerDepth.
Result<Value> ValueFromJson(std::string_view json, bool user);

}  // namespace wf::jinja
#if !WF_MODEL_COMPILED
#include "wf/tokenizer/jinja/value-impl.h"
#endif
#endif  // WF_TOKENIZER_JINJA_VALUE_H_
