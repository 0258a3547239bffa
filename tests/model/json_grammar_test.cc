// SPDX-License-Identifier: Apache-2.0
// Which texts a schema's grammar has, keyword by keyword, and which schemas are refused with which words. Whether the
// texts are valid is asked of another implementation in test_json_grammar_pypi.py.
#include "wf/decode/json_grammar.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tests/catch.h"

using wf::CompileJsonSchema;
using wf::ErrorCode;
using wf::JsonGrammar;
using wf::JsonMatcher;

namespace {

std::shared_ptr<const JsonGrammar> Compile(const std::string& schema) {
  INFO(schema);
  auto grammar = CompileJsonSchema(schema);
  INFO(grammar.status().message());
  REQUIRE(grammar.ok());
  return *grammar;
}

// How many bytes of the text the grammar takes, and whether it may end there.
struct Taken {
  size_t bytes = 0;
  bool whole = false;
};
Taken Take(const std::shared_ptr<const JsonGrammar>& grammar, std::string_view text) {
  JsonMatcher m(grammar);
  Taken taken;
  while (taken.bytes < text.size() && m.Advance(static_cast<uint8_t>(text[taken.bytes]))) ++taken.bytes;
  taken.whole = taken.bytes == text.size() && m.CanEnd();
  return taken;
}

// Texts of the grammar, and texts that are none: each with a '|' before the first byte that cannot be right, or at the
// end if only more is missing.
void Check(const std::shared_ptr<const JsonGrammar>& grammar, const std::vector<std::string>& good,
           const std::vector<std::string>& bad) {
  for (const std::string& text : good) {
    INFO(text);
    CHECK(Take(grammar, text).whole);
  }
  for (const std::string& marked : bad) {
    INFO(marked);
    const size_t at = marked.find('|');
    REQUIRE(at != std::string::npos);
    const Taken taken = Take(grammar, std::string(marked).erase(at, 1));
    CHECK(taken.bytes == at);
    CHECK_FALSE(taken.whole);
  }
}
void Check(const std::string& schema, const std::vector<std::string>& good, const std::vector<std::string>& bad) {
  INFO(schema);
  Check(Compile(schema), good, bad);
}

void Refused(const std::string& schema, ErrorCode code, const std::string& message) {
  INFO(schema);
  const auto grammar = CompileJsonSchema(schema);
  REQUIRE_FALSE(grammar.ok());
  CHECK(grammar.status().message() == message);
  CHECK(grammar.status().code() == code);
}

std::string Repeat(std::string_view text, size_t n) {
  std::string out;
  for (size_t i = 0; i < n; ++i) out += text;
  return out;
}

}  // namespace

TEST_CASE("any object: JSON with at most one blank, behind a separator", "[grammar]") {
  Check(wf::JsonObjectGrammar(),
        {"{}", R"({"a":1})", R"({"a": [1, 2,3, {"b": null}], "": "x"})", R"({"a":[],"a":{}})", R"({"x":-0.5e-7})"},
        {"|[]", "|1", "| {}", "{| }", R"({"a"| :1})", R"({"a": | 1})", R"({"a":1|]})", R"({"a":1,|})", "{}| ", "{|\n}",
         R"({|a:1})", R"({"a":0|1})", R"({"a":|.5})", R"({"a":|+1})", R"({"a":1.|})", R"({"a":n|a})", R"({"a":|})",
         R"({"a":1|)", "|"});
}

TEST_CASE("strings are UTF-8 with paired surrogates and no control characters", "[grammar]") {
  Check(R"({"type":"string"})",
        {R"("")", "\"é日😀\x7f\"", R"("\"\\\/\b\f\n\r\t\u0000\uABcd\ud7ff\ue000")", R"("\ud83d\ude00\uDBFF\uDFFF")"},
        {"\"|\n\"", "\"|\x1f\"", "\"|\x80\"", "\"|\xC0\xAF\"", "\"\xE0|\x80\x80\"", "\"\xED|\xA0\x80\"", "\"\xC3|\"",
         "\"\xF4|\x90\x80\x80\"", "\"|\xF5\"", R"("\|x")", R"("\u12|g4")", R"("\ud83d|")", R"("\ud83d\|n")",
         R"("\ud83d\u|0041")", R"("\ud83d\ud|83d")", R"("\ud|e00")", R"("\|U0041")", "\"|"});
}

