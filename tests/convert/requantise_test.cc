// SPDX-License-Identifier: Apache-2.0
// Requantising: every ternary value and every scale survives, or the reason why not is given.
#include "wf/convert/requantise.h"

#include <cmath>
#include <filesystem>
#include <functional>

#include "tests/catch.h"
#include "tests/convert/checkpoint.h"
#include "tests/convert/effective.h"
#include "tests/scratch.h"
#include "wf/formats/gguf_writer.h"
#include "wf/quant/pack.h"

namespace wf {
namespace {

using test::Effective;
using test::TempDir;
using test::Ternary;
using test::Trit;

struct FileTensor {
  std::string name;
  TensorType type;
  std::vector<uint64_t> ne;
  std::string bytes;
};

std::string F32Bytes(const std::vector<float>& v) {
  return std::string(reinterpret_cast<const char*>(v.data()), v.size() * sizeof(float));
}
// A packed tensor of the values trit(i), each row or block with the scale that `scale` gives for its first element.
std::string Packed(TensorType type, uint64_t rows, uint64_t k, const std::function<float(uint64_t, uint64_t)>& scale,
                   const std::function<int(uint64_t)>& trit = Trit) {
  std::vector<int8_t> v;
  for (uint64_t i = 0; i < rows * k; ++i) v.push_back(static_cast<int8_t>(trit(i)));
  uint64_t bytes = 0;
  // The three layouts of I2_S are as large.
  REQUIRE(TensorBytes(*FindTensorType(static_cast<uint32_t>(type)), k, rows, &bytes));
  std::string out(bytes, '\0');
  uint8_t* p = reinterpret_cast<uint8_t*>(out.data());
  if (IsI2s(type)) {
    PackTernary(type, v.data(), rows, k, 1, p);
    StoreLe(p + rows * k / 4, scale(0, 0));
    return out;
  }
  const uint64_t share = TernaryScaleSize(type) == 0 ? k : TernaryScaleSize(type);
  const uint64_t step = type == TensorType::kIQ2_BN_R4 ? 4 : 1;
  const uint64_t piece = bytes / (rows * (k / share)) * step;
  for (uint64_t row = 0; row < rows; row += step) {
    for (uint64_t c = 0; c < k; c += share, p += piece) {
      PackTernary(type, v.data() + row * k + c, step, share, scale(row, c), p);
    }
  }
  return out;
}
std::string Same(TensorType type, uint64_t rows, uint64_t k, float scale) {
  return Packed(type, rows, k, [&](uint64_t, uint64_t) { return scale; });
}

// A file with some metadata, an embedding, a norm, and what a test adds.
struct Model {
  std::string architecture = "bitnet-b1.58";
  std::vector<FileTensor> tensors;
  std::optional<bool> bitlinear;

  static std::string Name() { return "blk.0.ffn_up.weight"; }
  Model() {
    std::vector<float> e;
    for (uint64_t i = 0; i < 256 * 64; ++i) e.push_back(test::Noise(i));
    tensors.push_back({"token_embd.weight", TensorType::kF32, {256, 64}, F32Bytes(e)});
    tensors.push_back({"blk.0.attn_norm.weight", TensorType::kF32, {3}, F32Bytes({1, 2, 3})});
  }
  Model(TensorType type, std::vector<uint64_t> ne, std::string bytes) : Model() {
    tensors.push_back({Name(), type, std::move(ne), std::move(bytes)});
  }
  void Add(const std::string& name, std::vector<float> v) {
    const uint64_t n = v.size();
    tensors.push_back({name, TensorType::kF32, {n}, F32Bytes(v)});
  }

