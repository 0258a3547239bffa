# SPDX-License-Identifier: Apache-2.0
"""Compares the chat template engine with Python's jinja2 in the environment that transformers'
apply_chat_template uses: the same text, or both refuse. Templates of published models come from
WF_SHARED/templates; the constructs are tested one by one, and by random expressions from a fixed seed.
Not for: limits, marks and messages, which are ours alone (chat_template_test.cc)."""

import copy
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

    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    return env


ENV = environment()


def python_render(template, context):
    """The text, or None if jinja2 refuses."""
    try:
        text = ENV.from_string(template).render(**copy.deepcopy(context))
        text.encode("utf-8")
        return text
    except Exception:  # whatever Python raises, a refusal is a refusal
        return None


class Engine:
    def __init__(self):
        self.process = subprocess.Popen(
            [str(BIN)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "TZ": os.environ.get("TZ", "UTC")},
        )

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
ANSWER = {"role": "assistant", "content": 'It\'s sunny "here".'}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Current weather.\nBy city.",
            "parameters": {
                "type": "object",
                "required": ["city"],
                "properties": {
                    "city": {"type": "string", "description": "City name"},
                    "days": {"type": "integer", "default": 3},
                    "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
                    "tags": {"type": "array", "items": {"type": "string"}},
                    "options": {"type": "object", "properties": {"deep": {"type": "boolean"}}},
                },
            },
        },
    }
]
TOOL_TURN = [
    USER,
    {"role": "assistant", "content": "", "tool_calls": [call("get_weather", {"city": "Zürich", "days": 2})]},
    {"role": "tool", "name": "get_weather", "tool_call_id": "call00001", "content": '{"temp": 21.5}'},
]

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
    "tool calls with text arguments": dict(
        messages=[
            USER,
            {
                "role": "assistant",
                "content": "Let me see.",
                "tool_calls": [
                    call("get_weather", '{"city": "Bern"}'),
                    call("get_weather", '{"city": "Basel"}', "call00002"),
                ],
            },
            {"role": "tool", "tool_call_id": "call00001", "content": "cold"},
            {"role": "tool", "tool_call_id": "call00002", "content": "warm"},
        ],
        tools=TOOLS,
    ),
    "none content with calls": dict(
        messages=[USER, {"role": "assistant", "content": None, "tool_calls": [call("get_weather", {"city": "Bern"})]}],
        tools=TOOLS,
    ),
    "content parts": dict(
        messages=[
            {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
            {"role": "user", "content": [{"type": "text", "text": "One "}, {"type": "text", "text": "two"}]},
        ]
    ),
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
    "functions": dict(messages=[SYSTEM, USER], functions="[]", datetime="26 Jul 2025"),
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
    "s": "Hello, World",
    "e": "",
    "u": "straße Ünïcode ΑΣ",
    "n": 7,
    "neg": -3,
    "z": 0,
    "f": 2.5,
    "t": True,
    "no": False,
    "nil": None,
    "l": [3, 1, 2],
    "ls": ["b", "A", "c"],
    "d": {"x": 1, "B": "two", "a": None},
    "el": [],
    "ed": {},
    "nested": {"a": {"b": [10, {"c": "deep"}]}},
    "items": [{"k": "x", "v": 2, "n": {"m": 1}}, {"k": "y", "v": 1, "n": {"m": 5}}, {"k": "X", "v": 3}],
    "multi": "line one\nline two\n\nline four",
    "html": "<a href='x'>\"&\"</a>",
    "sp": "  padded\t\n",
    "mixed": [1, "1", None, True, 2.5],
    "csv": "a,b,,c",
    "num": "42",
    "fl": "3.75",
    "rows": [[1, 2], [3, 4], [5]],
}


def read_lines(name):
    text = (pathlib.Path(__file__).parent / name).read_text(encoding="utf-8")
    return [line for line in text.split("\n") if line and not line.startswith("# ")]


CASES = read_lines("jinja_cases.txt")

# Fixed in jinja2 3.1.6 or markupsafe 3, which the engine follows.
NEWER = {
    "'inf'|int",
    "('<x'|safe).strip('<') + '<'",
    "l.pop()",
    "{% set ns = namespace() %}{% set ns.a = 1 %}{% set ns.b, c = 2, 3 %}{{ ns.a }}{{ ns.b }}{{ c }}",
}
if tuple(int(x) for x in jinja2.__version__.split(".")[:3]) >= (3, 1, 6):
    NEWER = set()

# What Python prints with a memory address or type name.
INCOMPARABLE = (" at 0x", "function ", "<class ", "<built-in")


def test_expressions(engine):
    """Every expression of jinja_cases.txt, printed."""
    failures, rendered = [], 0
    for case in CASES:
        if case in NEWER:
            continue
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


STATEMENTS = [json.loads(line) for line in read_lines("jinja_statements.txt")]


def test_statements(engine):
    """Statements, scoping, whitespace control and syntax errors."""
    failures, rendered = [], 0
    for template in STATEMENTS:
        if template in NEWER:
            continue
        try:
            rendered += check(engine, template, DATA)
        except AssertionError as e:
            failures.append(str(e).split("\n")[0])
    assert not failures, f"{len(failures)} of {len(STATEMENTS)}:\n" + "\n".join(failures)
    assert rendered > len(STATEMENTS) // 2


# --- (c) random expressions


