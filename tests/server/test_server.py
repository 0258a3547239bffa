# SPDX-License-Identifier: Apache-2.0
"""The contract of wf-server's endpoints: shapes, streams, rules of fields, errors."""

import json
import re

import pytest

from server_util import Server, chat, chat_text, completion_text, make_model, read_error

CHAT, TEXT, NATIVE = "/v1/chat/completions", "/v1/completions", "/completion"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def server(model):
    with Server(model) as s:
        yield s
        assert s.stop() == 0


def minimal(path):
    return {CHAT: chat(max_tokens=2), TEXT: {"prompt": "To be", "max_tokens": 2},
            NATIVE: {"prompt": "To be", "n_predict": 2}}[path]


# ---- Health, models, paths

@pytest.mark.parametrize("path", ["/health", "/v1/health", "/health/live", "/health/ready", "/health/"])
def test_health_is_ok_when_the_model_is_ready(server, path):
    r = server.get(path)
    assert r.status == 200
    assert json.loads(r.data) == {"status": "ok"}


@pytest.mark.parametrize("path", ["/v1/models", "/models", "/v1/models/"])
def test_models_lists_the_served_model(server, path):
    body = json.loads(server.get(path).data)
    assert body["object"] == "list"
    (m,) = body["data"]
    assert (m["id"], m["object"], m["owned_by"], m["max_model_len"]) == ("bard", "model", "local", 512)
    meta = m["meta"]
    assert (meta["n_ctx_train"], meta["n_vocab"], meta["n_embd"], meta["ftype"]) == (512, 2048, 256, "I2_S")
    assert meta["n_params"] > 2048 * 256
    assert meta["size"] > meta["n_params"] / 8


def test_one_model_by_id(server):
    assert json.loads(server.get("/v1/models/bard").data)["id"] == "bard"
    r = server.get("/v1/models/other")
    assert (r.status, read_error(r)["code"]) == (404, "model_not_found")


def test_unknown_path_is_404(server):
    for method in ("GET", "POST"):
        r = server.request(method, "/v1/nothing", "{}" if method == "POST" else None)
        e = read_error(r)
        assert (r.status, e["type"], e["code"], e["param"]) == (404, "not_found_error", "unknown_path", None)


@pytest.mark.parametrize("method,path,allow", [
    ("POST", "/health", "GET, HEAD"), ("DELETE", "/v1/models", "GET, HEAD"), ("PUT", "/v1/models/bard", "GET, HEAD"),
    ("GET", CHAT, "POST"), ("GET", TEXT, "POST"), ("GET", NATIVE, "POST"), ("OPTIONS", CHAT, "POST")])
def test_wrong_method_is_405_with_allow(server, method, path, allow):
    r = server.request(method, path)
    assert (r.status, r.headers["allow"]) == (405, allow)
    read_error(r)


def test_head_answers_like_get_without_a_body(server):
    r = server.request("HEAD", "/v1/models")
    assert r.status == 200
    assert r.data == b""
    assert int(r.headers["content-length"]) == len(server.get("/v1/models").data)


def test_request_id_is_echoed_if_usable(server):
    assert server.get("/health", headers={"X-Request-Id": "my-id.1"}).headers["x-request-id"] == "my-id.1"
    for bad in ("x" * 129, "a b", "caf\u00e9"):
        got = server.get("/health", headers={"X-Request-Id": bad}).headers["x-request-id"]
        assert re.fullmatch(r"req-[0-9a-f]{24}", got)
    assert server.get("/health").headers["x-request-id"] != server.get("/health").headers["x-request-id"]


# ---- Chat

def test_chat_answer(server):
    a = server.ok(CHAT, chat(temperature=0, max_tokens=12, ignore_eos=True, model="default"))
    assert re.fullmatch(r"chatcmpl-[0-9a-f]{24}", a["id"])
    assert (a["object"], a["model"]) == ("chat.completion", "bard")
    assert a["system_fingerprint"] and a["created"] > 1.7e9
    (c,) = a["choices"]
    assert c["index"] == 0 and c["logprobs"] is None and c["finish_reason"] == "length"
    assert c["message"]["role"] == "assistant" and c["message"]["refusal"] is None and c["message"]["content"]
    u = a["usage"]
    assert u["completion_tokens"] == 12 and u["total_tokens"] == u["prompt_tokens"] + 12
    assert u["prompt_tokens_details"]["cached_tokens"] <= u["prompt_tokens"]
    t = a["timings"]
    assert t["predicted_n"] == 12 and t["prompt_n"] + t["cache_n"] == u["prompt_tokens"]
    assert t["seed"] == -1 and t["prompt_ms"] > 0 and t["predicted_per_second"] > 0


