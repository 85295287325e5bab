"""What a gateway that died left behind is brought into the store, once, whenever it is killed over it."""

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from modelport.errors import ModelportError
from modelport.gateway.journal import Journal
from modelport.gateway.replay import abandoned, replay
from modelport.store import Store, leases
from modelport.store.journals import Open, segments
from tests.ledger.test_journal import no_file_beyond
from tests.ledger.world import NOON, Gateway, a_store, allow, cap, insert, leased, line, line_of, rows, spent, tokens

CAP = cap("a", cap=1000)


@pytest.fixture
def died(tmp_path: Path) -> tuple[Store, Path]:
    """A store, and the journal of a gateway that was killed: 3 in the store, 3 settled, 3 open."""
    store = a_store(tmp_path / "state")
    gateway = Gateway(store, tmp_path / "0", lambda: NOON, allow(store, CAP), segment_bytes=400)

    async def use() -> None:
        for n in range(9):
            reservation = await gateway.ledger.reserve_waiting(f"r{n}", "k", "t", "s", tokens(10))
            if n < 6:
                gateway.ledger.settle(reservation, tokens(4), line(f"r{n}", tokens(4)))
            if n == 2:
                gateway.report()
                await gateway.ledger.keep()

    asyncio.run(use())
    gateway.die()
    return store, tmp_path / "0"


def is_right(store: Store) -> bool:
    found = rows(store)
    assert spent(store) == {("a", 0): 6 * 4 + 3 * 10} and leased(store) == {("a", 0): 0}
    assert {id: row.input_tokens for id, row in found.items()} == {f"r{n}": 4 if n < 6 else 10 for n in range(9)}
    assert {id for id, row in found.items() if row.estimated} == {"r6", "r7", "r8"}
    return True


def test_settled_stays_settled_open_stays_spent_and_flagged_and_the_lease_goes_back(died: tuple[Store, Path]) -> None:
    store, directory = died
    journal = Journal(directory)
    found = replay(store, journal, line_of, insert, NOON)
    assert (found.settled, found.interrupted, found.damaged) == (3, 3, 0)
    assert is_right(store)
    found = replay(store, journal, line_of, insert, NOON)
    assert (found.settled, found.interrupted) == (0, 0) and is_right(store)


class Killed(Exception):
    pass


@pytest.mark.parametrize("step", range(6))
def test_a_replay_that_was_killed_at_any_step_is_run_again(died: tuple[Store, Path], step: int) -> None:
    store, directory = died
    steps = 0

    def maybe_killed() -> None:
        nonlocal steps
        steps += 1
        if steps == step + 1:
            raise Killed

    def dying_line_of(record: Open) -> bytes:
        maybe_killed()
        return line_of(record)

    def dying_insert(tx: sa.Connection, lines: Sequence[bytes]) -> None:
        insert(tx, lines)
        maybe_killed()

    journal = Journal(directory)
    try:
        replay(store, journal, dying_line_of, dying_insert, NOON)
    except Killed:
        assert step < 5
    journal.close()
    journal = Journal(directory)
    replay(store, journal, line_of, insert, NOON)
    assert is_right(store)


def test_a_full_disk_at_the_start_is_a_sentence_and_another_start_does_it(died: tuple[Store, Path]) -> None:
    store, directory = died
    journal = Journal(directory)
    with ExitStack() as full, pytest.raises(ModelportError, match="journal .* cannot be used: No space left"):

        def line_on_a_full_disk(record: Open) -> bytes:
            full.enter_context(no_file_beyond(100))
            return line_of(record)

        replay(store, journal, line_on_a_full_disk, insert, NOON)
    replay(store, journal, line_of, insert, NOON)
    assert is_right(store)


def test_only_what_may_be_needed_is_read_again(died: tuple[Store, Path]) -> None:
    store, directory = died
    journal = Journal(directory)
    replay(store, journal, line_of, insert, NOON)
    journal.advance(journal.position + 1)
    journal.append(b"the head of this segment says that nothing before is needed\n")
    journal.close()
    for segment in segments(directory)[:-1]:
        segment.path.write_bytes(b"x" * (segment.end - segment.start))
    assert replay(store, Journal(directory), line_of, insert, NOON).damaged == 1


def test_a_store_from_a_backup_is_brought_up_to_the_journal(died: tuple[Store, Path], tmp_path: Path) -> None:
    store, directory = died
    journal = Journal(directory)
    replay(store, journal, line_of, insert, NOON)
    journal.close()
    older = a_store(tmp_path / "older")
    replay(older, Journal(directory), line_of, insert, NOON)
    assert is_right(older)


def test_a_store_that_is_ahead_of_the_journal_still_counts_what_comes(died: tuple[Store, Path]) -> None:
    store, directory = died
    journal = Journal(directory)
    with store.write() as tx:
        leases.apply(tx, journal.gateway_id, 10**9, {}, NOON)
    journal.close()
    gateway = Gateway(store, directory, lambda: NOON, [CAP])
    before = spent(store)["a", 0]
    reservation = asyncio.run(gateway.ledger.reserve_waiting("new", "k", "t", "s", tokens(10)))
    gateway.ledger.settle(reservation, tokens(7), line("new", tokens(7)))
    gateway.report()
    assert spent(store)["a", 0] == before + 7


def test_journals_of_gateways_that_are_no_more_are_found_unless_another_has_them(
    died: tuple[Store, Path], tmp_path: Path
) -> None:
    store, _ = died
    Journal(tmp_path / "1").close()
    held = Journal(tmp_path / "2")
    found = []
    for journal in abandoned(tmp_path, 0):
        replay(store, journal, line_of, insert, NOON)
        found.append(journal.directory.name)
        journal.close()
    assert found == ["0", "1"] and is_right(store)
    assert list(abandoned(tmp_path, 3)) == []
    held.close()


def test_a_request_whose_end_was_torn_counts_at_its_worst_case(died: tuple[Store, Path]) -> None:
    store, directory = died
    last = segments(directory)[-1]
    with open(last.path, "ab") as file:
        file.write(msgspec.json.encode({"done": "r8", "used": [1], "charges": [["a", 0, 1]], "line": {}}))
    found = replay(store, Journal(directory), line_of, insert, NOON)
    assert found.damaged == 1 and is_right(store)
