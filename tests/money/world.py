"""Till: a World with budgets, and its books: what journals, rows of requests and balances say of the same requests."""

import asyncio
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec
import sqlalchemy as sa

from modelport.domain.amounts import OF, Amounts, Unit
from modelport.domain.budget import Budget
from modelport.domain.key import KeySpec
from modelport.domain.price import Price
from modelport.store import budgets, gateways, keys, leases
from modelport.store.journals import Done, Open, read
from modelport.store.leases import Balance, Standing
from modelport.store.revision import bump
from modelport.store.tables import instances, requests
from tests.fakes.answering import Answering
from tests.gateway.world import PLAIN, ROOT, World, chat, free_port, until

ENGINE_ROUTES = (
    "POST /v1/chat/completions", "POST /v1/completions", "POST /v1/responses", "POST /v1/messages",
    "POST /v1/embeddings", "POST /v1/rerank", "POST /rerank", "POST /v1/moderations", "POST /v1/audio/speech",
    "POST /v1/audio/transcriptions", "POST /v1/audio/translations", "POST /v1/images/generations", "POST /generate",
    "POST /loglikelihood", "POST /v1/messages/count_tokens", "POST /classify", "GET /v1/models",
)  # fmt: skip


@dataclass(frozen=True)
class Holder:
    """A key: its id and its secret."""

    id: str
    secret: str


