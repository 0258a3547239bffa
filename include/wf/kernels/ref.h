// SPDX-License-Identifier: Apache-2.0
// The definition of every kernel (attention: ref_attention.h) in plain C++, present in every mode as isa::Scalar, and the oracle of
// every other ISA: integer sums are equal because they are exact, float results because this file fixes
// the order of every operation:
//   sums      16 running sums, element k goes to sum k % 16 by a fused multiply-add in ascending k (a short last
//             group of 16 is filled with zeros), then folded 16 -> 8 -> 4 -> 2 -> 1 by adding the upper half
//             (RMSNorm sums in double, whose squares of floats are exact);
//   products  a multiply followed by an add is always one fused multiply-add, never left to the compiler;
//   exp       ExpRef below.
// So all ISAs agree bit for bit. Readable first; std::fma is a function call where the baseline has no FMA.
#ifndef WF_KERNELS_REF_H_
#define WF_KERNELS_REF_H_

#include <bit>
#include <cmath>
#include <cstring>

#include "wf/base/half.h"
#include "wf/kernels/kernels.h"
#include "wf/kernels/ref_peak.h"

namespace wf::detail {
inline namespace WF_MODE_NS {

inline constexpr size_t kSumLanes = 16;

struct SumOrder {
  float lane[kSumLanes] = {};
  float Fold() noexcept {
    for (size_t w = kSumLanes / 2; w > 0; w /= 2)
      for (size_t i = 0; i < w; ++i) lane[i] = lane[i] + lane[i + w];
    return lane[0];
  }
};

// sum of w[i] * x[i] in SumOrder.
template <class Load>
float DotRef(const Load& w, const float* x, size_t n) noexcept {
  SumOrder s;
  const size_t end = AlignUp(n, kSumLanes);
  for (size_t i = 0; i < end; ++i) {
    float& lane = s.lane[i % kSumLanes];
    lane = i < n ? std::fma(w(i), x[i], lane) : std::fma(0.0f, 0.0f, lane);
  }
  return s.Fold();
}

// Row `row` (k elements, whole blocks) of a dense matrix, times x.
template <DenseType T>
float DenseDotRef(const void* w, size_t row, const float* x, size_t k) noexcept {
  constexpr size_t kN = DenseBlock(T), kBytes = DenseBlockBytes(T);
  const uint8_t* b = static_cast<const uint8_t*>(w) + row * (k / kN) * kBytes;
  float block[kN];
  const auto load = [&](size_t i) {  // i ascends
    if (i % kN == 0) DequantBlock<T>(b + i / kN * kBytes, block);
    return block[i % kN];
  };
  return DotRef(load, x, k);
}

// exp(x): 0 below -87.33 (no subnormals), clamped at 88.37. x = n ln 2 + r with |r| <= ln 2 / 2, ln 2 in two parts
// (Cody and Waite), e^r by the polynomial of Cephes expf; within 2 ulp.
inline float ExpRef(float x) noexcept {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to the nearest integer, ties to even
  if (!(x >= -87.33f)) return 0.0f;
  if (x > 88.37f) x = 88.37f;
  const float t = std::fma(x, 1.44269504f, kMagic);
  const float n = t - kMagic;
  float r = std::fma(n, -0.693359375f, x);
  r = std::fma(n, 2.12194440e-4f, r);
  float p = 1.9875691500e-4f;
  p = std::fma(p, r, 1.3981999507e-3f);
  p = std::fma(p, r, 8.3334519073e-3f);
  p = std::fma(p, r, 4.1665795894e-2f);
  p = std::fma(p, r, 1.6666665459e-1f);
  p = std::fma(p, r, 5.0000001201e-1f);
  p = std::fma(p, r * r, r);
  p = p + 1.0f;
  const uint32_t two_n = (std::bit_cast<uint32_t>(t) + 127u) << 23;  // t's low bits hold n
  return p * std::bit_cast<float>(two_n);
}

// --- ternary ----------------------------------------------------------------------------------------------

// What the runs of one row and token add to y; x is the token's row in the block's order.
template <class Block>
float TernaryRunsRef(const TernaryArgs& a, size_t row, const int8_t* x, float act_scale, float y) noexcept {
  const uint8_t* w = static_cast<const uint8_t*>(a.w);
  const block::ActOrder order = block::OrderFor(Block::kType, a.k);
  const size_t size = Block::kScaleSize == 0 ? a.k : Block::kScaleSize;
  bool open = false;
  float d = 0;
  // Codes, and activations to take off once each. Two sums, because GCC 12 multiplies (code - 1) as an unsigned byte
  // when it vectorises that for VNNI (-O3 -mavxvnni or -mavx512vnni).
  int32_t dot = 0, off = 0;
  for (size_t first = 0; first < a.k; first += size) {
    const float next = Block::Scale(w, a.k, row, first);
    if (next == 0) continue;
    if (open && !(next == d)) {
      y = std::fma(static_cast<float>(dot - off) / act_scale, d * a.w_scale, y);
      dot = off = 0;
    }
    open = true;
    d = next;
    for (size_t c = first; c < first + size; ++c) {
      const int32_t q = x[block::ActIndex(order, c, a.k)];
      dot += static_cast<int32_t>(Block::Code(w, a.k, row, c)) * q;
      off += q;
    }
  }
  return open ? std::fma(static_cast<float>(dot - off) / act_scale, d * a.w_scale, y) : y;
}

// The same for ternary values that are stored as floats: signs and zeros, one run.
template <class Block>
requires requires { typename Block::Word; }
float TernaryRunsRef(const TernaryArgs& a, size_t row, const int8_t* x, float act_scale, float y) noexcept {
  using Word = typename Block::Word;
  constexpr Word kSign = static_cast<Word>(Word{1} << (sizeof(Word) * 8 - 1));
  const Word* p = static_cast<const Word*>(a.w) + row * a.k;
  int32_t dot = 0;
  for (size_t c = 0; c < a.k; ++c) {
    if ((p[c] & static_cast<Word>(~kSign)) == 0) continue;
    dot += (p[c] & kSign) != 0 ? -x[c] : x[c];
  }
  return std::fma(static_cast<float>(dot) / act_scale, a.w_scale, y);
}

template <class Block, int Rank>
void TernaryRef(const TernaryArgs& a, size_t tokens) noexcept {
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t r = a.row_begin; r < a.row_end; ++r) {
      float add = 0;
      if constexpr (Rank != 0) {
        const size_t rank = Rank > 0 ? static_cast<size_t>(Rank) : a.lrc_rank;
        const float* lt = a.lrc_t + t * a.lrc_t_stride;
        add = VisitDense(a.lrc_type, [&]<DenseType T>() { return DenseDotRef<T>(a.lrc_u, r, lt, rank); });
      }
      if (a.bias != nullptr) add = add + a.bias[r];
      a.y[t * a.y_stride + r] = TernaryRunsRef<Block>(a, r, a.x + t * a.x_stride, a.act_scale[t], add);
    }
  }
}
template <class Block, int Rank>
void TernaryGemvKernel(isa::Scalar, const TernaryArgs& a) noexcept {
  TernaryRef<Block, Rank>(a, 1);
}
template <class Block, int Rank>
void TernaryGemmKernel(isa::Scalar, const TernaryArgs& a) noexcept {
  TernaryRef<Block, Rank>(a, a.tokens);
}

