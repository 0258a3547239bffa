// SPDX-License-Identifier: Apache-2.0
// Every instance of instances.def against plain loops over unpacked weights, bit for bit: the same values in every
// type, so that all types have the bits of I2_S. Weights are ternary here and stored scales 1; the rest is in
// packed_test.cc.
#include "wf/quant/ternary.h"

#include <cmath>
#include <string>
#include <vector>

#include "tests/catch.h"
#include "tests/kernels/guarded.h"
#include "wf/base/half.h"
#include "wf/kernels/dispatch.h"
#include "wf/kernels/table.h"
#include "wf/quant/dense.h"
#include "wf/quant/pack.h"

namespace {

struct Case {
  size_t rows, k, tokens;
};

// Bytes of rows x k weights. (I2_S and its layouts: without the scale behind them, which kernels do not read.)
size_t WeightBytes(wf::TensorType type, size_t rows, size_t k) {
  if (wf::IsI2s(type)) return rows * k / 4;
  uint64_t bytes = 0;
  REQUIRE(wf::TensorBytes(*wf::FindTensorType(static_cast<uint32_t>(type)), k, rows, &bytes));
  return bytes;
}

// A random problem and its answer computed without any kernel: weights unpacked, sums in int64.
struct Problem {
  Problem(wf::TensorType type, Case c, size_t rank, wf::DenseType lrc_type, bool bias, bool extreme, unsigned seed)
      : order(wf::block::OrderFor(type, c.k)),
        stride(wf::block::ActBytes(order, c.k)),
        weights(WeightBytes(type, c.rows, c.k)),
        x(stride * c.tokens),
        sums(c.tokens),
        scales(c.tokens),
        bias_values(c.rows),
        u(c.rows * rank / wf::DenseBlock(lrc_type) * wf::DenseBlockBytes(lrc_type)),
        t(c.tokens * rank),
        want(c.rows * c.tokens) {
    Rng rng(seed);
    std::vector<int8_t> w(c.rows * c.k);
    for (auto& v : w) v = static_cast<int8_t>(extreme ? 1 : static_cast<int>(rng() % 3) - 1);
    const float s = 0.731f;
    if (type == wf::TensorType::kI2_S) {
      wf::PackTernary(wf::TensorType::kI2_S, w.data(), 1, w.size(), 1, weights.data());
    } else if (wf::IsPackedTernary(type)) {
      wf::PackTernary(type, w.data(), c.rows, c.k, 1.0f, weights.data());
    } else {
      for (size_t i = 0; i < w.size(); ++i) {
        const float f = w[i] == 0 && i % 2 ? -0.0f : s * static_cast<float>(w[i]);  // zeros of both signs
        if (type == wf::TensorType::kF32) std::memcpy(weights.data() + 4 * i, &f, 4);
        const uint16_t h = type == wf::TensorType::kF16 ? wf::F16FromF32(f) : wf::Bf16FromF32(f);
        if (type != wf::TensorType::kF32) std::memcpy(weights.data() + 2 * i, &h, 2);
      }
    }
    std::fill(x.begin(), x.end(), int8_t{0});
    std::vector<int8_t> q(c.tokens * c.k);
    for (size_t i = 0; i < c.tokens; ++i) {
      sums[i] = 0;
      scales[i] = Uniform(rng, 0.5f, 90.0f);
      for (size_t j = 0; j < c.k; ++j) {
        const int v = extreme ? (i % 2 ? 127 : -128) : static_cast<int>(rng() % 256) - 128;
        q[i * c.k + j] = static_cast<int8_t>(v);
        x[i * stride + wf::block::ActIndex(order, j, c.k)] = static_cast<int8_t>(v);
        sums[i] += v;
      }
    }
    for (auto& v : bias_values) v = Uniform(rng, -1, 1);
    for (auto& v : t) v = Uniform(rng, -1, 1);
    std::vector<float> uf(c.rows * rank);
    for (auto& v : uf) v = Uniform(rng, -1, 1);
    if (rank != 0) {
      const auto tensor_type = wf::kDenseTensorTypes[static_cast<size_t>(lrc_type)];
      for (size_t r = 0; r < c.rows; ++r) {
        wf::QuantiseDenseRow(tensor_type, &uf[r * rank], rank, u.data() + r * (u.size() / c.rows));
        wf::DequantRow(lrc_type, u.data(), r, rank, &uf[r * rank]);
      }
    }
    for (size_t i = 0; i < c.tokens; ++i) {
      for (size_t r = 0; r < c.rows; ++r) {
        int64_t dot = 0;
        for (size_t j = 0; j < c.k; ++j) dot += static_cast<int64_t>(w[r * c.k + j]) * q[i * c.k + j];
        float add = 0;
        if (rank != 0) {  // 16 running sums, folded: the documented order
          float lane[16] = {};
          for (size_t j = 0; j < rank; ++j) lane[j % 16] = std::fma(uf[r * rank + j], t[i * rank + j], lane[j % 16]);
          for (size_t n = 8; n > 0; n /= 2)
            for (size_t j = 0; j < n; ++j) lane[j] += lane[j + n];
          add = lane[0];
        }
        if (bias) add += bias_values[r];
        want[i * c.rows + r] = std::fma(static_cast<float>(dot) / scales[i], s, add);
      }
    }
    args.w = weights.data();
    args.k = c.k;
    args.row_end = c.rows;
    args.w_scale = s;
    args.x = x.data();
    args.x_stride = stride;
    args.x_sum = sums.data();
    args.act_scale = scales.data();
    args.tokens = c.tokens;
    args.y_stride = c.rows;
    if (bias) args.bias = bias_values.data();
    args.lrc_u = u.data();
    args.lrc_type = lrc_type;
    args.lrc_t = t.data();
    args.lrc_t_stride = rank;
    args.lrc_rank = rank;
  }
  wf::block::ActOrder order;
  size_t stride;
  Guarded<uint8_t> weights;
  Guarded<int8_t> x;
  Guarded<int32_t> sums;
  Guarded<float> scales, bias_values;
  Guarded<uint8_t> u;
  Guarded<float> t;
  std::vector<float> want;
  wf::TernaryArgs args;
};

// `kernels`: an instance of `type` and its template argument Rank; `size`: what k must be a multiple of.
void CheckInstance(const char* isa, wf::TensorType type, size_t size, const wf::TernaryInstance& kernels) {
  const bool dynamic = kernels.rank == wf::kDynamic, floats = !wf::IsPackedTernary(type);
  const size_t multiple = type == wf::TensorType::kI2_S || type == wf::TensorType::kI2_S_ARM64 ? 1 : size;
  const bool by_four = type == wf::TensorType::kIQ2_BN_R4 || type == wf::TensorType::kI2_S_X4;
  // K: one group, pairs, an odd group, rows inside a group (576, 192, 100), and the 2B model's; rows that leave
  // every remainder of a tile. rows * K must be a multiple of 128 for I2_S.
  std::vector<Case> cases = {{4, 128, 1},  {1, 256, 1},   {7, 384, 1}, {9, 640, 5}, {6, 2560, 3},
                             {2, 6912, 2}, {2, 576, 1},   {6, 576, 7}, {4, 192, 3}, {32, 100, 9},
                             {64, 2, 4},   {13, 1024, 4}, {5, 256, 17}};
  if (floats) cases.insert(cases.end(), {{3, 1, 1}, {5, 33, 3}, {2, 17, 2}});
  unsigned seed = 1;
  for (Case c : cases) {
    if (c.k % multiple != 0) continue;
    if (by_four) c.rows = (c.rows + 3) / 4 * 4;
    for (int variant = 0; variant < 5; ++variant) {
      // Every type of factors; quantised ones have ranks of whole blocks.
      const size_t rank = !dynamic ? static_cast<size_t>(kernels.rank) : variant < 3 ? 13 : 96;
      const auto lrc = static_cast<wf::DenseType>(rank % 32 == 0 && rank != 0 ? variant : variant % 3);
      Problem p(type, c, rank, lrc, variant % 2 == 1, variant >= 3, seed++);
      INFO(isa << " " << wf::TensorTypeName(type) << " rank " << kernels.rank << " rows " << c.rows << " k " << c.k
               << " tokens " << c.tokens << " variant " << variant);
      Guarded<float> y(c.rows * c.tokens);
      p.args.y = y.data();
      kernels.gemm(p.args);
      CHECK(SameBits(y, p.want));
      // Each token alone, rows in two parts: the same bits.
      std::vector<float> one(c.rows * c.tokens, -7.0f);
      for (size_t t = 0; t < c.tokens; ++t) {
        wf::TernaryArgs a = p.args;
        a.x += t * a.x_stride;
        a.x_sum += t;
        a.act_scale += t;
        a.lrc_t += t * a.lrc_t_stride;
        a.y = one.data() + t * c.rows;
        a.row_end = c.rows / 2;
        kernels.gemv(a);
        a.row_begin = c.rows / 2;
        a.row_end = c.rows;
        kernels.gemv(a);
      }
      CHECK(SameBits(one, p.want));
    }
  }
}

template <class Isa, class Block, int Rank>
void CheckInstance() {
  if (!wf::isa::Supported(Isa{})) {
    WARN("not run: this CPU lacks " << Isa::kName);
    return;
  }
  wf::TernaryInstance kernels;
  kernels.gemv = [](const wf::TernaryArgs& a) noexcept { wf::TernaryGemv<Isa, Block, Rank>{}(a); };
  kernels.gemm = [](const wf::TernaryArgs& a) noexcept { wf::TernaryGemm<Isa, Block, Rank>{}(a); };
  kernels.rank = Rank;
  CheckInstance(Isa::kName, Block::kType, Block::kSize, kernels);
}

}  // namespace

