// SPDX-License-Identifier: Apache-2.0
// Python's operators on values: truth, comparison, arithmetic, subscripts, iteration. Integers are 64 bits:
// a result outside them is an error, not a wrong number.
#ifndef WF_TOKENIZER_JINJA_OPERATORS_IMPL_H_
#define WF_TOKENIZER_JINJA_OPERATORS_IMPL_H_

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "wf/tokenizer/jinja/interp-impl.h"

namespace wf::jinja::detail {

// Wraps where it would overflow: only one-past-the-end values can.
inline int64_t RangeAt(const RangeRep& r, int64_t i) {
  return static_cast<int64_t>(static_cast<uint64_t>(r.start) +
                              static_cast<uint64_t>(i) * static_cast<uint64_t>(r.step));
}

// The items of an object that holds a plain list of them, else null.
inline const std::vector<Value>* HeldItems(const Value& v) {
  if (v.IsSequence()) return &v.AsList();
  if (IsObject(v, ObjectType::kView)) return &As<ViewRep>(v)->items;
  return nullptr;
}

WF_MODEL_INLINE bool Interp::Truth(const Value& v) {
  switch (v.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
    case Kind::kInt:
      return v.AsInt() != 0;
    case Kind::kFloat:
      return v.AsFloat() != 0;
    case Kind::kString:
      return v.AsText().size() > 0;
    case Kind::kList:
    case Kind::kTuple:
      return !v.AsList().empty();
    case Kind::kMapping:
      return !v.AsMapping().empty();
    case Kind::kObject:
      if (IsObject(v, ObjectType::kView)) return !As<ViewRep>(v)->items.empty();
      if (IsObject(v, ObjectType::kRange)) return As<RangeRep>(v)->count > 0;
      return true;
  }
  return false;
}

WF_MODEL_INLINE bool Interp::Equal(const Value& a, const Value& b) {
  if (!Step()) return false;
  if (a.IsString() && b.IsString()) {
    Work(a.AsText().size());
    return a.AsText().bytes() == b.AsText().bytes();
  }
  if (a.kind() == b.kind() && a.IsSequence()) {
    const auto &x = a.AsList(), &y = b.AsList();
    if (x.size() != y.size()) return false;
    for (size_t i = 0; i < x.size(); ++i) {
      if (!Equal(x[i], y[i])) return false;
    }
    return true;
  }
  if (a.IsMapping() && b.IsMapping()) {
    if (a.AsMapping().size() != b.AsMapping().size()) return false;
    const auto* other = As<MappingRep>(b);
    for (const auto& [key, value] : a.AsMapping()) {
      size_t i = other->Locate(key);
      if (i == other->items.size() || !Equal(value, other->items[i].second)) return false;
    }
    return true;
  }
  if (IsObject(a, ObjectType::kRange) && IsObject(b, ObjectType::kRange)) {
    const auto *x = As<RangeRep>(a), *y = As<RangeRep>(b);
    if (x->count != y->count) return false;
    return x->count == 0 || (x->start == y->start && (x->count == 1 || x->step == y->step));
  }
  return KeyEquals(a, b);
}

WF_MODEL_INLINE bool Interp::Less(const Value& a, const Value& b, Op op) {
  if (!Step()) return false;
  if (a.IsUndefined() || b.IsUndefined()) {
    FailUndefined(a.IsUndefined() ? a : b);
    return false;
  }
  auto decide = [op](int order) {
    return op == Op::kLt ? order < 0 : op == Op::kLe ? order <= 0 : op == Op::kGt ? order > 0 : order >= 0;
  };
  if (a.IsInteger() && b.IsInteger()) return decide(a.AsInt() < b.AsInt() ? -1 : a.AsInt() > b.AsInt());
  if (a.IsNumber() && b.IsNumber()) {
    double x = a.AsFloat(), y = b.AsFloat();
    if (std::isnan(x) || std::isnan(y)) return false;
    return decide(x < y ? -1 : x > y);
  }
  if (a.IsString() && b.IsString()) {
    Work(a.AsText().size());
    return decide(a.AsText().bytes().compare(b.AsText().bytes()));  // UTF-8 sorts as code points do
  }
  if (a.kind() == b.kind() && a.IsSequence()) {
    const auto &x = a.AsList(), &y = b.AsList();
    for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
      if (!Equal(x[i], y[i])) return Less(x[i], y[i], op);
    }
    return decide(x.size() < y.size() ? -1 : x.size() > y.size());
  }
  Error("values of these types cannot be ordered");
  return false;
}

