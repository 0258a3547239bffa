// SPDX-License-Identifier: Apache-2.0
// A small Hugging Face checkpoint for tests, made of parts that a test can change, remove or add before it is written.
// Unless a test asks for another class: BitNetForCausalLM, one layer, hidden 64, two heads of 32, one KV head, FFN 96,
// the sample model's tokenizer.
#ifndef WF_TESTS_CONVERT_CHECKPOINT_H_
#define WF_TESTS_CONVERT_CHECKPOINT_H_

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "tests/scratch.h"
#include "wf/base/half.h"

namespace wf::test {

struct SourceTensor {
  std::string dtype;
  std::vector<uint64_t> shape;
  std::string bytes;
};

inline uint64_t Elements(const std::vector<uint64_t>& shape) {
  uint64_t n = 1;
  for (const uint64_t d : shape) n *= d;
  return n;
}

// A BF16 tensor; value(i) of flat index i.
template <class F>
SourceTensor Bf16(std::vector<uint64_t> shape, const F& value) {
  SourceTensor t{"BF16", std::move(shape), {}};
  for (uint64_t i = 0; i < Elements(t.shape); ++i) {
    const uint16_t h = Bf16FromF32(value(i));
    t.bytes.append(reinterpret_cast<const char*>(&h), 2);
  }
  return t;
}
template <class F>
SourceTensor F32(std::vector<uint64_t> shape, const F& value) {
  SourceTensor t{"F32", std::move(shape), {}};
  for (uint64_t i = 0; i < Elements(t.shape); ++i) {
    const float v = value(i);
    t.bytes.append(reinterpret_cast<const char*>(&v), 4);
  }
  return t;
}

// Continuous values in (-1, 1), the same on every machine.
inline float Noise(uint64_t i) {
  const auto h = static_cast<uint32_t>((i + 1) * 2654435761u) >> 16;
  return static_cast<float>(h) / 32768.0f - 1.0f;
}
// -1, 0 or 1.
inline int Trit(uint64_t i) { return static_cast<int>((static_cast<uint32_t>((i + 1) * 2654435761u) >> 16) % 3) - 1; }

struct Checkpoint {
  std::map<std::string, std::string> config = {
      {"architectures", R"(["BitNetForCausalLM"])"},
      {"model_type", R"("bitnet")"},
      {"hidden_act", R"("relu2")"},
      {"hidden_size", "64"},
      {"intermediate_size", "96"},
      {"num_hidden_layers", "1"},
      {"num_attention_heads", "2"},
      {"num_key_value_heads", "1"},
      {"rms_norm_eps", "1e-5"},
      {"rope_theta", "10000.0"},
      {"max_position_embeddings", "128"},
      {"vocab_size", "2048"},
      {"tie_word_embeddings", "true"},
  };
  std::map<std::string, SourceTensor> tensors;
  std::map<std::string, std::string> files;  // further files by name

  static std::string Q(const std::string& rest) { return "model.layers.0.self_attn.q_proj." + rest; }
  static std::string Layer(const std::string& rest) { return "model.layers.0." + rest; }

  Checkpoint() {
    const auto one = [](uint64_t i) { return 1.0f + 0.125f * static_cast<float>(i % 4); };
    tensors["model.embed_tokens.weight"] = Bf16({2048, 64}, Noise);
    tensors["model.norm.weight"] = Bf16({64}, one);
    for (const char* n : {"input_layernorm", "post_attention_layernorm", "self_attn.attn_sub_norm"}) {
      tensors[Layer(std::string(n) + ".weight")] = Bf16({64}, one);
    }
    tensors[Layer("mlp.ffn_sub_norm.weight")] = Bf16({96}, one);
    tensors[Q("weight")] = Bf16({64, 64}, Noise);
    tensors[Layer("self_attn.k_proj.weight")] = Bf16({32, 64}, Noise);
    tensors[Layer("self_attn.v_proj.weight")] = Bf16({32, 64}, Noise);
    tensors[Layer("self_attn.o_proj.weight")] = Bf16({64, 64}, Noise);
    tensors[Layer("mlp.gate_proj.weight")] = Bf16({96, 64}, Noise);
    tensors[Layer("mlp.up_proj.weight")] = Bf16({96, 64}, Noise);
    tensors[Layer("mlp.down_proj.weight")] = Bf16({64, 96}, Noise);
    files["tokenizer.json"] = ReadFile(std::string(WF_SOURCE_DIR) + "/models/bard/tokenizer.json");
  }

