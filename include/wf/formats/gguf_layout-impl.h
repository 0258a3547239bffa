// SPDX-License-Identifier: Apache-2.0
// The rules of GGUF that the reader and the writer share: sizes of values, lengths of names, alignment,
// bytes of a tensor. What one writes by these rules, the other accepts. Not for users of either.
#ifndef WF_FORMATS_GGUF_LAYOUT_IMPL_H_
#define WF_FORMATS_GGUF_LAYOUT_IMPL_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "wf/base/bytes.h"
#include "wf/base/status.h"
#include "wf/formats/gguf.h"
#include "wf/quant/types.h"

namespace wf::detail {

inline constexpr size_t kGgufMaxTensorName = 63;  // ggml keeps names in 64 bytes with a NUL

// Bytes of a scalar, 0 for strings and arrays.
inline uint32_t GgufScalarBytes(GgufValueType t) noexcept {
  switch (t) {
    case GgufValueType::kU8:
    case GgufValueType::kI8:
    case GgufValueType::kBool:
      return 1;
    case GgufValueType::kU16:
    case GgufValueType::kI16:
      return 2;
    case GgufValueType::kU32:
    case GgufValueType::kI32:
    case GgufValueType::kF32:
      return 4;
    case GgufValueType::kU64:
    case GgufValueType::kI64:
    case GgufValueType::kF64:
      return 8;
    case GgufValueType::kString:
    case GgufValueType::kArray:
      return 0;
  }
  return 0;
}

// A string of at most `limit` bytes. A length beyond the end of the input is reported as truncation.
inline Result<std::string_view> ReadGgufString(ByteReader* in, const char* what, uint64_t limit) {
  const uint64_t at = in->offset();
  WF_ASSIGN(const uint64_t size, in->Read<uint64_t>(what));
  if (size <= in->remaining() && size > limit) {
    return LimitError(std::string(what) + ": expected at most " + std::to_string(limit) + " bytes, found " +
                      std::to_string(size) + " (offset " + std::to_string(at) + ")");
  }
  return in->Bytes(size, what);
}

// Steps over `count` packed elements (not arrays), checking all that can be wrong with them.
inline Status SkipGgufElements(ByteReader* in, GgufValueType type, uint64_t count, const GgufLimits& limits) {
  const uint64_t at = in->offset();
  const bool strings = type == GgufValueType::kString;
  const uint64_t least = strings ? 8 : GgufScalarBytes(type);
  if (count > in->remaining() / least) {
    return FormatError("truncated at offset " + std::to_string(at) + ": " + std::to_string(count) + " values of type " +
                       GgufValueTypeName(type) + " need at least " + std::to_string(least) + " bytes each, " +
                       std::to_string(in->remaining()) + " left");
  }
  if (strings) {
    for (uint64_t i = 0; i < count; ++i) WF_TRY(ReadGgufString(in, "string", limits.max_string_bytes));
    return OkStatus();
  }
  WF_ASSIGN(const std::string_view raw, in->Bytes(count * least, "value"));
  if (type != GgufValueType::kBool) return OkStatus();
  for (size_t i = 0; i < raw.size(); ++i) {
    if (raw[i] == 0 || raw[i] == 1) continue;
    return FormatError("bool: expected 0 or 1, found " + std::to_string(static_cast<uint8_t>(raw[i])) + " (offset " +
                       std::to_string(at + i) + ")");
  }
  return OkStatus();
}

// The value of general.alignment: u32 by the format; u64 is accepted too.
inline Result<uint64_t> GgufAlignment(const GgufValue& v) {
  const std::string where = " (offset " + std::to_string(v.offset) + ")";
  if (v.type != GgufValueType::kU32 && v.type != GgufValueType::kU64) {
    return FormatError(std::string("key 'general.alignment': expected u32, found ") + GgufValueTypeName(v.type) +
                       where);
  }
  const uint64_t a = v.type == GgufValueType::kU32 ? LoadLe<uint32_t>(v.raw.data()) : LoadLe<uint64_t>(v.raw.data());
  if (a < 8 || a > (uint64_t{1} << 20) || (a & (a - 1)) != 0) {
    return FormatError("key 'general.alignment': expected a power of two from 8 to 1048576, found " +
                       std::to_string(a) + where);
  }
  return a;
}

// Bytes of a tensor of a known type, without padding; says what is wrong with the shape otherwise.
inline Status GgufTensorBytes(TensorType type, const uint64_t (&ne)[4], uint64_t* bytes) {
  const TensorTypeInfo* info = FindTensorType(static_cast<uint32_t>(type));
  if (info == nullptr) return Unsupported("unknown tensor type " + std::to_string(static_cast<uint32_t>(type)));
  const auto shape = [&] {
    std::string s = "{";
    for (int i = 0; i < 4; ++i) s += (i == 0 ? "" : ", ") + std::to_string(ne[i]);
    return s + "}";
  };
  uint64_t rows = 1, elements = 0;
  for (const uint64_t n : ne) {
    if (n == 0) return FormatError("expected dimensions of at least 1, found " + shape());
  }
  if (!CheckedMul(ne[1], ne[2], &rows) || !CheckedMul(rows, ne[3], &rows) || !CheckedMul(rows, ne[0], &elements) ||
      elements >> 63 != 0) {
    return FormatError("expected fewer than 2^63 elements, found dimensions " + shape());
  }
  const std::string name(info->name);
  if (info->block_bytes == 0 && elements % 128 != 0) {
    return FormatError(name + ": expected a multiple of 128 elements, found " + std::to_string(elements));
  }
  if (ne[0] % info->block_elements != 0) {
    return FormatError(name + ": expected rows of a multiple of " + std::to_string(info->block_elements) +
                       " elements, found " + std::to_string(ne[0]));
  }
  if (type == TensorType::kIQ2_BN_R4 && ne[1] % 4 != 0) {
    return FormatError(name + ": expected a multiple of 4 rows, found " + std::to_string(ne[1]));
  }
  if (!TensorBytes(*info, ne[0], rows, bytes)) {
    return FormatError(name + ": the size in bytes overflows, found dimensions " + shape());
  }
  return OkStatus();
}

}  // namespace wf::detail
#endif  // WF_FORMATS_GGUF_LAYOUT_IMPL_H_
