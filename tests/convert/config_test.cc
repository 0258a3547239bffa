// SPDX-License-Identifier: Apache-2.0
// config.json and its companions: what is understood, and what is refused with which words.
#include "tests/catch.h"
#include "tests/convert/checkpoint.h"
#include "wf/convert/hf_config.h"
#include "wf/decode/sampling.h"

namespace wf {
namespace {

using test::Checkpoint;
using test::TempDir;

Result<HfConfig> Load(const Checkpoint& c, const std::string& style = {}) {
  const TempDir dir;
  HfDiffusion flags;
  flags.style = style;
  return LoadHfConfig(c.Write(dir), flags);
}
HfConfig MustLoad(const Checkpoint& c) {
  Result<HfConfig> r = Load(c);
  INFO(r.status().message());
  REQUIRE(r.ok());
  return *std::move(r);
}

TEST_CASE("sizes, epsilon and RoPE base are read") {
  const HfConfig c = MustLoad({});
  CHECK(c.vocab == 2048);
  CHECK(c.embedding == 64);
  CHECK(c.ffn == 96);
  CHECK(c.layers == 1);
  CHECK(c.heads == 2);
  CHECK(c.kv_heads == 1);
  CHECK(c.head_dim == 32);
  CHECK(c.context == 128);
  CHECK(c.rms_eps == 1e-5);
  CHECK(c.rope_theta == 10000);
  CHECK(c.rope_factor == 1);
  CHECK(c.tied == true);
  CHECK_FALSE(c.quantization.present);
  CHECK(c.diffusion.style.empty());
}

TEST_CASE("classes of transformers have their GGUF architecture") {
  const struct {
    const char *name, *model_type, *gguf;
  } rows[] = {
      {"BitNetForCausalLM", "bitnet", "bitnet"},        {"LlamaForCausalLM", "llama", "llama"},
      {"MistralForCausalLM", "mistral", "llama"},       {"MixtralForCausalLM", "mixtral", "llama"},
      {"Qwen2ForCausalLM", "qwen2", "qwen2"},           {"Fast_dLLM_QwenForCausalLM", "Fast_dLLM_Qwen", "qwen2"},
      {"Qwen3ForCausalLM", "qwen3", "qwen3"},           {"Qwen2MoeForCausalLM", "qwen2_moe", "qwen2moe"},
      {"Qwen3MoeForCausalLM", "qwen3_moe", "qwen3moe"},
  };
  for (const auto& r : rows) {
    INFO(r.name);
    Checkpoint c = Checkpoint::Of(r.name);
    c.config["model_type"] = "\"" + std::string(r.model_type) + "\"";
    HfConfig got = MustLoad(c);
    CHECK(got.architecture == r.gguf);
    CHECK(got.hf_architecture == r.name);
    CHECK(got.relu2 == (std::string(r.name) == "BitNetForCausalLM"));
    c.config.erase("architectures");  // the model type says as much
    CHECK(MustLoad(c).architecture == r.gguf);
    // BitLinear in the graph of that model type.
    c.config["architectures"] = R"(["BitnetForCausalLM"])";
    got = MustLoad(c);
    CHECK(got.architecture == r.gguf);
    CHECK(got.bitnet_class);
  }
}

TEST_CASE("every spelling of BitNetForCausalLM is one class") {
  for (const char* name : {"BitNetForCausalLM", "BitnetForCausalLM", "bitnetforcausallm", "BITNETFORCAUSALLM"}) {
    Checkpoint c;
    c.config["architectures"] = "[\"" + std::string(name) + "\"]";
    CHECK(MustLoad(c).bitnet_class);
    CHECK(MustLoad(c).relu2);
    CHECK(MustLoad(c).architecture == "bitnet");
    c.config.erase("model_type");
    CHECK(MustLoad(c).architecture == "bitnet");
  }
}

TEST_CASE("class defaults of transformers stand in for absent fields") {
  Checkpoint c = Checkpoint::Of("LlamaForCausalLM");
  c.config.erase("rope_theta");
  c.config.erase("hidden_act");
  c.config.erase("num_key_value_heads");
  CHECK(MustLoad(c).rope_theta == 10000);
  CHECK_FALSE(MustLoad(c).relu2);
  CHECK(MustLoad(c).kv_heads == 2);
  c = Checkpoint::Of("MixtralForCausalLM");
  c.config.erase("rope_theta");
  CHECK(MustLoad(c).rope_theta == 1e6);
  c = Checkpoint::Of("Qwen3ForCausalLM");
  c.config.erase("head_dim");
  CHECK(MustLoad(c).head_dim == 128);
  c.config["head_dim"] = "null";
  CHECK(MustLoad(c).head_dim == 128);
  c = Checkpoint::Of("Qwen2ForCausalLM");
  c.config.erase("num_key_value_heads");
  CHECK_THAT(Load(c).status().message(), Catch::Contains("num_key_value_heads is missing"));
}

TEST_CASE("a mixture of experts is read in Qwen's and Mixtral's words") {
  HfExperts x = MustLoad(Checkpoint::Of("Qwen2MoeForCausalLM")).experts;
  CHECK(x.count == 4);
  CHECK(x.used == 2);
  CHECK(x.ffn == 64);
  CHECK(x.shared_ffn == 128);
  CHECK_FALSE(x.normalise);
  x = MustLoad(Checkpoint::Of("Qwen3MoeForCausalLM")).experts;
  CHECK(x.shared_ffn == 0);
  CHECK(x.normalise);
  x = MustLoad(Checkpoint::Of("MixtralForCausalLM")).experts;
  CHECK(x.count == 4);
  CHECK(x.ffn == 64);  // intermediate_size
  CHECK(x.normalise);
  CHECK(MustLoad(Checkpoint::Of("LlamaForCausalLM")).experts.count == 0);
}

TEST_CASE("biases are demanded, ruled out, or left to the tensors") {
  Checkpoint c = Checkpoint::Of("LlamaForCausalLM");
  CHECK_FALSE(MustLoad(c).qkv_bias.has_value());
  c.config["attention_bias"] = "true";
  c.config["mlp_bias"] = "false";
  CHECK(MustLoad(c).qkv_bias == true);
  CHECK(MustLoad(c).o_bias == true);
  CHECK(MustLoad(c).mlp_bias == false);
  CHECK(MustLoad(Checkpoint::Of("Qwen2ForCausalLM")).qkv_bias == true);  // always, and none on o
  CHECK_FALSE(MustLoad(Checkpoint::Of("Qwen2ForCausalLM")).o_bias.has_value());
}

TEST_CASE("RoPE scaling llama3 has its four numbers; yarn with factor 1 changes nothing") {
  Checkpoint c = Checkpoint::Of("LlamaForCausalLM");
  c.config["rope_scaling"] = R"({"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                 "original_max_position_embeddings": 8192})";
  HfConfig got = MustLoad(c);
  CHECK(got.rope == HfRope::kLlama3);
  CHECK(got.rope_factor == 32);
  CHECK(got.rope_low_freq == 1);
  CHECK(got.rope_high_freq == 4);
  CHECK(got.rope_original_context == 8192);
  c.config["rope_scaling"] = R"({"type": "yarn", "factor": 1.0})";
  CHECK(MustLoad(c).rope == HfRope::kNone);
}

