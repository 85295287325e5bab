"""Bodies: what a key that opted in asked and was answered, on its way to the store: redacted, cut, without media.

A stream is kept as the text that its events make together, which is also the only way to know a secret that came in
pieces.
"""

from typing import Any

import msgspec

from modelport.gateway.redact import redacted
from modelport.gateway.requestlog import Line, encode

KEPT_BYTES = 64 << 10
"""Of a request and of an answer, each."""
WAITING = 1000
"""Requests whose text waits for the store; later ones are dropped and counted."""
_RUN = 256
"""Base64: no prose and no identifier runs on for so long."""
_BASE64 = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=\\")
"""With the backslash, for the slashes and line breaks that JSON escapes."""
_FLAT = bytes(ord("x") if byte in _BASE64 else ord(" ") for byte in range(256))
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
    error: msgspec.Raw = msgspec.Raw(b"null")


_decode = msgspec.json.Decoder(_Event).decode
_TEXTS = ("content", "reasoning_content", "reasoning", "refusal", "text", "thinking", "partial_json")


class Bodies:
    """One request's. `note` and `tee` are called on the loop and keep little more than KEPT_BYTES each; `row`, which
    does the work, on the writing thread."""

    __slots__ = ("_asked", "_asked_bytes", "_events", "_rest", "_said", "_said_bytes", "_sse", "_text_length")

    def __init__(self) -> None:
        self._asked = (b"", False)
        self._asked_bytes = 0
        self._said: list[bytes] = []
        self._said_bytes = 0
        self._sse: bool | None = None
        self._rest = b""
        self._events: dict[str, list[str]] = {}
        self._text_length = 0

    def note(self, body: bytes) -> None:
        """The request's body, whole."""
        self._asked = without_media(body)
        self._asked_bytes = len(body)

    def tee(self, data: bytes) -> None:
        """A piece of the answer, as the client gets it."""
        if self._sse is None and data:
            self._sse = data.startswith(_SSE)
        if self._sse:
            self._hear(data)
        elif self._said_bytes < KEPT_BYTES:
            self._said.append(data[:KEPT_BYTES])
        self._said_bytes += len(data)

    def row(self, line: Line) -> dict[str, Any]:
        """For the table `bodies`, with the request's line in the log."""
        asked, cut = self._asked
        return {
            "id": line.id,
            "at": line.at,
            "key_id": line.key_id,
            "request": _kept(asked, cut, self._asked_bytes),
            "response": self._streamed() if self._sse else self._whole(),
        }

    def _whole(self) -> str:
        said = b"".join(self._said)
        kept, cut = without_media(said)
        return _kept(kept, cut or len(said) < self._said_bytes, self._said_bytes)

    def _hear(self, data: bytes) -> None:
        """What the events add to each text."""
        if self._text_length >= KEPT_BYTES:
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
        if event.error != msgspec.Raw(b"null"):
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
            self._text_length += len(text)

    def _streamed(self) -> str:
        """The texts by where they stood in the events, as JSON."""
        cut = self._text_length >= KEPT_BYTES
        texts = {name: redacted("".join(pieces), cut=cut) for name, pieces in self._events.items()}
        if cut:
            texts["cut"] = f"{self._said_bytes} bytes of events in all"
        return encode(texts).decode("utf-8", "replace")


def without_media(body: bytes) -> tuple[bytes, bool]:
    """The first KEPT_BYTES or so of a body, with every long run of base64 given as its length; and whether more came
    after. However large the body, little of it is looked at: where a long run ends, the quote after it says."""
    parts: list[bytes] = []
    size = at = 0
    while at < len(body) and size < KEPT_BYTES:
        window = body[at : at + KEPT_BYTES - size + _RUN].translate(_FLAT)
        begins = window.find(b"x" * _RUN)
        if begins < 0:
            parts.append(body[at : at + KEPT_BYTES - size])
            size += len(parts[-1])
            at += len(parts[-1])
            continue
        ends = window.find(b" ", begins)
        if ends < 0:
            quote = body.find(b'"', at + len(window))
            ends = (len(body) if quote < 0 else quote) - at
        parts += (body[at : at + begins], b"[%d bytes of base64]" % ((ends - begins) * 3 // 4))
        size += begins + len(parts[-1])
        at += ends
    return b"".join(parts), at < len(body)


def _kept(data: bytes, cut: bool, whole_bytes: int) -> str:
    """Text, redacted; of what is no text, how long it was."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        if not cut or error.start < len(data) - 4:  # else the cut went through a letter
            return f"[{whole_bytes} bytes that are no text]"
        text = data[: error.start].decode()
    if "\0" in text:
        return f"[{whole_bytes} bytes that are no text]"
    return redacted(text, cut=cut) + (f"… [cut: {whole_bytes} bytes in all]" if cut else "")


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
