"""Budgets as rows: what is allowed. What is used of them is in leases.py."""

import secrets
from dataclasses import dataclass

import sqlalchemy as sa

from modelport.domain.amounts import Unit, steps
from modelport.domain.budget import Budget, Period
from modelport.errors import NOT_FOUND, ModelportError
from modelport.store.revision import bump
from modelport.store.tables import budgets


@dataclass(frozen=True, slots=True)
class Cap:
    """One budget as a gateway holds it. `cap` is in steps of the unit (domain/amounts.py)."""

    id: str
    subject: str
    unit: Unit
    cap: int
    period: Period
    soft: float
    hard: bool


def caps(tx: sa.Connection) -> list[Cap]:
    """Every budget."""
    rows = tx.execute(sa.select(budgets).order_by(budgets.c.id))
    return [Cap(row.id, row.subject, row.unit, row.cap, row.period, row.soft, row.hard) for row in rows]


def find(tx: sa.Connection, budget: str) -> Cap:
    """By id. Raises ModelportError (404)."""
    for cap in caps(tx):
        if cap.id == budget:
            return cap
    raise ModelportError(f"There is no budget {budget[:80]!r}; `modelport budgets list` shows them.", NOT_FOUND)


def put(tx: sa.Connection, wanted: Budget, now: float) -> Cap:
    """A budget as wanted. Where there is one of the same subject, unit and period, it is changed, and what was used of
    it stays used."""
    same = (
        budgets.c.subject == wanted.subject,
        budgets.c.unit == wanted.unit,
        budgets.c.period == wanted.period,
    )
    values = {"cap": steps(wanted.unit, wanted.cap), "soft": wanted.soft, "hard": wanted.hard}
    found = tx.execute(sa.select(budgets.c.id).where(*same)).scalar()
    if found is None:
        found = "budget-" + secrets.token_hex(4)
        named = wanted.model_dump(include={"subject", "unit", "period"})
        tx.execute(budgets.insert().values(id=found, **named, **values, created_at=now))
    else:
        tx.execute(budgets.update().where(budgets.c.id == found).values(**values))
    bump(tx)
    return find(tx, found)


def delete(tx: sa.Connection, budget: str) -> Cap:
    """Take a budget away. Raises ModelportError (404)."""
    cap = find(tx, budget)
    tx.execute(budgets.delete().where(budgets.c.id == cap.id))
    bump(tx)
    return cap
