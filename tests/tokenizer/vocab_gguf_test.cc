// SPDX-License-Identifier: Apache-2.0
// Vocabularies out of GGUF metadata: defaults for absent keys, known faults of published files, and arrays that
// lie.
#include "tests/tokenizer/helpers.h"
#include "wf/tokenizer/pretokenize.h"

using wf::GgufWriter;
using wf::TokenType;
using wf::Vocab;
using wf::test::AddToken;
using wf::test::ByteVocab;
using wf::test::Ids;
using wf::test::Make;
using wf::test::SpmVocab;
using wf::test::TempDir;
using wf::test::VocabOf;
using IdList = std::vector<int32_t>;
using Strings = std::vector<std::string>;

namespace {

// Three tokens and a merge; `more` adds keys.
wf::Result<Vocab> Small(const std::string& arch, const std::function<void(GgufWriter*)>& more,
                        const char* model = "gpt2") {
  return VocabOf([&](GgufWriter* w) {
    w->SetString("general.architecture", arch);
    w->SetString("tokenizer.ggml.model", model);
    w->SetStrings("tokenizer.ggml.tokens", {"a", "b", "ab"});
    more(w);
  });
}

void CheckError(const wf::Result<Vocab>& r, wf::ErrorCode code, const std::string& text) {
  INFO(text);
  REQUIRE_FALSE(r.ok());
  CHECK(r.status().code() == code);
  INFO(r.status().message());
  CHECK(r.status().message().find(text) != std::string::npos);
}

bool Warns(const Vocab& v, const std::string& text) {
  for (const std::string& w : v.warnings) {
    if (w.find(text) != std::string::npos) return true;
  }
  return false;
}

}  // namespace

TEST_CASE("a missing pre-tokenizer name is llama-bpe for bitnet, else the default") {
  const auto nothing = [](GgufWriter*) {};
  for (const char* arch : {"bitnet", "bitnet-b1.58", "bitnet-25"}) {
    const auto v = Small(arch, nothing);
    REQUIRE(v.ok());
    CHECK(v->pre == "llama-bpe");
    CHECK((v->ignore_merges && v->add_bos));
    CHECK(Warns(*v, "tokenizer.ggml.pre"));
  }
  const auto v = Small("llama", nothing);
  REQUIRE(v.ok());
  CHECK(v->pre == "default");
  CHECK_FALSE((v->ignore_merges || v->add_bos));
  CHECK((v->bos_id == -1 && v->eos_id == -1 && v->unk_id == -1));
}

TEST_CASE("the converter's placeholder template is replaced for bitnet only") {
  const auto with = [](GgufWriter* w) { w->SetString("tokenizer.chat_template", "x BITNETAssistant y"); };
  const auto v = Small("bitnet-b1.58", with);
  REQUIRE(v.ok());
  CHECK(v->chat_template.find("BITNET") == std::string::npos);
  CHECK(v->chat_template.find("<|eot_id|>") != std::string::npos);
  CHECK(Warns(*v, "chat_template"));
  CHECK(Small("llama", with)->chat_template == "x BITNETAssistant y");
}

TEST_CASE("generation stops at <|eot_id|> though the file's EOS is another") {
  const auto v = VocabOf([](GgufWriter* w) {
    w->SetString("general.architecture", "bitnet-b1.58");
    w->SetString("tokenizer.ggml.model", "gpt2");
    w->SetStrings("tokenizer.ggml.tokens", {"a", "<|end_of_text|>", "<|eot_id|>"});
    w->SetU32("tokenizer.ggml.eos_token_id", 1);
  });
  REQUIRE(v.ok());
  CHECK(v->eot_id == 2);
  CHECK(Warns(*v, "generation stops at <|eot_id|> (2)"));
  Vocab copy = *v;
  CHECK(Make(copy).eog() == IdList{1, 2});
  // Silent where a file says it itself, and for other models.
  const auto ends = [](const char* arch, const char* key) {
    return VocabOf([&](GgufWriter* w) {
      w->SetString("general.architecture", arch);
      w->SetString("tokenizer.ggml.model", "gpt2");
      w->SetString("tokenizer.ggml.pre", "llama-bpe");
      w->SetStrings("tokenizer.ggml.tokens", {"a", "<|end_of_text|>", "<|eot_id|>"});
      w->SetU32(key, 2);
    });
  };
  CHECK(ends("bitnet-b1.58", "tokenizer.ggml.eos_token_id")->warnings.empty());
  CHECK(ends("bitnet-b1.58", "tokenizer.ggml.eot_token_id")->warnings.empty());
  CHECK(ends("bitnet-b1.58", "wf.tokenizer.eos_token_ids")->warnings.empty());
  CHECK(ends("llama", "x")->eot_id == -1);
}

