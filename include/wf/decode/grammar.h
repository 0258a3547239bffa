// SPDX-License-Identifier: Apache-2.0
// A grammar as plain data: what json_grammar.h compiles and follows, and the limits of both.
#ifndef WF_DECODE_GRAMMAR_H_
#define WF_DECODE_GRAMMAR_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace wf {

namespace detail {
class GrammarBuilder;
}

struct JsonLimits {
  static constexpr uint32_t kDepth = 64;           // arrays and objects inside each other, in an answer
  static constexpr uint32_t kSchemaDepth = 64;     // in a schema; also references in a row
  static constexpr size_t kSchemaBytes = 1 << 20;  // a schema's text
  static constexpr size_t kNodes = 1 << 18;        // what is compiled of it
  static constexpr size_t kEnumValues = 10000;     // of one enum
  static constexpr uint32_t kCount = 1 << 14;  // of minLength and minItems; larger maxLength and maxItems act as this
  static constexpr size_t kPatternBytes = 1 << 10;   // of a pattern
  static constexpr size_t kPatternStates = 1 << 13;  // of its automaton, repetitions written out
  static constexpr size_t kWork = 1 << 20;           // steps that one mask may take
};

// A network of automata over bytes that call each other: one for each schema, object and array. Immutable, safe for
// concurrent use.
class JsonGrammar {
 public:
  static constexpr uint32_t kNever = ~0u;

  enum class EdgeKind : uint8_t { kBytes, kEmpty, kCall };
  struct Edge {
    uint32_t to;    // for a call: where it returns to
    uint32_t rule;  // of a call
    uint8_t lo, hi;
    EdgeKind kind;
  };
  struct Node {
    uint32_t edges;  // its first edge; its last is before the next node's first
    uint32_t need;   // levels of arrays and objects that must still be opened from here to the end of the rule
    uint32_t room;   // characters of a string that may follow whatever they are; kNever: any number
    bool accept;     // the rule may end
  };
  struct Rule {
    uint32_t start;
    bool nests;  // an array or object
  };

  const Node& node(uint32_t n) const noexcept { return nodes_[n]; }
  const Edge* begin(uint32_t n) const noexcept { return edges_.data() + nodes_[n].edges; }
  const Edge* end(uint32_t n) const noexcept { return edges_.data() + nodes_[n + 1].edges; }
  const Rule& rule(uint32_t r) const noexcept { return rules_[r]; }
  uint32_t start() const noexcept { return rules_[start_].start; }
  size_t nodes() const noexcept { return nodes_.size() - 1; }
  // Bytes that no edge tells apart have the same class.
  uint8_t class_of(uint8_t byte) const noexcept { return class_of_[byte]; }
  uint32_t classes() const noexcept { return classes_; }
  uint8_t example(uint32_t cls) const noexcept { return example_[cls]; }
  // Whether any edge takes this byte.
  bool uses(uint8_t byte) const noexcept { return uses_[byte]; }
  // The rule of one character of a string.
  uint32_t character() const noexcept { return character_; }

 private:
  friend class detail::GrammarBuilder;
  std::vector<Node> nodes_;  // and one behind the last
  std::vector<Edge> edges_;
  std::vector<Rule> rules_;
  uint32_t start_ = 0, character_ = 0, classes_ = 0;
  std::array<uint8_t, 256> class_of_{}, example_{};
  std::array<bool, 256> uses_{};
};

}  // namespace wf
#endif  // WF_DECODE_GRAMMAR_H_