TEST_CASE("low-rank factors' numbers come from adapter_config.json or config.json") {
  Checkpoint c;
  CHECK(MustLoad(c).low_rank.bits == 0);
  CHECK_FALSE(MustLoad(c).low_rank.lora_alpha.has_value());
  c.config["lora_alpha"] = "16";
  CHECK(MustLoad(c).low_rank.lora_alpha == 16);
  c.files["adapter_config.json"] = R"({"peft_type": "LORA", "lora_alpha": 32, "r": 8, "use_rslora": true})";
  const HfLowRank l = MustLoad(c).low_rank;
  CHECK(l.adapter);
  CHECK(l.lora_alpha == 32);
  CHECK(l.lora_rank == 8);
  CHECK(l.lora_sqrt_rank);
  for (const char* lrc : {R"({"qlrc": {"enabled": true, "bits": 4, "group_size": 32}})", R"({"bits": 4})"}) {
    c.config["lrc_config"] = lrc;
    CHECK(MustLoad(c).low_rank.bits == 4);
  }
  c.config["lrc_config"] = R"({"qlrc": {"enabled": false, "bits": 4}})";
  CHECK(MustLoad(c).low_rank.bits == 0);
  c.config["lrc_bits"] = "8";
  CHECK(MustLoad(c).low_rank.bits == 8);
}

