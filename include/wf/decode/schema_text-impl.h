// SPDX-License-Identifier: Apache-2.0
// What json_schema-impl.h needs to know of a schema's JSON before it compiles any of it: types of values, pointers,
// constants as text, which alternatives exclude each other.
#ifndef WF_DECODE_SCHEMA_TEXT_IMPL_H_
#define WF_DECODE_SCHEMA_TEXT_IMPL_H_

#include <array>
#include <boost/json.hpp>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "wf/base/quote.h"
#include "wf/base/status.h"
#include "wf/decode/grammar_builder.h"

namespace wf::detail {

namespace json = boost::json;

inline std::string_view View(const json::string& s) { return {s.data(), s.size()}; }

// Sets of types. A number type holds the integers.
enum : uint32_t { kNull = 1, kBool = 2, kInteger = 4, kNumber = 8, kString = 16, kArray = 32, kObject = 64 };
inline constexpr uint32_t kAllTypes = kNull | kBool | kInteger | kNumber | kString | kArray | kObject;

inline uint32_t TypeNamed(std::string_view name) {
  static constexpr std::array<std::string_view, 7> kNames = {"null",   "boolean", "integer", "number",
                                                             "string", "array",   "object"};
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (name == kNames[i]) return i == 3 ? kNumber | kInteger : 1u << i;
  }
  return 0;
}
// The one type of a value; kInteger for 1.0 too.
inline uint32_t TypeOf(const json::value& v) {
  if (v.is_double()) return std::floor(v.get_double()) == v.get_double() ? kInteger : kNumber;
  if (v.is_int64() || v.is_uint64()) return kInteger;
  return v.is_null() ? kNull : v.is_bool() ? kBool : v.is_string() ? kString : v.is_array() ? kArray : kObject;
}

// A key as part of a pointer in a message: escaped by RFC 6901, unprintable bytes as \xNN, long ones cut.
inline std::string PointerKey(std::string_view key) {
  std::string escaped;
  for (const char c : key) {
    if (c == '~') {
      escaped += "~0";
    } else if (c == '/') {
      escaped += "~1";
    } else {
      escaped += c;
    }
  }
  const std::string quoted = Quote(escaped, 60);
  const size_t end = quoted.rfind('\'');
  return quoted.substr(1, end - 1) + quoted.substr(end + 1);
}

// A value as the one text that a grammar has for it, without blanks.
inline void AppendJson(const json::value& v, std::string* out) {  // as deep as the parser allows
  if (v.is_array()) {
    *out += '[';
    for (const json::value& item : v.get_array()) {
      if (&item != v.get_array().begin()) *out += ',';
      AppendJson(item, out);
    }
    *out += ']';
  } else if (v.is_object()) {
    *out += '{';
    bool first = true;
    for (const auto& [key, value] : v.get_object()) {
      if (!first) *out += ',';
      first = false;
      *out += JsonString(std::string_view(key.data(), key.size())) + ':';
      AppendJson(value, out);
    }
    *out += '}';
  } else if (v.is_string()) {
    *out += JsonString(View(v.get_string()));
  } else if (v.is_double()) {
    std::array<char, 40> text;
    out->append(text.data(), std::to_chars(text.data(), text.data() + text.size(), v.get_double()).ptr);
  } else {
    *out += json::serialize(v);
  }
}

// What a reference "#/a/b/0" points to. nullptr: nothing, or not into this document.
inline const json::value* Resolve(const json::value& root, std::string_view pointer) {
  if (pointer.empty() || pointer.front() != '#') return nullptr;
  pointer.remove_prefix(1);
  const json::value* v = &root;
  while (!pointer.empty()) {
    if (pointer.front() != '/') return nullptr;
    pointer.remove_prefix(1);
    const std::string_view part = pointer.substr(0, pointer.find('/'));
    pointer.remove_prefix(part.size());
    std::string key;
    for (size_t i = 0; i < part.size(); ++i) {
      const auto is = [&](std::string_view s) { return part.substr(i, s.size()) == s; };
      int byte = 0;
      if (is("~0") || is("~1")) {
        key += part[++i] == '0' ? '~' : '/';
      } else if (part[i] == '%' && i + 2 < part.size() &&
                 std::from_chars(part.data() + i + 1, part.data() + i + 3, byte, 16).ptr == part.data() + i + 3) {
        key += static_cast<char>(byte);
        i += 2;
      } else {
        key += part[i];
      }
    }
    if (v->is_object()) {
      v = v->get_object().if_contains(key);
    } else if (v->is_array()) {
      size_t index = 0;
      const auto end = std::from_chars(key.data(), key.data() + key.size(), index);
      if (end.ec != std::errc() || end.ptr != key.data() + key.size()) return nullptr;
      v = v->get_array().if_contains(index);
    } else {
      return nullptr;
    }
    if (v == nullptr) return nullptr;
  }
  return v;
}

