# SPDX-License-Identifier: Apache-2.0
"""Block diffusion over HTTP: the fields that choose a mode and its settings, the text of each (that of wf-run),
streams, logprobs, counts of passes and drafts, and what a model or a setting does not allow."""

import json
import pathlib
import subprocess
import sys
import threading

import pytest

from server_util import BIN, PATIENCE, SOURCE, Reader, Server, chat, chat_text, completion_text, make_model

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "golden"))
import gguf_edit  # noqa: E402

CHAT, TEXT, NATIVE = "/v1/chat/completions", "/v1/completions", "/completion"
ALL = (CHAT, TEXT, NATIVE)
DIFFUSION = ("greedy", "iterative", "adaptive")
MODES = ("ar", *DIFFUSION, "verify")
CONTEXT, VOCAB, MASK = 512, 2048, 2047
FLAGS = {"decode_mode": "--decode", "threshold": "--threshold", "block_size": "--block-size",
         "small_block_size": "--sub-block-size", "max_block_iterations": "--max-passes", "block_cache": "--block-cache",
         "mask_token_id": "--mask-token-id"}  # fmt: skip
SETTINGS = {"threshold": 0.5, "block_size": 16, "small_block_size": 4, "max_block_iterations": 2, "block_cache": True,
            "mask_token_id": MASK}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def server(model):
    """As it is started by somebody who asks for nothing."""
    with Server(model, own_decode=True) as s:
        yield s
        assert s.stop() == 0


def flags_of(fields):
    out = []
    for name, value in fields.items():
        out += [FLAGS[name]] if value is True else [] if value is False else [FLAGS[name], str(value)]
    return out


def wf_run(model, *flags):
    r = subprocess.run([BIN / "wf-run", "-m", model, "--json", "-t", "1", *map(str, flags)], capture_output=True,
                       text=True, check=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)  # fmt: skip
    return json.loads(r.stdout)


def body_of(path, prompt="Once more unto the breach", n=40, **fields):
    """A greedy request for n tokens at that endpoint."""
    fields = {"temperature": 0, "ignore_eos": True, **fields}
    if path == NATIVE:
        return {"prompt": prompt, "n_predict": n, "return_tokens": True, **fields}
    return (chat(prompt) if path == CHAT else {"prompt": prompt}) | {"max_tokens": n, "return_token_ids": True} | fields


def text_of(path, answer):
    if path == NATIVE:
        return answer["content"]
    (c,) = answer["choices"]
    return c["message"]["content"] if path == CHAT else c["text"]


def ids_of(path, answer):
    return answer["tokens"] if path == NATIVE else answer["choices"][0]["token_ids"]


def streamed_text(path, events):
    if path == NATIVE:
        return "".join(e["content"] for e in events)
    return chat_text(events) if path == CHAT else completion_text(events)


# ---- The text is that of wf-run

@pytest.mark.parametrize("fields", [
    {}, *({"decode_mode": m} for m in MODES),
    *({"decode_mode": m, "threshold": t} for m in DIFFUSION for t in (0, 0.5, 0.9, 1)),
    {"threshold": 0.3}, {"block_size": 8}, {"block_size": 1}, {"block_size": 256}, {"small_block_size": 1},
    {"small_block_size": 32}, {"max_block_iterations": 1}, {"max_block_iterations": 2**20},
    {"block_cache": True}, {"block_cache": False}, {"mask_token_id": 0}, {"mask_token_id": VOCAB - 1},
    {"decode_mode": "iterative", **SETTINGS},
    {"decode_mode": "greedy", "block_size": 64}, {"decode_mode": "verify", "block_size": 8}], ids=str)
def test_ids_and_text_are_those_of_wf_run(server, model, fields):
    prompt = "Shall I compare thee"
    want = wf_run(model, "-p", prompt, "-n", 40, "--temp", 0, "--ignore-eos", *flags_of(fields))
    for path in (TEXT, NATIVE):
        got = server.ok(path, body_of(path, prompt, **fields))
        assert (ids_of(path, got), text_of(path, got)) == (want["ids"], want["text"])
        if fields.get("decode_mode") != "verify":  # whether to draft depends on what passes cost just now
            assert got["timings"]["passes"] == want["timings"]["passes"]


