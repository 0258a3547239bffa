// SPDX-License-Identifier: Apache-2.0
// What a pass over the model must read and multiply, from shapes and types alone: nothing is measured here. Decoding is
// bound by the bytes, prefill by the multiplications; a measured rate beside them says how much of the machine is used.
#ifndef WF_MODEL_COST_H_
#define WF_MODEL_COST_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "wf/base/inline.h"
#include "wf/cache/kv_pool.h"
#include "wf/model/config.h"
#include "wf/model/weights.h"
#include "wf/simd/isa.h"

namespace wf {

// Floating-point, because passes are averaged and experts are expected values; whole numbers stay exact below 2^53.
// Activations are not counted: they stay in the caches.
struct Work {
  double bytes = 0;      // read from memory, each weight once a pass
  double ternary = 0;    // multiplications by ternary weights (8-bit integers)
  double dense = 0;      // by other weights (floats)
  double attention = 0;  // by K and V
  Work& operator+=(const Work& o) noexcept {
    bytes += o.bytes;
    ternary += o.ternary;
    dense += o.dense;
    attention += o.attention;
    return *this;
  }
  Work Times(double f) const noexcept { return {bytes * f, ternary * f, dense * f, attention * f}; }
};

// One pass (Transformer::Forward).
struct PassShape {
  double rows = 1;         // tokens of all sequences
  double head_rows = 1;    // of them, with logits
  double keys = 0;         // summed over the rows: positions that a row sees, its own included
  double kv_read = 0;      // positions whose K and V are read: keys, or fewer where rows of a sequence share them
  double head_bytes = -1;  // read by the head if it is not the whole tensor: a smaller copy, and rows of the tensor
};
// One token of each of `sequences`, which have `depth` tokens in the cache; with a fraction, the mean of several
// passes.
PassShape DecodePass(double sequences, double depth) noexcept;
// Tokens first .. first + count - 1 of one sequence; logits of the last one if it ends the prompt.
PassShape PrefillPass(size_t first, size_t count, bool last) noexcept;

// Bytes of the K and V of one position, all layers.
double KvBytesPerPosition(const KvShape& shape) noexcept;

// All tensors of one kind, type and rank, with what belongs to them: bias, norm, low-rank factors.
struct KindCost {
  std::string kind;  // "attn_q", "ffn_up_exps", "output", ...: the tensors' names without layer and suffix
  const Linear* linear = nullptr;  // the first of them; null: norms
  size_t tensors = 0;              // experts count one by one
  Work work;                       // of the pass
};
struct PassCost {
  std::vector<KindCost> kinds;  // in the order of the graph: embedding, projections, norms, head
  Work kv;                      // attention
  Work head;                    // also among kinds
  Work total;                   // kinds and kv
};
// Experts: even routing, so `rows` rows meet experts * (1 - (1 - used / experts)^rows) of them, which is exact for one
// row.
PassCost CostOfPass(const Config& c, const Weights& w, const KvShape& kv, const PassShape& pass);

// "avx512vnni, 2 threads: 1178 MB a token (body 521 MB, head F16 657 MB), K/V 77 kB more for each token of context".
// head_copy: bytes of the copy that greedy requests and the like read in place of the head, 0: there is none; then
// "769 MB a token (body 521 MB, 6-bit copy of head F16 248 MB)".
std::string CostSummary(const Config& c, const Weights& w, const KvShape& kv, isa::Id isa, int threads,
                        uint64_t head_copy = 0);

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/model/cost-impl.h"
#endif
#endif  // WF_MODEL_COST_H_
