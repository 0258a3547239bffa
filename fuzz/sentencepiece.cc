// SPDX-License-Identifier: Apache-2.0
// Any bytes as a tokenizer.model: it is refused by name or makes a tokenizer that encodes and decodes, whose ids
// exist and which gives a user's text no control token.
#include "wf/tokenizer/sentencepiece.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

#include "wf/tokenizer/tokenizer.h"

namespace {

void Require(bool good, const char* what) {
  if (good) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  auto model = wf::ParseSentencePiece(bytes, "tokenizer.model");
  if (!model.ok()) {
    const wf::ErrorCode code = model.status().code();
    Require(code == wf::ErrorCode::kFormat || code == wf::ErrorCode::kUnsupported || code == wf::ErrorCode::kLimit,
            "refusals are of the documented kinds");
    Require(model.status().message().find("tokenizer.model: ") == 0, "messages name the file");
    return 0;
  }
  wf::Vocab v;
  v.model = "llama";
  v.tokens = std::move(model->tokens);
  v.scores = std::move(model->scores);
  v.types = std::move(model->types);
  v.bos_id = model->bos_id;
  v.eos_id = model->eos_id;
  v.unk_id = model->unk_id;
  v.pad_id = model->pad_id;
  v.add_bos = v.fuse_unk = true;
  v.add_space_prefix = model->add_dummy_prefix;
  v.remove_extra_whitespaces = model->remove_extra_whitespaces;
  // Flags as a configuration could give them.
  for (int32_t id = 0; id < static_cast<int32_t>(v.tokens.size()) && id < 64; ++id) {
    const auto flags = static_cast<int32_t>(v.tokens[static_cast<size_t>(id)].size() % 32);
    if (flags != 0) v.matches.push_back({id, flags});
  }
  const auto t = wf::Tokenizer::Create(std::move(v));
  if (!t.ok()) return 0;
  std::string joined;
  for (int32_t id = 0; id < t->size() && joined.size() < 256; ++id)
    joined += t->vocab().tokens[static_cast<size_t>(id)];
  for (const std::string_view text : {bytes.substr(0, 256), std::string_view(joined), std::string_view(" a  b ")}) {
    const auto trusted = t->Encode(text, true, true);
    Require(trusted.ok(), "encoding with special tokens succeeds");
    for (const int32_t id : *trusted) Require(id >= 0 && id < t->size(), "ids exist");
    const auto ids = t->Encode(text, false, false);
    Require(ids.ok(), "encoding succeeds");
    for (const int32_t id : *ids) {
      Require(id >= 0 && id < t->size(), "ids exist");
      Require(!t->IsControl(id), "a user's text makes no control token");
    }
    t->Decode(*ids, false);
    const size_t cut = text.size() / 2;
    const wf::Tokenizer::Segment segments[] = {{text.substr(0, cut), true}, {text.substr(cut), false}};
    Require(t->EncodeSegments(segments, true).ok(), "segments are encoded");
  }
  return 0;
}
