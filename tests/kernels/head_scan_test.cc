// SPDX-License-Identifier: Apache-2.0
// The scan of the output head: every ISA against the scalar definition, bit for bit, and the promise that it makes: no
// logit of the dense product is above its bound, whatever the rows and the activations are.
#include "wf/kernels/head_scan.h"

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "tests/catch.h"
#include "tests/kernels/guarded.h"
#include "tests/kernels/isas.h"
#include "wf/base/half.h"
#include "wf/kernels/table.h"
#include "wf/quant/dense.h"
#include "wf/quant/pack.h"

namespace {

using wf::DenseType;

std::vector<wf::isa::Id> Isas() { return IsasFrom(0); }

// A head of any dense type and its copy, made by one ISA.
struct Head {
  Head(DenseType t, size_t rows_, size_t k_, std::vector<float> values)
      : type(t),
        k(k_),
        rows(rows_),
        data(rows * k / wf::DenseBlock(t) * wf::DenseBlockBytes(t)),
        codes(rows * wf::HeadRowBytes(k)),
        parts(4 * rows) {
    const size_t row_bytes = k / wf::DenseBlock(t) * wf::DenseBlockBytes(t);
    for (size_t r = 0; r < rows; ++r) {
      wf::QuantiseDenseRow(wf::kDenseTensorTypes[static_cast<size_t>(t)], &values[r * k], k, &data[r * row_bytes]);
    }
  }
  wf::HeadParts Parts() { return {&parts[0], &parts[rows], &parts[2 * rows], &parts[3 * rows]}; }
  void Pack(wf::isa::Id id) {
    std::vector<float> scratch(wf::HeadPaddedK(k), 5.0f);
    wf::Kernels(id).head_pack[static_cast<size_t>(type)]({.w = data.data(),
                                                          .k = k,
                                                          .row_begin = 0,
                                                          .row_end = rows,
                                                          .scratch = scratch.data(),
                                                          .codes = codes.data(),
                                                          .parts = Parts()});
  }
  std::vector<float> Logits(const std::vector<float>& x) {
    const wf::KernelTable& table = wf::Kernels(wf::isa::BestSupported(wf::CompiledIsas()));
    std::vector<float> y(x.size() / k * rows);
    table.dense[static_cast<size_t>(type)]({.w = data.data(),
                                            .k = k,
                                            .row_begin = 0,
                                            .row_end = rows,
                                            .x = x.data(),
                                            .x_stride = k,
                                            .tokens = x.size() / k,
                                            .y = y.data(),
                                            .y_stride = rows});
    return y;
  }
  DenseType type;
  size_t k, rows;
  Guarded<uint8_t> data, codes;
  std::vector<float> parts;
};

struct Inputs {
  Inputs(const std::vector<float>& x, size_t k) : codes(x.size() / k * 2 * wf::HeadPaddedK(k)), in(x.size() / k) {
    for (size_t t = 0; t < in.size(); ++t) {
      int8_t* c = &codes[t * 2 * wf::HeadPaddedK(k)];
      ok = wf::PrepareHeadInput(&x[t * k], k, c, &in[t]) && ok;
    }
  }
  std::vector<int8_t> codes;
  std::vector<wf::HeadInput> in;
  bool ok = true;
};

struct Bounds {
  std::vector<float> upper, best;
};
Bounds Scan(Head& h, const Inputs& x, wf::isa::Id id, size_t from = 0) {
  const size_t blocks = (h.rows + wf::kHeadBlock - 1) / wf::kHeadBlock, tokens = x.in.size();
  Bounds b{std::vector<float>(tokens * h.rows, -7.0f), std::vector<float>(tokens * blocks, -7.0f)};
  wf::Kernels(id).head_scan({.codes = h.codes.data(),
                             .parts = h.Parts(),
                             .k = h.k,
                             .row_begin = from,
                             .row_end = h.rows,
                             .x = x.in.data(),
                             .tokens = tokens,
                             .upper = b.upper.data(),
                             .stride = h.rows,
                             .best = b.best.data(),
                             .best_stride = blocks});
  return b;
}

// Rows and activations of many kinds, by number.
constexpr int kRowKinds = 7, kInputKinds = 6;
std::vector<float> Rows(int kind, size_t rows, size_t k, Rng& rng) {
  std::normal_distribution<float> normal;
  std::vector<float> w(rows * k);
  for (size_t i = 0; i < w.size(); ++i) {
    w[i] = normal(rng) * 0.02f;
    if (kind == 1 && i % 97 == 5) w[i] *= 1000;          // outliers: a coarse step for the rest
    if (kind == 2) w[i] = i / k % 3 == 0 ? 0.0f : w[i];  // rows of zeros
    if (kind == 3) w[i] *= 0x1p-110f;                    // squares underflow
    if (kind == 4) w[i] *= 0x1p-130f;                    // subnormal
    if (kind == 5) w[i] = w[i] > 0 ? 0.5f : -0.5f;       // all at the ends of the range
    if (kind == 6) w[i] *= 1e30f;
  }
  return w;
}
std::vector<float> Activations(int kind, size_t tokens, size_t k, Rng& rng) {
  std::normal_distribution<float> normal;
  std::vector<float> x(tokens * k);
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = normal(rng);
    if (kind == 1 && i % 191 == 3) x[i] *= 3000;
    if (kind == 2) x[i] = i % k == 0 ? -1.0f : 0.0f;
    if (kind == 3) x[i] *= 1e-12f;
    if (kind == 4) x[i] = x[i] > 0 ? 1.0f : -1.0f;
    if (kind == 5) x[i] = std::fabs(x[i]) * 40;
  }
  return x;
}

}  // namespace

