// SPDX-License-Identifier: Apache-2.0
// The tensor half of torch_zip.h: what the pickle's graph says about the storages beside it. Every offset and stride is
// checked against its storage before a view exists.
#ifndef WF_FORMATS_TORCH_ZIP_TENSORS_IMPL_H_
#define WF_FORMATS_TORCH_ZIP_TENSORS_IMPL_H_

#include <algorithm>
#include <cstring>
#include <map>
#include <new>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "wf/base/bytes.h"
#include "wf/base/quote.h"
#include "wf/formats/pickle.h"
#include "wf/formats/pickle_names-impl.h"
#include "wf/formats/torch_zip.h"

namespace wf {

namespace detail {

using PickleKind = PickleValue::Kind;

struct TorchStorage {
  ElementType type = ElementType::kF32;
  std::string_view data;
  uint64_t offset = 0;    // of data in the archive
  uint64_t elements = 0;  // may be fewer than data has
};

// Offsets and strides count elements.
struct TorchView {
  TorchStorage storage;
  uint64_t offset = 0;
  std::vector<uint64_t> shape, strides;
};

// UntypedStorage counts bytes.
inline Result<ElementType> TorchElementType(PickleGlobal storage) {
  switch (storage) {
    case PickleGlobal::kFloatStorage:
      return ElementType::kF32;
    case PickleGlobal::kHalfStorage:
      return ElementType::kF16;
    case PickleGlobal::kBFloat16Storage:
      return ElementType::kBF16;
    case PickleGlobal::kDoubleStorage:
      return ElementType::kF64;
    case PickleGlobal::kIntStorage:
      return ElementType::kI32;
    case PickleGlobal::kLongStorage:
      return ElementType::kI64;
    case PickleGlobal::kShortStorage:
      return ElementType::kI16;
    case PickleGlobal::kCharStorage:
      return ElementType::kI8;
    case PickleGlobal::kByteStorage:
    case PickleGlobal::kUntypedStorage:
      return ElementType::kU8;
    case PickleGlobal::kBoolStorage:
      return ElementType::kBool;
    default:
      return Unsupported(std::string("expected a storage of a known type, found ") + PickleGlobalName(storage));
  }
}

inline const ZipEntry* FindZipEntry(const std::vector<ZipEntry>& entries, std::string_view name) {
  const auto it = std::lower_bound(entries.begin(), entries.end(), name,
                                   [](const ZipEntry& e, std::string_view n) { return e.name < n; });
  return it != entries.end() && it->name == name ? &*it : nullptr;
}

// Copies the elements of a view in row-major order.
template <class T>
void CopyStrided(const TorchView& v, uint8_t* to) {
  const size_t dims = v.shape.size();
  std::vector<uint64_t> index(dims, 0);
  const char* from = v.storage.data.data() + v.offset * sizeof(T);
  const uint64_t inner = dims == 0 ? 1 : v.shape[dims - 1], step = dims == 0 ? 0 : v.strides[dims - 1] * sizeof(T);
  for (;;) {
    for (uint64_t i = 0; i < inner; ++i) std::memcpy(to + i * sizeof(T), from + i * step, sizeof(T));
    to += inner * sizeof(T);
    size_t d = dims <= 1 ? 0 : dims - 1;  // the dimensions outside of the innermost, like an odometer
    for (; d > 0; --d) {
      from += v.strides[d - 1] * sizeof(T);
      if (++index[d - 1] < v.shape[d - 1]) break;
      from -= v.strides[d - 1] * sizeof(T) * v.shape[d - 1];
      index[d - 1] = 0;
    }
    if (d == 0) return;
  }
}

class TorchReader {
 public:
  explicit TorchReader(std::string_view archive) : archive_(archive) {}

  Result<CheckpointFile> Run() {
    WF_ASSIGN(entries_, ReadZip(archive_));
    WF_TRY(FindPrefix());
    const ZipEntry* pickle = FindZipEntry(entries_, prefix_ + "data.pkl");
    Result<PickleDocument> doc = PickleDocument::Parse(pickle->data);
    if (!doc.ok()) return doc.status().WithContext(std::string(pickle->name));
    doc_ = &*doc;
    if (const Status s = FindStateDict(); !s.ok()) return s.WithContext(std::string(pickle->name));
    WF_TRY(ReadStateDict());
    return std::move(file_);
  }

