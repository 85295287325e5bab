"""Ledger: what requests may still use, in memory. It reserves before dispatch and settles once after.

Of each budget it spends a lease (store/leases.py): `free` + `reserved` + `unapplied` is what the store has leased to
this gateway. A request holds its worst case of every budget that it falls under, in the period it began in; when it
ends, what it took is charged and the rest of the hold is free again. Both are records of the journal, written first:
no request is dispatched and no charge counted that a crash would forget. Everything runs on one event loop.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import inf
from typing import Protocol

import msgspec

from modelport.domain.amounts import Amounts
from modelport.domain.budget import began as period_began
from modelport.domain.budget import ends as period_ends
from modelport.errors import NOT_READY, ModelportError
from modelport.gateway.journal import Journal
from modelport.gateway.lease import Account, Lease
from modelport.gateway.outbox import Batch, Outbox
from modelport.gateway.spent import BudgetSpent, warning
from modelport.store.budgets import Cap
from modelport.store.journals import Charge, Done, Open, encoded
from modelport.store.leases import Applied, BudgetPeriod, Taken, Want

IDLE_TICKS = 2
"""A lease goes back when nothing was reserved of it between this many calls of `keep`."""
TRIES = 20
REFUSED_S = 0.5
"""So long a refusal holds without asking the store again."""
log = logging.getLogger("modelport.gateway")


class Bank(Protocol):
    """Where leases come from: the store, on a thread (bank.py)."""

    async def take(self, wants: Sequence[Want]) -> Sequence[Taken]: ...

    async def give_back(self, keeps: Mapping[BudgetPeriod, int]) -> Mapping[BudgetPeriod, int]: ...


Accounts = dict[str, tuple[Account, ...]]


class Reservation:
    """One request's holds, from before its dispatch until it is settled."""

    __slots__ = ("holds", "id", "position", "settled")

    def __init__(self, id: str, holds: list[tuple[Account, Lease, int]], position: int) -> None:
        self.id = id
        self.holds = holds
        self.position = position
        self.settled = False


@dataclass(frozen=True, slots=True)
class Short:
    """Nothing was reserved: these leases do not hold that much."""

    missing: tuple[tuple[Lease, int], ...]


