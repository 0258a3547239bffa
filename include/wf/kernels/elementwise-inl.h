// SPDX-License-Identifier: Apache-2.0
// Row-wise kernels, compiled once per ISA: activation quantisation, RMSNorm, RoPE, gated activations, residual
// add, softmax. Same operations in the same order as ref.h.
#if defined(WF_KERNELS_ELEMENTWISE_INL_H_) == defined(WF_TARGET_TOGGLE)
#ifdef WF_KERNELS_ELEMENTWISE_INL_H_
#undef WF_KERNELS_ELEMENTWISE_INL_H_
#else
#define WF_KERNELS_ELEMENTWISE_INL_H_
#endif
#include <cmath>
#include <cstring>

#include "wf/kernels/kernels.h"
#include "wf/simd/ops-inl.h"

WF_BEFORE_NAMESPACE();
namespace wf::detail {
inline namespace WF_MODE_NS {
namespace WF_NAMESPACE {

// Rounds x * scale to the nearest integer, ties to even; NaN and infinity become 0.
HWY_INLINE hn::Vec<hn::FixedTag<int32_t, kLanes>> RoundPart(VF x, VF scale) {
  const DF d;
  const VF v = hn::Mul(x, scale);
  const auto sane = hn::And(hn::Ge(v, hn::Set(d, -128.0f)), hn::Le(v, hn::Set(d, 127.5f)));
  return hn::NearestInt(hn::IfThenElseZero(sane, v));
}

HWY_NOINLINE HWY_MAYBE_UNUSED inline void Quantise(const QuantiseArgs& a) noexcept {
  const DF d;
  const hn::FixedTag<int32_t, kLanes> di;
  const hn::FixedTag<int8_t, kLanes> d8;
  V16 top = Zero16();
  size_t i = 0;
  for (; i + 16 <= a.k; i += 16) {
    const V16 v = Load16(a.x + i);
    // The running maximum comes second: where the value is a NaN it is what Max returns.
    for (size_t p = 0; p < kParts; ++p) top.v[p] = hn::Max(hn::Abs(v.v[p]), top.v[p]);
  }
  float m = Max16To1(top);
  for (size_t j = i; j < a.k; ++j) m = std::fabs(a.x[j]) > m ? std::fabs(a.x[j]) : m;
  const float scale = 127.0f / (m > 1e-5f ? m : 1e-5f);
  const block::ActOrder order = static_cast<block::ActOrder>(a.order);
  const size_t bytes = block::ActBytes(order, a.k);
  if (order == block::ActOrder::kFlat) std::memset(a.out, 0, block::I2S::kSize);
  const size_t used = order == block::ActOrder::kFlat ? block::I2S::kSize + a.k : a.k;
  std::memset(a.out + used, 0, bytes - used);

  const VF vs = hn::Set(d, scale);
  auto sum = hn::Zero(di);
  // 16 activations never straddle a segment of 32, so they stay together in every order.
  for (i = 0; i + 16 <= a.k; i += 16) {
    int8_t* out = a.out + block::ActIndex(order, i, a.k);
    for (size_t p = 0; p < kParts; ++p) {
      const auto q = RoundPart(hn::LoadU(d, a.x + i + p * kLanes), vs);
      sum = hn::Add(sum, q);
      hn::StoreU(hn::DemoteTo(d8, q), d8, out + p * kLanes);
    }
  }
  int32_t total = hn::GetLane(hn::SumOfLanes(di, sum));
  if (i < a.k) {
    float x[16] = {};
    int8_t q8[16];
    std::memcpy(x, a.x + i, (a.k - i) * sizeof(float));
    for (size_t p = 0; p < kParts; ++p) {
      const auto q = RoundPart(hn::LoadU(d, x + p * kLanes), vs);
      total += hn::GetLane(hn::SumOfLanes(di, q));
      hn::StoreU(hn::DemoteTo(d8, q), d8, q8 + p * kLanes);
    }
    for (size_t j = 0; i + j < a.k; ++j) a.out[block::ActIndex(order, i + j, a.k)] = q8[j];
  }
  *a.act_scale = scale;
  *a.sum = total;
}

HWY_NOINLINE HWY_MAYBE_UNUSED inline void RmsNorm(const RmsNormArgs& a) noexcept {
  // 16 lanes of double; a square is exact, so fused or not makes no difference.
  const hn::FixedTag<double, kLanes / 2> dd;
  const hn::FixedTag<float, kLanes / 2> df;
  constexpr size_t kDoubles = kLanes / 2, kVectors = 16 / kDoubles;
  hn::Vec<hn::FixedTag<double, kLanes / 2>> acc[kVectors];
  for (size_t v = 0; v < kVectors; ++v) acc[v] = hn::Zero(dd);
  size_t i = 0;
  for (; i + 16 <= a.n; i += 16) {
    WF_UNROLL for (size_t v = 0; v < kVectors; ++v) {
      const auto x = hn::PromoteTo(dd, hn::LoadU(df, a.x + i + v * kDoubles));
      acc[v] = hn::MulAdd(x, x, acc[v]);
    }
  }
  const size_t rest = a.n - i;
  double lane[16];
  for (size_t v = 0; v < kVectors; ++v) hn::StoreU(acc[v], dd, lane + v * kDoubles);
  for (size_t j = 0; j < rest; ++j) lane[j] += static_cast<double>(a.x[i + j]) * static_cast<double>(a.x[i + j]);
  for (size_t w = 8; w > 0; w /= 2) {
    for (size_t j = 0; j < w; ++j) lane[j] += lane[j + w];
  }
  const float inv =
      static_cast<float>(1.0 / std::sqrt(lane[0] / static_cast<double>(a.n) + static_cast<double>(a.eps)));
  const V16 vi = Set16(inv);
  for (i = 0; i + 16 <= a.n; i += 16) Store16(Mul16(Mul16(Load16(a.x + i), Load16(a.w + i)), vi), a.y + i);
  if (rest != 0) StoreN16(Mul16(Mul16(LoadN16(a.x + i, rest), LoadN16(a.w + i, rest)), vi), a.y + i, rest);
}

HWY_NOINLINE HWY_MAYBE_UNUSED inline void Rope(const RopeArgs& a) noexcept {
  for (size_t h = 0; h < a.heads; ++h) {
    float* x = a.x + h * a.head_dim;
    size_t i = 0;
    if (a.neox) {
      for (; i + 16 <= a.pairs; i += 16) {
        const V16 x0 = Load16(x + i), x1 = Load16(x + a.pairs + i), c = Load16(a.cos + i), s = Load16(a.sin + i);
        Store16(NegFma16(x1, s, Mul16(x0, c)), x + i);
        Store16(Fma16(x1, c, Mul16(x0, s)), x + a.pairs + i);
      }
    }
    for (; i < a.pairs; ++i) {
      float& x0 = a.neox ? x[i] : x[2 * i];
      float& x1 = a.neox ? x[i + a.pairs] : x[2 * i + 1];
      const float y0 = std::fma(-x1, a.sin[i], x0 * a.cos[i]);
      const float y1 = std::fma(x1, a.cos[i], x0 * a.sin[i]);
      x0 = y0;
      x1 = y1;
    }
  }
}

HWY_INLINE V16 Glu16(const V16& g, const V16& up, bool relu2) {
  if (relu2) {
    const V16 r = Max16(g, Zero16());
    return Mul16(Mul16(r, r), up);
  }
  return Mul16(Div16(g, Add16(Set16(1.0f), Exp16(Sub16(Zero16(), g)))), up);
}
HWY_NOINLINE HWY_MAYBE_UNUSED inline void Glu(const GluArgs& a) noexcept {
  size_t i = 0;
  for (; i + 16 <= a.n; i += 16) Store16(Glu16(Load16(a.gate + i), Load16(a.up + i), a.relu2), a.out + i);
  const size_t rest = a.n - i;
  if (rest != 0) StoreN16(Glu16(LoadN16(a.gate + i, rest), LoadN16(a.up + i, rest), a.relu2), a.out + i, rest);
}

HWY_NOINLINE HWY_MAYBE_UNUSED inline void AddTo(const AddArgs& a) noexcept {
  size_t i = 0;
  for (; i + 16 <= a.n; i += 16) Store16(Add16(Load16(a.y + i), Load16(a.x + i)), a.y + i);
  for (; i < a.n; ++i) a.y[i] = a.y[i] + a.x[i];
}

HWY_NOINLINE HWY_MAYBE_UNUSED inline void Softmax(const SoftmaxArgs& a) noexcept {
  V16 top = Set16(-3.402823466e38f);
  size_t i = 0;
  for (; i + 16 <= a.n; i += 16) top = Max16(Load16(a.x + i), top);
  float m = Max16To1(top);
  for (; i < a.n; ++i) m = a.x[i] > m ? a.x[i] : m;
  const V16 vm = Set16(m);
  V16 acc = Zero16();
  for (i = 0; i + 16 <= a.n; i += 16) {
    const V16 e = Exp16(Sub16(Load16(a.x + i), vm));
    if (a.p != nullptr) Store16(e, a.p + i);
    acc = Add16(acc, e);
  }
  const size_t rest = a.n - i;
  if (rest != 0) {
    float e[16];
    Store16(Exp16(Sub16(LoadN16(a.x + i, rest), vm)), e);
    for (size_t j = rest; j < 16; ++j) e[j] = 0;
    if (a.p != nullptr) std::memcpy(a.p + i, e, rest * sizeof(float));
    acc = Add16(acc, Load16(e));
  }
  const float sum = Fold16(acc);
  if (a.lse != nullptr) *a.lse = m + std::log(sum);
  if (a.p == nullptr) return;
  const float inv = 1.0f / sum;
  const V16 vi = Set16(inv);
  for (i = 0; i + 16 <= a.n; i += 16) Store16(Mul16(Load16(a.p + i), vi), a.p + i);
  for (; i < a.n; ++i) a.p[i] = a.p[i] * inv;
}

}  // namespace WF_NAMESPACE
}  // namespace WF_MODE_NS
}  // namespace wf::detail
WF_AFTER_NAMESPACE();
namespace wf::detail {
inline namespace WF_MODE_NS {
template <int>
void QuantiseKernel(isa::WF_ISA_TAG, const QuantiseArgs& a) noexcept {
  WF_NAMESPACE::Quantise(a);
}
template <int>
void RmsNormKernel(isa::WF_ISA_TAG, const RmsNormArgs& a) noexcept {
  WF_NAMESPACE::RmsNorm(a);
}
template <int>
void RopeKernel(isa::WF_ISA_TAG, const RopeArgs& a) noexcept {
  WF_NAMESPACE::Rope(a);
}
template <int>
void GluKernel(isa::WF_ISA_TAG, const GluArgs& a) noexcept {
  WF_NAMESPACE::Glu(a);
}
template <int>
void AddKernel(isa::WF_ISA_TAG, const AddArgs& a) noexcept {
  WF_NAMESPACE::AddTo(a);
}
template <int>
void SoftmaxKernel(isa::WF_ISA_TAG, const SoftmaxArgs& a) noexcept {
  WF_NAMESPACE::Softmax(a);
}
}  // namespace WF_MODE_NS
}  // namespace wf::detail
#endif  // per-ISA guard
