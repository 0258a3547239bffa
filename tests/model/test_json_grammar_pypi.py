# SPDX-License-Identifier: Apache-2.0
"""Texts of a schema's grammar, written token by token at random, are valid by PyPI jsonschema; so is every damaged text
that the grammar still has; and valid texts written by hand are texts of the grammar."""
import json
import os
import random
import subprocess
from pathlib import Path

import pytest

jsonschema = pytest.importorskip("jsonschema")

SOURCE = Path(os.environ["WF_SOURCE"])
PROGRAM = Path(os.environ["WF_BIN"]) / "wf_json_walk"


def ask(requests):
    lines = "".join(json.dumps(r) + "\n" for r in requests)
    out = subprocess.run([PROGRAM, SOURCE / "models" / "bard"], input=lines, capture_output=True, text=True, timeout=900)
    assert out.returncode == 0, out.stderr
    answers = [json.loads(line) for line in out.stdout.rstrip("\n").split("\n")]  # not at U+2028
    assert len(answers) == len(requests)
    return answers


def obj(properties, required=None, **more):
    return {"type": "object", "properties": properties, "required": list(properties) if required is None else required,
            "additionalProperties": False, **more}


STRING, INTEGER, NUMBER, BOOLEAN, NULL = ({"type": t} for t in ("string", "integer", "number", "boolean", "null"))
TREE = obj({"value": INTEGER, "children": {"type": "array", "items": {"$ref": "#"}}})
LIST = {"$ref": "#/$defs/node",
        "$defs": {"node": obj({"v": BOOLEAN, "next": {"anyOf": [{"$ref": "#/$defs/node"}, NULL]}})}}

# schema: texts that it allows and that the grammar must have. Each is also walked at random.
CASES = [
    (None, ['{}', '{"a":[1,-2.5e+3,true,false,null,"x",{}]}', '{"a": 1, "b": [1, 2]}', '{"é\\n":"\\ud83d\\ude00"}']),
    (True, ["null", "[]", '"x"', "1.5"]),
    ({}, ["null", "[[[]]]"]),
    (STRING, ['""', '"a\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9é日😀"']),
    (INTEGER, ["0", "-7", "123456789012345678"]),
    (NUMBER, ["0", "-0", "-0.5", "1e9", "3.14E-10"]),
    (BOOLEAN, ["true", "false"]),
    (NULL, ["null"]),
    ({"type": ["string", "null", "integer"]}, ['"x"', "null", "3"]),
    ({"type": "object"}, ["{}", '{"x":{"y":[]}}']),
    ({"type": "array"}, ["[]", '[1, "a",null]']),
    (obj({"name": STRING, "age": INTEGER}), ['{"name":"Ann","age":41}', '{"name": "", "age": -1}']),
    (obj({"a": BOOLEAN, "b": BOOLEAN, "c": BOOLEAN}, ["b"]),
     ['{"b":true}', '{"a":true,"b":true}', '{"b":true,"c":false}', '{"a":true,"b":true,"c":false}']),
    (obj({"a": NULL, "b": NULL}, []), ["{}", '{"a":null}', '{"b":null}', '{"a":null,"b":null}']),
    (obj({"a/b~c\"\\\né": INTEGER}), ['{"a/b~c\\"\\\\\\né":1}']),
    ({"type": "object", "properties": {"id": INTEGER, "idx": NULL}, "required": ["id"], "additionalProperties": STRING},
     ['{"id":1}', '{"id":1,"idx":null,"i":"","idy":"x","é":"y"}', '{"id":1,"other":"x"}']),
    ({"type": "object", "properties": {"ключ": INTEGER}, "additionalProperties": True},
     ['{"ключ":1,"ключи":[1],"к":{}}', '{"":0}']),
    ({"type": "object", "additionalProperties": INTEGER}, ["{}", '{"a":1,"\\"":2}']),
    ({"type": "object", "required": ["x", "y"]}, ['{"x":1,"y":[]}']),
    ({"type": "array", "items": INTEGER, "minItems": 2, "maxItems": 4}, ["[1,2]", "[1, 2, 3, 4]"]),
    ({"type": "array", "prefixItems": [STRING, INTEGER], "items": False, "minItems": 1}, ['["a"]', '["a",1]']),
    ({"type": "array", "prefixItems": [STRING, INTEGER], "items": NULL}, ["[]", '["a",1,null,null]']),
    ({"type": "array", "items": {"type": "array", "items": NUMBER, "minItems": 3, "maxItems": 3}, "minItems": 1},
     ["[[1,0.5,2]]"]),
    ({"enum": ["red", "green", 3, 2.5, None, True, ["x", {"y": 1}], "re\"d\n", ""]},
     ['"red"', "3", "2.5", "null", "true", '["x",{"y":1}]', '"re\\"d\\n"', '""']),
    ({"type": "string", "enum": ["aa", "ab", "b", 7]}, ['"aa"', '"b"']),
    ({"const": {"a": [1, "é"]}}, ['{"a":[1,"é"]}']),
    ({"anyOf": [STRING, {"type": "array", "items": STRING}]}, ['"x"', '["x"]']),
    ({"anyOf": [obj({"kind": {"const": "circle"}, "r": NUMBER}), obj({"kind": {"const": "cube"}, "a": NUMBER})]},
     ['{"kind":"circle","r":1}', '{"kind":"cube","a":2}']),
    ({"oneOf": [obj({"t": {"enum": ["a", "b"]}, "x": INTEGER}), obj({"t": {"const": "c"}}), NULL]},
     ['{"t":"a","x":1}', '{"t":"c"}', "null"]),
    ({"allOf": [{"$ref": "#/definitions/s"}], "description": "d", "definitions": {"s": STRING}}, ['"x"']),
    (TREE, ['{"value":1,"children":[]}', '{"value":1,"children":[{"value":2,"children":[]}]}']),
    (LIST, ['{"v":true,"next":null}', '{"v":true,"next":{"v":false,"next":null}}']),
    ({"type": "string", "minLength": 3, "maxLength": 5}, ['"abc"', '"日本語é"', '"\\n\\u0041x"']),
    ({"type": "string", "maxLength": 0}, ['""']),
    ({"type": "string", "pattern": "^[A-Z]{2,3}-[0-9]+$"}, ['"AB-1"', '"ABC-007"']),
    ({"type": "string", "pattern": "^(foo|ba[rz])*[^a-y\\d\"]?$"}, ['"foobar"', '"z"', '""']),
    ({"type": "string", "pattern": "b+"}, ['"abc"', '"b"', '"ü\\nb\\""']),
    ({"type": "string", "pattern": "^\\S+( \\S+)*$", "maxLength": 12}, ['"two words"', '"Grüße"']),
    ({"type": "string", "pattern": "^.\\w\\W\\D\\s.$"}, ['"xa-- y"']),
    *(({"type": "string", "format": f}, texts) for f, texts in {
        "date": ['"2024-02-29"', '"1999-12-31"', '"2000-02-29"'], "time": ['"23:59:59Z"', '"00:00:00.25+05:30"'],
        "date-time": ['"2024-05-06T07:08:09Z"'], "uuid": ['"123e4567-e89b-12d3-a456-426614174000"'],
        "email": ['"a.b@example.org"'], "ipv4": ['"192.168.0.255"'], "hostname": ['"a.example-1.org"'],
        "uri": ['"https://example.org:80/a/b?c=d#e"']}.items()),
    ({"type": "integer", "minimum": 18, "maximum": 120}, ["18", "99", "100", "120"]),
    ({"type": "integer", "minimum": -12, "exclusiveMaximum": 7}, ["-12", "-1", "0", "6"]),
    ({"type": "integer", "exclusiveMinimum": 99.5}, ["100", "12345"]),
    ({"type": "number", "minimum": 0, "maximum": 1}, ["0", "1", "0.25", "1.0", "0.00001"]),
    ({"type": "number", "exclusiveMinimum": -2.75, "exclusiveMaximum": -0.5}, ["-2.7", "-1", "-0.51"]),
    ({"type": "number", "minimum": 1e-3}, ["0.001", "7", "123456.5"]),
    ({"type": ["number", "null"], "maximum": -1e3}, ["-1000", "-1000.5", "null"]),
    ({"minLength": 2, "minimum": 5, "minItems": 1, "required": ["a"]}, ['"xy"', "5", "[0]", '{"a":0}', "true"]),
]
WALKS = 6


