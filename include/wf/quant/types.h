// SPDX-License-Identifier: Apache-2.0
// Tensor types by their GGUF id, as data: elements and bytes of a block (formats.md 2.1). Ids that forks
// use for different things carry the meaning that wf reads (36 is I2_S).
#ifndef WF_QUANT_TYPES_H_
#define WF_QUANT_TYPES_H_

#include <cstdint>
#include <string_view>

#include "wf/base/bytes.h"

namespace wf {

enum class TensorType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kQ8_K = 15,
  kIQ2_XXS = 16,
  kIQ2_XS = 17,
  kIQ3_XXS = 18,
  kIQ1_S = 19,
  kIQ4_NL = 20,
  kIQ3_S = 21,
  kIQ2_S = 22,
  kIQ4_XS = 23,
  kI8 = 24,
  kI16 = 25,
  kI32 = 26,
  kI64 = 27,
  kF64 = 28,
  kIQ1_M = 29,
  kBF16 = 30,
  kTQ1_0 = 34,
  kTQ2_0 = 35,
  kI2_S = 36,
  kTL1 = 38,
  kMXFP4 = 39,
  kNVFP4 = 40,
  kQ1_0 = 41,
  kQ2_0 = 42,
  kIQ1_BN = 134,
  kIQ2_BN = 135,
  kIQ2_BN_R4 = 335,
  // Layouts that share an id with another type or have no mark in the file (formats.md 2.8, 2.10, 2.12): never an id of
  // a file, chosen by sizes or by the user.
  kI2_S_ARM64 = 0x10000 + 36,
  kI2_S_X4 = 0x20000 + 36,
  kTL2 = 0x10000 + 39,
  kQ2_0_128 = 0x10000 + 42,
};

// Types from here on are wf's own numbers for such layouts.
inline constexpr uint32_t kFirstUnwrittenType = 0x10000;
// May a file hold this number as a type's id? (It may still be unknown.)
inline constexpr bool IsFileTypeId(uint32_t id) noexcept { return id < kFirstUnwrittenType; }

struct TensorTypeInfo {
  TensorType type;
  std::string_view name;
  uint32_t block_elements;  // elements along ne0 that one block holds
  uint32_t block_bytes;     // 0: the size is not a multiple of blocks (I2_S, TL1, TL2)
  uint32_t row_bytes;       // header of each row (ik's *_BN), else 0
};

inline constexpr TensorTypeInfo kTensorTypes[] = {
    {TensorType::kF32, "F32", 1, 4, 0},
    {TensorType::kF16, "F16", 1, 2, 0},
    {TensorType::kQ4_0, "Q4_0", 32, 18, 0},
    {TensorType::kQ4_1, "Q4_1", 32, 20, 0},
    {TensorType::kQ5_0, "Q5_0", 32, 22, 0},
    {TensorType::kQ5_1, "Q5_1", 32, 24, 0},
    {TensorType::kQ8_0, "Q8_0", 32, 34, 0},
    {TensorType::kQ2_K, "Q2_K", 256, 84, 0},
    {TensorType::kQ3_K, "Q3_K", 256, 110, 0},
    {TensorType::kQ4_K, "Q4_K", 256, 144, 0},
    {TensorType::kQ5_K, "Q5_K", 256, 176, 0},
    {TensorType::kQ6_K, "Q6_K", 256, 210, 0},
    {TensorType::kQ8_K, "Q8_K", 256, 292, 0},
    {TensorType::kIQ2_XXS, "IQ2_XXS", 256, 66, 0},
    {TensorType::kIQ2_XS, "IQ2_XS", 256, 74, 0},
    {TensorType::kIQ3_XXS, "IQ3_XXS", 256, 98, 0},
    {TensorType::kIQ1_S, "IQ1_S", 256, 50, 0},
    {TensorType::kIQ4_NL, "IQ4_NL", 32, 18, 0},
    {TensorType::kIQ3_S, "IQ3_S", 256, 110, 0},
    {TensorType::kIQ2_S, "IQ2_S", 256, 82, 0},
    {TensorType::kIQ4_XS, "IQ4_XS", 256, 136, 0},
    {TensorType::kI8, "I8", 1, 1, 0},
    {TensorType::kI16, "I16", 1, 2, 0},
    {TensorType::kI32, "I32", 1, 4, 0},
    {TensorType::kI64, "I64", 1, 8, 0},
    {TensorType::kF64, "F64", 1, 8, 0},
    {TensorType::kIQ1_M, "IQ1_M", 256, 56, 0},
    {TensorType::kBF16, "BF16", 1, 2, 0},
    {TensorType::kTQ1_0, "TQ1_0", 256, 54, 0},
    {TensorType::kTQ2_0, "TQ2_0", 256, 66, 0},
    {TensorType::kI2_S, "I2_S", 1, 0, 0},
    {TensorType::kTL1, "TL1", 1, 0, 0},
    {TensorType::kMXFP4, "MXFP4", 32, 17, 0},
    {TensorType::kNVFP4, "NVFP4", 64, 36, 0},
    {TensorType::kQ1_0, "Q1_0", 128, 18, 0},
    {TensorType::kQ2_0, "Q2_0", 64, 18, 0},
    {TensorType::kIQ1_BN, "IQ1_BN", 64, 13, 2},
    {TensorType::kIQ2_BN, "IQ2_BN", 64, 16, 4},
    {TensorType::kIQ2_BN_R4, "IQ2_BN_R4", 64, 16, 4},
    {TensorType::kI2_S_ARM64, "I2_S_ARM64", 1, 0, 0},
    {TensorType::kI2_S_X4, "I2_S_X4", 1, 0, 0},
    {TensorType::kTL2, "TL2", 1, 0, 0},
    {TensorType::kQ2_0_128, "Q2_0_128", 128, 34, 0},
};

