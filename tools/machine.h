// SPDX-License-Identifier: Apache-2.0
// What the machine can do at best, measured: reading memory and 8-bit products, on some threads and with one ISA.
#ifndef WF_TOOLS_MACHINE_H_
#define WF_TOOLS_MACHINE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "wf/base/status.h"
#include "wf/base/thread_pool.h"
#include "wf/kernels/table.h"

namespace wf {

// One figure a pass, in order.
struct MachineLimits {
  std::vector<double> bandwidth;  // bytes/s read in order
  std::vector<double> peak;       // multiplications/s of the ternary kernels' kind
};

class Machine {
 public:
  // Fills anonymous memory of `bytes` bytes (0: DefaultBytes()), with huge pages where the system has them.
  // kOutOfMemory.
  static Result<Machine> Create(isa::Id id, size_t bytes = 0);
  // 16 times the last-level cache, so that little of it can be found there; at most a quarter of the memory that is
  // free.
  static size_t DefaultBytes();
  ~Machine();
  Machine(Machine&& o) noexcept { *this = static_cast<Machine&&>(o); }
  Machine& operator=(Machine&& o) noexcept;
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  // `passes` passes of each kind on all threads of the pool, tens of milliseconds each.
  MachineLimits Measure(ThreadPool* pool, int passes) const;
  size_t bytes() const noexcept { return bytes_; }

 private:
  Machine() = default;
  const KernelTable* kernels_ = nullptr;
  uint8_t* data_ = nullptr;
  size_t bytes_ = 0;
  size_t rounds_ = 0;  // of a piece of the peak's work: about a millisecond
};

std::string CpuName();

// Of a copy; 0 if empty.
double Median(std::vector<double> v);

}  // namespace wf
#endif  // WF_TOOLS_MACHINE_H_