class Till(World):
    """A world where money is counted."""

    # What is there

    def settle(self) -> None:
        """As World's, at once: a key that the gateway does not know makes it look at the store."""
        if hasattr(self, "process") and self.process.poll() is None:
            with self.store.write() as tx:
                view = keys.create(tx, self.store.pepper, KeySpec(name="look"), time.time())
            assert PLAIN.get(f"{self.url}/v1/models", headers={"x-api-key": view.secret or ""}).status_code == 200

    def holder(self, **spec: Any) -> Holder:
        with self.store.write() as tx:
            view = keys.create(
                tx, self.store.pepper, KeySpec(**{"name": "t", "scopes": ("infer",), **spec}), time.time()
            )
        assert view.secret
        return Holder(view.id, view.secret)

    def budget(self, subject: str, unit: Unit, cap: float, **more: Any) -> str:
        """A budget in force; its id."""
        with self.store.write() as tx:
            made = budgets.put(tx, Budget(subject=subject, unit=unit, cap=cap, **more), time.time())
        self.settle()
        return made.id

    def answering(self, name: str, kind: str = "stub", **spec: Any) -> Answering:
        """A service on an engine that answers what the test says; `kind` is what the engine is taken for."""
        engine = Answering()
        self.stack.callback(engine.stop)
        self.on(name, engine, kind, ENGINE_ROUTES, **spec)
        return engine

    def on(self, name: str, engine: Any, kind: str, routes: tuple[str, ...], **spec: Any) -> None:
        """A service on this engine, taken for one of that kind."""
        service = self.service(name, **spec)
        row = self.instance(service, engine, routes)
        with self.store.write() as tx:
            tx.execute(instances.update().where(instances.c.id == row.id).values(engine=kind))
            bump(tx)
        self.settle()

    # What is asked

    def post(self, key: Holder, path: str, body: Any, name: str = "", **more: Any) -> httpx.Response:
        """One request; `name` is its x-request-id."""
        headers = {"authorization": f"Bearer {key.secret}", **({"x-request-id": name} if name else {})}
        return PLAIN.post(f"{self.url}{path}", json=body, headers=headers | more.pop("headers", {}), **more)

    def ask(self, key: Holder, model: str, name: str = "", **body: Any) -> httpx.Response:
        return self.post(key, "/v1/chat/completions", chat(model, **body), name)

    def took(self, key: Holder, path: str, body: Any, name: str) -> dict[str, Any]:
        """The line of a request that went well."""
        answer = self.post(key, path, body, name)
        assert answer.status_code == 200, answer.text
        return self.line(name)

    # What the books say

    def standing(self, budget: str, at: float | None = None) -> Standing:
        with self.store.read() as tx:
            found = leases.standings(tx, at or time.time())
        return next(one for one in found if one.cap.id == budget)

    def balance(self, budget: str) -> Balance:
        return self.standing(budget).balance

    def spent(self, budget: str, wanted: int) -> None:
        """Wait until this was spent, no more."""
        until(lambda: self.balance(budget).spent == wanted, what=f"{wanted} spent")

    def records(self) -> tuple[list[Open], list[Done]]:
        """All journals of this state directory."""
        opened: list[Open] = []
        done: list[Done] = []
        for directory in sorted((self.directory / "journal").iterdir()):
            for _, record in read(directory):
                if isinstance(record, Open):
                    opened.append(record)
                elif isinstance(record, Done):
                    done.append(record)
        return opened, done

    def rows(self) -> list[Any]:
        with self.store.read() as tx:
            return list(tx.execute(sa.select(requests)))

    def stop(self) -> None:
        """SIGTERM: all is settled, applied and given back."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0, self.log.read_text()[-2000:]

    def agree(self, budget: str, unit: Unit, journals: Sequence[World] = ()) -> int:
        """With no gateway running: that journals, rows and balance agree to the step; what is spent.

        Each request was opened once and ended once, and is one row. `journals` are other gateways' worlds on the same
        store.
        """
        books = [world.records() for world in (self, *journals) if isinstance(world, Till)]
        opened = [record for found, _ in books for record in found]
        done = [record for _, found in books for record in found]
        assert max(Counter(record.open for record in opened).values(), default=1) == 1
        assert Counter(record.done for record in done) == Counter(record.open for record in opened)
        rows = {row.id: row for row in self.rows()}
        by_id = {record.done: record for record in done}
        assert set(by_id) <= set(rows), "what the journal has, the store has"
        for name, record in by_id.items():
            row, line = rows[name], msgspec.json.decode(record.line)
            assert {field: line[field] for field in row._fields} == row._asdict()
        charged = sum(charge[2] for record in done for charge in record.charges if charge[0] == budget)
        balance = self.balance(budget)
        assert (balance.spent, balance.leased) == (charged, 0)
        assert charged == sum(
            OF[unit](amounts(rows[name], record)) for name, record in by_id.items() if charged_to(record, budget)
        )
        return charged


def charged_to(record: Done, budget: str) -> bool:
    return any(charge[0] == budget for charge in record.charges)


def amounts(row: Any, record: Done) -> Amounts:
    """What a row says was taken. Whether that was a request, it does not say."""
    names = [name for name in Amounts.__struct_fields__ if name != "requests"]
    return Amounts(requests=record.used.requests, **{name: getattr(row, name) for name in names})


class Shifted(Till):
    """A gateway whose wall clock a test moves."""

    offset = 0.0

    def shift(self, seconds: float) -> None:
        """From now on."""
        made = self.directory / "offset.new"
        made.write_text(str(seconds))
        made.replace(self.directory / "offset")
        self.offset = seconds

    def heartbeat(self) -> gateways.Gateway | None:
        with self.store.read() as tx:
            return next(iter(gateways.live(tx, time.time() + self.offset)), None)

    def gateway(self, report_every_s: float = 0.25) -> "Shifted":
        self.shift(self.offset)
        env = {k: v for k, v in os.environ.items() if not k.startswith("MODELPORT_")}
        env |= {f"MODELPORT_{name.upper()}": str(value) for name, value in self.settings.items()}
        command = [
            sys.executable,
            "-m",
            "tests.money.shifted_gateway",
            str(self.directory / "offset"),
            str(report_every_s),
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=log)
        self.stack.callback(self.kill)
        assert self.process.stdout
        self.url = self.process.stdout.readline().decode().strip()
        assert self.url, self.log.read_text()
        self.port = int(self.url.rpartition(":")[2])
        return self


# Many at once


@dataclass(frozen=True)
class Reply:
    """`status` is 0 where no whole answer came."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    began: float
    ended: float

    @property
    def error(self) -> Any:
        return json.loads(self.body)["error"]


