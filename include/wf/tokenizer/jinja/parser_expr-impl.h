// SPDX-License-Identifier: Apache-2.0
// Tokens to a tree: operands and what may follow them (subscripts, calls, filters, tests).
#ifndef WF_TOKENIZER_JINJA_PARSER_EXPR_IMPL_H_
#define WF_TOKENIZER_JINJA_PARSER_EXPR_IMPL_H_

#include "wf/tokenizer/jinja/parser-impl.h"

namespace wf::jinja::detail {

WF_MODEL_INLINE ExprPtr Parser::Primary(bool with_namespace) {
  Token t = Cur();
  if (t.kind == Tok::kName) {
    Next();
    if (t.text == "true" || t.text == "True") return Constant(t.at, Value::Bool(true));
    if (t.text == "false" || t.text == "False") return Constant(t.at, Value::Bool(false));
    if (t.text == "none" || t.text == "None") return Constant(t.at, Value::None());
    ExprPtr e = New(ExprKind::kName, t.at);
    if (with_namespace && SkipOp(".")) {
      e->kind = ExprKind::kNsAttr;
      e->name = TakeName();
    }
    e->symbol = Intern(t.text);
    Mention(t.text);
    return e;
  }
  if (t.kind == Tok::kString) {
    std::string text;
    for (; Cur().kind == Tok::kString; Next()) text += Cur().text;
    return Constant(t.at, Value::String(std::move(text)));
  }
  if (t.kind == Tok::kInteger || t.kind == Tok::kFloat) {
    Next();
    return Constant(t.at, t.kind == Tok::kInteger ? Value::Int(t.integer) : Value::Float(t.number));
  }
  if (SkipOp("(")) {
    ExprPtr e = TupleExpr({.parentheses = true});
    ExpectOp(")");
    return e;
  }
  if (SkipOp("[")) {
    ExprPtr e = New(ExprKind::kList, t.at);
    while (!failed() && !Cur().IsOp("]")) {
      if (!e->kids.empty()) ExpectOp(",");
      if (Cur().IsOp("]")) break;
      AddKid(e.get(), Expression());
    }
    ExpectOp("]");
    return e;
  }
  if (SkipOp("{")) {
    ExprPtr e = New(ExprKind::kDict, t.at);
    while (!failed() && !Cur().IsOp("}")) {
      if (!e->kids.empty()) ExpectOp(",");
      if (Cur().IsOp("}")) break;
      AddKid(e.get(), Expression());
      ExpectOp(":");
      AddKid(e.get(), Expression());
    }
    ExpectOp("}");
    return e;
  }
  Unexpected("an expression");
  return Constant(t.at, Value());
}

WF_MODEL_INLINE ExprPtr Parser::TupleExpr(const TupleRules& rules) {
  Position at = Cur().at;
  std::vector<ExprPtr> items;
  bool is_tuple = false;
  while (!failed()) {
    if (!items.empty()) ExpectOp(",");
    if (TupleEnds(rules)) break;
    if (rules.target) {
      Nesting nesting(this);
      items.push_back(failed() ? Constant(at, Value()) : Primary(rules.with_namespace));
    } else {
      items.push_back(Expression(rules.with_condition));
    }
    if (!Cur().IsOp(",")) break;
    is_tuple = true;
  }
  if (!is_tuple) {
    if (!items.empty()) return std::move(items[0]);
    if (!rules.parentheses) Unexpected("an expression");
  }
  ExprPtr e = New(ExprKind::kTuple, at);
  for (ExprPtr& item : items) AddKid(e.get(), std::move(item));
  return e;
}

WF_MODEL_INLINE ExprPtr Parser::Postfix(ExprPtr e) {
  while (!failed()) {
    if (Cur().IsOp(".") || Cur().IsOp("[")) {
      e = Subscript(std::move(e));
    } else if (Cur().IsOp("(")) {
      e = Call(std::move(e));
    } else {
      break;
    }
  }
  return e;
}
WF_MODEL_INLINE ExprPtr Parser::FilterExpr(ExprPtr e) {
  while (!failed()) {
    if (Cur().IsOp("|")) {
      e = Filter(std::move(e), false);
    } else if (Cur().IsName("is")) {
      e = Test(std::move(e));
    } else if (Cur().IsOp("(")) {
      e = Call(std::move(e));
    } else {
      break;
    }
  }
  return e;
}

WF_MODEL_INLINE ExprPtr Parser::Subscript(ExprPtr object) {
  Position at = Cur().at;
  ExprPtr e = New(ExprKind::kItem, at);
  AddKid(e.get(), std::move(object));
  if (SkipOp(".")) {
    if (Cur().kind == Tok::kInteger) {
      AddKid(e.get(), Constant(Cur().at, Value::Int(Cur().integer)));
      Next();
    } else {
      e->kind = ExprKind::kAttr;
      e->name = TakeName();
    }
    return e;
  }
  ExpectOp("[");
  std::vector<ExprPtr> parts;
  bool slice = false;
  while (!failed() && !Cur().IsOp("]")) {
    if (!parts.empty()) {
      if (slice) Fail(Cur().at, "slices of several dimensions are not supported", ErrorCode::kUnsupported);
      ExpectOp(",");
    }
    if (!Cur().IsOp(":")) parts.push_back(Expression());
    if (!Cur().IsOp(":")) continue;
    if (parts.size() > 1) Fail(Cur().at, "slices of several dimensions are not supported", ErrorCode::kUnsupported);
    slice = true;
    if (parts.empty()) parts.push_back(nullptr);
    while (parts.size() < 3) {
      bool colon = SkipOp(":");
      bool none = !colon || Cur().IsOp(":") || Cur().IsOp("]") || Cur().IsOp(",");
      parts.push_back(none ? nullptr : Expression());
    }
  }
  ExpectOp("]");
  if (slice) {
    e->kind = ExprKind::kSlice;
    for (ExprPtr& part : parts) AddKid(e.get(), std::move(part));
  } else if (parts.size() == 1) {
    AddKid(e.get(), std::move(parts[0]));
  } else {
    ExprPtr tuple = New(ExprKind::kTuple, at);
    for (ExprPtr& part : parts) AddKid(tuple.get(), std::move(part));
    AddKid(e.get(), std::move(tuple));
  }
  return e;
}

WF_MODEL_INLINE void Parser::Arguments(Expr* e) {
  Position at = Cur().at;
  ExpectOp("(");
  bool comma = false;
  auto ensure = [&](bool ok) {
    if (!ok) Fail(at, "invalid arguments of a call");
  };
  while (!failed() && !Cur().IsOp(")")) {
    if (comma) {
      ExpectOp(",");
      if (Cur().IsOp(")")) break;
    }
    if (SkipOp("*")) {
      ensure(e->star_args == nullptr && e->star_kwargs == nullptr);
      e->star_args = Expression();
      Adopt(e, e->star_args);
    } else if (SkipOp("**")) {
      ensure(e->star_kwargs == nullptr);
      e->star_kwargs = Expression();
      Adopt(e, e->star_kwargs);
    } else if (Cur().kind == Tok::kName && Look().IsOp("=")) {
      ensure(e->star_kwargs == nullptr);
      std::string key = Cur().text;
      Next();
      Next();
      for (const auto& kw : e->kwargs) ensure(kw.first != key);
      e->kwargs.emplace_back(std::move(key), Expression());
      Adopt(e, e->kwargs.back().second);
    } else {
      ensure(e->star_args == nullptr && e->star_kwargs == nullptr && e->kwargs.empty());
      e->args.push_back(Expression());
      Adopt(e, e->args.back());
    }
    comma = true;
  }
  ExpectOp(")");
}
WF_MODEL_INLINE ExprPtr Parser::Call(ExprPtr callee) {
  ExprPtr e = New(ExprKind::kCall, Cur().at);
  AddKid(e.get(), std::move(callee));
  Arguments(e.get());
  return e;
}
WF_MODEL_INLINE std::string Parser::DottedName() {
  std::string name = TakeName();
  while (SkipOp(".")) name.append(1, '.').append(TakeName());
  return name;
}
// An unknown filter or test is an error now, unless a condition decides whether it is reached at all.
WF_MODEL_INLINE void Parser::Resolve(Expr* e, int function, const char* what) {
  e->function = function;
  if (function < 0 && soft_ == 0) unknown_.emplace_back(e->at, std::string("no ") + what + " named '" + e->name + "'");
}
WF_MODEL_INLINE ExprPtr Parser::Filter(ExprPtr e, bool inline_start) {
  while (!failed() && (Cur().IsOp("|") || inline_start)) {
    if (!inline_start) Next();
    inline_start = false;
    ExprPtr f = New(ExprKind::kFilter, Cur().at);
    AddKid(f.get(), std::move(e));
    f->name = DottedName();
    if (Cur().IsOp("(")) Arguments(f.get());
    Resolve(f.get(), FindFilter(f->name), "filter");
    e = std::move(f);
  }
  return e;
}
WF_MODEL_INLINE ExprPtr Parser::Test(ExprPtr subject) {
  ExprPtr e = New(ExprKind::kTest, Cur().at);
  AddKid(e.get(), std::move(subject));
  Next();
  bool negated = SkipName("not");
  e->name = DottedName();
  const Token& t = Cur();
  bool operand = t.kind == Tok::kName || t.kind == Tok::kString || t.kind == Tok::kInteger || t.kind == Tok::kFloat ||
                 t.IsOp("[") || t.IsOp("{");
  if (t.IsOp("(")) {
    Arguments(e.get());
  } else if (operand && !t.IsName("else") && !t.IsName("or") && !t.IsName("and")) {
    if (t.IsName("is")) Fail(t.at, "tests cannot be chained with 'is'");
    Nesting nesting(this);
    if (!failed()) e->args.push_back(Postfix(Primary(false)));
    if (!failed()) Adopt(e.get(), e->args.back());
  }
  Resolve(e.get(), FindTest(e->name), "test");
  Position at = e->at;
  return negated ? Unary(Op::kNot, at, std::move(e)) : std::move(e);
}

}  // namespace wf::jinja::detail
#endif  // WF_TOKENIZER_JINJA_PARSER_EXPR_IMPL_H_