TEST_CASE("absent optional fields have transformers' defaults") {
  Checkpoint c;
  c.config.erase("num_key_value_heads");
  c.config.erase("tie_word_embeddings");
  const HfConfig r = MustLoad(c);
  CHECK(r.kv_heads == 2);
  CHECK_FALSE(r.tied.has_value());
  c.config["head_dim"] = "16";
  CHECK(MustLoad(c).head_dim == 16);
}

TEST_CASE("RoPE's base may stand in rope_parameters, and linear scaling is understood in both places") {
  Checkpoint c;
  c.config.erase("rope_theta");
  c.config["rope_parameters"] = R"({"rope_theta": 500000.0, "rope_type": "default"})";
  CHECK(MustLoad(c).rope_theta == 500000);
  c.config["rope_parameters"] = R"({"rope_theta": 500000.0, "rope_type": "linear", "factor": 4.0})";
  CHECK(MustLoad(c).rope_factor == 4);
  c.config.erase("rope_parameters");
  c.config["rope_theta"] = "10000";
  for (const char* none : {"null", R"({"type": "default"})", R"({"rope_type": "none"})"}) {
    c.config["rope_scaling"] = none;
    CHECK(MustLoad(c).rope_factor == 1);
  }
  c.config["rope_scaling"] = R"({"type": "linear", "factor": 2})";
  CHECK(MustLoad(c).rope_factor == 2);
}

TEST_CASE("quantization_config says what weight_scale does") {
  Checkpoint c;
  c.config["quantization_config"] = R"({"quant_method": "bitnet"})";
  CHECK(MustLoad(c).quantization.rule == ScaleRule::kDivide);
  c.config["quantization_config"] = R"({"quant_method": "bitnet", "linear_class": "bitlinear"})";
  CHECK(MustLoad(c).quantization.rule == ScaleRule::kDivide);
  c.config["quantization_config"] =
      R"({"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline",
          "use_rms_norm": true, "modules_to_not_convert": ["lm_head"]})";
  const HfConfig r = MustLoad(c);
  CHECK(r.quantization.rule == ScaleRule::kMultiply);
  CHECK(r.quantization.use_rms_norm);
  CHECK(r.quantization.rms_norm_eps == 1e-6);
}

TEST_CASE("the diffusion style comes from the flag, dlm_config.json or config.json, in this order") {
  Checkpoint c;
  c.config["bd_size"] = "32";
  c.config["mask_token_id"] = "2047";
  CHECK_FALSE(Load(c).ok());  // a diffusion checkpoint of unknown style
  CHECK(Load(c, "causal")->diffusion.style == "causal");
  c.config["diffusion_style"] = "\"fast-dllm-v2\"";
  CHECK(MustLoad(c).diffusion.style == "fast-dllm-v2");
  CHECK(MustLoad(c).diffusion.block_size == 32);
  CHECK(MustLoad(c).diffusion.mask_token == 2047);
  c.files["dlm_config.json"] = R"({"bd_size": 8, "mask_token_id": 0})";
  CHECK(MustLoad(c).diffusion.block_size == 8);
  CHECK(MustLoad(c).diffusion.mask_token == 0);
  CHECK(MustLoad(c).diffusion.style == "fast-dllm-v2");
  c.config.erase("diffusion_style");
  CHECK(MustLoad(c).diffusion.style == "causal");  // what a dlm_config.json means
}