@pytest.mark.parametrize("mode", MODES)
def test_chat_and_sampling_are_those_of_wf_run(server, model, mode):
    body = chat("Who goes there?", decode_mode=mode, temperature=0.9, top_p=0.8, seed=7, max_tokens=48,
                return_token_ids=True)
    got = server.ok(CHAT, body)
    prompt = ",".join(map(str, got["prompt_token_ids"]))
    want = wf_run(model, "--ids", prompt, "-n", 48, "--temp", 0.9, "--top-p", 0.8, "--top-k", 0, "--min-p", 0,
                  "--repeat-penalty", 1, "--seed", 7, "--decode", mode)  # fmt: skip
    (c,) = got["choices"]
    assert (c["token_ids"], c["message"]["content"], c["finish_reason"]) == (want["ids"], want["text"],
                                                                              want["finish_reason"])
    assert got["timings"]["seed"] == 7


def test_adaptive_is_what_the_sample_model_does_by_itself(server):
    plain = server.ok(NATIVE, body_of(NATIVE))
    settings = plain["generation_settings"]
    assert (settings["decode_mode"], settings["block_size"], settings["mask_token_id"]) == ("adaptive", 32, MASK)
    named = server.ok(NATIVE, body_of(NATIVE, decode_mode="adaptive"))
    other = server.ok(NATIVE, body_of(NATIVE, decode_mode="ar"))
    assert plain["tokens"] == named["tokens"] != other["tokens"]
    assert other["generation_settings"]["decode_mode"] == "ar" and "threshold" not in other["generation_settings"]


@pytest.mark.parametrize("path", ALL)
def test_verify_is_the_text_of_ar(server, path):
    for prompt in ("To be, or not to be", "My kingdom for", "O"):
        texts = [server.ok(path, body_of(path, prompt, n=64, decode_mode=m)) for m in ("ar", "verify")]
        assert ids_of(path, texts[0]) == ids_of(path, texts[1])
        assert text_of(path, texts[0]) == text_of(path, texts[1])


@pytest.mark.parametrize("mask", [0, 2044, 2046])  # a mark, the beginning of a text, an end token
@pytest.mark.parametrize("sampling", [{"temperature": 0}, {"temperature": 50, "seed": 997}], ids=str)
def test_verify_is_the_text_of_ar_with_any_mask_token(server, mask, sampling):
    body = body_of(TEXT, "What is", n=100, ignore_eos=False, **sampling)
    want = server.ok(TEXT, dict(body, decode_mode="ar"))["choices"]
    assert server.ok(TEXT, dict(body, decode_mode="verify", mask_token_id=mask))["choices"] == want


@pytest.mark.parametrize("mode", DIFFUSION)
def test_blocks_of_one_token_are_ar(server, mode):
    want = ids_of(TEXT, server.ok(TEXT, body_of(TEXT, decode_mode="ar")))
    assert ids_of(TEXT, server.ok(TEXT, body_of(TEXT, decode_mode=mode, block_size=1))) == want


def test_a_request_overrides_the_servers_flags(model):
    flags = {"decode_mode": "iterative", "threshold": 0.95, "block_size": 16}
    with Server(model, *flags_of(flags)) as s:
        for fields in ({}, {"threshold": 0.2}, {"block_size": 64, "small_block_size": 16}, {"decode_mode": "greedy"},
                       {"max_block_iterations": 1, "small_block_size": 16}):
            want = wf_run(model, "-p", "All the world", "-n", 40, "--temp", 0, "--ignore-eos",
                          *flags_of({**flags, **fields}))
            assert ids_of(TEXT, s.ok(TEXT, body_of(TEXT, "All the world", **fields))) == want["ids"], fields
        for mode in ("ar", "verify"):  # the server's settings are no error beside the request's mode
            want = wf_run(model, "-p", "All the world", "-n", 40, "--temp", 0, "--ignore-eos", "--decode", "ar")
            assert ids_of(TEXT, s.ok(TEXT, body_of(TEXT, "All the world", decode_mode=mode))) == want["ids"]
        for name in ("decode_mode", *SETTINGS):
            nothing = s.ok(TEXT, body_of(TEXT, "All the world", **{name: None}))
            assert ids_of(TEXT, nothing) == ids_of(TEXT, s.ok(TEXT, body_of(TEXT, "All the world")))


def test_a_server_of_ar_decodes_by_blocks_if_asked(model, server):
    with Server(model, "--decode", "ar") as s:
        for mode in MODES:
            fields = {"decode_mode": mode} | ({"threshold": 0.6} if mode in DIFFUSION else {})
            body = body_of(TEXT, **fields)
            assert ids_of(TEXT, s.ok(TEXT, body)) == ids_of(TEXT, server.ok(TEXT, body))


