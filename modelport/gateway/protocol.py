"""ClientConnection: uvicorn's httptools protocol with what it lacks against strangers, and without what costs time.

Beyond it: a cap on header bytes, a deadline for a complete header, exactly one Host, one unambiguous body length,
errors in our JSON shape, and a call that tells the app at once when the client is gone. Instead of ASGI's messages
between tasks, a Request is handed to the app, which writes to the transport itself; instead of timers for each
request, one watch looks at all connections (watch.py).
"""

import asyncio
import logging
from typing import TYPE_CHECKING, cast

import httptools
import msgspec
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from modelport.errors import HEADERS_TOO_LARGE, TIMEOUT_BODY, TOO_LARGE, ModelportError
from modelport.gateway.request import Request
from modelport.settings import Settings

if TYPE_CHECKING:
    from modelport.gateway.app import Gateway

BAD_HOST = frozenset(b"/?#@\\ \t")
"""Characters that make two parsers disagree on what the host is."""

MAX_WAITING = 16
"""Requests that may come on one connection while an earlier one is answered."""
ONCE = {
    b"host": "A request must have exactly one Host header.",
    b"authorization": "A request may have one Authorization header.",
    b"x-api-key": "A request may have one x-api-key header.",
    b"content-length": "A request must give its body's length in one way, once.",
    b"transfer-encoding": "A request must give its body's length in one way, once.",
}
"""Headers of which two servers could read different ones."""


