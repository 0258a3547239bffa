// SPDX-License-Identifier: Apache-2.0
// Values to text: Python's str() and repr(), and JSON as json.dumps writes it. User marks follow the characters.
#ifndef WF_TOKENIZER_JINJA_PRINT_IMPL_H_
#define WF_TOKENIZER_JINJA_PRINT_IMPL_H_

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "wf/tokenizer/jinja/interp-impl.h"
#include "wf/tokenizer/jinja/operators-impl.h"

namespace wf::jinja::detail {

// repr(float): the shortest digits that read back, with an exponent below 1e-4 and from 1e16 on.
inline std::string FloatText(double d) {
  if (std::isnan(d)) return "nan";
  if (std::isinf(d)) return d < 0 ? "-inf" : "inf";
  std::array<char, 64> buffer;
  auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), d, std::chars_format::scientific).ptr;
  std::string s(buffer.data(), end);
  size_t e = s.find('e');
  int exponent = 0;
  const char* digits = s.data() + e + 1 + (s[e + 1] == '+' ? 1 : 0);
  std::from_chars(digits, s.data() + s.size(), exponent);
  if (exponent < -4 || exponent >= 16) return s;  // to_chars writes at least two exponent digits, as Python
  end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), d, std::chars_format::fixed).ptr;
  s.assign(buffer.data(), end);
  if (s.find('.') == std::string::npos) s += ".0";
  return s;
}

inline void AppendHex(char32_t value, int digits, std::string* out) {
  for (int i = digits - 1; i >= 0; --i) out->push_back("0123456789abcdef"[(value >> (4 * i)) & 15]);
}

inline std::string ReprEscape(char32_t c, char quote) {
  std::string s;
  if (c == static_cast<unsigned char>(quote) || c == '\\') {
    s = {'\\', static_cast<char>(c)};
  } else if (c == '\n' || c == '\r' || c == '\t') {
    s = {'\\', c == '\n' ? 'n' : c == '\r' ? 'r' : 't'};
  } else if (!IsPrintable(c)) {
    s = c < 0x100 ? "\\x" : c < 0x10000 ? "\\u" : "\\U";
    AppendHex(c, c < 0x100 ? 2 : c < 0x10000 ? 4 : 8, &s);
  }
  return s;  // empty: as it is
}

inline void ReprText(Interp& in, const Text& t, Text* out) {
  const std::string& s = t.bytes();
  char quote = s.find('\'') != std::string::npos && s.find('"') == std::string::npos ? '"' : '\'';
  in.Work(s.size() * 4);
  if (t.markup) in.Add(out, "Markup(");
  in.Add(out, std::string_view(&quote, 1));
  for (size_t i = 0, next = 0; i < s.size() && !in.failed(); i = next) {
    std::string escaped = ReprEscape(Decode(s, i, &next), quote);
    if (escaped.empty()) {
      in.Add(out, t, i, next);
    } else {
      in.Add(out, escaped, t.UserAt(i));
    }
  }
  in.Add(out, std::string_view(&quote, 1));
  if (t.markup) in.Add(out, ")");
}

