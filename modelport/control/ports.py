"""Choosing ports: the lowest free one, under the store's write lock, and probed by binding it."""

import socket
from collections.abc import Callable, Container, Sequence

from modelport.errors import NOT_READY, ModelportError
from modelport.settings import TAKEN_PORTS


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether nothing listens there now. SO_REUSEADDR: a port just left counts as free, as it does for servers."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def automatic(first: int) -> list[int]:
    """The ports from `first` on that may be given without being asked for: no preset's."""
    return [p for p in range(first, min(first + 2000, 65536)) if not any(p in preset for preset in TAKEN_PORTS)]


def lowest_free(ports: Sequence[int], taken: Container[int], free: Callable[[int], bool] = is_free) -> int:
    """The lowest of these ports, which are in order, that is not taken and is free. Raises ModelportError (503)."""
    for port in ports:
        if port not in taken and free(port):
            return port
    raise ModelportError(
        f"No port is free from {ports[0]} to {ports[-1]}; stop a service, or set another range.", NOT_READY
    )