# ---- What is refused

@pytest.mark.parametrize("path", ALL)
@pytest.mark.parametrize("name,value", SETTINGS.items())
def test_settings_of_block_diffusion_and_mode_ar_exclude_each_other(server, path, name, value):
    status, e = server.error(path, body_of(path, decode_mode="ar", **{name: value}))
    assert (status, e["param"], e["code"]) == (400, name, 400 if path == NATIVE else "invalid_value")
    assert e["message"].startswith(name) and "ar" in e["message"]


def test_a_setting_without_a_mode_is_refused_by_a_server_of_ar(model):
    with Server(model, "--decode", "ar") as s:
        for name, value in SETTINGS.items():
            status, e = s.error(CHAT, chat(**{name: value}))
            assert (status, e["param"]) == (400, name)


@pytest.mark.parametrize("path", ALL)
@pytest.mark.parametrize("fields,param", [
    ({"block_size": 33}, "block_size"), ({"block_size": 24, "small_block_size": 8}, "block_size"),
    ({"decode_mode": "greedy", "block_size": 255}, "block_size"),
    ({"small_block_size": 5}, "small_block_size"), ({"small_block_size": 64}, "small_block_size"),
    ({"block_size": 8, "small_block_size": 16}, "small_block_size"),
    ({"max_block_iterations": 2**20 + 1}, "max_block_iterations"), ({"mask_token_id": VOCAB}, "mask_token_id"),
    ({"decode_mode": "verify", "mask_token_id": VOCAB}, "mask_token_id")], ids=str)
def test_what_the_engine_refuses_names_the_field(server, path, fields, param):
    for stream in (False, True):
        status, e = server.error(path, body_of(path, stream=stream, **fields))
        assert (status, e["type"], e["param"]) == (400, "invalid_request_error", param)
        assert e["code"] == (400 if path == NATIVE else "invalid_value")
        assert e["message"].startswith(param + " = ")


def test_a_block_that_does_not_divide_the_context_is_named(model):
    with Server(model, "--decode", "ar", "-c", 500) as s:
        status, e = s.error(TEXT, body_of(TEXT, decode_mode="adaptive"))
        assert (status, e["param"]) == (400, "block_size") and "500" in e["message"]
        assert s.ok(TEXT, body_of(TEXT, decode_mode="adaptive", block_size=20))["usage"]["completion_tokens"] == 40


def without(model, folder, *words):
    """The model without the metadata whose keys hold one of these words."""
    g = gguf_edit.Gguf(pathlib.Path(model))
    gone = [k for k in g.metadata if any(w.encode() in k for w in words)]
    assert gone
    for k in gone:
        del g.metadata[k]
    out = folder / "changed.gguf"
    g.write(out)
    return out


def check_unsupported(s, path, fields, param):
    for stream in (False, True):
        status, e = s.error(path, body_of(path, stream=stream, **fields))
        assert (status, e["type"], e["param"]) == (422, "unsupported_error", param), fields
        assert e["code"] == (422 if path == NATIVE else "unsupported_for_model")


def test_a_model_without_mask_token_is_422(model, server, tmp_path):
    with Server(without(model, tmp_path, ".diffusion.", "mask_token_id"), own_decode=True) as s:
        for path in ALL:
            want = server.ok(path, body_of(path, decode_mode="ar"))
            for fields in ({}, {"decode_mode": "ar"}, {"decode_mode": None, "threshold": None}):
                assert ids_of(path, s.ok(path, body_of(path, **fields))) == ids_of(path, want)
            for mode in (*DIFFUSION, "verify"):
                check_unsupported(s, path, {"decode_mode": mode}, "decode_mode")
                check_unsupported(s, path, {"decode_mode": mode, "threshold": 0.5}, "decode_mode")
            for name, value in SETTINGS.items():
                check_unsupported(s, path, {name: value}, name)


def test_a_model_without_a_style_can_verify_only(model, server, tmp_path):
    with Server(without(model, tmp_path, ".diffusion."), own_decode=True) as s:
        want = ids_of(TEXT, server.ok(TEXT, body_of(TEXT, decode_mode="ar")))
        for mode in ("ar", "verify"):
            assert ids_of(TEXT, s.ok(TEXT, body_of(TEXT, decode_mode=mode))) == want
        assert ids_of(TEXT, s.ok(TEXT, body_of(TEXT))) == want
        for mode in DIFFUSION:
            check_unsupported(s, TEXT, {"decode_mode": mode}, "decode_mode")


