"""Reconciler: every second, and whenever something happened, one step for each instance and each service.

It remembers nothing between steps that the store does not hold (save which stop is under way), so it can be killed at
any point: the next one reads the rows, looks what runs, and goes on.
"""

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Coroutine

import httpx
import sqlalchemy as sa

from modelport import platforms
from modelport.control import measure
from modelport.control.decide import MAX_FAILED_STARTS, PROVEN_S, Step, backoff_s, decide
from modelport.control.failure import Reason, explain
from modelport.control.probe import Health, probe
from modelport.control.starter import Starter
from modelport.domain.instance import Exit
from modelport.domain.progress import Progress, Stage
from modelport.domain.states import ALIVE, COMING, InstanceState, ServiceState
from modelport.domain.units import show_seconds
from modelport.errors import ModelportError
from modelport.platforms import Platform
from modelport.settings import Settings
from modelport.store import Store, gateways, instances, revision, services, starts
from modelport.store.instances import Row
from modelport.store.services import Service

log = logging.getLogger("modelport.control")

PERIOD_S = 1.0
STARTING_PERIOD_S = 0.1
"""While an engine is on its way it is looked at more often: what is waited for is a person, or a held request."""
REAP_PERIOD_S = 30.0
BATCH_DONE, BATCH_FAILED = 0, 1
"""Exit codes of a batch: some files were answered, or none."""
BATCH_SAID = re.compile(r"batch failed: (.{1,500})")
"""The runtime's last words where the batch could not begin (runtime/batch.py)."""
BY_ITSELF = COMING | {InstanceState.READY}
NEWS_SHARE = 0.05
KEPT_ENDED = 5
"""Ended instances of a service whose logs and exits are kept."""


