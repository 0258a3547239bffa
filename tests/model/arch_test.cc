// SPDX-License-Identifier: Apache-2.0
// What architectures other than bitnet bring: a head of their own, biases, norms of heads, experts, RoPE factors, the
// layouts of I2_S. Logits of all of them: tests/golden/.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "tests/catch.h"
#include "tests/formats/tl2_encode.h"
#include "tests/model/model_file.h"
#include "wf/model/ffn-impl.h"
#include "wf/model/weights.h"
#include "wf/model/weights_tensor-impl.h"
#include "wf/quant/pack.h"

using wf::ErrorCode;
using wf::TensorType;
using wf::test::FileTensor;
using wf::test::Floats;
using wf::test::ModelFile;
using wf::test::Ones;
using wf::test::Ternary;

namespace {

std::string Blk(const std::string& name) { return ModelFile::Blk(name); }

// The small model without what only bitnet needs.
ModelFile Plain(const std::string& arch, TensorType type = TensorType::kI2_S) {
  ModelFile f(type, arch);
  f.tensors.erase(Blk("attn_sub_norm"));
  f.tensors.erase(Blk("ffn_sub_norm"));
  if (arch.starts_with("qwen3")) {
    f.tensors[Blk("attn_q_norm")] = Ones({32});
    f.tensors[Blk("attn_k_norm")] = Ones({32});
  }
  return f;
}

// Four experts of width 64, two of them used.
ModelFile Moe(const std::string& arch, TensorType type = TensorType::kI2_S) {
  ModelFile f = Plain(arch, type);
  for (const char* n : {"ffn_gate", "ffn_up", "ffn_down"}) f.tensors.erase(Blk(n));
  f.Set("expert_count", uint32_t{4});
  f.Set("expert_used_count", uint32_t{2});
  f.Set("expert_feed_forward_length", uint32_t{64});
  f.tensors[Blk("ffn_gate_inp")] = Ones({64, 4});
  for (const char* n : {"ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"}) {
    f.tensors[Blk(n)] = Ternary(type, 64, 64, 1.0f, 4);
  }
  return f;
}

wf::Result<wf::Weights> Load(const wf::Gguf& g, const wf::WeightOptions& options = {}) {
  WF_ASSIGN(const wf::Config c, wf::ConfigFromGguf(g));
  return wf::LoadWeights(g, c, options);
}
void Refused(const ModelFile& f, ErrorCode code, const std::string& words) {
  const wf::Gguf g = f.Open();
  const auto w = Load(g);
  REQUIRE_FALSE(w.ok());
  INFO(w.status().message());
  CHECK(w.status().code() == code);
  CHECK_THAT(w.status().message(), Catch::Contains(words));
}

}  // namespace

TEST_CASE("llama: rows of q and k for interleaved RoPE, no sub-norms, a head of its own or the embedding") {
  ModelFile f = Plain("llama");
  {
    const wf::Gguf g = f.Open();
    const auto w = Load(g);
    INFO(w.status().message());
    REQUIRE(w.ok());
    CHECK(w->head.data == w->embedding.data);
    CHECK(w->layers[0].o.norm == nullptr);
    CHECK(wf::ConfigFromGguf(g)->rope == wf::RopeKind::kNorm);
  }
  f.tensors["output.weight"] = Floats(TensorType::kF16, {64, 128}, std::vector<float>(64 * 128, 0.5f));
  f.tensors[Blk("attn_sub_norm")] = Ones({64});
  const wf::Gguf g = f.Open();
  const auto w = Load(g);
  REQUIRE(w.ok());
  CHECK((w->head.data != w->embedding.data && w->head.dense_type == wf::DenseType::kF16));
  CHECK(w->layers[0].o.norm != nullptr);
}

