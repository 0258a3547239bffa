// SPDX-License-Identifier: Apache-2.0
// TL2, Microsoft's lookup-table layout for x86 (formats.md 2.10), back to ternary values. Its tiling is taken from the
// build of the program that wrote it and stands nowhere in the file, so only shapes whose tiling is known are decoded.
// Nothing here multiplies: a model's TL2 tensors are decoded once and packed into another type.
#ifndef WF_QUANT_TL2_H_
#define WF_QUANT_TL2_H_

#include <cstddef>
#include <cstdint>

#include "wf/base/inline.h"
#include "wf/base/status.h"

namespace wf {

// Two generations of files differ in their length, and with it in the place of the scale (32 bytes from the end).
enum class Tl2Generation : uint8_t { kFirst, kSecond };

// Bytes of a TL2 tensor of rows x k; 0 for a shape that none has (k < 256, rows of no whole bytes, overflow). A file's
// size tells the generation.
uint64_t Tl2Bytes(uint64_t rows, uint64_t k, Tl2Generation generation) noexcept;

// Is the tiling of this shape known?
bool IsTl2Shape(uint64_t rows, uint64_t k) noexcept;

// Decodes a tensor of rows x k in `bytes` bytes at `data` into values[rows * k] of {-1, 0, 1} and its scale, as stored.
// kUnsupported for a shape whose tiling is not known, kFormat for a size of neither generation and for codes that stand
// for no ternary values; `values` is then unspecified.
Status DecodeTl2(const uint8_t* data, uint64_t bytes, size_t rows, size_t k, int8_t* values, float* scale);

}  // namespace wf
#if !WF_LIB_COMPILED
#include "wf/quant/tl2-impl.h"
#endif
#endif  // WF_QUANT_TL2_H_