WF_MODEL_INLINE void Interp::Repr(const Value& v, Text* out) {
  if (!Step()) return;
  Deeper deeper(this);
  auto items = [&](const std::vector<Value>& list, const char* open, const char* close) {
    Add(out, open);
    for (size_t i = 0; i < list.size() && !failed(); ++i) {
      if (i > 0) Add(out, ", ");
      Repr(list[i], out);
    }
    Add(out, close);
  };
  switch (v.kind()) {
    case Kind::kUndefined:
      Add(out, "Undefined");
      break;
    case Kind::kNone:
      Add(out, "None");
      break;
    case Kind::kBool:
      Add(out, v.AsBool() ? "True" : "False");
      break;
    case Kind::kInt:
      Add(out, std::to_string(v.AsInt()));
      break;
    case Kind::kFloat:
      Add(out, FloatText(v.AsFloat()));
      break;
    case Kind::kString:
      ReprText(*this, v.AsText(), out);
      break;
    case Kind::kList:
      items(v.AsList(), "[", "]");
      break;
    case Kind::kTuple:
      items(v.AsList(), "(", v.AsList().size() == 1 ? ",)" : ")");
      break;
    case Kind::kMapping: {
      Add(out, "{");
      bool first = true;
      for (const auto& [key, value] : v.AsMapping()) {
        if (failed()) break;
        if (!first) Add(out, ", ");
        first = false;
        Repr(key, out);
        Add(out, ": ");
        Repr(value, out);
      }
      Add(out, "}");
      break;
    }
    case Kind::kObject:
      switch (As<ObjectRep>(v)->type) {
        case ObjectType::kRange: {
          const auto* r = As<RangeRep>(v);
          std::string s = "range(" + std::to_string(r->start) + ", " + std::to_string(r->stop);
          Add(out, s + (r->step == 1 ? ")" : ", " + std::to_string(r->step) + ")"));
          break;
        }
        case ObjectType::kView:
          Add(out, As<ViewRep>(v)->name);
          items(As<ViewRep>(v)->items, "([", "])");
          break;
        case ObjectType::kNamespace: {
          Add(out, "<Namespace {");
          bool first = true;
          for (const auto& [key, value] : As<NamespaceRep>(v)->attrs) {
            if (failed()) break;
            if (!first) Add(out, ", ");
            first = false;
            ReprText(*this, Text(key), out);
            Add(out, ": ");
            Repr(value, out);
          }
          Add(out, "}>");
          break;
        }
        case ObjectType::kMacro:
          Add(out, "<Macro '" + program_.names[static_cast<size_t>(As<MacroRep>(v)->stmt->symbol)] + "'>");
          break;
        case ObjectType::kLoop: {
          bool found = false;
          int64_t length = LoopAttr(v, "length", &found).AsInt();
          Add(out, "<LoopContext " + std::to_string(As<LoopRep>(v)->index0 + 1) + "/" + std::to_string(length) + ">");
          break;
        }
        case ObjectType::kMethod:
          Add(out, "<built-in method>");
          break;
        case ObjectType::kFunction:
          Add(out, "<function>");
          break;
        case ObjectType::kIterator:
          Add(out, "<generator object>");
          break;
        case ObjectType::kCycler:
          Add(out, "<Cycler>");
          break;
        case ObjectType::kJoiner:
          Add(out, "<Joiner>");
          break;
      }
  }
}

WF_MODEL_INLINE Text Interp::ToText(const Value& v) {
  Text out;
  if (v.IsUndefined() || failed()) return out;
  if (v.IsString()) {
    out = v.AsText();
    out.markup = false;
    Work(out.size());
    return out;
  }
  Repr(v, &out);
  return out;
}

// json.dumps with the options of Hugging Face's tojson.
class JsonWriter {
 public:
  JsonWriter(Interp& in, const Bound& a) : in_(in) {
    ascii_ = a[0] != nullptr && in.Truth(*a[0]);
    if (a[1] != nullptr && !a[1]->IsNone()) {
      pretty_ = true;
      if (a[1]->IsString()) {
        indent_ = a[1]->AsText().bytes();
      } else if (auto n = in.Integer(*a[1], "tojson: indent")) {
        if (*n > 1000) in.Fail(ErrorCode::kLimit, "tojson: indent over 1000");
        indent_.assign(static_cast<size_t>(std::clamp<int64_t>(*n, 0, 1000)), ' ');
      }
      comma_ = ",";
    }
    if (a[2] != nullptr && !a[2]->IsNone()) {
      if (!a[2]->IsSequence() || a[2]->AsList().size() != 2 || !a[2]->AsList()[0].IsString() ||
          !a[2]->AsList()[1].IsString()) {
        in.Error("tojson: separators must be a pair of strings");
      } else {
        comma_ = a[2]->AsList()[0].AsText().bytes();
        colon_ = a[2]->AsList()[1].AsText().bytes();
      }
    }
    sort_ = a[3] != nullptr && in.Truth(*a[3]);
  }

  Value Run(const Value& v) {
    Write(v, 0);
    if (in_.failed()) return Value();
    // All of the content is the user's: so is the punctuation between. Fewer and longer segments.
    if (out_.AnyUser() && !own_text_) out_.MarkAllUser();
    return in_.Str(std::move(out_));
  }