class ClientConnection(HttpToolsProtocol):
    """One client's connection. `service_id` binds it to one service where it came in on that service's own port."""

    def __init__(
        self, config: Config, state: ServerState, settings: Settings, service_id: str | None, loopback: bool
    ) -> None:
        super().__init__(config, state, {}, asyncio.get_running_loop())
        self.logger = logging.getLogger("modelport.gateway")
        self.gateway = cast("Gateway", cast(object, config.app))
        self.settings = settings
        self.service_id = service_id
        self.loopback = loopback
        self.address = ""
        self.gone = False
        self.request: Request | None = None
        """The newest request; an earlier one may still be answered while it waits in `waiting`."""
        self.waiting: list[Request] = []
        self.write_paused_at: float | None = None
        """When the client stopped reading; None while it reads."""
        self.idle_since = self.loop.time()
        self._named: dict[bytes, bytes] = {}
        self._reading_head = True
        self._head_bytes = 0
        self._fed_bytes = self._body_bytes = self._framing_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._refusal: ModelportError | None = None

    def cut(self) -> None:
        """End an answer that cannot be finished, so that the client sees it broken rather than complete."""
        self.transport.close()

    @property
    def closing(self) -> bool:
        """Whether nothing that is written now arrives."""
        return self.gone or self.transport.is_closing()

    @property
    def busy(self) -> bool:
        return self.request is not None and not self.request.complete

    # Connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.discard(self)
        self._disarm()
        self.gone = True
        self.parser = None  # type: ignore[assignment]
        self.resume_writing()
        for request in (self.request, *self.waiting):
            if request is not None:
                request.lost()

    def leave(self) -> None:
        """The client stopped reading: treat it as gone, and read no more of what is meant for it."""
        self.gone = True
        for request in (self.request, *self.waiting):
            if request is not None:
                request.lost()
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing() or self.parser is None:
            return
        self._fed_bytes = len(data)
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse(self._refusal or ModelportError("The request is not valid HTTP/1.1."))
        else:
            self._watch()

    def _watch(self) -> None:
        """After each piece: count an unfinished header, and keep a deadline while no request is being answered."""
        if self._reading_head or not self.busy:
            self._head_bytes += self._fed_bytes
            if self._head_bytes > self.settings.max_header_bytes:
                self._refuse(self._too_long())
            elif self._deadline is None:
                self._arm()
            return
        if self._deadline is not None:
            self._disarm()
        self._framing_bytes += self._fed_bytes
        if self._framing_bytes > self.settings.max_header_bytes + 8 * self._body_bytes:
            self._refuse(ModelportError("The request's chunks hold more extensions than body.", TOO_LARGE))

    def pause_writing(self) -> None:
        self.write_paused_at = self.loop.time()
        if self.request is not None and self.request.source is not None:
            self.request.source.pause()

    def resume_writing(self) -> None:
        self.write_paused_at = None
        if self.request is not None:
            self.request.writable()

    def shutdown(self) -> None:
        """Close once what is under way is answered."""
        if not self.busy:
            self.transport.close()
        for request in (self.request, *self.waiting):
            if request is not None:
                request.keep_alive = False

    def answered(self) -> None:
        """The request under way is answered whole: the next one's turn."""
        self.idle_since = self.loop.time()
        if self.transport.is_closing():
            return
        if self.waiting:
            self._start(self.waiting.pop(0))
        if not self.waiting:
            self.flow.resume_reading()

    # Parser callbacks

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self._reading_head = True
        self._head_bytes = self._body_bytes = self._framing_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._reading_head:
            return  # a trailer, after a chunked body: nobody reads those
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._refusal = self._problem()
        if self._refusal is not None:
            raise ValueError("refused")  # httptools hands it to data_received as an HttpParserError
        self._reading_head = False
        parser = cast(httptools.HttpRequestParser, self.parser)
        old = parser.get_http_version() == "1.0"
        keep_alive = not old and parser.should_keep_alive()
        request = Request(self, parser.get_method().decode("ascii"), self.url, self._named, keep_alive)
        request.old = old
        if len(self.waiting) >= MAX_WAITING:
            raise ValueError("too many requests at once")
        if self.busy or self.waiting:
            self.flow.pause_reading()  # a next request came early: it waits for its turn
            self.waiting.append(request)
        else:
            self._start(request)
        self._receiving = request

    def on_body(self, body: bytes) -> None:
        self._fed_bytes -= len(body)
        self._body_bytes += len(body)
        self._receiving.received(body)

    def on_message_complete(self) -> None:
        self._receiving.received_all()

    def _start(self, request: Request) -> None:
        self.request = request
        request.task = task = self.loop.create_task(self.gateway.run(request))
        self.tasks.add(task)

    def _problem(self) -> ModelportError | None:
        """What makes this header one that two servers could read differently, or None."""
        if self._head_bytes + self._fed_bytes > self.settings.max_header_bytes:
            exact = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if exact > self.settings.max_header_bytes:
                return self._too_long()
        named = self._named = dict(self.headers)
        if len(named) != len(self.headers):
            names = [name for name, _ in self.headers]
            for name, sentence in ONCE.items():
                if names.count(name) > 1:
                    return ModelportError(sentence)
        version = self.parser.get_http_version() if self.parser is not None else ""
        if version not in ("1.0", "1.1"):
            return ModelportError("This server speaks HTTP/1.1 and HTTP/1.0 only.")
        host = named.get(b"host")
        if host is None:
            if version == "1.1":  # 1.0 has none
                return ModelportError(ONCE[b"host"])
        elif not BAD_HOST.isdisjoint(host):
            return ModelportError("The Host header holds a character that no host name has.")
        if (encoding := named.get(b"transfer-encoding")) is not None:
            if encoding.lower() != b"chunked":
                return ModelportError("The only Transfer-Encoding a request may have is chunked.")
            if b"content-length" in named:
                return ModelportError(ONCE[b"content-length"])
        if self.parser is not None and self.parser.should_upgrade():  # its body would be lost
            return ModelportError("This server does not upgrade connections to another protocol.")
        if not self.url.startswith(b"/"):
            return ModelportError("The request's target must be a path that begins with '/'.")
        return None

    def _too_long(self) -> ModelportError:
        limit = self.settings.max_header_bytes
        return ModelportError(f"The request's header is larger than {limit} bytes.", HEADERS_TOO_LARGE)

    # Deadlines and refusals

    def _arm(self) -> None:
        self._deadline = self.loop.call_later(self.settings.header_timeout, self._late)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        if self.busy:
            self._arm()  # part of a next request came early; the one being answered goes first
        else:
            wait = self.settings.header_timeout
            self._refuse(ModelportError(f"The request's header was not complete within {wait:g} s.", TIMEOUT_BODY))

    def _refuse(self, error: ModelportError) -> None:
        """Answer in our shape and close. Where another answer is under way, only close: it must not be mixed up."""
        if self.transport.is_closing():
            return
        request = self.request
        if request is None or request.complete or (not request.begun and request.more_body):
            body = msgspec.json.encode(error.body())
            self.transport.write(
                b"%bcontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
                % (STATUS_LINE[error.kind.status], len(body), body)
            )
        self.transport.close()
        self.gateway.refused(error)