// The schema that a chain of references ends at; nullptr if it is no object.
inline const json::object* Behind(const json::value& root, const json::value* schema) {
  for (uint32_t i = 0; schema != nullptr && schema->is_object() && i < JsonLimits::kSchemaDepth; ++i) {
    const json::value* ref = schema->get_object().if_contains("$ref");
    if (ref == nullptr) return &schema->get_object();
    schema = ref->is_string() ? Resolve(root, View(ref->get_string())) : nullptr;
  }
  return nullptr;
}

// The values that const or enum name, as text; nothing if some are arrays or objects. Numbers that are equal have equal
// texts.
inline std::optional<std::set<std::string>> Constants(const json::object& schema) {
  std::set<std::string> out;
  bool simple = true;
  const auto add = [&](const json::value& v) {
    std::string text;
    AppendJson(v.is_number() ? json::value(v.to_number<double>() + 0.0) : v, &text);  // + 0.0: no -0
    out.insert(text);
    simple = simple && !v.is_array() && !v.is_object();
  };
  if (const json::value* v = schema.if_contains("const")) {
    add(*v);
  } else if (const json::value* list = schema.if_contains("enum"); list != nullptr && list->is_array()) {
    for (const json::value& item : list->get_array()) add(item);
  } else {
    return std::nullopt;
  }
  return simple ? std::optional(std::move(out)) : std::nullopt;
}

// The types that a schema allows at most.
inline uint32_t TypesOf(const json::object& schema) {
  uint32_t types = 0;
  if (const json::value* v = schema.if_contains("const")) {
    types = TypeOf(*v);
  } else if (const json::value* list = schema.if_contains("enum"); list != nullptr && list->is_array()) {
    for (const json::value& item : list->get_array()) types |= TypeOf(item);
  } else if (const json::value* t = schema.if_contains("type"); t != nullptr && t->is_string()) {
    types = TypeNamed(View(t->get_string()));
  } else if (t != nullptr && t->is_array()) {
    for (const json::value& name : t->get_array()) {
      if (name.is_string()) types |= TypeNamed(View(name.get_string()));
    }
  } else {
    types = kAllTypes;
  }
  return types;
}

// Whether a value can be seen to fit at most one of the two: they have no type in common, or name different values, or
// are objects that both demand a property whose values differ.
inline bool Exclusive(const json::value& root, const json::value& a, const json::value& b) {
  const json::object* x = Behind(root, &a);
  const json::object* y = Behind(root, &b);
  if (x == nullptr || y == nullptr) return (a.is_bool() && !a.get_bool()) || (b.is_bool() && !b.get_bool());
  if ((TypesOf(*x) & TypesOf(*y)) == 0) return true;
  const auto differ = [](const json::object& s, const json::object& t) {
    const auto p = Constants(s), q = Constants(t);
    if (!p || !q) return false;
    for (const std::string& v : *p) {
      if (q->count(v) > 0) return false;
    }
    return true;
  };
  if (differ(*x, *y)) return true;
  if ((TypesOf(*x) & TypesOf(*y)) != kObject) return false;
  const auto demanded = [&](const json::object& s, std::string_view key) -> const json::object* {
    const json::value* required = s.if_contains("required");
    const json::value* properties = s.if_contains("properties");
    if (required == nullptr || !required->is_array() || properties == nullptr || !properties->is_object())
      return nullptr;
    for (const json::value& name : required->get_array()) {
      if (name.is_string() && View(name.get_string()) == key) {
        return Behind(root, properties->get_object().if_contains(key));
      }
    }
    return nullptr;
  };
  const json::value* properties = x->if_contains("properties");
  if (properties == nullptr || !properties->is_object()) return false;
  for (const auto& [key, value] : properties->get_object()) {
    const std::string_view name(key.data(), key.size());
    const json::object* p = demanded(*x, name);
    const json::object* q = demanded(*y, name);
    if (p != nullptr && q != nullptr && differ(*p, *q)) return true;
  }
  return false;
}

}  // namespace wf::detail
#endif  // WF_DECODE_SCHEMA_TEXT_IMPL_H_
