// SPDX-License-Identifier: Apache-2.0
// Bodies of engine.h: the inference thread. State of a request is in sequence.h.
#ifndef WF_ENGINE_ENGINE_IMPL_H_
#define WF_ENGINE_ENGINE_IMPL_H_

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <new>
#include <set>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "wf/cache/kv_pool.h"
#include "wf/cache/prefix_cache.h"
#include "wf/engine/engine.h"
#include "wf/engine/joint_pass.h"
#include "wf/engine/pass_timer.h"
#include "wf/engine/sequence.h"
#include "wf/model/cost.h"
#include "wf/model/fast_head.h"
#include "wf/model/transformer.h"

namespace wf {

struct Engine::Impl {
  using Clock = std::chrono::steady_clock;

  Impl(std::shared_ptr<const Model> m, const EngineOptions& o, std::unique_ptr<Transformer> t, KvPool p, KvPool d)
      : model(std::move(m)),
        options(o),
        transformer(std::move(t)),
        pool(std::move(p)),
        drafts(std::move(d)),
        kernels(Kernels(transformer->isa())) {
    Beat();
  }

  std::shared_ptr<const Model> model;
  EngineOptions options;
  std::unique_ptr<Transformer> transformer;
  KvPool pool;    // the inference thread's, like all that has to do with passes
  KvPool drafts;  // for what draft passes write
  PrefixCache prefixes{&pool};
  const KernelTable& kernels;
  mutable std::once_flag tokens_once;
  mutable std::shared_ptr<const TokenTable> tokens;

  mutable std::mutex mutex;
  std::condition_variable wake, idle;
  std::deque<std::unique_ptr<Sequence>> waiting;                // under mutex
  std::set<uint64_t> cancels;                                   // under mutex
  bool draining = false, stopping = false, cancel_all = false;  // under mutex
  EngineStats counters;                                         // under mutex
  uint64_t next_id = 1;
  std::vector<std::unique_ptr<Sequence>> running;  // the inference thread's, in order of admission
  std::atomic<int64_t> beat{0};
  std::thread thread;

  void Beat() noexcept { beat.store(Clock::now().time_since_epoch().count(), std::memory_order_relaxed); }

  // How that request decodes: what it asks itself, then what the engine was told, then the model.
  Result<DecodeSettings> Decode(const DecodeOptions& asked) const {
    return ResolveDecode(OverDefaults(asked, options.decode), *model, options.ctx);
  }

  // Made when it is needed first: some tens of milliseconds for a large vocabulary.
  std::shared_ptr<const TokenTable> Tokens() const {
    std::call_once(tokens_once, [this] {
      const size_t vocab = model->config().vocab;
      tokens = std::make_shared<const TokenTable>(model->tokenizer(), vocab, BannedTokens(model->tokenizer(), vocab));
    });
    return tokens;
  }

  Status Check(const Request& r) const {
    const Result<DecodeSettings> settings = Decode(r.decode);
    WF_TRY(settings.status());
    const int64_t vocab = static_cast<int64_t>(model->config().vocab);
    if (r.prompt.empty()) return InvalidArgument("the prompt has no token");
    for (const int32_t id : r.prompt) {
      if (id < 0 || id >= vocab) {
        return InvalidArgument("prompt: token id " + std::to_string(id) + ", expected 0 to " +
                               std::to_string(vocab - 1));
      }
    }
    if (static_cast<int64_t>(r.prompt.size()) >= options.ctx) {
      return LimitError("the prompt has " + std::to_string(r.prompt.size()) + " tokens, the context holds " +
                        std::to_string(options.ctx) + " with at least one of the answer");
    }
    WF_TRY(Validate(r.sampling, static_cast<int32_t>(vocab)));
    for (const std::string& s : r.stop) {
      if (s.empty()) return InvalidArgument("stop: an empty string");
    }
    for (const int32_t id : r.stop_token_ids) {
      if (id < 0 || id >= vocab) return InvalidArgument("stop_token_ids: " + std::to_string(id) + " is no token");
    }
    if (r.logprobs > 20) return InvalidArgument("logprobs = " + std::to_string(r.logprobs) + ", expected at most 20");
    if (r.max_tokens < -1 || r.min_tokens < 0) return InvalidArgument("max_tokens and min_tokens must not be negative");
    if (r.grammar == nullptr) return OkStatus();
    if (settings->diffusion()) {
      return Unsupported("grammar: structured output needs decode mode 'ar' or 'verify', and it is '" +
                         std::string(Name(settings->mode)) + "'");
    }
    if (r.min_tokens != 0) return InvalidArgument("min_tokens: not together with structured output");
    if (r.ignore_eos) return InvalidArgument("ignore_eos: not together with structured output");
    const Result<ConstrainedState> state = ConstrainedState::Create(Tokens(), r.grammar);
    return state.status();
  }

