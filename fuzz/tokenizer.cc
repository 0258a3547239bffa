// SPDX-License-Identifier: Apache-2.0
// Any bytes as text through the sample model's tokenizer: valid UTF-8 comes back from encoding and decoding, no
// user's text makes a control token, and segments lose nothing. WF_FUZZ_TOKENIZER names another folder.
#include "wf/tokenizer/tokenizer.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "wf/tokenizer/utf8.h"
#include "wf/tokenizer/vocab_hf.h"

#ifndef WF_SOURCE_DIR
#define WF_SOURCE_DIR "."
#endif

namespace {

const wf::Tokenizer& SampleTokenizer() {
  static const wf::Tokenizer tokenizer = [] {
    const char* dir = std::getenv("WF_FUZZ_TOKENIZER");
    auto t = wf::Tokenizer::FromHf(dir != nullptr ? dir : WF_SOURCE_DIR "/models/bard");
    if (!t.ok()) {
      std::fprintf(stderr, "%s\n", t.status().message().c_str());
      std::exit(2);
    }
    return *std::move(t);
  }();
  return tokenizer;
}

void Require(bool good, const char* what) {
  if (good) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const wf::Tokenizer& t = SampleTokenizer();
  const std::string_view text(reinterpret_cast<const char*>(data), size);

  const auto trusted = t.Encode(text, true, true);
  Require(trusted.ok(), "encoding with special tokens succeeds");
  for (const int32_t id : *trusted) Require(id >= 0 && id < t.size(), "ids exist");

  const auto ids = t.Encode(text, false, false);
  Require(ids.ok(), "encoding succeeds");
  for (const int32_t id : *ids) Require(!t.IsControl(id), "a user's text makes no control token");
  // Byte-level BPE is lossless even where the text is not UTF-8.
  Require(t.Decode(*ids, false) == text, "decode(encode(x)) == x");

  // The streaming decoder over single pieces gives what it gives over the whole.
  wf::Utf8Decoder whole, stream;
  std::string expected = whole.Push(text), streamed;
  expected += whole.Flush();
  for (const int32_t id : *ids) streamed += stream.Push(t.Piece(id));
  streamed += stream.Flush();
  Require(streamed == expected, "streaming does not depend on the cuts");
  Require(!wf::IsUtf8(text) || streamed == text, "valid text streams unchanged");

  const size_t cut = size == 0 ? 0 : data[0] % (size + 1);
  const wf::Tokenizer::Segment segments[] = {{text.substr(0, cut), true}, {text.substr(cut), false}};
  const auto joined = t.EncodeSegments(segments, false);
  Require(joined.ok() && t.Decode(*joined, false) == text, "segments lose nothing");
  return 0;
}
