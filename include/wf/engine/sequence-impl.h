// SPDX-License-Identifier: Apache-2.0
// Bodies of sequence.h.
#ifndef WF_ENGINE_SEQUENCE_IMPL_H_
#define WF_ENGINE_SEQUENCE_IMPL_H_

#include <algorithm>
#include <cmath>
#include <utility>

#include "wf/engine/sequence.h"

namespace wf {

WF_MODEL_INLINE Sequence::Sequence(Request r, EventSink s, const Model& m, const KernelTable& kernels, int64_t ctx)
    : request(std::move(r)),
      tokens(request.prompt),
      prompt_size(tokens.size()),
      submitted(Clock::now()),
      sink_(std::move(s)),
      model_(m),
      sampler_(request.sampling, kernels, tokens),
      stops_(request.stop) {
  const int64_t room = ctx - static_cast<int64_t>(prompt_size);
  max_tokens = request.max_tokens < 0 ? room : std::min(request.max_tokens, room);
  admitted = first_token = last_token = submitted;
}

WF_MODEL_INLINE bool Sequence::IsEnd(int32_t token) const {
  const auto& ids = request.stop_token_ids;
  return (!request.ignore_eos && model_.tokenizer().IsEog(token)) ||
         std::find(ids.begin(), ids.end(), token) != ids.end();
}

WF_MODEL_INLINE void Sequence::AddLogprob(const float* logits, size_t n, float lse, int32_t token) {
  TokenLogprob lp{.id = token, .logprob = logits[token] - lse, .top = {}};
  std::vector<int32_t> order(n);
  for (size_t i = 0; i < n; ++i) order[i] = static_cast<int32_t>(i);
  const auto k = static_cast<std::ptrdiff_t>(std::min(n, static_cast<size_t>(request.logprobs)));
  std::partial_sort(order.begin(), order.begin() + k, order.end(),
                    [&](int32_t a, int32_t b) { return logits[a] > logits[b] || (logits[a] == logits[b] && a < b); });
  for (std::ptrdiff_t i = 0; i < k; ++i)
    lp.top.emplace_back(order[static_cast<size_t>(i)], logits[order[static_cast<size_t>(i)]] - lse);
  last.logprobs.push_back(std::move(lp));
}

WF_MODEL_INLINE std::span<const int32_t> Sequence::Forbidden(std::span<const int32_t> banned) {
  if (generated >= request.min_tokens) return banned;
  forbidden_.assign(banned.begin(), banned.end());
  for (const int32_t e : model_.tokenizer().eog()) forbidden_.push_back(e);
  forbidden_.insert(forbidden_.end(), request.stop_token_ids.begin(), request.stop_token_ids.end());
  std::sort(forbidden_.begin(), forbidden_.end());
  return forbidden_;
}

WF_MODEL_INLINE const HeadQuery* Sequence::Query(size_t n, std::span<const int32_t> banned) {
  candidates.clear();
  return request.logprobs < 0 && sampler_.Query(n, Forbidden(banned), &query_) ? &query_ : nullptr;
}

WF_MODEL_INLINE void Sequence::Next(float* logits, size_t n, std::span<const int32_t> banned,
                                    const Transformer& transformer) {
  for (size_t i = 0; i < n && candidates.empty(); ++i) {
    if (std::isnan(logits[i]))
      return End(FinishReason::kError, StopType::kNone, InternalError("logits are not numbers (NaN)"));
  }
  float lse = 0;
  if (request.logprobs >= 0) {
    lse = transformer.Softmax(logits, nullptr, n);
    raw_.assign(logits, logits + n);
  }
  const int32_t token =
      candidates.empty() ? sampler_.Sample(logits, n, Forbidden(banned)) : sampler_.Choose(candidates);
  sampler_.Accept(token);
  last_token = Clock::now();
  if (generated++ == 0) first_token = last_token;
  tokens.push_back(token);
  last.ids.push_back(token);
  if (request.logprobs >= 0) AddLogprob(raw_.data(), n, lse, token);
  if (IsEnd(token)) return End(FinishReason::kStop, StopType::kEos, OkStatus());
  if (!model_.tokenizer().IsControl(token)) Show(decoder_.Push(model_.tokenizer().Piece(token)));
  if (stops_.matched()) return End(FinishReason::kStop, StopType::kWord, OkStatus());
  if (generated >= max_tokens) return End(FinishReason::kLength, StopType::kLimit, OkStatus());
  if (!last.text.empty()) sink_(std::exchange(last, Event()));
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
  t.generated_tokens = generated;
  t.queue_ms = ms(admitted - submitted);
  t.prompt_ms = ms((generated > 0 ? first_token : Clock::now()) - admitted);
  t.predicted_ms = ms(last_token - first_token);
  t.seed = sampler_.seed();
  sink_(std::move(last));
}

}  // namespace wf
#endif  // WF_ENGINE_SEQUENCE_IMPL_H_
