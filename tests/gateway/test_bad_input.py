"""What strangers send: each gets a plain answer in our shape, and the gateway goes on."""

import socket
import time

import pytest

from tests.gateway.world import Engine, World, chat, read_all, read_answer

BODIES = {
    b"not json": "not valid JSON",
    b"": "not valid JSON",
    b"[1]": "must be a JSON object",
    b"null": "must be a JSON object",
    b'"tiny"': "must be a JSON object",
    b'{"model":"tiny"': "not valid JSON",
    b'{"model":"tiny"}}': "not valid JSON",
    b'{"model":"tiny","a":"\xff"}': "not valid UTF-8",
    '{"model":"tiny"}'.encode("utf-16"): "not valid",
    b'{"model":"tiny","model":"tiny"}': "'model' twice",
    b'{"model":"tiny","mod\\u0065l":"other"}': "'model' twice",
    b'{"model":"tiny","stream":true,"x":1,"stream":false}': "'stream' twice",
    b'{"messages":[]}': "lacks 'model'",
    b'{"model":7}': "'model' must be a string",
    b'{"model":null}': "'model' must be a string",
    b'{"model":"tiny","stream":1}': "'stream' must be true or false",
    b'{"model":"tiny","stream_options":[]}': "'stream_options' must be an object",
    b'{"model":"tiny","stream_options":{"include_usage":"x"}}': "include_usage",
    b'{"model":"tiny","a":' + b"[" * 100_000 + b"]" * 100_000 + b"}": "nested too deeply",
    b'{"a":' * 100_000: "nested too deeply",
}


@pytest.mark.parametrize(("body", "sentence"), BODIES.items(), ids=range(len(BODIES)))
def test_a_bad_body_is_400_with_a_sentence(world: World, engine: Engine, body: bytes, sentence: str) -> None:
    before = engine.seen()["requests"]
    answer = world.http.post("/v1/chat/completions", content=body)
    error = answer.json()["error"]
    assert answer.status_code == 400 and sentence in error["message"] and error["type"] == "invalid_request_error"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert engine.seen()["requests"] == before


def head(world: World, *lines: bytes, path: bytes = b"/v1/chat/completions", host: bool = True) -> bytes:
    given = [b"host: x"] if host else []
    return b"\r\n".join(
        [b"POST " + path + b" HTTP/1.1", *given, b"x-api-key: " + world.admin.encode(), *lines, b"", b""]
    )


HEADS = {
    "two hosts": [b"host: a", b"host: b"],
    "no host": [],
    "two lengths": [b"host: a", b"content-length: 2", b"content-length: 2"],
    "two lengths in one": [b"host: a", b"content-length: 2, 2"],
    "length and chunks": [b"host: a", b"content-length: 2", b"transfer-encoding: chunked"],
    "chunks and length": [b"host: a", b"transfer-encoding: chunked", b"content-length: 2"],
    "gzip": [b"host: a", b"transfer-encoding: gzip"],
    "gzip, chunked": [b"host: a", b"transfer-encoding: gzip, chunked"],
    "chunked twice": [b"host: a", b"transfer-encoding: chunked", b"transfer-encoding: chunked"],
    "xchunked": [b"host: a", b"transfer-encoding: xchunked"],
    "negative": [b"host: a", b"content-length: -1"],
    "space before colon": [b"host : a"],
    "folded": [b"host: a", b"x: y\r\n z: w"],
    "nul": [b"host: a", b"x: \x00"],
    "upgrade": [b"host: a", b"connection: upgrade", b"upgrade: h2c", b"content-length: 0"],
    **{f"host with {c!r}": [b"host: a" + c + b"b"] for c in (b"/", b"?", b"#", b"@", b"\\", b" ")},
}


@pytest.mark.parametrize("lines", HEADS.values(), ids=HEADS)
def test_an_ambiguous_head_is_400_and_the_connection_ends(world: World, lines: list[bytes]) -> None:
    with world.raw(head(world, *lines, host=False)) as sock:
        status, answer = read_answer(sock)
        assert status == 400 and answer["error"]["type"] == "invalid_request_error"
        assert read_all(sock) == b""


@pytest.mark.parametrize("start", [b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x00" * 100,
                                   b"GET http://x/healthz HTTP/1.1\r\nhost: x\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                                   b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n"])  # fmt: skip
def test_what_is_not_http_is_400(world: World, start: bytes) -> None:
    assert world.exchange(start)[0] == 400


def test_http_1_0_needs_no_host(world: World) -> None:
    assert world.exchange(b"GET /healthz HTTP/1.0\r\n\r\n") == (200, {"status": "ok"})


def test_a_header_of_5_mb_is_431(world: World) -> None:
    with world.raw(head(world)[:-2] + b"x-big: ") as sock:
        try:
            for _ in range(80):
                sock.sendall(b"a" * 65536)
        except ConnectionError:
            pass
        assert read_answer(sock)[0] == 431


