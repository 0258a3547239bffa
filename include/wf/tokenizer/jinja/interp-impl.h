// SPDX-License-Identifier: Apache-2.0
// The machine that runs a template: its limits, its first error, its scopes, and the objects that exist only
// during a run. Operations return a Value; after the first Fail() they return anything, loops stop because
// failed() is true, and the run's result is the error. Evaluation is in eval-impl.h and its neighbours.
#ifndef WF_TOKENIZER_JINJA_INTERP_IMPL_H_
#define WF_TOKENIZER_JINJA_INTERP_IMPL_H_

#include <algorithm>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "wf/tokenizer/jinja/ast-impl.h"
#include "wf/tokenizer/jinja/program.h"
#include "wf/tokenizer/jinja/unicode-impl.h"
#include "wf/tokenizer/jinja/value-impl.h"

namespace wf::jinja::detail {

// Stack use of evaluation: nodes nested through macro calls too, about 1 KiB each without sanitizers.
inline constexpr int kMaxEvalDepth = 1500;

struct Scope {
  Scope* parent = nullptr;
  std::vector<std::pair<int, Value>> vars;  // symbol, value
  void Set(int symbol, Value v) {
    for (auto& var : vars) {
      if (var.first == symbol) return void(var.second = std::move(v));
    }
    vars.emplace_back(symbol, std::move(v));
  }
};

struct Args {
  std::vector<Value> pos;
  std::vector<std::pair<std::string, Value>> kw;
};

enum class ObjectType : uint8_t {
  kNamespace,
  kMacro,
  kMethod,
  kFunction,
  kIterator,
  kView,
  kRange,
  kLoop,
  kCycler,
  kJoiner
};
struct ObjectRep : Rep {
  explicit ObjectRep(ObjectType t) : type(t) {}
  ObjectType type;
};
// namespace(): the only thing a template can change. Kept alive to the end of the run, so that cycles through
// it are broken there and nothing frees a long chain recursively.
struct NamespaceRep final : ObjectRep {
  NamespaceRep() : ObjectRep(ObjectType::kNamespace) {}
  std::vector<std::pair<std::string, Value>> attrs;
};
struct MacroRep final : ObjectRep {
  MacroRep() : ObjectRep(ObjectType::kMacro) {}
  const Stmt* stmt = nullptr;
  Scope* scope = nullptr;
};
struct MethodDef;
struct MethodRep final : ObjectRep {  // object.method, not yet called
  MethodRep() : ObjectRep(ObjectType::kMethod) {}
  Value self;
  const MethodDef* def = nullptr;
};
enum class Function : uint8_t { kRange, kDict, kNamespace, kCycler, kJoiner, kRaise, kStrftimeNow };
struct FunctionRep final : ObjectRep {
  explicit FunctionRep(Function f) : ObjectRep(ObjectType::kFunction), function(f) {}
  Function function;
};
struct IteratorRep final : ObjectRep {  // a generator: what is read from it is gone
  IteratorRep() : ObjectRep(ObjectType::kIterator) {}
  std::vector<Value> items;
  mutable size_t next = 0;
};
struct ViewRep final : ObjectRep {  // dict.items(), .keys(), .values()
  ViewRep() : ObjectRep(ObjectType::kView) {}
  const char* name = "";
  std::vector<Value> items;
};
struct RangeRep final : ObjectRep {
  RangeRep() : ObjectRep(ObjectType::kRange) {}
  int64_t start = 0, step = 1, count = 0;
  int64_t stop = 0;  // as written, for printing
};
struct LoopRep final : ObjectRep {
  LoopRep() : ObjectRep(ObjectType::kLoop) {}
  Value source;  // keeps *items alive if it is a list's own
  std::vector<Value> own;
  const std::vector<Value>* items = nullptr;
  mutable size_t next = 0;     // into *items
  mutable bool live = true;    // false once the loop has ended: nothing more is pulled
  const Stmt* stmt = nullptr;  // with its filter
  Scope* outer = nullptr;
  mutable std::deque<Value> ahead;  // items looked at before their turn
  mutable Value current, before, changed;
  mutable int64_t index0 = -1, length = -1;
  mutable bool has_changed = false;
};
struct CyclerRep final : ObjectRep {
  CyclerRep() : ObjectRep(ObjectType::kCycler) {}
  std::vector<Value> items;
  mutable size_t next = 0;
};
struct JoinerRep final : ObjectRep {
  JoinerRep() : ObjectRep(ObjectType::kJoiner) {}
  Value separator;
  mutable bool used = false;
};

inline int DepthOver(const std::vector<Value>& items) {
  int depth = 1;
  for (const Value& v : items) depth = std::max(depth, 1 + v.depth());
  return depth;
}

template <class T>
const T* As(const Value& v) {
  return static_cast<const T*>(ValueAccess::Get(v));
}
inline bool IsObject(const Value& v, ObjectType t) { return v.kind() == Kind::kObject && As<ObjectRep>(v)->type == t; }

// Arguments matched to named parameters; null where none was given.
struct Bound {
  static constexpr size_t kMax = 6;
  const Value* v[kMax] = {};
  const Args* raw = nullptr;
  const Value* operator[](size_t i) const { return v[i]; }
};

class Interp {
 public:
  Interp(const Program& program, const Value& globals, const Limits& limits, std::optional<int64_t> now)
      : program_(program), globals_(globals), limits_(limits), now_(now) {}
  ~Interp();
  Interp(const Interp&) = delete;
  Interp& operator=(const Interp&) = delete;