# ---- Counts

@pytest.mark.parametrize("mode", MODES)
def test_timings_and_usage_tell_passes(server, mode):
    got = server.ok(TEXT, body_of(TEXT, n=48, decode_mode=mode))
    t, u = got["timings"], got["usage"]
    assert t["predicted_n"] == u["completion_tokens"] == 48
    assert t["tokens_per_pass"] == pytest.approx(48 / t["passes"], rel=1e-15)  # one division, printed and read
    assert u["completion_tokens_details"]["passes"] == t["passes"]
    if mode == "ar":
        assert t["passes"] == 47  # the first token is the prefill's
    if mode in DIFFUSION:
        assert t["passes"] < 47
    if mode == "verify":
        details = u["completion_tokens_details"]
        assert 0 <= t["draft_n_accepted"] <= t["draft_n"]
        assert details["accepted_prediction_tokens"] == t["draft_n_accepted"]
        assert details["rejected_prediction_tokens"] == t["draft_n"] - t["draft_n_accepted"]
    else:
        assert "draft_n" not in t and set(u["completion_tokens_details"]) == {"passes"}
    native = server.ok(NATIVE, body_of(NATIVE, n=48, decode_mode=mode))["timings"]
    assert native.keys() == t.keys()


def test_a_pass_that_gives_all_tokens_has_no_rate(server):
    t = server.ok(TEXT, body_of(TEXT, n=4, decode_mode="greedy"))["timings"]
    assert t["passes"] == 1 and t["tokens_per_pass"] == 4 and t["predicted_per_second"] == 0


def test_no_token_takes_no_pass(server):
    for mode in MODES:
        t = server.ok(NATIVE, body_of(NATIVE, n=0, decode_mode=mode))["timings"]
        assert (t["predicted_n"], t["passes"], t["tokens_per_pass"]) == (0, 0, 0)


def test_counts_of_several_choices_are_sums(server):
    body = dict(body_of(TEXT, n=40, decode_mode="iterative", temperature=1.5, threshold=0.6), seed=11)
    alone = [server.ok(TEXT, dict(body, seed=11 + i)) for i in range(3)]
    got = server.ok(TEXT, dict(body, n=3))
    assert [c["token_ids"] for c in got["choices"]] == [ids_of(TEXT, a) for a in alone]
    passes = sum(a["timings"]["passes"] for a in alone)
    assert got["timings"]["passes"] == got["usage"]["completion_tokens_details"]["passes"] == passes
    assert got["timings"]["tokens_per_pass"] == pytest.approx(120 / passes, rel=1e-15)
    many = server.ok(TEXT, dict(body, prompt=["a", "b"], temperature=0))
    each = [server.ok(TEXT, dict(body, prompt=p, temperature=0))["timings"]["passes"] for p in "ab"]
    assert many["timings"]["passes"] == sum(each)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n", [1, 31, 32, 33])
def test_lengths_around_a_block(server, model, mode, n):
    want = wf_run(model, "-p", "Is this a dagger", "-n", n, "--temp", 0, "--ignore-eos", "--decode", mode)
    for path in (TEXT, NATIVE):
        got = server.ok(path, body_of(path, "Is this a dagger", n=n, decode_mode=mode))
        ids = ids_of(path, got)
        assert len(ids) == n == got["timings"]["predicted_n"] and ids == want["ids"]
        longer = server.ok(path, body_of(path, "Is this a dagger", n=80, decode_mode=mode))
        assert ids == ids_of(path, longer)[:n]  # a limit cuts, it changes nothing before
        assert text_of(path, longer).startswith(text_of(path, got).rstrip("\ufffd"))  # half a character at the cut


# ---- Streams

@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fields", [
    {}, {"stop": ["e", "th"]}, {"stop": ["\n", "you", "our "]}, {"seed": 3, "temperature": 1},
    {"seed": 4, "temperature": 100},  # any token: pieces of characters, control tokens
    {"seed": 5, "temperature": 3, "stop": "a"},
    {"repetition_penalty": 1.3, "min_tokens": 20, "ignore_eos": False}], ids=str)
