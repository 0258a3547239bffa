// SPDX-License-Identifier: Apache-2.0
// Ternary products over packed types with what files may hold beyond tidy ternary weights: any byte, hence code 3;
// scales that differ within a row, are zero, negative, or no number. Every ISA, the scalar definition too, against
// loops over Block::Code and Block::Scale that are written down here a second time: first the runs of a row, then their
// sum.
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "tests/catch.h"
#include "tests/kernels/guarded.h"
#include "tests/kernels/isas.h"
#include "wf/kernels/table.h"
#include "wf/quant/block.h"
#include "wf/quant/dense.h"
#include "wf/quant/pack.h"

namespace {

namespace block = wf::block;
using wf::TensorType;

enum class Scales { kOnePerRow, kMixed, kNoNumbers };
// kLargest, kSmallest: every code the largest or 0, every activation -128 or 127.
enum class Values { kRandom, kLargest, kSmallest };

struct Shape {
  size_t rows, k, tokens;
};

size_t WeightBytes(TensorType type, size_t rows, size_t k) {
  if (type == TensorType::kI2_S_X4) return rows * k / 4;
  if (wf::IsI2s(type)) {  // whole groups
    const size_t group = type == TensorType::kI2_S ? 128 : 64;
    return (rows * k + group - 1) / group * (group / 4);
  }
  uint64_t bytes = 0;
  REQUIRE(wf::TensorBytes(*wf::FindTensorType(static_cast<uint32_t>(type)), k, rows, &bytes));
  return bytes;
}

// Stores the scale that covers (row, col).
template <class Block>
void SetScale(uint8_t* w, size_t k, size_t row, size_t col, float d) {
  constexpr bool kF32 = Block::kType == TensorType::kIQ2_BN || Block::kType == TensorType::kIQ2_BN_R4;
  uint8_t* at = w;
  if constexpr (Block::kType == TensorType::kIQ2_BN_R4) {
    at += row / 4 * 4 * (4 + k / 64 * 16) + 4 * (row % 4);
  } else if constexpr (Block::kScaleSize == 0) {
    at += row * (Block::kHeader + k / Block::kSize * Block::kBytes);
  } else {
    constexpr bool kBehind = Block::kType == TensorType::kTQ1_0 || Block::kType == TensorType::kTQ2_0;
    at += (row * (k / Block::kSize) + col / Block::kSize) * Block::kBytes + (kBehind ? Block::kBytes - 2 : 0);
  }
  const uint16_t h = wf::F16FromF32(d);
  std::memcpy(at, kF32 ? static_cast<const void*>(&d) : &h, kF32 ? 4 : 2);
}

template <class Block>
struct Problem {
  Problem(Shape s, Scales scale_kind, Values values, size_t rank, unsigned seed)
      : shape(s),
        order(block::OrderFor(Block::kType, s.k)),
        stride(block::ActBytes(order, s.k)),
        w(WeightBytes(Block::kType, s.rows, s.k)),
        x(stride * s.tokens),
        sums(s.tokens),
        act_scale(s.tokens),
        bias(s.rows),
        u(s.rows * rank / 32 * 34),
        t(s.tokens * rank),
        want(s.rows * s.tokens) {
    Rng rng(seed);
    const uint8_t equal = values == Values::kLargest ? 0xff : 0;
    for (auto& b : w) b = values == Values::kRandom ? static_cast<uint8_t>(rng()) : equal;
    if constexpr (!wf::IsI2s(Block::kType)) {
      const size_t size = Block::kScaleSize == 0 ? s.k : Block::kScaleSize;
      // Few values, so that neighbours are often equal; 0 of both signs.
      const float choice[] = {0.5f, 0.5f, -0.75f, 0.0f, -0.0f, 1.25f, 0.5f};
      for (size_t r = 0; r < s.rows; ++r) {
        const float row_scale = r % 5 == 4 ? 0.0f : wf::F32FromF16(wf::F16FromF32(Uniform(rng, -2, 2)));
        for (size_t c = 0; c < s.k; c += size) {
          float d = row_scale;
          if (scale_kind != Scales::kOnePerRow) d = choice[rng() % 7];
          if (scale_kind == Scales::kNoNumbers && rng() % 4 == 0) d = rng() % 2 == 0 ? NAN : INFINITY;
          SetScale<Block>(w.data(), s.k, r, c, d);
          if (std::isfinite(d)) REQUIRE(Block::Scale(w.data(), s.k, r, c) == d);
        }
      }
    }
    std::fill(x.begin(), x.end(), int8_t{0});
    q.resize(s.tokens * s.k);
    for (size_t i = 0; i < s.tokens; ++i) {
      sums[i] = 0;
      act_scale[i] = Uniform(rng, 0.5f, 90.0f);
      for (size_t c = 0; c < s.k; ++c) {
        const int v = values != Values::kRandom ? (i % 2 ? 127 : -128) : static_cast<int>(rng() % 256) - 128;
        q[i * s.k + c] = static_cast<int8_t>(v);
        x[i * stride + block::ActIndex(order, c, s.k)] = static_cast<int8_t>(v);
        sums[i] += v;
      }
    }
    for (auto& v : bias) v = Uniform(rng, -1, 1);
    for (auto& v : t) v = Uniform(rng, -1, 1);
    uf.resize(s.rows * rank);
    for (auto& v : uf) v = Uniform(rng, -1, 1);
    for (size_t r = 0; r < s.rows && rank != 0; ++r) {
      wf::QuantiseDenseRow(TensorType::kQ8_0, &uf[r * rank], rank, u.data() + r * rank / 32 * 34);
      wf::DequantRow(wf::DenseType::kQ8_0, u.data(), r, rank, &uf[r * rank]);
    }

    args.w = w.data();
    args.k = s.k;
    args.row_end = s.rows;
    args.w_scale = 0.731f;
    args.x = x.data();
    args.x_stride = stride;
    args.x_sum = sums.data();
    args.act_scale = act_scale.data();
    args.tokens = s.tokens;
    args.y_stride = s.rows;
    if (rank != 0) args.bias = bias.data();
    args.lrc_u = u.data();
    args.lrc_type = wf::DenseType::kQ8_0;
    args.lrc_t = t.data();
    args.lrc_t_stride = rank;
    args.lrc_rank = rank;

    Expect();
  }

