// SPDX-License-Identifier: Apache-2.0
// Bodies of value.h, and the heap representations behind a Value. A representation made while a template
// runs counts its bytes in the run's meter until it dies; one made by a caller is not metered.
#ifndef WF_TOKENIZER_JINJA_VALUE_IMPL_H_
#define WF_TOKENIZER_JINJA_VALUE_IMPL_H_

#include <algorithm>
#include <boost/json.hpp>
#include <limits>
#include <unordered_map>

#include "wf/tokenizer/jinja/value.h"

namespace wf::jinja {

namespace detail {

struct Rep {
  Rep() = default;
  Rep(const Rep&) = delete;
  Rep& operator=(const Rep&) = delete;
  virtual ~Rep() {
    if (meter != nullptr) *meter -= charged;
  }
  mutable int64_t* meter = nullptr;
  mutable int64_t charged = 0;
  int depth = 0;  // containers: one more than the deepest value inside; bounds the recursion of freeing it
};

struct TextRep final : Rep {
  explicit TextRep(Text t) : text(std::move(t)) {}
  Text text;
};

// Why a value is undefined; for messages only.
struct UndefinedRep final : Rep {
  explicit UndefinedRep(std::string m) : message(std::move(m)) {}
  std::string message;
};

struct ListRep final : Rep {
  ListRep() { depth = 1; }
  std::vector<Value> items;
};

inline bool KeyEquals(const Value& a, const Value& b);

struct MappingRep final : Rep {
  MappingRep() { depth = 1; }
  std::vector<std::pair<Value, Value>> items;
  std::unordered_map<std::string, size_t> index;  // string keys; only used from kIndexFrom items on

  static constexpr size_t kIndexFrom = 16;  // below, a linear scan is as fast

  size_t Locate(const Value& key) const {
    if (key.IsString()) return Locate(std::string_view(key.AsText().bytes()));
    for (size_t i = 0; i < items.size(); ++i) {
      if (KeyEquals(items[i].first, key)) return i;
    }
    return items.size();
  }
  size_t Locate(std::string_view key) const {
    if (!index.empty()) {
      auto it = index.find(std::string(key));
      return it == index.end() ? items.size() : it->second;
    }
    for (size_t i = 0; i < items.size(); ++i) {
      if (items[i].first.IsString() && items[i].first.AsText().bytes() == key) return i;
    }
    return items.size();
  }
  void Set(Value key, Value value) {
    depth = std::max({depth, 1 + value.depth(), 1 + key.depth()});
    size_t i = Locate(key);
    if (i < items.size()) {
      items[i].second = std::move(value);
      return;
    }
    items.emplace_back(std::move(key), std::move(value));
    if (items.size() == kIndexFrom) {
      for (size_t k = 0; k < items.size(); ++k) AddIndex(k);
    } else if (items.size() > kIndexFrom) {
      AddIndex(items.size() - 1);
    }
  }

 private:
  void AddIndex(size_t i) {
    if (items[i].first.IsString()) index.emplace(items[i].first.AsText().bytes(), i);
    // A table without string keys still needs a non-empty index to be consulted; scanning it is correct too.
  }
};

}  // namespace detail

// The one place that builds a Value from its parts.
struct ValueAccess {
  static Value Make(Kind kind, std::shared_ptr<const detail::Rep> rep) {
    Value v;
    v.kind_ = kind;
    v.rep_ = std::move(rep);
    return v;
  }
  static Value MakeInt(Kind kind, int64_t i) {
    Value v;
    v.kind_ = kind;
    v.int_ = i;
    return v;
  }
  static Value MakeFloat(double d) {
    Value v;
    v.kind_ = Kind::kFloat;
    v.float_ = d;
    return v;
  }
  static double RawFloat(const Value& v) { return v.float_; }
  static const detail::Rep* Get(const Value& v) { return v.rep_.get(); }
  static const std::shared_ptr<const detail::Rep>& Share(const Value& v) { return v.rep_; }
};

namespace detail {

// Equality of hashable values, as a dict compares its keys. Unhashable ones are never equal.
inline bool KeyEquals(const Value& a, const Value& b) {
  if (a.IsNumber() && b.IsNumber()) {
    if (a.IsInteger() && b.IsInteger()) return a.AsInt() == b.AsInt();
    return a.AsFloat() == b.AsFloat();
  }
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return true;
    case Kind::kString:
      return a.AsText().bytes() == b.AsText().bytes();
    case Kind::kTuple: {
      const auto &x = a.AsList(), &y = b.AsList();
      return std::equal(x.begin(), x.end(), y.begin(), y.end(), KeyEquals);
    }
    case Kind::kObject:
      return ValueAccess::Get(a) == ValueAccess::Get(b);
    default:
      return false;
  }
}

inline Value MakeSequence(Kind kind, std::vector<Value> items) {
  auto rep = std::make_shared<ListRep>();
  for (const Value& v : items) rep->depth = std::max(rep->depth, 1 + v.depth());
  rep->items = std::move(items);
  return ValueAccess::Make(kind, std::move(rep));
}

}  // namespace detail

