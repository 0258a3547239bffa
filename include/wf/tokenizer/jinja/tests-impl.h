// SPDX-License-Identifier: Apache-2.0
// Jinja's tests: what may follow `is`.
#ifndef WF_TOKENIZER_JINJA_TESTS_IMPL_H_
#define WF_TOKENIZER_JINJA_TESTS_IMPL_H_

#include <iterator>

#include "wf/tokenizer/jinja/interp-impl.h"
#include "wf/tokenizer/jinja/text_ops-impl.h"

namespace wf::jinja::detail {

struct TestDef {
  const char* name;
  const char* params;  // see Interp::Bind
  bool (*run)(Interp& in, const Value& v, const Bound& a);
};

inline bool IsCallable(const Value& v) {
  if (v.IsUndefined()) return true;  // Python's Undefined has a __call__, one that fails
  if (v.kind() != Kind::kObject) return false;
  switch (As<ObjectRep>(v)->type) {
    case ObjectType::kMacro:
    case ObjectType::kMethod:
    case ObjectType::kFunction:
    case ObjectType::kLoop:
    case ObjectType::kJoiner:
      return true;
    default:
      return false;
  }
}

// str.isupper and str.islower: some cased character, and none of the other case.
inline bool CaseIs(std::string_view s, bool upper) {
  bool any = false;
  for (size_t i = 0, next = 0; i < s.size(); i = next) {
    char32_t c = Decode(s, i, &next);
    if (IsTitle(c) || (upper ? IsLower(c) : IsUpper(c))) return false;
    any = any || (upper ? IsUpper(c) : IsLower(c));
  }
  return any;
}

inline bool Remainder(Interp& in, const Value& v, const Value& by, int64_t wanted) {
  return in.Equal(in.Arithmetic(Op::kMod, v, by), Value::Int(wanted));
}

inline constexpr TestDef kTests[] = {
    {"odd", "", [](Interp& in, const Value& v, const Bound&) { return Remainder(in, v, Value::Int(2), 1); }},
    {"even", "", [](Interp& in, const Value& v, const Bound&) { return Remainder(in, v, Value::Int(2), 0); }},
    {"divisibleby", "num", [](Interp& in, const Value& v, const Bound& a) { return Remainder(in, v, *a[0], 0); }},
    {"defined", "", [](Interp&, const Value& v, const Bound&) { return !v.IsUndefined(); }},
    {"undefined", "", [](Interp&, const Value& v, const Bound&) { return v.IsUndefined(); }},
    {"none", "", [](Interp&, const Value& v, const Bound&) { return v.IsNone(); }},
    {"boolean", "", [](Interp&, const Value& v, const Bound&) { return v.kind() == Kind::kBool; }},
    {"false", "", [](Interp&, const Value& v, const Bound&) { return v.kind() == Kind::kBool && !v.AsBool(); }},
    {"true", "", [](Interp&, const Value& v, const Bound&) { return v.AsBool(); }},
    {"integer", "", [](Interp&, const Value& v, const Bound&) { return v.kind() == Kind::kInt; }},
    {"float", "", [](Interp&, const Value& v, const Bound&) { return v.kind() == Kind::kFloat; }},
    {"lower", "", [](Interp& in, const Value& v, const Bound&) { return CaseIs(in.ToText(v).bytes(), false); }},
    {"upper", "", [](Interp& in, const Value& v, const Bound&) { return CaseIs(in.ToText(v).bytes(), true); }},
    {"string", "", [](Interp&, const Value& v, const Bound&) { return v.IsString(); }},
    {"mapping", "", [](Interp&, const Value& v, const Bound&) { return v.IsMapping(); }},
    {"number", "", [](Interp&, const Value& v, const Bound&) { return v.IsNumber(); }},
    {"sequence", "",
     [](Interp&, const Value& v, const Bound&) {
       return v.IsUndefined() || v.IsString() || v.IsSequence() || v.IsMapping() || IsObject(v, ObjectType::kRange);
     }},
    {"iterable", "", [](Interp&, const Value& v, const Bound&) { return Interp::Iterable(v); }},
    {"callable", "", [](Interp&, const Value& v, const Bound&) { return IsCallable(v); }},
    {"sameas", "other",
     [](Interp&, const Value& v, const Bound& a) {
       if (v.kind() != a[0]->kind()) return false;
       return ValueAccess::Get(v) == ValueAccess::Get(*a[0]) && (ValueAccess::Get(v) != nullptr || KeyEquals(v, *a[0]));
     }},
    {"escaped", "", [](Interp&, const Value& v, const Bound&) { return v.AsText().markup; }},
    {"filter", "", [](Interp&, const Value& v, const Bound&) { return FindFilter(v.AsText().bytes()) >= 0; }},
    {"test", "", [](Interp&, const Value& v, const Bound&) { return FindTest(v.AsText().bytes()) >= 0; }},
    {"in", "seq", [](Interp& in, const Value& v, const Bound& a) { return in.Contains(*a[0], v); }},
    {"eq", "other", [](Interp& in, const Value& v, const Bound& a) { return in.Equal(v, *a[0]); }},
    {"ne", "other", [](Interp& in, const Value& v, const Bound& a) { return !in.Equal(v, *a[0]); }},
    {"gt", "other", [](Interp& in, const Value& v, const Bound& a) { return in.Less(v, *a[0], Op::kGt); }},
    {"ge", "other", [](Interp& in, const Value& v, const Bound& a) { return in.Less(v, *a[0], Op::kGe); }},
    {"lt", "other", [](Interp& in, const Value& v, const Bound& a) { return in.Less(v, *a[0], Op::kLt); }},
    {"le", "other", [](Interp& in, const Value& v, const Bound& a) { return in.Less(v, *a[0], Op::kLe); }},
};

WF_MODEL_INLINE int FindTest(std::string_view name) {
  static constexpr std::pair<std::string_view, std::string_view> kAliases[] = {
      {"==", "eq"}, {"equalto", "eq"}, {"!=", "ne"},       {">", "gt"}, {"greaterthan", "gt"},
      {">=", "ge"}, {"<", "lt"},       {"lessthan", "lt"}, {"<=", "le"}};
  for (const auto& [alias, real] : kAliases) {
    if (name == alias) name = real;
  }
  for (size_t i = 0; i < std::size(kTests); ++i) {
    if (name == kTests[i].name) return static_cast<int>(i);
  }
  return -1;
}

WF_MODEL_INLINE bool Interp::CallTest(int index, const std::string& name, const Value& in, const Args& args) {
  if (failed()) return false;
  Bound bound;
  if (index < 0) {
    Error("no test named '" + name + "'");
    return false;
  }
  const TestDef& def = kTests[index];
  return Bind("test", name, def.params, args, &bound) && def.run(*this, in, bound);
}

}  // namespace wf::jinja::detail
#endif  // WF_TOKENIZER_JINJA_TESTS_IMPL_H_
