// SPDX-License-Identifier: Apache-2.0
// The tree a template is parsed into. Names are interned: a symbol is an index into Program::names.
#ifndef WF_TOKENIZER_JINJA_AST_IMPL_H_
#define WF_TOKENIZER_JINJA_AST_IMPL_H_

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "wf/tokenizer/jinja/value.h"

namespace wf::jinja::detail {

// A tree deeper than this is refused: parsing, running and freeing it recurse.
inline constexpr int kMaxTreeDepth = 200;

struct Position {
  uint32_t line = 1;
  uint32_t column = 1;  // in bytes, from 1
};

enum class Op : uint8_t {
  kAdd,
  kSub,
  kMul,
  kDiv,
  kFloorDiv,
  kMod,
  kPow,  // binary
  kNeg,
  kPos,
  kNot,  // unary
  kEq,
  kNe,
  kLt,
  kLe,
  kGt,
  kGe,
  kIn,
  kNotIn,  // comparison
};

enum class ExprKind : uint8_t {
  kConst,   // value
  kName,    // symbol
  kAttr,    // kids[0].name
  kItem,    // kids[0][kids[1]]
  kSlice,   // kids[0][kids[1]:kids[2]:kids[3]], each bound may be null
  kCall,    // kids[0](arguments)
  kFilter,  // kids[0] | name(arguments); a null kid is the text of a block
  kTest,    // kids[0] is name(arguments)
  kUnary,   // op kids[0]
  kBinary,  // kids[0] op kids[1]
  kAnd,
  kOr,         // kids[0], kids[1]
  kConcat,     // kids joined by ~
  kCompare,    // kids[0] ops[0] kids[1] ops[1] kids[2] ...
  kCondition,  // kids[1] if kids[0] else kids[2] (may be null)
  kList,
  kTuple,
  kDict,    // kids: key, value, key, value ...
  kNsAttr,  // only as a target: symbol.name
};

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

struct Expr {
  ExprKind kind = ExprKind::kConst;
  Op op = Op::kAdd;
  int depth = 1;
  Position at;
  int symbol = -1;
  int function = -1;  // filters and tests: index into their table, -1 if unknown
  std::string name;
  Value value;
  std::vector<ExprPtr> kids;
  std::vector<Op> ops;
  // Arguments of calls, filters and tests.
  std::vector<ExprPtr> args;
  std::vector<std::pair<std::string, ExprPtr>> kwargs;
  ExprPtr star_args, star_kwargs;
};

enum class StmtKind : uint8_t {
  kText,         // value
  kOutput,       // exprs, printed one after the other
  kSet,          // target = exprs[0]
  kSetBlock,     // target = body, through filter if any
  kIf,           // branches, then orelse
  kFor,          // target in exprs[0] if test
  kMacro,        // symbol(params)
  kCallBlock,    // exprs[0] is the call; params
  kFilterBlock,  // body through filter
  kScope,        // body in a scope of its own ({% generation %})
  kWith,         // targets[i] = exprs[i], body
  kBreak,
  kContinue,
};

struct Stmt;
using StmtPtr = std::unique_ptr<Stmt>;
using Block = std::vector<StmtPtr>;

struct Branch {
  ExprPtr test;
  Block body;
};

struct Stmt {
  StmtKind kind = StmtKind::kText;
  Position at;
  Value value;
  std::vector<ExprPtr> exprs;
  std::vector<ExprPtr> targets;
  ExprPtr test;
  ExprPtr filter;
  std::vector<Branch> branches;
  Block body, orelse;
  // Macros and call blocks.
  int symbol = -1;
  std::vector<int> params;
  std::vector<ExprPtr> defaults;  // for the last defaults.size() params
  bool uses_varargs = false, uses_kwargs = false, uses_caller = false;
  bool captured = false;  // a macro is defined inside: its scopes outlive the statement
};

struct Program {
  Block body;
  std::vector<std::string> names;
  int loop_symbol = -1, caller_symbol = -1, varargs_symbol = -1, kwargs_symbol = -1;
};

// Index of a filter or test in its table, or -1.
WF_MODEL_INLINE int FindFilter(std::string_view name);
WF_MODEL_INLINE int FindTest(std::string_view name);

inline std::string At(Position p) {
  return "template line " + std::to_string(p.line) + ", column " + std::to_string(p.column) + ": ";
}

}  // namespace wf::jinja::detail
#endif  // WF_TOKENIZER_JINJA_AST_IMPL_H_