def test_chat_stream_is_the_exact_sequence(server):
    events = server.events(CHAT, chat(max_tokens=8, ignore_eos=True, stream_options={"include_usage": True}))
    assert events.pop() == "[DONE]"
    usage = events.pop()
    assert usage["choices"] == [] and usage["usage"]["completion_tokens"] == 8
    assert len({(e["id"], e["created"], e["model"], e["object"], e["system_fingerprint"]) for e in events + [usage]}) == 1
    assert usage["object"] == "chat.completion.chunk"
    assert all(e["usage"] is None for e in events)
    first, *middle, last = [e["choices"] for e in events]
    assert first == [{"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}]
    assert last == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}]
    assert events[-1]["timings"]["predicted_n"] == 8
    assert middle
    for (c,) in middle:
        assert set(c["delta"]) == {"content"} and c["delta"]["content"] and c["finish_reason"] is None


def test_no_usage_in_a_stream_unless_asked_for(server):
    assert all("usage" not in e for e in server.events(CHAT, chat(max_tokens=3)) if e != "[DONE]")


@pytest.mark.parametrize("fields", [
    {"temperature": 0}, {"seed": 7}, {"seed": 8, "temperature": 2}, {"seed": 9, "temperature": 100, "top_p": 1},
    {"temperature": 0, "stop": ["e", "th"]}, {"seed": 11, "stop": "\n", "temperature": 1.5}])
def test_stream_deltas_equal_the_plain_text(server, fields):
    body = chat(max_tokens=100, **fields)
    plain = server.ok(CHAT, body)["choices"][0]
    events = server.events(CHAT, body)
    assert chat_text(events) == plain["message"]["content"]
    assert events[-2]["choices"][0]["finish_reason"] == plain["finish_reason"]
    body = {"prompt": "O Romeo, ", "max_tokens": 100, **fields}
    assert completion_text(server.events(TEXT, body)) == server.ok(TEXT, body)["choices"][0]["text"]
    body["repeat_last_n"] = 64
    assert "".join(e["content"] for e in server.events(NATIVE, body)) == server.ok(NATIVE, body)["content"]


def test_several_choices(server):
    body = chat(n=3, seed=5, temperature=5, top_p=1, max_tokens=20, ignore_eos=True)
    plain = server.ok(CHAT, body)
    texts = [c["message"]["content"] for c in plain["choices"]]
    assert [c["index"] for c in plain["choices"]] == [0, 1, 2] and len(set(texts)) == 3
    assert plain["usage"]["completion_tokens"] == 60
    assert texts[0] == server.ok(CHAT, dict(body, n=1))["choices"][0]["message"]["content"]
    events = server.events(CHAT, body)
    assert [chat_text(events, i) for i in range(3)] == texts
    assert sum(c["finish_reason"] is not None for e in events[:-1] for c in e["choices"]) == 3
    assert sum("timings" in e for e in events[:-1]) == 1
    assert plain["usage"]["prompt_tokens"] == server.ok(CHAT, chat(max_tokens=1))["usage"]["prompt_tokens"]


def test_chat_logprobs(server):
    body = chat(temperature=0, max_tokens=10, ignore_eos=True, logprobs=True, top_logprobs=3)
    c = server.ok(CHAT, body)["choices"][0]
    content = c["logprobs"]["content"]
    assert c["logprobs"]["refusal"] is None and len(content) == 10
    assert b"".join(bytes(t["bytes"]) for t in content).decode("utf-8", "replace").startswith(c["message"]["content"])
    for t in content:
        assert len(t["top_logprobs"]) == 3
        assert t["logprob"] == t["top_logprobs"][0]["logprob"] == max(x["logprob"] for x in t["top_logprobs"])
        assert t["token"] == t["top_logprobs"][0]["token"] and t["logprob"] <= 0
    streamed = [t for e in server.events(CHAT, body)[:-1] for x in e["choices"] if x["logprobs"]
                for t in x["logprobs"]["content"]]
    assert streamed == content
    assert server.ok(CHAT, chat(max_tokens=1, logprobs=True))["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []


def test_messages_roles_and_parts(server):
    text = {"temperature": 0, "max_tokens": 4}
    whole = server.ok(CHAT, {"messages": [{"role": "system", "content": "Be brief."},
                                          {"role": "user", "content": "Hello there"}], **text})
    parts = server.ok(CHAT, {"messages": [{"role": "developer", "content": "Be brief.", "type": "text"},
                                          {"role": "user", "content": [{"type": "text", "text": "Hello "},
                                                                       {"type": "text", "text": "there"}]}], **text})
    assert parts["choices"] == whole["choices"] and parts["usage"] == whole["usage"]
    server.ok(CHAT, {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
                                  {"role": "user", "content": "\u00e9\u4e16\U0001f600"}], **text})


