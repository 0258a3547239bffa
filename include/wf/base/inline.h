// SPDX-License-Identifier: Apache-2.0
// Where the bodies of non-kernel code live. A light header `x.h` declares; `x-impl.h` defines.
//   linked with wf::kernels   layers 0-2 are compiled once in src/lib.cc
//   linked with wf::model     layers 2-5 (tokenizer, model, engine, convert) are compiled once in src/model/*.cc
//   neither                   `x.h` includes `x-impl.h`, everything is inline
#ifndef WF_BASE_INLINE_H_
#define WF_BASE_INLINE_H_
#if defined(WF_PRECOMPILED_KERNELS) || defined(WF_BUILDING_KERNELS)
#define WF_LIB_COMPILED 1
#define WF_LIB_INLINE
#else
#define WF_LIB_COMPILED 0
#define WF_LIB_INLINE inline
#endif
#if defined(WF_PRECOMPILED_MODEL) || defined(WF_BUILDING_MODEL)
#define WF_MODEL_COMPILED 1
#define WF_MODEL_INLINE
#else
#define WF_MODEL_COMPILED 0
#define WF_MODEL_INLINE inline
#endif
#endif
