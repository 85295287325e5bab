"""Usage: one row a request, written in batches; sums for people."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

from modelport.domain.price import NANO
from modelport.domain.usage import Group, UsageQuery, UsageView
from modelport.store import services
from modelport.store.tables import bodies, requests

COLUMNS = tuple(column.name for column in requests.columns)
FORGET_ROWS = 5000
"""Rows taken away in one transaction, some 20 ms: requests are written in between."""
_row = itemgetter(*COLUMNS)
_c = requests.c
_GROUPS: dict[Group, sa.ColumnElement[Any]] = {
    "key": _c.key_id,
    "team": _c.team,
    "user": _c.user,
    "service": _c.service,
    "model": _c.model,
    "route": _c.route,
    "day": sa.func.floor(_c.at / sa.literal_column("86400")),
}
_SUMS = {
    "requests": sa.func.count(),
    "failed": sa.func.sum(sa.case((_c.status >= 400, 1), else_=0)),
    "estimated": sa.func.sum(sa.case((_c.estimated, 1), else_=0)),
    **{
        name: sa.func.sum(_c[name])
        for name in (
            "input_tokens",
            "output_tokens",
            "cached_tokens",
            "reasoning_tokens",
            "audio_ms",
            "characters",
            "images",
            "gpu_ms",
            "money_nano",
        )
    },
}
_LATENCIES = ("total", "first_byte", "queue")
_PERCENTS = (50, 95, 99)


def add(tx: sa.Connection, rows: Iterable[Mapping[str, Any]]) -> None:
    """Rows as in tables.requests, every column. One that is there already is left alone: a batch can be written again.

    The driver's own executemany with tuples: half of what SQLAlchemy's takes (bench/usage.py).
    """
    batch = [_row(row) for row in rows]
    if batch:
        mark = "?" if tx.dialect.paramstyle == "qmark" else "%s"
        names = ", ".join(f'"{name}"' for name in COLUMNS)
        marks = ", ".join([mark] * len(COLUMNS))
        tx.exec_driver_sql(f"INSERT INTO requests ({names}) VALUES ({marks}) ON CONFLICT (id) DO NOTHING", batch)  # noqa: S608


def report(tx: sa.Connection, query: UsageQuery, only: Mapping[str, str] | None = None) -> list[UsageView]:
    """Sums by the query's groups, in their order. `only` narrows it further, by the same names as the query's filters:
    what who asks may see at all."""
    wanted: list[sa.ColumnElement[bool]] = []
    given = query.model_dump(include={"key", "team", "user", "service", "model"}, exclude_defaults=True)
    for filters in (given, only or {}):
        wanted += [_GROUPS[name] == value for name, value in filters.items()]  # type: ignore[index]
    wanted += [_c.at >= query.since] if query.since is not None else []
    wanted += [_c.at < query.until] if query.until is not None else []
    groups = [_GROUPS[name].label(f"by_{name}") for name in query.by]
    latencies = _latencies(tx, groups, wanted)
    return [
        UsageView.model_validate(_named(query.by, values) | sums | latencies.get(values, {}))
        for values, sums in _sums(tx, groups, wanted).items()
    ]


def _sums(
    tx: sa.Connection, groups: Sequence[sa.Label[Any]], wanted: Sequence[sa.ColumnElement[bool]]
) -> dict[tuple[Any, ...], dict[str, Any]]:
    """By the groups' values, sorted. The database sums by service too, since each has its own price."""
    price = {service.id: service.spec.price.gpu_hour for service in services.all_services(tx)}
    columns = [column.label(name) for name, column in _SUMS.items()]
    select = sa.select(*groups, _c.service_id, *columns).where(*wanted).group_by(*groups, _c.service_id)
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in tx.execute(select.order_by(*groups)):
        sums: dict[str, Any] = dict(zip(_SUMS, map(int, row[len(groups) + 1 :]), strict=True))
        if gpu_hour := price.get(row.service_id):
            sums["priced_ms"] = sums["gpu_ms"] * gpu_hour
            sums["priced_tokens"] = sums["input_tokens"] + sums["output_tokens"]
        into = found.setdefault(tuple(row[: len(groups)]), {})
        for name, value in sums.items():
            into[name] = into.get(name, 0) + value
    return {values: _natural(sums) for values, sums in found.items()}


def _natural(sums: dict[str, Any]) -> dict[str, Any]:
    """Sums in steps as a view has them: seconds, money."""
    tokens, priced = sums["input_tokens"] + sums["output_tokens"], sums.pop("priced_tokens", 0)
    gpu_cost = sums.pop("priced_ms", 0) / 3_600_000
    cost = sums.pop("money_nano") / NANO
    return {
        **sums,
        "audio_seconds": sums.pop("audio_ms") / 1000,
        "gpu_seconds": sums.pop("gpu_ms") / 1000,
        "cost": cost,
        "cost_per_1k": cost / tokens * 1000 if tokens else None,
        "gpu_cost_per_1k": gpu_cost / priced * 1000 if priced else None,
    }


def _latencies(
    tx: sa.Connection, groups: Sequence[sa.Label[Any]], wanted: Sequence[sa.ColumnElement[bool]]
) -> dict[tuple[Any, ...], dict[str, float]]:
    """Percentiles by the groups' values, exact, by nearest rank."""
    found: dict[tuple[Any, ...], dict[str, float]] = {}
    for name in _LATENCIES:
        value = _c[f"{name}_s"]
        parts = [group.element for group in groups]
        ranked = (
            sa.select(
                *groups,
                value.label("value"),
                sa.func.row_number().over(partition_by=parts, order_by=value).label("place"),
                sa.func.count().over(partition_by=parts).label("of"),
            )
            .where(*wanted, _c.status < 400, value.is_not(None))
            .subquery()
        )
        own = [ranked.c[group.name] for group in groups]
        at = [
            sa.func.max(sa.case((ranked.c.place == (ranked.c.of * p + 99) // 100, ranked.c.value))) for p in _PERCENTS
        ]
        for row in tx.execute(sa.select(*own, *at).group_by(*own)):
            values = {f"{name}_p{p}_s": row[len(groups) + n] for n, p in enumerate(_PERCENTS)}
            found.setdefault(tuple(row[: len(groups)]), {}).update(values)
    return found


def _named(by: Sequence[Group], values: Sequence[Any]) -> dict[str, str]:
    named: dict[str, str] = dict(zip(by, values, strict=True))
    if "day" in named:
        named["day"] = datetime.fromtimestamp(int(named["day"]) * 86400, UTC).date().isoformat()
    return named


def forget(tx: sa.Connection, requests_before: float, bodies_before: float) -> int:
    """Take away what is older, at most FORGET_ROWS of each. How many rows: as long as there are any, call it again."""
    gone = 0
    for table, before in ((requests, requests_before), (bodies, bodies_before)):
        old = sa.select(table.c.id).where(table.c.at < before).order_by(table.c.at).limit(FORGET_ROWS)
        gone += tx.execute(table.delete().where(table.c.id.in_(old))).rowcount
    return gone
