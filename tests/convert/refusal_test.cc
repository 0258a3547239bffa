// SPDX-License-Identifier: Apache-2.0
// Bad checkpoints, each with the whole message that a user reads: which file, which tensor or field, what was expected
// and what was found. Nothing of them is converted.
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "tests/convert/plan_helpers.h"
#include "wf/base/quote.h"

namespace wf {
namespace {

using test::As;
using test::Bf16;
using test::Checkpoint;
using test::F32;
using test::Noise;
using test::TempDir;
using test::WriteFile;

constexpr const char* kFile = "model/model.safetensors: tensor ";
std::string Layer(const std::string& rest) { return Checkpoint::Layer(rest); }

struct Bad {
  std::string name;
  std::function<void(Checkpoint&)> spoil;
  std::string message;
  std::function<void(const std::string&)> after = {};  // does more to the written folder
  ConvertOptions options = {};
};

void Check(const std::vector<Bad>& rows) {
  for (const Bad& b : rows) {
    const TempDir dir;
    Checkpoint c;
    if (b.spoil) b.spoil(c);
    const std::string folder = c.Write(dir);
    if (b.after) b.after(folder);
    const Result<ConvertPlan> p = PlanConversion(folder, b.options);
    INFO(b.name);
    REQUIRE_FALSE(p.ok());
    std::string text = p.status().message();
    for (size_t at = 0; (at = text.find(dir.path() + "/")) != std::string::npos;) text.erase(at, dir.path().size() + 1);
    CHECK(text == b.message);
  }
}

void Packed(Checkpoint& c, float scale) {
  c.config["quantization_config"] = R"({"quant_method": "bitnet"})";
  c.tensors[Checkpoint::Q("weight")] = {"U8", {16, 64}, std::string(16 * 64, '\x55')};
  c.tensors[Checkpoint::Q("weight_scale")] = Bf16({1}, [scale](uint64_t) { return scale; });
}

TEST_CASE("missing tensors are named") {
  const auto without = [](const char* cls, const std::string& name) {
    return Bad{name,
               [cls, name](Checkpoint& c) {
                 c = Checkpoint::Of(cls);
                 c.tensors.erase(name);
               },
               "model: tensor '" + name + "' is missing"};
  };
  std::vector<Bad> rows;
  const std::pair<const char*, std::string> missing[] = {
      {"BitNetForCausalLM", "model.embed_tokens.weight"},
      {"BitNetForCausalLM", "model.norm.weight"},
      {"BitNetForCausalLM", Layer("input_layernorm.weight")},
      {"BitNetForCausalLM", Layer("post_attention_layernorm.weight")},
      {"BitNetForCausalLM", Layer("self_attn.attn_sub_norm.weight")},
      {"BitNetForCausalLM", Layer("mlp.ffn_sub_norm.weight")},
      {"LlamaForCausalLM", Layer("mlp.up_proj.weight")},
      {"Qwen2ForCausalLM", Layer("self_attn.k_proj.bias")},
      {"Qwen3ForCausalLM", Layer("self_attn.q_norm.weight")},
      {"Qwen3MoeForCausalLM", Layer("mlp.gate.weight")},
      {"Qwen3MoeForCausalLM", Layer("mlp.experts.2.down_proj.weight")},
      {"Qwen2MoeForCausalLM", Layer("mlp.shared_expert_gate.weight")},
      {"Qwen2MoeForCausalLM", Layer("mlp.shared_expert.up_proj.weight")},
  };
  for (const auto& [cls, name] : missing) rows.push_back(without(cls, name));
  rows.push_back(without("LlamaForCausalLM", "lm_head.weight"));
  rows.back().message = "tie_word_embeddings is false: model: tensor 'lm_head.weight' is missing";
  rows.push_back({"a norm of one of two layers",
                  [](Checkpoint& c) {
                    c = Checkpoint::Of("LlamaForCausalLM", {.layers = 2});
                    c.tensors["model.layers.1.self_attn.o_proj.norm.weight"] = Bf16({64}, Noise);
                  },
                  "model: layer 0 has no tensor like 'model.layers.1.self_attn.o_proj.norm.weight' of layer 1"});
  Check(rows);
}

TEST_CASE("shapes and dtypes that contradict config.json are named with both") {
  Check({
      {"transposed projection",
       [](Checkpoint& c) {
         c.tensors[Layer("mlp.gate_proj.weight")].shape = {64, 96};
       },
       kFile + Quote(Layer("mlp.gate_proj.weight")) + ": expected shape [96, 64], found [64, 96]"},
      {"too few rows",
       [](Checkpoint& c) {
         c.tensors[Checkpoint::Q("weight")] = Bf16({32, 64}, Noise);
       },
       kFile + Quote(Checkpoint::Q("weight")) + ": expected shape [64, 64], found [32, 64]"},
      {"vocabulary of another size", [](Checkpoint& c) { c.config["vocab_size"] = "2000"; },
       kFile + std::string("'model.embed_tokens.weight': expected shape [2000, 64], found [2048, 64]")},
      {"a norm of three dimensions",
       [](Checkpoint& c) {
         c.tensors["model.norm.weight"].shape = {1, 1, 64};
       },
       kFile + std::string("'model.norm.weight': expected shape [64], found [1, 1, 64]")},
      {"head of another width",
       [](Checkpoint& c) {
         c = Checkpoint::Of("LlamaForCausalLM");
         c.tensors["lm_head.weight"] = Bf16({2048, 32}, Noise);
       },
       kFile + std::string("'lm_head.weight': expected shape [2048, 64], found [2048, 32]")},
      {"q norm as long as all heads",
       [](Checkpoint& c) {
         c = Checkpoint::Of("Qwen3ForCausalLM");
         c.tensors[Layer("self_attn.q_norm.weight")] = Bf16({64}, Noise);
       },
       kFile + Quote(Layer("self_attn.q_norm.weight")) + ": expected shape [32], found [64]"},
      {"router of another number of experts",
       [](Checkpoint& c) {
         c = Checkpoint::Of("Qwen3MoeForCausalLM");
         c.tensors[Layer("mlp.gate.weight")] = Bf16({8, 64}, Noise);
       },
       kFile + Quote(Layer("mlp.gate.weight")) + ": expected shape [4, 64], found [8, 64]"},
      {"packed, but not in quarters of rows",
       [](Checkpoint& c) {
         Packed(c, 1);
         c.tensors[Checkpoint::Q("weight")].shape = {64, 16};
       },
       kFile + Quote(Checkpoint::Q("weight")) +
           ": expected shape [16, 64] (four rows of [64, 64] in a byte), found [64, 16]"},
      {"empty weight",
       [](Checkpoint& c) {
         c.tensors[Checkpoint::Q("weight")] = {"BF16", {0}, ""};
       },
       kFile + Quote(Checkpoint::Q("weight")) + ": expected shape [64, 64], found [0]"},
      {"integers in a projection", [](Checkpoint& c) { c.tensors[Checkpoint::Q("weight")].dtype = "I16"; },
       kFile + Quote(Checkpoint::Q("weight")) + ": expected dtype F32, F16, BF16 or (packed) U8, found I16"},
      {"integers in a norm", [](Checkpoint& c) { c.tensors["model.norm.weight"].dtype = "I16"; },
       kFile + std::string("'model.norm.weight': expected dtype F32, F16 or BF16, found I16")},
      {"dtype that nobody knows", [](Checkpoint& c) { c.tensors["model.norm.weight"].dtype = "F12"; },
       "model/model.safetensors: tensor 'model.norm.weight': unknown dtype 'F12'"},
      {"8-bit floats",
       [](Checkpoint& c) {
         c.tensors["model.norm.weight"] = {"F8_E4M3", {64}, std::string(64, ' ')};
       },
       "model/model.safetensors: tensor 'model.norm.weight': dtype F8_E4M3 is not supported"},
  });
}

TEST_CASE("scales that are no scales are named") {
  const auto scale = [](const char* name, float v, const char* found) {
    return Bad{name, [v](Checkpoint& c) { Packed(c, v); },
               kFile + Quote(Checkpoint::Q("weight_scale")) + ": expected a finite scale above 0, found " + found};
  };
  Check({
      scale("NaN", std::numeric_limits<float>::quiet_NaN(), "nan"),
      scale("infinity", std::numeric_limits<float>::infinity(), "inf"),
      scale("zero", 0, "0"),
      scale("below zero", -1, "-1"),
      {"two scales",
       [](Checkpoint& c) {
         Packed(c, 1);
         c.tensors[Checkpoint::Q("weight_scale")] = Bf16({2}, Noise);
       },
       kFile + Quote(Checkpoint::Q("weight_scale")) + ": expected 1 element, found shape [2]"},
      {"no scale",
       [](Checkpoint& c) {
         Packed(c, 1);
         c.tensors.erase(Checkpoint::Q("weight_scale"));
       },
       "model: tensor 'model.layers.0.self_attn.q_proj.weight_scale' is missing"},
  });
}

TEST_CASE("tensors for one place, for no place, and of features that wf lacks are named") {
  const auto extra = [](const char* label, const std::string& name, const std::vector<uint64_t>& shape,
                        const std::string& rest, const char* cls = "BitNetForCausalLM") {
    return Bad{label,
               [name, shape, cls](Checkpoint& c) {
                 c = Checkpoint::Of(cls);
                 c.tensors[name] = Bf16(shape, Noise);
               },
               kFile + Quote(name) + rest};
  };
  const std::string lost = " is not known, and leaving it out would change the result";
  Check({
      extra("two names for one norm", "module.model.norm.weight", {64},
            " and 'model.norm.weight' stand for the same thing"),
      extra("two norms on one projection", Layer("self_attn.o_proj.rms_norm.weight"), {64},
            " and 'model.layers.0.self_attn.attn_sub_norm.weight' are two norms for one projection"),
      {"fused experts beside single ones",
       [](Checkpoint& c) {
         c = Checkpoint::Of("Qwen3MoeForCausalLM");
         c.tensors[Layer("mlp.experts.down_proj")] = Bf16({4, 64, 64}, Noise);
       },
       kFile + Quote(Layer("mlp.experts.0.down_proj.weight")) + " and " + Quote(Layer("mlp.experts.down_proj")) +
           " stand for the same thing"},
      extra("a layer too many", "model.layers.1.input_layernorm.weight", {64},
            " belongs to layer 1, but num_hidden_layers is 1"),
      extra("an expert too many", Layer("mlp.experts.4.up_proj.weight"), {64, 64},
            " belongs to expert 4, but config.json has 4 experts", "Qwen3MoeForCausalLM"),
      extra("experts of a dense class", Layer("mlp.experts.0.up_proj.weight"), {64, 64},
            " belongs to a mixture of experts, but class LlamaForCausalLM has none", "LlamaForCausalLM"),
      extra("a shared expert of a class without", Layer("mlp.shared_expert.up_proj.weight"), {64, 64},
            " belongs to a shared expert, but class Qwen3MoeForCausalLM has none", "Qwen3MoeForCausalLM"),
      extra("a dense FFN among experts", Layer("mlp.up_proj.weight"), {64, 64},
            " belongs to a dense FFN, but every layer of class Qwen3MoeForCausalLM has experts", "Qwen3MoeForCausalLM"),
      extra("norms on q", Layer("self_attn.q_norm.weight"), {32}, ": architecture llama has no norms on q and k",
            "LlamaForCausalLM"),
      extra("an expert's bias", Layer("mlp.experts.0.up_proj.bias"), {64}, ": a bias of an expert is not supported",
            "Qwen3MoeForCausalLM"),
      extra("salient columns", Layer("self_attn.q_proj.salient_weight"), {64}, ": salient columns are not supported"),
      extra("half a LoRA name", Layer("self_attn.q_proj.lora_A"), {64}, lost),
      extra("DoRA", Layer("self_attn.q_proj.lora_magnitude_vector.weight"), {64},
            ": this part of an adapter (DoRA, or LoRA of the embedding) is not supported"),
      extra("a head's bias", "lm_head.bias", {64}, lost),
      extra("the embedding's scale", "model.embed_tokens.weight_scale", {1}, lost),
      extra("a layer without a number", "model.layers.x.weight", {64}, lost),
      extra("images", "model.visual.patch_embed.weight", {64},
            " belongs to a model of text and images, which is not supported"),
      extra("a language model inside another", "language_model.model.norm.weight", {64},
            " belongs to a model of text and images, which is not supported"),
  });
}

TEST_CASE("fields that contradict tensors or each other are named") {
  Check({
      {"bias that the config rules out",
       [](Checkpoint& c) {
         c = Checkpoint::Of("LlamaForCausalLM");
         c.config["attention_bias"] = "false";
         c.tensors[Checkpoint::Q("bias")] = Bf16({64}, Noise);
       },
       kFile + Quote(Checkpoint::Q("bias")) +
           ": config.json says that there is no such bias (attention_bias or qkv_bias is false)"},
      {"relu2 with norms on q and k",
       [](Checkpoint& c) {
         c = Checkpoint::Of("Qwen3ForCausalLM");
         c.config["hidden_act"] = "\"relu2\"";
       },
       "model/config.json: hidden_act: 'relu2' means architecture bitnet-b1.58, which has no norms on q and k"},
      {"relu2 with experts",
       [](Checkpoint& c) {
         c = Checkpoint::Of("Qwen2MoeForCausalLM");
         c.config["hidden_act"] = "\"relu2\"";
       },
       "model/config.json: hidden_act: 'relu2' means architecture bitnet-b1.58, which has no experts"},
      {"two RoPE bases", [](Checkpoint& c) { c.config["rope_parameters"] = R"({"rope_theta": 5.0})"; },
       "model/config.json: rope_parameters.rope_theta: expected the same as rope_theta at the top level, found "
       "'5E0'"},
      {"experts in two numbers",
       [](Checkpoint& c) {
         c = Checkpoint::Of("Qwen3MoeForCausalLM");
         c.config["num_local_experts"] = "8";
       },
       "model/config.json: num_local_experts: expected num_experts, 4, found '8'"},
      {"two epsilons",
       [](Checkpoint& c) {
         c.Rename(Checkpoint::Q("weight"), Checkpoint::Q("1.weight"));
         c.tensors[Checkpoint::Q("0.weight")] = Bf16({64}, Noise);
       },
       kFile + Quote(Layer("self_attn.attn_sub_norm.weight")) +
           " has epsilon 9.99999975e-06, but 'model.layers.0.self_attn.q_proj.0.weight' has 9.99999997e-07: norms with "
           "different epsilons are not supported"},
      {"a head that a tied architecture cannot have",
       [](Checkpoint& c) {
         c.config["tie_word_embeddings"] = "false";
         c.tensors["lm_head.weight"] = Bf16({2048, 64}, [](uint64_t) { return 1.0f; });
       },
       kFile + std::string("'lm_head.weight' differs from the embedding, and tie_word_embeddings is not true: "
                           "architecture bitnet-b1.58 has no head of its own")},
      {"experts in two forms",
       [](Checkpoint& c) {
         c = Checkpoint::Of("Qwen3MoeForCausalLM");
         c.tensors[Layer("mlp.experts.1.up_proj.weight")] = {"U8", {16, 64}, std::string(16 * 64, '\x55')};
         c.tensors[Layer("mlp.experts.1.up_proj.weight_scale")] = Bf16({1}, [](uint64_t) { return 1.0f; });
       },
       kFile + Quote(Layer("mlp.experts.1.up_proj.weight")) + " and " + Quote(Layer("mlp.experts.0.up_proj.weight")) +
           " are experts in different forms: unpack and ternarise"},
      {"experts in more numbers than any model has",
       [](Checkpoint& c) {
         c = Checkpoint::Of("Qwen3MoeForCausalLM");
         c.config["num_experts"] = "65536";
         c.config["num_hidden_layers"] = "4096";
       },
       "model/config.json: num_experts: expected at most 1048576 experts in all layers, found 4096 * 65536"},
      {"norms that the config promises",
       [](Checkpoint& c) { c.config["quantization_config"] = R"({"quant_method": "bitnet", "use_rms_norm": true})"; },
       "model: tensor 'model.layers.0.self_attn.q_proj.rms_norm.weight' is missing"},
      {"more tokens than rows",
       [](Checkpoint& c) {
         c.config["vocab_size"] = "2000";
         c.tensors["model.embed_tokens.weight"] = Bf16({2000, 64}, Noise);
       },
       "model/tokenizer.json: has 2048 tokens, but config.json's vocab_size is 2000"},
      {"GPTQ", [](Checkpoint& c) { c.config["quantization_config"] = R"({"quant_method": "gptq", "bits": 4})"; },
       "model/config.json: quantization_config.quant_method: quantisation method 'gptq' is not supported"},
  });
}

TEST_CASE("tensors that the wanted type cannot hold are named with K and a type that fits") {
  const auto odd = [](Checkpoint& c) { c = Checkpoint::Of("LlamaForCausalLM", {.ffn = 99}); };
  const auto plain = [](Checkpoint& c) { c = Checkpoint::Of("LlamaForCausalLM"); };
  const auto as = [](OutType t, std::optional<TensorType> embedding = {}) {
    ConvertOptions o = As(t);
    o.embedding_type = embedding;
    return o;
  };
  const std::string q = kFile + Quote(Checkpoint::Q("weight"));
  Check({
      {"I2_S in groups of 128",
       odd,
       kFile + Quote(Layer("mlp.gate_proj.weight")) +
           ": I2_S cannot hold it: 99 rows of K = 64 are 6336 weights, not a multiple of 128; --outtype bf16 fits",
       {},
       as(OutType::kI2_S)},
      {"IQ2_BN in rows of 64",
       odd,
       kFile + Quote(Layer("mlp.down_proj.weight")) +
           ": IQ2_BN cannot hold it: K = 99 is not a multiple of 64; --outtype bf16 fits",
       {},
       as(OutType::kIQ2_BN)},
      {"TQ1_0 in rows of 256",
       plain,
       q + ": TQ1_0 cannot hold it: K = 64 is not a multiple of 256; --outtype iq2_bn fits",
       {},
       as(OutType::kTQ1_0)},
      {"TQ2_0 in rows of 256",
       plain,
       q + ": TQ2_0 cannot hold it: K = 64 is not a multiple of 256; --outtype iq2_bn fits",
       {},
       as(OutType::kTQ2_0)},
      {"Q2_0 in rows of 64",
       odd,
       kFile + Quote(Layer("mlp.down_proj.weight")) +
           ": Q2_0 cannot hold it: K = 99 is not a multiple of 64; --outtype bf16 fits",
       {},
       as(OutType::kQ2_0)},
      {"sgl-kernel's rows of 128",
       plain,
       q + ": sgl-kernel's format cannot hold it: K = 64 is not a multiple of 128; --outtype iq2_bn fits",
       {},
       as(OutType::kSgl)},
      {"sgl-kernel's format and experts",
       [](Checkpoint& c) { c = Checkpoint::Of("Qwen3MoeForCausalLM"); },
       "--outtype sgl: sgl-kernel's format has no experts",
       {},
       as(OutType::kSgl)},
      {"K-quants of the embedding",
       plain,
       kFile + std::string("'model.embed_tokens.weight': Q4_K cannot hold it: K = 64 is not a multiple of 256; use "
                           "--embedding-type q8_0 (multiples of 32) or f16"),
       {},
       as(OutType::kI2_S, TensorType::kQ4_K)},
      {"an embedding of ternary values",
       plain,
       "--embedding-type: type 'TQ2_0' is not one of f32, f16, bf16, q8_0, q6_k, q4_k, q4_0",
       {},
       as(OutType::kI2_S, TensorType::kTQ2_0)},
  });
}

TEST_CASE("files that are not what they seem are named") {
  const auto index = [](const std::string& map) {
    return [map](const std::string& folder) {
      WriteFile(folder + "/model.safetensors.index.json", "{\"weight_map\":" + map + "}");
    };
  };
  const auto replace = [](const char* file, const std::string& bytes) {
    return [file, bytes](const std::string& folder) {
      std::filesystem::remove(folder + "/model.safetensors");
      if (!bytes.empty()) WriteFile(folder + "/" + file, bytes);
    };
  };
  const std::string where = "model/model.safetensors.index.json: tensor 'model.norm.weight'";
  Check({
      {"a shard one folder up",
       {},
       where + ": expected the name of a file in the same folder, found '../x.safetensors'",
       index(R"({"model.norm.weight": "../x.safetensors"})")},
      {"a shard at an absolute path",
       {},
       where + ": expected the name of a file in the same folder, found '/etc/passwd'",
       index(R"({"model.norm.weight": "/etc/passwd"})")},
      {"a shard that is not there",
       {},
       where + ": model/model-2.safetensors: cannot open: No such file or directory",
       index(R"({"model.norm.weight": "model-2.safetensors"})")},
      {"a tensor that its shard lacks",
       {},
       "model/model.safetensors.index.json: tensor 'model.other': expected in shard 'model.safetensors', found in none",
       index(R"({"model.other": "model.safetensors"})")},
      {"a tensor twice in the index",
       {},
       "model/model.safetensors.index.json: 'weight_map': duplicate key 'a'",
       index(R"({"a": "model.safetensors", "a": "b.safetensors"})")},
      {"a truncated file",
       {},
       "model/model.safetensors: file truncated, expected >= 8 bytes (the header's length), found 3",
       replace("model.safetensors", "abc")},
      {"no weights",
       {},
       "model: no *.safetensors file and no *.bin, *.pt or *.pth file with weights in this folder",
       replace("", "")},
      {"no tokenizer", [](Checkpoint& c) { c.files.erase("tokenizer.json"); },
       "tokenizer: model: no tokenizer.json, tokenizer.model or vocab.json with merges.txt"},
      {"broken config",
       {},
       "model/config.json: not valid JSON near byte 1: incomplete JSON",
       [](const std::string& folder) { WriteFile(folder + "/config.json", "{"); }},
      {"no config",
       {},
       "model: no config.json: not the folder of a Hugging Face checkpoint",
       [](const std::string& folder) { std::filesystem::remove(folder + "/config.json"); }},
  });
}

TEST_CASE("a mask token that is not named or named twice must be chosen") {
  // Renames a token of the tokenizer.
  const auto rename = [](const std::string& from, const std::string& to) {
    return [from, to](Checkpoint& c) {
      std::string& text = c.files["tokenizer.json"];
      for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
        text.replace(at, from.size(), to);
      }
    };
  };
  ConvertOptions causal;
  causal.diffusion_style = "causal";
  Check({
      {"none",
       rename("<|mask|>", "<|x|>"),
       "diffusion style causal needs a mask token: no mask_token_id is given and no token is named so; use "
       "--mask-token-id",
       {},
       causal},
      {"two",
       [&](Checkpoint& c) {
         rename("<|eot_id|>", "<|mask_a|>")(c);
         rename("<|mask|>", "<|mask_b|>")(c);
       },
       "tokens '<|mask_a|>' and '<|mask_b|>' both look like the mask: choose one with --mask-token-id",
       {},
       causal},
  });
}

TEST_CASE("options that mean nothing are refused") {
  const auto with = [](const std::function<void(ConvertOptions&)>& set) {
    ConvertOptions o;
    set(o);
    return o;
  };
  Check({
      {"block size 0", {}, "--block-size: expected 1 to 4096, found 0", {}, with([](auto& o) { o.block_size = 0; })},
      {"sub-blocks too large", {}, "--sub-block-size: expected 1 to 4096, found 5000", {}, with([](auto& o) {
         o.sub_block_size = 5000;
       })},
      {"threshold above 1", {}, "--threshold: expected 0 to 1, found 1.5", {}, with([](auto& o) {
         o.threshold = 1.5f;
       })},
      {"a mask outside the vocabulary",
       {},
       "--mask-token-id: expected a token id of 0 to 2047, found -1",
       {},
       with([](auto& o) { o.mask_token = -1; })},
      {"a block of no style",
       {},
       "--block-size is for a diffusion checkpoint, and nothing says that this is one: name its style with "
       "--diffusion-style",
       {},
       with([](auto& o) { o.block_size = 32; })},
      {"sub-blocks of no style",
       {},
       "--sub-block-size is for a diffusion checkpoint, and nothing says that this is one: name its style with "
       "--diffusion-style",
       {},
       with([](auto& o) { o.sub_block_size = 8; })},
      {"a threshold of no style",
       {},
       "--threshold is for a diffusion checkpoint, and nothing says that this is one: name its style with "
       "--diffusion-style",
       {},
       with([](auto& o) { o.threshold = 0.0f; })},
      {"a mask of no style",
       {},
       "--mask-token-id is for a diffusion checkpoint, and nothing says that this is one: name its style with "
       "--diffusion-style",
       {},
       with([](auto& o) { o.mask_token = 0; })},
      {"a block size where the checkpoint lacks only the style",
       [](Checkpoint& c) { c.config["bd_size"] = "32"; },
       "model/config.json: bd_size says that this is a diffusion checkpoint, but diffusion_style is missing: name it "
       "with --diffusion-style",
       {},
       with([](auto& o) { o.block_size = 32; })},
      {"an unknown style",
       {},
       "--diffusion-style: unknown diffusion style 'x'; supported: fast-dllm-v2, causal",
       {},
       with([](auto& o) { o.diffusion_style = "x"; })},
      {"a vocabulary for sgl", {}, "--vocab-only: sgl-kernel's format holds no vocabulary", {}, with([](auto& o) {
         o.vocab_only = true;
         o.outtype = OutType::kSgl;
       })},
  });
}

TEST_CASE("a file of tensors alone is no checkpoint, nor is a folder that is not there") {
  const TempDir dir;
  const std::string folder = Checkpoint().Write(dir);
  CHECK(PlanConversion(folder + "/model.safetensors", {}).status().message() ==
        folder +
            "/model.safetensors: expected a checkpoint's folder or an sgl-kernel .bin, found a file of tensors "
            "without a config.json: give its folder");
  CHECK(PlanConversion(dir / "none", {}).status().message() == dir / "none" + ": no such folder");
}

}  // namespace
}  // namespace wf
