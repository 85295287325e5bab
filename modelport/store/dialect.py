"""Dialect: the one statement that SQLAlchemy spells per database, an INSERT that says what a conflict means."""

from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql


def insert(tx: sa.Connection, table: sa.Table) -> "sqlite.Insert | postgresql.Insert":
    """An INSERT with `on_conflict_do_nothing` and `on_conflict_do_update`; `excluded` is the row not put in."""
    if tx.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql  # 20 ms that SQLite does not need

        return postgresql.insert(table)
    return sqlite.insert(table)
