"""Request: one exchange with a client: what it sent, how the answer goes out, and what is known of it after."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from modelport.errors import TIMEOUT_BODY, TOO_LARGE, UNAUTHORIZED, ModelportError
from modelport.gateway.protocol import ClientConnection
from modelport.gateway.usage import Usage

JSON = b"application/json"
SSE = b"text/event-stream; charset=utf-8"
MIN_BODY_BYTES = 1024
"""A body must bring this much in every body_timeout, so that one sent a byte at a time does not last for ever."""
_ID = re.compile(rb"[A-Za-z0-9_-]{1,64}")
encode = msgspec.json.Encoder().encode
perf = time.perf_counter


class Request:
    """Fields below the line are filled as the request goes on its way; the log line is made of them at the end."""

    __slots__ = (
        "_receive", "_send", "_whole", "begun", "connection", "ended", "first_byte_s", "headers", "hold_until", "id",
        "instance_id", "key_id", "method", "path", "query", "queue_s", "route", "scope", "service", "service_id",
        "shown_id", "sse", "started", "status", "stream", "task", "usage",
    )  # fmt: skip

    def __init__(self, scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]], request_id: str) -> None:
        self.started = perf()
        self.scope = scope
        self._receive = receive
        self._send = send
        self._whole: bytes | None = None
        self.connection: ClientConnection = scope["connection"]
        self.method: str = scope["method"]
        self.path: str = scope["raw_path"].decode("ascii")
        """As it came: never decoded, so that no second spelling reaches a route."""
        self.query: bytes = scope["query_string"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.id = request_id
        """Ours, unique: the usage row's key. A client may repeat its own."""
        shown = self.headers.get(b"x-request-id")
        self.shown_id = shown.decode() if shown is not None and _ID.fullmatch(shown) else request_id
        self.task: asyncio.Task[Any] | None = None
        # ---
        self.key_id = "-"
        self.route = "-"
        self.service = ""
        self.service_id = ""
        self.instance_id = ""
        self.status = 0
        self.stream = False
        self.begun = self.ended = self.sse = False
        self.usage: Usage | None = None
        self.queue_s = 0.0
        self.first_byte_s: float | None = None
        self.hold_until: float | None = None

    def leave(self) -> None:
        """The client is gone: stop wherever this request is."""
        if self.task is not None:
            self.task.cancel()

    async def body(self, limit: int, pause_s: float) -> bytes:
        """The whole body, also a second time. Raises ModelportError: 413 above `limit` bytes, 408 when it comes too
        slowly."""
        if self._whole is None:
            self._whole = await self._read(limit, pause_s)
        return self._whole

    async def _read(self, limit: int, pause_s: float) -> bytes:
        declared = self.headers.get(b"content-length")
        if declared is not None and int(declared) > limit:
            raise _too_large(limit)
        if not self.connection.body_pending(self.scope):
            return (await self._receive()).get("body", b"")
        loop = asyncio.get_running_loop()
        parts: list[bytes] = []
        size, recent, deadline = 0, 0, loop.time() + pause_s
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    message = await self._receive()
            except TimeoutError:
                raise ModelportError("The request's body came too slowly.", TIMEOUT_BODY) from None
            if message["type"] != "http.request":
                raise asyncio.CancelledError  # disconnected; leave() says so too
            part = message["body"]
            size += len(part)
            recent += len(part)
            if size > limit:
                raise _too_large(limit)
            parts.append(part)
            if not message["more_body"]:
                return b"".join(parts)
            if recent >= MIN_BODY_BYTES:
                recent, deadline = 0, loop.time() + pause_s

    # The answer

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.status = status
        self.begun = True
        headers.append((b"x-request-id", self.shown_id.encode()))
        if self.connection.body_pending(self.scope):
            headers.append((b"connection", b"close"))  # the rest of the body is not read
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def start_stream(self) -> None:
        """Answer 200 with server-sent events to come."""
        self.sse = True
        await self.start(200, [(b"content-type", SSE), (b"cache-control", b"no-cache")])

    async def write(self, data: bytes) -> None:
        if self.first_byte_s is None:
            self.first_byte_s = perf() - self.started
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        if self.first_byte_s is None:
            self.first_byte_s = perf() - self.started
        self.ended = True
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def answer(
        self, status: int, body: bytes, headers: tuple[tuple[bytes, bytes], ...] = (), kind: bytes = JSON
    ) -> None:
        """A whole answer in one go."""
        await self.start(status, [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *headers])
        await self.end(body)

    async def fail(self, error: ModelportError, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        """Answer with an error: plainly where nothing was sent, as an event in a stream, else by cutting it off."""
        if self.ended:
            return
        body = encode(error.body(self.shown_id))
        if not self.begun:
            if (wait := error.retry_after()) is not None:
                headers = (*headers, (b"retry-after", wait.encode()))
            if error.kind is UNAUTHORIZED:
                headers = (*headers, (b"www-authenticate", b"Bearer"))
            await self.answer(error.kind.status, body, headers)
            return
        self.status = error.kind.status  # what the log says; the client was already told 200
        if self.sse:
            await self.end(b"data: " + body + b"\n\n")
        else:
            self.connection.on_gone = None
            self.connection.cut()


def _too_large(limit: int) -> ModelportError:
    return ModelportError(f"The request's body is larger than {limit} bytes.", TOO_LARGE)
