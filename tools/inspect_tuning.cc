// SPDX-License-Identifier: Apache-2.0
// Bodies of inspect_tuning.h.
#include "tools/inspect_tuning.h"

#include <boost/json.hpp>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "tools/cli.h"
#include "tools/machine.h"
#include "tools/table.h"
#include "wf/base/thread_pool.h"
#include "wf/kernels/table.h"
#include "wf/model/cost.h"
#include "wf/model/fast_head.h"

namespace wf {
namespace {

namespace json = boost::json;

constexpr int kPasses = 7;  // of the machine's measurement

struct Choice {
  std::string instance, why;
};

Choice TernaryChoice(isa::Id isa, const Linear& l) {
  const TernaryInstance fn = FindTernary(isa, l.type, l.rank);
  const std::string head = "Ternary<" + std::string(isa::Name(isa)) + ", " + std::string(TensorTypeName(l.type)) + ", ";
  if (fn.gemv == nullptr) return {"none", "there is no kernel for this type"};
  const std::string rank = std::to_string(l.rank);
  if (l.rank == 0) return {head + "0> gemv, gemm", "no low-rank term"};
  if (fn.rank == kDynamic) return {head + "dynamic> gemv, gemm", "rank " + rank + " has no instance of its own"};
  return {head + rank + "> gemv, gemm", "rank " + rank + " is compiled"};
}

Choice Choose(isa::Id isa, const KindCost& k, const Weights& w) {
  const std::string name = isa::Name(isa);
  if (k.linear == nullptr) return {"RmsNorm<" + name + ">", "floats"};
  if (k.linear->ternary && k.linear != &w.embedding) return TernaryChoice(isa, *k.linear);
  if (k.linear == &w.embedding) return {"rows looked up", "one a token"};
  Choice c{"Dense<" + name + ", " + std::string(TensorTypeName(k.linear->type)) + ">", "activations are not quantised"};
  if (k.linear == &w.head) c.why = w.head.data == w.embedding.data ? "head, tied to the embedding" : "head";
  return c;
}

const char* WhyIsa() {
  const char* forced = std::getenv("WF_FORCE_ISA");
  return forced != nullptr && *forced != '\0' ? "WF_FORCE_ISA" : "the best that this CPU has";
}

struct Report {
  const Model& model;
  const std::string& path;
  const TuningOptions& options;
  isa::Id isa;
  PassCost cost;
  double bandwidth = 0, peak = 0;  // 0: unknown
};

void PrintText(const Report& r) {
  const TuningOptions& o = r.options;
  std::printf("%s: %s (%s), %d thread%s; a token at %zu tokens of context, f16 K/V\n\n", r.path.c_str(),
              isa::Name(r.isa), WhyIsa(), o.threads, o.threads == 1 ? "" : "s", o.depth);
  TextTable table{{"tensors", "type", "count", "shape", "MB/token", "kernel", "why"}};
  for (const KindCost& k : r.cost.kinds) {
    const Choice c = Choose(r.isa, k, r.model.weights());
    const bool norms = k.linear == nullptr;
    table.push_back({k.kind, norms ? "F32" : std::string(TensorTypeName(k.linear->type)), std::to_string(k.tensors),
                     norms ? "" : std::to_string(k.linear->k) + " x " + std::to_string(k.linear->rows),
                     Number(k.work.bytes / 1e6, "%.3f"), c.instance, c.why});
  }
  table.push_back({"K/V", "F16", "", "", Number(r.cost.kv.bytes / 1e6, "%.3f"),
                   "Attention<" + std::string(isa::Name(r.isa)) + ", F16>", "default"});
  PrintTable(table, "llrrrll");
  const Work& t = r.cost.total;
  std::printf("\na token: %.1f MB; multiplications %.3f G ternary, %.3f G float, %.3f G attention\n", t.bytes / 1e6,
              t.ternary / 1e9, t.dense / 1e9, t.attention / 1e9);
  const char* source = o.measure ? "measured now" : "given";
  if (r.bandwidth > 0) {
    std::printf("decoding: at most %.2f tokens/s at %.1f GB/s (%s)\n", r.bandwidth / t.bytes, r.bandwidth / 1e9,
                source);
  }
  if (r.peak > 0 && t.ternary > 0) {
    std::printf("prefill: at most %.1f tokens/s at %.0f G 8-bit products/s (%s)\n", r.peak / t.ternary, r.peak / 1e9,
                source);
  }
  std::printf("reached: wf-bench -m %s -t %d\n", r.path.c_str(), o.threads);
}

json::object WorkJson(const Work& w) {
  return {{"bytes", w.bytes}, {"ternary", w.ternary}, {"dense", w.dense}, {"attention", w.attention}};
}

void PrintJson(const Report& r) {
  json::array tensors;
  for (const KindCost& k : r.cost.kinds) {
    const Choice c = Choose(r.isa, k, r.model.weights());
    json::object o{{"kind", k.kind},
                   {"type", k.linear == nullptr ? "F32" : TensorTypeName(k.linear->type)},
                   {"rank", k.linear == nullptr ? 0 : k.linear->rank},
                   {"count", k.tensors},
                   {"kernel", c.instance},
                   {"why", c.why},
                   {"work", WorkJson(k.work)}};
    if (k.linear != nullptr) o["shape"] = {k.linear->k, k.linear->rows};
    tensors.push_back(std::move(o));
  }
  json::object out{{"path", r.path},
                   {"isa", isa::Name(r.isa)},
                   {"why", WhyIsa()},
                   {"threads", r.options.threads},
                   {"depth", r.options.depth},
                   {"tensors", std::move(tensors)},
                   {"kv", WorkJson(r.cost.kv)},
                   {"total", WorkJson(r.cost.total)}};
  if (r.bandwidth > 0) {
    out["bandwidth"] = r.bandwidth;
    out["decode_at_most"] = r.bandwidth / r.cost.total.bytes;
  }
  if (r.peak > 0 && r.cost.total.ternary > 0) {
    out["peak"] = r.peak;
    out["prefill_at_most"] = r.peak / r.cost.total.ternary;
  }
  std::printf("%s\n", json::serialize(out).c_str());
}

}  // namespace

Status PrintTuning(const Model& model, const std::string& path, const TuningOptions& options) {
  WF_ASSIGN(const isa::Id isa, isa::Choose(CompiledIsas()));
  const Config& c = model.config();
  const KvShape kv{c.layers, c.kv_heads, c.head_dim, KvType::kF16};
  PassShape pass = DecodePass(1, static_cast<double>(options.depth));
  const Linear& head = model.weights().head;
  if (FastHead::WhyNot(head, HeadMode::kAuto).empty()) pass.head_bytes = static_cast<double>(FastHead::Bytes(head));
  Report r{model,
           path,
           options,
           isa,
           CostOfPass(c, model.weights(), kv, pass),
           options.bandwidth};
  if (options.measure) {
    ThreadPool pool(options.threads);
    WF_TRY(pool.status());
    WF_ASSIGN(const Machine machine, Machine::Create(isa));
    const MachineLimits limits = machine.Measure(&pool, kPasses);
    r.bandwidth = Median(limits.bandwidth);  // a pass may be lucky: cores of a virtual machine move
    r.peak = Median(limits.peak);
  }
  options.as_json ? PrintJson(r) : PrintText(r);
  return OkStatus();
}

}  // namespace wf
