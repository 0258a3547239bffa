// SPDX-License-Identifier: Apache-2.0
// Bodies of sequence.h.
#ifndef WF_ENGINE_SEQUENCE_IMPL_H_
#define WF_ENGINE_SEQUENCE_IMPL_H_

#include <algorithm>
#include <cmath>
#include <utility>

#include "wf/engine/sequence.h"

namespace wf {

WF_MODEL_INLINE Sequence::Sequence(Request r, EventSink s, const DecodeSettings& settings, const Model& m,
                                   const KernelTable& kernels, int64_t ctx, DraftHistory* drafts)
    : request(std::move(r)),
      tokens(request.prompt),
      prompt_size(tokens.size()),
      submitted(Clock::now()),
      sink_(std::move(s)),
      settings_(settings),
      model_(m),
      kernels_(kernels),
      sampler_(request.sampling, kernels, tokens),
      stops_(request.stop),
      banned_(BannedTokens(m.tokenizer(), m.config().vocab)) {
  const int64_t room = ctx - static_cast<int64_t>(prompt_size);
  max_tokens = request.max_tokens < 0 ? room : std::min(request.max_tokens, room);
  admitted = first_token = last_token = submitted;
  // Mode verify gives the text of ar, which knows no mask but the model's own.
  if (settings_.diffusion() && !std::binary_search(banned_.begin(), banned_.end(), settings_.mask)) {
    banned_.insert(std::upper_bound(banned_.begin(), banned_.end(), settings_.mask), settings_.mask);
  }
  if (settings_.diffusion()) block_.emplace(settings_, prompt_size, static_cast<size_t>(ctx));
  if (settings_.mode == DecodeMode::kVerify) verifier_.emplace(settings_, drafts);
}

WF_MODEL_INLINE size_t Sequence::attention_block() const noexcept {
  return settings_.diffusion() && settings_.style == DiffusionStyle::kFastDllmV2 ? settings_.block : 1;
}

WF_MODEL_INLINE bool Sequence::IsEnd(int32_t token) const {
  const auto& ids = request.stop_token_ids;
  return (!request.ignore_eos && model_.tokenizer().IsEog(token)) ||
         std::find(ids.begin(), ids.end(), token) != ids.end();
}

WF_MODEL_INLINE TokenLogprob Sequence::Logprob(const float* logits, size_t n, float lse, int32_t token) const {
  TokenLogprob lp{.id = token, .logprob = logits[token] - lse, .top = {}};
  std::vector<int32_t> order(n);
  for (size_t i = 0; i < n; ++i) order[i] = static_cast<int32_t>(i);
  const auto k = static_cast<std::ptrdiff_t>(std::min(n, static_cast<size_t>(request.logprobs)));
  std::partial_sort(order.begin(), order.begin() + k, order.end(),
                    [&](int32_t a, int32_t b) { return logits[a] > logits[b] || (logits[a] == logits[b] && a < b); });
  for (std::ptrdiff_t i = 0; i < k; ++i)
    lp.top.emplace_back(order[static_cast<size_t>(i)], logits[order[static_cast<size_t>(i)]] - lse);
  return lp;
}

// What cannot be chosen as token `index` of the answer. Ends the sequence if that cannot be told.
WF_MODEL_INLINE std::span<const int32_t> Sequence::Forbidden(int64_t index) {
  if (constraint_) {
    const Result<const TokenMask*> allowed = constraint_->Allowed();
    if (!allowed.ok()) {
      End(FinishReason::kError, StopType::kNone, allowed.status());
      return banned_;
    }
    (*allowed)->Others(&forbidden_);
    return forbidden_;
  }
  if (index >= request.min_tokens) return banned_;
  forbidden_ = banned_;
  for (const int32_t e : model_.tokenizer().eog()) forbidden_.push_back(e);
  forbidden_.insert(forbidden_.end(), request.stop_token_ids.begin(), request.stop_token_ids.end());
  std::sort(forbidden_.begin(), forbidden_.end());
  return forbidden_;
}

// Tokens of the prompt up to `end`, in whole blocks of so many.
WF_MODEL_INLINE void Sequence::PlanPrompt(size_t end, size_t budget, size_t block) {
  const size_t n = std::min(end - computed, std::max(block, budget / block * block));
  const auto from = tokens.begin() + static_cast<std::ptrdiff_t>(computed);
  pass.tokens.assign(from, from + static_cast<std::ptrdiff_t>(n));
  pass.first = computed;
  pass.attention_block = block;
  pass.prefill = true;
  if (computed + n == prompt_size && max_tokens > 0) pass.rows.push_back(static_cast<uint32_t>(n - 1));
}

WF_MODEL_INLINE bool Sequence::Plan(size_t budget, const PassCosts& costs) {
  pass.Clear();
  // Of the prompt: the rest shares its block with masks.
  const bool whole_blocks = settings_.diffusion() && settings_.style == DiffusionStyle::kFastDllmV2;
  size_t prompt_end = block_ && (whole_blocks || max_tokens > 0) ? block_->prefill_end() : prompt_size;
  // In style causal the first block's pass takes the prompt's last tokens along.
  if (block_ && !whole_blocks && max_tokens > 0 && prompt_end <= computed + budget) prompt_end = computed;
  if (computed < prompt_end) {
    PlanPrompt(prompt_end, budget, attention_block());
    return true;
  }
  if (max_tokens == 0) {
    End(FinishReason::kLength, StopType::kLimit, OkStatus());
    return false;
  }
  decoding_ = true;
  if (block_) {
    if (!block_->begun() || tokens.size() >= block_->end() + (whole_blocks ? 1 : 0)) {
      block_->Begin(tokens);
      block_logprobs_.assign(block_->tokens().size(), {});
    }
    block_->Plan(tokens, computed, &pass);
  } else if (verifier_) {
    verifier_->Plan(tokens, static_cast<size_t>(max_tokens - generated), costs, &pass);
  } else {
    pass.tokens.push_back(tokens.back());
    pass.first = computed;
    pass.rows.push_back(0);
  }
  return true;
}

WF_MODEL_INLINE const HeadQuery* Sequence::Query(size_t vocab) {
  candidates.resize(pass.rows.size());
  for (std::vector<Candidate>& c : candidates) c.clear();
  if (pass.draft) {
    query_ = {.banned = banned_};
    return &query_;
  }
  const bool one_for_all = !constraint_ && !sampler_.penalises() && generated >= request.min_tokens;
  if (request.logprobs >= 0 || (pass.rows.size() != 1 && !one_for_all)) return nullptr;
  if (block_ && !pass.prefill && !block_->full()) return nullptr;  // confidence needs every logit
  return sampler_.Query(vocab, Forbidden(generated), &query_) ? &query_ : nullptr;
}

WF_MODEL_INLINE void Sequence::Take(float* logits, size_t vocab, const Transformer& transformer) {
  if (ended()) return;
  if (!pass.prefill) ++passes_;
  const size_t end = pass.first + pass.tokens.size();
  if (pass.rows.empty()) {
    computed = end;
  } else if (block_ && !pass.prefill && !block_->full()) {
    TakeBlock(logits, vocab);
  } else if (verifier_ && !pass.prefill) {
    TakeVerified(logits, vocab, transformer);
  } else {
    computed = end;
    TakeNext(logits, vocab, transformer);
  }
}

// The next token of the text from a row that predicts it; -1, and ended, if the row is no good.
WF_MODEL_INLINE int32_t Sequence::Choose(size_t row, float* logits, size_t vocab, const Transformer& transformer) {
  if (!candidates[row].empty()) return sampler_.Choose(candidates[row]);
  float* x = logits + row * vocab;
  if (std::any_of(x, x + vocab, [](float v) { return std::isnan(v); })) {
    End(FinishReason::kError, StopType::kNone, InternalError("logits are not numbers (NaN)"));
    return -1;
  }
  const std::span<const int32_t> forbidden = Forbidden(generated);
  if (ended()) return -1;
  if (request.logprobs < 0) return sampler_.Sample(x, vocab, forbidden);
  const float lse = transformer.Softmax(x, nullptr, vocab);
  raw_.assign(x, x + vocab);
  const int32_t token = sampler_.Sample(x, vocab, forbidden);
  last.logprobs.push_back(Logprob(raw_.data(), vocab, lse, token));
  return token;
}

WF_MODEL_INLINE void Sequence::TakeNext(float* logits, size_t vocab, const Transformer& transformer) {
  const int32_t token = Choose(0, logits, vocab, transformer);
  if (ended()) return;
  Append(token);
  Emit();
}

// The best tokens of the rows from `row` on.
WF_MODEL_INLINE std::vector<int32_t> Sequence::Best(size_t row, const float* logits, size_t vocab) const {
  std::vector<int32_t> out;
  for (; row < pass.rows.size(); ++row) {
    int32_t best = -1;
    float top = -INFINITY;
    for (const Candidate& c : candidates[row]) {
      if (best < 0 || c.logit > top) best = c.id, top = c.logit;
    }
    const float* x = logits + row * vocab;
    auto banned = banned_.begin();
    for (size_t i = 0; i < vocab && candidates[row].empty(); ++i) {
      if (banned != banned_.end() && static_cast<size_t>(*banned) == i) {
        ++banned;
      } else if (best < 0 || x[i] > top) {
        best = static_cast<int32_t>(i), top = x[i];
      }
    }
    out.push_back(best);
  }
  return out;
}

WF_MODEL_INLINE void Sequence::TakeVerified(float* logits, size_t vocab, const Transformer& transformer) {
  if (pass.draft) return verifier_->TakeDraft(Best(0, logits, vocab));
  const std::vector<int32_t> drafts(verifier_->drafts().begin(), verifier_->drafts().end());
  size_t accepted = 0;
  for (;; ++accepted) {
    const int32_t token = Choose(accepted, logits, vocab, transformer);
    if (ended()) return;
    if (!Append(token) || accepted == drafts.size() || token != drafts[accepted]) break;
  }
  computed += accepted + 1;
  const bool drafting = verifier_->rows_draft() && !ended();
  verifier_->Verified(accepted, tokens.back(), drafting ? Best(accepted + 1, logits, vocab) : std::vector<int32_t>());
  Emit();
}

WF_MODEL_INLINE void Sequence::TakeBlock(float* logits, size_t vocab) {
  predictions_.clear();
  logprobs_.clear();
  for (size_t i = 0; i < pass.rows.size(); ++i) {
    float* x = logits + i * vocab;
    if (std::any_of(x, x + vocab, [](float v) { return std::isnan(v); })) {
      return End(FinishReason::kError, StopType::kNone, InternalError("logits are not numbers (NaN)"));
    }
    if (request.logprobs >= 0) {
      raw_.assign(x, x + vocab);
      for (const int32_t banned : banned_) raw_[static_cast<size_t>(banned)] = -INFINITY;
    }
    const auto index = static_cast<int64_t>(pass.first + pass.rows[i] + 1 - prompt_size);
    Prediction p;
    p.token = sampler_.Sample(x, vocab, Forbidden(index), &p.confidence);
    predictions_.push_back(p);
    if (request.logprobs >= 0) {
      float lse = 0;
      kernels_.softmax({.x = raw_.data(), .n = vocab, .lse = &lse});
      logprobs_.push_back(Logprob(raw_.data(), vocab, lse, p.token));
      logprobs_.back().logprob = std::log(p.confidence);
    }
  }
  computed = block_->Take(pass, predictions_);
  for (const size_t position : block_->committed()) {
    const size_t at = position - block_->start();
    sampler_.Accept(block_->tokens()[at]);
    if (request.logprobs < 0) continue;
    const auto row = std::find(pass.rows.begin(), pass.rows.end(), position - 1 - pass.first) - pass.rows.begin();
    block_logprobs_[at] = std::move(logprobs_[static_cast<size_t>(row)]);
  }
  while (!ended() && tokens.size() < block_->end() && !block_->masked(tokens.size())) {
    const size_t at = tokens.size() - block_->start();
    if (request.logprobs >= 0) last.logprobs.push_back(std::move(block_logprobs_[at]));
    Push(block_->tokens()[at]);
  }
  if (request.show_blocks) {
    last.block_start = static_cast<int64_t>(block_->start());
    for (size_t p = block_->start(); p < block_->end(); ++p) {
      last.block.push_back(block_->masked(p) ? -1 : block_->tokens()[p - block_->start()]);
    }
  }
  Emit();
}

// The text goes on with a token that was chosen for its end; false if it ends with it.
WF_MODEL_INLINE bool Sequence::Append(int32_t token) {
  sampler_.Accept(token);
  if (constraint_ && !constraint_->Accept(token)) {
    End(FinishReason::kError, StopType::kNone, InternalError("a token outside the grammar was chosen"));
    return false;
  }
  if (Push(token) && constraint_ && constraint_->Done()) End(FinishReason::kStop, StopType::kEos, OkStatus());
  return !ended();
}

// The text goes on with this token; false if it ends with it.
WF_MODEL_INLINE bool Sequence::Push(int32_t token) {
  last_token = Clock::now();
  if (generated++ == 0) first_token = last_token;
  tokens.push_back(token);
  last.ids.push_back(token);
  if (IsEnd(token)) {
    End(FinishReason::kStop, StopType::kEos, OkStatus());
  } else {
    if (!model_.tokenizer().IsControl(token)) Show(decoder_.Push(model_.tokenizer().Piece(token)));
    if (stops_.matched()) {
      End(FinishReason::kStop, StopType::kWord, OkStatus());
    } else if (generated >= max_tokens) {
      End(FinishReason::kLength, StopType::kLimit, OkStatus());
    }
  }
  return !ended();
}

WF_MODEL_INLINE void Sequence::Emit() {
  if (first_tokens_ == 0) first_tokens_ = generated;
  if (!ended() && (!last.text.empty() || !last.block.empty())) sink_(std::exchange(last, Event()));
}

WF_MODEL_INLINE void Sequence::Show(const std::string& text) {
  last.text += stops_.Push(text);
  if (stops_.matched() && request.include_stop) last.text += stops_.match();
}

WF_MODEL_INLINE void Sequence::End(FinishReason reason, StopType type, Status status) {
  if (!stops_.matched()) {
    Show(decoder_.Flush());  // half a character may complete nothing, but it is the end of the text
    if (!stops_.matched()) last.text += stops_.Flush();
  }
  last.finished = true;
  last.reason = reason;
  last.stop_type = stops_.matched() ? StopType::kWord : type;
  last.stop_word = stops_.match();
  last.status = std::move(status);
}

WF_MODEL_INLINE void Sequence::EndAtDeadline() {
  if (generated == 0) {
    return End(FinishReason::kError, StopType::kNone,
               Status(ErrorCode::kDeadline, "the deadline passed before the first token"));
  }
  End(FinishReason::kLength, StopType::kLimit, OkStatus());
  last.timed_out = true;
}

WF_MODEL_INLINE void Sequence::EmitLast() {
  const auto ms = [](Clock::duration d) { return std::chrono::duration<double, std::milli>(d).count(); };
  Timings& t = last.timings;
  t.prompt_tokens = static_cast<int64_t>(prompt_size);
  t.cached_tokens = static_cast<int64_t>(cached);
  t.generated_tokens = generated;
  t.first_tokens = first_tokens_;
  t.passes = passes_;
  if (verifier_) {
    t.drafted = static_cast<int64_t>(verifier_->proposed());
    t.accepted = static_cast<int64_t>(verifier_->accepted());
  }
  t.queue_ms = ms(admitted - submitted);
  t.prompt_ms = ms((generated > 0 ? first_token : Clock::now()) - admitted);
  t.predicted_ms = ms(last_token - first_token);
  t.seed = sampler_.seed();
  sink_(std::move(last));
}

}  // namespace wf
#endif  // WF_ENGINE_SEQUENCE_IMPL_H_
