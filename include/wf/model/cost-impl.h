// SPDX-License-Identifier: Apache-2.0
// Bodies of cost.h.
#ifndef WF_MODEL_COST_IMPL_H_
#define WF_MODEL_COST_IMPL_H_

#include <cmath>
#include <cstdio>
#include <string_view>

#include "wf/model/cost.h"
#include "wf/quant/types.h"

namespace wf {
namespace detail {

// The codes of rows x k weights, without the tail of I2_S, which is read at load.
inline double WeightBytes(TensorType type, size_t k, size_t rows) noexcept {
  if (IsI2s(type)) return static_cast<double>(k) * static_cast<double>(rows) / 4;
  const TensorTypeInfo* info = FindTensorType(static_cast<uint32_t>(type));
  uint64_t bytes = 0;
  return info != nullptr && TensorBytes(*info, k, rows, &bytes) ? static_cast<double>(bytes) : 0;
}

// One product of `rows` rows with a matrix that is read once.
inline Work LinearWork(const Linear& l, double rows) noexcept {
  const double k = static_cast<double>(l.k), out = static_cast<double>(l.rows), rank = static_cast<double>(l.rank);
  Work w;
  w.bytes = WeightBytes(l.type, l.k, l.rows);
  (l.ternary ? w.ternary : w.dense) = rows * k * out;
  if (l.bias != nullptr) w.bytes += 4 * out;
  if (l.norm != nullptr) w.bytes += 4 * k;
  if (l.rank != 0) {
    w.bytes += WeightBytes(kDenseTensorTypes[static_cast<size_t>(l.lrc_type)], l.rank, l.rows) +
               WeightBytes(kDenseTensorTypes[static_cast<size_t>(l.lrc_v_type)], l.k, l.rank);
    w.dense += rows * rank * (k + out);
  }
  return w;
}

// "attn_q" of "blk.3.attn_q.weight", "ffn_up_exps" of "blk.0.ffn_up_exps.weight (expert 5)" and of
// "blk.0.ffn_up.5.weight".
inline std::string KindOf(const Linear& l, bool expert) {
  std::string_view name = l.name;
  if (name.substr(0, 4) == "blk.") name.remove_prefix(std::min(name.size(), name.find('.', 4) + 1));
  std::string kind(name.substr(0, name.find('.')));
  if (expert && kind.find("_exps") == std::string::npos) kind += "_exps";
  return kind;
}

class PassCounter {
 public:
  PassCounter(const Config& c, const PassShape& pass) : c_(c), pass_(pass) {
    if (c.experts == 0) return;
    const double share = static_cast<double>(c.experts_used) / static_cast<double>(c.experts);
    met_ = pass.rows == 1 ? share : 1 - std::pow(1 - share, pass.rows);
    routed_ = share;
  }

  void Add(const Linear& l, double rows) { AddKind(KindOf(l, false), l, LinearWork(l, rows)); }
  // Each expert's share of the rows; its weights are read if one of them comes.
  void AddExpert(const Linear& l) {
    Work w = LinearWork(l, pass_.rows * routed_);
    w.bytes *= met_;
    AddKind(KindOf(l, true), l, w);
  }
  void AddKind(std::string kind, const Linear& l, const Work& work) {
    for (KindCost& k : cost_.kinds) {
      if (k.kind != kind || k.linear == nullptr || k.linear->type != l.type || k.linear->rank != l.rank) continue;
      ++k.tensors;
      k.work += work;
      return;
    }
    cost_.kinds.push_back({std::move(kind), &l, 1, work});
  }
  void AddNorms(size_t vectors, double bytes) { cost_.kinds.push_back({"norms", nullptr, vectors, {.bytes = bytes}}); }

  PassCost Finish(const KvShape& kv) {
    const double width = static_cast<double>(c_.heads * c_.head_dim), layers = static_cast<double>(c_.layers);
    cost_.kv.bytes = pass_.kv_read * KvBytesPerPosition(kv);
    cost_.kv.attention = pass_.keys * 2 * width * layers;
    cost_.total = cost_.kv;
    for (const KindCost& k : cost_.kinds) cost_.total += k.work;
    return std::move(cost_);
  }
  void SetHead(const Linear& l) {
    Work w = LinearWork(l, pass_.head_rows);
    if (pass_.head_bytes >= 0) w.bytes = pass_.head_bytes;
    if (pass_.head_rows == 0) w = {};
    cost_.head = w;
    cost_.kinds.push_back({"output", &l, 1, w});
  }

