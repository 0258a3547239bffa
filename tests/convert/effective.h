// SPDX-License-Identifier: Apache-2.0
// What a GGUF's tensor stands for, element by element through the definitions of quant/block.h and quant/dense.h and
// the
// ".scale" tensor beside it. Slow and plain, for tests.
#ifndef WF_TESTS_CONVERT_EFFECTIVE_H_
#define WF_TESTS_CONVERT_EFFECTIVE_H_

#include <cmath>
#include <string>
#include <vector>

#include "tests/catch.h"
#include "wf/formats/gguf.h"
#include "wf/quant/block.h"
#include "wf/quant/dense.h"

namespace wf::test {

struct Effective {
  std::vector<int> values;    // -1, 0, 1 (2)
  std::vector<float> scales;  // what multiplies each of them
  std::vector<float> Floats() const {
    std::vector<float> f(values.size());
    for (size_t i = 0; i < f.size(); ++i) f[i] = static_cast<float>(values[i]) * scales[i];
    return f;
  }
};

template <class B>
Effective Decode(const GgufTensor& t) {
  Effective e;
  const size_t k = t.ne[0];
  for (size_t row = 0; row < t.rows(); ++row) {
    for (size_t col = 0; col < k; ++col) {
      e.values.push_back(static_cast<int>(B::Code(t.data, k, row, col)) - 1);
      e.scales.push_back(IsI2s(B::kType) ? LoadLe<float>(t.data + t.elements() / 4) : B::Scale(t.data, k, row, col));
    }
  }
  return e;
}

inline const GgufTensor& Tensor(const Gguf& g, const std::string& name) {
  const GgufTensor* t = g.FindTensor(name);
  INFO(name);
  REQUIRE(t != nullptr);
  return *t;
}

// A dense tensor's values.
inline std::vector<float> Values(const Gguf& g, const std::string& name) {
  const GgufTensor& t = Tensor(g, name);
  DenseType dense{};
  REQUIRE(ToDenseType(t.type, &dense));
  std::vector<float> v(t.elements());
  for (size_t row = 0; row < t.rows(); ++row) DequantRow(dense, t.data, row, t.ne[0], v.data() + row * t.ne[0]);
  return v;
}

// `base` without ".weight". I2_S is read in its usual layout.
inline Effective Ternary(const Gguf& g, const std::string& base) {
  const GgufTensor& t = Tensor(g, base + ".weight");
  Effective e;
  switch (t.type) {
    case TensorType::kI2_S:
      e = Decode<block::I2S>(t);
      break;
    case TensorType::kTQ1_0:
      e = Decode<block::TQ1_0>(t);
      break;
    case TensorType::kTQ2_0:
      e = Decode<block::TQ2_0>(t);
      break;
    case TensorType::kIQ1_BN:
      e = Decode<block::IQ1_BN>(t);
      break;
    case TensorType::kIQ2_BN:
      e = Decode<block::IQ2_BN>(t);
      break;
    case TensorType::kIQ2_BN_R4:
      e = Decode<block::IQ2_BN_R4>(t);
      break;
    case TensorType::kQ2_0:
      e = Decode<block::Q2_0>(t);
      break;
    default:
      for (const float v : Values(g, base + ".weight")) {
        e.values.push_back((v > 0) - (v < 0));
        e.scales.push_back(std::fabs(v));
      }
  }
  const GgufTensor* s = g.FindTensor(base + ".scale");
  const size_t part = t.ne[0] * t.ne[1];
  for (size_t i = 0; s != nullptr && i < e.scales.size(); ++i) {
    e.scales[i] *= LoadLe<float>(s->data + 4 * (s->elements() == 1 ? 0 : i / part));
  }
  return e;
}

}  // namespace wf::test
#endif  // WF_TESTS_CONVERT_EFFECTIVE_H_
