// SPDX-License-Identifier: Apache-2.0
// Two models compared: tensor by tensor as they would run (a projection's values and scales whatever its type is, so
// that files of different types can be compared), and their logits on a text. Not for models of different shapes.
#ifndef WF_MODEL_COMPARE_H_
#define WF_MODEL_COMPARE_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "wf/base/inline.h"
#include "wf/base/status.h"
#include "wf/model/model.h"

namespace wf {

struct TensorComparison {
  std::string name;  // as in A
  std::string type_a, type_b;
  uint64_t values = 0;
  bool ternary = false;         // in both
  uint64_t differing = 0;       // ternary: values that are not the same; else: floats that are not the same
  double scale_difference = 0;  // ternary: largest |a - b| / max(|a|, |b|) of two scales
  double cosine = 1;            // of all values; 1 for two tensors of zeros
  double norm_ratio = 1;        // |A| / |B|, Euclidean
  double max_difference = 0;    // |a - b|
};

struct LogitComparison {
  size_t tokens = 0;
  size_t same_top = 0;                             // rows whose largest logit is at the same token
  double mean_difference = 0, max_difference = 0;  // |a - b|
  double deviation = 0;                            // standard deviation of A's logits, to compare these with
  double kl = 0;  // mean Kullback-Leibler divergence of B's distribution from A's, in nats
};

// kInvalidArgument if the models do not have the same shape, epsilons, RoPE and activation, naming what differs; parts
// that only one of them has (norms, biases, low-rank factors) too.
Result<std::vector<TensorComparison>> CompareWeights(const Model& a, const Model& b);

// Both models on the same ids (fewer than the smaller context), f32 cache.
Result<LogitComparison> CompareLogits(std::shared_ptr<const Model> a, std::shared_ptr<const Model> b,
                                      std::span<const int32_t> ids, int threads);

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/model/compare-impl.h"
#endif
#endif  // WF_MODEL_COMPARE_H_