 private:
  const Config& c_;
  const PassShape& pass_;
  double met_ = 0, routed_ = 0;  // shares of the experts that are read, and of the rows that one gets
  PassCost cost_;
};

}  // namespace detail

WF_MODEL_INLINE PassShape DecodePass(double sequences, double depth) noexcept {
  const double keys = sequences * (depth + 1);
  return {.rows = sequences, .head_rows = sequences, .keys = keys, .kv_read = keys};
}

WF_MODEL_INLINE PassShape PrefillPass(size_t first, size_t count, bool last) noexcept {
  const double a = static_cast<double>(first), n = static_cast<double>(count);
  return {.rows = n, .head_rows = last ? 1.0 : 0.0, .keys = n * a + n * (n + 1) / 2, .kv_read = a + n};
}

WF_MODEL_INLINE double KvBytesPerPosition(const KvShape& shape) noexcept {
  return static_cast<double>(shape.BlockBytes()) / static_cast<double>(kKvBlock);
}

WF_MODEL_INLINE PassCost CostOfPass(const Config& c, const Weights& w, const KvShape& kv, const PassShape& pass) {
  detail::PassCounter counter(c, pass);
  counter.AddKind("token_embd (rows)", w.embedding,
                  {.bytes = pass.rows * detail::WeightBytes(w.embedding.type, w.embedding.k, 1)});
  size_t norms = 1;  // of the output
  double norm_values = static_cast<double>(c.embedding);
  for (const Layer& l : w.layers) {
    for (const Linear* p : {&l.q, &l.k, &l.v, &l.o}) counter.Add(*p, pass.rows);
    const auto ffn = [&](const Ffn& f, auto add) {
      for (const Linear* p : {&f.gate, &f.up, &f.down}) {
        if (p->data != nullptr) add(*p);
      }
    };
    ffn(l.ffn, [&](const Linear& p) { counter.Add(p, pass.rows); });
    for (const Linear* p : {&l.router, &l.shared_gate}) {
      if (p->data != nullptr) counter.Add(*p, pass.rows);
    }
    for (const Ffn& e : l.experts) ffn(e, [&](const Linear& p) { counter.AddExpert(p); });
    ffn(l.shared, [&](const Linear& p) { counter.Add(p, pass.rows); });
    norms += 2;
    norm_values += 2 * static_cast<double>(c.embedding);
    for (const float* n : {l.q_norm, l.k_norm}) {
      if (n == nullptr) continue;
      ++norms;
      norm_values += static_cast<double>(c.head_dim);
    }
  }
  counter.AddNorms(norms, 4 * norm_values);
  counter.SetHead(w.head);
  return counter.Finish(kv);
}

WF_MODEL_INLINE std::string CostSummary(const Config& c, const Weights& w, const KvShape& kv, isa::Id isa, int threads,
                                        uint64_t head_copy) {
  PassShape pass;
  if (head_copy != 0) pass.head_bytes = static_cast<double>(head_copy);
  const PassCost cost = CostOfPass(c, w, kv, pass);
  const auto mega = [](double bytes) {
    char text[32];
    std::snprintf(text, sizeof(text), bytes < 1e7 ? "%.2f MB" : "%.0f MB", bytes / 1e6);
    return std::string(text);
  };
  std::string s = isa::Name(isa);
  s += ", " + std::to_string(threads) + (threads == 1 ? " thread: " : " threads: ");
  s += mega(cost.total.bytes) + " a token (body " + mega(cost.total.bytes - cost.head.bytes);
  s += head_copy != 0 ? ", 6-bit copy of head " : ", head ";
  s += std::string(TensorTypeName(w.head.type)) + " " + mega(cost.head.bytes);
  char text[64];
  std::snprintf(text, sizeof(text), "), K/V %.4g kB more for each token of context", KvBytesPerPosition(kv) / 1e3);
  return s + text;
}

}  // namespace wf
#endif  // WF_MODEL_COST_IMPL_H_
