"""Usage: what an engine says an answer took, from the tail of a body or from the events of a stream."""

import math
import re

import msgspec

_HAS_USAGE = re.compile(rb'"(?:usage|meta_info)"\s*:\s*\{')
_HAS_CHOICE = re.compile(rb'"choices"\s*:\s*\[\s*\{')
_LAST = re.compile(rb',\s*"usage"\s*:\s*\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}(?=\s*\}\s*$)')
"""A usage object at the end of an event, as vLLM and SGLang write it."""
MOST = 10**12
"""No request takes more of anything; an engine that says so would leave numbers that no column holds."""
NONE = (None, None, None)
END = b"data: [DONE]"
MAX_EVENT_BYTES = 1 << 20
"""An event that is larger passes on in pieces."""


class _Details(msgspec.Struct):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class Usage(msgspec.Struct):
    """Every engine's way of saying it: OpenAI's chat and responses, Anthropic's, and durations of audio."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    seconds: float | None = None

    @property
    def input(self) -> int:
        """Input tokens, cached ones among them. Anthropic counts those apart."""
        if self.prompt_tokens is not None:
            return _bounded(self.prompt_tokens)
        found = self.input_tokens
        if found is None:
            found = max(0, (self.total_tokens or 0) - self.output)
        return _bounded(found + (self.cache_read_input_tokens or 0) + (self.cache_creation_input_tokens or 0))

    @property
    def output(self) -> int:
        """Output tokens, reasoning among them."""
        return _bounded(self.completion_tokens or self.output_tokens or 0)

    @property
    def audio_ms(self) -> int | None:
        return None if self.seconds is None else math.ceil(min(max(0.0, self.seconds), MOST / 1000) * 1000)

    @property
    def tells(self) -> bool:
        """Whether it says anything: an empty object and one of nulls do not."""
        said = (self.prompt_tokens, self.input_tokens, self.total_tokens, self.seconds)
        return self.tells_output or any(value is not None for value in said)

    @property
    def tells_output(self) -> bool:
        return self.completion_tokens is not None or self.output_tokens is not None

    @property
    def cached(self) -> int:
        details = self.prompt_tokens_details or self.input_tokens_details
        found = details.cached_tokens if details else (self.cached_tokens or self.cache_read_input_tokens)
        return min(max(0, found or 0), self.input)

    @property
    def reasoning(self) -> int:
        details = self.completion_tokens_details or self.output_tokens_details
        found = details.reasoning_tokens if details else self.reasoning_tokens
        return min(max(0, found or 0), self.output)

    def counts(self) -> tuple[int, int, int, int]:
        """Input, output, cached and reasoning tokens. Most answers have OpenAI's two and nothing else."""
        if self.prompt_tokens_details is None and self.completion_tokens_details is None:
            given, made = self.prompt_tokens, self.completion_tokens
            others = (self.cached_tokens, self.reasoning_tokens, self.cache_read_input_tokens)
            if given is not None and made is not None and others == NONE and 0 <= given <= MOST and 0 <= made <= MOST:
                return given, made, 0, 0
        return self.input, self.output, self.cached, self.reasoning

    def after(self, earlier: "Usage | None") -> "Usage":
        """This with what only an earlier word said: Anthropic's streams tell the input first and the output last."""
        if earlier is None:
            return self
        if self.input_tokens is None and self.prompt_tokens is None:
            self.input_tokens = earlier.input_tokens
            self.cache_read_input_tokens = earlier.cache_read_input_tokens
            self.cache_creation_input_tokens = earlier.cache_creation_input_tokens
        return self


def _bounded(count: int) -> int:
    return min(max(0, count), MOST)


class _Holder(msgspec.Struct):
    usage: Usage | None = None


class _Answer(msgspec.Struct):
    usage: Usage | None = None
    choices: list[msgspec.Raw] | None = None
    meta_info: Usage | None = None
    response: _Holder | str | None = None
    message: _Holder | str | None = None
    """Texts in TAO's answers."""
    duration: float | str | None = None
    """Text in vLLM's verbose transcriptions."""

    @property
    def found(self) -> Usage | None:
        """What the engine said, wherever it stands."""
        for holder in (self, self.response, self.message):
            if holder is None or isinstance(holder, str):
                continue
            if holder.usage is not None and holder.usage.tells:
                return holder.usage
        if self.meta_info is not None and self.meta_info.tells:
            return self.meta_info
        try:
            seconds = float(self.duration or "nan")
        except ValueError:
            return None
        return Usage(seconds=seconds) if math.isfinite(seconds) else None