WF_MODEL_INLINE Text::Text(std::string bytes, bool user) : bytes_(std::move(bytes)) {
  if (user) MarkAllUser();
}
WF_MODEL_INLINE bool Text::AllUser() const noexcept {
  return user_.size() == 1 && user_[0].begin == 0 && user_[0].end == bytes_.size();
}
WF_MODEL_INLINE bool Text::UserAt(size_t byte) const noexcept {
  auto it = std::upper_bound(user_.begin(), user_.end(), byte, [](size_t b, const ByteRange& r) { return b < r.end; });
  return it != user_.end() && it->begin <= byte;
}
WF_MODEL_INLINE Text Text::Sub(size_t begin, size_t end) const {
  Text t;
  t.markup = markup;
  t.Append(*this, begin, end);
  return t;
}
WF_MODEL_INLINE void Text::Mark(size_t begin, size_t end) {
  if (begin >= end) return;
  if (!user_.empty() && user_.back().end == begin) {
    user_.back().end = end;
  } else {
    user_.push_back({begin, end});
  }
}
WF_MODEL_INLINE void Text::Append(std::string_view bytes, bool user) {
  size_t at = bytes_.size();
  bytes_.append(bytes);
  if (user) Mark(at, bytes_.size());
}
WF_MODEL_INLINE void Text::Append(const Text& text, size_t begin, size_t end) {
  end = std::min(end, text.size());
  if (begin >= end) return;
  size_t at = bytes_.size();
  bytes_.append(text.bytes_, begin, end - begin);
  auto it = std::upper_bound(text.user_.begin(), text.user_.end(), begin,
                             [](size_t b, const ByteRange& r) { return b < r.end; });
  for (; it != text.user_.end() && it->begin < end; ++it) {
    Mark(at + std::max(it->begin, begin) - begin, at + std::min(it->end, end) - begin);
  }
}
WF_MODEL_INLINE void Text::MarkAllUser() {
  user_.clear();
  Mark(0, bytes_.size());
}

