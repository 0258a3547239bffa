// SPDX-License-Identifier: Apache-2.0
// Ids of real vocabularies (in ../shared, not in the repository) and of the sample model.
#include "tests/tokenizer/vectors.h"

#include <map>

#include "tests/tokenizer/helpers.h"
#include "wf/tokenizer/vocab_hf.h"

using wf::Tokenizer;
using wf::Vocab;
using wf::test::Ids;
using wf::test::Make;
using wf::test::SharedVocabulary;
using IdList = std::vector<int32_t>;

namespace {

// nullptr, with a warning, if ../shared is absent.
const Tokenizer* Shared(const std::string& name) {
  static std::map<std::string, Tokenizer> cache;
  const auto it = cache.find(name);
  if (it != cache.end()) return &it->second;
  const std::string path = SharedVocabulary(name == "llama-bpe" ? "llama3.tiktoken" : "ggml-vocab-" + name + ".gguf");
  if (!std::filesystem::exists(path)) {
    WARN("not run: there is no " << path);
    return nullptr;
  }
  if (name == "llama-bpe") return &cache.emplace(name, Make(wf::test::VocabFromRanks(path))).first->second;
  const auto gguf = wf::Gguf::Open(path);
  if (!gguf.ok()) FAIL(gguf.status().message());
  auto t = Tokenizer::FromGguf(*gguf);
  if (!t.ok()) FAIL(t.status().message());
  return &cache.emplace(name, *std::move(t)).first->second;
}

const std::vector<std::string> kNames = {"llama-bpe", "gpt-2", "llama-spm", "starcoder"};

}  // namespace

TEST_CASE("token vectors of the format description") {
  int run = 0;
  for (const auto& v : wf::test::kIdVectors) {
    if (v.vocabulary == "qwen2") continue;  // no such vocabulary there
    const Tokenizer* t = Shared(v.vocabulary);
    if (t == nullptr) return;
    INFO(v.vocabulary << " '" << v.text << "'");
    CHECK(Ids(*t, v.text) == v.ids);
    CHECK(t->Decode(v.ids, false) == v.text);
    ++run;
  }
  CHECK(run == 57);
}

TEST_CASE("input and output files of llama.cpp's vocabulary tests") {
  for (const std::string& name : kNames) {
    const Tokenizer* t = Shared(name);
    if (t == nullptr) return;
    const std::string in = wf::test::ReadFile(SharedVocabulary("ggml-vocab-" + name + ".gguf.inp"));
    std::istringstream out(wf::test::ReadFile(SharedVocabulary("ggml-vocab-" + name + ".gguf.out")));
    const std::string mark = "\n__ggml_vocab_test__\n";
    size_t cases = 0;
    for (size_t pos = 0, end; (end = in.find(mark, pos)) != std::string::npos; pos = end + mark.size()) {
      const std::string text = in.substr(pos, end - pos);
      std::string line;
      REQUIRE(std::getline(out, line));
      std::istringstream numbers(line);
      IdList expected;
      for (int32_t id; numbers >> id;) expected.push_back(id);
      INFO(name << " '" << text << "'");
      CHECK(Ids(*t, text) == expected);
      CHECK(t->Decode(expected, false) == text);
      ++cases;
    }
    CHECK(cases > 40);
  }
}

TEST_CASE("real vocabularies survive writing to GGUF") {
  for (const std::string& name : kNames) {
    const Tokenizer* t = Shared(name);
    if (t == nullptr) return;
    const auto back = wf::test::VocabOf([&](wf::GgufWriter* w) { WriteVocab(t->vocab(), w); });
    if (!back.ok()) FAIL(back.status().message());
    CHECK(*back == t->vocab());
  }
}

TEST_CASE("Llama 3's specials") {
  const Tokenizer* t = Shared("llama-bpe");
  if (t == nullptr) return;
  CHECK(t->size() == 128256);
  CHECK(t->eog() == IdList{128001, 128009});
  CHECK(Ids(*t, "Hello, world!", true) == IdList{128000, 9906, 11, 1917, 0});
  // The trained prompt format of BitNet 2B-4T ends in a lone space, which stays a token.
  CHECK(Ids(*t, "User: Hi<|eot_id|>Assistant: ", false, true).back() == 220);
  // A file without `pre`: these 128256 tokens mean llama-bpe.
  auto v = wf::test::VocabOf([&](wf::GgufWriter* w) {
    w->SetString("general.architecture", "llama");
    w->SetString("tokenizer.ggml.model", "gpt2");
    w->SetStrings("tokenizer.ggml.tokens", t->vocab().tokens);
    w->SetStrings("tokenizer.ggml.merges", t->vocab().merges);
  });
  if (!v.ok()) FAIL(v.status().message());
  CHECK(v->pre == "llama-bpe");
  CHECK(v->ignore_merges);
  CHECK(v->add_bos);
  CHECK(Ids(Make(*std::move(v)), "  Hello") == IdList{220, 22691});
}

TEST_CASE("the sample model's tokenizer") {
  auto t = Tokenizer::FromHf(std::string(WF_SOURCE_DIR) + "/models/bard");
  if (!t.ok()) FAIL(t.status().message());
  const Vocab& v = t->vocab();
  CHECK(v.model == "gpt2");
  CHECK(v.pre == "llama-bpe");
  CHECK(v.ignore_merges);
  CHECK(v.split_patterns.empty());
  CHECK(v.tokens.size() == 2048);
  CHECK(v.add_bos);
  CHECK_FALSE(v.add_eos);
  CHECK((v.bos_id == 2044 && v.eos_id == 2046 && v.eot_id == 2046 && v.mask_id == 2047));
  CHECK(v.eos_ids == IdList{2046, 2045});
  CHECK(t->eog() == IdList{2045, 2046});
  CHECK(v.warnings.empty());
  CHECK(v.chat_template.find("capitalize") != std::string::npos);
  // Ids of the reference implementation.
  CHECK(Ids(*t, "ROMEO:", true) == IdList{2044, 874, 25});
  CHECK(Ids(*t, "The king shall", true) == IdList{2044, 370, 540, 428});
  CHECK(Ids(*t, "<|begin_of_text|>System: You are helpful<|eot_id|>User: The capital of France is<|eot_id|>Assistant: ",
            true, true) == IdList{2044, 298, 25,  2016, 433, 1345, 623, 2046, 297, 25, 220, 370,
                                  510,  79,  279, 378,  314, 1908, 340, 2046, 299, 25, 220});
  const auto back = wf::test::VocabOf([&](wf::GgufWriter* w) { WriteVocab(v, w); });
  if (!back.ok()) FAIL(back.status().message());
  CHECK(*back == v);
}
