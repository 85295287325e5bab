"""A period counted again from the journals: the difference shown, and applied so that twice is once."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from modelport.errors import ModelportError
from modelport.store import Store
from modelport.store.journals import Done, segments
from modelport.store.recount import Difference, apply_difference, recount
from modelport.store.tables import balances
from tests.ledger.world import DAY, NOON, Gateway, a_store, allow, cap, line, spent, tokens

CAP = cap("a", cap=10_000, period="day")
TODAY = ("a", int(NOON) - 43200)


class House:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store: Store = a_store(directory / "state")
        self.time = NOON
        held = allow(self.store, CAP)
        self.gateways = [
            Gateway(self.store, directory / str(n), lambda: self.time, held, segment_bytes=600) for n in (0, 1)
        ]
        self.journals = [gateway.journal.directory for gateway in self.gateways]
        self.requests = 0

    def use(self, *amounts: int, slot: int = 0, report: bool = True) -> None:
        gateway = self.gateways[slot]
        for amount in amounts:
            self.requests += 1
            id = f"r{self.requests}"
            reservation = asyncio.run(gateway.ledger.reserve_waiting(id, "k", "t", "s", tokens(amount)))
            gateway.ledger.settle(reservation, tokens(amount), line(id, tokens(amount)))
        if report:
            gateway.report()

    def wrong(self, spent: int) -> None:
        with self.store.write() as tx:
            tx.execute(balances.update().where(balances.c.began == TODAY[1]).values(spent=spent))

    def recount(self, **more: object) -> Difference:
        with self.store.read() as tx:
            return recount(tx, self.journals, CAP, self.time, **more)  # type: ignore[arg-type]

    def apply(self, difference: Difference) -> int:
        with self.store.write() as tx:
            return apply_difference(tx, difference)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.store.close()


def test_journals_and_store_agree_and_what_waits_for_the_store_is_not_missed(house: House) -> None:
    house.use(1, 2, 3)
    house.use(10, 20, slot=1)
    house.use(100, report=False)
    found = house.recount()
    assert (found.counted, found.stored, found.change, found.settlements, found.damaged) == (36, 36, 0, 5, 0)


def test_a_counter_that_is_wrong_is_repaired_with_what_comes_meanwhile_and_twice_is_once(house: House) -> None:
    house.use(5, 6)
    house.wrong(9000)
    found = house.recount()
    assert (found.counted, found.stored, found.change) == (11, 9000, -8989)
    house.use(7, slot=1)
    assert house.apply(found) == -8989
    assert spent(house.store)[TODAY] == 18
    house.use(2)
    assert house.apply(found) == 0
    assert spent(house.store)[TODAY] == 20


def test_a_balance_that_is_gone_is_made_again(house: House) -> None:
    house.use(5)
    with house.store.write() as tx:
        tx.execute(balances.delete())
    assert house.apply(house.recount()) == 5
    assert spent(house.store)[TODAY] == 5


def test_a_wrong_price_is_put_right_by_what_it_should_have_been(house: House) -> None:
    house.use(5, 6)

    def half(record: Done) -> int:
        return record.used.input_tokens // 2

    found = house.recount(reprice=half)
    assert (found.counted, found.change) == (5, -6)
    house.use(8)
    assert house.apply(found) == -10
    assert spent(house.store)[TODAY] == 9


def test_another_day_is_another_count(house: House) -> None:
    house.use(5)
    house.time += DAY
    house.use(9)
    assert house.recount().counted == 9


def test_it_refuses_without_the_journal_of_every_gateway(house: House) -> None:
    house.use(5)
    missing = house.journals.pop(0)
    assert missing.exists()
    with pytest.raises(ModelportError, match=r"gateway gw-\w+ is not among those given"):
        house.recount()
    house.journals = [house.directory]
    with pytest.raises(ModelportError, match="cannot be read"):
        house.recount()


def test_it_refuses_where_the_journal_no_longer_reaches_back(house: House) -> None:
    house.use(*[5] * 20)
    segments(house.journals[0])[0].path.unlink()
    with pytest.raises(ModelportError, match="no longer reaches back .* journal_keep"):
        house.recount()
    house.time += DAY  # a later period is all there
    house.use(3)
    assert house.recount().counted == 3


def test_it_refuses_where_a_part_in_the_middle_is_gone(house: House) -> None:
    house.use(*[5] * 20)
    segments(house.journals[0])[2].path.unlink()
    house.time += DAY
    with pytest.raises(ModelportError, match="no longer reaches back"):
        house.recount()


def test_a_reader_of_an_older_moment_sees_the_counters_of_that_moment(house: House) -> None:
    house.use(5)
    with house.store.read() as tx:
        tx.execute(sa.select(balances)).all()
        house.use(6)
        assert recount(tx, house.journals, CAP, NOON).change == 0
