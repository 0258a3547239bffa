// SPDX-License-Identifier: Apache-2.0
// The plan of a conversion: which tensors come out of which, under which name, type and operation.
#include "tests/convert/plan_helpers.h"
#include "wf/convert/metadata-impl.h"
#include "wf/convert/source-impl.h"
#include "wf/formats/gguf_writer.h"

namespace wf {
namespace {

using test::As;
using test::Bf16;
using test::Checkpoint;
using test::Find;
using test::Get;
using test::HasNotice;
using test::MustPlan;
using test::Noise;
using test::TempDir;
using test::WhyNot;
using Shape = std::vector<uint64_t>;

std::string Names(const ConvertPlan& p) {
  std::string names;
  for (const PlannedTensor& t : p.tensors) names += t.name + " ";
  return names;
}

TEST_CASE("a checkpoint of bf16 masters becomes embedding, norms and ternary projections, layer by layer") {
  const ConvertPlan p = MustPlan({});
  CHECK(Names(p) ==
        "token_embd.weight blk.0.attn_norm.weight blk.0.attn_q.weight blk.0.attn_k.weight blk.0.attn_v.weight "
        "blk.0.attn_sub_norm.weight blk.0.attn_output.weight blk.0.ffn_norm.weight blk.0.ffn_gate.weight "
        "blk.0.ffn_up.weight blk.0.ffn_sub_norm.weight blk.0.ffn_down.weight output_norm.weight ");
  CHECK(p.config.architecture == "bitnet-b1.58");
  const PlannedTensor& down = Get(p, "blk.0.ffn_down.weight");
  CHECK(down.ne == Shape{96, 64});  // innermost first
  CHECK(down.type == TensorType::kI2_S);
  CHECK(down.op == ConvertOp::kTernarise);
  CHECK(down.bytes == 96 * 64 / 4 + 32);
  CHECK(Get(p, "token_embd.weight").type == TensorType::kF16);
  CHECK(Get(p, "output_norm.weight").type == TensorType::kF32);
  CHECK(p.sub_norm_eps < 0);
  CHECK(p.name == "model");  // the folder
  CHECK(p.notices.empty());
}

TEST_CASE("the activation, the model type and the sub-norms decide the architecture") {
  const auto architecture = [](const Checkpoint& c, Peer peer = Peer::kNone) {
    return MustPlan(c, As(OutType::kF16, peer)).config.architecture;
  };
  Checkpoint c;
  for (const char* type : {"bitnet", "llama", "qwen2"}) {  // relu2: whatever the names say
    c.config["model_type"] = "\"" + std::string(type) + "\"";
    c.tensors[Checkpoint::Q("bias")] = c.tensors[Checkpoint::Layer("self_attn.k_proj.bias")] =
        c.tensors[Checkpoint::Layer("self_attn.v_proj.bias")] = Bf16({64}, Noise);
    c.tensors[Checkpoint::Layer("self_attn.k_proj.bias")].shape = {32};
    c.tensors[Checkpoint::Layer("self_attn.k_proj.bias")].bytes.resize(64);
    c.tensors[Checkpoint::Layer("self_attn.v_proj.bias")] = c.tensors[Checkpoint::Layer("self_attn.k_proj.bias")];
    CHECK(architecture(c) == "bitnet-b1.58");
  }
  c = {};
  c.config["hidden_act"] = "\"silu\"";
  CHECK(architecture(c) == "bitnet");
  c.config["model_type"] = "\"llama\"";  // as 1bitLLM's say
  CHECK(architecture(c) == "llama");
  CHECK(architecture(c, Peer::kLlamaCpp) == "bitnet");  // where alone the peer has sub-norms
  c.tensors.erase(Checkpoint::Layer("self_attn.attn_sub_norm.weight"));
  c.tensors.erase(Checkpoint::Layer("mlp.ffn_sub_norm.weight"));
  CHECK(architecture(c) == "llama");
  c.config["model_type"] = "\"bitnet\"";
  CHECK(architecture(c) == "llama");  // `bitnet` has both norms
  CHECK(architecture(Checkpoint::Of("Qwen2ForCausalLM")) == "qwen2");
  CHECK(architecture(Checkpoint::Of("MistralForCausalLM")) == "llama");
}

TEST_CASE("each outtype has its types of projections and of the rest; norms stay F32") {
  const Checkpoint c = Checkpoint::Of("LlamaForCausalLM", {.embedding = 256, .ffn = 256, .head_dim = 128});
  const struct {
    OutType out;
    TensorType projection, embedding;
  } rows[] = {{OutType::kF32, TensorType::kF32, TensorType::kF32},
              {OutType::kF16, TensorType::kF16, TensorType::kF16},
              {OutType::kBF16, TensorType::kBF16, TensorType::kBF16},
              {OutType::kI2_S, TensorType::kI2_S, TensorType::kF16},
              {OutType::kTQ1_0, TensorType::kTQ1_0, TensorType::kF16},
              {OutType::kTQ2_0, TensorType::kTQ2_0, TensorType::kF16},
              {OutType::kIQ2_BN, TensorType::kIQ2_BN, TensorType::kF16},
              {OutType::kQ2_0, TensorType::kQ2_0, TensorType::kF16}};
  for (const auto& r : rows) {
    INFO(kOutTypeNames[static_cast<size_t>(r.out)]);
    const ConvertPlan p = MustPlan(c, As(r.out));
    CHECK(Get(p, "blk.0.attn_q.weight").type == r.projection);
    CHECK(Get(p, "token_embd.weight").type == r.embedding);
    CHECK(Get(p, "output.weight").type == r.embedding);
    CHECK(Get(p, "blk.0.attn_norm.weight").type == TensorType::kF32);
  }
  ConvertOptions o = As(OutType::kTQ2_0);
  o.embedding_type = TensorType::kQ4_K;
  CHECK(Get(MustPlan(c, o), "output.weight").type == TensorType::kQ4_K);  // the embedding's
  o.head_type = TensorType::kQ6_K;
  CHECK(Get(MustPlan(c, o), "token_embd.weight").type == TensorType::kQ4_K);
  CHECK(Get(MustPlan(c, o), "output.weight").type == TensorType::kQ6_K);
  CHECK(Get(MustPlan(c, o), "output.weight").bytes == 2048 * 210);
}

TEST_CASE("auto is I2_S for rows of whole groups, else the packed type that fits everything, else BF16") {
  const auto resolved = [](uint64_t embedding, uint64_t ffn, Peer peer = Peer::kNone) {
    const Checkpoint c = Checkpoint::Of("LlamaForCausalLM", {.embedding = embedding, .ffn = ffn, .head_dim = 64});
    return MustPlan(c, As(OutType::kAuto, peer)).options.outtype;
  };
  CHECK(resolved(128, 256) == OutType::kI2_S);
  CHECK(resolved(128, 192) == OutType::kIQ2_BN);
  CHECK(resolved(128, 160) == OutType::kI2_S);  // 128 * 160 weights are groups, though rows of 160 are not
  CHECK(resolved(72, 99) == OutType::kBF16);
  CHECK(resolved(128, 256, Peer::kLlamaCpp) == OutType::kQ2_0);
  CHECK(resolved(128, 160, Peer::kLlamaCpp) == OutType::kF16);
  CHECK(resolved(128, 256, Peer::kIk) == OutType::kF16);  // rows below 512
  const Checkpoint wide = Checkpoint::Of("LlamaForCausalLM", {.embedding = 512, .ffn = 512, .head_dim = 256});
  CHECK(MustPlan(wide, As(OutType::kAuto, Peer::kLlamaCpp)).options.outtype == OutType::kTQ2_0);
  CHECK(MustPlan(wide, As(OutType::kAuto, Peer::kIk)).options.outtype == OutType::kIQ2_BN);
}

TEST_CASE("llama's q and k are permuted by heads: weights, biases and low-rank U, nothing else") {
  Checkpoint c = Checkpoint::Of("LlamaForCausalLM");
  c.config["attention_bias"] = "true";
  for (const auto& [projection, rows] : {std::pair{"q", 64u}, {"k", 32u}, {"v", 32u}, {"o", 64u}}) {
    const std::string hf = Checkpoint::Layer("self_attn." + std::string(projection) + "_proj.");
    c.tensors[hf + "bias"] = Bf16({rows}, Noise);
    c.tensors[hf + "lrc_U"] = Bf16({rows, 4}, Noise);
    c.tensors[hf + "lrc_V"] = Bf16({64, 4}, Noise);
  }
  const ConvertPlan p = MustPlan(c);
  const std::pair<const char*, uint64_t> heads[] = {
      {"attn_q.weight", 2},  {"attn_q.bias", 2},         {"attn_q.lrc_u.weight", 2}, {"attn_k.weight", 1},
      {"attn_k.bias", 1},    {"attn_k.lrc_u.weight", 1}, {"attn_q.lrc_v.weight", 0}, {"attn_k.lrc_v.weight", 0},
      {"attn_v.weight", 0},  {"attn_v.bias", 0},         {"attn_v.lrc_u.weight", 0}, {"attn_output.weight", 0},
      {"ffn_gate.weight", 0}};
  for (const auto& [name, n] : heads) CHECK(Get(p, std::string("blk.0.") + name).permute_heads == n);
  for (const char* other : {"Qwen2ForCausalLM", "Qwen3ForCausalLM"}) {
    CHECK(Get(MustPlan(Checkpoint::Of(other)), "blk.0.attn_q.weight").permute_heads == 0);
  }
  CHECK(Get(MustPlan({}), "blk.0.attn_q.weight").permute_heads == 0);
  CHECK(Get(MustPlan(Checkpoint::Of("MixtralForCausalLM")), "blk.0.attn_q.weight").permute_heads == 2);
}

TEST_CASE("the permutation of one head of eight rows is 0 4 1 5 2 6 3 7 (formats.md 4.4)") {
  Checkpoint c = Checkpoint::Of("LlamaForCausalLM", {.heads = 8, .kv_heads = 8, .head_dim = 8});
  const ConvertPlan p = MustPlan(c, As(OutType::kF32));
  const detail::RowMap map(Get(p, "blk.0.attn_q.weight"));
  std::vector<uint64_t> rows;
  for (uint64_t i = 0; i < 16; ++i) rows.push_back(map.SourceRow(i));
  CHECK(rows == Shape{0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15});
}

TEST_CASE("RoPE scaling llama3 becomes its factors (formats.md 4.4)") {
  Checkpoint c = Checkpoint::Of("LlamaForCausalLM", {.head_dim = 64});
  c.config["rope_theta"] = "500000";
  c.config["rope_scaling"] = R"({"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                 "original_max_position_embeddings": 8192})";
  const auto check = [](const Checkpoint& model, std::vector<float> want) {
    const ConvertPlan p = MustPlan(model);
    const PlannedTensor& t = Get(p, "rope_freqs.weight");
    CHECK(t.op == ConvertOp::kConstant);
    CHECK(t.type == TensorType::kF32);
    CHECK(t.ne == Shape{want.size()});
    REQUIRE(t.values.size() == want.size());
    for (size_t i = 0; i < want.size(); ++i) CHECK(t.values[i] == Approx(want[i]).epsilon(2e-5));
  };
  std::vector<float> want(15, 1.0f);
  for (const float f : {1.6513f, 3.2923f, 9.6667f}) want.push_back(f);
  want.insert(want.end(), 14, 32.0f);
  check(c, want);
  c = Checkpoint::Of("LlamaForCausalLM", {.head_dim = 128});
  c.config["rope_theta"] = "500000";
  c.config["rope_scaling"] = R"({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                 "original_max_position_embeddings": 8192})";
  want.assign(29, 1.0f);
  for (const float f : {1.2075f, 1.5534f, 2.0263f, 2.6945f, 3.6843f, 5.2573f}) want.push_back(f);
  want.insert(want.end(), 29, 8.0f);
  check(c, want);
  CHECK(Find(MustPlan(Checkpoint::Of("LlamaForCausalLM")), "rope_freqs.weight") == nullptr);
}