#define WF_INSTANCE(ISA, B, R)                                                       \
  TEST_CASE("ternary " #ISA " " #B " rank " #R " equals plain loops", "[per_isa]") { \
    CheckInstance<wf::isa::ISA, wf::block::B, R>();                                  \
  }
#include "wf/kernels/instances.def"

TEST_CASE("the worked example of Microsoft's kernel: sums and bits") {
  // formats.md 2.8 (4 x 128 matrix, scale 0.75) and 4.1 (activations and results).
  std::vector<int8_t> w(512);
  for (size_t n = 0; n < 512; ++n) {
    const uint32_t h = static_cast<uint32_t>((n + 1) * 2654435761u) >> 16;
    w[n] = static_cast<int8_t>(static_cast<int>(h % 3) - 1);
  }
  std::vector<uint8_t> packed(128);
  wf::PackTernary(wf::TensorType::kI2_S, w.data(), 1, 512, 1, packed.data());
  const uint8_t head[8] = {0x1a, 0x91, 0x19, 0x99, 0x99, 0x98, 0x88, 0x98};
  CHECK(std::memcmp(packed.data(), head, 8) == 0);
  std::vector<float> x(128);
  for (int i = 0; i < 128; ++i) x[static_cast<size_t>(i)] = static_cast<float>((29 * i) % 101 - 50) / 32.0f;
  const uint32_t want[4] = {0xbeaecd9c, 0x4169b5ec, 0x418589d4, 0x3d972e5c};
  for (int i = 0; i < wf::isa::kCount; ++i) {
    const auto id = static_cast<wf::isa::Id>(i);
    if (!wf::isa::Supported(id) || ((wf::CompiledIsas() >> i) & 1u) == 0) continue;
    const wf::KernelTable& k = wf::Kernels(id);
    int8_t q[128];
    float a = 0;
    int32_t sum = 0;
    k.quantise({.x = x.data(),
                .k = 128,
                .order = static_cast<uint8_t>(wf::block::ActOrder::kPaired),
                .out = q,
                .act_scale = &a,
                .sum = &sum});
    CHECK(sum == -405);
    CHECK(std::bit_cast<uint32_t>(a) == 0x42a28f5cu);
    CHECK(q[0] == -127);
    CHECK(q[126] == -81);
    CHECK(q[127] == -8);
    float y[4];
    wf::FindTernary(id, wf::TensorType::kI2_S, 0)
        .gemv({.w = packed.data(),
               .k = 128,
               .row_end = 4,
               .w_scale = 0.75f,
               .x = q,
               .x_stride = 128,
               .x_sum = &sum,
               .act_scale = &a,
               .y = y,
               .y_stride = 4});
    for (int r = 0; r < 4; ++r) CHECK(std::bit_cast<uint32_t>(y[r]) == want[r]);
  }
}
