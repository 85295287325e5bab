"""Real processes on one store: killed over and over, and side by side. Caps hold, and each request counts once."""

import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from modelport.gateway.journal import Journal
from modelport.gateway.replay import abandoned, replay
from modelport.store import Store
from modelport.store.recount import recount
from tests.ledger.hammer import WORST
from tests.ledger.world import a_store, allow, cap, insert, leased, line_of, rows, spent

FOREVER = cap("a", cap=10**9)


class Hammer:
    """One process, with what it said."""

    def __init__(self, store: Store, journals: Path, many: int = 8) -> None:
        command = [sys.executable, "-m", "tests.ledger.hammer", str(store.directory), str(journals), str(many)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.said.extend(line.rstrip("\n") for line in self.process.stdout if line.endswith("\n"))

    def wait_for(self, lines: int) -> None:
        deadline = time.monotonic() + 60
        while len(self.said) < lines and self.process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def kill(self) -> list[str]:
        self.process.kill()
        return self.over()

    def over(self) -> list[str]:
        self.process.wait(60)
        self._reader.join(60)
        return self.said


def settle_all(store: Store, journals: Path) -> None:
    for journal in abandoned(journals, 0):
        replay(store, journal, line_of, insert, time.time())
        journal.close()


def check(store: Store, said: list[str]) -> None:
    """Whatever was dispatched is in the store once; what was seen to be settled at what it took, the rest at what it
    took or at its worst case."""
    found = rows(store)
    dispatched = {line for line in said if line.startswith("gw-")}
    done = {line.split()[1]: int(line.split()[2]) for line in said if line.startswith("done ")}
    assert dispatched <= set(found)
    for id, used in done.items():
        assert found[id].input_tokens == used and not found[id].estimated
    for id in dispatched - set(done):
        assert found[id].input_tokens == WORST or not found[id].estimated
    assert spent(store)["a", 0] == sum(row.input_tokens for row in found.values())
    assert leased(store) == {("a", 0): 0}


def killed_over_and_over(directory: Path, times: int) -> None:
    store = a_store(directory / "state")
    allow(store, FOREVER)
    chance = random.Random(5)
    said: list[str] = []
    for _ in range(times):
        hammer = Hammer(store, directory / "journal")
        hammer.wait_for(chance.randint(1, 400))
        said += hammer.kill()
    assert len(said) > times
    settle_all(store, directory / "journal")
    check(store, said)
    journal = Journal(directory / "journal" / "0")
    with store.read() as tx:
        assert recount(tx, [journal.directory], FOREVER, time.time()).change == 0


def test_killed_again_and_again_under_load(tmp_path: Path) -> None:
    killed_over_and_over(tmp_path, 8)


@pytest.mark.soak
def test_killed_50_times_under_load(tmp_path: Path) -> None:
    killed_over_and_over(tmp_path, 50)


def test_two_processes_share_one_cap_and_one_of_them_is_killed(tmp_path: Path) -> None:
    store = a_store(tmp_path / "state")
    allow(store, cap("a", cap=6000))
    first, second = (Hammer(store, tmp_path / "journal", many=20) for _ in range(2))
    second.wait_for(100)
    said = second.kill()
    said += first.over()
    assert said[-1] == "over"
    settle_all(store, tmp_path / "journal")
    said += Hammer(store, tmp_path / "journal").over()  # with what went back
    check(store, said)
    assert 6000 - 2 * WORST <= spent(store)["a", 0] <= 6000