 private:
  void NewLine(int level) {
    if (!pretty_) return;
    in_.Add(&out_, "\n");
    for (int i = 0; i < level && in_.Add(&out_, indent_); ++i) {
    }
  }
  void String(const Text& t) {
    const std::string& s = t.bytes();
    if (t.size() > 0 && !t.AllUser()) own_text_ = true;
    in_.Work(s.size() * 4);
    in_.Add(&out_, "\"");
    for (size_t i = 0, next = 0; i < s.size() && !in_.failed(); i = next) {
      char32_t c = Decode(s, i, &next);
      size_t k = std::u32string_view(U"\"\\\n\r\t\f\b").find(c);
      std::string escaped;
      if (k != std::u32string_view::npos) {
        escaped = {'\\', "\"\\nrtfb"[k]};
      } else if (c < 0x20 || (ascii_ && c > 0x7e && c < 0x10000)) {
        escaped = "\\u";
        AppendHex(c, 4, &escaped);
      } else if (ascii_ && c >= 0x10000) {
        escaped = "\\u";
        AppendHex(0xd800 + ((c - 0x10000) >> 10), 4, &escaped);
        escaped += "\\u";
        AppendHex(0xdc00 + ((c - 0x10000) & 0x3ff), 4, &escaped);
      }
      if (escaped.empty()) {
        in_.Add(&out_, t, i, next);
      } else {
        in_.Add(&out_, escaped, t.UserAt(i));
      }
    }
    in_.Add(&out_, "\"");
  }
  static std::string Number(const Value& v) {
    if (v.kind() != Kind::kFloat) return std::to_string(v.AsInt());
    double d = v.AsFloat();
    return std::isnan(d) ? "NaN" : std::isinf(d) ? (d < 0 ? "-Infinity" : "Infinity") : FloatText(d);
  }
  void Key(const Value& key) {
    switch (key.kind()) {
      case Kind::kString:
        String(key.AsText());
        break;
      case Kind::kNone:
        in_.Add(&out_, "\"null\"");
        break;
      case Kind::kBool:
        in_.Add(&out_, key.AsBool() ? "\"true\"" : "\"false\"");
        break;
      case Kind::kInt:
      case Kind::kFloat:
        in_.Add(&out_, "\"" + Number(key) + "\"");
        break;
      default:
        in_.Error("tojson: keys must be strings, numbers, booleans or none");
    }
  }
  void Write(const Value& v, int level) {
    if (!in_.Step()) return;
    switch (v.kind()) {
      case Kind::kNone:
        in_.Add(&out_, "null");
        return;
      case Kind::kBool:
        in_.Add(&out_, v.AsBool() ? "true" : "false");
        return;
      case Kind::kInt:
      case Kind::kFloat:
        in_.Add(&out_, Number(v));
        return;
      case Kind::kString:
        String(v.AsText());
        return;
      case Kind::kList:
      case Kind::kTuple:
        if (v.AsList().empty()) return void(in_.Add(&out_, "[]"));
        in_.Add(&out_, "[");
        for (size_t i = 0; i < v.AsList().size() && !in_.failed(); ++i) {
          if (i > 0) in_.Add(&out_, comma_);
          NewLine(level + 1);
          Write(v.AsList()[i], level + 1);
        }
        NewLine(level);
        in_.Add(&out_, "]");
        return;
      case Kind::kMapping:
        Object(v, level);
        return;
      case Kind::kUndefined:
      case Kind::kObject:
        in_.Error("tojson: value cannot be written as JSON");
    }
  }
  void Object(const Value& v, int level) {
    if (v.AsMapping().empty()) return void(in_.Add(&out_, "{}"));
    std::vector<const std::pair<Value, Value>*> items;
    for (const auto& item : v.AsMapping()) items.push_back(&item);
    if (sort_) {
      std::stable_sort(items.begin(), items.end(),
                       [&](const auto* a, const auto* b) { return in_.Less(a->first, b->first, Op::kLt); });
    }
    in_.Add(&out_, "{");
    for (size_t i = 0; i < items.size() && !in_.failed(); ++i) {
      if (i > 0) in_.Add(&out_, comma_);
      NewLine(level + 1);
      Key(items[i]->first);
      in_.Add(&out_, colon_);
      Write(items[i]->second, level + 1);
    }
    NewLine(level);
    in_.Add(&out_, "}");
  }

  Interp& in_;
  Text out_;
  bool ascii_ = false, pretty_ = false, sort_ = false;
  bool own_text_ = false;  // some text in it is not the user's
  std::string indent_, comma_ = ", ", colon_ = ": ";
};

WF_MODEL_INLINE Value Interp::ToJson(const Value& v, const Bound& a) {
  JsonWriter writer(*this, a);
  return failed() ? Value() : writer.Run(v);
}

}  // namespace wf::jinja::detail
#endif  // WF_TOKENIZER_JINJA_PRINT_IMPL_H_