TEST_CASE("lengths count characters, not bytes", "[grammar]") {
  Check(R"({"type":"string","minLength":2,"maxLength":3})",
        {R"("ab")", R"("日本語")", "\"😀😀\"", R"("\ud83d\ude00\n")", R"("a\"b")"},
        {R"("|")", R"("a|")", R"("abc|d")", "\"日本語|é\"", R"("\n\n\n|\n")"});
  Check(R"({"type":"string","maxLength":0})", {R"("")"}, {R"("|a")", R"("|\n")"});
  Check(R"({"type":"string","minLength":1})", {R"("a")", "\"" + Repeat("é", 5000) + "\""}, {R"("|")"});
  // A larger maxLength acts as 16384.
  Check(R"({"type":"string","maxLength":1000000})", {"\"" + Repeat("x", 16384) + "\""},
        {"\"" + Repeat("x", 16384) + "|x\""});
  Refused(R"({"type":"string","minLength":16385})", ErrorCode::kLimit, "schema/minLength: more than 16384");
  Refused(R"({"type":"string","minLength":3,"maxLength":2})", ErrorCode::kInvalidArgument,
          "schema/minLength: more than maxLength");
  for (const char* bad : {"-1", "1.5", "\"1\"", "null"}) {
    Refused(std::string(R"({"type":"string","maxLength":)") + bad + "}", ErrorCode::kInvalidArgument,
            "schema/maxLength: expected a whole number of at least 0");
  }
}

TEST_CASE("integers have up to 18 digits or stay within their bounds", "[grammar]") {
  Check(R"({"type":"integer"})", {"0", "7", "-7", "999999999999999999", "-100"},
        {"|+1", "0|1", "-|0", "1|.0", "1|e2", "999999999999999999|9", "-|"});
  Check(R"({"type":"integer","minimum":18,"maximum":120})", {"18", "19", "20", "99", "100", "120"},
        {"1|", "1|7", "|-18", "12|1", "1|30", "2|", "|0"});
  Check(R"({"type":"integer","minimum":-15,"exclusiveMaximum":7})", {"-15", "-9", "-1", "0", "6"},
        {"-1|6", "-|0", "|7", "1|0"});
  Check(R"({"type":"integer","exclusiveMinimum":9.5,"maximum":1e1})", {"10"}, {"|9", "1|", "1|1"});
  Check(R"({"type":"integer","maximum":9223372036854775807,"minimum":0})", {"0", "999999999999999999"}, {"|-1"});
  Check(R"({"type":"integer","minimum":5,"exclusiveMinimum":5})", {"6"}, {"5|"});
  Refused(R"({"type":"integer","minimum":3,"maximum":2})", ErrorCode::kInvalidArgument,
          "schema: no number is within the bounds");
  Refused(R"({"type":"integer","minimum":1000000000000000000})", ErrorCode::kUnsupported,
          "schema: bounds that leave only numbers of more than 18 digits are not supported");
  Refused(R"({"type":"integer","exclusiveMinimum":0.25,"maximum":0.75})", ErrorCode::kInvalidArgument,
          "schema: no value fits");
  Refused(R"({"type":"integer","minimum":"1"})", ErrorCode::kInvalidArgument, "schema/minimum: expected a number");
}

