// SPDX-License-Identifier: Apache-2.0
// Tokens to a tree: statements. Template inheritance, includes, imports and recursive loops are refused by name.
#ifndef WF_TOKENIZER_JINJA_PARSER_STMT_IMPL_H_
#define WF_TOKENIZER_JINJA_PARSER_STMT_IMPL_H_

#include "wf/tokenizer/jinja/parser_expr-impl.h"
#include "wf/tokenizer/jinja/program.h"

namespace wf::jinja::detail {

WF_MODEL_INLINE Status Parser::Run() {
  program_->loop_symbol = Intern("loop");
  program_->caller_symbol = Intern("caller");
  program_->varargs_symbol = Intern("varargs");
  program_->kwargs_symbol = Intern("kwargs");
  program_->body = Body({});
  return status_;
}

WF_MODEL_INLINE void Parser::CheckUnknown() {
  if (!unknown_.empty()) Fail(unknown_[0].first, unknown_[0].second);
  unknown_.clear();
}

// Statements up to a tag in `ends`, which stays current (its name), or to the end of the template.
WF_MODEL_INLINE Block Parser::Body(std::initializer_list<std::string_view> ends) {
  Block body;
  Nesting nesting(this);
  while (!failed() && Cur().kind != Tok::kEnd) {
    Position at = Cur().at;
    if (Cur().kind == Tok::kData) {
      auto s = std::make_unique<Stmt>();
      s->at = at;
      s->value = Value::String(Cur().text);
      body.push_back(std::move(s));
      Next();
    } else if (Cur().kind == Tok::kVarBegin) {
      Next();
      auto s = std::make_unique<Stmt>();
      s->kind = StmtKind::kOutput;
      s->at = at;
      s->exprs.push_back(TupleExpr({}));
      if (Cur().kind != Tok::kVarEnd) Unexpected("'}}'");
      CheckUnknown();
      Next();
      body.push_back(std::move(s));
    } else {
      Next();  // kBlockBegin: the lexer yields nothing else here
      for (std::string_view end : ends) {
        if (Cur().IsName(end)) return body;
      }
      StmtPtr s = Statement();
      if (Cur().kind != Tok::kBlockEnd) Unexpected("'%}'");
      CheckUnknown();
      Next();
      if (!failed() && s != nullptr) body.push_back(std::move(s));
    }
  }
  if (ends.size() > 0) Unexpected("'{% " + std::string(*(ends.end() - 1)) + " %}'");
  return body;
}

WF_MODEL_INLINE Block Parser::Statements(std::initializer_list<std::string_view> ends) {
  CheckUnknown();
  SkipOp(":");
  if (Cur().kind != Tok::kBlockEnd) Unexpected("'%}'");
  Next();
  return Body(ends);
}

WF_MODEL_INLINE StmtPtr Parser::Statement() {
  const Token tag = Cur();
  Position at = tag.at;
  if (tag.kind != Tok::kName) {
    Unexpected("a statement");
    return nullptr;
  }
  Next();
  auto s = std::make_unique<Stmt>();
  s->at = at;
  if (tag.text == "set") return Set(at);
  if (tag.text == "if") return If(at);
  if (tag.text == "for") return For(at);
  if (tag.text == "with") return With(at);
  if (tag.text == "macro") return Macro(at);
  if (tag.text == "call") return CallBlock(at);
  if (tag.text == "print") {
    s->kind = StmtKind::kOutput;
    while (!failed() && Cur().kind != Tok::kBlockEnd) {
      if (!s->exprs.empty()) ExpectOp(",");
      s->exprs.push_back(Expression());
    }
    return s;
  }
  if (tag.text == "filter") {
    s->kind = StmtKind::kFilterBlock;
    s->filter = Filter(nullptr, true);
    int soft = std::exchange(soft_, 0), before = macros_;
    s->body = Statements({"endfilter"});
    soft_ = soft;
    s->captured = macros_ != before;
    SkipName("endfilter");
    return s;
  }
  if (tag.text == "generation") {
    s->kind = StmtKind::kScope;
    contexts_.emplace_back();  // Python makes a function of its body, so break cannot leave it
    int soft = std::exchange(soft_, 0), before = macros_;
    s->body = Statements({"endgeneration"});
    soft_ = soft;
    s->captured = macros_ != before;
    contexts_.pop_back();
    SkipName("endgeneration");
    return s;
  }
  if (tag.text == "break" || tag.text == "continue") {
    s->kind = tag.text == "break" ? StmtKind::kBreak : StmtKind::kContinue;
    if (contexts_.back().loops == 0) Fail(at, "'" + tag.text + "' outside of a loop");
    return s;
  }
  for (std::string_view known : {"block", "extends", "include", "import", "from", "autoescape"}) {
    if (tag.text == known) {
      Fail(at, "the statement '" + tag.text + "' is not supported", ErrorCode::kUnsupported);
      return nullptr;
    }
  }
  Fail(at, "unknown statement '" + tag.text + "'");
  return nullptr;
}

WF_MODEL_INLINE void Parser::CheckTarget(const ExprPtr& e) {
  if (e == nullptr || e->kind == ExprKind::kName || e->kind == ExprKind::kNsAttr) return;
  if (e->kind != ExprKind::kTuple) return Fail(e->at, "this cannot be assigned to");
  for (const ExprPtr& kid : e->kids) CheckTarget(kid);
}

WF_MODEL_INLINE void Parser::CheckLoopVariable(const ExprPtr& e) {
  if (e == nullptr) return;
  if (e->symbol == program_->loop_symbol) Fail(e->at, "'loop' cannot be a loop's variable");
  for (const ExprPtr& kid : e->kids) CheckLoopVariable(kid);
}

WF_MODEL_INLINE StmtPtr Parser::Set(Position at) {
  auto s = std::make_unique<Stmt>();
  s->at = at;
  s->targets.push_back(TupleExpr({.target = true, .with_namespace = true}));
  CheckTarget(s->targets[0]);
  if (SkipOp("=")) {
    s->kind = StmtKind::kSet;
    s->exprs.push_back(TupleExpr({}));
    return s;
  }
  s->kind = StmtKind::kSetBlock;
  s->filter = Filter(nullptr, false);
  int soft = std::exchange(soft_, 0), before = macros_;
  s->body = Statements({"endset"});
  soft_ = soft;
  s->captured = macros_ != before;
  SkipName("endset");
  return s;
}

WF_MODEL_INLINE StmtPtr Parser::If(Position at) {
  auto s = std::make_unique<Stmt>();
  s->at = at;
  s->kind = StmtKind::kIf;
  ++soft_;
  while (!failed()) {
    Branch branch;
    branch.test = TupleExpr({.with_condition = false});
    branch.body = Statements({"elif", "else", "endif"});
    s->branches.push_back(std::move(branch));
    if (SkipName("elif")) continue;
    if (SkipName("else")) s->orelse = Statements({"endif"});
    SkipName("endif");
    break;
  }
  --soft_;
  return s;
}

WF_MODEL_INLINE StmtPtr Parser::For(Position at) {
  auto s = std::make_unique<Stmt>();
  s->at = at;
  s->kind = StmtKind::kFor;
  s->targets.push_back(TupleExpr({.target = true, .end_name = "in"}));
  CheckTarget(s->targets[0]);
  CheckLoopVariable(s->targets[0]);
  ExpectName("in");
  int before = macros_;
  s->exprs.push_back(TupleExpr({.with_condition = false, .end_name = "recursive"}));
  int soft = std::exchange(soft_, 0);
  if (SkipName("if")) s->test = Expression();
  if (Cur().IsName("recursive")) Fail(Cur().at, "recursive loops are not supported", ErrorCode::kUnsupported);
  ++contexts_.back().loops;
  s->body = Statements({"else", "endfor"});
  --contexts_.back().loops;
  if (SkipName("else")) s->orelse = Statements({"endfor"});
  SkipName("endfor");
  soft_ = soft;
  s->captured = macros_ != before;
  return s;
}

WF_MODEL_INLINE StmtPtr Parser::With(Position at) {
  auto s = std::make_unique<Stmt>();
  s->at = at;
  s->kind = StmtKind::kWith;
  while (!failed() && Cur().kind != Tok::kBlockEnd) {
    if (!s->targets.empty()) ExpectOp(",");
    s->targets.push_back(TupleExpr({.target = true}));
    CheckTarget(s->targets.back());
    ExpectOp("=");
    s->exprs.push_back(Expression());
  }
  int soft = std::exchange(soft_, 0), before = macros_;
  s->body = Statements({"endwith"});
  soft_ = soft;
  s->captured = macros_ != before;
  SkipName("endwith");
  return s;
}

WF_MODEL_INLINE void Parser::Signature(Stmt* s) {
  ExpectOp("(");
  while (!failed() && !Cur().IsOp(")")) {
    if (!s->params.empty()) ExpectOp(",");
    Position at = Cur().at;
    int symbol = Intern(TakeName());
    for (int other : s->params) {
      if (other == symbol) Fail(at, "parameter named twice");
    }
    s->params.push_back(symbol);
    if (SkipOp("=")) {
      s->defaults.push_back(Expression());
    } else if (!s->defaults.empty()) {
      Fail(at, "parameter without a default after one with a default");
    }
  }
  ExpectOp(")");
}

WF_MODEL_INLINE StmtPtr Parser::Macro(Position at) {
  auto s = std::make_unique<Stmt>();
  s->at = at;
  s->kind = StmtKind::kMacro;
  s->symbol = Intern(TakeName());
  contexts_.emplace_back();
  int soft = std::exchange(soft_, 0);
  Signature(s.get());
  int before = macros_;
  s->body = Statements({"endmacro"});
  s->captured = macros_ != before;
  soft_ = soft;
  SkipName("endmacro");
  s->uses_varargs = contexts_.back().varargs;
  s->uses_kwargs = contexts_.back().kwargs;
  s->uses_caller = contexts_.back().caller;
  contexts_.pop_back();
  ++macros_;
  return s;
}

WF_MODEL_INLINE StmtPtr Parser::CallBlock(Position at) {
  auto s = std::make_unique<Stmt>();
  s->at = at;
  s->kind = StmtKind::kCallBlock;
  s->symbol = program_->caller_symbol;
  contexts_.emplace_back();
  int soft = std::exchange(soft_, 0);
  if (Cur().IsOp("(")) Signature(s.get());
  s->exprs.push_back(Expression());
  if (s->exprs[0]->kind != ExprKind::kCall) Fail(at, "expected a call after 'call'");
  int before = macros_;
  s->body = Statements({"endcall"});
  s->captured = macros_ != before;
  soft_ = soft;
  SkipName("endcall");
  s->uses_varargs = contexts_.back().varargs;
  s->uses_kwargs = contexts_.back().kwargs;
  s->uses_caller = contexts_.back().caller;
  contexts_.pop_back();
  ++macros_;
  return s;
}

}  // namespace wf::jinja::detail

namespace wf::jinja {

WF_MODEL_INLINE Result<std::shared_ptr<const detail::Program>> ParseProgram(std::string_view source,
                                                                            const Limits& limits) {
  if (source.size() > limits.source_bytes) {
    return LimitError("template: " + std::to_string(source.size()) + " bytes, over the limit of " +
                      std::to_string(limits.source_bytes));
  }
  if (size_t bad = detail::FirstInvalidUtf8(source); bad < source.size()) {
    return FormatError("template: invalid UTF-8 at byte " + std::to_string(bad));
  }
  WF_ASSIGN(std::vector<detail::Token> tokens, detail::Lexer(source).Run());
  auto program = std::make_shared<detail::Program>();
  WF_TRY(detail::Parser(std::move(tokens), program.get()).Run());
  return std::shared_ptr<const detail::Program>(std::move(program));
}

}  // namespace wf::jinja
#endif  // WF_TOKENIZER_JINJA_PARSER_STMT_IMPL_H_