template <int>
void QuantiseKernel(isa::Scalar, const QuantiseArgs& a) noexcept {
  constexpr float kMagic = 12582912.0f;
  const block::ActOrder order = static_cast<block::ActOrder>(a.order);
  float m = 0;
  for (size_t i = 0; i < a.k; ++i) m = std::fabs(a.x[i]) > m ? std::fabs(a.x[i]) : m;
  const float scale = 127.0f / (m > 1e-5f ? m : 1e-5f);
  std::memset(a.out, 0, block::ActBytes(order, a.k));
  int32_t sum = 0;
  for (size_t i = 0; i < a.k; ++i) {
    const float v = a.x[i] * scale;
    // |v| <= 127.00001, so neither clamp nor overflow can happen but for NaN and infinity, which become 0.
    const float r = v >= -128.0f && v <= 127.5f ? (v + kMagic) - kMagic : 0.0f;
    const int8_t q = static_cast<int8_t>(r);
    a.out[block::ActIndex(order, i, a.k)] = q;
    sum += q;
  }
  *a.act_scale = scale;
  *a.sum = sum;
}

// --- floats -----------------------------------------------------------------------------------------------

template <DenseType T>
void DenseKernel(isa::Scalar, const DenseArgs& a) noexcept {
  for (size_t t = 0; t < a.tokens; ++t) {
    for (size_t r = a.row_begin; r < a.row_end; ++r) {
      const float y = DenseDotRef<T>(a.w, r, a.x + t * a.x_stride, a.k);
      a.y[t * a.y_stride + r] = a.bias != nullptr ? y + a.bias[r] : y;
    }
  }
}

