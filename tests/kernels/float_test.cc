// SPDX-License-Identifier: Apache-2.0
// Kernels on floats: every ISA against the scalar definition, bit for bit; the scalar definition against double
// arithmetic, within a band that has a reason.
#include <cmath>
#include <string>
#include <vector>

#include "tests/catch.h"
#include "tests/kernels/guarded.h"
#include "tests/kernels/isas.h"
#include "wf/base/half.h"
#include "wf/kernels/ref.h"
#include "wf/kernels/table.h"
#include "wf/quant/dense.h"
#include "wf/quant/pack.h"

namespace {

std::vector<wf::isa::Id> Isas() { return IsasFrom(1); }
const wf::KernelTable& Ref() { return wf::Kernels(wf::isa::Id::kScalar); }

void Fill(Guarded<float>& g, Rng& rng, float range) {
  for (auto& v : g) v = Uniform(rng, -range, range);
}

}  // namespace

TEST_CASE("exp is within 2 ulp of the true value and zero far below", "[kernels]") {
  for (double x = -87.3; x < 88.3; x += 0.00137) {
    const float f = static_cast<float>(x);
    const double want = std::exp(static_cast<double>(f));
    const double ulp = std::ldexp(1.0, std::ilogb(want) - 23);
    if (std::fabs(static_cast<double>(wf::detail::ExpRef(f)) - want) > 2 * ulp) FAIL("exp(" << f << ")");
  }
  CHECK(wf::detail::ExpRef(0.0f) == 1.0f);
  CHECK(wf::detail::ExpRef(-100.0f) == 0.0f);
  CHECK(wf::detail::ExpRef(-INFINITY) == 0.0f);
}

