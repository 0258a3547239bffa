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
HWY_INLINE void Forget(V* v) {
  asm volatile("" : "+x"(v->raw));
}

// Independent chains of multiply-and-add, enough to hide the latency and few enough for 16 registers. Templates only
// because of the header they live in: see TernaryGemv.
template <int = 0>
HWY_NOINLINE void Peak(const PeakArgs& a) noexcept {
#if WF_ISA_VNNI
  constexpr size_t kChains = 12, kSteps = 1;
#else
  constexpr size_t kChains = 6, kSteps = 32;  // 16-bit sums are widened as rarely as the ternary products allow
#endif
  VU8 u = hn::Set(DU8(), uint8_t{1});
  VI8 s = hn::Set(DI8(), int8_t{2});
  hn::Vec<DI32> acc[kChains];
  WF_UNROLL for (size_t c = 0; c < kChains; ++c) {
    acc[c] = hn::Zero(DI32());
    Forget(&acc[c]);
  }
  for (size_t r = 0; r < a.rounds; ++r) {
#if WF_ISA_VNNI
    WF_UNROLL for (size_t c = 0; c < kChains; ++c) acc[c] = Dot4(u, s, acc[c]);
    Forget(&u);
#else
    hn::Vec<DI16> pairs[kChains];
    WF_UNROLL for (size_t c = 0; c < kChains; ++c) pairs[c] = hn::Zero(DI16());
    for (size_t i = 0; i < kSteps; ++i) {
      WF_UNROLL for (size_t c = 0; c < kChains; ++c) {
        Forget(&u);
        pairs[c] = hn::Add(pairs[c], Dot2(u, s));
      }
    }
    WF_UNROLL for (size_t c = 0; c < kChains; ++c) acc[c] = Widen2(pairs[c], acc[c]);
#endif
  }
  uint32_t sum = 0;
  for (size_t c = 0; c < kChains; ++c) {
    int32_t lanes[kVecBytes / 4];
    hn::StoreU(acc[c], DI32(), lanes);
    for (const int32_t lane : lanes) sum += static_cast<uint32_t>(lane);
  }
  *a.sum = sum;
  *a.products = uint64_t{a.rounds} * kSteps * kChains * kVecBytes;
}

template <int = 0>
HWY_NOINLINE void ReadMemory(const ReadArgs& a) noexcept {
  const hn::Repartition<uint32_t, DU8> d;
  hn::Vec<decltype(d)> sums[4];
  for (auto& s : sums) s = hn::Zero(d);
  for (const uint8_t *p = a.data, *end = a.data + a.bytes; p < end; p += kReadStep) {
    WF_UNROLL for (size_t i = 0; i < kReadStep; i += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(p + kReadAhead + i), _MM_HINT_T0);
    }
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
