// SPDX-License-Identifier: Apache-2.0
// Bodies of selftest.h.
#ifndef WF_MODEL_SELFTEST_IMPL_H_
#define WF_MODEL_SELFTEST_IMPL_H_

#include <chrono>
#include <cstring>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "wf/base/aligned.h"
#include "wf/kernels/table.h"
#include "wf/model/fast_head.h"
#include "wf/model/selftest.h"
#include "wf/quant/block.h"

namespace wf {
namespace detail {

class SelfTest {
 public:
  SelfTest(const Model& m, isa::Id id, KvType kv)
      : m_(m), c_(m.config()), k_(Kernels(id)), ref_(Kernels(isa::Id::kScalar)), kv_(kv) {}

  Result<SelfTestReport> Run() {
    const auto start = std::chrono::steady_clock::now();
    for (const Layer& l : m_.weights().layers) {
      Status status;
      ForEachProjection(l, [&](const Linear& p) {
        if (status.ok()) status = p.ternary ? TestTernary(p) : TestDense(p);
      });
      WF_TRY(status);
      for (const Linear* p : {&l.router, &l.shared_gate}) {
        if (p->data != nullptr) WF_TRY(TestDense(*p));
      }
    }
    WF_TRY(TestDense(m_.weights().head));
    WF_TRY(TestHeadScan(m_.weights().head));
    WF_TRY(TestRows());
    WF_TRY(TestAttention());
    report_.ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    return report_;
  }

 private:
  // Values in [-1, 1) that do not depend on the platform.
  float Next() {
    state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<float>(static_cast<int32_t>(state_ >> 32)) * 0x1p-31f;
  }
  void Fill(AlignedBuffer<float>& b, size_t n) {
    b.Resize(n);
    for (size_t i = 0; i < n; ++i) b[i] = Next();
  }
  Status Compare(const std::string& what, const void* got, const void* want, size_t values, size_t bytes) {
    report_.comparisons += values;
    if (std::memcmp(got, want, bytes) == 0) return OkStatus();
    return InternalError("self-test failed: kernel " + what + " of ISA " + isa::Name(k_.isa) +
                         " differs from the scalar definition; try WF_FORCE_ISA=scalar and report this");
  }
  // Where row 0 of the output would lie if `row` lies at the beginning of v.
  static float* Shifted(std::vector<float>& v, size_t row) {
    return reinterpret_cast<float*>(reinterpret_cast<uintptr_t>(v.data()) - row * sizeof(float));
  }
  static std::vector<size_t> SampleRows(size_t rows) {
    std::set<size_t> s = {0, rows - 1};
    for (size_t i = 0; i < 64; ++i) s.insert(rows * i / 64);
    return {s.begin(), s.end()};
  }

  // The copy of some rows of the head, and their bounds for a few tokens.
  Status TestHeadScan(const Linear& l) {
    if (!FastHead::WhyNot(l, HeadMode::kFast).empty()) return OkStatus();
    ++report_.kernels;
    constexpr size_t kTokens = 6;
    const size_t rows = std::min<size_t>(l.rows, kHeadBlock + 5), bytes = rows * HeadRowBytes(l.k);  // and a short block
    const size_t padded = HeadPaddedK(l.k), blocks = (rows + kHeadBlock - 1) / kHeadBlock;
    AlignedBuffer<float> x, scratch(padded), want(4 * rows), got(4 * rows);
    AlignedBuffer<float> want_best(kTokens * blocks), got_best(kTokens * blocks);
    AlignedBuffer<uint8_t> want_codes(bytes), got_codes(bytes);
    const auto pack = [&](const KernelTable& k, AlignedBuffer<uint8_t>& codes, AlignedBuffer<float>& p) {
      k.head_pack[static_cast<size_t>(l.dense_type)](
          {.w = l.data,
           .k = l.k,
           .row_begin = 0,
           .row_end = rows,
           .scratch = scratch.data(),
           .codes = codes.data(),
           .parts = {p.data(), p.data() + rows, p.data() + 2 * rows, p.data() + 3 * rows}});
    };
    pack(ref_, want_codes, want);
    pack(k_, got_codes, got);
    const std::string shape = std::string(TensorTypeName(l.type)) + " K=" + std::to_string(l.k);
    WF_TRY(Compare("copy of the head " + shape, got_codes.data(), want_codes.data(), bytes, bytes));
    WF_TRY(Compare("bounds of the head " + shape, got.data(), want.data(), 4 * rows, 4 * rows * sizeof(float)));

    Fill(x, kTokens * l.k);
    AlignedBuffer<int8_t> x_codes(kTokens * 2 * padded);
    std::vector<HeadInput> inputs(kTokens);
    for (size_t t = 0; t < kTokens; ++t) {
      if (!PrepareHeadInput(x.data() + t * l.k, l.k, x_codes.data() + t * 2 * padded, &inputs[t])) {
        return InternalError("self-test: activations of the head " + shape + " have no bounds");
      }
    }
    AlignedBuffer<float> want_upper(kTokens * rows), got_upper(kTokens * rows);
    HeadScanArgs a{.codes = want_codes.data(),
                   .parts = {want.data(), want.data() + rows, want.data() + 2 * rows, want.data() + 3 * rows},
                   .k = l.k,
                   .row_begin = 0,
                   .row_end = rows,
                   .x = inputs.data(),
                   .tokens = kTokens,
                   .upper = want_upper.data(),
                   .stride = rows,
                   .best = want_best.data(),
                   .best_stride = blocks};
    ref_.head_scan(a);
    a.upper = got_upper.data();
    a.best = got_best.data();
    k_.head_scan(a);
    WF_TRY(Compare("scan of the head " + shape, got_upper.data(), want_upper.data(), kTokens * rows,
                   kTokens * rows * sizeof(float)));
    return Compare("best of the scan " + shape, got_best.data(), want_best.data(), kTokens * blocks,
                   kTokens * blocks * sizeof(float));
  }

