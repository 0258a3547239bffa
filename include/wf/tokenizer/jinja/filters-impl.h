// SPDX-License-Identifier: Apache-2.0
// Jinja's filters that chat templates use, with Hugging Face's tojson. Filters that exist in Jinja but are not
// here (urlize, pprint, ...) are unknown, and so an error when the template is parsed.
#ifndef WF_TOKENIZER_JINJA_FILTERS_IMPL_H_
#define WF_TOKENIZER_JINJA_FILTERS_IMPL_H_

#include <cmath>
#include <iterator>

#include "wf/tokenizer/jinja/filters_seq-impl.h"
#include "wf/tokenizer/jinja/format-impl.h"
#include "wf/tokenizer/jinja/tests-impl.h"

namespace wf::jinja::detail {

struct FilterDef {
  const char* name;
  const char* params;  // see Interp::Bind
  Value (*run)(Interp& in, const Value& v, const Bound& a);
};

inline Value FilterIndent(Interp& in, const Value& v, const Bound& a) {
  if (v.IsUndefined()) return in.FailUndefined(v);
  if (!v.IsString()) return in.Error("indent needs a string");
  Text width(std::string(4, ' '));
  if (a[0] != nullptr && a[0]->IsString()) {
    width = a[0]->AsText();
  } else if (a[0] != nullptr) {
    auto n = in.Integer(*a[0], "indent: width");
    if (!n) return Value();
    if (*n > 100000) return in.Fail(ErrorCode::kLimit, "indent: width over 100000");
    width = Text(std::string(static_cast<size_t>(std::max<int64_t>(*n, 0)), ' '));
  }
  const Text& t = v.AsText();
  Text out;
  out.markup = t.markup;
  in.Work(t.size());
  std::vector<ByteRange> lines = SplitLines(t.bytes() + "\n", false);
  if (Flag(in, a[1])) in.Add(&out, width);
  for (size_t i = 0; i < lines.size() && !in.failed(); ++i) {
    if (i > 0) in.Add(&out, "\n");
    if (i > 0 && (lines[i].end > lines[i].begin || Flag(in, a[2]))) in.Add(&out, width);
    in.Add(&out, t, lines[i].begin, lines[i].end);
  }
  return in.Str(std::move(out));
}

inline Value FilterInt(Interp& in, const Value& v, const Bound& a) {
  Value fallback = a[0] != nullptr ? *a[0] : Value::Int(0);
  if (v.IsUndefined()) return in.FailUndefined(v);
  if (v.IsInteger()) return Value::Int(v.AsInt());
  double d = 0;
  if (v.IsString()) {
    int64_t base = 10;
    if (a[1] != nullptr) {
      auto b = in.Integer(*a[1], "int: base");
      if (!b) return Value();
      base = *b;
    }
    bool overflow = false;
    if (auto i = ParseInteger(v.AsText().bytes(), base, &overflow)) return Value::Int(*i);
    if (overflow) return in.Error("int: outside 64 bits");
    auto f = ParseFloat(v.AsText().bytes());
    if (!f || std::isinf(*f)) return fallback;
    d = *f;
  } else if (v.kind() == Kind::kFloat) {
    d = v.AsFloat();
    if (std::isinf(d)) return in.Error("cannot convert infinity to an integer");
  } else {
    return fallback;
  }
  if (std::isnan(d)) return fallback;
  if (!(std::fabs(d) < 9.2e18)) return in.Error("int: outside 64 bits");
  return Value::Int(static_cast<int64_t>(d));
}

inline Value FilterFloat(Interp& in, const Value& v, const Bound& a) {
  if (v.IsUndefined()) return in.FailUndefined(v);
  if (v.IsNumber()) return Value::Float(v.AsFloat());
  if (v.IsString()) {
    if (auto d = ParseFloat(v.AsText().bytes())) return Value::Float(*d);
  }
  return a[0] != nullptr ? *a[0] : Value::Float(0);
}

inline Value FilterRound(Interp& in, const Value& v, const Bound& a) {
  int64_t precision = 0;
  if (a[0] != nullptr) {
    auto p = in.Integer(*a[0], "round: precision");
    if (!p) return Value();
    precision = std::clamp<int64_t>(*p, -400, 400);
  }
  std::string method = a[1] != nullptr ? a[1]->AsText().bytes() : "common";
  if (method != "common" && method != "ceil" && method != "floor") return in.Error("round: unknown method");
  if (v.IsUndefined()) return in.FailUndefined(v);
  if (!v.IsNumber()) return in.Error("round needs a number");
  double d = v.AsFloat();
  if (method != "common") {
    double scale = std::pow(10.0, static_cast<double>(precision));
    double scaled = d * scale;
    if (!std::isfinite(scaled)) return in.Error("round: result out of range");
    return Value::Float((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
  }
  if (v.IsInteger() && precision >= 0) return Value::Int(v.AsInt());
  if (precision < 0) {
    double scale = std::pow(10.0, static_cast<double>(-precision));
    double rounded = std::nearbyint(d / scale) * scale;  // ties to even, the mode nobody changes
    if (v.IsInteger()) return Value::Int(std::fabs(rounded) < 9.2e18 ? static_cast<int64_t>(rounded) : 0);
    return Value::Float(rounded);
  }
  if (!std::isfinite(d) || precision > 22) return Value::Float(d);
  double rounded = ParseFloat(FloatDigits(d, 'f', precision, false)).value_or(0);
  return Value::Float(std::signbit(d) ? -rounded : rounded);
}

inline Value FilterTruncate(Interp& in, const Value& v, const Bound& a) {
  if (!v.IsString()) return in.Error("truncate needs a string");
  int64_t length = 255, leeway = 5;
  Text end(std::string("..."));
  if (a[0] != nullptr) length = in.Integer(*a[0], "truncate: length").value_or(0);
  if (a[2] != nullptr) end = SoftText(in, *a[2]);
  if (a[3] != nullptr && !a[3]->IsNone()) leeway = in.Integer(*a[3], "truncate: leeway").value_or(0);
  int64_t dots = static_cast<int64_t>(CountCodePoints(end.bytes()));
  if (in.failed()) return Value();
  if (length < dots || leeway < 0) return in.Error("truncate: length or leeway too small");
  const Text& t = v.AsText();
  if (static_cast<int64_t>(CountCodePoints(t.bytes())) - leeway <= length) return v;
  Text cut = t.Sub(0, ByteOffset(t.bytes(), static_cast<size_t>(length - dots)));
  if (!Flag(in, a[1])) {
    size_t space = cut.bytes().rfind(' ');
    if (space != std::string::npos) cut = cut.Sub(0, space);
  }
  in.Add(&cut, end);
  return in.Str(std::move(cut));
}

inline Value FilterWordcount(Interp& in, const Value& v, const Bound&) {
  Text t = SoftText(in, v);
  int64_t words = 0;
  bool inside = false;
  for (size_t i = 0, next = 0; i < t.size(); i = next) {
    char32_t c = Decode(t.bytes(), i, &next);
    bool word = c == '_' || IsAlpha(c) || IsNumeric(c);
    words += word && !inside;
    inside = word;
  }
  return Value::Int(words);
}

inline constexpr FilterDef kFilters[] = {
    {"abs", "",
     [](Interp& in, const Value& v, const Bound&) {
       if (v.kind() == Kind::kFloat) return Value::Float(std::fabs(v.AsFloat()));
       if (!v.IsInteger()) return in.Error("abs needs a number");
       return v.AsInt() < 0 ? in.Negate(v, true) : Value::Int(v.AsInt());
     }},
    {"attr", "name",
     [](Interp& in, const Value& v, const Bound& a) {
       bool found = false;
       Value attr = in.Method(v, in.ToText(*a[0]).bytes(), &found);
       return found ? attr : in.Undefined("object has no such attribute");
     }},
    {"batch",
     "linecount fill_with=", [](Interp& in, const Value& v, const Bound& a) { return Group(in, v, a, false); }},
    {"capitalize", "",
     [](Interp& in, const Value& v, const Bound&) { return in.Str(Capitalize(in, SoftText(in, v))); }},
    {"center", "width=",
     [](Interp& in, const Value& v, const Bound& a) {
       int64_t width = a[0] != nullptr ? in.Integer(*a[0], "center: width").value_or(0) : 80;
       return Pad(in, SoftText(in, v), width, Text(" "), 'c');
     }},
    {"count", "",
     [](Interp& in, const Value& v, const Bound&) {
       return Value::Int(static_cast<int64_t>(in.Length(v).value_or(0)));
     }},
    {"d", "default_value= boolean=",
     [](Interp& in, const Value& v, const Bound& a) {
       if (!v.IsUndefined() && !(Flag(in, a[1]) && !in.Truth(v))) return v;
       return a[0] != nullptr ? *a[0] : Value::String("");
     }},
    {"dictsort", "case_sensitive= by= reverse=", FilterDictsort},
    {"e", "", [](Interp& in, const Value& v, const Bound&) { return in.Escape(v); }},
    {"first", "", FilterFirst},
    {"float", "default=", FilterFloat},
    {"forceescape", "",
     [](Interp& in, const Value& v, const Bound&) { return in.Escape(Value::String(in.ToText(v))); }},
    {"format", "*",
     [](Interp& in, const Value& v, const Bound& a) {
       if (!a.raw->pos.empty() && !a.raw->kw.empty())
         return in.Error("format: positional or keyword arguments, not both");
       Value format = in.Str(SoftText(in, v));
       if (a.raw->kw.empty()) return in.Percent(format, in.Tuple(a.raw->pos));
       auto rep = std::make_shared<MappingRep>();
       for (const auto& [name, value] : a.raw->kw) rep->Set(Value::String(name), value);
       return in.Percent(format, in.Mapping(std::move(rep)));
     }},
    {"indent", "width= first= blank=", FilterIndent},
    {"int", "default= base=", FilterInt},
    {"items", "", FilterItems},
    {"join", "d= attribute=",
     [](Interp& in, const Value& v, const Bound& a) {
       std::vector<Value> items;
       if (!in.Iterate(v, &items)) return Value();
       if (a[1] != nullptr && !a[1]->IsNone()) {
         AttributeGetter getter(in, a[1], false);
         for (Value& item : items) item = getter(item);
       }
       return Join(in, a[0] != nullptr ? in.ToText(*a[0]) : Text(), items, true);
     }},
    {"last", "", FilterLast},
    {"list", "",
     [](Interp& in, const Value& v, const Bound&) {
       std::vector<Value> items;
       if (!in.Iterate(v, &items)) return Value();
       return in.List(std::move(items));
     }},
    {"lower", "", [](Interp& in, const Value& v, const Bound&) { return in.Str(Lower(in, SoftText(in, v))); }},
    {"map", "*", FilterMap},
    {"max", "case_sensitive= attribute=",
     [](Interp& in, const Value& v, const Bound& a) { return Extreme(in, v, a, Op::kGt); }},
    {"min", "case_sensitive= attribute=",
     [](Interp& in, const Value& v, const Bound& a) { return Extreme(in, v, a, Op::kLt); }},
    {"reject", "*", [](Interp& in, const Value& v, const Bound& a) { return Choose(in, v, a, false, false); }},
    {"rejectattr", "*", [](Interp& in, const Value& v, const Bound& a) { return Choose(in, v, a, true, false); }},
    {"replace", "old new count=",
     [](Interp& in, const Value& v, const Bound& a) {
       int64_t count = -1;
       if (a[2] != nullptr && !a[2]->IsNone()) count = in.Integer(*a[2], "replace: count").value_or(0);
       return in.Str(Replace(in, in.ToText(v), in.ToText(*a[0]), in.ToText(*a[1]), count));
     }},
    {"reverse", "", FilterReverse},
    {"round", "precision= method=", FilterRound},
    {"safe", "",
     [](Interp& in, const Value& v, const Bound&) {
       Text t = in.ToText(v);
       t.markup = true;
       return in.Str(std::move(t));
     }},
    {"select", "*", [](Interp& in, const Value& v, const Bound& a) { return Choose(in, v, a, false, true); }},
    {"selectattr", "*", [](Interp& in, const Value& v, const Bound& a) { return Choose(in, v, a, true, true); }},
    {"slice", "slices fill_with=", [](Interp& in, const Value& v, const Bound& a) { return Group(in, v, a, true); }},
    {"sort", "reverse= case_sensitive= attribute=", FilterSort},
    {"string", "", [](Interp& in, const Value& v, const Bound&) { return in.Str(SoftText(in, v)); }},
    {"sum", "attribute= start=", FilterSum},
    {"title", "",
     [](Interp& in, const Value& v, const Bound&) {
       Text t = TitleFilter(in, SoftText(in, v));
       t.markup = false;
       return in.Str(std::move(t));
     }},
    {"tojson", "ensure_ascii= indent= separators= sort_keys=",
     [](Interp& in, const Value& v, const Bound& a) { return in.ToJson(v, a); }},
    {"trim", "chars=",
     [](Interp& in, const Value& v, const Bound& a) {
       bool chars = a[0] != nullptr && !a[0]->IsNone();
       if (chars && !a[0]->IsString()) return in.Error("trim: chars must be a string");
       return in.Str(Strip(in, SoftText(in, v), chars ? &a[0]->AsText().bytes() : nullptr, true, true));
     }},
    {"truncate", "length= killwords= end= leeway=", FilterTruncate},
    {"unique", "case_sensitive= attribute=", FilterUnique},
    {"upper", "", [](Interp& in, const Value& v, const Bound&) { return in.Str(Upper(in, SoftText(in, v))); }},
    {"wordcount", "", FilterWordcount},
};

WF_MODEL_INLINE int FindFilter(std::string_view name) {
  if (name == "default") name = "d";
  if (name == "length") name = "count";
  if (name == "escape") name = "e";
  for (size_t i = 0; i < std::size(kFilters); ++i) {
    if (name == kFilters[i].name) return static_cast<int>(i);
  }
  return -1;
}

WF_MODEL_INLINE Value Interp::CallFilter(int index, const std::string& name, const Value& in, const Args& args) {
  Deeper deeper(this);  // map('map', ...) calls filters from filters
  if (failed()) return Value();
  if (index < 0) return Error("no filter named '" + name + "'");
  const FilterDef& def = kFilters[index];
  Bound bound;
  if (!Bind("filter", name, def.params, args, &bound)) return Value();
  return def.run(*this, in, bound);
}

}  // namespace wf::jinja::detail
#endif  // WF_TOKENIZER_JINJA_FILTERS_IMPL_H_