TEST_CASE("qwen3 has norms on q and k of one head, qwen2 has biases") {
  ConvertPlan p = MustPlan(Checkpoint::Of("Qwen3ForCausalLM", {.head_dim = 64}));  // 2 heads of 64 in 64
  CHECK(Get(p, "blk.0.attn_q_norm.weight").ne == Shape{64});
  CHECK(Get(p, "blk.0.attn_k_norm.weight").type == TensorType::kF32);
  CHECK(Get(p, "blk.0.attn_output.weight").ne == Shape{128, 64});
  p = MustPlan(Checkpoint::Of("Qwen2ForCausalLM"));
  CHECK(Get(p, "blk.0.attn_q.bias").ne == Shape{64});
  CHECK(Get(p, "blk.0.attn_k.bias").type == TensorType::kF32);
}

TEST_CASE("a head of its own is output.weight; one that is the embedding is left out") {
  Checkpoint c = Checkpoint::Of("LlamaForCausalLM");
  CHECK(Get(MustPlan(c), "output.weight").ne == Shape{64, 2048});
  c.config["tie_word_embeddings"] = "true";
  CHECK(HasNotice(MustPlan(c), "'lm_head.weight' is kept"));
  c.tensors["lm_head.weight"] = c.tensors["model.embed_tokens.weight"];
  CHECK(Find(MustPlan(c), "output.weight") == nullptr);
  CHECK(HasNotice(MustPlan(c), "'lm_head.weight' is left out: it is the embedding"));
  ConvertOptions o;
  o.head_type = TensorType::kQ8_0;  // of another type it is kept
  CHECK(Get(MustPlan(c, o), "output.weight").type == TensorType::kQ8_0);
  c.tensors.erase("lm_head.weight");
  CHECK(Find(MustPlan(c), "output.weight") == nullptr);
  CHECK(WhyNot(c, o) == "--head-type: the embedding is this model's head; use --embedding-type");
}

