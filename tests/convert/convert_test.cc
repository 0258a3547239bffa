// SPDX-License-Identifier: Apache-2.0
// What a conversion writes, value by value, and that a conversion that fails leaves nothing.
#include "wf/convert/convert.h"

#include <algorithm>
#include <cmath>

#include "tests/catch.h"
#include "tests/convert/checkpoint.h"
#include "tests/convert/conversion.h"
#include "tests/convert/effective.h"
#include "tests/convert/plan_helpers.h"
#include "wf/convert/source-impl.h"
#include "wf/formats/gguf.h"
#include "wf/quant/ternary.h"

namespace wf {
namespace {

using test::As;
using test::Bf16;
using test::Checkpoint;
using test::Conversion;
using test::F32;
using test::Noise;
using test::Source;
using test::SourceTensor;
using test::TempDir;
using test::Trit;
using test::Values;

// The ternary values and scales that a plan's tensor gives.
struct Ternary {
  std::vector<int> values;
  std::vector<float> scales;
  float scale = 0;  // the first
  std::string form;
};
Ternary ReadTernary(const PlannedTensor& planned) {
  detail::PieceRunner runner(2);
  const Result<detail::TernarySource> s =
      detail::TernarySource::Open(planned, nullptr, &runner, [](uint64_t) { return OkStatus(); });
  INFO(s.status().message());
  REQUIRE(s.ok());
  std::vector<int8_t> values(planned.elements());
  REQUIRE(s->Read(0, values.size(), values.data()).ok());
  return {{values.begin(), values.end()}, s->scales(), s->scales()[0], s->form()};
}
Ternary ReadTernary(const SourceTensor& t, uint64_t out, uint64_t in, ConvertOp op, float scale = 0) {
  const CheckpointTensor source = Source(t);
  PlannedTensor planned;
  planned.ne = {in, out};
  planned.op = op;
  planned.parts = {PlannedPart{&source, 0, scale}};
  return ReadTernary(planned);
}
std::vector<float> ReadFloats(const PlannedTensor& planned) {
  const Result<detail::FloatSource> s = detail::FloatSource::Open(planned);
  INFO(s.status().message());
  REQUIRE(s.ok());
  std::vector<float> v(planned.elements());
  REQUIRE(s->Read(0, v).ok());
  return v;
}

TEST_CASE("packed bytes are blocks of rows, low bits first (formats.md 3.8)") {
  const SourceTensor t{"U8", {2, 2}, std::string("\xa1\x18\x90\x0a", 4)};
  const Ternary r = ReadTernary(t, 8, 2, ConvertOp::kUnpack, 1.0f);
  CHECK(r.values == std::vector<int>{0, -1, -1, 1, -1, 1, -1, 1, 1, 0, 0, -1, 1, -1, 1, -1});
  CHECK(r.scale == 1.0f);
}

TEST_CASE("rows beyond the last are dropped where the rows are not a multiple of four") {
  const SourceTensor t{"U8", {2, 2}, std::string("\xa1\x18\x90\x0a", 4)};
  const Ternary r = ReadTernary(t, 7, 2, ConvertOp::kUnpack, 1.0f);
  CHECK(r.values == std::vector<int>{0, -1, -1, 1, -1, 1, -1, 1, 1, 0, 0, -1, 1, -1});
}

TEST_CASE("masters are ternarised by absmean (formats.md 4.4)") {
  const float w[] = {0.9f, -0.2f, 0.05f, -1.4f, 0.3f, 0.25f, -0.7f, 0};
  const Ternary r = ReadTernary(F32({2, 4}, [&](uint64_t i) { return w[i]; }), 2, 4, ConvertOp::kTernarise);
  CHECK(r.scale == Approx(0.475f).epsilon(1e-7));
  CHECK(r.values == std::vector<int>{1, 0, 0, -1, 1, 1, -1, 0});
  CHECK(r.form == "absmean");
}

TEST_CASE("a weight at exactly half the scale is zero: rounding is to even") {
  const float w[] = {0.5f, -0.5f, 2.0f, 1.0f};  // the mean is 1
  const Ternary r = ReadTernary(F32({1, 4}, [&](uint64_t i) { return w[i]; }), 1, 4, ConvertOp::kTernarise);
  CHECK(r.scale == 1.0f);
  CHECK(r.values == std::vector<int>{0, 0, 1, 1});
}

TEST_CASE("values that are ternary already keep their magnitude as scale") {
  const float w[] = {0.188f, 0, 0, -0.188f, 0, 0.188f, 0, 0};
  for (const ConvertOp op : {ConvertOp::kTernarise, ConvertOp::kTernary}) {
    const Ternary r = ReadTernary(F32({2, 4}, [&](uint64_t i) { return w[i]; }), 2, 4, op);
    CHECK(r.scale == 0.188f);
    CHECK(r.values == std::vector<int>{1, 0, 0, -1, 0, 1, 0, 0});
    CHECK(r.form == "already ternary");
  }
  const Ternary zeros = ReadTernary(F32({2, 4}, [](uint64_t) { return 0.0f; }), 2, 4, ConvertOp::kTernarise);
  CHECK(zeros.scale == 1e-5f);
  CHECK(zeros.values == std::vector<int>(8, 0));
}

TEST_CASE("rows of heads are interleaved whole, of matrices and of vectors") {
  // Two heads of four rows: 0 1 2 3 become 0 2 1 3.
  const SourceTensor t = F32({8, 3}, [](uint64_t i) { return static_cast<float>(i / 3); });
  const CheckpointTensor source = Source(t), bias = Source(F32({8}, [](uint64_t i) { return static_cast<float>(i); }));
  PlannedTensor planned;
  planned.ne = {3, 8};
  planned.permute_heads = 2;
  planned.parts = {PlannedPart{&source, 0, 0}};
  const std::vector<float> rows = ReadFloats(planned);
  const float order[] = {0, 2, 1, 3, 4, 6, 5, 7};
  for (size_t i = 0; i < rows.size(); ++i) CHECK(rows[i] == order[i / 3]);
  planned.permute_heads = 3;
  CHECK_FALSE(detail::FloatSource::Open(planned).ok());

  const SourceTensor signs = F32({8, 3}, [](uint64_t i) { return static_cast<float>(Trit(i)); });
  const CheckpointTensor ternary = Source(signs);
  planned.permute_heads = 2;
  planned.op = ConvertOp::kTernary;
  planned.parts = {PlannedPart{&ternary, 0, 0}};
  const Ternary r = ReadTernary(planned);
  for (size_t i = 0; i < r.values.size(); ++i) {
    CHECK(r.values[i] == Trit(static_cast<uint64_t>(order[i / 3]) * 3 + i % 3));
  }
}

TEST_CASE("a bias of interleaved heads is interleaved like its rows") {
  const SourceTensor t = F32({8}, [](uint64_t i) { return static_cast<float>(i); });
  const CheckpointTensor source = Source(t);
  PlannedTensor planned;
  planned.ne = {8};
  planned.permute_heads = 2;
  planned.parts = {PlannedPart{&source, 0, 0}};
  CHECK(ReadFloats(planned) == std::vector<float>{0, 2, 1, 3, 4, 6, 5, 7});
}

TEST_CASE("experts have scales of their own, in one source or in several") {
  const SourceTensor fused = F32({3, 2, 4}, [](uint64_t i) {  // expert x: magnitude x + 1
    return static_cast<float>(i / 8 + 1) * static_cast<float>(Trit(i));
  });
  const CheckpointTensor source = Source(fused);
  PlannedTensor planned;
  planned.ne = {4, 2, 2};
  planned.op = ConvertOp::kTernarise;
  planned.parts = {PlannedPart{&source, 4, 0}, PlannedPart{&source, 0, 0}};  // the last, then the first
  const Ternary r = ReadTernary(planned);
  CHECK(r.scales == std::vector<float>{3, 1});
  for (uint64_t i = 0; i < 16; ++i) CHECK(r.values[i] == Trit(i < 8 ? 16 + i : i - 8));
}

TEST_CASE("sgl-kernel's rows are unpacked as groups of 128 (formats.md 7.3)") {
  SourceTensor t{"U8", {2, 32}, std::string(64, '\0')};
  for (uint64_t e = 0; e < 256; ++e) {
    const int code = Trit(e) + 1;
    t.bytes[e / 128 * 32 + e % 32] =
        static_cast<char>(t.bytes[e / 128 * 32 + e % 32] | code << (6 - 2 * (e % 128 / 32)));
  }
  const CheckpointTensor source = Source(t);
  PlannedTensor planned;
  planned.ne = {128, 2};
  planned.op = ConvertOp::kUnpack;
  planned.packed = PackedForm::kI2sRows;
  planned.parts = {PlannedPart{&source, 0, 0.5f}};
  const Ternary r = ReadTernary(planned);
  CHECK(r.scale == 0.5f);
  for (uint64_t e = 0; e < 256; ++e) CHECK(r.values[e] == Trit(e));
}

TEST_CASE(
    "fake-quantised factors are rounded in groups of 32 of the source, before they are transposed and multiplied") {
  const SourceTensor t = F32({20, 4}, [](uint64_t i) { return Noise(i); });  // two groups and a half
  const CheckpointTensor source = Source(t);
  PlannedTensor planned;
  planned.ne = {20, 4};
  planned.op = ConvertOp::kTranspose;
  planned.factor = 2;
  planned.fake_bits = 4;
  planned.parts = {PlannedPart{&source, 0, 0}};
  const std::vector<float> v = ReadFloats(planned);
  for (uint64_t i = 0; i < 80; ++i) {
    float largest = 0;
    for (uint64_t j = i / 32 * 32; j < std::min<uint64_t>(80, i / 32 * 32 + 32); ++j) {
      largest = std::max(largest, std::fabs(Noise(j)));
    }
    const float scale = largest / 7;
    const float q = std::min(7.0f, std::max(-8.0f, std::nearbyint(Noise(i) / scale)));
    CHECK(v[i % 4 * 20 + i / 4] == 2 * (q * scale));
  }
}

TEST_CASE("ternarising by words is ternarising by division") {
  // Around half of the scale, where rounding decides, for scales of all sizes.
  for (const float scale : {1.0f, 0.1f, 3.0e-5f, 1.7e-38f, 1.0e30f, 0.0234375f}) {
    std::vector<float> w;
    for (uint32_t i = 0; i < 64; ++i) {
      const uint32_t half = std::bit_cast<uint32_t>(scale / 2);
      w.push_back(std::bit_cast<float>(half - 32 + i));
      w.push_back(-w.back());
      w.push_back(std::bit_cast<float>((half - (32u << 16) + (i << 16)) & 0xffff0000u));
    }
    w.push_back(0);
    w.push_back(-0.0f);
    const SourceTensor as_f32 = F32({w.size()}, [&](uint64_t i) { return w[i]; });
    const SourceTensor as_bf16 = Bf16({w.size()}, [&](uint64_t i) { return w[i]; });
    for (const SourceTensor* t : {&as_f32, &as_bf16}) {
      const CheckpointTensor source = Source(*t);
      std::vector<int8_t> found(w.size());
      REQUIRE(detail::TernariseRun(source, 0, w.size(), scale, found.data()).ok());
      size_t wrong = 0;
      for (size_t i = 0; i < w.size(); ++i) wrong += found[i] == Ternarise(detail::FloatAt(source, i), scale) ? 0 : 1;
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("low-rank factors keep their values, V transposed where it was not") {
  Checkpoint c;
  const auto u = [](uint64_t i) { return static_cast<float>(i); };  // small whole numbers: exact in every type
  const auto v = [](uint64_t i) { return static_cast<float>(i % 128); };
  c.tensors[Checkpoint::Q("lrc_U")] = Bf16({64, 2}, u);
  c.tensors[Checkpoint::Q("lrc_V")] = Bf16({64, 2}, v);
  c.tensors[Checkpoint::Layer("mlp.gate_proj.lrc_U_linear.weight")] = Bf16({96, 2}, u);
  c.tensors[Checkpoint::Layer("mlp.gate_proj.lrc_V_linear.weight")] = Bf16({2, 64}, v);
  for (const OutType type : {OutType::kF32, OutType::kF16, OutType::kBF16, OutType::kI2_S}) {
    const Conversion done(c, type);
    const Gguf g = done.File();
    const std::vector<float> gu = Values(g, "blk.0.attn_q.lrc_u.weight"), gv = Values(g, "blk.0.attn_q.lrc_v.weight");
    const std::vector<float> rows = Values(g, "blk.0.ffn_gate.lrc_v.weight");
    bool same = true;
    for (uint64_t row = 0; row < 64; ++row) {
      for (uint64_t r = 0; r < 2; ++r) {
        same = same && gu[row * 2 + r] == u(row * 2 + r) && gv[r * 64 + row] == v(row * 2 + r) &&
               rows[r * 64 + row] == v(r * 64 + row);
      }
    }
    CHECK(same);
  }
}

TEST_CASE("weight_quantized goes before weight, which may be empty") {
  Checkpoint c;
  c.tensors[Checkpoint::Q("weight_quantized")] =
      Bf16({64, 64}, [](uint64_t i) { return 0.25f * static_cast<float>(Trit(i)); });
  c.tensors[Checkpoint::Q("weight")] = {"BF16", {0}, ""};
  const Conversion done(c, OutType::kI2_S);
  const std::vector<float> w = test::Ternary(done.File(), "blk.0.attn_q").Floats();
  size_t wrong = 0;
  for (uint64_t i = 0; i < w.size(); ++i) wrong += w[i] == 0.25f * static_cast<float>(Trit(i)) ? 0 : 1;
  CHECK(wrong == 0);
  c.tensors[Checkpoint::Q("weight_quantized")] = Bf16({64, 64}, Noise);
  const Conversion refused(c, OutType::kI2_S);
  CHECK_THAT(refused.report.status().message(),
             Catch::Contains("weight_quantized': expected ternary values {-s, 0, s}"));
  CHECK(refused.Clean());
}

TEST_CASE("unpacked ternary floats with a weight_scale have its scale") {
  Checkpoint c;
  c.config["quantization_config"] = R"({"quant_method": "bitnet", "linear_class": "autobitlinear"})";
  c.tensors[Checkpoint::Q("weight")] = Bf16({64, 64}, [](uint64_t i) { return static_cast<float>(Trit(i)); });
  c.tensors[Checkpoint::Q("weight_scale")] = Bf16({1}, [](uint64_t) { return 1.5f; });
  const Conversion done(c, OutType::kF32);
  CHECK(std::fabs(Values(done.File(), "blk.0.attn_q.weight")[0]) == 1.5f * static_cast<float>(std::abs(Trit(0))));
  c.tensors[Checkpoint::Q("weight")] = Bf16({64, 64}, Noise);
  CHECK_THAT(Conversion(c, OutType::kF32).report.status().message(), Catch::Contains("because it has a weight_scale"));
}

TEST_CASE("biases and projections' own norms come through") {
  Checkpoint c;
  c.config["rms_norm_eps"] = "1e-6";
  c.tensors[Checkpoint::Q("bias")] = Bf16({64}, [](uint64_t i) { return static_cast<float>(i); });
  c.tensors[Checkpoint::Q("rms_norm.weight")] = Bf16({64}, [](uint64_t i) { return static_cast<float>(i); });
  const Conversion done(c, OutType::kI2_S);
  const Gguf g = done.File();
  CHECK(Values(g, "blk.0.attn_q.bias")[63] == 63);
  CHECK(Values(g, "blk.0.attn_q_norm_in.weight")[63] == 63);
  CHECK(*g.GetFloat("bitnet-b1.58.attention.sub_norm_epsilon") == Approx(1e-6));
}

TEST_CASE("the file says what the checkpoint said") {
  Checkpoint c;
  c.config["bd_size"] = "32";
  c.config["diffusion_style"] = R"("fast-dllm-v2")";
  c.config["rope_scaling"] = R"({"type": "linear", "factor": 4})";
  c.config["head_dim"] = "64";
  c.config["num_attention_heads"] = "1";
  c.config["hidden_size"] = "64";
  c.tensors[Checkpoint::Layer("self_attn.k_proj.weight")] = Bf16({64, 64}, Noise);
  c.tensors[Checkpoint::Layer("self_attn.v_proj.weight")] = Bf16({64, 64}, Noise);
  c.files["generation_config.json"] = R"({"temperature": 0.75, "top_k": 40})";
  const Conversion done(c, OutType::kF16);
  const Gguf g = done.File();
  CHECK(*g.GetString("general.architecture") == "bitnet-b1.58");
  CHECK(*g.GetString("general.name") == "model");
  CHECK(*g.GetUint("general.file_type") == 1);
  CHECK(*g.GetUint("bitnet-b1.58.block_count") == 1);
  CHECK(*g.GetUint("bitnet-b1.58.context_length") == 128);
  CHECK(*g.GetFloat("bitnet-b1.58.rope.scaling.factor") == 4);
  CHECK(*g.GetBool("bitnet-b1.58.bitlinear"));
  CHECK(*g.GetString("bitnet-b1.58.diffusion.style") == "fast-dllm-v2");
  CHECK(*g.GetUint("bitnet-b1.58.diffusion.block_size") == 32);
  CHECK(*g.GetFloat("general.sampling.temp") == 0.75);
  CHECK(*g.GetInt("general.sampling.top_k") == 40);
  CHECK(g.Find("bitnet-b1.58.attention.sub_norm_epsilon") == nullptr);
  CHECK(g.FindTensor("blk.0.attn_q.weight")->n_dims == 2);
}

TEST_CASE("values that f16 cannot hold are counted when rounded and refused when they overflow") {
  Checkpoint c;
  c.tensors["model.embed_tokens.weight"] = F32({2048, 64}, [](uint64_t i) { return i == 7 ? 1e-9f : 1.0f; });
  const Conversion done(c, OutType::kI2_S);
  REQUIRE(done.report.ok());
  CHECK(done.report->tensors[0].rounded == 1);
  c.tensors["model.embed_tokens.weight"] = F32({2048, 64}, [](uint64_t i) { return i == 7 ? 70000.0f : 1.0f; });
  const Conversion refused(c, OutType::kI2_S);
  CHECK_THAT(refused.report.status().message(),
             Catch::Contains("'model.embed_tokens.weight': element 7 is 70000, which "
                             "F16 cannot hold; use --outtype bf16 or f32"));
  CHECK(refused.Clean());
  CHECK(Conversion(c, OutType::kBF16).report.ok());
}

TEST_CASE("NaN, infinity and invalid codes are refused with tensor and place, and leave nothing") {
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()};
  for (const char* name : {"model.embed_tokens.weight", "model.norm.weight", "model.layers.0.mlp.down_proj.weight"}) {
    for (const float v : bad) {
      Checkpoint c;
      c.tensors[name] = Bf16(c.tensors[name].shape, [v](uint64_t i) { return i == 9 ? v : 1.0f; });
      const Conversion refused(c, OutType::kI2_S);
      CHECK_THAT(refused.report.status().message(),
                 Catch::Contains(std::string("tensor '") + name + "': element 9 is ") && Catch::Contains("finite"));
      CHECK(refused.Clean());
    }
  }
  Checkpoint c;
  c.tensors[Checkpoint::Q("weight")] = {"U8", {16, 64}, std::string(16 * 64, '\x55')};
  c.tensors[Checkpoint::Q("weight")].bytes[64 + 5] = '\x5d';  // packed row 1, column 5: row 1 + 16 has code 3
  c.tensors[Checkpoint::Q("weight_scale")] = Bf16({1}, [](uint64_t) { return 1.0f; });
  const Conversion refused(c, OutType::kI2_S);
  CHECK_THAT(refused.report.status().message(), Catch::Contains("row 17, column 5 has code 3"));
  CHECK(refused.Clean());
}

// Stops a conversion at its n-th report, or when it verifies.
struct Stopper : ConvertObserver {
  int reports_left = 0;
  bool stop = false, verifying = false;
  void Progress(const ConvertProgress& p) override {
    CHECK(p.done <= p.total);
    verifying = std::string(p.phase) == "verifying";
    stop = stop || --reports_left == 0 || verifying;
  }
  bool Cancelled() noexcept override { return stop; }
};

TEST_CASE("a cancelled conversion leaves nothing, and says so") {
  for (const int reports : {1, 1000}) {
    Stopper stopper;
    stopper.reports_left = reports;
    const Conversion stopped(Checkpoint(), OutType::kI2_S, &stopper);
    CHECK(stopped.report.status().code() == ErrorCode::kCancelled);
    CHECK_THAT(stopped.report.status().message(), Catch::StartsWith("cancelled while "));
    CHECK(stopper.verifying == (reports == 1000));
    CHECK(stopped.Clean());
  }
}

TEST_CASE("a full disk is an error that names the file, and leaves nothing") {
  const TempDir dir;
  const std::string folder = Checkpoint().Write(dir), output = dir / "out.gguf";
  const Result<ConvertPlan> plan = PlanConversion(folder, As(OutType::kI2_S));
  REQUIRE(plan.ok());
  Status s;
  {
    const test::FileSizeLimit limit(100000);
    s = ExecuteConversion(*plan, output).status();
  }
  CHECK(s.code() == ErrorCode::kIo);
  CHECK_THAT(s.message(), Catch::Contains("out.gguf: write of") && Catch::Contains("File too large"));
  CHECK(dir.Names() == std::vector<std::string>{"model"});
}

TEST_CASE("an output that is a folder, in no folder, or a part of the checkpoint is refused") {
  const TempDir dir;
  const std::string folder = Checkpoint().Write(dir);
  const Result<ConvertPlan> plan = PlanConversion(folder, As(OutType::kI2_S));
  REQUIRE(plan.ok());
  const std::string before = test::ReadFile(folder + "/config.json");
  CHECK_THAT(ExecuteConversion(*plan, folder).status().message(), Catch::Contains("is a folder, expected a file name"));
  CHECK_THAT(ExecuteConversion(*plan, dir / "no/out.gguf").status().message(), Catch::Contains("there is no folder"));
  CHECK_THAT(ExecuteConversion(*plan, folder + "/config.json").status().message(),
             Catch::Contains("is a part of the checkpoint"));
  CHECK_THAT(ExecuteConversion(*plan, "/dev/null").status().message(), Catch::Contains("is not a regular file"));
  CHECK(test::ReadFile(folder + "/config.json") == before);
}

TEST_CASE("an older output is replaced by success and kept by failure") {
  const TempDir dir;
  Checkpoint c;
  const std::string folder = c.Write(dir), output = dir / "out.gguf";
  test::WriteFile(output, "old");
  Stopper stopper;
  stopper.stop = true;
  const Result<ConvertPlan> plan = PlanConversion(folder, As(OutType::kI2_S));
  REQUIRE(plan.ok());
  CHECK_FALSE(ExecuteConversion(*plan, output, &stopper).ok());
  CHECK(test::ReadFile(output) == "old");
  const Result<ConvertReport> done = ExecuteConversion(*plan, output);
  REQUIRE(done.ok());
  CHECK(test::ReadFile(output).size() == done->file_bytes);
  CHECK(dir.Names() == std::vector<std::string>{"model", "out.gguf"});
}

}  // namespace
}  // namespace wf
