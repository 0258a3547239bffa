// SPDX-License-Identifier: Apache-2.0
// Bodies of bench_run.h.
#include "tools/bench_run.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <optional>
#include <utility>

#include "tools/cli.h"
#include "wf/cache/kv_pool.h"
#include "wf/decode/sampler.h"
#include "wf/engine/engine.h"
#include "wf/engine/sequence.h"
#include "wf/model/transformer.h"

namespace wf {
namespace {

using Clock = std::chrono::steady_clock;
double Since(Clock::time_point t) { return std::chrono::duration<double>(Clock::now() - t).count(); }

constexpr int kPasses = 3;  // of the machine's measurement, each repetition

size_t Blocks(size_t tokens) { return (tokens + kKvBlock - 1) / kKvBlock; }

// Mean over the tokens of one repetition.
PassCost CostPerToken(const Model& m, const KvShape& kv, const BenchCase& c, size_t chunk) {
  if (!c.prefill) {  // a pass is one token of each sequence
    const double mean_depth = static_cast<double>(c.depth) + static_cast<double>(c.tokens - 1) / 2;
    PassShape pass = DecodePass(static_cast<double>(c.batch), mean_depth);
    pass.head_bytes = c.head_bytes;
    PassCost cost = CostOfPass(m.config(), m.weights(), kv, pass);
    const double f = 1 / static_cast<double>(c.batch);
    for (KindCost& k : cost.kinds) k.work = k.work.Times(f);
    for (Work* w : {&cost.kv, &cost.head, &cost.total}) *w = w->Times(f);
    return cost;
  }
  PassCost sum;
  const double f = 1 / static_cast<double>(c.tokens);
  for (size_t at = 0; at < c.tokens; at += chunk) {
    const size_t n = std::min(chunk, c.tokens - at);
    PassShape pass = PrefillPass(at, n, at + n == c.tokens);
    pass.head_bytes = c.head_bytes;
    const PassCost p = CostOfPass(m.config(), m.weights(), kv, pass);
    if (sum.kinds.empty()) {
      sum.kinds = p.kinds;
      for (KindCost& k : sum.kinds) k.work = {};
    }
    for (size_t i = 0; i < p.kinds.size(); ++i) sum.kinds[i].work += p.kinds[i].work.Times(f);
    sum.kv += p.kv.Times(f);
    sum.head += p.head.Times(f);
    sum.total += p.total.Times(f);
  }
  return sum;
}

class Runner {
 public:
  Runner(std::shared_ptr<const Model> model, const BenchOptions& o, const std::atomic<bool>* interrupted)
      : model_(std::move(model)),
        o_(o),
        interrupted_(*interrupted),
        chunk_(static_cast<size_t>(EngineOptions().prefill_chunk)),
        banned_(BannedTokens(model_->tokenizer(), model_->config().vocab)) {}

  Result<BenchResult> Run() {
    WF_TRY(Prepare());
    const size_t runs = static_cast<size_t>(o_.warmup + o_.repetitions) * result_.cases.size();
    ProgressBar bar("wf-bench", runs + 1);
    bar.Update(0, runs + 1, "filling the cache");
    WF_TRY(Fill());
    size_t done = 1;
    for (int round = -o_.warmup; round < o_.repetitions; ++round) {
      for (size_t t = 0; t < o_.threads.size(); ++t) {
        if (machine_.has_value() && round >= 0) {
          result_.limits[t].push_back(machine_->Measure(pools_[t].get(), kPasses));
        }
        for (BenchCase& c : result_.cases) {
          if (c.threads_at != t) continue;
          WF_ASSIGN(const double seconds, RunCase(c));
          if (round >= 0) c.samples.push_back(static_cast<double>(c.tokens * c.batch) / seconds);
          bar.Update(++done, runs + 1, CaseName(c) + " with " + std::to_string(o_.threads[t]) + " threads");
        }
      }
    }
    for (BenchCase& c : result_.cases) {
      c.head_bytes = HeadBytes(c);
      c.per_token = CostPerToken(*model_, transformers_[0]->kv_shape(), c, chunk_);
    }
    return std::move(result_);
  }

