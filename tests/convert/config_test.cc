// SPDX-License-Identifier: Apache-2.0
// config.json and its companions: what is understood, and what is refused with which words.
#include "tests/catch.h"
#include "tests/convert/checkpoint.h"
#include "wf/convert/hf_config.h"

namespace wf {
namespace {

using test::Checkpoint;
using test::TempDir;

Result<HfConfig> Load(const Checkpoint& c, const std::string& style = {}) {
  const TempDir dir;
  return LoadHfConfig(c.Write(dir), style);
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

TEST_CASE("every spelling of BitNetForCausalLM is one class, and the activation decides the GGUF's architecture") {
  for (const char* name : {"BitNetForCausalLM", "BitnetForCausalLM", "bitnetforcausallm", "BITNETFORCAUSALLM"}) {
    Checkpoint c;
    c.config["architectures"] = "[\"" + std::string(name) + "\"]";
    c.config["model_type"] = "\"llama\"";
    CHECK(MustLoad(c).architecture == "bitnet-b1.58");
    c.config["hidden_act"] = "\"silu\"";
    CHECK(MustLoad(c).architecture == "bitnet");
  }
  Checkpoint c;
  c.config.erase("architectures");
  CHECK(MustLoad(c).architecture == "bitnet-b1.58");  // model_type bitnet says as much
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
  c.files["generation_config.json"] = R"({"top_p": 1.5})";
  CHECK_THAT(Load(c).status().message(),
             Catch::Contains("generation_config.json: top_p: expected a number from 0 to 1, found '1.5"));
}

TEST_CASE("bad fields are refused by file, name, expected and found") {
  const struct {
    const char *key, *value, *message;  // value: null removes the field
  } rows[] = {
      {"architectures", R"(["LlamaForCausalLM"])",
       "unknown architecture 'LlamaForCausalLM'; supported: BitNetForCausalLM"},
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
      {"rope_scaling", R"({"rope_type": "llama3"})", "RoPE scaling 'llama3' is not supported"},
      {"rope_scaling", R"({"type": "linear"})", "rope_scaling.factor is missing"},
      {"rope_parameters", R"({"rope_theta": 5.0})", "rope_parameters.rope_theta: expected the same as rope_theta"},
      {"partial_rotary_factor", "0.5", "RoPE on a part of the head is not supported"},
      {"sliding_window", "64", "sliding-window attention is not supported"},
      {"layer_types", R"(["sliding_attention"])", "layer_types: attention '\"sliding_attention\"' is not supported"},
      {"num_local_experts", "8", "num_local_experts: a mixture of experts is not supported"},
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
