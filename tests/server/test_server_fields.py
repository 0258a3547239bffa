# SPDX-License-Identifier: Apache-2.0
"""Every field of a request: wrong types and ranges are 400 with the field's name, functions that are not built in
are 422 and never dropped, neutral and unknown values pass."""

import pytest

from server_util import Server, chat, make_model

CHAT, TEXT, NATIVE = "/v1/chat/completions", "/v1/completions", "/completion"
ALL, OPENAI = (CHAT, TEXT, NATIVE), (CHAT, TEXT)
BASE = {CHAT: chat(max_tokens=1), TEXT: {"prompt": "a", "max_tokens": 1}, NATIVE: {"prompt": "a", "n_predict": 1}}
HUGE = 10**30


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def server(model):
    with Server(model) as s:
        yield s
        assert s.stop() == 0


INTEGERS = {  # field: (endpoints, below, above)
    "max_completion_tokens": ((CHAT,), 0, HUGE), "n_predict": ((NATIVE,), -2, HUGE), "min_tokens": (ALL, -1, HUGE),
    "top_k": (ALL, -2, 2**31), "repeat_last_n": (ALL, -2, 2**31), "deadline_ms": (ALL, 0, HUGE),
    "n": (OPENAI, 0, 9), "best_of": ((TEXT,), 0, HUGE), "top_logprobs": ((CHAT,), -1, 21), "n_probs": ((NATIVE,), -1, 21),
    "id_slot": ((NATIVE,), -2, HUGE), "n_keep": ((NATIVE,), -2, HUGE), "seed": (ALL, -HUGE, HUGE),
    "block_size": (ALL, 0, 257), "small_block_size": (ALL, 0, 257), "max_block_iterations": (ALL, 0, HUGE),
    "mask_token_id": (ALL, -1, HUGE),
}
FLOATS = {
    "temperature": (ALL, -0.1, 100.1), "top_p": (ALL, 0, 1.1), "min_p": (ALL, -0.1, 1.1), "typical_p": (ALL, 0, 1.1),
    "presence_penalty": (ALL, -2.1, 2.1), "frequency_penalty": (ALL, -2.1, 2.1), "repetition_penalty": (ALL, 0, None),
    "repeat_penalty": (ALL, -1, None), "threshold": (ALL, -0.1, 1.1),
}
BOOLS = {
    "stream": ALL, "ignore_eos": ALL, "include_stop_str_in_output": OPENAI, "return_token_ids": OPENAI,
    "timings_per_token": ALL, "echo": (TEXT,), "cache_prompt": ALL, "add_generation_prompt": (CHAT,),
    "block_cache": ALL, "parallel_tool_calls": (CHAT,), "continue_final_message": (CHAT,), "return_tokens": (NATIVE,),
}
OTHERS = {  # field: (endpoints, values of a wrong type, values out of range)
    "stop": (ALL, [1, True, {"a": 1}, [1], [None]], ["", [""], ["a"] * 17]),
    "stop_token_ids": (ALL, ["1", 1, ["1"]], [[-1], [2048], [1.5]]),
    "logit_bias": (ALL, ["a", 1, [1], [[1]], {"1": "x"}, {"1": True}], [{"a": 1}, {"2048": 1}, {"1": 101}, [[-1, 1]]]),
    "cache_salt": (ALL, [1, [], {}], []),
    "model": (ALL, [1, [], {}], []),
    "decode_mode": (ALL, [1, []], ["nonsense", "auto", "AR", ""]),
    "stream_options": (OPENAI, [1, "a", []], [{}]),
    "response_format": (OPENAI, [1, "a", []], [{"type": "nonsense"}]),
    "chat_template_kwargs": ((CHAT,), [1, "a", []], []),
    "tools": ((CHAT,), [1, "a", {}], []),
    "tool_choice": ((CHAT,), [1, []], ["nonsense"]),
    "functions": ((CHAT,), [], [[], [{"name": "f"}]]),
}


