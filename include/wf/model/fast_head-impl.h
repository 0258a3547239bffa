// SPDX-License-Identifier: Apache-2.0
// Bodies of fast_head.h (Linux: huge pages).
#ifndef WF_MODEL_FAST_HEAD_IMPL_H_
#define WF_MODEL_FAST_HEAD_IMPL_H_

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "wf/base/bytes.h"
#include "wf/model/fast_head.h"
#include "wf/quant/dense.h"

namespace wf {
namespace detail {
inline constexpr uint64_t kHeadAutoBytes = uint64_t{32} << 20;  // below, the whole head is a small part of a token
inline constexpr size_t kHeadPass = 64;     // queries of one scan: their bounds are 33 MB for a vocabulary of 128k
inline constexpr size_t kHeadGrain = 256;   // rows of a piece of work: a multiple of kHeadBlock, 0.5 MB of codes
inline constexpr size_t kHeadManyRows = 4;  // one row in so many and the whole head is as fast

inline size_t HeadFileRowBytes(const Linear& head) noexcept {
  return head.k / DenseBlock(head.dense_type) * DenseBlockBytes(head.dense_type);
}
inline size_t HeadBlocks(size_t rows) noexcept { return (rows + kHeadBlock - 1) / kHeadBlock; }
}  // namespace detail

WF_MODEL_INLINE std::string FastHead::WhyNot(const Linear& head, HeadMode mode) {
  if (mode == HeadMode::kFull) return "switched off";
  if (head.bias != nullptr) return "the head has a bias";
  if (head.k > kHeadMaxK) return "rows of more than " + std::to_string(kHeadMaxK) + " columns";
  if (head.dense_type == DenseType::kQ4_0 || head.dense_type == DenseType::kQ4_K) {
    return std::string(TensorTypeName(head.type)) + " in the file has fewer bytes than the copy";
  }
  if (mode == HeadMode::kAuto && detail::HeadFileRowBytes(head) * head.rows < detail::kHeadAutoBytes) {
    return "the head is small";
  }
  return {};
}

WF_MODEL_INLINE uint64_t FastHead::Bytes(const Linear& head) noexcept {
  return (HeadRowBytes(head.k) + 4 * sizeof(float)) * head.rows;
}

WF_MODEL_INLINE FastHead::FastHead(const Linear& head, const KernelTable& kernels, ThreadPool* pool, HeadMode mode)
    : head_(head), k_(kernels), pool_(*pool), why_not_(WhyNot(head, mode)) {
  if (!why_not_.empty()) return;
  scratch_.resize(static_cast<size_t>(pool_.threads()));
  for (auto& s : scratch_) s.Resize(HeadPaddedK(head.k));
  const size_t bytes = static_cast<size_t>(Bytes(head));
  void* p = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) {
    why_not_ = "no memory for its " + std::to_string(bytes) + " bytes";
    return;
  }
  memory_ = p;
  (void)::madvise(p, bytes, MADV_HUGEPAGE);  // 60000 pages of 4 KiB are more than any TLB holds
  float* f = reinterpret_cast<float*>(static_cast<uint8_t*>(p) + HeadRowBytes(head.k) * head.rows);
  parts_ = {f, f + head.rows, f + 2 * head.rows, f + 3 * head.rows};
}

WF_MODEL_INLINE FastHead::~FastHead() {
  if (memory_ != nullptr) ::munmap(memory_, static_cast<size_t>(Bytes(head_)));
}

WF_MODEL_INLINE HeadStats FastHead::stats() const noexcept {
  HeadStats s = stats_;
  s.bytes = why_not_.empty() ? Bytes(head_) : 0;
  s.ready = ready();
  return s;
}

