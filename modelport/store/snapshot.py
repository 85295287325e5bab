"""Snapshot: all that a gateway needs to admit and route, read in one transaction."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa

from modelport.domain.alias import Alias
from modelport.domain.limits import NO_LIMITS, Limits
from modelport.domain.price import Price, Rates, rates
from modelport.domain.progress import Progress
from modelport.domain.spec import Spec
from modelport.domain.states import COMING, InstanceState, ServiceState
from modelport.store import aliases, budgets, instances, keys, services, starts, teams
from modelport.store.budgets import Cap
from modelport.store.keys import Key
from modelport.store.revision import current

NO_RATES = rates(Price())


@dataclass(frozen=True, slots=True)
class Replica:
    """One ready instance."""

    id: str
    url: str
    key_ref: str
    routes: tuple[str, ...]
    """`METHOD /path` that the generic proxy may reach."""
    engine: str = ""


@dataclass(frozen=True, slots=True)
class Routed:
    """One service with the replicas a request may go to now; none while it sleeps or starts."""

    id: str
    name: str
    spec: Spec
    state: ServiceState
    reason: str
    port: int | None
    created_at: float
    estimate_s: float | None
    replicas: tuple[Replica, ...]
    context_tokens: int | None = None
    """The most that one request may use, input and output together; None where no plan says."""
    parallel: int | None = None
    """Requests that one replica works on at once; None where its engine decides."""
    gpus: int = 0
    """Of one replica."""
    wanted: bool = True
    """Whether it is to run: a job that is not gets no more requests, though its engine may still be there."""
    task: str = ""
    """What it does; empty where no plan says."""
    progress: Progress | None = None
    """What its newest engine last said of its start, while it is on its way."""
    rates: Rates = NO_RATES
    """The Spec's price, made ready."""
    limits: Limits = NO_LIMITS
    """The Spec's; NO_LIMITS itself where it has none, so that this is seen at a glance."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The gateway's world at one revision."""

    revision: int
    keys: Mapping[str, Key]
    """By prefix; revoked ones are absent."""
    services: tuple[Routed, ...]
    teams: Mapping[str, Limits] = field(default_factory=dict)
    budgets: tuple[Cap, ...] = ()
    aliases: tuple[Alias, ...] = ()


def snapshot(tx: sa.Connection) -> Snapshot:
    ready: dict[str, list[Replica]] = {}
    told: dict[str, Progress] = {}
    for row in instances.in_states(tx, [InstanceState.READY, *COMING]):
        if row.state is not InstanceState.READY:
            if row.progress is not None:
                told[row.service_id] = row.progress
        elif row.instance is not None and row.launch.progress_path is None:  # a batch asks itself
            replica = Replica(row.id, row.instance.url, row.instance.key_ref, row.launch.routes, row.engine)
            ready.setdefault(row.service_id, []).append(replica)
    estimate = starts.estimates(tx)
    routed = tuple(
        _routed(service, estimate.get(service.spec.model), tuple(ready.get(service.id, ())), told.get(service.id))
        for service in services.all_services(tx)
        if service.desired != "removed"
    )
    return Snapshot(
        current(tx), keys.valid(tx), routed, teams.limits(tx), tuple(budgets.caps(tx)), tuple(aliases.all_aliases(tx))
    )


def _routed(
    service: services.Service, estimate_s: float | None, replicas: tuple[Replica, ...], progress: Progress | None
) -> Routed:
    plan, spec = service.plan or {}, service.spec
    told = spec.parallel is not None or not plan.get("gpu")  # else the engine takes what its memory holds
    return Routed(
        id=service.id,
        name=service.name,
        spec=spec,
        state=service.state,
        reason=service.reason,
        port=service.port,
        created_at=service.created_at,
        estimate_s=estimate_s,
        replicas=replicas,
        context_tokens=plan.get("context_tokens") or spec.context,
        parallel=spec.parallel or (plan.get("parallel") if told else None),
        gpus=plan.get("gpus") or 0,
        wanted=service.desired == "running",
        task=plan.get("task") or "",
        progress=progress,
        rates=rates(spec.price),
        limits=spec.limits if spec.limits != NO_LIMITS else NO_LIMITS,
    )
