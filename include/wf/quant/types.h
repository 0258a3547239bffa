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
};

struct TensorTypeInfo {
  TensorType type;
  std::string_view name;
  uint32_t block_elements;  // elements along ne0 that one block holds
  uint32_t block_bytes;     // 0: the size is not a multiple of blocks (I2_S, TL1)
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
};

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

// Bytes of a tensor of `elements` = ne0 * rows. False on overflow or where ne0 or the element count does
// not fit the block. I2_S: elements/4 packed bytes and a 32-byte tail that begins with the f32 scale;
// its 128-element groups run over the flattened tensor, so elements % 128 == 0 and ne0 is free.
[[nodiscard]] inline bool TensorBytes(const TensorTypeInfo& t, uint64_t ne0, uint64_t rows, uint64_t* bytes) noexcept {
  uint64_t elements = 0;
  if (!CheckedMul(ne0, rows, &elements)) return false;
  if (t.type == TensorType::kI2_S || t.type == TensorType::kTL1) {
    return elements % 128 == 0 && CheckedAdd(elements / 4, 32, bytes);
  }
  if (ne0 % t.block_elements != 0) return false;
  uint64_t row = 0;
  return CheckedMul(ne0 / t.block_elements, t.block_bytes, &row) && CheckedAdd(row, t.row_bytes, &row) &&
         CheckedMul(row, rows, bytes);
}

}  // namespace wf
#endif  // WF_QUANT_TYPES_H_