TEST_CASE("a missing name is llama-bpe for Llama 3's own vocabulary, too") {
  const auto v = [](const char* text) {
    return VocabOf([&](GgufWriter* w) {
      std::vector<std::string> tokens;
      for (int i = 0; i < 128256; ++i) tokens.push_back(i == 128000 ? text : std::to_string(i));
      w->SetString("general.architecture", "llama");
      w->SetString("tokenizer.ggml.model", "gpt2");
      w->SetStrings("tokenizer.ggml.tokens", tokens);
    });
  };
  const auto llama3 = v("<|begin_of_text|>");
  CHECK(llama3->pre == "llama-bpe");
  CHECK(Warns(*llama3, "tokenizer.ggml.pre is missing, assuming llama-bpe"));
  const auto other = v("<s>");
  CHECK(other->pre == "default");
  CHECK(Warns(*other, "tokenizer.ggml.pre is missing, assuming default"));
}

TEST_CASE("a caller can ask for another pre-tokenizer") {
  const TempDir dir;
  GgufWriter writer;
  writer.SetString("general.architecture", "bitnet-b1.58");
  writer.SetString("tokenizer.ggml.model", "gpt2");
  writer.SetStrings("tokenizer.ggml.tokens", {"a", "b", "ab"});
  REQUIRE(writer.Begin(dir / "v.gguf").ok());
  REQUIRE(writer.Finish().ok());
  const auto gguf = wf::Gguf::Open(dir / "v.gguf");
  REQUIRE(gguf.ok());
  const auto v = wf::VocabFromGguf(*gguf, "default");  // what bitnet.cpp assumes
  REQUIRE(v.ok());
  CHECK((v->pre == "default" && !v->ignore_merges && !v->add_bos && v->warnings.empty()));
  CHECK(wf::VocabFromGguf(*gguf)->pre == "llama-bpe");
  CheckError(wf::VocabFromGguf(*gguf, "nonsense"), wf::ErrorCode::kUnsupported, "expected one of llama-bpe");
}

TEST_CASE("falcon3 is mainline's, but falcon_e in a file with Microsoft's tensors") {
  const auto with = [](uint32_t type) {
    // A file by hand: the writer knows no such type. Two keys and a tensor of 128 elements, 64 bytes.
    std::string f = "GGUF";
    const auto put = [&](auto value) { f.append(reinterpret_cast<const char*>(&value), sizeof(value)); };
    const auto text = [&](const std::string& s) {
      put(static_cast<uint64_t>(s.size()));
      f += s;
    };
    put(uint32_t{3});
    put(uint64_t{1});
    put(uint64_t{3});
    for (const auto& [key, value] : {std::pair{"tokenizer.ggml.model", "gpt2"}, {"tokenizer.ggml.pre", "falcon3"}}) {
      text(key);
      put(uint32_t{8});
      text(value);
    }
    text("tokenizer.ggml.tokens");
    put(uint32_t{9});
    put(uint32_t{8});
    put(uint64_t{2});
    text("a");
    text("b");
    text("blk.0.ffn_up.weight");
    put(uint32_t{1});
    put(uint64_t{128});
    put(type);
    put(uint64_t{0});
    f.resize((f.size() + 31) / 32 * 32 + 512, '\0');
    const auto gguf = wf::Gguf::Parse(f, "memory");
    if (!gguf.ok()) FAIL(gguf.status().message());
    auto v = wf::VocabFromGguf(*gguf);
    if (!v.ok()) FAIL(v.status().message());
    return *std::move(v);
  };
  const Vocab mainline = with(0);
  CHECK((mainline.pre == "falcon3" && mainline.ignore_merges && mainline.warnings.empty()));
  const Vocab microsoft = with(36);
  CHECK((microsoft.pre == "falcon_e" && !microsoft.ignore_merges));
  CHECK(Warns(microsoft, "falcon3"));
}

