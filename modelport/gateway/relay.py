"""Relay: an upstream's answer on its way to the client, and what becomes of its errors."""

import logging
import time
from typing import Protocol

import msgspec

from modelport.errors import (
    BUSY,
    ENGINE_FAULT,
    ENGINE_TIMEOUT,
    INVALID,
    NOT_FOUND,
    NOT_READY,
    TOO_LARGE,
    ModelportError,
)
from modelport.gateway.connection import Connection, UpstreamBroke, UpstreamSilent, UpstreamStale
from modelport.gateway.request import Request, perf
from modelport.gateway.upstream import ConnectFailed, Upstream
from modelport.gateway.usage import Events, Usage, of_body

RETURNED = frozenset(
    (b"content-type", b"content-encoding", b"content-disposition", b"content-language", b"cache-control", b"etag")
)
"""Headers of an engine that a client gets to see."""
WHOLE_BYTES = 256 << 10
"""An answer up to this size is sent once it is whole, so that one that breaks off can still become a 502."""
KEPT_BYTES = 64 << 20
"""Usage is read from answers up to this size."""
KINDS = {400: INVALID, 404: NOT_FOUND, 413: TOO_LARGE, 422: INVALID, 429: BUSY, 503: NOT_READY}
"""Errors of an engine that are a client's business; 422 and 4xx that are not here become 400, the rest 502."""
OUR_FAULT = frozenset((401, 403, 407, 408))
"""Between gateway and engine these are never the client's doing."""
FORWARDED = (b"content-type", b"accept", b"traceparent", b"tracestate")
"""Request headers an engine gets of a client's; everything else, credentials first of all, stays here."""
log = logging.getLogger("modelport.gateway")


class _Error(msgspec.Struct):
    message: str
    param: str | None = None


class _ErrorBody(msgspec.Struct):
    error: _Error | str
    """A text alone in the answers of TAO's servers."""


class Translation(Protocol):
    """An answer in another dialect than the engine's."""

    def feed(self, data: bytes) -> bytes:
        """Whole events of a stream, as they come."""
        ...

    def end(self) -> bytes:
        """What is left to say at a stream's end."""
        ...

    def whole(self, body: bytes) -> bytes: ...


