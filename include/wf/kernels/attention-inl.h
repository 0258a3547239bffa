// SPDX-License-Identifier: Apache-2.0
// Attention over paged K/V, compiled once per ISA: one pass over absolute blocks of 32 keys with an online
// softmax, as ref.h defines. K lies transposed in a block, so that 32 scores come out of chains of fused
// multiply-adds without horizontal sums; a block is widened to f32 once for all rows and heads that share it.
#if defined(WF_KERNELS_ATTENTION_INL_H_) == defined(WF_TARGET_TOGGLE)
#ifdef WF_KERNELS_ATTENTION_INL_H_
#undef WF_KERNELS_ATTENTION_INL_H_
#else
#define WF_KERNELS_ATTENTION_INL_H_
#endif
#include "wf/kernels/kernels.h"
#include "wf/simd/ops-inl.h"

WF_BEFORE_NAMESPACE();
namespace wf::detail {
inline namespace WF_MODE_NS {
namespace WF_NAMESPACE {

template <FloatType F>
HWY_NOINLINE void KvStore(const KvStoreArgs& a) noexcept {
  const size_t v = a.head_dim * kKvBlock + a.slot * KvVStride(a.head_dim);
  if constexpr (F == FloatType::kF32) {
    float* head = static_cast<float*>(a.head);
    for (size_t d = 0; d < a.head_dim; ++d) head[d * kKvBlock + a.slot] = a.k[d];
    std::memcpy(head + v, a.v, a.head_dim * sizeof(float));
  } else {
    static_assert(F == FloatType::kF16);
    uint16_t* head = static_cast<uint16_t*>(a.head);
    for (size_t d = 0; d < a.head_dim; d += 8) {
      const size_t n = a.head_dim - d < 8 ? a.head_dim - d : 8;
      float x[2][8] = {};
      uint16_t h[2][8];
      std::memcpy(x[0], a.k + d, n * sizeof(float));
      std::memcpy(x[1], a.v + d, n * sizeof(float));
      for (int i = 0; i < 2; ++i) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(h[i]), _mm256_cvtps_ph(_mm256_loadu_ps(x[i]), 0));
      }
      for (size_t j = 0; j < n; ++j) head[(d + j) * kKvBlock + a.slot] = h[0][j];
      std::memcpy(head + v + d, h[1], n * 2);
    }
  }
}

// Scores of Q query vectors (scaled, `stride` apart) with the 32 keys of a widened block.
template <int Q>
HWY_INLINE void Scores(const float* q, size_t stride, const float* keys, size_t dim, float* out) {
  V16 s[Q][2];
  WF_UNROLL for (int i = 0; i < Q; ++i) s[i][0] = s[i][1] = Zero16();
  for (size_t d = 0; d < dim; ++d) {
    const V16 k0 = Load16(keys + d * kKvBlock), k1 = Load16(keys + d * kKvBlock + 16);
    WF_UNROLL for (int i = 0; i < Q; ++i) {
      const V16 b = Set16(q[static_cast<size_t>(i) * stride + d]);
      s[i][0] = Fma16(b, k0, s[i][0]);
      s[i][1] = Fma16(b, k1, s[i][1]);
    }
  }
  WF_UNROLL for (int i = 0; i < Q; ++i) {
    Store16(s[i][0], out + static_cast<size_t>(i) * kKvBlock);
    Store16(s[i][1], out + static_cast<size_t>(i) * kKvBlock + 16);
  }
}

// o = o * c + p . V for dims [d, d + 16 * N), n keys.
template <size_t N>
HWY_INLINE void Weigh(const float* p, float c, const float* values, size_t stride, size_t n, float* o) {
  V16 acc[N];
  const V16 vc = Set16(c);
  WF_UNROLL for (size_t i = 0; i < N; ++i) acc[i] = Mul16(Load16(o + 16 * i), vc);
  for (size_t j = 0; j < n; ++j) {
    const V16 b = Set16(p[j]);
    WF_UNROLL for (size_t i = 0; i < N; ++i) acc[i] = Fma16(b, Load16(values + j * stride + 16 * i), acc[i]);
  }
  WF_UNROLL for (size_t i = 0; i < N; ++i) Store16(acc[i], o + 16 * i);
}

template <FloatType F>
HWY_NOINLINE void Attention(const AttentionArgs& a) noexcept {
  constexpr size_t kElement = F == FloatType::kF32 ? 4 : 2;
  constexpr int Q = 4;  // query vectors at a time: 8 chains of FMA hide their latency
  const size_t dim = a.head_dim, vs = KvVStride(dim), count = a.rows * a.heads;
  float* keys = a.scratch;                // dim x 32
  float* values = keys + dim * kKvBlock;  // 32 x vs
  float* q = values + kKvBlock * vs;      // count x dim, scaled
  float* o = q + count * dim;             // count x vs
  float* m = o + count * vs;
  float* l = m + count;
  float* p = l + count;  // Q x 32, in the tail of the scratch
  uint32_t most = 0;
  for (size_t r = 0; r < a.rows; ++r) {
    most = a.visible[r] > most ? a.visible[r] : most;
    for (size_t h = 0; h < a.heads; ++h) {
      const size_t i = r * a.heads + h;
      const float* src = a.q + r * a.q_stride + h * dim;
      for (size_t d = 0; d < dim; ++d) q[i * dim + d] = src[d] * a.scale;
      std::memset(o + i * vs, 0, vs * sizeof(float));
      m[i] = -1e30f;
      l[i] = 0;
    }
  }
  for (size_t first = 0; first < most; first += kKvBlock) {
    const uint8_t* head = a.blocks[first / kKvBlock] + a.offset;
    for (size_t i = 0; i < dim * kKvBlock; i += 16) Store16(LoadAs16<F>(head, i), keys + i);
    const uint8_t* hv = head + dim * kKvBlock * kElement;
    for (size_t i = 0; i < kKvBlock * vs; i += 16) Store16(LoadAs16<F>(hv, i), values + i);

    for (size_t i = 0; i < count; i += Q) {
      const size_t batch = count - i < Q ? count - i : Q;
      if (batch == Q) {
        Scores<Q>(q + i * dim, dim, keys, dim, p);
      } else {
        for (size_t j = 0; j < batch; ++j) Scores<1>(q + (i + j) * dim, dim, keys, dim, p + j * kKvBlock);
      }
      for (size_t b = 0; b < batch; ++b) {
        const size_t at = i + b, row = at / a.heads;
        if (a.visible[row] <= first) continue;
        const size_t n = a.visible[row] - first < kKvBlock ? a.visible[row] - first : kKvBlock;
        float* s = p + b * kKvBlock;
        for (size_t j = n; j < kKvBlock; ++j) s[j] = -3.0e38f;  // exp() of it is exactly 0
        V16 s0 = Load16(s), s1 = Load16(s + 16);
        const float peak = Max16To1(Max16(s0, s1));
        const float top = peak > m[at] ? peak : m[at];
        const V16 vt = Set16(top);
        s0 = Exp16(Sub16(s0, vt));
        s1 = Exp16(Sub16(s1, vt));
        Store16(s0, s);
        Store16(s1, s + 16);
        float c;
        {
          float t[16];
          Store16(Exp16(Set16(m[at] - top)), t);
          c = t[0];
        }
        l[at] = hn::GetLane(hn::MulAdd(hn::Set(DF(), l[at]), hn::Set(DF(), c), hn::Set(DF(), Fold16(Add16(s0, s1)))));
        m[at] = top;
        float* out = o + at * vs;
        size_t d = 0;
        for (; d + 64 <= vs; d += 64) Weigh<4>(s, c, values + d, vs, n, out + d);
        for (; d < vs; d += 16) Weigh<1>(s, c, values + d, vs, n, out + d);
      }
    }
  }
  for (size_t r = 0; r < a.rows; ++r) {
    for (size_t h = 0; h < a.heads; ++h) {
      const size_t i = r * a.heads + h;
      float* out = a.out + r * a.out_stride + h * dim;
      for (size_t d = 0; d < dim; ++d) out[d] = o[i * vs + d] / l[i];
    }
  }
}

}  // namespace WF_NAMESPACE
}  // namespace WF_MODE_NS
}  // namespace wf::detail
WF_AFTER_NAMESPACE();
namespace wf::detail {
inline namespace WF_MODE_NS {
template <FloatType F>
void KvStoreKernel(isa::WF_ISA_TAG, const KvStoreArgs& a) noexcept {
  WF_NAMESPACE::KvStore<F>(a);
}
template <FloatType F>
void AttentionKernel(isa::WF_ISA_TAG, const AttentionArgs& a) noexcept {
  WF_NAMESPACE::Attention<F>(a);
}
}  // namespace WF_MODE_NS
}  // namespace wf::detail
#endif  // per-ISA guard
