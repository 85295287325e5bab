"""Starter: from a Service that wants engines to instances that are written down, or to why there are none."""

import asyncio
import logging
import time
from collections.abc import Callable

from modelport.control import known, measure, planning
from modelport.control.decide import MAX_FAILED_STARTS, backoff_s
from modelport.control.ports import automatic, lowest_free
from modelport.domain.launch import Labels
from modelport.domain.states import InstanceState, ServiceState
from modelport.errors import CANNOT_FIT, NOT_READY, ModelportError
from modelport.settings import Settings
from modelport.store import Store, instances, services
from modelport.store.services import Service

log = logging.getLogger("modelport.control")
STARTABLE = (ServiceState.PLANNING, ServiceState.STARTING, ServiceState.DEGRADED)


class Starter:
    """`changed` is called when something was written down."""

    def __init__(self, settings: Settings, store: Store, changed: Callable[[], None]) -> None:
        self.settings = settings
        self.store = store
        self._changed = changed

    async def start(self, service: Service, count: int) -> None:
        """Plan (again: the machine may have changed), and write down `count` instances to be launched."""
        try:
            with self.store.read() as tx:
                taught = known.known(tx)
            prepared = planning.must_fit(await asyncio.to_thread(planning.prepare, service.spec, taught))
            self._write_down(service, prepared, count)
        except ModelportError as error:  # it does not fit, no port is free, the disk is full …
            self._cannot_start(service.id, error)
        self._changed()

    def _write_down(self, service: Service, prepared: planning.Prepared, count: int) -> None:
        now = time.time()
        with self.store.write() as tx:
            current = services.find(tx, service.id)
            if current.version != service.version or current.desired != "running" or current.state != service.state:
                return  # it was changed while we planned: the next round decides anew
            plan = measure.expected(prepared.plan, current.spec.accelerators)
            state = ServiceState.STARTING if current.state is ServiceState.PLANNING else current.state
            current = services.update(tx, current, now, plan=plan, state=state)
            for _ in range(count):
                taken = instances.ports(tx) | {s.port for s in services.all_services(tx)}
                port = lowest_free(automatic(self.settings.engine_ports), taken)
                labels = Labels(current.id, instances.new_id(), self.store.owner)
                launch = prepared.launch.bind(labels, "127.0.0.1", port, self.settings.lease)
                instances.insert(
                    tx, launch, version=current.version, platform=current.spec.platform, engine=prepared.engine, now=now
                )

    def _cannot_start(self, service_id: str, error: ModelportError) -> None:
        now = time.time()
        with self.store.write() as tx:
            service = services.find(tx, service_id)
            log.warning("service %s cannot be started: %s", service.name, error.message)
            if service.desired != "running" or service.state not in STARTABLE:
                return
            serving = any(row.state is InstanceState.READY for row in instances.of_service(tx, service_id))
            failures = service.failures + 1
            passing = error.kind in (CANNOT_FIT, NOT_READY) and failures < MAX_FAILED_STARTS  # memory comes and goes
            state = ServiceState.DEGRADED if serving else ServiceState.STARTING if passing else ServiceState.FAILED
            if state is ServiceState.STARTING and service.state is ServiceState.DEGRADED:
                state = ServiceState.DEGRADED
            retry_at = now + backoff_s(failures)
            services.update(tx, service, now, reason=error.message, failures=failures, retry_at=retry_at, state=state)
        self._changed()