 private:
  Status Prepare() {
    WF_TRY(CheckLengths());
    for (const int t : o_.threads) {
      WF_ASSIGN(std::unique_ptr<Transformer> transformer, Transformer::Create(model_, t, o_.kv_type, o_.isa, o_.head));
      while (!transformer->Prepare(50)) WF_TRY(CheckInterrupt());
      transformers_.push_back(std::move(transformer));
    }
    result_.isa = transformers_[0]->isa();
    if (o_.measure_machine) {
      WF_ASSIGN(machine_, Machine::Create(result_.isa, o_.machine_bytes));
      result_.machine_bytes = machine_->bytes();
      result_.limits.resize(o_.threads.size());
      for (const int t : o_.threads) {
        pools_.push_back(std::make_unique<ThreadPool>(t));
        WF_TRY(pools_.back()->status());
      }
    }
    const KvShape shape = transformers_[0]->kv_shape();
    for (size_t t = 0; t < o_.threads.size(); ++t) {
      AddCase({.prefill = true, .tokens = o_.prompt, .threads_at = t});
      for (const size_t d : o_.depths) AddCase({.tokens = o_.predict, .depth = d, .threads_at = t});
      for (const size_t b : o_.batches) AddCase({.tokens = o_.predict, .batch = b, .threads_at = t});
    }
    head_use_.resize(result_.cases.size());
    size_t own = 0, deepest = 0;  // blocks
    for (const BenchCase& c : result_.cases) {
      own = std::max(own, c.batch * Blocks(c.depth % kKvBlock + c.tokens));
      deepest = std::max(deepest, c.depth);
    }
    WF_ASSIGN(pool_, KvPool::Create(shape, own + Blocks(deepest)));
    const auto take = [&](size_t n, std::vector<uint8_t*>* out) {
      while (out->size() < n) out->push_back(pool_->Data(pool_->Acquire()));
    };
    take(own, &own_);
    take(Blocks(deepest), &filled_);
    return MakeIds(std::max(o_.prompt, deepest + 1) + *std::max_element(o_.batches.begin(), o_.batches.end()));
  }

  Status CheckLengths() const {
    const size_t context = model_->config().context;
    const auto check = [&](const char* what, size_t n) -> Status {
      if (n <= context) return OkStatus();
      return InvalidArgument(std::string(what) + " is " + std::to_string(n) + " tokens, the model's context holds " +
                             std::to_string(context));
    };
    WF_TRY(check("-p", o_.prompt));
    if (o_.predict == 0) return OkStatus();
    for (const size_t d : o_.depths) WF_TRY(check("--depth plus -n", d + o_.predict));
    return check("-n", o_.predict);
  }

  void AddCase(const BenchCase& c) {
    const auto same = [&](const BenchCase& o) {
      return o.prefill == c.prefill && o.depth == c.depth && o.batch == c.batch && o.threads_at == c.threads_at;
    };
    const auto& cases = result_.cases;
    if (c.tokens == 0 || std::any_of(cases.begin(), cases.end(), same)) return;
    result_.cases.push_back(c);
  }

  // The same ids in every run: pseudo-random, none that the model could not have written.
  Status MakeIds(size_t n) {
    const size_t vocab = model_->config().vocab;
    if (banned_.size() >= vocab) return Unsupported("the model has no token that may be used");
    Rng rng(1);
    while (ids_.size() < n) {
      const auto id = static_cast<int32_t>(rng.Next() % vocab);
      if (!std::binary_search(banned_.begin(), banned_.end(), id)) ids_.push_back(id);
    }
    return OkStatus();
  }

  // K and V of the deepest case, which all that begin inside share: they do not depend on the number of threads.
  Status Fill() {
    const size_t n = filled_.size() * kKvBlock;
    const auto begin = Clock::now();
    const size_t most =
        static_cast<size_t>(std::max_element(o_.threads.begin(), o_.threads.end()) - o_.threads.begin());
    size_t deepest = 0;
    for (const BenchCase& c : result_.cases) deepest = std::max(deepest, c.depth);
    for (size_t at = 0; at < std::min(n, deepest); at += chunk_) {
      WF_TRY(CheckInterrupt());
      const size_t count = std::min(chunk_, deepest - at);
      const SequenceRows rows{
          .tokens = ids_.data() + at, .count = count, .first = at, .blocks = filled_.data(), .logits_from = count};
      transformers_[most]->Forward({&rows, 1}, nullptr);
    }
    result_.fill_seconds = Since(begin);
    return OkStatus();
  }

  Status CheckInterrupt() const {
    return interrupted_.load(std::memory_order_relaxed) ? Status(ErrorCode::kCancelled, "interrupted") : OkStatus();
  }

  // A greedy request whose first `computed` tokens are in the cache.
  std::unique_ptr<Sequence> Begin(const BenchCase& c, size_t index, const Transformer& t) {
    const size_t prompt = c.prefill ? c.tokens : c.depth + 1;
    Request r;
    r.prompt.assign(ids_.begin() + static_cast<ptrdiff_t>(index),
                    ids_.begin() + static_cast<ptrdiff_t>(index + prompt));
    r.sampling.temperature = 0;
    r.ignore_eos = true;
    r.max_tokens = c.prefill ? 1 : static_cast<int64_t>(c.tokens);
    const auto room = static_cast<int64_t>(prompt + c.tokens);
    auto s = std::make_unique<Sequence>(
        std::move(r), [](Event&&) {}, DecodeSettings(), *model_, Kernels(t.isa()), room);
    s->computed = c.depth;
    const size_t shared = c.depth / kKvBlock, blocks = Blocks(c.depth % kKvBlock + c.tokens);
    s->pointers.assign(filled_.begin(), filled_.begin() + static_cast<ptrdiff_t>(shared));
    for (size_t i = 0; i < blocks; ++i) s->pointers.push_back(own_[index * blocks + i]);
    if (c.depth % kKvBlock != 0) std::memcpy(s->pointers[shared], filled_[shared], t.kv_shape().BlockBytes());
    return s;
  }

