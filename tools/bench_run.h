// SPDX-License-Identifier: Apache-2.0
// What wf-bench measures, and how: the passes of the engine with its greedy choice of tokens, in every mode of
// decoding, repetitions interleaved with each other and with measurements of the machine. Printing is in
// bench_report.h.
#ifndef WF_TOOLS_BENCH_RUN_H_
#define WF_TOOLS_BENCH_RUN_H_

#include <atomic>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tools/machine.h"
#include "wf/base/status.h"
#include "wf/decode/mode.h"
#include "wf/engine/pass_timer.h"
#include "wf/model/cost.h"
#include "wf/model/head_query.h"
#include "wf/model/model.h"

namespace wf {

struct BenchOptions {
  size_t prompt = 512, predict = 128;  // tokens; 0: not measured
  std::vector<int> threads;
  std::vector<size_t> depths = {0}, batches = {1};
  std::vector<DecodeOptions> decodes;  // each case of decoding in each of them
  std::vector<size_t> pass_rows;       // single passes over so many rows, the first tokens of a sequence
  // Not empty: in place of pseudo-random ids, answers to these are decoded, one after the other, up to an end token or
  // `predict` tokens; depths and batches have no meaning then. A user's message each, or without a chat template text
  // to go on with.
  std::vector<std::string> prompts;
  int repetitions = 5, warmup = 1;
  KvType kv_type = KvType::kF16;
  HeadMode head = HeadMode::kAuto;
  std::string isa;              // empty: as the engine chooses
  bool measure_machine = true;  // else there are no limits
  size_t machine_bytes = 0;     // 0: Machine::DefaultBytes()
};

inline constexpr bool HasThreshold(DecodeMode m) noexcept {
  return m == DecodeMode::kIterative || m == DecodeMode::kAdaptive;
}

// How much of the answers of mode ar another mode gives.
struct Agreement {
  size_t same = 0;       // answers that are equal, of all
  double in_common = 0;  // mean share of ar's tokens that come before the first difference
};

// One row of the result.
struct BenchCase {
  bool prefill = false;
  size_t tokens = 0, depth = 0, batch = 1;  // tokens: of one sequence and repetition, at most
  size_t prompts = 0;                       // BenchOptions::prompts; 0: there are none
  size_t threads_at = 0;                    // in BenchOptions::threads
  DecodeSettings decode = {};
  double head_bytes = -1;            // that the head reads in a pass; -1: its whole tensor
  PassCost per_token = {};           // mean over the tokens of a repetition; of HasCost()
  std::vector<double> samples = {};  // tokens/s of all sequences together, one a repetition
  // Of a repetition, all sequences together.
  size_t generated = 0, passes = 0;  // passes: with those over the prompt
  size_t drafted = 0, accepted = 0;  // in mode verify
  std::optional<Agreement> agreement = {};
  // Each pass is one token of each sequence, or prefills: what a token needs does not depend on the text.
  bool HasCost() const noexcept { return prompts == 0 && decode.mode == DecodeMode::kAr; }
};
// "pp512", "tg128", "tg128/d2048", "tg128/b16", "tg128/adaptive@0.7", "text64/verify": 64 tokens after prompts.
std::string CaseName(const BenchCase& c);

// Single passes.
struct BenchPass {
  size_t rows = 1, threads_at = 0;
  PassTimer::Head head = PassTimer::Head::kNone;
  std::vector<double> samples = {};  // milliseconds, one a repetition
};

struct BenchResult {
  isa::Id isa = isa::Id::kScalar;
  std::vector<BenchCase> cases;
  std::vector<BenchPass> passes;
  // By thread count, then by repetition: measured right before the cases of that repetition. Empty if not wanted.
  std::vector<std::vector<MachineLimits>> limits;
  size_t machine_bytes = 0;
  double fill_seconds = 0;  // of the cache, up to the greatest depth
};

// kInvalidArgument for lengths beyond the model's context, kInvalidArgument and kUnsupported for modes that the model
// cannot decode in; kCancelled once *interrupted is true.
Result<BenchResult> RunBench(const std::shared_ptr<const Model>& model, const BenchOptions& options,
                             const std::atomic<bool>* interrupted);

}  // namespace wf
#endif  // WF_TOOLS_BENCH_RUN_H_
