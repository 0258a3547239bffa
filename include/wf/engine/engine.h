// SPDX-License-Identifier: Apache-2.0
// The engine: one inference thread that runs a model for many requests at once. Each step is one pass over
// the model with rows of several requests: one row for each that decodes, and prefill chunks of those that
// begin. Thread-safe; a request's text does not depend on who shares the batch.
#ifndef WF_ENGINE_ENGINE_H_
#define WF_ENGINE_ENGINE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "wf/base/inline.h"
#include "wf/base/status.h"
#include "wf/cache/kv_pool.h"
#include "wf/cache/prefix_cache.h"
#include "wf/decode/mode.h"
#include "wf/decode/pass_costs.h"
#include "wf/engine/request.h"
#include "wf/model/head_query.h"
#include "wf/model/model.h"

namespace wf {

struct EngineOptions {
  int threads = 0;  // 0: physical cores of the affinity mask, bounded by the cgroup quota
  int64_t ctx = 0;  // tokens a request may use, prompt and answer; 0: the model's context length
  KvType kv_type = KvType::kF16;
  int max_running = 1;              // requests in the batch at the same time
  int max_queue = 16;               // waiting behind them; beyond that Submit() says kUnavailable
  int64_t queue_timeout_ms = 0;     // 0: none; a request that waited longer ends with kUnavailable
  int prefill_chunk = 256;          // rows of one step at most
  std::string isa = {};             // name of an ISA to force; empty: WF_FORCE_ISA, else the best
  HeadMode head = HeadMode::kAuto;  // how the next token is found; has no influence on which it is
  DecodeOptions decode = {};        // of requests that do not say it themselves
  bool prefix_cache = true;         // prompts that begin like an earlier one are not computed from their beginning
  bool force_context = false;       // allow more than the model was trained for
  bool measure_passes = false;      // EngineStats::pass_costs at once, not when they are needed first
};

struct EngineStats {
  int running = 0, waiting = 0;
  int64_t kv_blocks_used = 0, kv_blocks_total = 0;  // used: by requests that run; a shared block counts for each
  PrefixCacheStats prefix_cache;
  uint64_t requests = 0, prompt_tokens = 0, generated_tokens = 0, cancelled = 0, rejected = 0, steps = 0;
  HeadStats head;
  PassCosts pass_costs;  // as measured for choices; empty until one is needed
};

class Engine {
 public:
  // Allocates the KV cache (touched lazily) and starts the threads. Errors: kInvalidArgument for options out of
  // range (ctx above the model's context length), kOutOfMemory.
  static Result<std::unique_ptr<Engine>> Create(std::shared_ptr<const Model> model, const EngineOptions& options);
  ~Engine();  // cancels what runs
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const Model& model() const noexcept;
  const EngineOptions& options() const noexcept;  // with the defaults filled in
  std::string cost_summary() const;               // one line: ISA, threads, what a token reads (model/cost.h)
  const std::string& notice() const noexcept;     // what could not be had and is not needed; empty: nothing

  // Checks a request without queueing it: what Submit() would refuse with kInvalidArgument (bad ids, sampling
  // values, empty stop strings) or kLimit (the prompt has no room in the context).
  Status Check(const Request& request) const;

  // Queues a request; its events go to `sink`. Errors as Check(), and kUnavailable if the queue is full or the
  // engine is draining; then the sink is never called.
  Result<uint64_t> Submit(Request request, EventSink sink);

  // The request ends with kCancelled within one step, wherever it is; its place is free then. Unknown or
  // finished ids are ignored.
  void Cancel(uint64_t id);

  // No more Submit(); returns when nothing runs or waits, or after timeout_ms, when the rest is cancelled.
  // True if everything finished by itself.
  bool Drain(int64_t timeout_ms);

  EngineStats stats() const;
  // Milliseconds since the inference thread last showed that it lives (it does so at least every 100 ms when idle).
  int64_t heartbeat_age_ms() const noexcept;

 private:
  struct Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Runs one request to its end on `engine`, calling `sink` for each piece on the caller's thread; convenience for
// programs. When *cancel becomes true the request is cancelled. Errors as Submit(), or the request's own.
Status GenerateBlocking(Engine& engine, Request request, const EventSink& sink,
                        const std::atomic<bool>* cancel = nullptr);

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/engine/engine-impl.h"
#endif
#endif  // WF_ENGINE_ENGINE_H_