WF_MODEL_INLINE bool FastHead::Build(double ms) {
  const auto start = std::chrono::steady_clock::now();
  while (why_not_.empty() && built_ < head_.rows) {
    const size_t begin = built_, slice = detail::kHeadGrain * static_cast<size_t>(pool_.threads());
    const size_t n = std::min(slice, head_.rows - begin);
    pool_.ParallelFor(n, detail::kHeadGrain, [&](size_t from, size_t to, int worker) {
      k_.head_pack[static_cast<size_t>(head_.dense_type)]({.w = head_.data,
                                                           .k = head_.k,
                                                           .row_begin = begin + from,
                                                           .row_end = begin + to,
                                                           .scratch = scratch_[static_cast<size_t>(worker)].data(),
                                                           .codes = static_cast<uint8_t*>(memory_),
                                                           .parts = parts_});
    });
    for (size_t r = begin; r < begin + n; ++r) {
      if (!std::isfinite(parts_.norm[r])) {
        why_not_ = "row " + std::to_string(r) + " of the head is not finite";
        break;
      }
      norm_ = std::max(norm_, parts_.norm[r]);
    }
    built_ += n;
    if (std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count() >= ms) break;
  }
  if (!why_not_.empty() && memory_ != nullptr) {
    ::munmap(memory_, static_cast<size_t>(Bytes(head_)));
    memory_ = nullptr;
  }
  return !why_not_.empty() || built_ == head_.rows;
}

WF_MODEL_INLINE void FastHead::Answer(std::span<const Task> tasks) {
  for (const Task& t : tasks) t.out->clear();
  stats_.queries += tasks.size();
  if (!ready()) return;
  for (size_t i = 0; i < tasks.size(); i += detail::kHeadPass) {
    Pass(tasks.subspan(i, std::min(detail::kHeadPass, tasks.size() - i)));
  }
}

// One logit, by the kernel of the whole head.
WF_MODEL_INLINE float FastHead::Exact(const float* x, int32_t row) const noexcept {
  float y = 0;
  k_.dense[static_cast<size_t>(head_.dense_type)](
      {.w = static_cast<const uint8_t*>(head_.data) + static_cast<size_t>(row) * detail::HeadFileRowBytes(head_),
       .k = head_.k,
       .row_begin = 0,
       .row_end = 1,
       .x = x,
       .x_stride = head_.k,
       .tokens = 1,
       .y = &y,
       .y_stride = 1});
  return y;
}

WF_MODEL_INLINE void FastHead::Pass(std::span<const Task> tasks) {
  const size_t rows = head_.rows, blocks = detail::HeadBlocks(rows), n = tasks.size();
  const size_t input = 2 * HeadPaddedK(head_.k), limit = rows / detail::kHeadManyRows;
  // All memory before the threads begin, which cannot say that there is none.
  codes_.Resize(n * input);
  upper_.Resize(n * rows);
  best_.Resize(n * blocks);
  inputs_.resize(n);
  if (work_.size() < n) work_.resize(n);
  for (size_t i = 0; i < n; ++i) {
    work_[i].order.resize(blocks);
    work_[i].ids.reserve(limit + tasks[i].query->always.size());
  }
  pool_.ParallelFor(n, 1, [&](size_t begin, size_t end, int) {
    for (size_t i = begin; i < end; ++i) {
      Work& w = work_[i];
      w.known = PrepareHeadInput(tasks[i].x, head_.k, codes_.data() + i * input, &w.input) &&
                static_cast<double>(norm_) * static_cast<double>(w.input.x_norm) < static_cast<double>(kHeadLimit);
      w.ids.clear();
    }
  });
  size_t known = 0;
  for (size_t i = 0; i < n; ++i) {
    if (work_[i].known) inputs_[known++] = work_[i].input;
  }
  pool_.ParallelFor(known == 0 ? 0 : rows, detail::kHeadGrain, [&](size_t begin, size_t end, int) {
    k_.head_scan({.codes = static_cast<const uint8_t*>(memory_),
                  .parts = parts_,
                  .k = head_.k,
                  .row_begin = begin,
                  .row_end = end,
                  .x = inputs_.data(),
                  .tokens = known,
                  .upper = upper_.data(),
                  .stride = rows,
                  .best = best_.data(),
                  .best_stride = blocks});
  });
  size_t at = 0;
  for (size_t i = 0; i < n; ++i) work_[i].place = work_[i].known ? at++ : 0;
  pool_.ParallelFor(n, 1, [&](size_t begin, size_t end, int) {
    for (size_t i = begin; i < end; ++i) {
      Work& w = work_[i];
      if (w.known) Select(tasks[i], upper_.data() + w.place * rows, best_.data() + w.place * blocks, &w);
    }
  });
  rescore_.clear();
  for (size_t i = 0; i < n; ++i) {
    if (work_[i].ids.empty()) continue;
    ++stats_.answered;
    stats_.rescored += work_[i].ids.size();
    for (const int32_t id : work_[i].ids) tasks[i].out->push_back({id, 0});
    for (size_t j = 0; j < work_[i].ids.size(); ++j) {
      rescore_.emplace_back(static_cast<uint32_t>(i), static_cast<uint32_t>(j));
    }
  }
  pool_.ParallelFor(rescore_.size(), 8, [&](size_t begin, size_t end, int) {
    for (size_t j = begin; j < end; ++j) {
      const Task& t = tasks[rescore_[j].first];
      Candidate& c = (*t.out)[rescore_[j].second];
      c.logit = Exact(t.x, c.id);
    }
  });
}

