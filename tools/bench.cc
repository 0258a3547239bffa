// SPDX-License-Identifier: Apache-2.0
// wf-bench: how fast a model runs on this machine, and how much of the machine that uses.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "tools/args.h"
#include "tools/bench_report.h"
#include "tools/bench_run.h"
#include "tools/cli.h"
#include "tools/decode_args.h"
#include "tools/model_arg.h"
#include "tools/table.h"
#include "wf/base/quote.h"
#include "wf/version.h"

namespace {

constexpr const char* kProgram = "wf-bench";
std::atomic<bool> g_interrupted{false};

extern "C" void OnSignal(int) {
  if (g_interrupted.exchange(true)) _exit(wf::kExitInterrupted);  // a second Ctrl-C does not wait for a slow pass
}

// "1,2,4": numbers of [low, high], none twice.
template <class T>
wf::Status ParseList(const char* flag, const std::string& text, T low, T high, std::vector<T>* out) {
  const auto number = [](T v) { return wf::Number(static_cast<double>(v), "%.10g"); };
  out->clear();
  const char* p = text.data();
  const char* end = p + text.size();
  for (bool more = true; more;) {
    T v{};
    const auto [next, error] = std::from_chars(p, end, v);
    more = next != end;
    if (error != std::errc() || (more && *next != ',') || !(v >= low && v <= high)) {
      return wf::InvalidArgument(std::string(flag) + ": '" + text + "' is not a list of numbers from " + number(low) +
                                 " to " + number(high) + " like " + number(low) + "," + number(high));
    }
    if (std::find(out->begin(), out->end(), v) != out->end()) {
      return wf::InvalidArgument(std::string(flag) + ": " + number(v) + " is there twice");
    }
    out->push_back(v);
    p = next + 1;
  }
  return wf::OkStatus();
}

// "ar,adaptive" and thresholds to the ways of decoding that are compared: a mode with thresholds once with each.
wf::Status ParseDecodes(const std::string& modes, const std::vector<float>& thresholds, const wf::DecodeOptions& asked,
                        std::vector<wf::DecodeOptions>* out) {
  std::vector<wf::DecodeMode> found;
  for (size_t at = 0; at <= modes.size();) {
    const size_t end = std::min(modes.find(',', at), modes.size());
    const std::string name = modes.substr(at, end - at);
    const std::optional<wf::DecodeMode> mode = wf::DecodeModeFromName(name);
    if (!mode || mode == wf::DecodeMode::kAuto) {
      return wf::InvalidArgument("--decode: '" + name + "' is none of ar, greedy, iterative, adaptive and verify");
    }
    if (std::find(found.begin(), found.end(), *mode) != found.end()) {
      return wf::InvalidArgument("--decode: " + name + " is there twice");
    }
    found.push_back(*mode);
    at = end + 1;
  }
  if (!thresholds.empty() && std::none_of(found.begin(), found.end(), wf::HasThreshold)) {
    return wf::InvalidArgument("--threshold needs --decode iterative or adaptive");
  }
  const bool verify = std::find(found.begin(), found.end(), wf::DecodeMode::kVerify) != found.end();
  out->clear();
  for (const wf::DecodeMode mode : found) {
    wf::DecodeOptions o = asked;
    if (mode == wf::DecodeMode::kAr && found.size() != 1) o = {};  // the settings are the others'
    o.mode = mode;
    o.threshold.reset();
    if (mode != wf::DecodeMode::kVerify && verify) o.drafts.reset();
    out->push_back(o);
    if (!wf::HasThreshold(mode)) continue;
    for (size_t i = 0; i < thresholds.size(); ++i) {
      if (i != 0) out->push_back(o);
      out->back().threshold = thresholds[i];
    }
  }
  return wf::OkStatus();
}

wf::Status ReadLines(const std::string& path, std::vector<std::string>* out) {
  std::ifstream file(path, std::ios::binary);
  for (std::string line; std::getline(file, line);) {
    if (!line.empty()) out->push_back(line);
  }
  if (!file.eof()) return wf::IoError(wf::Quote(path) + ": cannot be read");
  if (out->empty()) return wf::InvalidArgument(wf::Quote(path) + ": there is no line with a prompt");
  return wf::OkStatus();
}

int Main(int argc, char** argv) {
  wf::BenchOptions o;
  wf::ModelArg model_arg;
  wf::DecodeArgs decode_args;
  std::string threads, depths = "0", batches = "1", kv_type = "f16", head = "auto";
  std::string decodes = "ar", thresholds, pass_rows, prompts;
  size_t machine_mb = 0;
  bool as_json = false;
  CLI::App app{
      "Measures prefill and decoding as the server does them for greedy requests, and in between what the machine can\n"
      "do at best: reading memory in order, and 8-bit products in registers. Prints medians, what a token needs, and\n"
      "the share of each limit that was reached; of block diffusion, passes and tokens of a pass.",
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
  app.add_option("--decode", decodes,
                 "Ways of decoding, each as wf-run --decode has it: ar,greedy,iterative,adaptive,verify")
      ->capture_default_str();
  auto* threshold =
      app.add_option("--threshold", thresholds,
                     "Thresholds of modes iterative and adaptive, e.g. 0.5,0.7 (default: the model's, else 0.7)");
  decode_args.AddTo(&app, /*own_mode=*/true);
  auto* file = app.add_option(
      "--prompts", prompts,
      "File with a user's message in each line (of a model without chat template: text to go on with): the "
      "answers are decoded, one after the other, up to an end token or -n tokens, and compared with those of mode ar");
  auto* rows = app.add_option("--pass-rows", pass_rows, "Time single passes over so many tokens, e.g. 1,2,4,8,16,32");
  auto* depth =
      app.add_option("--depth", depths, "Tokens already in the cache when decoding begins (filling is not timed)")
          ->capture_default_str();
  auto* batch =
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
  file->excludes(depth)->excludes(batch);
  if (const int code = wf::ParseArgs(app, argc, argv); code >= 0) return code;
  if (o.prompt == 0 && o.predict == 0 && rows->count() == 0) {
    return wf::UsageError(kProgram, "-p 0 and -n 0 leave nothing to measure");
  }
  if (threads.empty()) threads = std::to_string(wf::DefaultThreads());
  std::vector<float> levels;
  for (const wf::Status& s : {
           ParseList("--threads", threads, 1, 1024, &o.threads),
           ParseList("--depth", depths, size_t{0}, kTokens, &o.depths),
           ParseList("--batch", batches, size_t{1}, size_t{4096}, &o.batches),
           rows->count() == 0 ? wf::OkStatus()
                              : ParseList("--pass-rows", pass_rows, size_t{1}, size_t{4096}, &o.pass_rows),
           threshold->count() == 0 ? wf::OkStatus() : ParseList("--threshold", thresholds, 0.0f, 1.0f, &levels),
       }) {
    if (!s.ok()) return wf::UsageError(kProgram, s.message());
  }
  if (const wf::Status s = ParseDecodes(decodes, levels, decode_args.Options(), &o.decodes); !s.ok()) {
    return wf::UsageError(kProgram, s.message());
  }
  o.kv_type = *wf::KvTypeFromName(kv_type);
  o.head = head == "full" ? wf::HeadMode::kFull : wf::HeadMode::kAuto;
  o.measure_machine = machine->count() == 0 || machine_mb != 0;
  o.machine_bytes = machine_mb * 1000000;
  wf::CatchInterrupts();  // SIGPIPE, SIGXFSZ and SIGHUP as in the other programs
  for (const int s : {SIGINT, SIGTERM, SIGHUP}) std::signal(s, OnSignal);
  if (file->count() != 0) {
    if (const wf::Status s = ReadLines(prompts, &o.prompts); !s.ok()) return wf::Fail(kProgram, s);
  }
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
