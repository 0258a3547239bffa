// SPDX-License-Identifier: Apache-2.0
// Low-rank corrections in a plan: every spelling and orientation of semantics.md 3 becomes lrc_u {rank, out} and
// lrc_v {in, rank}.
#include <algorithm>

#include "tests/convert/plan_helpers.h"

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
using test::WhyNot;
using Shape = std::vector<uint64_t>;

// K of the test's layer: 32 out, 64 in.
std::string K(const std::string& rest) { return Checkpoint::Layer("self_attn.k_proj." + rest); }

TEST_CASE("factors lie as their names or their shapes say") {
  const struct {
    const char *u, *v;
    Shape u_shape, v_shape;
    ConvertOp u_op, v_op;
  } rows[] = {
      {"lrc_U", "lrc_V", {32, 4}, {64, 4}, ConvertOp::kFloat, ConvertOp::kTranspose},
      {"lrc_U", "lrc_V", {32, 4}, {4, 64}, ConvertOp::kFloat, ConvertOp::kFloat},
      {"lrc_U", "lrc_V", {4, 32}, {64, 4}, ConvertOp::kTranspose, ConvertOp::kTranspose},
      {"lrc_U.weight", "lrc_V.weight", {4, 32}, {4, 64}, ConvertOp::kTranspose, ConvertOp::kFloat},
      {"1.lrc_U", "1.lrc_V", {32, 4}, {64, 4}, ConvertOp::kFloat, ConvertOp::kTranspose},
      {"lrc_U_linear.weight", "lrc_V_linear.weight", {32, 4}, {4, 64}, ConvertOp::kFloat, ConvertOp::kFloat},
      {"lora_B.weight", "lora_A.weight", {32, 4}, {4, 64}, ConvertOp::kFloat, ConvertOp::kFloat},
      {"lora_B.default.weight", "lora_A.default.weight", {32, 4}, {4, 64}, ConvertOp::kFloat, ConvertOp::kFloat},
      // A rank of all 32 rows: what the documentation says.
      {"lrc_U", "lrc_V", {32, 32}, {64, 32}, ConvertOp::kFloat, ConvertOp::kTranspose},
  };
  for (const auto& r : rows) {
    INFO(r.u);
    Checkpoint c;
    c.config["lora_alpha"] = "4";
    c.tensors[K(r.u)] = Bf16(r.u_shape, Noise);
    c.tensors[K(r.v)] = Bf16(r.v_shape, Noise);
    const uint64_t rank = r.u_shape[0] == 32 ? r.u_shape[1] : r.u_shape[0];
    const ConvertPlan p = MustPlan(c);
    CHECK(Get(p, "blk.0.attn_k.lrc_u.weight").ne == Shape{rank, 32});
    CHECK(Get(p, "blk.0.attn_k.lrc_u.weight").op == r.u_op);
    CHECK(Get(p, "blk.0.attn_k.lrc_v.weight").ne == Shape{64, rank});
    CHECK(Get(p, "blk.0.attn_k.lrc_v.weight").op == r.v_op);
    CHECK(Get(p, "blk.0.attn_k.lrc_u.weight").type == TensorType::kF16);
  }
}

