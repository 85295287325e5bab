"""RawEngine: an engine that answers any request with any bytes, and notes every request line on every connection."""

import contextlib
import json
import re
import socket
import threading
from collections.abc import Callable

Answer = Callable[[socket.socket], None]


def good(request: bytes) -> bytes:
    """An answer that repeats the request's `nonce`."""
    found = re.search(rb'"nonce": ?"(\w+)"', request)
    body = json.dumps({"nonce": found[1].decode() if found else None}).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


class RawEngine:
    """`answers` holds, by nonce, what a request is answered with instead of a good answer."""

    def __init__(self) -> None:
        self.key = "raw-engine"
        self.answers: dict[str, bytes | Answer] = {}
        self.connections: list[list[str]] = []
        """Of each connection the request lines, or nonces, in order."""
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def lines(self) -> list[str]:
        return [line for lines in self.connections for line in lines]

    def stop(self) -> None:
        for sock in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else what a test adds waits for an ACK
                self._sockets.append(sock)
                lines: list[str] = []
                self.connections.append(lines)
                threading.Thread(target=self._serve, args=(sock, lines), daemon=True).start()

    def _serve(self, sock: socket.socket, lines: list[str]) -> None:
        with contextlib.suppress(OSError, ValueError):
            data = b""
            while True:
                while b"\r\n\r\n" not in data:
                    if not (more := sock.recv(65536)):
                        return
                    data += more
                head, _, rest = data.partition(b"\r\n\r\n")
                found = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
                length = int(found[1]) if found else 0
                while len(rest) < length:
                    rest += sock.recv(65536)
                nonce = re.search(rb'"nonce": ?"(\w+)"', rest[:length])
                lines.append(nonce[1].decode() if nonce else head.split(b"\r\n")[0].decode("latin-1"))
                answer = self.answers.get(lines[-1], good(rest[:length]))
                if isinstance(answer, bytes):
                    sock.sendall(answer)
                else:
                    answer(sock)
                data = rest[length:]