_decode = msgspec.json.Decoder(_Answer).decode
_decode_many = msgspec.json.Decoder(list[_Answer]).decode


def of_body(body: bytes) -> Usage | None:
    """The usage of a whole JSON answer, or None where it has none."""
    try:
        if body[:1] == b"[":  # SGLang's /generate of several prompts
            found = [usage for usage in (answer.found for answer in _decode_many(body)) if usage is not None]
            return _sum(found) if found else None
        return _decode(body).found
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def _sum(found: list[Usage]) -> Usage:
    return Usage(
        prompt_tokens=sum(usage.input for usage in found),
        completion_tokens=sum(usage.output for usage in found),
        cached_tokens=sum(usage.cached for usage in found),
    )


class Events:
    """A stream of server-sent events on its way through: whole events out as soon as they are whole, usage noted.

    With `hide`, usage is left out that the client did not ask for: the event that carries nothing else, and what is
    said along the way.
    """

    __slots__ = ("_ended", "_last", "_partial", "_rest", "_said_at", "_usage", "count", "hide", "hide_each")

    def __init__(self, hide: bool, hide_each: bool = False) -> None:
        self.hide = hide
        self.hide_each = hide or hide_each
        self.count = 0
        """Events so far: what came out is estimated from it where the engine does not say."""
        self._ended = 0
        self._said_at = 0
        """The count at the engine's last word."""
        self._usage: Usage | None = None
        self._partial = False
        self._last: bytes | None = None
        """The last event with usage, not decoded unless it turns out to be the last word."""
        self._rest = b""

    @property
    def usage(self) -> Usage | None:
        """The engine's last word so far."""
        if self._last is not None:
            answer = _payload(self._last)
            self._last = None
            if answer is not None and answer.found is not None:
                self._usage = answer.found.after(self._usage)
                self._partial = bool(answer.choices)
        return self._usage

    @property
    def partial(self) -> bool:
        """Whether the engine's last word was said along the way: vLLM and SGLang then mean one choice of one prompt."""
        _ = self.usage
        return self._partial

    @property
    def later(self) -> int:
        """Events since the engine's last word, which does not know of them; the mark of the end is none."""
        return max(0, self.count - self._said_at - self._ended)

    def feed(self, data: bytes) -> bytes:
        """What may go on to the client now."""
        if self._rest:
            data = self._rest + data
            self._rest = b""
        if not data.endswith(b"\n\n") and not data.endswith(b"\r\n\r\n"):
            end = max(_after(data, b"\n\n"), _after(data, b"\r\n\r\n"))
            if end == 0 and len(data) <= MAX_EVENT_BYTES:
                self._rest = data
                return b""
            end = end or len(data)
            data, self._rest = data[:end], data[end:]
        self.count += data.count(b"data:")
        self._ended += data.count(END)
        if b'"usage"' in data or b'"meta_info"' in data:
            return self._note(data)
        return data

    def rest(self) -> bytes:
        """What is left at the end of a stream that does not end with a blank line."""
        rest, self._rest = self._rest, b""
        self.count += rest.count(b"data:")
        self._ended += rest.count(END)
        return self._note(rest) if rest else rest

    def _note(self, whole: bytes) -> bytes:
        kept: list[bytes] = []
        at = self.count - whole.count(b"data:")
        for event in re.split(rb"(?<=\n\n)|(?<=\r\n\r\n)", whole):
            at += event.count(b"data:")
            if _HAS_USAGE.search(event) is not None:
                self._said_at = at
                if b'"message_start"' in event:
                    _ = self.usage
                    self._last = event
                    _ = self.usage  # the input is told here only
                else:
                    self._last = event
                if self.hide_each:
                    event = self._hidden(event)
            kept.append(event)
        return b"".join(kept)

    def _hidden(self, event: bytes) -> bytes:
        if _HAS_CHOICE.search(event) is not None:
            stripped = _LAST.sub(b"", event.rstrip())
            return stripped + event[len(event.rstrip()) :]
        answer = _payload(event)
        if answer is None or answer.usage is None:
            return event
        return b"" if self.hide and not answer.choices else event


def _after(data: bytes, mark: bytes) -> int:
    """Where the last `mark` ends; 0 where there is none."""
    at = data.rfind(mark)
    return at + len(mark) if at >= 0 else 0


def _payload(event: bytes) -> _Answer | None:
    data = b"".join(line[5:] for line in event.splitlines() if line.startswith(b"data:"))
    try:
        return _decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
