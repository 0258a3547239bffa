// SPDX-License-Identifier: Apache-2.0
// Filters over sequences and mappings: sorting, choosing, mapping, grouping.
#ifndef WF_TOKENIZER_JINJA_FILTERS_SEQ_IMPL_H_
#define WF_TOKENIZER_JINJA_FILTERS_SEQ_IMPL_H_

#include <algorithm>

#include "wf/tokenizer/jinja/interp-impl.h"
#include "wf/tokenizer/jinja/operators-impl.h"
#include "wf/tokenizer/jinja/text_ops-impl.h"

namespace wf::jinja::detail {

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
    if (in.Truth(v))
      return v.IsString() ? in.Str(in.Item(v, Value::Int(0)).AsText().bytes(), v.AsText().UserAt(0)) : v.AsList()[0];
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
  if (static_cast<uint64_t>(*n) > in.limits().range)
    return in.Fail(ErrorCode::kLimit, "batch and slice: count too large");
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

}  // namespace wf::jinja::detail
#endif  // WF_TOKENIZER_JINJA_FILTERS_SEQ_IMPL_H_