def cases():
    for name, (paths, low, high) in INTEGERS.items():
        for path in paths:
            for value in ("5", True, [5], {"a": 5}):
                yield path, name, value, "invalid_type"
            for value in (low, high, 1.5):
                yield path, name, value, "invalid_value"
    for name, (paths, low, high) in FLOATS.items():
        for path in paths:
            for value in ("0.5", True, [0.5], {}):
                yield path, name, value, "invalid_type"
            for value in (low, high):
                if value is not None:
                    yield path, name, value, "invalid_value"
    for name, paths in BOOLS.items():
        for path in paths:
            for value in ("true", 1, 0.0, [], {}):
                yield path, name, value, "invalid_type"
    for name, (paths, types, values) in OTHERS.items():
        for path in paths:
            yield from ((path, name, v, "invalid_type") for v in types)
            yield from ((path, name, v, "invalid_value") for v in values)
    for path, field in ((CHAT, "logprobs"), (TEXT, "max_tokens"), (NATIVE, "prompt"), (TEXT, "prompt"), (CHAT, "messages")):
        yield path, field, "" if field != "prompt" else {}, "invalid_type"


@pytest.mark.parametrize("path,name,value,code", list(cases()))
def test_wrong_values_name_the_field(server, path, name, value, code):
    status, e = server.error(path, dict(BASE[path], **{name: value}))
    assert status == 400, e
    assert e["param"].split(".")[0].split("[")[0] == name, e
    assert e["type"] == "invalid_request_error"
    assert e["code"] == (400 if path == NATIVE else code), e