// A logit that every wanted token reaches; false if there are too few tokens to know one.
WF_MODEL_INLINE bool FastHead::Threshold(const Task& task, const float* upper, const float* best, Work* w,
                                         double* least) const noexcept {
  const HeadQuery& q = *task.query;
  const size_t blocks = detail::HeadBlocks(head_.rows), n = q.range >= 0 ? 1 : q.top;
  if (n == 0 || n > blocks / 2) return false;
  // The best rows of the n best blocks: as good as the n best rows, and 16 times fewer to look at.
  std::vector<uint32_t>& order = w->order;
  for (size_t b = 0; b < blocks; ++b) order[b] = static_cast<uint32_t>(b);
  std::nth_element(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(n - 1), order.end(),
                   [&](uint32_t a, uint32_t b) { return best[a] > best[b]; });
  float worst = INFINITY;
  for (size_t i = 0; i < n; ++i) {
    if (best[order[i]] == -INFINITY) return false;  // nothing but masked rows
    const float* first = upper + order[i] * kHeadBlock;
    const float* last = upper + std::min<size_t>(head_.rows, (order[i] + 1) * kHeadBlock);
    worst = std::min(worst, Exact(task.x, static_cast<int32_t>(std::max_element(first, last) - upper)));
  }
  *least = static_cast<double>(worst) - static_cast<double>(std::max(q.range, 0.0f));
  return true;
}

// The rows to compute, in w->ids; none if the whole head has to answer.
WF_MODEL_INLINE void FastHead::Select(const Task& task, float* upper, float* best, Work* w) const noexcept {
  const HeadQuery& q = *task.query;
  const size_t rows = head_.rows, limit = rows / detail::kHeadManyRows;
  if (q.always.size() > limit) return;
  for (const auto& ids : {q.banned, q.always}) {
    for (const int32_t id : ids) upper[id] = -INFINITY;
  }
  for (const auto& ids : {q.banned, q.always}) {
    for (const int32_t id : ids) {
      const size_t b = static_cast<size_t>(id) / kHeadBlock;
      best[b] = *std::max_element(upper + b * kHeadBlock, upper + std::min(rows, (b + 1) * kHeadBlock));
    }
  }
  double least = 0;
  if (!Threshold(task, upper, best, w, &least)) return;
  for (size_t b = 0; b < detail::HeadBlocks(rows); ++b) {
    if (static_cast<double>(best[b]) < least) continue;
    for (size_t r = b * kHeadBlock; r < std::min(rows, (b + 1) * kHeadBlock); ++r) {
      if (static_cast<double>(upper[r]) < least) continue;
      if (w->ids.size() == limit) return w->ids.clear();
      w->ids.push_back(static_cast<int32_t>(r));
    }
  }
  for (const int32_t id : q.always) {
    if (!std::binary_search(q.banned.begin(), q.banned.end(), id)) w->ids.push_back(id);
  }
  std::sort(w->ids.begin(), w->ids.end());
}

}  // namespace wf
#endif  // WF_MODEL_FAST_HEAD_IMPL_H_
