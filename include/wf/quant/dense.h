// SPDX-License-Identifier: Apache-2.0
// Types of matrices that are multiplied as floats (embedding, head, low-rank factors, unquantised projections), and what
// their elements are: the definition that kernels are held to. Blocks by formats.md 2.2 to 2.6.
#ifndef WF_QUANT_DENSE_H_
#define WF_QUANT_DENSE_H_

#include <cstddef>
#include <cstdint>

#include "wf/base/bytes.h"
#include "wf/base/half.h"
#include "wf/quant/types.h"

namespace wf {

enum class DenseType : uint8_t { kF32, kF16, kBF16, kQ8_0, kQ4_0, kQ6_K, kQ4_K };
inline constexpr size_t kDenseTypes = 7;
inline constexpr TensorType kDenseTensorTypes[kDenseTypes] = {TensorType::kF32,  TensorType::kF16,  TensorType::kBF16,
                                                              TensorType::kQ8_0, TensorType::kQ4_0, TensorType::kQ6_K,
                                                              TensorType::kQ4_K};
// False for types that are not multiplied as floats.
inline constexpr bool ToDenseType(TensorType t, DenseType* out) noexcept {
  for (size_t i = 0; i < kDenseTypes; ++i) {
    if (kDenseTensorTypes[i] != t) continue;
    *out = static_cast<DenseType>(i);
    return true;
  }
  return false;
}
// Elements of a block (1 for floats; rows are whole blocks) and its bytes.
inline constexpr size_t DenseBlock(DenseType t) noexcept {
  return FindTensorType(static_cast<uint32_t>(kDenseTensorTypes[static_cast<size_t>(t)]))->block_elements;
}
inline constexpr size_t DenseBlockBytes(DenseType t) noexcept {
  return FindTensorType(static_cast<uint32_t>(kDenseTensorTypes[static_cast<size_t>(t)]))->block_bytes;
}

// The values of one block: d * q in f32; Q4_K: (d * sc) * nibble - dmin * m, each product and the difference rounded.
template <DenseType T>
void DequantBlock(const uint8_t* b, float* y) noexcept {
  if constexpr (T == DenseType::kF32) {
    *y = LoadLe<float>(b);
  } else if constexpr (T == DenseType::kF16) {
    *y = F32FromF16(LoadLe<uint16_t>(b));
  } else if constexpr (T == DenseType::kBF16) {
    *y = F32FromBf16(LoadLe<uint16_t>(b));
  } else if constexpr (T == DenseType::kQ8_0) {
    const float d = F32FromF16(LoadLe<uint16_t>(b));
    for (size_t i = 0; i < 32; ++i) y[i] = d * static_cast<float>(static_cast<int8_t>(b[2 + i]));
  } else if constexpr (T == DenseType::kQ4_0) {
    const float d = F32FromF16(LoadLe<uint16_t>(b));
    for (size_t i = 0; i < 16; ++i) {
      y[i] = d * static_cast<float>(static_cast<int>(b[2 + i] & 15) - 8);
      y[16 + i] = d * static_cast<float>(static_cast<int>(b[2 + i] >> 4) - 8);
    }
  } else if constexpr (T == DenseType::kQ6_K) {
    const float d = F32FromF16(LoadLe<uint16_t>(b + 208));
    for (size_t s = 0; s < 16; ++s) {  // 16 elements share a scale
      const float ds = d * static_cast<float>(static_cast<int8_t>(b[192 + s]));
      const size_t h = s / 8, k = s % 8 / 2, half = s % 2 * 16;
      const uint8_t* ql = b + 64 * h + 32 * (k & 1) + half;
      const uint8_t* qh = b + 128 + 32 * h + half;
      const uint32_t low = k < 2 ? 0 : 4, high = static_cast<uint32_t>(2 * k);
      for (size_t i = 0; i < 16; ++i) {
        const uint32_t q = ((uint32_t{ql[i]} >> low) & 15u) | ((uint32_t{qh[i]} >> high) & 3u) << 4;
        y[16 * s + i] = ds * static_cast<float>(static_cast<int>(q) - 32);
      }
    }
  } else {
    static_assert(T == DenseType::kQ4_K);
    const float d = F32FromF16(LoadLe<uint16_t>(b)), dmin = F32FromF16(LoadLe<uint16_t>(b + 2));
    const uint8_t* s = b + 4;
    for (size_t j = 0; j < 8; ++j) {
      const uint32_t sc = j < 4 ? s[j] & 63u : (s[j + 4] & 15u) | (uint32_t{s[j - 4]} >> 6) << 4;
      const uint32_t m = j < 4 ? s[j + 4] & 63u : (uint32_t{s[j + 4]} >> 4) | (uint32_t{s[j]} >> 6) << 4;
      const float scale = d * static_cast<float>(sc), low = dmin * static_cast<float>(m);
      const uint32_t shift = j % 2 == 0 ? 0 : 4;
      for (size_t i = 0; i < 32; ++i) {
        const float v = scale * static_cast<float>((uint32_t{b[16 + 32 * (j / 2) + i]} >> shift) & 15u);
        y[32 * j + i] = v - low;
      }
    }
  }
}

// Calls f.template operator()<T>() with the type as a template argument.
template <class F>
auto VisitDense(DenseType t, const F& f) {
  switch (t) {
    case DenseType::kF32:
      return f.template operator()<DenseType::kF32>();
    case DenseType::kF16:
      return f.template operator()<DenseType::kF16>();
    case DenseType::kBF16:
      return f.template operator()<DenseType::kBF16>();
    case DenseType::kQ8_0:
      return f.template operator()<DenseType::kQ8_0>();
    case DenseType::kQ4_0:
      return f.template operator()<DenseType::kQ4_0>();
    case DenseType::kQ6_K:
      return f.template operator()<DenseType::kQ6_K>();
    case DenseType::kQ4_K:
      break;
  }
  return f.template operator()<DenseType::kQ4_K>();
}

// Row `row` of a matrix of rows of k elements (whole blocks) as floats.
inline void DequantRow(DenseType t, const void* data, size_t row, size_t k, float* y) noexcept {
  VisitDense(t, [&]<DenseType T>() {
    constexpr size_t kN = DenseBlock(T), kBytes = DenseBlockBytes(T);
    const uint8_t* b = static_cast<const uint8_t*>(data) + row * (k / kN) * kBytes;
    for (size_t i = 0; i < k; i += kN, b += kBytes) DequantBlock<T>(b, y + i);
  });
}

}  // namespace wf
#endif  // WF_QUANT_DENSE_H_
