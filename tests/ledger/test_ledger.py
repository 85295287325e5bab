"""The ledger of one gateway, or two on one store: what is refused, what is held, what comes back."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelport.domain.amounts import Amounts
from modelport.errors import ModelportError
from modelport.gateway import ledger as module
from modelport.gateway import outbox
from modelport.gateway.ledger import Reservation, Short
from modelport.gateway.spent import BudgetSpent
from modelport.store import Store, leases
from modelport.store.budgets import Cap
from tests.ledger.world import DAY, NOON, Gateway, a_store, allow, cap, granted, leased, line, rows, spent, tokens


class House:
    """A store with budgets, and gateways over it that share a clock."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = a_store(directory / "state")
        self.time = NOON
        self.made: list[Gateway] = []

    def gateway(self, *caps: Cap, slot: int = 0, **journal: Any) -> Gateway:
        held = allow(self.store, *caps) if caps else []
        made = Gateway(self.store, self.directory / str(slot), lambda: self.time, held, **journal)
        self.made.append(made)
        return made


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    for gateway in house.made:
        gateway.die()
    house.store.close()


def reserve(gateway: Gateway, id: str, amount: int, key: str = "k", team: str = "t", service: str = "s") -> Reservation:
    return asyncio.run(gateway.ledger.reserve_waiting(id, key, team, service, tokens(amount)))


def settle(gateway: Gateway, reservation: Reservation, amount: int) -> None:
    gateway.ledger.settle(reservation, tokens(amount), line(reservation.id, tokens(amount)))


def test_200_requests_at_once_on_a_budget_for_50_are_50(house: House) -> None:
    gateway = house.gateway(cap("a", "key:k", "requests", 50))

    async def all_at_once() -> list[Any]:
        waiting = (gateway.ledger.reserve_waiting(f"r{n}", "k", "", "s", tokens(1)) for n in range(200))
        return await asyncio.gather(*waiting, return_exceptions=True)

    found = asyncio.run(all_at_once())
    assert sum(isinstance(one, Reservation) for one in found) == 50
    assert sum(isinstance(one, BudgetSpent) for one in found) == 150


def test_two_gateways_share_one_cap(house: House) -> None:
    first = house.gateway(cap("a", cap=100))
    second = house.gateway(cap("a", cap=100), slot=1)
    held = 0
    for n in range(40):
        try:
            reserve((first, second)[n % 2], f"r{n}", 5)
            held += 5
        except BudgetSpent:
            pass
    assert held == 100


def test_each_budget_of_key_team_and_service_has_to_hold_it_and_a_refusal_holds_nothing(house: House) -> None:
    gateway = house.gateway(cap("a", "key:k", cap=100), cap("b", "team:t", cap=50), cap("c", "service:s", cap=20))
    with pytest.raises(BudgetSpent, match="budget of service:s is spent: 20 tokens in all"):
        reserve(gateway, "r1", 30)
    settle(gateway, reserve(gateway, "r2", 20), 10)
    with pytest.raises(BudgetSpent, match="team:t"):
        reserve(gateway, "r3", 60, service="other")
    gateway.report()
    assert spent(house.store) == {("a", 0): 10, ("b", 0): 10, ("c", 0): 10}
    assert list(rows(house.store)) == ["r2"]


def test_a_refusal_says_what_is_left_and_when_it_begins_anew(house: House) -> None:
    gateway = house.gateway(cap("m", "key:k", "money", 5 * 10**9, period="day"))
    with pytest.raises(BudgetSpent) as caught:
        asyncio.run(gateway.ledger.reserve_waiting("r", "k", "", "s", Amounts(money_nano=6 * 10**9)))
    error = caught.value
    assert (error.kind.status, error.unit, error.remaining, error.reset_s) == (402, "money", 5.0, DAY / 2)
    assert error.retry_after() == "60"
    assert error.message == (
        "The budget of key:k is spent: 5 of money a day, of which 5 of money are left, and this request may take "
        "6 of money; it begins anew in 12 h 0 min."
    )


def test_a_request_is_charged_in_the_period_it_was_reserved_in(house: House) -> None:
    gateway = house.gateway(cap("a", cap=100, period="day"))
    today = int(NOON) - 43200
    reservation = reserve(gateway, "r", 100)
    house.time += DAY
    settle(gateway, reserve(gateway, "r2", 100), 7)  # the next day has its own hundred
    settle(gateway, reservation, 60)
    house.time = NOON
    with pytest.raises(BudgetSpent):
        reserve(gateway, "r3", 41)
    gateway.report()
    assert spent(house.store) == {("a", today): 60, ("a", today + DAY): 7}


