// SPDX-License-Identifier: Apache-2.0
// Names of tensors: every spelling of formats.md 3.2 and 3.7 and what it becomes in a GGUF.
#include "wf/convert/names.h"

#include <set>

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

TEST_CASE("the seven projections and their parts have their GGUF names, plain and inside a SubLN pair") {
  const struct {
    const char *hf, *gguf, *pair_norm;
  } projections[] = {
      {"self_attn.q_proj", "attn_q", "attn_q_norm_in"},  {"self_attn.k_proj", "attn_k", "attn_k_norm_in"},
      {"self_attn.v_proj", "attn_v", "attn_v_norm_in"},  {"self_attn.o_proj", "attn_output", "attn_sub_norm"},
      {"mlp.gate_proj", "ffn_gate", "ffn_gate_norm_in"}, {"mlp.up_proj", "ffn_up", "ffn_up_norm_in"},
      {"mlp.down_proj", "ffn_down", "ffn_sub_norm"},
  };
  const Row parts[] = {
      {"weight", HfRole::kWeight, ".weight"},
      {"weight_scale", HfRole::kWeightScale, nullptr},
      {"weight_quantized", HfRole::kWeightQuantized, ".weight"},
      {"bias", HfRole::kBias, ".bias"},
      {"norm.weight", HfRole::kInputNorm, "_norm_in.weight"},
      {"rms_norm.weight", HfRole::kInputNorm, "_norm_in.weight"},
      {"lrc_U", HfRole::kLrcU, ".lrc_u.weight"},
      {"lrc_V", HfRole::kLrcV, ".lrc_v.weight"},
      {"lrc_U_linear.weight", HfRole::kLrcU, ".lrc_u.weight"},
      {"lrc_V_linear.weight", HfRole::kLrcVRows, ".lrc_v.weight"},
  };
  size_t index = 0;
  for (const auto& p : projections) {
    for (const char* pair : {"", "1."}) {
      for (const Row& part : parts) {
        const std::string hf = std::string("model.layers.3.") + p.hf + "." + pair + part.hf;
        INFO(hf);
        const HfName n = ParseHfName(hf);
        CHECK(n.role == part.role);
        CHECK(n.layer == 3);
        CHECK(static_cast<size_t>(n.projection) == index);
        CHECK(n.gguf == (part.gguf == nullptr ? "" : std::string("blk.3.") + p.gguf + part.gguf));
        CHECK((n.form == NormForm::kRmsNorm) == (std::string(part.hf) == "rms_norm.weight"));
      }
    }
    const HfName norm = ParseHfName(std::string("model.layers.3.") + p.hf + ".0.weight");
    CHECK(norm.role == HfRole::kInputNorm);
    CHECK(norm.form == NormForm::kPair);
    CHECK(norm.gguf == std::string("blk.3.") + p.pair_norm + ".weight");
    ++index;
  }
}

TEST_CASE("an unknown name in a layer keeps its layer, so that it can be refused") {
  for (const char* name :
       {"model.layers.0.self_attn.q_norm.weight", "model.layers.0.self_attn.q_proj.lora_A.weight",
        "model.layers.0.self_attn.q_proj.salient_columns", "model.layers.0.self_attn.q_proj.2.weight",
        "model.layers.0.mlp.gate.weight", "model.layers.0.self_attn.q_proj.0.bias"}) {
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