 private:
  // The folder of data.pkl, and what else there must or must not be.
  Status FindPrefix() {
    constexpr std::string_view kPickle = "/data.pkl";
    const ZipEntry* found = nullptr;
    for (const ZipEntry& e : entries_) {
      const size_t at = e.name.rfind('/');
      if (at == e.name.npos || e.name.substr(at) != kPickle || e.name.find('/') != at) continue;
      if (found != nullptr) {
        return FormatError("expected one data.pkl in the archive, found " + Quote(found->name) + " and " +
                           Quote(e.name));
      }
      found = &e;
    }
    if (found == nullptr) {
      return FormatError("expected a PyTorch archive with an entry '<name>/data.pkl', found a zip archive without");
    }
    prefix_ = std::string(found->name.substr(0, found->name.size() - kPickle.size() + 1));
    for (const ZipEntry& e : entries_) {
      if (e.name.substr(0, prefix_.size()) != prefix_) continue;
      const std::string_view rest = e.name.substr(prefix_.size());
      if (rest == "constants.pkl" || rest.substr(0, 5) == "code/") {
        return Unsupported("a TorchScript archive (it has " + Quote(e.name) +
                           ") is not supported; save the model's state_dict as safetensors");
      }
    }
    for (const ZipEntry& e : entries_) {  // TorchScript's code is compressed, a state dict's entries never are
      if (e.method == 0) continue;
      return Unsupported("entry " + Quote(e.name) + ": expected a stored entry, found compression method " +
                         std::to_string(e.method) + " (offset " + std::to_string(e.offset) + ")");
    }
    if (const ZipEntry* order = FindZipEntry(entries_, prefix_ + "byteorder");
        order != nullptr && order->data != "little") {
      return Unsupported("entry " + Quote(order->name) + ": expected 'little', found " + Quote(order->data));
    }
    return OkStatus();
  }

  // The top-level dict, or the one that it holds under a well-known key.
  Status FindStateDict() {
    dict_ = doc_->root();
    // A pickle may hold itself: the number of steps is bounded.
    for (int depth = 0; depth < 4; ++depth) {
      if (!dict_.is(PickleKind::kDict)) {
        return FormatError(std::string("expected a dict of tensors, found ") + PickleKindName(dict_.kind));
      }
      PickleValue inner;
      for (const std::string_view key : {"state_dict", "model_state_dict", "model", "module"}) {
        const auto items = doc_->Items(dict_);
        for (size_t i = 0; i < items.size() && !inner.is(PickleKind::kDict); i += 2) {
          if (doc_->String(items[i]) == key) inner = items[i + 1];
        }
        if (inner.is(PickleKind::kDict)) break;
      }
      if (!inner.is(PickleKind::kDict)) return OkStatus();
      NoteOthers(inner);
      dict_ = inner;
    }
    return FormatError("expected a dict of tensors, found dicts in dicts");
  }

  std::string KeyText(PickleValue key) const {
    if (key.is(PickleKind::kString)) return Quote(doc_->String(key));
    return key.is(PickleKind::kInt) ? std::to_string(key.AsInt()) : std::string(PickleKindName(key.kind));
  }
  // One warning for all the values of the dict that are left out.
  void NoteOthers(PickleValue taken) {
    std::vector<PickleValue> others;
    const auto items = doc_->Items(dict_);
    for (size_t i = 0; i < items.size(); i += 2) {
      if (!items[i + 1].is(taken.kind) || items[i + 1].bits != taken.bits) others.push_back(items[i]);
    }
    NoteIgnored(others);
  }
  void NoteIgnored(const std::vector<PickleValue>& keys) {
    if (keys.empty()) return;
    std::string text = std::to_string(keys.size()) + (keys.size() == 1 ? " value is" : " values are") + " ignored: ";
    for (size_t i = 0; i < keys.size() && i < 8; ++i) text += (i == 0 ? "" : ", ") + KeyText(keys[i]);
    if (keys.size() > 8) text += ", ...";
    file_.warnings.push_back(std::move(text));
  }

  Status ReadStateDict() {
    const auto items = doc_->Items(dict_);
    std::vector<std::string_view> names;
    std::vector<PickleValue> ignored;
    for (size_t i = 0; i < items.size(); i += 2) {
      if (items[i].is(PickleKind::kString) && IsTensor(items[i + 1])) {
        names.push_back(doc_->String(items[i]));
      } else {
        ignored.push_back(items[i]);
      }
    }
    if (names.size() > kCheckpointMaxTensors) {
      return LimitError("expected at most " + std::to_string(kCheckpointMaxTensors) + " tensors, found " +
                        std::to_string(names.size()));
    }
    // Before names are copied: a pickle can repeat a long one at the price of two bytes.
    std::sort(names.begin(), names.end());
    for (size_t i = 1; i < names.size(); ++i) {
      if (names[i] == names[i - 1]) return FormatError("tensor " + Quote(names[i]) + " is in the state dict twice");
    }
    NoteIgnored(ignored);
    file_.tensors.reserve(names.size());
    for (size_t i = 0; i < items.size(); i += 2) {
      if (!items[i].is(PickleKind::kString) || !IsTensor(items[i + 1])) continue;
      const std::string_view name = doc_->String(items[i]);
      if (const Status s = AddTensor(name, items[i + 1]); !s.ok()) return s.WithContext("tensor " + Quote(name));
    }
    return OkStatus();
  }

