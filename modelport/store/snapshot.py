"""Snapshot: all that a gateway needs to admit and route, read in one transaction."""

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from modelport.domain.spec import Spec
from modelport.domain.states import InstanceState, ServiceState
from modelport.store import instances, keys, services, starts
from modelport.store.keys import Key
from modelport.store.revision import current


@dataclass(frozen=True, slots=True)
class Replica:
    """One ready instance."""

    id: str
    url: str
    key_ref: str
    routes: tuple[str, ...]
    """`METHOD /path` that the generic proxy may reach."""


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


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The gateway's world at one revision."""

    revision: int
    keys: Mapping[str, Key]
    """By prefix; revoked ones are absent."""
    services: tuple[Routed, ...]


def snapshot(tx: sa.Connection) -> Snapshot:
    ready: dict[str, list[Replica]] = {}
    for row in instances.in_states(tx, [InstanceState.READY]):
        if row.instance is not None:
            replica = Replica(row.id, row.instance.url, row.instance.key_ref, row.launch.routes)
            ready.setdefault(row.service_id, []).append(replica)
    estimate = starts.estimates(tx)
    routed = tuple(
        Routed(
            s.id,
            s.name,
            s.spec,
            s.state,
            s.reason,
            s.port,
            s.created_at,
            estimate.get(s.spec.model),
            tuple(ready.get(s.id, ())),
        )
        for s in services.all_services(tx)
        if s.desired != "removed"
    )
    return Snapshot(current(tx), keys.valid(tx), routed)
