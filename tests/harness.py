"""A whole Modelport for tests: `modelport serve` as a user starts it, with the stub engine in its table."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

from modelport.client import Client
from modelport.domain.service import ServiceView
from modelport.domain.spec import Spec
from modelport.errors import ModelportError

ROOT = Path(__file__).parent.parent


def until(condition: Callable[[], Any], timeout_s: float = 30, what: str = "") -> Any:
    """Wait until it holds and return what it gave; AssertionError with `what` when it never does."""
    deadline = time.monotonic() + timeout_s
    while True:
        if found := condition():
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"did not come about within {timeout_s} s: {what or condition}")
        time.sleep(0.03)


def environment(state_dir: Path, **more: str) -> dict[str, str]:
    """The environment of a modelport command for one state directory: nothing of the caller's own settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MODELPORT_")}
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = {"MODELPORT_ENGINE_PORTS": str(18700 + 2000 * worker), "MODELPORT_SERVICE_PORTS": str(8800 + 2000 * worker)}
    return {
        **kept,
        **ports,
        "MODELPORT_STATE_DIR": str(state_dir),
        "STUB_SWITCHES": str(state_dir / "switches"),
        **more,
    }


def modelport(*arguments: str, state_dir: Path, timeout: float = 60, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a modelport command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "tests.fakes.modelport", *arguments],
        cwd=ROOT,
        env=environment(state_dir, **more),
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def labelled(owner: str) -> dict[str, list[int]]:
    """Every process that carries this installation's label, by instance id, the shims left out."""
    found: dict[str, list[int]] = {}
    for process in psutil.process_iter(["pid"]):
        try:
            environ, command = process.environ(), process.cmdline()
        except psutil.Error:
            continue
        if environ.get("MODELPORT_OWNER") == owner and not any(part.endswith("shim.py") for part in command):
            found.setdefault(environ["MODELPORT_INSTANCE"], []).append(process.pid)
    return found


class Serving:
    """A running `modelport serve`; a context manager that ends it, and kills what is left."""

    def __init__(self, state_dir: Path, *arguments: str, port: int = 0, **settings: str) -> None:
        self.state_dir, self.arguments, self.port = state_dir, arguments, port
        self.environment = environment(state_dir, **{f"MODELPORT_{k.upper()}": v for k, v in settings.items()})
        self.log = state_dir / "serve.log"
        self.url = ""

    def __enter__(self) -> "Serving":
        self.state_dir.mkdir(parents=True, exist_ok=True)
        self.begin()
        return self

    def begin(self) -> None:
        """Start it and wait until control and gateway answer."""
        with self.log.open("a") as log:
            begins = log.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.fakes.modelport", "serve", "--port", str(self.port), *self.arguments],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        pattern = re.compile(r"serving at (http://\S+)/v1")

        def ready() -> bool:
            text = self.log.read_bytes()[begins:].decode(errors="replace")
            if self.process.poll() is not None:
                raise AssertionError(f"serve ended with {self.process.returncode}: {text}")
            if match := pattern.search(text):
                self.url = match[1]
            return bool(match) and self.answers()

        until(ready, 30, f"serve: {self.log}")
        self.port = int(self.url.rpartition(":")[2])  # the same one after a restart

    def answers(self) -> bool:
        try:
            return bool(self.client.info().gateways)
        except ModelportError:
            return False

    @property
    def client(self) -> Client:
        return Client(socket=self.state_dir / "control.sock")

    @property
    def owner(self) -> str:
        owner = self.state_dir / "owner"
        return owner.read_text() if owner.exists() else "-"  # on PostgreSQL it is in the store

    @property
    def admin_key(self) -> str:
        return (self.state_dir / "admin.key").read_text().strip()

    def switches(self, name: str, switches: str) -> None:
        (self.state_dir / "switches").mkdir(exist_ok=True)
        (self.state_dir / "switches" / name).write_text(switches)

    def start(self, name: str, switches: str = "", **fields: Any) -> ServiceView:
        """A stub service of that name."""
        if switches:
            self.switches(name, switches)
        return self.client.start(Spec(**{"model": "smollm2", "name": name, "engine": "stub", **fields}))

    def ready(self, name: str, timeout_s: float = 30) -> ServiceView:
        """The service, once it is ready."""
        return self.reach(name, "ready", timeout_s)

    def reach(self, name: str, state: str, timeout_s: float = 30) -> ServiceView:
        def there() -> ServiceView | None:
            view = self.client.status(name)
            return view if view.state == state else None

        return until(there, timeout_s, f"{name} is {state}")

    def ask(self, name: str, *, key: str | None = None, timeout: float = 30, **body: Any) -> httpx.Response:
        """One chat request through the gateway."""
        payload = {"model": name, "messages": [{"role": "user", "content": "Hi"}], **body}
        headers = {"authorization": f"Bearer {key or self.admin_key}"}
        return httpx.post(f"{self.url}/v1/chat/completions", json=payload, headers=headers, timeout=timeout)

    def process_of(self, part: str) -> int:
        """The pid of `control` or `gateway`."""
        control = self.client.info().pid
        children = [child.pid for child in psutil.Process(self.process.pid).children()]
        return control if part == "control" else next(pid for pid in children if pid != control)

    def engines(self) -> dict[str, list[int]]:
        return labelled(self.owner)

    def end(self) -> int:
        """Ctrl-C, as a user ends it. Its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)

    def kill(self) -> None:
        """kill -9 of the parent; its children die with it, engines live on."""
        self.process.kill()
        self.process.wait(10)

    def __exit__(self, *_: object) -> None:
        self.end()
        for pids in self.engines().values():
            for pid in pids:
                os.kill(pid, signal.SIGKILL)


def short_directory() -> Iterator[Path]:
    """A state directory with a path short enough for a unix socket, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="mp-") as name:
        yield Path(name) / "state"