  // --- inference thread ---------------------------------------------------------------------------------

  void Loop() {
    if (options.measure_passes) MeasureCosts();
    for (;;) {
      std::vector<std::unique_ptr<Sequence>> ended;
      std::vector<Sequence*> begun;
      {
        std::unique_lock lock(mutex);
        Beat();
        if (running.empty() && waiting.empty()) {
          idle.notify_all();
          if (stopping) return;
          if (prepared) wake.wait_for(lock, std::chrono::milliseconds(100));
        }
        TakeCancelled(&ended);
        while (!waiting.empty() && running.size() < static_cast<size_t>(options.max_running)) {
          waiting.front()->admitted = Clock::now();
          running.push_back(std::move(waiting.front()));
          waiting.pop_front();
          begun.push_back(running.back().get());
        }
        Count();
      }
      for (auto& s : ended) Retire(*s);
      ended.clear();
      for (Sequence* s : begun) s->EmitBegin();
      if (running.empty()) {
        Prepare(2);  // short: a request may come
        continue;
      }
      try {
        const auto start = Clock::now();
        const bool token = Step();
        // As long as a step, so that the text flows at half its speed meanwhile.
        if (token) Prepare(std::min(50.0, std::chrono::duration<double, std::milli>(Clock::now() - start).count()));
      } catch (const std::bad_alloc&) {
        FailAll();
      }
    }
  }

  // Under mutex, by the inference thread.
  void Count() {
    counters.running = static_cast<int>(running.size());
    counters.waiting = static_cast<int>(waiting.size());
    counters.kv_blocks_used = 0;
    for (const auto& s : running) counters.kv_blocks_used += static_cast<int64_t>(s->blocks.size());
    counters.prefix_cache = prefixes.stats();
  }

  // Under mutex: moves out what was cancelled or has waited or run too long.
  void TakeCancelled(std::vector<std::unique_ptr<Sequence>>* ended) {
    const auto now = Clock::now();
    const auto take = [&](auto& list, bool queued) {
      for (auto it = list.begin(); it != list.end();) {
        Sequence& s = **it;
        if (cancel_all || cancels.count(s.id) != 0) {
          s.End(FinishReason::kCancelled, StopType::kNone, Status(ErrorCode::kCancelled, "cancelled"));
        } else if (s.request.deadline_ms > 0 && now - s.submitted > std::chrono::milliseconds(s.request.deadline_ms)) {
          s.EndAtDeadline();
        } else if (queued && options.queue_timeout_ms > 0 &&
                   now - s.submitted > std::chrono::milliseconds(options.queue_timeout_ms)) {
          s.End(FinishReason::kError, StopType::kNone, Status(ErrorCode::kUnavailable, "the request waited too long"));
        } else {
          ++it;
          continue;
        }
        ended->push_back(std::move(*it));
        it = list.erase(it);
      }
    };
    take(waiting, true);
    take(running, false);
    cancels.clear();
  }

  // Frees the sequence's blocks, then tells its owner: who reacts to the last event finds the place free.
  // A step that had no memory leaves its sequences half-way: they all end. The message is short enough to need none.
  void FailAll() {
    for (const std::unique_ptr<Sequence>& s : running) {
      if (!s->ended()) {
        s->End(FinishReason::kError, StopType::kNone, Status(ErrorCode::kOutOfMemory, "out of memory"));
      }
      Retire(*s);
    }
    running.clear();
  }

