"""Control: the Verbs, done. What a user asks for is checked, written into the store, and left to the reconciler."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Literal

import sqlalchemy as sa

from modelport import __version__
from modelport.control import known, planning
from modelport.control.access import check_spec
from modelport.control.accounts import StoreAccounts
from modelport.control.failure import ended
from modelport.control.known import Known
from modelport.control.logs import lines
from modelport.control.ports import automatic, is_free, lowest_free
from modelport.domain.instance import Observed
from modelport.domain.service import InfoView, InstanceView, PlanView, ServiceView
from modelport.domain.spec import Spec
from modelport.domain.states import ALIVE, InstanceState, ServiceState
from modelport.errors import INVALID, ModelportError
from modelport.platforms import Platform
from modelport.settings import Settings
from modelport.store import Store, gateways, instances, services, starts
from modelport.store.gateways import Gateway
from modelport.store.instances import Row
from modelport.store.services import Service

_REPLAN = {
    ServiceState.STOPPED: ServiceState.PENDING,
    ServiceState.FAILED: ServiceState.PENDING,
    ServiceState.STARTING: ServiceState.PLANNING,
    ServiceState.READY: ServiceState.PLANNING,
    ServiceState.DEGRADED: ServiceState.PLANNING,
}
"""Where a service goes when it gets a new version. The other states look at the version when they get there."""
_STAGES = (InstanceState.LOADING, InstanceState.INITIALIZING, InstanceState.LAUNCHING)


class StorePlans:
    """The verbs that start nothing, with what a store's recorded starts teach; they need no control."""

    def __init__(self, store: Store | None) -> None:
        self.recorded = store

    def plan(self, spec: Spec) -> PlanView:
        return planning.preview(spec, self.known())

    def offers(self, spec: Spec) -> "list[PlanView]":
        return planning.offers(spec, self.known())

    def known(self) -> Known:
        if self.recorded is None:
            return planning.NOTHING
        with self.recorded.read() as tx:
            return known.known(tx)


