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

const char* HeadName(PassTimer::Head h) {
  return h == PassTimer::Head::kNone ? "none" : h == PassTimer::Head::kChoice ? "choice" : "logits";
}

double TokensPerPass(const BenchCase& c) { return static_cast<double>(c.generated) / static_cast<double>(c.passes); }

// The same in mode ar, if it was measured.
const BenchCase* InModeAr(const BenchResult& r, const BenchCase& c) {
  for (const BenchCase& o : r.cases) {
    if (!o.prefill && o.decode.mode == DecodeMode::kAr && o.threads_at == c.threads_at && o.depth == c.depth &&
        o.batch == c.batch) {
      return &o;
    }
  }
  return nullptr;
}

// Median over the repetitions of a / b, which were measured in turns.
double Ratio(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> ratios;
  for (size_t i = 0; i < a.size(); ++i) ratios.push_back(a[i] / b[i]);
  return Median(ratios);
}

// With the first number of rows that was asked for.
const BenchPass& First(const BenchResult& r, const BenchPass& p) {
  return *std::find_if(r.passes.begin(), r.passes.end(), [&](const BenchPass& o) {
    return o.rows == r.passes[0].rows && o.head == p.head && o.threads_at == p.threads_at;
  });
}

void AddDecode(const BenchResult& r, const BenchCase& c, json::object* o) {
  const DecodeSettings& d = c.decode;
  json::object& out = *o;
  out["decode"] = Name(d.mode);
  if (d.mode != DecodeMode::kAr) {
    out["style"] = Name(d.style);
    out["block_size"] = d.block;
  }
  if (HasThreshold(d.mode)) {
    out["sub_block_size"] = d.sub_block;
    out["threshold"] = d.threshold;
  }
  out["generated"] = c.generated;
  out["passes"] = c.passes;
  out["tokens_per_pass"] = TokensPerPass(c);
  if (d.mode == DecodeMode::kVerify) {
    out["drafted"] = c.drafted;
    out["accepted"] = c.accepted;
  }
  if (const BenchCase* ar = InModeAr(r, c)) out["to_ar"] = Ratio(c.samples, ar->samples);
  if (c.prompts == 0) return;
  out["prompts"] = c.prompts;
  if (c.agreement) out["agreement"] = {{"same", c.agreement->same}, {"in_common", c.agreement->in_common}};
}

json::object PassJson(const BenchReport& r, const BenchPass& p) {
  return {{"rows", p.rows},
          {"threads", r.options.threads[p.threads_at]},
          {"head", HeadName(p.head)},
          {"samples_ms", json::value_from(p.samples)},
          {"median_ms", Median(p.samples)},
          {"to_first", Ratio(p.samples, First(r.result, p).samples)}};
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
                 {"max", *std::max_element(c.samples.begin(), c.samples.end())}};
  if (!c.prefill) AddDecode(r.result, c, &o);
  if (!c.HasCost()) return o;
  o["bytes_per_token"] = BytesJson(c.per_token);
  o["multiplications_per_token"] = {{"ternary", need.ternary},
                                    {"dense", need.dense},
                                    {"attention", need.attention},
                                    {"total", need.ternary + need.dense + need.attention}};
  if (!r.result.limits.empty()) {
    const Reached reached = ReachedBy(r.result, c);
    o["predicted"] = reached.predicted;
    o["fraction"] = {{"bandwidth", reached.bandwidth}, {"peak", reached.peak}};
  }
  return o;
}

// How the modes compare, if there is more than ar to tell of.
void PrintDecodes(const BenchReport& r) {
  TextTable table{{"decoding", "threads", "tokens/s", "min..max", "to ar", "tokens", "passes", "a pass"}};
  const std::vector<BenchCase>& cases = r.result.cases;
  if (std::all_of(cases.begin(), cases.end(), [](const BenchCase& c) { return c.HasCost(); })) return;
  const bool texts = !r.options.prompts.empty();
  if (texts) {
    for (const char* h : {"same text", "in common"}) table[0].emplace_back(h);
  }
  table[0].emplace_back("drafts accepted");
  for (const BenchCase& c : cases) {
    if (c.prefill) continue;
    const auto [low, high] = std::minmax_element(c.samples.begin(), c.samples.end());
    const BenchCase* ar = InModeAr(r.result, c);
    std::vector<std::string> row{CaseName(c),
                                 std::to_string(r.options.threads[c.threads_at]),
                                 Number(Median(c.samples)),
                                 Number(*low) + ".." + Number(*high),
                                 ar == nullptr ? "" : Number(Ratio(c.samples, ar->samples), "x %.2f"),
                                 std::to_string(c.generated),
                                 std::to_string(c.passes),
                                 Number(TokensPerPass(c))};
    if (texts) {
      const bool known = c.agreement.has_value();
      row.push_back(known ? std::to_string(c.agreement->same) + "/" + std::to_string(c.prompts) : "");
      row.push_back(known ? Percent(c.agreement->in_common) : "");
    }
    row.push_back(c.decode.mode != DecodeMode::kVerify ? ""
                                                       : std::to_string(c.accepted) + "/" + std::to_string(c.drafted));
    table.push_back(std::move(row));
  }
  std::printf("\n");
  PrintTable(table, "lrrrrrrrrrr");
}