TEST_CASE("only our own key makes a byte-level vocabulary put a space in front") {
  const auto with = [](bool ours) {
    return Small("llama", [&](GgufWriter* w) {
      w->SetString("tokenizer.ggml.pre", "gpt-2");
      w->SetBool("tokenizer.ggml.add_space_prefix", true);
      if (ours) w->SetBool("wf.tokenizer.space_prefix_if_missing", true);
    });
  };
  CHECK_FALSE(with(false)->add_space_prefix);
  CHECK(with(true)->add_space_prefix);
}

TEST_CASE("flags of tokens: lists of one length, ids that exist") {
  const auto with = [](const std::vector<int32_t>& ids, const std::vector<int32_t>& flags) {
    return Small("llama", [&](GgufWriter* w) {
      w->SetString("tokenizer.ggml.pre", "gpt-2");
      w->SetI32s("wf.tokenizer.match_token_ids", ids);
      w->SetI32s("wf.tokenizer.match_flags", flags);
    });
  };
  CHECK(with({2, 0}, {3, 8})->matches == std::vector<wf::TokenMatch>{{0, 8}, {2, 3}});
  const auto bad = with({1, 7, -1, 1}, {1, 1, 1, 2});
  CHECK(bad->matches == std::vector<wf::TokenMatch>{{1, 1}});
  CHECK(Warns(*bad, "3 flags"));
  CheckError(with({1, 2}, {1}), wf::ErrorCode::kFormat, "match_flags has 1 elements");
}

TEST_CASE("names decide flags, keys override them") {
  const auto pre = [](const char* name) {
    return Small("llama", [&](GgufWriter* w) { w->SetString("tokenizer.ggml.pre", name); });
  };
  CHECK(pre("llama-bpe")->ignore_merges);
  CHECK(pre("smaug-bpe")->ignore_merges == false);
  CHECK(pre("qwen2")->nfc);
  CHECK(pre("gpt-2")->add_bos == false);
  CheckError(pre("deepseek-v3"), wf::ErrorCode::kUnsupported, "unknown pre-tokenizer 'deepseek-v3', expected one of");
  const auto v = Small("llama", [](GgufWriter* w) {
    w->SetString("tokenizer.ggml.pre", "llama-bpe");
    w->SetBool("tokenizer.ggml.add_bos_token", false);
    w->SetU32("tokenizer.ggml.add_eos_token", 1);  // integers serve for bools
    w->SetBool("wf.tokenizer.ignore_merges", false);
  });
  REQUIRE(v.ok());
  CHECK((!v->add_bos && v->add_eos && !v->ignore_merges));
}

TEST_CASE("SentencePiece defaults") {
  const auto v = Small(
      "llama",
      [](GgufWriter* w) {
        w->SetF32s("tokenizer.ggml.scores", {0, 0, 1});
      },
      "llama");
  REQUIRE(v.ok());
  CHECK((v->bos_id == 1 && v->eos_id == 2 && v->unk_id == 0));
  CHECK((v->add_bos && !v->add_eos && v->add_space_prefix));
}

TEST_CASE("special ids: any integer type, out of range is ignored with a warning") {
  const auto v = Small("llama", [](GgufWriter* w) {
    w->SetU64("tokenizer.ggml.bos_token_id", 2);
    w->SetI32("tokenizer.ggml.eos_token_id", -1);
    w->SetU32("tokenizer.ggml.unknown_token_id", 3);
    w->SetU32("tokenizer.ggml.mask_token_id", 0xFFFFFFFF);
    w->SetI32s("wf.tokenizer.eos_token_ids", {1, 7, -4});
  });
  REQUIRE(v.ok());
  CHECK((v->bos_id == 2 && v->eos_id == -1 && v->unk_id == -1 && v->mask_id == -1));
  CHECK(v->eos_ids == IdList{1});
  CHECK(Warns(*v, "unknown_token_id"));
  CHECK(Warns(*v, "mask_token_id"));
  CHECK(Warns(*v, "2 ids that are none"));
}