TEST_CASE("without the bitlinear key floats run unquantised, packed weights with quantised activations") {
  ModelFile f = Plain("llama", TensorType::kF16);
  f.tensors[Blk("attn_q")] = Ternary(TensorType::kI2_S, 64, 64, 1);
  f.tensors[Blk("attn_v")] = {TensorType::kQ8_0, {64, 32}, std::string(32 * 2 * 34, '\0')};
  {
    const wf::Gguf g = f.Open();
    const auto w = Load(g);
    INFO(w.status().message());
    REQUIRE(w.ok());
    CHECK((w->layers[0].q.ternary && !w->layers[0].k.ternary && !w->layers[0].v.ternary));
    CHECK(w->layers[0].v.dense_type == wf::DenseType::kQ8_0);
  }
  f.Set("bitlinear", true);
  Refused(f, ErrorCode::kUnsupported, "'blk.0.attn_v.weight' has type Q8_0");
}

TEST_CASE("qwen2 has biases, qwen3 a norm for each head of q and k and a head size of its own") {
  ModelFile f = Plain("qwen2");
  f.tensors["blk.0.attn_q.bias"] = Ones({64});
  const wf::Gguf g = f.Open();
  const auto w = Load(g);
  REQUIRE(w.ok());
  CHECK((w->layers[0].q.bias != nullptr && w->layers[0].q_norm == nullptr));

  ModelFile q = Plain("qwen3");
  q.Set("attention.key_length", uint32_t{64});
  q.Set("attention.value_length", uint32_t{64});
  q.tensors[Blk("attn_q")] = Ternary(TensorType::kI2_S, 64, 128, 1);
  for (const char* n : {"attn_k", "attn_v"}) q.tensors[Blk(n)] = Ternary(TensorType::kI2_S, 64, 64, 1);
  q.tensors[Blk("attn_output")] = Ternary(TensorType::kI2_S, 128, 64, 1);
  for (const char* n : {"attn_q_norm", "attn_k_norm"}) q.tensors[Blk(n)] = Ones({64});
  const wf::Gguf gq = q.Open();
  const auto wq = Load(gq);
  INFO(wq.status().message());
  REQUIRE(wq.ok());
  CHECK((wq->layers[0].q_norm != nullptr && wq->layers[0].q.rows == 128 && wq->layers[0].o.k == 128));

  q.tensors.erase(Blk("attn_k_norm"));
  Refused(q, ErrorCode::kNotFound, "'blk.0.attn_k_norm.weight' is missing");
}

TEST_CASE("norms of heads where the architecture has none would be ignored, so they are refused") {
  ModelFile f = Plain("llama");
  f.tensors[Blk("attn_q_norm")] = Ones({32});
  Refused(f, ErrorCode::kUnsupported, "'blk.0.attn_q_norm.weight' changes the result");
}

TEST_CASE("RoPE factors divide the angles: one for each pair, above 0") {
  ModelFile f = Plain("llama");
  f.tensors["rope_freqs.weight"] = Floats(TensorType::kF32, {16}, std::vector<float>(16, 8.0f));
  const wf::Gguf g = f.Open();
  const auto w = Load(g);
  REQUIRE(w.ok());
  CHECK(w->rope_factors[15] == 8.0f);
  f.tensors["rope_freqs.weight"] = Ones({32});
  Refused(f, ErrorCode::kFormat, "'rope_freqs.weight': expected {16}, found {32}");
  f.tensors["rope_freqs.weight"] = Floats(TensorType::kF32, {16}, std::vector<float>(16, 0.0f));
  Refused(f, ErrorCode::kFormat, "'rope_freqs.weight'");
}

TEST_CASE("experts of one tensor follow each other, and have scales of their own") {
  for (const char* arch : {"llama", "qwen2moe", "qwen3moe"}) {
    ModelFile f = Moe(arch);
    f.tensors["blk.0.ffn_up_exps.scale"] = Floats(TensorType::kF32, {4}, {1, 2, 3, 4});
    const wf::Gguf g = f.Open();
    const auto w = Load(g);
    INFO(arch << ": " << w.status().message());
    REQUIRE(w.ok());
    const wf::Layer& l = w->layers[0];
    REQUIRE(l.experts.size() == 4);
    CHECK((l.experts[3].up.scale == 4 && l.experts[1].up.scale == 2 && l.experts[3].gate.scale == 1));
    const auto at = [](const wf::Linear& p) { return static_cast<const uint8_t*>(p.data); };
    CHECK(at(l.experts[3].up) - at(l.experts[0].up) == 3 * 64 * 64 / 4);
    CHECK((l.router.rows == 4 && !l.router.ternary && l.ffn.gate.data == nullptr));
    CHECK(wf::ConfigFromGguf(g)->renormalise_experts == (std::string(arch) != "qwen2moe"));
  }
}

