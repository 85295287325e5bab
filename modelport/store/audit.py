"""Audit: the book of who changed keys, teams, budgets and aliases. Rows are only ever added."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from modelport.domain.account import AuditView
from modelport.store.tables import audit


def record(
    tx: sa.Connection,
    now: float,
    actor: str,
    action: str,
    subject: str,
    detail: Mapping[str, Any],
) -> None:
    """Write a change down, in the transaction that makes it: there is never one without the other.
    Overrides, which have a reason, are written by leases.py."""
    row = {"at": now, "actor": actor, "action": action, "subject": subject, "reason": "", "detail": detail}
    tx.execute(audit.insert().values(**row))


def latest(tx: sa.Connection, count: int) -> list[AuditView]:
    """The last so many changes, newest first."""
    rows = tx.execute(sa.select(audit).order_by(audit.c.id.desc()).limit(count)).mappings()
    return [AuditView.model_validate(dict(row)) for row in rows]
