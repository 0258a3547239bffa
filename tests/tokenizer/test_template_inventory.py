# SPDX-License-Identifier: Apache-2.0
"""What published chat templates use, ticked off one by one: each item has cases that must render as jinja2 renders
them, and cases ("!" in front) that both must refuse. The breadth of arguments is test_templates_jinja2.py's."""
import pathlib
import sys

import pytest

pytest.importorskip("jinja2")
sys.path.insert(0, str(pathlib.Path(__file__).parent))
from test_templates_jinja2 import DATA, NOW, Engine, python_render  # noqa: E402,F401

CONTEXT = DATA | {
    "messages": [
        {"role": "system", "content": " Be brief.\n"},
        {"role": "user", "content": "Hi <|x|>", "tool_calls": None},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nHello", "reasoning_content": "hm"},
        {"role": "user", "content": [{"type": "text", "text": "One"}, {"type": "image"}]},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"q": "ä<b>'\"", "n": [1, 2.0, None]}}}],
    "add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>",
}


def e(*expressions):
    """Expressions as templates that print them; "!" stays in front."""
    return [("!" if x.startswith("!") else "") + "{{ " + x.removeprefix("!") + " }}" for x in expressions]


STATEMENTS = {
    "if": ["{% if n %}a{% endif %}|{% if z %}b{% endif %}", "!{% if n %}a"],
    "elif": ["{% if z %}a{% elif n == 7 %}b{% elif n %}c{% endif %}"],
    "else": ["{% if e %}a{% else %}b{% endif %}"],
    "set": ["{% set x = n + 1 %}{{ x }}", "{% set a, b = 1, 'z' %}{{ b }}{{ a }}"],
    "set ns.x": ["{% set ns = namespace(x=1) %}{% set ns.x = ns.x + 2 %}{{ ns.x }}", "!{% set d.x = 1 %}"],
    "block set": ["{% set x %}a{{ n }}\n{% endset %}[{{ x }}]", "{% set x | upper %}abc{% endset %}{{ x }}"],
    "for": ["{% for m in messages %}{{ m.role }};{% endfor %}", "{% for c in 'añb' %}{{ c }},{% endfor %}", "!{% for x in n %}{% endfor %}"],
    "for else": ["{% for x in el %}a{% else %}b{% endfor %}", "{% for x in l %}{{ x }}{% else %}b{% endfor %}"],
    "for if": ["{% for m in messages if m.role != 'user' %}{{ loop.index }}{{ m.role }}{% endfor %}"],
    "for k, v": ["{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}"],
    "macro": ["{% macro f(a) %}<{{ a }}>{% endmacro %}{{ f(1) }}{{ f('x') }}", "{% macro f(n) %}{% if n %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}"],
    "macro defaults": ["{% macro f(a, b=2, c='q') %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ f(1) }}{{ f(1, 3) }}"],
    "macro kwargs": ["{% macro f(a, b=2) %}{{ a }}{{ b }}{{ kwargs }}{% endmacro %}{{ f(b=1, a=3, z=4) }}", "{% macro f(a) %}{{ a }}{{ varargs }}{% endmacro %}{{ f(1, 2) }}", "!{% macro f(a) %}{% endmacro %}{{ f(1, 2) }}"],
    "call": ["{% macro f(a) %}<{{ caller() }}{{ a }}>{% endmacro %}{% call f(1) %}x{{ n }}{% endcall %}", "{% macro f() %}{{ caller(5) }}{% endmacro %}{% call(q) f() %}{{ q }}{% endcall %}"],
    "break": ["{% for x in range(9) %}{% if x == 3 %}{% break %}{% endif %}{{ x }}{% endfor %}", "!{% break %}"],
    "continue": ["{% for x in range(6) %}{% if x is odd %}{% continue %}{% endif %}{{ x }}{% endfor %}"],
    "filter block": ["{% filter upper %}a{{ s }}{% endfilter %}", "{% filter trim | replace('a', 'b') %} aa {% endfilter %}"],
    "generation": ["{% for m in messages %}{% generation %}{{ m.role }}{% endgeneration %}{% endfor %}", "a{%- generation -%} b {%- endgeneration -%} c"],
    "{%- -%}": ["a \n {%- if n -%} \n b \n {%- endif -%} \n c", "a {%+ if n %} b{% endif +%}\nc"],
    "{{- -}}": ["a \n {{- n -}} \n b"],
    "{#- -#}": ["a \n {#- x -#} \n b", "a {# {{ n }} {% if #} b", "{# a #}\nb"],
    "trim_blocks": ["{% if n %}\n\na\n{% endif %}\nb\n{{ n }}\nc"],
    "lstrip_blocks": ["  {% if n %}\n    a\n  {% endif %}\n\t{# c #}\n  {{ n }}"],
    "trailing newline": ["a\n", "a\n\n", "{{ n }}\n", "{% if n %}\n{% endif %}\n"],
    "raw": ["{% raw %}{{ n }}{% if %}{% endraw %}"],
}
LOOP = {
    name: ["{% for x in l %}{{ loop." + name + " }},{% endfor %}", "{% for x in ls if x != 'A' %}{{ loop." + name + " }},{% endfor %}"]
    for name in ("index0", "last", "first", "previtem", "nextitem", "index", "length", "revindex", "revindex0")
} | {"cycle": ["{% for x in l %}{{ loop.cycle('a', 'b') }}{% endfor %}"], "changed": ["{% for x in [1, 1, 2] %}{{ loop.changed(x) }}{% endfor %}"]}
FUNCTIONS = {
    "namespace": ["{% set ns = namespace() %}{% set ns.q = 1 %}{{ ns.q }}{{ ns.nope is defined }}", "{% set ns = namespace(a=1, b='x') %}{{ ns.a }}{{ ns['b'] }}", "{% set ns = namespace({'a': 2}) %}{{ ns.a }}"],
    "raise_exception": ["!{{ raise_exception('no') }}", "{% if z %}{{ raise_exception('no') }}{% endif %}ok"],
    "range": e("range(3)|list", "range(2, 5)|list", "range(9, 0, -3)|list", "range(4)|length", "!range('a')"),
    "strftime_now": e("strftime_now('%Y-%m-%d')", "strftime_now('%d %b %Y')", "strftime_now('%A %B %H:%M:%S %j %y %%')"),
    "dict": e("dict(a=1, b='x')", "dict({'a': 1}, b=2)", "dict([('k', 'v')])"),
    "cycler": ["{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}"],
    "joiner": ["{% set j = joiner(', ') %}{% for x in l %}{{ j() }}{{ x }}{% endfor %}"],
}
FILTERS = {
    "tojson": e("tools|tojson", "tools|tojson(indent=4)", "tools[0]|tojson(indent=2)", "s|tojson", "none|tojson", "f|tojson", "{'b': 1, 'a': 2}|tojson(sort_keys=true)", "[1, 2]|tojson(separators=(',', ':'))", "u|tojson(ensure_ascii=true)", "!undef|tojson"),
    "length": e("messages|length", "s|length", "u|length", "d|length", "!n|length"),
    "count": e("l|count"),
    "trim": e("sp|trim", "'xxaxx'|trim('x')", "messages[0].content|trim", "'a' + ' b '|trim + 'c'"),
    "default": e("undef|default('x')", "e|default('x')", "e|default('x', true)", "nil|default('x')", "nil|default('x', boolean=true)", "undef|default", "undef.x|default('y') if z else 1"),
    "d": e("undef|d('x')"),
    "string": e("n|string + 'x'", "nil|string", "l|string", "f|string"),
    "join": e("l|join(', ')", "l|join", "items|join('-', attribute='k')", "'abc'|join('.')"),
    "items": e("d|items|list", "undef|items|list", "!l|items|list") + ["{% for k, v in nested|items %}{{ k }}{{ v }}{% endfor %}"],
    "upper": e("s|upper", "'straße'|upper"),
    "lower": e("s|lower", "u|lower"),
    "safe": e("html|safe", "(html|safe) + '<'"),
    "dictsort": e("d|dictsort", "{'b': 1, 'A': 2}|dictsort(true)", "{'b': 1, 'A': 2}|dictsort(by='value', reverse=true)"),
    "list": e("'abc'|list", "d|list", "range(3)|list"),
    "selectattr": e("messages|selectattr('role', 'equalto', 'user')|list|length", "items|selectattr('n')|map(attribute='k')|list", "messages|selectattr('tool_calls', 'defined')|list|length"),
    "indent": e("multi|indent", "multi|indent(2)", "multi|indent(2, true)", "multi|indent(width=3, blank=true)", "multi|indent('> ')"),
    "map": e("messages|map(attribute='role')|list", "ls|map('upper')|list", "items|map(attribute='n.m', default=0)|list", "l|map('string')|join"),
    "first": e("l|first", "s|first", "el|first"),
    "last": e("l|last", "s|last"),
    "capitalize": e("'hELLO world'|capitalize", "messages[1].role|capitalize + ': '", "'éa'|capitalize"),
    "title": e("'hello wORLD-x it\\'s'|title"),
    "replace": e("s|replace('l', 'L')", "s|replace('l', 'L', 1)", "s|replace('', '-')"),
    "int": e("'42'|int", "'4x'|int", "'4x'|int(7)", "3.9|int", "'0x1f'|int(0, 16)"),
    "float": e("'3.5'|float", "'x'|float", "'x'|float(1.5)", "2|float"),
    "abs": e("neg|abs", "-2.5|abs"),
    "reject": e("mixed|reject('string')|list", "[0, 1, '']|reject|list"),
    "rejectattr": e("items|rejectattr('v', 'gt', 1)|map(attribute='k')|list", "items|rejectattr('n')|list|length"),
    "select": e("l|select('odd')|list", "mixed|select('number')|list", "l|select('divisibleby', 3)|list"),
    "sort": e("l|sort", "ls|sort", "ls|sort(case_sensitive=true)", "l|sort(reverse=true)", "items|sort(attribute='v')|map(attribute='k')|list"),
    "unique": e("[1, 2, 1]|unique|list", "['a', 'A']|unique|list"),
    "reverse": e("l|reverse|list", "s|reverse"),
    "min": e("l|min", "ls|min", "el|min"),
    "max": e("l|max", "items|max(attribute='v')"),
    "sum": e("l|sum", "l|sum(start=10)", "items|sum(attribute='v')"),
    "batch": e("l|batch(2)|list", "l|batch(2, 'x')|list"),
    "round": e("2.567|round(2)", "2.5|round", "2.1|round(method='ceil')"),
    "e": e("html|e"),
    "slice": e("l|slice(2)|list"),
    "format": e("'%s-%d'|format('a', 3)"),
    "wordcount": e("s|wordcount"),
    "truncate": e("multi|truncate(12)"),
}
TESTS = {
    "defined": e("n is defined", "undef is defined", "d.nope is defined", "messages[0].tool_calls is defined"),
    "undefined": e("undef is undefined", "n is undefined"),
    "none": e("nil is none", "undef is none", "z is none", "not nil is none"),
    "string": e("s is string", "n is string", "html|safe is string"),
    "mapping": e("d is mapping", "l is mapping"),
    "iterable": e("l is iterable", "s is iterable", "n is iterable", "undef is iterable"),
    "sequence": e("l is sequence", "d is sequence", "n is sequence", "s is sequence"),
    "number": e("n is number", "f is number", "t is number", "s is number"),
    "integer": e("n is integer", "f is integer", "t is integer"),
    "float": e("f is float", "n is float"),
    "boolean": e("t is boolean", "n is boolean"),
    "true": e("t is true", "n is true", "1 is true"),
    "false": e("no is false", "z is false", "enable_thinking is defined and enable_thinking is false"),
    "eq": e("n is eq 7", "n is eq(7)"),
    "equalto": e("s is equalto s", "n is equalto 8"),
    "==": e("l|select('==', 1)|list"),
    "ne": e("n is ne 7"),
    "lt": e("n is lt 8"),
    "gt": e("n is gt 8", "n is gt(3)"),
    "le": e("n is le 7"),
    "ge": e("n is ge 8"),
    "in": e("'a' is in 'abc'", "1 is in l", "'q' is in d"),
    "odd": e("n is odd"),
    "even": e("n is even"),
    "callable": e("range is callable", "n is callable"),
    "divisibleby": e("n is divisibleby 7"),
    "is not": e("n is not string", "undef is not defined", "nil is not none"),
    "sameas": e("nil is sameas none"),
    "lower": e("'a' is lower"),
    "upper": e("'A' is upper"),
    "filter": e("'tojson' is filter", "'nope' is filter"),
    "test": e("'odd' is test"),
}
METHODS = {
    "get": e("d.get('x')", "d.get('q')", "d.get('q', 'z')", "messages[1].get('tool_calls')"),
    "split": e("csv.split(',')", "s.split()", "csv.split(',', 1)", "csv.split(sep=',', maxsplit=2)", "messages[2].content.split('</think>')[-1].lstrip('\\n')", "!s.split('')"),
    "rsplit": e("csv.rsplit(',', 1)", "s.rsplit()"),
    "strip": e("sp.strip()", "'xyax'.strip('xy')", "sp.strip(none)"),
    "lstrip": e("sp.lstrip()", "'\\n\\na'.lstrip('\\n')"),
    "rstrip": e("sp.rstrip() + '|'", "'a\\n'.rstrip('\\n')"),
    "items": e("d.items()|list"),
    "keys": e("d.keys()|list", "'x' in d.keys()"),
    "values": e("d.values()|list"),
    "format": e("'{}-{}'.format(1, 'a')", "'{a:>5}|{0:.2f}'.format(2.0, a='x')", "'{!r}'.format(s)"),
    "% format": e("'%s' % n", "'%s=%d' % ('a', 3)", "'%.2f|%5s|%-4d|%%|%x' % (f, 'a', 7, 255)", "!'%d' % 'a'"),
    "startswith": e("s.startswith('He')", "s.startswith(('a', 'H'))"),
    "endswith": e("s.endswith('ld')"),
    "replace": e("s.replace('l', 'L')", "s.replace('l', 'L', 1)"),
    "pop": ["!{{ l.pop() }}", "!{{ d.pop('x') }}"],  # the sandbox is immutable
    "append": ["!{{ l.append(1) }}", "!{% set q = [] %}{% set _ = q.append(1) %}"],
    "upper": e("s.upper()"), "lower": e("s.lower()"), "title": e("s.title()"), "capitalize": e("s.capitalize()"),
    "find": e("s.find('o')", "s.find('q')", "s.rfind('o')"), "count": e("s.count('l')", "l.count(1)"),
    "removeprefix": e("s.removeprefix('Hello')"), "removesuffix": e("s.removesuffix('World')"),
    "splitlines": e("multi.splitlines()", "multi.splitlines(true)"), "join": e("', '.join(ls)"), "index": e("s.index('l')", "l.index(1)", "!l.index(9)"),
    "isdigit": e("num.isdigit()", "s.isdigit()"), "zfill": e("'7'.zfill(3)"),
}
OPERATORS = {
    "+": e("1 + 2", "'a' + 'b'", "l + [4]", "!'a' + 1"), "-": e("1 - 2", "-n"), "*": e("2 * 3", "'ab' * 3"), "/": e("7 / 2", "4 / 2", "!1 / 0"),
    "//": e("7 // 2", "-7 // 2"), "%": e("7 % 3", "-7 % 3"), "**": e("2 ** 10", "2 ** -1"), "~": e("1 ~ 'a' ~ none ~ true", "l ~ ''"),
    "==": e("n == 7", "1 == 1.0", "'1' == 1"), "!=": e("n != 7"), "<": e("1 < 2", "!1 < 'a'"), ">": e("'b' > 'a'"), "<=": e("1 <= 1"), ">=": e("1 >= 2", "1 < 2 < 3"),
    "and": e("n and s", "z and s", "n and e"), "or": e("z or s", "n or s"), "not": e("not n", "not e", "not z and n"),
    "in": e("'a' in 'abc'", "1 in l", "'x' in d"), "not in": e("'a' not in 'abc'", "9 not in l"),
    "ternary": e("'a' if n else 'b'", "'a' if z", "'a' if z else 'b' if e else 'c'", "('a' if z) is defined"),
    "[a:b]": e("l[0:2]", "messages[1:]|length", "s[:4]", "s[-3:]", "s[::2]"), "[::-1]": e("l[::-1]", "s[::-1]", "messages[::-1][0].role"), "negative index": e("l[-1]", "s[-1]", "messages[-1]['role']"),
    "list": e("[1, 'a', [none]]", "[]"), "dict": e("{'a': 1, 'b': {'c': [2]}}", "{}"), "tuple": e("(1, 2)", "(1,)", "()"),
    "escapes": e(r"'\n\t\"\'\\'", r"'\u00e4\x41\U0001F600'", r'"a\"b"', "'a' \"b\""),
    "filter binding": e("'a' + ' b '|trim", "-2|abs", "1 + 2|string|length", "not nil|default(true, true)", "n|string ~ 'x'|upper", "(1 + 2)|string"),
    "numbers": e("1", "1.0", "1.5e3", "10 / 5", "3 * 1.0", "1_000", "0x1F", "0.1 + 0.2"),
    "literals": e("True", "true", "False", "None", "none", "[True, None]"),
    "attribute": e("d.x", "d['x']", "d.items is defined", "messages[0].role", "messages[0]['role']", "nested.a.b[1].c", "!undef.x", "!undef['x']", "d.nope", "!d.nope.x"),
}
SCOPING = {
    "set in for stays": ["{% set x = 1 %}{% for i in l %}{% set x = i %}{% endfor %}{{ x }}"],
    "namespace leaves": ["{% set ns = namespace(x=1) %}{% for i in l %}{% set ns.x = i %}{% endfor %}{{ ns.x }}"],
    "set in if leaks": ["{% if n %}{% set x = 2 %}{% endif %}{{ x }}"],
    "fresh per iteration": ["{% for i in l %}{{ x is defined }}{% set x = i %}{% endfor %}"],
    "macros see globals": ["{% set g = 5 %}{% macro f() %}{{ g }}{{ n }}{% endmacro %}{{ f() }}", "{% for i in l %}{% macro f() %}{{ i }}{% endmacro %}{{ f() }}{% endfor %}"],
    "loop variable ends": ["{% for i in l %}{% endfor %}{{ i is defined }}{{ loop is defined }}"],
    "inner loop": ["{% for i in l %}{% set o = loop %}{% for j in ls %}{{ o.index }}{{ loop.index }} {% endfor %}{% endfor %}"],
    "truthiness": ["{% for x in ['', [], {}, 0, 0.0, none, false, 'a', [0], {'a': 0}, 1, -1, true] %}{{ 1 if x else 0 }}{% endfor %}{{ 1 if undef else 0 }}"],
    "undefined prints nothing": e("undef", "d.nope", "[undef]|length"),
}
SECTIONS = {"statement": STATEMENTS, "loop": LOOP, "function": FUNCTIONS, "filter": FILTERS, "test": TESTS, "method": METHODS,
            "operator": OPERATORS, "scoping": SCOPING}
