// SPDX-License-Identifier: Apache-2.0
// wf-convert: a Hugging Face checkpoint becomes a GGUF. The work is in wf/convert/; here are arguments and reports.
#include "wf/convert/convert.h"

#include <atomic>
#include <boost/json.hpp>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "tools/args.h"
#include "tools/cli.h"
#include "wf/version.h"

namespace {

namespace json = boost::json;
constexpr const char* kProgram = "wf-convert";

class Observer : public wf::ConvertObserver {
 public:
  explicit Observer(const std::atomic<bool>* interrupted) : interrupted_(interrupted), bar_(std::in_place, "", 0) {}
  void Progress(const wf::ConvertProgress& p) override {
    bar_->Update(p.done, p.total, std::string(p.phase) + " " + std::string(p.tensor));
  }
  bool Cancelled() noexcept override { return interrupted_->load(std::memory_order_relaxed); }
  void HideBar() { bar_.reset(); }

 private:
  const std::atomic<bool>* interrupted_;
  std::optional<wf::ProgressBar> bar_;
};

std::string Shape(const std::vector<uint64_t>& ne) {
  std::string s;
  for (const uint64_t d : ne) s += (s.empty() ? "" : " x ") + std::to_string(d);
  return s;
}

json::array Strings(const std::vector<std::string>& v) {
  json::array a;
  for (const std::string& s : v) a.emplace_back(s);
  return a;
}

json::array Ne(const std::vector<uint64_t>& ne) {
  json::array a;
  for (const uint64_t d : ne) a.emplace_back(d);
  return a;
}

json::object PlanJson(const wf::ConvertPlan& plan) {
  json::array tensors;
  for (const wf::PlannedTensor& t : plan.tensors) {
    tensors.push_back({{"name", t.name},
                       {"source", t.source->name},
                       {"source_type", wf::SafetensorsTypeName(t.source->type)},
                       {"operation", wf::ConvertOpName(t.op)},
                       {"type", std::string(wf::TensorTypeName(t.type))},
                       {"ne", Ne(t.ne)},
                       {"bytes", t.bytes}});
  }
  return {{"dry_run", true},
          {"input", plan.input},
          {"outtype", wf::kOutTypeNames[static_cast<size_t>(plan.outtype)]},
          {"architecture", plan.config.architecture},
          {"name", plan.name},
          {"file_bytes", plan.file_bytes},
          {"tensors", std::move(tensors)},
          {"notices", Strings(plan.notices)}};
}

json::object ReportJson(const wf::ConvertPlan& plan, const wf::ConvertReport& r) {
  json::array tensors;
  for (const wf::ConvertedTensor& t : r.tensors) {
    json::object o = {{"name", t.name},
                      {"source", t.source},
                      {"source_type", t.source_type},
                      {"operation", t.operation},
                      {"type", std::string(wf::TensorTypeName(t.type))},
                      {"ne", Ne(t.ne)},
                      {"bytes", t.bytes},
                      {"rounded", t.rounded}};
    if (t.ternary) {
      o["scale"] = static_cast<double>(t.scale);
      o["zeros"] = t.zeros;
    }
    tensors.push_back(std::move(o));
  }
  return {{"dry_run", false},
          {"input", plan.input},
          {"output", r.output},
          {"outtype", wf::kOutTypeNames[static_cast<size_t>(plan.outtype)]},
          {"architecture", plan.config.architecture},
          {"name", plan.name},
          {"file_bytes", r.file_bytes},
          {"parameters", r.parameters},
          {"ternary_parameters", r.ternary_parameters},
          {"zeros", r.zeros},
          {"rounded", r.rounded},
          {"verified", true},
          {"seconds", r.seconds},
          {"verify_seconds", r.verify_seconds},
          {"tensors", std::move(tensors)},
          {"notices", Strings(r.notices)}};
}

void PrintNotices(const std::vector<std::string>& notices) {
  for (const std::string& n : notices) std::printf("note: %s\n", n.c_str());
}

void PrintPlan(const wf::ConvertPlan& plan) {
  std::printf("%-36s %-5s %-18s %-20s %s\n", "tensor", "type", "shape", "operation", "source");
  for (const wf::PlannedTensor& t : plan.tensors) {
    std::printf("%-36s %-5s %-18s %-20s %s %s\n", t.name.c_str(), std::string(wf::TensorTypeName(t.type)).c_str(),
                Shape(t.ne).c_str(), wf::ConvertOpName(t.op), wf::SafetensorsTypeName(t.source->type),
                t.source->name.c_str());
  }
  PrintNotices(plan.notices);
  std::printf("%s: %s, architecture %s, %zu tensors, %s as %s; nothing was written\n", plan.input.c_str(),
              plan.name.c_str(), plan.config.architecture.c_str(), plan.tensors.size(),
              wf::BytesText(plan.file_bytes).c_str(), wf::kOutTypeNames[static_cast<size_t>(plan.outtype)]);
}

void PrintReport(const wf::ConvertPlan& plan, const wf::ConvertReport& r) {
  std::printf("%-36s %-5s %-18s %10s  %-16s %-12s %s\n", "tensor", "type", "shape", "bytes", "operation", "scale",
              "zeros");
  for (const wf::ConvertedTensor& t : r.tensors) {
    std::printf("%-36s %-5s %-18s %10s  %-16s", t.name.c_str(), std::string(wf::TensorTypeName(t.type)).c_str(),
                Shape(t.ne).c_str(), wf::BytesText(t.bytes).c_str(), t.operation.c_str());
    if (t.ternary) std::printf(" %-12.7g %4.1f %%", static_cast<double>(t.scale), 100 * t.zeros);
    std::printf("\n");
  }
  PrintNotices(r.notices);
  std::printf(
      "%s: %s, architecture %s, %zu tensors, %llu parameters (%llu ternary, %.1f %% of them 0), %s, "
      "written and verified in %.2f s\n",
      r.output.c_str(), plan.name.c_str(), plan.config.architecture.c_str(), r.tensors.size(),
      static_cast<unsigned long long>(r.parameters), static_cast<unsigned long long>(r.ternary_parameters),
      100 * r.zeros, wf::BytesText(r.file_bytes).c_str(), r.seconds);
}

}  // namespace

