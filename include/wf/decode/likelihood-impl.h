// SPDX-License-Identifier: Apache-2.0
// Bodies of likelihood.h.
#ifndef WF_DECODE_LIKELIHOOD_IMPL_H_
#define WF_DECODE_LIKELIHOOD_IMPL_H_

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "wf/cache/kv_pool.h"
#include "wf/decode/likelihood.h"
#include "wf/decode/sampler.h"
#include "wf/model/model.h"
#include "wf/model/transformer.h"

namespace wf {
namespace detail {

// Cross-entropies of tokens of one text, some of which may be masked in the passes.
class LikelihoodPasses {
 public:
  using Progress = std::function<bool(size_t, size_t)>;

  // pool: for all of the text. attention_block: as in SequenceRows. total: rows that will be forwarded in all.
  LikelihoodPasses(Transformer& t, size_t vocab, std::span<const int32_t> truth, size_t attention_block, KvPool pool,
                   const Progress& progress, size_t total)
      : t_(t),
        vocab_(vocab),
        truth_(truth),
        attention_block_(attention_block),
        chunk_(std::max<size_t>(64 / attention_block, 1) * attention_block),
        pool_(std::move(pool)),
        progress_(progress),
        total_(total) {
    while (blocks_.size() < pool_.total()) blocks_.push_back(pool_.Data(pool_.Acquire()));
  }

  // Forwards positions from .. to - 1 of `tokens` over the K and V of what is before, and adds up the cross-entropies
  // of the true tokens at `targets`, ascending, each predicted by the row before it: from < target <= to. `from` is a
  // multiple of the attention's block.
  Status Run(const int32_t* tokens, size_t from, size_t to, std::span<const uint32_t> targets, double* sum) {
    for (size_t at = from; at < to; at += chunk_) {
      if (progress_ && !progress_(done_, total_)) return Status(ErrorCode::kCancelled, "interrupted");
      const size_t n = std::min(chunk_, to - at);
      rows_.clear();
      for (const uint32_t i : targets) {
        if (i > at + n) break;
        rows_.push_back(i - 1 - static_cast<uint32_t>(at));
      }
      logits_.resize(std::max(logits_.size(), rows_.size() * vocab_));
      const SequenceRows rows{.tokens = tokens + at,
                              .count = n,
                              .first = at,
                              .blocks = blocks_.data(),
                              .attention_block = attention_block_,
                              .logits_from = n,
                              .logits_rows = rows_};
      t_.Forward({&rows, 1}, logits_.data());
      for (size_t r = 0; r < rows_.size(); ++r) {
        const float* row = logits_.data() + r * vocab_;
        const double lse = static_cast<double>(t_.Softmax(row, nullptr, vocab_));
        const double nll = lse - static_cast<double>(row[truth_[targets[r]]]);
        if (!std::isfinite(nll))
          return InternalError("logits are not finite at token " + std::to_string(targets[r] - 1));
        *sum += nll;
      }
      targets = targets.subspan(rows_.size());
      done_ += n;
    }
    return OkStatus();
  }