TEST_CASE("names that fix the orientation do not take another; factors must agree") {
  const struct {
    const char *u, *v;
    Shape u_shape, v_shape;
    const char* message;
  } rows[] = {
      {"lrc_U_linear.weight",
       "lrc_V_linear.weight",
       {32, 4},
       {64, 4},
       "lrc_U_linear.weight': expected shapes [32, rank] and [rank, 64] with one rank of 1 to 32, found [32, 4] and "
       "[64, 4] of 'model.layers.0.self_attn.k_proj.lrc_V_linear.weight'"},
      {"lrc_U",
       "lrc_V",
       {32, 4},
       {64, 5},
       "lrc_U': expected shapes [32, rank] and [64, rank] (or their transposes) with one rank of 1 to 32, found [32, "
       "4] "
       "and [64, 5]"},
      {"lrc_U", "lrc_V", {32, 33}, {64, 33}, "with one rank of 1 to 32, found [32, 33] and [64, 33]"},
      {"lrc_U", "lrc_V", {128}, {64, 4}, "found [128] and [64, 4]"},
      {"lrc_U", "lrc_V_linear.weight", {32, 4}, {4, 64}, "are low-rank factors of different kinds"},
      {"lora_B.weight",
       "lora_A.weight",
       {32, 4},
       {4, 64},
       "LoRA's alpha is not known: neither adapter_config.json nor "
       "config.json has lora_alpha"},
  };
  for (const auto& r : rows) {
    Checkpoint c;
    c.tensors[K(r.u)] = Bf16(r.u_shape, Noise);
    c.tensors[K(r.v)] = Bf16(r.v_shape, Noise);
    CHECK_THAT(WhyNot(c), Catch::Contains(r.message));
  }
  Checkpoint c;
  c.tensors[K("lrc_V")] = Bf16({64, 4}, Noise);
  CHECK_THAT(WhyNot(c), Catch::Contains("k_proj.lrc_V': the other low-rank factor is missing"));
  c.tensors[K("lrc_U")] = Bf16({32, 4}, Noise);
  c.tensors[K("lrc_U")].dtype = "I16";
  CHECK_THAT(WhyNot(c), Catch::Contains("k_proj.lrc_U': expected dtype F32, F16 or BF16, found I16"));
}

TEST_CASE("the rank is each projection's own, and rank 0 is no correction") {
  Checkpoint c;
  c.tensors[Checkpoint::Q("lrc_U")] = Bf16({64, 16}, Noise);
  c.tensors[Checkpoint::Q("lrc_V")] = Bf16({64, 16}, Noise);
  c.tensors[K("lrc_U")] = Bf16({32, 3}, Noise);
  c.tensors[K("lrc_V")] = Bf16({64, 3}, Noise);
  c.tensors[Checkpoint::Layer("mlp.up_proj.lrc_U")] = Bf16({96, 0}, Noise);
  c.tensors[Checkpoint::Layer("mlp.up_proj.lrc_V")] = Bf16({64, 0}, Noise);
  const ConvertPlan p = MustPlan(c);
  CHECK(Get(p, "blk.0.attn_q.lrc_u.weight").ne == Shape{16, 64});
  CHECK(Get(p, "blk.0.attn_k.lrc_v.weight").ne == Shape{64, 3});
  CHECK(Find(p, "blk.0.ffn_up.lrc_u.weight") == nullptr);
}

TEST_CASE("LoRA's factor is alpha / rank, or alpha / sqrt(rank), on one of the two factors") {
  Checkpoint c;
  c.files["adapter_config.json"] = R"({"peft_type": "LORA", "lora_alpha": 16, "r": 4})";
  c.tensors[K("lora_B.weight")] = Bf16({32, 4}, Noise);
  c.tensors[K("lora_A.weight")] = Bf16({4, 64}, Noise);
  ConvertPlan p = MustPlan(c);
  CHECK(Get(p, "blk.0.attn_k.lrc_u.weight").factor == 4.0f);
  CHECK(Get(p, "blk.0.attn_k.lrc_v.weight").factor == 1.0f);
  CHECK(p.notices.empty());
  c.files["adapter_config.json"] = R"({"lora_alpha": 16, "use_rslora": true})";
  CHECK(Get(MustPlan(c), "blk.0.attn_k.lrc_u.weight").factor == 8.0f);
  c.files["adapter_config.json"] = R"({"lora_alpha": 16, "r": 8})";
  CHECK_THAT(WhyNot(c), Catch::Contains("lora_B.weight': expected rank 8, as the configuration says, found 4"));
}

