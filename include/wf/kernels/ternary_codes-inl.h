// SPDX-License-Identifier: Apache-2.0
// Ternary products of several tokens over any packed type, compiled once per ISA: chunks of some rows are decoded to
// one code a byte (decode-inl.h), then multiplied with all tokens whose activations stay in L2: eight rows as they lie,
// or where many tokens share the work, 32 in the order of ternary_panel-inl.h. Everything but the decoding is shared by
// the types, so that one more costs little to compile.
#if defined(WF_KERNELS_TERNARY_CODES_INL_H_) == defined(WF_TARGET_TOGGLE)
#ifdef WF_KERNELS_TERNARY_CODES_INL_H_
#undef WF_KERNELS_TERNARY_CODES_INL_H_
#else
#define WF_KERNELS_TERNARY_CODES_INL_H_
#endif
#include <cstring>

#include "wf/kernels/decode-inl.h"
#include "wf/kernels/kernels.h"
#include "wf/kernels/lowrank-inl.h"
#include "wf/kernels/ternary_panel-inl.h"
#include "wf/simd/ops-inl.h"

WF_BEFORE_NAMESPACE();
namespace wf::detail {
inline namespace WF_MODE_NS {
namespace WF_NAMESPACE {

// Block types that go through this file: the packed ones.
template <class Block>
inline constexpr bool kDecoded = requires {
  Block::kScaleSize;
};

inline constexpr size_t kCodesRows = 8;      // decoded together
inline constexpr size_t kStoreRows = 16;     // whose results are stored together: a cache line of each token
inline constexpr size_t kCodesChunk = 2816;  // columns at most: eight rows of codes and some activations fit L1
inline constexpr size_t kCodesStride = kCodesChunk + 64;  // rows not a power of two apart
inline constexpr size_t kCodesTokens = 264;               // that share a decoding at most
// Tokens side by side: 24 sums, four vectors of codes and one of activations fit 32 registers.
inline constexpr int kCodesTile = !kManyRegisters ? 2 : WF_ISA_VNNI ? 6 : 4;

using DF4 = hn::FixedTag<float, 4>;
using DI4 = hn::FixedTag<int32_t, 4>;

struct CodesBuffer {
  alignas(64) uint8_t code[kCodesRows * kCodesStride];
};
struct CodesDots {
  alignas(64) int32_t dot[kCodesTokens][kStoreRows];
};

// acc + the products of a vector of codes and one of activations.
HWY_INLINE hn::Vec<DI32> DotCodes(VU8 c, VI8 x, hn::Vec<DI32> acc) {
#if WF_ISA_VNNI
  return Dot4(c, x, acc);
#else
  return Widen2(Dot2(c, x), acc);
#endif
}

// Sums of products of the four rows' codes (n columns, a multiple of kVecBytes) with T tokens.
template <int T>
struct CodesAcc {
  hn::Vec<DI32> sum[4][T];
#if WF_ISA_VNNI
  HWY_INLINE void Step(const uint8_t* codes, const int8_t* x, size_t x_stride) {
    VU8 c[4];
    WF_UNROLL for (int r = 0; r < 4; ++r) c[r] = hn::Load(DU8(), codes + static_cast<size_t>(r) * kCodesStride);
    WF_UNROLL for (int t = 0; t < T; ++t) {
      const VI8 v = hn::LoadU(DI8(), x + static_cast<size_t>(t) * x_stride);
      WF_UNROLL for (int r = 0; r < 4; ++r) sum[r][t] = Dot4(c[r], v, sum[r][t]);
    }
  }
#endif
  HWY_INLINE void Run(const uint8_t* codes, size_t n, const int8_t* x, size_t x_stride) {
    WF_UNROLL for (int r = 0; r < 4; ++r) { WF_UNROLL for (int t = 0; t < T; ++t) sum[r][t] = hn::Zero(DI32()); }
#if WF_ISA_VNNI
    size_t i = 0;
    for (; i + 4 * kVecBytes <= n; i += 4 * kVecBytes) {  // few rounds, whose end the CPU foresees
      WF_UNROLL for (size_t j = 0; j < 4 * kVecBytes; j += kVecBytes) Step(codes + i + j, x + i + j, x_stride);
    }
    for (; i < n; i += kVecBytes) Step(codes + i, x + i, x_stride);
#else
    constexpr size_t kPart = 32 * kVecBytes;  // 32 * 768 < 32768: what an i16 sum holds
    for (size_t i = 0; i < n;) {
      const size_t stop = n - i < kPart ? n : i + kPart;
      hn::Vec<DI16> part[4][T];
      WF_UNROLL for (int r = 0; r < 4; ++r) { WF_UNROLL for (int t = 0; t < T; ++t) part[r][t] = hn::Zero(DI16()); }
      for (; i < stop; i += kVecBytes) {
        VI8 v[T];
        WF_UNROLL for (int t = 0; t < T; ++t) v[t] = hn::LoadU(DI8(), x + static_cast<size_t>(t) * x_stride + i);
        WF_UNROLL for (int r = 0; r < 4; ++r) {
          const VU8 c = hn::Load(DU8(), codes + static_cast<size_t>(r) * kCodesStride + i);
          WF_UNROLL for (int t = 0; t < T; ++t) part[r][t] = hn::Add(part[r][t], Dot2(c, v[t]));
        }
      }
      WF_UNROLL for (int r = 0; r < 4; ++r) {
        WF_UNROLL for (int t = 0; t < T; ++t) sum[r][t] = Widen2(part[r][t], sum[r][t]);
      }
    }
#endif
  }
};

// dots[t * kStoreRows + r] = the sums of four rows and T tokens, or += with kAdd.
template <int T, bool kAdd>
HWY_INLINE void AddCodesTile(const uint8_t* codes, size_t n, const int8_t* x, size_t x_stride, int32_t* dots) {
  CodesAcc<T> acc;
  acc.Run(codes, n, x, x_stride);
  WF_UNROLL for (int t = 0; t < T; ++t) {
    int32_t s[4];
    Sum4(acc.sum[0][t], acc.sum[1][t], acc.sum[2][t], acc.sum[3][t], s);
    int32_t* d = dots + static_cast<size_t>(t) * kStoreRows;
    hn::StoreU(kAdd ? hn::Add(hn::LoadU(DI4(), d), hn::LoadU(DI4(), s)) : hn::LoadU(DI4(), s), DI4(), d);
  }
}

// The functions below are templates only because of the headers they live in: see TernaryGemv.
template <int T, bool kAdd>
HWY_INLINE void AddCodesTiles(const CodesBuffer& b, size_t rows, size_t n, const int8_t* x, size_t x_stride,
                              size_t tokens, int32_t* dots, size_t* t) {
  // Four rows after the other for each tile of tokens, so that these come from L2 once.
  for (; *t + T <= tokens; *t += T) {
    for (size_t r = 0; r < rows; r += 4) {
      AddCodesTile<T, kAdd>(b.code + r * kCodesStride, n, x + *t * x_stride, x_stride, dots + *t * kStoreRows + r);
    }
  }
}
template <bool kAdd>
HWY_NOINLINE void AddCodes(const CodesBuffer& b, size_t rows, size_t n, const int8_t* x, size_t x_stride, size_t tokens,
                           int32_t* dots) {
  size_t t = 0;
  AddCodesTiles<kCodesTile, kAdd>(b, rows, n, x, x_stride, tokens, dots, &t);
  if constexpr (kCodesTile > 4) AddCodesTiles<4, kAdd>(b, rows, n, x, x_stride, tokens, dots, &t);
  if constexpr (kCodesTile > 2) AddCodesTiles<2, kAdd>(b, rows, n, x, x_stride, tokens, dots, &t);
  AddCodesTiles<1, kAdd>(b, rows, n, x, x_stride, tokens, dots, &t);
}

// a != b, true where one is no number (Highway's Ne() differs between targets there).
HWY_INLINE hn::Mask<DF4> Differ(hn::Vec<DF4> a, hn::Vec<DF4> b) { return hn::Not(hn::Eq(a, b)); }

// What each row begins with: low-rank term and bias.
template <int Rank>
HWY_INLINE hn::Vec<DF4> CodesAddend(const TernaryArgs& a, size_t row, size_t rows, size_t t) {
  float add[4] = {};
  if (Rank != 0 || a.bias != nullptr) {
    for (size_t i = 0; i < rows; ++i) add[i] = Addend<Rank>(a, a.lrc_rank, row + i, t);
  }
  return hn::LoadU(DF4(), add);
}
HWY_INLINE void StoreCodes(const TernaryArgs& a, size_t row, size_t rows, size_t t, hn::Vec<DF4> y) {
  float* out = a.y + t * a.y_stride + row;
  if (rows == 4) return hn::StoreU(y, DF4(), out);
  float v[4];
  hn::StoreU(y, DF4(), v);
  for (size_t i = 0; i < rows; ++i) out[i] = v[i];
}
// One run: fma(dot / act_scale, d * w_scale, y), where `rows` is set.
HWY_INLINE hn::Vec<DF4> AddRun(const TernaryArgs& a, size_t t, hn::Vec<DI4> dot, hn::Vec<DF4> d, hn::Mask<DF4> rows,
                               hn::Vec<DF4> y) {
  const auto v = hn::Div(hn::ConvertTo(DF4(), dot), hn::Set(DF4(), a.act_scale[t]));
  return hn::IfThenElse(rows, hn::MulAdd(v, hn::Mul(d, hn::Set(DF4(), a.w_scale)), y), y);
}

// Up to four rows of one run at most: d is 0 for those that have none; dots: kStride a token.
HWY_INLINE void StoreRun(const TernaryArgs& a, size_t row, size_t rows, size_t t, hn::Vec<DF4> d, const int32_t* dots,
                         hn::Vec<DF4> add) {
  const auto dot = hn::Sub(hn::LoadU(DI4(), dots), hn::Set(DI4(), a.x_sum[t]));
  StoreCodes(a, row, rows, t, AddRun(a, t, dot, d, Differ(d, hn::Zero(DF4())), add));
}
template <int Rank, size_t kStride>
HWY_INLINE void StoreOneRun(const TernaryArgs& a, size_t row, size_t rows, size_t t0, size_t tokens, const float* d,
                            const int32_t* dots) {
  const auto d4 = hn::LoadU(DF4(), d);
  constexpr size_t T = HWY_TARGET <= HWY_AVX3 ? 4 : 1;  // tokens that share the rows of the low-rank term
  size_t i = 0;
  if (Rank != 0 && rows == 4) {
    for (; i + T <= tokens; i += T) {
      hn::Vec<DF4> add[T];
      Addend4<Rank, static_cast<int>(T)>(a, a.lrc_rank, row, t0 + i, add);
      WF_UNROLL for (size_t j = 0; j < T; ++j) {
        StoreRun(a, row, rows, t0 + i + j, d4, dots + (i + j) * kStride, add[j]);
      }
    }
  }
  for (; i < tokens; ++i) {
    StoreRun(a, row, rows, t0 + i, d4, dots + i * kStride, CodesAddend<Rank>(a, row, rows, t0 + i));
  }
}

// Sixteen rows of one run at most, dots kStride a token: the same, a cache line of y at a time.
template <int Rank, size_t kStride = kStoreRows>
HWY_INLINE void StoreOneRuns(const TernaryArgs& a, size_t row, size_t rows, size_t t0, size_t tokens, const float* d,
                             const int32_t* dots) {
  if (Rank != 0 || rows != kStoreRows) {
    for (size_t r = 0; r < rows; r += 4) {
      StoreOneRun<Rank, kStride>(a, row + r, rows - r < 4 ? rows - r : 4, t0, tokens, d + r, dots + r);
    }
    return;
  }
  const DF df;
  const hn::RebindToSigned<DF> di;
  const V16 d16 = Load16(d), scale = Mul16(d16, Set16(a.w_scale));
  V16 add = Zero16();
  if (a.bias != nullptr) add = Add16(add, Load16(a.bias + row));  // -0 becomes 0, as everywhere
  for (size_t i = 0; i < tokens; ++i, dots += kStride) {
    const auto sum = hn::Set(di, a.x_sum[t0 + i]);
    const VF act = hn::Set(df, a.act_scale[t0 + i]);
    V16 y;
    for (size_t p = 0; p < kParts; ++p) {
      const VF v = hn::Div(hn::ConvertTo(df, hn::Sub(hn::LoadU(di, dots + p * kLanes), sum)), act);
      const auto none = hn::Eq(d16.v[p], hn::Zero(df));
      y.v[p] = hn::IfThenElse(none, add.v[p], hn::MulAdd(v, scale.v[p], add.v[p]));
    }
    Store16(y, a.y + (t0 + i) * a.y_stride + row);
  }
}

// --- stored scales ------------------------------------------------------------------------------------------

// Bits of the f16 scale of the block at `col`, for types that have one a block.
template <class Block>
HWY_INLINE uint16_t ScaleBits(const uint8_t* w, size_t k, size_t row, size_t col) {
  constexpr bool kLast = Block::kType == TensorType::kTQ1_0 || Block::kType == TensorType::kTQ2_0;
  return LoadLe<uint16_t>(Block::Block(w, k, row, col) + (kLast ? Block::kBytes - 2 : 0));
}
HWY_INLINE bool IsZero(uint16_t f16) { return (f16 & 0x7fffu) == 0; }

// The one scale of a row, 0 if all are. False: there are several. *zeros: some blocks have scale 0.
template <class Block>
HWY_INLINE bool OneScale(const uint8_t* w, size_t k, size_t row, float* d, bool* zeros) {
  if constexpr (Block::kScaleSize == 0) {
    *d = Block::Scale(w, k, row, 0);
    return true;
  } else {
    uint16_t bits = ScaleBits<Block>(w, k, row, 0);
    uint32_t different = 0;  // most rows that have one scale have it everywhere
    for (size_t c = 0; c < k; c += Block::kScaleSize) different |= bits ^ uint32_t { ScaleBits<Block>(w, k, row, c) };
    *d = F16ToF32(bits);
    if (different == 0 && !IsZero(bits)) return true;
    bits = 0;
    for (size_t c = 0; c < k; c += Block::kScaleSize) {
      const uint16_t next = ScaleBits<Block>(w, k, row, c);
      if (IsZero(next)) {
        *zeros = true;
      } else if (bits == 0) {
        bits = next;
      } else if (next != bits) {
        return false;
      }
    }
    *d = F16ToF32(bits);
    return true;
  }
}

// n columns from `col` of `rows` rows, codes `stride` bytes apart; zeros up to the next multiple of 64. With `blank`,
// blocks of scale 0 get the code of weight 0.
template <class Block>
HWY_INLINE void DecodeChunk(const TernaryArgs& a, size_t row, size_t rows, size_t col, size_t n, bool blank,
                            uint8_t* codes, size_t stride = kCodesStride) {
  const uint8_t* w = static_cast<const uint8_t*>(a.w);
  for (size_t r = 0; r < rows; ++r) {
    uint8_t* out = codes + r * stride;
    DecodeRow(Block(), w, a.k, row + r, col, n, out);
    if (n % 64 != 0) std::memset(out + n, 0, 64 - n % 64);
    if constexpr (Block::kScaleSize != 0) {
      if (!blank) continue;
      for (size_t c = 0; c < n; c += Block::kScaleSize) {
        if (IsZero(ScaleBits<Block>(w, a.k, row + r, col + c))) std::memset(out + c, 1, Block::kScaleSize);
      }
    }
  }
}

// The same of kPanelRows rows in the panel's order.
template <class Block>
HWY_NOINLINE void DecodePanelChunk(const TernaryArgs& a, size_t row, size_t col, size_t n, bool blank, uint8_t* out) {
  size_t c = 0;
  if constexpr (Block::kType == TensorType::kI2_S || Block::kType == TensorType::kTQ2_0) {
    constexpr bool kI2s = Block::kType == TensorType::kI2_S;
    constexpr size_t kBytes = kI2s ? 64 : block::TQ2_0::kBytes;  // of 256 columns
    const uint8_t* w = static_cast<const uint8_t*>(a.w) + row * (a.k / 128) * (kBytes / 2) + col / 256 * kBytes;
    for (; !blank && c + 256 <= n; c += 256, w += kBytes) {
      DecodePanel<kI2s ? 6 : 0>(w, a.k / 128 * (kBytes / 2), out + c * kPanelRows);
    }
  }
  constexpr size_t kPart = 256, kStride = kPart + 64;
  alignas(64) uint8_t codes[kPanelRows * kStride];
  for (; c < n; c += kPart) {
    const size_t part = n - c < kPart ? n - c : kPart;
    DecodeChunk<Block>(a, row, kPanelRows, col + c, part, blank, codes, kStride);
    TransposePanel(codes, kStride, AlignUp(part, 64), out + c * kPanelRows);
  }
}

// --- rows of several runs -----------------------------------------------------------------------------------

inline constexpr size_t kRunsTokens = 32;

// State of four rows: the scale of the open run of each (0: none yet), and for each token its sum and y.
struct CodesRuns {
  alignas(16) float d[4] = {};
  alignas(16) int32_t dot[kRunsTokens][4];
  alignas(16) float y[kRunsTokens][4];
};

// Adds the runs of the rows in `rows` to y of token i and begins new ones.
HWY_INLINE void CloseRun(const TernaryArgs& a, size_t t, hn::Mask<DF4> rows, CodesRuns* s, size_t i) {
  const auto dot = hn::Load(DI4(), s->dot[i]);
  hn::Store(AddRun(a, t, dot, hn::Load(DF4(), s->d), rows, hn::Load(DF4(), s->y[i])), DF4(), s->y[i]);
  hn::Store(hn::IfThenZeroElse(hn::RebindMask(DI4(), rows), dot), DI4(), s->dot[i]);
}

// One scale block of n columns: next is its scale in each row, 0 where the row skips it (its codes are 1 then).
template <size_t n>
HWY_INLINE void AddBlock(const TernaryArgs& a, const uint8_t* codes, size_t col, size_t t0, size_t tokens,
                         hn::Vec<DF4> next, CodesRuns* s) {
  const auto d = hn::Load(DF4(), s->d), zero = hn::Zero(DF4());
  const auto begins = hn::And(Differ(next, zero), Differ(next, d));
  const auto ends = hn::And(begins, Differ(d, zero));
  if (!hn::AllFalse(DF4(), ends)) {
    for (size_t i = 0; i < tokens; ++i) CloseRun(a, t0 + i, ends, s, i);
  }
  hn::Store(hn::IfThenElse(begins, next, d), DF4(), s->d);
  const VU8 ones = hn::Set(DU8(), uint8_t{1});
  for (size_t i = 0; i < tokens; ++i) {
    const int8_t* x = a.x + (t0 + i) * a.x_stride + col;
    hn::Vec<DI32> off = hn::Zero(DI32());  // minus the sum of the activations: codes are weights plus one
    WF_UNROLL for (size_t j = 0; j < n; j += kVecBytes) off = DotCodes(ones, hn::LoadU(DI8(), x + j), off);
    off = hn::Sub(hn::Zero(DI32()), off);
    hn::Vec<DI32> sum[4] = {off, off, off, off};
    WF_UNROLL for (size_t j = 0; j < n; j += kVecBytes) {
      const VI8 v = hn::LoadU(DI8(), x + j);
      WF_UNROLL for (int r = 0; r < 4; ++r) {
        sum[r] = DotCodes(hn::LoadU(DU8(), codes + static_cast<size_t>(r) * kCodesStride + j), v, sum[r]);
      }
    }
    int32_t out[4];
    Sum4(sum[0], sum[1], sum[2], sum[3], out);
    hn::Store(hn::Add(hn::Load(DI4(), s->dot[i]), hn::LoadU(DI4(), out)), DI4(), s->dot[i]);
  }
}

template <class Block, int Rank>
HWY_NOINLINE void TernaryRuns(const TernaryArgs& a, size_t row, size_t rows, size_t t0, size_t tokens, CodesBuffer* b) {
  CodesRuns s;
  for (size_t i = 0; i < tokens; ++i) {
    hn::Store(hn::Zero(DI4()), DI4(), s.dot[i]);
    hn::Store(CodesAddend<Rank>(a, row, rows, t0 + i), DF4(), s.y[i]);
  }
  for (size_t r = rows; r < 4; ++r) std::memset(b->code + r * kCodesStride, 0, kCodesChunk);
  const size_t chunk = kCodesChunk / Block::kScaleSize * Block::kScaleSize;
  for (size_t col = 0; col < a.k; col += chunk) {
    const size_t n = a.k - col < chunk ? a.k - col : chunk;
    DecodeChunk<Block>(a, row, rows, col, n, true, b->code);
    for (size_t c = 0; c < n; c += Block::kScaleSize) {
      uint64_t next = 0;  // put together in a register: stores would be read back too early
      for (size_t r = 0; r < rows; ++r) {
        next |= uint64_t{ScaleBits<Block>(static_cast<const uint8_t*>(a.w), a.k, row + r, col + c)} << (16 * r);
      }
      AddBlock<Block::kScaleSize>(a, b->code + c, col + c, t0, tokens, F16ToF32x4(next), &s);
    }
  }
  const auto open = Differ(hn::Load(DF4(), s.d), hn::Zero(DF4()));
  for (size_t i = 0; i < tokens; ++i) {
    CloseRun(a, t0 + i, open, &s, i);
    StoreCodes(a, row, rows, t0 + i, hn::Load(DF4(), s.y[i]));
  }
}

// --- the product --------------------------------------------------------------------------------------------

// dots[t * kStoreRows + r] = the sums of code * q of up to kCodesRows rows.
template <class Block>
HWY_NOINLINE void CodesSums(const TernaryArgs& a, size_t row, size_t rows, size_t t0, size_t tokens, bool zeros,
                            CodesBuffer* codes, int32_t* dots) {
  for (size_t r = rows; r % 4 != 0; ++r) std::memset(codes->code + r * kCodesStride, 0, kCodesStride);
  // Chunks of one size, so that the last is no short one.
  const size_t chunks = (a.k + kCodesChunk - 1) / kCodesChunk, chunk = ((a.k + chunks - 1) / chunks + 255) / 256 * 256;
  for (size_t col = 0; col < a.k; col += chunk) {
    const size_t n = a.k - col < chunk ? a.k - col : chunk;
    DecodeChunk<Block>(a, row, rows, col, n, zeros, codes->code);
    const int8_t* x = a.x + t0 * a.x_stride + col;
    if (col == 0) {
      AddCodes<false>(*codes, rows, (n + 63) / 64 * 64, x, a.x_stride, tokens, dots);
    } else {
      AddCodes<true>(*codes, rows, (n + 63) / 64 * 64, x, a.x_stride, tokens, dots);
    }
  }
}

// Up to kStoreRows rows and kCodesTokens tokens. Rows of several runs go four at a time another way.
template <class Block, int Rank>
HWY_NOINLINE void CodesTile(const TernaryArgs& a, size_t row, size_t rows, size_t t0, size_t tokens, CodesBuffer* codes,
                            CodesDots* dots) {
  float d[kStoreRows] = {};
  bool one = true, zeros = false;
  for (size_t r = 0; r < rows; ++r) {
    one = OneScale<Block>(static_cast<const uint8_t*>(a.w), a.k, row + r, &d[r], &zeros) && one;
  }
  if constexpr (Block::kScaleSize != 0) {
    if (!one) {
      for (size_t r = 0; r < rows; r += 4) {
        for (size_t t = 0; t < tokens; t += kRunsTokens) {
          TernaryRuns<Block, Rank>(a, row + r, rows - r < 4 ? rows - r : 4, t0 + t,
                                   tokens - t < kRunsTokens ? tokens - t : kRunsTokens, codes);
        }
      }
      return;
    }
  }
  for (size_t r = 0; r < rows; r += kCodesRows) {
    CodesSums<Block>(a, row + r, rows - r < kCodesRows ? rows - r : kCodesRows, t0, tokens, zeros, codes,
                     &dots->dot[0][r]);
  }
  StoreOneRuns<Rank>(a, row, rows, t0, tokens, d, dots->dot[0]);
}

static_assert(kCodesTokens % kCodesTile == 0 && kCodesTokens % kPanelTile == 0, "blocks of tokens are whole");
static_assert(kCodesChunk % 256 == 0 && kPanelChunk % 256 == 0, "chunks of columns are whole");
static_assert(kPanelRows % kStoreRows == 0 && kPanelTokens >= kCodesTokens, "a panel takes what it is given");

// kPanelRows rows. False: rows of several runs, of which nothing is done.
template <class Block, int Rank>
HWY_NOINLINE bool PanelRows(const TernaryArgs& a, size_t row, size_t t0, size_t tokens, PanelBuffer* b) {
  float d[kPanelRows];
  bool zeros = false;
  for (size_t r = 0; r < kPanelRows; ++r) {
    if (!OneScale<Block>(static_cast<const uint8_t*>(a.w), a.k, row + r, &d[r], &zeros)) return false;
  }
  const size_t chunks = (a.k + kPanelChunk - 1) / kPanelChunk, chunk = AlignUp((a.k + chunks - 1) / chunks, 256);
  for (size_t col = 0; col < a.k; col += chunk) {
    const size_t n = a.k - col < chunk ? a.k - col : chunk;
    DecodePanelChunk<Block>(a, row, col, n, zeros, b->code);
    const int8_t* x = a.x + t0 * a.x_stride + col;
    for (size_t t = 0, done; t < tokens; t += done) {
      int32_t* dots = b->dot + t * kPanelRows;
      done = PanelStep(b->code, AlignUp(n, 64), x + t * a.x_stride, a.x_stride, tokens - t, col != 0, dots);
      if (col + n < a.k) continue;
      // Between the sums, whose time hides that of the stores.
      for (size_t r = 0; r < kPanelRows; r += kStoreRows) {
        StoreOneRuns<Rank, kPanelRows>(a, row + r, kStoreRows, t0 + t, done, d + r, dots + r);
      }
    }
  }
  return true;
}

template <class Block, int Rank>
HWY_NOINLINE void CodesRows(const TernaryArgs& a, size_t begin, size_t end, size_t t0, size_t tokens) {
  CodesBuffer codes;
  CodesDots dots;
  for (size_t row = begin; row < end; row += kStoreRows) {
    CodesTile<Block, Rank>(a, row, end - row < kStoreRows ? end - row : kStoreRows, t0, tokens, &codes, &dots);
  }
}
template <class Block, int Rank>
HWY_NOINLINE void TernaryPanels(const TernaryArgs& a, size_t t0, size_t tokens) {
  PanelBuffer b;
  for (size_t row = a.row_begin; row < a.row_end; row += kPanelRows) {
    const size_t rows = a.row_end - row < kPanelRows ? a.row_end - row : kPanelRows;
    const bool done = rows == kPanelRows && PanelRows<Block, Rank>(a, row, t0, tokens, &b);
    if (!done) CodesRows<Block, Rank>(a, row, row + rows, t0, tokens);
  }
}

template <class Block, int Rank>
HWY_NOINLINE void TernaryCodes(const TernaryArgs& a, size_t all_tokens) noexcept {
  // Tokens whose activations stay in the cache while all rows pass by: in most of 1 MiB of L2, or for panels, which
  // read them once for 32 rows, in a core's part of L3. Blocks of about one size.
  const bool panels = all_tokens >= kPanelMinTokens;
  const size_t tile = static_cast<size_t>(panels ? kPanelTile : kCodesTile);
  const size_t fit = (panels ? size_t{2} << 20 : size_t{600} << 10) / a.x_stride;
  const size_t most = fit < 24 ? 24 : fit < kCodesTokens ? fit : kCodesTokens;
  const size_t blocks = (all_tokens + most - 1) / most;
  const size_t block = ((all_tokens + blocks - 1) / blocks + tile - 1) / tile * tile;
  for (size_t t0 = 0; t0 < all_tokens; t0 += block) {
    const size_t tokens = all_tokens - t0 < block ? all_tokens - t0 : block;
    if (panels) {
      TernaryPanels<Block, Rank>(a, t0, tokens);
    } else {
      CodesRows<Block, Rank>(a, a.row_begin, a.row_end, t0, tokens);
    }
  }
}

}  // namespace WF_NAMESPACE
}  // namespace WF_MODE_NS
}  // namespace wf::detail
WF_AFTER_NAMESPACE();
#endif  // per-ISA guard
