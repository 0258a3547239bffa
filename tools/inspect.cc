// SPDX-License-Identifier: Apache-2.0
// wf-inspect: what a GGUF or a checkpoint's folder holds, what it needs, which kernels it would use, and whether it
// runs (a folder: whether wf-convert takes it). Reads everything through the readers that the engine uses.
#include <boost/json.hpp>
#include <cstdio>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "tools/args.h"
#include "tools/cli.h"
#include "tools/inspect_metadata.h"
#include "tools/inspect_tuning.h"
#include "tools/inspect_verify.h"
#include "tools/model_arg.h"
#include "wf/base/quote.h"
#include "wf/base/thread_pool.h"
#include "wf/cache/kv_pool.h"
#include "wf/convert/open_model.h"
#include "wf/kernels/table.h"
#include "wf/model/fast_head.h"
#include "wf/model/model.h"
#include "wf/quant/pack.h"
#include "wf/tokenizer/tokenizer.h"
#include "wf/version.h"

namespace {

namespace json = boost::json;
using wf::Describe;
using wf::Result;
using wf::Shown;
using wf::Status;
using wf::Utf8;
constexpr const char* kProgram = "wf-inspect";
constexpr size_t kChunkRows = 256;  // the engine's default prefill chunk

struct TensorRow {
  std::string name, type, kernel;  // kernel: or what else becomes of it
  std::vector<uint64_t> ne;
  uint64_t bytes = 0;
};

struct Inspection {
  std::string path, format, architecture, name, isa, outtype;
  uint64_t file_bytes = 0, weight_bytes = 0, parameters = 0;
  std::vector<wf::MetadataRow> metadata;
  std::vector<TensorRow> tensors;
  std::vector<std::string> notices;
  bool has_memory = false;
  uint64_t kv[wf::kKvTypes] = {};  // bytes per 1024 tokens
  uint64_t scratch = 0;             // of a pass of kChunkRows rows
  uint64_t head_copy = 0;           // of --head auto
  std::string no_head_copy;         // why there is none
  bool bitlinear = false, dense = false;
  Status runs;
};

std::string TernaryKernel(wf::isa::Id isa, wf::TensorType type, size_t rank) {
  const wf::TernaryInstance fn = wf::FindTernary(isa, type, rank);
  if (fn.gemv == nullptr) return "none: there is no ternary kernel for this type";
  std::string s = "ternary " + std::string(wf::TensorTypeName(type)) + " " + wf::isa::Name(isa) + " rank ";
  return s + (fn.rank == wf::kDynamic ? "dynamic (" + std::to_string(rank) + ")" : std::to_string(fn.rank));
}

void AddLinear(const wf::Linear& l, wf::isa::Id isa, std::map<std::string, std::string>* kernels) {
  const std::string type(wf::TensorTypeName(l.type));
  const std::string tensor = l.name.substr(0, l.name.find(" (expert "));
  (*kernels)[tensor] = l.ternary ? TernaryKernel(isa, l.type, l.rank)
                                 : "dense " + type + " " + wf::isa::Name(isa) + ", activations not quantised";
}

// What the tensors of a loaded model are used for, by name; the rest are small.
std::map<std::string, std::string> KernelsOf(const wf::Weights& w, wf::isa::Id isa) {
  std::map<std::string, std::string> kernels;
  const std::string name = wf::isa::Name(isa);
  const auto dense = [&](const wf::Linear& l) {
    return "dense " + std::string(wf::TensorTypeName(l.type)) + " " + name + " (head)";
  };
  kernels[w.embedding.name] = "rows looked up";
  const bool tied = w.head.data == w.embedding.data;
  kernels[w.head.name] = dense(w.head) + (tied ? "; rows looked up" : "");
  for (const wf::Layer& l : w.layers) {
    wf::ForEachProjection(l, [&](const wf::Linear& p) { AddLinear(p, isa, &kernels); });
    for (const wf::Linear* p : {&l.router, &l.shared_gate}) {
      if (p->data != nullptr) AddLinear(*p, isa, &kernels);
    }
  }
  return kernels;
}

// For tensors that belong to another one.
std::string SmallKernel(const std::string& name, wf::isa::Id isa) {
  const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
  if (has(".lrc_")) return "with its projection";
  if (has("norm")) return std::string("rms_norm ") + wf::isa::Name(isa);
  if (has(".bias")) return std::string("add ") + wf::isa::Name(isa);
  if (has(".scale")) return "with its projection";
  if (has("rope_freqs")) return "divides the angles of RoPE";
  return "not used";
}

// Buffers of one pass over kChunkRows rows, as model/transformer.h has them, and one row of logits.
uint64_t ScratchBytes(const wf::Config& c, uint64_t vocab, uint64_t rank) {
  const uint64_t e = c.embedding, qd = c.heads * c.head_dim, ffn = std::max({c.ffn, c.expert_ffn, c.shared_ffn}),
                 widest = std::max<uint64_t>({e, qd, ffn});
  const uint64_t experts = c.experts == 0 ? 0 : 3 * e + c.experts;
  const uint64_t floats = 3 * e + (c.heads + 2 * c.kv_heads) * c.head_dim + qd + 2 * ffn + widest + rank + 2 + experts;
  return kChunkRows * (4 * floats + widest + 256) + 4 * vocab;
}

void AddMemory(const wf::Config& c, uint64_t vocab, uint64_t rank, Inspection* out) {
  for (int t = 0; t < wf::kKvTypes; ++t) {
    const wf::KvShape shape{c.layers, c.kv_heads, c.head_dim, static_cast<wf::KvType>(t)};
    out->kv[t] = 1024 / wf::kKvBlock * shape.BlockBytes();
  }
  out->scratch = ScratchBytes(c, vocab, rank);
  out->has_memory = true;
}

// An error only if the file cannot be read at all; what keeps a readable one from running goes to out->runs.
Status InspectFile(const std::string& path, const wf::WeightOptions& weights, Inspection* out) {
  WF_ASSIGN(const wf::Gguf g, wf::Gguf::Open(path));
  out->format = "GGUF v" + std::to_string(g.version());
  out->file_bytes = g.file_bytes();
  for (const wf::GgufValue& v : g.values()) out->metadata.push_back(Describe(v));
  const Result<std::string_view> arch = g.GetString("general.architecture");
  if (arch.ok()) out->architecture = Utf8(*arch);
  const Result<std::string_view> name = g.GetStringOr("general.name", "");
  if (name.ok()) out->name = Utf8(*name);

  const Result<wf::isa::Id> isa = wf::isa::Choose(wf::CompiledIsas());
  out->runs = isa.status();
  std::map<std::string, std::string> kernels;
  Result<std::shared_ptr<const wf::Model>> model = wf::Model::Open(path, weights);
  if (isa.ok()) {
    out->isa = wf::isa::Name(*isa);
    out->runs = model.status();
  }
  if (isa.ok() && model.ok()) {
    const wf::Weights& w = (*model)->weights();
    const wf::Config& c = (*model)->config();
    kernels = KernelsOf(w, *isa);
    out->bitlinear = c.bitlinear;
    out->notices = (*model)->notices();
    uint64_t rank = 0;
    for (const wf::Layer& l : w.layers) {
      wf::ForEachProjection(l, [&](const wf::Linear& p) {
        rank = std::max<uint64_t>(rank, p.rank);
        out->dense = out->dense || !p.ternary;
        if (p.ternary && wf::FindTernary(*isa, p.type, p.rank).gemv == nullptr && out->runs.ok()) {
          out->runs = wf::Unsupported(path + ": tensor '" + p.name + "': there is no kernel for its type");
        }
      });
    }
    AddMemory(c, w.embedding.rows, rank, out);
    out->no_head_copy = wf::FastHead::WhyNot(w.head, wf::HeadMode::kAuto);
    if (out->no_head_copy.empty()) out->head_copy = wf::FastHead::Bytes(w.head);
  }
  for (const wf::GgufTensor& t : g.tensors()) {
    TensorRow row;
    row.name = Utf8(t.name);
    row.type = std::string(wf::TensorTypeName(t.type));
    row.ne.assign(t.ne, t.ne + std::max(t.n_dims, 1u));
    row.bytes = t.bytes;
    const auto known = kernels.find(row.name);
    if (!kernels.empty()) row.kernel = known != kernels.end() ? known->second : SmallKernel(row.name, *isa);
    out->weight_bytes += t.bytes;
    out->parameters += t.elements();
    out->tensors.push_back(std::move(row));
  }
  return wf::OkStatus();
}

// The plan that wf-convert would carry out.
Status InspectFolder(const std::string& path, Inspection* out) {
  out->format = "Hugging Face checkpoint";
  WF_ASSIGN(const wf::ConvertPlan plan, wf::PlanConversion(path, {.outtype = wf::OutType::kAuto}));
  WF_ASSIGN(const wf::isa::Id isa, wf::isa::Choose(wf::CompiledIsas()));
  out->isa = wf::isa::Name(isa);
  out->outtype = wf::kOutTypeNames[static_cast<size_t>(plan.options.outtype)];
  out->architecture = plan.config.architecture;
  out->name = plan.name;
  out->file_bytes = plan.file_bytes;
  out->notices = plan.notices;
  out->bitlinear = true;
  std::map<std::string, uint64_t> ranks;  // of projections, by name without ".weight"
  uint64_t rank = 0;
  for (const wf::PlannedTensor& t : plan.tensors) {
    const size_t at = t.name.rfind(".lrc_u.weight");
    if (at == std::string::npos) continue;
    ranks[t.name.substr(0, at)] = t.ne[0];
    rank = std::max(rank, t.ne[0]);
  }
  for (const wf::PlannedTensor& t : plan.tensors) {
    TensorRow row;
    row.name = t.name;
    row.type = std::string(wf::TensorTypeName(t.type));
    row.ne = t.ne;
    row.bytes = t.bytes;
    const auto lrc = ranks.find(t.name.substr(0, t.name.rfind(".weight")));
    if (wf::IsPackedTernary(t.type)) {
      row.kernel = TernaryKernel(isa, t.type, lrc == ranks.end() ? 0 : static_cast<size_t>(lrc->second));
    } else if (t.name == "token_embd.weight") {
      row.kernel = "dense " + row.type + " " + wf::isa::Name(isa) + " (head); rows looked up";
    } else {
      row.kernel = SmallKernel(t.name, isa);
    }
    row.kernel += std::string("; ") + wf::ConvertOpName(t.op);
    if (t.source() != nullptr) {
      row.kernel += std::string(" ") + wf::ElementTypeName(t.source()->type) + " " + Utf8(t.source_name());
    }
    out->weight_bytes += t.bytes;
    out->parameters += t.elements();
    out->tensors.push_back(std::move(row));
  }
  wf::Config c;
  c.embedding = plan.config.embedding;
  c.layers = plan.config.layers;
  c.heads = plan.config.heads;
  c.kv_heads = plan.config.kv_heads;
  c.head_dim = plan.config.head_dim;
  c.ffn = plan.config.ffn;
  c.experts = plan.config.experts.count;
  c.expert_ffn = plan.config.experts.ffn;
  c.shared_ffn = plan.config.experts.shared_ffn;
  AddMemory(c, plan.config.vocab, rank, out);
  return wf::OkStatus();
}

// ISAs that this program and this CPU both have, by name.
std::vector<std::string> UsableIsas() {
  std::vector<std::string> names;
  for (const char* name : wf::isa::kNames) {
    if (wf::isa::Force(name, wf::CompiledIsas()).ok()) names.emplace_back(name);
  }
  return names;
}

void PrintText(const Inspection& r, bool folder) {
  std::printf("%s: %s, architecture %s%s%s, %llu parameters, %s%s\n", r.path.c_str(), r.format.c_str(),
              r.architecture.empty() ? "unknown" : Shown(r.architecture).c_str(), r.name.empty() ? "" : ", name ",
              r.name.empty() ? "" : Shown(r.name).c_str(), static_cast<unsigned long long>(r.parameters),
              wf::BytesText(r.file_bytes).c_str(), folder ? (" as " + r.outtype).c_str() : "");
  if (!r.metadata.empty()) std::printf("\nmetadata\n");
  for (const wf::MetadataRow& m : r.metadata) {
    std::printf("  %-44s %-14s %s\n", Shown(m.key).c_str(), m.type.c_str(), m.text.c_str());
  }
  std::printf("\ntensors%s\n", folder ? (" that wf-convert --outtype " + r.outtype + " would write").c_str() : "");
  for (const TensorRow& t : r.tensors) {
    std::printf("  %-36s %-6s %-18s %10s  %s\n", Shown(t.name).c_str(), t.type.c_str(), wf::ShapeText(t.ne).c_str(),
                wf::BytesText(t.bytes).c_str(), t.kernel.c_str());
  }
  std::printf("\n");
  if (r.has_memory) {
    std::printf("memory: weights %s (mapped), KV cache per 1024 tokens %s (f16), %s (f32) or %s (i8), scratch about %s\n",
                wf::BytesText(r.weight_bytes).c_str(), wf::BytesText(r.kv[1]).c_str(), wf::BytesText(r.kv[0]).c_str(),
                wf::BytesText(r.kv[2]).c_str(), wf::BytesText(r.scratch).c_str());
    if (r.head_copy != 0) {
      std::printf("head: a 6-bit copy of %s is kept to find the next token (--head full: none)\n",
                  wf::BytesText(r.head_copy).c_str());
    } else if (!r.no_head_copy.empty()) {
      std::printf("head: no copy is kept to find the next token: %s\n", r.no_head_copy.c_str());
    }
  }
  if (r.dense)
    std::printf(
        "note: no {arch}.bitlinear in the file: projections that are not packed run with unquantised activations\n");
  for (const std::string& n : r.notices) std::printf("note: %s\n", n.c_str());
  if (!folder) {
    std::printf("ISAs here:");
    for (const std::string& name : UsableIsas()) std::printf(" %s", name.c_str());
    std::printf(" (WF_FORCE_ISA chooses)\n");
  }
  if (r.runs.ok()) {
    std::printf("%s: yes%s%s\n", folder ? "converts" : "runs", r.isa.empty() ? "" : ", on ", r.isa.c_str());
  } else {
    std::printf("%s: no: %s\n", folder ? "converts" : "runs", r.runs.message().c_str());
  }
}

void PrintJson(const Inspection& r, bool folder) {
  json::object metadata;
  for (const wf::MetadataRow& m : r.metadata) metadata[m.key] = m.value;
  json::array tensors, notices;
  for (const TensorRow& t : r.tensors) {
    tensors.push_back(
        {{"name", t.name}, {"type", t.type}, {"ne", wf::SizesJson(t.ne)}, {"bytes", t.bytes}, {"kernel", t.kernel}});
  }
  for (const std::string& n : r.notices) notices.emplace_back(Utf8(n));
  json::object out = {{"path", Utf8(r.path)},
                      {"format", r.format},
                      {"architecture", r.architecture},
                      {"name", r.name},
                      {"file_bytes", r.file_bytes},
                      {"parameters", r.parameters},
                      {"isa", r.isa},
                      {"isas", json::value_from(UsableIsas())},
                      {"bitlinear", r.bitlinear},
                      {folder ? "converts" : "runs", r.runs.ok()},
                      {"reason", Utf8(r.runs.message())},
                      {"metadata", std::move(metadata)},
                      {"tensors", std::move(tensors)},
                      {"notices", std::move(notices)}};
  if (r.has_memory) {
    out["memory"] = {{"weights", r.weight_bytes},
                     {"kv_per_1024_tokens_f16", r.kv[1]},
                     {"kv_per_1024_tokens_f32", r.kv[0]},
                     {"kv_per_1024_tokens_i8", r.kv[2]},
                     {"scratch", r.scratch},
                     {"head_copy", r.head_copy},
                     {"no_head_copy", r.no_head_copy}};
  }
  std::printf("%s\n", json::serialize(out).c_str());
}

Result<wf::Tokenizer> OpenTokenizer(const std::string& path, bool folder) {
  if (folder) return wf::Tokenizer::FromHf(path);
  WF_ASSIGN(const wf::Gguf g, wf::Gguf::Open(path));
  return wf::Tokenizer::FromGguf(g);
}

Status Tokenize(const std::string& path, bool folder, const std::string& text, bool special, bool as_json) {
  WF_ASSIGN(const wf::Tokenizer tokenizer, OpenTokenizer(path, folder));
  WF_ASSIGN(const std::vector<int32_t> ids, tokenizer.Encode(text, /*add_special=*/true, special));
  json::array json_ids, pieces;
  for (const int32_t id : ids) {
    const std::string piece = tokenizer.Piece(id);
    // Readable where it is text; bytes of half a character as \xNN.
    const std::string shown = wf::IsUtf8(piece) ? json::serialize(json::value(piece)) : wf::Quote(piece);
    if (!as_json) std::printf("%8d  %s\n", id, shown.c_str());
    json_ids.emplace_back(id);
    pieces.emplace_back(Utf8(piece));
  }
  if (as_json) {
    std::printf("%s\n",
                json::serialize(json::object{{"ids", std::move(json_ids)}, {"pieces", std::move(pieces)}}).c_str());
  }
  return wf::OkStatus();
}

int Verify(const std::string& path, const std::string& other, const wf::OpenModelOptions& open,
           const wf::VerifyOptions& options) {
  const std::atomic<bool>* interrupted = wf::CatchInterrupts();
  const Result<std::shared_ptr<const wf::Model>> a = wf::OpenModelArg(path, open, interrupted),
                                                 b = wf::OpenModelArg(other, {}, interrupted);
  for (const auto* m : {&a, &b}) {
    if (!m->ok()) return wf::Fail(kProgram, m->status());
  }
  bool same = false;
  const Status s = wf::VerifyModels(*a, *b, options, &same);
  if (!s.ok()) return wf::Fail(kProgram, s);
  return same ? wf::kExitOk : wf::kExitFailure;
}

int Tune(const std::string& path, const wf::OpenModelOptions& open, const wf::TuningOptions& options) {
  const Result<std::shared_ptr<const wf::Model>> m = wf::OpenModelArg(path, open, wf::CatchInterrupts());
  if (!m.ok()) return wf::Fail(kProgram, m.status());
  const Status s = wf::PrintTuning(**m, path, options);
  return s.ok() ? wf::kExitOk : wf::Fail(kProgram, s);
}

int Main(int argc, char** argv) {
  std::string path, other, text, layout = "x86";
  std::string verify_text = "Now is the winter of our discontent made glorious summer by this sun of York.";
  int threads = 0;
  bool as_json = false, special = false, verify = false, tune = false;
  wf::TuningOptions tuning;
  double bandwidth = 0;  // GB/s
  CLI::App app(
      "Shows what a GGUF holds, the memory it needs, the kernel of each tensor, and whether it runs; for the folder\n"
      "of a Hugging Face checkpoint, what wf-convert would make of it (weights are not read). With --verify, compares "
      "two models; with --tuning, reports what a token costs.\n"
      "Exit code: 0 it runs (converts, is the same), 1 it does not (is not), 2 wrong usage.");
  app.add_option("PATH", path, "A GGUF file or a checkpoint's folder")->required();
  app.add_option("OTHER", other, "With --verify: the model to compare with");
  app.add_flag("--json", as_json, "Print one JSON object");
  CLI::Option* compare = app.add_flag("--verify", verify,
                                      "Compare PATH and OTHER tensor by tensor (ternary values, scales, cosine of the "
                                      "rest) and by their logits on a text");
  app.add_option("--text", verify_text, "With --verify: the text")->capture_default_str()->needs(compare);
  CLI::Option* report = app.add_flag("--tuning", tune,
                                     "Print the kernel of each kind of tensor and why, what a token reads and "
                                     "multiplies, and the speed that a bandwidth allows");
  CLI::Option* given = app.add_option("--bandwidth", bandwidth, "With --tuning: the memory's bandwidth in GB/s")
                           ->check(CLI::Range(0.001, 1e6))
                           ->needs(report);
  app.add_flag("--measure", tuning.measure, "With --tuning: measure the bandwidth and the peak of 8-bit products")
      ->needs(report)
      ->excludes(given);
  app.add_option("--depth", tuning.depth, "With --tuning: tokens in the cache")
      ->check(CLI::Range(0, 1 << 30))
      ->needs(report)
      ->capture_default_str();
  CLI::Option* t = app.add_option("-t,--threads", threads,
                                  "With --verify and --tuning: threads (default: physical cores of the affinity mask)")
                       ->check(CLI::Range(1, 1024));
  app.add_option("--i2s-layout", layout, "Layout of PATH's I2_S tensors, which the file does not say: x86, arm64 or x4")
      ->check(CLI::IsMember({"x86", "arm64", "x4"}))
      ->capture_default_str();
  CLI::Option* tokenize =
      app.add_option("--tokenize", text, "Print the ids and pieces of TEXT instead, BOS by the tokenizer's rule");
  app.add_flag("--special", special, "With --tokenize: control tokens written in TEXT are recognised")->needs(tokenize);
  report->excludes(compare)->excludes(tokenize);
  app.set_version_flag("--version", WF_VERSION_STRING, "Print the version and stop");
  if (const int code = wf::ParseArgs(app, argc, argv); code >= 0) return code;

  if (t->count() != 0 && !verify && !tune) return wf::UsageError(kProgram, "--threads is for --verify and --tuning");
  if (!verify && !other.empty()) return wf::UsageError(kProgram, "two models are taken with --verify only");
  if (verify && other.empty()) return wf::UsageError(kProgram, "--verify needs two models");
  wf::OpenModelOptions open;
  open.weights.i2s_layout = *wf::ParseI2sLayout(layout);  // the flag's check has the same names
  if (threads == 0) threads = wf::DefaultThreads();
  if (verify) return Verify(path, other, open, {verify_text, threads, as_json});
  if (tune) {
    tuning.threads = threads;
    tuning.bandwidth = bandwidth * 1e9;
    tuning.as_json = as_json;
    return Tune(path, open, tuning);
  }
  std::error_code ec;
  const bool folder = std::filesystem::is_directory(path, ec);
  if (tokenize->count() != 0) {
    const Status s = Tokenize(path, folder, text, special, as_json);
    return s.ok() ? wf::kExitOk : wf::Fail(kProgram, s);
  }
  Inspection r;
  r.path = path;
  const Status read = folder ? InspectFolder(path, &r) : InspectFile(path, open.weights, &r);
  if (!read.ok()) {
    r.runs = read;
    if (as_json) {
      PrintJson(r, folder);
    } else if (folder) {
      std::printf("%s: %s\nconverts: no: %s\n", path.c_str(), r.format.c_str(), read.message().c_str());
    }
    return wf::Fail(kProgram, read);
  }
  if (as_json) {
    PrintJson(r, folder);
  } else {
    PrintText(r, folder);
  }
  return r.runs.ok() ? wf::kExitOk : wf::kExitFailure;
}

}  // namespace

int main(int argc, char** argv) {
  return wf::RunMain(kProgram, [&] { return Main(argc, argv); });
}