@pytest.mark.parametrize("body,param,code", [
    ({}, "messages", "missing_field"), ({"messages": None}, "messages", "missing_field"),
    ({"messages": []}, "messages", "invalid_value"), ({"messages": ["x"]}, "messages[0]", "invalid_type"),
    ({"messages": [{}]}, "messages[0].role", "missing_field"),
    ({"messages": [{"role": 1}]}, "messages[0].role", "invalid_type"),
    ({"messages": [{"role": "king", "content": "a"}]}, "messages[0].role", "invalid_value"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_field"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "invalid_type"),
    ({"messages": [{"role": "user", "content": [5]}]}, "messages[0].content[0]", "invalid_type"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text", "invalid_type"),
])
def test_messages_are_checked_one_by_one(server, body, param, code):
    status, e = server.error(CHAT, body)
    assert (status, e["param"], e["code"]) == (400, param, code)


@pytest.mark.parametrize("path", [TEXT, NATIVE])
@pytest.mark.parametrize("prompt,code", [
    (5, "invalid_type"), ({}, "invalid_type"), (True, "invalid_type"), ([True], "invalid_type"),
    ([], "invalid_value"), ([[]], "invalid_value"), ([-1], "invalid_value"), ([2048], "invalid_value"),
    ([1.5], "invalid_value"), ([[1], {}], "invalid_type"), (None, "missing_field")])
def test_prompts_are_checked(server, path, prompt, code):
    status, e = server.error(path, {"prompt": prompt})
    assert (status, e["param"], e["code"]) == (400, "prompt", 400 if path == NATIVE else code)


@pytest.mark.parametrize("fields,param", [
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ({"top_logprobs": 2}, "top_logprobs"), ({"min_tokens": 5, "max_tokens": 3}, "min_tokens")])
def test_rules_of_two_fields(server, fields, param):
    status, e = server.error(CHAT, chat(**fields))
    assert (status, e["param"]) == (400, param)


def test_no_tokens_only_with_echo(server):
    assert server.error(TEXT, {"prompt": "a", "max_tokens": 0})[1]["param"] == "max_tokens"


@pytest.mark.parametrize("path,fields,param", [
    (CHAT, {"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    (CHAT, {"tool_choice": "required"}, "tool_choice"),
    (CHAT, {"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
    (CHAT, {"grammar": "root ::= x"}, "grammar"), (NATIVE, {"grammar": "root ::= x"}, "grammar"),
    (CHAT, {"guided_regex": "a+"}, "guided_regex"), (TEXT, {"guided_choice": ["a"]}, "guided_choice"),
    (CHAT, {"continue_final_message": True}, "continue_final_message"),
    (CHAT, {"typical_p": 0.5}, "typical_p"), (CHAT, {"priority": 1}, "priority"),
    (TEXT, {"suffix": "end"}, "suffix"), (TEXT, {"best_of": 3}, "best_of"),
    (TEXT, {"echo": True, "logprobs": 1}, "echo"),
    (NATIVE, {"samplers": ["top_k"]}, "samplers"), (NATIVE, {"mirostat": 2}, "mirostat"),
    (NATIVE, {"t_max_predict_ms": 10}, "t_max_predict_ms"),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
     "messages[0].content[0].type"),
    (CHAT, {"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]}, "messages[0].tool_calls"),
    (CHAT, {"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, "messages[0].role"),
])
def test_what_is_not_built_in_is_422(server, path, fields, param):
    status, e = server.error(path, dict(BASE[path], **fields))
    assert (status, e["type"], e["param"]) == (422, "unsupported_error", param)
    assert e["code"] == (422 if path == NATIVE else "unsupported_for_model")


@pytest.mark.parametrize("path,fields", [
    (CHAT, {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True, "response_format": {"type": "text"}}),
    (CHAT, {"typical_p": 1, "priority": 0, "decode_mode": "ar", "grammar": "", "continue_final_message": False}),
    (CHAT, {"user": "u", "metadata": {"a": "b"}, "store": True, "service_tier": "auto", "reasoning_effort": "low",
            "modalities": ["text"], "prediction": {"type": "content", "content": "x"}}),
    (CHAT, {"top_k": 5.0, "seed": 3.0, "n": 1.0, "max_tokens": 2.0}),
    (CHAT, {"cache_prompt": False, "cache_salt": "s", "prompt_cache_key": "k", "chat_template_kwargs": {"a": 1}}),
    (CHAT, {"something_new": {"a": [1, 2]}, "extra": None}),
    (CHAT, {"seed": -1, "top_k": -1, "min_p": 0.1, "repetition_penalty": 1.1, "presence_penalty": 0.5,
            "frequency_penalty": -0.5}),
    (TEXT, {"suffix": None, "best_of": 1, "echo": False, "logprobs": 0, "stop": []}),
    (NATIVE, {"typical_p": 1, "repeat_last_n": 64, "id_slot": -1, "n_keep": 0, "t_max_predict_ms": 0, "samplers": [],
              "mirostat": 0, "json_schema": {}, "logit_bias": [], "n_probs": 0, "cache_prompt": True}),
])
def test_neutral_ignored_and_unknown_fields_pass(server, path, fields):
    server.ok(path, dict(BASE[path], **fields))


@pytest.mark.parametrize("path", ALL)
def test_null_means_absent(server, path):
    names = [n for t in (INTEGERS, FLOATS, BOOLS, OTHERS) for n in t]
    server.ok(path, dict(BASE[path], **{n: None for n in names if n not in ("n_predict",)}))


def test_strict_server(model):
    with Server(model, "--strict-fields", "--strict-model", "--alias", "org/name", "--alias", "short", "--max-n", 2,
                "--default-max-tokens", 7) as s:
        assert s.ok(CHAT, chat(ignore_eos=True))["usage"]["completion_tokens"] == 7
        status, e = s.error(CHAT, chat(somthing=1))
        assert (status, e["param"], e["code"]) == (400, "somthing", "unknown_field")
        assert s.error(CHAT, chat(prompt="a"))[0] == 400  # known elsewhere, not here
        assert s.error(CHAT, chat(n=3))[1]["param"] == "n"
        status, e = s.error(CHAT, chat(model="gpt-4"))
        assert (status, e["param"], e["code"]) == (404, "model", "model_not_found")
        for name in ("", "default", "org/name", "short", "bard"):
            assert s.ok(CHAT, chat(model=name, max_tokens=1, user="x"))["model"] == "org/name"
        assert s.get("/v1/models/org/name").status == 200
        assert s.get("/v1/models/org%2Fname").status == 200
        assert s.get("/v1/models/bard").status == 404