async def exchange(port: int, key: str, body: Any, path: str = "/v1/chat/completions", name: str = "") -> Reply:
    """One request on a connection of its own."""
    began = time.monotonic()
    data = json.dumps(body).encode()
    shown = f"x-request-id: {name}\r\n" if name else ""
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\nconnection: close\r\n{shown}"
    raw = b""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(f"{head}content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data)
            raw = await reader.read(-1)
        finally:
            writer.close()
    except OSError:
        pass
    first, _, rest = raw.partition(b"\r\n\r\n")
    lines = first.decode("latin-1").split("\r\n")
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
    length = int(headers.get("content-length", "-1"))
    whole = rest.endswith(b"0\r\n\r\n") if "transfer-encoding" in headers else 0 <= length == len(rest)
    status = int(lines[0].split(" ")[1]) if first and whole else 0
    return Reply(status, headers, rest, began, time.monotonic())


def together(port_key_bodies: Sequence[tuple[int, str, Any]]) -> list[Reply]:
    """All of them at the same time."""

    async def all_of_them() -> list[Reply]:
        return list(await asyncio.gather(*(exchange(*one) for one in port_key_bodies)))

    return asyncio.run(all_of_them())


def kills(till: Till, times: int, every_s: float, *, gently: bool = False) -> None:
    """kill -9 (or SIGTERM) of a till's gateway, again and again under load; and what must hold afterwards.

    Nothing is served unmetered: every request that an engine saw was opened in the journal, and every answer that a
    client got is a row; one that was cut between answer and settlement counts at its worst case.
    """
    engine = till.engine("--token-s", "0.005")
    till.on("loaded", engine, "stub", ENGINE_ROUTES, price=Price(input=3, cached=1, output=7, request=0.01))
    key = till.holder()
    units: tuple[Unit, ...] = ("requests", "tokens", "cached_tokens", "reasoning_tokens", "money")
    caps: dict[Unit, str] = {unit: till.budget(f"key:{key.id}", unit, 10**9) for unit in units}
    till.settings["port"] = free_port()
    till.gateway()
    names, stop = itertools.count(), threading.Event()
    served: list[str] = []

    def load() -> None:
        while not stop.is_set():
            name = f"load-{next(names)}"
            body = chat("loaded", max_tokens=20, stream=name.endswith(("1", "4", "7")), stub={"tokens": 10})
            reply = asyncio.run(exchange(till.port, key.secret, body, name=name))
            if reply.status == 200:
                served.append(name)
            elif not reply.status:
                time.sleep(0.05)  # the gateway is away

    threads = [threading.Thread(target=load) for _ in range(6)]
    for thread in threads:
        thread.start()
    chance = random.Random(1)
    try:
        for _ in range(times):
            time.sleep(every_s * chance.uniform(0.5, 1.5))
            till.stop() if gently else till.kill()
            till.gateway()
        before = len(served)
        until(lambda: len(served) > before + 10, 20, "requests after the last kill")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    till.stop()
    for unit, budget in caps.items():
        till.agree(budget, unit)
    rows = till.rows()
    interrupted = [row for row in rows if row.status == 0]
    assert all(row.estimated for row in interrupted) and not (gently and interrupted)
    opened, done = till.records()
    worst = {record.open: record.worst for record in opened}
    for row in interrupted:
        assert row.input_tokens + row.output_tokens == OF["tokens"](worst[row.id])
    unsettled = set(served) - {row.request_id for row in rows}
    assert len(unsettled) <= len(interrupted), "an answer that nobody counted"
    assert engine.seen()["requests"] <= len(opened) == len(done) == len(rows)
    assert len(served) > 20 * times**0.5
    print(f"{times} kills: {len(served)} answers, {len(interrupted)} interrupted, {len(unsettled)} of them answered")
