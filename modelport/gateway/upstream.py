"""Upstream: one address that requests are passed to (an engine, or control's socket), and its kept connections."""

import asyncio
import time
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

from modelport.gateway.breaker import Breaker
from modelport.gateway.connection import Connection

CONNECT_S = 3.0
IDLE_S = 2.0
"""Idle connections are not kept longer: engines close theirs after 5 s or more, and a request must not cross that."""
DOWN_S = 1.0
"""How long an address that could not be reached is left alone."""

CLOSES_AFTER_CHUNKS = frozenset(("llamacpp",))
"""Engines whose server closes a connection after a chunked answer without saying so beforehand."""

Visit = tuple[float, int]
"""What `enter` gives and `leave` wants back."""


class ConnectFailed(Exception):
    """No connection: nothing was sent, so the request may go elsewhere."""


class Upstream:
    """`url` is `http://host:port` or `unix:/path`. `key` is sent to it; a client's never is."""

    def __init__(
        self,
        name: str,
        url: str,
        key: str | None,
        routes: tuple[str, ...] = (),
        engine: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.id = name
        self.url = url
        self.key = key or ""
        self.routes = frozenset(routes)
        self.engine = engine
        self.in_flight = 0
        self.down_until = 0.0
        self.breaker = Breaker()
        self.on_free: Callable[[Upstream], None] | None = None
        """Called when the last request in flight ends; set once nothing is routed here any more."""
        self._clock = clock
        self._share_s = 0.0
        self._shared_at = 0.0
        parts = urlsplit(url)
        self._path = url.removeprefix("unix:") if parts.scheme == "unix" else None
        self._host, self._port = parts.hostname or "", parts.port or 80
        host = "localhost" if self._path else parts.netloc
        secret = f"authorization: Bearer {key}\r\n" if key else ""
        self.head = f"host: {host}\r\n{secret}".encode("latin-1")
        self._idle: list[Connection] = []

    def usable(self, now: float) -> bool:
        """Whether a request may be sent here now."""
        return self.down_until <= now and self.breaker.ok(now)

    async def connection(self, fresh: bool = False) -> Connection:
        """A kept connection or a new one; only a new one if `fresh`. Raises ConnectFailed, which the breaker then
        knows already."""
        if not fresh and (kept := self.kept()) is not None:
            return kept
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_S):
                if self._path is not None:
                    _, made = await loop.create_unix_connection(Connection, self._path)
                else:
                    _, made = await loop.create_connection(Connection, self._host, self._port)
        except OSError as error:  # TimeoutError is one
            self._unreachable()
            raise ConnectFailed from error
        return cast(Connection, made)

    def kept(self) -> Connection | None:
        """A connection from before that is not too old, if there is one."""
        while self._idle:
            found = self._idle.pop()
            if found.idle_since >= self._clock() - IDLE_S and found.usable():
                return found
            found.abort()
        return None

    def _unreachable(self) -> None:
        # Many requests that meet one refusal at once are one failure: control has seconds to replace what crashed.
        now = self._clock()
        if now >= self.down_until:
            self.breaker.failed(now)
        self.down_until = now + DOWN_S

    def give_back(self, connection: Connection) -> None:
        """Keep a connection for the next request when its answer came whole, else close it at once."""
        closes = connection.chunked and self.engine in CLOSES_AFTER_CHUNKS
        if connection.reusable() and self.on_free is None and not closes:
            connection.idle_since = self._clock()
            self._idle.append(connection)
        else:
            connection.abort()

    # Requests in flight, and how they share this replica's time

    def enter(self) -> Visit:
        """A request begins here."""
        now = self._clock()
        visit = self._share(now), self.breaker.enter(now)
        self.in_flight += 1
        return visit

    def leave(self, visit: Visit) -> float:
        """It is over. The seconds of this replica's time that were its own: those that it shared count by share, so
        that the shares of all requests add up to the time that the replica was busy."""
        began, probe = visit
        share_s = self._share(self._clock()) - began
        self.breaker.leave(probe)
        self.in_flight -= 1
        if self.in_flight == 0 and self.on_free is not None:
            self.on_free(self)
        return share_s

    def _share(self, now: float) -> float:
        """The integral of dt / in_flight over all busy time: what one who was always here would have had."""
        if self.in_flight:
            self._share_s += (now - self._shared_at) / self.in_flight
        self._shared_at = now
        return self._share_s

    def sweep(self) -> None:
        """Close what was idle for too long."""
        oldest = self._clock() - IDLE_S
        for kept in [c for c in self._idle if c.idle_since < oldest or not c.usable()]:
            self._idle.remove(kept)
            kept.abort()

    def close(self) -> None:
        while self._idle:
            self._idle.pop().abort()
