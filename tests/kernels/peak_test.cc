// SPDX-License-Identifier: Apache-2.0
// The kernels that measure a machine do the work that they report, and read every byte.
#include <vector>

#include "tests/catch.h"
#include "tests/kernels/guarded.h"
#include "wf/kernels/table.h"

namespace {

template <class F>
void ForEachIsa(const F& f) {
  for (int i = 0; i < wf::isa::kCount; ++i) {
    const wf::isa::Id id = static_cast<wf::isa::Id>(i);
    if (((wf::CompiledIsas() >> i) & 1u) == 0 || !wf::isa::Supported(id)) continue;
    INFO(wf::isa::Name(id));
    f(wf::Kernels(id));
  }
}

}  // namespace

TEST_CASE("the peak kernel makes as many products as it says") {
  ForEachIsa([](const wf::KernelTable& k) {
    uint64_t before = 0;
    for (const size_t rounds : {size_t{0}, size_t{1}, size_t{2}, size_t{1000}}) {
      uint64_t products = 1;
      uint32_t sum = 1;
      k.peak({.rounds = rounds, .products = &products, .sum = &sum});
      CHECK(sum == static_cast<uint32_t>(2 * products));  // each product is 1 * 2
      CHECK((products > before) == (rounds > 0));
      before = products;
    }
    CHECK(before % 1000 == 0);
  });
}

TEST_CASE("the reading kernel reads every byte and none beyond") {
  Rng rng(7);
  for (const size_t bytes : {size_t{0}, wf::kReadStep, 3 * wf::kReadStep, size_t{1} << 16}) {
    Guarded<uint8_t> data(bytes);
    uint32_t expected = 0;
    for (size_t i = 0; i < bytes; ++i) {
      data[i] = static_cast<uint8_t>(rng());
      expected += uint32_t{data[i]} << (8 * (i % 4));  // words are little-endian
    }
    ForEachIsa([&](const wf::KernelTable& k) {
      uint32_t sum = 1;
      k.read({.data = data.data(), .bytes = bytes, .sum = &sum});
      CHECK(sum == expected);
    });
  }
}
