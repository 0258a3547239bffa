// SPDX-License-Identifier: Apache-2.0
// Vocabularies for the tokenizer's tests: real ones from ../shared, small ones written in place, and GGUF files
// with only metadata.
#ifndef WF_TESTS_TOKENIZER_HELPERS_H_
#define WF_TESTS_TOKENIZER_HELPERS_H_

#include <pthread.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tests/catch.h"
#include "tests/scratch.h"
#include "wf/formats/gguf.h"
#include "wf/formats/gguf_writer.h"
#include "wf/tokenizer/byte_alphabet.h"
#include "wf/tokenizer/tokenizer.h"
#include "wf/tokenizer/vocab.h"

namespace wf::test {

inline std::string SharedVocabulary(const std::string& file) {
  return std::string(WF_SHARED_DIR) + "/tokenizers/" + file;
}

// The vocabulary of a GGUF file whose metadata `fill` writes.
inline Result<Vocab> VocabOf(const std::function<void(GgufWriter*)>& fill) {
  const TempDir dir;
  GgufWriter writer;
  fill(&writer);
  WF_TRY(writer.Begin(dir / "v.gguf"));
  WF_TRY(writer.Finish());
  WF_ASSIGN(const Gguf gguf, Gguf::Open(dir / "v.gguf"));
  return VocabFromGguf(gguf);
}

// Byte-level: the 256 bytes (in the order of the alphabet's bytes), then what the test adds.
inline Vocab ByteVocab() {
  Vocab v;
  v.model = "gpt2";
  v.pre = "gpt-2";
  for (int b = 0; b < 256; ++b) {
    const char c = static_cast<char>(static_cast<uint8_t>(b));
    v.tokens.push_back(BytesToAlphabet({&c, 1}));
  }
  v.types.assign(256, TokenType::kNormal);
  return v;
}

inline int32_t AddToken(Vocab* v, const std::string& text, TokenType type, float score = 0) {
  v->tokens.push_back(text);
  v->types.push_back(type);
  if (v->model == "llama") v->scores.push_back(score);
  return static_cast<int32_t>(v->tokens.size()) - 1;
}

// "<unk>" 0, "<s>" 1, "</s>" 2, the byte tokens from 3 on, U+2581 259.
inline Vocab SpmVocab() {
  Vocab v;
  v.model = "llama";
  AddToken(&v, "<unk>", TokenType::kUnknown);
  AddToken(&v, "<s>", TokenType::kControl);
  AddToken(&v, "</s>", TokenType::kControl);
  const char* hex = "0123456789ABCDEF";
  for (int b = 0; b < 256; ++b) {
    AddToken(&v, std::string("<0x") + hex[b / 16] + hex[b % 16] + ">", TokenType::kByte);
  }
  AddToken(&v, "\xE2\x96\x81", TokenType::kNormal, -1000);
  v.unk_id = 0;
  v.bos_id = 1;
  v.eos_id = 2;
  v.add_bos = v.add_space_prefix = true;
  return v;
}

inline Tokenizer Make(Vocab v) {
  Result<Tokenizer> t = Tokenizer::Create(std::move(v));
  if (!t.ok()) FAIL(t.status().message());
  return *std::move(t);
}

inline std::vector<int32_t> Ids(const Tokenizer& t, std::string_view text, bool add_special = false,
                                bool parse_special = false) {
  Result<std::vector<int32_t>> ids = t.Encode(text, add_special, parse_special);
  if (!ids.ok()) FAIL(ids.status().message());
  return *std::move(ids);
}

// Runs `work` on a stack of 512 KiB: what recurses with the length of a text does not survive it.
inline void RunOnSmallStack(std::function<void()> work) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  REQUIRE(pthread_attr_setstacksize(&attributes, 512 << 10) == 0);
  pthread_t thread;
  const auto run = [](void* f) -> void* {
    (*static_cast<std::function<void()>*>(f))();
    return nullptr;
  };
  REQUIRE(pthread_create(&thread, &attributes, run, &work) == 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
}

// Llama 3's vocabulary from ranks ("base64 rank" lines): a pair merges if its concatenation has a rank. Pairs
// are listed by that rank, those of one token by the ranks of their parts.
inline Vocab VocabFromRanks(const std::string& path) {
  const auto value = [](char c) {
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
                                  : 63;
  };
  const std::string file = ReadFile(path);
  std::vector<std::string> raw;
  std::unordered_map<std::string, size_t> rank;
  for (size_t pos = 0; pos < file.size();) {
    const size_t end = file.find('\n', pos), space = file.find(' ', pos);
    std::string bytes;
    uint32_t bits = 0;
    int count = 0;
    for (size_t i = pos; i < space && file[i] != '='; ++i) {
      bits = (bits << 6) | static_cast<uint32_t>(value(file[i]));
      count += 6;
      if (count < 8) continue;
      count -= 8;
      bytes.push_back(static_cast<char>(static_cast<uint8_t>(bits >> count)));
    }
    rank[bytes] = raw.size();
    raw.push_back(bytes);
    pos = end == std::string::npos ? file.size() : end + 1;
  }
  Vocab v;
  v.model = "gpt2";
  v.pre = "llama-bpe";
  v.ignore_merges = v.add_bos = true;
  for (const std::string& bytes : raw) {
    AddToken(&v, BytesToAlphabet(bytes), TokenType::kNormal);
    std::vector<std::pair<size_t, size_t>> parts;
    for (size_t i = 1; i < bytes.size(); ++i) {
      const auto left = rank.find(bytes.substr(0, i)), right = rank.find(bytes.substr(i));
      if (left != rank.end() && right != rank.end()) parts.emplace_back(left->second, right->second);
    }
    std::sort(parts.begin(), parts.end());
    for (const auto& [l, r] : parts) v.merges.push_back(BytesToAlphabet(raw[l]) + " " + BytesToAlphabet(raw[r]));
  }
  for (int i = 0; i < 256; ++i) AddToken(&v, "<|reserved_" + std::to_string(i) + "|>", TokenType::kControl);
  v.bos_id = 128000;
  v.tokens[128000] = "<|begin_of_text|>";
  v.tokens[128001] = "<|end_of_text|>";
  v.tokens[128009] = "<|eot_id|>";
  return v;
}

}  // namespace wf::test
#endif  // WF_TESTS_TOKENIZER_HELPERS_H_
