// SPDX-License-Identifier: Apache-2.0
// Bodies of grammar_builder.h: nodes, characters and strings, the finished grammar. Numbers are in
// grammar_number-impl.h.
#ifndef WF_DECODE_GRAMMAR_BUILDER_IMPL_H_
#define WF_DECODE_GRAMMAR_BUILDER_IMPL_H_

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "wf/decode/grammar_builder.h"
#include "wf/decode/grammar_number-impl.h"
#include "wf/tokenizer/utf8.h"

namespace wf::detail {

inline constexpr uint32_t kLastCodePoint = 0x10FFFF;

WF_MODEL_INLINE CodeSet Normalise(CodeSet set) {
  std::sort(set.begin(), set.end());
  CodeSet out;
  for (const auto& r : set) {
    if (!out.empty() && r.first <= out.back().second + 1) {
      out.back().second = std::max(out.back().second, r.second);
    } else {
      out.push_back(r);
    }
  }
  return out;
}

WF_MODEL_INLINE CodeSet Complement(const CodeSet& set) {
  CodeSet with = set;
  with.emplace_back(0xD800, 0xDFFF);
  CodeSet out;
  uint32_t next = 0;
  for (const auto& [lo, hi] : Normalise(std::move(with))) {
    if (lo > next) out.emplace_back(next, lo - 1);
    next = hi + 1;
  }
  if (next <= kLastCodePoint) out.emplace_back(next, kLastCodePoint);
  return out;
}

// How JSON writes a character that it does not take as it is; empty for the others.
inline std::string JsonEscape(uint32_t code) {
  switch (code) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\b':
      return "\\b";
    case '\f':
      return "\\f";
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    default:
      break;
  }
  if (code >= 0x20) return {};
  std::string out = "\\u00";
  out += "0123456789abcdef"[code >> 4];
  out += "0123456789abcdef"[code & 15];
  return out;
}

WF_MODEL_INLINE std::string JsonString(std::string_view utf8) {
  std::string out = "\"";
  for (const char c : utf8) {
    const std::string escape = JsonEscape(static_cast<uint8_t>(c));
    if (escape.empty()) {
      out += c;
    } else {
      out += escape;
    }
  }
  out += '"';
  return out;
}

// What a string may hold as it is.
inline CodeSet PlainCharacters() { return {{0x20, 0x21}, {0x23, 0x5B}, {0x5D, 0xD7FF}, {0xE000, kLastCodePoint}}; }

WF_MODEL_INLINE GrammarBuilder::GrammarBuilder() : character_(NewRule(false)) { MakeCharacterRule(); }

WF_MODEL_INLINE uint32_t GrammarBuilder::Node() {
  if (full()) return 0;
  nodes_.push_back(0);
  rooms_.push_back(0);
  return static_cast<uint32_t>(nodes_.size() - 1);
}

WF_MODEL_INLINE uint32_t GrammarBuilder::NewRule(bool nests) {
  const uint32_t start = Node(), end = Node();
  nodes_[end] = 1;
  rules_.push_back({{start, end}, nests});
  return static_cast<uint32_t>(rules_.size() - 1);
}

WF_MODEL_INLINE void GrammarBuilder::MakeCharacterRule() {
  const auto [from, to] = ends(character_);
  for (const auto& [lo, hi] : PlainCharacters()) CodePoint(from, lo, hi, to);
  const uint32_t escape = Node(), unicode = Node();
  Bytes(from, '\\', '\\', escape);
  for (const char c : std::string_view("\"\\/bfnrt")) {
    Bytes(escape, static_cast<uint8_t>(c), static_cast<uint8_t>(c), to);
  }
  Bytes(escape, 'u', 'u', unicode);
  const auto hex = [&](uint32_t a, std::string_view digits, uint32_t b) {
    for (const char c : digits) Bytes(a, static_cast<uint8_t>(c), static_cast<uint8_t>(c), b);
  };
  const std::string_view any = "0123456789abcdefABCDEF";
  const uint32_t three = Node(), two = Node(), one = Node(), after_d = Node();
  hex(unicode, "0123456789abcefABCEF", three);
  hex(three, any, two);
  hex(two, any, one);
  hex(one, any, to);
  // \uD800 to \uDBFF only before \uDC00 to \uDFFF, and those only behind the others
  hex(unicode, "dD", after_d);
  hex(after_d, "01234567", two);
  const uint32_t high = Node(), high2 = Node(), backslash = Node(), u = Node(), d = Node(), low = Node();
  hex(after_d, "89abAB", high);
  hex(high, any, high2);
  hex(high2, any, backslash);
  Bytes(backslash, '\\', '\\', u);
  Bytes(u, 'u', 'u', d);
  hex(d, "dD", low);
  hex(low, "cdefCDEF", two);
}

