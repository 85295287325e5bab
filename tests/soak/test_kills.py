"""Three minutes of kill -9 at random under load: afterwards what is wanted runs, once, and nothing has grown."""

import contextlib
import os
import random
import signal
import threading
import time

import httpx
import psutil
import pytest

from tests.harness import Serving, until

SECONDS = 180


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_whatever_is_killed_under_load_what_is_wanted_comes_back_and_nothing_grows(serving: Serving) -> None:
    serving.start("pair", "--token-s 0.01", replicas=2)
    serving.start("single", "--load-s 0.3")
    for name in ("pair", "single"):
        serving.ready(name)
    chance = random.Random(1)
    codes: dict[int, int] = {}
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            try:
                code = serving.ask(chance.choice(["pair", "single"]), timeout=30).status_code
            except httpx.HTTPError:
                code = 0
            codes[code] = codes.get(code, 0) + 1
            time.sleep(0.05)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    kills, deadline = 0, time.monotonic() + SECONDS
    try:
        while time.monotonic() < deadline:
            with contextlib.suppress(ProcessLookupError, psutil.Error, StopIteration):
                os.kill(victim(serving, chance), signal.SIGKILL)
                kills += 1
            time.sleep(chance.uniform(0.5, 4))
            until(serving.answers, 60, "control and gateway are back")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    for name, replicas in (("pair", 2), ("single", 1)):
        serving.client.restart(name)  # after so many crashes its back-off may be minutes
        serving.ready(name, 120)
        until(lambda name=name: serving.ask(name).status_code == 200, 20)
        assert sum(i.state == "ready" for i in serving.client.status(name).instances) == replicas
    until(lambda: len(serving.engines()) == 3 and all(len(p) == 1 for p in serving.engines().values()), 40)
    print(f"{kills} kills, answers by status (0: connection lost): {codes}")
    assert codes[200] > 100
    kept = [path for path in (serving.state_dir / "instances").iterdir() if path.is_dir()]
    assert len(kept) <= 2 * 5 + 3 + 2, "ended instances are forgotten"
    for part in ("control", "gateway"):
        assert psutil.Process(serving.process_of(part)).num_fds() < 100


def victim(serving: Serving, chance: random.Random) -> int:
    what = chance.choice(["control", "gateway", "shim", "engine", "engine"])
    engines = [pid for pids in serving.engines().values() for pid in pids]
    if not engines:  # they are backing off
        what = "control"
    if what in ("control", "gateway"):
        return serving.process_of(what)
    engine = chance.choice(engines)
    return engine if what == "engine" else psutil.Process(engine).ppid()