TEST_CASE("factors trained as rounded are rounded; without the number of bits that is noted") {
  Checkpoint c;
  c.tensors[K("lrc_U_linear.weight")] = Bf16({32, 4}, Noise);
  c.tensors[K("lrc_V_linear.weight")] = Bf16({4, 64}, Noise);
  CHECK(HasNotice(MustPlan(c), "lrc_U_linear and lrc_V_linear are taken as they are"));
  c.config["lrc_config"] = R"({"qlrc": {"enabled": true, "bits": 4}})";
  const ConvertPlan p = MustPlan(c);
  CHECK(p.notices.empty());
  CHECK(Get(p, "blk.0.attn_k.lrc_u.weight").fake_bits == 4);
  CHECK(Get(p, "blk.0.attn_k.lrc_v.weight").fake_bits == 4);
}

TEST_CASE("factors have the type that was asked for; U stays F16, with a notice, where its rank is no whole block") {
  Checkpoint c;
  c.tensors[K("lrc_U")] = Bf16({32, 32}, Noise);
  c.tensors[K("lrc_V")] = Bf16({64, 32}, Noise);
  ConvertOptions o;
  for (const TensorType t : {TensorType::kF32, TensorType::kBF16, TensorType::kQ8_0, TensorType::kQ4_0}) {
    o.lrc_type = t;
    CHECK(Get(MustPlan(c, o), "blk.0.attn_k.lrc_u.weight").type == t);
    CHECK(Get(MustPlan(c, o), "blk.0.attn_k.lrc_v.weight").type == t);
  }
  CHECK(Get(MustPlan(c, As(OutType::kBF16)), "blk.0.attn_k.lrc_v.weight").type == TensorType::kBF16);
  o.lrc_type = TensorType::kQ6_K;
  CHECK(WhyNot(c, o) == "--lrc-type: type 'Q6_K' is not one of f32, f16, bf16, q8_0, q4_0");
  o.lrc_type = TensorType::kQ8_0;
  c.tensors[K("lrc_U")] = Bf16({32, 12}, Noise);
  c.tensors[K("lrc_V")] = Bf16({64, 12}, Noise);
  const ConvertPlan p = MustPlan(c, o);
  CHECK(Get(p, "blk.0.attn_k.lrc_u.weight").type == TensorType::kF16);
  CHECK(Get(p, "blk.0.attn_k.lrc_v.weight").type == TensorType::kQ8_0);
  const std::string notice = "'blk.0.attn_k.lrc_u.weight' is F16: rank 12 is not a multiple of 32, which Q8_0 needs";
  CHECK(std::find(p.notices.begin(), p.notices.end(), notice) != p.notices.end());
}

TEST_CASE("a shared expert may be corrected and normed, an expert may not") {
  const auto with = [](const char* name, const Shape& shape) {
    Checkpoint c = Checkpoint::Of("Qwen2MoeForCausalLM");
    c.tensors[Checkpoint::Layer(name)] = Bf16(shape, Noise);
    return c;
  };
  Checkpoint c = with("mlp.shared_expert.up_proj.lrc_U", {128, 4});
  c.tensors[Checkpoint::Layer("mlp.shared_expert.up_proj.lrc_V")] = Bf16({64, 4}, Noise);
  c.tensors[Checkpoint::Layer("mlp.shared_expert.down_proj.norm.weight")] = Bf16({128}, Noise);
  const ConvertPlan p = MustPlan(c);
  CHECK(Get(p, "blk.0.ffn_up_shexp.lrc_u.weight").ne == Shape{4, 128});
  CHECK(Get(p, "blk.0.ffn_down_shexp_norm_in.weight").ne == Shape{128});
  CHECK_THAT(WhyNot(with("mlp.experts.2.up_proj.lrc_U", {64, 4})),
             Catch::Contains("experts.2.up_proj.lrc_U': a low-rank correction of an expert is not supported"));
  CHECK_THAT(WhyNot(with("mlp.experts.2.down_proj.0.weight", {64})),
             Catch::Contains("experts.2.down_proj.0.weight': a norm on an expert's input is not supported"));
}

}  // namespace
}  // namespace wf