TEST_CASE("a group of codes comes back from its 192 bytes", "[kernels]") {
  std::vector<uint8_t> codes(wf::kHeadGroup), packed(wf::kHeadGroupBytes);
  for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(i * 37 % 64);
  wf::PackHeadGroup(codes.data(), packed.data());
  for (size_t i = 0; i < codes.size(); ++i) CHECK(wf::HeadCode(packed.data(), i) == codes[i]);
}

TEST_CASE("every ISA packs a head as the definition does", "[kernels][per_isa]") {
  const auto type = static_cast<DenseType>(GENERATE(range(0, static_cast<int>(wf::kDenseTypes))));
  const size_t k = GENERATE(1u, 17u, 128u, 256u, 576u, 1003u);
  const int kind = GENERATE(range(0, kRowKinds));
  if (k % wf::DenseBlock(type) != 0) return;
  Rng rng(11);
  Head want(type, 9, k, Rows(kind, 9, k, rng));
  want.Pack(wf::isa::Id::kScalar);
  for (size_t r = 0; r < want.rows; ++r) {
    if (!std::isfinite(want.Parts().norm[r])) continue;  // 1e30 in F16
    for (size_t c = k; c < wf::HeadPaddedK(k); ++c) {
      REQUIRE(wf::HeadCode(&want.codes[r * wf::HeadRowBytes(k)], c) == wf::kHeadPadding);
    }
  }
  for (const auto id : Isas()) {
    INFO(wf::isa::Name(id) << " type " << static_cast<int>(type) << " k " << k << " rows of kind " << kind);
    Head got(type, 9, k, std::vector<float>(9 * k));
    std::copy(want.data.begin(), want.data.end(), got.data.begin());
    got.Pack(id);
    CHECK(SameBits(got.codes, want.codes));
    CHECK(SameBits(got.parts, want.parts));
  }
}