def test_deltas_equal_the_plain_text(server, mode, fields):
    for path in ALL:
        body = body_of(path, n=100, decode_mode=mode, **fields)
        plain = server.ok(path, body)
        events = server.events(path, body)
        assert streamed_text(path, events) == text_of(path, plain)
        if path == NATIVE:
            assert events[-1]["stop_type"] == plain["stop_type"]
            assert sum((e["tokens"] for e in events), []) == plain["tokens"]
            continue
        choices = [c for e in events[:-1] for c in e["choices"]]
        assert choices[-1]["finish_reason"] == plain["choices"][0]["finish_reason"]
        assert sum((c.get("token_ids", []) for c in choices), []) == ids_of(path, plain)


def test_committed_runs_are_streamed_as_they_come(server):
    body = body_of(CHAT, n=100, decode_mode="adaptive")
    deltas = [c["token_ids"] for e in server.events(CHAT, body)[:-1] for c in e["choices"] if "token_ids" in c]
    assert len(deltas) > 100 / 32  # at least a chunk for each block of 32
    assert max(map(len, deltas)) > 1  # and several tokens at once


@pytest.mark.parametrize("mode", DIFFUSION)
def test_usage_of_a_stream_is_that_of_the_plain_answer(server, mode):
    body = body_of(CHAT, n=50, decode_mode=mode)
    plain = server.ok(CHAT, body)
    options = {"include_usage": True, "continuous_usage_stats": True}
    *events, usage, done = server.events(CHAT, dict(body, stream_options=options))
    assert done == "[DONE]" and usage["choices"] == [] and usage["usage"] == plain["usage"]
    assert events[-1]["timings"]["passes"] == plain["timings"]["passes"]
    counts = [e["usage"]["completion_tokens"] for e in events]
    assert counts == sorted(counts) and counts[-1] == 50
    assert "completion_tokens_details" not in events[1]["usage"]  # it goes on


@pytest.mark.parametrize("mode", MODES)
def test_timings_of_each_chunk_count_on(server, mode):
    events = server.events(TEXT, body_of(TEXT, n=50, decode_mode=mode, timings_per_token=True))[:-1]
    counts = [e["timings"]["predicted_n"] for e in events]
    assert counts == sorted(counts) and counts[-1] == 50


@pytest.mark.parametrize("mode", MODES)
def test_a_stop_string_across_two_committed_runs(server, mode):
    body = body_of(TEXT, n=80, decode_mode=mode)
    full = text_of(TEXT, server.ok(TEXT, body))
    deltas = [c["text"] for e in server.events(TEXT, body)[:-1] for c in e["choices"] if c["text"]]
    assert "".join(deltas) == full
    tried = 0
    for before, after in zip(deltas, deltas[1:]):
        word = before[-2:] + after[:2]
        if full.count(word) != 1:
            continue
        tried += 1
        c = server.ok(TEXT, dict(body, stop=[word]))["choices"][0]
        assert (c["text"], c["finish_reason"]) == (full[: full.index(word)], "stop")
        assert completion_text(server.events(TEXT, dict(body, stop=[word]))) == c["text"]
        kept = server.ok(TEXT, dict(body, stop=[word], include_stop_str_in_output=True))["choices"][0]
        assert kept["text"] == c["text"] + word
        if tried == 3:
            break
    assert tried > 0


# ---- Logprobs