ITEMS = [(section, item, cases) for section, items in SECTIONS.items() for item, cases in items.items()]


@pytest.fixture(scope="module")
def engine():
    e = Engine()
    yield e
    e.process.stdin.close()
    assert e.process.wait(timeout=30) == 0


@pytest.mark.parametrize("section,item,cases", ITEMS, ids=[f"{s}-{i}" for s, i, _ in ITEMS])
def test_item(engine, section, item, cases):
    assert cases
    for case in cases:
        template = case.removeprefix("!")
        if section in ("loop", "function", "filter", "test") and item != "is not":
            assert item in template, "the case is about something else"
        expected, answer = python_render(template, CONTEXT), engine(template, CONTEXT)
        assert (expected is None) == case.startswith("!"), f"{template!r}: jinja2 gives {expected!r}"
        if expected is None:
            assert "error" in answer and answer["code"] != "internal", f"{template!r}: {answer}"
        else:
            assert answer.get("text") == expected, f"{template!r}: {answer}"


HOSTILE = {
    "source of 256 KiB": "a" * (256 * 1024 + 1),
    "output of 16 MiB": "{% for i in range(20) %}{{ 'a' * 1000000 }}{% endfor %}",
    "steps": "{% for i in range(2000) %}{% for j in range(2000) %}{{ j }}{% endfor %}{% endfor %}",
    "macros 64 deep": "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "range of 10^5": "{{ range(100001)|length }}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_limits_end_a_template_by_name(engine, name):
    answer = engine(HOSTILE[name], {})
    assert answer.get("code") == "limit", str(answer)[:200]


def test_what_stays_just_within_the_limits_renders(engine):
    assert engine("a" * (256 * 1024), {})["text"] == "a" * (256 * 1024)
    assert engine("{{ range(100000)|length }}", {})["text"] == "100000"
    nested = "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{% endif %}x{% endmacro %}{{ f(50) }}"
    assert engine(nested, {})["text"] == "x" * 51
