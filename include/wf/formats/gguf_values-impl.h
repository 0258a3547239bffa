// SPDX-License-Identifier: Apache-2.0
// Bodies of the typed getters of gguf.h: whatever type a writer chose for a number, the reader gets the
// type that it asked for, or an error that names both. Included by gguf-impl.h.
#ifndef WF_FORMATS_GGUF_VALUES_IMPL_H_
#define WF_FORMATS_GGUF_VALUES_IMPL_H_

#include <cfloat>
#include <cmath>
#include <string>
#include <vector>

#include "wf/base/bytes.h"
#include "wf/base/quote.h"
#include "wf/formats/gguf.h"
#include "wf/formats/gguf_layout-impl.h"

namespace wf {

namespace detail {

struct GgufInt {
  uint64_t bits = 0;  // two's complement
  bool negative = false;
};

template <class T>
GgufInt LoadGgufIntAs(const char* p) noexcept {
  const T v = LoadLe<T>(p);
  return {static_cast<uint64_t>(v), v < T{0}};
}

// False if the type is not an integer.
inline bool LoadGgufInt(GgufValueType t, const char* p, GgufInt* out) noexcept {
  switch (t) {
    case GgufValueType::kU8:
      *out = {LoadLe<uint8_t>(p), false};
      return true;
    case GgufValueType::kU16:
      *out = {LoadLe<uint16_t>(p), false};
      return true;
    case GgufValueType::kU32:
      *out = {LoadLe<uint32_t>(p), false};
      return true;
    case GgufValueType::kU64:
      *out = {LoadLe<uint64_t>(p), false};
      return true;
    case GgufValueType::kI8:
      *out = LoadGgufIntAs<int8_t>(p);
      return true;
    case GgufValueType::kI16:
      *out = LoadGgufIntAs<int16_t>(p);
      return true;
    case GgufValueType::kI32:
      *out = LoadGgufIntAs<int32_t>(p);
      return true;
    case GgufValueType::kI64:
      *out = LoadGgufIntAs<int64_t>(p);
      return true;
    default:
      return false;
  }
}

// False if the type is not a number.
inline bool LoadGgufFloat(GgufValueType t, const char* p, double* out) noexcept {
  if (t == GgufValueType::kF32) {
    *out = static_cast<double>(LoadLe<float>(p));
  } else if (t == GgufValueType::kF64) {
    *out = LoadLe<double>(p);
  } else {
    GgufInt i;
    if (!LoadGgufInt(t, p, &i)) return false;
    *out = i.negative ? static_cast<double>(static_cast<int64_t>(i.bits)) : static_cast<double>(i.bits);
  }
  return true;
}

inline std::string GgufIntText(const GgufInt& i) {
  return i.negative ? std::to_string(static_cast<int64_t>(i.bits)) : std::to_string(i.bits);
}

inline std::string GgufTypeText(const GgufValue& v) {
  return v.type == GgufValueType::kArray ? std::string("array of ") + GgufValueTypeName(v.element)
                                         : GgufValueTypeName(v.type);
}

inline Status GgufValueError(const std::string& name, const GgufValue& v, const std::string& expected,
                             const std::string& found) {
  return FormatError(name + ": key " + Quote(v.key) + ": expected " + expected + ", found " + found + " (offset " +
                     std::to_string(v.offset) + ")");
}

inline Status GgufKeyMissing(const std::string& name, std::string_view key) {
  return NotFound(name + ": key " + Quote(key) + " is missing");
}

}  // namespace detail

WF_LIB_INLINE Result<uint64_t> Gguf::GetUint(std::string_view key) const {
  const GgufValue* v = Find(key);
  if (v == nullptr) return detail::GgufKeyMissing(name_, key);
  detail::GgufInt i;
  if (!detail::LoadGgufInt(v->type, v->raw.data(), &i)) {
    return detail::GgufValueError(name_, *v, "an integer", detail::GgufTypeText(*v));
  }
  if (i.negative) return detail::GgufValueError(name_, *v, "an unsigned integer", detail::GgufIntText(i));
  return i.bits;
}

WF_LIB_INLINE Result<int64_t> Gguf::GetInt(std::string_view key) const {
  const GgufValue* v = Find(key);
  if (v == nullptr) return detail::GgufKeyMissing(name_, key);
  detail::GgufInt i;
  if (!detail::LoadGgufInt(v->type, v->raw.data(), &i)) {
    return detail::GgufValueError(name_, *v, "an integer", detail::GgufTypeText(*v));
  }
  if (!i.negative && i.bits >> 63 != 0) {
    return detail::GgufValueError(name_, *v, "a signed 64-bit integer", detail::GgufIntText(i));
  }
  return static_cast<int64_t>(i.bits);
}

WF_LIB_INLINE Result<double> Gguf::GetFloat(std::string_view key) const {
  const GgufValue* v = Find(key);
  if (v == nullptr) return detail::GgufKeyMissing(name_, key);
  double d = 0;
  if (!detail::LoadGgufFloat(v->type, v->raw.data(), &d)) {
    return detail::GgufValueError(name_, *v, "a number", detail::GgufTypeText(*v));
  }
  return d;
}

WF_LIB_INLINE Result<bool> Gguf::GetBool(std::string_view key) const {
  const GgufValue* v = Find(key);
  if (v == nullptr) return detail::GgufKeyMissing(name_, key);
  if (v->type == GgufValueType::kBool) return v->raw[0] != 0;
  detail::GgufInt i;
  if (!detail::LoadGgufInt(v->type, v->raw.data(), &i)) {
    return detail::GgufValueError(name_, *v, "a bool", detail::GgufTypeText(*v));
  }
  if (i.bits > 1) return detail::GgufValueError(name_, *v, "a bool or 0 or 1", detail::GgufIntText(i));
  return i.bits == 1;
}

WF_LIB_INLINE Result<std::string_view> Gguf::GetString(std::string_view key) const {
  const GgufValue* v = Find(key);
  if (v == nullptr) return detail::GgufKeyMissing(name_, key);
  if (v->type != GgufValueType::kString) {
    return detail::GgufValueError(name_, *v, "a string", detail::GgufTypeText(*v));
  }
  return v->raw;
}

WF_LIB_INLINE Result<std::vector<std::string_view>> Gguf::GetStringArray(std::string_view key) const {
  const GgufValue* v = Find(key);
  if (v == nullptr) return detail::GgufKeyMissing(name_, key);
  if (v->type != GgufValueType::kArray || v->element != GgufValueType::kString) {
    return detail::GgufValueError(name_, *v, "an array of strings", detail::GgufTypeText(*v));
  }
  std::vector<std::string_view> out;
  out.reserve(v->count);
  size_t pos = 0;
  for (uint64_t i = 0; i < v->count; ++i) {  // lengths were checked when the file was read
    const size_t size = LoadLe<uint64_t>(v->raw.data() + pos);
    out.push_back(v->raw.substr(pos + 8, size));
    pos += 8 + size;
  }
  return out;
}

WF_LIB_INLINE Result<std::vector<int64_t>> Gguf::GetIntArray(std::string_view key) const {
  const GgufValue* v = Find(key);
  if (v == nullptr) return detail::GgufKeyMissing(name_, key);
  const size_t size = detail::GgufScalarBytes(v->element);
  detail::GgufInt n;
  const char zero[8] = {};  // asks only whether the type is an integer: the array may be empty
  if (!detail::LoadGgufInt(v->element, zero, &n)) {
    return detail::GgufValueError(name_, *v, "an array of integers", detail::GgufTypeText(*v));
  }
  std::vector<int64_t> out(v->count);
  for (size_t i = 0; i < out.size(); ++i) {
    (void)detail::LoadGgufInt(v->element, v->raw.data() + i * size, &n);
    if (!n.negative && n.bits >> 63 != 0) {
      return detail::GgufValueError(name_, *v, "signed 64-bit integers",
                                    detail::GgufIntText(n) + " at index " + std::to_string(i));
    }
    out[i] = static_cast<int64_t>(n.bits);
  }
  return out;
}

WF_LIB_INLINE Result<std::vector<float>> Gguf::GetFloatArray(std::string_view key) const {
  const GgufValue* v = Find(key);
  if (v == nullptr) return detail::GgufKeyMissing(name_, key);
  const size_t size = detail::GgufScalarBytes(v->element);
  double d = 0;
  const char zero[8] = {};
  if (!detail::LoadGgufFloat(v->element, zero, &d)) {
    return detail::GgufValueError(name_, *v, "an array of numbers", detail::GgufTypeText(*v));
  }
  std::vector<float> out(v->count);
  for (size_t i = 0; i < out.size(); ++i) {
    (void)detail::LoadGgufFloat(v->element, v->raw.data() + i * size, &d);
    if (std::isfinite(d) && std::fabs(d) > static_cast<double>(FLT_MAX)) {
      return detail::GgufValueError(name_, *v, "numbers that fit f32",
                                    std::to_string(d) + " at index " + std::to_string(i));
    }
    out[i] = static_cast<float>(d);
  }
  return out;
}

WF_LIB_INLINE Result<uint64_t> Gguf::GetUintOr(std::string_view key, uint64_t fallback) const {
  if (Find(key) == nullptr) return fallback;
  return GetUint(key);
}
WF_LIB_INLINE Result<double> Gguf::GetFloatOr(std::string_view key, double fallback) const {
  if (Find(key) == nullptr) return fallback;
  return GetFloat(key);
}
WF_LIB_INLINE Result<bool> Gguf::GetBoolOr(std::string_view key, bool fallback) const {
  if (Find(key) == nullptr) return fallback;
  return GetBool(key);
}
WF_LIB_INLINE Result<std::string_view> Gguf::GetStringOr(std::string_view key, std::string_view fallback) const {
  if (Find(key) == nullptr) return fallback;
  return GetString(key);
}

}  // namespace wf
#endif  // WF_FORMATS_GGUF_VALUES_IMPL_H_
