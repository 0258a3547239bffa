// SPDX-License-Identifier: Apache-2.0
// The plan of ternary weights in all the forms that checkpoints have them: masters, packed, scaled, stacks of experts,
// and the norms on their inputs.
#include "tests/convert/plan_helpers.h"

namespace wf {
namespace {

using test::As;
using test::Bf16;
using test::Checkpoint;
using test::F32;
using test::Find;
using test::Get;
using test::HasNotice;
using test::MustPlan;
using test::Noise;
using test::WhyNot;
using Shape = std::vector<uint64_t>;

TEST_CASE("experts are stacked in order, with a scale for each; the router is F32") {
  for (const char* name : {"Qwen2MoeForCausalLM", "Qwen3MoeForCausalLM", "MixtralForCausalLM"}) {
    INFO(name);
    const ConvertPlan p = MustPlan(Checkpoint::Of(name, {.embedding = 128, .ffn = 128, .head_dim = 64}));
    const PlannedTensor& gate = Get(p, "blk.0.ffn_gate_exps.weight");
    CHECK(gate.ne == Shape{128, 64, 4});
    CHECK(gate.op == ConvertOp::kTernarise);
    CHECK(gate.bytes == 128 * 64 * 4 / 4 + 32);
    REQUIRE(gate.parts.size() == 4);
    const std::string block =
        std::string("model.layers.0.") + (name[0] == 'M' ? "block_sparse_moe" : "mlp") + ".experts.";
    for (size_t x = 0; x < 4; ++x) {
      CHECK(gate.parts[x].source->name ==
            block + std::to_string(x) + (name[0] == 'M' ? ".w1" : ".gate_proj") + ".weight");
      CHECK(gate.parts[x].first_row == 0);
    }
    CHECK(Get(p, "blk.0.ffn_down_exps.weight").ne == Shape{64, 128, 4});
    for (const char* part : {"gate", "up", "down"}) {
      const PlannedTensor& scale = Get(p, std::string("blk.0.ffn_") + part + "_exps.scale");
      CHECK(scale.op == ConvertOp::kScaleRest);
      CHECK(scale.ne == Shape{4});
      CHECK((&scale - 1)->name == std::string("blk.0.ffn_") + part + "_exps.weight");  // follows its tensor
    }
    CHECK(Get(p, "blk.0.ffn_gate_inp.weight").ne == Shape{128, 4});
    CHECK(Get(p, "blk.0.ffn_gate_inp.weight").type == TensorType::kF32);
    CHECK(Find(p, "blk.0.ffn_gate.weight") == nullptr);
    const bool shared = std::string(name) == "Qwen2MoeForCausalLM";
    CHECK((Find(p, "blk.0.ffn_gate_shexp.weight") != nullptr) == shared);
    if (!shared) continue;
    CHECK(Get(p, "blk.0.ffn_down_shexp.weight").ne == Shape{128, 128});
    CHECK(Get(p, "blk.0.ffn_down_shexp.weight").type == TensorType::kI2_S);
    CHECK(Get(p, "blk.0.ffn_gate_inp_shexp.weight").ne == Shape{128});
    CHECK(Get(p, "blk.0.ffn_gate_inp_shexp.weight").type == TensorType::kF32);
  }
}

TEST_CASE("fused experts are taken apart by rows, gates before ups") {
  Checkpoint c = Checkpoint::Of("Qwen3MoeForCausalLM");
  for (auto it = c.tensors.begin(); it != c.tensors.end();) {
    it = it->first.find(".experts.") != std::string::npos ? c.tensors.erase(it) : std::next(it);
  }
  c.tensors[Checkpoint::Layer("mlp.experts.gate_up_proj")] = Bf16({4, 128, 64}, Noise);
  c.tensors[Checkpoint::Layer("mlp.experts.down_proj")] = Bf16({4, 64, 64}, Noise);
  const ConvertPlan p = MustPlan(c);
  const auto rows = [&](const char* name) {
    Shape first;
    for (const PlannedPart& part : Get(p, name).parts) first.push_back(part.first_row);
    return first;
  };
  CHECK(rows("blk.0.ffn_gate_exps.weight") == Shape{0, 128, 256, 384});
  CHECK(rows("blk.0.ffn_up_exps.weight") == Shape{64, 192, 320, 448});
  CHECK(rows("blk.0.ffn_down_exps.weight") == Shape{0, 64, 128, 192});
  CHECK(Get(p, "blk.0.ffn_up_exps.weight").source_name() == "model.layers.0.mlp.experts.gate_up_proj");
  c.tensors[Checkpoint::Layer("mlp.experts.gate_up_proj")].shape = {4, 64, 128};
  CHECK_THAT(WhyNot(c), Catch::Contains("experts.gate_up_proj': expected shape [4, 128, 64], found [4, 64, 128]"));
}

TEST_CASE("a scale that a type cannot hold stands beside the tensor") {
  Checkpoint c = Checkpoint::Of("LlamaForCausalLM", {.embedding = 256, .ffn = 256, .head_dim = 128});
  const auto has_scale = [&](OutType t, Peer peer = Peer::kNone) {
    return Find(MustPlan(c, As(t, peer)), "blk.0.attn_q.scale") != nullptr;
  };
  for (const OutType t : {OutType::kF16, OutType::kBF16, OutType::kTQ1_0, OutType::kTQ2_0, OutType::kQ2_0}) {
    INFO(kOutTypeNames[static_cast<size_t>(t)]);
    CHECK(has_scale(t));
    const ConvertPlan p = MustPlan(c, As(t));
    const PlannedTensor& scale = Get(p, "blk.0.attn_q.scale");
    CHECK(scale.ne == Shape{1});
    CHECK((&scale - 1)->name == "blk.0.attn_q.weight");
  }
  for (const OutType t : {OutType::kF32, OutType::kI2_S, OutType::kIQ2_BN}) CHECK_FALSE(has_scale(t));
  CHECK_FALSE(has_scale(OutType::kTQ2_0, Peer::kLlamaCpp));  // which may fail on it: rounded instead
  CHECK_FALSE(has_scale(OutType::kF16, Peer::kLlamaCpp));
  // A packed weight's scale is known, and 0.5 fits everywhere.
  c.config["quantization_config"] = R"({"quant_method": "bitnet", "linear_class": "autobitlinear"})";
  c.tensors[Checkpoint::Q("weight")] = {"U8", {64, 256}, std::string(64 * 256, '\x55')};
  c.tensors[Checkpoint::Q("weight_scale")] = Bf16({1}, [](uint64_t) { return 0.5f; });
  CHECK_FALSE(has_scale(OutType::kTQ2_0));
  c.tensors[Checkpoint::Q("weight_scale")] = F32({1}, [](uint64_t) { return 0.3f; });
  CHECK(has_scale(OutType::kTQ2_0));
}

TEST_CASE("packed weights: bitlinear divides by weight_scale, autobitlinear multiplies, each expert by its own") {
  Checkpoint c;
  c.config["quantization_config"] = R"({"quant_method": "bitnet", "linear_class": "autobitlinear"})";
  c.tensors[Checkpoint::Q("weight")] = {"U8", {16, 64}, std::string(16 * 64, '\x55')};
  c.tensors[Checkpoint::Q("weight_scale")] = Bf16({1}, [](uint64_t) { return 0.5f; });
  const auto scale = [&] { return Get(MustPlan(c), "blk.0.attn_q.weight").parts[0].scale; };
  CHECK(scale() == 0.5f);
  CHECK(Get(MustPlan(c), "blk.0.attn_q.weight").op == ConvertOp::kUnpack);
  CHECK(Get(MustPlan(c), "blk.0.attn_q.weight").packed == PackedForm::kRowBlocks);
  c.config["quantization_config"] = R"({"quant_method": "bitnet"})";
  CHECK(scale() == 2.0f);
  c.tensors[Checkpoint::Q("weight_scale")].shape = {};
  CHECK(scale() == 2.0f);
  c.config.erase("quantization_config");
  CHECK(scale() == 2.0f);
  CHECK(HasNotice(MustPlan(c), "weight_scale is taken to divide"));

  c = Checkpoint::Of("Qwen3MoeForCausalLM");
  c.config["quantization_config"] = R"({"quant_method": "bitnet"})";
  for (uint64_t x = 0; x < 4; ++x) {
    const std::string up = Checkpoint::Layer("mlp.experts.") + std::to_string(x) + ".up_proj.weight";
    c.tensors[up] = {"U8", {16, 64}, std::string(16 * 64, '\x55')};
    c.tensors[up + "_scale"] = Bf16({1}, [x](uint64_t) { return static_cast<float>(x + 1); });
  }
  const ConvertPlan p = MustPlan(c);
  CHECK(Get(p, "blk.0.ffn_up_exps.weight").op == ConvertOp::kUnpack);
  for (size_t x = 0; x < 4; ++x) {
    CHECK(Get(p, "blk.0.ffn_up_exps.weight").parts[x].scale == 1.0f / static_cast<float>(x + 1));
  }
}

TEST_CASE("weight_quantized is the one to use, beside an empty weight or a full one") {
  Checkpoint c;
  c.tensors[Checkpoint::Q("weight_quantized")] = Bf16({64, 64}, Noise);
  ConvertPlan p = MustPlan(c);
  CHECK(Get(p, "blk.0.attn_q.weight").source_name() == Checkpoint::Q("weight_quantized"));
  CHECK(Get(p, "blk.0.attn_q.weight").op == ConvertOp::kTernary);
  CHECK(HasNotice(p, "q_proj.weight' is not used: weight_quantized is there"));
  c.tensors[Checkpoint::Q("weight")] = {"BF16", {0}, ""};
  CHECK(MustPlan(c).notices.empty());
}

TEST_CASE("SubLN pairs become norms with epsilon 1e-6, on all projections if need be, in every architecture") {
  for (const char* name : {"BitNetForCausalLM", "LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"}) {
    INFO(name);
    Checkpoint c = Checkpoint::Of(name);
    c.tensors.erase(Checkpoint::Layer("self_attn.attn_sub_norm.weight"));
    c.tensors.erase(Checkpoint::Layer("mlp.ffn_sub_norm.weight"));
    const auto pair = [&](const std::string& p, uint64_t in) {
      c.Rename(Checkpoint::Layer(p + ".weight"), Checkpoint::Layer(p + ".1.weight"));
      c.tensors[Checkpoint::Layer(p + ".0.weight")] = Bf16({in}, Noise);
    };
    pair("self_attn.o_proj", 64);
    pair("mlp.down_proj", 128);
    ConvertPlan p = MustPlan(c);
    CHECK(p.sub_norm_eps == 1e-6f);
    CHECK(Get(p, "blk.0.attn_sub_norm.weight").source_name() == "model.layers.0.self_attn.o_proj.0.weight");
    CHECK(Get(p, "blk.0.ffn_sub_norm.weight").ne == Shape{128});
    for (const char* proj :
         {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"}) {
      pair(proj, 64);
    }
    p = MustPlan(c);
    for (const char* norm :
         {"attn_q_norm_in", "attn_k_norm_in", "attn_v_norm_in", "ffn_gate_norm_in", "ffn_up_norm_in"}) {
      CHECK(Get(p, std::string("blk.0.") + norm + ".weight").ne == Shape{64});
    }
  }
}

TEST_CASE("norms of quantization_config are sub-norms where the architecture needs them, with its epsilon") {
  Checkpoint c;
  c.config["quantization_config"] = R"({"quant_method": "bitnet", "use_rms_norm": true, "rms_norm_eps": 1e-4})";
  c.tensors.erase(Checkpoint::Layer("self_attn.attn_sub_norm.weight"));
  c.tensors.erase(Checkpoint::Layer("mlp.ffn_sub_norm.weight"));
  for (const char* p : {"self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o", "mlp.gate", "mlp.up", "mlp.down"}) {
    c.tensors[Checkpoint::Layer(std::string(p) + "_proj.rms_norm.weight")] =
        Bf16({std::string(p) == "mlp.down" ? 96u : 64u}, Noise);
  }
  const ConvertPlan p = MustPlan(c);
  CHECK(p.sub_norm_eps == 1e-4f);
  CHECK(Get(p, "blk.0.attn_sub_norm.weight").source_name() == "model.layers.0.self_attn.o_proj.rms_norm.weight");
  CHECK(Find(p, "blk.0.attn_q_norm_in.weight") != nullptr);
  c.tensors.erase(Checkpoint::Q("rms_norm.weight"));
  CHECK_THAT(WhyNot(c), Catch::Contains("'model.layers.0.self_attn.q_proj.rms_norm.weight' is missing"));
}

}  // namespace
}  // namespace wf
