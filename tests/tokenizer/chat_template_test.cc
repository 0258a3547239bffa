// SPDX-License-Identifier: Apache-2.0
// Chat templates: the known prompts of known models, whitespace control, scoping, what is user data, limits and
// messages. Agreement with Python's jinja2 at large is test_templates_jinja2.py.
#include "wf/tokenizer/chat_template.h"

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "tests/catch.h"

namespace {

using wf::ChatTemplate;
using wf::ErrorCode;
using wf::RenderedSegment;
using wf::jinja::Limits;
using wf::jinja::Value;

Value Json(const std::string& text, bool user = true) {
  auto v = wf::jinja::ValueFromJson(text, user);
  REQUIRE(v.ok());
  return *std::move(v);
}

// Globals with these messages; bos and eos as Llama 3 has them.
Value Chat(const std::string& messages, bool generate = true) {
  return Value::Mapping({{"messages", Json(messages)},
                         {"bos_token", Value::String("<|begin_of_text|>")},
                         {"eos_token", Value::String("<|end_of_text|>")},
                         {"add_generation_prompt", Value::Bool(generate)}});
}

wf::Result<std::vector<RenderedSegment>> Segments(std::string_view source, const Value& globals,
                                                  const Limits& limits = {}) {
  WF_ASSIGN(ChatTemplate t, ChatTemplate::Parse(source, limits));
  return t.Render(globals, limits, 1753531200);
}

std::string Join(const wf::Result<std::vector<RenderedSegment>>& segments, bool user_only = false) {
  INFO(segments.status().message());
  REQUIRE(segments.ok());
  std::string text;
  for (const RenderedSegment& s : *segments) {
    if (s.user || !user_only) text += s.text;
  }
  return text;
}

std::string Render(std::string_view source, const Value& globals = Value::Mapping({})) {
  return Join(Segments(source, globals));
}
std::string UserPart(std::string_view source, const Value& globals) { return Join(Segments(source, globals), true); }

wf::Status Failure(std::string_view source, const Value& globals = Value::Mapping({}), const Limits& limits = {}) {
  auto segments = Segments(source, globals, limits);
  REQUIRE_FALSE(segments.ok());
  return segments.status();
}

const char* const kExample = R"([{"role": "system", "content": "Be brief. "}, {"role": "user", "content": "Hi"},
  {"role": "assistant", "content": "Hello!"}, {"role": "user", "content": "2+2?"}])";

// The placeholder in Microsoft's GGUF.
const char* const kMicrosoftPlaceholder =
    "{% for message in messages %}{% if loop.first %}{{ bos_token }}{% endif %}{% if message['role'] == 'user' %}"
    "{{ 'Human: ' + message['content'] + '\\n\\nBITNETAssistant: ' + eos_token }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}";

}  // namespace

TEST_CASE("BitNet 2B-4T: the trained prompt, to the last space") {
  const std::string expected =
      "System: Be brief.<|eot_id|>User: Hi<|eot_id|>Assistant: Hello!<|eot_id|>User: 2+2?<|eot_id|>Assistant: ";
  const char* hugging_face =
      "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = message['role'] | "
      "capitalize + ': '+ message['content'] | trim + '<|eot_id|>' %}{{ content }}{% endfor %}"
      "{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}";
  CHECK(Render(hugging_face, Chat(kExample)) == expected);
  CHECK(Render(wf::CorrectedTemplate(kMicrosoftPlaceholder), Chat(kExample)) == expected);
  CHECK(Render(wf::CorrectedTemplate(kMicrosoftPlaceholder), Chat(kExample, false)) ==
        expected.substr(0, expected.size() - 11));
}

TEST_CASE("Microsoft's placeholder renders as the converter wrote it, but is replaced") {
  CHECK(Render(kMicrosoftPlaceholder, Chat(R"([{"role": "system", "content": "Be brief. "},
        {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "2+2?"}])")) ==
        // The system message takes the first turn of the loop, and bos with it.
        "<|begin_of_text|>Human: Hi\n\nBITNETAssistant: <|end_of_text|>Hello!<|end_of_text|>Human: 2+2?\n\n"
        "BITNETAssistant: <|end_of_text|>");
  CHECK(wf::CorrectedTemplate(kMicrosoftPlaceholder) != kMicrosoftPlaceholder);
  CHECK(wf::CorrectedTemplate("{{ x }}") == "{{ x }}");
}

