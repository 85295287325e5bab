"""Leases in the store: what gateways may take together never passes a cap, and nothing is charged twice."""

import threading

import pytest
import sqlalchemy as sa

from modelport.errors import ModelportError
from modelport.store import Store, leases
from modelport.store.leases import Applied, Balance, Taken, Want
from modelport.store.tables import audit
from tests.ledger.world import NOON, allow, cap, granted, leased, spent


def take(store: Store, gateway: str, want: int, least: int = 1, budget: str = "a") -> int:
    with store.write(alone=False) as tx:
        return leases.take(tx, gateway, [Want(budget, 0, want, least)])[0].granted


def apply(store: Store, gateway: str, position: int, amount: int) -> dict[leases.BudgetPeriod, Applied] | None:
    with store.write(alone=False) as tx:
        return leases.apply(tx, gateway, position, {("a", 0): amount}, NOON)


def test_a_lease_is_what_is_wanted_or_what_is_left_and_nothing_below_the_least(store: Store) -> None:
    allow(store, cap("a", cap=100))
    assert take(store, "g1", 60) == 60
    assert take(store, "g2", 60, least=41) == 0
    assert take(store, "g2", 60, least=40) == 40
    assert take(store, "g1", 1) == 0
    assert granted(store) == {("g1", "a", 0): 60, ("g2", "a", 0): 40}


def test_the_cap_that_counts_is_the_one_in_the_store(store: Store) -> None:
    allow(store, cap("a", cap=100))
    allow(store, cap("a", cap=30))
    assert take(store, "g1", 60) == 30
    allow(store)
    assert take(store, "g1", 1) == 0


def test_many_gateways_at_once_take_the_cap_and_not_one_step_more(store: Store) -> None:
    allow(store, cap("a", cap=100), cap("b", cap=90))
    got: list[int] = []

    def one(gateway: str) -> None:
        for n in range(10):
            wants = [Want("a", 0, 3, 1), Want("b", 0, 3, 1)]
            with store.write(alone=False) as tx:  # in either order: they must not wait for each other in a circle
                got.append(leases.take(tx, gateway, wants if n % 2 else wants[::-1])[n % 2 - 1].granted)

    threads = [threading.Thread(target=one, args=(f"g{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 60
    assert leased(store) == {("a", 0): 100, ("b", 0): 90}
    assert sum(granted(store).values()) == 190


def test_a_charge_is_applied_once_whatever_is_sent_again(store: Store) -> None:
    allow(store, cap("a", cap=100))
    take(store, "g1", 50)
    assert apply(store, "g1", 900, 30) == {("a", 0): Applied(0, Balance(30, 20, 0))}
    assert apply(store, "g1", 900, 30) is None
    assert apply(store, "g1", 400, 30) is None
    assert spent(store) == {("a", 0): 30}


def test_a_charge_beyond_the_lease_is_spent_all_the_same(store: Store) -> None:
    allow(store, cap("a", cap=100))
    take(store, "g1", 50)
    take(store, "g2", 40)
    assert apply(store, "g1", 900, 80) == {("a", 0): Applied(30, Balance(80, 40, 0))}
    assert granted(store) == {("g2", "a", 0): 40}
    assert take(store, "g2", 1) == 0


def test_giving_back_says_what_stays_so_saying_it_twice_is_saying_it_once(store: Store) -> None:
    allow(store, cap("a", cap=100))
    take(store, "g1", 50)
    for _ in range(2):
        with store.write(alone=False) as tx:
            assert leases.give_back(tx, "g1", {("a", 0): 20}) == {("a", 0): 20}
    assert leased(store) == {("a", 0): 20}
    with store.write(alone=False) as tx:
        leases.give_back_all(tx, "g1")
    assert leased(store) == {("a", 0): 0} and granted(store) == {}


def test_a_budget_that_only_warns_always_grants(store: Store) -> None:
    allow(store, cap("a", cap=10, hard=False))
    assert take(store, "g1", 60) == 60


def test_an_override_adds_to_the_cap_for_one_period_and_is_in_the_audit(store: Store) -> None:
    allow(store, cap("a", cap=10))
    with store.write() as tx:
        assert leases.override(tx, "a", 0, 5, actor="key-1", reason="launch day", now=NOON) == Balance(0, 0, 5)
    assert take(store, "g1", 60) == 15
    with store.read() as tx:
        row = tx.execute(sa.select(audit)).one()
    assert (row.actor, row.action, row.subject, row.reason) == ("key-1", "budget.override", "key:k", "launch day")
    assert row.detail == {"budget_id": "a", "began": 0, "extra": 5, "unit": "tokens"}


@pytest.mark.parametrize(
    ("budget", "extra", "reason", "sentence"),
    [
        ("nothing", 5, "why", "There is no budget"),
        ("a", 5, " ", "needs a reason"),
        ("a", -6, "why", "Only 0 was added"),
    ],
)
def test_an_override_that_makes_no_sense_is_a_sentence(
    store: Store, budget: str, extra: int, reason: str, sentence: str
) -> None:
    allow(store, cap("a", cap=10))
    with store.write() as tx, pytest.raises(ModelportError, match=sentence):
        leases.override(tx, budget, 0, extra, actor="me", reason=reason, now=NOON)


def test_standings_show_each_budget_in_the_period_that_holds(store: Store) -> None:
    today = int(NOON) - 43200
    allow(store, cap("a", cap=10), cap("b", cap=20, period="day"))
    with store.write() as tx:
        assert leases.take(tx, "g1", [Want("b", today, 8, 1)]) == [Taken(8, Balance(0, 8, 0))]
        leases.apply(tx, "g1", 100, {("b", today): 3, ("b", today - 86400): 7}, NOON)
    with store.read() as tx:
        a, b = leases.standings(tx, NOON)
    assert (a.began, a.ends, a.balance, a.remaining) == (0, None, Balance(), 10)
    assert (b.began, b.ends, b.balance, b.remaining) == (today, today + 86400, Balance(3, 5, 0), 12)
