"""Request: one exchange with a client: what it sent, how the answer goes out, and what is known of it after."""

import asyncio
import re
import time
from typing import TYPE_CHECKING, Any

import msgspec
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from modelport.errors import TIMEOUT_BODY, TOO_LARGE, UNAUTHORIZED, ModelportError

if TYPE_CHECKING:
    from modelport.gateway.bodies import Bodies
    from modelport.gateway.connection import Connection
    from modelport.gateway.protocol import ClientConnection
    from modelport.gateway.trace import Trace

Header = tuple[bytes, bytes]
JSON = b"application/json"
SSE = b"text/event-stream; charset=utf-8"
MIN_BODY_BYTES = 1024
"""A body must bring this much in every body_timeout, so that one sent a byte at a time does not last for ever."""
_ID = re.compile(rb"[A-Za-z0-9_-]{1,64}")
encode = msgspec.json.Encoder().encode
perf = time.perf_counter


class Request:
    """Filled as the request goes on its way; the log line is made of it at the end."""

    # Most of these keep their defaults in most requests, which costs nothing this way.
    begun = complete = sse = False
    more_body = True
    stream = False
    old = False
    """Whether it came by HTTP/1.0."""
    cut_off = False
    """Whether its deadline or a stalled client ended it, rather than the client."""
    task: "asyncio.Task[None] | None" = None
    source: "Connection | None" = None
    """The engine's connection, while its answer goes straight on to the client."""
    extra: tuple[Header, ...] = ()
    """Headers that the answer gets whatever it is: limits, overhead."""
    dialect: Any = None
    """How errors are worded where it is not OpenAI's way: a function of error and request id."""
    account: Any = None
    """What it holds (account.py), once it was admitted."""
    trace: "Trace | None" = None
    bodies: "Bodies | None" = None
    """Its text and its answer's, where its key opted in."""
    key: Any = None
    id = shown_id = ""
    route = "-"
    model = service = service_id = instance_id = ""
    status = 0
    queue_s = 0.0
    waited_s = 0.0
    """Of queue_s: in a queue, for a start, for a lease."""
    overhead_s: float | None = None
    """What this gateway itself took until its answer began."""
    first_byte_s: float | None = None
    hold_until: float | None = None
    deadline: float | None = None
    """When it must have ended, on the loop's clock."""
    _size = 0
    _whole: bytes | None = None
    _wants_body = _chunked = False
    _arrived: "asyncio.Future[None] | None" = None
    _writable: "asyncio.Future[None] | None" = None
    _head = b""

    def __init__(
        self, connection: "ClientConnection", method: str, target: bytes, headers: dict[bytes, bytes], keep_alive: bool
    ) -> None:
        self.started = perf()
        self.connection = connection
        self.method = method
        path, _, self.query = target.partition(b"?")
        self.path = path.decode("latin-1")
        """As it came: never decoded, so that no second spelling reaches a route."""
        self.headers = headers
        self.keep_alive = keep_alive
        self._parts: list[bytes] = []

    def name(self, request_id: str) -> None:
        """Ours is unique and the usage row's key. A client may give its own to be shown, and may repeat it."""
        self.id = request_id
        shown = self.headers.get(b"x-request-id")
        self.shown_id = shown.decode() if shown is not None and _ID.fullmatch(shown) else request_id

    # What the connection tells

    def received(self, data: bytes) -> None:
        """A piece of the body. What nobody asked for yet does not pile up."""
        if self.complete:
            return
        self._parts.append(data)
        self._size += len(data)
        if not self._wants_body and self._size > HIGH_WATER_LIMIT:
            self.connection.flow.pause_reading()
        self._tell(self._arrived)

    def received_all(self) -> None:
        self.more_body = False
        self._tell(self._arrived)

    def lost(self) -> None:
        """The client is gone: stop wherever this request is."""
        if self.task is not None and not self.complete:
            self.task.cancel()

    def release(self) -> None:
        """It is over: let go of what is large, and of what points back here, which only the collector would free."""
        self.account = self.task = self.bodies = self.trace = None
        self._whole = None
        self._parts = []

    def writable(self) -> None:
        """The client reads again."""
        if self.source is not None:
            self.source.resume()
        self._tell(self._writable)

    def _tell(self, waiter: "asyncio.Future[None] | None") -> None:
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # The body

    def arrived(self, limit: int) -> bytes | None:
        """The whole body, where it is here already and no longer than that: most are."""
        if self.more_body or self._size > limit or len(self._parts) != 1:
            return self._whole
        self._whole = self._parts[0]
        return self._whole

    async def body(self, limit: int, pause_s: float) -> bytes:
        """The whole body, also a second time. Raises ModelportError: 413 above `limit` bytes, 408 when it comes too
        slowly."""
        if self._whole is None:
            declared = self.headers.get(b"content-length")
            if declared is not None and int(declared) > limit:
                raise _too_large(limit)
            if self.more_body:
                await self._rest(limit, pause_s)
            if self._size > limit:
                raise _too_large(limit)
            self._whole = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            self._parts = []
        return self._whole

    async def _rest(self, limit: int, pause_s: float) -> None:
        connection = self.connection
        loop = connection.loop
        if self.headers.get(b"expect", b"").lower() == b"100-continue":
            connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._wants_body = True
        seen, deadline = self._size, loop.time() + pause_s
        while self.more_body:
            if self._size > limit:
                raise _too_large(limit)
            if self._size - seen >= MIN_BODY_BYTES:
                seen, deadline = self._size, loop.time() + pause_s
            connection.flow.resume_reading()
            self._arrived = loop.create_future()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._arrived
            except TimeoutError:
                raise ModelportError("The request's body came too slowly.", TIMEOUT_BODY) from None
            finally:
                self._arrived = None

    # The answer

    def start(self, status: int, headers: list[Header]) -> None:
        """The answer's head. It leaves together with the first bytes after it."""
        self.status = status
        self.begun = True
        whole = self._chunked = True
        parts = [STATUS_LINE[status]]
        for name, value in headers:
            if name == b"content-length":
                self._chunked = False
            elif name == b"connection":
                whole = False
            parts += (name, b": ", value, b"\r\n")
        for name, value in self.extra:
            parts += (name, b": ", value, b"\r\n")
        parts += (b"x-request-id: ", self.shown_id.encode(), b"\r\n")
        if self.more_body:  # the rest of it is not read
            self.keep_alive = False
        if not self.keep_alive and whole:
            parts.append(b"connection: close\r\n")
        if self._chunked and self.old:  # HTTP/1.0 has no chunks: the end of the connection is the answer's
            self._chunked = False
        elif self._chunked:
            parts.append(b"transfer-encoding: chunked\r\n")
        parts.append(b"\r\n")
        self._head = b"".join(parts)

    def start_stream(self) -> None:
        """Answer 200 with server-sent events to come."""
        self.sse = True
        self.start(200, [(b"content-type", SSE), (b"cache-control", b"no-cache")])

    def put(self, data: bytes) -> None:
        """Write at once, without waiting for a client that reads slowly."""
        if not data or self.connection.closing:  # nothing would end a chunked answer
            return
        if self.first_byte_s is None:
            self.first_byte_s = perf() - self.started
        if self.bodies is not None:
            self.bodies.tee(data)
        if self._chunked:
            data = b"%b%x\r\n%b\r\n" % (self._head, len(data), data)
        elif self._head:
            data = self._head + data
        self._head = b""
        self.connection.transport.write(data)

    async def write(self, data: bytes) -> None:
        """Write, and wait until the client took most of what was written."""
        self.put(data)
        while self.connection.write_paused_at is not None and not self.connection.gone:
            self._writable = self.connection.loop.create_future()
            try:
                await self._writable
            finally:
                self._writable = None

    def end(self, data: bytes = b"") -> None:
        """The last bytes. The connection goes on to its next request, or closes."""
        if self.first_byte_s is None:
            self.first_byte_s = perf() - self.started
        if self.bodies is not None:
            self.bodies.tee(data)
        if self._chunked:
            data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
        if self.method == "HEAD":
            data = b""
        if not self.connection.closing:
            self.connection.transport.write(self._head + data)
        self._head = b""
        self.complete = True
        if not self.keep_alive:
            self.connection.transport.close()
        self.connection.answered()

    def answer(self, status: int, body: bytes, headers: tuple[Header, ...] = (), kind: bytes = JSON) -> None:
        """A whole answer in one go."""
        self.start(status, [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *headers])
        self.end(body)

    def fail(self, error: ModelportError, headers: tuple[Header, ...] = ()) -> None:
        """Answer with an error: plainly where nothing was sent, as an event in a stream, else by cutting it off."""
        if self.complete:
            return
        body = self.dialect(error, self.shown_id) if self.dialect else encode(error.body(self.shown_id))
        if not self.begun:
            if (wait := error.retry_after()) is not None:
                headers = (*headers, (b"retry-after", wait.encode()))
            if error.kind is UNAUTHORIZED:
                headers = (*headers, (b"www-authenticate", b"Bearer"))
            self.answer(error.kind.status, body, (*headers, *error.headers))
            return
        self.status = error.kind.status  # what the log says; the client was already told 200
        if self.sse:
            self.end((b"event: error\ndata: " if self.dialect else b"data: ") + body + b"\n\n")
        else:
            self.complete = True
            self.connection.cut()


def _too_large(limit: int) -> ModelportError:
    return ModelportError(f"The request's body is larger than {limit} bytes.", TOO_LARGE)