  void Retire(Sequence& s) {
    if (s.last.reason != FinishReason::kError) KeepPrefix(s);
    for (const int32_t b : s.blocks) pool.Release(b);
    s.blocks.clear();
    {
      std::lock_guard lock(mutex);
      counters.prompt_tokens += std::min(s.computed, s.prompt_size) - s.cached;
      counters.generated_tokens += static_cast<uint64_t>(s.generated);
      if (s.last.reason == FinishReason::kCancelled) ++counters.cancelled;
      Count();
    }
    s.EmitLast();
  }

  void Prepare(double ms) {
    if (prepared) return;
    prepared = transformer->Prepare(ms);
    const HeadStats head = transformer->head_stats();
    std::lock_guard lock(mutex);
    counters.head = head;
  }

  // One pass over the weights: every sequence that decodes, then prefill chunks, oldest first, up to prefill_chunk
  // rows. True if it gave a token.
  bool Step() {
    JointPass joint(transformer.get(), &drafts, model->config().vocab, &logits);
    size_t budget = static_cast<size_t>(options.prefill_chunk);
    for (const bool decoding : {true, false}) {
      for (const auto& s : running) {
        if (s->ended() || s->Decoding() != decoding || (!decoding && budget == 0)) continue;
        if (!std::exchange(s->prefix_sought, true)) FindPrefix(*s);
        if (decoding && !std::exchange(s->prefix_kept, true)) KeepPrefix(*s);  // others may begin like it
        if (s->settings().mode == DecodeMode::kVerify && !s->settings().drafts) MeasureCosts();
        if (!s->Plan(budget, costs)) continue;
        const size_t n = s->pass.tokens.size();
        if (!decoding) budget -= std::min(n, budget);
        if (Reserve(*s, s->pass.first + n)) joint.Add(s.get());
      }
    }
    joint.Run();
    {
      const HeadStats head = transformer->head_stats();
      std::lock_guard lock(mutex);
      ++counters.steps;
      counters.head = head;
    }
    for (auto it = running.begin(); it != running.end();) {
      if (!(*it)->ended()) {
        ++it;
        continue;
      }
      const std::unique_ptr<Sequence> s = std::move(*it);
      it = running.erase(it);
      Retire(*s);
    }
    return joint.logits_rows() != 0;
  }

  // Once, before the first choice that depends on it, and with the head as later passes have it.
  void MeasureCosts() {
    if (!costs.empty()) return;
    while (!prepared) Prepare(50);
    const int32_t b = drafts.Acquire();
    costs = MeasurePassCosts(transformer.get(), model->config().vocab, drafts.Data(b));
    drafts.Release(b);
    std::lock_guard lock(mutex);
    counters.pass_costs = costs;
  }

  int32_t Acquire(Sequence& s) {
    int32_t b = pool.Acquire();
    if (b < 0 && prefixes.Evict() != 0) b = pool.Acquire();
    if (b < 0) s.End(FinishReason::kError, StopType::kNone, InternalError("no free KV block"));
    return b;
  }

  PrefixKey Key(const Sequence& s) const {
    return {.attention_block = static_cast<uint32_t>(s.attention_block()), .salt = s.request.cache_salt};
  }

  // What the cache has of its prompt need not be computed. The last token always is: the first of the answer comes from
  // its row.
  void FindPrefix(Sequence& s) {
    if (!options.prefix_cache || !s.request.cache_prompt) return;
    s.computed = s.cached = prefixes.Match(Key(s), s.tokens, s.prompt_size - 1, &s.blocks);
    for (const int32_t b : s.blocks) s.pointers.push_back(pool.Data(b));
  }

  // What another request has stored meanwhile takes the place of the copies that this one computed: else the cache
  // would hold blocks that no running request holds under nodes that cannot go, and the pool run dry.
  void Adopt(Sequence& s) {
    std::vector<int32_t> stored;
    prefixes.Match(Key(s), s.tokens, s.computed, &stored);
    for (size_t i = 0; i < stored.size(); ++i) {  // references change hands
      pool.Release(s.blocks[i]);
      s.blocks[i] = stored[i];
      s.pointers[i] = pool.Data(stored[i]);
    }
  }

  // Of what is computed the cache keeps whole blocks for requests that begin like this one.
  void KeepPrefix(Sequence& s) {
    if (!options.prefix_cache || !s.request.cache_prompt) return;
    try {
      Adopt(s);
      prefixes.Insert(Key(s), std::span(s.tokens).first(s.computed), s.blocks);
    } catch (const std::bad_alloc&) {  // then others compute it again
    }
  }

