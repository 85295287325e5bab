"""A TCP proxy in a process of its own that counts what it brings to clients, cuts connections, and can be down.

`python proxy.py PORT UPSTREAM_PORT` takes one command a line: `cut N` (once N bytes were brought in all, every connection
is reset, and new ones work), `down N` (the same, and new ones are reset too), `up`, `slow N` (so many bytes a second
for each connection, 0 for as fast as it goes), `count`, which is answered.
"""

import contextlib
import socket
import struct
import subprocess
import sys
import threading
import time
from typing import Any


class Proxy:
    """The process, as tests use it."""

    def __init__(self, upstream: int) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [sys.executable, __file__, str(self.port), str(upstream)]
        self.process: Any = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def say(self, *words: object) -> None:
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()

    def count(self) -> int:
        """Bytes that were brought to clients in all."""
        self.say("count")
        return int(self.process.stdout.readline())


class Between:
    """The connections."""

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.lock = threading.Lock()
        self.open: set[socket.socket] = set()
        self.brought = self.slow = 0
        self.limit: int | None = None
        self.then_down = self.is_down = False

    def serve(self, listener: socket.socket) -> None:
        while True:
            client, _ = listener.accept()
            if self.is_down:
                reset(client)
                continue
            server = socket.create_connection(("127.0.0.1", self.upstream))
            with self.lock:
                self.open |= {client, server}
            threading.Thread(target=self.carry, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self.carry, args=(server, client, True), daemon=True).start()

    def carry(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        try:
            while data := source.recv(64 << 10):
                if counted and not self.allow(len(data)):
                    return
                target.sendall(data)
                if counted and self.slow:
                    time.sleep(len(data) / self.slow)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def allow(self, count: int) -> bool:
        with self.lock:
            if self.limit is not None and self.brought + count > self.limit:
                self.limit, self.is_down = None, self.then_down
                for one in self.open:
                    reset(one)
                self.open.clear()
                return False
            self.brought += count
            return True


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def main(port: int, upstream: int) -> None:
    listener = socket.create_server(("127.0.0.1", port))
    between = Between(upstream)
    threading.Thread(target=between.serve, args=(listener,), daemon=True).start()
    print("ready", flush=True)
    for line in sys.stdin:
        match line.split():
            case ["cut", at] | ["down", at]:
                between.then_down, between.limit = line.startswith("down"), int(at)
            case ["up"]:
                between.is_down = False
            case ["slow", rate]:
                between.slow = int(rate)
            case ["count"]:
                print(between.brought, flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
