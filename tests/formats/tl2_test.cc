// SPDX-License-Identifier: Apache-2.0
// TL2 by round trip through tl2_encode.h, for shapes with every remainder of K by 96 and both generations of files.
#include "wf/quant/tl2.h"

#include <cmath>
#include <string>
#include <vector>

#include "tests/catch.h"
#include "tests/formats/tl2_encode.h"

namespace wf {
namespace {

// The shapes of formats.md with at most 15 million weights (all remainders by 96 are among them), then the rest.
using test::Tl2Tensor;

const Tl2Tensor kTensors[] = {{1024, 4096, 256}, {1536, 4096, 256}, {3200, 3200, 320}};
const Tl2Tensor kLarge[] = {
    {4096, 4096, 128}, {3200, 8640, 160}, {8640, 3200, 320}, {4096, 14336, 128}, {14336, 4096, 256}};

void RoundTrip(const Tl2Tensor& t, bool first) {
  INFO(t.rows << " x " << t.k << (first ? ", first generation" : ""));
  REQUIRE(IsTl2Shape(t.rows, t.k));
  const std::vector<int8_t> v = test::RandomTernary(t.rows * t.k);
  const std::vector<uint8_t> bytes = test::EncodeTl2(t, v, 0.375f, first);
  CHECK(bytes.size() == Tl2Bytes(t.rows, t.k, first ? Tl2Generation::kFirst : Tl2Generation::kSecond));
  std::vector<int8_t> back(v.size(), 99);
  float scale = 0;
  const Status s = DecodeTl2(bytes.data(), bytes.size(), t.rows, t.k, back.data(), &scale);
  INFO(s.message());
  REQUIRE(s.ok());
  CHECK((back == v));  // not printed: millions
  CHECK(scale == 0.375f);
}

TEST_CASE("TL2: what the writers' loops emit is decoded, both generations") {
  for (const Tl2Tensor& t : kTensors) {
    RoundTrip(t, false);
    RoundTrip(t, true);
  }
}

TEST_CASE("TL2: the large shapes") {
  for (const Tl2Tensor& t : kLarge) RoundTrip(t, false);
}

TEST_CASE("TL2: shapes of other or unknown tilings are refused by name") {
  for (const auto& [rows, k] : std::vector<std::pair<size_t, size_t>>{{1536, 1536}, {4096, 1536}, {320, 3200}}) {
    CHECK_FALSE(IsTl2Shape(rows, k));
    const std::vector<uint8_t> bytes(Tl2Bytes(rows, k, Tl2Generation::kSecond));
    std::vector<int8_t> values(rows * k);
    float scale = 0;
    const Status s = DecodeTl2(bytes.data(), bytes.size(), rows, k, values.data(), &scale);
    CHECK(s.code() == ErrorCode::kUnsupported);
    CHECK(s.message() == "TL2 of " + std::to_string(rows) + " rows of " + std::to_string(k) +
                             ": TL2 depends on build-time tiling, which is not known for this shape; convert the model "
                             "to I2_S or TQ2_0");
  }
}

TEST_CASE("TL2: a wrong size and codes without a meaning are errors") {
  const Tl2Tensor t = kTensors[0];
  std::vector<int8_t> values(t.rows * t.k);
  std::vector<uint8_t> bytes = test::EncodeTl2(t, values, 1.0f, false);
  float scale = 0;
  const Status size = DecodeTl2(bytes.data(), bytes.size() - 1, t.rows, t.k, values.data(), &scale);
  CHECK(size.code() == ErrorCode::kFormat);
  CHECK(size.message() == "TL2 of 1024 rows of 4096: expected " +
                              std::to_string(Tl2Bytes(1024, 4096, Tl2Generation::kSecond)) +
                              " or 1048608 bytes, found " + std::to_string(bytes.size() - 1));
  bytes[9] = 0xe0;  // stored chunk 1, second row of it: row 17, columns 0 to 2
  const Status triple = DecodeTl2(bytes.data(), bytes.size(), t.rows, t.k, values.data(), &scale);
  CHECK(triple.code() == ErrorCode::kFormat);
  CHECK(triple.message() == "TL2: row 17, column 0: code 14 stands for no ternary values");
  bytes[9] = 0x00;
  bytes[1024 * 4032 * 5 / 24 + 32] = 0x49;  // the pairs begin at column 4032; the second four columns of row 0
  const Status pair = DecodeTl2(bytes.data(), bytes.size(), t.rows, t.k, values.data(), &scale);
  CHECK(pair.message() == "TL2: row 0, column 4038: code 9 stands for no ternary values");
}

}  // namespace
}  // namespace wf
