// SPDX-License-Identifier: Apache-2.0
// wf-convert: a Hugging Face checkpoint becomes a GGUF or sgl-kernel's .bin. The work is in wf/convert/; here are
// arguments and reports.
#include "wf/convert/convert.h"

#include <algorithm>
#include <boost/json.hpp>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "tools/args.h"
#include "tools/cli.h"
#include "tools/fetch.h"
#include "tools/tensor_types.h"
#include "wf/base/mmap.h"
#include "wf/convert/output-impl.h"
#include "wf/version.h"

namespace {

namespace json = boost::json;
constexpr const char* kProgram = "wf-convert";

json::array Numbers(const std::vector<float>& v) {
  json::array a;
  for (const float f : v) a.emplace_back(static_cast<double>(f));
  return a;
}

// The options that the plan settled on.
json::object CommonJson(const wf::ConvertPlan& plan) {
  return {{"input", plan.input},
          {"outtype", wf::kOutTypeNames[static_cast<size_t>(plan.options.outtype)]},
          {"for", wf::kPeerNames[static_cast<size_t>(plan.options.peer)]},
          {"architecture", plan.config.architecture},
          {"name", plan.name}};
}

json::object PlanJson(const wf::ConvertPlan& plan) {
  json::array tensors;
  for (const wf::PlannedTensor& t : plan.tensors) {
    tensors.push_back({{"name", t.name},
                       {"source", t.source_name()},
                       {"source_type", t.source() == nullptr ? "" : wf::ElementTypeName(t.source()->type)},
                       {"parts", t.parts.size()},
                       {"operation", wf::ConvertOpName(t.op)},
                       {"type", std::string(wf::TensorTypeName(t.type))},
                       {"ne", wf::SizesJson(t.ne)},
                       {"bytes", t.bytes}});
  }
  json::object o = CommonJson(plan);
  o["dry_run"] = true;
  o["file_bytes"] = plan.file_bytes;
  o["tensors"] = std::move(tensors);
  o["notices"] = wf::StringsJson(plan.notices);
  return o;
}

json::object ReportJson(const wf::ConvertPlan& plan, const wf::ConvertReport& r) {
  json::array tensors;
  for (const wf::ConvertedTensor& t : r.tensors) {
    json::object o = {{"name", t.name},
                      {"source", t.source},
                      {"source_type", t.source_type},
                      {"operation", t.operation},
                      {"type", std::string(wf::TensorTypeName(t.type))},
                      {"ne", wf::SizesJson(t.ne)},
                      {"bytes", t.bytes},
                      {"rounded", t.rounded}};
    if (t.ternary) {
      if (t.scales.size() == 1) o["scale"] = static_cast<double>(t.scales[0]);
      if (t.scales.size() > 1) o["scales"] = Numbers(t.scales);
      o["scale_error"] = t.scale_error;
      o["zeros"] = t.zeros;
    }
    tensors.push_back(std::move(o));
  }
  json::object o = CommonJson(plan);
  o["dry_run"] = false;
  o["output"] = r.output;
  o["file_bytes"] = r.file_bytes;
  o["parameters"] = r.parameters;
  o["ternary_parameters"] = r.ternary_parameters;
  o["zeros"] = r.zeros;
  o["rounded"] = r.rounded;
  o["verified"] = true;
  o["seconds"] = r.seconds;
  o["verify_seconds"] = r.verify_seconds;
  o["tensors"] = std::move(tensors);
  o["notices"] = wf::StringsJson(r.notices);
  return o;
}

void PrintNotices(const std::vector<std::string>& notices) {
  for (const std::string& n : notices) std::printf("note: %s\n", n.c_str());
}

void PrintPlan(const wf::ConvertPlan& plan) {
  std::printf("%-36s %-6s %-18s %-20s %s\n", "tensor", "type", "shape", "operation", "source");
  for (const wf::PlannedTensor& t : plan.tensors) {
    std::string source;
    if (t.source() != nullptr) source = std::string(wf::ElementTypeName(t.source()->type)) + " " + t.source_name();
    if (t.parts.size() > 1) source += ", ... (" + std::to_string(t.parts.size()) + ")";
    std::printf("%-36s %-6s %-18s %-20s %s\n", t.name.c_str(), std::string(wf::TensorTypeName(t.type)).c_str(),
                wf::ShapeText(t.ne).c_str(), wf::ConvertOpName(t.op), source.c_str());
  }
  PrintNotices(plan.notices);
  std::printf("%s: %s, architecture %s, %zu tensors, %s as %s; nothing was written\n", plan.input.c_str(),
              plan.name.c_str(), plan.config.architecture.c_str(), plan.tensors.size(),
              wf::BytesText(plan.file_bytes).c_str(), wf::kOutTypeNames[static_cast<size_t>(plan.options.outtype)]);
}

// One scale, or the range of experts'.
std::string ScaleText(const std::vector<float>& scales) {
  if (scales.empty()) return {};
  const auto [least, most] = std::minmax_element(scales.begin(), scales.end());
  char text[64];
  if (*least == *most) {
    std::snprintf(text, sizeof(text), "%.7g", static_cast<double>(*least));
  } else {
    std::snprintf(text, sizeof(text), "%.4g..%.4g", static_cast<double>(*least), static_cast<double>(*most));
  }
  return text;
}

void PrintReport(const wf::ConvertPlan& plan, const wf::ConvertReport& r) {
  std::printf("%-36s %-6s %-18s %10s  %-16s %-12s %s\n", "tensor", "type", "shape", "bytes", "operation", "scale",
              "zeros");
  for (const wf::ConvertedTensor& t : r.tensors) {
    std::printf("%-36s %-6s %-18s %10s  %-16s", t.name.c_str(), std::string(wf::TensorTypeName(t.type)).c_str(),
                wf::ShapeText(t.ne).c_str(), wf::BytesText(t.bytes).c_str(), t.operation.c_str());
    if (t.ternary) std::printf(" %-12s %4.1f %%", ScaleText(t.scales).c_str(), 100 * t.zeros);
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

// What the command line says.
struct Arguments {
  std::string input, output, outtype = "i2_s", embedding, head, low_rank, peer, report;
  wf::ConvertOptions options;
  uint32_t block = 0, sub_block = 0;
  float threshold = 0;
  int32_t mask = 0;
  bool dry_run = false, as_json = false;
};

void AddOptions(CLI::App* app, Arguments* a) {
  const std::vector<std::string> outtypes(std::begin(wf::kOutTypeNames), std::end(wf::kOutTypeNames));
  wf::ConvertOptions& o = a->options;
  app->add_option("DIR", a->input,
                  "Folder with config.json, weights and tokenizer; an sgl-kernel .bin; or hf://org/name[@revision], "
                  "gs://bucket/path, https://host/path (downloaded into the cache)")
      ->required();
  app->add_option("-o,--output", a->output, "File to write; an older one is replaced");
  app->add_option("--outtype", a->outtype, "How ternary weights are stored; auto with --for")
      ->check(CLI::IsMember(outtypes))
      ->capture_default_str();
  app->add_option("--embedding-type", a->embedding, "Type of the embedding; f16 beside packed types")
      ->check(CLI::IsMember(wf::kDenseTypeNames));
  app->add_option("--head-type", a->head, "Type of the output head; the embedding's")
      ->check(CLI::IsMember(wf::kDenseTypeNames));
  app->add_option("--lrc-type", a->low_rank, "Type of low-rank factors; f16 beside packed types")
      ->check(CLI::IsMember(wf::kLowRankTypeNames));
  app->add_option("--for", a->peer, "Write names, types and metadata that this program loads, or say why it cannot")
      ->check(CLI::IsMember(wf::kPeerFlags));
  app->add_flag("--strict", o.strict, "Fail where a note would be printed");
  app->add_flag("--vocab-only", o.vocab_only, "Write metadata and tokenizer without tensors");
  app->add_option("--tokenizer", o.tokenizer, "Folder to take the tokenizer from; needed for an sgl-kernel .bin");
  app->add_option("--diffusion-style", o.diffusion_style,
                  "For diffusion checkpoints that do not say it: fast-dllm-v2 or causal")
      ->check(CLI::IsMember({"fast-dllm-v2", "causal"}));
  app->add_option("--block-size", a->block, "Diffusion: tokens of a block")->check(CLI::PositiveNumber);
  app->add_option("--sub-block-size", a->sub_block, "Diffusion: tokens of a sub-block")->check(CLI::PositiveNumber);
  app->add_option("--threshold", a->threshold, "Diffusion: confidence from which a token is taken")
      ->check(CLI::Range(0.0f, 1.0f));
  app->add_option("--mask-token-id", a->mask, "Diffusion: the mask token")->check(CLI::NonNegativeNumber);
  app->add_option("-t,--threads", o.threads, "Threads; 0: one a core. The file does not depend on it")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app->add_flag(
      "--dry-run", a->dry_run,
      "Check everything but the weights, print the plan, write nothing; of an address all files are downloaded, "
      "as the weights' headers are needed");
  app->add_flag("--json", a->as_json, "Print the report as one JSON object");
  app->add_option("--report", a->report, "Also write the report to this file, as JSON");
}

// Moves what was given from the strings to the options.
wf::Status TakeOptions(const CLI::App& app, Arguments* a) {
  wf::ConvertOptions& o = a->options;
  const bool chosen = app.count("--outtype") != 0;
  WF_ASSIGN(o.outtype, wf::ParseOutType(!chosen && !a->peer.empty() ? "auto" : a->outtype));
  o.embedding_type = wf::TypeOfFlag(a->embedding);
  o.head_type = wf::TypeOfFlag(a->head);
  o.lrc_type = wf::TypeOfFlag(a->low_rank);
  o.peer = wf::PeerOfFlag(a->peer);
  if (app.count("--block-size") != 0) o.block_size = a->block;
  if (app.count("--sub-block-size") != 0) o.sub_block_size = a->sub_block;
  if (app.count("--threshold") != 0) o.threshold = a->threshold;
  if (app.count("--mask-token-id") != 0) o.mask_token = a->mask;
  return wf::OkStatus();
}

// A checkpoint elsewhere becomes its folder in the cache.
wf::Status Fetch(Arguments* a, const std::atomic<bool>* interrupted) {
  if (!wf::IsRemote(a->input)) return wf::OkStatus();
  wf::FetchOptions options;
  options.interrupted = interrupted;
  options.weights = !a->options.vocab_only;
  WF_ASSIGN(a->input, wf::FetchCheckpoint(a->input, options));
  return wf::OkStatus();
}

// The report's file is begun before the work, so that a path that cannot be written is known by then.
wf::Status BeginReport(const std::string& path, std::optional<wf::AtomicFile>* file) {
  if (path.empty()) return wf::OkStatus();
  WF_TRY(wf::detail::CheckOutputPlace(path, 0));
  WF_ASSIGN(*file, wf::AtomicFile::Create(path));
  return wf::OkStatus();
}
wf::Status EndReport(const json::object& report, std::optional<wf::AtomicFile>* file) {
  if (!*file) return wf::OkStatus();
  const std::string text = json::serialize(report) + "\n";
  WF_TRY((*file)->Write(text.data(), text.size()));
  return (*file)->Commit();
}

int Main(int argc, char** argv) {
  Arguments a;
  CLI::App app(
      "Converts the folder of a Hugging Face checkpoint with ternary weights to a GGUF, or to sgl-kernel's .bin.\n"
      "The file is read back and compared before it gets its name; after any failure nothing is left.\n"
      "Exit code: 0 done, 1 failure, 2 wrong usage, 130 interrupted.");
  AddOptions(&app, &a);
  app.set_version_flag("--version", WF_VERSION_STRING, "Print the version and stop");
  if (const int code = wf::ParseArgs(app, argc, argv); code >= 0) return code;
  if (!a.dry_run && a.output.empty()) return wf::UsageError(kProgram, "--output is required (or --dry-run)");
  if (!a.report.empty() && std::filesystem::weakly_canonical(a.report) == std::filesystem::weakly_canonical(a.output)) {
    return wf::UsageError(kProgram, "--report and --output name the same file");
  }

  const std::atomic<bool>* interrupted = wf::CatchInterrupts();
  wf::ConvertWatch watch(interrupted);
  if (const wf::Status s = TakeOptions(app, &a); !s.ok()) return wf::Fail(kProgram, s);
  std::optional<wf::AtomicFile> report_file;
  if (const wf::Status s = BeginReport(a.report, &report_file); !s.ok()) return wf::Fail(kProgram, s);
  if (const wf::Status s = Fetch(&a, interrupted); !s.ok()) return wf::Fail(kProgram, s);
  const wf::Result<wf::ConvertPlan> plan = wf::PlanConversion(a.input, a.options);
  if (!plan.ok()) return wf::Fail(kProgram, plan.status());
  json::object as_json;
  if (a.dry_run) {
    as_json = PlanJson(*plan);
    if (!a.as_json) PrintPlan(*plan);
  } else {
    const wf::Result<wf::ConvertReport> report = wf::ExecuteConversion(*plan, a.output, &watch);
    watch.HideBar();
    if (!report.ok()) return wf::Fail(kProgram, report.status());
    as_json = ReportJson(*plan, *report);
    if (!a.as_json) PrintReport(*plan, *report);
  }
  if (a.as_json) std::printf("%s\n", json::serialize(as_json).c_str());
  if (const wf::Status s = EndReport(as_json, &report_file); !s.ok()) return wf::Fail(kProgram, s);
  return wf::kExitOk;
}

}  // namespace

int main(int argc, char** argv) {
  return wf::RunMain(kProgram, [&] { return Main(argc, argv); });
}