WF_MODEL_INLINE void GrammarBuilder::Literal(uint32_t from, std::string_view text, uint32_t to) {
  if (text.empty()) return Empty(from, to);
  for (size_t i = 0; i < text.size(); ++i) {
    const uint32_t next = i + 1 < text.size() ? Node() : to;
    Bytes(from, static_cast<uint8_t>(text[i]), static_cast<uint8_t>(text[i]), next);
    from = next;
  }
}

WF_MODEL_INLINE void GrammarBuilder::Literals(uint32_t from, std::vector<std::string> texts, uint32_t to) {
  std::sort(texts.begin(), texts.end());
  texts.erase(std::unique(texts.begin(), texts.end()), texts.end());
  std::vector<uint32_t> path = {from};  // path[i]: the node after i bytes of the text before
  std::string_view before;
  for (const std::string& text : texts) {
    size_t same = 0;
    while (same < before.size() && same < text.size() && before[same] == text[same]) ++same;
    path.resize(same + 1);
    for (size_t i = same; i < text.size(); ++i) {
      path.push_back(Node());
      Bytes(path[i], static_cast<uint8_t>(text[i]), static_cast<uint8_t>(text[i]), path[i + 1]);
    }
    Empty(path.back(), to);
    before = text;
  }
}

WF_MODEL_INLINE void GrammarBuilder::Separator(uint32_t from, char byte, uint32_t to) {
  const uint32_t blank = Node();
  Bytes(from, static_cast<uint8_t>(byte), static_cast<uint8_t>(byte), blank);
  Bytes(blank, ' ', ' ', to);
  Empty(blank, to);
}

WF_MODEL_INLINE void GrammarBuilder::CodePoint(uint32_t from, uint32_t lo, uint32_t hi, uint32_t to) {
  static constexpr std::array<std::pair<uint32_t, uint32_t>, 5> kLengths = {
      {{0, 0x7F}, {0x80, 0x7FF}, {0x800, 0xD7FF}, {0xE000, 0xFFFF}, {0x10000, kLastCodePoint}}};
  for (const auto& [first, last] : kLengths) {
    const uint32_t a = std::max(lo, first), b = std::min(hi, last);
    if (a <= b) Utf8(from, a, b, to);
  }
}

// lo and hi have UTF-8 of the same length. Splits the range until each byte runs over a range of its own.
WF_MODEL_INLINE void GrammarBuilder::Utf8(uint32_t from, uint32_t lo, uint32_t hi, uint32_t to) {
  std::string a, b;
  AppendUtf8(static_cast<int32_t>(lo), &a);
  AppendUtf8(static_cast<int32_t>(hi), &b);
  for (size_t i = 1; i < a.size(); ++i) {
    const uint32_t mask = (1u << (6 * i)) - 1;
    if ((lo & ~mask) == (hi & ~mask)) continue;
    if ((lo & mask) != 0) {
      Utf8(from, lo, lo | mask, to);
      return Utf8(from, (lo | mask) + 1, hi, to);
    }
    if ((hi & mask) != mask) {
      Utf8(from, lo, (hi & ~mask) - 1, to);
      return Utf8(from, hi & ~mask, hi, to);
    }
  }
  for (size_t i = 0; i < a.size(); ++i) {
    const uint32_t next = i + 1 < a.size() ? Node() : to;
    Bytes(from, static_cast<uint8_t>(a[i]), static_cast<uint8_t>(b[i]), next);
    from = next;
  }
}

WF_MODEL_INLINE void GrammarBuilder::Character(uint32_t from, const CodeSet& set, uint32_t to) {
  if (full()) return;
  auto found = sets_.find(set);
  if (found == sets_.end()) {
    const uint32_t rule = NewRule(false);
    const auto [start, end] = ends(rule);
    for (auto [lo, hi] : set) {
      for (; lo < 0x80 && lo <= hi; ++lo) {
        const std::string escape = JsonEscape(lo);
        if (escape.empty()) {
          Bytes(start, static_cast<uint8_t>(lo), static_cast<uint8_t>(lo), end);
        } else {
          Literal(start, escape, end);
        }
      }
      if (lo <= hi) CodePoint(start, lo, hi, end);
    }
    found = sets_.emplace(set, rule).first;
  }
  Call(from, found->second, to);
}

