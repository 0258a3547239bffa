// SPDX-License-Identifier: Apache-2.0
// The low-rank term of the kernels (dense kernel for V^T x, ternary kernel over zero weights for U t) and Eigen's,
// each within its own rounding bound of the exact value, for every ISA, storage type and rank.
#include <cmath>
#include <cstring>
#include <vector>

#include "tests/catch.h"
#include "tests/kernels/guarded.h"
#include "wf/base/half.h"
#include "wf/kernels/lrc_eigen.h"
#include "wf/kernels/table.h"
#include "wf/quant/block.h"

namespace {

constexpr size_t kRows = 22, kCols = 2560;  // rows leave a remainder in every tile; rows * cols % 128 == 0

// Factors of one rank in one storage type, the exact term, and the sum of the magnitudes of all its products.
struct Factors {
  Factors(size_t rank_in, wf::FloatType type_in, unsigned seed)
      : type(type_in),
        rank(rank_in),
        u(kRows * rank * Size()),
        v(rank * kCols * Size()),
        x(kCols),
        exact(kRows),
        mass(kRows) {
    Rng rng(seed);
    std::vector<double> du, dv;
    Fill(u, kRows * rank, rng, du);
    Fill(v, rank * kCols, rng, dv);
    for (float& f : x) f = Uniform(rng, -2, 2);
    std::vector<double> t(rank), m(rank);
    for (size_t j = 0; j < rank; ++j) {
      for (size_t i = 0; i < kCols; ++i) {
        const double p = dv[j * kCols + i] * static_cast<double>(x[i]);
        t[j] += p;
        m[j] += std::fabs(p);
      }
    }
    for (size_t r = 0; r < kRows; ++r) {
      for (size_t j = 0; j < rank; ++j) {
        exact[r] += du[r * rank + j] * t[j];
        mass[r] += std::fabs(du[r * rank + j]) * m[j];
      }
    }
  }
  size_t Size() const { return type == wf::FloatType::kF32 ? 4 : 2; }

  // y against the exact term: V^T x and U t each round at most as often as one of their running sums is long.
  void CheckWithin(const float* y, double roundings_v, double roundings_u) const {
    for (size_t r = 0; r < kRows; ++r) {
      INFO("row " << r);
      const double bound = (roundings_v + roundings_u) * 0x1p-24 * mass[r];
      CHECK(std::fabs(static_cast<double>(y[r]) - exact[r]) <= bound);
    }
  }

  wf::FloatType type;
  size_t rank;
  Guarded<uint8_t> u, v;
  std::vector<float> x;
  std::vector<double> exact, mass;

