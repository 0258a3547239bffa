// SPDX-License-Identifier: Apache-2.0
// Errors as values. Nothing in wf throws across its API or aborts on input; a format error's message
// names file, offset, tensor, expected and found.
#ifndef WF_BASE_STATUS_H_
#define WF_BASE_STATUS_H_

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <utility>

namespace wf {

enum class ErrorCode : uint8_t {
  kOk,
  kIo,               // the operating system said no: open, read, write, map, disk full
  kFormat,           // bytes that break the format's rules: truncated, lying, contradictory
  kLimit,            // well-formed but over a limit of ours
  kUnsupported,      // well-formed, but this build or model cannot
  kInvalidArgument,  // the caller's value is out of range or unknown
  kNotFound,         // a named file, tensor, key or model does not exist
  kOutOfMemory,
  kUnavailable,  // loading, draining or full: try again
  kCancelled,
  kDeadline,
  kInternal,  // a bug of ours
};

// Stable lower-case name, e.g. "format".
constexpr const char* ErrorName(ErrorCode c) noexcept {
  switch (c) {
    case ErrorCode::kOk:
      return "ok";
    case ErrorCode::kIo:
      return "io";
    case ErrorCode::kFormat:
      return "format";
    case ErrorCode::kLimit:
      return "limit";
    case ErrorCode::kUnsupported:
      return "unsupported";
    case ErrorCode::kInvalidArgument:
      return "invalid argument";
    case ErrorCode::kNotFound:
      return "not found";
    case ErrorCode::kOutOfMemory:
      return "out of memory";
    case ErrorCode::kUnavailable:
      return "unavailable";
    case ErrorCode::kCancelled:
      return "cancelled";
    case ErrorCode::kDeadline:
      return "deadline";
    case ErrorCode::kInternal:
      return "internal";
  }
  return "unknown";
}

class [[nodiscard]] Status {
 public:
  Status() = default;  // ok
  Status(ErrorCode code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const noexcept { return code_ == ErrorCode::kOk; }
  ErrorCode code() const noexcept { return code_; }
  const std::string& message() const noexcept { return message_; }

  // The same error, with "context: " in front of its message. No effect on ok.
  Status WithContext(const std::string& context) const {
    return ok() ? *this : Status(code_, context + ": " + message_);
  }

 private:
  ErrorCode code_ = ErrorCode::kOk;
  std::string message_;
};

inline Status OkStatus() { return Status(); }
inline Status IoError(std::string m) { return Status(ErrorCode::kIo, std::move(m)); }
inline Status FormatError(std::string m) { return Status(ErrorCode::kFormat, std::move(m)); }
inline Status LimitError(std::string m) { return Status(ErrorCode::kLimit, std::move(m)); }
inline Status Unsupported(std::string m) { return Status(ErrorCode::kUnsupported, std::move(m)); }
inline Status InvalidArgument(std::string m) { return Status(ErrorCode::kInvalidArgument, std::move(m)); }
inline Status NotFound(std::string m) { return Status(ErrorCode::kNotFound, std::move(m)); }
inline Status InternalError(std::string m) { return Status(ErrorCode::kInternal, std::move(m)); }

// A value or the reason why there is none. Using the value of an error is a bug of the caller and ends
// the program, as dereferencing a null pointer would.
template <class T>
class [[nodiscard]] Result {
 public:
  // Both implicit, so that functions return values and errors alike.
  Result(T value) : ok_(true) { ::new (static_cast<void*>(&value_)) T(std::move(value)); }
  Result(Status status) : status_(std::move(status)) {
    if (status_.ok()) status_ = InternalError("Result made from an ok Status");
  }
  Result(Result&& o) noexcept : ok_(o.ok_), status_(std::move(o.status_)) {
    if (ok_) ::new (static_cast<void*>(&value_)) T(std::move(o.value_));
  }
  Result(const Result&) = delete;
  Result& operator=(const Result&) = delete;
  Result& operator=(Result&& o) noexcept {
    if (this != &o) {
      this->~Result();
      ::new (static_cast<void*>(this)) Result(std::move(o));
    }
    return *this;
  }
  ~Result() {
    if (ok_) value_.~T();
  }

  bool ok() const noexcept { return ok_; }
  explicit operator bool() const noexcept { return ok_; }
  const Status& status() const noexcept { return status_; }

  T& operator*() & noexcept { return Check(), value_; }
  const T& operator*() const& noexcept { return Check(), value_; }
  T&& operator*() && noexcept { return Check(), std::move(value_); }
  T* operator->() noexcept { return Check(), &value_; }
  const T* operator->() const noexcept { return Check(), &value_; }

 private:
  void Check() const noexcept {
    if (!ok_) std::abort();
  }
  bool ok_ = false;
  Status status_;
  union {
    T value_;
  };
};

namespace detail {
inline const Status& StatusOf(const Status& s) { return s; }
template <class T>
const Status& StatusOf(const Result<T>& r) {
  return r.status();
}
}  // namespace detail

}  // namespace wf

#define WF_DETAIL_CAT2(a, b) a##b
#define WF_DETAIL_CAT(a, b) WF_DETAIL_CAT2(a, b)

// Returns from the calling function with the error, if `expr` (Status or Result) is one.
#define WF_TRY(expr)                                                       \
  do {                                                                     \
    auto&& wf_try_result = (expr);                                         \
    if (!wf_try_result.ok()) return ::wf::detail::StatusOf(wf_try_result); \
  } while (false)

// WF_ASSIGN(auto x, F()): declares or assigns x from a Result, or returns its error.
#define WF_ASSIGN(lhs, ...) WF_DETAIL_ASSIGN(lhs, WF_DETAIL_CAT(wf_assign_, __LINE__), __VA_ARGS__)
#define WF_DETAIL_ASSIGN(lhs, tmp, ...) \
  auto tmp = (__VA_ARGS__);             \
  if (!tmp.ok()) return tmp.status();   \
  lhs = *std::move(tmp)

#endif  // WF_BASE_STATUS_H_
