// SPDX-License-Identifier: Apache-2.0
// Bodies of bench_report.h.
#include "tools/bench_report.h"

#include <algorithm>
#include <boost/json.hpp>
#include <cstdio>
#include <vector>

#include "tools/cli.h"
#include "tools/table.h"
#include "wf/base/quote.h"
#include "wf/version.h"

namespace wf {
namespace {

namespace json = boost::json;

using Series = std::vector<double> MachineLimits::*;

double Best(const std::vector<double>& v) { return v.empty() ? 0 : *std::max_element(v.begin(), v.end()); }

// Of each repetition the best pass: what the machine could do at that time.
std::vector<double> RoundBests(const BenchResult& r, size_t threads_at, Series series) {
  std::vector<double> bests;
  if (r.limits.empty()) return bests;
  for (const MachineLimits& l : r.limits[threads_at]) bests.push_back(Best(l.*series));
  return bests;
}

std::vector<double> AllPasses(const BenchResult& r, size_t threads_at, Series series) {
  std::vector<double> all;
  for (const MachineLimits& l : r.limits[threads_at]) all.insert(all.end(), (l.*series).begin(), (l.*series).end());
  return all;
}

struct Reached {
  double bandwidth = 0, peak = 0;  // shares of the limit
  double predicted = 0;            // tokens/s that the nearer limit allows
};
Reached ReachedBy(const BenchResult& r, const BenchCase& c) {
  const std::vector<double> bandwidth = RoundBests(r, c.threads_at, &MachineLimits::bandwidth),
                            peak = RoundBests(r, c.threads_at, &MachineLimits::peak);
  const Work& need = c.per_token.total;
  const auto share = [&](const std::vector<double>& limits, double per_token) {
    std::vector<double> shares;
    for (size_t i = 0; i < limits.size(); ++i) shares.push_back(c.samples[i] * per_token / limits[i]);
    return Median(shares);
  };
  Reached out{share(bandwidth, need.bytes), share(peak, need.ternary), Median(bandwidth) / need.bytes};
  if (need.ternary > 0) out.predicted = std::min(out.predicted, Median(peak) / need.ternary);
  return out;
}

std::string Percent(double share) { return Number(100 * share, "%.1f %%"); }

json::object LimitJson(const BenchResult& r, size_t threads_at, Series series) {
  json::array passes;
  for (const MachineLimits& l : r.limits[threads_at]) passes.push_back(json::value_from(l.*series));
  const std::vector<double> all = AllPasses(r, threads_at, series);
  return {{"best", Best(all)}, {"median", Median(all)}, {"passes", std::move(passes)}};
}

json::object BytesJson(const PassCost& c) {
  double embedding = 0, norms = 0;
  for (const KindCost& k : c.kinds) {
    if (k.linear == nullptr) norms += k.work.bytes;
    if (k.kind == "token_embd (rows)") embedding += k.work.bytes;
  }
  const double body = c.total.bytes - c.head.bytes - c.kv.bytes - embedding - norms;
  return {{"projections", body}, {"head", c.head.bytes}, {"embedding", embedding},
          {"norms", norms},      {"kv", c.kv.bytes},     {"total", c.total.bytes}};
}

json::object CaseJson(const BenchReport& r, const BenchCase& c) {
  const Work& need = c.per_token.total;
  const int threads = r.options.threads[c.threads_at];
  json::object o{{"name", CaseName(c) + "/t" + std::to_string(threads)},
                 {"kind", c.prefill ? "prefill" : "decode"},
                 {"tokens", c.tokens},
                 {"depth", c.depth},
                 {"batch", c.batch},
                 {"threads", threads},
                 {"samples", json::value_from(c.samples)},
                 {"median", Median(c.samples)},
                 {"min", *std::min_element(c.samples.begin(), c.samples.end())},
                 {"max", *std::max_element(c.samples.begin(), c.samples.end())},
                 {"bytes_per_token", BytesJson(c.per_token)},
                 {"multiplications_per_token",
                  {{"ternary", need.ternary},
                   {"dense", need.dense},
                   {"attention", need.attention},
                   {"total", need.ternary + need.dense + need.attention}}}};
  if (!r.result.limits.empty()) {
    const Reached reached = ReachedBy(r.result, c);
    o["predicted"] = reached.predicted;
    o["fraction"] = {{"bandwidth", reached.bandwidth}, {"peak", reached.peak}};
  }
  return o;
}

}  // namespace

void PrintBenchTable(const BenchReport& r) {
  const BenchOptions& o = r.options;
  std::printf("%s (%s), %s, %s; %s on %s; K/V %s; %d repetitions, %s\n\n", Quote(r.model.name()).c_str(),
              r.path.c_str(), BytesText(r.model.gguf().file_bytes()).c_str(), r.model.config().architecture.c_str(),
              isa::Name(r.result.isa), CpuName().c_str(), Name(o.kv_type), o.repetitions, "wf " WF_VERSION_STRING);
  const bool limits = !r.result.limits.empty();
  if (limits) {
    TextTable table{{"machine", "threads", "read GB/s best", "median", "8-bit products G/s best", "median"}};
    for (size_t t = 0; t < o.threads.size(); ++t) {
      const std::vector<double> bandwidth = AllPasses(r.result, t, &MachineLimits::bandwidth),
                                peak = AllPasses(r.result, t, &MachineLimits::peak);
      table.push_back({"", std::to_string(o.threads[t]), Number(Best(bandwidth) / 1e9, "%.1f"),
                       Number(Median(bandwidth) / 1e9, "%.1f"), Number(Best(peak) / 1e9, "%.0f"),
                       Number(Median(peak) / 1e9, "%.0f")});
    }
    PrintTable(table, "lrrrrr");
    std::printf("\n");
  }
  TextTable table{
      {"test", "threads", "tokens/s", "min..max", "MB/token", "G mult/token ternary", "float", "attention"}};
  if (limits) {
    for (const char* h : {"at most", "GB/s", "of limit", "G mult/s", "of peak"}) table[0].emplace_back(h);
  }
  for (const BenchCase& c : r.result.cases) {
    const Work& need = c.per_token.total;
    const double rate = Median(c.samples);
    const auto [low, high] = std::minmax_element(c.samples.begin(), c.samples.end());
    std::vector<std::string> row{CaseName(c),
                                 std::to_string(o.threads[c.threads_at]),
                                 Number(rate),
                                 Number(*low) + ".." + Number(*high),
                                 Number(need.bytes / 1e6, "%.1f"),
                                 Number(need.ternary / 1e9, "%.3f"),
                                 Number(need.dense / 1e9, "%.3f"),
                                 Number(need.attention / 1e9, "%.3f")};
    if (limits) {
      const Reached reached = ReachedBy(r.result, c);
      for (const std::string& cell :
           {Number(reached.predicted), Number(rate * need.bytes / 1e9, "%.1f"), Percent(reached.bandwidth),
            Number(rate * need.ternary / 1e9, "%.0f"), Percent(reached.peak)}) {
        row.push_back(cell);
      }
    }
    table.push_back(std::move(row));
  }
  PrintTable(table, "lrrrrrrrrrrrr");
}

void PrintBenchJson(const BenchReport& r) {
  const BenchOptions& o = r.options;
  json::array limits, results;
  for (size_t t = 0; t < r.result.limits.size(); ++t) {
    limits.push_back({{"threads", o.threads[t]},
                      {"bandwidth", LimitJson(r.result, t, &MachineLimits::bandwidth)},
                      {"peak", LimitJson(r.result, t, &MachineLimits::peak)}});
  }
  for (const BenchCase& c : r.result.cases) results.push_back(CaseJson(r, c));
  const json::object out{{"version", WF_VERSION_STRING},
                         {"model",
                          {{"path", r.path},
                           {"name", r.model.name()},
                           {"architecture", r.model.config().architecture},
                           {"bytes", r.model.gguf().file_bytes()}}},
                         {"isa", isa::Name(r.result.isa)},
                         {"cpu", CpuName()},
                         {"kv_type", Name(o.kv_type)},
                         {"repetitions", o.repetitions},
                         {"warmup", o.warmup},
                         {"fill_seconds", r.result.fill_seconds},
                         {"machine_bytes", r.result.machine_bytes},
                         {"limits", std::move(limits)},
                         {"results", std::move(results)}};
  std::printf("%s\n", json::serialize(out).c_str());
}

}  // namespace wf
