// SPDX-License-Identifier: Apache-2.0
// "%" formatting and str.format with their mini-languages. Marks of inserted strings are kept.
#ifndef WF_TOKENIZER_JINJA_FORMAT_IMPL_H_
#define WF_TOKENIZER_JINJA_FORMAT_IMPL_H_

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "wf/tokenizer/jinja/print-impl.h"
#include "wf/tokenizer/jinja/text_ops-impl.h"

namespace wf::jinja::detail {

struct FormatSpec {
  std::string fill = " ";
  char align = 0;  // < > = ^, 0: by type
  char sign = '-';
  bool alternate = false, zero = false;
  char group = 0;
  int64_t width = 0;
  int64_t precision = -1;
  char type = 0;
};

inline constexpr int64_t kMaxPrecision = 500;

inline std::string GroupDigits(std::string digits, char group, size_t every) {
  size_t end = digits.find_first_not_of("0123456789abcdefABCDEF");
  if (end == std::string::npos) end = digits.size();
  for (size_t i = end; group != 0 && i > every; i -= every) digits.insert(i - every, 1, group);
  return digits;
}

// |d| in the given presentation type, without sign.
inline std::string FloatDigits(double d, char type, int64_t precision, bool alternate) {
  bool upper = type == 'E' || type == 'F' || type == 'G';
  std::string s;
  if (std::isnan(d) || std::isinf(d)) {
    s = std::isnan(d) ? "nan" : "inf";
  } else {
    char low = static_cast<char>(type | 0x20);
    auto format = low == 'e'   ? std::chars_format::scientific
                  : low == 'f' ? std::chars_format::fixed
                               : std::chars_format::general;
    if (low == 'g' && precision == 0) precision = 1;
    std::array<char, 1024> buffer;
    auto r = std::to_chars(buffer.data(), buffer.data() + buffer.size(), std::fabs(d), format,
                           static_cast<int>(std::min(precision, kMaxPrecision)));
    s.assign(buffer.data(), r.ec == std::errc() ? r.ptr : buffer.data());
    if (alternate && s.find('.') == std::string::npos) s.insert(std::min(s.find('e'), s.size()), ".");
  }
  if (upper) {
    for (char& c : s) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c);
  }
  return s;
}

inline std::string IntegerDigits(int64_t v, char type) {
  uint64_t u = v < 0 ? 0 - static_cast<uint64_t>(v) : static_cast<uint64_t>(v);
  uint64_t base = type == 'x' || type == 'X' ? 16 : type == 'o' ? 8 : type == 'b' ? 2 : 10;
  const char* digits = type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
  std::string s;
  do {
    s.push_back(digits[u % base]);
    u /= base;
  } while (u != 0);
  std::reverse(s.begin(), s.end());
  return s;
}

// Sign, prefix and digits, padded as the specification says.
inline Value PadNumber(Interp& in, bool negative, const std::string& prefix, std::string digits, FormatSpec spec) {
  std::string head = negative ? "-" : spec.sign == '+' ? "+" : spec.sign == ' ' ? " " : "";
  head += prefix;
  if (spec.align == 0) spec.align = spec.zero ? '=' : '>';
  if (spec.zero && spec.fill == " ") spec.fill = "0";
  if (spec.align != '=') return Pad(in, Text(head + digits), spec.width, Text(spec.fill), spec.align);
  Value padded = Pad(in, Text(digits), spec.width - static_cast<int64_t>(head.size()), Text(spec.fill), '>');
  Text out(head);
  in.Add(&out, padded.AsText());
  return in.Str(std::move(out));
}

inline Value FormatText(Interp& in, const Text& t, const FormatSpec& spec) {
  Text cut = t;
  if (spec.precision >= 0) cut = t.Sub(0, ByteOffset(t.bytes(), static_cast<size_t>(spec.precision)));
  char align = spec.align == 0 ? '<' : spec.align;
  return Pad(in, cut, spec.width, Text(spec.fill), align);
}