  // Blocks for `positions` tokens. The pool holds max_running whole contexts, so it cannot run dry.
  bool Reserve(Sequence& s, size_t positions) {
    while (s.blocks.size() * kKvBlock < positions) {
      const int32_t b = Acquire(s);
      if (b < 0) return false;
      s.blocks.push_back(b);
      s.pointers.push_back(pool.Data(b));
    }
    return true;
  }
  std::vector<float> logits;
  PassCosts costs;
  DraftHistory draft_history[2];  // by style
  std::string notice;
  bool prepared = false;  // nothing is left that Prepare() could do
};

WF_MODEL_INLINE Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {
  impl_->thread = std::thread([p = impl_.get()] { p->Loop(); });
}

WF_MODEL_INLINE Result<std::unique_ptr<Engine>> Engine::Create(std::shared_ptr<const Model> model,
                                                               const EngineOptions& wanted) {
  EngineOptions o = wanted;
  const int64_t trained = static_cast<int64_t>(model->config().context);
  if (o.threads == 0) o.threads = DefaultThreads();
  if (o.ctx == 0) o.ctx = trained;
  if (o.threads < 1 || o.threads > 1024)
    return InvalidArgument("threads = " + std::to_string(o.threads) + ", expected 1 to 1024");
  if (o.ctx < 2 || o.ctx > (o.force_context ? int64_t{1} << 30 : trained)) {
    return InvalidArgument("context of " + std::to_string(o.ctx) + " tokens, expected 2 to " + std::to_string(trained) +
                           ", what the model was trained for (--force-context, EngineOptions::force_context)");
  }
  const Result<DecodeSettings> settings = ResolveDecode(o.decode, *model, o.ctx);
  WF_TRY(settings.status());
  if (o.max_running < 1 || o.max_running > 4096) {
    return InvalidArgument("max_running = " + std::to_string(o.max_running) + ", expected 1 to 4096");
  }
  if (o.max_queue < 0) return InvalidArgument("max_queue = " + std::to_string(o.max_queue) + ", expected 0 or more");
  if (o.prefill_chunk < 1 || o.prefill_chunk > 65536) {
    return InvalidArgument("prefill_chunk = " + std::to_string(o.prefill_chunk) + ", expected 1 to 65536");
  }
  WF_ASSIGN(std::unique_ptr<Transformer> t, Transformer::Create(model, o.threads, o.kv_type, o.isa, o.head));
  const size_t per_sequence = (static_cast<size_t>(o.ctx) + kKvBlock - 1) / kKvBlock;
  WF_ASSIGN(KvPool pool, KvPool::Create(t->kv_shape(), per_sequence * static_cast<size_t>(o.max_running)));
  WF_ASSIGN(KvPool drafts, KvPool::Create(t->kv_shape(), JointPass::kDraftBlocks * static_cast<size_t>(o.max_running)));
  auto impl = std::make_unique<Impl>(std::move(model), o, std::move(t), std::move(pool), std::move(drafts));
  impl->counters.head = impl->transformer->head_stats();
  const Linear& head = impl->model->weights().head;
  if (const std::string& why = impl->transformer->head_why_not();
      !why.empty() && FastHead::WhyNot(head, o.head).empty()) {
    impl->notice = "the output head is read whole for every token, there is no copy: " + why;
  }
  impl->counters.kv_blocks_total = static_cast<int64_t>(impl->pool.total());
  try {
    return std::unique_ptr<Engine>(new Engine(std::move(impl)));
  } catch (const std::system_error& e) {
    return Status(ErrorCode::kOutOfMemory, std::string("cannot start the inference thread: ") + e.what());
  }
}

WF_MODEL_INLINE Engine::~Engine() {
  {
    std::lock_guard lock(impl_->mutex);
    impl_->draining = impl_->stopping = impl_->cancel_all = true;
  }
  impl_->wake.notify_all();
  impl_->thread.join();
}

WF_MODEL_INLINE const Model& Engine::model() const noexcept { return *impl_->model; }
WF_MODEL_INLINE const EngineOptions& Engine::options() const noexcept { return impl_->options; }
WF_MODEL_INLINE std::string Engine::cost_summary() const {
  const Transformer& t = *impl_->transformer;
  return CostSummary(impl_->model->config(), impl_->model->weights(), t.kv_shape(), t.isa(), t.threads(),
                     stats().head.bytes);
}
WF_MODEL_INLINE const std::string& Engine::notice() const noexcept { return impl_->notice; }
WF_MODEL_INLINE Status Engine::Check(const Request& request) const { return impl_->Check(request); }

WF_MODEL_INLINE Result<uint64_t> Engine::Submit(Request request, EventSink sink) {
  WF_TRY(impl_->Check(request));
  WF_ASSIGN(const DecodeSettings settings, impl_->Decode(request.decode));
  auto s = std::make_unique<Sequence>(std::move(request), std::move(sink), settings, *impl_->model, impl_->kernels,
                                      impl_->options.ctx, &impl_->draft_history[static_cast<size_t>(settings.style)]);
  if (s->request.grammar != nullptr) {
    WF_ASSIGN(ConstrainedState state, ConstrainedState::Create(impl_->Tokens(), s->request.grammar));
    s->Constrain(std::move(state));
  }
  uint64_t id = 0;
  {
    std::lock_guard lock(impl_->mutex);
    if (impl_->draining) return Status(ErrorCode::kUnavailable, "the engine is draining");
    const size_t busy = static_cast<size_t>(impl_->counters.running) + impl_->waiting.size();
    if (busy >= static_cast<size_t>(impl_->options.max_running) + static_cast<size_t>(impl_->options.max_queue)) {
      ++impl_->counters.rejected;
      return Status(ErrorCode::kUnavailable, "the queue is full");
    }
    id = s->id = impl_->next_id++;
    ++impl_->counters.requests;
    impl_->waiting.push_back(std::move(s));
    impl_->counters.waiting = static_cast<int>(impl_->waiting.size());
  }
  impl_->wake.notify_all();
  return id;
}

WF_MODEL_INLINE void Engine::Cancel(uint64_t id) {
  {
    std::lock_guard lock(impl_->mutex);
    impl_->cancels.insert(id);
  }
  impl_->wake.notify_all();
}

WF_MODEL_INLINE bool Engine::Drain(int64_t timeout_ms) {
  std::unique_lock lock(impl_->mutex);
  impl_->draining = true;
  const auto empty = [this] { return impl_->counters.running == 0 && impl_->waiting.empty(); };
  impl_->wake.notify_all();
  if (impl_->idle.wait_for(lock, std::chrono::milliseconds(timeout_ms), empty)) return true;
  impl_->cancel_all = true;
  impl_->wake.notify_all();
  impl_->idle.wait(lock, empty);
  return false;
}

WF_MODEL_INLINE EngineStats Engine::stats() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->counters;
}

