// SPDX-License-Identifier: Apache-2.0
// Jinja's filters that chat templates use, with Hugging Face's tojson. Filters that exist in Jinja but are not
// here (urlize, pprint, ...) are unknown, and so an error when the template is parsed.
#ifndef WF_TOKENIZER_JINJA_FILTERS_IMPL_H_
#define WF_TOKENIZER_JINJA_FILTERS_IMPL_H_

#include "wf/tokenizer/jinja/format-impl.h"
#include "wf/tokenizer/jinja/tests-impl.h"

namespace wf::jinja::detail {

struct FilterDef {
  const char* name;
  const char* params;  // see Interp::Bind
  Value (*run)(Interp& in, const Value& v, const Bound& a);
};

// soft_str: a string as it is, markup too; anything else as str() shows it.
inline Text SoftText(Interp& in, const Value& v) { return v.IsString() ? v.AsText() : in.ToText(v); }

inline bool Flag(Interp& in, const Value* v) { return v != nullptr && in.Truth(*v); }

inline Value IgnoreCase(Interp& in, const Value& v) { return v.IsString() ? in.Str(Lower(in, v.AsText())) : v; }

// What `attribute="a.b.0"` means: items, one after the other. No attribute: the value itself.
class AttributeGetter {
 public:
  AttributeGetter(Interp& in, const Value* attribute, bool ignore_case, const Value* fallback = nullptr)
      : in_(in), ignore_case_(ignore_case), fallback_(fallback) {
    if (attribute == nullptr || attribute->IsNone()) return;
    if (!attribute->IsString()) {
      parts_.push_back(*attribute);
      return;
    }
    std::string_view rest = attribute->AsText().bytes();
    while (true) {
      size_t dot = rest.find('.');
      std::string part(rest.substr(0, dot));
      bool digits = !part.empty() && part.size() < 10 && part.find_first_not_of("0123456789") == std::string::npos;
      parts_.push_back(digits ? Value::Int(std::stol(part)) : Value::String(part));
      if (dot == std::string_view::npos) break;
      rest.remove_prefix(dot + 1);
    }
  }
  Value operator()(const Value& v) const {
    Value item = v;
    for (const Value& part : parts_) {
      item = in_.Item(item, part);
      if (item.IsUndefined() && fallback_ != nullptr && !fallback_->IsNone()) item = *fallback_;
    }
    return ignore_case_ ? IgnoreCase(in_, item) : item;
  }

