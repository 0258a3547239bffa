// SPDX-License-Identifier: Apache-2.0
// wf-quantize: a GGUF's ternary tensors in another type. The work is in wf/convert/requantise.h; here are arguments and
// reports.
#include <boost/json.hpp>
#include <cstdio>
#include <string>
#include <vector>

#include "tools/args.h"
#include "tools/cli.h"
#include "tools/tensor_types.h"
#include "wf/convert/output-impl.h"
#include "wf/convert/requantise.h"
#include "wf/model/weights.h"
#include "wf/version.h"

namespace {

namespace json = boost::json;
constexpr const char* kProgram = "wf-quantize";

const char* ScaleText(const wf::RequantisedTensor& t) {
  if (t.op != wf::RequantiseOp::kTernary) return "";
  return t.stored.empty() ? "scales taken over" : (t.scale_error > wf::detail::kScaleNoise ? "scale rounded" : "");
}

json::object PlanJson(const wf::RequantisePlan& plan) {
  json::array tensors;
  for (const wf::RequantisedTensor& t : plan.tensors) {
    json::object o = {{"name", t.name},
                      {"operation", wf::RequantiseOpName(t.op)},
                      {"source_type", t.source == nullptr ? "" : std::string(wf::TensorTypeName(t.from))},
                      {"type", std::string(wf::TensorTypeName(t.type))},
                      {"ne", wf::SizesJson(t.ne)},
                      {"bytes", t.bytes}};
    if (t.op == wf::RequantiseOp::kTernary) o["scale_error"] = t.scale_error;
    tensors.push_back(std::move(o));
  }
  return {{"input", plan.input},
          {"architecture", plan.architecture},
          {"type", wf::LowerTypeName(plan.options.type)},
          {"for", wf::kPeerNames[static_cast<size_t>(plan.options.peer)]},
          {"file_bytes", plan.file_bytes},
          {"tensors", std::move(tensors)},
          {"notices", wf::StringsJson(plan.notices)}};
}

void PrintPlan(const wf::RequantisePlan& plan) {
  std::printf("%-36s %-10s %-10s %-18s %10s  %-8s %s\n", "tensor", "from", "to", "shape", "bytes", "operation",
              "scale");
  for (const wf::RequantisedTensor& t : plan.tensors) {
    std::printf("%-36s %-10s %-10s %-18s %10s  %-8s %s\n", t.name.c_str(),
                t.source == nullptr ? "" : std::string(wf::TensorTypeName(t.from)).c_str(),
                std::string(wf::TensorTypeName(t.type)).c_str(), wf::ShapeText(t.ne).c_str(),
                wf::BytesText(t.bytes).c_str(), wf::RequantiseOpName(t.op), ScaleText(t));
  }
  for (const std::string& n : plan.notices) std::printf("note: %s\n", n.c_str());
}

int Main(int argc, char** argv) {
  std::string input, output, type, peer, embedding, head, layout = "x86";
  int threads = 0;
  bool dry_run = false, as_json = false;
  std::vector<std::string> types;
  for (const wf::TensorType t : wf::kRequantiseTypes) types.push_back(wf::LowerTypeName(t));
  CLI::App app(
      "Writes a GGUF's ternary tensors in another type, losslessly; all else is copied.\n"
      "Where a type cannot hold a scale, a .scale tensor beside the weights does. Weights that are not ternary are\n"
      "refused: convert their checkpoint with wf-convert.\n"
      "The file is read back and compared before it gets its name; after any failure nothing is left.\n"
      "Exit code: 0 done, 1 failure, 2 wrong usage, 130 interrupted.");
  app.add_option("IN.gguf", input, "Model to read")->required();
  app.add_option("OUT.gguf", output, "Model to write; an older one is replaced")->required();
  app.add_option("TYPE", type, "How ternary weights are stored")->required()->check(CLI::IsMember(types));
  app.add_option("--for", peer,
                 "Refuse what this program does not load, and round scales rather than add .scale tensors")
      ->check(CLI::IsMember(wf::kPeerFlags));
  app.add_option("--embedding-type", embedding, "Type of the embedding; as it is if not given")
      ->check(CLI::IsMember(wf::kDenseTypeNames));
  app.add_option("--head-type", head, "Type of the output head; as it is if not given")
      ->check(CLI::IsMember(wf::kDenseTypeNames));
  app.add_option("--i2s-layout", layout, "Layout of the input's I2_S tensors, which no file tells")
      ->check(CLI::IsMember({"x86", "arm64", "x4"}))
      ->capture_default_str();
  app.add_option("-t,--threads", threads, "Threads; 0: one a core. The file does not depend on it")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_flag("--dry-run", dry_run, "Check everything, print the plan, write nothing");
  app.add_flag("--json", as_json, "Print the report as one JSON object");
  app.set_version_flag("--version", WF_VERSION_STRING, "Print the version and stop");
  if (const int code = wf::ParseArgs(app, argc, argv); code >= 0) return code;

  wf::RequantiseOptions options;
  options.type = *wf::TypeOfFlag(type);
  options.embedding_type = wf::TypeOfFlag(embedding);
  options.head_type = wf::TypeOfFlag(head);
  options.i2s_layout = *wf::ParseI2sLayout(layout);  // the flag's check has the same names
  options.peer = wf::PeerOfFlag(peer);
  options.threads = threads;

  wf::ConvertWatch watch(wf::CatchInterrupts());
  const wf::Result<wf::RequantisePlan> plan = wf::PlanRequantisation(input, options, &watch);
  if (!plan.ok()) {
    watch.HideBar();
    return wf::Fail(kProgram, plan.status());
  }
  wf::Result<wf::RequantiseReport> report = wf::RequantiseReport();
  if (!dry_run) report = wf::ExecuteRequantisation(*plan, output, &watch);
  watch.HideBar();
  if (!report.ok()) return wf::Fail(kProgram, report.status());
  if (as_json) {
    json::object o = PlanJson(*plan);
    o["dry_run"] = dry_run;
    if (!dry_run) {
      o["output"] = report->output;
      o["ternary_parameters"] = report->ternary_parameters;
      o["verified"] = true;
      o["seconds"] = report->seconds;
      o["verify_seconds"] = report->verify_seconds;
    }
    std::printf("%s\n", json::serialize(o).c_str());
    return wf::kExitOk;
  }
  PrintPlan(*plan);
  if (dry_run) {
    std::printf("%s: %s, %zu tensors, %s as %s; nothing was written\n", input.c_str(), plan->architecture.c_str(),
                plan->tensors.size(), wf::BytesText(plan->file_bytes).c_str(), type.c_str());
  } else {
    std::printf("%s: %s, %zu tensors, %llu ternary parameters, %s, written and verified in %.2f s\n",
                report->output.c_str(), plan->architecture.c_str(), plan->tensors.size(),
                static_cast<unsigned long long>(report->ternary_parameters), wf::BytesText(report->file_bytes).c_str(),
                report->seconds);
  }
  return wf::kExitOk;
}

}  // namespace

int main(int argc, char** argv) {
  return wf::RunMain(kProgram, [&] { return Main(argc, argv); });
}
