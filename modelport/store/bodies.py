"""Bodies: requests and answers of keys that opted in. `usage.forget` takes them away when they are old enough."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from modelport.store.tables import bodies


def add(tx: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows as in tables.bodies, every column. One that is there already is left alone: a batch can be written again."""
    if rows:
        insert = sqlite.insert if tx.dialect.name == "sqlite" else postgresql.insert
        tx.execute(insert(bodies).on_conflict_do_nothing(), list(rows))