  // What each row and token should give with the weights as they are now.
  void Expect() {
    const Shape s = shape;
    const size_t rank = args.lrc_rank;
    for (size_t r = 0; r < s.rows; ++r) {
      std::vector<int> value(s.k);
      for (size_t c = 0; c < s.k; ++c) value[c] = static_cast<int>(Block::Code(w.data(), s.k, r, c)) - 1;
      const std::vector<Run> runs = Runs(r);
      for (size_t i = 0; i < s.tokens; ++i) {
        float y = 0;
        if (rank != 0) {  // 16 running sums, folded: the documented order
          float lane[16] = {};
          for (size_t j = 0; j < rank; ++j) lane[j % 16] = std::fma(uf[r * rank + j], t[i * rank + j], lane[j % 16]);
          for (size_t n = 8; n > 0; n /= 2)
            for (size_t j = 0; j < n; ++j) lane[j] += lane[j + n];
          y = lane[0] + bias[r];
        }
        for (const Run& run : runs) {
          int64_t dot = 0;
          for (const size_t first : run.blocks)
            for (size_t c = first; c < first + run.size; ++c) dot += int64_t{value[c]} * q[i * s.k + c];
          y = std::fma(static_cast<float>(dot) / act_scale[i], run.d * args.w_scale, y);
        }
        want[i * s.rows + r] = y;
      }
    }
  }

  struct Run {
    float d;
    size_t size;                 // of each block
    std::vector<size_t> blocks;  // first columns
  };
  std::vector<Run> Runs(size_t row) {
    std::vector<Run> runs;
    const size_t size = Block::kScaleSize == 0 ? shape.k : Block::kScaleSize;
    for (size_t c = 0; c < shape.k; c += size) {
      const float d = Block::Scale(w.data(), shape.k, row, c);
      if (d == 0) continue;
      if (runs.empty() || runs.back().d != d) runs.push_back({d, size, {}});
      runs.back().blocks.push_back(c);
    }
    return runs;
  }

