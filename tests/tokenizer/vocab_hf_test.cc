// SPDX-License-Identifier: Apache-2.0
// Vocabularies out of Hugging Face folders: what each file decides, and tokenizer.json files that are broken or
// would need what there is not. Equality of ids with the original library is test_tokenizer_pypi.py's.
#include "wf/tokenizer/vocab_hf.h"

#include "tests/tokenizer/helpers.h"

using wf::ErrorCode;
using wf::TokenType;
using wf::Vocab;
using wf::test::Ids;
using wf::test::Make;
using IdList = std::vector<int32_t>;

namespace {

const std::string kByteLevel = R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":true})";
const std::string kModel = R"({"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]})";

// The parts of a tokenizer.json, to be varied one at a time.
struct Json {
  std::string model = kModel;
  std::string pre = kByteLevel;
  std::string normalizer = "null", post = "null", added = "[]";
  std::string Text() const {
    return R"({"version":"1.0","added_tokens":)" + added + R"(,"normalizer":)" + normalizer + R"(,"pre_tokenizer":)" +
           pre + R"(,"post_processor":)" + post + R"(,"decoder":null,"model":)" + model + "}";
  }
};

using Files = std::vector<std::pair<std::string, std::string>>;

wf::Result<Vocab> Load(const std::string& json, const Files& files = {}) {
  const wf::test::TempDir dir;
  wf::test::WriteFile(dir / "tokenizer.json", json);
  for (const auto& [name, text] : files) wf::test::WriteFile(dir / name, text);
  return wf::VocabFromHf(dir.path());
}

Vocab Good(const std::string& json, const Files& files = {}) {
  wf::Result<Vocab> v = Load(json, files);
  if (!v.ok()) FAIL(v.status().message());
  return *std::move(v);
}

void CheckError(const std::string& json, ErrorCode code, const std::string& text, const Files& files = {}) {
  INFO(json.substr(0, 300));
  const wf::Result<Vocab> v = Load(json, files);
  REQUIRE_FALSE(v.ok());
  INFO(v.status().message());
  CHECK(v.status().code() == code);
  CHECK(v.status().message().find(text) != std::string::npos);
}

std::string Added(int id, const std::string& content, bool special, const std::string& more = "") {
  return R"({"id":)" + std::to_string(id) + R"(,"content":")" + content + R"(","special":)" +
         (special ? "true" : "false") + more + "}";
}

}  // namespace

TEST_CASE("tokens: model.vocab, added tokens and padding to the model's rows") {
  Json j;
  j.added = "[" + Added(4, "<|end|>", true) + "," + Added(5, "<tool>", false) + "," + Added(6, "<|odd|>", false) + "," +
            Added(7, "\xE2\x96\x81\xE2\x96\x81", false) + "]";
  const Vocab v = Good(j.Text(), {{"config.json", R"({"vocab_size":10})"}});
  CHECK(v.tokens ==
        std::vector<std::string>{"a", "b", "ab", "[PAD3]", "<|end|>", "<tool>", "<|odd|>", "  ", "[PAD8]", "[PAD9]"});
  using T = TokenType;
  CHECK(v.types == std::vector<T>{T::kNormal, T::kNormal, T::kNormal, T::kUnused, T::kControl, T::kUserDefined,
                                  T::kControl, T::kUserDefined, T::kUnused, T::kUnused});
  CHECK(v.pre == "gpt-2");
  CHECK_FALSE((v.add_bos || v.add_eos));
  const Vocab few = Good(j.Text(), {{"config.json", R"({"vocab_size":4})"}});
  CHECK(few.tokens.size() == 8);
  CHECK(few.warnings.size() == 1);
}

TEST_CASE("merges as strings and as pairs are the same") {
  Json j;
  j.model = R"({"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":[["a","b"]]})";
  CHECK(Good(j.Text()).merges == std::vector<std::string>{"a b"});
  j.model = R"({"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":[["a b"," c"]]})";
  CHECK(Good(j.Text()).merges == std::vector<std::string>{"a\xC4\xA0"
                                                          "b \xC4\xA0"
                                                          "c"});
}

