"""Sockets: where the gateway listens. Bound by the parent of a server, which keeps the port while a gateway is started
again, so nothing is imported here that takes memory."""

import socket

from modelport.errors import ModelportError
from modelport.gateway.certificate import Certificate
from modelport.settings import Settings

Listening = tuple[socket.socket, str]
"""A listening socket and the URL it is known by."""
LOOPBACK = "127.0.0.1"
BACKLOG = 2048


def bind(host: str, port: int, shared: bool = False) -> socket.socket:
    """A bound socket; a shared one may be bound by other processes of this user too. Raises OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
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