  Result<Text> Run();

  // --- errors and limits
  bool failed() const { return !status_.ok(); }
  Value Fail(ErrorCode code, const std::string& message);  // the first one counts
  Value Error(const std::string& message) { return Fail(ErrorCode::kFormat, message); }
  Value FailUndefined(const Value& v);
  bool Step(uint64_t n = 1);  // false: stop
  bool Work(size_t bytes) { return Step(bytes / 1024); }
  const Limits& limits() const { return limits_; }
  std::optional<int64_t> now() const { return now_; }

  // --- making values: each is metered and checked
  Value Str(Text text);
  Value Str(std::string text, bool user = false) { return Str(Text(std::move(text), user)); }
  Value List(std::vector<Value> items) { return Sequence(Kind::kList, std::move(items)); }
  Value Tuple(std::vector<Value> items) { return Sequence(Kind::kTuple, std::move(items)); }
  Value Sequence(Kind kind, std::vector<Value> items);
  Value Mapping(std::shared_ptr<MappingRep> rep);
  Value Iterator(std::vector<Value> items);
  Value View(const char* name, std::vector<Value> items);
  Value Undefined(std::string why) {
    return ValueAccess::Make(Kind::kUndefined, Meter(std::make_shared<UndefinedRep>(std::move(why)), 128));
  }
  template <class T>
  Value Object(std::shared_ptr<T> rep, size_t bytes) {
    if (rep->depth > kMaxContainerDepth) return Fail(ErrorCode::kLimit, "containers nested too deeply");
    return ValueAccess::Make(Kind::kObject, Meter(std::move(rep), sizeof(T) + bytes));
  }
  Value MakeNamespace(std::vector<std::pair<std::string, Value>> attrs);
  bool CanSetKey(const Value& key);  // fails for lists and dicts

  // --- printing (print-impl.h)
  Text ToText(const Value& v);  // str()
  void Repr(const Value& v, Text* out);
  Value ToJson(const Value& v, const Bound& a);
  bool Add(Text* out, std::string_view s, bool user = false);
  bool Add(Text* out, const Text& s) { return Add(out, s, 0, s.size()); }
  bool Add(Text* out, const Text& s, size_t begin, size_t end);

  // --- operators (operators-impl.h)
  bool Truth(const Value& v);
  bool Equal(const Value& a, const Value& b);
  bool Less(const Value& a, const Value& b, Op op);  // op: kLt, kLe, kGt or kGe
  bool Contains(const Value& container, const Value& item);
  Value Arithmetic(Op op, const Value& a, const Value& b);
  Value Negate(const Value& v, bool minus);
  Value Attr(const Value& v, const std::string& name);
  Value Item(const Value& v, const Value& key);
  Value Slice(const Value& v, const Value& start, const Value& stop, const Value& step);
  std::optional<size_t> Length(const Value& v);
  bool Iterate(const Value& v, std::vector<Value>* out);  // false (and an error) if it cannot be
  static bool Iterable(const Value& v);
  Value Escape(const Value& v);                 // HTML, unless marked safe already
  Value AddText(const Text& a, const Text& b);  // a + b

  // --- calls
  Value Call(const Value& callee, Args args);
  Value CallMacro(const MacroRep& macro, Args args);
  Value CallFunction(Function f, const Args& args);
  Value CallFilter(int index, const std::string& name, const Value& in, const Args& args);
  bool CallTest(int index, const std::string& name, const Value& in, const Args& args);
  Value Method(const Value& self, const std::string& name, bool* found);
  bool Bind(const char* what, const std::string& name, const char* params, const Args& args, Bound* out);
  Value Percent(const Value& format, const Value& args);
  Value Format(const Text& format, const Args& args);
  std::optional<int64_t> Integer(const Value& v, const char* what);  // fails unless an integer