TEST_CASE("experts as floats each find their own magnitude") {
  ModelFile f = Moe("qwen3moe", TensorType::kF32);
  f.Set("bitlinear", true);
  FileTensor& t = f.tensors[Blk("ffn_down_exps")];
  for (size_t i = 64 * 64 * 2; i < 64 * 64 * 3; ++i) {
    float v = 0;
    std::memcpy(&v, t.bytes.data() + 4 * i, 4);
    v *= 0.25f;
    std::memcpy(t.bytes.data() + 4 * i, &v, 4);
  }
  const wf::Gguf g = f.Open();
  const auto w = Load(g);
  INFO(w.status().message());
  REQUIRE(w.ok());
  CHECK((w->layers[0].experts[1].down.scale == 1 && w->layers[0].experts[2].down.scale == 0.25f));
}

TEST_CASE("the shared expert and its gate; old files with a tensor for each expert") {
  ModelFile f = Moe("qwen2moe");
  f.Set("expert_shared_feed_forward_length", uint32_t{128});
  f.tensors[Blk("ffn_gate_shexp")] = Ternary(TensorType::kI2_S, 64, 128, 1);
  f.tensors[Blk("ffn_up_shexp")] = Ternary(TensorType::kI2_S, 64, 128, 1);
  f.tensors[Blk("ffn_down_shexp")] = Ternary(TensorType::kI2_S, 128, 64, 1);
  f.tensors[Blk("ffn_gate_inp_shexp")] = Ones({64});
  const wf::Gguf g = f.Open();
  const auto w = Load(g);
  INFO(w.status().message());
  REQUIRE(w.ok());
  CHECK((w->layers[0].shared.gate.rows == 128 && w->layers[0].shared_gate.rows == 1));

  ModelFile old = Moe("llama");
  for (const char* n : {"ffn_gate", "ffn_up", "ffn_down"}) {
    old.tensors.erase(Blk(std::string(n) + "_exps"));
    for (int i = 0; i < 4; ++i) {
      old.tensors[Blk(std::string(n) + "." + std::to_string(i))] =
          Ternary(TensorType::kI2_S, 64, 64, static_cast<float>(i + 1));
    }
  }
  const wf::Gguf go = old.Open();
  const auto wo = Load(go);
  INFO(wo.status().message());
  REQUIRE(wo.ok());
  CHECK(wo->layers[0].experts[2].down.scale == 3);
}

TEST_CASE("experts that cannot be used are refused by name") {
  ModelFile f = Moe("llama");
  SECTION("a missing one") {
    f.tensors.erase(Blk("ffn_up_exps"));
    Refused(f, ErrorCode::kNotFound, "'blk.0.ffn_up_exps.weight' is missing");
  }
  SECTION("too few in a tensor") {
    f.tensors[Blk("ffn_up_exps")] = Ternary(TensorType::kI2_S, 64, 64, 1, 3);
    Refused(f, ErrorCode::kFormat, "'blk.0.ffn_up_exps.weight': expected {64, 64, 4}, found {64, 64, 3}");
  }
  SECTION("more used than there are") {
    f.Set("expert_used_count", uint32_t{5});
    Refused(f, ErrorCode::kFormat, "expert_used_count = 5");
  }
  SECTION("other gating") {
    f.Set("expert_gating_func", uint32_t{2});
    Refused(f, ErrorCode::kUnsupported, "expert_gating_func");
  }
  SECTION("one I2_S scale for all") {
    f.tensors[Blk("ffn_up_exps")] = Ternary(TensorType::kI2_S, 64, 64, 0.5f, 4);
    Refused(f, ErrorCode::kFormat, "'blk.0.ffn_up_exps.weight': I2_S with experts has one scale");
  }
  SECTION("scales that are no numbers") {
    f.tensors["blk.0.ffn_up_exps.scale"] = Floats(TensorType::kF32, {4}, {1, 2, NAN, 4});
    Refused(f, ErrorCode::kFormat, "'blk.0.ffn_up_exps.scale'");
  }
}