  std::string Write(const TempDir& dir) const {
    GgufWriter w;
    w.SetString("general.architecture", architecture);
    w.SetU32("general.file_type", 7);
    w.SetStrings("tokenizer.ggml.tokens", {"a", "", "b"});
    if (bitlinear) w.SetBool(architecture + ".bitlinear", *bitlinear);
    w.SetF32("odd.key", 0.1f);
    for (const FileTensor& t : tensors) {
      const bool layout = t.type == TensorType::kI2_S_ARM64 || t.type == TensorType::kI2_S_X4;
      w.AddTensor(t.name, layout ? TensorType::kI2_S : t.type, t.ne);
    }
    const std::string path = dir / "in.gguf";
    const Status begun = w.Begin(path);
    INFO(begun.message());
    REQUIRE(begun.ok());
    for (const FileTensor& t : tensors) REQUIRE(w.WriteTensorData(t.bytes.data(), t.bytes.size()).ok());
    REQUIRE(w.Finish().ok());
    return path;
  }
};

RequantiseOptions To(TensorType type, Peer peer = Peer::kNone) {
  RequantiseOptions o;
  o.type = type;
  o.peer = peer;
  o.threads = 2;
  return o;
}

struct Requantised {
  TempDir dir;
  std::string output;
  Status status;
  std::vector<std::string> notices;
  Requantised(const Model& m, const RequantiseOptions& o) : output(dir / "out.gguf") { Run(m.Write(dir), o); }
  Requantised(const std::string& input, const RequantiseOptions& o) : output(dir / "out.gguf") { Run(input, o); }
  void Run(const std::string& input, const RequantiseOptions& o) {
    const Result<RequantisePlan> plan = PlanRequantisation(input, o);
    if (!plan.ok()) {
      status = plan.status();
      return;
    }
    notices = plan->notices;
    status = ExecuteRequantisation(*plan, output).status();
  }
  Gguf File() const {
    INFO(status.message());
    REQUIRE(status.ok());
    Result<Gguf> g = Gguf::Open(output);
    REQUIRE(g.ok());
    return *std::move(g);
  }
};
std::string WhyNot(const Model& m, const RequantiseOptions& o) {
  const Requantised r(m, o);
  CHECK_FALSE(std::filesystem::exists(r.output));
  return r.status.ok() ? "done" : r.status.message();
}
// Values and, where they are not 0, scales.
bool SameWeights(const Effective& a, const Effective& b) {
  bool same = a.values == b.values;
  for (size_t i = 0; same && i < a.values.size(); ++i) same = a.values[i] == 0 || a.scales[i] == b.scales[i];
  return same;
}

TEST_CASE("every type to every other and back: the same values, the same scale, the same bytes") {
  for (const float scale : {0.75f, 0.123456789f, 3.1e-5f}) {  // f16 holds the first
    const Model m(TensorType::kI2_S, {256, 8}, Same(TensorType::kI2_S, 8, 256, scale));
    for (const TensorType a : kRequantiseTypes) {
      const Requantised to_a(m, To(a));
      const Gguf ga = to_a.File();
      const Effective ea = Ternary(ga, "blk.0.ffn_up");
      CHECK(test::Tensor(ga, Model::Name()).type == a);
      size_t wrong = 0;
      for (uint64_t i = 0; i < 2048; ++i) {
        wrong += ea.values[i] == Trit(i) && (ea.values[i] == 0 || ea.scales[i] == scale) ? 0 : 1;
      }
      INFO(TensorTypeName(a) << " " << scale);
      CHECK(wrong == 0);
      for (const TensorType b : kRequantiseTypes) {
        const Requantised to_b(to_a.output, To(b)), direct(m, To(b));
        REQUIRE((to_b.status.ok() && direct.status.ok()));
        CHECK(test::ReadFile(to_b.output) == test::ReadFile(direct.output));
      }
    }
  }
}

TEST_CASE("a scale that f16 holds stays in the tensor; another is beside it, with 1 in the tensor") {
  for (const TensorType type : {TensorType::kTQ1_0, TensorType::kTQ2_0, TensorType::kQ2_0, TensorType::kIQ1_BN}) {
    const Requantised fits(Model(TensorType::kI2_S, {256, 4}, Same(TensorType::kI2_S, 4, 256, 0.75f)), To(type));
    CHECK(fits.File().FindTensor("blk.0.ffn_up.scale") == nullptr);
    const Requantised beside(Model(TensorType::kI2_S, {256, 4}, Same(TensorType::kI2_S, 4, 256, 0.3f)), To(type));
    const Gguf g = beside.File();
    CHECK(test::Values(g, "blk.0.ffn_up.scale") == std::vector<float>{0.3f});
    std::vector<int8_t> values(256);
    std::vector<float> stored(256);
    UnpackTernary(type, test::Tensor(g, Model::Name()).data, 0, 256, values.data(), stored.data());
    CHECK(stored[0] == 1.0f);
  }
}

TEST_CASE("for a peer, .scale tensors are folded in and scales rounded to the nearest") {
  Model m(TensorType::kTQ2_0, {512, 4}, Same(TensorType::kTQ2_0, 4, 512, 1.0f));
  m.architecture = "llama";
  m.Add("blk.0.ffn_up.scale", {0.3f});
  const Requantised r(m, To(TensorType::kTQ1_0, Peer::kLlamaCpp)), same(m, To(TensorType::kTQ2_0, Peer::kLlamaCpp));
  for (const Requantised* q : {&r, &same}) {
    const Gguf g = q->File();
    CHECK(g.FindTensor("blk.0.ffn_up.scale") == nullptr);
    CHECK(Ternary(g, "blk.0.ffn_up").scales[0] == F32FromF16(F16FromF32(0.3f)));
    REQUIRE(q->notices.size() == 1);
    CHECK_THAT(q->notices[0], Catch::Contains("were rounded, by at most 0.0"));
  }
  const Requantised whole(m, To(TensorType::kIQ2_BN, Peer::kIk));
  CHECK(Ternary(whole.File(), "blk.0.ffn_up").scales[0] == 0.3f);
  CHECK(whole.notices.empty());
}

TEST_CASE("what a peer does not load is refused") {
  Model m(TensorType::kI2_S, {256, 4}, Same(TensorType::kI2_S, 4, 256, 0.75f));
  CHECK_THAT(WhyNot(m, To(TensorType::kI2_S, Peer::kLlamaCpp)),
             Catch::Contains("llama.cpp does not load i2_s; it loads tq1_0, tq2_0, q2_0, f32, f16, bf16"));
  CHECK_THAT(WhyNot(m, To(TensorType::kTQ2_0, Peer::kIk)), Catch::Contains("ik does not load tq2_0"));
  CHECK_THAT(WhyNot(m, To(TensorType::kI2_S, Peer::kIk)), Catch::Contains("computes wrong results from it"));
  CHECK_THAT(WhyNot(m, To(TensorType::kTQ2_0, Peer::kLlamaCpp)),
             Catch::Contains("--for llama.cpp: it has no graph with relu2"));
  m.Add("blk.0.ffn_up.lrc_u.weight", {1, 2});
  CHECK_THAT(WhyNot(m, To(TensorType::kIQ2_BN, Peer::kIk)), Catch::Contains("'blk.0.ffn_up.lrc_u.weight'"));
  CHECK(Requantised(m, To(TensorType::kIQ2_BN)).status.ok());
}

TEST_CASE("rows with scales of their own go to types that have them") {
  const auto row_scale = [](uint64_t row, uint64_t) { return 0.25f * static_cast<float>(1 + row); };
  const Model m(TensorType::kIQ2_BN, {256, 8}, Packed(TensorType::kIQ2_BN, 8, 256, row_scale));
  const TempDir dir;
  const Result<Gguf> source = Gguf::Open(m.Write(dir));
  REQUIRE(source.ok());
  const Effective want = Ternary(*source, "blk.0.ffn_up");
  for (const TensorType type : {TensorType::kIQ2_BN_R4, TensorType::kIQ1_BN, TensorType::kTQ1_0, TensorType::kTQ2_0,
                                TensorType::kQ2_0, TensorType::kIQ2_BN}) {
    INFO(TensorTypeName(type));
    const Requantised there(m, To(type));
    CHECK(SameWeights(want, Ternary(there.File(), "blk.0.ffn_up")));
    const Requantised back(there.output, To(TensorType::kIQ2_BN));
    CHECK(test::ReadFile(back.output).size() == test::ReadFile(dir / "in.gguf").size() + 64);  // quantization_version
    CHECK(SameWeights(want, Ternary(back.File(), "blk.0.ffn_up")));
  }
  CHECK_THAT(WhyNot(m, To(TensorType::kI2_S)),
             Catch::Contains("its scales differ (0.25 and 0.5), and i2_s has one for the tensor; what can hold them: "
                             "iq2_bn"));
  CHECK_THAT(WhyNot(m, To(TensorType::kF32)), Catch::Contains("its scales differ"));
  const auto odd = [](uint64_t row, uint64_t) { return 0.3f * static_cast<float>(1 + row); };
  const Model fine(TensorType::kIQ2_BN, {512, 8}, Packed(TensorType::kIQ2_BN, 8, 512, odd));
  CHECK_THAT(WhyNot(fine, To(TensorType::kTQ2_0)), Catch::Contains("tq2_0 cannot hold 0.3"));
  const Requantised rounded(fine, To(TensorType::kIQ1_BN, Peer::kIk));
  CHECK(Ternary(rounded.File(), "blk.0.ffn_up").scales[512] == F32FromF16(F16FromF32(0.6f)));
  CHECK(rounded.notices.size() == 1);
}

TEST_CASE("blocks with scales of their own go to types whose blocks nest in theirs") {
  const auto block_scale = [](uint64_t row, uint64_t col) { return 0.5f + static_cast<float>(row + col / 256); };
  const Model m(TensorType::kTQ2_0, {512, 4}, Packed(TensorType::kTQ2_0, 4, 512, block_scale));
  const TempDir dir;
  const Result<Gguf> source = Gguf::Open(m.Write(dir));
  const Effective want = Ternary(*source, "blk.0.ffn_up");
  for (const TensorType type : {TensorType::kTQ1_0, TensorType::kQ2_0}) {
    const Requantised there(m, To(type));
    CHECK(SameWeights(want, Ternary(there.File(), "blk.0.ffn_up")));
    const Requantised back(there.output, To(TensorType::kTQ2_0));
    const Gguf a = back.File();
    CHECK(std::string_view(reinterpret_cast<const char*>(test::Tensor(a, Model::Name()).data),
                           m.tensors[2].bytes.size()) == m.tensors[2].bytes);
  }
  for (const TensorType type : {TensorType::kIQ2_BN, TensorType::kI2_S}) {
    CHECK_THAT(WhyNot(m, To(type)), Catch::Contains("what can hold them: tq1_0, tq2_0 and q2_0"));
  }
  const auto fine = [](uint64_t, uint64_t col) { return 0.5f + static_cast<float>(col / 64); };
  const Model q2(TensorType::kQ2_0, {256, 4}, Packed(TensorType::kQ2_0, 4, 256, fine));
  CHECK_THAT(WhyNot(q2, To(TensorType::kTQ2_0)),
             Catch::Contains("in row 0 within 256 weights, which share one in tq2_0"));
}

TEST_CASE("a .scale beside scales that differ stays beside them, and is folded in for a peer") {
  const auto row_scale = [](uint64_t row, uint64_t) { return 0.25f * static_cast<float>(1 + row); };
  Model m(TensorType::kIQ2_BN, {512, 4}, Packed(TensorType::kIQ2_BN, 4, 512, row_scale));
  m.Add("blk.0.ffn_up.scale", {0.5f});
  const Gguf beside = Requantised(m, To(TensorType::kTQ2_0)).File();
  CHECK(test::Values(beside, "blk.0.ffn_up.scale")[0] == 0.5f);
  CHECK(Ternary(beside, "blk.0.ffn_up").scales[3 * 512] == 0.5f);
  const Gguf folded = Requantised(m, To(TensorType::kIQ2_BN_R4, Peer::kIk)).File();
  CHECK(folded.FindTensor("blk.0.ffn_up.scale") == nullptr);
  CHECK(Ternary(folded, "blk.0.ffn_up").scales[3 * 512] == 0.5f);
}

TEST_CASE("blocks of zeros have no scale of their own") {
  const auto trit = [](uint64_t i) { return i / 256 == 1 ? 0 : Trit(i); };
  const auto scale = [](uint64_t row, uint64_t) { return row == 1 ? 0.0f : 0.75f; };
  const Model m(TensorType::kTQ2_0, {256, 4}, Packed(TensorType::kTQ2_0, 4, 256, scale, trit));
  const Gguf g = Requantised(m, To(TensorType::kI2_S)).File();
  const Effective e = Ternary(g, "blk.0.ffn_up");
  CHECK(e.scales[0] == 0.75f);
  for (uint64_t i = 0; i < 1024; ++i) CHECK(e.values[i] == trit(i));
  // A scale of 0 makes everything 0, whatever the codes are.
  const Model zeros(TensorType::kTQ2_0, {256, 4}, Packed(TensorType::kTQ2_0, 4, 256, scale));
  const Effective z = Ternary(Requantised(zeros, To(TensorType::kI2_S)).File(), "blk.0.ffn_up");
  for (uint64_t i = 256; i < 512; ++i) CHECK(z.values[i] == 0);
}

TEST_CASE("Q2_0's fourth code is copied and not squeezed into another type") {
  std::string bytes = Same(TensorType::kQ2_0, 4, 256, 0.5f);
  bytes[2 + 18 * 4 + 1] = static_cast<char>(bytes[2 + 18 * 4 + 1] | 0x0c);  // row 1, column 5
  const Model m(TensorType::kQ2_0, {256, 4}, bytes);
  CHECK_THAT(WhyNot(m, To(TensorType::kTQ2_0)),
             Catch::Contains("row 1, column 5 has code 3, twice the scale, which tq2_0 cannot hold"));
  CHECK(Ternary(Requantised(m, To(TensorType::kQ2_0)).File(), "blk.0.ffn_up").values[256 + 5] == 2);
}

TEST_CASE("damaged tensors are refused with their place") {
  std::string bytes = Same(TensorType::kI2_S, 4, 256, 0.5f);
  bytes[64 + 3] = static_cast<char>(bytes[64 + 3] | 0x30);                 // second field of row 1: column 35
  for (const TensorType type : {TensorType::kTQ2_0, TensorType::kI2_S}) {  // copying is no way through
    CHECK_THAT(WhyNot(Model(TensorType::kI2_S, {256, 4}, bytes), To(type)),
               Catch::Contains("tensor 'blk.0.ffn_up.weight': row 1, column 35 has code 3, expected 0, 1 or 2"));
  }
  for (const float bad : {-0.5f, std::nanf(""), INFINITY}) {
    CHECK_THAT(WhyNot(Model(TensorType::kI2_S, {256, 4}, Same(TensorType::kI2_S, 4, 256, bad)), To(TensorType::kTQ2_0)),
               Catch::Contains("a scale of row 0 is"));
    Model m(TensorType::kTQ2_0, {256, 4}, Same(TensorType::kTQ2_0, 4, 256, 1));
    m.Add("blk.0.ffn_up.scale", {bad});
    CHECK_THAT(WhyNot(m, To(TensorType::kI2_S)), Catch::Contains("tensor 'blk.0.ffn_up.scale': scale is"));
  }
  Model m(TensorType::kTQ2_0, {256, 4}, Same(TensorType::kTQ2_0, 4, 256, 1));
  m.Add("blk.0.ffn_up.scale", {1, 2});
  CHECK_THAT(WhyNot(m, To(TensorType::kI2_S)), Catch::Contains("expected 1 or 1 floats, found 2"));
}

TEST_CASE("a copy's codes are read in every type that has a fourth") {
  const struct {
    TensorType type;
    size_t byte;  // whose lowest field is column 1 of row 1
  } rows[] = {
      {TensorType::kTQ2_0, 66 + 1}, {TensorType::kIQ2_BN, 4 + 64 + 4 + 1}, {TensorType::kIQ2_BN_R4, 16 + 4 + 1}};
  for (const auto& r : rows) {
    INFO(TensorTypeName(r.type));
    std::string bytes = Same(r.type, 4, 256, 0.5f);
    CHECK(Requantised(Model(r.type, {256, 4}, bytes), To(r.type)).status.ok());
    bytes[r.byte] = static_cast<char>(bytes[r.byte] | 0x03);
    CHECK_THAT(WhyNot(Model(r.type, {256, 4}, bytes), To(r.type)),
               Catch::Contains("row 1, column 1 has code 3, expected 0, 1 or 2"));
  }
}

TEST_CASE("I2_S with experts and one scale for all of them is refused, as it is by the loader") {
  Model m;
  m.tensors.push_back({"blk.0.ffn_up_exps.weight", TensorType::kI2_S, {256, 4, 2}, Same(TensorType::kI2_S, 8, 256, 2)});
  for (const TensorType layout : {TensorType::kI2_S, TensorType::kI2_S_ARM64, TensorType::kI2_S_X4}) {
    for (const TensorType type : {TensorType::kTQ2_0, TensorType::kI2_S}) {
      RequantiseOptions o = To(type);
      o.i2s_layout = layout;
      CHECK_THAT(WhyNot(m, o), Catch::Contains("tensor 'blk.0.ffn_up_exps.weight': I2_S with experts has one scale, "
                                               "expected 1 beside a tensor 'blk.0.ffn_up_exps.scale'"));
    }
  }
  m.Add("blk.0.ffn_up_exps.scale", {0.5f, 0.25f});
  const Effective e = Ternary(Requantised(m, To(TensorType::kTQ2_0)).File(), "blk.0.ffn_up_exps");
  CHECK((e.scales[0] == 1.0f && e.scales[4 * 256] == 0.5f));
}

TEST_CASE("floats that are {-s, 0, s} are ternary; continuous weights are refused with advice") {
  std::vector<float> ternary, continuous;
  for (uint64_t i = 0; i < 1024; ++i) {
    ternary.push_back(0.3f * static_cast<float>(Trit(i)));
    continuous.push_back(test::Noise(i));
  }
  for (const char* arch : {"llama", "bitnet-b1.58"}) {
    Model m(TensorType::kF32, {256, 4}, F32Bytes(ternary));
    m.architecture = arch;
    const Requantised r(m, To(TensorType::kI2_S));
    CHECK(Ternary(r.File(), "blk.0.ffn_up").scales[0] == 0.3f);
    CHECK(r.notices.size() == (m.architecture == "llama" ? 1 : 0));
    Model c(TensorType::kF32, {256, 4}, F32Bytes(continuous));
    c.architecture = arch;
    for (const TensorType type : {TensorType::kTQ2_0, TensorType::kF32}) {
      CHECK_THAT(WhyNot(c, To(type)),
                 Catch::Contains("holds continuous weights, not {-s, 0, s}; convert the checkpoint "
                                 "with wf-convert, which ternarises by absmean"));
    }
  }
  Model q8(TensorType::kQ8_0, {256, 4}, std::string(256 * 4 / 32 * 34, '\1'));
  CHECK_THAT(WhyNot(q8, To(TensorType::kI2_S)), Catch::Contains("is Q8_0, which holds no ternary values; convert"));
  CHECK_THAT(WhyNot(Model(), To(TensorType::kI2_S)), Catch::Contains("has no ternary tensors"));
}

TEST_CASE("floats of an architecture that is not BitLinear by itself get the flag without which they would be dense") {
  Model m(TensorType::kI2_S, {256, 4}, Same(TensorType::kI2_S, 4, 256, 0.75f));
  m.architecture = "qwen2";
  const Requantised r(m, To(TensorType::kF16));
  CHECK(*r.File().GetBool("qwen2.bitlinear"));
  CHECK(r.notices.size() == 1);
  CHECK(Requantised(m, To(TensorType::kTQ2_0)).File().Find("qwen2.bitlinear") == nullptr);
  m.bitlinear = true;
  CHECK(Requantised(m, To(TensorType::kF16)).notices.empty());
}

TEST_CASE("rows that do not fit are refused with the types that do") {
  const Model m(TensorType::kI2_S, {192, 6}, Same(TensorType::kI2_S, 6, 192, 0.75f));
  CHECK_THAT(WhyNot(m, To(TensorType::kTQ2_0)),
             Catch::Contains("tq2_0 needs rows of a multiple of 256 weights, found 192; types that fit: i2_s, q2_0, "
                             "iq1_bn, iq2_bn, f32, f16, bf16"));
  CHECK_THAT(WhyNot(m, To(TensorType::kIQ2_BN_R4)), Catch::Contains("iq2_bn_r4 needs a multiple of 4 rows, found 6"));
  const Model odd(TensorType::kF32, {64, 3}, F32Bytes(std::vector<float>(192, 0.5f)));
  CHECK_THAT(WhyNot(odd, To(TensorType::kI2_S)), Catch::Contains("i2_s needs a multiple of 128 weights, found 192"));
  CHECK(Requantised(m, To(TensorType::kQ2_0)).status.ok());
  CHECK_THAT(
      WhyNot(m, To(TensorType::kIQ2_BN, Peer::kIk)),
      Catch::Contains("iq2_bn needs rows of at least 512 weights in ik, found 192; types that fit: f32, f16, bf16"));
  const Model q2(TensorType::kQ2_0, {192, 6}, Same(TensorType::kQ2_0, 6, 192, 0.75f));
  CHECK_THAT(WhyNot(q2, To(TensorType::kI2_S, Peer::kBitnetCpp)),
             Catch::Contains("i2_s needs rows of a multiple of 128 weights in bitnet.cpp, found 192"));
}

TEST_CASE("I2_S in the layouts that no file tells becomes the usual one") {
  const Model usual(TensorType::kI2_S, {256, 8}, Same(TensorType::kI2_S, 8, 256, 0.75f));
  const Requantised want(usual, To(TensorType::kTQ2_0));
  for (const TensorType layout : {TensorType::kI2_S_ARM64, TensorType::kI2_S_X4}) {
    const Model m(layout, {256, 8}, Same(layout, 8, 256, 0.75f));
    RequantiseOptions o = To(TensorType::kTQ2_0);
    o.i2s_layout = layout;
    const Requantised r(m, o);
    CHECK(test::ReadFile(r.output) == test::ReadFile(want.output));
    o.type = TensorType::kI2_S;
    const Requantised i2s(m, o);
    CHECK(SameWeights(Ternary(i2s.File(), "blk.0.ffn_up"), Ternary(want.File(), "blk.0.ffn_up")));
  }
}

TEST_CASE(
    "metadata, embedding and norms are copied byte for byte; file_type and quantization_version are the new ones") {
  const Model m(TensorType::kI2_S, {256, 4}, Same(TensorType::kI2_S, 4, 256, 0.75f));
  const TempDir dir;
  const Result<Gguf> in = Gguf::Open(m.Write(dir));
  REQUIRE(in.ok());
  const Requantised r(m, To(TensorType::kTQ1_0));
  const Gguf out = r.File();
  CHECK(*out.GetUint("general.file_type") == 36);
  CHECK(*out.GetUint("general.quantization_version") == 2);
  REQUIRE(out.values().size() == in->values().size() + 1);
  for (size_t i = 0; i < in->values().size(); ++i) {
    CHECK(out.values()[i].key == in->values()[i].key);
    CHECK((out.values()[i].key == "general.file_type" || out.values()[i].raw == in->values()[i].raw));
  }
  for (const char* name : {"token_embd.weight", "blk.0.attn_norm.weight"}) {
    CHECK(test::Values(out, name) == test::Values(*in, name));
  }
}

TEST_CASE("embedding and head change their type only if that is asked for") {
  Model m(TensorType::kI2_S, {256, 4}, Same(TensorType::kI2_S, 4, 256, 0.75f));
  RequantiseOptions o = To(TensorType::kTQ2_0);
  o.embedding_type = TensorType::kQ8_0;
  const Requantised r(m, o);
  const Gguf g = r.File();
  CHECK(test::Tensor(g, "token_embd.weight").type == TensorType::kQ8_0);
  const std::vector<float> v = test::Values(g, "token_embd.weight");
  for (uint64_t i = 0; i < v.size(); ++i) CHECK(std::fabs(v[i] - test::Noise(i)) < 0.005f);
  o.head_type = TensorType::kF16;
  CHECK_THAT(WhyNot(m, o), Catch::Contains("has no head of its own"));
  m.tensors.push_back(m.tensors[0]);
  m.tensors.back().name = "output.weight";
  const Gguf both = Requantised(m, o).File();
  CHECK(test::Tensor(both, "output.weight").type == TensorType::kF16);
}

TEST_CASE("experts keep a scale each") {
  std::vector<float> w;
  for (uint64_t i = 0; i < 3 * 4 * 256; ++i) w.push_back((i / 1024 == 1 ? 0.3f : 0.75f) * static_cast<float>(Trit(i)));
  Model m;
  m.tensors.push_back({"blk.0.ffn_up_exps.weight", TensorType::kF32, {256, 4, 3}, F32Bytes(w)});
  const TempDir dir;
  const std::string first = m.Write(dir);
  const Result<Gguf> source = Gguf::Open(first);
  REQUIRE(source.ok());
  const Effective want = Ternary(*source, "blk.0.ffn_up_exps");
  for (const TensorType a : kRequantiseTypes) {
    const Requantised there(first, To(a));
    INFO(TensorTypeName(a));
    CHECK(SameWeights(want, Ternary(there.File(), "blk.0.ffn_up_exps")));
    for (const TensorType b : {TensorType::kI2_S, TensorType::kTQ2_0, TensorType::kIQ2_BN}) {
      const Requantised then(there.output, To(b));
      CHECK(SameWeights(want, Ternary(then.File(), "blk.0.ffn_up_exps")));
    }
  }
  CHECK_THAT(WhyNot(m, To(TensorType::kI2_S, Peer::kBitnetCpp)),
             Catch::Contains("its i2_s has one scale for all experts"));
}

TEST_CASE("requantising with any number of threads writes the same bytes") {
  const Model m(TensorType::kI2_S, {1024, 512}, Same(TensorType::kI2_S, 512, 1024, 0.3f));
  for (const TensorType type : kRequantiseTypes) {
    std::string first;
    for (const int threads : {1, 2, 3}) {
      RequantiseOptions o = To(type);
      o.threads = threads;
      o.embedding_type = TensorType::kQ4_K;
      const Requantised r(m, o);
      REQUIRE(r.status.ok());
      if (threads == 1) first = test::ReadFile(r.output);
      CHECK(test::ReadFile(r.output) == first);
    }
  }
}

TEST_CASE("the input is not written over, by whatever name it is called") {
  const Model m(TensorType::kI2_S, {256, 4}, Same(TensorType::kI2_S, 4, 256, 0.75f));
  const TempDir dir;
  const std::string path = m.Write(dir), before = test::ReadFile(path);
  std::filesystem::create_symlink(path, dir / "link.gguf");
  const Result<RequantisePlan> plan = PlanRequantisation(path, To(TensorType::kTQ2_0));
  REQUIRE(plan.ok());
  for (const std::string& output : {path, dir / "./in.gguf", dir / "link.gguf"}) {
    CHECK_THAT(ExecuteRequantisation(*plan, output).status().message(), Catch::EndsWith("is the input"));
  }
  CHECK_THAT(ExecuteRequantisation(*plan, dir.path()).status().message(), Catch::Contains("is a folder"));
  CHECK(test::ReadFile(path) == before);
}

struct Stopper : ConvertObserver {
  std::string phase;
  bool stop = false;
  void Progress(const ConvertProgress& p) override { stop = stop || phase == p.phase; }
  bool Cancelled() noexcept override { return stop; }
};
TEST_CASE("cancelled in any phase, it leaves nothing") {
  const Model m(TensorType::kI2_S, {1024, 1024}, Same(TensorType::kI2_S, 1024, 1024, 0.75f));
  for (const char* phase : {"analysing", "writing", "verifying"}) {
    const TempDir dir;
    const std::string path = m.Write(dir);
    Stopper stopper;
    stopper.phase = phase;
    const Result<RequantisePlan> plan = PlanRequantisation(path, To(TensorType::kTQ2_0), &stopper);
    const Status s = plan.ok() ? ExecuteRequantisation(*plan, dir / "out.gguf", &stopper).status() : plan.status();
    CHECK(s.code() == ErrorCode::kCancelled);
    CHECK_THAT(s.message(), Catch::StartsWith(std::string("cancelled while ") + phase));
    CHECK(dir.Names() == std::vector<std::string>{"in.gguf"});
  }
}

}  // namespace
}  // namespace wf