// 1 / sqrt(mean(x^2) + eps) from 16 running sums of squares in double, where squares of floats are exact.
inline float InverseRms(double (&lane)[kSumLanes], size_t n, float eps) noexcept {
  for (size_t w = kSumLanes / 2; w > 0; w /= 2)
    for (size_t i = 0; i < w; ++i) lane[i] += lane[i + w];
  return static_cast<float>(1.0 / std::sqrt(lane[0] / static_cast<double>(n) + static_cast<double>(eps)));
}

template <int>
void RmsNormKernel(isa::Scalar, const RmsNormArgs& a) noexcept {
  double lane[kSumLanes] = {};
  for (size_t i = 0; i < a.n; ++i) {
    const double x = static_cast<double>(a.x[i]);
    lane[i % kSumLanes] += x * x;
  }
  const float inv = InverseRms(lane, a.n, a.eps);
  for (size_t i = 0; i < a.n; ++i) a.y[i] = (a.x[i] * a.w[i]) * inv;
}

template <int>
void RopeKernel(isa::Scalar, const RopeArgs& a) noexcept {
  for (size_t h = 0; h < a.heads; ++h) {
    float* x = a.x + h * a.head_dim;
    for (size_t i = 0; i < a.pairs; ++i) {
      float& x0 = a.neox ? x[i] : x[2 * i];
      float& x1 = a.neox ? x[i + a.pairs] : x[2 * i + 1];
      const float y0 = std::fma(-x1, a.sin[i], x0 * a.cos[i]);
      const float y1 = std::fma(x1, a.cos[i], x0 * a.sin[i]);
      x0 = y0;
      x1 = y1;
    }
  }
}

template <int>
void GluKernel(isa::Scalar, const GluArgs& a) noexcept {
  for (size_t i = 0; i < a.n; ++i) {
    const float g = a.gate[i];
    const float r = g > 0 ? g : 0.0f;
    a.out[i] = (a.relu2 ? r * r : g / (1.0f + ExpRef(-g))) * a.up[i];
  }
}

template <int>
void AddKernel(isa::Scalar, const AddArgs& a) noexcept {
  for (size_t i = 0; i < a.n; ++i) a.y[i] = a.y[i] + a.x[i];
}

template <int>
void SoftmaxKernel(isa::Scalar, const SoftmaxArgs& a) noexcept {
  float m = -3.402823466e38f;
  for (size_t i = 0; i < a.n; ++i) m = a.x[i] > m ? a.x[i] : m;
  SumOrder s;
  for (size_t i = 0; i < a.n; ++i) {
    const float e = ExpRef(a.x[i] - m);
    if (a.p != nullptr) a.p[i] = e;
    s.lane[i % kSumLanes] = s.lane[i % kSumLanes] + e;
  }
  const float sum = s.Fold();
  if (a.lse != nullptr) *a.lse = m + std::log(sum);
  if (a.p == nullptr) return;
  const float inv = 1.0f / sum;
  for (size_t i = 0; i < a.n; ++i) a.p[i] = a.p[i] * inv;
}

}  // namespace WF_MODE_NS
}  // namespace wf::detail
#endif  // WF_KERNELS_REF_H_
