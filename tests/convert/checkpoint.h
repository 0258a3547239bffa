// SPDX-License-Identifier: Apache-2.0
// A small Hugging Face checkpoint for tests, made of parts that a test can change, remove or add before it is written:
// one layer, hidden 64, two heads of 32, one KV head, FFN 96, the sample model's tokenizer.
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
  std::string Safetensors() const {
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
    WriteFile(folder + "/model.safetensors", Safetensors());
    for (const auto& [name, text] : files) WriteFile(folder + "/" + name, text);
    return folder;
  }
};

}  // namespace wf::test
#endif  // WF_TESTS_CONVERT_CHECKPOINT_H_
