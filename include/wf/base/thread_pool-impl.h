// SPDX-License-Identifier: Apache-2.0
// Bodies of thread_pool.h (Linux).
#ifndef WF_BASE_THREAD_POOL_IMPL_H_
#define WF_BASE_THREAD_POOL_IMPL_H_

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <set>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "wf/base/thread_pool.h"

namespace wf {
namespace detail {

inline std::string ReadSmallFile(const std::string& path) {
  std::string s;
  if (std::FILE* f = std::fopen(path.c_str(), "re")) {
    char buf[256];
    const size_t n = std::fread(buf, 1, sizeof(buf), f);
    s.assign(buf, n);
    std::fclose(f);
  }
  return s;
}

// One CPU of each physical core in the affinity mask, in order.
inline std::vector<int> AllowedCores() {
  std::vector<int> cpus;
  std::set<std::string> seen;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return {0};
  for (int c = 0; c < CPU_SETSIZE; ++c) {
    if (!CPU_ISSET(c, &set)) continue;
    // The list of siblings names a core; where it cannot be read every CPU counts as a core.
    std::string core =
        ReadSmallFile("/sys/devices/system/cpu/cpu" + std::to_string(c) + "/topology/thread_siblings_list");
    if (core.empty()) core = "#" + std::to_string(c);
    if (seen.insert(core).second) cpus.push_back(c);
  }
  return cpus.empty() ? std::vector<int>{0} : cpus;
}

// CPUs that the cgroup (v2, then v1) pays for, or a large number.
inline int CgroupCpus() {
  long long quota = -1, period = 0;
  const std::string max = ReadSmallFile("/sys/fs/cgroup/cpu.max");
  if (std::sscanf(max.c_str(), "%lld %lld", &quota, &period) != 2) {
    quota = -1;
    (void)std::sscanf(ReadSmallFile("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").c_str(), "%lld", &quota);
    (void)std::sscanf(ReadSmallFile("/sys/fs/cgroup/cpu/cpu.cfs_period_us").c_str(), "%lld", &period);
  }
  if (quota <= 0 || period <= 0) return 1 << 20;
  return static_cast<int>((quota + period - 1) / period);
}

inline void CpuPause() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// About 50 us on the machines of today: longer than the gaps between the loops of one step, short beside a token.
inline constexpr int kSpins = 4000;

}  // namespace detail

WF_LIB_INLINE int DefaultThreads() {
  const int cores = static_cast<int>(detail::AllowedCores().size());
  const int quota = detail::CgroupCpus();
  return cores < quota ? cores : quota;
}

struct ThreadPool::Impl {
  // A worker's own share of the loop, a contiguous one: what it reads next lies behind what it reads now. Who is done
  // helps the others.
  struct alignas(64) Share {
    std::atomic<size_t> next{0};
    size_t end = 0;
  };
  int count = 1;
  std::vector<std::thread> workers;
  std::vector<Share> shares;
  // The loop being run. Written by the caller before `epoch` is raised, read by workers after they saw it.
  Body body = nullptr;
  const void* ctx = nullptr;
  size_t grain = 1;
  alignas(64) std::atomic<uint32_t> epoch{0};
  alignas(64) std::atomic<int> busy{0};
  std::atomic<int> parked{0};
  std::atomic<bool> stop{false};
  Status status;

  void Work(int worker) {
    for (int i = 0; i < count; ++i) {
      Share& s = shares[static_cast<size_t>((worker + i) % count)];
      for (;;) {
        const size_t begin = s.next.fetch_add(grain, std::memory_order_relaxed);
        if (begin >= s.end) break;
        body(ctx, begin, s.end - begin < grain ? s.end : begin + grain, worker);
      }
    }
  }

  void Loop(int worker) {
    uint32_t seen = 0;
    for (;;) {
      uint32_t e = epoch.load(std::memory_order_acquire);
      for (int i = 0; e == seen && i < detail::kSpins; ++i) {
        detail::CpuPause();
        e = epoch.load(std::memory_order_acquire);
      }
      if (e == seen) {
        parked.fetch_add(1, std::memory_order_seq_cst);
        epoch.wait(seen, std::memory_order_seq_cst);
        parked.fetch_sub(1, std::memory_order_seq_cst);
        e = epoch.load(std::memory_order_acquire);
        if (e == seen) continue;
      }
      seen = e;
      if (stop.load(std::memory_order_acquire)) return;
      Work(worker);
      busy.fetch_sub(1, std::memory_order_release);
    }
  }
};

WF_LIB_INLINE ThreadPool::ThreadPool(int threads) : impl_(std::make_unique<Impl>()) {
  impl_->count = threads < 1 ? 1 : threads;
  impl_->workers = std::vector<std::thread>(static_cast<size_t>(impl_->count - 1));
  impl_->shares = std::vector<Impl::Share>(static_cast<size_t>(impl_->count));
  const std::vector<int> cores = detail::AllowedCores();
  for (int i = 1; i < impl_->count; ++i) {
    std::thread& t = impl_->workers[static_cast<size_t>(i - 1)];
    try {
      t = std::thread([impl = impl_.get(), i] { impl->Loop(i); });
    } catch (const std::system_error& e) {
      impl_->status = Status(ErrorCode::kOutOfMemory, "cannot start thread " + std::to_string(i + 1) + " of " +
                                                          std::to_string(impl_->count) + ": " + e.what());
      impl_->count = i;
      return;
    }
    if (static_cast<size_t>(impl_->count) <= cores.size()) {
      cpu_set_t set;
      CPU_ZERO(&set);
      CPU_SET(cores[static_cast<size_t>(i)], &set);
      (void)pthread_setaffinity_np(t.native_handle(), sizeof(set), &set);
    }
  }
}

WF_LIB_INLINE const Status& ThreadPool::status() const noexcept { return impl_->status; }
WF_LIB_INLINE ThreadPool::~ThreadPool() {
  impl_->stop.store(true, std::memory_order_release);
  impl_->epoch.fetch_add(1, std::memory_order_seq_cst);
  impl_->epoch.notify_all();
  for (std::thread& t : impl_->workers) {
    if (t.joinable()) t.join();
  }
}

WF_LIB_INLINE int ThreadPool::threads() const noexcept { return impl_->count; }

WF_LIB_INLINE void ThreadPool::Run(size_t n, size_t grain, Body body, const void* ctx) {
  Impl& p = *impl_;
  if (p.count == 1 || n <= grain) {
    body(ctx, 0, n, 0);
    return;
  }
  p.body = body;
  p.ctx = ctx;
  p.grain = grain;
  const size_t pieces = (n + grain - 1) / grain, threads = static_cast<size_t>(p.count);
  for (size_t i = 0; i < threads; ++i) {
    const size_t end = pieces * (i + 1) / threads * grain;
    p.shares[i].next.store(pieces * i / threads * grain, std::memory_order_relaxed);
    p.shares[i].end = end < n ? end : n;
  }
  p.busy.store(p.count - 1, std::memory_order_relaxed);
  p.epoch.fetch_add(1, std::memory_order_seq_cst);
  if (p.parked.load(std::memory_order_seq_cst) != 0) p.epoch.notify_all();
  p.Work(0);
  for (int i = 0; p.busy.load(std::memory_order_acquire) != 0; ++i) {
    // A worker that the system has put aside must get this CPU if it needs it.
    if (i < detail::kSpins) {
      detail::CpuPause();
    } else {
      std::this_thread::yield();
    }
  }
}

}  // namespace wf
#endif  // WF_BASE_THREAD_POOL_IMPL_H_
