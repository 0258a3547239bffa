// SPDX-License-Identifier: Apache-2.0
// The two JSON documents of safetensors, a file's header and a folder's index (PyTorch's has the same form), read as
// events: numbers stay u64, duplicate keys are seen, nothing but the wanted result is built. Knows JSON and the
// documents' shape; extents and types are safetensors-impl.h's business, files checkpoint-impl.h's.
#ifndef WF_FORMATS_SAFETENSORS_JSON_IMPL_H_
#define WF_FORMATS_SAFETENSORS_JSON_IMPL_H_

#include <algorithm>
#include <boost/json/basic_parser_impl.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "wf/base/quote.h"
#include "wf/base/status.h"
#include "wf/formats/checkpoint_file.h"

namespace wf::detail {

inline constexpr uint64_t kSafetensorsMaxHeader = 100'000'000;  // bytes of either document

struct SafetensorsEntry {
  std::string name, dtype;
  std::vector<uint64_t> shape, data_offsets;
};

// Events that no document of ours has are errors; the documents override what they have. `key_`, `text_`
// and `depth_` are kept here. Depth counts the objects and arrays that are open.
class SafetensorsJson {
 public:
  static constexpr std::size_t max_object_size = std::size_t(-1);
  static constexpr std::size_t max_array_size = std::size_t(-1);
  static constexpr std::size_t max_key_size = std::size_t(-1);
  static constexpr std::size_t max_string_size = std::size_t(-1);
  using View = boost::json::string_view;
  using Error = boost::json::error_code;

  Status status;

  bool on_document_begin(Error&) { return true; }
  bool on_document_end(Error&) { return true; }
  bool on_key_part(View s, std::size_t, Error&) { return Append(s); }
  bool on_string_part(View s, std::size_t, Error&) { return Append(s); }
  bool on_number_part(View, Error&) { return true; }
  bool on_comment_part(View, Error&) { return true; }
  bool on_comment(View, Error&) { return true; }

 protected:
  bool Append(View s) {
    text_.append(s.data(), s.size());
    return true;
  }
  std::string Take(View s) {
    Append(s);
    return std::exchange(text_, std::string());
  }
  bool Fail(Error& ec, Status s) {
    status = std::move(s);
    ec = boost::json::error::syntax;  // any error: `status` has the words
    return false;
  }
  std::string text_;
  int depth_ = 0;
};

// name -> {"dtype", "shape", "data_offsets"}, and "__metadata__" -> {string: string}.
class SafetensorsHeaderJson : public SafetensorsJson {
 public:
  std::vector<SafetensorsEntry> entries;

  bool on_object_begin(Error& ec) {
    if (depth_ > 1) return Unexpected(ec, "an object");
    if (++depth_ == 2) {
      in_metadata_ = key_ == "__metadata__";
      if (in_metadata_ && std::exchange(metadata_seen_, true)) {
        return Fail(ec, FormatError("duplicate key '__metadata__'"));
      }
      if (!in_metadata_) {
        if (entries.size() == kCheckpointMaxTensors) {
          return Fail(ec, LimitError("more than " + std::to_string(kCheckpointMaxTensors) + " tensors"));
        }
        entries.emplace_back();
        entries.back().name = key_;
        seen_ = 0;
      }
    }
    return true;
  }
  bool on_object_end(std::size_t, Error& ec) {
    if (depth_-- != 2 || in_metadata_) return true;
    if (seen_ == 7) return true;
    const char* missing = (seen_ & 1) == 0 ? "dtype" : (seen_ & 2) == 0 ? "shape" : "data_offsets";
    return Fail(ec, FormatError(Where() + "expected a '" + missing + "', found none"));
  }
  bool on_key(View s, std::size_t, Error& ec) {
    std::string key = Take(s);
    if (depth_ == 1) {
      key_ = std::move(key);
      return true;
    }
    if (in_metadata_) {
      metadata_keys_.push_back(std::move(key));
      return true;
    }
    field_ = key == "dtype" ? 1u : key == "shape" ? 2u : key == "data_offsets" ? 4u : 0u;
    if (field_ == 0) return Fail(ec, FormatError(Where() + "unknown key " + Quote(key)));
    if ((seen_ & field_) != 0) return Fail(ec, FormatError(Where() + "duplicate key " + Quote(key)));
    seen_ |= field_;
    return true;
  }
  bool on_string(View s, std::size_t, Error& ec) {
    std::string v = Take(s);
    if (depth_ == 2 && in_metadata_) return true;
    if (depth_ != 2 || field_ != 1) return Unexpected(ec, "a string");
    entries.back().dtype = std::move(v);
    return true;
  }
  bool on_array_begin(Error& ec) {
    if (depth_ != 2 || in_metadata_ || field_ == 1) return Unexpected(ec, "an array");
    ++depth_;
    return true;
  }
  bool on_array_end(std::size_t, Error& ec) {
    --depth_;
    if (field_ == 4 && entries.back().data_offsets.size() != 2) {
      return Fail(ec, FormatError(Where() + "expected 2 data_offsets, found " +
                                  std::to_string(entries.back().data_offsets.size())));
    }
    return true;
  }
  bool on_int64(int64_t v, View s, Error& ec) {
    // "-0" arrives as 0; its sign is still in the text.
    if (v < 0 || (!s.empty() && s.front() == '-')) return Unexpected(ec, "a negative number");
    return on_uint64(static_cast<uint64_t>(v), s, ec);
  }
  bool on_uint64(uint64_t v, View, Error& ec) {
    if (depth_ != 3) return Unexpected(ec, "a number");
    std::vector<uint64_t>& to = field_ == 2 ? entries.back().shape : entries.back().data_offsets;
    if (to.size() == kCheckpointMaxDims) {
      return Fail(ec, LimitError(Where() + "more than " + std::to_string(kCheckpointMaxDims) + " numbers"));
    }
    to.push_back(v);
    return true;
  }
  bool on_double(double, View, Error& ec) { return Unexpected(ec, "a number that is no unsigned 64-bit integer"); }
  bool on_bool(bool, Error& ec) { return Unexpected(ec, "a bool"); }
  bool on_null(Error& ec) { return Unexpected(ec, "null"); }