  Shape shape;
  block::ActOrder order;
  size_t stride;
  Guarded<uint8_t> w;
  Guarded<int8_t> x;
  Guarded<int32_t> sums;
  Guarded<float> act_scale, bias;
  Guarded<uint8_t> u;
  Guarded<float> t;
  std::vector<int8_t> q;  // activations in natural order
  std::vector<float> uf;  // U as floats
  std::vector<float> want;
  wf::TernaryArgs args;
};

std::vector<wf::isa::Id> Isas() { return IsasFrom(0); }

// The same bits; of NaNs only that they are some.
bool Same(float a, float b) { return std::isnan(a) ? std::isnan(b) : std::memcmp(&a, &b, sizeof(a)) == 0; }

// Rows [begin, end) of `p` by every ISA: these as they should be, the others untouched.
template <class Block>
void Check(Problem<Block>& p, size_t begin, size_t end) {
  const Shape s = p.shape;
  Guarded<float> y(s.rows * s.tokens);
  wf::TernaryArgs a = p.args;
  a.y = y.data();
  a.row_begin = begin;
  a.row_end = end;
  for (const auto id : Isas()) {
    const wf::TernaryInstance kernels = wf::FindTernary(id, Block::kType, a.lrc_rank);
    REQUIRE(kernels.gemv != nullptr);
    INFO(wf::isa::Name(id) << " " << wf::TensorTypeName(Block::kType) << " rows " << s.rows << " (" << begin << " to "
                           << end << ") k " << s.k << " tokens " << s.tokens << " rank " << a.lrc_rank);
    for (const bool gemm : {true, false}) {
      std::fill(y.begin(), y.end(), -7.0f);
      (gemm ? kernels.gemm : kernels.gemv)(a);
      size_t wrong = 0;
      for (size_t i = 0; i < s.tokens; ++i) {
        for (size_t r = 0; r < s.rows; ++r) {
          const bool written = r >= begin && r < end && (gemm || i == 0);
          if (!Same(y[i * s.rows + r], written ? p.want[i * s.rows + r] : -7.0f)) ++wrong;
        }
      }
      CHECK(wrong == 0);
    }
  }
}

// One block, three, and as many as make several chunks; columns that end anywhere for types without blocks.
template <class Block>
std::vector<size_t> Columns() {
  if (Block::kType == TensorType::kI2_S_X4) return {1, 31, 33, 100, 2049, 4161};
  if (Block::kType == TensorType::kI2_S_ARM64) return {1, 33, 64, 100, 192, 2560, 2113};
  return {Block::kSize, 3 * Block::kSize, 17 * 256, 6912};
}
// Rows: not a multiple of four where the type allows.
template <class Block>
size_t Rows() {
  return Block::kType == TensorType::kIQ2_BN_R4 || Block::kType == TensorType::kI2_S_X4 ? 12 : 11;
}

}  // namespace

TEMPLATE_TEST_CASE("packed types: any bytes, any rows and tokens", "[kernels][per_isa]", block::TQ1_0, block::TQ2_0,
                   block::IQ1_BN, block::IQ2_BN, block::IQ2_BN_R4, block::Q2_0, block::Q2_0_128, block::I2S_ARM64,
                   block::I2S_X4, block::I2S) {
  unsigned seed = 11;
  const size_t rows = Rows<TestType>();
  for (const size_t k : Columns<TestType>()) {
    for (const size_t tokens : {1u, 3u, 70u}) {
      if (tokens == 70 && k > 3000) continue;
      for (const size_t rank : {0u, 64u}) {
        for (const Scales scales : {Scales::kOnePerRow, Scales::kMixed}) {
          Problem<TestType> p({rows, k, tokens}, scales, Values::kRandom, rank, seed++);
          Check(p, 0, rows);
          if (rank == 0) continue;
          Check(p, 1, rows - 1);
          Check(p, 3, 4);
          Check(p, 6, 6);
        }
      }
    }
  }
  for (size_t tokens = 2; tokens < 10; ++tokens) {
    Problem<TestType> p({rows, 3 * TestType::kSize, tokens}, Scales::kMixed, Values::kRandom, 32, seed++);
    Check(p, 2, rows);
  }
}