TEST_CASE("architectures that are always tied keep no head, unless it is another: then they refuse") {
  Checkpoint c;
  c.tensors["lm_head.weight"] = c.tensors["model.embed_tokens.weight"];
  c.config["tie_word_embeddings"] = "false";
  CHECK(Find(MustPlan(c), "output.weight") == nullptr);
  c.tensors["lm_head.weight"].bytes[0] ^= 1;
  CHECK_THAT(WhyNot(c), Catch::Contains("'lm_head.weight' differs from the embedding"));
  c.config["tie_word_embeddings"] = "true";
  CHECK(MustPlan(c).notices.size() == 1);
}

TEST_CASE("metadata: keys of an architecture with experts, RoPE scaling and diffusion") {
  const TempDir dir;
  Checkpoint c = Checkpoint::Of("Qwen3MoeForCausalLM");
  c.config["rope_scaling"] = R"({"type": "linear", "factor": 4})";
  c.config["rms_norm_eps"] = "1e-6";
  ConvertOptions o = As(OutType::kIQ2_BN);
  o.diffusion_style = "causal";
  o.block_size = 32;
  o.sub_block_size = 8;
  o.threshold = 0.5f;
  o.vocab_only = true;
  Result<ConvertPlan> plan = PlanConversion(c.Write(dir), o);
  INFO(plan.status().message());
  REQUIRE(plan.ok());
  CHECK(plan->tensors.empty());
  GgufWriter w;
  detail::DescribeFile(*plan, &w);
  REQUIRE(w.Begin(dir / "out.gguf").ok());
  REQUIRE(w.Finish().ok());
  const std::string bytes = test::ReadFile(dir / "out.gguf");
  CHECK(bytes.size() == plan->file_bytes);
  const Result<Gguf> g = Gguf::Open(dir / "out.gguf");
  REQUIRE(g.ok());
  const auto number = [&](const char* key) { return *g->GetUint(std::string("qwen3moe.") + key); };
  CHECK(*g->GetString("general.architecture") == "qwen3moe");
  CHECK(*g->GetUint("general.file_type") == 137);
  CHECK(number("attention.head_count") == 2);
  CHECK(number("attention.head_count_kv") == 1);
  CHECK(number("attention.key_length") == 32);
  CHECK(number("attention.value_length") == 32);
  CHECK(number("rope.dimension_count") == 32);
  CHECK(number("feed_forward_length") == 128);
  CHECK(number("expert_count") == 4);
  CHECK(number("expert_used_count") == 2);
  CHECK(number("expert_feed_forward_length") == 64);
  CHECK(g->Find("qwen3moe.expert_shared_feed_forward_length") == nullptr);
  CHECK(*g->GetBoolOr("qwen3moe.expert_weights_norm", false));
  CHECK(*g->GetString("qwen3moe.rope.scaling.type") == "linear");
  CHECK(*g->GetFloat("qwen3moe.rope.scaling.factor") == 4);
  CHECK(*g->GetBoolOr("qwen3moe.bitlinear", false));
  CHECK(*g->GetString("qwen3moe.diffusion.style") == "causal");
  CHECK(number("diffusion.block_size") == 32);
  CHECK(number("diffusion.sub_block_size") == 8);
  CHECK(*g->GetFloat("qwen3moe.diffusion.threshold") == 0.5);
  CHECK(number("vocab_size") == 2048);
  CHECK(*g->GetUint("tokenizer.ggml.mask_token_id") == 2047);  // <|mask|>, by its name
}

