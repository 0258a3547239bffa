// SPDX-License-Identifier: Apache-2.0
// Prints the hash of this program's kernels; fails if its ISAs differ.
#include <cstdio>

#include "gemv.h"

Outcome Run();

int main() {
  const Outcome o = Run();
  std::printf("hash %llx mask %x table %x\n", static_cast<unsigned long long>(o.hash), o.mask, o.compiled);
  return o.same && o.compiled == o.mask ? 0 : 1;
}
