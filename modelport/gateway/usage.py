"""Usage: what an engine says an answer took, from the tail of a body or from the events of a stream."""

import re

import msgspec

_HAS_USAGE = re.compile(rb'"usage"\s*:\s*\{')
MAX_EVENT_BYTES = 1 << 20
"""An event that is larger passes on in pieces."""


class Details(msgspec.Struct):
    cached_tokens: int | None = None


class Usage(msgspec.Struct):
    """Token counts as OpenAI names them; None counts as zero."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: Details | None = None

    @property
    def cached_tokens(self) -> int:
        return (self.prompt_tokens_details.cached_tokens or 0) if self.prompt_tokens_details else 0


class _Answer(msgspec.Struct):
    usage: Usage | None = None
    choices: list[msgspec.Raw] | None = None


_decode = msgspec.json.Decoder(_Answer).decode


def of_body(body: bytes) -> Usage | None:
    """The usage of a whole JSON answer, or None where it has none."""
    try:
        return _decode(body).usage
    except (msgspec.DecodeError, RecursionError):
        return None


class Events:
    """A stream of server-sent events on its way through: whole events out as soon as they are whole, usage noted.

    With `hide`, the event that carries nothing but usage is left out: the client did not ask for it.
    """

    __slots__ = ("_rest", "hide", "usage")

    def __init__(self, hide: bool) -> None:
        self.hide = hide
        self.usage: Usage | None = None
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """What may go on to the client now."""
        if self._rest:
            data = self._rest + data
        end = max(_after(data, b"\n\n"), _after(data, b"\r\n\r\n"))
        if end == 0 and len(data) <= MAX_EVENT_BYTES:
            self._rest = data
            return b""
        end = end or len(data)
        whole, self._rest = data[:end], data[end:]
        return self._note(whole) if _HAS_USAGE.search(whole) else whole

    def rest(self) -> bytes:
        """What is left at the end of a stream that does not end with a blank line."""
        rest, self._rest = self._rest, b""
        return self._note(rest) if rest and _HAS_USAGE.search(rest) else rest

    def _note(self, whole: bytes) -> bytes:
        kept: list[bytes] = []
        for event in re.split(rb"(?<=\n\n)|(?<=\r\n\r\n)", whole):
            answer = _payload(event) if _HAS_USAGE.search(event) else None
            if answer is not None and answer.usage is not None:
                self.usage = answer.usage
                if self.hide and not answer.choices:
                    continue
            kept.append(event)
        return b"".join(kept)


def _after(data: bytes, mark: bytes) -> int:
    """Where the last `mark` ends; 0 where there is none."""
    at = data.rfind(mark)
    return at + len(mark) if at >= 0 else 0


def _payload(event: bytes) -> _Answer | None:
    data = b"".join(line[5:] for line in event.splitlines() if line.startswith(b"data:"))
    try:
        return _decode(data)
    except (msgspec.DecodeError, RecursionError):
        return None
