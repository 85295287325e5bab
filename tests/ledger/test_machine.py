"""Any interleaving of what can happen to a ledger, with a plain model beside the real store and journals."""

import asyncio
import random
import resource
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from modelport.domain.amounts import OF, Amounts, Unit
from modelport.domain.budget import began
from modelport.errors import ModelportError
from modelport.gateway.ledger import Reservation
from modelport.gateway.spent import BudgetSpent
from modelport.store import leases
from modelport.store.budgets import Cap
from modelport.store.journals import Done, Open, read, segments
from modelport.store.leases import BudgetPeriod
from modelport.store.recount import recount
from tests.ledger.world import DAY, NOON, Gateway, a_store, allow, cap, granted, leased, line, rows, spent, tokens

SLOTS = st.integers(0, 1)
SHARES = st.sampled_from([0, 0.1, 0.5, 1, 1, 1.5, 3])
CAPS = (
    cap("a", "key:k", "tokens", 100),
    cap("b", "team:t", "tokens", 300, period="day"),
    cap("c", "service:s", "requests", 12, period="week"),
    cap("d", "key:k", "tokens", 50, period="day", hard=False),
)


@dataclass
class Request:
    """What the model knows of one request."""

    slot: int
    reservation: Reservation
    holds: dict[BudgetPeriod, int]
    units: dict[BudgetPeriod, Unit]
    worst: int
    used: int | None = None
    """What it was settled with; None while it is open."""
    written: bool = False
    """Whether its end is known to be in the journal."""
    interrupted: bool = False

    def charges(self) -> dict[BudgetPeriod, int]:
        if self.interrupted:
            return self.holds
        assert self.used is not None
        took = tokens(self.used) if self.used else Amounts(requests=0)
        return {key: OF[unit](took) for key, unit in self.units.items()}


