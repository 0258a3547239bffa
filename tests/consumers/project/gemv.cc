// SPDX-License-Identifier: Apache-2.0
// Ternary products with the kernels of this translation unit's mode, under a name of its own (GEMV): the best ISA
// against the scalar instance bit for bit, and a hash that has to be the same in every mode.
#include "gemv.h"

#include <cstdio>
#include <cstring>
#include <vector>

#include "wf/base/half.h"
#include "wf/kernels/dispatch.h"
#include "wf/kernels/table.h"
#include "wf/quant/pack.h"
#include "wf/quant/ternary.h"

namespace {

uint32_t Next(uint32_t& state) { return (state = state * 1664525u + 1013904223u) >> 8; }

// y of the best ISA and of Scalar; false if they differ.
template <class Block, int kRank>
bool Compare(size_t k, size_t rank, uint64_t& hash) {
  constexpr size_t kRows = 37, kTokens = 3;
  uint32_t state = 1;
  std::vector<int8_t> w(kRows * k);
  for (int8_t& v : w) v = static_cast<int8_t>(static_cast<int>(Next(state) % 3) - 1);
  w.resize((w.size() + 127) / 128 * 128);
  std::vector<uint8_t> packed(w.size() / 4);
  wf::PackTernary(wf::TensorType::kI2_S, w.data(), 1, w.size(), 1, packed.data());
  std::vector<float> floats(kRows * k);
  for (size_t i = 0; i < floats.size(); ++i) floats[i] = 0.5f * static_cast<float>(w[i]);

  const wf::block::ActOrder order = wf::block::OrderFor(Block::kType, k);
  const size_t stride = wf::block::ActBytes(order, k);
  std::vector<int8_t> x(kTokens * stride);
  std::vector<int32_t> sums(kTokens);
  std::vector<float> scales(kTokens, 3.75f), bias(kRows), t(kTokens * rank);
  for (size_t token = 0; token < kTokens; ++token) {
    for (size_t i = 0; i < k; ++i) {
      const int8_t q = static_cast<int8_t>(static_cast<int>(Next(state) % 255) - 127);
      x[token * stride + wf::block::ActIndex(order, i, k)] = q;
      sums[token] += q;
    }
  }
  std::vector<uint16_t> u(kRows * rank);
  for (uint16_t& v : u) v = wf::F16FromF32(static_cast<float>(Next(state) % 1000) / 512.0f - 1);
  for (float& v : t) v = static_cast<float>(Next(state) % 1000) / 100.0f - 5;
  for (float& v : bias) v = static_cast<float>(Next(state) % 7);

  std::vector<float> y(kTokens * kRows), want(kTokens * kRows);
  wf::TernaryArgs a;
  a.w = Block::kType == wf::TensorType::kI2_S ? static_cast<const void*>(packed.data()) : floats.data();
  a.k = k;
  a.row_end = kRows;
  a.w_scale = 0.7f;
  a.x = x.data();
  a.x_stride = stride;
  a.x_sum = sums.data();
  a.act_scale = scales.data();
  a.tokens = kTokens;
  a.y_stride = kRows;
  a.bias = bias.data();
  a.lrc_u = u.data();
  a.lrc_t = t.data();
  a.lrc_t_stride = rank;
  a.lrc_rank = rank;
  a.y = y.data();
  wf::TernaryGemm<wf::isa::Best, Block, kRank>{}(a);
  a.y = want.data();
  wf::TernaryGemm<wf::isa::Scalar, Block, kRank>{}(a);
  bool same = std::memcmp(y.data(), want.data(), y.size() * sizeof(float)) == 0;

  // The same through the table of function pointers, and one token through the gemv.
  const wf::TernaryInstance found = wf::FindTernary(wf::isa::BestSupported(wf::CompiledIsas()), Block::kType, rank);
  if (found.gemm == nullptr) return false;
  std::vector<float> z(kTokens * kRows);
  a.y = z.data();
  found.gemm(a);
  same = same && std::memcmp(z.data(), want.data(), z.size() * sizeof(float)) == 0;
  a.tokens = 1;
  wf::TernaryGemv<wf::isa::Best, Block, kRank>{}(a);
  same = same && std::memcmp(z.data(), want.data(), kRows * sizeof(float)) == 0;

  for (const float v : want) {
    uint32_t bits = 0;
    std::memcpy(&bits, &v, sizeof bits);
    hash = (hash ^ bits) * 0x100000001b3u;
  }
  return same;
}

}  // namespace

Outcome GEMV() {
  Outcome o;
  o.compiled = wf::CompiledIsas();
  o.mask = WF_ISA_MASK;
  o.same = Compare<wf::block::I2S, 0>(256, 0, o.hash) && Compare<wf::block::I2S, 64>(640, 64, o.hash) &&
           Compare<wf::block::I2S, wf::kDynamic>(576, 13, o.hash) && Compare<wf::block::F32, 0>(40, 0, o.hash);
  return o;
}
