"""Engines that fail, lie, hang or leave, and clients that leave: what the other side sees of it."""

import json
import secrets
import time

import httpx
import psutil
import pytest

from modelport.domain.states import ServiceState
from tests.gateway.world import Engine, World, chat, read_all, until

HEAD = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\ncontent-length: {length}\r\n\r\n"


def sent(world: World, body: dict) -> bytes:
    data = json.dumps(body).encode()
    return HEAD.format(key=world.admin, length=len(data)).encode() + data


def leaves(world: World, engine: Engine, body: dict, wait: bytes | None) -> float:
    """A client that asks, waits for some bytes, and goes; how long the engine went on, in seconds."""
    before = engine.seen()
    with world.raw(sent(world, body)) as sock:
        if wait is None:
            until(lambda: engine.seen()["in_flight"] == 1)
        else:
            data = b""
            while wait not in data:
                data += sock.recv(65536)
    start = time.monotonic()
    until(lambda: engine.seen()["cancelled"] == before["cancelled"] + 1, 5)
    assert engine.seen()["in_flight"] == 0
    return time.monotonic() - start


def test_a_client_that_leaves_within_a_stream_cancels_the_engine(world: World) -> None:
    engine = world.engine()
    world.service("leave-stream", engine)
    body = chat("leave-stream", stream=True, stub={"tokens": 1000, "token_s": 0.02})
    assert leaves(world, engine, body, b"tok3") < 0.5
    line = until(lambda: next((li for li in world.lines() if li["service"] == "leave-stream"), None))
    assert line["status"] == 499


def test_a_client_that_leaves_before_the_answer_cancels_the_engine(world: World) -> None:
    engine = world.engine()
    world.service("leave-wait", engine)
    body = chat("leave-wait", stub={"delay_s": 30})
    assert leaves(world, engine, body, None) < 0.5
    assert until(lambda: [li["status"] for li in world.lines() if li["service"] == "leave-wait"]) == [499]


def test_a_slow_client_slows_the_engine_instead_of_filling_memory(world: World) -> None:
    engine = world.engine()
    world.service("slow-client", engine)
    body = chat("slow-client", stream=True, stub={"tokens": 150_000})
    process = psutil.Process(world.process.pid)
    before = process.memory_info().rss
    with world.raw(sent(world, body)) as sock:
        sock.recv(1000)
        time.sleep(2)  # unhindered, the engine would be done
        assert engine.seen()["in_flight"] == 1  # about 28 MB in all; far less fits the buffers on the way
        assert process.memory_info().rss - before < 8 << 20
        assert b"[DONE]" in _until_done(sock)


def _until_done(sock) -> bytes:
    tail = b""
    while b"[DONE]" not in tail:
        data = sock.recv(1 << 20)
        assert data
        tail = tail[-100:] + data
    return tail


