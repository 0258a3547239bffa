// SPDX-License-Identifier: Apache-2.0
// Bodies of pickle.h: the opcodes as a stack machine whose every step is bounded and checked. The names of opcodes and
// the allowed globals are in pickle_names-impl.h.
#ifndef WF_FORMATS_PICKLE_IMPL_H_
#define WF_FORMATS_PICKLE_IMPL_H_

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "wf/base/bytes.h"
#include "wf/base/quote.h"
#include "wf/formats/pickle.h"
#include "wf/formats/pickle_names-impl.h"

namespace wf {

namespace detail {

// One run over one pickle. The stack's part above the last mark is what an opcode may take from.
class PickleMachine {
 public:
  explicit PickleMachine(std::string_view bytes) : bytes_(bytes), in_(bytes) { doc_.bytes_ = bytes; }

  Result<PickleDocument> Run() {
    if (bytes_.size() > kMaxBytes) {
      return LimitError("pickle: expected at most " + std::to_string(kMaxBytes) + " bytes, found " +
                        std::to_string(bytes_.size()));
    }
    if (bytes_.size() < 2 || bytes_[0] != '\x80' || bytes_[1] < 2 || bytes_[1] > 5) {
      return FormatError("pickle: expected PROTO 2 to 5 at its beginning, found " + Quote(bytes_.substr(0, 2)));
    }
    while (!stopped_) {
      at_ = in_.offset();
      if (in_.remaining() == 0)
        return FormatError("pickle: expected STOP, found the end at offset " + std::to_string(at_));
      op_ = *in_.Read<uint8_t>("an opcode");
      const Status s = Step();
      if (!s.ok()) {
        return Status(s.code(), "pickle: opcode " + PickleOpcodeText(op_) + " at offset " + std::to_string(at_) + ": " +
                                    s.message());
      }
    }
    if (in_.remaining() != 0) {
      return FormatError("pickle: " + std::to_string(in_.remaining()) + " bytes after STOP at offset " +
                         std::to_string(at_));
    }
    return std::move(doc_);
  }

 private:
  using Kind = PickleValue::Kind;
  static constexpr uint64_t kMaxBytes = uint64_t{256} << 20;
  static constexpr uint64_t kMaxString = uint64_t{1} << 20;
  static constexpr size_t kMaxStack = 1'000'000;
  static constexpr size_t kMaxNodes = size_t{1} << 22;
  static constexpr size_t kMaxItems = size_t{1} << 24;
  static constexpr size_t kMaxMemo = size_t{1} << 23;

  // --- values ---
  Status Push(PickleValue v) {
    if (stack_.size() + marks_.size() >= kMaxStack) return LimitError("more than 1000000 values on the stack");
    stack_.push_back(v);
    return OkStatus();
  }
  Status Push(Kind kind, uint64_t bits = 0) {
    PickleValue v;
    v.kind = kind;
    v.bits = bits;
    return Push(v);
  }
  size_t Base() const noexcept { return marks_.empty() ? 0 : marks_.back(); }
  Status Need(size_t n) const {
    if (stack_.size() - Base() >= n) return OkStatus();
    return FormatError("expected " + std::to_string(n) + (n == 1 ? " value" : " values") + " on the stack, found " +
                       std::to_string(stack_.size() - Base()));
  }
  PickleValue Pop() {  // after Need()
    const PickleValue v = stack_.back();
    stack_.pop_back();
    return v;
  }
  Status Count(size_t items) {
    items_ += items;
    if (items_ > kMaxItems) return LimitError("more than " + std::to_string(kMaxItems) + " items");
    return OkStatus();
  }
  // A new container of the stack's last n values, which it takes.
  Status Collect(Kind kind, size_t n) {
    WF_TRY(Need(n));
    WF_TRY(Count(n));
    if (doc_.nodes_.size() == kMaxNodes) return LimitError("more than " + std::to_string(kMaxNodes) + " containers");
    doc_.nodes_.emplace_back(stack_.end() - static_cast<std::ptrdiff_t>(n), stack_.end());
    stack_.resize(stack_.size() - n);
    return Push(kind, doc_.nodes_.size() - 1);
  }
  // Ends the stack's part above the last mark; n: how many values it has. They stay.
  Status PopMark(size_t* n) {
    if (marks_.empty()) return FormatError("expected a MARK, found none");
    *n = stack_.size() - marks_.back();
    marks_.pop_back();
    return OkStatus();
  }
  // Moves the last n values into the container below them.
  Status MoveInto(Kind kind, size_t n) {
    WF_TRY(Need(n + 1));
    const PickleValue to = stack_[stack_.size() - n - 1];
    if (!to.is(kind)) {
      return FormatError(std::string("expected ") + PickleKindName(kind) + ", found " + PickleKindName(to.kind));
    }
    if (kind == Kind::kDict && n % 2 != 0) return FormatError("expected pairs, found an odd number of values");
    WF_TRY(Count(n));
    std::vector<PickleValue>& items = doc_.nodes_[to.bits];
    for (size_t i = stack_.size() - n; i < stack_.size(); ++i) {
      if (kind == Kind::kDict && (stack_.size() - i) % 2 == 0) WF_TRY(CheckKey(stack_[i]));
      items.push_back(stack_[i]);
    }
    stack_.resize(stack_.size() - n);
    return OkStatus();
  }
  static Status CheckKey(PickleValue v) {
    if (!v.is(Kind::kList) && !v.is(Kind::kDict)) return OkStatus();
    return FormatError(std::string("expected a key, found ") + PickleKindName(v.kind));
  }

