// SPDX-License-Identifier: Apache-2.0
// Fixed threads for short parallel loops: a decode step has hundreds of them, each tens of microseconds long, so
// workers spin for a while before they park, and a loop starts with one store. One caller at a time.
#ifndef WF_BASE_THREAD_POOL_H_
#define WF_BASE_THREAD_POOL_H_

#include <cstddef>
#include <memory>

#include "wf/base/inline.h"
#include "wf/base/status.h"

namespace wf {

// Physical cores this process may use: the affinity mask, one CPU of each core, at most the cgroup's CPU quota
// (rounded up), at least 1.
int DefaultThreads();

class ThreadPool {
 public:
  // `threads` >= 1 counts the caller: threads - 1 workers are started. Workers are bound to CPUs of the affinity mask,
  // one a core, if there are enough of them; the caller never is.
  // Where the system refuses a thread, there are fewer, and status() says so.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const noexcept;
  const Status& status() const noexcept;  // kOutOfMemory if there are fewer threads than asked for

  // Calls f(begin, end, worker) for pieces of [0, n) of `grain` elements (the last may be shorter; a single
  // thread takes all at once) on all threads, and returns when all are done. Each begins with the pieces of a share of
  // its own, in order, then takes what is left of the others'. worker in [0, threads()). f must not throw and must not call the pool.
  template <class F>
  void ParallelFor(size_t n, size_t grain, const F& f) {
    if (n == 0) return;
    Run(
        n, grain == 0 ? 1 : grain,
        [](const void* ctx, size_t begin, size_t end, int worker) {
          (*static_cast<const F*>(ctx))(begin, end, worker);
        },
        &f);
  }

 private:
  using Body = void (*)(const void* ctx, size_t begin, size_t end, int worker);
  void Run(size_t n, size_t grain, Body body, const void* ctx);
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace wf
#if !WF_LIB_COMPILED
#include "wf/base/thread_pool-impl.h"
#endif
#endif  // WF_BASE_THREAD_POOL_H_
