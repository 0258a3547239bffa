// SPDX-License-Identifier: Apache-2.0
// All types that a conversion writes stand for the same weights, whatever the model's form; other forms of output.
#include <algorithm>
#include <cmath>

#include "tests/catch.h"
#include "tests/convert/checkpoint.h"
#include "tests/convert/conversion.h"
#include "tests/convert/effective.h"
#include "tests/convert/plan_helpers.h"
#include "wf/convert/convert.h"
#include "wf/convert/source-impl.h"
#include "wf/formats/gguf.h"
#include "wf/quant/ternary.h"

namespace wf {
namespace {

using test::As;
using test::Bf16;
using test::Checkpoint;
using test::Conversion;
using test::Noise;
using test::Source;
using test::TempDir;
using test::Values;

const OutType kFileTypes[] = {OutType::kF32,   OutType::kF16,   OutType::kBF16,   OutType::kI2_S,
                              OutType::kTQ1_0, OutType::kTQ2_0, OutType::kIQ2_BN, OutType::kQ2_0};

Checkpoint Llama() {
  Checkpoint::Sizes z;
  z.embedding = 256;
  z.ffn = 512;
  z.head_dim = 128;
  z.layers = 2;
  return Checkpoint::Of("LlamaForCausalLM", z);
}
Checkpoint Moe() {
  Checkpoint::Sizes z;
  z.embedding = 256;
  z.expert_ffn = 256;
  z.shared_ffn = 512;
  z.head_dim = 128;
  z.experts = 3;
  Checkpoint c = Checkpoint::Of("Qwen2MoeForCausalLM", z);
  for (auto& [name, t] : c.tensors) {  // experts that differ
    const size_t at = name.find("experts.");
    if (at == std::string::npos) continue;
    const float size = static_cast<float>(1 + name[at + 8] - '0');
    const uint64_t salt = static_cast<uint64_t>(name[at + 8]);
    t = Bf16(t.shape, [&](uint64_t i) { return size * Noise(i + salt); });
  }
  return c;
}

TEST_CASE("every outtype stands for the same weights: llama's permuted ones and experts") {
  const char* llama[] = {"blk.0.attn_q", "blk.1.attn_k", "blk.1.attn_v", "blk.0.ffn_gate", "blk.1.ffn_down"};
  const char* moe[] = {"blk.0.ffn_gate_exps", "blk.0.ffn_up_exps", "blk.0.ffn_down_exps", "blk.0.ffn_up_shexp",
                       "blk.0.attn_q"};
  for (const bool experts : {false, true}) {
    const Checkpoint c = experts ? Moe() : Llama();
    const Conversion first(c, OutType::kF32);
    const Gguf want = first.File();
    for (const OutType type : kFileTypes) {
      const Conversion done(c, type);
      const Gguf g = done.File();
      for (const char* base : experts ? moe : llama) {
        INFO(kOutTypeNames[static_cast<size_t>(type)] << ' ' << base);
        const test::Effective a = test::Ternary(want, base), b = test::Ternary(g, base);
        CHECK(test::Tensor(g, std::string(base) + ".weight").type == OutTensorType(type));
        CHECK(a.values == b.values);
        size_t wrong = 0;
        for (size_t i = 0; i < a.scales.size(); ++i) wrong += a.values[i] == 0 || a.scales[i] == b.scales[i] ? 0 : 1;
        CHECK(wrong == 0);
      }
    }
  }
}

TEST_CASE("experts' weights are those of the checkpoint, each by its own absmean") {
  const Checkpoint c = Moe();
  const Conversion done(c, OutType::kI2_S);
  const Gguf g = done.File();
  const test::Effective e = test::Ternary(g, "blk.0.ffn_up_exps");
  REQUIRE(test::Tensor(g, "blk.0.ffn_up_exps.scale").elements() == 3);
  CHECK(LoadLe<float>(test::Tensor(g, "blk.0.ffn_up_exps.weight").data + 3 * 256 * 256 / 4) == 1.0f);
  for (uint64_t x = 0; x < 3; ++x) {
    const CheckpointTensor source =
        Source(c.tensors.at(Checkpoint::Layer("mlp.experts." + std::to_string(x) + ".up_proj.weight")));
    double sum = 0;
    for (uint64_t i = 0; i < 65536; ++i) sum += std::fabs(detail::FloatAt(source, i));
    const float scale = static_cast<float>(sum / 65536);
    size_t wrong = 0;
    for (uint64_t i = 0; i < 65536; ++i) {
      const double q = std::nearbyint(static_cast<double>(detail::FloatAt(source, i) / scale));
      wrong += e.values[x * 65536 + i] == std::min(1.0, std::max(-1.0, q)) ? 0 : 1;
    }
    CHECK(wrong == 0);
    CHECK(e.scales[x * 65536] == Approx(scale).epsilon(1e-6));
  }
}

TEST_CASE("llama's q and k rows are interleaved in the file") {
  const Checkpoint c = Llama();
  const Conversion done(c, OutType::kF32);
  const Gguf g = done.File();
  const CheckpointTensor source = Source(c.tensors.at(Checkpoint::Q("weight")));
  const std::vector<int> found = test::Ternary(g, "blk.0.attn_q").values;
  double sum = 0;
  for (uint64_t i = 0; i < 65536; ++i) sum += std::fabs(detail::FloatAt(source, i));
  const float scale = static_cast<float>(sum / 65536);
  size_t wrong = 0;
  for (uint64_t row = 0; row < 256; ++row) {
    const uint64_t from = row / 128 * 128 + row % 2 * 64 + row % 128 / 2;
    for (uint64_t k = 0; k < 256; ++k)
      wrong += found[row * 256 + k] == Ternarise(detail::FloatAt(source, from * 256 + k), scale) ? 0 : 1;
  }
  CHECK(wrong == 0);
}

TEST_CASE("any number of threads writes the same bytes") {
  for (const OutType type : kFileTypes) {
    std::string first;
    for (const int threads : {1, 2, 3}) {
      ConvertOptions o = As(type);
      o.threads = threads;
      o.embedding_type = TensorType::kQ6_K;
      const Conversion done(Moe(), o);
      INFO(done.report.status().message());
      REQUIRE(done.report.ok());
      const std::string bytes = test::ReadFile(done.output);
      if (threads == 1) first = bytes;
      CHECK(bytes == first);
    }
  }
}

TEST_CASE("embedding and head are quantised as asked, near their values") {
  const Checkpoint c = Llama();
  const Conversion exact(c, OutType::kF32);
  const Gguf reference = exact.File();
  const std::vector<float> e = Values(reference, "token_embd.weight"), h = Values(reference, "output.weight");
  const struct {
    TensorType type;
    double error;
  } types[] = {{TensorType::kBF16, 0.0},
               {TensorType::kQ8_0, 0.01},
               {TensorType::kQ6_K, 0.03},
               {TensorType::kQ4_K, 0.1},
               {TensorType::kQ4_0, 0.15}};
  for (const auto& [type, error] : types) {
    ConvertOptions o = As(OutType::kTQ2_0);
    o.embedding_type = type;
    o.head_type = TensorType::kQ8_0;
    const Conversion done(c, o);
    const Gguf g = done.File();
    CHECK(test::Tensor(g, "token_embd.weight").type == type);
    CHECK(test::Tensor(g, "output.weight").type == TensorType::kQ8_0);
    const std::vector<float> found = Values(g, "token_embd.weight");
    double difference = 0, norm = 0;
    for (size_t i = 0; i < e.size(); ++i) {
      difference += (found[i] - e[i]) * (found[i] - e[i]);
      norm += e[i] * e[i];
    }
    INFO(TensorTypeName(type));
    CHECK(std::sqrt(difference / norm) <= error);
    CHECK(Values(g, "output.weight").size() == h.size());
  }
}

TEST_CASE("for a peer, a scale that the type cannot hold is rounded to the nearest, and the report says by how much") {
  ConvertOptions o = As(OutType::kTQ2_0, Peer::kLlamaCpp);
  Checkpoint c = Llama();
  c.config["quantization_config"] = R"({"quant_method": "bitnet", "quantization_mode": "online"})";
  const Conversion done(c, o), exact(c, OutType::kF32);
  const Gguf g = done.File(), want = exact.File();
  CHECK(g.FindTensor("blk.0.ffn_up.scale") == nullptr);
  const test::Effective a = test::Ternary(want, "blk.0.ffn_up"), b = test::Ternary(g, "blk.0.ffn_up");
  const auto first = static_cast<size_t>(std::find_if(a.values.begin(), a.values.end(), [](int v) { return v != 0; }) -
                                         a.values.begin());
  CHECK(b.scales[first] == F32FromF16(F16FromF32(a.scales[first])));
  bool said = false;
  for (const std::string& n : done.report->notices) said = said || n.find("were rounded, by at most 0.0") != n.npos;
  CHECK(said);
  o.strict = true;
  const Conversion refused(c, o);
  CHECK_THAT(refused.report.status().message(), Catch::StartsWith("--strict: "));
  CHECK(refused.Clean());
}

TEST_CASE("sgl-kernel's .bin and back is the same GGUF") {
  const Checkpoint c = Llama();
  const TempDir dir;
  const std::string folder = c.Write(dir), bin = dir / "m.bin";
  const Result<ConvertPlan> to = PlanConversion(folder, As(OutType::kSgl));
  INFO(to.status().message());
  REQUIRE(to.ok());
  const Result<ConvertReport> written = ExecuteConversion(*to, bin);
  INFO(written.status().message());
  REQUIRE(written.ok());
  CHECK(test::ReadFile(bin).substr(0, 8) == "SGLBITNT");
  for (const OutType type : {OutType::kI2_S, OutType::kTQ2_0}) {
    ConvertOptions o = As(type);
    o.tokenizer = folder;
    const Result<ConvertPlan> back = PlanConversion(bin, o), direct = PlanConversion(folder, As(type));
    INFO(back.status().message());
    REQUIRE((back.ok() && direct.ok()));
    REQUIRE(ExecuteConversion(*back, dir / "back.gguf").ok());
    REQUIRE(ExecuteConversion(*direct, dir / "direct.gguf").ok());
    const Result<Gguf> a = Gguf::Open(dir / "back.gguf"), b = Gguf::Open(dir / "direct.gguf");
    REQUIRE((a.ok() && b.ok()));
    REQUIRE(a->tensors().size() == b->tensors().size());
    for (const GgufTensor& t : b->tensors()) {
      const GgufTensor& u = test::Tensor(*a, std::string(t.name));
      INFO(t.name);
      CHECK(std::string_view(reinterpret_cast<const char*>(t.data), t.bytes) ==
            std::string_view(reinterpret_cast<const char*>(u.data), u.bytes));
    }
  }
}

}  // namespace
}  // namespace wf