def test_explicit_zero_stays_zero_and_more_than_the_worst_case_is_charged(house: House) -> None:
    gateway = house.gateway(cap("a", cap=100), cap("r", "key:k", "requests", 10))
    gateway.ledger.settle(reserve(gateway, "none", 10), Amounts(requests=0), line("none", tokens(0)))
    settle(gateway, reserve(gateway, "zero", 10), 0)
    settle(gateway, reserve(gateway, "more", 50), 130)
    gateway.report()
    assert spent(house.store) == {("a", 0): 130, ("r", 0): 2}
    with pytest.raises(BudgetSpent):
        reserve(gateway, "r", 1)
    allow(house.store, cap("a", cap=200))
    gateway.ledger.swap([cap("a", cap=200)])
    half_a_second_later(gateway)
    assert isinstance(reserve(gateway, "r", 70), Reservation)


def half_a_second_later(gateway: Gateway) -> None:
    """As if the half second in which a refusal holds were over."""
    for lease in gateway.ledger._leases.values():
        lease.refused_until = 0.0


def test_settling_twice_counts_once_and_is_in_the_log(house: House, caplog: pytest.LogCaptureFixture) -> None:
    gateway = house.gateway(cap("a", cap=100))
    reservation = reserve(gateway, "r", 10)
    settle(gateway, reservation, 10)
    with caplog.at_level(logging.ERROR):
        settle(gateway, reservation, 10)
    assert "settled twice" in caplog.text
    gateway.report()
    assert spent(house.store) == {("a", 0): 10}


def test_a_budget_that_only_warns_counts_and_never_refuses(house: House) -> None:
    gateway = house.gateway(cap("a", cap=100, hard=False))
    for n in range(3):
        settle(gateway, reserve(gateway, f"r{n}", 500), 45)
        gateway.report()
        said = gateway.ledger.warnings("k", "t", "s")
        assert said == (None, "90 tokens of the 100 tokens that key:k may use in all are used.", None)[n] or n == 2
    assert spent(house.store) == {("a", 0): 135} and granted(house.store) == {}
    assert isinstance(gateway.ledger.reserve("x", "k", "", "", tokens(10**9)), Reservation)


def test_a_lease_is_renewed_before_it_runs_out_and_goes_back_when_it_idles(house: House) -> None:
    gateway = house.gateway(cap("a", cap=1000))
    reservation = reserve(gateway, "r", 40)
    assert leased(house.store) == {("a", 0): 50}
    asyncio.run(gateway.ledger.keep())
    assert leased(house.store) == {("a", 0): 100}, "10 of 50 were left: another 50"
    for _ in range(module.IDLE_TICKS + 1):
        asyncio.run(gateway.ledger.keep())
    assert leased(house.store) == {("a", 0): 40}, "what the request holds stays"
    settle(gateway, reservation, 10)
    gateway.report()
    asyncio.run(gateway.ledger.keep(close=True))
    assert leased(house.store) == {("a", 0): 0} and spent(house.store) == {("a", 0): 10}


def test_what_one_gateway_gives_back_another_can_use(house: House) -> None:
    first = house.gateway(cap("a", cap=100))
    second = house.gateway(cap("a", cap=100), slot=1)
    settle(first, reserve(first, "r", 90), 0)
    with pytest.raises(BudgetSpent):
        reserve(second, "r1", 50)
    for _ in range(module.IDLE_TICKS + 1):
        asyncio.run(first.ledger.keep())
    half_a_second_later(second)
    assert isinstance(reserve(second, "r2", 100), Reservation)


@pytest.mark.parametrize("mode", ["refused", "lost"])
def test_a_store_that_does_not_answer_is_503_and_no_step_is_lost_over_it(house: House, mode: str) -> None:
    gateway = house.gateway(cap("a", cap=100))
    kept = reserve(gateway, "r0", 5)
    gateway.bank.mode = mode
    with pytest.raises(ModelportError, match="cannot be asked") as caught:
        reserve(gateway, "r1", 50)
    assert caught.value.kind.status == 503
    asyncio.run(gateway.ledger.keep(close=True))
    gateway.bank.mode = "ok"
    asyncio.run(gateway.ledger.keep(close=True))
    assert leased(house.store) == {("a", 0): 5}
    settle(gateway, kept, 5)
    assert isinstance(reserve(gateway, "r2", 95), Reservation)


def test_a_client_that_leaves_while_the_store_is_asked_loses_nothing(house: House) -> None:
    gateway = house.gateway(cap("a", cap=100))

    async def leaves() -> None:
        asked, answer = asyncio.Event(), asyncio.Event()
        take = gateway.bank.take

        async def slow(wants: Any) -> Any:
            asked.set()
            await answer.wait()
            return await take(wants)

        gateway.bank.take = slow  # type: ignore[method-assign]
        request = asyncio.create_task(gateway.ledger.reserve_waiting("r1", "k", "", "", tokens(100)))
        await asked.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        answer.set()
        await asyncio.wait_for(gateway.ledger.reserve_waiting("r2", "k", "", "", tokens(100)), 10)

    asyncio.run(leaves())


