"""Recorded starts: how long a model took to be ready, and what it took of memory against what was planned."""

from statistics import median

import sqlalchemy as sa

from modelport.store.tables import starts

KEPT = 1000
"""Rows that are kept; older ones say little of what a start takes now."""


def record(
    tx: sa.Connection,
    *,
    model: str,
    engine: str,
    seconds: float,
    planned_bytes: int | None,
    measured_bytes: int | None,
    now: float,
) -> None:
    tx.execute(
        starts.insert().values(
            model=model,
            engine=engine,
            seconds=seconds,
            planned_bytes=planned_bytes,
            measured_bytes=measured_bytes,
            at=now,
        )
    )
    newest = tx.execute(sa.select(sa.func.max(starts.c.id))).scalar() or 0
    tx.execute(starts.delete().where(starts.c.id <= newest - KEPT))


def estimates(tx: sa.Connection) -> dict[str, float]:
    """By model: the median of the last five starts, in seconds."""
    taken: dict[str, list[float]] = {}
    for row in tx.execute(sa.select(starts.c.model, starts.c.seconds).order_by(starts.c.id.desc()).limit(KEPT)):
        recent = taken.setdefault(row.model, [])
        if len(recent) < 5:
            recent.append(row.seconds)
    return {model: median(recent) for model, recent in taken.items()}
