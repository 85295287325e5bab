"""Relay: an upstream's answer on its way to the client, and what becomes of its errors."""

import logging

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
from modelport.gateway.request import Request
from modelport.gateway.upstream import ConnectFailed, Upstream
from modelport.gateway.usage import Events, of_body

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
log = logging.getLogger("modelport.gateway")


class _Error(msgspec.Struct):
    message: str
    param: str | None = None


class _ErrorBody(msgspec.Struct):
    error: _Error


class Passage:
    """One request to an upstream and its answer on its way."""

    __slots__ = ("connection", "payload", "request", "service", "timeout_s", "upstream")

    def __init__(
        self,
        request: Request,
        upstream: Upstream,
        connection: Connection,
        payload: bytes,
        service: str,
        timeout_s: float | None,
    ) -> None:
        self.request = request
        self.upstream = upstream
        self.connection = connection
        self.payload = payload
        self.service = service
        self.timeout_s = timeout_s

    async def run(self, hide_usage: bool) -> None:
        """Pass the answer on. Raises ModelportError for one that is an error, breaks off or does not come."""
        try:
            status = await self._head()
            if not 200 <= status < 300:
                raise await self._refusal(status)
            if self.connection.header(b"content-type").startswith(b"text/event-stream"):
                await self._stream(hide_usage)
            elif self.request.begun:  # comments went out already, so only events may follow
                raise self._fault()
            else:
                await self._body(status)
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
            return await self.connection.head(self.timeout_s)
        except UpstreamStale:
            self.connection.abort()
            self.connection = await self.upstream.connection(fresh=True)
            self.connection.send(self.payload)
            return await self.connection.head(self.timeout_s)

    async def _stream(self, hide_usage: bool) -> None:
        request = self.request
        if not request.begun:
            await request.start_stream()
        events = Events(hide_usage)
        try:
            while data := await self.connection.read(self.timeout_s):
                if out := events.feed(data):
                    await request.write(out)
            await request.end(events.rest())
        finally:
            request.usage = events.usage

    async def _body(self, status: int) -> None:
        request, read = self.request, self.connection.read
        parts: list[bytes] = []
        size = 0
        while data := await read(self.timeout_s):
            parts.append(data)
            size += len(data)
            if size > WHOLE_BYTES:
                break
        headers = [(name, value) for name, value in self.connection.headers if name in RETURNED]
        if not data:
            whole = b"".join(parts)
            headers.append((b"content-length", b"%d" % len(whole)))
            await request.start(status, headers)
            await request.end(whole)
            request.usage = of_body(whole)
            return
        if length := self.connection.header(b"content-length"):
            headers.append((b"content-length", length))
        await request.start(status, headers)
        await request.write(b"".join(parts))
        while data := await read(self.timeout_s):
            size += len(data)
            if size <= KEPT_BYTES:
                parts.append(data)
            await request.write(data)
        await request.end()
        if size <= KEPT_BYTES:
            request.usage = of_body(b"".join(parts))

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
                retry_after_s=float(wait) if wait.isdigit() else 5.0,
            )
        parts: list[bytes] = []
        while (data := await self.connection.read(self.timeout_s)) and sum(map(len, parts)) < WHOLE_BYTES:
            parts.append(data)
        try:
            error = msgspec.json.decode(b"".join(parts), type=_ErrorBody).error
        except (msgspec.DecodeError, RecursionError):
            error = None
        if error is None or (self.upstream.key and self.upstream.key in error.message):
            return ModelportError(f"The engine of service '{self.service}' refused the request.", kind)
        return ModelportError(error.message[:2000], kind, param=error.param)

    def _fault(self) -> ModelportError:
        name = self.service
        return ModelportError(
            f"The engine of service '{name}' failed; its owner sees why with `modelport logs {name}`.", ENGINE_FAULT
        )