  // --- evaluation (eval-impl.h)
  Value Eval(const Expr& e);
  enum class Flow : uint8_t { kNormal, kBreak, kContinue };
  Flow Exec(const Block& block);

 private:
  friend class LoopAccess;
  template <class T>
  std::shared_ptr<T> Meter(std::shared_ptr<T> rep, size_t bytes) {
    rep->meter = &live_;
    rep->charged = static_cast<int64_t>(bytes);
    live_ += rep->charged;
    if (live_ > live_limit_) Fail(ErrorCode::kLimit, "values take more than " + std::to_string(live_limit_) + " bytes");
    return rep;
  }
  Value Lookup(int symbol);
  Value Builtin(const std::string& name);
  Value EvalNode(const Expr& e);
  Value EvalCompare(const Expr& e);
  Value EvalCall(const Expr& e);
  Value EvalFilter(const Expr& e);
  bool EvalArgs(const Expr& e, Args* out);
  Value EvalDict(const Expr& e);
  Flow ExecStmt(const Stmt& s);
  Flow ExecFor(const Stmt& s);
  Flow ExecSetBlock(const Stmt& s);
  void ExecWith(const Stmt& s, Flow* flow);
  Flow ExecScoped(const Stmt& s);
  void ExecCallBlock(const Stmt& s);
  Value MakeMacro(const Stmt& s);
  void Assign(const Expr& target, const Value& v);
  bool Pull(const LoopRep& loop, Value* out);
  Value LoopAttr(const Value& loop, const std::string& name, bool* found);
  void Print(const Value& v);

  // A scope of its own for a statement: on the C++ stack, or kept to the end if a macro may refer to it.
  class Enter {
   public:
    Enter(Interp* in, bool captured, Scope* parent) : in_(in), saved_(in->scope_) {
      Scope* s = &local_;
      if (captured) s = &in->kept_.emplace_back();
      s->parent = parent;
      in->scope_ = s;
      in->Step(captured ? 4 : 0);  // a kept scope costs memory
    }
    ~Enter() { in_->scope_ = saved_; }
    Enter(const Enter&) = delete;
    Enter& operator=(const Enter&) = delete;

   private:
    Interp* in_;
    Scope* saved_;
    Scope local_;
  };
  // Sends output elsewhere while it lives.
  class Capture {
   public:
    explicit Capture(Interp* in) : in_(in), saved_(in->out_) { in->out_ = &text; }
    ~Capture() { in_->out_ = saved_; }
    Capture(const Capture&) = delete;
    Capture& operator=(const Capture&) = delete;
    Text text;

   private:
    Interp* in_;
    Text* saved_;
  };
  class Deeper {
   public:
    explicit Deeper(Interp* in) : in_(in) {
      if (++in->depth_ > kMaxEvalDepth) in->Fail(ErrorCode::kLimit, "evaluation nested too deeply");
    }
    ~Deeper() { --in_->depth_; }
    Deeper(const Deeper&) = delete;
    Deeper& operator=(const Deeper&) = delete;

   private:
    Interp* in_;
  };