WF_MODEL_INLINE bool Interp::Contains(const Value& container, const Value& item) {
  if (container.IsString()) {
    if (!item.IsString()) {
      Error("'in <string>' requires a string on the left");
      return false;
    }
    Work(container.AsText().size());
    return container.AsText().bytes().find(item.AsText().bytes()) != std::string::npos;
  }
  if (container.IsMapping()) {
    if (!CanSetKey(item)) return false;
    const auto* rep = As<MappingRep>(container);
    return rep->Locate(item) < rep->items.size();
  }
  if (container.IsUndefined()) return false;
  std::vector<Value> items;
  const std::vector<Value>* held = HeldItems(container);
  if (held == nullptr) {
    if (!Iterate(container, &items)) return false;
    held = &items;
  }
  for (const Value& v : *held) {
    if (Equal(v, item)) return !failed();
    if (failed()) break;
  }
  return false;
}

WF_MODEL_INLINE std::optional<int64_t> Interp::Integer(const Value& v, const char* what) {
  if (v.IsInteger()) return v.AsInt();
  if (v.IsUndefined()) {
    FailUndefined(v);
  } else {
    Error(std::string(what) + " must be an integer");
  }
  return std::nullopt;
}

WF_MODEL_INLINE Value Interp::Negate(const Value& v, bool minus) {
  if (v.IsUndefined()) return FailUndefined(v);
  if (v.kind() == Kind::kFloat) return Value::Float(minus ? -v.AsFloat() : v.AsFloat());
  if (!v.IsInteger()) return Error("bad operand of unary + or -");
  if (minus && v.AsInt() == std::numeric_limits<int64_t>::min()) return Error("integer outside 64 bits");
  return Value::Int(minus ? -v.AsInt() : v.AsInt());
}

inline Value IntegerArithmetic(Interp& in, Op op, int64_t x, int64_t y) {
  int64_t r = 0;
  bool overflow = false;
  switch (op) {
    case Op::kAdd:
      overflow = __builtin_add_overflow(x, y, &r);
      break;
    case Op::kSub:
      overflow = __builtin_sub_overflow(x, y, &r);
      break;
    case Op::kMul:
      overflow = __builtin_mul_overflow(x, y, &r);
      break;
    case Op::kDiv:
      if (y == 0) return in.Error("division by zero");
      return Value::Float(static_cast<double>(x) / static_cast<double>(y));
    case Op::kFloorDiv:
    case Op::kMod: {
      if (y == 0) return in.Error("division or modulo by zero");
      if (y == -1) {  // the quotient of the smallest integer has no place
        if (op == Op::kMod) return Value::Int(0);
        overflow = __builtin_sub_overflow(int64_t{0}, x, &r);
        break;
      }
      int64_t q = x / y, m = x % y;
      if (m != 0 && (m < 0) != (y < 0)) {
        --q;
        m += y;
      }
      return Value::Int(op == Op::kMod ? m : q);
    }
    case Op::kPow:
      if (y < 0) {
        if (x == 0) return in.Error("0 cannot be raised to a negative power");
        return Value::Float(std::pow(static_cast<double>(x), static_cast<double>(y)));
      }
      r = 1;
      for (int64_t base = x; y > 0 && !overflow; y >>= 1) {
        if (y & 1) overflow = __builtin_mul_overflow(r, base, &r);
        if (y > 1 && !overflow) overflow = __builtin_mul_overflow(base, base, &base);
      }
      break;
    default:
      return in.Error("internal: not an arithmetic operator");
  }
  if (overflow) return in.Error("integer outside 64 bits");
  return Value::Int(r);
}

