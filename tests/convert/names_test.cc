// SPDX-License-Identifier: Apache-2.0
// Names of tensors: every spelling of formats.md 3.2 and 3.7 and what it becomes in a GGUF.
#include "wf/convert/names.h"

#include <iterator>
#include <set>
#include <string>

#include "tests/catch.h"

namespace wf {
namespace {

struct Row {
  const char* hf;
  HfRole role;
  const char* gguf;
};

TEST_CASE("tensors outside layers have their GGUF names") {
  const Row rows[] = {
      {"model.embed_tokens.weight", HfRole::kEmbedding, "token_embd.weight"},
      {"model.norm.weight", HfRole::kOutputNorm, "output_norm.weight"},
      {"lm_head.weight", HfRole::kHead, "output.weight"},
      {"module._orig_mod.lm_head.weight", HfRole::kHead, "output.weight"},
      {"model.rotary_emb.inv_freq", HfRole::kIgnored, ""},
      {"lm_head.bias", HfRole::kUnknown, ""},
      {"model.embed_positions.weight", HfRole::kUnknown, ""},
  };
  for (const Row& r : rows) {
    INFO(r.hf);
    const HfName n = ParseHfName(r.hf);
    CHECK(n.role == r.role);
    CHECK(n.gguf == r.gguf);
    CHECK(n.layer == -1);
  }
}

TEST_CASE("a layer's norms have their GGUF names, in Microsoft's and in 1bitLLM's spelling") {
  const Row rows[] = {
      {"model.layers.12.input_layernorm.weight", HfRole::kAttnNorm, "blk.12.attn_norm.weight"},
      {"model.layers.12.post_attention_layernorm.weight", HfRole::kFfnNorm, "blk.12.ffn_norm.weight"},
      {"model.layers.12.self_attn.attn_sub_norm.weight", HfRole::kInputNorm, "blk.12.attn_sub_norm.weight"},
      {"model.layers.12.self_attn.inner_attn_ln.weight", HfRole::kInputNorm, "blk.12.attn_sub_norm.weight"},
      {"model.layers.12.mlp.ffn_sub_norm.weight", HfRole::kInputNorm, "blk.12.ffn_sub_norm.weight"},
      {"model.layers.12.mlp.ffn_layernorm.weight", HfRole::kInputNorm, "blk.12.ffn_sub_norm.weight"},
      {"model.layers.12.self_attn.q_norm.weight", HfRole::kQNorm, "blk.12.attn_q_norm.weight"},
      {"model.layers.12.self_attn.k_norm.weight", HfRole::kKNorm, "blk.12.attn_k_norm.weight"},
      {"model.layers.12.self_attn.rotary_emb.inv_freq", HfRole::kIgnored, ""},
      {"model.layers.12.attention.masked_bias", HfRole::kIgnored, ""},
  };
  for (const Row& r : rows) {
    INFO(r.hf);
    const HfName n = ParseHfName(r.hf);
    CHECK(n.role == r.role);
    CHECK(n.gguf == r.gguf);
    CHECK(n.layer == 12);
    CHECK(n.form == NormForm::kModel);
  }
}

struct Part {
  const char* hf;
  HfRole role;
  const char* gguf;  // null: none
  FactorForm factor = FactorForm::kPlain;
};
constexpr Part kParts[] = {
    {"weight", HfRole::kWeight, ".weight"},
    {"weight_scale", HfRole::kWeightScale, nullptr},
    {"weight_quantized", HfRole::kWeightQuantized, ".weight"},
    {"bias", HfRole::kBias, ".bias"},
    {"norm.weight", HfRole::kInputNorm, "_norm_in.weight"},
    {"rms_norm.weight", HfRole::kInputNorm, "_norm_in.weight"},
    {"lrc_U", HfRole::kLrcU, ".lrc_u.weight"},
    {"lrc_V", HfRole::kLrcV, ".lrc_v.weight"},
    {"lrc_U.weight", HfRole::kLrcU, ".lrc_u.weight"},
    {"lrc_V.weight", HfRole::kLrcV, ".lrc_v.weight"},
    {"lrc_U_linear.weight", HfRole::kLrcU, ".lrc_u.weight", FactorForm::kLinear},
    {"lrc_V_linear.weight", HfRole::kLrcV, ".lrc_v.weight", FactorForm::kLinear},
    {"lora_B.weight", HfRole::kLrcU, ".lrc_u.weight", FactorForm::kLora},
    {"lora_A.weight", HfRole::kLrcV, ".lrc_v.weight", FactorForm::kLora},
    {"lora_B.default.weight", HfRole::kLrcU, ".lrc_u.weight", FactorForm::kLora},
    {"lora_A.default.weight", HfRole::kLrcV, ".lrc_v.weight", FactorForm::kLora},
};

TEST_CASE("projections and their parts have their GGUF names, plain and inside a SubLN pair") {
  const struct {
    const char *hf, *gguf, *pair_norm;
  } projections[] = {
      {"self_attn.q_proj", "attn_q", "attn_q_norm_in"},
      {"self_attn.k_proj", "attn_k", "attn_k_norm_in"},
      {"self_attn.v_proj", "attn_v", "attn_v_norm_in"},
      {"self_attn.o_proj", "attn_output", "attn_sub_norm"},
      {"mlp.gate_proj", "ffn_gate", "ffn_gate_norm_in"},
      {"mlp.up_proj", "ffn_up", "ffn_up_norm_in"},
      {"mlp.down_proj", "ffn_down", "ffn_sub_norm"},
      {"mlp.shared_expert.gate_proj", "ffn_gate_shexp", "ffn_gate_shexp_norm_in"},
      {"mlp.shared_expert.up_proj", "ffn_up_shexp", "ffn_up_shexp_norm_in"},
      {"mlp.shared_expert.down_proj", "ffn_down_shexp", "ffn_down_shexp_norm_in"},
  };
  REQUIRE(std::size(projections) == kProjections);
  size_t index = 0;
  for (const auto& p : projections) {
    CHECK(GgufProjection(static_cast<Projection>(index)) == std::string(p.gguf));
    CHECK(HfProjection(static_cast<Projection>(index)) == std::string(p.hf));
    for (const char* pair : {"", "1."}) {
      for (const Part& part : kParts) {
        const std::string hf = std::string("model.layers.3.") + p.hf + "." + pair + part.hf;
        INFO(hf);
        const HfName n = ParseHfName(hf);
        CHECK(n.role == part.role);
        CHECK(n.layer == 3);
        CHECK(n.expert == -1);
        CHECK(static_cast<size_t>(n.projection) == index);
        CHECK(n.gguf == (part.gguf == nullptr ? "" : std::string("blk.3.") + p.gguf + part.gguf));
        CHECK((n.form == NormForm::kRmsNorm) == (std::string(part.hf) == "rms_norm.weight"));
        CHECK(n.factor == part.factor);
        CHECK(n.hf == hf);
      }
    }
    const HfName norm = ParseHfName(std::string("model.layers.3.") + p.hf + ".0.weight");
    CHECK(norm.role == HfRole::kInputNorm);
    CHECK(norm.form == NormForm::kPair);
    CHECK(norm.gguf == std::string("blk.3.") + p.pair_norm + ".weight");
    ++index;
  }
}

TEST_CASE("experts have their GGUF names in Qwen's, Mixtral's and the fused spelling") {
  const struct {
    const char* hf;
    HfRole role;
    int64_t expert;
    Projection projection;
    const char* gguf;
  } rows[] = {
      {"mlp.gate.weight", HfRole::kRouter, -1, Projection::kQ, "blk.5.ffn_gate_inp.weight"},
      {"block_sparse_moe.gate.weight", HfRole::kRouter, -1, Projection::kQ, "blk.5.ffn_gate_inp.weight"},
      {"mlp.shared_expert_gate.weight", HfRole::kSharedRouter, -1, Projection::kQ, "blk.5.ffn_gate_inp_shexp.weight"},
      {"mlp.experts.0.gate_proj.weight", HfRole::kWeight, 0, Projection::kGate, "blk.5.ffn_gate_exps.weight"},
      {"mlp.experts.17.up_proj.weight", HfRole::kWeight, 17, Projection::kUp, "blk.5.ffn_up_exps.weight"},
      {"mlp.experts.3.down_proj.weight", HfRole::kWeight, 3, Projection::kDown, "blk.5.ffn_down_exps.weight"},
      {"mlp.experts.3.down_proj.weight_scale", HfRole::kWeightScale, 3, Projection::kDown, ""},
      {"block_sparse_moe.experts.7.w1.weight", HfRole::kWeight, 7, Projection::kGate, "blk.5.ffn_gate_exps.weight"},
      {"block_sparse_moe.experts.7.w2.weight", HfRole::kWeight, 7, Projection::kDown, "blk.5.ffn_down_exps.weight"},
      {"block_sparse_moe.experts.7.w3.weight", HfRole::kWeight, 7, Projection::kUp, "blk.5.ffn_up_exps.weight"},
      {"mlp.experts.gate_up_proj", HfRole::kFusedGateUp, -1, Projection::kQ, ""},
      {"mlp.experts.down_proj", HfRole::kFusedDown, -1, Projection::kQ, "blk.5.ffn_down_exps.weight"},
      {"mlp.experts.3.w4.weight", HfRole::kUnknown, 3, Projection::kQ, ""},
      {"mlp.experts.gate_up_proj_bias", HfRole::kUnknown, -1, Projection::kQ, ""},
  };
  for (const auto& r : rows) {
    INFO(r.hf);
    const HfName n = ParseHfName(std::string("model.layers.5.") + r.hf);
    CHECK(n.role == r.role);
    CHECK(n.layer == 5);
    CHECK(n.expert == r.expert);
    CHECK(n.projection == r.projection);
    CHECK(n.gguf == r.gguf);
  }
}

TEST_CASE("what wrappers put into names does not matter, wherever it stands") {
  const std::string plain = "model.layers.0.self_attn.q_proj.weight";
  for (const char* name :
       {"module.model.layers.0.self_attn.q_proj.weight", "_orig_mod.model.layers.0.self_attn.q_proj.weight",
        "_orig_mod.module._orig_mod.model.layers.0.self_attn.q_proj.weight",
        "model.model.layers.0.self_attn.q_proj.weight", "model.layers.0._orig_mod.self_attn.q_proj.weight",
        "_fsdp_wrapped_module.model.layers.0._checkpoint_wrapped_module.self_attn.q_proj.weight",
        "base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight"}) {
    INFO(name);
    const HfName n = ParseHfName(name);
    CHECK(n.role == HfRole::kWeight);
    CHECK(n.gguf == "blk.0.attn_q.weight");
    CHECK(n.hf == plain);
  }
  CHECK(ParseHfName("model.lm_head.weight").role == HfRole::kHead);
  CHECK(ParseHfName("model.language_model.layers.0.self_attn.q_proj.weight").role == HfRole::kUnknown);
}

TEST_CASE("an unknown name in a layer keeps its layer, so that it can be refused") {
  for (const char* name : {"model.layers.0.self_attn.q_proj.lora_A", "model.layers.0.self_attn.q_proj.salient_columns",
                           "model.layers.0.self_attn.q_proj.2.weight", "model.layers.0.mlp.router.weight",
                           "model.layers.0.self_attn.q_proj.0.bias"}) {
    INFO(name);
    const HfName n = ParseHfName(name);
    CHECK(n.role == HfRole::kUnknown);
    CHECK(n.layer == 0);
    CHECK(n.gguf.empty());
  }
  for (const char* name : {"model.layers.x.input_layernorm.weight", "model.layers..input_layernorm.weight",
                           "model.layers.01.input_layernorm.weight", "model.layers.-1.input_layernorm.weight",
                           "model.layers.99999999999999999999.input_layernorm.weight", "model.layers.3", ""}) {
    INFO(name);
    CHECK(ParseHfName(name).role == HfRole::kUnknown);
    CHECK(ParseHfName(name).layer == -1);
  }
}

}  // namespace
}  // namespace wf
