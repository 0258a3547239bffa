// SPDX-License-Identifier: Apache-2.0
// CompileJsonSchema() of json_grammar.h: each schema becomes a rule of its own, so the grammar is about as large as the
// schema's text, references cost nothing and may be circular.
#ifndef WF_DECODE_JSON_SCHEMA_IMPL_H_
#define WF_DECODE_JSON_SCHEMA_IMPL_H_

#include <algorithm>
#include <boost/json.hpp>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "wf/decode/grammar_builder.h"
#include "wf/decode/json_grammar.h"
#include "wf/decode/schema_scalars-impl.h"
#include "wf/decode/schema_text-impl.h"

namespace wf::detail {

class SchemaCompiler {
 public:
  explicit SchemaCompiler(const json::value& root) : root_(root) {}

  Result<std::shared_ptr<const JsonGrammar>> Compile(const std::string& name) {
    WF_ASSIGN(const uint32_t start, Value(&root_, name));
    // Bodies of arrays and objects wait in a queue, so that no recursion follows the depth of a schema.
    for (; !bodies_.empty(); bodies_.pop_front()) {
      const Body body = bodies_.front();
      WF_TRY(body.is_array ? Array(body) : Object(body));
      WF_TRY(Room(body.path));
    }
    g_.Close();
    if (!g_.Possible(start)) return Impossible(start);
    if (g_.Need(start) > JsonLimits::kDepth) {
      return LimitError(name + ": every value has more than " + std::to_string(JsonLimits::kDepth) +
                        " arrays and objects inside each other");
    }
    return g_.Finish(start);
  }

 private:
  struct Body {
    const json::object* schema;
    uint32_t rule;  // of the array or object
    uint32_t owner;
    std::string path;
    bool is_array;
  };
  struct Demand {  // a value of the owner holds one of this rule
    uint32_t owner, rule;
    std::string path;
  };

  Status Room(const std::string& path) const {
    if (!g_.full()) return OkStatus();
    return LimitError(path + ": the schema is too large, more than " + std::to_string(JsonLimits::kNodes) +
                      " nodes by here");
  }
  static Status NoValue(const std::string& path) { return InvalidArgument(path + ": no value fits"); }

  // The innermost demand that cannot be met.
  Status Impossible(uint32_t rule) const {
    std::set<uint32_t> seen;
    std::string path = paths_.at(rule);
    while (seen.insert(rule).second) {
      for (const Demand& d : demands_) {
        if (d.owner != rule || g_.Possible(d.rule)) continue;
        rule = d.rule;
        path = d.path;
        break;
      }
    }
    return NoValue(path);
  }

  // The rule of a schema's values.
  Result<uint32_t> Value(const json::value* schema, const std::string& path) {
    if (const auto found = rules_.find(schema); found != rules_.end()) {
      if (open_.count(schema) == 0) return found->second;
      return InvalidArgument(path + ": the schema refers to itself with no array or object in between");
    }
    if (open_.size() >= JsonLimits::kSchemaDepth) {
      return LimitError(path + ": more than " + std::to_string(JsonLimits::kSchemaDepth) + " references in a row");
    }
    const uint32_t rule = g_.NewRule(false);
    rules_.emplace(schema, rule);
    paths_.emplace(rule, path);
    open_.insert(schema);
    WF_TRY(Fill(*schema, path, rule));
    open_.erase(schema);
    WF_TRY(Room(path));
    return rule;
  }

  Status Fill(const json::value& schema, const std::string& path, uint32_t rule) {
    const auto [from, to] = g_.ends(rule);
    if (schema.is_bool()) {
      if (schema.get_bool()) g_.Call(from, g_.AnyValue(), to);
      return OkStatus();
    }
    if (!schema.is_object()) return InvalidArgument(path + ": expected a schema, an object or boolean");
    const json::object& o = schema.get_object();
    WF_TRY(KnownKeywords(o, path));
    // Those say all that there is to say about a value: what stands beside them would have to hold too.
    for (const std::string_view whole : {"$ref", "const", "enum", "anyOf", "oneOf", "allOf"}) {
      const json::value* v = o.if_contains(whole);
      if (v == nullptr) continue;
      for (const auto& [key, value] : o) {
        const std::string_view k(key.data(), key.size());
        if (k == whole || IsAnnotation(k) || (k == "type" && (whole == "const" || whole == "enum"))) continue;
        return Unsupported(path + "/" + PointerKey(k) + ": not supported beside " + std::string(whole));
      }
      const std::string at = path + "/" + std::string(whole);
      if (whole == "$ref") return Reference(*v, at, rule);
      if (whole == "const" || whole == "enum") return Enum(o, *v, path, at, rule);
      return Union(*v, whole, at, rule);
    }
    WF_ASSIGN(const uint32_t types, SchemaTypes(o, path));
    if (types & kNull) g_.Literal(from, "null", to);
    if (types & kBool) g_.Literals(from, {"true", "false"}, to);
    if (types & kString) {
      WF_TRY(AddStrings(o, path, from, to, &g_));
      if (o.contains("pattern")) demands_.push_back({rule, rule, path + "/pattern"});
    }
    if (types & (kNumber | kInteger)) {
      WF_TRY(AddNumbers(o, path, (types & kNumber) == 0, from, to, &g_));
    }
    for (const uint32_t type : {kArray, kObject}) {
      if ((types & type) == 0) continue;
      const uint32_t body = g_.NewRule(true);
      g_.Call(from, body, to);
      bodies_.push_back({&o, body, rule, path, type == kArray});
    }
    return OkStatus();
  }

