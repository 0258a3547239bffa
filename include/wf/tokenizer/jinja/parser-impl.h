// SPDX-License-Identifier: Apache-2.0
// Tokens to a tree: the parser and its operators. The grammar and its precedences are those of Python's jinja2.parser.
// The first error stops it; every function returns something usable meanwhile, so callers only look at the end.
#ifndef WF_TOKENIZER_JINJA_PARSER_IMPL_H_
#define WF_TOKENIZER_JINJA_PARSER_IMPL_H_

#include <algorithm>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "wf/tokenizer/jinja/ast-impl.h"
#include "wf/tokenizer/jinja/lexer-impl.h"

namespace wf::jinja::detail {

class Parser {
 public:
  Parser(std::vector<Token> tokens, Program* program) : tokens_(std::move(tokens)), program_(program) {}

  Status Run();  // statements, in parser_stmt-impl.h

 private:
  // What a `{% macro %}` body mentions, and whether break and continue have a loop to act on.
  struct Context {
    bool varargs = false, kwargs = false, caller = false;
    int loops = 0;
  };

  const Token& Cur() const { return tokens_[pos_]; }
  const Token& Look() const { return tokens_[std::min(pos_ + 1, tokens_.size() - 1)]; }
  void Next() {
    if (pos_ + 1 < tokens_.size()) ++pos_;
  }
  bool SkipName(std::string_view name) {
    if (!Cur().IsName(name)) return false;
    Next();
    return true;
  }
  bool SkipOp(std::string_view op) {
    if (!Cur().IsOp(op)) return false;
    Next();
    return true;
  }
  bool failed() const { return !status_.ok(); }
  void Fail(Position at, const std::string& message, ErrorCode code = ErrorCode::kFormat) {
    if (failed()) return;
    status_ = Status(code, At(at) + message);
    pos_ = tokens_.size() - 1;  // the end token ends every loop
  }
  static std::string Describe(const Token& t) {
    switch (t.kind) {
      case Tok::kData:
        return "text";
      case Tok::kVarBegin:
        return "'{{'";
      case Tok::kVarEnd:
        return "'}}'";
      case Tok::kBlockBegin:
        return "'{%'";
      case Tok::kBlockEnd:
        return "'%}'";
      case Tok::kString:
        return "a string";
      case Tok::kInteger:
      case Tok::kFloat:
        return "a number";
      case Tok::kEnd:
        return "the end of the template";
      case Tok::kName:
      case Tok::kOperator:
        return "'" + t.text + "'";
    }
    return "?";
  }
  void Unexpected(const std::string& expected) {
    Fail(Cur().at, "expected " + expected + ", found " + Describe(Cur()));
  }
  void ExpectOp(std::string_view op) {
    if (!SkipOp(op)) Unexpected("'" + std::string(op) + "'");
  }
  void ExpectName(std::string_view name) {
    if (!SkipName(name)) Unexpected("'" + std::string(name) + "'");
  }
  std::string TakeName() {
    if (Cur().kind != Tok::kName) {
      Unexpected("a name");
      return {};
    }
    std::string name = Cur().text;
    Next();
    return name;
  }
  int Intern(const std::string& name) {
    auto [it, added] = symbols_.emplace(name, static_cast<int>(program_->names.size()));
    if (added) program_->names.push_back(name);
    return it->second;
  }
  void Mention(const std::string& name) {
    for (Context& c : contexts_) {
      if (name == "varargs") c.varargs = true;
      if (name == "kwargs") c.kwargs = true;
      if (name == "caller") c.caller = true;
    }
  }

  // Bounds the recursion of the parser itself.
  class Nesting {
   public:
    explicit Nesting(Parser* p) : p_(p) {
      if (++p_->nesting_ > kMaxTreeDepth) p_->Fail(p_->Cur().at, "nested too deeply", ErrorCode::kLimit);
    }
    ~Nesting() { --p_->nesting_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;

   private:
    Parser* p_;
  };

