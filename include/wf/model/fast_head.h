// SPDX-License-Identifier: Apache-2.0
// The output head for queries (head_query.h): a scan over a coarse copy bounds every logit from above
// (kernels/head_scan.h), the rows with the highest bounds are computed exactly, which gives a logit that the answer
// must reach, and so are all rows whose bound reaches it. The copy has 3/8 of the bytes of F16 and is made while the
// full head serves.
#ifndef WF_MODEL_FAST_HEAD_H_
#define WF_MODEL_FAST_HEAD_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "wf/base/aligned.h"
#include "wf/base/inline.h"
#include "wf/base/thread_pool.h"
#include "wf/kernels/table.h"
#include "wf/model/head_query.h"
#include "wf/model/weights.h"

namespace wf {

class FastHead {
 public:
  // Why this head gets no copy in that mode; empty if it gets one.
  static std::string WhyNot(const Linear& head, HeadMode mode);
  // What a copy takes in memory.
  static uint64_t Bytes(const Linear& head) noexcept;

  // Reserves the memory; without it there is no copy, and why_not() says so. Holds references to all three.
  FastHead(const Linear& head, const KernelTable& kernels, ThreadPool* pool, HeadMode mode);
  ~FastHead();
  FastHead(const FastHead&) = delete;
  FastHead& operator=(const FastHead&) = delete;

  // Works on the copy for about that many milliseconds, on all threads; true if nothing is left to do. A row that is
  // not finite ends it: why_not().
  bool Build(double ms);
  bool ready() const noexcept { return why_not_.empty() && built_ == head_.rows; }
  const std::string& why_not() const noexcept { return why_not_; }
  HeadStats stats() const noexcept;

  struct Task {
    const float* x = nullptr;  // k activations
    const HeadQuery* query = nullptr;
    std::vector<Candidate>* out = nullptr;  // ascending ids; left empty where the whole head has to answer
  };
  // The whole head has to answer if the copy is not ready, if nothing is known about the logits (activations that are
  // not finite, sizes beyond what bounds are proven for), or if too many rows would have to be computed one by one.
  void Answer(std::span<const Task> tasks);

 private:
  struct Work {
    HeadInput input;
    bool known = false;           // bounds can be computed
    size_t place = 0;             // among those that can
    std::vector<uint32_t> order;  // blocks of rows by their best bound
    std::vector<int32_t> ids;     // what to compute
  };
  float Exact(const float* x, int32_t row) const noexcept;
  void Pass(std::span<const Task> tasks);
  bool Threshold(const Task& task, const float* upper, const float* best, Work* w, double* least) const noexcept;
  void Select(const Task& task, float* upper, float* best, Work* w) const noexcept;

  const Linear& head_;
  const KernelTable& k_;
  ThreadPool& pool_;
  std::string why_not_;
  void* memory_ = nullptr;  // codes, then four parts a row
  HeadParts parts_;
  size_t built_ = 0;  // rows
  float norm_ = 0;    // the largest of them
  std::vector<AlignedBuffer<float>> scratch_;
  AlignedBuffer<int8_t> codes_;
  AlignedBuffer<float> upper_, best_;
  std::vector<HeadInput> inputs_;
  std::vector<Work> work_;
  std::vector<std::pair<uint32_t, uint32_t>> rescore_;  // task, index of its answer
  HeadStats stats_;
};

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/model/fast_head-impl.h"
#endif
#endif  // WF_MODEL_FAST_HEAD_H_
