// SPDX-License-Identifier: Apache-2.0
// The KV cache's storage and attention over it, compiled once per ISA, in the order of ref_attention.h: a chunk of
// keys at a time, first all its scores, then their exponentials, then the weighted values. K lies transposed in a
// block, so that 32 scores come out of chains of fused multiply-adds without horizontal sums. Elements are widened in
// registers, each vector for several queries (heads that share it, and rows), while the next block is prefetched:
// blocks of consecutive positions lie far apart.
#if defined(WF_KERNELS_ATTENTION_INL_H_) == defined(WF_TARGET_TOGGLE)
#ifdef WF_KERNELS_ATTENTION_INL_H_
#undef WF_KERNELS_ATTENTION_INL_H_
#else
#define WF_KERNELS_ATTENTION_INL_H_
#endif
#include <cstring>

#include "wf/kernels/kernels.h"
#include "wf/simd/ops-inl.h"

WF_BEFORE_NAMESPACE();
namespace wf::detail {
inline namespace WF_MODE_NS {
namespace WF_NAMESPACE {

template <KvType T>
HWY_INLINE V16 LoadKv16(const uint8_t* p) {
  if constexpr (T == KvType::kF32) return LoadAs16<FloatType::kF32>(p, 0);
  if constexpr (T == KvType::kF16) return LoadAs16<FloatType::kF16>(p, 0);
  V16 r;
#if HWY_TARGET <= HWY_AVX3
  r.v[0] = VF{_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
#else
  for (size_t i = 0; i < 2; ++i) {
    const __m128i b = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + 8 * i));
    r.v[i] = VF{_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(b))};
  }
#endif
  return r;
}

// 16 values (the first n of them are written) to out[0], out[step], ...
template <KvType T>
HWY_INLINE void StoreKv16(const V16& x, float inverse, size_t n, uint8_t* out, size_t step) {
  constexpr size_t kBytes = KvElementBytes(T);
  uint8_t t[16 * kBytes];
  if constexpr (T == KvType::kF32) {
    Store16(x, reinterpret_cast<float*>(t));
  } else if constexpr (T == KvType::kF16) {
    float f[16];
    Store16(x, f);
    for (size_t i = 0; i < 16; i += 8) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(t + 2 * i), _mm256_cvtps_ph(_mm256_loadu_ps(f + i), 0));
    }
  } else {
    const hn::FixedTag<int8_t, kLanes> d8;
    for (size_t i = 0; i < kParts; ++i) {
      const auto q = hn::NearestInt(hn::Mul(x.v[i], hn::Set(DF(), inverse)));
      hn::StoreU(hn::DemoteTo(d8, q), d8, reinterpret_cast<int8_t*>(t) + i * kLanes);
    }
  }
  if (step == 1) {
    std::memcpy(out, t, n * kBytes);
  } else {
    for (size_t i = 0; i < n; ++i) std::memcpy(out + i * step * kBytes, t + i * kBytes, kBytes);
  }
}

// Returns the scale.
template <KvType T>
HWY_INLINE float StoreKv(const float* x, size_t n, uint8_t* out, size_t step) {
  float inverse = 0, scale = 0;
  if constexpr (T == KvType::kI8) {
    V16 top = Zero16(), bad = Zero16();
    for (size_t i = 0; i < n; i += 16) {
      const V16 v = n - i < 16 ? LoadN16(x + i, n - i) : Load16(x + i);
      // The running maximum comes second: where the value is a NaN it is what Max returns.
      for (size_t p = 0; p < kParts; ++p) top.v[p] = hn::Max(hn::Abs(v.v[p]), top.v[p]);
      bad = Fma16(v, Zero16(), bad);
    }
    const float most = Max16To1(top);
    if (!(Fold16(bad) == 0)) {
      const uint32_t nan = 0x7fc00000u;
      std::memcpy(&scale, &nan, sizeof(scale));
    } else if (most > 1e-30f) {
      scale = most / 127.0f;
      inverse = 127.0f / most;
    }
  }
  for (size_t i = 0; i < n; i += 16) {
    const bool tail = n - i < 16;
    V16 v = tail ? LoadN16(x + i, n - i) : Load16(x + i);
    if (T == KvType::kI8 && inverse == 0) v = Zero16();
    StoreKv16<T>(v, inverse, tail ? n - i : 16, out + i * step * KvElementBytes(T), step);
  }
  return scale;
}

