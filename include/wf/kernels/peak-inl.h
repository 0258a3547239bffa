// SPDX-License-Identifier: Apache-2.0
// What the machine can do at best, compiled once per ISA: products in registers, and reading memory in order. For
// measuring limits (wf-bench), not for models.
#if defined(WF_KERNELS_PEAK_INL_H_) == defined(WF_TARGET_TOGGLE)
#ifdef WF_KERNELS_PEAK_INL_H_
#undef WF_KERNELS_PEAK_INL_H_
#else
#define WF_KERNELS_PEAK_INL_H_
#endif
#include "wf/kernels/kernels.h"
#include "wf/simd/ops-inl.h"

WF_BEFORE_NAMESPACE();
namespace wf::detail {
inline namespace WF_MODE_NS {
namespace WF_NAMESPACE {

// The compiler may know nothing about v from here on, so it can neither hoist nor merge what is made of it.
template <class V>
HWY_INLINE V Forget(V v) {
  asm volatile("" : "+v"(v.raw));
  return v;
}

// Independent chains of multiply-and-add: enough to hide the latency, few enough for 16 registers. Variables, not an
// array, which GCC keeps in memory.
#if WF_ISA_VNNI
#define WF_CHAINS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
inline constexpr uint64_t kPeakRound = 12;  // vectors
#else
#define WF_CHAINS(X) X(0) X(1) X(2) X(3) X(4) X(5)
inline constexpr size_t kPeakPairs = 32;  // 16-bit sums are widened as rarely as the ternary products allow
inline constexpr uint64_t kPeakRound = 6 * kPeakPairs;
#endif

// Templates only because of the header they live in: see TernaryGemv.
template <int = 0>
HWY_NOINLINE void Peak(const PeakArgs& a) noexcept {
  VU8 u = hn::Set(DU8(), uint8_t{1});
  const VI8 s = hn::Set(DI8(), int8_t{2});
#define WF_BEGIN(N) auto acc##N = Forget(hn::Zero(DI32()));
  WF_CHAINS(WF_BEGIN)
#undef WF_BEGIN
  const size_t rounds = a.rounds;
  for (size_t r = 0; r < rounds; ++r) {
#if WF_ISA_VNNI
#define WF_STEP(N) acc##N = Forget(Dot4(u, s, acc##N));
    WF_CHAINS(WF_STEP)
#undef WF_STEP
#else
#define WF_BEGIN(N) auto pair##N = hn::Zero(DI16());
#define WF_STEP(N) u = Forget(u), pair##N = Forget(hn::Add(Dot2(u, s), pair##N));
#define WF_END(N) acc##N = Widen2(pair##N, acc##N);
    WF_CHAINS(WF_BEGIN)
    for (size_t i = 0; i < kPeakPairs; ++i) {
      WF_CHAINS(WF_STEP)
    }
    WF_CHAINS(WF_END)
#undef WF_BEGIN
#undef WF_STEP
#undef WF_END
#endif
  }
  hn::Vec<DI32> all = hn::Zero(DI32());
#define WF_SUM(N) all = hn::Add(all, acc##N);
  WF_CHAINS(WF_SUM)
#undef WF_SUM
  int32_t lanes[kVecBytes / 4];
  hn::StoreU(all, DI32(), lanes);
  uint32_t sum = 0;
  for (const int32_t lane : lanes) sum += static_cast<uint32_t>(lane);
  *a.sum = sum;
  *a.products = rounds * kPeakRound * kVecBytes;
}
#undef WF_CHAINS

template <int = 0>
HWY_NOINLINE void ReadMemory(const ReadArgs& a) noexcept {
  const hn::Repartition<uint32_t, DU8> d;
  hn::Vec<decltype(d)> sums[4];
  for (auto& s : sums) s = hn::Zero(d);
  for (const uint8_t *p = a.data, *end = a.data + a.bytes; p < end; p += kReadStep) {
    WF_UNROLL for (size_t i = 0; i < kReadStep; i += 64) { Prefetch(p + kReadAhead + i); }
    WF_UNROLL for (size_t i = 0; i < kReadStep / kVecBytes; ++i) {
      sums[i % 4] = hn::Add(sums[i % 4], hn::BitCast(d, hn::LoadU(DU8(), p + i * kVecBytes)));
    }
  }
  uint32_t lanes[kVecBytes / 4];
  hn::StoreU(hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3])), d, lanes);
  uint32_t sum = 0;
  for (const uint32_t lane : lanes) sum += lane;
  *a.sum = sum;
}

}  // namespace WF_NAMESPACE
}  // namespace WF_MODE_NS
}  // namespace wf::detail
WF_AFTER_NAMESPACE();
namespace wf::detail {
inline namespace WF_MODE_NS {
template <int>
void PeakKernel(isa::WF_ISA_TAG, const PeakArgs& a) noexcept {
  WF_NAMESPACE::Peak(a);
}
template <int>
void ReadKernel(isa::WF_ISA_TAG, const ReadArgs& a) noexcept {
  WF_NAMESPACE::ReadMemory(a);
}
}  // namespace WF_MODE_NS
}  // namespace wf::detail
#endif  // per-ISA guard
