"""What to do next for one service: a function from what is known to one step. It touches nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

from modelport.domain.service import ENDED_IDLE
from modelport.domain.states import ALIVE, COMING, InstanceState, ServiceState
from modelport.store.instances import Row
from modelport.store.services import Service

MAX_FAILED_STARTS = 5
"""Starts that fail in a row without one getting ready, after which a service is failed."""
PROVEN_S = 60.0
"""An engine that was ready for this long had a good start: its end counts as the first failure again."""
REPORT_LAG_S = 1.5
"""How old the last word of a gateway may be: they report requests every second, the ones in flight too."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `wind_down` lists instances that shall end; how depends on their state."""

    state: ServiceState | None = None
    reason: str | None = None
    launch: int = 0
    wind_down: tuple[str, ...] = ()
    delete: bool = False
    end: bool = False
    """It is over for good: nobody wants it to run any more."""
    forgive: bool = False
    """What runs has proven itself: earlier failures no longer count."""


def backoff_s(failures: int) -> float:
    """Seconds until the next start after so many failures in a row: 1, 2, 4 … 300."""
    return float(min(300, 2 ** min(failures - 1, 9)))


def decide(service: Service, rows: Sequence[Row], now: float, last_request_at: float) -> Step:
    """The next step for a service with these instances. `last_request_at` is 0 where there was none."""
    alive = [row for row in rows if row.state in ALIVE]
    current = [row for row in alive if row.version == service.version and row.state in COMING | {InstanceState.READY}]
    ready = [row for row in current if row.state is InstanceState.READY]

    if service.desired != "running" or service.state is ServiceState.STOPPING:
        return _end(service, alive)
    match service.state:
        case ServiceState.STOPPED:
            return Step(state=ServiceState.PENDING)
        case ServiceState.PENDING:
            return Step(state=ServiceState.PLANNING)
        case ServiceState.PLANNING:
            return Step(launch=max(0, service.spec.replicas - len(current)))
        case ServiceState.FAILED:
            return Step(wind_down=_endable(alive))
        case ServiceState.IDLE:
            return Step(state=ServiceState.STARTING if service.wake_at else None, wind_down=_endable(alive))
        case _:
            return _run(service, alive, current, ready, now, last_request_at)


def _run(
    service: Service, alive: list[Row], current: list[Row], ready: list[Row], now: float, last_request_at: float
) -> Step:
    wanted = service.spec.replicas
    if len(ready) < wanted:
        due = service.retry_at is None or now >= service.retry_at
        missing = wanted - len(current) if due else 0
        if service.failures:
            missing = min(missing, 1)  # after a failure one at a time, until one is ready
        outdated = [row for row in alive if row.version != service.version and row.state in COMING]
        state = ServiceState.DEGRADED if service.state is ServiceState.READY else None
        return Step(state=state, launch=max(0, missing), wind_down=_endable(outdated))
    surplus = sorted(current, key=lambda row: (row.state is not InstanceState.READY, row.created_at))[wanted:]
    keep = {row.id for row in current} - {row.id for row in surplus}
    others = _endable([row for row in alive if row.id not in keep])
    if service.state is not ServiceState.READY:
        return Step(state=ServiceState.READY, reason="", wind_down=others)
    rested_since = max(last_request_at, *(row.ready_at or 0.0 for row in ready))
    idle = 0 < service.spec.idle_timeout < now - rested_since - REPORT_LAG_S and service.spec.batch is None
    if idle and service.spec.job:
        return Step(end=True, reason=ENDED_IDLE)
    if idle:
        return Step(state=ServiceState.IDLE, reason="", wind_down=_endable(alive))
    proven = service.failures > 0 and all(now - (row.ready_at or now) > PROVEN_S for row in ready)
    return Step(wind_down=others, forgive=proven)


def _end(service: Service, alive: list[Row]) -> Step:
    if service.state is ServiceState.STOPPED:
        return Step(delete=service.desired == "removed")
    if service.state is not ServiceState.STOPPING:
        return Step(state=ServiceState.STOPPING, wind_down=_endable(alive))
    if alive:
        return Step(wind_down=_endable(alive))
    return Step(state=ServiceState.STOPPED)


def _endable(rows: Sequence[Row]) -> tuple[str, ...]:
    on_the_way = (InstanceState.DRAINING, InstanceState.STOPPING)
    return tuple(row.id for row in rows if row.state not in on_the_way)