TEST_CASE("ChatML, Llama 3 and the other fallbacks") {
  auto fallback = [](std::string_view broken) {
    auto t = wf::FallbackTemplate(broken);
    REQUIRE(t.ok());
    return Join(t->Render(Chat(kExample)));
  };
  CHECK(fallback("{{ nonsense <|im_start|>") ==
        "<|im_start|>system\nBe brief. <|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!"
        "<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n");
  CHECK(fallback("<|start_header_id|>") ==
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
        "Hello!<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n2+2?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n");
  CHECK(fallback("BITNET") ==
        "System: Be brief.<|eot_id|>User: Hi<|eot_id|>Assistant: Hello!<|eot_id|>User: 2+2?<|eot_id|>Assistant: ");
  CHECK(
      fallback("[INST] <<SYS>>") ==
      "<|begin_of_text|>[INST] <<SYS>>\nBe brief. \n<</SYS>>\n\nHi [/INST] Hello! <|end_of_text|>[INST] 2+2? [/INST]");
  CHECK(fallback("[INST]") ==
        "<|begin_of_text|>[INST] Be brief. \n\nHi [/INST] Hello!<|end_of_text|>[INST] 2+2? [/INST]");
  CHECK(
      fallback("<start_of_turn>") ==
      "<|begin_of_text|><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello!<end_of_turn>\n"
      "<start_of_turn>user\n2+2?<end_of_turn>\n<start_of_turn>model\n");
  CHECK(fallback("<|user|> <|end|>") ==
        "<|system|>\nBe brief. <|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\nHello!<|end|>\n<|user|>\n2+2?<|end|>\n"
        "<|assistant|>\n");
  CHECK(wf::FallbackTemplate("something else").status().code() == ErrorCode::kNotFound);
}

TEST_CASE("Llama 3.1 dates its system block") {
  CHECK(Render("Today Date: {{ strftime_now('%Y') }}") == "Today Date: 2025");
  CHECK(Render("{{ date_string if date_string is defined else '26 Jul 2024' }}") == "26 Jul 2024");
}

TEST_CASE("Qwen3 thinking: content after the last tag") {
  Value chat = Chat(R"([{"role": "assistant", "content": "<think>\nA\n</think>\n\nB"}])");
  CHECK(Render("{{ messages[0].content.split('</think>')[-1].lstrip('\\n') }}", chat) == "B");
  CHECK(Render("{% for m in messages[::-1] %}{{ m.reasoning_content is string }}{% endfor %}", chat) == "False");
  CHECK(Render("{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}",
               Value::Mapping({{"enable_thinking", Value::Bool(false)}})) == "<think>\n\n</think>\n\n");
}

TEST_CASE("blocks are trimmed and their lines lost, expressions are not") {
  CHECK(Render("a\n  {% if true %}\n  b\n  {% endif %}\nc\n") == "a\n  b\nc");
  CHECK(Render("a\n  {{ 1 }}\n  b") == "a\n  1\n  b");
  CHECK(Render("a  {{- 1 -}}  b") == "a1b");
  CHECK(Render("a {%- if true -%} b {%- endif -%} c") == "abc");
  CHECK(Render("a\n  {%+ if true %}b{% endif +%}\nc") == "a\n  b\nc");
  CHECK(Render("x{# gone #}\ny\n\n") == "xy\n");
  CHECK(Render("{% raw %}{{ x }}{% endraw %}") == "{{ x }}");
}

TEST_CASE("set inside a loop stays there, inside if it does not") {
  CHECK(Render("{% set x = 1 %}{% for i in [2, 3] %}{% set x = i %}{{ x }}{% endfor %}{{ x }}") == "231");
  CHECK(Render("{% if true %}{% set x = 5 %}{% endif %}{{ x }}") == "5");
  CHECK(Render("{% set ns = namespace(n=0) %}{% for i in [1, 2] %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}") ==
        "3");
  CHECK(Render("{% macro m() %}{{ x }}{% set x = 9 %}{% endmacro %}{% set x = 1 %}{{ m() }}{{ x }}") == "11");
  CHECK(Render("{% for i in [1, 2] %}{{ 'new' if y is not defined }}{% set y = 1 %}{% endfor %}") == "newnew");
}

