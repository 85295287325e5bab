"""Answers: what a raw socket gets, one answer at a time, without reading into the next one."""

import json
import socket
from typing import Any


class Answers:
    def __init__(self, sock: socket.socket) -> None:
        self._file = sock.makefile("rb")

    def next(self) -> tuple[int, dict[str, Any]] | None:
        """Status and JSON of the next final answer; None where the connection ended instead."""
        try:
            while line := self._file.readline():
                status = int(line.split(b" ")[1])
                headers: dict[bytes, bytes] = {}
                while (line := self._file.readline()) not in (b"\r\n", b""):
                    name, _, value = line.partition(b":")
                    headers[name.lower()] = value.strip()
                if status >= 200:
                    body = self._file.read(int(headers[b"content-length"]))
                    return status, json.loads(body)
        except ConnectionError:
            pass
        return None

    def over(self) -> bool:
        """Whether nothing more comes: waits for the end."""
        try:
            return self._file.read(1) == b""
        except ConnectionError:
            return True