inline Value FormatFloat(Interp& in, double d, FormatSpec spec) {
  char type = spec.type;
  bool negative = std::signbit(d) && !std::isnan(d);
  std::string digits;
  if (spec.precision > kMaxPrecision) return in.Fail(ErrorCode::kLimit, "format precision over 500");
  if (type == 0 && spec.precision < 0) {
    digits = FloatText(std::fabs(d));
  } else if (type == 0) {  // like g, but with at least one digit after the point
    digits = FloatDigits(d, 'g', spec.precision, false);
    if (digits.find_first_of(".en") == std::string::npos) {
      if (static_cast<int64_t>(digits.size()) >= std::max<int64_t>(spec.precision, 1)) {
        digits = FloatDigits(d, 'e', std::max<int64_t>(spec.precision, 1) - 1, false);
      } else {
        digits += ".0";
      }
    }
  } else if (type == '%') {
    digits = FloatDigits(d * 100, 'f', spec.precision < 0 ? 6 : spec.precision, spec.alternate) + "%";
  } else {
    digits = FloatDigits(d, type == 'n' ? 'g' : type, spec.precision < 0 ? 6 : spec.precision, spec.alternate);
  }
  if (std::isnan(d) || std::isinf(d)) spec.group = 0;
  return PadNumber(in, negative, "", GroupDigits(std::move(digits), spec.group, 3), spec);
}

inline Value FormatInteger(Interp& in, int64_t v, const FormatSpec& spec) {
  std::string prefix;
  char type = spec.type == 0 || spec.type == 'n' ? 'd' : spec.type;
  if (spec.alternate && type != 'd') prefix = std::string("0") + type;
  bool decimal = type == 'd';
  return PadNumber(in, v < 0, prefix, GroupDigits(IntegerDigits(v, type), spec.group, decimal ? 3 : 4), spec);
}

// --- "..." % args