TEST_CASE("numbers are finite doubles", "[grammar]") {
  Check(R"({"type":"number"})", {"0", "-0", "0.1234567890123456", "1e99", "-2.5E-7", "1e+0"},
        {"1e10|0", "0.1234567890123456|7", "|.5", "1.|", "1e|", "0|0", "-|", "|Infinity", "|NaN"});
  Check(R"({"type":"number","minimum":-0.5,"exclusiveMaximum":1.25})", {"-0.5", "-0.499", "-0", "0.0", "1", "1.249"},
        {"-0.5|1", "-0.|6", "1.2|5", "1.|3", "|2", "-|1", "1|e0"});
  Check(R"({"type":"number","exclusiveMinimum":0,"maximum":1})", {"0.00001", "1", "1.000", "0.5"},
        {"0|", "0.0|", "1.0|1", "|-1"});
  Check(R"({"type":"number","minimum":0.1,"maximum":0.1})", {"0.1", "0.100"}, {"0|", "0.|2", "|1"});
  Check(R"({"type":"number","minimum":0})", {"0", "999999999.999999"}, {"|-", "999999999|9", "0.123456|7"});
}

TEST_CASE("types, and values without a type", "[grammar]") {
  Check(R"({"type":["string","null"]})", {"\"x\"", "null"}, {"|1", "|true", "nul|"});
  Check(R"({"type":["integer","number"]})", {"1", "1.5"}, {});
  for (const char* any : {"true", "{}", R"({"title":"t","description":"d","default":1,"examples":[2]})"}) {
    Check(any, {"null", "true", "1.5", "\"x\"", "[1,[2]]", R"({"a":{}})"}, {"|xyz"});
  }
  // A keyword says nothing about values of other types.
  Check(R"({"minLength":1,"minItems":1})", {"\"x\"", "[0]", "7", "{}", "null"}, {"\"|\"", "[|]"});
  Refused("false", ErrorCode::kInvalidArgument, "schema: no value fits");
  Refused("3", ErrorCode::kInvalidArgument, "schema: expected a schema, an object or boolean");
  for (const char* bad : {"\"int\"", "[]", "3", "[\"null\",\"x\"]"}) {
    Refused(std::string(R"({"type":)") + bad + "}", ErrorCode::kInvalidArgument,
            "schema/type: expected null, boolean, integer, number, string, array or object, or a list of those");
  }
}

TEST_CASE("properties come in the order of the schema, optional ones or not", "[grammar]") {
  Check(R"({"type":"object","properties":{"b":{"type":"null"},"a":{"type":"boolean"},"c":{"type":"null"}},
            "required":["a"],"additionalProperties":false})",
        {R"({"a":true})", R"({"b":null,"a":true})", R"({"a":true,"c":null})", R"({"b": null, "a": false, "c": null})"},
        {"{|}", R"({"b":null|})", R"({"|c":null})", R"({"a":true,"|b":null})", R"({"a":true,"c":null|,)",
         R"({"a":true,"|a":true})", R"({"a":true,|})", R"({"a":|1})", R"({"|\u0061":true})"});
  // Without additionalProperties nothing but the properties is written.
  Check(R"({"type":"object","properties":{"a":true}})", {"{}", R"({"a":1})"}, {R"({"|b":1})"});
  Check(R"({"type":"object","properties":{}})", {"{}"}, {R"({|"b":1})"});
  Check(R"({"type":"object","required":["x"]})", {R"({"x":[]})", R"({"x":1,"y":2})"}, {"{|}", R"({"|y":1})"});
  Check(R"({"type":"object","properties":{"a":true},"required":["z"]})", {R"({"z":1})", R"({"a":1,"z":1})"},
        {R"({"a":1|})"});
  // A property that cannot be is left out.
  Check(R"({"type":"object","properties":{"a":false,"b":true}})", {"{}", R"({"b":1})"}, {R"({"|a":1})"});
  Refused(R"({"type":"object","properties":{"a":false,"b/~":{"anyOf":[false]}},"required":["b/~"]})",
          ErrorCode::kInvalidArgument, "schema/properties/b~1~0/anyOf/0: no value fits");
  Refused(R"({"type":"object","required":["q"],"additionalProperties":false})", ErrorCode::kInvalidArgument,
          "schema/required: 'q' is no property, and no others are allowed");
  Refused(R"({"type":"object","required":"q"})", ErrorCode::kInvalidArgument,
          "schema/required: expected an array of strings");
  Refused(R"({"type":"object","properties":[]})", ErrorCode::kInvalidArgument, "schema/properties: expected an object");
}

