// SPDX-License-Identifier: Apache-2.0
// wf-server: flags, start, signals, exit codes. 0: drained after a signal; 1: could not start or run (port in use,
// model does not load); 2: bad usage. It listens before the model is loaded, so that probes see it come up.
#include <CLI/CLI.hpp>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <mutex>
#include <string>
#include <thread>

#include "server/http.h"
#include "server/openai.h"
#include "tools/decode_args.h"
#include "wf/convert/open_model.h"
#include "wf/engine/engine.h"
#include "wf/version.h"

namespace {

using Clock = std::chrono::steady_clock;

struct Flags {
  std::string model, i2s_layout = "x86", kv_type = "f16", head = "auto";
  wf::server::HttpOptions http;
  wf::server::ApiOptions api;
  wf::EngineOptions engine;
  wf::DecodeArgs decode;
  int max_queue = 0;  // 0: by max_running
  double queue_timeout_s = 30, request_timeout_s = 600, drain_timeout_s = 30;
  int64_t default_max_tokens = 0;
  double body_limit_mib = 32;
};

// Seconds as milliseconds; CLI11 has checked the range.
int64_t Ms(double seconds) { return static_cast<int64_t>(seconds * 1000); }

// Returns -1 to go on, else the exit code.
int ParseFlags(int argc, char** argv, Flags* f) {
  CLI::App app("wf-server: serves a ternary language model over HTTP with OpenAI's and llama-server's interfaces");
  app.option_defaults()->always_capture_default();
  app.set_version_flag("--version", std::string("wf-server ") + WF_VERSION_STRING);
  app.add_option("-m,--model", f->model, "GGUF file, or the folder of a checkpoint (converted in memory)")->required();
  app.add_option("--i2s-layout", f->i2s_layout, "layout of I2_S tensors, which a file does not say")
      ->check(CLI::IsMember({"x86", "arm64", "x4"}));
  app.add_option("--host", f->http.host, "address to listen on");
  app.add_option("--port", f->http.port, "port; 0: any free one");
  app.add_option("--http-threads", f->http.threads, "threads that read, parse, tokenise and write")
      ->check(CLI::Range(1, 64));
  app.add_option("-c,--ctx-size", f->engine.ctx, "tokens a request may use, prompt and answer; 0: the model's context")
      ->check(CLI::NonNegativeNumber);
  app.add_option("-t,--threads", f->engine.threads, "threads that compute; 0: one for each physical core")
      ->check(CLI::Range(0, 1024));
  app.add_option("--kv-type", f->kv_type, "numbers in the KV cache")->check(CLI::IsMember({"f16", "f32", "i8"}));
  app.add_option(
         "--head", f->head,
         "choice of tokens: auto keeps a 6-bit copy of a large output head and reads the head itself only where "
         "the copy cannot rule a token out, full reads all of it; same tokens either way")
      ->check(CLI::IsMember({"auto", "full"}));
  app.add_flag("--force-context", f->engine.force_context, "allow a context above what the model was trained for");
  f->decode.AddTo(&app);
  app.add_option("--max-running", f->engine.max_running, "requests that are computed together")
      ->check(CLI::Range(1, 1024));
  app.add_option("--max-queue", f->max_queue, "requests that wait behind them; 0: 4 x --max-running, at least 16")
      ->check(CLI::Range(0, 1 << 20));
  const auto seconds = CLI::Range(0.0, 1e9);
  app.add_option("--queue-timeout", f->queue_timeout_s, "seconds a request may wait (then 503); 0: no limit")
      ->check(seconds);
  app.add_option("--request-timeout", f->request_timeout_s, "seconds until an answer is cut off; 0: no limit")
      ->check(seconds);
  app.add_option("--drain-timeout", f->drain_timeout_s, "seconds that running requests get after SIGTERM")
      ->check(seconds);
  app.add_option("--default-max-tokens", f->default_max_tokens,
                 "length of answers whose request names none; 0: the rest of the context")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--max-n", f->api.max_n, "choices of one request at most")->check(CLI::Range(1, 1024));
  app.add_option("--served-model-name,--alias", f->api.names,
                 "the model's name; further ones (repeat the flag) are aliases; default: the file's stem")
      ->allow_extra_args(false)
      ->take_all();
  app.add_flag("--strict-model", f->api.strict_model, "refuse requests that name another model (404)");
  app.add_flag("--strict-fields", f->api.strict_fields, "refuse unknown request fields (400)");
  app.add_option("--body-limit", f->body_limit_mib, "MiB of a request's body at most (413)")
      ->check(CLI::Range(0.001, 4096.0));
  app.add_flag("--allow-half-close{false}", f->http.limits.half_close_is_gone,
               "a client that shuts down its sending side still gets its answer");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  f->engine.decode = f->decode.Options();
  // Mode verify needs what passes cost: the first request should not wait for it.
  f->engine.measure_passes = f->engine.decode.mode == wf::DecodeMode::kVerify;
  return -1;
}

void FillIn(Flags* f) {
  if (f->max_queue == 0) f->max_queue = std::max(4 * f->engine.max_running, 16);
  f->engine.max_queue = f->max_queue;
  f->engine.queue_timeout_ms = f->api.queue_timeout_ms = Ms(f->queue_timeout_s);
  f->api.request_timeout_ms = Ms(f->request_timeout_s);
  f->api.default_max_tokens = f->default_max_tokens > 0 ? f->default_max_tokens : -1;
  f->engine.kv_type = *wf::KvTypeFromName(f->kv_type);
  f->engine.head = f->head == "full" ? wf::HeadMode::kFull : wf::HeadMode::kAuto;
  f->http.limits.body_bytes = static_cast<uint64_t>(f->body_limit_mib * 1048576);
  f->http.error_body = wf::server::HttpErrorBody;
  std::filesystem::path path = std::filesystem::path(f->model).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();  // a folder with a slash at its end
  std::error_code ec;
  f->api.stem = (std::filesystem::is_directory(path, ec) ? path.filename() : path.stem()).string();
  if (f->api.names.empty()) f->api.names.push_back(f->api.stem);
}

// The signals that end the server, taken by a thread of their own.
class Signals {
 public:
  // Before any other thread is made: threads inherit the mask.
  Signals() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGTERM);
    sigaddset(&set_, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
    std::thread([this] { Run(); }).detach();
  }
  // Until then a signal ends the program at once: nothing is under way.
  void HandOver() {
    const std::lock_guard lock(mutex_);
    handed_over_ = true;
  }
  void Wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return requested_; });
  }

 private:
  void Run() {
    int signal = 0;
    for (;;) {
      if (sigwait(&set_, &signal) != 0) continue;
      const std::lock_guard lock(mutex_);
      if (!handed_over_) std::_Exit(0);
      if (requested_) std::_Exit(128 + signal);
      requested_ = true;
      changed_.notify_all();
    }
  }
  sigset_t set_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool handed_over_ = false, requested_ = false;
};