// Rows and tokens that make whole tiles and leave some over, of the kernels that take many of both at a time: columns
// of one chunk and of several, and rows whose scale is the same in each block but for those that have none.
TEMPLATE_TEST_CASE("packed types: many rows and tokens", "[kernels][per_isa]", block::TQ1_0, block::TQ2_0,
                   block::IQ1_BN, block::IQ2_BN, block::IQ2_BN_R4, block::Q2_0, block::Q2_0_128, block::I2S_ARM64,
                   block::I2S_X4, block::I2S) {
  constexpr size_t kRows = 72;
  unsigned seed = 31;
  for (const size_t k : Columns<TestType>()) {
    if (k > 4500) continue;
    for (const size_t tokens : {12u, 27u}) {
      Problem<TestType> p({kRows, k, tokens}, Scales::kOnePerRow, Values::kRandom, 32, seed++);
      Check(p, 0, kRows);
      Check(p, 3, 70);
      if constexpr (TestType::kScaleSize != 0) {
        for (size_t r = 0; r < kRows; r += 5) {
          for (size_t c = r % 2 * TestType::kSize; c < k; c += 3 * TestType::kSize) {
            SetScale<TestType>(p.w.data(), k, r, c, r % 3 == 0 ? -0.0f : 0.0f);
          }
        }
        p.Expect();
        Check(p, 0, kRows);
      }
    }
  }
  Problem<TestType> mixed({kRows, 3 * TestType::kSize, 13}, Scales::kMixed, Values::kRandom, 0, seed++);
  Check(mixed, 0, kRows);
  for (const Values values : {Values::kLargest, Values::kSmallest}) {
    Problem<TestType> p({32, wf::kMaxTernaryK / 256 * 256, 12}, Scales::kOnePerRow, values, 0, seed++);
    Check(p, 0, 32);
  }
}

TEMPLATE_TEST_CASE("packed types: the largest sums", "[kernels][per_isa]", block::TQ1_0, block::TQ2_0, block::IQ1_BN,
                   block::IQ2_BN, block::IQ2_BN_R4, block::Q2_0, block::Q2_0_128, block::I2S_ARM64, block::I2S_X4,
                   block::I2S) {
  const size_t k = wf::kMaxTernaryK / 256 * 256;  // 66048
  for (const Values values : {Values::kLargest, Values::kSmallest}) {
    for (const size_t tokens : {1u, 6u}) {
      Problem<TestType> p({4, k, tokens}, Scales::kOnePerRow, values, 0, 5);
      Check(p, 0, 4);
    }
  }
}

// Row lengths around whole vectors of packed bytes, and of several vectors side by side; single rows, whose ends are
// the tensor's.
TEMPLATE_TEST_CASE("packed types: any number of base-3 blocks", "[kernels][per_isa]", block::TQ1_0, block::IQ1_BN) {
  unsigned seed = 91;
  for (size_t blocks = 1; blocks <= 40; ++blocks) {
    Problem<TestType> p({6, blocks * TestType::kSize, 1}, Scales::kOnePerRow, Values::kRandom, 0, seed++);
    Check(p, 0, 6);
    Check(p, 5, 6);
  }
  const size_t most = wf::kMaxTernaryK / TestType::kSize * TestType::kSize;
  Problem<TestType> p({5, most, 1}, Scales::kOnePerRow, Values::kRandom, 32, seed);
  Check(p, 0, 5);
}

// Each block of a row in turn has another scale than the rest, or one that differs in the last bit or the sign of zero.
TEST_CASE("TQ1_0: one block with a scale of its own", "[kernels][per_isa]") {
  constexpr size_t kBlocks = 33, kRows = 7;
  for (const float rest : {0.5f, 0.0f}) {
    Problem<block::TQ1_0> p({kRows, kBlocks * 256, 1}, Scales::kOnePerRow, Values::kRandom, 0, 17);
    const float odd[] = {0.0f, -0.0f, -0.5f, 0.50048828125f, 1.5f};
    for (size_t i = 0; i < kBlocks * 5; ++i) {
      for (size_t r = 0; r < kRows; ++r)
        for (size_t b = 0; b < kBlocks; ++b) SetScale<block::TQ1_0>(p.w.data(), p.shape.k, r, b * 256, rest);
      SetScale<block::TQ1_0>(p.w.data(), p.shape.k, i % kRows, i / 5 * 256, odd[i % 5]);
      p.Expect();
      Check(p, 0, kRows);
    }
  }
}

TEMPLATE_TEST_CASE("packed types: scales that are no numbers stay what they are", "[kernels][per_isa]", block::TQ1_0,
                   block::TQ2_0, block::IQ1_BN, block::IQ2_BN, block::IQ2_BN_R4, block::Q2_0, block::Q2_0_128) {
  for (const size_t tokens : {1u, 5u}) {
    Problem<TestType> p({Rows<TestType>(), 5 * 256, tokens}, Scales::kNoNumbers, Values::kRandom, 0, 3);
    Check(p, 0, Rows<TestType>());
  }
}
