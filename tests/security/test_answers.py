"""Answers that two clients could read differently: a broken one is 502, and never spoils the next request's answer."""

import socket
from collections.abc import Callable

import pytest

from tests.gateway.world import World, chat
from tests.security.raw_engine import RawEngine, good

EVIL = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 16\r\n\r\n{"nonce":"evil"}'
START = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
LENGTH = b"content-length: 2\r\n"


def chunks(*lines: bytes, body: bytes) -> bytes:
    return START + b"transfer-encoding: chunked\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


BROKEN = {
    "length, then chunks": START + LENGTH + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n" + EVIL,
    "chunks, then length": chunks(b"content-length: 2", body=b"0\r\n\r\n" + EVIL),
    "two lengths": START + LENGTH + b"content-length: 200\r\n\r\n{}" + EVIL,
    "two lengths alike": START + LENGTH + LENGTH + b"\r\n{}" + EVIL,
    **{
        f"length {value!r}": START + b"content-length: " + value + b"\r\n\r\n{}" + EVIL
        for value in (b"+2", b"-2", b"0x2", b"2,2", b"2 2", b"", b"two", b"18446744073709551618")
    },
    **{
        f"coding {value!r}": START + b"transfer-encoding: " + value + b"\r\n\r\n0\r\n\r\n" + EVIL
        for value in (b"gzip", b"gzip, chunked", b"chunked, gzip", b"identity", b"xchunked", b"chunked;q=1", b"")
    },
    "coding twice": chunks(b"transfer-encoding: chunked", body=b"0\r\n\r\n" + EVIL),
    **{
        f"chunk size {size!r}": chunks(body=size + b"\r\n{}\r\n0\r\n\r\n" + EVIL)
        for size in (b"-2", b"+2", b"0x2", b" 2", b"2 ", b"g", b"", b"10000000000000002", b"2\x00")
    },
    "chunk size by a bare LF": chunks(body=b"2\n{}\r\n0\r\n\r\n" + EVIL),
    "chunk without its end": chunks(body=b"2\r\n{}0\r\n\r\n" + EVIL),
    "folded": START + b"x: y\r\n z\r\n" + LENGTH + b"\r\n{}" + EVIL,
    "bare LF": START + b"x: y\n" + LENGTH + b"\r\n{}" + EVIL,
    "bare CR": START + b"x: y\rz: w\r\n" + LENGTH + b"\r\n{}" + EVIL,
    "NUL": START + b"x: \x00\r\n" + LENGTH + b"\r\n{}" + EVIL,
    "space before the colon": START + b"content-length : 2\r\n\r\n{}" + EVIL,
    "no colon": START + b"hello\r\n" + LENGTH + b"\r\n{}" + EVIL,
    "HTTP/0.9": b'{"nonce":"evil"}',
    "status of two digits": EVIL.replace(b"200 OK", b"20 OK"),
    "status of four digits": EVIL.replace(b"200 OK", b"2000 OK"),
    "status in letters": EVIL.replace(b"200 OK", b"abc OK"),
    "HTTP/3.0": EVIL.replace(b"1.1", b"3.0"),
    "HTTP/0.9 by name": EVIL.replace(b"1.1", b"0.9"),
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n" + EVIL,
    "a request": b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
    "binary": bytes(range(256)),
    "header bomb": START + b"x: " + b"a" * (1 << 20) + b"\r\n" + LENGTH + b"\r\n{}",
    "many headers": START + b"x: y\r\n" * 100_000 + LENGTH + b"\r\n{}",
    "hints without end": b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" * 100_000 + EVIL,
}  # fmt: skip
"""Each is 502, and its connection is not used again."""

