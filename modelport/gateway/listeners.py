"""Listeners: the common port, and one more for every service that claims a port of its own."""

import asyncio
import logging
import os
import socket
from dataclasses import dataclass

from uvicorn import Config
from uvicorn.server import ServerState

from modelport.errors import ModelportError
from modelport.gateway.certificate import Certificate
from modelport.gateway.protocol import ClientConnection
from modelport.gateway.routes import Routes
from modelport.settings import Settings

Listening = tuple[socket.socket, str]
"""A listening socket and the URL it is known by."""
LOOPBACK = "127.0.0.1"
BACKLOG = 2048
log = logging.getLogger("modelport.gateway")


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int
    loopback: bool
    """Whether it was opened for a service without keys, and so on loopback only."""


class Listeners:
    """What is open now. `problems` says by service id why a port could not be opened; it is tried again."""

    def __init__(self, config: Config, state: ServerState, settings: Settings) -> None:
        self.problems: dict[str, str] = {}
        self._config = config
        self._state = state
        self._settings = settings
        self._certificate = Certificate.of(settings)
        self._open: dict[str, tuple[Address, asyncio.Server]] = {}
        self._main: asyncio.Server | None = None
        self._closed = False

    async def open_main(self, sock: socket.socket) -> None:
        self._main = await self._serve(sock, None, False)

    async def apply(self, routes: Routes) -> None:
        """Open and close service ports so that they are what the routes say, and see to the certificate."""
        if self._certificate is not None:
            self._certificate.refresh()
        if self._closed or not routes.loaded:
            return
        wanted: dict[str, Address] = {}
        for route in routes.by_id.values():
            if route.routed.port is not None:
                open_door = route.routed.spec.auth == "none"
                host = LOOPBACK if open_door else self._settings.host
                wanted[route.routed.id] = Address(host, route.routed.port, open_door)
        for service_id in [s for s, (address, _) in self._open.items() if wanted.get(s) != address]:
            self._open.pop(service_id)[1].close()
        problems: dict[str, str] = {}
        for service_id, address in wanted.items():
            if service_id in self._open:
                continue
            try:
                server = await self._serve(bind(address.host, address.port), service_id, address.loopback)
                self._open[service_id] = (address, server)
            except OSError as error:
                problems[service_id] = f"Port {address.port} cannot be opened: {os.strerror(error.errno or 0)}."
                if service_id not in self.problems:
                    log.warning("service %s: %s", routes.by_id[service_id].name, problems[service_id])
        self.problems = problems

    async def _serve(self, sock: socket.socket, service_id: str | None, loopback: bool) -> asyncio.Server:
        def made() -> ClientConnection:
            return ClientConnection(self._config, self._state, self._settings, service_id, loopback)

        loop = asyncio.get_running_loop()
        if self._certificate is None:
            return await loop.create_server(made, sock=sock, backlog=BACKLOG)
        wait = self._settings.header_timeout or None
        context = self._certificate.context
        return await loop.create_server(made, sock=sock, backlog=BACKLOG, ssl=context, ssl_handshake_timeout=wait)

    def close(self) -> None:
        """Accept nothing new anywhere."""
        self._closed = True
        if self._main is not None:
            self._main.close()
        for _, server in self._open.values():
            server.close()


def bind(host: str, port: int) -> socket.socket:
    """A bound socket. Raises OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)  # with SO_REUSEADDR, two may bind; only one may listen
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def bind_main(settings: Settings) -> Listening:
    """The common port's socket and its URL. Raises ModelportError that names the port and the setting."""
    scheme = "http" if Certificate.of(settings) is None else "https"
    try:
        sock = bind(settings.host, settings.port)
    except OSError as error:
        why = error.strerror or "the address is not known"
        raise ModelportError(
            f"Port {settings.port} on {settings.host} cannot be opened: {why}. Free it, or set another with --port "
            "(MODELPORT_PORT; 0 is any free one)."
        ) from None
    host = {"0.0.0.0": LOOPBACK, "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104 - shown, not bound
    shown = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return sock, f"{scheme}://{shown}:{sock.getsockname()[1]}"
