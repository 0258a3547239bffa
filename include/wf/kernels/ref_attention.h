// SPDX-License-Identifier: Apache-2.0
// The definition of the KV cache's storage and of attention over it, in plain C++ (see ref.h):
//   kI8       K and V of a token and head each have a scale max|x| / 127; q = x * (127 / max|x|), rounded to the
//             nearest integer, ties to even. Below kKvTiny everything is 0; a value that is no finite number makes the
//             scale a NaN;
//   scores    s_j = chain of fused multiply-adds over d of (q_d * scale) * k_jd that starts at 0; kI8: times K's scale;
//   chunks    of kKvChunk keys at absolute positions, each by itself: m = max s_j (at least -1e30), p_j = exp(s_j - m),
//             l = sum of p_j in SumOrder, o_d = chain over ascending j of p_j * v_jd (kI8: (p_j * V's scale) * v_jd)
//             that starts at 0. l also takes s_j * 0, so that a score that is no finite number spoils the row;
//   merging   chunks in ascending order: m' = max(m1, m2), l' = fma(l2, exp(m2 - m'), l1 * exp(m1 - m')), o' likewise;
//   result    o_d / l.
// Invisible keys take no part, and chunks without visible keys neither. Nothing depends on the other rows, so results
// are the same whatever the batch and however chunks are spread over threads.
#ifndef WF_KERNELS_REF_ATTENTION_H_
#define WF_KERNELS_REF_ATTENTION_H_

#include <bit>
#include <cmath>

#include "wf/base/half.h"
#include "wf/kernels/ref.h"

