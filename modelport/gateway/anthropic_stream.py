"""Stream: an engine's stream of chat completion chunks, as it arrives, as the events of Anthropic's Messages API.

message_start; then for each block of content its start, deltas and stop, one block after the other; then, once the
engine has said how much was used, message_delta and message_stop. A stream that breaks off ends with an `error` event
instead, so that no client takes half an answer for a whole one.
"""

from typing import Any

import msgspec
from msgspec import Struct

from modelport.errors import ModelportError
from modelport.gateway import anthropic
from modelport.gateway.anthropic import NULL, Said, ToolCall
from modelport.gateway.anthropic_request import ChatRequest
from modelport.gateway.usage import Usage

MAX_EVENT_BYTES = 8 << 20
"""An engine's event that is larger is taken for a fault; a chunk holds a few tokens."""


class _Choice(Struct):
    index: int = 0
    delta: Said | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    matched_stop: Any = None


class _Chunk(Struct):
    choices: list[_Choice] | None = None
    usage: Usage | None = None
    error: msgspec.Raw = NULL


_decode = msgspec.json.Decoder(_Chunk).decode
_encode = msgspec.json.Encoder().encode


class Stream:
    """One answer on its way. `feed` what arrives, then `end`, or `fail` where the gateway gives up."""

    __slots__ = (
        "_block", "_data", "_finish", "_index", "_kind", "_matched", "_out", "_request", "_request_id", "_rest",
        "_started", "_tools", "complete", "ended", "usage",
    )  # fmt: skip

    def __init__(self, request: ChatRequest, request_id: str) -> None:
        self._request = request
        self._request_id = request_id
        self._rest = b""
        """The line that is not whole yet."""
        self._data: list[bytes] = []
        """The data lines of the event that is not whole yet."""
        self._out: list[bytes] = []
        self._started = False
        self._index = -1
        """Of the last block that was begun."""
        self._kind = ""
        """Of the block that is open: text, thinking, tool_use, or none."""
        self._block = -1
        """The engine's index of the tool call that is open."""
        self._tools: set[int] = set()
        self._finish: str | None = None
        self._matched: object = None
        self.usage: Usage | None = None
        """What the engine has said so far."""
        self.ended = False
        """The last event is out; what comes after is not looked at."""
        self.complete = False
        """It was message_stop, not an error."""

    def feed(self, data: bytes) -> bytes:
        """The events that this piece of the engine's stream makes; pieces may be cut anywhere."""
        *lines, self._rest = (self._rest + data).split(b"\n") if self._rest else data.split(b"\n")
        try:
            for line in lines:
                if self.ended:
                    break
                self._line(line)
            if len(self._rest) + sum(map(len, self._data)) > MAX_EVENT_BYTES:
                raise anthropic.fault()
        except ModelportError as error:
            return self._flush() + self.fail(error)
        except (msgspec.DecodeError, RecursionError):
            return self._flush() + self.fail(anthropic.fault())
        return self._flush()

    def end(self) -> bytes:
        """The engine's stream is over: what is left of it, or an error event where the answer was not finished."""
        if self.ended:
            return b""
        out = self.feed(b"\n\n")  # a last event without its blank line
        if not self.ended and self._finish is not None:
            self._close()
            return out + self._flush()
        return out if self.ended else out + self.fail(anthropic.fault())

    def fail(self, error: ModelportError) -> bytes:
        """The event that ends a stream that cannot be finished."""
        if self.ended:
            return b""
        self.ended = True
        return b"event: error\ndata: " + anthropic.error_body(error, self._request_id) + b"\n\n"

    # The engine's events

    def _line(self, line: bytes) -> None:
        line = line.removesuffix(b"\r")
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
        elif name == b"error":  # how older llama.cpp says that it failed
            raise anthropic.fault()
        elif not line and self._data:
            data, self._data = b"\n".join(self._data), []
            if data.strip() == b"[DONE]":
                if self._finish is None:
                    raise anthropic.fault()
                self._close()
            else:
                self._chunk(_decode(data))

    def _chunk(self, chunk: _Chunk) -> None:
        if bytes(chunk.error) != b"null":
            raise anthropic.fault()
        if chunk.usage is not None:
            if self.usage is not None and chunk.usage.prompt_tokens_details is None:
                chunk.usage.prompt_tokens_details = self.usage.prompt_tokens_details
            self.usage = chunk.usage
        if not self._started:
            self._start()
        for choice in chunk.choices or ():
            if choice.index != 0:
                continue
            if choice.delta is not None:
                self._said(choice.delta)
            if choice.finish_reason in anthropic.ABORTED:
                raise anthropic.fault()
            if choice.finish_reason is not None:
                self._finish = choice.finish_reason
                self._matched = choice.stop_reason or choice.matched_stop

    def _said(self, delta: Said) -> None:
        if delta.thoughts and self._request.shows_thinking:
            if self._kind != "thinking":
                self._open("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            self._add({"type": "thinking_delta", "thinking": delta.thoughts})
        if delta.content:
            if self._kind != "text":
                self._open("text", {"type": "text", "text": ""})
            self._add({"type": "text_delta", "text": delta.content})
        for call in delta.tool_calls or ():
            self._called(call)

    def _called(self, call: ToolCall) -> None:
        """A piece of a tool call. Engines write one call after the other; a piece of one that is over has no place."""
        function = call.function
        text = anthropic.arguments_text(function.arguments) if function else ""
        if call.index not in self._tools:
            if function is None or not function.name:
                raise anthropic.fault()
            own_id = f"toolu_{self._request_id}_{call.index}"
            self._open("tool_use", {"type": "tool_use", "id": call.id or own_id, "name": function.name, "input": {}})
            self._tools.add(call.index)
            self._block = call.index
        elif text and (self._kind != "tool_use" or self._block != call.index):
            raise anthropic.fault()
        if text:
            self._add({"type": "input_json_delta", "partial_json": text})

    # Anthropic's events

    def _start(self) -> None:
        self._started = True
        message = anthropic.message(self._request, self._request_id) | {"usage": anthropic.usage(self.usage)}
        self._emit(b"message_start", {"type": "message_start", "message": message})

    def _open(self, kind: str, block: dict[str, Any]) -> None:
        self._stop_block()
        self._kind = kind
        self._index += 1
        event = {"type": "content_block_start", "index": self._index, "content_block": block}
        self._emit(b"content_block_start", event)

    def _add(self, delta: dict[str, str]) -> None:
        event = {"type": "content_block_delta", "index": self._index, "delta": delta}
        self._emit(b"content_block_delta", event)

    def _stop_block(self) -> None:
        if self._kind:
            self._kind = ""
            self._emit(b"content_block_stop", {"type": "content_block_stop", "index": self._index})

    def _close(self) -> None:
        """The end of an answer that is whole."""
        self._stop_block()
        reason, sequence = anthropic.stop(self._finish, self._matched, bool(self._tools), self._request)
        delta = {"stop_reason": reason, "stop_sequence": sequence}
        self._emit(b"message_delta", {"type": "message_delta", "delta": delta, "usage": anthropic.usage(self.usage)})
        self._emit(b"message_stop", {"type": "message_stop"})
        self.ended = self.complete = True

    def _emit(self, name: bytes, event: dict[str, Any]) -> None:
        self._out.append(b"event: %b\ndata: %b\n\n" % (name, _encode(event)))

    def _flush(self) -> bytes:
        out = b"".join(self._out)
        self._out.clear()
        return out
