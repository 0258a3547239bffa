// SPDX-License-Identifier: Apache-2.0
// Bytes and multiplications of a pass, against numbers worked out by hand.
#include "wf/model/cost.h"

#include <algorithm>
#include <string>

#include "tests/catch.h"

namespace {

using wf::Linear;
using wf::TensorType;

const char kData = 0;  // costs look at shapes only

Linear Make(const std::string& name, size_t k, size_t rows, TensorType type = TensorType::kI2_S) {
  Linear l;
  l.name = name;
  l.type = type;
  l.data = &kData;
  l.k = k;
  l.rows = rows;
  l.ternary = !wf::ToDenseType(type, &l.dense_type);
  return l;
}

// BitNet-b1.58-2B-4T: 30 layers of width 2560, FFN 6912, 20 heads of 128 over 5, 128256 tokens, tied F16 head.
struct TwoB {
  wf::Config c;
  wf::Weights w;
  const float norm = 1;
  wf::KvShape kv{30, 5, 128, wf::KvType::kF16};
  TwoB() {
    c.embedding = 2560;
    c.layers = 30;
    c.heads = 20;
    c.kv_heads = 5;
    c.head_dim = 128;
    w.embedding = w.head = Make("token_embd.weight", 2560, 128256, TensorType::kF16);
    for (int i = 0; i < 30; ++i) {
      const std::string p = "blk." + std::to_string(i) + ".";
      wf::Layer l;
      l.q = Make(p + "attn_q.weight", 2560, 2560);
      l.k = Make(p + "attn_k.weight", 2560, 640);
      l.v = Make(p + "attn_v.weight", 2560, 640);
      l.o = Make(p + "attn_output.weight", 2560, 2560);
      l.ffn = {Make(p + "ffn_gate.weight", 2560, 6912), Make(p + "ffn_up.weight", 2560, 6912),
               Make(p + "ffn_down.weight", 6912, 2560)};
      l.o.norm = l.ffn.down.norm = &norm;
      w.layers.push_back(l);
    }
  }
  const wf::KindCost& Kind(const wf::PassCost& cost, const std::string& name) const {
    const auto at =
        std::find_if(cost.kinds.begin(), cost.kinds.end(), [&](const wf::KindCost& k) { return k.kind == name; });
    REQUIRE(at != cost.kinds.end());
    return *at;
  }
};

constexpr double kBody = 2084044800, kHead = 656670720;  // weights; bytes of 128256 x 2560 F16

}  // namespace

TEST_CASE("a decoded token of the 2B shape reads the body, the head, norms, one embedding row, and its K and V") {
  const TwoB m;
  const wf::PassCost cost = wf::CostOfPass(m.c, m.w, m.kv, wf::DecodePass(1, 0));
  CHECK(cost.total.ternary == kBody);
  CHECK(cost.total.dense == 328335360);
  CHECK(cost.head.bytes == kHead);
  CHECK(wf::KvBytesPerPosition(m.kv) == 30 * 5 * (128 + 128) * 2);
  CHECK(cost.kv.bytes == 76800);
  CHECK(cost.kv.attention == 30 * 20 * 128 * 2);
  CHECK(m.Kind(cost, "token_embd (rows)").work.bytes == 5120);
  CHECK(m.Kind(cost, "norms").work.bytes == 4 * (30 * 2 * 2560 + 2560));
  CHECK(m.Kind(cost, "attn_q").work.bytes == 30 * 2560 * 2560 / 4);
  CHECK(m.Kind(cost, "ffn_down").work.bytes == 30 * (6912 * 2560 / 4 + 4 * 6912));  // with the norm of its input
  CHECK(m.Kind(cost, "ffn_down").tensors == 30);
  CHECK(cost.total.bytes == 521011200 + 4 * (30 * (3 * 2560 + 6912) + 2560) + kHead + 5120 + 76800);
}

TEST_CASE("depth adds K and V, a batch reads the weights once for all") {
  const TwoB m;
  const wf::Work one = wf::CostOfPass(m.c, m.w, m.kv, wf::DecodePass(1, 0)).total;
  const wf::Work deep = wf::CostOfPass(m.c, m.w, m.kv, wf::DecodePass(1, 2048)).total;
  CHECK(deep.bytes - one.bytes == 2048 * 76800);
  CHECK(deep.attention == 2049 * one.attention);
  const wf::Work batch = wf::CostOfPass(m.c, m.w, m.kv, wf::DecodePass(16, 0)).total;
  CHECK(batch.ternary == 16 * kBody);
  CHECK(batch.dense == 16 * one.dense);
  CHECK(batch.bytes - one.bytes == 15 * (5120 + 76800));
  wf::KvShape f32 = m.kv;
  f32.type = wf::KvType::kF32;
  CHECK(wf::CostOfPass(m.c, m.w, f32, wf::DecodePass(1, 9)).kv.bytes == 10 * 153600);
}

TEST_CASE("prefill needs the head for the last row, and shares K and V among the rows of a pass") {
  const TwoB m;
  const wf::PassCost first = wf::CostOfPass(m.c, m.w, m.kv, wf::PrefillPass(0, 256, false));
  const wf::PassCost last = wf::CostOfPass(m.c, m.w, m.kv, wf::PrefillPass(256, 256, true));
  CHECK((first.head.bytes == 0 && first.total.dense == 0 && last.head.bytes == kHead));
  CHECK(first.total.ternary + last.total.ternary == 512 * kBody);
  CHECK(first.kv.attention + last.kv.attention == 512 * 513 / 2 * 153600.0);
  CHECK(first.kv.bytes == 256 * 76800);
  CHECK(last.kv.bytes == 512 * 76800);
}

