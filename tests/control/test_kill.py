"""kill -9 of each of our processes, with services in every lifecycle state at once: afterwards exactly what is wanted
runs, nothing twice, nothing orphaned, exit reasons are kept, and requests work."""

import os
import signal
import threading
import time

import psutil
import pytest

from modelport.domain.service import ServiceView
from tests.harness import Serving, until

WANTED = ("launching", "initializing", "loading", "ready")


def services_in_every_state(serving: Serving) -> None:
    """One service in each state of an instance, all at the same time; those that start stay so while `hold` exists."""
    hold = serving.state_dir / "hold"
    hold.touch()
    serving.start("ready")
    serving.start("draining", "--token-s 0.3 --tokens 20")
    serving.start("stopping", "--ignore-term")
    serving.start("initializing", f"--init-while {hold}")
    serving.start("loading", f"--load-while {hold}")
    serving.start("launching", platform="slow")
    for name in ("ready", "draining", "stopping"):
        serving.ready(name)
    asking = threading.Thread(target=lambda: slow_request(serving), daemon=True)
    asking.start()
    time.sleep(0.3)  # the slow request is under way
    serving.client.stop("draining")

    def reached(*names: str) -> bool:
        return all(name in states(serving.client.status(name)) for name in names)

    until(lambda: reached(*WANTED, "draining"), 20, "a service in every state")
    serving.client.stop("stopping")
    until(lambda: reached("stopping"), 10, "one that is told to end and does not")


def slow_request(serving: Serving) -> None:
    try:
        serving.ask("draining", timeout=20)
    except Exception:  # it may be cut off by what the test kills
        return


def states(view: ServiceView) -> set[str]:
    return {str(instance.state) for instance in view.instances}


def victims(serving: Serving, what: str) -> dict[str, int]:
    """The processes to be killed, by service for engines and shims."""
    if what in ("control", "gateway"):
        return {what: serving.process_of(what)}
    found: dict[str, int] = {}
    for view in serving.client.list():
        for instance in serving.client.status(view.name).instances:
            if instance.pid:
                found[view.name] = instance.pid if what == "engine" else psutil.Process(instance.pid).ppid()
    return found


@pytest.mark.parametrize("what", ["control", "gateway", "shim", "engine"])
def test_after_kill_9_exactly_what_is_wanted_runs(serving: Serving, what: str) -> None:
    services_in_every_state(serving)
    killed = victims(serving, what)
    for pid in killed.values():
        os.kill(pid, signal.SIGKILL)
    if what in ("shim", "engine"):
        assert set(killed) >= {"ready", "initializing", "loading"}, "each had a process to be killed"
    (serving.state_dir / "hold").unlink()
    until(serving.answers, 15, "control and gateway are back")

    for name in WANTED:
        serving.ready(name, 30)
    for name in ("draining", "stopping"):
        serving.reach(name, "stopped", 30)

    def exactly() -> bool:
        running = serving.engines()
        wanted = {
            instance.id
            for name in WANTED
            for instance in serving.client.status(name).instances
            if instance.state == "ready"
        }
        return len(wanted) == len(WANTED) and set(running) == wanted and all(len(p) == 1 for p in running.values())

    until(exactly, 15, "one engine for each wanted service, and no other")
    for name in WANTED:
        assert until(lambda name=name: serving.ask(name).status_code == 200, 10)
    if what in ("shim", "engine"):
        ended = {i.exit for name in ("ready", "initializing") for i in serving.client.status(name).instances if i.exit}
        assert ended and all("SIGKILL" in exit or "shim died" in exit for exit in ended)


def test_a_killed_parent_leaves_engines_that_the_next_serve_adopts(serving: Serving) -> None:
    serving.start("kept")
    before = serving.ready("kept").instances[0]
    serving.kill()
    assert len(serving.engines()) == 1, "the engine lives on under its shim"
    serving.begin()
    after = serving.ready("kept").instances[0]
    assert (after.id, after.pid) == (before.id, before.pid)
    assert serving.ask("kept").status_code == 200


def test_ctrl_c_ends_every_process_and_the_next_serve_brings_the_services_back(serving: Serving) -> None:
    serving.start("kept")
    serving.ready("kept")
    assert serving.end() == 0
    assert serving.engines() == {}
    serving.begin()
    serving.ready("kept")
    assert serving.ask("kept").status_code == 200


def test_an_engine_that_nothing_wants_is_ended(serving: Serving) -> None:
    """As a crash between a launch and its row could leave it: the row is taken away while the engine runs."""
    serving.start("orphan")
    serving.ready("orphan")
    serving.kill()
    from modelport.store import open_store
    from modelport.store.tables import instances, services

    store = open_store(serving.state_dir)
    with store.write() as tx:
        tx.execute(instances.delete())
        tx.execute(services.delete())
    store.close()
    serving.begin()
    until(lambda: serving.engines() == {}, 15, "the reaper")
