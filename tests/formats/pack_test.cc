// SPDX-License-Identifier: Apache-2.0
// Packing as a whole, on random data: every type against its element-wise definition in block.h, any number of rows and
// row length that it can hold, bytes that depend on nothing but the values; and how good the searched scales of Q6_K
// and Q4_K are. Byte vectors: types_test.cc.
#include "wf/quant/pack.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <random>
#include <vector>

#include "tests/catch.h"
#include "wf/quant/block.h"
#include "wf/quant/dense.h"

namespace wf {
namespace {

std::vector<int8_t> RandomTernary(size_t n, uint32_t seed) {
  std::mt19937 rng(seed);
  std::vector<int8_t> v(n);
  for (int8_t& x : v) x = static_cast<int8_t>(static_cast<int>(rng() % 3) - 1);
  return v;
}

struct Shape {
  size_t rows, k;
};

// Bytes of the packed values: without the tail that holds the scale of I2_S.
size_t PackedBytes(TensorType t, Shape s) {
  uint64_t bytes = 0;
  REQUIRE(TensorBytes(*FindTensorType(static_cast<uint32_t>(t)), s.k, s.rows, &bytes));
  return static_cast<size_t>(bytes) - (IsI2s(t) ? 32 : 0);
}

// In a buffer of exactly that size, so that sanitizers see a byte too far.
std::vector<uint8_t> Pack(TensorType t, const std::vector<int8_t>& v, Shape s, float d, uint8_t fill) {
  std::vector<uint8_t> out(PackedBytes(t, s), fill);
  out.shrink_to_fit();
  PackTernary(t, v.data(), s.rows, s.k, d, out.data());
  return out;
}

template <class B>
void CheckType(const std::vector<Shape>& shapes) {
  constexpr TensorType kT = B::kType;
  REQUIRE(IsPackedTernary(kT));
  REQUIRE(TernaryScaleSize(kT) == B::kScaleSize);
  for (const Shape s : shapes) {
    INFO(TensorTypeName(kT) << " " << s.rows << " x " << s.k);
    const std::vector<int8_t> v = RandomTernary(s.rows * s.k, static_cast<uint32_t>(s.rows * 1000 + s.k));
    const float d = StoredTernaryScale(kT, 0.7321f);
    const std::vector<uint8_t> packed = Pack(kT, v, s, d, 0);
    CHECK(packed == Pack(kT, v, s, d, 0xff));
    CHECK(packed == Pack(kT, v, s, d, 0xa5));
    std::vector<int8_t> row(s.k);
    std::vector<float> scales(B::kScaleSize == 0 ? 1 : s.k / B::kScaleSize);
    size_t wrong_codes = 0, wrong_values = 0, wrong_scales = 0;
    for (size_t r = 0; r < s.rows; ++r) {
      std::fill(row.begin(), row.end(), int8_t{99});
      std::fill(scales.begin(), scales.end(), -1.0f);
      UnpackTernary(kT, packed.data(), r, s.k, row.data(), scales.data());
      for (size_t c = 0; c < s.k; ++c) {
        const int value = v[r * s.k + c];
        wrong_codes += static_cast<int>(B::Code(packed.data(), s.k, r, c)) - 1 != value;
        wrong_values += row[c] != value;
        const float stored = scales[B::kScaleSize == 0 ? 0 : c / B::kScaleSize];
        wrong_scales += stored != (IsI2s(kT) ? 1.0f : d) || B::Scale(packed.data(), s.k, r, c) != stored;
      }
    }
    CHECK(wrong_codes == 0);
    CHECK(wrong_values == 0);
    CHECK(wrong_scales == 0);
  }
}

TEST_CASE("Every packed type is what block.h says, element by element, whatever was in the buffer") {
  const std::vector<Shape> by256 = {{1, 256}, {3, 512}, {5, 768}, {7, 2560}};
  const std::vector<Shape> by64 = {{1, 64}, {3, 64}, {5, 192}, {7, 576}, {3, 2560}};
  // I2_S: rows that begin and end inside a group, too.
  CheckType<block::I2S>({{1, 128}, {3, 128}, {5, 256}, {2, 576}, {64, 2}, {128, 1}, {128, 3}, {2, 64}, {8, 80}});
  CheckType<block::I2S_ARM64>({{1, 64}, {3, 64}, {5, 192}, {64, 3}, {4, 80}, {2, 576}});
  CheckType<block::I2S_X4>({{4, 1}, {4, 7}, {8, 128}, {12, 33}});
  CheckType<block::TQ1_0>(by256);
  CheckType<block::TQ2_0>(by256);
  CheckType<block::IQ1_BN>(by64);
  CheckType<block::IQ2_BN>(by64);
  CheckType<block::IQ2_BN_R4>({{4, 64}, {8, 192}, {12, 576}});
  CheckType<block::Q2_0>(by64);
  CheckType<block::Q2_0_128>({{1, 128}, {3, 384}, {5, 2560}});
}

template <class B>
void CheckAnyBytes(Shape s) {
  INFO(TensorTypeName(B::kType));
  std::vector<uint8_t> w(PackedBytes(B::kType, s));
  std::mt19937 rng(7);
  for (uint8_t& b : w) b = static_cast<uint8_t>(rng());
  std::vector<int8_t> row(s.k);
  size_t wrong = 0;
  for (size_t r = 0; r < s.rows; ++r) {
    UnpackTernary(B::kType, w.data(), r, s.k, row.data(), nullptr);
    for (size_t c = 0; c < s.k; ++c) wrong += row[c] != static_cast<int>(B::Code(w.data(), s.k, r, c)) - 1;
  }
  CHECK(wrong == 0);
}

TEST_CASE("Random bytes are read alike by UnpackTernary and by block.h") {
  CheckAnyBytes<block::I2S>({4, 96});
  CheckAnyBytes<block::I2S_ARM64>({4, 80});
  CheckAnyBytes<block::I2S_X4>({8, 33});
  CheckAnyBytes<block::TQ1_0>({3, 512});
  CheckAnyBytes<block::TQ2_0>({3, 512});
  CheckAnyBytes<block::IQ1_BN>({3, 192});
  CheckAnyBytes<block::IQ2_BN>({3, 192});
  CheckAnyBytes<block::IQ2_BN_R4>({8, 192});
  CheckAnyBytes<block::Q2_0>({3, 192});
  CheckAnyBytes<block::Q2_0_128>({3, 384});
}

TEST_CASE("Other types are no packed ternary types") {
  for (const TensorTypeInfo& t : kTensorTypes) {
    const bool packed = IsI2s(t.type) || t.name.substr(0, 2) == "TQ" || t.name.find("_BN") != std::string_view::npos ||
                        t.name.substr(0, 4) == "Q2_0";
    CHECK(IsPackedTernary(t.type) == packed);
    if (!packed) CHECK(TernaryScaleSize(t.type) == 0);
  }
}

TEST_CASE("A stored scale is the nearest that is not below: exact in f32 types, rounded up in f16 ones") {
  for (const TensorType t : {TensorType::kI2_S, TensorType::kI2_S_ARM64, TensorType::kI2_S_X4, TensorType::kIQ2_BN,
                             TensorType::kIQ2_BN_R4}) {
    for (const float s : {0.7321f, 1e-30f, 1e30f, 0.0f}) CHECK(StoredTernaryScale(t, s) == s);
  }
  for (const TensorType t :
       {TensorType::kTQ1_0, TensorType::kTQ2_0, TensorType::kIQ1_BN, TensorType::kQ2_0, TensorType::kQ2_0_128}) {
    CHECK(StoredTernaryScale(t, 0.5f) == 0.5f);
    CHECK(StoredTernaryScale(t, 0.0f) == 0.0f);
    CHECK(StoredTernaryScale(t, 1.0f + 0x1p-20f) == 1.0f + 0x1p-10f);
    CHECK(StoredTernaryScale(t, 1.0f + 0x1p-11f + 0x1p-20f) == 1.0f + 0x1p-10f);
    CHECK(StoredTernaryScale(t, 1e-30f) == 0x1p-24f);
    CHECK(StoredTernaryScale(t, 65504.0f) == 65504.0f);
    CHECK(StoredTernaryScale(t, 65505.0f) == 65504.0f);  // no f16 is larger
    CHECK(StoredTernaryScale(t, 1e30f) == 65504.0f);
    std::mt19937 rng(3);
    for (int i = 0; i < 2000; ++i) {
      const float s =
          std::ldexp(1.0f + static_cast<float>(rng() % 8388608u) * 0x1p-23f, static_cast<int>(rng() % 28) - 14);
      const float stored = StoredTernaryScale(t, s);
      REQUIRE(stored >= s);
      REQUIRE(static_cast<double>(stored - s) < std::ldexp(1.0, std::ilogb(s) - 10));
      REQUIRE(F32FromF16(F16FromF32(stored)) == stored);
    }
  }
}

// --- dense types ------------------------------------------------------------------------------------------

enum class Kind { kGaussian, kUniform, kHeavyTail, kOffset };

std::vector<float> RandomFloats(Kind kind, size_t n, uint32_t seed) {
  std::mt19937 rng(seed);
  std::vector<float> v(n);
  const auto gauss = [&] {  // sum of twelve uniforms: the same everywhere, unlike std::normal_distribution
    float s = -6;
    for (int i = 0; i < 12; ++i) s += static_cast<float>(rng() >> 8) * 0x1p-24f;
    return s;
  };
  for (float& x : v) {
    const float g = gauss();
    switch (kind) {
      case Kind::kGaussian:
        x = 0.02f * g;
        break;
      case Kind::kUniform:
        x = static_cast<float>(rng() >> 8) * 0x1p-23f - 1.0f;
        break;
      case Kind::kHeavyTail:
        x = 0.01f * g * g * g;
        break;
      case Kind::kOffset:
        x = 0.02f * g - 0.03f;
        break;
    }
  }
  return v;
}

double Rms(TensorType t, const std::vector<float>& x) {
  DenseType dense{};
  REQUIRE(ToDenseType(t, &dense));
  std::vector<uint8_t> packed(x.size() / DenseBlock(dense) * DenseBlockBytes(dense), 0xee);
  QuantiseDenseRow(t, x.data(), x.size(), packed.data());
  std::vector<uint8_t> again(packed.size(), 0x11);
  QuantiseDenseRow(t, x.data(), x.size(), again.data());
  CHECK(packed == again);
  std::vector<float> y(x.size());
  DequantRow(dense, packed.data(), 0, x.size(), y.data());
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double e = static_cast<double>(x[i]) - static_cast<double>(y[i]);
    sum += e * e;
  }
  return std::sqrt(sum / static_cast<double>(x.size()));
}

// Why these bounds: rounding errors are proportional to the step. Q8_0 spreads 254 steps over twice the largest
// magnitude of 32 values; Q6_K 63 steps over that of 16, Q4_K 15 steps over no more than that of 32. So the errors may
// grow by 254/63 and 254/15, if what the coarser scales lose is won back by searching them, and Q4_0's 16 steps are one
// bound more.
TEST_CASE("Q6_K and Q4_K lose no more against Q8_0 than their bits explain") {
  for (const Kind kind : {Kind::kGaussian, Kind::kUniform, Kind::kHeavyTail, Kind::kOffset}) {
    const std::vector<float> x = RandomFloats(kind, 256 * 64, 17 + static_cast<uint32_t>(kind));
    const double q8 = Rms(TensorType::kQ8_0, x), q6 = Rms(TensorType::kQ6_K, x), q4 = Rms(TensorType::kQ4_K, x);
    INFO("distribution " << static_cast<int>(kind) << ": Q6_K / Q8_0 = " << q6 / q8 << ", Q4_K / Q8_0 = " << q4 / q8
                         << ", Q4_K / Q4_0 = " << q4 / Rms(TensorType::kQ4_0, x));
    CHECK(q8 > 0);
    CHECK(q6 <= q8 * 254 / 63);
    CHECK(q4 <= q8 * 254 / 15);
    CHECK(q4 < Rms(TensorType::kQ4_0, x));
    CHECK(q6 < q4);
  }
}

TEST_CASE("Values that a K block can hold exactly are held nearly so: the search finds the scales") {
  // Ternary rows as floats: three levels.
  std::vector<float> x(512);
  const std::vector<int8_t> t = RandomTernary(512, 5);
  for (size_t i = 0; i < 512; ++i) x[i] = 0.75f * t[i];
  CHECK(Rms(TensorType::kQ6_K, x) < 0.75 / 1024);  // f16 scale: 11 bits
  CHECK(Rms(TensorType::kQ4_K, x) < 0.75 / 64);    // two of 15 steps' rounding by six-bit scales
}

TEST_CASE("Zeros, constants, tiny and huge values in K blocks give finite values near them") {
  for (const TensorType t : {TensorType::kQ6_K, TensorType::kQ4_K}) {
    INFO(TensorTypeName(t));
    CHECK(Rms(t, std::vector<float>(256, 0.0f)) == 0);
    CHECK(Rms(t, std::vector<float>(256, -1.5f)) < 1.5 / 500);
    CHECK(Rms(t, std::vector<float>(256, 1.5f)) < 1.5 / 500);
    CHECK(Rms(t, std::vector<float>(256, 1e-30f)) < 1.001e-30);  // zeros
    CHECK(Rms(t, std::vector<float>(256, std::numeric_limits<float>::denorm_min())) <= 1e-44);
    std::vector<float> spike(256);
    spike[100] = 3.0f;
    CHECK(Rms(t, spike) < 3.0 / 500);
    CHECK(std::isfinite(Rms(t, std::vector<float>(256, 60000.0f))));
    CHECK(std::isfinite(Rms(t, std::vector<float>(256, std::numeric_limits<float>::max()))));
    CHECK(std::isfinite(Rms(t, std::vector<float>(256, std::numeric_limits<float>::lowest()))));
  }
}

}  // namespace
}  // namespace wf