TEST_CASE("values print as Python prints them") {
  CHECK(Render("{{ [true, none, 1.0, 1e16, 'it\\'s', {'a': (1,)}] }}") ==
        "[True, None, 1.0, 1e+16, \"it's\", {'a': (1,)}]");
  CHECK(Render("{{ {'a': 1.5, 'b': [1, none, true]} | tojson }}") == "{\"a\": 1.5, \"b\": [1, null, true]}");
  CHECK(Render("{{ 7 // -2 }} {{ 7 % -2 }} {{ 1 / 2 }} {{ 2 ** 3 }}") == "-4 -1 0.5 8");
  CHECK(Render("{{ undefined_thing }}|{{ undefined_thing is defined }}") == "|False");
}

TEST_CASE("a control token typed by a user stays in user segments") {
  Value chat = Chat(R"([{"role": "user", "content": "  <|eot_id|>a,<|eot_id|>b  "}])");
  const std::string token = "<|eot_id|>";
  auto count_outside = [&](std::string_view source) {
    auto segments = Segments(source, chat);
    INFO(source << ": " << segments.status().message());
    REQUIRE(segments.ok());
    size_t n = 0;
    for (const RenderedSegment& s : *segments) n += !s.user && s.text.find("<|") != std::string::npos;
    return n;
  };
  for (const char* expression : {"c",
                                 "c|trim",
                                 "c + 'x'",
                                 "'x' + c",
                                 "c ~ 1",
                                 "c|capitalize",
                                 "c|upper",
                                 "c.title()",
                                 "c.swapcase()",
                                 "c|replace('a', 'b')",
                                 "c.replace('a', '')",
                                 "'{}'.format(c)",
                                 "'%s' % c",
                                 "'%30s' % c",
                                 "c.split(',')",
                                 "c.split(',')|join(';')",
                                 "';'.join(c.split())",
                                 "c.splitlines()|first",
                                 "c[2:]",
                                 "c[::-1][::-1]",
                                 "c|list|join",
                                 "c|tojson",
                                 "[c]|tojson(indent=2)",
                                 "{'k': c}|tojson",
                                 "{c: 1}",
                                 "messages",
                                 "messages|tojson",
                                 "messages[0].items()|list",
                                 "c|indent(2, true)",
                                 "c.partition(',')",
                                 "c|string",
                                 "c|safe",
                                 "(c|safe) + '<'",
                                 "c|e|replace('&lt;', '<')",
                                 "c.center(60, '*')",
                                 "c * 2",
                                 "c|default('x')",
                                 "[c, c]|unique|join",
                                 "c|truncate(12)",
                                 "c.removeprefix(' ')",
                                 "c.rjust(50)",
                                 "c|reverse|reverse",
                                 "c if true",
                                 "c|first ~ c",
                                 "c|map('upper')|join",
                                 "{'a': c}.values()|join",
                                 "namespace(a=c).a",
                                 "dict(a=c).a",
                                 "(c,)[0]",
                                 "'x'.join([c, c])",
                                 "'x'.replace('x', c)",
                                 "'{0[0]}'.format([c])",
                                 "'%(a)s' % {'a': c}",
                                 "c|dictsort if false else c"}) {
    CHECK(count_outside("{% set c = messages[0].content %}{{ " + std::string(expression) + " }}") == 0);
  }
  CHECK(count_outside("{% set c %}{{ messages[0].content }}{% endset %}{{ c }}") == 0);
  CHECK(count_outside("{% macro m(x) %}[{{ x }}]{% endmacro %}{{ m(messages[0].content) }}") == 0);
  CHECK(count_outside("{% filter upper %}{{ messages[0].content }}{% endfilter %}") == 0);
  CHECK(count_outside("{% for ch in messages[0].content %}{{ ch }}{% endfor %}") == 0);
  CHECK(count_outside("{% for k, v in messages[0].items() %}{{ v }}{% endfor %}") == 0);
}

TEST_CASE("text of the template and its tokens is not user data") {
  auto segments = Segments("{{ bos_token }}<|user|>{{ messages[0].content|trim + '<|eot_id|>' }}",
                           Chat(R"([{"role": "user", "content": " hi "}])"));
  REQUIRE(segments.ok());
  REQUIRE(segments->size() == 3);
  CHECK((*segments)[0].text == "<|begin_of_text|><|user|>");
  CHECK_FALSE((*segments)[0].user);
  CHECK((*segments)[1].text == "hi");
  CHECK((*segments)[1].user);
  CHECK((*segments)[2].text == "<|eot_id|>");
  CHECK_FALSE((*segments)[2].user);
}

