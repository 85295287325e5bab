"""The TAO API over a real Control and store, without engines: a test moves its jobs from state to state."""

import asyncio
import atexit
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from modelport.control.control import Control
from modelport.domain.instance import Exit, Instance, Observed
from modelport.domain.key import KeySpec
from modelport.domain.launch import Labels, Launch
from modelport.domain.progress import Progress
from modelport.domain.service import ServiceView
from modelport.settings import Settings
from modelport.store import Store, instances, open_store, services, tables
from modelport.tao.app import make_app

ORG = "acme_1"
EXPERIMENT = "6f1d0b5e-0c39-4d52-9a3e-0d8c3b1f5a11"


class Kept(Control):
    """Control that looks at no process."""

    def _observe(self, row: Any) -> Observed:
        return Observed(running=True)


class Tao:
    """The app below /api of another one, as control mounts it, asked without a socket."""

    def __init__(self, store: Store, **settings: Any) -> None:
        self.store = store
        made = Settings(state_dir=store.directory, **settings)
        loop = asyncio.new_event_loop()
        loop.close()
        nothing: Any = None
        self.control = Kept(made, store, poke=lambda: None, platform=nothing, loop=loop)
        self.app = FastAPI()
        self.app.mount("/api", make_app(lambda _request: self.control, self.control, made))

    def ask(self, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
                return await client.request(method, f"/api{path}", json=body, **more)

        return asyncio.run(asked())

    def done(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        answer = self.ask(method, path, body)
        assert answer.status_code == status, answer.text
        return answer.json()

    def refused(self, method: str, path: str, body: Any = None, status: int = 400) -> str:
        """The sentence of a refusal, whose shape is ErrorRsp's."""
        answer = self.ask(method, path, body)
        assert answer.status_code == status, answer.text
        said = answer.json()
        assert set(said) == {"error_desc", "error_code", "status", "error"}, said
        assert isinstance(said["error_code"], int) and len(said["error_desc"]) <= 1000
        return said["error_desc"]

    def start(self, **body: Any) -> str:
        """The id of a job started by v2."""
        wanted = {"model_path": "smollm2", **body}
        return self.done("POST", f"/v2/orgs/{ORG}/inference_microservices:start", wanted, 201)["job_id"]

    def view(self, job: str) -> ServiceView:
        with self.store.read() as tx:
            return self.control._views(tx, [services.find(tx, job)])[0]

    def move(self, job: str, state: str, reason: str = "", desired: str = "running") -> None:
        """The service is there now."""
        with self.store.write() as tx:
            values = {"state": state, "reason": reason, "desired": desired}
            tx.execute(tables.services.update().where(tables.services.c.id == job).values(**values))

    def instance(
        self, job: str, state: str, progress: Progress | None = None, end: Exit | None = None, ready_at: float = 1002.0
    ) -> str:
        """Its newest instance is that, and says so of itself."""
        name = f"i-{uuid.uuid4().hex[:6]}"
        with self.store.write() as tx:
            bound = Launch(("engine",), "/health").bind(Labels(job, name, "o"), "127.0.0.1", 18700, 60)
            row = instances.insert(tx, bound, version="v", platform="process", engine="stub", now=1000.0)
            assert bound.labels
            there = Instance(bound.labels, "process", "http://127.0.0.1:18700", "file:/k", {})
            row = instances.update(tx, row, 1001.0, instance=there, exit=end, ready_at=ready_at)
            change = tables.instances.update().where(tables.instances.c.id == name)
            tx.execute(change.values(state=state, progress=asdict(progress) if progress else None))
        return name

    def key(self, **fields: Any) -> str:
        made = self.control.create_key(KeySpec(**fields))
        assert made.secret
        return made.secret


@contextmanager
def opened(directory: Path, **settings: Any) -> Iterator[Tao]:
    """One over a store of its own, which is a copy of an empty one: to make one takes longer than most tests."""
    shutil.copytree(_empty(), directory / "state")
    store = open_store(directory / "state")
    try:
        yield Tao(store, **settings)
    finally:
        store.close()


@cache
def _empty() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="tao-"))
    atexit.register(shutil.rmtree, directory, True)
    open_store(directory / "state").close()
    return directory / "state"