  // The meter comes first: values in the members below die before it.
  int64_t live_ = 0;
  const Program& program_;
  const Value& globals_;
  const Limits& limits_;
  std::optional<int64_t> now_;
  int64_t live_limit_ = static_cast<int64_t>(limits_.output_bytes) * 8;
  Status status_;
  uint64_t steps_ = 0;
  int depth_ = 0, calls_ = 0;
  Position at_;
  std::deque<Scope> kept_;
  std::vector<std::shared_ptr<NamespaceRep>> namespaces_;
  Scope root_;
  Scope* scope_ = &root_;
  Text output_;
  Text* out_ = &output_;
  Value block_input_;  // what the innermost filter of a block works on
};

WF_MODEL_INLINE Interp::~Interp() {
  // Values refer to namespaces and scopes refer to values: empty both before anything is freed. What a
  // namespace held may be the last owner of a loop or iterator, never of another namespace.
  root_.vars.clear();
  for (Scope& s : kept_) s.vars.clear();
  for (auto& ns : namespaces_) ns->attrs.clear();
}

WF_MODEL_INLINE Value Interp::Fail(ErrorCode code, const std::string& message) {
  if (!failed()) {
    status_ = code == ErrorCode::kInvalidArgument ? Status(code, message) : Status(code, At(at_) + message);
  }
  return Value();
}
WF_MODEL_INLINE Value Interp::FailUndefined(const Value& v) {
  const auto* rep = As<UndefinedRep>(v);
  return Error(rep != nullptr && !rep->message.empty() ? rep->message : "value is undefined");
}
WF_MODEL_INLINE bool Interp::Step(uint64_t n) {
  steps_ += n;
  if (steps_ > limits_.steps) {
    Fail(ErrorCode::kLimit, "more than " + std::to_string(limits_.steps) + " steps");
  }
  return !failed();
}
WF_MODEL_INLINE Value Interp::Str(Text text) {
  if (text.size() > limits_.output_bytes) {
    return Fail(ErrorCode::kLimit, "string over " + std::to_string(limits_.output_bytes) + " bytes");
  }
  Work(text.size());
  size_t bytes = sizeof(TextRep) + text.size() + text.user().size() * sizeof(ByteRange);
  return ValueAccess::Make(Kind::kString, Meter(std::make_shared<TextRep>(std::move(text)), bytes));
}
WF_MODEL_INLINE Value Interp::Sequence(Kind kind, std::vector<Value> items) {
  Work(items.size() * sizeof(Value));
  auto rep = std::make_shared<ListRep>();
  rep->depth = DepthOver(items);
  if (rep->depth > kMaxContainerDepth) return Fail(ErrorCode::kLimit, "containers nested too deeply");
  size_t bytes = sizeof(ListRep) + items.size() * sizeof(Value);
  rep->items = std::move(items);
  return ValueAccess::Make(kind, Meter(std::move(rep), bytes));
}
WF_MODEL_INLINE Value Interp::Mapping(std::shared_ptr<MappingRep> rep) {
  size_t bytes = sizeof(MappingRep) + rep->items.size() * (2 * sizeof(Value) + 64);
  Work(bytes);
  if (rep->depth > kMaxContainerDepth) return Fail(ErrorCode::kLimit, "containers nested too deeply");
  return ValueAccess::Make(Kind::kMapping, Meter(std::move(rep), bytes));
}
WF_MODEL_INLINE Value Interp::Iterator(std::vector<Value> items) {
  Work(items.size() * sizeof(Value));
  auto rep = std::make_shared<IteratorRep>();
  rep->depth = DepthOver(items);
  size_t bytes = items.size() * sizeof(Value);
  rep->items = std::move(items);
  return Object(std::move(rep), bytes);
}
WF_MODEL_INLINE Value Interp::View(const char* name, std::vector<Value> items) {
  auto rep = std::make_shared<ViewRep>();
  size_t bytes = items.size() * sizeof(Value);
  Work(bytes);
  rep->depth = DepthOver(items);
  rep->name = name;
  rep->items = std::move(items);
  return Object(std::move(rep), bytes);
}
WF_MODEL_INLINE Value Interp::MakeNamespace(std::vector<std::pair<std::string, Value>> attrs) {
  auto rep = std::make_shared<NamespaceRep>();
  rep->attrs = std::move(attrs);
  namespaces_.push_back(rep);
  return Object(std::move(rep), 128);
}
WF_MODEL_INLINE bool Interp::CanSetKey(const Value& key) {
  switch (key.kind()) {
    case Kind::kList:
    case Kind::kMapping:
      Error("unhashable value as a dict key");
      return false;
    case Kind::kTuple:
      for (const Value& v : key.AsList()) {
        if (!CanSetKey(v)) return false;
      }
      return true;
    default:
      return true;
  }
}
WF_MODEL_INLINE bool Interp::Add(Text* out, std::string_view s, bool user) {
  if (failed()) return false;
  if (s.size() > limits_.output_bytes - std::min(limits_.output_bytes, out->size())) {
    Fail(ErrorCode::kLimit, "text over " + std::to_string(limits_.output_bytes) + " bytes");
    return false;
  }
  out->Append(s, user);
  return true;
}
WF_MODEL_INLINE bool Interp::Add(Text* out, const Text& s, size_t begin, size_t end) {
  if (failed()) return false;
  end = std::min(end, s.size());
  if (begin >= end) return true;
  if (end - begin > limits_.output_bytes - std::min(limits_.output_bytes, out->size())) {
    Fail(ErrorCode::kLimit, "text over " + std::to_string(limits_.output_bytes) + " bytes");
    return false;
  }
  out->Append(s, begin, end);
  return true;
}

}  // namespace wf::jinja::detail
#endif  // WF_TOKENIZER_JINJA_INTERP_IMPL_H_