WF_MODEL_INLINE Value Interp::Percent(const Value& format, const Value& args) {
  const Text& f = format.AsText();
  const std::string& s = f.bytes();
  bool tuple = args.kind() == Kind::kTuple;
  size_t used = 0;
  auto next = [&]() -> Value {
    if (tuple ? used < args.AsList().size() : used == 0) return tuple ? args.AsList()[used++] : (++used, args);
    return Error("not enough arguments for format string");
  };
  Text out;
  out.markup = f.markup;
  for (size_t i = 0; i < s.size() && !failed();) {
    size_t percent = s.find('%', i);
    Add(&out, f, i, percent);
    if (percent == std::string::npos) break;
    i = percent + 1;
    FormatSpec spec;
    Value keyed;
    bool has_key = false;
    if (i < s.size() && s[i] == '(') {
      size_t close = i + 1;
      for (int open = 1; close < s.size(); ++close) {
        open += s[close] == '(' ? 1 : s[close] == ')' ? -1 : 0;
        if (open == 0) break;
      }
      if (close >= s.size()) return Error("incomplete format key");
      if (!args.IsMapping()) return Error("format requires a mapping");
      const Value* v = args.Find(std::string_view(s).substr(i + 1, close - i - 1));
      if (v == nullptr) return Error("format key is missing");
      keyed = *v;
      has_key = true;
      i = close + 1;
    }
    bool left = false;
    for (; i < s.size() && std::string_view("-+ 0#").find(s[i]) != std::string_view::npos; ++i) {
      if (s[i] == '-') left = true;
      if (s[i] == '+') spec.sign = '+';
      if (s[i] == ' ' && spec.sign != '+') spec.sign = ' ';
      if (s[i] == '0') spec.zero = true;
      if (s[i] == '#') spec.alternate = true;
    }
    auto number = [&](int64_t* value) {
      if (i < s.size() && s[i] == '*') {
        ++i;
        Value v = next();
        if (!failed() && !v.IsInteger()) Error("* wants an integer");
        *value = std::clamp<int64_t>(v.AsInt(), -1000000000, 1000000000);
        return;
      }
      for (; i < s.size() && s[i] >= '0' && s[i] <= '9'; ++i) {
        *value = std::min<int64_t>(*value * 10 + (s[i] - '0'), 1000000000);
      }
    };
    number(&spec.width);
    if (spec.width < 0) {
      left = true;
      spec.width = -spec.width;
    }
    if (i < s.size() && s[i] == '.') {
      ++i;
      spec.precision = 0;
      number(&spec.precision);
      spec.precision = std::max<int64_t>(spec.precision, 0);
    }
    while (i < s.size() && (s[i] == 'l' || s[i] == 'h' || s[i] == 'L')) ++i;
    if (failed()) return Value();
    if (i >= s.size()) return Error("incomplete format");
    char c = s[i++];
    if (c == '%') {
      Add(&out, "%");
      continue;
    }
    spec.align = left ? '<' : '>';
    Value v = has_key ? keyed : next();
    if (failed()) return Value();
    if (c == 's' || c == 'r' || c == 'a') {
      Text t;
      if (c == 's') {
        t = out.markup ? Escape(v).AsText() : ToText(v);
      } else {
        Repr(v, &t);
        if (c == 'a' && CountCodePoints(t.bytes()) != t.size()) return Error("%a of non-ASCII text is not supported");
      }
      Add(&out, FormatText(*this, t, spec).AsText());
    } else if (c == 'c') {
      Text t;
      if (v.IsInteger() && v.AsInt() >= 0 && v.AsInt() <= 0x10ffff && (v.AsInt() < 0xd800 || v.AsInt() > 0xdfff)) {
        std::string one;
        Encode(static_cast<char32_t>(v.AsInt()), &one);
        t.Append(one);
      } else if (v.IsString() && CountCodePoints(v.AsText().bytes()) == 1) {
        t = v.AsText();
      } else {
        return Error("%c requires an integer or a character");
      }
      Add(&out, FormatText(*this, t, spec).AsText());
    } else if (std::string_view("diuoxX").find(c) != std::string_view::npos) {
      if (!v.IsNumber()) return Error(std::string("%") + c + " requires a number");
      int64_t n = v.AsInt();
      bool decimal = c == 'd' || c == 'i' || c == 'u';
      if (v.kind() == Kind::kFloat) {
        if (!decimal) return Error(std::string("%") + c + " requires an integer");
        if (!(std::fabs(v.AsFloat()) < 9.2e18)) return Error("integer outside 64 bits");
        n = static_cast<int64_t>(v.AsFloat());
      }
      std::string digits = IntegerDigits(n, decimal ? 'd' : c);
      if (spec.precision > kMaxPrecision) return Fail(ErrorCode::kLimit, "format precision over 500");
      if (static_cast<int64_t>(digits.size()) < spec.precision) {
        digits.insert(0, static_cast<size_t>(spec.precision) - digits.size(), '0');
      }
      if (spec.zero && !left) spec.align = '=';
      if (left) spec.zero = false;
      std::string prefix = spec.alternate && !decimal ? std::string("0") + c : "";
      Add(&out, PadNumber(*this, n < 0, prefix, std::move(digits), spec).AsText());
    } else if (std::string_view("eEfFgG").find(c) != std::string_view::npos) {
      if (v.IsUndefined()) return FailUndefined(v);
      if (!v.IsNumber()) return Error(std::string("%") + c + " requires a number");
      spec.type = c;
      if (spec.zero && !left) spec.align = '=';
      if (left) spec.zero = false;
      Add(&out, FormatFloat(*this, v.AsFloat(), spec).AsText());
    } else {
      return Error("unsupported format character");
    }
  }
  bool mapping_like =
      args.IsMapping() || args.kind() == Kind::kList || args.IsUndefined() || IsObject(args, ObjectType::kRange);
  if (!failed() && !mapping_like && (tuple ? used < args.AsList().size() : used == 0)) {
    return Error("not all arguments converted during string formatting");
  }
  return Str(std::move(out));
}