TEST_CASE("diffusion flags go before the files, field by field") {
  Checkpoint c;
  c.files["dlm_config.json"] = R"({"bd_size": 8, "sub_block_size": 4, "threshold": 0.5, "mask_token_id": 3})";
  HfDiffusion d = MustLoad(c).diffusion;
  CHECK(d.style == "causal");
  CHECK(d.sub_block_size == 4);
  CHECK(d.threshold == 0.5f);
  const TempDir dir;
  HfDiffusion flags;
  flags.block_size = 64;
  flags.sub_block_size = 16;
  flags.threshold = 0.75f;
  flags.mask_token = 9;
  const std::string folder = c.Write(dir);
  Result<HfConfig> got = LoadHfConfig(folder, flags);
  REQUIRE(got.ok());
  d = got->diffusion;
  CHECK(d.style == "causal");
  CHECK(d.block_size == 64);
  CHECK(d.sub_block_size == 16);
  CHECK(d.threshold == 0.75f);
  CHECK(d.mask_token == 9);
  flags.sub_block_size = 5;
  CHECK_THAT(LoadHfConfig(folder, flags).status().message(),
             Catch::Contains("sub-blocks of 5 tokens do not divide the block of 64"));
  flags.mask_token = 2048;
  CHECK(LoadHfConfig(folder, flags).status().message() ==
        "--mask-token-id: expected a token id of 0 to 2047, found 2048");
}

TEST_CASE("Fast_dLLM checkpoints have their style by their class") {
  const Checkpoint c = Checkpoint::Of("Fast_dLLM_QwenForCausalLM");
  CHECK(MustLoad(c).diffusion.style == "fast-dllm-v2");
}

TEST_CASE("generation_config.json gives sampling defaults") {
  Checkpoint c;
  c.files["generation_config.json"] =
      R"({"temperature": 0.75, "top_p": 0.5, "top_k": 40, "min_p": 0.25, "repetition_penalty": 1.5})";
  HfSampling s = MustLoad(c).sampling;
  CHECK(s.temperature == 0.75f);
  CHECK(s.top_p == 0.5f);
  CHECK(s.top_k == 40);
  CHECK(s.min_p == 0.25f);
  CHECK(s.repetition_penalty == 1.5f);
  c.files["generation_config.json"] = R"({"temperature": 0.75, "do_sample": false})";
  CHECK(MustLoad(c).sampling.temperature == 0.0f);  // greedy
  c.files["generation_config.json"] = R"({"top_p": "0.5"})";
  CHECK_THAT(Load(c).status().message(),
             Catch::Contains("generation_config.json: top_p: expected a number above 0, at most 1, found '\"0.5\"'"));
}

TEST_CASE("sampling defaults that the sampler would refuse are left out with a notice") {
  const struct {
    const char *key, *value;
    bool kept;
  } rows[] = {
      {"temperature", "0", true},
      {"temperature", "100", true},
      {"temperature", "-0.5", false},
      {"temperature", "100.5", false},
      {"top_p", "0", false},
      {"top_p", "0.0", false},
      {"top_p", "1e-60", false},  // 0 as an f32
      {"top_p", "1e-30", true},
      {"top_p", "1", true},
      {"top_p", "1.5", false},
      {"min_p", "0", true},
      {"min_p", "1", true},
      {"min_p", "-0.1", false},
      {"min_p", "1.1", false},
      {"repetition_penalty", "0", false},
      {"repetition_penalty", "-1", false},
      {"repetition_penalty", "1e-60", false},
      {"repetition_penalty", "1e39", false},  // infinite as an f32
      {"repetition_penalty", "5000", true},
      {"top_k", "-1", true},
      {"top_k", "0", true},
      {"top_k", "50.0", true},
      {"top_k", "2147483647", true},
      {"top_k", "2147483648", false},
      {"top_k", "-2", false},
      {"top_k", "0.5", false},
  };
  for (const auto& r : rows) {
    INFO(r.key << " = " << r.value);
    Checkpoint c;
    c.files["generation_config.json"] = "{\"" + std::string(r.key) + "\": " + r.value + "}";
    const HfConfig got = MustLoad(c);
    const HfSampling& s = got.sampling;
    SamplingParams p;
    p.temperature = s.temperature.value_or(p.temperature);
    p.top_p = s.top_p.value_or(p.top_p);
    p.min_p = s.min_p.value_or(p.min_p);
    p.repetition_penalty = s.repetition_penalty.value_or(p.repetition_penalty);
    p.top_k = s.top_k.value_or(p.top_k);
    CHECK(Validate(p, 2048).ok());
    CHECK((s.temperature || s.top_p || s.min_p || s.repetition_penalty || s.top_k) == r.kept);
    CHECK(got.notices.size() == (r.kept ? 0 : 1));
    for (const std::string& n : got.notices) {
      CHECK_THAT(n, Catch::Contains("/generation_config.json: " + std::string(r.key) + ": expected a ") &&
                        Catch::EndsWith("'; it is left out"));
    }
  }
}