WF_MODEL_INLINE void GrammarBuilder::String(uint32_t from, uint32_t min, uint32_t max, uint32_t to) {
  uint32_t node = Node();
  Bytes(from, '"', '"', node);
  const uint32_t last = max == JsonGrammar::kNever ? min : max;
  for (uint32_t i = 0; !full(); ++i) {
    rooms_[node] = max == JsonGrammar::kNever ? max : max - i;
    if (i >= min) Bytes(node, '"', '"', to);
    if (i == last) break;
    const uint32_t next = Node();
    Call(node, character_, next);
    node = next;
  }
  if (max == JsonGrammar::kNever) Call(node, character_, node);
}

WF_MODEL_INLINE void GrammarBuilder::OtherString(uint32_t from, const std::vector<std::string>& names, uint32_t to) {
  const uint32_t rest = Node();  // the string is no beginning of a name
  Character(rest, PlainCharacters(), rest);
  Bytes(rest, '"', '"', to);
  if (!full()) rooms_[rest] = JsonGrammar::kNever;
  struct Inner {
    std::map<uint32_t, uint32_t> next;  // by code point
    bool name = false;
  };
  std::vector<Inner> tree(1);
  for (const std::string& name : names) {
    uint32_t at = 0;
    for (size_t pos = 0; pos < name.size();) {
      const Utf8Char c = NextUtf8(name, pos);
      pos += c.bytes;
      const auto [found, added] =
          tree[at].next.try_emplace(static_cast<uint32_t>(c.code), static_cast<uint32_t>(tree.size()));
      at = found->second;
      if (added) tree.emplace_back();
    }
    tree[at].name = true;
  }
  std::vector<uint32_t> nodes;
  for (size_t i = 0; i < tree.size(); ++i) nodes.push_back(Node());
  Bytes(from, '"', '"', nodes[0]);
  for (size_t i = 0; i < tree.size() && !full(); ++i) {
    if (!tree[i].name) Bytes(nodes[i], '"', '"', to);
    CodeSet taken = Complement(PlainCharacters());
    for (const auto& [code, next] : tree[i].next) {
      taken.emplace_back(code, code);
      // A name with characters that need an escape cannot come up.
      if (code >= 0x20 && code != '"' && code != '\\') CodePoint(nodes[i], code, code, nodes[next]);
    }
    Character(nodes[i], Complement(taken), rest);
  }
}

WF_MODEL_INLINE uint32_t GrammarBuilder::AnyObject() {
  if (!any_object_) AnyValue();
  return *any_object_;
}

WF_MODEL_INLINE uint32_t GrammarBuilder::AnyValue() {
  if (any_) return *any_;
  any_ = NewRule(false);
  any_object_ = NewRule(true);
  const uint32_t array = NewRule(true);
  const auto [from, to] = ends(*any_);
  Literals(from, {"null", "true", "false"}, to);
  AnyNumber(from, to);
  String(from, 0, JsonGrammar::kNever, to);
  Call(from, array, to);
  Call(from, *any_object_, to);
  {
    const auto [start, end] = ends(array);
    const uint32_t first = Node(), item = Node(), after = Node();
    Bytes(start, '[', '[', first);
    Bytes(first, ']', ']', end);
    Empty(first, item);
    Call(item, *any_, after);
    Bytes(after, ']', ']', end);
    Separator(after, ',', item);
  }
  const auto [start, end] = ends(*any_object_);
  const uint32_t first = Node(), key = Node(), colon = Node(), value = Node(), after = Node();
  Bytes(start, '{', '{', first);
  Bytes(first, '}', '}', end);
  Empty(first, key);
  String(key, 0, JsonGrammar::kNever, colon);
  Separator(colon, ':', value);
  Call(value, *any_, after);
  Bytes(after, '}', '}', end);
  Separator(after, ',', key);
  return *any_;
}