  static bool IsAnnotation(std::string_view key) {
    static const std::set<std::string_view> kNames = {"$schema",     "$id",        "$comment",    "$defs",
                                                      "definitions", "title",      "description", "default",
                                                      "examples",    "deprecated", "readOnly",    "writeOnly"};
    return kNames.count(key) > 0;
  }
  Status KnownKeywords(const json::object& o, const std::string& path) const {
    static const std::set<std::string_view> kNames = {"type",
                                                      "properties",
                                                      "required",
                                                      "additionalProperties",
                                                      "items",
                                                      "prefixItems",
                                                      "minItems",
                                                      "maxItems",
                                                      "enum",
                                                      "const",
                                                      "anyOf",
                                                      "oneOf",
                                                      "allOf",
                                                      "$ref",
                                                      "minLength",
                                                      "maxLength",
                                                      "pattern",
                                                      "format",
                                                      "minimum",
                                                      "maximum",
                                                      "exclusiveMinimum",
                                                      "exclusiveMaximum"};
    for (const auto& [key, value] : o) {
      const std::string_view k(key.data(), key.size());
      // Further in, $id would change what references mean.
      const bool known = k == "$id" ? &o == root_.if_object() : kNames.count(k) > 0 || IsAnnotation(k);
      if (!known) return Unsupported(path + "/" + PointerKey(k) + ": not supported");
    }
    return OkStatus();
  }

  Status Reference(const json::value& v, const std::string& at, uint32_t rule) {
    if (!v.is_string()) return InvalidArgument(at + ": expected a string");
    const std::string_view target = View(v.get_string());
    if (target.empty() || target.front() != '#' || (target.size() > 1 && target[1] != '/')) {
      return Unsupported(at + ": " + Quote(target) + " is not supported, only '#' and '#/...' are");
    }
    const json::value* schema = Resolve(root_, target);
    if (schema == nullptr) return InvalidArgument(at + ": nothing is at " + Quote(target));
    WF_ASSIGN(const uint32_t inner, Value(schema, at));
    demands_.push_back({rule, inner, at});
    g_.Call(g_.ends(rule).start, inner, g_.ends(rule).end);
    return OkStatus();
  }

  Status Enum(const json::object& o, const json::value& v, const std::string& path, const std::string& at,
              uint32_t rule) {
    WF_ASSIGN(const uint32_t types, SchemaTypes(o, path));
    std::vector<std::string> texts;
    const auto add = [&](const json::value& item) {
      if ((TypeOf(item) & types) == 0) return;
      texts.emplace_back();
      AppendJson(item, &texts.back());
    };
    if (&v == o.if_contains("const")) {
      add(v);
    } else if (!v.is_array()) {
      return InvalidArgument(at + ": expected an array");
    } else if (v.get_array().size() > JsonLimits::kEnumValues) {
      return LimitError(at + ": " + std::to_string(v.get_array().size()) + " values, the limit is " +
                        std::to_string(JsonLimits::kEnumValues));
    } else {
      for (const json::value& item : v.get_array()) add(item);
    }
    if (texts.empty()) return NoValue(at);
    g_.Literals(g_.ends(rule).start, std::move(texts), g_.ends(rule).end);
    return OkStatus();
  }

