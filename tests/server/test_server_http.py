# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 below the API: framing, limits, connections; by raw sockets."""

import json
import random
import socket

import pytest

from server_util import PATIENCE, Server, chat, make_model, read_error

TEXT, CHAT = "/v1/completions", "/v1/chat/completions"
BODY = json.dumps({"prompt": "To be", "max_tokens": 4, "temperature": 0}).encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(make_model(tmp_path_factory.mktemp("model")), "--body-limit", 0.01) as s:
        yield s
        assert s.stop() == 0


@pytest.fixture
def raw(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as s:
        yield s


def read_response(f):
    """(status line, headers, body) of one answer on a file-like socket."""
    status = f.readline()
    headers = {}
    while (line := f.readline()) not in (b"\r\n", b""):
        name, value = line.decode("latin-1").split(":", 1)
        headers[name.lower()] = value.strip()
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while n := int(f.readline(), 16):
            body += f.read(n)
            assert f.read(2) == b"\r\n"
        assert f.readline() == b"\r\n"
    elif "content-length" in headers:
        body = f.read(int(headers["content-length"]))
    else:
        body = f.read()
    return status, headers, body


def post(body=BODY, path=TEXT, version="1.1", extra=""):
    return f"POST {path} HTTP/{version}\r\nHost: x\r\n{extra}Content-Length: {len(body)}\r\n\r\n".encode() + body


def text_of(answer):
    return json.loads(answer[2])["choices"][0]["text"]


def test_keep_alive_serves_many_requests_on_one_connection(server):
    c = server.connect()
    for i in range(5):
        assert server.request("POST", TEXT, BODY, connection=c).status == 200
        assert server.request("GET", "/health", connection=c).status == 200
        assert server.request("POST", TEXT, "{", connection=c).status == 400
        s = server.request("POST", CHAT, chat(stream=True, max_tokens=3), connection=c)
        assert s.status == 200 and s.data.endswith(b"data: [DONE]\n\n")
    c.close()


def test_pipelined_requests_are_answered_in_order(raw):
    raw.sendall(post() + b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" + post(path="/nowhere") + post())
    f = raw.makefile("rb")
    answers = [read_response(f) for _ in range(4)]
    assert [a[0].split()[1] for a in answers] == [b"200", b"200", b"404", b"200"]
    assert text_of(answers[0]) == text_of(answers[3])


def test_any_split_of_a_request_gives_the_same_answer(server):
    chunked = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    for i in range(0, len(BODY), 7):
        part = BODY[i:i + 7]
        chunked += f"{len(part):x};ext=1\r\n".encode() + part + b"\r\n"
    chunked += b"0\r\nTrailer: x\r\n\r\n"
    rng = random.Random(1)
    texts = set()
    for message in (post(), chunked):
        for cut in range(6):
            cuts = [len(message)] if cut == 0 else list(range(1, len(message))) if cut == 1 else sorted(
                rng.sample(range(1, len(message)), 5))
            with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as s:
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for a, b in zip([0, *cuts], [*cuts, len(message)]):
                    s.sendall(message[a:b])
                answer = read_response(s.makefile("rb"))
            assert answer[0] == b"HTTP/1.1 200 OK\r\n"
            texts.add(text_of(answer))
    assert len(texts) == 1


def test_expect_100_continue(raw):
    head, body = post(extra="Expect: 100-continue\r\n").split(b"\r\n\r\n")
    raw.sendall(head + b"\r\n\r\n")
    f = raw.makefile("rb")
    assert f.readline() == b"HTTP/1.1 100 Continue\r\n" and f.readline() == b"\r\n"
    raw.sendall(body)
    assert read_response(f)[0] == b"HTTP/1.1 200 OK\r\n"


def test_http_1_0(server, raw):
    raw.sendall(post(json.dumps(chat(stream=True, max_tokens=3)).encode(), CHAT, "1.0"))
    status, headers, body = read_response(raw.makefile("rb"))
    assert status == b"HTTP/1.0 200 OK\r\n" and "transfer-encoding" not in headers
    assert headers["connection"] == "close" and body.endswith(b"data: [DONE]\n\n")


def test_connection_close_is_obeyed(raw):
    raw.sendall(post(extra="Connection: close\r\n"))
    f = raw.makefile("rb")
    status, headers, _ = read_response(f)
    assert status == b"HTTP/1.1 200 OK\r\n" and headers["connection"] == "close"
    assert f.read() == b""


@pytest.mark.parametrize("framing", ["length", "chunked", "expect"])
def test_a_body_over_the_limit_is_413_and_closes(server, raw, framing):
    body = b" " * 500_000
    if framing == "chunked":
        raw.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        raw.sendall(f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n")
    elif framing == "length":
        raw.sendall(post(body))
    else:
        raw.sendall(post(body, extra="Expect: 100-continue\r\n").split(b"\r\n\r\n")[0] + b"\r\n\r\n")
    f = raw.makefile("rb")
    status, headers, data = read_response(f)
    assert status == b"HTTP/1.1 413 Content Too Large\r\n" and headers["connection"] == "close"
    e = json.loads(data)["error"]
    assert (e["type"], e["code"]) == ("invalid_request_error", "body_too_large")
    raw.shutdown(socket.SHUT_WR)
    assert f.read() == b""
    assert server.get("/health").status == 200


def test_a_head_over_the_limit_is_431(raw):
    raw.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 20000 + b"\r\n\r\n")
    status, _, data = read_response(raw.makefile("rb"))
    assert status.split()[1] == b"431" and json.loads(data)["error"]["message"]


def test_too_many_fields_are_431(raw):
    raw.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"A:\r\n" * 200 + b"\r\n")
    assert read_response(raw.makefile("rb"))[0].split()[1] == b"431"


@pytest.mark.parametrize("bad", [
    b"NONSENSE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    b"GET /health HTTP/1.1\r\nBad Header: x\r\n\r\n", b"POST /v1/completions HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
    b"POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /v1/completions HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"])
def test_what_is_not_http_is_400_in_json(server, raw, bad):
    raw.sendall(bad)
    status, headers, data = read_response(raw.makefile("rb"))
    assert status.split()[1] in (b"400", b"413") and headers["content-type"] == "application/json; charset=utf-8"
    assert json.loads(data)["error"]["type"] == "invalid_request_error"
    assert server.get("/health").status == 200


def test_unknown_expectations_are_417(raw):
    raw.sendall(post(extra="Expect: magic\r\n"))
    assert read_response(raw.makefile("rb"))[0].split()[1] == b"417"


def test_idle_and_half_sent_connections_do_not_hinder_others(server):
    idle = [socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) for _ in range(200)]
    for s in idle[::2]:
        s.sendall(b"POST /v1/completions HTTP/1.1\r\nContent-Length: 100\r\n\r\n{")
    assert server.ok(TEXT, BODY)["choices"]
    for s in idle:
        s.close()
    assert server.get("/health").status == 200


def test_errors_on_a_path_with_a_query(server):
    r = server.get("/health?probe=1")
    assert r.status == 200
    assert read_error(server.get("/nothing?x=1"))["code"] == "unknown_path"