  Status TestTernary(const Linear& l) {
    if (!done_.insert({static_cast<int>(l.type), l.k, l.rows, l.rank * kDenseTypes + static_cast<size_t>(l.lrc_type)})
             .second)
      return OkStatus();
    ++report_.kernels;
    constexpr size_t kTokens = 6;  // a whole tile and a rest of the matrix product
    const block::ActOrder order = block::OrderFor(l.type, l.k);
    const size_t stride = block::ActBytes(order, l.k);
    AlignedBuffer<float> x, lrc, scale(kTokens);
    AlignedBuffer<int8_t> q(kTokens * stride);
    AlignedBuffer<int32_t> sum(kTokens);
    Fill(x, kTokens * l.k);
    for (size_t t = 0; t < kTokens; ++t) {
      ref_.quantise({.x = x.data() + t * l.k,
                     .k = l.k,
                     .order = static_cast<uint8_t>(order),
                     .out = q.data() + t * stride,
                     .act_scale = scale.data() + t,
                     .sum = sum.data() + t});
    }
    Fill(lrc, kTokens * (l.rank + 1));
    const TernaryInstance fast = FindTernary(k_.isa, l.type, l.rank),
                          slow = FindTernary(isa::Id::kScalar, l.type, l.rank);
    const auto test = [&](const char* kernel, size_t row, size_t n, size_t tokens, auto slow_fn,
                          auto fast_fn) -> Status {
      std::vector<float> want(tokens * n), got(tokens * n);
      // Kernels address y by absolute row: shifted, so that the small buffer is hit.
      TernaryArgs a{.w = l.data,
                    .k = l.k,
                    .row_begin = row,
                    .row_end = row + n,
                    .w_scale = l.scale,
                    .x = q.data(),
                    .x_stride = stride,
                    .x_sum = sum.data(),
                    .act_scale = scale.data(),
                    .tokens = tokens,
                    .y_stride = n,
                    .bias = l.bias,
                    .lrc_u = l.lrc_u,
                    .lrc_type = l.lrc_type,
                    .lrc_t = lrc.data(),
                    .lrc_t_stride = l.rank,
                    .lrc_rank = l.rank};
      a.y = Shifted(want, row);
      slow_fn(a);
      a.y = Shifted(got, row);
      fast_fn(a);
      return Compare(std::string("ternary ") + kernel + " " + std::string(TensorTypeName(l.type)) +
                         " K=" + std::to_string(l.k) + " rank " + std::to_string(l.rank) + " (tensor " + l.name +
                         ", row " + std::to_string(row) + ")",
                     got.data(), want.data(), got.size(), got.size() * sizeof(float));
    };
    for (const size_t row : SampleRows(l.rows)) WF_TRY(test("gemv", row, 1, 1, slow.gemv, fast.gemv));
    // Whole tiles of rows and tokens, and what is left of them, at both ends.
    const size_t tile = std::min<size_t>(5, l.rows);
    WF_TRY(test("gemv", 0, tile, 1, slow.gemv, fast.gemv));
    for (const size_t row : {size_t{0}, l.rows - tile}) WF_TRY(test("gemm", row, tile, kTokens, slow.gemm, fast.gemm));
    return l.rank == 0 ? OkStatus() : TestDenseRows(l.lrc_v, l.k, l.rank, l.lrc_v_type, l.name + " lrc_v");
  }

