// SPDX-License-Identifier: Apache-2.0
// wf-run: generates text from a GGUF, or holds a conversation in the terminal.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <boost/json.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "tools/args.h"
#include "tools/block_view.h"
#include "tools/cli.h"
#include "tools/decode_args.h"
#include "tools/model_arg.h"
#include "wf/decode/explain.h"
#include "wf/engine/engine.h"
#include "wf/version.h"

namespace {

namespace json = boost::json;

constexpr const char* kProgram = "wf-run";
std::atomic<bool> g_cancel{false};

extern "C" void OnSignal(int) {
  if (g_cancel.exchange(true)) _exit(wf::kExitInterrupted);  // a second Ctrl-C does not wait
}

struct Options {
  wf::ModelArg model;
  wf::DecodeArgs decode;
  std::string prompt, ids, kv_type = "f16", head = "auto";
  bool chat = false, as_json = false, ignore_eos = false, has_prompt = false, has_ids = false;
  bool force_context = false, view = false, explain = false;
  int64_t n = -1, ctx = 0;
  int threads = 0;
  std::optional<float> temp, top_p, min_p, repeat_penalty;  // not given: the model's
  std::optional<int32_t> top_k;
  wf::SamplingParams sampling;
  std::vector<std::string> stop;
};

const char* ReasonName(wf::FinishReason r) {
  switch (r) {
    case wf::FinishReason::kStop:
      return "stop";
    case wf::FinishReason::kLength:
      return "length";
    case wf::FinishReason::kCancelled:
      return "cancelled";
    default:
      return "error";
  }
}

struct Answer {
  std::vector<int32_t> ids;
  std::string text;
  wf::Event last;
};

// Runs one request; shows its text as it comes if `show`.
wf::Status Generate(wf::Engine& engine, wf::Request request, bool show, Answer* answer) {
  wf::BlockView view(engine.model().tokenizer());
  request.show_blocks = request.show_blocks && show;
  const bool blocks = request.show_blocks;
  const wf::Status status = wf::GenerateBlocking(
      engine, std::move(request),
      [&](wf::Event&& e) {
        answer->ids.insert(answer->ids.end(), e.ids.begin(), e.ids.end());
        answer->text += e.text;
        if (blocks) {
          view.Show(e);
        } else if (show && !e.text.empty()) {
          std::fwrite(e.text.data(), 1, e.text.size(), stdout);
          std::fflush(stdout);
        }
        if (e.finished) answer->last = std::move(e);
      },
      &g_cancel);
  if (status.code() == wf::ErrorCode::kCancelled) return wf::OkStatus();
  return status;
}

// Tokens a second after those that came with the first one.
double Rate(const wf::Timings& t) {
  return t.predicted_ms > 0 ? 1000.0 * static_cast<double>(t.generated_tokens - t.first_tokens) / t.predicted_ms : 0;
}

void PrintTimings(const wf::Timings& t, const wf::Engine& engine) {
  const double ttft = t.queue_ms + t.prompt_ms, rate = Rate(t);
  std::string passes;
  if (t.passes != 0 && t.passes != t.generated_tokens - 1) {
    passes = " in " + std::to_string(t.passes) + " passes";
  }
  if (t.drafted != 0) {
    passes += ", " + std::to_string(t.accepted) + " of " + std::to_string(t.drafted) + " drafts accepted";
  }
  std::fprintf(stderr, "[%lld prompt tokens, TTFT %.1f ms (%.1f tokens/s); %lld tokens%s, %.2f tokens/s; %d threads]\n",
               static_cast<long long>(t.prompt_tokens), ttft,
               t.prompt_ms > 0 ? 1000.0 * static_cast<double>(t.prompt_tokens) / t.prompt_ms : 0.0,
               static_cast<long long>(t.generated_tokens), passes.c_str(), rate, engine.options().threads);
}

json::object TimingsJson(const wf::Timings& t) {
  return {{"prompt_n", t.prompt_tokens},
          {"cache_n", t.cached_tokens},
          {"prompt_ms", t.prompt_ms},
          {"queue_ms", t.queue_ms},
          {"ttft_ms", t.queue_ms + t.prompt_ms},
          {"predicted_n", t.generated_tokens},
          {"predicted_ms", t.predicted_ms},
          {"predicted_per_second", Rate(t)},
          {"passes", t.passes},
          {"draft_n", t.drafted},
          {"draft_n_accepted", t.accepted},
          {"seed", t.seed}};
}

// How the next tokens were found: bytes of the coarse copy of the head, questions to it, rows multiplied for them.
json::object HeadJson(const wf::HeadStats& h) {
  return {{"bytes", h.bytes},
          {"ready", h.ready},
          {"queries", h.queries},
          {"answered", h.answered},
          {"rescored", h.rescored}};
}

wf::Request MakeRequest(const Options& o, std::vector<int32_t> prompt) {
  wf::Request r;
  r.ignore_eos = o.ignore_eos;
  r.prompt = std::move(prompt);
  r.sampling = o.sampling;
  r.max_tokens = o.n;
  r.stop = o.stop;
  r.show_blocks = o.view;
  return r;
}

wf::Status RunOnce(wf::Engine& engine, const Options& o) {
  std::vector<int32_t> prompt;
  if (o.has_ids) {
    WF_ASSIGN(prompt, wf::ParseIds(o.ids));
  } else {
    WF_ASSIGN(prompt, engine.model().tokenizer().Encode(o.prompt, /*add_special=*/true, /*parse_special=*/true));
  }
  Answer a;
  WF_TRY(Generate(engine, MakeRequest(o, prompt), !o.as_json, &a));
  if (o.as_json) {
    const json::object out{{"prompt_ids", json::value_from(prompt)},
                           {"ids", json::value_from(a.ids)},
                           {"text", a.text},
                           {"finish_reason", ReasonName(a.last.reason)},
                           {"timings", TimingsJson(a.last.timings)},
                           {"head", HeadJson(engine.stats().head)}};
    std::cout << json::serialize(out) << '\n';
  } else {
    std::fputc('\n', stdout);
    PrintTimings(a.last.timings, engine);
  }
  return wf::OkStatus();
}

wf::Status Chat(wf::Engine& engine, const Options& o) {
  json::array messages;
  if (o.has_prompt) messages.push_back({{"role", "system"}, {"content", o.prompt}});
  const bool tty = isatty(STDIN_FILENO) == 1;
  if (tty) std::fprintf(stderr, "Chat with %s. Ctrl-D ends, Ctrl-C stops an answer.\n", engine.model().name().c_str());
  for (std::string line;;) {
    if (tty) {
      std::fputs("> ", stderr);
      std::fflush(stderr);
    }
    if (!std::getline(std::cin, line)) break;
    if (line.empty()) continue;
    messages.push_back({{"role", "user"}, {"content", line}});
    WF_ASSIGN(wf::ChatPrompt prompt, wf::RenderChat(engine.model(), json::serialize(messages), true));
    Answer a;
    WF_TRY(Generate(engine, MakeRequest(o, std::move(prompt.ids)), true, &a));
    std::fputc('\n', stdout);
    std::fflush(stdout);
    PrintTimings(a.last.timings, engine);
    messages.push_back({{"role", "assistant"}, {"content", a.text}});
    if (g_cancel.exchange(false) && !tty) break;
  }
  return wf::OkStatus();
}

wf::Status Run(Options o) {
  WF_ASSIGN(std::shared_ptr<const wf::Model> model, o.model.Open(kProgram, &g_cancel));
  const wf::GenerationDefaults& d = model->defaults();
  wf::SamplingParams& s = o.sampling;
  s.temperature = o.temp.value_or(d.temperature.value_or(0.8f));
  s.top_k = o.top_k.value_or(d.top_k.value_or(s.top_k));
  s.top_p = o.top_p.value_or(d.top_p.value_or(s.top_p));
  s.min_p = o.min_p.value_or(d.min_p.value_or(s.min_p));
  s.repetition_penalty = o.repeat_penalty.value_or(d.repetition_penalty.value_or(s.repetition_penalty));
  WF_ASSIGN(std::unique_ptr<wf::Engine> engine,
            wf::Engine::Create(model, {.threads = o.threads,
                                       .ctx = o.ctx,
                                       .kv_type = *wf::KvTypeFromName(o.kv_type),
                                       .head = o.head == "full" ? wf::HeadMode::kFull : wf::HeadMode::kAuto,
                                       .decode = o.decode.Options(),
                                       .force_context = o.force_context,
                                       .measure_passes = o.explain}));
  std::fprintf(stderr, "%s: %s\n", kProgram, engine->cost_summary().c_str());
  if (!engine->notice().empty()) std::fprintf(stderr, "%s: note: %s\n", kProgram, engine->notice().c_str());
  WF_TRY(o.chat ? Chat(*engine, o) : RunOnce(*engine, o));
  if (!o.explain) return wf::OkStatus();
  WF_ASSIGN(const wf::DecodeSettings settings,
            wf::ResolveDecode(engine->options().decode, *model, engine->options().ctx));
  std::fputs(wf::ExplainDecode(settings, engine->stats().pass_costs).c_str(), stderr);
  return wf::OkStatus();
}

int Main(int argc, char** argv) {
  Options o;
  CLI::App app{"Generates text from a ternary model.", kProgram};
  app.set_version_flag("--version", WF_VERSION_STRING);
  o.model.AddTo(&app);
  auto* prompt = app.add_option("-p,--prompt", o.prompt, "Text to continue; with --chat the system message");
  auto* ids = app.add_option("--ids", o.ids, "Token ids to continue, e.g. 1,2,3: used as they are, nothing added");
  auto* chat = app.add_flag("--chat", o.chat, "A conversation in the terminal, with the model's chat template");
  auto* as_json =
      app.add_flag("--json", o.as_json, "Print one JSON object: prompt_ids, ids, text, finish_reason, timings, head");
  app.add_option("-n,--n-predict", o.n, "Most tokens to generate (default: the rest of the context)")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40));
  app.add_flag("--ignore-eos", o.ignore_eos, "Go on after end tokens, which are part of the answer then");
  app.add_option("--temp", o.temp, "Temperature, 0 is greedy (default: the model's, else 0.8)")
      ->check(CLI::Range(0.0, 100.0));
  app.add_option("--top-k", o.top_k, "Keep the k most probable tokens, 0 is off (default: the model's, else 0)");
  app.add_option("--top-p", o.top_p, "Keep the most probable tokens up to this mass (default: the model's, else 1)");
  app.add_option("--min-p", o.min_p,
                 "Keep tokens of at least this share of the best one's probability (default: the model's, else 0)");
  app.add_option("--repeat-penalty", o.repeat_penalty, "Repetition penalty (default: the model's, else 1)");
  app.add_option("--presence-penalty", o.sampling.presence_penalty, "-2 to 2")->capture_default_str();
  app.add_option("--frequency-penalty", o.sampling.frequency_penalty, "-2 to 2")->capture_default_str();
  app.add_option("--seed", o.sampling.seed, "Seed of the random numbers (default: random)")
      ->check(CLI::Range(int64_t{0}, INT64_MAX));
  app.add_option("--stop", o.stop, "Stop string; may be given several times");
  app.add_option("-t,--threads", o.threads, "Threads (default: physical cores of the affinity mask)")
      ->check(CLI::Range(1, 1024));
  app.add_option("-c,--ctx-size", o.ctx, "Context in tokens (default: the model's)")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 30));
  app.add_flag("--force-context", o.force_context, "Allow a context above what the model was trained for");
  app.add_option("--kv-type", o.kv_type, "Type of the KV cache (i8: with a scale a token and head)")
      ->check(CLI::IsMember({"f16", "f32", "i8"}))
      ->capture_default_str();
  app.add_option(
         "--head", o.head,
         "Choice of tokens: auto keeps a 6-bit copy of a large output head and reads the head itself only where "
         "the copy cannot rule a token out; full reads all of it. Same tokens either way")
      ->check(CLI::IsMember({"auto", "full"}))
      ->capture_default_str();
  o.decode.AddTo(&app);
  auto* view =
      app.add_flag("--view", o.view, "Block diffusion: show the masks of a block being filled (terminal only)");
  app.add_flag("--explain", o.explain,
               "Measure what passes over several rows cost here, and print what follows from it");
  prompt->excludes(ids);
  ids->excludes(chat);
  chat->excludes(as_json);
  view->excludes(as_json);
  if (const int code = wf::ParseArgs(app, argc, argv); code >= 0) return code;
  o.has_prompt = prompt->count() != 0;
  o.has_ids = ids->count() != 0;
  if (!o.chat && !o.has_prompt && !o.has_ids)
    return wf::UsageError(kProgram, "one of -p, --ids and --chat is required");
  if (o.view && isatty(STDOUT_FILENO) != 1) return wf::UsageError(kProgram, "--view needs a terminal");
  std::signal(SIGINT, OnSignal);
  std::signal(SIGTERM, OnSignal);
  const wf::Status status = Run(o);
  if (!status.ok()) return wf::Fail(kProgram, status);
  return g_cancel.load() ? wf::kExitInterrupted : 0;
}

}  // namespace

int main(int argc, char** argv) {
  return wf::RunMain(kProgram, [&] { return Main(argc, argv); });
}