TEST_CASE("additional properties have names of their own", "[grammar]") {
  Check(
      R"({"type":"object","properties":{"ab":{"type":"null"},"é":{"type":"null"},"q\"":{"type":"null"}},
            "additionalProperties":{"type":"integer"}})",
      {"{}", R"({"ab":null,"é":null,"q\"":null})", R"({"a":1,"abc":2,"":3,"è":4,"éé":5})", R"({"ab":null,"x":1})",
       "{\"日\":1}"},
      {R"({"ab":|1})", R"({"x":|null})", R"({"x":1,"ab|":null})", R"({"é":|1})", R"({"x|\n":1})", "{\"\xC3|\x28\":1}"});
  Check(R"({"type":"object","additionalProperties":{"type":"integer"}})", {R"({"\n":1,"\u0061":2})"},
        {R"({"a":|"x"})"});
  Check(R"({"type":"object","properties":{"a":{"type":"null"}},"additionalProperties":true})",
        {R"({"a":null,"b":[{}]})"}, {R"({"a":|1})"});
  Check(R"({"type":"object","additionalProperties":false})", {"{}"}, {R"({|"a":1})"});
}

TEST_CASE("arrays: items, their number, a list of the first ones", "[grammar]") {
  Check(R"({"type":"array","items":{"type":"integer"}})", {"[]", "[1]", "[1, 2,3]"},
        {"[1,|]", "[|,1]", "[1| ,2]", "[|\"x\"]"});
  Check(R"({"type":"array","items":{"type":"integer"},"minItems":2,"maxItems":3})", {"[1,2]", "[1,2,3]"},
        {"[|]", "[1|]", "[1,2,3|,4]"});
  Check(R"({"type":"array","maxItems":0})", {"[]"}, {"[|1]"});
  Check(R"({"type":"array","minItems":3})", {"[1,[],{}]", "[1,2,3,4,5]"}, {"[1,2|]"});
  Check(R"({"type":"array","prefixItems":[{"type":"null"},{"type":"boolean"}],"items":{"type":"integer"}})",
        {"[]", "[null]", "[null,true]", "[null,true,1,2]"}, {"[|true]", "[null,|null]", "[null,true,|true]"});
  Check(R"({"type":"array","prefixItems":[{"type":"null"},{"type":"boolean"}],"items":false,"minItems":1})",
        {"[null]", "[null,true]"}, {"[|]", "[null,true|,1]"});
  Check(R"({"type":"array","prefixItems":[{"type":"null"},{"type":"boolean"}],"maxItems":1})", {"[]", "[null]"},
        {"[null|,true]"});
  Check(R"({"type":"array","items":false})", {"[]"}, {"[|1]"});
  Refused(R"({"type":"array","items":false,"minItems":1})", ErrorCode::kInvalidArgument, "schema/items: no value fits");
  Refused(R"({"type":"array","minItems":2,"maxItems":1})", ErrorCode::kInvalidArgument,
          "schema/minItems: more than maxItems");
  Refused(R"({"type":"array","items":[true]})", ErrorCode::kUnsupported,
          "schema/items: a list is not supported; that is prefixItems now");
  Refused(R"({"type":"array","prefixItems":{}})", ErrorCode::kInvalidArgument,
          "schema/prefixItems: expected an array of schemas");
}