TEST_CASE("special ids: tokenizer_config, then special_tokens_map, then config; lists of ends") {
  Json j;
  j.added = "[" + Added(3, "<s>", true) + "," + Added(4, "</s>", true) + "," + Added(5, "<|mask|>", true) + "," +
            Added(6, "<|eot_id|>", true) + "]";
  const Vocab v = Good(j.Text(), {{"tokenizer_config.json", R"({"bos_token":{"content":"<s>"},"add_eos_token":true})"},
                                  {"special_tokens_map.json", R"({"bos_token":"</s>","eos_token":"</s>"})"},
                                  {"config.json", R"({"eos_token_id":3,"pad_token_id":1,"vocab_size":7})"},
                                  {"generation_config.json", R"({"eos_token_id":[4,6,99]})"}});
  CHECK((v.bos_id == 3 && v.eos_id == 4 && v.pad_id == 1 && v.mask_id == 5 && v.eot_id == 6 && v.unk_id == -1));
  CHECK(v.eos_ids == IdList{4, 6});
  CHECK((v.add_eos && !v.add_bos));
  const Vocab one = Good(j.Text(), {{"generation_config.json", R"({"eos_token_id":6})"}});
  CHECK(one.eos_ids == IdList{6});
}

TEST_CASE("TemplateProcessing says which token comes in front") {
  Json j;
  j.added = "[" + Added(3, "<s>", true) + "," + Added(4, "</s>", true) + "]";
  const std::string bos = R"({"SpecialToken":{"id":"<s>","type_id":0}})",
                    text = R"({"Sequence":{"id":"A","type_id":0}})",
                    eos = R"({"SpecialToken":{"id":"</s>","type_id":0}})";
  const auto post = [](const std::string& items) {
    return R"({"type":"TemplateProcessing","single":[)" + items + "]}";
  };
  j.post =
      R"({"type":"Sequence","processors":[{"type":"ByteLevel","trim_offsets":true},)" + post(bos + "," + text) + "]}";
  Vocab v = Good(j.Text());
  CHECK((v.bos_id == 3 && v.add_bos && !v.add_eos));
  v = Good(j.Text(), {{"tokenizer_config.json", R"({"add_bos_token":false})"}});
  CHECK_FALSE(v.add_bos);
  j.post = post(text + "," + eos);
  v = Good(j.Text());
  CHECK((v.eos_id == 4 && v.add_eos && !v.add_bos));
  CheckError(j.Text(), ErrorCode::kUnsupported, "not the EOS token",
             {{"tokenizer_config.json", R"({"eos_token":"<s>"})"}});
  j.post = post(bos + "," + bos + "," + text);
  CheckError(j.Text(), ErrorCode::kUnsupported, "more than one token");
  j.post = post(bos);
  CheckError(j.Text(), ErrorCode::kUnsupported, "not one sequence");
  j.post = post(R"({"SpecialToken":{"id":"<none>"}},)" + text);
  CheckError(j.Text(), ErrorCode::kFormat, "'<none>'");
  j.post = post("7");
  CheckError(j.Text(), ErrorCode::kFormat, "unknown form");
  j.post = R"({"type":"RobertaProcessing"})";
  CheckError(j.Text(), ErrorCode::kUnsupported, "post_processor RobertaProcessing");
}

TEST_CASE("chat templates: file before json before tokenizer_config") {
  const std::string json = Json().Text();
  const Files config = {{"tokenizer_config.json",
                         R"({"chat_template":[{"name":"default","template":"c"},{"name":"rag","template":"r"}]})"}};
  Vocab v = Good(json, config);
  CHECK(v.chat_template == "c");
  CHECK(v.named_chat_templates == std::vector<std::pair<std::string, std::string>>{{"rag", "r"}});
  Files more = config;
  more.emplace_back("chat_template.json", R"({"chat_template":"j"})");
  CHECK(Good(json, more).chat_template == "j");
  more.emplace_back("chat_template.jinja", "f");
  CHECK(Good(json, more).chat_template == "f");
  CHECK(Good(json).chat_template.empty());
}