template <KvType T>
HWY_NOINLINE void KvStore(const KvStoreArgs& a) noexcept {
  uint8_t* head = static_cast<uint8_t*>(a.head);
  const size_t v = a.head_dim * kKvBlock + a.slot * KvVStride(a.head_dim);
  const float ks = StoreKv<T>(a.k, a.head_dim, head + a.slot * KvElementBytes(T), kKvBlock);
  const float vs = StoreKv<T>(a.v, a.head_dim, head + v * KvElementBytes(T), 1);
  if constexpr (T == KvType::kI8) {
    float* scales = reinterpret_cast<float*>(head + KvScales(a.head_dim, T));
    scales[a.slot] = ks;
    scales[kKvBlock + a.slot] = vs;
  }
}

// How far ahead of a block's K (V) another's is fetched, in the order in which they are read.
inline constexpr size_t kKvAhead = 2;
// A vector of keys is widened for up to kScoreQueries queries, one of values for up to kWeighQueries: accumulators fill
// half of the registers. Few queries take the keys of two blocks at a time, or their chains were too few to hide the
// latency of a multiply-add.
inline constexpr size_t kScoreQueries = kParts == 1 ? 8 : 4;
inline constexpr size_t kScoreQueriesOfTwo = kParts == 1 ? 4 : 0;
inline constexpr size_t kWeighQueries = 4;

// Scores of Q scaled queries with the 32 keys of each of B blocks; prefetches the rows at `ahead`.
template <KvType T, size_t Q, size_t B>
HWY_NOINLINE void ScoreBlocks(const float* q, size_t dim, const uint8_t* const* head, const uint8_t* const* ahead,
                              float* out) {
  constexpr size_t kBytes = KvElementBytes(T), kRow = kKvBlock * kBytes, kVectors = 2 / kParts;
  const uint8_t* keys[B];
  for (size_t first = 0; first < kKvBlock; first += 16 * kVectors) {
    WF_UNROLL for (size_t b = 0; b < B; ++b) keys[b] = head[b] + first * kBytes;
    V16 s[Q][B * kVectors];
    WF_UNROLL for (size_t i = 0; i < Q; ++i) { WF_UNROLL for (size_t k = 0; k < B * kVectors; ++k) s[i][k] = Zero16(); }
    for (size_t part = 0; part < B; ++part) {  // of the dims; meanwhile one of the blocks ahead is fetched
      const uint8_t* fetch = ahead[part];
      for (size_t d = part * dim / B; d < (part + 1) * dim / B; ++d, fetch += B * kRow) {
        if (first == 0) {
          for (size_t line = 0; line < B * kRow; line += 64) Prefetch(fetch + line);
        }
        V16 key[B * kVectors];
        WF_UNROLL for (size_t b = 0; b < B; ++b) {
          WF_UNROLL for (size_t k = 0; k < kVectors; ++k) {
            key[b * kVectors + k] = LoadKv16<T>(keys[b] + d * kRow + 16 * k * kBytes);
          }
        }
        WF_UNROLL for (size_t i = 0; i < Q; ++i) {
          const V16 x = Set16(q[i * dim + d]);
          WF_UNROLL for (size_t k = 0; k < B * kVectors; ++k) s[i][k] = Fma16(x, key[k], s[i][k]);
        }
      }
    }
    WF_UNROLL for (size_t b = 0; b < B; ++b) {
      WF_UNROLL for (size_t k = 0; k < kVectors; ++k) {
        const size_t at = first + 16 * k;
        V16 scale = Set16(1);
        if constexpr (T == KvType::kI8) scale = Load16(reinterpret_cast<const float*>(head[b] + KvScales(dim, T)) + at);
        WF_UNROLL for (size_t i = 0; i < Q; ++i) {
          V16 x = s[i][b * kVectors + k];
          if constexpr (T == KvType::kI8) x = Mul16(x, scale);
          Store16(x, out + i * kKvChunk + b * kKvBlock + at);
        }
      }
    }
  }
}

// The same for any number of queries up to kScoreQueries.
template <KvType T, size_t B, size_t Q = B == 1 ? kScoreQueries : kScoreQueriesOfTwo>
HWY_INLINE void ScoreQueries(size_t queries, const float* q, size_t dim, const uint8_t* const* head,
                             const uint8_t* const* ahead, float* out) {
  if constexpr (Q > 0) {
    if (queries == Q) return ScoreBlocks<T, Q, B>(q, dim, head, ahead, out);
    ScoreQueries<T, B, Q - 1>(queries, q, dim, head, ahead, out);
  }
}

