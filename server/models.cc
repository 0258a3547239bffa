// SPDX-License-Identifier: Apache-2.0
// What the server tells about its model: sizes, format, and a fingerprint of everything that could change bits.
#include <algorithm>
#include <cctype>
#include <map>

#include "server/openai.h"
#include "wf/quant/types.h"
#include "wf/simd/isa.h"
#include "wf/version.h"

namespace wf::server {
namespace {

// The type that holds most of the weights: what people call the file's format.
TensorType MainType(const Gguf& gguf) {
  std::map<TensorType, uint64_t> elements;
  for (const GgufTensor& t : gguf.tensors()) {
    if (t.n_dims >= 2 && t.name.find("token_embd") == std::string_view::npos) elements[t.type] += t.elements();
  }
  const auto most = std::max_element(elements.begin(), elements.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == elements.end() ? TensorType::kF32 : most->first;
}

}  // namespace

json::object ModelMeta(const Model& model) {
  const Gguf& gguf = model.gguf();
  uint64_t params = 0, n_embd = 0;
  for (const GgufTensor& t : gguf.tensors()) params += t.elements();
  if (const GgufTensor* embedding = gguf.FindTensor("token_embd.weight")) n_embd = embedding->ne[0];
  std::string arch;
  if (auto a = gguf.GetString("general.architecture"); a.ok()) arch = std::string(*a);
  int64_t n_ctx_train = 0;
  if (auto n = gguf.GetInt(arch + ".context_length"); n.ok()) n_ctx_train = *n;
  return {{"n_ctx_train", n_ctx_train}, {"n_params", params},        {"n_vocab", model.tokenizer().size()},
          {"n_embd", n_embd},           {"size", gguf.file_bytes()}, {"ftype", TensorTypeName(MainType(gguf))}};
}

std::string Fingerprint(const Engine& engine) {
  std::string format(TensorTypeName(MainType(engine.model().gguf())));
  format.erase(std::remove(format.begin(), format.end(), '_'), format.end());
  std::transform(format.begin(), format.end(), format.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const auto isa = isa::Choose(~0u);
  return std::string("wf") + WF_VERSION_STRING + "-" + (isa.ok() ? isa::Name(*isa) : "none") + "-" + format + "-kv" +
         Name(engine.options().kv_type);
}

}  // namespace wf::server