TEST_CASE("the vocabulary of a folder without weights can be converted alone") {
  const TempDir dir;
  const std::string folder = Checkpoint::Of("LlamaForCausalLM").Write(dir);
  std::filesystem::remove(folder + "/model.safetensors");
  ConvertOptions o;
  CHECK_FALSE(PlanConversion(folder, o).ok());
  o.vocab_only = true;
  const Result<ConvertPlan> p = PlanConversion(folder, o);
  REQUIRE(p.ok());
  CHECK(p->config.architecture == "llama");
  CHECK(p->vocab.tokens.size() == 2048);
}

TEST_CASE("sgl-kernel's format keeps the checkpoint's names and layout, everything else F32") {
  Checkpoint c = Checkpoint::Of("LlamaForCausalLM", {.embedding = 128, .ffn = 256, .head_dim = 64});
  c.config["rope_scaling"] = R"({"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                 "original_max_position_embeddings": 8192})";
  c.tensors[Checkpoint::Q("lrc_U")] = Bf16({128, 4}, Noise);
  c.tensors[Checkpoint::Q("lrc_V")] = Bf16({128, 4}, Noise);
  c.Rename(Checkpoint::Layer("mlp.up_proj.weight"), "module._orig_mod." + Checkpoint::Layer("mlp.up_proj.weight"));
  const ConvertPlan p = MustPlan(c, As(OutType::kSgl));
  CHECK(Find(p, "rope_freqs.weight") == nullptr);  // the config says it
  const PlannedTensor& q = Get(p, Checkpoint::Q("weight"));
  CHECK(q.type == TensorType::kI2_S);
  CHECK(q.permute_heads == 0);
  CHECK(q.bytes == 128 * 128 / 4);
  CHECK(Find(p, Checkpoint::Layer("mlp.up_proj.weight")) != nullptr);
  CHECK(Get(p, Checkpoint::Q("lrc_V")).ne == Shape{4, 128});
  CHECK(Get(p, Checkpoint::Q("lrc_V")).op == ConvertOp::kFloat);
  for (const PlannedTensor& t : p.tensors) {
    if (t.op == ConvertOp::kFloat) CHECK(t.type == TensorType::kF32);
  }
}