  Status TestDense(const Linear& l) { return TestDenseRows(l.data, l.k, l.rows, l.dense_type, l.name); }
  Status TestDenseRows(const void* data, size_t k, size_t rows, DenseType f, const std::string& name) {
    if (!done_.insert({1000 + static_cast<int>(f), k, rows, 0}).second) return OkStatus();
    ++report_.kernels;
    constexpr size_t kTokens = 5;
    AlignedBuffer<float> x;
    Fill(x, kTokens * k);
    for (const size_t row : SampleRows(rows)) {
      const bool tile = row == 0;  // several rows and tokens at a time, once
      const size_t n = tile ? std::min<size_t>(rows, 5) : 1, tokens = tile ? kTokens : 1;
      std::vector<float> want(tokens * n), got(tokens * n);
      DenseArgs a{.w = data,
                  .k = k,
                  .row_begin = row,
                  .row_end = row + n,
                  .x = x.data(),
                  .x_stride = k,
                  .tokens = tokens,
                  .y = Shifted(want, row),
                  .y_stride = n};
      ref_.dense[static_cast<int>(f)](a);
      a.y = Shifted(got, row);
      k_.dense[static_cast<int>(f)](a);
      WF_TRY(Compare("dense K=" + std::to_string(k) + " (tensor " + name + ", row " + std::to_string(row) + ")",
                     got.data(), want.data(), tokens * n, tokens * n * sizeof(float)));
    }
    return OkStatus();
  }

  Status TestRows() {
    std::set<size_t> widths = {c_.embedding, c_.heads * c_.head_dim};
    for (const size_t n : {c_.ffn, c_.experts, c_.expert_ffn, c_.shared_ffn, c_.qk_norm ? c_.head_dim : 0}) {
      if (n != 0) widths.insert(n);
    }
    for (const size_t n : widths) {
      AlignedBuffer<float> x, w, a(n), b(n);
      Fill(x, n);
      Fill(w, n);
      report_.kernels += 5;
      const std::string size = " n=" + std::to_string(n);
      const auto both = [&](const char* name, auto run) -> Status {
        run(ref_, a.data());
        run(k_, b.data());
        return Compare(name + size, b.data(), a.data(), n, n * sizeof(float));
      };
      WF_TRY(both("rms_norm", [&](const KernelTable& k, float* y) {
        k.rms_norm({.x = x.data(), .w = w.data(), .y = y, .n = n, .eps = c_.rms_eps});
      }));
      WF_TRY(both("glu", [&](const KernelTable& k, float* y) {
        k.glu({.gate = x.data(), .up = w.data(), .out = y, .n = n, .relu2 = c_.activation == Activation::kRelu2});
      }));
      WF_TRY(both("add", [&](const KernelTable& k, float* y) {
        std::memcpy(y, w.data(), n * sizeof(float));
        k.add({.x = x.data(), .y = y, .n = n});
      }));
      WF_TRY(both("softmax", [&](const KernelTable& k, float* y) { k.softmax({.x = x.data(), .p = y, .n = n}); }));
      for (const block::ActOrder order : {block::ActOrder::kNatural, block::OrderFor(TensorType::kI2_S, n)}) {
        const size_t bytes = block::ActBytes(order, n);
        AlignedBuffer<int8_t> qa(bytes), qb(bytes);
        float s[2] = {};
        int32_t sum[2] = {};
        QuantiseArgs q{
            .x = x.data(), .k = n, .order = static_cast<uint8_t>(order), .out = qa.data(), .act_scale = s, .sum = sum};
        ref_.quantise(q);
        q.out = qb.data();
        q.act_scale = s + 1;
        q.sum = sum + 1;
        k_.quantise(q);
        WF_TRY(Compare("quantise" + size, qb.data(), qa.data(), n, bytes));
        WF_TRY(Compare("quantise scale" + size, s + 1, s, 1, sizeof(float)));
        WF_TRY(Compare("quantise sum" + size, sum + 1, sum, 1, sizeof(int32_t)));
      }
    }
    const size_t pairs = c_.rope_dims / 2, n = c_.heads * c_.head_dim;
    AlignedBuffer<float> x, cs, a(n);
    Fill(x, n);
    Fill(cs, 2 * pairs);
    std::memcpy(a.data(), x.data(), n * sizeof(float));
    RopeArgs r{.x = a.data(),
               .heads = c_.heads,
               .head_dim = c_.head_dim,
               .pairs = pairs,
               .cos = cs.data(),
               .sin = cs.data() + pairs,
               .neox = c_.rope == RopeKind::kNeox};
    ref_.rope(r);
    r.x = x.data();
    k_.rope(r);
    ++report_.kernels;
    return Compare("rope", x.data(), a.data(), n, n * sizeof(float));
  }