  Status Union(const json::value& v, std::string_view keyword, const std::string& at, uint32_t rule) {
    if (!v.is_array() || v.get_array().empty()) return InvalidArgument(at + ": expected an array of schemas");
    const json::array& list = v.get_array();
    if (keyword == "allOf" && list.size() > 1) return Unsupported(at + ": not supported with more than one schema");
    if (keyword == "oneOf") {
      if (list.size() > 100) return LimitError(at + ": " + std::to_string(list.size()) + " schemas, the limit is 100");
      for (size_t i = 0; i < list.size(); ++i) {
        for (size_t j = 0; j < i; ++j) {
          if (Exclusive(root_, list[j], list[i])) continue;
          return Unsupported(at + ": " + std::to_string(j) + " and " + std::to_string(i) +
                             " are not seen to exclude each other, by type or by a required property of constant "
                             "values; use anyOf");
        }
      }
    }
    for (size_t i = 0; i < list.size(); ++i) {
      const std::string path = at + "/" + std::to_string(i);
      WF_ASSIGN(const uint32_t inner, Value(&list[i], path));
      if (list.size() == 1) demands_.push_back({rule, inner, path});
      g_.Call(g_.ends(rule).start, inner, g_.ends(rule).end);
    }
    return OkStatus();
  }

  Status Array(const Body& body) {
    const json::object& o = *body.schema;
    WF_ASSIGN(const uint32_t min, SchemaCount(o, "minItems", 0, body.path));
    WF_ASSIGN(const uint32_t max, SchemaCount(o, "maxItems", JsonGrammar::kNever, body.path));
    if (min > max) return InvalidArgument(body.path + "/minItems: more than maxItems");
    std::vector<uint32_t> first;
    if (const json::value* list = o.if_contains("prefixItems")) {
      const std::string at = body.path + "/prefixItems";
      if (!list->is_array()) return InvalidArgument(at + ": expected an array of schemas");
      for (size_t i = 0; i < list->get_array().size(); ++i) {
        WF_ASSIGN(const uint32_t rule, Value(&list->get_array()[i], at + "/" + std::to_string(i)));
        if (i < min) demands_.push_back({body.owner, rule, at + "/" + std::to_string(i)});
        first.push_back(rule);
      }
    }
    uint32_t rest = 0;
    if (const json::value* items = o.if_contains("items")) {
      const std::string at = body.path + "/items";
      if (items->is_array()) return Unsupported(at + ": a list is not supported; that is prefixItems now");
      WF_ASSIGN(rest, Value(items, at));
      if (min > first.size()) demands_.push_back({body.owner, rest, at});
    } else {
      rest = g_.AnyValue();
    }
    const auto [start, end] = g_.ends(body.rule);
    uint32_t node = g_.Node();
    g_.Bytes(start, '[', '[', node);
    const uint32_t last = max != JsonGrammar::kNever ? max : std::max({min, static_cast<uint32_t>(first.size()), 1u});
    for (uint32_t i = 0; !g_.full(); ++i) {
      if (i >= min) g_.Bytes(node, ']', ']', end);
      if (i == last && max != JsonGrammar::kNever) break;
      uint32_t item = node;
      if (i > 0) {
        item = g_.Node();
        g_.Separator(node, ',', item);
      }
      const uint32_t next = i == last ? node : g_.Node();
      g_.Call(item, i < first.size() ? first[i] : rest, next);
      if (i == last) break;
      node = next;
    }
    return OkStatus();
  }

  struct Property {
    std::string name;
    uint32_t rule;
    bool required;
  };
  // In the order of the schema; those that are only required come last.
  Result<std::vector<Property>> Properties(const Body& body, std::optional<uint32_t> others) {
    const json::object& o = *body.schema;
    std::vector<Property> out;
    std::map<std::string, size_t> index;
    if (const json::value* v = o.if_contains("properties")) {
      if (!v->is_object()) return InvalidArgument(body.path + "/properties: expected an object");
      for (const auto& [key, schema] : v->get_object()) {
        const std::string name(key.data(), key.size());
        WF_ASSIGN(const uint32_t rule, Value(&schema, body.path + "/properties/" + PointerKey(name)));
        index.emplace(name, out.size());
        out.push_back({name, rule, false});
      }
    }
    const json::value* required = o.if_contains("required");
    if (required == nullptr) return out;
    const std::string at = body.path + "/required";
    if (!required->is_array()) return InvalidArgument(at + ": expected an array of strings");
    for (const json::value& v : required->get_array()) {
      if (!v.is_string()) return InvalidArgument(at + ": expected an array of strings");
      const std::string name(View(v.get_string()));
      const auto [found, added] = index.emplace(name, out.size());
      if (added) {
        if (!others) return InvalidArgument(at + ": " + Quote(name) + " is no property, and no others are allowed");
        out.push_back({name, *others, true});
      }
      out[found->second].required = true;
    }
    for (const Property& p : out) {
      if (p.required) demands_.push_back({body.owner, p.rule, body.path + "/properties/" + PointerKey(p.name)});
    }
    return out;
  }