def test_a_users_text_is_no_control_token(server):
    inside = server.ok(CHAT, chat("<|eot_id|>", max_tokens=1))["usage"]["prompt_tokens"]
    assert inside > server.ok(CHAT, chat("x", max_tokens=1))["usage"]["prompt_tokens"] + 1


# ---- Completions

def test_completions_answer(server):
    a = server.ok(TEXT, {"prompt": "To be, or not", "temperature": 0, "ignore_eos": True})
    assert re.fullmatch(r"cmpl-[0-9a-f]{24}", a["id"]) and a["object"] == "text_completion"
    (c,) = a["choices"]
    assert set(c) == {"index", "text", "logprobs", "finish_reason"}
    assert c["finish_reason"] == "length" and a["usage"]["completion_tokens"] == 16


def test_completions_stream_sequence(server):
    events = server.events(TEXT, {"prompt": "x", "max_tokens": 5, "ignore_eos": True,
                                  "stream_options": {"include_usage": True, "continuous_usage_stats": True}})
    assert events.pop() == "[DONE]"
    assert events.pop()["usage"]["completion_tokens"] == 5
    assert all(e["object"] == "text_completion" and e["usage"]["total_tokens"] >= 2 for e in events)
    assert [c["finish_reason"] for e in events for c in e["choices"]][-1] == "length"
    assert not any("delta" in c for e in events for c in e["choices"])


def test_prompts_as_text_ids_and_lists(server):
    fields = {"temperature": 0, "max_tokens": 6, "ignore_eos": True, "return_token_ids": True}
    alone = [server.ok(TEXT, {"prompt": p, **fields})["choices"][0] for p in ("Now is", "the winter")]
    ids = [c["prompt_token_ids"] for c in alone]
    assert ids[0][0] == 2044  # BOS once, by the tokenizer's rule
    assert server.ok(TEXT, {"prompt": "<|begin_of_text|>Now is", **fields})["choices"][0]["prompt_token_ids"] == ids[0]
    for prompt in (["Now is", "the winter"], ids, [[float(i) for i in ids[0]], ids[1]]):
        got = server.ok(TEXT, {"prompt": prompt, **fields})
        assert [c["index"] for c in got["choices"]] == [0, 1]
        assert [c["text"] for c in got["choices"]] == [c["text"] for c in alone]
    assert server.ok(TEXT, {"prompt": ids[1], **fields})["choices"][0]["text"] == alone[1]["text"]
    raw = server.ok(TEXT, {"prompt": ids[1][1:], **fields})["choices"][0]  # no BOS added to ids
    assert raw["prompt_token_ids"] == ids[1][1:]
    two = server.ok(TEXT, {"prompt": ["Now is", "the winter"], "n": 2, **fields})
    assert [c["index"] for c in two["choices"]] == [0, 1, 2, 3]
    assert two["usage"]["prompt_tokens"] == len(ids[0]) + len(ids[1])
    assert server.ok(TEXT, {"prompt": "", **fields})["choices"][0]["prompt_token_ids"] == [2044]


def test_many_prompts_are_more_than_the_queue_holds(server):
    got = server.ok(TEXT, {"prompt": [f"Scene {i}" for i in range(100)], "max_tokens": 2, "temperature": 0})
    assert [c["index"] for c in got["choices"]] == list(range(100))
    assert got["choices"][37]["text"] == server.ok(
        TEXT, {"prompt": "Scene 37", "max_tokens": 2, "temperature": 0})["choices"][0]["text"]


