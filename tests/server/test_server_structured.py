# SPDX-License-Identifier: Apache-2.0
"""Answers held to a JSON schema over HTTP: valid by PyPI jsonschema whatever is sampled, streamed, drafted, in a batch;
schemas that are outside the subset, and settings that do not go together with it. The grammar itself: tests/model."""

import json
import pathlib
import sys
import threading

import jsonschema
import pytest

from server_util import BIN, SOURCE, Server, make_model

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "golden"))
import make_toy  # noqa: E402
import subprocess  # noqa: E402

CHAT, TEXT, NATIVE = "/v1/chat/completions", "/v1/completions", "/completion"
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "mood": {"enum": ["merry", "sad", None]},
        "roles": {"type": "array", "items": {"type": "string", "maxLength": 6}, "maxItems": 3},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
SCHEMAS = [
    PERSON,
    {"type": "array", "items": {"anyOf": [{"type": "boolean"}, {"type": "number", "minimum": -9, "maximum": 9}]},
     "minItems": 1, "maxItems": 4},
    {"$defs": {"t": {"type": "object", "properties": {"v": {"type": "integer", "minimum": 0, "maximum": 9}},
                     "required": ["v"]}},
     "type": "object", "properties": {"a": {"$ref": "#/$defs/t"}, "b": {"$ref": "#/$defs/t"}}, "required": ["a"]},
    {"type": "string", "pattern": "^[A-Z][a-z]{1,5}$"},
]  # fmt: skip


def schema(s):
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": s}}


@pytest.fixture(scope="module", params=["bard", "random"])
def server(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "bard":
        model = make_model(folder)
    else:  # random weights under the sample's tokenizer
        make_toy.make("llama-plain", folder / "toy", SOURCE / "models" / "bard")
        model = folder / "toy.gguf"
        subprocess.run([BIN / "wf-convert", folder / "toy", "-o", model, "--outtype", "i2_s"], check=True,
                       capture_output=True)  # fmt: skip
    with Server(model, "--max-running", 8) as s:
        yield s
        assert s.stop() == 0


def body(s, **more):
    return {"messages": [{"role": "user", "content": "Hello"}], "response_format": schema(s), "temperature": 1.5, **more}


def check(text, s):
    value = json.loads(text)
    jsonschema.validate(value, s)
    return value


@pytest.mark.parametrize("s", range(len(SCHEMAS)))
def test_every_answer_is_valid_at_a_high_temperature(server, s):
    answers = []
    for seed in range(0, 56, 8):
        r = server.ok(CHAT if seed % 16 else TEXT, body(SCHEMAS[s], n=8, seed=seed, max_tokens=400, prompt="To be"))
        for choice in r["choices"]:
            assert choice["finish_reason"] == "stop", choice
            answers.append(choice["message"]["content"] if "message" in choice else choice["text"])
    assert len(answers) == 56
    for text in answers:
        check(text, SCHEMAS[s])
    assert len(set(answers)) > 10  # they are sampled


def test_greedy_streamed_verified_and_batched_answers_are_the_same(server):
    ask = body(PERSON, temperature=0, max_tokens=400)
    want = server.ok(CHAT, ask)["choices"][0]["message"]["content"]
    check(want, PERSON)
    events = server.events(CHAT, ask)
    assert "".join(e["choices"][0]["delta"].get("content") or "" for e in events if e != "[DONE]") == want
    verify = dict(ask, decode_mode="verify")
    r = server.post(CHAT, verify)
    if r.status == 422:  # the toy has no mask token
        assert b"mask token" in r.data
    else:
        assert json.loads(r.data)["choices"][0]["message"]["content"] == want
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(server.ok(CHAT, ask))) for _ in range(6)]
    for t in threads:
        t.start()
    server.ok(TEXT, {"prompt": "a", "max_tokens": 20})
    for t in threads:
        t.join()
    assert [a["choices"][0]["message"]["content"] for a in answers] == [want] * 6


def test_any_object_the_native_field_and_logprobs(server):
    r = server.ok(CHAT, {"messages": [{"role": "user", "content": "x"}], "response_format": {"type": "json_object"},
                         "temperature": 0.7, "seed": 1, "max_tokens": 30, "logprobs": True, "top_logprobs": 2})
    text = r["choices"][0]["message"]["content"]
    assert text.startswith("{")
    if r["choices"][0]["finish_reason"] == "stop":
        assert isinstance(json.loads(text), dict)
    r = server.ok(NATIVE, {"prompt": "x", "json_schema": SCHEMAS[3], "temperature": 1, "n_predict": 50})
    check(r["content"], SCHEMAS[3])


def test_a_cut_answer_says_so(server):
    r = server.ok(CHAT, body(PERSON, max_tokens=3))
    assert r["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("s,status,words", [
    ({"type": "object", "patternProperties": {"a": True}}, 422, "response_format.json_schema.schema/patternProperties"),
    ({"type": "object", "properties": {"a": {"not": {}}}}, 422, "response_format.json_schema.schema/properties/a/not"),
    ({"type": "nonsense"}, 400, "response_format.json_schema.schema"),
    ({"enum": []}, 400, "response_format.json_schema.schema"),
    (False, 400, "response_format.json_schema.schema"),
    (7, 400, "response_format.json_schema.schema"),
    ("x", 400, "response_format.json_schema.schema"),
])  # fmt: skip
def test_schemas_that_are_refused(server, s, status, words):
    got, e = server.error(CHAT, body(s))
    assert (got, words in e["message"]) == (status, True), e
    if status == 422:
        assert (e["code"], e["param"]) == ("unsupported_schema", "response_format")


@pytest.mark.parametrize("format", [{"type": "json_schema"}, {"type": "json_schema", "json_schema": {"name": "a"}}])
def test_formats_without_a_schema(server, format):
    assert server.error(CHAT, {"messages": [{"role": "user", "content": "x"}], "response_format": format})[0] == 400


def test_what_does_not_go_together(server):
    assert server.error(CHAT, body(PERSON, min_tokens=3))[1]["param"] == "min_tokens"
    assert server.error(CHAT, body(PERSON, ignore_eos=True))[1]["param"] == "ignore_eos"
    status, e = server.error(CHAT, body(PERSON, decode_mode="greedy"))
    assert status == 422
    assert e["param"] in ("response_format", "decode_mode")
