// SPDX-License-Identifier: Apache-2.0
// The tensors of one model as views into its mapping, found by name, shapes checked once. What is present decides
// the graph: a projection may have a norm on its input, a bias, a scale and a low-rank correction.
#ifndef WF_MODEL_WEIGHTS_H_
#define WF_MODEL_WEIGHTS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "wf/base/inline.h"
#include "wf/base/status.h"
#include "wf/formats/gguf.h"
#include "wf/kernels/args.h"
#include "wf/model/config.h"
#include "wf/quant/dense.h"

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
  size_t rank = 0;                         // of the low-rank correction; 0: none
  DenseType lrc_type = DenseType::kF16;    // of U
  DenseType lrc_v_type = DenseType::kF16;  // of V
  const void* lrc_u = nullptr;             // rows x rank
  const void* lrc_v = nullptr;             // rank x k (V transposed, so that both products are row dots)
  DenseType dense_type = DenseType::kF32;  // of `data`, if not ternary
};

// The three matrices of an FFN or of one expert.
struct Ffn {
  Linear gate, up, down;
};

struct Layer {
  const float* attn_norm = nullptr;
  const float* ffn_norm = nullptr;
  Linear q, k, v, o;
  const float* q_norm = nullptr;  // head_dim weights each, or none
  const float* k_norm = nullptr;
  Ffn ffn;                   // without experts
  Linear router;             // experts x embedding, dense; with experts
  std::vector<Ffn> experts;  // Config::experts of them
  Ffn shared;                // if Config::shared_ffn is not 0
  Linear shared_gate;        // 1 x embedding, dense; no data: the shared expert counts in full
};

// Calls f(linear) for every projection of a layer that is there: q, k, v, o, then FFN or experts.
template <class F>
void ForEachProjection(const Layer& l, const F& f) {
  for (const Linear* p : {&l.q, &l.k, &l.v, &l.o}) f(*p);
  const auto ffn = [&](const Ffn& n) {
    for (const Linear* p : {&n.gate, &n.up, &n.down}) {
      if (p->data != nullptr) f(*p);
    }
  };
  ffn(l.ffn);
  for (const Ffn& e : l.experts) ffn(e);
  ffn(l.shared);
}

struct Weights {
  Linear embedding;  // vocab x embedding, dense; rows are looked up
  Linear head;       // vocab x embedding, dense; the embedding itself if tied
  const float* output_norm = nullptr;
  std::vector<Layer> layers;
  std::vector<std::string> notices;                  // tensors that are there and not used
  const float* rope_factors = nullptr;               // rope_dims / 2 divisors of the angles, or none
  std::vector<std::unique_ptr<float[]>> owned;       // small vectors that were not f32 in the file
  std::vector<std::unique_ptr<uint8_t[]>> repacked;  // TL2 tensors as I2_S
};

// What a file cannot say about itself.
struct WeightOptions {
  TensorType i2s_layout = TensorType::kI2_S;  // of all I2_S tensors: kI2_S, kI2_S_ARM64 or kI2_S_X4 (formats.md 2.8)
};
// "x86", "arm64" or "x4"; kInvalidArgument listing them.
Result<TensorType> ParseI2sLayout(std::string_view name);

// Errors name file and tensor: missing, of a type without kernel, of a shape that does not fit the configuration
// (expected and found), weights that should be ternary and are not, scales that are not finite, tensors of a used
// layer that would change the result if they were ignored.
Result<Weights> LoadWeights(const Gguf& gguf, const Config& config, const WeightOptions& options = {});

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/model/weights-impl.h"
#endif
#endif  // WF_MODEL_WEIGHTS_H_