// o += p . V of Q queries for dims [0, 16 * N), n keys whose rows are `row` bytes apart.
template <KvType T, size_t Q, size_t N>
HWY_INLINE void WeighDims(const float* p, const uint8_t* values, size_t row, size_t n, const uint8_t* ahead, float* o,
                          size_t stride) {
  constexpr size_t kBytes = KvElementBytes(T);
  V16 acc[Q][N];
  WF_UNROLL for (size_t i = 0; i < Q; ++i) {
    WF_UNROLL for (size_t k = 0; k < N; ++k) acc[i][k] = Load16(o + i * stride + 16 * k);
  }
  for (size_t j = 0; j < n; ++j) {
    for (size_t b = 0; b < 16 * N * kBytes; b += 64) Prefetch(ahead + j * 16 * N * kBytes + b);
    V16 weight[Q];
    WF_UNROLL for (size_t i = 0; i < Q; ++i) weight[i] = Set16(p[i * kKvChunk + j]);
    WF_UNROLL for (size_t k = 0; k < N; ++k) {
      const V16 v = LoadKv16<T>(values + j * row + 16 * k * kBytes);
      WF_UNROLL for (size_t i = 0; i < Q; ++i) acc[i][k] = Fma16(weight[i], v, acc[i][k]);
    }
  }
  WF_UNROLL for (size_t i = 0; i < Q; ++i) {
    WF_UNROLL for (size_t k = 0; k < N; ++k) Store16(acc[i][k], o + i * stride + 16 * k);
  }
}

// All dims of a block.
template <KvType T, size_t Q>
HWY_NOINLINE void WeighBlock(const float* p, size_t dim, const uint8_t* values, size_t n, const uint8_t* ahead,
                             float* o) {
  constexpr size_t kBytes = KvElementBytes(T), kVectors = kParts == 1 ? 4 : 1;
  const size_t vs = KvVStride(dim), row = vs * kBytes;
  size_t d = 0;
  for (; d + 16 * kVectors <= vs; d += 16 * kVectors) {
    WeighDims<T, Q, kVectors>(p, values + d * kBytes, row, n, ahead + d * kKvBlock * kBytes, o + d, vs);
  }
  for (; d < vs; d += 16) WeighDims<T, Q, 1>(p, values + d * kBytes, row, n, ahead + d * kKvBlock * kBytes, o + d, vs);
}

template <KvType T, size_t Q = kWeighQueries>
HWY_INLINE void WeighQueries(size_t queries, const float* p, size_t dim, const uint8_t* values, size_t n,
                             const uint8_t* ahead, float* o) {
  if (queries == Q) return WeighBlock<T, Q>(p, dim, values, n, ahead, o);
  if constexpr (Q > 1) WeighQueries<T, Q - 1>(queries, p, dim, values, n, ahead, o);
}

// Turns the n scores of a chunk into weights; *m the greatest, *l the sum of exponentials.
template <KvType T>
HWY_INLINE void Exponentials(const AttentionArgs& a, size_t first, size_t n, float* s, float* m, float* l) {
  const size_t end = AlignUp(n, 16);
  for (size_t j = n; j < end; ++j) s[j] = -3.0e38f;  // exp() of it is exactly 0
  V16 top = Set16(-1e30f);
  for (size_t j = 0; j < end; j += 16) top = Max16(Load16(s + j), top);  // a NaN gives what stands second
  *m = Max16To1(top);
  top = Set16(*m);
  V16 sum = Zero16();
  for (size_t j = 0; j < end; j += 16) {
    const V16 x = Load16(s + j);
    V16 e = Exp16(Sub16(x, top));
    sum = Fma16(x, Zero16(), Add16(sum, e));
    if constexpr (T == KvType::kI8) {
      const uint8_t* head = a.blocks[(first + j) / kKvBlock] + a.offset;
      const float* scales = reinterpret_cast<const float*>(head + KvScales(a.head_dim, T)) + kKvBlock;
      e = Mul16(e, Load16(scales + j % kKvBlock));
    }
    Store16(e, s + j);
  }
  *l = Fold16(sum);
}

struct State {  // of a part
  float *o, *m, *l;
};
HWY_INLINE State StateOf(const AttentionArgs& a, float* part) {
  const size_t count = a.rows * a.heads, vs = KvVStride(a.head_dim);
  return {part, part + count * vs, part + count * (vs + 1)};
}