// The three layouts of I2_S: one f32 scale a tensor, in the 32 bytes after the codes.
inline constexpr bool IsI2s(TensorType t) noexcept {
  return t == TensorType::kI2_S || t == TensorType::kI2_S_ARM64 || t == TensorType::kI2_S_X4;
}

// The row for a GGUF id, or nullptr for ids that no reader may guess at.
inline constexpr const TensorTypeInfo* FindTensorType(uint32_t id) noexcept {
  for (const TensorTypeInfo& t : kTensorTypes)
    if (static_cast<uint32_t>(t.type) == id) return &t;
  return nullptr;
}
inline constexpr std::string_view TensorTypeName(TensorType t) noexcept {
  const TensorTypeInfo* i = FindTensorType(static_cast<uint32_t>(t));
  return i == nullptr ? std::string_view("?") : i->name;
}

// Elements of the whole tensor that are packed together: rows of these types need not be whole groups.
inline constexpr uint64_t FlatGroup(TensorType t) noexcept {
  return t == TensorType::kI2_S_X4 ? 4 : (t == TensorType::kI2_S_ARM64 ? 64 : 128);
}

// Bytes of a tensor of `elements` = ne0 * rows. False on overflow, where ne0 or the element count does not fit the
// block, and for TL2, which a shape alone does not tell (tl2.h). I2_S: elements/4 packed bytes and a 32-byte tail that
// begins with the f32 scale; its groups of 128 elements run over the flattened tensor, so elements % 128 == 0 and ne0
// is free (groups of 64 in the ARM64 layout; whole fours of rows in X4). TL1 has the same size.
[[nodiscard]] inline bool TensorBytes(const TensorTypeInfo& t, uint64_t ne0, uint64_t rows, uint64_t* bytes) noexcept {
  uint64_t elements = 0;
  if (t.type == TensorType::kTL2 || !CheckedMul(ne0, rows, &elements)) return false;
  if (IsI2s(t.type) || t.type == TensorType::kTL1) {
    if (t.type == TensorType::kI2_S_X4 && rows % 4 != 0) return false;
    return elements % FlatGroup(t.type) == 0 && CheckedAdd(elements / 4, 32, bytes);
  }
  if (ne0 % t.block_elements != 0) return false;
  uint64_t row = 0;
  return CheckedMul(ne0 / t.block_elements, t.block_bytes, &row) && CheckedAdd(row, t.row_bytes, &row) &&
         CheckedMul(row, rows, bytes);
}

}  // namespace wf
#endif  // WF_QUANT_TYPES_H_