  PickleGlobal Callee(PickleValue call) const { return doc_->Items(call)[0].AsGlobal(); }
  bool IsTensor(PickleValue v) const {
    return v.is(PickleKind::kCall) && Callee(v) != PickleGlobal::kDevice && Callee(v) != PickleGlobal::kGetLayout;
  }

  Status AddTensor(std::string_view name, PickleValue v) {
    // A parameter is a tensor with training's state around it.
    for (int depth = 0;; ++depth) {
      if (!IsTensor(v) || depth == 4) return FormatError("expected a tensor, found " + KeyText(v));
      if (Callee(v) != PickleGlobal::kRebuildParameter && Callee(v) != PickleGlobal::kRebuildParameterWithState) break;
      WF_ASSIGN(const auto args, Arguments(v, 3, 4));
      v = args[0];
    }
    WF_ASSIGN(TorchView view, View(v));
    CheckpointTensor t;
    t.name = name;
    t.type = view.storage.type;
    WF_TRY(TensorBytes(view.shape, t.type, &t.bytes));
    WF_TRY(CheckExtent(view));
    const uint64_t begin = view.offset * ElementTypeBytes(t.type);
    t.file_offset = view.storage.offset + begin;
    t.data = reinterpret_cast<const uint8_t*>(view.storage.data.data()) + begin;
    if (t.bytes != 0 && !IsContiguous(view)) WF_TRY(Copy(view, &t));
    t.shape = std::move(view.shape);
    file_.tensors.push_back(std::move(t));
    return OkStatus();
  }

  Result<std::span<const PickleValue>> Arguments(PickleValue call, size_t least, size_t most) const {
    const auto args = doc_->Items(doc_->Items(call)[1]);
    if (args.size() >= least && args.size() <= most) return args;
    return FormatError(std::string(PickleGlobalName(Callee(call))) + ": expected " + std::to_string(least) + " to " +
                       std::to_string(most) + " arguments, found " + std::to_string(args.size()));
  }

  static Result<uint64_t> Unsigned(PickleValue v, const char* what) {
    if (v.is(PickleKind::kInt) && v.AsInt() >= 0) return static_cast<uint64_t>(v.AsInt());
    return FormatError(std::string(what) + ": expected a number that is not negative, found " +
                       (v.is(PickleKind::kInt) ? std::to_string(v.AsInt()) : std::string(PickleKindName(v.kind))));
  }
  Result<std::vector<uint64_t>> Numbers(PickleValue v, const char* what) const {
    if (!v.is(PickleKind::kTuple) && !v.is(PickleKind::kList)) {
      return FormatError(std::string(what) + ": expected a tuple, found " + PickleKindName(v.kind));
    }
    const auto items = doc_->Items(v);
    if (items.size() > kCheckpointMaxDims) {
      return LimitError(std::string(what) + ": expected at most " + std::to_string(kCheckpointMaxDims) +
                        " numbers, found " + std::to_string(items.size()));
    }
    std::vector<uint64_t> out;
    for (const PickleValue& item : items) {
      WF_ASSIGN(const uint64_t n, Unsigned(item, what));
      out.push_back(n);
    }
    return out;
  }

  // storage, storage_offset, size, stride; version 2 has requires_grad, backward_hooks and perhaps metadata, too.
  Result<TorchView> View(PickleValue call) const {
    const bool first = Callee(call) == PickleGlobal::kRebuildTensor;
    WF_ASSIGN(const auto args, Arguments(call, first ? 4 : 6, first ? 4 : 7));
    TorchView view;
    WF_ASSIGN(view.storage, Storage(args[0]));
    WF_ASSIGN(view.offset, Unsigned(args[1], "storage offset"));
    WF_ASSIGN(view.shape, Numbers(args[2], "shape"));
    WF_ASSIGN(view.strides, Numbers(args[3], "strides"));
    if (view.shape.size() != view.strides.size()) {
      return FormatError("expected a stride for each of " + std::to_string(view.shape.size()) + " dimensions, found " +
                         std::to_string(view.strides.size()));
    }
    // Marks such as "negated" change what the bytes mean.
    if (args.size() == 7 && !args[6].is(PickleKind::kNone) && !doc_->Items(args[6]).empty()) {
      return Unsupported("expected no metadata, found " + std::string(PickleKindName(args[6].kind)));
    }
    return view;
  }