// How many keys of [first, first + most) row r sees.
HWY_INLINE size_t Seen(const AttentionArgs& a, size_t r, size_t first, size_t most) {
  if (a.visible[r] <= first) return 0;
  return a.visible[r] - first < most ? a.visible[r] - first : most;
}

// The state of one chunk. q: the scaled queries; scores: rows * heads * kKvChunk floats.
template <KvType T>
HWY_NOINLINE void AttendChunk(const AttentionArgs& a, size_t chunk, const float* q, float* scores, float* part) {
  const size_t dim = a.head_dim, vs = KvVStride(dim), count = a.rows * a.heads, first = chunk * kKvChunk;
  const State state = StateOf(a, part);
  size_t last = 0;  // keys that some row sees
  for (size_t r = 0; r < a.rows; ++r) last = a.visible[r] > last ? a.visible[r] : last;
  const size_t most = last - first < kKvChunk ? last - first : kKvChunk;
  const size_t blocks = (most + kKvBlock - 1) / kKvBlock, v_at = dim * kKvBlock * KvElementBytes(T);
  // Where the blocks' K lie, then their V: the order in which they are read. Past the end the next chunk's K follows if
  // it is this thread that will read it, else the last V stands for it.
  const uint8_t* region[2 * kKvChunk / kKvBlock + kKvAhead];
  for (size_t b = 0; b < blocks; ++b) {
    region[b] = a.blocks[first / kKvBlock + b] + a.offset;
    region[blocks + b] = region[b] + v_at;
  }
  for (size_t i = 0; i < kKvAhead; ++i) {
    const bool next = a.part == nullptr && last > first + kKvChunk + i * kKvBlock;
    region[2 * blocks + i] = next ? a.blocks[first / kKvBlock + blocks + i] + a.offset : region[2 * blocks - 1];
  }
  for (size_t b = 0; b < blocks;) {
    const size_t pair = count <= kScoreQueriesOfTwo && b + 1 < blocks ? 2 : 1;
    if constexpr (T == KvType::kI8) {
      for (size_t i = b + 1; i <= b + pair && i < blocks; ++i) {
        for (size_t at = KvScales(dim, T); at < KvHeadBytes(dim, T); at += 64) Prefetch(region[i] + at);
      }
    }
    float* out = scores + b * kKvBlock;
    for (size_t i = 0; i < count;) {
      if (Seen(a, i / a.heads, first + b * kKvBlock, pair * kKvBlock) == 0) {
        i += a.heads - i % a.heads;
        continue;
      }
      if (pair == 2) {
        ScoreQueries<T, 2>(count, q, dim, region + b, region + b + kKvAhead, out);
        break;
      }
      const size_t queries = count - i < kScoreQueries ? count - i : kScoreQueries;
      ScoreQueries<T, 1>(queries, q + i * dim, dim, region + b, region + b + kKvAhead, out + i * kKvChunk);
      i += queries;
    }
    b += pair;
  }
  for (size_t i = 0; i < count; ++i) {
    const size_t n = Seen(a, i / a.heads, first, kKvChunk);
    if (n == 0) continue;
    Exponentials<T>(a, first, n, scores + i * kKvChunk, state.m + i, state.l + i);
    std::memset(state.o + i * vs, 0, vs * sizeof(float));
  }
  for (size_t b = 0; b < blocks; ++b) {
    for (size_t i = 0; i < count;) {
      const size_t n = Seen(a, i / a.heads, first + b * kKvBlock, kKvBlock);
      size_t queries = 1;  // as many as see the same keys
      while (queries < kWeighQueries && i + queries < count &&
             Seen(a, (i + queries) / a.heads, first + b * kKvBlock, kKvBlock) == n) {
        ++queries;
      }
      if (n != 0) {
        WeighQueries<T>(queries, scores + i * kKvChunk + b * kKvBlock, dim, region[blocks + b], n,
                        region[blocks + b + kKvAhead], state.o + i * vs);
      }
      i += queries;
    }
  }
}

HWY_INLINE float Exp1(float x) {
  float t[16];
  Store16(Exp16(Set16(x)), t);
  return t[0];
}

