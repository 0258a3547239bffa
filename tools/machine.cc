// SPDX-License-Identifier: Apache-2.0
// Bodies of machine.h.
#include "tools/machine.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <utility>

namespace wf {
namespace {

using Clock = std::chrono::steady_clock;
double Since(Clock::time_point t) { return std::chrono::duration<double>(Clock::now() - t).count(); }

// The value of "key: value" or "key : value" in a file of such lines; empty if there is none.
std::string Field(const char* path, const std::string& key) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    if (line.compare(0, key.size(), key) != 0) continue;
    const size_t at = line.find_first_not_of(" \t:", key.size());
    return at == std::string::npos ? "" : line.substr(at);
  }
  return "";
}

constexpr size_t kPiece = size_t{4} << 20;  // bytes that a thread reads in one go

}  // namespace

std::string CpuName() {
  const std::string name = Field("/proc/cpuinfo", "model name");
  return name.empty() ? "unknown CPU" : name;
}

double Median(std::vector<double> v) {
  if (v.empty()) return 0;
  std::sort(v.begin(), v.end());
  const size_t n = v.size();
  return n % 2 == 1 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

size_t Machine::DefaultBytes() {
  size_t cache = size_t{32} << 20;
#ifdef _SC_LEVEL3_CACHE_SIZE
  if (const long n = sysconf(_SC_LEVEL3_CACHE_SIZE); n > 0) cache = static_cast<size_t>(n);
#endif
  const size_t available = std::strtoull(Field("/proc/meminfo", "MemAvailable").c_str(), nullptr, 10) << 10;
  return std::max(kPiece, std::min(16 * cache, available == 0 ? 16 * cache : available / 4));
}

Result<Machine> Machine::Create(isa::Id id, size_t bytes) {
  Machine m;
  m.kernels_ = &Kernels(id);
  m.bytes_ = std::max(kPiece, (bytes == 0 ? DefaultBytes() : bytes) / kPiece * kPiece);
  void* p = ::mmap(nullptr, m.bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) {
    return Status(ErrorCode::kOutOfMemory,
                  "cannot get " + std::to_string(m.bytes_ >> 20) + " MiB to measure the memory's bandwidth");
  }
  m.data_ = static_cast<uint8_t*>(p);
  ::madvise(p, m.bytes_, MADV_HUGEPAGE);
  std::memset(p, 1, m.bytes_);
  uint64_t products = 0;
  uint32_t sum = 0;
  for (m.rounds_ = 1000;; m.rounds_ *= 2) {
    const auto begin = Clock::now();
    m.kernels_->peak({.rounds = m.rounds_, .products = &products, .sum = &sum});
    if (Since(begin) > 0.7e-3) return m;
  }
}

Machine& Machine::operator=(Machine&& o) noexcept {
  std::swap(kernels_, o.kernels_);
  std::swap(data_, o.data_);
  std::swap(bytes_, o.bytes_);
  std::swap(rounds_, o.rounds_);
  return *this;
}

Machine::~Machine() {
  if (data_ != nullptr) ::munmap(data_, bytes_);
}

MachineLimits Machine::Measure(ThreadPool* pool, int passes) const {
  MachineLimits limits;
  for (int pass = 0; pass < passes; ++pass) {
    auto begin = Clock::now();
    pool->ParallelFor(bytes_ / kPiece, 1, [&](size_t first, size_t last, int) {
      uint32_t sum = 0;
      kernels_->read({.data = data_ + first * kPiece, .bytes = (last - first) * kPiece, .sum = &sum});
    });
    limits.bandwidth.push_back(static_cast<double>(bytes_) / Since(begin));

    // So many pieces that a thread which begins late costs little.
    const size_t pieces = 24 * static_cast<size_t>(pool->threads());
    uint64_t products = 0;  // of one piece
    begin = Clock::now();
    pool->ParallelFor(pieces, 1, [&](size_t first, size_t last, int) {
      for (size_t i = first; i < last; ++i) {
        uint64_t done = 0;
        uint32_t sum = 0;
        kernels_->peak({.rounds = rounds_, .products = &done, .sum = &sum});
        if (i == 0) products = done;
      }
    });
    limits.peak.push_back(static_cast<double>(products * pieces) / Since(begin));
  }
  return limits;
}

}  // namespace wf
