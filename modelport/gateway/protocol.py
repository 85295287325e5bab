"""ClientConnection: uvicorn's httptools protocol with what it lacks against strangers.

A cap on header bytes, a deadline for a complete header, exactly one Host, one unambiguous body length, errors in our
JSON shape, and a hook that tells the app at once when the client is gone.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import httptools
import msgspec
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from modelport.errors import HEADERS_TOO_LARGE, TIMEOUT_BODY, ModelportError
from modelport.settings import Settings

BAD_HOST = frozenset(b"/?#@\\ \t")
"""Characters that make two parsers disagree on what the host is."""


class ClientConnection(HttpToolsProtocol):
    """One client's connection. `service_id` binds it to one service where it came in on that service's own port."""

    def __init__(
        self, config: Config, state: ServerState, settings: Settings, service_id: str | None, loopback: bool
    ) -> None:
        super().__init__(config, state, {}, asyncio.get_running_loop())
        self.logger = logging.getLogger("modelport.gateway")
        self.access_log = False
        self.settings = settings
        self.service_id = service_id
        self.loopback = loopback
        self.on_gone: Callable[[], None] | None = None
        """Called once when the connection is lost; the app sets it while it works on a request."""
        self.gone = False
        self._reading_head = True
        self._head_bytes = 0
        self._fed_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._refusal: ModelportError | None = None

    # What the app asks

    def body_pending(self, scope: object) -> bool:
        """Whether part of this request's body has not arrived."""
        return self.cycle is not None and self.cycle.scope is scope and self.cycle.more_body

    def cut(self) -> None:
        """End an answer that cannot be finished, so that the client sees it broken rather than complete."""
        if self.cycle is not None:
            self.cycle.disconnected = True
        self.transport.close()

    # Connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._disarm()
        self.gone = True
        if self.on_gone is not None:
            self.on_gone()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing() or self.parser is None:
            return
        self._unset_keepalive_if_required()
        self._fed_bytes = len(data)
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse(self._refusal or ModelportError("The request is not valid HTTP/1.1."))
        else:
            self._watch()

    def _watch(self) -> None:
        """After each piece: count an unfinished header, and keep a deadline while no request is being answered."""
        if self._reading_head or self.cycle is None or self.cycle.response_complete:
            self._head_bytes += self._fed_bytes
            if self._head_bytes > self.settings.max_header_bytes:
                self._refuse(self._too_long())
            elif self._deadline is None:
                self._arm()
        elif self._deadline is not None:
            self._disarm()

    # Parser callbacks

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["connection"] = self  # type: ignore[typeddict-unknown-key]
        self._reading_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        self._refusal = self._problem()
        if self._refusal is not None:
            raise ValueError("refused")  # httptools hands it to data_received as an HttpParserError
        self._reading_head = False
        super().on_headers_complete()

    def _problem(self) -> ModelportError | None:
        """What makes this header one that two servers could read differently, or None."""
        if self._head_bytes + self._fed_bytes > self.settings.max_header_bytes:
            exact = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if exact > self.settings.max_header_bytes:
                return self._too_long()
        hosts = lengths = encodings = 0
        for name, value in self.headers:
            if name == b"host":
                hosts += 1
                if not BAD_HOST.isdisjoint(value):
                    return ModelportError("The Host header holds a character that no host name has.")
            elif name == b"content-length":
                lengths += 1
            elif name == b"transfer-encoding":
                encodings += 1
                if value.lower() != b"chunked":
                    return ModelportError("The only Transfer-Encoding a request may have is chunked.")
        old = self.parser is not None and self.parser.get_http_version() == "1.0"  # which has no Host
        if hosts > 1 or (hosts == 0 and not old):
            return ModelportError("A request must have exactly one Host header.")
        if lengths + encodings > 1:
            return ModelportError("A request must give its body's length in one way, once.")
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
        if self.cycle is not None and not self.cycle.response_complete:
            self._arm()  # part of a next request came early; the one being answered goes first
        else:
            wait = self.settings.header_timeout
            self._refuse(ModelportError(f"The request's header was not complete within {wait:g} s.", TIMEOUT_BODY))

    def _refuse(self, error: ModelportError) -> None:
        """Answer in our shape and close. Where another answer is under way, only close: it must not be mixed up."""
        if self.transport.is_closing():
            return
        cycle = self.cycle
        busy = cycle is not None and not cycle.response_complete
        if not (busy and (cycle.response_started or not cycle.more_body)):
            body = msgspec.json.encode(error.body())
            self.transport.write(
                b"%bcontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
                % (STATUS_LINE[error.kind.status], len(body), body)
            )
        self.transport.close()
        app: Any = self.app
        app.refused(error)
