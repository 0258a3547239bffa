// SPDX-License-Identifier: Apache-2.0
// Methods of str, dict, list, loop and cycler. Python methods that would change their object are known but
// undefined, as in Jinja's immutable sandbox; str methods left out here are refused by name.
#ifndef WF_TOKENIZER_JINJA_METHODS_IMPL_H_
#define WF_TOKENIZER_JINJA_METHODS_IMPL_H_

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <span>

#include "wf/tokenizer/jinja/access-impl.h"
#include "wf/tokenizer/jinja/filters-impl.h"

namespace wf::jinja::detail {

struct MethodDef {
  const char* name;
  const char* params;  // see Interp::Bind
  Value (*run)(Interp& in, const Value& self, const Bound& a);
};

// An argument that must be a string if given; marks failure otherwise.
inline const Text* TextArg(Interp& in, const Value* v, const char* what) {
  if (v == nullptr || v->IsNone()) return nullptr;
  if (v->IsString()) return &v->AsText();
  in.Error(std::string(what) + " must be a string");
  return nullptr;
}

// self[start:end] in code points, as bytes; empty optional if it is out of range.
struct Window {
  size_t begin = 0, end = 0;
  int64_t first = 0;  // code point at begin
  bool valid = false;
};
inline Window WindowOf(Interp& in, const std::string& s, const Value* start, const Value* end) {
  Window w{0, s.size(), 0, true};
  bool plain = (start == nullptr || start->IsNone()) && (end == nullptr || end->IsNone());
  if (plain) return w;
  int64_t n = static_cast<int64_t>(CountCodePoints(s)), from = 0, to = n;
  if (start != nullptr && !start->IsNone()) from = in.Integer(*start, "start").value_or(0);
  if (end != nullptr && !end->IsNone()) to = in.Integer(*end, "end").value_or(0);
  if (from < 0) from = std::max<int64_t>(0, from + n);
  if (to < 0) to = std::max<int64_t>(0, to + n);
  to = std::min(to, n);
  w.valid = from <= to;
  w.first = from;
  w.begin = ByteOffset(s, static_cast<size_t>(from));
  w.end = std::max(w.begin, ByteOffset(s, static_cast<size_t>(to)));
  return w;
}

inline Value FindIn(Interp& in, const Value& self, const Bound& a, bool last, bool must) {
  const std::string& s = self.AsText().bytes();
  const Text* what = TextArg(in, a[0], "find and index: argument");
  Window w = WindowOf(in, s, a[1], a[2]);
  if (in.failed()) return Value();
  if (what == nullptr) return in.Error("find and index need a string");
  in.Work(s.size());
  std::string_view part = std::string_view(s).substr(w.begin, w.end - w.begin);
  size_t at = !w.valid ? std::string_view::npos : last ? part.rfind(what->bytes()) : part.find(what->bytes());
  if (at != std::string_view::npos) {
    return Value::Int(w.first + static_cast<int64_t>(CountCodePoints(part.substr(0, at))));
  }
  return must ? in.Error("substring not found") : Value::Int(-1);
}

inline Value Affix(Interp& in, const Value& self, const Bound& a, bool prefix) {
  const std::string& s = self.AsText().bytes();
  Window w = WindowOf(in, s, a[1], a[2]);
  std::vector<Value> options{*a[0]};
  if (a[0]->kind() == Kind::kTuple) options = a[0]->AsList();
  std::string_view part = std::string_view(s).substr(w.begin, w.end - w.begin);
  for (const Value& o : options) {
    if (!in.Step()) return Value();
    if (!o.IsString()) return in.Error("startswith and endswith need a string or a tuple of strings");
    const std::string& t = o.AsText().bytes();
    if (w.valid && (prefix ? part.starts_with(t) : part.ends_with(t))) return Value::Bool(true);
  }
  return Value::Bool(false);
}

inline Value StripMethod(Interp& in, const Value& self, const Bound& a, bool left, bool right) {
  const Text* chars = TextArg(in, a[0], "strip: chars");
  return in.Str(Strip(in, self.AsText(), chars != nullptr ? &chars->bytes() : nullptr, left, right));
}

inline Value SplitMethod(Interp& in, const Value& self, const Bound& a, bool reverse) {
  const Text* sep = TextArg(in, a[0], "split: separator");
  int64_t max = a[1] != nullptr ? in.Integer(*a[1], "split: maxsplit").value_or(0) : -1;
  if (in.failed()) return Value();
  if (sep != nullptr && sep->size() == 0) return in.Error("empty separator");
  return ListOf(in, self.AsText(),
                Split(self.AsText().bytes(), sep != nullptr ? &sep->bytes() : nullptr, max, reverse));
}

inline Value Partition(Interp& in, const Value& self, const Bound& a, bool last) {
  const Text& t = self.AsText();
  if (!a[0]->IsString()) return in.Error("partition needs a string");
  const Text& sep = a[0]->AsText();
  if (sep.size() == 0) return in.Error("empty separator");
  in.Work(t.size());
  size_t at = last ? t.bytes().rfind(sep.bytes()) : t.bytes().find(sep.bytes());
  Value empty = Value::String("");
  if (at == std::string::npos) return last ? in.Tuple({empty, empty, self}) : in.Tuple({self, empty, empty});
  return in.Tuple({in.Str(t.Sub(0, at)), *a[0], in.Str(t.Sub(at + sep.size(), t.size()))});
}

inline Value PadMethod(Interp& in, const Value& self, const Bound& a, char align) {
  auto width = in.Integer(*a[0], "width");
  Text fill(std::string(" "));
  if (const Text* f = TextArg(in, a[1], "fill character")) fill = *f;
  if (in.failed()) return Value();
  if (CountCodePoints(fill.bytes()) != 1) return in.Error("the fill character must be one character");
  return Pad(in, self.AsText(), *width, fill, align);
}

inline Value RemoveAffix(Interp& in, const Value& self, const Bound& a, bool prefix) {
  const Text& t = self.AsText();
  if (!a[0]->IsString()) return in.Error("removeprefix and removesuffix need a string");
  const std::string& x = a[0]->AsText().bytes();
  if (prefix) return t.bytes().starts_with(x) ? in.Str(t.Sub(x.size(), t.size())) : self;
  return !x.empty() && t.bytes().ends_with(x) ? in.Str(t.Sub(0, t.size() - x.size())) : self;
}

inline Value All(Interp& in, const Value& self, bool (*test)(char32_t)) {
  const std::string& s = self.AsText().bytes();
  in.Work(s.size());
  for (size_t i = 0, next = 0; i < s.size(); i = next) {
    if (!test(Decode(s, i, &next))) return Value::Bool(false);
  }
  return Value::Bool(!s.empty());
}

inline Value Zfill(Interp& in, const Value& self, const Bound& a) {
  const Text& t = self.AsText();
  auto width = in.Integer(*a[0], "zfill: width");
  if (!width) return Value();
  size_t sign = t.size() > 0 && (t.bytes()[0] == '-' || t.bytes()[0] == '+') ? 1 : 0;
  Value body = Pad(in, t.Sub(sign, t.size()), *width - static_cast<int64_t>(sign), Text("0"), '>');
  Text out = t.Sub(0, sign);
  in.Add(&out, body.AsText());
  return in.Str(std::move(out));
}

inline constexpr MethodDef kStringMethods[] = {
    {"capitalize", "", [](Interp& in, const Value& s, const Bound&) { return in.Str(Capitalize(in, s.AsText())); }},
    {"center", "width fillchar=", [](Interp& in, const Value& s, const Bound& a) { return PadMethod(in, s, a, 'c'); }},
    {"count", "sub start= end=",
     [](Interp& in, const Value& s, const Bound& a) {
       if (!a[0]->IsString()) return in.Error("count needs a string");
       const std::string &text = s.AsText().bytes(), &sub = a[0]->AsText().bytes();
       Window w = WindowOf(in, text, a[1], a[2]);
       std::string_view part = std::string_view(text).substr(w.begin, w.end - w.begin);
       in.Work(text.size());
       if (!w.valid) return Value::Int(0);
       if (sub.empty()) return Value::Int(static_cast<int64_t>(CountCodePoints(part)) + 1);
       int64_t n = 0;
       for (size_t i = 0; (i = part.find(sub, i)) != std::string_view::npos; i += sub.size()) ++n;
       return Value::Int(n);
     }},
    {"endswith",
     "suffix start= end=", [](Interp& in, const Value& s, const Bound& a) { return Affix(in, s, a, false); }},
    {"find",
     "sub start= end=", [](Interp& in, const Value& s, const Bound& a) { return FindIn(in, s, a, false, false); }},
    {"format", "*", [](Interp& in, const Value& s, const Bound& a) { return in.Format(s.AsText(), *a.raw); }},
    {"index",
     "sub start= end=", [](Interp& in, const Value& s, const Bound& a) { return FindIn(in, s, a, false, true); }},
    {"isalnum", "",
     [](Interp& in, const Value& s, const Bound&) {
       return All(in, s, [](char32_t c) { return IsAlpha(c) || IsNumeric(c); });
     }},
    {"isalpha", "", [](Interp& in, const Value& s, const Bound&) { return All(in, s, IsAlpha); }},
    {"isascii", "",
     [](Interp& in, const Value& s, const Bound&) {
       return s.AsText().size() == 0 ? Value::Bool(true) : All(in, s, [](char32_t c) { return c < 0x80; });
     }},
    {"isdecimal", "", [](Interp& in, const Value& s, const Bound&) { return All(in, s, IsDecimal); }},
    {"isdigit", "", [](Interp& in, const Value& s, const Bound&) { return All(in, s, IsDigit); }},
    {"islower", "",
     [](Interp&, const Value& s, const Bound&) { return Value::Bool(CaseIs(s.AsText().bytes(), false)); }},
    {"isnumeric", "", [](Interp& in, const Value& s, const Bound&) { return All(in, s, IsNumeric); }},
    {"isspace", "", [](Interp& in, const Value& s, const Bound&) { return All(in, s, IsSpace); }},
    {"isupper", "",
     [](Interp&, const Value& s, const Bound&) { return Value::Bool(CaseIs(s.AsText().bytes(), true)); }},
    {"join", "iterable",
     [](Interp& in, const Value& s, const Bound& a) {
       std::vector<Value> items;
       if (!in.Iterate(*a[0], &items)) return Value();
       return Join(in, s.AsText(), items, false);
     }},
    {"ljust", "width fillchar=", [](Interp& in, const Value& s, const Bound& a) { return PadMethod(in, s, a, '<'); }},
    {"lower", "", [](Interp& in, const Value& s, const Bound&) { return in.Str(Lower(in, s.AsText())); }},
    {"lstrip", "chars=", [](Interp& in, const Value& s, const Bound& a) { return StripMethod(in, s, a, true, false); }},
    {"partition", "sep", [](Interp& in, const Value& s, const Bound& a) { return Partition(in, s, a, false); }},
    {"removeprefix", "prefix", [](Interp& in, const Value& s, const Bound& a) { return RemoveAffix(in, s, a, true); }},
    {"removesuffix", "suffix", [](Interp& in, const Value& s, const Bound& a) { return RemoveAffix(in, s, a, false); }},
    {"replace", "old new count=",
     [](Interp& in, const Value& s, const Bound& a) {
       if (!a[0]->IsString() || !a[1]->IsString()) return in.Error("replace needs strings");
       int64_t count = a[2] != nullptr ? in.Integer(*a[2], "replace: count").value_or(0) : -1;
       Value to = s.AsText().markup ? in.Escape(*a[1]) : *a[1];
       return in.Str(Replace(in, s.AsText(), a[0]->AsText(), to.AsText(), count));
     }},
    {"rfind",
     "sub start= end=", [](Interp& in, const Value& s, const Bound& a) { return FindIn(in, s, a, true, false); }},
    {"rindex",
     "sub start= end=", [](Interp& in, const Value& s, const Bound& a) { return FindIn(in, s, a, true, true); }},
    {"rjust", "width fillchar=", [](Interp& in, const Value& s, const Bound& a) { return PadMethod(in, s, a, '>'); }},
    {"rpartition", "sep", [](Interp& in, const Value& s, const Bound& a) { return Partition(in, s, a, true); }},
    {"rsplit",
     "sep= maxsplit=", [](Interp& in, const Value& s, const Bound& a) { return SplitMethod(in, s, a, true); }},
    {"rstrip", "chars=", [](Interp& in, const Value& s, const Bound& a) { return StripMethod(in, s, a, false, true); }},
    {"split",
     "sep= maxsplit=", [](Interp& in, const Value& s, const Bound& a) { return SplitMethod(in, s, a, false); }},
    {"splitlines", "keepends=",
     [](Interp& in, const Value& s, const Bound& a) {
       return ListOf(in, s.AsText(), SplitLines(s.AsText().bytes(), Flag(in, a[0])));
     }},
    {"startswith",
     "prefix start= end=", [](Interp& in, const Value& s, const Bound& a) { return Affix(in, s, a, true); }},
    {"strip", "chars=", [](Interp& in, const Value& s, const Bound& a) { return StripMethod(in, s, a, true, true); }},
    {"swapcase", "", [](Interp& in, const Value& s, const Bound&) { return in.Str(SwapCase(in, s.AsText())); }},
    {"title", "", [](Interp& in, const Value& s, const Bound&) { return in.Str(Title(in, s.AsText())); }},
    {"upper", "", [](Interp& in, const Value& s, const Bound&) { return in.Str(Upper(in, s.AsText())); }},
    {"zfill", "width", Zfill},
};

// part: 0 keys, 1 values, 2 both
inline Value DictView(Interp& in, const Value& self, const char* name, int part) {
  std::vector<Value> items;
  for (const auto& [key, value] : self.AsMapping()) {
    if (!in.Step(part == 2 ? 1 : items.size() % 16 == 0)) return Value();
    items.push_back(part == 0 ? key : part == 1 ? value : in.Tuple({key, value}));
  }
  return in.View(name, std::move(items));
}

inline constexpr MethodDef kDictMethods[] = {
    {"copy", "", [](Interp&, const Value& d, const Bound&) { return d; }},
    {"get", "key default=",
     [](Interp& in, const Value& d, const Bound& a) {
       if (!in.CanSetKey(*a[0])) return Value();
       const auto* rep = As<MappingRep>(d);
       size_t i = rep->Locate(*a[0]);
       return i < rep->items.size() ? rep->items[i].second : a[1] != nullptr ? *a[1] : Value::None();
     }},
    {"items", "", [](Interp& in, const Value& d, const Bound&) { return DictView(in, d, "dict_items", 2); }},
    {"keys", "", [](Interp& in, const Value& d, const Bound&) { return DictView(in, d, "dict_keys", 0); }},
    {"values", "", [](Interp& in, const Value& d, const Bound&) { return DictView(in, d, "dict_values", 1); }},
};

inline constexpr MethodDef kListMethods[] = {
    // of tuples too
    {"count", "value",
     [](Interp& in, const Value& list, const Bound& a) {
       int64_t n = 0;
       for (const Value& v : list.AsList()) n += in.Equal(v, *a[0]);
       return Value::Int(n);
     }},
    {"index", "value",
     [](Interp& in, const Value& list, const Bound& a) {
       for (size_t i = 0; i < list.AsList().size() && !in.failed(); ++i) {
         if (in.Equal(list.AsList()[i], *a[0])) return Value::Int(static_cast<int64_t>(i));
       }
       return in.Error("value is not in the list");
     }},
    {"copy", "", [](Interp&, const Value& list, const Bound&) { return list; }},
};

inline bool HasObject(Interp& in, const Value& v) {
  if (v.kind() == Kind::kObject) return true;
  for (const Value& item : v.AsList()) {
    if (!in.Step() || HasObject(in, item)) return true;
  }
  for (const auto& [key, value] : v.AsMapping()) {
    if (!in.Step() || HasObject(in, key) || HasObject(in, value)) return true;
  }
  return false;
}

inline constexpr MethodDef kLoopMethods[] = {
    {"cycle", "*",
     [](Interp& in, const Value& loop, const Bound& a) {
       if (a.raw->pos.empty()) return in.Error("no items for cycling given");
       size_t at = static_cast<size_t>(As<LoopRep>(loop)->index0);
       return a.raw->pos[at % a.raw->pos.size()];
     }},
    {"changed", "*",
     [](Interp& in, const Value& loop, const Bound& a) {
       const auto* rep = As<LoopRep>(loop);
       Value now = in.Tuple(a.raw->pos);
       // Kept by the loop: an object in it could refer back to the loop.
       if (HasObject(in, now)) return in.Error("loop.changed() takes plain values only");
       if (rep->has_changed && in.Equal(rep->changed, now)) return Value::Bool(false);
       rep->changed = std::move(now);
       rep->has_changed = true;
       return Value::Bool(true);
     }},
};

inline constexpr MethodDef kCyclerMethods[] = {
    {"next", "",
     [](Interp&, const Value& v, const Bound&) {
       const auto* c = As<CyclerRep>(v);
       size_t at = c->next;
       c->next = (at + 1) % c->items.size();
       return c->items[at];
     }},
    {"reset", "",
     [](Interp&, const Value& v, const Bound&) {
       As<CyclerRep>(v)->next = 0;
       return Value::None();
     }},
};

inline constexpr MethodDef kFloatMethods[] = {
    {"is_integer", "",
     [](Interp&, const Value& v, const Bound&) {
       return Value::Bool(std::isfinite(v.AsFloat()) && std::floor(v.AsFloat()) == v.AsFloat());
     }},
};

inline bool OneOf(std::string_view name, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// The attribute `name` that Python's object has, other than through a dict's keys.
WF_MODEL_INLINE Value Interp::Method(const Value& v, const std::string& name, bool* found) {
  std::span<const MethodDef> methods;
  bool unsafe = name.size() > 4 && name.starts_with("__") && name.ends_with("__");
  *found = true;
  switch (v.kind()) {
    case Kind::kString:
      methods = kStringMethods;
      if (OneOf(name, {"casefold", "encode", "expandtabs", "format_map", "isidentifier", "isprintable", "istitle",
                       "maketrans", "translate"})) {
        return Fail(ErrorCode::kUnsupported, "the string method '" + name + "' is not supported");
      }
      break;
    case Kind::kMapping:
      methods = kDictMethods;
      unsafe = OneOf(name, {"clear", "pop", "popitem", "setdefault", "update"});
      if (name == "fromkeys") return Fail(ErrorCode::kUnsupported, "the dict method 'fromkeys' is not supported");
      break;
    case Kind::kList:
    case Kind::kTuple:
      methods = std::span(kListMethods).first(v.kind() == Kind::kList ? 3 : 2);
      unsafe = unsafe || (v.kind() == Kind::kList &&
                          OneOf(name, {"append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"}));
      break;
    case Kind::kFloat:
      methods = kFloatMethods;
      break;
    case Kind::kObject:
      if (IsObject(v, ObjectType::kLoop)) {
        Value attr = LoopAttr(v, name, found);
        if (*found) return attr;
        *found = true;
        methods = kLoopMethods;
      } else if (IsObject(v, ObjectType::kCycler)) {
        if (name == "current") return As<CyclerRep>(v)->items[As<CyclerRep>(v)->next];
        methods = kCyclerMethods;
      } else if (IsObject(v, ObjectType::kNamespace)) {
        for (const auto& [key, value] : As<NamespaceRep>(v)->attrs) {
          if (key != name) continue;
          if (!name.starts_with('_')) return value;
          unsafe = true;
        }
      } else if (IsObject(v, ObjectType::kMacro) && name == "name") {
        return Value::String(program_.names[static_cast<size_t>(As<MacroRep>(v)->stmt->symbol)]);
      }
      break;
    default:
      break;
  }
  if (unsafe) return Undefined("access to attribute '" + name + "' is unsafe");
  for (const MethodDef& def : methods) {
    if (name != def.name) continue;
    auto rep = std::make_shared<MethodRep>();
    rep->self = v;
    rep->depth = 1 + v.depth();
    rep->def = &def;
    return Object(std::move(rep), 0);
  }
  *found = false;
  return Value();
}

WF_MODEL_INLINE Value CallMethod(Interp& in, const MethodRep& method, const Args& args) {
  Bound bound;
  if (!in.Bind("method", method.def->name, method.def->params, args, &bound)) return Value();
  Value self = method.self;  // outlives the call even if the method value does not
  return method.def->run(in, self, bound);
}

}  // namespace wf::jinja::detail

namespace wf::jinja {

WF_MODEL_INLINE Result<Text> RunProgram(const detail::Program& program, const Value& globals, const Limits& limits,
                                        std::optional<int64_t> now) {
  if (!globals.IsMapping()) return InvalidArgument("template globals must be a mapping");
  return detail::Interp(program, globals, limits, now).Run();
}

}  // namespace wf::jinja
#endif  // WF_TOKENIZER_JINJA_METHODS_IMPL_H_