@pytest.mark.parametrize(
    ("status", "seen", "code"),
    [
        (400, 400, "invalid_request"), (404, 404, "not_found"), (413, 413, "request_too_large"),
        (422, 400, "invalid_request"), (409, 400, "invalid_request"), (429, 429, "queue_full"),
        (503, 503, "not_ready"), (401, 502, "engine_fault"), (403, 502, "engine_fault"), (500, 502, "engine_fault"),
        (501, 502, "engine_fault"), (302, 502, "engine_fault"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_an_engines_error_becomes_one_of_ours(
    world: World, engine: Engine, bad: str, status: int, seen: int, code: str, stream: bool
) -> None:
    answer = world.http.post("/v1/chat/completions", json=chat(bad, stream=stream, stub={"status": status}))
    assert (answer.status_code, answer.json()["error"]["code"]) == (seen, code)
    assert engine.key not in answer.text and "127.0.0.1" not in answer.text
    assert answer.headers.get("retry-after") == ("7" if seen in (429, 503) else None)


def test_an_engines_own_words_on_a_bad_request_reach_the_client(world: World, engine: Engine) -> None:
    raw = '{"error":{"message":"context is 64 tokens","param":"messages","code":400}}'
    answer = f"HTTP/1.1 400 Bad\r\ncontent-length: {len(raw)}\r\n\r\n{raw}"
    error = world.http.post("/v1/chat/completions", json=chat("tiny", stub={"raw": answer})).json()["error"]
    assert error == {"message": "context is 64 tokens", "type": "invalid_request_error", "code": "invalid_request",
                     "param": "messages"}  # fmt: skip


LIES = {
    "nothing": "",
    "half a head": "HTTP/1.1 200 OK\r\ncontent-le",
    "not http": "hello\r\n\r\n",
    "two lengths": "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
    "length and chunks": "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}",
    "gzip": "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n{}",
    "too short": 'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"a":',
    "bad chunk": "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    "switching": "HTTP/1.1 101 OK\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    "huge head": "HTTP/1.1 200 OK\r\nx: " + "a" * 100_000 + "\r\n\r\n",
}


@pytest.fixture
def bad(world: World, engine: Engine) -> str:
    """A service of the test's own on the shared engine: its breaker remembers no other test's failures."""
    name = f"bad-{secrets.token_hex(4)}"
    world.service(name, engine)
    return name


@pytest.mark.parametrize("raw", LIES.values(), ids=LIES)
def test_an_answer_that_is_none_becomes_502(world: World, bad: str, raw: str) -> None:
    answer = world.http.post("/v1/chat/completions", json=chat(bad, stub={"raw": raw}))
    assert answer.status_code == 502 and answer.json()["error"]["code"] == "engine_fault"


def test_a_second_answer_on_the_connection_reaches_nobody(world: World, engine: Engine) -> None:
    raw = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nstolen"
    assert world.http.post("/v1/chat/completions", json=chat("tiny", stub={"raw": raw})).text == "{}"
    assert "tok0" in world.http.post("/v1/chat/completions", json=chat("tiny")).text


def test_an_answer_without_a_length_ends_where_the_engine_closes(world: World, engine: Engine) -> None:
    raw = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-type: application/json\r\nset-cookie: a=b\r\n\r\n{}"
    answer = world.http.post("/v1/chat/completions", json=chat("tiny", stub={"raw": raw}))
    assert (answer.status_code, answer.text) == (200, "{}") and "set-cookie" not in answer.headers


def test_an_engine_that_is_silent_is_504(world: World, engine: Engine, bad: str) -> None:
    answer = world.http.post("/v1/chat/completions", json=chat(bad, stub={"delay_s": 10}))
    assert answer.status_code == 504 and answer.json()["error"]["code"] == "engine_timeout"
    until(lambda: engine.seen()["in_flight"] == 0)


@pytest.mark.parametrize("stub", [{"cut": "middle"}, {"tokens": 3, "token_s": 5}], ids=["broken off", "silent"])
def test_a_stream_that_cannot_go_on_ends_with_an_error_event(world: World, bad: str, stub: dict) -> None:
    body = chat(bad, stream=True, stub=stub)
    answer = world.http.post("/v1/chat/completions", json=body, headers={"x-request-id": f"cut-{len(stub)}"})
    assert answer.status_code == 200 and "tok0" in answer.text and "[DONE]" not in answer.text
    last = json.loads(answer.text.strip().rsplit("\n\n", 1)[1].removeprefix("data: "))
    assert last["error"]["code"] in ("engine_fault", "engine_timeout") and last["request_id"] == f"cut-{len(stub)}"
    assert world.line(f"cut-{len(stub)}")["status"] in (502, 504)


def test_a_large_answer_that_breaks_off_is_seen_broken_by_the_client(world: World, bad: str) -> None:
    raw = "HTTP/1.1 200 OK\r\ncontent-length: 900000\r\n\r\n" + "a" * 600_000
    with pytest.raises(httpx.RemoteProtocolError):
        world.http.post("/v1/chat/completions", json=chat(bad, stub={"raw": raw}))


def test_an_engine_that_dies_within_an_answer_is_502(world: World) -> None:
    world.service("dies", world.engine("--die-after", "1"))
    assert world.http.post("/v1/chat/completions", json=chat("dies")).status_code == 502


def test_a_replica_that_cannot_be_reached_is_passed_over(world: World) -> None:
    alive, dead = world.engine(), world.engine()
    world.service("half", alive, dead)
    dead.stop()
    for _ in range(6):
        assert world.http.post("/v1/chat/completions", json=chat("half")).status_code == 200
    assert alive.seen()["requests"] == 6


def test_requests_go_to_the_replica_with_the_fewest_in_flight(world: World) -> None:
    engines = [world.engine(), world.engine()]
    world.service("pair", *engines)
    with world.raw(sent(world, chat("pair", stub={"delay_s": 1}))):
        until(lambda: sum(e.seen()["in_flight"] for e in engines) == 1)
        idle = next(e for e in engines if not e.seen()["in_flight"])
        for _ in range(3):
            assert world.http.post("/v1/chat/completions", json=chat("pair")).status_code == 200
        assert idle.seen()["requests"] == 3
    before = [e.seen()["requests"] for e in engines]
    for _ in range(4):
        world.http.post("/v1/chat/completions", json=chat("pair"))
    assert [e.seen()["requests"] - b for e, b in zip(engines, before, strict=True)] == [2, 2]


def test_a_draining_instance_stays_busy_until_its_last_request_ends(fresh: World) -> None:
    old, new = fresh.engine(), fresh.engine()
    service = fresh.service("rolling")
    row = fresh.instance(service, old)
    fresh.gateway(report_every_s=3)  # what is reported sooner is reported because control waits for it
    fresh.settle()
    with fresh.raw(sent(fresh, chat("rolling", stream=True, stub={"tokens": 12, "token_s": 0.1}))) as sock:
        until(lambda: old.seen()["in_flight"])
        fresh.instance(service, new)
        fresh.drain(row)
        fresh.settle()
        assert row.id in fresh.heartbeat().busy
        assert fresh.http.post("/v1/chat/completions", json=chat("rolling")).status_code == 200
        assert new.seen()["requests"] == 1
        assert b"[DONE]" in _until_done(sock)
        start = time.monotonic()
        until(lambda: row.id not in fresh.heartbeat().busy)
        assert time.monotonic() - start < 0.5


@pytest.mark.parametrize("state", [ServiceState.FAILED, ServiceState.STOPPED])
def test_a_service_that_nobody_starts_is_503_without_the_reason(world: World, state: ServiceState) -> None:
    service = world.service(f"not-{state}", state=state)
    answer = world.http.post("/v1/chat/completions", json=chat(service.name))
    assert answer.status_code == 503 and answer.json()["error"]["code"] == f"service_{state}"
    assert world.control.wakes(service.id) == 0


def test_a_gateway_told_to_end_lets_running_requests_end(fresh: World) -> None:
    engine = fresh.engine()
    fresh.service("last", engine)
    fresh.gateway()
    with fresh.raw(sent(fresh, chat("last", stream=True, stub={"tokens": 10, "token_s": 0.1}))) as sock:
        until(lambda: engine.seen()["in_flight"])
        fresh.process.terminate()
        assert b"[DONE]" in read_all(sock)
    assert fresh.process.wait(5) == 0
    assert fresh.heartbeat() is None
    assert fresh.usage("last").output_tokens == 10 and len(fresh.lines()) == 1