  // --- operands ---
  template <class T>
  Status PushInt() {
    WF_ASSIGN(const T v, in_.Read<T>("an integer"));
    return Push(Kind::kInt, static_cast<uint64_t>(static_cast<int64_t>(v)));
  }
  template <class Length>
  Status PushString() {
    WF_ASSIGN(const Length n, in_.Read<Length>("a string's length"));
    if (n > kMaxString) {
      return LimitError("expected a string of at most " + std::to_string(kMaxString) + " bytes, found " +
                        std::to_string(n));
    }
    PickleValue v;
    v.kind = Kind::kString;
    v.bits = in_.offset();
    v.size = static_cast<uint32_t>(n);
    WF_TRY(in_.Bytes(v.size, "a string"));
    return Push(v);
  }
  Status PushLong() {
    WF_ASSIGN(const uint8_t n, in_.Read<uint8_t>("an integer's length"));
    if (n > 8) return LimitError("expected an integer of at most 8 bytes, found " + std::to_string(n));
    WF_ASSIGN(const std::string_view bytes, in_.Bytes(n, "an integer"));
    uint64_t v = n > 0 && static_cast<int8_t>(bytes.back()) < 0 ? ~uint64_t{0} : 0;
    std::memcpy(&v, bytes.data(), n);
    return Push(Kind::kInt, v);
  }
  Status PushFloat() {  // big-endian
    WF_ASSIGN(const std::string_view bytes, in_.Bytes(8, "a float"));
    uint64_t v = 0;
    for (const char c : bytes) v = v << 8 | static_cast<uint8_t>(c);
    return Push(Kind::kFloat, v);
  }
  Result<std::string_view> Line() {
    const size_t begin = in_.offset();
    const size_t end = bytes_.find('\n', begin);
    if (end == bytes_.npos || end - begin > 255) return FormatError("expected a name that ends with a line break");
    WF_TRY(in_.Bytes(end - begin + 1, "a name"));
    return bytes_.substr(begin, end - begin);
  }

  // --- memo ---
  Status Put(uint64_t index) {
    WF_TRY(Need(1));
    // Writers count from 0, one entry for each opcode at most.
    if (index >= bytes_.size() || index >= kMaxMemo) {
      return LimitError("expected a memo index below " + std::to_string(std::min<uint64_t>(bytes_.size(), kMaxMemo)) +
                        ", found " + std::to_string(index));
    }
    if (index >= memo_.size()) memo_.resize(index + 1);
    if (!memo_[index]) ++memo_count_;
    memo_[index] = stack_.back();
    return OkStatus();
  }
  Status Get(uint64_t index) {
    if (index < memo_.size() && memo_[index]) return Push(*memo_[index]);
    return FormatError("memo entry " + std::to_string(index) + " is empty");
  }
  template <class T>
  Status PutOperand() {
    WF_ASSIGN(const T index, in_.Read<T>("a memo index"));
    return Put(index);
  }
  template <class T>
  Status GetOperand() {
    WF_ASSIGN(const T index, in_.Read<T>("a memo index"));
    return Get(index);
  }

