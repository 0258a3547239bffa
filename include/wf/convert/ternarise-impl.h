// SPDX-License-Identifier: Apache-2.0
// The two passes of absmean over many floats, made so that compilers vectorise them: what the scale is found from, and
// ternary values by comparing words. The definitions are quant/ternary.h's. Part of convert.h's bodies.
#ifndef WF_CONVERT_TERNARISE_IMPL_H_
#define WF_CONVERT_TERNARISE_IMPL_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "wf/base/bytes.h"
#include "wf/quant/ternary.h"

namespace wf::detail {

// What a tensor's scale is found from, its values taken in pieces and joined in their order.
struct AbsStats {
  double sum = 0;
  uint64_t count = 0;
  float magnitude = 0;  // of the values so far that are not zero
  bool one = true;      // is there only one?

  // Eight sums: the same ones for any number of threads, and not one long chain of additions.
  void Add(const float* w, size_t n) noexcept {
    double s[8] = {};
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
      for (size_t j = 0; j < 8; ++j) s[j] += static_cast<double>(std::fabs(w[i + j]));
    }
    for (; i < n; ++i) s[i % 8] += static_cast<double>(std::fabs(w[i]));
    sum += ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]));
    count += n;
    if (!one) return;
    i = 0;
    for (; i < n && magnitude == 0; ++i) magnitude = std::fabs(w[i]);
    uint32_t other = 0;
    for (; i < n; ++i) other |= static_cast<uint32_t>(w[i] != 0) & static_cast<uint32_t>(std::fabs(w[i]) != magnitude);
    one = other == 0;
  }
  void Join(const AbsStats& o) noexcept {
    sum += o.sum;
    count += o.count;
    one = one && o.one && (magnitude == 0 || o.magnitude == 0 || magnitude == o.magnitude);
    if (magnitude == 0) magnitude = o.magnitude;
  }
  // s = max(mean |W|, 1e-5).
  float Absmean() const noexcept {
    const double mean = count == 0 ? 0.0 : sum / static_cast<double>(count);
    return mean < 1e-5 ? 1e-5f : static_cast<float>(mean);
  }
};

// The ternary values of n floats that are `Word`s, with sign, exponent and mantissa as IEEE has them: a magnitude of at
// least `least` is not zero. False if one is not finite (at least `infinite`).
template <class Word>
bool TernariseWords(const uint8_t* p, size_t n, Word least, Word infinite, int8_t* out) noexcept {
  using Signed = std::make_signed_t<Word>;
  constexpr Word kMagnitude = std::numeric_limits<Signed>::max();
  Signed bad = 0;
  for (size_t i = 0; i < n; ++i) {
    const Word w = LoadLe<Word>(p + sizeof(Word) * i);
    const Signed magnitude = static_cast<Signed>(w & kMagnitude);
    const Signed keep = static_cast<Signed>(magnitude >= static_cast<Signed>(least) ? -1 : 0);
    const Signed sign = static_cast<Signed>(static_cast<Signed>(w) < 0 ? -1 : 1);
    bad = static_cast<Signed>(bad | (magnitude >= static_cast<Signed>(infinite) ? 1 : 0));
    out[i] = static_cast<int8_t>(sign & keep);
  }
  return bad == 0;
}
// The least magnitude, as a word, that Ternarise() does not make 0; `infinite` if there is none. Words and what they
// stand for have one order, and division keeps it.
template <class Word, class Decode>
Word LeastKept(float threshold, Word infinite, const Decode& decode) noexcept {
  Word low = 0, high = infinite;  // low is made 0, high is not (or is infinite)
  while (high - low > 1) {
    const Word middle = static_cast<Word>(low + (high - low) / 2);
    (Ternarise(decode(middle), threshold) != 0 ? high : low) = middle;
  }
  return high;
}

}  // namespace wf::detail
#endif  // WF_CONVERT_TERNARISE_IMPL_H_