// The least solution, by going from the ends backwards: a node is looked at again whenever one that it leads to got
// better.
WF_MODEL_INLINE void GrammarBuilder::Close() {
  std::stable_sort(edges_.begin(), edges_.end(),
                   [](const BuiltEdge& a, const BuiltEdge& b) { return a.from < b.from; });
  std::vector<std::pair<uint32_t, uint32_t>> users;  // node, edge that leads there or calls what begins there
  for (uint32_t i = 0; i < edges_.size(); ++i) {
    const JsonGrammar::Edge& e = edges_[i].edge;
    users.emplace_back(e.to, i);
    if (e.kind == JsonGrammar::EdgeKind::kCall) users.emplace_back(rules_[e.rule].ends.start, i);
  }
  std::sort(users.begin(), users.end());
  need_.assign(nodes_.size(), JsonGrammar::kNever);
  std::vector<uint32_t> changed, next;
  for (uint32_t n = 0; n < nodes_.size(); ++n) {
    if (nodes_[n] == 0) continue;
    need_[n] = 0;
    changed.push_back(n);
  }
  // What a level of depth more makes better waits for the next round, so that each node changes few times.
  for (; !changed.empty(); changed.swap(next), next.clear()) {
    while (!changed.empty()) {
      const uint32_t n = changed.back();
      changed.pop_back();
      for (auto u = std::lower_bound(users.begin(), users.end(), std::pair(n, 0u)); u != users.end() && u->first == n;
           ++u) {
        const auto& [from, e] = edges_[u->second];
        uint32_t need = need_[e.to];
        if (need == JsonGrammar::kNever) continue;
        if (e.kind == JsonGrammar::EdgeKind::kCall) {
          const BuiltRule& rule = rules_[e.rule];
          if (need_[rule.ends.start] == JsonGrammar::kNever) continue;
          need = std::max(need, need_[rule.ends.start] + (rule.nests ? 1 : 0));
        }
        if (need >= need_[from]) continue;
        const bool deeper = need > need_[n];
        need_[from] = need;
        (deeper ? next : changed).push_back(from);
      }
    }
  }
}

// Nodes that the start leads to, through edges that can come to an end.
WF_MODEL_INLINE std::vector<bool> GrammarBuilder::Reachable(uint32_t start) const {
  std::vector<uint32_t> first(nodes_.size() + 1, 0);  // edge of each node; they are sorted
  for (const BuiltEdge& e : edges_) ++first[e.from + 1];
  for (size_t n = 1; n < first.size(); ++n) first[n] += first[n - 1];
  std::vector<bool> reached(nodes_.size());
  std::vector<uint32_t> pending;
  const auto reach = [&](uint32_t n) {
    if (!reached[n]) pending.push_back(n);
    reached[n] = true;
  };
  reach(rules_[start].ends.start);
  while (!pending.empty()) {
    const uint32_t n = pending.back();
    pending.pop_back();
    for (uint32_t i = first[n]; i < first[n + 1]; ++i) {
      const JsonGrammar::Edge& e = edges_[i].edge;
      if (!Leads(e)) continue;
      reach(e.to);
      if (e.kind == JsonGrammar::EdgeKind::kCall) reach(rules_[e.rule].ends.start);
    }
  }
  return reached;
}

WF_MODEL_INLINE std::shared_ptr<const JsonGrammar> GrammarBuilder::Finish(uint32_t start) {
  auto g = std::make_shared<JsonGrammar>();
  const std::vector<bool> reached = Reachable(start);
  std::set<uint32_t> borders = {0, 256};
  size_t at = 0;
  for (uint32_t n = 0; n < nodes_.size(); ++n) {
    g->nodes_.push_back({static_cast<uint32_t>(g->edges_.size()), need_[n], rooms_[n], nodes_[n] != 0});
    for (; at < edges_.size() && edges_[at].from == n; ++at) {
      const JsonGrammar::Edge& e = edges_[at].edge;
      if (!reached[n] || !Leads(e)) continue;
      g->edges_.push_back(e);
      if (e.kind != JsonGrammar::EdgeKind::kBytes) continue;
      borders.insert({e.lo, e.hi + 1u});
      for (uint32_t byte = e.lo; byte <= e.hi; ++byte) g->uses_[byte] = true;
    }
  }
  g->nodes_.push_back({static_cast<uint32_t>(g->edges_.size()), 0, 0, false});
  for (const BuiltRule& r : rules_) g->rules_.push_back({r.ends.start, r.nests});
  for (auto b = borders.begin(); *b < 256; ++b) {
    for (uint32_t byte = *b; byte < *std::next(b); ++byte) g->class_of_[byte] = static_cast<uint8_t>(g->classes_);
    g->example_[g->classes_++] = static_cast<uint8_t>(*b);
  }
  g->start_ = start;
  g->character_ = character_;
  return g;
}

}  // namespace wf::detail
#endif  // WF_DECODE_GRAMMAR_BUILDER_IMPL_H_