  ExprPtr New(ExprKind kind, Position at) {
    auto e = std::make_unique<Expr>();
    e->kind = kind;
    e->at = at;
    return e;
  }
  // Bounds the depth of trees that loops build, such as a + b + c + ...
  void Adopt(Expr* parent, const ExprPtr& kid) {
    if (kid == nullptr) return;
    parent->depth = std::max(parent->depth, kid->depth + 1);
    if (parent->depth > kMaxTreeDepth) Fail(parent->at, "expression nested too deeply", ErrorCode::kLimit);
  }
  void AddKid(Expr* parent, ExprPtr kid) {
    Adopt(parent, kid);
    parent->kids.push_back(std::move(kid));
  }
  ExprPtr Binary(ExprKind kind, Op op, Position at, ExprPtr a, ExprPtr b) {
    ExprPtr e = New(kind, at);
    e->op = op;
    AddKid(e.get(), std::move(a));
    AddKid(e.get(), std::move(b));
    return e;
  }
  ExprPtr Unary(Op op, Position at, ExprPtr a) {
    ExprPtr e = New(ExprKind::kUnary, at);
    e->op = op;
    AddKid(e.get(), std::move(a));
    return e;
  }
  ExprPtr Constant(Position at, Value v) {
    ExprPtr e = New(ExprKind::kConst, at);
    e->value = std::move(v);
    return e;
  }

  ExprPtr Expression(bool with_condition = true) {
    Nesting nesting(this);
    if (failed()) return Constant(Cur().at, Value());
    return with_condition ? Condition() : Or();
  }

  ExprPtr Condition() {
    Position at = Cur().at;
    // In Jinja an unknown filter inside a condition is an error only when it is reached, so in all three parts.
    // Whether there is one shows after the first, hence the second look at its unknown functions.
    size_t unknown = unknown_.size();
    ExprPtr value = Or();
    while (Cur().IsName("if")) {
      unknown_.resize(unknown);
      ++soft_;
      Next();
      ExprPtr e = New(ExprKind::kCondition, at);
      AddKid(e.get(), Or());
      AddKid(e.get(), std::move(value));
      ExprPtr otherwise;
      if (SkipName("else")) {
        Nesting nesting(this);
        if (!failed()) otherwise = Condition();
      }
      AddKid(e.get(), std::move(otherwise));
      value = std::move(e);
      --soft_;
      at = Cur().at;
    }
    return value;
  }
  ExprPtr Or() {
    Position at = Cur().at;
    ExprPtr left = And();
    while (SkipName("or")) left = Binary(ExprKind::kOr, Op::kAdd, at, std::move(left), And());
    return left;
  }
  ExprPtr And() {
    Position at = Cur().at;
    ExprPtr left = Not();
    while (SkipName("and")) left = Binary(ExprKind::kAnd, Op::kAdd, at, std::move(left), Not());
    return left;
  }
  ExprPtr Not() {
    if (!Cur().IsName("not")) return Compare();
    Nesting nesting(this);
    Position at = Cur().at;
    Next();
    if (failed()) return Constant(at, Value());
    return Unary(Op::kNot, at, Not());
  }
  ExprPtr Compare() {
    static constexpr std::pair<std::string_view, Op> kOps[] = {{"==", Op::kEq}, {"!=", Op::kNe}, {"<", Op::kLt},
                                                               {"<=", Op::kLe}, {">", Op::kGt},  {">=", Op::kGe}};
    Position at = Cur().at;
    ExprPtr first = Math1();
    ExprPtr e;
    while (!failed()) {
      Op op = Op::kAdd;
      for (const auto& [text, o] : kOps) {
        if (Cur().IsOp(text)) op = o;
      }
      if (op != Op::kAdd) {
        Next();
      } else if (SkipName("in")) {
        op = Op::kIn;
      } else if (Cur().IsName("not") && Look().IsName("in")) {
        Next();
        Next();
        op = Op::kNotIn;
      } else {
        break;
      }
      if (e == nullptr) {
        e = New(ExprKind::kCompare, at);
        AddKid(e.get(), std::move(first));
      }
      e->ops.push_back(op);
      AddKid(e.get(), Math1());
    }
    return e != nullptr ? std::move(e) : std::move(first);
  }
  ExprPtr Math1() {
    Position at = Cur().at;
    ExprPtr left = Concat();
    while (Cur().IsOp("+") || Cur().IsOp("-")) {
      Op op = Cur().text == "+" ? Op::kAdd : Op::kSub;
      Next();
      left = Binary(ExprKind::kBinary, op, at, std::move(left), Concat());
    }
    return left;
  }
  ExprPtr Concat() {
    Position at = Cur().at;
    ExprPtr first = Math2();
    if (!Cur().IsOp("~")) return first;
    ExprPtr e = New(ExprKind::kConcat, at);
    AddKid(e.get(), std::move(first));
    while (SkipOp("~")) AddKid(e.get(), Math2());
    return e;
  }
  ExprPtr Math2() {
    static constexpr std::pair<std::string_view, Op> kOps[] = {
        {"*", Op::kMul}, {"/", Op::kDiv}, {"//", Op::kFloorDiv}, {"%", Op::kMod}};
    Position at = Cur().at;
    ExprPtr left = Pow();
    while (!failed()) {
      Op op = Op::kAdd;
      for (const auto& [text, o] : kOps) {
        if (Cur().IsOp(text)) op = o;
      }
      if (op == Op::kAdd) break;
      Next();
      left = Binary(ExprKind::kBinary, op, at, std::move(left), Pow());
    }
    return left;
  }
  ExprPtr Pow() {
    Position at = Cur().at;
    ExprPtr left = UnaryExpr(true);
    while (SkipOp("**")) left = Binary(ExprKind::kBinary, Op::kPow, at, std::move(left), UnaryExpr(true));
    return left;
  }
  ExprPtr UnaryExpr(bool with_filter) {
    Nesting nesting(this);
    Position at = Cur().at;
    if (failed()) return Constant(at, Value());
    ExprPtr e;
    if (SkipOp("-")) {
      e = Unary(Op::kNeg, at, UnaryExpr(false));
    } else if (SkipOp("+")) {
      e = Unary(Op::kPos, at, UnaryExpr(false));
    } else {
      e = Primary(false);
    }
    e = Postfix(std::move(e));
    return with_filter ? FilterExpr(std::move(e)) : std::move(e);
  }