def test_echo(server):
    body = {"prompt": "Once more unto \u00e9", "max_tokens": 4, "temperature": 0}
    alone = server.ok(TEXT, body)["choices"][0]["text"]
    assert server.ok(TEXT, dict(body, echo=True))["choices"][0]["text"] == body["prompt"] + alone
    assert completion_text(server.events(TEXT, dict(body, echo=True))) == body["prompt"] + alone
    nothing = server.ok(TEXT, dict(body, echo=True, max_tokens=0))
    assert nothing["choices"][0]["text"] == body["prompt"] and nothing["usage"]["completion_tokens"] == 0
    assert nothing["choices"][0]["finish_reason"] == "length"


def test_legacy_logprobs(server):
    body = {"prompt": "To be", "max_tokens": 8, "temperature": 0, "ignore_eos": True, "logprobs": 2}
    c = server.ok(TEXT, body)["choices"][0]
    lp = c["logprobs"]
    assert {len(v) for v in lp.values()} == {8}
    assert lp["text_offset"][0] == 0 and lp["text_offset"] == sorted(lp["text_offset"])
    for token, value, top in zip(lp["tokens"], lp["token_logprobs"], lp["top_logprobs"]):
        assert 2 <= len(top) <= 3 and top[token] == value == max(top.values())
    joined = {k: [] for k in lp}
    for e in server.events(TEXT, body)[:-1]:
        for x in e["choices"]:
            for k, v in (x["logprobs"] or {}).items():
                joined[k] += v
    assert joined == lp
    hot = dict(body, temperature=50, seed=3, logprobs=1)
    for token, value, top in zip(*(server.ok(TEXT, hot)["choices"][0]["logprobs"][k]
                                   for k in ("tokens", "token_logprobs", "top_logprobs"))):
        assert top[token] == value and len(top) <= 2


# ---- llama-server's shape

def test_native_answer(server):
    a = server.ok(NATIVE, {"prompt": "To be", "n_predict": 5, "temperature": 0, "ignore_eos": True, "return_tokens": True,
                           "n_probs": 2})
    assert a["stop"] is True and a["model"] == "bard" and a["prompt"] == "To be"
    assert a["stop_type"] == "limit" and a["stopping_word"] == "" and a["truncated"] is False
    assert a["tokens_predicted"] == 5 and len(a["tokens"]) == 5 and a["timings"]["predicted_n"] == 5
    assert a["has_new_line"] == ("\n" in a["content"])
    assert len(a["completion_probabilities"]) == 5 and len(a["completion_probabilities"][0]["top_logprobs"]) == 2
    assert [p["id"] for p in a["completion_probabilities"]] == a["tokens"]
    assert a["generation_settings"]["n_predict"] == 5 and a["generation_settings"]["top_k"] == 40
    assert "completion_probabilities" not in server.ok(NATIVE, {"prompt": "a", "n_predict": 1})


def test_native_stream_ends_with_a_full_event_and_no_done(server):
    *parts, last = server.events(NATIVE, {"prompt": "x", "n_predict": 5, "ignore_eos": True})
    assert "[DONE]" not in parts
    assert all(e["stop"] is False and {"index", "content", "tokens", "id_slot", "tokens_predicted",
                                       "tokens_evaluated"} <= set(e) for e in parts)
    assert sum(len(e["tokens"]) for e in parts) == 5
    assert last["stop"] is True and last["content"] == "" and last["stop_type"] == "limit" and last["timings"]


def test_native_prompts(server):
    assert server.ok(NATIVE, {"prompt": "", "n_predict": 3})["tokens_evaluated"] == 1
    assert server.ok(NATIVE, {"prompt": "To be", "n_predict": 0})["content"] == ""
    many = server.ok(NATIVE, {"prompt": ["a", "b", [40, 41]], "n_predict": 2})
    assert isinstance(many, list) and [r["index"] for r in many] == [0, 1, 2]
    one = server.ok(NATIVE, {"prompt": [2044, "Hello", 40], "n_predict": 2})
    assert one["tokens_evaluated"] >= 3
    assert server.ok("/completions", {"prompt": "a", "n_predict": 1})["stop"] is True
    assert server.ok("/completions", {"prompt": "a", "max_tokens": 1})["object"] == "text_completion"
    assert server.ok("/chat/completions", chat(max_tokens=1))["object"] == "chat.completion"


# ---- Ends