ODD = {
    "two answers": lambda own: own + EVIL,
    "half of a second answer": lambda own: own + EVIL[:20],
    "more than its length": lambda own: own + b"{}",
    "204 with a body": lambda own: b"HTTP/1.1 204 No Content\r\ncontent-length: 16\r\n\r\n" + b'{"nonce":"evil"}',
    "200 with the body of the next": lambda own: START + b"content-length: 2\r\n\r\n{}" + EVIL,
    "chunks and a second answer": lambda own: chunks(body=b"2\r\n{}\r\n0\r\n\r\n" + EVIL),
    "chunks with a trailer": lambda own: chunks(body=b"2\r\n{}\r\n0\r\ncontent-length: 5\r\nx: y\r\n\r\n"),
    "100 first": lambda own: b"HTTP/1.1 100 Continue\r\n\r\n" + own,
    "line ends after it": lambda own: own + b"\r\n\r\n",
    "close after it": lambda own: own.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1) + EVIL,
    "HTTP/1.0": lambda own: own.replace(b"1.1", b"1.0", 1) + EVIL,
}  # fmt: skip
"""Each may count as an answer, but nothing of what follows it may."""


def ask(world: World, nonce: str) -> tuple[int, str]:
    answer = world.http.post("/v1/chat/completions", json=chat("noted", nonce=nonce), timeout=8)
    return answer.status_code, answer.text


def own_answer(world: World, nonce: str) -> None:
    status, text = ask(world, nonce)
    assert status == 200 and f'"{nonce}"' in text


def forgiven(world: World, nonce: str) -> None:
    """As many good answers as make a failure among them no reason to leave the replica alone."""
    for _ in range(12):
        own_answer(world, f"after{nonce}")


def used_again(noted: RawEngine, nonce: str) -> bool:
    return any(nonce in lines[:-1] for lines in noted.connections)


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_answer_is_502_and_the_next_request_gets_its_own(world: World, noted: RawEngine, case: str) -> None:
    nonce = f"broken{list(BROKEN).index(case)}"
    noted.answers[nonce] = closing(BROKEN[case])
    own_answer(world, f"before{nonce}")
    status, text = ask(world, nonce)
    assert status == 502 and "evil" not in text and '"engine_fault"' in text
    forgiven(world, nonce)
    assert not used_again(noted, nonce)


@pytest.mark.parametrize("case", ODD)
def test_what_follows_an_answer_is_nobodys(world: World, noted: RawEngine, case: str) -> None:
    nonce = f"odd{list(ODD).index(case)}"
    answer = b'{"nonce": "%b"}' % nonce.encode()
    noted.answers[nonce] = ODD[case](good(answer))
    status, text = ask(world, nonce)
    assert status in (200, 204, 502) and "evil" not in text
    forgiven(world, nonce)


def test_an_answer_that_nobody_asked_for_ends_the_connection(world: World, noted: RawEngine) -> None:
    sockets: list[socket.socket] = []

    def keep(sock: socket.socket) -> None:
        sockets.append(sock)
        sock.sendall(good(b'{"nonce": "kept"}'))

    noted.answers["kept"] = keep
    assert ask(world, "kept")[0] == 200
    sockets[0].sendall(EVIL)
    own_answer(world, "next")
    own_answer(world, "later")
    assert not used_again(noted, "kept")


def closing(answer: bytes) -> Callable[[socket.socket], None]:
    """Send it and close, so that what has no end of its own has one."""

    def send(sock: socket.socket) -> None:
        try:
            sock.sendall(answer)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    return send


def test_hints_without_end_do_not_hold_a_request(world: World, noted: RawEngine) -> None:
    def flood(sock: socket.socket) -> None:
        while True:
            sock.sendall(b"HTTP/1.1 102 Processing\r\n\r\n" * 1000)

    noted.answers["flood"] = flood
    assert ask(world, "flood")[0] in (502, 504)
    forgiven(world, "flood")


def test_a_header_without_end_does_not_fill_the_memory(world: World, noted: RawEngine) -> None:
    written = []

    def flood(sock: socket.socket) -> None:
        sock.sendall(START + b"x: ")
        while sum(written) < 64 << 20:
            sock.sendall(b"a" * 65536)
            written.append(65536)
        sock.shutdown(socket.SHUT_WR)

    noted.answers["headerflood"] = flood
    assert ask(world, "headerflood")[0] == 502
    assert sum(written) < 32 << 20
    forgiven(world, "headerflood")