@pytest.mark.parametrize("mode", MODES)
def test_logprobs_of_diffusion_are_flagged(server, mode):
    kind = "dlm" if mode in DIFFUSION else None
    body = body_of(CHAT, n=60, decode_mode=mode, logprobs=True, top_logprobs=2)
    (c,) = server.ok(CHAT, body)["choices"]
    assert c["logprobs"].get("logprobs_kind") == kind
    content = c["logprobs"]["content"]
    assert len(content) == 60 and all(len(t["top_logprobs"]) == 2 and t["logprob"] <= 0 for t in content)
    assert all(t["token"] == t["top_logprobs"][0]["token"] for t in content)  # greedy takes the best of its pass
    chunks = [x["logprobs"] for e in server.events(CHAT, body)[:-1] for x in e["choices"] if x["logprobs"]]
    assert all(x.get("logprobs_kind") == kind for x in chunks)
    assert sum((x["content"] for x in chunks), []) == content

    text = body_of(TEXT, n=60, decode_mode=mode, logprobs=2)
    (c,) = server.ok(TEXT, text)["choices"]
    lp = c["logprobs"]
    assert lp.pop("logprobs_kind", None) == kind
    joined = {k: [] for k in lp}
    for e in server.events(TEXT, text)[:-1]:
        for x in e["choices"]:
            if x["logprobs"]:
                assert x["logprobs"].pop("logprobs_kind", None) == kind
                for k, v in x["logprobs"].items():
                    joined[k] += v
    assert joined == lp and {len(v) for v in lp.values()} == {60}

    native = body_of(NATIVE, n=60, decode_mode=mode, n_probs=2)
    answer = server.ok(NATIVE, native)
    assert answer.get("logprobs_kind") == kind
    assert [p["id"] for p in answer["completion_probabilities"]] == answer["tokens"]
    events = server.events(NATIVE, native)
    assert sum((e.get("completion_probabilities", []) for e in events), []) == answer["completion_probabilities"]
    assert all(e.get("logprobs_kind") == kind for e in events if "completion_probabilities" in e)
    # Being asked for them changes no token.
    assert answer["tokens"] == ids_of(NATIVE, server.ok(NATIVE, body_of(NATIVE, n=60, decode_mode=mode)))
    assert "logprobs_kind" not in server.ok(NATIVE, body_of(NATIVE, n=2, decode_mode=mode))


# ---- Side by side

def test_modes_side_by_side_give_the_text_that_they_give_alone(model):
    bodies = [chat(f"Act {i}", max_tokens=60, temperature=1.1, seed=i, ignore_eos=True, return_token_ids=True,
                   decode_mode=MODES[i % len(MODES)]) for i in range(15)]
    bodies += [chat("Act x", max_tokens=60, temperature=0, return_token_ids=True, block_size=size,
                    decode_mode="adaptive") for size in (1, 8, 128)]
    with Server(model, "--max-running", 8) as s:
        alone = [s.ok(CHAT, b)["choices"] for b in bodies]
        for streamed in (False, True):
            got = [None] * len(bodies)

            def one(i):
                if streamed:
                    got[i] = chat_text(s.events(CHAT, bodies[i]))
                else:
                    got[i] = s.ok(CHAT, bodies[i])["choices"]

            threads = [threading.Thread(target=one, args=(i,)) for i in range(len(bodies))]
            for t in threads:
                t.start()
            for t in threads:
                t.join(PATIENCE)
            assert got == ([a[0]["message"]["content"] for a in alone] if streamed else alone)


@pytest.mark.parametrize("mode", [*DIFFUSION, "verify"])
def test_a_client_that_leaves_between_passes_frees_its_place(model, mode):
    def body(what, m):
        return chat(f"Speak of {what}.", ignore_eos=True, temperature=0, decode_mode=m)  # to the end of the context

    with Server(model, "--max-running", 3) as s:
        bodies = [body("love", "ar"), body("war", mode), body("ghosts", mode), body("kings", mode)]
        alone = [s.ok(CHAT, b)["choices"][0]["message"]["content"] for b in bodies]
        for attempt in range(5):  # the order of events is the server's; the scheduler of this machine may blur it
            a, b = Reader(s.stream(CHAT, bodies[0])), Reader(s.stream(CHAT, bodies[1]))
            dropped = s.stream(CHAT, bodies[2])
            for _ in range(2):  # the role, and the first run of tokens
                next(dropped)
            dropped.close()
            # All places but the dropped one are taken: this one can only start before the others end if it is free.
            d = Reader(s.stream(CHAT, bodies[3]))
            assert [a.text(), b.text(), d.text()] == [alone[0], alone[1], alone[3]]
            if max(a.first, b.first, d.first) < min(a.last, b.last):
                break
        else:
            pytest.fail("no token of one stream came before another ended")


def test_salts_and_cache_prompt_part_the_prefix_cache(server):
    def cached(**fields):
        body = {"prompt": [700 + i % 50 for i in range(100)], "max_tokens": 2, "temperature": 0, "decode_mode": "ar"}
        r = server.ok(TEXT, dict(body, **fields))
        return r["usage"]["prompt_tokens_details"]["cached_tokens"], r["choices"][0]["text"]

    first, text = cached(cache_salt="tenant-a")
    assert first == 0
    assert cached(cache_salt="tenant-b") == (0, text)
    assert cached(cache_salt="tenant-a") == (96, text)
    assert cached(cache_salt="tenant-a", cache_prompt=False) == (0, text)
    assert cached() == (0, text)
    assert cached() == (96, text)