inline Value FloatArithmetic(Interp& in, Op op, double x, double y) {
  switch (op) {
    case Op::kAdd:
      return Value::Float(x + y);
    case Op::kSub:
      return Value::Float(x - y);
    case Op::kMul:
      return Value::Float(x * y);
    case Op::kDiv:
      return y == 0 ? in.Error("division by zero") : Value::Float(x / y);
    case Op::kFloorDiv:
    case Op::kMod: {
      if (y == 0) return in.Error("division or modulo by zero");
      double m = std::fmod(x, y);
      double q = (x - m) / y;
      if (m != 0) {
        if ((y < 0) != (m < 0)) {
          m += y;
          q -= 1;
        }
      } else {
        m = std::copysign(0.0, y);
      }
      if (op == Op::kMod) return Value::Float(m);
      if (q == 0) return Value::Float(std::copysign(0.0, x / y));
      double f = std::floor(q);
      return Value::Float(q - f > 0.5 ? f + 1 : f);
    }
    case Op::kPow: {
      if (x == 0 && y < 0) return in.Error("0.0 cannot be raised to a negative power");
      if (x < 0 && std::floor(y) != y) return in.Error("complex numbers are not supported");
      double r = std::pow(x, y);
      if (std::isinf(r) && !std::isinf(x) && !std::isinf(y)) return in.Error("numerical result out of range");
      return Value::Float(r);
    }
    default:
      return in.Error("internal: not an arithmetic operator");
  }
}

WF_MODEL_INLINE Value Interp::Escape(const Value& v) {
  if (v.IsString() && v.AsText().markup) return v;
  Text in = ToText(v), out;
  out.markup = true;
  for (size_t i = 0; i < in.size() && !failed();) {
    size_t plain = in.bytes().find_first_of("&<>'\"", i);
    Add(&out, in, i, plain);
    if (plain == std::string::npos) break;
    char c = in.bytes()[plain];
    const char* entity = c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '"' ? "&#34;" : "&#39;";
    Add(&out, entity, in.UserAt(plain));
    i = plain + 1;
  }
  return Str(std::move(out));
}

WF_MODEL_INLINE Value Interp::AddText(const Text& a, const Text& b) {
  Text out;
  if (a.markup != b.markup) {  // the unmarked side is escaped
    Value escaped = Escape(Value::String(a.markup ? b : a));
    if (failed()) return Value();
    return a.markup ? AddText(a, escaped.AsText()) : AddText(escaped.AsText(), b);
  }
  out.markup = a.markup;
  Add(&out, a);
  Add(&out, b);
  return Str(std::move(out));
}

