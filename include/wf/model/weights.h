// SPDX-License-Identifier: Apache-2.0
// The tensors of one model as views into its mapping, found by name, shapes checked once. What is present decides
// the graph: a projection may have a norm on its input, a bias, a scale and a low-rank correction.
#ifndef WF_MODEL_WEIGHTS_H_
#define WF_MODEL_WEIGHTS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "wf/base/inline.h"
#include "wf/base/status.h"
#include "wf/formats/gguf.h"
#include "wf/kernels/args.h"
#include "wf/model/config.h"

namespace wf {

// y = W Q(n(x)) + U (V^T n(x)) + bias, where n is the projection's own norm (SubLN), if it has one, and Q the
// per-token quantisation of BitLinear (none for a dense projection).
struct Linear {
  std::string name;  // of the weight tensor
  TensorType type = TensorType::kF32;
  const void* data = nullptr;  // rows x k in the layout of `type`
  size_t k = 0, rows = 0;
  bool ternary = true;  // false: dense float product, activations not quantised
  float scale = 1;      // ternary only: the tensor's scale times its .scale tensor
  const float* bias = nullptr;
  const float* norm = nullptr;  // k weights of the RMSNorm on the input
  float norm_eps = 0;
  size_t rank = 0;  // of the low-rank correction; 0: none
  FloatType lrc_type = FloatType::kF16;
  const void* lrc_u = nullptr;  // rows x rank
  const void* lrc_v = nullptr;  // rank x k (V transposed, so that both products are row dots)
};

struct Layer {
  const float* attn_norm = nullptr;
  const float* ffn_norm = nullptr;
  Linear q, k, v, o, gate, up, down;
};

struct Weights {
  Linear embedding;  // vocab x embedding, dense; rows are looked up
  Linear head;       // vocab x embedding, dense; the embedding itself if tied
  const float* output_norm = nullptr;
  std::vector<Layer> layers;
  std::vector<std::string> notices;             // tensors that are there and not used
  std::vector<std::unique_ptr<float[]>> owned;  // small vectors that were not f32 in the file
};

// Float type of a dense tensor type; false for others.
bool ToFloatType(TensorType type, FloatType* out) noexcept;

// Errors name file and tensor: missing, of a type without kernel, of a shape that does not fit the configuration
// (expected and found), weights that should be ternary and are not, scales that are not finite, tensors of a used
// layer that would change the result if they were ignored.
Result<Weights> LoadWeights(const Gguf& gguf, const Config& config);

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/model/weights-impl.h"
#endif
#endif  // WF_MODEL_WEIGHTS_H_
