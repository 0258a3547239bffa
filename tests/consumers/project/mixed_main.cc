// SPDX-License-Identifier: Apache-2.0
// Four modes in one program: each has its own kernels, its own table, and the same results.
#include <cstdio>
#include <initializer_list>

#include "gemv.h"

Outcome Run_static_base();
Outcome Run_static_v3();
Outcome Run_dynamic();
Outcome Run_precompiled();

int main() {
  bool good = true;
  uint64_t hash = 0;
  for (Outcome (*run)() : {Run_static_base, Run_static_v3, Run_dynamic, Run_precompiled}) {
    const Outcome o = run();
    std::printf("hash %llx mask %x table %x same %d\n", static_cast<unsigned long long>(o.hash), o.mask, o.compiled,
                o.same);
    good = good && o.same && o.compiled == o.mask && (hash == 0 || o.hash == hash);
    hash = o.hash;
  }
  return good ? 0 : 1;
}