  // Seconds of one repetition.
  Result<double> RunCase(const BenchCase& c) {
    Transformer& t = *transformers_[c.threads_at];
    std::vector<std::unique_ptr<Sequence>> sequences;
    for (size_t i = 0; i < c.batch; ++i) sequences.push_back(Begin(c, i, t));
    const HeadStats before = t.head_stats();
    size_t passes = 0;
    const auto begin = Clock::now();
    while (!sequences[0]->ended()) {
      WF_TRY(CheckInterrupt());
      passes += Step(&t, sequences) ? 1 : 0;
      for (const auto& s : sequences) {
        if (s->ended()) WF_TRY(s->last.status);
      }
    }
    const double seconds = Since(begin);
    const HeadStats after = t.head_stats();
    HeadUse& use = head_use_[static_cast<size_t>(&c - result_.cases.data())];
    use.passes += passes;
    use.rescored += after.rescored - before.rescored;
    use.whole = use.whole || after.answered - before.answered != passes * c.batch;
    return seconds;
  }

  // What a pass with logits reads of the head: the copy and the rows that had to be computed, or all of it.
  double HeadBytes(const BenchCase& c) {
    const HeadUse& use = head_use_[static_cast<size_t>(&c - result_.cases.data())];
    if (use.whole || use.passes == 0) return -1;
    const Linear& head = model_->weights().head;
    const double row = static_cast<double>(head.k / DenseBlock(head.dense_type) * DenseBlockBytes(head.dense_type));
    return static_cast<double>(transformers_[c.threads_at]->head_stats().bytes) +
           row * static_cast<double>(use.rescored) / static_cast<double>(use.passes);
  }

  // As the engine does it: the next rows of every sequence, and a token of each that has no more. True: there were
  // logits.
  bool Step(Transformer* t, const std::vector<std::unique_ptr<Sequence>>& sequences) {
    const size_t vocab = model_->config().vocab;
    rows_.clear();
    size_t wanted = 0;
    for (const auto& s : sequences) {
      s->Plan(chunk_, {});
      rows_.push_back({.tokens = s->pass.tokens.data(),
                       .count = s->pass.tokens.size(),
                       .first = s->pass.first,
                       .blocks = s->pointers.data(),
                       .logits_from = s->pass.tokens.size(),
                       .logits_rows = s->pass.rows});
      if (s->pass.rows.empty()) continue;
      rows_.back().query = s->Query(vocab);
      rows_.back().candidates = s->candidates.data();
      ++wanted;
    }
    logits_.resize(wanted * vocab);
    t->Forward(rows_, logits_.data());
    float* logits = logits_.data();
    for (const auto& s : sequences) {
      s->Take(logits, vocab, *t);
      logits += s->pass.rows.size() * vocab;
    }
    return wanted != 0;
  }

  std::shared_ptr<const Model> model_;
  const BenchOptions& o_;
  const std::atomic<bool>& interrupted_;
  size_t chunk_;
  std::vector<int32_t> banned_, ids_;
  std::vector<std::unique_ptr<Transformer>> transformers_;  // by thread count, like pools_
  std::vector<std::unique_ptr<ThreadPool>> pools_;
  std::optional<Machine> machine_;
  std::optional<KvPool> pool_;
  std::vector<uint8_t*> own_, filled_;  // blocks that runs write, and that they only read
  std::vector<SequenceRows> rows_;
  std::vector<float> logits_;
  struct HeadUse {
    size_t passes = 0;  // with logits, warm-up included
    uint64_t rescored = 0;
    bool whole = false;  // a row of logits was computed in full
  };
  std::vector<HeadUse> head_use_;  // by case
  BenchResult result_;
};

}  // namespace

std::string CaseName(const BenchCase& c) {
  std::string s = c.prefill ? "pp" : "tg";
  s += std::to_string(c.tokens);
  if (c.depth != 0) s += "/d" + std::to_string(c.depth);
  if (c.batch != 1) s += "/b" + std::to_string(c.batch);
  return s;
}

Result<BenchResult> RunBench(const std::shared_ptr<const Model>& model, const BenchOptions& options,
                             const std::atomic<bool>* interrupted) {
  return Runner(model, options, interrupted).Run();
}

}  // namespace wf
