"""Streams that end before their time: each is settled once, with at least what went out, and says when it guessed."""

import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.gateway.world import PLAIN, chat, read_all, until
from tests.money.world import ENGINE_ROUTES, Holder, Till

KINDS = ("stub", "vllm")
"""What says its usage at the end, and what says it along the way."""
SLOW = {"tokens": 400, "token_s": 0.02}


@pytest.fixture(scope="module")
def till() -> Iterator[Till]:
    """A till whose clients may not stop reading for long, and whose books must agree in the end."""
    made = Till(write_timeout=0.5, request_timeout=1)
    try:
        key = made.holder()
        made.spender = key  # type: ignore[attr-defined]
        everything = made.budget(f"key:{key.id}", "tokens", 10**9)
        for kind in KINDS:
            made.on(kind, made.engine(), kind, ENGINE_ROUTES)
        made.gateway()
        yield made
        made.stop()
        assert made.agree(everything, "tokens") > 0
    finally:
        made.close()


@pytest.fixture
def key(till: Till) -> Holder:
    return till.spender  # type: ignore[attr-defined]


def tokens(text: str) -> int:
    return text.count('"content": "tok')


def stream(till: Till, key: Holder, name: str, model: str, upto: int | None = None, **more: Any) -> int:
    """How many tokens a client got that leaves after `upto` of them."""
    headers = {"authorization": f"Bearer {key.secret}", "x-request-id": name, **more.pop("headers", {})}
    asked = chat(model, stream=True, max_tokens=500, **more)
    got = 0
    with PLAIN.stream("POST", f"{till.url}/v1/chat/completions", json=asked, headers=headers) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            got += tokens(line)
            if got == upto:
                break
    return got


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_leaves_within_a_stream_is_charged_what_went_out(till: Till, key: Holder, kind: str) -> None:
    name = f"left-{kind}"
    assert stream(till, key, name, kind, upto=12, stub=SLOW) == 12
    line = till.line(name)
    assert line["status"] == 499 and 12 <= line["output_tokens"] < 100
    assert line["estimated"] == (kind == "stub"), "what an engine says along the way is no estimate"
    assert line["input_tokens"] > 0


@pytest.mark.parametrize("kind", KINDS)
def test_every_choice_of_a_stream_that_is_left_is_charged(till: Till, key: Holder, kind: str) -> None:
    """vLLM says along the way what one choice took, not all of them."""
    name = f"choices-{kind}"
    assert stream(till, key, name, kind, upto=40, n=4, stub=SLOW) == 40
    line = till.line(name)
    assert 40 <= line["output_tokens"] < 200 and line["estimated"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_that_its_engine_breaks_off_is_charged_what_went_out(till: Till, key: Holder, kind: str) -> None:
    name = f"cut-{kind}"
    got = stream(till, key, name, kind, stub={"cut": "middle"})
    line = till.line(name)
    assert got == 2 and line["status"] == 502 and 2 <= line["output_tokens"] <= 3
    assert line["estimated"] == (kind == "stub")


def test_an_engine_that_dies_within_a_stream_leaves_its_tokens_charged(till: Till, key: Holder) -> None:
    till.on("mortal", till.engine("--die-after", "1"), "stub", ENGINE_ROUTES)
    got = stream(till, key, "mortal", "mortal")
    line = till.line("mortal")
    assert got == 2 and line["status"] == 502 and 2 <= line["output_tokens"] <= 3 and line["estimated"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_deadline_cuts_a_stream_and_what_went_out_is_charged(till: Till, key: Holder, kind: str) -> None:
    name = f"late-{kind}"
    headers = {"x-modelport-deadline-ms": "300"}
    began = time.monotonic()
    got = stream(till, key, name, kind, headers=headers, stub=SLOW)
    assert time.monotonic() - began < 5
    line = till.line(name)
    assert line["status"] == 504 and got > 0 and got <= line["output_tokens"] <= got + 3


def test_a_client_that_stops_reading_is_cut_off_and_charged(till: Till, key: Holder) -> None:
    """What was written for it counts, whether it was read or not."""
    body = b'{"model":"stub","messages":[{"role":"user","content":"x"}],"stream":true,"stub":{"tokens":150000}}'
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", till.port))
        sock.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-request-id: stalled\r\nauthorization: Bearer "
            + key.secret.encode()
            + b"\r\ncontent-length: %d\r\n\r\n" % len(body)
            + body
        )
        line = till.line("stalled")
        got = tokens(read_all(sock).decode("utf-8", "replace"))
    assert line["status"] == 499 and line["estimated"]
    assert 0 < got <= line["output_tokens"] < 150_000


def test_an_answer_that_nobody_waited_for_counts_at_its_worst(till: Till, key: Holder) -> None:
    with pytest.raises(httpx.TimeoutException):
        httpx.post(
            f"{till.url}/v1/chat/completions",
            json=chat("stub", max_tokens=77, stub={"delay_s": 5}),
            headers={"authorization": f"Bearer {key.secret}", "x-request-id": "abandoned"},
            timeout=0.3,
        )
    line = till.line("abandoned")
    assert (line["status"], line["output_tokens"], line["estimated"]) == (499, 77, True)


def test_an_engine_that_falls_silent_counts_at_its_worst(till: Till, key: Holder) -> None:
    answer = till.ask(key, "stub", "silent", max_tokens=77, stub={"delay_s": 5})
    assert answer.status_code == 504
    line = till.line("silent")
    assert (line["output_tokens"], line["estimated"]) == (77, True)


def test_an_engine_that_refuses_took_nothing(till: Till, key: Holder) -> None:
    assert till.ask(key, "stub", "refused", max_tokens=77, stub={"status": 400}).status_code == 400
    line = till.line("refused")
    assert (line["input_tokens"], line["output_tokens"], line["estimated"]) == (0, 0, False)


def test_a_stream_in_anthropics_words_that_breaks_off_is_charged_what_went_out(till: Till, key: Holder) -> None:
    """Translated: the engine's own events count, not the words they became."""
    till.on("chat-only", till.engine(), "stub", ("POST /v1/chat/completions",))
    headers = {"authorization": f"Bearer {key.secret}", "x-request-id": "words"}
    asked = chat("chat-only", stream=True, max_tokens=500)
    got = 0
    till.on("slow-words", till.engine("--tokens", "400", "--token-s", "0.02"), "stub", ("POST /v1/chat/completions",))
    asked["model"] = "slow-words"
    with PLAIN.stream("POST", f"{till.url}/v1/messages", json=asked, headers=headers) as answer:
        for line in answer.iter_lines():
            got += "text_delta" in line
            if got == 10:
                break
    line = till.line("words")
    assert line["status"] == 499 and 10 <= line["output_tokens"] < 100 and line["estimated"]
    until(lambda: len(till.records()[0]) == len(till.records()[1]), what="every request to be settled")
