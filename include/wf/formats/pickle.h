// SPDX-License-Identifier: Apache-2.0
// Reads the pickles that PyTorch writes for state dicts as a graph of values (formats.md 7.2). It imports nothing,
// calls nothing and follows nothing: a call is a value that names its function and arguments, and only the functions of
// a short list can be named at all. What they mean is for the reader of the graph (torch_zip_tensors-impl.h). Not for
// pickles in general.
#ifndef WF_FORMATS_PICKLE_H_
#define WF_FORMATS_PICKLE_H_

#include <bit>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "wf/base/inline.h"
#include "wf/base/status.h"

namespace wf {

namespace detail {
class PickleMachine;
}

// Everything that a pickle may name.
enum class PickleGlobal : uint8_t {
  kOrderedDict,
  kRebuildTensorV2,
  kRebuildTensor,
  kRebuildParameter,
  kRebuildParameterWithState,
  kFloatStorage,
  kHalfStorage,
  kBFloat16Storage,
  kDoubleStorage,
  kIntStorage,
  kLongStorage,
  kShortStorage,
  kCharStorage,
  kByteStorage,
  kBoolStorage,
  kUntypedStorage,
  kTypedStorage,
  kDtype,      // torch.float32 and the others: values that mean nothing here
  kSize,       // torch.Size
  kDevice,     // torch.device
  kGetLayout,  // torch.serialization._get_layout
};

// 16 bytes, a handle: containers live in the document and may contain themselves.
struct PickleValue {
  enum class Kind : uint8_t {
    kNone,
    kBool,
    kInt,
    kFloat,
    kString,  // of bytes or text, UTF-8 is not verified
    kTuple,
    kList,
    kDict,        // items: key, value, key, value, ...
    kGlobal,      // a function or class
    kCall,        // items: a kGlobal, a tuple of its arguments
    kPersistent,  // items: the id, which names an object outside the pickle
  };
  Kind kind = Kind::kNone;
  uint32_t size = 0;  // kString: bytes
  uint64_t bits = 0;  // kBool, kInt, kFloat: the value; kString: offset; kGlobal: which; else an index of the document

  bool is(Kind k) const noexcept { return kind == k; }
  int64_t AsInt() const noexcept { return std::bit_cast<int64_t>(bits); }
  double AsFloat() const noexcept { return std::bit_cast<double>(bits); }
  bool AsBool() const noexcept { return bits != 0; }
  PickleGlobal AsGlobal() const noexcept { return static_cast<PickleGlobal>(bits); }
};
// E.g. "a list".
const char* PickleKindName(PickleValue::Kind k) noexcept;

// What a pickle holds. Values are handles into it, and strings are views of the pickle's bytes.
class PickleDocument {
 public:
  // The whole of `bytes`, kept alive by the caller. Memory is bounded by a multiple of bytes.size(), and there is no
  // recursion. kFormat for broken pickles, kUnsupported for opcodes and globals that are not on the list, kLimit beyond
  // 10^6 values on the stack, 2^22 containers, 2^24 items, 1 MiB per string or 256 MiB in all; with opcode and offset.
  static Result<PickleDocument> Parse(std::string_view bytes);

  PickleValue root() const noexcept { return root_; }
  // Empty for values without items.
  std::span<const PickleValue> Items(PickleValue v) const noexcept;
  // Empty for values that are no strings.
  std::string_view String(PickleValue v) const noexcept {
    return v.is(PickleValue::Kind::kString) ? bytes_.substr(v.bits, v.size) : std::string_view();
  }

 private:
  friend class detail::PickleMachine;
  PickleDocument() = default;
  std::string_view bytes_;
  std::vector<std::vector<PickleValue>> nodes_;
  PickleValue root_;
};

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/formats/pickle-impl.h"
#endif
#endif  // WF_FORMATS_PICKLE_H_