// --- str.format

inline bool ParseFormatSpec(Interp& in, const std::string& s, FormatSpec* spec) {
  size_t i = 0, first = 0;
  auto is_align = [](char c) { return c == '<' || c == '>' || c == '=' || c == '^'; };
  if (!s.empty()) Decode(s, 0, &first);
  if (!s.empty() && first < s.size() && is_align(s[first])) {
    spec->fill = s.substr(0, first);
    spec->align = s[first];
    i = first + 1;
  } else if (!s.empty() && is_align(s[0])) {
    spec->align = s[0];
    i = 1;
  }
  auto has = [&](const char* set) {
    return i < s.size() && std::string_view(set).find(s[i]) != std::string_view::npos;
  };
  if (has("+- ")) spec->sign = s[i++];
  if (has("#")) spec->alternate = ++i > 0;
  if (has("0")) {
    ++i;
    spec->zero = true;
  }
  auto number = [&](int64_t* v) {
    for (*v = 0; has("0123456789"); ++i) *v = std::min<int64_t>(*v * 10 + (s[i] - '0'), 1000000000);
  };
  number(&spec->width);
  if (has(",_")) spec->group = s[i++];
  if (has(".")) {
    ++i;
    if (!has("0123456789")) return in.Error("format specifier lacks its precision"), false;
    number(&spec->precision);
  }
  if (has("bcdeEfFgGnosxX%")) spec->type = s[i++];
  if (i < s.size()) return in.Error("invalid format specifier '" + s + "'"), false;
  return true;
}

inline Value FormatValue(Interp& in, const Value& v, const std::string& text) {
  if (text.empty()) return in.Str(in.ToText(v));
  FormatSpec spec;
  if (!ParseFormatSpec(in, text, &spec)) return Value();
  std::string_view float_types("eEfFgG%");
  bool as_float = spec.type != 0 && float_types.find(spec.type) != std::string_view::npos;
  if (v.IsString()) {
    if ((spec.type != 0 && spec.type != 's') || spec.align == '=' || spec.sign != '-' || spec.alternate ||
        spec.group != 0) {
      return in.Error("format specifier does not suit a string");
    }
    if (spec.zero && spec.align == 0) spec.fill = "0";
    return FormatText(in, v.AsText(), spec);
  }
  if (v.kind() == Kind::kFloat || (v.IsInteger() && as_float)) {
    if (spec.type != 0 && spec.type != 'n' && !as_float) return in.Error("format specifier does not suit a float");
    return FormatFloat(in, v.AsFloat(), spec);
  }
  if (v.IsInteger()) {
    if (spec.type == 's' || spec.precision >= 0) return in.Error("format specifier does not suit an integer");
    if (spec.type == 'c') return in.Fail(ErrorCode::kUnsupported, "format type 'c' is not supported");
    return FormatInteger(in, v.AsInt(), spec);
  }
  return in.Error("format specifier for a value that takes none");
}

class Formatter {
 public:
  Formatter(Interp& in, const Args& args) : in_(in), args_(args) {}

  Text Run(const Text& f, int depth) {
    Text out;
    out.markup = f.markup;
    const std::string& s = f.bytes();
    for (size_t i = 0; i < s.size() && in_.Step();) {
      size_t brace = s.find_first_of("{}", i);
      in_.Add(&out, f, i, brace);
      if (brace == std::string::npos) break;
      if (brace + 1 < s.size() && s[brace + 1] == s[brace]) {
        in_.Add(&out, f, brace, brace + 1);
        i = brace + 2;
        continue;
      }
      size_t close = brace + 1;
      int open = 1;
      for (; close < s.size() && s[brace] == '{'; ++close) {
        open += s[close] == '{' ? 1 : s[close] == '}' ? -1 : 0;
        if (open == 0) break;
      }
      if (s[brace] == '}' || open != 0 || depth > 1) {
        in_.Error("str.format: unbalanced or too deeply nested braces");
        break;
      }
      Field(f.Sub(brace + 1, close), depth, &out);
      i = close + 1;
    }
    return out;
  }