void PrintPasses(const BenchReport& r) {
  if (r.result.passes.empty()) return;
  // BenchResult::passes has the three kinds of a pass side by side.
  TextTable table{
      {"pass over", "threads", "ms, no head", "to first", "ms, best tokens", "to first", "ms, all logits", "to first"}};
  for (size_t i = 0; i < r.result.passes.size(); ++i) {
    const BenchPass& p = r.result.passes[i];
    if (p.head == PassTimer::Head::kNone) {
      table.push_back(
          {std::to_string(p.rows) + (p.rows == 1 ? " row" : " rows"), std::to_string(r.options.threads[p.threads_at])});
    }
    table.back().push_back(Number(Median(p.samples), "%.3f"));
    table.back().push_back(Number(Ratio(p.samples, First(r.result, p).samples), "x %.2f"));
  }
  std::printf("\n");
  PrintTable(table, "lrrrrrrr");
}

}  // namespace

void PrintBenchTable(const BenchReport& r) {
  const BenchOptions& o = r.options;
  std::printf("%s (%s), %s, %s; %s on %s; K/V %s; %d repetitions, %s\n", Quote(r.model.name()).c_str(), r.path.c_str(),
              BytesText(r.model.gguf().file_bytes()).c_str(), r.model.config().architecture.c_str(),
              isa::Name(r.result.isa), CpuName().c_str(), Name(o.kv_type), o.repetitions, "wf " WF_VERSION_STRING);
  const bool limits = !r.result.limits.empty();
  if (limits) {
    std::printf("\n");
    TextTable table{{"machine", "threads", "read GB/s best", "median", "8-bit products G/s best", "median"}};
    for (size_t t = 0; t < o.threads.size(); ++t) {
      const std::vector<double> bandwidth = AllPasses(r.result, t, &MachineLimits::bandwidth),
                                peak = AllPasses(r.result, t, &MachineLimits::peak);
      table.push_back({"", std::to_string(o.threads[t]), Number(Best(bandwidth) / 1e9, "%.1f"),
                       Number(Median(bandwidth) / 1e9, "%.1f"), Number(Best(peak) / 1e9, "%.0f"),
                       Number(Median(peak) / 1e9, "%.0f")});
    }
    PrintTable(table, "lrrrrr");
  }
  TextTable table{
      {"test", "threads", "tokens/s", "min..max", "MB/token", "G mult/token ternary", "float", "attention"}};
  if (limits) {
    for (const char* h : {"at most", "GB/s", "of limit", "G mult/s", "of peak"}) table[0].emplace_back(h);
  }
  for (const BenchCase& c : r.result.cases) {
    if (!c.HasCost()) continue;
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
  if (table.size() > 1) {
    std::printf("\n");
    PrintTable(table, "lrrrrrrrrrrrr");
  }
  PrintDecodes(r);
  PrintPasses(r);
}

void PrintBenchJson(const BenchReport& r) {
  const BenchOptions& o = r.options;
  json::array limits, results, passes;
  for (size_t t = 0; t < r.result.limits.size(); ++t) {
    limits.push_back({{"threads", o.threads[t]},
                      {"bandwidth", LimitJson(r.result, t, &MachineLimits::bandwidth)},
                      {"peak", LimitJson(r.result, t, &MachineLimits::peak)}});
  }
  for (const BenchCase& c : r.result.cases) results.push_back(CaseJson(r, c));
  for (const BenchPass& p : r.result.passes) passes.push_back(PassJson(r, p));
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
                         {"results", std::move(results)},
                         {"passes", std::move(passes)}};
  std::printf("%s\n", json::serialize(out).c_str());
}

}  // namespace wf
