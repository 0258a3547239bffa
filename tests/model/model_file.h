// SPDX-License-Identifier: Apache-2.0
// Models for tests: a GGUF of one small layer whose metadata and tensors a test can change, remove or add before it is
// written, and the sample model of models/bard, converted once a program. The small one has no tokenizer: it is for
// Config and Weights.
#ifndef WF_TESTS_MODEL_MODEL_FILE_H_
#define WF_TESTS_MODEL_MODEL_FILE_H_

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "tests/scratch.h"
#include "wf/base/half.h"
#include "wf/convert/convert.h"
#include "wf/formats/gguf_writer.h"
#include "wf/model/model.h"
#include "wf/quant/pack.h"
#include "wf/quant/ternary.h"

namespace wf::test {

struct FileTensor {
  TensorType type = TensorType::kF32;
  std::vector<uint64_t> ne;
  std::string bytes;
};

inline FileTensor Floats(TensorType type, std::vector<uint64_t> ne, const std::vector<float>& values) {
  FileTensor t{type, std::move(ne), {}};
  for (const float v : values) {
    const uint16_t h = type == TensorType::kF16 ? F16FromF32(v) : Bf16FromF32(v);
    if (type == TensorType::kF32) {
      t.bytes.append(reinterpret_cast<const char*>(&v), 4);
    } else {
      t.bytes.append(reinterpret_cast<const char*>(&h), 2);
    }
  }
  return t;
}
inline FileTensor Ones(std::vector<uint64_t> ne) {
  uint64_t n = 1;
  for (const uint64_t d : ne) n *= d;
  return Floats(TensorType::kF32, std::move(ne), std::vector<float>(n, 1.0f));
}
// Ternary values -1, 0, 1, ... times `scale` in any type that holds them; `experts` matrices.
inline FileTensor Ternary(TensorType type, uint64_t k, uint64_t rows, float scale, uint64_t experts = 1) {
  const std::vector<uint64_t> ne =
      experts == 1 ? std::vector<uint64_t>{k, rows} : std::vector<uint64_t>{k, rows, experts};
  std::vector<int8_t> values(k * rows * experts);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<int8_t>(i * 7 / 5 % 3) - 1;
  if (type != TensorType::kI2_S) {
    std::vector<float> f;
    for (const int8_t v : values) f.push_back(scale * static_cast<float>(v));
    return Floats(type, ne, f);
  }
  FileTensor t{type, ne, std::string(values.size() / 4 + kI2sTail, '\0')};
  PackTernary(TensorType::kI2_S, values.data(), 1, values.size(), 1, reinterpret_cast<uint8_t*>(t.bytes.data()));
  std::memcpy(t.bytes.data() + values.size() / 4, &scale, sizeof(scale));
  return t;
}

// Embedding 64, two heads of 32 over one kv head, FFN 96, 128 tokens.
struct ModelFile {
  using Value = std::variant<uint32_t, float, bool, std::string>;
  std::map<std::string, Value> metadata;
  std::map<std::string, FileTensor> tensors;

  explicit ModelFile(TensorType type = TensorType::kI2_S, const std::string& arch = "bitnet-b1.58") {
    metadata["general.architecture"] = arch;
    Set("embedding_length", uint32_t{64});
    Set("block_count", uint32_t{1});
    Set("attention.head_count", uint32_t{2});
    Set("attention.head_count_kv", uint32_t{1});
    Set("feed_forward_length", uint32_t{96});
    Set("context_length", uint32_t{128});
    Set("attention.layer_norm_rms_epsilon", 1e-5f);
    tensors["token_embd.weight"] = Ones({64, 128});
    tensors["output_norm.weight"] = Ones({64});
    for (const char* n : {"attn_norm", "ffn_norm", "attn_sub_norm"}) tensors[Blk(n)] = Ones({64});
    tensors[Blk("ffn_sub_norm")] = Ones({96});
    for (const char* n : {"attn_q", "attn_output"}) tensors[Blk(n)] = Ternary(type, 64, 64, 0.5f);
    for (const char* n : {"attn_k", "attn_v"}) tensors[Blk(n)] = Ternary(type, 64, 32, 0.25f);
    for (const char* n : {"ffn_gate", "ffn_up"}) tensors[Blk(n)] = Ternary(type, 64, 96, 2.0f);
    tensors[Blk("ffn_down")] = Ternary(type, 96, 64, 1.0f);
  }

  static std::string Blk(const std::string& name) { return "blk.0." + name + ".weight"; }
  std::string Key(const std::string& key) const {
    return std::get<std::string>(metadata.at("general.architecture")) + "." + key;
  }
  void Set(const std::string& key, Value v) { metadata[Key(key)] = std::move(v); }
  void Erase(const std::string& key) { metadata.erase(Key(key)); }

  // Writes the file and opens it; a file that the writer refuses is a mistake of the test.
  Gguf Open() const {
    GgufWriter w;
    for (const auto& [key, value] : metadata) {
      if (const auto* u = std::get_if<uint32_t>(&value)) w.SetU32(key, *u);
      if (const auto* f = std::get_if<float>(&value)) w.SetF32(key, *f);
      if (const auto* b = std::get_if<bool>(&value)) w.SetBool(key, *b);
      if (const auto* s = std::get_if<std::string>(&value)) w.SetString(key, *s);
    }
    for (const auto& [name, t] : tensors) w.AddTensor(name, t.type, t.ne);
    const std::string path = *dir_ / "model.gguf";
    Must(w.Begin(path));
    for (const auto& [name, t] : tensors) Must(w.WriteTensorData(t.bytes.data(), t.bytes.size()));
    Must(w.Finish());
    Result<Gguf> g = Gguf::Open(path);
    Must(g.status());
    return *std::move(g);
  }

 private:
  static void Must(const Status& s) {
    if (s.ok()) return;
    std::fprintf(stderr, "test file: %s\n", s.message().c_str());
    std::abort();
  }
  std::shared_ptr<TempDir> dir_ = std::make_shared<TempDir>();
};

// models/bard as I2_S; converted at the first call.
inline std::shared_ptr<const Model> Bard() {
  static const TempDir dir;
  static const std::shared_ptr<const Model> model = []() -> std::shared_ptr<const Model> {
    const std::string path = dir / "bard.gguf";
    const Result<ConvertPlan> plan = PlanConversion(std::string(WF_SOURCE_DIR) + "/models/bard", {});
    if (!plan.ok() || !ExecuteConversion(*plan, path).ok()) return nullptr;
    Result<std::shared_ptr<const Model>> m = Model::Open(path);
    return m.ok() ? *m : nullptr;
  }();
  if (model == nullptr) {
    std::fprintf(stderr, "models/bard cannot be converted and opened\n");
    std::abort();
  }
  return model;
}

}  // namespace wf::test
#endif  // WF_TESTS_MODEL_MODEL_FILE_H_
