"""An engine that answers what a test told it to, route by route, over a real socket, and keeps what it was asked."""

import contextlib
import json
import secrets
import socket
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Answer:
    """`parts` are sent one by one; a stream's answer has no length."""

    parts: tuple[bytes, ...]
    status: int = 200
    kind: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    stream: bool = False


@dataclass(frozen=True)
class Asked:
    """What arrived: the path with its query string, headers in lower case."""

    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


def whole(value: object, status: int = 200, **headers: str) -> Answer:
    """JSON in one piece."""
    return Answer((json.dumps(value).encode(),), status, headers=headers)


def streamed(*events: object, named: bool = False, done: bool = True) -> Answer:
    """Server-sent events, each a part; `named` gives each the name its `type` says, as responses and messages have."""
    parts = [
        (f"event: {event['type']}\n" if named and isinstance(event, dict) else "") + f"data: {json.dumps(event)}\n\n"
        for event in events
    ]
    if done:
        parts.append("data: [DONE]\n\n")
    return Answer(tuple(part.encode() for part in parts), kind="text/event-stream", stream=True)


class Answering:
    """The engine. `port` and `key` are what a gateway needs to reach it."""

    def __init__(self) -> None:
        self.key = secrets.token_hex(16)
        self.answers: dict[str, Answer] = {}
        """By path; a list of them in `queued` goes first."""
        self.queued: list[Answer] = []
        self.asked: list[Asked] = []
        self.drops_kept = False
        """Whether a second request on one connection is answered by closing it."""
        self.silent_s = 0.0
        """How long it says nothing before its answer."""
        self._open: set[socket.socket] = set()
        engine = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1
            disable_nagle_algorithm = True

            def setup(self) -> None:
                self.served = 0
                engine._open.add(self.request)
                super().setup()

            def finish(self) -> None:
                engine._open.discard(self.request)
                super().finish()

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                self.served += 1
                if engine.drops_kept and self.served > 1:
                    self.close_connection = True
                    return
                engine.asked.append(Asked(self.path, headers, raw))
                time.sleep(engine.silent_s)
                right = headers.get("authorization") == f"Bearer {engine.key}"
                self.give(engine.next(self.path) if right else whole({"error": {"message": "wrong key"}}, 401))

            def give(self, answer: Answer) -> None:
                self.send_response(answer.status)
                self.send_header("content-type", answer.kind)
                for name, value in answer.headers.items():
                    self.send_header(name.replace("_", "-"), value)
                if answer.stream:
                    self.send_header("transfer-encoding", "chunked")
                else:
                    self.send_header("content-length", str(sum(map(len, answer.parts))))
                self.end_headers()
                for part in answer.parts:
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part) if answer.stream else part)
                    self.wfile.flush()
                if answer.stream:
                    self.wfile.write(b"0\r\n\r\n")

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def next(self, path: str) -> Answer:
        if self.queued:
            return self.queued.pop(0)
        unknown = whole({"error": {"message": "no such route", "type": "not_found", "code": None, "param": None}}, 404)
        return self.answers.get(path.partition("?")[0], unknown)

    def hang_up(self) -> None:
        """Close what is open, without a word, as an engine does with connections that nobody uses."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
