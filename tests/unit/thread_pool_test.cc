// SPDX-License-Identifier: Apache-2.0
// The thread pool: every index exactly once, loops that see each other's results, threads that park and end.
#include "wf/base/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#include "tests/catch.h"

using wf::ThreadPool;

TEST_CASE("every index is visited exactly once, whatever the sizes") {
  for (int threads = 1; threads <= 4; ++threads) {
    ThreadPool pool(threads);
    REQUIRE(pool.threads() == threads);
    for (const size_t n : {0u, 1u, 2u, 3u, 7u, 64u, 1000u}) {
      for (const size_t grain : {0u, 1u, 3u, 16u, 1000u, 5000u}) {
        std::vector<std::atomic<int>> seen(n);
        std::atomic<bool> bad{false};
        pool.ParallelFor(n, grain, [&](size_t begin, size_t end, int worker) {
          if (begin >= end || end > n || worker < 0 || worker >= threads) bad = true;
          for (size_t i = begin; i < end; ++i) seen[i].fetch_add(1);
        });
        INFO(threads << " threads, n = " << n << ", grain = " << grain);
        CHECK_FALSE(bad.load());
        size_t wrong = 0;
        for (const auto& s : seen) wrong += s.load() != 1;
        CHECK(wrong == 0);
      }
    }
  }
}

TEST_CASE("on several threads a piece is never larger than the grain") {
  ThreadPool pool(3);
  std::atomic<size_t> largest{0};
  pool.ParallelFor(1000, 7, [&](size_t begin, size_t end, int) {
    size_t seen = largest.load();
    while (end - begin > seen && !largest.compare_exchange_weak(seen, end - begin)) {
    }
  });
  CHECK(largest.load() == 7);
}

TEST_CASE("a worker's number is its own while it works") {
  constexpr int kThreads = 4;
  ThreadPool pool(kThreads);
  std::atomic<int> inside[kThreads] = {};
  std::atomic<bool> shared{false};
  for (int round = 0; round < 200; ++round) {
    pool.ParallelFor(64, 1, [&](size_t, size_t, int worker) {
      if (inside[worker].fetch_add(1) != 0) shared = true;
      inside[worker].fetch_sub(1);
    });
  }
  CHECK_FALSE(shared.load());
}

TEST_CASE("many short loops: each sees what the one before wrote") {
  for (int threads = 1; threads <= 4; ++threads) {
    ThreadPool pool(threads);
    // Plain memory: the pool itself must order the loops (a race here is what ThreadSanitizer would report).
    std::vector<uint32_t> a(37, 0), b(37, 0);
    constexpr uint32_t kRounds = 5000;
    for (uint32_t round = 0; round < kRounds; ++round) {
      std::vector<uint32_t>&from = round % 2 == 0 ? a : b, &to = round % 2 == 0 ? b : a;
      pool.ParallelFor(from.size(), 5, [&](size_t begin, size_t end, int) {
        for (size_t i = begin; i < end; ++i) to[i] = from[(i + 11) % from.size()] + 1;
      });
    }
    INFO(threads << " threads");
    CHECK(a == std::vector<uint32_t>(37, kRounds));
  }
}

TEST_CASE("workers that have parked wake up again") {
  ThreadPool pool(4);
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // far longer than workers spin
    std::atomic<size_t> sum{0};
    pool.ParallelFor(1000, 10, [&](size_t begin, size_t end, int) { sum += end - begin; });
    CHECK(sum.load() == 1000);
  }
}

TEST_CASE("a pool can end at once, while spinning, while parked, and without having run") {
  for (int threads = 1; threads <= 4; ++threads) {
    { ThreadPool unused(threads); }
    {
      ThreadPool parked(threads);
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    for (int i = 0; i < 50; ++i) {
      ThreadPool pool(threads);
      std::atomic<size_t> sum{0};
      pool.ParallelFor(64, 1, [&](size_t begin, size_t end, int) { sum += end - begin; });
      REQUIRE(sum.load() == 64);
    }
  }
}

TEST_CASE("fewer than one thread counts as one, and the default is at least one") {
  CHECK(ThreadPool(0).threads() == 1);
  CHECK(ThreadPool(-3).threads() == 1);
  CHECK(wf::DefaultThreads() >= 1);
  CHECK(static_cast<unsigned>(wf::DefaultThreads()) <= std::max(1u, std::thread::hardware_concurrency()));
}