TEST_CASE("arrays of the wrong type or length") {
  const auto with = [](const std::function<void(GgufWriter*)>& f, const char* model = "gpt2") {
    return Small("bitnet", f, model);
  };
  using wf::ErrorCode;
  CheckError(with([](GgufWriter* w) {
               w->SetF32s("tokenizer.ggml.scores", {0, 1});
             }),
             ErrorCode::kFormat, "2 scores for 3 tokens");
  CheckError(with([](GgufWriter*) {}, "llama"), ErrorCode::kFormat, "0 scores for 3 tokens");
  CheckError(with([](GgufWriter* w) { w->SetI32s("tokenizer.ggml.token_type", {1}); }), ErrorCode::kFormat,
             "1 token types for 3");
  CheckError(with([](GgufWriter* w) {
               w->SetI32s("tokenizer.ggml.token_type", {1, 9, 1});
             }),
             ErrorCode::kFormat, "token_type[1] is 9");
  CheckError(with([](GgufWriter* w) {
               w->SetF32s("tokenizer.ggml.token_type", {1, 1, 1});
             }),
             ErrorCode::kFormat, "token_type");
  CheckError(with([](GgufWriter* w) {
               w->SetStrings("tokenizer.ggml.scores", {"a", "b", "c"});
             }),
             ErrorCode::kFormat, "scores");
  CheckError(with([](GgufWriter* w) { w->SetI32s("tokenizer.ggml.merges", {1}); }), ErrorCode::kFormat, "merges");
  CheckError(with([](GgufWriter* w) { w->SetString("tokenizer.ggml.bos_token_id", "1"); }), ErrorCode::kFormat,
             "bos_token_id");
  CheckError(with([](GgufWriter* w) { w->SetU32("tokenizer.chat_template", 1); }), ErrorCode::kFormat, "chat_template");
  CheckError(with([](GgufWriter* w) { w->SetU32("tokenizer.ggml.pre", 1); }), ErrorCode::kFormat, "pre");
  CheckError(with([](GgufWriter*) {}, "bert"), ErrorCode::kUnsupported, "'bert'");
  CheckError(VocabOf([](GgufWriter* w) { w->SetString("general.architecture", "x"); }), ErrorCode::kNotFound,
             "tokenizer.ggml.model");
  CheckError(VocabOf([](GgufWriter* w) { w->SetString("tokenizer.ggml.model", "gpt2"); }), ErrorCode::kNotFound,
             "tokens");
  CheckError(VocabOf([](GgufWriter* w) {
               w->SetString("tokenizer.ggml.model", "gpt2");
               w->SetStrings("tokenizer.ggml.tokens", {});
             }),
             ErrorCode::kFormat, "no tokens");
}

TEST_CASE("a token of absurd length") {
  CheckError(VocabOf([](GgufWriter* w) {
               w->SetString("tokenizer.ggml.model", "gpt2");
               w->SetStrings("tokenizer.ggml.tokens", {"a", std::string(5000, 'x')});
             }),
             wf::ErrorCode::kLimit, "token 1 has 5000 bytes");
}

TEST_CASE("an array of bytes serves for token types by value, not by cast") {
  const std::string raw("\1\3\1", 3);
  const auto v = Small("bitnet", [&](GgufWriter* w) {
    wf::GgufValue value;
    value.key = "tokenizer.ggml.token_type";
    value.type = wf::GgufValueType::kArray;
    value.element = wf::GgufValueType::kU8;
    value.count = 3;
    value.raw = raw;
    w->SetRaw(value);
  });
  REQUIRE(v.ok());
  CHECK(v->types == std::vector<TokenType>{TokenType::kNormal, TokenType::kControl, TokenType::kNormal});
}

TEST_CASE("longer scores and types than tokens are cut") {
  const auto v = Small("bitnet", [](GgufWriter* w) {
    w->SetF32s("tokenizer.ggml.scores", {0, 1, 2, 3});
    w->SetI32s("tokenizer.ggml.token_type", {1, 1, 1, 1});
  });
  REQUIRE(v.ok());
  CHECK((v->scores.size() == 3 && v->types.size() == 3));
  CHECK(Warns(*v, "scores has 4"));
}

TEST_CASE("merges without two parts") {
  for (const char* merge : {"ab", "", " ", " ab", "a ", "a"}) {
    CheckError(Small("bitnet",
                     [&](GgufWriter* w) {
                       w->SetStrings("tokenizer.ggml.merges", {"a b", merge});
                     }),
               wf::ErrorCode::kFormat, "merge 1");
  }
}