TEST_CASE("marks follow single characters through operations") {
  Value g = Value::Mapping({{"u", Value::String("<User>", true)}});
  CHECK(UserPart("{{ ('ab' + u + 'cd')[1:5] }}", g) == "<Us");
  CHECK(UserPart("{{ ('a ' + u + ' b')|upper }}", g) == "<USER>");
  CHECK(UserPart("{{ 'x-y'|replace('-', u) }}", g) == "<User>");
  CHECK(UserPart("{{ ('a,' + u).split(',')[0] }}", g).empty());
  CHECK(UserPart("{{ 'a%sb' % u }}", g) == "<User>");
  CHECK(UserPart("{{ '[{}]'.format(u) }}", g) == "<User>");
  CHECK(UserPart("{{ {'own': u}|tojson }}", g) == "<User>");
  CHECK(UserPart("{{ [u]|tojson }}", g) == "[\"<User>\"]");  // nothing in it is the template's
  CHECK(UserPart("{{ ('a' + u)|e }}", g) == "&lt;User&gt;");
  CHECK(UserPart("{{ 'a'|indent(u, true) }}", g) == "<User>");
}

TEST_CASE("errors name line and column, raise_exception keeps the template's words") {
  CHECK(Failure("a\nb {% frobnicate %}").message() == "template line 2, column 6: unknown statement 'frobnicate'");
  CHECK(Failure("\n\n{{ x | nosuch }}").message() == "template line 3, column 8: no filter named 'nosuch'");
  CHECK(Failure("{{ x is nosuch }}").code() == ErrorCode::kFormat);
  CHECK(Failure("{% if true %}\nx").message() ==
        "template line 2, column 2: expected '{% endif %}', found the end of the template");
  CHECK(Failure("{{ 1 + }}").message() == "template line 1, column 8: expected an expression, found '}}'");
  CHECK(Failure("{% include 'x' %}").code() == ErrorCode::kUnsupported);
  CHECK(Failure("a\n{{ missing.x }}").message() == "template line 2, column 11: 'missing' is undefined");
  CHECK(Failure("{{ 1 + 'a' }}").code() == ErrorCode::kFormat);
  wf::Status raised = Failure("{{ raise_exception('Conversation roles must alternate') }}");
  CHECK(raised.code() == ErrorCode::kInvalidArgument);
  CHECK(raised.message() == "Conversation roles must alternate");
  CHECK(Failure("\xff").message() == "template: invalid UTF-8 at byte 0");
}

TEST_CASE("a template cannot change what it was given") {
  Value g = Value::Mapping({{"l", Json("[1]")}, {"d", Json("{\"a\": 1}")}});
  CHECK(Failure("{{ l.append(2) }}", g).message().find("unsafe") != std::string::npos);
  CHECK(Failure("{{ d.update({}) }}", g).message().find("unsafe") != std::string::npos);
  CHECK(Failure("{% set d.a = 2 %}", g).code() == ErrorCode::kFormat);
}

TEST_CASE("limits end hostile templates quickly and by name") {
  const auto start = std::chrono::steady_clock::now();
  auto limited = [](const std::string& source, const Value& globals = Value::Mapping({})) {
    INFO(source.substr(0, 200));
    wf::Status s = Failure(source, globals);
    INFO(s.message());
    CHECK(s.code() == ErrorCode::kLimit);
  };
  limited(std::string(300 << 10, 'x'));
  limited("{{ 'x' * 10 ** 9 }}");
  limited("{{ [0] * 10 ** 9 }}");
  limited("{{ 'x'.center(10 ** 9) }}");
  limited("{{ '%1000000000d' % 1 }}");
  limited("{{ '{:1000000000}'.format(1) }}");
  limited("{{ '%.600f' % 1.5 }}");
  limited("{{ 'ab' | indent(10 ** 9) }}");
  limited("{{ range(10 ** 6) | list }}");
  limited("{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}");
  limited("{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}");
  limited("{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = ns.l + ns.l %}{% endfor %}");
  limited("{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = [ns.l] %}{% endfor %}");
  limited("{% set ns = namespace(l=[]) %}{% for i in range(90000) %}{% set ns.l = cycler(ns.l) %}{% endfor %}");
  limited("{% set ns = namespace(l=[]) %}{% for i in range(99) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}");
  limited(
      "{% set ns = namespace(l=[]) %}{% for i in range(99) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}"
      "{{ ns.l == [ns.l, 1] or [ns.l] == [ns.l] }}");
  limited(
      "{% set s = 'x' * 10 ** 7 %}{% set a = s + '1' %}{% set b = s + '2' %}{% for i in range(100000) %}{{ a < b }}{% "
      "endfor %}");
  limited("{% set s = 'x' * 10 ** 7 %}{{ s|replace('x', s) }}");
  limited("{% set s = 'x' * 10 ** 7 %}{{ s|list|length }}");
  limited("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}");
  limited("{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}{% endmacro %}{% call m() %}{% endcall %}");
  limited("{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}");
  limited("{% for i in range(100000) %}{% for j in range(300) %}" + std::string(1000, 'y') +
          "{% endfor %}{% endfor %}");
  CHECK(Failure("{{ 9223372036854775807 + 1 }}").code() == ErrorCode::kFormat);
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(60));
}

