// SPDX-License-Identifier: Apache-2.0
// The byte vectors of formats.md 2.2 to 2.8, 2.11 and 2.12, and 4.3's row: what we write is them to the byte, and what
// is read from them is what is written there. Random data, tails and odd shapes are in pack_test.cc.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "tests/catch.h"
#include "tests/formats/gguf_bytes.h"
#include "wf/base/half.h"
#include "wf/quant/block.h"
#include "wf/quant/dense.h"
#include "wf/quant/pack.h"

namespace wf {
namespace {

using test::FromHex;

std::vector<uint8_t> Hex(std::string_view hex) {
  const std::string s = FromHex(hex);
  return {s.begin(), s.end()};
}

// Codes 0..2 as digits; blanks do not count.
std::vector<int8_t> Values(std::string_view codes) {
  std::vector<int8_t> v;
  for (const char c : codes) {
    if (c >= '0' && c <= '2') v.push_back(static_cast<int8_t>(c - '1'));
  }
  return v;
}

// t(n), n < 256, which formats.md 2.7 gives as codes: the input of TQ1_0 and TQ2_0; the first 64 and 128 are those of
// Q2_0 and IQ*_BN.
constexpr std::string_view kCodes256 =
    "0202222221211111101000202222221211111101000202222221212111100000"
    "2022222212121111000002022222212121111000002020222212121110000002"
    "0202222121211101000020202222121211101000020202222121210101000020"
    "2022222212101010000202022222212101010000202022222211101010000002";

// Packs, compares, unpacks, compares.
void BothWays(TensorType t, const std::vector<int8_t>& values, size_t rows, float d, const std::vector<uint8_t>& want) {
  INFO(TensorTypeName(t));
  const size_t k = values.size() / rows;
  std::vector<uint8_t> got(want.size());
  PackTernary(t, values.data(), rows, k, d, got.data());
  CHECK(got == want);
  std::vector<int8_t> back(k);
  for (size_t r = 0; r < rows; ++r) {
    std::vector<float> scales(TernaryScaleSize(t) == 0 ? 1 : k / TernaryScaleSize(t), -1.0f);
    UnpackTernary(t, want.data(), r, k, back.data(), scales.data());
    CHECK(back == std::vector<int8_t>(values.begin() + static_cast<std::ptrdiff_t>(r * k),
                                      values.begin() + static_cast<std::ptrdiff_t>(r * k + k)));
    for (const float s : scales) CHECK(s == (IsI2s(t) ? 1.0f : d));
  }
}

TEST_CASE("F16 and BF16 rows: formats.md 2.2") {
  const struct {
    uint32_t f32;
    const char* bytes;
  } rows[] = {{0x3f800000, "803f"}, {0xc0000000, "00c0"}, {0x3dcccccd, "cd3d"}, {0x40490fdb, "4940"},
              {0x000116c2, "0100"}, {0x477fe000, "8047"}, {0x7f800000, "807f"}, {0x7fc00000, "c07f"},
              {0x3f808000, "803f"}, {0x3f818000, "823f"}, {0x80000000, "0080"}, {0x7f7fc99e, "807f"}};
  for (const auto& row : rows) {
    const float x = std::bit_cast<float>(row.f32);
    std::vector<uint8_t> got(2);
    QuantiseDenseRow(TensorType::kBF16, &x, 1, got.data());
    CHECK(got == Hex(row.bytes));
  }
  const float x[] = {1.0f, -2.0f, 65504.0f, 0x1p-24f};
  std::vector<uint8_t> f16(8), f32(16);
  QuantiseDenseRow(TensorType::kF16, x, 4, f16.data());
  CHECK(f16 == Hex("003c 00c0 ff7b 0100"));
  QuantiseDenseRow(TensorType::kF32, x, 4, f32.data());
  CHECK(std::memcmp(f32.data(), x, 16) == 0);
}

std::vector<float> Ramp() {
  std::vector<float> x(32);
  for (int i = 0; i < 32; ++i) x[static_cast<size_t>(i)] = static_cast<float>(i - 15) / 8;
  return x;
}

// As formats.md prints values: nine digits, or six in the vectors of Q4_K and Q6_K.
void CheckNear(float got, double want, double relative) {
  INFO("found " << got << ", expected " << want);
  CHECK(std::fabs(static_cast<double>(got) - want) <= relative * std::fabs(want));
}

TEST_CASE("Q8_0: formats.md 2.3") {
  const std::vector<uint8_t> want =
      Hex("0824899199a1a9b1b9c0c8d0d8e0e8f0f8000810182028303840474f575f676f"
          "777f");
  std::vector<uint8_t> got(34);
  QuantiseDenseRow(TensorType::kQ8_0, Ramp().data(), 32, got.data());
  CHECK(got == want);
  float y[32];
  DequantRow(DenseType::kQ8_0, want.data(), 0, 32, y);
  const double first[] = {-1.87390137, -1.7479248, -1.62194824, -1.49597168, -1.36999512, -1.24401855};
  for (size_t i = 0; i < 6; ++i) CheckNear(y[i], first[i], 1e-8);
}

TEST_CASE("Q4_0: formats.md 2.4") {
  const std::vector<uint8_t> want = Hex("00b48f7f7f6e6e5d5d4c4c3b3b2a2a191908");
  std::vector<uint8_t> got(18);
  QuantiseDenseRow(TensorType::kQ4_0, Ramp().data(), 32, got.data());
  CHECK(got == want);
  const float values[] = {-1.75, -1.75, -1.75, -1.5,  -1.5, -1.25, -1.25, -1,   -1,   -0.75, -0.75,
                          -0.5,  -0.5,  -0.25, -0.25, -0,   -0,    0.25,  0.25, 0.5,  0.5,   0.75,
                          0.75,  1,     1,     1.25,  1.25, 1.5,   1.5,   1.75, 1.75, 2};
  float y[32];
  DequantRow(DenseType::kQ4_0, want.data(), 0, 32, y);
  for (size_t i = 0; i < 32; ++i) CHECK(y[i] == values[i]);
}

TEST_CASE("Q8_0 and Q4_0: zeros are a block of zeros") {
  const std::vector<float> zero(32);
  std::vector<uint8_t> q8(34, 0xee), q4(18, 0xee);
  QuantiseDenseRow(TensorType::kQ8_0, zero.data(), 32, q8.data());
  CHECK(q8 == std::vector<uint8_t>(34));
  QuantiseDenseRow(TensorType::kQ4_0, zero.data(), 32, q4.data());
  float y[32];
  DequantRow(DenseType::kQ4_0, q4.data(), 0, 32, y);
  for (const float v : y) CHECK(v == 0);
}

struct At {
  size_t i;
  double value;
};

void CheckBlock(DenseType t, const std::vector<uint8_t>& block, const std::vector<At>& at, double sum) {
  float y[256];
  DequantRow(t, block.data(), 0, 256, y);
  for (const At& a : at) {
    INFO("element " << a.i);
    CheckNear(y[a.i], a.value, 6e-6);  // six digits are printed
  }
  double total = 0;  // exact: every value is a small multiple of a power of two
  for (const float v : y) total += static_cast<double>(v);
  CHECK(total == sum);
}

// Byte k of the vectors of Q4_K and Q6_K before their scales are written over.
std::vector<uint8_t> Pattern(size_t n) {
  std::vector<uint8_t> b(n);
  for (size_t k = 0; k < n; ++k) b[k] = static_cast<uint8_t>(37 * k + 11);
  return b;
}

TEST_CASE("Q4_K: formats.md 2.5") {
  std::vector<uint8_t> b = Pattern(144);
  StoreLe(b.data(), F16FromF32(0.0625f));
  StoreLe(b.data() + 2, F16FromF32(0.25f));
  CHECK(b == Hex("002c00349fc4e90e33587da2c7ec11365b80a5caef14395e83a8cdf2173c6186"
                 "abd0f51a3f6489aed3f81d42678cb1d6fb20456a8fb4d9fe23486d92b7dc0126"
                 "4b7095badf04294e7398bde2072c51769bc0e50a2f54799ec3e80d32577ca1c6"
                 "eb10355a7fa4c9ee13385d82a7ccf1163b6085aacff4193e6388add2f71c4166"
                 "8bb0d5fa1f44698eb3d8fd22476c91b6"));
  CheckBlock(DenseType::kQ4_K, b,
             {{0, 8.5625}, {1, -12.75},   {2, -3.0625},   {3, 6.625},   {4, 16.3125},   {5, -5},       {6, 4.6875},
              {7, 14.375}, {31, -1.125},  {32, -4.75},    {33, -4},     {63, -2.75},    {64, 12.9375}, {95, 0.125},
              {96, 4.625}, {127, -2.375}, {128, 23.8125}, {160, 26.25}, {192, 29.4375}, {224, -7.625}, {255, -4.625}},
             1554.5);
}

TEST_CASE("Q6_K: formats.md 2.6") {
  std::vector<uint8_t> b = Pattern(210);
  StoreLe(b.data() + 208, F16FromF32(0.03125f));
  CHECK(b == Hex("0b30557a9fc4e90e33587da2c7ec11365b80a5caef14395e83a8cdf2173c6186"
                 "abd0f51a3f6489aed3f81d42678cb1d6fb20456a8fb4d9fe23486d92b7dc0126"
                 "4b7095badf04294e7398bde2072c51769bc0e50a2f54799ec3e80d32577ca1c6"
                 "eb10355a7fa4c9ee13385d82a7ccf1163b6085aacff4193e6388add2f71c4166"
                 "8bb0d5fa1f44698eb3d8fd22476c91b6db00254a6f94b9de03284d7297bce106"
                 "2b50759abfe4092e53789dc2e70c31567ba0c5ea0f34597ea3c8ed12375c81a6"
                 "cbf0153a5f84a9cef3183d6287acd1f60028"));
  CheckBlock(
      DenseType::kQ6_K, b,
      {{0, -44.7188},  {1, 53},       {2, 18.2188},    {3, -16.5625},  {4, -51.3438},  {5, 46.375},    {6, 11.5938},
       {7, -23.1875},  {31, -3},      {32, 7.21875},   {33, -21},      {63, -18.125},  {64, -95},      {95, 93},
       {96, -27.1875}, {127, 46.875}, {128, -10.9688}, {160, 20.9688}, {192, -15.125}, {224, 26.4375}, {255, -1.875}},
      144.125);
}

TEST_CASE("TQ2_0: formats.md 2.7") {
  BothWays(TensorType::kTQ2_0, Values(kCodes256), 1, 0.5f,
           Hex("a44664666626222612219229911999998988498448a44a646626262222122192"
               "24462462262222219229920991899889888448644a2442246226222221122992"
               "0038"));
}

TEST_CASE("TQ1_0: formats.md 2.7") {
  BothWays(TensorType::kTQ1_0, Values(kCodes256), 1, 0.5f,
           Hex("36cd33e0e0ddc0dcb76abda367999fa0954092233f36e933e0ddddc0bfb76abd"
               "a273a237a236133612e112b112b0f6b0d1ab725c0038"));
}

TEST_CASE("TQ1_0: each of the 243 values of five trits is written as ceil(256 n / 243) and read back") {
  for (uint32_t n = 0; n < 243; ++n) {
    // Byte 0 of a block holds elements 0, 32, 64, 96 and 128, the first as the most significant digit.
    const uint32_t digits[] = {n / 81, n / 27 % 3, n / 9 % 3, n / 3 % 3, n % 3};
    std::vector<int8_t> v(256, 0);
    for (size_t i = 0; i < 5; ++i) v[32 * i] = static_cast<int8_t>(static_cast<int>(digits[i]) - 1);
    std::vector<uint8_t> block(54);
    PackTernary(TensorType::kTQ1_0, v.data(), 1, 256, 1.0f, block.data());
    CHECK(block[0] == (n * 256 + 242) / 243);
    std::vector<int8_t> back(256);
    UnpackTernary(TensorType::kTQ1_0, block.data(), 0, 256, back.data(), nullptr);
    CHECK(back == v);
    for (size_t i = 0; i < 5; ++i) CHECK(block::TQ1_0::Code(block.data(), 256, 0, 32 * i) == digits[i]);
  }
}

TEST_CASE("TQ1_0: any byte is read by formats.md's formula, also those that no writer writes") {
  for (uint32_t b = 0; b < 256; ++b) {
    const std::vector<uint8_t> block(54, static_cast<uint8_t>(b));
    std::vector<int8_t> v(256);
    UnpackTernary(TensorType::kTQ1_0, block.data(), 0, 256, v.data(), nullptr);
    uint32_t pow = 1;
    for (size_t n = 0; n < 5; ++n, pow *= 3) {
      const int want = static_cast<int>(((b * pow) % 256 * 3) >> 8) - 1;
      CHECK(v[32 * n] == want);
      CHECK(v[160 + 16 * n] == want);
      if (n < 4) CHECK(v[240 + 4 * n] == want);
    }
  }
}

// 2.8's 4 x 128, by row.
constexpr std::string_view kI2sCodes =
    "0202222221211111101000202222221211111101000202222221212111100000"
    "2022222212121111000002022222212121111000002020222212121110000002"
    "0202222121211101000020202222121211101000020202222121210101000020"
    "2022222212101010000202022222212101010000202022222211101010000002"
    "0222222111010100000020222222111110100000020222221111110100000020"
    "2222211111101000000202021211111101000000202021211111101010000202"
    "0212111111010100002022212111111010100002022212121111010100002022"
    "2121211110101000022222121211110101000002222121211110101000002222";

const char* const kI2sX86 =
    "1a91199999988898844886684664666662226112211aa1199998988888844886"
    "1891188998888848866886604662266222122119a11881188998888848846886"
    "1889988888848444466406602661222111111119911881988588848444466446"
    "1885588448444466466226611661122111199918899885588448444466466226";
const char* const kI2sArm64 =
    "168616858685a285a161a168606858688a06858685a281a161a068a06850685a"
    "06850681a681a041a069a06850681a68820681a581a081a069a068206818681a"
    "05818581a181a0616068206818581a18818581a1816041605960581058161816"
    "0581658160616059605818581658160a8165a160a1605168582858145a160a16";
const char* const kI2sX4 =
    "00aa09aaa9a9a995a555a05550554050400042002a02aa09aaa9a9a995a555a4"
    "5550554050400042002a02aa09aaa9aaa595a555a45580554050400002002a02"
    "aa09aaa9aaa5a5a555a45580554050400002022a02aa01aaa5aaa5a5a555a455"
    "80554050400000022a02aa01aa25aaa5a5a555945580554054000000020a02aa";

std::vector<int8_t> I2sValues() {
  std::vector<int8_t> v = Values(kI2sCodes);
  REQUIRE(v.size() == 512);
  return v;
}

TEST_CASE("I2_S: formats.md 2.8, in its three layouts") {
  const std::vector<int8_t> v = I2sValues();
  BothWays(TensorType::kI2_S, v, 4, 0.75f, Hex(kI2sX86));
  BothWays(TensorType::kI2_S_ARM64, v, 4, 0.75f, Hex(kI2sArm64));
  BothWays(TensorType::kI2_S_X4, v, 4, 0.75f, Hex(kI2sX4));
}

constexpr std::string_view kBn = "9492945292528a524a494a2909292529a2905292528a424a490a290a290529a5";

TEST_CASE("IQ2_BN and IQ1_BN: formats.md 2.11") {
  const std::vector<int8_t> v = Values(kCodes256.substr(0, 128));
  BothWays(TensorType::kIQ2_BN, v, 1, 0.5f, Hex("0000003f" + std::string(kBn)));
  BothWays(TensorType::kIQ1_BN, v, 1, 0.5f, Hex("0038eaaa810beaaa800beae383021bf9e38300f9e38100c0a12c0051"));
}

TEST_CASE("IQ2_BN_R4: formats.md 2.11, from its loops") {
  // Four rows of 128: 2.8's matrix. Bytes by the text: for row k, l, i: codes of columns 16l + i, + 4, + 8, + 12.
  const std::vector<int8_t> v = I2sValues();
  std::vector<uint8_t> want;
  for (size_t r = 0; r < 4; ++r) {
    for (const uint8_t b : Hex("0000403f")) want.push_back(b);
  }
  for (size_t block = 0; block < 2; ++block) {
    uint8_t bytes[64];
    for (size_t k = 0; k < 4; ++k) {
      for (size_t l = 0; l < 4; ++l) {
        for (size_t i = 0; i < 4; ++i) {
          int b = 0;
          for (size_t f = 0; f < 4; ++f) b |= (v[128 * k + 64 * block + 16 * l + i + 4 * f] + 1) << (2 * f);
          bytes[4 * k + i + 16 * l] = static_cast<uint8_t>(b);
        }
      }
    }
    want.insert(want.end(), bytes, bytes + 64);
  }
  BothWays(TensorType::kIQ2_BN_R4, v, 4, 0.75f, want);
}

TEST_CASE("Q2_0: formats.md 2.12") {
  const std::vector<int8_t> v = Values(kCodes256.substr(0, 64));
  BothWays(TensorType::kQ2_0, v, 1, 0.5f, Hex("003888aa66551120aa9a554580a86a661500"));
  // Blocks of 128: the same scale, then twice as many bytes.
  const std::vector<int8_t> v2 = Values(kCodes256.substr(0, 128));
  std::vector<uint8_t> two(36), one(34);
  PackTernary(TensorType::kQ2_0, v2.data(), 1, 128, 0.5f, two.data());
  std::copy(two.begin(), two.begin() + 18, one.begin());
  std::copy(two.begin() + 20, two.end(), one.begin() + 18);
  BothWays(TensorType::kQ2_0_128, v2, 1, 0.5f, one);
}

TEST_CASE("Q2_0: code 3 is read as 2") {
  const std::vector<uint8_t> block = Hex("0038ff555555555555555555555555555555");
  std::vector<int8_t> v(64);
  float scale = 0;
  UnpackTernary(TensorType::kQ2_0, block.data(), 0, 64, v.data(), &scale);
  CHECK(v == [] {
    std::vector<int8_t> w(64, 0);
    std::fill_n(w.begin(), 4, int8_t{2});
    return w;
  }());
  CHECK(scale == 0.5f);
}

TEST_CASE("TQ2_0: the row of formats.md 4.3, with its exact sums") {
  // t(n) for n < 512 is 2.8's matrix read as one row, whose first 256 codes are those of 2.7.
  const std::vector<int8_t> v = I2sValues();
  REQUIRE(std::vector<int8_t>(v.begin(), v.begin() + 256) == Values(kCodes256));
  std::vector<uint8_t> row(132);
  PackTernary(TensorType::kTQ2_0, v.data(), 1, 512, 0.5f, row.data());
  std::vector<int8_t> back(512);
  float d[2] = {};
  UnpackTernary(TensorType::kTQ2_0, row.data(), 0, 512, back.data(), d);
  CHECK(d[0] == 0.5f);
  CHECK(d[1] == 0.5f);
  double dot = 0;
  int sums[2] = {};
  for (size_t i = 0; i < 512; ++i) {
    const float x = i == 300 ? -3.0f : (static_cast<float>((29 * i) % 101) - 50) / 32;
    dot += 0.5 * back[i] * static_cast<double>(x);
    // Mainline's activations: iscale of each block of 256, rounded half to even.
    const float iscale = std::bit_cast<float>(i < 256 ? 0x42a28f5cu : 0x42295555u);
    sums[i / 256] += back[i] * static_cast<int>(std::nearbyint(x * iscale));
  }
  CHECK(dot == -13.59375);
  CHECK(sums[0] == -1148);
  CHECK(sums[1] == -542);
}

}  // namespace
}  // namespace wf
