"""Instances as rows: written down before anything is launched, so that a crash at any step can be gone on from."""

import dataclasses
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from modelport.domain.instance import Exit, Instance
from modelport.domain.launch import Labels, Launch
from modelport.domain.progress import Progress, Stage
from modelport.domain.states import ALIVE, InstanceState, next_instance
from modelport.store.revision import bump
from modelport.store.tables import instances


@dataclass(frozen=True, slots=True)
class Row:
    """One instance with its place in the lifecycle. `instance` is None until its platform launched it."""

    id: str
    service_id: str
    version: str
    state: InstanceState
    reason: str
    platform: str
    engine: str
    port: int
    launch: Launch
    instance: Instance | None
    exit: Exit | None
    drain_revision: int | None
    """The revision from which on no gateway routes to it."""
    created_at: float
    changed_at: float
    ready_at: float | None
    progress: Progress | None = None
    """What the engine itself last said of its start."""


def _row(row: Any) -> Row:
    fields = dict(row._mapping)
    launch, instance, end = fields["launch"], fields["instance"], fields["exit"]
    launch: Any = {key: tuple(value) if isinstance(value, list) else value for key, value in launch.items()}
    fields["launch"] = Launch(**{**launch, "labels": Labels(**launch["labels"])})
    fields["instance"] = Instance(**{**instance, "labels": Labels(**instance["labels"])}) if instance else None
    fields["exit"] = Exit(**{**end, "tail": tuple(end["tail"])}) if end else None
    fields["state"] = InstanceState(fields["state"])
    if told := fields["progress"]:
        steps = tuple(told["remaining_steps"])
        fields["progress"] = Progress(**{**told, "stage": Stage(told["stage"]), "remaining_steps": steps})
    return Row(**fields)


def new_id() -> str:
    return "i-" + secrets.token_hex(6)


def insert(tx: sa.Connection, launch: Launch, *, version: str, platform: str, engine: str, now: float) -> Row:
    """Write an instance down, in state launching. The launch is bound: it has labels."""
    labels = launch.labels
    if labels is None:
        raise ValueError("an unbound launch cannot be written down")
    tx.execute(
        instances.insert().values(
            id=labels.instance,
            service_id=labels.service,
            version=version,
            state=InstanceState.LAUNCHING,
            reason="",
            platform=platform,
            engine=engine,
            port=launch.port,
            launch=dataclasses.asdict(launch),
            created_at=now,
            changed_at=now,
        )
    )
    return find(tx, labels.instance)


def find(tx: sa.Connection, instance_id: str) -> Row:
    return _row(tx.execute(sa.select(instances).where(instances.c.id == instance_id)).one())


def of_service(tx: sa.Connection, service_id: str) -> list[Row]:
    """All of a service's, oldest first, ended ones too."""
    found = tx.execute(
        sa.select(instances).where(instances.c.service_id == service_id).order_by(instances.c.created_at)
    )
    return [_row(row) for row in found]


def in_states(tx: sa.Connection, states: Iterable[InstanceState]) -> list[Row]:
    """All that are in one of these states, oldest first."""
    found = tx.execute(sa.select(instances).where(instances.c.state.in_(list(states))).order_by(instances.c.created_at))
    return [_row(row) for row in found]


def update(tx: sa.Connection, row: Row, now: float, **values: Any) -> Row:
    """Change a row. A new `state` must be a legal step. Gateways are told where it concerns them."""
    state = values.get("state")
    if state is not None and state != row.state:
        next_instance(row.state, state)
        values["changed_at"] = now
    for field in ("instance", "exit", "progress"):
        if values.get(field) is not None:
            values[field] = dataclasses.asdict(values[field])
    tx.execute(instances.update().where(instances.c.id == row.id).values(**values))
    told = values.get("progress")
    new_stage = told is not None and (row.progress is None or told["stage"] != row.progress.stage)
    if InstanceState.READY in (row.state, state) or new_stage:
        bump(tx)
    return find(tx, row.id)


def ports(tx: sa.Connection) -> set[int]:
    """Ports that instances hold or are about to."""
    return {p for (p,) in tx.execute(sa.select(instances.c.port).where(instances.c.state.in_(ALIVE)))}


def delete(tx: sa.Connection, ids: Iterable[str]) -> None:
    tx.execute(instances.delete().where(instances.c.id.in_(list(ids))))