  // Sizes of a checkpoint of another class.
  struct Sizes {
    uint64_t embedding = 64, ffn = 128, heads = 2, kv_heads = 1, head_dim = 32, layers = 1;
    uint64_t experts = 4, expert_ffn = 64, shared_ffn = 128;  // of classes with experts
  };
  // A checkpoint of one of transformers' classes ("LlamaForCausalLM", "Qwen3MoeForCausalLM", ...) with SiLU, a head of
  // its own and no sub-norms, or Microsoft's graph with relu2 for "BitNetForCausalLM".
  static Checkpoint Of(const std::string& name) { return Of(name, Sizes()); }
  static Checkpoint Of(const std::string& name, const Sizes& z) {
    Checkpoint c;
    c.tensors.clear();
    const bool bitnet = name == "BitNetForCausalLM", qwen3 = name.starts_with("Qwen3");
    const bool qwen2 = name.starts_with("Qwen2") || name.starts_with("Fast_dLLM");
    const bool mixtral = name.starts_with("Mixtral"), moe = mixtral || name.find("Moe") != std::string::npos;
    const auto number = [&](const char* key, uint64_t v) { c.config[key] = std::to_string(v); };
    c.config["architectures"] = "[\"" + name + "\"]";
    if (!bitnet) {
      c.config.erase("model_type");
      c.config["hidden_act"] = "\"silu\"";
      c.config["tie_word_embeddings"] = "false";
    }
    number("hidden_size", z.embedding);
    number("intermediate_size", mixtral ? z.expert_ffn : z.ffn);
    number("num_attention_heads", z.heads);
    number("num_key_value_heads", z.kv_heads);
    number("head_dim", z.head_dim);
    number("num_hidden_layers", z.layers);
    if (moe) {
      number(mixtral ? "num_local_experts" : "num_experts", z.experts);
      number("num_experts_per_tok", 2);
      if (!mixtral) {
        number("moe_intermediate_size", z.expert_ffn);
        c.config["norm_topk_prob"] = qwen3 ? "true" : "false";
      }
      if (qwen2) number("shared_expert_intermediate_size", z.shared_ffn);
    }
    const auto one = [](uint64_t i) { return 1.0f + 0.125f * static_cast<float>(i % 4); };
    const auto norm = [&](const std::string& n, uint64_t size) { c.tensors[n + ".weight"] = Bf16({size}, one); };
    const auto matrix = [&](const std::string& n, uint64_t out, uint64_t in) {
      c.tensors[n + ".weight"] = Bf16({out, in}, Noise);
    };
    const auto ffn = [&](const std::string& n, uint64_t f, const char* gate, const char* up, const char* down) {
      matrix(n + gate, f, z.embedding);
      matrix(n + up, f, z.embedding);
      matrix(n + down, z.embedding, f);
    };
    matrix("model.embed_tokens", 2048, z.embedding);
    norm("model.norm", z.embedding);
    if (!bitnet) {
      c.tensors["lm_head.weight"] = Bf16({2048, z.embedding}, [](uint64_t i) { return Noise(i + 7); });
    }
    const uint64_t q = z.heads * z.head_dim, kv = z.kv_heads * z.head_dim;
    for (uint64_t i = 0; i < z.layers; ++i) {
      const std::string layer = "model.layers." + std::to_string(i) + ".", attn = layer + "self_attn.";
      norm(layer + "input_layernorm", z.embedding);
      norm(layer + "post_attention_layernorm", z.embedding);
      matrix(attn + "q_proj", q, z.embedding);
      matrix(attn + "k_proj", kv, z.embedding);
      matrix(attn + "v_proj", kv, z.embedding);
      matrix(attn + "o_proj", z.embedding, q);
      if (bitnet) {
        norm(attn + "attn_sub_norm", q);
        norm(layer + "mlp.ffn_sub_norm", z.ffn);
      }
      if (qwen3) {
        norm(attn + "q_norm", z.head_dim);
        norm(attn + "k_norm", z.head_dim);
      }
      if (qwen2) {
        for (const char* p : {"q_proj", "k_proj", "v_proj"}) {
          c.tensors[attn + p + ".bias"] = Bf16({p[0] == 'q' ? q : kv}, Noise);
        }
      }
      if (!moe) {
        ffn(layer + "mlp.", z.ffn, "gate_proj", "up_proj", "down_proj");
        continue;
      }
      const std::string block = layer + (mixtral ? "block_sparse_moe." : "mlp.");
      matrix(block + "gate", z.experts, z.embedding);
      for (uint64_t x = 0; x < z.experts; ++x) {
        const std::string expert = block + "experts." + std::to_string(x) + ".";
        if (mixtral) {
          ffn(expert, z.expert_ffn, "w1", "w3", "w2");
        } else {
          ffn(expert, z.expert_ffn, "gate_proj", "up_proj", "down_proj");
        }
      }
      if (!qwen2) continue;
      matrix(block + "shared_expert_gate", 1, z.embedding);
      ffn(block + "shared_expert.", z.shared_ffn, "gate_proj", "up_proj", "down_proj");
    }
    return c;
  }

  void Rename(const std::string& from, const std::string& to) {
    auto node = tensors.extract(from);
    node.key() = to;
    tensors.insert(std::move(node));
  }

  std::string ConfigJson() const {
    std::string s;
    for (const auto& [key, value] : config) s += (s.empty() ? "{\"" : ",\"") + key + "\":" + value;
    return s + "}";
  }
  std::string Weights() const {
    std::string header = "{", data;
    for (const auto& [name, t] : tensors) {
      std::string shape;
      for (const uint64_t d : t.shape) shape += (shape.empty() ? "" : ",") + std::to_string(d);
      header += (header.size() == 1 ? "\"" : ",\"") + name + "\":{\"dtype\":\"" + t.dtype + "\",\"shape\":[" + shape +
                "],\"data_offsets\":[" + std::to_string(data.size()) + "," +
                std::to_string(data.size() + t.bytes.size()) + "]}";
      data += t.bytes;
    }
    header += "}";
    const uint64_t n = header.size();
    return std::string(reinterpret_cast<const char*>(&n), 8) + header + data;
  }
  // Returns the folder.
  std::string Write(const TempDir& dir) const {
    const std::string folder = dir / "model";
    std::filesystem::create_directories(folder);
    WriteFile(folder + "/config.json", ConfigJson());
    WriteFile(folder + "/model.safetensors", Weights());
    for (const auto& [name, text] : files) WriteFile(folder + "/" + name, text);
    return folder;
  }
};

}  // namespace wf::test
#endif  // WF_TESTS_CONVERT_CHECKPOINT_H_
