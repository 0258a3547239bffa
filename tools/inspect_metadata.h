// SPDX-License-Identifier: Apache-2.0
// Metadata values of a GGUF as text and JSON, for wf-inspect.
#ifndef WF_TOOLS_INSPECT_METADATA_H_
#define WF_TOOLS_INSPECT_METADATA_H_

#include <boost/json.hpp>
#include <cstdio>
#include <string>
#include <string_view>

#include "wf/base/bytes.h"
#include "wf/base/quote.h"
#include "wf/formats/gguf.h"
#include "wf/tokenizer/utf8.h"

namespace wf {

inline constexpr size_t kShownElements = 4;  // of an array

struct MetadataRow {
  std::string key, type, text;  // text: for people
  boost::json::value value;
};

// Valid UTF-8 for JSON, whatever a file's strings hold.
inline std::string Utf8(std::string_view s) {
  std::string out;
  for (size_t i = 0; i < s.size();) {
    const Utf8Char c = NextUtf8(s, i);
    if (c.code < 0) {
      out += "\xEF\xBF\xBD";
    } else {
      out.append(s.substr(i, c.bytes));
    }
    i += c.bytes;
  }
  return out;
}

// A name from a file for the terminal: quoted only where it has to be.
inline std::string Shown(std::string_view s) {
  std::string quoted = Quote(s);
  return !s.empty() && quoted == "'" + std::string(s) + "'" ? std::string(s) : quoted;
}

// A scalar's value, or that of one element of an array.
inline boost::json::value Number(GgufValueType type, const char* p) {
  using T = GgufValueType;
  switch (type) {
    case T::kU8:
      return LoadLe<uint8_t>(p);
    case T::kI8:
      return LoadLe<int8_t>(p);
    case T::kU16:
      return LoadLe<uint16_t>(p);
    case T::kI16:
      return LoadLe<int16_t>(p);
    case T::kU32:
      return LoadLe<uint32_t>(p);
    case T::kI32:
      return LoadLe<int32_t>(p);
    case T::kU64:
      return LoadLe<uint64_t>(p);
    case T::kI64:
      return LoadLe<int64_t>(p);
    case T::kBool:
      return LoadLe<uint8_t>(p) != 0;
    case T::kF32:
    case T::kF64: {
      const double d = type == T::kF32 ? static_cast<double>(LoadLe<float>(p)) : LoadLe<double>(p);
      if (d - d == 0) return d;
      return d != d ? "nan" : (d > 0 ? "inf" : "-inf");  // JSON has no such numbers
    }
    case T::kString:
    case T::kArray:
      break;
  }
  return nullptr;
}

inline std::string NumberText(const boost::json::value& v) {
  if (!v.is_double()) return v.is_string() ? std::string(v.get_string()) : boost::json::serialize(v);
  char text[32];
  std::snprintf(text, sizeof(text), "%.7g", v.get_double());
  return text;
}

inline size_t ScalarBytes(GgufValueType t) {
  using T = GgufValueType;
  if (t == T::kU8 || t == T::kI8 || t == T::kBool) return 1;
  if (t == T::kU16 || t == T::kI16) return 2;
  return t == T::kU64 || t == T::kI64 || t == T::kF64 ? 8 : 4;
}

inline MetadataRow Describe(const GgufValue& v) {
  MetadataRow row{Utf8(v.key), GgufValueTypeName(v.type), "", nullptr};
  if (v.type == GgufValueType::kString) {
    row.text = Quote(v.raw, 80);
    row.value = Utf8(v.raw);
    return row;
  }
  if (v.type != GgufValueType::kArray) {
    row.value = Number(v.type, v.raw.data());
    row.text = NumberText(row.value);
    return row;
  }
  boost::json::array first;
  const char* p = v.raw.data();
  for (uint64_t i = 0; i < v.count && i < kShownElements; ++i) {
    if (i != 0) row.text += ", ";
    if (v.element == GgufValueType::kString) {
      const uint64_t size = LoadLe<uint64_t>(p);
      const std::string_view s(p + 8, size);
      row.text += Quote(s, 20);
      first.emplace_back(Utf8(s.substr(0, 200)));
      p += 8 + size;
    } else {
      first.push_back(Number(v.element, p));
      row.text += NumberText(first.back());
      p += ScalarBytes(v.element);
    }
  }
  row.type = std::string(GgufValueTypeName(v.element)) + "[" + std::to_string(v.count) + "]";
  row.text = "[" + row.text + (v.count > kShownElements ? ", ...]" : "]");
  row.value = boost::json::object{{"count", v.count}, {"first", std::move(first)}};
  return row;
}

}  // namespace wf
#endif  // WF_TOOLS_INSPECT_METADATA_H_