  Status TestAttention() {
    // A chunk, two whole blocks of the next and a part; rows that see one chunk and rows that see both.
    constexpr size_t kTokens = kKvChunk + 70, kRows = 3, kBlocks = (kTokens + kKvBlock - 1) / kKvBlock;
    const size_t dim = c_.head_dim, group = c_.heads / c_.kv_heads, n = group * dim, bytes = KvHeadBytes(dim, kv_),
                 type = static_cast<size_t>(kv_), part = AttentionPart(kRows, group, dim);
    AlignedBuffer<float> kv(2 * dim), q, a(kRows * n), b(kRows * n), scratch(AttentionScratch(kRows, group, dim)),
        parts(2 * part);
    AlignedBuffer<uint8_t> ca(kBlocks * bytes), cb(kBlocks * bytes);
    Fill(q, kRows * n);
    for (size_t t = 0; t < kTokens; ++t) {
      for (size_t d = 0; d < 2 * dim; ++d) kv[d] = Next();
      KvStoreArgs s{.k = kv.data(),
                    .v = kv.data() + dim,
                    .head_dim = dim,
                    .head = ca.data() + t / kKvBlock * bytes,
                    .slot = t % kKvBlock};
      ref_.kv_store[type](s);
      s.head = cb.data() + t / kKvBlock * bytes;
      k_.kv_store[type](s);
    }
    WF_TRY(Compare("kv_store", cb.data(), ca.data(), kTokens, kBlocks * bytes));
    const uint8_t* blocks[kBlocks];
    for (size_t i = 0; i < kBlocks; ++i) blocks[i] = ca.data() + i * bytes;
    const uint32_t visible[kRows] = {5, 64, kTokens};
    AttentionArgs g{.q = q.data(),
                    .q_stride = n,
                    .out = a.data(),
                    .out_stride = n,
                    .rows = kRows,
                    .heads = group,
                    .head_dim = dim,
                    .visible = visible,
                    .scale = c_.attention_scale,
                    .blocks = blocks,
                    .offset = 0,
                    .scratch = scratch.data()};
    ref_.attention[type](g);
    g.out = b.data();
    k_.attention[type](g);
    report_.kernels += 4;
    const auto same = [&](const char* name) {
      return Compare(name + (" head size " + std::to_string(dim)), b.data(), a.data(), kRows * n,
                     kRows * n * sizeof(float));
    };
    WF_TRY(same("attention"));
    for (g.chunk = 0; g.chunk < 2; ++g.chunk) {
      g.part = parts.data() + g.chunk * part;
      k_.attention_part[type](g);
    }
    g.part = parts.data();
    std::memset(b.data(), 0, kRows * n * sizeof(float));
    k_.attention_merge(g);
    return same("attention of chunks");
  }

  const Model& m_;
  const Config& c_;
  const KernelTable& k_;
  const KernelTable& ref_;
  KvType kv_;
  SelfTestReport report_;
  std::set<std::tuple<int, size_t, size_t, size_t>> done_;
  uint64_t state_ = 1;
};

}  // namespace detail

WF_MODEL_INLINE Result<SelfTestReport> RunSelfTest(const Model& model, isa::Id id, KvType kv_type) {
  return detail::SelfTest(model, id, kv_type).Run();
}

}  // namespace wf
#endif  // WF_MODEL_SELFTEST_IMPL_H_
