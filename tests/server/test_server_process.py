# SPDX-License-Identifier: Apache-2.0
"""wf-server as a process: requests side by side, clients that leave, full queues, signals, exit codes, and one real
client library."""

import json
import math
import shutil
import socket
import subprocess
import threading
import time

import pytest

from server_util import BIN, PATIENCE, SOURCE, Reader, Server, chat, make_model, read_error

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
LONG = {"ignore_eos": True, "temperature": 0}  # to the end of the context


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


def test_a_checkpoints_folder_is_a_model(model):
    body = chat("Hello", temperature=0, max_tokens=16)
    with Server(model) as s:
        want = s.ok(CHAT, body)["choices"][0]["message"]["content"]
    with Server(str(SOURCE / "models" / "bard") + "/") as s:
        assert s.ok(CHAT, body)["choices"][0]["message"]["content"] == want
        assert [m["id"] for m in json.loads(s.get("/v1/models").data)["data"]] == ["bard"]


def test_streams_share_the_model_and_a_dropped_one_frees_its_place(model):
    bodies = [chat(f"Speak of {what}.", **LONG) for what in ("love", "war", "ghosts", "kings")]
    with Server(model, "--max-running", 3) as s:
        alone = [s.ok(CHAT, b)["choices"][0]["message"]["content"] for b in bodies]
        for attempt in range(5):  # the order of events is the server's; the scheduler of this machine may blur it
            a, b = Reader(s.stream(CHAT, bodies[0])), Reader(s.stream(CHAT, bodies[1]))
            dropped = s.stream(CHAT, bodies[2])
            for _ in range(3):
                next(dropped)
            dropped.close()
            # All places but the dropped one are taken: this one can only start before the others end if it is free.
            d = Reader(s.stream(CHAT, bodies[3]))
            assert [a.text(), b.text(), d.text()] == [alone[0], alone[1], alone[3]]
            if max(a.first, b.first, d.first) < min(a.last, b.last):
                break
        else:
            pytest.fail("no token of one stream came before another ended")


def test_a_waiting_request_that_is_dropped_leaves_the_queue(model):
    with Server(model, "--max-running", 1, "--max-queue", 1) as s:
        def begin():
            end = time.monotonic() + PATIENCE
            while True:
                stream = s.stream(CHAT, chat(**LONG))
                if stream.response.status == 200:
                    return stream
                stream.close()
                assert stream.response.status == 429 and time.monotonic() < end

        for _ in range(8):  # each round takes the place and the queue; were one kept, the next would be refused for ever
            running = begin()
            next(running)
            waiting = s.connect()
            waiting.request("POST", CHAT, json.dumps(chat(**LONG)))
            waiting.close()
            running.close()
        begin().close()


def test_a_full_queue_is_429_and_health_answers(model):
    with Server(model, "--max-running", 1, "--max-queue", 1) as s:
        results = []

        def one():
            results.append(s.post(CHAT, chat(**LONG)))

        threads = [threading.Thread(target=one) for _ in range(8)]
        for t in threads:
            t.start()
        assert s.get("/health").status == 200
        assert s.get("/v1/models").status == 200
        for t in threads:
            t.join(PATIENCE)
        refused = [r for r in results if r.status != 200]
        assert refused and len(refused) < len(results)
        for r in refused:
            assert (r.status, read_error(r)["code"]) == (429, "queue_full")
            assert int(r.headers["retry-after"]) >= 1 and int(r.headers["retry-after-ms"]) >= 1