class Ledger:
    """The budgets of one gateway process, whose journal was replayed before (replay.py)."""

    def __init__(
        self, journal: Journal, bank: Bank, now: Callable[[], float] = time.time, together_s: float = 0.0
    ) -> None:
        """Settlements may wait `together_s` to be written in one go with the next reservation: half of the system's
        calls. Killed in between, a request counts at its worst case."""
        self._together_s = together_s
        self._timer: asyncio.TimerHandle | None = None
        self._journal = journal
        self._bank = bank
        self._now = now
        self._of_key: Accounts = {}
        self._of_team: Accounts = {}
        self._of_service: Accounts = {}
        self._leases: dict[BudgetPeriod, Lease] = {}
        self._open: dict[str, Reservation] = {}
        self._unwritten: list[tuple[Reservation, Amounts, bytes]] = []
        self._outbox = Outbox(journal)
        self._giving = False
        self._store = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self.writable = True
        """Whether the journal took the last record."""
        self._none_near = True
        """Whether no lease is near its cap, as of the last batch: then nobody needs to be warned."""

    @property
    def leases(self) -> int:
        """How many it holds."""
        return len(self._leases)

    @property
    def reservations(self) -> int:
        """Requests that are not settled yet."""
        return len(self._open)

    # The hot path

    def swap(self, caps: Iterable[Cap]) -> None:
        """The budgets in force from now on. Requests in flight keep those they were reserved under."""
        now = self._now()
        in_force = {cap.id: cap for cap in caps}
        found: dict[str, dict[str, list[Account]]] = {"key": {}, "team": {}, "service": {}}
        for cap in in_force.values():
            kind, _, name = cap.subject.partition(":")
            found[kind].setdefault(name, []).append(Account(cap, self._lease(cap, now)))
        for lease in self._leases.values():
            cap = in_force.get(lease.key[0], lease.cap)
            lease.unsure = lease.unsure or cap.cap < lease.cap.cap  # it may hold more than there is now
            lease.know(cap, lease.balance)
        self._look_near()
        self._of_key, self._of_team, self._of_service = (
            {name: tuple(accounts) for name, accounts in found[kind].items()} for kind in ("key", "team", "service")
        )

    def _look_near(self) -> None:
        self._none_near = not any(lease.near for lease in self._leases.values())

    def reserve(self, id: str, key_id: str, team: str, service: str, worst: Amounts) -> Reservation | Short:
        """Hold the worst case of every budget and write that down.

        Raises ModelportError (503), with nothing held, where the journal cannot be written.
        """
        now = self._now()
        holds: list[tuple[Account, Lease, int]] = []
        missing: list[tuple[Lease, int]] = []
        charges: list[Charge] = []
        for accounts in (self._of_key.get(key_id), self._of_team.get(team), self._of_service.get(service)):
            if accounts is None:
                continue
            for account in accounts:
                lease = account.lease
                if not lease.began <= now < lease.ends:
                    lease = self._roll(account, now)
                amount = account.of(worst)
                if account.hard and amount > lease.free:
                    missing.append((lease, amount))
                holds.append((account, lease, amount))
                if amount:
                    charges.append((*lease.key, amount))
        if missing:
            if self._together_s and self._unwritten and self._settle_waiting():
                return self.reserve(id, key_id, team, service, worst)  # with what those give back
            return Short(tuple(missing))
        position = self._journal.position
        if not self._append(encoded(Open(id, now, key_id, team, service, worst, charges))):
            raise ModelportError(
                "What requests use cannot be written down at the moment, so none is served.", NOT_READY, retry_after_s=5
            )
        for _, lease, amount in holds:
            lease.free -= amount
            lease.reserved += amount
            lease.holders += 1
            lease.idle = 0
        reservation = self._open[id] = Reservation(id, holds, position)
        return reservation

    def settle(self, reservation: Reservation, used: Amounts, line: bytes) -> None:
        """Charge what a request took and free the rest. `line` is its line of the request log, as JSON without a
        line break. While the journal cannot be written, the whole reservation stays held and is tried again."""
        if reservation.settled:
            log.error("request %s was settled twice; the second time does not count", reservation.id)
            return
        reservation.settled = True
        self._unwritten.append((reservation, used, line))
        if not self._together_s:
            self._settle_waiting()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._together_s, self._settle_late)

    def warnings(self, key_id: str, team: str, service: str) -> str | None:
        """A sentence on the first budget of these that is used up to its soft share, else None."""
        if self._none_near:
            return None
        for accounts in (self._of_key.get(key_id), self._of_team.get(team), self._of_service.get(service)):
            for account in accounts or ():
                lease = account.lease
                if lease.near:
                    return warning(lease.cap, lease.balance.extra, lease.used)
        return None

    def _settle_waiting(self) -> bool:
        """Write the settlements that wait. False where the journal cannot be written."""
        return not self._unwritten or self._append(b"")

    def _settle_late(self) -> None:
        self._timer = None
        self._settle_waiting()

    def _append(self, last: bytes) -> bool:
        """Write the settlements that wait, and then `last`, in one go. False, with nothing written, where it fails."""
        waiting = self._unwritten
        made: list[tuple[bytes, list[Charge]]] = []
        for reservation, used, line in waiting:
            charges = [(*lease.key, n) for account, lease, _ in reservation.holds if (n := account.of(used))]
            made.append((encoded(Done(reservation.id, used, charges, msgspec.Raw(line))), charges))
        data = b"".join([record for record, _ in made]) + last if made else last
        try:
            end = self._journal.append(data) - len(data)
        except OSError as error:
            if self.writable:
                log.error("the journal cannot be written: %s", error)
            self.writable = False
            return False
        self.writable = True
        self._unwritten = []
        for (reservation, used, line), (record, charges) in zip(waiting, made, strict=True):
            end += len(record)
            self._open.pop(reservation.id, None)
            for account, lease, hold in reservation.holds:
                amount = account.of(used)
                lease.reserved -= hold
                lease.free += hold - amount
                lease.unapplied += amount
                lease.holders -= 1
            self._outbox.add(line, charges, end)
        return True

    def _roll(self, account: Account, now: float) -> Lease:
        account.lease = self._lease(account.lease.cap, now)
        return account.lease

    def _lease(self, cap: Cap, now: float) -> Lease:
        began = period_began(cap.period, now)
        lease = self._leases.get((cap.id, began))
        if lease is None:
            lease = self._leases[cap.id, began] = Lease(cap, began, period_ends(cap.period, now) or inf)
        return lease

    # Where a lease does not do

    async def reserve_waiting(self, id: str, key_id: str, team: str, service: str, worst: Amounts) -> Reservation:
        """As `reserve`, with more taken from the store where a lease does not hold it.

        Raises BudgetSpent (402), or ModelportError (503) where the journal or the store does not answer.
        """
        for _ in range(TRIES):
            found = self.reserve(id, key_id, team, service, worst)
            if isinstance(found, Reservation):
                return found
            for lease, amount in found.missing:
                lease.waiting += amount
            # A client that leaves must not lose what the store grants: the task goes on without it.
            task = asyncio.create_task(self._top_up(found.missing))
            self._tasks.add(task)
            task.add_done_callback(self._topped_up)
            try:
                await asyncio.shield(task)
            finally:
                for lease, amount in found.missing:
                    lease.waiting -= amount
        raise ModelportError("Too many requests share what is left of a budget; try again.", NOT_READY, retry_after_s=1)

    def _topped_up(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # it is the waiting request's to raise; that may be gone

    async def _top_up(self, missing: Sequence[tuple[Lease, int]]) -> None:
        async with self._store:
            clock = asyncio.get_running_loop().time()
            short = [(lease, amount) for lease, amount in missing if amount > lease.free]
            for lease, amount in short:
                if clock < lease.refused_until and amount - lease.free > lease.unleased:
                    raise self._spent(lease, amount)
            if not short:
                return
            wants = [
                Want(*lease.key, max(lease.chunk, lease.waiting - lease.free), amount - lease.free)
                for lease, amount in short
            ]
            taken = await self._take([lease for lease, _ in short], wants)
            for (lease, amount), got in zip(short, taken, strict=True):
                if not got.granted:
                    lease.refused_until = clock + REFUSED_S
                    raise self._spent(lease, amount)

    async def _take(self, leases: Sequence[Lease], wants: Sequence[Want]) -> Sequence[Taken]:
        try:
            taken = await self._bank.take(wants)
        except Exception as error:
            for lease in leases:
                lease.unsure = True
            log.error("no lease can be taken: %s", error)
            raise ModelportError(
                "What is left of a budget cannot be asked for at the moment; try again.", NOT_READY, retry_after_s=5
            ) from None
        for lease, got in zip(leases, taken, strict=True):
            lease.free += got.granted
            lease.know(lease.cap, got.balance)
        self._look_near()
        return taken

    def _spent(self, lease: Lease, amount: int) -> BudgetSpent:
        resets_s = None if lease.ends == inf else max(0.0, lease.ends - self._now())
        return BudgetSpent(lease.cap, lease.balance.extra, max(0, lease.free) + lease.unleased, amount, resets_s)

    # Upkeep, each second

    async def keep(self, *, close: bool = False) -> None:
        """Write what could not be written, renew leases that run out, give back those that idle or are over.

        With `close`, give back all that no request holds. Call it when no batch is out.
        """
        self._settle_waiting()
        needed = [self._outbox.position, *(first.position for first in islice(self._open.values(), 1))]
        self._journal.needed = max(self._journal.needed, min(needed))
        async with self._store:
            if self._outbox.out is not None:
                return
            now = self._now()
            low: list[Lease] = []
            back: list[Lease] = []
            for lease in list(self._leases.values()):
                lease.idle += 1
                over = not lease.began <= now < lease.ends
                if lease.unsure or (lease.free > 0 and (close or over or lease.idle > IDLE_TICKS)):
                    back.append(lease)
                elif lease.idle == 1 and lease.cap.hard and not over and lease.free < lease.chunk // 2:
                    low.append(lease)
                elif over and not (lease.holders or lease.held or lease.free or lease.waiting):
                    del self._leases[lease.key]
                    lease.ends = -inf  # an account that still has it looks again
            try:
                await self._give_back(back)
                if low:
                    await self._take(low, [Want(*lease.key, lease.chunk, 1) for lease in low])
            except ModelportError:
                pass  # it is logged; the next second tries again

    async def _give_back(self, leases: Sequence[Lease]) -> None:
        if not leases:
            return
        self._giving = True
        for lease in leases:
            lease.unsure = True
            lease.free = min(0, lease.free)
        # Nothing is taken or applied meanwhile, so `held` stays as it is, whatever requests do.
        try:
            kept = await self._bank.give_back({lease.key: lease.held for lease in leases})
        except Exception as error:
            log.error("no lease can be given back: %s", error)
            raise ModelportError("The store does not answer.", NOT_READY) from None
        finally:
            self._giving = False
        for lease in leases:
            lease.free += kept[lease.key] - lease.held
            lease.unsure = False

    # For the store

    def take_batch(self) -> Batch | None:
        """Settlements that the store does not have yet; None where there are none, or a batch is out already."""
        self._settle_waiting()
        return None if self._giving else self._outbox.take()

    def applied(self, batch: Batch, found: Mapping[BudgetPeriod, Applied] | None) -> None:
        """The store has it; `found` is what leases.apply gave."""
        self._outbox.applied(batch)
        for key, amount in batch.charges.items():
            lease = self._leases[key]
            lease.unapplied -= amount
            if found is None:
                lease.unsure = True
            else:
                lease.free += found[key].uncovered
                lease.know(lease.cap, found[key].balance)
        self._look_near()

    def put_back(self, batch: Batch) -> None:
        """The store did not take it, or nobody knows: it comes again, before all that is later."""
        self._outbox.put_back(batch)
