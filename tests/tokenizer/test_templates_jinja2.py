# SPDX-License-Identifier: Apache-2.0
"""Compares the chat template engine with Python's jinja2 in the environment that transformers'
apply_chat_template uses: the same text, or both refuse. Templates of published models come from
WF_SHARED/templates; the constructs are tested one by one, and by random expressions from a fixed seed.
Not for: limits, marks and messages, which are ours alone (chat_template_test.cc)."""
import datetime
import json
import os
import pathlib
import random
import subprocess

import pytest

jinja2 = pytest.importorskip("jinja2")
from jinja2 import nodes  # noqa: E402
from jinja2.ext import Extension  # noqa: E402
from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: E402

BIN = pathlib.Path(os.environ.get("WF_BIN", "build/bin")) / "wf_render_template"
TEMPLATES = pathlib.Path(os.environ.get("WF_SHARED", "../shared")) / "templates"
NOW = 1753531200  # 26 July 2025


class Generation(Extension):
    """{% generation %} as transformers' AssistantTracker has it, without the tracking."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def strftime_now(format):
        return datetime.datetime.fromtimestamp(NOW).strftime(format)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                        extensions=[Generation, "jinja2.ext.loopcontrols"])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    return env


ENV = environment()


def python_render(template, context):
    """The text, or None if jinja2 refuses."""
    try:
        text = ENV.from_string(template).render(**context)
        text.encode("utf-8")
        return text
    except Exception:  # whatever Python raises, a refusal is a refusal
        return None


class Engine:
    def __init__(self):
        self.process = subprocess.Popen([str(BIN)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        env={**os.environ, "TZ": os.environ.get("TZ", "UTC")})

    def __call__(self, template, context):
        request = json.dumps({"template": template, "context": context, "now": NOW}) + "\n"
        self.process.stdin.write(request.encode())
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def engine():
    os.environ.setdefault("TZ", "UTC")
    e = Engine()
    yield e
    e.process.stdin.close()
    assert e.process.wait(timeout=30) == 0


def check(engine, template, context):
    """Returns True if both rendered, False if both refused."""
    expected = python_render(template, context)
    answer = engine(template, context)
    if expected is None:
        assert "error" in answer, f"{template!r}: jinja2 refuses, ours gave {answer['text']!r}"
        assert answer["code"] != "internal"
        return False
    assert "text" in answer, f"{template!r}: jinja2 gave {expected!r}, ours {answer}"
    assert answer["text"] == expected, template
    return True


# --- (a) published templates

def call(name, arguments, id="call00001"):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


USER = {"role": "user", "content": "What's the weather in Zürich? <b>&amp;</b>"}
SYSTEM = {"role": "system", "content": "  You are helpful.\n"}
ANSWER = {"role": "assistant", "content": "It's sunny \"here\"."}
TOOLS = [{"type": "function", "function": {
    "name": "get_weather", "description": "Current weather.\nBy city.",
    "parameters": {"type": "object", "required": ["city"], "properties": {
        "city": {"type": "string", "description": "City name"},
        "days": {"type": "integer", "default": 3},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "options": {"type": "object", "properties": {"deep": {"type": "boolean"}}}}}}}]
TOOL_TURN = [USER,
             {"role": "assistant", "content": "", "tool_calls": [call("get_weather", {"city": "Zürich", "days": 2})]},
             {"role": "tool", "name": "get_weather", "tool_call_id": "call00001", "content": "{\"temp\": 21.5}"}]

CONTEXTS = {
    "plain": dict(messages=[USER]),
    "no generation prompt": dict(messages=[USER, ANSWER], add_generation_prompt=False),
    "system": dict(messages=[SYSTEM, USER]),
    "multi-turn": dict(messages=[SYSTEM, USER, ANSWER, {"role": "user", "content": "And\ntomorrow?"}]),
    "multi-turn without system": dict(messages=[USER, ANSWER, USER, ANSWER, USER]),
    "tools": dict(messages=[SYSTEM, USER], tools=TOOLS),
    "two tools": dict(messages=[USER], tools=TOOLS * 2),
    "tool calls": dict(messages=[SYSTEM] + TOOL_TURN, tools=TOOLS),
    "tool calls answered": dict(messages=TOOL_TURN + [ANSWER, USER], tools=TOOLS),
    "tool calls with text arguments": dict(messages=[
        USER, {"role": "assistant", "content": "Let me see.", "tool_calls": [
            call("get_weather", "{\"city\": \"Bern\"}"), call("get_weather", "{\"city\": \"Basel\"}", "call00002")]},
        {"role": "tool", "tool_call_id": "call00001", "content": "cold"},
        {"role": "tool", "tool_call_id": "call00002", "content": "warm"}], tools=TOOLS),
    "none content with calls": dict(messages=[
        USER, {"role": "assistant", "content": None, "tool_calls": [call("get_weather", {"city": "Bern"})]}],
        tools=TOOLS),
    "content parts": dict(messages=[
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": [{"type": "text", "text": "One "}, {"type": "text", "text": "two"}]}]),
    "image part": dict(messages=[{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}]),
    "reasoning": dict(messages=[USER, {**ANSWER, "reasoning_content": "Hm.\nSun."}, USER]),
    "reasoning last": dict(messages=[USER, {**ANSWER, "reasoning_content": "Hm."}], add_generation_prompt=False),
    "think in content": dict(messages=[USER, {"role": "assistant", "content": "<think>\nA\n</think>\n\nB"}, USER]),
    "thinking off": dict(messages=[SYSTEM, USER], enable_thinking=False, thinking=False),
    "thinking on": dict(messages=[SYSTEM, USER], enable_thinking=True, thinking=True, reasoning_effort="high"),
    "roles do not alternate": dict(messages=[USER, USER]),
    "assistant first": dict(messages=[ANSWER, USER]),
    "unknown role": dict(messages=[{"role": "narrator", "content": "x"}]),
    "no messages": dict(messages=[]),
    "missing content": dict(messages=[{"role": "user"}]),
    "documents": dict(messages=[USER], documents=[{"title": "T", "text": "Body", "content": "Body"}]),
    "developer": dict(messages=[{"role": "developer", "content": "Obey."}, USER], tools=None),
    "date": dict(messages=[SYSTEM, USER], date_string="26 Jul 2024"),
}
for _context in CONTEXTS.values():
    _context.setdefault("add_generation_prompt", True)
    _context.setdefault("bos_token", "<s>")
    _context.setdefault("eos_token", "</s>")


@pytest.mark.parametrize("name", sorted(p.name for p in TEMPLATES.glob("*.jinja")) or ["(none)"])
def test_published_template(engine, name):
    if name == "(none)":
        pytest.skip(f"no templates in {TEMPLATES}")
    source = (TEMPLATES / name).read_text(encoding="utf-8")
    rendered = [check(engine, source, context) for context in CONTEXTS.values()]
    assert sum(rendered) >= 1, "no context renders: this test says nothing"


# --- (b) constructs, one by one

DATA = {
    "s": "Hello, World", "e": "", "u": "straße Ünïcode ΑΣ", "n": 7, "neg": -3, "z": 0, "f": 2.5, "t": True, "no": False,
    "nil": None, "l": [3, 1, 2], "ls": ["b", "A", "c"], "d": {"x": 1, "B": "two", "a": None}, "el": [], "ed": {},
    "nested": {"a": {"b": [10, {"c": "deep"}]}}, "items": [{"k": "x", "v": 2, "n": {"m": 1}},
                                                         {"k": "y", "v": 1, "n": {"m": 5}}, {"k": "X", "v": 3}],
    "multi": "line one\nline two\n\nline four", "html": "<a href='x'>\"&\"</a>", "sp": "  padded\t\n",
    "mixed": [1, "1", None, True, 2.5], "csv": "a,b,,c", "num": "42", "fl": "3.75", "rows": [[1, 2], [3, 4], [5]],
}

CASES = [line for line in (pathlib.Path(__file__).parent / "jinja_cases.txt").read_text(encoding="utf-8").split("\n")
         if line and not line.startswith("# ")]

# Prints a memory address in Python, or holds an integer that does not fit 64 bits.
INCOMPARABLE = ("object at 0x", "function ", "<class ", "<built-in")


def test_expressions(engine):
    """Every expression of jinja_cases.txt, printed."""
    failures, rendered = [], 0
    for case in CASES:
        template = "{{ " + case + " }}"
        expected = python_render(template, DATA)
        if expected is not None and any(mark in expected for mark in INCOMPARABLE):
            continue
        try:
            rendered += check(engine, template, DATA)
        except AssertionError as e:
            failures.append(str(e).split("\n")[0])
    assert not failures, f"{len(failures)} of {len(CASES)}:\n" + "\n".join(failures)
    assert rendered > len(CASES) // 2


STATEMENTS = [
    # if
    "{% if n %}a{% endif %}", "{% if z %}a{% else %}b{% endif %}", "{% if z %}a{% elif n == 7 %}b{% else %}c{% endif %}",
    "{% if z %}a{% elif e %}b{% elif l %}c{% else %}d{% endif %}", "{% if n is defined and n > 3 %}x{% endif %}",
    "{% if not undef %}x{% endif %}", "{% if n, z %}tuple{% endif %}", "{% if n: %}colon{% endif %}", "{% if %}{% endif %}",
    "{% if n %}", "{% if n %}{% endfor %}", "{% else %}", "{% endif %}", "{% elif n %}{% endif %}",
    # for
    "{% for x in l %}{{ x }},{% endfor %}", "{% for x in el %}a{% else %}empty{% endfor %}",
    "{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}"
    "{{ loop.last }}{{ loop.length }};{% endfor %}",
    "{% for x in l %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {% endfor %}",
    "{% for x in l %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }}{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k, v in d|dictsort %}{{ k }}={{ v }};{% endfor %}",
    "{% for k in d %}{{ k }}{% endfor %}", "{% for c in s %}{{ c }}.{% endfor %}", "{% for c in u[:4] %}{{ c }}.{% endfor %}",
    "{% for x in l if x > 1 %}{{ loop.index }}:{{ x }}/{{ loop.length }} {% endfor %}",
    "{% for x in l if x > 9 %}{{ x }}{% else %}none{% endfor %}",
    "{% for x in l if x > 1 %}{{ x }}{{ ',' if not loop.last }}{% endfor %}",
    "{% for x in l if loop.first %}{{ x }}{% endfor %}",
    "{% for a, b in rows %}{{ a }}{% endfor %}", "{% for a, b in rows[:2] %}{{ a }}{{ b }}{% endfor %}",
    "{% for a in n %}{% endfor %}", "{% for a in none %}{% endfor %}", "{% for a in undef %}x{% else %}y{% endfor %}",
    "{% for x in 1, 2, 3 %}{{ x }}{% endfor %}", "{% for x in (1, 2) %}{{ x }}{% endfor %}", "{% for x in [] %}{% endfor %}",
    "{% for (a, b) in rows[:2] %}{{ a }}{% endfor %}", "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for x in range(10) %}{% if x == 3 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in range(10) %}{% if x % 2 %}{% continue %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in range(3) %}{% break %}{% else %}else{% endfor %}", "{% for x in l %}{% continue %}a{% else %}b{% endfor %}",
    "{% for a in l %}{% for b in ls %}{{ loop.index }}{% if loop.first %}{% continue %}{% endif %}{{ b }}{% break %}"
    "{% endfor %}{{ loop.index }}{% endfor %}",
    "{% break %}", "{% if n %}{% continue %}{% endif %}", "{% for x in l %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}",
    "{% for x in l %}{% set y %}a{% break %}{% endset %}{% endfor %}{{ y }}",
    "{% for x in l %}{% generation %}{{ x }}{% endgeneration %}{% endfor %}",
    "{% for x in l %}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for x in [1, 1, 2] %}{{ loop.changed(x) }}{% endfor %}",
    "{% for x in l %}{{ loop.nope is defined }}{% endfor %}", "{% for x in l %}{{ loop['index'] }}{% endfor %}",
    "{% for x in l %}{{ loop }}{% endfor %}", "{% for x in l %}{{ loop|length }}{% endfor %}", "{% for x in l %}{{ loop.depth }}{% endfor %}",
    "{% for x in l %}{% set outer = loop %}{% for y in ls %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}",
    "{% for x in l|sort %}{{ x }}{% endfor %}", "{% for x in ls|map('upper') %}{{ x }}{{ loop.last }}{% endfor %}",
    "{% for x in items|selectattr('n', 'defined') %}{{ x.k }}{% endfor %}", "{% for x in l[::-1] %}{{ x }}{% endfor %}",
    "{% for x in l[1:] %}{{ x }}{% endfor %}", "{% for x in d.values() %}{{ x }} {% endfor %}", "{% for x in l %}{{ x }}{% endfor %}{{ x }}",
    "{% set g = l|map('string') %}{% for x in g %}{{ x }}{% endfor %}{% for x in g %}{{ x }}{% else %}gone{% endfor %}",
    "{% set g = d|items %}{{ g|list }}{{ g|list }}", "{% set ns = namespace(on=true) %}{% for x in l if ns.on %}{{ x }}{% set ns.on = false %}{% endfor %}",
    "{% for loop in l %}{% endfor %}", "{% for x.y in l %}{% endfor %}", "{% for 1 in l %}{% endfor %}", "{% for x l %}{% endfor %}",
    # set and scopes
    "{% set x = 1 %}{{ x }}", "{% set x, y = 1, 2 %}{{ x }}{{ y }}", "{% set x = 1, 2 %}{{ x }}", "{% set x = y = 1 %}",
    "{% set x = 1 %}{% for i in l %}{% set x = i %}{{ x }}{% endfor %}{{ x }}", "{% if n %}{% set x = 5 %}{% endif %}{{ x }}",
    "{% for i in l %}{% if x is defined %}leak{% endif %}{% set x = i %}{% endfor %}{{ x is defined }}",
    "{% set x = 1 %}{% for i in l %}{{ x }}{% set x = x + 1 %}{{ x }} {% endfor %}",
    "{% set ns = namespace(x=0) %}{% for i in l %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace() %}{% set ns.a = 1 %}{% set ns.b, c = 2, 3 %}{{ ns.a }}{{ ns.b }}{{ c }}",
    "{% set d.x = 1 %}", "{% set nope.x = 1 %}", "{% set ns = namespace(a=1) %}{% set ns.a.b = 1 %}", "{% set ns = namespace(_a=1) %}{{ ns._a }}",
    "{% set x %}block {{ n }}{% endset %}[{{ x }}]{{ x is string }}", "{% set x | upper %}block{% endset %}{{ x }}",
    "{% set x | replace('b', 'c') | upper %}bab{% endset %}{{ x }}", "{% set x %}{% set y = 1 %}{{ y }}{% endset %}{{ x }}{{ y is defined }}",
    "{% set ns = namespace() %}{% set ns.t %}text{% endset %}{{ ns.t }}", "{% set n = n + 1 %}{{ n }}", "{% set x = undef %}{{ x is defined }}",
    "{% set x = [1] %}{% set y = x %}{{ y == x }}", "{% set 1 = 2 %}", "{% set x %}{% endset", "{% set (a, b) = (1, 2) %}{{ a + b }}",
    "{% set a, b = l %}", "{% set a, b = 'xy' %}{{ b }}{{ a }}", "{% set x = 1 if no %}{{ x is defined }}", "{% set true = 1 %}",
    "{% with a=1, b=2 %}{{ a + b }}{% endwith %}{{ a is defined }}", "{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q is defined }}",
    "{% with n=1 %}{% with m=n %}{{ m }}{% endwith %}{% endwith %}{{ n }}",
    # macros
    "{% macro m(a, b=2) %}{{ a }}-{{ b }}{% endmacro %}{{ m(1) }} {{ m(1, 3) }} {{ m(b=5, a=4) }} {{ m() }}",
    "{% macro m() %}{{ n }}{% endmacro %}{{ m() }}", "{% macro m() %}{{ x }}{% endmacro %}{% set x = 1 %}{{ m() }}{% set x = 2 %}{{ m() }}",
    "{% macro m() %}{% set x = 5 %}{{ x }}{% endmacro %}{{ m() }}{{ x is defined }}", "{{ m() }}{% macro m() %}{% endmacro %}",
    "{% macro m(a) %}{{ a is defined }}{% endmacro %}{{ m() }}{{ m(1) }}", "{% macro m(a, b=a) %}{{ b }}{% endmacro %}{{ m(7) }}",
    "{% set b = 1 %}{% macro m(b=b) %}[{{ b }}]{% endmacro %}{{ m() }}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}", "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}",
    "{% macro m(a) %}{% endmacro %}{{ m(x=1) }}", "{% macro m(a) %}{% endmacro %}{{ m(1, a=2) }}",
    "{% macro m() %}a{{ caller() }}b{% endmacro %}{% call m() %}X{{ n }}{% endcall %}",
    "{% macro m() %}{{ caller(1, 2) }}{% endmacro %}{% call(a, b=9) m() %}{{ a }}{{ b }}{% endcall %}",
    "{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}", "{% macro m() %}x{% endmacro %}{% call m() %}y{% endcall %}",
    "{% macro f(n) %}{% if n > 0 %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
    "{% macro m() %}a{% endmacro %}{{ m() | upper }}{{ m() ~ 'b' }}{{ m() is string }}{{ m is callable }}",
    "{% macro m() %}<b>{% endmacro %}{{ m() + '<' }}", "{% for x in l %}{% macro m() %}{{ x }}{% endmacro %}{{ m() }}{% endfor %}",
    "{% macro a() %}{% macro b() %}in{% endmacro %}{{ b() }}{% endmacro %}{{ a() }}", "{% macro m(a, a) %}{% endmacro %}",
    "{% macro m(a=1, b) %}{% endmacro %}", "{% macro m %}{% endmacro %}", "{% macro m() %}{% endmacro %}{{ m }}", "{% macro m() %}{{ loop is defined }}{% endmacro %}{% for x in l %}{{ m() }}{% endfor %}",
    "{% set ns = namespace(v='') %}{% macro m() %}{% set ns.v = ns.v ~ 'x' %}{% endmacro %}{{ m() }}{{ m() }}{{ ns.v }}",
    "{% if n %}{% macro m() %}c{% endmacro %}{% endif %}{{ m() }}", "{% macro m(x) -%}\n  {{ x }}\n{%- endmacro %}[{{ m('q') }}]",
    # filter blocks, generation, raw, comments
    "{% filter upper %}abc{{ s }}{% endfilter %}", "{% filter replace('a', 'b') | upper %}aba{% endfilter %}",
    "{% filter indent(2) %}a\nb{% endfilter %}", "{% filter nosuch %}a{% endfilter %}", "{% filter upper %}{% set q = 1 %}{% endfilter %}{{ q is defined }}",
    "{% generation %}a{{ n }}{% endgeneration %}b", "{% generation %}{% set q = 1 %}{{ q }}{% endgeneration %}{{ q is defined }}",
    "{% raw %}{{ x }}{% if %}{% endraw %}", "{%- raw -%}  {{ x }}  {%- endraw -%}  y", "a\n  {% raw %}\n  {{ x }}\n  {% endraw %}\nb", "{% raw %}a",
    "{% raw %}{% raw %}{% endraw %}", "a{# comment {{ x }} #}b", "a{#- c -#}  b", "  {# c #}\nx", "a {#+ c +#}\n b", "{# open", "{##}", "a{# {# #}b#}",
    "{% print n, s %}", "{% print %}", "{% nosuch %}", "{% include 'x' %}", "{{ super() }}", "{% do l %}", "{%", "{{", "{{ n", "{% if n", "}}", "%}", "#}", "{{ }}", "{{ n n }}", "{{ n | }}", "{{ n. }}",
    "{{ 'abc }}", "{{ (1 }}", "{{ [1 }}", "{{ {1} }}", "{{ {'a' 1} }}", "{{ a b }}", "{{ 1 is }}", "{{ 1 is not }}", "{{ not }}", "{{ 1 ! 2 }}", "{{ 1 & 2 }}", "{{ $ }}", "{{ ) }}", "{{ ] }}", "{{ (] }}", "{{ 1 + }}", "{{ * }}", "{{ 'a' 1 }}", "{{ a.1b }}", "{{ l[] }}", "{{ f(a=) }}", "{{ f(**) }}", "{{ dict(a=1, 2) }}",
    "{{ n }}}", "{ { n } }", "{{'}}'}}", "{{ '%}' }}{% if '%}' %}x{% endif %}", "{{ {'a': {'b': 1}} }}", "{{ {} }}", "{{{}}}", "{{ -1 }}", "{{-1}}", "{{- 1 -}} x", "{{ 1 }}\n", "{{ 1 }}\n\n", "\n", "", "x", "x\n", "\n\n",
    # whitespace control
    "a\n{% if n %}\nb\n{% endif %}\nc", "a\n  {% if n %}\n  b\n  {% endif %}\n  c", "a {% if n %} b {% endif %} c", "a\n  {%+ if n %}\n  b\n  {%+ endif %}\nc",
    "a\n  {%- if n -%}\n  b\n  {%- endif -%}\n  c", "a {{- n -}} b", "a\n\n{{- n }}\n\nb", "{{ n -}}\n\n\nb", "a\n  {{ n }}\n  b", "{% if n +%}\nx{% endif +%}\ny",
    "  {% if n %}x{% endif %}", "\t {% if n %}\n\tx\n\t{% endif %}\n", "x {% if n %}\n  {% if n %}\n y\n  {% endif %}\n{% endif %}\nz", "a\r\n{% if n %}\r\nb\r\n{% endif %}\r\nc\r\n",
    "a\r{% if n %}\rb{% endif %}", "{% if n %}\n\n\nx{% endif %}", "{{ n }}  {% if n %}x{% endif %}", "\u00a0{% if n %}x{% endif %}", "a\u2003{%- if n %}x{% endif %}", "{# c #}\n\nx", "a\n{#- c #}\nb", "a  {# c -#}\n  b",
    "{% set x = 1 -%}\n  {{ x }}", "{{ '\n' }}{% if n %}x{% endif %}", "{%- if n -%}\n{{- n -}}\n{%- endif -%}\n", "{% for x in l %}\n{{ x }}\n{% endfor %}", "{% for x in l -%}\n  {{ x }},\n{%- endfor %}", "{% if n %}a{% endif %}\n{% if n %}b{% endif %}\n\nc",
    "{{ n }}\n  {%- if n %} x{% endif %}", "{%if n%}x{%endif%}", "{%-if n-%}x{%-endif-%}", "{{n}}", "{{n|string}}", "{%set x=1%}{{x}}", "{% if\nn\n%}x{% endif %}", "{{\nn\n}}", "é{% if n %}ü{% endif %}\n",
    # joiner and cycler keep state
    "{% set j = joiner(', ') %}{% for x in l %}{{ j() }}{{ x }}{% endfor %}", "{% set c = cycler('a', 'b') %}{% for x in l %}{{ c.next() }}{{ c.current }}{% endfor %}{{ c.reset() }}{{ c.next() }}",
    # unknown functions matter only where they are reached
    "{% if no %}{{ s | nosuch }}{% endif %}ok", "{% if n %}{{ s | nosuch }}{% endif %}", "{{ s | nosuch if no else 'ok' }}", "{{ 'ok' if n else s | nosuch }}", "{% if no %}{% for x in l %}{{ x | nosuch }}{% endfor %}{% endif %}", "{% if s is nosuch %}{% endif %}", "{% if no %}{{ s is nosuch }}{% endif %}ok", "{{ nosuch(1) if no else 2 }}", "{% macro m() %}{{ 1 | nosuch }}{% endmacro %}", "{% if no and s is nosuch %}x{% endif %}ok",
]


def test_statements(engine):
    """Statements, scoping, whitespace control and syntax errors."""
    failures, rendered = [], 0
    for template in STATEMENTS:
        try:
            rendered += check(engine, template, DATA)
        except AssertionError as e:
            failures.append(str(e).split("\n")[0])
    assert not failures, f"{len(failures)} of {len(STATEMENTS)}:\n" + "\n".join(failures)
    assert rendered > len(STATEMENTS) // 2


# --- (c) random expressions

class Grammar:
    """Expressions of bounded depth over DATA. Leans towards operands of fitting types, so that most render."""

    def __init__(self, seed):
        self.r = random.Random(seed)

    def pick(self, *options):
        return self.r.choice(options)

    def number(self, d):
        if d <= 0:
            return self.pick("n", "neg", "z", "f", "1", "2", "3.5", "t", "l[0]", "d.x", "nested.a.b[0]")
        return self.pick(
            lambda: f"({self.number(d - 1)} {self.pick('+', '-', '*', '/', '//', '%')} {self.number(d - 1)})",
            lambda: f"-{self.number(0)}", lambda: f"{self.sequence(d - 1)}|length", lambda: f"{self.string(d - 1)}|length",
            lambda: f"{self.string(d - 1)}.{self.pick('find', 'count', 'rfind')}({self.string(0)})",
            lambda: f"({self.number(d - 1)})|{self.pick('abs', 'int', 'float', 'round', 'round(1)')}",
            lambda: f"({self.boolean(d - 1)}) + {self.number(d - 1)}", lambda: f"l|{self.pick('sum', 'max', 'min', 'first', 'last')}")()

    def string(self, d):
        if d <= 0:
            return self.pick("s", "e", "u", "sp", "csv", "html", "multi", "'lo'", "' '", "'x'", "num", "ls[0]", "s[1]")
        return self.pick(
            lambda: f"({self.string(d - 1)} + {self.string(d - 1)})", lambda: f"({self.any(d - 1)} ~ {self.any(d - 1)})",
            lambda: f"({self.string(d - 1)})|{self.pick('upper', 'lower', 'trim', 'title', 'capitalize', 'reverse', 'e', 'indent', 'tojson')}",
            lambda: f"({self.string(d - 1)}).{self.pick('upper', 'lower', 'strip', 'title', 'swapcase', 'capitalize')}()",
            lambda: f"({self.string(d - 1)})[{self.pick('', '1', '-3', '2')}:{self.pick('', '4', '-1')}{self.pick('', ':2', ':-1')}]",
            lambda: f"({self.string(d - 1)}).replace({self.string(0)}, {self.string(0)})",
            lambda: f"({self.any(d - 1)})|string", lambda: f"({self.sequence(d - 1)})|join({self.string(0)})",
            lambda: f"({self.any(d - 1)})|tojson", lambda: f"'{self.pick('%s', '%r', '[%5s]')}' % ({self.any(d - 1)},)",
            lambda: f"'{self.pick('{}', '{!r}', '<{0}>')}'.format({self.any(d - 1)})",
            lambda: f"({self.string(d - 1)}).{self.pick('lstrip', 'rstrip', 'strip', 'removeprefix', 'removesuffix')}({self.string(0)})",
            lambda: f"({self.string(d - 1)} if {self.boolean(d - 1)} else {self.string(d - 1)})")()

    def sequence(self, d):
        if d <= 0:
            return self.pick("l", "ls", "mixed", "el", "[1, 'a', none]", "(1, 2)", "rows", "range(4)|list")
        return self.pick(
            lambda: f"[{self.any(d - 1)}, {self.any(d - 1)}]", lambda: f"({self.string(d - 1)}).split({self.pick('', ',', ' ').join(chr(39) * 2) or ''})",
            lambda: f"({self.sequence(d - 1)})[{self.pick('', '1', '-2')}:{self.pick('', '2', '-1')}{self.pick('', '::-1'[1:], ':2')}]",
            lambda: f"({self.sequence(d - 1)})|{self.pick('list', 'reverse|list', 'sort', 'unique|list', 'select|list', 'reject|list')}",
            lambda: f"({self.sequence(d - 1)})|map({self.pick(repr('string'), repr('upper'), repr('length'), repr('tojson'))})|list",
            lambda: f"items|map(attribute='{self.pick('k', 'v', 'n', 'n.m')}')|list",
            lambda: f"({self.sequence(d - 1)})|{self.pick('select', 'reject')}('{self.pick('string', 'number', 'none', 'defined', 'iterable')}')|list",
            lambda: f"({self.string(d - 1)}).splitlines()", lambda: "d.items()|list", lambda: "d|dictsort",
            lambda: f"({self.sequence(d - 1)} + {self.sequence(d - 1)})", lambda: f"({self.string(d - 1)})|list")()

    def boolean(self, d):
        if d <= 0:
            return self.pick("t", "no", "true", "n > 3", "s is string", "undef is defined", "l", "e")
        return self.pick(
            lambda: f"({self.any(d - 1)} {self.pick('==', '!=')} {self.any(d - 1)})",
            lambda: f"({self.number(d - 1)} {self.pick('<', '>', '<=', '>=')} {self.number(d - 1)})",
            lambda: f"(not {self.boolean(d - 1)})", lambda: f"({self.boolean(d - 1)} {self.pick('and', 'or')} {self.any(d - 1)})",
            lambda: f"({self.any(d - 1)} is {self.pick('', 'not ')}{self.pick('string', 'number', 'mapping', 'iterable', 'none', 'defined', 'sequence', 'boolean', 'true')})",
            lambda: f"({self.string(0)} {self.pick('in', 'not in')} {self.string(d - 1)})", lambda: f"({self.any(0)} in {self.sequence(d - 1)})",
            lambda: f"({self.string(d - 1)}).{self.pick('startswith', 'endswith')}({self.string(0)})")()

    def any(self, d):
        if d <= 0:
            return self.pick("none", "undef", "d", "nested", "items[0]", "{'k': 1}", "1.0", "d.nope", self.string(0), self.number(0))
        return self.pick(self.number, self.string, self.sequence, self.boolean)(d)


def test_random_expressions(engine):
    grammar = Grammar(20250726)
    failures, rendered, total = [], 0, 800
    for i in range(total):
        template = "{{ " + grammar.any(1 + i % 4) + " }}"
        try:
            rendered += check(engine, template, DATA)
        except AssertionError as e:
            failures.append(str(e).split("\n")[0])
    assert not failures, f"{len(failures)} of {total}:\n" + "\n".join(failures)
    assert rendered > total // 2