def test_stop_strings(server):
    body = {"prompt": "O ", "max_tokens": 60, "temperature": 0, "ignore_eos": True}
    full = server.ok(TEXT, body)["choices"][0]["text"]
    word = full[len(full) // 2:][:4]
    c = server.ok(TEXT, dict(body, stop=["\x01never", word]))["choices"][0]
    assert c["finish_reason"] == "stop" and c["text"] == full[:full.index(word)]
    assert completion_text(server.events(TEXT, dict(body, stop=word))) == c["text"]
    kept = server.ok(TEXT, dict(body, stop=word, include_stop_str_in_output=True))["choices"][0]
    assert kept["text"] == full[:full.index(word)] + word
    native = server.ok(NATIVE, {"prompt": "O ", "n_predict": 60, "temperature": 0, "ignore_eos": True, "stop": [word],
                                "repeat_last_n": 0})
    assert (native["stop_type"], native["stopping_word"]) == ("word", word)


def test_stop_ids_and_minimum(server):
    body = {"prompt": "O ", "max_tokens": 20, "temperature": 0, "ignore_eos": True, "return_token_ids": True}
    ids = server.ok(TEXT, body)["choices"][0]["token_ids"]
    c = server.ok(TEXT, dict(body, stop_token_ids=[ids[5]]))["choices"][0]
    assert c["finish_reason"] == "stop" and c["token_ids"] == ids[:ids.index(ids[5]) + 1]


def test_the_rest_of_the_context_is_the_limit(server):
    a = server.ok(CHAT, chat(ignore_eos=True, max_tokens=100000))
    assert a["usage"]["total_tokens"] == 512 and a["choices"][0]["finish_reason"] == "length"
    assert server.ok(CHAT, chat(ignore_eos=True))["usage"]["total_tokens"] == 512


@pytest.mark.parametrize("bias", [{"300": 100}, [[300, 100], [301, False]], {"300": 100.0, "301": -100}])
def test_logit_bias_in_both_forms(server, bias):
    c = server.ok(TEXT, {"prompt": "a", "max_tokens": 3, "temperature": 0, "logit_bias": bias, "return_token_ids": True})
    assert c["choices"][0]["token_ids"] == [300] * 3


def test_a_random_seed_is_reported_and_repeats(server):
    first = server.ok(CHAT, chat(max_tokens=20, temperature=1.5))
    assert first["timings"]["seed"] != -1
    again = server.ok(CHAT, chat(max_tokens=20, temperature=1.5, seed=first["timings"]["seed"]))
    assert again["choices"] == first["choices"]


def test_a_deadline_cuts_the_answer(server):
    r = server.post(CHAT, chat(ignore_eos=True, deadline_ms=5))
    if r.status == 200:
        (c,) = json.loads(r.data)["choices"]
        assert c["finish_reason"] == "length" and c["timed_out"] is True
    else:
        assert (r.status, read_error(r)["type"]) == (503, "unavailable_error")


# ---- Too long

@pytest.mark.parametrize("path", [CHAT, TEXT, NATIVE])
@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_without_room_is_400(server, path, stream):
    long = "word " * 2000
    r = server.post(path, dict(minimal(path), stream=stream, **(chat(long) if path == CHAT else {"prompt": long})))
    e = read_error(r)
    assert r.status == 400 and e["n_ctx"] == 512 and e["n_prompt_tokens"] > 512
    if path == NATIVE:
        assert (r.reason, e["type"], e["code"]) == ("Context Size Exceeded", "exceed_context_size_error", 400)
    else:
        assert (r.reason, e["type"], e["code"]) == ("Bad Request", "invalid_request_error", "context_length_exceeded")


def test_bodies_that_are_no_json_object_are_400(server):
    for bad in (b"{", b"", b"[]", b'"x"', b'{"prompt": "\xff\xfe"}', b'{"prompt":1e}', b"{'a':1}", b"null",
                b'{"prompt":' + b"[" * 10000 + b"]" * 10000 + b"}", b'{"prompt":"\\ud800"}'):
        status, e = server.error(TEXT, bad)
        assert (status, e["code"], e["param"]) == (400, "invalid_json", None)
        assert server.error(NATIVE, bad)[1]["code"] == 400


def test_bodies_are_json_whatever_the_headers_say(server):
    body = json.dumps(minimal(TEXT))
    for headers in ({"Content-Type": "application/x-www-form-urlencoded"}, {"Content-Type": "text/plain"}):
        assert server.post(TEXT, body, headers=headers).status == 200
    assert server.post(TEXT, b"\xef\xbb\xbf" + body.encode()).status == 200
    assert server.post(TEXT, '{"max_tokens": "x", "max_tokens": 1, "prompt": "a"}').status == 200  # the last one wins
