// SPDX-License-Identifier: Apache-2.0
// The scan of an output head: for every row v an upper bound of the logit that the dense product would give, from a
// coarse copy of the head (quant/head_codes.h) that has 3/8 of the bytes of F16. Rows whose bound is below a logit that
// is known already cannot win; the rest are computed exactly (model/fast_head.h).
//
// Why it is a bound. All vectors have k elements; |.| of a vector is its Euclidean norm; u = 2^-24.
//   w' = s (c - 31.5)   what the codes c of row w stand for; e = w - w'
//   x' = a (128 hi + lo)   what the two int8 vectors of the activations x stand for; d = x - x'
//   w.x = w'.x' + e.x + w'.d, and by Cauchy and Schwarz |e.x| <= |e| |x|, |w'.d| <= |w'| |d|. With e and x cut into
//   groups of 128 columns |e.x| <= sum |e_g| |x_g| <= (max |e_g|) sum |x_g| as well, which is the smaller one if x has
//   a few columns that are very large. The scan takes the smaller of the two.
//   The dense product rounds: each term passes k/16 rounded up fused multiply-adds and 4 additions (ref.h), so its
//   result y has |y - w.x| <= g |w| |x| with g = 1.01 (ceil(k/16) + 5) u (k <= 65536). The scan computes w'.x' = s a/2
//   (128 p + q) with the integers p = sum (2c - 63) hi, q = sum (2c - 63) lo. They are exact in int32. Their
//   conversions to float, the fused multiply-add, the product s (a/2) and the last addition round once each: 5 u s a/2
//   (|128 p| + |q|) <= 5 u |w'| a (128 |hi| + |lo|) in all, and u times the bound itself.
// A row stores upper bounds of |e|, of the largest |e_g| and of n >= max(|w|, |w'|); a token the rest:
//   upper = w'.x' + min(|e| x_norm, max|e_g| x_groups) + n spread + 2^-100
// where x_norm >= |x|, x_groups >= sum |x_g| and spread >= |d| + g |x| + 8 u a (128 |hi| + |lo|) have 2^-20 of slack
// for the roundings of this line itself. 2^-100 is for underflow: the products' errors are below 65536 * 2^-149 each,
// that of s (a/2), times less than 2^37, below 2^-112. Overflow is excluded by the caller: n |x| < 2^120.
#ifndef WF_KERNELS_HEAD_SCAN_H_
#define WF_KERNELS_HEAD_SCAN_H_

#include <cstddef>
#include <cstdint>

#include "wf/base/inline.h"
#include "wf/quant/dense.h"
#include "wf/quant/head_codes.h"

namespace wf {

inline constexpr size_t kHeadBlock = 16;        // rows whose largest bound the scan gives
inline constexpr size_t kHeadErrorGroup = 128;  // columns of a group of the bound
inline constexpr float kHeadLimit = 0x1p120f;   // n |x| must stay below, or nothing is known about the row

// Scale and bounds of the rows, each `rows` values.
struct HeadParts {
  float* scale = nullptr;        // s
  float* error = nullptr;        // >= |e|
  float* group_error = nullptr;  // >= the largest |e_g|
  float* norm = nullptr;         // >= |w| and >= |w'|; NaN or infinite: the row cannot be bounded
};

// Codes and parts of rows [row_begin, row_end) of a dense matrix: u = w * (31.5 / max|w|), code = floor(u + 32).
struct HeadPackArgs {
  const void* w = nullptr;  // as DenseArgs (args.h)
  size_t k = 0;             // at most kHeadMaxK
  size_t row_begin = 0, row_end = 0;
  float* scratch = nullptr;  // HeadPaddedK(k) floats
  uint8_t* codes = nullptr;  // rows of HeadRowBytes(k)
  HeadParts parts;
};

// A token's activations as the scan wants them.
struct HeadInput {
  const int8_t* codes = nullptr;  // HeadPaddedK(k) hi, then as many lo; zeros beyond k
  int32_t hi63 = 0, lo63 = 0;     // 63 * sum hi, 63 * sum lo
  float half_step = 0;            // a / 2
  float x_norm = 0, x_groups = 0, spread = 0;
};

// upper[t * stride + row] for rows [row_begin, row_end) and every token, and best[t * best_stride + row / 16], the
// largest of each block of 16 rows (of those in the range). row_begin is a multiple of 16.
struct HeadScanArgs {
  const uint8_t* codes = nullptr;
  HeadParts parts;
  size_t k = 0;
  size_t row_begin = 0, row_end = 0;
  const HeadInput* x = nullptr;
  size_t tokens = 1;
  float* upper = nullptr;
  size_t stride = 0;
  float* best = nullptr;
  size_t best_stride = 0;
};

namespace detail {
inline constexpr float kHeadTiny = 0x1p-100f;  // rows below: codes that stand for zero; also what covers underflow
inline constexpr double kHeadSlack = 0x1p-20;  // of every bound

// d >= 0 as a float that is not below it.
inline float HeadRoundUp(double d) noexcept { return static_cast<float>(d * (1 + kHeadSlack)); }

}  // namespace detail

// Fills `in` and its codes (2 * HeadPaddedK(k) bytes) from k activations; false if they are not finite, all zero or of
// a size that this format does not hold: nothing is known about any row then.
bool PrepareHeadInput(const float* x, size_t k, int8_t* codes, HeadInput* in) noexcept;

}  // namespace wf
#if !WF_LIB_COMPILED
#include "wf/kernels/head_scan-impl.h"
#endif
#endif  // WF_KERNELS_HEAD_SCAN_H_