def test_no_journal_no_service_and_a_settlement_waits_for_it(house: House) -> None:
    from tests.ledger.test_journal import no_file_beyond

    gateway = house.gateway(cap("a", cap=100))
    reservation = reserve(gateway, "r1", 3)
    with no_file_beyond(gateway.journal.position):
        with pytest.raises(ModelportError, match="cannot be written down") as caught:
            gateway.ledger.reserve("r2", "k", "", "", tokens(1))
        assert caught.value.kind.status == 503 and not gateway.ledger.writable
        settle(gateway, reservation, 2)
        asyncio.run(gateway.ledger.keep())
        assert gateway.ledger.take_batch() is None, "what is not in the journal does not reach the store"
    asyncio.run(gateway.ledger.keep())
    gateway.report()
    assert spent(house.store) == {("a", 0): 2} and gateway.ledger.writable


def test_while_the_store_is_away_for_long_settlements_are_read_back_from_the_journal(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "TOGETHER", 7)
    gateway = house.gateway(cap("a", cap=1000), segment_bytes=1500)
    gateway.ledger._outbox._waiting = 10
    for n in range(60):
        settle(gateway, reserve(gateway, f"r{n}", 5), 3)
        if n % 13 == 5 and (batch := gateway.ledger.take_batch()):
            gateway.ledger.put_back(batch)
    assert len(gateway.ledger._outbox._next.lines) == 10
    gateway.report()
    assert spent(house.store) == {("a", 0): 180} and len(rows(house.store)) == 60
    settle(gateway, reserve(gateway, "last", 5), 3)
    gateway.report()
    assert spent(house.store) == {("a", 0): 183}


def test_a_batch_that_the_store_took_without_saying_so_is_not_charged_again_with_the_next(house: House) -> None:
    gateway = house.gateway(cap("a", cap=100))
    settle(gateway, reserve(gateway, "r1", 10), 10)
    batch = gateway.ledger.take_batch()
    assert batch is not None
    gateway.write(batch)  # and the answer is lost
    gateway.ledger.put_back(batch)
    settle(gateway, reserve(gateway, "r2", 10), 3)
    gateway.report()
    assert spent(house.store) == {("a", 0): 13} and len(rows(house.store)) == 2
    asyncio.run(gateway.ledger.keep(close=True))
    assert leased(house.store) == {("a", 0): 0}


def test_a_request_that_outlives_many_segments_is_still_known_after_a_crash(house: House) -> None:
    gateway = house.gateway(cap("a", cap=1000), segment_bytes=500)
    reserve(gateway, "long", 7)
    for n in range(10):
        settle(gateway, reserve(gateway, f"r{n}", 5), 3)
        gateway.report()
        asyncio.run(gateway.ledger.keep())
        gateway.journal.prune(0)
    gateway.die()
    assert house.gateway(cap("a", cap=1000)).replayed.interrupted == 1
    assert spent(house.store) == {("a", 0): 37} and leased(house.store) == {("a", 0): 0}


def test_a_clock_that_goes_back_into_a_period_that_was_over_counts_there(house: House) -> None:
    gateway = house.gateway(cap("a", cap=100, period="day"))
    today = int(NOON) - 43200
    settle(gateway, reserve(gateway, "r1", 10), 10)
    gateway.report()
    house.time += DAY
    for _ in range(2):
        asyncio.run(gateway.ledger.keep())
    house.time = NOON
    settle(gateway, reserve(gateway, "r2", 10), 5)
    gateway.report()
    assert spent(house.store) == {("a", today): 15}


def test_what_a_short_lease_lacks_is_said_without_waiting(house: House) -> None:
    gateway = house.gateway(cap("a", cap=100))
    found = gateway.ledger.reserve("r", "k", "", "", tokens(7))
    assert isinstance(found, Short)
    assert [(lease.key, amount) for lease, amount in found.missing] == [(("a", 0), 7)]


def test_budgets_that_are_gone_refuse_nothing_and_requests_in_flight_keep_them(house: House) -> None:
    gateway = house.gateway(cap("a", cap=10))
    reservation = reserve(gateway, "r", 10)
    gateway.ledger.swap([])
    assert isinstance(gateway.ledger.reserve("x", "k", "", "", tokens(10**9)), Reservation)
    settle(gateway, reservation, 4)
    gateway.report()
    assert spent(house.store) == {("a", 0): 4}


def test_the_same_on_postgresql(store: Store, tmp_path: Path) -> None:
    held = allow(store, cap("a", cap=100), cap("b", "team:t", "requests", 1000, period="month"))
    first, second = (Gateway(store, tmp_path / str(n), lambda: NOON, held) for n in (0, 1))
    settle(first, reserve(first, "r1", 30), 50)
    settle(second, reserve(second, "r2", 30), 5)
    reserve(first, "r3", 20)
    first.report()
    second.report()
    asyncio.run(second.ledger.keep(close=True))
    first.die()
    again = Gateway(store, tmp_path / "0", lambda: NOON, held)
    assert (again.replayed.settled, again.replayed.interrupted) == (0, 1)
    assert spent(store)["a", 0] == 75 and leased(store)["a", 0] == 0
    with store.read() as tx:
        assert [one.remaining for one in leases.standings(tx, NOON)] == [25, 997]
