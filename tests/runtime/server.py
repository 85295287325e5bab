"""A model server for tests: a real process with the toy handler in its table."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx

from tests.harness import ROOT, until

GATE = "gate"


def toy(directory: Path, **says: Any) -> Path:
    """A model of the toy handler: tests.fakes.toy_handler says which words it knows."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "toy.json").write_text(json.dumps(says))
    return directory


class Server:
    """One process; a context manager that ends it, and kills what is left."""

    def __init__(self, *arguments: object, program: str = "tests.fakes.toy_handler", **env: str) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MODELPORT_")}
        self.key = env.get("MODELPORT_ENGINE_KEY", "")
        self.process = subprocess.Popen(
            [sys.executable, "-m", program, "--port", "0", *map(str, arguments)],
            cwd=ROOT, env={**kept, **env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = ""

    def _read(self) -> None:
        assert self.process.stderr
        self.lines += self.process.stderr

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def __enter__(self) -> "Server":
        until(lambda: "listening on" in self.log or self.process.poll() is not None, what="a listening server")
        assert self.process.poll() is None, self.log
        line = next(line for line in self.lines if "listening on" in line)
        self.url = f"http://127.0.0.1:{line.strip().rpartition(':')[2]}"
        self.client = httpx.Client(base_url=self.url, headers=self.headers(), timeout=30)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.process.kill()
        self.process.wait()

    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"} if self.key else {}

    def get(self, path: str) -> httpx.Response:
        return self.client.get(path)

    def post(self, path: str, body: Any = None, **more: Any) -> httpx.Response:
        return self.client.post(path, json=body, **more) if body is not None else self.client.post(path, **more)

    def infer(self, **body: Any) -> httpx.Response:
        return self.post("/api/v1/inference", body)

    def ready(self) -> "Server":
        until(lambda: self.get("/health").status_code == 200, what=f"a ready server: {self.log}")
        return self

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(30)
        self._reader.join(5)
        return code