WF_MODEL_INLINE Value Interp::Arithmetic(Op op, const Value& a, const Value& b) {
  if (failed()) return Value();
  if (op == Op::kMod && a.IsString()) return Percent(a, b);
  if (a.IsUndefined()) return FailUndefined(a);
  if (b.IsUndefined()) return FailUndefined(b);
  if (a.IsInteger() && b.IsInteger()) return IntegerArithmetic(*this, op, a.AsInt(), b.AsInt());
  if (a.IsNumber() && b.IsNumber()) return FloatArithmetic(*this, op, a.AsFloat(), b.AsFloat());
  if (op == Op::kAdd) {
    if (a.IsString() && b.IsString()) return AddText(a.AsText(), b.AsText());
    if (a.kind() == b.kind() && a.IsSequence()) {
      std::vector<Value> items = a.AsList();
      items.insert(items.end(), b.AsList().begin(), b.AsList().end());
      return Sequence(a.kind(), std::move(items));
    }
  }
  if (op == Op::kMul && (a.IsInteger() || b.IsInteger())) {
    const Value& seq = a.IsInteger() ? b : a;
    uint64_t n = static_cast<uint64_t>(std::max<int64_t>(0, a.IsInteger() ? a.AsInt() : b.AsInt()));
    if (seq.IsString()) {
      const Text& t = seq.AsText();
      if (t.size() == 0) n = 0;
      if (n > 0 && n > limits_.output_bytes / t.size()) {
        return Fail(ErrorCode::kLimit, "string over " + std::to_string(limits_.output_bytes) + " bytes");
      }
      Text out;
      out.markup = t.markup;
      for (uint64_t i = 0; i < n; ++i) out.Append(t);
      return Str(std::move(out));
    }
    if (seq.IsSequence()) {
      const auto& list = seq.AsList();
      if (list.empty()) n = 0;
      if (n > 0 && n > limits_.output_bytes / sizeof(Value) / list.size()) {
        return Fail(ErrorCode::kLimit, "list too long");
      }
      std::vector<Value> items;
      items.reserve(n * list.size());
      for (uint64_t i = 0; i < n; ++i) items.insert(items.end(), list.begin(), list.end());
      return Sequence(seq.kind(), std::move(items));
    }
  }
  return Error("operator cannot be used on values of these types");
}

WF_MODEL_INLINE std::optional<size_t> Interp::Length(const Value& v) {
  switch (v.kind()) {
    case Kind::kUndefined:
      return 0;
    case Kind::kString:
      Work(v.AsText().size());
      return CountCodePoints(v.AsText().bytes());
    case Kind::kList:
    case Kind::kTuple:
      return v.AsList().size();
    case Kind::kMapping:
      return v.AsMapping().size();
    case Kind::kObject:
      if (IsObject(v, ObjectType::kView)) return As<ViewRep>(v)->items.size();
      if (IsObject(v, ObjectType::kRange)) return static_cast<size_t>(As<RangeRep>(v)->count);
      if (IsObject(v, ObjectType::kLoop)) {
        bool found = false;
        return static_cast<size_t>(LoopAttr(v, "length", &found).AsInt());
      }
      break;
    default:
      break;
  }
  Error("value has no length");
  return std::nullopt;
}

WF_MODEL_INLINE bool Interp::Iterable(const Value& v) {
  switch (v.kind()) {
    case Kind::kNone:
    case Kind::kBool:
    case Kind::kInt:
    case Kind::kFloat:
      return false;
    case Kind::kObject:
      switch (As<ObjectRep>(v)->type) {
        case ObjectType::kIterator:
        case ObjectType::kView:
        case ObjectType::kRange:
        case ObjectType::kLoop:
          return true;
        default:
          return false;
      }
    default:
      return true;
  }
}

// Appends what Python's iter(v) yields.
WF_MODEL_INLINE bool Interp::Iterate(const Value& v, std::vector<Value>* out) {
  if (!Iterable(v)) {
    Error("value is not iterable");
    return false;
  }
  if (const std::vector<Value>* held = HeldItems(v)) {
    Work(held->size() * sizeof(Value));
    out->insert(out->end(), held->begin(), held->end());
  } else if (v.IsMapping()) {
    Work(v.AsMapping().size() * sizeof(Value));
    for (const auto& item : v.AsMapping()) out->push_back(item.first);
  } else if (v.IsString()) {
    const Text& t = v.AsText();
    for (size_t i = 0; i < t.size() && !failed();) {
      size_t next = i;
      Decode(t.bytes(), i, &next);
      Text one;
      one.Append(t, i, next);
      out->push_back(Str(std::move(one)));
      if (out->size() % 16 == 0) Step();
      i = next;
    }
  } else if (IsObject(v, ObjectType::kRange)) {
    const auto* r = As<RangeRep>(v);
    Step(static_cast<uint64_t>(r->count) / 64);
    for (int64_t i = 0; i < r->count && !failed(); ++i) out->push_back(Value::Int(RangeAt(*r, i)));
  } else if (IsObject(v, ObjectType::kIterator)) {
    const auto* it = As<IteratorRep>(v);
    for (; it->next < it->items.size() && !failed(); ++it->next) out->push_back(it->items[it->next]);
    Work(out->size() * sizeof(Value));
  } else if (IsObject(v, ObjectType::kLoop)) {
    Error("iterating over 'loop' is not supported");
  }
  return !failed();
}