WF_MODEL_INLINE Value Value::None() { return ValueAccess::Make(Kind::kNone, nullptr); }
WF_MODEL_INLINE Value Value::Bool(bool b) { return ValueAccess::MakeInt(Kind::kBool, b ? 1 : 0); }
WF_MODEL_INLINE Value Value::Int(int64_t i) { return ValueAccess::MakeInt(Kind::kInt, i); }
WF_MODEL_INLINE Value Value::Float(double d) { return ValueAccess::MakeFloat(d); }
WF_MODEL_INLINE Value Value::String(std::string bytes, bool user) { return String(Text(std::move(bytes), user)); }
WF_MODEL_INLINE Value Value::String(Text text) {
  return ValueAccess::Make(Kind::kString, std::make_shared<detail::TextRep>(std::move(text)));
}
WF_MODEL_INLINE Value Value::List(std::vector<Value> items) {
  return detail::MakeSequence(Kind::kList, std::move(items));
}
WF_MODEL_INLINE Value Value::Tuple(std::vector<Value> items) {
  return detail::MakeSequence(Kind::kTuple, std::move(items));
}
WF_MODEL_INLINE Value Value::Mapping(std::vector<std::pair<std::string, Value>> items) {
  auto rep = std::make_shared<detail::MappingRep>();
  for (auto& [key, value] : items) rep->Set(String(std::move(key)), std::move(value));
  return ValueAccess::Make(Kind::kMapping, std::move(rep));
}
WF_MODEL_INLINE double Value::AsFloat() const noexcept {
  return kind_ == Kind::kFloat ? float_ : static_cast<double>(AsInt());
}
WF_MODEL_INLINE const Text& Value::AsText() const noexcept {
  static const Text kEmpty;
  return kind_ == Kind::kString ? static_cast<const detail::TextRep*>(rep_.get())->text : kEmpty;
}
WF_MODEL_INLINE const std::vector<Value>& Value::AsList() const noexcept {
  static const std::vector<Value> kEmpty;
  return IsSequence() ? static_cast<const detail::ListRep*>(rep_.get())->items : kEmpty;
}
WF_MODEL_INLINE const std::vector<std::pair<Value, Value>>& Value::AsMapping() const noexcept {
  static const std::vector<std::pair<Value, Value>> kEmpty;
  return IsMapping() ? static_cast<const detail::MappingRep*>(rep_.get())->items : kEmpty;
}
WF_MODEL_INLINE const Value* Value::Find(std::string_view key) const noexcept {
  if (!IsMapping()) return nullptr;
  const auto* rep = static_cast<const detail::MappingRep*>(rep_.get());
  size_t i = rep->Locate(key);
  return i < rep->items.size() ? &rep->items[i].second : nullptr;
}
WF_MODEL_INLINE int Value::depth() const noexcept { return rep_ != nullptr ? rep_->depth : 0; }

namespace detail {

inline Value FromBoost(const boost::json::value& v, bool user) {
  switch (v.kind()) {
    case boost::json::kind::null:
      return Value::None();
    case boost::json::kind::bool_:
      return Value::Bool(v.get_bool());
    case boost::json::kind::int64:
      return Value::Int(v.get_int64());
    case boost::json::kind::uint64:
      return Value::Float(static_cast<double>(v.get_uint64()));
    case boost::json::kind::double_:
      return Value::Float(v.get_double());
    case boost::json::kind::string:
      return Value::String(std::string(v.get_string()), user);
    case boost::json::kind::array: {
      std::vector<Value> items;
      items.reserve(v.get_array().size());
      for (const auto& e : v.get_array()) items.push_back(FromBoost(e, user));
      return Value::List(std::move(items));
    }
    case boost::json::kind::object: {
      auto rep = std::make_shared<MappingRep>();
      for (const auto& e : v.get_object()) {
        rep->Set(Value::String(std::string(e.key()), user), FromBoost(e.value(), user));
      }
      return ValueAccess::Make(Kind::kMapping, std::move(rep));
    }
  }
  return Value::None();
}

}  // namespace detail

WF_MODEL_INLINE Result<Value> ValueFromJson(std::string_view json, bool user) {
  boost::json::parse_options options;
  options.max_depth = kMaxContainerDepth;
  boost::json::stream_parser parser({}, options);
  boost::json::error_code error;
  size_t used = parser.write_some(json.data(), json.size(), error);
  if (!error && used < json.size() && json.find_first_not_of(" \t\r\n", used) != std::string_view::npos) {
    return FormatError("JSON: extra text after the document at byte " + std::to_string(used));
  }
  if (!error) parser.finish(error);
  if (error == boost::json::error::too_deep) {
    return LimitError("JSON: nested deeper than " + std::to_string(kMaxContainerDepth));
  }
  if (error) return FormatError("JSON: " + error.message() + " at byte " + std::to_string(used));
  return detail::FromBoost(parser.release(), user);
}

}  // namespace wf::jinja
#endif  // WF_TOKENIZER_JINJA_VALUE_IMPL_H_