def validator(schema):
    draft = jsonschema.Draft202012Validator
    return draft({} if schema is None else schema, format_checker=draft.FORMAT_CHECKER)


def fits(check, text):
    """Whether a text is JSON and valid."""
    try:
        return check.is_valid(json.loads(text))
    except ValueError:
        return False


@pytest.fixture(scope="module")
def walks():
    return ask([{"schema": s, "walks": WALKS, "seed": i} for i, (s, _) in enumerate(CASES)])


def test_there_are_200_texts_of_40_schemas(walks):
    assert len(CASES) >= 40 and sum(map(len, walks)) >= 200
    assert all(isinstance(texts, list) for texts in walks), walks
    assert len({t for texts in walks for t in texts}) > 150


def test_random_texts_are_valid(walks):
    for (schema, _), texts in zip(CASES, walks):
        check = validator(schema)
        for text in texts:
            value = json.loads(text)
            errors = [e.message for e in check.iter_errors(value)]
            assert not errors, (schema, text, errors)
            assert schema is not None or isinstance(value, dict)


def test_valid_texts_are_texts_of_the_grammar(walks):
    for (schema, texts), answer in zip(CASES, ask([{"schema": s, "texts": t} for s, t in CASES])):
        check = validator(schema)
        assert all(fits(check, t) for t in texts), (schema, texts)
        assert all(answer), (schema, [t for t, good in zip(texts, answer) if not good])


def test_no_damaged_text_of_a_grammar_is_invalid(walks):
    rng = random.Random(11)
    requests = []
    for (schema, by_hand), texts in zip(CASES, walks):
        damaged = []
        for _ in range(150):
            text = rng.choice([*by_hand, *(t for t in texts if len(t) < 400)] or ["null"])
            for _ in range(rng.randrange(1, 4)):
                at, end = sorted((rng.randrange(len(text) + 1), rng.randrange(len(text) + 1)))
                end = min(end, at + 2)
                other = rng.choice(by_hand)
                put = rng.choice(["", "", *'"0123456789-+.eE{}[],: \\/nut\néÿ', text[at:end] * 2, other])
                text = text[:at] + put + text[end:]
            damaged.append(text)
        requests.append({"schema": schema, "texts": damaged})
    kept = 0
    for request, answer in zip(requests, ask(requests)):
        check = validator(request["schema"])
        for text, taken in zip(request["texts"], answer):
            kept += taken
            assert not taken or fits(check, text), (request["schema"], text)
    assert kept > 100