class LedgerMachine(RuleBasedStateMachine):
    @initialize(segment_bytes=st.sampled_from([1 << 20, 2000]))
    def begin(self, segment_bytes: int) -> None:
        self.home = Path(tempfile.mkdtemp())
        self.store = a_store(self.home / "state")
        self.time = NOON
        self.caps = {one.id: one for one in allow(self.store, *CAPS)}
        self.segment_bytes = segment_bytes
        self.loop = asyncio.new_event_loop()
        self.requests: dict[str, Request] = {}
        self.lost: set[int] = set()
        self.pruned = False
        self.count = 0
        self.gateways = [self.gateway(slot) for slot in (0, 1)]

    def gateway(self, slot: int) -> Gateway:
        where = self.home / "journal" / str(slot)
        return Gateway(self.store, where, lambda: self.time, list(self.caps.values()), segment_bytes=self.segment_bytes)

    def run(self, coroutine):
        return self.loop.run_until_complete(coroutine)

    # What requests do

    @rule(slot=SLOTS, worst=st.integers(1, 60), known=st.booleans(), room=st.none() | st.integers(0, 400))
    def reserve(self, slot: int, worst: int, known: bool, room: int | None) -> None:
        self.begin_one(slot, worst, known, room)

    @rule(slot=SLOTS, worsts=st.lists(st.integers(1, 20), min_size=1, max_size=5), share=SHARES)
    def serve(self, slot: int, worsts: list[int], share: float) -> None:
        for worst in worsts:
            id = self.begin_one(slot, worst, True, None)
            if id in self.requests:
                self.end_one(id, share, None)

    def begin_one(self, slot: int, worst: int, known: bool, room: int | None) -> str:
        gateway = self.gateways[slot]
        self.count += 1
        id = f"r{self.count}"
        subjects = ("k", "t", "s") if known else ("stranger", "", "s")
        before = len(gateway.bank.taken)
        with self.little_room(slot, room):
            try:
                reservation = self.run(gateway.ledger.reserve_waiting(id, *subjects, tokens(worst)))
            except BudgetSpent as error:
                assert error.kind.status == 402
            except ModelportError as error:
                assert error.kind.status == 503 and room is not None
            else:
                mine = [one for one in self.caps.values() if one.subject.partition(":")[2] in subjects]
                keys: dict[BudgetPeriod, Unit] = {(one.id, began(one.period, self.time)): one.unit for one in mine}
                holds = {key: OF[unit](tokens(worst)) for key, unit in keys.items()}
                self.requests[id] = Request(slot, reservation, holds, keys, worst)
        if len(gateway.bank.taken) > before and room is None:
            self.what_was_leased_fits(gateway)
        return id

    def what_was_leased_fits(self, gateway: Gateway) -> None:
        want, got = gateway.bank.taken[-1]
        one = self.caps[want.budget_id]
        if got.granted and one.hard:
            assert got.balance.spent + got.balance.leased <= one.cap + got.balance.extra

    @precondition(lambda self: any(r.used is None for r in self.requests.values()))
    @rule(data=st.data(), share=SHARES, room=st.none() | st.integers(0, 400))
    def settle(self, data: st.DataObject, share: float, room: int | None) -> None:
        open = [id for id, r in self.requests.items() if r.used is None]
        for id in data.draw(st.lists(st.sampled_from(open), min_size=1, max_size=4, unique=True)):
            self.end_one(id, share, room)

    def end_one(self, id: str, share: float, room: int | None) -> None:
        request = self.requests[id]
        request.used = int(request.worst * share)
        ledger = self.gateways[request.slot].ledger
        with self.little_room(request.slot, room):
            if request.used:
                used = tokens(request.used)
                ledger.settle(request.reservation, used, line(id, used))
            else:
                ledger.settle(request.reservation, Amounts(requests=0), line(id, tokens(0)))
        ledger.settle(request.reservation, tokens(1000), line(id, tokens(1000)))  # a bug that must not count

    @contextmanager
    def little_room(self, slot: int, room: int | None) -> Iterator[None]:
        """Files may not grow beyond what the journal's newest segment is now and `room` bytes."""
        if room is None:
            yield
            return
        kept = segments(self.gateways[slot].journal.directory)
        size = kept[-1].end - kept[-1].start if kept else 0
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    # What the reporter does

    @rule(slot=SLOTS, mode=st.sampled_from(["ok", "ok", "refused", "lost"]))
    def report(self, slot: int, mode: str) -> None:
        gateway = self.gateways[slot]
        batch = gateway.ledger.take_batch()
        if batch is None:
            return
        assert gateway.ledger.take_batch() is None
        if mode == "ok":
            gateway.ledger.applied(batch, gateway.write(batch))
            self.lost.discard(slot)
        else:
            if mode == "lost":
                gateway.write(batch)
                self.lost.add(slot)
            gateway.ledger.put_back(batch)

    @rule(slot=SLOTS, mode=st.sampled_from(["ok", "ok", "ok", "refused", "lost"]), close=st.booleans())
    def keep(self, slot: int, mode: str, close: bool) -> None:
        gateway = self.gateways[slot]
        gateway.bank.mode = mode
        try:
            self.run(gateway.ledger.keep(close=close))
        finally:
            gateway.bank.mode = "ok"

    @rule(slot=SLOTS)
    def prune(self, slot: int) -> None:
        before = segments(self.gateways[slot].journal.directory)
        self.gateways[slot].journal.prune(0)
        self.pruned |= before != segments(self.gateways[slot].journal.directory)

    # What goes wrong

    @rule(slot=SLOTS, torn=st.sampled_from(["", "half", "cut"]), amount=st.integers(1, 40))
    def crash(self, slot: int, torn: str, amount: int) -> None:
        gateway = self.gateways[slot]
        self.note_written()
        for request in self.requests.values():
            if request.slot == slot and not request.written and not request.interrupted:
                request.used = request.used or 0
                request.interrupted = True
        gateway.die()
        if torn:
            self.tear(gateway, torn, amount)
        self.lost.discard(slot)
        self.gateways[slot] = self.gateway(slot)

    def tear(self, gateway: Gateway, torn: str, amount: int) -> None:
        kept = segments(gateway.journal.directory)
        if not kept or kept[-1].end == kept[-1].start:
            return
        if torn == "half":
            with open(kept[-1].path, "ab") as file:
                file.write(b'{"open":"half","at":1767268800.0,"key":"k"'[:amount])
            return
        with self.store.write() as tx:
            applied = leases.register(tx, gateway.journal.gateway_id, self.time)
        ends = list(read(gateway.journal.directory))
        end, record = ends[-1]
        if end <= applied or not isinstance(record, Done | Open):
            return  # what was applied was on the disk before
        with open(kept[-1].path, "ab") as file:
            file.truncate(kept[-1].end - kept[-1].start - amount)
        if isinstance(record, Done):
            request = self.requests[record.done]
            if request.interrupted:
                return
            request.interrupted, request.written = True, False
        else:
            del self.requests[record.open]

    @rule(hours=st.sampled_from([-200, -30, -13, -1, 0.01, 1, 13, 30, 200]))
    def clock_jumps(self, hours: float) -> None:
        self.time += hours * 3600

    # What owners do

    @rule(id=st.sampled_from("abcd"), to=st.integers(0, 400), hard=st.booleans())
    def change_cap(self, id: str, to: int, hard: bool) -> None:
        base: Cap = self.caps[id]
        self.caps[id] = replace(base, cap=to, hard=hard and id != "d")
        allow(self.store, *self.caps.values())
        for gateway in self.gateways:
            gateway.ledger.swap(list(self.caps.values()))

    @rule(id=st.sampled_from("abc"), extra=st.integers(1, 50))
    def override(self, id: str, extra: int) -> None:
        with self.store.write() as tx:
            start = began(self.caps[id].period, self.time)
            leases.override(tx, id, start, extra, actor="me", reason="a demonstration", now=self.time)

    # What must hold

    def note_written(self) -> None:
        waiting = {id for id, r in self.requests.items() if r.used is not None and not r.written and not r.interrupted}
        if waiting:
            for gateway in self.gateways:
                for _, record in read(gateway.journal.directory):
                    if isinstance(record, Done) and record.done in waiting:
                        self.requests[record.done].written = True

    def charged(self) -> dict[BudgetPeriod, int]:
        total: dict[BudgetPeriod, int] = {}
        for request in self.requests.values():
            if request.written or request.interrupted:
                for key, amount in request.charges().items():
                    total[key] = total.get(key, 0) + amount
        return {key: amount for key, amount in total.items() if amount}

    @invariant()
    def the_store_and_memory_agree(self) -> None:
        if not hasattr(self, "gateways"):
            return
        by_gateway = granted(self.store)
        for key, amount in leased(self.store).items():
            assert amount == sum(g for (_, *of), g in by_gateway.items() if tuple(of) == key)
        self.note_written()
        expected = self.charged()
        for slot, gateway in enumerate(self.gateways):
            for key, lease in gateway.ledger._leases.items():
                expected[key] = expected.get(key, 0) - lease.unapplied
                if slot not in self.lost and not lease.unsure:
                    assert by_gateway.get((gateway.journal.gateway_id, *key), 0) == lease.held
                holding = [r for r in self.requests.values() if r.slot == slot and not r.written and not r.interrupted]
                assert lease.reserved == sum(r.holds.get(key, 0) for r in holding)
        if not self.lost:
            found = {key: amount for key, amount in spent(self.store).items() if amount}
            assert found == {key: amount for key, amount in expected.items() if amount}

    def teardown(self) -> None:
        if not hasattr(self, "gateways"):
            return
        try:
            for slot in (0, 1):
                self.crash(slot, "", 1)
            assert leased(self.store) == dict.fromkeys(leased(self.store), 0)
            found = {key: amount for key, amount in spent(self.store).items() if amount}
            assert found == self.charged()
            kept = rows(self.store)
            assert set(kept) == set(self.requests)
            for id, request in self.requests.items():
                assert kept[id].input_tokens == (request.worst if request.interrupted else request.used)
                assert kept[id].estimated == request.interrupted
            if not self.pruned:
                self.journals_equal_the_counters()
        finally:
            for gateway in self.gateways:
                gateway.die()
            self.loop.close()
            self.store.close()
            shutil.rmtree(self.home)

    def journals_equal_the_counters(self) -> None:
        directories = [gateway.journal.directory for gateway in self.gateways]
        with self.store.read() as tx:
            for id, start in spent(self.store):
                assert recount(tx, directories, self.caps[id], start + DAY / 2).change == 0


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(
    max_examples=50,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(4))
def test_many_more_interleavings(seed: int) -> None:
    from hypothesis import seed as seeded
    from hypothesis.stateful import run_state_machine_as_test

    machine = seeded(random.Random(seed).getrandbits(64))(LedgerMachine)
    run_state_machine_as_test(machine, settings=settings(TestLedger.settings, max_examples=2000))
