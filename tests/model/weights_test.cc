// SPDX-License-Identifier: Apache-2.0
// Tensors of a model by name: what is found, and an error that names the tensor for everything that would make the
// result wrong.
#include "wf/model/weights.h"

#include <limits>
#include <string>
#include <vector>

#include "tests/catch.h"
#include "tests/model/model_file.h"

using wf::ErrorCode;
using wf::TensorType;
using wf::test::FileTensor;
using wf::test::Floats;
using wf::test::ModelFile;
using wf::test::Ones;
using wf::test::Ternary;

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

wf::Status Load(const ModelFile& f) {
  const wf::Gguf g = f.Open();
  const auto c = wf::ConfigFromGguf(g);
  REQUIRE(c.ok());
  return wf::LoadWeights(g, *c).status();
}
void Refused(const ModelFile& f, ErrorCode code, const std::vector<std::string>& words) {
  const wf::Status s = Load(f);
  REQUIRE_FALSE(s.ok());
  INFO(s.message());
  CHECK(s.code() == code);
  for (const std::string& w : words) CHECK_THAT(s.message(), Catch::Matchers::Contains(w));
}
// f(weights) while the file is mapped.
template <class F>
void With(const ModelFile& file, const F& f) {
  const wf::Gguf g = file.Open();
  const auto c = wf::ConfigFromGguf(g);
  REQUIRE(c.ok());
  const auto w = wf::LoadWeights(g, *c);
  INFO(w.status().message());
  REQUIRE(w.ok());
  f(*w);
}

std::string Blk(const std::string& name) { return ModelFile::Blk(name); }

FileTensor Lrc(TensorType type, uint64_t ne0, uint64_t ne1) {
  return Floats(type, {ne0, ne1}, std::vector<float>(ne0 * ne1, 0.125f));
}

}  // namespace

TEST_CASE("every type of the projections gives the same shapes and scales") {
  for (const TensorType type : {TensorType::kI2_S, TensorType::kF32, TensorType::kF16, TensorType::kBF16}) {
    With(ModelFile(type), [&](const wf::Weights& w) {
      REQUIRE(w.layers.size() == 1);
      const wf::Layer& l = w.layers[0];
      CHECK((l.q.type == type && l.q.ternary && l.q.k == 64 && l.q.rows == 64 && l.q.scale == 0.5f));
      CHECK((l.k.rows == 32 && l.k.scale == 0.25f));
      CHECK((l.ffn.down.k == 96 && l.ffn.down.rows == 64 && l.ffn.down.scale == 1.0f));
      CHECK((l.q.norm == nullptr && l.o.norm != nullptr && l.ffn.down.norm != nullptr && l.o.norm_eps == 1e-5f));
      CHECK((l.q.rank == 0 && l.q.bias == nullptr));
      CHECK((w.embedding.rows == 128 && w.head.data == w.embedding.data && !w.head.ternary));
      CHECK(w.notices.empty());
    });
  }
}

TEST_CASE("norms and biases in 16 bits become floats") {
  ModelFile f;
  f.tensors[Blk("attn_norm")] = Floats(TensorType::kBF16, {64}, std::vector<float>(64, 1.5f));
  f.tensors["blk.0.attn_q.bias"] = Floats(TensorType::kF16, {64}, std::vector<float>(64, -2.0f));
  With(f, [](const wf::Weights& w) {
    CHECK(w.layers[0].attn_norm[63] == 1.5f);
    CHECK(w.layers[0].q.bias[63] == -2.0f);
  });
}

TEST_CASE("a .scale tensor multiplies the tensor's own scale") {
  ModelFile f;
  f.tensors["blk.0.attn_q.scale"] = Floats(TensorType::kF32, {1}, {3.0f});
  With(f, [](const wf::Weights& w) { CHECK(w.layers[0].q.scale == 1.5f); });
}

