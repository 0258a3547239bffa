// SPDX-License-Identifier: Apache-2.0
// How probable a diffusion model finds a text, by Monte Carlo (semantics.md 4.6): the text after a prompt is masked at
// random positions, more of them in each sample, and the model predicts what was there.
#ifndef WF_DECODE_LIKELIHOOD_H_
#define WF_DECODE_LIKELIHOOD_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "wf/base/inline.h"
#include "wf/base/status.h"
#include "wf/model/diffusion.h"

namespace wf {

class Model;
class Rng;
class Transformer;

inline constexpr size_t kMaxLikelihoodSamples = 1 << 20;

struct LikelihoodOptions {
  DiffusionStyle style = DiffusionStyle::kFastDllmV2;
  size_t block = 32;  // of style fast-dllm-v2, at absolute multiples; the text's end ends the last one
  int32_t mask = -1;
  size_t prompt = 1;  // tokens that are never masked, at least 1: row i - 1 predicts position i
  size_t samples = 128;
  uint64_t seed = 0;
};

struct LikelihoodSample {
  std::vector<uint32_t> masked;  // positions in the text, ascending
  double nll = 0;                // of the continuation, in nats: cross-entropies of the masked tokens over n/L
};

// Of the L tokens after the prompt.
struct Likelihood {
  std::vector<LikelihoodSample> samples;  // k = 1, 2, ...
  double nll = 0;                         // estimate: the samples' mean, in nats
  // Standard error of the estimate: the samples' deviation over the root of their number; none for one sample.
  std::optional<double> error;
};

// Positions that sample k of `samples` masks of `length`: length * k / samples rounded down, at least 1. length and
// samples below 2^32.
constexpr size_t MaskedCount(size_t k, size_t samples, size_t length) noexcept {
  const size_t n = k * length / samples;
  return n == 0 ? 1 : n;
}

// `count` of the positions first .. first + length - 1, ascending; every set of that size is equally probable.
// count <= length.
std::vector<uint32_t> DrawPositions(Rng& rng, uint32_t first, uint32_t length, uint32_t count);

// Each sample is one pass over the text in the style's attention, all its masks at once. Cross-entropies are of the
// softmax over all logits, the mask token's among them, as in training. `t` runs `model`. The result depends on
// ids, options and the type of K and V only. `progress`, if any, is called before each part of the work with rows
// forwarded and rows in all; false ends it with kCancelled. kInvalidArgument names what is out of range, expected and
// found: ids, mask, prompt, samples, block, a text above the model's context.
Result<Likelihood> DiffusionLikelihood(Transformer& t, const Model& model, std::span<const int32_t> ids,
                                       const LikelihoodOptions& options,
                                       const std::function<bool(size_t done, size_t total)>& progress = {});

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/decode/likelihood-impl.h"
#endif
#endif  // WF_DECODE_LIKELIHOOD_H_