WF_MODEL_INLINE Value Interp::Slice(const Value& v, const Value& start, const Value& stop, const Value& step) {
  if (failed()) return Value();
  if (v.IsUndefined()) return FailUndefined(v);
  bool range = IsObject(v, ObjectType::kRange);
  if (!v.IsString() && !v.IsSequence() && !range) return Error("value cannot be sliced");
  int64_t n = static_cast<int64_t>(Length(v).value_or(0)), by = 1;
  for (const Value* bound : {&start, &stop, &step}) {
    if (!bound->IsNone() && !Integer(*bound, "slice bound")) return Value();
  }
  if (!step.IsNone()) by = step.AsInt();
  if (by == 0) return Error("slice step cannot be zero");
  by = std::max(by, -std::numeric_limits<int64_t>::max());
  int64_t low = by < 0 ? -1 : 0, high = by < 0 ? n - 1 : n;
  auto bound = [&](const Value& b, int64_t fallback) {
    if (b.IsNone()) return fallback;
    int64_t i = b.AsInt() < 0 ? b.AsInt() + n : b.AsInt();
    return std::clamp(i, low, std::max(low, high));
  };
  int64_t from = bound(start, by < 0 ? n - 1 : 0), to = bound(stop, by < 0 ? -1 : n);
  int64_t count = by > 0 ? (to > from ? (to - from - 1) / by + 1 : 0) : (from > to ? (from - to - 1) / -by + 1 : 0);
  if (range) {
    const auto* r = As<RangeRep>(v);
    auto rep = std::make_shared<RangeRep>();
    rep->count = count;
    rep->start = RangeAt(*r, from);
    rep->stop = RangeAt(*r, to);
    if (__builtin_mul_overflow(r->step, by, &rep->step)) return Error("integer outside 64 bits");
    return Object(std::move(rep), 0);
  }
  if (v.IsSequence()) {
    std::vector<Value> items;
    items.reserve(static_cast<size_t>(count));
    for (int64_t k = 0; k < count; ++k) items.push_back(v.AsList()[static_cast<size_t>(from + k * by)]);
    return Sequence(v.kind(), std::move(items));
  }
  const Text& t = v.AsText();
  Text out;
  out.markup = t.markup;
  if (by == 1) {
    size_t begin = ByteOffset(t.bytes(), static_cast<size_t>(from));
    size_t length = ByteOffset(std::string_view(t.bytes()).substr(begin), static_cast<size_t>(count));
    out.Append(t, begin, begin + length);
  } else {
    std::vector<size_t> at;  // where each code point begins
    at.reserve(static_cast<size_t>(n) + 1);
    for (size_t i = 0, next = 0; i < t.size(); i = next) {
      at.push_back(i);
      Decode(t.bytes(), i, &next);
    }
    at.push_back(t.size());
    for (int64_t k = 0; k < count; ++k) {
      size_t i = static_cast<size_t>(from + k * by);
      if (i + 1 < at.size()) out.Append(t, at[i], at[i + 1]);
    }
    Step(static_cast<uint64_t>(n) / 64);
  }
  return Str(std::move(out));
}

}  // namespace wf::jinja::detail
#endif  // WF_TOKENIZER_JINJA_OPERATORS_IMPL_H_