 private:
  void Field(const Text& field, int depth, Text* out) {
    const std::string& s = field.bytes();
    size_t end = 0;
    for (bool bracket = false; end < s.size() && (bracket || (s[end] != ':' && s[end] != '!')); ++end) {
      if (s[end] == '[') bracket = true;
      if (s[end] == ']') bracket = false;
    }
    std::string name = s.substr(0, end), spec;
    char conversion = 0;
    if (end < s.size() && s[end] == '!') {
      conversion = end + 1 < s.size() ? s[end + 1] : '?';
      end += 2;
      if (end < s.size() && s[end] != ':') return void(in_.Error("str.format: expected ':' after the conversion"));
    }
    Value v = Get(name);
    if (end < s.size()) spec = Run(field.Sub(end + 1, s.size()), depth + 1).bytes();
    if (in_.failed()) return;
    if (conversion == 'r') {
      Text t;
      in_.Repr(v, &t);
      v = in_.Str(std::move(t));
    } else if (conversion == 's') {
      v = in_.Str(in_.ToText(v));
    } else if (conversion != 0) {
      return void(in_.Error("str.format: unknown conversion"));
    }
    Value formatted = FormatValue(in_, v, spec);
    if (in_.failed()) return;
    if (out->markup && !(v.IsString() && v.AsText().markup)) formatted = in_.Escape(formatted);
    in_.Add(out, formatted.AsText());
  }

  Value Get(const std::string& name) {
    size_t i = std::min(name.find_first_of(".["), name.size());
    std::string first = name.substr(0, i);
    Value v;
    bool number = !first.empty() && first.size() < 10 && first.find_first_not_of("0123456789") == std::string::npos;
    if (first.empty() || number) {
      if (first.empty() ? next_ < 0 : next_ > 0)
        return in_.Error("str.format: automatic and manual numbering are mixed");
      size_t index = first.empty() ? static_cast<size_t>(next_++) : static_cast<size_t>(std::stoul(first));
      if (!first.empty()) next_ = -1;
      if (index >= args_.pos.size()) return in_.Error("str.format: too few arguments");
      v = args_.pos[index];
    } else {
      const Value* found = nullptr;
      for (const auto& kw : args_.kw) {
        if (kw.first == first) found = &kw.second;
      }
      if (found == nullptr) return in_.Error("str.format: no argument named '" + first + "'");
      v = *found;
    }
    while (i < name.size() && in_.Step()) {
      if (name[i] == '.') {
        size_t end = std::min(name.find_first_of(".[", i + 1), name.size());
        v = in_.Attr(v, name.substr(i + 1, end - i - 1));
        i = end;
      } else {
        size_t end = name.find(']', i);
        if (name[i] != '[' || end == std::string::npos) return in_.Error("str.format: bad field name");
        std::string key = name.substr(i + 1, end - i - 1);
        bool digits = !key.empty() && key.size() < 10 && key.find_first_not_of("0123456789") == std::string::npos;
        v = in_.Item(v, digits ? Value::Int(std::stol(key)) : Value::String(key));
        i = end + 1;
      }
    }
    return v;
  }

  Interp& in_;
  const Args& args_;
  int64_t next_ = 0;  // -1 once a field had a number
};

WF_MODEL_INLINE Value Interp::Format(const Text& format, const Args& args) {
  Formatter formatter(*this, args);
  return Str(formatter.Run(format, 0));
}

}  // namespace wf::jinja::detail
#endif  // WF_TOKENIZER_JINJA_FORMAT_IMPL_H_
