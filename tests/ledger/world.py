"""A store, journals and ledgers as a gateway process wires them, without the gateway around them."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from modelport.domain.amounts import Amounts, Unit
from modelport.gateway.journal import Journal
from modelport.gateway.ledger import Ledger
from modelport.gateway.outbox import Batch
from modelport.gateway.replay import Replayed, replay
from modelport.store import Store, leases, open_store
from modelport.store.budgets import Cap, caps
from modelport.store.journals import Open
from modelport.store.leases import BudgetPeriod, Taken, Want
from modelport.store.tables import balances, budgets, requests
from modelport.store.tables import leases as lease_rows

NOON = 1_767_268_800.0
"""2026-01-01 12:00 UTC, a Thursday."""
DAY = 86400
COLUMNS: dict[str, Any] = {
    column.name: {"BIGINT": 0, "INTEGER": 0, "FLOAT": 0.0, "BOOLEAN": False}.get(str(column.type), "")
    for column in requests.columns
}


def cap(id: str, subject: str = "key:k", unit: Unit = "tokens", cap: int = 100, **more: Any) -> Cap:
    return Cap(id, subject, unit, cap, more.get("period", "total"), more.get("soft", 0.8), more.get("hard", True))


def tokens(count: int) -> Amounts:
    return Amounts(input_tokens=count)


def line(id: str, used: Amounts, *, at: float = NOON, estimated: bool = False) -> bytes:
    row = COLUMNS | {"id": id, "at": at, "input_tokens": used.input_tokens, "estimated": estimated}
    return msgspec.json.encode(row)


def line_of(record: Open) -> bytes:
    return line(record.open, record.worst, at=record.at, estimated=True)


def insert(tx: sa.Connection, lines: Sequence[bytes]) -> None:
    for one in lines:
        row = msgspec.json.decode(one)
        if tx.execute(sa.select(requests.c.id).where(requests.c.id == row["id"])).first() is None:
            tx.execute(requests.insert().values(**row))


@cache
def _template() -> Path:
    directory = Path(tempfile.mkdtemp())
    open_store(directory).close()
    return directory


def a_store(directory: Path) -> Store:
    """A new store, without the second that migrations take."""
    shutil.copytree(_template(), directory)
    return open_store(directory)


def allow(store: Store, *wanted: Cap) -> list[Cap]:
    """Make these the budgets in force."""
    with store.write() as tx:
        tx.execute(budgets.delete())
        for one in wanted:
            tx.execute(
                budgets.insert().values(
                    id=one.id,
                    subject=one.subject,
                    unit=one.unit,
                    cap=one.cap,
                    period=one.period,
                    soft=one.soft,
                    hard=one.hard,
                    created_at=0.0,
                )
            )
        return caps(tx)


class Lost(Exception):
    """The store did not answer."""


class DirectBank:
    """Leases from a store at once. `mode` says how the next calls end: `ok`, `refused` before, or `lost` after."""

    def __init__(self, store: Store, gateway_id: str) -> None:
        self.store = store
        self.id = gateway_id
        self.mode = "ok"
        self.taken: list[tuple[Want, Taken]] = []

    async def take(self, wants: Sequence[Want]) -> Sequence[Taken]:
        self._fail("refused")
        with self.store.write() as tx:
            found = leases.take(tx, self.id, wants)
        self.taken.extend(zip(wants, found, strict=True))
        self._fail("lost")
        return found

    async def give_back(self, keeps: Mapping[BudgetPeriod, int]) -> Mapping[BudgetPeriod, int]:
        self._fail("refused")
        with self.store.write() as tx:
            found = leases.give_back(tx, self.id, keeps)
        self._fail("lost")
        return found

    def _fail(self, mode: str) -> None:
        if self.mode == mode:
            raise Lost


class Gateway:
    """What one gateway process holds of the ledger; made over what the last one in its slot left."""

    def __init__(self, store: Store, directory: Path, now: Any, budgets: Sequence[Cap], **journal: Any) -> None:
        self.store = store
        self.now = now
        self.journal = Journal(directory, **journal)
        self.replayed: Replayed = replay(store, self.journal, line_of, insert, now())
        self.bank = DirectBank(store, self.journal.gateway_id)
        self.ledger = Ledger(self.journal, self.bank, now)
        self.ledger.swap(budgets)

    def write(self, batch: Batch) -> Any:
        """As the reporter does: the journal on the disk first, then rows and charges in one transaction."""
        self.journal.sync()
        with self.store.write() as tx:
            insert(tx, batch.lines)
            return leases.apply(tx, self.journal.gateway_id, batch.position, batch.charges, self.now())

    def report(self) -> None:
        """All that waits, into the store."""
        while (batch := self.ledger.take_batch()) is not None:
            self.ledger.applied(batch, self.write(batch))

    def die(self) -> None:
        """Nothing of it is left but its files."""
        with suppress(OSError):
            self.journal.close()


def spent(store: Store) -> dict[BudgetPeriod, int]:
    with store.read() as tx:
        return {(row.budget_id, row.began): row.spent for row in tx.execute(sa.select(balances))}


def leased(store: Store) -> dict[BudgetPeriod, int]:
    with store.read() as tx:
        return {(row.budget_id, row.began): row.leased for row in tx.execute(sa.select(balances))}


def granted(store: Store) -> dict[tuple[str, str, int], int]:
    with store.read() as tx:
        rows = tx.execute(sa.select(lease_rows))
        return {(row.gateway_id, row.budget_id, row.began): row.granted for row in rows}


def rows(store: Store) -> dict[str, Any]:
    with store.read() as tx:
        return {row.id: row for row in tx.execute(sa.select(requests))}
