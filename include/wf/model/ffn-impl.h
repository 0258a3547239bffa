// SPDX-License-Identifier: Apache-2.0
// The FFN of a layer: dense, or a router and experts (formats.md 3.6). Part of transformer.h's bodies.
#ifndef WF_MODEL_FFN_IMPL_H_
#define WF_MODEL_FFN_IMPL_H_

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "wf/base/aligned.h"
#include "wf/model/config.h"
#include "wf/model/projector-impl.h"

namespace wf::detail {

struct ExpertChoice {
  uint32_t expert;
  float weight;
};

// The `used` most probable of n experts (ties: the lower index), weights as Config says, in ascending order of the
// experts, so that the sum over them does not depend on their probabilities' order.
inline void ChooseExperts(const float* p, size_t n, const Config& c, std::vector<ExpertChoice>* out) {
  out->clear();
  for (size_t i = 0; i < n; ++i) out->push_back({static_cast<uint32_t>(i), p[i]});
  std::partial_sort(out->begin(), out->begin() + static_cast<ptrdiff_t>(c.experts_used), out->end(),
                    [](const ExpertChoice& a, const ExpertChoice& b) {
                      return a.weight > b.weight || (a.weight == b.weight && a.expert < b.expert);
                    });
  out->resize(c.experts_used);
  float factor = c.expert_scale;
  if (c.renormalise_experts) {
    float sum = 0;
    for (const ExpertChoice& e : *out) sum += e.weight;
    factor /= std::max(sum, 6.103515625e-5f);  // the least normal f16, as elsewhere
  }
  for (ExpertChoice& e : *out) e.weight *= factor;
  std::sort(out->begin(), out->end(), [](const ExpertChoice& a, const ExpertChoice& b) { return a.expert < b.expert; });
}

class FeedForward {
 public:
  FeedForward(const Config& c, const KernelTable& k, ThreadPool* pool, Projector* projector)
      : c_(c), k_(k), pool_(*pool), projector_(*projector) {}

  // y = FFN(RMSNorm(h)), n rows of c.embedding each.
  void Run(const Layer& l, const float* h, size_t n, float* y) {
    if (c_.experts == 0) return RunOne(l.ffn, h, n, l.ffn_norm, y);
    const size_t e = c_.embedding;
    x_.Resize(n * e);
    EachRow(n, [&](size_t r) {
      k_.rms_norm({.x = h + r * e, .w = l.ffn_norm, .y = x_.data() + r * e, .n = e, .eps = c_.rms_eps});
    });
    if (l.shared.gate.data != nullptr) {
      RunOne(l.shared, x_.data(), n, nullptr, y);
      if (l.shared_gate.data != nullptr) {
        gate_.Resize(n);
        projector_.Dense(l.shared_gate, x_.data(), e, n, gate_.data(), 1);
        EachRow(n, [&](size_t r) { Scale(y + r * e, 1.0f / (1.0f + std::exp(-gate_[r]))); });
      }
    } else {
      std::memset(y, 0, n * e * sizeof(float));
    }
    Route(l, n);
    for (size_t i = 0; i < l.experts.size(); ++i) RunExpert(l.experts[i], i, y);
  }

 private:
  template <class F>
  void EachRow(size_t n, const F& f) {
    pool_.ParallelFor(n, 1, [&](size_t begin, size_t end, int) {
      for (size_t r = begin; r < end; ++r) f(r);
    });
  }
  void Scale(float* row, float by) const noexcept {
    for (size_t i = 0; i < c_.embedding; ++i) row[i] *= by;
  }

  void RunOne(const Ffn& f, const float* x, size_t n, const float* norm, float* y) {
    const size_t width = f.gate.rows;
    mid_.Resize(n * 2 * width);
    const Projector::Output gu[] = {{&f.gate, mid_.data(), 2 * width}, {&f.up, mid_.data() + width, 2 * width}};
    projector_.Project({.x = x, .stride = c_.embedding, .norm = norm, .eps = c_.rms_eps}, n, gu);
    const Projector::Output d[] = {{&f.down, y, c_.embedding}};
    projector_.Project({.x = mid_.data(),
                        .stride = 2 * width,
                        .up = mid_.data() + width,
                        .relu2 = c_.activation == Activation::kRelu2},
                       n, d);
  }

  // Which rows go to which expert, in order of the rows.
  void Route(const Layer& l, size_t n) {
    routed_.assign(c_.experts, {});
    probs_.Resize(n * c_.experts);
    projector_.Dense(l.router, x_.data(), c_.embedding, n, probs_.data(), c_.experts);
    for (size_t r = 0; r < n; ++r) {
      float* p = probs_.data() + r * c_.experts;
      k_.softmax({.x = p, .p = p, .n = c_.experts});
      ChooseExperts(p, c_.experts, c_, &chosen_);
      for (const ExpertChoice& e : chosen_) routed_[e.expert].push_back({static_cast<uint32_t>(r), e.weight});
    }
  }

  void RunExpert(const Ffn& f, size_t expert, float* y) {
    const std::vector<Routed>& rows = routed_[expert];
    if (rows.empty()) return;
    const size_t e = c_.embedding, n = rows.size();
    in_.Resize(n * e);
    out_.Resize(n * e);
    EachRow(n, [&](size_t i) { std::memcpy(in_.data() + i * e, x_.data() + rows[i].row * e, e * sizeof(float)); });
    RunOne(f, in_.data(), n, nullptr, out_.data());
    EachRow(n, [&](size_t i) {
      Scale(out_.data() + i * e, rows[i].weight);
      k_.add({.x = out_.data() + i * e, .y = y + rows[i].row * e, .n = e});
    });
  }

  struct Routed {
    uint32_t row;
    float weight;
  };
  const Config& c_;
  const KernelTable& k_;
  ThreadPool& pool_;
  Projector& projector_;
  AlignedBuffer<float> mid_, x_, gate_, probs_, in_, out_;
  std::vector<std::vector<Routed>> routed_;  // by expert
  std::vector<ExpertChoice> chosen_;
};

}  // namespace wf::detail
#endif  // WF_MODEL_FFN_IMPL_H_