class Control(StoreAccounts, StorePlans):
    """Implements Verbs. Its methods may be called from any thread but the event loop's."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        poke: Callable[[], None],
        platform: Callable[[str], Platform],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        StoreAccounts.__init__(self, store)
        StorePlans.__init__(self, store)
        self.settings = settings
        self.poke = poke
        self.platform = platform
        self.loop = loop

    def info(self) -> InfoView:
        with self.store.read() as tx:
            live = gateways.live(tx, time.time())
        return InfoView(version=__version__, gateway_url=_gateway_url(live), pid=os.getpid(), gateways=len(live))

    def start(self, spec: Spec) -> ServiceView:
        with self.store.read() as tx:
            found = services.by_name(tx, spec.name)
        check_spec(self.caller, spec, found.spec if found else None)
        if found is None or found.desired != "running" or found.spec != spec:
            planning.must_fit(planning.prepare(spec, self.known()))
        now = time.time()
        with self.store.write() as tx:
            found = services.by_name(tx, spec.name)
            if found is None:
                services.insert(tx, spec, self._port(tx, spec, None), now)
            elif found.desired == "removed":
                self._change(tx, found, spec, now)
            elif _over(found):
                raise _ended(found)
            elif found.spec != spec:
                raise ModelportError(
                    f"A service {spec.name!r} exists with another spec. Use `modelport apply` to change it, or "
                    "give this one another name.",
                    INVALID,
                    param="name",
                )
            else:
                self._change(tx, found, spec, now)
                if found.state is ServiceState.IDLE:
                    services.wake(tx, found.id, now)
        self.poke()
        return self.status(spec.name)

    def apply(self, specs: Sequence[Spec]) -> list[ServiceView]:
        with self.store.read() as tx:
            before = {found.name: found.spec for found in services.all_services(tx)}
        for spec in specs:
            check_spec(self.caller, spec, before.get(spec.name))
        for spec in specs:
            planning.must_fit(planning.prepare(spec, self.known()))
        now = time.time()
        with self.store.write() as tx:
            for spec in specs:
                found = services.by_name(tx, spec.name)
                if found is None:
                    services.insert(tx, spec, self._port(tx, spec, None), now)
                elif _over(found):
                    raise _ended(found)
                else:
                    self._change(tx, found, spec, now)
        self.poke()
        return [self.status(spec.name) for spec in specs]

    def _change(self, tx: sa.Connection, found: Service, spec: Spec, now: float, *, restart: bool = False) -> None:
        count = int(found.version.rpartition(".")[2]) + restart
        version = f"{spec.engine_hash()}.{count}"
        values: dict[str, Any] = {"spec": spec, "version": version, "desired": "running"}
        if spec.port != found.spec.port:
            values["port"] = self._port(tx, spec, found)
        renewed = version != found.version or found.desired != "running"
        if renewed or found.state is ServiceState.FAILED:
            values |= {"failures": 0, "retry_at": None, "reason": ""}
            if found.state in _REPLAN:
                values["state"] = _REPLAN[found.state]
        services.update(tx, found, now, **values)

    def _port(self, tx: sa.Connection, spec: Spec, own: Service | None) -> int | None:
        """The port a Spec claims. Raises ModelportError when another service has it or something listens there."""
        if spec.port is None:
            return None
        others = {s.port: s.name for s in services.all_services(tx) if s.port and (own is None or s.id != own.id)}
        engine_ports = instances.ports(tx)
        host = "127.0.0.1" if spec.auth == "none" else self.settings.host

        def free(port: int) -> bool:
            return is_free(port, host)

        if isinstance(spec.port, str):
            low, _, high = spec.port.partition("-")
            ports = range(int(low), int(high) + 1) if high else automatic(self.settings.service_ports)
            return lowest_free(ports, set(others) | engine_ports, free)
        if spec.port in others:
            raise ModelportError(f"Port {spec.port} belongs to service {others[spec.port]!r}.", param="port")
        if not (own is not None and own.port == spec.port) and (spec.port in engine_ports or not free(spec.port)):
            raise ModelportError(
                f"Port {spec.port} is in use by another program; choose another one, or `port: auto`.", param="port"
            )
        return spec.port

    def stop(self, service: str) -> ServiceView:
        return self._want(service, "stopped")

    def remove(self, service: str) -> ServiceView:
        return self._want(service, "removed")

    def _want(self, service: str, desired: Literal["stopped", "removed"]) -> ServiceView:
        with self.store.write() as tx:
            found = services.find(tx, service)
            if found.desired != "removed":
                found = services.update(tx, found, time.time(), desired=desired)
            view = self._views(tx, [found])[0]  # in a moment a removed service may be gone
        self.poke()
        return view

    def restart(self, service: str) -> ServiceView:
        with self.store.read() as tx:
            found = services.find(tx, service)
            if _over(found):
                raise _ended(found)
            spec = found.spec
        planning.must_fit(planning.prepare(spec, self.known()))
        with self.store.write() as tx:
            found = services.find(tx, service)
            self._change(tx, found, found.spec, time.time(), restart=True)
            if found.state is ServiceState.IDLE:
                services.wake(tx, found.id, time.time())
        self.poke()
        return self.status(found.id)

    def wake(self, service: str) -> None:
        """A request waits for it: start it if it sleeps. Called by gateways, again and again while they wait."""
        with self.store.write() as tx:
            found = services.find(tx, service)
            if found.state is not ServiceState.IDLE or found.wake_at:
                return
            services.wake(tx, found.id, time.time())
        self.poke()

    def list(self) -> list[ServiceView]:
        with self.store.read() as tx:
            return self._views(tx, services.all_services(tx))

    def status(self, service: str) -> ServiceView:
        with self.store.read() as tx:
            found = services.find(tx, service)
            view = self._views(tx, [found])[0]
            alive = {row.id: row for row in instances.of_service(tx, found.id) if row.state in ALIVE}
        looks = {i.id: self._observe(alive[i.id]) for i in view.instances if i.id in alive}
        return view.model_copy(
            update={
                "instances": tuple(
                    i.model_copy(update={"pid": look.pid, "memory_bytes": look.memory_bytes})
                    if (look := looks.get(i.id))
                    else i
                    for i in view.instances
                )
            }
        )

    def logs(self, service: str, tail: int, follow: bool) -> Iterator[str]:
        stream = self.lines(service, tail, follow)
        while (line := asyncio.run_coroutine_threadsafe(_next(stream), self.loop).result()) is not None:
            yield line

    def lines(self, service: str, tail: int, follow: bool) -> AsyncIterator[str]:
        """logs, for who is on the event loop: a reader who is silent for hours holds no thread."""
        with self.store.read() as tx:
            found = services.find(tx, service)
            rows = instances.of_service(tx, found.id)
        launched = [(row, row.instance) for row in rows if row.instance is not None]
        alive = [(row, instance) for row, instance in launched if row.state in ALIVE]
        engines = [(self.platform(row.platform), instance) for row, instance in alive or launched[-1:]]
        return lines(engines, tail, follow)

    def _views(self, tx: sa.Connection, wanted: Sequence[Service]) -> "list[ServiceView]":
        live = gateways.live(tx, time.time())
        last, estimates = gateways.last_requests(tx), starts.estimates(tx)
        rows = {s.id: instances.of_service(tx, s.id) for s in wanted}
        taken = starts.measured(tx, [row.id for of_one in rows.values() for row in of_one])
        return [
            _view(
                s,
                [_instance_view(row, s, *taken.get(row.id, (None, None))) for row in rows[s.id]],
                live,
                estimates,
                last,
            )
            for s in wanted
        ]

    def _observe(self, row: Row) -> Observed:
        if row.instance is None:
            return Observed(running=False)
        look = self.platform(row.platform).inspect(row.instance)
        return asyncio.run_coroutine_threadsafe(look, self.loop).result(timeout=10)


def _instance_view(row: Row, service: Service, measured_bytes: int | None, kv_tokens: int | None) -> InstanceView:
    return InstanceView(
        id=row.id,
        state=row.state,
        platform=row.platform,
        url=row.instance.url if row.instance else "",
        created_at=row.created_at,
        ready_at=row.ready_at,
        start_s=row.ready_at - row.created_at if row.ready_at else None,
        on_gpu=bool((service.plan or {}).get("gpu")),
        measured_bytes=measured_bytes,
        kv_tokens=kv_tokens,
        progress=row.progress,
        reason=row.reason,
        exit=ended(row.exit) if row.exit else "",
    )


def _over(service: Service) -> bool:
    """Whether it is a job that ended, or is about to."""
    ended = service.desired != "running" or service.state in (ServiceState.STOPPED, ServiceState.FAILED)
    return service.spec.job and ended


def _ended(service: Service) -> ModelportError:
    return ModelportError(
        f"The job {service.name!r} is over, and its id cannot be used again: start a new one under another name, or "
        f"`modelport rm {service.name}` first.",
        param="name",
    )


async def _next(stream: AsyncIterator[str]) -> str | None:
    return await anext(stream, None)


def _gateway_url(live: Sequence[Gateway]) -> str:
    return max(live, key=lambda gateway: gateway.seen_at).url if live else ""


def _view(
    service: Service,
    views: list[InstanceView],
    live: Sequence[Gateway],
    estimates: dict[str, float],
    last: dict[str, float],
) -> ServiceView:
    url = _gateway_url(live)
    problem = next((g.problems[service.id] for g in live if service.id in g.problems), "")
    if service.port and url:
        url = url.rpartition(":")[0] + f":{service.port}"
    states = {view.state for view in views}
    coming = next((str(stage) for stage in _STAGES if stage in states), "")
    plan = service.plan or {}
    return ServiceView(
        id=service.id,
        name=service.name,
        spec=service.spec,
        desired=service.desired,
        state=service.state,
        reason=" ".join(part for part in (service.reason, problem) if part),
        stage=coming or str(service.state),
        estimate_s=estimates.get(service.spec.model),
        url=f"{url}/v1" if url else "",
        port=service.port,
        plan=plan.get("sentence", ""),
        planned_bytes=plan.get("need_bytes"),
        planned_kv_tokens=plan.get("kv_tokens"),
        last_request_at=last.get(service.id),
        created_at=service.created_at,
        instances=tuple(views),
    )