TEST_CASE("byte tokens that name no byte") {
  for (const char* text : {"<0x-1>", "<0xGG>", "<0x1>", "<0x100>", "0x41", "<0x41", "<0X41>", "<0x 1>", "<0x+1>", ""}) {
    INFO(text);
    CHECK(wf::ByteTokenValue(text) == -1);
    CheckError(VocabOf([&](GgufWriter* w) {
                 w->SetString("tokenizer.ggml.model", "llama");
                 w->SetStrings("tokenizer.ggml.tokens", {"a", "b", text});
                 w->SetF32s("tokenizer.ggml.scores", {0, 0, 0});
                 w->SetI32s("tokenizer.ggml.token_type", {1, 1, 6});
               }),
               wf::ErrorCode::kFormat, "byte token 2");
  }
  CHECK(wf::ByteTokenValue("<0x00>") == 0);
  CHECK(wf::ByteTokenValue("<0xfF>") == 255);
}

TEST_CASE("duplicate and empty tokens are kept, the first one is used") {
  const auto v = VocabOf([](GgufWriter* w) {
    w->SetString("general.architecture", "bitnet");
    w->SetString("tokenizer.ggml.model", "gpt2");
    w->SetStrings("tokenizer.ggml.tokens", {"a", "", "a", "", "[PAD4]"});
    w->SetI32s("tokenizer.ggml.token_type", {1, 1, 1, 3, 5});
  });
  REQUIRE(v.ok());
  CHECK(Warns(*v, "2 tokens repeat"));
  Vocab copy = *v;
  const wf::Tokenizer t = Make(copy);
  CHECK(Ids(t, "a", false, true) == IdList{0});
  CHECK(Ids(t, "[PAD4]", false, true).empty());  // unused: not recognised, and its characters have no token
}

TEST_CASE("everything that a vocabulary holds survives writing and reading") {
  Vocab v = ByteVocab();
  const int32_t c = AddToken(&v, "<c>", TokenType::kControl), u = AddToken(&v, "<u>", TokenType::kUserDefined);
  AddToken(&v, "[PAD]", TokenType::kUnused);
  AddToken(&v, "<?>", TokenType::kUnknown);
  AddToken(&v, "ab", TokenType::kNormal);
  v.merges = {"a b"};
  v.pre.clear();
  v.split_patterns = {"a+", "\\p{N}"};
  v.byte_level_at = 1;
  v.ignore_merges = v.nfc = v.add_bos = v.add_eos = true;
  v.bos_id = v.eos_id = v.eot_id = v.eom_id = v.sep_id = v.pad_id = v.mask_id = c;
  v.unk_id = u + 2;
  v.fim_pad_id = v.fim_rep_id = v.fim_sep_id = u;
  v.eos_ids = {c, u};
  v.suppress_ids = {u};
  v.matches = {{c, 5}, {u, 10}};
  v.chat_template = "{{ x }}";
  v.named_chat_templates = {{"tool_use", "t"}, {"rag", "r"}};
  const auto same = [](const Vocab& in) {
    const auto back = VocabOf([&](GgufWriter* w) { WriteVocab(in, w); });
    if (!back.ok()) FAIL(back.status().message());
    return *back == in;
  };
  CHECK(same(v));
  for (const char* name : {"llama-bpe", "smaug-bpe", "qwen2", "falcon_e", "default"}) {
    Vocab named = ByteVocab();
    named.pre = name;
    CHECK(same(named));
    named.ignore_merges = true;
    CHECK(same(named));
  }
  Vocab spm = SpmVocab();
  CHECK(same(spm));
  spm.bos_id = spm.eos_id = spm.unk_id = -1;
  spm.add_bos = spm.add_space_prefix = false;
  spm.space_prefix_first_only = spm.space_prefix_if_missing = true;
  spm.merges = {"a b"};
  spm.split_patterns = {"a+"};
  spm.remove_extra_whitespaces = spm.fuse_unk = true;
  CHECK(same(spm));
  Vocab other = v;
  other.mask_id = -1;
  CHECK_FALSE(other == v);
}