int main(int argc, char** argv) {
  std::string input, output, outtype = "i2_s", style;
  bool dry_run = false, as_json = false;
  CLI::App app(
      "Converts the folder of a Hugging Face BitNet checkpoint (safetensors, tokenizer.json) to a GGUF.\n"
      "The file is read back and compared before it gets its name; after any failure nothing is left.\n"
      "Exit code: 0 done, 1 failure, 2 wrong usage, 130 interrupted.");
  app.add_option("DIR", input, "Folder with config.json, *.safetensors and tokenizer.json")->required();
  CLI::Option* out = app.add_option("-o,--output", output, "GGUF to write; an older one is replaced");
  app.add_option("--outtype", outtype, "How ternary weights are stored")
      ->check(CLI::IsMember({"f32", "f16", "bf16", "i2_s"}))
      ->capture_default_str();
  app.add_option("--diffusion-style", style, "For diffusion checkpoints that do not say it: fast-dllm-v2 or causal")
      ->check(CLI::IsMember({"fast-dllm-v2", "causal"}));
  app.add_flag("--dry-run", dry_run, "Check everything but the weights, print the plan, write nothing");
  app.add_flag("--json", as_json, "Print the report as one JSON object");
  app.set_version_flag("--version", WF_VERSION_STRING, "Print the version and stop");
  if (const int code = wf::ParseArgs(app, argc, argv); code >= 0) return code;
  if (!dry_run && out->count() == 0) {
    std::fprintf(stderr, "%s: error: --output is required (or --dry-run)\n", kProgram);
    return wf::kExitUsage;
  }

  Observer observer(wf::CatchInterrupts());
  const wf::Result<wf::OutType> type = wf::ParseOutType(outtype);
  if (!type.ok()) return wf::Fail(kProgram, type.status());
  const wf::Result<wf::ConvertPlan> plan = wf::PlanConversion(input, *type, style);
  if (!plan.ok()) return wf::Fail(kProgram, plan.status());
  if (dry_run) {
    if (as_json) {
      std::printf("%s\n", json::serialize(PlanJson(*plan)).c_str());
    } else {
      PrintPlan(*plan);
    }
    return wf::kExitOk;
  }
  const wf::Result<wf::ConvertReport> report = wf::ExecuteConversion(*plan, output, &observer);
  observer.HideBar();
  if (!report.ok()) return wf::Fail(kProgram, report.status());
  if (as_json) {
    std::printf("%s\n", json::serialize(ReportJson(*plan, *report)).c_str());
  } else {
    PrintReport(*plan, *report);
  }
  return wf::kExitOk;
}