class Passage:
    """One request to an upstream and its answer on its way."""

    __slots__ = (
        "_events",
        "connection",
        "hide",
        "payload",
        "request",
        "sent_bytes",
        "service",
        "translated",
        "upstream",
    )

    def __init__(
        self,
        request: Request,
        upstream: Upstream,
        connection: Connection,
        payload: bytes,
        service: str,
        hide: tuple[bool, bool] = (False, False),
        translated: "Translation | None" = None,
    ) -> None:
        self.request = request
        self.upstream = upstream
        self.connection = connection
        self.payload = payload
        self.service = service
        self.hide = hide
        """Whether the usage at a stream's end and along its way is kept from the client."""
        self.translated = translated
        self._events: Events | None = None
        self.sent_bytes = 0
        """Of an answer that is no stream: what went to the client."""

    @property
    def usage(self) -> Usage | None:
        """What a stream said so far."""
        return self._events.usage if self._events is not None else None

    @property
    def events(self) -> int:
        return self._events.count if self._events is not None else 0

    @property
    def partial(self) -> bool:
        """Whether what a stream said so far is of one of its choices."""
        return self._events is not None and self._events.partial

    @property
    def later(self) -> int:
        """Events since the engine last said what its answer took."""
        return self._events.later if self._events is not None else 0

    async def run(self) -> Usage | None:
        """Pass the answer on; what the engine says it took. Raises ModelportError for an answer that is an error,
        breaks off or does not come."""
        failing = False
        try:
            status = await self._head()
            heard = perf()
            self.upstream.breaker.heard(status, time.monotonic())
            if not 200 <= status < 300:
                failing = status >= 500  # which the breaker knows by now
                raise await self._refusal(status)
            if self.connection.header(b"content-type").startswith(b"text/event-stream"):
                await self._stream(heard)
                said = self.usage
            elif self.request.begun:  # comments went out already, so only events may follow
                raise self._fault()
            else:
                said = await self._body(status, heard)
            self.upstream.breaker.succeeded()
            return said
        except UpstreamSilent:
            if not failing:
                self.upstream.breaker.failed(time.monotonic())
            late = f"The engine of service '{self.service}' did not answer in time."
            raise ModelportError(late, ENGINE_TIMEOUT) from None
        except UpstreamBroke:
            if not failing:
                self.upstream.breaker.failed(time.monotonic())
            raise self._fault() from None
        except ConnectFailed:
            raise self._fault() from None

    async def ask(self, payload: bytes) -> bytes:
        """What the engine answers to the gateway itself: a body. Raises ModelportError as `run` does."""
        self.payload = payload
        try:
            status = await self._head()
            self.upstream.breaker.heard(status, time.monotonic())
            if status != 200:
                raise await self._refusal(status)
            body = await self.connection.whole(KEPT_BYTES)
            if body is None:
                raise self._fault()
            self.upstream.give_back(self.connection)
            self.connection = await self.upstream.connection()
            return body
        except UpstreamSilent:
            late = f"The engine of service '{self.service}' did not answer in time."
            raise ModelportError(late, ENGINE_TIMEOUT) from None
        except (UpstreamBroke, ConnectFailed):
            raise self._fault() from None

    async def _head(self) -> int:
        """Send the request, and wait for the answer's status. A kept connection that the engine had closed before it
        saw the request is replaced by a new one, once."""
        self.connection.send(self.payload)
        try:
            return await self.connection.head()
        except UpstreamStale:
            self.connection.abort()
            self.connection = await self.upstream.connection(fresh=True)
            self.connection.send(self.payload)
            return await self.connection.head()

    def _overhead(self, heard: float) -> None:
        """Say how long the request was in our hands: until it went to the engine, and since the answer began."""
        request = self.request
        request.overhead_s = took = request.queue_s - request.waited_s + perf() - heard
        request.extra += ((b"x-modelport-overhead-ms", b"%.3f" % (took * 1000)),)

    async def _stream(self, heard: float) -> None:
        request, connection, translated = self.request, self.connection, self.translated
        if not request.begun:
            self._overhead(heard)
            request.start_stream()
        self._events = events = Events(*self.hide)
        put, feed = request.put, events.feed

        def direct(data: bytes) -> None:
            if out := feed(data):
                put(out)

        def through(data: bytes) -> None:
            if (out := feed(data)) and (made := translated.feed(out)):  # type: ignore[union-attr]
                put(made)

        request.source = connection
        if request.connection.write_paused_at is not None:
            connection.pause()
        try:
            await connection.pipe(through if translated else direct)
        finally:
            request.source = None
        rest = events.rest()
        request.end(translated.feed(rest) + translated.end() if translated else rest)

    async def _body(self, status: int, heard: float) -> Usage | None:
        request, connection = self.request, self.connection
        whole = await connection.whole(WHOLE_BYTES if self.translated is None else KEPT_BYTES)
        headers = [item for item in connection.headers.items() if item[0] in RETURNED]
        if whole is not None:
            used = of_body(whole)
            if self.translated is not None:
                whole = self.translated.whole(whole)
            self.sent_bytes = len(whole)
            headers.append((b"content-length", b"%d" % len(whole)))
            self._overhead(heard)
            request.start(status, headers)
            request.end(whole)
            return used
        if self.translated is not None:
            raise self._fault()
        if length := connection.header(b"content-length"):
            headers.append((b"content-length", length))
        request.start(status, headers)
        parts: list[bytes] = []
        size = 0
        while data := await connection.read():
            size += len(data)
            if size <= KEPT_BYTES:
                parts.append(data)
            self.sent_bytes = size
            await request.write(data)
        request.end()
        return of_body(b"".join(parts)) if size <= KEPT_BYTES else None

    async def _refusal(self, status: int) -> ModelportError:
        """The error a client is shown for an engine's: its own words only where it refused the request as such."""
        kind = KINDS.get(status, INVALID if 400 <= status < 500 else ENGINE_FAULT)
        if status in OUR_FAULT or kind is ENGINE_FAULT:
            log.warning("service %s: its engine answered %d", self.service, status)
            return self._fault()
        if kind in (BUSY, NOT_READY):
            wait = self.connection.header(b"retry-after")
            return ModelportError(
                f"The engine of service '{self.service}' is busy; try again.",
                kind,
                retry_after_s=float(wait) if wait.isdigit() and len(wait) < 5 else 5.0,
            )
        parts: list[bytes] = []
        while (data := await self.connection.read()) and sum(map(len, parts)) < WHOLE_BYTES:
            parts.append(data)
        try:
            error = msgspec.json.decode(b"".join(parts), type=_ErrorBody).error
        except (msgspec.DecodeError, RecursionError):
            error = None
        if isinstance(error, str):
            error = _Error(error)
        if error is None or (self.upstream.key and self.upstream.key in error.message):
            return ModelportError(f"The engine of service '{self.service}' refused the request.", kind)
        return ModelportError(error.message[:2000], kind, param=error.param)

    def _fault(self) -> ModelportError:
        name = self.service
        return ModelportError(
            f"The engine of service '{name}' failed; its owner sees why with `modelport logs {name}`.", ENGINE_FAULT
        )


def payload(request: Request, upstream: Upstream, target: str, body: bytes) -> bytes:
    """A request as an engine gets it."""
    passed = b""
    for name in FORWARDED:
        if (value := request.headers.get(name)) is not None:
            passed += b"%b: %b\r\n" % (name, value)
    return b"%b %b HTTP/1.1\r\n%b%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n%b" % (
        request.method.encode(), target.encode("latin-1"), upstream.head, passed, request.shown_id.encode(), len(body),
        body,
    )  # fmt: skip