namespace wf::detail {
inline namespace WF_MODE_NS {

inline constexpr float kKvTiny = 1e-30f;  // 127 / x is finite above it
inline constexpr float kNoScore = -1e30f;

template <KvType T>
float LoadKvRef(const uint8_t* head, size_t i) noexcept {
  if constexpr (T == KvType::kI8) return static_cast<float>(reinterpret_cast<const int8_t*>(head)[i]);
  if constexpr (T == KvType::kF16) return F32FromF16(reinterpret_cast<const uint16_t*>(head)[i]);
  return reinterpret_cast<const float*>(head)[i];
}

// n values to head[at], head[at + step], ...; returns the scale.
template <KvType T>
float StoreKvRef(const float* x, size_t n, uint8_t* head, size_t at, size_t step) noexcept {
  float inverse = 0, scale = 0;
  if constexpr (T == KvType::kI8) {
    float top = 0, bad = 0;
    for (size_t i = 0; i < n; ++i) {
      top = std::fabs(x[i]) > top ? std::fabs(x[i]) : top;
      bad = std::fma(x[i], 0.0f, bad);
    }
    if (!(bad == 0)) {
      scale = std::bit_cast<float>(0x7fc00000u);
    } else if (top > kKvTiny) {
      scale = top / 127.0f;
      inverse = 127.0f / top;
    }
  }
  for (size_t i = 0; i < n; ++i) {
    if constexpr (T == KvType::kI8) {
      constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to the nearest integer, ties to even
      const float q = inverse == 0 ? 0 : (x[i] * inverse + kMagic) - kMagic;
      reinterpret_cast<int8_t*>(head)[at + i * step] = static_cast<int8_t>(q);
    } else if constexpr (T == KvType::kF16) {
      reinterpret_cast<uint16_t*>(head)[at + i * step] = F16FromF32(x[i]);
    } else {
      reinterpret_cast<float*>(head)[at + i * step] = x[i];
    }
  }
  return scale;
}

template <KvType T>
void KvStoreKernel(isa::Scalar, const KvStoreArgs& a) noexcept {
  uint8_t* head = static_cast<uint8_t*>(a.head);
  const float k = StoreKvRef<T>(a.k, a.head_dim, head, a.slot, kKvBlock);
  const float v = StoreKvRef<T>(a.v, a.head_dim, head, a.head_dim * kKvBlock + a.slot * KvVStride(a.head_dim), 1);
  if constexpr (T == KvType::kI8) {
    float* scales = reinterpret_cast<float*>(head + KvScales(a.head_dim, T));
    scales[a.slot] = k;
    scales[kKvBlock + a.slot] = v;
  }
}

// The state of one chunk of one query: o (head_dim values), m, l.
template <KvType T>
void AttendChunkRef(const AttentionArgs& a, const float* q, size_t visible, size_t chunk, float* o, float* m,
                    float* l) noexcept {
  const size_t dim = a.head_dim, vs = KvVStride(dim), first = chunk * kKvChunk;
  const size_t n = visible - first < kKvChunk ? visible - first : kKvChunk;
  const auto head = [&](size_t j) { return a.blocks[(first + j) / kKvBlock] + a.offset; };
  const auto scales = [&](size_t j) { return reinterpret_cast<const float*>(head(j) + KvScales(dim, T)); };
  float p[kKvChunk];
  float top = kNoScore;
  for (size_t j = 0; j < n; ++j) {
    float s = 0;
    for (size_t d = 0; d < dim; ++d) {
      s = std::fma(q[d] * a.scale, LoadKvRef<T>(head(j), d * kKvBlock + j % kKvBlock), s);
    }
    if constexpr (T == KvType::kI8) s = s * scales(j)[j % kKvBlock];
    p[j] = s;
    top = s > top ? s : top;
  }
  SumOrder sum;
  for (size_t j = 0; j < n; ++j) {
    const float e = ExpRef(p[j] - top);
    float& lane = sum.lane[j % kSumLanes];
    lane = std::fma(p[j], 0.0f, lane + e);
    p[j] = e;
    if constexpr (T == KvType::kI8) p[j] = e * scales(j)[kKvBlock + j % kKvBlock];
  }
  for (size_t d = 0; d < dim; ++d) {
    float acc = 0;
    for (size_t j = 0; j < n; ++j) {
      acc = std::fma(p[j], LoadKvRef<T>(head(j), dim * kKvBlock + j % kKvBlock * vs + d), acc);
    }
    o[d] = acc;
  }
  *m = top;
  *l = sum.Fold();
}

// Where the state of query i of a part lies.
struct AttentionState {
  float *o, *m, *l;
  AttentionState(const AttentionArgs& a, float* part, size_t i) noexcept {
    const size_t count = a.rows * a.heads, vs = KvVStride(a.head_dim);
    o = part + i * vs;
    m = part + count * vs + i;
    l = part + count * (vs + 1) + i;
  }
};

// s = s and t.
inline void MergeRef(const AttentionState& s, const AttentionState& t, size_t dim) noexcept {
  const float top = *t.m > *s.m ? *t.m : *s.m;
  const float cs = ExpRef(*s.m - top), ct = ExpRef(*t.m - top);
  *s.m = top;
  *s.l = std::fma(*t.l, ct, *s.l * cs);
  for (size_t d = 0; d < dim; ++d) s.o[d] = std::fma(t.o[d], ct, s.o[d] * cs);
}

template <KvType T>
void AttentionPartKernel(isa::Scalar, const AttentionArgs& a) noexcept {
  for (size_t i = 0; i < a.rows * a.heads; ++i) {
    const size_t r = i / a.heads, h = i % a.heads;
    if (a.visible[r] <= a.chunk * kKvChunk) continue;
    const AttentionState s(a, a.part, i);
    AttendChunkRef<T>(a, a.q + r * a.q_stride + h * a.head_dim, a.visible[r], a.chunk, s.o, s.m, s.l);
  }
}

template <int>
void AttentionMergeKernel(isa::Scalar, const AttentionArgs& a) noexcept {
  const size_t dim = a.head_dim, size = AttentionPart(a.rows, a.heads, dim);
  for (size_t i = 0; i < a.rows * a.heads; ++i) {
    const size_t r = i / a.heads, h = i % a.heads;
    const AttentionState s(a, a.part, i);
    for (size_t c = 1; c < AttentionChunks(a.visible[r]); ++c)
      MergeRef(s, AttentionState(a, a.part + c * size, i), dim);
    float* out = a.out + r * a.out_stride + h * dim;
    for (size_t d = 0; d < dim; ++d) out[d] = s.o[d] / *s.l;
  }
}

template <KvType T>
void AttentionKernel(isa::Scalar, const AttentionArgs& a) noexcept {
  for (size_t r = 0; r < a.rows; ++r) {
    AttentionArgs one = a;  // a row at a time, its parts in the place of two
    one.rows = 1;
    one.q = a.q + r * a.q_stride;
    one.out = a.out + r * a.out_stride;
    one.visible = a.visible + r;
    float* part[2] = {a.scratch, a.scratch + AttentionPart(1, a.heads, a.head_dim)};
    for (size_t c = 0; c < AttentionChunks(a.visible[r]); ++c) {
      one.chunk = c;
      one.part = part[c == 0 ? 0 : 1];
      AttentionPartKernel<T>(isa::Scalar{}, one);
      for (size_t i = 0; c > 0 && i < a.heads; ++i) {
        MergeRef(AttentionState(one, part[0], i), AttentionState(one, part[1], i), a.head_dim);
      }
    }
    for (size_t i = 0; i < a.heads; ++i) {
      const AttentionState s(one, part[0], i);
      for (size_t d = 0; d < a.head_dim; ++d) one.out[i * a.head_dim + d] = s.o[d] / *s.l;
    }
  }
}

}  // namespace WF_MODE_NS
}  // namespace wf::detail
#endif  // WF_KERNELS_REF_ATTENTION_H_
