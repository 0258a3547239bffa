// SPDX-License-Identifier: Apache-2.0
// wf-kernels-bench: the kernels on the shapes of the 2B model. Without --all it runs a default set of about a minute;
// --benchmark_filter picks from what is registered. bench/compare compares two builds or two instances.
#include <cstdio>
#include <cstring>

#include "bench/bench.h"
#include "bench/low_rank_eigen_native.h"
#include "wf/kernels/table.h"

namespace {

constexpr char kUsage[] =
    "wf-kernels-bench [--all] [Google Benchmark's flags]\n"
    "  --all   register every kernel x ISA x type x rank x shape x tokens x threads x working set instead of the\n"
    "          default set of about a minute; give a --benchmark_filter with it, the whole takes hours\n"
    "  e.g. --all --benchmark_filter='^Ternary<avx512vnni,(I2_S|TQ2_0),rank=0>/2560x6912/tokens:1/.*dram'\n"
    "       --benchmark_format=json --benchmark_repetitions=9 --benchmark_list_tests\n"
    "  cache: one matrix again and again; dram: copies of it, more than the caches hold\n\n";

// Removes each `flag` from the arguments; true if there was one.
bool Take(const char* flag, std::vector<char*>* args) {
  const size_t before = args->size();
  std::erase_if(*args, [flag](const char* a) { return std::strcmp(a, flag) == 0; });
  return args->size() != before;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<char*> args(argv, argv + argc);
  wf::bench::Axes axes;
  axes.all = Take("--all", &args);
  for (const char* a : args) {
    if (std::strcmp(a, "--help") == 0) std::fputs(kUsage, stdout);  // Google Benchmark adds its own and exits
  }
  // In front of the user's flags, so that theirs count.
  char min_time[] = "--benchmark_min_time=0.1";
  char filter[] = "--benchmark_filter=.*";  // the default "." takes quadratic time in Google Benchmark 1.7
  args.insert(args.begin() + 1, {min_time, filter});

  for (int i = 0; i < wf::isa::kCount; ++i) {
    const auto id = static_cast<wf::isa::Id>(i);
    if (((wf::CompiledIsas() >> i) & 1u) != 0 && wf::isa::Supported(id)) axes.isas.push_back(id);
  }
  axes.best = wf::isa::BestSupported(wf::CompiledIsas());
  axes.threads = {1, 2};
  if (wf::DefaultThreads() > 2) axes.threads.push_back(wf::DefaultThreads());

  wf::bench::AddTernary(axes);
  wf::bench::AddTernaryStatic(axes);
  wf::bench::AddDense(axes);
  wf::bench::AddLowRank(axes);
  wf::bench::AddAttention(axes);
  wf::bench::AddElementwise(axes);
  benchmark::AddCustomContext("best ISA", wf::isa::Name(axes.best));
  benchmark::AddCustomContext("Eigen uses", wf::bench::EigenInstructionSets());

  int count = static_cast<int>(args.size());
  benchmark::Initialize(&count, args.data());
  if (benchmark::ReportUnrecognizedArguments(count, args.data())) return 2;
  const size_t run = benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  if (run == 0) {
    std::fprintf(stderr, "wf-kernels-bench: no benchmark ran%s\n",
                 axes.all ? "" : "; this was the default set, --all has every kernel");
    return 2;
  }
  return 0;
}