 private:
  void Fill(Guarded<uint8_t>& out, size_t n, Rng& rng, std::vector<double>& values) {
    for (size_t i = 0; i < n; ++i) {
      float f = Uniform(rng, -1, 1);
      if (type == wf::FloatType::kF32) {
        std::memcpy(out.data() + 4 * i, &f, 4);
      } else {
        const uint16_t h = type == wf::FloatType::kF16 ? wf::F16FromF32(f) : wf::Bf16FromF32(f);
        std::memcpy(out.data() + 2 * i, &h, 2);
        f = type == wf::FloatType::kF16 ? wf::F32FromF16(h) : wf::F32FromBf16(h);
      }
      values.push_back(static_cast<double>(f));
    }
  }
};

// Through the kernels of one ISA; `instance` reads factors of this rank.
std::vector<float> KernelTerm(const Factors& f, const wf::KernelTable& table, const wf::TernaryInstance& instance) {
  Guarded<float> t(f.rank), y(kRows);
  wf::DenseArgs d;
  d.w = const_cast<Factors&>(f).v.data();
  d.k = kCols;
  d.row_end = f.rank;
  d.x = f.x.data();
  d.x_stride = kCols;
  d.y = t.data();
  d.y_stride = f.rank;
  table.dense[static_cast<int>(f.type)](d);

  const std::vector<uint8_t> zeros(kRows * kCols / 4, 0x55);  // the code of weight 0 is 1
  const std::vector<int8_t> q(kCols, 3);
  const int32_t sum = 3 * static_cast<int32_t>(kCols);
  const float scale = 1;
  wf::TernaryArgs a;
  a.w = zeros.data();
  a.k = kCols;
  a.row_end = kRows;
  a.x = q.data();
  a.x_stride = kCols;
  a.x_sum = &sum;
  a.act_scale = &scale;
  a.y = y.data();
  a.y_stride = kRows;
  a.lrc_u = const_cast<Factors&>(f).u.data();
  a.lrc_type = static_cast<wf::DenseType>(f.type);  // the same three first
  a.lrc_t = t.data();
  a.lrc_t_stride = f.rank;
  a.lrc_rank = f.rank;
  instance.gemv(a);
  return {y.begin(), y.end()};
}

template <wf::FloatType T, int Rank>
std::vector<float> EigenTerm(const Factors& f) {
  Guarded<float> t(f.rank), y(kRows);
  for (float& v : y) v = 0;
  wf::LrcEigenArgs a;
  a.u = const_cast<Factors&>(f).u.data();
  a.v = const_cast<Factors&>(f).v.data();
  a.rows = kRows;
  a.cols = kCols;
  a.rank = f.rank;
  a.x = f.x.data();
  a.t = t.data();
  a.y = y.data();
  wf::LrcEigen<T, Rank>{}(a);
  return {y.begin(), y.end()};
}

template <wf::FloatType T, int Rank>
void CheckRank() {
  constexpr size_t rank = static_cast<size_t>(Rank);
  const Factors f(rank, T, 7 + static_cast<unsigned>(Rank));
  INFO("rank " << Rank << " storage " << static_cast<int>(T));

  // Eigen's order of summation is its own: at worst one running sum over all products.
  const double n = static_cast<double>(kCols), r = static_cast<double>(rank);
  const std::vector<float> fixed = EigenTerm<T, Rank>(f), dynamic = EigenTerm<T, wf::kDynamic>(f);
  f.CheckWithin(fixed.data(), n, r + 1);
  f.CheckWithin(dynamic.data(), n, r + 1);

  for (int i = 0; i < wf::isa::kCount; ++i) {
    const auto id = static_cast<wf::isa::Id>(i);
    if (((wf::CompiledIsas() >> i) & 1u) == 0) continue;
    if (!wf::isa::Supported(id)) {
      WARN("not run: this CPU lacks " << wf::isa::Name(id));
      continue;
    }
    INFO(wf::isa::Name(id));
    const wf::TernaryInstance best = wf::FindTernary(id, wf::TensorType::kI2_S, rank);
    REQUIRE(best.gemv != nullptr);
    const std::vector<float> y = KernelTerm(f, wf::Kernels(id), best);
    // 16 running sums, then a fold of 4 additions: kernels/ref.h.
    f.CheckWithin(y.data(), n / 16 + 5, r / 16 + 6);
    if (rank == 0) continue;
    // The instance for any rank gives the bits of the one for this rank. (13: a rank that no fixed instance has.)
    wf::TernaryInstance any = wf::FindTernary(id, wf::TensorType::kI2_S, 13);
    REQUIRE(any.rank == wf::kDynamic);
    const std::vector<float> same = KernelTerm(f, wf::Kernels(id), any);
    CHECK(std::memcmp(same.data(), y.data(), kRows * sizeof(float)) == 0);
  }
}

}  // namespace

TEST_CASE("the kernels' low-rank term and Eigen's are the exact one within their rounding", "[per_isa]") {
  using wf::FloatType;
#define WF_RANK(R)                 \
  CheckRank<FloatType::kF16, R>(); \
  CheckRank<FloatType::kF32, R>(); \
  CheckRank<FloatType::kBF16, R>();
  WF_RANK(0) WF_RANK(1) WF_RANK(13) WF_RANK(16) WF_RANK(32) WF_RANK(64) WF_RANK(128) WF_RANK(256)
#undef WF_RANK
}

TEST_CASE("a low-rank term of rank 0 adds nothing") {
  const std::vector<float> before = {1.5f, -0.0f, 3};
  for (const bool dynamic : {false, true}) {
    std::vector<float> y = before, x(4, 1.0f);
    wf::LrcEigenArgs a;
    a.rows = 3;
    a.cols = 4;
    a.x = x.data();
    a.y = y.data();
    if (dynamic) {
      wf::LrcEigen<wf::FloatType::kF16, wf::kDynamic>{}(a);
    } else {
      wf::LrcEigen<wf::FloatType::kF16, 0>{}(a);
    }
    CHECK(SameBits(y, before));
  }
}