TEST_CASE("bad fields are refused by file, name, expected and found") {
  const struct {
    const char *key, *value, *message;  // value: null removes the field
  } rows[] = {
      {"architectures", R"(["GPT2LMHeadModel"])",
       "unknown architecture 'GPT2LMHeadModel'; supported: BitNetForCausalLM, LlamaForCausalLM, MistralForCausalLM, "
       "MixtralForCausalLM, Qwen2ForCausalLM, Fast_dLLM_QwenForCausalLM, Qwen3ForCausalLM, Qwen2MoeForCausalLM, "
       "Qwen3MoeForCausalLM"},
      {"model_type", R"("gemma3")", "model_type: unknown model type 'gemma3'; supported: bitnet, llama, "},
      {"architectures", R"("BitNetForCausalLM")", "architectures: expected a list of class names"},
      {"hidden_act", nullptr, "hidden_act is missing"},
      {"hidden_act", R"("gelu")", "unknown activation 'gelu'; supported: relu2, silu"},
      {"vocab_size", nullptr, "vocab_size is missing"},
      {"vocab_size", "0", "vocab_size: expected a whole number of 1 to 16777216, found '0'"},
      {"hidden_size", "-64", "hidden_size: expected a whole number of 1 to 16777216, found '-64'"},
      {"hidden_size", R"("64")", "hidden_size: expected a whole number of 1 to 16777216"},
      {"hidden_size", "64.5", "hidden_size: expected a whole number"},
      {"hidden_size", "1e300", "hidden_size: expected a whole number"},
      {"hidden_size", "65", "hidden_size: expected a multiple of num_attention_heads, 2, found '65'"},
      {"num_hidden_layers", "5000", "num_hidden_layers: expected a whole number of 1 to 4096"},
      {"num_key_value_heads", "3", "num_key_value_heads: expected a divisor of num_attention_heads, 2, found '3'"},
      {"num_attention_heads", "64", "expected an even number of 2 to 4096, found 1"},
      {"rms_norm_eps", nullptr, "rms_norm_eps is missing"},
      {"rms_norm_eps", "2", "rms_norm_eps: expected a number from 0 to 1, found '2'"},
      {"rope_theta", nullptr, "rope_theta is missing"},
      {"rope_theta", "0", "rope_theta: expected a number from 0.001 to 1e+12"},
      {"max_position_embeddings", nullptr, "max_position_embeddings is missing"},
      {"tie_word_embeddings", "1", "tie_word_embeddings: expected true or false, found '1'"},
      {"rope_scaling", R"({"type": "yarn", "factor": 4})", "RoPE scaling 'yarn' is not supported"},
      {"rope_scaling", R"({"rope_type": "llama3"})", "rope_scaling.factor is missing"},
      {"rope_scaling", R"({"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4})",
       "rope_scaling.high_freq_factor: expected more than low_freq_factor, found '4'"},
      {"rope_scaling", R"({"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4})",
       "rope_scaling.original_max_position_embeddings is missing"},
      {"rope_scaling", R"({"rope_type": "dynamic", "factor": 2})", "RoPE scaling 'dynamic' is not supported"},
      {"rope_scaling", R"({"type": "yarn", "factor": 1, "attention_factor": 2})", "RoPE scaling 'yarn'"},
      {"rope_parameters", R"({"full_attention": {"rope_theta": 5.0}})", "RoPE that differs between layers"},
      {"rope_scaling", R"({"type": "linear"})", "rope_scaling.factor is missing"},
      {"rope_parameters", R"({"rope_theta": 5.0})", "rope_parameters.rope_theta: expected the same as rope_theta"},
      {"partial_rotary_factor", "0.5", "RoPE on a part of the head is not supported"},
      {"sliding_window", "64", "sliding-window attention is not supported"},
      {"layer_types", R"(["sliding_attention"])", "layer_types: attention '\"sliding_attention\"' is not supported"},
      {"num_local_experts", "8",
       "num_local_experts: a mixture of experts of class BitNetForCausalLM is not "
       "supported"},
      {"use_hadamard", "true", "use_hadamard: use_hadamard is not supported"},
      {"salient_config", R"({"ratio": 0.01})", "salient_config: salient_config is not supported"},
      {"use_qk_norm", "true", "use_qk_norm is not supported"},
      {"residual_multiplier", "0.5", "residual_multiplier is not supported"},
      {"lrc_config", R"({"bits": 5})", "lrc_config.bits: rounding low-rank factors to 5 bits is not supported"},
      {"lrc_config", R"({"bits": 4, "group_size": 64})", "lrc_config.group_size: a group other than 32"},
      {"lrc_bits", "3", "lrc_bits: rounding low-rank factors to 3 bits is not supported"},
      {"quantization_config", R"({"quant_method": "awq"})", "quantisation method 'awq' is not supported"},
      {"quantization_config", R"({"linear_class": "bitlinear"})", "quantization_config.quant_method is missing"},
      {"quantization_config", R"({"quant_method": "gptq"})", "quantisation method 'gptq' is not supported"},
      {"quantization_config", R"({"quant_method": "bitnet", "linear_class": "hbitlinear"})",
       "unknown class 'hbitlinear'"},
      {"quantization_config", R"({"quant_method": "bitnet", "quantization_mode": "half"})", "unknown mode 'half'"},
      {"quantization_config", R"({"quant_method": "bitnet", "modules_to_not_convert": ["mlp"]})",
       "'mlp' leaves model.layers.0.mlp.gate_proj unquantised"},
      {"diffusion_style", R"("llada")", "diffusion_style: diffusion style 'llada' is not supported"},
      {"diffusion_style", R"("dream")", "diffusion style 'dream' is not supported"},
      {"diffusion_style", R"("other")", "unknown diffusion style 'other'"},
      {"mask_token_id", "2048", "mask_token_id: expected a whole number of 0 to 2047, found '2048'"},
  };
  for (const auto& r : rows) {
    Checkpoint c;
    if (r.value == nullptr) {
      c.config.erase(r.key);
    } else {
      c.config[r.key] = r.value;
    }
    INFO(r.key << " = " << (r.value == nullptr ? "(none)" : r.value));
    const Result<HfConfig> got = Load(c);
    REQUIRE_FALSE(got.ok());
    CHECK_THAT(got.status().message(), Catch::Contains(r.message));
    CHECK_THAT(got.status().message(), Catch::Contains("/config.json: "));
  }
}

