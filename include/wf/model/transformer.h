// SPDX-License-Identifier: Apache-2.0
// Runs a model: one pass over the weights for rows of any number of sequences. Straight-line code driven by
// Config and Weights. Holds threads, kernels and scratch memory; the caller holds the K/V blocks.
#ifndef WF_MODEL_TRANSFORMER_H_
#define WF_MODEL_TRANSFORMER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "wf/base/inline.h"
#include "wf/base/status.h"
#include "wf/base/thread_pool.h"
#include "wf/cache/kv_pool.h"
#include "wf/model/head_query.h"
#include "wf/model/model.h"
#include "wf/simd/isa.h"

namespace wf {

// Consecutive tokens of one sequence, positions first .. first + count - 1. Their K and V are written to
// the sequence's blocks, which must exist up to the last position.
struct SequenceRows {
  const int32_t* tokens = nullptr;  // each < vocab
  size_t count = 0;
  size_t first = 0;
  uint8_t* const* blocks = nullptr;  // block b holds positions 32 b .. 32 b + 31
  // The row at position p sees the keys up to the end of its absolute block of so many positions, as far as there are
  // any: 1 is causal attention, more is bidirectional inside a block and causal between blocks. Keys are there below
  // first + count and, where the cache holds K and V of later positions, below `keys`.
  size_t attention_block = 1;
  size_t keys = 0;
  size_t logits_from = 0;                      // rows logits_from .. count - 1 get logits; count: none
  std::span<const uint32_t> logits_rows = {};  // if not empty, these rows do, ascending, whatever logits_from says
  // The question that the rows with logits are to answer. Where it can be answered without them, `candidates`, a list
  // for each of these rows, holds the answer and the row of logits keeps what it held; else the list is empty.
  const HeadQuery* query = nullptr;
  std::vector<Candidate>* candidates = nullptr;
};

class Transformer {
 public:
  // Takes the ISA of that name, or if it is empty the one of WF_FORCE_ISA, else the best; chooses the kernel of every
  // tensor, and runs the self-test: each distinct kernel and shape against the scalar definition on rows of the mapped
  // weights, bit for bit. A mismatch is kInternal with ISA, kernel and shape. `head`: whether queries have a copy of
  // the output head to be answered from, which Prepare() makes.
  static Result<std::unique_ptr<Transformer>> Create(std::shared_ptr<const Model> model, int threads, KvType kv_type,
                                                     std::string_view isa = {}, HeadMode head = HeadMode::kFull);
  ~Transformer();

  isa::Id isa() const noexcept;
  int threads() const noexcept;
  KvShape kv_shape() const noexcept;
  double selftest_ms() const noexcept;  // how long it took, and how many comparisons it made
  size_t selftest_count() const noexcept;

  // Rows of all sequences in order. logits: one row of vocab floats for each row that asks for them, in order.
  // The result of a row depends on its own sequence only, and not on the number of threads.
  void Forward(std::span<const SequenceRows> sequences, float* logits);

  // Works for about that many milliseconds on what makes later passes faster; true if nothing is left to do. Never
  // needed, and without influence on results.
  bool Prepare(double ms);
  HeadStats head_stats() const noexcept;
  const std::string& head_why_not() const noexcept;  // why there is no copy of the head; empty if there is (or will be)

  // p = softmax(x) of n values; returns the log of the sum of exp(x).
  float Softmax(const float* x, float* p, size_t n) const noexcept;

 private:
  struct Impl;
  explicit Transformer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/model/transformer-impl.h"
#endif
#endif  // WF_MODEL_TRANSFORMER_H_
