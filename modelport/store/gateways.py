"""What gateways tell control: that they live, which revision they route by, who is busy, who was asked for when."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from modelport.store.dialect import insert
from modelport.store.tables import activity, gateways

FRESH_S = 5.0
"""A gateway that has not written for this long counts as gone."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """One gateway's last word. `busy` lists instances it has requests in flight at; `problems` maps a service's id to
    why its own port could not be opened."""

    id: str
    url: str
    seen_at: float
    revision: int
    busy: tuple[str, ...]
    problems: Mapping[str, str]


def report(tx: sa.Connection, gateway: Gateway) -> None:
    values = {
        "url": gateway.url,
        "seen_at": gateway.seen_at,
        "revision": gateway.revision,
        "busy": list(gateway.busy),
        "problems": dict(gateway.problems),
    }
    if not tx.execute(gateways.update().where(gateways.c.id == gateway.id).values(**values)).rowcount:
        tx.execute(gateways.insert().values(id=gateway.id, **values))
        tx.execute(gateways.delete().where(gateways.c.seen_at < gateway.seen_at - 3600))


def leave(tx: sa.Connection, gateway_id: str) -> None:
    """A gateway ends in good order."""
    tx.execute(gateways.delete().where(gateways.c.id == gateway_id))


def live(tx: sa.Connection, now: float) -> list[Gateway]:
    """Those heard of in the last FRESH_S."""
    rows = tx.execute(sa.select(gateways).where(gateways.c.seen_at > now - FRESH_S))
    return [Gateway(r.id, r.url, r.seen_at, r.revision, tuple(r.busy), r.problems) for r in rows]


def drained(live_gateways: Sequence[Gateway], instance_id: str, revision: int) -> bool:
    """Whether every live gateway routes by `revision` or later and has nothing in flight at the instance."""
    return all(g.revision >= revision and instance_id not in g.busy for g in live_gateways)


def touch(tx: sa.Connection, last_request_at: Mapping[str, float]) -> None:
    """When each service was last asked for, or still had a request in flight. Never goes back. In one order, so that
    two gateways that write the same services cannot wait for each other."""
    if not last_request_at:
        return
    seen = insert(tx, activity)
    now, before = seen.excluded.last_request_at, activity.c.last_request_at
    seen = seen.on_conflict_do_update(
        index_elements=["service_id"], set_={"last_request_at": sa.case((now > before, now), else_=before)}
    )
    tx.execute(seen, [{"service_id": id, "last_request_at": at} for id, at in sorted(last_request_at.items())])


def last_requests(tx: sa.Connection) -> dict[str, float]:
    """By service id."""
    return {row.service_id: row.last_request_at for row in tx.execute(sa.select(activity))}