TEST_CASE("enum and const have one text for each value", "[grammar]") {
  Check(R"({"enum":["a","ab","b\"\n",1,2.5,null,true,[1,{"k":"v"}],{}]})",
        {R"("a")", R"("ab")", R"("b\"\n")", "1", "2.5", "null", "true", R"([1,{"k":"v"}])", "{}"},
        {R"("|c")", R"("ab|c")", "2|", "|3", "[1,| {}]"});
  Check(R"({"const":"x"})", {"\"x\""}, {"\"|y\"", R"("|\u0078")"});
  Check(R"({"type":["integer","null"],"enum":["1",1,null,1.5,2.0]})", {"1", "null", "2"}, {"|\"1\"", "1|.5"});
  Refused(R"({"enum":[]})", ErrorCode::kInvalidArgument, "schema/enum: no value fits");
  Refused(R"({"type":"integer","const":"x"})", ErrorCode::kInvalidArgument, "schema/const: no value fits");
  Refused(R"({"enum":"a"})", ErrorCode::kInvalidArgument, "schema/enum: expected an array");
  Refused(R"({"enum":["a"],"minLength":1})", ErrorCode::kUnsupported, "schema/minLength: not supported beside enum");
}

TEST_CASE("alternatives may begin alike", "[grammar]") {
  const std::string a =
      R"({"type":"object","properties":{"k":{"const":"a"},"x":{"type":"null"}},"required":["k","x"]})";
  const std::string b =
      R"({"type":"object","properties":{"k":{"const":"ab"},"y":{"type":"null"}},"required":["k","y"]})";
  for (const char* keyword : {"anyOf", "oneOf"}) {
    Check(std::string("{\"") + keyword + "\":[" + a + "," + b + ",{\"type\":\"integer\"}]}",
          {R"({"k":"a","x":null})", R"({"k":"ab","y":null})", "3"},
          {R"({"k":"a","|y":null})", R"({"k":"ab","|x":null})"});
  }
  Check(R"({"anyOf":[{"type":"string","maxLength":1},{"type":"string","pattern":"^x+$"}]})",
        {"\"é\"", "\"xxx\"", "\"\""}, {"\"xx|y\"", "\"y|x\""});
  Check(R"({"allOf":[{"type":"null"}]})", {"null"}, {});
  Check(R"({"anyOf":[false,{"type":"null"}]})", {"null"}, {});
  Refused(R"({"oneOf":[{"type":"integer"},{"type":"string"},{"type":"number"}]})", ErrorCode::kUnsupported,
          "schema/oneOf: 0 and 2 are not seen to exclude each other, by type or by a required property of constant "
          "values; use anyOf");
  Refused(R"({"oneOf":[{"const":1},{"const":1.0}]})", ErrorCode::kUnsupported,
          "schema/oneOf: 0 and 1 are not seen to exclude each other, by type or by a required property of constant "
          "values; use anyOf");
  Refused(R"({"allOf":[{},{}]})", ErrorCode::kUnsupported, "schema/allOf: not supported with more than one schema");
  Refused(R"({"anyOf":[]})", ErrorCode::kInvalidArgument, "schema/anyOf: expected an array of schemas");
  Refused(R"({"anyOf":[{}],"type":"object"})", ErrorCode::kUnsupported, "schema/type: not supported beside anyOf");
}

