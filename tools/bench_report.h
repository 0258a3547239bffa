// SPDX-License-Identifier: Apache-2.0
// wf-bench's result as a table and as JSON, with what each test needs and the share of the machine that it reached.
#ifndef WF_TOOLS_BENCH_REPORT_H_
#define WF_TOOLS_BENCH_REPORT_H_

#include <string>

#include "tools/bench_run.h"

namespace wf {

struct BenchReport {
  const Model& model;
  std::string path;
  const BenchOptions& options;
  const BenchResult& result;
};

void PrintBenchTable(const BenchReport& r);

// One object; every sample and every pass of the machine's measurement is in it. Rates are in tokens/s, bytes/s and
// multiplications/s. What a repetition reached is its rate times the need of a token over the best pass of that
// repetition; "fraction" is the median of these.
void PrintBenchJson(const BenchReport& r);

}  // namespace wf
#endif  // WF_TOOLS_BENCH_REPORT_H_
