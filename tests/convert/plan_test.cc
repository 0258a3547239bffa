// SPDX-License-Identifier: Apache-2.0
// The plan of a conversion: which tensors come out of which, and what is refused before a weight is read.
#include "tests/catch.h"
#include "tests/convert/checkpoint.h"
#include "wf/convert/convert.h"

namespace wf {
namespace {

using test::Bf16;
using test::Checkpoint;
using test::Noise;
using test::TempDir;

Result<ConvertPlan> Plan(const Checkpoint& c, OutType type = OutType::kI2_S) {
  const TempDir dir;
  return PlanConversion(c.Write(dir), type);
}
ConvertPlan MustPlan(const Checkpoint& c, OutType type = OutType::kI2_S) {
  Result<ConvertPlan> r = Plan(c, type);
  INFO(r.status().message());
  REQUIRE(r.ok());
  return *std::move(r);
}
std::string WhyNot(const Checkpoint& c, OutType type = OutType::kI2_S) {
  const Result<ConvertPlan> r = Plan(c, type);
  return r.ok() ? "planned" : r.status().message();
}
const PlannedTensor* Find(const ConvertPlan& p, const std::string& name) {
  for (const PlannedTensor& t : p.tensors) {
    if (t.name == name) return &t;
  }
  return nullptr;
}

TEST_CASE("a checkpoint of bf16 masters becomes embedding, norms and ternary projections, layer by layer") {
  const ConvertPlan p = MustPlan({});
  std::string names;
  for (const PlannedTensor& t : p.tensors) names += t.name + " ";
  CHECK(names ==
        "token_embd.weight blk.0.attn_norm.weight blk.0.attn_q.weight blk.0.attn_k.weight blk.0.attn_v.weight "
        "blk.0.attn_sub_norm.weight blk.0.attn_output.weight blk.0.ffn_norm.weight blk.0.ffn_gate.weight "
        "blk.0.ffn_up.weight blk.0.ffn_sub_norm.weight blk.0.ffn_down.weight output_norm.weight ");
  const PlannedTensor* down = Find(p, "blk.0.ffn_down.weight");
  CHECK(down->ne == std::vector<uint64_t>{96, 64});  // innermost first
  CHECK(down->type == TensorType::kI2_S);
  CHECK(down->op == ConvertOp::kTernarise);
  CHECK(down->bytes == 96 * 64 / 4 + 32);
  CHECK(Find(p, "token_embd.weight")->type == TensorType::kF16);
  CHECK(Find(p, "output_norm.weight")->type == TensorType::kF32);
  CHECK(p.sub_norm_eps < 0);
  CHECK(p.name == "model");  // the folder
}

TEST_CASE("each outtype has its types of projections and embedding; norms stay F32") {
  const struct {
    OutType out;
    TensorType projection, embedding;
  } rows[] = {{OutType::kF32, TensorType::kF32, TensorType::kF32},
              {OutType::kF16, TensorType::kF16, TensorType::kF16},
              {OutType::kBF16, TensorType::kBF16, TensorType::kBF16},
              {OutType::kI2_S, TensorType::kI2_S, TensorType::kF16}};
  for (const auto& r : rows) {
    const ConvertPlan p = MustPlan({}, r.out);
    CHECK(Find(p, "blk.0.attn_q.weight")->type == r.projection);
    CHECK(Find(p, "token_embd.weight")->type == r.embedding);
    CHECK(Find(p, "blk.0.attn_norm.weight")->type == TensorType::kF32);
  }
  CHECK(*ParseOutType("bf16") == OutType::kBF16);
  CHECK(ParseOutType("q4_0").status().message() == "unknown outtype 'q4_0'; known: f32, f16, bf16, i2_s");
}

TEST_CASE("SubLN pairs become norms with epsilon 1e-6, on all seven projections if need be") {
  Checkpoint c;
  c.config["architectures"] = R"(["BitnetForCausalLM"])";
  c.Rename(Checkpoint::Layer("self_attn.attn_sub_norm.weight"), Checkpoint::Layer("self_attn.o_proj.0.weight"));
  c.Rename(Checkpoint::Layer("self_attn.o_proj.weight"), Checkpoint::Layer("self_attn.o_proj.1.weight"));
  c.Rename(Checkpoint::Layer("mlp.ffn_sub_norm.weight"), Checkpoint::Layer("mlp.down_proj.0.weight"));
  c.Rename(Checkpoint::Layer("mlp.down_proj.weight"), Checkpoint::Layer("mlp.down_proj.1.weight"));
  ConvertPlan p = MustPlan(c);
  CHECK(p.sub_norm_eps == 1e-6f);
  CHECK(Find(p, "blk.0.attn_sub_norm.weight")->source->name == "model.layers.0.self_attn.o_proj.0.weight");
  CHECK(Find(p, "blk.0.ffn_sub_norm.weight") != nullptr);
  for (const char* proj :
       {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"}) {
    c.Rename(Checkpoint::Layer(std::string(proj) + ".weight"), Checkpoint::Layer(std::string(proj) + ".1.weight"));
    c.tensors[Checkpoint::Layer(std::string(proj) + ".0.weight")] = Bf16({64}, Noise);
  }
  p = MustPlan(c);
  for (const char* norm :
       {"attn_q_norm_in", "attn_k_norm_in", "attn_v_norm_in", "ffn_gate_norm_in", "ffn_up_norm_in"}) {
    CHECK(Find(p, std::string("blk.0.") + norm + ".weight") != nullptr);
  }
}

TEST_CASE("norms whose epsilons differ are refused: the file has one") {
  Checkpoint c;
  c.Rename(Checkpoint::Q("weight"), Checkpoint::Q("1.weight"));
  c.tensors[Checkpoint::Q("0.weight")] = Bf16({64}, Noise);  // 1e-6 beside rms_norm_eps 1e-5
  CHECK_THAT(WhyNot(c), Catch::Contains("norms with different epsilons are not supported"));
  c.config["rms_norm_eps"] = "1e-6";
  MustPlan(c);
}

TEST_CASE("a second norm on one projection is refused") {
  Checkpoint c;
  c.tensors[Checkpoint::Layer("self_attn.o_proj.rms_norm.weight")] = Bf16({64}, Noise);
  CHECK_THAT(WhyNot(c), Catch::Contains("are two norms for one projection"));
}

TEST_CASE("low-rank factors in every spelling become lrc_u {rank, out} and lrc_v {in, rank}") {
  Checkpoint c;
  const std::string k = Checkpoint::Layer("self_attn.k_proj.");
  c.tensors[Checkpoint::Q("lrc_U")] = Bf16({64, 8}, Noise);
  c.tensors[Checkpoint::Q("lrc_V")] = Bf16({64, 8}, Noise);
  c.tensors[k + "lrc_U_linear.weight"] = Bf16({32, 4}, Noise);
  c.tensors[k + "lrc_V_linear.weight"] = Bf16({4, 64}, Noise);  // transposed already
  const ConvertPlan p = MustPlan(c);
  CHECK(Find(p, "blk.0.attn_q.lrc_u.weight")->ne == std::vector<uint64_t>{8, 64});
  CHECK(Find(p, "blk.0.attn_q.lrc_v.weight")->ne == std::vector<uint64_t>{64, 8});
  CHECK(Find(p, "blk.0.attn_q.lrc_v.weight")->op == ConvertOp::kTranspose);
  CHECK(Find(p, "blk.0.attn_k.lrc_u.weight")->ne == std::vector<uint64_t>{4, 32});
  CHECK(Find(p, "blk.0.attn_k.lrc_v.weight")->ne == std::vector<uint64_t>{64, 4});
  CHECK(Find(p, "blk.0.attn_k.lrc_v.weight")->op == ConvertOp::kFloat);
  CHECK(Find(p, "blk.0.attn_k.lrc_v.weight")->type == TensorType::kF16);
  CHECK(Find(MustPlan(c, OutType::kBF16), "blk.0.attn_k.lrc_v.weight")->type == TensorType::kBF16);

  c.tensors.erase(k + "lrc_U_linear.weight");
  CHECK_THAT(WhyNot(c), Catch::Contains("k_proj.lrc_V_linear.weight': the other low-rank factor is missing"));
  c.tensors[k + "lrc_U_linear.weight"] = Bf16({32, 5}, Noise);
  CHECK_THAT(WhyNot(c), Catch::Contains("lrc_V_linear.weight': expected shape [5, 64], found [4, 64]"));
  c.tensors[k + "lrc_U_linear.weight"] = Bf16({32, 33}, Noise);
  CHECK_THAT(WhyNot(c), Catch::Contains("expected shape [32, rank] with a rank of 1 to 32, found [32, 33]"));
}

TEST_CASE("packed weights need a quarter of the rows, U8 and a usable scale") {
  Checkpoint c;
  c.config["quantization_config"] = R"({"quant_method": "bitnet", "linear_class": "autobitlinear"})";
  c.tensors[Checkpoint::Q("weight")] = {"U8", {16, 64}, std::string(16 * 64, '\x55')};
  CHECK_THAT(WhyNot(c), Catch::Contains("'model.layers.0.self_attn.q_proj.weight_scale' is missing"));
  c.tensors[Checkpoint::Q("weight_scale")] = Bf16({1}, [](uint64_t) { return 0.5f; });
  CHECK(Find(MustPlan(c), "blk.0.attn_q.weight")->scale == 0.5f);
  CHECK(Find(MustPlan(c), "blk.0.attn_q.weight")->op == ConvertOp::kUnpack);
  c.config["quantization_config"] = R"({"quant_method": "bitnet"})";  // bitlinear divides
  CHECK(Find(MustPlan(c), "blk.0.attn_q.weight")->scale == 2.0f);
  c.tensors[Checkpoint::Q("weight_scale")].shape = {};
  CHECK(Find(MustPlan(c), "blk.0.attn_q.weight")->scale == 2.0f);
  for (const float bad :
       {0.0f, -1.0f, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    c.tensors[Checkpoint::Q("weight_scale")] = Bf16({1}, [bad](uint64_t) { return bad; });
    CHECK_THAT(WhyNot(c), Catch::Contains("q_proj.weight_scale': expected a finite scale above 0, found"));
  }
  c.tensors[Checkpoint::Q("weight")].shape = {64, 16};
  CHECK_THAT(WhyNot(c), Catch::Contains("expected shape [16, 64] (four rows of [64, 64] in a byte), found [64, 16]"));
}

TEST_CASE("missing tensors, wrong shapes and wrong types are named") {
  Checkpoint c;
  c.tensors.erase("model.norm.weight");
  CHECK_THAT(WhyNot(c), Catch::Contains("tensor 'model.norm.weight' is missing"));
  c = {};
  c.tensors.erase(Checkpoint::Layer("mlp.up_proj.weight"));
  CHECK_THAT(WhyNot(c), Catch::Contains("tensor 'model.layers.0.mlp.up_proj.weight' is missing"));
  c = {};
  c.tensors.erase(Checkpoint::Layer("self_attn.attn_sub_norm.weight"));
  CHECK_THAT(WhyNot(c), Catch::Contains("'model.layers.0.self_attn.attn_sub_norm.weight' is missing"));
  c = {};
  c.tensors[Checkpoint::Q("weight")] = Bf16({32, 64}, Noise);
  CHECK_THAT(WhyNot(c), Catch::Contains("model.safetensors: tensor 'model.layers.0.self_attn.q_proj.weight': expected "
                                        "shape [64, 64], found [32, 64]"));
  c = {};
  c.config["vocab_size"] = "2000";
  CHECK_THAT(WhyNot(c), Catch::Contains("'model.embed_tokens.weight': expected shape [2000, 64], found [2048, 64]"));
  c = {};
  c.tensors[Checkpoint::Q("weight")].dtype = "I16";
  CHECK_THAT(WhyNot(c), Catch::Contains("expected dtype F32, F16, BF16 or (packed) U8, found I16"));
  c = {};
  c.tensors["model.norm.weight"].dtype = "I16";
  CHECK_THAT(WhyNot(c), Catch::Contains("'model.norm.weight': expected dtype F32, F16 or BF16, found I16"));
}

TEST_CASE("left-over tensors are refused where they would change the result, and noted elsewhere") {
  for (const char* name : {"model.layers.0.self_attn.q_norm.weight", "model.layers.0.self_attn.q_proj.lora_A.weight",
                           "model.layers.0.self_attn.q_proj.salient_weight", "lm_head.bias", "model.layers.x.weight"}) {
    Checkpoint c;
    c.tensors[name] = Bf16({64}, Noise);
    CHECK_THAT(WhyNot(c), Catch::Contains(std::string("tensor '") + name +
                                          "' is not known, and leaving it out would change the result"));
  }
  Checkpoint c;
  c.tensors["model.layers.1.input_layernorm.weight"] = Bf16({64}, Noise);
  CHECK_THAT(WhyNot(c), Catch::Contains("belongs to layer 1, but num_hidden_layers is 1"));
  c = {};
  c.tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = Bf16({16}, Noise);
  c.tensors["value_head.weight"] = Bf16({64}, Noise);
  CHECK(MustPlan(c).notices.size() == 2);
  c = {};
  c.tensors["module.model.norm.weight"] = Bf16({64}, Noise);
  CHECK_THAT(WhyNot(c), Catch::Contains("stand for the same thing"));
}

TEST_CASE("a head of its own is left out only if it is the embedding or tied to it") {
  Checkpoint c;
  c.tensors["lm_head.weight"] = c.tensors["model.embed_tokens.weight"];
  c.config["tie_word_embeddings"] = "false";
  CHECK(Find(MustPlan(c), "output.weight") == nullptr);
  c.tensors["lm_head.weight"].bytes[0] ^= 1;
  CHECK_THAT(WhyNot(c), Catch::Contains("'lm_head.weight' differs from the embedding"));
  c.config["tie_word_embeddings"] = "true";
  CHECK(MustPlan(c).notices.size() == 1);
  c.config["tie_word_embeddings"] = "false";
  c.tensors.erase("lm_head.weight");
  CHECK_THAT(WhyNot(c), Catch::Contains("tie_word_embeddings is false"));
  c.config.erase("tie_word_embeddings");
  MustPlan(c);
}

TEST_CASE("I2_S refuses a tensor that is not a whole number of groups, and other outtypes take it") {
  Checkpoint c;
  c.config["intermediate_size"] = "99";  // 99 * 64 = 49.5 * 128
  c.tensors[Checkpoint::Layer("mlp.gate_proj.weight")] = Bf16({99, 64}, Noise);
  c.tensors[Checkpoint::Layer("mlp.up_proj.weight")] = Bf16({99, 64}, Noise);
  c.tensors[Checkpoint::Layer("mlp.down_proj.weight")] = Bf16({64, 99}, Noise);
  c.tensors[Checkpoint::Layer("mlp.ffn_sub_norm.weight")] = Bf16({99}, Noise);
  CHECK_THAT(WhyNot(c), Catch::Contains("mlp.gate_proj.weight': I2_S cannot hold it: [99, 64] has 6336 weights, not a "
                                        "multiple of 128; use --outtype f16, bf16 or f32"));
  MustPlan(c, OutType::kF16);
}

TEST_CASE("tokenizer and embedding must fit each other") {
  Checkpoint c;
  c.files.erase("tokenizer.json");
  CHECK_THAT(WhyNot(c), Catch::Contains("tokenizer: ") && Catch::Contains("tokenizer.json"));
  c = {};
  c.config["vocab_size"] = "2000";
  c.tensors["model.embed_tokens.weight"] = Bf16({2000, 64}, Noise);
  CHECK_THAT(WhyNot(c), Catch::Contains("tokenizer.json: has 2048 tokens, but config.json's vocab_size is 2000"));
  c.config["vocab_size"] = "2100";
  c.config["mask_token_id"] = "2099";
  c.tensors["model.embed_tokens.weight"] = Bf16({2100, 64}, Noise);
  const ConvertPlan p = MustPlan(c);  // padded
  CHECK(p.vocab.tokens.size() == 2100);
  CHECK(p.vocab.mask_id == 2099);
}

TEST_CASE("a folder with PyTorch weights only says what is needed") {
  const TempDir dir;
  const std::string folder = Checkpoint().Write(dir);
  std::filesystem::remove(folder + "/model.safetensors");
  CHECK_THAT(PlanConversion(folder, OutType::kI2_S).status().message(), Catch::Contains("no *.safetensors file"));
  test::WriteFile(folder + "/pytorch_model.bin", "PK");
  CHECK_THAT(PlanConversion(folder, OutType::kI2_S).status().message(),
             Catch::Contains("has only PyTorch .bin weights, *.safetensors are needed"));
}

}  // namespace
}  // namespace wf
