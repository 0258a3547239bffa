// SPDX-License-Identifier: Apache-2.0
// wf-bench: how fast a model runs on this machine, and how much of the machine that uses.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <string>
#include <vector>

#include "tools/args.h"
#include "tools/bench_report.h"
#include "tools/bench_run.h"
#include "tools/cli.h"
#include "tools/model_arg.h"
#include "wf/version.h"

namespace {

constexpr const char* kProgram = "wf-bench";
std::atomic<bool> g_interrupted{false};

extern "C" void OnSignal(int) {
  if (g_interrupted.exchange(true)) _exit(wf::kExitInterrupted);  // a second Ctrl-C does not wait for a slow pass
}

// "1,2,4": whole numbers of [low, high], none twice.
template <class T>
wf::Status ParseList(const char* flag, const std::string& text, T low, T high, std::vector<T>* out) {
  out->clear();
  const char* p = text.data();
  const char* end = p + text.size();
  for (bool more = true; more;) {
    T v{};
    const auto [next, error] = std::from_chars(p, end, v);
    more = next != end;
    if (error != std::errc() || (more && *next != ',') || v < low || v > high) {
      return wf::InvalidArgument(std::string(flag) + ": '" + text + "' is not a list of numbers from " +
                                 std::to_string(low) + " to " + std::to_string(high) + " like 1,2,4");
    }
    for (const T seen : *out) {
      if (seen == v) return wf::InvalidArgument(std::string(flag) + ": " + std::to_string(v) + " is there twice");
    }
    out->push_back(v);
    p = next + 1;
  }
  return wf::OkStatus();
}

int Main(int argc, char** argv) {
  wf::BenchOptions o;
  wf::ModelArg model_arg;
  std::string threads, depths = "0", batches = "1", kv_type = "f16", head = "auto";
  size_t machine_mb = 0;
  bool as_json = false;
  CLI::App app{
      "Measures prefill and decoding as the server does them for greedy requests, and in between what the machine can\n"
      "do at best: reading memory in order, and 8-bit products in registers. Prints medians, what a token needs, and\n"
      "the share of each limit that was reached.",
      kProgram};
  app.set_version_flag("--version", WF_VERSION_STRING);
  model_arg.AddTo(&app);
  constexpr size_t kTokens = size_t{1} << 30;
  app.add_option("-p,--prompt", o.prompt, "Tokens of the prompt that is prefilled; 0: no prefill")
      ->check(CLI::Range(size_t{0}, kTokens))
      ->capture_default_str();
  app.add_option("-n,--predict", o.predict, "Tokens that are decoded; 0: no decoding")
      ->check(CLI::Range(size_t{0}, kTokens))
      ->capture_default_str();
  app.add_option("-t,--threads", threads, "Numbers of threads (default: physical cores of the affinity mask)");
  app.add_option("-r,--repetitions", o.repetitions, "Repetitions; all tests once, then all again")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--depth", depths, "Tokens already in the cache when decoding begins (filling is not timed)")
      ->capture_default_str();
  app.add_option("--batch", batches, "Sequences decoded together at depth 0; their tokens are counted together")
      ->capture_default_str();
  app.add_option("--warmup", o.warmup, "Repetitions that are not counted, before the others")
      ->check(CLI::Range(0, 1000))
      ->capture_default_str();
  app.add_option("--kv-type", kv_type, "Type of the KV cache")
      ->check(CLI::IsMember({"f16", "f32", "i8"}))
      ->capture_default_str();
  app.add_option("--head", head,
                 "Choice of tokens: auto reads a 6-bit copy of a large output head, full all of the head")
      ->check(CLI::IsMember({"auto", "full"}))
      ->capture_default_str();
  app.add_option("--isa", o.isa, "Kernels to use (default: WF_FORCE_ISA, else the best of this CPU)");
  auto* machine = app.add_option("--machine-mb", machine_mb,
                                 "MB of memory read to measure the machine, 0: do not measure it (default: 16 times "
                                 "the last-level cache)")
                      ->check(CLI::Range(0, 1 << 20));
  app.add_flag("--json", as_json, "Print one JSON object with every sample");
  if (const int code = wf::ParseArgs(app, argc, argv); code >= 0) return code;
  if (o.prompt == 0 && o.predict == 0) return wf::UsageError(kProgram, "-p 0 and -n 0 leave nothing to measure");
  if (threads.empty()) threads = std::to_string(wf::DefaultThreads());
  for (const wf::Status& s : {ParseList("--threads", threads, 1, 1024, &o.threads),
                              ParseList("--depth", depths, size_t{0}, kTokens, &o.depths),
                              ParseList("--batch", batches, size_t{1}, size_t{4096}, &o.batches)}) {
    if (!s.ok()) return wf::UsageError(kProgram, s.message());
  }
  o.kv_type = *wf::KvTypeFromName(kv_type);
  o.head = head == "full" ? wf::HeadMode::kFull : wf::HeadMode::kAuto;
  o.measure_machine = machine->count() == 0 || machine_mb != 0;
  o.machine_bytes = machine_mb * 1000000;
  wf::CatchInterrupts();  // SIGPIPE, SIGXFSZ and SIGHUP as in the other programs
  for (const int s : {SIGINT, SIGTERM, SIGHUP}) std::signal(s, OnSignal);
  const wf::Result<std::shared_ptr<const wf::Model>> model = model_arg.Open(kProgram, &g_interrupted);
  if (!model.ok()) return wf::Fail(kProgram, model.status());
  const wf::Result<wf::BenchResult> result = wf::RunBench(*model, o, &g_interrupted);
  if (!result.ok()) return wf::Fail(kProgram, result.status());
  const wf::BenchReport report{**model, model_arg.path, o, *result};
  as_json ? wf::PrintBenchJson(report) : wf::PrintBenchTable(report);
  return wf::kExitOk;
}

}  // namespace

int main(int argc, char** argv) {
  return wf::RunMain(kProgram, [&] { return Main(argc, argv); });
}