WF_MODEL_INLINE int64_t Engine::heartbeat_age_ms() const noexcept {
  const Impl::Clock::duration d(Impl::Clock::now().time_since_epoch().count() -
                                impl_->beat.load(std::memory_order_relaxed));
  return std::chrono::duration_cast<std::chrono::milliseconds>(d).count();
}

WF_MODEL_INLINE Status GenerateBlocking(Engine& engine, Request request, const EventSink& sink,
                                        const std::atomic<bool>* cancel) {
  std::mutex mutex;
  std::condition_variable ready;
  std::deque<Event> events;
  WF_ASSIGN(const uint64_t id, engine.Submit(std::move(request), [&](Event&& e) {
    // Notified under the lock: the waiting function may return, and its locals end, right after the last event.
    std::lock_guard lock(mutex);
    events.push_back(std::move(e));
    ready.notify_one();
  }));
  bool asked = false;
  for (;;) {
    Event e;
    {
      std::unique_lock lock(mutex);
      while (events.empty()) {
        ready.wait_for(lock, std::chrono::milliseconds(20));
        if (cancel != nullptr && cancel->load() && !asked) {
          asked = true;
          engine.Cancel(id);
        }
      }
      e = std::move(events.front());
      events.pop_front();
    }
    const bool finished = e.finished;
    const Status status = e.status;
    sink(std::move(e));
    if (finished) return status;
  }
}

}  // namespace wf
#endif  // WF_ENGINE_ENGINE_IMPL_H_