TEST_CASE("an sgl-kernel file is a checkpoint; its own scales multiply, and the tokenizer lies elsewhere") {
  const TempDir dir;
  const Checkpoint c = Checkpoint::Of("LlamaForCausalLM", {.embedding = 128, .ffn = 256, .head_dim = 64});
  const std::string folder = c.Write(dir), sgl = dir / "model.bin";
  Result<ConvertPlan> to_sgl = PlanConversion(folder, As(OutType::kSgl));
  REQUIRE(to_sgl.ok());
  const Result<ConvertReport> written = ExecuteConversion(*to_sgl, sgl);
  INFO(written.status().message());
  REQUIRE(written.ok());
  CHECK(std::filesystem::file_size(sgl) == to_sgl->file_bytes);
  ConvertOptions o;
  CHECK_THAT(PlanConversion(sgl, o).status().message(), Catch::Contains("name a folder with --tokenizer"));
  o.tokenizer = folder;
  const Result<ConvertPlan> p = PlanConversion(sgl, o);
  INFO(p.status().message());
  REQUIRE(p.ok());
  CHECK(p->config.architecture == "llama");
  CHECK(p->name == "model");
  const PlannedTensor& q = Get(*p, "blk.0.attn_q.weight");
  CHECK(q.op == ConvertOp::kUnpack);
  CHECK(q.packed == PackedForm::kI2sRows);
  CHECK(q.permute_heads == 2);
  for (const ConvertedTensor& t : written->tensors) {
    if (t.name == Checkpoint::Q("weight")) CHECK(q.parts[0].scale == t.scales[0]);
  }
}

