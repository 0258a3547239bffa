// SPDX-License-Identifier: Apache-2.0
// The low-rank term U (V^T x) with Eigen: the oracle of the kernels' own low-rank product, and the term for code that
// is compiled for one ISA. Nothing in the library includes this header: Eigen's templates follow the compiler flags of
// their translation unit, so two units with different -m flags in one program must not both include it, and inside
// a Highway region Eigen would not be vectorised for the region's ISA. Needs Eigen 3.4 on the include path.
#ifndef WF_KERNELS_LRC_EIGEN_H_
#define WF_KERNELS_LRC_EIGEN_H_

// GCC 12 at -O3 takes loops inside Eigen for endless ones, wherever they are inlined.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Waggressive-loop-optimizations"
#endif
#include <Eigen/Core>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#include <cstddef>
#include <type_traits>

#include "wf/kernels/args.h"
#include "wf/simd/mode.h"

namespace wf {

// Factors as they lie in a file, mapped and never copied; any alignment of the element will do.
struct LrcEigenArgs {
  const void* u = nullptr;  // rows x rank, row-major, of the instance's Storage
  const void* v = nullptr;  // rank x cols, row-major (V transposed): the layout of DenseArgs::w
  size_t rows = 0, cols = 0;
  size_t rank = 0;           // read only by instances with kDynamic
  const float* x = nullptr;  // cols values
  float* t = nullptr;        // rank values: V^T x
  float* y = nullptr;        // rows values
};

inline namespace WF_MODE_NS {

// Rank as in TernaryGemv: 0 (the term is nothing), a positive rank, or kDynamic, which Eigen spells the same.
template <FloatType Storage, int Rank>
struct LrcEigen {
  static_assert(Rank >= kDynamic, "wf: Rank is 0 (no low-rank term), a positive rank, or wf::kDynamic");
  static_assert(kDynamic == Eigen::Dynamic);
  using Scalar = std::conditional_t<Storage == FloatType::kF32, float,
                                    std::conditional_t<Storage == FloatType::kF16, Eigen::half, Eigen::bfloat16>>;
  // Eigen wants a single column to be column-major; with one column the bytes are the same.
  using U =
      Eigen::Map<const Eigen::Matrix<Scalar, Eigen::Dynamic, Rank, Rank == 1 ? Eigen::ColMajor : Eigen::RowMajor>>;
  using V = Eigen::Map<const Eigen::Matrix<Scalar, Rank, Eigen::Dynamic, Eigen::RowMajor>>;
  using Vector = Eigen::Map<Eigen::VectorXf>;
  using Factor = Eigen::Map<Eigen::Matrix<float, Rank, 1>>;

  static size_t RankOf(const LrcEigenArgs& a) noexcept { return Rank == kDynamic ? a.rank : static_cast<size_t>(Rank); }

  // t = V^T x.
  static void Project(const LrcEigenArgs& a) noexcept {
    if constexpr (Rank != 0) {
      const Eigen::Index rank = Index(RankOf(a)), cols = Index(a.cols);
      if (rank == 0) return;
      const V v(static_cast<const Scalar*>(a.v), rank, cols);
      const Eigen::Map<const Eigen::VectorXf> x(a.x, cols);
      Factor(a.t, rank).noalias() = v.template cast<float>() * x;
    }
  }

  // y += U t.
  static void Expand(const LrcEigenArgs& a) noexcept {
    if constexpr (Rank != 0) {
      const Eigen::Index rank = Index(RankOf(a)), rows = Index(a.rows);
      if (rank == 0) return;
      const U u(static_cast<const Scalar*>(a.u), rows, rank);
      Vector(a.y, rows).noalias() += u.template cast<float>() * Factor(a.t, rank);
    }
  }

  // y += U (V^T x).
  void operator()(const LrcEigenArgs& a) const noexcept {
    Project(a);
    Expand(a);
  }

 private:
  static constexpr Eigen::Index Index(size_t n) noexcept { return static_cast<Eigen::Index>(n); }
};

}  // namespace WF_MODE_NS
}  // namespace wf
#endif  // WF_KERNELS_LRC_EIGEN_H_