  // --- names and calls ---
  Status PushGlobal(std::string_view module, std::string_view name) {
    WF_ASSIGN(const PickleGlobal g, FindPickleGlobal(module, name));
    return Push(Kind::kGlobal, static_cast<uint64_t>(g));
  }
  Status Global() {
    WF_ASSIGN(const std::string_view module, Line());
    WF_ASSIGN(const std::string_view name, Line());
    return PushGlobal(module, name);
  }
  Status StackGlobal() {
    WF_TRY(Need(2));
    const PickleValue name = Pop(), module = Pop();
    if (name.is(Kind::kString) && module.is(Kind::kString)) return PushGlobal(doc_.String(module), doc_.String(name));
    return FormatError("expected two strings");
  }
  Status Reduce() {
    WF_TRY(Need(2));
    const PickleValue args = stack_.back(), f = stack_[stack_.size() - 2];
    if (!f.is(Kind::kGlobal)) return FormatError(std::string("expected a function, found ") + PickleKindName(f.kind));
    if (!args.is(Kind::kTuple)) return FormatError(std::string("expected a tuple, found ") + PickleKindName(args.kind));
    switch (f.AsGlobal()) {
      case PickleGlobal::kOrderedDict:
        return MakeDict(args);
      case PickleGlobal::kSize: {
        const std::vector<PickleValue>& a = doc_.nodes_[args.bits];
        if (a.size() != 1 || !a[0].is(Kind::kTuple)) return FormatError("torch.Size: expected a tuple");
        const PickleValue size = a[0];
        stack_.resize(stack_.size() - 2);
        return Push(size);
      }
      case PickleGlobal::kRebuildTensorV2:
      case PickleGlobal::kRebuildTensor:
      case PickleGlobal::kRebuildParameter:
      case PickleGlobal::kRebuildParameterWithState:
      case PickleGlobal::kDevice:
      case PickleGlobal::kGetLayout:
        return Collect(Kind::kCall, 2);
      default:
        return Unsupported(std::string("a call of ") + PickleGlobalName(f.AsGlobal()) + " is not allowed");
    }
  }
  // OrderedDict(), or of a list of pairs, as Python 2 wrote it.
  Status MakeDict(PickleValue args) {
    std::vector<PickleValue> items;
    const std::vector<PickleValue>& a = doc_.nodes_[args.bits];
    if (a.size() > 1 || (a.size() == 1 && !a[0].is(Kind::kList))) {
      return FormatError("OrderedDict: expected no arguments or a list of pairs");
    }
    if (a.size() == 1) {
      WF_TRY(Count(2 * doc_.Items(a[0]).size()));
      for (const PickleValue& pair : doc_.Items(a[0])) {
        const auto kv = doc_.Items(pair);
        if ((!pair.is(Kind::kList) && !pair.is(Kind::kTuple)) || kv.size() != 2) {
          return FormatError("OrderedDict: expected pairs");
        }
        WF_TRY(CheckKey(kv[0]));
        items.insert(items.end(), kv.begin(), kv.end());
      }
    }
    stack_.resize(stack_.size() - 2);
    WF_TRY(Collect(Kind::kDict, 0));
    doc_.nodes_.back() = std::move(items);
    return OkStatus();
  }
  Status NewObject() {
    WF_TRY(Need(2));
    const PickleValue args = stack_.back(), f = stack_[stack_.size() - 2];
    if (!f.is(Kind::kGlobal) || f.AsGlobal() != PickleGlobal::kOrderedDict) {
      return Unsupported(std::string("expected OrderedDict, found ") +
                         (f.is(Kind::kGlobal) ? PickleGlobalName(f.AsGlobal()) : PickleKindName(f.kind)));
    }
    if (!args.is(Kind::kTuple) || !doc_.Items(args).empty()) return FormatError("OrderedDict: expected no arguments");
    return MakeDict(args);
  }
  // An object's attributes, e.g. _metadata of a state dict: nothing that a tensor's values depend on.
  Status Build() {
    WF_TRY(Need(2));
    const PickleValue object = stack_[stack_.size() - 2];
    if (!object.is(Kind::kDict) && !object.is(Kind::kCall)) {
      return FormatError(std::string("expected an object, found ") + PickleKindName(object.kind));
    }
    stack_.pop_back();
    return OkStatus();
  }