  Status Object(const Body& body) {
    const json::object& o = *body.schema;
    // Properties that are not named: those that additionalProperties speaks of. Without it none are written if some are
    // named, and any otherwise.
    std::optional<uint32_t> others, unnamed;
    if (const json::value* v = o.if_contains("additionalProperties")) {
      if (!v->is_bool() || v->get_bool()) {
        WF_ASSIGN(others, Value(v, body.path + "/additionalProperties"));
      }
      unnamed = others;
    } else {
      others = g_.AnyValue();
      if (!o.contains("properties")) unnamed = others;
    }
    WF_ASSIGN(const std::vector<Property> properties, Properties(body, others));
    const auto [start, end] = g_.ends(body.rule);
    // Where nothing was written yet, and where something was: nothing leads there before the first property.
    uint32_t fresh = g_.Node(), begun = g_.Node();
    bool can_be_fresh = true;
    g_.Bytes(start, '{', '{', fresh);
    const auto value = [&](uint32_t colon, uint32_t rule, uint32_t to) {
      const uint32_t node = g_.Node();
      g_.Separator(colon, ':', node);
      g_.Call(node, rule, to);
    };
    std::vector<std::string> names;
    for (const Property& p : properties) {
      const uint32_t key = g_.Node(), colon = g_.Node(), after = g_.Node();
      if (can_be_fresh) g_.Empty(fresh, key);
      g_.Separator(begun, ',', key);
      g_.Literal(key, JsonString(p.name), colon);
      value(colon, p.rule, after);
      if (!p.required) g_.Empty(begun, after);
      can_be_fresh = can_be_fresh && !p.required;
      begun = after;
      names.push_back(p.name);
      WF_TRY(Room(body.path));
    }
    if (unnamed) {
      const uint32_t key = g_.Node(), colon = g_.Node();
      if (can_be_fresh) g_.Empty(fresh, key);
      g_.Separator(begun, ',', key);
      if (names.empty()) {
        g_.String(key, 0, JsonGrammar::kNever, colon);
      } else {
        g_.OtherString(key, names, colon);
      }
      value(colon, *unnamed, begun);
    }
    if (can_be_fresh) g_.Bytes(fresh, '}', '}', end);
    g_.Bytes(begun, '}', '}', end);
    return OkStatus();
  }

  const json::value& root_;
  GrammarBuilder g_;
  std::map<const json::value*, uint32_t> rules_;
  std::set<const json::value*> open_;  // schemas whose rules are being filled
  std::map<uint32_t, std::string> paths_;
  std::vector<Demand> demands_;
  std::deque<Body> bodies_;
};

}  // namespace wf::detail

namespace wf {

WF_MODEL_INLINE Result<std::shared_ptr<const JsonGrammar>> CompileJsonSchema(std::string_view schema_json,
                                                                             const std::string& name) {
  namespace json = boost::json;
  if (schema_json.size() > JsonLimits::kSchemaBytes) {
    return LimitError(name + ": more than " + std::to_string(JsonLimits::kSchemaBytes) + " bytes");
  }
  json::parse_options options;
  options.max_depth = 2 * JsonLimits::kSchemaDepth;  // a schema inside another is two objects further in
  boost::system::error_code error;
  json::stream_parser parser(json::storage_ptr(), options);
  parser.write(schema_json.data(), schema_json.size(), error);
  if (!error) parser.finish(error);
  if (error == json::error::too_deep) {
    return LimitError(name + ": more than " + std::to_string(options.max_depth) +
                      " arrays and objects inside each other");
  }
  if (error) return InvalidArgument(name + ": not JSON: " + error.message());
  const json::value schema = parser.release();
  return detail::SchemaCompiler(schema).Compile(name);
}

WF_MODEL_INLINE std::shared_ptr<const JsonGrammar> JsonObjectGrammar() {
  detail::GrammarBuilder g;
  const uint32_t start = g.NewRule(false);
  g.Call(g.ends(start).start, g.AnyObject(), g.ends(start).end);
  g.Close();
  return g.Finish(start);
}

}  // namespace wf
#endif  // WF_DECODE_JSON_SCHEMA_IMPL_H_