TEST_CASE("a projection of its own norm: the pairs of WrinkleFree, on all seven") {
  ModelFile f;
  f.Set("attention.sub_norm_epsilon", 1e-6f);
  f.tensors.erase(Blk("attn_sub_norm"));
  f.tensors.erase(Blk("ffn_sub_norm"));
  for (const char* p : {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up"}) {
    f.tensors[Blk(std::string(p) + "_norm_in")] = Ones({64});
  }
  f.tensors[Blk("ffn_down_norm_in")] = Ones({96});
  With(f, [](const wf::Weights& w) {
    const wf::Layer& l = w.layers[0];
    for (const wf::Linear* p : {&l.q, &l.k, &l.v, &l.o, &l.ffn.gate, &l.ffn.up, &l.ffn.down}) {
      CHECK((p->norm != nullptr && p->norm_eps == 1e-6f));
    }
  });
}

TEST_CASE("two norms for one projection contradict each other") {
  ModelFile f;
  f.tensors[Blk("attn_output_norm_in")] = Ones({64});
  Refused(f, ErrorCode::kFormat, {"attn_sub_norm", "attn_output_norm_in", "two norms"});
}

TEST_CASE("a missing tensor is named") {
  const ModelFile whole;
  for (const auto& [name, t] : whole.tensors) {
    ModelFile f;
    f.tensors.erase(name);
    Refused(f, ErrorCode::kNotFound, {"tensor '" + name + "' is missing"});
  }
}

TEST_CASE("a shape that does not fit says what was expected and found") {
  ModelFile f;
  SECTION("rows of a projection") {
    f.tensors[Blk("attn_k")] = Ternary(TensorType::kI2_S, 64, 64, 1);
    Refused(f, ErrorCode::kFormat, {"'blk.0.attn_k.weight'", "expected {64, 32}", "found {64, 64}"});
  }
  SECTION("columns of a projection") {
    f.tensors[Blk("ffn_down")] = Ternary(TensorType::kI2_S, 64, 64, 1);
    Refused(f, ErrorCode::kFormat, {"'blk.0.ffn_down.weight'", "expected {96, 64}", "found {64, 64}"});
  }
  SECTION("three dimensions") {
    f.tensors[Blk("attn_q")] = Ternary(TensorType::kF32, 64, 128, 1);
    f.tensors[Blk("attn_q")].ne = {64, 64, 2};
    Refused(f, ErrorCode::kFormat, {"'blk.0.attn_q.weight'", "expected {64, 64}", "found {64, 64, 2}"});
  }
  SECTION("a norm") {
    f.tensors[Blk("ffn_sub_norm")] = Ones({64});
    Refused(f, ErrorCode::kFormat, {"'blk.0.ffn_sub_norm.weight'", "expected {96}", "found {64}"});
  }
  SECTION("a norm that lies the other way") {
    f.tensors["output_norm.weight"] = Ones({1, 64});
    Refused(f, ErrorCode::kFormat, {"'output_norm.weight'", "expected {64}", "found {1, 64}"});
  }
  SECTION("the embedding") {
    f.tensors["token_embd.weight"] = Ones({32, 128});
    Refused(f, ErrorCode::kFormat, {"'token_embd.weight'", "expected {64, vocabulary}", "found {32, 128}"});
  }
  SECTION("a bias") {
    f.tensors["blk.0.attn_k.bias"] = Ones({64});
    Refused(f, ErrorCode::kFormat, {"'blk.0.attn_k.bias'", "expected {32}", "found {64}"});
  }
  SECTION("a scale") {
    f.tensors["blk.0.attn_k.scale"] = Ones({32});
    Refused(f, ErrorCode::kFormat, {"'blk.0.attn_k.scale'", "expected {1}", "found {32}"});
  }
}

TEST_CASE("continuous weights in a bitnet file are refused, with the cure") {
  for (const TensorType type : {TensorType::kF32, TensorType::kF16, TensorType::kBF16}) {
    ModelFile f(type);
    std::vector<float> v(64 * 64, 0.5f);
    v[4095] = -0.75f;
    f.tensors[Blk("attn_q")] = Floats(type, {64, 64}, v);
    Refused(f, ErrorCode::kFormat, {"'blk.0.attn_q.weight'", "continuous", "wf-convert"});
  }
}

TEST_CASE("scales that are no numbers are refused") {
  for (const float bad : {kNan, std::numeric_limits<float>::infinity()}) {
    for (const TensorType type : {TensorType::kI2_S, TensorType::kF32, TensorType::kF16, TensorType::kBF16}) {
      ModelFile f(type);
      // In a float type the only value: all of {-s, 0, s}.
      f.tensors[Blk("ffn_up")] = type == TensorType::kI2_S ? Ternary(type, 64, 96, bad)
                                                           : Floats(type, {64, 96}, std::vector<float>(64 * 96, bad));
      Refused(f, ErrorCode::kFormat, {"'blk.0.ffn_up.weight'", "scale is "});
    }
    ModelFile f;
    f.tensors["blk.0.ffn_up.scale"] = Floats(TensorType::kF32, {1}, {bad});
    Refused(f, ErrorCode::kFormat, {"'blk.0.ffn_up.scale'", "scale is "});
  }
}

TEST_CASE("norms and biases that are no numbers are refused") {
  for (const char* name :
       {"blk.0.attn_norm.weight", "blk.0.ffn_sub_norm.weight", "output_norm.weight", "blk.0.attn_output.bias"}) {
    ModelFile f;
    const uint64_t n = std::string(name) == "blk.0.ffn_sub_norm.weight" ? 96 : 64;
    std::vector<float> v(n, 1.0f);
    v[5] = kNan;
    f.tensors[name] = Floats(TensorType::kF32, {n}, v);
    Refused(f, ErrorCode::kFormat, {"'" + std::string(name) + "'", "element 5 is"});
  }
}

TEST_CASE("types without a kernel are named") {
  ModelFile f;
  SECTION("a projection") {
    f.tensors[Blk("attn_q")] = {TensorType::kQ8_0, {64, 64}, std::string(64 * 2 * 34, '\0')};
    Refused(f, ErrorCode::kUnsupported, {"'blk.0.attn_q.weight'", "Q8_0", "I2_S"});
  }
  SECTION("the embedding") {
    f.tensors["token_embd.weight"] = {TensorType::kQ8_0, {64, 128}, std::string(128 * 2 * 34, '\0')};
    With(f, [](const wf::Weights& w) { CHECK(w.head.dense_type == wf::DenseType::kQ8_0); });
    f.tensors["token_embd.weight"] = {TensorType::kQ4_1, {64, 128}, std::string(128 * 2 * 20, '\0')};
    Refused(f, ErrorCode::kUnsupported, {"'token_embd.weight'", "Q4_1", "F16"});
  }
  SECTION("a norm") {
    f.tensors["output_norm.weight"] = {TensorType::kQ8_0, {64}, std::string(2 * 34, '\0')};
    Refused(f, ErrorCode::kUnsupported, {"'output_norm.weight'", "Q8_0", "F32"});
  }
}

TEST_CASE("a low-rank correction in every spelling") {
  const std::pair<const char*, const char*> spellings[] = {{".lrc_u.weight", ".lrc_v.weight"},
                                                           {".lrc_u", ".lrc_v"},
                                                           {".lrc_U.weight", ".lrc_V.weight"},
                                                           {".lrc_U", ".lrc_V"}};
  for (const auto& [u, v] : spellings) {
    for (const TensorType type : {TensorType::kF16, TensorType::kBF16, TensorType::kF32}) {
      ModelFile f;
      f.tensors[std::string("blk.0.attn_k") + u] = Lrc(type, 5, 32);
      f.tensors[std::string("blk.0.attn_k") + v] = Lrc(type, 64, 5);
      With(f, [](const wf::Weights& w) {
        CHECK(w.layers[0].k.rank == 5);
        CHECK((w.layers[0].k.lrc_u != nullptr && w.layers[0].k.lrc_v != nullptr));
        CHECK(w.layers[0].q.rank == 0);
        CHECK(w.notices.empty());
      });
    }
  }
}

TEST_CASE("the factors of a low-rank correction may have different types, quantised ones too") {
  ModelFile f;
  f.tensors[Blk("attn_k.lrc_u")] = {TensorType::kQ8_0, {32, 32}, std::string(32 * 34, '\0')};
  f.tensors[Blk("attn_k.lrc_v")] = {TensorType::kQ4_0, {64, 32}, std::string(32 * 2 * 18, '\0')};
  With(f, [](const wf::Weights& w) {
    const wf::Linear& k = w.layers[0].k;
    CHECK((k.rank == 32 && k.lrc_type == wf::DenseType::kQ8_0 && k.lrc_v_type == wf::DenseType::kQ4_0));
  });
}

TEST_CASE("low-rank corrections that cannot be used") {
  ModelFile f;
  SECTION("one half") {
    f.tensors[Blk("attn_k.lrc_u")] = Lrc(TensorType::kF16, 5, 32);
    Refused(f, ErrorCode::kNotFound, {"'blk.0.attn_k'", "only one of the two"});
  }
  SECTION("the other half") {
    f.tensors[Blk("attn_k.lrc_v")] = Lrc(TensorType::kF16, 64, 5);
    Refused(f, ErrorCode::kNotFound, {"'blk.0.attn_k'", "only one of the two"});
  }
  SECTION("ranks that differ") {
    f.tensors[Blk("attn_k.lrc_u")] = Lrc(TensorType::kF16, 5, 32);
    f.tensors[Blk("attn_k.lrc_v")] = Lrc(TensorType::kF16, 64, 6);
    Refused(f, ErrorCode::kFormat, {"'blk.0.attn_k.lrc_v.weight'", "expected {64, 5}", "found {64, 6}"});
  }
  SECTION("V that was not transposed") {
    f.tensors[Blk("attn_k.lrc_u")] = Lrc(TensorType::kF16, 5, 32);
    f.tensors[Blk("attn_k.lrc_v")] = Lrc(TensorType::kF16, 5, 64);
    Refused(f, ErrorCode::kFormat, {"'blk.0.attn_k.lrc_v.weight'", "expected {64, 5}", "found {5, 64}"});
  }
  SECTION("a type that no kernel multiplies") {
    f.tensors[Blk("attn_k.lrc_u")] = {TensorType::kQ4_1, {32, 32}, std::string(32 * 20, '\0')};
    f.tensors[Blk("attn_k.lrc_v")] = Lrc(TensorType::kF32, 64, 32);
    Refused(f, ErrorCode::kUnsupported, {"lrc_u.weight' is Q4_1", "Q8_0"});
  }
}

TEST_CASE("a tensor of a layer that would change the result must not be ignored") {
  for (const char* name :
       {"blk.0.attn_q.lrc_w.weight", "blk.0.attn_q.lora_a", "blk.0.attn_q_norm.weight", "blk.0.attn_qkv.bias",
        "blk.0.ffn_gate.input_scale", "blk.0.ffn_up_exps.weight", "blk.0.ffn_gate_inp.weight",
        "blk.0.attn_sinks.weight", "output.scale", "token_embd_norm.weight", "output_norm.bias"}) {
    ModelFile f;
    f.tensors[name] = Ones({64});
    Refused(f, ErrorCode::kUnsupported, {std::string("tensor '") + name + "'", "changes the result"});
  }
}

TEST_CASE("other tensors are not used, and that is said") {
  ModelFile f;
  f.tensors["blk.1.attn_norm.weight"] = Ones({64});  // beyond the layers
  f.tensors["output.weight"] = Ones({64, 128});      // the head is tied
  With(f, [](const wf::Weights& w) {
    REQUIRE(w.notices.size() == 2);
    CHECK_THAT(w.notices[0], Catch::Matchers::Contains("output.weight is not used"));
    CHECK_THAT(w.notices[1], Catch::Matchers::Contains("'blk.1.attn_norm.weight'"));
  });
}

TEST_CASE("a row that is too long for exact sums in int32 is refused") {
  // The kernels' contract (kernels/args.h): K is at most 66052.
  ModelFile f;
  constexpr uint64_t kLong = 66176;  // above 66052, a multiple of 128
  f.Set("feed_forward_length", uint32_t{kLong});
  f.tensors[Blk("ffn_sub_norm")] = Ones({kLong});
  for (const char* n : {"ffn_gate", "ffn_up"}) f.tensors[Blk(n)] = Ternary(TensorType::kI2_S, 64, kLong, 1);
  f.tensors[Blk("ffn_down")] = Ternary(TensorType::kI2_S, kLong, 64, 1);
  const wf::Status s = Load(f);
  REQUIRE_FALSE(s.ok());
  CHECK_THAT(s.message(), Catch::Matchers::Contains("ffn_down"));
}