  // ('storage', class, key, location, number of elements)
  Result<TorchStorage> Storage(PickleValue v) const {
    const auto id = doc_->Items(v);
    if (!v.is(PickleKind::kPersistent)) {
      return FormatError(std::string("expected a storage, found ") + PickleKindName(v.kind));
    }
    const auto parts = doc_->Items(id[0]);
    if (!id[0].is(PickleKind::kTuple) || parts.size() != 5 || doc_->String(parts[0]) != "storage" ||
        !parts[1].is(PickleKind::kGlobal) || !parts[2].is(PickleKind::kString)) {
      return FormatError("expected a persistent id ('storage', class, key, location, size), found another");
    }
    TorchStorage s;
    WF_ASSIGN(s.type, TorchElementType(parts[1].AsGlobal()));
    WF_ASSIGN(s.elements, Unsigned(parts[4], "number of elements"));
    std::string name = prefix_;
    name += "data/";
    name += doc_->String(parts[2]);
    const ZipEntry* entry = FindZipEntry(entries_, name);
    if (entry == nullptr) return FormatError("expected an entry " + Quote(name) + ", found none");
    uint64_t bytes = 0;
    if (!CheckedMul(s.elements, ElementTypeBytes(s.type), &bytes) || bytes > entry->data.size()) {
      return FormatError("storage of " + std::to_string(s.elements) + " elements of " + ElementTypeName(s.type) +
                         ": entry " + Quote(name) + " has only " + std::to_string(entry->data.size()) + " bytes");
    }
    s.data = entry->data;
    s.offset = entry->offset;
    return s;
  }

  static Status CheckExtent(const TorchView& v) {
    const bool empty = std::find(v.shape.begin(), v.shape.end(), 0u) != v.shape.end();
    uint64_t last = v.offset;
    bool fits = true;
    for (size_t d = 0; d < v.shape.size() && !empty; ++d) {
      uint64_t reach = 0;
      fits = fits && CheckedMul(v.shape[d] - 1, v.strides[d], &reach) && CheckedAdd(last, reach, &last);
    }
    if (fits && (empty ? last <= v.storage.elements : last < v.storage.elements)) return OkStatus();
    return FormatError("its last element has index " + (fits ? std::to_string(last) : std::string("2^64 or more")) +
                       " in a storage of " + std::to_string(v.storage.elements) + " elements");
  }

  static bool IsContiguous(const TorchView& v) {
    uint64_t expected = 1;
    for (size_t d = v.shape.size(); d-- > 0;) {
      if (v.shape[d] == 1) continue;  // its stride is never used
      if (v.strides[d] != expected) return false;
      expected *= v.shape[d];
    }
    return true;
  }

  // Equal views share a copy. All copies together may have as many bytes as the file, and some: a stride of 0 could
  // make any size out of one element.
  Status Copy(const TorchView& v, CheckpointTensor* t) {
    auto [it, is_new] = copies_.try_emplace({t->data, t->type, v.shape, v.strides}, nullptr);
    if (is_new) {
      const uint64_t budget = archive_.size() + (uint64_t{1} << 20);
      if (t->bytes > budget - copied_) {
        return LimitError("its strides make " + std::to_string(t->bytes) + " bytes of a storage of " +
                          std::to_string(v.storage.data.size()) + ", more than the file has");
      }
      std::shared_ptr<uint8_t[]> buffer(new (std::nothrow) uint8_t[t->bytes]);
      if (buffer == nullptr)
        return Status(ErrorCode::kOutOfMemory, "no memory for " + std::to_string(t->bytes) + " bytes");
      copied_ += t->bytes;
      switch (ElementTypeBytes(t->type)) {
        case 1:
          CopyStrided<uint8_t>(v, buffer.get());
          break;
        case 2:
          CopyStrided<uint16_t>(v, buffer.get());
          break;
        case 4:
          CopyStrided<uint32_t>(v, buffer.get());
          break;
        default:
          CopyStrided<uint64_t>(v, buffer.get());
      }
      it->second = buffer.get();
      file_.buffers.push_back(std::move(buffer));
    }
    t->data = it->second;
    return OkStatus();
  }

  std::string_view archive_;
  std::vector<ZipEntry> entries_;
  std::string prefix_;  // ends with '/'
  const PickleDocument* doc_ = nullptr;
  PickleValue dict_;
  CheckpointFile file_;
  std::map<std::tuple<const uint8_t*, ElementType, std::vector<uint64_t>, std::vector<uint64_t>>, const uint8_t*>
      copies_;
  uint64_t copied_ = 0;
};

}  // namespace detail

WF_MODEL_INLINE Result<CheckpointFile> ReadTorch(std::string_view archive) {
  return detail::TorchReader(archive).Run();
}

}  // namespace wf
#endif  // WF_FORMATS_TORCH_ZIP_TENSORS_IMPL_H_