// Query i of part s = s and t.
HWY_INLINE void Merge(const State& s, const State& t, size_t i, size_t vs) {
  const float top = t.m[i] > s.m[i] ? t.m[i] : s.m[i];
  const float cs = Exp1(s.m[i] - top), ct = Exp1(t.m[i] - top);
  s.m[i] = top;
  s.l[i] = hn::GetLane(hn::MulAdd(hn::Set(DF(), t.l[i]), hn::Set(DF(), ct), hn::Set(DF(), s.l[i] * cs)));
  const V16 vcs = Set16(cs), vct = Set16(ct);
  for (size_t d = i * vs; d < (i + 1) * vs; d += 16) {
    Store16(Fma16(Load16(t.o + d), vct, Mul16(Load16(s.o + d), vcs)), s.o + d);
  }
}

HWY_INLINE void Finish(const AttentionArgs& a, const State& s, size_t i) {
  const size_t dim = a.head_dim;
  float* out = a.out + i / a.heads * a.out_stride + i % a.heads * dim;
  const float* o = s.o + i * KvVStride(dim);
  const V16 l = Set16(s.l[i]);
  size_t d = 0;
  for (; d + 16 <= dim; d += 16) Store16(Div16(Load16(o + d), l), out + d);
  if (d < dim) StoreN16(Div16(Load16(o + d), l), out + d, dim - d);
}

HWY_INLINE void ScaleQueries(const AttentionArgs& a, float* q) {
  for (size_t r = 0; r < a.rows; ++r) {
    for (size_t i = 0; i < a.heads * a.head_dim; ++i) *q++ = a.q[r * a.q_stride + i] * a.scale;
  }
}

template <KvType T>
HWY_NOINLINE void Attention(const AttentionArgs& a) noexcept {
  const size_t count = a.rows * a.heads;
  float* q = a.scratch;
  float* scores = q + count * a.head_dim;
  float* part = scores + count * kKvChunk;
  float* next = part + AttentionPart(a.rows, a.heads, a.head_dim);
  ScaleQueries(a, q);
  uint32_t most = 0;
  for (size_t r = 0; r < a.rows; ++r) most = a.visible[r] > most ? a.visible[r] : most;
  AttendChunk<T>(a, 0, q, scores, part);
  const State s = StateOf(a, part), t = StateOf(a, next);
  for (size_t c = 1; c < AttentionChunks(most); ++c) {
    AttendChunk<T>(a, c, q, scores, next);
    for (size_t i = 0; i < count; ++i) {
      if (c < AttentionChunks(a.visible[i / a.heads])) Merge(s, t, i, KvVStride(a.head_dim));
    }
  }
  for (size_t i = 0; i < count; ++i) Finish(a, s, i);
}

template <KvType T>
HWY_NOINLINE void AttentionOfChunk(const AttentionArgs& a) noexcept {
  ScaleQueries(a, a.scratch);
  AttendChunk<T>(a, a.chunk, a.scratch, a.scratch + a.rows * a.heads * a.head_dim, a.part);
}

HWY_NOINLINE HWY_MAYBE_UNUSED inline void AttentionMerge(const AttentionArgs& a) noexcept {
  const size_t size = AttentionPart(a.rows, a.heads, a.head_dim);
  const State s = StateOf(a, a.part);
  for (size_t i = 0; i < a.rows * a.heads; ++i) {
    for (size_t c = 1; c < AttentionChunks(a.visible[i / a.heads]); ++c) {
      Merge(s, StateOf(a, a.part + c * size), i, KvVStride(a.head_dim));
    }
    Finish(a, s, i);
  }
}

}  // namespace WF_NAMESPACE
}  // namespace WF_MODE_NS
}  // namespace wf::detail
WF_AFTER_NAMESPACE();
namespace wf::detail {
inline namespace WF_MODE_NS {
template <KvType T>
void KvStoreKernel(isa::WF_ISA_TAG, const KvStoreArgs& a) noexcept {
  WF_NAMESPACE::KvStore<T>(a);
}
template <KvType T>
void AttentionKernel(isa::WF_ISA_TAG, const AttentionArgs& a) noexcept {
  WF_NAMESPACE::Attention<T>(a);
}
template <KvType T>
void AttentionPartKernel(isa::WF_ISA_TAG, const AttentionArgs& a) noexcept {
  WF_NAMESPACE::AttentionOfChunk<T>(a);
}
template <int>
void AttentionMergeKernel(isa::WF_ISA_TAG, const AttentionArgs& a) noexcept {
  WF_NAMESPACE::AttentionMerge(a);
}
}  // namespace WF_MODE_NS
}  // namespace wf::detail
#endif  // per-ISA guard
