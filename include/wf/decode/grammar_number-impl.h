// SPDX-License-Identifier: Apache-2.0
// Numbers of grammar_builder.h: decimals, and automata of the numbers between two of them, digit by digit.
#ifndef WF_DECODE_GRAMMAR_NUMBER_IMPL_H_
#define WF_DECODE_GRAMMAR_NUMBER_IMPL_H_

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <string>
#include <tuple>

#include "wf/decode/grammar_builder.h"

namespace wf::detail {

inline Decimal DecimalFromText(std::string text) {
  Decimal d;
  d.negative = text.front() == '-';
  if (d.negative) text.erase(0, 1);
  const size_t point = text.find('.');
  d.digits = text.substr(0, point);
  if (point != std::string::npos) d.fraction = text.substr(point + 1);
  while (!d.fraction.empty() && d.fraction.back() == '0') d.fraction.pop_back();
  if (d.zero()) d.negative = false;
  return d;
}
WF_MODEL_INLINE Decimal DecimalFrom(int64_t v) { return DecimalFromText(std::to_string(v)); }
WF_MODEL_INLINE Decimal DecimalFrom(uint64_t v) { return DecimalFromText(std::to_string(v)); }
WF_MODEL_INLINE Decimal DecimalFrom(double v) {
  std::array<char, 1100> text;  // 5e-324 has 324 digits behind the point, 1e308 has 309 before it
  const auto end = std::to_chars(text.data(), text.data() + text.size(), v, std::chars_format::fixed).ptr;
  return DecimalFromText(std::string(text.data(), end));
}

WF_MODEL_INLINE int Compare(const Decimal& a, const Decimal& b) {
  if (a.negative != b.negative) return a.negative ? -1 : 1;
  const auto order = [](const Decimal& x) { return std::tuple(x.digits.size(), x.digits, x.fraction); };
  const int c = order(a) < order(b) ? -1 : order(b) < order(a) ? 1 : 0;
  return a.negative ? -c : c;
}

WF_MODEL_INLINE void GrammarBuilder::Digits(uint32_t from, uint32_t min, uint32_t max, uint32_t to) {
  for (uint32_t i = 0;; ++i) {
    if (i >= min) Empty(from, to);
    if (i == max) return;
    const uint32_t next = Node();
    Bytes(from, '0', '9', next);
    from = next;
  }
}

WF_MODEL_INLINE void GrammarBuilder::AnyNumber(uint32_t from, uint32_t to) {
  const uint32_t whole = Node(), more = Node(), point = Node(), fraction = Node(), e = Node(), sign = Node();
  const uint32_t minus = Node();
  Bytes(from, '-', '-', minus);
  for (const uint32_t start : {from, minus}) {
    Bytes(start, '0', '0', whole);
    Bytes(start, '1', '9', more);
  }
  Digits(more, 0, 17, whole);
  Empty(whole, fraction);
  Bytes(whole, '.', '.', point);
  Digits(point, 1, 16, fraction);
  Empty(fraction, to);
  Bytes(fraction, 'e', 'e', e);
  Bytes(fraction, 'E', 'E', e);
  Empty(e, sign);
  Bytes(e, '+', '+', sign);
  Bytes(e, '-', '-', sign);
  Digits(sign, 1, 2, to);
}

// The numbers from a to b, both at least 0, with `length` digits before the point.
struct GrammarBuilder::Walk {
  const NumberRange& range;
  size_t length;
  uint32_t to;
  // Nodes by the digits before the point that are to come, minus those behind it that are there, and whether the digits
  // so far are those of a bound. A node on no bound serves all lengths.
  std::map<std::tuple<std::ptrdiff_t, bool, bool>, uint32_t> nodes;

  static char Digit(const Decimal& d, size_t at) {
    const size_t whole = d.digits.size();
    return at < whole ? d.digits[at] : at - whole < d.fraction.size() ? d.fraction[at - whole] : '0';
  }
  static bool ZeroFrom(const Decimal& d, size_t at) {
    for (size_t i = at; i < d.digits.size() + d.fraction.size(); ++i) {
      if (Digit(d, i) != '0') return false;
    }
    return true;
  }
};

// `node` is behind `at` digits.
WF_MODEL_INLINE void GrammarBuilder::Step(Walk* w, size_t at, bool on_low, bool on_high, uint32_t node) {
  const NumberRange& r = w->range;
  if (full()) return;
  if (at >= w->length) {
    const bool above = !on_low || (!r.low_open && Walk::ZeroFrom(r.low, at));
    const bool below = !on_high || !r.high_open || !Walk::ZeroFrom(r.high, at);
    if (above && below) Empty(node, w->to);
    if (at == w->length + r.fraction) return;
  }
  if (at == w->length) {
    const uint32_t point = Node();
    Bytes(node, '.', '.', point);
    node = point;
  }
  const char low = on_low ? Walk::Digit(r.low, at) : at == 0 && w->length > 1 ? '1' : '0';
  const char high = on_high ? Walk::Digit(r.high, at) : '9';
  const auto go = [&](char from, char to, bool low_after, bool high_after) {
    if (from > to) return;
    const auto [found, added] = w->nodes.try_emplace(
        {static_cast<std::ptrdiff_t>(w->length) - static_cast<std::ptrdiff_t>(at) - 1, low_after, high_after}, 0);
    if (added) found->second = Node();
    const uint32_t next = found->second;
    Bytes(node, static_cast<uint8_t>(from), static_cast<uint8_t>(to), next);
    if (added) Step(w, at + 1, low_after, high_after, next);
  };
  const bool low_apart = on_low && !(on_high && low == high), high_apart = on_high && !(on_low && low == high);
  if (on_low && on_high && low == high) go(low, low, true, true);
  if (low_apart) go(low, low, true, false);
  if (high_apart) go(high, high, false, true);
  go(static_cast<char>(low + (on_low ? 1 : 0)), static_cast<char>(high - (on_high ? 1 : 0)), false, false);
}

WF_MODEL_INLINE void GrammarBuilder::Magnitude(uint32_t from, const NumberRange& range, uint32_t to) {
  Walk walk{range, 0, to, {}};
  for (size_t n = range.low.digits.size(); n <= range.high.digits.size(); ++n) {
    walk.length = n;
    // The nodes on a bound belong to one length each, or to one that both bounds have.
    Step(&walk, 0, n == range.low.digits.size(), n == range.high.digits.size(), from);
  }
}

WF_MODEL_INLINE void GrammarBuilder::Number(uint32_t from, const NumberRange& range, uint32_t to) {
  const Decimal zero;
  const int low = Compare(range.low, zero), high = Compare(range.high, zero);
  if (Compare(range.low, range.high) > 0) return;
  if (high >= 0) {
    NumberRange r = range;
    if (low < 0) {
      r.low = zero;
      r.low_open = false;
    }
    Magnitude(from, r, to);
  }
  if (low >= 0) return;
  NumberRange r = range;
  r.high = range.low;
  r.high_open = range.low_open;
  r.high.negative = false;
  if (high < 0) {
    r.low = range.high;
    r.low_open = range.high_open;
    r.low.negative = false;
  } else {
    r.low = zero;
    r.low_open = (high == 0 && range.high_open) || range.fraction == 0;
  }
  const uint32_t minus = Node();
  Bytes(from, '-', '-', minus);
  Magnitude(minus, r, to);
}

}  // namespace wf::detail
#endif  // WF_DECODE_GRAMMAR_NUMBER_IMPL_H_
