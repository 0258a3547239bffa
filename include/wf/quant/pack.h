// SPDX-License-Identifier: Apache-2.0
// Ternary values to and from every packed type of the field, by type at run time: what converting, requantising and
// comparing need. Plain loops; kernels have their own (kernels/). Layouts: block.h.
#ifndef WF_QUANT_PACK_H_
#define WF_QUANT_PACK_H_

#include <cstddef>
#include <cstdint>

#include "wf/base/inline.h"
#include "wf/quant/types.h"

namespace wf {

// A packed ternary type: I2_S in its three layouts, TQ1_0, TQ2_0, IQ1_BN, IQ2_BN, IQ2_BN_R4, Q2_0 and its variant.
bool IsPackedTernary(TensorType t) noexcept;
// Elements of a row that share one stored scale; 0: the row, or the tensor for I2_S.
size_t TernaryScaleSize(TensorType t) noexcept;
// The stored scale nearest to `scale` that is not below it where there is one: f32 types hold it exactly, f16 ones round.
float StoredTernaryScale(TensorType t, float scale) noexcept;

// Packs rows x k values of {-1, 0, 1} with scale d (as StoredTernaryScale gives it; not read for I2_S, whose scale is in
// the tail that the caller writes) into `out`, which is the place of row 0. k must fit the type (TensorBytes); rows must
// be a multiple of 4 for IQ2_BN_R4 and I2_S_X4, rows * k one of 128 (64) for I2_S (ARM64). Every byte is written,
// the same ones whatever was there.
void PackTernary(TensorType t, const int8_t* values, size_t rows, size_t k, float d, uint8_t* out) noexcept;

// Row `row` of a tensor that begins at `w`: its codes minus one, -1 to 2, into `values` (k of them), and, if `scales` is
// not null, the stored scale of each TernaryScaleSize(t) elements (one if that is 0; 1 for I2_S).
void UnpackTernary(TensorType t, const uint8_t* w, size_t row, size_t k, int8_t* values, float* scales) noexcept;

// Rows of floats to a dense type: Q8_0, Q4_0 by formats.md 2.3 and 2.4; Q6_K and Q4_K by a search of the scales of each
// block for the least squared error; F32, F16, BF16 rounded. k must fit the type, x be finite.
void QuantiseDenseRow(TensorType t, const float* x, size_t k, uint8_t* out) noexcept;

}  // namespace wf
#if !WF_LIB_COMPILED
#include "wf/quant/pack-impl.h"
#endif
#endif  // WF_QUANT_PACK_H_