TEST_CASE("what is odd is noted, and strict makes an error of it") {
  Checkpoint c = Checkpoint::Of("LlamaForCausalLM");
  const std::string odd =
      "no quantization_config: projections are taken for BitLinear masters and ternarised by absmean";
  CHECK(HasNotice(MustPlan(c), odd));
  ConvertOptions o;
  o.strict = true;
  CHECK(WhyNot(c, o) == "--strict: " + odd);
  c.config["quantization_config"] = R"({"quant_method": "bitnet"})";
  CHECK(MustPlan(c, o).notices.empty());
  CHECK(MustPlan({}, o).notices.empty());  // BitNetForCausalLM says it by its class
  c.tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = Bf16({16}, Noise);
  c.tensors["value_head.weight"] = Bf16({64}, Noise);
  CHECK(MustPlan(c).notices.size() == 2);
  c.files["adapter_config.json"] = R"({"lora_alpha": 8})";
  CHECK(HasNotice(MustPlan(c), "the adapter is not used"));
  c.files["generation_config.json"] = R"({"top_p": 0})";
  CHECK(HasNotice(MustPlan(c), "top_p: expected a number above 0, at most 1, found '0'; it is left out"));
  ConvertOptions vocabulary;
  vocabulary.vocab_only = true;
  CHECK(HasNotice(MustPlan(c, vocabulary), "top_p: "));
}

TEST_CASE("embedding rows beyond the tokenizer's tokens are padded, and the mask token is found by its name") {
  Checkpoint c;
  c.config["vocab_size"] = "2100";
  c.tensors["model.embed_tokens.weight"] = Bf16({2100, 64}, Noise);
  CHECK(MustPlan(c).vocab.tokens.size() == 2100);
  c.config["mask_token_id"] = "2099";
  CHECK(MustPlan(c).vocab.mask_id == 2099);
  c.config.erase("mask_token_id");
  c.config["diffusion_style"] = "\"causal\"";
  CHECK(MustPlan(c).vocab.mask_id == 2047);
  ConvertOptions o;
  o.mask_token = 5;
  CHECK(MustPlan(c, o).vocab.mask_id == 5);
}

}  // namespace
}  // namespace wf
