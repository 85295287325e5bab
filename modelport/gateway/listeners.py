"""Listeners: the common port, and one more for every service that claims a port of its own."""

import asyncio
import logging
import os
import socket
from dataclasses import dataclass

from uvicorn import Config
from uvicorn.server import ServerState

from modelport.gateway.certificate import Certificate
from modelport.gateway.protocol import ClientConnection
from modelport.gateway.routes import Routes
from modelport.gateway.sockets import BACKLOG, LOOPBACK, bind
from modelport.settings import Settings

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
                sock = bind(address.host, address.port, shared=self._settings.gateways > 1)
                server = await self._serve(sock, service_id, address.loopback)
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
