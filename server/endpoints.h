// SPDX-License-Identifier: Apache-2.0
// The endpoints that generate: each reads its body into a Call, which generation.h runs. All validation, templating
// and tokenisation happens here, on the I/O thread that read the request.
#ifndef WF_SERVER_ENDPOINTS_H_
#define WF_SERVER_ENDPOINTS_H_

#include <memory>
#include <string>
#include <vector>

#include "server/generation.h"
#include "server/params.h"

namespace wf::server {

struct Call {
  GenParams params;
  std::vector<Prompt> prompts;
  std::unique_ptr<Format> format;
};

ApiError ParseChat(const Model& model, const json::object& body, const ParamContext& context, Call* out);
ApiError ParseCompletions(const Model& model, const json::object& body, const ParamContext& context, Call* out);
ApiError ParseNative(const Model& model, const json::object& body, const ParamContext& context, Call* out);

// Ids of a JSON array, each in the vocabulary.
ApiError ReadIds(const json::array& a, int32_t vocab, std::string_view param, std::vector<int32_t>* out);

const char* FinishName(FinishReason r) noexcept;
// {"token", "logprob", "bytes"}, with "id" first if asked for.
json::object TokenJson(const Model& model, int32_t id, float logprob, bool with_id);
// Marks logprobs of block diffusion, which are confidences: of tokens when they were committed.
void FlagLogprobs(const Generation& g, json::object* o);
// A logprob as JSON can hold it: minus infinity becomes -9999.
double JsonLogprob(float logprob) noexcept;

}  // namespace wf::server
#endif  // WF_SERVER_ENDPOINTS_H_
