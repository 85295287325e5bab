"""Connection: one HTTP/1.1 connection to an upstream, a request at a time, on asyncio and httptools."""

import asyncio
from collections.abc import Callable

import httptools

READ_AHEAD_BYTES = 256 << 10
"""What may wait here for a slow client before reading from the engine pauses."""
MAX_HEADER_BYTES = 64 << 10
STALE_S = 0.25
"""A kept connection that ends so soon after a request was sent had been closed before; later, the request may have
been worked on, and is not sent again."""


class UpstreamBroke(Exception):
    """It closed within an answer, or sent something that is not HTTP."""


class UpstreamStale(UpstreamBroke):
    """A kept connection ended before the first byte of an answer: the other side had closed it already."""


class UpstreamSilent(Exception):
    """It sent nothing for longer than allowed."""


class Connection(asyncio.Protocol):
    """send() a request, then head(), then read() until b"" or pipe() the rest. One waiter at a time."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.idle_since = 0.0
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._lost = False
        self._reset()

    def _reset(self) -> None:
        self.kept = self.idle_since > 0
        """Whether an earlier request used it, so that the other side may have closed it when this one was sent."""
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        """By lower-case name. Of one that came twice, the first."""
        self.chunked = False
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._header_bytes = 0
        self._head_bytes = 0
        self._heard = False
        self._ahead = READ_AHEAD_BYTES
        self._over = self._keep = self._paused = self._until_close = False
        self._error: UpstreamBroke | UpstreamSilent | None = None
        self._sink: Callable[[bytes], None] | None = None
        self.heard_at: float = self.loop.time()
        """When it last sent something, or was sent something: the watch ends one that is silent for too long."""

    # What a request does

    def send(self, data: bytes) -> None:
        """Write a whole request: head and body."""
        self._reset()
        self.idle_since = 0.0
        self.transport.write(data)

    async def head(self) -> int:
        """The answer's status, once its header is here. Raises UpstreamBroke, UpstreamSilent."""
        while not self.status:
            if self._error is not None:
                if self.kept and not self._heard and self.loop.time() - self.heard_at < STALE_S:
                    raise UpstreamStale from self._error
                raise self._error
            await self._wait()
        return self.status

    async def whole(self, limit: int) -> bytes | None:
        """The whole body; None, with what has arrived left for read(), when it is larger than `limit` bytes."""
        self._ahead = max(limit, READ_AHEAD_BYTES)
        self.resume()
        while not self._over:
            if self._error is not None:
                raise self._error
            if self._body_bytes > limit:
                return None
            await self._wait()
        data = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        return data

    async def pipe(self, sink: Callable[[bytes], None]) -> None:
        """Hand the body to `sink` as it comes, within the call that receives it, until its end. What `sink` is given
        first may be several pieces together."""
        if self._body:
            data = b"".join(self._body)
            self._body = []
            sink(data)
        self._sink = sink
        try:
            while not self._over:
                if self._error is not None:
                    raise self._error
                await self._wait()
        finally:
            self._sink = None

    def pause(self) -> None:
        """Read no more until resume(): the client does not keep up."""
        if not self._paused and not self._lost:
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self.heard_at = self.loop.time()
            if not self._lost:
                self.transport.resume_reading()

    def silent_since(self) -> float | None:
        """Since when its answer is waited for; None while it is not: nothing is asked, or the client is slow."""
        return None if self._over or self._paused or self._waiter is None else self.heard_at

    def give_up(self) -> None:
        """It was silent for too long."""
        self._error = self._error or UpstreamSilent()
        self._wake()

    async def read(self) -> bytes:
        """What has arrived of the body, at least one byte; b"" at its end. Raises UpstreamBroke, UpstreamSilent."""
        while not self._body:
            if self._over:
                return b""
            if self._error is not None:
                raise self._error
            await self._wait()
        data = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        self._body_bytes = 0
        self.resume()
        return data

    def header(self, name: bytes) -> bytes:
        return self.headers.get(name, b"")

    def usable(self) -> bool:
        return not self._lost and not self.transport.is_closing() and self._error is None

    def reusable(self) -> bool:
        """Whether the answer came whole, was read whole, and both sides keep the connection."""
        read = self._over and self._keep and not self._body
        return read and self.usable() and not self.transport.get_write_buffer_size()

    def abort(self) -> None:
        self.transport.abort()

    async def _wait(self) -> None:
        self._waiter = self.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _break(self, what: str) -> None:
        if not self._over and self._error is None:
            self._error = UpstreamBroke(what)
        self._keep = False
        self.transport.abort()
        self._wake()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self.idle_since:
            self.transport.abort()  # nobody asked
            return
        self._heard = True
        self.heard_at = self.loop.time()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._break("not an HTTP answer")
            return
        if not self.status:  # an unfinished header, or 1xx answers without end
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEADER_BYTES:
                self._break("header too large")

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if self._until_close and exc is None and self._error is None:
            self._over = True
        elif not self._over and self._error is None:
            self._error = UpstreamBroke("closed")
        self._wake()

    # httptools

    def on_message_begin(self) -> None:
        if self._over:
            raise ValueError("a second answer to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEADER_BYTES:
            raise ValueError("header too large")
        if self.headers.setdefault(name.lower(), value) is not value and name.lower() == b"transfer-encoding":
            raise ValueError("two transfer encodings")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            self.headers = {}  # 100 Continue and the like: the answer is still to come
            return
        if self._parser.get_http_version() not in ("1.0", "1.1"):
            raise ValueError("unknown version")
        encoding = self.headers.get(b"transfer-encoding")
        self.chunked = encoding is not None
        if encoding is not None and encoding.lower() != b"chunked":
            raise ValueError("unknown transfer encoding")
        self._until_close = not (self.chunked or b"content-length" in self.headers or status in (204, 304))
        self.status = status
        self._wake()

    def on_body(self, body: bytes) -> None:
        if self._sink is not None:
            self._sink(body)
            return
        self._body.append(body)
        self._body_bytes += len(body)
        if self._body_bytes > self._ahead:
            self.pause()
        self._wake()

    def on_message_complete(self) -> None:
        if self.status:
            self._over = True
            self._keep = self._parser.should_keep_alive()
            self._wake()
