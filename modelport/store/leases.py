"""Leases: the parts of budgets that gateways spend in memory, and what was spent.

For each budget and period: spent + leased ≤ cap + extra, whatever gateways do at the same time. Only a request that
took more than its worst case, or a cap that was lowered, makes it more. Rows are locked in one order (journals,
balances, leases; by budget), so that gateways on PostgreSQL never wait for each other in a circle.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from modelport.domain.amounts import natural
from modelport.domain.budget import began as period_began
from modelport.domain.budget import ends
from modelport.errors import NOT_FOUND, ModelportError
from modelport.store.budgets import Cap, caps
from modelport.store.dialect import insert
from modelport.store.tables import audit, balances, budgets, journals, leases

BudgetPeriod = tuple[str, int]
"""A budget's id and when the period began, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Balance:
    """Of all gateways together, in steps of the unit. `extra` is what overrides added to the cap."""

    spent: int = 0
    leased: int = 0
    extra: int = 0


@dataclass(frozen=True, slots=True)
class Want:
    """A gateway asks for `want`, and cannot use less than `least`."""

    budget_id: str
    began: int
    want: int
    least: int


@dataclass(frozen=True, slots=True)
class Taken:
    """`granted` is 0, or at least what was the least. `balance` is what holds now."""

    granted: int
    balance: Balance


@dataclass(frozen=True, slots=True)
class Applied:
    """What a charge made of the balance, and how much of it no lease of ours covered."""

    uncovered: int
    balance: Balance


def take(tx: sa.Connection, gateway_id: str, wants: Sequence[Want]) -> list[Taken]:
    """Leases, in the order of `wants`. The cap is the one in the store now: a gateway's own may be older.

    A budget that is gone, and a hard one without room for the least, grant 0.
    """
    taken: dict[int, Taken] = {}
    for n in sorted(range(len(wants)), key=lambda n: (wants[n].budget_id, wants[n].began)):
        taken[n] = _take(tx, gateway_id, wants[n])
    return [taken[n] for n in range(len(wants))]


def _take(tx: sa.Connection, gateway_id: str, want: Want) -> Taken:
    row = tx.execute(sa.select(budgets.c.cap, budgets.c.hard).where(budgets.c.id == want.budget_id)).first()
    if row is None:
        return Taken(0, Balance())
    before = _locked(tx, want.budget_id, want.began)
    free = row.cap + before.extra - before.spent - before.leased if row.hard else want.want
    amount = min(want.want, free)
    if amount < max(1, want.least):
        return Taken(0, before)
    b = balances.c
    cap = sa.select(budgets.c.cap).where(budgets.c.id == want.budget_id).scalar_subquery()
    room = [b.spent + b.leased + amount <= cap + b.extra] if row.hard else []
    statement = (
        balances.update()
        .where(b.budget_id == want.budget_id, b.began == want.began, *room)
        .values(leased=b.leased + amount)
        .returning(b.spent, b.leased, b.extra)
    )
    after = tx.execute(statement).first()
    if after is None:  # the cap was lowered a moment ago
        return Taken(0, before)
    new = insert(tx, leases).values(gateway_id=gateway_id, budget_id=want.budget_id, began=want.began, granted=amount)
    tx.execute(
        new.on_conflict_do_update(
            index_elements=["gateway_id", "budget_id", "began"],
            set_={"granted": leases.c.granted + new.excluded.granted},
        )
    )
    return Taken(amount, Balance(*after))


def give_back(tx: sa.Connection, gateway_id: str, keeps: Mapping[BudgetPeriod, int]) -> dict[BudgetPeriod, int]:
    """Give back all but what is to be kept; what is leased now.

    It says what stays instead of what goes, so that it can be said again when nobody knows whether it was heard.
    """
    return {key: _give_back(tx, gateway_id, key, keeps[key]) for key in sorted(keeps)}


def _give_back(tx: sa.Connection, gateway_id: str, key: BudgetPeriod, keep: int) -> int:
    _locked(tx, *key)
    granted = _granted(tx, gateway_id, key)
    back = max(0, granted - max(0, keep))
    if back:
        b = balances.c
        tx.execute(balances.update().where(b.budget_id == key[0], b.began == key[1]).values(leased=b.leased - back))
    _set_granted(tx, gateway_id, key, granted - back)
    return granted - back


def give_back_all(tx: sa.Connection, gateway_id: str) -> None:
    """Every lease of a gateway that is gone. What it charged and did not apply yet must have been applied before."""
    held = sa.select(leases.c.budget_id, leases.c.began).where(leases.c.gateway_id == gateway_id)
    give_back(tx, gateway_id, {(row.budget_id, row.began): 0 for row in tx.execute(held)})


def register(tx: sa.Connection, gateway_id: str, now: float) -> int:
    """Make a gateway's journal known; the position up to which it was applied."""
    new = insert(tx, journals).values(gateway_id=gateway_id, applied=0, seen_at=now)
    known = new.on_conflict_do_update(index_elements=["gateway_id"], set_={"seen_at": now})
    return tx.execute(known.returning(journals.c.applied)).scalar_one()