TEST_CASE("pre-tokenizers are recognised by structure") {
  const auto split = [](const std::string& regex, const std::string& more = R"("behavior":"Isolated","invert":false)") {
    return R"({"type":"Split","pattern":{"Regex":")" + regex + R"("},)" + more + "}";
  };
  const auto sequence = [](const std::string& parts) {
    return R"({"type":"Sequence","pretokenizers":[)" + parts + "]}";
  };
  const std::string bytes = R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":false})";
  const std::string llama3 =
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+)";
  std::string qwen2 = llama3;
  qwen2.erase(qwen2.find("{1,3}"), 5);
  Json j;
  const auto pre = [&](const std::string& p) {
    j.pre = p;
    return Good(j.Text());
  };
  CHECK(pre(sequence(split(llama3) + "," + bytes)).pre == "smaug-bpe");
  CHECK(pre(sequence(split(llama3, R"("behavior":"Removed","invert":true)") + "," + bytes)).pre == "smaug-bpe");
  CHECK(pre(sequence(R"({"type":"Digits","individual_digits":true},)" + kByteLevel)).pre == "smollm");
  CHECK(pre(kByteLevel).pre == "gpt-2");
  j.normalizer = R"({"type":"NFC"})";
  Vocab v = pre(sequence(split(qwen2) + "," + bytes));
  CHECK((v.pre == "qwen2" && v.nfc));
  j.normalizer = R"({"type":"Sequence","normalizers":[]})";
  CHECK_FALSE(pre(sequence(split(qwen2) + "," + bytes)).nfc);
  // Unknown ones keep their patterns.
  v = pre(sequence(split("[ab]") + "," + split("c+") + "," + bytes));
  CHECK(v.pre.empty());
  CHECK(v.split_patterns == std::vector<std::string>{"[ab]", "c+"});
  CHECK(v.byte_level_at == -1);
  v = pre(sequence(kByteLevel + R"(,{"type":"Digits","individual_digits":false})"));
  CHECK(v.pre.empty());
  CHECK(v.split_patterns.size() == 2);
  CHECK(v.byte_level_at == 1);
  v = pre(sequence(R"({"type":"Split","pattern":{"String":"(a]"},"behavior":"Isolated"},)" + bytes));
  CHECK(v.split_patterns == std::vector<std::string>{"\\(a\\]"});

  const auto refuse = [&](const std::string& p, const std::string& text, ErrorCode code = ErrorCode::kUnsupported) {
    j.pre = p;
    CheckError(j.Text(), code, text);
  };
  j.normalizer = "null";
  refuse(sequence(split("a", R"("behavior":"Removed","invert":false)") + "," + bytes), "behavior Removed");
  refuse(sequence(split("a", R"("behavior":"MergedWithNext")") + "," + bytes), "behavior MergedWithNext");
  refuse(sequence(R"({"type":"Split","behavior":"Isolated"},)" + bytes), "neither a Regex nor a String",
         ErrorCode::kFormat);
  refuse(R"({"type":"Whitespace"})", "pre_tokenizer Whitespace");
  refuse(sequence(split("a") + R"(,{"type":"ByteLevel","add_prefix_space":true})"), "add_prefix_space after others");
  refuse(sequence(bytes + "," + bytes), "two ByteLevel");
  refuse("null", "without ByteLevel");
  refuse("7", "pre_tokenizer of no type");
  refuse(R"({"type":"Metaspace","replacement":"_"})", "another replacement");
  refuse(sequence(R"({"type":"Digits"},{"type":"Metaspace"})"), "Metaspace after others");
  refuse(sequence(R"({"type":"Metaspace"},{"type":"Metaspace"})"), "two Metaspace");
  j.normalizer = R"({"type":"Lowercase"})";
  refuse(kByteLevel, "normalizer Lowercase");
  j.normalizer = R"({"type":"Prepend","prepend":"x"})";
  refuse(kByteLevel, "normalizer Prepend of this form");
}