TEST_CASE("a row that is not finite says so", "[kernels][per_isa]") {
  const float bad = GENERATE(std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                             -std::numeric_limits<float>::infinity());
  const size_t at = GENERATE(0u, 40u, 76u);
  std::vector<float> w(3 * 77, 0.5f);
  w[77 + at] = bad;
  Head h(DenseType::kF32, 3, 77, w);
  for (const auto id : Isas()) {
    h.Pack(id);
    CHECK(std::isfinite(h.parts[3 * 3 + 0]));
    CHECK_FALSE(std::isfinite(h.parts[3 * 3 + 1]));
    CHECK(std::isfinite(h.parts[3 * 3 + 2]));
  }
}

TEST_CASE("every ISA gives the bounds of the definition", "[kernels][per_isa]") {
  const size_t k = GENERATE(1u, 64u, 255u, 256u, 576u, 2560u);
  const size_t rows = GENERATE(1u, 15u, 16u, 37u), tokens = GENERATE(1u, 2u, 4u, 7u);
  const int kind = GENERATE(range(0, kInputKinds));
  Rng rng(static_cast<uint32_t>(k + rows));
  Head h(DenseType::kF32, rows, k, Rows(static_cast<int>(rows % kRowKinds), rows, k, rng));
  h.Pack(wf::isa::Id::kScalar);
  const Inputs x(Activations(kind, tokens, k, rng), k);
  REQUIRE(x.ok);
  const Bounds want = Scan(h, x, wf::isa::Id::kScalar);
  const size_t blocks = (rows + wf::kHeadBlock - 1) / wf::kHeadBlock;
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t b = 0; b < blocks; ++b) {
      float best = want.upper[t * rows + b * wf::kHeadBlock];
      for (size_t r = b * wf::kHeadBlock; r < std::min(rows, (b + 1) * wf::kHeadBlock); ++r) {
        best = std::max(best, want.upper[t * rows + r]);
      }
      CHECK(want.best[t * blocks + b] == best);
    }
  }
  for (const auto id : Isas()) {
    INFO(wf::isa::Name(id) << " k " << k << " rows " << rows << " tokens " << tokens << " x of kind " << kind);
    const Bounds got = Scan(h, x, id);
    CHECK(SameBits(got.upper, want.upper));
    CHECK(got.best == want.best);
    if (rows <= wf::kHeadBlock) continue;
    const Bounds part = Scan(h, x, id, wf::kHeadBlock);  // from a later block on, and nothing before it
    for (size_t t = 0; t < tokens; ++t) {
      CHECK(part.best[t * blocks] == -7.0f);
      for (size_t r = 0; r < rows; ++r) {
        REQUIRE(part.upper[t * rows + r] == (r < wf::kHeadBlock ? -7.0f : want.upper[t * rows + r]));
      }
    }
  }
}

TEST_CASE("the largest low parts of activations are the same on every ISA", "[kernels][per_isa]") {
  const size_t k = 4096;
  Head h(DenseType::kF32, 1, k, std::vector<float>(k, 1.0f));
  // 16192 = 128 * 127 - 64 of the greatest activation's 16256: high part 127, low part -64.
  std::vector<float> values(k, 16192.0f / 16256.0f);
  values[0] = 1;
  const Inputs x(values, k);
  REQUIRE(x.ok);
  h.Pack(wf::isa::Id::kScalar);
  const Bounds want = Scan(h, x, wf::isa::Id::kScalar);
  CHECK(want.upper[0] >= 1 + 4095 * (16192.0f / 16256.0f));
  for (const auto id : Isas()) {
    INFO(wf::isa::Name(id));
    CHECK(std::bit_cast<uint32_t>(Scan(h, x, id).upper[0]) == std::bit_cast<uint32_t>(want.upper[0]));
  }
}

TEST_CASE("sums of the largest possible codes are exact", "[kernels][per_isa]") {
  const size_t k = 65536;
  const float sign = GENERATE(1.0f, -1.0f);
  Head h(DenseType::kF32, 1, k, std::vector<float>(k, 1.0f));
  const Inputs x(std::vector<float>(k, sign), k);
  REQUIRE(x.ok);
  for (const auto id : Isas()) {
    h.Pack(id);
    const Bounds b = Scan(h, x, id);
    INFO(wf::isa::Name(id));
    // All weights and activations are met exactly: what is left of the bound is for rounding only, and the dense
    // product's is at most k (k/16 + 5) 2^-24.
    CHECK(b.upper[0] >= sign * 65536.0f);
    CHECK(b.upper[0] <= sign * 65536.0f + 65536.0f * 2 * 4101 * 0x1p-24f * 1.1f + 65536.0f * 0x1p-14f);
  }
}

