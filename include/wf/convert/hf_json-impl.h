// SPDX-License-Identifier: Apache-2.0
// A JSON file of a checkpoint's folder, and typed, ranged access to the fields of an object in it with messages that
// name file, field, expected and found. For the bodies of hf_config.h only.
#ifndef WF_CONVERT_HF_JSON_IMPL_H_
#define WF_CONVERT_HF_JSON_IMPL_H_

#include <boost/json.hpp>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>

#include "wf/base/mmap.h"
#include "wf/base/quote.h"
#include "wf/base/status.h"

namespace wf::detail {

// The object that `text` is; `name` is its file in messages.
inline Result<boost::json::object> ParseJsonObject(std::string_view text, const std::string& name) {
  if (text.size() > size_t{16} << 20) return LimitError(name + ": more than 16 MiB of JSON");
  boost::json::stream_parser parser;
  boost::system::error_code error;
  const size_t used = parser.write_some(text.data(), text.size(), error);
  if (!error && used < text.size()) error = boost::json::error::extra_data;
  if (!error) parser.finish(error);
  if (error) return FormatError(name + ": not valid JSON near byte " + std::to_string(used) + ": " + error.message());
  boost::json::value v = parser.release();
  if (!v.is_object()) return FormatError(name + ": expected a JSON object");
  return std::move(v.get_object());
}
// An absent file is an empty optional.
inline Result<std::optional<boost::json::object>> ReadOptionalObject(const std::string& path) {
  const Result<MappedFile> file = MappedFile::Open(path);
  if (!file.ok() && file.status().code() == ErrorCode::kNotFound) return std::optional<boost::json::object>();
  WF_TRY(file);
  WF_ASSIGN(boost::json::object o, ParseJsonObject(file->bytes(), path));
  return std::optional<boost::json::object>(std::move(o));
}

// Fields of one object. A field that is null counts as absent.
class JsonFields {
 public:
  // `prefix` goes in front of the names in messages, e.g. "rope_scaling.".
  JsonFields(std::string path, std::string prefix, const boost::json::object& o)
      : path_(std::move(path)), prefix_(std::move(prefix)), o_(o) {}

  const boost::json::value* Find(std::string_view key) const {
    const boost::json::value* v = o_.if_contains(key);
    return v == nullptr || v->is_null() ? nullptr : v;
  }
  bool Has(std::string_view key) const { return Find(key) != nullptr; }
  const std::string& path() const { return path_; }
  std::string Name(std::string_view key) const { return path_ + ": " + prefix_ + std::string(key); }

  Status Missing(std::string_view key) const { return FormatError(Name(key) + " is missing"); }
  Status Wrong(std::string_view key, const std::string& expected) const {
    const boost::json::value* v = Find(key);
    return FormatError(Name(key) + ": expected " + expected + ", found " +
                       (v == nullptr ? "nothing" : Quote(boost::json::serialize(*v), 60)));
  }
  Status Refuse(std::string_view key, const std::string& what) const {
    return Unsupported(Name(key) + ": " + what + " is not supported");
  }

  Result<std::optional<uint64_t>> Size(std::string_view key, uint64_t lo, uint64_t hi) const {
    const boost::json::value* v = Find(key);
    if (v == nullptr) return std::optional<uint64_t>();
    uint64_t n = 0;
    bool whole = false;
    if (const int64_t* i = v->if_int64(); i != nullptr && *i >= 0) {
      n = static_cast<uint64_t>(*i);
      whole = true;
    } else if (const double* d = v->if_double(); d != nullptr && *d >= 0 && *d < 1e15 && *d == std::floor(*d)) {
      n = static_cast<uint64_t>(*d);  // some writers say 512.0
      whole = true;
    }
    if (!whole || n < lo || n > hi) {
      return Wrong(key, "a whole number of " + std::to_string(lo) + " to " + std::to_string(hi));
    }
    return std::optional<uint64_t>(n);
  }
  Result<uint64_t> NeedSize(std::string_view key, uint64_t lo, uint64_t hi) const {
    WF_ASSIGN(const std::optional<uint64_t> n, Size(key, lo, hi));
    if (!n) return Missing(key);
    return *n;
  }

  Result<std::optional<double>> Number(std::string_view key, double lo, double hi) const {
    const boost::json::value* v = Find(key);
    if (v == nullptr) return std::optional<double>();
    boost::system::error_code error;
    const double d = v->to_number<double>(error);
    if (error || !(d >= lo && d <= hi)) {
      char range[64];
      std::snprintf(range, sizeof(range), "a number from %g to %g", lo, hi);
      return Wrong(key, range);
    }
    return std::optional<double>(d);
  }
  Result<double> NeedNumber(std::string_view key, double lo, double hi) const {
    WF_ASSIGN(const std::optional<double> d, Number(key, lo, hi));
    if (!d) return Missing(key);
    return *d;
  }

  Result<std::optional<bool>> Bool(std::string_view key) const {
    const boost::json::value* v = Find(key);
    if (v == nullptr) return std::optional<bool>();
    if (!v->is_bool()) return Wrong(key, "true or false");
    return std::optional<bool>(v->get_bool());
  }
  Result<std::optional<std::string>> String(std::string_view key) const {
    const boost::json::value* v = Find(key);
    if (v == nullptr) return std::optional<std::string>();
    if (!v->is_string()) return Wrong(key, "a string");
    return std::optional<std::string>(std::string(v->get_string()));
  }
  // nullptr if absent.
  Result<const boost::json::object*> Object(std::string_view key) const {
    const boost::json::value* v = Find(key);
    const boost::json::object* none = nullptr;
    if (v == nullptr) return none;
    if (!v->is_object()) return Wrong(key, "an object");
    return &v->get_object();
  }
  JsonFields Inner(std::string_view key, const boost::json::object& o) const {
    return JsonFields(path_, prefix_ + std::string(key) + ".", o);
  }

 private:
  std::string path_, prefix_;
  const boost::json::object& o_;
};

}  // namespace wf::detail
#endif  // WF_CONVERT_HF_JSON_IMPL_H_