 private:
  Interp& in_;
  bool ignore_case_;
  const Value* fallback_;
  std::vector<Value> parts_;
};

inline Value SortBy(Interp& in, std::vector<Value> items, const std::vector<Value>& keys, bool reverse) {
  std::vector<size_t> order(items.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  auto less = [&](size_t a, size_t b) {
    return !in.failed() && (reverse ? in.Less(keys[b], keys[a], Op::kLt) : in.Less(keys[a], keys[b], Op::kLt));
  };
  std::stable_sort(order.begin(), order.end(), less);
  std::vector<Value> sorted;
  for (size_t i : order) sorted.push_back(items[i]);
  return in.List(std::move(sorted));
}

inline Value FilterSort(Interp& in, const Value& v, const Bound& a) {
  std::vector<Value> items, keys;
  if (!in.Iterate(v, &items)) return Value();
  std::vector<Value> attributes;
  if (a[2] != nullptr && a[2]->IsString()) {
    const std::string comma = ",";
    for (const ByteRange& r : Split(a[2]->AsText().bytes(), &comma, -1, false)) {
      attributes.push_back(Value::String(a[2]->AsText().Sub(r.begin, r.end)));
    }
  } else {
    attributes.push_back(a[2] != nullptr ? *a[2] : Value::None());
  }
  for (const Value& item : items) {
    if (!in.Step()) return Value();
    std::vector<Value> key;
    for (const Value& attribute : attributes) key.push_back(AttributeGetter(in, &attribute, !Flag(in, a[1]))(item));
    keys.push_back(in.List(std::move(key)));
  }
  return SortBy(in, std::move(items), keys, Flag(in, a[0]));
}

inline Value FilterDictsort(Interp& in, const Value& v, const Bound& a) {
  if (v.IsUndefined()) return in.FailUndefined(v);
  if (!v.IsMapping()) return in.Error("dictsort needs a mapping");
  bool by_value = false;
  if (a[1] != nullptr) {
    const std::string& by = a[1]->AsText().bytes();
    if (by != "key" && by != "value") return in.Error("dictsort: by must be 'key' or 'value'");
    by_value = by == "value";
  }
  std::vector<Value> items, keys;
  for (const auto& [key, value] : v.AsMapping()) {
    if (!in.Step()) return Value();
    items.push_back(in.Tuple({key, value}));
    const Value& by = by_value ? value : key;
    keys.push_back(Flag(in, a[0]) ? by : IgnoreCase(in, by));
  }
  return SortBy(in, std::move(items), keys, Flag(in, a[2]));
}

inline Value Extreme(Interp& in, const Value& v, const Bound& a, Op op) {
  std::vector<Value> items;
  if (!in.Iterate(v, &items)) return Value();
  if (items.empty()) return in.Undefined("no aggregated item, sequence was empty");
  AttributeGetter key(in, a[1], !Flag(in, a[0]));
  size_t best = 0;
  Value best_key = key(items[0]);
  for (size_t i = 1; i < items.size() && in.Step(); ++i) {
    Value k = key(items[i]);
    if (!in.Less(k, best_key, op)) continue;
    best = i;
    best_key = std::move(k);
  }
  return items[best];
}

inline Value FilterUnique(Interp& in, const Value& v, const Bound& a) {
  std::vector<Value> items, kept;
  if (!in.Iterate(v, &items)) return Value();
  AttributeGetter getter(in, a[1], !Flag(in, a[0]));
  MappingRep seen;
  for (Value& item : items) {
    Value key = getter(item);
    if (!in.CanSetKey(key) || !in.Step(1 + (key.IsString() ? 0 : seen.items.size() / 16))) return Value();
    if (seen.Locate(key) < seen.items.size()) continue;
    seen.Set(key, Value::None());
    kept.push_back(std::move(item));
  }
  return in.Iterator(std::move(kept));
}

inline Value FilterMap(Interp& in, const Value& v, const Bound& a) {
  if (!in.Truth(v)) return in.Iterator({});
  std::vector<Value> items, out;
  if (!in.Iterate(v, &items)) return Value();
  const Args& args = *a.raw;
  if (args.pos.empty()) {
    const Value *attribute = nullptr, *fallback = nullptr;
    for (const auto& [name, value] : args.kw) {
      if (name == "attribute") {
        attribute = &value;
      } else if (name == "default") {
        fallback = &value;
      } else {
        return in.Error("map: unexpected keyword argument '" + name + "'");
      }
    }
    if (attribute == nullptr) return in.Error("map requires a filter argument");
    AttributeGetter getter(in, attribute, false, fallback);
    for (const Value& item : items) {
      if (!in.Step()) return Value();
      out.push_back(getter(item));
    }
    return in.Iterator(std::move(out));
  }
  if (!args.pos[0].IsString()) return in.Error("map: the filter's name must be a string");
  const std::string& name = args.pos[0].AsText().bytes();
  Args rest{{args.pos.begin() + 1, args.pos.end()}, args.kw};
  int index = FindFilter(name);
  for (const Value& item : items) {
    if (!in.Step()) return Value();
    out.push_back(in.CallFilter(index, name, item, rest));
  }
  return in.Iterator(std::move(out));
}

inline Value Choose(Interp& in, const Value& v, const Bound& a, bool by_attribute, bool keep) {
  if (!in.Truth(v)) return in.Iterator({});
  std::vector<Value> items, out;
  if (!in.Iterate(v, &items)) return Value();
  const Args& args = *a.raw;
  size_t at = by_attribute ? 1 : 0;
  if (args.pos.size() < at) return in.Error("missing parameter for attribute name");
  AttributeGetter getter(in, by_attribute ? &args.pos[0] : nullptr, false);
  bool tests = args.pos.size() > at;
  if (tests && !args.pos[at].IsString()) return in.Error("the test's name must be a string");
  std::string name = tests ? args.pos[at].AsText().bytes() : "";
  int index = tests ? FindTest(name) : -1;
  Args rest;
  if (tests) rest = {{args.pos.begin() + static_cast<std::ptrdiff_t>(at) + 1, args.pos.end()}, args.kw};
  for (Value& item : items) {
    if (!in.Step()) return Value();
    Value subject = getter(item);
    bool holds = tests ? in.CallTest(index, name, subject, rest) : in.Truth(subject);
    if (holds == keep) out.push_back(std::move(item));
  }
  return in.Iterator(std::move(out));
}

inline Value FilterFirst(Interp& in, const Value& v, const Bound&) {
  if (IsObject(v, ObjectType::kIterator)) {
    const auto* it = As<IteratorRep>(v);
    if (it->next < it->items.size()) return it->items[it->next++];
    return in.Undefined("no first item, sequence was empty");
  }
  if (v.IsString() || v.IsSequence()) {
    if (in.Truth(v)) return v.IsString() ? in.Str(in.Item(v, Value::Int(0)).AsText().bytes(), v.AsText().UserAt(0)) : v.AsList()[0];
    return in.Undefined("no first item, sequence was empty");
  }
  std::vector<Value> items;
  if (!in.Iterate(v, &items)) return Value();
  return items.empty() ? in.Undefined("no first item, sequence was empty") : items[0];
}

inline Value FilterLast(Interp& in, const Value& v, const Bound&) {
  if (IsObject(v, ObjectType::kIterator)) return in.Error("a generator cannot be reversed");
  if (v.IsSequence() && !v.AsList().empty()) return v.AsList().back();
  std::vector<Value> items;
  if (!in.Iterate(v, &items)) return Value();
  return items.empty() ? in.Undefined("no last item, sequence was empty") : items.back();
}

inline Value FilterReverse(Interp& in, const Value& v, const Bound&) {
  if (v.IsString()) return in.Slice(v, Value::None(), Value::None(), Value::Int(-1));
  std::vector<Value> items;
  if (!in.Iterate(v, &items)) return Value();
  std::reverse(items.begin(), items.end());
  return IsObject(v, ObjectType::kIterator) ? in.List(std::move(items)) : in.Iterator(std::move(items));
}

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

inline Value FilterSum(Interp& in, const Value& v, const Bound& a) {
  std::vector<Value> items;
  if (!in.Iterate(v, &items)) return Value();
  AttributeGetter getter(in, a[0], false);
  Value total = a[1] != nullptr ? *a[1] : Value::Int(0);
  if (total.IsString()) return in.Error("sum: cannot add strings");
  for (const Value& item : items) {
    if (!in.Step()) return Value();
    total = in.Arithmetic(Op::kAdd, total, getter(item));
  }
  return total;
}

inline Value FilterItems(Interp& in, const Value& v, const Bound&) {
  if (v.IsUndefined()) return in.Iterator({});
  if (!v.IsMapping()) return in.Error("items needs a mapping");
  std::vector<Value> items;
  for (const auto& [key, value] : v.AsMapping()) {
    if (!in.Step()) return Value();
    items.push_back(in.Tuple({key, value}));
  }
  return in.Iterator(std::move(items));
}

// batch(n): rows of n. slice(n): n columns as even as can be.
inline Value Group(Interp& in, const Value& v, const Bound& a, bool columns) {
  std::vector<Value> items, out;
  auto n = in.Integer(*a[0], "batch and slice: count");
  if (!n || !in.Iterate(v, &items)) return Value();
  if (*n <= 0) return columns ? in.Error("slice: count must be positive") : in.Error("batch: count must be positive");
  if (static_cast<uint64_t>(*n) > in.limits().range) return in.Fail(ErrorCode::kLimit, "batch and slice: count too large");
  size_t count = static_cast<size_t>(*n), at = 0;
  bool fill = a[1] != nullptr && !a[1]->IsNone();
  size_t groups = columns ? count : (items.size() + count - 1) / count;
  for (size_t g = 0; g < groups && in.Step(); ++g) {
    size_t take = columns ? items.size() / count + (g < items.size() % count) : std::min(count, items.size() - at);
    std::vector<Value> group;
    for (size_t i = 0; i < take; ++i) group.push_back(items[at++]);
    if (fill && columns && g >= items.size() % count) group.push_back(*a[1]);
    if (fill && !columns) group.resize(count, *a[1]);
    out.push_back(in.List(std::move(group)));
  }
  return in.Iterator(std::move(out));
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
    {"abs", "", [](Interp& in, const Value& v, const Bound&) {
       if (v.kind() == Kind::kFloat) return Value::Float(std::fabs(v.AsFloat()));
       if (!v.IsInteger()) return in.Error("abs needs a number");
       return v.AsInt() < 0 ? in.Negate(v, true) : Value::Int(v.AsInt());
     }},
    {"attr", "name", [](Interp& in, const Value& v, const Bound& a) {
       bool found = false;
       Value attr = in.Method(v, in.ToText(*a[0]).bytes(), &found);
       return found ? attr : in.Undefined("object has no such attribute");
     }},
    {"batch", "linecount fill_with=", [](Interp& in, const Value& v, const Bound& a) { return Group(in, v, a, false); }},
    {"capitalize", "", [](Interp& in, const Value& v, const Bound&) { return in.Str(Capitalize(in, SoftText(in, v))); }},
    {"center", "width=", [](Interp& in, const Value& v, const Bound& a) {
       int64_t width = a[0] != nullptr ? in.Integer(*a[0], "center: width").value_or(0) : 80;
       return Pad(in, SoftText(in, v), width, Text(" "), '^');
     }},
    {"count", "", [](Interp& in, const Value& v, const Bound&) {
       return Value::Int(static_cast<int64_t>(in.Length(v).value_or(0)));
     }},
    {"d", "default_value= boolean=", [](Interp& in, const Value& v, const Bound& a) {
       if (!v.IsUndefined() && !(Flag(in, a[1]) && !in.Truth(v))) return v;
       return a[0] != nullptr ? *a[0] : Value::String("");
     }},
    {"dictsort", "case_sensitive= by= reverse=", FilterDictsort},
    {"e", "", [](Interp& in, const Value& v, const Bound&) { return in.Escape(v); }},
    {"first", "", FilterFirst},
    {"float", "default=", FilterFloat},
    {"forceescape", "", [](Interp& in, const Value& v, const Bound&) { return in.Escape(Value::String(in.ToText(v))); }},
    {"format", "*", [](Interp& in, const Value& v, const Bound& a) {
       if (!a.raw->pos.empty() && !a.raw->kw.empty()) return in.Error("format: positional or keyword arguments, not both");
       Value format = in.Str(SoftText(in, v));
       if (a.raw->kw.empty()) return in.Percent(format, in.Tuple(a.raw->pos));
       auto rep = std::make_shared<MappingRep>();
       for (const auto& [name, value] : a.raw->kw) rep->Set(Value::String(name), value);
       return in.Percent(format, in.Mapping(std::move(rep)));
     }},
    {"indent", "width= first= blank=", FilterIndent},
    {"int", "default= base=", FilterInt},
    {"items", "", FilterItems},
    {"join", "d= attribute=", [](Interp& in, const Value& v, const Bound& a) {
       std::vector<Value> items;
       if (!in.Iterate(v, &items)) return Value();
       if (a[1] != nullptr && !a[1]->IsNone()) {
         AttributeGetter getter(in, a[1], false);
         for (Value& item : items) item = getter(item);
       }
       return Join(in, a[0] != nullptr ? in.ToText(*a[0]) : Text(), items, true);
     }},
    {"last", "", FilterLast},
    {"list", "", [](Interp& in, const Value& v, const Bound&) {
       std::vector<Value> items;
       if (!in.Iterate(v, &items)) return Value();
       return in.List(std::move(items));
     }},
    {"lower", "", [](Interp& in, const Value& v, const Bound&) { return in.Str(Lower(in, SoftText(in, v))); }},
    {"map", "*", FilterMap},
    {"max", "case_sensitive= attribute=", [](Interp& in, const Value& v, const Bound& a) { return Extreme(in, v, a, Op::kGt); }},
    {"min", "case_sensitive= attribute=", [](Interp& in, const Value& v, const Bound& a) { return Extreme(in, v, a, Op::kLt); }},
    {"reject", "*", [](Interp& in, const Value& v, const Bound& a) { return Choose(in, v, a, false, false); }},
    {"rejectattr", "*", [](Interp& in, const Value& v, const Bound& a) { return Choose(in, v, a, true, false); }},
    {"replace", "old new count=", [](Interp& in, const Value& v, const Bound& a) {
       int64_t count = -1;
       if (a[2] != nullptr && !a[2]->IsNone()) count = in.Integer(*a[2], "replace: count").value_or(0);
       return in.Str(Replace(in, in.ToText(v), in.ToText(*a[0]), in.ToText(*a[1]), count));
     }},
    {"reverse", "", FilterReverse},
    {"round", "precision= method=", FilterRound},
    {"safe", "", [](Interp& in, const Value& v, const Bound&) {
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
    {"title", "", [](Interp& in, const Value& v, const Bound&) {
       Text t = TitleFilter(in, SoftText(in, v));
       t.markup = false;
       return in.Str(std::move(t));
     }},
    {"tojson", "ensure_ascii= indent= separators= sort_keys=",
     [](Interp& in, const Value& v, const Bound& a) { return in.ToJson(v, a); }},
    {"trim", "chars=", [](Interp& in, const Value& v, const Bound& a) {
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
