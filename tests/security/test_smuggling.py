"""Requests that two servers could read differently: refused, the connection ended, and nothing passed on."""

import contextlib
import socket

import pytest

from tests.gateway.world import Engine, World
from tests.security.answers import Answers
from tests.security.corpus import (
    BODY,
    END,
    GET,
    HOSTS,
    REFUSED,
    SMUGGLED,
    TARGETS,
    TWO_HOSTS,
    UNDERSTOOD,
    chunk,
    chunked,
)


def sent(world: World, data: bytes) -> bytes:
    return data.replace(b"{key}", world.admin.encode())


def refused(world: World, engine: Engine, data: bytes) -> None:
    before = engine.seen()["requests"]
    with world.raw(sent(world, data)) as sock:
        answers = Answers(sock)
        answer = answers.next()
        assert answer and 400 <= answer[0] < 500 and answer[1]["error"]["message"], answer
        assert answers.over()
    assert engine.seen()["requests"] == before


@pytest.mark.parametrize(
    "data",
    [pytest.param(data, id=name) for name, data in REFUSED.items()],
)
def test_an_ambiguous_request_is_refused_and_nothing_passed_on(world: World, engine: Engine, data: bytes) -> None:
    refused(world, engine, data)


@pytest.mark.parametrize("data", UNDERSTOOD.values(), ids=UNDERSTOOD)
def test_an_unusual_but_clear_request_is_one_request(world: World, engine: Engine, data: bytes) -> None:
    before = engine.seen()["requests"]
    with world.raw(sent(world, data + GET % b"x")) as sock:
        answers = Answers(sock)
        answer = answers.next()
        assert answer and answer[0] == 200, answer
        assert answers.next() == (200, {"status": "ok"})
    seen = engine.seen()
    assert seen["requests"] == before + 1 and seen["body"] == BODY.decode()
    assert "evil" not in str(seen["headers"])


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_that_is_none_is_400(world: World, engine: Engine, host: bytes) -> None:
    refused(world, engine, GET % host + SMUGGLED)
    refused(world, engine, SMUGGLED.replace(b"host: x", b"host: " + host) + SMUGGLED)


@pytest.mark.parametrize("lines", TWO_HOSTS)
def test_a_request_with_two_hosts_or_none_is_400(world: World, engine: Engine, lines: list[bytes]) -> None:
    refused(world, engine, b"\r\n".join([b"GET /healthz HTTP/1.1", *lines, b"", SMUGGLED]))


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_that_is_no_path_is_400(world: World, engine: Engine, target: bytes) -> None:
    refused(world, engine, b"GET " + target + b" HTTP/1.1\r\nhost: x\r\n\r\n" + SMUGGLED)


@pytest.mark.parametrize(
    ("start", "status"),
    [(b"GET /healthz", 200), (b"GET /nothing", 404), (b"DELETE /healthz", 405), (b"POST /v1/chat/completions", 400),
     (b"POST /v1/completions", 400), (b"GET /v1/models", 200), (b"POST /services/tiny/none", 404)],
)  # fmt: skip
def test_a_request_hidden_in_the_body_of_another_is_not_read(
    world: World, engine: Engine, start: bytes, status: int
) -> None:
    before = engine.seen()["requests"]
    hidden = sent(world, SMUGGLED)
    key = b"x-api-key: " + world.admin.encode()
    for body, line in (
        (hidden, b"content-length: %d" % len(hidden)),
        (chunk(hidden) + END, b"transfer-encoding: chunked"),
    ):
        head = b"\r\n".join([start + b" HTTP/1.1", b"host: x", key, line, b"", b""])
        for whole in (True, False):  # with its body at once, or after the answer could have gone out
            with world.raw(head + body if whole else head) as sock:
                if not whole:
                    with contextlib.suppress(ConnectionError):  # it may have answered without reading the body
                        sock.sendall(body[:10])
                        sock.sendall(body[10:])
                answers = Answers(sock)
                answer = answers.next()
                assert answer and answer[0] == status, answer
                with contextlib.suppress(ConnectionError):
                    sock.sendall(GET % b"x")
                assert answers.next() in ((200, {"status": "ok"}), None)
    assert engine.seen()["requests"] == before


def test_an_expectation_we_do_not_know_brings_no_second_reading(world: World, engine: Engine) -> None:
    for value in (b"200-ok", b"100-continue, x", b"", b"100-Continue"):
        before = engine.seen()["requests"]
        data = UNDERSTOOD["expect"].replace(b"100-continue", value)
        with world.raw(sent(world, data) + GET % b"x") as sock:
            answers = Answers(sock)
            answer = answers.next()
            assert answer and (answer[0] == 200 or 400 <= answer[0] < 500)
            assert answers.next() in ((200, {"status": "ok"}), None)
        assert engine.seen()["requests"] <= before + 1


def until_refused(sock: socket.socket, piece: bytes, most: int) -> int:
    """Send the same piece again and again; the bytes that went out until the other side had enough, or `most`."""
    count = 0
    try:
        while count < most:
            sock.sendall(piece)
            count += len(piece)
    except ConnectionError:
        pass
    return count


@pytest.mark.parametrize(
    "piece",
    [
        pytest.param(b"x-a: " + b"a" * 1000 + b"\r\n", id="many"),
        pytest.param(b"a" * 65536, id="one"),
    ],
)
def test_trailers_without_end_are_cut_off(world: World, engine: Engine, piece: bytes) -> None:
    start = chunk(BODY) + b"0\r\nx-b: "
    with world.raw(sent(world, chunked(start))) as sock:
        assert until_refused(sock, piece, 64 << 20) < 32 << 20


def test_chunk_extensions_without_end_are_cut_off(world: World, engine: Engine) -> None:
    with world.raw(sent(world, chunked(b"3f;"))) as sock:
        assert until_refused(sock, b"a" * 65536, 256 << 20) < 128 << 20


def test_after_all_this_nothing_is_in_the_log_and_the_gateway_serves(world: World, engine: Engine) -> None:
    assert world.http.post("/v1/chat/completions", content=BODY).status_code == 200
    assert "Traceback" not in world.log.read_text() and "ERROR" not in world.log.read_text()
