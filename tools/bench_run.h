// SPDX-License-Identifier: Apache-2.0
// What wf-bench measures, and how: the passes of the engine with its greedy choice of tokens, repetitions interleaved
// with each other and with measurements of the machine. Printing is in bench_report.h.
#ifndef WF_TOOLS_BENCH_RUN_H_
#define WF_TOOLS_BENCH_RUN_H_

#include <atomic>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "tools/machine.h"
#include "wf/base/status.h"
#include "wf/model/cost.h"
#include "wf/model/head_query.h"
#include "wf/model/model.h"

namespace wf {

struct BenchOptions {
  size_t prompt = 512, predict = 128;  // tokens; 0: not measured
  std::vector<int> threads;
  std::vector<size_t> depths = {0}, batches = {1};
  int repetitions = 5, warmup = 1;
  KvType kv_type = KvType::kF16;
  HeadMode head = HeadMode::kAuto;
  std::string isa;              // empty: as the engine chooses
  bool measure_machine = true;  // else there are no limits
  size_t machine_bytes = 0;     // 0: Machine::DefaultBytes()
};

// One row of the result.
struct BenchCase {
  bool prefill = false;
  size_t tokens = 0, depth = 0, batch = 1;  // tokens: of one sequence and repetition
  size_t threads_at = 0;                    // in BenchOptions::threads
  double head_bytes = -1;                   // that the head reads in a pass; -1: its whole tensor
  PassCost per_token = {};                  // mean over the tokens of a repetition
  std::vector<double> samples = {};         // tokens/s of all sequences together, one a repetition
};
// "pp512", "tg128", "tg128/d2048", "tg128/b16".
std::string CaseName(const BenchCase& c);

struct BenchResult {
  isa::Id isa = isa::Id::kScalar;
  std::vector<BenchCase> cases;
  // By thread count, then by repetition: measured right before the cases of that repetition. Empty if not wanted.
  std::vector<std::vector<MachineLimits>> limits;
  size_t machine_bytes = 0;
  double fill_seconds = 0;  // of the cache, up to the greatest depth
};

// kInvalidArgument for lengths beyond the model's context; kCancelled once *interrupted is true.
Result<BenchResult> RunBench(const std::shared_ptr<const Model>& model, const BenchOptions& options,
                             const std::atomic<bool>* interrupted);

}  // namespace wf
#endif  // WF_TOOLS_BENCH_RUN_H_
