"""Services as rows: what is wanted, and where each stands."""

import uuid
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from modelport.domain.service import Desired
from modelport.domain.spec import Spec
from modelport.domain.states import ServiceState, next_service
from modelport.errors import NOT_FOUND, ModelportError, nearest
from modelport.store.revision import bump
from modelport.store.tables import activity, services


@dataclass(frozen=True, slots=True)
class Service:
    """One row. `version` changes when engines have to be replaced: the Spec's engine hash and a count of restarts."""

    id: str
    name: str
    spec: Spec
    version: str
    desired: Desired
    state: ServiceState
    reason: str
    port: int | None
    plan: dict[str, Any] | None
    """The plan in force: sentence, need_bytes."""
    failures: int
    """Starts that failed in a row."""
    retry_at: float | None
    """When the next start may be tried."""
    wake_at: float | None
    """When a gateway last asked for an idle service."""
    created_at: float
    changed_at: float


def _service(row: Any) -> Service:
    fields = dict(row._mapping)
    return Service(**{**fields, "spec": Spec.model_validate(fields["spec"]), "state": ServiceState(fields["state"])})


def all_services(tx: sa.Connection) -> list[Service]:
    """Every service, by name."""
    return [_service(row) for row in tx.execute(sa.select(services).order_by(services.c.name))]


def by_name(tx: sa.Connection, name: str) -> Service | None:
    row = tx.execute(sa.select(services).where(services.c.name == name)).first()
    return _service(row) if row else None


def find(tx: sa.Connection, ref: str) -> Service:
    """By name or id. Raises ModelportError (404) with the nearest name."""
    row = tx.execute(sa.select(services).where(sa.or_(services.c.name == ref, services.c.id == ref))).first()
    if row is None:
        known = [name for (name,) in tx.execute(sa.select(services.c.name))]
        raise ModelportError(f"There is no service {ref[:80]!r}.{nearest(ref[:80], known)}", NOT_FOUND)
    return _service(row)


def insert(tx: sa.Connection, spec: Spec, port: int | None, now: float) -> Service:
    """A new service that is wanted running, in state pending."""
    row = {
        "id": str(uuid.uuid4()),
        "name": spec.name,
        "spec": spec.model_dump(mode="json"),
        "version": f"{spec.engine_hash()}.0",
        "desired": "running",
        "state": ServiceState.PENDING,
        "reason": "",
        "port": port,
        "failures": 0,
        "created_at": now,
        "changed_at": now,
    }
    tx.execute(services.insert().values(**row))
    bump(tx)
    return find(tx, str(row["id"]))


def update(tx: sa.Connection, service: Service, now: float, **values: Any) -> Service:
    """Change a row and tell the gateways. A new `state` must be a legal step; staying where it is always is."""
    if (state := values.get("state")) is not None and state != service.state:
        next_service(service.state, state)
    if isinstance(spec := values.get("spec"), Spec):
        values["spec"] = spec.model_dump(mode="json")
    tx.execute(services.update().where(services.c.id == service.id).values(changed_at=now, **values))
    bump(tx)
    return find(tx, service.id)


def wake(tx: sa.Connection, service_id: str, now: float) -> None:
    """A request waits for this service: note when, for the reconciler."""
    tx.execute(services.update().where(services.c.id == service_id).values(wake_at=now))


def delete(tx: sa.Connection, service: Service) -> None:
    tx.execute(services.delete().where(services.c.id == service.id))
    tx.execute(activity.delete().where(activity.c.service_id == service.id))
    bump(tx)