TEST_CASE("bad fields of a mixture of experts, of windows and of classes are refused") {
  const struct {
    const char *name, *key, *value, *message;
  } rows[] = {
      {"Qwen2MoeForCausalLM", "num_experts", nullptr, "num_experts (or num_local_experts) is missing"},
      {"Qwen2MoeForCausalLM", "num_local_experts", "8", "num_local_experts: expected num_experts, 4, found '8'"},
      {"Qwen2MoeForCausalLM", "num_experts_per_tok", "5",
       "num_experts_per_tok: expected a whole number of 1 to 4, found '5'"},
      {"Qwen2MoeForCausalLM", "moe_intermediate_size", nullptr, "moe_intermediate_size is missing"},
      {"Qwen2MoeForCausalLM", "shared_expert_intermediate_size", nullptr, "shared_expert_intermediate_size is missing"},
      {"Qwen2MoeForCausalLM", "shared_expert_intermediate_size", "0", "expected a whole number above 0, found '0'"},
      {"Qwen3MoeForCausalLM", "shared_expert_intermediate_size", "64",
       "a shared expert in class Qwen3MoeForCausalLM is not supported"},
      {"Qwen3MoeForCausalLM", "decoder_sparse_step", "2", "a dense layer among those with experts is not supported"},
      {"Qwen3MoeForCausalLM", "mlp_only_layers", "[0]", "a dense layer among those with experts is not supported"},
      {"MixtralForCausalLM", "sliding_window", "64", "sliding-window attention is not supported"},
      {"MistralForCausalLM", "sliding_window", "64", "sliding-window attention is not supported"},
      {"LlamaForCausalLM", "num_experts", "8", "a mixture of experts of class LlamaForCausalLM is not supported"},
      {"Qwen3ForCausalLM", "model_type", R"("llama")",
       "model_type: expected 'qwen3', because architectures says Qwen3ForCausalLM, found '\"llama\"'"},
      {"Qwen3MoeForCausalLM", "quantization_config", R"({"quant_method": "bitnet", "modules_to_not_convert":
       ["experts"]})",
       "'experts' leaves experts unquantised, which is not supported"},
  };
  for (const auto& r : rows) {
    Checkpoint c = Checkpoint::Of(r.name);
    if (r.value == nullptr) {
      c.config.erase(r.key);
    } else {
      c.config[r.key] = r.value;
    }
    INFO(r.name << ": " << r.key << " = " << (r.value == nullptr ? "(none)" : r.value));
    const Result<HfConfig> got = Load(c);
    REQUIRE_FALSE(got.ok());
    CHECK_THAT(got.status().message(), Catch::Contains(r.message));
    CHECK_THAT(got.status().message(), Catch::Contains("/config.json: "));
  }
}