TEST_CASE("a SentencePiece-style tokenizer.json") {
  Json j;
  j.pre = "null";
  j.normalizer =
      "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"\xE2\x96\x81\"},"
      "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\xE2\x96\x81\"}]}";
  j.added = "[" + Added(0, "<unk>", true) + "," + Added(1, "<s>", true) + "]";
  j.model =
      "{\"type\":\"BPE\",\"byte_fallback\":true,\"unk_token\":\"<unk>\",\"vocab\":{\"<unk>\":0,\"<s>\":1,\"<0x21>\":2,"
      "\"a\":3,\"b\":4,\"ab\":5,\"\xE2\x96\x81\":6,\"\xE2\x96\x81"
      "ab\":7,\"zz\":8},\"merges\":[\"a b\",\"\xE2\x96\x81 ab\"]}";
  const Vocab v = Good(j.Text());
  CHECK(v.model == "llama");
  CHECK((v.add_space_prefix && !v.space_prefix_first_only && !v.space_prefix_if_missing));
  CHECK(v.unk_id == 0);
  CHECK(v.types[0] == TokenType::kUnknown);
  CHECK(v.types[1] == TokenType::kControl);
  CHECK(v.types[2] == TokenType::kByte);
  CHECK((v.scores[3] == 0 && v.scores[5] == 0 && v.scores[7] == -1));
  CHECK(v.scores[8] < -1e30f);  // no merge makes it
  CHECK(Ids(Make(v), "ab!") == IdList{7, 2});
}

TEST_CASE("broken JSON names the file and the place") {
  for (const char* text :
       {"", "{", "[1,2", "{\"a\":1,}", "{} x", "\xFF", "{\"model\":{\"type\":\"BPE\"}", "nul", "{\"a\":\"\\ud800\"}"}) {
    CheckError(text, ErrorCode::kFormat, "tokenizer.json: not valid JSON near byte");
  }
  CheckError("[]", ErrorCode::kFormat, "expected a JSON object");
  CheckError(std::string(100000, '['), ErrorCode::kFormat, "not valid JSON");
  std::string deep;
  for (int i = 0; i < 100000; ++i) deep += "{\"a\":";
  CheckError(deep, ErrorCode::kFormat, "not valid JSON");
  CheckError(Json().Text(), ErrorCode::kFormat, "config.json: not valid JSON", {{"config.json", "{"}});
  CheckError(Json().Text(), ErrorCode::kFormat, "tokenizer_config.json", {{"tokenizer_config.json", "3"}});
  const std::string whole = Json().Text();
  for (size_t n = 0; n < whole.size(); ++n) CHECK_FALSE(Load(whole.substr(0, n)).ok());
}