TEST_CASE("a head that reads less than its tensor says how much") {
  const TwoB m;
  wf::PassShape pass = wf::DecodePass(1, 0);
  const double full = wf::CostOfPass(m.c, m.w, m.kv, pass).total.bytes;
  pass.head_bytes = 250e6;
  const wf::PassCost cost = wf::CostOfPass(m.c, m.w, m.kv, pass);
  CHECK(cost.head.bytes == 250e6);
  CHECK(cost.total.bytes == full - kHead + 250e6);
}

TEST_CASE("the parts of a pass sum up to its total") {
  const TwoB m;
  const wf::PassCost cost = wf::CostOfPass(m.c, m.w, m.kv, wf::DecodePass(3, 100));
  wf::Work sum = cost.kv;
  for (const wf::KindCost& k : cost.kinds) sum += k.work;
  CHECK((sum.bytes == cost.total.bytes && sum.ternary == cost.total.ternary));
  CHECK((sum.dense == cost.total.dense && sum.attention == cost.total.attention));
}

TEST_CASE("types and ranks make lines of their own; factors, biases and other types have their bytes") {
  TwoB m;
  Linear& q = m.w.layers[3].q;
  q.rank = 24;
  q.lrc_type = wf::DenseType::kF16;
  q.lrc_v_type = wf::DenseType::kQ8_0;
  q.bias = &m.norm;
  m.w.layers[4].q.type = TensorType::kTQ2_0;
  const wf::PassCost cost = wf::CostOfPass(m.c, m.w, m.kv, wf::DecodePass(2, 0));
  std::vector<std::pair<size_t, double>> lines;  // tensors, bytes
  for (const wf::KindCost& k : cost.kinds) {
    if (k.kind == "attn_q") lines.emplace_back(k.tensors, k.work.bytes);
  }
  const double n = 2560.0 * 2560;
  REQUIRE(lines.size() == 3);
  CHECK(lines[0] == std::make_pair(size_t{28}, 28 * n / 4));
  // U: 2560 rows of 24 f16; V: 24 rows of 80 blocks of 34 bytes; the bias
  CHECK(lines[1] == std::make_pair(size_t{1}, n / 4 + 2560 * 24 * 2 + 24 * 80 * 34 + 4 * 2560));
  CHECK(lines[2] == std::make_pair(size_t{1}, n / 256 * 66));
  CHECK(cost.total.dense == 2 * (328335360 + 24 * 2560 + 2560 * 24));
}

TEST_CASE("experts: those that a row is sent to; for more rows, as many as even routing meets") {
  wf::Config c;
  c.embedding = 64;
  c.layers = 1;
  c.heads = 2;
  c.kv_heads = 1;
  c.head_dim = 32;
  c.experts = 4;
  c.experts_used = 2;
  wf::Weights w;
  w.embedding = w.head = Make("token_embd.weight", 64, 128, TensorType::kF32);
  wf::Layer l;
  l.q = Make("blk.0.attn_q.weight", 64, 64);
  l.k = Make("blk.0.attn_k.weight", 64, 32);
  l.v = Make("blk.0.attn_v.weight", 64, 32);
  l.o = Make("blk.0.attn_output.weight", 64, 64);
  l.router = Make("blk.0.ffn_gate_inp.weight", 64, 4, TensorType::kF32);
  for (int i = 0; i < 4; ++i) {
    const std::string of = ".weight (expert " + std::to_string(i) + ")";
    l.experts.push_back({Make("blk.0.ffn_gate_exps" + of, 64, 64), Make("blk.0.ffn_up_exps" + of, 64, 64),
                         Make("blk.0.ffn_down." + std::to_string(i) + ".weight", 64, 64)});  // as old files name them
  }
  w.layers.push_back(l);
  const wf::KvShape kv{1, 1, 32, wf::KvType::kF16};
  const double attn = 64 * 64 + 2 * 32 * 64 + 64 * 64, expert = 3 * 64 * 64;
  const wf::PassCost one = wf::CostOfPass(c, w, kv, wf::DecodePass(1, 0));
  CHECK(one.total.ternary == attn + 2 * expert);
  CHECK(one.total.dense == 4 * 64 + 128 * 64);
  const double others = 4 * 4 * 64 + 4 * 3 * 64 + 4 * 128 * 64;  // router, norms, head
  CHECK(one.total.bytes == attn / 4 + 2 * expert / 4 + others + 4 * 64 + 128);
  const wf::PassCost two = wf::CostOfPass(c, w, kv, wf::DecodePass(2, 0));
  CHECK(two.total.ternary == 2 * (attn + 2 * expert));
  CHECK(two.total.bytes == attn / 4 + 3 * expert / 4 + others + 2 * (4 * 64 + 128));  // 4 (1 - 1/4) of 4
  size_t kinds = 0;
  for (const wf::KindCost& k : one.kinds) {
    if (k.kind.find("_exps") == std::string::npos) continue;
    ++kinds;
    CHECK(k.tensors == 4);
  }
  CHECK(kinds == 3);
}

TEST_CASE("the summary of a model for its load") {
  const TwoB m;
  CHECK(wf::CostSummary(m.c, m.w, m.kv, wf::isa::Id::kAvx2, 2) ==
        "avx2, 2 threads: 1179 MB a token (body 523 MB, head F16 657 MB), K/V 76.8 kB more for each token of context");
}