def test_many_headers_that_end_are_431_too(world: World) -> None:
    lines = [b"x-%d: %s" % (i, b"a" * 100) for i in range(300)]
    assert world.exchange(head(world, *lines))[0] == 431


@pytest.mark.parametrize("sent", [b"", b"POST", b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"])
def test_a_header_that_never_ends_is_408(world: World, sent: bytes) -> None:
    with world.raw(sent) as sock:
        start = time.monotonic()
        status, answer = read_answer(sock)
        assert status == 408 and answer["error"]["code"] == "request_timeout"
        assert 0.4 < time.monotonic() - start < 4


def test_a_header_a_byte_at_a_time_is_408(world: World) -> None:
    with world.raw() as sock:
        start = time.monotonic()
        try:
            for byte in head(world, b"x-slow: " + b"a" * 100):
                sock.sendall(bytes([byte]))
                time.sleep(0.02)
        except ConnectionError:
            pass
        assert time.monotonic() - start < 4
        assert read_answer(sock)[0] == 408


def test_a_body_that_stops_or_trickles_is_408(world: World) -> None:
    for piece in (b"", b"a"):
        with world.raw(head(world, b"content-length: 1000")) as sock:
            sock.settimeout(0.1)
            start = time.monotonic()
            while time.monotonic() - start < 5:
                try:
                    sock.sendall(piece)
                    if sock.recv(1, socket.MSG_PEEK):
                        break
                except TimeoutError:
                    pass
            sock.settimeout(5)
            assert read_answer(sock)[0] == 408


def test_a_body_of_1_gb_is_413_at_once_by_its_length(world: World) -> None:
    with world.raw(head(world, b"content-length: 1000000000", b"expect: 100-continue")) as sock:
        status, answer = read_answer(sock)
        assert status == 413 and answer["error"]["code"] == "request_too_large"
        assert read_all(sock) == b""


def test_endless_chunks_are_413_once_they_pass_the_limit(world: World) -> None:
    with world.raw(head(world, b"transfer-encoding: chunked")) as sock:
        sent = 0
        try:
            while sent < 1 << 30:
                sock.sendall(b"10000\r\n" + b"a" * 65536 + b"\r\n")
                sent += 65536
        except ConnectionError:
            pass
        assert sent < 32 << 20
        assert read_answer(sock)[0] == 413


def test_a_body_refused_unread_ends_the_connection(world: World) -> None:
    data = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"
    with world.raw(data) as sock:
        assert read_answer(sock)[0] == 401
        assert read_all(sock) == b""


def test_broken_chunks_are_400(world: World) -> None:
    assert world.exchange(head(world, b"transfer-encoding: chunked") + b"zz\r\n")[0] == 400


def test_stray_line_ends_do_not_keep_an_idle_connection(world: World) -> None:
    with world.raw(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n") as sock:
        assert read_answer(sock)[0] == 200
        sock.sendall(b"\r\n\r\n")
        assert read_answer(sock)[0] == 408


def test_pipelined_requests_are_answered_in_order(world: World) -> None:
    with world.raw(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nGET /nothing HTTP/1.1\r\nhost: x\r\n\r\n") as sock:
        time.sleep(0.2)
        text = sock.recv(65536)
    assert text.index(b"200 OK") < text.index(b"404 Not Found")


TRAVERSALS = [
    "..", "%2e%2e", ".", "", "tiny%00", "tiny/..", "tiny/../tiny", "tiny//v1", "tiny/%2e%2e/metrics", "tiny\\v1",
    "..%2ftiny", "tiny%2f", "%74iny", "TINY", "tiny;x", "tiny?", "*", "'", "tiny/v1/../tokenize", "tiny/tokenize/",
    "tiny//tokenize", "tiny/./tokenize", "tiny/%74okenize", "tiny/tokenize%00", "tiny/v1%2fmodels", "tiny/sleep",
    "tiny/v1/load_lora_adapter", "tiny/collective_rpc", "tiny/..;/tokenize", "tiny/metrics", "a" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("path", TRAVERSALS)
def test_no_spelling_reaches_what_is_not_listed(world: World, engine: Engine, path: str) -> None:
    before = engine.seen()["requests"]
    line = b"/services/" + path.encode() + (b"" if "/" in path else b"/tokenize")
    status, answer = world.exchange(head(world, b"content-length: 2", path=line) + b"{}")
    assert status == 404 and answer["error"]["code"] == "not_found"
    assert engine.seen()["requests"] == before


def test_nothing_of_all_this_left_a_traceback(world: World, engine: Engine) -> None:
    assert world.http.post("/v1/chat/completions", json=chat("tiny")).status_code == 200
    assert "Traceback" not in world.log.read_text() and "ERROR" not in world.log.read_text()
