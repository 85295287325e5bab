"""World: a real gateway process, real stub engines and a real store, with a fake control on its unix socket."""

import contextlib
import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any

import httpx

from modelport.domain.instance import Instance
from modelport.domain.key import KeySpec
from modelport.domain.launch import Labels, Launch
from modelport.domain.spec import Spec
from modelport.domain.states import InstanceState, ServiceState
from modelport.domain.usage import UsageQuery
from modelport.store import gateways, instances, keys, open_store, services, usage
from modelport.store.services import Service

ROOT = Path(__file__).parents[2]
STUB = ROOT / "tests" / "fakes" / "stub_engine.py"
ROUTES = (
    "POST /v1/chat/completions",
    "POST /v1/completions",
    "POST /v1/embeddings",
    "POST /tokenize",
    "GET /v1/models",
)
PATHS_TO_READY = {
    ServiceState.STARTING: "planning starting",
    ServiceState.READY: "planning starting ready",
    ServiceState.IDLE: "planning starting ready idle",
    ServiceState.FAILED: "planning failed",
    ServiceState.STOPPED: "stopping stopped",
}


PLAIN = httpx.Client(verify=False, timeout=30, limits=httpx.Limits(max_connections=None))
"""For requests without a key; one for all, since making a client's TLS context takes 20 ms."""


