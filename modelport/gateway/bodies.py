"""Bodies: what a key that opted in asked and was answered, on its way to the store: redacted, cut, without media.

A stream is kept as the text that its events make together, which is also the only way to know a secret that came in
pieces.
"""

import re
from typing import Any

import msgspec

from modelport.gateway.redact import redacted, without_last_word
from modelport.gateway.requestlog import Line, encode

KEPT_BYTES = 64 << 10
"""Of a request and of an answer, each."""
WAITING = 1000
"""Requests whose text waits for the store; later ones are dropped and counted."""
_WINDOW = 2 * KEPT_BYTES
"""What is looked at beyond what may be kept: redaction makes text shorter."""
_MEDIA = re.compile(rb"(?:[A-Za-z0-9+/_-]|\\/){256,}")
"""Base64: no prose and no identifier runs on for so long."""
_SSE = (b"data:", b"event:", b"id:", b"retry:", b":")
_LONGEST_EVENT = 1 << 20


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct):
    index: int = 0
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Delta | None = None
    text: str | None = None


class _Event(msgspec.Struct):
    """One event of any dialect: chat, completions, responses, Anthropic's, or an error."""

    type: str = ""
    index: int = 0
    choices: list[_Choice] | None = None
    delta: _Delta | str | None = None
    error: msgspec.Raw | None = None


_decode = msgspec.json.Decoder(_Event).decode
_TEXTS = ("content", "reasoning_content", "reasoning", "refusal", "text", "thinking", "partial_json")


class Bodies:
    """One request's. `note` and `tee` are called on the loop and keep little more than KEPT_BYTES each; `row`, which
    does the work, on the writing thread."""

    __slots__ = ("_events", "_request", "_request_bytes", "_rest", "_said", "_said_bytes", "_sse", "_text_bytes")

    def __init__(self) -> None:
        self._request = b""
        self._request_bytes = 0
        self._said: list[bytes] = []
        self._said_bytes = 0
        self._sse: bool | None = None
        self._rest = b""
        self._events: dict[str, list[str]] = {}
        self._text_bytes = 0

    def note(self, body: bytes) -> None:
        """The request's body, whole."""
        self._request = without_media(body)
        self._request_bytes = len(body)

    def tee(self, data: bytes) -> None:
        """A piece of the answer, as the client gets it."""
        if self._sse is None and data:
            self._sse = data.startswith(_SSE)
        if self._sse:
            self._hear(data)
        elif self._said_bytes < _WINDOW:
            self._said.append(data[:_WINDOW])
        self._said_bytes += len(data)

    def row(self, line: Line) -> dict[str, Any]:
        """For the table `bodies`, with the request's line in the log."""
        return {
            "id": line.id,
            "at": line.at,
            "key_id": line.key_id,
            "request": _kept(self._request, self._request_bytes),
            "response": self._streamed() if self._sse else _kept(without_media(b"".join(self._said)), self._said_bytes),
        }

    def _hear(self, data: bytes) -> None:
        """What the events add to each text."""
        if self._text_bytes >= _WINDOW:
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._event(line[5:])
        if len(self._rest) > _LONGEST_EVENT:
            self._rest = b""

    def _event(self, data: bytes) -> None:
        try:
            event = _decode(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return  # [DONE], or a dialect that we do not know
        for choice in event.choices or ():
            prefix = f"{choice.index}." if choice.index else ""
            if choice.text:
                self._add(f"{prefix}text", choice.text)
            if choice.delta is not None:
                self._delta(prefix, choice.delta)
        if isinstance(event.delta, str):
            self._add(event.type.removesuffix(".delta"), event.delta)
        elif event.delta is not None:
            self._delta(f"{event.index}." if event.index else "", event.delta)
        if event.error is not None:
            self._add("error", bytes(event.error).decode("utf-8", "replace"))

    def _delta(self, prefix: str, delta: _Delta) -> None:
        for name in _TEXTS:
            if text := getattr(delta, name):
                self._add(prefix + name, text)
        for call in delta.tool_calls or ():
            if call.function is not None:
                self._add(f"{prefix}tool_calls.{call.index}.name", call.function.name or "")
                self._add(f"{prefix}tool_calls.{call.index}.arguments", call.function.arguments or "")

    def _add(self, name: str, text: str) -> None:
        if text:
            self._events.setdefault(name, []).append(text)
            self._text_bytes += len(text)

    def _streamed(self) -> str:
        """The texts by where they stood in the events, as JSON."""
        left = KEPT_BYTES
        texts: dict[str, str] = {}
        for name, pieces in self._events.items():
            text = "".join(pieces)
            if self._text_bytes >= _WINDOW:
                text = without_last_word(text)
            text = redacted(text)
            texts[name] = text[:left]
            left -= len(texts[name])
        cut = {"cut": f"{self._said_bytes} bytes of events in all"} if not left or self._text_bytes >= _WINDOW else {}
        return _clean(encode({**texts, **cut}).decode("utf-8", "replace"))


def without_media(body: bytes) -> bytes:
    """The beginning of a body, with every long run of base64 given as its length. What is looked at is little, however
    large the body: where a run ends, the quote after it says."""
    parts: list[bytes] = []
    size = at = 0
    while at < len(body) and size < _WINDOW:
        end = min(len(body), at + _WINDOW - size)
        found = _MEDIA.search(body, at, min(len(body), end + 256))
        piece = body[at : found.start() if found else end]
        parts.append(piece)
        size += len(piece)
        at += len(piece)
        if found:
            quote = body.find(b'"', found.end())
            after = found.end() if found.end() < end else (len(body) if quote < 0 else quote)
            mark = b"[%d bytes of base64]" % ((after - at) * 3 // 4)
            parts.append(mark)
            size += len(mark)
            at = after
    return b"".join(parts)


def _kept(data: bytes, whole_bytes: int) -> str:
    """At most KEPT_BYTES of text, redacted; of what is no text, how long it was. `data` is the beginning of the whole."""
    cut = len(data) >= _WINDOW
    try:
        text = data.decode("utf-8", "strict")
    except UnicodeDecodeError as error:
        if not cut or error.start < len(data) - 4:
            return f"[{whole_bytes} bytes that are no text]"
        text = data[: error.start].decode()
    if "\0" in text:
        return f"[{whole_bytes} bytes that are no text]"
    text = redacted(without_last_word(text) if cut else text)
    if cut or len(text) > KEPT_BYTES:
        text = f"{text[:KEPT_BYTES]}… [cut: {whole_bytes} bytes in all]"
    return text


def _clean(text: str) -> str:
    """Without what PostgreSQL's text cannot hold."""
    return text.replace("\0", "").replace("\\u0000", "")


class Waiting:
    """Bodies of requests that are over, until the store's thread takes them."""

    def __init__(self) -> None:
        self._found: list[tuple[Bodies, Line]] = []

    def add(self, bodies: Bodies, line: Line) -> bool:
        """False where they had to be dropped."""
        if len(self._found) >= WAITING:
            return False
        self._found.append((bodies, line))
        return True

    def take(self) -> list[tuple[Bodies, Line]]:
        found, self._found = self._found, []
        return found
