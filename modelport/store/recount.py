"""Recount: what a budget's period comes to by the journals on this machine, and the repair where the store differs.

Each settlement says what it was charged, so the sum is exact. With a price that was wrong, `reprice` says what a
settlement should have been charged. The rows of the requests stay as they were written.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import sqlalchemy as sa

from modelport.domain.budget import began as period_began
from modelport.errors import ModelportError
from modelport.store.budgets import Cap
from modelport.store.journals import Done, Open, gateway_of, read, segments
from modelport.store.tables import balances, budgets, journals

Reprice = Callable[[Done], int]


@dataclass(frozen=True, slots=True)
class Difference:
    """What the journals say and what the store says, in steps, as of `applied`: a position for each gateway."""

    budget: Cap
    began: int
    counted: int
    stored: int
    settlements: int
    damaged: int
    """Lines of the journals that cannot be read."""
    applied: Mapping[str, int]
    directories: Mapping[str, Path]
    reprice: Reprice | None

    @property
    def change(self) -> int:
        """What the store is short of."""
        return self.counted - self.stored


def recount(
    tx: sa.Connection, directories: Sequence[Path], budget: Cap, at: float, reprice: Reprice | None = None
) -> Difference:
    """Count the period that `at` lies in.

    Raises ModelportError where journals are missing here, or do not reach back to the period's beginning.
    """
    began = period_began(budget.period, at)
    made_at = tx.execute(sa.select(budgets.c.created_at).where(budgets.c.id == budget.id)).scalar() or 0.0
    applied, stored = _stored(tx, budget.id, began)
    try:
        found = {gateway_of(directory): directory for directory in directories}
        missing = sorted(set(applied) - set(found))
        if missing:
            raise ModelportError(
                f"The journal of the gateway {missing[0]} is not among those given, so what it charged would be "
                "missing. Run this where all journals are."
            )
        for gateway_id in applied:
            _check_reach(found[gateway_id], gateway_id, max(float(began), made_at))
        counted, settlements, damaged = _count(found, {}, applied, budget.id, began, reprice)
    except OSError as error:
        raise ModelportError(f"The journal {error.filename} cannot be read: {error.strerror}.") from None
    return Difference(budget, began, counted, stored, settlements, damaged, applied, found, reprice)


def apply_difference(tx: sa.Connection, difference: Difference) -> int:
    """Make the store say what the journals say, with what was charged since counted too; what was changed.

    Doing it twice changes nothing more.
    """
    budget_id, began = difference.budget.id, difference.began
    b = balances.c
    mine = (b.budget_id == budget_id, b.began == began)
    locked = balances.update().where(*mine).values(spent=b.spent).returning(b.spent)
    stored = tx.execute(locked).scalar()
    if stored is None:
        if not difference.counted:
            return 0
        tx.execute(balances.insert().values(budget_id=budget_id, began=began, spent=0, leased=0, extra=0))
        stored = 0
    now, _ = _stored(tx, budget_id, began)
    since, _, _ = _count(difference.directories, difference.applied, now, budget_id, began, difference.reprice)
    tx.execute(balances.update().where(*mine).values(spent=difference.counted + since))
    return difference.counted + since - stored


def _stored(tx: sa.Connection, budget_id: str, began: int) -> tuple[dict[str, int], int]:
    """How far each journal was applied, and what is spent: read as one, for a gateway may write in between."""
    b = balances.c
    spent = sa.select(b.spent).where(b.budget_id == budget_id, b.began == began).scalar_subquery()
    rows = tx.execute(sa.select(journals.c.gateway_id, journals.c.applied, spent.label("spent"))).all()
    return {row.gateway_id: row.applied for row in rows}, (rows[0].spent or 0) if rows else 0


def _count(
    directories: Mapping[str, Path],
    after: Mapping[str, int],
    upto: Mapping[str, int],
    budget_id: str,
    began: int,
    reprice: Reprice | None,
) -> tuple[int, int, int]:
    """Steps, settlements and damaged lines between two positions of each journal."""
    steps = settlements = damaged = 0
    for gateway_id, last in upto.items():
        directory = directories.get(gateway_id)
        if directory is None:
            raise ModelportError(f"The gateway {gateway_id} began meanwhile; count again with its journal.")
        for end, record in read(directory, after.get(gateway_id, 0)):
            if end > last:
                break
            damaged += record is None
            if isinstance(record, Done):
                for charge in record.charges:
                    if charge[0] == budget_id and charge[1] == began:
                        steps += charge[2] if reprice is None else reprice(record)
                        settlements += 1
    return steps, settlements, damaged


def _check_reach(directory: Path, gateway_id: str, began: float) -> None:
    kept = segments(directory)
    whole = all(one.end >= next_.start for one, next_ in pairwise(kept))
    if whole and (not kept or kept[0].start == 0):
        return
    first = next((record for _, record in read(directory) if isinstance(record, Open)), None)
    if whole and first is not None and first.at <= began:
        return
    raise ModelportError(
        f"The journal of the gateway {gateway_id} no longer reaches back to when the period began, so it cannot be "
        "counted; raise journal_keep to keep more."
    )