class Reconciler:
    """Keeps what runs equal to what the store wants. `run` until cancelled; `poke` from any thread on an event."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings = settings
        self.store = store
        self.starter = Starter(settings, store, lambda: self.event.set())
        self.platforms: dict[str, Platform] = {}
        self.event = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.client = httpx.AsyncClient(trust_env=False)
        self.busy: dict[str, asyncio.Task[None]] = {}
        self.renewed: dict[str, float] = {}
        self.reaped_at = 0.0

    def platform(self, name: str) -> Platform:
        if name not in self.platforms:
            self.platforms[name] = platforms.load(name, self.settings.state_dir)
        return self.platforms[name]

    def poke(self) -> None:
        self.loop.call_soon_threadsafe(self.event.set)

    async def run(self) -> None:
        """Reconcile for ever. An error in one round is logged, and the next round tries again."""
        self.resume()
        while True:
            self.event.clear()
            try:
                coming = await self.round()
            except Exception:
                log.exception("a round of the reconciler failed; the next one tries again")
                coming = False
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.event.wait(), STARTING_PERIOD_S if coming else PERIOD_S)

    def resume(self) -> None:
        """After a start: services that were served by engines which a shutdown has stopped begin anew."""
        with self.store.write() as tx:
            for service in services.all_services(tx):
                alive = any(row.state in ALIVE for row in instances.of_service(tx, service.id))
                if service.state in (ServiceState.READY, ServiceState.DEGRADED, ServiceState.STARTING) and not alive:
                    services.update(tx, service, time.time(), state=ServiceState.PLANNING)

    async def round(self) -> bool:
        """One step for everything. True when an engine is on its way."""
        with self.store.read() as tx:
            alive = instances.in_states(tx, ALIVE)
        self._task("reaper", self._reap())
        for row in alive:
            self._task(row.id, self._instance(row))
        if self.busy:  # steps are short but for stops, which go on beside the next rounds
            await asyncio.wait(self.busy.values(), timeout=STARTING_PERIOD_S)
        with self.store.read() as tx:
            everything = services.all_services(tx)
        for service in everything:
            if f"plan {service.id}" not in self.busy:
                try:
                    await self._service(service.id)
                except Exception:  # the others' turn comes all the same
                    log.exception("the step of service %s failed; it is tried again", service.name)
        with self.store.read() as tx:
            return bool(instances.in_states(tx, COMING)) or any(
                s.state in (ServiceState.PENDING, ServiceState.PLANNING) for s in services.all_services(tx)
            )

    def _task(self, name: str, step: Coroutine[None, None, None]) -> None:
        if name in self.busy:
            step.close()
            return
        task = asyncio.create_task(step)
        self.busy[name] = task

        def done(task: asyncio.Task[None]) -> None:
            self.busy.pop(name, None)
            if not task.cancelled() and (error := task.exception()):
                log.error("step of %s failed; it is tried again", name, exc_info=error)

        task.add_done_callback(done)

    # ---- instances ----

    async def _instance(self, row: Row) -> None:
        platform = self.platform(row.platform)
        if row.instance is None and row.state is not InstanceState.STOPPING:
            try:
                instance = await platform.launch(row.launch)
            except ModelportError as error:
                return self._failed(row, Exit(at=time.time()), Reason(error.message))
            row = self._move(row, instance=instance)
        if row.instance is None:  # told to end before it was launched
            self._move(row, state=InstanceState.GONE)
            return
        if row.state is InstanceState.STOPPING:
            await platform.stop(row.instance, row.launch.grace_s)
            observed = await platform.inspect(row.instance)
            self._move(row, state=InstanceState.GONE, exit=observed.exit)
            return
        await self._renew(row, platform)
        observed = await platform.inspect(row.instance)
        if not observed.running:
            if observed.exit is None and row.state in COMING:  # a crash came between writing down and launching
                await platform.launch(row.launch)
                return
            end = observed.exit or Exit(cause="lost")
            await platform.stop(row.instance, 0)  # whatever it left behind
            self._ended(row, end)
        elif row.state in COMING:
            await self._coming(row, platform)
        elif row.state is InstanceState.DRAINING:
            self._draining(row)
        elif row.state is InstanceState.READY and row.launch.progress_path is not None:
            health = await probe(self.client, row.instance.url, row.launch.progress_path, row.instance.key_ref)
            self._note(row, health.progress)

    async def _renew(self, row: Row, platform: Platform) -> None:
        lease = row.launch.lease_s
        now = time.monotonic()
        if lease and row.instance and now - self.renewed.get(row.id, 0.0) > min(lease / 4, 30):
            self.renewed = {id: at for id, at in self.renewed.items() if now - at < 3600} | {row.id: now}
            await platform.renew(row.instance, lease)

    async def _coming(self, row: Row, platform: Platform) -> None:
        if row.instance is None:
            return
        found = await probe(self.client, row.instance.url, row.launch.health_path, row.instance.key_ref)
        health, progress = found.health, found.progress
        self._note(row, progress)
        if progress is not None and progress.stage is Stage.ERROR:
            await self._give_up(row, platform, Reason(progress.sentence, permanent=not progress.again))
        elif health is Health.READY and await platform.listens(row.instance):
            memory = (await platform.inspect(row.instance)).memory_bytes
            said = [line async for line in platform.logs(row.instance, measure.LOG_LINES, False)]
            self._ready(row, memory, said)
        elif health is Health.READY:
            await self._give_up(row, platform, Reason("its port was in use: another program answers there"))
        elif time.time() - row.created_at > self.settings.start_timeout:
            waited = show_seconds(self.settings.start_timeout)
            await self._give_up(row, platform, Reason(f"it was not ready within {waited}"))
        else:
            early = progress is not None and progress.initializing
            opened = health is Health.LOADING and not early
            state = InstanceState.LOADING if opened else InstanceState.INITIALIZING
            if row.state is not InstanceState.LOADING:
                self._move(row, state=state)

    def _note(self, row: Row, progress: Progress | None) -> None:
        """Keep what an engine says of itself, where that is news."""
        if progress is not None and (row.progress is None or _news(row.progress, progress)):
            self._move(row, progress=progress)

    def _ended(self, row: Row, end: Exit) -> None:
        """An engine ended by itself. A batch is over with that, unless it crashed: then it goes on where it was."""
        with self.store.read() as tx:
            batch = services.find(tx, row.service_id).spec.batch is not None
        if not batch or end.code not in (BATCH_DONE, BATCH_FAILED) or end.cause or row.state not in BY_ITSELF:
            return self._failed(row, end, explain(end))
        if end.code == BATCH_FAILED:
            why = next((found[1] for line in reversed(end.tail) if (found := BATCH_SAID.search(line))), "")
            said = why or "none of the batch's files could be answered; each has an .error.json that says why"
            return self._failed(row, end, Reason(said, permanent=True))
        now = time.time()
        with self.store.write() as tx:
            instances.update(tx, instances.find(tx, row.id), now, state=InstanceState.GONE, exit=end)
            service = services.find(tx, row.service_id)
            services.update(tx, service, now, desired="stopped", reason="")
        self.event.set()

    async def _give_up(self, row: Row, platform: Platform, reason: Reason) -> None:
        if row.instance is not None:
            await platform.stop(row.instance, row.launch.grace_s)
            observed = await platform.inspect(row.instance)
            self._failed(row, observed.exit or Exit(at=time.time()), reason)

    def _ready(self, row: Row, memory_bytes: int | None, said: list[str]) -> None:
        now = time.time()
        took = now - row.created_at
        with self.store.write() as tx:
            row = instances.find(tx, row.id)
            if row.state not in COMING:
                return
            told = {"progress": Progress(Stage.READY, "Model is ready", at=now)} if row.progress is not None else {}
            instances.update(tx, row, now, state=InstanceState.READY, ready_at=now, **told)
            service = services.find(tx, row.service_id)
            plan = service.plan or {}
            memory = measure.taken(row.engine, plan, said, memory_bytes)
            starts.record(
                tx,
                model=service.spec.model,
                engine=row.engine,
                seconds=took,
                planned_bytes=plan.get("need_bytes"),
                measured_bytes=memory.bytes,
                now=now,
                instance_id=row.id,
                accelerators=plan.get("accelerators"),
                overhead_ratio=memory.overhead_ratio,
                planned_kv_tokens=plan.get("kv_tokens"),
                measured_kv_tokens=memory.kv_tokens,
            )
        woken = f", {show_seconds(now - service.wake_at)} after it was woken" if service.wake_at else ""
        log.info("service %s: instance %s is ready after %s%s", service.name, row.id, show_seconds(took), woken)

    def _draining(self, row: Row) -> None:
        now = time.time()
        with self.store.write() as tx:
            row = instances.find(tx, row.id)
            drained = gateways.drained(gateways.live(tx, now), row.id, row.drain_revision or 0)
            if row.state is InstanceState.DRAINING and (drained or now - row.changed_at > self.settings.drain_timeout):
                instances.update(tx, row, now, state=InstanceState.STOPPING)
                self.event.set()

    def _move(self, row: Row, **values: object) -> Row:
        """Change a row, unless it went on by itself meanwhile: then it stays as it is now."""
        with self.store.write() as tx:
            now = instances.find(tx, row.id)
            if "state" in values and now.state is not row.state:
                return now
            return instances.update(tx, now, time.time(), **values)

    def _failed(self, row: Row, end: Exit, reason: Reason) -> None:
        now = time.time()
        with self.store.write() as tx:
            row = instances.find(tx, row.id)
            if row.state is InstanceState.STOPPING:  # it was to end anyway
                instances.update(tx, row, now, state=InstanceState.GONE, exit=end)
                return
            instances.update(tx, row, now, state=InstanceState.FAILED, reason=reason.text, exit=end)
            service = services.find(tx, row.service_id)
            log.warning("service %s: instance %s failed: %s", service.name, row.id, reason.text)
            if row.version == service.version and service.desired == "running":
                self._count_failure(tx, service, row, reason, now)
        self.event.set()

    def _count_failure(self, tx: sa.Connection, service: Service, row: Row, reason: Reason, now: float) -> None:
        proven = row.ready_at is not None and now - row.ready_at > PROVEN_S
        failures = 1 if proven else service.failures + 1
        # A batch is ready before it works: one that ends it each time will do so again.
        working = row.ready_at is not None and service.spec.batch is None
        hopeless = reason.permanent or (failures >= MAX_FAILED_STARTS and not working)
        serving = any(other.state is InstanceState.READY for other in instances.of_service(tx, service.id))
        values: dict[str, object] = {"failures": failures, "retry_at": now + backoff_s(failures), "reason": reason.text}
        if service.state is ServiceState.READY or (serving and service.state is ServiceState.STARTING):
            service = services.update(tx, service, now, state=ServiceState.DEGRADED)
        if hopeless and serving:
            values["retry_at"] = now + backoff_s(99)
        elif hopeless and service.state in (ServiceState.STARTING, ServiceState.DEGRADED):
            values["state"] = ServiceState.FAILED
        services.update(tx, service, now, **values)

    # ---- services ----

    async def _service(self, service_id: str) -> None:
        with self.store.read() as tx:
            service, _, step, forgotten = self._decide(tx, service_id)
        if step == Step() and not forgotten and service.state is not ServiceState.PLANNING:
            return  # nearly always: the lock of the writers is not taken for nothing
        now = time.time()
        with self.store.write() as tx:
            service, rows, step, forgotten = self._decide(tx, service_id)
            if step.delete:
                services.delete(tx, service)
            else:
                for row in rows:
                    if row.id in step.wind_down:
                        self._wind_down(tx, row, now)
                values: dict[str, object] = {}
                if step.reason is not None:
                    values["reason"] = step.reason
                if step.state is not None:
                    values["state"] = step.state
                if step.end:
                    values["desired"] = "stopped"
                if step.state is ServiceState.STOPPED and service.spec.job:
                    values["port"] = None  # it is over for good, and others want one
                if step.state in (ServiceState.READY, ServiceState.IDLE):
                    values |= {"retry_at": None, "wake_at": None}
                if step.forgive or step.state is ServiceState.IDLE:
                    values["failures"] = 0
                if values:
                    service = services.update(tx, service, now, **values)
                    self.event.set()
            instances.delete(tx, [row.id for row in forgotten])
        if step.state is not None:
            log.info("service %s is %s", service.name, step.state)
        for row in forgotten:
            if row.instance is not None:
                await self.platform(row.platform).forget(row.instance)
        if not step.delete and (service.state is ServiceState.PLANNING or step.launch):
            self._task(f"plan {service.id}", self.starter.start(service, step.launch))

    def _decide(self, tx: sa.Connection, service_id: str) -> tuple[Service, list[Row], Step, list[Row]]:
        """The service, its instances, its next step, and the ended instances that are no longer kept."""
        service, rows = services.find(tx, service_id), instances.of_service(tx, service_id)
        step = decide(service, rows, time.time(), gateways.last_requests(tx).get(service_id, 0.0))
        ended = [row for row in rows if row.state not in ALIVE]
        return service, rows, step, ended if step.delete else ended[:-KEPT_ENDED]

    def _wind_down(self, tx: sa.Connection, row: Row, now: float) -> None:
        if row.state is InstanceState.READY:
            row = instances.update(tx, row, now, state=InstanceState.DRAINING)
            instances.update(tx, row, now, drain_revision=revision.current(tx))
        else:
            instances.update(tx, row, now, state=InstanceState.STOPPING)
        self.event.set()

    # ---- what nobody wants ----

    async def _reap(self) -> None:
        """End what carries our label and no row wants: left by a crash at a bad moment."""
        if time.monotonic() - self.reaped_at < REAP_PERIOD_S and self.reaped_at:
            return
        self.reaped_at = time.monotonic()
        for name in platforms.PLATFORMS:
            platform = self.platform(name)
            found = await platform.discover(self.store.owner)
            with self.store.read() as tx:
                wanted = {row.id for row in instances.in_states(tx, ALIVE)}
            for instance in found:
                if instance.labels.instance not in wanted:
                    log.warning("ending %s, which runs and which nothing wants", instance.labels.instance)
                    await platform.stop(instance, 5)

    async def shut_down(self) -> None:
        """Stop every engine, in good order, and keep what is wanted: the next start brings the services back."""
        now = time.time()
        with self.store.write() as tx:
            for row in instances.in_states(tx, ALIVE):
                if row.state in COMING | {InstanceState.READY}:
                    self._wind_down(tx, row, now)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with self.store.read() as tx:
                alive = instances.in_states(tx, ALIVE)
            if not alive:
                break
            for row in alive:
                self._task(row.id, self._instance(row))
            await asyncio.wait(self.busy.values(), timeout=PERIOD_S, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0.02)
        await self.client.aclose()


def _news(old: Progress, new: Progress) -> bool:
    """Whether a step was made: another stage or sentence, or a twentieth of the work."""
    if (old.stage, old.message, old.error) != (new.stage, new.message, new.error):
        return True
    return old.share != new.share and abs((new.share or 0.0) - (old.share or 0.0)) >= NEWS_SHARE