TEST_CASE("JSON of another shape") {
  const auto model = [](const std::string& text, ErrorCode code, const std::string& message) {
    Json j;
    j.model = text;
    CheckError(j.Text(), code, message);
  };
  CheckError("{}", ErrorCode::kFormat, "no model");
  model("7", ErrorCode::kFormat, "no model");
  model(R"({"type":"Unigram","vocab":[]})", ErrorCode::kUnsupported, "'Unigram'");
  model(R"({"type":"BPE","merges":[]})", ErrorCode::kFormat, "model.vocab");
  model(R"({"type":"BPE","vocab":[],"merges":[]})", ErrorCode::kFormat, "model.vocab");
  model(R"({"type":"BPE","vocab":{},"merges":[]})", ErrorCode::kFormat, "no tokens");
  model(R"({"type":"BPE","vocab":{"a":0}})", ErrorCode::kFormat, "model.merges");
  model(R"({"type":"BPE","vocab":{"a":0},"merges":[7]})", ErrorCode::kFormat, "merges[0]");
  model(R"({"type":"BPE","vocab":{"a":0},"merges":[["a"]]})", ErrorCode::kFormat, "merges[0]");
  model(R"({"type":"BPE","vocab":{"a":0},"merges":[["a",1]]})", ErrorCode::kFormat, "merges[0]");
  model(R"({"type":"BPE","vocab":{"a":0},"merges":["ab"]})", ErrorCode::kFormat, "merge 0");
  model(R"({"type":"BPE","vocab":{"a":-1},"merges":[]})", ErrorCode::kFormat, "id -1");
  model(R"({"type":"BPE","vocab":{"a":"0"},"merges":[]})", ErrorCode::kFormat, "another type");
  model(R"({"type":"BPE","vocab":{"a":1.5},"merges":[]})", ErrorCode::kFormat, "another type");
  model(R"({"type":"BPE","vocab":{"a":4000000000},"merges":[]})", ErrorCode::kFormat, "4000000000");
  model(R"({"type":"BPE","vocab":{"a":18446744073709551615},"merges":[]})", ErrorCode::kFormat, "another type");
  model(R"({"type":"BPE","vocab":{"a":0,"b":0},"merges":[]})", ErrorCode::kFormat, "id 0 is given to");
  model(R"({"type":"BPE","vocab":{"a":0},"merges":[],"end_of_word_suffix":"</w>"})", ErrorCode::kUnsupported,
        "end_of_word_suffix");
  Json j;
  j.added = "[7]";
  CheckError(j.Text(), ErrorCode::kFormat, "no content");
  j.added = "{}";
  CheckError(j.Text(), ErrorCode::kFormat, "added_tokens is not an array");
  j.added = R"([{"content":"x"}])";
  CheckError(j.Text(), ErrorCode::kFormat, "token 'x'");
  j.added = "[]";
  for (const char* size : {"0", "-5", "\"9\"", "99999999999", "1.5", "[]"}) {
    CheckError(j.Text(), ErrorCode::kFormat, "vocab_size",
               {{"config.json", std::string(R"({"vocab_size":)") + size + "}"}});
  }
}

TEST_CASE("what is missing") {
  const wf::test::TempDir dir;
  auto v = wf::VocabFromHf(dir.path());
  CHECK(v.status().code() == ErrorCode::kNotFound);
  CHECK(v.status().message().find("tokenizer.json") != std::string::npos);
  wf::test::WriteFile(dir / "vocab.json", R"({"a":0})");  // not without merges.txt
  CHECK(wf::VocabFromHf(dir.path()).status().code() == ErrorCode::kNotFound);
  wf::test::WriteFile(dir / "tokenizer.model", "x");
  v = wf::VocabFromHf(dir.path());
  CHECK(v.status().code() == ErrorCode::kFormat);
  CHECK(v.status().message().find("tokenizer.model: not a SentencePiece model") != std::string::npos);
  CHECK(wf::VocabFromHf("/nonexistent/folder").status().code() == ErrorCode::kNotFound);
}

TEST_CASE("flags of added tokens are kept by id") {
  Json j;
  j.added = "[" + Added(4, "<m>", true, R"(,"lstrip":true,"single_word":true,"normalized":false)") + "," +
            Added(3, "<n>", false, R"(,"rstrip":true,"normalized":true)") + "," +
            Added(5, "<o>", false, R"(,"normalized":false)") + "," + Added(6, "<p>", false) + "]";
  const Vocab v = Good(j.Text());
  CHECK(v.warnings.empty());
  using wf::TokenMatch;
  CHECK(v.matches == std::vector<TokenMatch>{{3, TokenMatch::kRstrip | TokenMatch::kNormalized},
                                             {4, TokenMatch::kLstrip | TokenMatch::kSingleWord},
                                             {6, TokenMatch::kNormalized}});
}

TEST_CASE("the converter's placeholder template is replaced for bitnet only, as in GGUF files") {
  const auto with = [](const char* kind) {
    return Good(Json().Text(), {{"config.json", std::string(R"({"model_type":")").append(kind).append("\"}")},
                                {"chat_template.jinja", "x BITNETAssistant y"}});
  };
  CHECK(with("bitnet").chat_template.find("<|eot_id|>") != std::string::npos);
  CHECK(with("bitnet").warnings.size() == 1);
  CHECK(with("llama").chat_template == "x BITNETAssistant y");
}