 private:
  Transformer& t_;
  size_t vocab_;
  std::span<const int32_t> truth_;
  size_t attention_block_;
  // Rows that are forwarded at a time, so that their logits stay small. They are whole blocks, whose rows see nothing
  // behind them: the results are those of one pass over all.
  size_t chunk_;
  KvPool pool_;
  std::vector<uint8_t*> blocks_;
  std::vector<uint32_t> rows_;
  std::vector<float> logits_;
  const Progress& progress_;
  size_t done_ = 0, total_;
};

inline Status CheckLikelihood(const Model& model, std::span<const int32_t> ids, const LikelihoodOptions& o) {
  const auto wrong = [](const char* what, auto value, const std::string& expected) {
    return InvalidArgument(std::string(what) + " = " + std::to_string(value) + ", expected " + expected);
  };
  const size_t vocab = model.config().vocab, context = model.config().context;
  const std::string below = "0 to " + std::to_string(vocab - 1);
  for (const int32_t id : ids) {
    if (id < 0 || static_cast<size_t>(id) >= vocab) return wrong("token id", id, below);
  }
  if (o.mask < 0 || static_cast<size_t>(o.mask) >= vocab) return wrong("mask token", o.mask, below);
  if (ids.size() > context) {
    return InvalidArgument("the text has " + std::to_string(ids.size()) + " tokens, the model's context holds " +
                           std::to_string(context));
  }
  if (ids.size() < 2) {
    return InvalidArgument(ids.empty() ? "the text has no token" : "the text has one token: no row predicts it");
  }
  if (o.prompt < 1 || o.prompt >= ids.size()) {
    return wrong("prompt tokens", o.prompt,
                 "1 to " + std::to_string(ids.size() - 1) + ", the text having " + std::to_string(ids.size()));
  }
  if (o.samples < 1 || o.samples > kMaxLikelihoodSamples) {
    return wrong("samples", o.samples, "1 to " + std::to_string(kMaxLikelihoodSamples));
  }
  if (o.block < 1 || o.block > kMaxDiffusionBlock) {
    return wrong("block", o.block, "1 to " + std::to_string(kMaxDiffusionBlock));
  }
  return OkStatus();
}

}  // namespace detail

WF_MODEL_INLINE std::vector<uint32_t> DrawPositions(Rng& rng, uint32_t first, uint32_t length, uint32_t count) {
  // Floyd's: one draw a position.
  std::vector<bool> chosen(length);
  for (uint64_t i = length - count; i < length; ++i) {
    const uint64_t n = i + 1, skew = (0 - n) % n;  // 2^64 mod n: the lowest draws have no whole share
    uint64_t draw = rng.Next();
    while (draw < skew) draw = rng.Next();
    const size_t at = static_cast<size_t>(draw % n);
    chosen[chosen[at] ? static_cast<size_t>(i) : at] = true;
  }
  std::vector<uint32_t> positions;
  for (uint32_t i = 0; i < length; ++i) {
    if (chosen[i]) positions.push_back(first + i);
  }
  return positions;
}

WF_MODEL_INLINE Result<Likelihood> DiffusionLikelihood(Transformer& t, const Model& model, std::span<const int32_t> ids,
                                                       const LikelihoodOptions& o,
                                                       const std::function<bool(size_t, size_t)>& progress) {
  WF_TRY(detail::CheckLikelihood(model, ids, o));
  const size_t size = ids.size(), length = size - o.prompt;
  // K and V of the positions before `start` see no mask: they are made once. Where that is the whole prompt, so is the
  // row that predicts the first token after it.
  const size_t attention_block = o.style == DiffusionStyle::kCausal ? 1 : o.block;
  const size_t start = o.prompt / attention_block * attention_block;
  WF_ASSIGN(KvPool pool, KvPool::Create(t.kv_shape(), (size + kKvBlock - 1) / kKvBlock));
  detail::LikelihoodPasses passes(t, model.config().vocab, ids, attention_block, std::move(pool), progress,
                                  start + o.samples * (size - start));
  const uint32_t first[] = {static_cast<uint32_t>(o.prompt)};
  const bool first_known = start == o.prompt;
  double first_nll = 0;
  WF_TRY(passes.Run(ids.data(), 0, start, std::span(first, first_known ? 1 : 0), &first_nll));

  Likelihood result;
  Rng rng(o.seed);
  std::vector<int32_t> tokens(ids.begin(), ids.end());
  for (size_t k = 1; k <= o.samples; ++k) {
    const size_t n = MaskedCount(k, o.samples, length);
    LikelihoodSample s{.masked = DrawPositions(rng, first[0], static_cast<uint32_t>(length), static_cast<uint32_t>(n))};
    for (const uint32_t i : s.masked) tokens[i] = o.mask;
    const bool known = first_known && s.masked[0] == first[0];
    double sum = known ? first_nll : 0;
    WF_TRY(passes.Run(tokens.data(), start, size, std::span(s.masked).subspan(known ? 1 : 0), &sum));
    for (const uint32_t i : s.masked) tokens[i] = ids[i];
    s.nll = sum * static_cast<double>(length) / static_cast<double>(n);
    result.samples.push_back(std::move(s));
  }

  const double count = static_cast<double>(o.samples);
  for (const LikelihoodSample& s : result.samples) result.nll += s.nll;
  result.nll /= count;
  if (o.samples > 1) {
    double squares = 0;
    for (const LikelihoodSample& s : result.samples) squares += (s.nll - result.nll) * (s.nll - result.nll);
    result.error = std::sqrt(squares / (count - 1) / count);
  }
  return result;
}

}  // namespace wf
#endif  // WF_DECODE_LIKELIHOOD_IMPL_H_