TEST_CASE("references, also circular ones", "[grammar]") {
  Check(R"({"$ref":"#/$defs/a~1b","$defs":{"a/b":{"$ref":"#/definitions/c"}},"definitions":{"c":{"type":"null"}}})",
        {"null"}, {"|1"});
  Check(R"({"type":"object","properties":{"next":{"anyOf":[{"$ref":"#"},{"type":"null"}]}},"required":["next"]})",
        {R"({"next":null})", R"({"next":{"next":{"next":null}}})"}, {R"({"next":{|}})"});
  Refused(R"({"$ref":"#"})", ErrorCode::kInvalidArgument,
          "schema/$ref: the schema refers to itself with no array or object in between");
  Refused(R"({"$ref":"#/$defs/a","$defs":{"a":{"anyOf":[{"type":"null"},{"$ref":"#/$defs/a"}]}}})",
          ErrorCode::kInvalidArgument,
          "schema/$ref/anyOf/1/$ref: the schema refers to itself with no array or object in between");
  Refused(R"({"type":"object","properties":{"n":{"$ref":"#"}},"required":["n"]})", ErrorCode::kInvalidArgument,
          "schema/properties/n/$ref: no value fits");
  Refused(R"({"$ref":"#/$defs/x"})", ErrorCode::kInvalidArgument, "schema/$ref: nothing is at '#/$defs/x'");
  Refused(R"({"$ref":"http://example.org/s"})", ErrorCode::kUnsupported,
          "schema/$ref: 'http://example.org/s' is not supported, only '#' and '#/...' are");
  Refused(R"({"$ref":"#","minLength":1})", ErrorCode::kUnsupported, "schema/minLength: not supported beside $ref");
}

TEST_CASE("patterns: what ECMA 262 and Python read alike", "[grammar]") {
  const auto pattern = [](const std::string& p) { return R"({"type":"string","pattern":")" + p + "\"}"; };
  Check(pattern("^[A-Z]{2,3}-\\\\d+$"), {R"("AB-1")", R"("ABC-007")"}, {R"("A|-1")", R"("ABC|D")", R"("AB-|")"});
  Check(pattern("b"), {R"("b")", R"("xxbyy")", R"("\nb\"\\")"}, {R"("x|")", R"("x\u00|62")", R"("\|/b")"});
  Check(pattern("^(a|bc)*$"), {R"("")", R"("abca")"}, {R"("b|")", R"("b|a")"});
  Check(pattern("^(?:ab?){2}c??$"), {R"("aa")", R"("abac")"}, {R"("a|")", R"("aac|c")"});
  Check(pattern("^[^a-y\\\\s\\\"]$"), {R"("z")", R"("é")", R"("\\")"},
        {R"("|b")", R"("| ")", "\"\xC2|\xA0\"", R"("\|"")"});
  Check(pattern("^.$"), {R"("x")", R"("\t")", "\"é\""}, {R"("\|n")", R"("\|r")"});
  Check(pattern("^\\\\w\\\\W\\\\S\\\\D\\\\s$"), {R"("a é- ")"}, {R"("|é")", R"("a|é")", R"("a | ")"});
  Check(pattern("^\\\\x41\\\\u00e9\\\\.\\\\$$"), {"\"Aé.$\""}, {"\"A|e\""});
  Check(pattern("^$"), {R"("")"}, {R"("|a")"});
  Check(pattern("^a|b$"), {R"("ax")", R"("xb")"}, {R"("x|")"});
  Check(R"({"type":"string","pattern":"^a*$","minLength":2,"maxLength":3})", {R"("aa")", R"("aaa")"},
        {R"("a|")", R"("aaa|a")", R"("|b")"});
  Refused(pattern("a^b"), ErrorCode::kInvalidArgument, "schema/pattern: no value fits");

  struct Bad {
    std::string pattern, message;
    ErrorCode code;
  };
  const ErrorCode no = ErrorCode::kUnsupported, wrong = ErrorCode::kInvalidArgument;
  for (const Bad& b :
       std::vector<Bad>{{"(?=a)", "byte 1 of '(?=a)': a group that begins with (? is not supported", no},
                        {"(a)\\\\1", "byte 5 of '(a)\\x5c1': \\1 is not supported", no},
                        {"\\\\bx", "byte 2 of '\\x5cbx': \\b is not supported", no},
                        {"\\\\p{L}", "byte 2 of '\\x5cp{L}': \\p is not supported", no},
                        {"[^\\\\S]", "byte 4 of '[^\\x5cS]': \\S in a negated class is not supported", no},
                        {"a)", "byte 1 of 'a)': a ')' without its '(' is not supported", no},
                        {"(a", "byte 2 of '(a': expected )", wrong},
                        {"[a", "byte 2 of '[a': expected ]", wrong},
                        {"[]", "byte 1 of '[]': an empty class", wrong},
                        {"[b-a]", "byte 4 of '[b-a]': a range that runs backwards", wrong},
                        {"*", "byte 0 of '*': a * that means itself is written with a backslash", wrong},
                        {"a**", "byte 2 of 'a**': nothing to repeat", wrong},
                        {"a{2,1}", "byte 6 of 'a{2,1}': the bounds of a repetition are the wrong way round", wrong},
                        {"a{x}", "byte 2 of 'a{x}': expected a number; a { that means itself is written \\{", wrong},
                        {"((a{99}){99}){99}", "more than 8192 states", ErrorCode::kLimit},
                        {Repeat("a", 1025), "more than 1024 bytes", ErrorCode::kLimit},
                        {Repeat("(", 60), "more than 50 groups inside each other", ErrorCode::kLimit}}) {
    Refused(pattern(b.pattern), b.code, "schema/pattern: " + b.message);
  }
}

TEST_CASE("formats are patterns of our own", "[grammar]") {
  const auto format = [](const std::string& f) { return R"({"type":"string","format":")" + f + "\"}"; };
  Check(format("date"), {R"("2024-02-29")", R"("2000-02-29")", R"("0001-12-31")"},
        {R"("2023-02-2|9")", R"("1900-02-2|9")", R"("2023-04-3|1")", R"("2023-1|3")", R"("000|0")"});
  Check(format("date-time"), {R"("2023-12-31T23:59:59.5+01:00")", R"("2023-12-31T00:00:00Z")"},
        {R"("2023-12-31| ")", R"("2023-12-31T2|4")"});
  Check(format("uuid"), {R"("123e4567-e89b-12d3-a456-426614174000")"}, {R"("123e4567|e")"});
  Check(R"({"type":"integer","format":"int64"})", {"1"}, {});  // says nothing about integers
  Refused(format("regex"), ErrorCode::kUnsupported,
          "schema/format: 'regex' is not supported, only date, time, date-time, email, hostname, ipv4, uri, uuid are");
  Refused(R"({"type":"string","format":"date","pattern":"a"})", ErrorCode::kUnsupported,
          "schema/format: not supported beside pattern");
}

TEST_CASE("whatever else a schema says is refused by its place", "[grammar]") {
  for (const char* keyword :
       {"patternProperties", "propertyNames", "minProperties", "not", "if", "uniqueItems", "contains", "multipleOf",
        "dependentRequired", "additionalItems", "nullable", "$anchor", "unevaluatedProperties"}) {
    const std::string inner = std::string("{\"") + keyword + "\":{}}";
    Refused(R"({"properties":{"a":)" + inner + "}}", ErrorCode::kUnsupported,
            std::string("schema/properties/a/") + keyword + ": not supported");
  }
  Refused(R"({"items":{"anyOf":[{},{"x\n/":1}]}})", ErrorCode::kUnsupported,
          "schema/items/anyOf/1/x\\x0a~1: not supported");
  Refused(R"({"items":{"$id":"x"}})", ErrorCode::kUnsupported, "schema/items/$id: not supported");
  const auto named = CompileJsonSchema(R"({"not":{}})", "response_format.json_schema.schema");
  CHECK(named.status().message() == "response_format.json_schema.schema/not: not supported");
  const auto broken = CompileJsonSchema("{", "s");
  CHECK(broken.status().code() == ErrorCode::kInvalidArgument);
  CHECK(broken.status().message().substr(0, 12) == "s: not JSON:");
}

TEST_CASE("an answer has at most 64 levels, and can be finished wherever it is", "[grammar]") {
  Check(wf::JsonObjectGrammar(), {Repeat("{\"a\":", 63) + "{}" + Repeat("}", 63)}, {Repeat("{\"a\":", 64) + "|{"});
  Check("true", {Repeat("[", 64) + Repeat("]", 64)}, {Repeat("[", 64) + "|[", Repeat("[", 64) + "|{"});
  // Where a value needs two more levels, none is begun that could not have them.
  const std::string schema =
      R"({"type":"array","items":{"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]}})";
  Check(schema, {Repeat("[{\"a\":", 31) + "[]" + Repeat("}]", 31)}, {Repeat("[{\"a\":", 31) + "[|{"});
  std::string defs = R"({"$ref":"#/$defs/0","$defs":{)";
  for (int i = 0; i < 70; ++i) {
    defs += "\"" + std::to_string(i) + R"(":{"type":"array","minItems":1,"items":{"$ref":"#/$defs/)" +
            std::to_string(i + 1) + "\"}},";
  }
  Refused(defs + R"("70":true}})", ErrorCode::kLimit,
          "schema: every value has more than 64 arrays and objects inside each other");
}

TEST_CASE("a schema has limits", "[grammar]") {
  std::string values = "0";
  for (int i = 1; i <= 10000; ++i) values += "," + std::to_string(i);
  Refused("{\"enum\":[" + values + "]}", ErrorCode::kLimit, "schema/enum: 10001 values, the limit is 10000");
  Refused("[" + std::string(1 << 20, ' ') + "]", ErrorCode::kLimit, "schema: more than 1048576 bytes");
  Refused(Repeat("{\"items\":", 200) + "{}" + Repeat("}", 200), ErrorCode::kLimit,
          "schema: more than 128 arrays and objects inside each other");
  std::string chain = R"({"$ref":"#/$defs/0","$defs":{)";
  for (int i = 0; i < 100; ++i)
    chain += "\"" + std::to_string(i) + "\":{\"$ref\":\"#/$defs/" + std::to_string(i + 1) + "\"},";
  const auto long_chain = CompileJsonSchema(chain + "\"100\":true}}");
  CHECK(long_chain.status().code() == ErrorCode::kLimit);
  CHECK(long_chain.status().message().find(": more than 64 references in a row") != std::string::npos);
  std::string strings = "{\"prefixItems\":[0";
  for (int i = 0; i < 20; ++i)
    strings += R"(,{"type":"string","maxLength":16384,"minLength":)" + std::to_string(i) + "}";
  strings.erase(strings.find("0,"), 2);
  Refused(strings + "]}", ErrorCode::kLimit,
          "schema/prefixItems/15: the schema is too large, more than 262144 nodes by here");
  // References to the same schema cost nothing, however often they are followed.
  std::string doubling = R"({"$ref":"#/$defs/0","$defs":{)";
  for (int i = 0; i < 20; ++i) {
    const std::string next = "{\"$ref\":\"#/$defs/" + std::to_string(i + 1) + "\"}";
    doubling += "\"" + std::to_string(i) + "\":{\"anyOf\":[" + next + "," + next + "]},";
  }
  const auto small = Compile(doubling + R"("20":{"type":"null"}}})");
  CHECK(small->nodes() < 1000);
  Check(small, {"null"}, {});
}

TEST_CASE("a matcher forgets what it worked out, not where it is", "[grammar]") {
  // Each further character of this string is a new state, so tables are dropped many times over.
  const auto grammar = Compile(R"({"type":"array","items":{"type":"string","maxLength":16000,"pattern":"^[a-z ]*$"}})");
  JsonMatcher m(grammar);
  const std::string text = "[\"" + Repeat("lorem ipsum ", 1333) + "\",\"" + Repeat("x", 15999) + "\"]";
  size_t taken = 0, trimmed = 0;
  for (const char c : text) {
    if (m.Trim()) ++trimmed;
    if (!m.Advance(static_cast<uint8_t>(c))) break;
    ++taken;
  }
  CHECK(taken == text.size());
  CHECK(m.CanEnd());
  CHECK_FALSE(m.CanGoOn());
  CHECK_FALSE(m.Advance(']'));
  CHECK(m.CanEnd());
}
