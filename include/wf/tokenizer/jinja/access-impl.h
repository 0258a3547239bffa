// SPDX-License-Identifier: Apache-2.0
// Subscripts and attributes, `loop`, and the functions every template can call. As in Jinja's immutable sandbox,
// methods that change a list or dict and names with a leading underscore are there but may not be used.
#ifndef WF_TOKENIZER_JINJA_ACCESS_IMPL_H_
#define WF_TOKENIZER_JINJA_ACCESS_IMPL_H_

#include <algorithm>
#include <ctime>

#include "wf/tokenizer/jinja/interp-impl.h"
#include "wf/tokenizer/jinja/operators-impl.h"

namespace wf::jinja::detail {

// `object.name`: attribute, then item.
WF_MODEL_INLINE Value Interp::Attr(const Value& v, const std::string& name) {
  if (failed()) return Value();
  if (v.IsUndefined()) return FailUndefined(v);
  bool found = false;
  Value attr = Method(v, name, &found);
  if (found) return attr;
  if (const Value* item = v.Find(name)) return *item;
  return Undefined("object has no attribute '" + name + "'");
}

// `object[key]`: item, then attribute.
WF_MODEL_INLINE Value Interp::Item(const Value& v, const Value& key) {
  if (failed()) return Value();
  if (v.IsUndefined()) return FailUndefined(v);
  if (v.IsMapping()) {
    const auto* rep = As<MappingRep>(v);
    if (key.kind() != Kind::kList && key.kind() != Kind::kMapping) {
      size_t i = rep->Locate(key);
      if (i < rep->items.size()) return rep->items[i].second;
    }
  } else if (key.IsInteger() && (v.IsString() || v.IsSequence() || IsObject(v, ObjectType::kRange))) {
    int64_t n = static_cast<int64_t>(Length(v).value_or(0)), i = key.AsInt();
    if (i < 0) i += n;
    if (i < 0 || i >= n) return Undefined("no element " + std::to_string(key.AsInt()));
    if (v.IsSequence()) return v.AsList()[static_cast<size_t>(i)];
    if (v.kind() == Kind::kObject) return Value::Int(RangeAt(*As<RangeRep>(v), i));
    const Text& t = v.AsText();
    size_t begin = ByteOffset(t.bytes(), static_cast<size_t>(i)), end = begin;
    Decode(t.bytes(), begin, &end);
    return Str(t.Sub(begin, end));
  }
  if (key.IsString()) {
    bool found = false;
    Value attr = Method(v, key.AsText().bytes(), &found);
    if (found) return attr;
    return Undefined("object has no attribute '" + key.AsText().bytes() + "'");
  }
  return Undefined("object has no such element");
}

WF_MODEL_INLINE Value Interp::LoopAttr(const Value& v, const std::string& name, bool* found) {
  const auto* loop = As<LoopRep>(v);
  *found = true;
  auto peek = [&] {
    Value next;
    if (loop->ahead.empty() && Pull(*loop, &next)) loop->ahead.push_back(std::move(next));
    return !loop->ahead.empty();
  };
  auto length = [&] {
    if (loop->length < 0) {
      if (loop->stmt->test == nullptr) {
        loop->length = static_cast<int64_t>(loop->items->size());
      } else {
        Value next;
        while (Pull(*loop, &next)) loop->ahead.push_back(std::move(next));
        loop->length = loop->index0 + 1 + static_cast<int64_t>(loop->ahead.size());
      }
    }
    return loop->length;
  };
  if (name == "index0") return Value::Int(loop->index0);
  if (name == "index") return Value::Int(loop->index0 + 1);
  if (name == "first") return Value::Bool(loop->index0 == 0);
  if (name == "last") return Value::Bool(!peek());
  if (name == "length") return Value::Int(length());
  if (name == "revindex") return Value::Int(length() - loop->index0);
  if (name == "revindex0") return Value::Int(length() - loop->index0 - 1);
  if (name == "depth") return Value::Int(1);
  if (name == "depth0") return Value::Int(0);
  if (name == "previtem") return loop->index0 == 0 ? Undefined("there is no previous item") : loop->before;
  if (name == "nextitem") return peek() ? loop->ahead.front() : Undefined("there is no next item");
  *found = false;
  return Value();
}

WF_MODEL_INLINE Value Interp::Builtin(const std::string& name) {
  static constexpr std::pair<std::string_view, Function> kFunctions[] = {{"range", Function::kRange},
                                                                         {"dict", Function::kDict},
                                                                         {"namespace", Function::kNamespace},
                                                                         {"cycler", Function::kCycler},
                                                                         {"joiner", Function::kJoiner},
                                                                         {"raise_exception", Function::kRaise},
                                                                         {"strftime_now", Function::kStrftimeNow}};
  for (const auto& [known, f] : kFunctions) {
    if (known == name) return Object(std::make_shared<FunctionRep>(f), 0);
  }
  if (name == "lipsum") return Fail(ErrorCode::kUnsupported, "the function 'lipsum' is not supported");
  return Undefined("'" + name + "' is undefined");
}

inline Value MakeRange(Interp& in, const Args& args) {
  if (!args.kw.empty() || args.pos.empty() || args.pos.size() > 3) return in.Error("range() takes 1 to 3 numbers");
  for (const Value& v : args.pos) {
    if (!in.Integer(v, "an argument of range()")) return Value();
  }
  auto rep = std::make_shared<RangeRep>();
  rep->start = args.pos.size() > 1 ? args.pos[0].AsInt() : 0;
  rep->stop = args.pos.size() > 1 ? args.pos[1].AsInt() : args.pos[0].AsInt();
  rep->step = args.pos.size() > 2 ? args.pos[2].AsInt() : 1;
  if (rep->step == 0) return in.Error("range() step must not be zero");
  bool up = rep->step > 0;
  if (up ? rep->stop > rep->start : rep->stop < rep->start) {
    uint64_t low = static_cast<uint64_t>(up ? rep->start : rep->stop);
    uint64_t high = static_cast<uint64_t>(up ? rep->stop : rep->start);
    uint64_t step = up ? static_cast<uint64_t>(rep->step) : 0 - static_cast<uint64_t>(rep->step);
    uint64_t count = (high - low - 1) / step + 1;
    if (count > in.limits().range) {
      return in.Fail(ErrorCode::kLimit, "range() over " + std::to_string(in.limits().range) + " elements");
    }
    rep->count = static_cast<int64_t>(count);
  }
  return in.Object(std::move(rep), 0);
}

// dict(): a mapping or a list of pairs, then keywords.
inline std::shared_ptr<MappingRep> MakeDict(Interp& in, const Args& args, const char* what) {
  auto rep = std::make_shared<MappingRep>();
  if (args.pos.size() > 1) {
    in.Error(std::string(what) + "() takes at most one positional argument");
    return rep;
  }
  if (args.pos.size() == 1) {
    const Value& from = args.pos[0];
    if (from.IsMapping()) {
      for (const auto& [key, value] : from.AsMapping()) rep->Set(key, value);
      in.Step(from.AsMapping().size() / 16);
    } else {
      std::vector<Value> pairs;
      if (!in.Iterate(from, &pairs)) return rep;
      for (const Value& p : pairs) {
        std::vector<Value> kv;
        if (!in.Step() || !in.Iterate(p, &kv)) return rep;
        if (kv.size() != 2) {
          in.Error(std::string(what) + "() needs pairs");
          return rep;
        }
        if (!in.CanSetKey(kv[0])) return rep;
        rep->Set(kv[0], kv[1]);
      }
    }
  }
  for (const auto& [name, value] : args.kw) rep->Set(Value::String(name), value);
  return rep;
}

inline Value StrftimeNow(Interp& in, const Args& args) {
  Bound a;
  if (!in.Bind("function", "strftime_now", "format", args, &a)) return Value();
  if (!a[0]->IsString()) return in.Error("strftime_now() takes a string");
  std::time_t now = in.now() ? static_cast<std::time_t>(*in.now()) : std::time(nullptr);
  std::tm parts{};
  if (localtime_r(&now, &parts) == nullptr) return in.Error("strftime_now(): time out of range");
  const std::string& format = a[0]->AsText().bytes();
  if (format.size() > 1024) return in.Fail(ErrorCode::kLimit, "strftime_now(): format over 1024 bytes");
  std::string out(16384, '\0');
  std::string guarded = format + "|";  // so that an empty result differs from one that does not fit
  if (guarded.find('\0') != std::string::npos) return in.Error("strftime_now(): zero byte in the format");
  size_t n = std::strftime(out.data(), out.size(), guarded.c_str(), &parts);
  if (n == 0) return in.Fail(ErrorCode::kLimit, "strftime_now(): result too long");
  out.resize(n - 1);
  if (FirstInvalidUtf8(out) < out.size()) return in.Error("strftime_now(): result is not UTF-8");
  return in.Str(std::move(out), a[0]->AsText().AnyUser());
}

WF_MODEL_INLINE Value Interp::CallFunction(Function f, const Args& args) {
  switch (f) {
    case Function::kRange:
      return MakeRange(*this, args);
    case Function::kDict:
      return Mapping(MakeDict(*this, args, "dict"));
    case Function::kNamespace: {
      auto rep = MakeDict(*this, args, "namespace");
      std::vector<std::pair<std::string, Value>> attrs;
      for (auto& [key, value] : rep->items) {
        if (!key.IsString()) return Error("namespace() needs string keys");
        attrs.emplace_back(key.AsText().bytes(), value);
      }
      return failed() ? Value() : MakeNamespace(std::move(attrs));
    }
    case Function::kCycler: {
      if (args.pos.empty() || !args.kw.empty()) return Error("cycler() needs at least one item");
      auto rep = std::make_shared<CyclerRep>();
      rep->items = args.pos;
      rep->depth = DepthOver(rep->items);
      return Object(std::move(rep), args.pos.size() * sizeof(Value));
    }
    case Function::kJoiner: {
      Bound a;
      if (!Bind("function", "joiner", "sep=", args, &a)) return Value();
      auto rep = std::make_shared<JoinerRep>();
      rep->separator = a[0] != nullptr ? *a[0] : Value::String(", ");
      rep->depth = 1 + rep->separator.depth();
      return Object(std::move(rep), 0);
    }
    case Function::kRaise: {
      Bound a;
      if (!Bind("function", "raise_exception", "message", args, &a)) return Value();
      Text message = ToText(*a[0]);
      return failed() ? Value() : Fail(ErrorCode::kInvalidArgument, message.bytes());
    }
    case Function::kStrftimeNow:
      return StrftimeNow(*this, args);
  }
  return Error("internal: unknown function");
}

// params: names separated by spaces; "name=" may be left out. Fails as Python does for a wrong call.
WF_MODEL_INLINE bool Interp::Bind(const char* what, const std::string& name, const char* params, const Args& args,
                                  Bound* out) {
  out->raw = &args;
  auto complain = [&](const std::string& message) {
    Error(std::string(what) + " '" + name + "' " + message);
    return false;
  };
  std::string_view rest = params;
  if (rest == "*") return true;
  size_t count = 0, used = 0;
  while (!rest.empty() && count < Bound::kMax) {
    size_t space = rest.find(' ');
    std::string_view param = rest.substr(0, space);
    rest = space == std::string_view::npos ? std::string_view() : rest.substr(space + 1);
    bool optional = param.back() == '=';
    if (optional) param.remove_suffix(1);
    const Value* v = count < args.pos.size() ? &args.pos[count] : nullptr;
    for (const auto& kw : args.kw) {
      if (kw.first != param) continue;
      if (v != nullptr) return complain("got two values for '" + kw.first + "'");
      v = &kw.second;
      ++used;
    }
    if (v == nullptr && !optional) return complain("needs the argument '" + std::string(param) + "'");
    out->v[count++] = v;
  }
  if (args.pos.size() > count) return complain("takes at most " + std::to_string(count) + " argument(s)");
  if (used < args.kw.size()) return complain("got an unknown keyword argument");
  return true;
}

}  // namespace wf::jinja::detail
#endif  // WF_TOKENIZER_JINJA_ACCESS_IMPL_H_
