// SPDX-License-Identifier: Apache-2.0
// Bodies of bench_run.h.
#include "tools/bench_run.h"

#include <algorithm>
#include <boost/json.hpp>
#include <chrono>
#include <cstring>
#include <optional>
#include <utility>

#include "tools/cli.h"
#include "tools/table.h"
#include "wf/cache/kv_pool.h"
#include "wf/decode/sampler.h"
#include "wf/engine/engine.h"
#include "wf/engine/joint_pass.h"
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
          if (round >= 0) c.samples.push_back(static_cast<double>(c.generated) / seconds);
          bar.Update(++done, runs + 1, CaseName(c) + " with " + std::to_string(o_.threads[t]) + " threads");
        }
        WF_TRY(RunPasses(t, round >= 0));
      }
    }
    for (size_t i = 0; i < result_.cases.size(); ++i) {
      BenchCase& c = result_.cases[i];
      if (c.prompts != 0) c.agreement = Compare(i);
      if (!c.HasCost()) continue;
      c.head_bytes = HeadBytes(c);
      c.per_token = CostPerToken(*model_, transformers_[0]->kv_shape(), c, chunk_);
    }
    return std::move(result_);
  }

 private:
  Status Prepare() {
    WF_TRY(CheckLengths());
    WF_TRY(EncodePrompts());
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
    WF_TRY(AddCases());
    head_use_.resize(result_.cases.size());
    histories_.resize(result_.cases.size());
    answers_.resize(result_.cases.size());
    size_t own = 1, drafting = 0, deepest = 0;  // blocks, sequences, tokens
    for (const BenchCase& c : result_.cases) {
      own = std::max(own, c.batch * OwnBlocks(c));
      drafting = std::max(drafting, c.decode.mode == DecodeMode::kVerify ? c.batch : 0);
      deepest = std::max(deepest, c.depth);
    }
    for (const size_t n : o_.pass_rows) own = std::max(own, Blocks(n));
    const KvShape shape = transformers_[0]->kv_shape();
    WF_ASSIGN(pool_, KvPool::Create(shape, own + Blocks(deepest)));
    WF_ASSIGN(drafts_, KvPool::Create(shape, std::max<size_t>(drafting, 1) * JointPass::kDraftBlocks));
    const auto take = [&](size_t n, std::vector<uint8_t*>* out) {
      while (out->size() < n) out->push_back(pool_->Data(pool_->Acquire()));
    };
    take(own, &own_);
    take(Blocks(deepest), &filled_);
    costs_.resize(o_.threads.size());
    for (size_t t = 0; t < costs_.size() && drafting != 0; ++t) {
      costs_[t] = MeasurePassCosts(transformers_[t].get(), model_->config().vocab, own_[0]);
    }
    return MakeIds(std::max(o_.prompt, deepest + 1) + *std::max_element(o_.batches.begin(), o_.batches.end()));
  }

  Status AddCases() {
    std::vector<DecodeSettings> decodes;
    for (const DecodeOptions& d : o_.decodes) {
      WF_ASSIGN(const DecodeSettings settings,
                ResolveDecode(d, *model_, static_cast<int64_t>(model_->config().context)));
      decodes.push_back(settings);
    }
    for (size_t t = 0; t < o_.threads.size(); ++t) {
      AddCase({.prefill = true, .tokens = o_.prompt, .threads_at = t});
      for (const size_t d : o_.depths) AddInEachMode({.tokens = o_.predict, .depth = d, .threads_at = t}, decodes);
      for (const size_t b : o_.batches) AddInEachMode({.tokens = o_.predict, .batch = b, .threads_at = t}, decodes);
      using Head = PassTimer::Head;
      for (const size_t n : o_.pass_rows) {
        for (const Head h : {Head::kNone, Head::kChoice, Head::kLogits}) {
          result_.passes.push_back({.rows = n, .threads_at = t, .head = h});
        }
      }
    }
    return OkStatus();
  }

  Status EncodePrompts() {
    const size_t context = model_->config().context;
    for (size_t i = 0; i < o_.prompts.size(); ++i) {
      const std::string& text = o_.prompts[i];
      std::vector<int32_t> ids;
      if (model_->chat_template() != nullptr) {
        const boost::json::array messages{{{"role", "user"}, {"content", text}}};
        WF_ASSIGN(ChatPrompt prompt, RenderChat(*model_, boost::json::serialize(messages), true));
        ids = std::move(prompt.ids);
      } else {
        WF_ASSIGN(ids, model_->tokenizer().Encode(text, /*add_special=*/true, /*parse_special=*/true));
      }
      if (ids.empty() || ids.size() >= context) {
        return InvalidArgument("prompt " + std::to_string(i + 1) + " has " + std::to_string(ids.size()) +
                               " tokens, expected 1 to " + std::to_string(context - 1));
      }
      prompts_.push_back(std::move(ids));
    }
    return OkStatus();
  }

  Status CheckLengths() const {
    const size_t context = model_->config().context;
    const auto check = [&](const char* what, size_t n) -> Status {
      if (n <= context) return OkStatus();
      return InvalidArgument(std::string(what) + " is " + std::to_string(n) + " tokens, the model's context holds " +
                             std::to_string(context));
    };
    WF_TRY(check("-p", o_.prompt));
    for (const size_t n : o_.pass_rows) WF_TRY(check("--pass-rows", n));
    if (o_.predict == 0) return OkStatus();
    for (const size_t d : o_.depths) WF_TRY(check("--depth plus -n", d + o_.predict));
    return check("-n", o_.predict);
  }

  void AddInEachMode(BenchCase c, const std::vector<DecodeSettings>& decodes) {
    c.prompts = prompts_.size();
    for (const DecodeSettings& s : decodes) {
      c.decode = s;
      AddCase(c);
    }
  }

  void AddCase(const BenchCase& c) {
    const auto same = [&](const BenchCase& o) { return CaseName(o) == CaseName(c) && o.threads_at == c.threads_at; };
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

  // Tokens of a case that lie in the cache before it begins: what a block of bidirectional attention begins with shares
  // its passes. They are there as mode ar has them.
  static size_t Computed(const BenchCase& c) {
    const bool whole_blocks = c.decode.diffusion() && c.decode.style == DiffusionStyle::kFastDllmV2;
    return whole_blocks ? c.depth / c.decode.block * c.decode.block : c.depth;
  }

  // K/V blocks that a sequence of the case writes.
  size_t OwnBlocks(const BenchCase& c) const {
    size_t prompt = c.depth + 1;
    for (const std::vector<int32_t>& p : prompts_) prompt = std::max(prompt, p.size());
    const size_t beyond = c.decode.mode == DecodeMode::kAr ? 0 : c.decode.block;
    const size_t end = (c.prefill ? 0 : prompt - 1) + c.tokens + beyond;
    return Blocks(end) - Computed(c) / kKvBlock;
  }

  // A greedy request with what it has in the cache.
  std::unique_ptr<Sequence> Begin(BenchCase& c, size_t index, const Transformer& t) {
    const bool text = c.prompts != 0;
    Request r;
    if (text) {
      r.prompt = prompts_[index];
    } else {
      const auto begin = ids_.begin() + static_cast<ptrdiff_t>(index);
      r.prompt.assign(begin, begin + static_cast<ptrdiff_t>(c.prefill ? c.tokens : c.depth + 1));
    }
    r.sampling.temperature = 0;
    r.ignore_eos = !text;
    r.max_tokens = c.prefill ? 1 : static_cast<int64_t>(c.tokens);
    size_t room = model_->config().context;
    if (c.HasCost()) room = std::max(room, r.prompt.size() + c.tokens);  // the last token is not forwarded
    auto s = std::make_unique<Sequence>(
        std::move(r), [&c](Event&& e) { Count(e, &c); }, c.decode, *model_, Kernels(t.isa()),
        static_cast<int64_t>(room), &histories_[static_cast<size_t>(&c - result_.cases.data())]);
    s->computed = Computed(c);
    const size_t shared = s->computed / kKvBlock, blocks = OwnBlocks(c);
    const size_t first = text ? 0 : index * blocks;
    s->pointers.assign(filled_.begin(), filled_.begin() + static_cast<ptrdiff_t>(shared));
    for (size_t i = 0; i < blocks; ++i) s->pointers.push_back(own_[first + i]);
    if (s->computed % kKvBlock != 0) std::memcpy(s->pointers[shared], filled_[shared], t.kv_shape().BlockBytes());
    return s;
  }

  static void Count(const Event& e, BenchCase* c) {
    if (!e.finished) return;
    c->generated += c->prefill ? c->tokens : static_cast<size_t>(e.timings.generated_tokens);
    c->drafted += static_cast<size_t>(e.timings.drafted);
    c->accepted += static_cast<size_t>(e.timings.accepted);
  }

  // Seconds of one repetition.
  Result<double> RunCase(BenchCase& c) {
    const auto at = static_cast<size_t>(&c - result_.cases.data());
    c.generated = c.passes = c.drafted = c.accepted = 0;
    answers_[at].clear();
    const size_t groups = std::max<size_t>(c.prompts, 1);
    double seconds = 0;
    for (size_t g = 0; g < groups; ++g) {
      std::vector<std::unique_ptr<Sequence>> sequences;
      for (size_t i = 0; i < c.batch; ++i) sequences.push_back(Begin(c, g + i, *transformers_[c.threads_at]));
      const auto begin = Clock::now();
      WF_TRY(Decode(&c, sequences));
      seconds += Since(begin);
      for (const auto& s : sequences) {
        WF_TRY(s->last.status);
        s->EmitLast();
        if (c.prompts == 0) continue;
        answers_[at].emplace_back(s->tokens.begin() + static_cast<ptrdiff_t>(s->prompt_size), s->tokens.end());
      }
    }
    return seconds;
  }

  // As the engine does it: the next rows of every sequence, and what they give, until none wants more.
  Status Decode(BenchCase* c, const std::vector<std::unique_ptr<Sequence>>& sequences) {
    Transformer& t = *transformers_[c->threads_at];
    HeadUse& use = head_use_[static_cast<size_t>(c - result_.cases.data())];
    const HeadStats before = t.head_stats();
    size_t asked = 0;
    for (;; ++c->passes) {
      WF_TRY(CheckInterrupt());
      JointPass joint(&t, &*drafts_, model_->config().vocab, &logits_);
      bool running = false;
      for (const auto& s : sequences) {
        if (s->ended() || !s->Plan(chunk_, costs_[c->threads_at])) continue;
        joint.Add(s.get());
        running = true;
      }
      if (!running) break;
      joint.Run();
      use.passes += joint.logits_rows() != 0 ? 1 : 0;
      asked += joint.logits_rows();
    }
    const HeadStats after = t.head_stats();
    use.rescored += after.rescored - before.rescored;
    use.whole = use.whole || after.answered - before.answered != asked;
    return OkStatus();
  }

  // With the answers of mode ar, if they are there.
  std::optional<Agreement> Compare(size_t at) const {
    const BenchCase& c = result_.cases[at];
    size_t ar = 0;
    while (result_.cases[ar].prefill || result_.cases[ar].decode.mode != DecodeMode::kAr ||
           result_.cases[ar].threads_at != c.threads_at) {
      if (++ar == result_.cases.size()) return std::nullopt;
    }
    Agreement a;
    for (size_t i = 0; i < c.prompts; ++i) {
      const std::vector<int32_t>&x = answers_[ar][i], &y = answers_[at][i];
      const auto [end, other] = std::mismatch(x.begin(), x.end(), y.begin(), y.end());
      a.same += x == y ? 1 : 0;
      a.in_common += x.empty() ? 1 : static_cast<double>(end - x.begin()) / static_cast<double>(x.size());
    }
    a.in_common /= static_cast<double>(c.prompts);
    return a;
  }

  Status RunPasses(size_t threads_at, bool counted) {
    PassTimer timer(transformers_[threads_at].get(), model_->config().vocab, own_);
    for (BenchPass& p : result_.passes) {
      if (p.threads_at != threads_at) continue;
      WF_TRY(CheckInterrupt());
      const double ms = timer.Ms(p.rows, p.head);
      if (counted) p.samples.push_back(ms);
    }
    return OkStatus();
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

  std::shared_ptr<const Model> model_;
  const BenchOptions& o_;
  const std::atomic<bool>& interrupted_;
  size_t chunk_;
  std::vector<int32_t> banned_, ids_;
  std::vector<std::unique_ptr<Transformer>> transformers_;  // by thread count, like pools_
  std::vector<std::unique_ptr<ThreadPool>> pools_;
  std::optional<Machine> machine_;
  std::optional<KvPool> pool_, drafts_;
  std::vector<uint8_t*> own_, filled_;  // blocks that runs write, and that they only read
  std::vector<float> logits_;
  struct HeadUse {
    size_t passes = 0;  // with logits, warm-up included
    uint64_t rescored = 0;
    bool whole = false;  // a row of logits was computed in full
  };
  std::vector<HeadUse> head_use_;        // by case
  std::vector<DraftHistory> histories_;  // likewise
  std::vector<std::vector<int32_t>> prompts_;
  std::vector<std::vector<std::vector<int32_t>>> answers_;  // by case and prompt, of the last repetition
  std::vector<PassCosts> costs_;                            // by thread count
  BenchResult result_;
};

}  // namespace

std::string CaseName(const BenchCase& c) {
  std::string s = c.prefill ? "pp" : c.prompts != 0 ? "text" : "tg";
  s += std::to_string(c.tokens);
  if (c.depth != 0) s += "/d" + std::to_string(c.depth);
  if (c.batch != 1) s += "/b" + std::to_string(c.batch);
  if (c.decode.mode == DecodeMode::kAr) return s;
  s += std::string("/") + Name(c.decode.mode);
  if (HasThreshold(c.decode.mode)) s += Number(static_cast<double>(c.decode.threshold), "@%g");
  return s;
}

Result<BenchResult> RunBench(const std::shared_ptr<const Model>& model, const BenchOptions& options,
                             const std::atomic<bool>* interrupted) {
  return Runner(model, options, interrupted).Run();
}

}  // namespace wf
