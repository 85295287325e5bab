"""Outbox: settlements that are in the journal and on their way to the store, in the journal's order."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from modelport.gateway.journal import Journal
from modelport.store.journals import Charge, Done, read
from modelport.store.leases import BudgetPeriod

WAITING = 20_000
"""Settlements kept in memory while the store does not take them; later ones are read back from the journal."""
TOGETHER = 2_000
"""So many are read back at once: some milliseconds."""


@dataclass(slots=True)
class Batch:
    """The requests' lines, the charges to apply, and the journal's position after them."""

    lines: list[bytes] = field(default_factory=list[bytes])
    charges: dict[BudgetPeriod, int] = field(default_factory=dict[BudgetPeriod, int])
    position: int = 0

    def add(self, line: bytes, charges: Iterable[Charge], position: int) -> None:
        self.lines.append(line)
        for budget_id, began, amount in charges:
            key = (budget_id, began)
            self.charges[key] = self.charges.get(key, 0) + amount
        self.position = position


class Outbox:
    """One batch is out at a time, so that nothing is applied before what is earlier in the journal."""

    def __init__(self, journal: Journal, waiting: int = WAITING) -> None:
        self._journal = journal
        self._waiting = waiting
        self._next = Batch()
        self._again: Batch | None = None
        self._taken = journal.position
        self._behind = False
        """Whether settlements later than `_next` are in the journal alone."""
        self.out: Batch | None = None
        self.position = journal.position
        """Up to where the store has the journal."""

    def add(self, line: bytes, charges: Iterable[Charge], position: int) -> None:
        """A settlement, once it is in the journal."""
        self._behind = self._behind or len(self._next.lines) >= self._waiting
        if not self._behind:
            self._next.add(line, charges, position)

    def take(self) -> Batch | None:
        """What is next; None where there is nothing, or a batch is out."""
        if self.out is not None:
            return None
        if self._again is not None:
            self.out, self._again = self._again, None
        elif self._next.lines:
            self.out, self._next = self._next, Batch()
        elif self._behind:
            self.out = self._read_back()
        if self.out is not None:
            self._taken = self.out.position
        return self.out

    def applied(self, batch: Batch) -> None:
        """The store has it."""
        self.out = None
        self.position = batch.position

    def put_back(self, batch: Batch) -> None:
        """It comes again just as it was, before all that is later: if the store has it after all, its position says
        so, which that of a larger batch would not."""
        self.out = None
        self._again = batch

    def _read_back(self) -> Batch | None:
        batch = Batch()
        for end, record in read(self._journal.directory, self._taken):
            if isinstance(record, Done):
                batch.add(bytes(record.line), record.charges, end)
                if len(batch.lines) == TOGETHER:
                    return batch
        self._behind = False
        return batch if batch.lines else None