def test_waiting_too_long_is_503(model):
    with Server(model, "--max-running", 1, "--queue-timeout", 0.02) as s:
        results = []
        threads = [threading.Thread(target=lambda: results.append(s.post(CHAT, chat(**LONG)))) for _ in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(PATIENCE)
        late = [r for r in results if r.status != 200]
        assert late and len(late) < len(results)
        for r in late:
            assert (r.status, read_error(r)["code"]) == (503, "queue_timeout")
            assert r.headers["retry-after"]


def test_many_clients_get_the_text_that_they_would_get_alone(model):
    bodies = [chat(f"Number {i}", max_tokens=24, seed=i, temperature=1.3, ignore_eos=True) for i in range(12)]
    with Server(model, "--max-running", 4) as s:
        alone = [s.ok(CHAT, b)["choices"] for b in bodies]
        got = [None] * len(bodies)

        def one(i):
            got[i] = s.ok(CHAT, bodies[i])["choices"]

        threads = [threading.Thread(target=one, args=(i,)) for i in range(len(bodies))]
        for t in threads:
            t.start()
        for t in threads:
            t.join(PATIENCE)
        assert got == alone


def test_sigterm_under_load_finishes_what_runs_and_exits_0(model):
    with Server(model, "--max-running", 2) as s:
        whole = s.ok(CHAT, chat(**LONG))["choices"][0]["message"]["content"]
        readers = [Reader(s.stream(CHAT, chat(**LONG))) for _ in range(2)]
        plain = []
        waiting = threading.Thread(target=lambda: plain.append(s.post(CHAT, chat(**LONG))))
        assert readers[0].started.wait(PATIENCE)
        waiting.start()
        time.sleep(0.05)  # the plain request is probably queued now; if not it is refused, which is tested as well
        s.process.send_signal(15)
        s.wait_line("draining")
        try:
            r = s.get("/health")
            assert (r.status, read_error(r)["code"]) == (503, 503)
            assert s.error(CHAT, chat(max_tokens=1))[1]["code"] == "draining"
        except OSError:
            pass  # it may have drained already
        assert [r.text() for r in readers] == [whole] * 2
        waiting.join(PATIENCE)
        if plain[0].status == 200:
            assert json.loads(plain[0].data)["choices"][0]["message"]["content"] == whole
        else:
            assert plain[0].status == 503
        assert s.process.wait(PATIENCE) == 0
        assert "drained" in s.stderr()


def test_sigint_without_load_exits_0(model):
    with Server(model) as s:
        assert s.stop(2) == 0


def test_the_drain_has_an_end(model):
    with Server(model, "--max-running", 1, "--drain-timeout", 0.01) as s:
        readers = [Reader(s.stream(CHAT, chat(**LONG)))]
        assert readers[0].started.wait(PATIENCE)
        threads = [threading.Thread(target=lambda: s.post(CHAT, chat(**LONG)), daemon=True) for _ in range(4)]
        for t in threads:
            t.start()
        assert s.stop() == 0
        readers[0].join(PATIENCE)
        if readers[0].events[-1] != "[DONE]":  # cut: an error in the stream, no [DONE] after it
            assert readers[0].events[-1]["error"]["code"] == "draining"


def test_a_second_signal_ends_at_once(model):
    with Server(model, "--max-running", 1, "--max-queue", 16) as s:
        streams = [s.connect() for _ in range(12)]
        for c in streams:  # more than can be drained between two signals
            c.request("POST", CHAT, json.dumps(chat(stream=True, n=4, **LONG)))
        for c in streams[:1]:
            c.getresponse()
        s.process.send_signal(15)
        s.wait_line("draining")
        assert s.stop(15) == 128 + 15


def run(*flags):
    return subprocess.run([BIN / "wf-server", *map(str, flags)], capture_output=True, text=True, timeout=PATIENCE,
                          stdin=subprocess.DEVNULL)


def test_port_in_use(model):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        r = run("-m", model, "--port", port)
        assert r.returncode == 1
        assert f"127.0.0.1:{port}" in r.stderr and "in use" in r.stderr


def test_a_model_that_does_not_load(model, tmp_path):
    missing = tmp_path / "missing.gguf"
    r = run("-m", missing, "--port", 0)
    assert r.returncode == 1 and str(missing) in r.stderr
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(model.read_bytes()[:5000])
    r = run("-m", cut, "--port", 0)
    assert r.returncode == 1 and str(cut) in r.stderr
    r = run("-m", model, "--port", 0, "-c", 100000)
    assert r.returncode == 1 and "512" in r.stderr


@pytest.mark.parametrize("flags", [
    [], ["--nonsense"], ["-m", "x", "--port", "70000"], ["-m", "x", "--kv-type", "f8"], ["-m", "x", "-t", "-1"],
    ["-m", "x", "--max-running", "0"], ["-m", "x", "--queue-timeout", "soon"], ["-m", "x", "extra"]])
def test_bad_usage_exits_2(flags):
    r = run(*flags)
    assert r.returncode == 2 and r.stderr


def test_help_shows_defaults():
    r = run("--help")
    assert r.returncode == 0
    for text in ("--port", "30000", "127.0.0.1", "--kv-type", "f16", "i8", "--drain-timeout", "--strict-model"):
        assert text in r.stdout


def slow_model(folder):
    """A checkpoint that takes long to load: 555 million weights, all of them a hole in a sparse file."""
    bard = SOURCE / "models" / "bard"
    shutil.copytree(bard, folder)
    config = json.loads((bard / "config.json").read_text())
    hidden, ffn, kv, layers = 2560, 6912, 640, 8
    config |= {"hidden_size": hidden, "intermediate_size": ffn, "num_hidden_layers": layers, "num_attention_heads": 20,
               "num_key_value_heads": 5}  # fmt: skip
    del config["quantization_config"]
    (folder / "config.json").write_text(json.dumps(config))
    shapes = {"embed_tokens": [2048, hidden], "norm": [hidden]}
    for i in range(layers):
        p = f"layers.{i}."
        for name in ("input_layernorm", "post_attention_layernorm", "self_attn.attn_sub_norm"):
            shapes[p + name] = [hidden]
        shapes[p + "mlp.ffn_sub_norm"] = [ffn]
        for name, rows in (("q", hidden), ("k", kv), ("v", kv), ("o", hidden)):
            shapes[p + f"self_attn.{name}_proj"] = [rows, hidden]
        shapes |= {p + "mlp.gate_proj": [ffn, hidden], p + "mlp.up_proj": [ffn, hidden], p + "mlp.down_proj": [hidden, ffn]}
    header, at = {}, 0
    for name, shape in shapes.items():
        end = at + 2 * math.prod(shape)
        header[f"model.{name}.weight"] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    with open(folder / "model.safetensors", "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        f.truncate(8 + len(text) + at)


def test_it_listens_before_the_model_is_loaded(tmp_path):
    slow_model(tmp_path / "slow")
    with Server(tmp_path / "slow", wait_ready=False) as s:
        try:
            r = s.get("/health")
        except OSError:
            pytest.fail("not listening while loading: " + s.stderr())
        assert r.status == 503 and r.headers["retry-after"]
        assert json.loads(r.data)["error"] == {"message": "Loading model", "type": "unavailable_error", "code": 503}
        assert s.get("/health/live").status == 200
        (m,) = json.loads(s.get("/v1/models").data)["data"]
        assert (m["id"], m["status"]) == ("slow", "loading")
        status, e = s.error(CHAT, chat())
        assert (status, e["code"]) == (503, "loading_model")
        s.wait_line("model ready")
        assert s.get("/health").status == 200


def test_openai_python(model):
    openai = pytest.importorskip("openai")
    with Server(model) as s:
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{s.port}/v1", api_key="none", timeout=PATIENCE, max_retries=0)
        assert [m.id for m in client.models.list()] == ["bard"]
        messages = [{"role": "user", "content": "Who is there?"}]
        plain = client.chat.completions.create(model="bard", messages=messages, temperature=0, max_tokens=30)
        assert plain.choices[0].finish_reason in ("stop", "length")
        streamed = list(client.chat.completions.create(model="bard", messages=messages, temperature=0, max_tokens=30,
                                                       stream=True, stream_options={"include_usage": True}))
        text = "".join(c.choices[0].delta.content or "" for c in streamed if c.choices)
        assert text == plain.choices[0].message.content
        assert streamed[-1].usage == plain.usage
        done = client.completions.create(model="bard", prompt=["a", "b"], max_tokens=3, logprobs=2, temperature=0)
        assert len(done.choices) == 2 and len(done.choices[0].logprobs.tokens) <= 3
        with pytest.raises(openai.BadRequestError) as e:
            client.chat.completions.create(model="bard", messages=messages, temperature=-1)
        assert (e.value.param, e.value.code) == ("temperature", "invalid_value")
        with pytest.raises(openai.UnprocessableEntityError):
            client.chat.completions.create(model="bard", messages=messages, tool_choice="required")
        with client.chat.completions.create(model="bard", messages=messages, stream=True) as left:
            next(iter(left))
        assert client.chat.completions.create(model="bard", messages=messages, max_tokens=1).choices