  // Operands, calls, filters and tests: parser_expr-impl.h.
  struct TupleRules {
    bool target = false;  // names and literals only
    bool with_namespace = false;
    bool with_condition = true;
    bool parentheses = false;  // may be empty
    std::string_view end_name = {};
  };
  bool TupleEnds(const TupleRules& rules) const {
    return Cur().kind == Tok::kVarEnd || Cur().kind == Tok::kBlockEnd || Cur().IsOp(")") ||
           (!rules.end_name.empty() && Cur().IsName(rules.end_name));
  }
  ExprPtr Primary(bool with_namespace);
  ExprPtr TupleExpr(const TupleRules& rules);
  ExprPtr Postfix(ExprPtr e);
  ExprPtr FilterExpr(ExprPtr e);
  ExprPtr Subscript(ExprPtr object);
  void Arguments(Expr* e);
  ExprPtr Call(ExprPtr callee);
  std::string DottedName();
  void Resolve(Expr* e, int function, const char* what);
  ExprPtr Filter(ExprPtr e, bool inline_start);
  ExprPtr Test(ExprPtr subject);

  // Statements: parser_stmt-impl.h.
  Block Body(std::initializer_list<std::string_view> ends);
  Block Statements(std::initializer_list<std::string_view> ends);
  StmtPtr Statement();
  StmtPtr Set(Position at);
  StmtPtr If(Position at);
  StmtPtr For(Position at);
  StmtPtr With(Position at);
  StmtPtr Macro(Position at);
  StmtPtr CallBlock(Position at);
  void Signature(Stmt* s);
  void CheckTarget(const ExprPtr& e);
  void CheckLoopVariable(const ExprPtr& e);
  void CheckUnknown();

  std::vector<Token> tokens_;
  size_t pos_ = 0;
  Program* program_;
  std::unordered_map<std::string, int> symbols_;
  Status status_;
  int nesting_ = 0;
  int soft_ = 0;                                           // > 0: inside a condition
  std::vector<std::pair<Position, std::string>> unknown_;  // unknown filters and tests of the expression at hand
  std::vector<Context> contexts_{1};
  int macros_ = 0;  // macros and call blocks parsed so far
};

}  // namespace wf::jinja::detail
#endif  // WF_TOKENIZER_JINJA_PARSER_IMPL_H_