TEST_CASE("adapters that are more than LoRA are refused by their option") {
  for (const char* option : {R"("use_dora": true)", R"("fan_in_fan_out": true)", R"("rank_pattern": {"q_proj": 4})",
                             R"("alpha_pattern": {"q_proj": 4})", R"("peft_type": "IA3")"}) {
    Checkpoint c;
    c.files["adapter_config.json"] = std::string(R"({"lora_alpha": 1, )") + option + "}";
    INFO(option);
    CHECK_THAT(Load(c).status().message(),
               Catch::Contains("/adapter_config.json: ") && Catch::Contains("is not supported"));
  }
}

TEST_CASE("inactive features are not refused") {
  Checkpoint c;
  c.config["sliding_window"] = "64";
  c.config["use_sliding_window"] = "false";
  c.config["layer_types"] = R"(["full_attention"])";
  c.config["num_experts"] = "0";
  MustLoad(c);
  c.config["sliding_window"] = "null";
  c.config.erase("use_sliding_window");
  MustLoad(c);
  c.config["sliding_window"] = "128";  // as long as the context
  MustLoad(c);
  c = Checkpoint::Of("Qwen2ForCausalLM");
  c.config["sliding_window"] = "64";  // not in force unless use_sliding_window says so
  MustLoad(c);
  c.config["use_sliding_window"] = "true";
  CHECK_FALSE(Load(c).ok());
  c.config["max_window_layers"] = "1";  // all layers are below the first with a window
  MustLoad(c);
}

TEST_CASE("a folder without config.json, a file, nothing at all and broken JSON are told apart") {
  const TempDir dir;
  const std::string folder = Checkpoint().Write(dir);
  CHECK(LoadHfConfig(dir / "none").status().message() == dir / "none" + ": no such folder");
  CHECK_THAT(LoadHfConfig(folder + "/config.json").status().message(),
             Catch::Contains("expected a checkpoint's folder"));
  for (const char* broken : {"", "{", "{\"a\":1}x", "{\"a\":NaN}", "\xff\xfe"}) {
    test::WriteFile(folder + "/config.json", broken);
    CHECK_THAT(LoadHfConfig(folder).status().message(), Catch::Contains("config.json: not valid JSON near byte"));
  }
  test::WriteFile(folder + "/config.json", "[]");
  CHECK_THAT(LoadHfConfig(folder).status().message(), Catch::Contains("config.json: expected a JSON object"));
  std::filesystem::remove(folder + "/config.json");
  CHECK(LoadHfConfig(folder).status().code() == ErrorCode::kNotFound);
  CHECK_THAT(LoadHfConfig(folder).status().message(), Catch::Contains("no config.json"));
}

}  // namespace
}  // namespace wf
