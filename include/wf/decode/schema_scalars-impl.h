// SPDX-License-Identifier: Apache-2.0
// The part of json_schema-impl.h that concerns strings and numbers: their keywords, read and put into a grammar.
#ifndef WF_DECODE_SCHEMA_SCALARS_IMPL_H_
#define WF_DECODE_SCHEMA_SCALARS_IMPL_H_

#include <algorithm>
#include <array>
#include <boost/json.hpp>
#include <cmath>
#include <string>
#include <string_view>

#include "wf/decode/grammar_builder.h"
#include "wf/decode/grammar_regex-impl.h"
#include "wf/decode/schema_text-impl.h"

namespace wf::detail {

// The formats of strings that are understood, as patterns: each allows less than its RFC rather than more.
struct FormatPattern {
  std::string_view name, pattern;
};
#define WF_DETAIL_YEAR "(000[1-9]|00[1-9]\\d|0[1-9]\\d{2}|[1-9]\\d{3})"
#define WF_DETAIL_LEAP "(\\d{2}(0[48]|[2468][048]|[13579][26])|([02468][48]|[2468]0|[13579][26])00)"
#define WF_DETAIL_DATE                                                       \
  "(" WF_DETAIL_YEAR "-(0[1-9]|1[0-2])-(0[1-9]|1\\d|2[0-8])|" WF_DETAIL_YEAR \
  "-(0[13-9]|1[0-2])-(29|30)|" WF_DETAIL_YEAR "-(0[13578]|1[02])-31|" WF_DETAIL_LEAP "-02-29)"
#define WF_DETAIL_TIME "([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,6})?(Z|[+\\-]([01]\\d|2[0-3]):[0-5]\\d)"
#define WF_DETAIL_LABEL "[A-Za-z0-9]([A-Za-z0-9\\-]{0,61}[A-Za-z0-9])?"
#define WF_DETAIL_OCTET "(\\d|[1-9]\\d|1\\d{2}|2[0-4]\\d|25[0-5])"
inline constexpr std::array<FormatPattern, 8> kFormats = {{
    {"date", "^" WF_DETAIL_DATE "$"},
    {"time", "^" WF_DETAIL_TIME "$"},
    {"date-time", "^" WF_DETAIL_DATE "T" WF_DETAIL_TIME "$"},
    {"email", "^[A-Za-z0-9_+\\-]+(\\.[A-Za-z0-9_+\\-]+)*@[A-Za-z0-9\\-]+(\\.[A-Za-z0-9\\-]+)*\\.[A-Za-z]+$"},
    {"hostname", "^" WF_DETAIL_LABEL "(\\." WF_DETAIL_LABEL "){0,2}$"},
    {"ipv4", "^(" WF_DETAIL_OCTET "\\.){3}" WF_DETAIL_OCTET "$"},
    {"uri",
     "^[A-Za-z][A-Za-z0-9+\\-.]*://[A-Za-z0-9\\-._~]+(:\\d{1,4})?(/[A-Za-z0-9\\-._~!$&()*+,;=:@]*)*"
     "(\\?[A-Za-z0-9\\-._~!$&()*+,;=:@/?]*)?(#[A-Za-z0-9\\-._~!$&()*+,;=:@/?]*)?$"},
    {"uuid", "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"},
}};
#undef WF_DETAIL_YEAR
#undef WF_DETAIL_LEAP
#undef WF_DETAIL_DATE
#undef WF_DETAIL_TIME
#undef WF_DETAIL_LABEL
#undef WF_DETAIL_OCTET

// The types that `type` names, all without it.
inline Result<uint32_t> SchemaTypes(const json::object& o, const std::string& path) {
  const json::value* v = o.if_contains("type");
  if (v == nullptr) return kAllTypes;
  uint32_t types = 0;
  const auto add = [&](const json::value& name) {
    const uint32_t type = name.is_string() ? TypeNamed(View(name.get_string())) : 0;
    types |= type;
    return type != 0;
  };
  bool good = false;
  if (v->is_array()) {
    good = !v->get_array().empty() && std::all_of(v->get_array().begin(), v->get_array().end(), add);
  } else {
    good = add(*v);
  }
  if (!good) {
    return InvalidArgument(path +
                           "/type: expected null, boolean, integer, number, string, array or object, or a list of "
                           "those");
  }
  return types;
}

// A count >= 0, `absent` if it is not there.
inline Result<uint32_t> SchemaCount(const json::object& o, std::string_view key, uint32_t absent,
                                    const std::string& path) {
  const json::value* v = o.if_contains(key);
  if (v == nullptr) return absent;
  const bool whole = v->is_number() && v->to_number<double>() >= 0 && TypeOf(*v) == kInteger;
  if (!whole) return InvalidArgument(path + "/" + std::string(key) + ": expected a whole number of at least 0");
  const uint32_t limit = JsonLimits::kCount;
  if (v->to_number<double>() <= static_cast<double>(limit)) return static_cast<uint32_t>(v->to_number<double>());
  if (key.substr(0, 3) == "max") return limit;
  return LimitError(path + "/" + std::string(key) + ": more than " + std::to_string(limit));
}

// The strings of a schema, from one node to another.
inline Status AddStrings(const json::object& o, const std::string& path, uint32_t from, uint32_t to,
                         GrammarBuilder* g) {
  WF_ASSIGN(const uint32_t min, SchemaCount(o, "minLength", 0, path));
  WF_ASSIGN(const uint32_t max, SchemaCount(o, "maxLength", JsonGrammar::kNever, path));
  if (min > max) return InvalidArgument(path + "/minLength: more than maxLength");
  const json::value* pattern = o.if_contains("pattern");
  const json::value* format = o.if_contains("format");
  if (pattern == nullptr && format == nullptr) {
    g->String(from, min, max, to);
    return OkStatus();
  }
  const std::string at = path + (pattern != nullptr ? "/pattern" : "/format");
  const json::value& v = pattern != nullptr ? *pattern : *format;
  if (!v.is_string()) return InvalidArgument(at + ": expected a string");
  if (pattern != nullptr && format != nullptr) return Unsupported(path + "/format: not supported beside pattern");
  std::string_view text = View(v.get_string());
  if (format != nullptr) {
    std::string known;
    const FormatPattern* found = nullptr;
    for (const FormatPattern& f : kFormats) {
      if (f.name == text) found = &f;
      known += (known.empty() ? "" : ", ") + std::string(f.name);
    }
    if (found == nullptr) return Unsupported(at + ": " + Quote(text) + " is not supported, only " + known + " are");
    text = found->pattern;
  }
  const Result<PatternAutomaton> automaton = PatternAutomaton::Compile(text);
  if (!automaton.ok()) return automaton.status().WithContext(at);
  g->Charge(automaton->states());
  automaton->Build(from, min, max, to, g);
  return OkStatus();
}

struct NumberBound {
  bool given = false;
  Decimal value;
  bool open = false;  // the value itself is not allowed
};
// The one of two keywords that says more. `sign` is 1 for lower bounds.
inline Result<NumberBound> StricterOf(const json::object& o, const std::string& path, std::string_view closed,
                                      std::string_view open, int sign) {
  NumberBound bound;
  for (const std::string_view key : {closed, open}) {
    const json::value* v = o.if_contains(key);
    if (v == nullptr) continue;
    const std::string at = path + "/" + std::string(key);
    if (!v->is_number() || !std::isfinite(v->to_number<double>())) return InvalidArgument(at + ": expected a number");
    const Decimal d = v->is_double()  ? DecimalFrom(v->get_double())
                      : v->is_int64() ? DecimalFrom(v->get_int64())
                                      : DecimalFrom(v->get_uint64());
    if (!bound.given || Compare(d, bound.value) * sign >= 0) bound = {true, d, key == open};
  }
  return bound;
}

// Its numbers; whole: its integers.
inline Status AddNumbers(const json::object& o, const std::string& path, bool whole, uint32_t from, uint32_t to,
                         GrammarBuilder* g) {
  WF_ASSIGN(NumberBound low, StricterOf(o, path, "minimum", "exclusiveMinimum", 1));
  WF_ASSIGN(NumberBound high, StricterOf(o, path, "maximum", "exclusiveMaximum", -1));
  if (!low.given && !high.given && !whole) {
    g->AnyNumber(from, to);
    return OkStatus();
  }
  // As many digits as 64 bits hold, or as a double tells apart.
  const size_t most = whole ? 18 : 15;
  size_t digits = low.given && high.given ? 1 : whole ? 18 : 9;
  for (const NumberBound* b : {&low, &high}) {
    if (b->given) digits = std::max(digits, std::min(most, b->value.digits.size()));
  }
  const size_t fraction = whole ? 0 : most - digits;
  // A bound that is not there, or further out than all numbers of so many digits, is the outermost of those.
  const auto within = [&](NumberBound* b, bool negative) {
    const bool outside = b->value.digits.size() > most && b->value.negative == negative;
    if (!b->given || outside)
      *b = {true, Decimal{negative, std::string(digits, '9'), std::string(fraction, '9')}, false};
    return b->value.digits.size() <= most;
  };
  if (!within(&low, true) || !within(&high, false)) {
    return Unsupported(path + ": bounds that leave only numbers of more than " + std::to_string(most) +
                       " digits are not supported");
  }
  const int c = Compare(low.value, high.value);
  if (c > 0 || (c == 0 && (low.open || high.open))) {
    return InvalidArgument(path + ": no number is within the bounds");
  }
  g->Number(from, {low.value, high.value, low.open, high.open, fraction}, to);
  return OkStatus();
}

}  // namespace wf::detail
#endif  // WF_DECODE_SCHEMA_SCALARS_IMPL_H_
