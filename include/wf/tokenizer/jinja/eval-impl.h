// SPDX-License-Identifier: Apache-2.0
// Evaluation of the tree: expressions and statements, and Jinja's scoping. `set` inside for, macro, with, block
// set and filter blocks stays there; inside if it does not. Each turn of a loop starts with a fresh scope.
#ifndef WF_TOKENIZER_JINJA_EVAL_IMPL_H_
#define WF_TOKENIZER_JINJA_EVAL_IMPL_H_

#include <algorithm>

#include "wf/tokenizer/jinja/interp-impl.h"

namespace wf::jinja::detail {

WF_MODEL_INLINE Value CallMethod(Interp& in, const MethodRep& method, const Args& args);  // methods-impl.h

WF_MODEL_INLINE Result<Text> Interp::Run() {
  Exec(program_.body);
  if (failed()) return status_;
  return std::move(output_);
}

WF_MODEL_INLINE Value Interp::Lookup(int symbol) {
  for (const Scope* s = scope_; s != nullptr; s = s->parent) {
    for (const auto& [sym, value] : s->vars) {
      if (sym == symbol) return value;
    }
  }
  const std::string& name = program_.names[static_cast<size_t>(symbol)];
  if (const Value* v = globals_.Find(name)) return *v;
  return Builtin(name);
}

WF_MODEL_INLINE Value Interp::Eval(const Expr& e) {
  Deeper deeper(this);
  if (!Step()) return Value();
  Position saved = std::exchange(at_, e.at);
  Value v = EvalNode(e);
  if (!failed()) at_ = saved;
  return v;
}

WF_MODEL_INLINE Value Interp::EvalNode(const Expr& e) {
  switch (e.kind) {
    case ExprKind::kConst:
      return e.value;
    case ExprKind::kName:
      return Lookup(e.symbol);
    case ExprKind::kAttr:
      return Attr(Eval(*e.kids[0]), e.name);
    case ExprKind::kItem: {
      Value object = Eval(*e.kids[0]);
      return Item(object, Eval(*e.kids[1]));
    }
    case ExprKind::kSlice: {
      Value object = Eval(*e.kids[0]);
      Value bounds[3];
      for (size_t i = 0; i < 3; ++i) bounds[i] = e.kids[i + 1] != nullptr ? Eval(*e.kids[i + 1]) : Value::None();
      return Slice(object, bounds[0], bounds[1], bounds[2]);
    }
    case ExprKind::kCall:
      return EvalCall(e);
    case ExprKind::kFilter:
      return EvalFilter(e);
    case ExprKind::kTest: {
      Value subject = Eval(*e.kids[0]);
      Args args;
      if (!EvalArgs(e, &args)) return Value();
      return Value::Bool(CallTest(e.function, e.name, subject, args));
    }
    case ExprKind::kUnary: {
      Value v = Eval(*e.kids[0]);
      if (e.op == Op::kNot) return Value::Bool(!Truth(v));
      return Negate(v, e.op == Op::kNeg);
    }
    case ExprKind::kBinary: {
      Value a = Eval(*e.kids[0]);
      return Arithmetic(e.op, a, Eval(*e.kids[1]));
    }
    case ExprKind::kAnd: {
      Value a = Eval(*e.kids[0]);
      return Truth(a) ? Eval(*e.kids[1]) : a;
    }
    case ExprKind::kOr: {
      Value a = Eval(*e.kids[0]);
      return Truth(a) ? a : Eval(*e.kids[1]);
    }
    case ExprKind::kConcat: {
      Text out;
      for (const ExprPtr& kid : e.kids) {
        if (!Add(&out, ToText(Eval(*kid)))) return Value();
      }
      return Str(std::move(out));
    }
    case ExprKind::kCompare:
      return EvalCompare(e);
    case ExprKind::kCondition: {
      if (Truth(Eval(*e.kids[0]))) return Eval(*e.kids[1]);
      if (e.kids[2] != nullptr) return Eval(*e.kids[2]);
      return Undefined("the inline if-expression evaluated to false and no else section was defined");
    }
    case ExprKind::kList:
    case ExprKind::kTuple: {
      std::vector<Value> items;
      items.reserve(e.kids.size());
      for (const ExprPtr& kid : e.kids) items.push_back(Eval(*kid));
      return Sequence(e.kind == ExprKind::kList ? Kind::kList : Kind::kTuple, std::move(items));
    }
    case ExprKind::kDict:
      return EvalDict(e);
    case ExprKind::kNsAttr:
      break;
  }
  return Error("internal: unknown expression");
}

WF_MODEL_INLINE Value Interp::EvalDict(const Expr& e) {
  auto rep = std::make_shared<MappingRep>();
  for (size_t i = 0; i + 1 < e.kids.size() && !failed(); i += 2) {
    Value key = Eval(*e.kids[i]);
    Value value = Eval(*e.kids[i + 1]);
    if (CanSetKey(key)) rep->Set(std::move(key), std::move(value));
  }
  return Mapping(std::move(rep));
}

WF_MODEL_INLINE Value Interp::EvalCompare(const Expr& e) {
  Value left = Eval(*e.kids[0]);
  for (size_t i = 0; i < e.ops.size() && !failed(); ++i) {
    Value right = Eval(*e.kids[i + 1]);
    if (failed()) break;
    bool holds = false;
    switch (e.ops[i]) {
      case Op::kEq:
        holds = Equal(left, right);
        break;
      case Op::kNe:
        holds = !Equal(left, right);
        break;
      case Op::kIn:
        holds = Contains(right, left);
        break;
      case Op::kNotIn:
        holds = !Contains(right, left);
        break;
      default:
        holds = Less(left, right, e.ops[i]);
        break;
    }
    if (!holds) return Value::Bool(false);
    left = std::move(right);
  }
  return Value::Bool(true);
}

WF_MODEL_INLINE bool Interp::EvalArgs(const Expr& e, Args* out) {
  for (const ExprPtr& a : e.args) out->pos.push_back(Eval(*a));
  for (const auto& [name, value] : e.kwargs) out->kw.emplace_back(name, Eval(*value));
  if (e.star_args != nullptr) Iterate(Eval(*e.star_args), &out->pos);
  if (e.star_kwargs != nullptr) {
    Value more = Eval(*e.star_kwargs);
    if (!more.IsMapping()) Error("the argument after ** must be a mapping");
    for (const auto& [key, value] : more.AsMapping()) {
      if (!key.IsString()) Error("keywords must be strings");
      for (const auto& kw : out->kw) {
        if (kw.first == key.AsText().bytes()) Error("keyword argument '" + kw.first + "' given twice");
      }
      if (!Step()) break;
      out->kw.emplace_back(key.AsText().bytes(), value);
    }
  }
  return !failed();
}

WF_MODEL_INLINE Value Interp::EvalCall(const Expr& e) {
  Value callee = Eval(*e.kids[0]);
  Args args;
  if (!EvalArgs(e, &args)) return Value();
  return Call(callee, std::move(args));
}

WF_MODEL_INLINE Value Interp::EvalFilter(const Expr& e) {
  Value in = e.kids[0] != nullptr ? Eval(*e.kids[0]) : std::move(block_input_);
  Args args;
  if (!EvalArgs(e, &args)) return Value();
  return CallFilter(e.function, e.name, in, args);
}

WF_MODEL_INLINE Value Interp::Call(const Value& callee, Args args) {
  Deeper deeper(this);
  if (failed()) return Value();
  if (callee.IsUndefined()) return FailUndefined(callee);
  if (callee.kind() == Kind::kObject) {
    switch (As<ObjectRep>(callee)->type) {
      case ObjectType::kMacro:
        return CallMacro(*As<MacroRep>(callee), std::move(args));
      case ObjectType::kFunction:
        return CallFunction(As<FunctionRep>(callee)->function, args);
      case ObjectType::kMethod:
        return CallMethod(*this, *As<MethodRep>(callee), args);
      case ObjectType::kJoiner: {
        const auto* joiner = As<JoinerRep>(callee);
        if (!args.pos.empty() || !args.kw.empty()) return Error("a joiner takes no arguments");
        return std::exchange(joiner->used, true) ? joiner->separator : Value::String("");
      }
      case ObjectType::kLoop:
        return Error("recursive loops are not supported");
      default:
        break;
    }
  }
  return Error("value is not callable");
}

WF_MODEL_INLINE Value Interp::MakeMacro(const Stmt& s) {
  auto rep = std::make_shared<MacroRep>();
  rep->stmt = &s;
  rep->scope = scope_;
  return Object(std::move(rep), 0);
}

WF_MODEL_INLINE Value Interp::CallMacro(const MacroRep& macro, Args args) {
  const Stmt& s = *macro.stmt;
  if (calls_ >= limits_.depth) {
    return Fail(ErrorCode::kLimit, "macros call each other deeper than " + std::to_string(limits_.depth));
  }
  ++calls_;
  Enter enter(this, s.captured, macro.scope);
  size_t given = std::min(args.pos.size(), s.params.size()), first_default = s.params.size() - s.defaults.size();
  auto take = [&](const std::string& name, Value* out) {
    for (auto it = args.kw.begin(); it != args.kw.end(); ++it) {
      if (it->first != name) continue;
      *out = std::move(it->second);
      args.kw.erase(it);
      return true;
    }
    return false;
  };
  std::vector<size_t> missing;
  for (size_t i = 0; i < s.params.size(); ++i) {
    const std::string& name = program_.names[static_cast<size_t>(s.params[i])];
    Value v;
    if (i < given) {
      v = args.pos[i];
    } else if (!take(name, &v)) {
      v = Undefined("parameter '" + name + "' was not provided");
      if (i >= first_default) missing.push_back(i);
    }
    scope_->Set(s.params[i], std::move(v));
  }
  for (size_t i : missing) scope_->Set(s.params[i], Eval(*s.defaults[i - first_default]));
  bool named_caller = std::find(s.params.begin(), s.params.end(), program_.caller_symbol) != s.params.end();
  if (s.uses_caller && !named_caller) {
    Value caller;
    if (!take("caller", &caller)) caller = Undefined("No caller defined");
    scope_->Set(program_.caller_symbol, std::move(caller));
  }
  if (s.uses_kwargs) {
    auto rep = std::make_shared<MappingRep>();
    for (auto& [name, value] : args.kw) rep->Set(Value::String(name), std::move(value));
    scope_->Set(program_.kwargs_symbol, Mapping(std::move(rep)));
  } else if (!args.kw.empty()) {
    Error("macro takes no keyword argument '" + args.kw[0].first + "'");
  }
  if (s.uses_varargs) {
    auto rest = args.pos.begin() + static_cast<std::ptrdiff_t>(given);
    scope_->Set(program_.varargs_symbol, Tuple({rest, args.pos.end()}));
  } else if (args.pos.size() > s.params.size()) {
    Error("macro takes not more than " + std::to_string(s.params.size()) + " argument(s)");
  }
  Capture capture(this);
  if (!failed()) Exec(s.body);
  --calls_;
  return Str(std::move(capture.text));
}

// --- statements

WF_MODEL_INLINE Interp::Flow Interp::Exec(const Block& block) {
  for (const StmtPtr& s : block) {
    if (failed()) break;
    Flow flow = ExecStmt(*s);
    if (flow != Flow::kNormal) return flow;
  }
  return Flow::kNormal;
}

WF_MODEL_INLINE void Interp::Print(const Value& v) {
  if (v.IsString()) {
    Work(v.AsText().size());
    Add(out_, v.AsText());
  } else {
    Add(out_, ToText(v));
  }
}

WF_MODEL_INLINE Interp::Flow Interp::ExecStmt(const Stmt& s) {
  Deeper deeper(this);
  at_ = s.at;
  if (!Step()) return Flow::kNormal;
  switch (s.kind) {
    case StmtKind::kText:
      Print(s.value);
      break;
    case StmtKind::kOutput:
      for (const ExprPtr& e : s.exprs) {
        Value v = Eval(*e);
        if (!failed()) Print(v);
      }
      break;
    case StmtKind::kSet: {
      Value v = Eval(*s.exprs[0]);
      if (!failed()) Assign(*s.targets[0], v);
      break;
    }
    case StmtKind::kSetBlock:
      return ExecSetBlock(s);
    case StmtKind::kIf:
      for (const Branch& b : s.branches) {
        bool taken = Truth(Eval(*b.test));
        if (failed()) return Flow::kNormal;
        if (taken) return Exec(b.body);
      }
      return Exec(s.orelse);
    case StmtKind::kFor:
      return ExecFor(s);
    case StmtKind::kMacro:
      scope_->Set(s.symbol, MakeMacro(s));
      break;
    case StmtKind::kCallBlock:
      ExecCallBlock(s);
      break;
    case StmtKind::kFilterBlock:
      return ExecSetBlock(s);
    case StmtKind::kScope:
      return ExecScoped(s);
    case StmtKind::kWith: {
      Flow flow = Flow::kNormal;
      ExecWith(s, &flow);
      return flow;
    }
    case StmtKind::kBreak:
      return Flow::kBreak;
    case StmtKind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNormal;
}

WF_MODEL_INLINE Interp::Flow Interp::ExecScoped(const Stmt& s) {
  Enter enter(this, s.captured, scope_);
  return Exec(s.body);
}

// {% set x %}...{% endset %} and {% filter f %}...{% endfilter %}: body, then filter, then assign or print.
WF_MODEL_INLINE Interp::Flow Interp::ExecSetBlock(const Stmt& s) {
  Value text;
  {
    Capture capture(this);
    Enter enter(this, s.captured, scope_);
    Flow flow = Exec(s.body);
    if (flow != Flow::kNormal) return flow;
    text = Str(std::move(capture.text));
  }
  if (s.filter != nullptr && !failed()) {
    block_input_ = std::move(text);
    text = Eval(*s.filter);
  }
  if (failed()) return Flow::kNormal;
  if (s.kind == StmtKind::kSetBlock) {
    Assign(*s.targets[0], text);
  } else {
    Print(text);
  }
  return Flow::kNormal;
}

WF_MODEL_INLINE void Interp::ExecWith(const Stmt& s, Flow* flow) {
  std::vector<Value> values;
  for (const ExprPtr& e : s.exprs) values.push_back(Eval(*e));
  Enter enter(this, s.captured, scope_);
  for (size_t i = 0; i < values.size() && !failed(); ++i) Assign(*s.targets[i], values[i]);
  *flow = Exec(s.body);
}

WF_MODEL_INLINE void Interp::ExecCallBlock(const Stmt& s) {
  const Expr& call = *s.exprs[0];
  Value callee = Eval(*call.kids[0]);
  Args args;
  if (!EvalArgs(call, &args)) return;
  args.kw.emplace_back("caller", MakeMacro(s));
  Value v = Call(callee, std::move(args));
  if (!failed()) Print(v);
}

WF_MODEL_INLINE void Interp::Assign(const Expr& target, const Value& v) {
  if (target.kind == ExprKind::kName) {
    scope_->Set(target.symbol, v);
  } else if (target.kind == ExprKind::kNsAttr) {
    Value ns = Lookup(target.symbol);
    at_ = target.at;
    if (!IsObject(ns, ObjectType::kNamespace)) {
      Error("cannot assign attribute on non-namespace object");
      return;
    }
    auto* rep = const_cast<NamespaceRep*>(As<NamespaceRep>(ns));
    for (auto& attr : rep->attrs) {
      if (attr.first == target.name) return void(attr.second = v);
    }
    rep->attrs.emplace_back(target.name, v);
  } else {
    std::vector<Value> items;
    if (!Iterate(v, &items)) return;
    if (items.size() != target.kids.size()) {
      Error("cannot unpack " + std::to_string(items.size()) + " values into " + std::to_string(target.kids.size()));
      return;
    }
    for (size_t i = 0; i < items.size() && !failed(); ++i) Assign(*target.kids[i], items[i]);
  }
}

// The next item that passes the loop's filter.
WF_MODEL_INLINE bool Interp::Pull(const LoopRep& loop, Value* out) {
  while (loop.live && loop.next < loop.items->size() && Step()) {
    Value item = (*loop.items)[loop.next++];
    if (loop.stmt->test != nullptr) {
      Enter enter(this, false, loop.outer);
      Assign(*loop.stmt->targets[0], item);
      if (failed() || !Truth(Eval(*loop.stmt->test))) continue;
    }
    *out = std::move(item);
    return !failed();
  }
  return false;
}

WF_MODEL_INLINE Interp::Flow Interp::ExecFor(const Stmt& s) {
  Value source = Eval(*s.exprs[0]);
  if (failed()) return Flow::kNormal;
  auto rep = std::make_shared<LoopRep>();
  rep->stmt = &s;
  rep->outer = scope_;
  if (source.IsSequence()) {
    rep->items = &source.AsList();
  } else {
    if (!Iterate(source, &rep->own)) return Flow::kNormal;
    rep->items = &rep->own;
  }
  rep->source = std::move(source);
  rep->depth = std::max(1 + rep->source.depth(), DepthOver(rep->own));
  size_t bytes = rep->own.size() * sizeof(Value);
  const LoopRep& loop = *rep;
  Value loop_value = Object(std::move(rep), bytes);
  bool any = false;
  Flow result = Flow::kNormal;
  while (!failed()) {
    Value item;
    if (!loop.ahead.empty()) {
      item = std::move(loop.ahead.front());
      loop.ahead.pop_front();
    } else if (!Pull(loop, &item)) {
      break;
    }
    ++loop.index0;
    loop.before = std::move(loop.current);
    loop.current = item;
    Enter enter(this, s.captured, loop.outer);
    scope_->Set(program_.loop_symbol, loop_value);
    Assign(*s.targets[0], item);
    Flow flow = Exec(s.body);
    if (flow == Flow::kBreak) break;
    if (flow == Flow::kNormal) any = true;  // Jinja runs `else` too if every turn ended by break or continue
  }
  loop.live = false;
  if (!any && !failed()) {
    Enter enter(this, s.captured, scope_);
    result = Exec(s.orelse);
  }
  return result;
}

}  // namespace wf::jinja::detail
#endif  // WF_TOKENIZER_JINJA_EVAL_IMPL_H_
