"""World: a store in which our gateway finds one service, `stub-model`, whose engine is the stub, and a key for it.

A request is held against what one usually is: the key's limits of each kind and its daily budget of tokens, its team's
monthly budget of money by the service's price, and the service's capacity. All are too large to be reached.
"""

import os
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import sqlalchemy as sa

from modelport.domain.budget import Budget
from modelport.domain.instance import Instance
from modelport.domain.key import KeySpec
from modelport.domain.launch import Labels, Launch
from modelport.domain.limits import Limits
from modelport.domain.price import Price
from modelport.domain.spec import Spec
from modelport.domain.states import InstanceState, ServiceState
from modelport.store import Store, budgets, instances, keys, open_store, services

from . import toolbox
from .postgres import postgres

MODEL, TEAM = "stub-model", "bench"
ROUTES = ("POST /v1/chat/completions", "POST /v1/completions", "GET /v1/models")
MANY = 10**9
LIMITS = Limits(requests_per_minute=MANY, tokens_per_minute=MANY, in_flight=100_000, queue=1_000, max_tokens=100_000)
PRICE = Price(input=0.5, cached=0.1, output=1.5, gpu_hour=2.0)


@dataclass(frozen=True)
class World:
    """A state directory ready for a gateway, and the key to ask with."""

    directory: Path
    key: str
    settings: dict[str, str] = field(default_factory=dict)

    def command(self, port: int) -> list[str]:
        """The gateway as users run it."""
        modelport = str(Path(sys.executable).with_name("modelport"))
        return [modelport, "serve", "--only", "gateway", "--port", str(port), "--state-dir", str(self.directory)]

    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MODELPORT_")}
        return inherited | {f"MODELPORT_{name.upper()}": value for name, value in self.settings.items()}


@contextmanager
def world(stub_port: int, processes: int = 1, store_core: int = 1) -> Iterator[World]:
    """A new one, removed at the end. Several gateway processes share a PostgreSQL; one has SQLite."""
    toolbox.RUN.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="gw-", dir=toolbox.RUN)))
        settings: dict[str, str] = {}
        if processes > 1:
            kept = {
                "store_url": stack.enter_context(postgres(store_core, toolbox.RUN)),
                "pepper": secrets.token_hex(32),
            }
            for name, secret in kept.items():
                (directory / name).write_text(secret)
                settings[f"{name}_ref"] = f"file:{directory / name}"
            settings["gateways"] = str(processes)
        store = open_store(directory, settings.get("store_url_ref", ""), settings.get("pepper_ref", ""))
        try:
            with store.write() as tx:
                _service(tx, store, directory, stub_port)
                key = _key(tx, store)
        finally:
            store.close()
        yield World(directory, key, settings)


def _key(tx: sa.Connection, store: Store) -> str:
    """A key as a person gets it: with limits, a budget of its own, and a team that has one too."""
    now = time.time()
    view = keys.create(tx, store.pepper, KeySpec(name="bench", team=TEAM, limits=LIMITS), now)
    budgets.put(tx, Budget(subject=f"key:{view.id}", unit="tokens", cap=1e12, period="day"), now)
    budgets.put(tx, Budget(subject=f"team:{TEAM}", unit="money", cap=MANY, period="month"), now)
    assert view.secret
    return view.secret


def _service(tx: sa.Connection, store: Store, directory: Path, stub_port: int) -> None:
    now = time.time()
    spec = Spec(model="stub.gguf", name=MODEL, limits=Limits(in_flight=100_000), price=PRICE)
    service = services.insert(tx, spec, None, now)
    for state in (ServiceState.PLANNING, ServiceState.STARTING, ServiceState.READY):
        service = services.update(tx, service, now, state=state)
    key_file = directory / "engine.key"
    key_file.write_text("upstream-secret")
    labels = Labels(service.id, instances.new_id(), store.owner)
    launch = Launch(argv=("stub",), health_path="/health", routes=ROUTES)
    bound = launch.bind(labels, "127.0.0.1", stub_port, lease_s=600)
    row = instances.insert(tx, bound, version="1", platform="process", engine="stub", now=now)
    running = Instance(labels, "process", f"http://127.0.0.1:{stub_port}", f"file:{key_file}")
    instances.update(tx, row, now, state=InstanceState.READY, instance=running)