TEST_CASE("decoders that say something else are reported") {
  const auto with = [](const std::string& decoder) {
    Json j;
    std::string text = j.Text();
    text.replace(text.find("\"decoder\":null"), 14, "\"decoder\":" + decoder);
    return Good(text).warnings;
  };
  CHECK(with(R"({"type":"ByteLevel"})").empty());
  REQUIRE(with(R"({"type":"CTC"})").size() == 1);
  CHECK(with(R"({"type":"CTC"})")[0].find("decoder") != std::string::npos);
}

TEST_CASE("vocab.json and merges.txt") {
  const auto load = [](const Files& files) {
    const wf::test::TempDir dir;
    for (const auto& [name, text] : files) wf::test::WriteFile(dir / name, text);
    return wf::VocabFromHf(dir.path());
  };
  const Files base = {{"vocab.json", R"({"a":0,"#":1,"##":2,"<|endoftext|>":3})"},
                      {"merges.txt", "#version: 0.2\n# #\r\n"},
                      {"tokenizer_config.json", R"({"tokenizer_class":"GPT2Tokenizer"})"}};
  const auto v = load(base);
  REQUIRE(v.ok());
  CHECK((v->model == "gpt2" && v->pre == "gpt-2" && !v->nfc && !v->add_space_prefix));
  CHECK(v->merges == std::vector<std::string>{"# #"});
  CHECK(v->types[3] == TokenType::kControl);
  CHECK((v->bos_id == 3 && v->eos_id == 3 && !v->add_bos));
  const auto with = [&](const std::string& name, const std::string& text) {
    Files files = base;
    for (auto& f : files) {
      if (f.first == name) f.second = text;
    }
    files.emplace_back(name, text);
    return load(files);
  };
  const auto prefix =
      with("tokenizer_config.json", R"({"tokenizer_class":"GPT2TokenizerFast","add_prefix_space":true})");
  REQUIRE(prefix.ok());
  CHECK((prefix->add_space_prefix && prefix->space_prefix_if_missing));
  const auto qwen = with("tokenizer_config.json", R"({"tokenizer_class":"Qwen2Tokenizer"})");
  REQUIRE(qwen.ok());
  CHECK((qwen->pre == "qwen2" && qwen->nfc && qwen->bos_id == -1 && qwen->eos_id == 3));
  const auto bad = [&](const std::string& name, const std::string& text, ErrorCode code, const std::string& message) {
    const auto r = with(name, text);
    REQUIRE_FALSE(r.ok());
    INFO(r.status().message());
    CHECK(r.status().code() == code);
    CHECK(r.status().message().find(message) != std::string::npos);
  };
  bad("tokenizer_config.json", "{}", ErrorCode::kUnsupported, "no tokenizer_class");
  bad("tokenizer_config.json", R"({"tokenizer_class":"BartTokenizer"})", ErrorCode::kUnsupported, "'BartTokenizer'");
  bad("vocab.json", "[]", ErrorCode::kFormat, "vocab.json");
  bad("vocab.json", R"({"a":"0"})", ErrorCode::kFormat, "token 'a'");
  bad("merges.txt", "#version: 0.2\nab\n", ErrorCode::kFormat, "merge 0");
  bad("added_tokens.json", R"({"x":"y"})", ErrorCode::kFormat, "added_tokens.json: the id of 'x'");
  const std::string decoder = R"({"tokenizer_class":"GPT2Tokenizer","added_tokens_decoder":)";
  bad("tokenizer_config.json", decoder + "[]}", ErrorCode::kFormat, "not an object");
  bad("tokenizer_config.json", decoder + R"({"x":{"content":"y"}}})", ErrorCode::kFormat, "the id 'x'");
  bad("tokenizer_config.json", decoder + R"({"9999999999":{"content":"y"}}})", ErrorCode::kFormat, "9999999999");
  bad("tokenizer_config.json", decoder + R"({"99999999":{"content":"y"}}})", ErrorCode::kFormat, "99999999");
  bad("tokenizer_config.json", decoder + R"({"4":{}}})", ErrorCode::kFormat, "token 4 has no content");
}