  Status Step() {
    size_t n = 0;
    switch (op_) {
      case 0x80: {  // PROTO
        WF_ASSIGN(const uint8_t version, in_.Read<uint8_t>("a protocol"));
        if (at_ != 0) return FormatError("expected at the beginning only");
        return version <= 5 ? OkStatus() : Unsupported("protocol " + std::to_string(version));
      }
      case 0x95: {  // FRAME
        WF_ASSIGN(const uint64_t size, in_.Read<uint64_t>("a frame's size"));
        if (size <= in_.remaining()) return OkStatus();
        return FormatError("a frame of " + std::to_string(size) + " bytes, " + std::to_string(in_.remaining()) +
                           " are left");
      }
      case '.':  // STOP
        if (!marks_.empty() || stack_.size() != 1) {
          return FormatError("expected one value on the stack, found " + std::to_string(stack_.size()) + " and " +
                             std::to_string(marks_.size()) + " marks");
        }
        doc_.root_ = stack_.back();
        stopped_ = true;
        return OkStatus();
      case '(':  // MARK
        if (stack_.size() + marks_.size() >= kMaxStack) return LimitError("more than 1000000 values on the stack");
        marks_.push_back(stack_.size());
        return OkStatus();
      case '0':  // POP
        if (!marks_.empty() && stack_.size() == marks_.back()) return PopMark(&n);
        WF_TRY(Need(1));
        stack_.pop_back();
        return OkStatus();
      case '1':  // POP_MARK
        WF_TRY(PopMark(&n));
        stack_.resize(stack_.size() - n);
        return OkStatus();
      case '2':  // DUP
        WF_TRY(Need(1));
        return Push(stack_.back());
      case 'N':  // NONE
        return Push(Kind::kNone);
      case 0x88:  // NEWTRUE
        return Push(Kind::kBool, 1);
      case 0x89:  // NEWFALSE
        return Push(Kind::kBool, 0);
      case 'J':  // BININT
        return PushInt<int32_t>();
      case 'K':  // BININT1
        return PushInt<uint8_t>();
      case 'M':  // BININT2
        return PushInt<uint16_t>();
      case 0x8a:  // LONG1
        return PushLong();
      case 'G':  // BINFLOAT
        return PushFloat();
      case 'X':  // BINUNICODE
      case 'T':  // BINSTRING; its length is signed, and a negative one is over the limit
        return PushString<uint32_t>();
      case 0x8c:  // SHORT_BINUNICODE
      case 'U':   // SHORT_BINSTRING
      case 'C':   // SHORT_BINBYTES
        return PushString<uint8_t>();
      case 0x8d:  // BINUNICODE8
        return PushString<uint64_t>();
      case '}':  // EMPTY_DICT
        return Collect(Kind::kDict, 0);
      case ']':  // EMPTY_LIST
        return Collect(Kind::kList, 0);
      case ')':  // EMPTY_TUPLE
        return Collect(Kind::kTuple, 0);
      case 0x85:  // TUPLE1
      case 0x86:  // TUPLE2
      case 0x87:  // TUPLE3
        return Collect(Kind::kTuple, op_ - size_t{0x84});
      case 't':  // TUPLE
        WF_TRY(PopMark(&n));
        return Collect(Kind::kTuple, n);
      case 'a':  // APPEND
        return MoveInto(Kind::kList, 1);
      case 'e':  // APPENDS
        WF_TRY(PopMark(&n));
        return MoveInto(Kind::kList, n);
      case 's':  // SETITEM
        return MoveInto(Kind::kDict, 2);
      case 'u':  // SETITEMS
        WF_TRY(PopMark(&n));
        return MoveInto(Kind::kDict, n);
      case 'q':  // BINPUT
        return PutOperand<uint8_t>();
      case 'r':  // LONG_BINPUT
        return PutOperand<uint32_t>();
      case 0x94:  // MEMOIZE
        return Put(memo_count_);
      case 'h':  // BINGET
        return GetOperand<uint8_t>();
      case 'j':  // LONG_BINGET
        return GetOperand<uint32_t>();
      case 'c':  // GLOBAL
        return Global();
      case 0x93:  // STACK_GLOBAL
        return StackGlobal();
      case 'R':  // REDUCE
        return Reduce();
      case 0x81:  // NEWOBJ
        return NewObject();
      case 'b':  // BUILD
        return Build();
      case 'Q':  // BINPERSID
        return Collect(Kind::kPersistent, 1);
      default:
        return Unsupported("not allowed: a state dict needs none");
    }
  }

  std::string_view bytes_;
  ByteReader in_;
  PickleDocument doc_;
  std::vector<PickleValue> stack_;
  std::vector<size_t> marks_;  // the stack's height at each open MARK
  std::vector<std::optional<PickleValue>> memo_;
  size_t memo_count_ = 0;  // entries that are not empty
  size_t items_ = 0;       // in all containers
  uint64_t at_ = 0;        // offset of the current opcode
  uint8_t op_ = 0;
  bool stopped_ = false;
};

}  // namespace detail

WF_MODEL_INLINE Result<PickleDocument> PickleDocument::Parse(std::string_view bytes) {
  return detail::PickleMachine(bytes).Run();
}

WF_MODEL_INLINE std::span<const PickleValue> PickleDocument::Items(PickleValue v) const noexcept {
  switch (v.kind) {
    case PickleValue::Kind::kTuple:
    case PickleValue::Kind::kList:
    case PickleValue::Kind::kDict:
    case PickleValue::Kind::kCall:
    case PickleValue::Kind::kPersistent:
      return nodes_[v.bits];
    default:
      return {};
  }
}

WF_MODEL_INLINE const char* PickleKindName(PickleValue::Kind k) noexcept {
  static constexpr const char* kNames[] = {
      "None",   "a bool", "an integer", "a float",   "a string",           "a tuple",
      "a list", "a dict", "a global",   "an object", "a persistent object"};
  return kNames[static_cast<size_t>(k)];
}

}  // namespace wf
#endif  // WF_FORMATS_PICKLE_IMPL_H_