TEST_CASE("no logit is above its bound", "[kernels]") {
  const auto type = GENERATE(DenseType::kF32, DenseType::kF16, DenseType::kBF16, DenseType::kQ8_0, DenseType::kQ6_K);
  const size_t k = GENERATE(1u, 31u, 256u, 576u, 768u, 2561u);
  const int row_kind = GENERATE(range(0, kRowKinds)), x_kind = GENERATE(range(0, kInputKinds));
  if (k % wf::DenseBlock(type) != 0 || (row_kind == 6 && type != DenseType::kF32 && type != DenseType::kBF16)) return;
  Rng rng(static_cast<uint32_t>(k * 100 + static_cast<size_t>(row_kind * 10 + x_kind)));
  Head h(type, 48, k, Rows(row_kind, 48, k, rng));
  const auto id = wf::isa::BestSupported(wf::CompiledIsas());
  h.Pack(id);
  const std::vector<float> x = Activations(x_kind, 3, k, rng);
  const Inputs in(x, k);
  REQUIRE(in.ok);
  const Bounds b = Scan(h, in, id);
  const std::vector<float> y = h.Logits(x);
  INFO("type " << static_cast<int>(type) << " k " << k << " rows of kind " << row_kind << " x of kind " << x_kind);
  size_t wrong = 0, useless = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    wrong += !(y[i] <= b.upper[i]);
    // Not better than the trivial bound |w| |x|, which a bound of 6-bit codes is far below unless they are all wrong.
    useless += static_cast<double>(b.upper[i]) - static_cast<double>(y[i]) >
               static_cast<double>(h.Parts().norm[i % 48]) * static_cast<double>(in.in[i / 48].x_norm) + 0x1p-99;
  }
  CHECK(wrong == 0);
  if (row_kind != 3 && row_kind != 4) CHECK(useless == 0);
}

TEST_CASE("weights that conspire with the error of their codes stay below the bound", "[kernels]") {
  // Half a step off, in the direction of the activations: Cauchy and Schwarz are met with equality.
  const size_t k = 512;
  std::vector<float> w(k);
  for (size_t i = 0; i < k; ++i) w[i] = i == 0 ? 31.5f : 3.0f;  // the step is 1, codes stand for halves
  Head h(DenseType::kF32, 1, k, w);
  const auto id = wf::isa::BestSupported(wf::CompiledIsas());
  h.Pack(id);
  std::vector<float> x(k, 1.0f);
  for (const float sign : {1.0f, -1.0f}) {
    for (float& v : x) v = sign;
    x[0] = 0;
    const Bounds b = Scan(h, Inputs(x, k), id);
    const float y = h.Logits(x)[0];
    CHECK(y <= b.upper[0]);
    CHECK(b.upper[0] - y <= 513.0f);  // twice the error of 256, and something for rounding
  }
}

TEST_CASE("activations that no bound is known for", "[kernels]") {
  std::vector<float> x(300, 1.0f);
  std::vector<int8_t> codes(2 * wf::HeadPaddedK(300));
  wf::HeadInput in;
  CHECK(wf::PrepareHeadInput(x.data(), x.size(), codes.data(), &in));
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity(), 1e30f}) {
    x[299] = bad;
    CHECK_FALSE(wf::PrepareHeadInput(x.data(), x.size(), codes.data(), &in));
  }
  std::fill(x.begin(), x.end(), 0.0f);
  CHECK_FALSE(wf::PrepareHeadInput(x.data(), x.size(), codes.data(), &in));
}