def until(condition: Callable[[], Any], timeout_s: float = 10, what: str = "") -> Any:
    """Wait until it holds and return what it gave."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"did not come about within {timeout_s} s: {what}"
        time.sleep(0.01)
    return found


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@dataclass
class Engine:
    """A stub engine process."""

    port: int
    key: str
    process: subprocess.Popen[bytes]

    def seen(self) -> dict[str, Any]:
        found = PLAIN.get(f"http://127.0.0.1:{self.port}/seen", headers={"authorization": f"Bearer {self.key}"})
        return found.json()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass
class FakeControl:
    """What the gateway asks of control: it notes every request and lets a test say what a wake does."""

    path: Path
    calls: list[dict[str, Any]] = field(default_factory=list)
    on_wake: dict[str, Callable[[], None]] = field(default_factory=dict)
    status: int | None = None
    """What it answers instead of 200."""

    def __post_init__(self) -> None:
        control = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def address_string(self) -> str:
                return "unix"

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                call = {"method": self.command, "path": self.path, "headers": dict(self.headers), "body": body}
                control.calls.append(call)
                parts = self.path.split("/")
                if parts[-1] == "wake" and (wake := control.on_wake.pop(parts[-2], None)):
                    threading.Thread(target=wake, daemon=True).start()
                answer = json.dumps({"got": body.decode(), "path": self.path}).encode()
                self.send_response(202 if parts[-1] == "wake" else control.status or 200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = handle_any

        self.server = ThreadingUnixStreamServer(str(self.path), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def wakes(self, service_id: str) -> int:
        return sum(call["path"].endswith(f"{service_id}/wake") for call in self.calls)

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.path.unlink()


class World:
    """One state directory and what runs on it. Everything is started on demand and ended by close()."""

    def __init__(self, **settings: object) -> None:
        self.stack = contextlib.ExitStack()
        self.directory = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="mp-gw-")))
        self.store = open_store(self.directory)
        self.stack.callback(self.store.close)
        self.settings = {"state_dir": self.directory, "port": 0, **settings}
        self.admin = self.key("admin")
        self.control = FakeControl(self.directory / "control.sock")
        self.stack.callback(lambda: self.control.path.exists() and self.control.stop())
        self.log = self.directory / "gateway.log"

    def gateway(self, report_every_s: float = 0.25) -> "World":
        """Start the gateway and wait for its URL."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("MODELPORT_")}
        env |= {f"MODELPORT_{name.upper()}": str(value) for name, value in self.settings.items()}
        command = [sys.executable, "-m", "tests.gateway.gateway_process", str(report_every_s)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=log)
        self.stack.callback(self.kill)
        assert self.process.stdout
        self.url = self.process.stdout.readline().decode().strip()
        assert self.url, self.log.read_text()
        self.port = int(self.url.rpartition(":")[2])
        self.http = self.client(self.admin)
        return self

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()

    def close(self) -> None:
        self.stack.close()

    def client(self, key: str, port: int | None = None) -> httpx.Client:
        base = f"http://127.0.0.1:{port or self.port}"
        return self.stack.enter_context(
            httpx.Client(base_url=base, headers={"authorization": f"Bearer {key}"}, timeout=20)
        )

    # The store

    def key(
        self, scope: Any = "infer", models: tuple[str, ...] = (), expires_at: float | None = None, **more: Any
    ) -> str:
        """A key; `more` are fields of KeySpec. One that `expires_at` in the past was made a day before that."""
        made = time.time() if expires_at is None else min(time.time(), expires_at - 86400)
        life = None if expires_at is None else expires_at - made
        with self.store.write() as tx:
            spec = KeySpec(**{"name": "t", "scopes": (scope,), "models": models, "expires_in_s": life, **more})
            view = keys.create(tx, self.store.pepper, spec, made)
        assert view.secret
        return view.secret

    def engine(self, *switches: str, wait: bool = True) -> Engine:
        key, port = secrets.token_hex(16), free_port()
        command = [sys.executable, str(STUB), "--port", str(port), *switches]
        process = subprocess.Popen(command, env={**os.environ, "ENGINE_KEY": key}, stdout=subprocess.DEVNULL)
        engine = Engine(port, key, process)
        self.stack.callback(engine.stop)
        if wait:
            until(lambda: _answers(port), what="engine")
        return engine

    def service(self, name: str, *engines: Engine, state: ServiceState = ServiceState.READY, **spec: Any) -> Service:
        """A service in this state, with a ready instance for each engine, in force at the gateway when it runs."""
        wanted = Spec(model="m.gguf", name=name, **spec)
        port = wanted.port if isinstance(wanted.port, int) else None
        with self.store.write() as tx:
            service = services.insert(tx, wanted, port, time.time())
            for step in PATHS_TO_READY[state].split():
                service = services.update(tx, service, time.time(), state=ServiceState(step))
        for engine in engines:
            self.instance(service, engine)
        self.settle()
        return service

    def instance(self, service: Service, engine: Engine, routes: tuple[str, ...] = ROUTES) -> instances.Row:
        labels = Labels(service.id, instances.new_id(), self.store.owner)
        launch = Launch(argv=("stub",), health_path="/health", routes=routes)
        bound = launch.bind(labels, "127.0.0.1", engine.port, 600)
        key_file = self.directory / f"{labels.instance}.key"
        key_file.write_text(engine.key)
        instance = Instance(labels, "process", f"http://127.0.0.1:{engine.port}", f"file:{key_file}")
        with self.store.write() as tx:
            row = instances.insert(tx, bound, version="1", platform="process", engine="stub", now=time.time())
            return instances.update(tx, row, time.time(), state=InstanceState.READY, instance=instance)

    def drain(self, row: instances.Row) -> None:
        with self.store.write() as tx:
            instances.update(tx, row, time.time(), state=InstanceState.DRAINING)

    def to(self, service: Service, *states: ServiceState) -> None:
        with self.store.write() as tx:
            service = services.find(tx, service.id)
            for state in states:
                service = services.update(tx, service, time.time(), state=state)

    def heartbeat(self) -> gateways.Gateway | None:
        with self.store.read() as tx:
            return next(iter(gateways.live(tx, time.time())), None)

    def settle(self) -> None:
        """Wait until the gateway routes by what the store says now."""
        if not hasattr(self, "process"):
            return
        with self.store.read() as tx:
            wanted = instances.sa.text("SELECT value FROM revision")
            revision = tx.execute(wanted).scalar()
        until(lambda: (beat := self.heartbeat()) and beat.revision >= (revision or 0), what="the gateway to follow")

    def usage(self, service: str) -> Any:
        """The sums of one service, once the gateway wrote them down."""
        with self.store.read() as tx:
            rows = usage.report(tx, UsageQuery(by=("service",)))
            return next((row for row in rows if row.service == service), None)

    def lines(self) -> list[dict[str, Any]]:
        """The request log so far."""
        path = self.directory / "logs" / "requests.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def line(self, request_id: str) -> dict[str, Any]:
        """One request's line, once it is there."""
        return until(lambda: next((li for li in self.lines() if li["request_id"] == request_id), None), what=request_id)

    # Raw sockets

    @contextlib.contextmanager
    def raw(self, data: bytes = b"", port: int | None = None) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", port or self.port), timeout=10) as sock:
            sock.sendall(data)
            yield sock

    def exchange(self, data: bytes) -> tuple[int, dict[str, Any]]:
        """Send bytes as they are; the answer's status and JSON."""
        with self.raw(data) as sock:
            return read_answer(sock)


def read_answer(sock: socket.socket) -> tuple[int, dict[str, Any]]:
    answer = http.client.HTTPResponse(sock)
    answer.begin()
    return answer.status, json.loads(answer.read())


def read_all(sock: socket.socket) -> bytes:
    """All until the other side closes."""
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := sock.recv(65536):
            parts.append(part)
    return b"".join(parts)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def chat(model: str = "", **more: Any) -> dict[str, Any]:
    """A chat body; `stub` and others as keywords."""
    body = {"messages": [{"role": "user", "content": "hello there"}], **more}
    return {"model": model, **body} if model else body