class Grammar:
    """Expressions of bounded depth over DATA. Leans towards operands of fitting types, so that most render."""

    TEXT_FILTERS = ("upper", "lower", "trim", "title", "capitalize", "reverse", "e", "indent", "tojson")
    LIST_FILTERS = ("list", "reverse|list", "sort", "unique|list", "select|list", "reject|list")
    STRIPS = ("lstrip", "rstrip", "strip", "removeprefix", "removesuffix")
    TESTS = ("string", "number", "mapping", "iterable", "none", "defined", "sequence", "boolean", "true")
    FEW_TESTS = ("string", "number", "none", "defined", "iterable")
    MAPPED = ("'string'", "'upper'", "'length'", "'tojson'")
    METHODS = ("upper", "lower", "strip", "title", "swapcase", "capitalize")
    STEPS = ("", ":2", ":-1")

    def __init__(self, seed):
        self.r = random.Random(seed)

    def pick(self, *options):
        return self.r.choice(options)

    def number(self, d):
        if d <= 0:
            return self.pick("n", "neg", "z", "f", "1", "2", "3.5", "t", "l[0]", "d.x", "nested.a.b[0]")
        return self.pick(
            lambda: f"({self.number(d - 1)} {self.pick('+', '-', '*', '/', '//', '%')} {self.number(d - 1)})",
            lambda: f"-{self.number(0)}",
            lambda: f"{self.sequence(d - 1)}|length",
            lambda: f"{self.string(d - 1)}|length",
            lambda: f"{self.string(d - 1)}.{self.pick('find', 'count', 'rfind')}({self.string(0)})",
            lambda: f"({self.number(d - 1)})|{self.pick('abs', 'int', 'float', 'round', 'round(1)')}",
            lambda: f"({self.boolean(d - 1)}) + {self.number(d - 1)}",
            lambda: f"l|{self.pick('sum', 'max', 'min', 'first', 'last')}",
        )()

    def string(self, d):
        if d <= 0:
            return self.pick("s", "e", "u", "sp", "csv", "html", "multi", "'lo'", "' '", "'x'", "num", "ls[0]", "s[1]")
        return self.pick(
            lambda: f"({self.string(d - 1)} + {self.string(d - 1)})",
            lambda: f"({self.any(d - 1)} ~ {self.any(d - 1)})",
            lambda: f"({self.string(d - 1)})|{self.pick(*self.TEXT_FILTERS)}",
            lambda: f"({self.string(d - 1)}).{self.pick(*self.METHODS)}()",
            lambda: f"({self.string(d - 1)})[{self.pick('', '1', '-3', '2')}:{self.pick('', '4', '-1')}{self.pick(*self.STEPS)}]",
            lambda: f"({self.string(d - 1)}).replace({self.string(0)}, {self.string(0)})",
            lambda: f"({self.any(d - 1)})|string",
            lambda: f"({self.sequence(d - 1)})|join({self.string(0)})",
            lambda: f"({self.any(d - 1)})|tojson",
            lambda: f"'{self.pick('%s', '%r', '[%5s]')}' % ({self.any(d - 1)},)",
            lambda: f"'{self.pick('{}', '{!r}', '<{0}>')}'.format({self.any(d - 1)})",
            lambda: f"({self.string(d - 1)}).{self.pick(*self.STRIPS)}({self.string(0)})",
            lambda: f"({self.string(d - 1)} if {self.boolean(d - 1)} else {self.string(d - 1)})",
        )()

    def sequence(self, d):
        if d <= 0:
            return self.pick("l", "ls", "mixed", "el", "[1, 'a', none]", "(1, 2)", "rows", "range(4)|list")
        return self.pick(
            lambda: f"[{self.any(d - 1)}, {self.any(d - 1)}]",
            lambda: f"({self.string(d - 1)}).split({self.pick('', ',', ' ').join(chr(39) * 2) or ''})",
            lambda: f"({self.sequence(d - 1)})[{self.pick('', '1', '-2')}:{self.pick('', '2', '-1')}{self.pick(*self.STEPS)}]",
            lambda: f"({self.sequence(d - 1)})|{self.pick(*self.LIST_FILTERS)}",
            lambda: f"({self.sequence(d - 1)})|map({self.pick(*self.MAPPED)})|list",
            lambda: f"items|map(attribute='{self.pick('k', 'v', 'n', 'n.m')}')|list",
            lambda: f"({self.sequence(d - 1)})|{self.pick('select', 'reject')}('{self.pick(*self.FEW_TESTS)}')|list",
            lambda: f"({self.string(d - 1)}).splitlines()",
            lambda: "d.items()|list",
            lambda: "d|dictsort",
            lambda: f"({self.sequence(d - 1)} + {self.sequence(d - 1)})",
            lambda: f"({self.string(d - 1)})|list",
        )()

    def boolean(self, d):
        if d <= 0:
            return self.pick("t", "no", "true", "n > 3", "s is string", "undef is defined", "l", "e")
        return self.pick(
            lambda: f"({self.any(d - 1)} {self.pick('==', '!=')} {self.any(d - 1)})",
            lambda: f"({self.number(d - 1)} {self.pick('<', '>', '<=', '>=')} {self.number(d - 1)})",
            lambda: f"(not {self.boolean(d - 1)})",
            lambda: f"({self.boolean(d - 1)} {self.pick('and', 'or')} {self.any(d - 1)})",
            lambda: f"({self.any(d - 1)} is {self.pick('', 'not ')}{self.pick(*self.TESTS)})",
            lambda: f"({self.string(0)} {self.pick('in', 'not in')} {self.string(d - 1)})",
            lambda: f"({self.any(0)} in {self.sequence(d - 1)})",
            lambda: f"({self.string(d - 1)}).{self.pick('startswith', 'endswith')}({self.string(0)})",
        )()

    def any(self, d):
        if d <= 0:
            return self.pick(
                "none", "undef", "d", "nested", "items[0]", "{'k': 1}", "1.0", "d.nope", self.string(0), self.number(0)
            )
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
