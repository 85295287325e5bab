"""What is kept of requests and answers of keys that opted in, and what never is."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.gateway.bodies import KEPT_BYTES, WAITING, Bodies, Waiting
from modelport.gateway.redact import MARK, redacted
from modelport.gateway.requestlog import Line
from modelport.store import bodies, open_store
from modelport.store.tables import bodies as table
from tests.gateway.world import World, chat, until

LINE = Line(
    id="req-1", at=5.0, request_id="", key_id="key-1", team="", user="", service_id="s", service="tiny",
    instance_id="i", model="tiny", route="/v1/chat/completions", method="POST", status=200,
)  # fmt: skip
SECRETS = (
    "mp-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ",
    "sk-proj-abcdefghijklmnopqrstuvwx",
    "sk-ant-api03-abcdefghijklmnop_qrstuv",
    "hf_abcdefghijklmnopqrstuvwxyz",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "github_pat_11ABCDEFG0abcdefghijkl_mnopqrstuv",
    "glpat-abcdefghijklmnopqrst",
    "xoxb-123456789012-abcdefghijkl",
    "AKIAIOSFODNN7EXAMPLE",
    "AIzaSyA1234567890abcdefghijklmnopqrstuv",
    "nvapi-abcdefghijklmnopqrstuvwxyz0123",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dBjftJeZ4CVPmB92K27uhbUJU1p1r",
)


def chunk(content: str, **more: Any) -> bytes:
    event = {"choices": [{"index": 0, "delta": {"content": content}, **more}]}
    return b"data: " + json.dumps(event).encode() + b"\n\n"


def row(request: bytes = b"{}", *answer: bytes) -> dict[str, Any]:
    found = Bodies()
    found.note(request)
    for piece in answer:
        found.tee(piece)
    return found.row(LINE)


def test_a_whole_exchange_is_kept_as_it_was() -> None:
    request = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "Grüße an Ada <ada@example.org>"}]})
    answer = json.dumps({"choices": [{"message": {"content": "Hello"}}], "usage": {"prompt_tokens": 12}})
    found = row(request.encode(), answer[:20].encode(), answer[20:].encode())
    assert found == {"id": "req-1", "at": 5.0, "key_id": "key-1", "request": request, "response": answer}


def test_a_stream_is_kept_as_the_text_it_makes() -> None:
    data = b": waking tiny\n\n" + chunk("Hel") + chunk("lo") + b"data: [DONE]\n\n"
    found = row(b"{}", data[:40], data[40:41], data[41:])
    assert json.loads(found["response"]) == {"content": "Hello"}


def test_choices_tools_and_reasoning_have_texts_of_their_own() -> None:
    def event(**delta: Any) -> bytes:
        return b"data: " + json.dumps({"choices": [delta]}).encode() + b"\r\n\r\n"

    call = {"index": 0, "function": {"name": "find", "arguments": '{"a"'}}
    more = {"index": 0, "function": {"arguments": ":1}"}}
    found = row(
        b"{}",
        event(index=1, delta={"content": "other"}),
        event(index=0, delta={"reasoning_content": "hm"}),
        event(index=0, delta={"tool_calls": [call]}),
        event(index=0, delta={"tool_calls": [more]}),
        event(index=0, text="completion"),
    )
    assert json.loads(found["response"]) == {
        "1.content": "other", "reasoning_content": "hm", "text": "completion",
        "tool_calls.0.name": "find", "tool_calls.0.arguments": '{"a":1}',
    }  # fmt: skip


def test_other_dialects_streams_and_errors_are_known_too() -> None:
    events = (
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
        {"type": "response.output_text.delta", "delta": "Hi"},
        {"error": {"message": "broke off"}},
    )
    data = b"".join(b"event: x\ndata: " + json.dumps(event).encode() + b"\n\n" for event in events)
    found = json.loads(row(b"{}", data)["response"])
    assert found == {"text": "Hello", "response.output_text": "Hi", "error": '{"message": "broke off"}'}


@pytest.mark.parametrize("secret", SECRETS)
def test_secrets_are_never_kept(secret: str) -> None:
    for text in (secret, f'{{"content":"it is {secret}, so"}}', f"x={secret}&y", f"line\\n{secret}\\nline"):
        found = row(text.encode(), text.encode())
        assert secret[4:] not in found["request"] + found["response"]
        assert MARK in found["request"]


def test_a_secret_that_is_streamed_in_pieces_is_one_all_the_same() -> None:
    secret = SECRETS[1]
    found = row(b"{}", *(chunk(letter) for letter in f"It is {secret}. Bye"))
    assert json.loads(found["response"]) == {"content": f"It is {MARK}. Bye"}


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Authorization: Bearer abc.def-ghi_jkl", f"Authorization: Bearer {MARK}"),
        ('{"password": "hunter22"}', f'{{"password": "{MARK}"}}'),
        ('{\\"api_key\\": \\"hunter22\\"}', f'{{\\"api_key\\": \\"{MARK}\\"}}'),
        ("CLIENT_SECRET=abcdef123", f"CLIENT_SECRET={MARK}"),
        ("postgresql://me:hunter2@db/x", f"postgresql://me:{MARK}@db/x"),
        ("-----BEGIN RSA PRIVATE KEY-----\\nabc\\n-----END RSA PRIVATE KEY-----.", f"{MARK}."),
        ("-----BEGIN PRIVATE KEY-----\nMIIE", MARK),
        ("\\u0073k-proj-abcdefghijklmnopqrstuvwx", MARK),
    ],
)
def test_secrets_are_known_by_what_stands_before_them(text: str, kept: str) -> None:
    assert redacted(text, cut=False) == kept


@pytest.mark.parametrize(
    "text",
    [
        '{"max_tokens": 12345678, "prompt_tokens": 1000000, "token_ids": [123456, 7]}',
        "The secret of the password is a token of respect: none.",
        "see https://example.org:8080/a@b and mail ada@example.org",
        "a skeleton-key-for-the-basic-lock, mp-3 files",
        '{"a": "quote \\u0022 stays"}',
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text, cut=False) == text


@pytest.mark.parametrize("size", [300, 100_000, 5_000_000])
def test_media_is_kept_as_its_length(size: int) -> None:
    media = base64.b64encode(bytes(range(256)) * (size // 256 + 1))[: size // 4 * 4].decode()
    body = json.dumps({"a": "before", "url": f"data:image/png;base64,{media}", "b": "after"}).encode()
    found = row(body.replace(b"/", b"\\/") if size == 300 else body)["request"]
    assert "before" in found and "after" in found and "base64," in found and len(found) < 200
    assert media[100:150] not in found
    if size > 300:
        assert f"[{size * 3 // 4} bytes of base64]" in found


def test_what_is_no_text_is_kept_as_its_length() -> None:
    sound = bytes(range(256)) * 1000
    found = row(b"--x\r\ncontent-type: audio/wav\r\n\r\n" + sound, sound[:1000], sound[1000:])
    assert found["request"].endswith("bytes that are no text]") and found["response"] == (
        "[256000 bytes that are no text]"
    )


def test_text_is_cut_and_says_so() -> None:
    long = ("grün und blau " * 40_000).encode()
    found = row(long, *(long[at : at + 1000] for at in range(0, len(long), 1000)))
    for text in (found["request"], found["response"]):
        assert text.endswith(f"… [cut: {len(long)} bytes in all]")
        assert KEPT_BYTES - 4096 < len(text.encode()) < KEPT_BYTES + 100
    streamed = row(b"{}", *(chunk("word " * 100) for _ in range(1000)))["response"]
    assert len(streamed) < KEPT_BYTES + 1000 and "bytes of events in all" in streamed


@given(st.integers(0, 60), st.sampled_from(SECRETS))
def test_a_cut_leaves_no_part_of_a_secret(into: int, secret: str) -> None:
    before = "word " * (KEPT_BYTES // 5)
    body = (before[: KEPT_BYTES - into] + " " + secret + " and more" * 10).encode()
    found = row(body, body)
    assert secret[:12] not in found["request"] + found["response"]


@given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode), st.lists(st.binary(max_size=40), max_size=8))
def test_any_bytes_can_be_kept(request: bytes, answer: list[bytes]) -> None:
    found = row(request, b"data: ", *answer)
    for text in (found["request"], found["response"]):
        assert "\0" not in text and text.encode() is not None


def test_what_waits_for_the_store_is_bounded() -> None:
    waiting = Waiting()
    assert all(waiting.add(Bodies(), LINE) for _ in range(WAITING))
    assert not waiting.add(Bodies(), LINE)
    assert len(waiting.take()) == WAITING and waiting.add(Bodies(), LINE)


def test_rows_come_to_the_store_once(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    found = row(b'{"a":1}', b'{"b":2}')
    for _ in range(2):
        with store.write() as tx:
            bodies.add(tx, [found])
    with store.read() as tx:
        assert [dict(r._mapping) for r in tx.execute(table.select())] == [found]
    store.close()


def test_a_gateway_keeps_the_bodies_of_keys_that_opted_in_only(fresh: World) -> None:
    fresh.gateway().service("tiny", fresh.engine())
    told = chat("tiny", user=SECRETS[0])

    def rows() -> dict[str, tuple[str, str]]:
        with fresh.store.read() as tx:
            return {row.key_id: (row.request, row.response) for row in tx.execute(table.select())}

    other, own = fresh.client(fresh.key()), fresh.client(fresh.key(log_bodies=True))
    fresh.settle()
    other.post("/v1/chat/completions", json=told, headers={"x-request-id": "other"})
    own.post("/v1/chat/completions", json=told, headers={"x-request-id": "own"})
    until(rows)
    ((asked, said),) = rows().values()
    assert "hello there" in asked and MARK in asked and SECRETS[0] not in asked
    assert json.loads(said)["choices"][0]["message"]["content"].startswith("tok0 tok1")
    with own.stream("POST", "/v1/chat/completions", json={**told, "stream": True}) as answer:
        answer.read()
    until(lambda: len(fresh.lines()) >= 3)

    def streamed() -> list[str]:
        with fresh.store.read() as tx:
            return [row.response for row in tx.execute(table.select()) if row.response.startswith('{"content"')]

    (text,) = until(streamed)
    assert json.loads(text)["content"].startswith("tok0 tok1")