def apply(
    tx: sa.Connection, gateway_id: str, position: int, charges: Mapping[BudgetPeriod, int], now: float
) -> dict[BudgetPeriod, Applied] | None:
    """Charge what the journal says up to `position`, once: None where that was done before.

    A charge beyond the lease is spent all the same. The caller writes the requests' rows in the same transaction.
    """
    new = insert(tx, journals).values(gateway_id=gateway_id, applied=position, seen_at=now)
    once = new.on_conflict_do_update(
        index_elements=["gateway_id"],
        set_={"applied": new.excluded.applied, "seen_at": new.excluded.seen_at},
        where=journals.c.applied < new.excluded.applied,
    )
    if tx.execute(once.returning(journals.c.applied)).first() is None:
        return None
    return {key: _charge(tx, gateway_id, key, charges[key]) for key in sorted(charges)}


def _charge(tx: sa.Connection, gateway_id: str, key: BudgetPeriod, amount: int) -> Applied:
    _locked(tx, *key)
    granted = _granted(tx, gateway_id, key)
    covered = min(granted, amount)
    b = balances.c
    after = tx.execute(
        balances.update()
        .where(b.budget_id == key[0], b.began == key[1])
        .values(spent=b.spent + amount, leased=b.leased - covered)
        .returning(b.spent, b.leased, b.extra)
    ).one()
    if covered:
        _set_granted(tx, gateway_id, key, granted - covered)
    return Applied(amount - covered, Balance(*after))


def override(
    tx: sa.Connection, budget_id: str, began: int, extra: int, *, actor: str, reason: str, now: float
) -> Balance:
    """Add `extra` steps to the cap for one period (less than 0 takes of it back), and note who did it and why.

    Raises ModelportError: 404 without such a budget, 400 without a reason or for more back than was added.
    """
    cap = next((cap for cap in caps(tx) if cap.id == budget_id), None)
    if cap is None:
        raise ModelportError(f"There is no budget {budget_id}.", NOT_FOUND)
    if not reason.strip():
        raise ModelportError("An override needs a reason; it is kept with it.", param="reason")
    before = _locked(tx, budget_id, began)
    if before.extra + extra < 0:
        raise ModelportError(
            f"Only {natural(cap.unit, before.extra):g} was added to the budget {budget_id} in this period, so "
            f"{natural(cap.unit, -extra):g} cannot be taken back."
        )
    b = balances.c
    mine = (b.budget_id == budget_id, b.began == began)
    tx.execute(balances.update().where(*mine).values(extra=b.extra + extra))
    detail = {"budget_id": budget_id, "began": began, "extra": natural(cap.unit, extra), "unit": cap.unit}
    tx.execute(
        audit.insert().values(
            at=now, actor=actor, action="budget.override", subject=cap.subject, reason=reason, detail=detail
        )
    )
    return Balance(before.spent, before.leased, before.extra + extra)


@dataclass(frozen=True, slots=True)
class Standing:
    """One budget in the period that holds now, in steps. What is leased is reserved for requests, or will be soon."""

    cap: Cap
    began: int
    ends: int | None
    balance: Balance

    @property
    def remaining(self) -> int:
        return max(0, self.cap.cap + self.balance.extra - self.balance.spent - self.balance.leased)


def standings(tx: sa.Connection, now: float) -> list[Standing]:
    """Every budget, with what is used of it in the period that `now` lies in."""
    b = balances.c
    found: list[Standing] = []
    for cap in caps(tx):
        start = period_began(cap.period, now)
        one = sa.select(b.spent, b.leased, b.extra).where(b.budget_id == cap.id, b.began == start)
        row = tx.execute(one).first()
        found.append(Standing(cap, start, ends(cap.period, now), Balance(*row) if row else Balance()))
    return found


def _locked(tx: sa.Connection, budget_id: str, began: int) -> Balance:
    """The balance, made where there is none; nobody else can change it before `tx` ends."""
    b = balances.c
    new = insert(tx, balances).values(budget_id=budget_id, began=began, spent=0, leased=0, extra=0)
    upsert = new.on_conflict_do_update(index_elements=["budget_id", "began"], set_={"spent": b.spent})
    return Balance(*tx.execute(upsert.returning(b.spent, b.leased, b.extra)).one())


def _granted(tx: sa.Connection, gateway_id: str, key: BudgetPeriod) -> int:
    return tx.execute(sa.select(leases.c.granted).where(*_mine(gateway_id, key))).scalar() or 0


def _set_granted(tx: sa.Connection, gateway_id: str, key: BudgetPeriod, granted: int) -> None:
    if granted:
        tx.execute(leases.update().where(*_mine(gateway_id, key)).values(granted=granted))
    else:
        tx.execute(leases.delete().where(*_mine(gateway_id, key)))


def _mine(gateway_id: str, key: BudgetPeriod) -> tuple[sa.ColumnElement[bool], ...]:
    c = leases.c
    return c.gateway_id == gateway_id, c.budget_id == key[0], c.began == key[1]
