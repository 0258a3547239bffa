// SPDX-License-Identifier: Apache-2.0
// What one translation unit of gemv.cc says of its kernels.
#ifndef WF_CONSUMER_GEMV_H_
#define WF_CONSUMER_GEMV_H_

#include <cstdint>

struct Outcome {
  bool same = false;            // the best ISA's bits are Scalar's
  uint64_t hash = 0xcbf29ce4u;  // of all results
  uint32_t compiled = 0;        // what the table of kernels has, as a mask
  uint32_t mask = 0;            // what this mode has
};
#endif  // WF_CONSUMER_GEMV_H_
