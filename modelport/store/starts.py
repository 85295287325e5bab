"""Recorded starts: how long a model took to be ready, what it took of memory against what was planned, and what is
learned from both for the next plan on this host."""

from dataclasses import dataclass, field
from statistics import median
from typing import Any

import sqlalchemy as sa

from modelport.domain.plan import Span
from modelport.store.tables import starts

KEPT = 1000
"""Rows that are kept; older ones say little of what a start takes now."""
RECENT = 5
"""Starts of one model that its time to ready is taken from."""
LEAST_STARTS = 3
"""Measured starts of an engine before its plans are corrected by them: the median of fewer is an accident's."""
CORRECTED_BY = 20
"""The newest measured starts of an engine that count."""
CORRECTION = (0.5, 2.0)
"""Bounds of a correction: what is further off than this has another cause than the host."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What earlier starts on this host say of the next one."""

    corrections: dict[str, float] = field(default_factory=dict[str, float])
    """By engine: measured over planned memory beside weights and cache; 1 and absent are "as planned"."""
    ready_s: dict[tuple[str, str], Span] = field(default_factory=dict[tuple[str, str], Span])
    """By model and engine: seconds to ready of the last starts, least, median and most."""


def record(
    tx: sa.Connection,
    *,
    model: str,
    engine: str,
    seconds: float,
    planned_bytes: int | None,
    measured_bytes: int | None,
    now: float,
    instance_id: str | None = None,
    accelerators: str | None = None,
    overhead_ratio: float | None = None,
    planned_kv_tokens: int | None = None,
    measured_kv_tokens: int | None = None,
) -> None:
    """Write a start down. Bytes are of one device; `overhead_ratio` is measured over planned of what is neither weights
    nor cache, None where that was not measured."""
    tx.execute(
        starts.insert().values(
            model=model,
            engine=engine,
            seconds=seconds,
            planned_bytes=planned_bytes,
            measured_bytes=measured_bytes,
            at=now,
            instance_id=instance_id,
            accelerators=accelerators,
            overhead_ratio=overhead_ratio,
            planned_kv_tokens=planned_kv_tokens,
            measured_kv_tokens=measured_kv_tokens,
        )
    )
    newest = tx.execute(sa.select(sa.func.max(starts.c.id))).scalar() or 0
    tx.execute(starts.delete().where(starts.c.id <= newest - KEPT))


def estimates(tx: sa.Connection) -> dict[str, float]:
    """By model: the median of the last five starts, in seconds."""
    taken = _newest(tx, starts.c.model, starts.c.seconds)
    return {row[0]: median(recent) for row, recent in taken.items()}


def learned(tx: sa.Connection) -> Learned:
    """What the plans of this host should know."""
    ratios = _newest(tx, starts.c.engine, starts.c.overhead_ratio, count=CORRECTED_BY)
    times = _newest(tx, starts.c.model, starts.c.engine, starts.c.seconds)
    low, high = CORRECTION
    return Learned(
        {
            engine: min(high, max(low, median(recent)))
            for (engine,), recent in ratios.items()
            if len(recent) >= LEAST_STARTS
        },
        {(model, engine): Span(min(s), median(s), max(s)) for (model, engine), s in times.items()},
    )


def measured(tx: sa.Connection, instance_ids: list[str]) -> dict[str, tuple[int | None, int | None]]:
    """By instance: bytes of one device, and tokens of its cache, as they were when it became ready."""
    columns = (starts.c.instance_id, starts.c.measured_bytes, starts.c.measured_kv_tokens)
    rows = tx.execute(sa.select(*columns).where(starts.c.instance_id.in_(instance_ids)))
    return {row.instance_id: (row.measured_bytes, row.measured_kv_tokens) for row in rows}


def carry(source: sa.Connection, into: sa.Connection) -> None:
    """Copy all starts of one store into another, as the newest there."""
    for row in source.execute(sa.select(starts).order_by(starts.c.id)):
        into.execute(starts.insert().values({k: v for k, v in row._mapping.items() if k != "id"}))


def _newest(tx: sa.Connection, *columns: sa.Column[Any], count: int = RECENT) -> dict[tuple[str, ...], list[float]]:
    """The last column's newest values that there are, at most `count`, by the columns before it."""
    taken: dict[tuple[str, ...], list[float]] = {}
    for *key, value in tx.execute(sa.select(*columns).order_by(starts.c.id.desc()).limit(KEPT)):
        recent = taken.setdefault(tuple(key), [])
        if value is not None and len(recent) < count:
            recent.append(value)
    return taken