  // A key of "__metadata__" that occurs twice, or nullptr.
  const std::string* DuplicateMetadata() {
    std::sort(metadata_keys_.begin(), metadata_keys_.end());
    const auto it = std::adjacent_find(metadata_keys_.begin(), metadata_keys_.end());
    return it == metadata_keys_.end() ? nullptr : &*it;
  }

 private:
  std::string Where() const { return in_metadata_ ? "__metadata__: " : "tensor " + Quote(key_) + ": "; }
  bool Unexpected(Error& ec, const std::string& found) {
    if (depth_ == 0) return Fail(ec, FormatError("expected a JSON object, found " + found));
    if (depth_ == 1) return Fail(ec, FormatError("key " + Quote(key_) + ": expected an object, found " + found));
    if (in_metadata_) return Fail(ec, FormatError("__metadata__: expected a string, found " + found));
    static constexpr const char* kExpected[] = {"", "a string as dtype", "unsigned integers in shape", "",
                                                "two unsigned integers in data_offsets"};
    return Fail(ec, FormatError(Where() + "expected " + kExpected[field_] + ", found " + found));
  }

  std::string key_;           // at depth 1
  bool in_metadata_ = false;  // the object at depth 2 is __metadata__
  bool metadata_seen_ = false;
  std::vector<std::string> metadata_keys_;
  unsigned field_ = 0;  // 1 dtype, 2 shape, 4 data_offsets
  unsigned seen_ = 0;   // fields of the current entry, or-ed
};

// {"weight_map": {tensor: shard}, anything else}. "metadata" is often wrong and never needed.
class SafetensorsIndexJson : public SafetensorsJson {
 public:
  std::vector<std::pair<std::string, std::string>> weight_map;  // tensor, shard
  bool found = false;

  bool on_object_begin(Error& ec) { return Open(ec, "an object"); }
  bool on_array_begin(Error& ec) { return Open(ec, "an array"); }
  bool on_object_end(std::size_t, Error&) { return --depth_, true; }
  bool on_array_end(std::size_t, Error&) { return --depth_, true; }
  bool on_key(View s, std::size_t, Error& ec) {
    std::string key = Take(s);
    if (depth_ == 1) {
      in_map_ = key == "weight_map";
      if (in_map_ && std::exchange(found, true)) return Fail(ec, FormatError("duplicate key 'weight_map'"));
    } else if (in_map_) {
      if (weight_map.size() == kCheckpointMaxTensors) {
        return Fail(ec, LimitError("more than " + std::to_string(kCheckpointMaxTensors) + " tensors"));
      }
      weight_map.emplace_back(std::move(key), std::string());
    }
    return true;
  }
  bool on_string(View s, std::size_t, Error& ec) {
    std::string v = Take(s);
    if (depth_ != 2 || !in_map_) return Other(ec, "a string");
    weight_map.back().second = std::move(v);
    return true;
  }
  bool on_int64(int64_t, View, Error& ec) { return Other(ec, "a number"); }
  bool on_uint64(uint64_t, View, Error& ec) { return Other(ec, "a number"); }
  bool on_double(double, View, Error& ec) { return Other(ec, "a number"); }
  bool on_bool(bool, Error& ec) { return Other(ec, "a bool"); }
  bool on_null(Error& ec) { return Other(ec, "null"); }

 private:
  bool Open(Error& ec, const char* what) {
    const bool object = what[3] == 'o';
    if (depth_ == 0 && !object) return Fail(ec, FormatError("expected a JSON object, found an array"));
    if (in_map_ && (depth_ == 2 || !object)) return Other(ec, what);
    ++depth_;
    return true;
  }
  bool Other(Error& ec, const std::string& what) {
    if (depth_ == 0) return Fail(ec, FormatError("expected a JSON object, found " + what));
    if (!in_map_) return true;  // some other key's value
    if (depth_ == 1) return Fail(ec, FormatError("'weight_map': expected an object, found " + what));
    return Fail(ec, FormatError("'weight_map': tensor " + Quote(weight_map.back().first) +
                                ": expected a file's name, found " + what));
  }
  bool in_map_ = false;
};

// The handler with its results, or what is wrong with the text; `base` is the text's offset in its file.
template <class Handler>
Status ParseSafetensorsJson(std::string_view text, uint64_t base, Handler* out) {
  boost::json::parse_options options;
  options.max_depth = 8;
  boost::json::basic_parser<Handler> parser(options);
  boost::json::error_code ec;
  const std::size_t n = parser.write_some(false, text.data(), text.size(), ec);
  *out = std::move(parser.handler());
  const std::string where = " (offset " + std::to_string(base + n) + ")";
  if (!out->status.ok()) return Status(out->status.code(), out->status.message() + where);
  if (ec) return FormatError("broken JSON: " + ec.message() + where);
  if (n != text.size()) return FormatError("expected the end of the JSON text, found more" + where);
  return OkStatus();
}

}  // namespace wf::detail
#endif  // WF_FORMATS_SAFETENSORS_JSON_IMPL_H_