int Fail(const wf::Status& status) {
  std::cerr << "wf-server: " << status.message() << std::endl;
  return 1;
}

int Serve(Flags& f, Signals& signals) {
  const auto begin = Clock::now();
  wf::server::App app(f.api);
  wf::server::HttpServer http;
  const wf::Status started =
      http.Start(f.http, [&app](wf::server::HttpRequest&& request, std::shared_ptr<wf::server::Responder> responder) {
        app.Handle(std::move(request), std::move(responder));
      });
  if (!started.ok()) return Fail(started);
  const bool v6 = f.http.host.find(':') != std::string::npos;
  std::cerr << "listening on http://" << (v6 ? "[" : "") << f.http.host << (v6 ? "]" : "") << ":" << http.port()
            << std::endl;

  // Declared after http: requests hold both, and the engine's end must find the I/O side alive.
  wf::OpenModelOptions open;
  open.weights.i2s_layout = *wf::ParseI2sLayout(f.i2s_layout);  // the flag's check has the same names
  auto model = wf::OpenModel(f.model, open);
  if (!model.ok()) return Fail(model.status());
  for (const std::string& notice : (*model)->notices()) std::cerr << "notice: " << notice << "\n";
  auto engine = wf::Engine::Create(*model, f.engine);
  if (!engine.ok()) return Fail(engine.status());
  if (!(*engine)->notice().empty()) std::cerr << "notice: " << (*engine)->notice() << "\n";
  app.SetReady(engine->get());
  signals.HandOver();
  const auto& options = (*engine)->options();
  std::cerr << (*engine)->cost_summary() << "\n";
  std::fprintf(stderr, "model ready %s: context %lld, %d threads, %d at once, %.2f s\n", f.api.names.front().c_str(),
               static_cast<long long>(options.ctx), options.threads, options.max_running,
               std::chrono::duration<double>(Clock::now() - begin).count());

  signals.Wait();
  std::cerr << "draining" << std::endl;
  app.StartDrain();
  http.CloseAfterAnswers();
  // Requests that have begun may still queue further sequences, so the engine is closed only after them.
  const auto answered = [&http](Clock::time_point until) {
    while (http.active() > 0 && Clock::now() < until) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return http.active() == 0;
  };
  const bool all = answered(Clock::now() + std::chrono::milliseconds(Ms(f.drain_timeout_s)));
  (void)(*engine)->Drain(0);
  // What was cut off is told so, if the client reads.
  answered(Clock::now() + std::chrono::seconds(2));
  http.Stop();
  std::cerr << (all ? "drained" : "drain timed out, the rest was cancelled") << std::endl;
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags;
  flags.engine.max_running = 4;
  if (const int code = ParseFlags(argc, argv, &flags); code >= 0) return code;
  FillIn(&flags);
  try {
    static Signals signals;  // outlives main: its thread waits until the process ends
    return Serve(flags, signals);
  } catch (const std::exception& e) {  // memory, threads
    std::cerr << "wf-server: " << e.what() << std::endl;
    return 1;
  }
}
