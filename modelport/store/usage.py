"""Usage: one row a request, written in batches; sums for people."""

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from modelport.domain.service import UsageView
from modelport.store.tables import requests


def add(tx: sa.Connection, rows: Iterable[Mapping[str, Any]]) -> None:
    """Rows as in tables.requests. One that is there already is left alone: a batch can be written again."""
    batch = [dict(row) for row in rows]
    if batch:
        tx.execute(requests.insert().prefix_with("OR IGNORE"), batch)


def totals(tx: sa.Connection) -> list[UsageView]:
    """Sums by service and key."""
    c = requests.c
    sums = sa.select(
        c.service,
        c.key_id.label("key"),
        sa.func.count().label("requests"),
        sa.func.sum(c.prompt_tokens).label("prompt_tokens"),
        sa.func.sum(c.completion_tokens).label("completion_tokens"),
        sa.func.sum(c.cached_tokens).label("cached_tokens"),
        sa.func.sum(sa.case((c.status >= 400, 1), else_=0)).label("failed"),
    ).group_by(c.service, c.key_id)
    return [UsageView.model_validate(dict(row._mapping)) for row in tx.execute(sums.order_by(c.service, c.key_id))]
