"""Replay: what a gateway that died left in its journal, brought into the store before anything new is served.

Settled stays settled; what was reserved and never settled counts at its worst case; leases go back. It can be killed
at any step and run again: the ends of interrupted requests are journal records too, and the store notes how far it is.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import sqlalchemy as sa

from modelport.errors import NOT_READY, ModelportError
from modelport.gateway.journal import Journal, Taken
from modelport.gateway.outbox import Batch
from modelport.store import Store, leases
from modelport.store.journals import Done, Open, encoded, needed, read

TOGETHER = 2_000
"""Settlements in one transaction."""


@dataclass(frozen=True, slots=True)
class Replayed:
    settled: int
    """Settlements that the store did not have yet."""
    interrupted: int
    """Requests that never ended."""
    damaged: int
    """Lines that are torn or no records; a request whose end is among them counts as interrupted."""


def replay(
    store: Store,
    journal: Journal,
    line_of: Callable[[Open], bytes],
    insert: Callable[[sa.Connection, Sequence[bytes]], None],
    now: float,
) -> Replayed:
    """Bring the store up to the journal.

    `line_of` makes an interrupted request's line for the log (flagged as estimated), `insert` writes lines as rows; a
    row that is there already it leaves alone. Raises ModelportError (503) where store or journal cannot be used.
    """
    with store.write(alone=False) as tx:
        applied = leases.register(tx, journal.gateway_id, now)

    def write(batch: Batch) -> int:
        if batch.lines:
            with store.write(alone=False) as tx:
                insert(tx, batch.lines)
                leases.apply(tx, journal.gateway_id, batch.position, batch.charges, now)
        return len(batch.lines)

    still_open: dict[str, Open] = {}
    over: set[str] = set()
    """Of settlements read: one that stands twice, since its first writing was taken for failed, counts once."""
    settled = damaged = 0
    batch = Batch()
    try:
        journal.advance(applied)
        for end, record in read(journal.directory, min(applied, needed(journal.directory))):
            if record is None:
                damaged += 1
            elif isinstance(record, Open):
                still_open[record.open] = record
            elif isinstance(record, Done):
                still_open.pop(record.done, None)
                if end > applied and record.done not in over:
                    over.add(record.done)
                    batch.add(bytes(record.line), record.charges, end)
                    if len(batch.lines) == TOGETHER:
                        settled += write(batch)
                        batch = Batch()
        settled += write(batch)
        batch = Batch()
        for record in still_open.values():
            line = line_of(record)
            done = Done(record.open, record.worst, record.holds, msgspec.Raw(line))
            batch.add(line, record.holds, journal.append(encoded(done)))
    except OSError as error:
        raise ModelportError(
            f"The journal {journal.directory} cannot be used: {error.strerror}.", NOT_READY, retry_after_s=5
        ) from None
    write(batch)
    with store.write(alone=False) as tx:
        leases.give_back_all(tx, journal.gateway_id)
    journal.needed = journal.position
    return Replayed(settled, len(still_open), damaged)


def abandoned(parent: Path, beyond: int) -> Iterator[Journal]:
    """Journals of this machine's slots from `beyond` on that no process has: of gateways that were more before.

    Each is the caller's to replay and to close.
    """
    for directory in sorted(parent.iterdir()):
        if directory.name.isdecimal() and int(directory.name) >= beyond:
            try:
                yield Journal(directory)
            except Taken:
                continue
