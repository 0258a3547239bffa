// SPDX-License-Identifier: Apache-2.0
// Arguments of the kernels: plain data, nothing in here depends on an ISA. Kernels know no tensors, check
// nothing and cannot fail; sizes are in elements unless they say bytes. Fields that a kernel does not name
// in its own comment it does not read.
#ifndef WF_KERNELS_ARGS_H_
#define WF_KERNELS_ARGS_H_

#include <cstddef>
#include <cstdint>

#include "wf/base/half.h"
#include "wf/quant/dense.h"

namespace wf {

inline constexpr size_t kMaxTernaryK = 66052;  // 2 * 127 * K < 2^24: the sum is exact as an f32, too
inline constexpr int kDynamic = -1;            // a rank that is known at run time only; 0: no low-rank term

// y[t][r] for r in [row_begin, row_end), t in [0, tokens), where T[r][k] is the weight without its scales (code - 1):
//   y = (U[r] . lrc_t[t]) + bias[r], 0 where there is none;
//   then for each run of row r in ascending k: y = fma((float)(sum over the run of T[r][k] * q[t][k]) / act_scale[t],
//   d * w_scale, y).
// A run is what shares one stored scale d (block.h): consecutive blocks of Block::kScaleSize elements (0: the row) with
// equal d; blocks with d == 0 belong to no run and end none, d that is no number is equal to nothing. Types without
// stored scales have one run with d = 1, so a row whose blocks all say d has the same bits in every type. Sums are
// exact in int32 (K <= kMaxTernaryK). With one run and no addend this is the order of formats.md 4.1: divide, multiply.
struct TernaryArgs {
  const void* w = nullptr;  // the tensor's first byte, rows of k weights in the block type's layout
  size_t k = 0;
  size_t row_begin = 0, row_end = 0;
  float w_scale = 1;                 // the tensor's scale
  const int8_t* x = nullptr;         // tokens rows of ActBytes(order, k) bytes, in the block type's order
  size_t x_stride = 0;               // bytes from one token to the next
  const int32_t* x_sum = nullptr;    // sum of each token's q
  const float* act_scale = nullptr;  // a = 127 / max|x| of each token
  size_t tokens = 1;
  float* y = nullptr;  // y[t * y_stride + r]
  size_t y_stride = 0;
  const float* bias = nullptr;           // rows values, or none
  const void* lrc_u = nullptr;           // rows x rank of lrc_type, row-major; read only by instances with a rank
  DenseType lrc_type = DenseType::kF16;  // not Q6_K, Q4_K; rank % 32 == 0 for Q8_0 and Q4_0
  const float* lrc_t = nullptr;          // V^T x: tokens rows of rank values
  size_t lrc_t_stride = 0;
  size_t lrc_rank = 0;  // read only by instances with kDynamic
};

// y[t][r] = w[r] . x[t] (+ bias[r]): the head, dense projections, V^T x. Elements as DequantBlock (dense.h) gives them,
// sums as in SumOrder (ref.h).
struct DenseArgs {
  const void* w = nullptr;  // rows x k, row-major, of the instance's DenseType; k in whole blocks
  size_t k = 0;
  size_t row_begin = 0, row_end = 0;
  const float* x = nullptr;
  size_t x_stride = 0;
  size_t tokens = 1;
  float* y = nullptr;
  size_t y_stride = 0;
  const float* bias = nullptr;
};

// Per-token activation quantisation (semantics.md 1): a = 127 / max(max|x|, 1e-5),
// q = clamp(round_half_even(x * a), -128, 127). `order` and `out` as block.h says; padding is zeroed.
struct QuantiseArgs {
  const float* x = nullptr;
  size_t k = 0;
  uint8_t order = 0;  // block::ActOrder
  int8_t* out = nullptr;
  float* act_scale = nullptr;
  int32_t* sum = nullptr;
};

// y = (x * w) * (1 / sqrt(mean(x^2) + eps)), the mean in double; y may be x.
struct RmsNormArgs {
  const float* x = nullptr;
  const float* w = nullptr;
  float* y = nullptr;
  size_t n = 0;
  float eps = 0;
};

// Rotates, in place, the first 2 * pairs values of each head. NEOX pairs (x[i], x[i + pairs]), NORM pairs
// (x[2i], x[2i + 1]); x0' = x0 cos - x1 sin, x1' = x0 sin + x1 cos.
struct RopeArgs {
  float* x = nullptr;
  size_t heads = 0;
  size_t head_dim = 0;
  size_t pairs = 0;            // n_rot / 2
  const float* cos = nullptr;  // pairs values for this position
  const float* sin = nullptr;
  bool neox = true;
};

// out = act(gate) * up; act is relu(x)^2 or x / (1 + exp(-x)). out may be gate.
struct GluArgs {
  const float* gate = nullptr;
  const float* up = nullptr;
  float* out = nullptr;
  size_t n = 0;
  bool relu2 = true;
};

// y += x.
struct AddArgs {
  const float* x = nullptr;
  float* y = nullptr;
  size_t n = 0;
};

// p = exp(x - max) / sum; returns through lse the log of the sum plus the maximum. p may be x.
struct SoftmaxArgs {
  const float* x = nullptr;
  float* p = nullptr;  // may be null: only lse is wanted
  size_t n = 0;
  float* lse = nullptr;
};

// Measuring kernels, for the limits of a machine. `rounds` rounds of what integer products are made of, in registers and
// as wide as the ISA has it: *products multiplications are done and added, each of 1 and 2, so that *sum is 2 * *products
// modulo 2^32.
struct PeakArgs {
  size_t rounds = 0;
  uint64_t* products = nullptr;
  uint32_t* sum = nullptr;
};
// *sum = the sum of the 32-bit words of data[0 .. bytes) modulo 2^32, read once in order, with prefetches kReadAhead ahead.
inline constexpr size_t kReadStep = 256, kReadAhead = 8192;
struct ReadArgs {
  const uint8_t* data = nullptr;
  size_t bytes = 0;  // a multiple of kReadStep
  uint32_t* sum = nullptr;
};

enum class KvType : uint8_t { kF32, kF16, kI8 };  // elements of K and V; also the index in KernelTable
inline constexpr int kKvTypes = 3;

inline constexpr size_t kKvBlock = 32;   // tokens in one block of the KV cache
inline constexpr size_t kKvChunk = 512;  // tokens whose attention is summed by itself, then merged

// One head's share of a KV block: K transposed (head_dim x 32), then V (32 x head_dim rounded up to 16); kI8: then
// 32 scales of K and 32 of V, as f32.
inline constexpr size_t KvElementBytes(KvType type) noexcept {
  return type == KvType::kF32 ? 4 : type == KvType::kF16 ? 2 : 1;
}
inline constexpr size_t KvVStride(size_t head_dim) noexcept { return (head_dim + 15) / 16 * 16; }
inline constexpr size_t KvScales(size_t head_dim, KvType type) noexcept {  // bytes from the share's start
  return kKvBlock * (head_dim + KvVStride(head_dim)) * KvElementBytes(type);
}
inline constexpr size_t KvHeadBytes(size_t head_dim, KvType type) noexcept {
  return KvScales(head_dim, type) + (type == KvType::kI8 ? 2 * kKvBlock * sizeof(float) : 0);
}

// Stores one token's K and V of one kv head in its block.
struct KvStoreArgs {
  const float* k = nullptr;
  const float* v = nullptr;
  size_t head_dim = 0;
  void* head = nullptr;  // the head's share of the block
  size_t slot = 0;       // position % 32
};

// Attention of `rows` tokens x `heads` query heads over one kv head (the heads share it). Row r sees the keys
// 0 .. visible[r] - 1. Keys are taken in absolute chunks of kKvChunk; see ref_attention.h for the order of the sums.
// `attention` does all chunks. `attention_part` does one, so that chunks can be spread over threads, and
// `attention_merge` makes the same result of all parts, which it overwrites.
struct AttentionArgs {
  const float* q = nullptr;  // head h of row r at q + r * q_stride + h * head_dim; not read by attention_merge
  size_t q_stride = 0;
  float* out = nullptr;  // likewise; not written by attention_part
  size_t out_stride = 0;
  size_t rows = 0, heads = 0, head_dim = 0;
  const uint32_t* visible = nullptr;  // >= 1 each
  float scale = 1;
  const uint8_t* const* blocks = nullptr;  // the sequence's KV blocks in order
  size_t offset = 0;                       // bytes from a block's start to the head's share
  float* scratch = nullptr;                // AttentionScratch() floats; not used by attention_merge
  size_t chunk = 0;                        // attention_part: which one; some row sees keys of it
  float* part = nullptr;  // attention_part: AttentionPart() floats; attention_merge: those of chunk 0, then of chunk 1...
};
// The state of a chunk, of each of rows * heads queries: weighted values (KvVStride(head_dim) each), then the greatest
// scores, then the sums of weights. What belongs to rows that do not see the chunk is not defined.
inline constexpr size_t AttentionPart(size_t rows, size_t heads, size_t head_dim) noexcept {
  return rows * heads * (KvVStride(head_dim) + 2);
}
inline constexpr size_t AttentionScratch(size_t rows, size_t heads, size_t head_dim) noexcept {
  return rows * heads * (head_dim + kKvChunk) + 2 * AttentionPart(rows, heads, head_dim);
}
inline constexpr size_t AttentionChunks(size_t visible) noexcept { return (visible + kKvChunk - 1) / kKvChunk; }

}  // namespace wf
#endif  // WF_KERNELS_ARGS_H_
