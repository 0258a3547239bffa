// SPDX-License-Identifier: Apache-2.0
// Names the build mode, so that definitions made under different compiler flags never share a
// mangled name. No Highway. The kernel templates live in `inline namespace WF_MODE_NS`.
// Bit n of WF_ISA_MASK: the ISA with kRank n has definitions in this mode. Bit 0, Scalar, always.
#ifndef WF_SIMD_MODE_H_
#define WF_SIMD_MODE_H_
#if !defined(__x86_64__)
#define WF_DETAIL_BASELINE(prefix) prefix##portable
#define WF_DETAIL_STATIC_MASK 0x01u
#define WF_DETAIL_DYNAMIC_MASK 0x01u
#elif defined(__AVX512VNNI__) && defined(__AVX512BW__)
#define WF_DETAIL_BASELINE(prefix) prefix##avx512vnni
#define WF_DETAIL_STATIC_MASK 0x21u
#define WF_DETAIL_DYNAMIC_MASK 0x21u  // Highway drops targets below the baseline
#elif defined(__AVX512BW__)
#define WF_DETAIL_BASELINE(prefix) prefix##avx512
#define WF_DETAIL_STATIC_MASK 0x09u
#define WF_DETAIL_DYNAMIC_MASK 0x29u
#elif defined(__AVXVNNI__)
#define WF_DETAIL_BASELINE(prefix) prefix##avxvnni
#define WF_DETAIL_STATIC_MASK 0x05u
#define WF_DETAIL_DYNAMIC_MASK 0x3Fu
#elif defined(__AVX2__)
#define WF_DETAIL_BASELINE(prefix) prefix##avx2
#define WF_DETAIL_STATIC_MASK 0x03u
#define WF_DETAIL_DYNAMIC_MASK 0x3Fu
#else
#define WF_DETAIL_BASELINE(prefix) prefix##base
#define WF_DETAIL_STATIC_MASK 0x01u
#define WF_DETAIL_DYNAMIC_MASK 0x3Fu
#endif
#if defined(WF_PRECOMPILED_KERNELS) || defined(WF_BUILDING_KERNELS)
#define WF_MODE_NS pre
#if defined(__x86_64__)
#define WF_ISA_MASK 0x3Fu
#else
#define WF_ISA_MASK 0x01u
#endif
#elif defined(WF_DYNAMIC_DISPATCH)
#define WF_MODE_NS WF_DETAIL_BASELINE(dyn_)
#define WF_ISA_MASK WF_DETAIL_DYNAMIC_MASK
#else
#define WF_MODE_NS WF_DETAIL_BASELINE(static_)
#define WF_ISA_MASK WF_DETAIL_STATIC_MASK
#endif
#if defined(WF_BUILDING_KERNELS) && (defined(__AVX512BW__) || defined(__AVXVNNI__))
#error "wf::kernels dispatches by itself: build it for a baseline of x86-64 .. x86-64-v3"
#endif
#endif