TEST_CASE("the weights of the experts chosen: formats.md 4.4") {
  const float p[] = {.0854f, .6308f, .2321f, .0518f};
  wf::Config c;
  c.experts = 4;
  c.experts_used = 2;
  std::vector<wf::detail::ExpertChoice> chosen;
  wf::detail::ChooseExperts(p, 4, c, &chosen);
  REQUIRE(chosen.size() == 2);
  CHECK((chosen[0].expert == 1 && chosen[0].weight == .6308f && chosen[1].expert == 2 && chosen[1].weight == .2321f));
  c.renormalise_experts = true;
  wf::detail::ChooseExperts(p, 4, c, &chosen);
  CHECK(chosen[0].weight == Approx(.73105858).margin(1e-4));  // the vector's p are rounded to four digits
  CHECK(chosen[1].weight == Approx(.26894142).margin(1e-4));
  c.renormalise_experts = false;
  c.expert_scale = 2.5f;
  const float equal[] = {.25f, .25f, .25f, .25f};
  wf::detail::ChooseExperts(equal, 4, c, &chosen);  // ties: the lower index
  CHECK((chosen[0].expert == 0 && chosen[1].expert == 1 && chosen[1].weight == .625f));
}

TEST_CASE("TL1 is refused with advice") {
  ModelFile f;
  f.tensors[Blk("attn_q")] = {TensorType::kTL1, {64, 64}, std::string(64 * 64 / 4 + 32, '\0')};
  Refused(f, ErrorCode::kUnsupported, "convert the model again to I2_S or TQ2_0");
}

TEST_CASE("TL2 of a known shape is repacked to I2_S when it is loaded") {
  const wf::test::Tl2Tensor shape{1024, 4096, 256};
  const std::vector<int8_t> values = wf::test::RandomTernary(shape.rows * shape.k);
  const std::vector<uint8_t> bytes = wf::test::EncodeTl2(shape, values, 0.375f, false);
  const wf::Gguf g = ModelFile().Open();
  wf::Weights w;
  const wf::Config c;
  const wf::WeightOptions options;
  wf::detail::TensorLoader loader(g, c, options, &w);
  wf::GgufTensor t;
  t.name = "blk.0.attn_k.weight";
  t.type = TensorType::kTL2;
  t.n_dims = 2;
  t.ne[0] = shape.k;
  t.ne[1] = shape.rows;
  t.data = bytes.data();
  t.bytes = bytes.size();
  wf::Linear l = loader.View(t, shape.k, shape.rows);
  const wf::Status s = loader.SetWeights(t, 0, 1, &l);
  INFO(s.message());
  REQUIRE(s.ok());
  CHECK((l.type == TensorType::kI2_S && l.scale == 0.375f && w.repacked.size() == 1));
  std::vector<int8_t> row(shape.k);
  for (const size_t r : {size_t{0}, size_t{7}, shape.rows - 1}) {
    wf::UnpackTernary(l.type, static_cast<const uint8_t*>(l.data), r, l.k, row.data(), nullptr);
    CHECK(std::equal(row.begin(), row.end(), values.begin() + static_cast<ptrdiff_t>(r * shape.k)));
  }
}

TEST_CASE("the layout of I2_S tensors is the user's word") {
  const wf::Gguf g = ModelFile().Open();
  for (const TensorType layout : {TensorType::kI2_S, TensorType::kI2_S_ARM64, TensorType::kI2_S_X4}) {
    const auto w = Load(g, {layout});
    REQUIRE(w.ok());
    CHECK((w->layers[0].q.type == layout && w->layers[0].q.scale == 0.5f && w->embedding.type == TensorType::kF32));
  }
  CHECK(*wf::ParseI2sLayout("arm64") == TensorType::kI2_S_ARM64);
  CHECK_THAT(wf::ParseI2sLayout("ppc").status().message(), Catch::Contains("x86, arm64, x4"));
}