TEST_CASE("dense products", "[kernels][per_isa]") {
  const auto type = static_cast<wf::DenseType>(GENERATE(range(0, static_cast<int>(wf::kDenseTypes))));
  const size_t k = GENERATE(1u, 15u, 16u, 17u, 32u, 96u, 256u, 768u, 1003u);
  const size_t rows = GENERATE(1u, 4u, 7u, 19u), tokens = GENERATE(1u, 2u, 3u, 4u, 5u, 6u, 7u, 8u, 9u, 17u, 65u);
  if (k % wf::DenseBlock(type) != 0) return;
  Rng rng(7);
  const size_t row_bytes = k / wf::DenseBlock(type) * wf::DenseBlockBytes(type);
  Guarded<uint8_t> w(rows * row_bytes);
  std::vector<float> wf32(rows * k);
  if (wf::DenseBlock(type) == 1) {
    for (auto& f : wf32) f = Uniform(rng, -1, 1);
    for (size_t r = 0; r < rows; ++r) {
      wf::QuantiseDenseRow(wf::kDenseTensorTypes[static_cast<size_t>(type)], &wf32[r * k], k, &w[r * row_bytes]);
    }
  } else {  // any bytes, but scales that are numbers
    for (auto& b : w) b = static_cast<uint8_t>(rng());
    for (size_t at = 0; at < w.size(); at += wf::DenseBlockBytes(type)) {
      const uint16_t d = wf::F16FromF32(Uniform(rng, -0.1f, 0.1f)), m = wf::F16FromF32(Uniform(rng, -0.1f, 0.1f));
      std::memcpy(&w[at + (type == wf::DenseType::kQ6_K ? 208 : 0)], &d, 2);
      if (type == wf::DenseType::kQ4_K) std::memcpy(&w[at + 2], &m, 2);
    }
  }
  for (size_t r = 0; r < rows; ++r) wf::DequantRow(type, w.data(), r, k, &wf32[r * k]);
  Guarded<float> x(tokens * k), bias(rows), want(rows * tokens), got(rows * tokens);
  Fill(x, rng, 3);
  Fill(bias, rng, 1);
  wf::DenseArgs a{.w = w.data(),
                  .k = k,
                  .row_end = rows,
                  .x = x.data(),
                  .x_stride = k,
                  .tokens = tokens,
                  .y = want.data(),
                  .y_stride = rows,
                  .bias = tokens == 2 ? bias.data() : nullptr};
  Ref().dense[static_cast<int>(type)](a);
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t r = 0; r < rows; ++r) {
      double sum = a.bias != nullptr ? static_cast<double>(bias[r]) : 0, mass = 1;
      for (size_t i = 0; i < k; ++i) {
        const double p = static_cast<double>(wf32[r * k + i]) * static_cast<double>(x[t * k + i]);
        sum += p;
        mass += std::fabs(p);
      }
      // Each of the k/16 + 5 roundings of a running sum is at most half an ulp of the sum of magnitudes.
      const double bound = mass * (static_cast<double>(k) / 16 + 6) * 0x1p-24;
      if (!(std::fabs(static_cast<double>(want[t * rows + r]) - sum) <= bound)) FAIL("token " << t << " row " << r);
    }
  }
  for (const auto id : Isas()) {
    INFO(wf::isa::Name(id) << " type " << static_cast<int>(type) << " k " << k << " rows " << rows << " tokens "
                           << tokens);
    std::fill(got.begin(), got.end(), -9.0f);
    a.y = got.data();
    a.row_begin = 0;
    wf::Kernels(id).dense[static_cast<int>(type)](a);
    CHECK(SameBits(got, want));
    // Rows that begin anywhere, and nothing else is written.
    std::fill(got.begin(), got.end(), -9.0f);
    a.row_begin = rows / 2;
    wf::Kernels(id).dense[static_cast<int>(type)](a);
    size_t wrong = 0;
    for (size_t t = 0; t < tokens; ++t) {
      for (size_t r = 0; r < rows; ++r) wrong += got[t * rows + r] != (r < rows / 2 ? -9.0f : want[t * rows + r]);
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("activation quantisation", "[kernels][per_isa]") {
  const size_t k = GENERATE(1u, 2u, 31u, 100u, 128u, 256u, 384u, 576u, 640u, 6912u);
  const auto type = GENERATE(wf::TensorType::kI2_S, wf::TensorType::kF16);
  const int kind = GENERATE(0, 1, 2, 3);
  Rng rng(k);
  Guarded<float> x(k);
  Fill(x, rng, 5);
  if (kind == 1) std::fill(x.begin(), x.end(), 0.0f);
  if (kind == 2) x[k / 2] = NAN;
  if (kind == 3) {  // products that lie exactly between two integers: ties to even
    for (size_t i = 0; i < k; ++i) x[i] = static_cast<float>(static_cast<int>(i % 255) - 127) + 0.5f;
    x[0] = 127.0f;
    for (auto& v : x) v = v > 127.0f ? 127.0f : v;
  }
  const auto order = wf::block::OrderFor(type, k);
  const size_t bytes = wf::block::ActBytes(order, k);
  Guarded<int8_t> want(bytes), got(bytes);
  float scale = 0, scale2 = 0;
  int32_t sum = 0, sum2 = 0;
  wf::QuantiseArgs a{.x = x.data(),
                     .k = k,
                     .order = static_cast<uint8_t>(order),
                     .out = want.data(),
                     .act_scale = &scale,
                     .sum = &sum};
  Ref().quantise(a);
  if (kind == 1) {
    CHECK(scale == 127.0f / 1e-5f);
    CHECK(sum == 0);
  }
  if (kind == 0 || kind == 3) {
    int64_t total = 0;
    for (size_t i = 0; i < k; ++i) {
      const double q = std::nearbyint(static_cast<double>(x[i] * scale));
      CHECK(want[wf::block::ActIndex(order, i, k)] == static_cast<int8_t>(q));
      total += static_cast<int64_t>(q);
    }
    CHECK(sum == total);
  }
  for (const auto id : Isas()) {
    INFO(wf::isa::Name(id) << " k " << k << " kind " << kind);
    std::fill(got.begin(), got.end(), int8_t{55});
    a.out = got.data();
    a.act_scale = &scale2;
    a.sum = &sum2;
    wf::Kernels(id).quantise(a);
    CHECK(scale2 == scale);
    CHECK(sum2 == sum);
    CHECK(SameBits(got, want));
  }
}

TEST_CASE("RMSNorm, gated activations, add, softmax", "[kernels][per_isa]") {
  const size_t n = GENERATE(1u, 4u, 15u, 16u, 33u, 2560u);
  Rng rng(n);
  Guarded<float> x(n), w(n), want(n), got(n);
  Fill(x, rng, 9);
  Fill(w, rng, 2);
  const auto check = [&](auto run) {
    run(Ref(), want.data());
    for (const auto id : Isas()) {
      INFO(wf::isa::Name(id) << " n " << n);
      std::fill(got.begin(), got.end(), 77.0f);
      run(wf::Kernels(id), got.data());
      CHECK(SameBits(got, want));
    }
  };
  check([&](const wf::KernelTable& k, float* y) {
    k.rms_norm({.x = x.data(), .w = w.data(), .y = y, .n = n, .eps = 1e-5f});
  });
  for (const bool relu2 : {true, false}) {
    check([&](const wf::KernelTable& k, float* y) {
      k.glu({.gate = x.data(), .up = w.data(), .out = y, .n = n, .relu2 = relu2});
    });
    for (size_t i = 0; i < n; ++i) {
      const double g = static_cast<double>(x[i]), r = g > 0 ? g : 0;
      const double v = (relu2 ? r * r : g / (1 + std::exp(-g))) * static_cast<double>(w[i]);
      CHECK(static_cast<double>(want[i]) == Approx(v).epsilon(1e-6).margin(1e-7));  // a few f32 roundings
    }
  }
  check([&](const wf::KernelTable& k, float* y) {
    std::memcpy(y, w.data(), n * sizeof(float));
    k.add({.x = x.data(), .y = y, .n = n});
  });
  float lse = 0;
  check([&](const wf::KernelTable& k, float* y) { k.softmax({.x = x.data(), .p = y, .n = n, .lse = &lse}); });
  double sum = 0, exact = 0;
  for (size_t i = 0; i < n; ++i) {
    sum += static_cast<double>(want[i]);
    exact += std::exp(static_cast<double>(x[i]));
  }
  CHECK(sum == Approx(1.0).epsilon(1e-5));  // n roundings of 2^-24
  CHECK(static_cast<double>(lse) == Approx(std::log(exact)).margin(1e-5));
}

TEST_CASE("RMSNorm and RoPE give the values of the format notes") {
  // formats.md 4.4.
  const float x[4] = {1, -2, 3, -4}, w[4] = {1, .5f, 2, 1};
  float y[4];
  Ref().rms_norm({.x = x, .w = w, .y = y, .n = 4, .eps = 1e-5f});
  const float want[4] = {0.36514813f, -0.36514813f, 2.19088877f, -1.46059251f};
  for (int i = 0; i < 4; ++i) CHECK(y[i] == Approx(want[i]).epsilon(1e-6));
  float cos[4], sin[4];
  for (int i = 0; i < 4; ++i) {
    const double theta = 3 * std::pow(10000.0, -2.0 * i / 8);
    cos[i] = static_cast<float>(std::cos(theta));
    sin[i] = static_cast<float>(std::sin(theta));
  }
  const double norm[8] = {-1.272233, -1.838865, 1.683929, 4.707907, 4.817777, 6.147278, 6.975969, 8.020964};
  const double neox[8] = {-1.695593, 0.137552, 2.788682, 3.975982, -4.808842, 6.323059, 7.086837, 8.011964};
  for (const bool is_neox : {false, true}) {
    float v[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    Ref().rope({.x = v, .heads = 1, .head_dim = 8, .pairs = 4, .cos = cos, .sin = sin, .neox = is_neox});
    for (int i = 0; i < 8; ++i) CHECK(static_cast<double>(v[i]) == Approx(is_neox ? neox[i] : norm[i]).margin(2e-6));
  }
}

TEST_CASE("RoPE", "[kernels][per_isa]") {
  const size_t pairs = GENERATE(1u, 16u, 20u, 64u), heads = 3, dim = 2 * pairs + 6;
  const bool neox = GENERATE(true, false);
  Rng rng(3);
  Guarded<float> x(heads * dim), want(heads * dim), got(heads * dim), cos(pairs), sin(pairs);
  Fill(x, rng, 4);
  Fill(cos, rng, 1);
  Fill(sin, rng, 1);
  std::memcpy(want.data(), x.data(), x.size() * sizeof(float));
  wf::RopeArgs a{.x = want.data(),
                 .heads = heads,
                 .head_dim = dim,
                 .pairs = pairs,
                 .cos = cos.data(),
                 .sin = sin.data(),
                 .neox = neox};
  Ref().rope(a);
  CHECK(want[dim - 1] == x[dim - 1]);  // beyond the rotated part
  for (const auto id : Isas()) {
    INFO(wf::isa::Name(id));
    std::memcpy(got.data(), x.data(), x.size() * sizeof(float));
    a.x = got.data();
    wf::Kernels(id).rope(a);
    CHECK(SameBits(got, want));
  }
}
