// SPDX-License-Identifier: Apache-2.0
// Reading a GGUF's ternary tensor row by row, whatever type it has: values and the scales that lie among them. Part of
// requantise.h's bodies.
#ifndef WF_CONVERT_TERNARY_VIEW_IMPL_H_
#define WF_CONVERT_TERNARY_VIEW_IMPL_H_

#include <algorithm>
#include <memory>
#include <vector>

#include "wf/base/bytes.h"
#include "wf/base/quote.h"
#include "wf/base/status.h"
#include "wf/convert/pieces-impl.h"
#include "wf/formats/gguf.h"
#include "wf/quant/pack.h"
#include "wf/quant/tl2.h"

namespace wf::detail {

// `type` is the tensor's own but for I2_S, whose layout the file does not tell.
class TernaryView {
 public:
  // TL2 is decoded here, as it cannot be read by rows. `magnitudes` are those of float tensors, for each expert.
  static Result<TernaryView> Open(const GgufTensor& t, TensorType type, std::vector<float> magnitudes = {}) {
    TernaryView v(t, type, std::move(magnitudes));
    if (type == TensorType::kTL2) {
      auto values = std::make_shared<std::vector<int8_t>>(static_cast<size_t>(t.elements()));
      float scale = 0;
      const Status s = DecodeTl2(t.data, t.bytes, static_cast<size_t>(t.rows()), static_cast<size_t>(t.ne[0]),
                                 values->data(), &scale);
      if (!s.ok()) return s.WithContext("tensor " + Quote(t.name));
      v.decoded_ = std::move(values);
      v.tensor_scale_ = scale;
    } else if (IsI2s(type)) {
      v.tensor_scale_ = LoadLe<float>(t.data + t.elements() / 4);
    }
    return v;
  }

  const GgufTensor& tensor() const noexcept { return t_; }
  TensorType type() const noexcept { return type_; }
  uint64_t k() const noexcept { return t_.ne[0]; }
  uint64_t rows() const noexcept { return t_.ne[1]; }  // of an expert
  uint64_t parts() const noexcept { return t_.ne[2] * t_.ne[3]; }
  // Elements of a row that share a scale, which is the row's where all do.
  uint64_t share() const noexcept { return share_; }
  uint64_t groups() const noexcept { return k() / share_; }  // of a row

  // Row `row` of the whole tensor: k() values of -1 to 2 (2: Q2_0's fourth code; I2_S and TQ2_0 have it only where they
  // are damaged) and groups() scales. Values whose scale is 0 are 0. For any number of threads.
  void Read(uint64_t row, int8_t* values, float* scales) const noexcept {
    const size_t n = static_cast<size_t>(k());
    if (IsFloatType(type_)) {
      scales[0] = magnitudes_.empty() ? 1.0f : magnitudes_[static_cast<size_t>(row / rows())];
      const size_t size = FloatTypeBytes(type_);
      const uint8_t* p = t_.data + row * n * size;
      for (size_t i = 0; i < n; ++i) {
        const float v = size == 4 ? LoadLe<float>(p + 4 * i) : DecodeFloat(LoadLe<uint16_t>(p + 2 * i), type_);
        values[i] = static_cast<int8_t>((v > 0) - (v < 0));
      }
      return;
    }
    if (decoded_ != nullptr) {
      std::copy_n(decoded_->data() + row * n, n, values);
      scales[0] = tensor_scale_;
    } else {
      UnpackTernary(type_, t_.data, static_cast<size_t>(row), n, values, scales);
      if (IsI2s(type_)) scales[0] = tensor_scale_;
    }
    for (uint64_t g = 0; g < groups(); ++g) {
      if (scales[g] == 0) std::fill_n(values + g * share_, share_, int8_t{0});
    }
  }
  // A float element, for what must be known before magnitudes are.
  float FloatAt(uint64_t i) const noexcept {
    return type_ == TensorType::kF32 ? LoadLe<float>(t_.data + 4 * i)
                                     : DecodeFloat(LoadLe<uint16_t>(t_.data + 2 * i), type_);
  }

 private:
  TernaryView(const GgufTensor& t, TensorType type, std::vector<float> magnitudes)
      : t_(t), type_(type), magnitudes_(std::move(magnitudes)) {
    share_ = IsPackedTernary(type) ? TernaryScaleSize(type) : 0;
    if (share_ == 0) share_ = t.ne[0];
  }

  const GgufTensor& t_;
  TensorType type_;
  std::vector<float> magnitudes_;
  uint64_t share_ = 0;
  float tensor_scale_ = 1;
  std::shared_ptr<const std::vector<int8_t>> decoded_;
};

// The scale of each group of `share` elements of a row that takes over another row's: `groups` scales of `view`'s
// share, whose values are given. False if two groups of the row that are not zeros fall into one and have different
// scales. Groups of zeros have no scale of their own; any will do.
inline bool TakeOverScales(const TernaryView& view, uint64_t share, const int8_t* values, const float* scales,
                           float* out) noexcept {
  const uint64_t k = view.k(), step = std::min(share, view.share());
  bool fits = true;
  for (uint64_t g = 0; g < k / share; ++g) {
    float d = 0;
    bool found = false;
    for (uint64_t c = g * share; c < (g + 1) * share; c += step) {
      const float here = scales[c / view.share()];
      const bool zeros = std::all_of(values + c, values + c + step, [](int8_t v) { return v == 0; });
      if (zeros) {
        if (d == 0) d = here;
        continue;
      }
      if (found && here != d) fits = false;
      if (!found) d = here;
      found = true;
    }
    out[g] = d > 0 ? d : 1.0f;
  }
  return fits;
}

}  // namespace wf::detail
#endif  // WF_CONVERT_TERNARY_VIEW_IMPL_H_
