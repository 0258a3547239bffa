// SPDX-License-Identifier: Apache-2.0
// Puts a JsonGrammar together: nodes, edges and rules, and the pieces that JSON texts are made of (literals,
// characters, strings, numbers within bounds). Knows nothing of schemas (json_schema-impl.h).
#ifndef WF_DECODE_GRAMMAR_BUILDER_H_
#define WF_DECODE_GRAMMAR_BUILDER_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "wf/base/inline.h"
#include "wf/decode/grammar.h"

namespace wf::detail {

// Code points as ranges. Sorted and disjoint after Normalise().
using CodeSet = std::vector<std::pair<uint32_t, uint32_t>>;
CodeSet Normalise(CodeSet set);
CodeSet Complement(const CodeSet& set);  // normalised, without the surrogates

// The text of a JSON string, with its quotes: escapes only where JSON demands them.
std::string JsonString(std::string_view utf8);

// A finite decimal number; digits without leading zeros ("0" for none), fraction without trailing ones.
struct Decimal {
  bool negative = false;
  std::string digits = "0", fraction;
  bool zero() const { return digits == "0" && fraction.empty(); }
};
Decimal DecimalFrom(int64_t v);
Decimal DecimalFrom(uint64_t v);
Decimal DecimalFrom(double v);                    // finite
int Compare(const Decimal& a, const Decimal& b);  // <0, 0, >0

struct NumberRange {
  Decimal low, high;
  bool low_open = false, high_open = false;  // the bound itself is not in the range
  size_t fraction = 0;                       // digits behind the point at most
};

class GrammarBuilder {
 public:
  GrammarBuilder();

  struct Ends {
    uint32_t start, end;
  };
  uint32_t NewRule(bool nests);
  Ends ends(uint32_t rule) const { return rules_[rule].ends; }
  uint32_t Node();
  void Empty(uint32_t from, uint32_t to) { Add(from, {to, 0, 0, 0, JsonGrammar::EdgeKind::kEmpty}); }
  void Bytes(uint32_t from, uint8_t lo, uint8_t hi, uint32_t to) {
    Add(from, {to, 0, lo, hi, JsonGrammar::EdgeKind::kBytes});
  }
  void Call(uint32_t from, uint32_t rule, uint32_t to) { Add(from, {to, rule, 0, 0, JsonGrammar::EdgeKind::kCall}); }
  // More nodes than allowed: what was built is of no use.
  bool full() const noexcept { return nodes_.size() + charged_ > JsonLimits::kNodes; }
  // Counts work on the side as so many nodes.
  void Charge(size_t nodes) { charged_ += nodes; }

  void Literal(uint32_t from, std::string_view text, uint32_t to);
  // Any of the texts; those that begin alike share their beginning.
  void Literals(uint32_t from, std::vector<std::string> texts, uint32_t to);
  // A separator and at most one blank.
  void Separator(uint32_t from, char byte, uint32_t to);
  // A code point as UTF-8.
  void CodePoint(uint32_t from, uint32_t lo, uint32_t hi, uint32_t to);
  // One character of a string, written the one way that JsonString() has.
  void Character(uint32_t from, const CodeSet& set, uint32_t to);
  // A string of min to max (kNever: any number of) characters, all escapes allowed.
  void String(uint32_t from, uint32_t min, uint32_t max, uint32_t to);
  // A string without escapes that is none of these (UTF-8).
  void OtherString(uint32_t from, const std::vector<std::string>& names, uint32_t to);
  // min to max decimal digits
  void Digits(uint32_t from, uint32_t min, uint32_t max, uint32_t to);
  // Any number, as long as a double and patience allow.
  void AnyNumber(uint32_t from, uint32_t to);
  // A number without exponent; whole if range.fraction is 0, and then without "-0".
  void Number(uint32_t from, const NumberRange& range, uint32_t to);
  // Any value, array and object.
  uint32_t AnyValue();
  uint32_t AnyObject();

  // Whether anything at all can come of the rule. After Close().
  bool Possible(uint32_t rule) const { return need_[rules_[rule].ends.start] != JsonGrammar::kNever; }
  uint32_t Need(uint32_t rule) const { return need_[rules_[rule].ends.start]; }
  // Finds out how deep each node must go; nothing may be added from then on.
  void Close();
  std::shared_ptr<const JsonGrammar> Finish(uint32_t start);

 private:
  struct BuiltRule {
    Ends ends;
    bool nests;
  };
  struct BuiltEdge {
    uint32_t from;
    JsonGrammar::Edge edge;
  };
  struct Walk;  // of Magnitude()
  void Add(uint32_t from, JsonGrammar::Edge e) {
    if (!full()) edges_.push_back({from, e});
  }
  bool Leads(const JsonGrammar::Edge& e) const {
    return need_[e.to] != JsonGrammar::kNever && (e.kind != JsonGrammar::EdgeKind::kCall || Possible(e.rule));
  }
  std::vector<bool> Reachable(uint32_t start) const;
  void Utf8(uint32_t from, uint32_t lo, uint32_t hi, uint32_t to);
  void MakeCharacterRule();
  void Magnitude(uint32_t from, const NumberRange& range, uint32_t to);
  void Step(Walk* walk, size_t at, bool on_low, bool on_high, uint32_t node);

  size_t charged_ = 0;
  std::vector<uint32_t> rooms_;  // of nodes
  std::vector<uint8_t> nodes_;   // 1: a rule may end there
  std::vector<BuiltEdge> edges_;
  std::vector<BuiltRule> rules_;
  std::vector<uint32_t> need_;
  std::map<CodeSet, uint32_t> sets_;  // rules of Character()
  uint32_t character_;                // any character of a string
  std::optional<uint32_t> any_, any_object_;
};

}  // namespace wf::detail
#if !WF_MODEL_COMPILED
#include "wf/decode/grammar_builder-impl.h"
#endif
#endif  // WF_DECODE_GRAMMAR_BUILDER_H_