TEST_CASE("deep nesting in the source does not overflow the stack") {
  auto repeat = [](const std::string& s, size_t n) {
    std::string out;
    for (size_t i = 0; i < n; ++i) out += s;
    return out;
  };
  for (const std::string& source :
       {"{{ " + repeat("(", 100000) + "1", "{{ " + repeat("[", 100000), "{{ " + repeat("{1:", 60000),
        "{{ " + repeat("-", 100000) + "1 }}", "{{ " + repeat("not ", 60000) + "1 }}",
        "{{ 1" + repeat("+1", 100000) + " }}", "{{ x" + repeat(".x", 100000) + " }}",
        "{{ x" + repeat("|e", 100000) + " }}", "{{ x" + repeat("()", 100000) + " }}",
        "{{ 1" + repeat(" if 1 else 1", 20000) + " }}", repeat("{% if 1 %}", 20000), repeat("{% for x in y %}", 15000),
        "{% set " + repeat("(", 100000), "{{ 1" + repeat(" and 1", 30000) + " }}",
        "{{ x" + repeat(" is x not", 20000) + " }}", repeat("{% macro m() %}", 15000)}) {
    INFO(source.substr(0, 40));
    wf::Status s = Failure(source);
    CHECK((s.code() == ErrorCode::kLimit || s.code() == ErrorCode::kFormat));
  }
  CHECK(Render("{{ 1" + repeat(" ~ 1", 5000) + " }}").size() == 5001);  // one flat node
  CHECK(Render("{% if 0 %}{% elif 0 %}" + repeat("{% elif 0 %}", 5000) + "{% endif %}").empty());
}

TEST_CASE("JSON: depth, errors, numbers") {
  CHECK(wf::jinja::ValueFromJson(std::string(500, '[') + std::string(500, ']'), true).status().code() ==
        ErrorCode::kLimit);
  CHECK(wf::jinja::ValueFromJson("{\"a\": }", true).status().code() == ErrorCode::kFormat);
  CHECK(wf::jinja::ValueFromJson("1 2", true).status().code() == ErrorCode::kFormat);
  CHECK(wf::jinja::ValueFromJson("\"\xff\"", true).status().code() == ErrorCode::kFormat);
  Value v = Json("{\"b\": [1, 2.5, null, true, \"x\"], \"a\": 1}");
  REQUIRE(v.AsMapping().size() == 2);
  CHECK(v.AsMapping()[0].first.AsText().bytes() == "b");  // insertion order
  REQUIRE(v.Find("b")->AsList().size() == 5);
  CHECK(v.Find("b")->AsList()[4].AsText().AllUser());
  CHECK_FALSE(Json("\"x\"", false).AsText().AnyUser());
}

TEST_CASE("one parsed template renders in many threads at once") {
  auto t = ChatTemplate::Parse(wf::CorrectedTemplate("BITNETAssistant"));
  REQUIRE(t.ok());
  Value chat = Chat(kExample);
  const std::string expected = Join(t->Render(chat));
  std::vector<std::string> results(4);
  std::vector<std::thread> threads;
  for (std::string& r : results) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) {
        auto segments = t->Render(chat);
        r.clear();
        for (const RenderedSegment& s : *segments) r += s.text;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& r : results) CHECK(r == expected);
}
